package filter_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

func list(t testing.TB, kind filter.Kind, ns ...string) *filter.Filter {
	t.Helper()
	f, err := filter.New(kind, ns)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWants(t *testing.T) {
	exclude := list(t, filter.Exclude, "logs", "shop.tmp", "shop.cache_*")
	include := list(t, filter.Include, "shop.orders", "crm", "hr.pay*")
	for _, c := range []struct {
		ns                     string
		all, exclude, included bool
	}{
		{"shop.orders", true, true, true},
		{"shop.orders2", true, true, false},
		{"shop.tmp", true, false, false},
		{"shop.tmpfile", true, true, false},
		{"shop.cache_a", true, false, false},
		{"shop.cache", true, true, false},
		{"logs.any.thing", true, false, false},
		{"logs.system.views", true, false, false},
		{"logs2.a", true, true, false},
		{"crm.a", true, true, true},
		{"crm.system.js", true, true, true},
		{"hr.payroll", true, true, true},
		{"hr.people", true, true, false},
		{"shop.system.buckets.tmp", true, false, false},
		{"shop.system.buckets.orders", true, true, true},
		{"shop.tmp.agg_out.0bcd3757", true, true, true},
		{"shop.tmpwDixf.convertToCapped.c", true, true, true},
		{"logs.tmp.agg_out.1", true, false, false},
		{"other.tmp.agg_out.1", true, true, false},
		{"admin.system.users", true, true, true},
		{"admin.system.version", true, true, true},
		{"admin.mms.backup", false, false, false},
		{"config.chunks", true, true, true},
		{"config.transactions", false, false, false},
		{"config.cache.chunks.a.b", false, false, false},
		{"config.system.sessions", false, false, false},
		{"local.oplog.rs", false, false, false},
		{"__mdb_internal_x.a", false, false, false},
		{"admin2.a", true, true, false},
	} {
		for name, x := range map[string]struct {
			f    *filter.Filter
			want bool
		}{"none": {nil, c.all}, "exclude": {exclude, c.exclude}, "include": {include, c.included}} {
			if got := x.f.Wants(c.ns); got != x.want {
				t.Errorf("%s of %s: %v", name, c.ns, got)
			}
		}
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	_, err := filter.New(filter.Exclude, []string{"", "a/b.c", "admin", "local.x", "shop.system.users", "ok.c", "a.b*c"})
	if err == nil {
		t.Fatal("no fault")
	}
	for _, bad := range []string{`""`, "a/b.c", "admin", "local.x", "shop.system.users", "a.b*c"} {
		if !strings.Contains(err.Error(), bad) {
			t.Errorf("%s is not in %v", bad, err)
		}
	}
	for _, c := range []struct {
		kind filter.Kind
		ns   []string
	}{{"some", nil}, {filter.None, []string{"a"}}, {filter.Include, nil}} {
		if _, err := filter.New(c.kind, c.ns); err == nil {
			t.Errorf("%s %v passed", c.kind, c.ns)
		}
	}
}

func TestOnlyANarrowerFilterNeedsNoNewRead(t *testing.T) {
	ex := func(ns ...string) *filter.Filter { return list(t, filter.Exclude, ns...) }
	in := func(ns ...string) *filter.Filter { return list(t, filter.Include, ns...) }
	for _, c := range []struct {
		name     string
		old, new *filter.Filter
		wider    bool
	}{
		{"from everything", nil, ex("a"), false},
		{"to everything", ex("a"), nil, true},
		{"another exclusion", ex("a.b"), ex("a.b", "c"), false},
		{"an exclusion covers more", ex("a.b"), ex("a"), false},
		{"an exclusion covers less", ex("a"), ex("a.b"), true},
		{"a prefix covers a name", ex("a.bc"), ex("a.b*"), false},
		{"an inclusion less", in("a", "b"), in("a"), false},
		{"an inclusion within one", in("a"), in("a.b"), false},
		{"another inclusion", in("a"), in("a", "b"), true},
		{"from exclusion to inclusion, apart", ex("a"), in("b"), false},
		{"from exclusion to inclusion, overlapping", ex("a.b"), in("a"), true},
		{"from inclusion to exclusion", in("a"), ex("b"), true},
	} {
		if got := c.new.Wider(c.old); got != c.wider {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func decode(t testing.TB, s string) *oplog.Entry {
	t.Helper()
	s = strings.ReplaceAll(s, ":UUID", `:{"$binary":{"base64":"AAECAwQFBgcICQoLDA0ODw==","subType":"04"}}`)
	s = strings.ReplaceAll(s, ":OTHER", `:{"$binary":{"base64":"EAECAwQFBgcICQoLDA0ODw==","subType":"04"}}`)
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(`{"ts":{"$timestamp":{"t":10,"i":1}},"t":{"$numberLong":"1"},"v":2,`+s[1:]), false, &d); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	e, err := oplog.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEntriesAreCutToWhatIsWanted(t *testing.T) {
	f := list(t, filter.Exclude, "out", "in.hidden")
	const session = `,"lsid":{"id":1},"txnNumber":{"$numberLong":"3"}}`
	for _, c := range []struct {
		name, entry, want string // "same", "none" or how the operations read
		read              string
	}{
		{"wanted", `{"op":"i","ns":"in.a","ui":UUID,"o":{"_id":1}}`, "same", ""},
		{"not wanted", `{"op":"i","ns":"out.a","ui":UUID,"o":{"_id":1}}`, "none", ""},
		{"a no-op always goes through", `{"op":"n","ns":"out.a","o":{}}`, "same", ""},
		{"a command of a collection that is not wanted", `{"op":"c","ns":"in.$cmd","ui":UUID,"o":{"create":"hidden"}}`, "none", ""},
		{"a command of one that is", `{"op":"c","ns":"in.$cmd","ui":UUID,"o":{"create":"a"}}`, "same", ""},
		{"a database is dropped that holds something wanted", `{"op":"c","ns":"in.$cmd","o":{"dropDatabase":1}}`, "same", ""},
		{"a database is dropped that holds nothing wanted", `{"op":"c","ns":"out.$cmd","o":{"dropDatabase":1}}`, "none", ""},
		{"a view by its own name", `{"op":"i","ns":"in.system.views","ui":UUID,"o":{"_id":"in.hidden"}}`, "none", ""},
		{"another view", `{"op":"i","ns":"in.system.views","ui":UUID,"o":{"_id":"in.view"}}`, "same", ""},
		{"a rename within", `{"op":"c","ns":"in.$cmd","ui":UUID,"o":{"renameCollection":"in.a","to":"in.b"}}`, "same", ""},
		{"a rename outside", `{"op":"c","ns":"out.$cmd","ui":UUID,"o":{"renameCollection":"out.a","to":"out.b"}}`, "none", ""},
		{"a rename that leaves is a drop", `{"op":"c","ns":"in.$cmd","ui":UUID,"o":{"renameCollection":"in.a","to":"in.hidden","dropTarget":OTHER}}`, "drop in.a 00", ""},
		{"a rename that enters must be read", `{"op":"c","ns":"in.$cmd","ui":UUID,"o":{"renameCollection":"in.hidden","to":"in.b"}}`, "none", "in.b 00"},
		{"and what it replaces is dropped", `{"op":"c","ns":"in.$cmd","ui":UUID,"o":{"renameCollection":"in.hidden","to":"in.b","dropTarget":OTHER}}`, "drop in.b 10", "in.b 00"},
		{"a transaction that is wanted", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"in.a","o":{"_id":1}}]}` + session, "same", ""},
		{
			"a transaction, partly", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"in.a","o":{"_id":1}},{"op":"i","ns":"out.a","o":{"_id":2}},{"op":"d","ns":"in.a","o":{"_id":3}}],"count":{"$numberLong":"3"}}` + session,
			"i in.a, d in.a", "",
		},
		{"a transaction, not at all: its place stays", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"out.a","o":{"_id":1}}],"partialTxn":true}` + session, "", ""},
		{"a commit", `{"op":"c","ns":"admin.$cmd","o":{"abortTransaction":1}` + session, "same", ""},
		{"a batch, not at all", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"out.a","o":{"_id":1}}]}}`, "none", ""},
		{"applyOps within applyOps", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"out.a","o":{"_id":1}},{"op":"i","ns":"in.a","o":{"_id":1}}]}}]}}`, "i in.a", ""},
		{"a rename inside", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"c","ns":"in.$cmd","ui":UUID,"o":{"renameCollection":"in.hidden","to":"in.b"}},{"op":"i","ns":"in.a","o":{"_id":1}}]}}`, "i in.a", "in.b 00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := decode(t, c.entry)
			raw, reads, err := f.Entry(e)
			if err != nil {
				t.Fatal(err)
			}
			var read []string
			for _, r := range reads {
				read = append(read, fmt.Sprintf("%s %.2s", r.NS, r.UUID))
			}
			if got := strings.Join(read, ", "); got != c.read {
				t.Errorf("to be read: %q, want %q", got, c.read)
			}
			switch {
			case raw == nil:
				if c.want != "none" {
					t.Errorf("nothing is left, want %s", c.want)
				}
				return
			case bytes.Equal(raw, e.Raw):
				if c.want != "same" {
					t.Errorf("all is left, want %s", c.want)
				}
				return
			}
			cut, err := oplog.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			if cut.At != e.At || cut.Prev != e.Prev || cut.Transaction() != e.Transaction() {
				t.Errorf("it has another place: %s", cut.Raw)
			}
			if got := describe(t, cut); got != c.want {
				t.Errorf("left is %q, want %q", got, c.want)
			}
		})
	}
}

func describe(t testing.TB, e *oplog.Entry) string {
	t.Helper()
	if e.Command != nil && e.Command.Name == oplog.Drop {
		return fmt.Sprintf("drop %s %.2s", e.Command.Target, e.UI)
	}
	b := txn.New(nil)
	v, err := b.Add(e)
	if err != nil {
		t.Fatal(err) // the count of a transaction must still be true
	}
	if v == txn.Held {
		return ""
	}
	var out []string
	for op, err := range b.Operations(e) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, op.Kind.String()+" "+op.NS)
	}
	return strings.Join(out, ", ")
}
