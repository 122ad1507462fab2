package member

import (
	"context"
	"math"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// committed is the newest entry a majority read may show: everything when nobody says what a majority has.
func (e *Engine) committed() (oplog.OpTime, <-chan struct{}) {
	if e.o.Committed == nil {
		return e.last, nil
	}
	return e.o.Committed()
}

// Visible is the record id up to which a reader sees a collection: with majority concern the oplog ends at the commit point.
// The channel is closed when that moves. The lock is held.
func (e *Engine) Visible(coll *store.Collection, majority bool) (int64, <-chan struct{}) {
	if !majority || e.o.Committed == nil {
		return math.MaxInt64, nil
	}
	at, moved := e.o.Committed()
	if coll.NS != oplog.NS {
		return math.MaxInt64, moved
	}
	return at.ID(), moved
}

// Closed says that the engine is closed.
func (e *Engine) Closed() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.closed
}

// Majority says that the call reads what a majority of the members has.
func (c *Call) Majority() bool {
	switch bsonval.StringField(bsonval.SubDoc(c.Arg("readConcern")), "level") {
	case "majority", "linearizable":
		return c.tx == nil && c.E.o.Committed != nil
	}
	return false
}

// RLock takes the read lock and points the call at its state: with majority concern at the state as a majority has it.
func (c *Call) RLock() func() { return c.RLockAs(c.Majority()) }

// RLockAs is RLock for a read whose concern was said before, as a getMore's.
func (c *Call) RLockAs(majority bool) func() {
	e := c.E
	if c.DB == "config" {
		e.refreshRows()
	}
	if majority && c.DB != "local" {
		e.mu.Lock()
		com, _ := e.o.Committed()
		if e.past.After(com) {
			c.State = e.past.View(e.st, com, e.last)
			e.mu.Unlock()
			return func() {} // nobody changes a view
		}
		c.useState()
		return e.mu.Unlock
	}
	e.mu.RLock()
	c.useState()
	return e.mu.RUnlock
}

// awaitCluster waits until the member has what a causally consistent read must see.
func (c *Call) awaitCluster() *refuse.Error {
	after := bsonval.SubDoc(c.Arg("readConcern"))
	v, ok := bsonval.Lookup(after, "afterClusterTime")
	if !ok || c.E.o.NextOpTime == nil || c.kind != KindRead {
		return nil
	}
	var at oplog.OpTime
	at.TS.T, at.TS.I, ok = v.TimestampOK()
	if !ok {
		return refuse.Errf(refuse.CodeTypeMismatch, "BSON field 'readConcern.afterClusterTime' is the wrong type '%s', expected type 'timestamp'", bsonval.TypeName(v.Type))
	}
	for {
		c.E.mu.RLock()
		have, changed := c.E.last, c.E.changed
		moved := (<-chan struct{})(nil)
		if c.Majority() {
			have, moved = c.E.committed()
		}
		closed := c.E.closed
		c.E.mu.RUnlock()
		if closed {
			return refuse.Errf(refuse.CodeInterruptedAtShutdown, "interrupted at shutdown")
		}
		if !have.Before(at) {
			return nil
		}
		select {
		case <-changed:
		case <-moved:
		case <-c.Ctx.Done():
			return refuse.Of(context.Cause(c.Ctx))
		}
	}
}

// refreshRows brings config.transactions up to date: rows of retryable writes are made when somebody looks.
func (e *Engine) refreshRows() {
	e.mu.RLock()
	changed := e.sess.Changed()
	e.mu.RUnlock()
	if changed {
		e.mu.Lock()
		e.writeRows()
		e.mu.Unlock()
	}
}

// writeRows writes the rows of sessions that changed. They are kept in memory only: after a restart the oplog tells them
// again. mu is held.
func (e *Engine) writeRows() {
	c := e.st.Get(session.NS)
	if c == nil {
		return
	}
	for _, r := range e.sess.Rows() {
		rid, _, had := c.FindID(r.ID)
		var err error
		if had {
			err = e.st.Put(nil, c, rid, r.Doc)
		} else {
			_, err = e.st.Insert(nil, c, r.Doc)
		}
		if err != nil {
			e.o.Log.Warn("row of config.transactions", "error", err)
		}
	}
}
