package people

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

func keyRoutes(h handler) []rest.Route {
	return []rest.Route{
		{Method: http.MethodGet, Path: "/orgs/{}/apiKeys", Scope: rest.InOrg, Perm: auth.ViewOrg, Do: h((*call).orgKeys)},
		{Method: http.MethodPost, Path: "/orgs/{}/apiKeys", Scope: rest.InOrg, Perm: auth.ManageOrg, Do: h((*call).createOrgKey)},
		{Method: http.MethodGet, Path: "/orgs/{}/apiKeys/{}", Scope: rest.InOrg, Perm: auth.ViewOrg, Do: h((*call).oneKey)},
		{Method: http.MethodPatch, Path: "/orgs/{}/apiKeys/{}", Scope: rest.InOrg, Perm: auth.ManageOrg, Do: h((*call).patchKey)},
		{Method: http.MethodDelete, Path: "/orgs/{}/apiKeys/{}", Scope: rest.InOrg, Perm: auth.ManageOrg, Do: h((*call).deleteKey)},
		{Method: http.MethodGet, Path: "/groups/{}/apiKeys", Scope: rest.InGroup, Perm: auth.ManageUsers, Do: h((*call).groupKeys)},
		{Method: http.MethodPost, Path: "/groups/{}/apiKeys", Scope: rest.InGroup, Perm: auth.ManageUsers, Do: h((*call).createGroupKey)},
		{Method: http.MethodPatch, Path: "/groups/{}/apiKeys/{}", Scope: rest.InGroup, Perm: auth.ManageUsers, Do: h((*call).assignKey)},
		{Method: http.MethodDelete, Path: "/groups/{}/apiKeys/{}", Scope: rest.InGroup, Perm: auth.ManageUsers, Do: h((*call).unassignKey)},
		{Method: http.MethodGet, Path: "/admin/apiKeys", Scope: rest.OnSite, Perm: auth.AdminView, Do: h((*call).globalKeys)},
		{Method: http.MethodPost, Path: "/admin/apiKeys", Scope: rest.OnSite, Perm: auth.AdminUsers, Do: h((*call).createGlobalKey)},
		{Method: http.MethodGet, Path: "/admin/apiKeys/roles", Scope: rest.OnSite, Perm: auth.AdminView, Do: h((*call).globalRoles)},
		{Method: http.MethodGet, Path: "/admin/apiKeys/{}", Scope: rest.OnSite, Perm: auth.AdminView, Do: h((*call).oneKey)},
		{Method: http.MethodPatch, Path: "/admin/apiKeys/{}", Scope: rest.OnSite, Perm: auth.AdminUsers, Do: h((*call).patchKey)},
		{Method: http.MethodDelete, Path: "/admin/apiKeys/{}", Scope: rest.OnSite, Perm: auth.AdminUsers, Do: h((*call).deleteKey)},
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
	model.GlobalAutomationAdmin: "global",
	model.OrgOwner:              "org", model.OrgMember: "org", model.OrgGroupCreator: "org", model.OrgReadOnly: "org",
	model.GroupOwner: "group", model.GroupReadOnly: "group", model.GroupUserAdmin: "group", model.GroupMonitoringAdmin: "group", model.GroupBackupAdmin: "group",
	model.GroupAutomationAdmin: "group", model.GroupDataAccessAdmin: "group", model.GroupDataAccessWrite: "group", model.GroupDataAccessRead: "group",
}

// apiKey renders a key; private is its secret where this is the answer that shows it, else "".
func (c *call) apiKey(k model.APIKey, private string) rest.Object {
	if private == "" {
		private = "********-****-****-" + k.MaskedTail
	}
	href := c.Href("admin", "apiKeys", string(k.ID))
	if k.OrgID != "" {
		href = c.Href("orgs", string(k.OrgID), "apiKeys", string(k.ID))
	}
	return rest.Object{"id": k.ID, "desc": k.Desc, "publicKey": k.PublicKey, "privateKey": private, "roles": roles(k.Grants), "links": c.Self(href)}
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
		c.Event(model.Event{Type: model.EventAPIKeyCreated, OrgID: org, TargetKey: public, Text: "API key " + public + " was created: " + desc + "."})
	}
	return k, private, err
}

// keyBody is the body of POST and PATCH: roles come in as names and go out as objects.
type keyBody struct {
	rest.Ignored
	ID         string   `json:"id"`
	Desc       string   `json:"desc"`
	PublicKey  string   `json:"publicKey"`
	PrivateKey string   `json:"privateKey"`
	Roles      []string `json:"roles"`
}

func (in *keyBody) check(create bool) error {
	in.Desc = strings.TrimSpace(in.Desc)
	if create {
		if err := rest.Require("desc", in.Desc, "roles", len(in.Roles)); err != nil {
			return err
		}
	}
	if utf8.RuneCountInString(in.Desc) > maxAPIKeyDesc {
		return rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified: at most 250 characters.", "desc")
	}
	return nil
}

// grants turns role names into grants of one level.
func (in *keyBody) grants(level string, org, group model.ID) ([]model.Grant, error) {
	var out []model.Grant
	for _, name := range in.Roles {
		r := model.Role(name)
		if roleLevel[r] != level {
			return nil, rest.Fail(http.StatusBadRequest, "INVALID_ENUM_VALUE", "An invalid enumeration value %s was specified: a %s role is needed.", name, level)
		}
		g := model.Grant{Role: r, GroupID: group, OrgID: org}
		if !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out, nil
}

func (c *call) orgKeys() (any, error) {
	all, err := c.Access.APIKeys(c.R.Context(), c.Org.ID)
	if err != nil {
		return nil, err
	}
	return rest.Page(c.Call, all, func(k model.APIKey) rest.Object { return c.apiKey(k, "") })
}

func (c *call) globalKeys() (any, error) {
	all, err := c.Access.APIKeys(c.R.Context(), "")
	if err != nil {
		return nil, err
	}
	return rest.Page(c.Call, all, func(k model.APIKey) rest.Object { return c.apiKey(k, "") })
}

func (c *call) createOrgKey() (any, error) {
	return c.createKey(c.Org.ID, func(in *keyBody) ([]model.Grant, error) { return in.grants("org", c.Org.ID, "") })
}

// createGroupKey makes a key in the group's organization, of which it becomes a member: clients look the organization up on their
// way to the group.
func (c *call) createGroupKey() (any, error) {
	return c.createKey(c.Group.OrgID, func(in *keyBody) ([]model.Grant, error) {
		granted, err := in.grants("group", "", c.Group.ID)
		return append(granted, model.Grant{Role: model.OrgMember, OrgID: c.Group.OrgID}), err
	})
}

func (c *call) createGlobalKey() (any, error) {
	return c.createKey("", func(in *keyBody) ([]model.Grant, error) {
		if slices.Contains(in.Roles, string(model.GlobalOwner)) && !c.Who.Can(auth.AdminServer, "", "") {
			return nil, rest.Fail(http.StatusForbidden, "CANNOT_ADD_GLOBAL_ROLE", "Only a global owner may grant %s.", model.GlobalOwner)
		}
		return in.grants("global", "", "")
	})
}

func (c *call) createKey(org model.ID, grants func(*keyBody) ([]model.Grant, error)) (any, error) {
	var in keyBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if err := in.check(true); err != nil {
		return nil, err
	}
	granted, err := grants(&in)
	if err != nil {
		return nil, err
	}
	ctx := c.R.Context()
	have, err := c.Access.APIKeys(ctx, org)
	if err != nil {
		return nil, err
	}
	if len(have) >= maxOrgKeys {
		return nil, rest.Fail(http.StatusForbidden, "MAX_PUBLIC_API_KEY_REACHED", "An organization has at most %d API keys.", maxOrgKeys)
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
		return model.APIKey{}, rest.Fail(http.StatusNotFound, "INVALID_KEY_ID", "An invalid key ID %s was specified.", id)
	}
	k, err := c.Access.APIKey(c.R.Context(), model.ID(id))
	if rest.IsNotFound(err) || err == nil && k.OrgID != org {
		return k, rest.Fail(http.StatusBadRequest, "API_KEY_NOT_FOUND", "No API key with ID %s exists.", id)
	}
	return k, err
}

// pathKey is the key of a route below an organization or the site.
func (c *call) pathKey() (model.APIKey, error) { return c.key(c.Args[len(c.Args)-1], c.Org.ID) }

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
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if err := errors.Join(in.check(false), rest.ReadOnly("id", in.ID, string(k.ID)), rest.ReadOnly("publicKey", in.PublicKey, k.PublicKey)); err != nil {
		return nil, err
	}
	level := "org"
	if k.OrgID == "" {
		level = "global"
		if slices.Contains(in.Roles, string(model.GlobalOwner)) && !c.Who.Can(auth.AdminServer, "", "") {
			return nil, rest.Fail(http.StatusForbidden, "CANNOT_ADD_GLOBAL_ROLE", "Only a global owner may grant %s.", model.GlobalOwner)
		}
	}
	granted, err := in.grants(level, k.OrgID, "")
	if err != nil {
		return nil, err
	}
	err = c.Access.UpdateAPIKey(c.R.Context(), k.ID, func(stored *model.APIKey) error {
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
	c.Event(model.Event{Type: model.EventAPIKeyChanged, OrgID: k.OrgID, TargetKey: k.PublicKey, Text: "The description or the roles of API key " + k.PublicKey + " were changed."})
	return c.apiKey(k, ""), nil
}

func (c *call) deleteKey() (any, error) {
	k, err := c.pathKey()
	if err != nil {
		return nil, err
	}
	if err := c.Access.DeleteAPIKey(c.R.Context(), k.ID); err != nil && !rest.IsNotFound(err) {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventAPIKeyDeleted, OrgID: k.OrgID, TargetKey: k.PublicKey, Text: "API key " + k.PublicKey + " was deleted."})
	return nil, nil
}

func (c *call) groupKeys() (any, error) {
	all, err := c.Access.APIKeys(c.R.Context(), c.Group.OrgID)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(k model.APIKey) bool {
		return !slices.ContainsFunc(k.Grants, func(g model.Grant) bool { return g.GroupID == c.Group.ID })
	})
	return rest.Page(c.Call, all, func(k model.APIKey) rest.Object { return c.apiKey(k, "") })
}

// assignKey gives a key of the organization its roles in the group.
func (c *call) assignKey() (any, error) {
	k, err := c.key(c.Args[1], c.Group.OrgID)
	if err != nil {
		return nil, err
	}
	var in keyBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if err := rest.Require("roles", len(in.Roles)); err != nil {
		return nil, err
	}
	granted, err := in.grants("group", "", c.Group.ID)
	if err != nil {
		return nil, err
	}
	return c.regrant(k, granted)
}

func (c *call) unassignKey() (any, error) {
	k, err := c.key(c.Args[1], c.Group.OrgID)
	if err != nil {
		return nil, err
	}
	_, err = c.regrant(k, nil)
	return nil, err
}

// regrant replaces a key's roles in the group.
func (c *call) regrant(k model.APIKey, granted []model.Grant) (any, error) {
	err := c.Access.UpdateAPIKey(c.R.Context(), k.ID, func(stored *model.APIKey) error {
		stored.Grants = append(slices.DeleteFunc(stored.Grants, func(g model.Grant) bool { return g.GroupID == c.Group.ID }), granted...)
		k = *stored
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventAPIKeyChanged, GroupID: c.Group.ID, OrgID: k.OrgID, TargetKey: k.PublicKey, Text: "The roles of API key " + k.PublicKey + " in group " + c.Group.Name + " were changed."})
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
	return rest.Page(c.Call, names, func(name string) rest.Object { return rest.Object{"roleName": name} })
}
