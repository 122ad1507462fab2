package app

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

func register(b *browser) *browser {
	b.s.t.Helper()
	b.get("/").want(200, "Set up Heartwood")
	return b.post("/register", "username", "Ann@Example.com", "first", "Ann", "last", "Lee", "password", password, "group", "Shop")
}

func TestFirstRunMakesAnOwnerAGroupAndAKey(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	register(b).want(200, "Agent API key “first key” was created", "mmsBaseUrl="+s.server.URL, "heartwood monitoring-agent --config monitoring-agent.config")
	u, err := s.acc.UserByName(t.Context(), "ann@example.com")
	s.ok(err)
	if len(u.Grants) != 1 || u.Grants[0].Role != model.GlobalOwner {
		t.Errorf("grants of the first user: %+v, want global owner", u.Grants)
	}
	groups, err := s.inv.Groups(t.Context())
	s.ok(err)
	if len(groups) != 1 || groups[0].Name != "Shop" || groups[0].OrgID == "" {
		t.Fatalf("groups after registration: %+v", groups)
	}
	key := strings.SplitN(strings.SplitN(b.page, "mmsApiKey=", 2)[1], "\n", 2)[0]
	if _, ok, err := s.acc.CheckAgentKey(t.Context(), groups[0].ID, key); err != nil || !ok {
		t.Errorf("the key of the install commands does not work: %v %v", ok, err)
	}
	b.get("/").want(200, "Nothing is monitored yet")
	if !strings.HasSuffix(b.url, "/deployment") {
		t.Errorf("a single group's start page is %s, want its deployment", b.url)
	}
	b.get("/g/" + string(groups[0].ID) + "/agents").wantNot(key)
	if types := eventTypes(s.events("")); !slices.Contains(types, model.EventUserCreated) {
		t.Errorf("events of the site: %v, want the registration", types)
	}

	other := s.browser()
	other.get("/register").want(403, "Registration is closed")
	other.get("/login")
	other.post("/register", "username", "eve@example.com", "password", password, "group", "x").want(403, "Registration is closed")
}

func eventTypes(list []model.Event) []model.EventType {
	var out []model.EventType
	for _, e := range list {
		out = append(out, e.Type)
	}
	return out
}

func TestRegistrationKeepsWhatWasTypedAndSaysWhatIsWrong(t *testing.T) {
	b := newSite(t).browser()
	b.get("/register")
	b.post("/register", "username", "ann lee", "password", "short", "group", "")
	b.want(422, `value="ann lee"`, "3 things need a change", "Give the group a name").wantNot("short\"")
}

func TestSignIn(t *testing.T) {
	s := newSite(t)
	g := s.group("Shop")
	s.user("ann@example.com", model.Grant{Role: model.GlobalOwner})
	b := s.browser()
	b.get("/g/"+string(g.ID)+"/agents").want(200, "Sign in")
	if b.url != "/login?next=%2Fg%2F"+string(g.ID)+"%2Fagents" {
		t.Errorf("signed-out visit led to %s", b.url)
	}
	b.post("/login", "username", "ann@example.com", "password", "wrong", "next", "/g/"+string(g.ID)+"/agents")
	b.want(401, "User name or password is wrong", `value="ann@example.com"`)
	b.post("/login", "username", " ANN@example.com ", "password", password, "next", "/g/"+string(g.ID)+"/agents").want(200, "Agents")
	if b.url != "/g/"+string(g.ID)+"/agents" {
		t.Errorf("sign-in led to %s, want the page asked for", b.url)
	}
	b.get("/login").wantNot("Sign in</h1>")
	b.get("/")
	b.post("/logout").want(200, "Sign in")
	b.get("/account").want(200, "Sign in")
	types := eventTypes(s.events(""))
	for _, want := range []model.EventType{model.EventLoginFailed, model.EventLogin, model.EventLogout} {
		if !slices.Contains(types, want) {
			t.Errorf("events %v lack %s", types, want)
		}
	}
}

func TestRefusalsTellNobodyWhichNamesExist(t *testing.T) {
	s := newSite(t, func(o *Options) { o.LoginAttempts = 3 })
	s.user("ann@example.com")
	try := func(name string) string {
		b := s.browser()
		b.get("/login")
		b.post("/login", "username", name, "password", "wrong").want(401)
		return strings.ReplaceAll(csrfField.ReplaceAllString(b.page, ""), name, "")
	}
	clock := func(page string) string { return page[strings.Index(page, "<main"):] }
	first := clock(try("ann@example.com"))
	for range 5 { // the last of them are locked
		if got := clock(try("ann@example.com")); got != first {
			t.Fatal("a locked account answers differently")
		}
	}
	if got := clock(try("nobody@example.com")); got != first {
		t.Error("an unknown name answers differently")
	}
}

func TestTooManyAttemptsLockForAWhile(t *testing.T) {
	s := newSite(t, func(o *Options) { o.LoginAttempts, o.LoginLock = 3, 5*time.Minute })
	s.user("ann@example.com")
	b := s.browser()
	b.get("/login")
	for range 3 {
		b.post("/login", "username", "ann@example.com", "password", "wrong").want(401)
	}
	b.post("/login", "username", "ann@example.com", "password", password).want(401)
	s.now = s.now.Add(5*time.Minute + time.Second)
	b.get("/login")
	b.post("/login", "username", "ann@example.com", "password", password).want(200)
}

func TestCookies(t *testing.T) {
	for _, proto := range []string{"http", "https"} {
		t.Run(proto, func(t *testing.T) {
			s := newSite(t, func(o *Options) {
				o.Chain.ClientIPHeader, o.Chain.TrustedProxies = "X-Forwarded-For", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
			})
			s.user("ann@example.com")
			b := s.browser()
			b.c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			b.c.Jar = nil
			b.do("GET", "/login", "", "X-Forwarded-Proto", proto)
			form := b.head.Get("Set-Cookie")
			token := b.token()
			b.do("POST", "/login", "csrf="+token+"&username=ann%40example.com&password=Passw0rd%21", "X-Forwarded-Proto", proto, "Cookie", "heartwood_form="+token)
			session := b.head.Get("Set-Cookie")
			if !strings.HasPrefix(session, "heartwood_session=") {
				t.Fatalf("Set-Cookie after sign-in: %q", session)
			}
			for _, c := range []string{form, session} {
				if !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") || !strings.Contains(c, "Path=/") {
					t.Errorf("cookie %q lacks HttpOnly, SameSite=Lax or Path", c)
				}
				if strings.Contains(c, "Secure") != (proto == "https") {
					t.Errorf("over %s the cookie is %q", proto, c)
				}
			}
			if cookie := strings.SplitN(strings.TrimPrefix(session, "heartwood_session="), ";", 2)[0]; true {
				list, err := s.acc.SessionsOf(t.Context(), mustUser(s).ID)
				s.ok(err)
				if len(list) != 1 || list[0].Key == cookie {
					t.Errorf("stored sessions %+v: want one, under another key than the cookie's token", list)
				}
			}
		})
	}
}

func mustUser(s *site) model.User {
	u, err := s.acc.UserByName(s.t.Context(), "ann@example.com")
	s.ok(err)
	return u
}

func TestSessionsEnd(t *testing.T) {
	s := newSite(t, func(o *Options) { o.SessionHours = 2 })
	s.user("ann@example.com", model.Grant{Role: model.GlobalOwner})
	b := s.signIn("ann@example.com")
	s.now = s.now.Add(90 * time.Minute)
	b.get("/account").want(200, "Signed-in browsers") // use prolongs it
	s.now = s.now.Add(90 * time.Minute)
	b.get("/account").want(200, "Signed-in browsers")
	s.now = s.now.Add(3 * time.Hour)
	b.get("/account").want(200, "Sign in")
}

func TestAPartOfAPageThatLostItsSessionSendsTheWholePageToSignIn(t *testing.T) {
	b := newSite(t).browser()
	b.do("GET", "/account", "", "HX-Request", "true").want(401)
	if got := b.head.Get("HX-Redirect"); got != "/login" {
		t.Errorf("HX-Redirect %q, want /login", got)
	}
}

func TestFormsFromElsewhereAreRefused(t *testing.T) {
	s := newSite(t)
	g := s.group("Shop")
	s.user("ann@example.com", model.Grant{Role: model.GlobalOwner})
	b := s.signIn("ann@example.com")
	for _, token := range []string{"", "0123456789abcdef0123456789abcdef"} {
		b.do("POST", "/g/"+string(g.ID)+"/settings", "csrf="+token+"&name=Stolen").want(403, "This form is out of date")
	}
	got, err := s.inv.Group(t.Context(), g.ID)
	s.ok(err)
	if got.Name != "Shop" {
		t.Errorf("a forged form renamed the group to %q", got.Name)
	}
	s.browser().do("POST", "/login", "username=ann%40example.com&password=Passw0rd%21").want(403, "This form is out of date")
	b.get("/account")
	b.post("/account/preferences", "theme", strings.Repeat("x", maxForm)).want(413)
}

func TestNextLeadsNowhereElse(t *testing.T) {
	for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "javascript:alert(1)", "/%09/evil.example", "evil"} {
		t.Run(next, func(t *testing.T) {
			s := newSite(t)
			s.user("ann@example.com")
			b := s.browser()
			b.c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			b.get("/login?next=" + strings.ReplaceAll(next, "%", "%25"))
			b.post("/login", "username", "ann@example.com", "password", password, "next", next).want(303)
			if loc := b.head.Get("Location"); loc != "/" && loc != "/%09/evil.example" {
				t.Errorf("sign-in led to %q", loc)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	s.group("Shop")
	s.user("ann@example.com", model.Grant{Role: model.GlobalOwner})
	b := s.signIn("ann@example.com").get("/account")
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
		if got := b.head.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	csp := b.head.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
		t.Errorf("Content-Security-Policy %q", csp)
	}
}

func TestDatabaseAway(t *testing.T) {
	s := newSite(t)
	g := s.group("Shop")
	s.user("ann@example.com", model.Grant{Role: model.GlobalOwner})
	b := s.signIn("ann@example.com")
	s.engine.Off(docstore.ErrUnavailable)
	b.get("/g/"+string(g.ID)+"/deployment").want(503, "The database does not answer", "request id <code>"+b.head.Get("X-Request-Id")+"</code>")
	b.get("/g/" + string(g.ID) + "/hosts/" + strings.Repeat("0", 32) + "/series?charts=opcounters").want(503)
	s.engine.On()
	b.get("/g/" + string(g.ID) + "/deployment").want(200)
}

func TestMountedHandlers(t *testing.T) {
	say := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
	}
	s := newSite(t, func(o *Options) { o.API, o.Health = say("api"), say("fine") })
	b := s.browser()
	if got := b.get("/api/public/v1.0/groups").page; got != "api" {
		t.Errorf("/api/ answers %q", got)
	}
	// Never redirected, whatever the path: that would break the digest.
	for _, path := range []string{"/api/public/v1.0/groups/g/hosts/h/disks//data/db", "/api/public/v1.0/x/../groups", "/api/public/v1.0/"} {
		if p := b.get(path); p.page != "api" || p.url != path {
			t.Errorf("%s answers %q at %s", path, p.page, p.url)
		}
	}
	if got := b.get("/monitor/health").page; got != "fine" {
		t.Errorf("/monitor/health answers %q", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("an application without a store was made")
	}
}
