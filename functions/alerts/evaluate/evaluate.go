// Package evaluate is the evaluation of alerts: each minute it looks at what is known of every group and of the site, lets
// shared/rule judge it, and keeps what follows: alerts, notifications that are due, events. It decides nothing itself.
//
// A pass may be cut short anywhere and another process may be at it: notifications go to the outbox, under ids that follow
// from the decision, before the alert that remembers them changes.
package evaluate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/release"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Inventory is what the evaluation reads of what is monitored.
type Inventory interface {
	Groups(ctx context.Context) ([]model.Group, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
}

// Series is what it reads of measurements.
type Series interface {
	Recent(ctx context.Context, hosts []model.HostID, measurements []string, from, now time.Time) (map[model.HostID]map[string][]model.Sample, error)
}

// Access is where people are found.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
}

// Alerting is what it reads and keeps of alerts.
type Alerting interface {
	AllConfigs(ctx context.Context) ([]model.AlertConfig, []alerting.Former, error)
	DropFormer(ctx context.Context, f alerting.Former) error
	AllLive(ctx context.Context) ([]alerting.Live, error)
	AllWindows(ctx context.Context) ([]model.MaintenanceWindow, error)
	AllSilences(ctx context.Context, now time.Time) ([]model.Silence, error)
	Integrations(ctx context.Context, group model.ID) ([]model.Notification, error)
	Watch(ctx context.Context) (model.AlertWatch, error)
	UpdateWatch(ctx context.Context, change func(*model.AlertWatch) error) error
	StartAlert(ctx context.Context, a model.Alert) (alerting.Live, error)
	SaveAlert(ctx context.Context, next model.Alert, rev int64) error
	Alert(ctx context.Context, group, id model.ID) (model.Alert, error)
	Ended(ctx context.Context, group model.ID, since time.Time) ([]model.Alert, error)
	AddInform(ctx context.Context, a model.Alert) (bool, error)
	AddDeliveries(ctx context.Context, ds ...model.Delivery) error
	DeliveryStats(ctx context.Context, now time.Time) (alerting.DeliveryStats, error)
	AddEvents(ctx context.Context, events ...model.Event) error
	Events(ctx context.Context, q alerting.EventQuery) ([]model.Event, string, error)
}

// Duties tells how the periodic duties of the site do.
type Duties interface {
	PassStates(ctx context.Context) ([]store.PassState, error)
}

// Options are what New needs.
type Options struct {
	Inventory Inventory
	Series    Series
	Access    Access
	Alerting  Alerting
	Duties    Duties
	Backups   Backups
	Log       *slog.Logger

	Admin      []string         // the operator's mailbox
	Every      time.Duration    // between two passes; 0: Every
	Version    string           // of this server
	ServerCert func() time.Time // end of the certificate this site serves with; nil: it serves without
	Releases   *release.Table   // nil: the embedded one
}

// workers is how many groups are evaluated at once.
const workers = 2

// Evaluator evaluates. What it keeps in memory only saves work.
type Evaluator struct {
	o    Options
	told seen   // events that were told of
	last points // when measurements that stopped had last arrived
}

// New returns an Evaluator.
func New(o Options) (*Evaluator, error) {
	if o.Inventory == nil || o.Series == nil || o.Access == nil || o.Alerting == nil || o.Duties == nil || o.Backups == nil {
		return nil, errors.New("evaluate options: it needs Inventory, Series, Access, Alerting, Duties and Backups")
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Every <= 0 {
		o.Every = Every
	}
	if o.Releases == nil {
		o.Releases = release.Embedded()
	}
	return &Evaluator{o: o}, nil
}

// pass is one run: what is the same for all groups.
type pass struct {
	*Evaluator
	now      time.Time
	watch    model.AlertWatch
	back     time.Duration // the clock went back by it
	global   []*model.AlertConfig
	windows  map[model.ID][]model.MaintenanceWindow
	silences map[model.ID][]model.Silence
	users    []model.User
	former   map[model.ID][]model.Notification // removed from configurations, or left of deleted ones
	needless []alerting.Former                 // of them: no alert lives that would need it
	backedUp []rule.BackupFact
	daemons  []rule.DaemonFact

	mu      sync.Mutex
	judged  map[model.ID]bool // configurations
	hosts   int
	open    int
	changed int64
}

// unit is a group, or the site, and what a pass has to judge of it.
type unit struct {
	*pass
	group   model.Group // ID "": the site
	configs []*model.AlertConfig
	live    []alerting.Live
	events  []model.Event // oldest first
	elected map[model.ID]int

	snap   *rule.Snapshot
	mute   rule.Mute
	people notify.People
	ended  map[subject]*model.Alert // only just
	third  func() ([]model.Notification, error)
}

// Pass evaluates everything at now. A group that fails does not keep the others from being evaluated.
func (e *Evaluator) Pass(ctx context.Context, now time.Time) (store.PassReport, error) {
	began := time.Now()
	w, err := e.o.Alerting.Watch(ctx)
	if err != nil {
		return store.PassReport{}, fmt.Errorf("read the watch: %w", err)
	}
	p := &pass{Evaluator: e, now: now, watch: w, judged: map[model.ID]bool{}}
	var judge bool
	if p.back, judge = resume(&p.watch, now, e.o.Every); p.watch.ClockNote != "" && p.watch.ClockNote != w.ClockNote {
		e.o.Log.WarnContext(ctx, "alert evaluation", obs.KeyReason, p.watch.ClockNote)
	}
	if !judge {
		return store.PassReport{Note: p.watch.ClockNote}, p.keepWatch(ctx)
	}
	units, err := p.units(ctx)
	if err != nil {
		return store.PassReport{}, err
	}
	err = p.each(ctx, units)
	if ctx.Err() != nil { // the next pass begins where this one began
		return store.PassReport{Done: p.changed}, errors.Join(err, context.Cause(ctx))
	}
	if err == nil {
		p.watch.EventsTo = now
	}
	err = errors.Join(err, p.forget(ctx))
	p.watch.Took, p.watch.Configs, p.watch.Hosts, p.watch.Open = time.Since(began), len(p.judged), p.hosts, p.open
	err = errors.Join(err, p.keepWatch(ctx))
	return store.PassReport{Done: p.changed, Note: p.watch.ClockNote}, err
}

// forget drops what was remembered of configurations for the sake of alerts that live no more.
func (p *pass) forget(ctx context.Context) error {
	for _, f := range p.needless {
		if err := p.o.Alerting.DropFormer(ctx, f); err != nil {
			return fmt.Errorf("forget former notifications: %w", err)
		}
	}
	return nil
}

// keepWatch keeps what the evaluation remembers, beside what others keep there.
func (p *pass) keepWatch(ctx context.Context) error {
	err := p.o.Alerting.UpdateWatch(ctx, func(w *model.AlertWatch) error {
		next := p.watch
		next.Heartbeat, next.BeatError, next.Seeded = w.Heartbeat, w.BeatError, w.Seeded
		*w = next
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep the watch: %w", err)
	}
	return nil
}

// each evaluates the units, a few at once, and joins what went wrong.
func (p *pass) each(ctx context.Context, units []*unit) error {
	work := make(chan *unit)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	failures := 0
	for range min(workers, len(units)) {
		wg.Go(func() {
			for u := range work {
				err := u.evaluate(ctx)
				if err == nil {
					continue
				}
				mu.Lock()
				if failures++; len(errs) < 5 {
					errs = append(errs, fmt.Errorf("%s: %w", u.name(), err))
				}
				mu.Unlock()
				p.o.Log.WarnContext(ctx, "a group was not evaluated whole", obs.KeyGroup, u.group.ID, obs.KeyErr, err)
			}
		})
	}
	for _, u := range units {
		if ctx.Err() != nil {
			break
		}
		work <- u
	}
	close(work)
	wg.Wait()
	if failures > len(errs) {
		errs = append(errs, fmt.Errorf("and %d more groups", failures-len(errs)))
	}
	return errors.Join(errs...)
}

func (u *unit) name() string {
	if u.group.ID == "" {
		return "the site"
	}
	return "group " + string(u.group.ID)
}

// units reads what is the same for all and says what there is to judge. Groups that nobody has a configuration for and that
// have no alert are left out.
func (p *pass) units(ctx context.Context) ([]*unit, error) {
	al := p.o.Alerting
	// Configurations are read before groups: one that belongs to none then belongs to a group that was deleted.
	configs, former, err := al.AllConfigs(ctx)
	if err != nil {
		return nil, fmt.Errorf("read alert configurations: %w", err)
	}
	live, err := al.AllLive(ctx)
	if err != nil {
		return nil, fmt.Errorf("read live alerts: %w", err)
	}
	groups, err := p.o.Inventory.Groups(ctx)
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	windows, err := al.AllWindows(ctx)
	if err != nil {
		return nil, fmt.Errorf("read maintenance windows: %w", err)
	}
	silences, err := al.AllSilences(ctx, p.now)
	if err != nil {
		return nil, fmt.Errorf("read silences: %w", err)
	}
	if p.users, err = p.o.Access.Users(ctx); err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	if err := p.backups(ctx); err != nil {
		return nil, err
	}
	p.windows, p.silences = map[model.ID][]model.MaintenanceWindow{}, map[model.ID][]model.Silence{}
	for _, w := range windows {
		p.windows[w.GroupID] = append(p.windows[w.GroupID], w)
	}
	for _, s := range silences {
		p.silences[s.GroupID] = append(p.silences[s.GroupID], s)
	}

	own := map[model.ID][]*model.AlertConfig{}
	for i := range configs {
		if c := &configs[i]; c.GroupID == "" {
			p.global = append(p.global, c)
		} else {
			own[c.GroupID] = append(own[c.GroupID], c)
		}
	}
	events, elected, err := p.news(ctx, configs)
	if err != nil {
		return nil, err
	}
	alerts, alive := map[model.ID][]alerting.Live{}, map[model.ID]bool{}
	for i := range live {
		alive[live[i].ConfigID] = true
		a := &live[i].Alert
		if p.back > 0 {
			turnBack(a, p.back, p.now)
		}
		if a.Status == model.AlertOpen {
			p.open++
		}
		alerts[a.GroupID] = append(alerts[a.GroupID], live[i])
	}

	p.former = make(map[model.ID][]model.Notification, len(former))
	for _, f := range former {
		if p.former[f.ConfigID] = f.Notifications; !alive[f.ConfigID] {
			p.needless = append(p.needless, f)
		}
	}
	units := make([]*unit, 0, len(groups)+1)
	for i := range groups {
		u := &unit{pass: p, group: groups[i], configs: own[groups[i].ID], live: alerts[groups[i].ID], events: events[groups[i].ID], elected: elected}
		delete(alerts, groups[i].ID)
		for _, c := range p.global {
			if t, ok := rule.TypeOf(c.EventType); ok && t.Category != rule.Site && c.Covers(&u.group) {
				u.configs = append(u.configs, c)
			}
		}
		if len(u.configs) > 0 || len(u.live) > 0 {
			units = append(units, u)
		}
	}
	units = append(units, &unit{pass: p, configs: p.global, live: alerts[""], events: events[""]})
	delete(alerts, "")
	for id, left := range alerts { // of groups that were deleted
		for _, c := range own[id] { // as good as deleted
			p.former[c.ID] = slices.Concat(p.former[c.ID], c.Notifications)
		}
		units = append(units, &unit{pass: p, group: model.Group{ID: id}, live: left})
	}
	return units, nil
}

// note counts what a pass did.
func (p *pass) note(before, after model.AlertStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed++
	if before == model.AlertOpen {
		p.open--
	}
	if after == model.AlertOpen {
		p.open++
	}
}
