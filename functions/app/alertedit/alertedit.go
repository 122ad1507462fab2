// Package alertedit holds the pages on which people say what alerts look for and whom they tell: the settings of a group and
// the global ones, maintenance windows, silences and integrations. A setting is tried on history and its notifications are
// tried out before it is saved; every change leaves an event. Alerts themselves are functions/app/alert's.
package alertedit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/alert"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
)

// Inventory is what settings may be about.
type Inventory interface {
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
}

// Access is where the people behind notifications are found.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
}

// Alerting is what these pages need of the alerting area.
type Alerting interface {
	CreateConfig(ctx context.Context, c model.AlertConfig) error
	UpdateConfig(ctx context.Context, group, id model.ID, change func(*model.AlertConfig) error) error
	DeleteConfig(ctx context.Context, group, id model.ID) error
	Config(ctx context.Context, group, id model.ID) (model.AlertConfig, error)
	Configs(ctx context.Context, group model.ID) ([]model.AlertConfig, error)
	Integrations(ctx context.Context, group model.ID) ([]model.Notification, error)
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Trial says what a setting would have done.
type Trial interface {
	Try(ctx context.Context, group model.Group, c model.AlertConfig, days int) (trial.Trial, error)
}

// Sender sends test messages, and knows which channels this site has.
type Sender interface {
	Missing(channel string) string
	Send(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error)
}

// Options are what the pages need from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Alerting  Alerting
	Trial     Trial
	Sender    Sender
	Admin     []string // the operator's mailbox
	PublicURL string   // of this site, for the links of test messages
	Log       *slog.Logger
}

// Pages answers for every page.
type Pages struct{ opt Options }

// New checks the options.
func New(o Options) (*Pages, error) {
	if o.Inventory == nil || o.Access == nil || o.Alerting == nil || o.Trial == nil || o.Sender == nil || o.Log == nil {
		return nil, errors.New("alertedit options: Inventory, Access, Alerting, Trial, Sender and Log are needed")
	}
	return &Pages{opt: o}, nil
}

// Routes lists the pages.
func (p *Pages) Routes() []view.Route {
	routes := []view.Route{
		{Pattern: "POST /g/{group}/alert-settings/recommended", Handler: p.switchOn},
	}
	for _, at := range []string{"/g/{group}/alert-settings", "/admin/alert-settings"} {
		routes = append(
			routes,
			view.Route{Pattern: "GET " + at, Handler: p.list},
			view.Route{Pattern: "GET " + at + "/new", Handler: p.add},
			view.Route{Pattern: "POST " + at + "/new", Handler: p.save},
			view.Route{Pattern: "GET " + at + "/{id}", Handler: p.edit},
			view.Route{Pattern: "POST " + at + "/{id}", Handler: p.save},
			view.Route{Pattern: "POST " + at + "/{id}/enable", Handler: p.enable},
			view.Route{Pattern: "GET " + at + "/{id}/delete", Handler: p.confirmDelete},
			view.Route{Pattern: "POST " + at + "/{id}/delete", Handler: p.remove},
		)
	}
	return routes
}

func (p *Pages) note(ctx context.Context, v *view.Visit, e model.Event) {
	alert.Note(ctx, v, p.opt.Alerting, p.opt.Log, e)
}

// people are those among whom notifications find their recipients.
func (p *Pages) people(ctx context.Context, g *model.Group) (notify.People, error) {
	users, err := p.opt.Access.Users(ctx)
	if err != nil {
		return notify.People{}, fmt.Errorf("read the users: %w", err)
	}
	out := notify.People{Users: users, Admin: p.opt.Admin}
	if g != nil {
		out.GroupID, out.OrgID = g.ID, g.OrgID
	}
	return out, nil
}

// siteURL is the address of this site for the links of test messages.
func (p *Pages) siteURL(v *view.Visit) string {
	scheme := "http://"
	if v.Secure {
		scheme = "https://"
	}
	return strings.TrimSuffix(cmp.Or(p.opt.PublicURL, scheme+v.Request.Host), "/")
}
