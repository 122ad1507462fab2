// Package memblock keeps objects in memory: for tests, and for demos that need no backup after their end.
package memblock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// Store is a map of objects. The zero value is not ready: use New.
type Store struct {
	mu      sync.RWMutex
	objects map[string]object
	now     func() time.Time
}

type object struct {
	content  []byte // never changed
	modified time.Time
}

var _ blockstore.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store { return &Store{objects: map[string]object{}, now: time.Now} }

// Create implements blockstore.Store.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return nil, err
	}
	return &writer{ctx: ctx, store: s, key: key}, nil
}

type writer struct {
	ctx   context.Context //nolint:containedctx // the writer's life is the call's, as the contract says
	store *Store
	key   string
	b     []byte
	done  bool
}

var errDone = errors.New("memblock: the writer is closed")

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, errDone
	}
	if err := w.ctx.Err(); err != nil {
		w.Abort()
		return 0, err
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

// Commit implements blockstore.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.done {
		return errDone
	}
	content := w.b
	w.Abort()
	if err := ctx.Err(); err != nil {
		return err
	}
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	if _, taken := w.store.objects[w.key]; taken {
		return fmt.Errorf("%w: %s", blockstore.ErrExists, w.key)
	}
	w.store.objects[w.key] = object{content: slices.Clip(content), modified: w.store.now().UTC()}
	return nil
}

// Abort implements blockstore.Writer.
func (w *writer) Abort() { w.b, w.done = nil, true }

func (s *Store) get(ctx context.Context, key string) (object, error) {
	if err := ctx.Err(); err != nil {
		return object{}, err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return object{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, fmt.Errorf("%w: %s", blockstore.ErrNotFound, key)
	}
	return o, nil
}

// Open implements blockstore.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := s.get(ctx, key)
	if err != nil {
		return nil, err
	}
	from, n, err := blockstore.Range(int64(len(o.content)), offset, length)
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, r: bytes.NewReader(o.content[from : from+n])}, nil
}

type reader struct {
	ctx context.Context //nolint:containedctx // the reader ends with the call's context, as the contract says
	r   *bytes.Reader
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Close implements io.Closer.
func (r *reader) Close() error { return nil }

// Stat implements blockstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (blockstore.Object, error) {
	o, err := s.get(ctx, key)
	if err != nil {
		return blockstore.Object{}, err
	}
	return blockstore.Object{Key: key, Size: int64(len(o.content)), Modified: o.modified}, nil
}

// List implements blockstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]blockstore.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := errors.Join(blockstore.ValidPrefix(prefix), blockstore.ValidPrefix(after)); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []blockstore.Object
	for key, o := range s.objects {
		if key > after && strings.HasPrefix(key, prefix) {
			found = append(found, blockstore.Object{Key: key, Size: int64(len(o.content)), Modified: o.modified})
		}
	}
	slices.SortFunc(found, func(a, b blockstore.Object) int { return strings.Compare(a.Key, b.Key) })
	return found[:min(len(found), blockstore.Limit(limit))], nil
}

// Delete implements blockstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return nil
}
