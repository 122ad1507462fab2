package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxDepth is how deep documents may nest. Servers stop at 180 or 200; without a bound a small post of nested empty
// documents would exhaust the stack of everything that walks it.
const maxDepth = 200

var errShort = errors.New("it ends in the middle of a value")

// Validate checks a whole foreign document: every length, terminator and type byte at every depth. After it, walking the
// document cannot run past its end.
func Validate(doc bson.Raw) error {
	n, err := docLength(doc)
	if err != nil {
		return err
	}
	if n != len(doc) {
		return fmt.Errorf("document announces %d bytes and has %d", n, len(doc))
	}
	return validateBody(doc, 0)
}

func docLength(b []byte) (int, error) {
	if len(b) < 5 {
		return 0, errShort
	}
	n := int(int32(binary.LittleEndian.Uint32(b)))
	if n < 5 || n > len(b) {
		return 0, fmt.Errorf("document announces %d bytes and %d are there", n, len(b))
	}
	if b[n-1] != 0 {
		return 0, errors.New("document does not end with a zero byte")
	}
	return n, nil
}

func validateBody(doc []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("documents nest deeper than %d", maxDepth)
	}
	rest := doc[4:]
	for {
		t := bson.Type(rest[0])
		if t == 0 {
			if len(rest) != 1 {
				return errors.New("bytes follow the end of a document")
			}
			return nil
		}
		k := cstring(rest[1:])
		if k < 0 {
			return errShort
		}
		val := rest[1+k:]
		n, err := valueLength(t, val)
		if err != nil {
			return err
		}
		if n >= len(val) { // the terminator must still follow
			return errShort
		}
		switch t {
		case bson.TypeEmbeddedDocument, bson.TypeArray:
			if err := validateBody(val[:n], depth+1); err != nil {
				return err
			}
		case bson.TypeCodeWithScope:
			s, err := stringLength(val[4:n])
			if err != nil {
				return err
			}
			m, err := docLength(val[4+s : n])
			if err != nil {
				return err
			}
			if 4+s+m != n {
				return errors.New("code with scope has a wrong length")
			}
			if err := validateBody(val[4+s:n], depth+1); err != nil {
				return err
			}
		}
		rest = val[n:]
	}
}

// cstring returns the length of the zero-terminated string at the start of b, terminator included, or -1.
func cstring(b []byte) int {
	for i, c := range b {
		if c == 0 {
			return i + 1
		}
	}
	return -1
}

func stringLength(b []byte) (int, error) {
	if len(b) < 5 {
		return 0, errShort
	}
	n := int(int32(binary.LittleEndian.Uint32(b)))
	if n < 1 || n > len(b)-4 {
		return 0, errShort
	}
	if b[4+n-1] != 0 {
		return 0, errors.New("a string does not end with a zero byte")
	}
	return 4 + n, nil
}

// valueLength returns how many bytes of b the value takes.
func valueLength(t bson.Type, b []byte) (int, error) {
	n := 0
	switch t {
	case bson.TypeNull, bson.TypeUndefined, bson.TypeMinKey, bson.TypeMaxKey:
	case bson.TypeBoolean:
		n = 1
		if len(b) > 0 && b[0] > 1 {
			return 0, errors.New("a boolean is neither 0 nor 1")
		}
	case bson.TypeInt32:
		n = 4
	case bson.TypeDouble, bson.TypeDateTime, bson.TypeTimestamp, bson.TypeInt64:
		n = 8
	case bson.TypeObjectID:
		n = 12
	case bson.TypeDecimal128:
		n = 16
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		return stringLength(b)
	case bson.TypeDBPointer:
		s, err := stringLength(b)
		if err != nil {
			return 0, err
		}
		n = s + 12
	case bson.TypeBinary:
		if len(b) < 5 {
			return 0, errShort
		}
		l := int(int32(binary.LittleEndian.Uint32(b)))
		if l < 0 || l > len(b)-5 {
			return 0, errShort
		}
		if b[4] == 2 { // the old binary subtype carries its length twice
			if l < 4 || int(int32(binary.LittleEndian.Uint32(b[5:]))) != l-4 {
				return 0, errors.New("an old binary value has a wrong length")
			}
		}
		n = 5 + l
	case bson.TypeRegex:
		p := cstring(b)
		if p < 0 {
			return 0, errShort
		}
		o := cstring(b[p:])
		if o < 0 {
			return 0, errShort
		}
		n = p + o
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return docLength(b)
	case bson.TypeCodeWithScope:
		if len(b) < 14 {
			return 0, errShort
		}
		n = int(int32(binary.LittleEndian.Uint32(b)))
		if n < 14 {
			return 0, errShort
		}
	default:
		return 0, fmt.Errorf("type 0x%02x is not a BSON type", byte(t))
	}
	if n > len(b) {
		return 0, errShort
	}
	return n, nil
}

// Each calls fn for every element of a document, in order, until fn returns false; the bytes it passes are the document's
// own. It ends quietly at the first fault: use Validate to find faults.
func Each(doc bson.Raw, fn func(key []byte, v bson.RawValue) bool) {
	if len(doc) < 5 {
		return
	}
	rest := doc[4:]
	for len(rest) > 1 && rest[0] != 0 {
		t := bson.Type(rest[0])
		k := cstring(rest[1:])
		if k < 0 {
			return
		}
		key, val := rest[1:k], rest[1+k:]
		n, err := valueLength(t, val)
		if err != nil || !fn(key, bson.RawValue{Type: t, Value: val[:n]}) {
			return
		}
		rest = val[n:]
	}
}

// each is Each for callbacks that may fail.
func each(doc bson.Raw, fn func(key []byte, v bson.RawValue) error) error {
	var err error
	Each(doc, func(key []byte, v bson.RawValue) bool {
		err = fn(key, v)
		return err == nil
	})
	return err
}
