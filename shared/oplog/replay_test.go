package oplog_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

func unpack(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if b, err = d.DecodeAll(b, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

func untar(t testing.TB, name string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(unpack(t, name))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func documents(b []byte) (out []bson.Raw) {
	for len(b) > 4 {
		n := binary.LittleEndian.Uint32(b)
		out = append(out, bson.Raw(b[:n:n]))
		b = b[n:]
	}
	return out
}

// recorded are the streams of the oracle: as recorded, and with diffs.
var recorded = sync.OnceValue(func() map[string][]bson.Raw {
	b, err := os.ReadFile("testdata/replay-oplogs.bson.zst")
	if err != nil {
		panic(err)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		panic(err)
	}
	defer d.Close()
	if b, err = d.DecodeAll(b, nil); err != nil {
		panic(err)
	}
	all := documents(b)
	second := slices.IndexFunc(all[1:], func(x bson.Raw) bool { return bytes.Equal(x, all[0]) }) + 1
	return map[string][]bson.Raw{"$v 1": all[:second], "$v 2": all[second:]}
})

// store is a server without a network: documents by _id, in order of insertion.
type store struct {
	t     testing.TB
	colls map[oplog.UUID]*heap
}

type heap struct {
	schema.Collection
	docs    map[string]*record
	next    int
	ordered []*record // of capped collections
	bytes   int
	size    int
	max     int
}

type record struct {
	key string
	doc bson.Raw
	n   int
}

func idKey(t testing.TB, doc bson.Raw) string {
	t.Helper()
	v, err := bsoncore.Document(doc).LookupErr("_id")
	if err != nil {
		t.Fatalf("document without _id: %s", doc)
	}
	return document.Key(v)
}

func newHeap(c schema.Collection) *heap {
	h := &heap{Collection: c, docs: map[string]*record{}}
	if c.Capped() {
		size, _ := bsoncore.Document(c.Options).LookupErr("size")
		n, _ := size.AsInt64OK()
		h.size = int(n)
		if v, err := bsoncore.Document(c.Options).LookupErr("max"); err == nil {
			n, _ := v.AsInt64OK()
			h.max = int(n)
		}
	}
	return h
}

func (h *heap) insert(t testing.TB, doc bson.Raw) {
	t.Helper()
	k := idKey(t, doc)
	if h.docs[k] != nil {
		t.Fatalf("%s: duplicate _id in an insert: %s", h.NS, doc)
	}
	r := &record{key: k, doc: doc, n: h.next}
	h.next++
	h.docs[k] = r
	if h.size == 0 {
		return
	}
	h.ordered = append(h.ordered, r)
	h.bytes += len(doc)
	for len(h.ordered) > 1 && (h.bytes > h.size || h.max > 0 && len(h.ordered) > h.max) {
		h.remove(h.ordered[0].key)
	}
}

func (h *heap) remove(key string) {
	r := h.docs[key]
	delete(h.docs, key)
	if r != nil && h.size > 0 {
		h.ordered = slices.DeleteFunc(h.ordered, func(x *record) bool { return x == r })
		h.bytes -= len(r.doc)
	}
}

func (h *heap) all() (out []bson.Raw) {
	for _, r := range h.ordered {
		out = append(out, r.doc)
	}
	if h.size > 0 {
		return out
	}
	for _, r := range h.docs {
		out = append(out, r.doc)
	}
	return out
}

func (s *store) step(x schema.Step) {
	s.t.Helper()
	switch x.Do {
	case schema.CreateCollection:
		s.colls[x.Collection.UUID] = newHeap(x.Collection)
	case schema.DropCollection:
		if s.colls[x.Collection.UUID] == nil {
			s.t.Fatalf("drop of %s, which is not there", x.Collection.NS)
		}
		delete(s.colls, x.Collection.UUID)
	case schema.RenameCollection:
		h := s.colls[x.Collection.UUID]
		if h.NS != x.From {
			s.t.Fatalf("rename of %s, which is called %s", x.From, h.NS)
		}
		for _, other := range s.colls {
			if other.NS == x.Collection.NS {
				s.t.Fatalf("rename of %s to %s, which is taken", x.From, other.NS)
			}
		}
		h.NS = x.Collection.NS
	case schema.EmptyCollection:
		s.colls[x.Collection.UUID] = newHeap(x.Collection)
	}
}

// flush carries a batch out as an applier would, and checks that the plan kept its promises.
func (s *store) flush(b *plan.Batch, missing *plan.Missing, lanes int) {
	s.t.Helper()
	for _, f := range b.Fetches() {
		for _, id := range append(f.IDs, f.Presence...) {
			if r := s.colls[f.UUID].docs[document.Key(id)]; r != nil {
				if err := b.Found(f.UUID, r.doc); err != nil {
					s.t.Fatal(err)
				}
			}
		}
	}
	out, err := b.Fold()
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range out.Writes {
		missing.Note(&out.Writes[i])
		parts := out.Writes[i].Lanes(lanes)
		h := s.colls[out.Writes[i].Collection.UUID]
		for _, w := range parts {
			for _, g := range w.Deletes {
				h.remove(document.Key(g.ID))
			}
		}
		slices.Reverse(parts) // lanes may run in any order
		for _, w := range parts {
			s.write(h, w)
		}
	}
}

func (s *store) write(h *heap, w plan.Writes) {
	s.t.Helper()
	for _, p := range w.Inserts {
		if r := h.docs[document.Key(p.ID)]; r != nil && w.Way == plan.InPlace {
			r.doc = p.Doc
			continue
		}
		h.insert(s.t, p.Doc)
	}
	for _, p := range append(w.Replaces, w.Upserts...) {
		if r := h.docs[document.Key(p.ID)]; r != nil {
			r.doc = p.Doc
		} else if slices.ContainsFunc(w.Upserts, func(u plan.Put) bool { return bytes.Equal(u.Doc, p.Doc) }) {
			h.insert(s.t, p.Doc)
		}
	}
	for _, o := range w.Ordered {
		k := document.Key(o.ID)
		switch o.Do {
		case plan.Again:
			h.remove(k)
			h.insert(s.t, o.Doc)
		case plan.Insert:
			h.insert(s.t, o.Doc)
		case plan.Replace:
			if r := h.docs[k]; r != nil { // trimmed by an insert of the same batch
				h.bytes += len(o.Doc) - len(r.doc)
				r.doc = o.Doc
			}
		case plan.Delete:
			h.remove(k)
		}
	}
}

// run replays entries; up to the end of the window what does not fit is normal.
type run struct {
	batch  int
	behind bool
	lanes  int
	from   bson.Timestamp
	window bson.Timestamp
}

func (r run) replay(t testing.TB, s *store, cat *schema.Catalogue, entries []bson.Raw) {
	t.Helper()
	buf := txn.New(nil)
	missing := &plan.Missing{}
	fuzzy := !r.window.IsZero()
	fresh := func() *plan.Batch {
		return plan.New(plan.Options{MaxOps: r.batch, Fuzzy: fuzzy, Behind: r.behind})
	}
	b := fresh()
	flush := func() {
		if !b.Empty() {
			s.flush(b, missing, r.lanes)
		}
		b = fresh()
	}
	for _, raw := range entries {
		e, err := oplog.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if e.At.TS.Before(r.from) {
			continue
		}
		if fuzzy && e.At.TS.After(r.window) {
			flush()
			fuzzy = false
			b = fresh()
			if n := missing.Len(); n > 0 {
				t.Fatalf("%d documents missing at the end of the window", n)
			}
			if a := cat.Aside(); len(a) > 0 {
				t.Fatalf("aside at the end of the window: %v", a)
			}
		}
		verdict, err := buf.Add(e)
		if err != nil {
			t.Fatal(err)
		}
		if verdict != txn.Apply && verdict != txn.Commit {
			continue
		}
		for op, err := range buf.Operations(e) {
			if err != nil {
				t.Fatal(err)
			}
			next, err := b.Add(cat, op)
			if err != nil {
				t.Fatalf("%s: %v", e.At, err)
			}
			if next != plan.Barrier && next != plan.View {
				continue
			}
			flush()
			apply := cat.Apply
			if next == plan.View {
				apply = cat.ApplyView
			}
			steps, odd, err := apply(op)
			if err != nil || odd != 0 && !fuzzy {
				t.Fatalf("%s: %v, %s", op.O, err, odd)
			}
			for _, x := range steps {
				s.step(x)
				if x.Do == schema.DropCollection {
					missing.Drop(x.Collection.UUID)
				}
			}
		}
		if err := buf.Done(e); err != nil {
			t.Fatal(err)
		}
		if b.Full() {
			flush()
		}
	}
	flush()
	if _, any := buf.Oldest(); any {
		t.Error("transactions are left open")
	}
}

type manifest struct {
	StartTs, EndTs, LastTs bson.Timestamp
	Collections            []struct {
		DB, Name, Type, File, Lost string
		UUID                       bson.Binary
		Options                    bson.Raw
		Indexes                    []bson.Raw
	}
}

func readManifest(t testing.TB, b []byte) manifest {
	t.Helper()
	var m manifest
	if err := bson.UnmarshalExtJSON(b, true, &m); err != nil {
		var syntax any
		t.Fatalf("%v (%v)", err, json.Unmarshal(b, &syntax))
	}
	return m
}

func collectionOf(ns string, id bson.Binary, options bson.Raw, indexes []bson.Raw) schema.Collection {
	c := schema.Collection{NS: ns, UUID: oplog.UUID(id.Data)}
	if len(options) > 5 {
		c.Options = options
	}
	for _, x := range indexes {
		if x.Lookup("name").StringValue() == "_id_" {
			c.IDIndex = x
		} else {
			c.Indexes = append(c.Indexes, x)
		}
	}
	return c
}

func TestReplayEndsInTheStateOfTheServer(t *testing.T) {
	files := untar(t, "replay-states.tar.zst")
	final := readManifest(t, files["final/manifest.json"])
	fuzzy := readManifest(t, files["fuzzy/manifest.json"])
	runs := map[string]run{
		"in place":                     {batch: 500, lanes: 3},
		"in place, tiny batches":       {batch: 7, lanes: 2},
		"two-phase":                    {batch: 1000, lanes: 4, behind: true},
		"two-phase, one batch":         {batch: 1 << 30, lanes: 1, behind: true},
		"over a fuzzy copy":            {batch: 500, lanes: 3, from: fuzzy.StartTs, window: fuzzy.EndTs},
		"over a fuzzy copy, two-phase": {batch: 50, lanes: 2, behind: true, from: fuzzy.StartTs, window: fuzzy.EndTs},
	}
	for version, entries := range recorded() {
		for name, r := range runs {
			if testing.Short() && name != "in place" && name != "over a fuzzy copy, two-phase" {
				continue
			}
			t.Run(version+" "+name, func(t *testing.T) {
				s := &store{t: t, colls: map[oplog.UUID]*heap{}}
				cat, err := schema.New()
				if err != nil {
					t.Fatal(err)
				}
				if !r.window.IsZero() {
					cat = seed(t, s, files, fuzzy)
				}
				r.replay(t, s, cat, entries)
				compare(t, s, cat, files, final)
			})
		}
	}
}

// seed puts the fuzzy copy in place.
func seed(t testing.TB, s *store, files map[string][]byte, m manifest) *schema.Catalogue {
	t.Helper()
	var colls []schema.Collection
	var views []bson.Raw
	for _, x := range m.Collections {
		if x.Type != "collection" || x.Lost != "" {
			continue
		}
		c := collectionOf(x.DB+"."+x.Name, x.UUID, x.Options, x.Indexes)
		colls = append(colls, c)
		h := newHeap(c)
		s.colls[c.UUID] = h
		for _, d := range documents(files["fuzzy/"+x.File]) {
			if c.Views() {
				views = append(views, d)
				continue
			}
			h.insert(t, d)
		}
	}
	cat, err := schema.New(colls...)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		if err := cat.AddView(v); err != nil {
			t.Fatal(err)
		}
	}
	return cat
}

func compare(t *testing.T, s *store, cat *schema.Catalogue, files map[string][]byte, final manifest) {
	t.Helper()
	want := map[string]bool{}
	docs := 0
	for _, x := range final.Collections {
		ns := x.DB + "." + x.Name
		if x.Type != "collection" {
			continue
		}
		want[ns] = true
		c := collectionOf(ns, x.UUID, x.Options, x.Indexes)
		have, ok := cat.Lookup(c.UUID, "")
		h := s.colls[c.UUID]
		if !ok || h == nil || have.NS != ns || h.NS != ns {
			t.Errorf("%s: not there, or under another name (%s)", ns, have.NS)
			continue
		}
		if !bytes.Equal(have.Options, c.Options) || !bytes.Equal(have.IDIndex, c.IDIndex) {
			t.Errorf("%s: options %s, want %s", ns, have.Options, c.Options)
		}
		byName := func(a, b bson.Raw) int {
			return strings.Compare(a.Lookup("name").StringValue(), b.Lookup("name").StringValue())
		}
		slices.SortFunc(have.Indexes, byName)
		slices.SortFunc(c.Indexes, byName)
		if !slices.EqualFunc(have.Indexes, c.Indexes, func(a, b bson.Raw) bool { return bytes.Equal(a, b) }) {
			t.Errorf("%s: indexes %s, want %s", ns, have.Indexes, c.Indexes)
		}
		got := h.all()
		if c.Views() {
			got = cat.ViewsOf(x.DB)
		}
		wanted := documents(files["final/"+x.File])
		docs += len(wanted)
		if !c.Capped() {
			for _, list := range [][]bson.Raw{got, wanted} {
				sort.Slice(list, func(i, j int) bool { return idKey(t, list[i]) < idKey(t, list[j]) })
			}
		}
		if diff := firstDifference(got, wanted); diff != "" {
			t.Errorf("%s: %s", ns, diff)
		}
	}
	for _, c := range cat.Collections() {
		if db, _ := oplog.Split(c.NS); (db == "w1" || db == "w2") && !want[c.NS] {
			t.Errorf("%s should not be there", c.NS)
		}
	}
	if docs < 1000 {
		t.Errorf("compared only %d documents", docs)
	}
}

func firstDifference(got, want []bson.Raw) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d documents, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Sprintf("document %d is\n%s\nwant\n%s", i, got[i], want[i])
		}
	}
	return ""
}
