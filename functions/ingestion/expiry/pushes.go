package expiry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/restores"
)

// expirePushes ends pushes that no backup agent began in time, or whose agent has been silent for as long.
func (d *Duty) expirePushes(ctx context.Context, open []backup.Restore, r *run, now time.Time) error {
	var failed []error
	for i := range open {
		if why, _ := overdue(&open[i], now); why == "" {
			continue
		}
		if err := d.expirePush(ctx, open[i].ID, now); err != nil {
			failed = append(failed, fmt.Errorf("push %s: %w", open[i].ID, err))
			continue
		}
		r.done++
	}
	return errors.Join(failed...)
}

func (d *Duty) expirePush(ctx context.Context, id string, now time.Time) error {
	var e model.Event
	err := d.o.Area.UpdateRestore(ctx, id, func(res *backup.Restore) error {
		e = model.Event{}
		why, remedy := overdue(res, now)
		if why == "" {
			return store.ErrUnchanged
		}
		if res.Delivery.Status == model.DeliveryReady {
			res.Delivery.Status = model.DeliveryExpired
		}
		res.Status, res.Finished, res.Error, res.Remedy = model.RestoreBroken, now, why, remedy
		e = model.Event{
			ID: model.DeriveID("push", res.ID, string(res.Status)), GroupID: res.GroupID, Type: model.EventRestoreFailed, At: now, ClusterID: res.Job,
			Text: "The restore could not be written into its target: " + why,
		}
		return nil
	})
	if err != nil || e.ID == "" {
		return err
	}
	return d.o.Events.AddEvents(ctx, e)
}

// overdue says why a push is to end, and what to do; "" while it may go on.
func overdue(res *backup.Restore, now time.Time) (why, remedy string) {
	if res.Method != model.DeliverPush || res.Status != model.RestoreInProgress || len(res.Objects) == 0 {
		return "", ""
	}
	patience := time.Duration(max(res.Delivery.Hours, 1)) * time.Hour
	switch {
	case res.Delivery.Status == model.DeliveryTransferring:
		if now.Sub(res.Beat) < patience {
			return "", ""
		}
		return fmt.Sprintf("the backup agent that wrote it has been silent since %s", res.Beat.UTC().Format(time.RFC3339)),
			"Start the backup agent of the target's group again: it removes what is left in the target. Then start the restore again."
	case now.Before(res.Delivery.Expires):
		return "", ""
	}
	why = fmt.Sprintf("no backup agent of the target's group began to write it within %d hours", max(res.Delivery.Hours, 1))
	if step := strings.TrimSuffix(res.Step, "."); step != "" && step != restores.AwaitsAgent {
		why += ": " + step
	}
	return why, "Start a backup agent for the target's group, with restoreUsername and restorePassword if the target has access control; heartwood backup-agent --check tells what is missing. Then start the restore again."
}
