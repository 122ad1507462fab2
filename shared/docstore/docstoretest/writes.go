package docstoretest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

func (s *suite) ensure(t *testing.T) {
	e := s.open(t)
	t.Cleanup(func() { _ = e.Close() })
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = e.Ensure(t.Context(), collections()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("Ensure at once: %v", err)
	}
	mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "a", Body: number(t, 1)})
	if err := e.Ensure(t.Context(), collections()); err != nil {
		t.Fatalf("Ensure again: %v", err)
	}
	if _, ok := one(t, e, plain, "a"); !ok {
		t.Error("the document is gone after a second Ensure")
	}
}

func (s *suite) ensureLater(t *testing.T) {
	e := s.open(t)
	t.Cleanup(func() { _ = e.Close() })
	ensure := func(indexes ...docstore.Index) error {
		return e.Ensure(t.Context(), []docstore.Collection{{Name: "late", Indexes: indexes}})
	}
	if err := ensure(); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: "late", ID: fmt.Sprint(i), Body: number(t, 10-i)})
	}
	byN := docstore.Index{Name: "n", Fields: []docstore.Field{{Name: "n", Kind: docstore.Int64}}}
	if err := ensure(byN); err != nil {
		t.Fatalf("add an index: %v", err)
	}
	mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: "late", ID: "7", Body: number(t, 0)})
	wantIDs(t, e, docstore.Query{Collection: "late", Index: "n"}, []string{"7", "6", "5", "4", "3", "2", "1", "0"})
	other := docstore.Index{Name: "m", Fields: []docstore.Field{{Name: "m", Kind: docstore.Int64}}}
	wantErr(t, "an index on a field the documents lack", ensure(other), docstore.ErrIndexField)
	if _, err := e.Scan(t.Context(), docstore.Query{Collection: "late", Index: "n"}); err != nil {
		t.Errorf("after a refused index: %v", err)
	}
}

func (s *suite) undeclared(t *testing.T) {
	e := s.fresh(t)
	ctx := t.Context()
	_, err := e.Get(ctx, "nosuch", "a")
	wantErr(t, "Get", err, docstore.ErrCollection)
	_, err = e.Scan(ctx, docstore.Query{Collection: "nosuch"})
	wantErr(t, "Scan", err, docstore.ErrCollection)
	_, err = e.Scan(ctx, docstore.Query{Collection: coll, Index: "nosuch"})
	wantErr(t, "Scan by index", err, docstore.ErrCollection)
	_, err = e.Count(ctx, docstore.Query{Collection: "nosuch"}, 1)
	wantErr(t, "Count", err, docstore.ErrCollection)
	_, err = e.DeleteRange(ctx, "nosuch", "", "", 1)
	wantErr(t, "DeleteRange", err, docstore.ErrCollection)
	r := write(t, e, docstore.Op{Kind: docstore.Insert, Collection: "nosuch", ID: "a", Body: number(t, 1)})
	wantErr(t, "Write", r.Err, docstore.ErrCollection)
}

func (s *suite) declarations(t *testing.T) {
	e := s.fresh(t)
	f := func(name string, k docstore.Kind) []docstore.Field { return []docstore.Field{{Name: name, Kind: k}} }
	for what, c := range map[string]docstore.Collection{
		"no name":                  {},
		"a quote in the name":      {Name: `a"b`},
		"a dollar":                 {Name: "a$b"},
		"index without fields":     {Name: "x", Indexes: []docstore.Index{{Name: "i"}}},
		"index on the id":          {Name: "x", Indexes: []docstore.Index{{Name: "i", Fields: f("_id", docstore.String)}}},
		"field without kind":       {Name: "x", Indexes: []docstore.Index{{Name: "i", Fields: f("a", 0)}}},
		"one field of two kinds":   {Name: "x", Indexes: []docstore.Index{{Name: "i", Fields: f("a", docstore.Int64)}, {Name: "j", Fields: f("a", docstore.String)}}},
		"an index declared anew":   {Name: coll, Indexes: []docstore.Index{{Name: "s", Fields: f("other", docstore.String)}}},
		"a name with another case": {Name: strings.ToUpper(coll)},
	} {
		wantErr(t, what, e.Ensure(t.Context(), []docstore.Collection{c}), docstore.ErrInvalid)
	}
}

func (s *suite) writes(t *testing.T) {
	e := s.fresh(t)
	op := func(k docstore.OpKind, id string, rev int64, n int) docstore.Op {
		o := docstore.Op{Kind: k, Collection: plain, ID: id, Rev: rev}
		if k != docstore.Delete {
			o.Body = number(t, n)
		}
		return o
	}
	expect := func(id string, rev int64, n int) {
		t.Helper()
		d, ok := one(t, e, plain, id)
		if !ok || d.Rev != rev || d.ID != id || !slices.Equal(d.Body, number(t, n)) {
			t.Errorf("document %s is %v, want revision %d and n %d", id, d, rev, n)
		}
	}
	r1 := write(t, e, op(docstore.Insert, "a", 0, 1))
	if r1.Err != nil || r1.Rev == 0 {
		t.Fatalf("insert: %+v", r1)
	}
	expect("a", r1.Rev, 1)
	wantErr(t, "insert again", write(t, e, op(docstore.Insert, "a", 0, 2)).Err, docstore.ErrExists)
	expect("a", r1.Rev, 1)
	r2 := write(t, e, op(docstore.Put, "a", 0, 3))
	if r2.Err != nil {
		t.Fatalf("put over: %v", r2.Err)
	}
	expect("a", r2.Rev, 3)
	wantErr(t, "replace an old revision", write(t, e, op(docstore.Replace, "a", r1.Rev, 4)).Err, docstore.ErrConflict)
	wantErr(t, "replace what is not there", write(t, e, op(docstore.Replace, "b", r1.Rev, 4)).Err, docstore.ErrNotFound)
	expect("a", r2.Rev, 3)
	r3 := write(t, e, op(docstore.Replace, "a", r2.Rev, 5))
	if r3.Err != nil {
		t.Fatalf("replace: %v", r3.Err)
	}
	expect("a", r3.Rev, 5)
	wantErr(t, "delete an old revision", write(t, e, op(docstore.Delete, "a", r2.Rev, 0)).Err, docstore.ErrConflict)
	expect("a", r3.Rev, 5)
	if r := write(t, e, op(docstore.Delete, "a", r3.Rev, 0)); r.Err != nil {
		t.Errorf("delete: %v", r.Err)
	}
	if _, ok := one(t, e, plain, "a"); ok {
		t.Error("the deleted document is still there")
	}
	wantErr(t, "delete a revision of what is not there", write(t, e, op(docstore.Delete, "a", r3.Rev, 0)).Err, docstore.ErrNotFound)
	if r := write(t, e, op(docstore.Delete, "a", 0, 0)); r.Err != nil {
		t.Errorf("delete of what is not there: %v", r.Err)
	}
	if r := write(t, e, op(docstore.Put, "c", 0, 6)); r.Err != nil {
		t.Errorf("put anew: %v", r.Err)
	}
	if r := write(t, e, op(docstore.Delete, "c", 0, 0)); r.Err != nil {
		t.Errorf("delete of any revision: %v", r.Err)
	}
	if _, ok := one(t, e, plain, "c"); ok {
		t.Error("the deleted document is still there")
	}
	if res, err := e.Write(t.Context(), nil, true); err != nil || len(res) != 0 {
		t.Errorf("an empty batch: %v, %v", res, err)
	}
}

func (s *suite) revisions(t *testing.T) {
	e := s.fresh(t)
	seen := map[int64]bool{}
	note := func(revs ...int64) {
		t.Helper()
		for _, r := range revs {
			if r == 0 || seen[r] {
				t.Fatalf("revision %d was given twice", r)
			}
			seen[r] = true
		}
	}
	body := number(t, 1)
	for range s.size(50) {
		// The same content again is a new revision all the same; so is a document that was deleted and came back.
		note(mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: plain, ID: "a", Body: body})...)
		note(mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: plain, ID: "a", Body: body})...)
		mustWrite(t, e, docstore.Op{Kind: docstore.Delete, Collection: plain, ID: "a"})
		note(mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "a", Body: body})...)
	}
}

func (s *suite) bodies(t *testing.T) {
	e := s.fresh(t)
	oid, _ := bson.ObjectIDFromHex("0123456789abcdef01234567")
	s.roundTrip(t, e,
		bson.D{},
		bson.D{{Key: "z", Value: int32(1)}, {Key: "a", Value: int64(2)}, {Key: "m", Value: 1.5}, {Key: "A", Value: "x"}},
		bson.D{
			{Key: "n", Value: nil},
			{Key: "t", Value: true},
			{Key: "o", Value: oid},
			{Key: "at", Value: time.UnixMilli(-12345).UTC()},
			{Key: "bin", Value: bson.Binary{Subtype: 0x80, Data: []byte{0, 1, 255}}},
			{Key: "ts", Value: bson.Timestamp{T: 7, I: 8}},
			{Key: "re", Value: bson.Regex{Pattern: "^a", Options: "i"}},
		},
		bson.D{{Key: "deep", Value: bson.D{{Key: "list", Value: bson.A{int32(1), "two", bson.D{{Key: "x", Value: bson.A{}}}}}, {Key: "e", Value: bson.D{}}}}},
		bson.D{{Key: "text", Value: "tab\tnew\nline ünïcode 🌲"}, {Key: "with space", Value: 1.0}, {Key: "ümlaut", Value: 0.0}},
	)
}

func (s *suite) decimals(t *testing.T) {
	dec, err := bson.ParseDecimal128("1.50")
	if err != nil {
		t.Fatal(err)
	}
	s.roundTrip(t, s.fresh(t), bson.D{{Key: "d", Value: dec}})
}

// roundTrip writes bodies and reads them back in every way.
func (s *suite) roundTrip(t *testing.T, e docstore.Engine, values ...any) {
	t.Helper()
	for i, v := range values {
		id, body := fmt.Sprint("doc ", i), raw(t, v)
		mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: id, Body: body})
		d, ok := one(t, e, plain, id)
		if !ok || !slices.Equal(d.Body, body) {
			t.Errorf("body %d: got %v, want %v", i, d.Body, body)
		}
		p, err := e.Scan(t.Context(), docstore.Query{Collection: plain, From: id, To: id + "x"})
		if err != nil || len(p.Docs) != 1 || !slices.Equal(p.Docs[0].Body, body) {
			t.Errorf("body %d by scan: got %v, %v", i, p, err)
		}
		p, err = e.Scan(t.Context(), docstore.Query{Collection: plain, From: id, To: id + "x", IDsOnly: true})
		if err != nil || len(p.Docs) != 1 || p.Docs[0].Body != nil || p.Docs[0].Rev != d.Rev {
			t.Errorf("body %d by a scan for ids: got %v, %v", i, p, err)
		}
	}
}

func (s *suite) invalid(t *testing.T) {
	e := s.fresh(t)
	long := strings.Repeat("i", docstore.MaxID)
	for _, id := range []string{"ordinary", " ", "a/b", `"'`, "$x", "ü🌲", "a.b", "%_", long} {
		if r := write(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: id, Body: number(t, 1)}); r.Err != nil {
			t.Errorf("id %q: %v", id, r.Err)
		}
		if _, ok := one(t, e, plain, id); !ok {
			t.Errorf("id %q is not found", id)
		}
	}
	for _, id := range []string{"", long + "i", "a\x00b", "\xff"} {
		for _, k := range []docstore.OpKind{docstore.Insert, docstore.Put, docstore.Replace, docstore.Delete} {
			wantErr(t, fmt.Sprintf("%s of id %q", k, id),
				write(t, e, docstore.Op{Kind: k, Collection: plain, ID: id, Rev: 1, Body: number(t, 1)}).Err, docstore.ErrInvalid)
		}
		if docs, err := e.Get(t.Context(), plain, id); err != nil || len(docs) != 0 {
			t.Errorf("get of id %q: %v, %v", id, docs, err)
		}
	}
	for what, body := range map[string]bson.Raw{
		"nil":          nil,
		"garbage":      bson.Raw("garbage"),
		"cut short":    number(t, 1)[:8],
		"with _id":     raw(t, bson.D{{Key: "_id", Value: "a"}}),
		"with _rev":    raw(t, bson.D{{Key: "x", Value: 1}, {Key: "_rev", Value: "a"}}),
		"with $set":    raw(t, bson.D{{Key: "$set", Value: 1}}),
		"with no name": raw(t, bson.D{{Key: "", Value: 1}}),
	} {
		wantErr(t, "a body "+what, write(t, e, docstore.Op{Kind: docstore.Put, Collection: plain, ID: "bad", Body: body}).Err,
			docstore.ErrInvalid)
	}
	wantErr(t, "no kind", write(t, e, docstore.Op{Collection: plain, ID: "bad", Body: number(t, 1)}).Err, docstore.ErrInvalid)
	if _, ok := one(t, e, plain, "bad"); ok {
		t.Error("a refused document is there")
	}
}

func (s *suite) indexFields(t *testing.T) {
	e := s.fresh(t)
	now := time.UnixMilli(1_000)
	for what, v := range map[string]any{
		"a field is missing":     bson.D{{Key: "s", Value: "x"}, {Key: "i", Value: int64(1)}, {Key: "t", Value: now}},
		"a short integer":        bson.D{{Key: "s", Value: "x"}, {Key: "i", Value: int32(1)}, {Key: "t", Value: now}, {Key: "b", Value: true}},
		"a float":                bson.D{{Key: "s", Value: "x"}, {Key: "i", Value: 1.0}, {Key: "t", Value: now}, {Key: "b", Value: true}},
		"null":                   bson.D{{Key: "s", Value: nil}, {Key: "i", Value: int64(1)}, {Key: "t", Value: now}, {Key: "b", Value: true}},
		"an array":               bson.D{{Key: "s", Value: bson.A{"x"}}, {Key: "i", Value: int64(1)}, {Key: "t", Value: now}, {Key: "b", Value: true}},
		"a number for a boolean": bson.D{{Key: "s", Value: "x"}, {Key: "i", Value: int64(1)}, {Key: "t", Value: now}, {Key: "b", Value: int32(1)}},
		"a zero byte":            bson.D{{Key: "s", Value: "x\x00"}, {Key: "i", Value: int64(1)}, {Key: "t", Value: now}, {Key: "b", Value: true}},
		"twice":                  bson.D{{Key: "s", Value: "x"}, {Key: "s", Value: "y"}, {Key: "i", Value: int64(1)}, {Key: "t", Value: now}, {Key: "b", Value: true}},
	} {
		for _, k := range []docstore.OpKind{docstore.Insert, docstore.Put} {
			wantErr(t, what, write(t, e, docstore.Op{Kind: k, Collection: coll, ID: "bad", Body: raw(t, v)}).Err, docstore.ErrIndexField)
		}
	}
	if _, ok := one(t, e, coll, "bad"); ok {
		t.Error("a refused document is there")
	}
	// A field moves in its index when a write changes it, and leaves with its document.
	put := func(v thing) {
		mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: coll, ID: "a", Body: raw(t, v)})
	}
	put(thing{S: "one", T: now})
	put(thing{S: "two", T: now})
	wantIDs(t, e, docstore.Query{Collection: coll, Index: "s", Prefix: []any{"one"}}, nil)
	wantIDs(t, e, docstore.Query{Collection: coll, Index: "s", Prefix: []any{"two"}}, []string{"a"})
	d, _ := one(t, e, coll, "a")
	if r := write(t, e, docstore.Op{Kind: docstore.Replace, Collection: coll, ID: "a", Rev: d.Rev, Body: raw(t, thing{S: "three", T: now})}); r.Err != nil {
		t.Fatal(r.Err)
	}
	wantIDs(t, e, docstore.Query{Collection: coll, Index: "s", Prefix: []any{"three"}}, []string{"a"})
	mustWrite(t, e, docstore.Op{Kind: docstore.Delete, Collection: coll, ID: "a"})
	wantIDs(t, e, docstore.Query{Collection: coll, Index: "s"}, nil)
}

func (s *suite) unique(t *testing.T) {
	e := s.fresh(t)
	op := func(k docstore.OpKind, id, name string) docstore.Op {
		return docstore.Op{Kind: k, Collection: "named", ID: id, Body: named(t, name)}
	}
	revs := mustWrite(t, e, op(docstore.Insert, "1", "ada"), op(docstore.Insert, "2", "bob"))
	wantErr(t, "insert of a taken name", write(t, e, op(docstore.Insert, "3", "ada")).Err, docstore.ErrExists)
	wantErr(t, "put of a taken name", write(t, e, op(docstore.Put, "3", "ada")).Err, docstore.ErrExists)
	if d, ok := one(t, e, "named", "3"); ok {
		t.Errorf("a refused document is there: %v", d)
	}
	if d, _ := one(t, e, "named", "1"); d.Rev != revs[0] {
		t.Errorf("the document in the way changed: %v", d)
	}
	// A name is free again with its document.
	mustWrite(t, e, docstore.Op{Kind: docstore.Delete, Collection: "named", ID: "1"})
	mustWrite(t, e, op(docstore.Insert, "3", "ada"))
	wantIDs(t, e, docstore.Query{Collection: "named", Index: "name"}, []string{"3", "2"})
}

// uniqueChange: a change must not take a name either, and gives its old one up.
func (s *suite) uniqueChange(t *testing.T) {
	e := s.fresh(t)
	op := func(k docstore.OpKind, id, name string) docstore.Op {
		return docstore.Op{Kind: k, Collection: "named", ID: id, Body: named(t, name)}
	}
	revs := mustWrite(t, e, op(docstore.Insert, "1", "ada"), op(docstore.Insert, "2", "bob"))
	wantErr(t, "put over another with a taken name", write(t, e, op(docstore.Put, "2", "ada")).Err, docstore.ErrExists)
	r := op(docstore.Replace, "2", "ada")
	r.Rev = revs[1]
	wantErr(t, "replace with a taken name", write(t, e, r).Err, docstore.ErrExists)
	if d, _ := one(t, e, "named", "2"); d.Rev != revs[1] || !slices.Equal(d.Body, named(t, "bob")) {
		t.Errorf("the refused document changed: %v", d)
	}
	mustWrite(t, e, op(docstore.Put, "1", "ada"))
	mustWrite(t, e, op(docstore.Put, "1", "eve"))
	mustWrite(t, e, op(docstore.Insert, "3", "ada"))
	wantIDs(t, e, docstore.Query{Collection: "named", Index: "name"}, []string{"3", "2", "1"})
}

func (s *suite) oneWins(t *testing.T) {
	e := s.fresh(t)
	const many = 12
	for round := range s.size(20) {
		for what, op := range map[string]func(i int) docstore.Op{
			"an id": func(i int) docstore.Op {
				return docstore.Op{Kind: docstore.Insert, Collection: plain, ID: fmt.Sprint(round), Body: number(t, i)}
			},
			"a unique name": func(i int) docstore.Op {
				return docstore.Op{Kind: docstore.Insert, Collection: "named", ID: fmt.Sprint(round, "/", i), Body: named(t, fmt.Sprint("name ", round))}
			},
		} {
			results := make([]docstore.Result, many)
			var wg sync.WaitGroup
			for i := range many {
				o := op(i)
				wg.Go(func() {
					res, err := e.Write(t.Context(), []docstore.Op{o}, true)
					if err != nil {
						res = []docstore.Result{{Err: err}}
					}
					results[i] = res[0]
				})
			}
			wg.Wait()
			won := 0
			for _, r := range results {
				if r.Err == nil {
					won++
				} else if !errors.Is(r.Err, docstore.ErrExists) {
					t.Errorf("insert of %s: %v", what, r.Err)
				}
			}
			if won != 1 {
				t.Fatalf("%d inserts of %s succeeded", won, what)
			}
		}
	}
}

func (s *suite) noLostUpdate(t *testing.T) {
	e := s.fresh(t)
	mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "counter", Body: number(t, 0)})
	const workers = 8
	each := s.size(25)
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for done := 0; done < each && errs[w] == nil; {
				docs, err := e.Get(t.Context(), plain, "counter")
				if err != nil || len(docs) != 1 {
					errs[w] = fmt.Errorf("get: %d documents, %w", len(docs), err)
					return
				}
				n, _ := docs[0].Body.Lookup("n").AsInt64OK()
				body, _ := bson.Marshal(bson.D{{Key: "n", Value: n + 1}})
				res, err := e.Write(t.Context(), []docstore.Op{
					{Kind: docstore.Replace, Collection: plain, ID: "counter", Rev: docs[0].Rev, Body: body},
				}, true)
				switch {
				case err != nil:
					errs[w] = err
				case res[0].Err == nil:
					done++
				case !errors.Is(res[0].Err, docstore.ErrConflict):
					errs[w] = res[0].Err
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	d, _ := one(t, e, plain, "counter")
	if diff := cmp.Diff(number(t, workers*each).String(), d.Body.String()); diff != "" {
		t.Errorf("counter (-want +got):\n%s", diff)
	}
}

func (s *suite) putsAtOnce(t *testing.T) {
	e := s.fresh(t)
	for round := range s.size(20) {
		var wg sync.WaitGroup
		revs := make([]int64, 8)
		for i := range revs {
			body := number(t, i)
			wg.Go(func() {
				res, err := e.Write(t.Context(), []docstore.Op{{Kind: docstore.Put, Collection: plain, ID: fmt.Sprint(round), Body: body}}, true)
				if err != nil || res[0].Err != nil {
					t.Errorf("put: %v %v", err, res)
					return
				}
				revs[i] = res[0].Rev
			})
		}
		wg.Wait()
		d, ok := one(t, e, plain, fmt.Sprint(round))
		i := slices.Index(revs, d.Rev)
		if !ok || i < 0 || !slices.Equal(d.Body, number(t, i)) {
			t.Fatalf("after puts at once: %v, revisions %v", d, revs)
		}
	}
}
