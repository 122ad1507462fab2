package alerting_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

func on(t testing.TB, e docstore.Engine) *alerting.Alerting {
	t.Helper()
	return alerting.New(storetest.OpenOn(t, e, alerting.Collections()...))
}

func began(group model.ID, config, host string, at time.Time) model.Alert {
	return model.Alert{
		GroupID: group, ConfigID: model.ID(config), EventType: model.EventHostDown, Status: model.AlertTracking,
		Target: model.Target{Key: "host/" + host, HostID: model.HostID(host)}, Since: at, Created: at, Updated: at,
	}
}

// ended is the alert as it is closed at a time.
func ended(a model.Alert, at time.Time) model.Alert {
	a.Status, a.Resolved, a.Updated = model.AlertClosed, at, at
	return a
}

func start(t testing.TB, al *alerting.Alerting, a model.Alert) alerting.Live {
	t.Helper()
	live, err := al.StartAlert(t.Context(), a)
	must(t, err)
	return live
}

func all(t testing.TB, al *alerting.Alerting) []alerting.Live {
	t.Helper()
	live, err := al.AllLive(t.Context())
	must(t, err)
	return live
}

// slots counts the slots of an engine.
func slots(t testing.TB, e docstore.Engine) int {
	t.Helper()
	n, err := e.Count(t.Context(), docstore.Query{Collection: "alertslots"}, 1000)
	must(t, err)
	return n
}

func TestOneAlertLivesOfATarget(t *testing.T) {
	al := open(t)
	first := start(t, al, began("g1", "c1", "h1", minute(0)))
	again := start(t, al, began("g1", "c1", "h1", minute(1)))
	if first.ID != again.ID || first.Rev != again.Rev || !again.Created.Equal(minute(0)) {
		t.Fatalf("%v and %v", first, again)
	}
	other := start(t, al, began("g1", "c2", "h1", minute(1)))
	if other.ID == first.ID {
		t.Fatal("another configuration has an alert of its own")
	}
	opened := first.Alert
	opened.Status = model.AlertOpen
	must(t, al.SaveAlert(t.Context(), opened, first.Rev))
	if err := al.SaveAlert(t.Context(), opened, first.Rev); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("an old revision: %v", err)
	}
	live, err := al.LiveAlerts(t.Context(), "g1")
	must(t, err)
	if len(live) != 2 {
		t.Fatalf("live are %v", live)
	}
	for _, l := range live {
		must(t, al.SaveAlert(t.Context(), ended(l.Alert, minute(5)), l.Rev))
	}
	if live := all(t, al); len(live) != 0 {
		t.Fatalf("still live: %v", live)
	}
	next := start(t, al, began("g1", "c1", "h1", minute(6)))
	if next.ID == first.ID {
		t.Fatal("an alert that ended does not come back")
	}
	got, err := al.Alert(t.Context(), "g1", first.ID)
	must(t, err)
	if got.Status != model.AlertClosed || !got.Resolved.Equal(minute(5)) {
		t.Errorf("the first is %v", got)
	}
	if _, err := al.Alert(t.Context(), "g2", first.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another group sees it: %v", err)
	}
	if one, err := al.AnyAlert(t.Context(), first.ID); err != nil || one.GroupID != "g1" {
		t.Errorf("by its id alone it is %+v, %v", one, err)
	}
	if _, err := al.AnyAlert(t.Context(), "nothing"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("one that never was: %v", err)
	}
}

// The same is tried on a replica set in tests/docstore.
func TestOfManyClaimantsOneWins(t *testing.T) {
	race(t, storetest.Engine(t))
}

// race lets three processes at once go for the same slot and the same delivery, many times.
func race(t *testing.T, e docstore.Engine) {
	t.Helper()
	var servers []*alerting.Alerting
	for range 3 {
		servers = append(servers, on(t, e))
	}
	for round := range 30 {
		var wg sync.WaitGroup
		ids := make([]model.ID, len(servers))
		claims := make([]bool, len(servers))
		delivery := model.Delivery{ID: fmt.Sprintf("a%d/open-1/n1", round), GroupID: "g1", AlertID: "a", State: model.DeliveryPending, Created: t0, NextAt: t0}
		for n, al := range servers {
			wg.Go(func() {
				live, err := al.StartAlert(t.Context(), began("g1", "c1", "h1", minute(round)))
				if err != nil {
					t.Error(err)
				}
				ids[n] = live.ID
				if err := al.AddDeliveries(t.Context(), delivery); err != nil {
					t.Error(err)
				}
				d, won, err := al.ClaimDelivery(t.Context(), delivery.ID, fmt.Sprint("server", n), t0, minute(5))
				if err != nil || won && d.Attempts != 1 {
					t.Error(d, err)
				}
				claims[n] = won
			})
		}
		wg.Wait()
		if len(slices.Compact(slices.Clone(ids))) != 1 || len(slices.DeleteFunc(claims, func(won bool) bool { return !won })) != 1 {
			t.Fatalf("round %d: alerts %v, claims won %d", round, ids, len(claims))
		}
		live := all(t, servers[0])
		if len(live) != 1 || live[0].ID != ids[0] {
			t.Fatalf("live are %v", live)
		}
		must(t, servers[round%3].SaveAlert(t.Context(), ended(live[0].Alert, minute(round)), live[0].Rev))
	}
}

func TestStartingSurvivesEveryInterruption(t *testing.T) {
	fresh := storetest.Prepared(t, func(e docstore.Engine) { on(t, e) })
	storetest.EachStep(t, func(t *testing.T) docstore.Engine { return fresh(t) },
		func(t *testing.T, e docstore.Engine) error {
			_, err := on(t, e).StartAlert(t.Context(), began("g1", "c1", "h1", minute(0)))
			return err
		},
		func(t *testing.T, e docstore.Engine, _ error) {
			al := on(t, e)
			before := all(t, al)
			live := start(t, al, began("g1", "c1", "h1", minute(1)))
			if len(before) == 1 && before[0].ID != live.ID {
				t.Errorf("%s lived and %s was begun", before[0].ID, live.ID)
			}
			if now := all(t, al); len(now) != 1 || now[0].ID != live.ID || slots(t, e) != 1 {
				t.Errorf("live are %v in %d slots", now, slots(t, e))
			}
		})
}

func TestClosingSurvivesEveryInterruption(t *testing.T) {
	fresh := storetest.Prepared(t, func(e docstore.Engine) { start(t, on(t, e), began("g1", "c1", "h1", minute(0))) })
	for name, mend := range map[string]func(t *testing.T, al *alerting.Alerting){
		"by the next reading": func(*testing.T, *alerting.Alerting) {},
		"by the next start": func(t *testing.T, al *alerting.Alerting) {
			live := start(t, al, began("g1", "c1", "h1", minute(6)))
			must(t, al.SaveAlert(t.Context(), ended(live.Alert, minute(7)), live.Rev))
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.EachStep(t, func(t *testing.T) docstore.Engine { return fresh(t) },
				func(t *testing.T, e docstore.Engine) error {
					al := on(t, e)
					live := all(t, al)[0]
					return al.SaveAlert(t.Context(), ended(live.Alert, minute(5)), live.Rev)
				},
				func(t *testing.T, e docstore.Engine, failed error) {
					al := on(t, e)
					mend(t, al)
					for _, live := range all(t, al) {
						if failed == nil {
							t.Errorf("it was said to be closed, and lives: %v", live)
						}
						must(t, al.SaveAlert(t.Context(), ended(live.Alert, minute(5)), live.Rev))
					}
					if live := all(t, al); len(live) != 0 || slots(t, e) != 0 {
						t.Errorf("left are %v in %d slots", live, slots(t, e))
					}
				})
		})
	}
}

// TestNoNotificationIsLostOrDoubled does what the evaluation does: deliveries first, then the alert that says they were
// decided; after any interruption it decides the same again.
func TestNoNotificationIsLostOrDoubled(t *testing.T) {
	fresh := storetest.Prepared(t, func(e docstore.Engine) { start(t, on(t, e), began("g1", "c1", "h1", minute(0))) })
	pass := func(t *testing.T, al *alerting.Alerting) error {
		live, err := al.AllLive(t.Context())
		if err != nil {
			return err
		}
		for _, l := range live {
			if len(l.Notified) > 0 {
				continue
			}
			for _, notifier := range []model.ID{"n1", "n2"} {
				l.Notified = append(l.Notified, model.Notified{NotifierID: notifier, Count: 1})
				err := al.AddDeliveries(t.Context(), model.Delivery{
					ID: string(l.ID) + "/open-1/" + string(notifier), AlertID: l.ID, GroupID: "g1", State: model.DeliveryPending,
					Created: minute(1), NextAt: minute(1), Notification: model.Notification{ID: notifier, Secrets: map[string]model.Secret{"url": "https://x/secret"}},
				})
				if err != nil {
					return err
				}
			}
			l.Status = model.AlertOpen
			if err := al.SaveAlert(t.Context(), l.Alert, l.Rev); err != nil {
				return err
			}
		}
		return nil
	}
	storetest.EachStep(t, func(t *testing.T) docstore.Engine { return fresh(t) },
		func(t *testing.T, e docstore.Engine) error { return pass(t, on(t, e)) },
		func(t *testing.T, e docstore.Engine, _ error) {
			al := on(t, e)
			must(t, pass(t, al))
			live := all(t, al)
			due, err := al.DueDeliveries(t.Context(), minute(2), 100)
			must(t, err)
			if len(live) != 1 || len(live[0].Notified) != 2 || live[0].Status != model.AlertOpen || len(due) != 2 {
				t.Errorf("alerts %v, deliveries %v", live, due)
			}
			for _, d := range due {
				if d.Notification.Secrets["url"].Reveal() != "https://x/secret" {
					t.Errorf("%s lost its secret", d.ID)
				}
			}
		})
}

func TestSlotsAreMended(t *testing.T) {
	plain := storetest.Engine(t)
	e := storetest.Break(plain, storetest.Refuse, 0)
	clock := minute(0)
	e.SetClock(func() time.Time { return clock })
	al := on(t, e)
	live := start(t, al, began("g1", "c1", "h1", minute(0)))
	alertID := "g1/" + fmt.Sprintf("%011x", minute(0).UnixMilli()) + "-" + string(live.ID)
	remove := func(collection, id string) {
		t.Helper()
		results, err := plain.Write(t.Context(), []docstore.Op{{Kind: docstore.Delete, Collection: collection, ID: id}}, true)
		must(t, errors.Join(err, results[0].Err))
	}
	remove("alertslots", "c1/host/h1")
	if got := all(t, al); len(got) != 1 || got[0].ID != live.ID || slots(t, plain) != 1 {
		t.Fatalf("a live alert gets its slot back: %v", got)
	}
	remove("alerts", alertID)
	if got := all(t, al); len(got) != 0 || slots(t, plain) != 1 {
		t.Fatalf("a fresh slot waits for its alert: %v, %d slots", got, slots(t, plain))
	}
	if again := start(t, al, began("g1", "c1", "h1", minute(1))); again.ID != live.ID {
		t.Fatalf("the alert that lacked has the id %s, the slot says %s", again.ID, live.ID)
	}
	remove("alerts", alertID)
	clock = minute(11)
	if all(t, al); slots(t, plain) != 0 {
		t.Fatal("an old slot without an alert goes")
	}
	// Two live alerts of one slot: the one that holds it goes on.
	one := start(t, al, began("g1", "c1", "h1", minute(12)))
	remove("alertslots", "c1/host/h1")
	two := start(t, al, began("g1", "c1", "h1", minute(13)))
	if got := all(t, al); len(got) != 1 || got[0].ID != two.ID {
		t.Fatalf("live are %v", got)
	}
	gone, err := al.Alert(t.Context(), "g1", one.ID)
	must(t, err)
	if gone.Status != model.AlertCancelled || len(gone.History) == 0 {
		t.Errorf("the other is %v", gone)
	}
}

func TestInformedOnce(t *testing.T) {
	al := open(t)
	a := ended(began("g1", "c1", "h1", minute(3)), minute(3))
	a.ID, a.Inform = model.DeriveID("inform", "c1", "e1"), true
	for n, want := range []bool{true, false} {
		added, err := al.AddInform(t.Context(), a)
		must(t, err)
		if added != want {
			t.Errorf("attempt %d: added %v", n, added)
		}
	}
	if ended, err := al.Ended(t.Context(), "g1", minute(0)); err != nil || len(ended) != 0 {
		t.Errorf("it never lived, and ended: %v %v", ended, err)
	}
}

func TestAlertsAreSelected(t *testing.T) {
	al := open(t)
	for n := range 12 { // every third is closed, every fourth is of the site
		a := began("g1", fmt.Sprint("c", n%2), fmt.Sprint("h", n), minute(n))
		if n%4 == 3 {
			a.GroupID, a.Global = "", true
		}
		a.ID, a.Text, a.Target.ClusterID = model.ID(fmt.Sprintf("%024x", 100-n)), fmt.Sprint(n), model.ID(fmt.Sprint("k", n%3))
		live := start(t, al, a)
		if live.Status = model.AlertOpen; n%3 == 0 {
			live.Alert = ended(live.Alert, minute(20+n))
		}
		if n == 1 || n == 2 {
			live.AckUntil = minute(100 * n)
		}
		must(t, al.SaveAlert(t.Context(), live.Alert, live.Rev))
	}
	open := []model.AlertStatus{model.AlertOpen, model.AlertTracking}
	for name, c := range map[string]struct {
		q    alerting.AlertQuery
		want string
	}{
		"a group":               {alerting.AlertQuery{GroupID: "g1"}, "10 9 8 6 5 4 2 1 0"},
		"the site's own":        {alerting.AlertQuery{}, "11 7 3"},
		"all":                   {alerting.AlertQuery{AllGroups: true}, "11 10 9 8 7 6 5 4 3 2 1 0"},
		"of global rules":       {alerting.AlertQuery{AllGroups: true, GlobalOnly: true}, "11 7 3"},
		"open ones":             {alerting.AlertQuery{GroupID: "g1", Statuses: open}, "10 8 5 4 2 1"},
		"open ones of all":      {alerting.AlertQuery{AllGroups: true, Statuses: open}, "11 10 8 7 5 4 2 1"},
		"open ones of a rule":   {alerting.AlertQuery{GroupID: "g1", Statuses: open, ConfigID: "c1"}, "5 1"},
		"closed ones":           {alerting.AlertQuery{GroupID: "g1", Statuses: []model.AlertStatus{model.AlertClosed}}, "9 6 0"},
		"a host":                {alerting.AlertQuery{GroupID: "g1", HostID: "h4"}, "4"},
		"a host elsewhere":      {alerting.AlertQuery{GroupID: "g2", HostID: "h4"}, ""},
		"a cluster":             {alerting.AlertQuery{GroupID: "g1", ClusterID: "k1"}, "10 4 1"},
		"a span":                {alerting.AlertQuery{GroupID: "g1", From: minute(2), To: minute(6)}, "5 4 2"},
		"a span of open ones":   {alerting.AlertQuery{GroupID: "g1", From: minute(2), To: minute(9), Statuses: open}, "8 5 4 2"},
		"a span of all":         {alerting.AlertQuery{AllGroups: true, From: minute(10)}, "11 10"},
		"a type nobody has":     {alerting.AlertQuery{AllGroups: true, EventTypes: []model.EventType{model.EventHostUp}}, ""},
		"a type that all have":  {alerting.AlertQuery{GroupID: "g1", EventTypes: []model.EventType{model.EventHostDown}, HostID: "h1"}, "1"},
		"a group without alert": {alerting.AlertQuery{GroupID: "g"}, ""},
	} {
		for _, limit := range []int{0, 1, 2, 5} {
			q, got := c.q, ""
			for q.Limit = limit; ; {
				page, next, err := al.Alerts(t.Context(), q)
				must(t, err)
				if limit > 0 && len(page) > limit {
					t.Fatalf("%s: a page of %d", name, len(page))
				}
				for _, a := range page {
					got += " " + a.Text
				}
				if q.Before = next; next == "" {
					break
				}
			}
			if len(got) > 0 {
				got = got[1:]
			}
			if got != c.want {
				t.Errorf("%s by %d: %q, want %q", name, limit, got, c.want)
			}
		}
	}
	for _, c := range []struct {
		now                time.Time
		open, acknowledged int
	}{{minute(50), 6, 2}, {minute(100), 6, 1}, {minute(200), 6, 0}} {
		if open, ack, err := al.CountOpen(t.Context(), "g1", c.now); err != nil || open != c.open || ack != c.acknowledged {
			t.Errorf("at %s: %d open, %d acknowledged, %v", c.now, open, ack, err)
		}
	}
	ended, err := al.Ended(t.Context(), "g1", minute(26))
	must(t, err)
	if len(ended) != 2 || ended[0].Text != "6" || ended[1].Text != "9" {
		t.Errorf("ended since are %v", ended)
	}
	for _, want := range []int{2, 0} { // 0 and 6; 9 ended later, live ones stay
		if n, err := al.ExpireAlerts(t.Context(), "g1", minute(27), 10); err != nil || n != want {
			t.Errorf("%d expired, %v", n, err)
		}
	}
	if left, _, err := al.Alerts(t.Context(), alerting.AlertQuery{GroupID: "g1"}); err != nil || len(left) != 7 {
		t.Errorf("left are %d, %v", len(left), err)
	}
}

func TestAcknowledging(t *testing.T) {
	al := open(t)
	live := start(t, al, began("g1", "c1", "h1", minute(0)))
	change := func(a *model.Alert) error {
		a.AckUntil, a.AckBy, a.ConfigID = minute(60), "ann", "another"
		return nil
	}
	if err := al.UpdateAlert(t.Context(), "g2", live.ID, change); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("through another group: %v", err)
	}
	must(t, al.UpdateAlert(t.Context(), "g1", live.ID, change))
	got, err := al.Alert(t.Context(), "g1", live.ID)
	must(t, err)
	if got.AckBy != "ann" || !got.Acknowledged(minute(1)) || got.ConfigID != "c1" {
		t.Errorf("it is %v", got)
	}
	if err := al.SaveAlert(t.Context(), live.Alert, live.Rev); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the evaluation wrote over it: %v", err)
	}
}
