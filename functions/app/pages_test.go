package app

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// owner is a site with one group and its owner at a browser.
func owner(t testing.TB) (*site, model.Group, *browser) {
	t.Helper()
	s := newSite(t)
	g := s.group("Shop")
	s.user("ann@example.com", model.Grant{Role: model.GlobalOwner})
	return s, g, s.signIn("ann@example.com")
}

func at(g model.Group, path string) string { return "/g/" + string(g.ID) + path }

// TestStatesOfPages renders every page in the states it can be in (interface.md 6).
func TestStatesOfPages(t *testing.T) {
	const ( // ids of the fleet below
		set = "rs0"
	)
	setUp := map[string]func(*site, model.Group) []model.HostID{
		"empty":   func(*site, model.Group) []model.HostID { return nil },
		"waiting": func(s *site, g model.Group) []model.HostID { s.agent(g, time.Minute); return s.fleet(g, set, "new") },
		"normal": func(s *site, g model.Group) []model.HostID {
			s.agent(g, time.Minute)
			ids := s.fleet(g, set, "up", "up", "up")
			s.measure(ids[0], 30)
			s.ping(g, ids[0], bson.D{{Key: "hello", Value: bson.D{{Key: "ok", Value: 1}}}, {Key: "serverStatus", Value: bson.D{{Key: "host", Value: "db1"}, {Key: "<script>", Value: "</p>"}, {Key: "connections", Value: bson.D{{Key: "current", Value: 40}}}}}})
			return ids
		},
		"trouble": func(s *site, g model.Group) []model.HostID {
			s.agent(g, time.Minute)
			return s.fleet(g, set, "down", "unauthorised", "lags")
		},
		"stale": func(s *site, g model.Group) []model.HostID {
			s.agent(g, 7*time.Minute)
			return s.fleet(g, set, "stale", "stale", "stale")
		},
	}
	cases := []struct {
		state, path string // HOST is the first host, SET its cluster
		want        []string
	}{
		{"empty", "/deployment", []string{"Nothing is monitored yet", "Install an agent"}},
		{"empty", "/agents", []string{"Install a monitoring agent", "mmsGroupId=", "PASTE-THE-AGENT-API-KEY-HERE", "no agent"}},
		{"empty", "/settings/hosts", []string{"No host yet"}},
		{"empty", "/settings/agent-keys", []string{"No agent API key"}},
		{"empty", "/settings/api-keys", []string{"No API key"}},
		{"waiting", "/deployment", []string{"waiting"}},
		{"waiting", "/clusters/SET", []string{"waiting", "No agent has reached this host yet."}},
		{"waiting", "/hosts/HOST", []string{"No agent has reached this host yet.", "What has arrived so far: an agent has called", "Waiting for the first data"}},
		{"waiting", "/hosts/HOST/last-ping", []string{"No ping has arrived"}},
		{"normal", "/deployment", []string{"rs0", "healthy", "primary", "secondary", "400 ms", "agent active"}},
		{"normal", "/deployment?view=hosts", []string{"db1.rs0.example.com:27017", "7.0.14", "10 s ago</time>"}},
		{"normal", "/clusters/SET", []string{"Members compared", `data-chart="operations"`, "term", "version 3", "Nothing happened to these members"}},
		{"normal", "/clusters/SET?view=table&range=1h", []string{"Last value", "Connections", `<td class="num">40</td>`, `<td class="num">–</td>`}},
		{"normal", "/clusters/SET?charts=lag", []string{`data-chart="lag"`}},
		{"normal", "/hosts/HOST", []string{`data-chart="opcounters"`, "primary", "Oplog window", `data-range="86400"`}},
		{"normal", "/hosts/HOST?tab=hardware", []string{`data-chart="normalized-system-cpu"`}},
		{"normal", "/hosts/HOST?tab=dbstats", []string{`data-chart="db-data-size"`}},
		{"normal", "/hosts/HOST?view=table&range=1h", []string{"Connections", ">40<"}},
		{"normal", "/hosts/HOST/last-ping", []string{"<b>connections</b>", "&lt;script&gt;", "Download JSON"}},
		{"normal", "/agents", []string{"mon1.example.com", "active", "conf: 503", "round done"}},
		{"trouble", "/deployment", []string{"no primary", "down", "not authorised", "lags"}},
		{"trouble", "/hosts/HOST", []string{"It does not answer: connection refused", "Since ", "60 min ago", "last answer", "systemctl status mongod", "monitoring-agent.config --check"}},
		{"trouble", "/clusters/SET", []string{"no primary", "the set takes no writes"}},
		{"stale", "/deployment", []string{"What you see is old.", "stale", "agent silent"}},
		{"stale", "/hosts/HOST", []string{"No ping about it for 7 min."}},
		{"stale", "/agents", []string{"silent"}},
	}
	for _, state := range []string{"empty", "waiting", "normal", "trouble", "stale"} {
		t.Run(state, func(t *testing.T) {
			s, g, b := owner(t)
			ids := setUp[state](s, g)
			for _, c := range cases {
				if c.state != state {
					continue
				}
				path := strings.ReplaceAll(c.path, "SET", clusterID(g, set))
				if len(ids) > 0 {
					path = strings.ReplaceAll(path, "HOST", string(ids[0]))
				}
				b.get(at(g, path)).want(200, c.want...)
			}
		})
	}
}

func TestNoRight(t *testing.T) {
	s := newSite(t)
	g, other := s.group("Shop"), s.group("Bank")
	ids := s.fleet(g, "rs0", "up", "up", "up")
	s.user("root@example.com", model.Grant{Role: model.GlobalOwner})
	s.user("olga@example.com", model.Grant{Role: model.GroupOwner, GroupID: other.ID})
	s.user("ron@example.com", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	s.user("nina@example.com")
	s.ok(s.acc.CreateAgentKey(t.Context(), model.AgentKey{ID: "aaaaaaaaaaaaaaaaaaaaaaaa", GroupID: g.ID, Desc: "k", Digest: make([]byte, 32), Last4: "8b87", Created: s.now}))

	t.Run("a group of others", func(t *testing.T) {
		b := s.signIn("olga@example.com")
		for _, path := range []string{"/deployment", "/agents", "/settings", "/hosts/" + string(ids[0]), "/clusters/" + clusterID(g, "rs0"), "/hosts/" + string(ids[0]) + "/last-ping.json"} {
			b.get(at(g, path)).want(403, "You cannot see this group", "root@example.com").wantNot("Shop")
		}
		b.get(at(g, "/hosts/"+string(ids[0])+"/series?charts=opcounters")).want(403)
		b.get("/g/"+string(model.NewID())+"/deployment").want(403, "You cannot see this group")
		// A host of the other group is not reachable through a group of one's own.
		b.get(at(other, "/hosts/"+string(ids[0]))).want(404, "There is no such host")
		b.get(at(other, "/clusters/"+clusterID(g, "rs0"))).want(404, "There is no such cluster")
		b.get("/search?q=db1").want(200).wantNot("rs0")
	})
	t.Run("a reader", func(t *testing.T) {
		b := s.signIn("ron@example.com")
		b.get(at(g, "/deployment")).want(200, "only Group Owners and Monitoring Admins add and remove hosts.")
		b.get(at(g, "/settings")).want(200, "You cannot change this", "disabled")
		b.get("/admin").want(403, "Who can grant it:", "root@example.com")
		b.get(at(g, "/settings"))
		for _, path := range []string{
			"/settings", "/settings/hosts", "/settings/hosts/" + string(ids[0]) + "/hide", "/settings/hosts/" + string(ids[0]) + "/remove",
			"/settings/agent-keys", "/settings/agent-keys/aaaaaaaaaaaaaaaaaaaaaaaa/delete", "/settings/api-keys", "/settings/api-keys/aaaaaaaaaaaaaaaaaaaaaaaa/delete",
		} {
			b.get("/account")
			b.post(at(g, path), "name", "k", "desc", "k", "address", "x:1", "role", "GROUP_OWNER").want(403, "You cannot do this")
		}
		b.get("/account")
		b.post("/groups", "name", "Mine").want(403)
		h, err := s.inv.Host(t.Context(), g.ID, ids[0])
		s.ok(err)
		if !h.Visible() {
			t.Error("a reader hid a host")
		}
	})
	t.Run("nobody yet", func(t *testing.T) {
		s.signIn("nina@example.com").get("/").want(200, "You are in no group yet", "root@example.com")
	})
}

func TestUnknownPlaces(t *testing.T) {
	_, g, b := owner(t)
	for path, text := range map[string]string{
		"/nothing": "There is no such page", at(g, "/hosts/"+strings.Repeat("0", 32)): "There is no such host",
		at(g, "/clusters/"+strings.Repeat("0", 24)):                      "There is no such cluster",
		at(g, "/hosts/..%2f/last-ping"):                                  "There is no such host",
		at(g, "/settings/agent-keys/"+strings.Repeat("0", 24)+"/delete"): "There is no such agent API key",
		at(g, "/settings/api-keys/"+strings.Repeat("0", 24)+"/delete"):   "There is no such API key",
		at(g, "/settings/hosts/"+strings.Repeat("0", 32)+"/remove"):      "There is no such host",
	} {
		b.get(path).want(404, text, "request id")
	}
}

func TestGroups(t *testing.T) {
	s, g, b := owner(t)
	s.fleet(g, "rs0", "down", "up", "up")
	b.get("/?all=1").want(200, "Shop", "/groups/new")
	b.get("/groups/new").want(200, "New group")
	b.post("/groups", "name", "Bank").want(200, "Install a monitoring agent")
	b.get("/").want(200, "Shop", "Bank", "3", "no hosts", "down")
	b.get("/groups/new")
	b.post("/groups", "name", "Bank").want(422, "There is a group of this name already.")
	b.get("/groups/new")
	b.post("/groups", "name", " ").want(422, "Give the group a name.")
}

func TestDeploymentSortsFiltersAndPages(t *testing.T) {
	s, g, b := owner(t)
	for i := range 70 {
		s.fleet(g, fmt.Sprintf("set%02d", i), "up", "up", "up")
	}
	s.fleet(g, "zz-bad", "up", "down", "up")
	b.get(at(g, "/deployment")).want(200, "1–50 of 71", "page=2")
	if strings.Index(b.page, "zz-bad") > strings.Index(b.page, "set00") {
		t.Error("what needs attention is not first")
	}
	b.get(at(g, "/deployment?page=2")).want(200, "51–71 of 71").wantNot("zz-bad")
	b.get(at(g, "/deployment?view=hosts")).want(200, "1–200 of 213")
	b.get(at(g, "/deployment?view=hosts&page=2&sort=name")).want(200, "201–213 of 213")
	b.get(at(g, "/deployment?view=hosts&state=attention")).want(200, "db2.zz-bad").wantNot("db1.zz-bad", "set00")
	b.get(at(g, "/deployment?view=hosts&q=DB3.set0")).want(200, "db3.set09").wantNot("db3.set10", "db2.set09")
	b.get(at(g, "/deployment?q=nothing-like-it")).want(200, "No cluster matches")
	b.get(at(g, "/deployment?view=hosts&q=nothing-like-it")).want(200, "No host matches")
	b.get(at(g, "/deployment?view=hosts&sort=name&dir=desc"))
	if strings.Index(b.page, "db3.zz-bad") > strings.Index(b.page, "db1.set00") && strings.Contains(b.page, "db1.set00") {
		t.Error("the order was not turned round")
	}
	for _, by := range []string{"state", "set", "version", "uptime", "ping", "lag", "conns", "data", "nonsense"} {
		b.get(at(g, "/deployment?view=hosts&sort="+by)).want(200)
	}
}

func TestBudgetOfHTML(t *testing.T) {
	s, g, b := owner(t)
	for i := range 17 {
		s.fleet(g, fmt.Sprintf("set%02d", i), "up", "up", "up")
	}
	for _, path := range []string{"/deployment", "/deployment?view=hosts"} {
		if n := len(b.get(at(g, path)).page); n > 60_000 {
			t.Errorf("%s with 51 hosts has %d bytes, more than 60,000", path, n)
		}
	}
}

func TestLivePartsComeWithoutTheFrame(t *testing.T) {
	s, g, b := owner(t)
	s.fleet(g, "rs0", "up", "up", "up")
	b.do("GET", at(g, "/deployment"), "", "HX-Request", "true").want(200, `id="live"`).wantNot("<html", "<nav")
}

type numbers struct {
	Start, Step int64
	N           int
	Marks       []struct {
		T    float64
		Kind string
		Text string
	}
	Charts []struct {
		ID, Unit string
		Series   []struct {
			Name string
			V    []*float64
		}
	}
}

func (b *browser) numbers() numbers {
	b.s.t.Helper()
	var out numbers
	if err := json.Unmarshal([]byte(b.page), &out); err != nil {
		b.s.t.Fatalf("%s: %v in %s", b.url, err, b.page)
	}
	return out
}

func TestSeriesOfAHost(t *testing.T) {
	s, g, b := owner(t)
	ids := s.fleet(g, "rs0", "up", "up", "up")
	s.measure(ids[0], 30)
	at30 := s.now.Add(-10 * time.Minute)
	s.ok(s.ev.AddEvents(t.Context(),
		model.Event{ID: alerting.EventID(at30, "a"), GroupID: g.ID, HostID: ids[0], Type: model.EventHostRestarted, At: at30},
		model.Event{ID: alerting.EventID(at30, "b"), GroupID: g.ID, HostID: ids[1], Type: model.EventHostRestarted, At: at30}))
	got := b.get(at(g, "/hosts/"+string(ids[0])+"/series?charts=opcounters,connections&range=1h&step=60")).want(200).numbers()
	if got.Step != 60 || got.N < 60 || len(got.Charts) != 2 || got.Charts[0].ID != "opcounters" || got.Charts[1].Unit != "SCALAR" {
		t.Fatalf("answer %+v", got)
	}
	if len(got.Marks) != 1 || got.Marks[0].Kind != "restart" || got.Marks[0].Text != "restarted" {
		t.Errorf("marks %+v, want the one restart of this host", got.Marks)
	}
	last := func(chart int, name string) (v float64, n int) {
		for _, l := range got.Charts[chart].Series {
			if l.Name == name {
				for _, x := range l.V {
					if x != nil {
						v, n = *x, n+1
					}
				}
			}
		}
		return v, n
	}
	if v, n := last(0, "insert"); v != 1 || n < 25 {
		t.Errorf("insert: last %v of %d points, want 1/s and about 29 points", v, n)
	}
	if v, n := last(1, got.Charts[1].Series[0].Name); v != 40 || n < 25 {
		t.Errorf("connections: last %v of %d points, want 40", v, n)
	}
	for query, code := range map[string]int{"charts=nonsense": 400, "charts=opcounters&step=7": 400, "charts=opcounters&step=10&from=2001-01-01T00:00:00Z&to=2026-01-01T00:00:00Z": 400, "charts=": 200, "charts=opcounters&from=x&to=y": 200} {
		b.get(at(g, "/hosts/"+string(ids[0])+"/series?"+query)).want(code)
	}
	b.get(at(g, "/hosts/"+strings.Repeat("0", 32)+"/series?charts=opcounters")).want(404)
	s.browser().get(at(g, "/hosts/"+string(ids[0])+"/series?charts=opcounters")).want(401)

	b.get(at(g, "/hosts/"+string(ids[0])+"/series?charts=connections&range=1h&format=csv")).want(200)
	if d := b.head.Get("Content-Disposition"); !strings.HasPrefix(d, "attachment;") {
		t.Errorf("Content-Disposition %q", d)
	}
	rows, err := csv.NewReader(strings.NewReader(b.page)).ReadAll()
	if err != nil || len(rows) < 60 || len(rows[0]) != 2 || rows[0][0] != "time (UTC)" {
		t.Errorf("CSV: %v, %d rows, head %v", err, len(rows), rows[0])
	}
}

func TestSeriesOfACluster(t *testing.T) {
	s, g, b := owner(t)
	ids := s.fleet(g, "rs0", "up", "up", "up")
	s.measure(ids[0], 30)
	s.measure(ids[1], 30)
	got := b.get(at(g, "/clusters/"+clusterID(g, "rs0")+"/series?charts=operations,connections&range=1h")).want(200).numbers()
	if len(got.Charts) != 2 || len(got.Charts[0].Series) != 3 || got.Charts[0].Series[0].Name != "db1.rs0.example.com:27017" {
		t.Fatalf("answer %+v", got)
	}
	sum := 0.0
	for _, x := range got.Charts[0].Series[0].V {
		if x != nil {
			sum = *x
		}
	}
	if sum < 2.9 || sum > 3.1 { // a query counts twice the inserts
		t.Errorf("operations of a member %v, want the sum of its counters, 3/s", sum)
	}
	for _, x := range got.Charts[0].Series[2].V {
		if x != nil {
			t.Fatal("a member nobody measured has values")
		}
	}
	b.get(at(g, "/clusters/"+clusterID(g, "rs0")+"/series?charts=nonsense")).want(400)
	b.get(at(g, "/clusters/"+strings.Repeat("0", 24)+"/series?charts=lag")).want(404)
}

func TestHistoryIsPagedAndOfTheseHostsOnly(t *testing.T) {
	s, g, b := owner(t)
	ids, cluster := s.fleet(g, "rs0", "up", "up", "up"), model.ID(clusterID(g, "rs0"))
	others := s.fleet(g, "rs1", "up", "up", "up")
	var list []model.Event
	add := func(i int, host model.HostID, text string) {
		when := s.now.Add(-time.Duration(i) * time.Minute)
		list = append(list, model.Event{ID: alerting.EventID(when, text), GroupID: g.ID, HostID: host, Type: model.EventHostUpdated, At: when, Text: text})
	}
	for i := range 25 {
		add(i+1, ids[0], fmt.Sprintf("event %02d", i))
		for k := range 25 { // a busy group does not crowd out what happened here
			add(0, others[0], fmt.Sprintf("noise %d %d", i, k))
		}
	}
	when := s.now.Add(-20*time.Minute - time.Second)
	list = append(list, model.Event{ID: alerting.EventID(when, "m"), GroupID: g.ID, ClusterID: cluster, HostName: "db4.example.com:27017", Type: model.EventMemberAdded, At: when, Text: "member four"})
	s.ok(s.ev.AddEvents(t.Context(), list...))
	host := at(g, "/hosts/"+string(ids[0]))
	b.get(host).want(200, "1–20 of 25", "event 19", "past=2#history").wantNot("event 20", "noise", "member four")
	b.get(host+"?past=2&range=6h").want(200, "event 20", "event 24", "range=6h").wantNot("event 19")
	b.get(at(g, "/clusters/"+string(cluster))).want(200, "1–20 of 26", "event 19").wantNot("noise")
	b.get(at(g, "/clusters/"+string(cluster)+"?past=2")).want(200, "member four", "db4.example.com:27017")
}

func TestAHostThatIsDownShowsNoOldNumbers(t *testing.T) {
	s, g, b := owner(t)
	s.fleet(g, "rs0", "up", "down")
	b.get(at(g, "/deployment?view=hosts"))
	down := between(b.page, "db2.rs0.example.com:27017", "</tr>")
	if strings.Contains(down, ">42<") || strings.Contains(down, ">400 ms<") || !strings.Contains(down, "9 min ago") {
		t.Errorf("the row of a host that is down: %s", down)
	}
}

func TestOwnSelectionOfChartsIsRemembered(t *testing.T) {
	s, g, b := owner(t)
	host := at(g, "/hosts/"+string(s.fleet(g, "rs0", "up", "up", "up")[0]))
	b.get(host).want(200, `data-chart="memory"`)
	b.post(host+"/charts", "tab", "status", "chart", "connections", "chart", "uptime", "chart", "nonsense").want(200, `data-chart="connections"`, `data-chart="uptime"`).wantNot(`data-chart="memory"`)
	s.signIn("ann@example.com").get(host).want(200, `data-chart="uptime"`).wantNot(`data-chart="memory"`)
	b.get(host+"?charts=memory").want(200, `data-chart="memory"`).wantNot(`data-chart="uptime"`)
	b.get(host+"?tab=hardware").want(200, `data-chart="disk-iops"`)
	b.get(host).post(host+"/charts", "tab", "status", "chart", "uptime", "reset", "1").want(200, `data-chart="memory"`)
}

func TestLastPing(t *testing.T) {
	s, g, b := owner(t)
	ids := s.fleet(g, "rs0", "up")
	s.ping(g, ids[0], bson.D{
		{Key: "hello", Value: bson.D{{Key: "hosts", Value: bson.A{"a:1", "b:2"}}}},
		{Key: "serverStatus", Value: bson.D{
			{Key: "n", Value: int64(5)},
			{Key: "d", Value: 1.5},
			{Key: "when", Value: time.Unix(1_700_000_000, 0)},
			{Key: "ts", Value: bson.Timestamp{T: 1_700_000_000, I: 3}},
			{Key: "id", Value: bson.ObjectID{1}},
			{Key: "bin", Value: []byte{1, 2}},
			{Key: "no", Value: nil},
			{Key: "yes", Value: true},
			{Key: "wiredTiger", Value: bson.D{{Key: "cache", Value: bson.D{{Key: "bytes currently in the cache", Value: int64(12345)}}}}},
		}},
	})
	page := at(g, "/hosts/"+string(ids[0])+"/last-ping")
	b.get(page).want(200, "<b>bytes currently in the cache</b>", "12345", "2023-11-14T22:13:20.000Z", "Timestamp(1700000000, 3)", "ObjectId(01", "Binary(0, 0102)", "null", "true")
	b.get(page+"?reply=hello").want(200, "b:2").wantNot("12345")
	b.get(page+"?q=CURRENTLY").want(200, "serverStatus.wiredTiger.cache.bytes currently in the cache", "1 fields")
	b.get(page+"?q=a:1").want(200, "hello.hosts.0")
	b.get(page+"?q=nothing-like-it").want(200, "Nothing found")
	b.get(page + ".json").want(200)
	var doc map[string]any
	if err := json.Unmarshal([]byte(b.page), &doc); err != nil || doc["serverStatus"] == nil {
		t.Errorf("the download is not the ping: %v", err)
	}
}

func TestSettings(t *testing.T) {
	s, g, b := owner(t)
	b.get(at(g, "/settings")).want(200, `value="Shop"`)
	b.post(at(g, "/settings"), "name", "Shop EU", "timeZone", "Europe/Berlin", "ping", "10", "logs", "on", "preferred", "/^db/").want(200, "Saved.", `value="Shop EU"`)
	got, err := s.inv.Group(t.Context(), g.ID)
	s.ok(err)
	if got.Settings.PingSeconds != 10 || got.Settings.CollectDBStats || !got.Settings.CollectLogs || got.Settings.TimeZone != "Europe/Berlin" {
		t.Errorf("settings %+v", got.Settings)
	}
	b.post(at(g, "/settings"), "name", "", "timeZone", "Mars", "ping", "7", "preferred", "/(/").want(422, "4 things need a change", `value="Mars"`)
	s.group("Bank")
	b.post(at(g, "/settings"), "name", "Bank", "timeZone", "UTC", "ping", "60")
	if b.code != 422 && b.code != 200 { // names are unique within an organization; this one is in another
		t.Errorf("status %d", b.code)
	}
}

func TestHostsAreAddedHiddenAndRemoved(t *testing.T) {
	s, g, b := owner(t)
	hosts := at(g, "/settings/hosts")
	b.get(hosts)
	b.post(hosts, "address", "a b").want(422, "Give a host name and port", `value="a b"`)
	b.get(hosts).post(hosts, "address", "db1.example.com", "username", "u").want(422, "go together").wantNot("secret")
	b.get(hosts).post(hosts, "address", "DB1.example.com", "username", "u", "password", "secret", "tls", "on").want(200, "The host was added", "db1.example.com:27017").wantNot("secret")
	id := model.NewHostID(g.ID, "db1.example.com", 27017)
	c, err := s.inv.HostCredentials(t.Context(), g.ID, id)
	if err != nil || c.Username != "u" || c.Password.Reveal() != "secret" {
		t.Errorf("credentials %v %v", c, err)
	}
	b.post(hosts, "address", "db1.example.com:27017").want(422, "monitored already")
	b.get(hosts).post(hosts+"/"+string(id)+"/hide").want(200, "hidden and no longer polled")
	b.get(at(g, "/deployment")).want(200, "Nothing is monitored yet")
	b.get(hosts).post(hosts+"/"+string(id)+"/hide", "show", "1").want(200, "shown and polled again")
	b.get(hosts+"/"+string(id)+"/remove").want(200, "Remove this host?", "db1.example.com:27017")
	b.post(hosts+"/"+string(id)+"/remove", "name", "something else").want(422, "Type exactly")
	b.post(hosts+"/"+string(id)+"/remove", "name", "db1.example.com:27017").want(200, "The host was removed")
	b.get(at(g, "/hosts/"+string(id))).want(404)
	b.get(hosts).post(hosts, "address", "db1.example.com").want(200, "The host was added") // back again, with its history
	h, err := s.inv.Host(t.Context(), g.ID, id)
	if err != nil || !h.Visible() || !h.Enabled {
		t.Errorf("host added again: %+v %v", h, err)
	}
	types := eventTypes(s.events(g.ID))
	for _, want := range []model.EventType{model.EventHostAdded, model.EventHostHidden, model.EventHostDeleted, model.EventHostUpdated} {
		if !slices.Contains(types, want) {
			t.Errorf("events %v lack %s", types, want)
		}
	}
}

func TestKeys(t *testing.T) {
	s, g, b := owner(t)
	page := at(g, "/settings/agent-keys")
	b.get(page).post(page, "desc", " ").want(422, "what the key is for")
	b.get(page).post(page, "desc", "agents eu").want(200, "Agent API key “agents eu” was created")
	text := between(b.page, `<code id="newkey">`, "</code>")
	if _, ok, err := s.acc.CheckAgentKey(t.Context(), g.ID, text); err != nil || !ok {
		t.Fatalf("the key shown does not work: %v %v", ok, err)
	}
	b.get(page).want(200, "agents eu", "…"+text[len(text)-4:], "ann@example.com").wantNot(text)
	keys, err := s.acc.AgentKeys(t.Context(), g.ID)
	s.ok(err)
	del := page + "/" + string(keys[0].ID) + "/delete"
	b.get(del).want(200, "are refused from now on")
	b.post(del, "name", "agents us").want(422)
	b.post(del, "name", "agents eu").want(200, "The key was deleted")
	if _, ok, err := s.acc.CheckAgentKey(t.Context(), g.ID, text); err != nil || ok {
		t.Errorf("the deleted key still works: %v %v", ok, err)
	}

	page = at(g, "/settings/api-keys")
	b.get(page).post(page, "desc", "exporter", "role", "GLOBAL_OWNER").want(422, "Choose what the key may do.")
	b.get(page).post(page, "desc", "exporter", "role", "GROUP_READ_ONLY").want(200, "API key “exporter” was created", "curl --digest")
	public, private := between(b.page, `<code id="pubkey">`, "</code>"), between(b.page, `<code id="newkey">`, "</code>")
	k, err := s.acc.APIKeyByPublic(t.Context(), public)
	s.ok(err)
	if len(k.Grants) != 1 || k.Grants[0] != (model.Grant{Role: model.GroupReadOnly, GroupID: g.ID}) || k.OrgID != g.OrgID || len(private) < 16 {
		t.Errorf("key %+v", k)
	}
	b.get(page).want(200, public).wantNot(private)
	del = page + "/" + string(k.ID) + "/delete"
	b.get(del).post(del, "name", public).want(200, "The key was deleted")
	b.get(page).wantNot(public)
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

func TestAccount(t *testing.T) {
	s, _, b := owner(t)
	other := s.signIn("ann@example.com")
	b.get("/account").want(200, "Global Owner of the whole site", "this one")
	b.post("/account/preferences", "theme", "dark", "timeZone", "Asia/Tokyo").want(200, "Saved.", `data-theme="dark"`, "times in Asia/Tokyo")
	b.post("/account/preferences", "theme", "x", "timeZone", "Mars").want(422, "IANA name")
	sessions, err := s.acc.SessionsOf(t.Context(), mustUser(s).ID)
	s.ok(err)
	if len(sessions) != 2 {
		t.Fatalf("%d sessions, want 2", len(sessions))
	}
	b.get("/account")
	b.post("/account/sessions/0123/end").want(404)
	b.get("/account")
	end := between(b.page, `action="/account/sessions/`, `/end"`)
	b.post("/account/sessions/"+end+"/end").want(200, "signed out")
	other.get("/account").want(200, "Sign in")

	other = s.signIn("ann@example.com")
	b.get("/account")
	b.post("/account/password", "old", "wrong", "new", "Other5ecret!", "again", "Other5ecret").want(422, "This is not your current password.", "The two new passwords differ.").wantNot("Other5ecret")
	b.post("/account/password", "old", password, "new", "Other5ecret!", "again", "Other5ecret!").want(200, "The password was changed")
	other.get("/account").want(200, "Sign in")
	b.get("/account").want(200, "Signed-in browsers")
}

func TestAdmin(t *testing.T) {
	s, g, b := owner(t)
	b.get("/account").want(200, "Heartwood works")
	b.get(at(g, "/deployment")).wantNot("Heartwood works") // only what is wrong takes room beside the group's own state
	b.get("/admin").want(200, "embedded database", "/data/heartwood.db", "No server has registered", "No duty has run yet")
	s.ok(s.store.Register(t.Context(), model.Instance{ID: "i1", Hostname: "mon1", Role: "server", Version: "0.1.0", Started: s.now, Heartbeat: s.now}))
	_, err := s.store.RunPass(t.Context(), "compact", time.Minute, s.now, func(context.Context, time.Time) (store.PassReport, error) { return store.PassReport{Done: 3}, nil })
	s.ok(err)
	b.get("/admin").want(200, "mon1", "running", "compact", "3 done")
	s.now = s.now.Add(10 * time.Minute)
	b.get("/admin").want(200, "late", "silent")
	b.get("/account").want(200, "Heartwood late", "Duty compact")
	b.get(at(g, "/deployment")).want(200, "Heartwood late")
}

func TestSearch(t *testing.T) {
	s, g, b := owner(t)
	s.fleet(g, "orders", "up", "up", "up")
	b.get("/search?q=orders").want(200, "db1.orders.example.com:27017", "/clusters/"+clusterID(g, "orders"))
	b.do("GET", "/search?q=agent&group="+string(g.ID), "", "HX-Request", "true").want(200, "Agent API keys", "Install an agent").wantNot("<html")
	b.get("/search?q=nothing-like-it").want(200, "Nothing is named like")
	b.get("/search").want(200)
}
