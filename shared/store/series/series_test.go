package series

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// world is a store of series with a clock that tests set.
type world struct {
	*testing.T
	s     *Series
	fault *faultdoc.Engine
	now   time.Time
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if err := e.Ensure(t.Context(), Collections()); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, fault: faultdoc.New(e)}
	o.Engine, o.Now = w.fault, func() time.Time { return w.now }
	if w.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) put(host model.HostID, rows ...catalog.Row) {
	w.Helper()
	var ops []docstore.Op
	for _, row := range rows {
		op, err := w.s.RowOp(host, row)
		if err != nil {
			w.Fatal(err)
		}
		ops = append(ops, op)
	}
	if err := w.s.writeAll(context.Background(), ops); err != nil {
		w.Fatal(err)
	}
}

// clear empties the store: opening a new one takes longer than most tests.
func (w *world) clear() {
	w.Helper()
	for _, c := range Collections() {
		if _, err := w.s.engine.DeleteRange(context.Background(), c.Name, "", "", 1_000_000); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) compact() store.PassReport {
	w.Helper()
	r, err := w.s.Compact(context.Background(), w.now)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

func (w *world) rollup() store.PassReport {
	w.Helper()
	r, err := w.s.Rollup(context.Background(), w.now)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

func (w *world) read(q Query) Result {
	w.Helper()
	r, err := w.s.Read(context.Background(), q)
	if err != nil {
		w.Fatal(err)
	}
	for _, l := range r.Lines {
		if len(l.Values) != len(r.Times) || len(l.Max) != len(r.Times) {
			w.Fatalf("%s has %d values and %d largest for %d times", l.Name, len(l.Values), len(l.Max), len(r.Times))
		}
	}
	return r
}

func (w *world) count(collection string) int {
	w.Helper()
	n, err := w.s.engine.Count(context.Background(), docstore.Query{Collection: collection}, 1_000_000)
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// allNames are measurements of every kind and unit, without those of a dimension.
func allNames() []string {
	var names []string
	for _, m := range catalog.Measurements() {
		if m.Scope == catalog.Process {
			names = append(names, m.Name)
		}
	}
	return names
}

// same compares two answers; roll-ups are kept in single precision.
func same(t *testing.T, what string, a, b Result, tolerance float64) {
	t.Helper()
	if a.Step != b.Step || len(a.Times) != len(b.Times) || len(a.Lines) != len(b.Lines) {
		t.Fatalf("%s: %s x %d against %s x %d", what, a.Step, len(a.Times), b.Step, len(b.Times))
	}
	faults := 0
	for k := range a.Lines {
		for i := range a.Times {
			for n, pair := range [2][2]float64{{a.Lines[k].Values[i], b.Lines[k].Values[i]}, {a.Lines[k].Max[i], b.Lines[k].Max[i]}} {
				x, y := pair[0], pair[1]
				if math.IsNaN(x) && math.IsNaN(y) || math.Abs(x-y) <= tolerance*max(1, math.Abs(x)) {
					continue
				}
				if faults++; faults < 5 {
					t.Errorf("%s: %s at %s (%d): %v against %v", what, a.Lines[k].Name, a.Times[i].Format(time.TimeOnly), n, x, y)
				}
			}
		}
	}
}

// filled writes a host's rows from a time on, once a minute, and returns them.
func filled(l *load, n int, from time.Time, minutes int) []catalog.Row {
	h := l.host(n)
	rows := make([]catalog.Row, minutes)
	for i := range rows {
		rows[i] = h.next(from.Add(time.Duration(i)*time.Minute), time.Minute)
	}
	return rows
}

var day0 = time.Date(2026, 11, 18, 0, 0, 0, 0, time.UTC)

// TestCompactionChangesNoAnswer reads every measurement at every step before and after each pass.
func TestCompactionChangesNoAnswer(t *testing.T) {
	w := newWorld(t, Options{})
	rows := filled(newLoad(t), 1, day0.Add(22*time.Hour), 5*60)
	host := hostID(1)
	w.now = day0.Add(27*time.Hour + time.Second)
	w.put(host, rows...)
	queries := map[string]Query{
		"minutes":       {Step: time.Minute, From: day0.Add(23*time.Hour + 30*time.Minute), To: w.now},
		"whole minutes": {Step: time.Minute, From: day0.Add(22 * time.Hour), To: w.now},
		"five minutes":  {Step: 5 * time.Minute, From: day0.Add(22 * time.Hour), To: w.now},
		"hours":         {Step: time.Hour, From: day0.Add(20 * time.Hour), To: w.now},
		"days":          {Step: 24 * time.Hour, From: day0, To: w.now},
		"a disk":        {Step: time.Hour, From: day0.Add(20 * time.Hour), To: w.now, Dimension: "vda", Measurements: []string{"DISK_PARTITION_IOPS_READ", "MAX_DISK_PARTITION_UTILIZATION", "DISK_PARTITION_LATENCY_WRITE"}},
		"a database":    {Step: 5 * time.Minute, From: day0.Add(22 * time.Hour), To: w.now, Dimension: "shop", Measurements: []string{"DATABASE_DATA_SIZE", "DATABASE_AVERAGE_OBJECT_SIZE"}},
	}
	before := map[string]Result{}
	for name, q := range queries {
		q.Host = host
		if q.Measurements == nil {
			q.Measurements = allNames()
		}
		queries[name], before[name] = q, w.read(q)
		filledPoints := 0
		for _, l := range before[name].Lines {
			for _, v := range l.Values {
				if !math.IsNaN(v) {
					filledPoints++
				}
			}
		}
		if filledPoints == 0 {
			t.Errorf("%s: no point at all", name)
		}
	}
	check := func(when string) {
		for name, q := range queries {
			same(t, name+" "+when, before[name], w.read(q), 1e-6)
		}
	}
	if r := w.compact(); r.Done != 4 || r.More {
		t.Errorf("compaction: %+v", r)
	}
	if n := w.count(collRows); n != 60 {
		t.Errorf("%d rows are left; the open hour has 60", n)
	}
	check("with the last hour open")
	w.now = w.now.Add(20 * time.Minute)
	if w.compact(); w.count(collRows) != 0 {
		t.Errorf("%d rows are left", w.count(collRows))
	}
	check("compacted")
	if r := w.rollup(); r.Done != 1 {
		t.Errorf("roll-up of the finished day: %+v", r)
	}
	if r := w.rollup(); r.Done != 0 {
		t.Errorf("second roll-up: %+v", r)
	}
	check("rolled up")
	w.now = day0.Add(60 * time.Hour)
	w.rollup()
	if n := w.count(collD1); n != 1 {
		t.Errorf("%d months", n)
	}
	check("a day later")
}

// TestRatesAgainstHand checks a rate, a quotient and a gauge in minutes and hours against sums made by hand.
func TestRatesAgainstHand(t *testing.T) {
	w := newWorld(t, Options{})
	host := hostID(1)
	start := day0.Add(10 * time.Hour)
	w.now = start.Add(70 * time.Minute)
	cell := func(name string, v int64) catalog.Cell { return catalog.Cell{Column: name, Value: catalog.Int(v)} }
	for i := range 61 {
		n := int64(i)
		w.put(host, catalog.Row{At: start.Add(time.Duration(i) * time.Minute), UptimeMS: 1000 + n*60_000, Process: "p", Cells: []catalog.Cell{
			cell("connections.current", 10+n%5), cell("opcounters.insert", 120*n), cell("opLatencies.reads.micros", 3000*n*n), cell("opLatencies.reads.ops", n*n),
		}})
	}
	names := []string{"OPCOUNTER_INSERT", "OP_EXECUTION_TIME_READS", "CONNECTIONS", "OPCOUNTER_QUERY"}
	for _, compacted := range []bool{false, true} {
		if compacted {
			w.compact()
		}
		r := w.read(Query{Host: host, Measurements: names, From: start, To: start.Add(time.Hour), Step: time.Minute})
		if len(r.Times) != 60 || !r.Times[0].Equal(start) {
			t.Fatalf("%d times from %s", len(r.Times), r.Times[0])
		}
		if !math.IsNaN(r.Lines[0].Values[0]) || r.Lines[0].Values[1] != 2 || r.Lines[0].Values[59] != 2 {
			t.Errorf("inserts: %v", r.Lines[0].Values)
		}
		if math.Abs(r.Lines[1].Values[10]-3) > 1e-9 || r.Lines[2].Values[7] != 12 || !math.IsNaN(r.Lines[3].Values[7]) {
			t.Errorf("reads %v, connections %v, queries %v", r.Lines[1].Values[10], r.Lines[2].Values[7], r.Lines[3].Values[7])
		}
		// A range that begins later has a first value: the sample before it is read too.
		later := w.read(Query{Host: host, Measurements: names, From: start.Add(30 * time.Minute), To: start.Add(40 * time.Minute), Step: time.Minute})
		if later.Lines[0].Values[0] != 2 {
			t.Errorf("the first rate of a range: %v", later.Lines[0].Values[0])
		}
		h := w.read(Query{Host: host, Measurements: append(names, "RESTARTS_IN_LAST_HOUR"), From: start, To: start.Add(time.Hour), Step: time.Hour})
		if h.Lines[0].Values[0] != 2 || math.Abs(h.Lines[1].Values[0]-3) > 1e-6 || h.Lines[2].Values[0] != 12 || h.Lines[2].Max[0] != 14 || h.Lines[4].Values[0] != 0 {
			t.Errorf("hour: %v", h.Lines)
		}
	}
}

// TestLateRows compares a store that got some rows late, in several ways, with one that got them in order.
func TestLateRows(t *testing.T) {
	l := newLoad(t)
	host := hostID(1)
	start := day0.Add(8 * time.Hour)
	rows := filled(l, 1, start, 4*60)
	cases := map[string]func(i int) bool{
		"one in the middle":       func(i int) bool { return i == 90 },
		"the last of an hour":     func(i int) bool { return i == 119 },
		"the first of an hour":    func(i int) bool { return i == 120 },
		"a whole hour":            func(i int) bool { return i >= 60 && i < 120 },
		"two hours":               func(i int) bool { return i >= 60 && i < 180 },
		"every other":             func(i int) bool { return i%2 == 0 },
		"everything but the last": func(i int) bool { return i < 239 },
	}
	queries := []Query{
		{Step: time.Minute, From: start, To: start.Add(4 * time.Hour)},
		{Step: time.Hour, From: start, To: start.Add(4 * time.Hour)},
		{Step: 24 * time.Hour, From: start, To: start.Add(4 * time.Hour)},
	}
	for name, late := range cases {
		t.Run(name, func(t *testing.T) {
			ref, w := newWorld(t, Options{}), newWorld(t, Options{})
			ref.now, w.now = start.Add(30*time.Hour), start.Add(30*time.Hour)
			ref.put(host, rows...)
			ref.compact()
			var after []catalog.Row
			for i, row := range rows {
				if late(i) {
					after = append(after, row)
				} else {
					w.put(host, row)
				}
			}
			w.compact()
			w.rollup()
			w.put(host, after...)
			for range 2 { // before and after the late rows are merged
				for _, q := range queries {
					q.Host, q.Measurements = host, allNames()
					same(t, fmt.Sprint(q.Step), ref.read(q), w.read(q), 1e-6)
				}
				w.compact()
				if n := w.count(collRows); n != 0 {
					t.Fatalf("%d rows left", n)
				}
			}
			w.put(host, rows[60:70]...) // and once more, as an agent that lost our answer does
			w.compact()
			w.rollup()
			for _, q := range queries {
				q.Host, q.Measurements = host, allNames()
				same(t, "twice "+fmt.Sprint(q.Step), ref.read(q), w.read(q), 1e-6)
			}
		})
	}
}

// TestFaultAtEveryStep stops the passes at each call, before and after its work, and runs them again.
func TestFaultAtEveryStep(t *testing.T) {
	l := newLoad(t)
	start := day0.Add(22 * time.Hour)
	hosts := []model.HostID{hostID(1), hostID(2)}
	var rows [2][]catalog.Row
	for n := range hosts {
		for i, row := range filled(l, n, start, 3*60) {
			if i%4 == 0 {
				rows[n] = append(rows[n], row)
			}
		}
	}
	fill := func(w *world) {
		w.now = start.Add(30 * time.Hour)
		for n, h := range hosts {
			w.put(h, rows[n]...)
		}
	}
	ref := newWorld(t, Options{})
	fill(ref)
	ref.compact()
	ref.rollup()
	queries := []Query{
		{Step: 5 * time.Minute, From: start, To: start.Add(3 * time.Hour)},
		{Step: time.Hour, From: start, To: start.Add(3 * time.Hour)},
		{Step: 24 * time.Hour, From: start, To: start.Add(3 * time.Hour)},
	}
	names := []string{"OPCOUNTER_INSERT", "CONNECTIONS", "OP_EXECUTION_TIME_READS", "MAX_PROCESS_CPU_USER", "DB_DATA_SIZE_TOTAL"}
	passes := func(w *world) error {
		_, err := w.s.Compact(context.Background(), w.now)
		if err != nil {
			return err
		}
		_, err = w.s.Rollup(context.Background(), w.now)
		return err
	}
	w := newWorld(t, Options{})
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			w.clear()
			fill(w)
			w.fault.Fail(faultdoc.Fault{Nth: n, After: after})
			err := passes(w)
			w.fault.On()
			if err == nil {
				if n < 8 {
					t.Errorf("only %d calls: the passes do not do what this test thinks", n)
				}
				break // the passes make fewer calls than that
			}
			if !errors.Is(err, docstore.ErrUnavailable) && !errors.Is(err, docstore.ErrOutcomeUnknown) {
				t.Fatalf("call %d: %v", n, err)
			}
			for _, h := range hosts { // nothing is missing even before the passes run again
				for _, q := range queries[1:] {
					q.Host, q.Measurements = h, names
					same(t, fmt.Sprintf("stopped at call %d (after: %v)", n, after), ref.read(q), w.read(q), 1e-6)
				}
			}
			if err := passes(w); err != nil {
				t.Fatal(err)
			}
			if left := w.count(collRows); left != 0 {
				t.Errorf("call %d: %d rows left", n, left)
			}
			for _, h := range hosts {
				for _, q := range queries {
					q.Host, q.Measurements = h, names
					same(t, fmt.Sprintf("resumed after call %d (after: %v)", n, after), ref.read(q), w.read(q), 1e-6)
				}
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestReadDuringCompaction: whatever the pass is at, readers see every row once.
func TestReadDuringCompaction(t *testing.T) {
	l := newLoad(t)
	start := day0.Add(22 * time.Hour)
	w := newWorld(t, Options{})
	w.now = start.Add(30 * time.Hour)
	host := hostID(1)
	w.put(host, filled(l, 1, start, 4*60)...)
	names := []string{"OPCOUNTER_INSERT", "CONNECTIONS", "OP_EXECUTION_TIME_READS", "MAX_PROCESS_CPU_USER"}
	queries := []Query{
		{Step: time.Minute, From: start, To: start.Add(4 * time.Hour)},
		{Step: time.Hour, From: start, To: start.Add(4 * time.Hour)},
		{Step: 24 * time.Hour, From: start, To: start.Add(4 * time.Hour)},
	}
	var want []Result
	for i := range queries {
		queries[i].Host, queries[i].Measurements = host, names
		want = append(want, w.read(queries[i]))
	}
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for _, pass := range []func(context.Context, time.Time) (store.PassReport, error){w.s.Compact, w.s.Rollup} {
			if _, err := pass(context.Background(), w.now); err != nil {
				done <- err
			}
		}
	}()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		for i, q := range queries {
			same(t, fmt.Sprint("meanwhile ", q.Step), want[i], w.read(q), 1e-6)
		}
	}
	if w.count(collRows) != 0 {
		t.Error("rows are left")
	}
}

// TestPassesAreBounded runs compaction in small bites.
func TestPassesAreBounded(t *testing.T) {
	w := newWorld(t, Options{MaxHours: 3})
	l := newLoad(t)
	w.now = day0.Add(30 * time.Hour)
	for n := range 5 {
		w.put(hostID(n), filled(l, n, day0, 120)...)
	}
	var done int64
	for runs := 0; ; runs++ {
		r := w.compact()
		done += r.Done
		if r.Done > 3 {
			t.Errorf("one run did %d hours", r.Done)
		}
		if !r.More {
			break
		}
		if runs > 20 {
			t.Fatal("never done")
		}
	}
	if done != 10 || w.count(collRows) != 0 {
		t.Errorf("%d hours done, %d rows left", done, w.count(collRows))
	}
}

func TestRowsRefused(t *testing.T) {
	w := newWorld(t, Options{})
	w.now = day0
	for _, c := range []struct {
		at   time.Time
		want error
	}{
		{day0.Add(-47 * time.Hour), nil}, {day0.Add(-49 * time.Hour), ErrTooOld}, {day0.Add(time.Minute), nil}, {day0.Add(time.Hour), ErrFuture},
	} {
		if _, err := w.s.RowOp(hostID(1), catalog.Row{At: c.at}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.at, err)
		}
	}
	for _, host := range []model.HostID{"", "a/b"} {
		if _, err := w.s.RowOp(host, catalog.Row{At: day0}); err == nil {
			t.Errorf("host %q was taken", host)
		}
	}
	if _, err := w.s.RowOp(hostID(1), catalog.Row{At: day0, Cells: []catalog.Cell{{Column: "no.such"}}}); err == nil {
		t.Error("an unknown column was taken")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("series without an engine")
	}
}

func TestQuestionsRefused(t *testing.T) {
	w := newWorld(t, Options{})
	w.now = day0
	for name, c := range map[string]struct {
		q    Query
		want error
	}{
		"unknown measurement": {Query{Measurements: []string{"NOPE"}, From: day0.Add(-time.Hour), To: day0}, ErrMeasurement},
		"empty range":         {Query{From: day0, To: day0}, ErrRange},
		"odd step":            {Query{From: day0.Add(-time.Hour), To: day0, Step: time.Second}, ErrRange},
		"too many points":     {Query{From: day0.Add(-365 * 24 * time.Hour), To: day0, Step: time.Minute}, ErrRange},
	} {
		c.q.Host = hostID(1)
		if _, err := w.s.Read(t.Context(), c.q); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := w.read(Query{Host: hostID(1), Measurements: []string{"CONNECTIONS"}, From: day0.Add(-time.Hour), To: day0})
	if r.Step != time.Minute || len(r.Times) != 60 || !math.IsNaN(r.Lines[0].Values[0]) {
		t.Errorf("a host without data: %s x %d", r.Step, len(r.Times))
	}
}

func TestAutoStep(t *testing.T) {
	w := newWorld(t, Options{})
	w.now = day0
	day := 24 * time.Hour
	for _, c := range []struct {
		from, to time.Duration // before now
		want     time.Duration
	}{
		{time.Hour, 0, stepRaw},
		{6 * time.Hour, 0, time.Minute},
		{48 * time.Hour, 0, time.Minute},
		{7 * day, 0, 5 * time.Minute},
		{8 * day, 0, time.Hour},
		{63 * day, 0, time.Hour},
		{100 * day, 0, day},
		{5 * 365 * day, 0, day},
		{10 * day, 10*day - time.Hour, time.Hour},
		{70 * day, 69 * day, day},
		{6 * day, 6*day - time.Hour, stepRaw},
	} {
		if got := w.s.AutoStep(day0.Add(-c.from), day0.Add(-c.to)); got != c.want {
			t.Errorf("from %s to %s before now: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// TestTenSeconds shows short ranges at the rate hosts are sampled at.
func TestTenSeconds(t *testing.T) {
	w := newWorld(t, Options{})
	l := newLoad(t)
	w.now = day0.Add(2 * time.Hour)
	h := l.host(1)
	for i := range 360 {
		w.put(hostID(1), h.next(day0.Add(time.Hour+time.Duration(i)*10*time.Second), 10*time.Second))
	}
	q := Query{Host: hostID(1), Measurements: []string{"OPCOUNTER_CMD", "CONNECTIONS"}, From: day0.Add(time.Hour), To: w.now}
	r := w.read(q)
	if r.Step != 10*time.Second || len(r.Times) != 360 || math.IsNaN(r.Lines[0].Values[100]) {
		t.Errorf("%s x %d: %v", r.Step, len(r.Times), r.Lines[0].Values[100])
	}
	q.Step = time.Minute
	if m := w.read(q); len(m.Times) != 60 || m.Lines[1].Max[10] < m.Lines[1].Values[10] {
		t.Errorf("in minutes: %d", len(m.Times))
	}
}

// TestBorder samples a host just about when a minute ends: no minute may look like a gap.
func TestBorder(t *testing.T) {
	w := newWorld(t, Options{})
	w.now = day0.Add(2 * time.Hour)
	for i := range 60 {
		jitter := time.Duration(i*37%100-50) * time.Millisecond
		w.put(hostID(1), catalog.Row{
			At: day0.Add(time.Duration(i)*time.Minute + jitter + time.Minute), Process: "p", UptimeMS: int64(i+1) * 60_000,
			Cells: []catalog.Cell{{Column: "connections.current", Value: catalog.Int(int64(i))}},
		})
	}
	r := w.read(Query{Host: hostID(1), Measurements: []string{"CONNECTIONS"}, From: day0.Add(time.Minute), To: day0.Add(time.Hour), Step: time.Minute})
	for i, v := range r.Lines[0].Values {
		if v != float64(i) {
			t.Errorf("minute %d: %v", i, v)
		}
	}
}

// TestCarry draws dbStats values as a step line, but not over times without samples.
func TestCarry(t *testing.T) {
	w := newWorld(t, Options{})
	host := hostID(1)
	w.now = day0.Add(20 * time.Hour)
	for i := range 5 * 60 {
		if i >= 200 && i < 210 {
			continue // away
		}
		row := catalog.Row{
			At: day0.Add(10*time.Hour + time.Duration(i)*time.Minute), UptimeMS: int64(i+1) * 60_000, Process: "p",
			Cells: []catalog.Cell{{Column: "connections.current", Value: catalog.Int(1)}},
		}
		if i == 30 || i == 190 {
			row.Cells = append(row.Cells, catalog.Cell{Column: "db.dataSize", Dim: "shop", Value: catalog.Int(int64(i))})
		}
		w.put(host, row)
	}
	q := Query{Host: host, Measurements: []string{"DATABASE_DATA_SIZE"}, Dimension: "shop", From: day0.Add(10 * time.Hour), To: day0.Add(15 * time.Hour), Step: time.Minute}
	for _, compacted := range []bool{false, true} {
		if compacted {
			w.compact()
		}
		v := w.read(q).Lines[0].Values
		for i, want := range map[int]float64{29: math.NaN(), 30: 30, 100: 30, 189: 30, 190: 190, 199: 190, 205: math.NaN(), 210: 190, 299: 190} {
			if v[i] != want && !(math.IsNaN(v[i]) && math.IsNaN(want)) {
				t.Errorf("compacted %v, minute %d: %v, want %v", compacted, i, v[i], want)
			}
		}
		// The round lies before the range: an hour before in the rows, or hours before in the roll-ups.
		near, far := q, q
		near.From = day0.Add(10*time.Hour + 45*time.Minute)
		far.From = day0.Add(12*time.Hour + 30*time.Minute)
		if got := w.read(near).Lines[0].Values[0]; got != 30 {
			t.Errorf("compacted %v: near: %v", compacted, got)
		}
		if got := w.read(far).Lines[0].Values[0]; compacted && got != 30 {
			t.Errorf("far: %v", got)
		}
		h := q
		h.Step = time.Hour
		if v := w.read(h).Lines[0].Values; v[0] != 30 || v[1] != 30 || v[3] != 190 {
			t.Errorf("hours: %v", v)
		}
	}
}

// TestDroppedDatabase ends the step line of a database that a later round did not find.
func TestDroppedDatabase(t *testing.T) {
	w := newWorld(t, Options{})
	host := hostID(1)
	w.now = day0.Add(20 * time.Hour)
	for i := range 3 * 60 {
		row := catalog.Row{At: day0.Add(10*time.Hour + time.Duration(i)*time.Minute), UptimeMS: int64(i+1) * 60_000, Process: "p"}
		if i%20 == 0 {
			row.Cells = append(row.Cells, catalog.Cell{Column: "dbTotal.databases", Value: catalog.Int(2)})
			if i < 60 {
				row.Cells = append(row.Cells, catalog.Cell{Column: "db.dataSize", Dim: "shop", Value: catalog.Int(7)})
			}
		}
		w.put(host, row)
	}
	for _, compacted := range []bool{false, true} {
		if compacted {
			w.compact()
		}
		for step, wants := range map[time.Duration]map[int]float64{
			time.Minute: {0: 7, 59: 7, 60: math.NaN(), 170: math.NaN()}, time.Hour: {0: 7, 1: math.NaN(), 2: math.NaN()},
		} {
			v := w.read(Query{Host: host, Measurements: []string{"DATABASE_DATA_SIZE"}, Dimension: "shop", From: day0.Add(10 * time.Hour), To: day0.Add(13 * time.Hour), Step: step}).Lines[0].Values
			for i, want := range wants {
				if v[i] != want && !(math.IsNaN(v[i]) && math.IsNaN(want)) {
					t.Errorf("compacted %v, %s %d: %v, want %v", compacted, step, i, v[i], want)
				}
			}
		}
	}
}

// TestRestart counts restarts in the hour before each point, and breaks rates where they happen.
func TestRestart(t *testing.T) {
	w := newWorld(t, Options{})
	host := hostID(1)
	w.now = day0.Add(20 * time.Hour)
	for i := range 4 * 60 {
		row := catalog.Row{At: day0.Add(10*time.Hour + time.Duration(i)*time.Minute), UptimeMS: int64(i+1) * 60_000, Process: "a"}
		if i >= 70 {
			row.Process, row.UptimeMS = "b", int64(i-70)*60_000+30_000
		}
		row.Cells = []catalog.Cell{{Column: "opcounters.insert", Value: catalog.Int(row.UptimeMS / 1000)}}
		w.put(host, row)
	}
	for _, compacted := range []bool{false, true} {
		if compacted {
			w.compact()
		}
		r := w.read(Query{Host: host, Measurements: []string{"RESTARTS_IN_LAST_HOUR", "OPCOUNTER_INSERT"}, From: day0.Add(11 * time.Hour), To: day0.Add(14 * time.Hour), Step: time.Minute})
		v, rate := r.Lines[0].Values, r.Lines[1].Values
		if v[9] != 0 || v[10] != 1 || v[69] != 1 || v[70] != 0 {
			t.Errorf("restarts: %v %v %v %v", v[9], v[10], v[69], v[70])
		}
		if !math.IsNaN(rate[10]) || rate[9] != 1 || rate[11] != 1 {
			t.Errorf("rates around the restart: %v", rate[9:12])
		}
		h := w.read(Query{Host: host, Measurements: []string{"RESTARTS_IN_LAST_HOUR"}, From: day0.Add(10 * time.Hour), To: day0.Add(14 * time.Hour), Step: time.Hour})
		if got := h.Lines[0].Values; got[0] != 0 || got[1] != 1 || got[2] != 0 {
			t.Errorf("hours: %v", got)
		}
	}
}

func TestDimensions(t *testing.T) {
	w := newWorld(t, Options{})
	host := hostID(1)
	w.now = day0.Add(3 * time.Hour)
	w.put(host, filled(newLoad(t), 1, day0.Add(time.Hour), 30)...)
	for _, compacted := range []bool{false, true} {
		if compacted {
			w.compact()
		}
		for scope, want := range map[catalog.Scope]string{catalog.Process: "", catalog.Database: "admin local shop", catalog.Disk: "data vda"} {
			got, err := w.s.Dimensions(t.Context(), host, scope)
			if err != nil || strings.Join(got, " ") != want {
				t.Errorf("compacted %v, %s: %v, %v", compacted, scope, got, err)
			}
		}
	}
}

func TestExpireAndDelete(t *testing.T) {
	w := newWorld(t, Options{})
	l := newLoad(t)
	for d := range 4 {
		w.now = day0.Add(time.Duration(d)*24*time.Hour + 3*time.Hour)
		for n := range 3 {
			w.put(hostID(n), filled(l, n, w.now.Add(-3*time.Hour), 120)...)
		}
		w.compact()
		w.rollup()
	}
	expire := func(after time.Duration) (chunks, hours, days int) {
		t.Helper()
		if _, err := w.s.Expire(t.Context(), day0.Add(after)); err != nil {
			t.Fatal(err)
		}
		return w.count(collChunks), w.count(collH1), w.count(collD1)
	}
	day := 24 * time.Hour
	for _, c := range []struct {
		after               time.Duration
		chunks, hours, days int
	}{{4 * day, 24, 12, 3}, {7*day + 4*time.Hour + time.Minute, 18, 12, 3}, {20 * day, 0, 12, 3}, {66 * day, 0, 6, 3}, {1000 * day, 0, 0, 3}} {
		chunks, hours, days := expire(c.after)
		if chunks != c.chunks || hours != c.hours || days != c.days {
			t.Errorf("after %s: %d chunks, %d hours, %d days; want %d, %d, %d", c.after, chunks, hours, days, c.chunks, c.hours, c.days)
		}
	}
	if more, err := w.s.DeleteHost(t.Context(), hostID(1), 100); more || err != nil || w.count(collD1) != 2 {
		t.Errorf("delete: %v %v, %d months left", more, err, w.count(collD1))
	}
}

// TestHosts: every host of which something is stored is listed once, whichever collection has it, page by page.
func TestHosts(t *testing.T) {
	w := newWorld(t, Options{})
	w.now = day0.Add(27 * time.Hour)
	l := newLoad(t)
	for n := range 5 {
		w.put(hostID(n), filled(l, n, day0.Add(22*time.Hour), 30)...)
	}
	if got, err := w.s.Hosts(t.Context(), "", 10); err != nil || len(got) != 0 {
		t.Errorf("before anything is compacted: %v %v", got, err)
	}
	w.compact()
	w.rollup()
	drop := func(n int, collections ...string) {
		for _, c := range collections {
			prefix := string(hostID(n)) + "/"
			if _, err := w.s.engine.DeleteRange(t.Context(), c, prefix, after(prefix), 100); err != nil {
				t.Fatal(err)
			}
		}
	}
	drop(1, collChunks)
	drop(2, collChunks, collH1)
	drop(3, collH1, collD1)
	drop(4, collChunks, collH1, collD1)
	want := []model.HostID{hostID(0), hostID(1), hostID(2), hostID(3)}
	slices.Sort(want)
	for _, limit := range []int{1, 2, 3, 4, 5} {
		var got []model.HostID
		for last := model.HostID(""); ; {
			page, err := w.s.Hosts(t.Context(), last, limit)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, page...); len(page) < limit {
				break
			}
			last = page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d a page: %v, want %v", limit, got, want)
		}
	}
	w.fault.Off(nil)
	if _, err := w.s.Hosts(t.Context(), "", 10); !errors.Is(err, docstore.ErrUnavailable) {
		t.Errorf("a database that is away: %v", err)
	}
}

// TestChecks looks at every kind of document, whole and spoilt.
func TestChecks(t *testing.T) {
	w := newWorld(t, Options{})
	w.now = day0.Add(27 * time.Hour)
	w.put(hostID(1), filled(newLoad(t), 1, day0.Add(22*time.Hour), 5*60)...)
	w.compact()
	w.rollup()
	checks := Checks()
	for _, c := range Collections() {
		page, err := w.s.engine.Scan(t.Context(), docstore.Query{Collection: c.Name})
		if err != nil || len(page.Docs) == 0 {
			t.Fatalf("%s: %d documents, %v", c.Name, len(page.Docs), err)
		}
		for _, d := range page.Docs {
			if err := checks[c.Name](nil, d); err != nil {
				t.Errorf("%s %s: %v", c.Name, d.ID, err)
			}
			elsewhere := d
			elsewhere.ID = "x/" + d.ID[2:len(d.ID)-1] + "9"
			if checks[c.Name](nil, elsewhere) == nil {
				t.Errorf("%s %s was taken as %s", c.Name, d.ID, elsewhere.ID)
			}
			d.Body = []byte{5, 0, 0, 0, 0}
			if checks[c.Name](nil, d) == nil {
				t.Errorf("%s %s: an empty document was taken", c.Name, d.ID)
			}
		}
	}
}

// TestUnreadableRows must not stop the passes for everybody.
func TestUnreadableRows(t *testing.T) {
	w := newWorld(t, Options{})
	w.now = day0.Add(5 * time.Hour)
	rows := filled(newLoad(t), 1, day0, 60)
	w.put(hostID(1), rows...)
	op, err := w.s.RowOp(hostID(1), catalog.Row{At: day0.Add(30 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	bad := docstore.Op{Kind: docstore.Put, Collection: collRows, ID: op.ID, Body: []byte{5, 0, 0, 0, 0}}
	if err := w.s.writeAll(t.Context(), []docstore.Op{bad}); err != nil {
		t.Fatal(err)
	}
	if w.compact(); w.count(collRows) != 0 || w.count(collChunks) != 1 {
		t.Errorf("%d rows, %d chunks", w.count(collRows), w.count(collChunks))
	}
}
