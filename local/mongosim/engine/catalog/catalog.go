// Package catalog makes and changes collections, views and indexes in a state: by command, and as the oplog tells. It owns no state
// and writes no oplog; its caller holds the member's lock.
package catalog

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
)

// Apply carries out a command of the oplog that changes the catalog. It is lenient as replay must be: what is already so stays so.
func Apply(st *store.State, b *store.Batch, x oplog.Entry) error {
	db := store.DBOf(x.NS)
	name := bsonval.FirstKey(x.O)
	first, _ := bsonval.Lookup(x.O, name)
	coll := st.ByUUID(x.UI)
	switch name {
	case "create":
		if coll != nil {
			return nil
		}
		ns := db + "." + bsonval.Str(first)
		if old := st.Get(ns); old != nil {
			st.Drop(b, old)
		}
		return Entry(st, b, ns, x.UI, x.O)
	case "drop":
		if coll != nil {
			st.Drop(b, coll)
		}
		return nil
	case "dropDatabase":
		return nil
	case "renameCollection":
		to, _ := bsonval.Lookup(x.O, "to")
		if coll == nil {
			coll = st.Get(bsonval.Str(first))
		}
		if coll == nil || coll.NS == bsonval.Str(to) {
			return nil
		}
		if target := st.Get(bsonval.Str(to)); target != nil {
			st.Drop(b, target)
		}
		st.Rename(b, coll, bsonval.Str(to))
		return nil
	case "createIndexes":
		if coll == nil {
			return nil
		}
		var o bsonval.Builder
		for k, v := range bsonval.Each(x.O) {
			if k != "createIndexes" {
				o.Value(k, v)
			}
		}
		return AddIndexes(st, b, coll, []bson.Raw{o.Raw()})
	case "commitIndexBuild":
		specs, _ := bsonval.Lookup(x.O, "indexes")
		var docs []bson.Raw
		for _, v := range bsonval.Each(bsonval.SubDoc(specs)) {
			docs = append(docs, bsonval.SubDoc(v))
		}
		if coll == nil {
			return nil
		}
		return AddIndexes(st, b, coll, docs)
	case "dropIndexes", "deleteIndex", "deleteIndexes", "dropIndex":
		index, _ := bsonval.Lookup(x.O, "index")
		if coll == nil {
			return nil
		}
		if i := coll.Index(bsonval.Str(index)); i != nil {
			st.DropIndex(b, coll, i)
		}
		return nil
	case "collMod":
		if coll == nil {
			return nil
		}
		_, err := Modify(st, b, coll, x.O)
		return err
	case "startIndexBuild", "abortIndexBuild", "commitTransaction", "abortTransaction", "dbCheck":
		return nil
	}
	return fmt.Errorf("unknown command %q in the oplog", name)
}

// AddIndexes builds indexes that are not there yet.
func AddIndexes(st *store.State, b *store.Batch, coll *store.Collection, specs []bson.Raw) error {
	for _, s := range specs {
		if coll.Index(bsonval.StringField(s, "name")) != nil {
			continue
		}
		i, err := st.NewIndex(s)
		if err != nil {
			return err
		}
		if err := st.AddIndex(b, coll, i); err != nil {
			return err
		}
	}
	return nil
}

// Entry makes a collection as a create entry tells it.
func Entry(st *store.State, b *store.Batch, ns string, uuid [16]byte, o bson.Raw) error {
	var options bsonval.Builder
	coll := &store.Collection{NS: ns, UUID: uuid}
	for k, v := range bsonval.Each(o) {
		switch k {
		case "create":
		case "idIndex":
			i, err := st.NewIndex(bsonval.SubDoc(v))
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
		i, err := st.NewIndex(s)
		if err != nil {
			return err
		}
		coll.Indexes = []*store.Index{i}
	}
	st.Create(b, coll)
	return nil
}

// View keeps views in step with the documents of system.views.
func View(st *store.State, b *store.Batch, coll *store.Collection, doc bson.Raw, removed bool) {
	if !strings.HasSuffix(coll.NS, ".system.views") {
		return
	}
	name := bsonval.StringField(doc, "_id")
	old := st.Get(name)
	if old != nil && old.View {
		st.Drop(b, old)
		old = nil
	}
	if removed || old != nil || name == "" {
		return
	}
	var o bsonval.Builder
	for k, v := range bsonval.Each(doc) {
		if k != "_id" {
			o.Value(k, v)
		}
	}
	st.Create(b, &store.Collection{NS: name, UUID: NewUUID(), Options: o.Raw()})
}

// New makes a collection with its _id index, not yet in any state. It gives the collation too.
func New(st *store.State, ns string, options bson.Raw, uuid [16]byte) (*store.Collection, bson.Raw, error) {
	if options == nil {
		options = new(bsonval.Builder).Raw()
	}
	v, _ := bsonval.Lookup(options, "collation")
	collation := bsonval.SubDoc(v)
	id := spec.IDIndex(collation)
	if s := spec.ClusteredIndex(options); s != nil {
		id = s
	}
	x, err := st.NewIndex(id)
	if err != nil {
		return nil, nil, err
	}
	return &store.Collection{NS: ns, UUID: uuid, Options: options, Indexes: []*store.Index{x}}, collation, nil
}

// Modify carries out collMod's fields; for a TTL index it gives the old and the new seconds.
func Modify(st *store.State, b *store.Batch, coll *store.Collection, o bson.Raw) (*[2]int64, error) {
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
		case "timeseries":
			was, ok := bsonval.Lookup(coll.Options, k)
			if !ok {
				return nil, refuse.Errf(refuse.CodeInvalidOptions, "option only supported on a time-series collection: timeseries")
			}
			next, err := spec.ModifySeries(bsonval.SubDoc(was), bsonval.SubDoc(v))
			if err != nil {
				return nil, err
			}
			setOption(&options, k, bsonval.Doc(next))
		case "validator", "validationLevel", "validationAction", "viewOn", "pipeline", "changeStreamPreAndPostImages", "recordPreImages",
			"timeseriesBucketsMayHaveMixedSchemaData":
			if k == "validator" && len(v.Value) == emptyDocument {
				options = slices.DeleteFunc(options, func(x bsonval.Elem) bool { return x.Key == k })
				continue
			}
			setOption(&options, k, v)
		case "index":
			t, err := modifyIndex(st, b, coll, bsonval.SubDoc(v))
			if err != nil {
				return nil, err
			}
			ttl = t
		default:
			return nil, refuse.Errf(40415, "BSON field 'collMod.%s' is an unknown field.", k)
		}
	}
	st.SetOptions(b, coll, bsonval.FromElems(options))
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

func modifyIndex(st *store.State, b *store.Batch, coll *store.Collection, m bson.Raw) (*[2]int64, error) {
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
	st.SetIndexSpec(b, coll, x, bsonval.FromElems(es))
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
