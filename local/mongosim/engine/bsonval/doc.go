// Package bsonval is the value arithmetic of the simulator: walking, building, comparing, ordering, adding and printing
// BSON values the way a server does. It owns no state and knows nothing of collections or commands.
//
// Values are bson.RawValue over bytes that Validate has accepted; everything here tolerates malformed bytes by stopping
// early, never by panicking.
package bsonval

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// MaxDepth is the deepest nesting a document may have.
const MaxDepth = 200

// Elem is one field of a document.
type Elem struct {
	Key   string
	Value bson.RawValue
}

// ErrMalformed says that bytes are no BSON document.
var ErrMalformed = errors.New("malformed BSON")

// valueLen is the number of bytes the value of type t takes at the start of b, or -1.
func valueLen(t bson.Type, b []byte) int {
	sized := func(extra int) int { // an int32 length prefix, then that many bytes plus extra
		if len(b) < 4 {
			return -1
		}
		n := int(int32(binary.LittleEndian.Uint32(b)))
		if n < 0 || n > len(b) {
			return -1
		}
		return n + extra
	}
	var n int
	switch t {
	case bson.TypeDouble, bson.TypeDateTime, bson.TypeTimestamp, bson.TypeInt64:
		n = 8
	case bson.TypeInt32:
		n = 4
	case bson.TypeBoolean:
		n = 1
	case bson.TypeObjectID:
		n = 12
	case bson.TypeDecimal128:
		n = 16
	case bson.TypeNull, bson.TypeUndefined, bson.TypeMinKey, bson.TypeMaxKey:
		return 0
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		n = sized(4)
		if n < 5 || n > len(b) || b[n-1] != 0 {
			return -1
		}
	case bson.TypeEmbeddedDocument, bson.TypeArray, bson.TypeCodeWithScope:
		n = sized(0)
		if n < 5 {
			return -1
		}
	case bson.TypeBinary:
		n = sized(5)
	case bson.TypeDBPointer:
		n = sized(16)
	case bson.TypeRegex:
		i := cstringLen(b)
		if i < 0 {
			return -1
		}
		j := cstringLen(b[i+1:])
		if j < 0 {
			return -1
		}
		n = i + 1 + j + 1
	default:
		return -1
	}
	if n < 0 || n > len(b) {
		return -1
	}
	return n
}

func cstringLen(b []byte) int {
	for i, c := range b {
		if c == 0 {
			return i
		}
	}
	return -1
}

// Each walks the fields of a document in order.
func Each(doc bson.Raw) iter.Seq2[string, bson.RawValue] {
	return func(yield func(string, bson.RawValue) bool) {
		b := []byte(doc)
		if len(b) < 5 {
			return
		}
		b = b[4:]
		for len(b) > 1 && b[0] != 0 {
			t := bson.Type(b[0])
			i := cstringLen(b[1:])
			if i < 0 {
				return
			}
			key := string(b[1 : 1+i])
			b = b[i+2:]
			n := valueLen(t, b)
			if n < 0 || !yield(key, bson.RawValue{Type: t, Value: b[:n:n]}) {
				return
			}
			b = b[n:]
		}
	}
}

// Elems lists the fields of a document.
func Elems(doc bson.Raw) []Elem {
	var out []Elem
	for k, v := range Each(doc) {
		out = append(out, Elem{k, v})
	}
	return out
}

// Values lists the members of an array or the values of a document.
func Values(doc bson.Raw) []bson.RawValue {
	var out []bson.RawValue
	for _, v := range Each(doc) {
		out = append(out, v)
	}
	return out
}

// Lookup finds a top-level field.
func Lookup(doc bson.Raw, key string) (bson.RawValue, bool) {
	b := []byte(doc)
	if len(b) < 5 {
		return bson.RawValue{}, false
	}
	b = b[4:]
	for len(b) > 1 && b[0] != 0 {
		t := bson.Type(b[0])
		i := cstringLen(b[1:])
		if i < 0 {
			break
		}
		hit := string(b[1:1+i]) == key
		b = b[i+2:]
		n := valueLen(t, b)
		if n < 0 {
			break
		}
		if hit {
			return bson.RawValue{Type: t, Value: b[:n:n]}, true
		}
		b = b[n:]
	}
	return bson.RawValue{}, false
}

// FirstKey is the name of the first field, empty for an empty document.
func FirstKey(doc bson.Raw) string {
	for k := range Each(doc) {
		return k
	}
	return ""
}

// Validate checks the structure of a document, with a bound on its depth so that no recursion over accepted documents can
// exhaust the stack.
func Validate(doc []byte) error { return validate(doc, 0) }

func validate(doc []byte, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("%w: nested deeper than %d", ErrMalformed, MaxDepth)
	}
	if len(doc) < 5 || int(int32(binary.LittleEndian.Uint32(doc))) != len(doc) || doc[len(doc)-1] != 0 {
		return fmt.Errorf("%w: length", ErrMalformed)
	}
	b := doc[4:]
	for {
		if b[0] == 0 {
			if len(b) != 1 {
				return fmt.Errorf("%w: bytes after the end", ErrMalformed)
			}
			return nil
		}
		t := bson.Type(b[0])
		i := cstringLen(b[1:])
		if i < 0 {
			return fmt.Errorf("%w: field name", ErrMalformed)
		}
		b = b[i+2:]
		n := valueLen(t, b)
		if n < 0 || n >= len(b) {
			return fmt.Errorf("%w: value of type %#x", ErrMalformed, byte(t))
		}
		switch t {
		case bson.TypeEmbeddedDocument, bson.TypeArray:
			if err := validate(b[:n], depth+1); err != nil {
				return err
			}
		case bson.TypeCodeWithScope:
			if n < 14 {
				return fmt.Errorf("%w: code with scope", ErrMalformed)
			}
			s := valueLen(bson.TypeString, b[4:n])
			if s < 0 {
				return fmt.Errorf("%w: code with scope", ErrMalformed)
			}
			if err := validate(b[4+s:n], depth+1); err != nil {
				return err
			}
		}
		b = b[n:]
		if len(b) == 0 {
			return fmt.Errorf("%w: no end", ErrMalformed)
		}
	}
}

// Builder makes a document field by field. The zero value is ready to use.
type Builder struct{ b []byte }

func (d *Builder) head(t bson.Type, key string) {
	if d.b == nil {
		d.b = make([]byte, 4, 256)
	}
	d.b = append(d.b, byte(t))
	d.b = append(d.b, key...)
	d.b = append(d.b, 0)
}

// Value appends a field of any type.
func (d *Builder) Value(key string, v bson.RawValue) *Builder {
	d.head(v.Type, key)
	d.b = append(d.b, v.Value...)
	return d
}

// Doc appends an embedded document.
func (d *Builder) Doc(key string, doc bson.Raw) *Builder { return d.Value(key, Doc(doc)) }

// String appends a string.
func (d *Builder) String(key, s string) *Builder { return d.Value(key, String(s)) }

// Int32 appends an int.
func (d *Builder) Int32(key string, n int32) *Builder { return d.Value(key, Int32(n)) }

// Int64 appends a long.
func (d *Builder) Int64(key string, n int64) *Builder { return d.Value(key, Int64(n)) }

// Double appends a double.
func (d *Builder) Double(key string, f float64) *Builder { return d.Value(key, Double(f)) }

// Bool appends a bool.
func (d *Builder) Bool(key string, v bool) *Builder { return d.Value(key, Bool(v)) }

// Docs appends an array of documents.
func (d *Builder) Docs(key string, docs []bson.Raw) *Builder {
	d.head(bson.TypeArray, key)
	at := len(d.b)
	d.b = append(d.b, 0, 0, 0, 0)
	for i, x := range docs {
		d.b = append(d.b, byte(bson.TypeEmbeddedDocument))
		d.b = appendIndex(d.b, i)
		d.b = append(d.b, 0)
		d.b = append(d.b, x...)
	}
	d.b = append(d.b, 0)
	binary.LittleEndian.PutUint32(d.b[at:], uint32(len(d.b)-at))
	return d
}

// All appends every field of another document.
func (d *Builder) All(doc bson.Raw) *Builder {
	if len(doc) > 5 {
		if d.b == nil {
			d.b = make([]byte, 4, len(doc)+64)
		}
		d.b = append(d.b, doc[4:len(doc)-1]...)
	}
	return d
}

// Len is the size so far; used to keep batches under a limit.
func (d *Builder) Len() int { return len(d.b) }

// Raw finishes the document. The builder must not be used afterwards.
func (d *Builder) Raw() bson.Raw {
	if d.b == nil {
		d.b = make([]byte, 4, 5)
	}
	d.b = append(d.b, 0)
	binary.LittleEndian.PutUint32(d.b, uint32(len(d.b)))
	return bson.Raw(d.b)
}

func appendIndex(b []byte, i int) []byte {
	if i < 10 {
		return append(b, byte('0'+i))
	}
	return fmt.Appendf(b, "%d", i)
}

// FromElems makes a document of fields.
func FromElems(es []Elem) bson.Raw {
	var d Builder
	for _, e := range es {
		d.Value(e.Key, e.Value)
	}
	return d.Raw()
}

// Doc wraps a document as a value.
func Doc(doc bson.Raw) bson.RawValue {
	return bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: doc}
}

// Array makes an array value.
func Array(vs []bson.RawValue) bson.RawValue {
	var d Builder
	for i, v := range vs {
		d.Value(string(appendIndex(nil, i)), v)
	}
	return bson.RawValue{Type: bson.TypeArray, Value: d.Raw()}
}

// DocArray makes an array value of documents.
func DocArray(docs []bson.Raw) bson.RawValue {
	vs := make([]bson.RawValue, len(docs))
	for i, d := range docs {
		vs[i] = Doc(d)
	}
	return Array(vs)
}

// Int32 makes an int.
func Int32(n int32) bson.RawValue {
	return bson.RawValue{Type: bson.TypeInt32, Value: binary.LittleEndian.AppendUint32(nil, uint32(n))}
}

// Int64 makes a long.
func Int64(n int64) bson.RawValue {
	return bson.RawValue{Type: bson.TypeInt64, Value: binary.LittleEndian.AppendUint64(nil, uint64(n))}
}

// Int makes an int when the number fits, else a long.
func Int(n int64) bson.RawValue {
	if n >= math.MinInt32 && n <= math.MaxInt32 {
		return Int32(int32(n))
	}
	return Int64(n)
}

// Double makes a double.
func Double(f float64) bson.RawValue {
	return bson.RawValue{Type: bson.TypeDouble, Value: binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))}
}

// String makes a string.
func String(s string) bson.RawValue {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, len(s)+5), uint32(len(s)+1))
	b = append(b, s...)
	return bson.RawValue{Type: bson.TypeString, Value: append(b, 0)}
}

// Bool makes a bool.
func Bool(v bool) bson.RawValue {
	b := byte(0)
	if v {
		b = 1
	}
	return bson.RawValue{Type: bson.TypeBoolean, Value: []byte{b}}
}

// Null makes a null.
func Null() bson.RawValue { return bson.RawValue{Type: bson.TypeNull} }

// Date makes a date.
func Date(t time.Time) bson.RawValue {
	v := Int64(t.UnixMilli())
	v.Type = bson.TypeDateTime
	return v
}

// Timestamp makes a timestamp.
func Timestamp(ts bson.Timestamp) bson.RawValue {
	v := Int64(int64(uint64(ts.T)<<32 | uint64(ts.I)))
	v.Type = bson.TypeTimestamp
	return v
}

// ObjectID makes an object id.
func ObjectID(id bson.ObjectID) bson.RawValue {
	return bson.RawValue{Type: bson.TypeObjectID, Value: id[:]}
}

// Binary makes binary data.
func Binary(subtype byte, data []byte) bson.RawValue {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, len(data)+5), uint32(len(data)))
	b = append(b, subtype)
	return bson.RawValue{Type: bson.TypeBinary, Value: append(b, data...)}
}

// UUID makes a binary value of subtype 4.
func UUID(u [16]byte) bson.RawValue { return Binary(4, u[:]) }

// SubDoc gives the document inside a document or array value, nil for others.
func SubDoc(v bson.RawValue) bson.Raw {
	if v.Type == bson.TypeEmbeddedDocument || v.Type == bson.TypeArray {
		return bson.Raw(v.Value)
	}
	return nil
}

// Str gives the string in a value, empty for other types.
func Str(v bson.RawValue) string {
	if v.Type != bson.TypeString && v.Type != bson.TypeSymbol && v.Type != bson.TypeJavaScript || len(v.Value) < 5 {
		return ""
	}
	return string(v.Value[4 : len(v.Value)-1])
}

// Truthy is the server's idea of true: everything but false, numeric zero, null and undefined.
func Truthy(v bson.RawValue) bool {
	switch v.Type {
	case 0, bson.TypeNull, bson.TypeUndefined:
		return false
	case bson.TypeBoolean:
		return v.Value[0] != 0
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		f, _ := Float(v)
		return f != 0
	}
	return true
}

// SubDocs lists the documents of an array.
func SubDocs(v bson.RawValue) []bson.Raw {
	var out []bson.Raw
	for _, x := range Each(SubDoc(v)) {
		out = append(out, SubDoc(x))
	}
	return out
}

// UUIDOf reads a UUID value.
func UUIDOf(v bson.RawValue) ([16]byte, bool) {
	sub, data, ok := v.BinaryOK()
	if !ok || sub != 4 || len(data) != 16 {
		return [16]byte{}, false
	}
	return [16]byte(data), true
}

// StringField gives the string in a top-level field, empty when there is none.
func StringField(doc bson.Raw, key string) string {
	v, _ := Lookup(doc, key)
	return Str(v)
}
