package ddl

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/view"
)

// ListIndexes is the command listIndexes.
func ListIndexes(c *member.Call) (*bsonval.Builder, error) {
	unlock := c.RLock()
	defer unlock()
	ns, err := c.FindNS()
	if err != nil {
		return nil, err
	}
	coll := c.State.Get(ns)
	if coll == nil {
		return nil, refuse.Errf(refuse.CodeNamespaceNotFound, "ns does not exist: %s", ns)
	}
	if buckets := view.Buckets(c.State, coll); buckets != nil {
		return listCursor(ns, view.Listed(buckets)), nil
	}
	if coll.View {
		return nil, refuse.Errf(166, "Namespace %s is a view, not a collection", ns)
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

// ListCollections is the command listCollections.
func ListCollections(c *member.Call) (*bsonval.Builder, error) {
	unlock := c.RLock()
	defer unlock()
	f, err := match.Parse(bsonval.SubDoc(c.Arg("filter")), nil)
	if err != nil {
		return nil, err
	}
	nameOnly := bsonval.Truthy(c.Arg("nameOnly"))
	var docs []bson.Raw
	for _, coll := range c.State.Collections(c.DB) {
		var b, info bsonval.Builder
		b.String("name", store.NameOf(coll.NS))
		kind := "collection"
		if coll.View {
			kind = "view"
		}
		b.String("type", kind)
		options := coll.Options
		series := view.Options(c.State, coll)
		if series != nil {
			kind, options = "timeseries", series
			b = bsonval.Builder{}
			b.String("name", store.NameOf(coll.NS)).String("type", kind)
		}
		full := b
		full.Doc("options", options)
		info.Bool("readOnly", coll.View && series == nil)
		if !coll.View {
			info.Value("uuid", bsonval.UUID(coll.UUID))
		}
		full.Doc("info", info.Raw())
		if x := coll.ID(); x != nil && spec.ClusteredIndex(coll.Options) == nil {
			full.Doc("idIndex", x.Spec)
		}
		doc := full.Raw()
		if !f.Match(doc) {
			continue
		}
		if nameOnly {
			doc = new(bsonval.Builder).String("name", store.NameOf(coll.NS)).String("type", kind).Raw()
		}
		docs = append(docs, doc)
	}
	return listCursor(c.DB+".$cmd.listCollections", docs), nil
}

// ListDatabases is the command listDatabases.
func ListDatabases(c *member.Call) (*bsonval.Builder, error) {
	unlock := c.RLock()
	defer unlock()
	f, err := match.Parse(bsonval.SubDoc(c.Arg("filter")), nil)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, coll := range c.State.Collections("") {
		n := store.SizeOf(coll)
		size := store.StorageBytes(n.Bytes)
		for _, x := range n.Indexes {
			size += x.Bytes
		}
		sizes[store.DBOf(coll.NS)] += size
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
		if !bsonval.Truthy(c.Arg("nameOnly")) {
			b.Double("sizeOnDisk", float64(sizes[db])).Bool("empty", false)
		}
		if doc := b.Raw(); f.Match(doc) {
			docs = append(docs, doc)
			total += sizes[db]
		}
	}
	var b bsonval.Builder
	b.Docs("databases", docs)
	if !bsonval.Truthy(c.Arg("nameOnly")) {
		b.Double("totalSize", float64(total))
	}
	return &b, nil
}

// CollStats is the command collStats.
func CollStats(c *member.Call) (*bsonval.Builder, error) {
	unlock := c.RLock()
	defer unlock()
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	coll := c.State.Get(ns)
	if coll == nil {
		coll = &store.Collection{NS: ns, Options: new(bsonval.Builder).Raw()}
	}
	if coll.View {
		return nil, refuse.Errf(166, "Namespace %s is a view, not a collection", ns)
	}
	return new(bsonval.Builder).String("ns", ns).All(store.StatsOf(coll).Raw()), nil
}

// DbStats is the command dbStats.
func DbStats(c *member.Call) (*bsonval.Builder, error) {
	unlock := c.RLock()
	defer unlock()
	scale := 1.0
	if f, ok := bsonval.Float(c.Arg("scale")); ok && f >= 1 {
		scale = f
	}
	var colls, views, docs, bytes, storage, indexes, indexBytes int64
	for _, coll := range c.State.Collections(c.DB) {
		if coll.View {
			views++
			continue
		}
		n := store.SizeOf(coll)
		colls++
		docs += n.Docs
		bytes += n.Bytes
		storage += store.StorageBytes(n.Bytes)
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
	b.String("db", c.DB).Value("collections", bsonval.Int(colls)).Value("views", bsonval.Int(views)).Value("objects", bsonval.Int(docs))
	b.Double("avgObjSize", avg).Double("dataSize", float64(bytes)/scale).Double("storageSize", float64(storage)/scale)
	b.Double("freeStorageSize", 0).Value("indexes", bsonval.Int(indexes)).Double("indexSize", float64(indexBytes)/scale)
	b.Double("indexFreeStorageSize", 0).Double("totalSize", float64(storage+indexBytes)/scale).Double("totalFreeStorageSize", 0)
	return b.Double("scaleFactor", scale).Double("fsUsedSize", 20e9/scale).Double("fsTotalSize", 100e9/scale), nil
}

// Hello is the command hello.
func Hello(c *member.Call) (*bsonval.Builder, error) {
	var b bsonval.Builder
	if c.Name == "hello" {
		b.Bool("isWritablePrimary", true)
	} else {
		b.Bool("ismaster", true)
	}
	b.Int32("maxBsonObjectSize", member.MaxDocument).Int32("maxMessageSizeBytes", 48_000_000).Int32("maxWriteBatchSize", 100_000)
	b.Value("localTime", bsonval.Date(c.E.Now())).Int32("logicalSessionTimeoutMinutes", 30)
	return b.Int32("minWireVersion", 0).Int32("maxWireVersion", 21).Bool("readOnly", false), nil
}

// BuildInfo is the command buildInfo.
func BuildInfo(c *member.Call) (*bsonval.Builder, error) {
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
	return b.Int32("bits", 64).Bool("debug", false).Int32("maxBsonObjectSize", member.MaxDocument), nil
}
