package rollup

import (
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

func values(f *Frame, name string) []float64 {
	c, _ := catalog.ColumnByName(name)
	col := f.Column(Key{Column: c.ID})
	out := make([]float64, f.Len())
	for i := range out {
		out[i] = -1
		if col == nil {
			continue
		}
		if v, ok := col.Value(i); ok {
			out[i] = v.Float64()
		}
	}
	return out
}

func equal(t *testing.T, what string, got []float64, want ...float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
}

func TestConcat(t *testing.T) {
	a := frame(t, at(one("connections.current", 1, 2, 3), 0, 2, 4))
	b := frame(t, with(at(one("connections.current", 7, 8, 2.5), 1, 2, 5), "mem.virtual", 1, 1, 1))
	got := Concat(nil, a, NewFrame(nil), b)
	equal(t, "in order of time, equal times from the first", values(got, "connections.current"), 1, 7, 2, 3, 2.5)
	equal(t, "columns of the second", values(got, "mem.virtual"), -1, 1, -1, -1, 1)
	for i := 1; i < got.Len(); i++ {
		if !got.Samples[i-1].At.Before(got.Samples[i].At) {
			t.Fatal("not in order")
		}
	}
	if Concat(a) != a || Concat().Len() != 0 {
		t.Error("one frame is itself, none is empty")
	}
	late := frame(t, at(one("connections.current", 9), 60))
	equal(t, "already in order", values(Concat(a, late), "connections.current"), 1, 2, 3, 9)
}

func TestLeadIn(t *testing.T) {
	samples := one("opcounters.insert", make([]float64, 60)...)
	samples[35].values["oplog.insertedBytes"] = 5
	samples[40].values["connections.current"] = 2.5
	f := frame(t, samples)
	lead := LeadIn(f, t0.Add(time.Hour))
	if lead.Len() != 6 || lead.Samples[0].At != t0.Add(35*time.Minute) || lead.Samples[5].At != t0.Add(59*time.Minute) {
		t.Errorf("%d samples: %v", lead.Len(), lead.Samples)
	}
	if LeadIn(nil, t0) != nil || LeadIn(NewFrame(nil), t0) != nil {
		t.Error("nothing leads in from nothing")
	}
	if LeadIn(f, t0.Add(10*time.Hour)).Len() != 0 {
		t.Error("samples of hours ago are no base")
	}
}

func TestNeeds(t *testing.T) {
	set := map[catalog.ColumnID]bool{}
	for _, name := range []string{"GLOBAL_LOCK_CURRENT_QUEUE_TOTAL", "ASSERT_USER", "OPCOUNTER_INSERT", "SWAP_IO_IN", "PROCESS_NORMALIZED_CPU_USER"} {
		m, _ := catalog.Find(name)
		Needs(&m, set)
	}
	for _, name := range []string{"queue.write.low", "tickets.read.out", "asserts.rollovers", "opcounters.query", "machine.boot", "machine.at", "cores", "process.userMicros"} {
		if !set[columnID(name)] {
			t.Errorf("%s is needed", name)
		}
	}
	if set[columnID("network.in")] {
		t.Error("network.in is not needed")
	}
	if got := LongestBase(set); got != MaxGap(time.Minute) {
		t.Errorf("base %s", got)
	}
	m, _ := catalog.Find("OPLOG_RATE_GB_PER_HOUR")
	Needs(&m, set)
	if got := LongestBase(set); got != 30*time.Minute {
		t.Errorf("base %s", got)
	}
}

// TestNeedsSuffice: with only the columns a measurement needs, it comes out as with all of them.
func TestNeedsSuffice(t *testing.T) {
	samples := make([]sample, 10)
	for i := range samples {
		samples[i] = sample{minute: float64(i), process: "p", values: map[string]float64{}}
		for n, c := range catalog.Columns() {
			key := c.Name
			if c.Scope != catalog.Process {
				key += "|d"
			}
			if c.Name != "machine.boot" && c.Name != "asserts.rollovers" {
				samples[i].values[key] = float64(1000*i + n*i*i)
			}
			if c.Name == "machine.at" {
				samples[i].values[key] = float64(i) * 59_000
			}
		}
	}
	all := frame(t, samples)
	for _, m := range catalog.Measurements() {
		set := map[catalog.ColumnID]bool{}
		Needs(&m, set)
		some := NewFrame(all.Samples)
		for _, k := range all.Columns() {
			if set[k.Column] {
				some.cols[k] = all.Column(k)
			}
		}
		want, got := NewEvaluator(all).Points(&m, "d"), NewEvaluator(some).Points(&m, "d")
		found := false
		for i := range want {
			found = found || want[i].OK
			if want[i] != got[i] {
				t.Errorf("%s, sample %d: %+v with its own columns, %+v with all", m.Name, i, got[i], want[i])
			}
		}
		if !found {
			t.Errorf("%s has no value though all columns are there", m.Name)
		}
	}
}
