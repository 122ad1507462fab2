package people

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
)

func accessListRoutes(h handler) []rest.Route {
	var out []rest.Route
	for _, name := range []string{"accessList", "whitelist"} { // the second is how older clients spell it
		out = append(out,
			rest.Route{Method: http.MethodGet, Path: "/orgs/{}/apiKeys/{}/" + name, Scope: keyOwner, Do: h((*call).keyAccessList)},
			rest.Route{Method: http.MethodPost, Path: "/orgs/{}/apiKeys/{}/" + name, Scope: keyOwner, Do: h((*call).addKeyAccess)},
			rest.Route{Method: http.MethodGet, Path: "/orgs/{}/apiKeys/{}/" + name + "/{cidr}", Scope: keyOwner, Do: h((*call).oneKeyAccess)},
			rest.Route{Method: http.MethodDelete, Path: "/orgs/{}/apiKeys/{}/" + name + "/{cidr}", Scope: keyOwner, Do: h((*call).deleteKeyAccess)},
			rest.Route{Method: http.MethodGet, Path: "/admin/" + name, Scope: rest.OnSite, Perm: auth.AdminView, Do: h((*call).globalAccess)},
			rest.Route{Method: http.MethodPost, Path: "/admin/" + name, Scope: rest.OnSite, Perm: auth.AdminUsers, Do: h((*call).addGlobalAccess)},
			rest.Route{Method: http.MethodGet, Path: "/admin/" + name + "/{}", Scope: rest.OnSite, Perm: auth.AdminView, Do: h((*call).oneGlobalAccess)},
			rest.Route{Method: http.MethodPatch, Path: "/admin/" + name + "/{}", Scope: rest.OnSite, Perm: auth.AdminUsers, Do: h((*call).patchGlobalAccess)},
			rest.Route{Method: http.MethodDelete, Path: "/admin/" + name + "/{}", Scope: rest.OnSite, Perm: auth.AdminUsers, Do: h((*call).deleteGlobalAccess)},
		)
	}
	return out
}

// keyOwner admits the organization's owners and the key itself.
func keyOwner(c *rest.Call, _ auth.Permission) error {
	if c.Who.Key != nil && string(c.Who.Key.ID) == c.Args[1] && string(c.Who.Key.OrgID) == c.Args[0] {
		return rest.InOrg(c, auth.ViewOrg)
	}
	err := rest.InOrg(c, auth.ManageOrg)
	var e *rest.Error
	if errors.As(err, &e) && e.Code == "NOT_ORG_OWNER" {
		return rest.Fail(http.StatusBadRequest, "API_KEY_ACCESS_LIST_ACCESS_DENIED", "The current user may not access the access list of API key %s.", c.Args[1])
	}
	return err
}

func (c *call) keyAccessEntity(k model.APIKey, e model.AccessEntry) rest.Object {
	o := rest.Object{
		"cidrBlock": e.CIDR, "ipAddress": nil, "count": e.Count, "created": rest.ISOTime(e.Created),
		"links": c.Self(c.Href("orgs", string(k.OrgID), "apiKeys", string(k.ID), "accessList", e.CIDR)),
	}
	if p, err := netip.ParsePrefix(e.CIDR); err == nil && p.IsSingleIP() {
		o["ipAddress"] = p.Addr().String()
	}
	rest.PutTime(o, "lastUsed", e.LastUsed)
	return o
}

func (c *call) keyAccessList() (any, error) {
	k, err := c.key(c.Args[1], c.Org.ID)
	if err != nil {
		return nil, err
	}
	return c.keyAccessPage(k)
}

func (c *call) keyAccessPage(k model.APIKey) (any, error) {
	return rest.Page(c.Call, k.AccessList, func(e model.AccessEntry) rest.Object { return c.keyAccessEntity(k, e) })
}

// accessBody is one entry of a request.
type accessBody struct {
	rest.Ignored
	IPAddress       string `json:"ipAddress"`
	CIDRBlock       string `json:"cidrBlock"`
	Count           int64  `json:"count"`
	Created         string `json:"created"`
	LastUsed        string `json:"lastUsed"`
	LastUsedAddress string `json:"lastUsedAddress"`
}

func (b accessBody) network() (netip.Prefix, error) {
	if (b.IPAddress == "") == (b.CIDRBlock == "") {
		return netip.Prefix{}, rest.Fail(http.StatusBadRequest, "BAD_ACCESS_LIST_ADD_REQUEST", "Exactly one of ipAddress and cidrBlock must be specified.")
	}
	text := cmp.Or(b.IPAddress, b.CIDRBlock)
	p, ok := parseNetwork(text)
	if !ok {
		return p, rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified.", text)
	}
	return p, nil
}

func (c *call) addKeyAccess() (any, error) {
	k, err := c.key(c.Args[1], c.Org.ID)
	if err != nil {
		return nil, err
	}
	var in []accessBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var add []model.AccessEntry
	for _, b := range in {
		p, err := b.network()
		if err != nil {
			return nil, err
		}
		if seen[p.String()] {
			return nil, rest.Fail(http.StatusBadRequest, "DUPLICATE_ADDRESSES_IN_INPUT", "The address %s was specified twice.", p)
		}
		seen[p.String()] = true
		add = append(add, model.AccessEntry{CIDR: p.String(), Created: c.Now().UTC()})
	}
	err = c.Access.UpdateAPIKey(c.R.Context(), k.ID, func(stored *model.APIKey) error {
		for _, e := range stored.AccessList {
			if seen[e.CIDR] {
				return rest.Fail(http.StatusConflict, "ADDRESS_ALREADY_IN_ACCESS_LIST", "The address %s is in the access list already.", e.CIDR)
			}
		}
		stored.AccessList = append(stored.AccessList, add...)
		k = *stored
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.keyAccessPage(k)
}

// keyEntry finds the entry that the path names: by exact address, not by containment.
func (c *call) keyEntry() (model.APIKey, int, error) {
	k, err := c.key(c.Args[1], c.Org.ID)
	if err != nil {
		return k, 0, err
	}
	text := strings.TrimSuffix(c.Args[2], "/")
	p, ok := parseNetwork(text)
	i := slices.IndexFunc(k.AccessList, func(e model.AccessEntry) bool { return e.CIDR == p.String() })
	if !ok || i < 0 {
		return k, 0, rest.Fail(http.StatusNotFound, "API_KEY_ACCESS_LIST_NOT_FOUND", "The access list of the API key has no entry %s.", text)
	}
	return k, i, nil
}

func (c *call) oneKeyAccess() (any, error) {
	k, i, err := c.keyEntry()
	if err != nil {
		return nil, err
	}
	return c.keyAccessEntity(k, k.AccessList[i]), nil
}

func (c *call) deleteKeyAccess() (any, error) {
	k, i, err := c.keyEntry()
	if err != nil {
		return nil, err
	}
	gone := k.AccessList[i].CIDR
	if c.Who.Key != nil && c.Who.Key.ID == k.ID {
		left := slices.Delete(slices.Clone(k.AccessList), i, i+1)
		if len(left) > 0 && rest.MatchEntry(left, httpx.ClientIP(c.R.Context())) < 0 {
			return nil, rest.Fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "Removing %s would lock the caller out.", gone)
		}
	}
	err = c.Access.UpdateAPIKey(c.R.Context(), k.ID, func(stored *model.APIKey) error {
		stored.AccessList = slices.DeleteFunc(stored.AccessList, func(e model.AccessEntry) bool { return e.CIDR == gone })
		return nil
	})
	return nil, err
}

// globalID is the id of a global entry: it has no other identity than its network.
func globalID(e model.AccessEntry) model.ID { return model.DeriveID("access", e.CIDR) }

func (c *call) globalAccessEntity(e model.AccessEntry) rest.Object {
	id := globalID(e)
	return rest.Object{
		"id": id, "cidrBlock": e.CIDR, "description": e.Desc, "type": "GLOBAL_ROLE", "created": rest.ISOTime(e.Created), "updated": rest.ISOTime(e.Created),
		"links": c.Self(c.Href("admin", "accessList", string(id))),
	}
}

func (c *call) globalAccess() (any, error) {
	entries, err := c.Access.GlobalAccessList(c.R.Context())
	if err != nil {
		return nil, err
	}
	return rest.Page(c.Call, entries, c.globalAccessEntity)
}

// globalBody is the body of POST and PATCH.
type globalBody struct {
	rest.Ignored
	ID          string `json:"id"`
	CIDRBlock   string `json:"cidrBlock"`
	Description string `json:"description"`
	Type        string `json:"type"`
	Created     string `json:"created"`
	Updated     string `json:"updated"`
}

func (c *call) addGlobalAccess() (any, error) {
	var in globalBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if err := rest.Require("cidrBlock", in.CIDRBlock, "description", in.Description); err != nil {
		return nil, err
	}
	p, ok := parseNetwork(in.CIDRBlock)
	if !ok {
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified.", "cidrBlock")
	}
	ctx := c.R.Context()
	entries, err := c.Access.GlobalAccessList(ctx)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(entries, func(e model.AccessEntry) bool { return e.CIDR == p.String() }) {
		return nil, rest.Fail(http.StatusConflict, "DUPLICATE_GLOBAL_WHITELIST_ENTRY", "The global access list has %s already.", p)
	}
	e := model.AccessEntry{CIDR: p.String(), Desc: in.Description, Created: c.Now().UTC()}
	if len(entries) == 0 && rest.MatchEntry([]model.AccessEntry{e}, httpx.ClientIP(ctx)) < 0 {
		return nil, rest.Fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "The first entry %s would lock the caller out: add the caller's own address first.", p)
	}
	if err := c.Access.SetGlobalAccessList(ctx, append(entries, e)); err != nil {
		return nil, err
	}
	return c.globalAccessEntity(e), nil
}

// globalEntry finds the entry that the path names.
func (c *call) globalEntry() ([]model.AccessEntry, int, error) {
	entries, err := c.Access.GlobalAccessList(c.R.Context())
	if err != nil {
		return nil, 0, err
	}
	i := slices.IndexFunc(entries, func(e model.AccessEntry) bool { return string(globalID(e)) == c.Args[0] })
	if i < 0 {
		return nil, 0, rest.Fail(http.StatusNotFound, "GLOBAL_WHITELIST_ENTRY_NOT_FOUND", "The global access list has no entry with ID %s.", c.Args[0])
	}
	return entries, i, nil
}

func (c *call) oneGlobalAccess() (any, error) {
	entries, i, err := c.globalEntry()
	if err != nil {
		return nil, err
	}
	return c.globalAccessEntity(entries[i]), nil
}

func (c *call) patchGlobalAccess() (any, error) {
	entries, i, err := c.globalEntry()
	if err != nil {
		return nil, err
	}
	var in globalBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if err := rest.ReadOnly("cidrBlock", in.CIDRBlock, entries[i].CIDR); err != nil {
		return nil, err
	}
	if in.Description != "" {
		entries[i].Desc = in.Description
	}
	if err := c.Access.SetGlobalAccessList(c.R.Context(), entries); err != nil {
		return nil, err
	}
	return c.globalAccessEntity(entries[i]), nil
}

func (c *call) deleteGlobalAccess() (any, error) {
	entries, i, err := c.globalEntry()
	if err != nil {
		return nil, err
	}
	left := slices.Delete(slices.Clone(entries), i, i+1)
	if c.Who.Key != nil && c.Who.Key.OrgID == "" && len(left) > 0 && rest.MatchEntry(left, httpx.ClientIP(c.R.Context())) < 0 {
		return nil, rest.Fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "Removing %s would lock the caller out.", entries[i].CIDR)
	}
	return nil, c.Access.SetGlobalAccessList(c.R.Context(), left)
}
