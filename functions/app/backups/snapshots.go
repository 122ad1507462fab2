package backups

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Snapshots lists the snapshots of a backup that can be restored, oldest first; with incomplete those in the making too.
func (s *Service) Snapshots(ctx context.Context, cluster model.ID, complete, incomplete bool) ([]backup.Snapshot, error) {
	all, err := s.o.Store.Snapshots(ctx, cluster)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(x backup.Snapshot) bool {
		return !x.Condemned.IsZero() || x.Complete && !complete || !x.Complete && !incomplete
	}), nil
}

// Take asks for a snapshot that is kept for some days (0: as long as base snapshots are). Its id is answered.
func (s *Service) Take(ctx context.Context, b Backup, days int, by string) (backup.Wish, []Act, error) {
	if b.Job == nil || b.Config.Status != model.BackupStarted {
		return backup.Wish{}, nil, fmt.Errorf("%w that is running: start it", ErrNoBackup)
	}
	now := s.o.Now().UTC()
	if days <= 0 {
		days = b.Config.Schedule.RetentionDays
	}
	w := backup.Wish{ID: string(model.NewID()), At: now, By: by, Expires: now.AddDate(0, 0, days)}
	err := s.o.Store.UpdateJob(ctx, b.Job.ID, func(j *backup.Job) error {
		if len(j.Wishes) > 0 {
			return fmt.Errorf("%w: wait for it", ErrWishes)
		}
		j.Wishes = append(j.Wishes, w)
		return nil
	})
	return w, nil, err
}

// Keep changes how long a snapshot is kept: for ever, or until a time; a zero time computes it anew from the schedule.
func (s *Service) Keep(ctx context.Context, b Backup, id string, forever bool, until time.Time) (backup.Snapshot, []Act, error) {
	var kept backup.Snapshot
	err := s.o.Store.UpdateSnapshot(ctx, b.Config.ClusterID, id, func(x *backup.Snapshot) error {
		if !x.Condemned.IsZero() || !x.Complete {
			return fmt.Errorf("%w: it is incomplete or being deleted", backup.ErrState)
		}
		x.DoNotDelete = forever
		switch {
		case forever:
			x.Expires = time.Time{}
		case !until.IsZero():
			x.Expires = until.UTC()
		default:
			_, x.Expires = snapshot.Promote(b.Config.Schedule, nil, x.At)
		}
		kept = *x
		return nil
	})
	if err != nil {
		return kept, nil, err
	}
	text := fmt.Sprintf("The snapshot of %s of %s is kept until %s.", b.Cluster.Name, stamp(kept.At), stamp(kept.Expires))
	if forever {
		text = fmt.Sprintf("The snapshot of %s of %s is kept for ever.", b.Cluster.Name, stamp(kept.At))
	}
	return kept, []Act{{Type: model.EventSnapshotExpiry, GroupID: b.Config.GroupID, ClusterID: b.Config.ClusterID, Text: text}}, nil
}

// LastOne reports whether a snapshot is the only one left to restore a running backup from.
func (s *Service) LastOne(ctx context.Context, b Backup, id string) (bool, error) {
	all, err := s.Snapshots(ctx, b.Config.ClusterID, true, false)
	if err != nil || b.Config.Status != model.BackupStarted {
		return false, err
	}
	all = slices.DeleteFunc(all, func(x backup.Snapshot) bool { return x.VerifyError != "" })
	return len(all) == 1 && all[0].ID == id, nil
}

// Delete begins the deletion of a snapshot. The last one of a running backup stays: there must be something to restore.
func (s *Service) Delete(ctx context.Context, b Backup, id string) ([]Act, error) {
	x, err := s.o.Store.Snapshot(ctx, b.Config.ClusterID, id)
	if err != nil {
		return nil, err
	}
	last, err := s.LastOne(ctx, b, id)
	if err != nil {
		return nil, err
	}
	if last {
		return nil, fmt.Errorf("%w: it is the last snapshot of a running backup, take another one first", backup.ErrState)
	}
	if err := s.o.Store.Condemn(ctx, b.Config.ClusterID, id, s.o.Now().UTC()); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("The snapshot of %s of %s was deleted.", b.Cluster.Name, stamp(x.At))
	return []Act{{Type: model.EventSnapshotDeleted, GroupID: b.Config.GroupID, ClusterID: b.Config.ClusterID, Text: text}}, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
