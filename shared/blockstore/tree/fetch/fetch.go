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
	"github.com/heartwood-db/heartwood/shared/blockstore/direct"
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
	order uint32 // of the frame, among those of the window: by the place of its first block in the files
	block uint16 // in the frame
}

const (
	// window is how many blocks are gathered by their frames at a time: 16 GiB of files with blocks of 16 KiB. A frame is
	// fetched once a window. It bounds the memory: 56 bytes a block, and a few more for each frame.
	window     = 1 << 20
	maxFetch   = 4 << 20   // bytes of frames in one request
	maxUnit    = 32 << 20  // plain bytes of frames that are put in the order of the files; two such units are held
	maxPiece   = 1 << 20   // bytes in one call of piece
	deliverers = 8         // calls of piece at a time: what keeps a disk busy, however few the processors are
	maxUnused  = 128 << 10 // bytes between two frames that are read and thrown away rather than asking twice
)

// frameID names a frame.
type frameID struct{ pack, frame uint32 }

// fetcher collects wanted blocks, and reads the frames that hold them: each once, in the order in which the files need them first. So
// frames of several snapshots that hold neighbouring parts of a file are held at the same time, and their blocks are written together.
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
	orders map[frameID]uint32 // of the frames in wants

	read, frames, bytes atomic.Int64
	buffers, joined     sync.Pool // of *[]byte: of frames, and of maxPiece
}

func newFetcher(s blockstore.Store, m *image.Manifest, coder *pack.Coder, workers int) *fetcher {
	return &fetcher{m: m, shelf: pack.NewShelf(s, m.Job, pack.Blocks, coder), coder: coder, workers: workers, number: map[string]uint32{}, orders: map[frameID]uint32{}}
}

// add wants a block. When the window is full it is fetched first.
func (f *fetcher) add(ctx context.Context, packName string, e *page.Entry, file int, index int64) error {
	n, ok := f.number[packName]
	if !ok {
		n = uint32(len(f.names))
		f.number[packName] = n
		f.names = append(f.names, packName)
	}
	id := frameID{n, e.Frame}
	order, ok := f.orders[id]
	if !ok {
		order = uint32(len(f.orders))
		f.orders[id] = order
	}
	f.wants = append(f.wants, want{hash: e.Hash, pack: n, frame: e.Frame, file: uint32(file), index: uint32(index), order: order, block: e.Block})
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

// flush fetches what is wanted: a unit of frames at a time, whose blocks go on in the order of the files, while the next unit is
// fetched.
func (f *fetcher) flush(ctx context.Context) error {
	slices.SortFunc(f.wants, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.file, b.file), cmp.Compare(a.index, b.index))
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
	clear(f.orders)
	return err
}

// located is the wanted blocks of one frame, and where it is.
type located struct {
	gen   *pack.Generation
	frame *pack.Frame
	group []want
}

// plan groups the wanted blocks by frame, and frames into units, which it fetches and sends on.
func (f *fetcher) plan(ctx context.Context, units chan<- *unit) error {
	var frames []located
	var raw int64
	send := func() error {
		u := &unit{f: f, batches: batches(frames)}
		frames, raw = nil, 0
		if err := u.fetch(ctx); err != nil {
			return err
		}
		select {
		case units <- u:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for rest := f.wants; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].order == rest[0].order {
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
			if err := send(); err != nil {
				return err
			}
		}
		frames = append(frames, located{gen, fr, group})
		raw += int64(fr.Raw)
	}
	return send()
}

// batches puts frames that lie near each other in an object together.
func batches(frames []located) []batch {
	slices.SortFunc(frames, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.gen.Key, b.gen.Key), cmp.Compare(a.frame.Offset, b.frame.Offset))
	})
	var all []batch
	var b batch
	var size, end int64
	for i := range frames {
		x := &frames[i]
		from, to := int64(x.frame.Offset), int64(x.frame.Offset)+int64(x.frame.Stored)
		if i > 0 && (x.gen != b.gen || from-end > maxUnused || size+to-end > maxFetch) {
			all = append(all, b)
			b, size, end = batch{}, 0, 0
		}
		if len(b.groups) == 0 {
			b.gen, end = x.gen, from
		}
		b.groups = append(b.groups, x.group)
		size += to - end
		end = to
	}
	if len(b.groups) > 0 {
		all = append(all, b)
	}
	return all
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

	mu     sync.Mutex
	pieces []piece
	plains []*plainFrame // what the pieces are in
}

// plainFrame is a decompressed frame.
type plainFrame struct {
	bytes  []byte
	buffer *[]byte // to be used again
}

// piece is a checked block of a file.
type piece struct {
	file, index uint32
	from, to    uint32 // in the frame
	frame       *plainFrame
}

func (p *piece) data() []byte { return p.frame.bytes[p.from:p.to] }

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
	if cap(*buffer) < int(fr.Raw) && u.f.piece != nil {
		*buffer = direct.Buffer(max(int(fr.Raw), 1<<20)) // for blocks that are written from where they are
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
	held := &plainFrame{plain, buffer}
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
		pieces = append(pieces, piece{file: w.file, index: w.index, from: offsets[w.block], to: offsets[w.block+1], frame: held})
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
	u.plains = append(u.plains, held)
	return nil
}

// deliver hands the pieces on in the order of the files, those that follow each other together.
func (u *unit) deliver(ctx context.Context) error {
	slices.SortFunc(u.pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.index, b.index))
	})
	g, ctx := errgroup.WithContext(ctx)
	share := max(len(u.pieces)/deliverers+1, 64)
	for part := range slices.Chunk(u.pieces, share) {
		g.Go(func() error {
			joined, _ := u.f.joined.Get().(*[]byte)
			if joined == nil {
				b := direct.Buffer(maxPiece)
				joined = &b
			}
			defer u.f.joined.Put(joined)
			for len(part) > 0 {
				n, size := run(part)
				if err := u.f.piece(ctx, part[0].file, part[0].index, join(part[:n], (*joined)[:0], size), n); err != nil {
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
	for _, p := range u.plains {
		u.f.buffers.Put(p.buffer)
	}
	return nil
}

// run is how many pieces from the first on follow each other in a file and fit in one call, and their bytes.
func run(p []piece) (n, size int) {
	n, size = 1, int(p[0].to-p[0].from)
	for n < len(p) && p[n].file == p[0].file && p[n].index == p[0].index+uint32(n) && size+int(p[n].to-p[n].from) <= maxPiece {
		size += int(p[n].to - p[n].from)
		n++
	}
	return n, size
}

// join gives the bytes of pieces: where they are, when they follow each other in their frame too, or copied.
func join(p []piece, into []byte, size int) []byte {
	first := &p[0]
	for i := range p[1:] {
		if p[i+1].frame != first.frame || p[i+1].from != p[i].to {
			for k := range p {
				into = append(into, p[k].data()...)
			}
			return into
		}
	}
	return first.frame.bytes[first.from:][:size]
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
