// Package txn gathers the entries of transactions until they commit: their operations count at the place of the commit
// and not before. It owns the rules of chains (prevOpTime), of prepared transactions and of commits met twice; where the
// bytes wait is the caller's (Store), so that a transaction may be larger than memory.
package txn

import (
	"errors"
	"fmt"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// ErrNotWhole is in the chain of errors about a commit whose earlier entries were never seen: the replay began too late.
var ErrNotWhole = errors.New("the transaction began before the first entry held")

// Store keeps the entries of open transactions. Memory is the simple one; the daemon's spills to disk.
type Store interface {
	// Append keeps an entry under a key, after those that are there.
	Append(key string, entry bson.Raw) error
	// Entries yields what Append kept, in order. An unknown key has none.
	Entries(key string) iter.Seq2[bson.Raw, error]
	// Drop forgets a key; unknown keys are no error.
	Drop(key string) error
}

// Verdict is what an entry means for whoever applies it.
type Verdict int

// The verdicts.
const (
	// Apply: the entry is no transaction's, its operations count now (Operations).
	Apply Verdict = iota
	// Held: it belongs to a transaction that is still open. Nothing to apply.
	Held
	// Commit: it ends a transaction, whose operations count now (Operations).
	Commit
	// Abort: it ends a transaction that leaves nothing.
	Abort
	// Repeated: it commits again what the last commits held (two slices share it). Nothing to apply.
	Repeated
)

// Committed is the identity of a commit, kept so that a repetition and, in a cluster, the same commit on another shard is known.
type Committed struct {
	Key             string
	At              oplog.OpTime
	CommitTimestamp bson.Timestamp // zero where the transaction was not prepared
}

// Open describes a transaction that has not ended.
type Open struct {
	Key      string
	First    oplog.OpTime
	Last     oplog.OpTime
	Count    int64 // operations so far
	Prepared bool
	lsid     string
	number   int64
}

// Buffer follows the transactions of one oplog, entry by entry. The zero Buffer is not ready: use New.
type Buffer struct {
	store Store
	open  map[string]*Open
	last  []Committed // the newest kept commits, oldest first
}

// kept is how many commits are remembered.
const kept = 100

// New returns an empty Buffer over a store; nil keeps entries in memory.
func New(store Store) *Buffer {
	if store == nil {
		store = memory{}
	}
	return &Buffer{store: store, open: map[string]*Open{}}
}

// Add takes the next entry. On Apply and Commit, Operations gives what counts now; after it Done frees what a commit held.
func (b *Buffer) Add(e *oplog.Entry) (Verdict, error) {
	if !e.Transaction() {
		return Apply, nil
	}
	key := b.key(e)
	t := b.open[key]
	switch e.Command.Name {
	case oplog.CommitTransaction:
		return b.commit(e, key, t)
	case oplog.AbortTransaction:
		delete(b.open, key)
		return Abort, b.store.Drop(key)
	}
	if b.committed(key, e.At) {
		return Repeated, nil
	}
	if t != nil && t.Last.TS == e.At.TS {
		return Held, nil // two slices share the entry
	}
	t, err := b.extend(e, key, t)
	if err != nil {
		return Held, err
	}
	if t.Prepared || e.Command.Partial {
		return Held, nil
	}
	if e.Command.Count != 0 && e.Command.Count != t.Count {
		return Held, fmt.Errorf("entry %s: %w: transaction says it has %d operations, %d came", e.At, oplog.ErrCorrupt, e.Command.Count, t.Count)
	}
	b.remember(Committed{Key: key, At: e.At})
	return Commit, nil
}

// key names the transaction an entry belongs to: its session and number, or the first entry of its chain where there is no session.
func (b *Buffer) key(e *oplog.Entry) string {
	if e.Session != nil {
		return e.Session.Key()
	}
	if !e.Prev.IsZero() {
		for k, t := range b.open {
			if t.lsid == "" && (t.Last.TS == e.Prev.TS || t.Last.TS == e.At.TS) {
				return k
			}
		}
	}
	return "at " + e.At.String()
}

// extend adds an entry to its transaction. One that is a whole transaction is not kept: Operations finds it in the entry.
func (b *Buffer) extend(e *oplog.Entry, key string, t *Open) (*Open, error) {
	switch {
	case t == nil && !e.Prev.IsZero():
		return nil, fmt.Errorf("entry %s: %w", e.At, ErrNotWhole)
	case t != nil && e.Prev.IsZero():
		// The chain begins again: what came before was cut off by a step-down.
		delete(b.open, key)
		if err := b.store.Drop(key); err != nil {
			return nil, err
		}
		t = nil
	case t != nil && t.Prepared:
		return nil, fmt.Errorf("entry %s: %w: operations after the prepare of their transaction", e.At, oplog.ErrCorrupt)
	case t != nil && t.Last.TS != e.Prev.TS:
		return nil, fmt.Errorf("entry %s: %w: it follows %s in its transaction, the last seen is %s", e.At, oplog.ErrCorrupt, e.Prev, t.Last)
	}
	if t == nil {
		t = &Open{Key: key, First: e.At}
		if e.Session != nil {
			t.lsid, t.number = string(e.Session.LSID), e.Session.TxnNumber
			if err := b.abandon(t); err != nil {
				return nil, err
			}
		}
	}
	whole := b.open[key] == nil && !e.Command.Partial && !e.Command.Prepare
	if !whole {
		b.open[key] = t
		if err := b.store.Append(key, e.Raw); err != nil {
			return nil, fmt.Errorf("keep entry %s of a transaction: %w", e.At, err)
		}
	}
	t.Last, t.Count, t.Prepared = e.At, t.Count+e.Command.Length, e.Command.Prepare
	return t, nil
}

// abandon forgets unprepared transactions of the same session with a lower number: a session has one at a time, so the new one says that they ended.
func (b *Buffer) abandon(t *Open) error {
	for k, old := range b.open {
		if old.lsid == t.lsid && old.number < t.number && !old.Prepared {
			delete(b.open, k)
			if err := b.store.Drop(k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Buffer) commit(e *oplog.Entry, key string, t *Open) (Verdict, error) {
	switch {
	case t == nil && b.committed(key, e.At):
		return Repeated, nil
	case t == nil:
		return Held, fmt.Errorf("entry %s: %w", e.At, ErrNotWhole)
	case !t.Prepared:
		return Held, fmt.Errorf("entry %s: %w: commit of a transaction that was not prepared", e.At, oplog.ErrCorrupt)
	}
	b.remember(Committed{Key: key, At: e.At, CommitTimestamp: e.Command.CommitTimestamp})
	return Commit, nil
}

func (b *Buffer) committed(key string, at oplog.OpTime) bool {
	for _, c := range b.last {
		if c.Key == key && c.At.TS == at.TS {
			return b.open[key] == nil
		}
	}
	return false
}

func (b *Buffer) remember(c Committed) {
	b.last = append(b.last, c)
	if len(b.last) > 2*kept {
		b.last = append(b.last[:0], b.last[len(b.last)-kept:]...)
	}
}

// Operations yields the operations that count at an entry whose verdict was Apply or Commit, in order.
func (b *Buffer) Operations(e *oplog.Entry) iter.Seq2[*oplog.Op, error] {
	return func(yield func(*oplog.Op, error) bool) {
		if e.Kind != oplog.Command || e.Command.Name != oplog.ApplyOps && e.Command.Name != oplog.CommitTransaction {
			yield(&e.Op, nil)
			return
		}
		key := ""
		if e.Transaction() {
			key = b.key(e)
		}
		if key == "" || b.open[key] == nil {
			for i := range e.Command.Ops {
				if !yield(&e.Command.Ops[i], nil) {
					return
				}
			}
			return
		}
		for raw, err := range b.store.Entries(key) {
			var held *oplog.Entry
			if err == nil {
				held, err = oplog.Decode(raw)
			}
			if err != nil {
				yield(nil, fmt.Errorf("read a transaction back: %w", err))
				return
			}
			for i := range held.Command.Ops {
				if !yield(&held.Command.Ops[i], nil) {
					return
				}
			}
		}
	}
}

// Done forgets what the transaction that e committed held. It may be called twice.
func (b *Buffer) Done(e *oplog.Entry) error {
	if !e.Transaction() {
		return nil
	}
	key := b.key(e)
	delete(b.open, key)
	return b.store.Drop(key)
}

// Oldest is the first entry of the oldest open transaction: a snapshot taken now must be replayed from there on, and the
// oplog from there on must be kept with it.
func (b *Buffer) Oldest() (first oplog.OpTime, any bool) {
	for _, t := range b.open {
		if !any || t.First.Before(first) {
			first, any = t.First, true
		}
	}
	return first, any
}

// Open lists the open transactions in no particular order.
func (b *Buffer) Open() []Open {
	out := make([]Open, 0, len(b.open))
	for _, t := range b.open {
		out = append(out, *t)
	}
	return out
}

// Commits lists the last commits, oldest first, for the comparison of shards.
func (b *Buffer) Commits() []Committed {
	return append([]Committed(nil), b.last[max(0, len(b.last)-kept):]...)
}

// memory is the Store that keeps everything.
type memory map[string][]bson.Raw

// Append is Store's.
func (m memory) Append(key string, entry bson.Raw) error {
	m[key] = append(m[key], entry)
	return nil
}

// Entries is Store's.
func (m memory) Entries(key string) iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		for _, e := range m[key] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Drop is Store's.
func (m memory) Drop(key string) error {
	delete(m, key)
	return nil
}
