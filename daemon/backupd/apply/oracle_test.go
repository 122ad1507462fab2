package apply_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/seed"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/tests/harness"
)

const testdata = "../../../shared/oplog/testdata/"

func unzstd(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testdata + name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if b, err = d.DecodeAll(b, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

// recorded is what a real replica set left: the oplog of a workload, a copy read under it, and its final state.
type recorded struct {
	oplogs map[string][]bson.Raw
	files  map[string][]byte
	fuzzy  manifest
	final  manifest
}

type manifest struct {
	StartTs, EndTs, LastTs bson.Timestamp
	Collections            []struct {
		DB, Name, Type, File, Lost string
		UUID                       bson.Binary
		Options                    bson.Raw
		Indexes                    []bson.Raw
	}
}

var (
	recordOnce sync.Once
	record     recorded
)

func theRecord(t testing.TB) *recorded {
	t.Helper()
	recordOnce.Do(func() {
		all := documents(unzstd(t, "replay-oplogs.bson.zst"))
		second := slices.IndexFunc(all[1:], func(x bson.Raw) bool { return bytes.Equal(x, all[0]) }) + 1
		record.oplogs = map[string][]bson.Raw{"v1": all[:second], "v2": all[second:]}
		record.files = map[string][]byte{}
		for r := tar.NewReader(bytes.NewReader(unzstd(t, "replay-states.tar.zst"))); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if record.files[h.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		for name, m := range map[string]*manifest{"fuzzy": &record.fuzzy, "final": &record.final} {
			if err := bson.UnmarshalExtJSON(record.files[name+"/manifest.json"], true, m); err != nil {
				t.Fatal(err)
			}
		}
	})
	return &record
}

func documents(b []byte) (out []bson.Raw) {
	for len(b) > 4 {
		n := binary.LittleEndian.Uint32(b)
		out = append(out, bson.Raw(b[:n:n]))
		b = b[n:]
	}
	return out
}

func each(list []bson.Raw) iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		for _, x := range list {
			if !yield(x, nil) {
				return
			}
		}
	}
}

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

func collectionsOf(m manifest) (colls []seed.Collection, files map[oplog.UUID]string) {
	files = map[oplog.UUID]string{}
	for _, x := range m.Collections {
		if x.Type != "collection" || x.Lost != "" {
			continue
		}
		c := seed.Collection{Collection: schema.Collection{NS: x.DB + "." + x.Name, UUID: oplog.UUID(x.UUID.Data)}}
		if len(x.Options) > 5 {
			c.Options = x.Options
		}
		for _, spec := range x.Indexes {
			if spec.Lookup("name").StringValue() == "_id_" {
				c.IDIndex = spec
			} else {
				c.Indexes = append(c.Indexes, spec)
			}
		}
		files[c.UUID] = x.File
		colls = append(colls, c)
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
	colls, files := collectionsOf(r.fuzzy)
	o := seed.Options{Collections: colls, Connections: 3}
	b := apply.Beginning{
		Start:   oplog.OpTime{TS: bson.Timestamp{T: r.fuzzy.StartTs.T, I: r.fuzzy.StartTs.I - 1}, Term: 1},
		ScanEnd: oplog.OpTime{TS: r.fuzzy.EndTs, Term: 1},
	}
	for i := range colls {
		c := &colls[i]
		b.Collections = append(b.Collections, c.Collection)
		if c.Views() {
			o.Views = append(o.Views, documents(r.files["fuzzy/"+files[c.UUID]])...)
		}
	}
	b.Views = o.Views
	o.Slices = func(_ context.Context, id oplog.UUID, first int64) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			for _, s := range pack(documents(r.files["fuzzy/"+files[id]]), 100)[first:] {
				if !yield(s, nil) {
					return
				}
			}
		}
	}
	o.Window = func(context.Context) iter.Seq2[bson.Raw, error] { return each(r.oplogs["v1"]) }
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
				if err := through(t.Context(), a, r.oplogs[version]); err != nil {
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

func idKey(d bson.Raw) string {
	v, _ := oplog.Lookup(d, "_id")
	return document.Key(v)
}

// compareFinal compares a head with the recorded final state: documents, options and indexes, byte for byte.
func compareFinal(t *testing.T, client *mongo.Client, r *recorded) {
	t.Helper()
	for _, fault := range differences(t.Context(), client, r) {
		t.Error(fault)
	}
}

func differences(ctx context.Context, client *mongo.Client, r *recorded) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	want := map[string]bool{}
	docs := 0
	colls, files := collectionsOf(r.final)
	for i := range colls {
		c := &colls[i]
		db, name := oplog.Split(c.NS)
		want[c.NS] = true
		d := client.Database(db)
		var info struct {
			Options bson.Raw
			Info    struct{ UUID bson.Binary }
			IDIndex bson.Raw `bson:"idIndex"`
		}
		cur, err := d.ListCollections(ctx, bson.D{{Key: "name", Value: name}})
		if err == nil && cur.Next(ctx) {
			err = cur.Decode(&info)
		}
		if err != nil || info.Info.UUID.Data == nil {
			fault("%s is not there: %v", c.NS, err)
			continue
		}
		if got := oplog.UUID(info.Info.UUID.Data); got != c.UUID {
			fault("%s has UUID %s, want %s", c.NS, got, c.UUID)
		}
		if options := c.Options; !bytes.Equal(info.Options, options) && (len(info.Options) > 5 || options != nil) {
			fault("%s has options %s, want %s", c.NS, info.Options, options)
		}
		faults = append(faults, indexDifferences(ctx, d.Collection(name), c)...)
		got, err := read(ctx, d.Collection(name), c.Capped())
		if err != nil {
			fault("%s: %v", c.NS, err)
			continue
		}
		wanted := slices.Clone(documents(r.files["final/"+files[c.UUID]]))
		docs += len(wanted)
		if !c.Capped() {
			sort.Slice(wanted, func(i, j int) bool { return idKey(wanted[i]) < idKey(wanted[j]) })
		}
		if diff := firstDifference(got, wanted); diff != "" {
			fault("%s: %s", c.NS, diff)
		}
	}
	for _, db := range []string{"w1", "w2"} {
		names, err := client.Database(db).ListCollectionNames(ctx, bson.D{{Key: "type", Value: "collection"}})
		if err != nil {
			fault("%v", err)
		}
		for _, n := range names {
			if !want[db+"."+n] {
				fault("%s.%s should not be there", db, n)
			}
		}
	}
	if docs < 1000 {
		fault("compared only %d documents", docs)
	}
	return faults
}

func indexDifferences(ctx context.Context, c *mongo.Collection, want *seed.Collection) []string {
	if want.Views() {
		return nil
	}
	cur, err := c.Indexes().List(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	var got []bson.Raw
	for cur.Next(ctx) {
		got = append(got, bytes.Clone(cur.Current))
	}
	wanted := slices.Clone(want.Indexes)
	if want.IDIndex != nil {
		wanted = append(wanted, want.IDIndex)
	}
	byName := func(a, b bson.Raw) int {
		return strings.Compare(a.Lookup("name").StringValue(), b.Lookup("name").StringValue())
	}
	slices.SortFunc(got, byName)
	slices.SortFunc(wanted, byName)
	if !slices.EqualFunc(got, wanted, func(a, b bson.Raw) bool { return bytes.Equal(sorted(a), sorted(b)) }) {
		return []string{fmt.Sprintf("%s has indexes\n%s, want\n%s", want.NS, got, wanted)}
	}
	return nil
}

// sorted gives the fields of an index in one order: servers list them in the order in which they were said, or not.
func sorted(spec bson.Raw) bson.Raw {
	elems, _ := spec.Elements()
	sort.Slice(elems, func(i, j int) bool { return elems[i].Key() < elems[j].Key() })
	var out []byte
	for _, e := range elems {
		if e.Key() != "ns" {
			out = append(out, e...)
		}
	}
	return bson.Raw(bsoncore.BuildDocument(nil, out))
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

func firstDifference(got, want []bson.Raw) string {
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Sprintf("document %d of %d is\n%s\nwant\n%s", i, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d documents, want %d", len(got), len(want))
	}
	return ""
}
