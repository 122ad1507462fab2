package alerting_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

func configured(group, id string) model.AlertConfig {
	return model.AlertConfig{
		ID: model.ID(id), GroupID: model.ID(group), EventType: model.EventOutsideMetric, Enabled: true, Created: t0, Updated: t0,
		Metric: &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 5}},
		Notifications: []model.Notification{
			{ID: "n1", Channel: "SLACK", Fields: map[string]string{"channelName": "#db"}, Secrets: map[string]model.Secret{"apiToken": "xoxb-" + model.Secret(id)}},
			{ID: "n2", Channel: "GROUP", EmailEnabled: true},
		},
	}
}

// body is a document as stored.
func body(t testing.TB, e docstore.Engine, collection, id string) docstore.Doc {
	t.Helper()
	docs, err := e.Get(t.Context(), collection, id)
	must(t, err)
	if len(docs) != 1 {
		t.Fatalf("there is no %s/%s", collection, id)
	}
	return docs[0]
}

func TestConfigurationsKeepTheirSecrets(t *testing.T) {
	e := storetest.Engine(t)
	al, ctx := on(t, e), t.Context()
	want := map[string]model.AlertConfig{}
	for _, key := range []string{"g1/c1", "g1/c2", "g2/c3", "/c4"} {
		group, id, _ := strings.Cut(key, "/")
		want[key] = configured(group, id)
		must(t, al.CreateConfig(ctx, want[key]))
	}
	if err := al.CreateConfig(ctx, configured("g1", "c1")); !errors.Is(err, store.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	everything, _, err := al.AllConfigs(ctx)
	must(t, err)
	own, err := al.Configs(ctx, "g1")
	must(t, err)
	global, err := al.Configs(ctx, "")
	must(t, err)
	if len(everything) != 4 || len(own) != 2 || len(global) != 1 {
		t.Fatalf("%d in all, %d of the group, %d global", len(everything), len(own), len(global))
	}
	for _, c := range everything {
		w := want[string(c.GroupID)+"/"+string(c.ID)]
		if d := cmp.Diff(w, c); d != "" || c.Notifications[0].Secrets["apiToken"].Reveal() != "xoxb-"+string(c.ID) {
			t.Errorf("%s: %s", c.ID, d)
		}
	}
	doc := body(t, e, "alertconfigs", "g1/c1")
	if strings.Contains(string(doc.Body), "xoxb") {
		t.Error("a secret is stored in the open")
	}
	must(t, al.UpdateConfig(ctx, "g1", "c1", func(c *model.AlertConfig) error { c.Notifications[0].DelayMin = 0; return nil }))
	if again := body(t, e, "alertconfigs", "g1/c1"); again.Rev != doc.Rev {
		t.Error("a change of nothing was written")
	}
	must(t, al.UpdateConfig(ctx, "g1", "c1", func(c *model.AlertConfig) error {
		c.Notifications[0].Secrets["apiToken"], c.GroupID, c.ID = "new", "g2", "c9"
		return nil
	}))
	c, err := al.Config(ctx, "g1", "c1")
	must(t, err)
	if c.Notifications[0].Secrets["apiToken"].Reveal() != "new" || c.GroupID != "g1" || c.ID != "c1" {
		t.Errorf("changed to %v", c)
	}
	must(t, al.DeleteConfig(ctx, "g1", "c1"))
	must(t, al.DeleteConfig(ctx, "g1", "c1"))
	if _, err := al.Config(ctx, "g1", "c1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	for _, group := range []model.ID{"g1/x", "-"} {
		if al.CreateConfig(ctx, configured(string(group), "c1")) == nil {
			t.Errorf("%q is accepted as a group", group)
		}
	}
}

func TestMovedSecretsDoNotOpen(t *testing.T) {
	e := storetest.Engine(t)
	al, ctx := on(t, e), t.Context()
	must(t, al.CreateConfig(ctx, configured("g1", "c1")))
	must(t, al.PutIntegration(ctx, "g1", configured("g1", "c1").Notifications[0]))
	must(t, al.AddDeliveries(ctx, delivery("a1", 1, 1)))
	checks := alerting.Checks()
	checking := func() *store.Checking { return &store.Checking{Box: storetest.Box(t), Refer: func(string, string) {}} }
	for collection, c := range map[string]struct{ id, other string }{
		"alertconfigs": {"g1/c1", "g1/c2"}, "integrations": {"g1/SLACK", "g2/SLACK"}, "deliveries": {"a1/open-1/n1", "a1/open-2/n1"},
	} {
		doc := body(t, e, collection, c.id)
		if err := checks[collection](checking(), doc); err != nil {
			t.Errorf("%s is sound: %v", collection, err)
		}
		doc.ID = c.other
		if err := checks[collection](checking(), doc); err == nil || !strings.Contains(err.Error(), "do not open") {
			t.Errorf("%s moved to %s: %v", collection, c.other, err)
		}
		results, err := e.Write(ctx, []docstore.Op{{Kind: docstore.Insert, Collection: collection, ID: c.other, Body: doc.Body}}, true)
		must(t, errors.Join(err, results[0].Err))
	}
	if _, err := al.Config(ctx, "g1", "c2"); err == nil {
		t.Error("moved secrets of a configuration opened")
	}
	if n, err := al.Integration(ctx, "g2", "SLACK"); err == nil {
		t.Errorf("moved secrets of an integration opened: %v", n)
	}
	configs, _, err := al.AllConfigs(ctx)
	must(t, err)
	if len(configs) != 2 || configs[1].Notifications[0].Secrets != nil || configs[0].Notifications[0].Secrets == nil {
		t.Errorf("a spoilt configuration must not stop the others: %v", configs)
	}
}

func TestChecksFindWrongKeys(t *testing.T) {
	e := storetest.Engine(t)
	al, ctx := on(t, e), t.Context()
	start(t, al, began("g1", "c1", "h1", minute(0)))
	must(t, al.CreateWindow(ctx, model.MaintenanceWindow{ID: "w1", GroupID: "g1"}))
	must(t, al.CreateSilence(ctx, model.Silence{ID: "s1", GroupID: "g1", End: minute(1)}))
	must(t, al.SaveWatch(ctx, model.AlertWatch{LastPass: t0}))
	must(t, al.AddDeliveries(ctx, delivery("a1", 1, 1)))
	checks := alerting.Checks()
	for _, c := range alerting.Collections() {
		if checks[c.Name] == nil {
			t.Fatalf("%s has no check", c.Name)
		}
		page, err := e.Scan(ctx, docstore.Query{Collection: c.Name})
		must(t, err)
		for _, doc := range page.Docs {
			checking := &store.Checking{Refer: func(string, string) {}}
			if err := checks[c.Name](checking, doc); err != nil {
				t.Errorf("%s/%s is sound: %v", c.Name, doc.ID, err)
			}
			if doc.ID = "elsewhere"; c.Name != "alertwatch" && checks[c.Name](checking, doc) == nil {
				t.Errorf("%s may lie anywhere", c.Name)
			}
		}
	}
}

func TestWindowsAndSilences(t *testing.T) {
	al, ctx := open(t), t.Context()
	w := model.MaintenanceWindow{ID: "w1", GroupID: "g1", Start: t0, End: minute(60), Types: []string{"HOST"}, Repeat: &model.Recurrence{Weekdays: []int{0}}}
	must(t, al.CreateWindow(ctx, w))
	must(t, al.UpdateWindow(ctx, "g1", "w1", func(w *model.MaintenanceWindow) error { w.Description = "disks"; return nil }))
	got, err := al.Window(ctx, "g1", "w1")
	must(t, err)
	if w.Description = "disks"; cmp.Diff(w, got) != "" {
		t.Error(cmp.Diff(w, got))
	}
	if own, err := al.Windows(ctx, "g2"); err != nil || len(own) != 0 {
		t.Errorf("another group has %v %v", own, err)
	}
	if every, err := al.AllWindows(ctx); err != nil || len(every) != 1 {
		t.Errorf("all are %v %v", every, err)
	}
	must(t, al.DeleteWindow(ctx, "g1", "w1"))
	if _, err := al.Window(ctx, "g1", "w1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}

	for n, end := range []int{10, 30, 20} {
		must(t, al.CreateSilence(ctx, model.Silence{ID: model.ID(fmt.Sprint("s", n)), GroupID: "g1", End: minute(end)}))
	}
	if al.CreateSilence(ctx, model.Silence{ID: "s9", GroupID: "g1"}) == nil {
		t.Error("a silence without an end is accepted")
	}
	ids := func(now int) (out []model.ID) {
		silences, err := al.AllSilences(ctx, minute(now))
		must(t, err)
		for _, s := range silences {
			out = append(out, s.ID)
		}
		return out
	}
	if got := ids(10); !slices.Equal(got, []model.ID{"s2", "s1"}) {
		t.Errorf("in force are %v", got)
	}
	must(t, al.EndSilence(ctx, "g1", "s1", minute(15)))
	must(t, al.EndSilence(ctx, "g1", "s1", minute(18))) // it ended before
	if got := ids(15); !slices.Equal(got, []model.ID{"s2"}) {
		t.Errorf("after one was ended: %v", got)
	}
	if n, err := al.ExpireSilences(ctx, minute(18), 10); n != 2 || err != nil {
		t.Errorf("%d expired, %v", n, err)
	}
	if own, err := al.Silences(ctx, "g1"); err != nil || len(own) != 1 {
		t.Errorf("left are %v %v", own, err)
	}
}

func TestTheWatchIsKept(t *testing.T) {
	al := open(t)
	if w, err := al.Watch(t.Context()); err != nil || w != (model.AlertWatch{}) {
		t.Errorf("before the first pass: %v %v", w, err)
	}
	want := model.AlertWatch{LastPass: t0, Resumed: t0, EventsTo: t0, LastSkip: t0, Heartbeat: t0, Took: time.Second, Skipped: 3, ClockNote: "back"}
	must(t, al.SaveWatch(t.Context(), want))
	if w, err := al.Watch(t.Context()); err != nil || w != want {
		t.Errorf("%v %v", w, err)
	}
}

func TestIntegrations(t *testing.T) {
	al, ctx := open(t), t.Context()
	for _, n := range []model.Notification{{Channel: "SLACK", Secrets: map[string]model.Secret{"apiToken": "one"}}, {Channel: "DATADOG"}} {
		must(t, al.PutIntegration(ctx, "g1", n))
	}
	must(t, al.PutIntegration(ctx, "g1", model.Notification{Channel: "SLACK", Secrets: map[string]model.Secret{"apiToken": "two"}}))
	list, err := al.Integrations(ctx, "g1")
	must(t, err)
	if len(list) != 2 || list[1].Secrets["apiToken"].Reveal() != "two" {
		t.Errorf("they are %v", list)
	}
	must(t, al.DeleteIntegration(ctx, "g1", "SLACK"))
	if _, err := al.Integration(ctx, "g1", "SLACK"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func TestADeletedGroupIsForgotten(t *testing.T) {
	fill := func(e docstore.Engine) {
		al, ctx := on(t, e), context.Background()
		for _, group := range []string{"", "g1", "g10", "g2"} {
			id := model.ID(group)
			must(t, al.CreateConfig(ctx, configured(group, "c"+group)))
			must(t, al.PutIntegration(ctx, id, model.Notification{Channel: "SLACK"}))
			must(t, al.CreateWindow(ctx, model.MaintenanceWindow{ID: "w", GroupID: id}))
			must(t, al.CreateSilence(ctx, model.Silence{ID: "s", GroupID: id, End: t0}))
			must(t, al.AddEvents(ctx, model.Event{GroupID: id, Type: model.EventHostDown, At: t0}))
			for n := range 3 {
				start(t, al, began(id, "c"+group, fmt.Sprint("h", n), minute(n)))
				d := delivery("a"+group, n, n)
				d.GroupID = id
				must(t, al.AddDeliveries(ctx, d))
			}
		}
	}
	fresh := storetest.Prepared(t, fill)
	forget := func(t *testing.T, e docstore.Engine) error {
		al := on(t, e)
		for range 20 {
			more, err := al.ForgetGroup(t.Context(), "g1", 4)
			if err != nil || !more {
				return err
			}
		}
		return errors.New("it does not end")
	}
	storetest.EachStep(t, func(t *testing.T) docstore.Engine { return fresh(t) }, forget, func(t *testing.T, e docstore.Engine, _ error) {
		must(t, forget(t, e))
		al := on(t, e)
		for _, limit := range []int{1, 2, 10} {
			var groups []model.ID
			for last := model.ID(""); ; {
				page, err := al.Groups(t.Context(), last, limit)
				must(t, err)
				groups = append(groups, page...)
				if len(page) < limit {
					break
				}
				last = page[len(page)-1]
			}
			if !slices.Equal(groups, []model.ID{"g10", "g2"}) {
				t.Fatalf("by %d: of the groups %v something is left", limit, groups)
			}
		}
		for _, c := range alerting.Collections() {
			want := map[string]int{"alerts": 9, "alertslots": 9, "deliveries": 9, "events": 4, "alertwatch": 0}
			n, err := e.Count(t.Context(), docstore.Query{Collection: c.Name}, 100)
			must(t, err)
			if w, ok := want[c.Name]; !ok && n != 3 || ok && n != w {
				t.Errorf("%s has %d documents", c.Name, n)
			}
		}
		if _, err := al.ForgetGroup(t.Context(), "", 10); err == nil {
			t.Error("the site was forgotten")
		}
	})
}

func TestRemovedNotificationsAreRemembered(t *testing.T) {
	e := storetest.Break(storetest.Engine(t), storetest.Refuse, 0)
	now := t0
	e.SetClock(func() time.Time { return now })
	al, ctx := on(t, e), t.Context()
	must(t, al.CreateConfig(ctx, configured("g1", "c1")))
	former := func() []alerting.Former {
		t.Helper()
		_, all, err := al.AllConfigs(ctx)
		must(t, err)
		return all
	}
	wantOne := func(ids ...model.ID) alerting.Former {
		t.Helper()
		all := former()
		if len(all) != 1 || all[0].GroupID != "g1" || all[0].ConfigID != "c1" {
			t.Fatalf("%+v", all)
		}
		var got []model.ID
		for _, n := range all[0].Notifications {
			got = append(got, n.ID)
		}
		if !slices.Equal(got, ids) || all[0].Notifications[0].Secrets["apiToken"].Reveal() != "xoxb-c1" {
			t.Errorf("remembered %v, want %v", got, ids)
		}
		return all[0]
	}
	if all := former(); len(all) != 0 {
		t.Errorf("nothing was removed: %+v", all)
	}
	slack := configured("g1", "c1").Notifications[0]
	must(t, al.UpdateConfig(ctx, "g1", "c1", func(c *model.AlertConfig) error { c.Notifications = c.Notifications[1:]; return nil }))
	wantOne("n1")
	must(t, al.UpdateConfig(ctx, "g1", "c1", func(c *model.AlertConfig) error { c.Notifications = append(c.Notifications, slack); return nil }))
	if all := former(); len(all) != 0 {
		t.Errorf("it came back: %+v", all)
	}
	must(t, al.UpdateConfig(ctx, "g1", "c1", func(c *model.AlertConfig) error {
		c.Notifications[1].Channel, c.Notifications[1].Secrets = "WEBHOOK", map[string]model.Secret{"webhookUrl": "https://x.example.com"}
		return nil
	}))
	c, err := al.Config(ctx, "g1", "c1")
	must(t, err)
	if c.Notifications[1].ID == "n1" || c.Notifications[1].Secrets["webhookUrl"] == "" {
		t.Errorf("by another channel it is the same: %+v", c.Notifications[1])
	}
	wantOne("n1")
	must(t, al.DeleteConfig(ctx, "g1", "c1"))
	left := wantOne("n1", "n2", c.Notifications[1].ID)
	must(t, al.DeleteConfig(ctx, "g1", "c1"))
	if _, err := al.Config(ctx, "g1", "c1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if err := al.UpdateConfig(ctx, "g1", "c1", func(*model.AlertConfig) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("changed though deleted: %v", err)
	}
	if own, err := al.Configs(ctx, "g1"); err != nil || len(own) != 0 {
		t.Errorf("%v %v", own, err)
	}
	doc := body(t, e, "alertconfigs", "g1/c1")
	if strings.Contains(string(doc.Body), "xoxb") {
		t.Error("a secret is stored in the open")
	}
	checking := &store.Checking{Box: storetest.Box(t), Refer: func(string, string) {}}
	must(t, alerting.Checks()["alertconfigs"](checking, doc))

	must(t, al.DropFormer(ctx, left))
	wantOne("n1", "n2", c.Notifications[1].ID) // only just removed
	now = now.Add(time.Hour)
	must(t, al.CreateConfig(ctx, configured("g1", "c1")))
	if again, err := al.Config(ctx, "g1", "c1"); err != nil || len(again.Notifications) != 2 {
		t.Errorf("made again: %+v %v", again, err)
	}
	left.Notifications = former()[0].Notifications
	must(t, al.DropFormer(ctx, left))
	if all := former(); len(all) != 0 {
		t.Errorf("nobody needs %+v", all)
	}
	must(t, al.DeleteConfig(ctx, "g1", "c1"))
	must(t, al.DropFormer(ctx, left)) // as it was before
	left = wantOne("n1", "n2")
	now = now.Add(time.Hour)
	must(t, al.DropFormer(ctx, left))
	if docs, err := e.Get(ctx, "alertconfigs", "g1/c1"); err != nil || len(docs) != 0 {
		t.Errorf("%d documents are left: %v", len(docs), err)
	}
}
