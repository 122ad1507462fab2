// Package slot shares the few heads that may run at once among the jobs and restores of a daemon, in order of asking.
package slot

import (
	"context"
	"slices"
	"sync"
)

// Slots are a number of places. They are safe for concurrent use.
type Slots struct {
	mu    sync.Mutex
	free  int
	queue []chan struct{}
}

// New returns n places, at least one.
func New(n int) *Slots { return &Slots{free: max(1, n)} }

// Acquire waits for a place, first come first served. The returned function gives it back; it may be called more than once.
func (s *Slots) Acquire(ctx context.Context) (release func(), err error) {
	s.mu.Lock()
	if s.free > 0 && len(s.queue) == 0 {
		s.free--
		s.mu.Unlock()
		return sync.OnceFunc(s.release), nil
	}
	turn := make(chan struct{})
	s.queue = append(s.queue, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return sync.OnceFunc(s.release), nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	if i := slices.Index(s.queue, turn); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
		s.mu.Unlock()
	} else { // the turn came at the same moment
		s.mu.Unlock()
		s.release()
	}
	return nil, context.Cause(ctx)
}

func (s *Slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 {
		close(s.queue[0])
		s.queue = s.queue[1:]
		return
	}
	s.free++
}

// Waiting is how many wait for a place.
func (s *Slots) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}
