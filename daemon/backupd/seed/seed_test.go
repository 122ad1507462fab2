package seed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/seed"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/tests/harness"
)

func start(t testing.TB, versions ...string) *head.Head {
	t.Helper()
	releases := harness.Heads(t, versions...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := min(l.Addr().(*net.TCPAddr).Port, 65000)
	_ = l.Close()
	m, err := head.New(t.Context(), head.Options{Root: t.TempDir(), Releases: releases.Dir, BasePort: port, Count: 16})
	if err != nil {
		t.Fatal(err)
	}
	all, err := m.Releases(t.Context())
	if err != nil || len(all) == 0 {
		t.Fatal("no release: ", err)
	}
	h, err := m.Start(t.Context(), head.Spec{Dir: t.TempDir(), Release: all[0]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Kill() })
	return h
}

func raw(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func packed(t testing.TB, docs ...any) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for _, d := range docs {
		b = append(b, raw(t, d)...)
	}
	return z.EncodeAll(b, nil)
}

var errAway = errors.New("the store is away")

// copyOf is a full read of a few collections, of which some slices can be missing.
func copyOf(t testing.TB) (o seed.Options, slicesOf map[oplog.UUID][][]byte) {
	t.Helper()
	id := func(n byte) oplog.UUID { return oplog.UUID{n, 6: 0x40, 8: 0x80} }
	made := func(n byte, ns string, options any) seed.Collection {
		c := seed.Collection{Collection: schema.Collection{UUID: id(n), NS: ns}}
		if options != nil {
			c.Options = raw(t, options)
		}
		return c
	}
	o.Collections = []seed.Collection{
		made(1, "a.plain", nil),
		made(2, "a.capped", bson.D{{Key: "capped", Value: true}, {Key: "size", Value: 1 << 20}, {Key: "max", Value: 60}}),
		made(3, "a.system.views", nil),
		made(4, "admin.system.version", nil),
		made(5, "a.empty", bson.D{{Key: "validator", Value: bson.D{{Key: "n", Value: 1}}}}),
	}
	o.Collections[0].Indexes = []bson.Raw{raw(t, bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "n", Value: 1}}}, {Key: "name", Value: "n_1"}, {Key: "unique", Value: true}})}
	slicesOf = map[oplog.UUID][][]byte{}
	for s := range 8 {
		var plain, capped []any
		for i := range 10 {
			plain = append(plain, bson.D{{Key: "_id", Value: s*10 + i}, {Key: "n", Value: 1}}) // not unique while it was read
			capped = append(capped, bson.D{{Key: "_id", Value: 1000 - s*10 - i}})
		}
		slicesOf[id(1)] = append(slicesOf[id(1)], packed(t, plain...))
		slicesOf[id(2)] = append(slicesOf[id(2)], packed(t, capped...))
	}
	slicesOf[id(4)] = [][]byte{packed(t, bson.D{{Key: "_id", Value: "featureCompatibilityVersion"}, {Key: "version", Value: "3.2"}}, bson.D{{Key: "_id", Value: "authSchema"}, {Key: "currentVersion", Value: 5}})}
	return o, slicesOf
}

func from(slicesOf map[oplog.UUID][][]byte, fail func() error) func(context.Context, oplog.UUID, int64) iter.Seq2[[]byte, error] {
	return func(_ context.Context, c oplog.UUID, first int64) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			for _, s := range slicesOf[c][first:] {
				if err := fail(); !yield(s, err) || err != nil {
					return
				}
			}
		}
	}
}

func TestSeedingGoesOnWhereItStopped(t *testing.T) {
	for _, each := range []int{1, 3, 7, 1000} { // it fails at every n-th slice
		t.Run(fmt.Sprint(each), func(t *testing.T) {
			h := start(t)
			o, slicesOf := copyOf(t)
			o.Client, o.Dir = h.Client(), filepath.Join(t.TempDir(), "job")
			var last seed.Progress
			o.Progress = func(p seed.Progress) { last = p }
			given, failures := 0, 0
			o.Slices = from(slicesOf, func() error {
				if given++; given%(each+1) == 0 {
					return errAway
				}
				return nil
			})
			for {
				err := seed.Run(t.Context(), o)
				if err == nil {
					break
				}
				if failures++; !errors.Is(err, errAway) || failures > 100 {
					t.Fatal(err)
				}
			}
			given = 0
			if err := seed.Run(t.Context(), o); err != nil || given > 0 {
				t.Errorf("run again after success: %v, %d slices", err, given)
			}
			if last.Docs != 162 || last.Collections != 5 {
				t.Errorf("progress %+v", last)
			}
			a := h.Client().Database("a")
			for coll, want := range map[string]int64{"plain": 80, "empty": 0, "capped": 60} {
				if n, err := a.Collection(coll).CountDocuments(t.Context(), bson.D{}); err != nil || n != want {
					t.Errorf("%s holds %d documents, want %d (%v)", coll, n, want, err)
				}
			}
			if got := ids(t, h, "capped"); got[0] != 980 || got[59] != 921 || !slices.IsSortedFunc(got, func(a, b int32) int { return int(b - a) }) {
				t.Errorf("capped in the order %v", got)
			}
			for _, c := range o.Collections {
				db, name := oplog.Split(c.NS)
				if c.Views() || db == "admin" {
					continue
				}
				specs, err := h.Client().Database(db).ListCollectionSpecifications(t.Context(), bson.D{{Key: "name", Value: name}})
				if err != nil || len(specs) != 1 || !bytes.Equal(specs[0].UUID.Data, c.UUID[:]) {
					t.Errorf("%s: %v, %v", c.NS, specs, err)
				}
				if x, err := h.Client().Database(db).Collection(name).Indexes().ListSpecifications(t.Context()); err != nil || len(x) != 1 {
					t.Errorf("%s has indexes before the replay: %v, %v", c.NS, x, err)
				}
			}
			version := h.Client().Database("admin").Collection("system.version")
			var fcv struct{ Version string }
			if err := version.FindOne(t.Context(), bson.D{{Key: "_id", Value: "featureCompatibilityVersion"}}).Decode(&fcv); err != nil || fcv.Version == "3.2" {
				t.Errorf("the head's own version was written over: %v, %v", fcv, err)
			}
			if n, err := version.CountDocuments(t.Context(), bson.D{{Key: "_id", Value: "authSchema"}}); err != nil || n != 1 {
				t.Errorf("authSchema: %d, %v", n, err)
			}
		})
	}
}

func ids(t testing.TB, h *head.Head, coll string) (out []int32) {
	t.Helper()
	cur, err := h.Client().Database("a").Collection(coll).Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next(t.Context()) {
		out = append(out, cur.Current.Lookup("_id").Int32())
	}
	return out
}

func TestDamagedSlices(t *testing.T) {
	h := start(t)
	good := packed(t, bson.D{{Key: "_id", Value: 1}})
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, slice := range map[string][]byte{
		"empty":           {0},
		"torn":            good[:len(good)-3],
		"half a document": z.EncodeAll(raw(t, bson.D{{Key: "_id", Value: 1}})[:8], nil),
		"too large":       z.EncodeAll(make([]byte, 2<<20), nil),
	} {
		o, slicesOf := copyOf(t)
		o.Client, o.Dir, o.MaxSlice = h.Client(), filepath.Join(t.TempDir(), "job"), 1<<20
		slicesOf[o.Collections[0].UUID][2] = slice
		o.Slices = from(slicesOf, func() error { return nil })
		if err := seed.Run(t.Context(), o); !errors.Is(err, seed.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOldServersGetNoLaterDocuments seeds a head before 5.0, which refuses to take a document out of a capped collection:
// what the window inserts must not be there before it.
func TestOldServersGetNoLaterDocuments(t *testing.T) {
	h := start(t, "4.4.29")
	if h.Version != "4.4.29" {
		t.Skip("the mongod of this run is ", h.Version)
	}
	o, slicesOf := copyOf(t)
	o.Client, o.Dir = h.Client(), filepath.Join(t.TempDir(), "job")
	o.Slices = from(slicesOf, func() error { return nil })
	o.Window = func(context.Context) iter.Seq2[bson.Raw, error] {
		return func(yield func(bson.Raw, error) bool) {
			for i, id := range []int{921, 922} {
				e := bson.D{
					{Key: "ts", Value: bson.Timestamp{T: 5, I: uint32(i + 1)}},
					{Key: "v", Value: 2},
					{Key: "op", Value: "i"},
					{Key: "ns", Value: "a.capped"},
					{Key: "ui", Value: bson.Binary{Subtype: 4, Data: o.Collections[1].UUID[:]}},
					{Key: "o", Value: bson.D{{Key: "_id", Value: id}}},
				}
				if !yield(raw(t, e), nil) {
					return
				}
			}
		}
	}
	if err := seed.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, h, "capped"); got[len(got)-1] != 923 || len(got) != 60 {
		t.Errorf("%d documents, the last is %d", len(got), got[len(got)-1])
	}
}
