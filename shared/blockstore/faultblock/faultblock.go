// Package faultblock is a store that fails on demand: the n-th call of a kind, before or after the work was done, late, in the
// middle of a stream, with the disk full, or everything until it is switched on again. Only tests import it.
package faultblock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Call names a method of the store, its writers or its readers.
type Call string

// The calls. Any stands for all of them, also in a count.
const (
	Any    Call = ""
	Create Call = "create"
	Write  Call = "write"
	Commit Call = "commit"
	Open   Call = "open"
	Read   Call = "read"
	Stat   Call = "stat"
	List   Call = "list"
	Delete Call = "delete"
)

// Fault is one planned failure.
type Fault struct {
	Call   Call          // which calls count; Any counts all
	Prefix string        // only calls about keys that begin so; "" is all (List: its prefix)
	Nth    int           // 1 is the next such call; 0 is every one
	After  bool          // do the work first: the answer is lost. Otherwise the request is.
	Torn   int           // Write and Read: let this many bytes through first
	Err    error         // what the caller gets; nil with a Delay only delays, else nil is blockstore.ErrUnavailable
	Delay  time.Duration // wait this long first
}

type planned struct {
	Fault
	seen int
	done bool
}

// Store wraps another one.
type Store struct {
	next blockstore.Store

	mu     sync.Mutex
	faults []*planned
	off    error
	calls  map[Call]int
	room   int64 // bytes that may still be written; negative is without end
}

var _ blockstore.Store = (*Store)(nil)

// New wraps a store; nothing fails until told to.
func New(next blockstore.Store) *Store { return &Store{next: next, calls: map[Call]int{}, room: -1} }

// FailNth is New with one fault: the n-th call of any kind, before it does anything.
func FailNth(next blockstore.Store, n int) *Store {
	s := New(next)
	s.Fail(Fault{Nth: n})
	return s
}

// Unwrap gives the wrapped store: signed requests go past faults.
func (s *Store) Unwrap() blockstore.Store { return s.next }

// Fail plans a fault beside those already planned. Its count begins now.
func (s *Store) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &planned{Fault: f})
}

// Off makes every call fail, with blockstore.ErrUnavailable if err is nil, until On. Streams that are open fail too.
func (s *Store) Off(err error) {
	if err == nil {
		err = fmt.Errorf("%w: switched off by faultblock", blockstore.ErrUnavailable)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = err
}

// On ends Off, forgets every planned fault, and makes room.
func (s *Store) On() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off, s.faults, s.room = nil, nil, -1
}

// Room leaves n bytes to be written; the write that has too few writes those and fails with blockstore.ErrNoSpace, as on a full
// disk. Room is not given back by Delete.
func (s *Store) Room(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = n
}

// Calls says how often a call came; Any sums all.
func (s *Store) Calls(c Call) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c != Any {
		return s.calls[c]
	}
	sum := 0
	for _, n := range s.calls {
		sum += n
	}
	return sum
}

// due counts the call and gives the first fault that is due.
func (s *Store) due(c Call, key string) (Fault, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[c]++
	if s.off != nil {
		return Fault{}, false, s.off
	}
	var hit Fault
	found := false
	for _, f := range s.faults {
		if f.done || f.Call != Any && f.Call != c || !strings.HasPrefix(key, f.Prefix) {
			continue
		}
		f.seen++
		if f.Nth != 0 && f.seen != f.Nth {
			continue
		}
		f.done = f.Nth != 0
		if !found {
			hit, found = f.Fault, true
		}
	}
	return hit, found, nil
}

// take uses up room and says how many of n bytes there was room for.
func (s *Store) take(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room < 0 {
		return n
	}
	got := min(int64(n), s.room)
	s.room -= got
	return int(got)
}

// around runs one call under the plan. torn runs what goes through before the failure.
func (s *Store) around(ctx context.Context, c Call, key string, call func() error, torn func(n int)) error {
	f, found, err := s.due(c, key)
	if err != nil {
		return err
	}
	if !found {
		return call()
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if f.Err == nil {
			return call()
		}
	}
	if f.Err == nil {
		f.Err = fmt.Errorf("%w: planned by faultblock", blockstore.ErrUnavailable)
	}
	switch {
	case f.After:
		if err := call(); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	case f.Torn > 0 && torn != nil:
		torn(f.Torn)
	}
	return f.Err
}

// Create is blockstore.Store's.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	var w blockstore.Writer
	err := s.around(ctx, Create, key, func() (err error) {
		w, err = s.next.Create(ctx, key)
		return err
	}, nil)
	if err != nil {
		if w != nil {
			w.Abort()
		}
		return nil, err
	}
	return &writer{ctx: ctx, s: s, key: key, next: w}, nil
}

type writer struct {
	ctx  context.Context //nolint:containedctx // delays of Write end with it
	s    *Store
	key  string
	next blockstore.Writer
	err  error // a failed writer stays so
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, w.err
	}
	err = w.s.around(w.ctx, Write, w.key, func() (err error) {
		room := w.s.take(len(p))
		n, err = w.next.Write(p[:room])
		if err == nil && room < len(p) {
			err = fmt.Errorf("%w: no room left, says faultblock", blockstore.ErrNoSpace)
		}
		return err
	}, func(torn int) { n, _ = w.next.Write(p[:min(torn, len(p))]) })
	if err != nil {
		w.err = err
		w.next.Abort()
	}
	return n, err
}

// Commit implements blockstore.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	err := w.s.around(ctx, Commit, w.key, func() error { return w.next.Commit(ctx) }, nil)
	if err != nil {
		w.err = err
		w.next.Abort()
	}
	return err
}

// Abort implements blockstore.Writer.
func (w *writer) Abort() { w.next.Abort() }

// Open is blockstore.Store's.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	var r io.ReadCloser
	err := s.around(ctx, Open, key, func() (err error) {
		r, err = s.next.Open(ctx, key, offset, length)
		return err
	}, nil)
	if err != nil {
		if r != nil {
			_ = r.Close()
		}
		return nil, err
	}
	return &reader{ctx: ctx, s: s, key: key, next: r}, nil
}

type reader struct {
	ctx  context.Context //nolint:containedctx // delays of Read end with it
	s    *Store
	key  string
	next io.ReadCloser
	err  error // a failed reader stays so
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (n int, err error) {
	if r.err != nil {
		return 0, r.err
	}
	err = r.s.around(r.ctx, Read, r.key, func() (err error) {
		n, err = r.next.Read(p)
		return err
	}, func(torn int) { n, _ = r.next.Read(p[:min(torn, len(p))]) })
	r.err = err
	return n, err
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.next.Close() }

// Stat is blockstore.Store's.
func (s *Store) Stat(ctx context.Context, key string) (o blockstore.Object, err error) {
	err = s.around(ctx, Stat, key, func() (err error) {
		o, err = s.next.Stat(ctx, key)
		return err
	}, nil)
	if err != nil {
		return blockstore.Object{}, err
	}
	return o, nil
}

// List is blockstore.Store's.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (found []blockstore.Object, err error) {
	err = s.around(ctx, List, prefix, func() (err error) {
		found, err = s.next.List(ctx, prefix, after, limit)
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Delete is blockstore.Store's.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.around(ctx, Delete, key, func() error { return s.next.Delete(ctx, key) }, nil)
}
