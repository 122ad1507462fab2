package docstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// TestAlertsOnManyServers lets three servers begin and end the same alerts and claim the same deliveries on a replica set,
// while its primary changes.
func TestAlertsOnManyServers(t *testing.T) {
	sim := startSim(t)
	s := openServers(t, sim, 3)
	areas := make([]*alerting.Alerting, len(s.stores))
	for i, st := range s.stores {
		areas[i] = alerting.New(st)
	}
	var mu sync.Mutex
	claims := map[string]int{}
	s.through(sim, 10, func(ctx context.Context, server, worker int) error {
		al := areas[server]
		a := model.Alert{
			GroupID: "g1", ConfigID: "c1", EventType: model.EventHostDown, Status: model.AlertTracking, Created: day0, Updated: day0,
			Target: model.Target{Key: fmt.Sprint("host/h", worker), HostID: model.HostID(fmt.Sprint("h", worker))},
		}
		live, err := al.StartAlert(ctx, a)
		if err != nil {
			return err
		}
		id := string(live.ID) + "/open-1/n1"
		err = al.AddDeliveries(ctx, model.Delivery{
			ID: id, AlertID: live.ID, GroupID: "g1", State: model.DeliveryPending, Created: day0, NextAt: day0,
			Notification: model.Notification{ID: "n1", Secrets: map[string]model.Secret{"url": "hush"}},
		})
		if err != nil {
			return err
		}
		d, won, err := al.ClaimDelivery(ctx, id, fmt.Sprint("server", server), day0.Add(time.Minute), day0.Add(time.Hour))
		if err != nil {
			return err
		}
		if won {
			mu.Lock()
			claims[id]++
			mu.Unlock()
			d.State, d.Delivered = model.DeliveryDelivered, day0.Add(time.Minute)
			if err := al.FinishDelivery(ctx, d); err != nil {
				return err
			}
		}
		next := live.Alert
		next.Status, next.Resolved = model.AlertClosed, day0.Add(time.Minute)
		if err := al.SaveAlert(ctx, next, live.Rev); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
		return nil
	})
	for id, n := range claims {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	if len(claims) < 20 {
		t.Errorf("only %d deliveries were claimed", len(claims))
	}
	live, err := areas[0].AllLive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, l := range live {
		if seen[l.Target.Key] {
			t.Errorf("two alerts of %s live", l.Target.Key)
		}
		seen[l.Target.Key] = true
	}
}
