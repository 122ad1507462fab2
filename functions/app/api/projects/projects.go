// Package projects is the Public API's resources of groups themselves: groups, their agents and the agents' keys.
package projects

import (
	"context"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Inventory is what these resources read and change of groups and agents.
type Inventory interface {
	Org(ctx context.Context, id model.ID) (model.Org, error)
	CreateOrg(ctx context.Context, o model.Org) error
	DeleteOrg(ctx context.Context, id model.ID) error
	Groups(ctx context.Context) ([]model.Group, error)
	Group(ctx context.Context, id model.ID) (model.Group, error)
	CreateGroup(ctx context.Context, g model.Group) error
	UpdateGroup(ctx context.Context, id model.ID, change func(*model.Group) error) error
	DeleteGroup(ctx context.Context, id model.ID) error
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
}

// Access is what these resources read and change of agent keys, and of the roles of who makes a group.
type Access interface {
	User(ctx context.Context, id model.ID) (model.User, error)
	UpdateUser(ctx context.Context, id model.ID, change func(*model.User) error) error
	UpdateAPIKey(ctx context.Context, id model.ID, change func(*model.APIKey) error) error
	AgentKeys(ctx context.Context, group model.ID) ([]model.AgentKey, error)
	CreateAgentKey(ctx context.Context, k model.AgentKey) error
	DeleteAgentKey(ctx context.Context, group, id model.ID) error
	GroupByAgentKey(ctx context.Context, key string) (model.ID, error)
	ForgetGroup(ctx context.Context, group model.ID) error
}

// Backups tells which backups a group has.
type Backups interface {
	List(ctx context.Context, group model.ID) ([]backups.Backup, error)
}

// Options are what these resources need from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Backups   Backups
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
	for _, routes := range []func(handler) []rest.Route{groupRoutes, agentRoutes} {
		all = append(all, routes(h)...)
	}
	return all
}
