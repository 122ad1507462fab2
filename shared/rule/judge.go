package rule

import (
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/backups"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
	"github.com/heartwood-db/heartwood/shared/rule/match"
	"github.com/heartwood-db/heartwood/shared/rule/unit"
)

// Judgement is what a configuration says of all its targets. Only what is Bad is listed: there may be ten thousand targets
// that are well. Whoever has a live alert asks Of about its target.
type Judgement struct {
	Bad []Verdict
	j   judge
}

// Judge judges a configuration, which must have passed Check. Whether it is enabled and covers the group is for the caller
// to ask. Configurations of inform types have no targets.
func Judge(c *model.AlertConfig, s *Snapshot) *Judgement {
	out := &Judgement{j: newJudge(c, s)}
	out.j.each(false, func(v *Verdict) {
		if v.State == Bad {
			out.Bad = append(out.Bad, *v)
		}
	})
	return out
}

// All lists the verdicts on every target, also the good ones, in the order of the snapshot: for pages and trials.
func (o *Judgement) All() []Verdict {
	j := o.j
	j.detail = true
	var all []Verdict
	j.each(true, func(v *Verdict) { all = append(all, *v) })
	return all
}

// Of is the verdict on one target by its key: Good, Bad, Unknown, or Gone when it is not among the configuration's targets.
func (o *Judgement) Of(key string) Verdict {
	full := o.j
	full.detail = true
	j := &full
	what, id, _ := strings.Cut(key, "/")
	v := Verdict{State: Gone, Why: "it is not there any more", Target: model.Target{Key: key}, GroupID: j.s.Group.ID, Tags: j.s.Group.Tags}
	switch {
	case what == "host" && j.ofHost != nil:
		i, ok := j.s.index().hosts[model.HostID(id)]
		if !ok {
			return v
		}
		if v.Why = j.hostGone(i); v.Why == "" {
			v = Verdict{}
			j.ofHost(j, &v, i)
		} else if over, ok := j.otherRole(i); ok {
			v = over
		}
		j.hostTarget(&v, i)
	case what == "cluster" && j.ofCluster != nil:
		i, ok := j.s.index().clusters[model.ID(id)]
		if !ok {
			return v
		}
		if v.Why = j.clusterGone(i); v.Why == "" {
			v = Verdict{}
			j.ofCluster(j, &v, i)
		}
		j.clusterTarget(&v, i)
	default:
		for _, other := range o.All() {
			if other.Target.Key == key {
				return other
			}
		}
	}
	return v
}

// judge is a configuration made ready for a snapshot.
type judge struct {
	c   *model.AlertConfig
	s   *Snapshot
	t   Type
	set match.Set
	// deaf is why nothing is known of hosts and clusters at all, or "". stale: the agent still sends what it kept, so that it
	// says nothing of a host now means nothing.
	deaf  string
	stale bool
	// clocks are how far the clocks of agents are ahead of the server's, of those worth mention.
	clocks map[string]time.Duration

	ofHost    func(j *judge, v *Verdict, host int)
	ofCluster func(j *judge, v *Verdict, cluster int)
	ofOthers  func(j *judge, yield func(*Verdict))

	metric    catalog.Measurement
	detail    bool    // good verdicts have values too
	factor    float64 // from the catalogue's unit to the threshold's
	threshold model.Threshold
}

// hostJudges are the event types judged host by host. Together with clusterJudges and others they are what this build can
// judge: a test holds the table of types against them.
var hostJudges = map[model.EventType]func(j *judge, v *Verdict, i int){
	model.EventHostDown:         (*judge).hostDown,
	model.EventHostRecovering:   (*judge).recovering,
	model.EventCertificateStale: (*judge).certificate,
	model.EventHostExposed:      (*judge).exposed,
	model.EventSecurityNotMet:   (*judge).security,
	model.EventVersionBehind:    (*judge).version,
	model.EventClockSkew:        (*judge).clock,
	model.EventOutsideMetric:    (*judge).outside,
}

var clusterJudges = map[model.EventType]func(j *judge, v *Verdict, i int){
	model.EventNoPrimary:         (*judge).noPrimary,
	model.EventMultiplePrimaries: (*judge).manyPrimaries,
	model.EventTooFewHealthy:     (*judge).tooFewHealthy,
	model.EventTooManyUnhealthy:  (*judge).tooManyUnhealthy,
	model.EventTooManyElections:  (*judge).tooManyElections,
	model.EventMongosMissing:     (*judge).mongosMissing,
}

// groupJudges look at few things, each of which they tell apart themselves.
var groupJudges = map[model.EventType]func(j *judge, yield func(*Verdict)){
	model.EventAgentDown:          (*judge).agentDown,
	model.EventAgentVersionBehind: (*judge).agentVersions,
	model.EventCronJobFailed:      (*judge).passes,
	model.EventDeliveriesFailing:  (*judge).deliveries,
	model.EventServerCertStale:    (*judge).serverCertificate,

	model.EventBackupAgentDown:     (*judge).backupAgentDown,
	model.EventBackupAgentBehind:   (*judge).agentVersions,
	model.EventOplogBehind:         ofBackup(backups.OplogLate),
	model.EventResyncRequired:      ofBackup(backups.ResyncWanted),
	model.EventBackupWindowShort:   ofBackup(backups.WindowShort),
	model.EventLateSnapshot:        ofBackup(backups.LateSnapshot),
	model.EventBackupUnexpected:    ofBackup(backups.StandsStill),
	model.EventBackupRetries:       ofBackup(backups.Retries),
	model.EventBindError:           ofBackup(backups.BindError),
	model.EventDaemonDown:          ofDaemon(backups.DaemonDown),
	model.EventLowHeadSpace:        ofDaemon(backups.LowBytes),
	model.EventLowHeadSpacePercent: ofDaemon(backups.LowPercent),
}

func newJudge(c *model.AlertConfig, s *Snapshot) judge {
	t, _ := kind.TypeOf(c.EventType)
	j := judge{c: c, s: s, t: t, factor: 1}
	set, err := match.Compile(c.Matchers)
	if err != nil || (s.Group.ID == "") != (t.Category == Site) {
		return j // no targets
	}
	switch {
	case t.Metric && c.Metric == nil:
		return j
	case t.Metric:
		m, ok := unit.Find(c.Metric.Metric)
		f, err := unit.Factor(m.Unit, c.Metric.Units)
		if !ok || err != nil {
			return j
		}
		j.metric, j.factor, j.threshold = m, f, c.Metric.Threshold
	case c.Threshold != nil:
		j.threshold = *c.Threshold
	default:
		j.threshold = model.Threshold{Operator: t.Threshold, Value: t.Default}
	}
	j.set, j.ofHost, j.ofCluster, j.ofOthers = set, hostJudges[c.EventType], clusterJudges[c.EventType], groupJudges[c.EventType]
	j.listen()
	return j
}

// listen finds out whether anything is known of the group's hosts.
func (j *judge) listen() {
	last := lastPing(j.s.Agents)
	if j.s.Now.Sub(last) > agentSilent {
		j.deaf = "the monitoring agent is down"
	}
	for i := range j.s.Agents {
		a := &j.s.Agents[i]
		j.stale = j.stale || a.Type == model.AgentMonitoring && a.Spooled > 0 && j.s.Now.Sub(a.LastPing) <= agentSilent
		if ahead := time.Duration(a.SkewMS) * time.Millisecond; ahead.Abs() > clockNoise {
			if j.clocks == nil {
				j.clocks = map[string]time.Duration{}
			}
			j.clocks[a.ID] = ahead
		}
	}
}

// status is a host's status with its times on the server's clock: agents write their own.
func (j *judge) status(id model.HostID) (model.HostStatus, bool) {
	st, ok := j.s.Statuses[id]
	if ahead := j.clocks[st.AgentID]; ahead != 0 {
		for _, t := range []*time.Time{&st.At, &st.LastPing, &st.ReachSince, &st.StateSince} {
			if !t.IsZero() {
				*t = t.Add(-ahead)
			}
		}
	}
	return st, ok
}

// each makes the verdict on every target; of those that are not bad the target is filled in only if all is set.
func (j *judge) each(all bool, yield func(*Verdict)) {
	var v Verdict
	switch {
	case j.ofHost != nil:
		for i := range j.s.Hosts {
			if !j.isHostTarget(i) {
				continue
			}
			v = Verdict{}
			if j.ofHost(j, &v, i); all || v.State == Bad {
				j.hostTarget(&v, i)
				yield(&v)
			}
		}
	case j.ofCluster != nil:
		for i := range j.s.Clusters {
			if j.clusterGone(i) != "" {
				continue
			}
			v = Verdict{}
			if j.ofCluster(j, &v, i); all || v.State == Bad {
				j.clusterTarget(&v, i)
				yield(&v)
			}
		}
	case j.ofOthers != nil:
		j.ofOthers(j, yield)
	}
}

// verdict is the verdict on a target that is neither host nor cluster.
func (j *judge) verdict(key string, state State, text string) *Verdict {
	v := &Verdict{GroupID: j.s.Group.ID, Tags: j.s.Group.Tags, State: state, Target: model.Target{Key: key}}
	switch state {
	case Bad:
		v.Text = text
	case Unknown:
		v.Why = text
	}
	return v
}

// beyond reports whether a value is on the wrong side of the threshold.
func (j *judge) beyond(x float64) bool {
	if j.threshold.Operator == model.LessThan {
		return x < j.threshold.Value
	}
	return x > j.threshold.Value
}

// when is a time in a text.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
