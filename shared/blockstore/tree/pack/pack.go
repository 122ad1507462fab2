// Package pack is the format of packs: objects of some tens of megabytes made of compressed frames, with an index at the end.
// It owns the bytes of blocks/ and pages/ objects and the names of their generations; FORMAT.md of the parent describes them.
//
// A pack that lost most of its living blocks is rewritten as the next generation, under its name, a dot and a number. Frames and
// blocks keep their numbers, what is dead is left out. So nothing that points to it has to change, and a reader takes the
// highest generation that has what it wants.
package pack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Kind says what a pack holds.
type Kind byte

// The kinds of packs.
const (
	Blocks Kind = 'b'
	Pages  Kind = 'p'
)

// Prefix is where the packs of a job are.
func (k Kind) Prefix(job string) string {
	if k == Pages {
		return "pages/" + job + "/"
	}
	return "blocks/" + job + "/"
}

// Key is that of a generation of a pack. The first is 0.
func (k Kind) Key(job, name string, generation int) string {
	key := k.Prefix(job) + name
	if generation > 0 {
		key += "." + strconv.Itoa(generation)
	}
	return key
}

// ParseKey takes a key apart. ok is false for what is no pack of this kind and job.
func (k Kind) ParseKey(job, key string) (name string, generation int, ok bool) {
	rest, ok := strings.CutPrefix(key, k.Prefix(job))
	if !ok {
		return "", 0, false
	}
	name, number, dotted := strings.Cut(rest, ".")
	if dotted {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || strconv.Itoa(n) != number {
			return "", 0, false
		}
		generation = n
	}
	return name, generation, name != "" && len(name) <= maxName && !strings.Contains(name, "/")
}

// Generation is one object of a pack, with its index.
type Generation struct {
	Key    string
	Number int
	Size   int64
	Index  *Index
	kind   Kind
}

// Frame is frame n, or nil.
func (g *Generation) Frame(n uint32) *Frame {
	if int64(n) >= int64(len(g.Index.Frames)) {
		return nil
	}
	return &g.Index.Frames[n]
}

// Shelf finds packs of one kind and job and keeps the indexes that were used last. It is safe for concurrent use.
type Shelf struct {
	store blockstore.Store
	job   string
	kind  Kind
	coder *Coder

	mu    sync.Mutex
	packs map[string]*entry
	clock int64
	used  int // index bytes held, about
}

type entry struct {
	mu          sync.Mutex
	generations []*Generation // highest first
	err         error
	last        int64
	cost        int
}

// maxShelf is how many bytes of indexes a shelf keeps.
const maxShelf = 24 << 20

// NewShelf gives a shelf.
func NewShelf(s blockstore.Store, job string, kind Kind, coder *Coder) *Shelf {
	return &Shelf{store: s, job: job, kind: kind, coder: coder, packs: map[string]*entry{}}
}

// Generations are the objects of a pack, the highest first. An object whose index cannot be read is an error that is
// ErrFormat and names the key; a pack of which there is nothing is blockstore.ErrNotFound.
func (s *Shelf) Generations(ctx context.Context, name string) ([]*Generation, error) {
	s.mu.Lock()
	e := s.packs[name]
	if e == nil {
		e = &entry{}
		s.packs[name] = e
	}
	s.clock++
	e.last = s.clock
	s.mu.Unlock()

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.generations != nil || e.err != nil {
		return e.generations, e.err
	}
	list, err := s.load(ctx, name)
	if err != nil && !errors.Is(err, ErrFormat) { // damage stays, the rest may pass
		return nil, err
	}
	e.generations, e.err = list, err
	s.shrink(name, e)
	return list, err
}

// Forget makes the next use look again, after an object turned out to be gone: a groom may have replaced it.
func (s *Shelf) Forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.packs[name]; e != nil {
		s.used -= e.cost
		delete(s.packs, name)
	}
}

// shrink counts a new entry and forgets those that were not used for longest.
func (s *Shelf) shrink(name string, e *entry) {
	cost := 256
	for _, g := range e.generations {
		for i := range g.Index.Frames {
			cost += 48 + 4*len(g.Index.Frames[i].Lengths)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packs[name] != e {
		return
	}
	e.cost = cost
	if s.used += cost; s.used <= maxShelf {
		return
	}
	names := make([]string, 0, len(s.packs))
	for n, x := range s.packs {
		if x != e && x.cost > 0 {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(s.packs[a].last, s.packs[b].last) })
	for _, n := range names {
		if s.used <= maxShelf*3/4 {
			break
		}
		s.used -= s.packs[n].cost
		delete(s.packs, n)
	}
}

func (s *Shelf) load(ctx context.Context, name string) ([]*Generation, error) {
	key := s.kind.Key(s.job, name, 0)
	objects, err := s.store.List(ctx, key, "", 0)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", key, err)
	}
	var found []*Generation
	for _, o := range objects {
		n, generation, ok := s.kind.ParseKey(s.job, o.Key)
		if !ok || n != name {
			continue
		}
		index, err := ReadIndex(ctx, s.store, o.Key, o.Size, s.kind, s.coder)
		if err != nil && errors.Is(err, blockstore.ErrNotFound) {
			continue // deleted between the two calls
		}
		if err != nil {
			return nil, err
		}
		found = append(found, &Generation{Key: o.Key, Number: generation, Size: o.Size, Index: index, kind: s.kind})
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: %w", key, blockstore.ErrNotFound)
	}
	slices.SortFunc(found, func(a, b *Generation) int { return cmp.Compare(b.Number, a.Number) })
	return found, nil
}

// Find is the highest generation that has all those blocks of a frame, or an error that is blockstore.ErrNotFound.
func (s *Shelf) Find(ctx context.Context, name string, frame uint32, blocks ...uint16) (*Generation, *Frame, error) {
	list, err := s.Generations(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	for _, g := range list {
		f := g.Frame(frame)
		if f == nil {
			continue
		}
		has := func(b uint16) bool { return f.Stored > 0 && int(b) < len(f.Lengths) && f.Lengths[b] > 0 }
		if !slices.ContainsFunc(blocks, func(b uint16) bool { return !has(b) }) {
			return g, f, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: %s has not block %d of frame %d", ErrFormat, list[0].Key, first(blocks), frame)
}

func first(blocks []uint16) int {
	if len(blocks) == 0 {
		return 0
	}
	return int(blocks[0])
}

// ReadIndex reads and checks the index of a pack.
func ReadIndex(ctx context.Context, s blockstore.Store, key string, size int64, kind Kind, coder *Coder) (*Index, error) {
	if size < tailLen {
		return nil, fmt.Errorf("%s: %w: %d bytes", key, ErrFormat, size)
	}
	const guess = 32 << 10 // the index of a usual pack is well below
	n := min(size, guess)
	b, err := readRange(ctx, s, key, size-n, n)
	if err != nil {
		return nil, err
	}
	t, err := decodeTail(b[n-tailLen:], size, kind)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	end := size - tailLen - int64(t.stored)
	if int64(t.stored) > n-tailLen {
		if b, err = readRange(ctx, s, key, end, int64(t.stored)); err != nil {
			return nil, err
		}
	} else {
		b = b[n-tailLen-int64(t.stored) : n-tailLen]
	}
	if sum16(b) != t.sum {
		return nil, fmt.Errorf("%s: %w: the hash of its index is wrong", key, ErrFormat)
	}
	plain, err := coder.Decode(b, t.codec, int(t.raw), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: its index: %w", key, err)
	}
	x, err := decodeIndex(plain, end)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return x, nil
}

func readRange(ctx context.Context, s blockstore.Store, key string, offset, length int64) ([]byte, error) {
	r, err := s.Open(ctx, key, offset, length)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", key, err)
	}
	defer func() { _ = r.Close() }()
	b := make([]byte, length)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%s: %w: it ends too early", key, ErrFormat)
		}
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return b, nil
}

// Read gives the stored bytes from frame from up to and including frame to, in one request.
func (s *Shelf) Read(ctx context.Context, g *Generation, from, to uint32) ([]byte, error) {
	a, b := g.Frame(from), g.Frame(to)
	if a == nil || b == nil || from > to {
		return nil, fmt.Errorf("%s: %w: no frames %d to %d", g.Key, ErrFormat, from, to)
	}
	return readRange(ctx, s.store, g.Key, int64(a.Offset), int64(b.Offset)+int64(b.Stored)-int64(a.Offset))
}
