package tree

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
)

func (o *Options) complete(prev *image.Manifest) error {
	if !image.Segment(o.Job) || !image.Segment(o.ID) {
		return fmt.Errorf("%w: snapshot %q of job %q", blockstore.ErrInvalid, o.ID, o.Job)
	}
	if o.BlockSize == 0 && prev != nil {
		o.BlockSize = prev.BlockSize
	}
	set := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	set(&o.BlockSize, DefaultBlockSize)
	set(&o.FrameSize, max(DefaultFrameSize, o.BlockSize))
	set(&o.PackSize, DefaultPackSize)
	set(&o.Workers, runtime.GOMAXPROCS(0)+2) // some wait for a disk
	if prev == nil {
		set(&o.Level, FirstLevel)
	}
	set(&o.Level, DefaultLevel)
	var errs []error
	limit := func(name string, v, lo, hi int) {
		if v < lo || v > hi {
			errs = append(errs, fmt.Errorf("%s is %d, not within %d to %d", name, v, lo, hi))
		}
	}
	limit("block size", o.BlockSize, image.MinBlockSize, image.MaxBlockSize)
	limit("frame size", o.FrameSize, o.BlockSize, pack.MaxFrame-image.MaxBlockSize)
	limit("pack size", o.PackSize, 1, pack.MaxSize/2)
	limit("workers", o.Workers, 1, 256)
	limit("level", o.Level, 1, 4)
	limit("meta", len(o.Meta), 0, image.MaxMeta)
	if o.Created.IsZero() {
		errs = append(errs, errors.New("no time is given"))
	}
	if prev != nil && prev.Job != o.Job {
		errs = append(errs, fmt.Errorf("the last snapshot is of job %s, not %s", prev.Job, o.Job))
	}
	return errors.Join(errs...)
}

// Write makes a snapshot of all regular files below root. prev is the last snapshot of the job that is good, or nil.
//
// A nil error says that the snapshot is complete and durable. After an error it is not visible, with one exception: after
// ErrUnavailable the manifest's commit may have happened, so Load should be asked before the same ID is written again. What an
// error left in the store is taken back where the store allows it, and collected by Groom otherwise.
func Write(ctx context.Context, s blockstore.Store, root *os.Root, prev *image.Manifest, o Options) (*image.Manifest, error) {
	if err := o.complete(prev); err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	files, err := scan(root, o.Skip)
	if err != nil {
		return nil, fmt.Errorf("write snapshot %s: %w", o.ID, err)
	}
	m := &image.Manifest{Version: image.ManifestVersion, ID: o.ID, Job: o.Job, Token: o.Token, Created: o.Created.UTC().Truncate(time.Millisecond), BlockSize: o.BlockSize, Files: files, Meta: o.Meta}
	m.Attempt = image.NewAttempt(o.Token)
	if prev != nil {
		m.Prev, m.Key = prev.ID, prev.Key
	} else {
		m.Key = make([]byte, image.KeySize)
		_, _ = rand.Read(m.Key) // never fails
	}
	if err := begin(ctx, s, m); err != nil {
		return nil, fmt.Errorf("write snapshot %s: %w", o.ID, err)
	}
	w := &writer{store: s, root: root, o: o, prev: prev, m: m}
	decided, err := w.run(ctx)
	if err != nil {
		if !decided {
			w.takeBack(ctx)
		}
		return nil, fmt.Errorf("write snapshot %s: %w", o.ID, err)
	}
	return m, nil
}

// begin says that a snapshot is being written, then makes sure that the last one is still there. A groom does the two
// things in the other order, so one of the two sees the other.
func begin(ctx context.Context, s blockstore.Store, m *image.Manifest) error {
	b, err := bson.Marshal(image.Intent{ID: m.ID, Prev: m.Prev, Token: m.Token})
	if err != nil {
		return fmt.Errorf("encode intent: %w", err)
	}
	if err := blockstore.Put(ctx, s, image.IntentKey(m.Job, m.Attempt), b); err != nil {
		return fmt.Errorf("announce it: %w", err)
	}
	if _, err := s.Stat(ctx, image.ManifestKey(m.Job, m.ID)); err == nil {
		err = blockstore.ErrExists
		end(ctx, s, m)
		return err
	} else if !errors.Is(err, blockstore.ErrNotFound) {
		end(ctx, s, m)
		return fmt.Errorf("look for it: %w", err)
	}
	if m.Prev == "" {
		return nil
	}
	if _, err := s.Stat(ctx, image.ManifestKey(m.Job, m.Prev)); err != nil {
		end(ctx, s, m)
		return fmt.Errorf("look for the last snapshot %s: %w", m.Prev, err)
	}
	return nil
}

// end takes the announcement back. When that fails a groom will, later.
func end(ctx context.Context, s blockstore.Store, m *image.Manifest) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer stop()
	_ = s.Delete(ctx, image.IntentKey(m.Job, m.Attempt))
}

// cleanTime bounds what is done after a cancelled or failed Write.
const cleanTime = 20 * time.Second

// writer is one run of Write.
type writer struct {
	store blockstore.Store
	root  *os.Root
	o     Options
	prev  *image.Manifest
	m     *image.Manifest

	coder    *pack.Coder
	old      *image.Pages // of the last snapshot
	blocks   *sink
	pages    *sink
	collect  *collector
	progress *image.Meter
	stop     context.CancelCauseFunc // ends the run with what went wrong

	read, changed, changedSize, damaged atomic.Int64
}

// run writes everything. decided is true from the moment the manifest may be there.
func (w *writer) run(ctx context.Context) (decided bool, err error) {
	ctx, w.stop = context.WithCancelCause(ctx)
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause // what came first, not what it brought about
		}
		w.stop(nil)
	}()
	w.coder, err = pack.NewCoder(w.o.Workers, w.o.Level)
	if err != nil {
		return false, err
	}
	defer w.coder.Close()
	w.old = image.NewPages(w.store, w.o.Job, w.coder)
	w.blocks = newSink(w, pack.Blocks)
	w.pages = newSink(w, pack.Pages)
	defer w.blocks.abort()
	defer w.pages.abort()
	w.collect = newCollector(w)
	w.progress = image.NewMeter(w.o.Progress, w.m.Files)

	if err := w.files(ctx); err != nil {
		return false, err
	}
	if err := w.collect.finish(ctx); err != nil {
		return false, err
	}
	// Packs first, then map pages, then the manifest: whatever is visible points only to what is durable.
	if err := w.blocks.close(ctx); err != nil {
		return false, err
	}
	if err := w.pages.close(ctx); err != nil {
		return false, err
	}
	return w.commit(ctx)
}

func (w *writer) commit(ctx context.Context) (decided bool, err error) {
	st := &w.m.Stats
	for i := range w.m.Files {
		f := &w.m.Files[i]
		if !f.Dir {
			st.Files++
			st.Bytes += f.Size
			st.Blocks += f.Blocks(w.o.BlockSize)
		}
	}
	st.Read, st.Changed, st.ChangedSize, st.Damaged = w.read.Load(), w.changed.Load(), w.changedSize.Load(), w.damaged.Load()
	st.New, st.NewSize, st.Pages = w.collect.added, w.collect.addedSize, w.collect.pagesAdded
	st.Packs = w.blocks.count.Load() + w.pages.count.Load()
	st.Stored = w.blocks.stored.Load() + w.pages.stored.Load()
	b, err := image.EncodeManifest(w.m)
	if err != nil {
		return false, err
	}
	if err := w.m.Check(); err != nil {
		return false, fmt.Errorf("the manifest would not be read: %w", err)
	}
	if _, err := w.store.Stat(ctx, image.IntentKey(w.m.Job, w.m.Attempt)); err != nil {
		if errors.Is(err, blockstore.ErrNotFound) {
			return false, image.ErrFenced
		}
		return false, fmt.Errorf("look for the announcement: %w", err)
	}
	if err := blockstore.Put(ctx, w.store, image.ManifestKey(w.m.Job, w.m.ID), b); err != nil {
		end(ctx, w.store, w.m)
		return !errors.Is(err, blockstore.ErrExists), fmt.Errorf("commit the manifest: %w", err)
	}
	end(ctx, w.store, w.m)
	st.Stored += int64(len(b))
	return true, nil
}

// takeBack deletes what a failed run has put into the store, so that a full disk does not get fuller by trying. Then
// the announcement goes.
func (w *writer) takeBack(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer stop()
	for _, k := range []*sink{w.pages, w.blocks} {
		if k == nil {
			continue
		}
		for _, key := range k.committed() {
			if w.store.Delete(ctx, key) != nil {
				return // the announcement stays until a groom finds its writer dead; then all of this is collected
			}
		}
	}
	end(ctx, w.store, w.m)
}

// span is a part of a file that one map page stands for.
type span struct {
	file  *source
	index int64 // of the leaf page
}

// files reads all files, several parts at a time, in order.
func (w *writer) files(ctx context.Context) error {
	var g errgroup.Group
	work := make(chan span)
	readers := make([]*reader, w.o.Workers)
	for i := range readers {
		var err error
		if readers[i], err = newReader(w); err != nil {
			return err
		}
	}
	g.Go(func() error {
		defer close(work)
		for i := range w.m.Files {
			if err := w.feed(ctx, &w.m.Files[i], work); err != nil {
				w.stop(err)
				return err
			}
		}
		return nil
	})
	for _, r := range readers {
		g.Go(func() error {
			var failed error
			for s := range work { // to the end, so that feed never waits for nobody and every file is closed
				if err := r.span(ctx, s); err != nil && failed == nil {
					failed = fmt.Errorf("%s: %w", s.file.f.Path, err)
					w.stop(failed)
				}
			}
			return failed
		})
	}
	return g.Wait()
}

// feed hands the parts of a file to the readers.
func (w *writer) feed(ctx context.Context, f *image.File, work chan<- span) error {
	if f.Dir || f.Size == 0 {
		return ctx.Err()
	}
	var old *image.File
	if w.prev != nil && w.prev.BlockSize == w.o.BlockSize {
		if old = w.prev.Find(f.Path); old != nil && old.Root.Zero() {
			old = nil
		}
	}
	if old != nil && w.o.Trust && old.Size == f.Size && old.Inode == f.Inode && f.Inode != 0 && old.Time().Equal(f.Time()) {
		f.Root = old.Root
		w.progress.Add(1, f.Size, 0)
		return ctx.Err()
	}
	src, err := w.open(f, old)
	if err != nil {
		return err
	}
	for i := range src.leaves() {
		src.use()
		select {
		case work <- span{src, int64(i)}:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), src.release(w), src.release(w))
		}
	}
	return src.release(w)
}
