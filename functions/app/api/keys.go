package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

func (s *server) keyRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/orgs/{}/apiKeys", scope: inOrg, perm: auth.ViewOrg, do: (*call).orgKeys},
		{method: http.MethodPost, path: "/orgs/{}/apiKeys", scope: inOrg, perm: auth.ManageOrg, do: (*call).createOrgKey},
		{method: http.MethodGet, path: "/orgs/{}/apiKeys/{}", scope: inOrg, perm: auth.ViewOrg, do: (*call).oneKey},
		{method: http.MethodPatch, path: "/orgs/{}/apiKeys/{}", scope: inOrg, perm: auth.ManageOrg, do: (*call).patchKey},
		{method: http.MethodDelete, path: "/orgs/{}/apiKeys/{}", scope: inOrg, perm: auth.ManageOrg, do: (*call).deleteKey},
		{method: http.MethodGet, path: "/groups/{}/apiKeys", scope: inGroup, perm: auth.ManageUsers, do: (*call).groupKeys},
		{method: http.MethodPost, path: "/groups/{}/apiKeys", scope: inGroup, perm: auth.ManageUsers, do: (*call).createGroupKey},
		{method: http.MethodPatch, path: "/groups/{}/apiKeys/{}", scope: inGroup, perm: auth.ManageUsers, do: (*call).assignKey},
		{method: http.MethodDelete, path: "/groups/{}/apiKeys/{}", scope: inGroup, perm: auth.ManageUsers, do: (*call).unassignKey},
		{method: http.MethodGet, path: "/admin/apiKeys", scope: onSite, perm: auth.AdminView, do: (*call).globalKeys},
		{method: http.MethodPost, path: "/admin/apiKeys", scope: onSite, perm: auth.AdminUsers, do: (*call).createGlobalKey},
		{method: http.MethodGet, path: "/admin/apiKeys/roles", scope: onSite, perm: auth.AdminView, do: (*call).globalRoles},
		{method: http.MethodGet, path: "/admin/apiKeys/{}", scope: onSite, perm: auth.AdminView, do: (*call).oneKey},
		{method: http.MethodPatch, path: "/admin/apiKeys/{}", scope: onSite, perm: auth.AdminUsers, do: (*call).patchKey},
		{method: http.MethodDelete, path: "/admin/apiKeys/{}", scope: onSite, perm: auth.AdminUsers, do: (*call).deleteKey},
	}
}

// Bounds of API keys.
const (
	maxAPIKeyDesc = 250
	maxOrgKeys    = 500
)

// roleLevel says what each role is granted on.
var roleLevel = map[model.Role]string{
	model.GlobalOwner: "global", model.GlobalReadOnly: "global", model.GlobalUserAdmin: "global", model.GlobalMonitoringAdmin: "global", model.GlobalBackupAdmin: "global",
	model.OrgOwner: "org", model.OrgMember: "org", model.OrgGroupCreator: "org", model.OrgReadOnly: "org",
	model.GroupOwner: "group", model.GroupReadOnly: "group", model.GroupUserAdmin: "group", model.GroupMonitoringAdmin: "group", model.GroupBackupAdmin: "group",
}

// apiKey renders a key; private is its secret where this is the answer that shows it, else "".
func (c *call) apiKey(k model.APIKey, private string) object {
	if private == "" {
		private = "********-****-****-" + k.MaskedTail
	}
	href := c.href("admin", "apiKeys", string(k.ID))
	if k.OrgID != "" {
		href = c.href("orgs", string(k.OrgID), "apiKeys", string(k.ID))
	}
	return object{"id": k.ID, "desc": k.Desc, "publicKey": k.PublicKey, "privateKey": private, "roles": roles(k.Grants), "links": c.self(href)}
}

// makeKey makes and keeps a key; the private key is returned this once.
func (c *call) makeKey(ctx context.Context, org model.ID, desc string, grants []model.Grant) (model.APIKey, string, error) {
	public, private := auth.NewAPIKey()
	k := model.APIKey{
		ID: model.NewID(), OrgID: org, Desc: desc, PublicKey: public, HA1: model.Secret(auth.HA1(public, private)),
		MaskedTail: auth.MaskedTail(private), Grants: grants, Created: c.Now().UTC(),
	}
	err := c.Access.CreateAPIKey(ctx, k)
	for range 3 { // eight letters may be taken
		if !errors.Is(err, store.ErrExists) {
			break
		}
		public, private = auth.NewAPIKey()
		k.PublicKey, k.HA1, k.MaskedTail = public, model.Secret(auth.HA1(public, private)), auth.MaskedTail(private)
		err = c.Access.CreateAPIKey(ctx, k)
	}
	if err == nil {
		c.event(model.Event{Type: model.EventAPIKeyCreated, Text: "API key " + public + " was created: " + desc + "."})
	}
	return k, private, err
}

// keyBody is the body of POST and PATCH: roles come in as names and go out as objects.
type keyBody struct {
	ignored
	ID         string   `json:"id"`
	Desc       string   `json:"desc"`
	PublicKey  string   `json:"publicKey"`
	PrivateKey string   `json:"privateKey"`
	Roles      []string `json:"roles"`
}

func (in *keyBody) check(create bool) error {
	in.Desc = strings.TrimSpace(in.Desc)
	if create {
		if err := require("desc", in.Desc, "roles", len(in.Roles)); err != nil {
			return err
		}
	}
	if len(in.Desc) > maxAPIKeyDesc {
		return fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified: at most 250 characters.", "desc")
	}
	return nil
}

// grants turns role names into grants of one level.
func (in *keyBody) grants(level string, org, group model.ID) ([]model.Grant, error) {
	var out []model.Grant
	for _, name := range in.Roles {
		r := model.Role(name)
		if roleLevel[r] != level {
			return nil, fail(http.StatusBadRequest, "INVALID_ENUM_VALUE", "An invalid enumeration value %s was specified: a %s role is needed.", name, level)
		}
		g := model.Grant{Role: r, GroupID: group, OrgID: org}
		if !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out, nil
}

func (c *call) orgKeys() (any, error) {
	all, err := c.Access.APIKeys(c.r.Context(), c.org.ID)
	if err != nil {
		return nil, err
	}
	return page(c, all, func(k model.APIKey) object { return c.apiKey(k, "") })
}

func (c *call) globalKeys() (any, error) {
	all, err := c.Access.APIKeys(c.r.Context(), "")
	if err != nil {
		return nil, err
	}
	return page(c, all, func(k model.APIKey) object { return c.apiKey(k, "") })
}

func (c *call) createOrgKey() (any, error) {
	return c.createKey("org", c.org.ID, func(in *keyBody) ([]model.Grant, error) { return in.grants("org", c.org.ID, "") })
}

func (c *call) createGroupKey() (any, error) {
	return c.createKey("group", c.group.OrgID, func(in *keyBody) ([]model.Grant, error) { return in.grants("group", "", c.group.ID) })
}

func (c *call) createGlobalKey() (any, error) {
	return c.createKey("global", "", func(in *keyBody) ([]model.Grant, error) {
		if slices.Contains(in.Roles, string(model.GlobalOwner)) && !c.who.Can(auth.AdminServer, "", "") {
			return nil, fail(http.StatusForbidden, "CANNOT_ADD_GLOBAL_ROLE", "Only a global owner may grant %s.", model.GlobalOwner)
		}
		return in.grants("global", "", "")
	})
}

func (c *call) createKey(_ string, org model.ID, grants func(*keyBody) ([]model.Grant, error)) (any, error) {
	var in keyBody
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := in.check(true); err != nil {
		return nil, err
	}
	granted, err := grants(&in)
	if err != nil {
		return nil, err
	}
	ctx := c.r.Context()
	have, err := c.Access.APIKeys(ctx, org)
	if err != nil {
		return nil, err
	}
	if len(have) >= maxOrgKeys {
		return nil, fail(http.StatusForbidden, "MAX_PUBLIC_API_KEY_REACHED", "An organization has at most %d API keys.", maxOrgKeys)
	}
	k, private, err := c.makeKey(ctx, org, in.Desc, granted)
	if err != nil {
		return nil, err
	}
	return c.apiKey(k, private), nil
}

// key reads the key that the path's last key variable names, within the organization or site that the path is about.
func (c *call) key(id string, org model.ID) (model.APIKey, error) {
	if !model.ID(id).Valid() {
		return model.APIKey{}, fail(http.StatusNotFound, "INVALID_KEY_ID", "An invalid key ID %s was specified.", id)
	}
	k, err := c.Access.APIKey(c.r.Context(), model.ID(id))
	if isNotFound(err) || err == nil && k.OrgID != org {
		return k, fail(http.StatusBadRequest, "API_KEY_NOT_FOUND", "No API key with ID %s exists.", id)
	}
	return k, err
}

// pathKey is the key of a route below an organization or the site.
func (c *call) pathKey() (model.APIKey, error) { return c.key(c.args[len(c.args)-1], c.org.ID) }

func (c *call) oneKey() (any, error) {
	k, err := c.pathKey()
	if err != nil {
		return nil, err
	}
	return c.apiKey(k, ""), nil
}

func (c *call) patchKey() (any, error) {
	k, err := c.pathKey()
	if err != nil {
		return nil, err
	}
	var in keyBody
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := errors.Join(in.check(false), readOnly("id", in.ID, string(k.ID)), readOnly("publicKey", in.PublicKey, k.PublicKey)); err != nil {
		return nil, err
	}
	level := "org"
	if k.OrgID == "" {
		level = "global"
		if slices.Contains(in.Roles, string(model.GlobalOwner)) && !c.who.Can(auth.AdminServer, "", "") {
			return nil, fail(http.StatusForbidden, "CANNOT_ADD_GLOBAL_ROLE", "Only a global owner may grant %s.", model.GlobalOwner)
		}
	}
	granted, err := in.grants(level, k.OrgID, "")
	if err != nil {
		return nil, err
	}
	err = c.Access.UpdateAPIKey(c.r.Context(), k.ID, func(stored *model.APIKey) error {
		if in.Desc != "" {
			stored.Desc = in.Desc
		}
		if len(in.Roles) > 0 { // the roles in groups stay: they are changed there
			stored.Grants = append(slices.DeleteFunc(stored.Grants, func(g model.Grant) bool { return g.GroupID == "" }), granted...)
		}
		k = *stored
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.apiKey(k, ""), nil
}

func (c *call) deleteKey() (any, error) {
	k, err := c.pathKey()
	if err != nil {
		return nil, err
	}
	if err := c.Access.DeleteAPIKey(c.r.Context(), k.ID); err != nil && !isNotFound(err) {
		return nil, err
	}
	c.event(model.Event{Type: model.EventAPIKeyDeleted, Text: "API key " + k.PublicKey + " was deleted."})
	return nil, nil
}

func (c *call) groupKeys() (any, error) {
	all, err := c.Access.APIKeys(c.r.Context(), c.group.OrgID)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(k model.APIKey) bool {
		return !slices.ContainsFunc(k.Grants, func(g model.Grant) bool { return g.GroupID == c.group.ID })
	})
	return page(c, all, func(k model.APIKey) object { return c.apiKey(k, "") })
}

// assignKey gives a key of the organization its roles in the group.
func (c *call) assignKey() (any, error) {
	k, err := c.key(c.args[1], c.group.OrgID)
	if err != nil {
		return nil, err
	}
	var in keyBody
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := require("roles", len(in.Roles)); err != nil {
		return nil, err
	}
	granted, err := in.grants("group", "", c.group.ID)
	if err != nil {
		return nil, err
	}
	return c.regrant(k, granted)
}

func (c *call) unassignKey() (any, error) {
	k, err := c.key(c.args[1], c.group.OrgID)
	if err != nil {
		return nil, err
	}
	_, err = c.regrant(k, nil)
	return nil, err
}

// regrant replaces a key's roles in the group.
func (c *call) regrant(k model.APIKey, granted []model.Grant) (any, error) {
	err := c.Access.UpdateAPIKey(c.r.Context(), k.ID, func(stored *model.APIKey) error {
		stored.Grants = append(slices.DeleteFunc(stored.Grants, func(g model.Grant) bool { return g.GroupID == c.group.ID }), granted...)
		k = *stored
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.apiKey(k, ""), nil
}

func (c *call) globalRoles() (any, error) {
	var names []string
	for r, level := range roleLevel {
		if level == "global" {
			names = append(names, string(r))
		}
	}
	slices.Sort(names)
	return page(c, names, func(name string) object { return object{"roleName": name} })
}
