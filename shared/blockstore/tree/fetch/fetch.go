package fetch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
)

// want is a block of a file that is to be fetched.
type want struct {
	hash  page.Hash
	pack  uint32 // in fetcher.names
	frame uint32
	file  uint32 // in the manifest
	index uint32 // of the block in the file
	block uint16 // in the frame
}

const (
	// window is how many blocks are put in the order of the packs at a time: 16 GiB of files with blocks of 16 KiB. A frame is
	// fetched once a window. It bounds the memory: 56 bytes a block.
	window    = 1 << 20
	maxFetch  = 4 << 20   // bytes of frames in one request
	maxUnit   = 32 << 20  // plain bytes of frames that are put in the order of the files; two such units are held
	maxPiece  = 128 << 10 // bytes in one call of piece
	maxUnused = 128 << 10 // bytes between two frames that are read and thrown away rather than asking twice
)

// fetcher collects wanted blocks, and reads the frames that hold them: each once, in the order of the packs.
type fetcher struct {
	m       *image.Manifest
	shelf   *pack.Shelf
	coder   *pack.Coder
	workers int
	// piece receives checked blocks that follow each other in a file. Several calls run at a time. nil: they are only counted.
	piece func(ctx context.Context, file, index uint32, data []byte, blocks int) error
	// spoilt hears of blocks that are not to be had. An error ends the fetch.
	spoilt func(w *want, d *image.Damage) error

	names  []string
	number map[string]uint32
	wants  []want

	read, frames, bytes atomic.Int64
	buffers             sync.Pool
}

func newFetcher(s blockstore.Store, m *image.Manifest, coder *pack.Coder, workers int) *fetcher {
	return &fetcher{m: m, shelf: pack.NewShelf(s, m.Job, pack.Blocks, coder), coder: coder, workers: workers, number: map[string]uint32{}}
}

// add wants a block. When the window is full it is fetched first.
func (f *fetcher) add(ctx context.Context, packName string, e *page.Entry, file int, index int64) error {
	n, ok := f.number[packName]
	if !ok {
		n = uint32(len(f.names))
		f.number[packName] = n
		f.names = append(f.names, packName)
	}
	f.wants = append(f.wants, want{hash: e.Hash, pack: n, frame: e.Frame, file: uint32(file), index: uint32(index), block: e.Block})
	if len(f.wants) < window {
		return nil
	}
	return f.flush(ctx)
}

// batch is frames of one object that are read with one request.
type batch struct {
	gen    *pack.Generation
	groups [][]want // each of one frame, ascending
}

// flush fetches what is wanted: frames in the order of the packs, a unit of some of them at a time, whose blocks go on in the
// order of the files, while the next unit is fetched.
func (f *fetcher) flush(ctx context.Context) error {
	slices.SortFunc(f.wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.pack, b.pack), cmp.Compare(a.frame, b.frame), cmp.Compare(a.file, b.file), cmp.Compare(a.index, b.index))
	})
	g, ctx := errgroup.WithContext(ctx)
	units := make(chan *unit)
	g.Go(func() error {
		defer close(units)
		return f.plan(ctx, units)
	})
	g.Go(func() error {
		for u := range units {
			if err := u.deliver(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	err := g.Wait()
	f.wants = f.wants[:0]
	return err
}

// plan groups the wanted blocks by frame, frames that lie near each other into batches, and batches into units.
func (f *fetcher) plan(ctx context.Context, units chan<- *unit) error {
	u := &unit{f: f}
	var b batch
	var end, size, raw int64
	next := func() {
		if len(b.groups) > 0 {
			u.batches = append(u.batches, b)
		}
		b, size = batch{}, 0
	}
	send := func() error {
		if err := u.fetch(ctx); err != nil {
			return err
		}
		select {
		case units <- u:
			u, raw = &unit{f: f}, 0
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for rest := f.wants; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].pack == rest[0].pack && rest[n].frame == rest[0].frame {
			n++
		}
		group := rest[:n]
		rest = rest[n:]
		gen, fr, err := f.find(ctx, group)
		if err != nil {
			if !image.IsSpoilt(err) || ctx.Err() != nil {
				return err
			}
			if err := f.lost(group, f.shelfKey(group), err); err != nil {
				return err
			}
			continue
		}
		if raw+int64(fr.Raw) > maxUnit && raw > 0 {
			next()
			if err := send(); err != nil {
				return err
			}
		}
		gap := int64(fr.Offset) - end
		if gen != b.gen || gap < 0 || gap > maxUnused || size+gap+int64(fr.Stored) > maxFetch {
			next()
			b.gen, gap = gen, 0
		}
		b.groups = append(b.groups, group)
		end = int64(fr.Offset) + int64(fr.Stored)
		size += gap + int64(fr.Stored)
		raw += int64(fr.Raw)
	}
	next()
	return send()
}

// find is where the blocks of a group, all of one frame, are.
func (f *fetcher) find(ctx context.Context, group []want) (*pack.Generation, *pack.Frame, error) {
	blocks := make([]uint16, len(group))
	for i := range group {
		blocks[i] = group[i].block
	}
	name := f.names[group[0].pack]
	g, fr, err := f.shelf.Find(ctx, name, group[0].frame, blocks...)
	if err != nil && image.IsSpoilt(err) && ctx.Err() == nil { // what is kept of the pack may be old
		f.shelf.Forget(name)
		g, fr, err = f.shelf.Find(ctx, name, group[0].frame, blocks...)
	}
	return g, fr, err
}

func (f *fetcher) shelfKey(group []want) string {
	return pack.Blocks.Key(f.m.Job, f.names[group[0].pack], 0)
}

func (f *fetcher) lost(group []want, key string, err error) error {
	for i := range group {
		if err := f.lose(&group[i], key, err); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetcher) lose(w *want, key string, err error) error {
	file := &f.m.Files[w.file]
	d := &image.Damage{
		Job: f.m.Job, Snapshot: f.m.ID, Path: file.Path, Offset: int64(w.index) * int64(f.m.BlockSize), Key: key,
		What: err.Error(), Missing: errors.Is(err, blockstore.ErrNotFound),
	}
	return f.spoilt(w, d)
}

// unit is a number of frames whose blocks are held at once.
type unit struct {
	f       *fetcher
	batches []batch

	mu      sync.Mutex
	pieces  []piece
	buffers []*[]byte // what the pieces are in
}

// piece is checked bytes of a file: the block index and, when it is longer, those after it.
type piece struct {
	file, index uint32
	data        []byte
}

// fetch reads, decompresses and checks the frames of a unit.
func (u *unit) fetch(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(u.f.workers)
	for _, b := range u.batches {
		g.Go(func() error { return u.batch(ctx, b) })
	}
	return g.Wait()
}

func (u *unit) batch(ctx context.Context, b batch) error {
	first, last := b.groups[0][0].frame, b.groups[len(b.groups)-1][0].frame
	data, err := u.f.shelf.Read(ctx, b.gen, first, last)
	if err != nil && errors.Is(err, blockstore.ErrNotFound) && ctx.Err() == nil {
		return u.again(ctx, b)
	}
	if err != nil {
		if !image.IsSpoilt(err) || ctx.Err() != nil {
			return err
		}
		for _, group := range b.groups {
			if err := u.f.lost(group, b.gen.Key, err); err != nil {
				return err
			}
		}
		return nil
	}
	u.f.read.Add(int64(len(data)))
	base := b.gen.Frame(first).Offset
	for _, group := range b.groups {
		fr := b.gen.Frame(group[0].frame)
		if err := u.frame(b.gen.Key, fr, data[fr.Offset-base:][:fr.Stored], group); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// again looks for frames whose object went away between looking and reading: a groom rewrote it.
func (u *unit) again(ctx context.Context, b batch) error {
	u.f.shelf.Forget(u.f.names[b.groups[0][0].pack])
	for _, group := range b.groups {
		gen, fr, err := u.f.find(ctx, group)
		var data []byte
		if err == nil {
			data, err = u.f.shelf.Read(ctx, gen, group[0].frame, group[0].frame)
		}
		if err != nil {
			if !image.IsSpoilt(err) || ctx.Err() != nil {
				return err
			}
			if err := u.f.lost(group, b.gen.Key, err); err != nil {
				return err
			}
			continue
		}
		u.f.read.Add(int64(len(data)))
		if err := u.frame(gen.Key, fr, data, group); err != nil {
			return err
		}
	}
	return nil
}

// frame decompresses a frame and checks the wanted blocks in it.
func (u *unit) frame(key string, fr *pack.Frame, stored []byte, group []want) error {
	buffer, ok := u.f.buffers.Get().(*[]byte)
	if !ok {
		buffer = new([]byte)
	}
	plain, err := u.f.coder.Plain(fr, stored, *buffer)
	if err != nil {
		return u.f.lost(group, key, err)
	}
	if fr.Codec != pack.Plain { // else it is part of what was read
		*buffer = plain
	}
	u.f.frames.Add(1)
	offsets := make([]uint32, len(fr.Lengths)+1)
	for i, l := range fr.Lengths {
		offsets[i+1] = offsets[i] + l
	}
	bs := int64(u.f.m.BlockSize)
	hashes := make([]page.Hash, len(fr.Lengths)) // a block that several files want is hashed once
	hashed := make([]bool, len(fr.Lengths))
	pieces := make([]piece, 0, len(group))
	var size int64
	for i := range group {
		w := &group[i]
		data := plain[offsets[w.block]:offsets[w.block+1]]
		if !hashed[w.block] {
			hashes[w.block], hashed[w.block] = image.HashOf(data), true
		}
		var bad error
		switch {
		case hashes[w.block] != w.hash:
			bad = errHash
		case int64(len(data)) != min(bs, u.f.m.Files[w.file].Size-int64(w.index)*bs):
			bad = errLength
		}
		if bad != nil {
			if err := u.f.lose(w, key, bad); err != nil {
				return err
			}
			continue
		}
		pieces = append(pieces, piece{file: w.file, index: w.index, data: data})
		size += int64(len(data))
	}
	u.f.bytes.Add(size)
	if u.f.piece == nil {
		u.f.buffers.Put(buffer)
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pieces = append(u.pieces, pieces...)
	u.buffers = append(u.buffers, buffer)
	return nil
}

// deliver hands the pieces on in the order of the files, those that follow each other together.
func (u *unit) deliver(ctx context.Context) error {
	slices.SortFunc(u.pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.index, b.index))
	})
	g, ctx := errgroup.WithContext(ctx)
	share := max(len(u.pieces)/u.f.workers+1, 64)
	for part := range slices.Chunk(u.pieces, share) {
		g.Go(func() error {
			var joined []byte
			for len(part) > 0 {
				n := run(part)
				data := part[0].data
				if n > 1 {
					joined = joined[:0]
					for i := range part[:n] {
						joined = append(joined, part[i].data...)
					}
					data = joined
				}
				if err := u.f.piece(ctx, part[0].file, part[0].index, data, n); err != nil {
					return err
				}
				part = part[n:]
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	u.pieces = nil
	for _, b := range u.buffers {
		u.f.buffers.Put(b)
	}
	return nil
}

// run is how many pieces from the first on can be one.
func run(p []piece) int {
	n, size := 1, len(p[0].data)
	for n < len(p) && p[n].file == p[0].file && p[n].index == p[0].index+uint32(n) && size+len(p[n].data) <= maxPiece {
		size += len(p[n].data)
		n++
	}
	return n
}

var (
	errHash   = errors.New("the SHA-256 of a block is wrong")
	errLength = errors.New("a block has the wrong length")
)

// handles keeps some files open for writing.
type handles struct {
	open func(path string) (file, error)
	mu   sync.Mutex
	held map[uint32]*handle
	tick int64
}

type file interface {
	WriteAt(b []byte, off int64) (int, error)
	Close() error
}

type handle struct {
	once  sync.Once
	f     file
	err   error
	users int
	last  int64
}

const maxHandles = 128

// with calls do with an open file.
func (h *handles) with(n uint32, path string, do func(file) error) error {
	h.mu.Lock()
	x := h.held[n]
	if x == nil {
		h.shrink()
		x = &handle{}
		h.held[n] = x
	}
	x.users++
	h.tick++
	x.last = h.tick
	h.mu.Unlock()
	x.once.Do(func() { x.f, x.err = h.open(path) })
	err := x.err
	if err == nil {
		err = do(x.f)
	}
	h.mu.Lock()
	x.users--
	h.mu.Unlock()
	return err
}

// shrink closes the file that was not used for longest, when there are too many.
func (h *handles) shrink() {
	if len(h.held) < maxHandles {
		return
	}
	var oldest *handle
	var which uint32
	for n, x := range h.held {
		if x.users == 0 && (oldest == nil || x.last < oldest.last) {
			oldest, which = x, n
		}
	}
	if oldest != nil {
		if oldest.f != nil {
			_ = oldest.f.Close() // it is synced, and the outcome looked at, at the end
		}
		delete(h.held, which)
	}
}

func (h *handles) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, x := range h.held {
		if x.f != nil {
			errs = append(errs, x.f.Close())
		}
	}
	clear(h.held)
	return errors.Join(errs...)
}
