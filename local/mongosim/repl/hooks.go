package repl

import (
	"context"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Hooks are what member i's engine is opened with: its answers depend on the member's part in the set.
func (s *Set) Hooks(i int) engine.Options {
	return engine.Options{
		Clock:      s.o.Clock,
		Gate:       func(_ *engine.Session, req *engine.Request) *engine.Error { return s.gate(i, req) },
		NextOpTime: func() engine.OpTime { return s.next(i) },
		OnWrite:    func(x engine.OplogEntry) { s.wrote(i, x) },
		WaitWrite: func(ctx context.Context, _ *engine.Session, wc engine.WriteConcern, at engine.OpTime) *engine.Error {
			return s.wait(ctx, i, wc, at)
		},
		Committed: func() (engine.OpTime, <-chan struct{}) { return s.committedFor(i) },
		HostPort:  s.o.Members[i].Host,
	}
}

// gate refuses what the member's state does not allow.
func (s *Set) gate(i int, req *engine.Request) *engine.Error {
	if req.Local && !req.Oplog || req.Kind == engine.KindOther {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[i]
	if req.Oplog {
		if m.state == model.StateRollback || m.state == model.StateStartup2 {
			return engine.Errf(engine.CodeNotPrimaryOrSecondary, "cannot read from oplog collection while in rollback or initial sync")
		}
		return nil
	}
	refuse := func(code int32, msg string) *engine.Error {
		return &engine.Error{Code: code, Msg: msg, Extra: s.topologyField(m)}
	}
	switch {
	case m.state == model.StatePrimary:
		return nil
	case req.Kind == engine.KindWrite:
		return refuse(engine.CodeNotWritablePrimary, "not primary")
	case m.state == model.StateArbiter:
		return refuse(engine.CodeNotPrimaryOrSecondary, "node is not in primary or recovering state")
	case m.state != model.StateSecondary:
		return refuse(engine.CodeNotPrimaryOrSecondary, "node is recovering")
	case !req.SecondaryOK:
		return refuse(engine.CodeNotPrimaryNoSecondary, "not primary and secondaryOk=false")
	}
	return nil
}

// committedFor is the commit point as member i knows it: nothing newer than it has itself, and what was so when it lost touch.
func (s *Set) committedFor(i int) (engine.OpTime, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[i]
	if m.applied.Before(m.known) {
		return m.applied, s.progress
	}
	return m.known, s.progress
}

// TopologyField is {topologyVersion: ...} of member i, which errors about its state carry. Drivers use it to tell an old
// error from a new one.
func (s *Set) TopologyField(i int) bson.Raw {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topologyField(s.members[i])
}

func (s *Set) topologyField(m *Member) bson.Raw {
	b, err := bson.Marshal(bson.D{{Key: "topologyVersion", Value: bson.D{{Key: "processId", Value: m.processID}, {Key: "counter", Value: m.topo}}}})
	if err != nil { // plain values
		panic(err)
	}
	return b
}

// next gives the position of the entry member i is about to write. Positions only grow, over all members: what a deposed
// primary wrote can then never look newer than its successor's entries.
func (s *Set) next(i int) engine.OpTime {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec := uint32(s.o.Clock().Unix())
	if sec > s.lastTS.T {
		s.lastTS = bson.Timestamp{T: sec, I: 1}
	} else {
		s.lastTS.I++
	}
	return engine.OpTime{TS: s.lastTS, Term: s.members[i].term}
}

func (s *Set) wrote(i int, x engine.OplogEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position(s.members[i], x.At, x.Wall)
}

// wait blocks until as many members as the write concern names have what member i wrote.
func (s *Set) wait(ctx context.Context, i int, wc engine.WriteConcern, at engine.OpTime) *engine.Error {
	w := wc.W
	if w == "" {
		w = "1"
		if s.o.ImplicitMajority {
			w = "majority"
		}
	}
	need, err := strconv.Atoi(w)
	if err != nil && w != "majority" {
		return engine.Errf(79, "No write concern mode named '%s' found in replica set configuration", w)
	}
	if need <= 1 && err == nil {
		return nil
	}
	if need > s.dataBearing() {
		return engine.Errf(engine.CodeUnsatisfiableWC, "Not enough data-bearing nodes")
	}
	var timeout <-chan time.Time
	if wc.WTimeout > 0 {
		t := time.NewTimer(wc.WTimeout)
		defer t.Stop()
		timeout = t.C
	}
	for {
		s.mu.Lock()
		m, news := s.members[i], s.progress
		done := false
		if w == "majority" {
			done = !s.committed.Before(at)
		} else {
			n := 0
			for _, c := range s.members {
				if !s.cfg[c.index].Arbiter && !s.cfg[c.index].Out && !c.applied.Before(at) {
					n++
				}
			}
			done = n >= need
		}
		leads := m.state == model.StatePrimary && m.term == at.Term
		// What the others have after it lost them is not what this member wrote, though it may be newer: one that was cut off
		// goes on waiting until it notices, one that hangs learns it when it wakes up.
		done = done && s.primary == i
		up := m.up
		var extra bson.Raw
		if !leads {
			extra = s.topologyField(m)
		}
		s.mu.Unlock()
		switch {
		case !up:
			return engine.Errf(engine.CodeInterruptedAtShutdown, "interrupted at shutdown")
		case !leads: // what was written may be rolled back: nothing is promised
			return &engine.Error{Code: engine.CodePrimarySteppedDown, Msg: "Primary stepped down while waiting for replication", Extra: extra}
		case done:
			return nil
		}
		select {
		case <-news:
		case <-timeout:
			return &engine.Error{Code: engine.CodeWriteConcernFailed, Msg: "waiting for replication timed out", Extra: wtimedOut()}
		case <-ctx.Done():
			return engine.Errf(engine.CodeInterrupted, "operation was interrupted")
		}
	}
}

// wtimedOut is the errInfo of a write concern that timed out.
func wtimedOut() bson.Raw {
	b, err := bson.Marshal(bson.D{{Key: "errInfo", Value: bson.D{{Key: "wtimeout", Value: true}}}})
	if err != nil { // a constant document
		panic(err)
	}
	return b
}

func (s *Set) dataBearing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.cfg {
		if !c.Arbiter && !c.Out {
			n++
		}
	}
	return n
}

// AwaitHello blocks until member i's hello would differ from what a client knows by its topologyVersion, or d is over.
func (s *Set) AwaitHello(ctx context.Context, i int, process bson.ObjectID, counter int64, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		s.mu.Lock()
		m, news := s.members[i], s.topology
		same := m.up && m.processID == process && m.topo <= counter
		s.mu.Unlock()
		if !same {
			return
		}
		select {
		case <-news:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
