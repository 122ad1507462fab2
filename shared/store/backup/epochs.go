package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/store"
)

// maxBreaks bounds the breaks of one epoch: after as many something is wrong that a new epoch does not mend by itself.
const maxBreaks = 10_000

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
		return sameEpoch(*current, e)
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
	mine := e
	var conflict error
	switch err := store.Insert(ctx, b.s, collEpochs, epochID(e.Job, e.Number), e); {
	case errors.Is(err, store.ErrExists): // begun already, perhaps by somebody who got no further
		have, err := b.Epoch(ctx, e.Job, e.Number)
		if err != nil {
			return e, err
		}
		e, conflict = sameEpoch(have, e)
	case err != nil:
		return e, fmt.Errorf("begin epoch %d of job %s: %w", e.Number, e.Job, err)
	}
	if current != nil && current.Ended.IsZero() {
		if err := b.EndEpoch(ctx, e.Job, current.Number, mine.Why, now); err != nil {
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

// sameEpoch says whether what is begun is what is there.
func sameEpoch(have, e Epoch) (Epoch, error) {
	if have.Start != e.Start || have.StartEntry != e.StartEntry || have.ReplicaSetID != e.ReplicaSetID || have.AgentID != e.AgentID {
		return have, fmt.Errorf("epoch %d of job %s begins at %s by agent %s: %w", e.Number, e.Job, have.Start, have.AgentID, store.ErrConflict)
	}
	return have, nil
}

// Epoch returns an epoch, or store.ErrNotFound.
func (b *Backup) Epoch(ctx context.Context, job model.ID, n int64) (Epoch, error) {
	return store.Get[Epoch](ctx, b.s, collEpochs, epochID(job, n))
}

// Epochs lists the epochs of a job, oldest first.
func (b *Backup) Epochs(ctx context.Context, job model.ID) ([]Epoch, error) {
	if err := checkID("job", job); err != nil {
		return nil, err
	}
	from, to := store.Under(under(job))
	return store.All[Epoch](ctx, b.s, docstore.Query{Collection: collEpochs, From: from, To: to})
}

func (b *Backup) updateEpoch(ctx context.Context, job model.ID, n int64, change func(*Epoch) error) error {
	return store.Update(ctx, b.s, collEpochs, epochID(job, n), change)
}

// EndEpoch ends an epoch: nothing is added to it any more. The first reason stays.
func (b *Backup) EndEpoch(ctx context.Context, job model.ID, n int64, why string, now time.Time) error {
	return b.updateEpoch(ctx, job, n, func(e *Epoch) error {
		if !e.Ended.IsZero() {
			return store.ErrUnchanged
		}
		e.Ended, e.EndedWhy = now, why
		return nil
	})
}

// MarkScanned notes the end of the full read: every collection is done or lost, as their number confirms (ErrSeed otherwise).
// The same end again changes nothing, another one is store.ErrConflict.
func (b *Backup) MarkScanned(ctx context.Context, job model.ID, n int64, scanEnd oplog.OpTime, collections int64) error {
	e, err := b.Epoch(ctx, job, n)
	if err != nil {
		return err
	}
	if e.ScanEnd.IsZero() {
		have := int64(0)
		for c, err := range b.CollectionsOf(ctx, job, n) {
			if err != nil {
				return err
			}
			if !c.Complete() {
				return fmt.Errorf("%w: %s was not read to its end", ErrSeed, c.NS)
			}
			have++
		}
		if have != collections {
			return fmt.Errorf("%w: %d collections are known, %d were read", ErrSeed, have, collections)
		}
	}
	return b.updateEpoch(ctx, job, n, func(e *Epoch) error {
		switch {
		case !e.ScanEnd.IsZero() && e.ScanEnd.TS == scanEnd.TS:
			return store.ErrUnchanged
		case !e.ScanEnd.IsZero():
			return fmt.Errorf("epoch %d of job %s: its full read ended at %s: %w", n, job, e.ScanEnd, store.ErrConflict)
		case !e.Ended.IsZero():
			return fmt.Errorf("epoch %d of job %s: %w", n, job, ErrEnded)
		}
		e.ScanEnd, e.Collections = scanEnd, collections
		return nil
	})
}

// MarkSeeded notes that a head has passed ScanEnd and that a snapshot of it is complete: the slices of the full read may go.
func (b *Backup) MarkSeeded(ctx context.Context, job model.ID, n int64, now time.Time) error {
	return b.updateEpoch(ctx, job, n, func(e *Epoch) error {
		if !e.Seeded.IsZero() {
			return store.ErrUnchanged
		}
		e.Seeded = now
		return nil
	})
}

// AddBreak notes a point behind which nothing is replayed. The same point again changes nothing.
func (b *Backup) AddBreak(ctx context.Context, job model.ID, n int64, br Break) error {
	return b.updateEpoch(ctx, job, n, func(e *Epoch) error {
		for _, have := range e.Breaks {
			if have.At == br.At {
				return store.ErrUnchanged
			}
		}
		if len(e.Breaks) >= maxBreaks {
			return fmt.Errorf("epoch %d of job %s has %d breaks: %w: begin a new one", n, job, maxBreaks, ErrState)
		}
		e.Breaks = append(e.Breaks, br)
		return nil
	})
}

// DeleteEpoch forgets an ended epoch of which nothing else is left: ErrState otherwise.
func (b *Backup) DeleteEpoch(ctx context.Context, job model.ID, n int64) error {
	e, err := b.Epoch(ctx, job, n)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.Ended.IsZero() || e.Last != nil {
		return fmt.Errorf("%w: epoch %d of job %s has not ended or has oplog", ErrState, n, job)
	}
	return b.s.Delete(ctx, collEpochs, epochID(job, n))
}
