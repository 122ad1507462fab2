package inventory

import (
	"cmp"
	"context"
	"slices"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

func clusterKey(group, id model.ID) string { return string(group) + "/" + string(id) }

// Clusters lists the clusters of a group by name.
func (in *Inventory) Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error) {
	clusters, err := store.All[model.Cluster](ctx, in.s, under(collClusters, group))
	slices.SortFunc(clusters, func(a, b model.Cluster) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ShardName, b.ShardName), cmp.Compare(a.ID, b.ID))
	})
	return clusters, err
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
