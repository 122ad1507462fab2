package raw

import "math"

// maxExact is the largest whole number every float64 below it represents exactly.
const maxExact = 1 << 53

// Value is one raw number. Integers stay integers, so that counters beyond 2^53 can be subtracted without loss.
type Value struct {
	bits  uint64
	float bool
}

// Int is an integer value.
func Int(v int64) Value { return Value{bits: uint64(v)} } //nolint:gosec // the bits are what is kept

// Float is a floating point value. A whole number becomes an integer: servers report the same counter as either.
func Float(v float64) Value {
	if v == math.Trunc(v) && math.Abs(v) < maxExact {
		return Int(int64(v))
	}
	return Value{bits: math.Float64bits(v), float: true}
}

// IsFloat reports whether the value has a fraction (or is too large to be an exact integer).
func (v Value) IsFloat() bool { return v.float }

// Int64 is the value as an integer, cut towards zero.
func (v Value) Int64() int64 {
	if v.float {
		return int64(math.Float64frombits(v.bits))
	}
	return int64(v.bits) //nolint:gosec // the reverse of Int
}

// Float64 is the value as a float.
func (v Value) Float64() float64 {
	if v.float {
		return math.Float64frombits(v.bits)
	}
	return float64(int64(v.bits)) //nolint:gosec // the reverse of Int
}
