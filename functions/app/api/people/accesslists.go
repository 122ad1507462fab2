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
			rest.Route{Method: http.MethodGet, Path: "/orgs/{}/apiKeys/{}/" + name + "/{slashes}", Scope: keyOwner, Do: h((*call).oneKeyAccess)},
			rest.Route{Method: http.MethodDelete, Path: "/orgs/{}/apiKeys/{}/" + name + "/{slashes}", Scope: keyOwner, Do: h((*call).deleteKeyAccess)},
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
	rest.Put(o, "lastUsedAddress", e.LastIP)
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
	switch {
	case b.IPAddress != "" && b.CIDRBlock != "":
		return netip.Prefix{}, rest.Fail(http.StatusBadRequest, "BAD_ACCESS_LIST_ADD_REQUEST", "Exactly one of ipAddress and cidrBlock must be specified.")
	case b.IPAddress == "" && b.CIDRBlock == "":
		return netip.Prefix{}, rest.Fail(http.StatusBadRequest, "MISSING_ONE_OF_ATTRIBUTES", "One of the attributes %s and %s must be specified.", "ipAddress", "cidrBlock")
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
	for _, e := range add {
		c.listChanged(k, e.CIDR, "was added to")
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
	err = c.Access.UpdateAPIKey(c.R.Context(), k.ID, func(stored *model.APIKey) error {
		stored.AccessList = slices.DeleteFunc(stored.AccessList, func(e model.AccessEntry) bool { return e.CIDR == gone })
		if c.Who.Key != nil && c.Who.Key.ID == k.ID && len(stored.AccessList) > 0 && !c.admitted(stored.AccessList) {
			return rest.Fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "Removing %s would lock the caller out.", gone)
		}
		return nil
	})
	if err == nil {
		c.listChanged(k, gone, "was removed from")
	}
	return nil, err
}

func (c *call) listChanged(k model.APIKey, entry, how string) {
	c.Event(model.Event{
		Type: model.EventAccessListChanged, OrgID: k.OrgID, TargetKey: k.PublicKey, AccessEntry: entry,
		Text: entry + " " + how + " the access list of API key " + k.PublicKey + ".",
	})
}

func (c *call) globalChanged(entry, how string) {
	c.Event(model.Event{Type: model.EventGlobalListChanged, AccessEntry: entry, Text: entry + " " + how + " the global access list."})
}

// globalID is the id of a global entry: it has no other identity than its network.
func globalID(e model.AccessEntry) model.ID { return model.DeriveID("access", e.CIDR) }

func (c *call) globalAccessEntity(e model.AccessEntry) rest.Object {
	id, updated := globalID(e), e.Updated
	if updated.IsZero() {
		updated = e.Created
	}
	return rest.Object{
		"id": id, "cidrBlock": e.CIDR, "description": e.Desc, "type": "GLOBAL_ROLE", "created": rest.ISOTime(e.Created), "updated": rest.ISOTime(updated),
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

// globalBody is the body of POST; what the answer has besides is accepted.
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
	e := model.AccessEntry{CIDR: p.String(), Desc: in.Description, Created: c.Now().UTC()}
	err := c.Access.UpdateGlobalAccessList(c.R.Context(), func(entries []model.AccessEntry) ([]model.AccessEntry, error) {
		if slices.ContainsFunc(entries, func(have model.AccessEntry) bool { return have.CIDR == e.CIDR }) {
			return nil, rest.Fail(http.StatusConflict, "DUPLICATE_GLOBAL_WHITELIST_ENTRY", "The global access list has %s already.", p)
		}
		if len(entries) == 0 && !c.admitted([]model.AccessEntry{e}) {
			return nil, rest.Fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "The first entry %s would lock the caller out: add the caller's own address first.", p)
		}
		return append(entries, e), nil
	})
	if err != nil {
		return nil, err
	}
	c.globalChanged(e.CIDR, "was added to")
	return c.globalAccessEntity(e), nil
}

// admitted says whether a list lets the caller's address in.
func (c *call) admitted(entries []model.AccessEntry) bool {
	return rest.MatchEntry(entries, httpx.ClientIP(c.R.Context())) >= 0
}

// globalEntry finds the entry that the path names.
func (c *call) globalEntry(entries []model.AccessEntry) (int, error) {
	i := slices.IndexFunc(entries, func(e model.AccessEntry) bool { return string(globalID(e)) == c.Args[0] })
	if i < 0 {
		return i, rest.Fail(http.StatusNotFound, "GLOBAL_WHITELIST_ENTRY_NOT_FOUND", "The global access list has no entry with ID %s.", c.Args[0])
	}
	return i, nil
}

func (c *call) globalEntryNow() (model.AccessEntry, error) {
	entries, err := c.Access.GlobalAccessList(c.R.Context())
	if err != nil {
		return model.AccessEntry{}, err
	}
	i, err := c.globalEntry(entries)
	if err != nil {
		return model.AccessEntry{}, err
	}
	return entries[i], nil
}

func (c *call) oneGlobalAccess() (any, error) {
	e, err := c.globalEntryNow()
	if err != nil {
		return nil, err
	}
	return c.globalAccessEntity(e), nil
}

func (c *call) patchGlobalAccess() (any, error) {
	e, err := c.globalEntryNow()
	if err != nil {
		return nil, err
	}
	var in struct {
		rest.Ignored
		Description string `json:"description"`
	}
	if err := c.DecodeOver(&in, c.globalAccessEntity(e)); err != nil {
		return nil, err
	}
	if in.Description == "" {
		return c.globalAccessEntity(e), nil
	}
	err = c.Access.UpdateGlobalAccessList(c.R.Context(), func(entries []model.AccessEntry) ([]model.AccessEntry, error) {
		i, err := c.globalEntry(entries)
		if err != nil {
			return nil, err
		}
		entries[i].Desc, entries[i].Updated = in.Description, c.Now().UTC()
		e = entries[i]
		return entries, nil
	})
	if err != nil {
		return nil, err
	}
	c.globalChanged(e.CIDR, "has another description in")
	return c.globalAccessEntity(e), nil
}

func (c *call) deleteGlobalAccess() (any, error) {
	gone := ""
	err := c.Access.UpdateGlobalAccessList(c.R.Context(), func(entries []model.AccessEntry) ([]model.AccessEntry, error) {
		i, err := c.globalEntry(entries)
		if err != nil {
			return nil, err
		}
		gone = entries[i].CIDR
		left := slices.Delete(entries, i, i+1)
		if c.Who.Key != nil && c.Who.Key.OrgID == "" && len(left) > 0 && !c.admitted(left) {
			return nil, rest.Fail(http.StatusBadRequest, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST", "Removing %s would lock the caller out.", gone)
		}
		return left, nil
	})
	if err == nil {
		c.globalChanged(gone, "was removed from")
	}
	return nil, err
}
