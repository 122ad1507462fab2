package people

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

func orgRoutes(h handler) []rest.Route {
	return []rest.Route{
		{Method: http.MethodGet, Path: "/orgs", Do: h((*call).orgs)},
		{Method: http.MethodPost, Path: "/orgs", Scope: rest.OnSite, Perm: auth.AdminServer, Do: h((*call).createOrg)},
		{Method: http.MethodGet, Path: "/orgs/{}", Scope: rest.InOrg, Perm: auth.ViewOrg, Do: h(func(c *call) (any, error) { return c.orgEntity(c.Org), nil })},
		{Method: http.MethodPatch, Path: "/orgs/{}", Scope: rest.InOrg, Perm: auth.ManageOrg, Do: h((*call).renameOrg)},
		{Method: http.MethodDelete, Path: "/orgs/{}", Scope: rest.InOrg, Perm: auth.ManageOrg, Do: h((*call).deleteOrg)},
	}
}

func (c *call) orgEntity(o model.Org) rest.Object {
	return rest.Object{
		"id": o.ID, "name": o.Name, "isDeleted": false, "ldapGroupMappings": []rest.Object{},
		"links": c.Self(c.Href("orgs", string(o.ID)), rest.Rel("groups", c.Href("orgs", string(o.ID), "groups"))),
	}
}

func (c *call) orgs() (any, error) {
	all, err := c.Inventory.Orgs(c.R.Context())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(o model.Org) bool { return !c.Who.InOrg(o.ID) })
	all = rest.NamedLike(all, c.R.URL.Query().Get("name"), func(o model.Org) string { return o.Name })
	return rest.Page(c.Call, all, c.orgEntity)
}

// orgBody is the body of POST.
type orgBody struct {
	rest.Ignored
	ID                string        `json:"id"`
	Name              string        `json:"name"`
	IsDeleted         bool          `json:"isDeleted"`
	LdapGroupMappings []rest.Object `json:"ldapGroupMappings"`
}

func (c *call) createOrg() (any, error) {
	var in orgBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if err := rest.Require("name", strings.TrimSpace(in.Name)); err != nil {
		return nil, err
	}
	o := model.Org{ID: model.NewID(), Name: strings.TrimSpace(in.Name), Created: c.Now().UTC()}
	if err := c.Inventory.CreateOrg(c.R.Context(), o); err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventOrgCreated, OrgID: o.ID, Text: "Organization " + o.Name + " was created."})
	// The creating key becomes the owner, so that it can go on; a global owner is one already.
	return c.orgEntity(o), nil
}

func (c *call) renameOrg() (any, error) {
	var in struct {
		rest.Ignored
		Name              string        `json:"name"`
		LdapGroupMappings []rest.Object `json:"ldapGroupMappings"`
	}
	if err := c.DecodeOver(&in, c.orgEntity(c.Org)); err != nil {
		return nil, err
	}
	if name := strings.TrimSpace(in.Name); name != "" {
		old := c.Org.Name
		err := c.Inventory.UpdateOrg(c.R.Context(), c.Org.ID, func(o *model.Org) error {
			o.Name = name
			c.Org = *o
			return nil
		})
		if err != nil {
			return nil, err
		}
		c.Event(model.Event{Type: model.EventOrgRenamed, OrgID: c.Org.ID, Text: "Organization " + old + " was renamed to " + name + "."})
	}
	return c.orgEntity(c.Org), nil
}

func (c *call) deleteOrg() (any, error) {
	groups, err := c.Inventory.Groups(c.R.Context())
	if err != nil {
		return nil, err
	}
	groups = slices.DeleteFunc(groups, func(g model.Group) bool { return g.OrgID != c.Org.ID })
	if len(groups) > 0 {
		return nil, rest.Fail(http.StatusConflict, "CANNOT_DELETE_ORG_ACTIVE_GROUPS", "Organization %s still has %d groups.", c.Org.ID, len(groups))
	}
	if err := c.Inventory.DeleteOrg(c.R.Context(), c.Org.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err := c.Access.ForgetOrg(c.R.Context(), c.Org.ID); err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventOrgDeleted, OrgID: c.Org.ID, Text: "Organization " + c.Org.Name + " was deleted."})
	return nil, nil
}
