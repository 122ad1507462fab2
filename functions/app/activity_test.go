package app

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

func (s *site) happened(events ...model.Event) {
	s.t.Helper()
	s.ok(s.ev.AddEvents(s.t.Context(), events...))
}

func TestActivityTellsWhoDidWhatFromWhere(t *testing.T) {
	s := newSite(t)
	g := s.group("Production")
	s.user("ann", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	b := s.signIn("ann")
	path := "/g/" + string(g.ID) + "/activity"
	b.get(path).want(200, "Nothing has happened yet", "data-every")

	host := model.NewHostID(g.ID, "db1", 27017)
	s.happened(
		model.Event{GroupID: g.ID, Type: model.EventHostDown, At: s.now.Add(-3 * time.Hour), HostID: host, HostName: "db1:27017", Text: "db1:27017 does not answer: refused."},
		model.Event{GroupID: g.ID, Type: model.EventGroupUpdated, At: s.now.Add(-2 * time.Hour), Username: "bob", IP: "192.0.2.9", Text: "Settings <b>changed</b>"},
		model.Event{GroupID: g.ID, Type: model.EventClusterRenamed, At: s.now.Add(-time.Hour), APIKey: "abcdefgh", IP: "2001:db8::1", ClusterID: model.DeriveID("c")},
		model.Event{GroupID: g.ID, Type: "FROM_THE_FUTURE_AUDIT", At: s.now.Add(-time.Minute), AgentID: "agent-7"},
	)
	b.get(path).want(200, "db1:27017 does not answer", "/hosts/"+string(host), "Host down", "Settings &lt;b&gt;changed", "192.0.2.9", "bob", "2001:db8::1",
		"API key", "abcdefgh", "Cluster renamed.", "From the future", "agent-7", "seen by Heartwood", `href="`+path+`.csv"`).wantNot("<b>changed")
	day := s.now.Add(-3*time.Hour - time.Minute).Format("2006-01-02T15:04:05")
	until := s.now.Add(-2*time.Hour - time.Minute).Format("2006-01-02T15:04:05")
	for query, want := range map[string]string{
		"?type=HOST_DOWN": "refused", "?type=groups": "changed", "?type=hosts&type=groups": "refused", "?host=db1:27017": "refused",
		"?host=" + string(host): "refused", "?actor=BOB": "changed", "?actor=abc": "Cluster renamed", "?q=future": "From the future", "?q=192.0.2": "changed",
		"?from=" + day + "&to=" + until: "refused", "?cluster=" + string(model.DeriveID("c")): "Cluster renamed.",
	} {
		b.get(path+query).want(200, want, "Clear")
		if n := strings.Count(b.page, `<tr id="e-`); n != 1 && query != "?type=hosts&type=groups" {
			t.Errorf("%s: %d rows", query, n)
		}
	}
	b.get(path+"?q=nothing+like+this").want(200, "No event matches", "Show all events")
	b.get(path+"?type=NO_SUCH").want(200, "No event matches")
	for query, want := range map[string]string{
		"?from=yesterday": "Give a date and time", "?from=2026-03-02T00:00&to=2026-03-01T00:00": "end must come after", "?host=:::": "Give a host name and port",
		"?cluster=nope": "There is no cluster nope", "?before=xyz": "Start again at the newest", "?before=" + strings.Repeat("g", 24): "Start again", "?from=9999-01-01": "Give a date",
	} {
		b.get(path+query).want(400, want)
	}
	b.do(http.MethodGet, path, "", "HX-Request", "true").want(200, `id="live"`).wantNot("<html")
	b.do(http.MethodPost, path, "csrf="+b.token())
	if b.code == 200 {
		t.Error("the feed takes writes")
	}
}

func TestActivityPagesByCursor(t *testing.T) {
	s := newSite(t)
	g := s.group("Production")
	s.user("ann", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	var events []model.Event
	for i := range 450 {
		events = append(events, model.Event{GroupID: g.ID, Type: model.EventHostUp, At: s.now.Add(-time.Duration(i) * time.Minute), Text: fmt.Sprintf("event %d.", i)})
	}
	s.happened(events...)
	b := s.signIn("ann").get("/g/"+string(g.ID)+"/activity").want(200, "event 0.", "event 199.", "Older")
	b.wantNot("event 200.")
	for i, want := range []string{"event 399.", "event 449."} {
		b.get(linkOf(t, b.page, "Older")).want(200, want, "Newest").wantNot("data-every", "event 0.<")
		if strings.Contains(b.page, ">Older<") != (i == 0) {
			t.Errorf("page %d: older link", i)
		}
	}
	before := string(alertingFirst(s.now.Add(-449 * time.Minute)))
	b.get("/g/"+string(g.ID)+"/activity?before="+before).want(200, "This is the end")
}

// alertingFirst is a cursor before every event of a moment.
func alertingFirst(at time.Time) model.ID {
	return model.ID(fmt.Sprintf("%011x%013d", at.UnixMilli(), 0))
}

func linkOf(t *testing.T, page, text string) string {
	t.Helper()
	end := strings.Index(page, ">"+text+"<")
	if end < 0 {
		t.Fatalf("no link %s", text)
	}
	start := strings.LastIndex(page[:end], `href="`) + len(`href="`)
	return strings.ReplaceAll(page[start:start+strings.Index(page[start:], `"`)], "&amp;", "&")
}

// A search that finds next to nothing ends after a bound and says how far it came.
func TestActivitySaysHowFarItSearched(t *testing.T) {
	s := newSite(t)
	g := s.group("Production")
	s.user("ann", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	var events []model.Event
	for i := range 10_050 {
		e := model.Event{GroupID: g.ID, Type: model.EventHostUp, At: s.now.Add(-time.Duration(i) * time.Second), Text: "up"}
		if i == 10_040 {
			e.Text = "the needle"
		}
		events = append(events, e)
	}
	s.happened(events...)
	b := s.signIn("ann").get("/g/"+string(g.ID)+"/activity?q=needle").want(200, "Nothing found so far", "Searched up to", s.now.Add(-9_999*time.Second).Format("15:04:05"))
	b.get(linkOf(t, b.page, "Search further back")).want(200, "the needle")
}

func TestWhoMaySeeActivity(t *testing.T) {
	s := newSite(t)
	g, other := s.group("Production"), s.group("Other")
	s.user("ann", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	s.user("root", model.Grant{Role: model.GlobalReadOnly})
	s.happened(
		model.Event{GroupID: g.ID, Type: model.EventHostUp, At: s.now, Text: "in production"},
		model.Event{GroupID: other.ID, Type: model.EventHostUp, At: s.now, Text: "elsewhere"},
		model.Event{Type: model.EventAPIKeyCreated, At: s.now, Text: "on the site"},
	)
	ann := s.signIn("ann")
	for _, file := range []string{"", ".csv", ".json"} {
		ann.get("/g/"+string(g.ID)+"/activity"+file).want(200, "in production").wantNot("elsewhere", "on the site")
		ann.get("/g/" + string(other.ID) + "/activity" + file).want(403).wantNot("elsewhere")
		ann.get("/admin/activity"+file).want(403, "only people with a global role").wantNot("on the site")
		s.browser().get("/admin/activity" + file).wantNot("on the site")
	}
	root := s.signIn("root").get("/admin/activity").want(200, "in production", "elsewhere", "on the site", "Signed in", "/g/"+string(other.ID)+"/activity")
	root.get("/admin/activity?group=site").want(200, "on the site").wantNot("elsewhere")
	root.get("/admin/activity?group="+string(other.ID)).want(200, "elsewhere").wantNot("on the site")
	root.get("/admin/activity?group=x").want(400, "This is no group")
	root.get("/admin/activity.csv?q=elsewhere").want(200, "elsewhere").wantNot("on the site")
}

func TestActivityDownloads(t *testing.T) {
	s := newSite(t)
	g := s.group("Production")
	s.user("ann", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	b := s.signIn("ann")
	path := "/g/" + string(g.ID) + "/activity"
	var empty struct {
		Events   []map[string]any
		Complete bool
	}
	s.ok(json.Unmarshal([]byte(b.get(path+".json").want(200).page), &empty))
	if empty.Events == nil || len(empty.Events) != 0 || !empty.Complete {
		t.Errorf("empty: %s", b.page)
	}
	nasty := []string{`=HYPERLINK("http://x")`, "+1", "-1", "@SUM(A1)", "a,b", `say "hi"`, "two\nlines", "plain"}
	for i, text := range nasty {
		s.happened(model.Event{GroupID: g.ID, Type: model.EventGroupUpdated, At: s.now.Add(-time.Duration(i) * time.Second), Username: "=ann", IP: "192.0.2.1", Text: text})
	}
	b.get(path + ".csv").want(200)
	rows, err := csv.NewReader(strings.NewReader(b.page)).ReadAll()
	s.ok(err)
	if len(rows) != len(nasty)+1 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, text := range nasty {
		row := rows[i+1]
		if i < 4 {
			text = "'" + text
		}
		if row[3] != text || row[7] != "'=ann" || row[9] != "192.0.2.1" || row[8] != "user" {
			t.Errorf("row %d: %q", i, row)
		}
	}
	if d := b.head.Get("Content-Disposition"); !strings.HasPrefix(d, `attachment; filename="activity-`) || !strings.HasSuffix(d, `.csv"`) {
		t.Error(d)
	}
	s.ok(json.Unmarshal([]byte(b.get(path+".json?q=lines").want(200).page), &empty))
	if len(empty.Events) != 1 || empty.Events[0]["text"] != "two\nlines" || empty.Events[0]["eventTypeName"] != "GROUP_UPDATED" || !empty.Complete {
		t.Errorf("%s", b.page)
	}
	b.get(path+".csv?from=never").want(400, "Give a date")
}

// Everything people do at the pages leaves an event with them and their address.
func TestActionsOfPeopleLeaveEvents(t *testing.T) {
	s := newSite(t, func(o *Options) { o.LoginAttempts = 2 })
	g := s.group("Production")
	s.user("root", model.Grant{Role: model.GlobalOwner})
	s.user("eve")
	eve := s.browser()
	for range 2 {
		eve.get("/login").post("/login", "username", "eve", "password", "wrong")
	}
	b := s.signIn("root")
	base := "/g/" + string(g.ID) + "/settings"
	b.get(base).post(base, "name", "Production", "timeZone", "UTC", "ping", "60")
	b.get(base+"/hosts").post(base+"/hosts", "address", "db1:27017")
	host := string(model.NewHostID(g.ID, "db1", 27017))
	b.get(base+"/hosts").post(base+"/hosts/"+host+"/hide").get(base+"/hosts").post(base+"/hosts/"+host+"/hide", "show", "1")
	b.get(base+"/hosts/"+host+"/remove").post(base+"/hosts/"+host+"/remove", "name", "db1:27017")
	b.get(base+"/agent-keys").post(base+"/agent-keys", "desc", "one")
	b.get(base+"/api-keys").post(base+"/api-keys", "desc", "two", "role", "GROUP_READ_ONLY")
	b.get("/account").post("/account/password", "old", password, "new", password+"x", "again", password+"x")
	b.get("/groups/new").post("/groups", "name", "Second")
	b.get("/account").post("/logout")
	have := map[model.EventType]bool{}
	all, _, err := s.ev.Events(t.Context(), alerting.EventQuery{AllGroups: true, Limit: 1_000})
	s.ok(err)
	for _, e := range all {
		have[e.Type] = true
		if e.IP == "" || e.Text == "" || e.Username == "" && e.Type != model.EventLoginFailed && e.Type != model.EventAccountLocked {
			t.Errorf("%s says too little: %+v", e.Type, e)
		}
	}
	for _, want := range []model.EventType{
		model.EventLogin, model.EventLoginFailed, model.EventAccountLocked, model.EventLogout, model.EventGroupUpdated, model.EventHostAdded, model.EventHostHidden,
		model.EventHostUpdated, model.EventHostDeleted, model.EventAgentKeyCreated, model.EventAPIKeyCreated, model.EventPasswordChanged, model.EventGroupCreated,
	} {
		if !have[want] {
			t.Errorf("%s left no event", want)
		}
	}
}
