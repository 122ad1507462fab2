package rollup

import (
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

// Identity is what a sample says of the process behind it.
type Identity struct {
	At       time.Time // when it was sampled, by the agent's clock
	UptimeMS int64     // by the server's own steady clock; 0 when not known
	Local    time.Time // the server's wall clock; zero when not known
	PID      int64     // 0 when not known
	Process  string    // an id made at process start; empty when not known
}

// IdentityOf takes the identity out of a row.
func IdentityOf(r *catalog.Row) Identity {
	return Identity{At: r.At, UptimeMS: r.UptimeMS, Local: r.Local, PID: r.PID, Process: r.Process}
}

// start estimates when the process was started.
func (id *Identity) start() time.Time {
	now := id.Local
	if now.IsZero() {
		now = id.At
	}
	return now.Add(-time.Duration(id.UptimeMS) * time.Millisecond)
}

// Restarted reports whether the process was restarted between two samples of a host, and when the newer one was started.
// An id made at process start decides where both samples have one; else another pid, an estimated start that moved
// forward, or an uptime that went down.
func Restarted(prev, cur Identity) (restarted bool, start time.Time) {
	start = cur.start()
	if prev.Process != "" && cur.Process != "" {
		return prev.Process != cur.Process, start
	}
	if prev.PID != 0 && cur.PID != 0 && prev.PID != cur.PID {
		return true, start
	}
	if prev.UptimeMS == 0 || cur.UptimeMS == 0 {
		return false, start
	}
	tolerance := max(10*time.Second, cur.At.Sub(prev.At)/20)
	if start.Sub(prev.start()) > tolerance && !prev.Local.IsZero() && !cur.Local.IsZero() {
		return true, start
	}
	return cur.UptimeMS < prev.UptimeMS, start
}

// MaxGap is the longest interval that still gives a rate: five periods, and at least five minutes. A little more is let
// through, since no agent is exact.
func MaxGap(period time.Duration) time.Duration {
	return max(5*time.Minute, 5*period) + 10*time.Second
}

// skewSamples is how many measurements of a clock's skew are kept.
const skewSamples = 10

// Skew takes in one more measurement of a host's clock skew and returns the median of the last ten with what is to be
// kept for the next time.
func Skew(kept []int64, measured int64) (smoothed int64, keep []int64) {
	keep = append(slices.Clone(kept), measured)
	if n := len(keep); n > skewSamples {
		keep = keep[n-skewSamples:]
	}
	sorted := slices.Clone(keep)
	slices.Sort(sorted)
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, keep
}

// What a clock skew calls for.
const (
	SkewShown   = 2 * time.Second  // from here on the host page shows it
	SkewWarning = 10 * time.Second // from here on it is a warning
)
