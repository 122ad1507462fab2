package repl

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Info is a member's own account of itself.
type Info struct {
	Up        bool
	State     model.MemberState
	Started   time.Time
	ProcessID bson.ObjectID
	Topology  int64
	Applied   engine.OpTime
	Host      string
	Arbiter   bool
}

// Info tells about member i.
func (s *Set) Info(i int) Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[i]
	return Info{
		Up: m.up, State: m.state, Started: m.started, ProcessID: m.processID, Topology: m.topo, Applied: m.applied,
		Host: s.cfg[i].Host, Arbiter: s.cfg[i].Arbiter,
	}
}

// Primary is the index of the primary, -1 when there is none.
func (s *Set) Primary() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.primary
}

// Len is the number of members.
func (s *Set) Len() int { return len(s.members) }

// Changes is closed at the next change of a state, a position or the commit point.
func (s *Set) Changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress
}

// Committed is the majority commit point.
func (s *Set) Committed() engine.OpTime {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed
}

func opTime(o engine.OpTime) status.OpTime {
	if (o.TS == bson.Timestamp{}) {
		return status.NoOpTime()
	}
	return status.OpTime{TS: o.TS, Term: o.Term}
}

// View is the set as member i sees it now.
func (s *Set) View(i int) *status.Set {
	now := s.o.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	me := s.members[i]
	v := &status.Set{
		Name: s.o.Name, ID: s.id, ConfigVersion: s.version, ConfigTerm: s.cfgTerm, Term: s.term, Self: i, Primary: s.primary,
		Committed: opTime(s.committed), CommittedWall: s.comWall, RBID: me.rbid, ElectionMS: 10000, Members: make([]status.Member, len(s.members)),
	}
	if me.state == model.StatePrimary {
		v.Primary, v.Term = i, me.term
	} else if me.cut {
		v.Primary = -1
	}
	for j, m := range s.members {
		c := s.cfg[j]
		sm := status.Member{
			ID: c.ID, Host: c.Host, Arbiter: c.Arbiter, Hidden: c.Hidden, Priority: c.Priority, Votes: c.Votes, Delay: c.Delay, Tags: c.Tags,
			State: m.state, Up: j == i || m.reachable() && !me.cut, Since: m.started, Applied: opTime(m.applied), AppliedWall: m.wall,
			SyncSource: -1, Elected: m.elected, LastHeartbeat: now.Truncate(2 * time.Second),
		}
		if c.Arbiter {
			sm.Applied = status.NoOpTime()
		}
		if j != i && sm.Since.Before(me.started) { // known only since the viewer itself started
			sm.Since = me.started
		}
		if m.state == model.StateSecondary && s.primary >= 0 && s.primary != j {
			sm.SyncSource = s.primary
		}
		v.Members[j] = sm
	}
	if e := s.last; e != nil {
		out := &status.Election{
			Reason: e.reason, At: e.at, Term: e.term, Winner: e.winner, Prior: e.prior, LastSeen: opTime(e.seen), Committed: opTime(e.com),
		}
		if e.winner == i {
			v.Election = out
		} else {
			v.LastVote = out
		}
	}
	return v
}

// Reconfig takes a new configuration of the same hosts: priorities, votes, hidden, delay and tags may change.
func (s *Set) Reconfig(i int, cfg bson.Raw, force bool) *engine.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary != i && !force {
		return &engine.Error{Code: engine.CodeNotWritablePrimary, Msg: "replSetReconfig should only be run on a writable PRIMARY", Extra: s.topologyField(s.members[i])}
	}
	var doc struct {
		ID      string `bson:"_id"`
		Version int32
		Members []struct {
			ID                 int32 `bson:"_id"`
			Host               string
			ArbiterOnly        bool     `bson:"arbiterOnly"`
			Hidden             bool     `bson:"hidden"`
			Priority           *float64 `bson:"priority"`
			Votes              *int32   `bson:"votes"`
			SecondaryDelaySecs int64    `bson:"secondaryDelaySecs"`
			SlaveDelay         int64    `bson:"slaveDelay"`
			Tags               bson.D   `bson:"tags"`
		}
	}
	if err := bson.Unmarshal(cfg, &doc); err != nil {
		return engine.Errf(engine.CodeFailedToParse, "%v", err)
	}
	const incompatible = 103 // NewReplicaSetConfigurationIncompatible
	if doc.ID != s.o.Name {
		return engine.Errf(incompatible, "New and old configurations differ in replica set name; old was %s, and new is %s", s.o.Name, doc.ID)
	}
	if doc.Version <= s.version && !force {
		return engine.Errf(incompatible, "New replica set configuration version must be greater than old, but %d is not greater than %d", doc.Version, s.version)
	}
	if len(doc.Members) != len(s.cfg) {
		return engine.Errf(incompatible, "the simulator cannot add or remove members: %d configured, %d given", len(s.cfg), len(doc.Members))
	}
	next := make([]MemberConfig, len(s.cfg))
	for n, d := range doc.Members {
		old := s.cfg[n]
		if d.Host != old.Host || d.ArbiterOnly != old.Arbiter || d.ID != old.ID {
			return engine.Errf(incompatible, "the simulator cannot change a member's _id, host or arbiterOnly (%s)", old.Host)
		}
		c := MemberConfig{
			ID: d.ID, Host: d.Host, Arbiter: d.ArbiterOnly, Hidden: d.Hidden, Priority: 1, Votes: 1, Tags: d.Tags,
			Delay: time.Duration(max(d.SecondaryDelaySecs, d.SlaveDelay)) * time.Second,
		}
		if d.Priority != nil {
			c.Priority = *d.Priority
		}
		if d.Votes != nil {
			c.Votes = *d.Votes
		}
		if c.Arbiter {
			c.Priority = 0
		}
		if (c.Hidden || c.Delay > 0) && c.Priority != 0 {
			return engine.Errf(incompatible, "priority must be 0 when hidden=true or secondaryDelaySecs is used")
		}
		next[n] = c
	}
	s.cfg = next
	s.version = max(doc.Version, s.version+1)
	s.advance()
	s.changed()
	return nil
}

// Times are the cluster time and the position of member i, which every reply carries.
func (s *Set) Times(i int) (cluster, member bson.Timestamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastTS, s.members[i].applied.TS
}
