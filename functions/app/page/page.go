// Package page holds the pages people see, one file each: load what the page answers, make its view model, name its
// template. It keeps nothing between requests. Signing in and sessions are the parent package's business; drawing
// numbers for charts is functions/app/chart's.
package page

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/chart"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Inventory is what pages need of the inventory area.
type Inventory interface {
	Orgs(ctx context.Context) ([]model.Org, error)
	CreateOrg(ctx context.Context, o model.Org) error
	Groups(ctx context.Context) ([]model.Group, error)
	CreateGroup(ctx context.Context, g model.Group) error
	UpdateGroup(ctx context.Context, id model.ID, change func(*model.Group) error) error
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Host(ctx context.Context, group model.ID, id model.HostID) (model.Host, error)
	CreateHost(ctx context.Context, h model.Host) error
	UpdateHost(ctx context.Context, group model.ID, id model.HostID, change func(*model.Host) error) error
	FindHost(ctx context.Context, group model.ID, address string) (model.Host, error)
	SetHostCredentials(ctx context.Context, group model.ID, id model.HostID, c model.Credentials) error
	Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error)
	Status(ctx context.Context, group model.ID, id model.HostID) (model.HostStatus, error)
	LastPing(ctx context.Context, group model.ID, id model.HostID) (model.LastPing, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Cluster(ctx context.Context, group, id model.ID) (model.Cluster, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
	Changes(ctx context.Context, group model.ID, host model.HostID, from, to time.Time, limit int) ([]model.Change, error)
}

// Access is what pages need of the access area.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
	UpdateUser(ctx context.Context, id model.ID, change func(*model.User) error) error
	SessionsOf(ctx context.Context, user model.ID) ([]model.Session, error)
	DeleteSession(ctx context.Context, key string) error
	DeleteSessionsOf(ctx context.Context, user model.ID, keep string) error
	AgentKeys(ctx context.Context, group model.ID) ([]model.AgentKey, error)
	CreateAgentKey(ctx context.Context, k model.AgentKey) error
	DeleteAgentKey(ctx context.Context, group, id model.ID) error
	APIKeys(ctx context.Context, org model.ID) ([]model.APIKey, error)
	CreateAPIKey(ctx context.Context, k model.APIKey) error
	DeleteAPIKey(ctx context.Context, id model.ID) error
}

// Events is what pages need of the alerting area.
type Events interface {
	AddEvents(ctx context.Context, events ...model.Event) error
	Events(ctx context.Context, q alerting.EventQuery) (events []model.Event, next string, err error)
}

// Series is what pages need of the series area.
type Series = chart.Series

// Site is what pages need of the store's kernel.
type Site interface {
	Instances(ctx context.Context) ([]model.Instance, error)
	PassStates(ctx context.Context) ([]store.PassState, error)
}

// Options are what the pages need from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Events    Events
	Series    Series
	Site      Site
	Log       *slog.Logger
	PublicURL string // as people and agents reach this server; empty: taken from the request
	Version   string
	Embedded  string // not empty: the embedded database's file, for the admin page's notice
}

// Pages answers for every page.
type Pages struct{ opt Options }

// New checks the options.
func New(o Options) (*Pages, error) {
	if o.Inventory == nil || o.Access == nil || o.Events == nil || o.Series == nil || o.Site == nil || o.Log == nil {
		return nil, errors.New("page options: Inventory, Access, Events, Series, Site and Log are needed")
	}
	return &Pages{opt: o}, nil
}

// Handler makes one page.
type Handler func(ctx context.Context, v *view.Visit) (view.Answer, error)

// Route is a page's place. A pattern that names {group} is only reached by people who may read that group.
type Route struct {
	Pattern string
	Handler Handler
}

// Routes lists all pages.
func (p *Pages) Routes() []Route {
	return []Route{
		{"GET /{$}", p.groups},
		{"POST /groups", p.createGroup},
		{"GET /search", p.search},
		{"GET /g/{group}/{$}", p.groupHome},
		{"GET /g/{group}/deployment", p.deployment},
		{"GET /g/{group}/clusters/{id}", p.cluster},
		{"GET /g/{group}/hosts/{id}", p.host},
		{"POST /g/{group}/hosts/{id}/charts", p.chooseCharts},
		{"GET /g/{group}/hosts/{id}/last-ping", p.lastPing},
		{"GET /g/{group}/hosts/{id}/last-ping.json", p.lastPingJSON},
		{"GET /g/{group}/agents", p.agents},
		{"GET /g/{group}/settings", p.settings},
		{"POST /g/{group}/settings", p.saveSettings},
		{"GET /g/{group}/settings/hosts", p.hostSettings},
		{"POST /g/{group}/settings/hosts", p.addHost},
		{"POST /g/{group}/settings/hosts/{id}/hide", p.hideHost},
		{"GET /g/{group}/settings/hosts/{id}/remove", p.confirmRemoveHost},
		{"POST /g/{group}/settings/hosts/{id}/remove", p.removeHost},
		{"GET /g/{group}/settings/agent-keys", p.agentKeys},
		{"POST /g/{group}/settings/agent-keys", p.createAgentKey},
		{"GET /g/{group}/settings/agent-keys/{id}/delete", p.confirmDeleteAgentKey},
		{"POST /g/{group}/settings/agent-keys/{id}/delete", p.deleteAgentKey},
		{"GET /g/{group}/settings/api-keys", p.apiKeys},
		{"POST /g/{group}/settings/api-keys", p.createAPIKey},
		{"GET /g/{group}/settings/api-keys/{id}/delete", p.confirmDeleteAPIKey},
		{"POST /g/{group}/settings/api-keys/{id}/delete", p.deleteAPIKey},
		{"GET /account", p.account},
		{"POST /account/preferences", p.savePreferences},
		{"POST /account/password", p.changePassword},
		{"POST /account/sessions/{key}/end", p.endSession},
		{"GET /admin", p.admin},
	}
}

func (p *Pages) groupHome(_ context.Context, v *view.Visit) (view.Answer, error) {
	return view.Redirect(v.GroupPath("/deployment")), nil
}

// note keeps an event of an action. The action is done by then: a failure to note it is logged, not shown.
func (p *Pages) note(ctx context.Context, v *view.Visit, e model.Event) {
	e.ID, e.At, e.IP = alerting.EventID(v.Now, string(e.Type), string(model.NewID())), v.Now, v.IP
	if v.Group != nil {
		e.GroupID = v.Group.ID
	}
	if v.User != nil {
		e.UserID, e.Username = v.User.ID, v.User.Username
	}
	if err := p.opt.Events.AddEvents(ctx, e); err != nil {
		p.opt.Log.Error("event not kept", obs.KeyErr, err, obs.KeyReason, string(e.Type), obs.KeyRequest, v.ID)
	}
}

// baseURL is the address agents are told.
func (p *Pages) baseURL(v *view.Visit) string {
	if p.opt.PublicURL != "" {
		return strings.TrimSuffix(p.opt.PublicURL, "/")
	}
	if v.Secure {
		return "https://" + v.Request.Host
	}
	return "http://" + v.Request.Host
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

// missing turns the store's "not found" into a page that names the kind.
func missing(err error, kind string) error {
	if errors.Is(err, docstore.ErrNotFound) {
		return view.NotFound(kind)
	}
	return fmt.Errorf("read the %s: %w", kind, err)
}
