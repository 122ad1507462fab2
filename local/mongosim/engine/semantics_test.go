package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// unsupported lists the recorded cases the simulator does not answer as the recorded server did, with the reason.
var unsupported = map[string]string{}

// topic is one recorded file.
type topic struct {
	Documents map[string]json.RawMessage `json:"documents"`
	Cases     []struct {
		Name      string            `json:"name"`
		Documents string            `json:"documents"`
		Indexes   []json.RawMessage `json:"indexes"`
		Steps     []struct {
			Command json.RawMessage `json:"command"`
			Reply   json.RawMessage `json:"reply"`
		} `json:"steps"`
		After json.RawMessage   `json:"after"`
		Oplog []json.RawMessage `json:"oplog"`
	} `json:"cases"`
}

// parse reads extended JSON of any kind of value.
func parse(t *testing.T, b []byte) bson.RawValue {
	t.Helper()
	var doc bson.Raw
	if err := bson.UnmarshalExtJSON(fmt.Appendf(nil, `{"v": %s}`, b), true, &doc); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	v, _ := bsonval.Lookup(doc, "v")
	return v
}

// world is one member of its own for a case.
type world struct {
	t      *testing.T
	e      *Engine
	s      *Session
	log    []OplogEntry
	cursor int64
	lsid   bson.RawValue
	last   bson.Raw // the last command of a transaction
	uuids  map[string]string
	tick   uint32
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{t: t, s: &Session{ID: 1}, uuids: map[string]string{}}
	o.HostPort = "127.0.0.1:37017"
	o.NextOpTime = func() OpTime {
		w.tick++
		return OpTime{TS: bson.Timestamp{T: 1795243976, I: w.tick}, Term: 1}
	}
	o.OnWrite = func(x OplogEntry) { w.log = append(w.log, x) }
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	e.CreateOplog(64 << 20)
	w.e = e
	t.Cleanup(func() { _ = e.Close(false) })
	return w
}

func (w *world) run(db string, cmd bson.Raw) bson.Raw {
	return w.e.Run(context.Background(), w.s, db, cmd)
}

// collection gives a collection for a look, nil when there is none.
func (w *world) collection(ns string) (c *store.Collection) {
	w.e.View(func(st *store.State) { c = st.Get(ns) })
	return c
}

// must runs a command given as extended JSON.
func (w *world) must(cmd string) bson.Raw {
	w.t.Helper()
	v := parse(w.t, []byte(cmd))
	r := w.run("semantics", bson.Raw(v.Value))
	ok, _ := bsonval.Lookup(r, "ok")
	if _, bad := bsonval.Lookup(r, "writeErrors"); bad || !bsonval.Truthy(ok) {
		w.t.Fatalf("%s: %s", cmd, r)
	}
	return r
}

// prepare replaces what the recording left out of a command.
func (w *world) prepare(v bson.RawValue, key string) bson.RawValue {
	switch v.Type {
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		es := bsonval.Elems(bson.Raw(v.Value))
		for i := range es {
			es[i].Value = w.prepare(es[i].Value, es[i].Key)
		}
		return bson.RawValue{Type: v.Type, Value: bsonval.FromElems(es)}
	case bson.TypeString:
		switch bsonval.Str(v) {
		case "the cursor":
			return bsonval.Int64(w.cursor)
		case "volatile":
			if key == "t" {
				return bsonval.Timestamp(bson.Timestamp{})
			}
			return bsonval.Bool(true)
		}
	}
	return v
}

func (w *world) step(raw json.RawMessage) (reply bson.Raw, skip bool) {
	v := parse(w.t, raw)
	if v.Type == bson.TypeString {
		var b bsonval.Builder
		switch bsonval.Str(v) {
		case "begin":
			return nil, true
		case "commit":
			b.Int32("commitTransaction", 1)
		case "abort":
			b.Int32("abortTransaction", 1)
		}
		for _, k := range []string{"lsid", "txnNumber", "autocommit"} {
			x, _ := bsonval.Lookup(w.last, k)
			b.Value(k, x)
		}
		return w.run("admin", b.Raw()), bsonval.Str(v) == "abort" // a driver shows no error of an abort
	}
	cmd := bson.Raw(v.Value)
	if out, ok := bsonval.Lookup(cmd, "outside the transaction"); ok {
		cmd = bsonval.SubDoc(out)
	} else if _, ok := bsonval.Lookup(cmd, "autocommit"); ok {
		w.last = cmd
	}
	cmd = bson.Raw(w.prepare(bsonval.Doc(cmd), "").Value)
	db := "semantics"
	var b bsonval.Builder // what a driver sends: the command's name first
	for k, v := range bsonval.Each(cmd) {
		if k != "$db" {
			b.Value(k, v)
		}
	}
	if s := bsonval.StringField(cmd, "$db"); s == "admin" {
		cmd, db = b.Raw(), s
	}
	if id, ok := bsonval.Lookup(cmd, "lsid"); ok {
		w.lsid = id
	} else if bsonval.FirstKey(cmd) == "getMore" { // the recording left it out, the driver that made it did not
		cmd = new(bsonval.Builder).All(cmd).Value("lsid", w.lsid).Raw()
	}
	reply = w.run(db, cmd)
	if cur, ok := bsonval.Lookup(reply, "cursor"); ok {
		if id, _ := bsonval.Lookup(bsonval.SubDoc(cur), "id"); id.Type == bson.TypeInt64 && id.Int64() != 0 {
			w.cursor = id.Int64()
		}
	}
	return reply, false
}

var (
	uuidText = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	tmpText  = regexp.MustCompile(`tmp\w{5}\.convertToCapped`)
)

func normal(s string) string {
	return tmpText.ReplaceAllString(uuidText.ReplaceAllString(s, "UUID"), "tmp.convertToCapped")
}

// differs compares an answer with the recorded one; loose documents may have their fields in another order.
func (w *world) differs(path string, want, got bson.RawValue, loose bool) string {
	if want.Type == bson.TypeString {
		s := bsonval.Str(want)
		switch {
		case s == "volatile":
			return ""
		case s == "the cursor":
			if got.Type == bson.TypeInt64 && got.Int64() == w.cursor && w.cursor != 0 {
				return ""
			}
		case strings.HasPrefix(s, "uuid-"):
			if u, ok := bsonval.UUIDOf(got); ok {
				id := string(u[:])
				if known, ok := w.uuids[s]; ok && known != id {
					return fmt.Sprintf("%s: %s is another uuid than before", path, s)
				}
				w.uuids[s] = id
				return ""
			}
		case got.Type == bson.TypeString && normal(s) == normal(bsonval.Str(got)):
			return ""
		}
	}
	if strings.Contains(path, "cursorsKilled.") && got.Type == bson.TypeInt64 {
		return ""
	}
	if want.Type != got.Type {
		return fmt.Sprintf("%s: want %s, got %s", path, want, got)
	}
	if want.Type != bson.TypeEmbeddedDocument && want.Type != bson.TypeArray {
		if !bytes.Equal(want.Value, got.Value) {
			return fmt.Sprintf("%s: want %s, got %s", path, want, got)
		}
		return ""
	}
	we, ge := fieldsOf(want), fieldsOf(got)
	if loose {
		byKey := func(a, b bsonval.Elem) int { return strings.Compare(a.Key, b.Key) }
		slices.SortFunc(we, byKey)
		slices.SortFunc(ge, byKey)
	}
	for i := range max(len(we), len(ge)) {
		switch {
		case i >= len(we):
			return fmt.Sprintf("%s: also has %s: %s", path, ge[i].Key, ge[i].Value)
		case i >= len(ge) || we[i].Key != ge[i].Key:
			return fmt.Sprintf("%s: want field %s, got %s", path, we[i].Key, got)
		}
		inner := loose && want.Type == bson.TypeEmbeddedDocument && (we[i].Key == "cursor" || we[i].Key == "lastErrorObject") ||
			loose && (we[i].Key == "writeErrors" || strings.HasSuffix(path, "writeErrors"))
		if d := w.differs(path+"."+we[i].Key, we[i].Value, ge[i].Value, inner); d != "" {
			return d
		}
	}
	return ""
}

// fieldsOf lists the fields that are compared: session and time fields are left out of the recordings.
func fieldsOf(v bson.RawValue) []bsonval.Elem {
	return slices.DeleteFunc(bsonval.Elems(bson.Raw(v.Value)), func(e bsonval.Elem) bool {
		switch e.Key {
		case "lsid", "$clusterTime", "operationTime", "electionId", "opTime", "ts", "wall", "txnNumber", "stmtId", "prevOpTime":
			return v.Type == bson.TypeEmbeddedDocument
		case "t":
			return e.Value.Type == bson.TypeInt64 // the term of an entry
		}
		return false
	})
}

// TestSemantics holds the engine to what a real server answered: replies, documents afterwards and oplog entries.
func TestSemantics(t *testing.T) {
	files, err := filepath.Glob("testdata/semantics/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	n := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tp topic
		if err := json.Unmarshal(b, &tp); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		for _, c := range tp.Cases {
			n++
			t.Run(name+"/"+c.Name, func(t *testing.T) {
				if why := unsupported[name+"/"+c.Name]; why != "" {
					t.Skip(why)
				}
				o := Options{}
				if c.After != nil { // what was written must also be found again
					o = Options{DBPath: t.TempDir(), NoSync: true}
				}
				w := newWorld(t, o)
				// The server's own collection of index builds was there before.
				w.must(`{"insert": "warm", "documents": [{"_id": {"$numberInt": "1"}}]}`)
				w.must(`{"createIndexes": "warm", "indexes": [{"key": {"a": {"$numberInt": "1"}}, "name": "a_1"}]}`)
				w.must(`{"drop": "warm"}`)
				docs := parse(t, tp.Documents[c.Documents])
				if len(bsonval.Values(bson.Raw(docs.Value))) > 0 {
					w.must(fmt.Sprintf(`{"insert": "c", "documents": %s}`, tp.Documents[c.Documents]))
				}
				for i, x := range c.Indexes {
					spec := bytes.TrimSuffix(bytes.TrimSpace(x), []byte("}"))
					key, _ := bsonval.Lookup(bson.Raw(parse(t, x).Value), "key")
					w.must(fmt.Sprintf(`{"createIndexes": "c", "indexes": [%s, "name": "%s_1"}]}`, spec, bsonval.FirstKey(bsonval.SubDoc(key))))
					_ = i
				}
				w.log = nil
				for i, st := range c.Steps {
					if bytes.Contains(st.Reply, []byte(`"client"`)) {
						continue // refused by the client that recorded
					}
					reply, skip := w.step(st.Command)
					if skip || st.Reply == nil {
						continue
					}
					want := parse(t, st.Reply)
					if bytes.Equal(st.Command, []byte(`"commit"`)) { // recorded through a driver: without the server's labels
						var b bsonval.Builder
						for k, v := range bsonval.Each(reply) {
							if k != "errorLabels" && k != "codeName" {
								b.Value(k, v)
							}
						}
						reply = b.Raw()
					}
					if d := w.differs("reply", want, bsonval.Doc(reply), true); d != "" {
						t.Errorf("step %d: %s\n command %.300s\n reply %s", i, d, st.Command, reply)
					}
				}
				w.checkAfter(c.After)
				w.checkOplog(c.Oplog)
				w.checkReplay()
				if c.After != nil {
					if err := w.e.Close(false); err != nil {
						t.Fatal(err)
					}
					again := newWorld(t, o)
					again.checkAfter(c.After)
				}
			})
		}
	}
	t.Logf("%d cases, %d unsupported", n, len(unsupported))
}

// checkReplay replays the whole oplog on another member and compares what both hold.
func (w *world) checkReplay() {
	w.t.Helper()
	entries, _ := w.e.OplogAfter(OpTime{}, 1<<20)
	other := newWorld(w.t, Options{})
	for range 2 { // twice changes nothing
		if err := other.e.Apply(context.Background(), entries); err != nil {
			w.t.Fatal(err)
		}
	}
	a, b := w.e.Namespaces("semantics"), other.e.Namespaces("semantics")
	if len(a) != len(b) {
		w.t.Fatalf("replay gives %d collections instead of %d", len(b), len(a))
	}
	for i := range a {
		if a[i].NS != b[i].NS || a[i].Docs != b[i].Docs || (!a[i].View && a[i].UUID != b[i].UUID) || len(a[i].Indexes) != len(b[i].Indexes) {
			w.t.Errorf("replay: %+v instead of %+v", b[i], a[i])
			continue
		}
		if !a[i].View {
			if d := w.differs("replay", w.documents(store.NameOf(a[i].NS)), other.documents(store.NameOf(a[i].NS)), false); d != "" {
				w.t.Error(d)
			}
		}
	}
}

func (w *world) documents(name string) bson.RawValue {
	var docs []bson.RawValue
	r := w.must(fmt.Sprintf(`{"find": %q, "filter": {}, "sort": {"$natural": 1}, "batchSize": {"$numberInt": "100000"}}`, name))
	cur, _ := bsonval.Lookup(r, "cursor")
	batch, _ := bsonval.Lookup(bsonval.SubDoc(cur), "firstBatch")
	docs = append(docs, bsonval.Values(bsonval.SubDoc(batch))...)
	return bsonval.Array(docs)
}

func (w *world) checkAfter(after json.RawMessage) {
	w.t.Helper()
	if after == nil {
		return
	}
	want := parse(w.t, after)
	if want.Type == bson.TypeNull {
		if w.collection("semantics.c") != nil {
			w.t.Error("the collection exists afterwards")
		}
		return
	}
	if d := w.differs("after", want, w.documents("c"), false); d != "" {
		w.t.Error(d)
	}
}

func (w *world) checkOplog(want []json.RawMessage) {
	w.t.Helper()
	if want == nil {
		return
	}
	if len(w.log) != len(want) {
		w.t.Errorf("%d oplog entries, want %d", len(w.log), len(want))
	}
	for i := range min(len(want), len(w.log)) {
		if d := w.differs(fmt.Sprintf("oplog.%d", i), parse(w.t, want[i]), bsonval.Doc(w.log[i].Marshal()), true); d != "" {
			w.t.Errorf("%s\n entry %s", d, w.log[i].Marshal())
		}
	}
}
