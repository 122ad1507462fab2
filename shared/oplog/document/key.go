package document

import (
	"encoding/binary"
	"math"
	"math/big"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Key gives a string that is equal for exactly the values that the index on _id takes for one: 1, 1.0, NumberLong(1) and
// NumberDecimal("1.00"), a string and a symbol of the same text, -0 and 0, also within documents. It serves a map, not an order.
func Key(v bsoncore.Value) string {
	var buf [40]byte
	return string(AppendKey(buf[:0], v))
}

// AppendKey appends the bytes of Key.
func AppendKey(dst []byte, v bsoncore.Value) []byte { return appendKey(dst, v, 0) }

func appendKey(dst []byte, v bsoncore.Value, depth int) []byte {
	switch v.Type {
	case bsoncore.TypeInt32:
		n, _ := v.Int32OK()
		return appendWhole(dst, int64(n))
	case bsoncore.TypeInt64:
		n, _ := v.Int64OK()
		return appendWhole(dst, n)
	case bsoncore.TypeDouble:
		f, _ := v.DoubleOK()
		return appendDouble(dst, f)
	case bsoncore.TypeDecimal128:
		return appendDecimal(dst, v)
	case bsoncore.TypeSymbol, bsoncore.TypeString:
		return append(append(dst, byte(bsoncore.TypeString)), v.Data...)
	case bsoncore.TypeEmbeddedDocument, bsoncore.TypeArray:
		if depth > maxDepth {
			break
		}
		start := len(dst)
		dst = append(dst, byte(v.Type))
		err := oplog.Elements(v.Data, func(key []byte, inner bsoncore.Value) error {
			if v.Type == bsoncore.TypeEmbeddedDocument {
				dst = append(append(append(dst, 1), key...), 0)
			}
			dst = appendKey(dst, inner, depth+1)
			return nil
		})
		if err == nil {
			return append(dst, 0)
		}
		dst = dst[:start] // not whole: by its bytes
	}
	return append(append(dst, byte(v.Type)), v.Data...)
}

// Numbers get one of four forms: whole ones that an int64 holds, others that a double holds, other decimals, and NaN.
const (
	keyWhole   = 0xF0
	keyDouble  = 0xF1
	keyDecimal = 0xF2
	keyNaN     = 0xF3
)

func appendWhole(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, keyWhole), uint64(n))
}

func appendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, keyNaN)
	case f == math.Trunc(f) && f >= -(1<<63) && f < 1<<63:
		return appendWhole(dst, int64(f))
	}
	return binary.BigEndian.AppendUint64(append(dst, keyDouble), math.Float64bits(f))
}

// appendDecimal finds the form of a decimal's exact value. Its exponent has four digits, so the arithmetic stays small.
func appendDecimal(dst []byte, v bsoncore.Value) []byte {
	h, l, ok := v.Decimal128OK()
	if !ok {
		return append(append(dst, byte(v.Type)), v.Data...)
	}
	d := bson.NewDecimal128(h, l)
	if d.IsNaN() {
		return append(dst, keyNaN)
	}
	if s := d.IsInf(); s != 0 {
		return appendDouble(dst, math.Inf(s))
	}
	n, exp, err := d.BigInt()
	if err != nil {
		return append(append(dst, byte(v.Type)), v.Data...)
	}
	if n.Sign() == 0 {
		return appendWhole(dst, 0)
	}
	ten := big.NewInt(10)
	for rest := new(big.Int); ; {
		q := new(big.Int)
		if q.QuoRem(n, ten, rest); rest.Sign() != 0 {
			break
		}
		n, exp = q, exp+1
	}
	if exp >= 0 && exp < 19 {
		if whole := new(big.Int).Mul(n, new(big.Int).Exp(ten, big.NewInt(int64(exp)), nil)); whole.IsInt64() {
			return appendWhole(dst, whole.Int64())
		}
	}
	r := new(big.Rat).SetInt(n)
	if exp > -400 && exp < 400 { // beyond them no double is exact
		scale := new(big.Rat).SetInt(new(big.Int).Exp(ten, big.NewInt(int64(max(exp, -exp))), nil))
		if exp < 0 {
			scale.Inv(scale)
		}
		if f, exact := r.Mul(r, scale).Float64(); exact {
			return appendDouble(dst, f)
		}
	}
	dst = append(dst, keyDecimal)
	dst = binary.BigEndian.AppendUint32(dst, uint32(int32(exp)))
	return append(append(dst, n.String()...), 0)
}
