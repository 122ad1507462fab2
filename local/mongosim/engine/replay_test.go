package engine

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// fixtures finds the recorded files that are too large to copy.
func fixtures(t *testing.T, parts ...string) string {
	t.Helper()
	dir := os.Getenv("HEARTWOOD_TEST_FIXTURES")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for at != "/" {
			if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
				dir = filepath.Join(at, "..", "shared", "fixtures")
				break
			}
			at = filepath.Dir(at)
		}
	}
	path := filepath.Join(append([]string{dir}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("recorded files are not here: set HEARTWOOD_TEST_FIXTURES (%v)", err)
	}
	return path
}

func bsonFile(t *testing.T, path string) []bson.Raw {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []bson.Raw
	for len(b) > 4 {
		n := binary.LittleEndian.Uint32(b)
		out = append(out, bson.Raw(b[:n:n]))
		b = b[n:]
	}
	return out
}

// TestReplay applies the recorded oplog of a random workload and compares every document with what the server had in the end.
func TestReplay(t *testing.T) {
	for _, file := range []string{"oplog.bson", "oplog-v2.bson"} {
		t.Run(file, func(t *testing.T) {
			dir := fixtures(t, "recorded", "replay")
			w := newWorld(t, Options{})
			var entries []OplogEntry
			for _, d := range bsonFile(t, filepath.Join(dir, file)) {
				if x := ParseOplogEntry(d); store.DBOf(x.NS) != "config" {
					entries = append(entries, x)
				}
			}
			if err := w.e.Apply(context.Background(), entries); err != nil {
				t.Fatal(err)
			}
			compareFinal(t, w, filepath.Join(dir, "final"))
			t.Logf("%d entries", len(entries))
		})
	}
}

func compareFinal(t *testing.T, w *world, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Collections []struct {
			DB, Name, Type, File string
			Options              json.RawMessage
			Indexes              []json.RawMessage
		}
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range m.Collections {
		coll := w.collection(c.DB + "." + c.Name)
		if coll == nil {
			t.Errorf("%s.%s is missing", c.DB, c.Name)
			continue
		}
		if coll.View != (c.Type == "view") {
			t.Errorf("%s.%s is of another type than %s", c.DB, c.Name, c.Type)
		}
		if coll.View || c.File == "" {
			continue
		}
		want := bsonFile(t, filepath.Join(dir, c.File))
		if len(want) != coll.Records.Len() {
			t.Errorf("%s: %d documents, want %d", coll.NS, coll.Records.Len(), len(want))
		}
		for _, d := range want {
			id, _ := bsonval.Lookup(d, "_id")
			_, got, _ := coll.FindID(id)
			if string(got) != string(d) {
				t.Errorf("%s: want %s\n got %s", coll.NS, d, got)
				break
			}
			n++
		}
		if len(coll.Indexes) != len(c.Indexes) {
			t.Errorf("%s: %d indexes, want %d", coll.NS, len(coll.Indexes), len(c.Indexes))
		}
		for i, x := range c.Indexes {
			if i >= len(coll.Indexes) {
				break
			}
			spec := parse(t, x)
			if have := coll.Index(bsonval.StringField(bson.Raw(spec.Value), "name")); have == nil || w.differs("index", spec, bsonval.Doc(have.Spec), true) != "" {
				t.Errorf("%s: want index %s", coll.NS, fmt.Sprint(spec))
			}
		}
	}
	t.Logf("%d documents the same", n)
}
