package rollup

import (
	"slices"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)

func TestRestarted(t *testing.T) {
	hour := int64(3_600_000)
	base := Identity{At: t0, Local: t0, UptimeMS: hour, PID: 10, Process: "a"}
	minuteLater := func(change func(*Identity)) Identity {
		id := base
		id.At, id.Local, id.UptimeMS = t0.Add(time.Minute), t0.Add(time.Minute), hour+60_000
		change(&id)
		return id
	}
	// later is the sample of the same process a gap later, which begins without a process id.
	later := func(gap time.Duration, change func(*Identity)) Identity {
		id := without(base)
		id.At, id.Local, id.UptimeMS = t0.Add(gap), t0.Add(gap), hour+gap.Milliseconds()
		change(&id)
		return id
	}
	clockAhead := func(by time.Duration) func(*Identity) { return func(i *Identity) { i.Local = i.Local.Add(by) } }
	cases := []struct {
		name      string
		prev, cur Identity
		want      bool
	}{
		{"nothing happened", base, minuteLater(func(*Identity) {}), false},
		{"another process id", base, minuteLater(func(i *Identity) { i.Process = "b" }), true},
		{"the same process id decides over a clock step", base, minuteLater(func(i *Identity) { i.Local = i.Local.Add(time.Hour) }), false},
		{"another pid where there is no process id", without(base), without(minuteLater(func(i *Identity) { i.PID = 11 })), true},
		{"a process id on one side only: the pid decides", without(base), minuteLater(func(i *Identity) { i.PID = 11 }), true},
		{"same pid in a container, uptime went down", without(base), without(minuteLater(func(i *Identity) { i.UptimeMS = 5000 })), true},
		{"same pid, longer uptime, but started later", without(base), without(func() Identity {
			id := base
			id.At, id.Local = t0.Add(3*time.Hour), t0.Add(3*time.Hour)
			id.UptimeMS = hour + 1000
			return id
		}()), true},
		{"the server's clock was corrected by a little", without(base), without(minuteLater(func(i *Identity) { i.Local = i.Local.Add(8 * time.Second) })), false},
		{"a start later by a second more than is put down to clocks", without(base), later(time.Minute, clockAhead(11*time.Second)), true},
		{"a start later by a second less", without(base), later(time.Minute, clockAhead(9*time.Second)), false},
		{"a later start after a long gap", without(base), later(time.Hour, clockAhead(100*time.Second)), false},
		{"no process id and no local time, less uptime", without(base), later(time.Minute, func(i *Identity) { i.Local, i.UptimeMS = time.Time{}, 5 }), true},
		{"uptime not known", without(base), Identity{At: t0.Add(time.Minute)}, false},
		{"no local time, uptime goes on", Identity{At: t0, UptimeMS: 1000}, Identity{At: t0.Add(time.Hour), UptimeMS: 2000}, false},
	}
	for _, c := range cases {
		if got, _ := Restarted(c.prev, c.cur); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	_, start := Restarted(base, minuteLater(func(i *Identity) { i.Process, i.UptimeMS = "b", 30_000 }))
	if !start.Equal(t0.Add(30 * time.Second)) {
		t.Errorf("started at %s", start)
	}
}

func without(id Identity) Identity {
	id.Process = ""
	return id
}

func TestSkewIsAMedian(t *testing.T) {
	var kept []int64
	var got int64
	for _, m := range []int64{100, 110, 90, 5000, 105, 95, 100, 100, 100, 100, 100, 100} {
		got, kept = Skew(kept, m)
	}
	if got != 100 || len(kept) != 10 || kept[9] != 100 || kept[0] != 90 {
		t.Errorf("%d of %v", got, kept)
	}
	before := slices.Clone(kept)
	if _, _ = Skew(kept, 1); !slices.Equal(kept, before) {
		t.Error("the caller's slice was changed")
	}
	if got, _ := Skew([]int64{10}, 20); got != 15 {
		t.Errorf("the median of two is %d", got)
	}
}

func TestMaxGap(t *testing.T) {
	for period, want := range map[time.Duration]time.Duration{10 * time.Second: 5 * time.Minute, time.Minute: 5 * time.Minute, 5 * time.Minute: 25 * time.Minute} {
		if got := MaxGap(period); got < want || got > want+time.Minute {
			t.Errorf("%s: %s", period, got)
		}
	}
}
