// Package template fills recorded documents: it finds the numbers of a document by their path once, and then copies the
// bytes and overwrites those numbers for each reply.
package template

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Sep separates the names of a path: wiredTiger's own names hold dots, blanks and slashes.
const Sep = "|"

// Parse reads a recorded document in canonical extended JSON.
func Parse(json []byte) (bson.D, error) {
	var d bson.D
	if err := bson.UnmarshalExtJSON(json, true, &d); err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return d, nil
}

// Set puts a value at a path, creating the documents on the way; a nil value removes it.
func Set(d bson.D, path string, value any) bson.D {
	name, rest, deeper := strings.Cut(path, Sep)
	for i := range d {
		if d[i].Key != name {
			continue
		}
		switch {
		case deeper:
			sub, _ := d[i].Value.(bson.D)
			d[i].Value = Set(sub, rest, value)
		case value == nil:
			return append(d[:i:i], d[i+1:]...)
		default:
			d[i].Value = value
		}
		return d
	}
	if value == nil {
		return d
	}
	if deeper {
		return append(d, bson.E{Key: name, Value: Set(nil, rest, value)})
	}
	return append(d, bson.E{Key: name, Value: value})
}

// Get finds the value at a path.
func Get(d bson.D, path string) (any, bool) {
	name, rest, deeper := strings.Cut(path, Sep)
	for _, e := range d {
		if e.Key == name {
			if !deeper {
				return e.Value, true
			}
			sub, ok := e.Value.(bson.D)
			if !ok {
				return nil, false
			}
			return Get(sub, rest)
		}
	}
	return nil, false
}

// A Block is a document in BSON whose numbers are overwritten in place for each reply: the bytes are copied and patched,
// nothing is encoded, so that one process can answer for thousands of hosts.
type Block[V any] struct {
	raw     bson.Raw
	patches []patch[V]
}

type patch[V any] struct {
	off  int
	typ  bson.Type
	rate float64          // advances with the load, from the recorded value
	get  func(*V) float64 // else: what the value is
}

// Compile finds in d the numbers that fields and rates name, by their path below prefix, and remembers where they are.
func Compile[V any](prefix string, d bson.D, fields map[string]func(*V) float64, rates map[string]float64) (*Block[V], error) {
	raw, err := bson.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode template %s: %w", prefix, err)
	}
	b := &Block[V]{raw: raw}
	return b, b.find(prefix, 0, fields, rates)
}

func (b *Block[V]) find(prefix string, at int, fields map[string]func(*V) float64, rates map[string]float64) error {
	doc := bson.Raw(b.raw[at:])
	elems, err := doc[:binary.LittleEndian.Uint32(doc)].Elements()
	if err != nil {
		return fmt.Errorf("template %s: %w", prefix, err)
	}
	off := at + 4
	for _, e := range elems {
		val := e.Value()
		valueAt := off + len(e) - len(val.Value)
		off += len(e)
		path := e.Key()
		if prefix != "" {
			path = prefix + Sep + path
		}
		switch val.Type {
		case bson.TypeEmbeddedDocument:
			if err := b.find(path, valueAt, fields, rates); err != nil {
				return err
			}
		case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDateTime:
			if get, ok := fields[path]; ok {
				b.patches = append(b.patches, patch[V]{off: valueAt, typ: val.Type, get: get})
			} else if rate, ok := rates[path]; ok {
				b.patches = append(b.patches, patch[V]{off: valueAt, typ: val.Type, rate: rate})
			}
		}
	}
	return nil
}

// Append appends the document to dst with the numbers of v; activity is what counters without a meaning have advanced by, in
// seconds of their rate.
func (b *Block[V]) Append(dst []byte, v *V, activity float64) []byte {
	at := len(dst)
	dst = append(dst, b.raw...)
	out := dst[at:]
	for i := range b.patches {
		p := &b.patches[i]
		x := 0.0
		if p.get != nil {
			x = p.get(v)
		} else {
			x = p.rate * activity
		}
		switch p.typ {
		case bson.TypeInt32:
			binary.LittleEndian.PutUint32(out[p.off:], uint32(int32(min(x, math.MaxInt32))))
		case bson.TypeDouble:
			binary.LittleEndian.PutUint64(out[p.off:], math.Float64bits(x))
		default:
			binary.LittleEndian.PutUint64(out[p.off:], uint64(int64(x)))
		}
	}
	return dst
}

// Widen turns the 32-bit counters under a document into 64-bit ones: a server chooses by size, a patched template cannot.
func Widen(d bson.D, prefix string, moves func(path string) bool) {
	for i := range d {
		path := prefix + Sep + d[i].Key
		switch v := d[i].Value.(type) {
		case bson.D:
			Widen(v, path, moves)
		case int32:
			if moves(path) {
				d[i].Value = int64(v)
			}
		}
	}
}

// AppendDoc appends one element holding what fill appends as a document's elements.
func AppendDoc(dst []byte, key string, fill func([]byte) []byte) []byte {
	dst = append(append(append(dst, byte(bson.TypeEmbeddedDocument)), key...), 0)
	return Wrap(dst, fill)
}

// Wrap appends a document: its length, what fill appends, its end.
func Wrap(dst []byte, fill func([]byte) []byte) []byte {
	at := len(dst)
	dst = fill(append(dst, 0, 0, 0, 0))
	dst = append(dst, 0)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// AppendValue appends one element of any value the bson package encodes.
func AppendValue(dst []byte, key string, value any) []byte {
	t, raw, err := bson.MarshalValue(value)
	if err != nil { // only values this package builds itself come here
		panic(fmt.Sprintf("template: encode %s: %v", key, err))
	}
	dst = append(append(append(dst, byte(t)), key...), 0)
	return append(dst, raw...)
}
