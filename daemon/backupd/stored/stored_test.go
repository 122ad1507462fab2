package stored

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const job model.ID = "65f000000000000000000001"

// records are kept in memory.
type records struct {
	slices []backup.OplogSlice
	seeds  []backup.SeedSlice
	fail   error
}

func (r *records) Slices(_ context.Context, _ model.ID, _ int64, after oplog.OpTime, limit int) ([]backup.OplogSlice, error) {
	var out []backup.OplogSlice
	for _, s := range r.slices {
		if after.Before(s.Slice.Last) && len(out) < min(limit, 2) { // small pages, so that there are several
			out = append(out, s)
		}
	}
	return out, r.fail
}

func (r *records) Seeds(context.Context, model.ID, int64, oplog.UUID, int64) iter.Seq2[backup.SeedSlice, error] {
	return func(yield func(backup.SeedSlice, error) bool) {
		for _, s := range r.seeds {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func entry(n int) *oplog.Entry {
	raw, err := bson.Marshal(bson.D{
		{Key: "ts", Value: bson.Timestamp{T: uint32(1000 + n), I: 1}},
		{Key: "t", Value: int64(1)},
		{Key: "v", Value: int64(2)},
		{Key: "op", Value: "n"},
		{Key: "ns", Value: ""},
		{Key: "wall", Value: time.Unix(int64(1000+n), 0)},
		{Key: "o", Value: bson.D{{Key: "msg", Value: fmt.Sprintf("entry %d", n)}}},
	})
	if err != nil {
		panic(err)
	}
	e, err := oplog.Decode(raw)
	if err != nil {
		panic(err)
	}
	return e
}

// world stores 12 entries, 1 to 12, in four slices of three; of the third slice the filter left nothing.
func world(t *testing.T) (*Reader, *records) {
	t.Helper()
	rec, bs := &records{}, memblock.New()
	var head chain.Head
	for i := range 4 {
		b := chain.Begin(string(job), 2, head.Last, head.Sum)
		for k := range 3 {
			e := entry(i*3 + k + 1)
			kept := e.Raw
			if i == 2 {
				kept = nil
			}
			if err := b.Add(e, kept); err != nil {
				t.Fatal(err)
			}
		}
		slice, content, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		head.Job, head.Epoch = string(job), 2
		if head, _, err = head.Follow(slice); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("oplog/%s/2/%d", job, i)
		if err := blockstore.Put(t.Context(), bs, key, wire.Compress(content)); err != nil {
			t.Fatal(err)
		}
		rec.slices = append(rec.slices, backup.OplogSlice{Slice: *slice, Key: key})
	}
	return &Reader{Records: rec, Blocks: bs, Job: job, Epoch: 2, Start: entry(1).At}, rec
}

func read(ctx context.Context, o *Oplog, enough func() bool) (seen []int, err error) {
	if enough == nil {
		enough = func() bool { return false }
	}
	for raw, err := range o.Entries(ctx, enough) {
		if err != nil {
			return seen, err
		}
		e, err := oplog.Decode(raw)
		if err != nil {
			return seen, err
		}
		seen = append(seen, int(e.At.TS.T)-1000)
	}
	return seen, nil
}

func TestOplog(t *testing.T) {
	tests := []struct {
		name                string
		applied, replayFrom int
		want                []int
	}{
		{"from the beginning, with the first entry", 1, 1, []int{1, 2, 3, 4, 5, 6, 10, 11, 12}},
		{"in the middle of a slice: the whole slice", 5, 5, []int{4, 5, 6, 10, 11, 12}},
		{"after a slice", 6, 6, []int{10, 11, 12}},
		{"an open transaction", 6, 4, []int{4, 5, 6, 10, 11, 12}},
		{"an open transaction that begins at the end of a slice", 6, 3, []int{1, 2, 3, 4, 5, 6, 10, 11, 12}},
		{"at the end", 12, 12, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := world(t)
			o := r.Oplog(entry(tt.applied).At, entry(tt.replayFrom).At)
			got, err := read(t.Context(), o, nil)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Error(err, diff)
			}
			if o.Covered() != entry(12).At {
				t.Errorf("covered %s", o.Covered())
			}
		})
	}
}

func TestOplogGoesOn(t *testing.T) {
	r, _ := world(t)
	o := r.Oplog(entry(1).At, oplog.OpTime{})
	var all []int
	calls := 0
	for ; o.Covered() != entry(12).At; calls++ {
		got, err := read(t.Context(), o, func() bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	if diff := cmp.Diff([]int{1, 2, 3, 4, 5, 6, 10, 11, 12}, all); diff != "" || calls != 4 {
		t.Errorf("%d calls: %s", calls, diff)
	}
	// One that is broken off in the middle of a slice reads that slice again.
	o = r.Oplog(entry(1).At, oplog.OpTime{})
	for range o.Entries(t.Context(), func() bool { return false }) {
		break
	}
	if got, err := read(t.Context(), o, nil); err != nil || len(got) != 9 {
		t.Errorf("%v %v", got, err)
	}
}

func TestOplogIsChecked(t *testing.T) {
	damage := func(r *Reader, key string, content []byte) {
		ctx := context.Background()
		_ = r.Blocks.Delete(ctx, key)
		if content != nil {
			_ = blockstore.Put(ctx, r.Blocks, key, content)
		}
	}
	tests := []struct {
		name string
		do   func(r *Reader, rec *records)
		want error
	}{
		{"an object is gone", func(r *Reader, rec *records) { damage(r, rec.slices[1].Key, nil) }, ErrLost},
		{"an object is not zstd", func(r *Reader, rec *records) { damage(r, rec.slices[1].Key, []byte("xxx")) }, chain.ErrDamaged},
		{"an object has other entries", func(r *Reader, rec *records) {
			damage(r, rec.slices[1].Key, wire.Compress(slices.Concat([]byte(entry(7).Raw), []byte(entry(8).Raw), []byte(entry(9).Raw))))
		}, chain.ErrDamaged},
		{"a record is missing", func(_ *Reader, rec *records) { rec.slices = slices.Delete(rec.slices, 1, 2) }, chain.ErrSplice},
		{"the first record is missing", func(_ *Reader, rec *records) { rec.slices = rec.slices[1:] }, chain.ErrGap},
		{"a record of another epoch", func(_ *Reader, rec *records) { rec.slices[1].Slice.Epoch = 3 }, chain.ErrEpoch},
		{"the records cannot be read", func(_ *Reader, rec *records) { rec.fail = errors.ErrUnsupported }, errors.ErrUnsupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, rec := world(t)
			tt.do(r, rec)
			seen, err := read(t.Context(), r.Oplog(entry(2).At, oplog.OpTime{}), nil)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v after %v, want %v", err, seen, tt.want)
			}
			if len(seen) > 3 {
				t.Errorf("entries of an unchecked slice were given: %v", seen)
			}
		})
	}
}

func TestOplogEndsWithItsContext(t *testing.T) {
	r, _ := world(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("stopped")
	n := 0
	var last error
	for _, err := range r.Oplog(entry(1).At, oplog.OpTime{}).Entries(ctx, func() bool { return false }) {
		if n++; n == 3 {
			cancel(why)
		}
		last = err
	}
	if !errors.Is(last, why) {
		t.Errorf("%v after %d", last, n)
	}
}

func TestSeed(t *testing.T) {
	docs := func(n int) []byte {
		var all []byte
		for i := range n {
			raw, _ := bson.Marshal(bson.D{{Key: "_id", Value: i}})
			all = append(all, raw...)
		}
		return all
	}
	setup := func() (*Reader, *records, backup.Collection) {
		rec, bs := &records{}, memblock.New()
		for i := range int64(3) {
			key := fmt.Sprintf("seed/%s/2/u/%d", job, i)
			_ = blockstore.Put(context.Background(), bs, key, wire.Compress(docs(5)))
			rec.seeds = append(rec.seeds, backup.SeedSlice{Seq: i, Key: key, Docs: 5, Bytes: int64(len(docs(5))), Digest: chain.EntryDigest(docs(5))})
		}
		return &Reader{Records: rec, Blocks: bs, Job: job, Epoch: 2}, rec, backup.Collection{NS: "a.b", Slices: 3, Done: true}
	}
	tests := []struct {
		name  string
		first int64
		do    func(r *Reader, rec *records, c *backup.Collection)
		n     int
		want  error
	}{
		{"all", 0, func(*Reader, *records, *backup.Collection) {}, 3, nil},
		{"from the second on", 1, func(*Reader, *records, *backup.Collection) {}, 2, nil},
		{"beyond the end", 3, func(*Reader, *records, *backup.Collection) {}, 0, nil},
		{"one is not recorded", 0, func(_ *Reader, rec *records, _ *backup.Collection) { rec.seeds = slices.Delete(rec.seeds, 1, 2) }, 1, ErrLost},
		{"the last is not recorded", 0, func(_ *Reader, rec *records, _ *backup.Collection) { rec.seeds = rec.seeds[:2] }, 2, ErrLost},
		{"the collection was dropped while it was read", 0, func(_ *Reader, rec *records, c *backup.Collection) {
			rec.seeds, c.Lost, c.Done = rec.seeds[:2], "dropped", false
		}, 2, nil},
		{"an object is gone", 0, func(r *Reader, rec *records, _ *backup.Collection) {
			_ = r.Blocks.Delete(context.Background(), rec.seeds[2].Key)
		}, 2, ErrLost},
		{"another digest", 0, func(_ *Reader, rec *records, _ *backup.Collection) { rec.seeds[0].Digest = chain.Digest{} }, 0, chain.ErrDamaged},
		{"another size", 0, func(_ *Reader, rec *records, _ *backup.Collection) { rec.seeds[0].Bytes++ }, 0, chain.ErrDamaged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, rec, c := setup()
			tt.do(r, rec, &c)
			n := 0
			var last error
			for packed, err := range r.Seed(t.Context(), c, tt.first) {
				if last = err; err == nil {
					n++
					if _, err := wire.Decompress(packed, int64(len(docs(5)))); err != nil {
						t.Error(err)
					}
				}
			}
			if n != tt.n || !errors.Is(last, tt.want) {
				t.Errorf("%d slices, %v", n, last)
			}
		})
	}
}
