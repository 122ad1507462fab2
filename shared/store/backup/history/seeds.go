package history

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// openEpoch is an epoch that can be added to.
func (h *History) openEpoch(ctx context.Context, job model.ID, n int64) (Epoch, error) {
	e, err := h.Epoch(ctx, job, n)
	if err == nil && !e.Ended.IsZero() {
		err = fmt.Errorf("epoch %d of job %s: %w: %s", n, job, entry.ErrEnded, e.EndedWhy)
	}
	return e, err
}

// PutCollections keeps collections of a full read. It may be repeated: an attempt never becomes a lower one, and within an
// attempt what is done stays done. A collection becomes done only when all the slices it is said to have are stored
// (entry.ErrSeed otherwise; those before it in the list are kept).
func (h *History) PutCollections(ctx context.Context, job model.ID, n int64, collections []Collection) error {
	e, err := h.openEpoch(ctx, job, n)
	if err != nil {
		return err
	}
	if !e.ScanEnd.IsZero() { // a repetition of what was complete
		return nil
	}
	for i := range collections {
		c := &collections[i]
		if c.NS == "" || c.UUID.IsZero() == (c.View == nil) || len(collectionID(job, n, c)) > docstore.MaxID {
			return fmt.Errorf("collection %q: %w: it needs a name, and a UUID or the document of a view", c.NS, docstore.ErrInvalid)
		}
		if c.Done {
			if err := h.allStored(ctx, job, n, c); err != nil {
				return err
			}
		}
	}
	for rest := collections; len(rest) > 0; {
		some := rest[:min(len(rest), entry.MaxPage)]
		rest = rest[len(some):]
		if err := h.putCollections(ctx, job, n, some); err != nil {
			return err
		}
	}
	return nil
}

// putCollections writes them in one batch; those that somebody else wrote at the same time again, one by one.
func (h *History) putCollections(ctx context.Context, job model.ID, n int64, collections []Collection) error {
	ids := make([]string, len(collections))
	for i := range collections {
		ids[i] = collectionID(job, n, &collections[i])
	}
	docs, err := h.s.Engine().Get(ctx, CollCollections, ids...)
	if err != nil {
		return fmt.Errorf("read collections of epoch %d of job %s: %w", n, job, err)
	}
	have := make(map[string]docstore.Doc, len(docs))
	for _, doc := range docs {
		have[doc.ID] = doc
	}
	var ops []docstore.Op
	var of []int
	for i := range collections {
		next := collections[i]
		op := docstore.Op{Kind: docstore.Insert, Collection: CollCollections, ID: ids[i]}
		if doc, ok := have[ids[i]]; ok {
			was, err := store.Decode[Collection](doc)
			if err != nil {
				return err
			}
			if !was.follow(&next) {
				continue
			}
			op.Kind, op.Rev = docstore.Replace, doc.Rev
		}
		if op.Body, err = store.Encode(next); err != nil {
			return err
		}
		ops, of = append(ops, op), append(of, i)
	}
	if len(ops) == 0 {
		return nil
	}
	results, err := h.s.Engine().Write(ctx, ops, false)
	if err != nil && !errors.Is(err, docstore.ErrOutcomeUnknown) {
		return fmt.Errorf("write collections of epoch %d of job %s: %w", n, job, err)
	}
	for k := range ops {
		if err == nil && results[k].Err == nil {
			continue
		}
		if err == nil && !errors.Is(results[k].Err, store.ErrConflict) && !errors.Is(results[k].Err, store.ErrExists) {
			return fmt.Errorf("write collection %s: %w", ops[k].ID, results[k].Err)
		}
		one := store.Upsert(ctx, h.s, CollCollections, ops[k].ID, func(was *Collection, exists bool) error {
			next := collections[of[k]]
			if exists && !was.follow(&next) {
				return store.ErrUnchanged
			}
			*was = next
			return nil
		})
		if one != nil {
			return one
		}
	}
	return nil
}

// follow says whether next takes the place of what is kept.
func (c *Collection) follow(next *Collection) bool {
	switch {
	case next.Attempt != c.Attempt:
		return next.Attempt > c.Attempt
	case c.Done && !next.Done:
		return false
	}
	return true
}

// allStored checks that the slices 0 to c.Slices-1 of an attempt are there.
func (h *History) allStored(ctx context.Context, job model.ID, n int64, c *Collection) error {
	from, to := store.Under(attemptID(job, n, c.UUID, c.Attempt) + "/")
	have, err := h.s.Engine().Count(ctx, docstore.Query{Collection: CollSeeds, From: from, To: to}, int(c.Slices)+1)
	if err != nil {
		return fmt.Errorf("count the slices of %s: %w", c.NS, err)
	}
	if int64(have) != c.Slices {
		return fmt.Errorf("%w: %s has %d of the %d slices it is said to have", entry.ErrSeed, c.NS, have, c.Slices)
	}
	if c.Slices == 0 {
		return nil
	}
	// As many as there should be, and the last one is the last one: so none is missing.
	_, err = h.s.Doc(ctx, CollSeeds, seedID(job, n, c.UUID, c.Attempt, c.Slices-1))
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: slice %d of %s is missing", entry.ErrSeed, c.Slices-1, c.NS)
	}
	return err
}

// CollectionsOf yields the collections of a full read by UUID, then its views by name.
func (h *History) CollectionsOf(ctx context.Context, job model.ID, n int64) iter.Seq2[Collection, error] {
	from, to := store.Under(entry.EpochID(job, n) + "/")
	return store.ScanAll[Collection](ctx, h.s, docstore.Query{Collection: CollCollections, From: from, To: to, Limit: entry.MaxPage})
}

// CollectionsPage is a page of CollectionsOf: after is "" or what the page before gave, next is "" at the end.
func (h *History) CollectionsPage(ctx context.Context, job model.ID, n int64, after string, limit int) (page []Collection, next string, err error) {
	if limit <= 0 || limit > entry.MaxPage {
		limit = entry.MaxPage
	}
	prefix := entry.EpochID(job, n) + "/"
	from, to := store.Under(prefix)
	if after != "" {
		from = prefix + after + "\x01" // no id of the kind is longer by a byte that small
	}
	p, err := h.s.Engine().Scan(ctx, docstore.Query{Collection: CollCollections, From: from, To: to, Limit: limit})
	if err != nil {
		return nil, "", fmt.Errorf("collections of epoch %d of job %s: %w", n, job, err)
	}
	page = make([]Collection, 0, len(p.Docs))
	for _, doc := range p.Docs {
		c, err := store.Decode[Collection](doc)
		if err != nil {
			return nil, "", err
		}
		page = append(page, c)
	}
	if p.Next != "" && len(p.Docs) > 0 {
		next = strings.TrimPrefix(p.Docs[len(p.Docs)-1].ID, prefix)
	}
	return page, next, nil
}

// AddSeed keeps a slice of a full read whose object is stored. stored is false when the same one was there before; entry.ErrSeed when
// another one is: then the collection is to be read again as the next attempt.
func (h *History) AddSeed(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, s SeedSlice) (stored bool, err error) {
	if _, err := h.openEpoch(ctx, job, n); err != nil {
		return false, err
	}
	id := seedID(job, n, uuid, s.Attempt, s.Seq)
	switch err := store.Insert(ctx, h.s, CollSeeds, id, s); {
	case errors.Is(err, store.ErrExists):
		have, err := store.Get[SeedSlice](ctx, h.s, CollSeeds, id)
		if err != nil {
			return false, err
		}
		if have.Digest != s.Digest || have.Docs != s.Docs {
			return false, fmt.Errorf("slice %d of collection %s: %w", s.Seq, uuid, entry.ErrSeed)
		}
		return false, nil
	case err != nil:
		return false, fmt.Errorf("keep slice %d of collection %s: %w", s.Seq, uuid, err)
	}
	// What is added while the epoch ends must not outlive it.
	if _, err := h.openEpoch(ctx, job, n); errors.Is(err, entry.ErrEnded) || errors.Is(err, store.ErrNotFound) {
		return false, errors.Join(err, h.s.Delete(ctx, CollSeeds, id))
	}
	return true, nil
}

// SeedAt is one stored slice, or store.ErrNotFound.
func (h *History) SeedAt(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, attempt, seq int64) (SeedSlice, error) {
	return store.Get[SeedSlice](ctx, h.s, CollSeeds, seedID(job, n, uuid, attempt, seq))
}

// Seeds yields the slices of one attempt at a collection (Collection.Attempt), in order.
func (h *History) Seeds(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, attempt int64) iter.Seq2[SeedSlice, error] {
	from, to := store.Under(attemptID(job, n, uuid, attempt) + "/")
	return store.ScanAll[SeedSlice](ctx, h.s, docstore.Query{Collection: CollSeeds, From: from, To: to})
}

// Stored is how far an attempt at a collection is without a hole: the number of slices, and the agent's note in the last of them.
func (h *History) Stored(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, attempt int64) (slices int64, resume []byte, err error) {
	for s, err := range h.Seeds(ctx, job, n, uuid, attempt) {
		if err != nil {
			return 0, nil, err
		}
		if s.Seq != slices {
			break
		}
		slices, resume = slices+1, s.Resume
	}
	return slices, resume, nil
}

// DropSeeds forgets up to limit slices of a full read and gives the keys of their objects, which are to be deleted afterwards.
// None: there are no more, and the collections of the read are forgotten too if the epoch has ended.
func (h *History) DropSeeds(ctx context.Context, job model.ID, n int64, limit int) (keys []string, err error) {
	from, to := store.Under(entry.EpochID(job, n) + "/")
	page, err := h.s.Engine().Scan(ctx, docstore.Query{Collection: CollSeeds, From: from, To: to, Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("seeds of epoch %d of job %s: %w", n, job, err)
	}
	ops := make([]docstore.Op, len(page.Docs))
	for i, doc := range page.Docs {
		s, err := store.Decode[SeedSlice](doc)
		if err != nil {
			return nil, err
		}
		keys = append(keys, s.Key)
		ops[i] = docstore.Op{Kind: docstore.Delete, Collection: CollSeeds, ID: doc.ID}
	}
	return keys, h.s.Write(ctx, ops...)
}

// DropCollections forgets up to limit collections of an epoch, and says whether some may be left. Restores of an epoch that goes
// on do not need them: the head knows its collections.
func (h *History) DropCollections(ctx context.Context, job model.ID, n int64, limit int) (more bool, err error) {
	deleted, err := h.s.DeleteUnder(ctx, CollCollections, entry.EpochID(job, n)+"/", limit)
	return deleted >= limit, err
}
