package backup

import (
	"context"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// pushes lists the restores that the group's agent is to write into deployments: those whose objects are there.
func (in *Intake) pushes(ctx context.Context, group *model.Group) ([]wire.PushTask, error) {
	open, err := in.o.Area.OpenRestores(ctx)
	if err != nil {
		return nil, err
	}
	var out []wire.PushTask
	var hosts map[string]model.Host
	for i := range open {
		res := &open[i]
		if res.Method != model.DeliverPush || res.TargetGroup != group.ID || len(res.Objects) == 0 {
			continue
		}
		cluster, err := in.o.Inventory.Cluster(ctx, group.ID, res.TargetID)
		if err != nil {
			in.o.Log.WarnContext(ctx, "the target of a restore is not known", obs.KeyCluster, res.TargetID, obs.KeyErr, err)
			continue
		}
		if hosts == nil {
			if hosts, err = in.hosts(ctx, group); err != nil {
				return nil, err
			}
		}
		// Credentials that may write are the agent's own: the server keeps none.
		t := wire.PushTask{Restore: res.ID, Cluster: string(res.TargetID), SetName: cluster.ReplicaSet}
		if t.Hosts, err = in.members(ctx, group, &backup.Config{}, &cluster, hosts); err != nil {
			return nil, err
		}
		for k := range t.Hosts {
			t.Hosts[k].Username, t.Hosts[k].Password = "", ""
		}
		out = append(out, t)
	}
	return out, nil
}
