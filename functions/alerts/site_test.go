package alerts_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/alerts/evaluate"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

// site is a store with all areas, for tests.
type site struct {
	t         testing.TB
	store     *store.Store
	inventory *inventory.Inventory
	access    *access.Access
	alerting  *alerting.Alerting
	series    *series.Series
	backup    *backup.Backup
}

func openSite(t testing.TB, now func() time.Time) *site {
	t.Helper()
	return openSiteOn(t, storetest.Engine(t), now)
}

func openSiteOn(t testing.TB, e docstore.Engine, now func() time.Time) *site {
	t.Helper()
	s, err := areas.Open(t.Context(), store.Options{Engine: e, Box: storetest.Box(t), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	numbers, err := series.New(series.Options{Engine: e, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, s, inventory.New(s), access.New(s), alerting.New(s), numbers, backup.New(s)}
}

func (x *site) ok(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *site) evaluateOptions() evaluate.Options {
	return evaluate.Options{
		Inventory: x.inventory, Series: x.series, Access: x.access, Alerting: x.alerting, Duties: x.store, Backups: x.backup, Version: "1.0.0",
		Admin: []string{"admin@example.com"},
	}
}

func (x *site) group(name string) model.Group {
	x.t.Helper()
	g := model.Group{ID: model.DeriveID("group", name), OrgID: model.DeriveID("org"), Name: name, Settings: model.DefaultGroupSettings()}
	x.ok(x.inventory.CreateGroup(x.t.Context(), g))
	return g
}

func (x *site) newHost(group model.ID, name string) model.Host {
	return model.Host{
		ID: model.NewHostID(group, name, 27017), GroupID: group, Hostname: name, Port: 27017, Type: model.TypeReplicaSecondary,
		Version: "99.0.0", MemberID: -1, Enabled: true, AlertsEnabled: true, AuthEnabled: true, TLSMode: "requireTLS",
	}
}

func (x *site) up(h model.Host, at time.Time) model.HostStatus {
	return model.HostStatus{
		HostID: h.ID, GroupID: h.GroupID, At: at, LastPing: at, Reach: model.ReachUp, ReachSince: at.Add(-time.Hour), State: model.StateUnknown,
		StateSince: at.Add(-time.Hour), AgentID: "agent",
	}
}

func (x *site) putHost(h model.Host, s model.HostStatus) {
	x.t.Helper()
	x.ok(x.inventory.CreateHost(x.t.Context(), h))
	x.status(s)
}

func (x *site) status(s model.HostStatus) {
	x.t.Helper()
	op, err := x.inventory.StatusOp(s)
	x.ok(err)
	x.ok(x.store.Write(x.t.Context(), op))
}

func (x *site) cluster(group, id model.ID, members []model.Member) {
	x.t.Helper()
	x.ok(x.inventory.UpsertCluster(x.t.Context(), group, id, func(c *model.Cluster) error {
		c.Type, c.Name, c.ReplicaSet, c.Members = model.ClusterReplicaSet, "rs", "rs", members
		return nil
	}))
}

// agent makes the group's agent one that pinged at a time.
func (x *site) agent(group model.ID, at time.Time) {
	x.t.Helper()
	x.ok(x.inventory.UpsertAgent(x.t.Context(), group, "agent", func(a *model.Agent) error {
		a.Type, a.State, a.Version, a.LastPing, a.LastConf = model.AgentMonitoring, model.AgentActive, "1.0.0", at, at
		return nil
	}))
}

// config adds an enabled configuration with one webhook.
func (x *site) config(group model.ID, t model.EventType, change func(*model.AlertConfig)) model.AlertConfig {
	x.t.Helper()
	c := model.AlertConfig{
		ID: model.NewID(), GroupID: group, EventType: t, Enabled: true, Created: time.Unix(0, 0).UTC(), Updated: time.Unix(0, 0).UTC(),
		Notifications: []model.Notification{hook("https://hooks.example.com/a")},
	}
	if change != nil {
		change(&c)
	}
	x.ok(x.alerting.CreateConfig(x.t.Context(), c))
	return c
}

func hook(url string) model.Notification {
	return model.Notification{
		ID: model.NewID(), Channel: notify.Webhook, IntervalMin: 5,
		Secrets: map[string]model.Secret{"webhookUrl": model.Secret(url)},
	}
}

// phone is a Sender that notes what it is given, and fails as it is told.
type phone struct {
	mu    sync.Mutex
	taken map[string][]notify.Message // by destination: the webhook's URL, else the address
	tries map[string]int
	fail  func(to notify.Target) error
}

func (p *phone) Send(_ context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken == nil {
		p.taken, p.tries = map[string][]notify.Message{}, map[string]int{}
	}
	where := to.Address
	if url := to.Secrets["webhookUrl"].Reveal(); url != "" {
		where = url
	}
	p.tries[where]++
	if p.fail != nil {
		if err := p.fail(to); err != nil {
			return notify.Result{}, err
		}
	}
	p.taken[where] = append(p.taken[where], m)
	return notify.Result{Text: "taken"}, nil
}
