package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// dump is all that a deployment holds at a moment: namespace to what is there. It is the oracle of the cases: what the source
// held at T is what a restore to T must hold, byte for byte.
type dump map[string]*content

// content is a collection or view.
type content struct {
	kind    string   // collection, view or timeseries
	options string   // as canonical extended JSON, names of the first level sorted; without the UUID
	indexes []string // the same for each
	docs    []document
	ordered bool // the order of the documents counts: a capped collection
}

// document is a document, or what identifies one that is large.
type document struct {
	id, raw string
	size    int
}

// largest is how large a document may be to be kept as it is.
const largest = 16 << 10

func newDocument(raw bson.Raw) document {
	d := document{size: len(raw)}
	if id := raw.Lookup("_id"); id.Type != 0 {
		d.id = string(byte(id.Type)) + string(id.Value)
	}
	if len(raw) <= largest {
		d.raw = string(raw)
	} else {
		sum := sha256.Sum256(raw)
		d.raw = string(sum[:])
	}
	return d
}

func (d document) String() string {
	if d.size > largest {
		return fmt.Sprintf("a document of %d bytes, SHA-256 %x, _id %x", d.size, d.raw, d.id)
	}
	return bson.Raw(d.raw).String()
}

// sortedJSON is a document with the names of its first level sorted, without some of them.
func sortedJSON(raw bson.Raw, without ...string) (string, error) {
	var d bson.D
	if len(raw) > 0 {
		if err := bson.Unmarshal(raw, &d); err != nil {
			return "", err
		}
	}
	d = slices.DeleteFunc(d, func(e bson.E) bool { return slices.Contains(without, e.Key) })
	slices.SortFunc(d, func(a, b bson.E) int { return strings.Compare(a.Key, b.Key) })
	b, err := bson.MarshalExtJSON(d, true, false)
	return string(b), err
}

// takeDump reads everything that keep says is to be the same in a restore.
func takeDump(ctx context.Context, c *mongo.Client, keep func(ns string) bool) (dump, error) {
	names, err := c.ListDatabaseNames(ctx, bson.D{})
	if err != nil {
		return nil, err
	}
	var (
		mu    sync.Mutex
		out   = dump{}
		first error
		wg    sync.WaitGroup
		room  = make(chan struct{}, 4)
	)
	for _, db := range names {
		if db == "local" || db == "config" {
			continue
		}
		cur, err := c.Database(db).ListCollections(ctx, bson.D{})
		if err != nil {
			return nil, err
		}
		var all []struct {
			Name    string
			Type    string
			Options bson.Raw
		}
		if err := cur.All(ctx, &all); err != nil {
			return nil, err
		}
		for _, coll := range all {
			ns := db + "." + coll.Name
			if !keep(ns) {
				continue
			}
			x := &content{kind: coll.Type}
			// A server that starts drops collections that are temporary, so that a head keeps them as others.
			if x.options, err = sortedJSON(coll.Options, "temp"); err != nil {
				return nil, err
			}
			capped, _ := coll.Options.Lookup("capped").BooleanOK()
			x.ordered = capped
			wg.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				err := x.read(ctx, c.Database(db).Collection(coll.Name))
				mu.Lock()
				defer mu.Unlock()
				if err != nil && first == nil {
					first = fmt.Errorf("%s: %w", ns, err)
				}
				// One that is empty stays behind when the last view is dropped.
				if coll.Name == "system.views" && len(x.docs) == 0 {
					return
				}
				out[ns] = x
			})
		}
	}
	wg.Wait()
	return out, first
}

func (x *content) read(ctx context.Context, coll *mongo.Collection) error {
	if x.kind != "collection" {
		return nil // a view's pipeline is in its options; a time series' documents are in its buckets
	}
	cur, err := coll.Find(ctx, bson.D{}, options.Find().SetHint(bson.D{{Key: "$natural", Value: 1}}))
	if err != nil {
		return err
	}
	for cur.Next(ctx) {
		x.docs = append(x.docs, newDocument(cur.Current))
	}
	if err := cur.Err(); err != nil {
		return err
	}
	if !x.ordered {
		slices.SortFunc(x.docs, func(a, b document) int { return strings.Compare(a.id, b.id) })
	}
	if cur, err = coll.Indexes().List(ctx); err != nil {
		return err
	}
	for cur.Next(ctx) {
		spec, err := sortedJSON(cur.Current, "ns")
		if err != nil {
			return err
		}
		x.indexes = append(x.indexes, spec)
	}
	slices.Sort(x.indexes)
	return cur.Err()
}

// count is how many documents a dump holds.
func (d dump) count() (n int) {
	for _, x := range d {
		n += len(x.docs)
	}
	return n
}

// differences are what is not the same in a restore, at most some.
func differences(want, got dump) []string {
	var out []string
	say := func(format string, a ...any) {
		if len(out) < 40 {
			out = append(out, fmt.Sprintf(format, a...))
		}
	}
	all := maps.Clone(want)
	maps.Copy(all, got)
	for _, ns := range slices.Sorted(maps.Keys(all)) {
		w, g := want[ns], got[ns]
		switch {
		case w == nil:
			say("%s is there, and should not be: %s, %d documents", ns, g.kind, len(g.docs))
		case g == nil:
			say("%s is missing: %s, %d documents", ns, w.kind, len(w.docs))
		default:
			if w.kind != g.kind || w.options != g.options {
				say("%s is %s %s, and should be %s %s", ns, g.kind, g.options, w.kind, w.options)
			}
			if !slices.Equal(w.indexes, g.indexes) {
				say("indexes of %s:\n  are     %s\n  were to %s", ns, strings.Join(g.indexes, "\n          "), strings.Join(w.indexes, "\n          "))
			}
			for _, d := range differentDocuments(w, g) {
				say("%s: %s", ns, d)
			}
		}
	}
	return out
}

func differentDocuments(w, g *content) []string {
	if slices.Equal(w.docs, g.docs) {
		return nil
	}
	var out []string
	if w.ordered {
		if len(w.docs) != len(g.docs) {
			out = append(out, fmt.Sprintf("%d documents, and should be %d", len(g.docs), len(w.docs)))
		}
		for i := range min(len(w.docs), len(g.docs)) {
			if w.docs[i] != g.docs[i] {
				return append(out, fmt.Sprintf("document %d is %v, and should be %v", i, g.docs[i], w.docs[i]))
			}
		}
		return out
	}
	want, got := map[string]document{}, map[string]document{}
	for _, d := range w.docs {
		want[d.id] = d
	}
	for _, d := range g.docs {
		got[d.id] = d
	}
	for id, d := range want {
		if x, there := got[id]; !there {
			out = append(out, fmt.Sprintf("missing: %v", d))
		} else if x != d {
			out = append(out, fmt.Sprintf("is %v, and should be %v", x, d))
		}
	}
	for id, d := range got {
		if _, there := want[id]; !there {
			out = append(out, fmt.Sprintf("should not be there: %v", d))
		}
	}
	return append([]string{fmt.Sprintf("%d documents differ", len(out))}, out[:min(3, len(out))]...)
}

// bsonFiles reads an archive of BSON files as a dump without options and indexes: those are in JSON beside them.
func bsonFiles(top string) (dump, error) {
	out := dump{}
	var files []string
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".bson") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		x := &content{kind: "collection"}
		for r := bytes.NewReader(b); r.Len() > 0; {
			raw, err := bson.ReadDocument(r)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			x.docs = append(x.docs, newDocument(raw))
		}
		slices.SortFunc(x.docs, func(a, b document) int { return strings.Compare(a.id, b.id) })
		if _, err := os.Stat(strings.TrimSuffix(file, ".bson") + ".metadata.json"); err != nil {
			return nil, err
		}
		out[filepath.Base(filepath.Dir(file))+"."+strings.TrimSuffix(filepath.Base(file), ".bson")] = x
	}
	return out, nil
}
