package parity

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/local/sandbox"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// request is one line of the table: both sides get it at the same time of their clock.
type request struct {
	name     string
	function string
	make     func(t testing.TB, s *side) *http.Request
	status   int
}

// page is a browser's request of a person who is signed in.
func page(path string, status int) request {
	return request{"page " + path, sandbox.App, func(testing.TB, *side) *http.Request { return signedIn(http.MethodGet, path, "") }, status}
}

// form is what such a browser posts.
func form(path, values string, status int) request {
	return request{"form " + path, sandbox.App, func(testing.TB, *side) *http.Request {
		return signedIn(http.MethodPost, path, "csrf="+sessionCSRF+"&"+values)
	}, status}
}

// plain is anybody's request of any function.
func plain(function, method, path, body string, status int) request {
	return request{strings.TrimSpace(method + " " + path), function, func(testing.TB, *side) *http.Request {
		return httptest.NewRequest(method, path, strings.NewReader(body))
	}, status}
}

// call is a call of the Public API.
func call(method, path, body string, status int) request {
	return request{method + " " + path, sandbox.App, func(t testing.TB, s *side) *http.Request {
		return digest(t, s, method, "/api/public/v1.0"+path, body)
	}, status}
}

// pass starts a periodic duty.
func pass(function, path string) request {
	return request{"pass " + path, function, func(testing.TB, *side) *http.Request {
		r := httptest.NewRequest(http.MethodPost, path, http.NoBody)
		r.Header.Set("Authorization", "Bearer "+passToken)
		return r
	}, http.StatusNoContent}
}

func table(t testing.TB) []request {
	tpl, err := replies.New()
	ok(t, err)
	host := string(model.NewHostID(groupID, replies.Name(0), 27017))
	cluster := string(model.DeriveID("cluster", string(groupID), "rs00000"))
	g, api := "/g/"+string(groupID), "/groups/"+string(groupID)
	post := func(name string, from, to int, at time.Duration, seq int64, status int, change func(*http.Request)) request {
		return request{"ping " + name, sandbox.Ingestion, func(t testing.TB, _ *side) *http.Request {
			r := pings(t, tpl, from, to, noon.Add(at), seq)
			if change != nil {
				change(r)
			}
			return r
		}, status}
	}
	return []request{
		// Signed out.
		plain(sandbox.App, http.MethodGet, "/login", "", 200),
		plain(sandbox.App, http.MethodGet, "/register", "", 403),
		plain(sandbox.App, http.MethodGet, "/", "", 303),
		plain(sandbox.App, http.MethodGet, g+"/deployment", "", 303),
		plain(sandbox.App, http.MethodGet, "/nowhere", "", 303),
		plain(sandbox.App, http.MethodGet, "/static/nothing.css", "", 404),
		plain(sandbox.App, http.MethodPut, "/login", "", 303),
		// Signed in.
		page("/", 303), page("/search?q=db0001", 200), page(g+"/", 303), page(g+"/deployment?view=hosts", 200), page(g+"/deployment?view=clusters", 200),
		page(g+"/clusters/"+cluster, 404), page(g+"/hosts/"+host, 200), page(g+"/hosts/"+host+"/last-ping", 200), page(g+"/hosts/"+host+"/last-ping.json", 200),
		page(g+"/hosts/"+host+"/series?range=1h", 200), page(g+"/hosts/none", 404), page(g+"/activity", 200), page(g+"/activity.csv", 200),
		page(g+"/alerts", 200), page(g+"/alerts/why", 200), page(g+"/alert-settings", 200), page(g+"/alert-settings/new", 200), page(g+"/alert-windows", 200),
		page(g+"/alert-silences", 200), page(g+"/alert-integrations", 200), page(g+"/agents", 200), page(g+"/settings", 200), page(g+"/settings/hosts", 200),
		page(g+"/settings/agent-keys", 200), page(g+"/settings/api-keys", 200), page("/account", 200), page("/admin", 200), page("/admin/alerts", 200),
		page("/admin/watch", 200), page("/admin/activity", 200), page("/g/5f00000000000000000000ee/", 403),
		// Forms: a wrong token, a wrong and a right password, a change.
		form("/account/preferences", "theme=dark&timezone=Europe%2FBerlin", 303),
		form("/account/password", "old=wrong&new=Battery-staple-9&again=Battery-staple-9", 422),
		form("/account/password", "old="+password+"&new=Battery-staple-9&again=Battery-staple-9", 303),
		{"form without its token", sandbox.App, func(testing.TB, *side) *http.Request {
			return signedIn(http.MethodPost, "/account/preferences", "theme=dark")
		}, 403},
		signIn("nobody@example.com", "x", 401), signIn(userName, "wrong", 401), signIn(userName, "Battery-staple-9", 303),
		// The Public API.
		plain(sandbox.App, http.MethodGet, "/api/public/v1.0/groups", "", 401),
		call(http.MethodGet, "", "", 200), call(http.MethodGet, "/groups", "", 200), call(http.MethodGet, api+"/hosts", "", 200),
		call(http.MethodGet, api+"/hosts/"+host, "", 200), call(http.MethodGet, api+"/clusters", "", 200), call(http.MethodGet, api+"/hosts/none", "", 404),
		call(http.MethodGet, api+"/hosts/"+host+"/measurements?granularity=PT1M&period=PT1H&m=CONNECTIONS", "", 200),
		call(http.MethodGet, api+"/alertConfigs", "", 200), call(http.MethodGet, api+"/alerts", "", 200), call(http.MethodGet, api+"/events", "", 200),
		call(http.MethodPost, api+"/hosts", `{"hostname":"new.example.com","port":27018}`, 201), call(http.MethodPost, api+"/hosts", `{"hostname":`, 400),
		call(http.MethodGet, api+"/hosts?pretty=true&pageNum=2&itemsPerPage=5", "", 200),
		call(http.MethodPost, api+"/alertConfigs", `{"eventTypeName":"HOST_DOWN","enabled":true,"notifications":[{"typeName":"EMAIL","emailAddress":"a@example.com","intervalMin":5,"delayMin":0}]}`, 200),
		// Agents.
		{"configuration", sandbox.Ingestion, func(testing.TB, *side) *http.Request { return conf(nil) }, 200},
		{"configuration with a wrong key", sandbox.Ingestion, func(testing.TB, *side) *http.Request {
			r := conf(nil)
			r.SetBasicAuth(string(groupID), strings.Repeat("0", 32))
			return r
		}, 401},
		post("of three hosts", 0, 3, time.Minute, 900, 200, nil), post("again", 0, 3, time.Minute, 900, 200, nil),
		post("from long ago", 0, 1, -100*time.Hour, 901, 400, nil), post("from the future", 0, 1, 100*time.Hour, 902, 400, nil),
		post("of nobody", 0, 1, time.Minute, 903, 401, func(r *http.Request) { r.Header.Del("Authorization") }),
		plain(sandbox.Ingestion, http.MethodPost, wire.PathPings, "no pings", 401),
		{"what is no post", sandbox.Ingestion, func(testing.TB, *side) *http.Request {
			r := httptest.NewRequest(http.MethodPost, wire.PathPings, strings.NewReader("no pings"))
			r.SetBasicAuth(string(groupID), agentKey)
			return r
		}, 400},
		plain(sandbox.Ingestion, http.MethodGet, "/agents/v1/none", "", 404),
		// Passes: what they did is seen by the pages that follow.
		plain(sandbox.Alerts, http.MethodPost, "/alerts/v1/passes/alerts-evaluate", "", 403),
		pass(sandbox.Alerts, "/alerts/v1/passes/alerts-evaluate"), pass(sandbox.Alerts, "/alerts/v1/passes/alerts-deliver"),
		pass(sandbox.Alerts, "/alerts/v1/passes/alerts-heartbeat"), pass(sandbox.Alerts, "/alerts/v1/passes/alerts-exposed"),
		page(g+"/alerts", 200), page("/admin/watch", 200), page(g+"/hosts/"+host, 200), page("/account", 200),
		call(http.MethodGet, api+"/alerts", "", 200),
		// Health.
		plain(sandbox.Health, http.MethodGet, "/monitor/health", "", 200), plain(sandbox.Health, http.MethodGet, "/live", "", 200),
		plain(sandbox.Health, http.MethodGet, "/health", "", 200), plain(sandbox.App, http.MethodGet, "/monitor/health", "", 200),
		plain(sandbox.Ingestion, http.MethodGet, "/monitor/health", "", 200), plain(sandbox.Alerts, http.MethodGet, "/monitor/health", "", 200),
	}
}

// signIn posts the sign-in form as a browser that has its token.
func signIn(name, word string, status int) request {
	return request{"sign-in of " + name + " with " + word, sandbox.App, func(testing.TB, *side) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader("csrf="+sessionCSRF+"&username="+name+"&password="+word))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.AddCookie(&http.Cookie{Name: "heartwood_form", Value: sessionCSRF})
		return r
	}, status}
}

// The table is run with the database up, and parts of it again with the database away.
func TestGuestsAnswerAsTheNativeFunctionsDo(t *testing.T) {
	c := &clock{}
	file := world(t, c)
	guest, _ := guests(t, c, file)
	sides := []*side{native(t, c, file), guest}
	static(t, sides)
	for _, r := range table(t) {
		compare(t, c, sides, r)
	}
	if t.Failed() {
		return
	}
	for _, s := range sides {
		s.engine.Off(docstore.ErrUnavailable)
	}
	c.add(time.Minute) // beyond what health keeps
	g := "/g/" + string(groupID)
	for _, r := range []request{
		plain(sandbox.Health, http.MethodGet, "/monitor/health", "", 500), plain(sandbox.Health, http.MethodGet, "/live", "", 200),
		plain(sandbox.Health, http.MethodGet, "/health", "", 503), plain(sandbox.App, http.MethodGet, "/monitor/health", "", 500),
		plain(sandbox.Ingestion, http.MethodGet, "/monitor/health", "", 500), page(g+"/deployment", 503), page("/", 503),
		plain(sandbox.App, http.MethodGet, "/login", "", 503), call(http.MethodGet, "/groups", "", 503),
		{"configuration", sandbox.Ingestion, func(testing.TB, *side) *http.Request { return conf(nil) }, 503},
	} {
		r.name = "without its database: " + r.name
		compare(t, c, sides, r)
	}
	for _, s := range sides {
		s.engine.On()
	}
	c.add(time.Minute)
	compare(t, c, sides, page(g+"/deployment", 200))
}

// static takes every asset that the pages name.
func static(t *testing.T, sides []*side) {
	w := httptest.NewRecorder()
	sides[0].handlers[sandbox.App].ServeHTTP(w, signedIn(http.MethodGet, "/g/"+string(groupID)+"/hosts/"+string(model.NewHostID(groupID, replies.Name(0), 27017)), ""))
	assets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?:href|src)="(/static/[^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
		assets[m[1]] = true
	}
	if len(assets) < 3 {
		t.Fatalf("the page names %d assets", len(assets))
	}
	for _, path := range slices.Sorted(maps.Keys(assets)) {
		compare(t, nil, sides, plain(sandbox.App, http.MethodGet, path, "", 200))
		compare(t, nil, sides, request{"packed " + path, sandbox.App, func(testing.TB, *side) *http.Request {
			r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
			r.Header.Set("Accept-Encoding", "gzip")
			return r
		}, 200})
	}
}

// compare has both sides answer a request.
func compare(t *testing.T, c *clock, sides []*side, r request) {
	t.Helper()
	t.Run(r.name, func(t *testing.T) {
		if c != nil {
			c.add(time.Second)
		}
		var answers []string
		for _, s := range sides {
			w := httptest.NewRecorder()
			s.handlers[r.function].ServeHTTP(w, r.make(t, s))
			if w.Code != r.status {
				t.Errorf("%s: status %d, want %d: %.300s", s.name, w.Code, r.status, w.Body)
			}
			answers = append(answers, normal(t, w))
		}
		if diff := cmp.Diff(answers[0], answers[1]); diff != "" {
			t.Errorf("the guest answers otherwise (-native +guest):\n%.3000s", diff)
		}
	})
}

// What may differ between two answers, by name: everything else is compared byte for byte.
var declared = []struct{ name, pattern, as string }{
	{"the request's id", `(?m)^X-Request-Id: .*$`, "X-Request-Id: R"},
	{"the token of a session", `heartwood_session=[A-Za-z0-9_-]{20,}`, "heartwood_session=S"},
	{"the token of a form", `heartwood_form=[A-Za-z0-9_-]{20,}`, "heartwood_form=F"},
	{"the token in a form of a visitor", `name="csrf" value="[A-Za-z0-9_-]{20,}"`, `name="csrf" value="C"`},
	{"how long a duty took", `\b[0-9.]+ (ms|µs)\b`, "D ms"},
}

// normal is an answer as text, without what is declared to differ: the request's id, tokens, ids that are made in the answer.
func normal(t testing.TB, w *httptest.ResponseRecorder) string {
	var head []string
	for name, values := range w.Header() {
		for _, v := range values {
			if name == "Content-Length" { // of the answer before what differs is taken out
				v = "L"
			}
			head = append(head, name+": "+v)
		}
	}
	slices.Sort(head)
	body := w.Body.String()
	if n := w.Header().Get("Content-Length"); n != "" && n != strconv.Itoa(len(body)) && body != "" { // an answer to HEAD has none
		t.Errorf("Content-Length %s of %d bytes", n, len(body))
	}
	if id := w.Header().Get("X-Request-Id"); id != "" {
		body = strings.ReplaceAll(body, id, "R")
	}
	text := fmt.Sprintf("%d\n%s\n\n%s", w.Code, strings.Join(head, "\n"), body)
	for _, d := range declared {
		text = regexp.MustCompile(d.pattern).ReplaceAllString(text, d.as)
	}
	return made.ReplaceAllStringFunc(text, func(id string) string {
		if strings.HasPrefix(id, "5f00000000000000") { // of the world, the same on both sides
			return id
		}
		return "ID"
	})
}

// made are ids and keys of sessions, which are drawn where they are made.
var made = regexp.MustCompile(`\b(?:[0-9a-f]{64}|[0-9a-f]{24})\b`)

// TestWhatIsSentIsTheSame: what the guests decide to send arrives at the host's channels as the native function would send it.
func TestWhatIsSentIsTheSame(t *testing.T) {
	c := &clock{}
	file := world(t, c)
	guest, box := guests(t, c, file)
	sides := []*side{native(t, c, file), guest}
	for _, s := range sides {
		w := httptest.NewRecorder()
		s.handlers[sandbox.App].ServeHTTP(w, digest(t, s, http.MethodPost, "/api/public/v1.0/groups/"+string(groupID)+"/alertConfigs",
			`{"eventTypeName":"MONITORING_AGENT_DOWN","enabled":true,"notifications":[{"typeName":"EMAIL","emailAddress":"a@example.com","intervalMin":5,"delayMin":0}]}`))
		if w.Code != http.StatusOK {
			t.Fatal(w.Code, w.Body)
		}
	}
	for range 12 {
		c.add(time.Minute)
		for _, s := range sides {
			for _, name := range []string{"alerts-evaluate", "alerts-deliver"} {
				w := httptest.NewRecorder()
				s.handlers[sandbox.Alerts].ServeHTTP(w, pass(sandbox.Alerts, "/alerts/v1/passes/"+name).make(t, s))
				if w.Code != http.StatusNoContent {
					t.Fatal(s.name, name, w.Code, w.Body)
				}
			}
		}
	}
	told := func(s *side) []string {
		var all []string
		for _, m := range s.sent.got {
			b, err := json.Marshal(m)
			ok(t, err)
			all = append(all, string(b))
		}
		return all
	}
	a, b := told(sides[0]), told(sides[1])
	if len(a) == 0 {
		t.Fatal("nothing was sent")
	}
	for _, all := range [][]string{a, b} {
		for i := range all {
			all[i] = made.ReplaceAllString(all[i], "ID")
		}
		slices.Sort(all) // several are sent at once
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("-native +guest:\n%.3000s", diff)
	}
	if n := len(box.Passes()); n < 8 {
		t.Errorf("the guests told of %d duties", n)
	}
}
