// Package ddl is the commands that make, change, drop and list collections, views and indexes, and applyOps. It owns no
// state; a member.Call gives it the member to work on.
package ddl

import (
	"crypto/rand"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/view"
)

// Create is the command create.
func Create(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	var o bsonval.Builder
	var series bson.Raw
	isView, capped := false, false
	for k, v := range bsonval.Each(c.Cmd) {
		switch k {
		case "capped":
			if capped = bsonval.Truthy(v); capped {
				o.Value(k, v)
			}
		case "size", "max":
			n, ok := bsonval.Integer(v)
			if !ok {
				return nil, refuse.Errf(refuse.CodeTypeMismatch, "BSON field 'create.%s' is the wrong type '%s', expected types '[long, int, decimal, double]'", k, bsonval.TypeName(v.Type))
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
			isView = true
			o.Value(k, v)
		case "pipeline":
			if err := view.Check(bsonval.SubDocs(v)); err != nil {
				return nil, err
			}
			o.Value(k, v)
		case "timeseries":
			if !c.E.Options().Version.AtLeast(5, 0) {
				return nil, refuse.Errf(40415, "BSON field 'create.timeseries' is an unknown field.")
			}
			if series, err = spec.TimeSeries(bsonval.SubDoc(v)); err != nil {
				return nil, err
			}
		case "clusteredIndex":
			if v, err = spec.Clustered(v); err != nil {
				return nil, err
			}
			o.Value(k, v)
		case "validationLevel", "validationAction", "storageEngine", "indexOptionDefaults", "expireAfterSeconds",
			"changeStreamPreAndPostImages", "recordPreImages", "encryptedFields", "temp":
			o.Value(k, v)
		case "create", "idIndex", "autoIndexId", "flags":
		default:
			if !member.Generic(k) && !strings.HasPrefix(k, "$") {
				return nil, refuse.Errf(40415, "BSON field 'create.%s' is an unknown field.", k)
			}
		}
	}
	options := o.Raw()
	if _, ok := bsonval.Lookup(options, "size"); capped && !ok {
		return nil, refuse.Errf(refuse.CodeInvalidOptions, "the 'size' field is required when 'capped' is true")
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	if c.State.Get(ns) != nil {
		return nil, refuse.Errf(refuse.CodeNamespaceExists, "Collection already exists. NS: %s", ns)
	}
	if err := spec.CheckName(ns); err != nil {
		return nil, err
	}
	switch {
	case isView:
		return &bsonval.Builder{}, view.Create(c, ns, options)
	case series != nil:
		return &bsonval.Builder{}, createSeries(c, ns, series, options)
	}
	return &bsonval.Builder{}, c.E.CreateCollection(ns, options, member.NewUUID(), c)
}

// createSeries makes a time series: the collection of its buckets and the view that shows them, and from 6.3 on the index over both fields.
func createSeries(c *member.Call, ns string, series, options bson.Raw) error {
	buckets, err := view.CreateSeries(c, ns, series, options)
	if err != nil || buckets == nil || bsonval.StringField(series, "metaField") == "" || !c.E.Options().Version.AtLeast(6, 3) {
		return err
	}
	meta, at := bsonval.StringField(series, "metaField"), bsonval.StringField(series, "timeField")
	key := view.IndexKey(series, new(bsonval.Builder).Int32(meta, 1).Int32(at, 1).Raw())
	index, err := spec.Index(new(bsonval.Builder).Doc("key", key).String("name", meta+"_1_"+at+"_1").Raw(), nil)
	if err != nil {
		return err
	}
	return buildIndexes(c, buckets, []bson.Raw{index})
}

// Drop is the command drop.
func Drop(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	coll := c.E.Main().Get(ns)
	if coll == nil {
		return nil, refuse.Errf(refuse.CodeNamespaceNotFound, "ns not found")
	}
	var b bsonval.Builder
	if coll.View {
		buckets := view.Buckets(c.E.Main(), coll)
		if err := view.Drop(c, ns); err != nil {
			return nil, err
		}
		if buckets != nil {
			dropCollection(c, buckets)
		}
		return b.String("ns", ns), nil
	}
	n := len(coll.Indexes)
	dropCollection(c, coll)
	return b.Int32("nIndexesWas", int32(n)).String("ns", ns), nil
}

// dropCollection removes a collection and logs it; mu is held.
func dropCollection(c *member.Call, coll *store.Collection) {
	o := new(bsonval.Builder).String("drop", store.NameOf(coll.NS)).Raw()
	o2 := new(bsonval.Builder).Value("numRecords", bsonval.Int(int64(coll.Records.Len()))).Raw()
	c.E.Main().Drop(c.E.Batch(), coll)
	c.Wrote = true
	c.E.Log(oplog.Entry{Op: "c", NS: store.DBOf(coll.NS) + ".$cmd", UI: coll.UUID, O: o, O2: o2})
}

// DropDatabase is the command dropDatabase.
func DropDatabase(c *member.Call) (*bsonval.Builder, error) {
	if c.DB == "admin" || c.DB == "local" || c.DB == "config" {
		return nil, refuse.Errf(refuse.CodeIllegalOperation, "Dropping the '%s' database is prohibited.", c.DB)
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	colls := c.E.Main().Collections(c.DB)
	for _, coll := range colls {
		if coll.View {
			c.E.Main().Drop(c.E.Batch(), coll)
			continue
		}
		dropCollection(c, coll)
	}
	var b bsonval.Builder
	if len(colls) > 0 {
		c.E.Log(oplog.Entry{Op: "c", NS: c.DB + ".$cmd", O: new(bsonval.Builder).Int32("dropDatabase", 1).Raw()})
		b.String("dropped", c.DB)
	}
	return &b, nil
}

// CreateIndexes is the command createIndexes.
func CreateIndexes(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	list := c.Arg("indexes")
	if list.Type != bson.TypeArray {
		return nil, refuse.Errf(refuse.CodeTypeMismatch, "The field 'indexes' must be an array, but got %s", bsonval.TypeName(list.Type))
	}
	docs := bsonval.SubDocs(list)
	if len(docs) == 0 {
		return nil, refuse.Errf(refuse.CodeBadValue, "Must specify at least one index to create")
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	st := c.E.Main()
	coll := st.Get(ns)
	if buckets := view.Buckets(st, coll); buckets != nil {
		coll, docs = buckets, view.Indexes(buckets, docs)
	}
	if coll != nil && coll.View {
		return nil, refuse.Errf(166, "Namespace %s is a view, not a collection", ns)
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
		if coll, err = c.Writable(ns, true); err != nil {
			return nil, err
		}
	}
	before := len(coll.Indexes)
	var b bsonval.Builder
	if len(specs) == 0 {
		return b.Int32("numIndexesBefore", int32(before)).Int32("numIndexesAfter", int32(before)).String("note", "all indexes already exist"), nil
	}
	if err := buildIndexes(c, coll, specs); err != nil {
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
	name := bsonval.StringField(s, "name")
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
			return false, refuse.Errf(refuse.CodeIndexOptionsConflict, "Index already exists with a different name: %s", x.Name)
		case x.Name == name:
			return false, conflictError(s, x.Spec)
		}
	}
	return true, nil
}

func conflictError(s, old bson.Raw) error {
	return refuse.Errf(refuse.CodeIndexKeySpecsConflict, "An existing index has the same name as the requested index. Requested index: %s, existing index: %s",
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
func buildIndexes(c *member.Call, coll *store.Collection, specs []bson.Raw) error {
	e := c.E
	c.Wrote = true
	cmdNS := store.DBOf(coll.NS) + ".$cmd"
	if coll.Records.Len() == 0 || e.Options().HostPort == "" || e.Options().NextOpTime == nil || !e.Options().Version.AtLeast(4, 4) {
		if err := e.AddIndexes(coll, specs); err != nil {
			return indexBuildError(coll, member.NewUUID(), err)
		}
		for _, s := range specs {
			o := new(bsonval.Builder).String("createIndexes", store.NameOf(coll.NS)).All(s).Raw()
			e.Log(oplog.Entry{Op: "c", NS: cmdNS, UI: coll.UUID, O: o})
		}
		return nil
	}
	builds, err := indexBuilds(e)
	if err != nil {
		return err
	}
	build := member.NewUUID()
	var names []bson.RawValue
	for _, s := range specs {
		names = append(names, bsonval.String(bsonval.StringField(s, "name")))
	}
	doc := new(bsonval.Builder).Value("_id", bsonval.UUID(build)).Value("collectionUUID", bsonval.UUID(coll.UUID)).Value("indexNames", bsonval.Array(names)).Raw()
	rid, err := e.Main().Insert(e.Batch(), builds, doc)
	if err != nil {
		return err
	}
	e.Log(oplog.Entry{Op: "i", NS: builds.NS, UI: builds.UUID, O: doc})
	entry := func(op string) *bsonval.Builder {
		return new(bsonval.Builder).String(op, store.NameOf(coll.NS)).Value("indexBuildUUID", bsonval.UUID(build)).Docs("indexes", specs)
	}
	e.Log(oplog.Entry{Op: "c", NS: cmdNS, UI: coll.UUID, O: entry("startIndexBuild").Raw()})
	failed := e.AddIndexes(coll, specs)
	ready := bsonval.Array([]bson.RawValue{bsonval.String(e.Options().HostPort)})
	set := new(bsonval.Builder).Int32("$v", 1).Doc("$set", new(bsonval.Builder).Value("commitReadyMembers", ready).Raw()).Raw()
	e.Log(oplog.Entry{Op: "u", NS: builds.NS, UI: builds.UUID, O: set, O2: new(bsonval.Builder).Value("_id", bsonval.UUID(build)).Raw()})
	e.Main().Remove(e.Batch(), builds, rid)
	if failed == nil {
		e.Log(oplog.Entry{Op: "c", NS: cmdNS, UI: coll.UUID, O: entry("commitIndexBuild").Raw()})
		return nil
	}
	for _, s := range specs { // what was built before the one that failed
		if x := coll.Index(bsonval.StringField(s, "name")); x != nil {
			e.Main().DropIndex(e.Batch(), coll, x)
		}
	}
	r := refuse.Of(failed)
	cause := new(bsonval.Builder).Bool("ok", false).Int32("code", r.Code).String("codeName", refuse.CodeName(r.Code)).String("errmsg", r.Msg).All(r.Extra).Raw()
	e.Log(oplog.Entry{Op: "c", NS: cmdNS, UI: coll.UUID, O: entry("abortIndexBuild").Doc("cause", cause).Raw()})
	return indexBuildError(coll, build, failed)
}

func indexBuildError(coll *store.Collection, build [16]byte, err error) error {
	r := *refuse.Of(err)
	r.Msg = "Index build failed: " + bsonval.FormatUUID(build) + ": Collection " + coll.NS + " ( " + bsonval.FormatUUID(coll.UUID) + " ) :: caused by :: " + r.Msg
	return &r
}

// indexBuilds is the collection of running index builds. Its making is not logged separately from the first build.
func indexBuilds(e *member.Engine) (*store.Collection, error) {
	const ns = "config.system.indexBuilds"
	if c := e.Main().Get(ns); c != nil {
		return c, nil
	}
	if err := e.CreateCollection(ns, nil, member.NewUUID(), nil); err != nil {
		return nil, err
	}
	return e.Main().Get(ns), nil
}

// DropIndexes is the command dropIndexes.
func DropIndexes(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	coll := c.E.Main().Get(ns)
	if buckets := view.Buckets(c.E.Main(), coll); buckets != nil {
		coll = buckets
	}
	if coll == nil || coll.View {
		return nil, refuse.Errf(refuse.CodeNamespaceNotFound, "ns not found")
	}
	was := int32(len(coll.Indexes))
	index := c.Arg("index")
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
				return nil, refuse.Errf(refuse.CodeIndexNotFound, "index not found with name [%s]", bsonval.Str(w))
			}
			return nil, refuse.Errf(refuse.CodeIndexNotFound, "can't find index with key: %s", bsonval.Format(w))
		}
	}
	if slices.ContainsFunc(gone, func(x *store.Index) bool { return x.Name == "_id_" }) {
		return nil, refuse.Errf(refuse.CodeInvalidOptions, "cannot drop _id index")
	}
	for _, x := range gone {
		c.E.Main().DropIndex(c.E.Batch(), coll, x)
		c.Wrote = true
		o := new(bsonval.Builder).String("dropIndexes", store.NameOf(coll.NS)).String("index", x.Name).Raw()
		var o2 bsonval.Builder
		for k, v := range bsonval.Each(x.Spec) {
			o2.Value(k, v)
		}
		c.E.Log(oplog.Entry{Op: "c", NS: c.DB + ".$cmd", UI: coll.UUID, O: o, O2: o2.Raw()})
	}
	if all {
		b.String("msg", "non-_id indexes dropped for collection")
	}
	return &b, nil
}

// CollMod is the command collMod.
func CollMod(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	coll := c.E.Main().Get(ns)
	if coll == nil {
		return nil, refuse.Errf(refuse.CodeNamespaceNotFound, "ns does not exist")
	}
	switch buckets := view.Buckets(c.E.Main(), coll); {
	case buckets != nil:
		if err := view.ModifySeries(c, coll, buckets); err != nil {
			return nil, err
		}
		coll = buckets
	case coll.View:
		return &bsonval.Builder{}, view.Modify(c, coll, c.Cmd)
	}
	var o, old bsonval.Builder
	o.String("collMod", store.NameOf(coll.NS))
	for k, v := range bsonval.Each(c.Cmd) {
		if k == "collMod" || member.Generic(k) || strings.HasPrefix(k, "$") {
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
	ttl, err := c.E.Modify(coll, entry)
	if err != nil {
		return nil, err
	}
	c.Wrote = true
	var b bsonval.Builder
	if ttl != nil {
		old.Int64("expireAfterSeconds_old", ttl[0])
		b.Value("expireAfterSeconds_old", bsonval.Int(ttl[0])).Value("expireAfterSeconds_new", bsonval.Int(ttl[1]))
	}
	c.E.Log(oplog.Entry{Op: "c", NS: c.DB + ".$cmd", UI: coll.UUID, O: entry, O2: old.Raw()})
	return &b, nil
}

// RenameCollection is the command renameCollection.
func RenameCollection(c *member.Call) (*bsonval.Builder, error) {
	from, to := bsonval.Str(c.Arg("renameCollection")), bsonval.Str(c.Arg("to"))
	if !strings.Contains(from, ".") || !strings.Contains(to, ".") {
		return nil, refuse.Errf(refuse.CodeInvalidNamespace, "Invalid namespace specified '%s'", to)
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	coll := c.E.Main().Get(from)
	if coll == nil {
		return nil, refuse.Errf(refuse.CodeNamespaceNotFound, "Source collection %s does not exist", from)
	}
	if err := spec.CheckName(to); err != nil {
		return nil, err
	}
	if from == to {
		return nil, refuse.Errf(refuse.CodeIllegalOperation, "Can't rename a collection to itself")
	}
	var target *store.Collection
	if target = c.E.Main().Get(to); target != nil && !bsonval.Truthy(c.Arg("dropTarget")) {
		return nil, refuse.Errf(refuse.CodeNamespaceExists, "target namespace exists")
	}
	if coll.View {
		return nil, refuse.Errf(166, "Cannot rename a view: %s", from)
	}
	if target != nil && target.View {
		return nil, refuse.Errf(refuse.CodeNamespaceExists, "a view already exists with that name: %s", to)
	}
	if store.DBOf(from) != store.DBOf(to) {
		return &bsonval.Builder{}, renameAcross(c, coll, target, to)
	}
	rename(c, coll, target, to)
	return &bsonval.Builder{}, nil
}

// renameAcross moves a collection to another database: a copy under a name of its own takes the target's place, and the
// collection is dropped; mu is held.
func renameAcross(c *member.Call, coll, target *store.Collection, to string) error {
	tmp := store.DBOf(to) + ".tmp" + rand.Text()[:5] + ".renameCollection"
	if err := c.E.CreateCollection(tmp, coll.Options, member.NewUUID(), c); err != nil {
		return err
	}
	fresh := c.E.Main().Get(tmp)
	var specs []bson.Raw
	for _, x := range coll.Indexes {
		if !x.Primary {
			specs = append(specs, x.Spec)
		}
	}
	if err := buildIndexes(c, fresh, specs); err != nil {
		return err
	}
	for _, doc := range coll.Records.Ascend(0) {
		if _, err := c.E.Main().Insert(c.E.Batch(), fresh, doc); err != nil {
			return err
		}
		c.E.Log(oplog.Entry{Op: "i", NS: tmp, UI: fresh.UUID, O: doc, FromMigrate: true})
	}
	rename(c, fresh, target, to)
	dropCollection(c, coll)
	return nil
}

// rename renames over a target and logs it; mu is held.
func rename(c *member.Call, coll, target *store.Collection, to string) {
	o := new(bsonval.Builder).String("renameCollection", coll.NS).String("to", to).Bool("stayTemp", false)
	var o2 bson.Raw
	if target != nil {
		o.Value("dropTarget", bsonval.UUID(target.UUID))
		o2 = new(bsonval.Builder).Value("numRecords", bsonval.Int(int64(target.Records.Len()))).Raw()
		c.E.Main().Drop(c.E.Batch(), target)
	}
	ns := store.DBOf(coll.NS) + ".$cmd"
	c.E.Main().Rename(c.E.Batch(), coll, to)
	c.Wrote = true
	c.E.Log(oplog.Entry{Op: "c", NS: ns, UI: coll.UUID, O: o.Raw(), O2: o2})
}

// ConvertToCapped is the command convertToCapped.
func ConvertToCapped(c *member.Call) (*bsonval.Builder, error) {
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	size, ok := bsonval.Integer(c.Arg("size"))
	if !ok || size <= 0 {
		return nil, refuse.Errf(refuse.CodeInvalidOptions, "Capped collection size must be greater than zero")
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	coll := c.E.Main().Get(ns)
	if coll == nil || coll.View {
		return nil, refuse.Errf(refuse.CodeNamespaceNotFound, "source collection %s does not exist", ns)
	}
	tmp := c.DB + ".tmp" + rand.Text()[:5] + ".convertToCapped." + store.NameOf(ns)
	options := new(bsonval.Builder).Bool("capped", true).Value("size", bsonval.Int(size)).Bool("temp", true).Raw()
	if err := c.E.CreateCollection(tmp, options, member.NewUUID(), c); err != nil {
		return nil, err
	}
	fresh := c.E.Main().Get(tmp)
	for _, doc := range coll.Records.Ascend(0) {
		if _, err := c.E.Main().Insert(c.E.Batch(), fresh, doc); err != nil {
			return nil, err
		}
		c.E.Log(oplog.Entry{Op: "i", NS: tmp, UI: fresh.UUID, O: doc, FromMigrate: true})
		c.E.Trim(fresh)
	}
	rename(c, fresh, coll, ns)
	c.E.Main().SetOptions(c.E.Batch(), fresh, new(bsonval.Builder).Bool("capped", true).Value("size", bsonval.Int(size)).Raw())
	return &bsonval.Builder{}, nil
}
