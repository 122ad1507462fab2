package session

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

// ID is the _id of the document that an operation changes.
func ID(x oplog.Entry) bson.RawValue {
	doc := x.O
	if x.Op == "u" {
		doc = x.O2
	}
	id, _ := bsonval.Lookup(doc, "_id")
	return id
}

// Apply carries out a transaction's operations; when one cannot be done they are all undone and it is a conflict. It gives what
// takes them back.
func Apply(st *store.State, b *store.Batch, ops []oplog.Entry) (takeBack func(), err error) {
	var undo []func()
	takeBack = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	for _, x := range ops {
		coll := st.ByUUID(x.UI)
		if coll == nil {
			err = refuse.Errf(refuse.CodeWriteConflict, "collection of the transaction was dropped")
		} else {
			rid, old, had := coll.FindID(ID(x))
			switch {
			case x.Op == "i":
				if rid, err = st.Insert(b, coll, x.O); err == nil {
					undo = append(undo, func() { st.Remove(b, coll, rid) })
				}
			case !had:
				err = refuse.Errf(refuse.CodeWriteConflict, "document of the transaction is gone")
			case x.Op == "u":
				if err = st.Put(b, coll, rid, update.ApplyEntry(old, x.O)); err == nil {
					undo = append(undo, func() { _ = st.Put(b, coll, rid, old) })
				}
			case x.Op == "d":
				st.Remove(b, coll, rid)
				undo = append(undo, func() { _ = st.Put(b, coll, rid, old) })
			}
		}
		if err != nil {
			takeBack()
			return nil, refuse.Errf(refuse.CodeWriteConflict, "WriteConflict error: this operation conflicted with another operation. Please retry your operation or multi-document transaction. (%s)", err.Error())
		}
	}
	return takeBack, nil
}

// Bodies are the o of a transaction's entries: one, or several when the operations take more than limit bytes. prepare is said in the
// last.
func Bodies(ops []oplog.Entry, limit int, prepare bool) []bson.Raw {
	var out, inner []bson.Raw
	size := 0
	entry := func(last bool) {
		o := new(bsonval.Builder).Docs("applyOps", inner)
		switch {
		case !last:
			o.Bool("partialTxn", true)
		case prepare:
			o.Bool("prepare", true)
		}
		if last && len(out) > 0 {
			o.Int64("count", int64(len(ops)))
		}
		out = append(out, o.Raw())
		inner, size = nil, 0
	}
	for i := range ops {
		doc := ops[i].Inner()
		if len(inner) > 0 && size+len(doc) > limit {
			entry(false)
		}
		inner = append(inner, doc)
		size += len(doc)
	}
	entry(true)
	return out
}
