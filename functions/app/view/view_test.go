package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/web"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 400 * time.Millisecond: "400 ms", 999 * time.Millisecond: "999 ms", time.Second: "1 s", 119 * time.Second: "119 s",
		2 * time.Minute: "2 min", 119 * time.Minute: "119 min", 2 * time.Hour: "2 h", 47 * time.Hour: "47 h", 48 * time.Hour: "2 d", 400 * 24 * time.Hour: "400 d",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{12.345, "PERCENT", "12.3 %"},
		{0.1234, "MILLISECONDS", "0.12 ms"},
		{2.75, "SECONDS", "2.75 s"},
		{7200, "SECONDS", "2 h"},
		{1536, "BYTES", "1.50 KiB"},
		{1024, "KILOBYTES", "1 MiB"},
		{2048, "MEGABYTES", "2 GiB"},
		{1, "GIGABYTES", "1 GiB"},
		{1 << 20, "BYTES_PER_SECOND", "1 MiB/s"},
		{1, "MEGABYTES_PER_SECOND", "1 MiB/s"},
		{1.5, "GIGABYTES_PER_HOUR", "1.50 GB/h"},
		{1234567, "SCALAR", "1,234,567"},
		{-12345, "SCALAR", "-12,345"},
		{0, "SCALAR_PER_SECOND", "0/s"},
		{math.NaN(), "SCALAR", "–"},
		{0.00012, "SCALAR", "0.00012"},
		{3e18, "SCALAR", "3e+18"},
	} {
		if got := Measure(c.v, c.unit); got != c.want {
			t.Errorf("Measure(%v, %s) = %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

func TestMiddleKeepsBothEnds(t *testing.T) {
	long := "shard-00-02.cluster-production.eu-central-1.example.internal:27017"
	got := Middle(long, 40)
	if len([]rune(got)) != 40 || !strings.HasPrefix(got, "shard-00-02") || !strings.HasSuffix(got, ":27017") || !strings.Contains(got, "…") {
		t.Errorf("Middle: %q", got)
	}
	for _, s := range []string{"", "short", "äöü"} {
		if got := Middle(s, 40); got != s {
			t.Errorf("Middle(%q) = %q", s, got)
		}
	}
}

func TestShortEscapesAndKeepsTheWhole(t *testing.T) {
	if got := string(short("<b>")); got != "&lt;b&gt;" {
		t.Errorf("short: %s", got)
	}
	long := strings.Repeat("<x>", 40)
	if got := string(short(long)); strings.Contains(got, "<x>") || !strings.Contains(got, `title="`+strings.ReplaceAll(long, "<x>", "&lt;x&gt;")+`"`) {
		t.Errorf("short: %s", got)
	}
}

func TestSafePath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/g/1/deployment?view=hosts#x": "/g/1/deployment?view=hosts#x",
		"": "/", "evil": "/", "//evil.example": "/", `/\evil.example`: "/", "https://evil.example": "/", "/a\nb": "/", "/a\\b": "/", "\t//evil": "/", "/%zz": "/",
	} {
		if got := SafePath(in); got != want {
			t.Errorf("SafePath(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzSafePath(f *testing.F) {
	for _, s := range []string{"/", "//x", `/\x`, "/a?b=c", "http://x", "/\x00", "/..//x", "///x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := SafePath(s)
		base := &url.URL{Scheme: "https", Host: "ours.example", Path: "/login"}
		u, err := url.Parse(got)
		if err != nil || base.ResolveReference(u).Host != "ours.example" {
			t.Errorf("SafePath(%q) = %q leads elsewhere (%v)", s, got, err)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestHostState(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	fresh := func(change func(*model.HostStatus)) *model.HostStatus {
		s := &model.HostStatus{At: now.Add(-20 * time.Second), Reach: model.ReachUp, State: model.StateSecondary}
		if change != nil {
			change(s)
		}
		return s
	}
	member := model.Host{Enabled: true, Type: model.TypeReplicaSecondary}
	for _, c := range []struct {
		name string
		host model.Host
		st   *model.HostStatus
		want string
		at   Level
	}{
		{"never heard of", member, nil, "waiting", Unknown},
		{"known, not polled", member, &model.HostStatus{Reach: model.ReachNoData}, "waiting", Unknown},
		{"switched off", model.Host{}, fresh(nil), "paused", Unknown},
		{"silent for long is unknown, not fine", member, fresh(func(s *model.HostStatus) { s.At = now.Add(-4 * time.Minute) }), "stale", Unknown},
		{"silent and was down is unknown too", member, fresh(func(s *model.HostStatus) { s.At, s.Reach = now.Add(-4*time.Minute), model.ReachDown }), "stale", Unknown},
		{"down", member, fresh(func(s *model.HostStatus) { s.Reach = model.ReachDown }), "down", Critical},
		{"unauthorised", member, fresh(func(s *model.HostStatus) { s.Reach = model.ReachUnauthorised }), "not authorised", Warning},
		{"slow", member, fresh(func(s *model.HostStatus) { s.Reach = model.ReachSlow }), "slow", Warning},
		{"primary", member, fresh(func(s *model.HostStatus) { s.State = model.StatePrimary }), "primary", OK},
		{"secondary", member, fresh(nil), "secondary", OK},
		{"secondary a little behind", member, fresh(func(s *model.HostStatus) { s.LagMS = ptr(int64(59_000)) }), "secondary", OK},
		{"secondary far behind", member, fresh(func(s *model.HostStatus) { s.LagMS = ptr(int64(61_000)) }), "lags", Warning},
		{"delayed member on time", model.Host{Enabled: true, DelaySecs: 3600}, fresh(func(s *model.HostStatus) { s.LagMS = ptr(int64(3_610_000)) }), "secondary", OK},
		{"arbiter", member, fresh(func(s *model.HostStatus) { s.State = model.StateArbiter }), "arbiter", OK},
		{"recovering", member, fresh(func(s *model.HostStatus) { s.State = model.StateRecovering }), "recovering", Warning},
		{"initial sync", member, fresh(func(s *model.HostStatus) { s.State = model.StateStartup2 }), "initial sync", Warning},
		{"starting", member, fresh(func(s *model.HostStatus) { s.State = model.StateStartup }), "starting", Warning},
		{"rollback", member, fresh(func(s *model.HostStatus) { s.State = model.StateRollback }), "rollback", Critical},
		{"fatal", member, fresh(func(s *model.HostStatus) { s.State = model.StateFatal }), "fatal", Critical},
		{"removed", member, fresh(func(s *model.HostStatus) { s.State = model.StateRemoved }), "removed", Warning},
		{"down in the set's eyes", member, fresh(func(s *model.HostStatus) { s.State = model.StateDown }), "down", Warning},
		{"unknown state", member, fresh(func(s *model.HostStatus) { s.State = model.StateUnknown }), "up", OK},
		{"standalone", model.Host{Enabled: true, Type: model.TypeStandalone}, fresh(func(s *model.HostStatus) { s.State = model.StateUnknown }), "standalone", OK},
		{"mongos", model.Host{Enabled: true, Type: model.TypeShardMongos}, fresh(func(s *model.HostStatus) { s.State = model.StateUnknown }), "mongos", OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := HostState(&c.host, c.st, now, StaleAfter(60))
			if got.Word != c.want || got.Level != c.at {
				t.Errorf("state %q (%s), want %q (%s)", got.Word, got.Level.Class(), c.want, c.at.Class())
			}
			if got.Attention() && got.Why == "" {
				t.Error("a state that needs attention does not say why")
			}
		})
	}
}

func TestSetState(t *testing.T) {
	ok, stale := State{OK, "secondary", ""}, State{Unknown, "stale", "No ping."}
	down, lags := State{Critical, "down", "x"}, State{Warning, "lags", "x"}
	set := &model.Cluster{Type: model.ClusterReplicaSet}
	for _, c := range []struct {
		name    string
		members []State
		primary bool
		want    string
		at      Level
	}{
		{"nobody reached", nil, false, "waiting", Unknown},
		{"all is well", []State{ok, ok, ok}, true, "healthy", OK},
		{"no primary", []State{ok, ok, down}, false, "no primary", Critical},
		{"all stale is unknown, not critical", []State{stale, stale, stale}, false, "stale", Unknown},
		{"one down, the set goes on", []State{ok, ok, down}, true, "member down", Warning},
		{"one lags", []State{ok, lags, ok}, true, "lags", Warning},
		{"one stale", []State{ok, stale, ok}, true, "stale", Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := SetState(set, c.members, c.primary); got.Word != c.want || got.Level != c.at {
				t.Errorf("state %q (%s), want %q (%s)", got.Word, got.Level.Class(), c.want, c.at.Class())
			}
		})
	}
}

func TestAgentState(t *testing.T) {
	now := time.Now()
	agent := func(kind model.AgentType, state model.AgentState, conf, ping time.Duration) model.Agent {
		return model.Agent{Type: kind, State: state, LastConf: now.Add(-conf), LastPing: now.Add(-ping)}
	}
	for _, c := range []struct {
		name   string
		agents []model.Agent
		want   string
	}{
		{"none", nil, "no agent"},
		{"a backup agent does not monitor", []model.Agent{agent(model.AgentBackup, model.AgentActive, 0, 0)}, "no agent"},
		{"active", []model.Agent{agent(model.AgentMonitoring, model.AgentActive, time.Minute, time.Hour)}, "agent active"},
		{"pings count as calls", []model.Agent{agent(model.AgentMonitoring, model.AgentActive, time.Hour, time.Minute)}, "agent active"},
		{"silent", []model.Agent{agent(model.AgentMonitoring, model.AgentActive, time.Hour, time.Hour)}, "agent silent"},
		{"a standby alone watches nothing", []model.Agent{agent(model.AgentMonitoring, model.AgentStandby, 0, 0)}, "no agent"},
		{"taken over", []model.Agent{agent(model.AgentMonitoring, model.AgentActive, time.Hour, time.Hour), agent(model.AgentMonitoring, model.AgentActive, 0, time.Hour)}, "agent active"},
	} {
		if got := AgentState(c.agents, now, StaleAfter(60)); got.Word != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.Word, c.want)
		}
	}
}

func TestEveryStateHasAShape(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range []Level{OK, Info, Unknown, Warning, Critical} {
		seen[l.Class()] = true
	}
	if len(seen) != 5 {
		t.Errorf("classes %v, want five", seen)
	}
	got := string(badge(State{Warning, "<b>", `a "quote"`}))
	if strings.Contains(got, "<b>") || !strings.Contains(got, `title="a &#34;quote&#34;"`) || !strings.Contains(got, `class="st warn"`) {
		t.Errorf("badge %s", got)
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		say    string
	}{
		{fmt.Errorf("read: %w", docstore.ErrNotFound), 404, "There is no such page"},
		{fmt.Errorf("read: %w", docstore.ErrUnavailable), 503, "The database does not answer"},
		{fmt.Errorf("write: %w", docstore.ErrOutcomeUnknown), 503, "The database does not answer"},
		{fmt.Errorf("write: %w", docstore.ErrFull), 507, "The disk is full"},
		{fmt.Errorf("write: %w", docstore.ErrConflict), 409, "Somebody else changed this meanwhile"},
		{opererr.New("open", errors.New("x"), "run this"), 500, "Something went wrong"},
		{fmt.Errorf("page: %w", NotFound("host")), 404, "There is no such host"},
		{BadRequest("no"), 400, "no"},
	} {
		p := problemOf(c.err)
		if p.Status != c.status || !strings.Contains(p.Error()+p.Title, c.say) {
			t.Errorf("%v: %d %q", c.err, p.Status, p.Error())
		}
		if p.Status >= 500 && p.Do == "" {
			t.Errorf("%v: the page does not say what to do", c.err)
		}
	}
	if p := problemOf(opererr.New("open", errors.New("x"), "run this")); p.Do != "run this" {
		t.Errorf("the hint is lost: %q", p.Do)
	}
}

func TestLinksKeepTheOtherChoices(t *testing.T) {
	v := &Visit{Request: httptest.NewRequestWithContext(t.Context(), "GET", "/p?view=hosts&sort=name&page=3", nil)}
	if got := v.Link("page", "", "sort", "lag"); got != "/p?sort=lag&view=hosts" {
		t.Errorf("Link: %s", got)
	}
	if got := v.Link("page", "", "sort", "", "view", ""); got != "/p" {
		t.Errorf("Link: %s", got)
	}
}

func TestTimes(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Skip(err)
	}
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	v := &Visit{Now: now, Zone: tokyo}
	if got := string(v.Ago(now.Add(-90 * time.Second))); !strings.Contains(got, ">90 s ago<") || !strings.Contains(got, "2026-11-21 16:58:30 JST (07:58:30 UTC)") {
		t.Errorf("Ago: %s", got)
	}
	if got := string(v.Ago(now.Add(time.Minute))); !strings.Contains(got, ">0 s ago<") {
		t.Errorf("a time in the future: %s", got)
	}
	if got := string(v.Stamp(now)); !strings.Contains(got, ">2026-11-21 17:00:00<") || !strings.Contains(got, `datetime="2026-11-21T08:00:00Z"`) {
		t.Errorf("Stamp: %s", got)
	}
	if got := string(v.Ago(time.Time{})); !strings.Contains(got, "never") {
		t.Errorf("no time: %s", got)
	}
	if got := string(v.For(now.Add(-3 * time.Hour))); !strings.Contains(got, ">3 h<") {
		t.Errorf("For: %s", got)
	}
}

func TestForms(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader("name=Ann&password=secret"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	f := NewForm(r, "name", "password")
	f.Fail("name", "first")
	f.Fail("name", "second")
	if f.OK() || f.Errors["name"] != "first" || len(f.Order) != 1 {
		t.Errorf("errors %v %v", f.Errors, f.Order)
	}
	if field := newField(f, "name", "Name", "text?", "help", "off"); field.Required || field.Value != "Ann" || field.Error != "first" {
		t.Errorf("field %+v", field)
	}
	if field := newField(f, "password", "Password", "password", "", ""); field.Value != "" || !field.Required {
		t.Errorf("a password comes back: %+v", field)
	}
}

func TestRightsHaveReasons(t *testing.T) {
	for r := ReadGroup; r <= EditSiteAlerts; r++ {
		if r.Reason() == "" || strings.Contains(r.Reason(), "missing") {
			t.Errorf("right %d has no reason", r)
		}
	}
	v := &Visit{User: &model.User{}, Allowed: func(r Right, g, o model.ID) bool { return r == ReadGroup && g == "g" && o == "o" }, Group: &model.Group{ID: "g", OrgID: "o"}}
	if !v.May(ReadGroup) || v.May(ManageKeys) || v.Need(ReadGroup) != nil || v.Need(ManageKeys) == nil {
		t.Error("rights are not asked for in the visit's group")
	}
	v.User = nil
	if v.May(ReadGroup) {
		t.Error("somebody who is not signed in has a right")
	}
}

func TestARequestGivenUpIsNoError(t *testing.T) {
	assets, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	for gone, want := range map[bool]struct {
		code int
		log  string
	}{true: {499, "level=DEBUG"}, false: {500, "level=ERROR"}} {
		var log bytes.Buffer
		r, err := New(Options{Templates: web.Templates(), Assets: assets, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if gone {
			cancel()
		}
		v := &Visit{Request: httptest.NewRequestWithContext(ctx, "GET", "/", nil), ID: "req1", Zone: time.UTC}
		w := httptest.NewRecorder()
		r.Render(w, v, Answer{}, fmt.Errorf("read the hosts: %w", context.Canceled))
		cancel()
		if w.Code != want.code || !strings.Contains(log.String(), want.log) {
			t.Errorf("given up %v: status %d, log %s", gone, w.Code, log.String())
		}
	}
}

func TestPagesOfSeveralLists(t *testing.T) {
	rows := make([]int, 45)
	for i := range rows {
		rows[i] = i
	}
	for query, want := range map[string]struct{ from, to int }{"": {1, 20}, "past=2": {21, 40}, "past=3&page=9": {41, 45}, "past=99": {41, 45}, "past=x": {1, 20}} {
		v := &Visit{Request: httptest.NewRequestWithContext(t.Context(), "GET", "/p?"+query, nil)}
		got, pg := PagedBy(v, "past", 20, rows)
		if pg.From != want.from || pg.To != want.to || got[0] != want.from-1 || (pg.Next == "") != (want.to == 45) || (pg.Prev == "") != (want.from == 1) {
			t.Errorf("%s: %+v", query, pg)
		}
	}
}

func TestRenderFailsWhole(t *testing.T) {
	assets, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Options{Templates: web.Templates(), Assets: assets, Log: obs.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	v := &Visit{Request: httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), ID: "req1", Zone: time.UTC}
	for _, a := range []Answer{{Template: "nothing.html"}, {Template: "groups.html", Data: 5}} {
		w := httptest.NewRecorder()
		if r.Render(w, v, a, nil); w.Code != 500 || !strings.Contains(w.Body.String(), "req1") || strings.Contains(w.Body.String(), "<html") {
			t.Errorf("%s: %d %s", a.Template, w.Code, w.Body)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a renderer without templates was made")
	}
}
