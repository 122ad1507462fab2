package raw

import (
	"math"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// everything is a document with a value of every BSON type.
func everything(tb testing.TB) []byte {
	tb.Helper()
	dec, err := bson.ParseDecimal128("2.5")
	if err != nil {
		tb.Fatal(err)
	}
	b, err := bson.Marshal(bson.D{
		{Key: "double", Value: 1.5},
		{Key: "string", Value: "text"},
		{Key: "document", Value: bson.D{{Key: "a", Value: int32(1)}}},
		{Key: "array", Value: bson.A{1, 2}},
		{Key: "binary", Value: []byte{1, 2, 3}},
		{Key: "undefined", Value: bson.Undefined{}},
		{Key: "id", Value: bson.ObjectID{1}},
		{Key: "bool", Value: true},
		{Key: "date", Value: bson.DateTime(1234)},
		{Key: "null", Value: nil},
		{Key: "regex", Value: bson.Regex{Pattern: "a", Options: "i"}},
		{Key: "pointer", Value: bson.DBPointer{DB: "db"}},
		{Key: "code", Value: bson.JavaScript("x")},
		{Key: "symbol", Value: bson.Symbol("s")},
		{Key: "scope", Value: bson.CodeWithScope{Code: "x", Scope: bson.D{{Key: "y", Value: 1}}}},
		{Key: "int32", Value: int32(-7)},
		{Key: "timestamp", Value: bson.Timestamp{T: 9, I: 1}},
		{Key: "int64", Value: int64(1) << 60},
		{Key: "decimal", Value: dec},
		{Key: "min", Value: bson.MinKey{}},
		{Key: "max", Value: bson.MaxKey{}},
		{Key: "last", Value: int32(42)},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestWalkPassesEveryType(t *testing.T) {
	want := map[string]float64{"double": 1.5, "bool": 1, "date": 1234, "int32": -7, "timestamp": 9, "int64": 1 << 60, "decimal": 2.5, "last": 42}
	w := Walk(everything(t))
	n := 0
	for e, ok := w.Next(); ok; e, ok = w.Next() {
		n++
		v, isNumber := e.Number()
		if expected, ok := want[string(e.Key)]; ok != isNumber || v.Float64() != expected {
			t.Errorf("%s: %v %v", e.Key, v.Float64(), isNumber)
		}
	}
	if n != 22 || w.Bad() {
		t.Errorf("%d fields, bad: %v", n, w.Bad())
	}
}

func TestLookup(t *testing.T) {
	doc := everything(t)
	if e, ok := Lookup(doc, "document", "a"); !ok || e.Type != Int32 {
		t.Errorf("%+v %v", e, ok)
	}
	for _, path := range [][]string{{"nothing"}, {"document", "b"}, {"string", "a"}, {}} {
		if _, ok := Lookup(doc, path...); ok {
			t.Errorf("found %v", path)
		}
	}
}

func TestCutDocuments(t *testing.T) {
	doc := everything(t)
	for cut := range doc {
		w := Walk(doc[:cut])
		if _, ok := w.Next(); ok || !w.Bad() {
			t.Fatalf("a document cut at %d was walked", cut)
		}
	}
}

func TestValues(t *testing.T) {
	if v := Int(1<<60 + 1); v.Int64() != 1<<60+1 || v.IsFloat() {
		t.Errorf("%v", v)
	}
	if v := Float(3); v.IsFloat() || v.Int64() != 3 {
		t.Error("a whole number is an integer")
	}
	for _, f := range []float64{0.5, -1.25, 1e300, math.Copysign(1<<53, -1)} {
		if v := Float(f); !v.IsFloat() || v.Float64() != f {
			t.Errorf("%v became %v", f, v.Float64())
		}
	}
	if Float(-2.75).Int64() != -2 {
		t.Error("integers are cut towards zero")
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(everything(f))
	f.Fuzz(func(_ *testing.T, b []byte) { descend(b, 0) })
}

func descend(b []byte, depth int) {
	w := Walk(b)
	for e, ok := w.Next(); ok; e, ok = w.Next() {
		_, _ = e.Number()
		if (e.Type == Document || e.Type == Array) && depth < 50 {
			descend(e.Data, depth+1)
		}
	}
}
