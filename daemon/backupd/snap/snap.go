// Package snap turns the files of a head that was stopped into a snapshot in a blockstore, and back. It owns what a snapshot's
// manifest remembers besides the files (Meta): of which job and history it is, through which position, and the state of the
// applier, so that a head made from it goes on.
package snap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
)

// metaVersion is the newest form of Meta that this build knows.
const metaVersion = 1

// maxState bounds the state of an applier, uncompressed: it lists collections and indexes, a few hundred bytes each.
const maxState = 256 << 20

// Meta is what a manifest remembers of a head besides its files.
type Meta struct {
	Version      int          `bson:"v"`
	Job          model.ID     `bson:"job"`
	Epoch        int64        `bson:"epoch"`
	SetName      string       `bson:"setName"`
	ReplicaSetID string       `bson:"replicaSetId"`
	Mongod       string       `bson:"mongod"` // version of the head's
	FCV          string       `bson:"fcv"`
	Applied      oplog.OpTime `bson:"applied"`
	ReplayFrom   oplog.OpTime `bson:"replayFrom"`
	Filter       filter.Kind  `bson:"filter,omitempty"`
	Namespaces   []string     `bson:"namespaces,omitempty"`
	// State is what apply.State gave, compressed with zstd.
	State []byte `bson:"state"`
}

// SetState keeps the applier's state.
func (m *Meta) SetState(state bson.Raw) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer func() { _ = enc.Close() }()
	m.State = enc.EncodeAll(state, nil)
	return nil
}

// AppliersState gives back what SetState kept.
func (m *Meta) AppliersState() (bson.Raw, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxState), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	state, err := dec.DecodeAll(m.State, nil)
	if err == nil {
		err = bson.Raw(state).Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the state of the applier: %w", blockstore.ErrDamaged, err)
	}
	return state, nil
}

// ReadMeta gives a manifest's Meta.
func ReadMeta(m *tree.Manifest) (*Meta, error) {
	var meta Meta
	if err := bson.Unmarshal(m.Meta, &meta); err != nil {
		return nil, fmt.Errorf("%w: what snapshot %s remembers: %w", blockstore.ErrDamaged, m.ID, err)
	}
	if meta.Version < 1 || meta.Version > metaVersion {
		return nil, fmt.Errorf("snapshot %s: %w: form %d of what it remembers", m.ID, tree.ErrVersion, meta.Version)
	}
	return &meta, nil
}

// skip leaves out what mongod makes anew after a clean stop.
func skip(path string) bool {
	switch path {
	case "journal", "diagnostic.data", "mongod.lock":
		return true
	}
	return strings.HasPrefix(path, "_tmp/") || path == "_tmp"
}

// Skip reports whether a file or folder below a dbpath is left out of snapshots.
func Skip(path string) bool { return skip(path) }

// Options of Write.
type Options struct {
	Blocks  blockstore.Store
	DBPath  string         // of a head that does not run, or a clone of one
	Prev    *tree.Manifest // the last good snapshot of the job; nil for none
	ID      string
	Token   int64     // of the job's lease
	Created time.Time // when it was begun
	Meta    Meta
	// Trust takes files whose size, time and inode are those of Prev for unchanged: right for the folder itself, not for a clone.
	Trust    bool
	Progress func(done, total int64) // bytes; may be nil
}

// Write stores a snapshot. A nil error says that it is complete and durable; after an error it is not visible.
func Write(ctx context.Context, o Options) (*tree.Manifest, error) {
	o.Meta.Version = metaVersion
	meta, err := bson.Marshal(o.Meta)
	if err != nil {
		return nil, fmt.Errorf("what the snapshot remembers: %w", err)
	}
	root, err := os.OpenRoot(o.DBPath)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	opts := tree.Options{Job: string(o.Meta.Job), ID: o.ID, Token: o.Token, Created: o.Created, Meta: meta, Skip: skip, Trust: o.Trust}
	if o.Progress != nil {
		opts.Progress = func(p tree.Progress) { o.Progress(p.Bytes, p.BytesTotal) }
	}
	return tree.Write(ctx, o.Blocks, root, o.Prev, opts)
}

// Last loads the manifest that the next snapshot is compared with: the first of ids (newest first) that is whole. Damaged ones
// are passed over; nil where there is none: then the next one is written in full.
func Last(ctx context.Context, bs blockstore.Store, job model.ID, ids []string, log *slog.Logger) (*tree.Manifest, error) {
	for _, id := range ids {
		m, err := tree.Load(ctx, bs, string(job), id)
		switch {
		case err == nil:
			return m, nil
		case errors.Is(err, blockstore.ErrNotFound), errors.Is(err, blockstore.ErrDamaged):
			log.WarnContext(ctx, "the last snapshot cannot be compared with", obs.KeyKey, id, obs.KeyErr, err)
		default:
			return nil, fmt.Errorf("load snapshot %s: %w", id, err)
		}
	}
	return nil, nil
}

// RestoreOptions of Restore.
type RestoreOptions struct {
	Blocks blockstore.Store
	Job    model.ID
	ID     string
	Dir    string // the job's folder: files go to its db/, the applier's state beside it
	// Resume goes on with what an interrupted Restore of the same snapshot left in Dir.
	Resume   bool
	Progress func(done, total int64) // bytes; may be nil
}

// Restore makes a head's folder from a snapshot, ready for head.Start and apply.Open. There must be room: the size is in the
// manifest, and head.Need judges it first.
func Restore(ctx context.Context, o RestoreOptions) (*Meta, error) {
	m, err := tree.Load(ctx, o.Blocks, string(o.Job), o.ID)
	if err != nil {
		return nil, fmt.Errorf("load snapshot %s: %w", o.ID, err)
	}
	meta, err := ReadMeta(m)
	if err != nil {
		return nil, err
	}
	state, err := meta.AppliersState()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	if !o.Resume {
		if err := head.Need(o.Dir, m.Stats.Bytes); err != nil {
			return nil, err
		}
	}
	opts := tree.RestoreOptions{Resume: o.Resume}
	if o.Progress != nil {
		opts.Progress = func(p tree.Progress) { o.Progress(p.Bytes, p.BytesTotal) }
	}
	if _, err := tree.Restore(ctx, o.Blocks, m, head.DBPath(o.Dir), opts); err != nil {
		return nil, fmt.Errorf("restore snapshot %s: %w", o.ID, err)
	}
	return meta, apply.Restore(o.Dir, state)
}

// Shares reports whether a folder's file system can share the blocks of copies (FICLONE): then a head may run again while its
// clone is stored. It tries it with a small file.
func Shares(ctx context.Context, dir string) bool {
	tmp, err := os.MkdirTemp(dir, "clone-")
	if err != nil {
		return false
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	src := filepath.Join(tmp, "a")
	if os.Mkdir(src, 0o700) != nil || os.WriteFile(filepath.Join(src, "f"), make([]byte, 1<<16), 0o600) != nil {
		return false
	}
	shared, err := head.Clone(ctx, src, filepath.Join(tmp, "b"))
	return err == nil && shared
}

// sampleBytes is about how much of a snapshot a check reads again.
const sampleBytes = 1 << 30

// Check reads a snapshot's whole structure and about a gigabyte of its content again, or all of it if it is smaller. fault says,
// for people, what is damaged; "" for nothing. The error is for a check that could not be done.
func Check(ctx context.Context, bs blockstore.Store, job model.ID, id string, rnd *rand.Rand) (fault string, read int64, err error) {
	m, err := tree.Load(ctx, bs, string(job), id)
	switch {
	case errors.Is(err, blockstore.ErrNotFound):
		return "its manifest is gone", 0, nil
	case errors.Is(err, blockstore.ErrDamaged):
		return err.Error(), 0, nil
	case err != nil:
		return "", 0, err
	}
	if _, err := ReadMeta(m); err != nil {
		return err.Error(), 0, nil
	}
	share := 1.0
	if m.Stats.Bytes > sampleBytes {
		share = sampleBytes / float64(m.Stats.Bytes)
	}
	report, err := tree.Check(ctx, bs, m, share, rnd)
	if err != nil {
		return "", 0, err
	}
	if n := int64(len(report.Faults)) + report.More; n > 0 {
		f := report.Faults[0]
		return fmt.Sprintf("%d faults; the first: %s: %s %s", n, f.Key, f.Path, f.What), report.Bytes, nil
	}
	return "", report.Bytes, nil
}
