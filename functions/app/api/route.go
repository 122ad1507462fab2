package api

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
)

// route is one method and path of the API. The path is below Prefix; a segment "{}" is a variable, "{cidr}" one that may also
// come as two segments because clients do not escape the slash.
type route struct {
	method string
	path   string
	open   bool // needs no credentials
	scope  func(c *call, perm auth.Permission) error
	perm   auth.Permission
	status int // of a good answer with a body; 0 is 200
	do     func(c *call) (any, error)
}

// router finds routes on the escaped path, segment by segment, so that an escaped slash stays in its segment. A trailing slash
// does not matter and is never redirected: that would break the digest.
type router struct{ routes []route }

func (rt *router) add(routes ...route) { rt.routes = append(rt.routes, routes...) }

// find returns the route and its variables. found says that the path exists; a nil route then means another method. Literal
// segments win over variables because they are registered first within a resource.
func (rt *router) find(method, escaped string) (match *route, args []string, found bool) {
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
		found = true
		if r.method == method {
			return r, got, true
		}
	}
	return nil, nil, found
}

func split(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func (r *route) match(segments []string) (args []string, ok bool) {
	want := split(r.path)
	if n := len(want); n > 0 && want[n-1] == "{cidr}" && len(segments) == n+1 {
		segments = append(segments[:n-1:n-1], segments[n-1]+"/"+segments[n])
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

// inGroup admits the caller to the group that is the path's first variable.
func inGroup(c *call, perm auth.Permission) error {
	id := model.ID(c.args[0])
	if !id.Valid() {
		return fail(http.StatusNotFound, "INVALID_GROUP_ID", "An invalid group ID %s was specified.", id)
	}
	g, err := c.Inventory.Group(c.r.Context(), id)
	if isNotFound(err) {
		if c.who.Global() {
			return fail(http.StatusNotFound, "GROUP_NOT_FOUND", "No group with ID %s exists.", id)
		}
		return notInGroup(id)
	}
	if err != nil {
		return err
	}
	if !c.who.InGroup(g.ID, g.OrgID) {
		return notInGroup(id)
	}
	if !c.who.Can(perm, g.ID, g.OrgID) {
		return errUnauthorized
	}
	c.group = g
	return nil
}

func notInGroup(id model.ID) error {
	return fail(http.StatusUnauthorized, "NOT_IN_GROUP", "The current user is not in the group, or the group does not exist: %s.", id)
}

// inOrg admits the caller to the organization that is the path's first variable.
func inOrg(c *call, perm auth.Permission) error {
	id := model.ID(c.args[0])
	if !id.Valid() {
		return fail(http.StatusNotFound, "INVALID_ORG_ID", "An invalid organization ID %s was specified.", id)
	}
	o, err := c.Inventory.Org(c.r.Context(), id)
	if isNotFound(err) {
		return fail(http.StatusNotFound, "ORG_NOT_FOUND", "No organization with ID %s exists.", id)
	}
	if err != nil {
		return err
	}
	if !c.who.InOrg(o.ID) {
		return fail(http.StatusUnauthorized, "NOT_ORG_ADMIN", "The current user is not a member of organization %s.", id)
	}
	if !c.who.Can(perm, "", o.ID) {
		return fail(http.StatusUnauthorized, "NOT_ORG_OWNER", "The current user does not own organization %s.", id)
	}
	c.org = o
	return nil
}

// onSite admits callers with a permission on the whole site.
func onSite(c *call, perm auth.Permission) error {
	if !c.who.Can(perm, "", "") {
		return errUnauthorized
	}
	return nil
}
