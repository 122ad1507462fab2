package rule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

// young is the age up to which a cluster may still be incomplete: its processes are being discovered.
const young = 10 * time.Minute

// clusterGone says why a cluster is none of the configuration's targets, or "".
func (j *judge) clusterGone(i int) string {
	c := &j.s.Clusters[i]
	sharded := c.Type == model.ClusterSharded || c.Type == model.ClusterShardedStandalones
	switch {
	case (j.t.Category == Cluster) != sharded:
		return "it is not of the kind this is about"
	case !j.set.Holds(&match.Subject{ReplicaSet: c.ReplicaSet, ShardName: c.ShardName, ClusterName: c.Name}):
		return "it does not match any more"
	case !sharded && !j.anyMonitored(c):
		return "none of its members is monitored any more"
	}
	return ""
}

func (j *judge) anyMonitored(c *model.Cluster) bool {
	for _, i := range j.s.index().inCluster[c.ID] {
		if monitored(&j.s.Hosts[i]) {
			return true
		}
	}
	return false
}

func (j *judge) clusterTarget(v *Verdict, i int) {
	c := &j.s.Clusters[i]
	v.GroupID, v.Tags = j.s.Group.ID, j.s.Group.Tags
	v.Target = model.Target{
		Key: "cluster/" + string(c.ID), ClusterID: c.ID, ClusterName: c.Name, ReplicaSet: c.ReplicaSet, ShardName: c.ShardName,
	}
}

// called is a cluster's name in a sentence.
func called(c *model.Cluster) string {
	switch {
	case c.ReplicaSet == "":
		return "cluster " + c.Name
	case c.Name != "" && c.Name != c.ReplicaSet:
		return "replica set " + c.ReplicaSet + " of cluster " + c.Name
	}
	return "replica set " + c.ReplicaSet
}

// member is one member of a set with what is known of it.
type member struct {
	host    *model.Host
	address string
	status  model.HostStatus
	heard   bool // its newest ping is new enough to say something, even if that is that it is down
	counts  bool // neither hidden nor an arbiter
	arbiter bool
}

// members are the members of a set. unseen counts those that nobody monitors or that were not polled yet.
func (j *judge) members(c *model.Cluster) (list []member, unseen []string) {
	s, ix := j.s, j.s.index()
	list = make([]member, 0, max(len(c.Members), 4))
	seen := make([]int, 0, 16)
	add := func(i int, hidden, arbiter bool) {
		h := &s.Hosts[i]
		if slices.Contains(seen, i) {
			return
		}
		seen = append(seen, i)
		if !monitored(h) {
			if !arbiter && !h.Hidden && !h.Deleted {
				unseen = append(unseen, s.address(i))
			}
			return
		}
		st, ok := j.status(h.ID)
		if !ok || st.At.IsZero() || st.Reach == model.ReachNoData {
			if !arbiter {
				unseen = append(unseen, s.address(i))
			}
			return
		}
		arbiter = arbiter || h.Type == model.TypeReplicaArbiter
		list = append(list, member{
			host: h, address: s.address(i), status: st, heard: s.Now.Sub(st.At) <= s.patience(),
			counts: !arbiter && !hidden && !h.HiddenSecondary, arbiter: arbiter,
		})
	}
	for k := range c.Members {
		m := &c.Members[k]
		if i, ok := ix.hosts[m.HostID]; ok && m.HostID != "" {
			add(i, m.Hidden, m.Arbiter)
			continue
		}
		if i, ok := j.byAddress(c, m.Host); ok {
			add(i, m.Hidden, m.Arbiter)
		} else if !m.Arbiter {
			unseen = append(unseen, m.Host)
		}
	}
	if len(c.Members) == 0 {
		for _, i := range ix.inCluster[c.ID] {
			add(i, false, false)
		}
	}
	return list, unseen
}

// byAddress finds the host of a member whose configuration names it by one of its other addresses.
func (j *judge) byAddress(c *model.Cluster, address string) (int, bool) {
	for _, i := range j.s.index().inCluster[c.ID] {
		h := &j.s.Hosts[i]
		if strings.EqualFold(j.s.address(i), address) || strings.EqualFold(h.Self, address) {
			return i, true
		}
		for _, a := range h.Aliases {
			if strings.EqualFold(a, address) {
				return i, true
			}
		}
	}
	return 0, false
}

// primary reports whether a member says, lately, that it is primary.
func (m *member) primary() bool {
	return m.heard && m.status.Reach != model.ReachDown && m.status.State == model.StatePrimary
}

// healthy members are primary or secondary.
func (m *member) healthy() bool {
	return m.heard && m.status.Reach != model.ReachDown && (m.status.State == model.StatePrimary || m.status.State == model.StateSecondary)
}

func (j *judge) noPrimary(v *Verdict, i int) {
	c := &j.s.Clusters[i]
	if j.deaf != "" {
		unknown(v, j.deaf)
		return
	}
	list, unseen := j.members(c)
	var last time.Time
	silent := false
	for k := range list {
		m := &list[k]
		if m.primary() {
			v.State = Good
			return
		}
		silent = silent || !m.heard && !m.arbiter
		// When the last primary ceased to be one is when the set lost it.
		if m.host.ID == c.PrimaryID {
			last = m.status.StateSince
			if !m.heard {
				last = j.s.since(m.status.At)
			}
		}
	}
	switch {
	case len(list) == 0:
		unknown(v, "no member was polled yet")
		return
	case len(unseen) > 0:
		unknown(v, "a member is not monitored; it may be the primary: "+strings.Join(unseen, ", "))
		return
	case silent && j.stale:
		unknown(v, whyBackfill)
		return
	}
	v.State, v.Since = Bad, last
	v.Text = "No member of " + called(c) + " is primary: it takes no writes. Its members: " + states(list) + "."
}

func thereAre(n int, word string) string {
	if n == 1 {
		return "There is one " + word
	}
	return "There are " + plural(n, word)
}

// states tells the states of members.
func states(list []member) string {
	parts := make([]string, 0, len(list))
	for k := range list {
		m := &list[k]
		word := m.status.State.String()
		switch {
		case !m.heard:
			word = "silent"
		case m.status.Reach == model.ReachDown:
			word = "DOWN"
		}
		parts = append(parts, m.address+" "+word)
	}
	return strings.Join(parts, ", ")
}

// manyPrimaries: what one primary said before another was elected proves nothing; their claims must overlap in time.
func (j *judge) manyPrimaries(v *Verdict, i int) {
	if j.deaf != "" {
		unknown(v, j.deaf)
		return
	}
	c := &j.s.Clusters[i]
	list, _ := j.members(c)
	var newest, oldest time.Time // the newest beginning and the oldest claim
	var names []string
	for k := range list {
		m := &list[k]
		if !m.primary() {
			continue
		}
		names = append(names, m.address)
		if m.status.StateSince.After(newest) {
			newest = m.status.StateSince
		}
		if oldest.IsZero() || m.status.At.Before(oldest) {
			oldest = m.status.At
		}
	}
	switch {
	case len(list) == 0:
		unknown(v, "no member was polled yet")
	case len(names) < 2 || oldest.Before(newest):
		v.State = Good
	default:
		v.State, v.Since = Bad, newest
		v.Text = "Several members of " + called(c) + " say they are primary: " + strings.Join(names, ", ") + ". Is the network between them broken?"
	}
}

// count counts the healthy and the unhealthy members that count.
func (j *judge) count(v *Verdict, i int) (list []member, healthy, sick int, unseen []string, ok bool) {
	if j.deaf != "" {
		unknown(v, j.deaf)
		return nil, 0, 0, nil, false
	}
	list, unseen = j.members(&j.s.Clusters[i])
	if len(list) == 0 {
		unknown(v, "no member was polled yet")
		return nil, 0, 0, nil, false
	}
	for k := range list {
		switch m := &list[k]; {
		case !m.counts:
		case m.healthy():
			healthy++
		default:
			sick++
		}
	}
	return list, healthy, sick, unseen, true
}

func (j *judge) tooFewHealthy(v *Verdict, i int) {
	list, healthy, _, unseen, ok := j.count(v, i)
	if !ok {
		return
	}
	switch {
	case !j.beyond(float64(healthy)):
		v.State = Good
	case !j.beyond(float64(healthy + len(unseen))):
		unknown(v, "a member is not monitored; it may be healthy: "+strings.Join(unseen, ", "))
		return
	default:
		v.State = Bad
		v.Text = fmt.Sprintf("%s of %s, fewer than %s. Its members: %s.",
			thereAre(healthy, "healthy member"), called(&j.s.Clusters[i]), number(j.threshold.Value), states(list))
	}
	v.Value = &model.Reading{Number: float64(healthy), Units: "RAW"}
}

func (j *judge) tooManyUnhealthy(v *Verdict, i int) {
	list, _, sick, _, ok := j.count(v, i)
	if !ok {
		return
	}
	v.State = Good
	if j.beyond(float64(sick)) {
		v.State = Bad
		v.Text = fmt.Sprintf("%s of %s, more than %s. Its members: %s.",
			thereAre(sick, "unhealthy member"), called(&j.s.Clusters[i]), number(j.threshold.Value), states(list))
	}
	v.Value = &model.Reading{Number: float64(sick), Units: "RAW"}
}

func (j *judge) tooManyElections(v *Verdict, i int) {
	if j.deaf != "" {
		unknown(v, j.deaf)
		return
	}
	c := &j.s.Clusters[i]
	n := j.s.Elections[c.ID]
	v.State = Good
	v.Value = &model.Reading{Number: float64(n), Units: "RAW"}
	if j.beyond(float64(n)) {
		v.State = Bad
		v.Text = fmt.Sprintf("%s of %s in the last hour, more than %s. Are its members or the network between them unstable?",
			thereAre(n, "election"), called(c), number(j.threshold.Value))
	}
}

func (j *judge) mongosMissing(v *Verdict, i int) {
	c := &j.s.Clusters[i]
	if j.deaf != "" {
		unknown(v, j.deaf)
		return
	}
	var last time.Time
	known, waiting := 0, 0
	for _, k := range j.s.index().inCluster[c.ID] {
		h := &j.s.Hosts[k]
		if h.Type != model.TypeShardMongos || !monitored(h) {
			continue
		}
		known++
		st, ok := j.status(h.ID)
		switch {
		case !ok || st.At.IsZero() || st.Reach == model.ReachNoData:
			waiting++
		case st.Reach != model.ReachDown && j.s.Now.Sub(st.At) <= j.s.patience():
			v.State = Good
			return
		case st.Reach == model.ReachDown && st.ReachSince.After(last):
			last = st.ReachSince
		case st.Reach != model.ReachDown && st.At.After(last):
			last = j.s.since(st.At)
		}
	}
	switch {
	case waiting > 0:
		unknown(v, "a mongos was not polled yet")
	case known == 0 && j.s.Group.Settings.SuppressMongos:
		unknown(v, "no mongos is monitored: their discovery is switched off for the group")
	case known == 0 && j.s.Now.Sub(j.s.since(c.Created)) < young:
		unknown(v, "the cluster's mongos may not have been found yet")
	case known == 0:
		v.State, v.Text = Bad, "No mongos of "+called(c)+" is monitored: either there is none, or none was found."
	case j.stale:
		unknown(v, whyBackfill)
	default:
		v.State, v.Since = Bad, last
		v.Text = "No mongos of " + called(c) + " answers: clients cannot reach the cluster. " + strconv.Itoa(known) + " known."
	}
}
