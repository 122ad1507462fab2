package bsonval

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// rank is the place of a type in the server's order of types.
func rank(t bson.Type) byte {
	switch t {
	case bson.TypeMinKey:
		return 1
	case 0, bson.TypeUndefined:
		return 3
	case bson.TypeNull:
		return 5
	case bson.TypeDouble, bson.TypeInt32, bson.TypeInt64, bson.TypeDecimal128:
		return 10
	case bson.TypeString, bson.TypeSymbol:
		return 15
	case bson.TypeEmbeddedDocument:
		return 20
	case bson.TypeArray:
		return 25
	case bson.TypeBinary:
		return 30
	case bson.TypeObjectID:
		return 35
	case bson.TypeBoolean:
		return 40
	case bson.TypeDateTime:
		return 45
	case bson.TypeTimestamp:
		return 47
	case bson.TypeRegex:
		return 50
	case bson.TypeDBPointer:
		return 55
	case bson.TypeJavaScript:
		return 60
	case bson.TypeCodeWithScope:
		return 65
	}
	return 127
}

// SameBracket says whether two values are compared with each other by $gt and its like: numbers with numbers, strings
// with strings and so on.
func SameBracket(a, b bson.RawValue) bool { return rank(a.Type) == rank(b.Type) }

// Bracket gives the keys between which all values of v's kind lie: [low, high).
func Bracket(v bson.RawValue) (low, high string) {
	r := rank(v.Type)
	return string([]byte{r}), string([]byte{r + 1})
}

// Key is a byte string whose order is the order of values and which is equal exactly for equal values (1 and 1.0 are).
// Keys are self-delimiting: keys of several values may be joined, and the joined keys sort as the tuple does.
func Key(v bson.RawValue) string { return string(AppendKey(nil, v, nil)) }

// AppendKey appends the key of v; c, when not nil, replaces strings by their collation keys.
func AppendKey(dst []byte, v bson.RawValue, c *Collation) []byte {
	dst = append(dst, rank(v.Type))
	switch v.Type {
	case bson.TypeDouble, bson.TypeInt32, bson.TypeInt64, bson.TypeDecimal128:
		dst = appendNumberKey(dst, v)
	case bson.TypeString, bson.TypeSymbol, bson.TypeJavaScript:
		s := Str(v)
		if c != nil && v.Type != bson.TypeJavaScript {
			s = c.SortKey(s)
		}
		dst = appendStringKey(dst, s)
	case bson.TypeEmbeddedDocument:
		for k, x := range Each(bson.Raw(v.Value)) {
			dst = append(dst, rank(x.Type))
			dst = appendStringKey(dst, k)
			dst = AppendKey(dst, x, c)
		}
		dst = append(dst, 0)
	case bson.TypeArray:
		for _, x := range Each(bson.Raw(v.Value)) {
			dst = AppendKey(dst, x, c)
		}
		dst = append(dst, 0)
	case bson.TypeBinary:
		if len(v.Value) >= 5 {
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Value)-5))
			dst = append(dst, v.Value[4:]...)
		}
	case bson.TypeObjectID, bson.TypeBoolean:
		dst = append(dst, v.Value...)
	case bson.TypeDateTime:
		dst = binary.BigEndian.AppendUint64(dst, binary.LittleEndian.Uint64(v.Value)^(1<<63))
	case bson.TypeTimestamp:
		dst = binary.BigEndian.AppendUint64(dst, binary.LittleEndian.Uint64(v.Value))
	case bson.TypeRegex:
		dst = append(dst, v.Value...)
	case bson.TypeDBPointer, bson.TypeCodeWithScope:
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Value)))
		dst = append(dst, v.Value...)
	}
	return dst
}

// appendStringKey writes the bytes with zeros escaped and a terminator that sorts before everything.
func appendStringKey(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			break
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, 0, 0xff)
		s = s[i+1:]
	}
	dst = append(dst, s...)
	return append(dst, 0, 0)
}

// Number classes, in order.
const (
	keyNaN  = 1
	keyNeg  = 2
	keyZero = 3
	keyPos  = 4
)

// appendNumberKey writes sign, decimal exponent and digits without trailing zeros: exact for every numeric type, so that
// a decimal and a double compare by their true values.
func appendNumberKey(dst []byte, v bson.RawValue) []byte {
	var neg bool
	var digits string
	var exp int // the value is 0.digits * 10^exp
	switch v.Type {
	case bson.TypeDouble:
		f := math.Float64frombits(binary.LittleEndian.Uint64(v.Value))
		switch {
		case math.IsNaN(f):
			return append(dst, keyNaN)
		case f == 0:
			return append(dst, keyZero)
		case math.IsInf(f, 1):
			return append(dst, keyPos, 0xff, 0xff)
		case math.IsInf(f, -1):
			return append(dst, keyNeg, 0, 0)
		}
		neg = f < 0
		f = math.Abs(f)
		if f < 1<<53 && f == math.Trunc(f) {
			digits = strconv.FormatUint(uint64(f), 10)
			exp = len(digits)
			break
		}
		s := strconv.FormatFloat(f, 'e', 766, 64)
		e := strings.IndexByte(s, 'e')
		exp, _ = strconv.Atoi(s[e+1:])
		exp++
		digits = s[:1] + s[2:e]
	case bson.TypeDecimal128:
		d := v.Decimal128()
		switch {
		case d.IsNaN():
			return append(dst, keyNaN)
		case d.IsInf() > 0:
			return append(dst, keyPos, 0xff, 0xff)
		case d.IsInf() < 0:
			return append(dst, keyNeg, 0, 0)
		}
		n, e, err := d.BigInt()
		if err != nil || n.Sign() == 0 {
			return append(dst, keyZero)
		}
		neg = n.Sign() < 0
		digits = n.Abs(n).String()
		exp = len(digits) + e
	default:
		n := intOf(v)
		if n == 0 {
			return append(dst, keyZero)
		}
		neg = n < 0
		u := uint64(n)
		if neg {
			u = -u
		}
		digits = strconv.FormatUint(u, 10)
		exp = len(digits)
	}
	digits = strings.TrimRight(digits, "0")
	class := byte(keyPos)
	if neg {
		class = keyNeg
	}
	dst = append(dst, class)
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, uint16(exp+0x4000))
	dst = append(dst, digits...)
	dst = append(dst, 0)
	if neg {
		for i := at; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
	}
	return dst
}

func intOf(v bson.RawValue) int64 {
	if v.Type == bson.TypeInt32 {
		return int64(int32(binary.LittleEndian.Uint32(v.Value)))
	}
	return int64(binary.LittleEndian.Uint64(v.Value))
}

// Compare orders two values as a server does.
func Compare(a, b bson.RawValue) int { return CompareWith(a, b, nil) }

// CompareWith is Compare under a collation.
func CompareWith(a, b bson.RawValue, c *Collation) int {
	ra, rb := rank(a.Type), rank(b.Type)
	if ra != rb {
		return cmp.Compare(ra, rb)
	}
	switch a.Type { // the common types without making keys
	case bson.TypeInt32, bson.TypeInt64:
		if b.Type == bson.TypeInt32 || b.Type == bson.TypeInt64 {
			return cmp.Compare(intOf(a), intOf(b))
		}
	case bson.TypeString, bson.TypeSymbol:
		if c == nil {
			return bytes.Compare(a.Value[4:], b.Value[4:])
		}
	case bson.TypeDateTime:
		return cmp.Compare(intOf(a), intOf(b))
	case bson.TypeTimestamp:
		return cmp.Compare(uint64(intOf(a)), uint64(intOf(b)))
	case bson.TypeObjectID, bson.TypeBoolean:
		return bytes.Compare(a.Value, b.Value)
	case bson.TypeNull, bson.TypeMinKey, bson.TypeMaxKey, bson.TypeUndefined:
		return 0
	}
	return bytes.Compare(AppendKey(nil, a, c), AppendKey(nil, b, c))
}

// Equal says whether two values compare equal; 1 and 1.0 do.
func Equal(a, b bson.RawValue) bool { return Compare(a, b) == 0 }

// Same says whether two values are the same bytes of the same type.
func Same(a, b bson.RawValue) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) }

// Collation orders strings ignoring case (strength 1 or 2) or by letter first and case second. It knows the letters and
// digits of ASCII as the server's own tables order them; other runes follow by their lower-case bytes.
type Collation struct {
	Strength int
}

// SortKey is the collation key of a string.
func (c *Collation) SortKey(s string) string {
	var p []byte
	n := 0
	for _, r := range strings.ToLower(s) {
		n++
		switch {
		case r >= 'a' && r <= 'z':
			p = append(p, byte(0x29+2*(r-'a')))
		case r >= '0' && r <= '9':
			p = append(p, byte(0x14+2*(r-'0')))
		default:
			p = append(p, 0xe0)
			p = append(p, string(r)...)
		}
	}
	if c.Strength == 1 || n == 0 {
		return string(p)
	}
	p = append(p, 1, byte(4+min(n, 0x40)))
	if c.Strength >= 3 {
		p = append(p, 1)
		p = append(p, s...)
	}
	return string(p)
}
