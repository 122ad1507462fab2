package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
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
		o.Stats = &Counters{}
	}
	if o.AwaitData == 0 {
		o.AwaitData = time.Second
	}
	e := &Engine{o: o, stats: o.Stats, st: store.NewState(compileFilter), changed: make(chan struct{}), lock: map[string]*txn{}}
	e.cur.init()
	e.sess.init()
	if o.DBPath != "" {
		jn, err := store.OpenJournal(o.DBPath, e.st, o.NoSync)
		if err != nil {
			return nil, fmt.Errorf("open member data: %w", err)
		}
		e.jn = jn
	}
	e.recoverOplog()
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
	c := e.st.Get(OplogNS)
	if c == nil {
		return
	}
	for _, doc := range c.Records.Ascend(0) {
		x := ParseOplogEntry(doc)
		e.last = x.At
		e.sess.remember(x, nil, nil)
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
	seq := e.seal()
	e.mu.Unlock()
	return e.jn.Wait(seq, true)
}

// CopyFrom replaces this member's data by a copy of another's, as an initial sync does; everything of the local database
// but the oplog is kept. Documents are shared, so it is quick.
func (e *Engine) CopyFrom(src *Engine) error {
	src.mu.Lock()
	snap, last, sess := src.st.Clone(), src.last, src.sess.clone()
	src.mu.Unlock()
	e.mu.Lock()
	err := e.replaceBy(snap)
	if err == nil {
		e.last, e.sess = last, sess
	}
	e.cur.killAll()
	e.wake()
	seq := e.seal()
	e.mu.Unlock()
	return errors.Join(err, e.waitJournal(seq, true))
}

// replaceBy takes over another state's collections; mu is held.
func (e *Engine) replaceBy(snap *store.State) error {
	for _, c := range e.st.Collections("") {
		if dbOf(c.NS) != "local" || c.NS == OplogNS {
			e.st.Drop(e.bt(), c)
		}
	}
	for _, c := range snap.Collections("") {
		if dbOf(c.NS) == "local" && c.NS != OplogNS {
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
	e.st.Create(e.bt(), d)
	if c.Records == nil {
		return nil
	}
	for rid, doc := range c.Records.Ascend(0) {
		if err := e.st.Put(e.bt(), d, rid, doc); err != nil {
			return fmt.Errorf("copy %s: %w", c.NS, err)
		}
		if e.batch.Len() > 1<<20 {
			e.seal()
		}
	}
	return nil
}

// CreateOplog makes the capped oplog collection unless it is there.
func (e *Engine) CreateOplog(size int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.st.Get(OplogNS) != nil {
		return
	}
	var o bsonval.Builder
	o.Bool("capped", true).Int64("size", size).Bool("autoIndexId", false)
	e.st.Create(e.bt(), &store.Collection{NS: OplogNS, UUID: newUUID(), Options: o.Raw()})
	e.seal()
}

// LogNoop writes a no-op entry ("initiating set", "new primary", "periodic noop") and gives its position.
func (e *Engine) LogNoop(msg bson.Raw) OpTime {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log(OplogEntry{Op: "n", O: msg})
	e.wake()
	e.seal()
	return e.last
}

// Apply replays entries of another member in order, as a secondary does: each is written to this member's oplog and then
// carried out. Entries not newer than the newest this member has are passed over, so a batch may be applied twice.
// OnWrite is not called.
func (e *Engine) Apply(ctx context.Context, entries []OplogEntry) error {
	e.mu.Lock()
	for _, x := range entries {
		if !e.last.Before(x.At) {
			continue
		}
		if err := ctx.Err(); err != nil {
			e.seal()
			e.mu.Unlock()
			return err
		}
		if err := e.applyEntry(x); err != nil {
			e.seal()
			e.mu.Unlock()
			return fmt.Errorf("apply entry %d.%d (%s %s): %w", x.At.TS.T, x.At.TS.I, x.Op, x.NS, err)
		}
		e.appendOplog(x)
	}
	e.wake()
	seq := e.seal()
	e.mu.Unlock()
	return e.waitJournal(seq, false)
}

// Before orders positions.
func (a OpTime) Before(b OpTime) bool {
	if a.TS.T != b.TS.T {
		return a.TS.T < b.TS.T
	}
	return a.TS.I < b.TS.I
}

// OplogAfter gives up to limit entries after a position, and false when the position itself is no longer, or not, in this
// member's oplog (the reader is stale or has diverged). The zero position is before everything.
func (e *Engine) OplogAfter(at OpTime, limit int) ([]OplogEntry, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	c := e.st.Get(OplogNS)
	if c == nil {
		return nil, at == OpTime{}
	}
	from := int64(uint64(at.TS.T)<<32 | uint64(at.TS.I))
	found := at == OpTime{}
	var out []OplogEntry
	for rid, doc := range c.Records.Ascend(from) {
		x := ParseOplogEntry(doc)
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
func (e *Engine) OplogBounds() (first, last OpTime) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if c := e.st.Get(OplogNS); c != nil {
		if _, doc, ok := c.Records.First(); ok {
			first = ParseOplogEntry(doc).At
		}
	}
	return first, e.last
}

// NamespaceSize is what a collection takes.
type NamespaceSize struct {
	NS                    string
	UUID                  [16]byte
	View, Capped          bool
	Docs, Bytes, MaxBytes int64
	Indexes               []IndexSize
	Options               bson.Raw
}

// IndexSize is what an index takes.
type IndexSize struct {
	Name           string
	Entries, Bytes int64
}

// Namespaces lists what a database holds (all databases when db is empty), for dbStats, collStats and top.
func (e *Engine) Namespaces(db string) []NamespaceSize {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var out []NamespaceSize
	for _, c := range e.st.Collections(db) {
		out = append(out, sizeOf(c))
	}
	return out
}

func sizeOf(c *store.Collection) NamespaceSize {
	n := NamespaceSize{NS: c.NS, UUID: c.UUID, View: c.View, Capped: c.Capped, Bytes: c.Bytes, MaxBytes: c.Size, Options: c.Options}
	if c.Records != nil {
		n.Docs = int64(c.Records.Len())
	}
	for _, x := range c.Indexes {
		i := IndexSize{Name: x.Name, Bytes: 4096}
		if x.Entries != nil {
			i.Entries = int64(x.Entries.Len())
			i.Bytes += i.Entries * 16
		}
		n.Indexes = append(n.Indexes, i)
	}
	return n
}
