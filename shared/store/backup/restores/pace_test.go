package restores

import (
	"testing"
	"time"
)

// TestPace counts a step's bytes from where they began, also after the work was taken up in the middle.
func TestPace(t *testing.T) {
	at := func(sec int) time.Time { return time.Date(2026, 3, 1, 12, 0, sec, 0, time.UTC) }
	r := Restore{}
	for _, tt := range []struct {
		name        string
		beat        int
		done, total int64
		since       int
		from        int64
	}{
		{"a step begins", 0, 0, 100, 0, 0},
		{"it goes on", 5, 40, 100, 0, 0},
		{"another agent begins anew", 10, 10, 100, 10, 10},
		{"and goes on", 15, 60, 100, 10, 10},
		{"the next step", 20, 60, 500, 20, 60},
	} {
		was := r
		r.Beat, r.Done, r.Total = at(tt.beat), tt.done, tt.total
		r.pace(&was)
		if !r.Since.Equal(at(tt.since)) || r.From != tt.from {
			t.Errorf("%s: counted from %d since %s", tt.name, r.From, r.Since)
		}
	}
}
