package repl

import (
	"context"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Tick does what is due at the set's present time: an election, the end of a primary that lost its majority, a takeover by
// a higher priority, a periodic no-op.
func (s *Set) Tick(ctx context.Context) {
	now := s.o.Clock()
	s.mu.Lock()
	s.believers(now)
	var step, winner, noop *Member
	if s.primary >= 0 {
		p := s.members[s.primary]
		switch {
		case s.reachableVotes() < s.electionMajority():
			step = p
		case s.takeover(now):
			step = p
			s.reason = "priorityTakeover"
		case now.Sub(p.wall) >= s.o.NoopEvery:
			noop = p
		}
	} else if !s.electAt.IsZero() && !now.Before(s.electAt) {
		winner = s.candidate(now)
	}
	s.mu.Unlock()
	switch {
	case step != nil:
		s.demote(step, now, 0)
	case winner != nil:
		s.promote(ctx, winner, now)
	case noop != nil:
		s.logNoop(noop, "periodic noop")
	}
}

// believers ends the reign of members that lost touch with the set long enough ago. The set is locked.
func (s *Set) believers(now time.Time) {
	for i, m := range s.members {
		if m.cut && m.state == model.StatePrimary && i != s.primary && now.After(m.frozen) {
			s.setState(m, model.StateSecondary)
		}
	}
}

func (s *Set) reachableVotes() int32 {
	var n int32
	for i, m := range s.members {
		if m.reachable() {
			n += s.cfg[i].Votes
		}
	}
	return n
}

// takeover says that a member of higher priority than the primary's has been ready for an election timeout.
func (s *Set) takeover(now time.Time) bool {
	p := s.members[s.primary]
	for i, m := range s.members {
		if s.cfg[i].Priority > s.cfg[s.primary].Priority && m.reachable() && m.state == model.StateSecondary && now.After(m.frozen) &&
			now.Sub(m.started) > s.o.ElectionTimeout && p.applied.TS.T-min(p.applied.TS.T, m.applied.TS.T) <= 2 {
			if s.above.IsZero() {
				s.above = now
			}
			return now.Sub(s.above) > s.o.ElectionTimeout
		}
	}
	s.above = time.Time{}
	return false
}

// candidate is who wins an election now, nil when nobody can. A voter refuses a candidate that has less than itself.
func (s *Set) candidate(now time.Time) *Member {
	if s.reachableVotes() < s.electionMajority() {
		return nil
	}
	var best *Member
	var most engine.OpTime
	for i, m := range s.members {
		if !m.reachable() || s.cfg[i].Arbiter || s.cfg[i].Out {
			continue
		}
		if most.Before(m.applied) {
			most = m.applied
		}
		if m.state != model.StateSecondary || s.cfg[i].Priority == 0 || now.Before(m.frozen) {
			continue
		}
		if best == nil || best.applied.Before(m.applied) || !m.applied.Before(best.applied) && s.prefers(m, best, now) {
			best = m
		}
	}
	if best == nil || best.applied.Before(most) && now.Before(s.waitUntil) {
		return nil
	}
	var votes int32
	for i, m := range s.members {
		if m.reachable() && (s.cfg[i].Arbiter || !best.applied.Before(m.applied)) {
			votes += s.cfg[i].Votes
		}
	}
	if votes < s.electionMajority() {
		return nil
	}
	return best
}

// prefers breaks a tie between equally advanced candidates: priority first, else by lot, which the moment decides.
func (s *Set) prefers(a, b *Member, now time.Time) bool {
	pa, pb := s.cfg[a.index].Priority, s.cfg[b.index].Priority
	if pa != pb {
		return pa > pb
	}
	lot := func(m *Member) uint64 {
		x := uint64(now.UnixMilli())*0x9e3779b97f4a7c15 ^ uint64(m.index+1)*0xbf58476d1ce4e5b9
		return (x ^ x>>29) * 0x94d049bb133111eb
	}
	return lot(a) > lot(b)
}

// promote makes m the primary: it stops following, opens its term with a no-op and only then takes writes.
func (s *Set) promote(_ context.Context, m *Member, now time.Time) {
	m.pull.Lock()
	defer m.pull.Unlock()
	s.mu.Lock()
	if s.primary >= 0 || !m.reachable() || m.state != model.StateSecondary {
		s.mu.Unlock()
		return
	}
	prior := -1
	if s.last != nil {
		prior = s.last.winner
	}
	s.term++
	m.term = s.term
	s.last = &election{reason: s.reason, at: now, term: s.term, winner: m.index, prior: prior, seen: m.applied, com: s.committed}
	first := m.applied == engine.OpTime{}
	eng := m.eng
	s.mu.Unlock()

	if first {
		if err := engine.Initiate(eng, noop("initiating set")); err != nil {
			s.o.Log.Warn("initiate", "member", s.cfg[m.index].Host, "error", err)
		}
	}
	at := eng.LogNoop(noop("new primary"))
	eng.TakeOver()
	if first {
		if err := engine.Settle(eng); err != nil {
			s.o.Log.Warn("settle", "member", s.cfg[m.index].Host, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !m.reachable() || m.eng != eng {
		return
	}
	s.primary, s.electAt, s.waitUntil, s.above = m.index, time.Time{}, time.Time{}, time.Time{}
	s.reason = "electionTimeout"
	s.cfgTerm = s.term
	m.elected = at.TS
	s.setState(m, model.StatePrimary)
	s.o.Log.Info("elected", "member", s.cfg[m.index].Host, "term", s.term, "reason", s.last.reason)
}

func noop(msg string) bson.Raw {
	b, err := bson.Marshal(bson.D{{Key: "msg", Value: msg}})
	if err != nil { // a constant document
		panic(err)
	}
	return b
}

// logNoop writes a no-op unless the member has stopped leading meanwhile.
func (s *Set) logNoop(m *Member, msg string) {
	s.mu.Lock()
	eng := m.eng
	ok := s.primary == m.index && eng != nil
	s.mu.Unlock()
	if ok {
		eng.LogNoop(noop(msg))
	}
}

// demote makes a primary a secondary that does not stand for election until freeze is over. Whoever writes at the moment
// either finishes first or is refused; open transactions end.
func (s *Set) demote(m *Member, now time.Time, freeze time.Duration) {
	s.mu.Lock()
	eng := m.eng
	s.mu.Unlock()
	if eng == nil {
		return
	}
	eng.Exclusive(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.primary != m.index {
			return
		}
		s.primary = -1
		s.electAt = now
		s.waitUntil = now.Add(max(10*time.Second, s.o.ElectionTimeout))
		m.frozen = now.Add(max(freeze, s.o.ElectionTimeout))
		s.setState(m, model.StateSecondary)
		eng.AbortTransactions()
	})
}

// StepDown makes the primary step down for at least freeze, as replSetStepDown does. Without force an electable secondary
// must be near enough to catch up within catchUp.
func (s *Set) StepDown(i int, freeze, catchUp time.Duration, force bool) *engine.Error {
	now := s.o.Clock()
	s.mu.Lock()
	if s.primary != i {
		extra := s.topologyField(s.members[i])
		s.mu.Unlock()
		return &engine.Error{Code: engine.CodeNotWritablePrimary, Msg: "not primary so can't step down", Extra: extra}
	}
	p := s.members[i]
	near := false
	for j, m := range s.members {
		if j != i && m.reachable() && m.state == model.StateSecondary && s.cfg[j].Priority > 0 &&
			float64(p.applied.TS.T)-float64(m.applied.TS.T) <= math.Max(catchUp.Seconds(), 10) {
			near = true
		}
	}
	if !near && !force {
		s.mu.Unlock()
		return engine.Errf(262, "No electable secondaries caught up as of %s. Please use the replSetStepDown command with the argument {force: true} to force node to step down.",
			now.UTC().Format(time.RFC3339))
	}
	s.reason = "stepUpRequestSkipDryRun" // a step-down hands over
	s.mu.Unlock()
	s.demote(p, now, freeze)
	return nil
}

// StepUp asks member i to take over now, as replSetStepUp does.
func (s *Set) StepUp(i int) *engine.Error {
	now := s.o.Clock()
	s.mu.Lock()
	m, p := s.members[i], s.primary
	able := m.reachable() && m.state == model.StateSecondary && s.cfg[i].Priority > 0
	s.mu.Unlock()
	if p == i {
		return nil
	}
	if !able {
		return engine.Errf(125, "Election failed.")
	}
	if p >= 0 {
		if err := s.StepDown(p, 0, 10*time.Second, false); err != nil {
			return err
		}
	}
	s.mu.Lock()
	for j, other := range s.members { // the others hold back until it is over
		if j != i && s.cfg[j].Priority > 0 {
			other.frozen = now.Add(10 * time.Second)
		}
	}
	s.reason = "stepUpRequest"
	s.mu.Unlock()
	return nil
}

// Freeze keeps a secondary from standing for election for d; 0 ends it.
func (s *Set) Freeze(i int, d time.Duration) *engine.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary == i {
		return engine.Errf(95, "cannot freeze node when primary or running for election. state: Primary")
	}
	s.members[i].frozen = s.o.Clock().Add(d)
	return nil
}
