// Package deployment is the Public API's resources of what is monitored: hosts, clusters, measurements.
package deployment

import (
	"context"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// Inventory is what these resources read and change of hosts and clusters.
type Inventory interface {
	Orgs(ctx context.Context) ([]model.Org, error)
	Groups(ctx context.Context) ([]model.Group, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Host(ctx context.Context, group model.ID, id model.HostID) (model.Host, error)
	FindHost(ctx context.Context, group model.ID, address string) (model.Host, error)
	CreateHost(ctx context.Context, h model.Host) error
	UpdateHost(ctx context.Context, group model.ID, id model.HostID, change func(*model.Host) error) error
	HostCredentials(ctx context.Context, group model.ID, id model.HostID) (model.Credentials, error)
	SetHostCredentials(ctx context.Context, group model.ID, id model.HostID, c model.Credentials) error
	Status(ctx context.Context, group model.ID, id model.HostID) (model.HostStatus, error)
	Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error)
	LastPing(ctx context.Context, group model.ID, id model.HostID) (model.LastPing, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Cluster(ctx context.Context, group, id model.ID) (model.Cluster, error)
	UpsertCluster(ctx context.Context, group, id model.ID, change func(*model.Cluster) error) error
}

// Series reads measurements.
type Series interface {
	Read(ctx context.Context, q series.Query) (series.Result, error)
	Dimensions(ctx context.Context, host model.HostID, scope catalog.Scope) ([]string, error)
}

// Options are what these resources need from outside.
type Options struct {
	Inventory Inventory
	Series    Series
}

// call is one request with what its handler may use.
type call struct {
	*rest.Call
	Options
}

// handler turns one of our handlers into a route's.
type handler func(func(*call) (any, error)) func(*rest.Call) (any, error)

// Routes are the routes of these resources.
func Routes(o Options) []rest.Route {
	h := func(do func(*call) (any, error)) func(*rest.Call) (any, error) {
		return func(c *rest.Call) (any, error) { return do(&call{Call: c, Options: o}) }
	}
	var all []rest.Route
	for _, routes := range []func(handler) []rest.Route{hostRoutes, clusterRoutes, measurementRoutes} {
		all = append(all, routes(h)...)
	}
	return all
}
