// Package restores is the part of the backup area that holds restore jobs: who works on them, what they made, and the links by
// which it is fetched.
package restores

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// Coll is the collection.
const Coll = "backuprestores"

// Register reads and writes the part. It is safe for concurrent use and keeps nothing in memory.
type Register struct{ s *store.Store }

// New returns the part of an opened store.
func New(s *store.Store) *Register { return &Register{s: s} }

// Collections declares the part's collections.
func Collections() []docstore.Collection {
	text := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.String} }
	at := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.Time} }
	flag := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.Bool} }
	index := func(name string, fields ...docstore.Field) docstore.Index {
		return docstore.Index{Name: name, Fields: fields}
	}
	return []docstore.Collection{{Name: Coll, Indexes: []docstore.Index{
		index("time", at("created")), index("group", text("groupId"), at("created")), index("job", text("job"), at("created")),
		index("open", flag("open"), at("created")), index("kept", flag("kept"), at("created")),
	}}}
}

// Checks checks the part's collection.
func Checks() store.Checks {
	return store.Checks{
		Coll: store.CheckAs(func(c *store.Checking, doc docstore.Doc, v *document) error {
			if v.Delivery.Sealed != nil {
				if err := c.Opens(v.Delivery.Sealed, tokenContext(v.ID)); err != nil {
					return fmt.Errorf("its link does not open: %w", err)
				}
			}
			was := *v
			if v.index(); was.Open != v.Open || was.Kept != v.Kept {
				return errors.New("its state and what it is found by differ")
			}
			return store.CheckID(doc, v.ID)
		}),
	}
}

// document is a restore as stored, with what its indexes go by.
type document struct {
	Restore `bson:",inline"`
	Open    bool `bson:"open"` // in progress
	Kept    bool `bson:"kept"` // objects of it may be in a blockstore
}

func (d *document) index() {
	d.Open = d.Status == model.RestoreInProgress
	d.Kept = d.Cleaned.IsZero()
}

// AddRestore keeps a new restore job. store.ErrExists when the id is taken.
func (rs *Register) AddRestore(ctx context.Context, r Restore) error {
	var errs []error
	for _, id := range []struct {
		what string
		id   model.ID
	}{{"restore", model.ID(r.ID)}, {"batch", model.ID(r.BatchID)}, {"group", r.GroupID}, {"job", r.Job}} {
		errs = append(errs, entry.CheckID(id.what, id.id))
	}
	if r.Method != model.DeliverHTTP && r.Method != model.DeliverPush {
		errs = append(errs, fmt.Errorf("%w: delivery by %q", docstore.ErrInvalid, r.Method))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	d := document{Restore: r}
	d.index()
	return store.Insert(ctx, rs.s, Coll, r.ID, d)
}

// Restore returns one, or store.ErrNotFound.
func (rs *Register) Restore(ctx context.Context, id string) (Restore, error) {
	if err := entry.CheckID("restore", model.ID(id)); err != nil {
		return Restore{}, fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	d, err := store.Get[document](ctx, rs.s, Coll, id)
	return d.Restore, err
}

// Query selects restore jobs: of one backup (Job), of a group, or all.
type Query struct {
	Group model.ID
	Job   model.ID
	After string // next of the page before; the rest must be the same
	Limit int    // 0: 100, at most entry.MaxPage
}

// Restores lists restore jobs, newest first. next is "" at the end.
func (rs *Register) Restores(ctx context.Context, q Query) (page []Restore, next string, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	query := docstore.Query{Collection: Coll, Index: "time", Descending: true, Limit: min(q.Limit, entry.MaxPage), Resume: q.After}
	switch {
	case q.Job != "":
		query.Index, query.Prefix = "job", []any{string(q.Job)}
	case q.Group != "":
		query.Index, query.Prefix = "group", []any{string(q.Group)}
	}
	p, err := rs.s.Engine().Scan(ctx, query)
	if err != nil {
		return nil, "", fmt.Errorf("list restores: %w", err)
	}
	page = make([]Restore, 0, len(p.Docs))
	for _, doc := range p.Docs {
		d, err := store.Decode[document](doc)
		if err != nil {
			return nil, "", err
		}
		page = append(page, d.Restore)
	}
	return page, p.Next, nil
}

// OpenRestores lists the restores in progress, oldest first.
func (rs *Register) OpenRestores(ctx context.Context) ([]Restore, error) {
	open := []Restore{}
	for d, err := range store.ScanAll[document](ctx, rs.s, docstore.Query{Collection: Coll, Index: "open", Prefix: []any{true}}) {
		if err != nil {
			return nil, err
		}
		open = append(open, d.Restore)
	}
	return open, nil
}

// ClaimRestore gives a daemon the oldest restore in progress that nobody works on, or whose daemon was silent for longer than
// timeout, and that accept takes. false: there is none. The restore's Token is what UpdateRestoreAs wants.
func (rs *Register) ClaimRestore(ctx context.Context, daemon string, now time.Time, timeout time.Duration, accept func(*Restore) bool) (Restore, bool, error) {
	if daemon == "" {
		return Restore{}, false, fmt.Errorf("claim a restore: %w: the daemon has no id", docstore.ErrInvalid)
	}
	free := func(r *Restore) bool {
		return r.Status == model.RestoreInProgress && (r.Daemon == "" || now.Sub(r.Beat) > timeout) && (accept == nil || accept(r))
	}
	open, err := rs.OpenRestores(ctx)
	if err != nil {
		return Restore{}, false, err
	}
	for i := range open {
		if !free(&open[i]) {
			continue
		}
		var mine *Restore
		token := int64(0)
		err := rs.updateRestore(ctx, open[i].ID, func(r *Restore) error {
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
func (rs *Register) UpdateRestore(ctx context.Context, id string, change func(*Restore) error) error {
	return rs.updateRestore(ctx, id, func(r *Restore) error {
		token := r.Token
		err := change(r)
		r.Token = token
		return err
	})
}

// UpdateRestoreAs changes a restore as the one who claimed it: entry.ErrFenced when somebody else did since, entry.ErrState when it has ended,
// as it does when a person cancels it.
func (rs *Register) UpdateRestoreAs(ctx context.Context, id string, token int64, change func(*Restore) error) error {
	return rs.updateRestore(ctx, id, func(r *Restore) error {
		switch {
		case r.Token != token:
			return fmt.Errorf("restore %s: %w: its token is %d, ours %d", id, entry.ErrFenced, r.Token, token)
		case r.Status != model.RestoreInProgress:
			return fmt.Errorf("restore %s: %w: it is %s", id, entry.ErrState, r.Status)
		}
		err := change(r)
		r.Token = token
		return err
	})
}

func (rs *Register) updateRestore(ctx context.Context, id string, change func(*Restore) error) error {
	return store.Update(ctx, rs.s, Coll, id, func(d *document) error {
		was := d.Restore
		if err := change(&d.Restore); err != nil {
			return err
		}
		d.ID, d.GroupID, d.Job, d.Created = was.ID, was.GroupID, was.Job, was.Created
		d.pace(&was)
		if was.Status != model.RestoreInProgress && was.Status != "" && d.Status != was.Status {
			return fmt.Errorf("restore %s: %w: it is %s", id, entry.ErrState, was.Status)
		}
		d.index()
		return nil
	})
}

// KillRestore cancels a restore. One that has ended stays as it is; its link ends all the same.
func (rs *Register) KillRestore(ctx context.Context, id, why string, now time.Time) error {
	return rs.UpdateRestore(ctx, id, func(r *Restore) error {
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
	if !r.Cleaned.IsZero() || r.Status == model.RestoreInProgress || r.untidy(now) {
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
func (rs *Register) CleanableRestores(ctx context.Context, now time.Time, limit int) ([]Restore, error) {
	out := []Restore{}
	for d, err := range store.ScanAll[document](ctx, rs.s, docstore.Query{Collection: Coll, Index: "kept", Prefix: []any{true}}) {
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
func (rs *Register) SetCleaned(ctx context.Context, id string, now time.Time) error {
	return rs.UpdateRestore(ctx, id, func(r *Restore) error {
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

// Uses gives a restore whose objects are in a block store, "" if there is none.
func (rs *Register) Uses(ctx context.Context, storeID string) (id string, err error) {
	for d, err := range store.ScanAll[document](ctx, rs.s, docstore.Query{Collection: Coll, Index: "kept", Prefix: []any{true}}) {
		if err != nil || d.StoreID == storeID {
			return d.ID, err
		}
	}
	return "", nil
}

// Keeps reports whether a document says that its restore's objects are kept.
func Keeps(doc docstore.Doc) (bool, error) {
	d, err := store.Decode[document](doc)
	return err == nil && d.Cleaned.IsZero(), err
}
