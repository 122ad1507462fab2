package apply

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// numbered is the n-th of many collections, with a name of 200 bytes.
func numbered(n int) (oplog.UUID, string) {
	id := oplog.UUID{byte(n), byte(n >> 8), byte(n >> 16), 6: 0x40, 8: 0x80}
	for i := 9; i < 16; i++ { // as random as a server's
		id[i] = byte(uint32(n) * 2654435761 >> (i + 8))
	}
	name := fmt.Sprintf("coll%06d.", n)
	return id, name + strings.Repeat("n", 200-len(name))
}

// TestAHundredThousandCollections is case 25: as many collections, with long names and three indexes each, through the catalogue, the
// state on disk and the redo log. Figures are logged; what is asserted are sizes.
func TestAHundredThousandCollections(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const many = 100_000
	took := func(what string, f func()) {
		began := time.Now()
		f()
		t.Logf("%s: %s", what, time.Since(began).Round(time.Millisecond))
	}
	entry := func(at int, id oplog.UUID, o []byte) *oplog.Entry {
		b := bsoncore.AppendTimestampElement(nil, "ts", uint32(1000+at), 1)
		b = bsoncore.AppendInt64Element(bsoncore.AppendInt64Element(b, "t", 1), "v", 2)
		b = bsoncore.AppendStringElement(bsoncore.AppendStringElement(b, "op", "c"), "ns", "db.$cmd")
		b = bsoncore.AppendDocumentElement(bsoncore.AppendBinaryElement(b, "ui", bson.TypeBinaryUUID, id[:]), "o", o)
		e, err := oplog.Decode(bsoncore.BuildDocument(nil, b))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	index := func(coll, field string) []byte {
		b := bsoncore.AppendInt32Element(bsoncore.AppendStringElement(nil, "createIndexes", coll), "v", 2)
		b = bsoncore.AppendDocumentElement(b, "key", bsoncore.BuildDocument(nil, bsoncore.AppendInt32Element(nil, field, 1)))
		return bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(b, "name", field+"_1"))
	}
	cat, err := schema.New()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	log, err := newRedo(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	took("entries of 100,000 collections with three indexes each, through the catalogue and the redo log", func() {
		at := 0
		do := func(id oplog.UUID, o []byte) {
			at++
			e := entry(at, id, o)
			if _, odd, err := cat.Apply(&e.Op); err != nil || odd != 0 {
				t.Fatal(odd, err)
			}
			if at%1000 == 0 { // a record is synced each time: what is measured is the catalogue
				if err := log.command(position{applied: e.At}, &e.Op, false); err != nil {
					t.Fatal(err)
				}
			}
		}
		for n := range many {
			id, name := numbered(n)
			do(id, bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(nil, "create", name)))
			for _, f := range []string{"a", "b", "c"} {
				do(id, index(name, f))
			}
		}
	})
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("the catalogue holds %d MB", int64(after.HeapAlloc-before.HeapAlloc)>>20)

	s := &state{generation: 1, cat: cat, missing: &plan.Missing{}}
	took("save", func() {
		if err := s.save(dir); err != nil {
			t.Fatal(err)
		}
	})
	info, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("state.bson has %d kB", info.Size()>>10)
	if info.Size() > 15<<20 {
		t.Errorf("the state has %d MB", info.Size()>>20)
	}
	var back *state
	took("load", func() {
		if back, err = load(dir); err != nil {
			t.Fatal(err)
		}
	})
	all := back.cat.Collections()
	if len(all) != many {
		t.Fatalf("%d collections come back", len(all))
	}
	for _, n := range []int{0, 1, many / 2, many - 1} {
		id, name := numbered(n)
		c, ok := back.cat.Lookup(id, "")
		if !ok || c.NS != "db."+name || len(c.Indexes) != 3 {
			t.Errorf("collection %d comes back as %s with %d indexes", n, c.NS, len(c.Indexes))
		}
	}
	took("drop a database of 100,000", func() {
		for n := range many {
			id, name := numbered(n)
			e := entry(n, id, bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(nil, "drop", name)))
			if _, odd, err := cat.Apply(&e.Op); err != nil || odd != 0 {
				t.Fatal(odd, err)
			}
		}
	})
	if left := cat.Collections(); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
}
