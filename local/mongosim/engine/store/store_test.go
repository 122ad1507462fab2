package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/omap"
)

// TestMapAgainstAModel does the same random things to a Map, a plain map and copies of both.
func TestMapAgainstAModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	m, model := omap.New[int, int](), map[int]int{}
	type pair struct {
		m     *omap.Map[int, int]
		model map[int]int
	}
	var copies []pair
	check := func(m *omap.Map[int, int], model map[int]int) {
		t.Helper()
		keys := slices.Sorted(maps.Keys(model))
		var got []int
		for k, v := range m.Ascend(-1) {
			if model[k] != v {
				t.Fatalf("%d is %d, want %d", k, v, model[k])
			}
			got = append(got, k)
		}
		if !slices.Equal(got, keys) || m.Len() != len(keys) {
			t.Fatalf("%d keys, want %d", len(got), len(keys))
		}
		if len(keys) == 0 {
			return
		}
		at := keys[rnd.IntN(len(keys))]
		i, _ := slices.BinarySearch(keys, at)
		var down []int
		for k := range m.Descend(at) {
			down = append(down, k)
		}
		slices.Reverse(down)
		if !slices.Equal(down, keys[:i]) {
			t.Fatalf("below %d: %v, want %v", at, down, keys[:i])
		}
		if k, _, _ := m.First(); k != keys[0] {
			t.Fatalf("first %d", k)
		}
		if k, _, _ := m.Last(); k != keys[len(keys)-1] {
			t.Fatalf("last %d", k)
		}
	}
	for i := range 60_000 {
		k := rnd.IntN(3000)
		if i > 40_000 || rnd.IntN(3) == 0 {
			_, had := model[k]
			if m.Delete(k) != had {
				t.Fatalf("delete %d: %v", k, !had)
			}
			delete(model, k)
		} else {
			m.Set(k, i)
			model[k] = i
		}
		if i%5000 == 0 {
			check(m, model)
			copies = append(copies, pair{m.Clone(), maps.Clone(model)})
			// Changing a copy must leave the rest alone.
			c := copies[rnd.IntN(len(copies))]
			c.m.Set(k+1, -i)
			c.model[k+1] = -i
		}
	}
	check(m, model)
	for _, c := range copies {
		check(c.m, c.model)
	}
}

func none(bson.Raw) (func(bson.Raw) bool, error) {
	return func(bson.Raw) bool { return true }, nil
}

func doc(t testing.TB, d bson.D) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newCollection(t testing.TB, s *State, b *Batch, ns string) *Collection {
	t.Helper()
	id, err := s.NewIndex(doc(t, bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "name", Value: "_id_"}}))
	if err != nil {
		t.Fatal(err)
	}
	c := &Collection{NS: ns, UUID: [16]byte{byte(len(ns)), ns[0]}, Options: doc(t, bson.D{}), Indexes: []*Index{id}}
	s.Create(b, c)
	return c
}

// TestRotation goes on writing while generations are changed, and reads everything back.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	s := NewState(none)
	j, err := OpenJournal(dir, s, JournalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	c := newCollection(t, s, &b, "db.c")
	const n = 1000
	for i := range n {
		if _, err := s.Insert(&b, c, doc(t, bson.D{{Key: "_id", Value: i}})); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			s.Remove(&b, c, int64(i/3+1))
		}
		if err := j.Wait(j.Append(b.Take()), false); err != nil {
			t.Fatal(err)
		}
		if i%200 == 150 {
			if err := j.Rotate(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Close(s, false); err != nil {
		t.Fatal(err)
	}
	again := NewState(none)
	j, err = OpenJournal(dir, again, JournalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	d := again.Get("db.c")
	if d == nil || d.Records.Len() != c.Records.Len() || d.Bytes != c.Bytes || d.NextRID != c.NextRID {
		t.Fatalf("read back: %+v", d)
	}
	for rid, doc := range c.Records.Ascend(0) {
		if got, _ := d.Records.Get(rid); !bytes.Equal(got, doc) {
			t.Fatalf("record %d: %s, want %s", rid, got, doc)
		}
	}
	if err := j.Close(again, true); err != nil {
		t.Fatal(err)
	}
	if err := j.Wait(j.Append([]byte{1}), false); err == nil {
		t.Error("a closed journal takes changes")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 3 { // the catalog, the collection's file, the journal's folder
		t.Errorf("files after a clean stop: %v %v", left, err)
	}
}

// TestUnfinishedCheckpoint takes the catalog of a checkpoint back, as a kill just before it is in place does: the files are
// longer than they count, and the journals before are still there.
func TestUnfinishedCheckpoint(t *testing.T) {
	dir := t.TempDir()
	s := NewState(none)
	j, err := OpenJournal(dir, s, JournalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	c := newCollection(t, s, &b, "db.c")
	insert := func(i int) {
		t.Helper()
		if _, err := s.Insert(&b, c, doc(t, bson.D{{Key: "_id", Value: i}})); err != nil {
			t.Fatal(err)
		}
		if err := j.Wait(j.Append(b.Take()), true); err != nil {
			t.Fatal(err)
		}
	}
	insert(0)
	if err := j.Checkpoint(s); err != nil {
		t.Fatal(err)
	}
	insert(1)
	s.Remove(&b, c, 1)
	insert(2)
	catalog, err := os.ReadFile(filepath.Join(dir, catalogName))
	if err != nil {
		t.Fatal(err)
	}
	journal := j.path(j.gen)
	changes, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Checkpoint(s); err != nil {
		t.Fatal(err)
	}
	insert(3)
	if err := j.Close(s, false); err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string][]byte{filepath.Join(dir, catalogName): catalog, journal: changes, filepath.Join(dir, "collection-77.sim"): {1}} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second opening reads what the first has put in order
		again := NewState(none)
		j, err = OpenJournal(dir, again, JournalOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(records(s), records(again)); diff != "" {
			t.Error(diff)
		}
		if err := j.Close(again, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "collection-77.sim")); err == nil {
		t.Error("a file of no collection is still there")
	}
}

// records is everything a state holds.
func records(s *State) map[string]string {
	out := map[string]string{}
	for _, c := range s.Collections("") {
		out[c.NS] = fmt.Sprintf("%x %d %d %s", c.UUID, c.Bytes, c.NextRID, c.meta().Raw())
		for rid, doc := range c.Records.Ascend(0) {
			out[fmt.Sprintf("%s %d", c.NS, rid)] = string(doc)
		}
	}
	return out
}

// TestFilesChangeLittle looks at what a copy of the folder has to store again after small changes: nothing of collections that
// did not change, the new end of those that did.
func TestFilesChangeLittle(t *testing.T) {
	dir := t.TempDir()
	s := NewState(none)
	j, err := OpenJournal(dir, s, JournalOptions{PerDB: true})
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	big, quiet, gone := newCollection(t, s, &b, "db.c"), newCollection(t, s, &b, "other.quiet"), newCollection(t, s, &b, "third.dropped.c")
	put := func(c *Collection, rid int64, text string) {
		t.Helper()
		if err := s.Put(&b, c, rid, doc(t, bson.D{{Key: "_id", Value: rid}, {Key: "t", Value: text}})); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int64(20_000) {
		put(big, i+1, strings.Repeat("x", 100))
	}
	put(quiet, 1, "q")
	put(gone, 1, "g")
	files := func() map[string]string {
		t.Helper()
		if err := j.Wait(j.Append(b.Take()), false); err != nil {
			t.Fatal(err)
		}
		if err := j.Checkpoint(s); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		found, _ := filepath.Glob(filepath.Join(dir, "*", "collection-*"))
		for _, path := range found {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(dir, path)
			out[name] = string(b)
		}
		return out
	}
	before := files()
	for i := range int64(100) {
		put(big, i*200+1, "y")
		s.Remove(&b, big, i*200+2)
	}
	s.Drop(&b, gone)
	after := files()
	if len(before) != 3 || len(after) != 2 {
		t.Fatalf("%d and %d files, want 3 and 2", len(before), len(after))
	}
	for name, b := range after {
		was := before[name]
		if !strings.HasPrefix(b, was) || len(b)-len(was) > 20_000 {
			t.Errorf("%s: %d bytes of %d are other or new", name, len(b)-len(was), len(b))
		}
	}
	for i := range int64(20_000) { // now most of it is dead
		put(big, i+1, strings.Repeat("z", 100))
	}
	files()
	for i := range int64(20_000) {
		put(big, i+1, strings.Repeat("a", 100))
	}
	total := 0
	for _, b := range files() {
		total += len(b)
	}
	if live := int(big.Bytes); total > 2*live+slack {
		t.Errorf("%d bytes for %d of documents", total, live)
	}
	if err := j.Close(s, true); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, journalDir)); err != nil { // as a snapshot leaves it out
		t.Fatal(err)
	}
	again := NewState(none)
	if j, err = OpenJournal(dir, again, JournalOptions{PerDB: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(records(s), records(again)); diff != "" {
		t.Error(diff)
	}
	if err := j.Close(again, true); err != nil {
		t.Fatal(err)
	}
}

func TestDuplicateLeavesNothingBehind(t *testing.T) {
	s := NewState(none)
	c := newCollection(t, s, nil, "db.c")
	x, err := s.NewIndex(doc(t, bson.D{{Key: "v", Value: 2}, {Key: "unique", Value: true}, {Key: "key", Value: bson.D{{Key: "a", Value: -1}, {Key: "b", Value: 1}}}, {Key: "name", Value: "u"}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddIndex(nil, c, x); err != nil {
		t.Fatal(err)
	}
	put := func(id, a, b any) error {
		_, err := s.Insert(nil, c, doc(t, bson.D{{Key: "_id", Value: id}, {Key: "a", Value: a}, {Key: "b", Value: b}}))
		return err
	}
	if err := put(1, "x", bson.A{1, 2, 2}); err != nil {
		t.Fatal(err)
	}
	if err := put(2, "x", bson.A{3, 2.0}); err == nil {
		t.Error("a member that another document has under the unique index was taken")
	}
	if err := put(3, bson.A{1}, bson.A{2}); err == nil {
		t.Error("parallel arrays were taken")
	}
	if n := c.ID().Entries.Len(); n != 1 || x.Entries.Len() != 2 || c.Records.Len() != 1 {
		t.Errorf("entries %d and %d, records %d", n, x.Entries.Len(), c.Records.Len())
	}
}

// FuzzReplay reads anything as a journal's changes.
func FuzzReplay(f *testing.F) {
	var b Batch
	s := NewState(none)
	c := newCollection(f, s, &b, "db.c")
	for i := range 3 {
		if _, err := s.Insert(&b, c, doc(f, bson.D{{Key: "_id", Value: i}})); err != nil {
			f.Fatal(err)
		}
	}
	s.Remove(&b, c, 2)
	s.Rename(&b, c, "db.d")
	s.Drop(&b, c)
	f.Add(b.Take())
	f.Fuzz(func(_ *testing.T, b []byte) {
		s := NewState(none)
		_ = s.Replay(b)
	})
}

// FuzzFiles reads anything as a dbpath's catalog and a collection's file, with and without right checksums.
func FuzzFiles(f *testing.F) {
	dir := f.TempDir()
	s := NewState(none)
	j, err := OpenJournal(dir, s, JournalOptions{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	var b Batch
	c := newCollection(f, s, &b, "db.c")
	for i := range 3 {
		if _, err := s.Insert(&b, c, doc(f, bson.D{{Key: "_id", Value: i}})); err != nil {
			f.Fatal(err)
		}
	}
	j.Append(b.Take())
	if err := j.Close(s, true); err != nil {
		f.Fatal(err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(read(catalogName), read("collection-0.sim"), false)
	f.Add([]byte{5, 0, 0, 0, 0}, []byte{opPut, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, catalog, records []byte, framed bool) {
		if framed {
			catalog, records = frame(nil, catalog), frame(nil, records)
		}
		dir := t.TempDir()
		for name, b := range map[string][]byte{catalogName: catalog, "collection-0.sim": records} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := NewState(none)
		if j, err := OpenJournal(dir, s, JournalOptions{NoSync: true}); err == nil {
			if err := j.Close(s, true); err != nil {
				t.Error(err)
			}
		}
		_ = newCollection(t, NewState(none), nil, "db.c").replayRecords(records)
	})
}

func ExampleCollection_FindID() {
	s := NewState(none)
	id, _ := s.NewIndex(bson.Raw(bsonval.FromElems([]bsonval.Elem{
		{Key: "key", Value: bsonval.Doc(bsonval.FromElems([]bsonval.Elem{{Key: "_id", Value: bsonval.Int32(1)}}))},
		{Key: "name", Value: bsonval.String("_id_")},
	})))
	c := &Collection{NS: "db.c", Options: new(bsonval.Builder).Raw(), Indexes: []*Index{id}}
	s.Create(nil, c)
	_, _ = s.Insert(nil, c, new(bsonval.Builder).Int32("_id", 1).String("a", "x").Raw())
	_, doc, ok := c.FindID(bsonval.Double(1)) // 1.0 is the same id as 1
	fmt.Println(doc, ok)
	// Output: {"_id": {"$numberInt":"1"},"a": "x"} true
}
