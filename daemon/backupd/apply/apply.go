// Package apply brings a head forward through an oplog: entries are gathered into batches, folded to the final state of
// each document, kept in a redo file and written on several connections. Its state lies beside the head's data and says
// through which entry the head is complete; after a crash at any point the unfinished batch is done again in full.
package apply

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

var (
	// ErrCorruption: the head is not what it should be. Keep the last good snapshot and ask for a new full read.
	ErrCorruption = plan.ErrCorruption
	// ErrNewSnapshot: no replay goes past the next entry; the history goes on with a new full read.
	ErrNewSnapshot = oplog.ErrNewSnapshot
	// ErrUnknown: the next entry is whole and this build does not know it.
	ErrUnknown = oplog.ErrUnknown
	// ErrWindow: the next entry lies after the fuzzy window, which must be finished first (FinishWindow).
	ErrWindow = errors.New("the entries go on past the end of the fuzzy window: finish it first")
	// ErrMissing: the window cannot be finished, documents must be fetched from the source first (Missing, Fetched).
	ErrMissing = errors.New("documents are missing that must be read from the source")
	// ErrNoState: the folder holds no state: it was never begun, or seeding did not end.
	ErrNoState = errors.New("the folder holds no state of an applier")
)

// Beginning is what an applier begins with: the head as seeding left it.
type Beginning struct {
	Start       oplog.OpTime // entries after it are applied
	ScanEnd     oplog.OpTime // the last entry of the fuzzy window; zero or not after Start: the copy is consistent and has its indexes
	Collections []schema.Collection
	Views       []bson.Raw
}

// Begin writes the first state of a folder: after it seeding is over.
func Begin(dir string, b Beginning) error { return errors.New("not yet") }

// Restore writes the state that State gave into a folder, so that the head restored there goes on from its snapshot.
func Restore(dir string, state bson.Raw) error { return errors.New("not yet") }

// Options of an Applier.
type Options struct {
	Client      *mongo.Client // of the head
	Dir         string        // the job's folder
	Filter      *filter.Filter
	Connections int // 0 means 4
	MaxOps      int // of a batch; 0 means 20,000
	MaxBytes    int // of a batch; 0 means 32 MB
	SpillBytes  int // of open transactions in memory; the rest lies on disk; 0 means 32 MB
	Log         *slog.Logger
}

// Applier applies. It is for one goroutine, but for Applied and Stats.
type Applier struct{}

// Open reads the state of a folder, does a batch again that a crash cut off, and is ready to apply. Entries must be given
// from ReplayFrom on.
func Open(ctx context.Context, o Options) (*Applier, error) { return nil, errors.New("not yet") }

// Apply applies entries in order; those through Applied are only looked at for transactions. It ends with the entries,
// after the entry at until (zero: no end), before an entry it cannot apply, with the context, or with the first error of
// entries. Everything through Applied is durable then.
func (a *Applier) Apply(ctx context.Context, entries iter.Seq2[bson.Raw, error], until bson.Timestamp) error {
	return errors.New("not yet")
}

// Covered says that the history is held through a position and has no further entry up to there: a filter may leave slices empty.
func (a *Applier) Covered(ctx context.Context, through oplog.OpTime) error {
	return errors.New("not yet")
}

// Behind chooses the faster way of writing, at the price of more changed bytes: for heads that are far behind.
func (a *Applier) Behind(yes bool) {}

// Applied is the last position that the head holds.
func (a *Applier) Applied() oplog.OpTime { return oplog.OpTime{} }

// ReplayFrom is the position from which, inclusive, entries are needed to go on: the first entry of the oldest open transaction, or Applied.
func (a *Applier) ReplayFrom() oplog.OpTime { return oplog.OpTime{} }

// Window tells of the fuzzy window: its last position, whether it is still open, and whether everything of it is applied.
func (a *Applier) Window() (end oplog.OpTime, open, reached bool) { return oplog.OpTime{}, false, false }

// Missing are documents, by collection, that must be fetched from the source before the window is finished.
func (a *Applier) Missing() map[oplog.UUID][]bsoncore.Value { return nil }

// Fetched gives documents of a collection that were missing, and those that the source does not have (any more), as of a
// position of the source's: the window goes on to there.
func (a *Applier) Fetched(ctx context.Context, c oplog.UUID, docs []bson.Raw, absent []bsoncore.Value, at oplog.OpTime) error {
	return errors.New("not yet")
}

// FinishWindow ends the fuzzy window: nothing may be missing; the secondary indexes are built. It can be done again after a crash.
func (a *Applier) FinishWindow(ctx context.Context, progress func(built, total int)) error {
	return errors.New("not yet")
}

// Catalogue lists the collections and views at Applied.
func (a *Applier) Catalogue() (collections []schema.Collection, views []bson.Raw) { return nil, nil }

// State is what a snapshot of the head must carry, for Restore.
func (a *Applier) State() (bson.Raw, error) { return nil, errors.New("not yet") }

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

// Stats tells what was done so far.
func (a *Applier) Stats() Stats { return Stats{} }

// Close gives back what is held; the state on disk is whole.
func (a *Applier) Close() error { return nil }
