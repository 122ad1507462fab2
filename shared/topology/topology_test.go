package topology

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/topology/lenient"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const group = model.ID("5f0000000000000000000001")

var t0 = time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)

func load(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "recorded", path))
	if err != nil {
		t.Fatal(err)
	}
	if err := bson.UnmarshalExtJSON(b, true, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func list(t testing.TB, path string) bson.A {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "recorded", path))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Docs bson.A }
	if err := bson.UnmarshalExtJSON([]byte(`{"docs":`+string(b)+`}`), true, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Docs
}

func raw(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := wire.Validate(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// role builds a full first ping from the recorded replies of one kind of process.
func role(t testing.TB, dir string) bson.D {
	t.Helper()
	replies := bson.D{}
	for name, file := range map[string]string{
		"hello": "hello", "serverStatus": "serverStatus", "replSetGetStatus": "replSetGetStatus", "replSetGetConfig": "replSetGetConfig",
		"getCmdLineOpts": "getCmdLineOpts", "hostInfo": "hostInfo", "buildInfo": "buildInfo", "startupWarnings": "getLog-startupWarnings",
		"getParameter": "getParameter-all",
	} {
		if _, err := os.Stat(filepath.Join("testdata", "recorded", dir, file+".json")); err != nil {
			continue
		}
		var d bson.D
		load(t, filepath.Join(dir, file+".json"), &d)
		replies = append(replies, bson.E{Key: name, Value: d})
	}
	slices.SortFunc(replies, func(a, b bson.E) int { return strings.Compare(a.Key, b.Key) })
	return replies
}

func newHost(addr string) model.Host {
	name, port, err := model.SplitAddress(addr)
	if err != nil {
		panic(err)
	}
	return model.Host{ID: model.NewHostID(group, name, port), GroupID: group, Hostname: name, Port: port, Created: t0, Type: model.TypeNoData, MemberID: -1, Enabled: true}
}

func first(t testing.TB, addr string, replies bson.D) Observation {
	t.Helper()
	return Observe(Input{
		Host: newHost(addr), Settings: model.DefaultGroupSettings(), Replies: raw(t, replies), AgentID: "a",
		Ping: wire.Ping{At: t0, Address: addr, IP: "127.0.0.1", RTT: 300},
	})
}

func addresses(o Observation) []string {
	var all []string
	for _, a := range o.Discovered {
		all = append(all, a.String())
	}
	slices.Sort(all)
	return all
}

func TestProcessTypes(t *testing.T) {
	for _, c := range []struct {
		dir, addr string
		kind      model.ProcessType
		state     model.MemberState
		set       string
		finds     []string
	}{
		{"primary", "127.0.0.1:27117", model.TypeReplicaPrimary, model.StatePrimary, "rs0", []string{"127.0.0.1:27118", "127.0.0.1:27119", "127.0.0.1:27120"}},
		{"secondary", "127.0.0.1:27118", model.TypeReplicaSecondary, model.StateSecondary, "rs0", []string{"127.0.0.1:27117", "127.0.0.1:27119", "127.0.0.1:27120"}},
		{"hidden", "127.0.0.1:27119", model.TypeReplicaSecondary, model.StateSecondary, "rs0", []string{"127.0.0.1:27117", "127.0.0.1:27118", "127.0.0.1:27120"}},
		{"arbiter", "127.0.0.1:27120", model.TypeReplicaArbiter, model.StateArbiter, "rs0", []string{"127.0.0.1:27117", "127.0.0.1:27118", "127.0.0.1:27119"}},
		{"standalone", "127.0.0.1:27130", model.TypeStandalone, model.StateUnknown, "", nil},
		{"uninitiated", "127.0.0.1:27117", model.TypeRecovering, model.StateStartup, "", nil},
		{"sharded/mongos", "127.0.0.1:27150", model.TypeShardMongos, model.StateUnknown, "", []string{"127.0.0.1:27140"}},
		{"sharded/config-primary", "127.0.0.1:27140", model.TypeShardConfig, model.StatePrimary, "csrs", nil},
		{"sharded/shard-primary", "127.0.0.1:27141", model.TypeShardPrimary, model.StatePrimary, "shard0", []string{"127.0.0.1:27140"}},
		{"auth/clusterMonitor", "127.0.0.1:27160", model.TypeStandalone, model.StateUnknown, "", nil},
	} {
		t.Run(c.dir, func(t *testing.T) {
			o := first(t, c.addr, role(t, c.dir))
			if o.Host.Type != c.kind || o.Status.State != c.state || o.Host.ReplicaSet != c.set || o.Status.Reach != model.ReachUp {
				t.Errorf("got %s, %s, set %q, %s", o.Host.Type, o.Status.State, o.Host.ReplicaSet, o.Status.Reach)
			}
			if d := cmp.Diff(c.finds, addresses(o)); d != "" {
				t.Errorf("discovered (-want +got)\n%s", d)
			}
			if len(o.Events) > 0 || len(o.Changes) > 0 {
				t.Errorf("a first ping raised %v, %v", o.Events, o.Changes)
			}
			if o.Host.ProcessID == "" || o.Host.Version != "4.5.1" {
				t.Errorf("process %q, version %q", o.Host.ProcessID, o.Host.Version)
			}
		})
	}
}

func TestDescription(t *testing.T) {
	replies := role(t, "primary")
	var db bson.D
	load(t, "primary/dbStats-shop.json", &db)
	replies = append(replies, bson.E{Key: "dbStats", Value: bson.D{{Key: "list", Value: bson.A{db, db}}}})
	h := first(t, "127.0.0.1:27117", replies).Host
	want := newHost("127.0.0.1:27117")
	want.Type, want.Version, want.ReplicaSet, want.ProcessID = model.TypeReplicaPrimary, "4.5.1", "rs0", "6b0113779eae5d133c6d9d3c"
	want.Aliases, want.IP, want.MemberID, want.Priority, want.Votes = []string{"db1.example.net:27117"}, "127.0.0.1", 0, 2, 1
	want.Self = "db1.example.net:27117"
	want.Journaling, want.MemSizeMB, want.NumCores, want.StorageEngine, want.DBPath, want.FCV = true, 24105, 2, "wiredTiger", "/data/27117", "4.6"
	want.TLSMode, want.BindIP = "disabled", "127.0.0.1"
	want.OS, want.LowUlimit = "Debian GNU/Linux 12 (bookworm) Kernel 6.18.44-fc-v595", true
	want.ClusterID = model.DeriveID("cluster", string(group), "6b01137a9eae5d133c6d9d61")
	if h.LastDataBytes == 0 || h.LastIndexBytes == 0 || len(h.StartupWarnings) != 6 {
		t.Errorf("data %v, indexes %v, warnings %q", h.LastDataBytes, h.LastIndexBytes, h.StartupWarnings)
	}
	h.LastDataBytes, h.LastIndexBytes, h.StartupWarnings = 0, 0, nil
	if d := cmp.Diff(want, h); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	hidden := first(t, "127.0.0.1:27119", role(t, "hidden")).Host
	if !hidden.HiddenSecondary || hidden.Priority != 0 || hidden.MemberID != 2 {
		t.Errorf("hidden member: %+v", hidden)
	}
}

func TestReach(t *testing.T) {
	hello := bson.D{}
	load(t, "standalone/hello.json", &hello)
	arbiter := bson.D{}
	load(t, "arbiter/hello.json", &arbiter)
	for _, c := range []struct {
		name    string
		replies bson.D
		errors  []wire.Failure
		want    model.Reach
		says    string
	}{
		{"refused connection", nil, []wire.Failure{{Command: "connect", Message: "connection refused"}}, model.ReachDown, "connection refused"},
		{"hello times out", nil, []wire.Failure{{Command: "hello", Message: "no answer in 10s"}}, model.ReachDown, "hello: no answer in 10s"},
		{"wrong password", nil, []wire.Failure{{Command: "connect", Code: 18, Message: "Authentication failed."}}, model.ReachUnauthorised, "Authentication failed."},
		{"no rights", bson.D{{Key: "hello", Value: hello}}, []wire.Failure{{Command: "serverStatus", Code: 13, Message: "not authorized"}}, model.ReachUnauthorised, "serverStatus: not authorized"},
		{"too slow", bson.D{{Key: "hello", Value: hello}}, []wire.Failure{{Command: "serverStatus", Code: 50, Message: "operation exceeded time limit"}}, model.ReachSlow, "serverStatus: operation exceeded time limit"},
		{"an arbiter refuses nearly everything", bson.D{{Key: "hello", Value: arbiter}}, []wire.Failure{{Command: "serverStatus", Code: 13, Message: "x"}}, model.ReachUp, ""},
		{"nothing at all", nil, nil, model.ReachDown, ""},
		{"a mechanism the server has not", bson.D{{Key: "hello", Value: hello}}, []wire.Failure{{Command: "authenticate", Code: 334, Message: "mechanism unavailable"}}, model.ReachUnauthorised, "authenticate: mechanism unavailable"},
		{"a sign-in without an answer", bson.D{{Key: "hello", Value: hello}}, []wire.Failure{{Command: "authenticate", Code: 89, Message: "no answer"}}, model.ReachUnauthorised, "authenticate: no answer"},
		{"cut off while signing in", nil, []wire.Failure{{Command: "authenticate", Code: 6, Message: "connection closed"}}, model.ReachDown, "authenticate: connection closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Input{Host: newHost("db1:27017"), Ping: wire.Ping{At: t0, Errors: c.errors}}
			if c.replies != nil {
				in.Replies = raw(t, c.replies)
			}
			s := Observe(in).Status
			if s.Reach != c.want || s.Error != c.says {
				t.Errorf("got %s, %q", s.Reach, s.Error)
			}
		})
	}
	unauthorised := first(t, "db1:27017", role(t, "auth/no-credentials"))
	if unauthorised.Host.Type != model.TypeStandalone || unauthorised.Host.ProcessID == "" {
		t.Errorf("hello alone gave %+v", unauthorised.Host)
	}
}

// TestMembersOutsideOfASet: hello is the same whether a member was removed or never had a set; the refusal of replSetGetStatus is not.
func TestMembersOutsideOfASet(t *testing.T) {
	for _, c := range []struct {
		code   int32
		before model.MemberState
		want   model.MemberState
	}{
		{93, model.StateUnknown, model.StateRemoved},
		{93, model.StateStartup, model.StateRemoved},
		{93, model.StateSecondary, model.StateRemoved},
		{94, model.StateUnknown, model.StateStartup},
		{94, model.StateSecondary, model.StateStartup}, // its files are gone, and with them its set
		{13, model.StateUnknown, model.StateStartup},
		{13, model.StateSecondary, model.StateRemoved},
	} {
		in := Input{
			Host: newHost("127.0.0.1:27117"), Replies: raw(t, role(t, "uninitiated")),
			Ping: wire.Ping{At: t0, Errors: []wire.Failure{{Command: "replSetGetStatus", Code: c.code, Message: "x"}}},
		}
		if c.before != model.StateUnknown {
			in.Status = model.HostStatus{At: t0.Add(-time.Minute), LastPing: t0.Add(-time.Minute), State: c.before, LastState: c.before}
		}
		if o := Observe(in); o.Status.State != c.want || o.Host.Type != model.TypeRecovering {
			t.Errorf("code %d after %s: %s, %s", c.code, c.before, o.Status.State, o.Host.Type)
		}
	}
}

func TestSplitHorizon(t *testing.T) {
	member := func(id int, horizons any) bson.D {
		host := "db" + strconv.Itoa(id) + ".internal:27017"
		d := bson.D{{Key: "_id", Value: id}, {Key: "host", Value: host}}
		if horizons != nil {
			d = append(d, bson.E{Key: "horizons", Value: horizons})
		}
		return d
	}
	outside := func(port string) bson.D {
		return bson.D{{Key: "outside", Value: "Gate.example.net:" + port}, {Key: "vpn", Value: "10.8.0.1:" + port}}
	}
	ping := func(me string) bson.D {
		return bson.D{
			{Key: "hello", Value: bson.D{{Key: "setName", Value: "rs0"}, {Key: "me", Value: me}, {Key: "secondary", Value: true}, {Key: "ok", Value: 1}}},
			{Key: "replSetGetConfig", Value: bson.D{{Key: "config", Value: bson.D{
				{Key: "_id", Value: "rs0"}, {Key: "version", Value: 1}, {Key: "members", Value: bson.A{member(0, outside("7000")), member(1, outside("7001")), member(2, nil)}},
			}}, {Key: "ok", Value: 1}}},
		}
	}
	for me, want := range map[string][]string{
		"gate.example.net:7000":  {"db2.internal:27017", "gate.example.net:7001"},
		"10.8.0.1:7001":          {"10.8.0.1:7000", "db2.internal:27017"},
		"db0.internal:27017":     {"db1.internal:27017", "db2.internal:27017"},
		"elsewhere.example:9999": {"db0.internal:27017", "db1.internal:27017", "db2.internal:27017"},
	} {
		if d := cmp.Diff(want, addresses(first(t, me, ping(me)))); d != "" {
			t.Errorf("%s discovered (-want +got)\n%s", me, d)
		}
	}
}

func TestSizes(t *testing.T) {
	stats := func(name string, data any) bson.D {
		return bson.D{{Key: "db", Value: name}, {Key: "dataSize", Value: data}, {Key: "indexSize", Value: 1.5}, {Key: "ok", Value: 1}}
	}
	decimal, err := bson.ParseDecimal128("1000.5")
	if err != nil {
		t.Fatal(err)
	}
	hello := bson.D{}
	load(t, "standalone/hello.json", &hello)
	names := func(names ...string) bson.D {
		list := bson.A{}
		for _, n := range names {
			list = append(list, bson.D{{Key: "name", Value: n}, {Key: "sizeOnDisk", Value: 1}})
		}
		return bson.D{{Key: "databases", Value: list}}
	}
	for _, c := range []struct {
		name        string
		list        bson.A
		listed      bson.D
		data, index float64
	}{
		{"every type of number, without local", bson.A{stats("a", int32(1)), stats("b", int64(10)), stats("c", 100.0), stats("d", decimal), stats("local", 1e12)}, names("a", "b", "c", "d", "local"), 1111.5, 6},
		{"a round that ended early", bson.A{stats("a", 1)}, names("a", "b"), 77, 7},
		{"only what nobody asked for", bson.A{}, names("a"), 77, 7},
		{"no list", bson.A{stats("a", 1)}, bson.D{}, 1, 1.5},
	} {
		in := Input{Host: newHost("db1:27017"), Ping: wire.Ping{At: t0}, Replies: raw(t, bson.D{
			{Key: "hello", Value: hello}, {Key: "listDatabases", Value: c.listed}, {Key: "dbStats", Value: bson.D{{Key: "list", Value: c.list}}},
		})}
		in.Host.LastDataBytes, in.Host.LastIndexBytes = 77, 7
		if h := Observe(in).Host; h.LastDataBytes != c.data || h.LastIndexBytes != c.index {
			t.Errorf("%s: data %v, indexes %v", c.name, h.LastDataBytes, h.LastIndexBytes)
		}
	}
}

// follow replays a recorded series of one member and returns the events it raised.
func follow(t *testing.T, addr string, steps []bson.D, every time.Duration) (events []string, last Observation) {
	t.Helper()
	host, status := newHost(addr), model.HostStatus{}
	for i, replies := range steps {
		in := Input{Host: host, Status: status, Settings: model.DefaultGroupSettings(), Ping: wire.Ping{At: t0.Add(time.Duration(i) * every), Address: addr}}
		if replies != nil {
			in.Replies = raw(t, replies)
		} else {
			in.Ping.Errors = []wire.Failure{{Command: "connect", Message: "refused"}}
		}
		last = Observe(in)
		for _, e := range last.Events {
			sentence(t, e, addr)
			events = append(events, strconv.Itoa(i)+" "+string(e.Type))
		}
		host, status = last.Host, last.Status
	}
	return events, last
}

// sentence checks that an event's text says of itself whom it is about.
func sentence(t *testing.T, e model.Event, subject string) {
	t.Helper()
	if !strings.HasPrefix(e.Text, subject+" ") || !strings.HasSuffix(e.Text, ".") || strings.HasSuffix(e.Text, "..") {
		t.Errorf("%s: %q is no sentence about %s", e.Type, e.Text, subject)
	}
}

func TestElection(t *testing.T) {
	steps := list(t, "election.json")
	series := map[int64][]bson.D{}
	var labels []string
	for _, s := range steps {
		d, _ := s.(bson.D)
		r := raw(t, d)
		port, _ := lenient.Number(r.Lookup("port"))
		replies := bson.D{}
		for name, as := range map[string]string{"isMaster": "hello", "replSetGetStatus": "replSetGetStatus"} {
			if reply, ok := r.Lookup(name).DocumentOK(); ok && reply.Lookup("transportError").IsZero() {
				replies = append(replies, bson.E{Key: as, Value: reply})
			}
		}
		if len(replies) == 0 {
			replies = nil
		}
		series[port] = append(series[port], replies)
		if port == 27117 {
			labels = append(labels, lenient.Text(r.Lookup("at")))
		}
	}
	at := func(label string) string { return strconv.Itoa(slices.Index(labels, label)) }
	for port, want := range map[int64][]string{
		27117: {
			at("stepdown+0s") + " HOST_NOW_SECONDARY", at("priority takeover") + " HOST_NOW_PRIMARY", at("killed+0s") + " HOST_DOWN",
			at("restarted+0s") + " HOST_UP", at("restarted+0s") + " HOST_RESTARTED", at("restarted+0s") + " HOST_NOW_SECONDARY",
		},
		27118: {at("stepdown+1s") + " HOST_NOW_PRIMARY", at("priority takeover") + " HOST_NOW_SECONDARY", at("killed+0s") + " HOST_NOW_PRIMARY"},
		27119: nil,
		27120: nil,
	} {
		got, _ := follow(t, "127.0.0.1:"+strconv.FormatInt(port, 10), series[port], time.Second)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("member %d (-want +got)\n%s", port, d)
		}
	}
	// The whole set: one PRIMARY_ELECTED for each election, whoever's ping comes first.
	var cluster *model.Cluster
	hosts, statuses := map[int64]model.Host{}, map[int64]model.HostStatus{}
	var elected []string
	for i := range labels {
		for port := int64(27117); port <= 27120; port++ {
			addr := "127.0.0.1:" + strconv.FormatInt(port, 10)
			if i == 0 {
				hosts[port] = newHost(addr)
			}
			in := Input{Host: hosts[port], Status: statuses[port], Cluster: cluster, Ping: wire.Ping{At: t0.Add(time.Duration(i) * time.Second), Address: addr}}
			if replies := series[port][i]; replies != nil {
				if i == 0 {
					var config bson.D
					load(t, "primary/replSetGetConfig.json", &config)
					replies = append(replies, bson.E{Key: "replSetGetConfig", Value: config})
				}
				in.Replies = raw(t, replies)
			}
			o := Observe(in)
			hosts[port], statuses[port] = o.Host, o.Status
			if o.ReplicaSet != nil {
				c, _, events := o.ReplicaSet.Apply(cluster, group, in.Ping.At)
				if len(events) > 0 {
					t.Errorf("an unchanged configuration raised %v", events)
				}
				cluster = &c
			}
			_, events := Elect(cluster, &o)
			for _, e := range events {
				elected = append(elected, labels[i]+" "+e.HostName)
			}
		}
	}
	if d := cmp.Diff([]string{"stepdown+1s 127.0.0.1:27118", "priority takeover 127.0.0.1:27117", "killed+0s 127.0.0.1:27118"}, elected); d != "" {
		t.Errorf("elections (-want +got)\n%s", d)
	}
	if cluster.PrimaryID != hosts[27118].ID || cluster.ElectionTerm != 4 {
		t.Errorf("primary %s, term %d", cluster.PrimaryID, cluster.ElectionTerm)
	}
}

func TestRollback(t *testing.T) {
	var steps []bson.D
	for _, s := range list(t, "rollback.json") {
		d, _ := s.(bson.D)
		r := raw(t, d)
		steps = append(steps, bson.D{{Key: "hello", Value: r.Lookup("isMaster")}, {Key: "replSetGetStatus", Value: r.Lookup("status")}})
	}
	got, last := follow(t, "127.0.0.1:27417", steps, time.Second)
	want := []string{"1 HOST_ROLLBACK", "2 HOST_RECOVERED", "2 HOST_NOW_SECONDARY", "3 HOST_NOW_PRIMARY"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if last.Host.Type != model.TypeReplicaPrimary {
		t.Errorf("type %s", last.Host.Type)
	}
}

func TestSharded(t *testing.T) {
	replies := role(t, "sharded/mongos")
	for name, file := range map[string]string{"configShards": "config.shards", "configMongos": "config.mongos", "configVersion": "config.version"} {
		replies = append(replies, bson.E{Key: name, Value: bson.D{{Key: "docs", Value: list(t, "sharded/"+file+".json")}}})
	}
	o := first(t, "127.0.0.1:27150", replies)
	want := &Sharded{
		ID: "6b0114908591e2052999e5e6", ConfigSet: "csrs", Config: []string{"127.0.0.1:27140"},
		Shards: []Shard{{Name: "shard0", Set: "shard0", Hosts: []string{"127.0.0.1:27141"}}, {Name: "shard1", Set: "shard1", Hosts: []string{"127.0.0.1:27142"}}},
	}
	if d := cmp.Diff(want, o.Sharded); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if o.Host.ClusterID != want.ClusterID(group) {
		t.Error("the mongos does not belong to the cluster")
	}
	if d := cmp.Diff([]string{"127.0.0.1:27140", "127.0.0.1:27141", "127.0.0.1:27142", "db1.example.net:27150"}, addresses(o)); d != "" {
		t.Errorf("discovered (-want +got)\n%s", d)
	}
	suppressed := Observe(Input{Host: newHost("127.0.0.1:27150"), Settings: model.GroupSettings{SuppressMongos: true}, Replies: raw(t, replies), Ping: wire.Ping{At: t0}})
	if slices.Contains(addresses(suppressed), "db1.example.net:27150") {
		t.Error("a suppressed mongos was discovered")
	}
	// A member of a shard stays one in a ping without the options and without sharding in serverStatus.
	shard := first(t, "127.0.0.1:27141", role(t, "sharded/shard-primary"))
	var h bson.D
	load(t, "sharded/shard-primary/hello.json", &h)
	again := Observe(Input{Host: shard.Host, Status: shard.Status, Replies: raw(t, bson.D{{Key: "hello", Value: h}}), Ping: wire.Ping{At: t0.Add(time.Minute)}})
	if again.Host.Type != model.TypeShardPrimary {
		t.Errorf("type %s", again.Host.Type)
	}
}

// TestOneRestartIsToldOnce: before 4.4 the identity comes once an hour, and so later than the restart shows.
func TestOneRestartIsToldOnce(t *testing.T) {
	ping := func(minute, uptimeSecs, pid int64, id string) bson.D {
		d := bson.D{
			{Key: "hello", Value: bson.D{{Key: "ismaster", Value: true}, {Key: "ok", Value: 1.0}}},
			{Key: "serverStatus", Value: bson.D{
				{Key: "host", Value: "db1"},
				{Key: "pid", Value: pid},
				{Key: "uptimeMillis", Value: uptimeSecs * 1000},
				{Key: "localTime", Value: t0.Add(time.Duration(minute) * time.Minute)},
			}},
		}
		if id != "" {
			oid, err := bson.ObjectIDFromHex(id)
			if err != nil {
				t.Fatal(err)
			}
			d = append(d, bson.E{Key: "isSelf", Value: bson.D{{Key: "id", Value: oid}, {Key: "ok", Value: 1.0}}})
		}
		return d
	}
	const one, two, three = "6b0113779eae5d133c6d9d31", "6b0113779eae5d133c6d9d32", "6b0113779eae5d133c6d9d33"
	got, last := follow(t, "db1:27017", []bson.D{
		ping(0, 600, 7, one), ping(1, 660, 7, ""), ping(2, 30, 8, ""), ping(3, 90, 8, two), ping(4, 150, 8, two), ping(5, 20, 9, three), ping(6, 80, 9, ""),
	}, time.Minute)
	if d := cmp.Diff([]string{"2 HOST_RESTARTED", "5 HOST_RESTARTED"}, got); d != "" || last.Host.ProcessID != three {
		t.Errorf("process %s (-want +got)\n%s", last.Host.ProcessID, d)
	}
}

func TestConfiguration(t *testing.T) {
	var reply bson.D
	load(t, "primary/replSetGetConfig.json", &reply)
	rs := readConfig(raw(t, reply))
	c, changed, events := rs.Apply(nil, group, t0)
	if !changed || len(events) > 0 || len(c.Members) != 4 || c.ReplicaSetID != "6b01137a9eae5d133c6d9d61" {
		t.Fatalf("%+v %v", c, events)
	}
	c.Members[0].HostID = "known"
	next := *rs
	next.Version, next.Term = 2, 3
	next.Members = append(slices.Clone(rs.Members[:3]), model.Member{ID: 4, Host: "db9:27017"})
	c2, changed, events := next.Apply(&c, group, t0.Add(time.Minute))
	var got []string
	for _, e := range events {
		got = append(got, string(e.Type)+" "+e.HostName)
	}
	if d := cmp.Diff([]string{"CONFIGURATION_CHANGED ", "MEMBER_ADDED db9:27017", "MEMBER_REMOVED 127.0.0.1:27120"}, got); d != "" || !changed {
		t.Errorf("changed %v (-want +got)\n%s", changed, d)
	}
	if c2.Members[0].HostID != "known" {
		t.Error("the link to a host was lost")
	}
	if _, changed, _ := rs.Apply(&c2, group, t0); changed {
		t.Error("an older configuration overwrote a newer one")
	}
	for _, c := range []struct {
		term, version, thanTerm, thanVersion int64
		want                                 bool
	}{{1, 2, 1, 1, true}, {1, 1, 1, 1, false}, {2, 1, 1, 5, true}, {1, 9, 2, 1, false}, {-1, 900, 3, 2, true}, {0, 3, 0, 2, true}} {
		if Newer(c.term, c.version, c.thanTerm, c.thanVersion) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// set replaces one value of a document by its dotted path.
func set(d bson.D, path string, v any) bson.D {
	d = slices.Clone(d)
	key, rest, deeper := strings.Cut(path, ".")
	for i := range d {
		if d[i].Key == key {
			if deeper {
				sub, _ := d[i].Value.(bson.D)
				v = set(sub, rest, v)
			}
			d[i].Value = v
			return d
		}
	}
	return append(d, bson.E{Key: key, Value: v})
}

func TestChanges(t *testing.T) {
	before := role(t, "primary")
	o := first(t, "127.0.0.1:27117", before)
	cluster, _, _ := o.ReplicaSet.Apply(nil, group, t0)
	facts := raw(t, o.Facts)
	observe := func(replies bson.D) Observation {
		return Observe(Input{
			Host: o.Host, Status: o.Status, Cluster: &cluster, Facts: facts, Replies: raw(t, replies),
			Ping: wire.Ping{At: t0.Add(time.Hour), Address: "127.0.0.1:27117"},
		})
	}
	same := observe(set(before, "hostInfo.system.currentTime", bson.DateTime(1)))
	if len(same.Changes) > 0 || len(same.Events) > 0 {
		t.Errorf("noise was taken for changes: %v %v", same.Changes, same.Events)
	}
	after := before
	for path, v := range map[string]any{
		"getParameter.authSchemaVersion":      int64(5), // same number, other type: no change
		"getParameter.cachePressureThreshold": int32(12345), "getParameter.featureCompatibilityVersion.version": "5.0",
		"getCmdLineOpts.parsed.net.port": int32(27118), "hostInfo.system.memSizeMB": int32(48000), "buildInfo.version": "5.0.1",
		"serverStatus.version": "5.0.1", "replSetGetConfig.config.version": int32(2), "replSetGetConfig.config.settings.heartbeatTimeoutSecs": int32(20),
	} {
		after = set(after, path, v)
	}
	warnings := bson.A{`{"t":{"$date":"2026-11-22T03:43:51.468+00:00"},"s":"W",  "c":"CONTROL",  "id":22138,   "ctx":"initandlisten","msg":"You are running this process as the root user, which is not recommended","tags":["startupWarnings"]}`}
	after = set(after, "startupWarnings.log", warnings)
	var config struct {
		Config struct {
			Members []bson.D
		}
	}
	load(t, "primary/replSetGetConfig.json", &config)
	members := config.Config.Members
	after = set(after, "replSetGetConfig.config.members", bson.A{set(members[0], "priority", 1.0), members[1], members[2], bson.D{{Key: "_id", Value: 4}, {Key: "host", Value: "db9:27017"}}})
	changed := observe(after)
	var got []string
	for _, c := range changed.Changes {
		if c.Kind == "startupWarnings" {
			c.Before, c.After = strconv.FormatBool(c.Before != ""), strconv.FormatBool(c.After != "")
		}
		got = append(got, strings.Join([]string{c.Kind, c.Path, c.Before, c.After}, "|"))
	}
	slices.Sort(got)
	var original struct{ CachePressureThreshold any }
	load(t, "primary/getParameter-all.json", &original)
	want := []string{
		"cmdLineOpts|net.port|27117|27118",
		"configuration|settings.heartbeatTimeoutSecs|10|20",
		"fcv|featureCompatibilityVersion|4.6|5.0",
		"hostInfo|system.memSizeMB|24105|48000",
		"members|members.0.priority|2|1",
		"members|members.3|127.0.0.1:27120|",
		"members|members.4||db9:27017",
		"startupWarnings|startupWarnings|true|false",
		"startupWarnings|startupWarnings|true|false",
		"startupWarnings|startupWarnings|true|false",
		"startupWarnings|startupWarnings|true|false",
		"startupWarnings|startupWarnings|true|false",
		"version|version|4.5.1|5.0.1",
	}
	got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "parameters|cachePressureThreshold|") })
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	var types []string
	for _, e := range changed.Events {
		sentence(t, e, "127.0.0.1:27117")
		types = append(types, string(e.Type))
	}
	slices.Sort(types)
	if d := cmp.Diff([]string{"HOST_UPGRADED", "SERVER_PARAMETERS_CHANGED", "STARTUP_WARNINGS_CHANGED", "VERSION_CHANGED"}, types); d != "" {
		t.Errorf("events (-want +got)\n%s", d)
	}
	// The second member that brings the same configuration tells nothing new.
	newer, _, _ := changed.ReplicaSet.Apply(&cluster, group, t0)
	cluster = newer
	for _, c := range observe(after).Changes {
		if c.Kind == "configuration" || c.Kind == "members" {
			t.Errorf("told twice: %+v", c)
		}
	}
}

// FuzzObserve: whatever a process answers, deriving from it must not fail.
func FuzzObserve(f *testing.F) {
	for _, dir := range []string{"primary", "arbiter", "sharded/mongos", "uninitiated"} {
		f.Add([]byte(raw(f, role(f, dir))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if wire.Validate(b) != nil {
			return
		}
		o := Observe(Input{Host: newHost("db1:27017"), Replies: b, Ping: wire.Ping{At: t0}})
		facts := raw(t, append(bson.D{}, o.Facts...))
		o2 := Observe(Input{Host: o.Host, Status: o.Status, Replies: b, Facts: facts, Ping: wire.Ping{At: t0.Add(time.Minute)}})
		if o2.ReplicaSet != nil {
			c, _, _ := o2.ReplicaSet.Apply(nil, group, t0)
			Elect(&c, &o2)
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	replies := role(b, "primary")
	o := first(b, "127.0.0.1:27117", replies)
	hot := bson.D{}
	for _, e := range replies {
		if e.Key == "hello" || e.Key == "serverStatus" || e.Key == "replSetGetStatus" {
			hot = append(hot, e)
		}
	}
	in := Input{Host: o.Host, Status: o.Status, Replies: raw(b, hot), Ping: wire.Ping{At: t0.Add(time.Minute), Address: "127.0.0.1:27117"}}
	b.ReportAllocs()
	for b.Loop() {
		Observe(in)
	}
}
