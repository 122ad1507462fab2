// Package api is the Public API v1.0. Paths, field names, codes and conventions are those of Ops Manager's documentation, so
// that existing clients keep working. What all resources share is in rest; projects, people, events and deployment hold one file a
// resource. It keeps nothing between requests, and must not import daemon, local or any adapter.
package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/heartwood-db/heartwood/functions/app/api/deployment"
	"github.com/heartwood-db/heartwood/functions/app/api/events"
	"github.com/heartwood-db/heartwood/functions/app/api/people"
	"github.com/heartwood-db/heartwood/functions/app/api/projects"
	"github.com/heartwood-db/heartwood/functions/app/api/rest"
)

// Prefix is where the API lives below the server's root.
const Prefix = rest.Prefix

// Inventory is what the API reads and changes of groups, hosts, clusters and agents.
type Inventory interface {
	people.Inventory
	projects.Inventory
	deployment.Inventory
}

// Access is what the API reads and changes of people and keys.
type Access interface {
	people.Access
	projects.Access
	rest.Keys
}

// Options are what the API needs from outside. Rest's Inventory and Keys are set here.
type Options struct {
	Inventory Inventory
	Access    Access
	Series    deployment.Series
	Events    events.Events
	Rest      rest.Options
}

// New returns the API as a handler for everything below /api/.
func New(o Options) (http.Handler, error) {
	if o.Inventory == nil || o.Access == nil || o.Series == nil || o.Events == nil {
		return nil, fmt.Errorf("api options: %w", errors.New("Inventory, Access, Series and Events are needed"))
	}
	o.Rest.Inventory, o.Rest.Keys = o.Inventory, o.Access
	return rest.New(o.Rest,
		rootRoutes(),
		// First: a group may have the name of a resource of groups, as in /groups/byName/users.
		projects.Routes(projects.Options{Inventory: o.Inventory, Access: o.Access}),
		people.Routes(people.Options{Inventory: o.Inventory, Access: o.Access}),
		events.Routes(events.Options{Inventory: o.Inventory, Events: o.Events}),
		deployment.Routes(deployment.Options{Inventory: o.Inventory, Series: o.Series}),
	)
}
