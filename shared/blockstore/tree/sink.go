package tree

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
)

// sink appends frames to packs of one kind. Each caller takes an open pack for itself, so there are as many open at a time as
// there are callers; full ones are committed in the background.
type sink struct {
	w    *writer
	kind pack.Kind

	mu      sync.Mutex
	free    []*openPack
	all     []*openPack // that are not committed
	done    []string    // keys that were committed, or may have been
	next    int
	commits errgroup.Group

	count, stored atomic.Int64
}

type openPack struct {
	name string
	w    *pack.Writer
}

const maxCommits = 4 // in the background at a time

func newSink(w *writer, kind pack.Kind) *sink {
	k := &sink{w: w, kind: kind}
	k.commits.SetLimit(maxCommits)
	return k
}

// add stores a frame and says where.
func (k *sink) add(ctx context.Context, stored []byte, codec pack.Codec, raw int, lengths []uint32) (name string, frame uint32, err error) {
	p, err := k.take(ctx)
	if err != nil {
		return "", 0, err
	}
	frame, err = p.w.Append(stored, codec, raw, lengths)
	if err != nil {
		return "", 0, err
	}
	if p.w.Size() >= int64(k.w.o.PackSize) || p.w.Full() {
		k.commits.Go(func() error { return k.commit(ctx, p) })
		return p.name, frame, nil
	}
	k.mu.Lock()
	k.free = append(k.free, p)
	k.mu.Unlock()
	return p.name, frame, nil
}

func (k *sink) take(ctx context.Context) (*openPack, error) {
	k.mu.Lock()
	if n := len(k.free); n > 0 {
		p := k.free[n-1]
		k.free = k.free[:n-1]
		k.mu.Unlock()
		return p, nil
	}
	name := fmt.Sprintf("%s-%04x", k.w.m.Attempt, k.next)
	k.next++
	k.mu.Unlock()
	pw, err := pack.Create(ctx, k.w.store, k.kind.Key(k.w.o.Job, name, 0), k.kind, k.w.coder)
	if err != nil {
		return nil, err
	}
	p := &openPack{name: name, w: pw}
	k.mu.Lock()
	k.all = append(k.all, p)
	k.mu.Unlock()
	return p, nil
}

func (k *sink) commit(ctx context.Context, p *openPack) error {
	k.mu.Lock()
	k.done = append(k.done, p.w.Key())
	k.mu.Unlock()
	if err := p.w.Commit(ctx); err != nil {
		k.w.stop(err)
		return err
	}
	k.count.Add(1)
	k.stored.Add(p.w.Size())
	k.mu.Lock()
	k.all = slices.DeleteFunc(k.all, func(o *openPack) bool { return o == p })
	k.mu.Unlock()
	k.w.progress.Add(0, 0, p.w.Size())
	return nil
}

// close commits the packs that are not full and waits for all.
func (k *sink) close(ctx context.Context) error {
	k.mu.Lock()
	free := k.free
	k.free = nil
	k.mu.Unlock()
	for _, p := range free {
		k.commits.Go(func() error { return k.commit(ctx, p) })
	}
	return k.commits.Wait()
}

// abort drops the packs that were not committed.
func (k *sink) abort() {
	_ = k.commits.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.all {
		p.w.Abort()
	}
	k.all, k.free = nil, nil
}

// committed are the objects that are in the store, or may be.
func (k *sink) committed() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.done)
}
