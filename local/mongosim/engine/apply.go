package engine

import (
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

func applyUpdate(doc, o bson.Raw) bson.Raw { return update.ApplyEntry(doc, o) }

// applyEntry carries out one entry without logging it; mu is held. Replays must be harmless: what is already so stays so.
func (e *Engine) applyEntry(x OplogEntry) error {
	switch x.Op {
	case "n":
		return nil
	case "c":
		e.stats.ReplCommand.Add(1)
		if err := e.applyCommand(x); err != nil {
			return err
		}
		e.sess.remember(x, nil, nil)
		return nil
	}
	coll := e.st.ByUUID(x.UI)
	if coll == nil {
		coll = e.st.Get(x.NS)
	}
	if coll == nil || coll.Records == nil {
		return fmt.Errorf("no collection %s", x.NS)
	}
	key := x.O
	if x.Op == "u" {
		key = x.O2
	}
	id, _ := bsonval.Lookup(key, "_id")
	rid, old, had := coll.FindID(id)
	var after bson.Raw
	switch x.Op {
	case "i":
		e.stats.ReplInsert.Add(1)
		after = x.O
		if had {
			if err := e.st.Put(e.bt(), coll, rid, x.O); err != nil {
				return fmt.Errorf("insert over existing: %w", err)
			}
		} else if _, err := e.st.Insert(e.bt(), coll, x.O); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		e.trim(coll)
		if err := e.viewChanged(nil, coll, x.O, false); err != nil {
			return err
		}
	case "u":
		e.stats.ReplUpdate.Add(1)
		if !had {
			if coll.Capped {
				return nil
			}
			return fmt.Errorf("update of an absent document")
		}
		after = update.ApplyEntry(old, x.O)
		if err := e.st.Put(e.bt(), coll, rid, after); err != nil {
			return fmt.Errorf("update: %w", err)
		}
	case "d":
		e.stats.ReplDelete.Add(1)
		if had {
			e.st.Remove(e.bt(), coll, rid)
			if err := e.viewChanged(nil, coll, old, true); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("unknown operation %q", x.Op)
	}
	e.sess.remember(x, old, after)
	return nil
}

func (e *Engine) applyCommand(x OplogEntry) error {
	db := dbOf(x.NS)
	name := bsonval.FirstKey(x.O)
	first, _ := bsonval.Lookup(x.O, name)
	coll := e.st.ByUUID(x.UI)
	switch name {
	case "applyOps":
		for _, v := range bsonval.Each(bsonval.SubDoc(first)) {
			if err := e.applyEntry(ParseOplogEntry(bsonval.SubDoc(v))); err != nil {
				return err
			}
		}
		return nil
	case "create":
		if coll != nil {
			return nil
		}
		ns := db + "." + bsonval.Str(first)
		if old := e.st.Get(ns); old != nil {
			e.st.Drop(e.bt(), old)
		}
		return e.createFromEntry(ns, x)
	case "drop":
		if coll != nil {
			e.st.Drop(e.bt(), coll)
		}
		return nil
	case "dropDatabase":
		return nil
	case "renameCollection":
		to, _ := bsonval.Lookup(x.O, "to")
		if coll == nil {
			coll = e.st.Get(bsonval.Str(first))
		}
		if coll == nil || coll.NS == bsonval.Str(to) {
			return nil
		}
		if target := e.st.Get(bsonval.Str(to)); target != nil {
			e.st.Drop(e.bt(), target)
		}
		e.st.Rename(e.bt(), coll, bsonval.Str(to))
		return nil
	case "createIndexes":
		if coll == nil {
			return nil
		}
		var b bsonval.Builder
		for k, v := range bsonval.Each(x.O) {
			if k != "createIndexes" {
				b.Value(k, v)
			}
		}
		return e.addIndexes(coll, []bson.Raw{b.Raw()})
	case "commitIndexBuild":
		specs, _ := bsonval.Lookup(x.O, "indexes")
		var docs []bson.Raw
		for _, v := range bsonval.Each(bsonval.SubDoc(specs)) {
			docs = append(docs, bsonval.SubDoc(v))
		}
		if coll == nil {
			return nil
		}
		return e.addIndexes(coll, docs)
	case "dropIndexes", "deleteIndex", "deleteIndexes", "dropIndex":
		index, _ := bsonval.Lookup(x.O, "index")
		if coll == nil {
			return nil
		}
		if i := coll.Index(bsonval.Str(index)); i != nil {
			e.st.DropIndex(e.bt(), coll, i)
		}
		return nil
	case "collMod":
		if coll == nil {
			return nil
		}
		_, err := e.modify(coll, x.O)
		return err
	case "startIndexBuild", "abortIndexBuild", "commitTransaction", "abortTransaction", "dbCheck":
		return nil
	}
	return fmt.Errorf("unknown command %q in the oplog", name)
}

// addIndexes builds indexes that are not there yet.
func (e *Engine) addIndexes(coll *store.Collection, specs []bson.Raw) error {
	for _, s := range specs {
		if coll.Index(stringValue(s, "name")) != nil {
			continue
		}
		i, err := e.st.NewIndex(s)
		if err != nil {
			return err
		}
		if err := e.st.AddIndex(e.bt(), coll, i); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) createFromEntry(ns string, x OplogEntry) error {
	var options bsonval.Builder
	coll := &store.Collection{NS: ns, UUID: x.UI}
	for k, v := range bsonval.Each(x.O) {
		switch k {
		case "create":
		case "idIndex":
			i, err := e.st.NewIndex(bsonval.SubDoc(v))
			if err != nil {
				return err
			}
			coll.Indexes = append(coll.Indexes, i)
		default:
			options.Value(k, v)
		}
	}
	coll.Options = options.Raw()
	e.st.Create(e.bt(), coll)
	return nil
}

// viewChanged keeps views in step with the documents of system.views; mu is held.
func (e *Engine) viewChanged(c *call, coll *store.Collection, doc bson.Raw, removed bool) error {
	if !strings.HasSuffix(coll.NS, ".system.views") {
		return nil
	}
	st := e.st
	if c != nil && c.tx != nil {
		return nil
	}
	name := stringValue(doc, "_id")
	old := st.Get(name)
	if old != nil && old.View {
		st.Drop(e.bt(), old)
		old = nil
	}
	if removed || old != nil || name == "" {
		return nil
	}
	var b bsonval.Builder
	for k, v := range bsonval.Each(doc) {
		if k != "_id" {
			b.Value(k, v)
		}
	}
	st.Create(e.bt(), &store.Collection{NS: name, UUID: newUUID(), Options: b.Raw()})
	return nil
}

// applyOps is the command: entries carried out and logged one by one, as far as a head's applier uses it.
func (c *call) applyOps() (*bsonval.Builder, error) {
	ops := c.arg("applyOps")
	if ops.Type != bson.TypeArray {
		return nil, Errf(CodeTypeMismatch, "BSON field 'applyOps.applyOps' is the wrong type '%s', expected type 'array'", bsonval.TypeName(ops.Type))
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	n := int32(0)
	var results []bson.RawValue
	for _, v := range bsonval.Each(bson.Raw(ops.Value)) {
		doc := bsonval.SubDoc(v)
		x := ParseOplogEntry(doc)
		if err := c.applyOne(x, doc, bsonval.Truthy(c.arg("allowAtomic")), bsonval.Truthy(c.arg("alwaysUpsert")) || c.arg("alwaysUpsert").Type == 0); err != nil {
			return nil, err
		}
		n++
		results = append(results, bsonval.Bool(true))
	}
	return new(bsonval.Builder).Int32("applied", n).Value("results", bsonval.Array(results)), nil
}

func (c *call) applyOne(x OplogEntry, raw bson.Raw, _, alwaysUpsert bool) error {
	e := c.e
	if x.Op == "n" {
		return nil
	}
	if x.Op != "c" {
		coll := e.st.ByUUID(x.UI)
		if coll == nil {
			coll = e.st.Get(x.NS)
		}
		if coll == nil {
			if x.Op == "d" {
				return nil
			}
			return Errf(CodeNamespaceNotFound, "cannot apply insert or update operation on a non-existent namespace %s: %s", x.NS, bsonval.FormatDoc(raw))
		}
		x.UI, x.NS = coll.UUID, coll.NS
		if x.Op == "u" {
			if v, ok := bsonval.Lookup(x.O, "$v"); ok {
				if k, _ := bsonval.Integer(v); k == 2 && !e.o.DiffUpdates {
					return Errf(40682, "Unrecognized value for '$v' (UpdateSemantics) field: 2")
				}
			}
			id, _ := bsonval.Lookup(x.O2, "_id")
			if _, _, had := coll.FindID(id); !had {
				if up, ok := bsonval.Lookup(raw, "b"); !alwaysUpsert && !(ok && bsonval.Truthy(up)) {
					return Errf(CodeUpdateOperationFailed, "Failed to apply update: { op: \"u\", ns: %q, o: %s, o2: %s, ts: Timestamp(0, 0), wall: new Date(0) }", x.NS, bsonval.FormatDoc(x.O), bsonval.FormatDoc(x.O2))
				}
				x = OplogEntry{Op: "i", NS: x.NS, UI: x.UI, O: update.ApplyEntry(new(bsonval.Builder).Value("_id", id).Raw(), fullUpdate(x.O))}
			}
		}
	} else if x.UI == ([16]byte{}) && bsonval.FirstKey(x.O) == "create" {
		x.UI = newUUID()
		if _, ok := bsonval.Lookup(x.O, "idIndex"); !ok {
			x.O = new(bsonval.Builder).All(x.O).Doc("idIndex", idIndexOf(nil)).Raw()
		}
	}
	if err := e.applyEntry(x); err != nil {
		return Errf(CodeUpdateOperationFailed, "%s", err.Error())
	}
	c.wrote = true
	e.log(x)
	return nil
}

// fullUpdate marks operators without $v as the modifiers they are.
func fullUpdate(o bson.Raw) bson.Raw {
	if strings.HasPrefix(bsonval.FirstKey(o), "$") && bsonval.FirstKey(o) != "$v" {
		return new(bsonval.Builder).Int32("$v", 1).All(o).Raw()
	}
	return o
}
