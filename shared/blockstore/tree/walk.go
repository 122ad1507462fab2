package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
)

// pages reads map pages. Pages that follow each other were written one after the other, so it reads ahead, and keeps the
// last ones. It is safe for concurrent use.
type pages struct {
	job   string
	shelf *pack.Shelf
	coder *pack.Coder

	mu     sync.Mutex
	stored map[where]*ahead
	order  []where // oldest first
	held   int
}

type where struct {
	pack  string
	frame uint32
}

type ahead struct {
	frame pack.Frame
	key   string
	bytes []byte
}

const (
	readAhead = 1 << 20 // bytes of map pages in one request
	maxHeld   = 8 << 20 // bytes of map pages kept
)

func newPages(s blockstore.Store, job string, coder *pack.Coder) *pages {
	return &pages{job: job, shelf: pack.NewShelf(s, job, pack.Pages, coder), coder: coder, stored: map[where]*ahead{}}
}

// spoilt is a *Damage that does not know yet whom it hits.
func spoilt(key string, err error) error {
	return &Damage{Key: key, What: err.Error(), Missing: errors.Is(err, blockstore.ErrNotFound)}
}

// isSpoilt says that err is about bytes that are wrong or gone, which no other try will change.
func isSpoilt(err error) bool {
	return errors.Is(err, pack.ErrFormat) || errors.Is(err, blockstore.ErrNotFound) || errors.Is(err, blockstore.ErrDamaged) || errors.Is(err, page.ErrFormat)
}

// get reads a page and checks it against its hash. Damage is a *Damage without path and snapshot.
func (p *pages) get(ctx context.Context, at where, level int, want page.Hash) (*page.Page, error) {
	a, err := p.fetch(ctx, at)
	if err != nil {
		if isSpoilt(err) && ctx.Err() == nil {
			return nil, spoilt(pack.Pages.Key(p.job, at.pack, 0), err)
		}
		return nil, err
	}
	plain, err := p.coder.Plain(&a.frame, a.bytes, nil)
	if err != nil {
		return nil, spoilt(a.key, err)
	}
	if sha256.Sum256(plain) != want {
		return nil, spoilt(a.key, fmt.Errorf("the hash of the map page in frame %d is wrong", at.frame))
	}
	pg, err := page.Decode(plain)
	if err == nil && pg.Level != level {
		err = fmt.Errorf("%w: level %d, %d expected", page.ErrFormat, pg.Level, level)
	}
	if err != nil {
		return nil, spoilt(a.key, err)
	}
	return pg, nil
}

func (p *pages) fetch(ctx context.Context, at where) (*ahead, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.stored[at]; a != nil {
		return a, nil
	}
	err := p.fill(ctx, at)
	if errors.Is(err, blockstore.ErrNotFound) && ctx.Err() == nil { // a groom may have replaced it just now
		p.shelf.Forget(at.pack)
		err = p.fill(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	return p.stored[at], nil
}

func (p *pages) fill(ctx context.Context, at where) error {
	g, f, err := p.shelf.Find(ctx, at.pack, at.frame, 0)
	if err != nil {
		return err
	}
	last, size := at.frame, int(f.Stored)
	for n := at.frame + 1; g.Frame(n) != nil && size+int(g.Frame(n).Stored) <= readAhead; n++ {
		last, size = n, size+int(g.Frame(n).Stored)
	}
	b, err := p.shelf.Read(ctx, g, at.frame, last)
	if err != nil {
		return err
	}
	for len(p.order) > 0 && p.held+size > maxHeld {
		p.held -= len(p.stored[p.order[0]].bytes)
		delete(p.stored, p.order[0])
		p.order = p.order[1:]
	}
	for n := at.frame; n <= last; n++ {
		f := *g.Frame(n)
		w := where{at.pack, n}
		if f.Stored > 0 && p.stored[w] == nil {
			own := append([]byte(nil), b[:f.Stored]...) // so that the read buffer is not kept by one page of it
			p.stored[w] = &ahead{frame: f, key: g.Key, bytes: own}
			p.order = append(p.order, w)
			p.held += len(own)
		}
		b = b[f.Stored:]
	}
	return nil
}

// leaf is a page of level 0 and the number of the file's block its first entry is for.
type leaf struct {
	first int64
	page  *page.Page
	at    where
}

// visitor is what a walk over a map asks. Both may be nil.
type visitor struct {
	// enter says whether to read a page. It is asked for each, the root included.
	enter func(at where) bool
	leaf  func(l leaf) error
	// spoilt hears of a page that cannot be read, for the blocks from first; nil or an error ends the walk.
	spoilt func(first int64, d *Damage) error
}

// walk visits the map of a file in the order of the blocks, n of them.
func (p *pages) walk(ctx context.Context, root *Ref, n int64, v visitor) error {
	return p.descend(ctx, where{root.Pack, uint32(root.Frame)}, root.Level, root.hash(), 0, n, v)
}

func (p *pages) descend(ctx context.Context, at where, level int, hash page.Hash, first, n int64, v visitor) error {
	if v.enter != nil && !v.enter(at) {
		return nil
	}
	pg, err := p.get(ctx, at, level, hash)
	span := page.Span(level)
	if want := min((n-first+span-1)/span, page.Fanout); err == nil && int64(len(pg.Entries)) != want {
		err = spoilt(pack.Pages.Key(p.job, at.pack, 0), fmt.Errorf("the map page in frame %d has %d entries, not %d", at.frame, len(pg.Entries), want))
	}
	if err != nil {
		var d *Damage
		if errors.As(err, &d) && v.spoilt != nil {
			return v.spoilt(first, d)
		}
		return err
	}
	if level == 0 {
		return v.leaf(leaf{first: first, page: pg, at: at})
	}
	for i := range pg.Entries {
		e := &pg.Entries[i]
		if err := p.descend(ctx, where{pg.Packs[e.Pack], e.Frame}, level-1, e.Hash, first+int64(i)*span, n, v); err != nil {
			return err
		}
	}
	return nil
}

// finder looks leaves of one map up, keeping the way to the last one.
type finder struct {
	pages *pages
	root  Ref
	n     int64

	mu    sync.Mutex
	path  [page.MaxLevel + 1]*page.Page
	known [page.MaxLevel + 1]int64 // which page of its level path holds
}

func newFinder(p *pages, root Ref, n int64) *finder { return &finder{pages: p, root: root, n: n} }

// leaf is the page for the blocks from index*Fanout on; ref is where it is.
func (f *finder) leaf(ctx context.Context, index int64) (*page.Page, Ref, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ref := f.root
	for level := f.root.Level; ; level-- {
		which := index / page.Span(level)
		if f.path[level] == nil || f.known[level] != which {
			pg, err := f.pages.get(ctx, where{ref.Pack, uint32(ref.Frame)}, level, ref.hash())
			if err != nil {
				return nil, Ref{}, err
			}
			f.path[level], f.known[level] = pg, which
		}
		pg := f.path[level]
		if level == 0 {
			return pg, ref, nil
		}
		i := index / page.Span(level-1) % page.Fanout
		if i >= int64(len(pg.Entries)) {
			return nil, Ref{}, spoilt(pack.Pages.Key(f.pages.job, ref.Pack, 0), fmt.Errorf("the map ends at page %d", index))
		}
		e := &pg.Entries[i]
		ref = Ref{Pack: pg.Packs[e.Pack], Frame: int(e.Frame), Level: level - 1, Hash: e.Hash[:]}
	}
}
