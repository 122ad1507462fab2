package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/cursor"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/past"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/stats"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// Open makes an engine and reads back what its dbpath holds.
func Open(o Options) (*Engine, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Stats == nil {
		o.Stats = &stats.Counters{}
	}
	if o.AwaitData == 0 {
		o.AwaitData = time.Second
	}
	e := &Engine{o: o, stats: o.Stats, st: store.NewState(compileFilter), changed: make(chan struct{}), lock: map[string]*session.Txn{}, sess: session.NewTable(), Cursors: cursor.NewTable()}
	if o.DBPath != "" {
		jn, err := store.OpenJournal(o.DBPath, e.st, store.JournalOptions{NoSync: o.NoSync, PerDB: o.DirectoryPerDB})
		if err != nil {
			return nil, fmt.Errorf("open member data: %w", err)
		}
		e.jn = jn
	}
	e.recoverOplog()
	if o.Committed != nil {
		e.st.OnChange = e.past.Record
	}
	return e, nil
}

func compileFilter(doc bson.Raw) (func(bson.Raw) bool, error) {
	f, err := match.Parse(doc, nil)
	if err != nil {
		return nil, err
	}
	return f.Match, nil
}

// recoverOplog finds the newest entry and the retryable writes the oplog remembers.
func (e *Engine) recoverOplog() {
	c := e.st.Get(oplog.NS)
	if c == nil {
		return
	}
	for _, doc := range c.Records.Ascend(0) {
		x := oplog.Parse(doc)
		e.last = x.At
		e.sess.Follow(x, nil, nil)
	}
}

// Close stops the engine: cursors die, waiting getMores end. A clean close leaves a snapshot, otherwise the journal is left
// as a killed process would leave it.
func (e *Engine) Close(clean bool) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.wake()
	jn, st := e.jn, e.st
	e.mu.Unlock()
	if jn == nil {
		return nil
	}
	return jn.Close(st, clean)
}

// Sync makes everything written so far durable.
func (e *Engine) Sync() error {
	if e.jn == nil {
		return nil
	}
	e.mu.Lock()
	seq := e.Seal()
	e.mu.Unlock()
	return e.jn.Wait(seq, true)
}

// CopyFrom replaces this member's data by a copy of another's, as an initial sync does; everything of the local database
// but the oplog is kept. Documents are shared, so it is quick.
func (e *Engine) CopyFrom(src *Engine) error {
	src.mu.Lock()
	snap, last, sess := src.st.Clone(), src.last, src.sess.Clone()
	src.mu.Unlock()
	e.mu.Lock()
	err := e.replaceBy(snap)
	if err == nil {
		e.last, e.sess = last, sess
	}
	e.past = past.Log{}
	e.KillCursors()
	e.wake()
	seq := e.Seal()
	e.mu.Unlock()
	return errors.Join(err, e.waitJournal(seq, true))
}

// replaceBy takes over another state's collections; mu is held.
func (e *Engine) replaceBy(snap *store.State) error {
	for _, c := range e.st.Collections("") {
		if store.DBOf(c.NS) != "local" || c.NS == oplog.NS {
			e.st.Drop(e.Batch(), c)
		}
	}
	for _, c := range snap.Collections("") {
		if store.DBOf(c.NS) == "local" && c.NS != oplog.NS {
			continue
		}
		if err := e.copyCollection(c); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) copyCollection(c *store.Collection) error {
	d := &store.Collection{NS: c.NS, UUID: c.UUID, Options: c.Options}
	for _, x := range c.Indexes {
		y, err := e.st.NewIndex(x.Spec)
		if err != nil {
			return fmt.Errorf("copy %s: %w", c.NS, err)
		}
		d.Indexes = append(d.Indexes, y)
	}
	e.st.Create(e.Batch(), d)
	if c.Records == nil {
		return nil
	}
	for rid, doc := range c.Records.Ascend(0) {
		if err := e.st.Put(e.Batch(), d, rid, doc); err != nil {
			return fmt.Errorf("copy %s: %w", c.NS, err)
		}
		if e.batch.Len() > 1<<20 {
			e.Seal()
		}
	}
	return nil
}

// CreateOplog makes the capped oplog collection unless it is there.
func (e *Engine) CreateOplog(size int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.st.Get(oplog.NS) != nil {
		return
	}
	var o bsonval.Builder
	o.Bool("capped", true).Int64("size", size).Bool("autoIndexId", false)
	e.st.Create(e.Batch(), &store.Collection{NS: oplog.NS, UUID: NewUUID(), Options: o.Raw()})
	e.Seal()
}

// LogNoop writes a no-op entry ("initiating set", "new primary", "periodic noop") and gives its position.
func (e *Engine) LogNoop(msg bson.Raw) oplog.OpTime {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Log(oplog.Entry{Op: "n", O: msg})
	e.wake()
	e.Seal()
	return e.last
}

// Apply replays entries of another member in order, as a secondary does: each is written to this member's oplog and then
// carried out. Entries not newer than the newest this member has are passed over, so a batch may be applied twice.
// OnWrite is not called.
func (e *Engine) Apply(ctx context.Context, entries []oplog.Entry) error {
	e.mu.Lock()
	for _, x := range entries {
		if !e.last.Before(x.At) {
			continue
		}
		if err := ctx.Err(); err != nil {
			e.Seal()
			e.mu.Unlock()
			return err
		}
		if err := e.ApplyEntry(x); err != nil {
			e.Seal()
			e.mu.Unlock()
			return fmt.Errorf("apply entry %d.%d (%s %s): %w", x.At.TS.T, x.At.TS.I, x.Op, x.NS, err)
		}
		e.appendOplog(x)
	}
	e.wake()
	seq := e.Seal()
	e.mu.Unlock()
	return e.waitJournal(seq, false)
}

// OplogAfter gives up to limit entries after a position, and false when the position itself is no longer, or not, in this
// member's oplog (the reader is stale or has diverged). The zero position is before everything.
func (e *Engine) OplogAfter(at oplog.OpTime, limit int) ([]oplog.Entry, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	c := e.st.Get(oplog.NS)
	if c == nil {
		return nil, at == oplog.OpTime{}
	}
	from := at.ID()
	found := at == oplog.OpTime{}
	var out []oplog.Entry
	for rid, doc := range c.Records.Ascend(from) {
		x := oplog.Parse(doc)
		if rid == from {
			found = x.At.Term == at.Term
			continue
		}
		if len(out) >= limit || !found {
			break
		}
		out = append(out, x)
	}
	return out, found
}

// OplogBounds gives the first and last entry's positions.
func (e *Engine) OplogBounds() (first, last oplog.OpTime) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if c := e.st.Get(oplog.NS); c != nil {
		if _, doc, ok := c.Records.First(); ok {
			first = oplog.Parse(doc).At
		}
	}
	return first, e.last
}

// Namespaces lists what a database holds (all databases when db is empty), for dbStats, collStats and top.
func (e *Engine) Namespaces(db string) []store.NamespaceSize {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var out []store.NamespaceSize
	for _, c := range e.st.Collections(db) {
		out = append(out, store.SizeOf(c))
	}
	return out
}
