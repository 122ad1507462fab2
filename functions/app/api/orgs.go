package api

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

func (s *server) orgRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/orgs", do: (*call).orgs},
		{method: http.MethodPost, path: "/orgs", scope: onSite, perm: auth.AdminServer, do: (*call).createOrg},
		{method: http.MethodGet, path: "/orgs/{}", scope: inOrg, perm: auth.ViewOrg, do: func(c *call) (any, error) { return c.orgEntity(c.org), nil }},
		{method: http.MethodPatch, path: "/orgs/{}", scope: inOrg, perm: auth.ManageOrg, do: (*call).renameOrg},
		{method: http.MethodDelete, path: "/orgs/{}", scope: inOrg, perm: auth.ManageOrg, do: (*call).deleteOrg},
		{method: http.MethodGet, path: "/orgs/{}/groups", scope: inOrg, perm: auth.ViewOrg, do: (*call).orgGroups},
	}
}

func (c *call) orgEntity(o model.Org) object {
	return object{
		"id": o.ID, "name": o.Name, "isDeleted": false, "ldapGroupMappings": []object{},
		"links": c.self(c.href("orgs", string(o.ID)), rel("groups", c.href("orgs", string(o.ID), "groups"))),
	}
}

// namedLike filters by a case-insensitive prefix, the way the name parameters work.
func namedLike[T any](all []T, prefix string, name func(T) string) []T {
	if prefix == "" {
		return all
	}
	prefix = strings.ToLower(prefix)
	return slices.DeleteFunc(all, func(v T) bool { return !strings.HasPrefix(strings.ToLower(name(v)), prefix) })
}

func (c *call) orgs() (any, error) {
	all, err := c.Inventory.Orgs(c.r.Context())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(o model.Org) bool { return !c.who.InOrg(o.ID) })
	all = namedLike(all, c.r.URL.Query().Get("name"), func(o model.Org) string { return o.Name })
	return page(c, all, c.orgEntity)
}

// orgBody is the body of POST and PATCH.
type orgBody struct {
	ignored
	ID                string   `json:"id"`
	Name              string   `json:"name"`
	IsDeleted         bool     `json:"isDeleted"`
	LdapGroupMappings []object `json:"ldapGroupMappings"`
}

func (c *call) createOrg() (any, error) {
	var in orgBody
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := require("name", strings.TrimSpace(in.Name)); err != nil {
		return nil, err
	}
	o := model.Org{ID: model.NewID(), Name: strings.TrimSpace(in.Name), Created: c.Now().UTC()}
	if err := c.Inventory.CreateOrg(c.r.Context(), o); err != nil {
		return nil, err
	}
	// The creating key becomes the owner, so that it can go on; a global owner is one already.
	return c.orgEntity(o), nil
}

func (c *call) renameOrg() (any, error) {
	var in orgBody
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := readOnly("id", in.ID, string(c.org.ID)); err != nil {
		return nil, err
	}
	if in.Name != "" {
		err := c.Inventory.UpdateOrg(c.r.Context(), c.org.ID, func(o *model.Org) error {
			o.Name = strings.TrimSpace(in.Name)
			c.org = *o
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return c.orgEntity(c.org), nil
}

func (c *call) deleteOrg() (any, error) {
	groups, err := c.groupsOf(c.org.ID)
	if err != nil {
		return nil, err
	}
	if len(groups) > 0 {
		return nil, fail(http.StatusConflict, "CANNOT_DELETE_ORG_ACTIVE_GROUPS", "Organization %s still has %d groups.", c.org.ID, len(groups))
	}
	if err := c.Inventory.DeleteOrg(c.r.Context(), c.org.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return nil, nil
}

func (c *call) groupsOf(org model.ID) ([]model.Group, error) {
	all, err := c.Inventory.Groups(c.r.Context())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(g model.Group) bool { return g.OrgID != org }), nil
}

func (c *call) orgGroups() (any, error) {
	all, err := c.groupsOf(c.org.ID)
	if err != nil {
		return nil, err
	}
	return c.groupList(namedLike(all, c.r.URL.Query().Get("name"), func(g model.Group) string { return g.Name }))
}
