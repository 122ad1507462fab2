// Package api is the Public API v1.0. Paths, field names, codes and conventions are those of Ops Manager's documentation, so
// that existing clients keep working. What all resources share is in rest; the packages beside it hold one file a
// resource. It keeps nothing between requests, and must not import daemon, local or any adapter.
package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/heartwood-db/heartwood/functions/app/api/alertconf"
	"github.com/heartwood-db/heartwood/functions/app/api/alerts"
	"github.com/heartwood-db/heartwood/functions/app/api/backup"
	"github.com/heartwood-db/heartwood/functions/app/api/deployment"
	"github.com/heartwood-db/heartwood/functions/app/api/events"
	"github.com/heartwood-db/heartwood/functions/app/api/people"
	"github.com/heartwood-db/heartwood/functions/app/api/projects"
	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/functions/app/api/windows"
	"github.com/heartwood-db/heartwood/shared/auth"
)

// Prefix is where the API lives below the server's root.
const Prefix = rest.Prefix

// Inventory is what the API reads and changes of groups, hosts, clusters and agents.
type Inventory interface {
	people.Inventory
	projects.Inventory
	deployment.Inventory
	alertconf.Inventory
	alerts.Inventory
}

// Access is what the API reads and changes of people and keys.
type Access interface {
	people.Access
	projects.Access
	alertconf.Access
	alerts.Access
	rest.Keys
}

// Alerting is what the API reads and changes of configurations, alerts and what steers their notifications.
type Alerting interface {
	alertconf.Alerting
	alerts.Alerting
	windows.Alerting
}

// Trial tries configurations on history and says why somebody was not told.
type Trial interface {
	alertconf.Trial
	alerts.Why
}

// Options are what the API needs from outside. Rest's Inventory and Keys are set here.
type Options struct {
	Inventory Inventory
	Access    Access
	Series    deployment.Series
	Events    events.Events
	Alerting  Alerting
	Trial     Trial
	Backups   backup.Service
	Stores    backup.Admin     // daemons and block stores
	PullURL   string           // where archives of restores are fetched; empty: here
	Sender    alertconf.Sender // of test messages; nil: this server sends none
	Passwords auth.Passwords   // nil: hashed in this process
	Admin     []string         // mailbox of the site's operators (mms.adminEmailAddr)
	Rest      rest.Options
}

// New returns the API as a handler for everything below /api/.
func New(o Options) (http.Handler, error) {
	if o.Inventory == nil || o.Access == nil || o.Series == nil || o.Events == nil || o.Alerting == nil || o.Trial == nil || o.Backups == nil || o.Stores == nil {
		return nil, fmt.Errorf("api options: %w", errors.New("Inventory, Access, Series, Events, Alerting, Trial, Backups and Stores are needed"))
	}
	o.Rest.Inventory, o.Rest.Keys = o.Inventory, o.Access
	return rest.New(o.Rest,
		rootRoutes(),
		// First: a group may have the name of a resource of groups, as in /groups/byName/users.
		projects.Routes(projects.Options{Inventory: o.Inventory, Access: o.Access, Backups: o.Backups}),
		people.Routes(people.Options{Inventory: o.Inventory, Access: o.Access, Passwords: o.Passwords}),
		events.Routes(events.Options{Inventory: o.Inventory, Events: o.Events}),
		deployment.Routes(deployment.Options{Inventory: o.Inventory, Series: o.Series}),
		alertconf.Routes(alertconf.Options{
			Alerting: o.Alerting, Inventory: o.Inventory, Access: o.Access, Sender: o.Sender, Trial: o.Trial, Admin: o.Admin,
		}),
		alerts.Routes(alerts.Options{Alerting: o.Alerting, Inventory: o.Inventory, Access: o.Access, Why: o.Trial, Admin: o.Admin}),
		windows.Routes(windows.Options{Alerting: o.Alerting}),
		backup.Routes(backup.Options{Service: o.Backups, Admin: o.Stores, Inventory: o.Inventory, PullURL: o.PullURL}),
	)
}
