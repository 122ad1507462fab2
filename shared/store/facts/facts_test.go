package facts

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
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

// TestChecks looks at a sound document and at every way to spoil one.
func TestChecks(t *testing.T) {
	f := New(storetest.Open(t, Collections()...))
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	replies, times, err := Merge(nil, nil, bson.D{{Key: "buildInfo", Value: bson.D{{Key: "version", Value: "7.0.14"}}}}, at)
	if err != nil {
		t.Fatal(err)
	}
	sound, err := f.Op("g", "h", replies, times)
	if err != nil {
		t.Fatal(err)
	}
	undated, err := f.Op("g", "h", replies, nil)
	if err != nil {
		t.Fatal(err)
	}
	spoilt, err := store.PutOp(collection, "g/h", document{Replies: []byte("rubbish")})
	if err != nil {
		t.Fatal(err)
	}
	check := Checks()[collection]
	for _, c := range []struct {
		name string
		doc  docstore.Doc
		want string
	}{
		{"sound", docstore.Doc{ID: "g/h", Body: sound.Body}, ""},
		{"without a host", docstore.Doc{ID: "g", Body: sound.Body}, "group/host"},
		{"one level too deep", docstore.Doc{ID: "g/h/x", Body: sound.Body}, "group/host"},
		{"a reply without its time", docstore.Doc{ID: "g/h", Body: undated.Body}, "of when buildInfo is"},
		{"replies that do not decompress", docstore.Doc{ID: "g/h", Body: spoilt.Body}, "cannot be read"},
		{"no document at all", docstore.Doc{ID: "g/h", Body: bson.Raw("x")}, "decode"},
	} {
		var refers []string
		err := check(&store.Checking{Refer: func(collection, id string) { refers = append(refers, collection+" "+id) }}, c.doc)
		if c.want == "" && (err != nil || len(refers) != 1 || refers[0] != "hosts g/h") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, refers to %v", c.name, err, refers)
		}
	}
}
