package oplog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// Elements calls each for every field of a document and ends with its first error, or with one for a document that is not
// whole. Values are cut to their length and checked no deeper: what lies inside keeps its bytes. (The driver's own walk
// panics on lengths that a damaged document may have.)
func Elements(doc []byte, each func(key []byte, v bsoncore.Value) error) error {
	if len(doc) < 5 {
		return fmt.Errorf("%w: document of %d bytes", ErrCorrupt, len(doc))
	}
	if n := binary.LittleEndian.Uint32(doc); int64(n) != int64(len(doc)) || doc[len(doc)-1] != 0 {
		return fmt.Errorf("%w: document of %d bytes says it has %d", ErrCorrupt, len(doc), n)
	}
	for rest := doc[4 : len(doc)-1]; len(rest) > 0; {
		end := bytes.IndexByte(rest[1:], 0)
		if end < 0 {
			return fmt.Errorf("%w: broken field name", ErrCorrupt)
		}
		t, key, data := bsoncore.Type(rest[0]), rest[1:1+end], rest[2+end:]
		n := valueLen(t, data)
		if n < 0 || n > int64(len(data)) {
			return fmt.Errorf("%w: broken value of field %q", ErrCorrupt, key)
		}
		if err := each(key, bsoncore.Value{Type: t, Data: data[:n:n]}); err != nil {
			return err
		}
		rest = data[n:]
	}
	return nil
}

// Lookup finds a field; ok is false where there is none or the document is not whole.
func Lookup(doc []byte, name string) (v bsoncore.Value, ok bool) {
	_ = Elements(doc, func(key []byte, x bsoncore.Value) error {
		if string(key) == name {
			v, ok = x, true
			return errFound
		}
		return nil
	})
	return v, ok
}

var errFound = errors.New("found")

// valueLen is the length of a value, -1 where its bytes cannot be one.
func valueLen(t bsoncore.Type, b []byte) int64 {
	prefixed := func(min, more int64) int64 {
		if len(b) < 4 {
			return -1
		}
		n := int64(int32(binary.LittleEndian.Uint32(b)))
		if n < min {
			return -1
		}
		return n + more
	}
	text := func(more int64) int64 {
		n := prefixed(1, 4)
		if n < 0 || n > int64(len(b)) || b[n-1] != 0 {
			return -1
		}
		return n + more
	}
	switch t {
	case bsoncore.TypeDouble, bsoncore.TypeDateTime, bsoncore.TypeTimestamp, bsoncore.TypeInt64:
		return 8
	case bsoncore.TypeString, bsoncore.TypeJavaScript, bsoncore.TypeSymbol:
		return text(0)
	case bsoncore.TypeEmbeddedDocument, bsoncore.TypeArray:
		return prefixed(5, 0)
	case bsoncore.TypeBinary:
		return prefixed(0, 5)
	case bsoncore.TypeUndefined, bsoncore.TypeNull, bsoncore.TypeMinKey, bsoncore.TypeMaxKey:
		return 0
	case bsoncore.TypeObjectID:
		return 12
	case bsoncore.TypeBoolean:
		return 1
	case bsoncore.TypeInt32:
		return 4
	case bsoncore.TypeDecimal128:
		return 16
	case bsoncore.TypeDBPointer:
		return text(12)
	case bsoncore.TypeCodeWithScope:
		return prefixed(14, 0)
	case bsoncore.TypeRegex:
		if i := bytes.IndexByte(b, 0); i >= 0 {
			if j := bytes.IndexByte(b[i+1:], 0); j >= 0 {
				return int64(i + j + 2)
			}
		}
	}
	return -1
}

// Binary gives the bytes of a binary value. Those of the old subtype 2, which has a second length inside, are not for it.
func Binary(v bsoncore.Value) (subtype byte, data []byte, ok bool) {
	if v.Type != bsoncore.TypeBinary || len(v.Data) < 5 || v.Data[4] == bson.TypeBinaryBinaryOld {
		return 0, nil, false
	}
	return v.Data[4], v.Data[5:], true
}

func uuidOf(v bsoncore.Value) (u UUID, ok bool) {
	subtype, b, ok := Binary(v)
	if !ok || len(b) != 16 || (subtype != bson.TypeBinaryUUID && subtype != bson.TypeBinaryUUIDOld) {
		return u, false
	}
	copy(u[:], b)
	return u, true
}
