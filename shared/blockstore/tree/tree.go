// Package tree keeps a folder of files as snapshots in a blockstore.Store. It owns the objects under blocks/, pages/, snapshots/,
// writing/ and condemned/ of a job; FORMAT.md describes every byte of them. It knows nothing of MongoDB: what the backup daemon
// wants to remember of a snapshot travels in Manifest.Meta.
//
// A file is cut into blocks at fixed offsets. A block is stored when it differs from the block at the same offset of the last
// snapshot. What is compared are hashes from the last snapshot's map pages, so there is no index of all blocks, and memory
// does not grow with the data. Changed blocks are compressed together in frames, frames are appended to packs.
//
// A snapshot is written in the order packs, map pages, manifest. It exists from the moment the manifest is committed; what a
// crash before that leaves behind is collected by Groom.
package tree

import (
	"context"
	"math/rand/v2"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/fetch"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/groom"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
)

// Defaults of Options.
const (
	DefaultBlockSize = 16 << 10
	DefaultFrameSize = 1 << 20
	DefaultPackSize  = 32 << 20

	// Level 2 makes heads 6 % smaller than 1 and takes two to three times as long, most of a snapshot's time. A job's first snapshot is
	// compressed at 1, for the job has nothing to restore from until it is done; what later ones add is what a store grows by.
	DefaultLevel = 2
	FirstLevel   = 1
)

// What this package answers besides the errors of blockstore; compare with errors.Is. Bytes that are not what they should be
// are a *Damage, which is blockstore.ErrDamaged.
var (
	// ErrChanged says that a file changed while it was read. The head must not run while its files are copied.
	ErrChanged = image.ErrChanged
	// ErrFenced says that another daemon took the job over while this one was writing. Nothing became visible.
	ErrFenced = image.ErrFenced
	// ErrVersion says that an object was written by a newer Heartwood.
	ErrVersion = image.ErrVersion
)

// The types of the packages below, so that most callers need this one alone.
type (
	// Manifest is image.Manifest: what a snapshot is made of.
	Manifest = image.Manifest
	// File is image.File: a file of a snapshot.
	File = image.File
	// Ref is image.Ref: names a map page.
	Ref = image.Ref
	// Stats is image.Stats: the figures of a Write or a Restore.
	Stats = image.Stats
	// Progress is image.Progress: told while one goes on.
	Progress = image.Progress
	// Damage is image.Damage: an object that is not what was written.
	Damage = image.Damage
	// RestoreOptions is fetch.Options: of Restore.
	RestoreOptions = fetch.Options
	// Report is fetch.Report: the outcome of Check.
	Report = fetch.Report
	// View is fetch.View: opens files of one snapshot.
	View = fetch.View
	// Reader is fetch.Reader: reads one file of a snapshot.
	Reader = fetch.Reader
	// Usage is groom.Usage: how much of a job's space is in use.
	Usage = groom.Usage
	// GroomOptions is groom.Options: of Groom.
	GroomOptions = groom.Options
	// GroomReport is groom.Report: what Groom did, or would do.
	GroomReport = groom.Report
)

// Options of Write.
type Options struct {
	Job   string // a segment of a key; required
	ID    string // of the snapshot, a segment of a key; required
	Token int64  // fencing token of the job's lease; it becomes part of the names of packs
	// Created becomes Manifest.Created; required, for time is passed in.
	Created time.Time
	Meta    bson.Raw // kept as it is; at most 8 MiB

	BlockSize int // bytes; 0: that of the last snapshot, else DefaultBlockSize; a change makes a full snapshot
	FrameSize int // bytes before compression; 0 means DefaultFrameSize
	PackSize  int // bytes; 0 means DefaultPackSize
	Workers   int // 0: two more than processors
	Level     int // of zstd: 1 (fastest) to 4 (best); 0 means DefaultLevel, or FirstLevel without a last snapshot

	// Skip leaves out a file, or a folder with all that is in it.
	Skip func(path string) bool
	// Trust takes a file whose size, time and inode are those of the last snapshot for unchanged, without reading it.
	Trust    bool
	Progress func(Progress) // may be nil
}

// ManifestKey is the object of a snapshot's manifest.
func ManifestKey(job, id string) string { return image.ManifestKey(job, id) }

// Load reads a manifest and checks it. It is ErrNotFound when there is no such snapshot, a *Damage when it is not what was
// written.
func Load(ctx context.Context, s blockstore.Store, job, id string) (*Manifest, error) {
	return image.Load(ctx, s, job, id)
}

// List gives the ids of the snapshots of a job that are in the store, ascending.
func List(ctx context.Context, s blockstore.Store, job string) ([]string, error) {
	return image.List(ctx, s, job)
}

// Restore writes the files of a snapshot into a folder: see fetch.Restore.
func Restore(ctx context.Context, s blockstore.Store, m *Manifest, dir string, o RestoreOptions) (Stats, error) {
	return fetch.Restore(ctx, s, m, dir, o)
}

// Check looks for damage: see fetch.Check.
func Check(ctx context.Context, s blockstore.Store, m *Manifest, share float64, rnd *rand.Rand) (*Report, error) {
	return fetch.Check(ctx, s, m, share, rnd)
}

// NewView gives a view of a snapshot, to open many of its files. It need not be closed.
func NewView(s blockstore.Store, m *Manifest) (*View, error) { return fetch.NewView(s, m) }

// Open finds one file of a snapshot. ctx bounds every later read. A path that is not there is ErrNotFound.
func Open(ctx context.Context, s blockstore.Store, m *Manifest, path string) (*Reader, error) {
	return fetch.Open(ctx, s, m, path)
}

// Measure counts living and dead bytes of a job. keep are the snapshots that count as living; nil means all that are there.
func Measure(ctx context.Context, s blockstore.Store, job string, keep []string) (*Usage, error) {
	return groom.Measure(ctx, s, job, keep)
}

// Groom frees what no snapshot of keep needs, in two phases: see groom.Groom.
func Groom(ctx context.Context, s blockstore.Store, job string, keep []string, o GroomOptions) (*GroomReport, error) {
	return groom.Groom(ctx, s, job, keep, o)
}
