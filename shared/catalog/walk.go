package catalog

import (
	"bytes"
	"encoding/binary"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The BSON types that are told apart here; the others only have to be skipped.
const (
	typeDouble    = 0x01
	typeDocument  = 0x03
	typeArray     = 0x04
	typeObjectID  = 0x07
	typeBool      = 0x08
	typeDate      = 0x09
	typeInt32     = 0x10
	typeTimestamp = 0x11
	typeInt64     = 0x12
	typeDecimal   = 0x13
	typeString    = 0x02
)

// element is one field of a document, still in its bytes.
type element struct {
	typ  byte
	key  []byte
	data []byte
}

// walker steps through the fields of one BSON document. Bytes come from outside: whatever they hold, next ends, and it
// never reads beyond them. It exists beside bson.Raw because that allocates a slice of all fields of every document.
type walker struct {
	rest []byte
	bad  bool
}

// walk starts at the first field of a document. A document that is not one yields nothing and is bad.
func walk(doc []byte) walker {
	if len(doc) < 5 {
		return walker{bad: true}
	}
	n := int(int32(binary.LittleEndian.Uint32(doc))) //nolint:gosec // checked in the next line
	if n < 5 || n > len(doc) || doc[n-1] != 0 {
		return walker{bad: true}
	}
	return walker{rest: doc[4 : n-1]}
}

func (w *walker) next() (element, bool) {
	if len(w.rest) == 0 {
		return element{}, false
	}
	end := bytes.IndexByte(w.rest[1:], 0)
	if end < 0 {
		w.bad, w.rest = true, nil
		return element{}, false
	}
	e := element{typ: w.rest[0], key: w.rest[1 : 1+end]}
	body := w.rest[end+2:]
	n := valueSize(e.typ, body)
	if n < 0 || n > len(body) {
		w.bad, w.rest = true, nil
		return element{}, false
	}
	e.data, w.rest = body[:n], body[n:]
	return e, true
}

// valueSize is the length of a value, or -1 when the bytes cannot be one.
func valueSize(typ byte, b []byte) int {
	length := func(extra int) int {
		if len(b) < 4 {
			return -1
		}
		n := int(int32(binary.LittleEndian.Uint32(b))) //nolint:gosec // checked in the next line
		if n < 0 || n > len(b) {
			return -1
		}
		return n + extra
	}
	switch typ {
	case typeDouble, typeDate, typeTimestamp, typeInt64:
		return 8
	case typeInt32:
		return 4
	case typeBool:
		return 1
	case 0x06, 0x0A, 0x7F, 0xFF:
		return 0
	case typeObjectID:
		return 12
	case typeDecimal:
		return 16
	case typeString, 0x0D, 0x0E:
		return length(4)
	case typeDocument, typeArray:
		if n := length(0); n >= 5 {
			return n
		}
		return -1
	case 0x0F:
		if n := length(0); n >= 4 {
			return n
		}
		return -1
	case 0x05:
		return length(5)
	case 0x0C:
		return length(16)
	case 0x0B:
		first := bytes.IndexByte(b, 0)
		if first < 0 {
			return -1
		}
		second := bytes.IndexByte(b[first+1:], 0)
		if second < 0 {
			return -1
		}
		return first + second + 2
	default:
		return -1
	}
}

// lookup finds a field by its path.
func lookup(doc []byte, path ...string) (element, bool) {
	for i, name := range path {
		found := false
		w := walk(doc)
		for e, ok := w.next(); ok; e, ok = w.next() {
			if string(e.key) != name {
				continue
			}
			if i == len(path)-1 {
				return e, true
			}
			if e.typ != typeDocument && e.typ != typeArray {
				return element{}, false
			}
			doc, found = e.data, true
			break
		}
		if !found {
			return element{}, false
		}
	}
	return element{}, false
}

// maxMagnitude is where a number stops being one: servers write 2^63-1, or 9223372036854776000 after a trip through
// JavaScript, for "unlimited".
const maxMagnitude = 9.2e18

// number decodes a field as a number, whichever of the numeric types it has; dates are milliseconds, timestamps seconds,
// booleans 0 or 1. Sentinels, infinities and what is no number are absent.
func (e *element) number() (Value, bool) {
	switch e.typ {
	case typeInt32:
		return Int(int64(int32(binary.LittleEndian.Uint32(e.data)))), true //nolint:gosec // two's complement
	case typeInt64, typeDate:
		v := int64(binary.LittleEndian.Uint64(e.data)) //nolint:gosec // two's complement
		if v > maxMagnitude || v < -maxMagnitude {
			return Value{}, false
		}
		return Int(v), true
	case typeDouble:
		return finite(math.Float64frombits(binary.LittleEndian.Uint64(e.data)))
	case typeBool:
		return Int(int64(min(e.data[0], 1))), true
	case typeTimestamp:
		seconds := binary.LittleEndian.Uint32(e.data[4:])
		return Int(int64(seconds)), seconds != 0
	case typeDecimal:
		d := bson.NewDecimal128(binary.LittleEndian.Uint64(e.data[8:]), binary.LittleEndian.Uint64(e.data))
		if d.IsNaN() || d.IsInf() != 0 {
			return Value{}, false
		}
		digits, exponent, err := d.BigInt()
		if err != nil {
			return Value{}, false
		}
		f, _ := digits.Float64()
		return finite(f * math.Pow10(exponent))
	}
	return Value{}, false
}

func finite(f float64) (Value, bool) {
	if math.IsNaN(f) || math.Abs(f) >= maxMagnitude {
		return Value{}, false
	}
	return Float(f), true
}
