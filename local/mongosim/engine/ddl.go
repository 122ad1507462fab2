package engine

import (
	"crypto/rand"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

func newUUID() [16]byte {
	var u [16]byte
	_, _ = rand.Read(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

func idIndexOf(collation bson.Raw) bson.Raw { return spec.IDIndex(collation) }

// checkNewName refuses names a collection cannot have.
func checkNewName(ns string) error {
	db, name := dbOf(ns), nameOf(ns)
	switch {
	case len(ns) > 255:
		return Errf(17381, "Fully qualified namespace is too long. Namespace: %s Max: 255", ns)
	case strings.Contains(name, "$"):
		return Errf(CodeInvalidNamespace, "invalid collection name")
	case db == "" || strings.ContainsAny(db, "/\\. \"$*<>:|?\x00") || len(db) > 63:
		return Errf(CodeInvalidNamespace, "Invalid namespace specified '%s'", ns)
	}
	if strings.HasPrefix(name, "system.") {
		switch name {
		case "system.views", "system.js", "system.profile", "system.users", "system.roles", "system.version", "system.keys",
			"system.indexBuilds", "system.sessions", "system.replset":
		default:
			return Errf(CodeInvalidNamespace, "cannot write to '%s'", ns)
		}
	}
	return nil
}

// createCollection makes a collection with an _id index and logs it; mu is held.
func (e *Engine) createCollection(ns string, options bson.Raw, uuid [16]byte, c *call) error {
	if err := checkNewName(ns); err != nil {
		return err
	}
	coll, collation, err := e.newCollection(ns, options, uuid)
	if err != nil {
		return err
	}
	e.st.Create(e.bt(), coll)
	var o bsonval.Builder
	o.String("create", nameOf(ns)).All(coll.Options).Doc("idIndex", idIndexOf(collation))
	e.log(OplogEntry{Op: "c", NS: dbOf(ns) + ".$cmd", UI: uuid, O: o.Raw()})
	if c != nil {
		c.wrote = true
		if c.tx != nil { // the transaction's copy gets it too
			twin, _, err := e.newCollection(ns, options, uuid)
			if err != nil {
				return err
			}
			c.tx.st.Create(nil, twin)
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
	x, err := e.st.NewIndex(idIndexOf(collation))
	if err != nil {
		return nil, nil, err
	}
	return &store.Collection{NS: ns, UUID: uuid, Options: options, Indexes: []*store.Index{x}}, collation, nil
}

func (c *call) create() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	var o bsonval.Builder
	view, capped := false, false
	for k, v := range bsonval.Each(c.cmd) {
		switch k {
		case "capped":
			if capped = bsonval.Truthy(v); capped {
				o.Value(k, v)
			}
		case "size", "max":
			n, ok := bsonval.Integer(v)
			if !ok {
				return nil, Errf(CodeTypeMismatch, "BSON field 'create.%s' is the wrong type '%s', expected types '[long, int, decimal, double]'", k, bsonval.TypeName(v.Type))
			}
			o.Value(k, bsonval.Int(n))
		case "collation":
			x, err := spec.Collation(bsonval.SubDoc(v))
			if err != nil {
				return nil, err
			}
			if x != nil {
				o.Doc(k, x)
			}
		case "validator":
			if _, err := match.Parse(bsonval.SubDoc(v), nil); err != nil {
				return nil, err
			}
			o.Value(k, v)
		case "viewOn":
			view = true
			o.Value(k, v)
		case "pipeline":
			if _, err := agg.Parse(subDocs(v)); err != nil {
				return nil, err
			}
			o.Value(k, v)
		case "validationLevel", "validationAction", "storageEngine", "indexOptionDefaults", "expireAfterSeconds",
			"changeStreamPreAndPostImages", "temp":
			o.Value(k, v)
		case "create", "idIndex", "autoIndexId", "flags":
		default:
			if !generic(k) && !strings.HasPrefix(k, "$") {
				return nil, Errf(40415, "BSON field 'create.%s' is an unknown field.", k)
			}
		}
	}
	options := o.Raw()
	if _, ok := bsonval.Lookup(options, "size"); capped && !ok {
		return nil, Errf(CodeInvalidOptions, "the 'size' field is required when 'capped' is true")
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	if c.st.Get(ns) != nil {
		return nil, Errf(CodeNamespaceExists, "Collection already exists. NS: %s", ns)
	}
	if err := checkNewName(ns); err != nil {
		return nil, err
	}
	if !view {
		return &bsonval.Builder{}, c.e.createCollection(ns, options, newUUID(), c)
	}
	views, err := c.writable(c.db+".system.views", true)
	if err != nil {
		return nil, err
	}
	doc := new(bsonval.Builder).String("_id", ns).All(options)
	if _, ok := bsonval.Lookup(options, "pipeline"); !ok {
		doc.Value("pipeline", bsonval.Array(nil))
	}
	return &bsonval.Builder{}, c.insertDoc(views, doc.Raw(), 0)
}

func (c *call) drop() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	coll := c.e.st.Get(ns)
	if coll == nil {
		return nil, Errf(CodeNamespaceNotFound, "ns not found")
	}
	var b bsonval.Builder
	if coll.View {
		views := c.e.st.Get(c.db + ".system.views")
		st := new(bsonval.Builder).Doc("q", new(bsonval.Builder).String("_id", ns).Raw()).Int32("limit", 1).Raw()
		if views != nil {
			if _, _, err := c.deleteOne(views.NS, st, nil, 0); err != nil {
				return nil, err
			}
		}
		return b.String("ns", ns), nil
	}
	n := len(coll.Indexes)
	c.dropCollection(coll)
	return b.Int32("nIndexesWas", int32(n)).String("ns", ns), nil
}

// dropCollection removes a collection and logs it; mu is held.
func (c *call) dropCollection(coll *store.Collection) {
	o := new(bsonval.Builder).String("drop", nameOf(coll.NS)).Raw()
	o2 := new(bsonval.Builder).Value("numRecords", bsonval.Int(int64(coll.Records.Len()))).Raw()
	c.e.st.Drop(c.e.bt(), coll)
	c.wrote = true
	c.e.log(OplogEntry{Op: "c", NS: dbOf(coll.NS) + ".$cmd", UI: coll.UUID, O: o, O2: o2})
}

func (c *call) dropDatabase() (*bsonval.Builder, error) {
	if c.db == "admin" || c.db == "local" || c.db == "config" {
		return nil, Errf(CodeIllegalOperation, "Dropping the '%s' database is prohibited.", c.db)
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	colls := c.e.st.Collections(c.db)
	for _, coll := range colls {
		if coll.View {
			c.e.st.Drop(c.e.bt(), coll)
			continue
		}
		c.dropCollection(coll)
	}
	var b bsonval.Builder
	if len(colls) > 0 {
		c.e.log(OplogEntry{Op: "c", NS: c.db + ".$cmd", O: new(bsonval.Builder).Int32("dropDatabase", 1).Raw()})
		b.String("dropped", c.db)
	}
	return &b, nil
}

func (c *call) createIndexes() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	list := c.arg("indexes")
	if list.Type != bson.TypeArray {
		return nil, Errf(CodeTypeMismatch, "The field 'indexes' must be an array, but got %s", bsonval.TypeName(list.Type))
	}
	docs := subDocs(list)
	if len(docs) == 0 {
		return nil, Errf(CodeBadValue, "Must specify at least one index to create")
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	st := c.e.st
	coll := st.Get(ns)
	if coll != nil && coll.View {
		return nil, Errf(166, "Namespace %s is a view, not a collection", ns)
	}
	var collation bson.Raw
	if coll != nil {
		v, _ := bsonval.Lookup(coll.Options, "collation")
		collation = bsonval.SubDoc(v)
	}
	var specs []bson.Raw
	for _, d := range docs {
		s, err := spec.Index(d, collation)
		if err != nil {
			return nil, err
		}
		if fresh, err := checkConflict(coll, s); err != nil {
			return nil, err
		} else if fresh {
			specs = append(specs, s)
		}
	}
	created := coll == nil
	if created {
		if coll, err = c.writable(ns, true); err != nil {
			return nil, err
		}
	}
	before := len(coll.Indexes)
	var b bsonval.Builder
	if len(specs) == 0 {
		return b.Int32("numIndexesBefore", int32(before)).Int32("numIndexesAfter", int32(before)).String("note", "all indexes already exist"), nil
	}
	if err := c.buildIndexes(coll, specs); err != nil {
		return nil, err
	}
	b.Bool("createdCollectionAutomatically", created)
	return b.Int32("numIndexesBefore", int32(before)).Int32("numIndexesAfter", int32(len(coll.Indexes))), nil
}

// checkConflict says whether an index is new, or refuses it beside one that is there.
func checkConflict(coll *store.Collection, s bson.Raw) (bool, error) {
	if coll == nil {
		return true, nil
	}
	key, _ := bsonval.Lookup(s, "key")
	name := stringValue(s, "name")
	for _, x := range coll.Indexes {
		k, _ := bsonval.Lookup(x.Spec, "key")
		same := bsonval.Equal(k, key)
		switch {
		case same && (x.Name == name || x.Name == "_id_"):
			if x.Name != "_id_" && !bsonval.Equal(bsonval.Doc(s), bsonval.Doc(x.Spec)) {
				return false, conflictError(s, x.Spec)
			}
			return false, nil
		case same && sameOptions(s, x.Spec):
			return false, Errf(CodeIndexOptionsConflict, "Index already exists with a different name: %s", x.Name)
		case x.Name == name:
			return false, conflictError(s, x.Spec)
		}
	}
	return true, nil
}

func conflictError(s, old bson.Raw) error {
	return Errf(CodeIndexKeySpecsConflict, "An existing index has the same name as the requested index. Requested index: %s, existing index: %s",
		bsonval.FormatDoc(s), bsonval.FormatDoc(old))
}

func sameOptions(a, b bson.Raw) bool {
	for _, k := range []string{"collation", "partialFilterExpression"} {
		x, _ := bsonval.Lookup(a, k)
		y, _ := bsonval.Lookup(b, k)
		if !bsonval.Same(x, y) {
			return false
		}
	}
	return true
}

// buildIndexes builds and logs: over documents as an index build, on an empty collection as a plain entry; mu is held.
func (c *call) buildIndexes(coll *store.Collection, specs []bson.Raw) error {
	e := c.e
	c.wrote = true
	cmdNS := dbOf(coll.NS) + ".$cmd"
	if coll.Records.Len() == 0 || e.o.HostPort == "" || e.o.NextOpTime == nil {
		if err := e.addIndexes(coll, specs); err != nil {
			return indexBuildError(coll, newUUID(), err)
		}
		for _, s := range specs {
			o := new(bsonval.Builder).String("createIndexes", nameOf(coll.NS)).All(s).Raw()
			e.log(OplogEntry{Op: "c", NS: cmdNS, UI: coll.UUID, O: o})
		}
		return nil
	}
	builds, err := e.indexBuilds()
	if err != nil {
		return err
	}
	build := newUUID()
	var names []bson.RawValue
	for _, s := range specs {
		names = append(names, bsonval.String(stringValue(s, "name")))
	}
	doc := new(bsonval.Builder).Value("_id", bsonval.UUID(build)).Value("collectionUUID", bsonval.UUID(coll.UUID)).Value("indexNames", bsonval.Array(names)).Raw()
	rid, err := e.st.Insert(e.bt(), builds, doc)
	if err != nil {
		return err
	}
	e.log(OplogEntry{Op: "i", NS: builds.NS, UI: builds.UUID, O: doc})
	entry := func(op string) *bsonval.Builder {
		return new(bsonval.Builder).String(op, nameOf(coll.NS)).Value("indexBuildUUID", bsonval.UUID(build)).Docs("indexes", specs)
	}
	e.log(OplogEntry{Op: "c", NS: cmdNS, UI: coll.UUID, O: entry("startIndexBuild").Raw()})
	failed := e.addIndexes(coll, specs)
	ready := bsonval.Array([]bson.RawValue{bsonval.String(e.o.HostPort)})
	set := new(bsonval.Builder).Int32("$v", 1).Doc("$set", new(bsonval.Builder).Value("commitReadyMembers", ready).Raw()).Raw()
	e.log(OplogEntry{Op: "u", NS: builds.NS, UI: builds.UUID, O: set, O2: new(bsonval.Builder).Value("_id", bsonval.UUID(build)).Raw()})
	e.st.Remove(e.bt(), builds, rid)
	if failed == nil {
		e.log(OplogEntry{Op: "c", NS: cmdNS, UI: coll.UUID, O: entry("commitIndexBuild").Raw()})
		return nil
	}
	for _, s := range specs { // what was built before the one that failed
		if x := coll.Index(stringValue(s, "name")); x != nil {
			e.st.DropIndex(e.bt(), coll, x)
		}
	}
	r := Refusal(failed)
	cause := new(bsonval.Builder).Bool("ok", false).Int32("code", r.Code).String("codeName", CodeName(r.Code)).String("errmsg", r.Msg).All(r.Extra).Raw()
	e.log(OplogEntry{Op: "c", NS: cmdNS, UI: coll.UUID, O: entry("abortIndexBuild").Doc("cause", cause).Raw()})
	return indexBuildError(coll, build, failed)
}

func indexBuildError(coll *store.Collection, build [16]byte, err error) error {
	r := *Refusal(err)
	r.Msg = "Index build failed: " + bsonval.FormatUUID(build) + ": Collection " + coll.NS + " ( " + bsonval.FormatUUID(coll.UUID) + " ) :: caused by :: " + r.Msg
	return &r
}

// indexBuilds is the collection of running index builds. Its making is not logged separately from the first build.
func (e *Engine) indexBuilds() (*store.Collection, error) {
	const ns = "config.system.indexBuilds"
	if c := e.st.Get(ns); c != nil {
		return c, nil
	}
	if err := e.createCollection(ns, nil, newUUID(), nil); err != nil {
		return nil, err
	}
	return e.st.Get(ns), nil
}

func (c *call) dropIndexes() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	coll := c.e.st.Get(ns)
	if coll == nil || coll.View {
		return nil, Errf(CodeNamespaceNotFound, "ns not found")
	}
	was := int32(len(coll.Indexes))
	index := c.arg("index")
	var gone []*store.Index
	var b bsonval.Builder
	b.Int32("nIndexesWas", was)
	all := bsonval.Str(index) == "*"
	wanted := []bson.RawValue{index}
	if index.Type == bson.TypeArray {
		wanted = bsonval.Values(bson.Raw(index.Value))
	}
	for _, w := range wanted {
		hit := false
		for _, x := range coll.Indexes {
			key, _ := bsonval.Lookup(x.Spec, "key")
			if (all && x.Name != "_id_") || (w.Type == bson.TypeString && x.Name == bsonval.Str(w)) ||
				(w.Type == bson.TypeEmbeddedDocument && bsonval.Equal(key, w)) {
				gone, hit = append(gone, x), true
			}
		}
		if !hit && !all {
			if w.Type == bson.TypeString {
				return nil, Errf(CodeIndexNotFound, "index not found with name [%s]", bsonval.Str(w))
			}
			return nil, Errf(CodeIndexNotFound, "can't find index with key: %s", bsonval.Format(w))
		}
	}
	if slices.ContainsFunc(gone, func(x *store.Index) bool { return x.Name == "_id_" }) {
		return nil, Errf(CodeInvalidOptions, "cannot drop _id index")
	}
	for _, x := range gone {
		c.e.st.DropIndex(c.e.bt(), coll, x)
		c.wrote = true
		o := new(bsonval.Builder).String("dropIndexes", nameOf(ns)).String("index", x.Name).Raw()
		var o2 bsonval.Builder
		for k, v := range bsonval.Each(x.Spec) {
			o2.Value(k, v)
		}
		c.e.log(OplogEntry{Op: "c", NS: c.db + ".$cmd", UI: coll.UUID, O: o, O2: o2.Raw()})
	}
	if all {
		b.String("msg", "non-_id indexes dropped for collection")
	}
	return &b, nil
}

func (c *call) collMod() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	coll := c.e.st.Get(ns)
	if coll == nil {
		return nil, Errf(CodeNamespaceNotFound, "ns does not exist")
	}
	var o, old bsonval.Builder
	o.String("collMod", nameOf(ns))
	for k, v := range bsonval.Each(c.cmd) {
		if k == "collMod" || generic(k) || strings.HasPrefix(k, "$") {
			continue
		}
		if k == "index" { // the oplog carries numbers as longs
			var i bsonval.Builder
			for ik, iv := range bsonval.Each(bsonval.SubDoc(v)) {
				if n, ok := bsonval.Integer(iv); ok {
					iv = bsonval.Int64(n)
				}
				i.Value(ik, iv)
			}
			v = bsonval.Doc(i.Raw())
		}
		o.Value(k, v)
	}
	entry := o.Raw()
	old.Doc("collectionOptions_old", new(bsonval.Builder).Value("uuid", bsonval.UUID(coll.UUID)).All(coll.Options).Raw())
	ttl, err := c.e.modify(coll, entry)
	if err != nil {
		return nil, err
	}
	c.wrote = true
	var b bsonval.Builder
	if ttl != nil {
		old.Int64("expireAfterSeconds_old", ttl[0])
		b.Value("expireAfterSeconds_old", bsonval.Int(ttl[0])).Value("expireAfterSeconds_new", bsonval.Int(ttl[1]))
	}
	c.e.log(OplogEntry{Op: "c", NS: c.db + ".$cmd", UI: coll.UUID, O: entry, O2: old.Raw()})
	return &b, nil
}

// modify carries out collMod's fields; for a TTL index it gives the old and the new seconds. mu is held.
func (e *Engine) modify(coll *store.Collection, o bson.Raw) (*[2]int64, error) {
	options := bsonval.Elems(coll.Options)
	var ttl *[2]int64
	for k, v := range bsonval.Each(o) {
		switch k {
		case "collMod":
		case "validator", "validationLevel", "validationAction", "viewOn", "pipeline", "changeStreamPreAndPostImages":
			if i := slices.IndexFunc(options, func(x bsonval.Elem) bool { return x.Key == k }); i >= 0 {
				options[i].Value = v
			} else {
				options = append(options, bsonval.Elem{Key: k, Value: v})
			}
		case "index":
			t, err := e.modifyIndex(coll, bsonval.SubDoc(v))
			if err != nil {
				return nil, err
			}
			ttl = t
		default:
			return nil, Errf(40415, "BSON field 'collMod.%s' is an unknown field.", k)
		}
	}
	e.st.SetOptions(e.bt(), coll, bsonval.FromElems(options))
	return ttl, nil
}

func (e *Engine) modifyIndex(coll *store.Collection, m bson.Raw) (*[2]int64, error) {
	pattern, byKey := bsonval.Lookup(m, "keyPattern")
	var x *store.Index
	for _, y := range coll.Indexes {
		key, _ := bsonval.Lookup(y.Spec, "key")
		if (byKey && bsonval.Equal(key, pattern)) || (!byKey && y.Name == stringValue(m, "name")) {
			x = y
		}
	}
	if x == nil {
		return nil, Errf(CodeIndexNotFound, "cannot find index %s for ns %s", stringValue(m, "name"), coll.NS)
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
	if v, ok := bsonval.Lookup(m, "hidden"); ok {
		set("hidden", v)
	}
	e.st.SetIndexSpec(e.bt(), coll, x, bsonval.FromElems(es))
	return ttl, nil
}

func (c *call) renameCollection() (*bsonval.Builder, error) {
	from, to := bsonval.Str(c.arg("renameCollection")), bsonval.Str(c.arg("to"))
	if !strings.Contains(from, ".") || !strings.Contains(to, ".") {
		return nil, Errf(CodeInvalidNamespace, "Invalid namespace specified '%s'", to)
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	coll := c.e.st.Get(from)
	if coll == nil {
		return nil, Errf(CodeNamespaceNotFound, "Source collection %s does not exist", from)
	}
	if err := checkNewName(to); err != nil {
		return nil, err
	}
	if dbOf(from) != dbOf(to) {
		return nil, Errf(CodeInvalidOptions, "renaming between databases is not simulated")
	}
	var target *store.Collection
	if target = c.e.st.Get(to); target != nil && !bsonval.Truthy(c.arg("dropTarget")) {
		return nil, Errf(CodeNamespaceExists, "target namespace exists")
	}
	c.rename(coll, target, to)
	return &bsonval.Builder{}, nil
}

// rename renames over a target and logs it; mu is held.
func (c *call) rename(coll, target *store.Collection, to string) {
	o := new(bsonval.Builder).String("renameCollection", coll.NS).String("to", to).Bool("stayTemp", false)
	var o2 bson.Raw
	if target != nil {
		o.Value("dropTarget", bsonval.UUID(target.UUID))
		o2 = new(bsonval.Builder).Value("numRecords", bsonval.Int(int64(target.Records.Len()))).Raw()
		c.e.st.Drop(c.e.bt(), target)
	} else {
		o.Bool("dropTarget", false)
	}
	ns := dbOf(coll.NS) + ".$cmd"
	c.e.st.Rename(c.e.bt(), coll, to)
	c.wrote = true
	c.e.log(OplogEntry{Op: "c", NS: ns, UI: coll.UUID, O: o.Raw(), O2: o2})
}

func (c *call) convertToCapped() (*bsonval.Builder, error) {
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	size, ok := bsonval.Integer(c.arg("size"))
	if !ok || size <= 0 {
		return nil, Errf(CodeInvalidOptions, "Capped collection size must be greater than zero")
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.unlock()
	coll := c.e.st.Get(ns)
	if coll == nil || coll.View {
		return nil, Errf(CodeNamespaceNotFound, "source collection %s does not exist", ns)
	}
	tmp := c.db + ".tmp" + rand.Text()[:5] + ".convertToCapped." + nameOf(ns)
	options := new(bsonval.Builder).Bool("capped", true).Value("size", bsonval.Int(size)).Bool("temp", true).Raw()
	if err := c.e.createCollection(tmp, options, newUUID(), c); err != nil {
		return nil, err
	}
	fresh := c.e.st.Get(tmp)
	for _, doc := range coll.Records.Ascend(0) {
		if _, err := c.e.st.Insert(c.e.bt(), fresh, doc); err != nil {
			return nil, err
		}
		c.e.log(OplogEntry{Op: "i", NS: tmp, UI: fresh.UUID, O: doc, FromMigrate: true})
		c.e.trim(fresh)
	}
	c.rename(fresh, coll, ns)
	c.e.st.SetOptions(c.e.bt(), fresh, new(bsonval.Builder).Bool("capped", true).Value("size", bsonval.Int(size)).Raw())
	return &bsonval.Builder{}, nil
}
