// Package page holds the pages that show what is monitored, one file each: load what the page answers, make its view
// model, name its template. It keeps nothing between requests. Pages on which things are changed are
// functions/app/manage's, the numbers of charts functions/app/chart's, sign-in and sessions the parent package's.
package page

import (
	"context"
	"errors"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/standing"
	"github.com/heartwood-db/heartwood/functions/app/chart"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Inventory is what pages need of the inventory area.
type Inventory interface {
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Host(ctx context.Context, group model.ID, id model.HostID) (model.Host, error)
	Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error)
	Status(ctx context.Context, group model.ID, id model.HostID) (model.HostStatus, error)
	LastPing(ctx context.Context, group model.ID, id model.HostID) (model.LastPing, error)
	ClusterNames(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Cluster(ctx context.Context, group, id model.ID) (model.Cluster, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
	Changes(ctx context.Context, group model.ID, host model.HostID, from, to time.Time, limit int) ([]model.Change, error)
}

// Access is where the reader's own choices are kept.
type Access interface {
	UpdateUser(ctx context.Context, id model.ID, change func(*model.User) error) error
}

// Options are what the pages need from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Events    chart.Events
	Series    chart.Series
	Alerts    standing.Alerts
}

// Pages answers for every page.
type Pages struct{ opt Options }

// New checks the options.
func New(o Options) (*Pages, error) {
	if o.Inventory == nil || o.Access == nil || o.Events == nil || o.Series == nil || o.Alerts == nil {
		return nil, errors.New("page options: Inventory, Access, Events, Series and Alerts are needed")
	}
	return &Pages{opt: o}, nil
}

// Routes lists the pages.
func (p *Pages) Routes() []view.Route {
	return []view.Route{
		{Pattern: "GET /{$}", Handler: p.groups},
		{Pattern: "GET /search", Handler: p.search},
		{Pattern: "GET /g/{group}/{$}", Handler: p.groupHome},
		{Pattern: "GET /g/{group}/deployment", Handler: p.deployment},
		{Pattern: "GET /g/{group}/clusters/{id}", Handler: p.cluster},
		{Pattern: "GET /g/{group}/hosts/{id}", Handler: p.host},
		{Pattern: "POST /g/{group}/hosts/{id}/charts", Handler: p.chooseCharts},
		{Pattern: "GET /g/{group}/hosts/{id}/last-ping", Handler: p.lastPing},
		{Pattern: "GET /g/{group}/hosts/{id}/last-ping.json", Handler: p.lastPingJSON},
	}
}

func (p *Pages) groupHome(_ context.Context, v *view.Visit) (view.Answer, error) {
	return view.Redirect(v.GroupPath("/deployment")), nil
}

// visible leaves out the hosts no list shows.
func visible(hosts []model.Host) []model.Host {
	out := hosts[:0:0]
	for i := range hosts {
		if hosts[i].Visible() {
			out = append(out, hosts[i])
		}
	}
	return out
}

func statusesByHost(list []model.HostStatus) map[model.HostID]*model.HostStatus {
	out := make(map[model.HostID]*model.HostStatus, len(list))
	for i := range list {
		out[list[i].HostID] = &list[i]
	}
	return out
}
