package deployment

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
)

func clusterRoutes(h handler) []rest.Route {
	return []rest.Route{
		{Method: http.MethodGet, Path: "/clusters", Do: h((*call).allClusters)},
		{Method: http.MethodGet, Path: "/groups/{}/clusters", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).clusters)},
		{Method: http.MethodGet, Path: "/groups/{}/clusters/{}", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).oneCluster)},
		{Method: http.MethodPatch, Path: "/groups/{}/clusters/{}", Scope: rest.InGroup, Perm: auth.EditHosts, Do: h((*call).renameCluster)},
	}
}

func (c *call) clusterEntity(k model.Cluster, heartbeat time.Time, relations ...rest.Link) rest.Object {
	o := rest.Object{
		"id": k.ID, "groupId": k.GroupID, "typeName": k.Type, "clusterName": k.Name,
		"links": c.Self(c.Href("groups", string(k.GroupID), "clusters", string(k.ID)), relations...),
	}
	rest.Put(o, "replicaSetName", k.ReplicaSet)
	rest.Put(o, "shardName", k.ShardName)
	rest.PutTime(o, "lastHeartbeat", heartbeat)
	return o
}

// heartbeats are the newest pings of each cluster's members; a sharded cluster's is that of its parts.
func (c *call) heartbeats(clusters []model.Cluster) (map[model.ID]time.Time, error) {
	statuses, err := c.Inventory.Statuses(c.R.Context(), c.Group.ID)
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
	all, err := c.Inventory.Clusters(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	beats, err := c.heartbeats(all)
	if err != nil {
		return nil, err
	}
	if parent := model.ID(c.R.URL.Query().Get("parentClusterId")); parent != "" {
		if !parent.Valid() {
			return nil, rest.Fail(http.StatusNotFound, "INVALID_CLUSTER_ID", "An invalid cluster ID %s was specified.", parent)
		}
		if !slices.ContainsFunc(all, func(k model.Cluster) bool { return k.ID == parent }) {
			return nil, clusterMissing(c, parent)
		}
		all = slices.DeleteFunc(all, func(k model.Cluster) bool { return k.ParentID != parent })
	}
	slices.SortFunc(all, func(a, b model.Cluster) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return rest.Page(c.Call, all, func(k model.Cluster) rest.Object { return c.clusterEntity(k, beats[k.ID]) })
}

func clusterMissing(c *call, id model.ID) error {
	return rest.Fail(http.StatusNotFound, "CLUSTER_NOT_FOUND", "No cluster with ID %s exists in group %s.", id, c.Group.ID)
}

// cluster reads the cluster that is the path's second variable.
func (c *call) cluster() (model.Cluster, error) {
	id := model.ID(c.Args[1])
	if !id.Valid() {
		return model.Cluster{}, rest.Fail(http.StatusNotFound, "INVALID_CLUSTER_ID", "An invalid cluster ID %s was specified.", id)
	}
	k, err := c.Inventory.Cluster(c.R.Context(), c.Group.ID, id)
	if rest.IsNotFound(err) {
		return k, clusterMissing(c, id)
	}
	return k, err
}

func (c *call) fullCluster(k model.Cluster) (any, error) {
	all, err := c.Inventory.Clusters(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	beats, err := c.heartbeats(all)
	if err != nil {
		return nil, err
	}
	return c.clusterEntity(k, beats[k.ID], rest.Rel("group", c.Href("groups", string(c.Group.ID)))), nil
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
		rest.Ignored
		ClusterName string `json:"clusterName"`
	}
	if err := c.DecodeOver(&in, c.clusterEntity(k, k.LastHeartbeat), "replicaSetName", "shardName", "lastHeartbeat"); err != nil {
		return nil, err
	}
	name := strings.TrimSpace(in.ClusterName)
	if err := rest.Require("clusterName", name); err != nil {
		return nil, err
	}
	if k.Type != model.ClusterSharded && k.Type != model.ClusterShardedStandalones {
		return nil, rest.Fail(http.StatusBadRequest, "NOT_SHARDED", "Cluster %s is not a sharded cluster.", k.ID)
	}
	old := k.Name
	err = c.Inventory.UpsertCluster(c.R.Context(), c.Group.ID, k.ID, func(stored *model.Cluster) error {
		stored.Name = name
		k = *stored
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.renameParts(k); err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventClusterRenamed, GroupID: c.Group.ID, ClusterID: k.ID, Text: "Cluster " + old + " was renamed to " + name + "."})
	return c.fullCluster(k)
}

// renameParts gives the parts of a sharded cluster its name, as ingestion does with the next ping of a mongos.
func (c *call) renameParts(parent model.Cluster) error {
	all, err := c.Inventory.Clusters(c.R.Context(), c.Group.ID)
	if err != nil {
		return err
	}
	for _, k := range all {
		if k.ParentID != parent.ID {
			continue
		}
		err := c.Inventory.UpsertCluster(c.R.Context(), c.Group.ID, k.ID, func(stored *model.Cluster) error {
			stored.Name = parent.Name
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// allClusters lists the caller's groups with their deployments in short.
func (c *call) allClusters() (any, error) {
	groups, err := c.Inventory.Groups(c.R.Context())
	if err != nil {
		return nil, err
	}
	orgs, err := c.Inventory.Orgs(c.R.Context())
	if err != nil {
		return nil, err
	}
	orgName := map[model.ID]string{}
	for _, o := range orgs {
		orgName[o.ID] = o.Name
	}
	groups = slices.DeleteFunc(groups, func(g model.Group) bool { return !c.Who.InGroup(g.ID, g.OrgID) })
	summaries := map[model.ID][]rest.Object{}
	for _, g := range groups {
		if summaries[g.ID], err = c.deployments(g.ID); err != nil {
			return nil, err
		}
	}
	return rest.Page(c.Call, groups, func(g model.Group) rest.Object {
		tags := []string{}
		if c.Who.Global() && g.Tags != nil {
			tags = g.Tags
		}
		return rest.Object{
			"groupId": g.ID, "groupName": g.Name, "orgId": g.OrgID, "orgName": orgName[g.OrgID], "planType": "Ops Manager", "tags": tags,
			"clusters": summaries[g.ID],
		}
	})
}

// deployments sums a group's top-level clusters and standalone hosts up.
func (c *call) deployments(group model.ID) ([]rest.Object, error) {
	ctx := c.R.Context()
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
	out := []rest.Object{}
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
		if k.Type == model.ClusterSharded || k.Type == model.ClusterShardedStandalones {
			kind = "sharded cluster"
		}
		out = append(out, deployment(string(k.ID), k.Name, kind, members[k.ID], up))
	}
	return out, nil
}

func deployment(id, name, kind string, hosts []*model.Host, up map[model.HostID]bool) rest.Object {
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
	return rest.Object{
		"clusterId": id, "name": name, "type": kind, "availability": availability, "versions": versions, "backupEnabled": false,
		"authEnabled": authOn, "sslEnabled": tls, "alertCount": 0, "dataSizeBytes": int64(size), "nodeCount": len(hosts),
	}
}
