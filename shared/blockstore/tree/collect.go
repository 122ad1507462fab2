package tree

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
)

// collector puts changed blocks together in frames, and map pages where their blocks have found a place.
type collector struct {
	w *writer

	mu                           sync.Mutex
	current                      *frame
	recent                       [][4]recent               // by the first bits of the fingerprint
	known                        map[page.Hash]image.Where // map pages that were written a short while ago
	waiting                      int                       // map pages that wait for a frame
	added, addedSize, pagesAdded int64
}

// recent is a block that was stored in this run a short while ago. A block with the same content needs no second place: heads
// hold copies, as of indexes that were built again. The table has a fixed size; of four blocks that share a bucket the oldest
// makes way.
type recent struct {
	hash  page.Hash
	quick page.Quick
	frame *frame
	block uint16
}

const (
	recentBits = 15   // buckets of four: 131,072 blocks, 2 GiB of changed blocks of 16 KiB, 9 MiB of memory
	maxKnown   = 8192 // map pages
	maxWaiting = 256  // map pages that wait for the current frame before it is closed early
)

// frame is filled with blocks, then compressed and stored. Until then pack is "".
type frame struct {
	raw     []byte
	lengths []uint32
	waiters []*draft

	pack string
	no   uint32
}

// draft is a map page some blocks of which may have no place yet.
type draft struct {
	src     *source
	index   int64
	entries []place
	missing int // frames it waits for
}

// place is where a block is: in a frame of this run, or where the last snapshot has it.
type place struct {
	hash  page.Hash
	quick page.Quick
	frame *frame // nil: pack and no say where
	pack  string
	no    uint32
	block uint16
	zero  bool
}

func newCollector(w *writer) *collector {
	return &collector{w: w, recent: make([][4]recent, 1<<recentBits), known: map[page.Hash]image.Where{}}
}

// add finds a place for changed blocks: parts of data, whose hash stands in their entry. Frames that become full are stored.
func (c *collector) add(ctx context.Context, data []byte, lengths []int, places []*place) error {
	for len(places) > 0 {
		c.mu.Lock()
		var full *frame
		for full == nil && len(places) > 0 {
			full = c.put(data[:lengths[0]], places[0])
			data, lengths, places = data[lengths[0]:], lengths[1:], places[1:]
		}
		c.mu.Unlock()
		if full != nil {
			if err := c.store(ctx, full); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collector) bucket(p *place) *[4]recent {
	return &c.recent[binary.LittleEndian.Uint32(p.quick[:])>>(32-recentBits)]
}

// recall says whether a block with the fingerprint was stored a short while ago, and gives it that one's place and hash.
func (c *collector) recall(p *place) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(p)
}

func (c *collector) find(p *place) bool {
	bucket := c.bucket(p)
	for i := range bucket {
		if slot := &bucket[i]; slot.frame != nil && slot.quick == p.quick {
			p.hash, p.frame, p.block = slot.hash, slot.frame, slot.block
			return true
		}
	}
	return false
}

// put adds one block to the current frame, which it returns if it is full now.
func (c *collector) put(data []byte, p *place) *frame {
	if c.find(p) {
		return nil
	}
	if c.current == nil {
		c.current = &frame{raw: make([]byte, 0, c.w.o.FrameSize)}
	}
	f := c.current
	p.frame, p.block = f, uint16(len(f.lengths))
	bucket := c.bucket(p)
	copy(bucket[1:], bucket[:])
	bucket[0] = recent{hash: p.hash, quick: p.quick, frame: f, block: p.block}
	f.raw = append(f.raw, data...)
	f.lengths = append(f.lengths, uint32(len(data)))
	c.added++
	c.addedSize += int64(len(data))
	if len(f.raw)+c.w.o.BlockSize > c.w.o.FrameSize || len(f.lengths) == pack.MaxBlocks {
		c.current = nil
		return f
	}
	return nil
}

// store compresses a frame, stores it, and finishes the pages that waited for it.
func (c *collector) store(ctx context.Context, f *frame) error {
	stored, codec := c.w.coder.Encode(f.raw, make([]byte, 0, len(f.raw)))
	name, no, err := c.w.blocks.add(ctx, stored, codec, len(f.raw), f.lengths)
	if err != nil {
		return err
	}
	c.mu.Lock()
	f.pack, f.no, f.raw = name, no, nil
	var ready []*draft
	for _, d := range f.waiters {
		if d.missing--; d.missing == 0 {
			ready = append(ready, d)
		}
	}
	f.waiters = nil
	c.waiting -= len(ready)
	c.mu.Unlock()
	for _, d := range ready {
		if err := c.page(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// submit takes a page whose blocks all have an entry. It is written when all of them have a place.
func (c *collector) submit(ctx context.Context, d *draft) error {
	c.mu.Lock()
	var last *frame
	for i := range d.entries {
		f := d.entries[i].frame
		if f == nil || f == last || f.pack != "" {
			continue
		}
		if n := len(f.waiters); n == 0 || f.waiters[n-1] != d {
			f.waiters = append(f.waiters, d)
			d.missing++
		}
		last = f
	}
	if d.missing == 0 {
		c.mu.Unlock()
		return c.page(ctx, d)
	}
	c.waiting++
	var full *frame
	if c.waiting > maxWaiting && c.current != nil {
		full, c.current = c.current, nil
	}
	c.mu.Unlock()
	if full != nil {
		return c.store(ctx, full)
	}
	return nil
}

// finish stores what is left.
func (c *collector) finish(ctx context.Context) error {
	c.mu.Lock()
	last := c.current
	c.current = nil
	c.mu.Unlock()
	if last == nil {
		return nil
	}
	return c.store(ctx, last)
}

// page writes a map page whose blocks have places.
func (c *collector) page(ctx context.Context, d *draft) error {
	b := page.NewBuilder(0, len(d.entries))
	for i := range d.entries {
		p := &d.entries[i]
		if p.frame != nil {
			b.Add(p.frame.pack, page.Entry{Hash: p.hash, Quick: p.quick, Frame: p.frame.no, Block: p.block})
		} else {
			b.Add(p.pack, page.Entry{Hash: p.hash, Quick: p.quick, Frame: p.no, Block: p.block, Zero: p.zero})
		}
	}
	d.entries = nil
	ref, err := c.write(ctx, b.Page())
	if err != nil {
		return err
	}
	return c.placed(ctx, d.src, d.index, ref)
}

// placed notes where a leaf page of a file is. After the last of them the levels above are written.
func (c *collector) placed(ctx context.Context, s *source, index int64, ref image.Ref) error {
	s.mu.Lock()
	s.refs[index] = page.Entry{Hash: ref.Sum(), Frame: uint32(ref.Frame)}
	s.packs[index] = ref.Pack
	s.open--
	done := s.open == 0
	s.mu.Unlock()
	if !done {
		return nil
	}
	refs, packs := s.refs, s.packs
	for level := 1; len(refs) > 1; level++ {
		var up []page.Entry
		var upPacks []string
		for from := 0; from < len(refs); from += page.Fanout {
			to := min(from+page.Fanout, len(refs))
			b := page.NewBuilder(level, to-from)
			for i := from; i < to; i++ {
				b.Add(packs[i], refs[i])
			}
			ref, err := c.write(ctx, b.Page())
			if err != nil {
				return err
			}
			up = append(up, page.Entry{Hash: ref.Sum(), Frame: uint32(ref.Frame)})
			upPacks = append(upPacks, ref.Pack)
		}
		refs, packs = up, upPacks
	}
	s.f.Root = Ref{Pack: packs[0], Frame: int(refs[0].Frame), Level: page.Levels(s.blocks), Hash: refs[0].Hash[:]}
	s.refs, s.packs = nil, nil
	return nil
}

// write stores a map page, unless the same one was stored a short while ago.
func (c *collector) write(ctx context.Context, p *page.Page) (image.Ref, error) {
	plain := p.Encode()
	hash := image.HashOf(plain)
	c.mu.Lock()
	at, ok := c.known[hash]
	c.mu.Unlock()
	if ok {
		return image.Ref{Pack: at.Pack, Frame: int(at.Frame), Level: p.Level, Hash: hash[:]}, nil
	}
	stored, codec := c.w.coder.Encode(plain, make([]byte, 0, len(plain)))
	name, no, err := c.w.pages.add(ctx, stored, codec, len(plain), []uint32{uint32(len(plain))})
	if err != nil {
		return image.Ref{}, err
	}
	c.mu.Lock()
	if len(c.known) >= maxKnown {
		clear(c.known)
	}
	c.known[hash] = image.Where{Pack: name, Frame: no}
	c.pagesAdded++
	c.mu.Unlock()
	return image.Ref{Pack: name, Frame: int(no), Level: p.Level, Hash: hash[:]}, nil
}
