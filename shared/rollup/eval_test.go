package rollup

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

// sample is one row of a table: minutes after t0, uptime in minutes (0: the same), values by "column" or "column|dim".
type sample struct {
	minute  float64
	process string
	values  map[string]float64
}

func frame(t *testing.T, samples []sample) *Frame {
	t.Helper()
	rows := make([]catalog.Row, len(samples))
	for i, s := range samples {
		at := t0.Add(time.Duration(s.minute * float64(time.Minute)))
		rows[i] = catalog.Row{At: at, UptimeMS: 3_600_000 + at.Sub(t0).Milliseconds(), Process: s.process}
		for _, c := range catalog.Columns() {
			for key, v := range s.values {
				name, dim := key, ""
				for k := range key {
					if key[k] == '|' {
						name, dim = key[:k], key[k+1:]
					}
				}
				if name == c.Name {
					rows[i].Cells = append(rows[i].Cells, catalog.Cell{Column: name, Dim: dim, Value: catalog.Float(v)})
				}
			}
		}
	}
	return FrameOf(rows)
}

// one makes samples of one column, a minute apart; NaN leaves the value out.
func one(column string, values ...float64) []sample {
	out := make([]sample, len(values))
	for i, v := range values {
		out[i] = sample{minute: float64(i), process: "p", values: map[string]float64{}}
		if !math.IsNaN(v) {
			out[i].values[column] = v
		}
	}
	return out
}

func with(s []sample, column string, values ...float64) []sample {
	for i, v := range values {
		if !math.IsNaN(v) {
			s[i].values[column] = v
		}
	}
	return s
}

func at(s []sample, minutes ...float64) []sample {
	for i, m := range minutes {
		s[i].minute = m
	}
	return s
}

func processes(s []sample, names ...string) []sample {
	for i, n := range names {
		s[i].process = n
	}
	return s
}

func TestRules(t *testing.T) {
	x := math.NaN()
	cases := []struct {
		name        string
		measurement string
		dim         string
		samples     []sample
		want        []float64
	}{
		{"a rate a second, none for the first", "OPCOUNTER_INSERT", "", one("opcounters.insert", 0, 60, 60, 180), []float64{x, 1, 0, 2}},
		{"a counter that went back has no rate, and is the new base", "NETWORK_BYTES_IN", "", one("network.in", 6000, 0, 600), []float64{x, x, 10}},
		{"integers beyond 2^53 keep their units", "NETWORK_BYTES_IN", "", one("network.in", 1<<59, 1<<59+7680), []float64{x, 128}},
		{"opcounters go back together", "OPCOUNTER_QUERY", "", with(one("opcounters.query", 0, 600, 1200), "opcounters.insert", 1<<52, 5, 10), []float64{x, x, 10}},
		{"those of replication do not take part", "OPCOUNTER_REPL_INSERT", "", with(one("opcountersRepl.insert", 0, 600), "opcounters.insert", 100, 5), []float64{x, 10}},
		{"asserts that rolled over have no rate though they grew", "ASSERT_USER", "", with(one("asserts.user", 0, 600, 1200), "asserts.rollovers", 0, 1, 1), []float64{x, x, 10}},
		{"another process has no rate though the counter grew", "OPCOUNTER_INSERT", "", processes(one("opcounters.insert", 0, 60, 120), "a", "b", "b"), []float64{x, x, 1}},
		{"the average over a gap of five minutes", "OPCOUNTER_INSERT", "", at(one("opcounters.insert", 0, 300), 0, 5), []float64{x, 1}},
		{"nothing after a longer gap", "OPCOUNTER_INSERT", "", at(one("opcounters.insert", 0, 300, 360), 0, 6, 7), []float64{x, x, 1}},
		{"a sample too soon is dropped, and the next measured from the one before it", "OPCOUNTER_INSERT", "", at(one("opcounters.insert", 0, 60, 61, 120), 0, 1, 1.1, 2), []float64{x, 1, x, 1}},
		{"a missing value is passed over", "OPCOUNTER_INSERT", "", one("opcounters.insert", 0, x, 120), []float64{x, x, 1}},
		{"counters that are asked for seldom may lie far apart", "OPLOG_RATE_GB_PER_HOUR", "", at(one("oplog.insertedBytes", 0, x, 1<<30), 0, 10, 20), []float64{x, x, 3}},
		{"the oplog's average where there is no counter", "OPLOG_RATE_GB_PER_HOUR", "", with(one("oplog.size", 1<<30), "oplog.windowSecs", 7200), []float64{0.5}},
		{"how long the oplog lasts", "OPLOG_MASTER_TIME_ESTIMATED_TTL", "", with(one("oplog.insertedBytes", 0, 6000), "oplog.maxSize", 1e6, 1e6), []float64{x, 10000}},

		{"a quotient of growths", "OP_EXECUTION_TIME_READS", "", with(one("opLatencies.reads.micros", 0, 10_000, 10_000), "opLatencies.reads.ops", 0, 5, 5), []float64{x, 2, x}},
		{"scanned without any returned counts against one", "QUERY_TARGETING_SCANNED_PER_RETURNED", "", with(one("queryExecutor.scanned", 0, 50, 50, 60), "document.returned", 0, 0, 0, 5), []float64{x, 50, x, 2}},
		{"a miss ratio", "INDEX_COUNTERS_BTREE_MISS_RATIO", "", with(one("indexCounters.misses", 0, 1), "indexCounters.accesses", 0, 4), []float64{x, 0.25}},

		{"a gauge as it is", "CONNECTIONS", "", one("connections.current", 3, x, 5), []float64{3, x, 5}},
		{"a share of gauges", "CONNECTIONS_PERCENT", "", with(one("connections.current", 25, 0), "connections.available", 75, 0), []float64{25, x}},
		{"lag in seconds with decimals", "OPLOG_REPLICATION_LAG_TIME", "", one("repl.lagMs", 2750), []float64{2.75}},
		{"and in whole ones", "OPLOG_SLAVE_LAG_MASTER_TIME", "", one("repl.lagMs", 2750), []float64{2}},
		{"headroom", "OPLOG_MASTER_LAG_TIME_DIFF", "", with(one("repl.lagMs", 2000, 2000), "ctx.primaryWindowSecs", 100), []float64{98, x}},
		{"mapped memory is none where the server does not say", "MEMORY_MAPPED", "", with(one("mem.virtual", 10, 10), "mem.mapped", x, 4), []float64{0, 4}},
		{"computed memory by what there is", "COMPUTED_MEMORY", "", with(with(one("mem.virtual", 10, 10, 10), "mem.mapped", x, 4, 4), "mem.mappedWithJournal", x, x, 12), []float64{10, 6, 0}},
		{"uptime is every sample's own", "UPTIME", "", one("connections.current", 1, 1), []float64{3600, 3660}},

		{"queues of 8.0", "GLOBAL_LOCK_CURRENT_QUEUE_READERS", "", with(with(one("queue.read.normal", 3), "queue.read.low", 1), "globalLock.queue.readers", 99), []float64{4}},
		{"queues by tickets", "GLOBAL_LOCK_CURRENT_QUEUE_READERS", "", with(with(one("globalLock.queue.readers", 3, 0), "globalLock.active.readers", 2, 1), "tickets.read.out", 4, 5), []float64{1, 0}},
		{"queues without tickets", "GLOBAL_LOCK_CURRENT_QUEUE_READERS", "", with(one("globalLock.queue.readers", 3), "globalLock.active.readers", 2), []float64{3}},
		{"both queues", "GLOBAL_LOCK_CURRENT_QUEUE_TOTAL", "", with(one("globalLock.queue.readers", 3, 3), "globalLock.queue.writers", 4, x), []float64{7, x}},

		{"processor time of the process", "PROCESS_CPU_USER", "", one("process.userMicros", 0, 30e6), []float64{x, 50}},
		{"as a share of the machine", "PROCESS_NORMALIZED_CPU_USER", "", with(one("process.userMicros", 0, 30e6, 60e6), "cores", 4, 4, 0), []float64{x, 12.5, x}},
		{"the cores are told once an hour", "PROCESS_NORMALIZED_CPU_USER", "", with(one("process.userMicros", 0, 30e6, 90e6), "cores", x, 4, x), []float64{x, 12.5, 25}},
		{"processor time of the machine", "SYSTEM_NORMALIZED_CPU_USER", "", with(with(with(with(one("cpu.user", 0, 300), "cpu.guest", 0, 100), "cpu.system", 0, 100), "cpu.idle", 0, 600), "cpu.iowait", 50, 40), []float64{x, 20}},
		{"times the cores", "SYSTEM_CPU_KERNEL", "", with(with(with(one("cpu.user", 0, 0), "cpu.system", 0, 250), "cpu.idle", 0, 750), "cores", 8, 8), []float64{x, 200}},
		{"a machine's counters outlive the process", "SYSTEM_NORMALIZED_CPU_KERNEL", "", processes(with(with(one("cpu.user", 0, 0), "cpu.system", 0, 1), "cpu.idle", 0, 3), "a", "b"), []float64{x, 25}},
		{"but not the machine", "SWAP_IO_IN", "", with(one("swap.in", 0, 600, 1200), "machine.boot", 1000, 2000, 2001), []float64{x, x, 10}},
		{"a machine's interval is by its own clock", "SWAP_IO_IN", "", with(one("swap.in", 0, 600), "machine.at", 1_000_000, 1_030_000), []float64{x, 20}},
		{"the same sample of the machine twice gives nothing", "SWAP_IO_IN", "", with(one("swap.in", 0, 0), "machine.at", 1_000_000, 1_000_000), []float64{x, x}},

		{"disks by name", "DISK_PARTITION_IOPS_TOTAL", "sda", with(with(one("disk.reads|sda", 0, 60), "disk.writes|sda", 0, 120), "disk.reads|sdb", 0, 6000), []float64{x, 3}},
		{"latency of a disk", "DISK_PARTITION_LATENCY_READ", "sda", with(one("disk.readMs|sda", 0, 30, 30), "disk.reads|sda", 0, 10, 10), []float64{x, 3, x}},
		{"utilisation is at most all", "DISK_PARTITION_UTILIZATION", "sda", one("disk.ioMs|sda", 0, 30_000, 130_000), []float64{x, 50, 100}},
		{"a 32-bit counter of milliseconds wraps", "DISK_QUEUE_DEPTH", "sda", one("disk.queuedMs|sda", 1<<32-30_000, 30_000), []float64{x, 1}},
		{"but not by more than can be", "DISK_QUEUE_DEPTH", "sda", one("disk.queuedMs|sda", 4_000_000_000, 0, 30_000), []float64{x, x, 0.5}},
		{"space on a volume", "DISK_PARTITION_SPACE_PERCENT_USED", "/", with(with(one("mount.capacity|/", 1000), "mount.free|/", 300), "mount.available|/", 200), []float64{700.0 / 900 * 100}},
		{"as dbStats tells it", "DISK_PARTITION_SPACE_PERCENT_FREE", "data", with(one("fs.total|data", 1000), "fs.used|data", 300), []float64{70}},
		{"a restart is counted", "RESTARTS_IN_LAST_HOUR", "", nil, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m, ok := catalog.Find(c.measurement)
			if !ok {
				t.Fatal("no such measurement")
			}
			got := NewEvaluator(frame(t, c.samples)).Points(&m, c.dim)
			for i, w := range c.want {
				v := got[i].Value
				if !got[i].OK {
					v = math.NaN()
				}
				if math.IsNaN(w) != math.IsNaN(v) || math.Abs(v-w) > 1e-9*max(1, math.Abs(w)) {
					t.Errorf("sample %d: %v, want %v", i, v, w)
				}
			}
		})
	}
}

func TestRestartsAreFound(t *testing.T) {
	samples := processes(one("connections.current", 1, 1, 1), "a", "a", "b")
	f := frame(t, samples)
	f.Samples[2].UptimeMS = 20_000
	m, _ := catalog.Find("RESTARTS_IN_LAST_HOUR")
	p := NewEvaluator(f).Points(&m, "")
	if p[0].OK || p[1].Value != 0 || p[2].Value != 1 {
		t.Errorf("%+v", p)
	}
	f.Samples[2].UptimeMS = 7_200_000 // started long before it was seen
	if p := NewEvaluator(f).Points(&m, ""); p[2].Value != 0 {
		t.Errorf("a start two hours ago counts for the last hour: %+v", p[2])
	}
}

func TestPeriod(t *testing.T) {
	tens := make([]sample, 60)
	for i := range tens {
		tens[i] = sample{minute: float64(i) / 6, process: "p", values: map[string]float64{"opcounters.insert": float64(i) * 10}}
	}
	f := frame(t, tens)
	if Period(f.Samples) != 10*time.Second || Period(nil) != time.Minute {
		t.Error("period")
	}
	m, _ := catalog.Find("OPCOUNTER_INSERT")
	for i, p := range NewEvaluator(f).Points(&m, "")[1:] {
		if !p.OK || math.Abs(p.Value-1) > 1e-3 {
			t.Fatalf("sample %d: %+v", i+1, p)
		}
	}
	// A host that changed from one period to the other loses nothing.
	mixed := append([]sample(nil), tens[:12]...)
	for i := range 30 {
		mixed = append(mixed, sample{minute: 3 + float64(i), process: "p", values: map[string]float64{"opcounters.insert": 1000 + float64(i)*60}})
	}
	ok := 0
	for _, p := range NewEvaluator(frame(t, mixed)).Points(&m, "") {
		if p.OK {
			ok++
		}
	}
	if ok < len(mixed)-3 {
		t.Errorf("%d of %d samples have a rate", ok, len(mixed))
	}
}

// TestRatesAddUp: whatever the distances and missing samples, rates times their seconds are the counter's growth, and
// buckets of any size keep count, sum, extremes and last.
func TestRatesAddUp(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	m, _ := catalog.Find("NETWORK_BYTES_IN")
	q, _ := catalog.Find("OP_EXECUTION_TIME_READS")
	for range 300 {
		n := 2 + rnd.IntN(100)
		samples := make([]sample, n)
		minute, value, micros, ops := 0.0, rnd.Int64N(1<<50), int64(0), int64(0)
		for i := range samples {
			samples[i] = sample{minute: minute, process: "p", values: map[string]float64{
				"network.in": float64(value), "opLatencies.reads.micros": float64(micros), "opLatencies.reads.ops": float64(ops),
			}}
			minute += float64(1 + rnd.IntN(4))
			value += rnd.Int64N(1 << 30)
			ops += rnd.Int64N(100)
			micros += rnd.Int64N(1 << 20)
		}
		f := frame(t, samples)
		points := NewEvaluator(f).Points(&m, "")
		grown := 0.0
		var whole Agg
		for i, p := range points {
			if p.OK != (i > 0) {
				t.Fatalf("sample %d: %+v", i, p)
			}
			if p.Value < 0 {
				t.Fatal("a negative rate")
			}
			if i > 0 {
				grown += p.Value * f.Samples[i].At.Sub(f.Samples[i-1].At).Seconds()
			}
			whole.Add(p)
		}
		want := samples[n-1].values["network.in"] - samples[0].values["network.in"]
		if math.Abs(grown-want) > 1e-6*want {
			t.Fatalf("grew by %v, rates say %v", want, grown)
		}
		// Cut at random places and merged again, in two levels.
		var merged, part Agg
		for _, p := range points {
			part.Add(p)
			if rnd.IntN(4) == 0 {
				merged.Merge(part)
				part = Agg{}
			}
		}
		merged.Merge(part)
		if math.Abs(merged.Sum-whole.Sum) > 1e-6*whole.Sum {
			t.Fatalf("sums: %v, %v", merged.Sum, whole.Sum)
		}
		merged.Sum = whole.Sum
		if merged != whole {
			t.Fatalf("merged %+v, whole %+v", merged, whole)
		}
		if whole.Min > whole.Value(&m)+1e-9 || whole.Max < whole.Value(&m)-1e-9 {
			t.Fatalf("the mean is outside: %+v", whole)
		}
		// A quotient of a bucket is the ratio of the sums.
		var ratio Agg
		for _, p := range NewEvaluator(f).Points(&q, "") {
			ratio.Add(p)
		}
		if ops := samples[n-1].values["opLatencies.reads.ops"]; ratio.Count > 0 && ops > 0 {
			counted := 0.0 // intervals without operations have no quotient, and their time is not in it
			for i := 1; i < n; i++ {
				if samples[i].values["opLatencies.reads.ops"] > samples[i-1].values["opLatencies.reads.ops"] {
					counted += samples[i].values["opLatencies.reads.micros"] - samples[i-1].values["opLatencies.reads.micros"]
				}
			}
			if w := counted / ops / 1000; math.Abs(ratio.Value(&q)-w) > 1e-9*w {
				t.Fatalf("quotient %v, want %v", ratio.Value(&q), w)
			}
		}
	}
}

func TestAggValue(t *testing.T) {
	find := func(name string) *catalog.Measurement {
		m, ok := catalog.Find(name)
		if !ok {
			t.Fatal(name)
		}
		return &m
	}
	a := Agg{Count: 2, Sum: 10, Min: 3, Max: 7, Last: 3, Num: 8, Den: 0.5}
	for name, want := range map[string]float64{
		"CONNECTIONS": 5, "MAX_PROCESS_CPU_USER": 7, "DATABASE_DATA_SIZE": 3, "OP_EXECUTION_TIME_READS": 16,
		"QUERY_TARGETING_SCANNED_PER_RETURNED": 8, "RESTARTS_IN_LAST_HOUR": 10, "OPLOG_RATE_GB_PER_HOUR": 5,
	} {
		if got := a.Value(find(name)); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	var empty Agg
	if !math.IsNaN(empty.Value(find("CONNECTIONS"))) {
		t.Error("an empty bucket has no value")
	}
	if b := Bucket(t0.Add(90*time.Minute), 24*time.Hour); b.Hour() != 0 || b.Day() != 21 {
		t.Errorf("day: %s", b)
	}
}

// FuzzPoints builds rows from bytes and computes the whole catalogue: nothing may panic, be infinite or a negative rate.
func FuzzPoints(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Add([]byte{0, 255, 1, 254, 2, 253, 3, 252})
	all, columns := catalog.Measurements(), catalog.Columns()
	f.Fuzz(func(t *testing.T, b []byte) {
		at := t0
		var rows []catalog.Row
		for len(b) > 4 && len(rows) < 20 {
			at = at.Add(time.Duration(1+int(b[0])) * time.Second)
			row := catalog.Row{At: at, UptimeMS: int64(b[1]) * 10_000, PID: int64(b[2] & 1), Process: string('a' + rune(b[3]&1))}
			n := int(b[4])
			b = b[5:]
			for i, c := range columns {
				if i+1 < len(b) && (i+n)%3 != 0 {
					dim := ""
					if c.Scope != catalog.Process {
						dim = "d"
					}
					v := int64(b[i]) << (b[i+1] % 56)
					row.Cells = append(row.Cells, catalog.Cell{Column: c.Name, Dim: dim, Value: catalog.Float(float64(v) / 4)})
				}
			}
			rows = append(rows, row)
		}
		e := NewEvaluator(FrameOf(rows))
		for i := range all {
			for _, p := range e.Points(&all[i], "d") {
				if p.OK && (math.IsNaN(p.Value) || math.IsInf(p.Value, 0) || p.Value < 0 && all[i].Kind != catalog.Gauge) {
					t.Fatalf("%s: %+v", all[i].Name, p)
				}
			}
		}
	})
}
