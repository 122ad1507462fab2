package outbox

import (
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

func TestADecisionTakenAgainHasTheSameIDs(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	a := &model.Alert{ID: "a1", GroupID: "g1", ConfigID: "c1"}
	ann := model.User{Username: "ann", Email: "ann@example.com", Grants: []model.Grant{{Role: model.GroupOwner, GroupID: "g1"}}}
	src := Source{People: notify.People{Users: []model.User{ann}, GroupID: "g1"}}
	due := []rule.Due{
		{Kind: model.DeliverOpen, N: 1, Notification: model.Notification{ID: "n1", Channel: notify.Group, EmailEnabled: true}},
		{Kind: model.DeliverOpen, N: 1, Notification: model.Notification{ID: "n2", Channel: notify.Email, Fields: map[string]string{"emailAddress": "ann@example.com"}}},
		{Kind: model.DeliverOpen, N: 1, Notification: model.Notification{ID: "n3", Channel: notify.Webhook, Secrets: map[string]model.Secret{"webhookUrl": "https://x.example.com"}}},
	}
	first, missing := Deliveries(a, due, src, now)
	again, _ := Deliveries(a, due, src, now.Add(time.Minute))
	if len(first) != 2 || len(again) != 2 || len(missing) != 0 {
		t.Fatalf("%d and %d deliveries, missing %v: ann is told by mail once, and the webhook", len(first), len(again), missing)
	}
	for i := range first {
		if first[i].ID != again[i].ID || !strings.HasPrefix(first[i].ID, "a1/open-1/n") || first[i].State != model.DeliveryPending {
			t.Errorf("%+v", first[i])
		}
	}
}

func TestLostSecretsAreFound(t *testing.T) {
	bare := model.Notification{ID: "n1", Channel: notify.Webhook}
	known := bare
	known.Secrets = map[string]model.Secret{"webhookUrl": "https://x.example.com"}
	due := []rule.Due{{Kind: model.DeliverCancel, N: 1, Notification: bare}}
	if !NeedsFormer(due) {
		t.Error("a webhook without its address lacks nothing")
	}
	ds, _ := Deliveries(&model.Alert{ID: "a1"}, due, Source{Former: []model.Notification{known}}, time.Now())
	if len(ds) != 1 || ds[0].Notification.Secrets["webhookUrl"].Reveal() != "https://x.example.com" {
		t.Errorf("%+v", ds)
	}
}
