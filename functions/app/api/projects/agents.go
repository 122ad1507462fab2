package projects

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/access"
)

func agentRoutes(h handler) []rest.Route {
	return []rest.Route{
		{Method: http.MethodGet, Path: "/groups/{}/agentapikeys", Scope: rest.InGroup, Perm: auth.SeeAgentKeys, Do: h((*call).agentKeys)},
		{Method: http.MethodPost, Path: "/groups/{}/agentapikeys", Scope: rest.InGroup, Perm: auth.ManageAgentKeys, Do: h((*call).createAgentKey)},
		{Method: http.MethodDelete, Path: "/groups/{}/agentapikeys/{}", Scope: rest.InGroup, Perm: auth.ManageAgentKeys, Do: h((*call).deleteAgentKey)},
		{Method: http.MethodGet, Path: "/groups/{}/agents", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).agentKinds)},
		{Method: http.MethodGet, Path: "/groups/{}/agents/versions", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).agentVersions)},
		{Method: http.MethodGet, Path: "/groups/{}/agents/{}", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).agents)},
	}
}

const maxKeyDesc = 1000

func (c *call) agentKeys() (any, error) {
	keys, err := c.Access.AgentKeys(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	out := make([]rest.Object, 0, len(keys))
	for _, k := range keys {
		out = append(out, agentKeyEntity(k, strings.Repeat("*", 28)+k.Last4))
	}
	return out, nil
}

// agentKeyEntity renders an agent key; its id is "_id", as nowhere else.
func agentKeyEntity(k model.AgentKey, key string) rest.Object {
	o := rest.Object{
		"_id": k.ID, "desc": k.Desc, "key": key, "createdBy": k.CreatedBy, "createdTime": k.Created.UnixMilli(),
		"createdIpAddr": nil, "createdUserId": nil,
	}
	if k.CreatedIP != "" {
		o["createdIpAddr"] = k.CreatedIP
	}
	if k.CreatedUserID != "" {
		o["createdUserId"] = k.CreatedUserID
	}
	return o
}

func (c *call) createAgentKey() (any, error) {
	var in struct {
		rest.Ignored
		ID   string `json:"_id"`
		Desc string `json:"desc"`
	}
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if err := rest.Require("desc", strings.TrimSpace(in.Desc)); err != nil {
		return nil, err
	}
	if len(in.Desc) > maxKeyDesc {
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified: at most 1000 characters.", "desc")
	}
	k, key, err := c.makeAgentKey(c.R.Context(), c.Group.ID, strings.TrimSpace(in.Desc), "PUBLIC_API")
	if err != nil {
		return nil, err
	}
	return agentKeyEntity(k, key), nil
}

// makeAgentKey makes and keeps a key; the answer is the only time its text is seen.
func (c *call) makeAgentKey(ctx context.Context, group model.ID, desc, by string) (model.AgentKey, string, error) {
	key := auth.NewAgentKey()
	k := model.AgentKey{
		ID: model.NewID(), GroupID: group, Desc: desc, Digest: access.KeyDigest(key), Last4: access.Last4(key),
		Created: c.Now().UTC(), CreatedBy: by, CreatedIP: c.CallerIP(),
	}
	if err := c.Access.CreateAgentKey(ctx, k); err != nil {
		return k, "", err
	}
	c.Event(model.Event{Type: model.EventAgentKeyCreated, GroupID: group, Text: "Agent API key ending in " + k.Last4 + " was created: " + desc + "."})
	return k, key, nil
}

func (c *call) deleteAgentKey() (any, error) {
	id := model.ID(c.Args[1])
	if !id.Valid() {
		return nil, rest.Fail(http.StatusNotFound, "INVALID_KEY_ID", "An invalid key ID %s was specified.", id)
	}
	keys, err := c.Access.AgentKeys(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(keys, func(k model.AgentKey) bool { return k.ID == id }) {
		return nil, rest.Fail(http.StatusNotFound, "GROUP_API_KEY_NOT_FOUND", "No agent API key with ID %s exists in group %s.", id, c.Group.ID)
	}
	if err := c.Access.DeleteAgentKey(c.R.Context(), c.Group.ID, id); err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventAgentKeyDeleted, GroupID: c.Group.ID, Text: "Agent API key " + string(id) + " was deleted."})
	return nil, nil
}

// agentKinds is the index of the kinds of agent: links and nothing else.
func (c *call) agentKinds() (any, error) {
	g := string(c.Group.ID)
	at := func(kind string) string { return c.Href("groups", g, "agents", kind) }
	return rest.List(rest.Object{
		"results": []rest.Object{}, "totalCount": 0,
		"links": c.Self(c.Href("groups", g, "agents"), rest.Rel("group", c.Href("groups", g)), rest.Rel("monitoringAgents", at("MONITORING")),
			rest.Rel("backupAgents", at("BACKUP")), rest.Rel("automationAgents", at("AUTOMATION"))),
	}), nil
}

func (c *call) agents() (any, error) {
	kind := c.Args[1]
	if !slices.Contains([]string{"MONITORING", "BACKUP", "AUTOMATION"}, kind) {
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_AGENT_TYPE_NAME", "An invalid agent type name %s was specified.", kind)
	}
	all, err := c.sortedAgents()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(a model.Agent) bool { return string(a.Type) != kind })
	return rest.Page(c.Call, all, func(a model.Agent) rest.Object {
		o := rest.Object{
			"typeName": a.Type, "hostname": a.Hostname, "confCount": a.ConfCount, "stateName": a.State,
			"pingCount": a.PingCount, "isManaged": false, "tag": nil, "links": []rest.Link{},
		}
		rest.PutTime(o, "lastConf", a.LastConf)
		rest.PutTime(o, "lastPing", a.LastPing)
		return o
	})
}

func (c *call) sortedAgents() ([]model.Agent, error) {
	all, err := c.Inventory.Agents(c.R.Context(), c.Group.ID)
	slices.SortFunc(all, func(a, b model.Agent) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID))
	})
	return all, err
}

// agentVersions is the report of all agents in one object; its times are milliseconds.
func (c *call) agentVersions() (any, error) {
	all, err := c.sortedAgents()
	if err != nil {
		return nil, err
	}
	now := c.Now()
	entries := make([]rest.Object, 0, len(all))
	oldest, anyOld := "", false
	for _, a := range all {
		silent := now.Sub(a.LastConf)
		state := "ok"
		switch {
		case silent > agentSilence:
			state = "error"
		case a.LastError != "" || silent > agentSilence/2:
			state = "warning"
		}
		old := a.Version != c.Version
		anyOld = anyOld || old
		if oldest == "" || before(a.Version, oldest) {
			oldest = a.Version
		}
		short, _, _ := strings.Cut(a.Hostname, ".")
		e := rest.Object{
			"address": a.Address, "hostname": a.Hostname, "hostnameShort": short, "version": a.Version, "pingCount": a.PingCount,
			"confCount": a.ConfCount, "tagName": "",
			"isPrimary": a.State == model.AgentActive, "isManaged": false, "numProcess": a.Hosts, "isVersionOld": old,
			"isVersionDeprecated": false, "isModule": false, "pingState": state,
		}
		if !a.LastConf.IsZero() {
			e["lastConf"], e["msSinceLastConf"] = a.LastConf.UnixMilli(), silent.Milliseconds()
		}
		if !a.LastPing.IsZero() {
			e["lastPing"] = a.LastPing.UnixMilli()
		}
		entries = append(entries, e)
	}
	return rest.Object{
		"count": len(entries), "entries": entries, "isAnyAgentNotManaged": len(entries) > 0, "isAnyAgentVersionDeprecated": false,
		"isAnyAgentVersionOld": anyOld, "latestVersion": c.Version, "minimumAgentVersionDetected": cmp.Or(oldest, c.Version),
		"minimumVersion": c.Version, "links": c.Self(c.Href("groups", string(c.Group.ID), "agents", "versions")),
	}, nil
}

// before compares two versions number by number; what is no number counts as 0.
func before(a, b string) bool {
	numbers := func(v string) []int {
		v, _, _ = strings.Cut(v, "-")
		var out []int
		for part := range strings.SplitSeq(v, ".") {
			n, _ := strconv.Atoi(part)
			out = append(out, n)
		}
		return out
	}
	return slices.Compare(numbers(a), numbers(b)) < 0
}
