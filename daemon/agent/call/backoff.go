package call

import (
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of the pause after a failure.
const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// Backoff is the pause between attempts while the server is away: it doubles, with jitter so that a hundred agents do not come
// back in one moment. The zero value is ready.
type Backoff struct {
	last time.Duration
}

// Next is how long to wait after another failure; least is what the server asked for.
func (b *Backoff) Next(least time.Duration) time.Duration {
	b.last = min(max(2*b.last, minBackoff), maxBackoff)
	return max(least, b.last/2+rand.N(b.last/2)) //nolint:gosec // jitter
}

// Reset is for after a success.
func (b *Backoff) Reset() { b.last = 0 }

// Pause waits, and says false when ctx ended first.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
