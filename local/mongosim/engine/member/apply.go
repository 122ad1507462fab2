package member

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

// ApplyEntry carries out one entry without logging it; mu is held. Replays must be harmless: what is already so stays so.
func (e *Engine) ApplyEntry(x oplog.Entry) error {
	switch x.Op {
	case "n":
		return nil
	case "c":
		e.stats.ReplCommand.Add(1)
		ops, txn := e.sess.Follow(x, nil, nil)
		if !txn {
			return e.applyCommand(x)
		}
		for _, op := range ops {
			if err := e.ApplyEntry(op); err != nil {
				return err
			}
		}
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
			if err := e.st.Put(e.Batch(), coll, rid, x.O); err != nil {
				return fmt.Errorf("insert over existing: %w", err)
			}
		} else if _, err := e.st.Insert(e.Batch(), coll, x.O); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		e.Trim(coll)
		if err := e.ViewChanged(nil, coll, x.O, false); err != nil {
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
		if err := e.st.Put(e.Batch(), coll, rid, after); err != nil {
			return fmt.Errorf("update: %w", err)
		}
	case "d":
		e.stats.ReplDelete.Add(1)
		if had {
			e.st.Remove(e.Batch(), coll, rid)
			if err := e.ViewChanged(nil, coll, old, true); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("unknown operation %q", x.Op)
	}
	e.sess.Follow(x, old, after)
	return nil
}

func (e *Engine) applyCommand(x oplog.Entry) error {
	db := store.DBOf(x.NS)
	name := bsonval.FirstKey(x.O)
	first, _ := bsonval.Lookup(x.O, name)
	coll := e.st.ByUUID(x.UI)
	switch name {
	case "applyOps":
		for _, v := range bsonval.Each(bsonval.SubDoc(first)) {
			if err := e.ApplyEntry(oplog.Parse(bsonval.SubDoc(v))); err != nil {
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
			e.st.Drop(e.Batch(), old)
		}
		return e.createFromEntry(ns, x)
	case "drop":
		if coll != nil {
			e.st.Drop(e.Batch(), coll)
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
			e.st.Drop(e.Batch(), target)
		}
		e.st.Rename(e.Batch(), coll, bsonval.Str(to))
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
		return e.AddIndexes(coll, []bson.Raw{b.Raw()})
	case "commitIndexBuild":
		specs, _ := bsonval.Lookup(x.O, "indexes")
		var docs []bson.Raw
		for _, v := range bsonval.Each(bsonval.SubDoc(specs)) {
			docs = append(docs, bsonval.SubDoc(v))
		}
		if coll == nil {
			return nil
		}
		return e.AddIndexes(coll, docs)
	case "dropIndexes", "deleteIndex", "deleteIndexes", "dropIndex":
		index, _ := bsonval.Lookup(x.O, "index")
		if coll == nil {
			return nil
		}
		if i := coll.Index(bsonval.Str(index)); i != nil {
			e.st.DropIndex(e.Batch(), coll, i)
		}
		return nil
	case "collMod":
		if coll == nil {
			return nil
		}
		_, err := e.Modify(coll, x.O)
		return err
	case "startIndexBuild", "abortIndexBuild", "commitTransaction", "abortTransaction", "dbCheck":
		return nil
	}
	return fmt.Errorf("unknown command %q in the oplog", name)
}

// AddIndexes builds indexes that are not there yet.
func (e *Engine) AddIndexes(coll *store.Collection, specs []bson.Raw) error {
	for _, s := range specs {
		if coll.Index(bsonval.StringField(s, "name")) != nil {
			continue
		}
		i, err := e.st.NewIndex(s)
		if err != nil {
			return err
		}
		if err := e.st.AddIndex(e.Batch(), coll, i); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) createFromEntry(ns string, x oplog.Entry) error {
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
	if s := spec.ClusteredIndex(coll.Options); s != nil {
		i, err := e.st.NewIndex(s)
		if err != nil {
			return err
		}
		coll.Indexes = []*store.Index{i}
	}
	e.st.Create(e.Batch(), coll)
	return nil
}

// ViewChanged keeps views in step with the documents of system.views; mu is held.
func (e *Engine) ViewChanged(c *Call, coll *store.Collection, doc bson.Raw, removed bool) error {
	if !strings.HasSuffix(coll.NS, ".system.views") {
		return nil
	}
	st := e.st
	if c != nil && c.tx != nil {
		return nil
	}
	name := bsonval.StringField(doc, "_id")
	old := st.Get(name)
	if old != nil && old.View {
		st.Drop(e.Batch(), old)
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
	st.Create(e.Batch(), &store.Collection{NS: name, UUID: NewUUID(), Options: b.Raw()})
	return nil
}

// CreateCollection makes a collection with an _id index and logs it; mu is held.
func (e *Engine) CreateCollection(ns string, options bson.Raw, uuid [16]byte, c *Call) error {
	if err := spec.CheckName(ns); err != nil {
		return err
	}
	coll, collation, err := e.newCollection(ns, options, uuid)
	if err != nil {
		return err
	}
	e.st.Create(e.Batch(), coll)
	var o bsonval.Builder
	o.String("create", store.NameOf(ns)).All(coll.Options)
	if spec.ClusteredIndex(coll.Options) == nil {
		o.Doc("idIndex", spec.IDIndex(collation))
	}
	e.Log(oplog.Entry{Op: "c", NS: store.DBOf(ns) + ".$cmd", UI: uuid, O: o.Raw()})
	if c != nil {
		c.Wrote = true
		if c.tx != nil { // the transaction's copy gets it too
			twin, _, err := e.newCollection(ns, options, uuid)
			if err != nil {
				return err
			}
			c.tx.State.Create(nil, twin)
		}
	}
	return nil
}

func (e *Engine) newCollection(ns string, options bson.Raw, uuid [16]byte) (*store.Collection, bson.Raw, error) {
	if options == nil {
		options = new(bsonval.Builder).Raw()
	}
	v, _ := bsonval.Lookup(options, "collation")
	collation := bsonval.SubDoc(v)
	id := spec.IDIndex(collation)
	if s := spec.ClusteredIndex(options); s != nil {
		id = s
	}
	x, err := e.st.NewIndex(id)
	if err != nil {
		return nil, nil, err
	}
	return &store.Collection{NS: ns, UUID: uuid, Options: options, Indexes: []*store.Index{x}}, collation, nil
}

// Modify carries out collMod's fields; for a TTL index it gives the old and the new seconds. mu is held.
func (e *Engine) Modify(coll *store.Collection, o bson.Raw) (*[2]int64, error) {
	options := bsonval.Elems(coll.Options)
	var ttl *[2]int64
	for k, v := range bsonval.Each(o) {
		switch k {
		case "collMod":
		case "cappedSize", "cappedMax":
			if !coll.Capped {
				return nil, refuse.Errf(refuse.CodeInvalidOptions, "Collection must be capped.")
			}
			setOption(&options, map[string]string{"cappedSize": "size", "cappedMax": "max"}[k], v)
		case "expireAfterSeconds":
			if bsonval.Str(v) == "off" {
				options = slices.DeleteFunc(options, func(x bsonval.Elem) bool { return x.Key == k })
				continue
			}
			setOption(&options, k, v)
		case "prepareUnique", "dryRun":
		case "validator", "validationLevel", "validationAction", "viewOn", "pipeline", "changeStreamPreAndPostImages", "recordPreImages",
			"timeseries", "timeseriesBucketsMayHaveMixedSchemaData":
			if k == "validator" && len(v.Value) == emptyDocument {
				options = slices.DeleteFunc(options, func(x bsonval.Elem) bool { return x.Key == k })
				continue
			}
			setOption(&options, k, v)
		case "index":
			t, err := e.modifyIndex(coll, bsonval.SubDoc(v))
			if err != nil {
				return nil, err
			}
			ttl = t
		default:
			return nil, refuse.Errf(40415, "BSON field 'collMod.%s' is an unknown field.", k)
		}
	}
	e.st.SetOptions(e.Batch(), coll, bsonval.FromElems(options))
	return ttl, nil
}

// emptyDocument is the length of one.
const emptyDocument = 5

// setOption replaces an option or adds it.
func setOption(options *[]bsonval.Elem, name string, v bson.RawValue) {
	if i := slices.IndexFunc(*options, func(x bsonval.Elem) bool { return x.Key == name }); i >= 0 {
		(*options)[i].Value = v
		return
	}
	*options = append(*options, bsonval.Elem{Key: name, Value: v})
}

func (e *Engine) modifyIndex(coll *store.Collection, m bson.Raw) (*[2]int64, error) {
	pattern, byKey := bsonval.Lookup(m, "keyPattern")
	var x *store.Index
	for _, y := range coll.Indexes {
		key, _ := bsonval.Lookup(y.Spec, "key")
		if (byKey && bsonval.Equal(key, pattern)) || (!byKey && y.Name == bsonval.StringField(m, "name")) {
			x = y
		}
	}
	if x == nil {
		return nil, refuse.Errf(refuse.CodeIndexNotFound, "cannot find index %s for ns %s", bsonval.StringField(m, "name"), coll.NS)
	}
	es := bsonval.Elems(x.Spec)
	set := func(k string, v bson.RawValue) (old bson.RawValue) {
		for i := range es {
			if es[i].Key == k {
				old, es[i].Value = es[i].Value, v
				return old
			}
		}
		es = append(es, bsonval.Elem{Key: k, Value: v})
		return old
	}
	var ttl *[2]int64
	if v, ok := bsonval.Lookup(m, "expireAfterSeconds"); ok {
		n, _ := bsonval.Integer(v)
		was, _ := bsonval.Integer(set("expireAfterSeconds", bsonval.Int64(n)))
		ttl = &[2]int64{was, n}
	}
	unset := func(k string) { es = slices.DeleteFunc(es, func(x bsonval.Elem) bool { return x.Key == k }) }
	if v, ok := bsonval.Lookup(m, "hidden"); ok {
		if x.Primary {
			return nil, refuse.Errf(refuse.CodeBadValue, "can't hide _id index")
		}
		if unset("hidden"); bsonval.Truthy(v) {
			set("hidden", bsonval.Bool(true))
		}
	}
	if v, ok := bsonval.Lookup(m, "prepareUnique"); ok {
		if unset("prepareUnique"); bsonval.Truthy(v) {
			set("prepareUnique", bsonval.Bool(true))
		}
	}
	if v, ok := bsonval.Lookup(m, "unique"); ok && bsonval.Truthy(v) && !x.Unique {
		if !x.Prepared {
			return nil, refuse.Errf(refuse.CodeInvalidOptions, "Cannot make index unique with 'prepareUnique=false'. Run collMod to set it first.")
		}
		if dup := coll.Duplicates(x); dup != nil {
			return nil, refuse.Errf(359, "Cannot convert the index to unique. Please resolve conflicting documents before running collMod again.")
		}
		unset("prepareUnique")
		set("unique", bsonval.Bool(true))
	}
	if v, ok := bsonval.Lookup(m, "forceNonUnique"); ok && bsonval.Truthy(v) {
		unset("unique")
	}
	e.st.SetIndexSpec(e.Batch(), coll, x, bsonval.FromElems(es))
	return ttl, nil
}

// NewUUID makes a random UUID.
func NewUUID() [16]byte {
	var u [16]byte
	_, _ = rand.Read(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}
