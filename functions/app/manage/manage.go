// Package manage holds the pages on which people change things: groups and their settings, hosts, keys, their own
// account; and the two that tell whether the works run, agents and admin. Every action leaves an event, and the page
// after it says that it happened. Pages that only show what is monitored are functions/app/page's.
package manage

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Inventory is what these pages need of the inventory area.
type Inventory interface {
	Orgs(ctx context.Context) ([]model.Org, error)
	CreateOrg(ctx context.Context, o model.Org) error
	CreateGroup(ctx context.Context, g model.Group) error
	UpdateGroup(ctx context.Context, id model.ID, change func(*model.Group) error) error
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Host(ctx context.Context, group model.ID, id model.HostID) (model.Host, error)
	CreateHost(ctx context.Context, h model.Host) error
	UpdateHost(ctx context.Context, group model.ID, id model.HostID, change func(*model.Host) error) error
	FindHost(ctx context.Context, group model.ID, address string) (model.Host, error)
	SetHostCredentials(ctx context.Context, group model.ID, id model.HostID, c model.Credentials) error
	Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
}

// Access is what these pages need of the access area.
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

// Events is where actions are noted.
type Events interface {
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Site is what these pages need of the store's kernel.
type Site interface {
	Instances(ctx context.Context) ([]model.Instance, error)
	PassStates(ctx context.Context) ([]store.PassState, error)
}

// Options are what the pages need from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Events    Events
	Site      Site
	Passwords auth.Passwords // nil: hashed and checked in this process
	Log       *slog.Logger
	PublicURL string // as people reach this server; empty: taken from the request
	AgentURL  string // as agents reach it; empty: as people do, on AgentPort when PublicURL is empty too
	AgentPort string // of the listener that is for agents only; empty: the same port
	Embedded  string // not empty: the embedded database's file, for the admin page's notice
}

// Manage answers for its pages.
type Manage struct{ opt Options }

// New checks the options.
func New(o Options) (*Manage, error) {
	if o.Inventory == nil || o.Access == nil || o.Events == nil || o.Site == nil || o.Log == nil {
		return nil, errors.New("manage options: Inventory, Access, Events, Site and Log are needed")
	}
	if o.Passwords == nil {
		o.Passwords = auth.Argon2{}
	}
	return &Manage{opt: o}, nil
}

// Routes lists the pages.
func (m *Manage) Routes() []view.Route {
	return []view.Route{
		{Pattern: "GET /groups/new", Handler: m.newGroup},
		{Pattern: "POST /groups", Handler: m.createGroup},
		{Pattern: "GET /g/{group}/agents", Handler: m.agents},
		{Pattern: "GET /g/{group}/settings", Handler: m.settings},
		{Pattern: "POST /g/{group}/settings", Handler: m.saveSettings},
		{Pattern: "GET /g/{group}/settings/hosts", Handler: m.hostSettings},
		{Pattern: "POST /g/{group}/settings/hosts", Handler: m.addHost},
		{Pattern: "POST /g/{group}/settings/hosts/{id}/hide", Handler: m.hideHost},
		{Pattern: "GET /g/{group}/settings/hosts/{id}/remove", Handler: m.confirmRemoveHost},
		{Pattern: "POST /g/{group}/settings/hosts/{id}/remove", Handler: m.removeHost},
		{Pattern: "GET /g/{group}/settings/agent-keys", Handler: m.agentKeys},
		{Pattern: "POST /g/{group}/settings/agent-keys", Handler: m.createAgentKey},
		{Pattern: "GET /g/{group}/settings/agent-keys/{id}/delete", Handler: m.confirmDeleteAgentKey},
		{Pattern: "POST /g/{group}/settings/agent-keys/{id}/delete", Handler: m.deleteAgentKey},
		{Pattern: "GET /g/{group}/settings/api-keys", Handler: m.apiKeys},
		{Pattern: "POST /g/{group}/settings/api-keys", Handler: m.createAPIKey},
		{Pattern: "GET /g/{group}/settings/api-keys/{id}/delete", Handler: m.confirmDeleteAPIKey},
		{Pattern: "POST /g/{group}/settings/api-keys/{id}/delete", Handler: m.deleteAPIKey},
		{Pattern: "GET /account", Handler: m.account},
		{Pattern: "POST /account/preferences", Handler: m.savePreferences},
		{Pattern: "POST /account/password", Handler: m.changePassword},
		{Pattern: "POST /account/sessions/{key}/end", Handler: m.endSession},
		{Pattern: "GET /admin", Handler: m.admin},
	}
}

// note keeps an event of an action. The action is done by then: a failure to note it is logged, not shown.
func (m *Manage) note(ctx context.Context, v *view.Visit, e model.Event) {
	e.ID, e.At, e.IP = alerting.EventID(v.Now, string(e.Type), string(model.NewID())), v.Now, v.IP
	if v.Group != nil {
		e.GroupID = v.Group.ID
	}
	if v.User != nil {
		e.UserID, e.Username, e.Global = v.User.ID, v.User.Username, v.SeesSite()
	}
	if err := m.opt.Events.AddEvents(ctx, e); err != nil {
		m.opt.Log.Error("event not kept", obs.KeyErr, err, obs.KeyReason, string(e.Type), obs.KeyRequest, v.ID)
	}
}

// baseURL is the address of this site for people and programs.
func (m *Manage) baseURL(v *view.Visit) string {
	if m.opt.PublicURL != "" {
		return strings.TrimSuffix(m.opt.PublicURL, "/")
	}
	return scheme(v) + v.Request.Host
}

func scheme(v *view.Visit) string {
	if v.Secure {
		return "https://"
	}
	return "http://"
}

// agentURL is the address agents are told.
func (m *Manage) agentURL(v *view.Visit) string {
	switch {
	case m.opt.AgentURL != "":
		return strings.TrimSuffix(m.opt.AgentURL, "/")
	case m.opt.PublicURL != "" || m.opt.AgentPort == "":
		return m.baseURL(v)
	}
	host := v.Request.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return scheme(v) + net.JoinHostPort(strings.Trim(host, "[]"), m.opt.AgentPort)
}
