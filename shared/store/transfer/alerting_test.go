package transfer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

const hush = "hush-hush-hush"

func hook(id string) model.Notification {
	return model.Notification{
		ID: model.ID(id), Channel: "WEBHOOK", IntervalMin: 5,
		Secrets: map[string]model.Secret{"webhookUrl": model.Secret("https://hooks.example.com/" + id), "webhookSecret": hush},
	}
}

// alertingSite is a site with something in every collection of the alerting area: settings of a group and of the site, one
// that lost a notification, one that was deleted, alerts in each state, what waits and what was delivered.
func alertingSite(t *testing.T) docstore.Engine {
	t.Helper()
	e := site(t)
	al, ctx := alerting.New(openStore(t, e)), t.Context()
	for _, c := range []model.AlertConfig{
		{ID: "c1", GroupID: group}, {ID: "c2", GroupID: group}, {ID: "c3", GroupID: group}, {ID: "c4", ForAllGroups: true},
	} {
		c.EventType, c.Enabled, c.Created, c.Updated = model.EventHostDown, true, t0, t0
		c.Notifications = []model.Notification{hook("n1" + string(c.ID)), hook("n2" + string(c.ID))}
		must(t, al.CreateConfig(ctx, c))
	}
	must(t, al.UpdateConfig(ctx, group, "c2", func(c *model.AlertConfig) error { c.Notifications = c.Notifications[1:]; return nil }))
	must(t, al.DeleteConfig(ctx, group, "c3"))
	alert := func(id, config string, status model.AlertStatus) alerting.Live {
		live, err := al.StartAlert(ctx, model.Alert{
			ID: model.ID(id), GroupID: group, ConfigID: model.ID(config), EventType: model.EventHostDown, Status: model.AlertTracking,
			Target: model.Target{Key: "host/" + id, HostID: hostID}, Since: t0, Created: t0, Updated: t0,
		})
		must(t, err)
		if live.Status == status {
			return live
		}
		next := live.Alert
		if next.Status = status; !status.Live() {
			next.Resolved = t0.Add(time.Minute)
		}
		must(t, al.SaveAlert(ctx, next, live.Rev))
		return live
	}
	alert("a1", "c1", model.AlertTracking)
	open := alert("a2", "c3", model.AlertOpen)
	alert("a3", "c1", model.AlertClosed)
	alert("a4", "c4", model.AlertCancelled)
	_, err := al.AddInform(ctx, model.Alert{
		ID: "a5", GroupID: group, ConfigID: "c1", EventType: model.EventNewHost, Status: model.AlertClosed, Inform: true,
		Target: model.Target{Key: "event/e1"}, Created: t0, Updated: t0, Resolved: t0,
	})
	must(t, err)
	for i, id := range []string{"/open-1/n1c3", "/open-1/n2c3"} {
		must(t, al.AddDeliveries(ctx, model.Delivery{
			ID: string(open.ID) + id, AlertID: open.ID, GroupID: group, ConfigID: "c3", Kind: model.DeliverOpen, Notification: hook(id[len(id)-4:]),
			Channel: "WEBHOOK", State: model.DeliveryPending, Created: t0, NextAt: t0,
		}))
		if i == 1 {
			d, won, err := al.ClaimDelivery(ctx, string(open.ID)+id, "p", t0, t0.Add(time.Minute))
			if must(t, err); !won {
				t.Fatal("not claimed")
			}
			d.State, d.Delivered = model.DeliveryDelivered, t0
			must(t, al.FinishDelivery(ctx, d))
		}
	}
	must(t, al.CreateWindow(ctx, model.MaintenanceWindow{ID: "w1", GroupID: group, Start: t0, End: t0.Add(time.Hour), Types: []string{"HOST"}, Created: t0, Updated: t0}))
	must(t, al.CreateSilence(ctx, model.Silence{ID: "s1", GroupID: group, ConfigID: "c1", Start: t0, End: t0.Add(time.Hour), Created: t0}))
	must(t, al.PutIntegration(ctx, group, hook("i1")))
	must(t, al.SaveWatch(ctx, model.AlertWatch{LastPass: t0, Configs: 3}))
	return e
}

func TestAlertingDataAreCopiedSecretsIncluded(t *testing.T) {
	from, to := alertingSite(t), docstore.Engine(storetest.Engine(t))
	if _, err := copySite(t, from, to, false); err != nil {
		t.Fatal(err)
	}
	before, after := content(t, from), content(t, to)
	if d := cmp.Diff(before, after); d != "" {
		t.Fatal(d)
	}
	for _, collection := range []string{
		"alertconfigs", "alerts", "alertslots", "deliveries", "maintenance", "silences", "integrations", "alertwatch",
	} {
		found := false
		for key, body := range after {
			found = found || strings.HasPrefix(key, collection+" ")
			if strings.Contains(body, hush) || strings.Contains(body, "hooks.example.com") {
				t.Errorf("%s holds a secret in the open", key)
			}
		}
		if !found {
			t.Errorf("there is nothing of %s", collection)
		}
	}
	for name, e := range map[string]docstore.Engine{"the site": from, "its copy": to} {
		if report := check(t, e, storetest.Box(t)); len(report.Problems) != 0 {
			t.Errorf("%s: %+v", name, report.Problems)
		}
	}

	// The copy goes on where the site was: it tells whoever was told, and delivers what waits.
	al, ctx := alerting.New(openStore(t, to)), t.Context()
	wantSecrets := func(what string, ns ...model.Notification) {
		t.Helper()
		for _, n := range ns {
			if n.Secrets["webhookSecret"].Reveal() != hush || !strings.HasSuffix(n.Secrets["webhookUrl"].Reveal(), "/"+string(n.ID)) {
				t.Errorf("%s: the secrets of %s are %d", what, n.ID, len(n.Secrets))
			}
		}
	}
	configs, former, err := al.AllConfigs(ctx)
	must(t, err)
	if len(configs) != 3 || len(former) != 2 {
		t.Fatalf("%d configurations, %d with a past", len(configs), len(former))
	}
	for _, c := range configs {
		wantSecrets(string(c.ID), c.Notifications...)
	}
	for _, f := range former {
		if wantSecrets(string(f.ConfigID), f.Notifications...); len(f.Notifications) != map[model.ID]int{"c2": 1, "c3": 2}[f.ConfigID] {
			t.Errorf("%s remembers %d", f.ConfigID, len(f.Notifications))
		}
	}
	d, won, err := al.ClaimDelivery(ctx, "a2/open-1/n1c3", "p", t0, t0.Add(time.Minute))
	if must(t, err); !won {
		t.Fatal("what waited cannot be claimed")
	}
	wantSecrets("a delivery", d.Notification)
	in, err := al.Integrations(ctx, group)
	must(t, err)
	wantSecrets("an integration", in...)
	live, err := al.AllLive(ctx)
	must(t, err)
	if len(live) != 2 || len(in) != 1 {
		t.Errorf("%d live alerts, %d integrations", len(live), len(in))
	}
}

func TestDamageOfAlertingDataIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		collection, id string
		change         func(d bson.M)
		move           string // to another id
		want           string
	}{
		"secrets of another configuration":     {"alertconfigs", string(group) + "/c1", func(d bson.M) { d["id"] = "c9" }, string(group) + "/c9", "its secrets do not open"},
		"a deleted one that has notifications": {"alertconfigs", string(group) + "/c1", func(d bson.M) { d["gone"] = true }, "", "does not fit together"},
		"a past without its time":              {"alertconfigs", string(group) + "/c2", func(d bson.M) { delete(d, "formerAt") }, "", "does not fit together"},
		"a slot that does not say whose it is": {"alertslots", "c1/host/a1", func(d bson.M) { d["alertId"] = "zz" }, "", "which alert holds it"},
		"an alert that its indexes miss":       {"alerts", "", func(d bson.M) { d["liveKey"] = "" }, "", "index keys differ"},
		"an integration of another group":      {"integrations", string(group) + "/WEBHOOK", func(bson.M) {}, "fedcba9876543210fedcba98/WEBHOOK", "its secrets do not open"},
	} {
		t.Run(name, func(t *testing.T) {
			e := alertingSite(t)
			page, err := e.Scan(t.Context(), docstore.Query{Collection: c.collection, Limit: 100})
			must(t, err)
			done := false
			for _, doc := range page.Docs {
				var d bson.M
				must(t, bson.Unmarshal(doc.Body, &d))
				if done || c.id != "" && doc.ID != c.id || c.collection == "alerts" && d["liveKey"] == "" {
					continue
				}
				done = true
				c.change(d)
				id := doc.ID
				if c.move != "" {
					id = c.move
				}
				op, err := store.PutOp(c.collection, id, d)
				must(t, err)
				results, err := e.Write(t.Context(), []docstore.Op{op}, true)
				if must(t, err); results[0].Err != nil {
					t.Fatal(results[0].Err)
				}
			}
			if !done {
				t.Fatal("there is no such document")
			}
			report := check(t, e, storetest.Box(t))
			for _, p := range report.Problems {
				if strings.Contains(p.String(), c.want) {
					return
				}
			}
			t.Errorf("not found: %+v", report.Problems)
		})
	}
}
