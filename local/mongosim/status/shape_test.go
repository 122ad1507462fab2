package status_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/local/mongosim/status/process"
	"github.com/heartwood-db/heartwood/local/mongosim/status/template"
	"github.com/heartwood-db/heartwood/shared/model"
)

// recordedVersion is that of the processes the recordings in testdata were made from.
var recordedVersion = status.Version{4, 5, 1}

// view is a member of a set like the recorded one: primary, secondary, hidden member and arbiter.
func view(t testing.TB, v status.Version, self int) *status.View {
	t.Helper()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	op := status.OpTime{TS: bson.Timestamp{T: uint32(now.Unix()), I: 4}, Term: 3}
	member := func(id int32, state model.MemberState) status.Member {
		m := status.Member{
			ID: id, Host: fmt.Sprintf("127.0.0.1:%d", 27117+id), Priority: 1, Votes: 1, State: state, Up: true, Since: now.Add(-time.Hour),
			Applied: op, AppliedWall: now, SyncSource: 0, LastHeartbeat: now, Tags: bson.D{},
		}
		if state == model.StatePrimary || state == model.StateArbiter {
			m.SyncSource = -1
		}
		return m
	}
	set := &status.Set{
		Name: "rs0", ID: bson.NewObjectID(), ConfigVersion: 1, ConfigTerm: 1, Term: 3, Self: self, Primary: 0, Committed: op, CommittedWall: now,
		RBID: 1, ElectionMS: 10000,
		Members: []status.Member{member(0, model.StatePrimary), member(1, model.StateSecondary), member(2, model.StateSecondary), member(3, model.StateArbiter)},
	}
	set.Members[1].Tags = bson.D{{Key: "dc", Value: "east"}}
	set.Members[2].Hidden, set.Members[2].Priority = true, 0
	set.Members[3].Arbiter, set.Members[3].Priority, set.Members[3].Applied, set.Members[3].AppliedWall = true, 0, status.NoOpTime(), time.Time{}
	e := &status.Election{Reason: "electionTimeout", At: now.Add(-time.Hour), Term: 3, Winner: 0, Prior: -1, LastSeen: op, Committed: op}
	if self == 0 {
		set.Election = e
	} else {
		set.LastVote = e
	}
	out := &status.View{
		Now: now, Started: now.Add(-time.Hour), Version: v, Hostname: "db1.example.net", Port: 27117 + self, PID: 4242, ProcessID: bson.NewObjectID(), Topology: 6,
		Booted: now.Add(-100 * time.Hour), Role: []load.Role{load.Primary, load.Secondary, load.Secondary, load.Arbiter}[self], Set: set, Activity: 3600,
	}
	if self != 3 {
		out.Oplog = &status.Oplog{First: bson.Timestamp{T: op.TS.T - 3600, I: 1}, Last: op.TS, Count: 2943, Size: 22136903, MaxSize: 64 << 20}
	}
	m, tab := load.New(1), load.NewTable()
	tab.Add(&out.Counts, m, out.Role, out.Started, now)
	tab.Add(&out.Machine, m, out.Role, out.Booted, now)
	out.Gauges = m.At(out.Role, now, out.Started, out.Counts[load.OplogBytes])
	return out
}

func standalone(t testing.TB, v status.Version) *status.View {
	out := view(t, v, 0)
	out.Set, out.Oplog, out.Role = nil, nil, load.Standalone
	return out
}

func kit(t testing.TB, v status.Version) *status.Kit {
	t.Helper()
	k, err := status.NewKit(v)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func raw(t testing.TB, d any) bson.Raw {
	t.Helper()
	if r, ok := d.(bson.Raw); ok {
		if err := r.Validate(); err != nil {
			t.Fatalf("invalid BSON: %v", err)
		}
		return r
	}
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// kinds lists the paths of a document with their types; elements of an array share one path.
func kinds(r bson.Raw, prefix string, loose bool, into map[string]string) {
	elems, err := r.Elements()
	if err != nil {
		panic(err)
	}
	for _, e := range elems {
		kindOf(e.Value(), strings.TrimPrefix(prefix+template.Sep+e.Key(), template.Sep), loose, into)
	}
}

func kindOf(v bson.RawValue, path string, loose bool, into map[string]string) {
	kind := v.Type.String()
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		kinds(v.Document(), path, loose, into)
	case bson.TypeArray:
		vals, err := v.Array().Values()
		if err != nil {
			panic(err)
		}
		for _, x := range vals {
			kindOf(x, path+"[]", loose, into)
		}
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble:
		if loose {
			kind = "number"
		}
	}
	into[path] = kind
}

func readJSON(t testing.TB, file string) bson.Raw {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r bson.Raw
	if err := bson.UnmarshalExtJSON(b, true, &r); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return r
}

// allowed are the differences to the recordings that are meant, each with its reason.
var allowed = []struct {
	path   *regexp.Regexp
	reason string
}{
	{regexp.MustCompile(`connectionId$`), "added by the listener"},
	{regexp.MustCompile(`psmdbVersion|ratelimit`), "the recorded build is a vendor's; these are its own fields"},
	{regexp.MustCompile(`^(data\|serverStatus\|)?transactions\|lastCommittedTransaction`), "only after a transaction"},
	{regexp.MustCompile(`^data\|serverStatus\|(locks|metrics|oplogTruncation|repl|security|network\|tcpFastOpen)`), "the recorded set of one member lacks what a larger one has"},
	{regexp.MustCompile(`^locks\|`), "depends on what ran since the start"},
	{regexp.MustCompile(`^(data\|replSetGetStatus\|)?members\[\]\|`), "checked for each member in TestMemberShapes"},
	{regexp.MustCompile(`^data\|replSetGetStatus\|electionCandidateMetrics`), "only of the primary's own election"},
	{regexp.MustCompile(`^parsed\||^argv`), "the options differ"},
	{regexp.MustCompile(`^extra\|mountInfo`), "the recorded machine hid its mounts"},
	{regexp.MustCompile(`^totals\|`), "the namespaces differ"},
	{regexp.MustCompile(`^(pools|hosts)\|`), "the hosts differ"},
	{regexp.MustCompile(`^config\|members\[\]\|tags\|`), "tags are the user's"},
	{regexp.MustCompile(`^data\|systemMetrics\|(disks|memory|vmstat|netstat|cpu)\|`), "the machine's kernel decides; what the catalogue reads is checked by TestDiagnosticDataHasWhatIsRead"},
	{regexp.MustCompile(`^data\|local\.oplog\.rs\.stats\|`), "compared by collStats; trimmed in the recording"},
}

// sized allows statistics that servers write with 32 or 64 bits by their size.
func sized(path, a, b string) bool {
	integer := func(k string) bool { return k == bson.TypeInt32.String() || k == bson.TypeInt64.String() }
	return integer(a) && integer(b) && regexp.MustCompile(`wiredTiger\||^(size|count|avgObjSize|storageSize|maxSize|totalSize)$`).MatchString(path)
}

func compare(t *testing.T, got, want bson.Raw, loose bool, more ...*regexp.Regexp) {
	t.Helper()
	g, w := map[string]string{}, map[string]string{}
	kinds(got, "", loose, g)
	kinds(want, "", loose, w)
	skip := func(p string) bool {
		for _, a := range allowed {
			if a.path.MatchString(p) {
				return true
			}
		}
		return slices.ContainsFunc(more, func(r *regexp.Regexp) bool { return r.MatchString(p) })
	}
	var faults []string
	for p, kind := range w {
		if g[p] != kind && !sized(p, g[p], kind) && !skip(p) {
			faults = append(faults, fmt.Sprintf("%s: %q, recorded %q", p, g[p], kind))
		}
	}
	for p, kind := range g {
		if _, there := w[p]; !there && !skip(p) {
			faults = append(faults, fmt.Sprintf("%s: %q, not recorded", p, kind))
		}
	}
	slices.Sort(faults)
	if len(faults) > 0 {
		t.Errorf("%d differences:\n%s", len(faults), strings.Join(faults[:min(len(faults), 60)], "\n"))
	}
}

func TestRepliesHaveTheShapeOfRecordedOnes(t *testing.T) {
	v := recordedVersion
	k := kit(t, v)
	primary, secondary, hidden, arbiter, alone := view(t, v, 0), view(t, v, 1), view(t, v, 2), view(t, v, 3), standalone(t, v)
	uninitiated := view(t, v, 0)
	uninitiated.Set.Members[0].State = model.StateStartup
	none := regexp.MustCompile(`^$`)
	trimmed := regexp.MustCompile(`^(data\|serverStatus\|)?(metrics\|(commands|aggStageCounters)|wiredTiger\|)`) // in all but the primary's own
	for _, c := range []struct {
		file string
		got  any
	}{
		{"primary-hello", status.Hello(primary, true, false)},
		{"secondary-hello", status.Hello(secondary, true, false)},
		{"hidden-hello", status.Hello(hidden, true, false)},
		{"arbiter-hello", status.Hello(arbiter, true, false)},
		{"standalone-hello", status.Hello(alone, true, false)},
		{"uninitiated-hello", status.Hello(uninitiated, true, false)},
		{"primary-serverStatus", k.ServerStatus(primary, nil)},
		{"secondary-serverStatus", k.ServerStatus(secondary, nil)},
		{"arbiter-serverStatus", k.ServerStatus(arbiter, nil)},
		{"standalone-serverStatus", k.ServerStatus(alone, nil)},
		{"primary-replSetGetStatus", status.ReplSetGetStatus(primary)},
		{"secondary-replSetGetStatus", status.ReplSetGetStatus(secondary)},
		{"arbiter-replSetGetStatus", status.ReplSetGetStatus(arbiter)},
		{"primary-replSetGetConfig", status.ReplSetGetConfig(primary)},
		{"primary-getCmdLineOpts", process.CmdLineOpts(primary)},
		{"primary-hostInfo", process.HostInfo(primary)},
		{"primary-buildInfo", process.BuildInfo(primary)},
		{"primary-connPoolStats", process.ConnPoolStats(primary)},
		{"primary-getDefaultRWConcern", process.DefaultRWConcern(primary)},
		{"primary-collStats-oplog", k.OplogStats(primary, 1)},
		{"primary-top", process.Top(primary, []string{"shop.orders"})},
		{"primary-getLog-startupWarnings", process.GetLog(primary, process.StartupWarnings(primary), 2)},
		{"primary-listDatabases", status.ListDatabases(primary, []status.Collection{{NS: "shop.orders", Docs: 1, Bytes: 50}}, func(string) int64 { return 0 }, false)},
		{"primary-dbStats-shop", status.DBStats(primary, "shop", []status.Collection{{NS: "shop.orders", Docs: 2, Bytes: 2000, Indexes: []status.Index{{"_id_", 4096}}}}, 0, 1)},
		{"primary-getDiagnosticData", k.DiagnosticData(primary)},
	} {
		t.Run(c.file, func(t *testing.T) {
			want := readJSON(t, filepath.Join("testdata", c.file+".json"))
			whole := trimmed
			if c.file == "primary-serverStatus" || c.file == "primary-collStats-oplog" {
				whole = none
			}
			compare(t, raw(t, c.got), want, false, whole)
		})
	}
}

// TestMemberShapes compares the members array entry by entry: self, primary, secondary and arbiter have different fields.
func TestMemberShapes(t *testing.T) {
	for self, file := range []string{"primary", "secondary", "", "arbiter"} {
		if file == "" {
			continue
		}
		got := raw(t, status.ReplSetGetStatus(view(t, recordedVersion, self))).Lookup("members").Array()
		want := readJSON(t, filepath.Join("testdata", file+"-replSetGetStatus.json")).Lookup("members").Array()
		for i := range 4 {
			t.Run(fmt.Sprintf("%s sees %d", file, i), func(t *testing.T) {
				compare(t, got.Index(uint(i)).Document(), want.Index(uint(i)).Document(), false)
			})
		}
	}
}

// TestShapeOf609 holds the 6.0 shape to the published replies of a 6.0.9 server, read in place where they are at hand.
func TestShapeOf609(t *testing.T) {
	dir := os.Getenv("HEARTWOOD_TEST_FIXTURES")
	if dir == "" {
		root, err := filepath.Abs(".")
		if err != nil {
			t.Fatal(err)
		}
		for root != "/" {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared", "fixtures")
	}
	dir = filepath.Join(dir, "monitoring")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no fixtures/monitoring: set HEARTWOOD_TEST_FIXTURES")
	}
	v := status.Version{6, 0, 9}
	k, p := kit(t, v), view(t, v, 0)
	theirs := []*regexp.Regexp{
		regexp.MustCompile(`^(\$clusterTime|operationTime|repl\|tags|repl\|primaryOnlyServices\||repl\|arbiters|arbiters|tags)`),
		regexp.MustCompile(`^(encryptionAtRest|tenantMigrations|watchdog|opWriteConcernCounters|security\|SSL|metrics\|apiVersions|metrics\|mongos|indexStats)`), // enterprise, hosted service
		regexp.MustCompile(`^tcmalloc\|tcmalloc|^metrics\|query\|multiPlanner\|histograms`),
		regexp.MustCompile(`^metrics\|aggStageCounters`),
		regexp.MustCompile(`^electionParticipantMetrics|^electionCandidateMetrics\|priorPrimary`),
		regexp.MustCompile(`^members|^config\|members\[\]\|horizons|^members\[\]\|horizons`),
		regexp.MustCompile(`^isWritablePrimary$`), // their driver added it to an isMaster reply
		regexp.MustCompile(`^(syncSourceHost|electionCandidateMetrics\|priorityAtElection|optimes\|readConcernMajorityWallTime)$`),
		regexp.MustCompile(`^extra\||totalSizeMb|^modules\[\]`),
	}
	for file, got := range map[string]any{
		"serverStatus-mongod-primary-6.0.9.json":     k.ServerStatus(p, nil),
		"replSetGetStatus-mongod-primary-6.0.9.json": status.ReplSetGetStatus(p),
		"isMaster-mongod-primary-6.0.9.json":         status.Hello(p, true, false),
		"replSetGetConfig-mongod-primary-6.0.9.json": status.ReplSetConfig(p),
		"buildInfo-mongod-primary-6.0.9.json":        process.BuildInfo(p),
		"hostInfo-mongod-primary-6.0.9.json":         process.HostInfo(p),
	} {
		t.Run(file, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Skip(err)
			}
			want := relaxed(t, b)
			compare(t, raw(t, got), want, true, theirs...)
		})
	}
}

// relaxed reads the dialect of those files, where dates are plain numbers.
func relaxed(t *testing.T, b []byte) bson.Raw {
	t.Helper()
	var any map[string]json.RawMessage
	if err := json.Unmarshal(b, &any); err != nil {
		t.Fatal(err)
	}
	fixed := regexp.MustCompile(`"\$date":\s*(-?\d+)`).ReplaceAll(b, []byte(`"$$date": {"$$numberLong": "$1"}`))
	fixed = regexp.MustCompile(`\{\s*"\$binary":\s*"[^"]*",\s*"\$type":\s*"[^"]*"\s*\}`).ReplaceAll(fixed, []byte(`""`))
	fixed = regexp.MustCompile(`"(t|i)":\s*-1`).ReplaceAll(fixed, []byte(`"$1": 0`)) // a lossy trip through a shell
	var r bson.Raw
	if err := bson.UnmarshalExtJSON(fixed, false, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDiagnosticDataHasWhatIsRead(t *testing.T) {
	for _, v := range []status.Version{{4, 2, 24}, {4, 4, 29}, {5, 0, 31}, {6, 0, 9}, {7, 0, 14}, {8, 0, 4}} {
		got := map[string]string{}
		kinds(kit(t, v).DiagnosticData(view(t, v, 0)), "", true, got)
		want := []string{
			"cpu|user_ms", "cpu|idle_ms", "cpu|iowait_ms", "memory|MemTotal_kb", "memory|MemFree_kb", "memory|SwapTotal_kb", "netstat|IpExt:InOctets", "vmstat|pswpin",
			"disks|" + status.Device + "|reads", "disks|" + status.Device + "|io_queued_ms",
		}
		if v.AtLeast(6, 0) {
			want = append(want, "mounts|"+status.DataMount+"|capacity", "mounts|"+status.DataMount+"|free")
		}
		for _, p := range want {
			if got["data|systemMetrics|"+p] != "number" {
				t.Errorf("%v: no %s", v, p)
			}
		}
	}
}

func TestVersionsDifferAsTheyShould(t *testing.T) {
	has := func(r bson.Raw, path ...string) bool { return r.Lookup(path...).Type != 0 }
	for _, c := range []struct {
		path          string
		since, before status.Version // before: first version without it
	}{
		{"asserts|tripwire", status.Version{4, 4, 0}, status.Version{}},
		{"connections|threaded", status.Version{4, 4, 0}, status.Version{}},
		{"connections|exhaustHello", status.Version{5, 0, 0}, status.Version{}},
		{"connections|rejected", status.Version{7, 0, 0}, status.Version{}},
		{"metrics|cursor|totalOpened", status.Version{5, 0, 0}, status.Version{}},
		{"metrics|queryExecutor|collectionScans|total", status.Version{4, 4, 0}, status.Version{}},
		{"wiredTiger|concurrentTransactions|read|out", status.Version{}, status.Version{8, 0, 0}},
		{"queues|execution|read|out", status.Version{8, 0, 0}, status.Version{}},
		{"wiredTiger|checkpoint|most recent time (msecs)", status.Version{8, 0, 0}, status.Version{}},
		{"wiredTiger|transaction|transaction checkpoint most recent time (msecs)", status.Version{}, status.Version{8, 0, 0}},
		{"metrics|repl|buffer|sizeBytes", status.Version{}, status.Version{8, 0, 0}},
		{"metrics|repl|buffer|apply|sizeBytes", status.Version{8, 0, 0}, status.Version{}},
		{"opWorkingTime|reads|latency", status.Version{8, 0, 0}, status.Version{}},
		{"repl|ismaster", status.Version{}, status.Version{5, 0, 0}},
		{"repl|isWritablePrimary", status.Version{5, 0, 0}, status.Version{}},
		{"repl|topologyVersion", status.Version{4, 4, 0}, status.Version{}},
		{"service", status.Version{8, 0, 0}, status.Version{}},
		{"extra_info|user_time_us", status.Version{}, status.Version{}},
	} {
		for _, v := range []status.Version{{4, 2, 24}, {4, 4, 29}, {5, 0, 31}, {6, 0, 19}, {7, 0, 14}, {8, 0, 4}} {
			want := v.AtLeast(c.since.Major, c.since.Minor) && (c.before == status.Version{} || !v.AtLeast(c.before.Major, c.before.Minor))
			if got := has(raw(t, kit(t, v).ServerStatus(view(t, v, 0), nil)), strings.Split(c.path, template.Sep)...); got != want {
				t.Errorf("%v has %s: %v, want %v", v, c.path, got, want)
			}
		}
	}
	for _, v := range []status.Version{{4, 2, 24}, {4, 4, 29}, {7, 0, 14}, {8, 0, 4}} {
		m := raw(t, status.ReplSetGetStatus(view(t, v, 0))).Lookup("members").Array().Index(1).Document()
		for path, want := range map[string]bool{"syncingTo": !v.AtLeast(4, 4), "configTerm": v.AtLeast(4, 4), "lastAppliedWallTime": v.AtLeast(5, 0), "optimeWritten": v.AtLeast(8, 0)} {
			if has(m, path) != want {
				t.Errorf("%v: members[].%s %v, want %v", v, path, !want, want)
			}
		}
	}
}

func TestSectionsAreSwitched(t *testing.T) {
	k, v := kit(t, status.Version{7, 0, 14}), view(t, status.Version{7, 0, 14}, 0)
	req := raw(t, bson.D{{Key: "serverStatus", Value: 1}, {Key: "oplog", Value: 1}, {Key: "metrics", Value: 0}, {Key: "wiredTiger", Value: false}, {Key: "host", Value: 0}, {Key: "nonsense", Value: 1}})
	got := raw(t, k.ServerStatus(v, req))
	for name, want := range map[string]bool{"oplog": true, "metrics": false, "wiredTiger": false, "host": true, "opcounters": true} {
		if (got.Lookup(name).Type != 0) != want {
			t.Errorf("section %s: %v, want %v", name, !want, want)
		}
	}
	if raw(t, k.ServerStatus(v, nil)).Lookup("oplog").Type != 0 {
		t.Error("the oplog section is there without being asked for")
	}
	if n := got.Lookup("oplog", "latestOptime"); n.Type != bson.TypeTimestamp {
		t.Errorf("latestOptime is %v", n.Type)
	}
}

func BenchmarkServerStatus(b *testing.B) {
	k, v := kit(b, status.Version{7, 0, 14}), view(b, status.Version{7, 0, 14}, 0)
	b.ReportAllocs()
	for b.Loop() {
		_ = k.ServerStatus(v, nil)
	}
}
