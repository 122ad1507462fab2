package api

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
)

func (s *server) clusterRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/clusters", do: (*call).allClusters},
		{method: http.MethodGet, path: "/groups/{}/clusters", scope: inGroup, perm: auth.View, do: (*call).clusters},
		{method: http.MethodGet, path: "/groups/{}/clusters/{}", scope: inGroup, perm: auth.View, do: (*call).oneCluster},
		{method: http.MethodPatch, path: "/groups/{}/clusters/{}", scope: inGroup, perm: auth.EditHosts, do: (*call).renameCluster},
	}
}

func (c *call) clusterEntity(k model.Cluster, heartbeat time.Time, relations ...link) object {
	o := object{
		"id": k.ID, "groupId": k.GroupID, "typeName": k.Type, "clusterName": k.Name,
		"links": c.self(c.href("groups", string(k.GroupID), "clusters", string(k.ID)), relations...),
	}
	put(o, "replicaSetName", k.ReplicaSet)
	put(o, "shardName", k.ShardName)
	putTime(o, "lastHeartbeat", heartbeat)
	return o
}

// heartbeats are the newest pings of each cluster's members; a sharded cluster's is that of its parts.
func (c *call) heartbeats(clusters []model.Cluster) (map[model.ID]time.Time, error) {
	statuses, err := c.Inventory.Statuses(c.r.Context(), c.group.ID)
	if err != nil {
		return nil, err
	}
	last := make(map[model.HostID]time.Time, len(statuses))
	for i := range statuses {
		last[statuses[i].HostID] = statuses[i].LastPing
	}
	beats := map[model.ID]time.Time{}
	newer := func(id model.ID, t time.Time) {
		if id != "" && t.After(beats[id]) {
			beats[id] = t
		}
	}
	for _, k := range clusters {
		newer(k.ID, k.LastHeartbeat)
		for _, m := range k.Members {
			newer(k.ID, last[m.HostID])
			newer(k.ParentID, last[m.HostID])
		}
	}
	return beats, nil
}

func (c *call) clusters() (any, error) {
	all, err := c.Inventory.Clusters(c.r.Context(), c.group.ID)
	if err != nil {
		return nil, err
	}
	beats, err := c.heartbeats(all)
	if err != nil {
		return nil, err
	}
	if parent := model.ID(c.r.URL.Query().Get("parentClusterId")); parent != "" {
		if !parent.Valid() {
			return nil, fail(http.StatusNotFound, "INVALID_CLUSTER_ID", "An invalid cluster ID %s was specified.", parent)
		}
		if !slices.ContainsFunc(all, func(k model.Cluster) bool { return k.ID == parent }) {
			return nil, clusterMissing(c, parent)
		}
		all = slices.DeleteFunc(all, func(k model.Cluster) bool { return k.ParentID != parent })
	}
	slices.SortFunc(all, func(a, b model.Cluster) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return page(c, all, func(k model.Cluster) object { return c.clusterEntity(k, beats[k.ID]) })
}

func clusterMissing(c *call, id model.ID) error {
	return fail(http.StatusNotFound, "CLUSTER_NOT_FOUND", "No cluster with ID %s exists in group %s.", id, c.group.ID)
}

// cluster reads the cluster that is the path's second variable.
func (c *call) cluster() (model.Cluster, error) {
	id := model.ID(c.args[1])
	if !id.Valid() {
		return model.Cluster{}, fail(http.StatusNotFound, "INVALID_CLUSTER_ID", "An invalid cluster ID %s was specified.", id)
	}
	k, err := c.Inventory.Cluster(c.r.Context(), c.group.ID, id)
	if isNotFound(err) {
		return k, clusterMissing(c, id)
	}
	return k, err
}

func (c *call) fullCluster(k model.Cluster) (any, error) {
	all, err := c.Inventory.Clusters(c.r.Context(), c.group.ID)
	if err != nil {
		return nil, err
	}
	beats, err := c.heartbeats(all)
	if err != nil {
		return nil, err
	}
	return c.clusterEntity(k, beats[k.ID], rel("group", c.href("groups", string(c.group.ID)))), nil
}

func (c *call) oneCluster() (any, error) {
	k, err := c.cluster()
	if err != nil {
		return nil, err
	}
	return c.fullCluster(k)
}

func (c *call) renameCluster() (any, error) {
	k, err := c.cluster()
	if err != nil {
		return nil, err
	}
	var in struct {
		ignored
		ID             string `json:"id"`
		GroupID        string `json:"groupId"`
		TypeName       string `json:"typeName"`
		ClusterName    string `json:"clusterName"`
		ReplicaSetName string `json:"replicaSetName"`
		ShardName      string `json:"shardName"`
		LastHeartbeat  string `json:"lastHeartbeat"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	name := strings.TrimSpace(in.ClusterName)
	if err := require("clusterName", name); err != nil {
		return nil, err
	}
	if k.Type != model.ClusterSharded && k.Type != model.ClusterShardedStandales {
		return nil, fail(http.StatusBadRequest, "NOT_SHARDED", "Cluster %s is not a sharded cluster.", k.ID)
	}
	old := k.Name
	err = c.Inventory.UpsertCluster(c.r.Context(), c.group.ID, k.ID, func(stored *model.Cluster) error {
		stored.Name = name
		k = *stored
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.event(model.Event{Type: model.EventClusterRenamed, GroupID: c.group.ID, ClusterID: k.ID, Text: "Cluster " + old + " was renamed to " + name + "."})
	return c.fullCluster(k)
}

// allClusters lists the caller's groups with their deployments in short.
func (c *call) allClusters() (any, error) {
	groups, err := c.Inventory.Groups(c.r.Context())
	if err != nil {
		return nil, err
	}
	orgs, err := c.Inventory.Orgs(c.r.Context())
	if err != nil {
		return nil, err
	}
	orgName := map[model.ID]string{}
	for _, o := range orgs {
		orgName[o.ID] = o.Name
	}
	groups = slices.DeleteFunc(groups, func(g model.Group) bool { return !c.who.InGroup(g.ID, g.OrgID) })
	summaries := map[model.ID][]object{}
	for _, g := range groups {
		if summaries[g.ID], err = c.deployments(g.ID); err != nil {
			return nil, err
		}
	}
	return page(c, groups, func(g model.Group) object {
		tags := []string{}
		if c.who.Global() && g.Tags != nil {
			tags = g.Tags
		}
		return object{
			"groupId": g.ID, "groupName": g.Name, "orgId": g.OrgID, "orgName": orgName[g.OrgID], "planType": "Ops Manager", "tags": tags,
			"clusters": summaries[g.ID],
		}
	})
}

// deployments sums a group's top-level clusters and standalone hosts up.
func (c *call) deployments(group model.ID) ([]object, error) {
	ctx := c.r.Context()
	clusters, err := c.Inventory.Clusters(ctx, group)
	if err != nil {
		return nil, err
	}
	hosts, err := c.Inventory.Hosts(ctx, group)
	if err != nil {
		return nil, err
	}
	statuses, err := c.Inventory.Statuses(ctx, group)
	if err != nil {
		return nil, err
	}
	up := make(map[model.HostID]bool, len(statuses))
	for i := range statuses {
		r := statuses[i].Reach
		up[statuses[i].HostID] = r == model.ReachUp || r == model.ReachSlow || r == model.ReachUnauthorised
	}
	top := map[model.ID]model.ID{} // a cluster's topmost entity
	for _, k := range clusters {
		top[k.ID] = cmp.Or(k.ParentID, k.ID)
	}
	members := map[model.ID][]*model.Host{}
	out := []object{}
	for i := range hosts {
		h := &hosts[i]
		switch {
		case !h.Visible():
		case h.ClusterID != "":
			members[top[h.ClusterID]] = append(members[top[h.ClusterID]], h)
		case h.Type == model.TypeStandalone:
			out = append(out, deployment(string(h.ID), h.Address(), "standalone", []*model.Host{h}, up))
		}
	}
	for _, k := range clusters {
		if k.ParentID != "" {
			continue
		}
		kind := "replica set"
		if k.Type == model.ClusterSharded || k.Type == model.ClusterShardedStandales {
			kind = "sharded cluster"
		}
		out = append(out, deployment(string(k.ID), k.Name, kind, members[k.ID], up))
	}
	return out, nil
}

func deployment(id, name, kind string, hosts []*model.Host, up map[model.HostID]bool) object {
	versions := []string{}
	alive, primaries := 0, 0
	var size float64
	authOn, tls := len(hosts) > 0, len(hosts) > 0
	for _, h := range hosts {
		if h.Version != "" && !slices.Contains(versions, h.Version) {
			versions = append(versions, h.Version)
		}
		if up[h.ID] {
			alive++
		}
		if h.Type == model.TypeReplicaPrimary || h.Type == model.TypeShardPrimary || h.Type == model.TypeStandalone {
			primaries++
			size += h.LastDataBytes
		}
		authOn, tls = authOn && h.AuthEnabled, tls && h.TLS
	}
	slices.Sort(versions)
	availability := "available"
	switch {
	case alive == 0:
		availability = "dead"
	case primaries == 0:
		availability = "unavailable"
	case alive < len(hosts):
		availability = "warning"
	}
	return object{
		"clusterId": id, "name": name, "type": kind, "availability": availability, "versions": versions, "backupEnabled": false,
		"authEnabled": authOn, "sslEnabled": tls, "alertCount": 0, "dataSizeBytes": int64(size), "nodeCount": len(hosts),
	}
}
