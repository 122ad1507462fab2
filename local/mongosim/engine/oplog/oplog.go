// Package oplog is one entry of a replica set's oplog: its fields, its place, and its form as a document. It owns no state.
package oplog

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// OpTime is a position in the oplog.
type OpTime struct {
	TS   bson.Timestamp
	Term int64
}

// Before orders positions.
func (a OpTime) Before(b OpTime) bool {
	if a.TS.T != b.TS.T {
		return a.TS.T < b.TS.T
	}
	return a.TS.I < b.TS.I
}

// IsZero says that there is no position.
func (a OpTime) IsZero() bool { return a.TS == bson.Timestamp{} }

// ID is the record id of the entry at a position: the oplog's order is that of its timestamps.
func (a OpTime) ID() int64 { return int64(uint64(a.TS.T)<<32 | uint64(a.TS.I)) }

// Doc is the position as entries and rows carry it; the zero one says that there is none before.
func (a OpTime) Doc() bson.Raw {
	term := a.Term
	if a.IsZero() {
		term = -1
	}
	return new(bsonval.Builder).Value("ts", bsonval.Timestamp(a.TS)).Int64("t", term).Raw()
}

// ParseOpTime reads {ts, t}.
func ParseOpTime(v bson.RawValue) OpTime {
	var at OpTime
	for k, x := range bsonval.Each(bsonval.SubDoc(v)) {
		switch k {
		case "ts":
			if x.Type == bson.TypeTimestamp {
				at.TS.T, at.TS.I = x.Timestamp()
			}
		case "t":
			at.Term, _ = bsonval.Integer(x)
		}
	}
	if at.IsZero() {
		return OpTime{}
	}
	return at
}

// NS is the collection of the oplog.
const NS = "local.oplog.rs"

// Entry is one entry of the oplog: o and o2 in the shapes of a real server.
type Entry struct {
	At   OpTime
	Wall time.Time
	Op   string // i, u, d, c or n
	NS   string
	UI   [16]byte // zero: none
	O    bson.Raw
	O2   bson.Raw // may be nil

	FromMigrate bool
	// The client session, on retryable writes and transactions.
	LSID      bson.Raw
	TxnNumber int64
	StmtIDs   []int32
	Prev      OpTime // of the session's entry before this one in the same txnNumber
	// The images a findAndModify must be able to answer again: in a no-op entry of their own (older servers), or named here
	// and kept beside the oplog (newer ones).
	PreImage, PostImage OpTime
	NeedsImage          string // preImage or postImage
	// MultiOp marks an applyOps that is no transaction: several inserts of one command, from 8.0 on.
	MultiOp bool

	// Raw is the entry as it was written. A member copies it, so that all members' oplogs are the same byte for byte.
	Raw bson.Raw
}

// Marshal gives the entry as a document.
func (x *Entry) Marshal() bson.Raw {
	if x.Raw != nil {
		return x.Raw
	}
	var b bsonval.Builder
	if x.LSID != nil {
		b.Doc("lsid", x.LSID).Int64("txnNumber", x.TxnNumber)
	}
	b.String("op", x.Op).String("ns", x.NS)
	if x.UI != ([16]byte{}) {
		b.Value("ui", bsonval.UUID(x.UI))
	}
	if x.FromMigrate {
		b.Bool("fromMigrate", true)
	}
	b.Doc("o", x.O)
	if x.O2 != nil {
		b.Doc("o2", x.O2)
	}
	if !x.PreImage.IsZero() {
		b.Doc("preImageOpTime", x.PreImage.Doc())
	}
	if !x.PostImage.IsZero() {
		b.Doc("postImageOpTime", x.PostImage.Doc())
	}
	if x.NeedsImage != "" {
		b.String("needsRetryImage", x.NeedsImage)
	}
	stmts(&b, x.StmtIDs)
	b.Value("ts", bsonval.Timestamp(x.At.TS))
	if x.At.Term > 0 { // the entry that initiates a set is of no term
		b.Int64("t", x.At.Term)
	}
	b.Int64("v", 2).Value("wall", bsonval.Date(x.Wall))
	if x.LSID != nil {
		b.Doc("prevOpTime", x.Prev.Doc())
	}
	if x.MultiOp {
		b.Int32("multiOpType", 1)
	}
	return b.Raw()
}

// Inner is the entry as a member of an applyOps.
func (x *Entry) Inner() bson.Raw {
	var b bsonval.Builder
	b.String("op", x.Op).String("ns", x.NS)
	if x.UI != ([16]byte{}) {
		b.Value("ui", bsonval.UUID(x.UI))
	}
	b.Doc("o", x.O)
	if x.O2 != nil {
		b.Doc("o2", x.O2)
	}
	stmts(&b, x.StmtIDs)
	return b.Raw()
}

func stmts(b *bsonval.Builder, ids []int32) {
	if len(ids) == 1 {
		b.Int32("stmtId", ids[0])
		return
	}
	if len(ids) > 1 {
		vs := make([]bson.RawValue, len(ids))
		for i, n := range ids {
			vs[i] = bsonval.Int32(n)
		}
		b.Value("stmtId", bsonval.Array(vs))
	}
}

// Parse reads an entry back. It keeps the document.
func Parse(doc bson.Raw) Entry {
	x := Entry{Raw: doc}
	for k, v := range bsonval.Each(doc) {
		switch k {
		case "ts":
			if v.Type == bson.TypeTimestamp {
				x.At.TS.T, x.At.TS.I = v.Timestamp()
			}
		case "t":
			x.At.Term, _ = bsonval.Integer(v)
		case "wall":
			if v.Type == bson.TypeDateTime {
				x.Wall = v.Time()
			}
		case "op":
			x.Op = bsonval.Str(v)
		case "ns":
			x.NS = bsonval.Str(v)
		case "ui":
			if _, data, ok := v.BinaryOK(); ok && len(data) == 16 {
				x.UI = [16]byte(data)
			}
		case "o":
			x.O = bsonval.SubDoc(v)
		case "o2":
			x.O2 = bsonval.SubDoc(v)
		case "fromMigrate":
			x.FromMigrate = bsonval.Truthy(v)
		case "lsid":
			x.LSID = bsonval.SubDoc(v)
		case "txnNumber":
			x.TxnNumber, _ = bsonval.Integer(v)
		case "stmtId":
			x.StmtIDs = stmtIDs(v)
		case "prevOpTime":
			x.Prev = ParseOpTime(v)
		case "preImageOpTime":
			x.PreImage = ParseOpTime(v)
		case "postImageOpTime":
			x.PostImage = ParseOpTime(v)
		case "needsRetryImage":
			x.NeedsImage = bsonval.Str(v)
		case "multiOpType":
			n, _ := bsonval.Integer(v)
			x.MultiOp = n == 1
		}
	}
	return x
}

func stmtIDs(v bson.RawValue) []int32 {
	vs := []bson.RawValue{v}
	if v.Type == bson.TypeArray {
		vs = bsonval.Values(bson.Raw(v.Value))
	}
	var out []int32
	for _, x := range vs {
		if n, ok := bsonval.Integer(x); ok {
			out = append(out, int32(n))
		}
	}
	return out
}
