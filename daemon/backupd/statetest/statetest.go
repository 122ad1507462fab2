// Package statetest holds the state of a head, or of what came of one, against what a real replica set recorded: the oplog of a
// workload, a copy that was read under it, and the final state of the server. For tests only.
package statetest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
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

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// Record is the recording.
type Record struct {
	Oplogs map[string][]bson.Raw // "v1" has updates as servers before 5.0 write them, "v2" as those since do (diffs)
	Files  map[string][]byte
	Fuzzy  Manifest // the copy; its files begin with "fuzzy/"
	Final  Manifest // the final state; its files begin with "final/"
}

// Manifest lists the collections of a recorded state.
type Manifest struct {
	StartTs, EndTs, LastTs bson.Timestamp
	Collections            []Collection
}

// Collection is one of a Manifest.
type Collection struct {
	DB, Name, Type, File, Lost string
	UUID                       bson.Binary
	Options                    bson.Raw
	Indexes                    []bson.Raw
}

// Databases of the workload.
var Databases = []string{"w1", "w2"} //nolint:gochecknoglobals // constant

var ( //nolint:gochecknoglobals // read once
	once   sync.Once
	record *Record
	failed error
)

// Recorded gives the recording. It is read once for all tests of a package: who changes it puts it back.
func Recorded(t testing.TB) *Record {
	t.Helper()
	once.Do(func() { record, failed = load(filepath.Join(harness.Root(t), "shared/oplog/testdata")) })
	if failed != nil {
		t.Fatal(failed)
	}
	return record
}

func load(dir string) (*Record, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	unpack := func(name string) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		return d.DecodeAll(b, nil)
	}
	b, err := unpack("replay-oplogs.bson.zst")
	if err != nil {
		return nil, err
	}
	all := Documents(b)
	second := slices.IndexFunc(all[1:], func(x bson.Raw) bool { return bytes.Equal(x, all[0]) }) + 1
	r := &Record{Oplogs: map[string][]bson.Raw{"v1": all[:second], "v2": all[second:]}, Files: map[string][]byte{}}
	if b, err = unpack("replay-states.tar.zst"); err != nil {
		return nil, err
	}
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if r.Files[h.Name], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
	return r, errors.Join(
		bson.UnmarshalExtJSON(r.Files["fuzzy/manifest.json"], true, &r.Fuzzy),
		bson.UnmarshalExtJSON(r.Files["final/manifest.json"], true, &r.Final))
}

// Documents splits documents that lie one after another.
func Documents(b []byte) (out []bson.Raw) {
	for len(b) > 4 {
		n := binary.LittleEndian.Uint32(b)
		out = append(out, bson.Raw(b[:n:n]))
		b = b[n:]
	}
	return out
}

// Each is a list as appliers take it.
func Each(list []bson.Raw) iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		for _, x := range list {
			if !yield(x, nil) {
				return
			}
		}
	}
}

// IDKey orders documents by _id, in some order.
func IDKey(d bson.Raw) string {
	v, _ := oplog.Lookup(d, "_id")
	return document.Key(v)
}

// ByID sorts documents by IDKey.
func ByID(docs []bson.Raw) {
	sort.Slice(docs, func(i, j int) bool { return IDKey(docs[i]) < IDKey(docs[j]) })
}

// Schema is a collection's, and whether it is one (of a view there is only its document in system.views; a lost one was dropped
// while it was read).
func (x *Collection) Schema() (schema.Collection, bool) {
	if x.Type != "collection" || x.Lost != "" {
		return schema.Collection{}, false
	}
	c := schema.Collection{NS: x.DB + "." + x.Name, UUID: oplog.UUID(x.UUID.Data)}
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
	return c, true
}

// enough documents must be compared for a comparison to say anything.
const enough = 1000

// Differences compares a server with the recorded final state: every collection with its UUID, options and indexes, and its
// documents byte for byte. Each fault is a sentence.
func Differences(ctx context.Context, client *mongo.Client, r *Record) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	want := map[string]bool{}
	docs := 0
	for i := range r.Final.Collections {
		x := &r.Final.Collections[i]
		c, ok := x.Schema()
		if !ok {
			continue
		}
		want[c.NS] = true
		faults = append(faults, optionDifferences(ctx, client.Database(x.DB), x.Name, &c)...)
		faults = append(faults, indexDifferences(ctx, client.Database(x.DB).Collection(x.Name), &c)...)
		got, err := readAll(ctx, client.Database(x.DB).Collection(x.Name))
		if err != nil {
			fault("%s: %v", c.NS, err)
			continue
		}
		if diff := r.Documents(x, got); diff != "" {
			faults = append(faults, diff)
		}
		docs += len(got)
	}
	for _, db := range Databases {
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
	if docs < enough {
		fault("compared only %d documents", docs)
	}
	return faults
}

// Documents compares the documents of a collection with those of the final state: in their order for a capped one. "" for no
// difference.
func (r *Record) Documents(x *Collection, got []bson.Raw) string {
	c, _ := x.Schema()
	got, want := slices.Clone(got), Documents(r.Files["final/"+x.File])
	if !c.Capped() {
		ByID(got)
		ByID(want)
	}
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Sprintf("%s: document %d of %d is\n%s\nwant\n%s", c.NS, i, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%s: %d documents, want %d", c.NS, len(got), len(want))
	}
	return ""
}

// Dump compares BSON files in mongodump's layout (DB/COLLECTION.bson) with the final state.
func (r *Record) Dump(dir string) (faults []string) {
	seen := map[string]bool{}
	docs := 0
	for i := range r.Final.Collections {
		x := &r.Final.Collections[i]
		c, ok := x.Schema()
		if !ok || c.Views() || !slices.Contains(Databases, x.DB) {
			continue
		}
		path := filepath.Join(dir, x.DB, strings.ReplaceAll(x.Name, " ", "%20")+".bson")
		seen[path] = true
		b, err := os.ReadFile(path)
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		got := Documents(b)
		docs += len(got)
		if diff := r.Documents(x, got); diff != "" {
			faults = append(faults, diff)
		}
	}
	for _, db := range Databases {
		all, _ := filepath.Glob(filepath.Join(dir, db, "*.bson"))
		for _, f := range all {
			if !seen[f] {
				faults = append(faults, f+" should not be there")
			}
		}
	}
	if docs < enough {
		faults = append(faults, fmt.Sprintf("compared only %d documents", docs))
	}
	return faults
}

func optionDifferences(ctx context.Context, db *mongo.Database, name string, want *schema.Collection) (faults []string) {
	var info struct {
		Options bson.Raw
		Info    struct{ UUID bson.Binary }
	}
	cur, err := db.ListCollections(ctx, bson.D{{Key: "name", Value: name}})
	if err == nil && cur.Next(ctx) {
		err = cur.Decode(&info)
	}
	if err != nil || info.Info.UUID.Data == nil {
		return []string{fmt.Sprintf("%s is not there: %v", want.NS, err)}
	}
	if got := oplog.UUID(info.Info.UUID.Data); got != want.UUID {
		faults = append(faults, fmt.Sprintf("%s has UUID %s, want %s", want.NS, got, want.UUID))
	}
	if !bytes.Equal(info.Options, want.Options) && (len(info.Options) > 5 || want.Options != nil) {
		faults = append(faults, fmt.Sprintf("%s has options %s, want %s", want.NS, info.Options, want.Options))
	}
	return faults
}

func indexDifferences(ctx context.Context, c *mongo.Collection, want *schema.Collection) []string {
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

func readAll(ctx context.Context, c *mongo.Collection) (out []bson.Raw, err error) {
	cur, err := c.Find(ctx, bson.D{})
	if err != nil {
		return nil, err
	}
	for cur.Next(ctx) {
		out = append(out, bytes.Clone(cur.Current))
	}
	return out, cur.Err()
}
