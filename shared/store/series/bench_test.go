package series

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

var benchStart = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// BenchmarkChunkSize reports what an hour of a host costs at rest: bytes a sample over the whole catalogue, and over the
// columns that really move in the recordings.
func BenchmarkChunkSize(b *testing.B) {
	l := newLoad(b)
	codec, err := pack.NewCodec()
	if err != nil {
		b.Fatal(err)
	}
	var all, allBytes, busy, busyBytes, hours int
	for b.Loop() {
		all, allBytes, busy, busyBytes = 0, 0, 0, 0
		day := pack.NewBlock(24)
		h := l.host(1)
		for hour := range 24 {
			start := benchStart.Add(time.Duration(hour) * time.Hour)
			var rows, moving []catalog.Row
			for i := range 60 {
				row := h.next(start.Add(time.Duration(i)*time.Minute), time.Minute)
				rows = append(rows, row)
				m := row
				m.Cells = nil
				for _, c := range row.Cells {
					if l.busy[c.Column] {
						m.Cells = append(m.Cells, c)
					}
				}
				moving = append(moving, m)
				all += len(row.Cells)
				busy += len(m.Cells)
			}
			f := rollup.FrameOf(rows)
			allBytes += len(codec.EncodeChunk(start, f))
			busyBytes += len(codec.EncodeChunk(start, rollup.FrameOf(moving)))
			fold(rollHour(start, f, nil, derived()), day, hour)
		}
		hours = len(codec.EncodeBlock(day))
	}
	b.ReportMetric(float64(allBytes)/float64(all), "B/sample")
	b.ReportMetric(float64(busyBytes)/float64(busy), "B/busySample")
	b.ReportMetric(float64(all)/1440, "samples/row")
	b.ReportMetric(float64(busy)/1440, "busySamples/row")
	b.ReportMetric(float64(allBytes)/24, "B/chunk")
	b.ReportMetric(float64(hours), "B/h1day")
}

// benchEngine is a store on a file of its own.
func benchEngine(b *testing.B) docstore.Engine {
	b.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(b.TempDir(), "db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() })
	if err := e.Ensure(b.Context(), Collections()); err != nil {
		b.Fatal(err)
	}
	return e
}

// cpu is the processor time this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPing reports the processor time that a ping's row costs: written (in batches of 100), and its share of
// compaction and roll-ups. One run is an hour of 300 hosts.
func BenchmarkPing(b *testing.B) {
	const hosts = 300
	l := newLoad(b)
	var write, compact, roll time.Duration
	pings := 0
	for b.Loop() {
		b.StopTimer()
		now := benchStart
		e := benchEngine(b)
		s, err := New(Options{Engine: e, Now: func() time.Time { return now }})
		if err != nil {
			b.Fatal(err)
		}
		minutes := make([][]catalog.Row, 60)
		load := make([]*loadHost, hosts)
		for n := range load {
			load[n] = l.host(n)
		}
		for m := range minutes {
			for n := range load {
				minutes[m] = append(minutes[m], load[n].next(benchStart.Add(23*time.Hour+time.Duration(m)*time.Minute), time.Minute))
			}
		}
		b.StartTimer()
		now = benchStart.Add(25 * time.Hour)
		start := cpu(b)
		for _, rows := range minutes {
			for from := 0; from < hosts; from += 100 {
				ops := make([]docstore.Op, 0, 100)
				for n := from; n < from+100; n++ {
					op, err := s.RowOp(hostID(n), rows[n])
					if err != nil {
						b.Fatal(err)
					}
					ops = append(ops, op)
				}
				if err := s.writeAll(b.Context(), ops); err != nil {
					b.Fatal(err)
				}
				pings += len(ops)
			}
		}
		write += cpu(b) - start
		start = cpu(b)
		if _, err := s.Compact(b.Context(), now); err != nil {
			b.Fatal(err)
		}
		compact += cpu(b) - start
		start = cpu(b)
		if _, err := s.Rollup(b.Context(), now); err != nil {
			b.Fatal(err)
		}
		roll += cpu(b) - start
	}
	micros := func(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(n) }
	b.ReportMetric(micros(write, pings), "write-us/ping")
	b.ReportMetric(micros(compact, pings), "compact-us/ping")
	b.ReportMetric(micros(roll, pings)/24, "days-us/ping")
}

// BenchmarkRead reports the time of a host page: ten charts over 24 hours, in minutes, beside HEARTWOOD_BENCH_HOSTS
// (default 200) other hosts. The last hour is not compacted.
func BenchmarkRead(b *testing.B) {
	hosts := 200
	if n, err := strconv.Atoi(os.Getenv("HEARTWOOD_BENCH_HOSTS")); err == nil {
		hosts = n
	}
	l := newLoad(b)
	e := benchEngine(b)
	now := benchStart.Add(24*time.Hour + 30*time.Minute)
	s, err := New(Options{Engine: e, Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	// Every host gets the chunks of one, and rows of its own for the open hour.
	h := l.host(1)
	var chunks []packedDoc
	for hour := range 24 {
		start := benchStart.Add(time.Duration(hour) * time.Hour)
		var rows []catalog.Row
		for m := range 60 {
			rows = append(rows, h.next(start.Add(time.Duration(m)*time.Minute), time.Minute))
		}
		chunks = append(chunks, packedDoc{At: start, Samples: 60, Packed: s.codec.EncodeChunk(start, rollup.FrameOf(rows))})
	}
	var open []catalog.Row
	for m := range 30 {
		open = append(open, h.next(benchStart.Add(24*time.Hour+time.Duration(m)*time.Minute), time.Minute))
	}
	for n := range hosts {
		var ops []docstore.Op
		for i := range chunks {
			op, err := chunks[i].op(docstore.Put, collChunks, chunkID(hostID(n), chunks[i].At), 0)
			if err != nil {
				b.Fatal(err)
			}
			ops = append(ops, op)
		}
		for _, row := range open {
			op, err := s.RowOp(hostID(n), row)
			if err != nil {
				b.Fatal(err)
			}
			ops = append(ops, op)
		}
		if err := s.writeAll(b.Context(), ops); err != nil {
			b.Fatal(err)
		}
	}
	week := hostID(hosts) // has the same day seven times
	for day := range 7 {
		var ops []docstore.Op
		for _, c := range chunks {
			c.At = c.At.Add(-time.Duration(day) * 24 * time.Hour)
			op, err := c.op(docstore.Put, collChunks, chunkID(week, c.At), 0)
			if err != nil {
				b.Fatal(err)
			}
			ops = append(ops, op)
		}
		if err := s.writeAll(b.Context(), ops); err != nil {
			b.Fatal(err)
		}
	}
	var names []string
	for _, c := range catalog.Charts(model.TypeReplicaPrimary)[:10] {
		names = append(names, c.Measurements...)
	}
	for name, q := range map[string]Query{
		"24h":     {Measurements: names, From: benchStart.Add(30 * time.Minute), To: now},
		"7d":      {Measurements: names, From: now.Add(-7 * 24 * time.Hour), To: now},
		"24h-one": {Measurements: []string{"CONNECTIONS"}, From: benchStart.Add(30 * time.Minute), To: now},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var took []time.Duration
			rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // picks hosts
			for b.Loop() {
				if q.Host = hostID(rnd.IntN(hosts)); name == "7d" {
					q.Host = week
				}
				start := time.Now()
				r, err := s.Read(b.Context(), q)
				if err != nil || len(r.Lines) != len(q.Measurements) {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
			b.ReportMetric(float64(len(names)), "lines")
		})
	}
}

// BenchmarkRecent reports the time in which the values of ten measurements are read for HEARTWOOD_BENCH_HOSTS (default 10,000)
// hosts with five rows each: what a pass of the evaluation of alerts begins with.
func BenchmarkRecent(b *testing.B) {
	hosts := 10_000
	if n, err := strconv.Atoi(os.Getenv("HEARTWOOD_BENCH_HOSTS")); err == nil {
		hosts = n
	}
	l := newLoad(b)
	e := benchEngine(b)
	now := benchStart.Add(30 * time.Minute)
	s, err := New(Options{Engine: e, Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]model.HostID, hosts)
	var ops []docstore.Op
	for n := range ids {
		ids[n] = hostID(n)
		h := l.host(n)
		for m := range 5 {
			at := now.Add(time.Duration(m-5)*time.Minute + time.Duration(n%60_000)*time.Millisecond)
			op, err := s.RowOp(ids[n], h.next(at, time.Minute))
			if err != nil {
				b.Fatal(err)
			}
			ops = append(ops, op)
		}
		if len(ops) >= 5_000 || n == hosts-1 {
			if err := s.writeAll(b.Context(), ops); err != nil {
				b.Fatal(err)
			}
			ops = ops[:0]
		}
	}
	names := []string{
		"CONNECTIONS", "OPCOUNTER_INSERT", "OPCOUNTER_QUERY", "OPCOUNTER_CMD", "MEMORY_RESIDENT", "NETWORK_BYTES_IN", "NETWORK_NUM_REQUESTS",
		"GLOBAL_LOCK_CURRENT_QUEUE_TOTAL", "CACHE_BYTES_READ_INTO", "TICKETS_AVAILABLE_READS",
	}
	for name, names := range map[string][]string{"10 measurements": names, "1 measurement": names[:1]} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				got, err := s.Recent(b.Context(), ids, names, now.Add(-3*time.Minute), now)
				if err != nil || len(got) != hosts || len(got[ids[0]]) != len(names) || len(got[ids[0]][names[0]]) != 3 {
					b.Fatal(len(got), len(got[ids[0]]), err)
				}
			}
		})
	}
}
