package store

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// NamespaceSize is what a collection takes.
type NamespaceSize struct {
	NS                    string
	UUID                  [16]byte
	View, Capped          bool
	Docs, Bytes, MaxBytes int64
	Indexes               []IndexSize
	Options               bson.Raw
}

// IndexSize is what an index takes.
type IndexSize struct {
	Name           string
	Entries, Bytes int64
}

// SizeOf measures a collection.
func SizeOf(c *Collection) NamespaceSize {
	n := NamespaceSize{NS: c.NS, UUID: c.UUID, View: c.View, Capped: c.Capped, Bytes: c.Bytes, MaxBytes: c.Size, Options: c.Options}
	if c.Records != nil {
		n.Docs = int64(c.Records.Len())
	}
	for _, x := range c.Indexes {
		i := IndexSize{Name: x.Name, Bytes: 4096}
		if x.Entries != nil {
			i.Entries = int64(x.Entries.Len())
			i.Bytes += i.Entries * 16
		}
		n.Indexes = append(n.Indexes, i)
	}
	return n
}

// StorageBytes is what documents would take in compressed blocks.
func StorageBytes(n int64) int64 { return (n*2/5+4095)/4096*4096 + 4096 }

// StatsOf is collStats for one collection.
func StatsOf(coll *Collection) *bsonval.Builder {
	n := SizeOf(coll)
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
	b.Value("storageSize", bsonval.Int(StorageBytes(n.Bytes))).Value("freeStorageSize", bsonval.Int32(0)).Bool("capped", n.Capped)
	if n.Capped {
		b.Value("max", bsonval.Int(coll.Max)).Value("maxSize", bsonval.Int(coll.Size))
	}
	b.Int32("nindexes", int32(len(n.Indexes))).Value("indexBuilds", bsonval.Array(nil)).Value("totalIndexSize", bsonval.Int(total))
	b.Value("totalSize", bsonval.Int(total+StorageBytes(n.Bytes))).Doc("indexSizes", sizes.Raw())
	return b.Int32("scaleFactor", 1)
}
