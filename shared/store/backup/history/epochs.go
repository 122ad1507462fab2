package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// maxBreaks bounds the breaks of one epoch: after as many something is wrong that a new epoch does not mend by itself.
const maxBreaks = 10_000

// Begin keeps the beginning of an epoch. The same beginning again is no new one; store.ErrConflict with the epoch that is there
// when it begins elsewhere.
func (h *History) Begin(ctx context.Context, e Epoch) (Epoch, error) {
	switch err := store.Insert(ctx, h.s, CollEpochs, entry.EpochID(e.Job, e.Number), e); {
	case errors.Is(err, store.ErrExists): // perhaps by somebody who got no further
		have, err := h.Epoch(ctx, e.Job, e.Number)
		if err != nil {
			return e, err
		}
		return Same(have, e)
	case err != nil:
		return e, fmt.Errorf("begin epoch %d of job %s: %w", e.Number, e.Job, err)
	}
	return e, nil
}

// Same says whether an epoch that is begun is the one that is there: store.ErrConflict if not.
func Same(have, e Epoch) (Epoch, error) {
	if have.Start != e.Start || have.StartEntry != e.StartEntry || have.ReplicaSetID != e.ReplicaSetID || have.AgentID != e.AgentID {
		return have, fmt.Errorf("epoch %d of job %s begins at %s by agent %s: %w", e.Number, e.Job, have.Start, have.AgentID, store.ErrConflict)
	}
	return have, nil
}

// Epoch returns an epoch, or store.ErrNotFound.
func (h *History) Epoch(ctx context.Context, job model.ID, n int64) (Epoch, error) {
	return store.Get[Epoch](ctx, h.s, CollEpochs, entry.EpochID(job, n))
}

// Epochs lists the epochs of a job, oldest first.
func (h *History) Epochs(ctx context.Context, job model.ID) ([]Epoch, error) {
	if err := entry.CheckID("job", job); err != nil {
		return nil, err
	}
	from, to := store.Under(entry.Under(job))
	return store.All[Epoch](ctx, h.s, docstore.Query{Collection: CollEpochs, From: from, To: to})
}

func (h *History) updateEpoch(ctx context.Context, job model.ID, n int64, change func(*Epoch) error) error {
	return store.Update(ctx, h.s, CollEpochs, entry.EpochID(job, n), change)
}

// EndEpoch ends an epoch: nothing is added to it any more. The first reason stays.
func (h *History) EndEpoch(ctx context.Context, job model.ID, n int64, why string, now time.Time) error {
	return h.updateEpoch(ctx, job, n, func(e *Epoch) error {
		if !e.Ended.IsZero() {
			return store.ErrUnchanged
		}
		e.Ended, e.EndedWhy = now, why
		return nil
	})
}

// MarkScanned notes the end of the full read: every collection is done or lost, as their number confirms (entry.ErrSeed otherwise).
// The same end again changes nothing, another one is store.ErrConflict.
func (h *History) MarkScanned(ctx context.Context, job model.ID, n int64, scanEnd oplog.OpTime, collections int64) error {
	e, err := h.Epoch(ctx, job, n)
	if err != nil {
		return err
	}
	if e.ScanEnd.IsZero() {
		have := int64(0)
		for c, err := range h.CollectionsOf(ctx, job, n) {
			if err != nil {
				return err
			}
			if !c.Complete() {
				return fmt.Errorf("%w: %s was not read to its end", entry.ErrSeed, c.NS)
			}
			have++
		}
		if have != collections {
			return fmt.Errorf("%w: %d collections are known, %d were read", entry.ErrSeed, have, collections)
		}
	}
	return h.updateEpoch(ctx, job, n, func(e *Epoch) error {
		switch {
		case !e.ScanEnd.IsZero() && e.ScanEnd.TS == scanEnd.TS:
			return store.ErrUnchanged
		case !e.ScanEnd.IsZero():
			return fmt.Errorf("epoch %d of job %s: its full read ended at %s: %w", n, job, e.ScanEnd, store.ErrConflict)
		case !e.Ended.IsZero():
			return fmt.Errorf("epoch %d of job %s: %w", n, job, entry.ErrEnded)
		}
		e.ScanEnd, e.Collections = scanEnd, collections
		return nil
	})
}

// MarkSeeded notes that a head has passed ScanEnd and that a snapshot of it is complete: the slices of the full read may go.
func (h *History) MarkSeeded(ctx context.Context, job model.ID, n int64, now time.Time) error {
	return h.updateEpoch(ctx, job, n, func(e *Epoch) error {
		if !e.Seeded.IsZero() {
			return store.ErrUnchanged
		}
		e.Seeded = now
		return nil
	})
}

// AddBreak notes a point behind which nothing is replayed. The same point again changes nothing.
func (h *History) AddBreak(ctx context.Context, job model.ID, n int64, br Break) error {
	return h.updateEpoch(ctx, job, n, func(e *Epoch) error {
		for _, have := range e.Breaks {
			if have.At == br.At {
				return store.ErrUnchanged
			}
		}
		if len(e.Breaks) >= maxBreaks {
			return fmt.Errorf("epoch %d of job %s has %d breaks: %w: begin a new one", n, job, maxBreaks, entry.ErrState)
		}
		e.Breaks = append(e.Breaks, br)
		return nil
	})
}

// DeleteEpoch forgets an ended epoch of which nothing else is left: entry.ErrState otherwise.
func (h *History) DeleteEpoch(ctx context.Context, job model.ID, n int64) error {
	e, err := h.Epoch(ctx, job, n)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.Ended.IsZero() || e.Last != nil {
		return fmt.Errorf("%w: epoch %d of job %s has not ended or has oplog", entry.ErrState, n, job)
	}
	return h.s.Delete(ctx, CollEpochs, entry.EpochID(job, n))
}
