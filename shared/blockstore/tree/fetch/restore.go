package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/direct"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
)

// Restore writes the files of a snapshot into the folder dir, which is made if it is not there. Every frame is fetched once
// (once for each 16 GiB of files, to be exact), every block is checked against its SHA-256, blocks of zeros stay holes. A nil
// error says that all files are there, whole and synced to disk, with their modes and times. Bytes that are not what was
// written are a *Damage.
func Restore(ctx context.Context, s blockstore.Store, m *image.Manifest, dir string, o Options) (image.Stats, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return image.Stats{}, fmt.Errorf("restore snapshot %s: %w", m.ID, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return image.Stats{}, fmt.Errorf("restore snapshot %s: %w", m.ID, err)
	}
	defer func() { _ = root.Close() }()
	coder, err := pack.NewCoder(o.Workers, 0)
	if err != nil {
		return image.Stats{}, err
	}
	defer coder.Close()
	r := &restorer{m: m, root: root, o: o, pages: image.NewPages(s, m.Job, coder), zeros: make([]byte, m.BlockSize)}
	r.fetch = newFetcher(s, m, coder, o.Workers)
	r.fetch.piece = r.write
	r.fetch.spoilt = func(_ *want, d *image.Damage) error { return d }
	if err := r.run(ctx); err != nil {
		return image.Stats{}, fmt.Errorf("restore snapshot %s: %w", m.ID, err)
	}
	r.stats.Read = r.fetch.read.Load()
	r.stats.Changed, r.stats.ChangedSize = r.blocks.Load(), r.bytes.Load()
	return r.stats, nil
}

type restorer struct {
	m     *image.Manifest
	root  *os.Root
	o     Options
	pages *image.Pages
	fetch *fetcher
	files handles
	zeros []byte
	meter *image.Meter
	stats image.Stats

	blocks, bytes atomic.Int64 // written
}

func (r *restorer) run(ctx context.Context) (err error) {
	r.files = handles{held: map[uint32]*handle{}, open: func(path string) (file, error) {
		f, err := r.root.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return direct.New(f, r.root, path), nil
	}}
	defer func() {
		if cerr := r.files.close(); err == nil {
			err = cerr
		}
	}()
	var chosen []int
	var files []image.File
	for i := range r.m.Files {
		if f := &r.m.Files[i]; r.o.Only == nil || r.o.Only(f.Path) {
			chosen = append(chosen, i)
			files = append(files, *f)
		}
	}
	r.meter = image.NewMeter(r.o.Progress, files)
	for _, i := range chosen {
		if err := r.file(ctx, i); err != nil {
			return r.name(i, err)
		}
	}
	if err := r.fetch.flush(ctx); err != nil {
		return err
	}
	if err := r.files.close(); err != nil {
		return err
	}
	return r.settle(ctx, chosen)
}

// name says which file an error is about.
func (r *restorer) name(i int, err error) error {
	var d *image.Damage
	if errors.As(err, &d) {
		if d.Snapshot == "" {
			d.Job, d.Snapshot, d.Path = r.m.Job, r.m.ID, r.m.Files[i].Path
		}
		return d
	}
	return fmt.Errorf("%s: %w", r.m.Files[i].Path, err)
}

// file makes a file with its size and wants what is missing in it.
func (r *restorer) file(ctx context.Context, i int) error {
	f := &r.m.Files[i]
	if f.Dir {
		return r.root.MkdirAll(f.Path, 0o700)
	}
	if p := path.Dir(f.Path); p != "." {
		if err := r.root.MkdirAll(p, 0o700); err != nil {
			return err
		}
	}
	r.stats.Files++
	r.stats.Bytes += f.Size
	have, err := r.make(f)
	if err != nil {
		return err
	}
	if have != nil {
		defer func() { _ = have.Close() }()
	}
	n := f.Blocks(r.m.BlockSize)
	if n == 0 {
		return nil
	}
	r.stats.Blocks += n
	buf := make([]byte, r.m.BlockSize)
	return r.pages.Walk(ctx, &f.Root, n, image.Visitor{Leaf: func(l image.Leaf) error {
		for k := range l.Page.Entries {
			e := &l.Page.Entries[k]
			index := l.First + int64(k)
			same, err := r.same(f, have, index, e, buf)
			if err != nil {
				return err
			}
			switch {
			case same:
				r.meter.Add(0, r.length(f, index), 0)
			case e.Zero: // there, but something else: a hole needs no writing
				if err := r.write(ctx, uint32(i), uint32(index), r.zeros[:r.length(f, index)], 1); err != nil {
					return err
				}
			default:
				if err := r.fetch.add(ctx, l.Page.Packs[e.Pack], e, i, index); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	}})
}

func (r *restorer) length(f *image.File, index int64) int64 {
	return min(int64(r.m.BlockSize), f.Size-index*int64(r.m.BlockSize))
}

// make creates a file of its size. What is there already is returned open, when Resume allows it.
func (r *restorer) make(f *image.File) (have *os.File, err error) {
	w, err := r.root.OpenFile(f.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) && r.o.Resume {
		if err := r.root.Chmod(f.Path, 0o600); err != nil {
			return nil, err
		}
		if w, err = r.root.OpenFile(f.Path, os.O_RDWR, 0o600); err != nil {
			return nil, err
		}
		if err := w.Truncate(f.Size); err != nil {
			_ = w.Close()
			return nil, err
		}
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, errors.Join(w.Truncate(f.Size), w.Close())
}

// same says whether a block is there already: as a hole of a file that was just made, or as the right bytes in one that was.
func (r *restorer) same(f *image.File, have *os.File, index int64, e *page.Entry, buf []byte) (bool, error) {
	if have == nil {
		return e.Zero, nil
	}
	b := buf[:r.length(f, index)]
	if _, err := have.ReadAt(b, index*int64(r.m.BlockSize)); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if e.Zero {
		return bytes.Equal(b, r.zeros[:len(b)]), nil
	}
	return image.HashOf(b) == e.Hash, nil
}

// write puts blocks where they belong. It runs on several goroutines.
func (r *restorer) write(ctx context.Context, n, index uint32, data []byte, blocks int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f := &r.m.Files[n]
	err := r.files.with(n, f.Path, func(w file) error {
		_, err := w.WriteAt(data, int64(index)*int64(r.m.BlockSize))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	r.blocks.Add(int64(blocks))
	r.bytes.Add(int64(len(data)))
	r.meter.Add(0, int64(len(data)), 0)
	return nil
}

const syncers = 16

// settle gives all files their modes and times, then syncs them and the folders.
func (r *restorer) settle(ctx context.Context, chosen []int) error {
	if err := r.each(ctx, chosen, r.dress); err != nil {
		return err
	}
	if len(chosen) > syncers {
		if d, err := r.root.Open("."); err == nil {
			syncMany(d)
			_ = d.Close()
		}
	}
	if err := r.each(ctx, chosen, r.sync); err != nil {
		return err
	}
	dirs := map[string]bool{".": true}
	for _, i := range chosen {
		for p := path.Dir(r.m.Files[i].Path); !dirs[p]; p = path.Dir(p) {
			dirs[p] = true
		}
	}
	for p := range dirs {
		d, err := r.root.Open(p)
		if err != nil {
			return err
		}
		if err := errors.Join(syncDir(d), d.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", p, err)
		}
	}
	return nil
}

// each does something with every file, several at a time.
func (r *restorer) each(ctx context.Context, chosen []int, do func(*image.File) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(syncers)
	for _, i := range chosen {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := do(&r.m.Files[i]); err != nil {
				return r.name(i, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (r *restorer) dress(f *image.File) error {
	if err := r.root.Chmod(f.Path, fs.FileMode(f.Mode)); err != nil {
		return err
	}
	return r.root.Chtimes(f.Path, f.Time(), f.Time())
}

func (r *restorer) sync(f *image.File) error {
	w, err := r.root.Open(f.Path)
	if err != nil {
		return err
	}
	if f.Dir {
		return errors.Join(syncDir(w), w.Close())
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if f.Size > 0 { // the others counted from the beginning
		r.meter.Add(1, 0, 0)
	}
	return nil
}
