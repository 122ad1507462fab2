// Package bucket packs the measurements of a time series into the documents that a server keeps of them, and unpacks those. Buckets
// are of version 1, columns of values by position. It owns no state.
package bucket

import (
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

// Most is how many measurements a bucket takes.
const Most = 1000

// Series says how measurements are packed.
type Series struct {
	Time, Meta string // fields; Meta may be empty
	Span       time.Duration
}

// Of reads the stage that unpacks a time series' buckets in the pipeline of its view; false when it is another view.
func Of(view bson.Raw) (Series, bool) {
	p, _ := bsonval.Lookup(view, "pipeline")
	stages := bsonval.SubDocs(p)
	if len(stages) == 0 {
		return Series{}, false
	}
	v, ok := bsonval.Lookup(stages[0], "$_internalUnpackBucket")
	if !ok {
		return Series{}, false
	}
	doc := bsonval.SubDoc(v)
	span, _ := bsonval.Lookup(doc, "bucketMaxSpanSeconds")
	n, _ := bsonval.Integer(span)
	return Series{Time: bsonval.StringField(doc, "timeField"), Meta: bsonval.StringField(doc, "metaField"), Span: time.Duration(n) * time.Second}, true
}

// field is a nested field of a document, its Type 0 when there is none.
func field(doc bson.Raw, path ...string) bson.RawValue {
	var v bson.RawValue
	for _, p := range path {
		v, _ = bsonval.Lookup(doc, p)
		doc = bsonval.SubDoc(v)
	}
	return v
}

// Open starts a bucket with a measurement.
func (s Series) Open(doc bson.Raw) (bson.Raw, error) {
	at := field(doc, s.Time)
	if at.Type != bson.TypeDateTime {
		return nil, refuse.Errf(refuse.CodeBadValue, "'%s' must be present and contain a valid BSON UTC datetime value", s.Time)
	}
	first := bsonval.Date(at.Time().Truncate(time.Minute))
	var low, high, data bsonval.Builder
	for k, v := range bsonval.Each(doc) {
		if k == s.Meta {
			continue
		}
		data.Doc(k, new(bsonval.Builder).Value("0", v).Raw())
		high.Value(k, v)
		if k == s.Time {
			v = first
		}
		low.Value(k, v)
	}
	return s.pack(bsonval.ObjectID(bson.NewObjectIDFromTimestamp(first.Time())), field(doc, s.Meta), low.Raw(), high.Raw(), data.Raw()), nil
}

func (s Series) pack(id, meta bson.RawValue, low, high, data bson.Raw) bson.Raw {
	control := new(bsonval.Builder).Int32("version", 1).Doc("min", low).Doc("max", high).Raw()
	b := new(bsonval.Builder).Value("_id", id).Doc("control", control)
	if meta.Type != 0 {
		b.Value("meta", meta)
	}
	return b.Doc("data", data).Raw()
}

// Add puts a measurement into a bucket; false when it belongs into another.
func (s Series) Add(bucket, doc bson.Raw) (bson.Raw, bool) {
	at, from := field(doc, s.Time), field(bucket, "control", "min", s.Time)
	n := len(bsonval.Elems(bsonval.SubDoc(field(bucket, "data", s.Time))))
	meta := field(bucket, "meta")
	if n >= Most || at.Type != bson.TypeDateTime || from.Type != bson.TypeDateTime || !bsonval.Same(meta, field(doc, s.Meta)) {
		return nil, false
	}
	if d := at.Time().Sub(from.Time()); d < 0 || d >= s.Span {
		return nil, false
	}
	pos := strconv.Itoa(n)
	columns := bsonval.Elems(bsonval.SubDoc(field(bucket, "data")))
	low, high := bsonval.Elems(bsonval.SubDoc(field(bucket, "control", "min"))), bsonval.Elems(bsonval.SubDoc(field(bucket, "control", "max")))
	for k, v := range bsonval.Each(doc) {
		if k == s.Meta {
			continue
		}
		i := find(columns, k)
		if i < 0 {
			columns = append(columns, bsonval.Elem{Key: k, Value: bsonval.Doc(new(bsonval.Builder).Value(pos, v).Raw())})
		} else {
			columns[i].Value = bsonval.Doc(new(bsonval.Builder).All(bsonval.SubDoc(columns[i].Value)).Value(pos, v).Raw())
		}
		low, high = bound(low, k, v, -1), bound(high, k, v, 1)
	}
	return s.pack(field(bucket, "_id"), meta, bsonval.FromElems(low), bsonval.FromElems(high), bsonval.FromElems(columns)), true
}

func find(es []bsonval.Elem, key string) int {
	for i := range es {
		if es[i].Key == key {
			return i
		}
	}
	return -1
}

// bound widens a bound of the control section.
func bound(es []bsonval.Elem, k string, v bson.RawValue, side int) []bsonval.Elem {
	i := find(es, k)
	if i < 0 {
		return append(es, bsonval.Elem{Key: k, Value: v})
	}
	if bsonval.Compare(v, es[i].Value)*side > 0 {
		es[i].Value = v
	}
	return es
}

// Unpack gives a bucket's measurements.
func (s Series) Unpack(bucket bson.Raw) []bson.Raw {
	meta := field(bucket, "meta")
	columns := bsonval.Elems(bsonval.SubDoc(field(bucket, "data")))
	var out []bson.Raw
	for pos := range bsonval.Each(bsonval.SubDoc(field(bucket, "data", s.Time))) {
		b := new(bsonval.Builder).Value(s.Time, field(bucket, "data", s.Time, pos))
		if meta.Type != 0 {
			b.Value(s.Meta, meta)
		}
		for _, c := range columns {
			if v, ok := bsonval.Lookup(bsonval.SubDoc(c.Value), pos); ok && c.Key != s.Time {
				b.Value(c.Key, v)
			}
		}
		out = append(out, b.Raw())
	}
	return out
}
