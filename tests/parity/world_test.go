// Package parity holds the functions as WebAssembly guests to their native handlers: one table of requests, on equal stores and an
// equal clock, and answers that are equal byte for byte but for what is declared to differ.
package parity

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // digest is made so
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/alerts"
	"github.com/heartwood-db/heartwood/functions/app"
	"github.com/heartwood-db/heartwood/functions/health"
	"github.com/heartwood-db/heartwood/functions/ingestion"
	"github.com/heartwood-db/heartwood/local/sandbox"
	"github.com/heartwood-db/heartwood/local/sandbox/talk"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// What the site of both sides holds.
const (
	hostCount = 48
	groupID   = model.ID("5f0000000000000000000001")
	orgID     = model.ID("5f00000000000000000000aa")
	userID    = model.ID("5f00000000000000000000bb")
	userName  = "ann@example.com"
	password  = "Correct-horse-47" //nolint:gosec // of a site that lives for one test
	agentKey  = "0123456789abcdef0123456789abcdef"
	publicKey = "abcdefgh"
	private   = "11111111-2222-3333-4444-555555555555"
	passToken = "pass-token-of-the-test"
)

// noon is when the world begins.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// clock is both sides' time.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time      { return time.UnixMilli(c.at.Load()).UTC() }
func (c *clock) set(at time.Time)    { c.at.Store(at.UnixMilli()) }
func (c *clock) add(d time.Duration) { c.at.Add(d.Milliseconds()) }

// side is a whole site: natively or as guests.
type side struct {
	name     string
	engine   *faultdoc.Engine
	site     *areas.Site // of the engine, to look into
	blobs    func(ctx context.Context, id string) (blockstore.Store, error)
	handlers map[string]http.Handler
	sent     *mailbox
}

// settings are both sides'.
func settings(t testing.TB) *config.Server {
	t.Helper()
	l, err := config.Load(config.Sources{File: map[string]string{
		"mms.centralUrl": "https://hw.example.com", "mms.adminEmailAddr": "ops@example.com", "mms.remoteIp.header": "X-Forwarded-For",
		"heartwood.alerts.heartbeatUrl": "https://beat.example.com/secret-path",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &l.Server
}

// mailbox is the one channel of the world: what it is given it keeps.
type mailbox struct {
	got  []notify.Message
	fail error
}

// Notify implements notify.Notifier.
func (m *mailbox) Notify(_ context.Context, to notify.Target, msg notify.Message) (notify.Result, error) {
	if m.fail != nil {
		return notify.Result{}, m.fail
	}
	m.got = append(m.got, msg)
	return notify.Result{Text: "taken for " + to.Address, ID: "id-1"}, nil
}

func probed(_ context.Context, host string, port int) talk.Finding {
	return talk.Finding{Known: true, Reason: "does not answer at " + host + ":" + strconv.Itoa(port)}
}

var errBeat = errors.New("nobody listens")

// native builds a side of handlers of this process.
func native(t testing.TB, c *clock, file []byte) *side {
	t.Helper()
	s := &side{name: "native", engine: open(t, file), sent: &mailbox{}, blobs: blobs(t)}
	set, site := settings(t), attach(t, s.engine, c)
	s.site = site
	sender := notify.NewSender(map[string]notify.Notifier{notify.Email: s.sent, notify.Webhook: s.sent})
	now := func(ctx context.Context) error { _, err := s.engine.Now(ctx); return err }
	probe, err := health.New(health.Options{
		Checks: map[string]func(context.Context) error{"mms_db": now, "backup_db": now}, Role: "server", Version: "test", Started: noon, Now: c.now,
	})
	ok(t, err)
	pages, err := app.Assemble(set, site, app.Outside{
		Log: obs.Discard(), Health: probe, Sender: sender, Build: build(), Server: "here", AgentPort: "8081", Embedded: "/data/heartwood.db", Now: c.now,
	})
	ok(t, err)
	intake, err := ingestion.Assemble(set, site, ingestion.Outside{Log: obs.Discard(), Health: probe, PassToken: passToken, Now: c.now, Blobs: s.blobs})
	ok(t, err)
	watch, err := alerts.Assemble(set, site, alerts.Outside{
		Log: obs.Discard(), Health: probe, Sender: sender, Instance: "one", PublicURL: "http://127.0.0.1:8080", Version: "test", PassToken: passToken,
		Duties: duties(t, site), Now: c.now,
	})
	ok(t, err)
	s.handlers = map[string]http.Handler{sandbox.App: pages, sandbox.Ingestion: intake, sandbox.Alerts: watch, sandbox.Health: probe}
	return s
}

// guests builds a side of WebAssembly guests.
func guests(t testing.TB, c *clock, file []byte, change ...func(*sandbox.Options)) (*side, *sandbox.Sandbox) {
	t.Helper()
	folder, compiled := harness.Guests(t)
	s := &side{name: "guest", engine: open(t, file), sent: &mailbox{}, blobs: blobs(t)}
	s.site = attach(t, s.engine, c)
	sender := notify.NewSender(map[string]notify.Notifier{notify.Email: s.sent, notify.Webhook: s.sent})
	o := sandbox.Options{
		Folder: folder, CacheDir: compiled, Functions: []string{sandbox.Health, sandbox.Ingestion, sandbox.App, sandbox.Alerts},
		Engine: s.engine, Sender: sender, Probe: probed, Heartbeat: func(context.Context) error { return errBeat }, Log: obs.Discard(), Now: c.now,
		Blobs: s.blobs, Delivered: func(ctx context.Context, restore string) error {
			return s.site.Backup.EndDownload(ctx, restore, c.now())
		},
		Config: talk.Config{
			Server: talk.ForGuests(settings(t)), Key: []byte(storetest.GenKey), Build: build(), Hostname: "here", Instance: "one", URL: "http://127.0.0.1:8080",
			AgentPort: "8081", Embedded: "/data/heartwood.db", PassToken: passToken, Channels: sender.Channels(), Heartbeat: true, Started: noon,
		},
	}
	for _, f := range change {
		f(&o)
	}
	box, err := sandbox.Start(t.Context(), o)
	ok(t, err)
	t.Cleanup(func() { _ = box.Close(context.Background()) })
	s.handlers = map[string]http.Handler{}
	for _, name := range o.Functions {
		s.handlers[name] = box.Handler(name)
	}
	return s, box
}

func build() obs.BuildInfo { return obs.BuildInfo{Version: "test"} }

// open opens a copy of a database.
func open(t testing.TB, file []byte) *faultdoc.Engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "heartwood.db")
	ok(t, os.WriteFile(path, file, 0o600))
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: path})
	ok(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return faultdoc.New(e)
}

func attach(t testing.TB, e docstore.Engine, c *clock) *areas.Site {
	t.Helper()
	st, err := areas.Attach(store.Options{Engine: e, Box: storetest.Box(t), Version: "test"})
	ok(t, err)
	set := settings(t)
	keep := series.Retention{Minute: set.RetainMinutes, FiveMinutes: set.RetainFives, Hour: set.RetainHours}
	site, err := areas.NewSite(st, keep)
	ok(t, err)
	site.Series, err = series.New(series.Options{Engine: e, Now: c.now, Retention: keep})
	ok(t, err)
	return site
}

// world fills a database: a site with a person, keys, a group of hosts in replica sets, an hour of three of them and the newest
// minutes of the others, and default alerts.
func world(t testing.TB, c *clock, more ...func(t testing.TB, site *areas.Site)) []byte {
	t.Helper()
	ctx := t.Context()
	original := storetest.Engine(t)
	_, err := areas.Open(ctx, store.Options{Engine: original, Box: storetest.Box(t), Version: "test"})
	ok(t, err)
	site := attach(t, original, c)
	c.set(noon.Add(-2 * time.Hour))
	hash, err := auth.HashPassword(password)
	ok(t, err)
	ok(t, site.Access.CreateFirstUser(ctx, model.User{
		ID: userID, Username: userName, Email: userName, PasswordHash: hash, Created: c.now(), Grants: []model.Grant{{Role: model.GlobalOwner}},
	}))
	ok(t, site.Inventory.CreateOrg(ctx, model.Org{ID: orgID, Name: "acme", Created: c.now()}))
	ok(t, site.Inventory.CreateGroup(ctx, model.Group{ID: groupID, OrgID: orgID, Name: "prod", Created: c.now(), Settings: model.DefaultGroupSettings()}))
	ok(t, site.Access.CreateAgentKey(ctx, model.AgentKey{
		ID: "5f00000000000000000000cc", GroupID: groupID, Digest: access.KeyDigest(agentKey), Last4: access.Last4(agentKey), Created: c.now(),
	}))
	ok(t, site.Access.CreateAPIKey(ctx, model.APIKey{
		ID: "5f00000000000000000000dd", Desc: "test", PublicKey: publicKey, HA1: model.Secret(auth.HA1(publicKey, private)), MaskedTail: "555555555555",
		Created: c.now(), Grants: []model.Grant{{Role: model.GlobalOwner}},
	}))
	intake, err := ingestion.Assemble(settings(t), site, ingestion.Outside{Log: obs.Discard(), PassToken: passToken, Now: c.now})
	ok(t, err)
	var seeds []string
	for i := range hostCount {
		seeds = append(seeds, replies.Name(i)+":27017")
	}
	w := httptest.NewRecorder()
	intake.ServeHTTP(w, conf(seeds))
	if w.Code != http.StatusOK {
		t.Fatalf("conf: %d %s", w.Code, w.Body)
	}
	tpl, err := replies.New()
	ok(t, err)
	for minute := range 61 {
		c.set(noon.Add(time.Duration(minute-61) * time.Minute))
		n := 3
		if minute >= 57 {
			n = hostCount
		}
		w := httptest.NewRecorder()
		intake.ServeHTTP(w, pings(t, tpl, 0, n, c.now(), int64(minute+1)))
		if w.Code != http.StatusOK {
			t.Fatalf("ping: %d %s", w.Code, w.Body)
		}
	}
	for _, p := range intake.Passes() {
		ok(t, p.Run(ctx, c.now()))
	}
	watch, err := alerts.Assemble(settings(t), site, alerts.Outside{
		Log: obs.Discard(), Sender: notify.NewSender(nil), Instance: "seed", Version: "test", Duties: duties(t, site), Now: c.now,
	})
	ok(t, err)
	for _, p := range watch.Passes() {
		ok(t, p.Run(ctx, c.now()))
	}
	ok(t, site.Access.CreateSession(ctx, model.Session{
		Key: auth.TokenKey(sessionToken), UserID: userID, CSRF: sessionCSRF, Created: noon, Seen: noon, Expires: noon.Add(12 * time.Hour), IP: "192.0.2.1",
	}))
	for _, add := range more {
		add(t, site)
	}
	copied := filepath.Join(t.TempDir(), "world.db")
	ok(t, original.Backup(ctx, copied, nil))
	file, err := os.ReadFile(copied)
	ok(t, err)
	c.set(noon)
	return file
}

func agent() wire.AgentInfo {
	return wire.AgentInfo{
		ID: "agent-1", Session: "session-1", Type: string(model.AgentMonitoring), Hostname: "mon1", Version: "1.0.0", OS: "linux", Started: noon.Add(-3 * time.Hour),
	}
}

func conf(seeds []string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, wire.PathConf+"?"+wire.ConfQuery(agent(), seeds).Encode(), http.NoBody)
	r.SetBasicAuth(string(groupID), agentKey)
	return r
}

// pings is a post of the pings of hosts from..to-1.
func pings(t testing.TB, tpl *replies.Template, from, to int, at time.Time, seq int64) *http.Request {
	t.Helper()
	msg := wire.Post{Version: wire.Version, Agent: agent(), Sent: at, Seq: seq}
	for n := from; n < to; n++ {
		z, err := wire.EncodeReplies(tpl.At(nil, n, at.Sub(noon)+30*time.Hour, at))
		ok(t, err)
		msg.Pings = append(msg.Pings, wire.Ping{
			HostID: string(model.NewHostID(groupID, replies.Name(n), 27017)), At: at, RTT: 400, Address: fmt.Sprintf("%s:27017", replies.Name(n)), IP: "10.0.0.1", Replies: z,
		})
	}
	body, err := wire.EncodePost(msg)
	ok(t, err)
	r := httptest.NewRequest(http.MethodPost, wire.PathPings, bytes.NewReader(body))
	r.Header.Set("Content-Type", wire.ContentType)
	r.SetBasicAuth(string(groupID), agentKey)
	return r
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The session that the world's browser holds.
const (
	sessionToken = "token-of-the-world"
	sessionCSRF  = "0123456789abcdef0123456789abcdef"
)

// signedIn is a browser's request.
func signedIn(method, path, form string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(form))
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.AddCookie(&http.Cookie{Name: "heartwood_session", Value: sessionToken})
	r.AddCookie(&http.Cookie{Name: "hw_tz", Value: "Europe%2FBerlin"})
	return r
}

// digest is a call of the Public API with the world's key.
func digest(t testing.TB, s *side, method, path, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	s.handlers[sandbox.App].ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	_, rest, _ := strings.Cut(w.Header().Get("WWW-Authenticate"), `nonce="`)
	nonce, _, found := strings.Cut(rest, `"`)
	if !found {
		t.Fatalf("%s: no challenge: %d %v", s.name, w.Code, w.Header())
	}
	sum := func(v string) string { return fmt.Sprintf("%x", md5.Sum([]byte(v))) } //nolint:gosec // digest is made so
	response := sum(auth.HA1(publicKey, private) + ":" + nonce + ":00000001:cnonce:auth:" + sum(method+":"+path))
	r.Header.Set("Authorization", fmt.Sprintf(`Digest username=%q, realm=%q, nonce=%q, uri=%q, qop=auth, nc=00000001, cnonce="cnonce", response=%q, algorithm=MD5`,
		publicKey, auth.Realm, nonce, path, response))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}
