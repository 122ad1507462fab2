package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Route is one method and path of the API. The path is below Prefix; a segment "{}" is a variable, "{slashes}" one whose
// slashes may come unescaped, as clients send networks and mount points.
type Route struct {
	Method string
	Path   string
	Open   bool                                      // needs no credentials
	Scope  func(c *Call, perm auth.Permission) error // admits the caller; nil: every key may call
	Perm   auth.Permission
	Status int // of a good answer with a body; 0 is 200
	Do     func(c *Call) (any, error)
}

// router finds routes on the escaped path, segment by segment, so that an escaped slash stays in its segment. A trailing slash
// does not matter and is never redirected: that would break the digest.
type router struct{ routes []Route }

func (rt *router) add(routes ...Route) { rt.routes = append(rt.routes, routes...) }

// find returns the route and its variables. allowed are the methods of the path; none means that there is no such path. Literal
// segments win over variables because they are registered first within a resource.
func (rt *router) find(method, escaped string) (match *Route, args, allowed []string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	segments := split(escaped)
	for i := range rt.routes {
		r := &rt.routes[i]
		got, ok := r.match(segments)
		if !ok {
			continue
		}
		if r.Method == method {
			return r, got, []string{method}
		}
		if !slices.Contains(allowed, r.Method) {
			allowed = append(allowed, r.Method)
		}
		if r.Method == http.MethodGet && !slices.Contains(allowed, http.MethodHead) {
			allowed = append(allowed, http.MethodHead)
		}
	}
	return nil, nil, allowed
}

func split(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func (r *Route) match(segments []string) (args []string, ok bool) {
	want := split(r.Path)
	if more := len(segments) - len(want); more > 0 {
		if k := slices.Index(want, "{slashes}"); k >= 0 {
			whole := strings.Join(segments[k:k+more+1], "/")
			segments = slices.Concat(segments[:k], []string{whole}, segments[k+more+1:])
		}
	}
	if len(segments) != len(want) {
		return nil, false
	}
	for i, w := range want {
		s, err := url.PathUnescape(segments[i])
		if err != nil {
			return nil, false
		}
		if strings.HasPrefix(w, "{") {
			args = append(args, s)
		} else if s != w {
			return nil, false
		}
	}
	return args, true
}

// InGroup admits the caller to the group that is the path's first variable.
func InGroup(c *Call, perm auth.Permission) error {
	id := model.ID(c.Args[0])
	if !id.Valid() {
		return Fail(http.StatusNotFound, "INVALID_GROUP_ID", "An invalid group ID %s was specified.", id)
	}
	g, err := c.Inventory.Group(c.R.Context(), id)
	if IsNotFound(err) {
		if c.Who.Global() {
			return Fail(http.StatusNotFound, "GROUP_NOT_FOUND", "No group with ID %s exists.", id)
		}
		return notInGroup(id)
	}
	if err != nil {
		return err
	}
	if !c.Who.InGroup(g.ID, g.OrgID) {
		return notInGroup(id)
	}
	if !c.Who.Can(perm, g.ID, g.OrgID) {
		return ErrUnauthorized
	}
	c.Group = g
	return nil
}

func notInGroup(id model.ID) error {
	return Fail(http.StatusUnauthorized, "NOT_IN_GROUP", "The current user is not in the group, or the group does not exist: %s.", id)
}

// InOrg admits the caller to the organization that is the path's first variable.
func InOrg(c *Call, perm auth.Permission) error {
	id := model.ID(c.Args[0])
	if !id.Valid() {
		return Fail(http.StatusNotFound, "INVALID_ORG_ID", "An invalid organization ID %s was specified.", id)
	}
	o, err := c.Inventory.Org(c.R.Context(), id)
	if IsNotFound(err) {
		return Fail(http.StatusNotFound, "ORG_NOT_FOUND", "No organization with ID %s exists.", id)
	}
	if err != nil {
		return err
	}
	if !c.Who.InOrg(o.ID) {
		return Fail(http.StatusUnauthorized, "NOT_ORG_ADMIN", "The current user is not a member of organization %s.", id)
	}
	if !c.Who.Can(perm, "", o.ID) {
		return Fail(http.StatusUnauthorized, "NOT_ORG_OWNER", "The current user does not own organization %s.", id)
	}
	c.Org = o
	return nil
}

// OnSite admits callers with a permission on the whole site.
func OnSite(c *Call, perm auth.Permission) error {
	if !c.Who.Can(perm, "", "") {
		return ErrUnauthorized
	}
	return nil
}
