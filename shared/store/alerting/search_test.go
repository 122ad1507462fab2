package alerting_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

func TestEventsAreSearched(t *testing.T) {
	al := open(t)
	events := []model.Event{
		{GroupID: "g1", Type: model.EventGroupUpdated, Username: "Ann@example.com", IP: "192.0.2.7", Text: "1"},
		{GroupID: "g1", Type: model.EventHostDeleted, APIKey: "abcdefgh", HostID: "h1", HostName: "db1:27017", Text: "2"},
		{GroupID: "g2", Type: model.EventNewAgent, AgentID: "agent-7", Text: "3 was met"},
		{Type: model.EventAPIKeyCreated, OrgID: "o1", Username: "ann@example.com", TargetKey: "zyxw", Text: "4"},
		{Type: model.EventGlobalListChanged, AccessEntry: "10.0.0.0/8", Text: "5"},
	}
	for i := range events {
		events[i].At = minute(i)
	}
	must(t, al.AddEvents(t.Context(), events...))
	all := func(q alerting.EventQuery) alerting.EventQuery { q.AllGroups = true; return q }
	for name, c := range map[string]struct {
		q    alerting.EventQuery
		want []string
	}{
		"a person, whatever the case": {all(alerting.EventQuery{Actor: "ANN@"}), []string{"4", "1"}},
		"a key that acted":            {all(alerting.EventQuery{Actor: "abcdefgh"}), []string{"2"}},
		"a key that was made":         {all(alerting.EventQuery{Actor: "zyxw"}), nil},
		"an agent":                    {all(alerting.EventQuery{Actor: "agent-7"}), []string{"3 was met"}},
		"text":                        {all(alerting.EventQuery{Text: "Was Met"}), []string{"3 was met"}},
		"an address":                  {all(alerting.EventQuery{Text: "192.0.2."}), []string{"1"}},
		"a host's name":               {alerting.EventQuery{GroupID: "g1", Text: "db1"}, []string{"2"}},
		"a target":                    {all(alerting.EventQuery{Text: "zyxw"}), []string{"4"}},
		"an entry":                    {all(alerting.EventQuery{Text: "10.0.0"}), []string{"5"}},
		"groups of an organization":   {all(alerting.EventQuery{Groups: []model.ID{"g2"}, OrgID: "o1"}), []string{"4", "3 was met"}},
		"an organization alone":       {all(alerting.EventQuery{OrgID: "o1"}), []string{"4"}},
		"a group alone":               {all(alerting.EventQuery{Groups: []model.ID{"g1"}}), []string{"2", "1"}},
	} {
		got, _, err := al.Events(t.Context(), c.q)
		must(t, err)
		if !slices.Equal(texts(got), c.want) {
			t.Errorf("%s: got %v, want %v", name, texts(got), c.want)
		}
		for _, e := range got {
			if !c.q.Holds(e) {
				t.Errorf("%s: does not hold what it found: %+v", name, e)
			}
		}
	}
}

// However little matches, a page ends after so many events, and its cursor goes on exactly there.
func TestASearchGivesUpAndGoesOn(t *testing.T) {
	al := open(t)
	var events []model.Event
	for i := range 300 {
		events = append(events, model.Event{GroupID: "g1", HostID: "h1", Type: model.EventLogin, At: minute(i), Text: fmt.Sprint(i)})
	}
	must(t, al.AddEvents(t.Context(), events...))
	for _, q := range []alerting.EventQuery{
		{GroupID: "g1", Text: "77"}, {GroupID: "g1", HostID: "h1", Text: "77"}, {AllGroups: true, HostID: "h1", Text: "77"},
	} {
		var got []string
		pages, last := 0, ""
		for {
			next, err := al.EachEvent(t.Context(), q, 50, func(e model.Event) bool {
				got = append(got, e.Text)
				return true
			})
			must(t, err)
			pages++
			if next == "" {
				break
			}
			if at, ok := alerting.CursorTime(next); !ok || !at.Equal(minute(300-50*pages)) {
				t.Fatalf("page %d ends at %v", pages, at)
			}
			if last != "" && next >= last {
				t.Fatalf("the cursor does not move on: %s after %s", next, last)
			}
			q.Before, last = next, next
		}
		if !slices.Equal(got, []string{"277", "177", "77"}) || pages != 6 {
			t.Errorf("found %v on %d pages", got, pages)
		}
	}
}

func TestARefusedEventComesAgain(t *testing.T) {
	al := open(t)
	fill(t, al)
	q := alerting.EventQuery{AllGroups: true}
	var got []string
	for {
		room := 2
		next, err := al.EachEvent(t.Context(), q, 100, func(e model.Event) bool {
			if room--; room < 0 {
				return false
			}
			got = append(got, e.Text)
			return true
		})
		must(t, err)
		if q.Before = next; next == "" {
			break
		}
	}
	if strings.Join(got, "") != "654321" {
		t.Fatalf("got %v", got)
	}
}

func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "g1", "0123456789abcdef01234567", "fffffffffffffffffffffff0", "00000000000-------------", strings.Repeat("f", 24), "é"} {
		f.Add(s)
	}
	al := open(f)
	must(f, al.AddEvents(f.Context(), model.Event{GroupID: "g1", Type: model.EventLogin, At: t0}, model.Event{GroupID: "g10", Type: model.EventLogin, At: t0}))
	f.Fuzz(func(t *testing.T, cursor string) {
		at, ok := alerting.CursorTime(cursor)
		if !ok {
			return // the pages refuse it
		}
		if !model.ID(cursor).Valid() || at.Year() < 1970 || at.Year() > 2600 {
			t.Fatalf("%q is %v", cursor, at)
		}
		events, next, err := al.Events(t.Context(), alerting.EventQuery{GroupID: "g1", Before: cursor})
		if err != nil || next != "" || len(events) > 1 || len(events) == 1 && (events[0].GroupID != "g1" || string(events[0].ID) >= cursor) {
			t.Fatalf("%q: %v %q %v", cursor, events, next, err)
		}
	})
}
