package filter

import (
	"fmt"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Read is a collection that came into view by a rename: nothing of it is held, so it must be read from the source (or
// a new epoch begun) before the range of restorable points goes on.
type Read struct {
	UUID oplog.UUID
	NS   string
}

// Entry cuts an entry to what is wanted: the entry itself where all of it is, nil where none of it is. What is cut out of
// a transaction leaves a no-op in its place, so that its count stays true; an entry of a chain is never dropped whole.
func (f *Filter) Entry(e *oplog.Entry) (raw bson.Raw, reads []Read, err error) {
	if e.Kind != oplog.Command || e.Command.Name != oplog.ApplyOps {
		raw, read, err := f.op(e.Raw, &e.Op)
		if read != nil {
			reads = append(reads, *read)
		}
		return raw, reads, err
	}
	ops, kept, cut := []byte(nil), 0, 0
	array, _ := oplog.Lookup(e.O, "applyOps")
	err = f.inner(array.Data, &ops, &kept, &cut, &reads)
	switch {
	case err != nil:
		return nil, nil, err
	case cut == 0:
		return e.Raw, nil, nil
	case kept == 0 && !e.Transaction():
		return nil, reads, nil
	}
	o, err := rewrite(bson.Raw(e.O), func(key []byte, v bsoncore.Value) bsoncore.Value {
		if string(key) == "applyOps" {
			return bsoncore.Value{Type: bsoncore.TypeArray, Data: bsoncore.BuildDocument(nil, ops)}
		}
		return v
	})
	if err != nil {
		return nil, nil, err
	}
	raw, err = withO(e.Raw, o)
	return raw, reads, err
}

// inner appends the operations of an applyOps array, cut.
func (f *Filter) inner(array []byte, ops *[]byte, kept, cut *int, reads *[]Read) error {
	n := 0
	return oplog.Elements(array, func(_ []byte, v bsoncore.Value) error {
		d, ok := v.DocumentOK()
		if !ok {
			return fmt.Errorf("%w: operation inside applyOps is a %s", oplog.ErrCorrupt, v.Type)
		}
		op, err := oplog.DecodeInner(d)
		if err != nil {
			return err
		}
		var raw bson.Raw
		switch {
		case op.Kind == oplog.Command && op.Command.Name == oplog.ApplyOps:
			nested, k, c := []byte(nil), 0, 0
			a, _ := oplog.Lookup(op.O, "applyOps")
			if err := f.inner(a.Data, &nested, &k, &c, reads); err != nil {
				return err
			}
			raw, *kept, *cut = bson.Raw(d), *kept+k, *cut+c
			if c > 0 {
				o := bsoncore.BuildDocument(nil, bsoncore.AppendArrayElement(nil, "applyOps", bsoncore.BuildDocument(nil, nested)))
				if raw, err = withO(bson.Raw(d), o); err != nil {
					return err
				}
			}
		default:
			var read *Read
			if raw, read, err = f.op(bson.Raw(d), &op); err != nil {
				return err
			}
			if read != nil {
				*reads = append(*reads, *read)
			}
			if raw == nil || len(raw) != len(d) || &raw[0] != &d[0] {
				*cut++
			}
			if raw != nil {
				*kept++
			} else {
				raw = placeholder
			}
		}
		*ops = bsoncore.AppendDocumentElement(*ops, strconv.Itoa(n), raw)
		n++
		return nil
	})
}

// placeholder stands where an operation was cut out.
var placeholder = bson.Raw(bsoncore.NewDocumentBuilder().AppendString("op", "n").AppendString("ns", "").AppendDocument("o", bsoncore.BuildDocument(nil, nil)).Build())

// op cuts one operation: itself, something smaller in its place, or nil.
func (f *Filter) op(raw bson.Raw, op *oplog.Op) (bson.Raw, *Read, error) {
	keep := func(yes bool) (bson.Raw, *Read, error) {
		if yes {
			return raw, nil, nil
		}
		return nil, nil, nil
	}
	switch op.Kind {
	case oplog.Noop, oplog.Internal:
		return raw, nil, nil
	case oplog.Command:
	default:
		if db, coll := oplog.Split(op.NS); coll == "system.views" { // each view is wanted or not by its own name
			if view, ok := op.ID.StringValueOK(); ok && db != "admin" {
				return keep(f.Wants(view))
			}
		}
		return keep(f.Wants(op.NS))
	}
	cmd := op.Command
	switch cmd.Name {
	case oplog.CommitTransaction, oplog.AbortTransaction, oplog.Ignored:
		return raw, nil, nil
	case oplog.DropDatabase:
		return keep(f.WantsDatabase(cmd.Target))
	case oplog.Rename:
		return f.rename(raw, op)
	}
	return keep(f.Wants(cmd.Target))
}

// rename over the border: what leaves is dropped, what enters must be read, and a target that made room is dropped either way.
func (f *Filter) rename(raw bson.Raw, op *oplog.Op) (bson.Raw, *Read, error) {
	cmd := op.Command
	from, to := f.Wants(cmd.Target), f.Wants(cmd.To)
	switch {
	case from && to:
		return raw, nil, nil
	case from:
		out, err := asDrop(raw, op.UI, cmd.Target)
		return out, nil, err
	case !to:
		return nil, nil, nil
	}
	read := &Read{UUID: op.UI, NS: cmd.To}
	if !cmd.DropTarget {
		return nil, read, nil
	}
	out, err := asDrop(raw, cmd.DropTargetUUID, cmd.To)
	return out, read, err
}

// asDrop turns an operation into the drop of a collection, at the same position.
func asDrop(raw bson.Raw, id oplog.UUID, ns string) (bson.Raw, error) {
	db, coll := oplog.Split(ns)
	var out []byte
	err := oplog.Elements(raw, func(key []byte, v bsoncore.Value) error {
		switch string(key) {
		case "ui", "o2", "rid":
			return nil
		case "ns":
			v = bsoncore.Value{Type: bsoncore.TypeString, Data: bsoncore.AppendString(nil, db+".$cmd")}
		case "o":
			v = bsoncore.Value{Type: bsoncore.TypeEmbeddedDocument, Data: bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(nil, "drop", coll))}
		}
		out = bsoncore.AppendValueElement(out, string(key), v)
		return nil
	})
	if !id.IsZero() {
		out = bsoncore.AppendBinaryElement(out, "ui", bson.TypeBinaryUUID, id[:])
	}
	return bson.Raw(bsoncore.BuildDocument(nil, out)), err
}

func withO(raw bson.Raw, o []byte) (bson.Raw, error) {
	out, err := rewrite(raw, func(key []byte, v bsoncore.Value) bsoncore.Value {
		if string(key) == "o" {
			return bsoncore.Value{Type: bsoncore.TypeEmbeddedDocument, Data: o}
		}
		return v
	})
	return bson.Raw(out), err
}

func rewrite(doc bson.Raw, change func(key []byte, v bsoncore.Value) bsoncore.Value) ([]byte, error) {
	var out []byte
	err := oplog.Elements(doc, func(key []byte, v bsoncore.Value) error {
		out = bsoncore.AppendValueElement(out, string(key), change(key, v))
		return nil
	})
	return bsoncore.BuildDocument(nil, out), err
}
