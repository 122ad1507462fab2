package member

import (
	"crypto/sha256"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// txnLifetime is how long a transaction may hold documents others wait for.
const txnLifetime = 60 * time.Second

// parseSession reads the session fields of a command.
func (c *Call) parseSession() {
	c.lsid = bsonval.SubDoc(c.Arg("lsid"))
	if c.lsid != nil {
		c.key = session.Key(c.lsid)
	}
	n := c.Arg("txnNumber")
	c.num, c.hasNum = bsonval.Integer(n)
	c.hasNum = c.hasNum && c.key != ""
	c.retry = c.hasNum && c.Arg("autocommit").Type == 0
	if _, own := bsonval.Lookup(c.lsid, "uid"); c.hasNum && !own {
		who := ""
		if len(c.Session.Users) > 0 {
			who = c.Session.Users[0].Name + "@" + c.Session.Users[0].DB
		}
		sum := sha256.Sum256([]byte(who))
		c.lsid = new(bsonval.Builder).All(c.lsid).Value("uid", bsonval.Binary(0, sum[:])).Raw()
	}
}

// SessionKey tells the call's logical session from others; empty outside one. A cursor belongs to it.
func (c *Call) SessionKey() string { return c.key }

// begin joins or starts the session's transaction, or checks a retryable write's number.
func (c *Call) begin() *refuse.Error {
	c.State = c.E.st
	if !c.hasNum {
		return nil
	}
	if c.E.o.NextOpTime == nil && !c.Session.Internal {
		return refuse.Errf(refuse.CodeIllegalOperation, "Transaction numbers are only allowed on a replica set member or mongos")
	}
	e := c.E
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sess.Get(c.key, c.lsid, time.Now())
	if c.num < s.Num {
		return refuse.Errf(refuse.CodeTransactionTooOld, "Retryable write with txnNumber %d is prohibited on session %s because a newer retryable write with txnNumber %d has already started on this session.",
			c.num, bsonval.FormatDoc(c.lsid), s.Num)
	}
	if c.num > s.Num && s.Tx != nil && s.State == session.Prepared {
		return refuse.Errf(refuse.CodePreparedInProgress, "Cannot start transaction %d on session %s because a newer transaction %d is prepared.", c.num, bsonval.FormatDoc(c.lsid), s.Num)
	}
	if c.retry {
		if c.num > s.Num {
			if s.Tx != nil {
				e.abort(s.Tx)
			}
			s.Start(c.num)
		}
		return nil
	}
	if bsonval.Truthy(c.Arg("startTransaction")) {
		if c.num == s.Num && s.State != session.None {
			return refuse.Errf(117, "Transaction %d has already started", c.num) // ConflictingOperationInProgress
		}
		if s.Tx != nil {
			e.abort(s.Tx)
		}
		s.Start(c.num)
		s.State = session.Open
		s.Tx = &session.Txn{Of: s, Num: c.num, State: e.st.Clone(), Done: make(chan struct{}), Since: time.Now()}
		e.stats.TxnStarted.Add(1)
		e.stats.TxnOpen.Add(1)
	}
	if c.Name == "commitTransaction" && c.num == s.Num && s.State == session.Committed {
		return nil
	}
	return c.join(s)
}

// join makes the call part of the session's transaction; mu is held.
func (c *Call) join(s *session.Session) *refuse.Error {
	if s.Tx == nil || s.Num != c.num {
		if s.Num == c.num && s.State == session.Aborted {
			return refuse.Errf(refuse.CodeNoSuchTransaction, "Transaction %d has been aborted.", c.num)
		}
		if s.Num == c.num && s.State == session.Committed {
			return refuse.Errf(refuse.CodeTransactionCommitted, "Transaction %d has been committed.", c.num)
		}
		return refuse.Errf(refuse.CodeNoSuchTransaction, "Given transaction number %d does not match any in-progress transactions. The active transaction number is %d", c.num, s.Num)
	}
	switch c.Name {
	case "commitTransaction", "abortTransaction", "prepareTransaction":
	case "insert", "update", "delete", "findAndModify", "findandmodify", "find", "getMore", "aggregate", "distinct", "killCursors",
		"create", "createIndexes":
		if s.State == session.Prepared {
			return refuse.Errf(refuse.CodePreparedInProgress, "Cannot call any operation other than abort, prepare or commit on a prepared transaction")
		}
	default:
		return refuse.Errf(263, "Cannot run '%s' in a multi-document transaction.", c.Name)
	}
	c.tx = s.Tx
	return nil
}

// failed finishes a refusal: what a transaction's and a retryable write's driver must know, and the end of the transaction.
func (c *Call) failed(err *refuse.Error) {
	inTxn := c.hasNum && !c.retry
	if inTxn && (err.Code == refuse.CodeWriteConflict || err.Code == refuse.CodeNoSuchTransaction) ||
		inTxn && c.Name != "commitTransaction" && refuse.Retryable(err.Code) {
		err.Labels = append(err.Labels, "TransientTransactionError")
	}
	if refuse.Retryable(err.Code) && (c.retry || c.Name == "commitTransaction" || c.Name == "abortTransaction") {
		err.Labels = append(err.Labels, "RetryableWriteError")
	}
	if c.tx != nil && c.Name != "commitTransaction" && c.Name != "getMore" {
		c.E.mu.Lock()
		c.E.abort(c.tx)
		c.E.mu.Unlock()
	}
}

// Done finds the result of a retried statement; mu is held.
func (c *Call) Done(stmt int) (session.Result, bool) {
	if !c.retry {
		return session.Result{}, false
	}
	s := c.E.sess.Find(c.key)
	if s == nil || s.Num != c.num {
		return session.Result{}, false
	}
	r, ok := s.Stmts[stmt]
	if ok {
		c.E.stats.RetriedStatements.Add(1)
	}
	return r, ok
}

// Amend replaces what a retry of the statement will answer; mu is held.
func (c *Call) Amend(stmt int, r session.Result) {
	if !c.retry {
		return
	}
	if s := c.E.sess.Find(c.key); s != nil && s.Num == c.num {
		s.Stmts[stmt] = r
	}
}

// maxGroup bounds the inserts of one entry.
const maxGroup = 500

// Record notes a change just made: in the transaction, or in the oplog at once; mu is held. Inserts of one command are logged
// together from 8.0 on: what is held back is logged before anything else, and at the latest when the lock is let go.
func (c *Call) Record(x oplog.Entry, stmt int, r session.Result) {
	c.Wrote = true
	if x.Op == "i" && c.E.o.Version.AtLeast(6, 0) {
		id, _ := bsonval.Lookup(x.O, "_id")
		x.O2 = new(bsonval.Builder).Value("_id", id).Raw()
	}
	if c.tx != nil {
		c.tx.Ops = append(c.tx.Ops, x)
		return
	}
	if c.retry {
		x.StmtIDs = []int32{int32(stmt)}
		c.Amend(stmt, r)
	}
	if x.Op == "i" && c.Name == "insert" && c.E.o.Version.AtLeast(8, 0) {
		c.group = append(c.group, x)
		c.grouped += len(x.O) + 256
		if len(c.group) >= maxGroup || c.grouped > MaxDocument/2 {
			c.flush()
		}
		return
	}
	c.flush()
	if c.retry {
		x.LSID, x.TxnNumber = c.lsid, c.num
		c.image(&x, r)
	}
	c.E.Log(x)
}

// image notes the document a retried findAndModify must answer: as an entry of its own, or from 5.1 on beside the oplog.
func (c *Call) image(x *oplog.Entry, r session.Result) {
	if c.Name != "findAndModify" && c.Name != "findandmodify" || x.Op != "u" && x.Op != "d" {
		return
	}
	post := bsonval.Truthy(c.Arg("new"))
	if c.E.o.Version.AtLeast(5, 1) {
		x.NeedsImage = "preImage"
		if post {
			x.NeedsImage = "postImage"
		}
		return
	}
	n := oplog.Entry{Op: "n", NS: x.NS, UI: x.UI, O: r.Before, LSID: c.lsid, TxnNumber: c.num, StmtIDs: x.StmtIDs}
	at := &x.PreImage
	if post {
		n.O, at = r.After, &x.PostImage
	}
	c.E.Log(n)
	*at = c.E.last
}

// flush logs the inserts held back; mu is held.
func (c *Call) flush() {
	group := c.group
	c.group, c.grouped = nil, 0
	x := oplog.Entry{}
	switch len(group) {
	case 0:
		return
	case 1:
		x = group[0]
	default:
		inner := make([]bson.Raw, len(group))
		for i := range group {
			inner[i] = group[i].Inner()
		}
		x = oplog.Entry{Op: "c", NS: "admin.$cmd", O: new(bsonval.Builder).Docs("applyOps", inner).Raw(), MultiOp: true}
	}
	if c.retry {
		x.LSID, x.TxnNumber = c.lsid, c.num
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
	key := claim(coll.UUID, id)
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
				c.tx.Locks = append(c.tx.Locks, key)
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
		c.flush()
		if s := e.Seal(); s > 0 {
			c.seq = s
		}
		e.wake()
		if err := c.await(owner); err != nil {
			return nil, err
		}
	}
}

func claim(u [16]byte, id bson.RawValue) string { return string(u[:]) + bsonval.Key(id) }

// await waits for a transaction's end. mu is held, but let go while waiting.
func (c *Call) await(owner *session.Txn) error {
	e := c.E
	e.mu.Unlock()
	timer := time.NewTimer(time.Until(owner.Since.Add(txnLifetime)))
	var err error
	select {
	case <-owner.Done:
	case <-timer.C:
		e.mu.Lock()
		if owner.Of.State == session.Prepared { // only its coordinator ends it
			owner.Since = time.Now()
		} else {
			e.abort(owner)
		}
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
	c.State = e.st
	return err
}

// abort ends a transaction without a trace; mu is held.
func (e *Engine) abort(t *session.Txn) {
	if t.Of.Tx != t {
		return
	}
	t.Of.Tx, t.Of.State = nil, session.Aborted
	e.release(t)
	e.stats.TxnAborted.Add(1)
}

func (e *Engine) release(t *session.Txn) {
	for _, k := range t.Locks {
		delete(e.lock, k)
	}
	t.State = nil
	close(t.Done)
	e.stats.TxnOpen.Add(-1)
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
			key := session.Key(bsonval.SubDoc(v))
			c.E.Cursors.KillSession(key)
			s := c.E.sess.Find(key)
			if s != nil && s.Tx != nil && s.State != session.Prepared {
				c.E.abort(s.Tx)
			}
		}
	}
	return &bsonval.Builder{}, nil
}
