package engine

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
	product "github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
)

// seeds are all recorded commands.
func seeds(f *testing.F) []bson.Raw {
	f.Helper()
	files, err := filepath.Glob("testdata/semantics/*.json")
	if err != nil {
		f.Fatal(err)
	}
	var out []bson.Raw
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var tp topic
		if err := json.Unmarshal(b, &tp); err != nil {
			f.Fatal(err)
		}
		for _, c := range tp.Cases {
			for _, st := range c.Steps {
				var doc bson.Raw
				if bson.UnmarshalExtJSON(st.Command, true, &doc) == nil {
					out = append(out, doc)
				}
			}
		}
	}
	return out
}

// FuzzCommand sends anything to a member that holds documents of every type: it must answer, always.
func FuzzCommand(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add([]byte(s))
	}
	e, err := Open(Options{DiffUpdates: true})
	if err != nil {
		f.Fatal(err)
	}
	s := &Session{}
	reset := func() {
		doc := bson.D{
			{Key: "_id", Value: 1},
			{Key: "a", Value: 1},
			{Key: "b", Value: bson.D{{Key: "c", Value: 1}}},
			{Key: "e", Value: bson.A{3, 1, 2}},
			{Key: "f", Value: bson.A{bson.D{{Key: "x", Value: 1}, {Key: "y", Value: 1}}, bson.D{{Key: "x", Value: 2}}}},
			{Key: "s", Value: "str"},
			{Key: "n", Value: nil},
			{Key: "v", Value: bson.A{bson.NewObjectID(), 2.5, bson.Regex{Pattern: "a"}, bson.MinKey{}, bson.Timestamp{T: 1}}},
		}
		for _, cmd := range []bson.D{
			{{Key: "drop", Value: "c"}},
			{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{doc, bson.D{{Key: "_id", Value: 2}}}}},
		} {
			b, err := bson.Marshal(cmd)
			if err != nil {
				f.Fatal(err)
			}
			e.Run(context.Background(), s, "semantics", b)
		}
	}
	reset()
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		if n++; n%100 == 0 {
			reset()
		}
		ctx, stop := context.WithTimeout(context.Background(), 1)
		defer stop()
		reply := e.Run(ctx, s, "semantics", b)
		if err := bsonval.Validate(reply); err != nil {
			t.Fatalf("reply: %v", err)
		}
		if _, ok := bsonval.Lookup(reply, "ok"); !ok {
			t.Fatalf("reply without ok: %s", reply)
		}
	})
}

// FuzzDiff holds the diff to its purpose: applied to the old document it gives the new one.
func FuzzDiff(f *testing.F) {
	all := seeds(f)
	for i, s := range all {
		f.Add([]byte(s), []byte(all[(i+1)%len(all)]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if bsonval.Validate(a) != nil || bsonval.Validate(b) != nil || repeats(a) || repeats(b) {
			return
		}
		var x, y bsonval.Builder
		before := x.Int32("_id", 1).Doc("d", a).Raw()
		after := y.Int32("_id", 1).Doc("d", b).Raw()
		diff := update.Diff(before, after)
		if got := update.ApplyEntry(before, diff); string(got) != string(after) {
			t.Errorf("%s\n+ %s\n= %s\nnot %s", before, diff, got, after)
		}
		id, _ := bsonval.Lookup(before, "_id")
		op := &product.Op{Kind: product.Update, O: diff, ID: bsoncore.Value{Type: bsoncore.Type(id.Type), Data: id.Value}}
		got, odd, err := document.Apply(before, op)
		if err != nil || odd != 0 || string(got) != string(after) {
			t.Errorf("the product's applier: %s\n+ %s\n= %s (%v, %v)\nnot %s", before, diff, got, odd, err, after)
		}
	})
}

// repeats says that a document has a field twice somewhere, which no diff can speak of, or an array with other keys than
// positions.
func repeats(doc bson.Raw) bool {
	seen := map[string]bool{}
	for k, v := range bsonval.Each(doc) {
		if seen[k] || v.Type == bson.TypeArray && !bsonval.Same(v, bsonval.Array(bsonval.Values(bson.Raw(v.Value)))) {
			return true
		}
		seen[k] = true
		if sub := bsonval.SubDoc(v); sub != nil && repeats(sub) {
			return true
		}
	}
	return false
}

// everyType is a value of each type.
func everyType(t *testing.T) []bson.RawValue {
	t.Helper()
	b, err := bson.Marshal(bson.D{{Key: "v", Value: bson.A{
		1, int64(-1), 2.5, "x", "$a", "",
		bson.D{},
		bson.D{{Key: "$gt", Value: 1}},
		bson.D{{Key: "$each", Value: bson.A{}}},
		bson.A{},
		bson.A{bson.A{1}, nil},
		bson.Binary{Subtype: 4, Data: make([]byte, 16)},
		bson.Undefined{},
		bson.NewObjectID(), true, bson.DateTime(5), nil,
		bson.Regex{Pattern: "a(", Options: "i"},
		bson.DBPointer{DB: "d"},
		bson.JavaScript("x"), bson.Symbol("s"),
		bson.CodeWithScope{Code: "c", Scope: bson.D{}},
		bson.Timestamp{T: 1},
		int64(1) << 62,
		bson.NewDecimal128(0x7c00000000000000, 0),
		bson.MinKey{},
		bson.MaxKey{},
		-1,
		bson.D{{Key: "a.b", Value: 1}, {Key: "$set", Value: 1}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	v, _ := bsonval.Lookup(b, "v")
	return bsonval.Values(bsonval.SubDoc(v))
}

// variants calls yield with doc once for every value in it and every replacement.
func variants(doc bson.Raw, vals []bson.RawValue, wrap func(bson.Raw), depth int) {
	es := bsonval.Elems(doc)
	for i, e := range es {
		switch e.Key {
		case "lsid", "$clusterTime", "$readPreference", "$db":
			continue
		}
		put := func(v bson.RawValue) {
			old := es[i].Value
			es[i].Value = v
			wrap(bsonval.FromElems(es))
			es[i].Value = old
		}
		for _, v := range vals {
			put(v)
		}
		if sub := bsonval.SubDoc(e.Value); sub != nil && depth < 6 {
			variants(sub, vals, func(d bson.Raw) { put(bson.RawValue{Type: e.Value.Type, Value: d}) }, depth+1)
		}
	}
}

// TestWrongTypes puts a value of every type in every place of the recorded commands: each must be answered.
func TestWrongTypes(t *testing.T) {
	files, err := filepath.Glob("testdata/semantics/*.json")
	if err != nil {
		t.Fatal(err)
	}
	vals := everyType(t)
	ctx, stop := context.WithCancel(context.Background())
	stop() // nothing may wait
	n := 0
	seen := map[string]bool{}
	w := newWorld(t, Options{DiffUpdates: true})
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tp topic
		if err := json.Unmarshal(b, &tp); err != nil {
			t.Fatal(err)
		}
		for i, c := range tp.Cases {
			if testing.Short() && i%10 != 0 {
				continue
			}
			for _, st := range c.Steps {
				var cmd bson.Raw
				if bson.UnmarshalExtJSON(st.Command, true, &cmd) != nil || seen[string(st.Command)] {
					continue
				}
				seen[string(st.Command)] = true
				w.run("semantics", raw(t, bson.D{{Key: "drop", Value: "c"}}))
				ins := parse(t, tp.Documents[c.Documents])
				w.run("semantics", new(bsonval.Builder).String("insert", "c").Value("documents", ins).Raw())
				variants(cmd, vals, func(x bson.Raw) {
					n++
					r := w.e.Run(ctx, w.s, "semantics", x)
					if _, ok := bsonval.Lookup(r, "ok"); !ok || bsonval.Validate(r) != nil {
						t.Fatalf("%s: %s", x, r)
					}
				}, 0)
			}
		}
	}
	t.Logf("%d commands", n)
}
