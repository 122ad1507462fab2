// Package stored reads what a backup agent sent: the slices of a full read and of the oplog, from the records in the store and
// the objects in a blockstore. Nothing is handed on that was not checked: digest and size of each slice, and that the slices of
// an oplog are one history without a hole.
package stored

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// ErrLost is in the chain of errors about a slice that the records name and whose object is gone.
var ErrLost = errors.New("a stored slice is gone")

// Records are the records of the store; *backup.Backup has them.
type Records interface {
	Slices(ctx context.Context, job model.ID, n int64, after oplog.OpTime, limit int) ([]backup.OplogSlice, error)
	Seeds(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, attempt int64) iter.Seq2[backup.SeedSlice, error]
}

// Reader reads what is stored of one epoch. It is safe for concurrent use.
type Reader struct {
	Records Records
	Blocks  blockstore.Store
	Job     model.ID
	Epoch   int64
	Start   oplog.OpTime // of the epoch: its first slice begins with this entry itself
}

// pageOfSlices is how many headers are asked for at once.
const pageOfSlices = 64

// slack is by how many bytes a compressed slice may exceed its content: zstd keeps what it cannot compress, in a frame.
const slack = 1 << 20

// content fetches an object and gives its documents.
func (r *Reader) content(ctx context.Context, key string, want int64) ([]byte, error) {
	packed, err := blockstore.Get(ctx, r.Blocks, key, wire.MaxSliceBytes+slack)
	switch {
	case errors.Is(err, blockstore.ErrNotFound):
		return nil, fmt.Errorf("%w: %s", ErrLost, key)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	docs, err := wire.Decompress(packed, want)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", chain.ErrDamaged, key, err)
	}
	return docs, nil
}

// Seed yields the slices of a collection of the full read from number first on, compressed as they are stored.
func (r *Reader) Seed(ctx context.Context, c backup.Collection, first int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		next := int64(0)
		for s, err := range r.Records.Seeds(ctx, r.Job, r.Epoch, c.UUID, c.Attempt) {
			if err != nil {
				yield(nil, err)
				return
			}
			if s.Seq != next {
				yield(nil, fmt.Errorf("%w: slice %d of %s", ErrLost, next, c.NS))
				return
			}
			if next++; s.Seq < first {
				continue
			}
			packed, err := r.seed(ctx, c, s)
			if !yield(packed, err) || err != nil {
				return
			}
		}
		if c.Lost == "" && next != c.Slices {
			yield(nil, fmt.Errorf("%w: %s has %d slices, %d are recorded", ErrLost, c.NS, c.Slices, next))
		}
	}
}

func (r *Reader) seed(ctx context.Context, c backup.Collection, s backup.SeedSlice) ([]byte, error) {
	packed, err := blockstore.Get(ctx, r.Blocks, s.Key, wire.MaxSliceBytes+slack)
	switch {
	case errors.Is(err, blockstore.ErrNotFound):
		return nil, fmt.Errorf("%w: %s", ErrLost, s.Key)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", s.Key, err)
	}
	docs, err := wire.Decompress(packed, s.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: slice %d of %s: %w", chain.ErrDamaged, s.Seq, c.NS, err)
	}
	if chain.EntryDigest(docs) != s.Digest {
		return nil, fmt.Errorf("%w: slice %d of %s has another digest", chain.ErrDamaged, s.Seq, c.NS)
	}
	return packed, nil
}

// Before is the position right before a timestamp: slices after it hold the entry at the timestamp too.
func Before(ts bson.Timestamp) oplog.OpTime {
	switch {
	case ts.I > 0:
		ts.I--
	case ts.T > 0:
		ts.T, ts.I = ts.T-1, ^uint32(0)
	}
	return oplog.OpTime{TS: ts}
}

// Oplog reads the stored oplog of an epoch from a position on. It remembers its place: calls of Entries go on where the last one
// ended. It is for one goroutine.
type Oplog struct {
	r     *Reader
	from  oplog.OpTime // what the first slice must reach back to
	after oplog.OpTime // of what was read so far
	prev  *chain.Slice // the last slice read
}

// Oplog begins reading at the entry right after a position (applied), or at an earlier one (replayFrom, inclusive) that is needed
// for transactions that were open.
func (r *Reader) Oplog(applied, replayFrom oplog.OpTime) *Oplog {
	after := applied
	if applied.TS == r.Start.TS {
		after = Before(r.Start.TS)
	}
	if !replayFrom.IsZero() && replayFrom.Before(applied) {
		after = Before(replayFrom.TS)
	}
	return &Oplog{r: r, from: after, after: after}
}

// Covered is the last position of the slices that were read whole: everything up to there was yielded.
func (o *Oplog) Covered() oplog.OpTime { return o.after }

// fetched is a slice that was read and checked.
type fetched struct {
	slice   chain.Slice
	entries []bson.Raw
	err     error
}

// Entries yields entries in order, as far as they are stored now, and ends earlier after a whole slice when enough says so. One
// slice is fetched ahead. Memory is that of three slices.
func (o *Oplog) Entries(ctx context.Context, enough func() bool) iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		ahead := make(chan fetched)
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer close(ahead)
			o.fetch(ctx, o.after, o.prev, ahead)
		}()
		defer func() {
			cancel()
			<-done
		}()
		for f := range ahead {
			if f.err != nil {
				yield(nil, f.err)
				return
			}
			for _, e := range f.entries {
				if !yield(e, nil) {
					return
				}
			}
			slice := f.slice
			o.prev, o.after = &slice, slice.Last
			if enough() {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(nil, context.Cause(ctx))
		}
	}
}

// fetch reads slices after a position until there are none.
func (o *Oplog) fetch(ctx context.Context, after oplog.OpTime, prev *chain.Slice, to chan<- fetched) {
	send := func(f fetched) bool {
		select {
		case to <- f:
			return f.err == nil
		case <-ctx.Done():
			return false
		}
	}
	for {
		page, err := o.r.Records.Slices(ctx, o.r.Job, o.r.Epoch, after, pageOfSlices)
		if err != nil {
			send(fetched{err: fmt.Errorf("list oplog slices: %w", err)})
			return
		}
		if len(page) == 0 {
			return
		}
		for i := range page {
			f := o.read(ctx, &page[i], prev)
			if !send(f) {
				return
			}
			prev, after = &page[i].Slice, page[i].Slice.Last
		}
	}
}

// read fetches and checks one slice: that it follows the one before, and that its content is what its header says.
func (o *Oplog) read(ctx context.Context, s *backup.OplogSlice, prev *chain.Slice) fetched {
	if err := o.follows(&s.Slice, prev); err != nil {
		return fetched{err: err}
	}
	f := fetched{slice: s.Slice}
	var docs []byte
	if s.Slice.Bytes > 0 {
		if docs, f.err = o.r.content(ctx, s.Key, s.Slice.Bytes); f.err != nil {
			return f
		}
	}
	f.entries = make([]bson.Raw, 0, max(0, min(s.Slice.Count, 1<<20)))
	f.err = s.Slice.Open(docs, func(raw bson.Raw) error {
		f.entries = append(f.entries, raw)
		return nil
	})
	return f
}

func (o *Oplog) follows(s, prev *chain.Slice) error {
	switch {
	case s.Job != string(o.r.Job) || s.Epoch != o.r.Epoch:
		return fmt.Errorf("%w: %s epoch %d", chain.ErrEpoch, s.Job, s.Epoch)
	case prev == nil && o.from.Before(s.After):
		return fmt.Errorf("%w: nothing is stored between %s and %s", chain.ErrGap, o.from, s.After)
	case prev != nil && (s.After != prev.Last || s.Prev != prev.Sum()):
		return fmt.Errorf("%w: %s after %s", chain.ErrSplice, s.First, prev.Last)
	}
	return nil
}
