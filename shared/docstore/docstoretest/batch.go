package docstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

func (s *suite) ordered(t *testing.T) {
	e := s.fresh(t)
	mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "taken", Body: number(t, 1)})
	good := func(id string) docstore.Op {
		return docstore.Op{Kind: docstore.Insert, Collection: plain, ID: id, Body: number(t, 2)}
	}
	for i, bad := range []struct {
		op  docstore.Op
		err error
	}{
		{docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "taken", Body: number(t, 3)}, docstore.ErrExists},
		{docstore.Op{Kind: docstore.Replace, Collection: plain, ID: "taken", Rev: 1<<62 + 1, Body: number(t, 3)}, docstore.ErrConflict},
		{docstore.Op{Kind: docstore.Delete, Collection: plain, ID: "nobody", Rev: 5}, docstore.ErrNotFound},
		{docstore.Op{Kind: docstore.Insert, Collection: coll, ID: "x", Body: number(t, 3)}, docstore.ErrIndexField},
		{docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "", Body: number(t, 3)}, docstore.ErrInvalid},
		{docstore.Op{Kind: docstore.Insert, Collection: "nosuch", ID: "x", Body: number(t, 3)}, docstore.ErrCollection},
	} {
		id := func(n int) string { return fmt.Sprintf("%d/%d", i, n) }
		res, err := e.Write(t.Context(), []docstore.Op{good(id(1)), good(id(2)), bad.op, good(id(3)), good(id(4))}, true)
		if err != nil || len(res) != 5 {
			t.Fatalf("batch %d: %v, %v", i, res, err)
		}
		if res[0].Err != nil || res[1].Err != nil {
			t.Errorf("batch %d: before the fault: %v", i, res)
		}
		wantErr(t, fmt.Sprintf("batch %d: the fault", i), res[2].Err, bad.err)
		wantErr(t, fmt.Sprintf("batch %d: after it", i), res[3].Err, docstore.ErrNotAttempted)
		wantErr(t, fmt.Sprintf("batch %d: after it", i), res[4].Err, docstore.ErrNotAttempted)
		docs, err := e.Get(t.Context(), plain, id(1), id(2), id(3), id(4))
		if err != nil || len(docs) != 2 || docs[0].Rev != res[0].Rev || docs[1].Rev != res[1].Rev {
			t.Errorf("batch %d: there are %v, %v", i, docs, err)
		}
	}
	// Operations of an ordered batch see each other's effects.
	res, err := e.Write(t.Context(), []docstore.Op{
		{Kind: docstore.Insert, Collection: plain, ID: "seq", Body: number(t, 1)},
		{Kind: docstore.Put, Collection: plain, ID: "seq", Body: number(t, 2)},
		{Kind: docstore.Delete, Collection: plain, ID: "seq"},
		{Kind: docstore.Insert, Collection: plain, ID: "seq", Body: number(t, 3)},
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := one(t, e, plain, "seq")
	if !ok || d.Rev != res[3].Rev || !bytes.Equal(d.Body, number(t, 3)) {
		t.Errorf("after a sequence on one document: %v, results %v", d, res)
	}
}

func (s *suite) unordered(t *testing.T) {
	e := s.fresh(t)
	revs := mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "taken", Body: number(t, 1)},
		docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "mine", Body: number(t, 1)},
		docstore.Op{Kind: docstore.Insert, Collection: "named", ID: "ada", Body: named(t, "ada")})
	ops := []docstore.Op{
		{Kind: docstore.Insert, Collection: plain, ID: "taken", Body: number(t, 2)},
		{Kind: docstore.Insert, Collection: plain, ID: "new", Body: number(t, 2)},
		{Kind: docstore.Replace, Collection: plain, ID: "gone", Rev: 7, Body: number(t, 2)},
		{Kind: docstore.Put, Collection: "named", ID: "other", Body: named(t, "ada")},
		{Kind: docstore.Put, Collection: "named", ID: "bob", Body: named(t, "bob")},
		{Kind: docstore.Replace, Collection: plain, ID: "mine", Rev: revs[1], Body: number(t, 3)},
		{Kind: docstore.Put, Collection: "nosuch", ID: "x", Body: number(t, 2)},
		{Kind: docstore.Delete, Collection: plain, ID: "nobody"},
		{Kind: docstore.Put, Collection: plain, ID: "last", Body: number(t, 2)},
	}
	want := []error{docstore.ErrExists, nil, docstore.ErrNotFound, docstore.ErrExists, nil, nil, docstore.ErrCollection, nil, nil}
	res, err := e.Write(t.Context(), ops, false)
	if err != nil || len(res) != len(ops) {
		t.Fatalf("%v, %v", res, err)
	}
	for i, r := range res {
		if !errors.Is(r.Err, want[i]) || (want[i] == nil) != (r.Err == nil) {
			t.Errorf("operation %d: %v, want %v", i, r.Err, want[i])
		}
		if r.Err != nil && r.Rev != 0 {
			t.Errorf("operation %d failed and has revision %d", i, r.Rev)
		}
		if r.Err == nil && ops[i].Kind != docstore.Delete {
			if d, ok := one(t, e, ops[i].Collection, ops[i].ID); !ok || d.Rev != r.Rev {
				t.Errorf("operation %d: there is %v, want revision %d", i, d, r.Rev)
			}
		}
	}
}

func (s *suite) across(t *testing.T) {
	e := s.fresh(t)
	var ops []docstore.Op
	for i := range s.size(60) {
		id := fmt.Sprintf("%03d", i)
		ops = append(ops,
			docstore.Op{Kind: docstore.Put, Collection: plain, ID: id, Body: number(t, i)},
			docstore.Op{Kind: docstore.Insert, Collection: coll, ID: id, Body: raw(t, thing{S: "x", I: int64(i)})},
			docstore.Op{Kind: docstore.Insert, Collection: "named", ID: id, Body: named(t, id)})
	}
	for _, ordered := range []bool{true, false} {
		res, err := e.Write(t.Context(), ops, ordered)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range res {
			d, ok := one(t, e, ops[i].Collection, ops[i].ID)
			if r.Err != nil || !ok || d.Rev != r.Rev || !bytes.Equal(d.Body, ops[i].Body) {
				t.Fatalf("operation %d of %d (ordered %t): %v; there is %v", i, len(ops), ordered, r.Err, d)
			}
		}
		for i := range ops {
			ops[i].Kind = docstore.Put
		}
	}
}

func (s *suite) largestBatch(t *testing.T) {
	e := s.fresh(t)
	ops := make([]docstore.Op, docstore.MaxBatch+1)
	for i := range ops {
		ops[i] = docstore.Op{Kind: docstore.Insert, Collection: plain, ID: fmt.Sprintf("%06d", i), Body: number(t, i)}
	}
	_, err := e.Write(t.Context(), ops, false)
	wantErr(t, "one too many", err, docstore.ErrInvalid)
	n := s.size(docstore.MaxBatch)
	res, err := e.Write(t.Context(), ops[:n], true)
	if err != nil || len(res) != n {
		t.Fatalf("the largest batch: %d results, %v", len(res), err)
	}
	for i, r := range res {
		if r.Err != nil {
			t.Fatalf("operation %d: %v", i, r.Err)
		}
	}
	if got, err := e.Count(t.Context(), docstore.Query{Collection: plain}, 2*n); err != nil || got != n {
		t.Errorf("count: %d, %v", got, err)
	}
}

// sized makes a body of exactly n bytes.
func sized(t *testing.T, n int) bson.Raw {
	t.Helper()
	empty := len(raw(t, bson.D{{Key: "b", Value: []byte{}}}))
	b := raw(t, bson.D{{Key: "b", Value: bytes.Repeat([]byte{7}, n-empty)}})
	if len(b) != n {
		t.Fatalf("made %d bytes, not %d", len(b), n)
	}
	return b
}

func (s *suite) sizes(t *testing.T) {
	e := s.fresh(t)
	limit, above := sized(t, docstore.MaxDocument), sized(t, docstore.MaxDocument+1)
	res, err := e.Write(t.Context(), []docstore.Op{
		{Kind: docstore.Put, Collection: plain, ID: "above", Body: above},
		{Kind: docstore.Put, Collection: plain, ID: "limit", Body: limit},
		{Kind: docstore.Insert, Collection: plain, ID: "small", Body: number(t, 1)},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a document above the limit", res[0].Err, docstore.ErrTooLarge)
	if res[1].Err != nil || res[2].Err != nil {
		t.Errorf("beside it: %v", res)
	}
	d, ok := one(t, e, plain, "limit")
	if !ok || !bytes.Equal(d.Body, limit) {
		t.Error("the document at the limit is not what was written")
	}
	for _, n := range []int{20, 500, 1000, 1001, 2000, 4095, 4096, 4097, 8192, 20_000, 65_536, 1 << 20} {
		id, body := fmt.Sprint(n), sized(t, n)
		mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: plain, ID: id, Body: body})
		if d, _ := one(t, e, plain, id); !bytes.Equal(d.Body, body) {
			t.Errorf("the document of %d bytes is not what was written", n)
		}
	}
}

func (s *suite) largePage(t *testing.T) {
	e := s.fresh(t)
	const n, size = 5, 6 << 20
	var want []string
	for i := range n {
		id := fmt.Sprint(i)
		want = append(want, id)
		mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: id, Body: sized(t, size)})
	}
	p, err := e.Scan(t.Context(), docstore.Query{Collection: plain, Limit: n})
	if err != nil || p.Next == "" || len(p.Docs) == 0 || len(p.Docs) > docstore.PageBytes/size+1 {
		t.Errorf("a page of large documents has %d of them, next %q, %v", len(p.Docs), p.Next, err)
	}
	wantIDs(t, e, docstore.Query{Collection: plain}, want)
}

func (s *suite) count(t *testing.T) {
	e := s.fresh(t)
	var ops []docstore.Op
	for i := range 20 {
		ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: coll, ID: fmt.Sprintf("%02d", i), Body: raw(t, thing{I: int64(i)})})
	}
	mustWrite(t, e, ops...)
	for _, c := range []struct {
		q     docstore.Query
		limit int
		want  int
	}{
		{docstore.Query{}, 100, 20},
		{docstore.Query{}, 20, 20},
		{docstore.Query{}, 19, 19},
		{docstore.Query{From: "05", To: "10"}, 100, 5},
		{docstore.Query{From: "99"}, 100, 0},
		{docstore.Query{Index: "i", Low: int64(15)}, 3, 3},
		{docstore.Query{Index: "i", Low: int64(15), Limit: 1}, 100, 5},
	} {
		c.q.Collection = coll
		if n, err := e.Count(t.Context(), c.q, c.limit); err != nil || n != c.want {
			t.Errorf("count %+v up to %d: %d, %v; want %d", c.q, c.limit, n, err, c.want)
		}
	}
	_, err := e.Count(t.Context(), docstore.Query{Collection: coll}, 0)
	wantErr(t, "a count without a limit", err, docstore.ErrInvalid)
}

func (s *suite) deleteRange(t *testing.T) {
	e := s.fresh(t)
	n := s.size(2500)
	var ops []docstore.Op
	for i := range n {
		ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: coll, ID: fmt.Sprintf("m/%05d", i), Body: raw(t, thing{I: int64(i)})})
	}
	for _, id := range []string{"a", "m", "m0", "z"} {
		ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: coll, ID: id, Body: raw(t, thing{I: -1})})
	}
	mustWrite(t, e, ops...)
	first := n - n/3
	if got, err := e.DeleteRange(t.Context(), coll, "m/", "m0", first); err != nil || got != first {
		t.Fatalf("delete %d: %d, %v", first, got, err)
	}
	// The lowest ids go first, so that a range that is being deleted stays one range.
	p, err := e.Scan(t.Context(), docstore.Query{Collection: coll, From: "m/", To: "m0", Limit: 1})
	if err != nil || len(p.Docs) != 1 || p.Docs[0].ID != fmt.Sprintf("m/%05d", first) {
		t.Errorf("first of what is left: %v, %v", ids(p.Docs), err)
	}
	if got, err := e.DeleteRange(t.Context(), coll, "m/", "m0", n); err != nil || got != n-first {
		t.Errorf("delete the rest: %d, %v; want %d", got, err, n-first)
	}
	if got, err := e.DeleteRange(t.Context(), coll, "m/", "m0", n); err != nil || got != 0 {
		t.Errorf("delete again: %d, %v", got, err)
	}
	wantIDs(t, e, docstore.Query{Collection: coll}, []string{"a", "m", "m0", "z"})
	wantIDs(t, e, docstore.Query{Collection: coll, Index: "i"}, []string{"a", "m", "m0", "z"})
	_, err = e.DeleteRange(t.Context(), coll, "", "", 0)
	wantErr(t, "delete without a limit", err, docstore.ErrInvalid)
	if got, err := e.DeleteRange(t.Context(), coll, "", "", 10); err != nil || got != 4 {
		t.Errorf("delete everything: %d, %v", got, err)
	}
}

func (s *suite) cancellation(t *testing.T) {
	e := s.fresh(t)
	mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: "a", Body: number(t, 1)})
	cancelled, stop := context.WithCancel(t.Context())
	stop()
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	for _, c := range []struct {
		ctx  context.Context
		want error
	}{{cancelled, context.Canceled}, {late, context.DeadlineExceeded}} {
		_, err := e.Get(c.ctx, plain, "a")
		wantErr(t, "Get", err, c.want)
		_, err = e.Scan(c.ctx, docstore.Query{Collection: plain})
		wantErr(t, "Scan", err, c.want)
		_, err = e.Count(c.ctx, docstore.Query{Collection: plain}, 5)
		wantErr(t, "Count", err, c.want)
		_, err = e.Write(c.ctx, []docstore.Op{{Kind: docstore.Put, Collection: plain, ID: "b", Body: number(t, 1)}}, true)
		wantErr(t, "Write", err, c.want)
		_, err = e.DeleteRange(c.ctx, plain, "", "", 5)
		wantErr(t, "DeleteRange", err, c.want)
		_, err = e.Now(c.ctx)
		wantErr(t, "Now", err, c.want)
		wantErr(t, "Ensure", e.Ensure(c.ctx, []docstore.Collection{{Name: "another"}}), c.want)
	}
	wantIDs(t, e, docstore.Query{Collection: plain}, []string{"a"})
}

func (s *suite) clock(t *testing.T) {
	e := s.fresh(t)
	var last time.Time
	for range 20 {
		now, err := e.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if now.Location() != time.UTC || now.Nanosecond()%1e6 != 0 {
			t.Errorf("%v is not UTC to the millisecond", now)
		}
		if now.Before(last.Add(-time.Second)) {
			t.Errorf("the clock went from %v to %v", last, now)
		}
		last = now
	}
	if last.Year() < 2020 {
		t.Errorf("the clock shows %v", last)
	}
}

func (s *suite) closed(t *testing.T) {
	e := s.fresh(t)
	if err := e.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
	ctx := t.Context()
	_, err := e.Get(ctx, plain, "a")
	wantErr(t, "Get", err, docstore.ErrUnavailable)
	_, err = e.Scan(ctx, docstore.Query{Collection: plain})
	wantErr(t, "Scan", err, docstore.ErrUnavailable)
	_, err = e.Count(ctx, docstore.Query{Collection: plain}, 5)
	wantErr(t, "Count", err, docstore.ErrUnavailable)
	_, err = e.Write(ctx, []docstore.Op{{Kind: docstore.Put, Collection: plain, ID: "b", Body: number(t, 1)}}, true)
	wantErr(t, "Write", err, docstore.ErrUnavailable)
	_, err = e.DeleteRange(ctx, plain, "", "", 5)
	wantErr(t, "DeleteRange", err, docstore.ErrUnavailable)
	_, err = e.Now(ctx)
	wantErr(t, "Now", err, docstore.ErrUnavailable)
	wantErr(t, "Ensure", e.Ensure(ctx, []docstore.Collection{{Name: "another"}}), docstore.ErrUnavailable)
}
