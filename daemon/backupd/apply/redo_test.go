package apply

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

func made(id int, more string) bson.Raw {
	b := bsoncore.AppendInt32Element(nil, "_id", int32(id))
	return bson.Raw(bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(b, "more", more)))
}

func idOf(d bson.Raw) bsoncore.Value {
	v, _ := oplog.Lookup(d, "_id")
	return v
}

func at(n uint32, partial int) position {
	return position{applied: oplog.OpTime{TS: bson.Timestamp{T: n, I: 1}, Term: 2}, partial: partial}
}

// aLog writes a log of everything there is, and gives it with where each record that counts ends.
func aLog(t testing.TB) (dir string, ends []int64) {
	t.Helper()
	dir = t.TempDir()
	l, err := newRedo(dir, 7)
	if err != nil {
		t.Fatal(err)
	}
	step := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, l.size)
	}
	step(l.flush())
	a, b := made(1, "a"), made(2, strings.Repeat("b", 300))
	step(l.batch(at(10, 0), []plan.Writes{
		{
			Collection: schema.Collection{UUID: oplog.UUID{1}, NS: "x.c"}, Way: plan.InPlace,
			Inserts: []plan.Put{{ID: idOf(a), Doc: a}}, Replaces: []plan.Put{{ID: idOf(b), Doc: b}}, Upserts: []plan.Put{{ID: idOf(a), Doc: a}},
			Deletes: []plan.Gone{{ID: idOf(b)}}, Missing: []bsoncore.Value{idOf(b)}, Settled: []bsoncore.Value{idOf(a)},
		},
		{Collection: schema.Collection{UUID: oplog.UUID{2}, NS: "x.d"}, Way: plan.InOrder, Ordered: []plan.Ordered{{Do: plan.Insert, Put: plan.Put{ID: idOf(a), Doc: a}}, {Do: plan.Delete, Put: plan.Put{ID: idOf(a)}}}},
	}))
	step(l.done())
	create, err := bson.Marshal(bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: "x.$cmd"}, {Key: "ui", Value: bson.Binary{Subtype: 4, Data: bytes.Repeat([]byte{3}, 16)}}, {Key: "o", Value: bson.D{{Key: "create", Value: "e"}}}})
	if err != nil {
		t.Fatal(err)
	}
	op, err := oplog.DecodeInner(create)
	if err != nil {
		t.Fatal(err)
	}
	step(l.command(at(10, 1), &op, false))
	step(l.done())
	step(l.position(at(12, 0)))
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	return dir, ends
}

func empty(t testing.TB) *state {
	t.Helper()
	cat, err := schema.New()
	if err != nil {
		t.Fatal(err)
	}
	return &state{generation: 7, cat: cat, missing: &plan.Missing{}}
}

// TestALogCutOffAnywhere cuts a log at every byte: what is whole counts, what is torn does not, and what may not have been
// done is done again.
func TestALogCutOffAnywhere(t *testing.T) {
	dir, ends := aLog(t)
	whole, err := os.ReadFile(filepath.Join(dir, redoFile))
	if err != nil {
		t.Fatal(err)
	}
	wants := []string{"0 0", "10 0 batch 2", "10 0", "10 1 steps 1", "10 1", "12 0"}
	for n := range len(whole) + 1 {
		s := empty(t)
		last, err := s.read(bufio.NewReader(bytes.NewReader(whole[:n])))
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		want := "0 0"
		for i, end := range ends {
			if int64(n) >= end {
				want = wants[i]
			}
		}
		got := fmt.Sprintf("%d %d", s.applied.TS.T, s.partial)
		switch {
		case last != nil && last.batch:
			got += fmt.Sprintf(" batch %d", len(last.write))
		case last != nil:
			got += fmt.Sprintf(" steps %d", len(last.steps))
		}
		if got != want {
			t.Fatalf("%d bytes of %d: %s, want %s", n, len(whole), got, want)
		}
	}
	s := empty(t)
	s.generation = 8
	if last, err := s.replay(dir); last != nil || err != nil || !s.applied.IsZero() {
		t.Errorf("the log of another generation counts: %v, %v", last, err)
	}
}

// TestALogWithAChangedByte changes every byte: the log may count for less, never for something else.
func TestALogWithAChangedByte(t *testing.T) {
	dir, _ := aLog(t)
	whole, err := os.ReadFile(filepath.Join(dir, redoFile))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"0 0": true, "10 0": true, "10 1": true, "12 0": true}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x41
		s := empty(t)
		if _, err := s.read(bufio.NewReader(bytes.NewReader(b))); err != nil {
			continue
		}
		if got := fmt.Sprintf("%d %d", s.applied.TS.T, s.partial); !known[got] {
			t.Errorf("byte %d changed: position %s", i, got)
		}
	}
}

func FuzzRedo(f *testing.F) {
	dir, _ := aLog(f)
	whole, err := os.ReadFile(filepath.Join(dir, redoFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = empty(t).read(bufio.NewReader(bytes.NewReader(b)))
	})
}

func FuzzState(f *testing.F) {
	s := aState(f)
	b, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(b))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = decodeState(b) })
}

func aState(t testing.TB) *state {
	t.Helper()
	view, err := bson.Marshal(bson.D{{Key: "_id", Value: "x.v"}, {Key: "viewOn", Value: "c"}, {Key: "pipeline", Value: bson.A{}}})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalogue([]schema.Collection{
		{UUID: oplog.UUID{1}, NS: "x.c", Options: made(1, "options"), IDIndex: made(2, "index"), Indexes: []bson.Raw{made(3, "a"), made(4, "b")}},
		{UUID: oplog.UUID{2}, NS: "x.d", Temp: true},
	}, []bson.Raw{view})
	if err != nil {
		t.Fatal(err)
	}
	s := &state{generation: 3, position: at(5, 0), open: true, end: at(9, 0).applied, cat: cat, missing: &plan.Missing{}}
	s.from = at(4, 0).applied
	s.missing.Note(&plan.Writes{Collection: schema.Collection{UUID: oplog.UUID{1}}, Missing: []bsoncore.Value{idOf(made(7, ""))}})
	return s
}

func TestAStateComesBack(t *testing.T) {
	s := aState(t)
	b, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.cat.Collections(), back.cat.Collections()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(s.cat.Views(), back.cat.Views()); diff != "" {
		t.Error(diff)
	}
	if !back.open || back.end != s.end || back.applied != s.applied || back.from != s.from || back.missing.Len() != 1 {
		t.Errorf("%+v", back)
	}
	for name, b := range map[string][]byte{"nothing": {}, "half": b[:len(b)/2], "another version": bsoncore.BuildDocument(nil, bsoncore.AppendInt32Element(nil, "v", 99))} {
		if _, err := decodeState(b); err == nil {
			t.Errorf("%s is a state", name)
		}
	}
	if _, err := load(t.TempDir()); !errors.Is(err, ErrNoState) {
		t.Errorf("an empty folder: %v", err)
	}
}
