package bsonval

import (
	"encoding/binary"
	"math"
	"math/big"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// IsNumber says whether a value is an int, long, double or decimal.
func IsNumber(v bson.RawValue) bool { return rank(v.Type) == 10 }

// Float is a number as a double; false when v is no number.
func Float(v bson.RawValue) (float64, bool) {
	switch v.Type {
	case bson.TypeDouble:
		return math.Float64frombits(binary.LittleEndian.Uint64(v.Value)), true
	case bson.TypeInt32, bson.TypeInt64:
		return float64(intOf(v)), true
	case bson.TypeDecimal128:
		d := v.Decimal128()
		if d.IsNaN() {
			return math.NaN(), true
		}
		if s := d.IsInf(); s != 0 {
			return math.Inf(s), true
		}
		f, _, err := big.ParseFloat(d.String(), 10, 64, big.ToNearestEven)
		if err != nil {
			return 0, true
		}
		out, _ := f.Float64()
		return out, true
	}
	return 0, false
}

// Integer is a number truncated to a long, saturating; false when v is no number.
func Integer(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64:
		return intOf(v), true
	case bson.TypeDouble, bson.TypeDecimal128:
		f, _ := Float(v)
		switch {
		case math.IsNaN(f):
			return 0, true
		case f >= math.MaxInt64:
			return math.MaxInt64, true
		case f <= math.MinInt64:
			return math.MinInt64, true
		}
		return int64(f), true
	}
	return 0, false
}

// Whole is Integer for numbers without a fraction that fit a long.
func Whole(v bson.RawValue) (int64, bool) {
	n, ok := Integer(v)
	if !ok {
		return 0, false
	}
	if v.Type == bson.TypeDouble || v.Type == bson.TypeDecimal128 {
		f, _ := Float(v)
		if f != math.Trunc(f) || math.Abs(f) > 1<<63 {
			return 0, false
		}
	}
	return n, true
}

// Add adds two numbers; the type of the result is the wider of the two, and ints that overflow become longs. It is false
// when two longs overflow.
func Add(a, b bson.RawValue) (bson.RawValue, bool) {
	switch {
	case a.Type == bson.TypeDecimal128 || b.Type == bson.TypeDecimal128:
		return decimalOp(a, b, false), true
	case a.Type == bson.TypeDouble || b.Type == bson.TypeDouble:
		x, _ := Float(a)
		y, _ := Float(b)
		return Double(x + y), true
	}
	x, y := intOf(a), intOf(b)
	s := x + y
	if (x > 0 && y > 0 && s < 0) || (x < 0 && y < 0 && s >= 0) {
		return bson.RawValue{}, false
	}
	return integerResult(a, b, s), true
}

// Mul multiplies two numbers, as Add adds them.
func Mul(a, b bson.RawValue) (bson.RawValue, bool) {
	switch {
	case a.Type == bson.TypeDecimal128 || b.Type == bson.TypeDecimal128:
		return decimalOp(a, b, true), true
	case a.Type == bson.TypeDouble || b.Type == bson.TypeDouble:
		x, _ := Float(a)
		y, _ := Float(b)
		return Double(x * y), true
	}
	x, y := intOf(a), intOf(b)
	p := x * y
	if x != 0 && (p/x != y || (x == -1 && y == math.MinInt64)) {
		return bson.RawValue{}, false
	}
	return integerResult(a, b, p), true
}

// Negate gives -v for a number.
func Negate(v bson.RawValue) bson.RawValue {
	out, ok := Mul(v, Int32(-1))
	if !ok {
		f, _ := Float(v)
		return Double(-f)
	}
	return out
}

func integerResult(a, b bson.RawValue, n int64) bson.RawValue {
	if a.Type == bson.TypeInt32 && b.Type == bson.TypeInt32 {
		return Int(n)
	}
	return Int64(n)
}

// Decimal makes a decimal.
func Decimal(d bson.Decimal128) bson.RawValue {
	h, l := d.GetBytes()
	b := binary.LittleEndian.AppendUint64(nil, l)
	return bson.RawValue{Type: bson.TypeDecimal128, Value: binary.LittleEndian.AppendUint64(b, h)}
}

// maxDecimalDigits is the precision of a decimal.
const maxDecimalDigits = 34

func decimalOp(a, b bson.RawValue, mul bool) bson.RawValue {
	x, ex, okx := decimalParts(a)
	y, ey, oky := decimalParts(b)
	if !okx || !oky {
		fx, _ := Float(a)
		fy, _ := Float(b)
		f := fx + fy
		if mul {
			f = fx * fy
		}
		name := "NaN"
		if math.IsInf(f, 1) {
			name = "Infinity"
		} else if math.IsInf(f, -1) {
			name = "-Infinity"
		}
		d, _ := bson.ParseDecimal128(name)
		return Decimal(d)
	}
	ten := big.NewInt(10)
	var out *big.Int
	var exp int
	if mul {
		out, exp = new(big.Int).Mul(x, y), ex+ey
	} else {
		// Numbers further apart than the precision: the smaller does not count.
		if d := ex - ey; d > 2*maxDecimalDigits {
			return decimalOf(x, ex)
		} else if d < -2*maxDecimalDigits {
			return decimalOf(y, ey)
		}
		exp = min(ex, ey)
		x = new(big.Int).Mul(x, new(big.Int).Exp(ten, big.NewInt(int64(ex-exp)), nil))
		y = new(big.Int).Mul(y, new(big.Int).Exp(ten, big.NewInt(int64(ey-exp)), nil))
		out = new(big.Int).Add(x, y)
	}
	for len(new(big.Int).Abs(out).String()) > maxDecimalDigits {
		out = new(big.Int).Quo(out, ten)
		exp++
	}
	return decimalOf(out, exp)
}

func decimalOf(n *big.Int, exp int) bson.RawValue {
	d, ok := bson.ParseDecimal128FromBigInt(n, exp)
	if !ok {
		d, _ = bson.ParseDecimal128("Infinity")
	}
	return Decimal(d)
}

func decimalParts(v bson.RawValue) (*big.Int, int, bool) {
	switch v.Type {
	case bson.TypeDecimal128:
		d := v.Decimal128()
		if d.IsNaN() || d.IsInf() != 0 {
			return nil, 0, false
		}
		n, e, err := d.BigInt()
		return n, e, err == nil
	case bson.TypeDouble:
		f, _ := Float(v)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, 0, false
		}
		d, err := bson.ParseDecimal128(formatDouble15(f))
		if err != nil {
			return nil, 0, false
		}
		n, e, err := d.BigInt()
		return n, e, err == nil
	}
	return big.NewInt(intOf(v)), 0, true
}
