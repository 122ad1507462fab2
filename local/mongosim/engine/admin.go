package engine

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

func (c *call) listIndexes() (*bsonval.Builder, error) {
	unlock := c.rlock()
	defer unlock()
	ns, err := c.findNS()
	if err != nil {
		return nil, err
	}
	coll := c.st.Get(ns)
	if coll == nil {
		return nil, Errf(CodeNamespaceNotFound, "ns does not exist: %s", ns)
	}
	if coll.View {
		return nil, Errf(166, "Namespace %s is a view, not a collection", ns)
	}
	var specs []bson.Raw
	for _, x := range coll.Indexes {
		specs = append(specs, x.Spec)
	}
	return listCursor(ns, specs), nil
}

// listCursor answers with everything in the first batch: lists of metadata are short.
func listCursor(ns string, docs []bson.Raw) *bsonval.Builder {
	inner := new(bsonval.Builder).Int64("id", 0).String("ns", ns).Docs("firstBatch", docs).Raw()
	return new(bsonval.Builder).Doc("cursor", inner)
}

func (c *call) listCollections() (*bsonval.Builder, error) {
	unlock := c.rlock()
	defer unlock()
	f, err := match.Parse(bsonval.SubDoc(c.arg("filter")), nil)
	if err != nil {
		return nil, err
	}
	nameOnly := bsonval.Truthy(c.arg("nameOnly"))
	var docs []bson.Raw
	for _, coll := range c.st.Collections(c.db) {
		var b, info bsonval.Builder
		b.String("name", nameOf(coll.NS))
		kind := "collection"
		if coll.View {
			kind = "view"
		}
		b.String("type", kind)
		full := b
		full.Doc("options", coll.Options)
		info.Bool("readOnly", coll.View)
		if !coll.View {
			info.Value("uuid", bsonval.UUID(coll.UUID))
		}
		full.Doc("info", info.Raw())
		if x := coll.ID(); x != nil {
			full.Doc("idIndex", x.Spec)
		}
		doc := full.Raw()
		if !f.Match(doc) {
			continue
		}
		if nameOnly {
			doc = new(bsonval.Builder).String("name", nameOf(coll.NS)).String("type", kind).Raw()
		}
		docs = append(docs, doc)
	}
	return listCursor(c.db+".$cmd.listCollections", docs), nil
}

func (c *call) listDatabases() (*bsonval.Builder, error) {
	unlock := c.rlock()
	defer unlock()
	f, err := match.Parse(bsonval.SubDoc(c.arg("filter")), nil)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, coll := range c.st.Collections("") {
		n := sizeOf(coll)
		size := storageBytes(n.Bytes)
		for _, x := range n.Indexes {
			size += x.Bytes
		}
		sizes[dbOf(coll.NS)] += size
	}
	names := make([]string, 0, len(sizes))
	for db := range sizes {
		names = append(names, db)
	}
	slices.Sort(names)
	var docs []bson.Raw
	var total int64
	for _, db := range names {
		var b bsonval.Builder
		b.String("name", db)
		if !bsonval.Truthy(c.arg("nameOnly")) {
			b.Double("sizeOnDisk", float64(sizes[db])).Bool("empty", false)
		}
		if doc := b.Raw(); f.Match(doc) {
			docs = append(docs, doc)
			total += sizes[db]
		}
	}
	var b bsonval.Builder
	b.Docs("databases", docs)
	if !bsonval.Truthy(c.arg("nameOnly")) {
		b.Double("totalSize", float64(total))
	}
	return &b, nil
}

// storageBytes is what documents would take in compressed blocks.
func storageBytes(n int64) int64 { return (n*2/5+4095)/4096*4096 + 4096 }

// statsOf is collStats for one collection.
func statsOf(coll *store.Collection) *bsonval.Builder {
	n := sizeOf(coll)
	var total int64
	var sizes bsonval.Builder
	for _, x := range n.Indexes {
		total += x.Bytes
		sizes.Value(x.Name, bsonval.Int(x.Bytes))
	}
	var b bsonval.Builder
	b.Value("size", bsonval.Int(n.Bytes)).Value("count", bsonval.Int(n.Docs))
	if n.Docs > 0 {
		b.Value("avgObjSize", bsonval.Int(n.Bytes/n.Docs))
	}
	b.Value("storageSize", bsonval.Int(storageBytes(n.Bytes))).Value("freeStorageSize", bsonval.Int32(0)).Bool("capped", n.Capped)
	if n.Capped {
		b.Value("max", bsonval.Int(coll.Max)).Value("maxSize", bsonval.Int(coll.Size))
	}
	b.Int32("nindexes", int32(len(n.Indexes))).Value("indexBuilds", bsonval.Array(nil)).Value("totalIndexSize", bsonval.Int(total))
	b.Value("totalSize", bsonval.Int(total+storageBytes(n.Bytes))).Doc("indexSizes", sizes.Raw())
	return b.Int32("scaleFactor", 1)
}

func (c *call) collStats() (*bsonval.Builder, error) {
	unlock := c.rlock()
	defer unlock()
	ns, err := c.collName()
	if err != nil {
		return nil, err
	}
	coll := c.st.Get(ns)
	if coll == nil {
		coll = &store.Collection{NS: ns, Options: new(bsonval.Builder).Raw()}
	}
	if coll.View {
		return nil, Errf(166, "Namespace %s is a view, not a collection", ns)
	}
	return new(bsonval.Builder).String("ns", ns).All(statsOf(coll).Raw()), nil
}

func (c *call) dbStats() (*bsonval.Builder, error) {
	unlock := c.rlock()
	defer unlock()
	scale := 1.0
	if f, ok := bsonval.Float(c.arg("scale")); ok && f >= 1 {
		scale = f
	}
	var colls, views, docs, bytes, storage, indexes, indexBytes int64
	for _, coll := range c.st.Collections(c.db) {
		if coll.View {
			views++
			continue
		}
		n := sizeOf(coll)
		colls++
		docs += n.Docs
		bytes += n.Bytes
		storage += storageBytes(n.Bytes)
		indexes += int64(len(n.Indexes))
		for _, x := range n.Indexes {
			indexBytes += x.Bytes
		}
	}
	avg := 0.0
	if docs > 0 {
		avg = float64(bytes) / float64(docs)
	}
	var b bsonval.Builder
	b.String("db", c.db).Value("collections", bsonval.Int(colls)).Value("views", bsonval.Int(views)).Value("objects", bsonval.Int(docs))
	b.Double("avgObjSize", avg).Double("dataSize", float64(bytes)/scale).Double("storageSize", float64(storage)/scale)
	b.Double("freeStorageSize", 0).Value("indexes", bsonval.Int(indexes)).Double("indexSize", float64(indexBytes)/scale)
	b.Double("indexFreeStorageSize", 0).Double("totalSize", float64(storage+indexBytes)/scale).Double("totalFreeStorageSize", 0)
	return b.Double("scaleFactor", scale).Double("fsUsedSize", 20e9/scale).Double("fsTotalSize", 100e9/scale), nil
}

// hello is the answer of a standalone; deployments have their own.
func (c *call) hello() (*bsonval.Builder, error) {
	var b bsonval.Builder
	if c.name == "hello" {
		b.Bool("isWritablePrimary", true)
	} else {
		b.Bool("ismaster", true)
	}
	b.Int32("maxBsonObjectSize", maxDoc).Int32("maxMessageSizeBytes", 48_000_000).Int32("maxWriteBatchSize", 100_000)
	b.Value("localTime", bsonval.Date(c.e.now())).Int32("logicalSessionTimeoutMinutes", 30)
	return b.Int32("minWireVersion", 0).Int32("maxWireVersion", 21).Bool("readOnly", false), nil
}

func (c *call) buildInfo() (*bsonval.Builder, error) {
	version := "7.0.14"
	var parts []bson.RawValue
	for i, p := range append(strings.Split(version, "."), "0") {
		n := int32(0)
		for _, r := range p {
			n = n*10 + (r - '0')
		}
		if i < 4 {
			parts = append(parts, bsonval.Int32(n))
		}
	}
	var b bsonval.Builder
	b.String("version", version).Value("versionArray", bsonval.Array(parts)).Value("modules", bsonval.Array(nil))
	return b.Int32("bits", 64).Bool("debug", false).Int32("maxBsonObjectSize", maxDoc), nil
}
