package member

import (
	"context"
	"math"
	"slices"
	"sort"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// past is what takes back the changes that a majority does not have yet: a read with majority concern sees the documents
// without them. The engine's mu guards it.
type past struct {
	steps []step // in the order of the changes
	view  *store.State
	of    [2]oplog.OpTime // the commit point and the newest entry the view was made at
}

// step takes one change back; at is the entry that logged it, zero until there is one.
type step struct {
	at   oplog.OpTime
	undo func(*store.State)
}

// record is the main state's hook.
func (e *Engine) record(undo func(*store.State)) {
	e.past.steps = append(e.past.steps, step{undo: undo})
}

// stamp says which entry logged the changes made since the last one, and forgets those that a majority has; mu is held.
func (e *Engine) stamp(at oplog.OpTime) {
	steps := e.past.steps
	for i := len(steps) - 1; i >= 0 && steps[i].at.IsZero(); i-- {
		steps[i].at = at
	}
	if len(steps) < 64 {
		return
	}
	com, _ := e.o.Committed()
	n := sort.Search(len(steps), func(i int) bool { return com.Before(steps[i].at) })
	if n >= len(steps)/2 { // what is kept is copied seldom
		e.past.steps = slices.Clone(steps[n:])
	}
}

// forget drops everything: the state was replaced; mu is held.
func (e *Engine) forget() { e.past = past{} }

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
		if steps := e.past.steps; len(steps) > 0 && com.Before(steps[len(steps)-1].at) {
			c.State = e.viewAt(com)
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

// viewAt is the state as of the commit point; mu is held.
func (e *Engine) viewAt(com oplog.OpTime) *store.State {
	if e.past.view != nil && e.past.of == [2]oplog.OpTime{com, e.last} {
		return e.past.view
	}
	v := e.st.Clone()
	for i := len(e.past.steps) - 1; i >= 0 && com.Before(e.past.steps[i].at); i-- {
		e.past.steps[i].undo(v)
	}
	e.past.view, e.past.of = v, [2]oplog.OpTime{com, e.last}
	return v
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
			return Refusal(context.Cause(c.Ctx))
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
