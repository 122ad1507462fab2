// Package seed fills an empty head from the slices of a full read: it makes collections and views as the source had them,
// with their UUIDs and without secondary indexes, and inserts their documents. It can be interrupted anywhere and goes on
// where it stopped.
package seed

import (
	"context"
	"errors"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/shared/oplog"
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

// Progress of a seeding.
type Progress struct {
	NS          string // in work
	Collections int64
	Total       int64
	Docs        int64
	Bytes       int64 // of documents inserted
}

// Options of a seeding.
type Options struct {
	Client      *mongo.Client // of the head
	Dir         string        // the job's folder: the place is kept in seed.bson
	Collections []Collection  // without views and without collections that were lost
	Views       []bson.Raw    // documents of system.views
	// Slices yields the slices of a collection from number first on, in order: zstd of the documents one after another.
	Slices      func(ctx context.Context, c oplog.UUID, first int64) iter.Seq2[[]byte, error]
	Connections int // 0 means 4
	// MaxSlice bounds a slice uncompressed; 0 means 256 MB.
	MaxSlice int64
	Progress func(Progress) // may be nil; not called concurrently
}

// Run fills the head. Run again after an interruption it goes on; after success it does nothing.
func Run(ctx context.Context, o Options) error { return errors.New("not yet") }
