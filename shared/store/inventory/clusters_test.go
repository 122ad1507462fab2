package inventory_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
)

func TestNamesOfClustersAreThoseOfTheClusters(t *testing.T) {
	in, ctx := open(t), t.Context()
	for _, c := range []model.Cluster{
		{ID: "top", Type: model.ClusterSharded, Name: "shop"},
		{ID: "b", Type: model.ClusterReplicaSet, Name: "shop", ShardName: "b", ReplicaSet: "rsb", ParentID: "top", Members: []model.Member{{ID: 1, Host: "x:1", Priority: 1}}, ElectionTerm: 4},
		{ID: "a", Type: model.ClusterReplicaSet, Name: "shop", ShardName: "a", ReplicaSet: "rsa", ParentID: "top"},
		{ID: "z", Type: model.ClusterReplicaSet, Name: "auth", ReplicaSet: "auth"},
	} {
		must(t, in.UpsertCluster(ctx, "g1", c.ID, func(have *model.Cluster) error { *have = c; return nil }))
	}
	whole, err := in.Clusters(ctx, "g1")
	must(t, err)
	names, err := in.ClusterNames(ctx, "g1")
	must(t, err)
	var want []model.Cluster
	for _, c := range whole {
		want = append(want, model.Cluster{ID: c.ID, GroupID: c.GroupID, Type: c.Type, Name: c.Name, ReplicaSet: c.ReplicaSet, ShardName: c.ShardName, ParentID: c.ParentID})
	}
	if diff := cmp.Diff(want, names); diff != "" || len(names) != 4 {
		t.Errorf("names differ from the clusters: %s", diff)
	}
	if none, err := in.ClusterNames(ctx, "g2"); err != nil || len(none) != 0 {
		t.Errorf("a group without clusters: %v %v", none, err)
	}
}
