package bsonval

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func decimal(t testing.TB, s string) bson.RawValue {
	t.Helper()
	d, err := bson.ParseDecimal128(s)
	if err != nil {
		t.Fatal(err)
	}
	return Decimal(d)
}

// TestNumbersCompareByTheirTrueValues mixes all numeric types.
func TestNumbersCompareByTheirTrueValues(t *testing.T) {
	inOrder := []bson.RawValue{
		Double(math.NaN()), Double(math.Inf(-1)), decimal(t, "-1E+400"), Double(-math.MaxFloat64), Int64(math.MinInt64), Int64(math.MinInt64 + 1),
		decimal(t, "-2.5000001"), Double(-2.5), Int32(-2), Double(-1e-300), decimal(t, "-1E-6000"), Int32(0), decimal(t, "1E-6000"),
		Double(math.SmallestNonzeroFloat64), decimal(t, "0.1"), Double(0.1), Int32(1), decimal(t, "1.0000000000000000000000000001"),
		Double(1.0000000000000002), Int64(1<<53 - 1), Double(1 << 53), Int64(1<<53 + 1), Int64(math.MaxInt64 - 1), Int64(math.MaxInt64), Double(1 << 63),
		Double(1e300), decimal(t, "1E+6000"), Double(math.Inf(1)),
	}
	for i, a := range inOrder {
		for j, b := range inOrder {
			if got := Compare(a, b); got != cmp.Compare(i, j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
	for _, same := range [][]bson.RawValue{
		{Int32(1), Int64(1), Double(1), decimal(t, "1"), decimal(t, "1.000"), decimal(t, "0.01E+2")},
		{Int32(0), Double(0), Double(math.Copysign(0, -1)), decimal(t, "0"), decimal(t, "-0E+5")},
		{Double(math.NaN()), decimal(t, "NaN")},
		{Double(math.Inf(1)), decimal(t, "Infinity")},
		{Double(2.5), decimal(t, "2.5")},
		{Double(1 << 60), Int64(1 << 60)},
		{Double(-7), Int32(-7)},
	} {
		for _, a := range same {
			if !Equal(a, same[0]) || Key(a) != Key(same[0]) {
				t.Errorf("%s and %s differ", a, same[0])
			}
		}
	}
}

// FuzzNumberOrder holds keys of integers and doubles to exact arithmetic.
func FuzzNumberOrder(f *testing.F) {
	f.Add(int64(1), 1.5)
	f.Add(int64(1<<53+1), float64(1<<53))
	f.Fuzz(func(t *testing.T, n int64, x float64) {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return
		}
		want := new(big.Float).SetInt64(n).Cmp(big.NewFloat(x))
		if got := Compare(Int64(n), Double(x)); got != want {
			t.Errorf("%d and %v: %d, want %d", n, x, got, want)
		}
	})
}

// FuzzCompareIsTheOrderOfKeys compares two documents field by field both ways.
func FuzzCompareIsTheOrderOfKeys(f *testing.F) {
	add := func(d bson.D) []byte {
		b, err := bson.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(add(bson.D{{Key: "a", Value: "x"}, {Key: "b", Value: bson.A{1, nil, "y\x00z"}}}), add(bson.D{{Key: "a", Value: "x\x00"}, {Key: "b", Value: bson.A{1.0}}}))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		if Validate(x) != nil || Validate(y) != nil {
			return
		}
		vs := append(Values(x), Values(y)...)
		if len(vs) > 20 {
			return
		}
		for _, a := range vs {
			for _, b := range vs {
				byKey := bytes.Compare(AppendKey(nil, a, nil), AppendKey(nil, b, nil))
				if c := Compare(a, b); c != byKey || c != -Compare(b, a) {
					t.Fatalf("%s and %s: %d, by key %d", a, b, c, byKey)
				}
				_ = Format(a)
			}
		}
		slices.SortFunc(vs, Compare) // panics of a broken order show here
	})
}

func TestValidateBoundsDepth(t *testing.T) {
	doc := new(Builder).Raw()
	for range MaxDepth {
		doc = new(Builder).Doc("d", doc).Raw()
	}
	if err := Validate(doc); err != nil {
		t.Errorf("depth %d: %v", MaxDepth, err)
	}
	if err := Validate(new(Builder).Doc("d", doc).Raw()); err == nil {
		t.Error("one deeper is accepted")
	}
	for name, b := range map[string][]byte{
		"empty": {}, "short": {5, 0, 0, 0}, "no end": {5, 0, 0, 0, 1}, "too long": {6, 0, 0, 0, 0}, "trailing": {6, 0, 0, 0, 0, 0},
		"unknown type": {8, 0, 0, 0, 0x7e, 'a', 0, 0}, "string without end": {14, 0, 0, 0, 2, 'a', 0, 2, 0, 0, 0, 'x', 'y', 0},
		"string of no length": {12, 0, 0, 0, 2, 'a', 0, 0, 0, 0, 0, 0}, "name without end": {7, 0, 0, 0, 10, 'a', 'a'},
	} {
		if Validate(b) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestArithmeticKeepsTypes(t *testing.T) {
	for _, c := range []struct{ a, b, sum, product bson.RawValue }{
		{Int32(2), Int32(3), Int32(5), Int32(6)},
		{Int32(math.MaxInt32), Int32(2), Int64(math.MaxInt32 + 2), Int64(math.MaxInt32 * 2)},
		{Int32(2), Int64(3), Int64(5), Int64(6)},
		{Int32(2), Double(0.5), Double(2.5), Double(1)},
		{Int32(1), decimal(t, "0.1"), decimal(t, "1.1"), decimal(t, "0.1")},
		{Double(1.5), decimal(t, "2"), decimal(t, "3.5"), decimal(t, "3.0")},
	} {
		if s, ok := Add(c.a, c.b); !ok || !Same(s, c.sum) {
			t.Errorf("%s + %s = %s, want %s", c.a, c.b, s, c.sum)
		}
		if p, ok := Mul(c.a, c.b); !ok || !Same(p, c.product) {
			t.Errorf("%s * %s = %s, want %s", c.a, c.b, p, c.product)
		}
	}
	if _, ok := Add(Int64(math.MaxInt64), Int64(1)); ok {
		t.Error("a long overflowed unnoticed")
	}
	if _, ok := Mul(Int64(math.MaxInt64), Int64(2)); ok {
		t.Error("a long overflowed unnoticed")
	}
}
