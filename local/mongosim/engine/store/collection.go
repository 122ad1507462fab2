// Package store is the data structure under the simulator's engine: collections of documents in the order of their
// insertion, ordered indexes over them, a cheap copy of everything for transactions, and the journal that makes it last.
// It owns the documents' bytes, which never change once stored. It knows no commands and takes no locks; its caller
// has to.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/omap"
)

// OplogNS is the one collection whose record ids are its documents' ts, so that its order is that of time.
const OplogNS = "local.oplog.rs"

// Collection is one collection or view.
type Collection struct {
	NS      string
	UUID    [16]byte
	Options bson.Raw // as listCollections shows them, without uuid
	View    bool
	Capped  bool
	Size    int64 // of a capped collection, bytes
	Max     int64 // of a capped collection, documents; 0 none
	Records *omap.Map[int64, bson.Raw]
	Indexes []*Index // the _id index first
	Bytes   int64
	NextRID int64

	touched []int64 // records changed since the last checkpoint, of a state that a journal keeps; some twice
}

// touch notes that a record changed.
func (c *Collection) touch(rid int64) {
	if n := len(c.touched); n == 0 || c.touched[n-1] != rid {
		c.touched = append(c.touched, rid)
	}
}

// Index orders a collection's documents by the values under its key's paths.
type Index struct {
	Spec     bson.Raw // as listIndexes shows it
	Name     string
	Fields   []IndexField
	Unique   bool
	Prepared bool // prepareUnique: new documents are refused as by a unique index, what is there may be twice
	Primary  bool // on _id: the _id index, or what stands for it in a clustered collection
	Sparse   bool
	Special  bool // text, hashed, wildcard, geo: metadata only, no entries
	Multikey bool
	Partial  func(bson.Raw) bool // nil: all documents
	Coll     *bsonval.Collation
	Entries  *omap.Map[string, int64]
	Accesses *atomic.Int64
}

// IndexField is one field of an index key.
type IndexField struct {
	Path string
	Desc bool
}

// DuplicateError says that a unique index already has the key.
type DuplicateError struct {
	Index *Index
	NS    string
	Key   []bson.RawValue // one value a field
}

// Error gives the server's message.
func (e *DuplicateError) Error() string {
	var parts []string
	for i, f := range e.Index.Fields {
		s := bsonval.Format(e.Key[i])
		if c := e.Index.Coll; c != nil && e.Key[i].Type == bson.TypeString {
			s = fmt.Sprintf("%q", fmt.Sprintf("0x%x", c.SortKey(bsonval.Str(e.Key[i]))))
		}
		parts = append(parts, f.Path+": "+s)
	}
	coll := ""
	if v, ok := bsonval.Lookup(e.Index.Spec, "collation"); ok {
		coll = " collation: " + bsonval.Format(v)
	}
	return fmt.Sprintf("E11000 duplicate key error collection: %s index: %s%s dup key: { %s }", e.NS, e.Index.Name, coll, strings.Join(parts, ", "))
}

// Fields gives keyPattern and keyValue, as replies carry them.
func (e *DuplicateError) Fields() bson.Raw {
	var kv, out bsonval.Builder
	for i, f := range e.Index.Fields {
		v := e.Key[i]
		if c := e.Index.Coll; c != nil && v.Type == bson.TypeString {
			v = bsonval.String(c.SortKey(bsonval.Str(v)))
		}
		kv.Value(f.Path, v)
	}
	key, _ := bsonval.Lookup(e.Index.Spec, "key")
	out.Value("keyPattern", key).Doc("keyValue", kv.Raw())
	return out.Raw()
}

// ErrParallelArrays is the refusal of a document with arrays under two fields of one index.
type ErrParallelArrays struct{ A, B string }

// Error gives the server's message.
func (e *ErrParallelArrays) Error() string {
	return fmt.Sprintf("cannot index parallel arrays [%s] [%s]", e.B, e.A)
}

// clone copies a collection for a snapshot.
func (c *Collection) clone() *Collection {
	d := *c
	d.touched = nil
	if c.Records != nil {
		d.Records = c.Records.Clone()
	}
	d.Indexes = make([]*Index, len(c.Indexes))
	for i, x := range c.Indexes {
		y := *x
		if x.Entries != nil {
			y.Entries = x.Entries.Clone()
		}
		d.Indexes[i] = &y
	}
	return &d
}

// ID is the index on _id, nil for the oplog.
func (c *Collection) ID() *Index {
	if len(c.Indexes) > 0 && c.Indexes[0].Primary {
		return c.Indexes[0]
	}
	return nil
}

// Index finds an index by name.
func (c *Collection) Index(name string) *Index {
	for _, x := range c.Indexes {
		if x.Name == name {
			return x
		}
	}
	return nil
}

// FindID finds the record of an _id.
func (c *Collection) FindID(id bson.RawValue) (int64, bson.Raw, bool) {
	x := c.ID()
	if x == nil {
		return 0, nil, false
	}
	rid, ok := x.find(string(bsonval.AppendKey(nil, id, x.Coll)))
	if !ok {
		return 0, nil, false
	}
	doc, ok := c.Records.Get(rid)
	return rid, doc, ok
}

// find gives the first record under exactly this key.
func (x *Index) find(key string) (int64, bool) {
	for k, rid := range x.Entries.Ascend(key) {
		return rid, len(k) == len(key)+8 && k[:len(key)] == key
	}
	return 0, false
}

// entry is one key of a document in an index.
type entry struct {
	key  string
	vals []bson.RawValue
}

// keys lists a document's keys in the index.
func (x *Index) keys(doc bson.Raw) ([]entry, error) {
	if x.Special || (x.Partial != nil && !x.Partial(doc)) {
		return nil, nil
	}
	tuples := [][]bson.RawValue{nil}
	arrayField, found := "", false
	for _, f := range x.Fields {
		vals, isArray, exists := PathValues(doc, f.Path)
		found = found || exists
		if isArray {
			if arrayField != "" {
				return nil, &ErrParallelArrays{arrayField, f.Path}
			}
			arrayField = f.Path
		}
		if len(vals) == 1 {
			for i := range tuples {
				tuples[i] = append(tuples[i], vals[0])
			}
			continue
		}
		var next [][]bson.RawValue
		for _, t := range tuples {
			for _, v := range vals {
				next = append(next, append(slices.Clone(t), v))
			}
		}
		tuples = next
	}
	if x.Sparse && !found {
		return nil, nil
	}
	if arrayField != "" {
		x.Multikey = true
	}
	out := make([]entry, 0, len(tuples))
	for _, t := range tuples {
		var b []byte
		for i, v := range t {
			b = AppendField(b, v, x.Fields[i].Desc, x.Coll)
		}
		out = append(out, entry{string(b), t})
	}
	if len(out) > 1 {
		slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.key, b.key) })
		out = slices.CompactFunc(out, func(a, b entry) bool { return a.key == b.key })
	}
	return out, nil
}

// AppendField appends one field's part of an index key; descending fields are inverted.
func AppendField(b []byte, v bson.RawValue, desc bool, c *bsonval.Collation) []byte {
	at := len(b)
	b = bsonval.AppendKey(b, v, c)
	if desc {
		for i := at; i < len(b); i++ {
			b[i] = ^b[i]
		}
	}
	return b
}

func withRID(key string, rid int64) string {
	b := make([]byte, 0, len(key)+8)
	b = append(b, key...)
	return string(binary.BigEndian.AppendUint64(b, uint64(rid)))
}

// PathValues gives the values an index or a sort sees under a dotted path: null when there is none, the members of an
// array instead of the array, undefined for an empty one.
func PathValues(doc bson.Raw, path string) (vals []bson.RawValue, isArray, exists bool) {
	var walk func(v bson.RawValue, rest string, more, viaArray bool)
	walk = func(v bson.RawValue, rest string, more, viaArray bool) {
		if !more {
			exists = true
			if v.Type != bson.TypeArray || viaArray {
				vals = append(vals, v)
				return
			}
			isArray = true
			members := bsonval.Values(bson.Raw(v.Value))
			if len(members) == 0 {
				members = []bson.RawValue{{Type: bson.TypeUndefined}}
			}
			vals = append(vals, members...)
			return
		}
		name, tail, deeper := strings.Cut(rest, ".")
		switch v.Type {
		case bson.TypeEmbeddedDocument:
			if sub, ok := bsonval.Lookup(bson.Raw(v.Value), name); ok {
				walk(sub, tail, deeper, false)
				return
			}
		case bson.TypeArray:
			if name != "" && name[0] >= '0' && name[0] <= '9' {
				if sub, ok := bsonval.Lookup(bson.Raw(v.Value), name); ok {
					walk(sub, tail, deeper, false)
					return
				}
			}
			isArray = true
			n := 0
			for _, m := range bsonval.Each(bson.Raw(v.Value)) {
				n++
				if m.Type == bson.TypeEmbeddedDocument {
					walk(m, rest, true, false)
				} else {
					vals = append(vals, bsonval.Null())
				}
			}
			if n > 0 {
				return
			}
		}
		vals = append(vals, bsonval.Null())
	}
	walk(bsonval.Doc(doc), path, true, false)
	if len(vals) == 0 {
		vals = []bson.RawValue{bsonval.Null()}
	}
	return vals, isArray, exists
}

// check finds a unique index that would have key twice; except is the record being replaced, or -1.
func (x *Index) check(ns string, es []entry, except int64) error {
	if !x.Unique && !x.Prepared {
		return nil
	}
	for _, e := range es {
		for k, rid := range x.Entries.Ascend(e.key) {
			if len(k) != len(e.key)+8 || k[:len(e.key)] != e.key {
				break
			}
			if rid != except {
				return &DuplicateError{Index: x, NS: ns, Key: e.vals}
			}
		}
	}
	return nil
}

// put stores a document under a record id, replacing what is there; indexes are checked before anything changes.
func (c *Collection) put(rid int64, doc bson.Raw) error {
	old, had := c.Records.Get(rid)
	newKeys := make([][]entry, len(c.Indexes))
	for i, x := range c.Indexes {
		es, err := x.keys(doc)
		if err != nil {
			return err
		}
		except := int64(-1)
		if had {
			except = rid
		}
		if err := x.check(c.NS, es, except); err != nil {
			return err
		}
		newKeys[i] = es
	}
	for i, x := range c.Indexes {
		if had {
			oldKeys, _ := x.keys(old)
			if sameKeys(oldKeys, newKeys[i]) {
				continue
			}
			for _, e := range oldKeys {
				x.Entries.Delete(withRID(e.key, rid))
			}
		}
		for _, e := range newKeys[i] {
			x.Entries.Set(withRID(e.key, rid), rid)
		}
	}
	c.Records.Set(rid, doc)
	c.Bytes += int64(len(doc) - len(old))
	c.NextRID = max(c.NextRID, rid+1)
	return nil
}

func sameKeys(a, b []entry) bool {
	return slices.EqualFunc(a, b, func(x, y entry) bool { return x.key == y.key })
}

// remove deletes a record.
func (c *Collection) remove(rid int64) {
	old, ok := c.Records.Get(rid)
	if !ok {
		return
	}
	for _, x := range c.Indexes {
		es, _ := x.keys(old)
		for _, e := range es {
			x.Entries.Delete(withRID(e.key, rid))
		}
	}
	c.Records.Delete(rid)
	c.Bytes -= int64(len(old))
}

// build fills a new index from the documents there are.
func (c *Collection) build(x *Index) error {
	x.Entries = omap.New[string, int64]()
	for rid, doc := range c.Records.Ascend(0) {
		es, err := x.keys(doc)
		if err != nil {
			return err
		}
		if x.Unique {
			if err := x.check(c.NS, es, -1); err != nil {
				return err
			}
		}
		for _, e := range es {
			x.Entries.Set(withRID(e.key, rid), rid)
		}
	}
	return nil
}

// DBOf is the database of a namespace.
func DBOf(ns string) string {
	db, _, _ := strings.Cut(ns, ".")
	return db
}

// NameOf is the collection of a namespace.
func NameOf(ns string) string {
	_, name, _ := strings.Cut(ns, ".")
	return name
}

// Collation is the collection's own, nil for the simple one.
func (c *Collection) Collation() *bsonval.Collation {
	v, ok := bsonval.Lookup(c.Options, "collation")
	if !ok {
		return nil
	}
	n, _ := bsonval.Lookup(bsonval.SubDoc(v), "strength")
	k, _ := bsonval.Integer(n)
	return &bsonval.Collation{Strength: int(k)}
}

// Duplicates finds a key that an index holds twice, nil when there is none.
func (c *Collection) Duplicates(x *Index) *DuplicateError {
	for rid, doc := range c.Records.Ascend(0) {
		es, err := x.keys(doc)
		if err != nil {
			continue
		}
		y := *x
		y.Unique = true
		if err := y.check(c.NS, es, rid); err != nil {
			var dup *DuplicateError
			if errors.As(err, &dup) {
				return dup
			}
		}
	}
	return nil
}
