package alerts_test

import (
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/alerts"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/shipped"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

func (x *site) function() *alerts.Server {
	x.t.Helper()
	s, err := alerts.New(alerts.Options{
		Store: x.store, Inventory: x.inventory, Alerting: x.alerting, Series: x.series, Access: x.access, Backups: x.backup, Sender: &phone{}, Retention: 240 * time.Hour,
	})
	x.ok(err)
	return s
}

func (x *site) runPass(name string, now time.Time) {
	x.t.Helper()
	for _, p := range x.function().Passes() {
		if p.Name == name {
			x.ok(p.Run(x.t.Context(), now))
			return
		}
	}
	x.t.Fatalf("there is no pass %s", name)
}

func TestFirstConfigurationsAreMadeOnce(t *testing.T) {
	x := openSite(t, clock)
	g := x.group("g")
	x.runPass(alerts.PassDefaults, t0)
	configs, err := x.alerting.Configs(t.Context(), g.ID)
	x.ok(err)
	if want := len(shipped.Defaults(g.ID, t0)); len(configs) != want || want == 0 {
		t.Fatalf("%d configurations, want %d", len(configs), want)
	}
	x.ok(x.alerting.DeleteConfig(t.Context(), g.ID, configs[0].ID))
	x.runPass(alerts.PassDefaults, minute(5))
	if again, err := x.alerting.Configs(t.Context(), g.ID); err != nil || len(again) != len(configs)-1 {
		t.Errorf("%d configurations after one was deleted: %v", len(again), err)
	}
	if site, err := x.alerting.Configs(t.Context(), ""); err != nil || len(site) != len(shipped.Global(t0)) {
		t.Errorf("%d configurations of the site: %v", len(site), err)
	}
}

func TestOldAlertsGo(t *testing.T) {
	x := openSite(t, clock)
	_, h := downSite(x)
	x.pass(t0)
	x.alive(h, minute(1), model.ReachUp, minute(1))
	x.pass(minute(1))
	x.send(&phone{}, minute(1))
	x.runPass(alerts.PassExpire, minute(10))
	if n := len(x.deliveries()); n == 0 {
		t.Fatal("young ones went")
	}
	x.runPass(alerts.PassExpire, t0.Add(300*time.Hour))
	left, _, err := x.alerting.Alerts(t.Context(), alerting.AlertQuery{AllGroups: true})
	x.ok(err)
	if n := len(x.deliveries()); len(left) != 0 || n != 0 {
		t.Errorf("%d alerts and %d deliveries are left", len(left), n)
	}
}
