package groom

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
)

// marks are the living frames and blocks of packs: a bit for each block, 8 MiB for a TiB of distinct blocks of 16 KiB, and 24
// bytes a frame.
type marks map[string]*packMarks

type packMarks struct {
	frames []bitset // by frame; of blocks
}

type bitset []uint64

func (b bitset) has(n uint16) bool {
	i := int(n >> 6)
	return i < len(b) && b[i]&(1<<(n&63)) != 0
}

// set says whether the bit was new.
func (b *bitset) set(n uint16) bool {
	for int(n>>6) >= len(*b) {
		*b = append(*b, 0)
	}
	w, bit := &(*b)[n>>6], uint64(1)<<(n&63)
	was := *w&bit != 0
	*w |= bit
	return !was
}

func (b bitset) count() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// set says whether the block was not marked before.
func (m marks) set(name string, frame uint32, block uint16) bool {
	p := m[name]
	if p == nil {
		p = &packMarks{}
		m[name] = p
	}
	if n := int(frame) + 1 - len(p.frames); n > 0 {
		p.frames = append(p.frames, make([]bitset, n)...)
	}
	return p.frames[frame].set(block)
}

func (p *packMarks) frame(n int) bitset {
	if p == nil || n >= len(p.frames) {
		return nil
	}
	return p.frames[n]
}

// living is what snapshots need.
type living struct {
	pages, blocks marks
	count         int64 // distinct blocks
}

// mark follows the maps of snapshots. A page that several share is read once. Damage ends it: what cannot be read might
// point to anything, so nothing may be deleted.
func (l *living) mark(ctx context.Context, p *image.Pages, m *image.Manifest) error {
	for i := range m.Files {
		f := &m.Files[i]
		n := f.Blocks(m.BlockSize)
		if n == 0 || f.Dir {
			continue
		}
		err := p.Walk(ctx, &f.Root, n, image.Visitor{
			Enter: func(at image.Where) bool { return at.Frame < pack.MaxFrames && l.pages.set(at.Pack, at.Frame, 0) },
			Leaf: func(lf image.Leaf) error {
				for k := range lf.Page.Entries {
					e := &lf.Page.Entries[k]
					if e.Zero {
						continue
					}
					if e.Frame >= pack.MaxFrames || e.Block >= pack.MaxBlocks {
						return image.Spoilt(pack.Pages.Key(m.Job, lf.At.Pack, 0), fmt.Errorf("entry %d points nowhere", k))
					}
					if l.blocks.set(lf.Page.Packs[e.Pack], e.Frame, e.Block) {
						l.count++
					}
				}
				return ctx.Err()
			},
		})
		if err != nil {
			var d *image.Damage
			if errors.As(err, &d) {
				d.Job, d.Snapshot, d.Path = m.Job, m.ID, f.Path
			}
			return err
		}
	}
	return nil
}

// markAll loads and marks snapshots. One that is missing or damaged is an error.
func markAll(ctx context.Context, s blockstore.Store, job string, ids []string, coder *pack.Coder) (*living, error) {
	l := &living{pages: marks{}, blocks: marks{}}
	p := image.NewPages(s, job, coder)
	for _, id := range ids {
		m, err := image.Load(ctx, s, job, id)
		if err != nil {
			return nil, err
		}
		if err := l.mark(ctx, p, m); err != nil {
			return nil, fmt.Errorf("read the map of snapshot %s: %w", id, err)
		}
	}
	return l, nil
}

// share is how much of an object is alive: bytes of frames, those of half-dead ones in proportion.
func share(g *pack.Generation, p *packMarks) (live, total int64) {
	for i := range g.Index.Frames {
		f := &g.Index.Frames[i]
		total += int64(f.Stored)
		b := p.frame(i)
		if f.Stored == 0 || len(b) == 0 {
			continue
		}
		var raw int64
		for n, length := range f.Lengths {
			if b.has(uint16(n)) {
				raw += int64(length)
			}
		}
		live += int64(f.Stored) * raw / int64(f.Raw)
	}
	return live, total
}

// covers says whether an object has every marked block.
func covers(g *pack.Generation, p *packMarks) bool {
	if p == nil {
		return true
	}
	for i, b := range p.frames {
		if len(b) == 0 || b.count() == 0 {
			continue
		}
		f := g.Frame(uint32(i))
		if f == nil || f.Stored == 0 {
			return false
		}
		for n := range len(b) * 64 {
			if b.has(uint16(n)) && (n >= len(f.Lengths) || f.Lengths[n] == 0) {
				return false
			}
		}
	}
	return true
}

// Measure counts living and dead bytes of a job. keep are the snapshots that count as living; nil means all that are there.
func Measure(ctx context.Context, s blockstore.Store, job string, keep []string) (*Usage, error) {
	if keep == nil {
		var err error
		if keep, err = image.List(ctx, s, job); err != nil {
			return nil, err
		}
	}
	coder, err := pack.NewCoder(1, 0)
	if err != nil {
		return nil, err
	}
	defer coder.Close()
	l, err := markAll(ctx, s, job, keep, coder)
	if err != nil {
		return nil, fmt.Errorf("measure job %s: %w", job, err)
	}
	u := &Usage{Snapshots: int64(len(keep)), LiveBlocks: l.count}
	kept := make(map[string]bool, len(keep))
	for _, id := range keep {
		kept[id] = true
	}
	for o, err := range blockstore.All(ctx, s, image.ManifestKey(job, "")) {
		if err != nil {
			return nil, fmt.Errorf("measure job %s: %w", job, err)
		}
		u.add(o.Size, kept[strings.TrimPrefix(o.Key, image.ManifestKey(job, ""))])
	}
	for _, k := range []struct {
		kind pack.Kind
		m    marks
	}{{pack.Pages, l.pages}, {pack.Blocks, l.blocks}} {
		err := eachPack(ctx, s, job, k.kind, coder, func(p *packObjects) error {
			p.usage(u, k.m[p.name])
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("measure job %s: %w", job, err)
		}
	}
	condemned, _, err := loadCondemned(ctx, s, job)
	if err != nil {
		return nil, fmt.Errorf("measure job %s: %w", job, err)
	}
	for _, c := range condemned {
		u.Condemned++
		u.CondemnedBytes += c.Size
	}
	return u, nil
}

func (u *Usage) add(size int64, live bool) {
	u.Objects++
	u.Stored += size
	if live {
		u.Live += size
	} else {
		u.Dead += size
	}
}

// usage counts the objects of a pack. Of those that are needed, the index counts as alive.
func (p *packObjects) usage(u *Usage, m *packMarks) {
	current := p.current(m)
	for _, g := range p.generations {
		u.Objects++
		u.Stored += g.Size
		if g != current {
			u.Dead += g.Size
			continue
		}
		live, total := share(g, m)
		u.Dead += total - live
		u.Live += g.Size - (total - live)
	}
}

// packObjects are the generations of a pack, the highest first.
type packObjects struct {
	name        string
	generations []*pack.Generation
}

// current is the highest generation that has all that lives, or nil when nothing lives. When none has all, which is damage that
// Check tells of, it is the lowest, which has most.
func (p *packObjects) current(m *packMarks) *pack.Generation {
	if m == nil {
		return nil
	}
	for _, g := range p.generations {
		if covers(g, m) {
			return g
		}
	}
	return p.generations[len(p.generations)-1]
}

// eachPack lists the packs of a job, with their indexes, one at a time. What is no pack is passed over.
func eachPack(ctx context.Context, s blockstore.Store, job string, kind pack.Kind, coder *pack.Coder, do func(*packObjects) error) error {
	var p *packObjects
	for o, err := range blockstore.All(ctx, s, kind.Prefix(job)) {
		if err != nil {
			return err
		}
		name, n, ok := kind.ParseKey(job, o.Key)
		if !ok {
			continue
		}
		index, err := pack.ReadIndex(ctx, s, o.Key, o.Size, kind, coder)
		switch {
		case errors.Is(err, blockstore.ErrNotFound):
			continue // deleted meanwhile
		case errors.Is(err, pack.ErrFormat):
			index = &pack.Index{} // damaged: it has nothing that anyone could read
		case err != nil:
			return err
		}
		g := &pack.Generation{Key: o.Key, Number: n, Size: o.Size, Index: index}
		if p != nil && p.name != name {
			if err := do(p); err != nil {
				return err
			}
			p = nil
		}
		if p == nil {
			p = &packObjects{name: name}
		}
		p.generations = append(p.generations, g)
		sortGenerations(p.generations)
	}
	if p == nil {
		return nil
	}
	return do(p)
}
