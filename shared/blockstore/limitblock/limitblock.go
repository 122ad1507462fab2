// Package limitblock keeps a store from taking all of a disk or a line: so many calls at work at once, and so many bytes a
// second, read and written together.
package limitblock

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Options are the limits; zero is none.
type Options struct {
	Calls          int   // at work at once; a stream counts while it is read or written, so that holding one while opening another is safe
	BytesPerSecond int64 // averaged over about a second
}

// Store wraps another one.
type Store struct {
	next  blockstore.Store
	calls *semaphore.Weighted
	bytes *rate.Limiter
}

var _ blockstore.Store = (*Store)(nil)

// step is the most bytes that are moved for one asking of the limiter: small enough to flow evenly.
const step = 256 << 10

// New wraps a store.
func New(next blockstore.Store, o Options) *Store {
	s := &Store{next: next}
	if o.Calls > 0 {
		s.calls = semaphore.NewWeighted(int64(o.Calls))
	}
	if o.BytesPerSecond > 0 {
		s.bytes = rate.NewLimiter(rate.Limit(o.BytesPerSecond), int(max(step, min(o.BytesPerSecond, 64<<20))))
	}
	return s
}

// Unwrap gives the wrapped store: signed requests go past the limits.
func (s *Store) Unwrap() blockstore.Store { return s.next }

// enter waits for a place among those at work; the returned function leaves it.
func (s *Store) enter(ctx context.Context) (leave func(), err error) {
	if s.calls == nil {
		return func() {}, nil
	}
	if err := s.calls.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { s.calls.Release(1) }, nil
}

func (s *Store) wait(ctx context.Context, n int) error {
	if s.bytes == nil || n == 0 {
		return nil
	}
	err := s.bytes.WaitN(ctx, n)
	if err != nil && ctx.Err() == nil { // it does not even begin to wait for what ends after the deadline
		return fmt.Errorf("%w: the limit of bytes a second: %w", context.DeadlineExceeded, err)
	}
	return err
}

// Create is blockstore.Store's.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	w, err := s.next.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	return &writer{ctx: ctx, s: s, next: w}, nil
}

type writer struct {
	ctx  context.Context //nolint:containedctx // waiting in Write ends with it
	s    *Store
	next blockstore.Writer
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	done := 0
	for {
		n := min(len(p)-done, step)
		if err := w.s.wait(w.ctx, n); err != nil {
			w.next.Abort()
			return done, err
		}
		wrote, err := w.part(p[done : done+n])
		done += wrote
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

func (w *writer) part(p []byte) (int, error) {
	leave, err := w.s.enter(w.ctx)
	if err != nil {
		w.next.Abort()
		return 0, err
	}
	defer leave()
	return w.next.Write(p)
}

// Commit implements blockstore.Writer.
func (w *writer) Commit(ctx context.Context) error {
	leave, err := w.s.enter(ctx)
	if err != nil {
		w.next.Abort()
		return err
	}
	defer leave()
	return w.next.Commit(ctx)
}

// Abort implements blockstore.Writer.
func (w *writer) Abort() { w.next.Abort() }

// Open is blockstore.Store's.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	r, err := s.next.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, s: s, next: r}, nil
}

type reader struct {
	ctx  context.Context //nolint:containedctx // waiting in Read ends with it
	s    *Store
	next io.ReadCloser
}

// Read pays for what it got after it got it: how much that is, is not known before.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.part(p[:min(len(p), step)])
	if werr := r.s.wait(r.ctx, n); werr != nil {
		return n, werr
	}
	return n, err
}

func (r *reader) part(p []byte) (int, error) {
	leave, err := r.s.enter(r.ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	return r.next.Read(p)
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.next.Close() }

// Stat is blockstore.Store's.
func (s *Store) Stat(ctx context.Context, key string) (blockstore.Object, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return blockstore.Object{}, err
	}
	defer leave()
	return s.next.Stat(ctx, key)
}

// List is blockstore.Store's.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]blockstore.Object, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.next.List(ctx, prefix, after, limit)
}

// Delete is blockstore.Store's.
func (s *Store) Delete(ctx context.Context, key string) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.next.Delete(ctx, key)
}
