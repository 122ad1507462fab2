package engine

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// maxDoc is the largest document.
const maxDoc = 16 << 20

// call is one running command.
type call struct {
	e        *Engine
	ctx      context.Context //nolint:containedctx // a call lives no longer than its context
	s        *Session
	db, name string
	cmd      bson.Raw
	kind     Kind

	st            *store.State // the member's state, or the transaction's view of it
	tx            *txn
	lsid          bson.Raw
	key           string // of lsid
	num           int64  // txnNumber
	hasNum, retry bool

	wrote  bool
	seq    uint64 // of the journal, to wait for
	at     OpTime // of the last entry written
	labels []string
}

// handler answers a command; it returns the reply without ok, or a refusal.
type handler func(c *call) (*bsonval.Builder, error)

type command struct {
	h    handler
	kind Kind
	// admin says that it must be sent to the admin database.
	admin bool
}

// lookup finds a command. The table is code so that no state is shared.
func lookup(name string) (command, bool) {
	switch name {
	case "insert":
		return command{h: (*call).insert, kind: KindWrite}, true
	case "update":
		return command{h: (*call).update, kind: KindWrite}, true
	case "delete":
		return command{h: (*call).delete, kind: KindWrite}, true
	case "findAndModify", "findandmodify":
		return command{h: (*call).findAndModify, kind: KindWrite}, true
	case "find":
		return command{h: (*call).find, kind: KindRead}, true
	case "getMore":
		return command{h: (*call).getMore, kind: KindRead}, true
	case "killCursors":
		return command{h: (*call).killCursors}, true
	case "count":
		return command{h: (*call).count, kind: KindRead}, true
	case "distinct":
		return command{h: (*call).distinct, kind: KindRead}, true
	case "aggregate":
		return command{h: (*call).aggregate, kind: KindRead}, true
	case "create":
		return command{h: (*call).create, kind: KindWrite}, true
	case "drop":
		return command{h: (*call).drop, kind: KindWrite}, true
	case "dropDatabase":
		return command{h: (*call).dropDatabase, kind: KindWrite}, true
	case "createIndexes":
		return command{h: (*call).createIndexes, kind: KindWrite}, true
	case "dropIndexes", "deleteIndexes":
		return command{h: (*call).dropIndexes, kind: KindWrite}, true
	case "listIndexes":
		return command{h: (*call).listIndexes, kind: KindRead}, true
	case "listCollections":
		return command{h: (*call).listCollections, kind: KindRead}, true
	case "listDatabases":
		return command{h: (*call).listDatabases, kind: KindRead, admin: true}, true
	case "collMod":
		return command{h: (*call).collMod, kind: KindWrite}, true
	case "convertToCapped":
		return command{h: (*call).convertToCapped, kind: KindWrite}, true
	case "renameCollection":
		return command{h: (*call).renameCollection, kind: KindWrite, admin: true}, true
	case "applyOps":
		return command{h: (*call).applyOps, kind: KindWrite, admin: true}, true
	case "dbStats", "dbstats":
		return command{h: (*call).dbStats, kind: KindRead}, true
	case "collStats", "collstats":
		return command{h: (*call).collStats, kind: KindRead}, true
	case "startSession", "endSessions", "refreshSessions", "killSessions", "killAllSessions", "killAllSessionsByPattern":
		return command{h: (*call).sessionCommand}, true
	case "commitTransaction":
		return command{h: (*call).commitTransaction, admin: true}, true
	case "abortTransaction":
		return command{h: (*call).abortTransaction, admin: true}, true
	case "ping", "logout", "logRotate":
		return command{h: func(*call) (*bsonval.Builder, error) { return &bsonval.Builder{}, nil }}, true
	case "hello", "isMaster", "ismaster":
		return command{h: (*call).hello}, true
	case "buildInfo", "buildinfo":
		return command{h: (*call).buildInfo}, true
	case "whatsmyuri":
		return command{h: func(c *call) (*bsonval.Builder, error) {
			return new(bsonval.Builder).String("you", c.s.Remote), nil
		}}, true
	case "fsync":
		return command{h: (*call).fsync}, true
	}
	return command{}, false
}

func (e *Engine) run(ctx context.Context, s *Session, db string, cmd bson.Raw) bson.Raw {
	start := time.Now()
	name := bsonval.FirstKey(cmd)
	c := &call{e: e, ctx: ctx, s: s, db: db, name: name, cmd: cmd}
	reply, err := c.answer()
	ok := err == nil
	if err != nil {
		reply = ErrorReply(err)
		e.stats.Assertions.Add(1)
	} else if v, has := bsonval.Lookup(reply, "ok"); has {
		ok = bsonval.Truthy(v)
	}
	e.stats.command(name, ok)
	e.stats.latency(c.kind, time.Since(start))
	if e.o.Trailer != nil {
		if t := e.o.Trailer(s, db, name, ok); len(t) > 5 {
			reply = new(bsonval.Builder).All(reply).All(t).Raw()
		}
	}
	return reply
}

// Refusal turns any error of the engine's packages into what a client sees.
func Refusal(err error) *Error {
	var own *Error
	var dup *store.DuplicateError
	var par *store.ErrParallelArrays
	var r *refuse.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &dup):
		return &Error{Code: CodeDuplicateKey, Msg: dup.Error(), Extra: dup.Fields()}
	case errors.As(err, &par):
		return Errf(171, "%s", par.Error())
	case errors.As(err, &r):
		return Errf(r.Code, "%s", r.Msg)
	case errors.Is(err, context.DeadlineExceeded):
		return Errf(CodeMaxTimeMSExpired, "operation exceeded time limit")
	case errors.Is(err, context.Canceled):
		return Errf(CodeInterrupted, "operation was interrupted")
	}
	return Errf(CodeInternalError, "%s", err.Error())
}

func (c *call) answer() (bson.Raw, *Error) {
	e := c.e
	if err := bsonval.Validate(c.cmd); err != nil {
		return nil, Errf(22, "%s", err.Error())
	}
	if e.o.Commands != nil {
		if reply, ok := e.o.Commands(c.ctx, c.s, c.db, c.name, c.cmd); ok {
			e.stats.Command.Add(1)
			return reply, nil
		}
	}
	cmd, ok := lookup(c.name)
	if !ok {
		return nil, Errf(CodeCommandNotFound, "no such command: '%s'", c.name)
	}
	c.kind = cmd.kind
	if cmd.admin && c.db != "admin" {
		return nil, Errf(CodeUnauthorized, "%s may only be run against the admin database.", c.name)
	}
	switch c.name {
	case "insert", "update", "delete", "getMore", "find":
	default:
		e.stats.Command.Add(1)
	}
	c.parseSession()
	if err := c.gate(); err != nil {
		c.failed(err)
		return nil, err
	}
	if ms, ok := bsonval.Integer(c.arg("maxTimeMS")); ok && ms > 0 && c.name != "getMore" {
		var stop context.CancelFunc
		c.ctx, stop = context.WithTimeout(c.ctx, time.Duration(ms)*time.Millisecond)
		defer stop()
	}
	if err := c.begin(); err != nil {
		c.failed(err)
		return nil, err
	}
	b, err := cmd.h(c)
	if err != nil {
		r := *Refusal(err)
		c.failed(&r)
		return nil, &r
	}
	if werr := c.finish(); werr != nil {
		b.Doc("writeConcernError", werr)
	}
	if len(c.labels) > 0 {
		b.Value("errorLabels", labelArray(c.labels))
	}
	return b.Double("ok", 1).Raw(), nil
}

func (c *call) arg(name string) bson.RawValue {
	v, _ := bsonval.Lookup(c.cmd, name)
	return v
}

func (c *call) request() *Request {
	r := &Request{Name: c.name, DB: c.db, Cmd: c.cmd, Kind: c.kind, Local: c.db == "local"}
	if rp := bsonval.SubDoc(c.arg("$readPreference")); rp != nil {
		mode := stringValue(rp, "mode")
		r.SecondaryOK = mode != "" && mode != "primary"
	}
	if v := c.arg("$secondaryOk"); bsonval.Truthy(v) {
		r.SecondaryOK = true
	}
	return r
}

func (c *call) gate() *Error {
	if c.e.o.Gate == nil || c.s.Internal {
		return nil
	}
	err := c.e.o.Gate(c.s, c.request())
	if err == nil {
		return nil
	}
	own := *err // labels are added to a copy
	return &own
}

// lock takes the write lock and asks the gate again.
func (c *call) lock() *Error {
	c.e.mu.Lock()
	if c.e.closed {
		c.e.mu.Unlock()
		return Errf(CodeInterruptedAtShutdown, "interrupted at shutdown")
	}
	if c.kind == KindWrite {
		if err := c.gate(); err != nil {
			c.e.mu.Unlock()
			return err
		}
	}
	c.useState()
	return nil
}

// unlock hands what was written to the journal and lets others in.
func (c *call) unlock() {
	if s := c.e.seal(); s > 0 {
		c.seq = s
	}
	if c.wrote {
		c.e.wake()
		c.at = c.e.last
	}
	c.e.mu.Unlock()
}

// useState points the call at the member's state or its transaction's; mu is held.
func (c *call) useState() {
	c.st = c.e.st
	if c.tx != nil && c.tx.st != nil {
		c.st = c.tx.st
	}
}

// bt is the batch changes go to: none when nothing is kept on disk or the change is a transaction's own.
func (e *Engine) bt() *store.Batch {
	if e.jn == nil {
		return nil
	}
	return &e.batch
}

// seal hands the changes so far to the journal and gives the number to wait for; mu is held.
func (e *Engine) seal() uint64 {
	if e.jn == nil || e.batch.Empty() {
		return 0
	}
	b := e.batch.Take()
	e.stats.JournalBytes.Add(int64(len(b)))
	seq := e.jn.Append(b)
	if e.jn.Full() {
		if err := e.jn.Rotate(e.st); err != nil {
			e.o.Log.Error("journal rotation failed", "error", err)
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
func (c *call) finish() bson.Raw {
	if c.kind != KindWrite && c.name != "commitTransaction" || c.tx != nil && c.name != "commitTransaction" {
		return nil
	}
	wc := ParseWriteConcern(c.cmd)
	if err := c.e.waitJournal(c.seq, wc.Journal || wc.W == "majority" || wc.W == ""); err != nil {
		return wcError(Errf(CodeOutOfDiskSpace, "%s", err.Error()))
	}
	if c.e.o.WaitWrite == nil || c.s.Internal || c.db == "local" || wc.W == "0" {
		return nil
	}
	at := c.at
	if at == (OpTime{}) { // nothing was written: everything before must be there
		at = c.e.LastOpTime()
	}
	if err := c.e.o.WaitWrite(c.ctx, c.s, wc, at); err != nil {
		return wcError(err)
	}
	return nil
}

func wcError(err *Error) bson.Raw {
	var b bsonval.Builder
	return b.Int32("code", err.Code).String("codeName", CodeName(err.Code)).String("errmsg", err.Msg).All(err.Extra).Raw()
}

// collName reads the command's collection and gives the namespace.
func (c *call) collName() (string, error) {
	v := c.arg(c.name)
	if v.Type != bson.TypeString {
		if c.name == "find" {
			return "", Errf(CodeFailedToParse, "Failed to parse: find: %s. 'find' field must be of BSON type string.", bsonval.Format(v))
		}
		if c.name == "aggregate" && bsonval.IsNumber(v) {
			return c.db + ".$cmd.aggregate", nil
		}
		return "", Errf(CodeInvalidNamespace, "collection name has invalid type %s", bsonval.TypeName(v.Type))
	}
	name := bsonval.Str(v)
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsRune(name, 0) {
		return "", Errf(CodeInvalidNamespace, "Invalid namespace specified '%s.%s'", c.db, name)
	}
	return c.db + "." + name, nil
}

// known refuses fields a command does not have.
func (c *call) known(fields ...string) error {
	for k := range bsonval.Each(c.cmd) {
		if strings.HasPrefix(k, "$") || k == c.name || generic(k) {
			continue
		}
		ok := false
		for _, f := range fields {
			ok = ok || f == k
		}
		if ok {
			continue
		}
		if c.name == "find" {
			return Errf(CodeFailedToParse, "Failed to parse: %s. Unrecognized field '%s'.", bsonval.FormatDoc(c.cmd), k)
		}
		return Errf(40415, "BSON field '%s.%s' is an unknown field.", c.name, k)
	}
	return nil
}

func generic(k string) bool {
	switch k {
	case "lsid", "txnNumber", "autocommit", "startTransaction", "readConcern", "writeConcern", "maxTimeMS", "comment", "apiVersion",
		"apiStrict", "apiDeprecationErrors", "collation", "let", "maxTimeMSOpOnly", "stmtId", "stmtIds":
		return true
	}
	return false
}

func dbOf(ns string) string {
	db, _, _ := strings.Cut(ns, ".")
	return db
}

func nameOf(ns string) string {
	_, name, _ := strings.Cut(ns, ".")
	return name
}

// log writes an oplog entry for a change just made; mu is held. The local database is never replicated.
func (e *Engine) log(x OplogEntry) {
	if e.o.NextOpTime == nil || dbOf(x.NS) == "local" {
		return
	}
	x.At, x.Wall = e.o.NextOpTime(), e.now()
	e.appendOplog(x)
	if e.o.OnWrite != nil {
		e.o.OnWrite(x)
	}
}

// appendOplog stores an entry; mu is held.
func (e *Engine) appendOplog(x OplogEntry) {
	e.last = x.At
	c := e.st.Get(OplogNS)
	if c == nil {
		return
	}
	if _, err := e.st.Insert(e.bt(), c, x.Marshal()); err == nil {
		e.trim(c)
	}
}

// trim makes room in a capped collection; mu is held.
func (e *Engine) trim(c *store.Collection) {
	for c.Capped && (c.Bytes > c.Size || (c.Max > 0 && int64(c.Records.Len()) > c.Max)) && c.Records.Len() > 1 {
		rid, _, ok := c.Records.First()
		if !ok {
			return
		}
		e.st.Remove(e.bt(), c, rid)
	}
}
