// Package work carries out the steps of one job: it starts and stops the head, fills it, applies oplog to it, takes snapshots of it
// and looks what has expired. What is to be done next is decided in job. A worker lives as long as its lease: everything it writes
// carries the lease's token, so that what it writes too late is refused.
package work

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/slot"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Host is what the workers of a daemon share. All of it is needed.
type Host struct {
	ID          string // of the daemon
	Root        string // of the heads
	Shares      bool   // the file system of the heads shares blocks of clones
	Backup      *backup.Backup
	Blockstores func(ctx context.Context, id string) (blockstore.Store, error)
	Heads       *head.Manager
	Slots       *slot.Slots
	Metrics     *Metrics
	Event       func(ctx context.Context, e model.Event) // keeps an event for people
	Self        func() backup.Daemon                     // the daemon as its last beat gave it
	MinWindow   time.Duration                            // see backupd.Options for these
	Poll        time.Duration
	Turn        time.Duration
	Grace       time.Duration
	Chores      time.Duration
	Now         func() time.Time
	Log         *slog.Logger

	mu      sync.Mutex
	cleaned map[string]time.Time // when each store was freed of leftovers
}

// cleanEvery is how often a store is freed of what killed writers left, whichever of its jobs does it.
const cleanEvery = 24 * time.Hour

// clean says whether a store's turn has come; then it counts as done.
func (h *Host) clean(store string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if last, ok := h.cleaned[store]; ok && now.Sub(last) < cleanEvery {
		return false
	}
	if h.cleaned == nil {
		h.cleaned = map[string]time.Time{}
	}
	h.cleaned[store] = now
	return true
}

func (h *Host) now() time.Time { return h.Now().UTC() }

// byeLimit bounds what is still written when the context has ended.
const byeLimit = 10 * time.Second

// Release gives a lease back even when the context has ended.
func Release(ctx context.Context, l *store.Lease) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), byeLimit)
	defer stop()
	return l.Release(ctx)
}

// Head is the one that runs; nil for none. For tests: the worker must be idle.
func (w *Worker) Head() *head.Head {
	if w.head == nil {
		return nil
	}
	return w.head.head
}
