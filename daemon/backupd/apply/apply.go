// Package apply brings a head forward through an oplog: entries are gathered into batches, folded to the final state of
// each document, kept in a redo log and written on several connections. Its state lies beside the head's data and says
// through which entry the head is complete; after a crash at any point the unfinished batch is done again in full.
package apply

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply/spill"
	"github.com/heartwood-db/heartwood/daemon/backupd/bulk"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

var (
	// ErrCorruption says that the head is not what it should be. Keep the last good snapshot and ask for a new full read.
	ErrCorruption = plan.ErrCorruption
	// ErrNewSnapshot says that no replay goes past the next entry; the history goes on with a new full read.
	ErrNewSnapshot = oplog.ErrNewSnapshot
	// ErrUnknown says that the next entry is whole and this build does not know it.
	ErrUnknown = oplog.ErrUnknown
	// ErrWindow says that the next entry lies after the fuzzy window, which must be finished first (FinishWindow).
	ErrWindow = errors.New("the entries go on past the end of the fuzzy window: finish it first")
	// ErrMissing says that the window cannot be finished, documents must be fetched from the source first (Missing, Fetched).
	ErrMissing = errors.New("documents are missing that must be read from the source")
	// ErrNoState says that the folder holds no state: it was never begun, or seeding did not end.
	ErrNoState = errors.New("the folder holds no state of an applier")
)

// Beginning is what an applier begins with: the head as seeding left it.
type Beginning struct {
	Start       oplog.OpTime // entries after it are applied
	ScanEnd     oplog.OpTime // the last entry of the fuzzy window, Start where nothing was written meanwhile; zero: the head is complete and has its indexes and views
	Collections []schema.Collection
	Views       []bson.Raw
}

// Begin writes the first state of a folder: after it seeding is over.
func Begin(dir string, b Beginning) error {
	cat, err := catalogue(b.Collections, b.Views)
	if err != nil {
		return fmt.Errorf("begin to apply: %w", err)
	}
	s := state{generation: 1, position: position{applied: b.Start}, open: !b.ScanEnd.IsZero() && !b.ScanEnd.Before(b.Start), end: b.ScanEnd, cat: cat, missing: &plan.Missing{}}
	return s.begin(dir)
}

// Restore writes the state that State gave into a folder, so that the head restored there goes on from its snapshot.
func Restore(dir string, state bson.Raw) error {
	s, err := decodeState(state)
	if err != nil {
		return err
	}
	return s.begin(dir)
}

// begin writes a state where nothing may be left of an older one.
func (s *state) begin(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, redoFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return s.save(dir)
}

// Options of an Applier.
type Options struct {
	Client      *mongo.Client // of the head
	Dir         string        // the job's folder
	Filter      *filter.Filter
	Connections int   // 0 means 4
	MaxOps      int   // of a batch; 0 means 20,000
	MaxBytes    int   // of the operations of a batch, and of the documents read for it; 0 means 16 MB
	SpillBytes  int   // of open transactions in memory; the rest lies on disk; 0 means 32 MB
	RedoBytes   int64 // from where on the redo log begins anew; 0 means 64 MB
	Log         *slog.Logger
}

// Applier applies. It is for one goroutine, but for Applied, ReplayFrom and Stats.
type Applier struct {
	o      Options
	head   *bulk.Writer
	redo   *redoLog
	spill  *spill.Store
	buf    *txn.Buffer
	behind bool
	failed error // why it must be opened again

	seen   bson.Timestamp // the newest entry that the transactions know
	batch  *plan.Batch
	ops    []gathered
	ahead  position     // after all that is gathered
	next   oplog.OpTime // the entry that Apply stopped before, zero for none
	maxOps int          // of the next batch: fewer where documents are large

	mu    sync.Mutex // guards what others ask for
	state state
	stats Stats
}

// gathered is an operation of the batch that grows.
type gathered struct {
	op    *oplog.Op
	after position
}

// Ends is an entry behind which a new range of restorable points begins, although it was applied.
type Ends struct {
	At  oplog.OpTime
	Why string
}

// Stats counts since Open.
type Stats struct {
	Entries    int64
	Operations int64
	Batches    int64
	Bytes      int64 // of entries
	Odd        map[string]int64
	Ends       []Ends
	Wall       time.Time // of the newest entry applied
}

// Open reads the state of a folder, does a batch again that a crash cut off, and is ready to apply. Entries must be given
// from ReplayFrom on.
func Open(ctx context.Context, o Options) (*Applier, error) {
	if o.MaxOps == 0 {
		o.MaxOps = 20_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 20
	}
	if o.SpillBytes == 0 {
		o.SpillBytes = 32 << 20
	}
	if o.RedoBytes == 0 {
		o.RedoBytes = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := load(o.Dir)
	if err != nil {
		return nil, err
	}
	last, err := s.replay(o.Dir)
	if err != nil {
		return nil, err
	}
	a := &Applier{o: o, head: bulk.New(o.Client, o.Connections), maxOps: o.MaxOps, state: *s, stats: Stats{Odd: map[string]int64{}}}
	if last != nil {
		o.Log.Info("an interrupted batch is done again", obs.KeyCount, len(last.write)+len(last.steps))
		if err := a.finish(ctx, last); err != nil {
			return nil, fmt.Errorf("do the interrupted batch again: %w", err)
		}
	}
	if a.spill, err = spill.New(filepath.Join(o.Dir, spillDir), o.SpillBytes); err != nil {
		return nil, err
	}
	a.buf, a.ahead = txn.New(a.spill), a.state.position
	a.batch = a.newBatch()
	if err := a.checkpoint(); err != nil {
		return nil, err
	}
	return a, nil
}

// finish does again what the log ends with.
func (a *Applier) finish(ctx context.Context, u *unfinished) error {
	if u.batch {
		if _, err := a.head.Write(ctx, u.write, true); err != nil {
			return err
		}
	}
	for i := range u.steps {
		if err := a.head.Step(ctx, u.steps[i], a.state.open); err != nil {
			return err
		}
	}
	return a.head.Journal(ctx)
}

// checkpoint writes the state in full and begins a new redo log. Nothing may be half done.
func (a *Applier) checkpoint() error {
	a.state.generation++
	if err := a.state.save(a.o.Dir); err != nil {
		return err
	}
	old := a.redo
	var err error
	if a.redo, err = newRedo(a.o.Dir, a.state.generation); err != nil {
		return err
	}
	if old != nil {
		return old.close()
	}
	return nil
}

// Behind chooses the faster way of writing, at the price of more changed bytes: for heads that are far behind. The fuzzy
// window is always gone through so.
func (a *Applier) Behind(yes bool) { a.behind = yes }

// Applied is the last position that the head holds.
func (a *Applier) Applied() oplog.OpTime {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.applied
}

// FCV is the feature compatibility version that the oplog brought the head to, "" while it has the one it began with.
func (a *Applier) FCV() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.fcv
}

// ReplayFrom is the position from which, inclusive, entries are needed to go on: the first entry of the oldest open transaction, or Applied.
func (a *Applier) ReplayFrom() oplog.OpTime {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.state.from.IsZero() {
		return a.state.from
	}
	return a.state.applied
}

// Window tells of the fuzzy window: its last position, whether it is still open, and whether everything of it is applied.
func (a *Applier) Window() (end oplog.OpTime, open, reached bool) {
	return a.state.end, a.state.open, !a.state.applied.Before(a.state.end)
}

// Missing are documents, by collection, that must be fetched from the source before the window is finished.
func (a *Applier) Missing() map[oplog.UUID][]bsoncore.Value { return a.state.missing.IDs() }

// Fetched gives documents of a collection that were missing, and those that the source does not have (any more), as of a
// position of the source's: the window goes on to there.
func (a *Applier) Fetched(ctx context.Context, c oplog.UUID, docs []bson.Raw, absent []bsoncore.Value, at oplog.OpTime) error {
	if !a.state.open {
		return errors.New("documents were fetched and the fuzzy window is not open")
	}
	w := plan.Writes{Way: plan.TwoPhase, Settled: absent}
	found, ok := a.state.cat.Lookup(c, "")
	for _, d := range docs {
		id, has := oplog.Lookup(d, "_id")
		if !has {
			return fmt.Errorf("%w: fetched document without _id", oplog.ErrCorrupt)
		}
		x, err := document.Exceptions(d)
		if err != nil {
			return err
		}
		w.Inserts = append(w.Inserts, plan.Put{ID: id, Doc: d, Exception: x})
		w.Settled = append(w.Settled, id)
	}
	w.Collection = found
	w.Collection.UUID = c
	if ok && !found.Capped() {
		if _, err := a.head.Write(ctx, []plan.Writes{w}, true); err != nil {
			return fmt.Errorf("write fetched documents: %w", err)
		}
		if err := a.head.Journal(ctx); err != nil {
			return err
		}
	}
	a.state.missing.Note(&w)
	if a.state.end.Before(at) {
		a.state.end = at
	}
	return a.checkpoint()
}

// FinishWindow ends the fuzzy window: nothing may be missing; the secondary indexes are built and the views made. It can be done again after a crash.
func (a *Applier) FinishWindow(ctx context.Context, progress func(built, total int)) error {
	switch {
	case !a.state.open:
		return nil
	case a.failed != nil:
		return a.reopen()
	case a.state.applied.Before(a.state.end):
		return fmt.Errorf("the fuzzy window goes on to %s, the head holds %s", a.state.end, a.state.applied)
	case a.state.missing.Len() > 0:
		return fmt.Errorf("%w: %d", ErrMissing, a.state.missing.Len())
	}
	if aside := a.state.cat.Aside(); len(aside) > 0 {
		return fmt.Errorf("%w: %d collections have no name at the end of the fuzzy window, first %s", ErrCorruption, len(aside), aside[0].NS)
	}
	colls := a.state.cat.Collections()
	total, built := 0, 0
	for i := range colls {
		total += len(colls[i].Indexes)
	}
	for i := range colls {
		if len(colls[i].Indexes) == 0 {
			continue
		}
		if err := a.head.BuildIndexes(ctx, colls[i].NS, colls[i].BuildSpecs()); err != nil {
			return err
		}
		built += len(colls[i].Indexes)
		if progress != nil {
			progress(built, total)
		}
	}
	for _, v := range a.state.cat.Views() {
		if err := a.head.View(ctx, v); err != nil {
			return err
		}
	}
	if err := a.head.Journal(ctx); err != nil {
		return err
	}
	a.state.open = false
	a.batch = a.newBatch()
	return a.checkpoint()
}

// Covered says that the history is held through a position and has no further entry up to there: a filter may leave slices
// empty. It moves nothing past an entry that Apply was given and did not apply.
func (a *Applier) Covered(through oplog.OpTime) error {
	if a.failed != nil {
		return a.reopen()
	}
	if !a.state.applied.Before(through) || a.state.partial > 0 || !a.next.IsZero() && !through.Before(a.next) {
		return nil
	}
	a.ahead.applied = through
	return a.settle()
}

// Catalogue lists the collections and views at Applied.
func (a *Applier) Catalogue() (collections []schema.Collection, views []bson.Raw) {
	return a.state.cat.Collections(), a.state.cat.Views()
}

// State is what a snapshot of the head must carry, for Restore. The head must stand still: nothing is applied until it is copied.
func (a *Applier) State() (bson.Raw, error) {
	switch {
	case a.failed != nil:
		return nil, a.reopen()
	case a.state.partial > 0:
		return nil, fmt.Errorf("the head stands in the middle of the entry after %s", a.state.applied)
	}
	if err := a.checkpoint(); err != nil {
		return nil, err
	}
	return a.state.encode()
}

func (a *Applier) reopen() error {
	return fmt.Errorf("the applier must be opened again after: %w", a.failed)
}

// Stats tells what was done so far.
func (a *Applier) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Ends = append([]Ends(nil), s.Ends...)
	s.Odd = make(map[string]int64, len(a.stats.Odd))
	for k, n := range a.stats.Odd {
		s.Odd[k] = n
	}
	s.Wall = a.state.wall
	return s
}

// Close gives back what is held; the state on disk is whole.
func (a *Applier) Close() error { return errors.Join(a.redo.close(), a.spill.Close()) }

// Apply applies entries in order; those through Applied are only looked at for transactions. It ends with the entries,
// after the entry at until (zero: no end), before an entry it cannot apply, with the context, or with the first error of
// entries. Everything through Applied is durable then. The entries must keep their bytes.
func (a *Applier) Apply(ctx context.Context, entries iter.Seq2[bson.Raw, error], until bson.Timestamp) error {
	if a.failed != nil {
		return a.reopen()
	}
	err := a.run(ctx, entries, until)
	var before *stop
	if err != nil && !errors.As(err, &before) {
		a.failed = err
		return err
	}
	if err := errors.Join(a.flush(ctx), a.settle()); err != nil {
		a.failed = err
		return err
	}
	if before != nil {
		return before.why
	}
	return nil
}
