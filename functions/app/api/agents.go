package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/access"
)

func (s *server) agentRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/groups/{}/agentapikeys", scope: inGroup, perm: auth.SeeAgentKeys, do: (*call).agentKeys},
		{method: http.MethodPost, path: "/groups/{}/agentapikeys", scope: inGroup, perm: auth.ManageAgentKeys, do: (*call).createAgentKey},
		{method: http.MethodDelete, path: "/groups/{}/agentapikeys/{}", scope: inGroup, perm: auth.ManageAgentKeys, do: (*call).deleteAgentKey},
		{method: http.MethodGet, path: "/groups/{}/agents", scope: inGroup, perm: auth.View, do: (*call).agentKinds},
		{method: http.MethodGet, path: "/groups/{}/agents/versions", scope: inGroup, perm: auth.View, do: (*call).agentVersions},
		{method: http.MethodGet, path: "/groups/{}/agents/{}", scope: inGroup, perm: auth.View, do: (*call).agents},
	}
}

const maxKeyDesc = 1000

func (c *call) agentKeys() (any, error) {
	keys, err := c.Access.AgentKeys(c.r.Context(), c.group.ID)
	if err != nil {
		return nil, err
	}
	out := make([]object, 0, len(keys))
	for _, k := range keys {
		out = append(out, agentKeyEntity(k, strings.Repeat("*", 28)+k.Last4))
	}
	return out, nil
}

// agentKeyEntity renders an agent key; its id is "_id", as nowhere else.
func agentKeyEntity(k model.AgentKey, key string) object {
	o := object{
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
		ignored
		ID   string `json:"_id"`
		Desc string `json:"desc"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := require("desc", strings.TrimSpace(in.Desc)); err != nil {
		return nil, err
	}
	if len(in.Desc) > maxKeyDesc {
		return nil, fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified: at most 1000 characters.", "desc")
	}
	k, key, err := c.makeAgentKey(c.r.Context(), c.group.ID, strings.TrimSpace(in.Desc), "PUBLIC_API")
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
		Created: c.Now().UTC(), CreatedBy: by, CreatedIP: c.actorIP(),
	}
	if err := c.Access.CreateAgentKey(ctx, k); err != nil {
		return k, "", err
	}
	c.event(model.Event{Type: model.EventAgentKeyCreated, GroupID: group, Text: "Agent API key ending in " + k.Last4 + " was created: " + desc + "."})
	return k, key, nil
}

func (c *call) deleteAgentKey() (any, error) {
	id := model.ID(c.args[1])
	if !id.Valid() {
		return nil, fail(http.StatusNotFound, "INVALID_KEY_ID", "An invalid key ID %s was specified.", id)
	}
	err := c.Access.DeleteAgentKey(c.r.Context(), c.group.ID, id)
	if isNotFound(err) {
		return nil, fail(http.StatusNotFound, "GROUP_API_KEY_NOT_FOUND", "No agent API key with ID %s exists in group %s.", id, c.group.ID)
	}
	if err != nil {
		return nil, err
	}
	c.event(model.Event{Type: model.EventAgentKeyDeleted, GroupID: c.group.ID, Text: "Agent API key " + string(id) + " was deleted."})
	return nil, nil
}

// agentKinds is the index of the kinds of agent: links and nothing else.
func (c *call) agentKinds() (any, error) {
	g := string(c.group.ID)
	at := func(kind string) string { return c.href("groups", g, "agents", kind) }
	return list(object{
		"results": []object{}, "totalCount": 0,
		"links": c.self(c.href("groups", g, "agents"), rel("group", c.href("groups", g)), rel("monitoringAgents", at("MONITORING")),
			rel("backupAgents", at("BACKUP")), rel("automationAgents", at("AUTOMATION"))),
	}), nil
}

func (c *call) agents() (any, error) {
	kind := c.args[1]
	if !slices.Contains([]string{"MONITORING", "BACKUP", "AUTOMATION"}, kind) {
		return nil, fail(http.StatusBadRequest, "INVALID_AGENT_TYPE_NAME", "An invalid agent type name %s was specified.", kind)
	}
	all, err := c.sortedAgents()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(a model.Agent) bool { return string(a.Type) != kind })
	return page(c, all, func(a model.Agent) object {
		o := object{
			"typeName": a.Type, "hostname": a.Hostname, "confCount": a.ConfCount, "lastConf": isoTime(a.LastConf), "stateName": a.State,
			"pingCount": a.PingCount, "isManaged": false, "tag": nil, "links": []link{},
		}
		putTime(o, "lastPing", a.LastPing)
		return o
	})
}

func (c *call) sortedAgents() ([]model.Agent, error) {
	all, err := c.Inventory.Agents(c.r.Context(), c.group.ID)
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
	entries := make([]object, 0, len(all))
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
		if oldest == "" || a.Version < oldest {
			oldest = a.Version
		}
		short, _, _ := strings.Cut(a.Hostname, ".")
		e := object{
			"address": a.Address, "hostname": a.Hostname, "hostnameShort": short, "version": a.Version, "pingCount": a.PingCount,
			"confCount": a.ConfCount, "tagName": "", "lastConf": a.LastConf.UnixMilli(), "msSinceLastConf": silent.Milliseconds(),
			"isPrimary": a.State == model.AgentActive, "isManaged": false, "numProcess": a.Hosts, "isVersionOld": old,
			"isVersionDeprecated": false, "isModule": false, "pingState": state,
		}
		if !a.LastPing.IsZero() {
			e["lastPing"] = a.LastPing.UnixMilli()
		}
		entries = append(entries, e)
	}
	return object{
		"count": len(entries), "entries": entries, "isAnyAgentNotManaged": len(entries) > 0, "isAnyAgentVersionDeprecated": false,
		"isAnyAgentVersionOld": anyOld, "latestVersion": c.Version, "minimumAgentVersionDetected": cmp.Or(oldest, c.Version),
		"minimumVersion": c.Version, "links": c.self(c.href("groups", string(c.group.ID), "agents", "versions")),
	}, nil
}
