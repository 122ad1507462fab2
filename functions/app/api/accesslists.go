package api

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
)

func (s *server) accessListRoutes() []route {
	var out []route
	for _, name := range []string{"accessList", "whitelist"} { // the second is how older clients spell it
		out = append(out,
			route{method: http.MethodGet, path: "/orgs/{}/apiKeys/{}/" + name, scope: keyOwner, do: (*call).keyAccessList},
			route{method: http.MethodPost, path: "/orgs/{}/apiKeys/{}/" + name, scope: keyOwner, do: (*call).addKeyAccess},
			route{method: http.MethodGet, path: "/orgs/{}/apiKeys/{}/" + name + "/{cidr}", scope: keyOwner, do: (*call).oneKeyAccess},
			route{method: http.MethodDelete, path: "/orgs/{}/apiKeys/{}/" + name + "/{cidr}", scope: keyOwner, do: (*call).deleteKeyAccess},
			route{method: http.MethodGet, path: "/admin/" + name, scope: onSite, perm: auth.AdminView, do: (*call).globalAccess},
			route{method: http.MethodPost, path: "/admin/" + name, scope: onSite, perm: auth.AdminUsers, do: (*call).addGlobalAccess},
			route{method: http.MethodGet, path: "/admin/" + name + "/{}", scope: onSite, perm: auth.AdminView, do: (*call).oneGlobalAccess},
			route{method: http.MethodPatch, path: "/admin/" + name + "/{}", scope: onSite, perm: auth.AdminUsers, do: (*call).patchGlobalAccess},
			route{method: http.MethodDelete, path: "/admin/" + name + "/{}", scope: onSite, perm: auth.AdminUsers, do: (*call).deleteGlobalAccess},
		)
	}
	return out
}

// keyOwner admits the organization's owners and the key itself.
func keyOwner(c *call, _ auth.Permission) error {
	if c.who.Key != nil && string(c.who.Key.ID) == c.args[1] && string(c.who.Key.OrgID) == c.args[0] {
		return inOrg(c, auth.ViewOrg)
	}
	err := inOrg(c, auth.ManageOrg)
	var e *apiError
	if errors.As(err, &e) && e.code == "NOT_ORG_OWNER" {
		return fail(http.StatusBadRequest, "API_KEY_ACCESS_LIST_ACCESS_DENIED", "The current user may not access the access list of API key %s.", c.args[1])
	}
	return err
}

func (c *call) keyAccessEntity(k model.APIKey, e model.AccessEntry) object {
	o := object{
		"cidrBlock": e.CIDR, "ipAddress": nil, "count": e.Count, "created": isoTime(e.Created),
		"links": c.self(c.href("orgs", string(k.OrgID), "apiKeys", string(k.ID), "accessList", e.CIDR)),
	}
	if p, err := netip.ParsePrefix(e.CIDR); err == nil && p.IsSingleIP() {
		o["ipAddress"] = p.Addr().String()
	}
	putTime(o, "lastUsed", e.LastUsed)
	return o
}

func (c *call) keyAccessList() (any, error) {
	k, err := c.key(c.args[1], c.org.ID)
	if err != nil {
		return nil, err
	}
	return c.keyAccessPage(k)
}

func (c *call) keyAccessPage(k model.APIKey) (any, error) {
	return page(c, k.AccessList, func(e model.AccessEntry) object { return c.keyAccessEntity(k, e) })
}

// accessBody is one entry of a request.
type accessBody struct {
	ignored
	IPAddress       string `json:"ipAddress"`
	CIDRBlock       string `json:"cidrBlock"`
	Count           int64  `json:"count"`
	Created         string `json:"created"`
	LastUsed        string `json:"lastUsed"`
	LastUsedAddress string `json:"lastUsedAddress"`
}

func (b accessBody) network() (netip.Prefix, error) {
	if (b.IPAddress == "") == (b.CIDRBlock == "") {
		return netip.Prefix{}, fail(http.StatusBadRequest, "BAD_ACCESS_LIST_ADD_REQUEST", "Exactly one of ipAddress and cidrBlock must be specified.")
	}
	text := cmp.Or(b.IPAddress, b.CIDRBlock)
	p, ok := parseNetwork(text)
	if !ok {
		return p, fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified.", text)
	}
	return p, nil
}

func (c *call) addKeyAccess() (any, error) {
	k, err := c.key(c.args[1], c.org.ID)
	if err != nil {
		return nil, err
	}
	var in []accessBody
	if err := c.decode(&in); err != nil {
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
			return nil, fail(http.StatusBadRequest, "DUPLICATE_ADDRESSES_IN_INPUT", "The address %s was specified twice.", p)
		}
		seen[p.String()] = true
		add = append(add, model.AccessEntry{CIDR: p.String(), Created: c.Now().UTC()})
	}
	err = c.Access.UpdateAPIKey(c.r.Context(), k.ID, func(stored *model.APIKey) error {
		for _, e := range stored.AccessList {
			if seen[e.CIDR] {
				return fail(http.StatusConflict, "ADDRESS_ALREADY_IN_ACCESS_LIST", "The address %s is in the access list already.", e.CIDR)
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
	k, err := c.key(c.args[1], c.org.ID)
	if err != nil {
		return k, 0, err
	}
	text := strings.TrimSuffix(c.args[2], "/")
	p, ok := parseNetwork(text)
	i := slices.IndexFunc(k.AccessList, func(e model.AccessEntry) bool { return e.CIDR == p.String() })
	if !ok || i < 0 {
		return k, 0, fail(http.StatusNotFound, "API_KEY_ACCESS_LIST_NOT_FOUND", "The access list of the API key has no entry %s.", text)
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
	if c.who.Key != nil && c.who.Key.ID == k.ID {
		rest := slices.Delete(slices.Clone(k.AccessList), i, i+1)
		if len(rest) > 0 && matchEntry(rest, httpx.ClientIP(c.r.Context())) < 0 {
			return nil, fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "Removing %s would lock the caller out.", gone)
		}
	}
	err = c.Access.UpdateAPIKey(c.r.Context(), k.ID, func(stored *model.APIKey) error {
		stored.AccessList = slices.DeleteFunc(stored.AccessList, func(e model.AccessEntry) bool { return e.CIDR == gone })
		return nil
	})
	return nil, err
}

// globalID is the id of a global entry: it has no other identity than its network.
func globalID(e model.AccessEntry) model.ID { return model.DeriveID("access", e.CIDR) }

func (c *call) globalAccessEntity(e model.AccessEntry) object {
	id := globalID(e)
	return object{
		"id": id, "cidrBlock": e.CIDR, "description": e.Desc, "type": "GLOBAL_ROLE", "created": isoTime(e.Created), "updated": isoTime(e.Created),
		"links": c.self(c.href("admin", "accessList", string(id))),
	}
}

func (c *call) globalAccess() (any, error) {
	entries, err := c.Access.GlobalAccessList(c.r.Context())
	if err != nil {
		return nil, err
	}
	return page(c, entries, c.globalAccessEntity)
}

// globalBody is the body of POST and PATCH.
type globalBody struct {
	ignored
	ID          string `json:"id"`
	CIDRBlock   string `json:"cidrBlock"`
	Description string `json:"description"`
	Type        string `json:"type"`
	Created     string `json:"created"`
	Updated     string `json:"updated"`
}

func (c *call) addGlobalAccess() (any, error) {
	var in globalBody
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := require("cidrBlock", in.CIDRBlock, "description", in.Description); err != nil {
		return nil, err
	}
	p, ok := parseNetwork(in.CIDRBlock)
	if !ok {
		return nil, fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified.", "cidrBlock")
	}
	ctx := c.r.Context()
	entries, err := c.Access.GlobalAccessList(ctx)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(entries, func(e model.AccessEntry) bool { return e.CIDR == p.String() }) {
		return nil, fail(http.StatusConflict, "DUPLICATE_GLOBAL_WHITELIST_ENTRY", "The global access list has %s already.", p)
	}
	e := model.AccessEntry{CIDR: p.String(), Desc: in.Description, Created: c.Now().UTC()}
	if len(entries) == 0 && matchEntry([]model.AccessEntry{e}, httpx.ClientIP(ctx)) < 0 {
		return nil, fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "The first entry %s would lock the caller out: add the caller's own address first.", p)
	}
	if err := c.Access.SetGlobalAccessList(ctx, append(entries, e)); err != nil {
		return nil, err
	}
	return c.globalAccessEntity(e), nil
}

// globalEntry finds the entry that the path names.
func (c *call) globalEntry() ([]model.AccessEntry, int, error) {
	entries, err := c.Access.GlobalAccessList(c.r.Context())
	if err != nil {
		return nil, 0, err
	}
	i := slices.IndexFunc(entries, func(e model.AccessEntry) bool { return string(globalID(e)) == c.args[0] })
	if i < 0 {
		return nil, 0, fail(http.StatusNotFound, "GLOBAL_WHITELIST_ENTRY_NOT_FOUND", "The global access list has no entry with ID %s.", c.args[0])
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
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := readOnly("cidrBlock", in.CIDRBlock, entries[i].CIDR); err != nil {
		return nil, err
	}
	if in.Description != "" {
		entries[i].Desc = in.Description
	}
	if err := c.Access.SetGlobalAccessList(c.r.Context(), entries); err != nil {
		return nil, err
	}
	return c.globalAccessEntity(entries[i]), nil
}

func (c *call) deleteGlobalAccess() (any, error) {
	entries, i, err := c.globalEntry()
	if err != nil {
		return nil, err
	}
	rest := slices.Delete(slices.Clone(entries), i, i+1)
	if c.who.Key != nil && c.who.Key.OrgID == "" && len(rest) > 0 && matchEntry(rest, httpx.ClientIP(c.r.Context())) < 0 {
		return nil, fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "Removing %s would lock the caller out.", entries[i].CIDR)
	}
	return nil, c.Access.SetGlobalAccessList(c.r.Context(), rest)
}
