// Package people is the Public API's resources of people and keys: users, organizations, API keys and access lists.
package people

import (
	"context"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Inventory is what these resources read and change of organizations and groups.
type Inventory interface {
	Orgs(ctx context.Context) ([]model.Org, error)
	CreateOrg(ctx context.Context, o model.Org) error
	UpdateOrg(ctx context.Context, id model.ID, change func(*model.Org) error) error
	DeleteOrg(ctx context.Context, id model.ID) error
	Groups(ctx context.Context) ([]model.Group, error)
}

// Access is what these resources read and change of users and keys.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
	User(ctx context.Context, id model.ID) (model.User, error)
	UserByName(ctx context.Context, name string) (model.User, error)
	CountUsers(ctx context.Context) (int, error)
	CreateUser(ctx context.Context, u model.User) error
	UpdateUser(ctx context.Context, id model.ID, change func(*model.User) error) error
	DeleteUser(ctx context.Context, id model.ID) error
	CreateFirstUser(ctx context.Context, u model.User, grants ...model.Grant) error
	APIKeys(ctx context.Context, org model.ID) ([]model.APIKey, error)
	APIKey(ctx context.Context, id model.ID) (model.APIKey, error)
	CreateAPIKey(ctx context.Context, k model.APIKey) error
	UpdateAPIKey(ctx context.Context, id model.ID, change func(*model.APIKey) error) error
	DeleteAPIKey(ctx context.Context, id model.ID) error
	ForgetOrg(ctx context.Context, org model.ID) error
	GlobalAccessList(ctx context.Context) ([]model.AccessEntry, error)
	UpdateGlobalAccessList(ctx context.Context, change func([]model.AccessEntry) ([]model.AccessEntry, error)) error
}

// Options are what these resources need from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Passwords auth.Passwords // nil: hashed in this process
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
	if o.Passwords == nil {
		o.Passwords = auth.Argon2{}
	}
	h := func(do func(*call) (any, error)) func(*rest.Call) (any, error) {
		return func(c *rest.Call) (any, error) { return do(&call{Call: c, Options: o}) }
	}
	var all []rest.Route
	for _, routes := range []func(handler) []rest.Route{userRoutes, userWriteRoutes, orgRoutes, keyRoutes, accessListRoutes} {
		all = append(all, routes(h)...)
	}
	return all
}
