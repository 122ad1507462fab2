package oplog

import (
	"fmt"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// Kind is what an operation does.
type Kind byte

// The kinds of operations.
const (
	Insert  Kind = 'i'
	Update  Kind = 'u'
	Delete  Kind = 'd'
	Command Kind = 'c'
	Noop    Kind = 'n'
	// Internal are the bookkeeping entries of newest servers (km, ci, cu, cd): they change nothing that is ours and are skipped.
	Internal Kind = 'k'
)

// String is the spelling of the oplog.
func (k Kind) String() string {
	if k == Internal {
		return "internal"
	}
	return string(rune(k))
}

// Op is one operation: that of an entry, or one inside a transaction. Its documents are the bytes of the entry.
type Op struct {
	Kind        Kind
	NS          string // where it was when it happened; UI is what counts, where there is one
	UI          UUID   // zero in entries that name no collection
	O, O2       bson.Raw
	ID          bsoncore.Value // of the document of an insert, update or delete
	Upsert      bool           // an update that inserts where there is nothing
	FromMigrate bool           // a chunk moved; it changes data like any other
	Resharding  bool           // destinedRecipient is set: the collection is being resharded
	Command     *Cmd           // of a Command
}

// Entry is one decoded oplog entry. Raw is the entry as it was read; nothing of it is lost.
type Entry struct {
	Op
	Raw  bson.Raw
	At   OpTime
	Wall time.Time // for people; never for ordering
	// Session names the retryable write or transaction the entry belongs to, nil if none.
	Session *Session
	// Prev is the entry before this one in its session or transaction, zero for the first.
	Prev OpTime
	// MultiOp marks an applyOps that carries session fields and is no transaction (batched inserts).
	MultiOp bool
}

// Session is the identity of a retryable write or a transaction.
type Session struct {
	LSID      bson.Raw
	TxnNumber int64
}

// Key is equal for entries of one session and transaction number. It holds bytes, not text.
func (s *Session) Key() string { return string(s.LSID) + strconv.FormatInt(s.TxnNumber, 10) }

// Decode reads an entry. The entry keeps b and must not outlive a change of it.
func Decode(b []byte) (*Entry, error) {
	e := &Entry{Raw: bson.Raw(b), At: OpTime{Term: -1}}
	var version int64
	var lsid bson.Raw
	var txn int64 = -1
	seen := field(0)
	err := Elements(b, func(key []byte, v bsoncore.Value) error {
		f := fields[string(key)]
		if f == 0 {
			return fmt.Errorf("field %q of an oplog entry is %w", key, ErrUnknown)
		}
		if seen&f != 0 {
			return fmt.Errorf("%w: field %q twice", ErrCorrupt, key)
		}
		seen |= f
		var ok bool
		switch f {
		case fTS:
			e.At.TS.T, e.At.TS.I, ok = v.TimestampOK()
		case fT:
			e.At.Term, ok = integer(v)
		case fV:
			version, ok = integer(v)
		case fWall:
			e.Wall, ok = v.TimeOK()
		case fLSID:
			var d bsoncore.Document
			d, ok = v.DocumentOK()
			lsid = bson.Raw(d)
		case fTxn:
			txn, ok = integer(v)
		case fPrev:
			e.Prev, ok = opTimeOf(v)
		case fMultiOp:
			var n int64
			n, ok = integer(v)
			if ok && n != 0 && n != 1 {
				return fmt.Errorf("multiOpType %d is %w", n, ErrUnknown)
			}
			e.MultiOp = n == 1
		default:
			ok = e.take(f, v)
		}
		if !ok {
			return fmt.Errorf("%w: field %q is a %s", ErrCorrupt, key, v.Type)
		}
		return nil
	})
	if err == nil {
		err = e.complete(seen, version)
	}
	if err != nil {
		return nil, at(e.At, err)
	}
	if lsid != nil && txn >= 0 {
		e.Session = &Session{LSID: lsid, TxnNumber: txn}
	}
	return e, nil
}

func at(o OpTime, err error) error {
	if o.IsZero() {
		return err
	}
	return fmt.Errorf("entry %s: %w", o, err)
}

func (e *Entry) complete(seen field, version int64) error {
	switch {
	case seen&fTS == 0 || e.At.IsZero():
		return fmt.Errorf("%w: no ts", ErrCorrupt)
	case seen&fV == 0:
		return fmt.Errorf("%w: no v", ErrCorrupt)
	case version != 2:
		return fmt.Errorf("oplog version %d is %w", version, ErrUnknown)
	}
	return e.finish(seen, 0)
}

type field uint64

// The fields of an entry. Those of the last group say nothing that a replay needs: images and identities of retryable
// writes, hints, record ids of the source.
const (
	fTS field = 1 << iota
	fT
	fV
	fH
	fOp
	fNS
	fUI
	fO
	fO2
	fB
	fWall
	fLSID
	fTxn
	fStmt
	fPrev
	fPreImage
	fPostImage
	fNeedsImage
	fFromMigrate
	fRecipient
	fRID
	fMultiOp
	fCheckDiff
	fVersionContext
	fTID
)

var fields = map[string]field{
	"ts": fTS, "t": fT, "v": fV, "h": fH, "op": fOp, "ns": fNS, "ui": fUI, "o": fO, "o2": fO2, "b": fB, "wall": fWall, "lsid": fLSID, "txnNumber": fTxn,
	"stmtId": fStmt, "prevOpTime": fPrev, "preImageOpTime": fPreImage, "postImageOpTime": fPostImage, "needsRetryImage": fNeedsImage, "fromMigrate": fFromMigrate,
	"destinedRecipient": fRecipient, "rid": fRID, "multiOpType": fMultiOp, "checkExistenceForDiffInsert": fCheckDiff, "versionContext": fVersionContext, "tid": fTID,
}

// take reads a field that operations inside a transaction have too.
func (o *Op) take(f field, v bsoncore.Value) (ok bool) {
	ok = true
	switch f {
	case fOp:
		var s string
		if s, ok = v.StringValueOK(); ok {
			o.Kind, ok = kindOf(s)
		}
	case fNS:
		o.NS, ok = v.StringValueOK()
	case fUI:
		o.UI, ok = uuidOf(v)
	case fO:
		var d bsoncore.Document
		d, ok = v.DocumentOK()
		o.O = bson.Raw(d)
	case fO2:
		var d bsoncore.Document
		d, ok = v.DocumentOK()
		o.O2 = bson.Raw(d)
	case fB:
		o.Upsert, ok = v.BooleanOK()
	case fFromMigrate:
		o.FromMigrate, ok = v.BooleanOK()
	case fRecipient:
		o.Resharding = true
	}
	return ok
}

func kindOf(s string) (Kind, bool) {
	switch s {
	case "i", "u", "d", "c", "n":
		return Kind(s[0]), true
	case "km", "ci", "cu", "cd":
		return Internal, true
	}
	return 0, false
}

func opTimeOf(v bsoncore.Value) (OpTime, bool) {
	d, ok := v.DocumentOK()
	if !ok {
		return OpTime{}, false
	}
	var o OpTime
	var okTS, okT bool
	if err := Elements(d, func(key []byte, v bsoncore.Value) error {
		switch string(key) {
		case "ts":
			o.TS.T, o.TS.I, okTS = v.TimestampOK()
		case "t":
			o.Term, okT = integer(v)
		}
		return nil
	}); err != nil {
		return OpTime{}, false
	}
	return o, okTS && okT
}

// finish checks that the operation has what its kind needs. Depth counts applyOps within applyOps.
func (o *Op) finish(seen field, depth int) error {
	if seen&fOp == 0 {
		return fmt.Errorf("%w: no op", ErrCorrupt)
	}
	switch o.Kind {
	case Noop, Internal:
		return nil
	}
	switch {
	case seen&fNS == 0 || o.NS == "":
		return fmt.Errorf("%w: %s without ns", ErrCorrupt, o.Kind)
	case seen&fO == 0:
		return fmt.Errorf("%w: %s on %s without o", ErrCorrupt, o.Kind, o.NS)
	}
	if o.Kind == Command {
		c, err := decodeCommand(o, depth)
		if err != nil {
			return err
		}
		o.Command = c
		return nil
	}
	if _, coll := Split(o.NS); coll == "" {
		return fmt.Errorf("%w: %s on %q, which is no collection", ErrCorrupt, o.Kind, o.NS)
	}
	where := o.O
	if o.Kind == Update {
		if seen&fO2 == 0 {
			return fmt.Errorf("%w: update of %s without o2", ErrCorrupt, o.NS)
		}
		where = o.O2
	}
	var ok bool
	if o.ID, ok = Lookup(where, "_id"); !ok {
		return fmt.Errorf("%w: %s on %s without _id", ErrCorrupt, o.Kind, o.NS)
	}
	return nil
}

// DecodeInner reads one operation of an applyOps array.
func DecodeInner(b []byte) (Op, error) { return decodeInner(b, 1) }

// decodeInner reads an operation inside an applyOps. A user's applyOps may hold whole entries: their positions count for nothing.
func decodeInner(b []byte, depth int) (Op, error) {
	var o Op
	seen := field(0)
	err := Elements(b, func(key []byte, v bsoncore.Value) error {
		f := fields[string(key)]
		if f == 0 {
			return fmt.Errorf("field %q of an operation inside applyOps is %w", key, ErrUnknown)
		}
		seen |= f
		if !o.take(f, v) {
			return fmt.Errorf("%w: field %q inside applyOps is a %s", ErrCorrupt, key, v.Type)
		}
		return nil
	})
	if err == nil {
		err = o.finish(seen, depth)
	}
	return o, err
}
