package ingestion

import (
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// What this file keeps in memory only saves work or noise; losing it loses nothing that counts.

const (
	refusalGap = 15 * time.Minute
	tallyGap   = 10 * time.Second
	maxEntries = 10_000 // of either table: beyond it all is forgotten
)

// refusals remembers of which groups a refused key was told lately.
type refusals struct {
	mu   sync.Mutex
	last map[model.ID]time.Time
}

// first reports whether this refusal is to be told.
func (f *refusals) first(group model.ID, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.last[group]; ok && now.Sub(t) < refusalGap && now.Sub(t) >= 0 {
		return false
	}
	if f.last == nil || len(f.last) >= maxEntries {
		f.last = map[model.ID]time.Time{}
	}
	f.last[group] = now
	return true
}

// tallies gathers ping counts, so that an agent's document is not written with every post.
type tallies struct {
	mu  sync.Mutex
	all map[string]*tally
}

type tally struct {
	pings   int64
	written time.Time
}

// add counts pings; when it is time to write, it hands over the sum.
func (t *tallies) add(agent string, pings int, now time.Time) (sum int64, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil || len(t.all) >= maxEntries {
		t.all = map[string]*tally{}
	}
	a := t.all[agent]
	if a == nil {
		a = &tally{}
		t.all[agent] = a
	}
	a.pings += int64(pings)
	if age := now.Sub(a.written); age >= 0 && age < tallyGap {
		return 0, false
	}
	sum, a.pings, a.written = a.pings, 0, now
	return sum, true
}

// giveBack returns a sum that could not be written.
func (t *tallies) giveBack(agent string, sum int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.all[agent]; a != nil {
		a.pings += sum
		a.written = time.Time{}
	}
}
