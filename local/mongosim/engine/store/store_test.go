package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// TestMapAgainstAModel does the same random things to a Map, a plain map and copies of both.
func TestMapAgainstAModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	m, model := NewMap[int, int](), map[int]int{}
	type pair struct {
		m     *Map[int, int]
		model map[int]int
	}
	var copies []pair
	check := func(m *Map[int, int], model map[int]int) {
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
	j, err := OpenJournal(dir, s, true)
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
	j, err = OpenJournal(dir, again, true)
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
	if err != nil || len(left) != 2 {
		t.Errorf("files after a clean stop: %v %v", left, err)
	}
}

// TestUnfinishedSnapshot leaves a generation's snapshot out, as a kill in the middle of writing it does.
func TestUnfinishedSnapshot(t *testing.T) {
	dir := t.TempDir()
	s := NewState(none)
	j, err := OpenJournal(dir, s, true)
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	c := newCollection(t, s, &b, "db.c")
	for i := range 3 {
		if _, err := s.Insert(&b, c, doc(t, bson.D{{Key: "_id", Value: i}})); err != nil {
			t.Fatal(err)
		}
		if err := j.Wait(j.Append(b.Take()), true); err != nil {
			t.Fatal(err)
		}
	}
	first, err := os.ReadFile(filepath.Join(dir, fileName("journal", 0)))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Rotate(s); err != nil {
		t.Fatal(err)
	}
	j.bg.Wait()
	if _, err := s.Insert(&b, c, doc(t, bson.D{{Key: "_id", Value: 3}})); err != nil {
		t.Fatal(err)
	}
	if err := j.Wait(j.Append(b.Take()), true); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(s, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, fileName("snapshot", 1)), filepath.Join(dir, fileName("snapshot", 1)+".tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileName("journal", 0)), first, 0o600); err != nil {
		t.Fatal(err)
	}
	again := NewState(none)
	j, err = OpenJournal(dir, again, true)
	if err != nil {
		t.Fatal(err)
	}
	if n := again.Get("db.c").Records.Len(); n != 4 {
		t.Errorf("%d documents, want 4", n)
	}
	if err := j.Close(again, false); err != nil {
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
