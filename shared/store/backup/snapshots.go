package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// AddSnapshot keeps a snapshot as the holder of the job's lease: ErrFenced when a higher token was seen, by the job or by the
// snapshot itself. The same id again is replaced: a snapshot is begun incomplete, and completed last.
func (b *Backup) AddSnapshot(ctx context.Context, token int64, s Snapshot) error {
	if err := entry.CheckID("snapshot", model.ID(s.ID)); err != nil {
		return err
	}
	// The first write under a token shuts out the holders before, so the job is written before what must not come late.
	if err := b.UpdateJobAs(ctx, s.Job, token, func(*Job) error { return nil }); err != nil {
		return err
	}
	s.Token = token
	return store.Upsert(ctx, b.s, collSnapshots, snapshotID(s.Job, s.ID), func(have *Snapshot, exists bool) error {
		if exists && have.Token > token {
			return fmt.Errorf("snapshot %s: %w", s.ID, ErrFenced)
		}
		if exists && have.Complete && !s.Complete {
			return fmt.Errorf("snapshot %s: %w: it is complete", s.ID, ErrState)
		}
		condemned := have.Condemned
		*have = s
		if exists && !condemned.IsZero() { // deletion is not undone by a late write
			have.Condemned = condemned
		}
		return nil
	})
}

// Snapshot returns one snapshot of a job, or store.ErrNotFound.
func (b *Backup) Snapshot(ctx context.Context, job model.ID, id string) (Snapshot, error) {
	if err := errors.Join(entry.CheckID("job", job), entry.CheckID("snapshot", model.ID(id))); err != nil {
		return Snapshot{}, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	return store.Get[Snapshot](ctx, b.s, collSnapshots, snapshotID(job, id))
}

// Snapshots lists the snapshots of a job in the order in which they were begun, condemned and incomplete ones too.
func (b *Backup) Snapshots(ctx context.Context, job model.ID) ([]Snapshot, error) {
	if err := entry.CheckID("job", job); err != nil {
		return nil, err
	}
	from, to := store.Under(entry.Under(job))
	all, err := store.All[Snapshot](ctx, b.s, docstore.Query{Collection: collSnapshots, From: from, To: to})
	slices.SortStableFunc(all, func(a, b Snapshot) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return all, err
}

// UpdateSnapshot changes a snapshot. change may run several times; store.ErrUnchanged ends it without a write.
func (b *Backup) UpdateSnapshot(ctx context.Context, job model.ID, id string, change func(*Snapshot) error) error {
	return store.Update(ctx, b.s, collSnapshots, snapshotID(job, id), func(s *Snapshot) error {
		condemned := s.Condemned
		if err := change(s); err != nil {
			return err
		}
		s.ID, s.Job = id, job
		if !condemned.IsZero() {
			s.Condemned = condemned
		}
		return nil
	})
}

// Condemn begins the deletion of a snapshot: it is offered no more. It cannot be taken back.
func (b *Backup) Condemn(ctx context.Context, job model.ID, id string, now time.Time) error {
	return b.UpdateSnapshot(ctx, job, id, func(s *Snapshot) error {
		if !s.Condemned.IsZero() {
			return store.ErrUnchanged
		}
		s.Condemned = now
		return nil
	})
}

// DeleteSnapshot forgets a condemned snapshot (ErrState for another); that there was none is no error. Its manifest must be gone.
func (b *Backup) DeleteSnapshot(ctx context.Context, job model.ID, id string) error {
	s, err := b.Snapshot(ctx, job, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case s.Condemned.IsZero():
		return fmt.Errorf("snapshot %s: %w: condemn it first", id, ErrState)
	}
	if err := b.dropContents(ctx, job, id); err != nil {
		return err
	}
	return b.s.Delete(ctx, collSnapshots, snapshotID(job, id))
}

// Ranges says what of a job can be restored, and what lies between. It is what pages, previews and restores go by.
func (b *Backup) Ranges(ctx context.Context, job model.ID) ([]snapshot.Range, []snapshot.Hole, error) {
	// Snapshots first: oplog that expires meanwhile makes a range shorter, never one that is not there.
	snapshots, err := b.Snapshots(ctx, job)
	if err != nil {
		return nil, nil, err
	}
	epochs, err := b.Epochs(ctx, job)
	if err != nil {
		return nil, nil, err
	}
	have := make([]snapshot.Snapshot, len(snapshots))
	for i := range snapshots {
		have[i] = snapshots[i].Rule()
	}
	var segments []snapshot.Segment
	var breaks []snapshot.Break
	for i := range epochs {
		e := &epochs[i]
		if e.Last != nil {
			segments = append(segments, snapshot.Segment{Epoch: e.Number, After: e.Kept.TS, Last: e.Head.Last.TS, Why: e.EndedWhy})
		}
		for _, br := range e.Breaks {
			breaks = append(breaks, snapshot.Break{Epoch: e.Number, At: br.At, Why: br.Why})
		}
	}
	ranges, holes := snapshot.Ranges(have, segments, breaks)
	return ranges, holes, nil
}
