package repl

import (
	"context"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/shared/model"
)

// batch is how many entries are applied at once.
const batch = 500

// Pull fetches and applies once what member i's source has for it, and says whether there may be more.
func (s *Set) Pull(ctx context.Context, i int) bool {
	m := s.members[i]
	m.pull.Lock()
	defer m.pull.Unlock()
	now := s.o.Clock()
	s.mu.Lock()
	src := s.source(m)
	if src == nil || m.state != model.StateSecondary && m.state != model.StateRecovering && m.state != model.StateRollback || now.Before(m.until) {
		s.mu.Unlock()
		return false
	}
	behind := max(m.lag, s.cfg[i].Delay)
	if s.o.Lag != nil {
		behind = max(behind, s.o.Lag(i, now))
	}
	eng, from, srcEng := m.eng, m.applied, src.eng
	s.mu.Unlock()

	entries, found := srcEng.OplogAfter(from, batch)
	if !found || from == (engine.OpTime{}) {
		return s.resync(m, eng, srcEng, from)
	}
	full := len(entries) == batch
	if behind > 0 {
		keep := 0
		for keep < len(entries) && !entries[keep].Wall.After(now.Add(-behind)) {
			keep++
		}
		full = full && keep == len(entries)
		entries = entries[:keep]
	}
	if len(entries) == 0 {
		return false
	}
	if err := eng.Apply(ctx, entries); err != nil {
		if ctx.Err() == nil {
			s.o.Log.Warn("apply failed, copying anew", "member", s.cfg[i].Host, "error", err)
			return s.resync(m, eng, srcEng, from)
		}
		return false
	}
	last := entries[len(entries)-1]
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.eng == eng {
		s.position(m, last.At, last.Wall)
	}
	return full
}

// source is whom m follows: the primary, or while there is none whoever has most. The set is locked.
func (s *Set) source(m *Member) *Member {
	if !m.reachable() || m.eng == nil || s.cfg[m.index].Out {
		return nil
	}
	if s.primary >= 0 {
		if s.primary == m.index {
			return nil
		}
		return s.members[s.primary]
	}
	var best *Member
	for _, c := range s.members {
		if c != m && c.reachable() && c.eng != nil && !s.cfg[c.index].Out && m.applied.Before(c.applied) && (best == nil || best.applied.Before(c.applied)) {
			best = c
		}
	}
	return best
}

// resync brings m to its source's state by copying: an initial sync when it has nothing, a rollback when it holds what the
// source never got, or the rescue of a member that fell off the source's oplog.
func (s *Set) resync(m *Member, eng, src *engine.Engine, from engine.OpTime) bool {
	first, _ := src.OplogBounds()
	s.mu.Lock()
	if m.eng != eng {
		s.mu.Unlock()
		return false
	}
	kind := model.StateStartup2
	switch {
	case from == engine.OpTime{}:
	case from.Before(first):
		kind = model.StateRecovering
	default:
		kind = model.StateRollback
	}
	begins := m.state != kind
	s.setState(m, kind)
	s.o.Log.Info("copying from the source", "member", s.cfg[m.index].Host, "state", kind.String())
	if kind == model.StateRollback && begins {
		m.rbid++
		m.until = s.o.Clock().Add(s.o.RollbackTime)
		s.mu.Unlock()
		eng.KillCursors() // whoever waits for more learns that what it read may not last
		if s.o.RollbackTime > 0 {
			return false
		}
	} else {
		s.mu.Unlock()
	}
	err := eng.CopyFrom(src)
	at := eng.LastOpTime()
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.eng != eng {
		return false
	}
	if err != nil {
		s.o.Log.Warn("copying from the source failed", "member", s.cfg[m.index].Host, "error", err)
	} else {
		s.position(m, at, secondOf(at))
	}
	s.setState(m, s.idle(m.index))
	return err == nil
}

// secondOf is the wall time of a position, as near as the position tells.
func secondOf(at engine.OpTime) time.Time { return time.Unix(int64(at.TS.T), 0).UTC() }
