package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
)

// Wanted is the number of the epoch that an agent is to begin, and what for; 0 if the current one goes on. current is nil before the first.
func Wanted(j *Job, current *Epoch) (n int64, why string) {
	switch {
	case j.Epoch < j.First || j.Epoch == 0 || current == nil:
		return j.Epoch + 1, "the first full read"
	case !current.Ended.IsZero():
		return j.Epoch + 1, current.EndedWhy
	case j.Resync != nil:
		return j.Epoch + 1, j.Resync.Why
	}
	return 0, ""
}

// BeginEpoch begins the epoch e.Number of the job e.Job; the one before ends. The same epoch with the same start again is no
// new one. store.ErrConflict when another agent has begun it elsewhere: then that one is the current epoch. ErrState
// when none is wanted, or the number is not the next.
func (b *Backup) BeginEpoch(ctx context.Context, e Epoch, now time.Time) (Epoch, error) {
	j, err := b.Job(ctx, e.Job)
	if err != nil {
		return e, err
	}
	var current *Epoch
	if j.Epoch >= j.First && j.Epoch > 0 {
		have, err := b.Epoch(ctx, e.Job, j.Epoch)
		switch {
		case err == nil:
			current = &have
		case !errors.Is(err, store.ErrNotFound):
			return e, err
		}
	}
	if current != nil && e.Number == j.Epoch {
		return history.Same(*current, e)
	}
	n, why := Wanted(&j, current)
	if n == 0 || n != e.Number {
		return e, fmt.Errorf("%w: epoch %d of job %s is not wanted: the current one is %d", ErrState, e.Number, e.Job, j.Epoch)
	}
	if e.Why == "" {
		e.Why = why
	}
	if e.StoreID == "" {
		e.StoreID = j.StoreID
	}
	e.Began, e.Head, e.Last, e.Kept = now, chain.Head{Job: string(e.Job), Epoch: e.Number}, nil, oplog.OpTime{}
	why = e.Why
	e, conflict := b.Begin(ctx, e)
	if conflict != nil && !errors.Is(conflict, store.ErrConflict) {
		return e, conflict
	}
	if current != nil && current.Ended.IsZero() {
		if err := b.EndEpoch(ctx, e.Job, current.Number, why, now); err != nil {
			return e, err
		}
	}
	err = b.UpdateJob(ctx, e.Job, func(j *Job) error {
		if j.Epoch >= e.Number {
			return store.ErrUnchanged
		}
		j.Epoch, j.Resync, j.Missing, j.Found = e.Number, nil, nil, nil
		return nil
	})
	return e, errors.Join(conflict, err)
}
