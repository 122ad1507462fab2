package alerting_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var t0 = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB) *alerting.Alerting {
	t.Helper()
	return alerting.New(storetest.Open(t, alerting.Collections()...))
}

func minute(m int) time.Time { return t0.Add(time.Duration(m) * time.Minute) }

func TestEventIDsSortByTime(t *testing.T) {
	var last model.ID
	for _, at := range []time.Time{time.Unix(0, 0), minute(-1e6), t0, t0.Add(time.Millisecond), minute(1), minute(1e7)} {
		id := alerting.EventID(at, "x")
		if !id.Valid() || id <= last {
			t.Fatalf("%s after %s", id, last)
		}
		random, another := alerting.EventID(at), alerting.EventID(at)
		if id != alerting.EventID(at, "x") || id == alerting.EventID(at, "y") || random == another {
			t.Fatal("ids must follow from their parts, and be random without")
		}
		last = id
	}
}

func texts(events []model.Event) (out []string) {
	for _, e := range events {
		out = append(out, e.Text)
	}
	return out
}

func fill(t *testing.T, al *alerting.Alerting) {
	t.Helper()
	events := []model.Event{
		{GroupID: "g1", Type: model.EventHostDown, At: minute(1), HostID: "h1", Text: "1"},
		{GroupID: "g1", Type: model.EventHostUp, At: minute(2), HostID: "h1", ClusterID: "c1", Text: "2"},
		{GroupID: "g1", Type: model.EventPrimaryElected, At: minute(3), ClusterID: "c1", Text: "3"},
		{GroupID: "g2", Type: model.EventHostDown, At: minute(4), HostID: "h2", Text: "4"},
		{Type: model.EventLogin, At: minute(5), Username: "ann", Text: "5"},
		{GroupID: "g1", Type: model.EventHostDown, At: minute(6), HostID: "h1", Text: "6"},
	}
	for i := range events {
		events[i].ID = alerting.EventID(events[i].At, events[i].Text)
	}
	for range 2 { // found again: kept once
		must(t, al.AddEvents(t.Context(), events...))
	}
}

func TestEventsAreSelected(t *testing.T) {
	al := open(t)
	fill(t, al)
	for name, c := range map[string]struct {
		q    alerting.EventQuery
		want []string
	}{
		"a group":               {alerting.EventQuery{GroupID: "g1"}, []string{"6", "3", "2", "1"}},
		"the site's own":        {alerting.EventQuery{}, []string{"5"}},
		"all groups":            {alerting.EventQuery{AllGroups: true}, []string{"6", "5", "4", "3", "2", "1"}},
		"a host":                {alerting.EventQuery{GroupID: "g1", HostID: "h1"}, []string{"6", "2", "1"}},
		"a host elsewhere":      {alerting.EventQuery{GroupID: "g2", HostID: "h1"}, nil},
		"a cluster":             {alerting.EventQuery{GroupID: "g1", ClusterID: "c1"}, []string{"3", "2"}},
		"a host and a cluster":  {alerting.EventQuery{GroupID: "g1", HostID: "h1", ClusterID: "c1"}, []string{"2"}},
		"types":                 {alerting.EventQuery{GroupID: "g1", Types: []model.EventType{model.EventHostUp, model.EventPrimaryElected}}, []string{"3", "2"}},
		"a type over all":       {alerting.EventQuery{AllGroups: true, Types: []model.EventType{model.EventHostDown}}, []string{"6", "4", "1"}},
		"a span":                {alerting.EventQuery{GroupID: "g1", From: minute(2), To: minute(6)}, []string{"3", "2"}},
		"a span of a host":      {alerting.EventQuery{GroupID: "g1", HostID: "h1", From: minute(2), To: minute(6)}, []string{"2"}},
		"a span of all":         {alerting.EventQuery{AllGroups: true, From: minute(4), To: minute(6)}, []string{"5", "4"}},
		"a host over all":       {alerting.EventQuery{AllGroups: true, HostID: "h2"}, []string{"4"}},
		"from alone":            {alerting.EventQuery{GroupID: "g1", From: minute(3)}, []string{"6", "3"}},
		"to alone is exclusive": {alerting.EventQuery{GroupID: "g1", To: minute(3)}, []string{"2", "1"}},
	} {
		for _, limit := range []int{0, 1, 2} {
			q := c.q
			q.Limit = limit
			var got []string
			for pages := 0; ; pages++ {
				events, next, err := al.Events(t.Context(), q)
				must(t, err)
				got = append(got, texts(events)...)
				if q.Before = next; next == "" || pages > 10 {
					break
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, pages of %d: got %v, want %v", name, limit, got, c.want)
			}
		}
	}
}

func TestRareEventsAreFoundPageByPage(t *testing.T) {
	al, ctx := open(t), t.Context()
	var events []model.Event
	for i := range 5_000 {
		e := model.Event{GroupID: "g1", Type: model.EventHostUp, At: minute(i)}
		if i == 10 {
			e.Type = model.EventHostRollback
		}
		events = append(events, e)
	}
	must(t, al.AddEvents(ctx, events...))
	q := alerting.EventQuery{GroupID: "g1", Types: []model.EventType{model.EventHostRollback}, Limit: 5}
	found, pages := 0, 0
	for {
		got, next, err := al.Events(ctx, q)
		must(t, err)
		found += len(got)
		pages++
		if q.Before = next; next == "" {
			break
		}
	}
	if found != 1 || pages < 2 || pages > 4 {
		t.Fatalf("found %d in %d pages", found, pages)
	}
}

func TestOneEvent(t *testing.T) {
	al, ctx := open(t), t.Context()
	want := model.Event{
		ID: alerting.EventID(t0, "x"), GroupID: "g1", Type: model.EventLogin, At: t0, HostID: "h", HostName: "a:1", ClusterID: "c", UserID: "u",
		Username: "ann", APIKey: "k", IP: "192.0.2.1", AgentID: "a", Text: "signed in",
	}
	must(t, al.AddEvents(ctx, want))
	got, err := al.Event(ctx, want.ID)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if _, err := al.Event(ctx, "none"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("none: %v", err)
	}
	foreign := model.DeriveID("login", "ann") // an id that is not made from the time
	for range 2 {
		must(t, al.AddEvents(ctx, model.Event{ID: foreign, GroupID: "g1", Type: model.EventLogin, At: minute(1)}))
	}
	events, _, err := al.Events(ctx, alerting.EventQuery{GroupID: "g1"})
	must(t, err)
	if len(events) != 2 || events[1].ID != want.ID {
		t.Fatalf("events %+v", events)
	}
	for _, bad := range []model.ID{"a/b", "-"} {
		if err := al.AddEvents(ctx, model.Event{GroupID: bad, At: t0}); err == nil {
			t.Errorf("group %q was taken", bad)
		}
	}
}

func TestExpireEvents(t *testing.T) {
	al, ctx := open(t), t.Context()
	fill(t, al)
	for _, want := range []int{2, 1, 0} {
		n, err := al.ExpireEvents(ctx, "g1", minute(6), 2)
		must(t, err)
		if n != want {
			t.Fatalf("expired %d, want %d", n, want)
		}
	}
	events, _, err := al.Events(ctx, alerting.EventQuery{AllGroups: true})
	must(t, err)
	if got := texts(events); !slices.Equal(got, []string{"6", "5", "4"}) {
		t.Fatalf("left %v", got)
	}
}

func TestAddingEventsEndsWhateverBreaks(t *testing.T) {
	events := []model.Event{}
	for i := range 3 {
		at := minute(i)
		events = append(events, model.Event{ID: alerting.EventID(at, fmt.Sprint(i)), GroupID: "g1", At: at})
	}
	storetest.EachStep(t, storetest.Prepared(t, func(e docstore.Engine) { storetest.OpenOn(t, e, alerting.Collections()...) }), func(t *testing.T, e docstore.Engine) error {
		return alerting.New(storetest.OpenOn(t, e, alerting.Collections()...)).AddEvents(t.Context(), events...)
	}, func(t *testing.T, e docstore.Engine, failed error) {
		al := alerting.New(storetest.OpenOn(t, e, alerting.Collections()...))
		if failed != nil {
			must(t, al.AddEvents(t.Context(), events...))
		}
		got, _, err := al.Events(t.Context(), alerting.EventQuery{GroupID: "g1"})
		must(t, err)
		if len(got) != 3 {
			t.Errorf("%d events, want 3", len(got))
		}
	})
}
