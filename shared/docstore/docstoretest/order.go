package docstoretest

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

func (s *suite) get(t *testing.T) {
	e := s.fresh(t)
	n := s.size(3000)
	ops := make([]docstore.Op, n)
	var want []string
	for i := range ops {
		ops[i] = docstore.Op{Kind: docstore.Insert, Collection: plain, ID: fmt.Sprintf("%05d", i), Body: number(t, i)}
		want = append(want, ops[i].ID)
	}
	mustWrite(t, e, ops...)
	slices.Reverse(want)
	asked := slices.Clone(want)
	asked = slices.Insert(asked, 3, "missing")
	asked = append(asked, "also missing")
	docs, err := e.Get(t.Context(), plain, asked...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, ids(docs)); diff != "" {
		t.Errorf("get (-want +got):\n%s", diff)
	}
	docs, err = e.Get(t.Context(), plain)
	if err != nil || len(docs) != 0 {
		t.Errorf("get of nothing: %v, %v", docs, err)
	}
}

// texts are strings in the order of their bytes, with what collations and UTF-16 would order in another way.
func texts() []string {
	out := []string{
		" ", "!", "-", "0", "10", "2", "A", "B", "Z", "_", "a", "a ", "a b", "a-b", "a/b", "aa", "b", "z", "~", "\u007f",
		"Ä", "ß", "ä", "é", "e\u0301", "\uffee", "\U0001F332", "中", "%", "$a", `"`, "'", "a.b", "\t", "\n",
	}
	slices.Sort(out)
	return out
}

func (s *suite) idOrder(t *testing.T) {
	e := s.fresh(t)
	want := texts()
	for i := range want {
		// Written from the middle outwards, so that the order of writing cannot pass for the right one.
		at := len(want)/2 + (i+1)/2*(1-i%2*2)
		mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: plain, ID: want[(at+len(want))%len(want)], Body: number(t, i)})
	}
	reversed := slices.Clone(want)
	slices.Reverse(reversed)
	wantIDs(t, e, docstore.Query{Collection: plain}, want)
	wantIDs(t, e, docstore.Query{Collection: plain, Descending: true}, reversed)
	for i := 0; i < len(want); i += 5 {
		for j := 0; j < len(want); j += 7 {
			part := slices.Clone(want[i:max(i, j)])
			wantIDs(t, e, docstore.Query{Collection: plain, From: want[i], To: want[j]}, part)
			slices.Reverse(part)
			wantIDs(t, e, docstore.Query{Collection: plain, From: want[i], To: want[j], Descending: true}, part)
		}
	}
	wantIDs(t, e, docstore.Query{Collection: plain, From: "a"}, want[slices.Index(want, "a"):])
	wantIDs(t, e, docstore.Query{Collection: plain, To: "a"}, want[:slices.Index(want, "a")])
	// A prefix range, as the series use it.
	wantIDs(t, e, docstore.Query{Collection: plain, From: "a/", To: "a0"}, []string{"a/b"})
}

func (s *suite) indexOrder(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
	strs := append([]string{""}, texts()...)
	ints := []int64{math.MinInt64, -1 << 53, -256, -1, 0, 1, 2, 10, 255, 256, 1 << 31, 1 << 53, 1<<53 + 1, math.MaxInt64}
	times := []time.Time{at(-62135596800000), at(-1), at(0), at(1), at(999), at(1000), at(1763700000123), at(253402300799999)}
	for _, c := range []struct {
		index string
		n     int
		set   func(v *thing, i int)
		value func(i int) any
	}{
		{index: "s", n: len(strs), set: func(v *thing, i int) { v.S = strs[i] }, value: func(i int) any { return strs[i] }},
		{index: "i", n: len(ints), set: func(v *thing, i int) { v.I = ints[i] }, value: func(i int) any { return ints[i] }},
		{index: "t", n: len(times), set: func(v *thing, i int) { v.T = times[i] }, value: func(i int) any { return times[i] }},
		{index: "b", n: 2, set: func(v *thing, i int) { v.B = i == 1 }, value: func(i int) any { return i == 1 }},
	} {
		t.Run(c.index, func(t *testing.T) {
			e := s.fresh(t)
			// Two documents a value: the id decides between equals. The ids run against the values.
			var want [][]string
			var ops []docstore.Op
			for i := range c.n {
				pair := []string{fmt.Sprintf("%03d/a", c.n-i), fmt.Sprintf("%03d/b", c.n-i)}
				want = append(want, pair)
				v := thing{T: at(0)}
				c.set(&v, i)
				for _, id := range []string{pair[1], pair[0]} {
					ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: coll, ID: id, Body: raw(t, v)})
				}
			}
			mustWrite(t, e, ops...)
			check := func(q docstore.Query, from, to int) {
				t.Helper()
				part := slices.Concat(want[from:max(from, to)]...)
				q.Collection, q.Index = coll, c.index
				wantIDs(t, e, q, part)
				slices.Reverse(part)
				q.Descending = true
				wantIDs(t, e, q, part)
			}
			check(docstore.Query{}, 0, c.n)
			for i := 0; i < c.n; i += 3 {
				check(docstore.Query{Prefix: []any{c.value(i)}}, i, i+1)
				check(docstore.Query{Low: c.value(i)}, i, c.n)
				check(docstore.Query{High: c.value(i)}, 0, i)
				for j := 0; j < c.n; j += 4 {
					check(docstore.Query{Low: c.value(i), High: c.value(j)}, i, j)
				}
				// When the prefix covers all fields the bounds are of the id.
				id := want[i][1]
				wantIDs(t, e, docstore.Query{Collection: coll, Index: c.index, Prefix: []any{c.value(i)}, Low: id}, []string{id})
				wantIDs(t, e, docstore.Query{Collection: coll, Index: c.index, Prefix: []any{c.value(i)}, High: id}, want[i][:1])
			}
		})
	}
}

func (s *suite) prefix(t *testing.T) {
	e := s.fresh(t)
	type doc struct {
		id string
		v  thing
	}
	var docs []doc
	var ops []docstore.Op
	for si, str := range []string{"", "a", "aa", "b"} {
		for _, i := range []int64{-5, 0, 7} {
			for _, ms := range []int64{-1, 0, 1_000_000} {
				d := doc{id: fmt.Sprintf("%d", (len(docs)*7)%36+100), v: thing{S: str, I: i, T: time.UnixMilli(ms).UTC(), B: si%2 == 0}}
				docs = append(docs, d)
				ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: coll, ID: d.id, Body: raw(t, d.v)})
			}
		}
	}
	slices.SortFunc(ops, func(a, b docstore.Op) int { return strings.Compare(a.ID, b.ID) })
	mustWrite(t, e, ops...)
	check := func(q docstore.Query, keep func(v thing) bool) {
		t.Helper()
		q.Collection, q.Index = coll, "sit"
		var want []string
		for _, d := range docs {
			if keep(d.v) {
				want = append(want, d.id)
			}
		}
		wantIDs(t, e, q, want)
		slices.Reverse(want)
		q.Descending = true
		wantIDs(t, e, q, want)
	}
	epoch := time.UnixMilli(0)
	check(docstore.Query{}, func(thing) bool { return true })
	check(docstore.Query{Low: "a", High: "b"}, func(v thing) bool { return v.S == "a" || v.S == "aa" })
	check(docstore.Query{Prefix: []any{"a"}}, func(v thing) bool { return v.S == "a" })
	check(docstore.Query{Prefix: []any{""}}, func(v thing) bool { return v.S == "" })
	check(docstore.Query{Prefix: []any{"a"}, Low: int64(0)}, func(v thing) bool { return v.S == "a" && v.I >= 0 })
	check(docstore.Query{Prefix: []any{"a"}, Low: int64(-5), High: int64(7)}, func(v thing) bool { return v.S == "a" && v.I < 7 })
	check(docstore.Query{Prefix: []any{"b", int64(7)}}, func(v thing) bool { return v.S == "b" && v.I == 7 })
	check(docstore.Query{Prefix: []any{"b", int64(7)}, Low: epoch}, func(v thing) bool { return v.S == "b" && v.I == 7 && !v.T.Before(epoch) })
	check(docstore.Query{Prefix: []any{"b", int64(7), epoch}}, func(v thing) bool { return v.S == "b" && v.I == 7 && v.T.Equal(epoch) })
	check(docstore.Query{Prefix: []any{"c"}}, func(thing) bool { return false })

	for what, q := range map[string]docstore.Query{
		"an int for an int64":        {Index: "i", Prefix: []any{1}},
		"a number for a string":      {Index: "s", Low: int64(1)},
		"too many values":            {Index: "s", Prefix: []any{"a", "b", "c"}},
		"From with an index":         {Index: "s", From: "a"},
		"Low without an index":       {Low: "a"},
		"Prefix without an index":    {Prefix: []any{"a"}},
		"a zero byte in a bound":     {From: "a\x00"},
		"a text for the id's bounds": {Index: "s", Prefix: []any{"a"}, Low: int64(1)},
	} {
		q.Collection = coll
		_, err := e.Scan(t.Context(), q)
		wantErr(t, what, err, docstore.ErrInvalid)
		_, err = e.Count(t.Context(), q, 1)
		wantErr(t, "count with "+what, err, docstore.ErrInvalid)
	}
}

func (s *suite) tokens(t *testing.T) {
	e := s.fresh(t)
	for i := range 10 {
		mustWrite(t, e, docstore.Op{Kind: docstore.Insert, Collection: coll, ID: fmt.Sprint(i), Body: raw(t, thing{S: "s", I: int64(i)})})
	}
	q := docstore.Query{Collection: coll, Index: "i", Low: int64(2), Limit: 3}
	p, err := e.Scan(t.Context(), q)
	if err != nil || p.Next == "" {
		t.Fatalf("scan: %v, %v", p, err)
	}
	for what, q := range map[string]docstore.Query{
		"garbage":       {Collection: coll, Index: "i", Low: int64(2), Resume: "garbage!"},
		"cut short":     {Collection: coll, Index: "i", Low: int64(2), Resume: p.Next[:len(p.Next)-3]},
		"not a token":   {Collection: coll, Index: "i", Low: int64(2), Resume: base64.RawURLEncoding.EncodeToString([]byte{9, 9, 9})},
		"another bound": {Collection: coll, Index: "i", Low: int64(3), Resume: p.Next},
		"another index": {Collection: coll, Index: "s", Resume: p.Next},
		"another order": {Collection: coll, Index: "i", Low: int64(2), Descending: true, Resume: p.Next},
		"by id":         {Collection: coll, Resume: p.Next},
	} {
		_, err := e.Scan(t.Context(), q)
		wantErr(t, "a token that is "+what, err, docstore.ErrInvalid)
	}
	// The limit may change from page to page, and the document the page ended with may go.
	mustWrite(t, e, docstore.Op{Kind: docstore.Delete, Collection: coll, ID: p.Docs[2].ID})
	q.Resume, q.Limit = p.Next, 100
	rest, err := e.Scan(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"5", "6", "7", "8", "9"}, ids(rest.Docs)); diff != "" || rest.Next != "" {
		t.Errorf("the rest (-want +got), next %q:\n%s", rest.Next, diff)
	}
}

// scanUnderChange: documents that are there all the time are seen exactly once, in order, whatever comes and goes.
func (s *suite) scanUnderChange(t *testing.T) {
	e := s.fresh(t)
	n := s.size(300)
	var ops []docstore.Op
	var want []string
	for i := range n {
		id := fmt.Sprintf("%05d", i*10)
		want = append(want, id)
		ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: coll, ID: id, Body: raw(t, thing{S: "keep", I: int64(i / 3)})})
	}
	mustWrite(t, e, ops...)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for w := range 2 {
		wg.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				i := (round*37 + w*11) % n
				id := fmt.Sprintf("%05d/%d", i*10, w)
				op := docstore.Op{Kind: docstore.Put, Collection: coll, ID: id, Body: raw(t, thing{S: "come and go", I: int64(round % n)})}
				del := docstore.Op{Kind: docstore.Delete, Collection: coll, ID: fmt.Sprintf("%05d/%d", (i*10+70)%(n*10), w)}
				if _, err := e.Write(ctx, []docstore.Op{op, del}, true); err != nil && ctx.Err() == nil {
					t.Errorf("write beside the scan: %v", err)
					return
				}
			}
		})
	}
	for _, q := range []docstore.Query{
		{Collection: coll},
		{Collection: coll, Descending: true},
		{Collection: coll, Index: "i"},
		{Collection: coll, Index: "i", Descending: true},
	} {
		docs, err := all(t.Context(), e, q, 7)
		if err != nil {
			t.Fatal(err)
		}
		expect := slices.Clone(want)
		if q.Descending {
			slices.Reverse(expect)
		}
		var kept []string
		for _, d := range docs {
			if v, _ := d.Body.Lookup("s").StringValueOK(); v == "keep" {
				kept = append(kept, d.ID)
			}
		}
		if diff := cmp.Diff(expect, kept); diff != "" {
			t.Errorf("scan %+v (-want +got):\n%s", q, diff)
		}
	}
}
