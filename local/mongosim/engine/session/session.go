// Package session is what a member remembers of clients' logical sessions: the statements of the newest retryable write, the
// open or prepared transaction, and the row that config.transactions shows of each. It owns the table of them and knows no
// commands; its caller holds the member's lock.
package session

import (
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// NS is the collection that shows the sessions' newest writes. A backup begins at the oldest startOpTime in it.
const NS = "config.transactions"

// lifetime is how long an unused session is remembered.
const lifetime = 30 * time.Minute

// keep is how many sessions are remembered whatever their age.
const keep = 10_000

// State is how far a transaction got.
type State int

// The states of a session's newest transaction number.
const (
	None State = iota // no transaction, or a retryable write
	Open
	Prepared
	Committed
	Aborted
)

// Result is what a retried statement answers again.
type Result struct {
	N, Modified   int32
	Upserted      *bson.RawValue
	Before, After bson.Raw
}

// Session is what a client's logical session did last.
type Session struct {
	LSID  bson.Raw // as the oplog names it: with the user's digest
	Num   int64    // of the newest transaction or retryable write
	Stmts map[int]Result
	Tx    *Txn // while it is open or prepared here
	State State
	Used  time.Time

	// What the oplog says of it.
	Last     oplog.OpTime // the newest entry
	LastWall time.Time
	First    oplog.OpTime  // the first entry of a transaction that has several
	Pending  []oplog.Entry // its operations so far, on a member that only follows
	row      string        // state in config.transactions
}

// Txn is an open transaction: its own copy of the member's state, and what it changed there.
type Txn struct {
	Of    *Session
	Num   int64
	State *store.State // nil once it has ended or is prepared
	Ops   []oplog.Entry
	Locks []string
	Done  chan struct{} // closed at its end
	Since time.Time
}

// Table is the sessions of a member.
type Table struct {
	m     map[string]*Session
	dirty map[string]*Session // whose row is to be written anew
}

// NewTable makes an empty table.
func NewTable() *Table { return &Table{m: map[string]*Session{}, dirty: map[string]*Session{}} }

// Clone copies the table for a member that takes over another's data. What is open there ends; what is prepared stays.
func (t *Table) Clone() *Table {
	out := NewTable()
	for k, s := range t.m {
		c := *s
		c.Stmts, c.Pending = maps.Clone(s.Stmts), slices.Clone(s.Pending)
		if s.Tx != nil && s.State == Prepared {
			c.Pending = slices.Clone(s.Tx.Ops)
		}
		c.Tx = nil
		if c.State == Open {
			c.State = Aborted
		}
		out.m[k] = &c
		out.mark(&c)
	}
	return out
}

// Key is a session's key: its id, whoever uses it.
func Key(lsid bson.Raw) string {
	id, _ := bsonval.Lookup(lsid, "id")
	return string(id.Value)
}

// Find gives a session, nil when it is not known.
func (t *Table) Find(key string) *Session { return t.m[key] }

// Get gives a session, making it when it is new.
func (t *Table) Get(key string, lsid bson.Raw, now time.Time) *Session {
	s := t.m[key]
	if s == nil {
		if len(t.m) > keep {
			maps.DeleteFunc(t.m, func(_ string, s *Session) bool {
				return s.Tx == nil && len(s.Pending) == 0 && now.Sub(s.Used) > lifetime
			})
		}
		s = &Session{LSID: lsid, Num: -1}
		t.m[key] = s
	}
	s.Used = now
	return s
}

// All gives the sessions, in the order of their keys.
func (t *Table) All() []*Session {
	var out []*Session
	for _, k := range slices.Sorted(maps.Keys(t.m)) {
		out = append(out, t.m[k])
	}
	return out
}

// Start begins a new number in a session.
func (s *Session) Start(num int64) {
	s.Num, s.State, s.Stmts = num, None, map[int]Result{}
	s.Last, s.First, s.Pending, s.row = oplog.OpTime{}, oplog.OpTime{}, nil, ""
}

// Wrote notes an entry of this session, just given its position, by the member that leads.
func (t *Table) Wrote(x *oplog.Entry) {
	if s := t.m[Key(x.LSID)]; x.LSID != nil && s != nil && x.Op != "n" {
		t.position(s, x)
	}
}

// position notes what an entry says of a session and its row.
func (t *Table) position(s *Session, x *oplog.Entry) {
	s.Last, s.LastWall = x.At, x.Wall
	s.row = ""
	if x.Op == "c" && !x.MultiOp {
		switch name := bsonval.FirstKey(x.O); {
		case name == "commitTransaction":
			s.row = "committed"
		case name == "abortTransaction":
			s.row = "aborted"
		case has(x.O, "prepare"):
			s.row = "prepared"
		case has(x.O, "partialTxn"):
			s.row = "inProgress"
		default:
			s.row = "committed"
		}
		if open := s.row == "prepared" || s.row == "inProgress"; open && s.First.IsZero() {
			s.First = x.At
		} else if !open {
			s.First = oplog.OpTime{}
		}
	}
	t.mark(s)
}

func (t *Table) mark(s *Session) { t.dirty[Key(s.LSID)] = s }

func has(o bson.Raw, flag string) bool {
	v, ok := bsonval.Lookup(o, flag)
	return ok && bsonval.Truthy(v)
}

// Follow takes note of an entry of another member, or of this member's own oplog after a restart. It gives the operations of
// a transaction that ends with the entry, which are to be carried out now, and says whether the entry is of a transaction at all.
// before and after are the documents around a retryable write, nil when they are not known.
func (t *Table) Follow(x oplog.Entry, before, after bson.Raw) (ops []oplog.Entry, txn bool) {
	if x.LSID == nil || x.Op == "n" {
		return nil, false
	}
	txn = x.Op == "c" && !x.MultiOp
	s := t.Get(Key(x.LSID), x.LSID, x.Wall)
	s.LSID = x.LSID
	if x.TxnNumber < s.Num {
		return nil, txn
	}
	if x.TxnNumber > s.Num {
		s.Start(x.TxnNumber)
	}
	t.position(s, &x)
	if !txn {
		t.statements(s, x, before, after)
		return nil, false
	}
	if v, ok := bsonval.Lookup(x.O, "applyOps"); ok {
		for _, in := range bsonval.SubDocs(v) {
			s.Pending = append(s.Pending, oplog.Parse(in))
		}
	}
	switch s.row {
	case "inProgress":
		s.State = Open
		return nil, true
	case "prepared":
		s.State = Prepared
		return nil, true
	case "committed":
		s.State, ops = Committed, s.Pending
	default:
		s.State = Aborted
	}
	s.Pending = nil
	return ops, true
}

// statements notes the results of an entry's statements.
func (t *Table) statements(s *Session, x oplog.Entry, before, after bson.Raw) {
	if x.MultiOp {
		v, _ := bsonval.Lookup(x.O, "applyOps")
		for _, in := range bsonval.SubDocs(v) {
			t.statements(s, oplog.Parse(in), nil, nil)
		}
		return
	}
	r := Result{N: 1, Before: before, After: after}
	switch x.Op {
	case "u":
		r.Modified = 1
	case "i":
		id, _ := bsonval.Lookup(x.O, "_id")
		r.Upserted, r.After = &id, x.O
	}
	for _, n := range x.StmtIDs {
		s.Stmts[int(n)] = r
	}
}

// Row is one row of config.transactions to write; Doc is nil when it is to be removed.
type Row struct {
	ID  bson.RawValue
	Doc bson.Raw
}

// Rows gives the rows that changed since it was last called.
func (t *Table) Rows() []Row {
	var out []Row
	for _, s := range t.dirty {
		if s.Last.IsZero() {
			continue
		}
		b := new(bsonval.Builder).Doc("_id", s.LSID).Int64("txnNum", s.Num).Doc("lastWriteOpTime", s.Last.Doc()).Value("lastWriteDate", bsonval.Date(s.LastWall))
		if s.row != "" {
			b.String("state", s.row)
		}
		if !s.First.IsZero() {
			b.Doc("startOpTime", s.First.Doc())
		}
		out = append(out, Row{ID: bsonval.Doc(s.LSID), Doc: b.Raw()})
	}
	clear(t.dirty)
	return out
}

// Urgent says that an entry begins or ends a transaction of several entries: its row is written at once, so that whoever looks for the
// oldest open transaction finds it as of any moment.
func (t *Table) Urgent(x *oplog.Entry) bool {
	if x.LSID == nil || x.Op != "c" || x.MultiOp {
		return false
	}
	_, ends := bsonval.Lookup(x.O, "applyOps")
	return !ends || has(x.O, "prepare") || has(x.O, "partialTxn") || has(x.O, "count")
}

// Changed says that there are rows to write.
func (t *Table) Changed() bool { return len(t.dirty) > 0 }
