// Package bucket packs the measurements of a time series into the documents that a server keeps of them, and unpacks those. Buckets
// are of version 1, columns of values by position, or of version 2, binary columns. It owns no state.
package bucket

import (
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
)

// Limits of a bucket: how many measurements it takes, and how many bytes once it has a few.
const (
	Most     = 1000
	few      = 10
	maxBytes = 125 << 10
)

// Series says how measurements are packed.
type Series struct {
	Time, Meta string        // fields; Meta may be empty
	Span       time.Duration // from a bucket's beginning to the last time it takes
	Round      time.Duration // what a bucket's beginning is rounded to
	Compressed bool          // new buckets are of version 2, as servers from 8.0 on make them
}

// Within reads the option timeseries of a collection of buckets.
func Within(series bson.Raw) Series {
	v, _ := bsonval.Lookup(series, "bucketMaxSpanSeconds")
	n, _ := bsonval.Integer(v)
	return Series{
		Time: bsonval.StringField(series, "timeField"), Meta: bsonval.StringField(series, "metaField"),
		Span: time.Duration(n) * time.Second, Round: time.Duration(spec.Rounding(series)) * time.Second,
	}
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
	first := bsonval.Date(rounded(at.Time(), s.Round))
	var low, high []bsonval.Elem
	values := s.values(doc)
	for _, e := range values {
		high = append(high, e)
		if e.Key == s.Time {
			e.Value = first
		}
		low = append(low, e)
	}
	b := contents{id: bsonval.ObjectID(bson.NewObjectIDFromTimestamp(first.Time())), meta: field(doc, s.Meta), low: low, high: high, version: 1, count: 1}
	if s.Compressed {
		b.version, b.data = 2, packed(values)
	} else {
		for _, e := range values {
			b.data = append(b.data, bsonval.Elem{Key: e.Key, Value: bsonval.Doc(new(bsonval.Builder).Value("0", e.Value).Raw())})
		}
	}
	return b.raw(), nil
}

// values are a measurement's fields that have a column.
func (s Series) values(doc bson.Raw) (out []bsonval.Elem) {
	for k, v := range bsonval.Each(doc) {
		if k != s.Meta {
			out = append(out, bsonval.Elem{Key: k, Value: v})
		}
	}
	return out
}

// rounded rounds a time down, before 1970 too.
func rounded(t time.Time, to time.Duration) time.Time {
	n := int64(to / time.Second)
	sec := t.Unix()
	return time.Unix(sec-((sec%n)+n)%n, 0).UTC()
}

// contents are a bucket's parts.
type contents struct {
	id, meta        bson.RawValue
	version, count  int32
	low, high, data []bsonval.Elem
}

// raw is the document. A compressed bucket says how many measurements it holds.
func (c contents) raw() bson.Raw {
	control := new(bsonval.Builder).Int32("version", c.version).Doc("min", bsonval.FromElems(c.low)).Doc("max", bsonval.FromElems(c.high))
	if c.version > 1 {
		control.Int32("count", c.count)
	}
	b := new(bsonval.Builder).Value("_id", c.id).Doc("control", control.Raw())
	if c.meta.Type != 0 {
		b.Value("meta", c.meta)
	}
	return b.Doc("data", bsonval.FromElems(c.data)).Raw()
}

// versionOf is a bucket's version, and how many measurements it holds.
func (s Series) versionOf(bucket bson.Raw) (version int64, n int) {
	version, _ = bsonval.Integer(field(bucket, "control", "version"))
	if version == 1 {
		return version, len(bsonval.Elems(bsonval.SubDoc(field(bucket, "data", s.Time))))
	}
	count, _ := bsonval.Integer(field(bucket, "control", "count"))
	return version, int(count)
}

// Add puts a measurement into a bucket; false when it belongs into another.
func (s Series) Add(bucket, doc bson.Raw) (bson.Raw, bool) {
	at, from := field(doc, s.Time), field(bucket, "control", "min", s.Time)
	version, n := s.versionOf(bucket)
	meta := field(bucket, "meta")
	if n >= Most || n >= few && len(bucket)+len(doc) > maxBytes || at.Type != bson.TypeDateTime || from.Type != bson.TypeDateTime || !bsonval.Same(meta, field(doc, s.Meta)) {
		return nil, false
	}
	if d := at.Time().Sub(from.Time()); d < 0 || d >= s.Span {
		return nil, false
	}
	c := contents{id: field(bucket, "_id"), meta: meta, version: int32(version), count: int32(n) + 1}
	c.data = bsonval.Elems(bsonval.SubDoc(field(bucket, "data")))
	c.low, c.high = bsonval.Elems(bsonval.SubDoc(field(bucket, "control", "min"))), bsonval.Elems(bsonval.SubDoc(field(bucket, "control", "max")))
	values, pos := s.values(doc), strconv.Itoa(n)
	if version > 1 {
		c.data = extend(c.data, values, n)
	}
	for _, e := range values {
		c.low, c.high = bound(c.low, e.Key, e.Value, -1), bound(c.high, e.Key, e.Value, 1)
		if version > 1 {
			continue
		}
		i := find(c.data, e.Key)
		if i < 0 {
			c.data = append(c.data, bsonval.Elem{Key: e.Key, Value: bsonval.Doc(new(bsonval.Builder).Value(pos, e.Value).Raw())})
			continue
		}
		c.data[i].Value = bsonval.Doc(new(bsonval.Builder).All(bsonval.SubDoc(c.data[i].Value)).Value(pos, e.Value).Raw())
	}
	return c.raw(), true
}

// data is a column's bytes, none for what is no column.
func data(v bson.RawValue) []byte {
	b, _ := binaryOf(v)
	return b
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

// Unpack gives a bucket's measurements. Columns that this package does not understand are refused.
func (s Series) Unpack(bucket bson.Raw) ([]bson.Raw, error) {
	meta := field(bucket, "meta")
	columns := bsonval.Elems(bsonval.SubDoc(field(bucket, "data")))
	if version, n := s.versionOf(bucket); version > 1 {
		return s.decompress(columns, meta, n)
	}
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
	return out, nil
}

func (s Series) decompress(columns []bsonval.Elem, meta bson.RawValue, n int) ([]bson.Raw, error) {
	values := make([][]bson.RawValue, len(columns))
	for i, c := range columns {
		vs, ok := column(data(c.Value))
		if !ok || len(vs) > n {
			return nil, refuse.Errf(refuse.CodeInternalError, "the simulator does not read the compressed column %q", c.Key)
		}
		values[i] = vs
	}
	out := make([]bson.Raw, n)
	for at := range out {
		var b, rest bsonval.Builder
		for i, c := range columns {
			switch {
			case at >= len(values[i]) || values[i][at].Type == 0:
			case c.Key == s.Time:
				b.Value(c.Key, values[i][at])
			default:
				rest.Value(c.Key, values[i][at])
			}
		}
		if meta.Type != 0 {
			b.Value(s.Meta, meta)
		}
		out[at] = b.All(rest.Raw()).Raw()
	}
	return out, nil
}
