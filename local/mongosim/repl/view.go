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
	me, place := s.members[i], s.places(i)
	at := func(j int) int { // in the configuration
		if j < 0 {
			return -1
		}
		return place[j]
	}
	v := &status.Set{
		Name: s.o.Name, ID: s.id, ConfigVersion: s.version, ConfigTerm: s.cfgTerm, Term: s.term, Self: at(i), Primary: at(s.primary),
		Committed: opTime(me.known), CommittedWall: me.knownWall, RBID: me.rbid, ElectionMS: 10000,
	}
	if me.state == model.StatePrimary {
		v.Primary, v.Term = at(i), me.term
	} else if me.cut {
		v.Primary = -1
	}
	for j, m := range s.members {
		if at(j) < 0 {
			continue
		}
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
			sm.SyncSource = at(s.primary)
		}
		v.Members = append(v.Members, sm)
	}
	if e := s.last; e != nil {
		out := &status.Election{
			Reason: e.reason, At: e.at, Term: e.term, Winner: at(e.winner), Prior: at(e.prior), LastSeen: opTime(e.seen), Committed: opTime(e.com),
		}
		if e.winner == i {
			v.Election = out
		} else {
			v.LastVote = out
		}
	}
	return v
}

// Times are the cluster time and the position of member i, which every reply carries.
func (s *Set) Times(i int) (cluster, member bson.Timestamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastTS, s.members[i].applied.TS
}
