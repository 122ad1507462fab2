package agent

import "sync"

// Worker is one of the things that an agent works on because its configuration names it: a process that is watched, a replica
// set that is backed up, a restore that is written.
type Worker[C any] interface {
	// Configure hands over what the newest configuration says, and reports whether the worker goes on with it. One that does
	// not is ended and replaced. It must not wait.
	Configure(c C) bool
	// End stops the worker and waits for it.
	End()
}

// Crew are workers by name. The zero value has none. It is safe for concurrent use.
type Crew[C any, W Worker[C]] struct {
	mu  sync.Mutex
	all map[string]W
}

// Apply starts, changes and ends workers until they are those of the configuration: wanted are its parts, name says what each is
// called, start makes and starts a worker, and must not wait. It returns when those that are no longer wanted have ended.
func (c *Crew[C, W]) Apply(wanted []C, name func(C) string, start func(C) W) {
	var ending []W
	c.mu.Lock()
	named := make(map[string]bool, len(wanted))
	for _, conf := range wanted {
		n := name(conf)
		named[n] = true
		w, there := c.all[n]
		if there && w.Configure(conf) {
			continue
		}
		if there {
			ending = append(ending, w)
		}
		if c.all == nil {
			c.all = map[string]W{}
		}
		c.all[n] = start(conf)
	}
	for n, w := range c.all {
		if !named[n] {
			ending = append(ending, w)
			delete(c.all, n)
		}
	}
	c.mu.Unlock()
	for _, w := range ending {
		w.End()
	}
}

// List gives the workers that there are, in no order.
func (c *Crew[C, W]) List() []W {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]W, 0, len(c.all))
	for _, w := range c.all {
		out = append(out, w)
	}
	return out
}
