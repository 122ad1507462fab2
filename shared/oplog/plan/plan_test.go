package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

func raw(t testing.TB, s string) bson.Raw {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(s), false, &d); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(t testing.TB, doc bson.Raw) string {
	t.Helper()
	s, err := bson.MarshalExtJSON(doc, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(s)
}

func op(t testing.TB, s string) *oplog.Op {
	t.Helper()
	kind, o, _ := strings.Cut(s, " ")
	x := &oplog.Op{Kind: oplog.Kind(kind[0]), NS: "a.b", UI: oplog.UUID{1}, Upsert: strings.HasSuffix(kind, "!"), O: raw(t, o)}
	if x.Kind == oplog.Update {
		id, change, _ := strings.Cut(o, " ")
		x.O2, x.O = raw(t, id), raw(t, change)
		x.ID, _ = oplog.Lookup(x.O2, "_id")
		return x
	}
	x.ID, _ = oplog.Lookup(x.O, "_id")
	return x
}

func catalogue(t testing.TB, options string, indexes ...string) *schema.Catalogue {
	t.Helper()
	c := schema.Collection{UUID: oplog.UUID{1}, NS: "a.b"}
	if options != "" {
		c.Options = raw(t, options)
	}
	for _, i := range indexes {
		c.Indexes = append(c.Indexes, raw(t, i))
	}
	cat, err := schema.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return cat
}

// show writes an outcome down: + insert, = replace, ~ upsert, - delete, and what is fetched before it.
func show(t testing.TB, b *Batch, out *Outcome) string {
	t.Helper()
	var s []string
	for _, f := range b.Fetches() {
		s = append(s, fmt.Sprintf("fetch %d/%d", len(f.IDs), len(f.Presence)))
	}
	for _, w := range out.Writes {
		for _, g := range w.Deletes {
			s = append(s, "-"+g.ID.String())
		}
		for _, p := range w.Inserts {
			s = append(s, "+"+text(t, p.Doc))
		}
		for _, p := range w.Replaces {
			s = append(s, "="+text(t, p.Doc))
		}
		for _, p := range w.Upserts {
			s = append(s, "~"+text(t, p.Doc))
		}
		for _, o := range w.Ordered {
			if o.Do == Delete {
				s = append(s, "delete "+o.ID.String())
				continue
			}
			s = append(s, []string{"insert ", "replace ", "", "again "}[o.Do]+text(t, o.Doc))
		}
		if len(w.Missing) > 0 {
			s = append(s, fmt.Sprintf("missing %d", len(w.Missing)))
		}
	}
	return strings.Join(s, " ")
}

func TestFold(t *testing.T) {
	plain := catalogue(t, "")
	unique := catalogue(t, "", `{"name":"u","unique":true}`)
	capped := catalogue(t, `{"capped":true,"size":4096}`)
	for _, c := range []struct {
		name  string
		cat   *schema.Catalogue
		o     Options
		found string // documents there, separated by |
		ops   []string
		want  string
	}{
		{"an insert", plain, Options{}, "", []string{`i {"_id":1}`}, `+{"_id":1}`},
		{"an insert and a change are one insert", plain, Options{}, "", []string{`i {"_id":1}`, `u {"_id":1} {"$v":2,"diff":{"i":{"a":1}}}`}, `+{"_id":1,"a":1}`},
		{"_id of other numeric types is the same document", plain, Options{}, "", []string{`i {"_id":1}`, `u {"_id":1.0} {"$v":1,"$set":{"a":1}}`, `d {"_id":{"$numberLong":"1"}}`}, ``},
		{"insert and delete leave nothing", plain, Options{}, "", []string{`i {"_id":1}`, `d {"_id":1}`}, ``},
		{"but over a fuzzy copy the document may be there", plain, Options{Fuzzy: true}, "", []string{`i {"_id":1}`, `d {"_id":1}`}, `-{"$numberInt":"1"}`},
		{"a delete needs no look", plain, Options{}, "", []string{`d {"_id":1}`}, `-{"$numberInt":"1"}`},
		{"a change needs the document", plain, Options{}, `{"_id":1,"a":1}`, []string{`u {"_id":1} {"$v":2,"diff":{"u":{"a":2}}}`}, `fetch 1/0 ={"_id":1,"a":2}`},
		{"a replacement does not", plain, Options{}, "", []string{`u {"_id":1} {"_id":1,"b":1}`, `u {"_id":1} {"$v":2,"diff":{"u":{"b":2}}}`}, `={"_id":1,"b":2}`},
		{"an upsert", plain, Options{}, "", []string{`u! {"_id":1} {"_id":1,"b":1}`}, `~{"_id":1,"b":1}`},
		{"an upsert with a change", plain, Options{}, "", []string{`u! {"_id":1} {"$v":1,"$set":{"b":1}}`}, `fetch 1/0 +{"_id":1,"b":1}`},
		{"delete and insert are one write", plain, Options{}, "", []string{`d {"_id":1}`, `i {"_id":1,"z":1}`}, `~{"_id":1,"z":1}`},
		{"two-phase: what is fetched goes first", unique, Options{}, `{"_id":1,"a":1}`, []string{`u {"_id":1} {"$v":2,"diff":{"u":{"a":2}}}`, `i {"_id":2}`}, `fetch 1/0 -{"$numberInt":"1"} +{"_id":1,"a":2} +{"_id":2}`},
		{"two-phase: a replacement asks whether there is a document", plain, Options{Behind: true}, `{"_id":1}`, []string{`u {"_id":1} {"_id":1,"b":1}`}, `fetch 0/1 -{"$numberInt":"1"} +{"_id":1,"b":1}`},
		{"two-phase over a fuzzy copy: an insert too", plain, Options{Behind: true, Fuzzy: true}, "", []string{`i {"_id":1}`}, `-{"$numberInt":"1"} +{"_id":1}`},
		{"an update of nothing in the window is missing", plain, Options{Fuzzy: true}, "", []string{`u {"_id":1} {"$v":2,"diff":{"u":{"a":2}}}`}, `fetch 1/0 missing 1`},
		{"and found again by an insert", plain, Options{Fuzzy: true}, "", []string{`u {"_id":1} {"$v":2,"diff":{"u":{"a":2}}}`, `i {"_id":1}`}, `fetch 1/0 +{"_id":1}`},
		{
			"capped: one after another", capped,
			Options{},
			`{"_id":1,"a":1}`,
			[]string{`i {"_id":2}`, `u {"_id":1} {"$v":1,"$set":{"a":2}}`, `u {"_id":2} {"$v":1,"$set":{"a":2}}`, `i {"_id":3}`, `d {"_id":1}`},
			`fetch 1/0 insert {"_id":2} replace {"_id":1,"a":2} replace {"_id":2,"a":2} insert {"_id":3} delete {"$numberInt":"1"}`,
		},
		{"capped: what was trimmed is no matter", capped, Options{}, "", []string{`u {"_id":1} {"$v":1,"$set":{"a":2}}`, `i {"_id":2}`}, `fetch 1/0 insert {"_id":2}`},
		{"capped over a fuzzy copy: inserted again it is the last", capped, Options{Fuzzy: true}, `{"_id":1}`, []string{`i {"_id":1}`, `i {"_id":2}`}, `fetch 0/2 again {"_id":1} insert {"_id":2}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := New(c.o)
			for _, s := range c.ops {
				if next, err := b.Add(c.cat, op(t, s)); next != Taken || err != nil {
					t.Fatalf("%s: %d, %v", s, next, err)
				}
			}
			for _, s := range strings.Split(c.found, "|") {
				if s != "" {
					if err := b.Found(oplog.UUID{1}, raw(t, s)); err != nil {
						t.Fatal(err)
					}
				}
			}
			out, err := b.Fold()
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, b, out); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestOutsideTheWindowWhatDoesNotFitIsCorruption(t *testing.T) {
	cat := catalogue(t, "")
	for _, s := range []string{
		`u {"_id":1} {"$v":1,"$set":{"a":1}}`,
		`u {"_id":2} {"$v":2,"diff":{"d":{"zz":false}}}`,
		`u {"_id":2} {"$v":2,"diff":{"sa":{"u":{"b":1}}}}`,
	} {
		b := New(Options{})
		if _, err := b.Add(cat, op(t, s)); err != nil {
			t.Fatal(err)
		}
		if err := b.Found(oplog.UUID{1}, raw(t, `{"_id":2,"a":1}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Fold(); !errors.Is(err, ErrCorruption) {
			t.Errorf("%s: %v", s, err)
		}
	}
	stray := op(t, `i {"_id":1}`)
	stray.UI = oplog.UUID{9}
	if _, err := New(Options{}).Add(cat, stray); !errors.Is(err, ErrCorruption) {
		t.Errorf("an insert into a collection that is not there: %v", err)
	}
	if next, err := New(Options{Fuzzy: true}).Add(cat, stray); next != Skipped || err != nil {
		t.Errorf("in the window: %d, %v", next, err)
	}
}

func TestBarriers(t *testing.T) {
	cat := catalogue(t, "")
	b := New(Options{MaxOps: 2})
	if next, _ := b.Add(cat, &oplog.Op{Kind: oplog.Command, Command: &oplog.Cmd{Name: oplog.Drop}}); next != Barrier {
		t.Errorf("a command is %d", next)
	}
	if next, _ := b.Add(cat, &oplog.Op{Kind: oplog.Command, Command: &oplog.Cmd{Name: oplog.Ignored}}); next != Skipped {
		t.Errorf("a command that changes nothing is %d", next)
	}
	view := op(t, `i {"_id":"a.v"}`)
	view.NS = "a.system.views"
	if next, _ := b.Add(cat, view); next != View {
		t.Errorf("a view is %d", next)
	}
	if next, _ := b.Add(cat, &oplog.Op{Kind: oplog.Noop}); next != Skipped || !b.Empty() {
		t.Errorf("a no-op is %d", next)
	}
	for i := range 2 {
		if b.Full() {
			t.Errorf("full after %d", i)
		}
		if _, err := b.Add(cat, op(t, fmt.Sprintf(`i {"_id":%d}`, i))); err != nil {
			t.Fatal(err)
		}
	}
	if !b.Full() || b.Ops() != 2 {
		t.Error("not full after two")
	}
}

func TestTheWayOfACollection(t *testing.T) {
	for _, c := range []struct {
		options string
		indexes []string
		behind  bool
		want    Way
	}{
		{"", nil, false, InPlace},
		{"", nil, true, TwoPhase},
		{"", []string{`{"name":"a"}`}, false, InPlace},
		{"", []string{`{"name":"a","unique":true}`}, false, TwoPhase},
		{"", []string{`{"name":"a","prepareUnique":true}`}, false, TwoPhase},
		{`{"collation":{"locale":"en"}}`, nil, false, TwoPhase},
		{`{"collation":{"locale":"simple"}}`, nil, false, InPlace},
		{`{"capped":true,"size":1}`, []string{`{"name":"a","unique":true}`}, true, InOrder},
	} {
		x, _ := catalogue(t, c.options, c.indexes...).Lookup(oplog.UUID{1}, "")
		if got := WayOf(&x, c.behind); got != c.want {
			t.Errorf("%s %v, behind %v: %s, want %s", c.options, c.indexes, c.behind, got, c.want)
		}
	}
}

func TestLanesKeepADocumentTogether(t *testing.T) {
	cat := catalogue(t, "", `{"name":"u","unique":true}`)
	b := New(Options{Fuzzy: true})
	for i := range 500 {
		if _, err := b.Add(cat, op(t, fmt.Sprintf(`i {"_id":%d}`, i))); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Fold()
	if err != nil {
		t.Fatal(err)
	}
	lanes := out.Writes[0].Lanes(4)
	total := 0
	for i, l := range lanes {
		if len(l.Inserts) < 60 {
			t.Errorf("lane %d has %d of 500", i, len(l.Inserts))
		}
		total += len(l.Inserts)
		for _, p := range l.Inserts {
			if !slices.ContainsFunc(l.Deletes, func(g Gone) bool { return document.Key(g.ID) == document.Key(p.ID) }) {
				t.Errorf("the delete of %s runs in another lane", p.ID)
			}
		}
	}
	if total != 500 {
		t.Errorf("%d of 500", total)
	}
}

func TestMissingIsSettledByLaterEntries(t *testing.T) {
	cat := catalogue(t, "")
	m := &Missing{}
	for _, s := range []struct {
		op   string
		left int
	}{
		{`u {"_id":1} {"$v":1,"$set":{"a":1}}`, 1},
		{`u {"_id":2} {"$v":1,"$set":{"a":1}}`, 2},
		{`i {"_id":1.0}`, 1},
		{`u {"_id":3} {"$v":1,"$set":{"a":1}}`, 2},
		{`d {"_id":2}`, 1},
	} {
		b := New(Options{Fuzzy: true})
		if _, err := b.Add(cat, op(t, s.op)); err != nil {
			t.Fatal(err)
		}
		out, err := b.Fold()
		if err != nil {
			t.Fatal(err)
		}
		m.Note(&out.Writes[0])
		if m.Len() != s.left {
			t.Errorf("after %s %d are missing, want %d", s.op, m.Len(), s.left)
		}
	}
	if ids := m.IDs()[oplog.UUID{1}]; len(ids) != 1 || ids[0].Int32() != 3 {
		t.Errorf("missing are %v", ids)
	}
	m.Drop(oplog.UUID{1})
	if m.Len() != 0 {
		t.Error("a dropped collection still misses documents")
	}
}
