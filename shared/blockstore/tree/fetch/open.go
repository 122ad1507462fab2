package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
)

// Reader reads one file of a snapshot. It is an io.ReaderAt, safe for concurrent use, and keeps the frames that were used
// last: reading a file from front to back fetches each of its frames about once.
type Reader struct {
	ctx   context.Context // io.ReaderAt takes none; it bounds every read
	m     *image.Manifest
	f     *image.File
	find  *image.Finder
	shelf *pack.Shelf
	coder *pack.Coder

	mu    sync.Mutex
	held  map[image.Where]*plain
	order []image.Where // oldest use first
	size  int
}

// plain is a decompressed frame.
type plain struct {
	key     string
	bytes   []byte
	offsets []uint32
	checked []bool // by block
}

const maxPlain = 32 << 20 // bytes of frames a Reader keeps

// View opens files of one snapshot, which share what was read of maps and of the indexes of packs.
type View struct {
	m     *image.Manifest
	pages *image.Pages
	shelf *pack.Shelf
	coder *pack.Coder
}

// NewView gives a view of a snapshot. It need not be closed.
func NewView(s blockstore.Store, m *image.Manifest) (*View, error) {
	coder, err := pack.NewCoder(1, 0)
	if err != nil {
		return nil, err
	}
	return &View{m: m, coder: coder, pages: image.NewPages(s, m.Job, coder), shelf: pack.NewShelf(s, m.Job, pack.Blocks, coder)}, nil
}

// Open finds a file of a snapshot. ctx bounds every later read. A path that is not there is ErrNotFound.
func (v *View) Open(ctx context.Context, path string) (*Reader, error) {
	f := v.m.Find(path)
	if f == nil || f.Dir {
		return nil, fmt.Errorf("snapshot %s has no file %.200q: %w", v.m.ID, path, blockstore.ErrNotFound)
	}
	r := &Reader{ctx: ctx, m: v.m, f: f, coder: v.coder, shelf: v.shelf, held: map[image.Where]*plain{}}
	if !f.Root.Zero() {
		r.find = image.NewFinder(v.pages, f.Root, f.Blocks(v.m.BlockSize))
	}
	return r, nil
}

// Open finds one file of a snapshot; a View is better for many. ctx bounds every later read. A path that is not there is
// ErrNotFound.
func Open(ctx context.Context, s blockstore.Store, m *image.Manifest, path string) (*Reader, error) {
	v, err := NewView(s, m)
	if err != nil {
		return nil, err
	}
	return v.Open(ctx, path)
}

// Close lets the frames go that are held. The Reader can still be used.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held, r.order, r.size = map[image.Where]*plain{}, nil, 0
	return nil
}

// Size is the file's.
func (r *Reader) Size() int64 { return r.f.Size }

// File is what the snapshot knows of it.
func (r *Reader) File() image.File { return *r.f }

// ReadAt is io.ReaderAt's. Every byte is checked; damage is a *Damage.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: offset %d", blockstore.ErrInvalid, off)
	}
	n := 0
	for n < len(p) && off < r.f.Size {
		k, err := r.block(p[n:], off)
		n += k
		off += int64(k)
		if err != nil {
			var d *image.Damage
			if errors.As(err, &d) {
				d.Job, d.Snapshot, d.Path, d.Offset = r.m.Job, r.m.ID, r.f.Path, off
			}
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// block reads what p takes of the block at an offset.
func (r *Reader) block(p []byte, off int64) (int, error) {
	bs := int64(r.m.BlockSize)
	index := off / bs
	pg, ref, err := r.find.Leaf(r.ctx, index/page.Fanout)
	if err != nil {
		return 0, err
	}
	i := int(index % page.Fanout)
	if i >= len(pg.Entries) {
		return 0, image.Spoilt(pack.Pages.Key(r.m.Job, ref.Pack, 0), fmt.Errorf("the map page in frame %d has only %d entries", ref.Frame, len(pg.Entries)))
	}
	e := &pg.Entries[i]
	length := min(bs, r.f.Size-index*bs)
	from := off - index*bs
	n := int(min(int64(len(p)), length-from))
	if e.Zero {
		clear(p[:n])
		return n, nil
	}
	b, err := r.content(image.Where{Pack: pg.Packs[e.Pack], Frame: e.Frame}, e)
	if err != nil {
		return 0, err
	}
	if int64(len(b)) != length {
		return 0, image.Spoilt(pack.Blocks.Key(r.m.Job, pg.Packs[e.Pack], 0), errLength)
	}
	return copy(p[:n], b[from:]), nil
}

// content is a block, checked.
func (r *Reader) content(at image.Where, e *page.Entry) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x, err := r.frame(at, e.Block)
	if err != nil {
		if image.IsSpoilt(err) && r.ctx.Err() == nil {
			return nil, image.Spoilt(pack.Blocks.Key(r.m.Job, at.Pack, 0), err)
		}
		return nil, err
	}
	b := x.bytes[x.offsets[e.Block]:x.offsets[e.Block+1]]
	if !x.checked[e.Block] {
		if image.HashOf(b) != e.Hash {
			return nil, image.Spoilt(x.key, errHash)
		}
		x.checked[e.Block] = true
	}
	return b, nil
}

func (r *Reader) frame(at image.Where, block uint16) (*plain, error) {
	if x := r.held[at]; x != nil && int(block) < len(x.checked) && x.offsets[block] < x.offsets[block+1] {
		return x, nil
	}
	x, err := r.load(at, block)
	if errors.Is(err, blockstore.ErrNotFound) && r.ctx.Err() == nil { // a groom may have replaced it just now
		r.shelf.Forget(at.Pack)
		x, err = r.load(at, block)
	}
	if err != nil {
		return nil, err
	}
	for len(r.order) > 0 && r.size+len(x.bytes) > maxPlain {
		if old := r.held[r.order[0]]; old != nil {
			r.size -= len(old.bytes)
			delete(r.held, r.order[0])
		}
		r.order = r.order[1:]
	}
	if old := r.held[at]; old != nil { // a generation without the block
		r.size -= len(old.bytes)
	} else {
		r.order = append(r.order, at)
	}
	r.held[at] = x
	r.size += len(x.bytes)
	return x, nil
}

func (r *Reader) load(at image.Where, block uint16) (*plain, error) {
	g, f, err := r.shelf.Find(r.ctx, at.Pack, at.Frame, block)
	if err != nil {
		return nil, err
	}
	stored, err := r.shelf.Read(r.ctx, g, at.Frame, at.Frame)
	if err != nil {
		return nil, err
	}
	b, err := r.coder.Plain(f, stored, nil)
	if err != nil {
		return nil, err
	}
	x := &plain{key: g.Key, bytes: b, offsets: make([]uint32, len(f.Lengths)+1), checked: make([]bool, len(f.Lengths))}
	for i, l := range f.Lengths {
		x.offsets[i+1] = x.offsets[i] + l
	}
	return x, nil
}
