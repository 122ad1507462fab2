// Package raw reads numbers out of BSON replies from outside, walking them in place: whatever the bytes hold, it ends, and it
// never reads beyond them. bson.Raw would allocate a slice of all fields of every document that is looked at.
package raw

import (
	"bytes"
	"encoding/binary"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The BSON types that are told apart here; the others only have to be skipped.
const (
	Double    = 0x01
	Document  = 0x03
	Array     = 0x04
	ObjectID  = 0x07
	Bool      = 0x08
	Date      = 0x09
	Int32     = 0x10
	Timestamp = 0x11
	Int64     = 0x12
	Decimal   = 0x13
	String    = 0x02
)

// Element is one field of a document, still in its bytes.
type Element struct {
	Type byte
	Key  []byte
	Data []byte
}

// Walker steps through the fields of one BSON document. Bytes come from outside: whatever they hold, Next ends, and it
// never reads beyond them.
type Walker struct {
	rest []byte
	bad  bool
}

// Walk starts at the first field of a document. A document that is not one yields nothing and is bad.
func Walk(doc []byte) Walker {
	if len(doc) < 5 {
		return Walker{bad: true}
	}
	n := int(int32(binary.LittleEndian.Uint32(doc))) //nolint:gosec // checked in the next line
	if n < 5 || n > len(doc) || doc[n-1] != 0 {
		return Walker{bad: true}
	}
	return Walker{rest: doc[4 : n-1]}
}

// Next is the next field; false at the end, or where the bytes stop making sense.
func (w *Walker) Next() (Element, bool) {
	if len(w.rest) == 0 {
		return Element{}, false
	}
	end := bytes.IndexByte(w.rest[1:], 0)
	if end < 0 {
		w.bad, w.rest = true, nil
		return Element{}, false
	}
	e := Element{Type: w.rest[0], Key: w.rest[1 : 1+end]}
	body := w.rest[end+2:]
	n := valueSize(e.Type, body)
	if n < 0 || n > len(body) {
		w.bad, w.rest = true, nil
		return Element{}, false
	}
	e.Data, w.rest = body[:n], body[n:]
	return e, true
}

// Bad reports whether the walk ended because the bytes are no document.
func (w *Walker) Bad() bool { return w.bad }

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
	case Double, Date, Timestamp, Int64:
		return 8
	case Int32:
		return 4
	case Bool:
		return 1
	case 0x06, 0x0A, 0x7F, 0xFF:
		return 0
	case ObjectID:
		return 12
	case Decimal:
		return 16
	case String, 0x0D, 0x0E:
		return length(4)
	case Document, Array:
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

// Lookup finds a field by its path.
func Lookup(doc []byte, path ...string) (Element, bool) {
	for i, name := range path {
		found := false
		w := Walk(doc)
		for e, ok := w.Next(); ok; e, ok = w.Next() {
			if string(e.Key) != name {
				continue
			}
			if i == len(path)-1 {
				return e, true
			}
			if e.Type != Document && e.Type != Array {
				return Element{}, false
			}
			doc, found = e.Data, true
			break
		}
		if !found {
			return Element{}, false
		}
	}
	return Element{}, false
}

// maxMagnitude is where a number stops being one: servers write 2^63-1, or 9223372036854776000 after a trip through
// JavaScript, for "unlimited".
const maxMagnitude = 9.2e18

// Number decodes a field as a number, whichever of the numeric types it has; dates are milliseconds, timestamps seconds,
// booleans 0 or 1. Sentinels, infinities and what is no number are absent.
func (e *Element) Number() (Value, bool) {
	switch e.Type {
	case Int32:
		return Int(int64(int32(binary.LittleEndian.Uint32(e.Data)))), true //nolint:gosec // two's complement
	case Int64, Date:
		v := int64(binary.LittleEndian.Uint64(e.Data)) //nolint:gosec // two's complement
		if v > maxMagnitude || v < -maxMagnitude {
			return Value{}, false
		}
		return Int(v), true
	case Double:
		return finite(math.Float64frombits(binary.LittleEndian.Uint64(e.Data)))
	case Bool:
		return Int(int64(min(e.Data[0], 1))), true
	case Timestamp:
		seconds := binary.LittleEndian.Uint32(e.Data[4:])
		return Int(int64(seconds)), seconds != 0
	case Decimal:
		d := bson.NewDecimal128(binary.LittleEndian.Uint64(e.Data[8:]), binary.LittleEndian.Uint64(e.Data))
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
