package ingestion

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/facts"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

var t0 = time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)

// collections are all that a site writes.
func collections() []docstore.Collection {
	all := areas.Collections()
	if !slices.ContainsFunc(all, func(c docstore.Collection) bool { return c.Name == rowCollection }) {
		all = append(all, series.Collections()...)
	}
	return all
}

const rowCollection = "series.rows"

// site is a server with one group.
type site struct {
	t      testing.TB
	s      *store.Store
	inv    *inventory.Inventory
	acc    *access.Access
	events *alerting.Alerting
	facts  *facts.Facts
	reg    *prometheus.Registry
	server *Server
	http   *httptest.Server
	group  model.Group
	key    string
	now    time.Time
	mu     sync.Mutex
	seq    int64
}

func newSite(t testing.TB, e docstore.Engine, change ...func(*Options)) *site {
	t.Helper()
	s := storetest.OpenOn(t, e, collections()...)
	x := &site{t: t, s: s, inv: inventory.New(s), acc: access.New(s), events: alerting.New(s), facts: facts.New(s), reg: prometheus.NewRegistry(), now: t0}
	x.group = model.Group{ID: "5f0000000000000000000001", OrgID: "5f00000000000000000000aa", Name: "prod", Created: t0, Settings: model.DefaultGroupSettings()}
	if err := x.inv.CreateGroup(t.Context(), x.group); err != nil {
		t.Fatal(err)
	}
	x.key = auth.NewAgentKey()
	err := x.acc.CreateAgentKey(t.Context(), model.AgentKey{ID: model.NewID(), GroupID: x.group.ID, Digest: access.KeyDigest(x.key), Last4: access.Last4(x.key), Created: t0})
	if err != nil {
		t.Fatal(err)
	}
	x.serve(change...)
	return x
}

func (x *site) serve(change ...func(*Options)) {
	x.t.Helper()
	now := func() time.Time { x.mu.Lock(); defer x.mu.Unlock(); return x.now }
	rows, err := series.New(series.Options{Engine: x.s.Engine(), Now: now})
	if err != nil {
		x.t.Fatal(err)
	}
	o := Options{Inventory: x.inv, Access: x.acc, Events: x.events, Series: rows, Facts: x.facts, Store: x.s, Backup: backup.New(x.s), Reg: x.reg, Now: now}
	for _, c := range change {
		c(&o)
	}
	if x.server, err = New(o); err != nil {
		x.t.Fatal(err)
	}
	x.http = httptest.NewServer(x.server)
	x.t.Cleanup(x.http.Close)
}

func (x *site) setNow(now time.Time) { x.mu.Lock(); x.now = now; x.mu.Unlock() }

func (x *site) host(addr string) model.Host {
	x.t.Helper()
	name, port, err := model.SplitAddress(addr)
	if err != nil {
		x.t.Fatal(err)
	}
	h := model.Host{ID: model.NewHostID(x.group.ID, name, port), GroupID: x.group.ID, Hostname: name, Port: port, Created: t0, Type: model.TypeNoData, MemberID: -1, Enabled: true, AlertsEnabled: true, Seed: true}
	if err := x.inv.CreateHost(x.t.Context(), h); err != nil {
		x.t.Fatal(err)
	}
	return h
}

// call sends a request and returns status and decompressed problem or body.
func (x *site) call(r *http.Request) (int, []byte, http.Header) {
	x.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		x.t.Fatal(err)
	}
	return resp.StatusCode, body, resp.Header
}

func (x *site) request(method, path string, body []byte) *http.Request {
	x.t.Helper()
	r, err := http.NewRequestWithContext(x.t.Context(), method, x.http.URL+path, bytes.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	r.SetBasicAuth(string(x.group.ID), x.key)
	return r
}

func (x *site) message(pings ...wire.Ping) wire.Post {
	x.seq++
	return wire.Post{Version: 1, Sent: x.now, Seq: x.seq, Pings: pings, Agent: wire.AgentInfo{ID: "agent1", Session: "s1", Type: "MONITORING", Hostname: "watch1", Version: "0.1.0", Started: t0}}
}

func (x *site) post(pings ...wire.Ping) wire.Ack {
	x.t.Helper()
	body, err := wire.EncodePost(x.message(pings...))
	if err != nil {
		x.t.Fatal(err)
	}
	status, answer, _ := x.call(x.request(http.MethodPost, wire.PathPings, body))
	if status != http.StatusOK {
		p, _ := wire.DecodeProblem(answer)
		x.t.Fatalf("status %d: %v", status, p)
	}
	ack, err := wire.DecodeAck(answer)
	if err != nil {
		x.t.Fatal(err)
	}
	return ack
}

func (x *site) conf(id, session string, seeds ...string) wire.Conf {
	x.t.Helper()
	return x.confCall(id, session, seeds, false)
}

func (x *site) confCall(id, session string, seeds []string, check bool) wire.Conf {
	x.t.Helper()
	q := wire.ConfQuery(wire.AgentInfo{ID: id, Session: session, Type: "MONITORING", Hostname: "watch-" + id, Version: "0.1.0", Started: t0, ConfCount: 1}, seeds)
	if check {
		q.Set(wire.ParamCheck, "1")
	}
	status, answer, _ := x.call(x.request(http.MethodGet, wire.PathConf+"?"+q.Encode(), nil))
	if status != http.StatusOK {
		p, _ := wire.DecodeProblem(answer)
		x.t.Fatalf("status %d: %v", status, p)
	}
	c, err := wire.DecodeConf(answer)
	if err != nil {
		x.t.Fatal(err)
	}
	return c
}

func (x *site) eventTypes() []string {
	x.t.Helper()
	events, _, err := x.events.Events(x.t.Context(), alerting.EventQuery{AllGroups: true, Limit: 1000})
	if err != nil {
		x.t.Fatal(err)
	}
	var types []string
	for _, e := range events {
		if !strings.Contains(e.Text, e.HostName) || !strings.HasSuffix(e.Text, ".") || strings.HasSuffix(e.Text, "..") {
			x.t.Errorf("the text of %s about %q is no sentence that names it: %q", e.Type, e.HostName, e.Text)
		}
		types = append(types, strings.TrimSpace(string(e.Type)+" "+e.HostName))
	}
	slices.Sort(types)
	return types
}

func (x *site) countRows() int {
	x.t.Helper()
	n, err := x.s.Engine().Count(x.t.Context(), docstore.Query{Collection: rowCollection}, 1_000_000)
	if err != nil {
		x.t.Fatal(err)
	}
	return n
}

// recorded builds the replies of one kind of process.
func recorded(t testing.TB, dir string, files ...string) bson.D {
	t.Helper()
	replies := bson.D{}
	names := map[string]string{"startupWarnings": "getLog-startupWarnings", "getParameter": "getParameter-all"}
	for _, name := range files {
		file := name
		if f := names[name]; f != "" {
			file = f
		}
		b, err := os.ReadFile(filepath.Join("..", "..", "shared", "topology", "testdata", "recorded", dir, file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var d bson.D
		if err := bson.UnmarshalExtJSON(b, true, &d); err != nil {
			t.Fatal(err)
		}
		replies = append(replies, bson.E{Key: name, Value: d})
	}
	return replies
}

func pack(t testing.TB, replies bson.D) []byte {
	t.Helper()
	raw, err := bson.Marshal(replies)
	if err != nil {
		t.Fatal(err)
	}
	z, err := wire.EncodeReplies(raw)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

var (
	often = []string{"hello", "serverStatus", "replSetGetStatus"}
	all   = append(slices.Clone(often), "replSetGetConfig", "getCmdLineOpts", "startupWarnings")
)

func answered(t testing.TB, h model.Host, at time.Time, replies bson.D) wire.Ping {
	return wire.Ping{HostID: string(h.ID), At: at, Address: h.Address(), IP: "127.0.0.1", RTT: 500, Replies: pack(t, replies)}
}

func TestAPingsWay(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	ctx := t.Context()
	primary := x.host("127.0.0.1:27117")
	ack := x.post(answered(t, primary, t0, recorded(t, "primary", all...)))
	if ack.Accepted != 1 || len(ack.Rejected) > 0 || ack.Seq != 1 || !ack.Time.Equal(t0) {
		t.Fatalf("ack %+v", ack)
	}
	h, err := x.inv.Host(ctx, x.group.ID, primary.ID)
	if err != nil || h.Type != model.TypeReplicaPrimary || h.Version != "4.5.1" || h.ClusterID == "" || !slices.Contains(h.Aliases, "db1.example.net:27117") {
		t.Errorf("%v %+v", err, h)
	}
	st, err := x.inv.Status(ctx, x.group.ID, primary.ID)
	if err != nil || st.Reach != model.ReachUp || st.State != model.StatePrimary || !st.LastPing.Equal(t0) || st.AgentID != "agent1" {
		t.Errorf("%v %+v", err, st)
	}
	c, err := x.inv.Cluster(ctx, x.group.ID, h.ClusterID)
	if err != nil || c.PrimaryID != primary.ID || len(c.Members) != 4 || c.Name != "rs0" || c.Members[0].HostID != primary.ID {
		t.Errorf("%v %+v", err, c)
	}
	last, err := x.inv.LastPing(ctx, x.group.ID, primary.ID)
	if err != nil || !last.At.Equal(t0) {
		t.Errorf("%v %v", err, last.At)
	}
	if doc, _, err := x.facts.Replies(ctx, x.group.ID, primary.ID); err != nil || doc.Lookup("getCmdLineOpts").IsZero() {
		t.Errorf("facts: %v", err)
	}
	hosts, err := x.inv.Hosts(ctx, x.group.ID)
	if err != nil || len(hosts) != 4 {
		t.Fatalf("%v: %d hosts, want the member and its three neighbours", err, len(hosts))
	}
	if d := cmp.Diff([]string{"NEW_HOST 127.0.0.1:27118", "NEW_HOST 127.0.0.1:27119", "NEW_HOST 127.0.0.1:27120"}, x.eventTypes()); d != "" {
		t.Errorf("events (-want +got)\n%s", d)
	}
	if n := x.countRows(); n != 1 {
		t.Errorf("%d rows", n)
	}
	agents, err := x.inv.Agents(ctx, x.group.ID)
	if err != nil || len(agents) != 1 || agents[0].PingCount != 1 || !agents[0].LastPing.Equal(t0) {
		t.Errorf("%v %+v", err, agents)
	}

	// The same ping again changes nothing.
	before := dump(t, x.s.Engine())
	x.post(answered(t, primary, t0, recorded(t, "primary", all...)))
	if d := cmp.Diff(before, dump(t, x.s.Engine())); d != "" {
		t.Errorf("a repeated ping changed something (-before +after)\n%s", d)
	}
}

// dump reads everything pings write.
func dump(t testing.TB, e docstore.Engine) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, c := range collections() {
		q := docstore.Query{Collection: c.Name}
		for {
			page, err := e.Scan(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page.Docs {
				if c.Name != "agents" && c.Name != "agentkeys" {
					all[c.Name+" "+d.ID] = d.Body.String()
				}
			}
			if q.Resume = page.Next; q.Resume == "" {
				break
			}
		}
	}
	return all
}

// TestLatePings: a back-filled ping makes a row and moves nothing backwards, nor does it tell of states long past.
func TestLatePings(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	h := x.host("127.0.0.1:27118")
	x.post(answered(t, h, t0.Add(-time.Minute), recorded(t, "secondary", all...)))
	x.post(answered(t, h, t0, recorded(t, "secondary", often...)))
	late := answered(t, h, t0.Add(-time.Hour), recorded(t, "primary", often...))
	late.Late = true
	down := wire.Ping{HostID: string(h.ID), At: t0.Add(-2 * time.Hour), Late: true, Errors: []wire.Failure{{Command: "connect", Message: "refused"}}}
	if ack := x.post(late, down); ack.Accepted != 2 {
		t.Fatalf("%+v", ack)
	}
	st, err := x.inv.Status(t.Context(), x.group.ID, h.ID)
	if err != nil || st.State != model.StateSecondary || !st.At.Equal(t0) || st.Reach != model.ReachUp {
		t.Errorf("%v %+v", err, st)
	}
	for _, e := range x.eventTypes() {
		if !strings.HasPrefix(e, "NEW_HOST") {
			t.Errorf("event %s", e)
		}
	}
	if n := x.countRows(); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

// TestBackfill: many late pings in one post tell the history in its order.
func TestBackfill(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	h := x.host("127.0.0.1:27117")
	var pings []wire.Ping
	for i := range 60 {
		dir := "primary"
		if i >= 30 && i < 40 {
			dir = "secondary"
		}
		files := often
		if i == 0 {
			files = all
		}
		p := answered(t, h, t0.Add(time.Duration(i-60)*time.Minute), recorded(t, dir, files...))
		p.Late = true
		pings = append(pings, p)
	}
	slices.Reverse(pings)
	if ack := x.post(pings...); ack.Accepted != 60 {
		t.Fatalf("%+v", ack)
	}
	if n := x.countRows(); n != 60 {
		t.Errorf("%d rows", n)
	}
	got := x.eventTypes()
	for _, want := range []string{"HOST_NOW_SECONDARY 127.0.0.1:27117", "HOST_NOW_PRIMARY 127.0.0.1:27117"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %v", want, got)
		}
	}
}

func TestRefusedCalls(t *testing.T) {
	x := newSite(t, storetest.Engine(t), func(o *Options) { o.MaxPost = 64 << 10 })
	h := x.host("127.0.0.1:27117")
	good, err := wire.EncodePost(x.message(answered(t, h, t0, recorded(t, "primary", often...))))
	if err != nil {
		t.Fatal(err)
	}
	at := func(sent time.Time) []byte {
		m := x.message()
		m.Sent = sent
		b, err := wire.EncodePost(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	newer := x.message()
	newer.Version = 9
	future, err := wire.EncodePost(newer)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		body   []byte
		status int
		code   string
	}{
		{"no key", func(r *http.Request) { r.Header.Del("Authorization") }, good, 401, wire.CodeBadKey},
		{"a wrong key", func(r *http.Request) { r.SetBasicAuth(string(x.group.ID), auth.NewAgentKey()) }, good, 401, wire.CodeBadKey},
		{"another group", func(r *http.Request) { r.SetBasicAuth("5f0000000000000000000002", x.key) }, good, 401, wire.CodeBadKey},
		{"a key that is none", func(r *http.Request) { r.SetBasicAuth(string(x.group.ID), "secret") }, good, 401, wire.CodeBadKey},
		{"too big", nil, make([]byte, 65<<10), 413, wire.CodeTooLarge},
		{"malformed", nil, []byte("not a post"), 400, wire.CodeMalformed},
		{"an unknown version", nil, future, 400, wire.CodeBadVersion},
		{"a clock that is ahead", nil, at(t0.Add(11 * time.Minute)), 400, wire.CodeClock},
		{"a clock that is behind", nil, at(t0.Add(-11 * time.Minute)), 400, wire.CodeClock},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := x.request(http.MethodPost, wire.PathPings, c.body)
			if c.change != nil {
				c.change(r)
			}
			status, body, _ := x.call(r)
			p, err := wire.DecodeProblem(body)
			if status != c.status || err != nil || p.Code != c.code || p.Reason == "" {
				t.Errorf("got %d, %v, %+v", status, err, p)
			}
		})
	}
	if d := cmp.Diff([]string{"AGENT_API_KEY_REFUSED", "AGENT_API_KEY_REFUSED"}, x.eventTypes()); d != "" {
		t.Errorf("wrong keys of one group and of none make two events, however often they come (-want +got)\n%s", d)
	}
	if n := testutil.ToFloat64(x.server.m.refused.WithLabelValues(wire.CodeClock)); n != 2 {
		t.Errorf("%v clocks counted", n)
	}
	if n := x.countRows(); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	if ack := x.post(answered(t, h, t0, recorded(t, "primary", often...))); ack.Accepted != 1 {
		t.Errorf("afterwards a good post gets %+v", ack)
	}
}

func TestRejectedPings(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	h, gone := x.host("127.0.0.1:27117"), x.host("127.0.0.1:27999")
	if err := x.inv.UpdateHost(t.Context(), x.group.ID, gone.ID, func(h *model.Host) error { h.Deleted = true; return nil }); err != nil {
		t.Fatal(err)
	}
	replies := recorded(t, "standalone", "hello", "serverStatus")
	broken := answered(t, h, t0.Add(-time.Second), replies)
	broken.Replies = []byte("rubbish")
	stranger := answered(t, h, t0, replies)
	stranger.HostID = "ffffffffffffffffffffffffffffffff"
	nobody := stranger
	nobody.HostID = "../../etc"
	ack := x.post(
		answered(t, h, t0, replies), stranger, nobody, answered(t, gone, t0, replies), broken,
		answered(t, h, t0.Add(-49*time.Hour), replies), answered(t, h, t0.Add(11*time.Minute), replies),
	)
	var reasons []string
	for _, r := range ack.Rejected {
		reasons = append(reasons, r.Reason)
	}
	slices.Sort(reasons)
	if ack.Accepted != 1 || len(reasons) != 6 {
		t.Errorf("accepted %d, rejected %q", ack.Accepted, reasons)
	}
	for reason, want := range map[string]float64{"unknown_host": 2, "removed": 1, "malformed": 1, "too_old": 1, "future": 1, "accepted": 1} {
		if got := testutil.ToFloat64(x.server.m.pings.WithLabelValues(reason)); got != want {
			t.Errorf("%s: %v, want %v", reason, got, want)
		}
	}
}

// TestDeletedHostsStayAway: what a person removed is not discovered again, neither by neighbours nor by an agent's seeds.
func TestDeletedHostsStayAway(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	h, gone := x.host("127.0.0.1:27117"), x.host("127.0.0.1:27118")
	if err := x.inv.UpdateHost(t.Context(), x.group.ID, gone.ID, func(h *model.Host) error { h.Deleted = true; return nil }); err != nil {
		t.Fatal(err)
	}
	x.post(answered(t, h, t0, recorded(t, "primary", all...)))
	c := x.conf("a1", "s1", "127.0.0.1:27118")
	var addrs []string
	for _, h := range c.Hosts {
		addrs = append(addrs, model.Address(h.Hostname, int(h.Port)))
	}
	if d := cmp.Diff([]string{"127.0.0.1:27117", "127.0.0.1:27119", "127.0.0.1:27120"}, addrs); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// swap is an engine that can be exchanged under an open store.
type swap struct{ docstore.Engine }

// TestFailureAtEveryStep breaks the n-th write of a post, sends it again, and compares with a post that met no trouble.
func TestFailureAtEveryStep(t *testing.T) {
	run := func(t *testing.T, fault storetest.Fault, at int) (end map[string]string, calls int) {
		sound := storetest.Engine(t)
		engine := &swap{sound}
		x := newSite(t, engine)
		h := x.host("127.0.0.1:27117")
		x.post(answered(t, h, t0.Add(-time.Minute), recorded(t, "secondary", all...)))
		body, err := wire.EncodePost(x.message(answered(t, h, t0, recorded(t, "primary", all...))))
		if err != nil {
			t.Fatal(err)
		}
		faulty := storetest.Break(sound, fault, at)
		engine.Engine = faulty
		status, answer, header := x.call(x.request(http.MethodPost, wire.PathPings, body))
		engine.Engine = sound
		if status != http.StatusOK {
			p, err := wire.DecodeProblem(answer)
			if status != http.StatusServiceUnavailable || err != nil || p.Code != wire.CodeUnavailable || header.Get("Retry-After") == "" {
				t.Errorf("answered %d, %+v", status, p)
			}
			if status, _, _ := x.call(x.request(http.MethodPost, wire.PathPings, body)); status != http.StatusOK {
				t.Errorf("the second time: %d", status)
			}
		}
		return dump(t, sound), faulty.Calls()
	}
	want, calls := run(t, storetest.Refuse, 0)
	if calls < 3 {
		t.Fatalf("a post took %d writes", calls)
	}
	for _, fault := range storetest.Faults() {
		for n := 1; n <= calls; n++ {
			got, _ := run(t, fault, n)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("fault %d at write %d: (-want +got)\n%s", fault, n, d)
			}
		}
	}
}

func TestConf(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	ctx := t.Context()
	c := x.conf("a1", "s1", "db1.example.net", "db2.example.net:27018")
	if c.State != "ACTIVE" || len(c.Hosts) != 2 || c.PingSeconds != 60 || c.ConfSeconds != 10 || !c.Diagnostics || !c.Time.Equal(t0) || c.MaxPost != wire.MaxPost {
		t.Errorf("%+v", c)
	}
	if again := x.conf("a1", "s1", "db1.example.net", "db2.example.net:27018"); len(again.Hosts) != 2 {
		t.Errorf("asking again gave %d hosts", len(again.Hosts))
	}
	first := model.HostID(c.Hosts[0].ID)
	if err := x.inv.SetHostCredentials(ctx, x.group.ID, first, model.Credentials{Username: "mon", Password: "geheim", Source: "admin"}); err != nil {
		t.Fatal(err)
	}
	if standby := x.conf("a2", "s2"); standby.State != "STANDBY" || len(standby.Hosts) > 0 {
		t.Errorf("a second agent got %+v", standby)
	}
	if c := x.conf("a1", "s1"); c.Hosts[0].Username != "mon" || c.Hosts[0].Password != "geheim" {
		t.Errorf("credentials: %+v", c.Hosts[0])
	}
	x.setNow(t0.Add(91 * time.Second))
	if c := x.conf("a2", "s2"); c.State != "ACTIVE" || len(c.Hosts) != 2 {
		t.Errorf("after 91 s of silence the standby got %+v", c)
	}
	want := []string{"AGENT_TOOK_OVER", "NEW_AGENT", "NEW_AGENT", "NEW_HOST db1.example.net:27017", "NEW_HOST db2.example.net:27018"}
	if d := cmp.Diff(want, x.eventTypes()); d != "" {
		t.Errorf("events (-want +got)\n%s", d)
	}
	empty := newSite(t, storetest.Engine(t))
	if c := empty.conf("a1", "s1"); c.State != "NO_PROCESSES" {
		t.Errorf("state %s", c.State)
	}
	status, body, _ := x.call(x.request(http.MethodGet, wire.PathConf+"?v=1", nil))
	if p, err := wire.DecodeProblem(body); status != http.StatusBadRequest || err != nil || p.Code != wire.CodeMalformed {
		t.Errorf("%d %v %+v", status, err, p)
	}
}

// TestConfCheck: an agent that is only tried out gets what the active agent gets, and changes nothing.
func TestConfCheck(t *testing.T) {
	e := storetest.Engine(t)
	x := newSite(t, e)
	h := x.host("db1.example.net:27017")
	if err := x.inv.SetHostCredentials(t.Context(), x.group.ID, h.ID, model.Credentials{Username: "mon", Password: "geheim", Source: "admin"}); err != nil {
		t.Fatal(err)
	}
	for _, claimed := range []bool{false, true} {
		if claimed {
			x.conf("a1", "s1")
		}
		before := dump(t, e)
		c := x.confCall("a2", "s2", []string{"db2.example.net:27017"}, true)
		if c.State != "ACTIVE" || len(c.Hosts) != 1 || c.Hosts[0].Username != "mon" || c.Hosts[0].Password != "geheim" {
			t.Errorf("with another agent active: %v: %+v", claimed, c)
		}
		if d := cmp.Diff(before, dump(t, e)); d != "" {
			t.Errorf("the check left a trace (-before +after)\n%s", d)
		}
		if agents, err := x.inv.Agents(t.Context(), x.group.ID); err != nil || slices.ContainsFunc(agents, func(a model.Agent) bool { return a.ID == "a2" }) {
			t.Errorf("%v: the agent was noted: %+v", err, agents)
		}
	}
}

func TestHostsPass(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	ctx := t.Context()
	seed := x.host("localhost:27117")
	h := x.host("127.0.0.2:27118")
	x.conf("agent1", "s1")
	x.post(answered(t, seed, t0, recorded(t, "primary", all...)), answered(t, h, t0, recorded(t, "secondary", all...)))
	pass := func() {
		for _, p := range x.server.Passes() {
			if p.Name == "hosts" {
				if err := p.Run(ctx, x.now); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// The members name each other 127.0.0.1: the same processes turn up a second time, and are merged.
	find := func(addr string) model.Host {
		got, err := x.inv.FindHost(ctx, x.group.ID, addr)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	twin := find("127.0.0.1:27119")
	x.setNow(t0.Add(time.Minute))
	x.post(answered(t, twin, t0.Add(time.Minute), recorded(t, "secondary", all...)), answered(t, seed, t0.Add(time.Minute), recorded(t, "primary", often...)))
	pass()
	merged, err := x.inv.Host(ctx, x.group.ID, twin.ID)
	if err != nil || !merged.Hidden || merged.DuplicateOf != h.ID {
		t.Errorf("%v: hidden %v, duplicate of %q", err, merged.Hidden, merged.DuplicateOf)
	}
	// The agent goes on, but says nothing about one host any more.
	x.setNow(t0.Add(10 * time.Minute))
	x.conf("agent1", "s1")
	x.post(answered(t, seed, x.now, recorded(t, "primary", often...)))
	pass()
	st, err := x.inv.Status(ctx, x.group.ID, h.ID)
	if err != nil || st.Reach != model.ReachDown || st.State != model.StateDown {
		t.Errorf("%v: %+v", err, st)
	}
	if !slices.Contains(x.eventTypes(), "HOST_DOWN 127.0.0.2:27118") {
		t.Errorf("events %v", x.eventTypes())
	}
	// It comes back.
	x.setNow(t0.Add(11 * time.Minute))
	x.post(answered(t, h, x.now, recorded(t, "secondary", often...)))
	if st, _ := x.inv.Status(ctx, x.group.ID, h.ID); st.Reach != model.ReachUp || st.State != model.StateSecondary {
		t.Errorf("%+v", st)
	}
	// An agent that is away vouches for nothing.
	x.setNow(t0.Add(30 * time.Minute))
	pass()
	if st, _ := x.inv.Status(ctx, x.group.ID, h.ID); st.Reach != model.ReachUp {
		t.Errorf("%+v", st)
	}
}

// withProcess gives a hello another process identity.
func withProcess(t testing.TB, replies bson.D) bson.D {
	t.Helper()
	replies = slices.Clone(replies)
	for i := range replies {
		hello, ok := replies[i].Value.(bson.D)
		if !ok || replies[i].Key != "hello" {
			continue
		}
		hello = slices.DeleteFunc(slices.Clone(hello), func(e bson.E) bool { return e.Key == "topologyVersion" })
		replies[i].Value = append(hello, bson.E{Key: "topologyVersion", Value: bson.D{{Key: "processId", Value: bson.NewObjectID()}}})
	}
	return replies
}

// TestDeactivation: a mongos that is away for long disappears until its cluster names it among the living; a member never does.
func TestDeactivation(t *testing.T) {
	x := newSite(t, storetest.Engine(t))
	ctx := t.Context()
	alive, gone, member := x.host("127.0.0.1:27150"), x.host("db9:27150"), x.host("127.0.0.1:27118")
	router := recorded(t, "sharded/mongos", "hello", "serverStatus")
	named := func(age time.Duration) bson.D {
		entry := func(id string, age time.Duration) bson.D {
			return bson.D{{Key: "_id", Value: id}, {Key: "ping", Value: bson.NewDateTimeFromTime(t0.Add(-age))}}
		}
		return append(slices.Clone(router), bson.E{Key: "configMongos", Value: bson.D{
			{Key: "docs", Value: bson.A{entry("db1.example.net:27150", 0), entry("db9:27150", age)}},
		}})
	}
	x.conf("agent1", "s1")
	other := withProcess(t, router)
	x.post(answered(t, alive, t0, named(0)), answered(t, gone, t0, other), answered(t, member, t0, recorded(t, "secondary", all...)))
	deactivated := func(h model.Host) bool {
		h, err := x.inv.Host(ctx, x.group.ID, h.ID)
		if err != nil {
			t.Fatal(err)
		}
		return h.Deactivated
	}
	at := t0.Add(31 * 24 * time.Hour)
	x.setNow(at)
	x.conf("agent1", "s1")
	x.post(answered(t, alive, at, named(time.Hour)))
	for _, p := range x.server.Passes() {
		if p.Name == "hosts" {
			if err := p.Run(ctx, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if deactivated(alive) || !deactivated(gone) || deactivated(member) {
		t.Errorf("deactivated: alive %v, gone %v, member %v", deactivated(alive), deactivated(gone), deactivated(member))
	}
	x.post(answered(t, alive, at.Add(5*time.Minute), named(time.Hour)))
	if !deactivated(gone) {
		t.Error("a mongos that its cluster counts as gone was taken up again")
	}
	x.post(answered(t, alive, at.Add(6*time.Minute), named(time.Second)))
	if deactivated(gone) {
		t.Error("a mongos that came back is not visited")
	}
}

func TestPassRoute(t *testing.T) {
	x := newSite(t, storetest.Engine(t), func(o *Options) { o.PassToken = "let me in" })
	for _, c := range []struct {
		name, token string
		want        int
	}{{"hosts", "let me in", 204}, {"hosts", "", 403}, {"hosts", "guess", 403}, {"nothing", "let me in", 404}} {
		r := x.request(http.MethodPost, "/passes/"+c.name, nil)
		r.Header.Set("Authorization", "Bearer "+c.token)
		if status, _, _ := x.call(r); status != c.want {
			t.Errorf("%+v: %d", c, status)
		}
	}
}

// TestOverload: what comes on top of the limit is told to come again, at once.
func TestOverload(t *testing.T) {
	x := newSite(t, storetest.Engine(t), func(o *Options) { o.MaxConcurrent = 1 })
	x.server.posts <- struct{}{}
	status, body, header := x.call(x.request(http.MethodPost, wire.PathPings, nil))
	p, err := wire.DecodeProblem(body)
	if status != http.StatusServiceUnavailable || err != nil || p.Code != wire.CodeUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("%d %v %+v", status, err, p)
	}
	<-x.server.posts
}

// fullSize builds the replies of a recorded primary as they were, where the recordings are at hand.
func fullSize(b *testing.B) bson.D {
	b.Helper()
	dir := os.Getenv("HEARTWOOD_TEST_FIXTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "fixtures")
	}
	replies := bson.D{}
	for _, name := range often {
		text, err := os.ReadFile(filepath.Join(dir, "recorded", "primary", name+".json"))
		if err != nil {
			b.Skip("the recorded fixtures are not here: set HEARTWOOD_TEST_FIXTURES")
		}
		var d bson.D
		if err := bson.UnmarshalExtJSON(text, true, &d); err != nil {
			b.Fatal(err)
		}
		replies = append(replies, bson.E{Key: name, Value: d})
	}
	return replies
}

// BenchmarkPost measures what a ping costs from the request's first byte to its answer, the store's work included, in
// posts of as many pings as an agent of that many hosts sends.
func BenchmarkPost(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			x := newSite(b, storetest.Engine(b))
			var hosts []model.Host
			for i := range n {
				hosts = append(hosts, x.host(model.Address("db.example.net", 20000+i)))
			}
			z, round := pack(b, fullSize(b)), 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				var pings []wire.Ping
				round++
				for _, h := range hosts {
					pings = append(pings, wire.Ping{
						HostID: string(h.ID), At: t0.Add(time.Duration(round) * time.Millisecond), Address: h.Address(), IP: "192.0.2.1", RTT: 500, Replies: z,
					})
				}
				body, err := wire.EncodePost(x.message(pings...))
				if err != nil {
					b.Fatal(err)
				}
				r := httptest.NewRequest(http.MethodPost, wire.PathPings, bytes.NewReader(body))
				r.SetBasicAuth(string(x.group.ID), x.key)
				w := httptest.NewRecorder()
				b.StartTimer()
				x.server.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/ping")
		})
	}
}
