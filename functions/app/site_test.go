package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// site is a whole application on an embedded database of its own.
type site struct {
	t      testing.TB
	engine *faultdoc.Engine
	store  *store.Store
	inv    *inventory.Inventory
	acc    *access.Access
	ev     *alerting.Alerting
	series *series.Series
	backup *backup.Backup
	trial  *stubTrial
	sent   *stubSender
	server *httptest.Server
	now    time.Time // what the application takes for the present
}

const password = "Passw0rd!"

func newSite(t testing.TB, change ...func(*Options)) *site {
	t.Helper()
	s := &site{t: t, now: time.Now().UTC().Truncate(time.Second)}
	s.engine = faultdoc.New(storetest.Engine(t))
	var err error
	s.store, err = areas.Open(t.Context(), store.Options{Engine: s.engine, Box: storetest.Box(t), Version: "test", Collections: series.Collections()})
	s.ok(err)
	s.inv, s.acc, s.ev = inventory.New(s.store), access.New(s.store), alerting.New(s.store)
	s.trial, s.sent = &stubTrial{}, &stubSender{}
	s.backup = backup.New(s.store)
	service, err := backups.New(backups.Options{Store: s.backup, Inventory: s.inv, Alerts: s.ev, Now: func() time.Time { return s.now }})
	s.ok(err)
	s.series, err = series.New(series.Options{Engine: s.engine, Now: func() time.Time { return s.now }})
	s.ok(err)
	o := Options{
		Inventory: s.inv, Access: s.acc, Events: s.ev, Alerting: s.ev, Trial: s.trial, Backups: service, Daemons: s.backup, Sender: s.sent, AdminMail: []string{"ops@example.com"}, Series: s.series, Site: s.store, Log: obs.Discard(),
		Now: func() time.Time { return s.now }, Version: "0.0.0-test", Server: "test", Embedded: "/data/heartwood.db",
	}
	for _, c := range change {
		c(&o)
	}
	h, err := New(o)
	s.ok(err)
	s.server = httptest.NewServer(h)
	t.Cleanup(s.server.Close)
	return s
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// user adds a person.
func (s *site) user(name string, grants ...model.Grant) model.User {
	s.t.Helper()
	hash, err := auth.HashPassword(password)
	s.ok(err)
	u := model.User{ID: model.NewID(), Username: name, PasswordHash: hash, Created: s.now, Grants: grants}
	s.ok(s.acc.CreateUser(s.t.Context(), u))
	return u
}

// group adds a group in an organization of its own.
func (s *site) group(name string) model.Group {
	s.t.Helper()
	org := model.Org{ID: model.NewID(), Name: name, Created: s.now}
	s.ok(s.inv.CreateOrg(s.t.Context(), org))
	g := model.Group{ID: model.NewID(), OrgID: org.ID, Name: name, Created: s.now, Settings: model.DefaultGroupSettings()}
	s.ok(s.inv.CreateGroup(s.t.Context(), g))
	return g
}

// browser is a person at a browser, with cookies.
type browser struct {
	s    *site
	c    *http.Client
	page string // body of the newest answer
	code int
	head http.Header
	url  string
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	s.ok(err)
	return &browser{s: s, c: &http.Client{Jar: jar}}
}

func (b *browser) do(method, path, body string, header ...string) *browser {
	b.s.t.Helper()
	r, err := http.NewRequestWithContext(b.s.t.Context(), method, b.s.server.URL+path, strings.NewReader(body))
	b.s.ok(err)
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := b.c.Do(r)
	b.s.ok(err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	b.s.ok(err)
	b.page, b.code, b.head, b.url = string(text), resp.StatusCode, resp.Header, resp.Request.URL.RequestURI()
	return b
}

func (b *browser) get(path string) *browser {
	b.s.t.Helper()
	return b.do(http.MethodGet, path, "")
}

var csrfField = regexp.MustCompile(`name="csrf" value="([0-9a-f]+)"`)

// token is the form token of the page at hand.
func (b *browser) token() string {
	if m := csrfField.FindStringSubmatch(b.page); m != nil {
		return m[1]
	}
	return ""
}

// post sends a form with the token of the page at hand.
func (b *browser) post(path string, fields ...string) *browser {
	b.s.t.Helper()
	v := url.Values{"csrf": {b.token()}}
	for i := 0; i+1 < len(fields); i += 2 {
		v.Add(fields[i], fields[i+1])
	}
	return b.do(http.MethodPost, path, v.Encode())
}

// want checks the newest answer: its status and what the page says.
func (b *browser) want(code int, texts ...string) *browser {
	b.s.t.Helper()
	if b.code != code {
		b.s.t.Errorf("%s: status %d, want %d; page: %s", b.url, b.code, code, brief(b.page))
	}
	for _, text := range texts {
		if !strings.Contains(b.page, text) {
			b.s.t.Errorf("%s: the page lacks %q: %s", b.url, text, brief(b.page))
		}
	}
	return b
}

func (b *browser) wantNot(texts ...string) *browser {
	b.s.t.Helper()
	for _, text := range texts {
		if strings.Contains(b.page, text) {
			b.s.t.Errorf("%s: the page must not say %q", b.url, text)
		}
	}
	return b
}

var mainPart = regexp.MustCompile(`(?s)<main.*</main>`)

func brief(page string) string {
	if m := mainPart.FindString(page); m != "" {
		page = m
	}
	if len(page) > 3000 {
		page = page[:3000] + "…"
	}
	return page
}

// signIn is a browser of a person who is signed in.
func (s *site) signIn(name string) *browser {
	s.t.Helper()
	b := s.browser()
	b.get("/login").want(200)
	b.post("/login", "username", name, "password", password)
	if b.code != 200 || strings.Contains(b.url, "/login") {
		s.t.Fatalf("%s cannot sign in: %d %s", name, b.code, brief(b.page))
	}
	return b
}

// fleet fills a group: one replica set of three, with the states given ("up", "down", "unauthorised", "lags", "stale",
// "new"), the first of them primary.
func (s *site) fleet(g model.Group, set string, states ...string) []model.HostID {
	s.t.Helper()
	ctx := s.t.Context()
	cid := model.DeriveID("cluster", string(g.ID), set)
	var ids []model.HostID
	var members []model.Member
	var ops []docstore.Op
	for i, state := range states {
		name := fmt.Sprintf("db%d.%s.example.com", i+1, set)
		h := model.Host{
			ID: model.NewHostID(g.ID, name, 27017), GroupID: g.ID, Hostname: name, Port: 27017, Created: s.now, Type: model.TypeReplicaSecondary,
			Version: "7.0.14", ReplicaSet: set, ClusterID: cid, Enabled: true, AlertsEnabled: true, MemberID: i,
		}
		st := model.HostStatus{HostID: h.ID, GroupID: g.ID, At: s.now.Add(-10 * time.Second), Reach: model.ReachUp, State: model.StateSecondary, StateSince: s.now.Add(-time.Hour), ReachSince: s.now.Add(-time.Hour), UptimeMS: 3_600_000, Conns: 42}
		lag, window := int64(400), int64(90_000)
		st.LagMS, st.WindowSecs = &lag, &window
		if i == 0 {
			h.Type, st.State, st.LagMS = model.TypeReplicaPrimary, model.StatePrimary, nil
		}
		st.LastPing = st.At
		switch state {
		case "down":
			st.Reach, st.Error, st.LastPing = model.ReachDown, "connection refused", s.now.Add(-9*time.Minute)
		case "unauthorised":
			st.Reach, st.Error, st.ErrorCode = model.ReachUnauthorised, "not authorized on admin", 13
		case "lags":
			lag = 75_000
		case "stale":
			st.At = s.now.Add(-7 * time.Minute)
			st.LastPing = st.At
		}
		s.ok(s.inv.CreateHost(ctx, h))
		if state != "new" {
			op, err := s.inv.StatusOp(st)
			s.ok(err)
			ops = append(ops, op)
		}
		ids = append(ids, h.ID)
		members = append(members, model.Member{ID: i, Host: h.Address(), HostID: h.ID, Priority: 1, Votes: 1})
	}
	s.ok(s.store.Write(ctx, ops...))
	s.ok(s.inv.UpsertCluster(ctx, g.ID, cid, func(c *model.Cluster) error {
		*c = model.Cluster{ID: cid, GroupID: g.ID, Type: model.ClusterReplicaSet, Name: set, ReplicaSet: set, Created: s.now, Members: members, PrimaryID: ids[0], PrimarySince: s.now.Add(-time.Hour), ConfigVersion: 3, ElectionTerm: 7}
		return nil
	}))
	return ids
}

func clusterID(g model.Group, set string) string {
	return string(model.DeriveID("cluster", string(g.ID), set))
}

// agent adds a monitoring agent that called some time ago.
func (s *site) agent(g model.Group, ago time.Duration) {
	s.t.Helper()
	s.ok(s.inv.UpsertAgent(s.t.Context(), g.ID, "agent1", func(a *model.Agent) error {
		*a = model.Agent{
			ID: "agent1", GroupID: g.ID, Type: model.AgentMonitoring, Hostname: "mon1.example.com", Version: "0.1.0", State: model.AgentActive,
			Started: s.now.Add(-time.Hour), FirstSeen: s.now.Add(-time.Hour), LastConf: s.now.Add(-ago), LogTail: []string{"round done"}, LastError: "conf: 503", ErrorAt: s.now.Add(-time.Hour),
		}
		return nil
	}))
}

// measure writes rows of a host, one a minute, up to now: the opcounter of inserts grows by 60 a minute.
func (s *site) measure(id model.HostID, minutes int) {
	s.t.Helper()
	var ops []docstore.Op
	for i := range minutes {
		at := s.now.Add(-time.Duration(minutes-i) * time.Minute)
		up := int64(i+1) * 60_000
		doc, err := bson.Marshal(bson.D{{Key: "serverStatus", Value: bson.D{
			{Key: "host", Value: "db1"},
			{Key: "pid", Value: int64(7)},
			{Key: "uptime", Value: float64(up) / 1000},
			{Key: "uptimeMillis", Value: up},
			{Key: "localTime", Value: at},
			{Key: "opcounters", Value: bson.D{{Key: "insert", Value: int64(i * 60)}, {Key: "query", Value: int64(i * 120)}}},
			{Key: "connections", Value: bson.D{{Key: "current", Value: int32(40)}, {Key: "available", Value: int32(960)}}},
		}}})
		s.ok(err)
		row, err := catalog.Extract(doc, at)
		s.ok(err)
		op, err := s.series.RowOp(id, row)
		s.ok(err)
		ops = append(ops, op)
	}
	s.ok(s.store.Write(s.t.Context(), ops...))
}

// ping keeps a last ping of a host.
func (s *site) ping(g model.Group, id model.HostID, doc bson.D) {
	s.t.Helper()
	raw, err := bson.Marshal(doc)
	s.ok(err)
	z, err := wire.EncodeReplies(raw)
	s.ok(err)
	op, err := s.inv.LastPingOp(model.LastPing{HostID: id, GroupID: g.ID, At: s.now, Replies: z})
	s.ok(err)
	s.ok(s.store.Write(s.t.Context(), op))
}

func (s *site) events(group model.ID) []model.Event {
	s.t.Helper()
	list, _, err := s.ev.Events(context.Background(), alerting.EventQuery{GroupID: group})
	s.ok(err)
	return list
}
