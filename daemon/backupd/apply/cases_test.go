package apply_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

// world is an oplog in the making, for one database of a head.
type world struct {
	t       testing.TB
	h       *head.Head
	db      string
	entries []bson.Raw
	at      uint32
}

// doc reads extended JSON. DB stands for the database, U1 to U9 for UUIDs of its collections.
func (w *world) doc(s string) bson.Raw {
	w.t.Helper()
	s = strings.ReplaceAll(s, "DB", w.db)
	for i := 1; i <= 9; i++ {
		id := w.uuid(i)
		s = strings.ReplaceAll(s, fmt.Sprintf(`"U%d"`, i), fmt.Sprintf(`{"$uuid":"%s"}`, id))
	}
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(s), false, &d); err != nil {
		w.t.Fatalf("%s: %v", s, err)
	}
	b, err := bson.Marshal(d)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) uuid(n int) oplog.UUID {
	id := oplog.UUID{6: 0x40, 8: 0x80, 15: byte(n)}
	copy(id[:6], w.db)
	return id
}

func (w *world) time(at uint32) oplog.OpTime {
	return oplog.OpTime{TS: bson.Timestamp{T: 1000 + at, I: 1}, Term: 1}
}

// entry appends entries: each line holds the fields that differ, without ts, t, v and wall. "@7 " before it sets the time.
func (w *world) log(lines string) *world {
	w.t.Helper()
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		w.at++
		if after, ok := strings.CutPrefix(line, "@"); ok {
			if _, err := fmt.Sscanf(after, "%d", &w.at); err != nil {
				w.t.Fatal(err)
			}
			_, line, _ = strings.Cut(after, " ")
		}
		w.entries = append(w.entries, w.doc(fmt.Sprintf(`{"ts":{"$timestamp":{"t":%d,"i":1}},"t":{"$numberLong":"1"},"v":{"$numberLong":"2"},"wall":{"$date":"2026-01-01T00:00:00Z"},%s}`, 1000+w.at, line)))
	}
	return w
}

func (w *world) open(o apply.Options) *apply.Applier {
	w.t.Helper()
	o.Client, o.Dir = w.h.Client(), filepath.Join(w.t.TempDir(), "job")
	return w.openIn(o, apply.Beginning{})
}

func (w *world) openIn(o apply.Options, b apply.Beginning) *apply.Applier {
	w.t.Helper()
	if err := apply.Begin(o.Dir, b); err != nil {
		w.t.Fatal(err)
	}
	a, err := apply.Open(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = a.Close() })
	return a
}

// has compares a collection with documents, in extended JSON, a line each; "natural" order for capped ones.
func (w *world) has(coll, want string, natural ...bool) {
	w.t.Helper()
	got, err := read(w.t.Context(), w.h.Client().Database(w.db).Collection(coll), len(natural) > 0)
	if err != nil {
		w.t.Fatal(err)
	}
	var wanted []bson.Raw
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" {
			wanted = append(wanted, w.doc(line))
		}
	}
	if len(natural) == 0 {
		slices.SortFunc(wanted, func(a, b bson.Raw) int { return strings.Compare(idKey(a), idKey(b)) })
	}
	if !slices.EqualFunc(got, wanted, func(a, b bson.Raw) bool { return bytes.Equal(a, b) }) {
		w.t.Errorf("%s.%s holds\n%s\nwant\n%s", w.db, coll, got, wanted)
	}
}

func (w *world) indexes(coll, want string) {
	w.t.Helper()
	cur, err := w.h.Client().Database(w.db).Collection(coll).Indexes().List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for cur.Next(w.t.Context()) {
		s := cur.Current.Lookup("name").StringValue()
		for _, flag := range []string{"hidden", "unique", "prepareUnique", "expireAfterSeconds", "partialFilterExpression"} {
			if v, err := cur.Current.LookupErr(flag); err == nil {
				s += " " + flag + ":" + v.String()
			}
		}
		got = append(got, s)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, strings.Join(got, ", ")); diff != "" {
		w.t.Errorf("indexes of %s:\n%s", coll, diff)
	}
}

// cases are tests that share a head, each with a database of its own.
type cases struct {
	h      *head.Head
	number int
}

func newCases(t *testing.T) *cases {
	t.Helper()
	m, release := heads(t)
	return &cases{h: start(t, m, release, filepath.Join(t.TempDir(), "head"))}
}

func (k *cases) next(t *testing.T) *world {
	k.number++
	return &world{t: t, h: k.h, db: fmt.Sprintf("case%02d", k.number)}
}

func (k *cases) coll(w *world, n int, name, options string, indexes ...string) schema.Collection {
	c := schema.Collection{UUID: w.uuid(n), NS: w.db + "." + name, IDIndex: w.doc(`{"v":2,"key":{"_id":1},"name":"_id_"}`)}
	if options != "" {
		c.Options = w.doc(options)
	}
	for _, i := range indexes {
		c.Indexes = append(c.Indexes, w.doc(i))
	}
	return c
}

// copied puts a copy read under load in place; its window ends at a time.
func (k *cases) copied(w *world, o apply.Options, end uint32, colls []schema.Collection, docs map[string]string, views ...string) *apply.Applier {
	w.t.Helper()
	for i := range colls {
		create := bson.D{{Key: "create", Value: strings.TrimPrefix(colls[i].NS, w.db+".")}}
		for _, e := range elements(colls[i].Options) {
			create = append(create, bson.E{Key: e.Key(), Value: e.Value()})
		}
		op := bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: w.db + ".$cmd"}, {Key: "ui", Value: bson.Binary{Subtype: 4, Data: colls[i].UUID[:]}}, {Key: "o", Value: create}}
		if err := k.h.Client().Database("admin").RunCommand(w.t.Context(), bson.D{{Key: "applyOps", Value: bson.A{op}}}).Err(); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, lines := range docs {
		for line := range strings.Lines(lines) {
			if line = strings.TrimSpace(line); line != "" {
				if _, err := k.h.Client().Database(w.db).Collection(name).InsertOne(w.t.Context(), w.doc(line)); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
	b := apply.Beginning{Start: w.time(0), ScanEnd: w.time(end), Collections: colls}
	for _, v := range views {
		b.Views = append(b.Views, w.doc(v))
	}
	o.Client, o.Dir = k.h.Client(), filepath.Join(w.t.TempDir(), "job")
	return w.openIn(o, b)
}

// run applies everything, through the end of the window where there is one.
func (k *cases) run(w *world, a *apply.Applier) {
	w.t.Helper()
	if err := through(w.t.Context(), a, w.entries); err != nil {
		w.t.Fatal(err)
	}
}

// TestCases are the cases of the reference that an applier decides, on a head.
func TestCases(t *testing.T) {
	k := newCases(t)
	h, next, coll, copied, run := k.h, k.next, k.coll, k.copied, k.run
	session := func(n int) string {
		return fmt.Sprintf(`"lsid":{"id":{"$uuid":"00000000-0000-4000-8000-0000000000%02d"},"uid":{"$binary":{"base64":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","subType":"00"}}},"txnNumber":{"$numberLong":"1"}`, n)
	}
	first := `"prevOpTime":{"ts":{"$timestamp":{"t":0,"i":0}},"t":{"$numberLong":"-1"}}`
	prev := func(at int) string {
		return fmt.Sprintf(`"prevOpTime":{"ts":{"$timestamp":{"t":%d,"i":1}},"t":{"$numberLong":"1"}}`, 1000+at)
	}

	t.Run("1: transactions that began before the read", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1}}],"partialTxn":true},` + session(1) + `,` + first).
			log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":8}}]},` + session(2) + `,` + prev(-5)).
			log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2}}],"prepare":true,"count":{"$numberLong":"2"}},` + session(1) + `,` + prev(1)).
			log(`"op":"i","ns":"DB.c","ui":"U1","o":{"_id":3}`).
			log(`"op":"c","ns":"admin.$cmd","o":{"commitTransaction":1,"commitTimestamp":{"$timestamp":{"t":1004,"i":1}}},` + session(1) + `,` + prev(3))
		a := copied(w, apply.Options{}, 4, []schema.Collection{coll(w, 1, "c", "")}, map[string]string{"c": `{"_id":8}`})
		run(w, a)
		w.has("c", `{"_id":1}
			{"_id":2}
			{"_id":3}
			{"_id":8}`)
		w.log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":9}}]},` + session(3) + `,` + prev(-9))
		if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); !errors.Is(err, txn.ErrNotWhole) {
			t.Errorf("after the window: %v", err)
		}
		if a.Applied() != w.time(5) {
			t.Errorf("applied %s", a.Applied())
		}
	})

	t.Run("an open transaction lives through a restart", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}`).
			log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1}}],"partialTxn":true},` + session(1) + `,` + first).
			log(`"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2}`)
		o := apply.Options{Client: h.Client(), Dir: filepath.Join(t.TempDir(), "job")}
		a := w.openIn(o, apply.Beginning{})
		run(w, a)
		if a.ReplayFrom() != w.time(2) || a.Applied() != w.time(3) {
			t.Fatalf("replay from %s, applied %s", a.ReplayFrom(), a.Applied())
		}
		state, err := a.State()
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		w.log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":3}}],"count":{"$numberLong":"2"}},` + session(1) + `,` + prev(2))
		o.Dir = filepath.Join(t.TempDir(), "restored")
		if err := apply.Restore(o.Dir, state); err != nil {
			t.Fatal(err)
		}
		if a, err = apply.Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		defer a.Close() //nolint:errcheck // ends
		if a.ReplayFrom() != w.time(2) {
			t.Errorf("replay from %s", a.ReplayFrom())
		}
		if err := a.Apply(t.Context(), each(w.entries[1:]), bson.Timestamp{}); err != nil {
			t.Fatal(err)
		}
		w.has("c", `{"_id":1}
			{"_id":2}
			{"_id":3}`)
	})

	t.Run("3: unique values change hands in the window and after it", func(t *testing.T) {
		w := next(t)
		swap := func() {
			w.log(`"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"$v":2,"diff":{"u":{"k":"t"}}}
				"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":2},"o":{"$v":1,"$set":{"k":"a"}}
				"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"_id":1,"k":"b"}
				"op":"d","ns":"DB.c","ui":"U1","o":{"_id":3}
				"op":"i","ns":"DB.c","ui":"U1","o":{"_id":4,"k":"c"}
				"op":"d","ns":"DB.c","ui":"U1","o":{"_id":4}
				"op":"i","ns":"DB.c","ui":"U1","o":{"_id":3,"k":"c"}`)
		}
		swap() // 7 entries
		w.log(`"op":"n","ns":"","o":{"msg":"x"}`)
		back := len(w.entries)
		w.log(`"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"_id":1,"k":"t"}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":2},"o":{"_id":2,"k":"b"}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"_id":1,"k":"a"}
			"op":"d","ns":"DB.c","ui":"U1","o":{"_id":3}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":5,"k":"c"}`)
		// The copy has both documents with one value: read before and after the swap.
		a := copied(w, apply.Options{MaxOps: 2}, 8, []schema.Collection{coll(w, 1, "c", "", `{"v":2,"key":{"k":1},"name":"k_1","unique":true}`)},
			map[string]string{"c": `{"_id":1,"k":"a"}
				{"_id":2,"k":"a"}
				{"_id":3,"k":"c"}`})
		if err := through(t.Context(), a, w.entries[:back]); err != nil {
			t.Fatal(err)
		}
		run(w, a)
		w.has("c", `{"_id":1,"k":"a"}
			{"_id":2,"k":"b"}
			{"_id":5,"k":"c"}`)
		w.indexes("c", "_id_, k_1 unique:true")
	})

	t.Run("10: slices overlap by an entry that commits", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c","capped":true,"size":4096}`).
			log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1}}],"prepare":true},` + session(1) + `,` + first).
			log(`"op":"c","ns":"admin.$cmd","o":{"commitTransaction":1,"commitTimestamp":{"$timestamp":{"t":1003,"i":1}}},` + session(1) + `,` + prev(2)).
			log(`"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2}`)
		a := w.open(apply.Options{})
		for _, part := range [][2]int{{0, 3}, {2, 4}, {0, 4}} {
			if err := a.Apply(t.Context(), each(w.entries[part[0]:part[1]]), bson.Timestamp{}); err != nil {
				t.Fatal(err)
			}
		}
		w.has("c", `{"_id":1}
			{"_id":2}`, true)
	})

	t.Run("12: a view where there was none", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1,"a":1}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2,"a":2}
			"op":"c","ns":"DB.$cmd","ui":"U2","o":{"create":"system.views"}
			"op":"i","ns":"DB.system.views","ui":"U2","o":{"_id":"DB.v","viewOn":"c","pipeline":[{"$match":{"a":1}}]}`)
		a := w.open(apply.Options{})
		run(w, a)
		w.has("v", `{"_id":1,"a":1}`)
		w.log(`"op":"u","ns":"DB.system.views","ui":"U2","o2":{"_id":"DB.v"},"o":{"_id":"DB.v","viewOn":"c","pipeline":[{"$match":{"a":2}}]}`)
		run(w, a)
		w.has("v", `{"_id":2,"a":2}`)
		w.log(`"op":"d","ns":"DB.system.views","ui":"U2","o":{"_id":"DB.v"}
			"op":"i","ns":"DB.system.views","ui":"U2","o":{"_id":"DB.w","viewOn":"c","pipeline":[]}
			"op":"c","ns":"DB.$cmd","ui":"U2","o":{"drop":"system.views"}
			"op":"c","ns":"DB.$cmd","ui":"U3","o":{"create":"system.views"}
			"op":"i","ns":"DB.system.views","ui":"U3","o":{"_id":"DB.w","viewOn":"c","pipeline":[{"$match":{"a":1}}]}`)
		run(w, a)
		names, err := h.Client().Database(w.db).ListCollectionNames(t.Context(), bson.D{{Key: "type", Value: "view"}})
		if err != nil || !slices.Equal(names, []string{"w"}) {
			t.Errorf("views %v, %v", names, err)
		}
		w.has("w", `{"_id":1,"a":1}`)
	})

	t.Run("13: indexes in the window and after it", func(t *testing.T) {
		builds := `"op":"c","ns":"DB.$cmd","ui":"U1","o":{"startIndexBuild":"c","indexBuildUUID":"U9","indexes":[{"v":2,"key":{"a":1},"name":"a_1"},{"v":2,"key":{"b":1},"name":"b_1"}]}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"commitIndexBuild":"c","indexBuildUUID":"U9","indexes":[{"v":2,"key":{"a":1},"name":"a_1"},{"v":2,"key":{"b":1},"name":"b_1","partialFilterExpression":{}}]}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"startIndexBuild":"c","indexBuildUUID":"U8","indexes":[{"v":2,"key":{"z":1},"name":"z_1"}]}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"abortIndexBuild":"c","indexBuildUUID":"U8","indexes":[{"v":2,"key":{"z":1},"name":"z_1"}],"cause":{"ok":false}}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"createIndexes":"c","v":2,"key":{"t":1},"name":"t_1","expireAfterSeconds":60}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"createIndexes":"c","v":2,"key":{"a":1,"b":1},"name":"a_1_b_1"}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"collMod":"c","index":{"name":"t_1","expireAfterSeconds":{"$numberLong":"90"}}}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"collMod":"c","index":{"name":"a_1","hidden":true}}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"dropIndexes":"c","index":"a_1_b_1"}`
		want := `_id_, a_1 hidden:true, b_1 partialFilterExpression:{}, t_1 expireAfterSeconds:{"$numberLong":"90"}`
		for name, end := range map[string]uint32{"in the window": 20, "after it": 1, "on both sides": 6} {
			w := next(t)
			w.log(`"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1,"a":1,"b":1}` + "\n" + builds)
			w.log(`@21 "op":"n","ns":"","o":{"msg":"end"}`)
			run(w, copied(w, apply.Options{}, end, []schema.Collection{coll(w, 1, "c", "")}, nil))
			w.indexes("c", want)
			if t.Failed() {
				t.Fatal(name)
			}
		}
	})

	t.Run("14: names that look like operators", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1,"a":{"l":1},"d":1,"u":[1,2,3],"s1":{"i":1}}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"$v":2,"diff":{"d":{"d":false},"u":{"x.y":1},"sa":{"u":{"l":2}},"su":{"a":true,"l":2,"u0":9},"ss1":{"i":{"$d":1}}}}`)
		a := w.open(apply.Options{})
		if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); !errors.Is(err, apply.ErrCorruption) {
			t.Fatalf("a field to change that is not there: %v", err)
		}
	})

	t.Run("14: byte for byte, whatever names it has", func(t *testing.T) {
		docs := map[string]string{ // by what is special
			"dollar":    `{"_id":1,"$set":{"a":1},"$v":2,"diff":{"u":{}}}`,
			"empty ts":  `{"_id":2,"t":{"$timestamp":{"t":0,"i":0}},"z":{"t":{"$timestamp":{"t":0,"i":0}}}}`,
			"both":      `{"_id":3,"$a":1,"t":{"$timestamp":{"t":0,"i":0}}}`,
			"dots":      `{"_id":4,"a.b":1,"":2,"c":{"$x":{"$y":1}}}`,
			"operator":  `{"_id":{"a":{"$gt":1}},"v":1}`,
			"ts in _id": `{"_id":{"$timestamp":{"t":0,"i":0}},"v":1}`,
			"null":      `{"_id":null,"v":1}`,
			"regex":     `{"_id":5,"r":{"$regularExpression":{"pattern":"^a","options":"i"}}}`,
		}
		for _, options := range []string{`{"create":"c"}`, `{"create":"c","collation":{"locale":"en","strength":2}}`, `{"create":"c","capped":true,"size":100000}`} {
			w := next(t)
			w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":` + options)
			want := ""
			var names []string
			for name := range docs {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				w.log(`"op":"i","ns":"DB.c","ui":"U1","o":` + docs[name])
				want += docs[name] + "\n"
			}
			a := w.open(apply.Options{})
			run(w, a)
			natural := []bool{true}
			if !strings.Contains(options, "capped") {
				natural = nil
			}
			w.has("c", want, natural...)
			// Replaced by themselves and something more, in other batches.
			want = ""
			for _, name := range names {
				one := docs[name][:len(docs[name])-1] + `,"more":1}`
				id, err := bson.MarshalExtJSON(bson.D{{Key: "_id", Value: w.doc(docs[name]).Lookup("_id")}}, true, false)
				if err != nil {
					t.Fatal(err)
				}
				w.log(`"op":"u","ns":"DB.c","ui":"U1","o2":` + string(id) + `,"o":` + one)
				want += one + "\n"
			}
			run(w, a)
			w.has("c", want, natural...)
			if t.Failed() {
				t.Fatal(options)
			}
		}
	})

	t.Run("_id 1 and 1.0 are one key", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1,"v":"int"}`)
		a := w.open(apply.Options{})
		run(w, a)
		w.log(`"op":"d","ns":"DB.c","ui":"U1","o":{"_id":1}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1.0,"v":"double"}`)
		run(w, a)
		w.has("c", `{"_id":{"$numberDouble":"1.0"},"v":"double"}`)
	})

	t.Run("16: renames, dropTarget, and a name used again, under the read", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"i","ns":"DB.a","ui":"U1","o":{"_id":1,"of":"one"}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"renameCollection":"DB.a","to":"DB.b","stayTemp":false,"dropTarget":"U2"}
			"op":"c","ns":"DB.$cmd","ui":"U3","o":{"create":"a"}
			"op":"i","ns":"DB.a","ui":"U3","o":{"_id":1,"of":"three"}
			"op":"c","ns":"DB.$cmd","ui":"U4","o":{"create":"x"}
			"op":"i","ns":"DB.x","ui":"U4","o":{"_id":1,"of":"four"}
			"op":"c","ns":"DB.$cmd","ui":"U4","o":{"drop":"x"}
			"op":"c","ns":"DB.$cmd","ui":"U5","o":{"create":"x"}
			"op":"i","ns":"DB.x","ui":"U5","o":{"_id":2,"of":"five"}
			@20 "op":"n","ns":"","o":{"msg":"end"}`)
		// Read late: U1 is called b already, U3 has the name a; U5 is called x.
		run(w, copied(w, apply.Options{}, 20, []schema.Collection{coll(w, 1, "b", ""), coll(w, 3, "a", ""), coll(w, 5, "x", "")},
			map[string]string{"b": `{"_id":1,"of":"one"}`, "a": `{"_id":1,"of":"three"}`, "x": `{"_id":2,"of":"five"}`}))
		w.has("a", `{"_id":1,"of":"three"}`)
		w.has("b", `{"_id":1,"of":"one"}`)
		w.has("x", `{"_id":2,"of":"five"}`)
	})

	t.Run("missing documents", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"$v":2,"diff":{"i":{"a":1}}}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":2},"o":{"_id":2,"a":1}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":3},"o":{"$v":2,"diff":{"i":{"a":1}}}
			"op":"d","ns":"DB.c","ui":"U1","o":{"_id":3}
			@10 "op":"n","ns":"","o":{"msg":"end"}`)
		a := copied(w, apply.Options{}, 10, []schema.Collection{coll(w, 1, "c", "")}, nil)
		if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); err != nil {
			t.Fatal(err)
		}
		if err := a.FinishWindow(t.Context(), nil); !errors.Is(err, apply.ErrMissing) {
			t.Fatal(err)
		}
		missing := a.Missing()[w.uuid(1)]
		if len(missing) != 2 {
			t.Fatalf("missing %v", missing)
		}
		if err := a.Fetched(t.Context(), w.uuid(1), []bson.Raw{w.doc(`{"_id":1,"a":1,"b":2}`)}, missing, w.time(12)); err != nil {
			t.Fatal(err)
		}
		w.log(`"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"$v":2,"diff":{"i":{"b":2}}}
			@12 "op":"n","ns":"","o":{"msg":"end"}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":9},"o":{"$v":2,"diff":{"i":{"b":2}}}`)
		if err := through(t.Context(), a, w.entries); !errors.Is(err, apply.ErrCorruption) {
			t.Errorf("an update of a document that is not there, after the window: %v", err)
		}
		w.has("c", `{"_id":1,"a":1,"b":2}`)
	})

	t.Run("a replace in place of a document that is not there is corruption", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"_id":1,"a":1}`)
		a := w.open(apply.Options{})
		if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); !errors.Is(err, apply.ErrCorruption) {
			t.Fatal(err)
		}
		if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); !errors.Is(err, apply.ErrCorruption) {
			t.Errorf("it goes on after corruption: %v", err)
		}
		if _, err := a.State(); err == nil {
			t.Error("it gives a state after corruption")
		}
	})

	t.Run("20: a filter", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"in"}
			"op":"c","ns":"DB.$cmd","ui":"U2","o":{"create":"out"}
			"op":"i","ns":"DB.out","ui":"U2","o":{"_id":1}
			"op":"c","ns":"DB.$cmd","ui":"U2","o":{"createIndexes":"out","v":2,"key":{"a":1},"name":"a_1"}`).
			log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.in","ui":"U1","o":{"_id":1}},{"op":"i","ns":"DB.out","ui":"U2","o":{"_id":2}},{"op":"i","ns":"DB.in","ui":"U1","o":{"_id":3}}],"count":{"$numberLong":"3"}},` + session(1) + `,` + first)
		only, err := filter.New(filter.Exclude, []string{w.db + ".out"})
		if err != nil {
			t.Fatal(err)
		}
		a := w.open(apply.Options{Filter: only})
		run(w, a)
		w.has("in", `{"_id":1}
			{"_id":3}`)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"renameCollection":"DB.in","to":"DB.out","stayTemp":false}`)
		run(w, a)
		names, err := h.Client().Database(w.db).ListCollectionNames(t.Context(), bson.D{})
		if err != nil || len(names) != 0 {
			t.Errorf("left are %v, %v", names, err)
		}
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U2","o":{"renameCollection":"DB.out","to":"DB.in","stayTemp":false}`)
		if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); !errors.Is(err, apply.ErrNewSnapshot) {
			t.Errorf("what was never read comes into view: %v", err)
		}
	})

	t.Run("21: a capped collection that wraps under the read", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"i","ns":"DB.c","ui":"U1","o":{"_id":4}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":5}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"$v":2,"diff":{"i":{"a":1}}}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":6}
			@10 "op":"n","ns":"","o":{"msg":"end"}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":1},"o":{"$v":2,"diff":{"i":{"a":1}}}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":7}
			"op":"d","ns":"DB.c","ui":"U1","o":{"_id":4}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":6},"o":{"_id":6,"b":1}`)
		run(w, copied(w, apply.Options{MaxOps: 2}, 10, []schema.Collection{coll(w, 1, "c", `{"capped":true,"size":4096,"max":3}`)},
			map[string]string{"c": `{"_id":3}
				{"_id":4}
				{"_id":5}`}))
		w.has("c", `{"_id":5}
			{"_id":6,"b":1}
			{"_id":7}`, true)
	})

	t.Run("emptied", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c","capped":true,"size":4096}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"createIndexes":"c","v":2,"key":{"a":1},"name":"a_1"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"emptycapped":"c"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2}`)
		run(w, w.open(apply.Options{}))
		w.has("c", `{"_id":2}`, true)
		w.indexes("c", "_id_, a_1")
	})

	t.Run("22: entries of newest servers", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"},"o2":{"storageIdent":"collection-7"}`).
			log(`"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1},"stmtId":0},{"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2},"stmtId":1}]},"multiOpType":1,` + session(1) + `,` + first).
			log(`"op":"km","ns":"DB.c","ui":"U1","o":{}
			"op":"ci","ns":"","o":{}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":3},"rid":{"$numberLong":"3"}
			"op":"c","ns":"admin.$cmd","o":{"dropIdent":"x"}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"setMultikeyMetadata":"c"}`)
		a := w.open(apply.Options{})
		run(w, a)
		w.has("c", `{"_id":1}
			{"_id":2}
			{"_id":3}`)
		held := a.Applied()
		for _, c := range []struct {
			line string
			want error
		}{
			{`"op":"c","ns":"DB.$cmd","o":{"neverHeardOf":1}`, apply.ErrUnknown},
			{`"op":"c","ns":"DB.$cmd","ui":"U2","o":{"importCollection":"DB.x"}`, apply.ErrNewSnapshot},
			{`"op":"u","ns":"admin.system.version","ui":"U7","o2":{"_id":"featureCompatibilityVersion"},"o":{"$v":2,"diff":{"u":{"version":"99.0"}}}`, apply.ErrNewSnapshot},
		} {
			w.log(`"op":"i","ns":"DB.c","ui":"U1","o":{"_id":4}`)
			w.log(c.line)
			err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{})
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v", c.line, err)
			}
			if a.Applied() == held {
				t.Errorf("%s: what came before it is not applied", c.line)
			}
			w.log(`"op":"d","ns":"DB.c","ui":"U1","o":{"_id":4}`)
			w.entries = append(w.entries[:len(w.entries)-2], w.entries[len(w.entries)-1]) // as if it had not been
			if err := a.Apply(t.Context(), each(w.entries), bson.Timestamp{}); err != nil {
				t.Fatal(err)
			}
			held = a.Applied()
		}
	})

	t.Run("23: documents that their validator would refuse", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c","validator":{"n":{"$gt":5}}}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1,"n":1}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2,"n":9}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"collMod":"c","validator":{"n":{"$gt":50}},"validationAction":"error"}
			"op":"u","ns":"DB.c","ui":"U1","o2":{"_id":2},"o":{"$v":2,"diff":{"u":{"n":3}}}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":3,"$n":1}`)
		run(w, w.open(apply.Options{}))
		w.has("c", `{"_id":1,"n":1}
			{"_id":2,"n":3}
			{"_id":3,"$n":1}`)
	})

	t.Run("the end asked for is inclusive, and nothing after it is seen", func(t *testing.T) {
		w := next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":1}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":2}
			"op":"i","ns":"DB.c","ui":"U1","o":{"_id":3}`)
		a := w.open(apply.Options{})
		if err := a.Apply(t.Context(), each(w.entries), w.time(3).TS); err != nil {
			t.Fatal(err)
		}
		w.has("c", `{"_id":1}
			{"_id":2}`)
		if err := a.Covered(w.time(9)); err != nil || a.Applied() != w.time(3) {
			t.Errorf("an entry is passed over: applied %s, %v", a.Applied(), err)
		}
		failing := func(yield func(bson.Raw, error) bool) {
			if yield(w.entries[3], nil) {
				yield(nil, errCut)
			}
		}
		if err := a.Apply(t.Context(), iter.Seq2[bson.Raw, error](failing), bson.Timestamp{}); !errors.Is(err, errCut) || a.Applied() != w.time(4) {
			t.Errorf("%v, applied %s", err, a.Applied())
		}
		if err := a.Covered(w.time(9)); err != nil || a.Applied() != w.time(9) {
			t.Errorf("applied %s, %v", a.Applied(), err)
		}
	})
}

func elements(d bson.Raw) []bson.RawElement {
	if d == nil {
		return nil
	}
	e, _ := d.Elements()
	return e
}
