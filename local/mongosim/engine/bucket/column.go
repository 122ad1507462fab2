package bucket

import (
	"bytes"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// A column of a compressed bucket is a run of values: a literal is a BSON element without a name; a control byte of the form 0x8n is
// followed by n+1 words that pack deltas; a zero byte ends it. What is written here are literals, and for a value that is missing one
// word with a single empty slot: a column that any server reads, larger than those that servers write.

// subtype is that of columns.
const subtype = 7

// missing is a value that is not there: one word, of the selector 14 (one slot), all ones.
var missing = []byte{0x80, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff} //nolint:gochecknoglobals // a constant

// appendColumn adds a value, or none, to a column; nil begins one.
func appendColumn(column []byte, v bson.RawValue) []byte {
	out := append([]byte(nil), bytes.TrimSuffix(column, []byte{0})...)
	if v.Type == 0 {
		out = append(out, missing...)
	} else {
		out = append(append(out, byte(v.Type), 0), v.Value...)
	}
	return append(out, 0)
}

// column reads a column as it is written here; false where it is not understood.
func column(b []byte) (out []bson.RawValue, ok bool) {
	for len(b) > 0 {
		switch {
		case b[0] == 0:
			return out, len(b) == 1
		case bytes.HasPrefix(b, missing):
			out, b = append(out, bson.RawValue{}), b[len(missing):]
		case len(b) > 2 && b[1] == 0 && (b[0] < 0x20 || b[0] == 0x7f || b[0] == 0xff):
			v, rest, ok := bsoncore.ReadValue(b[2:], bsoncore.Type(b[0]))
			if !ok {
				return nil, false
			}
			out, b = append(out, bson.RawValue{Type: bson.Type(v.Type), Value: v.Data}), rest
		default:
			return nil, false
		}
	}
	return nil, false
}

// binaryOf is a column's bytes.
func binaryOf(v bson.RawValue) ([]byte, bool) {
	sub, data, ok := v.BinaryOK()
	return data, ok && sub == subtype
}

// packed makes the columns of a bucket's first measurement.
func packed(columns []bsonval.Elem) []bsonval.Elem {
	out := make([]bsonval.Elem, len(columns))
	for i, c := range columns {
		out[i] = bsonval.Elem{Key: c.Key, Value: bsonval.Binary(subtype, appendColumn(nil, c.Value))}
	}
	return out
}

// extend adds a measurement's values as the n-th to the columns of a compressed bucket.
func extend(columns, values []bsonval.Elem, n int) []bsonval.Elem {
	out := make([]bsonval.Elem, 0, len(columns)+1)
	for _, c := range columns {
		var v bson.RawValue
		if i := find(values, c.Key); i >= 0 {
			v = values[i].Value
		}
		data, _ := binaryOf(c.Value)
		out = append(out, bsonval.Elem{Key: c.Key, Value: bsonval.Binary(subtype, appendColumn(data, v))})
	}
	for _, x := range values {
		if find(columns, x.Key) >= 0 {
			continue
		}
		var data []byte
		for range n {
			data = appendColumn(data, bson.RawValue{})
		}
		out = append(out, bsonval.Elem{Key: x.Key, Value: bsonval.Binary(subtype, appendColumn(data, x.Value))})
	}
	return out
}
