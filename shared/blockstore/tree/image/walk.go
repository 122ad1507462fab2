package image

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

// Pages reads map pages. Pages that follow each other were written one after the other, so it reads ahead, and keeps the
// last ones. It is safe for concurrent use.
type Pages struct {
	job   string
	shelf *pack.Shelf
	coder *pack.Coder

	mu     sync.Mutex
	stored map[Where]*ahead
	order  []Where // oldest first
	held   int
}

// Where is the place of a frame.
type Where struct {
	Pack  string
	Frame uint32
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

// NewPages gives a reader of the map pages of a job.
func NewPages(s blockstore.Store, job string, coder *pack.Coder) *Pages {
	return &Pages{job: job, shelf: pack.NewShelf(s, job, pack.Pages, coder), coder: coder, stored: map[Where]*ahead{}}
}

// Spoilt is a *Damage that does not know yet whom it hits.
func Spoilt(key string, err error) error {
	return &Damage{Key: key, What: err.Error(), Missing: errors.Is(err, blockstore.ErrNotFound)}
}

// IsSpoilt says that err is about bytes that are wrong or gone, which no other try will change.
func IsSpoilt(err error) bool {
	return errors.Is(err, pack.ErrFormat) || errors.Is(err, blockstore.ErrNotFound) || errors.Is(err, blockstore.ErrDamaged) || errors.Is(err, page.ErrFormat)
}

// get reads a page and checks it against its hash. Damage is a *Damage without path and snapshot.
func (p *Pages) get(ctx context.Context, at Where, level int, want page.Hash) (*page.Page, error) {
	a, err := p.fetch(ctx, at)
	if err != nil {
		if IsSpoilt(err) && ctx.Err() == nil {
			return nil, Spoilt(pack.Pages.Key(p.job, at.Pack, 0), err)
		}
		return nil, err
	}
	plain, err := p.coder.Plain(&a.frame, a.bytes, nil)
	if err != nil {
		return nil, Spoilt(a.key, err)
	}
	if sha256.Sum256(plain) != want {
		return nil, Spoilt(a.key, fmt.Errorf("the hash of the map page in frame %d is wrong", at.Frame))
	}
	pg, err := page.Decode(plain)
	if err == nil && pg.Level != level {
		err = fmt.Errorf("%w: level %d, %d expected", page.ErrFormat, pg.Level, level)
	}
	if err != nil {
		return nil, Spoilt(a.key, err)
	}
	return pg, nil
}

func (p *Pages) fetch(ctx context.Context, at Where) (*ahead, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.stored[at]; a != nil {
		return a, nil
	}
	err := p.fill(ctx, at)
	if errors.Is(err, blockstore.ErrNotFound) && ctx.Err() == nil { // a groom may have replaced it just now
		p.shelf.Forget(at.Pack)
		err = p.fill(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	return p.stored[at], nil
}

func (p *Pages) fill(ctx context.Context, at Where) error {
	g, f, err := p.shelf.Find(ctx, at.Pack, at.Frame, 0)
	if err != nil {
		return err
	}
	last, size := at.Frame, int(f.Stored)
	for n := at.Frame + 1; g.Frame(n) != nil && size+int(g.Frame(n).Stored) <= readAhead; n++ {
		last, size = n, size+int(g.Frame(n).Stored)
	}
	b, err := p.shelf.Read(ctx, g, at.Frame, last)
	if err != nil {
		return err
	}
	for len(p.order) > 0 && p.held+size > maxHeld {
		p.held -= len(p.stored[p.order[0]].bytes)
		delete(p.stored, p.order[0])
		p.order = p.order[1:]
	}
	for n := at.Frame; n <= last; n++ {
		f := *g.Frame(n)
		w := Where{at.Pack, n}
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

// Leaf is a page of level 0 and the number of the file's block its first entry is for.
type Leaf struct {
	First int64
	Page  *page.Page
	At    Where
}

// Visitor is what a walk over a map asks. Both may be nil.
type Visitor struct {
	// Enter says whether to read a page. It is asked for each, the root included.
	Enter func(at Where) bool
	Leaf  func(l Leaf) error
	// Spoilt hears of a page that cannot be read, for the blocks from first; nil or an error ends the walk.
	Spoilt func(first int64, d *Damage) error
}

// Walk visits the map of a file in the order of the blocks, n of them.
func (p *Pages) Walk(ctx context.Context, root *Ref, n int64, v Visitor) error {
	return p.descend(ctx, Where{root.Pack, uint32(root.Frame)}, root.Level, root.Sum(), 0, n, v)
}

func (p *Pages) descend(ctx context.Context, at Where, level int, hash page.Hash, first, n int64, v Visitor) error {
	if v.Enter != nil && !v.Enter(at) {
		return nil
	}
	pg, err := p.get(ctx, at, level, hash)
	span := page.Span(level)
	if want := min((n-first+span-1)/span, page.Fanout); err == nil && int64(len(pg.Entries)) != want {
		err = Spoilt(pack.Pages.Key(p.job, at.Pack, 0), fmt.Errorf("the map page in frame %d has %d entries, not %d", at.Frame, len(pg.Entries), want))
	}
	if err != nil {
		var d *Damage
		if errors.As(err, &d) && v.Spoilt != nil {
			return v.Spoilt(first, d)
		}
		return err
	}
	if level == 0 {
		return v.Leaf(Leaf{First: first, Page: pg, At: at})
	}
	for i := range pg.Entries {
		e := &pg.Entries[i]
		if err := p.descend(ctx, Where{pg.Packs[e.Pack], e.Frame}, level-1, e.Hash, first+int64(i)*span, n, v); err != nil {
			return err
		}
	}
	return nil
}

// Finder looks leaves of one map up, keeping the way to the last one.
type Finder struct {
	pages *Pages
	root  Ref
	n     int64

	mu    sync.Mutex
	path  [page.MaxLevel + 1]*page.Page
	known [page.MaxLevel + 1]int64 // which page of its level path holds
}

// NewFinder looks leaves of a map of n blocks up.
func NewFinder(p *Pages, root Ref, n int64) *Finder { return &Finder{pages: p, root: root, n: n} }

// Leaf is the page for the blocks from index*Fanout on; ref is where it is.
func (f *Finder) Leaf(ctx context.Context, index int64) (*page.Page, Ref, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ref := f.root
	for level := f.root.Level; ; level-- {
		which := index / page.Span(level)
		if f.path[level] == nil || f.known[level] != which {
			pg, err := f.pages.get(ctx, Where{ref.Pack, uint32(ref.Frame)}, level, ref.Sum())
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
			return nil, Ref{}, Spoilt(pack.Pages.Key(f.pages.job, ref.Pack, 0), fmt.Errorf("the map ends at page %d", index))
		}
		e := &pg.Entries[i]
		ref = Ref{Pack: pg.Packs[e.Pack], Frame: int(e.Frame), Level: level - 1, Hash: e.Hash[:]}
	}
}
