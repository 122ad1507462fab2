// Package rest is what every resource of the Public API shares: routes and the order of checks, digest authentication and
// access lists, bodies in, entities, lists, links and errors out. It knows no resource.
package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// Prefix is where the API lives below the server's root.
const Prefix = "/api/public/v1.0"

// maxBody bounds request bodies.
const maxBody = 1 << 20

// Inventory finds what paths name.
type Inventory interface {
	Group(ctx context.Context, id model.ID) (model.Group, error)
	Org(ctx context.Context, id model.ID) (model.Org, error)
}

// Keys finds who calls.
type Keys interface {
	APIKeyByPublic(ctx context.Context, public string) (model.APIKey, error)
	UpdateAPIKey(ctx context.Context, id model.ID, change func(*model.APIKey) error) error
	GlobalAccessList(ctx context.Context) ([]model.AccessEntry, error)
}

// Events records what was done through the API.
type Events interface {
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Options are what the API needs from outside, whatever the resource.
type Options struct {
	Inventory Inventory
	Keys      Keys
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
	if o.Inventory == nil || o.Keys == nil || o.Events == nil || o.Log == nil || len(o.NonceKey) < 16 {
		return errors.New("the API needs Inventory, Keys, Events, Log and a NonceKey of at least 16 bytes")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// server answers for all routes.
type server struct {
	Options
	nonces *auth.Nonces
	router router
	prefix string // the path of PublicURL: a proxy in front may strip it, while clients sign it
}

// New returns the API with the routes of all its resources as a handler for everything below /api/.
func New(o Options, resources ...[]Route) (http.Handler, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("api options: %w", err)
	}
	s := &server{Options: o, nonces: auth.NewNonces(o.NonceKey, o.Now)}
	if u, err := url.Parse(o.PublicURL); err == nil {
		s.prefix = strings.TrimRight(u.EscapedPath(), "/")
	}
	for _, routes := range resources {
		s.router.add(routes...)
	}
	return httpx.Gzip(s), nil
}

// Call is one request on its way through the API.
type Call struct {
	*server
	R    *http.Request
	W    http.ResponseWriter
	Who  auth.Principal
	Args []string // the path's variables, in order
	// The group or organization the path names, read and admitted before the handler runs.
	Group model.Group
	Org   model.Org
}

// ServeHTTP carries out the order of checks that clients rely on: credentials, address, membership and role, then the resource.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-MongoDB-Service-Version", "gitHash="+s.Revision+"; versionString="+serviceVersion(s.Version))
	w.Header().Set("Cache-Control", "no-store")
	c := &Call{server: s, R: r, W: w}
	body, status, err := c.answer()
	if err != nil {
		c.writeError(err)
		return
	}
	c.write(status, body)
}

// serviceVersion is the version as clients parse it: cut at dots, the first part at least 6, so that they use programmatic keys.
func serviceVersion(v string) string {
	if i := strings.IndexAny(v, "-+"); i >= 0 {
		v = v[:i]
	}
	return "8.0.0." + strings.ReplaceAll(v, ".", "") + ".20260101T0000Z"
}

func (c *Call) answer() (body any, status int, err error) {
	path, below := strings.CutPrefix(c.R.URL.EscapedPath(), Prefix)
	if !below || path != "" && path[0] != '/' {
		if strings.TrimSuffix(c.R.URL.EscapedPath(), "/") == "/api/private/unauth/version" {
			return map[string]string{"version": c.Version}, http.StatusOK, nil
		}
		return nil, 0, notFoundPath(c.R)
	}
	rt, args, allowed := c.router.find(c.R.Method, path)
	if rt == nil || !rt.Open {
		if err := c.authenticate(); err != nil {
			return nil, 0, err
		}
	}
	switch {
	case len(allowed) == 0:
		return nil, 0, notFoundPath(c.R)
	case rt == nil:
		c.W.Header().Set("Allow", strings.Join(allowed, ", "))
		return nil, 0, Fail(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "The method %s is not allowed for this resource.", c.R.Method)
	}
	for _, flag := range []string{"pretty", "envelope"} {
		if _, err := boolQuery(c.R.URL.Query(), flag, false); err != nil {
			return nil, 0, err
		}
	}
	c.Args = args
	if c.R.Method != http.MethodGet && c.R.Method != http.MethodHead && c.Upgrading != nil && c.Upgrading(c.R.Context()) {
		return nil, 0, Fail(http.StatusMethodNotAllowed, "WRITES_NOT_ALLOWED_DURING_APP_UPGRADES", "Writes are not allowed while the application is being upgraded.")
	}
	if rt.Scope != nil {
		if err := rt.Scope(c, rt.Perm); err != nil {
			return nil, 0, err
		}
	}
	body, err = rt.Do(c)
	if status = rt.Status; status == 0 {
		status = http.StatusOK
	}
	if body == nil {
		status = http.StatusNoContent
	}
	return body, status, err
}

// authenticate finds who calls, or challenges. Then the caller's address is held against the key's access list.
func (c *Call) authenticate() error {
	ctx := c.R.Context()
	var key model.APIKey
	var lookupErr error
	lookup := func(name string) (string, bool) {
		k, err := c.Keys.APIKeyByPublic(ctx, name)
		if err != nil {
			if !IsNotFound(err) {
				lookupErr = err
			}
			return "", false
		}
		key = k
		return k.HA1.Reveal(), true
	}
	_, stale, ok := c.nonces.Verify(c.R.Method, c.R.RequestURI, c.R.Header.Get("Authorization"), lookup, c.Now())
	if !ok && !stale && lookupErr == nil && c.prefix != "" {
		_, stale, ok = c.nonces.Verify(c.R.Method, c.prefix+c.R.RequestURI, c.R.Header.Get("Authorization"), lookup, c.Now())
	}
	if lookupErr != nil {
		return lookupErr
	}
	if !ok {
		httpx.Drain(c.R)
		c.W.Header().Set("WWW-Authenticate", c.nonces.Challenge(stale))
		return errUnauthenticated
	}
	c.Who = auth.KeyPrincipal(&key)
	return c.admitAddress(ctx, &key)
}

// admitAddress applies the key's own list and, for keys with a global role, the site's.
func (c *Call) admitAddress(ctx context.Context, key *model.APIKey) error {
	ip := httpx.ClientIP(ctx)
	if key.OrgID != "" {
		if len(key.AccessList) == 0 {
			org, err := c.Inventory.Org(ctx, key.OrgID)
			if err != nil && !IsNotFound(err) {
				return err
			}
			if org.RequireAccessList {
				return Fail(http.StatusForbidden, "ORG_REQUIRES_ACCESS_LIST", "The organization requires API keys to have an access list.")
			}
			return nil
		}
		i := MatchEntry(key.AccessList, ip)
		if i < 0 {
			return Fail(http.StatusForbidden, "IP_ADDRESS_NOT_ON_ACCESS_LIST", "IP address %s is not allowed to access this resource.", ip)
		}
		c.noteUse(ctx, key, i)
		return nil
	}
	entries, err := c.Keys.GlobalAccessList(ctx)
	if err != nil {
		return err
	}
	if len(entries) > 0 && MatchEntry(entries, ip) < 0 {
		return Fail(http.StatusForbidden, "GLOBAL_USER_OUTSIDE_SUBNET", "IP address %s is not in the global access list.", ip)
	}
	return nil
}

// useGrain is how exactly the last use of an access list entry is kept: writing it at every call would cost more than it tells.
const useGrain = time.Minute

func (c *Call) noteUse(ctx context.Context, key *model.APIKey, i int) {
	now := c.Now().UTC()
	if now.Sub(key.AccessList[i].LastUsed) < useGrain {
		return
	}
	cidr := key.AccessList[i].CIDR
	err := c.Keys.UpdateAPIKey(ctx, key.ID, func(k *model.APIKey) error {
		for j := range k.AccessList {
			if k.AccessList[j].CIDR == cidr {
				k.AccessList[j].LastUsed, k.AccessList[j].LastIP = now, c.CallerIP()
				k.AccessList[j].Count++
			}
		}
		return nil
	})
	if err != nil {
		c.Log.WarnContext(ctx, "use of an access list entry not noted", obs.KeyErr, err)
	}
}

// MatchEntry finds the entry of an access list that holds an address, or -1.
func MatchEntry(entries []model.AccessEntry, ip netip.Addr) int {
	for i, e := range entries {
		if p, err := netip.ParsePrefix(e.CIDR); err == nil && p.Contains(ip.Unmap()) {
			return i
		}
	}
	return -1
}

// Event records an action of the caller. An event that cannot be written does not undo what was done, so it is logged only.
func (c *Call) Event(e model.Event) {
	e.At, e.IP, e.APIKey, e.Global = c.Now().UTC(), ipText(httpx.ClientIP(c.R.Context())), c.Who.Name(), c.Who.Global()
	if c.Who.Key != nil {
		e.APIKeyID = c.Who.Key.ID
	}
	if err := c.Events.AddEvents(c.R.Context(), e); err != nil {
		c.Log.ErrorContext(c.R.Context(), "event not written", obs.KeyErr, err, obs.KeyReason, string(e.Type))
	}
}

// CallerIP is the caller's address for the records.
func (c *Call) CallerIP() string { return ipText(httpx.ClientIP(c.R.Context())) }

func ipText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}
