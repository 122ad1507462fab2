package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// restoreDoc is a restore as stored, with what its indexes go by.
type restoreDoc struct {
	Restore `bson:",inline"`
	Open    bool `bson:"open"` // in progress
	Kept    bool `bson:"kept"` // objects of it may be in a blockstore
}

func (d *restoreDoc) index() {
	d.Open = d.Status == model.RestoreInProgress
	d.Kept = d.Cleaned.IsZero()
}

// AddRestore keeps a new restore job. store.ErrExists when the id is taken.
func (b *Backup) AddRestore(ctx context.Context, r Restore) error {
	var errs []error
	for _, id := range []struct {
		what string
		id   model.ID
	}{{"restore", model.ID(r.ID)}, {"batch", model.ID(r.BatchID)}, {"group", r.GroupID}, {"job", r.Job}} {
		errs = append(errs, checkID(id.what, id.id))
	}
	if r.Method != model.DeliverHTTP && r.Method != model.DeliverPush {
		errs = append(errs, fmt.Errorf("%w: delivery by %q", docstore.ErrInvalid, r.Method))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	d := restoreDoc{Restore: r}
	d.index()
	return store.Insert(ctx, b.s, collRestores, r.ID, d)
}

// Restore returns one, or store.ErrNotFound.
func (b *Backup) Restore(ctx context.Context, id string) (Restore, error) {
	if err := checkID("restore", model.ID(id)); err != nil {
		return Restore{}, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	d, err := store.Get[restoreDoc](ctx, b.s, collRestores, id)
	return d.Restore, err
}

// RestoreQuery selects restore jobs: of one backup (Job), of a group, or all.
type RestoreQuery struct {
	Group model.ID
	Job   model.ID
	After string // next of the page before; the rest must be the same
	Limit int    // 0: 100, at most MaxPage
}

// Restores lists restore jobs, newest first. next is "" at the end.
func (b *Backup) Restores(ctx context.Context, q RestoreQuery) (page []Restore, next string, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	query := docstore.Query{Collection: collRestores, Index: "time", Descending: true, Limit: min(q.Limit, MaxPage), Resume: q.After}
	switch {
	case q.Job != "":
		query.Index, query.Prefix = "job", []any{string(q.Job)}
	case q.Group != "":
		query.Index, query.Prefix = "group", []any{string(q.Group)}
	}
	p, err := b.s.Engine().Scan(ctx, query)
	if err != nil {
		return nil, "", fmt.Errorf("list restores: %w", err)
	}
	page = make([]Restore, 0, len(p.Docs))
	for _, doc := range p.Docs {
		d, err := store.Decode[restoreDoc](doc)
		if err != nil {
			return nil, "", err
		}
		page = append(page, d.Restore)
	}
	return page, p.Next, nil
}

// OpenRestores lists the restores in progress, oldest first.
func (b *Backup) OpenRestores(ctx context.Context) ([]Restore, error) {
	open := []Restore{}
	for d, err := range store.ScanAll[restoreDoc](ctx, b.s, docstore.Query{Collection: collRestores, Index: "open", Prefix: []any{true}}) {
		if err != nil {
			return nil, err
		}
		open = append(open, d.Restore)
	}
	return open, nil
}

// ClaimRestore gives a daemon the oldest restore in progress that nobody works on, or whose daemon was silent for longer than
// timeout, and that accept takes. false: there is none. The restore's Token is what UpdateRestoreAs wants.
func (b *Backup) ClaimRestore(ctx context.Context, daemon string, now time.Time, timeout time.Duration, accept func(*Restore) bool) (Restore, bool, error) {
	if daemon == "" {
		return Restore{}, false, fmt.Errorf("claim a restore: %w: the daemon has no id", docstore.ErrInvalid)
	}
	free := func(r *Restore) bool {
		return r.Status == model.RestoreInProgress && (r.Daemon == "" || now.Sub(r.Beat) > timeout) && (accept == nil || accept(r))
	}
	open, err := b.OpenRestores(ctx)
	if err != nil {
		return Restore{}, false, err
	}
	for i := range open {
		if !free(&open[i]) {
			continue
		}
		var mine *Restore
		token := int64(0)
		err := b.updateRestore(ctx, open[i].ID, func(r *Restore) error {
			if token > 0 && r.Token == token && r.Daemon == daemon && r.Beat.Equal(now) {
				mine = r // an attempt that was thought lost
				return store.ErrUnchanged
			}
			if mine = nil; !free(r) {
				return store.ErrUnchanged
			}
			token = r.Token + 1
			r.Daemon, r.Token, r.Beat = daemon, token, now
			mine = r
			return nil
		})
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return Restore{}, false, fmt.Errorf("claim restore %s: %w", open[i].ID, err)
		case mine != nil:
			return *mine, true, nil
		}
	}
	return Restore{}, false, nil
}

// UpdateRestore changes a restore's fields that belong to people and agents. change may run several times; store.ErrUnchanged ends
// it without a write. A restore that has ended (finished, broken, killed) stays so.
func (b *Backup) UpdateRestore(ctx context.Context, id string, change func(*Restore) error) error {
	return b.updateRestore(ctx, id, func(r *Restore) error {
		token := r.Token
		err := change(r)
		r.Token = token
		return err
	})
}

// UpdateRestoreAs changes a restore as the one who claimed it: ErrFenced when somebody else did since, ErrState when it has ended,
// as it does when a person cancels it.
func (b *Backup) UpdateRestoreAs(ctx context.Context, id string, token int64, change func(*Restore) error) error {
	return b.updateRestore(ctx, id, func(r *Restore) error {
		switch {
		case r.Token != token:
			return fmt.Errorf("restore %s: %w: its token is %d, ours %d", id, ErrFenced, r.Token, token)
		case r.Status != model.RestoreInProgress:
			return fmt.Errorf("restore %s: %w: it is %s", id, ErrState, r.Status)
		}
		err := change(r)
		r.Token = token
		return err
	})
}

func (b *Backup) updateRestore(ctx context.Context, id string, change func(*Restore) error) error {
	return store.Update(ctx, b.s, collRestores, id, func(d *restoreDoc) error {
		was := d.Restore
		if err := change(&d.Restore); err != nil {
			return err
		}
		d.ID, d.GroupID, d.Job, d.Created = was.ID, was.GroupID, was.Job, was.Created
		if was.Status != model.RestoreInProgress && was.Status != "" && d.Status != was.Status {
			return fmt.Errorf("restore %s: %w: it is %s", id, ErrState, was.Status)
		}
		d.index()
		return nil
	})
}

// KillRestore cancels a restore. One that has ended stays as it is; its link ends all the same.
func (b *Backup) KillRestore(ctx context.Context, id, why string, now time.Time) error {
	return b.UpdateRestore(ctx, id, func(r *Restore) error {
		if r.Status == model.RestoreInProgress {
			r.Status, r.Finished, r.Error = model.RestoreKilled, now, why
		}
		if r.Method == model.DeliverHTTP && !r.Delivery.Expires.IsZero() && now.Before(r.Delivery.Expires) {
			r.Delivery.Expires = now
		}
		for i := range r.Objects {
			r.Objects[i].UseEnds = time.Time{}
		}
		return nil
	})
}

// Cleanable reports whether the objects of a restore are of no more use: it has failed, or its link and every download that has
// begun are over, or what was pushed is in place.
func (r *Restore) Cleanable(now time.Time) bool {
	if !r.Cleaned.IsZero() || r.Status == model.RestoreInProgress {
		return false
	}
	if r.Status == model.RestoreFinished && r.Method == model.DeliverHTTP {
		for i := range r.Objects {
			if now.Before(r.Objects[i].UseEnds) {
				return false
			}
		}
		return r.Delivery.usedUp(r.Objects) || !now.Before(r.Delivery.Expires)
	}
	return true
}

// CleanableRestores lists up to limit restores whose objects may be deleted, oldest first. SetCleaned says that it was done.
func (b *Backup) CleanableRestores(ctx context.Context, now time.Time, limit int) ([]Restore, error) {
	out := []Restore{}
	for d, err := range store.ScanAll[restoreDoc](ctx, b.s, docstore.Query{Collection: collRestores, Index: "kept", Prefix: []any{true}}) {
		if err != nil {
			return nil, err
		}
		if d.Cleanable(now) {
			if out = append(out, d.Restore); len(out) == limit {
				break
			}
		}
	}
	return out, nil
}

// SetCleaned notes that the objects of a restore are gone.
func (b *Backup) SetCleaned(ctx context.Context, id string, now time.Time) error {
	return b.UpdateRestore(ctx, id, func(r *Restore) error {
		if !r.Cleaned.IsZero() {
			return store.ErrUnchanged
		}
		if r.Status == model.RestoreFinished && r.Delivery.Status == model.DeliveryReady {
			r.Delivery.Status = model.DeliveryExpired
		}
		r.Cleaned = now
		return nil
	})
}
