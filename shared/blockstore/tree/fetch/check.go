package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
)

// maxFaults is how many faults a Report lists.
const maxFaults = 1000

// Check reads a snapshot's whole structure: every map page and its hash, and that the packs' indexes have every block with its
// length. Of the frames it re-reads and hashes about a share, picked by rnd: with 0.05 once a day everything is re-read
// in some weeks. Damage is in the report; the error is for a check that could not be done.
func Check(ctx context.Context, s blockstore.Store, m *image.Manifest, share float64, rnd *rand.Rand) (*Report, error) {
	workers := runtime.GOMAXPROCS(0)
	coder, err := pack.NewCoder(workers, 0)
	if err != nil {
		return nil, err
	}
	defer coder.Close()
	c := &checker{m: m, share: share, seed: rnd.Uint64(), shelf: pack.NewShelf(s, m.Job, pack.Blocks, coder), packs: map[string]bool{}}
	c.fetch = newFetcher(s, m, coder, workers)
	c.fetch.spoilt = func(_ *want, d *image.Damage) error { return c.fault(*d) }
	p := image.NewPages(s, m.Job, coder)
	for i := range m.Files {
		f := &m.Files[i]
		if f.Dir {
			continue
		}
		c.report.Files++
		n := f.Blocks(m.BlockSize)
		if n == 0 {
			continue
		}
		err := p.Walk(ctx, &f.Root, n, image.Visitor{
			Leaf: func(l image.Leaf) error { return c.leaf(ctx, i, l) },
			Spoilt: func(first int64, d *image.Damage) error {
				d.Job, d.Snapshot, d.Path, d.Offset = m.Job, m.ID, f.Path, first*int64(m.BlockSize)
				return c.fault(*d)
			},
			Enter: func(image.Where) bool { c.report.Pages++; return true },
		})
		if err != nil {
			return nil, fmt.Errorf("check snapshot %s: %s: %w", m.ID, f.Path, err)
		}
	}
	if err := c.fetch.flush(ctx); err != nil {
		return nil, fmt.Errorf("check snapshot %s: %w", m.ID, err)
	}
	c.report.Frames, c.report.Bytes, c.report.Packs = c.fetch.frames.Load(), c.fetch.bytes.Load(), int64(len(c.packs))
	return &c.report, nil
}

type checker struct {
	m     *image.Manifest
	share float64
	seed  uint64
	shelf *pack.Shelf
	fetch *fetcher
	packs map[string]bool

	mu     sync.Mutex // guards the report
	report Report
}

func (c *checker) fault(d image.Damage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.report.Faults) < maxFaults {
		c.report.Faults = append(c.report.Faults, d)
	} else {
		c.report.More++
	}
	return nil
}

// leaf looks whether the packs have the blocks of a page, and wants those of frames that the sample picks.
func (c *checker) leaf(ctx context.Context, file int, l image.Leaf) error {
	f := &c.m.Files[file]
	for i := range l.Page.Entries {
		e := &l.Page.Entries[i]
		c.report.Blocks++
		if e.Zero {
			continue
		}
		index := l.First + int64(i)
		name := l.Page.Packs[e.Pack]
		c.packs[name] = true
		if c.picked(name, e.Frame) {
			if err := c.fetch.add(ctx, name, e, file, index); err != nil {
				return err
			}
			continue
		}
		_, fr, err := c.shelf.Find(ctx, name, e.Frame, e.Block)
		if err != nil && (!image.IsSpoilt(err) || ctx.Err() != nil) {
			return err
		}
		if want := min(int64(c.m.BlockSize), f.Size-index*int64(c.m.BlockSize)); err == nil && int64(fr.Lengths[e.Block]) != want {
			err = errLength
		}
		if err != nil {
			if err := c.fault(image.Damage{
				Job: c.m.Job, Snapshot: c.m.ID, Path: f.Path, Offset: index * int64(c.m.BlockSize), Key: pack.Blocks.Key(c.m.Job, name, 0),
				What: err.Error(), Missing: errors.Is(err, blockstore.ErrNotFound),
			}); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// picked says whether the sample has a frame: the same answer for each of its blocks.
func (c *checker) picked(name string, frame uint32) bool {
	if c.share <= 0 {
		return false
	}
	b := binary.LittleEndian.AppendUint32(append(binary.LittleEndian.AppendUint64(nil, c.seed), name...), frame)
	h := image.HashOf(b)
	return float64(binary.LittleEndian.Uint64(h[:])>>11)/(1<<53) < c.share
}
