// Package alert holds the pages of alerts: which are open and who has taken them on, why one of them is there and whom it told,
// and why somebody was not told. People acknowledge and silence here; what alerts look for is set on the pages of
// functions/app/alertedit. Judging and delivering are the alerts function's.
package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/reach"
	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Inventory is what these pages need of the inventory area.
type Inventory interface {
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Host(ctx context.Context, group model.ID, id model.HostID) (model.Host, error)
	FindHost(ctx context.Context, group model.ID, address string) (model.Host, error)
	ClusterNames(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Group(ctx context.Context, id model.ID) (model.Group, error)
}

// Alerting is what these pages need of the alerting area.
type Alerting interface {
	Alerts(ctx context.Context, q alerting.AlertQuery) (alerts []model.Alert, next string, err error)
	Alert(ctx context.Context, group, id model.ID) (model.Alert, error)
	LiveAlerts(ctx context.Context, group model.ID) ([]alerting.Live, error)
	UpdateAlert(ctx context.Context, group, id model.ID, change func(*model.Alert) error) error
	Deliveries(ctx context.Context, q alerting.DeliveryQuery) (deliveries []model.Delivery, next string, err error)
	AddDeliveries(ctx context.Context, ds ...model.Delivery) error
	Config(ctx context.Context, group, id model.ID) (model.AlertConfig, error)
	FormerNotifications(ctx context.Context, group, id model.ID) ([]model.Notification, error)
	Configs(ctx context.Context, group model.ID) ([]model.AlertConfig, error)
	Integrations(ctx context.Context, group model.ID) ([]model.Notification, error)
	CreateSilence(ctx context.Context, s model.Silence) error
	Watch(ctx context.Context) (model.AlertWatch, error)
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Access is where the people behind notifications are found.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
}

// Options are what the pages need from outside.
type Options struct {
	Inventory Inventory
	Alerting  Alerting
	Access    Access
	Trial     Trial
	Sender    reach.Site // which channels this site has
	Admin     []string   // the operator's mailbox
	Log       *slog.Logger
}

// Pages answers for every page.
type Pages struct{ opt Options }

// New checks the options.
func New(o Options) (*Pages, error) {
	if o.Inventory == nil || o.Alerting == nil || o.Access == nil || o.Trial == nil || o.Sender == nil || o.Log == nil {
		return nil, errors.New("alert options: Inventory, Alerting, Access, Trial, Sender and Log are needed")
	}
	return &Pages{opt: o}, nil
}

// Routes lists the pages.
func (p *Pages) Routes() []view.Route {
	return []view.Route{
		{Pattern: "GET /g/{group}/alerts", Handler: p.list},
		{Pattern: "POST /g/{group}/alerts/acknowledge", Handler: p.acknowledgeSome},
		{Pattern: "GET /g/{group}/alerts/why", Handler: p.why},
		{Pattern: "GET /g/{group}/alerts/{id}", Handler: p.detail},
		{Pattern: "POST /g/{group}/alerts/{id}/acknowledge", Handler: p.acknowledge},
		{Pattern: "POST /g/{group}/alerts/{id}/silence", Handler: p.silence},
		{Pattern: "GET /admin/alerts", Handler: p.list},
		{Pattern: "POST /admin/alerts/acknowledge", Handler: p.acknowledgeSome},
		{Pattern: "GET /admin/alerts/{id}", Handler: p.detail},
		{Pattern: "POST /admin/alerts/{id}/acknowledge", Handler: p.acknowledge},
	}
}

// base is the path of the list: a group's, or the site's own.
func base(v *view.Visit) string {
	if v.Group == nil {
		return "/admin/alerts"
	}
	return v.GroupPath("/alerts")
}

// groupID is the group at hand; empty for the site's own alerts.
func groupID(v *view.Visit) model.ID {
	if v.Group == nil {
		return ""
	}
	return v.Group.ID
}

// editRight is what acknowledging takes here.
func editRight(v *view.Visit) view.Right {
	if v.Group == nil {
		return view.EditSiteAlerts
	}
	return view.EditAlerts
}

// row is an alert as lists show it.
type row struct {
	model.Alert
	State  view.State
	Name   string    // what is wrong, in a few words
	About  string    // host, cluster, agent
	Href   string    // of its page
	Path   string    // of what it is about
	Next   time.Time // next notification; zero: none
	NextIn string    // how long until then
	Now    string    // the newest value
	Acked  bool
	Until  string // end of the acknowledgement
	Group  string // on the site's pages
	Reach  reach.Reach
}

func (p *Pages) rowOf(v *view.Visit, a model.Alert) row {
	r := row{
		Alert: a, State: words.State(&a, v.Now), Name: words.Condition(&a.Rule), About: words.Target(&a.Target), Acked: a.Status.Live() && a.Acknowledged(v.Now),
		Href: base(v) + "/" + string(a.ID), Now: words.Reading(a.Value, metricName(&a)),
	}
	home := ""
	for i := range v.Groups {
		if v.Groups[i].ID == a.GroupID {
			r.Group, home = v.Groups[i].Name, "/g/"+string(a.GroupID)
		}
	}
	if home != "" {
		r.Href = home + "/alerts/" + string(a.ID)
	}
	r.Path = PathOf(home, &a.Target)
	if r.Acked {
		r.Until = Until(v, a.AckUntil)
	}
	if r.Next = Next(&a, v.Now); !r.Next.IsZero() {
		r.NextIn = "in " + view.Duration(max(r.Next.Sub(v.Now), 0))
		if !r.Next.After(v.Now) {
			r.NextIn = "due"
		}
	}
	return r
}

func metricName(a *model.Alert) string {
	if a.Rule.Metric == nil {
		return ""
	}
	return a.Rule.Metric.Metric
}

// PathOf is the page of what an alert is about, below the path of its group; "" when it has none.
func PathOf(home string, t *model.Target) string {
	switch {
	case home == "":
		return ""
	case t.HostID != "":
		return home + "/hosts/" + string(t.HostID)
	case t.ClusterID != "":
		return home + "/clusters/" + string(t.ClusterID)
	case t.AgentID != "":
		return home + "/agents#a-" + t.AgentID
	}
	return ""
}

// Until is an end in words: a time in the viewer's zone, or that there is none.
func Until(v *view.Visit, t time.Time) string {
	if words.Forever(t, v.Now) {
		return "for ever"
	}
	layout := "2006-01-02 15:04"
	if at := t.In(v.Zone); at.Format("2006-01-02") == v.Now.In(v.Zone).Format("2006-01-02") {
		layout = "15:04"
	}
	return "until " + t.In(v.Zone).Format(layout)
}

// Next is when somebody is told next of an alert if nothing changes; zero when nobody will be.
func Next(a *model.Alert, now time.Time) time.Time {
	if !a.Status.Live() || a.Muted != "" {
		return time.Time{}
	}
	var next time.Time
	for _, n := range a.Rule.Notifications {
		at := a.Since.Add(a.Paused + time.Duration(n.DelayMin)*time.Minute)
		for _, done := range a.Notified {
			if done.NotifierID == n.ID && done.Count > 0 {
				at = done.Next
			}
		}
		for _, held := range []time.Time{a.HoldUntil, a.AckUntil} {
			if at.Before(held) {
				at = held
			}
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if words.Forever(next, now) {
		return time.Time{}
	}
	return next
}

// note keeps an event of an action. The action is done by then: a failure to note it is logged, not shown.
func (p *Pages) note(ctx context.Context, v *view.Visit, e model.Event) {
	Note(ctx, v, p.opt.Alerting, p.opt.Log, e)
}

// Noter keeps events.
type Noter interface {
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Note keeps an event of what the visitor did, with who and from where.
func Note(ctx context.Context, v *view.Visit, to Noter, log *slog.Logger, e model.Event) {
	e.ID, e.At, e.IP = alerting.EventID(v.Now, string(e.Type), string(model.NewID())), v.Now, v.IP
	e.GroupID = cmp.Or(e.GroupID, groupID(v))
	if v.User != nil {
		e.UserID, e.Username, e.Global = v.User.ID, v.User.Username, v.SeesSite()
	}
	if err := to.AddEvents(ctx, e); err != nil {
		log.Error("event not kept", obs.KeyErr, err, obs.KeyReason, string(e.Type), obs.KeyRequest, v.ID)
	}
}

func missing(err error) bool { return errors.Is(err, docstore.ErrNotFound) }

// needRead lets only those see the site's own alerts who see the site.
func needRead(v *view.Visit) error {
	if v.Group == nil {
		return v.Need(view.ReadSite)
	}
	return nil
}

func (p *Pages) live(ctx context.Context, v *view.Visit) ([]model.Alert, error) {
	live, err := p.opt.Alerting.LiveAlerts(ctx, groupID(v))
	if err != nil {
		return nil, fmt.Errorf("read the open alerts: %w", err)
	}
	out := make([]model.Alert, len(live))
	for i := range live {
		out[i] = live[i].Alert
	}
	return out, nil
}
