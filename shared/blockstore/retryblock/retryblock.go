// Package retryblock tries again what failed with ErrUnavailable: calls, reads from where they broke off, and whole objects from
// a copy in memory, as long as they are not too large for that.
//
// What is certain stays certain: a Commit whose answer was lost and whose repetition finds the key taken compares the object
// that is there with its copy, and only an equal one is success.
package retryblock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Options are how patiently to try.
type Options struct {
	Tries int           // in all; at least 1
	First time.Duration // the mean pause after the first failure; it doubles each time
	Max   time.Duration // the longest mean pause
	// Keep is how many bytes of an object are kept to write it again. Of a larger one the failure is the caller's.
	Keep int
	// Note is told of every failure that is tried again; nil is fine.
	Note func(op, key string, try int, err error)
}

// Default bears an outage of ten seconds, often of half a minute (11 to 34, as chance spreads the tries), and keeps objects up to the size of a pack.
func Default() Options {
	return Options{Tries: 9, First: 100 * time.Millisecond, Max: 10 * time.Second, Keep: 40 << 20}
}

// Store wraps another one.
type Store struct {
	next blockstore.Store
	o    Options
}

var _ blockstore.Store = (*Store)(nil)

// New wraps a store.
func New(next blockstore.Store, o Options) *Store { return &Store{next: next, o: o} }

// Unwrap gives the wrapped store.
func (s *Store) Unwrap() blockstore.Store { return s.next }

// again waits before the next try and reports whether there is one. try is the number of the one that failed.
func (s *Store) again(ctx context.Context, op, key string, try int, err error) bool {
	if !errors.Is(err, blockstore.ErrUnavailable) || try >= s.o.Tries || ctx.Err() != nil {
		return false
	}
	if s.o.Note != nil {
		s.o.Note(op, key, try, err)
	}
	pause := min(s.o.First<<min(try-1, 20), s.o.Max)
	pause = pause/2 + rand.N(pause+1) //nolint:gosec // spreads clients that failed together
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retry runs a call until it succeeds, fails for good, or was tried often enough.
func (s *Store) retry(ctx context.Context, op, key string, call func() error) error {
	for try := 1; ; try++ {
		err := call()
		if err == nil || !s.again(ctx, op, key, try, err) {
			return giveUp(try, err)
		}
	}
}

func giveUp(tries int, err error) error {
	if err == nil || tries == 1 {
		return err
	}
	return fmt.Errorf("%w (tried %d times)", err, tries)
}

// Stat is blockstore.Store's.
func (s *Store) Stat(ctx context.Context, key string) (o blockstore.Object, err error) {
	err = s.retry(ctx, "stat", key, func() (err error) {
		o, err = s.next.Stat(ctx, key)
		return err
	})
	return o, err
}

// List is blockstore.Store's.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (found []blockstore.Object, err error) {
	err = s.retry(ctx, "list", prefix, func() (err error) {
		found, err = s.next.List(ctx, prefix, after, limit)
		return err
	})
	return found, err
}

// Delete is blockstore.Store's.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.retry(ctx, "delete", key, func() error { return s.next.Delete(ctx, key) })
}

// Open is blockstore.Store's.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r := &reader{ctx: ctx, s: s, key: key, offset: offset, length: length}
	err := s.retry(ctx, "open", key, r.open)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// reader goes on where a broken one ended: objects never change.
type reader struct {
	ctx            context.Context //nolint:containedctx // the reader ends with the call's context, as the contract says
	s              *Store
	key            string
	offset, length int64 // what is left to read; a negative length is to the end
	next           io.ReadCloser
	failed         int // tries in a row without a byte
}

func (r *reader) open() error {
	next, err := r.s.next.Open(r.ctx, r.key, r.offset, r.length)
	if err == nil {
		r.next = next
	}
	return err
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := 0, error(nil)
		if r.next == nil {
			err = r.open()
		}
		if err == nil {
			n, err = r.next.Read(p)
		}
		r.offset += int64(n)
		if r.length >= 0 {
			r.length = max(0, r.length-int64(n))
		}
		if n > 0 {
			r.failed = 0
		}
		if err == nil || errors.Is(err, io.EOF) {
			return n, err //nolint:wrapcheck // io.EOF must stay what it is
		}
		if r.next != nil {
			_ = r.next.Close()
			r.next = nil
		}
		if n > 0 {
			if errors.Is(err, blockstore.ErrUnavailable) {
				return n, nil // the next Read tries again
			}
			return n, err
		}
		r.failed++
		if !r.s.again(r.ctx, "read", r.key, r.failed, err) {
			return 0, giveUp(r.failed, err)
		}
	}
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.next == nil {
		return nil
	}
	return r.next.Close()
}

// Create is blockstore.Store's.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	w := &writer{ctx: ctx, s: s, key: key}
	err := s.retry(ctx, "create", key, w.open)
	if err != nil {
		return nil, err
	}
	return w, nil
}

type writer struct {
	ctx     context.Context //nolint:containedctx // the writer's life is the call's, as the contract says
	s       *Store
	key     string
	next    blockstore.Writer
	kept    bytes.Buffer
	tooLong bool  // kept is not the whole any more
	err     error // why the writer is done
}

var errDone = errors.New("retryblock: the writer is closed")

func (w *writer) open() error {
	next, err := w.s.next.Create(w.ctx, w.key)
	if err == nil {
		w.next = next
	}
	return err
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if !w.tooLong && w.kept.Len()+len(p) > w.s.o.Keep {
		w.tooLong, w.kept = true, bytes.Buffer{}
	}
	if !w.tooLong {
		w.kept.Write(p)
	}
	n, err := w.next.Write(p)
	if err == nil {
		return n, nil
	}
	if !w.tooLong && errors.Is(err, blockstore.ErrUnavailable) {
		err = w.rewrite("write", err)
	}
	if err != nil {
		w.fail(err)
		return n, err
	}
	return len(p), nil
}

// rewrite begins the object again with all that was written so far, after a failure.
func (w *writer) rewrite(op string, err error) error {
	for try := 1; ; try++ {
		if !w.s.again(w.ctx, op, w.key, try, err) {
			return giveUp(try, err)
		}
		w.next.Abort()
		if err = w.open(); err != nil {
			continue
		}
		if _, err = w.next.Write(w.kept.Bytes()); err == nil {
			return nil
		}
	}
}

// Commit implements blockstore.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	doubt := false
	for try := 1; ; try++ {
		err := w.next.Commit(ctx)
		if errors.Is(err, blockstore.ErrExists) && doubt {
			err = w.compare(ctx, err)
		}
		if err == nil {
			w.fail(errDone)
			return nil
		}
		if w.tooLong || !w.s.again(ctx, "commit", w.key, try, err) {
			w.fail(err)
			return giveUp(try, err)
		}
		doubt = true
		w.next.Abort()
		if err = w.open(); err == nil {
			_, err = w.next.Write(w.kept.Bytes())
		}
		if err != nil && errors.Is(err, blockstore.ErrUnavailable) {
			err = w.rewrite("commit", err)
		}
		if err != nil {
			w.fail(err)
			return err
		}
	}
}

// compare reads what has the key after a Commit in doubt: our own object, or taken.
func (w *writer) compare(ctx context.Context, taken error) error {
	have, err := blockstore.Get(ctx, w.s, w.key, int64(w.kept.Len()))
	switch {
	case errors.Is(err, blockstore.ErrTooLarge):
		return taken
	case err != nil:
		return fmt.Errorf("compare with what is there: %w", err)
	case !bytes.Equal(have, w.kept.Bytes()):
		return taken
	}
	return nil
}

func (w *writer) fail(err error) {
	w.err, w.kept = err, bytes.Buffer{}
	w.next.Abort()
}

// Abort implements blockstore.Writer.
func (w *writer) Abort() {
	if w.err == nil {
		w.fail(errDone)
	}
}
