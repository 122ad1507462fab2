package member

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
)

// AbortTransactions ends the open transactions, as a step-down does; prepared ones stay for the next primary. Call it within
// Exclusive.
func (e *Engine) AbortTransactions() {
	for _, s := range e.sess.All() {
		switch {
		case s.Tx == nil:
		case s.State == session.Prepared:
			s.Pending = s.Tx.Ops
			t := s.Tx
			s.Tx = nil
			e.release(t)
		default:
			e.abort(s.Tx)
		}
	}
}

// TakeOver is what a new primary does with the transactions it finds in its oplog: those that were not finished end, prepared
// ones hold their documents again. It logs, so it comes after the entry that opens the term.
func (e *Engine) TakeOver() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sess.All() {
		switch {
		case s.Tx != nil:
		case s.State == session.Open && len(s.Pending) > 0:
			s.State, s.Pending = session.Aborted, nil
			e.Log(oplog.Entry{Op: "c", NS: "admin.$cmd", O: new(bsonval.Builder).Int32("abortTransaction", 1).Raw(), LSID: s.LSID, TxnNumber: s.Num})
		case s.State == session.Prepared:
			t := &session.Txn{Of: s, Num: s.Num, Ops: s.Pending, Done: make(chan struct{}), Since: time.Now()}
			for _, x := range t.Ops {
				key := claim(x.UI, session.ID(x))
				e.lock[key] = t
				t.Locks = append(t.Locks, key)
			}
			s.Tx, s.Pending = t, nil
			e.stats.TxnOpen.Add(1)
		}
	}
	e.wake()
	e.Seal()
}

// AbortTransaction is the command abortTransaction.
func AbortTransaction(c *Call) (*bsonval.Builder, error) {
	t := c.tx
	c.tx = nil
	if err := c.Lock(); err != nil {
		c.tx = t
		return nil, err
	}
	defer c.Unlock()
	if t == nil || t.Of.Tx != t {
		return nil, refuse.Errf(50768, "Transaction isn't in progress")
	}
	prepared := t.Of.State == session.Prepared
	c.E.abort(t)
	if prepared {
		c.Wrote = true
		c.E.Log(oplog.Entry{Op: "c", NS: "admin.$cmd", O: new(bsonval.Builder).Int32("abortTransaction", 1).Raw(), LSID: t.Of.LSID, TxnNumber: t.Num})
	}
	return &bsonval.Builder{}, nil
}

// CommitTransaction is the command commitTransaction.
func CommitTransaction(c *Call) (*bsonval.Builder, error) {
	if c.tx == nil {
		if c.hasNum { // committed before: an answer that was lost
			if err := c.Lock(); err != nil { // a deposed primary's commit may be rolled back: it must not promise it again
				return nil, err
			}
			c.Unlock()
			return &bsonval.Builder{}, nil
		}
		return nil, refuse.Errf(125, "commitTransaction must be run within a transaction") // CommandFailed
	}
	t := c.tx
	c.tx = nil // what follows is the member's own state
	if err := c.Lock(); err != nil {
		c.tx = t
		return nil, err
	}
	defer c.Unlock()
	if t.Of.Tx != t {
		return nil, refuse.Errf(refuse.CodeNoSuchTransaction, "Transaction %d has been aborted.", t.Num)
	}
	if err := c.commit(t); err != nil {
		return nil, err
	}
	t.Of.Tx, t.Of.State = nil, session.Committed
	c.E.release(t)
	c.E.stats.TxnCommitted.Add(1)
	return &bsonval.Builder{}, nil
}

// commit carries out and logs a transaction; mu is held.
func (c *Call) commit(t *session.Txn) error {
	e, at := c.E, c.Arg("commitTimestamp")
	if t.Of.State != session.Prepared {
		if at.Type != 0 {
			return refuse.Errf(refuse.CodeInvalidOptions, "commitTransaction for a non-prepared transaction cannot take a commitTimestamp")
		}
		if _, err := e.applyOps(t.Ops); err != nil {
			e.abort(t)
			return err
		}
		if len(t.Ops) > 0 {
			c.Wrote = true
			e.logOps(t, false)
		}
		return nil
	}
	if at.Type != bson.TypeTimestamp {
		return refuse.Errf(refuse.CodeInvalidOptions, "commitTransaction for a prepared transaction must be run with its 'commitTimestamp'")
	}
	var ts bson.Timestamp
	ts.T, ts.I = at.Timestamp()
	if ts.Before(t.Of.Last.TS) {
		return refuse.Errf(refuse.CodeInvalidOptions, "'commitTimestamp' cannot be less than the prepareTimestamp")
	}
	if _, err := e.applyOps(t.Ops); err != nil {
		return err
	}
	c.Wrote = true
	o := new(bsonval.Builder).Int32("commitTransaction", 1).Value("commitTimestamp", at).Raw()
	e.Log(oplog.Entry{Op: "c", NS: "admin.$cmd", O: o, LSID: t.Of.LSID, TxnNumber: t.Num})
	return nil
}

// PrepareTransaction is the command prepareTransaction, which coordinators of distributed transactions send to each shard.
func PrepareTransaction(c *Call) (*bsonval.Builder, error) {
	if c.tx == nil {
		return nil, refuse.Errf(125, "prepareTransaction must be run within a transaction")
	}
	t := c.tx
	c.tx = nil
	if err := c.Lock(); err != nil {
		c.tx = t
		return nil, err
	}
	defer c.Unlock()
	if t.Of.State != session.Prepared {
		undo, err := c.E.applyOps(t.Ops)
		if err != nil {
			c.E.abort(t)
			return nil, err
		}
		undo() // it could be done: whoever commits it will be able to, for its documents stay locked
		c.Wrote = true
		t.Of.State, t.State = session.Prepared, nil
		c.E.logOps(t, true)
	}
	return new(bsonval.Builder).Value("prepareTimestamp", bsonval.Timestamp(t.Of.Last.TS)), nil
}

// applyOps repeats a transaction's changes on the member's state; when one cannot be done they are all undone. It gives what
// takes them back. mu is held.
func (e *Engine) applyOps(ops []oplog.Entry) (takeBack func(), err error) {
	takeBack, err = session.Apply(e.st, e.Batch(), ops)
	if err != nil {
		e.stats.WriteConflicts.Add(1)
	}
	return takeBack, err
}

// logOps logs a transaction's operations. mu is held.
func (e *Engine) logOps(t *session.Txn, prepare bool) {
	limit := e.o.TxnEntryBytes
	if limit <= 0 {
		limit = MaxDocument
	}
	for _, o := range session.Bodies(t.Ops, limit, prepare) {
		e.Log(oplog.Entry{Op: "c", NS: "admin.$cmd", O: o, LSID: t.Of.LSID, TxnNumber: t.Num})
	}
}
