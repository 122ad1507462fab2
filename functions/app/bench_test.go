package app

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

// BenchmarkDeployment times the deployment page of 10,000 hosts in 3,334 replica sets, as clusters and as hosts.
func BenchmarkDeployment(b *testing.B) {
	s, g, who := owner(b)
	s.large(g, 3334)
	for _, view := range []string{"clusters", "hosts"} {
		b.Run(view, func(b *testing.B) {
			for b.Loop() {
				if who.do(http.MethodGet, at(g, "/deployment?view="+view), ""); who.code != 200 {
					b.Fatal(who.code)
				}
			}
		})
	}
}

// large fills a group with replica sets of three members.
func (s *site) large(g model.Group, sets int) {
	s.t.Helper()
	var ops []docstore.Op
	for i := range sets {
		set := fmt.Sprintf("set%04d", i)
		cid := model.DeriveID("cluster", string(g.ID), set)
		var members []model.Member
		for k := range 3 {
			name := fmt.Sprintf("db%d.%s.example.com", k+1, set)
			h := model.Host{
				ID: model.NewHostID(g.ID, name, 27017), GroupID: g.ID, Hostname: name, Port: 27017, Created: s.now, Type: model.TypeReplicaSecondary,
				Version: "7.0.14", ReplicaSet: set, ClusterID: cid, Enabled: true, AlertsEnabled: true, MemberID: k,
			}
			lag, window := int64(400), int64(90_000)
			st := model.HostStatus{HostID: h.ID, GroupID: g.ID, At: s.now, LastPing: s.now, Reach: model.ReachUp, State: model.StateSecondary, StateSince: s.now, ReachSince: s.now, UptimeMS: 3_600_000, Conns: 42, LagMS: &lag, WindowSecs: &window}
			if k == 0 {
				h.Type, st.State, st.LagMS = model.TypeReplicaPrimary, model.StatePrimary, nil
			}
			s.ok(s.inv.CreateHost(s.t.Context(), h))
			op, err := s.inv.StatusOp(st)
			s.ok(err)
			ops = append(ops, op)
			members = append(members, model.Member{ID: k, Host: h.Address(), HostID: h.ID, Priority: 1, Votes: 1})
		}
		s.ok(s.inv.UpsertCluster(s.t.Context(), g.ID, cid, func(c *model.Cluster) error {
			*c = model.Cluster{ID: cid, GroupID: g.ID, Type: model.ClusterReplicaSet, Name: set, ReplicaSet: set, Created: s.now, Members: members, ConfigVersion: 3}
			return nil
		}))
	}
	s.ok(s.store.Write(s.t.Context(), ops...))
}
