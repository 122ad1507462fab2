package member

import (
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

// txnLifetime is how long a transaction may hold documents others wait for.
const txnLifetime = 60 * time.Second

// sessionLifetime is how long an unused session is remembered.
const sessionLifetime = 30 * time.Minute

// session is what a client's logical session did last: the statements of its newest retryable write, or its transaction.
type session struct {
	lsid  bson.Raw
	num   int64
	stmts map[int]StmtResult
	tx    *txn
	state txnState
	used  time.Time
}

type txnState int

const (
	txnNone txnState = iota
	txnOpen
	txnCommitted
	txnAborted
)

// StmtResult is what a retried statement answers again.
type StmtResult struct {
	N, Modified   int32
	Upserted      *bson.RawValue
	Before, After bson.Raw
}

// txn is an open transaction: its own copy of the member's state, and what it changed there.
type txn struct {
	sess  *session
	num   int64
	st    *store.State
	ops   []oplog.Entry
	locks []string
	done  chan struct{}
	since time.Time
}

// sessions is the table of sessions; the engine's mu guards it.
type sessions struct{ m map[string]*session }

func (t *sessions) init() { t.m = map[string]*session{} }

func (t *sessions) clone() sessions {
	out := sessions{m: map[string]*session{}}
	for k, s := range t.m {
		c := *s
		c.tx, c.stmts = nil, maps.Clone(s.stmts)
		if c.state == txnOpen {
			c.state = txnAborted
		}
		out.m[k] = &c
	}
	return out
}

func (t *sessions) get(key string, lsid bson.Raw, now time.Time) *session {
	s := t.m[key]
	if s == nil {
		if len(t.m) > 10_000 {
			maps.DeleteFunc(t.m, func(_ string, s *session) bool { return s.tx == nil && now.Sub(s.used) > sessionLifetime })
		}
		s = &session{lsid: lsid, num: -1}
		t.m[key] = s
	}
	s.used = now
	return s
}

// remember takes note of a retryable write or a commit another member's entry, or this member's own oplog, tells of.
func (t *sessions) remember(x oplog.Entry, before, after bson.Raw) {
	if x.LSID == nil {
		return
	}
	s := t.get(sessionKey(x.LSID), x.LSID, x.Wall)
	if x.TxnNumber < s.num {
		return
	}
	if x.TxnNumber > s.num {
		s.start(x.TxnNumber)
	}
	if x.Op == "c" {
		s.state = txnCommitted
		return
	}
	if !x.HasStmt {
		return
	}
	r := StmtResult{N: 1, Before: before, After: after}
	switch x.Op {
	case "u":
		r.Modified = 1
	case "i":
		id, _ := bsonval.Lookup(x.O, "_id")
		r.Upserted, r.After = &id, x.O
	}
	s.stmts[int(x.StmtID)] = r
}

func (s *session) start(num int64) {
	s.num, s.state, s.stmts = num, txnNone, map[int]StmtResult{}
}

func sessionKey(lsid bson.Raw) string {
	id, _ := bsonval.Lookup(lsid, "id")
	return string(id.Value)
}

// parseSession reads the session fields of a command.
func (c *Call) parseSession() {
	c.lsid = bsonval.SubDoc(c.Arg("lsid"))
	if c.lsid != nil {
		c.key = sessionKey(c.lsid)
	}
	n := c.Arg("txnNumber")
	c.num, c.hasNum = bsonval.Integer(n)
	c.hasNum = c.hasNum && c.key != ""
	c.retry = c.hasNum && c.Arg("autocommit").Type == 0
}

// begin joins or starts the session's transaction, or checks a retryable write's number.
func (c *Call) begin() *refuse.Error {
	c.State = c.E.st
	if !c.hasNum {
		return nil
	}
	e := c.E
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sess.get(c.key, c.lsid, time.Now())
	if c.num < s.num {
		return refuse.Errf(refuse.CodeTransactionTooOld, "Retryable write with txnNumber %d is prohibited on session %s because a newer retryable write with txnNumber %d has already started on this session.",
			c.num, bsonval.FormatDoc(c.lsid), s.num)
	}
	if c.retry {
		if c.num > s.num {
			if s.tx != nil {
				e.abort(s.tx)
			}
			s.start(c.num)
		}
		return nil
	}
	if bsonval.Truthy(c.Arg("startTransaction")) {
		if c.num == s.num && s.state != txnNone {
			return refuse.Errf(117, "Transaction %d has already started", c.num) // ConflictingOperationInProgress
		}
		if s.tx != nil {
			e.abort(s.tx)
		}
		s.start(c.num)
		s.state = txnOpen
		s.tx = &txn{sess: s, num: c.num, st: e.st.Clone(), done: make(chan struct{}), since: time.Now()}
		e.stats.TxnStarted.Add(1)
		e.stats.TxnOpen.Add(1)
	}
	if c.Name == "commitTransaction" && c.num == s.num && s.state == txnCommitted {
		return nil
	}
	if s.tx == nil || s.num != c.num {
		if s.num == c.num && s.state == txnAborted {
			return refuse.Errf(refuse.CodeNoSuchTransaction, "Transaction %d has been aborted.", c.num)
		}
		if s.num == c.num && s.state == txnCommitted {
			return refuse.Errf(refuse.CodeTransactionCommitted, "Transaction %d has been committed.", c.num)
		}
		return refuse.Errf(refuse.CodeNoSuchTransaction, "Given transaction number %d does not match any in-progress transactions. The active transaction number is %d", c.num, s.num)
	}
	switch c.Name {
	case "insert", "update", "delete", "findAndModify", "findandmodify", "find", "getMore", "aggregate", "distinct", "killCursors",
		"commitTransaction", "abortTransaction", "create", "createIndexes":
	default:
		return refuse.Errf(263, "Cannot run '%s' in a multi-document transaction.", c.Name)
	}
	c.tx = s.tx
	return nil
}

// failed finishes a refusal: what a transaction's and a retryable write's driver must know, and the end of the transaction.
func (c *Call) failed(err *refuse.Error) {
	inTxn := c.hasNum && !c.retry
	if inTxn && (err.Code == refuse.CodeWriteConflict || err.Code == refuse.CodeNoSuchTransaction) ||
		inTxn && c.Name != "commitTransaction" && RetryableCode(err.Code) {
		err.Labels = append(err.Labels, "TransientTransactionError")
	}
	if RetryableCode(err.Code) && (c.retry || c.Name == "commitTransaction" || c.Name == "abortTransaction") {
		err.Labels = append(err.Labels, "RetryableWriteError")
	}
	if c.tx != nil && c.Name != "commitTransaction" && c.Name != "getMore" {
		c.E.mu.Lock()
		c.E.abort(c.tx)
		c.E.mu.Unlock()
	}
}

// RetryableCode says that a write refused with this code may be sent again.
func RetryableCode(code int32) bool {
	switch code {
	case 6, 7, 89, refuse.CodeShutdownInProgress, refuse.CodePrimarySteppedDown, 262, 9001, refuse.CodeNotWritablePrimary, refuse.CodeInterruptedAtShutdown,
		refuse.CodeInterruptedStateChange, refuse.CodeNotPrimaryNoSecondary, refuse.CodeNotPrimaryOrSecondary:
		return true
	}
	return false
}

// Done finds the result of a retried statement; mu is held.
func (c *Call) Done(stmt int) (StmtResult, bool) {
	if !c.retry {
		return StmtResult{}, false
	}
	s := c.E.sess.m[c.key]
	if s == nil || s.num != c.num {
		return StmtResult{}, false
	}
	r, ok := s.stmts[stmt]
	if ok {
		c.E.stats.RetriedStatements.Add(1)
	}
	return r, ok
}

// Amend replaces what a retry of the statement will answer; mu is held.
func (c *Call) Amend(stmt int, r StmtResult) {
	if !c.retry {
		return
	}
	if s := c.E.sess.m[c.key]; s != nil && s.num == c.num {
		s.stmts[stmt] = r
	}
}

// Record notes a change just made: in the transaction, or in the oplog at once; mu is held.
func (c *Call) Record(x oplog.Entry, stmt int, r StmtResult) {
	c.Wrote = true
	if c.tx != nil {
		c.tx.ops = append(c.tx.ops, x)
		return
	}
	if c.retry {
		x.LSID, x.TxnNumber, x.StmtID, x.HasStmt = c.lsid, c.num, int32(stmt), true
		c.Amend(stmt, r)
	}
	c.E.Log(x)
}

// Claim makes sure that this call may write the document: in a transaction it takes the document or finds a conflict, outside
// it waits until no transaction holds it. It gives the collection again, which may have changed meanwhile; nil when it is
// gone. mu is held, but let go while waiting.
func (c *Call) Claim(coll *store.Collection, id bson.RawValue) (*store.Collection, error) {
	e := c.E
	if c.tx == nil && len(e.lock) == 0 {
		return coll, nil
	}
	key := string(coll.UUID[:]) + bsonval.Key(id)
	if c.tx != nil {
		owner := e.lock[key]
		if owner == c.tx {
			return coll, nil
		}
		main := e.st.ByUUID(coll.UUID)
		if owner == nil && main != nil {
			_, is, _ := main.FindID(id)
			_, was, _ := coll.FindID(id)
			if string(is) == string(was) {
				e.lock[key] = c.tx
				c.tx.locks = append(c.tx.locks, key)
				return coll, nil
			}
		}
		e.stats.WriteConflicts.Add(1)
		return nil, refuse.Errf(refuse.CodeWriteConflict, "WriteConflict error: this operation conflicted with another operation. Please retry your operation or multi-document transaction.")
	}
	for {
		owner := e.lock[key]
		if owner == nil {
			return c.State.Get(coll.NS), nil
		}
		e.stats.WriteConflicts.Add(1)
		if s := e.Seal(); s > 0 {
			c.seq = s
		}
		e.wake()
		e.mu.Unlock()
		timer := time.NewTimer(time.Until(owner.since.Add(txnLifetime)))
		var err error
		select {
		case <-owner.done:
		case <-timer.C:
			e.mu.Lock()
			e.abort(owner)
			e.mu.Unlock()
		case <-c.Ctx.Done():
			err = c.Ctx.Err()
		}
		timer.Stop()
		e.mu.Lock()
		if err == nil && e.closed {
			err = refuse.Errf(refuse.CodeInterruptedAtShutdown, "interrupted at shutdown")
		}
		if err == nil {
			if g := c.gate(); g != nil {
				err = g
			}
		}
		if err != nil {
			return nil, err
		}
		c.State = e.st
	}
}

// abort ends a transaction without a trace; mu is held.
func (e *Engine) abort(t *txn) {
	if t.sess.tx != t {
		return
	}
	t.sess.tx, t.sess.state = nil, txnAborted
	e.release(t)
	e.stats.TxnAborted.Add(1)
}

func (e *Engine) release(t *txn) {
	for _, k := range t.locks {
		delete(e.lock, k)
	}
	t.st = nil
	close(t.done)
	e.stats.TxnOpen.Add(-1)
}

// AbortTransactions ends all open transactions, as a step-down does. Call it within Exclusive.
func (e *Engine) AbortTransactions() {
	for _, s := range e.sess.m {
		if s.tx != nil {
			e.abort(s.tx)
		}
	}
}

// AbortTransaction is the command abortTransaction.
func AbortTransaction(c *Call) (*bsonval.Builder, error) {
	c.E.mu.Lock()
	defer c.E.mu.Unlock()
	if c.tx == nil {
		return nil, refuse.Errf(50768, "Transaction isn't in progress")
	}
	c.E.abort(c.tx)
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
	if t.sess.tx != t {
		return nil, refuse.Errf(refuse.CodeNoSuchTransaction, "Transaction %d has been aborted.", t.num)
	}
	if err := c.applyTxn(t); err != nil {
		c.E.abort(t)
		return nil, err
	}
	t.sess.tx, t.sess.state = nil, txnCommitted
	c.E.release(t)
	c.E.stats.TxnCommitted.Add(1)
	return &bsonval.Builder{}, nil
}

// applyTxn repeats a transaction's changes on the member's state; when one cannot be done they are all undone.
func (c *Call) applyTxn(t *txn) error {
	if len(t.ops) == 0 {
		return nil
	}
	e := c.E
	var undo []func()
	for _, x := range t.ops {
		coll := e.st.ByUUID(x.UI)
		var err error
		if coll == nil {
			err = refuse.Errf(refuse.CodeWriteConflict, "collection of the transaction was dropped")
		} else {
			id, _ := bsonval.Lookup(x.O, "_id")
			if x.Op == "u" {
				id, _ = bsonval.Lookup(x.O2, "_id")
			}
			rid, old, had := coll.FindID(id)
			switch {
			case x.Op == "i":
				rid, err = e.st.Insert(e.Batch(), coll, x.O)
				undo = append(undo, func() { e.st.Remove(e.Batch(), coll, rid) })
			case !had:
				err = refuse.Errf(refuse.CodeWriteConflict, "document of the transaction is gone")
			case x.Op == "u":
				err = e.st.Put(e.Batch(), coll, rid, update.ApplyEntry(old, x.O))
				undo = append(undo, func() { _ = e.st.Put(e.Batch(), coll, rid, old) })
			case x.Op == "d":
				e.st.Remove(e.Batch(), coll, rid)
				undo = append(undo, func() { _ = e.st.Put(e.Batch(), coll, rid, old) })
			}
			if err != nil && (x.Op == "i" || x.Op == "u") && len(undo) > 0 {
				undo = undo[:len(undo)-1] // the failed change itself left nothing
			}
		}
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
			e.stats.WriteConflicts.Add(1)
			return refuse.Errf(refuse.CodeWriteConflict, "WriteConflict error: this operation conflicted with another operation. Please retry your operation or multi-document transaction. (%s)", err.Error())
		}
	}
	var inner []bson.Raw
	for _, x := range t.ops {
		var b bsonval.Builder
		b.String("op", x.Op).String("ns", x.NS).Value("ui", bsonval.UUID(x.UI)).Doc("o", x.O)
		if x.O2 != nil {
			b.Doc("o2", x.O2)
		}
		inner = append(inner, b.Raw())
	}
	c.Wrote = true
	o := new(bsonval.Builder).Docs("applyOps", inner).Raw()
	e.Log(oplog.Entry{Op: "c", NS: "admin.$cmd", O: o, LSID: t.sess.lsid, TxnNumber: t.num})
	return nil
}

// SessionCommand is startSession, endSessions and their like.
func SessionCommand(c *Call) (*bsonval.Builder, error) {
	if c.Name == "startSession" {
		id := new(bsonval.Builder).Value("id", bsonval.UUID(NewUUID())).Raw()
		return new(bsonval.Builder).Doc("id", id).Int32("timeoutMinutes", 30), nil
	}
	if c.Name == "endSessions" || c.Name == "killSessions" || c.Name == "killAllSessions" {
		c.E.mu.Lock()
		defer c.E.mu.Unlock()
		for _, v := range bsonval.Each(bsonval.SubDoc(c.Arg(c.Name))) {
			s := c.E.sess.m[sessionKey(bsonval.SubDoc(v))]
			if s != nil && s.tx != nil {
				c.E.abort(s.tx)
			}
		}
	}
	return &bsonval.Builder{}, nil
}
