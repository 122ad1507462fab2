package backup

import (
	"context"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// pushes lists the restores that the group's agent is to write into deployments, those whose objects are there, and those that
// have ended but may have left something in their target, whichever agent began them. soon: some are there, or will be.
func (in *Intake) pushes(ctx context.Context, group *model.Group, now time.Time) (out []wire.PushTask, soon bool, err error) {
	all, err := in.o.Area.Pushes(ctx, group.ID, now)
	if err != nil {
		return nil, false, err
	}
	var hosts map[string]model.Host
	for i := range all {
		res := &all[i]
		if !res.Offered(now) {
			continue
		}
		cluster, err := in.o.Inventory.Cluster(ctx, group.ID, res.TargetID)
		if err != nil {
			in.o.Log.WarnContext(ctx, "the target of a restore is not known", obs.KeyCluster, res.TargetID, obs.KeyErr, err)
			continue
		}
		if hosts == nil {
			if hosts, err = in.hosts(ctx, group); err != nil {
				return nil, false, err
			}
		}
		// Credentials that may write are the agent's own: the server keeps none.
		t := wire.PushTask{Restore: res.ID, Cluster: string(res.TargetID), SetName: cluster.ReplicaSet, Cancel: res.Status != model.RestoreInProgress}
		if t.Hosts, err = in.members(ctx, group, &backup.Config{}, &cluster, hosts); err != nil {
			return nil, false, err
		}
		for k := range t.Hosts {
			t.Hosts[k].Username, t.Hosts[k].Password = "", ""
		}
		out = append(out, t)
	}
	return out, len(all) > 0, nil
}
