// Package api is the Public API v1.0, one file a resource. Paths, field names, codes and conventions are those of Ops
// Manager's documentation, so that existing clients keep working. It keeps nothing between requests, and must not import
// daemon, local or any adapter.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// Prefix is where the API lives below the server's root.
const Prefix = "/api/public/v1.0"

// maxBody bounds request bodies.
const maxBody = 1 << 20

// Inventory is what the API reads and changes of groups, hosts, clusters and agents.
type Inventory interface {
	Orgs(ctx context.Context) ([]model.Org, error)
	Org(ctx context.Context, id model.ID) (model.Org, error)
	CreateOrg(ctx context.Context, o model.Org) error
	UpdateOrg(ctx context.Context, id model.ID, change func(*model.Org) error) error
	DeleteOrg(ctx context.Context, id model.ID) error
	Groups(ctx context.Context) ([]model.Group, error)
	Group(ctx context.Context, id model.ID) (model.Group, error)
	CreateGroup(ctx context.Context, g model.Group) error
	UpdateGroup(ctx context.Context, id model.ID, change func(*model.Group) error) error
	DeleteGroup(ctx context.Context, id model.ID) error
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
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
}

// Access is what the API reads and changes of people and keys.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
	User(ctx context.Context, id model.ID) (model.User, error)
	UserByName(ctx context.Context, name string) (model.User, error)
	CountUsers(ctx context.Context) (int, error)
	CreateUser(ctx context.Context, u model.User) error
	CreateFirstUser(ctx context.Context, u model.User, grants ...model.Grant) error
	UpdateUser(ctx context.Context, id model.ID, change func(*model.User) error) error
	DeleteUser(ctx context.Context, id model.ID) error
	APIKeys(ctx context.Context, org model.ID) ([]model.APIKey, error)
	APIKey(ctx context.Context, id model.ID) (model.APIKey, error)
	APIKeyByPublic(ctx context.Context, public string) (model.APIKey, error)
	CreateAPIKey(ctx context.Context, k model.APIKey) error
	UpdateAPIKey(ctx context.Context, id model.ID, change func(*model.APIKey) error) error
	DeleteAPIKey(ctx context.Context, id model.ID) error
	GlobalAccessList(ctx context.Context) ([]model.AccessEntry, error)
	SetGlobalAccessList(ctx context.Context, entries []model.AccessEntry) error
	AgentKeys(ctx context.Context, group model.ID) ([]model.AgentKey, error)
	CreateAgentKey(ctx context.Context, k model.AgentKey) error
	DeleteAgentKey(ctx context.Context, group, id model.ID) error
	GroupByAgentKey(ctx context.Context, key string) (model.ID, error)
	ForgetGroup(ctx context.Context, group model.ID) error
}

// Series reads measurements.
type Series interface {
	Read(ctx context.Context, q series.Query) (series.Result, error)
	Dimensions(ctx context.Context, host model.HostID, scope catalog.Scope) ([]string, error)
}

// Events records what was done through the API.
type Events interface {
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Options are what the API needs from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Series    Series
	Events    Events
	Log       *slog.Logger
	Now       func() time.Time // nil means time.Now
	NonceKey  []byte           // shared by all servers of a site
	PublicURL string           // for links; empty: taken from the request
	Version   string
	Revision  string                         // 40 hexadecimal digits
	Upgrading func(ctx context.Context) bool // writes are refused while it holds; may be nil
}

func (o *Options) validate() error {
	if o.Inventory == nil || o.Access == nil || o.Series == nil || o.Events == nil || o.Log == nil || len(o.NonceKey) < 16 {
		return errors.New("the API needs Inventory, Access, Series, Events, Log and a NonceKey of at least 16 bytes")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// server holds the API's dependencies.
type server struct {
	Options
	nonces *auth.Nonces
	router router
}

// New returns the API as a handler for everything below /api/.
func New(o Options) (http.Handler, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("api options: %w", err)
	}
	s := &server{Options: o, nonces: auth.NewNonces(o.NonceKey, o.Now)}
	for _, routes := range [][]route{
		s.rootRoutes(), s.userRoutes(), s.orgRoutes(), s.groupRoutes(), s.agentRoutes(), s.hostRoutes(), s.clusterRoutes(),
		s.measurementRoutes(), s.keyRoutes(), s.accessListRoutes(),
	} {
		s.router.add(routes...)
	}
	return httpx.Gzip(s), nil
}

// call is one request on its way through the API.
type call struct {
	*server
	r    *http.Request
	w    http.ResponseWriter
	who  auth.Principal
	args []string // the path's variables, in order
	// The group or organization the path names, read and admitted before the handler runs.
	group model.Group
	org   model.Org
}

// ServeHTTP carries out the order of checks that clients rely on: credentials, address, membership and role, then the resource.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-MongoDB-Service-Version", "gitHash="+s.Revision+"; versionString="+serviceVersion(s.Version))
	w.Header().Set("Cache-Control", "no-store")
	c := &call{server: s, r: r, w: w}
	body, status, err := c.answer()
	if err != nil {
		c.writeError(err)
		return
	}
	c.write(status, body)
}

// serviceVersion is the version as clients parse it: cut at dots, the first part at least 6, so that they use programmatic keys.
func serviceVersion(v string) string {
	core, _, _ := strings.Cut(v, "-")
	return "8.0." + strings.ReplaceAll(core, ".", "") + ".20260101T0000Z"
}

func (c *call) answer() (body any, status int, err error) {
	path, below := strings.CutPrefix(c.r.URL.EscapedPath(), Prefix)
	if !below {
		if strings.TrimSuffix(c.r.URL.EscapedPath(), "/") == "/api/private/unauth/version" {
			return map[string]string{"version": c.Version}, http.StatusOK, nil
		}
		return nil, 0, notFoundPath(c.r)
	}
	rt, args, found := c.router.find(c.r.Method, path)
	if rt == nil || !rt.open {
		if err := c.authenticate(); err != nil {
			return nil, 0, err
		}
	}
	switch {
	case !found:
		return nil, 0, notFoundPath(c.r)
	case rt == nil:
		return nil, 0, fail(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "The method %s is not allowed for this resource.", c.r.Method)
	}
	c.args = args
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead && c.Upgrading != nil && c.Upgrading(c.r.Context()) {
		return nil, 0, fail(http.StatusMethodNotAllowed, "WRITES_NOT_ALLOWED_DURING_APP_UPGRADES", "Writes are not allowed while the application is being upgraded.")
	}
	if rt.scope != nil {
		if err := rt.scope(c, rt.perm); err != nil {
			return nil, 0, err
		}
	}
	body, err = rt.do(c)
	if status = rt.status; status == 0 {
		status = http.StatusOK
	}
	if body == nil {
		status = http.StatusNoContent
	}
	return body, status, err
}

// authenticate finds who calls, or challenges. Then the caller's address is held against the key's access list.
func (c *call) authenticate() error {
	ctx := c.r.Context()
	var key model.APIKey
	var lookupErr error
	_, stale, ok := c.nonces.Verify(c.r.Method, c.r.RequestURI, c.r.Header.Get("Authorization"), func(name string) (string, bool) {
		k, err := c.Access.APIKeyByPublic(ctx, name)
		if err != nil {
			if !isNotFound(err) {
				lookupErr = err
			}
			return "", false
		}
		key = k
		return k.HA1.Reveal(), true
	}, c.Now())
	if lookupErr != nil {
		return lookupErr
	}
	if !ok {
		httpx.Drain(c.r)
		c.w.Header().Set("WWW-Authenticate", c.nonces.Challenge(stale))
		return errUnauthenticated
	}
	c.who = auth.KeyPrincipal(&key)
	return c.admitAddress(ctx, &key)
}

// admitAddress applies the key's own list and, for keys with a global role, the site's.
func (c *call) admitAddress(ctx context.Context, key *model.APIKey) error {
	ip := httpx.ClientIP(ctx)
	if key.OrgID != "" {
		if len(key.AccessList) == 0 {
			org, err := c.Inventory.Org(ctx, key.OrgID)
			if err != nil && !isNotFound(err) {
				return err
			}
			if org.RequireAccessList {
				return fail(http.StatusForbidden, "ORG_REQUIRES_ACCESS_LIST", "The organization requires API keys to have an access list.")
			}
			return nil
		}
		i := matchEntry(key.AccessList, ip)
		if i < 0 {
			return fail(http.StatusForbidden, "IP_ADDRESS_NOT_ON_ACCESS_LIST", "IP address %s is not allowed to access this resource.", ip)
		}
		c.noteUse(ctx, key, i)
		return nil
	}
	list, err := c.Access.GlobalAccessList(ctx)
	if err != nil {
		return err
	}
	if len(list) > 0 && matchEntry(list, ip) < 0 {
		return fail(http.StatusForbidden, "GLOBAL_USER_OUTSIDE_SUBNET", "IP address %s is not in the global access list.", ip)
	}
	return nil
}

// useGrain is how exactly the last use of an access list entry is kept: writing it at every call would cost more than it tells.
const useGrain = time.Minute

func (c *call) noteUse(ctx context.Context, key *model.APIKey, i int) {
	now := c.Now().UTC()
	if now.Sub(key.AccessList[i].LastUsed) < useGrain {
		return
	}
	cidr := key.AccessList[i].CIDR
	err := c.Access.UpdateAPIKey(ctx, key.ID, func(k *model.APIKey) error {
		for j := range k.AccessList {
			if k.AccessList[j].CIDR == cidr {
				k.AccessList[j].LastUsed = now
				k.AccessList[j].Count++
			}
		}
		return nil
	})
	if err != nil {
		c.Log.WarnContext(ctx, "use of an access list entry not noted", obs.KeyErr, err)
	}
}

func matchEntry(list []model.AccessEntry, ip netip.Addr) int {
	for i, e := range list {
		if p, err := netip.ParsePrefix(e.CIDR); err == nil && p.Contains(ip.Unmap()) {
			return i
		}
	}
	return -1
}

// event records an action of the caller. An event that cannot be written does not undo what was done, so it is logged only.
func (c *call) event(e model.Event) {
	e.At, e.IP, e.APIKey = c.Now().UTC(), ipText(httpx.ClientIP(c.r.Context())), c.who.Name()
	if err := c.Events.AddEvents(c.r.Context(), e); err != nil {
		c.Log.ErrorContext(c.r.Context(), "event not written", obs.KeyErr, err, obs.KeyReason, string(e.Type))
	}
}

func ipText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}
