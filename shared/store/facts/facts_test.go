package facts

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

func TestFactsAreMerged(t *testing.T) {
	ctx := t.Context()
	s := storetest.Open(t, Collections()...)
	f := New(s)
	none, _, err := f.Replies(ctx, "g", "h")
	if err != nil || none != nil {
		t.Fatalf("%v, %v", none, err)
	}
	t1 := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	put := func(known bson.Raw, at map[string]time.Time, now time.Time, newer bson.D) {
		merged, times, err := Merge(known, at, newer, now)
		if err != nil {
			t.Fatal(err)
		}
		op, err := f.Op("g", "h", merged, times)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(ctx, op); err != nil {
			t.Fatal(err)
		}
	}
	put(nil, nil, t1, bson.D{{Key: "a", Value: bson.D{{Key: "x", Value: 1}}}, {Key: "b", Value: bson.D{{Key: "x", Value: 2}}}})
	known, at, err := f.Replies(ctx, "g", "h")
	if err != nil {
		t.Fatal(err)
	}
	put(known, at, t1.Add(time.Hour), bson.D{{Key: "b", Value: bson.D{{Key: "x", Value: 3}}}})
	known, at, err = f.Replies(ctx, "g", "h")
	if err != nil {
		t.Fatal(err)
	}
	if known.Lookup("a", "x").Int32() != 1 || known.Lookup("b", "x").Int32() != 3 || !at["a"].Equal(t1) || !at["b"].Equal(t1.Add(time.Hour)) {
		t.Errorf("%v %v", known, at)
	}
	if err := f.Forget(ctx, "g", "h"); err != nil {
		t.Fatal(err)
	}
}
