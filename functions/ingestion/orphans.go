package ingestion

import (
	"context"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Bounds of one run of the orphans pass.
const (
	orphanPage  = 1_000 // hosts listed at once
	orphanStep  = 500   // documents a collection deleted in one call
	orphanBound = 20    // such calls in one run
)

// orphansPass drops what alerting keeps of groups that no longer exist, and the series of hosts that no longer exist.
func (s *Server) orphansPass(ctx context.Context, _ time.Time) (store.PassReport, error) {
	report, err := s.orphanedGroups(ctx)
	if err != nil || report.More {
		return report, err
	}
	done := report.Done
	report, err = s.orphanedHosts(ctx)
	report.Done += done
	return report, err
}

// orphanedGroups drops the alert configurations, alerts, deliveries and the rest of deleted groups.
func (s *Server) orphanedGroups(ctx context.Context) (store.PassReport, error) {
	var report store.PassReport
	var last model.ID
	calls := 0
	for {
		// What is kept first, groups after: a group is there before anything of it is stored.
		stored, err := s.o.Events.Groups(ctx, last, orphanPage)
		if err != nil || len(stored) == 0 {
			return report, err
		}
		groups, err := s.o.Inventory.Groups(ctx)
		if err != nil {
			return report, err
		}
		alive := make(map[model.ID]bool, len(groups))
		for i := range groups {
			alive[groups[i].ID] = true
		}
		for _, id := range stored {
			for more := !alive[id]; more; calls++ {
				if calls >= orphanBound {
					report.More = true
					return report, nil
				}
				if more, err = s.o.Events.ForgetGroup(ctx, id, orphanStep); err != nil {
					return report, err
				}
				if !more {
					report.Done++
					s.o.Log.InfoContext(ctx, "dropped the alerts of a group that no longer exists", obs.KeyGroup, id)
				}
			}
		}
		last = stored[len(stored)-1]
	}
}

// orphanedHosts drops the series of hosts that no longer exist: their group was deleted, or their document. A host that is merely
// marked as deleted or hidden has its document still, and keeps its history. What was dropped is not listed again, so a run
// that stopped anywhere is gone on with by the next; groups whose deletion is not over yet have no hosts any more.
func (s *Server) orphanedHosts(ctx context.Context) (store.PassReport, error) {
	var report store.PassReport
	var last model.HostID
	calls := 0
	alive := map[model.HostID]bool{}
	for {
		// Series first, hosts after: a host is there before anything of it is stored.
		stored, err := s.o.Series.Hosts(ctx, last, orphanPage)
		if err != nil {
			return report, err
		}
		for _, id := range stored {
			if !alive[id] {
				if alive, err = s.allHosts(ctx); err != nil {
					return report, err
				}
				break
			}
		}
		for _, id := range stored {
			for more := !alive[id]; more; calls++ {
				if calls >= orphanBound {
					report.More = true
					return report, nil
				}
				if more, err = s.o.Series.DeleteHost(ctx, id, orphanStep); err != nil {
					return report, err
				}
				if !more {
					report.Done++
					s.o.Log.InfoContext(ctx, "dropped the series of a host that no longer exists", obs.KeyHostID, id)
				}
			}
		}
		if len(stored) < orphanPage {
			return report, nil
		}
		last = stored[len(stored)-1]
	}
}

// allHosts are the hosts of all groups, whatever became of them.
func (s *Server) allHosts(ctx context.Context) (map[model.HostID]bool, error) {
	groups, err := s.o.Inventory.Groups(ctx)
	if err != nil {
		return nil, err
	}
	all := map[model.HostID]bool{}
	for i := range groups {
		hosts, err := s.o.Inventory.Hosts(ctx, groups[i].ID)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", groups[i].ID, err)
		}
		for j := range hosts {
			all[hosts[j].ID] = true
		}
	}
	return all, nil
}
