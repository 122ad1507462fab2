package load

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)

func TestActivityIsPositiveAndOneOnAverage(t *testing.T) {
	m := New(7)
	lo, hi := math.Inf(1), 0.0
	for i := range 3 * 86400 / 5 {
		a := m.Activity(t0.Add(time.Duration(i) * 5 * time.Second))
		lo, hi = min(lo, a), max(hi, a)
	}
	if lo < 0.1 || hi > 7 || hi < 1.8 {
		t.Errorf("activity between %.2f and %.2f, want within 0.1..7 with bursts", lo, hi)
	}
	if mean := m.Integral(t0, t0.Add(30*24*time.Hour)) / (30 * 86400); mean < 0.95 || mean > 1.05 {
		t.Errorf("mean activity %.3f, want about 1", mean)
	}
}

func TestCountersNeverFallAndDoNotDependOnTheSteps(t *testing.T) {
	tab, m := NewTable(), New(3).Member(1)
	start := t0
	at := func(to time.Time) Counts {
		var c Counts
		tab.Add(&c, m, Primary, start, to)
		return c
	}
	prev, prevAt := at(start), start
	rng := rand.New(rand.NewPCG(1, 2))
	var summed Counts
	for range 3000 {
		next := prevAt.Add(time.Duration(1+rng.IntN(40000)) * time.Millisecond)
		tab.Add(&summed, m, Primary, prevAt, next)
		c := at(next)
		for i := range c {
			if int64(c[i]) < int64(prev[i]) {
				t.Fatalf("counter %d falls from %v to %v between %v and %v", i, prev[i], c[i], prevAt, next)
			}
			if math.Abs(c[i]-summed[i]) > 1e-3*(1+c[i]) {
				t.Fatalf("counter %d: %v in one span, %v in steps", i, c[i], summed[i])
			}
		}
		prev, prevAt = c, next
	}
	if c := at(t0.Add(time.Hour)); c[Insert] < 100*3600*0.5 || c[Insert] > 120*3600*2 {
		t.Errorf("%v inserts in an hour", c[Insert])
	}
}

func TestBusyCPUStaysUnderTheCores(t *testing.T) {
	tab := NewTable()
	for seed := range uint64(20) {
		m := New(seed)
		for i := range 2000 {
			from := t0.Add(time.Duration(i) * 10 * time.Second)
			var c Counts
			tab.Add(&c, m, Primary, from, from.Add(10*time.Second))
			busy := c[CPUUserMS] + c[CPUNiceMS] + c[CPUSystemMS] + c[CPUIOWaitMS] + c[CPUSoftIRQMS] + c[CPUStealMS]
			if busy >= Cores*10000 || c[DiskIOMS] > 10000 {
				t.Fatalf("seed %d at %v: %v ms of CPU, %v ms of disk in 10 s", seed, from, busy, c[DiskIOMS])
			}
		}
	}
}

func TestGaugesStayInTheirBounds(t *testing.T) {
	m := New(11)
	var c Counts
	for i := range 20000 {
		at := t0.Add(time.Duration(i) * 13 * time.Second)
		for _, r := range []Role{Idle, Primary, Secondary, Arbiter, Standalone} {
			g := m.At(r, at, t0, c[OplogBytes])
			if g.CacheUsed > CacheMaxBytes || g.CacheDirty > CacheMaxBytes/4 || g.TicketsReadOut > Tickets || g.MemFreeKB <= 0 ||
				g.MemFreeKB+g.CachedKB > MemTotalKB || g.DiskFree <= 0 || g.Connections <= 0 || g.QueuedReaders < 0 {
				t.Fatalf("role %d at %v: %+v", r, at, g)
			}
		}
	}
}

func TestLagRisesSlowerThanTimeAndVisitsEveryMember(t *testing.T) {
	m := New(5)
	seen := map[int]int{}
	for member := range 3 {
		prev := time.Duration(0)
		for i := range 86400 {
			lag := m.Lag(member, 3, t0.Add(time.Duration(i)*time.Second))
			if lag-prev > time.Second {
				t.Fatalf("lag jumps from %v to %v: applied entries would be taken back", prev, lag)
			}
			if lag > 5*time.Second {
				seen[member]++
			}
			prev = lag
		}
	}
	for member := range 3 {
		if seen[member] < 60 || seen[member] > 20000 {
			t.Errorf("member %d lags %d s of a day", member, seen[member])
		}
	}
}

func TestElectionsAreTheSameInOneRangeAsInMany(t *testing.T) {
	m := New(9)
	all := m.Elections(25*time.Minute, t0, t0.Add(24*time.Hour))
	if len(all) < 50 || len(all) > 65 {
		t.Fatalf("%d elections a day", len(all))
	}
	var steps []time.Time
	for i := range 1440 {
		from := t0.Add(time.Duration(i) * time.Minute)
		steps = append(steps, m.Elections(25*time.Minute, from, from.Add(time.Minute))...)
	}
	if len(steps) != len(all) {
		t.Fatalf("%d elections by minutes, %d at once", len(steps), len(all))
	}
	for i := range all {
		if !all[i].Equal(steps[i]) {
			t.Fatalf("election %d at %v and at %v", i, all[i], steps[i])
		}
	}
	if m.Elections(0, t0, t0.Add(time.Hour)) != nil {
		t.Error("elections although none are wanted")
	}
}

func TestTheSilentModelCountsNothing(t *testing.T) {
	var c Counts
	NewTable().Add(&c, Model{}, Primary, t0, t0.Add(time.Hour))
	if c != (Counts{}) {
		t.Errorf("%v", c)
	}
}
