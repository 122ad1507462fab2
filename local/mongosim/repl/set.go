// Package repl makes simulated members into a replica set within one process: one shared account of terms, roles and
// positions in the oplog, elections with priorities and votes, secondaries that apply with lag, the majority commit point
// and writes that wait for it, step-down, rollback. It owns no sockets and no documents: the members' data are engines,
// and it is their hooks (Gate, NextOpTime, OnWrite, WaitWrite) that this package answers.
//
// Lock order: an engine's lock comes before a set's, because engines call the hooks with theirs held. So nothing here may
// call an engine while holding Set.mu.
package repl

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/shared/model"
)

// MemberConfig is a member of the set's configuration.
type MemberConfig struct {
	ID       int32
	Host     string // host:port
	Arbiter  bool
	Hidden   bool
	Priority float64
	Votes    int32
	Delay    time.Duration
	Tags     bson.D
	Names    []string // further host:port that a configuration may call it by
	Out      bool     // it runs, but the set's configuration does not name it
}

// Options make a Set.
type Options struct {
	Name    string
	Members []MemberConfig
	Clock   func() time.Time
	Log     *slog.Logger
	// ElectionTimeout is how long a primary may be away before another is elected. Default 1 s, where a real set's is 10 s.
	ElectionTimeout time.Duration
	// Lag is how far member i is behind at t of its own accord; nil is never.
	Lag func(i int, t time.Time) time.Duration
	// OnState is told, with the set locked, of each change of a member's state.
	OnState func(i int, at time.Time, state model.MemberState)
	// ImplicitMajority makes writes that name no write concern wait for the majority, as servers from 5.0 do.
	ImplicitMajority bool
	// Empty makes a set without a configuration: its members wait for Initiate.
	Empty bool
	// OplogSize is each member's oplog's, in bytes. Default 64 MiB.
	OplogSize int64
	// NoopEvery is how long a primary is idle before it writes a no-op. Default 10 s, as a server's.
	NoopEvery time.Duration
	// RollbackTime is how long a member that rolls back stays in ROLLBACK at least.
	RollbackTime time.Duration
}

// Set is a replica set. All methods are safe for concurrent use.
type Set struct {
	o  Options
	id bson.ObjectID

	mu        sync.Mutex
	cfg       []MemberConfig
	version   int32
	cfgTerm   int64
	members   []*Member
	term      int64
	primary   int // the member that leads, -1 none; a member cut off may still believe it is
	lastTS    bson.Timestamp
	committed engine.OpTime
	comWall   time.Time
	electAt   time.Time     // when to try an election; only while there is no primary
	waitUntil time.Time     // until then only a candidate that has everything is elected
	reason    string        // of the next election
	last      *election     // the latest
	topology  chan struct{} // closed and replaced when a hello would change
	progress  chan struct{} // closed and replaced when a position or the commit point moves
	above     time.Time     // since when a member of higher priority than the primary's is ready
}

type election struct {
	reason        string
	at            time.Time
	term          int64
	winner, prior int
	seen, com     engine.OpTime
}

// Member is one member's part in the set. Fields are guarded by the set's lock.
type Member struct {
	set   *Set
	index int
	pull  sync.Mutex // held while entries are fetched and applied, and to keep that from happening

	eng       *engine.Engine // nil: arbiter, or not running
	up        bool
	cut       bool // runs, but cannot talk to the other members
	paused    bool // hangs: nobody can talk to it
	state     model.MemberState
	since     time.Time
	started   time.Time
	processID bson.ObjectID
	topo      int64
	term      int64 // of its last election
	applied   engine.OpTime
	known     engine.OpTime // the commit point, as it heard last
	knownWall time.Time
	wall      time.Time
	elected   bson.Timestamp
	frozen    time.Time
	rbid      int32
	until     time.Time     // a rollback does not end before
	lag       time.Duration // set by hand
}

// New makes a set whose members are all down; Up starts them.
func New(o Options) *Set {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.ElectionTimeout == 0 {
		o.ElectionTimeout = time.Second
	}
	if o.OplogSize == 0 {
		o.OplogSize = 64 << 20
	}
	if o.NoopEvery == 0 {
		o.NoopEvery = 10 * time.Second
	}
	s := &Set{
		o: o, id: identity(o), cfg: o.Members, version: 1, cfgTerm: 1, primary: -1, reason: "electionTimeout",
		topology: make(chan struct{}), progress: make(chan struct{}),
	}
	if o.Empty {
		s.version, s.cfg = 0, slices.Clone(o.Members)
		for i := range s.cfg {
			s.cfg[i].leave()
		}
	}
	for i := range o.Members {
		s.members = append(s.members, &Member{set: s, index: i, state: model.StateDown, rbid: 1})
	}
	return s
}

// identity is the set's replicaSetId: the same for the same set after a restart.
func identity(o Options) bson.ObjectID {
	h := sha256.New()
	_, _ = fmt.Fprint(h, o.Name) // a hash never fails
	for _, m := range o.Members {
		_, _ = fmt.Fprint(h, "|", m.Host)
	}
	return bson.ObjectID(h.Sum(nil)[:12])
}

// Up says that member i runs, with its data (nil for an arbiter). A member that was in the set before and wrote what the
// others never got rolls that back once it follows the new primary.
func (s *Set) Up(i int, eng *engine.Engine) {
	var at engine.OpTime
	var wall time.Time
	if eng != nil {
		eng.CreateOplog(s.o.OplogSize)
		at = eng.LastOpTime()
		wall = secondOf(at)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m, now := s.members[i], s.o.Clock()
	m.eng, m.up, m.cut, m.paused, m.lag = eng, true, false, false, 0
	m.started, m.processID, m.topo = now, bson.NewObjectID(), 0
	m.applied, m.wall, m.elected, m.frozen = at, wall, bson.Timestamp{}, time.Time{}
	if s.lastTS.Before(at.TS) {
		s.lastTS = at.TS
	}
	s.term = max(s.term, at.Term)
	if s.committed.Before(at) && s.primary < 0 && s.last == nil { // everything that survived a full stop counts as committed
		s.committed, s.comWall = at, wall
	}
	m.known, m.knownWall = engine.OpTime{}, time.Time{}
	s.tell()
	s.setState(m, s.idle(i))
	if s.primary < 0 && s.electAt.IsZero() {
		s.electAt = now
	}
	s.changed()
}

// idle is the state of member i while it does not lead. The set is locked.
func (s *Set) idle(i int) model.MemberState {
	switch c := &s.cfg[i]; {
	case c.Out && s.version == 0:
		return model.StateStartup
	case c.Out:
		return model.StateRemoved
	case c.Arbiter:
		return model.StateArbiter
	default:
		return model.StateSecondary
	}
}

// Down says that member i's process is gone. It returns its engine, which the caller closes.
func (s *Set) Down(i int) *engine.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[i]
	eng := m.eng
	m.up, m.eng = false, nil
	s.setState(m, model.StateDown)
	s.lost(i)
	return eng
}

// Cut takes member i off the network of the set, or puts it back: clients still reach it.
func (s *Set) Cut(i int, off bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[i]
	m.cut = off
	if off {
		s.lost(i)
		m.frozen = s.o.Clock().Add(s.o.ElectionTimeout) // until then it goes on believing
		s.changed()
		return
	}
	m.frozen = time.Time{}
	s.tell()
	if m.state == model.StatePrimary && s.primary != i {
		s.setState(m, model.StateSecondary)
	}
	s.changed()
}

// Pause makes member i hang or go on. A primary that hung too long comes back as a secondary.
func (s *Set) Pause(i int, hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[i]
	m.paused = hang
	s.tell()
	if hang {
		s.lost(i)
	} else if m.state == model.StatePrimary && s.primary != i {
		s.setState(m, model.StateSecondary)
	}
	s.changed()
}

// lost forgets that member i leads and sets the clock of an election.
func (s *Set) lost(i int) {
	if s.primary == i {
		s.primary = -1
		s.electAt = s.o.Clock().Add(s.o.ElectionTimeout)
		s.reason = "electionTimeout"
	}
	s.changed()
}

// SetLag makes member i apply d late; 0 ends it.
func (s *Set) SetLag(i int, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[i].lag = d
	s.moved()
}

// setState changes a member's state. The set is locked.
func (s *Set) setState(m *Member, st model.MemberState) {
	if m.state == st {
		return
	}
	s.o.Log.Debug("member state", "member", s.cfg[m.index].Host, "from", m.state.String(), "to", st.String())
	m.state, m.since = st, s.o.Clock()
	if s.o.OnState != nil {
		s.o.OnState(m.index, m.since, st)
	}
	s.changed()
}

// changed tells waiting hellos that they have news. The set is locked.
func (s *Set) changed() {
	for _, m := range s.members {
		if m.up {
			m.topo++
		}
	}
	close(s.topology)
	s.topology = make(chan struct{})
	s.moved()
}

// moved wakes who waits for positions. The set is locked.
func (s *Set) moved() {
	close(s.progress)
	s.progress = make(chan struct{})
}

// reachable says that the others can talk to the member.
func (m *Member) reachable() bool { return m.up && !m.cut && !m.paused }

// Run keeps the set going until ctx ends: secondaries apply, and while live says so, time passes.
func (s *Set) Run(ctx context.Context, live func() bool) {
	var wg sync.WaitGroup
	for i := range s.members {
		if !s.o.Members[i].Arbiter {
			wg.Go(func() { s.follow(ctx, i) })
		}
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return
		case <-tick.C:
			if live() {
				s.Tick(ctx)
			}
		}
	}
}

// follow applies what the member's source has, as it comes.
func (s *Set) follow(ctx context.Context, i int) {
	retry := time.NewTicker(100 * time.Millisecond) // lag ends with time, not with news
	defer retry.Stop()
	for {
		s.mu.Lock()
		news := s.progress
		s.mu.Unlock()
		if more := s.Pull(ctx, i); more {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-news:
		case <-retry.C:
		}
	}
}

// position notes how far member m has applied. The set is locked.
func (s *Set) position(m *Member, at engine.OpTime, wall time.Time) {
	m.applied, m.wall = at, wall
	if s.lastTS.Before(at.TS) {
		s.lastTS = at.TS
	}
	s.advance()
	s.moved()
}

// advance moves the commit point to what a majority of the voters has, if it is of this term.
func (s *Set) advance() {
	need := s.majority()
	best, bestWall := s.committed, s.comWall
	for _, c := range s.members {
		if s.cfg[c.index].Arbiter || s.cfg[c.index].Votes == 0 || c.applied.Term != s.term || !best.Before(c.applied) {
			continue
		}
		votes := int32(0)
		for _, m := range s.members {
			if !s.cfg[m.index].Arbiter && !m.applied.Before(c.applied) && m.applied.Term == s.term {
				votes += s.cfg[m.index].Votes
			}
		}
		if votes >= need {
			best, bestWall = c.applied, c.wall
		}
	}
	s.committed, s.comWall = best, bestWall
	s.tell()
}

// tell lets the members that are in touch know the commit point. The set is locked.
func (s *Set) tell() {
	for _, m := range s.members {
		if m.reachable() && m.known.Before(s.committed) {
			m.known, m.knownWall = s.committed, s.comWall
		}
	}
}

// majority is the number of votes that elects and, since arbiters hold no data, at most the number of data-bearing voters.
func (s *Set) majority() int32 {
	var voting, writable int32
	for _, c := range s.cfg {
		voting += c.Votes
		if !c.Arbiter {
			writable += c.Votes
		}
	}
	return min(voting/2+1, writable)
}

func (s *Set) electionMajority() int32 {
	var voting int32
	for _, c := range s.cfg {
		voting += c.Votes
	}
	return voting/2 + 1
}
