package oplog_test

import (
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

const uuid1 = `{"$binary":{"base64":"AAECAwQFBgcICQoLDA0ODw==","subType":"04"}}`

func entry(t testing.TB, s string) bson.Raw {
	t.Helper()
	if !strings.HasPrefix(s, `{"ts"`) {
		s = `{"ts":{"$timestamp":{"t":10,"i":1}},"t":{"$numberLong":"1"},"v":{"$numberLong":"2"},"wall":{"$date":{"$numberLong":"10000"}},` + s[1:]
	}
	s = strings.ReplaceAll(s, ":UUID", ":"+uuid1)
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

func decode(t testing.TB, s string) *oplog.Entry {
	t.Helper()
	e, err := oplog.Decode(entry(t, s))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return e
}

func TestDecodeOperations(t *testing.T) {
	e := decode(t, `{"op":"i","ns":"a.b","ui":UUID,"o":{"_id":7,"x":1},"lsid":{"id":1},"txnNumber":{"$numberLong":"3"},"stmtId":0,"prevOpTime":{"ts":{"$timestamp":{"t":0,"i":0}},"t":{"$numberLong":"-1"}},"fromMigrate":true}`)
	if e.Kind != oplog.Insert || e.NS != "a.b" || e.UI.String() != "00010203-0405-0607-0809-0a0b0c0d0e0f" || e.ID.Int32() != 7 || !e.FromMigrate ||
		e.Session == nil || e.Session.TxnNumber != 3 || !e.Prev.IsZero() || e.At.TS.T != 10 || e.At.Term != 1 || e.Wall.Unix() != 10 || e.Transaction() {
		t.Errorf("insert: %+v", e)
	}
	e = decode(t, `{"op":"u","ns":"a.b.c","o":{"$v":2,"diff":{}},"o2":{"_id":"k","shard":1},"b":true}`)
	if e.Kind != oplog.Update || e.ID.StringValue() != "k" || !e.Upsert || e.Session != nil || !e.UI.IsZero() {
		t.Errorf("update: %+v", e)
	}
	if db, coll := oplog.Split(e.NS); db != "a" || coll != "b.c" {
		t.Errorf("namespace splits into %s and %s", db, coll)
	}
	e = decode(t, `{"op":"n","ns":"","o":{"msg":"periodic noop"}}`)
	if e.Kind != oplog.Noop || e.Note() != "periodic noop" {
		t.Errorf("no-op: %+v", e)
	}
	for _, internal := range []string{"km", "ci", "cu", "cd"} {
		if e = decode(t, `{"op":"`+internal+`","ns":"a.b","o":{"x":1}}`); e.Kind != oplog.Internal {
			t.Errorf("%s is %s", internal, e.Kind)
		}
	}
	e = decode(t, `{"ts":{"$timestamp":{"t":10,"i":1}},"v":2,"op":"n","ns":"","o":{"msg":"initiating set"}}`)
	if e.At.Term != -1 {
		t.Errorf("an entry without a term has %d", e.At.Term)
	}
}

func TestDecodeCommands(t *testing.T) {
	for _, c := range []struct {
		o    string
		want func(c *oplog.Cmd) bool
	}{
		{`{"create":"c","capped":true,"size":5,"idIndex":{"v":2}}`, func(c *oplog.Cmd) bool {
			return c.Name == oplog.Create && c.Target == "a.c" && c.Options.Lookup("size").Int32() == 5
		}},
		{`{"create":"c"}`, func(c *oplog.Cmd) bool { return c.Name == oplog.Create && c.Options == nil }},
		{`{"drop":"c"}`, func(c *oplog.Cmd) bool { return c.Name == oplog.Drop && c.Target == "a.c" }},
		{`{"dropDatabase":1}`, func(c *oplog.Cmd) bool { return c.Name == oplog.DropDatabase && c.Target == "a" }},
		{`{"renameCollection":"a.c","to":"a.d","stayTemp":true,"dropTarget":UUID}`, func(c *oplog.Cmd) bool {
			return c.Name == oplog.Rename && c.Target == "a.c" && c.To == "a.d" && c.StayTemp && c.DropTarget && c.DropTargetUUID[1] == 1
		}},
		{`{"renameCollection":"a.c","to":"b.d","stayTemp":false,"dropTarget":false}`, func(c *oplog.Cmd) bool { return !c.DropTarget && c.To == "b.d" }},
		{`{"renameCollection":"a.c","to":"a.d","dropTarget":true}`, func(c *oplog.Cmd) bool { return c.DropTarget && c.DropTargetUUID.IsZero() }},
		{`{"createIndexes":"c","v":2,"key":{"x":1},"name":"x_1","unique":true}`, func(c *oplog.Cmd) bool {
			return c.Name == oplog.CreateIndexes && len(c.Indexes) == 1 && c.Indexes[0].Lookup("unique").Boolean() && c.Indexes[0].Lookup("v").Int32() == 2
		}},
		{`{"createIndexes":"c","spec":{"v":2,"key":{"x":1},"name":"x_1"},"indexIdent":"i"}`, func(c *oplog.Cmd) bool {
			return len(c.Indexes) == 1 && c.Indexes[0].Lookup("name").StringValue() == "x_1"
		}},
		{`{"startIndexBuild":"c","indexBuildUUID":UUID,"indexes":[]}`, func(c *oplog.Cmd) bool { return c.Name == oplog.Ignored && c.Spelling == "startIndexBuild" }},
		{`{"abortIndexBuild":"c","indexBuildUUID":UUID,"indexes":[],"cause":{}}`, func(c *oplog.Cmd) bool { return c.Name == oplog.Ignored }},
		{`{"commitIndexBuild":"c","indexBuildUUID":UUID,"indexes":[{"key":{"x":1},"name":"x_1"},{"key":{"y":1},"name":"y_1"}]}`, func(c *oplog.Cmd) bool {
			return c.Name == oplog.CommitIndexBuild && len(c.Indexes) == 2
		}},
		{`{"dropIndexes":"c","index":"x_1"}`, func(c *oplog.Cmd) bool { return c.Name == oplog.DropIndexes && c.Index == "x_1" }},
		{`{"deleteIndexes":"c","index":"*"}`, func(c *oplog.Cmd) bool { return c.Name == oplog.DropIndexes && c.Index == "*" }},
		{`{"collMod":"c","validationLevel":"off"}`, func(c *oplog.Cmd) bool { return c.Name == oplog.CollMod && c.Options != nil }},
		{`{"emptycapped":"c"}`, func(c *oplog.Cmd) bool { return c.Name == oplog.EmptyCapped }},
		{`{"dbCheck":"c","type":"batch","x":1}`, func(c *oplog.Cmd) bool { return c.Name == oplog.Ignored }},
		{`{"commitTransaction":1,"commitTimestamp":{"$timestamp":{"t":9,"i":2}}}`, func(c *oplog.Cmd) bool {
			return c.Name == oplog.CommitTransaction && c.CommitTimestamp.T == 9
		}},
		{`{"abortTransaction":1}`, func(c *oplog.Cmd) bool { return c.Name == oplog.AbortTransaction }},
		{
			`{"applyOps":[{"op":"i","ns":"a.c","o":{"_id":1}},{"op":"n","ns":"","o":{}},{"op":"c","ns":"a.$cmd","o":{"applyOps":[{"op":"d","ns":"a.c","o":{"_id":1}}]}}],"prepare":true,"count":{"$numberLong":"5"}}`,
			func(c *oplog.Cmd) bool {
				return c.Name == oplog.ApplyOps && len(c.Ops) == 2 && c.Ops[1].Kind == oplog.Delete && c.Length == 3 && c.Prepare && c.Count == 5
			},
		},
	} {
		if e := decode(t, `{"op":"c","ns":"a.$cmd","ui":UUID,"o":`+c.o+`}`); !c.want(e.Command) {
			t.Errorf("%s: %+v", c.o, e.Command)
		}
	}
}

func TestWhatIsNotUnderstoodStopsLoudly(t *testing.T) {
	nested := `{"op":"d","ns":"a.c","o":{"_id":1}}`
	for range 12 {
		nested = `{"op":"c","ns":"a.$cmd","o":{"applyOps":[` + nested + `]}}`
	}
	for _, c := range []struct {
		name, entry string
		want        error
		text        string
	}{
		{"a field that nobody told us of", `{"op":"i","ns":"a.b","o":{"_id":1},"frobnicate":1}`, oplog.ErrUnknown, "frobnicate"},
		{"another version", `{"ts":{"$timestamp":{"t":1,"i":1}},"v":3,"op":"n","ns":"","o":{}}`, oplog.ErrUnknown, "version 3"},
		{"no version", `{"ts":{"$timestamp":{"t":1,"i":1}},"op":"n","ns":"","o":{}}`, oplog.ErrCorrupt, "no v"},
		{"no position", `{"ts":{"$timestamp":{"t":0,"i":0}},"v":2,"op":"n","ns":"","o":{}}`, oplog.ErrCorrupt, "no ts"},
		{"another operation", `{"op":"x","ns":"a.b","o":{}}`, oplog.ErrCorrupt, `"op"`},
		{"an insert without _id", `{"op":"i","ns":"a.b","o":{"a":1}}`, oplog.ErrCorrupt, "_id"},
		{"an update without o2", `{"op":"u","ns":"a.b","o":{"_id":1}}`, oplog.ErrCorrupt, "o2"},
		{"an array for a document", `{"op":"i","ns":"a.b","o":[1]}`, oplog.ErrCorrupt, `"o"`},
		{"a database for a collection", `{"op":"d","ns":"a","o":{"_id":1}}`, oplog.ErrCorrupt, "no collection"},
		{"an unknown command", `{"op":"c","ns":"a.$cmd","o":{"mangle":"c"}}`, oplog.ErrUnknown, "mangle"},
		{"an unknown field of a rename", `{"op":"c","ns":"a.$cmd","o":{"renameCollection":"a.b","to":"a.c","sideways":true}}`, oplog.ErrUnknown, "sideways"},
		{"an unknown field of applyOps", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[],"sideways":true}}`, oplog.ErrUnknown, "sideways"},
		{"an unknown command inside applyOps", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"c","ns":"a.$cmd","o":{"mangle":"c"}}]}}`, oplog.ErrUnknown, "mangle"},
		{"an unknown field inside applyOps", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"i","ns":"a.b","o":{"_id":1},"frobnicate":1}]}}`, oplog.ErrUnknown, "frobnicate"},
		{"an import", `{"op":"c","ns":"a.$cmd","o":{"importCollection":"c"}}`, oplog.ErrNewSnapshot, "imported"},
		{"the viewless conversion", `{"op":"c","ns":"a.$cmd","o":{"upgradeDowngradeViewlessTimeseries":"c"}}`, oplog.ErrNewSnapshot, "time-series"},
		{"a commit without its timestamp", `{"op":"c","ns":"admin.$cmd","o":{"commitTransaction":1}}`, oplog.ErrCorrupt, "commitTimestamp"},
		{"an index without a name", `{"op":"c","ns":"a.$cmd","o":{"createIndexes":"c","key":{"x":1}}}`, oplog.ErrCorrupt, "name"},
		{"applyOps without end", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[` + nested + `]}}`, oplog.ErrCorrupt, "deeper"},
		{"another kind of batch", `{"op":"c","ns":"admin.$cmd","o":{"applyOps":[]},"multiOpType":2}`, oplog.ErrUnknown, "multiOpType"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := oplog.Decode(entry(t, c.entry))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v about %q", err, c.want, c.text)
			}
		})
	}
}

func TestEndsNamesWhatNeedsANewSnapshot(t *testing.T) {
	for s, want := range map[string]string{
		`{"op":"u","ns":"admin.system.version","o":{"$v":1,"$set":{"version":"5.0"}},"o2":{"_id":"featureCompatibilityVersion"}}`: "compatibility",
		`{"op":"u","ns":"admin.system.version","o":{"$v":1,"$set":{"x":1}},"o2":{"_id":"authSchema"}}`:                            "",
		`{"op":"c","ns":"a.$cmd","ui":UUID,"o":{"create":"system.resharding.1"}}`:                                                 "resharded",
		`{"op":"i","ns":"a.b","o":{"_id":1},"destinedRecipient":"s1"}`:                                                            "resharded",
		`{"op":"i","ns":"a.b","o":{"_id":1}}`:                                                                                     "",
	} {
		e := decode(t, s)
		if got := e.Ends(); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q", s, got)
		}
	}
}

func TestTransactionsAreToldFromBatches(t *testing.T) {
	const session = `,"lsid":{"id":1},"txnNumber":{"$numberLong":"3"}`
	for s, want := range map[string]bool{
		`{"op":"c","ns":"admin.$cmd","o":{"applyOps":[]}` + session + `}`:                                                           true,
		`{"op":"c","ns":"admin.$cmd","o":{"applyOps":[]},"multiOpType":1` + session + `}`:                                           false,
		`{"op":"c","ns":"admin.$cmd","o":{"applyOps":[]}}`:                                                                          false,
		`{"op":"c","ns":"admin.$cmd","o":{"applyOps":[],"partialTxn":true}}`:                                                        true,
		`{"op":"c","ns":"admin.$cmd","o":{"applyOps":[]},"prevOpTime":{"ts":{"$timestamp":{"t":9,"i":1}},"t":{"$numberLong":"1"}}}`: true,
		`{"op":"c","ns":"admin.$cmd","o":{"abortTransaction":1}` + session + `}`:                                                    true,
		`{"op":"c","ns":"a.$cmd","ui":UUID,"o":{"drop":"c"}}`:                                                                       false,
	} {
		if got := decode(t, s).Transaction(); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
}

// TestEveryRecordedEntryIsUnderstood reads the oplogs of real servers: a scripted workload with most commands, and two shards.
func TestEveryRecordedEntryIsUnderstood(t *testing.T) {
	elided := 0
	entries := documents(unpack(t, "workload.bson.zst"))
	for _, shard := range []string{"sharded-oplog0.json.zst", "sharded-oplog1.json.zst"} {
		var list []bson.Raw
		if err := bson.UnmarshalExtJSON([]byte(`{"list":`+string(unpack(t, shard))+`}`), true, &struct{ List *[]bson.Raw }{&list}); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, list...)
	}
	seen := map[string]int{}
	for _, raw := range entries {
		e, err := oplog.Decode(raw)
		if err != nil {
			if _, e := raw.LookupErr("o", "elided"); e == nil {
				elided++
				continue
			}
			t.Errorf("%v: %.300s", err, raw)
			continue
		}
		name := e.Kind.String()
		if e.Command != nil {
			name = e.Command.Spelling
			if e.Command.Prepare {
				name += " prepare"
			}
		}
		seen[name]++
	}
	for _, want := range []string{"i", "u", "d", "n", "applyOps", "applyOps prepare", "commitTransaction", "create", "drop", "collMod", "renameCollection", "commitIndexBuild", "dropIndexes"} {
		if seen[want] == 0 {
			t.Errorf("no %s among the recorded entries: %v", want, seen)
		}
	}
	t.Logf("%d entries: %v, %d elided", len(entries), seen, elided)
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"op":"i","ns":"a.b","ui":UUID,"o":{"_id":1}}`,
		`{"op":"c","ns":"admin.$cmd","o":{"applyOps":[{"op":"u","ns":"a.b","o":{"$v":1},"o2":{"_id":1}}]},"lsid":{"id":1},"txnNumber":{"$numberLong":"1"}}`,
		`{"op":"c","ns":"a.$cmd","ui":UUID,"o":{"commitIndexBuild":"c","indexes":[{"name":"x"}]}}`,
		`{"op":"c","ns":"a.$cmd","ui":UUID,"o":{"renameCollection":"a.b","to":"a.c","dropTarget":UUID}}`,
	} {
		f.Add([]byte(entry(f, s)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := oplog.Decode(b)
		if err != nil {
			if !errors.Is(err, oplog.ErrCorrupt) && !errors.Is(err, oplog.ErrUnknown) && !errors.Is(err, oplog.ErrNewSnapshot) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		if e.At.IsZero() || (e.Kind == oplog.Command) != (e.Command != nil) {
			t.Errorf("half an entry: %+v", e)
		}
		_, _, _ = e.Ends(), e.Note(), e.Transaction()
	})
}
