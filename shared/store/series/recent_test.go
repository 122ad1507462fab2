package series

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

func (w *world) recent(from, now time.Time, names []string, hosts ...model.HostID) map[model.HostID]map[string][]model.Sample {
	w.Helper()
	got, err := w.s.Recent(w.Context(), hosts, names, from, now)
	if err != nil {
		w.Fatal(err)
	}
	return got
}

// TestRecentIsWhatReadSays compares Recent with Read for the same points: hosts of both periods, with gaps, restarts and jitter,
// at the border of hours, before and after compaction.
func TestRecentIsWhatReadSays(t *testing.T) {
	l := newLoad(t)
	names := allNames()
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // picks times
		period := time.Minute
		if seed%2 == 1 {
			period = 10 * time.Second
		}
		w := newWorld(t, Options{})
		begin := day0.Add(8 * time.Hour)
		h := l.host(int(seed))
		host := hostID(int(seed))
		process := fmt.Sprintf("%024x", seed)
		var rows []catalog.Row
		var back time.Duration
		for at := begin; at.Before(begin.Add(95 * time.Minute)); at = at.Add(period) {
			row := h.next(at.Add(time.Duration(rnd.IntN(900))*time.Millisecond), period)
			switch rnd.IntN(40) {
			case 0:
				continue // a ping is lost
			case 1: // the process was restarted: another id, its clock from the beginning, counters from what they have now
				process, back = fmt.Sprintf("%024x", rnd.Uint32()), time.Duration(row.UptimeMS-1000)*time.Millisecond
				for i := range row.Cells {
					if c, ok := catalog.ColumnByName(row.Cells[i].Column); ok && c.Counter {
						row.Cells[i].Value = catalog.Int(int64(rnd.IntN(100)))
					}
				}
			}
			row.Process = process
			row.UptimeMS = max(1, row.UptimeMS-back.Milliseconds())
			rows = append(rows, row)
		}
		w.now = begin.Add(95 * time.Minute)
		w.put(host, rows...)
		for _, compacted := range []bool{false, true} {
			if compacted {
				w.compact()
				w.now = begin.Add(2*time.Hour + 10*time.Minute)
			}
			compared := 0
			for range 12 {
				from := begin.Add(time.Duration(40+rnd.IntN(50)) * time.Minute)
				now := from.Add(3*time.Minute - time.Millisecond) // so that no bucket of Read is cut
				got := w.recent(from, now, names, host)[host]
				res := w.read(Query{Host: host, Measurements: names, From: from, To: now.Add(time.Millisecond), Step: stepRaw})
				for _, line := range res.Lines {
					m, _ := catalog.Find(line.Name)
					want := map[time.Time]float64{}
					for i, v := range line.Values {
						if !math.IsNaN(v) {
							want[res.Times[i]] = v
						}
					}
					for _, s := range got[line.Name] {
						v, ok := want[s.At.Truncate(stepRaw)]
						if !ok || math.Abs(v-s.Value) > 1e-9*max(1, math.Abs(v)) {
							t.Errorf("seed %d: %s at %s: %v, Read has %v (%v); restarts %v", seed, line.Name, s.At, s.Value, v, ok, m.TrailingHour)
						}
						delete(want, s.At.Truncate(stepRaw))
						compared++
					}
					if len(want) > 0 && !m.TrailingHour { // Read has sums over an hour without rows too
						t.Errorf("seed %d (compacted %v): %s from %s: Recent lacks %v of %d lines", seed, compacted, line.Name, from, want, len(got))
					}
					if t.Failed() {
						return
					}
				}
			}
			if compared < 500 {
				t.Fatalf("only %d points were compared", compared)
			}
		}
	}
}

func TestRecentSelects(t *testing.T) {
	l := newLoad(t)
	w := newWorld(t, Options{})
	w.now = day0.Add(30 * time.Minute)
	for n := range 40 { // more than workers
		w.put(hostID(n), filled(l, n, day0, 30-n%3)...)
	}
	hosts := []model.HostID{"no-such-host"}
	for n := range 40 {
		hosts = append(hosts, hostID(n))
	}
	from, now := day0.Add(26*time.Minute), day0.Add(28*time.Minute)
	got := w.recent(from, now, []string{"CONNECTIONS", "OPCOUNTER_INSERT", "CONNECTIONS"}, hosts...)
	if len(got) != 40 {
		t.Fatalf("%d hosts have values", len(got))
	}
	for n := range 40 {
		lines := got[hostID(n)]
		want := min(3, 30-n%3-26) // both ends are included
		if len(lines) != 2 || len(lines["CONNECTIONS"]) != want || len(lines["OPCOUNTER_INSERT"]) != want {
			t.Fatalf("host %d: %v, want %d samples", n, lines, want)
		}
		if first := lines["CONNECTIONS"][0].At; !first.Equal(from) {
			t.Fatalf("the first sample is of %s", first)
		}
	}
	if got := w.recent(day0.Add(29*time.Minute+time.Second), day0.Add(time.Hour), []string{"CONNECTIONS"}, hosts...); len(got) != 0 {
		t.Errorf("silent hosts have %v", got)
	}
}

func TestRecentRefuses(t *testing.T) {
	w := newWorld(t, Options{})
	for name, c := range map[string]struct {
		from, now time.Time
		name      string
		want      error
	}{
		"an unknown measurement": {day0, day0.Add(time.Minute), "NONSENSE", ErrMeasurement},
		"a range backwards":      {day0.Add(time.Minute), day0, "CONNECTIONS", ErrRange},
		"a long range":           {day0, day0.Add(4 * time.Hour), "CONNECTIONS", ErrRange},
	} {
		if _, err := w.s.Recent(t.Context(), nil, []string{c.name}, c.from, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzScanRow(f *testing.F) {
	l := newLoad(f)
	row := l.host(1).next(day0, time.Minute)
	packed, err := pack.AppendRow(nil, &row)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add(packed[:len(packed)/2])
	wanted := make([]bool, 1<<16)
	for i := range wanted {
		wanted[i] = true
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var cells []catalog.Cell
		_, err := pack.ScanRow(b, day0, wanted, func(id catalog.ColumnID, dim string, v catalog.Value) {
			if c, ok := catalog.ColumnByID(id); ok {
				cells = append(cells, catalog.Cell{Column: c.Name, Dim: dim, Value: v})
			}
		})
		whole, wholeErr := pack.DecodeRow(b, day0)
		if wholeErr != nil {
			return // what is wanted may lie before the damage
		}
		if err != nil || len(cells) != len(whole.Cells) {
			t.Fatalf("%d cells (%v), DecodeRow has %d", len(cells), err, len(whole.Cells))
		}
		for i, c := range whole.Cells {
			if same := cells[i] == c || math.IsNaN(c.Value.Float64()) && math.IsNaN(cells[i].Value.Float64()); !same {
				t.Fatalf("cell %d is %v, DecodeRow has %v", i, cells[i], c)
			}
		}
	})
}

// TestRecentOfWhatStands: databases are measured in rounds, disks at times, restarts over an hour; each has a value now.
func TestRecentOfWhatStands(t *testing.T) {
	w := newWorld(t, Options{})
	host := hostID(1)
	w.now = day0.Add(50 * time.Minute)
	var rows []catalog.Row
	for m := range 50 {
		row := catalog.Row{At: day0.Add(time.Duration(m) * time.Minute), UptimeMS: int64(m+100) * 60_000, PID: 7}
		if m > 30 {
			row.PID, row.UptimeMS = 8, int64(m-30)*60_000
		}
		cells := map[string]map[string]int64{}
		if m == 5 {
			cells["db.dataSize"] = map[string]int64{"app": 100, "old": 50}
			cells["dbTotal.databases"] = map[string]int64{"": 2}
		}
		if m == 25 { // old was dropped
			cells["db.dataSize"] = map[string]int64{"app": 200}
			cells["dbTotal.databases"] = map[string]int64{"": 1}
		}
		if m%4 == 0 {
			cells["mount.available"] = map[string]int64{"/": int64(1000 - m), "/data": 5}
		}
		cells["connections.current"] = map[string]int64{"": int64(m)}
		row.Cells = cellsOf(cells)
		rows = append(rows, row)
	}
	w.put(host, rows...)
	from, now := day0.Add(47*time.Minute), day0.Add(49*time.Minute)
	names := []string{"CONNECTIONS", "DATABASE_DATA_SIZE", "CATALOG_DATABASES", "RESTARTS_IN_LAST_HOUR", "DISK_PARTITION_SPACE_FREE"}
	for _, what := range []string{"rows", "chunks"} {
		got := w.recent(from, now, names, host)[host]
		for name, want := range map[string][]float64{
			"CONNECTIONS":                                    {47, 48, 49},
			RecentName("DATABASE_DATA_SIZE", "app"):          {200, 200, 200},
			RecentName("DATABASE_DATA_SIZE", "old"):          nil,
			"CATALOG_DATABASES":                              {1, 1, 1},
			"RESTARTS_IN_LAST_HOUR":                          {1, 1, 1},
			RecentName("DISK_PARTITION_SPACE_FREE", "/"):     {956, 952, 952},
			RecentName("DISK_PARTITION_SPACE_FREE", "/data"): {5, 5, 5},
		} {
			var values []float64
			for _, s := range got[name] {
				values = append(values, s.Value)
			}
			if !slices.Equal(values, want) {
				t.Errorf("%s from %s: %v, want %v", name, what, values, want)
			}
		}
		w.now = day0.Add(75 * time.Minute)
		w.compact()
	}
}

func cellsOf(values map[string]map[string]int64) []catalog.Cell {
	var cells []catalog.Cell
	for column, dims := range values {
		for dim, v := range dims {
			cells = append(cells, catalog.Cell{Column: column, Dim: dim, Value: catalog.Int(v)})
		}
	}
	slices.SortFunc(cells, func(a, b catalog.Cell) int {
		x, _ := catalog.ColumnByName(a.Column)
		y, _ := catalog.ColumnByName(b.Column)
		return cmp.Or(cmp.Compare(x.ID, y.ID), cmp.Compare(a.Dim, b.Dim))
	})
	return cells
}
