package history

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
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// AddSlice keeps an oplog slice whose object is stored, if it follows what is stored; chain.Head.Follow tells what is wrong with
// one that does not. repeated: it was kept before, be it as the last one or earlier. head is the end of what is
// stored, also after an error of the chain.
//
// The slice and the new head are one write, of the epoch's document, which only one of several servers wins. The slice before
// moves to a document of its own first. So there is no moment at which a slice counts and is not found, or the reverse.
func (h *History) AddSlice(ctx context.Context, s OplogSlice, wall time.Time) (head chain.Head, repeated bool, err error) {
	job, n := model.ID(s.Slice.Job), s.Slice.Epoch
	if err := entry.CheckID("job", job); err != nil {
		return head, false, err
	}
	err = h.updateEpoch(ctx, job, n, func(e *Epoch) error {
		head, repeated = e.Head, false
		next, again, err := e.Follow(&s.Slice)
		switch {
		case err != nil:
			return err
		case again:
			repeated = true
			return store.ErrUnchanged
		case !e.Ended.IsZero():
			return fmt.Errorf("epoch %d of job %s: %w: %s", n, job, entry.ErrEnded, e.EndedWhy)
		}
		if err := h.settle(ctx, e); err != nil {
			return err
		}
		e.Head, e.Last, e.HeadAt = next, &s, s.At
		if !wall.IsZero() {
			e.HeadWall = wall
		}
		e.OplogBytes += s.Slice.Bytes
		e.OplogStored += s.Stored
		head = next
		return nil
	})
	if errors.Is(err, chain.ErrOverlap) {
		// An earlier slice, sent again because its success was not heard of while others went on, changes nothing.
		have, readErr := store.Get[OplogSlice](ctx, h.s, CollSlices, s.Slice.ID())
		if readErr == nil && have.Slice.Sum() == s.Slice.Sum() {
			return head, true, nil
		}
	}
	return head, repeated, err
}

// Follow is chain.Head.Follow, with the beginning of the epoch.
func (e *Epoch) Follow(s *chain.Slice) (next chain.Head, again bool, err error) {
	next, again, err = e.Head.Follow(s)
	if err == nil && !again && e.Head.Last.IsZero() && s.First.TS != e.Start.TS {
		return next, false, fmt.Errorf("%w: it begins with %s, the epoch with %s", chain.ErrGap, s.First, e.Start)
	}
	return next, again, err
}

// settle gives the last slice of an epoch a document of its own.
func (h *History) settle(ctx context.Context, e *Epoch) error {
	if e.Last == nil {
		return nil
	}
	op, err := store.InsertOp(CollSlices, e.Last.Slice.ID(), e.Last)
	if err != nil {
		return err
	}
	return h.s.WriteOnce(ctx, op)
}

// Slices returns up to limit slices with positions after a position (zero: from the beginning), in order: one unbroken chain
// from the first slice that reaches beyond it. None: there is nothing newer. entry.ErrExpired: what follows the position is no longer kept.
func (h *History) Slices(ctx context.Context, job model.ID, n int64, after oplog.OpTime, limit int) ([]OplogSlice, error) {
	if limit <= 0 || limit > entry.MaxPage {
		limit = entry.MaxPage
	}
	// The epoch is read first: what has a document of its own later is in this copy of it.
	e, err := h.Epoch(ctx, job, n)
	if err != nil {
		return nil, err
	}
	if e.Last == nil || !after.Before(e.Head.Last) {
		return nil, nil
	}
	if after.Before(e.Kept) {
		return nil, fmt.Errorf("epoch %d of job %s: %w: it is kept after %s, wanted is what follows %s", n, job, entry.ErrExpired, e.Kept, after)
	}
	from, to := store.Under(SlicesOf(job, n))
	if !after.IsZero() {
		// The slice that a position lies in begins at it or before. Ids of slices have one length: nothing lies between one and itself with a letter more.
		first := SliceID(job, n, after)
		q := docstore.Query{Collection: CollSlices, From: from, To: first + "!", Descending: true, Limit: 1}
		switch have, err := store.First[OplogSlice](ctx, h.s, q); {
		case err == nil && after.Before(have.Slice.Last):
			from = have.Slice.ID()
		case err == nil || errors.Is(err, store.ErrNotFound):
			from = first
		default:
			return nil, err
		}
	}
	var out []OplogSlice
	for s, err := range store.ScanAll[OplogSlice](ctx, h.s, docstore.Query{Collection: CollSlices, From: from, To: to, Limit: limit}) {
		if err != nil {
			return nil, err
		}
		if !s.Slice.First.Before(e.Last.Slice.First) || len(out) == limit {
			break // the last one is in e; what is newer came after this reading began
		}
		if after.Before(s.Slice.Last) && e.Kept.Before(s.Slice.Last) {
			out = append(out, s)
		}
	}
	if len(out) < limit && (len(out) == 0 || out[len(out)-1].Slice.Sum() == e.Last.Slice.Prev) {
		out = append(out, *e.Last)
	}
	if err = e.whole(out, after); err != nil {
		if now, again := h.Epoch(ctx, job, n); again == nil && after.Before(now.Kept) {
			return nil, fmt.Errorf("epoch %d of job %s: %w: it expired while it was read", n, job, entry.ErrExpired)
		}
	}
	return out, err
}

// whole checks that slices are one chain that leaves nothing out after a position.
func (e *Epoch) whole(slices []OplogSlice, after oplog.OpTime) error {
	headers := make([]chain.Slice, len(slices))
	for i := range slices {
		headers[i] = slices[i].Slice
	}
	if _, err := chain.Verify(headers); err != nil {
		return fmt.Errorf("epoch %d of job %s: %w: %w", e.Number, e.Job, entry.ErrDamaged, err)
	}
	if len(headers) > 0 && after.Before(headers[0].After) {
		return fmt.Errorf("epoch %d of job %s: %w: the slice after %s is missing", e.Number, e.Job, entry.ErrDamaged, after)
	}
	return nil
}

// ExpireSlices forgets up to limit slices that lie wholly before a position, oldest first, and gives the keys of their objects,
// which are to be deleted afterwards. The last slice of an epoch goes only when the epoch has ended. None: there are no more.
func (h *History) ExpireSlices(ctx context.Context, job model.ID, n int64, before oplog.OpTime, limit int) (keys []string, err error) {
	e, err := h.Epoch(ctx, job, n)
	if err != nil {
		return nil, err
	}
	from, to := store.Under(SlicesOf(job, n))
	page, err := h.s.Engine().Scan(ctx, docstore.Query{Collection: CollSlices, From: from, To: to, Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("slices of epoch %d of job %s: %w", n, job, err)
	}
	var ops []docstore.Op
	kept := e.Kept
	for _, doc := range page.Docs {
		s, err := store.Decode[OplogSlice](doc)
		if err != nil {
			return nil, err
		}
		if !s.Slice.Last.Before(before) || e.Last != nil && s.Slice.ID() == e.Last.Slice.ID() {
			break
		}
		ops, keys = append(ops, docstore.Op{Kind: docstore.Delete, Collection: CollSlices, ID: doc.ID}), append(keys, s.Key)
		if kept.Before(s.Slice.Last) {
			kept = s.Slice.Last
		}
	}
	if len(ops) > 0 {
		// The boundary first: nobody begins to read what is about to go.
		err := h.updateEpoch(ctx, job, n, func(e *Epoch) error {
			if !e.Kept.Before(kept) {
				return store.ErrUnchanged
			}
			e.Kept = kept
			return nil
		})
		if err != nil {
			return nil, err
		}
		return keys, h.s.Write(ctx, ops...)
	}
	if e.Ended.IsZero() || e.Last == nil || !e.Last.Slice.Last.Before(before) {
		return nil, nil
	}
	keys = []string{e.Last.Key}
	err = h.updateEpoch(ctx, job, n, func(e *Epoch) error {
		if e.Last == nil {
			return store.ErrUnchanged
		}
		e.Kept, e.Last = e.Head.Last, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	// It may have got a document too, where the slice after it was never kept.
	return keys, h.s.Delete(ctx, CollSlices, SliceID(job, n, e.Head.LastFirst))
}

// HasSlice reports whether a slice that begins at a position is known, and under which key its object is kept.
func (h *History) HasSlice(ctx context.Context, s *chain.Slice) (key string, ok bool, err error) {
	e, err := h.Epoch(ctx, model.ID(s.Job), s.Epoch)
	if err != nil {
		return "", false, err
	}
	if e.Last != nil && e.Last.Slice.ID() == s.ID() {
		return e.Last.Key, e.Last.Slice.Sum() == s.Sum(), nil
	}
	have, err := store.Get[OplogSlice](ctx, h.s, CollSlices, s.ID())
	if errors.Is(err, store.ErrNotFound) {
		return "", false, nil
	}
	return have.Key, err == nil && have.Slice.Sum() == s.Sum(), err
}
