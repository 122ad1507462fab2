package template

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestSetAndGet(t *testing.T) {
	d := bson.D{{Key: "a", Value: bson.D{{Key: "b c", Value: int32(1)}, {Key: "x/y", Value: int32(2)}}}, {Key: "z", Value: "s"}}
	for _, c := range []struct {
		name, path string
		value      any
		want       any
		found      bool
	}{
		{"a deep value is replaced", "a|b c", int32(7), int32(7), true},
		{"a name with a slash is one name", "a|x/y", nil, nil, false},
		{"documents are created on the way", "new|er|est", int64(3), int64(3), true},
		{"removing what is not there does nothing", "no|thing", nil, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d = Set(d, c.path, c.value)
			got, found := Get(d, c.path)
			if got != c.want || found != c.found {
				t.Errorf("got %v, %v; want %v, %v", got, found, c.want, c.found)
			}
		})
	}
}

type numbers struct{ n float64 }

func TestABlockKeepsItsShapeAndTakesNewNumbers(t *testing.T) {
	d := bson.D{
		{Key: "small", Value: int32(1)},
		{Key: "text", Value: "stays"},
		{Key: "in", Value: bson.D{{Key: "big", Value: int64(2)}, {Key: "float", Value: 3.5}, {Key: "flows", Value: int64(0)}, {Key: "still", Value: int64(9)}}},
	}
	n := func(v *numbers) float64 { return v.n }
	b, err := Compile("s", d, map[string]func(*numbers) float64{"s|small": n, "s|in|big": n, "s|in|float": n}, map[string]float64{"s|in|flows": 2})
	if err != nil {
		t.Fatal(err)
	}
	raw := bson.Raw(Wrap(nil, func(dst []byte) []byte {
		dst = AppendDoc(dst, "doc", func(dst []byte) []byte { return AppendValue(dst, "k", "v") })
		dst = append(append(append(dst, byte(bson.TypeEmbeddedDocument)), "s"...), 0)
		return b.Append(dst, &numbers{n: 5e12}, 50)
	}))
	if err := raw.Validate(); err != nil {
		t.Fatal(err)
	}
	var got bson.D
	if err := bson.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := bson.D{
		{Key: "doc", Value: bson.D{{Key: "k", Value: "v"}}},
		{Key: "s", Value: bson.D{
			{Key: "small", Value: int32(1<<31 - 1)},
			{Key: "text", Value: "stays"},
			{Key: "in", Value: bson.D{{Key: "big", Value: int64(5e12)}, {Key: "float", Value: 5e12}, {Key: "flows", Value: int64(100)}, {Key: "still", Value: int64(9)}}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWidenTouchesOnlyWhatMoves(t *testing.T) {
	d := bson.D{{Key: "a", Value: int32(1)}, {Key: "b", Value: bson.D{{Key: "c", Value: int32(2)}}}}
	Widen(d, "p", func(path string) bool { return path == "p|b|c" })
	want := bson.D{{Key: "a", Value: int32(1)}, {Key: "b", Value: bson.D{{Key: "c", Value: int64(2)}}}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
}
