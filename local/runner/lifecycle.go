package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
)

// stack is what has been started: each part registers how it is stopped at once, and is stopped by name, last in first out.
type stack struct {
	mu    sync.Mutex
	parts []part
	log   *slog.Logger
}

type part struct {
	name   string
	budget time.Duration
	stop   func(context.Context) error
}

var errStopBudget = errors.New("it did not stop within its time")

// push registers a started part. Budget bounds its stop.
func (s *stack) push(name string, budget time.Duration, stop func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = append(s.parts, part{name, budget, stop})
}

// unwind stops everything in reverse order and joins the errors. A part that fails or overruns does not keep the others from
// being stopped. A cancelled ctx cuts every budget short. Calling it again does nothing.
func (s *stack) unwind(ctx context.Context) error {
	s.mu.Lock()
	parts := slices.Clone(s.parts)
	s.parts = nil
	s.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(parts) {
		began := time.Now()
		bounded, cancel := context.WithTimeoutCause(ctx, p.budget, errStopBudget)
		err := p.stop(bounded)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.name, err))
		}
		s.log.Debug("stopped", obs.KeyComponent, p.name, obs.KeyTook, time.Since(began), obs.KeyErr, err)
	}
	return errors.Join(errs...)
}
