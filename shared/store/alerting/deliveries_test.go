package alerting_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

func delivery(alert string, n, at int) model.Delivery {
	return model.Delivery{
		ID: fmt.Sprintf("%s/open-%d/n1", alert, n), AlertID: model.ID(alert), GroupID: "g1", Kind: model.DeliverOpen, Channel: "WEBHOOK",
		State: model.DeliveryPending, Created: minute(at), NextAt: minute(at),
		Notification: model.Notification{ID: "n1", Channel: "WEBHOOK", Secrets: map[string]model.Secret{"webhookSecret": "hush"}},
	}
}

func TestTheWayOfADelivery(t *testing.T) {
	e := storetest.Engine(t)
	al, ctx := on(t, e), t.Context()
	must(t, al.AddDeliveries(ctx, delivery("a1", 1, 5), delivery("a1", 2, 3)))
	again := delivery("a1", 1, 5)
	again.Channel = "EMAIL"
	must(t, al.AddDeliveries(ctx, again)) // the same decision: nothing changes
	due, err := al.DueDeliveries(ctx, minute(5), 10)
	must(t, err)
	if len(due) != 2 || due[0].ID != "a1/open-2/n1" || due[1].Channel != "WEBHOOK" || due[1].Notification.Secrets["webhookSecret"].Reveal() != "hush" {
		t.Fatalf("due are %v", due)
	}
	if due, err := al.DueDeliveries(ctx, minute(4), 10); err != nil || len(due) != 1 {
		t.Errorf("a minute before: %v %v", due, err)
	}
	id := due[1].ID
	if _, won, err := al.ClaimDelivery(ctx, id, "s1", minute(4), minute(6)); won || err != nil {
		t.Errorf("it is not due yet: %v %v", won, err)
	}
	first, won, err := al.ClaimDelivery(ctx, id, "s1", minute(5), minute(7))
	if !won || err != nil || first.Attempts != 1 || first.Notification.Secrets["webhookSecret"].Reveal() != "hush" {
		t.Fatalf("claimed %v %v %v", first, won, err)
	}
	if _, won, _ := al.ClaimDelivery(ctx, id, "s1", minute(6), minute(8)); won {
		t.Error("it was claimed twice at once")
	}
	// The claim runs out; whoever had it comes too late, even one of the same name.
	second, won, err := al.ClaimDelivery(ctx, id, "s1", minute(7), minute(9))
	if !won || err != nil || second.Attempts != 2 {
		t.Fatalf("claimed again %v %v %v", second, won, err)
	}
	first.State = model.DeliveryDelivered
	if err := al.FinishDelivery(ctx, first); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a late claimant: %v", err)
	}
	second.State, second.NextAt, second.LastError = model.DeliveryPending, minute(12), "503"
	must(t, al.FinishDelivery(ctx, second))
	stats, err := al.DeliveryStats(ctx, minute(8))
	must(t, err)
	if stats != (alerting.DeliveryStats{Pending: 2, Failing: 1, OldestPending: minute(3)}) {
		t.Errorf("stats are %+v", stats)
	}
	third, won, err := al.ClaimDelivery(ctx, id, "s2", minute(12), minute(14))
	if !won || err != nil || third.LastError != "503" || third.Attempts != 3 {
		t.Fatalf("claimed in the end %v %v %v", third, won, err)
	}
	third.State, third.LastError, third.Result = model.DeliveryFailed, "404", "gone"
	for range 2 {
		must(t, al.FinishDelivery(ctx, third))
	}
	third.State = model.DeliveryDelivered
	if err := al.FinishDelivery(ctx, third); !errors.Is(err, store.ErrConflict) {
		t.Errorf("what failed was delivered: %v", err)
	}
	if _, won, _ := al.ClaimDelivery(ctx, id, "s2", minute(100), minute(101)); won {
		t.Error("a finished one was claimed")
	}
	for at, want := range map[int]int{13: 1, 71: 1, 73: 0} {
		if stats, err := al.DeliveryStats(ctx, minute(at)); err != nil || stats.FailedLastHour != want {
			t.Errorf("at %d: %+v %v", at, stats, err)
		}
	}
	for doc, err := range storetest.OpenOn(t, e).Docs(ctx, docstore.Query{Collection: "deliveries"}) {
		must(t, err)
		if strings.Contains(string(doc.Body), "hush") {
			t.Errorf("%s holds its secret in the open", doc.ID)
		}
		if sealed := strings.Contains(string(doc.Body), "sealed"); sealed != (doc.ID != id) {
			t.Errorf("%s holds sealed secrets: %v", doc.ID, sealed)
		}
	}
}

func TestFinishingSurvivesEveryInterruption(t *testing.T) {
	fresh := storetest.Prepared(t, func(e docstore.Engine) { must(t, on(t, e).AddDeliveries(t.Context(), delivery("a1", 1, 1))) })
	send := func(t *testing.T, e docstore.Engine, at int) (sent bool, err error) {
		al := on(t, e)
		d, won, err := al.ClaimDelivery(t.Context(), "a1/open-1/n1", "s", minute(at), minute(at+2))
		if err != nil || !won {
			return false, err
		}
		d.State, d.Delivered = model.DeliveryDelivered, minute(at)
		return true, al.FinishDelivery(t.Context(), d)
	}
	storetest.EachStep(t, func(t *testing.T) docstore.Engine { return fresh(t) },
		func(t *testing.T, e docstore.Engine) error {
			sent, err := send(t, e, 1)
			if err == nil && !sent {
				t.Error("an unknown outcome cost the claim")
			}
			return err
		},
		func(t *testing.T, e docstore.Engine, failed error) {
			sent, err := send(t, e, 4)
			must(t, err)
			if failed == nil && sent {
				t.Error("it was sent and finished, and sent again")
			}
			got, _, err := on(t, e).Deliveries(t.Context(), alerting.DeliveryQuery{AlertID: "a1", GroupID: "g1"})
			must(t, err)
			if len(got) != 1 || got[0].State != model.DeliveryDelivered {
				t.Errorf("it is %v", got)
			}
		})
}

func TestDeliveriesAreListed(t *testing.T) {
	al, ctx := open(t), t.Context()
	for n := range 9 {
		d := delivery(fmt.Sprint("a", n%2), n, n)
		if n%3 == 2 {
			d.GroupID = ""
		}
		must(t, al.AddDeliveries(ctx, d))
		if n%2 == 0 {
			d, won, err := al.ClaimDelivery(ctx, d.ID, "s", minute(n), minute(n+1))
			if err != nil || !won {
				t.Fatal(won, err)
			}
			d.State, d.Delivered = model.DeliveryDelivered, minute(n)
			must(t, al.FinishDelivery(ctx, d))
		}
	}
	for name, c := range map[string]struct {
		q    alerting.DeliveryQuery
		want string
	}{
		"a group":                 {alerting.DeliveryQuery{GroupID: "g1"}, "764310"},
		"the site":                {alerting.DeliveryQuery{}, "852"},
		"all":                     {alerting.DeliveryQuery{AllGroups: true}, "876543210"},
		"an alert":                {alerting.DeliveryQuery{GroupID: "g1", AlertID: "a0"}, "640"},
		"an alert elsewhere":      {alerting.DeliveryQuery{GroupID: "g2", AlertID: "a0"}, ""},
		"an alert wherever it is": {alerting.DeliveryQuery{AllGroups: true, AlertID: "a0"}, "86420"},
		"pending ones":            {alerting.DeliveryQuery{AllGroups: true, State: model.DeliveryPending}, "7531"},
		"a span":                  {alerting.DeliveryQuery{GroupID: "g1", From: minute(1), To: minute(6)}, "431"},
		"a span of an alert":      {alerting.DeliveryQuery{GroupID: "g1", AlertID: "a0", From: minute(1), To: minute(6)}, "4"},
	} {
		for _, limit := range []int{0, 1, 2} {
			q, got := c.q, ""
			for q.Limit = limit; ; {
				page, next, err := al.Deliveries(ctx, q)
				must(t, err)
				for _, d := range page {
					got += strings.Split(strings.Split(d.ID, "-")[1], "/")[0]
					if d.Notification.Secrets != nil {
						t.Errorf("%s: a list gives secrets away", name)
					}
				}
				if q.Before = next; next == "" {
					break
				}
			}
			if got != c.want {
				t.Errorf("%s by %d: %s, want %s", name, limit, got, c.want)
			}
		}
	}
	for _, want := range []int{2, 1, 0} { // of 0, 2 and 4; pending ones stay
		if n, err := al.ExpireDeliveries(ctx, minute(5), 2); err != nil || n != want {
			t.Errorf("%d expired, want %d: %v", n, want, err)
		}
	}
	if left, _, err := al.Deliveries(ctx, alerting.DeliveryQuery{AllGroups: true}); err != nil || len(left) != 6 {
		t.Errorf("left are %d, %v", len(left), err)
	}
}

func TestBadDeliveriesAreRefused(t *testing.T) {
	al := open(t)
	for name, spoil := range map[string]func(*model.Delivery){
		"no id":        func(d *model.Delivery) { d.ID = "" },
		"sent already": func(d *model.Delivery) { d.State = model.DeliveryDelivered },
		"a group with a slash": func(d *model.Delivery) {
			d.GroupID = "g1/x"
		},
	} {
		d := delivery("a1", 1, 1)
		if spoil(&d); al.AddDeliveries(t.Context(), d) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := al.FinishDelivery(t.Context(), delivery("a1", 1, 1)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("nobody claimed it: %v", err)
	}
	if _, won, err := al.ClaimDelivery(t.Context(), "none", "s", t0, t0.Add(time.Minute)); won || err != nil {
		t.Errorf("there is none: %v %v", won, err)
	}
}
