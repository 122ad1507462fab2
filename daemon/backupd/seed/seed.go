// Package seed fills an empty head from the slices of a full read: it makes collections as the source had them, with their UUIDs and
// without secondary indexes, and inserts their documents. Views come at the end of the fuzzy window, with the indexes. It can be
// interrupted anywhere and goes on where it stopped.
package seed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/daemon/backupd/bulk"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// ErrDamaged is in the chain of errors about a slice that is not what was stored.
var ErrDamaged = errors.New("damaged sync slice")

// Collection is one collection of the full read.
type Collection struct {
	schema.Collection
	Docs  int64
	Bytes int64
}

// Progress of a seeding. It counts what earlier runs did, too.
type Progress struct {
	NS          string // in work
	Collections int64  // made so far
	Total       int64  // collections
	Docs        int64
	Bytes       int64 // of documents inserted
}

// Options of a seeding.
type Options struct {
	Client      *mongo.Client // of the head
	Dir         string        // the job's folder: the place is kept in seed.log
	Collections []Collection  // without views and without collections that were lost
	// Slices yields the slices of a collection from number first on, in order: zstd of the documents one after another.
	Slices      func(ctx context.Context, c oplog.UUID, first int64) iter.Seq2[[]byte, error]
	Connections int // 0 means 4
	// MaxSlice bounds a slice uncompressed; 0 means 256 MB.
	MaxSlice int64
	// Window yields the entries of the fuzzy window. It is asked for only where a server before 5.0 has capped collections:
	// it refuses to move a document to its end later, so that those inserted since the read began are left out here.
	Window   func(ctx context.Context) iter.Seq2[bson.Raw, error]
	Progress func(Progress) // may be nil; not called concurrently
}

// Run fills the head. Run again after an interruption it goes on; after success it does nothing.
func Run(ctx context.Context, o Options) error {
	if o.Connections <= 0 {
		o.Connections = 4
	}
	if o.MaxSlice <= 0 {
		o.MaxSlice = 256 << 20
	}
	p, err := openPlace(o.Dir)
	if err != nil {
		return err
	}
	defer p.close()
	if p.finished {
		return nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(o.Connections), zstd.WithDecoderMaxMemory(uint64(o.MaxSlice)))
	if err != nil {
		return err
	}
	defer d.Close()
	s := &seeding{o: o, head: bulk.New(o.Client, 1), place: p, zstd: d}
	if err := s.run(ctx); err != nil {
		return err
	}
	return p.finish()
}

// seeding is one run.
type seeding struct {
	o     Options
	head  *bulk.Writer
	place *place
	zstd  *zstd.Decoder
	later map[oplog.UUID]map[string]bool // of capped collections: documents to leave out, by key

	mu       sync.Mutex
	progress Progress
}

func (s *seeding) run(ctx context.Context) error {
	s.progress.Total = int64(len(s.o.Collections))
	for i := range s.o.Collections {
		c := &s.o.Collections[i]
		if err := s.head.Create(ctx, c.Collection); err != nil {
			return fmt.Errorf("make collection %s on the head: %w", c.NS, err)
		}
		s.tell(func(p *Progress) { p.NS = c.NS; p.Collections++ })
	}
	if err := s.readWindow(ctx); err != nil {
		return err
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	return s.head.Journal(ctx)
}

// fill inserts all slices. Where the next one cannot be had, those that can are still finished: the next run begins after them.
func (s *seeding) fill(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	work := make(chan task)
	for range s.o.Connections {
		g.Go(func() error { return s.worker(gctx, work) })
	}
	var err error
	for i := range s.o.Collections {
		if err = s.slices(gctx, &s.o.Collections[i], work); err != nil {
			break
		}
	}
	close(work)
	if werr := g.Wait(); werr != nil {
		return werr
	}
	return err
}

func (s *seeding) tell(change func(*Progress)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.progress)
	if s.o.Progress != nil {
		s.o.Progress(s.progress)
	}
}

// task is a slice to be inserted.
type task struct {
	c      *Collection
	number int64
	packed []byte
}

// slices hands out the slices of a collection. Those of a capped one are inserted here, one after another.
func (s *seeding) slices(ctx context.Context, c *Collection, work chan<- task) error {
	if c.Views() {
		return nil // views are made by commands
	}
	first, docs, bytes := s.place.of(c.UUID)
	s.tell(func(p *Progress) { p.NS = c.NS; p.Docs += docs; p.Bytes += bytes })
	n := first
	for packed, err := range s.o.Slices(ctx, c.UUID, first) {
		if err != nil {
			return fmt.Errorf("slice %d of %s: %w", n, c.NS, err)
		}
		t := task{c: c, number: n, packed: packed}
		n++
		if c.Capped() {
			if err := s.insert(ctx, t, t.number == first); err != nil {
				return err
			}
			continue
		}
		select {
		case work <- t:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *seeding) worker(ctx context.Context, work <-chan task) error {
	for t := range work {
		if err := s.insert(ctx, t, false); err != nil {
			return err
		}
	}
	return nil
}

// insert puts a slice into the head and notes that it is there.
func (s *seeding) insert(ctx context.Context, t task, again bool) error {
	docs, size, err := unpack(s.zstd, t.packed)
	if err != nil {
		return fmt.Errorf("slice %d of %s: %w", t.number, t.c.NS, err)
	}
	all := int64(len(docs))
	switch {
	case t.c.Capped():
		docs = s.leaveOut(t.c.UUID, docs)
		err = s.head.Append(ctx, t.c.NS, docs, again)
	case t.c.NS == bulk.Version:
		err = s.head.Insert(ctx, t.c.NS, withoutFCV(docs))
	default:
		err = s.head.Insert(ctx, t.c.NS, docs)
	}
	if err == nil {
		err = s.head.Journal(ctx)
	}
	if err == nil {
		err = s.place.done(t.c.UUID, t.number, all, size)
	}
	if err != nil {
		return fmt.Errorf("slice %d of %s: %w", t.number, t.c.NS, err)
	}
	s.tell(func(p *Progress) { p.NS = t.c.NS; p.Docs += all; p.Bytes += size })
	return nil
}

// withoutFCV leaves out the feature compatibility version: a server's own is set by command.
func withoutFCV(docs []bson.Raw) []bson.Raw {
	var out []bson.Raw
	for _, d := range docs {
		v, _ := oplog.Lookup(d, "_id")
		if id, _ := v.StringValueOK(); id != "featureCompatibilityVersion" {
			out = append(out, d)
		}
	}
	return out
}

// unpack gives the documents of a slice.
func unpack(d *zstd.Decoder, packed []byte) (docs []bson.Raw, size int64, err error) {
	b, err := d.DecodeAll(packed, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	size = int64(len(b))
	for len(b) > 0 {
		n := uint32(0)
		if len(b) >= 5 {
			n = binary.LittleEndian.Uint32(b)
		}
		if n < 5 || uint64(n) > uint64(len(b)) || b[n-1] != 0 {
			return nil, 0, fmt.Errorf("%w: it does not end with a document", ErrDamaged)
		}
		docs = append(docs, bson.Raw(b[:n:n]))
		b = b[n:]
	}
	return docs, size, nil
}

// leaveOut drops the documents that the window inserts.
func (s *seeding) leaveOut(c oplog.UUID, docs []bson.Raw) []bson.Raw {
	later := s.later[c]
	if len(later) == 0 {
		return docs
	}
	var out []bson.Raw
	for _, d := range docs {
		if id, ok := oplog.Lookup(d, "_id"); !ok || !later[document.Key(id)] {
			out = append(out, d)
		}
	}
	return out
}

// readWindow finds what of capped collections the window inserts, where the head needs to know it.
func (s *seeding) readWindow(ctx context.Context) error {
	if s.o.Window == nil {
		return nil
	}
	capped := map[oplog.UUID]map[string]bool{}
	for i := range s.o.Collections {
		if c := &s.o.Collections[i]; c.Capped() {
			capped[c.UUID] = map[string]bool{}
		}
	}
	if len(capped) == 0 {
		return nil
	}
	major, err := s.major(ctx)
	if err != nil || major >= 5 {
		return err
	}
	note := func(op *oplog.Op) {
		if keys := capped[op.UI]; keys != nil && op.Kind == oplog.Insert {
			keys[document.Key(op.ID)] = true
		}
	}
	for raw, err := range s.o.Window(ctx) {
		if err != nil {
			return fmt.Errorf("read the fuzzy window: %w", err)
		}
		e, err := oplog.Decode(raw)
		if err != nil {
			return fmt.Errorf("read the fuzzy window: %w", err)
		}
		note(&e.Op)
		if e.Kind == oplog.Command && e.Command.Name == oplog.ApplyOps { // transactions leave capped collections alone; batches of inserts need not
			for i := range e.Command.Ops {
				note(&e.Command.Ops[i])
			}
		}
	}
	s.later = capped
	return nil
}

func (s *seeding) major(ctx context.Context) (int32, error) {
	var info struct {
		VersionArray []int32 `bson:"versionArray"`
	}
	err := s.o.Client.Database("admin").RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info)
	if err != nil || len(info.VersionArray) == 0 {
		return 0, fmt.Errorf("ask the head for its version: %w", err)
	}
	return info.VersionArray[0], nil
}
