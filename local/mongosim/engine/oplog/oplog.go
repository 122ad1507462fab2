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
	StmtID    int32
	HasStmt   bool
}

// Marshal gives the entry as a document.
func (x Entry) Marshal() bson.Raw {
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
	if x.HasStmt {
		b.Int32("stmtId", x.StmtID)
	}
	b.Value("ts", bsonval.Timestamp(x.At.TS)).Int64("t", x.At.Term).Int64("v", 2).Value("wall", bsonval.Date(x.Wall))
	if x.LSID != nil {
		var z bsonval.Builder
		z.Value("ts", bsonval.Timestamp(bson.Timestamp{})).Int64("t", -1)
		b.Doc("prevOpTime", z.Raw())
	}
	return b.Raw()
}

// Parse reads an entry back.
func Parse(doc bson.Raw) Entry {
	var x Entry
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
			n, _ := bsonval.Integer(v)
			x.StmtID, x.HasStmt = int32(n), true
		}
	}
	return x
}
