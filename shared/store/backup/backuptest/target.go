package backuptest

import (
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
)

// Target makes a replica set that a backup of History can be restored into, as monitoring and a backup agent would leave it at a
// time: two members of mongod 7.0, one of them its primary, and an agent of the group that calls.
func Target(t testing.TB, s *store.Store, group, cluster model.ID, name string, at time.Time) {
	t.Helper()
	ctx, inv := t.Context(), inventory.New(s)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	hosts := []string{name + "-a.example.com", name + "-b.example.com"}
	must(inv.UpsertCluster(ctx, group, cluster, func(c *model.Cluster) error {
		*c = model.Cluster{ID: cluster, GroupID: group, Type: model.ClusterReplicaSet, Name: name, ReplicaSet: name, Created: at}
		for i, h := range hosts {
			c.Members = append(c.Members, model.Member{ID: i, Host: h + ":27017", Votes: 1, Priority: 1})
		}
		return nil
	}))
	for i, h := range hosts {
		kind, state := model.TypeReplicaSecondary, model.StateSecondary
		if i == 0 {
			kind, state = model.TypeReplicaPrimary, model.StatePrimary
		}
		id := model.NewHostID(group, h, 27017)
		must(inv.CreateHost(ctx, model.Host{
			ID: id, GroupID: group, Hostname: h, Port: 27017, Created: at, Type: kind, Version: "7.0.14", FCV: "7.0", ReplicaSet: name, ClusterID: cluster,
			MemberID: i, Enabled: true, AlertsEnabled: true, DBPath: "/var/lib/mongodb",
		}))
		op, err := inv.StatusOp(model.HostStatus{HostID: id, GroupID: group, At: at, LastPing: at, Reach: model.ReachUp, ReachSince: at, State: state, StateSince: at})
		must(err)
		must(s.Write(ctx, op))
	}
	Agent(t, s, group, at)
}

// Agent makes a backup agent of a group that called at a time.
func Agent(t testing.TB, s *store.Store, group model.ID, at time.Time) {
	t.Helper()
	err := inventory.New(s).UpsertAgent(t.Context(), group, "backup-"+string(group), func(a *model.Agent) error {
		a.Type, a.Hostname, a.Version, a.State = model.AgentBackup, "beside.example.com", "0.0.0-test", model.AgentActive
		a.Started, a.FirstSeen, a.LastConf = at, at, at
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
