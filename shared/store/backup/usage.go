package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
)

// DeleteDaemon forgets a daemon that holds no job: ErrState otherwise. One that still runs comes back with its next beat.
func (b *Backup) DeleteDaemon(ctx context.Context, id string) error {
	jobs, err := b.Jobs(ctx)
	if err != nil {
		return err
	}
	for i := range jobs {
		if jobs[i].Daemon == id {
			return fmt.Errorf("daemon %s: %w: job %s is bound to it: move it first", id, ErrState, jobs[i].ID)
		}
	}
	return b.Resources.DeleteDaemon(ctx, id)
}

// DeleteStore forgets a block store that no configuration, job, epoch, snapshot or restore names: ErrState says which does.
func (b *Backup) DeleteStore(ctx context.Context, id string) error {
	used := func(by string, at model.ID) error {
		return fmt.Errorf("block store %s: %w: %s %s uses it", id, ErrState, by, at)
	}
	for c, err := range store.ScanAll[Config](ctx, b.s, docstore.Query{Collection: collConfigs}) {
		if err == nil && c.StoreID == id {
			err = used("the configuration of cluster", c.ClusterID)
		}
		if err != nil {
			return err
		}
	}
	for j, err := range store.ScanAll[Job](ctx, b.s, docstore.Query{Collection: collJobs}) {
		if err == nil && j.StoreID == id {
			err = used("job", j.ID)
		}
		if err != nil {
			return err
		}
	}
	for e, err := range store.ScanAll[Epoch](ctx, b.s, docstore.Query{Collection: history.CollEpochs}) {
		if err == nil && e.StoreID == id {
			err = used("oplog of job", e.Job)
		}
		if err != nil {
			return err
		}
	}
	for s, err := range store.ScanAll[Snapshot](ctx, b.s, docstore.Query{Collection: collSnapshots}) {
		if err == nil && s.StoreID == id {
			err = used("a snapshot of job", s.Job)
		}
		if err != nil {
			return err
		}
	}
	if restore, err := b.Uses(ctx, id); err != nil || restore != "" {
		return errors.Join(err, used("restore", model.ID(restore)))
	}
	return b.Resources.DeleteStore(ctx, id)
}
