package beside

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) // a Saturday

func visit(t *testing.T, post url.Values) *view.Visit {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(post.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := r.ParseForm(); err != nil {
		t.Fatal(err)
	}
	return &view.Visit{Request: r, Now: now, Zone: time.UTC, Group: &model.Group{ID: "g1"}}
}

// with is a window's form that is as it must be, with a change.
func with(change ...string) url.Values {
	v := url.Values{"start": {"2026-11-22T01:00"}, "end": {"2026-11-22T03:00"}, "zone": {"UTC"}, "kind": {"HOST"}}
	for i := 0; i+1 < len(change); i += 2 {
		if change[i+1] == "" {
			v.Del(change[i])
		} else {
			v.Add(change[i], change[i+1])
			if len(v[change[i]]) > 1 && change[i] != "kind" && change[i] != "day" {
				v.Set(change[i], change[i+1])
			}
		}
	}
	return v
}

func TestWindowsAreReadOnTheClockOfTheirZone(t *testing.T) {
	w, f := readWindow(visit(t, with("zone", "America/New_York", "kind", "REPLICA_SET", "description", " upgrade ", "repeat", "on", "day", "0", "day", "3", "until", "2026-12-31")))
	if !f.OK() {
		t.Fatal(f.Errors)
	}
	if !w.Start.Equal(time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)) || w.End.Sub(w.Start) != 2*time.Hour || w.Description != "upgrade" || !slices.Equal(w.Types, []string{"HOST", "REPLICA_SET"}) {
		t.Errorf("%+v", w)
	}
	if r := w.Repeat; r == nil || r.TimeZone != "America/New_York" || !slices.Equal(r.Weekdays, []int{0, 3}) || !r.Until.Equal(time.Date(2027, 1, 1, 5, 0, 0, 0, time.UTC)) {
		t.Errorf("repeats %+v: its last day is still in it", w.Repeat)
	}
}

func TestEveryFaultOfAWindowIsAtItsField(t *testing.T) {
	for name, c := range map[string]struct {
		change []string
		want   string
	}{
		"as it must be":                      {nil, ""},
		"no dates":                           {[]string{"start", "", "end", "x"}, "start end"},
		"a zone nobody knows":                {[]string{"zone", "Mars/Olympus"}, "zone"},
		"the server's own zone":              {[]string{"zone", "Local"}, "zone"},
		"the end first":                      {[]string{"end", "2026-11-22T00:30"}, "end"},
		"longer than a year":                 {[]string{"end", "2028-11-22T00:30"}, "end"},
		"over already":                       {[]string{"start", "2026-11-20T01:00", "end", "2026-11-20T02:00"}, "end"},
		"nothing to keep quiet about":        {[]string{"kind", ""}, "kind"},
		"a kind nobody knows":                {[]string{"kind", "", "kind", "WEATHER"}, "kind"},
		"again on no day":                    {[]string{"repeat", "on"}, "day"},
		"again, and longer than a day":       {[]string{"repeat", "on", "day", "1", "end", "2026-11-24T01:00"}, "end"},
		"a last day that is none":            {[]string{"repeat", "on", "day", "1", "until", "soon"}, "until"},
		"a long text":                        {[]string{"description", strings.Repeat("雪", rule.MaxText+1)}, "description"},
		"a long text of many bytes is fine":  {[]string{"description", strings.Repeat("雪", rule.MaxText)}, ""},
		"several at once":                    {[]string{"start", "", "kind", "", "description", strings.Repeat("x", rule.MaxText+1)}, "start description kind"},
		"one that repeats may lie behind us": {[]string{"repeat", "on", "day", "1", "start", "2026-11-02T01:00", "end", "2026-11-02T02:00"}, ""},
	} {
		_, f := readWindow(visit(t, with(c.change...)))
		if got := strings.Join(f.Order, " "); got != c.want {
			t.Errorf("%s: faults at %q, want %q (%v)", name, got, c.want, f.Errors)
		}
	}
}

func TestHowWindowsStand(t *testing.T) {
	once := model.MaintenanceWindow{ID: "w", Start: now.Add(-time.Hour), End: now.Add(time.Hour), Types: []string{"HOST", "AGENT"}}
	planned, over, daily, weekly := once, once, once, once
	planned.Start, planned.End = now.Add(time.Hour), now.Add(2*time.Hour)
	over.Start, over.End = now.Add(-3*time.Hour), now.Add(-time.Hour)
	daily.Repeat = &model.Recurrence{Weekdays: []int{0, 1, 2, 3, 4, 5, 6}}
	weekly.Repeat = &model.Recurrence{Weekdays: []int{0, 5, 1}, TimeZone: "Europe/Berlin", Until: now.AddDate(0, 1, 0)}
	for name, c := range map[string]struct {
		w         model.MaintenanceWindow
		word, how string
		none      bool
	}{
		"on now":  {once, "on now", "once", false},
		"planned": {planned, "planned", "once", false},
		"over":    {over, "over", "once", true},
		"daily":   {daily, "on now", "every day, UTC", false},
		"weekly":  {weekly, "on now", "every Mon, Fri, Sun, Europe/Berlin, until 2026-12-21", false},
	} {
		r := windowRowOf(visit(t, nil), c.w)
		if r.State.Word != c.word || r.How != c.how || r.None != c.none || r.What != "hosts, agents" || r.Href != "/g/g1/alert-windows/w" {
			t.Errorf("%s: %q, %q, %q, %v at %s", name, r.State.Word, r.How, r.What, r.None, r.Href)
		}
	}
	if got, want := span(&weekly), "2026-11-21 11:00 to 2026-11-21 13:00 UTC, again every Mon, Fri, Sun."; got != want {
		t.Errorf("in events it is %q, want %q", got, want)
	}
}

func TestWhatSilencesAreAbout(t *testing.T) {
	names := map[model.ID]string{"c1": "Host is down, for 5 min or longer."}
	db1 := []model.Matcher{{Field: "HOSTNAME_AND_PORT", Operator: "EQUALS", Value: "db1:27017"}}
	for want, s := range map[string]model.Silence{
		"Host is down, for 5 min or longer":                                   {ConfigID: "c1"},
		"Host is down, for 5 min or longer, where host and port is db1:27017": {ConfigID: "c1", Matchers: db1},
		"A setting that is gone":                                              {ConfigID: "c2"},
		"Replica set has no primary":                                          {EventType: model.EventNoPrimary},
		"Everything, where host and port is db1:27017":                        {Matchers: db1},
	} {
		if got := whatOf(&s, names); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestOnlyChannelsWithCommonFieldsHaveAnIntegration(t *testing.T) {
	for name, want := range map[string]bool{"SLACK": true, "WEBHOOK": true, "EMAIL": false, "GROUP": false, "FAX": false, "": false} {
		v := visit(t, nil)
		v.Request.SetPathValue("channel", name)
		if _, err := channelAt(v); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestOptionsMustBeThere(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("pages without a store")
	}
}
