package status

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/status/template"
)

// Collection is what a collection takes.
type Collection struct {
	NS                    string
	View, Capped          bool
	Docs, Bytes, MaxBytes int64
	Indexes               []Index
}

// Index is what an index takes.
type Index struct {
	Name  string
	Bytes int64
}

// stored is what a collection's documents take on disk: compressed, in blocks.
func (c *Collection) stored() int64 { return (c.Bytes*45/100+4095)/4096*4096 + 4096 }

func (c *Collection) indexBytes() int64 {
	var n int64
	for _, x := range c.Indexes {
		n += x.Bytes
	}
	return n
}

// DBStats answers dbStats of a database. extra are bytes of documents that the load stands for and nobody stored.
func DBStats(v *View, db string, colls []Collection, extra, scale int64) bson.D {
	var n, views, docs, data, stored, indexes, indexBytes int64
	for i := range colls {
		c := &colls[i]
		if c.View {
			views++
			continue
		}
		n++
		docs += c.Docs
		data += c.Bytes
		stored += c.stored()
		indexes += int64(len(c.Indexes))
		indexBytes += c.indexBytes()
	}
	docs += extra / 1100
	data += extra
	stored += extra * 45 / 100
	indexBytes += extra / 12
	avg := 0.0
	if docs > 0 {
		avg = float64(data) / float64(docs)
	}
	sc := func(x int64) float64 { return float64(x) / float64(scale) }
	d := bson.D{
		{Key: "db", Value: db},
		{Key: "collections", Value: int32(n)},
		{Key: "views", Value: int32(views)},
		{Key: "objects", Value: small(docs)},
		{Key: "avgObjSize", Value: avg},
		{Key: "dataSize", Value: sc(data)},
		{Key: "storageSize", Value: sc(stored)},
	}
	if !v.Version.AtLeast(4, 4) {
		d = append(d, bson.E{Key: "numExtents", Value: int32(0)})
	}
	d = append(d, bson.E{Key: "indexes", Value: int32(indexes)}, bson.E{Key: "indexSize", Value: sc(indexBytes)})
	if v.Version.AtLeast(4, 4) {
		d = append(d, bson.E{Key: "totalSize", Value: sc(stored + indexBytes)})
	}
	return ok(append(d, bson.E{Key: "scaleFactor", Value: float64(scale)},
		bson.E{Key: "fsUsedSize", Value: sc(load.DiskBytes - v.Gauges.DiskFree)}, bson.E{Key: "fsTotalSize", Value: sc(load.DiskBytes)}))
}

// CollStats answers collStats; a collection that is not there has zero of everything, as servers answer from 6.2 on.
func (k *Kit) CollStats(v *View, c Collection, scale int64) bson.Raw {
	if c.NS == "local.oplog.rs" && v.Oplog != nil {
		return k.OplogStats(v, scale)
	}
	d := bson.D{{Key: "ns", Value: c.NS}, {Key: "size", Value: small(c.Bytes / scale)}, {Key: "count", Value: small(c.Docs)}}
	if c.Docs > 0 {
		d = append(d, bson.E{Key: "avgObjSize", Value: small(c.Bytes / c.Docs)})
	}
	d = append(d, bson.E{Key: "storageSize", Value: small(c.stored() / scale)}, bson.E{Key: "capped", Value: c.Capped})
	if c.Capped {
		d = append(d, bson.E{Key: "max", Value: int32(-1)}, bson.E{Key: "maxSize", Value: small(c.MaxBytes / scale)},
			bson.E{Key: "sleepCount", Value: int32(0)}, bson.E{Key: "sleepMS", Value: int32(0)})
	}
	details, sizes := bson.D{}, bson.D{}
	for _, x := range c.Indexes {
		details = append(details, bson.E{Key: x.Name, Value: bson.D{{Key: "metadata", Value: bson.D{{Key: "formatVersion", Value: int32(8)}}}, {Key: "type", Value: "file"}}})
		sizes = append(sizes, bson.E{Key: x.Name, Value: small(x.Bytes / scale)})
	}
	d = append(d, bson.E{Key: "wiredTiger", Value: still(k.oplog)}, bson.E{Key: "nindexes", Value: int32(len(c.Indexes))},
		bson.E{Key: "indexDetails", Value: details}, bson.E{Key: "indexBuilds", Value: bson.A{}}, bson.E{Key: "totalIndexSize", Value: small(c.indexBytes() / scale)})
	if v.Version.AtLeast(4, 4) {
		d = append(d, bson.E{Key: "totalSize", Value: small((c.stored() + c.indexBytes()) / scale)})
	}
	d = ok(append(d, bson.E{Key: "indexSizes", Value: sizes}, bson.E{Key: "scaleFactor", Value: int32(scale)}))
	return template.Wrap(nil, func(dst []byte) []byte { return appendElements(dst, d) })
}

// still is a template without the moving parts that only the oplog has.
func still(d bson.D) bson.D {
	return template.Set(append(bson.D{}, d...), "creationString", "type=file")
}

// StorageStats is what the $collStats stage gives for {storageStats: {}}: the command's reply without its end.
func (k *Kit) StorageStats(v *View, c Collection, scale int64) (bson.D, error) {
	var stats bson.D
	if err := bson.Unmarshal(k.CollStats(v, c, scale), &stats); err != nil {
		return nil, err
	}
	stats = template.Set(template.Set(stats, "ok", nil), "ns", nil)
	return bson.D{
		{Key: "ns", Value: c.NS}, {Key: "host", Value: v.Host()}, {Key: "localTime", Value: date(v.Now)}, {Key: "storageStats", Value: stats},
	}, nil
}

// ListDatabases answers the command from the sizes of each database's collections.
func ListDatabases(v *View, colls []Collection, extra func(db string) int64, nameOnly bool) bson.D {
	var names []string
	sizes := map[string]int64{}
	for i := range colls {
		db, _, _ := strings.Cut(colls[i].NS, ".")
		if _, seen := sizes[db]; !seen {
			names = append(names, db)
			sizes[db] = extra(db) * 55 / 100
		}
		sizes[db] += colls[i].stored() + colls[i].indexBytes()
	}
	size := func(n int64) any {
		if v.Version.AtLeast(5, 0) {
			return n
		}
		return float64(n)
	}
	out, total := bson.A{}, int64(0)
	for _, db := range names {
		d := bson.D{{Key: "name", Value: db}}
		if !nameOnly {
			d = append(d, bson.E{Key: "sizeOnDisk", Value: size(sizes[db])}, bson.E{Key: "empty", Value: false})
		}
		out = append(out, d)
		total += sizes[db]
	}
	d := bson.D{{Key: "databases", Value: out}}
	if !nameOnly {
		d = append(d, bson.E{Key: "totalSize", Value: size(total)})
		if v.Version.AtLeast(5, 0) {
			d = append(d, bson.E{Key: "totalSizeMb", Value: total >> 20})
		}
	}
	return ok(d)
}
