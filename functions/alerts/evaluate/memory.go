package evaluate

import (
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// What this file keeps in memory only saves work; losing it costs a few reads, or a notification minutes early.

const maxEntries = 200_000 // of each table: beyond it all is forgotten

// seen remembers which events were told of by which configuration.
type seen struct {
	mu  sync.Mutex
	all map[[2]model.ID]struct{}
}

func (s *seen) first(config, event model.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]model.ID{config, event}
	if _, ok := s.all[key]; ok {
		return false
	}
	if s.all == nil || len(s.all) >= maxEntries {
		s.all = map[[2]model.ID]struct{}{}
	}
	s.all[key] = struct{}{}
	return true
}

func (s *seen) forget(config, event model.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, [2]model.ID{config, event})
}

// series names a measurement of a host.
type series struct {
	host   model.HostID
	metric string
}

// points remembers when measurements that do not arrive any more arrived last: the zero time when not within the hour before
// they were looked for.
type points struct {
	mu  sync.Mutex
	all map[series]time.Time
}

func (p *points) get(s series) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.all[s]
	return t, ok
}

func (p *points) set(s series, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil || len(p.all) >= maxEntries {
		p.all = map[series]time.Time{}
	}
	p.all[s] = at
}

// arrived forgets what arrives again.
func (p *points) arrived(s series) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) > 0 {
		delete(p.all, s)
	}
}
