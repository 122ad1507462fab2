package lenient

import (
	"math"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func doc(t testing.TB, d bson.D) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatHasAnotherTypeIsTheZeroValue(t *testing.T) {
	day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	id, big := bson.NewObjectID(), bson.NewDecimal128(0x3040000000000000, 12)
	d := doc(t, bson.D{
		{Key: "s", Value: "x"},
		{Key: "i", Value: int32(7)},
		{Key: "l", Value: int64(1 << 40)},
		{Key: "f", Value: 2.9},
		{Key: "nan", Value: math.NaN()},
		{Key: "huge", Value: 1e300},
		{Key: "dec", Value: big},
		{Key: "yes", Value: true},
		{Key: "at", Value: day},
		{Key: "zero", Value: bson.DateTime(0)},
		{Key: "id", Value: id},
		{Key: "none", Value: bson.NilObjectID},
		{Key: "list", Value: bson.A{"a", 1, "", "b"}},
		{Key: "docs", Value: bson.A{bson.D{{Key: "n", Value: 1}}, "x", bson.D{{Key: "n", Value: 2}}}},
		{Key: "in", Value: bson.D{{Key: "k", Value: "v"}}},
	})
	at := func(k string) bson.RawValue { return d.Lookup(k) }
	if Text(at("s")) != "x" || Text(at("i")) != "" || Text(at("missing")) != "" || Text(Lookup(at("in"), "k")) != "v" || Text(Lookup(at("s"), "k")) != "" {
		t.Error("strings")
	}
	for k, want := range map[string]int64{"i": 7, "l": 1 << 40, "f": 2, "dec": 12, "huge": 0, "nan": 0, "s": 0, "missing": 0} {
		if n, ok := Number(at(k)); n != want || ok != (want != 0) {
			t.Errorf("%s is the integer %d, %v", k, n, ok)
		}
	}
	for k, want := range map[string]float64{"i": 7, "f": 2.9, "dec": 12, "huge": 1e300, "nan": 0, "s": 0} {
		if f := Float(at(k)); f != want {
			t.Errorf("%s is the number %v", k, f)
		}
	}
	if !Truth(at("yes")) || !Truth(at("i")) || Truth(at("s")) || Truth(at("missing")) {
		t.Error("booleans")
	}
	if !Date(at("at")).Equal(day) || !Date(at("zero")).IsZero() || !Date(at("s")).IsZero() {
		t.Error("dates")
	}
	if ID(at("id")) != id.Hex() || ID(at("none")) != "" || ID(at("s")) != "" {
		t.Error("ids")
	}
	if got := Texts(at("list")); !slices.Equal(got, []string{"a", "b"}) || Texts(at("s")) != nil {
		t.Errorf("texts %v", got)
	}
	var sum int64
	DocsOf(d, func(one bson.Raw) { n, _ := Number(one.Lookup("n")); sum += n })
	Docs(at("s"), func(bson.Raw) { sum += 100 })
	DocsOf(nil, func(bson.Raw) { sum += 100 })
	if sum != 3 {
		t.Errorf("the documents add up to %d", sum)
	}
}

func TestOption(t *testing.T) {
	nested := doc(t, bson.D{{Key: "parsed", Value: bson.D{{Key: "net", Value: bson.D{{Key: "port", Value: 1}}}}}})
	flat := doc(t, bson.D{{Key: "parsed", Value: bson.D{{Key: "net.port", Value: 1}}}})
	for _, d := range []bson.Raw{nested, flat} {
		if n, _ := Number(Option(d, "net.port")); n != 1 {
			t.Errorf("%v: port %d", d, n)
		}
	}
	for _, d := range []bson.Raw{nil, doc(t, bson.D{{Key: "parsed", Value: 1}}), nested} {
		if v := Option(d, "net.bindIp"); v.Type != 0 {
			t.Errorf("%v has a bindIp", d)
		}
	}
}
