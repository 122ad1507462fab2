package member

import (
	"context"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// MaxDocument is the size of the largest document.
const MaxDocument = 16 << 20

// Call is one running command. Its fields are for the command's handler only, while it runs.
type Call struct {
	E        *Engine
	Ctx      context.Context //nolint:containedctx // a call lives no longer than its context
	Session  *Session
	DB, Name string
	Cmd      bson.Raw
	kind     Kind

	State *store.State // the member's own, or the transaction's view of it; valid while the lock is held
	tx    *session.Txn
	lsid  bson.Raw
	key   string // of lsid
	num   int64  // txnNumber

	hasNum, retry bool
	// Wrote is set by whatever changes something: it wakes those who wait for changes.
	Wrote bool

	seq uint64       // of the journal, to wait for
	at  oplog.OpTime // of the last entry written

	group   []oplog.Entry // inserts not logged yet
	grouped int           // their bytes
}

// Handler answers a command; it returns the reply without ok, or a refusal.
type Handler func(c *Call) (*bsonval.Builder, error)

// Command is a command and how it is to be treated.
type Command struct {
	Run  Handler
	Kind Kind
	// Admin says that it must be sent to the admin database.
	Admin bool
}

// InTxn says that the call is part of a transaction.
func (c *Call) InTxn() bool { return c.tx != nil }

// AbortTxn ends the call's transaction, if it is part of one; the lock is held.
func (c *Call) AbortTxn() {
	if c.tx != nil {
		c.E.abort(c.tx)
	}
}

func (e *Engine) run(ctx context.Context, s *Session, db string, cmd bson.Raw) bson.Raw {
	start := time.Now()
	name := bsonval.FirstKey(cmd)
	c := &Call{E: e, Ctx: ctx, Session: s, DB: db, Name: name, Cmd: cmd}
	reply, err := c.answer()
	ok := err == nil
	if err != nil {
		reply = refuse.Reply(err)
		e.stats.Assertions.Add(1)
	} else if v, has := bsonval.Lookup(reply, "ok"); has {
		ok = bsonval.Truthy(v)
	}
	e.stats.Ran(name, ok)
	e.stats.Latency(c.kind == KindRead, c.kind == KindWrite, time.Since(start))
	if e.o.Trailer != nil {
		if t := e.o.Trailer(s, db, name, ok); len(t) > 5 {
			reply = new(bsonval.Builder).All(reply).All(t).Raw()
		}
	}
	return reply
}

func (c *Call) answer() (bson.Raw, *refuse.Error) {
	e := c.E
	if err := bsonval.Validate(c.Cmd); err != nil {
		return nil, refuse.Errf(22, "%s", err.Error())
	}
	if e.o.Commands != nil {
		if reply, ok := e.o.Commands(c.Ctx, c.Session, c.DB, c.Name, c.Cmd); ok {
			e.stats.Command.Add(1)
			return reply, nil
		}
	}
	cmd, ok := c.E.o.Lookup(c.Name)
	if !ok {
		return nil, refuse.Errf(refuse.CodeCommandNotFound, "no such command: '%s'", c.Name)
	}
	c.kind = cmd.Kind
	if cmd.Admin && c.DB != "admin" {
		return nil, refuse.Errf(refuse.CodeUnauthorized, "%s may only be run against the admin database.", c.Name)
	}
	switch c.Name {
	case "insert", "update", "delete", "getMore", "find":
	default:
		e.stats.Command.Add(1)
	}
	c.parseSession()
	if err := c.gate(); err != nil {
		c.failed(err)
		return nil, err
	}
	if ms, ok := bsonval.Integer(c.Arg("maxTimeMS")); ok && ms > 0 && c.Name != "getMore" {
		var stop context.CancelFunc
		c.Ctx, stop = context.WithTimeout(c.Ctx, time.Duration(ms)*time.Millisecond)
		defer stop()
	}
	if err := c.begin(); err != nil {
		c.failed(err)
		return nil, err
	}
	if err := c.awaitCluster(); err != nil {
		c.failed(err)
		return nil, err
	}
	b, err := cmd.Run(c)
	if err != nil {
		r := *refuse.Of(err)
		c.failed(&r)
		return nil, &r
	}
	if werr := c.finish(); werr != nil {
		b.Doc("writeConcernError", werr)
		if code, _ := bsonval.Lookup(werr, "code"); c.retry && refuse.Retryable(code.Int32()) {
			b.Value("errorLabels", refuse.LabelArray([]string{"RetryableWriteError"}))
		}
	}
	return b.Double("ok", 1).Raw(), nil
}

// Arg is a field of the command; its Type is 0 when there is none.
func (c *Call) Arg(name string) bson.RawValue {
	v, _ := bsonval.Lookup(c.Cmd, name)
	return v
}

func (c *Call) request() *Request {
	r := &Request{Name: c.Name, DB: c.DB, Cmd: c.Cmd, Kind: c.kind, Local: c.DB == "local"}
	if rp := bsonval.SubDoc(c.Arg("$readPreference")); rp != nil {
		mode := bsonval.StringField(rp, "mode")
		r.SecondaryOK = mode != "" && mode != "primary"
	}
	if v := c.Arg("$secondaryOk"); bsonval.Truthy(v) || c.Name == "getMore" { // where a cursor was opened it is read
		r.SecondaryOK = true
	}
	r.Oplog = r.Local && bsonval.Str(c.Arg(c.Name)) == store.NameOf(oplog.NS) || r.Local && bsonval.Str(c.Arg("collection")) == store.NameOf(oplog.NS)
	return r
}

func (c *Call) gate() *refuse.Error {
	if c.E.o.Gate == nil || c.Session.Internal {
		return nil
	}
	err := c.E.o.Gate(c.Session, c.request())
	if err == nil {
		return nil
	}
	own := *err // labels are added to a copy
	return &own
}

// Lock takes the write lock and asks the gate again.
func (c *Call) Lock() *refuse.Error {
	c.E.mu.Lock()
	if c.E.closed {
		c.E.mu.Unlock()
		return refuse.Errf(refuse.CodeInterruptedAtShutdown, "interrupted at shutdown")
	}
	if c.kind == KindWrite {
		if err := c.gate(); err != nil {
			c.E.mu.Unlock()
			return err
		}
	}
	c.useState()
	return nil
}

// Unlock hands what was written to the journal and lets others in.
func (c *Call) Unlock() {
	c.flush()
	if s := c.E.Seal(); s > 0 {
		c.seq = s
	}
	if c.Wrote {
		c.E.wake()
		c.at = c.E.last
	}
	c.E.mu.Unlock()
}

// useState points the call at the member's state or its transaction's; mu is held.
func (c *Call) useState() {
	c.State = c.E.st
	if c.tx != nil && c.tx.State != nil {
		c.State = c.tx.State
	}
}

// Batch is the batch changes go to: none when nothing is kept on disk or the change is a transaction's own.
func (e *Engine) Batch() *store.Batch {
	if e.jn == nil {
		return nil
	}
	return &e.batch
}

// Seal hands the changes so far to the journal and gives the number to wait for; mu is held.
func (e *Engine) Seal() uint64 {
	if e.jn == nil || e.batch.Empty() {
		return 0
	}
	b := e.batch.Take()
	e.stats.JournalBytes.Add(int64(len(b)))
	seq := e.jn.Append(b)
	if e.jn.Full() {
		if err := e.jn.Rotate(e.st); err != nil {
			e.o.Log.Error("journal rotation failed", obs.KeyErr, err)
		}
	}
	return seq
}

func (e *Engine) waitJournal(seq uint64, sync bool) error {
	if e.jn == nil || seq == 0 {
		return nil
	}
	if sync {
		e.stats.JournalCommits.Add(1)
	}
	return e.jn.Wait(seq, sync)
}

// ParseWriteConcern reads a command's writeConcern.
func ParseWriteConcern(cmd bson.Raw) WriteConcern {
	var wc WriteConcern
	v, _ := bsonval.Lookup(cmd, "writeConcern")
	for k, x := range bsonval.Each(bsonval.SubDoc(v)) {
		switch k {
		case "w":
			wc.W = bsonval.Str(x)
			if bsonval.IsNumber(x) {
				wc.W = strings.TrimSuffix(bsonval.Format(x), ".0")
			}
		case "j":
			wc.Journal = bsonval.Truthy(x)
		case "wtimeout":
			ms, _ := bsonval.Integer(x)
			wc.WTimeout = time.Duration(ms) * time.Millisecond
		}
	}
	return wc
}

// finish waits as the write concern says; what it returns is the reply's writeConcernError.
func (c *Call) finish() bson.Raw {
	if c.kind != KindWrite || c.tx != nil && c.Name != "commitTransaction" {
		return nil
	}
	wc := ParseWriteConcern(c.Cmd)
	sync := wc.Journal || (wc.W == "majority" || wc.W == "") && c.E.o.NextOpTime != nil // a standalone waits for its disk only when asked to
	if err := c.E.waitJournal(c.seq, sync); err != nil {
		return wcError(refuse.Errf(refuse.CodeOutOfDiskSpace, "%s", err.Error()))
	}
	if c.E.o.WaitWrite == nil || c.Session.Internal || c.DB == "local" || wc.W == "0" {
		return nil
	}
	at := c.at
	if at == (oplog.OpTime{}) { // nothing was written: everything before must be there
		at = c.E.LastOpTime()
	}
	if err := c.E.o.WaitWrite(c.Ctx, c.Session, wc, at); err != nil {
		return wcError(err)
	}
	return nil
}

func wcError(err *refuse.Error) bson.Raw {
	var b bsonval.Builder
	return b.Int32("code", err.Code).String("codeName", refuse.CodeName(err.Code)).String("errmsg", err.Msg).All(err.Extra).Raw()
}

// CollName reads the command's collection and gives the namespace.
func (c *Call) CollName() (string, error) {
	v := c.Arg(c.Name)
	if v.Type != bson.TypeString {
		if c.Name == "find" {
			return "", refuse.Errf(refuse.CodeFailedToParse, "Failed to parse: find: %s. 'find' field must be of BSON type string.", bsonval.Format(v))
		}
		if c.Name == "aggregate" && bsonval.IsNumber(v) {
			return c.DB + ".$cmd.aggregate", nil
		}
		return "", refuse.Errf(refuse.CodeInvalidNamespace, "collection name has invalid type %s", bsonval.TypeName(v.Type))
	}
	name := bsonval.Str(v)
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsRune(name, 0) {
		return "", refuse.Errf(refuse.CodeInvalidNamespace, "Invalid namespace specified '%s.%s'", c.DB, name)
	}
	return c.DB + "." + name, nil
}

// Known refuses fields a command does not have.
func (c *Call) Known(fields ...string) error {
	for k := range bsonval.Each(c.Cmd) {
		if strings.HasPrefix(k, "$") || k == c.Name || Generic(k) {
			continue
		}
		ok := false
		for _, f := range fields {
			ok = ok || f == k
		}
		if ok {
			continue
		}
		if c.Name == "find" {
			return refuse.Errf(refuse.CodeFailedToParse, "Failed to parse: %s. Unrecognized field '%s'.", bsonval.FormatDoc(c.Cmd), k)
		}
		return refuse.Errf(40415, "BSON field '%s.%s' is an unknown field.", c.Name, k)
	}
	return nil
}

// Generic says that any command may have the field.
func Generic(k string) bool {
	switch k {
	case "lsid", "txnNumber", "autocommit", "startTransaction", "readConcern", "writeConcern", "maxTimeMS", "comment", "apiVersion",
		"apiStrict", "apiDeprecationErrors", "collation", "let", "maxTimeMSOpOnly", "stmtId", "stmtIds":
		return true
	}
	return false
}

// Log writes an oplog entry for a change just made; mu is held. The local database is never replicated.
func (e *Engine) Log(x oplog.Entry) {
	if e.o.NextOpTime == nil || store.DBOf(x.NS) == "local" {
		return
	}
	if s := e.sess.Find(session.Key(x.LSID)); x.LSID != nil && s != nil && x.Op != "n" {
		x.Prev = s.Last
	}
	x.At, x.Wall = e.o.NextOpTime(), e.Now()
	e.sess.Wrote(&x)
	e.appendOplog(x)
	if e.o.OnWrite != nil {
		e.o.OnWrite(x)
	}
}

// appendOplog stores an entry; mu is held.
func (e *Engine) appendOplog(x oplog.Entry) {
	e.last = x.At
	if e.sess.Urgent(&x) { // a reader must find the oldest open transaction
		e.writeRows()
	}
	if e.st.OnChange != nil {
		e.past.Stamp(x.At, func() oplog.OpTime { at, _ := e.o.Committed(); return at })
	}
	c := e.st.Get(oplog.NS)
	if c == nil {
		return
	}
	if _, err := e.st.Insert(e.Batch(), c, x.Marshal()); err == nil {
		e.Trim(c)
	}
}

// Trim makes room in a capped collection; mu is held.
func (e *Engine) Trim(c *store.Collection) {
	for c.Capped && (c.Bytes > c.Size || (c.Max > 0 && int64(c.Records.Len()) > c.Max)) && c.Records.Len() > 1 {
		rid, _, ok := c.Records.First()
		if !ok {
			return
		}
		e.st.Remove(e.Batch(), c, rid)
	}
}

// NextTS is a timestamp for values a server fills in; it need not be an oplog position.
func (e *Engine) NextTS() bson.Timestamp {
	t := e.Now()
	return bson.Timestamp{T: uint32(t.Unix()), I: uint32(t.Nanosecond()/1000) + 1}
}

// Batch is the journal's batch, none for a transaction's own copy.
func (c *Call) Batch() *store.Batch {
	if c.tx != nil {
		return nil
	}
	return c.E.Batch()
}

// Writable finds the collection of a namespace, making it when create says so; mu is held.
func (c *Call) Writable(ns string, create bool) (*store.Collection, error) {
	coll := c.State.Get(ns)
	if coll != nil {
		if coll.View {
			return nil, refuse.Errf(166, "Namespace %s is a view, not a collection", ns)
		}
		return coll, nil
	}
	if !create {
		return nil, nil
	}
	if err := c.E.CreateCollection(ns, nil, NewUUID(), c); err != nil {
		return nil, err
	}
	return c.State.Get(ns), nil
}

// FindNS reads find's collection: a name, or a UUID.
func (c *Call) FindNS() (string, error) {
	if u, ok := bsonval.UUIDOf(c.Arg(c.Name)); ok {
		coll := c.State.ByUUID(u)
		if coll == nil {
			return "", refuse.Errf(refuse.CodeNamespaceNotFound, "Unable to resolve %s", bsonval.FormatUUID(u))
		}
		return coll.NS, nil
	}
	return c.CollName()
}
