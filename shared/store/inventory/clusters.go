package inventory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

func clusterKey(group, id model.ID) string { return string(group) + "/" + string(id) }

// Clusters lists the clusters of a group by name.
func (in *Inventory) Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error) {
	clusters, err := store.All[model.Cluster](ctx, in.s, under(collClusters, group))
	slices.SortFunc(clusters, byName)
	return clusters, err
}

func byName(a, b model.Cluster) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ShardName, b.ShardName), cmp.Compare(a.ID, b.ID))
}

// ClusterNames is Clusters with ids, types and names only: decoding the members too is most of the work of reading
// thousands.
func (in *Inventory) ClusterNames(ctx context.Context, group model.ID) ([]model.Cluster, error) {
	var clusters []model.Cluster
	for doc, err := range in.s.Docs(ctx, under(collClusters, group)) {
		if err != nil {
			return nil, err
		}
		c := model.Cluster{GroupID: group}
		if !clusterNames(doc.Body, &c) {
			whole, err := store.Decode[model.Cluster](doc)
			if err != nil {
				return nil, fmt.Errorf("cluster %s: %w", doc.ID, err)
			}
			c = whole
		}
		clusters = append(clusters, c)
	}
	slices.SortFunc(clusters, byName)
	return clusters, nil
}

func clusterNames(body bson.Raw, c *model.Cluster) bool {
	return walk(body, func(key []byte, v bsonValue) bool {
		switch string(key) {
		case "id":
			c.ID = model.ID(v.str())
		case "type":
			c.Type = model.ClusterType(v.str())
		case "name":
			c.Name = string(v.str())
		case "replicaSet":
			c.ReplicaSet = string(v.str())
		case "shardName":
			c.ShardName = string(v.str())
		case "parentId":
			c.ParentID = model.ID(v.str())
		}
		return v.ok()
	})
}

// Cluster returns one cluster, or store.ErrNotFound.
func (in *Inventory) Cluster(ctx context.Context, group, id model.ID) (model.Cluster, error) {
	return store.Get[model.Cluster](ctx, in.s, collClusters, clusterKey(group, id))
}

// UpsertCluster changes a cluster or makes it: change then gets one with only its ids set. change may run several times;
// store.ErrUnchanged ends it without a write.
func (in *Inventory) UpsertCluster(ctx context.Context, group, id model.ID, change func(*model.Cluster) error) error {
	if err := checkKey(group, "cluster", string(id)); err != nil {
		return err
	}
	return store.Upsert(ctx, in.s, collClusters, clusterKey(group, id), func(c *model.Cluster, _ bool) error {
		c.ID, c.GroupID = id, group
		if err := change(c); err != nil {
			return err
		}
		c.ID, c.GroupID = id, group
		return nil
	})
}

// DeleteCluster removes a cluster; that there was none is no error.
func (in *Inventory) DeleteCluster(ctx context.Context, group, id model.ID) error {
	return in.s.Delete(ctx, collClusters, clusterKey(group, id))
}
