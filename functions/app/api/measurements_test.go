package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func (x *site) write(op docstore.Op, err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
	if res, err := x.engine.Write(x.t.Context(), []docstore.Op{op}, true); err != nil || res[0].Err != nil {
		x.t.Fatal(err, res)
	}
}

// measured is a host with a row a minute from 10:00 to 10:06, without the one of 10:03.
func (x *site) measured() model.Host {
	x.t.Helper()
	h := x.host("db1.example.com:27017", func(h *model.Host) { h.Type = model.TypeStandalone })
	start := t0.Truncate(10 * time.Minute)
	for i := range 7 {
		if i == 3 {
			continue
		}
		x.write(x.series.RowOp(h.ID, catalog.Row{
			At: start.Add(time.Duration(i) * time.Minute), UptimeMS: int64(1_000_000 + i*60_000), Process: "6b0113779eae5d133c6d9d3c",
			Cells: []catalog.Cell{
				{Column: "connections.current", Value: catalog.Int(int64(40 + i))},
				{Column: "opcounters.insert", Value: catalog.Int(int64(1000 + i*600))},
				{Column: "db.dataSize", Dim: "shop", Value: catalog.Int(4096)},
				{Column: "mount.available", Dim: "/data", Value: catalog.Int(1 << 30)},
			},
		}))
	}
	return h
}

func TestMeasurements(t *testing.T) {
	x := newSite(t)
	h := x.measured()
	base := "/groups/" + string(x.group.ID) + "/hosts/" + string(h.ID)
	m := x.ok(x.owner, "GET", base+"/measurements?granularity=PT1M&start=2026-03-01T10:00:00Z&end=2026-03-01T10:07:00Z&m=CONNECTIONS&m=OPCOUNTER_INSERT&pageNum=1", "", 200)
	if m["granularity"] != "PT1M" || m["processId"] != "db1.example.com:27017" || m["start"] != "2026-03-01T10:00:00Z" || m["end"] != "2026-03-01T10:07:00Z" || m["hostId"] != string(h.ID) {
		t.Errorf("%v", m)
	}
	if get(m, "links", 1, "rel") != "http://mms.mongodb.com/hostID" || get(m, "measurements", 0, "name") != "CONNECTIONS" || get(m, "measurements", 0, "units") != "SCALAR" {
		t.Errorf("%v", m)
	}
	points, _ := get(m, "measurements", 0, "dataPoints").([]any)
	var got []string
	for _, p := range points {
		got = append(got, fmt.Sprintf("%v=%v", get(p, "timestamp"), get(p, "value")))
	}
	if want := "2026-03-01T10:00:00Z=40 2026-03-01T10:01:00Z=41 2026-03-01T10:02:00Z=42 2026-03-01T10:03:00Z=<nil> 2026-03-01T10:04:00Z=44 2026-03-01T10:05:00Z=45 2026-03-01T10:06:00Z=46"; strings.Join(got, " ") != want {
		t.Errorf("connections %s", got)
	}
	// The first point of a rate has no value; the one after the gap is the average over it.
	if get(m, "measurements", 1, "dataPoints", 0, "value") != nil || get(m, "measurements", 1, "dataPoints", 1, "value") != float64(10) || get(m, "measurements", 1, "dataPoints", 4, "value") != float64(10) {
		t.Errorf("inserts %v", get(m, "measurements", 1, "dataPoints"))
	}
	for _, c := range []struct {
		name, query string
		status      int
		code        any
		granularity string
	}{
		{"a period", "granularity=PT1M&period=PT1H", 200, nil, "PT1M"},
		{"the next coarser series", "granularity=PT30S&period=PT1H", 200, nil, "PT1M"},
		{"a malformed duration that clients send", "granularity=P1T12H&period=P2D", 200, nil, "P1D"},
		{"an offset without a colon", "granularity=PT1M&start=2026-03-01T06:00:00-0400&end=2026-03-01T10:07Z", 200, nil, "PT1M"},
		{"a plus that became a space", "granularity=PT1M&start=2026-03-01T11:00:00+01:00&end=2026-03-01T10:07Z", 200, nil, "PT1M"},
		{"no granularity", "period=PT1H", 400, "MISSING_QUERY_PARAMETER", ""},
		{"an empty granularity, as the SDK sends it", "granularity=&period=PT1H", 400, "MISSING_QUERY_PARAMETER", ""},
		{"a granularity that is none", "granularity=often&period=PT1H", 400, "INVALID_GRANULARITY", ""},
		{"a period that is none", "granularity=PT1M&period=long", 400, "INVALID_PERIOD", ""},
		{"no range", "granularity=PT1M", 400, "MISSING_QUERY_PARAMETER", ""},
		{"half a range", "granularity=PT1M&start=2026-03-01", 400, "MISSING_QUERY_PARAMETER", ""},
		{"two ranges", "granularity=PT1M&start=2026-03-01&end=2026-03-02&period=PT1H", 400, "MUTUALLY_EXCLUSIVE_QUERY_PARAMETERS", ""},
		{"the end before the start", "granularity=PT1M&start=2026-03-02&end=2026-03-01", 400, "START_DATE_AFTER_END_DATE", ""},
		{"an unknown measurement", "granularity=PT1M&period=PT1H&m=SPEED", 404, "INVALID_METRIC_NAME", ""},
		{"one of another resource", "granularity=PT1M&period=PT1H&m=DATABASE_DATA_SIZE", 404, "INVALID_METRIC_NAME", ""},
		{"too fine for old data: nulls, no error", "granularity=PT1M&start=2026-01-01&end=2026-01-02&m=CONNECTIONS", 200, nil, "PT1M"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := x.do(x.owner, "GET", base+"/measurements?"+c.query, "")
			if a.status != c.status || a.json["errorCode"] != c.code || c.granularity != "" && a.json["granularity"] != c.granularity {
				t.Errorf("%d %.400s", a.status, a.body)
			}
		})
	}
	if all := x.ok(x.owner, "GET", base+"/measurements?granularity=PT5M&period=PT1H", "", 200); len(all["measurements"].([]any)) < 30 {
		t.Errorf("without m all measurements are due, got %d", len(all["measurements"].([]any)))
	}
}

func TestDisksAndDatabases(t *testing.T) {
	x := newSite(t)
	h := x.measured()
	base := "/groups/" + string(x.group.ID) + "/hosts/" + string(h.ID)
	for _, c := range []struct{ list, key, name, escaped, metric, missing string }{
		{"databases", "databaseName", "shop", "shop", "DATABASE_DATA_SIZE", "DATABASE_NOT_FOUND"},
		{"disks", "partitionName", "/data", "%2Fdata", "DISK_PARTITION_SPACE_FREE", "DEVICE_NOT_FOUND"},
	} {
		l := x.ok(x.owner, "GET", base+"/"+c.list, "", 200)
		if l["totalCount"] != float64(1) || get(l, "results", 0, c.key) != c.name {
			t.Errorf("%v", l)
		}
		one := x.ok(x.owner, "GET", base+"/"+c.list+"/"+c.escaped, "", 200)
		if one[c.key] != c.name || !strings.HasSuffix(fmt.Sprint(get(one, "links", 0, "href")), c.escaped) {
			t.Errorf("%v", one)
		}
		m := x.ok(x.owner, "GET", base+"/"+c.list+"/"+c.escaped+"/measurements?granularity=PT1M&period=PT7M&m="+c.metric, "", 200)
		if m[c.key] != c.name || get(m, "measurements", 0, "dataPoints", 0, "value") == nil {
			t.Errorf("%v", m)
		}
		for _, path := range []string{"/none", "/none/measurements?granularity=PT1M&period=PT1H"} {
			if a := x.do(x.owner, "GET", base+"/"+c.list+path, ""); a.status != 404 || a.json["errorCode"] != c.missing {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
	}
}

func TestLastPing(t *testing.T) {
	x := newSite(t)
	g := "/groups/" + string(x.group.ID)
	if a := x.do(x.owner, "GET", g+"/lastPing", ""); a.status != 404 || a.json["errorCode"] != "LAST_PING_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}
	h := x.host("db1:27017", nil)
	raw, err := bson.Marshal(bson.D{{Key: "hello", Value: bson.D{{Key: "setName", Value: "rs0"}}}})
	if err != nil {
		t.Fatal(err)
	}
	z, err := wire.EncodeReplies(raw)
	if err != nil {
		t.Fatal(err)
	}
	x.write(x.inv.LastPingOp(model.LastPing{HostID: h.ID, GroupID: x.group.ID, At: t0, Replies: z}))
	x.write(x.inv.StatusOp(model.HostStatus{HostID: h.ID, GroupID: x.group.ID, At: t0, LastPing: t0, Reach: model.ReachUp, ReachSince: t0}))
	one := x.ok(x.owner, "GET", g+"/hosts/"+string(h.ID)+"/lastPing", "", 200)
	if get(one, "ping", "hello", "setName") != "rs0" {
		t.Errorf("%v", one)
	}
	if all := x.ok(x.owner, "GET", g+"/lastPing", "", 200); get(all, "results", 0, "ping", "hello", "setName") != "rs0" {
		t.Errorf("%v", all)
	}
}

// TestDatabaseAway: what is not the caller's fault says so and can be tried again.
func TestDatabaseAway(t *testing.T) {
	x := newSite(t)
	if err := x.engine.Close(); err != nil {
		t.Fatal(err)
	}
	a := x.do(x.owner, "GET", "/groups", "")
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || a.json["error"] != float64(503) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestMeasurementEdges: ranges without a whole interval, names in several spellings, hosts and times without data.
func TestMeasurementEdges(t *testing.T) {
	x := newSite(t)
	h := x.measured()
	at := "/groups/" + string(x.group.ID) + "/hosts/" + string(h.ID) + "/measurements?"
	points := func(m map[string]any, i int) []any { p, _ := get(m, "measurements", i, "dataPoints").([]any); return p }
	for query, n := range map[string]int{
		"granularity=PT1H&period=PT5M": 1, "granularity=P1D&period=PT1H": 1, "granularity=PT1M&period=PT1M": 1,
		"granularity=PT1M&start=2026-03-01T10:05:00Z&end=2026-03-01T10:05:00Z": 1,
		"granularity=PT1M&start=2026-03-01T10:05:10Z&end=2026-03-01T10:05:50Z": 1,
		"granularity=PT5M&period=P1T12H":                                       432,
	} {
		if m := x.ok(x.owner, "GET", at+query+"&m=CONNECTIONS", "", 200); len(points(m, 0)) != n {
			t.Errorf("%s: %d points, want %d; %v to %v", query, len(points(m, 0)), n, m["start"], m["end"])
		}
	}
	// Too fine or too old: every point is there, without a value.
	old := x.ok(x.owner, "GET", at+"granularity=PT1H&start=2025-01-01&end=2025-01-02&m=CONNECTIONS", "", 200)
	if p := points(old, 0); len(p) != 24 || get(p[0], "value") != nil || get(p[0], "timestamp") != "2025-01-01T00:00:00Z" {
		t.Errorf("%v", old)
	}
	// What such a process does not have: no points.
	none := x.ok(x.owner, "GET", at+"granularity=PT1M&period=PT5M&m=CONNECTIONS&m=OPLOG_SLAVE_LAG_MASTER_TIME", "", 200)
	if len(points(none, 0)) != 5 || get(none, "measurements", 1, "dataPoints") == nil || len(points(none, 1)) != 0 {
		t.Errorf("%v", none)
	}
	// Each name that was asked for is answered, in the order and spelling of the question.
	both := x.ok(x.owner, "GET", at+"granularity=PT1M&period=PT5M&m=TICKETS_AVAILABLE_READ&m=CONNECTIONS&m=TICKETS_AVAILABLE_READS&m=MAX_SYSTEM_CPU_USER&m=CONNECTIONS", "", 200)
	var names []string
	for i := range get(both, "measurements").([]any) {
		names = append(names, fmt.Sprint(get(both, "measurements", i, "name")))
	}
	if got := strings.Join(names, " "); got != "TICKETS_AVAILABLE_READ CONNECTIONS TICKETS_AVAILABLE_READS MAX_SYSTEM_CPU_USER" {
		t.Errorf("%s", got)
	}
	for _, query := range []string{
		"granularity=PT1M&start=2025-11-01&end=2026-03-01&m=CONNECTIONS", // more points than an answer holds
		"granularity=P1D&start=0001-01-01&end=9999-01-01&m=CONNECTIONS",
		"granularity=PT1M&period=P9Y",
	} {
		x.refused(x.owner, "GET", at+query, "", 400, "INVALID_PERIOD")
	}
	fresh := x.host("db9.example.com:27017", nil) // never answered
	m := x.ok(x.owner, "GET", strings.Replace(at, string(h.ID), string(fresh.ID), 1)+"granularity=PT1M&period=PT5M", "", 200)
	if list, ok := m["measurements"].([]any); !ok || len(list) == 0 {
		t.Errorf("%v", m)
	}
	if head := x.do(x.owner, "HEAD", at+"granularity=PT1M&period=PT5M", ""); head.status != 200 || len(head.body) != 0 {
		t.Errorf("%d %s", head.status, head.body)
	}
}

// TestPartitions: devices count operations, mount points space, and what only dbStats tells is a volume "data"; each is listed
// and answers what there is of it, also to clients that do not escape the slash.
func TestPartitions(t *testing.T) {
	x := newSite(t)
	h := x.host("db1.example.com:27017", func(h *model.Host) { h.Type = model.TypeStandalone })
	for i := range 7 {
		n := int64(i)
		x.write(x.series.RowOp(h.ID, catalog.Row{
			At: t0.Add(time.Duration(i-7) * time.Minute), UptimeMS: 1_000_000 + n*60_000, Process: "6b0113779eae5d133c6d9d3c",
			Cells: []catalog.Cell{
				{Column: "disk.reads", Dim: "nvme0n1", Value: catalog.Int(n * 600)},
				{Column: "disk.writes", Dim: "nvme0n1", Value: catalog.Int(n * 60)},
				{Column: "mount.available", Dim: "/", Value: catalog.Int(1 << 30)},
				{Column: "mount.available", Dim: "/data/db", Value: catalog.Int(1 << 30)},
				{Column: "fs.total", Dim: catalog.DataVolume, Value: catalog.Float(100)},
				{Column: "fs.used", Dim: catalog.DataVolume, Value: catalog.Float(40)},
			},
		}))
	}
	base := "/groups/" + string(x.group.ID) + "/hosts/" + string(h.ID) + "/disks"
	list := x.ok(x.owner, "GET", base, "", 200)
	var names []string
	for i := range get(list, "results").([]any) {
		names = append(names, fmt.Sprint(get(list, "results", i, "partitionName")))
	}
	if got := strings.Join(names, " "); got != "nvme0n1 / /data/db data" {
		t.Errorf("partitions %s", got)
	}
	const query = "/measurements?granularity=PT1M&period=PT7M"
	for path, c := range map[string]struct {
		name, metric string
		value        any
	}{
		"/nvme0n1":      {"nvme0n1", "DISK_PARTITION_IOPS_READ", float64(10)},
		"/data":         {"data", "DISK_PARTITION_SPACE_FREE", float64(60)},
		"/%2Fdata%2Fdb": {"/data/db", "DISK_PARTITION_SPACE_FREE", float64(1 << 30)},
		"//data/db":     {"/data/db", "DISK_PARTITION_SPACE_FREE", float64(1 << 30)},
		"/%2F":          {"/", "DISK_PARTITION_SPACE_FREE", float64(1 << 30)},
	} {
		one := x.ok(x.owner, "GET", base+path, "", 200)
		if one["partitionName"] != c.name {
			t.Errorf("%s is %v", path, one["partitionName"])
		}
		m := x.ok(x.owner, "GET", base+path+query, "", 200)
		found := false
		for i := range get(m, "measurements").([]any) {
			if get(m, "measurements", i, "name") == c.metric {
				found = get(m, "measurements", i, "dataPoints", 6, "value") == c.value
			}
		}
		if !found || m["partitionName"] != c.name {
			t.Errorf("%s: %v", path, m)
		}
	}
	x.refused(x.owner, "GET", base+"/data/measurements/x", "", 404, "DEVICE_NOT_FOUND")
	x.refused(x.owner, "GET", base+"/nowhere"+query, "", 404, "DEVICE_NOT_FOUND")
}
