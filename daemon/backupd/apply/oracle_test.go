package apply_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"net"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/seed"
	"github.com/heartwood-db/heartwood/daemon/backupd/statetest"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/tests/harness"
)

type recorded = statetest.Record

func theRecord(t testing.TB) *recorded {
	t.Helper()
	return statetest.Recorded(t)
}

func each(list []bson.Raw) iter.Seq2[bson.Raw, error] { return statetest.Each(list) }

func idKey(d bson.Raw) string { return statetest.IDKey(d) }

// heads gives a manager of heads on mongod, or on what stands in for it, and says which.
func heads(t testing.TB) (*head.Manager, head.Release) {
	t.Helper()
	releases := harness.Heads(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	m, err := head.New(t.Context(), head.Options{Root: t.TempDir(), Releases: releases.Dir, BasePort: min(base, 65000), Count: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	all, err := m.Releases(t.Context())
	if err != nil || len(all) == 0 {
		t.Fatal("no release: ", err)
	}
	return m, all[len(all)-1]
}

func start(t testing.TB, m *head.Manager, r head.Release, dir string) *head.Head {
	t.Helper()
	h, err := m.Start(t.Context(), head.Spec{Dir: dir, Release: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Kill() })
	return h
}

func collectionsOf(m statetest.Manifest) (colls []seed.Collection, files map[oplog.UUID]string) {
	files = map[oplog.UUID]string{}
	for i := range m.Collections {
		if c, ok := m.Collections[i].Schema(); ok {
			files[c.UUID] = m.Collections[i].File
			colls = append(colls, seed.Collection{Collection: c})
		}
	}
	return colls, files
}

// pack makes slices of at most n documents.
func pack(docs []bson.Raw, n int) (out [][]byte) {
	z, _ := zstd.NewWriter(nil)
	for part := range slices.Chunk(docs, n) {
		out = append(out, z.EncodeAll(slices.Concat(asBytes(part)...), nil))
	}
	return out
}

func asBytes(docs []bson.Raw) [][]byte {
	out := make([][]byte, len(docs))
	for i, d := range docs {
		out[i] = d
	}
	return out
}

// fuzzySeed is the recorded fuzzy copy as a full read would have left it.
func fuzzySeed(r *recorded) (seed.Options, apply.Beginning) {
	colls, files := collectionsOf(r.Fuzzy)
	o := seed.Options{Collections: colls, Connections: 3}
	b := apply.Beginning{
		Start:   oplog.OpTime{TS: bson.Timestamp{T: r.Fuzzy.StartTs.T, I: r.Fuzzy.StartTs.I - 1}, Term: 1},
		ScanEnd: oplog.OpTime{TS: r.Fuzzy.EndTs, Term: 1},
	}
	for i := range colls {
		c := &colls[i]
		b.Collections = append(b.Collections, c.Collection)
		if c.Views() {
			b.Views = append(b.Views, statetest.Documents(r.Files["fuzzy/"+files[c.UUID]])...)
		}
	}
	o.Slices = func(_ context.Context, id oplog.UUID, first int64) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			for _, s := range pack(statetest.Documents(r.Files["fuzzy/"+files[id]]), 100)[first:] {
				if !yield(s, nil) {
					return
				}
			}
		}
	}
	o.Window = func(context.Context) iter.Seq2[bson.Raw, error] { return each(r.Oplogs["v1"]) }
	return o, b
}

func TestRecordedOplogEndsInTheStateOfTheServer(t *testing.T) {
	r := theRecord(t)
	for _, version := range []string{"v1", "v2"} {
		for _, c := range []struct {
			name   string
			fuzzy  bool
			behind bool
			batch  int
		}{
			{"from nothing, in place", false, false, 500},
			{"from nothing, two-phase", false, true, 5000},
			{"over a fuzzy copy", true, false, 300},
		} {
			t.Run(version+" "+c.name, func(t *testing.T) {
				m, release := heads(t)
				dir := filepath.Join(t.TempDir(), "job")
				h := start(t, m, release, dir)
				begin := apply.Beginning{}
				if c.fuzzy {
					var o seed.Options
					o, begin = fuzzySeed(r)
					o.Client, o.Dir = h.Client(), dir
					if err := seed.Run(t.Context(), o); err != nil {
						t.Fatal(err)
					}
				}
				if err := apply.Begin(dir, begin); err != nil {
					t.Fatal(err)
				}
				a, err := apply.Open(t.Context(), apply.Options{Client: h.Client(), Dir: dir, MaxOps: c.batch})
				if err != nil {
					t.Fatal(err)
				}
				a.Behind(c.behind)
				if err := through(t.Context(), a, r.Oplogs[version]); err != nil {
					t.Fatal(err)
				}
				t.Logf("%+v", a.Stats())
				compareFinal(t, h.Client(), r)
				if err := a.Close(); err != nil {
					t.Error(err)
				}
				if err := h.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// through applies everything, the end of the window included.
func through(ctx context.Context, a *apply.Applier, entries []bson.Raw) error {
	err := a.Apply(ctx, each(entries), bson.Timestamp{})
	if errors.Is(err, apply.ErrWindow) {
		if err := a.FinishWindow(ctx, nil); err != nil {
			return err
		}
		err = a.Apply(ctx, each(entries), bson.Timestamp{})
	}
	return err
}

// compareFinal compares a head with the recorded final state: documents, options and indexes, byte for byte.
func compareFinal(t *testing.T, client *mongo.Client, r *recorded) {
	t.Helper()
	for _, fault := range statetest.Differences(t.Context(), client, r) {
		t.Error(fault)
	}
}

func read(ctx context.Context, c *mongo.Collection, natural bool) (out []bson.Raw, err error) {
	cur, err := c.Find(ctx, bson.D{})
	if err != nil {
		return nil, err
	}
	for cur.Next(ctx) {
		out = append(out, bytes.Clone(cur.Current))
	}
	if !natural {
		sort.Slice(out, func(i, j int) bool { return idKey(out[i]) < idKey(out[j]) })
	}
	return out, cur.Err()
}
