package catalog

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

var at = time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)

// recorded reads replies from testdata: canonical extended JSON.
func recorded(tb testing.TB, name string) bson.Raw {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	var d bson.D
	if err := bson.UnmarshalExtJSON(text, true, &d); err != nil {
		tb.Fatal(err)
	}
	return marshal(tb, d)
}

func marshal(tb testing.TB, v any) bson.Raw {
	tb.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func extract(tb testing.TB, replies bson.Raw, extra ...Cell) Row {
	tb.Helper()
	row, err := Extract(replies, at, extra...)
	if err != nil {
		tb.Fatal(err)
	}
	return row
}

type want map[string]float64 // "column" or "column|dimension"; NaN: must be absent

func (w want) check(t *testing.T, row Row) {
	t.Helper()
	for key, v := range w {
		column, dim, _ := strings.Cut(key, "|")
		got, ok := row.Get(column, dim)
		switch {
		case math.IsNaN(v):
			if ok {
				t.Errorf("%s = %v, must be absent", key, got.Float64())
			}
		case !ok:
			t.Errorf("%s is absent, must be %v", key, v)
		case got.Float64() != v:
			t.Errorf("%s = %v, must be %v", key, got.Float64(), v)
		}
	}
}

func TestExtractPrimary(t *testing.T) {
	row := extract(t, recorded(t, "replies-primary.json"), Cell{Column: "ctx.primaryWindowSecs", Value: Int(77)})
	want{
		"asserts.user": 17, "opcounters.insert": 2044, "opcountersRepl.insert": 0, "connections.current": 13,
		"connections.available": 15987, "cache.used": 31160189, "cache.max": 268435456, "tickets.read.available": 127,
		"tickets.read.out": 1, "network.in": 22062936, "network.out": 55707942, "cursor.open": 2,
		"opLatencies.reads.micros": 379543, "opLatencies.reads.ops": 620, "document.returned": 5956,
		"queryExecutor.scannedObjects": 46997, "queryExecutor.collectionScans": 107, "process.userMicros": 2279687,
		"checkpoint.ms": 4, "replBuffer.bytes": 0, "flowControl.isLagged": 0, "transactions.committed": 2,
		"repl.state": 1, "repl.lagMs": math.NaN(), "mem.resident": 243, "mem.mapped": math.NaN(),
		"oplog.insertedBytes": 22163390, "oplog.size": 22136903, "oplog.maxSize": 67108864,
		"ctx.primaryWindowSecs": 77, "cores": 2, "cpu.user": 1215710, "cpu.idle": 1824180, "memory.total": 24684092,
		"memory.available": math.NaN(), "swap.total": 0, "machine.netIn": 941458888, "machine.boot": 1795238682,
		"disk.reads|vda": 180099, "disk.readMs|vda": 84400, "disk.queuedMs|vda": 183919,
		"db.dataSize|shop": 21451151, "db.views|shop": 1, "db.collections|shop": 7, "db.objects|shop": 2030,
		"dbTotal.databases": 1, "dbTotal.collections": 7, "dbTotal.views": 1, "dbTotal.dataNoSystem": 21451151,
		"fs.total|data": 270553174016, "fs.used|data": 191611539456,
	}.check(t, row)
	if v, _ := row.Get("db.avgObjSize", "shop"); !v.IsFloat() || math.Abs(v.Float64()-10567.069458128079) > 1e-9 {
		t.Errorf("avgObjSize = %v", v.Float64())
	}
	data, _ := row.Get("dbTotal.data", "")
	if data.Int64() <= 21451151 {
		t.Errorf("the sum over all databases is %d", data.Int64())
	}
	if row.PID != 18333 || row.UptimeMS != 17697 || row.Local.UnixMilli() != 1795232648982 || row.Process != "6b0113779eae5d133c6d9d3c" || !row.At.Equal(at) {
		t.Errorf("identity: %d %d %v %q %v", row.PID, row.UptimeMS, row.Local, row.Process, row.At)
	}
	var last ColumnID
	for _, c := range row.Cells {
		id := must(c.Column)
		if id < last {
			t.Fatalf("cells are not in order at %s", c.Column)
		}
		last = id
	}
}

func TestExtractByRole(t *testing.T) {
	absent := math.NaN()
	cases := map[string]want{
		"secondary":      {"repl.state": 2, "repl.lagMs": 0, "opcounters.command": 0, "opcountersRepl.insert": 0, "tickets.read.total": 128},
		"hidden":         {"repl.state": 2, "repl.lagMs": 0},
		"arbiter":        {"repl.state": 7, "repl.lagMs": absent, "connections.current": 0},
		"standalone":     {"repl.state": absent, "repl.lagMs": absent, "cache.max": 0},
		"mongos":         {"repl.state": absent, "cache.used": absent, "globalLock.queue.readers": absent, "network.requests": 0},
		"config-primary": {"repl.state": 1, "cache.used": 0},
		"shard-primary":  {"repl.state": 1, "opcounters.insert": 0},
	}
	for role, w := range cases {
		t.Run(role, func(t *testing.T) {
			row := extract(t, recorded(t, "replies-"+role+".json"))
			for key, v := range w {
				got, ok := row.Get(key, "")
				if ok == math.IsNaN(v) {
					t.Errorf("%s: present %v (%v)", key, ok, got.Float64())
				}
				if v > 0 && got.Float64() != v || key == "repl.lagMs" && ok && got.Float64() != v {
					t.Errorf("%s = %v, want %v", key, got.Float64(), v)
				}
			}
			if row.Process == "" && role != "mongos" || row.PID == 0 || row.UptimeMS == 0 {
				t.Errorf("identity %q %d %d", row.Process, row.PID, row.UptimeMS)
			}
			if len(row.Cells) < 20 {
				t.Errorf("only %d cells", len(row.Cells))
			}
		})
	}
}

// TestExtractNewerPaths holds the places that 8.0 moved values to.
func TestExtractNewerPaths(t *testing.T) {
	status := bson.M{
		"queues": bson.M{"execution": bson.M{
			"read":  bson.M{"available": int64(9), "out": 1, "totalTickets": 10, "normalPriority": bson.M{"queueLength": int64(3)}, "lowPriority": bson.M{"queueLength": int64(1)}},
			"write": bson.M{"available": 8, "out": 2, "totalTickets": 10, "normalPriority": bson.M{"queueLength": 0}},
		}},
		"wiredTiger": bson.M{
			"concurrentTransactions": bson.M{"read": bson.M{"available": 99, "out": 98}},
			"checkpoint":             bson.M{"most recent time (msecs)": 12},
			"transaction":            bson.M{"transaction checkpoint most recent time (msecs)": 99},
			"cache":                  bson.M{"tracked dirty bytes in the cache": -5, "bytes read into cache": int64(-1), "bytes currently in the cache": 1.5},
		},
		"metrics": bson.M{"repl": bson.M{"buffer": bson.M{"apply": bson.M{"sizeBytes": 7}, "sizeBytes": 99}}},
		"network": bson.M{"bytesIn": 5},
	}
	for _, reversed := range []bool{false, true} {
		d := bson.D{}
		for _, k := range []string{"queues", "wiredTiger", "metrics", "network"} {
			if reversed {
				d = append(bson.D{{Key: k, Value: status[k]}}, d...)
			} else {
				d = append(d, bson.E{Key: k, Value: status[k]})
			}
		}
		want{
			"tickets.read.available": 9, "tickets.read.out": 1, "tickets.write.total": 10, "queue.read.normal": 3, "queue.read.low": 1,
			"checkpoint.ms": 12, "replBuffer.bytes": 7, "cache.dirty": 0, "cache.readInto": math.NaN(), "cache.used": 1.5,
			"network.in": 5, "network.out": math.NaN(),
		}.check(t, extract(t, marshal(t, bson.M{"serverStatus": d})))
	}
}

func TestExtractNumbers(t *testing.T) {
	dec, err := bson.ParseDecimal128("12.5")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		in   any
		want float64
	}{
		"int32":                      {int32(-0), 0},
		"int64 beyond 2^53":          {int64(1<<60 + 1), 1 << 60},
		"double":                     {2.5, 2.5},
		"decimal128":                 {dec, 12.5},
		"bool":                       {true, 1},
		"sentinel":                   {int64(math.MaxInt64), math.NaN()},
		"sentinel through the shell": {9223372036854776000.0, math.NaN()},
		"not a number":               {math.NaN(), math.NaN()},
		"infinity":                   {math.Inf(1), math.NaN()},
		"text":                       {"12", math.NaN()},
		"null":                       {nil, math.NaN()},
		"document":                   {bson.M{"a": 1}, math.NaN()},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			row := extract(t, marshal(t, bson.M{"serverStatus": bson.M{"connections": bson.M{"current": c.in}}}))
			want{"connections.current": c.want}.check(t, row)
		})
	}
	row := extract(t, marshal(t, bson.M{"serverStatus": bson.M{"network": bson.M{"bytesIn": int64(1<<60 + 1)}}}))
	if v, _ := row.Get("network.in", ""); v.Int64() != 1<<60+1 {
		t.Errorf("an integer lost units: %d", v.Int64())
	}
}

func TestExtractDimensions(t *testing.T) {
	row := extract(t, marshal(t, bson.M{"systemMetrics": bson.M{
		"disks":  bson.M{"sda": bson.M{"reads": 1}, "loop0": bson.M{"reads": 2}},
		"mounts": bson.M{"/": bson.M{"capacity": 10, "available": 3, "free": 4}, "/proc": bson.M{"capacity": 0}, "/data/db.1": bson.M{"capacity": 5}},
	}}))
	want{
		"disk.reads|sda": 1, "disk.reads|loop0": math.NaN(), "mount.capacity|/": 10, "mount.available|/": 3, "mount.free|/": 4,
		"mount.capacity|/proc": math.NaN(), "mount.capacity|/data/db.1": 5,
	}.check(t, row)

	many := bson.M{}
	for i := range 400 {
		many[strings.Repeat("x", 1+i%300)+string(rune('a'+i%26))] = bson.M{"reads": 1}
	}
	if n := len(extract(t, marshal(t, bson.M{"systemMetrics": bson.M{"disks": many}})).Cells); n > maxDimensions {
		t.Errorf("%d disks were taken in", n)
	}
}

func TestExtractRound(t *testing.T) {
	list := bson.A{
		bson.M{"db": "a", "collections": 2, "indexes": 3, "views": 1, "dataSize": 10.0, "storageSize": int64(5), "indexSize": 1, "ok": 1},
		bson.M{"db": "admin", "collections": 9, "dataSize": 100, "storageSize": 50, "indexSize": 7, "ok": 1.0},
		bson.M{"db": "broken", "ok": 0, "dataSize": 1000},
		bson.M{"dataSize": 1000},
		"no document",
	}
	w := want{
		"dbTotal.data": 110, "dbTotal.dataNoSystem": 10, "dbTotal.storage": 55, "dbTotal.index": 8, "dbTotal.databases": 1,
		"dbTotal.collections": 2, "dbTotal.indexes": 3, "dbTotal.views": 1, "db.dataSize|admin": 100, "db.dataSize|broken": math.NaN(),
		"fs.total|data": math.NaN(),
	}
	w.check(t, extract(t, marshal(t, bson.M{"dbStats": bson.M{"list": list}})))
	listing := func(names ...string) bson.M {
		databases := bson.A{"no document"}
		for _, n := range names {
			databases = append(databases, bson.M{"name": n, "sizeOnDisk": 1})
		}
		return bson.M{"dbStats": bson.M{"list": list}, "listDatabases": bson.M{"databases": databases}}
	}
	w.check(t, extract(t, marshal(t, listing("a", "admin"))))
	want{"dbTotal.data": math.NaN(), "db.dataSize|a": 10}.check(t, extract(t, marshal(t, listing("a", "admin", "not reached"))))
	want{"dbTotal.data": math.NaN()}.check(t, extract(t, marshal(t, bson.M{"dbStats": bson.M{"list": bson.A{}}})))
}

func TestExtractExtraCells(t *testing.T) {
	empty := marshal(t, bson.M{})
	if _, err := Extract(empty, at, Cell{Column: "no.such", Value: Int(1)}); err == nil {
		t.Error("an unknown column must be refused")
	}
	if _, err := Extract(empty, at, Cell{Column: "cores", Dim: "x", Value: Int(1)}); err == nil {
		t.Error("a dimension where there is none must be refused")
	}
	row := extract(t, empty, Cell{Column: "cores", Value: Int(8)}, Cell{Column: "mount.free", Dim: "/", Value: Int(1)}, Cell{Column: "mount.free", Dim: "/", Value: Int(2)})
	want{"cores": 8, "mount.free|/": 2}.check(t, row)
	if len(row.Cells) != 2 {
		t.Errorf("%d cells", len(row.Cells))
	}
}

func TestExtractOldestServers(t *testing.T) {
	for _, b := range [][]byte{nil, {5, 0, 0, 0}, {5, 0, 0, 0, 1}, {255, 255, 255, 255, 0}} {
		if _, err := Extract(b, at); err == nil {
			t.Errorf("%v must be refused", b)
		}
	}
	row := extract(t, marshal(t, bson.M{"serverStatus": bson.M{"uptime": 12.5, "pid": 7}, "isSelf": bson.M{"id": bson.ObjectID{1}}}))
	if row.UptimeMS != 12500 || row.PID != 7 || row.Process != "010000000000000000000000" {
		t.Errorf("%+v", row)
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte(recorded(f, "replies-primary.json")))
	f.Add([]byte(recorded(f, "replies-secondary.json")))
	f.Add([]byte(marshal(f, bson.M{"dbStats": bson.M{"list": bson.A{bson.M{"db": "a"}}}, "oplogBounds": bson.M{"first": bson.M{"ts": bson.Timestamp{T: 1}}}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		row, err := Extract(b, at)
		if err != nil {
			return
		}
		for _, c := range row.Cells {
			if v := c.Value.Float64(); math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				t.Fatalf("%s = %v", c.Column, v)
			}
		}
		_, _ = ReplicationLag(b)
		_, _ = OplogWindow(b)
	})
}

// BenchmarkExtract measures a whole recorded serverStatus (and a small replSetGetStatus) becoming a row.
func BenchmarkExtract(b *testing.B) {
	status := recorded(b, "serverStatus-primary.json")
	var rest bson.D
	if err := bson.Unmarshal(recorded(b, "replies-primary.json"), &rest); err != nil {
		b.Fatal(err)
	}
	for i := range rest {
		if rest[i].Key == "serverStatus" {
			rest[i].Value = status
		}
	}
	replies := marshal(b, rest)
	b.ReportMetric(float64(len(replies)), "bytes")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Extract(replies, at); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(status)), "statusBytes")
}

func TestDisksThatHoldData(t *testing.T) {
	device, mount := bson.D{{Key: "reads", Value: int64(1)}}, bson.D{{Key: "capacity", Value: int64(1)}}
	disks, mounts := bson.D{}, bson.D{}
	for _, name := range []string{"sda", "loop0", "loop", "ram15", "ramdisk", "loopback1", "nvme0n1"} {
		disks = append(disks, bson.E{Key: name, Value: device})
	}
	for _, name := range []string{
		"/", "/proc", "/proc/kcore", "/system", "/sys/fs/cgroup", "/devdata", "/dev/shm", "/etc/hosts", "/etcd", "/snapshots", "/snap/core/1",
		"/run", "/run/lock", "/run/media/backup", "/running", "/data/with blank/ä",
	} {
		mounts = append(mounts, bson.E{Key: name, Value: mount})
	}
	b, err := bson.Marshal(bson.D{{Key: "systemMetrics", Value: bson.D{{Key: "disks", Value: disks}, {Key: "mounts", Value: mounts}}}})
	if err != nil {
		t.Fatal(err)
	}
	row, err := Extract(b, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range row.Cells {
		if c.Dim != "" {
			got = append(got, c.Dim)
		}
	}
	want := []string{
		"loopback1", "nvme0n1", "ramdisk", "sda", "/", "/data/with blank/ä", "/devdata", "/etcd", "/run/media/backup", "/running", "/snapshots", "/system",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
