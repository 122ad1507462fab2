package rule

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

const (
	// agentSilent is when a silent agent stops the judging of hosts, agentDown when it is an alert of its own.
	agentSilent = 2 * time.Minute
	agentDown   = 7 * time.Minute

	missedPings   = 3                // make a host down
	clockNoise    = 2 * time.Second  // in what agents' clocks are off by: the time a post takes is in it
	firstPing     = 10 * time.Minute // after which a host that was never polled is down
	expirySoon    = 30 * 24 * time.Hour
	behindTooMuch = 2 // releases
	skewSamples   = 3 // at least, before a clock is said to be off
)

// Reasons that are the same for many targets.
const (
	whyHostDown = "the host is down"
	whySilent   = "nothing was heard of the host lately"
	whyNotYet   = "the host was not polled yet"
	whyBackfill = "the monitoring agent still sends older pings"
)

// isHostTarget is hostGone without the reason.
func (j *judge) isHostTarget(i int) bool {
	h := &j.s.Hosts[i]
	return monitored(h) && h.AlertsEnabled && j.matchesHost(i) && j.applies(h)
}

// hostGone says why a host is none of the configuration's targets, or "".
func (j *judge) hostGone(i int) string {
	h := &j.s.Hosts[i]
	switch {
	case h.Deleted:
		return "the host was removed"
	case h.Hidden:
		return "the host is hidden"
	case h.Deactivated:
		return "the host was silent for so long that it is not watched any more"
	case !h.Enabled:
		return "monitoring of the host is switched off"
	case !h.AlertsEnabled:
		return "alerts are switched off for the host"
	case !j.matchesHost(i):
		return "the host does not match any more"
	case !j.applies(h):
		return "it does not apply to the host any more: it is now " + string(h.Type)
	}
	return ""
}

// applies leaves out what cannot be said of a kind of process.
func (j *judge) applies(h *model.Host) bool {
	switch {
	case j.t.Metric:
		return j.metric.AppliesTo(h.Type)
	case j.t.Name == model.EventHostExposed:
		return !j.s.Group.Settings.SkipExposed
	}
	return true
}

// otherRole is the verdict on a member whose new role has not the measurement, ok telling whether there is one. A primary has no
// lag: the condition is over. Of one that recovers, or of which nothing is known, it cannot be said.
func (j *judge) otherRole(i int) (v Verdict, ok bool) {
	h := &j.s.Hosts[i]
	if !j.t.Metric || !monitored(h) || !h.AlertsEnabled || !j.matchesHost(i) {
		return v, false
	}
	switch h.Type {
	case model.TypeReplicaPrimary, model.TypeShardPrimary:
		return Verdict{State: Good, Text: "It is the primary now, and primaries have no " + j.c.Metric.Metric + "."}, true
	case model.TypeRecovering, model.TypeNoData:
		return Verdict{State: Unknown, Why: "it is " + string(h.Type) + " now, which has no " + j.c.Metric.Metric}, true
	}
	return v, false
}

func (j *judge) matchesHost(i int) bool {
	if len(j.set) == 0 {
		return true
	}
	h := &j.s.Hosts[i]
	subject := match.Subject{Host: h, Address: j.s.address(i), ReplicaSet: h.ReplicaSet, ShardName: h.ShardName}
	if c := j.s.cluster(h.ClusterID); c != nil {
		subject.ClusterName = c.Name
		if c.ShardName != "" {
			subject.ShardName = c.ShardName
		}
	}
	return j.set.Holds(&subject)
}

func (j *judge) hostTarget(v *Verdict, i int) {
	h := &j.s.Hosts[i]
	v.GroupID, v.Tags = j.s.Group.ID, j.s.Group.Tags
	v.Target = model.Target{
		Key: "host/" + string(h.ID), HostID: h.ID, HostName: j.s.address(i), ReplicaSet: h.ReplicaSet, ShardName: h.ShardName, ClusterID: h.ClusterID,
	}
	if c := j.s.cluster(h.ClusterID); c != nil {
		v.Target.ClusterName = c.Name
		if c.ShardName != "" {
			v.Target.ShardName = c.ShardName
		}
	}
}

// unknown is a verdict without an answer.
func unknown(v *Verdict, why string) { v.State, v.Why = Unknown, why }

// answers reports whether a host answered its newest ping, and a verdict without answer if not.
func (j *judge) answers(v *Verdict, h *model.Host) (model.HostStatus, bool) {
	if j.deaf != "" {
		unknown(v, j.deaf)
		return model.HostStatus{}, false
	}
	st, ok := j.status(h.ID)
	switch {
	case !ok || st.At.IsZero() || st.Reach == model.ReachNoData:
		unknown(v, whyNotYet)
	case st.Reach == model.ReachDown:
		unknown(v, whyHostDown)
	case j.s.Now.Sub(st.At) > j.s.patience():
		unknown(v, whySilent)
	default:
		return st, true
	}
	return st, false
}

// hostDown: three pings in a row were not answered, or nothing is heard of the host though the agent is up.
func (j *judge) hostDown(v *Verdict, i int) {
	h, s := &j.s.Hosts[i], j.s
	if j.deaf != "" {
		unknown(v, j.deaf)
		return
	}
	st, ok := j.status(h.ID)
	never := !ok || st.At.IsZero() || st.Reach == model.ReachNoData
	if never {
		j.neverPolled(v, i)
		return
	}
	ping := s.ping()
	switch {
	case st.Reach == model.ReachDown:
		marked := st.At.Before(st.ReachSince) // by ingestion, because the agent says nothing about it
		missed := st.At.Sub(st.ReachSince) >= (missedPings-1)*ping-ping/2 || s.Now.Sub(st.ReachSince) >= missedPings*ping
		if !marked && !missed {
			unknown(v, "the host missed a ping; three make it down")
			return
		}
		v.State, v.Since = Bad, st.ReachSince
		since := st.ReachSince
		if marked {
			since = st.At
		}
		v.Text = s.address(i) + " has not answered since " + when(since)
		if st.Error != "" {
			v.Text += ": " + strings.TrimRight(st.Error, ". \n")
		}
		v.Text += ". Is the process running, and can the machine of the agent reach it?"
	case s.Now.Sub(st.At) > s.patience():
		silent := s.since(st.At)
		switch {
		case j.stale:
			unknown(v, whyBackfill)
		case s.Now.Sub(silent) <= s.patience():
			unknown(v, whySilent)
		default:
			v.State, v.Since = Bad, silent
			v.Text = "Nothing was heard of " + s.address(i) + " since " + when(st.At) + ", though the monitoring agent is up. Its log says why it does not poll the host."
		}
	default:
		v.State = Good
	}
}

func (j *judge) neverPolled(v *Verdict, i int) {
	since := j.s.since(j.s.Hosts[i].Created)
	if j.stale || j.s.Now.Sub(since) < firstPing {
		unknown(v, whyNotYet)
		return
	}
	v.State, v.Since = Bad, since
	v.Text = j.s.address(i) + " was never polled, though the monitoring agent is up. Its log says why."
}

func (j *judge) recovering(v *Verdict, i int) {
	st, ok := j.answers(v, &j.s.Hosts[i])
	if !ok {
		return
	}
	switch st.State {
	case model.StateRecovering, model.StateStartup2, model.StateRollback:
		v.State, v.Since = Bad, st.StateSince
		v.Text = j.s.address(i) + " is in state " + st.State.String() + " since " + when(st.StateSince) + ": it serves no reads."
	default:
		v.State = Good
	}
}

// certificate judges the certificate that agents saw last; a host that is down has it still.
func (j *judge) certificate(v *Verdict, i int) {
	h := &j.s.Hosts[i]
	switch {
	case j.deaf != "":
		unknown(v, j.deaf)
	case h.CertExpires.IsZero():
		unknown(v, "the host has shown no certificate")
	default:
		name := "The certificate of " + j.s.address(i)
		if h.CertSubject != "" {
			name += " (" + h.CertSubject + ")"
		}
		j.expires(v, name, h.CertExpires)
	}
}

// expires judges the end of a certificate.
func (j *judge) expires(v *Verdict, name string, end time.Time) {
	left := end.Sub(j.s.Now)
	if left > expirySoon {
		v.State = Good
		return
	}
	days := math.Floor(left.Hours() / 24)
	v.State, v.Since, v.Value = Bad, end.Add(-expirySoon), &model.Reading{Number: days, Units: "DAYS"}
	switch {
	case left <= 0:
		v.Text = name + " ended on " + when(end) + ": clients that check it cannot connect. Renew it."
	case days < 1:
		v.Text = name + " ends within a day, on " + when(end) + ". Renew it."
	case days < 2:
		v.Text = name + " ends on " + when(end) + ", in one day. Renew it."
	default:
		v.Text = fmt.Sprintf("%s ends on %s, in %.0f days. Renew it.", name, when(end), days)
	}
}

// exposed judges what this server found when it dialled the host: an agent that is down changes nothing about that.
func (j *judge) exposed(v *Verdict, i int) {
	h := &j.s.Hosts[i]
	switch {
	case !h.ExposedSince.IsZero():
		v.State, v.Since = Bad, h.ExposedSince
		v.Text = j.s.address(i) + " lists its databases to anybody who connects from outside. Switch on access control, or close the port to the internet."
	case h.ExposedChecked.IsZero():
		unknown(v, "the host was not checked yet")
	default:
		v.State = Good
	}
}

func (j *judge) security(v *Verdict, i int) {
	h := &j.s.Hosts[i]
	switch {
	case j.deaf != "":
		unknown(v, j.deaf)
		return
	case h.Version == "" || h.Type == "" || h.Type == model.TypeNoData:
		unknown(v, "the options of the process are not known")
		return
	}
	noTLS := h.TLSMode == "disabled" && !loopbackOnly(h.BindIP)
	switch {
	case !h.AuthEnabled && noTLS:
		v.Text = " runs without access control and without TLS. Start it with security.authorization and net.tls.mode."
	case !h.AuthEnabled:
		v.Text = " runs without access control. Start it with security.authorization."
	case noTLS:
		v.Text = " runs without TLS. Start it with net.tls.mode."
	case h.TLSMode == "":
		unknown(v, "whether the process uses TLS is not known")
		return
	default:
		v.State = Good
		return
	}
	v.State, v.Text = Bad, j.s.address(i)+v.Text
}

// loopbackOnly: nobody outside the machine can listen to such a process.
func loopbackOnly(bindIP string) bool {
	if bindIP == "" {
		return false
	}
	for ip := range strings.SplitSeq(bindIP, ",") {
		ip = strings.TrimSpace(ip)
		if ip != "localhost" && ip != "::1" && !strings.HasPrefix(ip, "127.") && !strings.HasPrefix(ip, "/") {
			return false
		}
	}
	return true
}

func (j *judge) version(v *Verdict, i int) {
	h := &j.s.Hosts[i]
	switch {
	case j.deaf != "":
		unknown(v, j.deaf)
		return
	case h.Version == "":
		unknown(v, "the version of the process is not known")
		return
	case j.s.Release == nil:
		unknown(v, "there is no table of releases")
		return
	}
	latest, behind, known := j.s.Release.Behind(h.Version)
	switch {
	case !known:
		unknown(v, "the table of releases does not have the version of the process")
	case behind < behindTooMuch:
		v.State = Good
	default:
		v.State, v.Value = Bad, &model.Reading{Number: float64(behind), Units: "RAW"}
		v.Text = fmt.Sprintf("%s runs MongoDB %s, %d releases behind %s.", j.s.address(i), h.Version, behind, latest)
	}
}

func (j *judge) clock(v *Verdict, i int) {
	st, ok := j.answers(v, &j.s.Hosts[i])
	if !ok {
		return
	}
	skew := time.Duration(st.SkewMS) * time.Millisecond
	switch {
	case len(st.Skews) < skewSamples:
		unknown(v, "the clock was not compared often enough yet")
	case skew.Abs() <= rollup.SkewShown:
		v.State = Good
	default:
		seconds := math.Round(skew.Abs().Seconds()*10) / 10
		where := "ahead of"
		if skew < 0 {
			where = "behind"
		}
		v.State, v.Value = Bad, &model.Reading{Number: seconds, Units: "SECONDS"}
		v.Text = "The clock of " + j.s.address(i) + " is " + strconv.FormatFloat(seconds, 'f', -1, 64) + " s " + where +
			" that of the agent's machine. Check time synchronization on both."
	}
}
