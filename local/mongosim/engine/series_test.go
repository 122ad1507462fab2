package engine

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// entries are the oplog of a world as lines: what is done, where, and the fields of what a test looks at.
func (w *world) entries() (out []string) {
	for _, x := range w.log {
		line := x.Op + " " + x.NS
		switch x.Op {
		case "c":
			name := bsonval.FirstKey(x.O)
			line += " " + name + " " + bsonval.StringField(x.O, name)
		case "u":
			diff := field(x.O, "diff")
			for k, v := range bsonval.Each(bsonval.SubDoc(diff)) {
				line += " " + k + "{"
				for k := range bsonval.Each(bsonval.SubDoc(v)) {
					line += k + " "
				}
				line = strings.TrimSuffix(line, " ") + "}"
			}
		}
		out = append(out, line)
	}
	w.log = nil
	return out
}

// TestTimeSeries makes, fills, changes and drops time series: what is in the oplog is a collection of buckets and a document of
// system.views, and whoever replays that has the same measurements.
func TestTimeSeries(t *testing.T) {
	for version, compressed := range map[Version]bool{{Major: 5}: false, {Major: 7}: false, {Major: 8}: true} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			w := newWorld(t, Options{Version: version, DiffUpdates: true})
			w.log = nil
			run := func(db string, cmd bson.D) bson.Raw {
				t.Helper()
				r := w.run(db, raw(t, cmd))
				if _, bad := bsonval.Lookup(r, "writeErrors"); bad || number(r, "ok") != 1 {
					t.Fatalf("%v: %s", cmd, r)
				}
				return r
			}
			wants := func(want ...string) {
				t.Helper()
				if got := w.entries(); strings.Join(got, "\n") != strings.Join(want, "\n") {
					t.Errorf("the oplog is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
			series := bson.D{{Key: "create", Value: "s"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}, {Key: "metaField", Value: "m"}}}, {Key: "expireAfterSeconds", Value: 3600}}
			at := func(min int) bson.DateTime { return bson.DateTime(1_700_000_000_000 + int64(min)*60_000) }
			put := func(db string, min int, m string, extra ...bson.E) {
				t.Helper()
				run(db, bson.D{{Key: "insert", Value: "s"}, {Key: "documents", Value: bson.A{append(bson.D{{Key: "_id", Value: min}, {Key: "t", Value: at(min)}, {Key: "m", Value: m}}, extra...)}}})
			}
			for _, db := range []string{"a", "b"} {
				run(db, series)
				want := []string{"c " + db + ".$cmd create system.buckets.s", "c " + db + ".$cmd create system.views", "i " + db + ".system.views"}
				if version.AtLeast(6, 3) { // from then on a series has an index over both fields
					want = append(want, "c "+db+".$cmd createIndexes system.buckets.s")
				}
				wants(want...)
			}
			if r := w.run("a", raw(t, series)); number(r, "code") != CodeNamespaceExists {
				t.Errorf("made twice: %s", r)
			}

			put("a", 0, "x", bson.E{Key: "v", Value: 1.5})
			put("a", 1, "x", bson.E{Key: "v", Value: 2.5})
			put("a", 2, "x", bson.E{Key: "w", Value: "new column"})
			put("a", 2, "y", bson.E{Key: "v", Value: 7})
			put("a", 90, "x", bson.E{Key: "v", Value: 0.5}) // past the span
			if compressed {
				wants("i a.system.buckets.s", "u a.system.buckets.s scontrol{u smax} sdata{b}", "u a.system.buckets.s scontrol{u smin smax} sdata{i b}", "i a.system.buckets.s", "i a.system.buckets.s")
			} else {
				wants("i a.system.buckets.s", "u a.system.buckets.s scontrol{smax} sdata{s_id st sv}", "u a.system.buckets.s scontrol{smin smax} sdata{i s_id st}", "i a.system.buckets.s", "i a.system.buckets.s")
			}
			found := func(e *Engine, db string) string {
				t.Helper()
				r := e.Run(context.Background(), &Session{ID: 1, Internal: true}, db, raw(t, bson.D{{Key: "find", Value: "s"}, {Key: "filter", Value: bson.D{}}, {Key: "sort", Value: bson.D{{Key: "_id", Value: 1}, {Key: "m", Value: 1}}}}))
				return field(r, "cursor", "firstBatch").String()
			}
			want, err := bson.MarshalExtJSON(bson.D{{Key: "v", Value: bson.A{
				bson.D{{Key: "t", Value: at(0)}, {Key: "m", Value: "x"}, {Key: "_id", Value: 0}, {Key: "v", Value: 1.5}},
				bson.D{{Key: "t", Value: at(1)}, {Key: "m", Value: "x"}, {Key: "_id", Value: 1}, {Key: "v", Value: 2.5}},
				bson.D{{Key: "t", Value: at(2)}, {Key: "m", Value: "x"}, {Key: "_id", Value: 2}, {Key: "w", Value: "new column"}},
				bson.D{{Key: "t", Value: at(2)}, {Key: "m", Value: "y"}, {Key: "_id", Value: 2}, {Key: "v", Value: 7}},
				bson.D{{Key: "t", Value: at(90)}, {Key: "m", Value: "x"}, {Key: "_id", Value: 90}, {Key: "v", Value: 0.5}},
			}}}, true, false)
			if err != nil {
				t.Fatal(err)
			}
			wanted := parse(t, want)
			if got := found(w.e, "a"); got != field(bson.Raw(wanted.Value), "v").String() {
				t.Errorf("measurements %s\nwant %s", got, wanted)
			}

			// Another granularity changes the view, then the buckets; a finer one is refused.
			run("a", bson.D{{Key: "collMod", Value: "s"}, {Key: "timeseries", Value: bson.D{{Key: "granularity", Value: "minutes"}}}})
			wants("u a.system.views", "c a.$cmd collMod system.buckets.s")
			if r := w.run("a", raw(t, bson.D{{Key: "collMod", Value: "s"}, {Key: "timeseries", Value: bson.D{{Key: "granularity", Value: "seconds"}}}})); number(r, "code") != CodeInvalidOptions {
				t.Errorf("a finer granularity: %s", r)
			}
			run("a", bson.D{{Key: "collMod", Value: "s"}, {Key: "expireAfterSeconds", Value: 60}})
			wants("c a.$cmd collMod system.buckets.s")
			list := field(run("a", bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: "s"}}}}), "cursor", "firstBatch", "0")
			doc := bsonval.SubDoc(list)
			if bsonval.StringField(doc, "type") != "timeseries" || number(doc, "options", "timeseries", "bucketMaxSpanSeconds") != 86400 || number(doc, "options", "expireAfterSeconds") != 60 ||
				bsonval.Str(field(doc, "options", "timeseries", "timeField")) != "t" || bsonval.Truthy(field(doc, "info", "readOnly")) {
				t.Errorf("listed as %s", doc)
			}
			put("a", 91+60, "x", bson.E{Key: "v", Value: 9}) // the longer span takes it into the bucket of minute 90
			if got := w.entries(); len(got) != 1 || !strings.HasPrefix(got[0], "u a.system.buckets.s") {
				t.Errorf("a later measurement: %s", got)
			}
			run("a", bson.D{{Key: "createIndexes", Value: "s"}, {Key: "indexes", Value: bson.A{bson.D{{Key: "key", Value: bson.D{{Key: "m", Value: 1}, {Key: "t", Value: -1}}}, {Key: "name", Value: "mt"}}}}})
			indexes := field(run("a", bson.D{{Key: "listIndexes", Value: "system.buckets.s"}}), "cursor", "firstBatch")
			if !strings.Contains(indexes.String(), `"meta": {"$numberInt":"1"},"control.max.t": {"$numberInt":"-1"},"control.min.t"`) {
				t.Errorf("the index over buckets is in %s", indexes)
			}
			over := field(run("a", bson.D{{Key: "listIndexes", Value: "s"}}), "cursor", "firstBatch")
			if !strings.Contains(over.String(), `"key": {"m": {"$numberInt":"1"},"t": {"$numberInt":"-1"}}`) || strings.Contains(over.String(), "clustered") {
				t.Errorf("the index over the series is in %s", over)
			}

			// A secondary has the same.
			entries, ok := w.e.OplogAfter(OpTime{}, 1000)
			if !ok {
				t.Fatal("oplog")
			}
			other := newWorld(t, Options{Version: version, DiffUpdates: true})
			if err := other.e.Apply(context.Background(), entries); err != nil {
				t.Fatal(err)
			}
			if a, b := found(w.e, "a"), found(other.e, "a"); a != b {
				t.Errorf("replayed: %s\nwant %s", b, a)
			}
			buckets := func(w *world) (out []byte) {
				c := w.collection("a.system.buckets.s")
				for _, doc := range c.Records.Ascend(0) {
					out = append(out, doc...)
				}
				return append(out, c.Options...)
			}
			if !bytes.Equal(buckets(w), buckets(other)) {
				t.Error("the replayed buckets, or their options, are others")
			}

			w.entries()
			run("a", bson.D{{Key: "drop", Value: "s"}})
			if got := strings.Join(w.entries(), ", "); got != "d a.system.views, c a.$cmd drop system.buckets.s" {
				t.Errorf("dropped by %s", got)
			}
			if w.collection("a.s") != nil || w.collection("a.system.buckets.s") != nil || w.collection("b.system.buckets.s") == nil {
				t.Error("the wrong series is gone")
			}
		})
	}
	w := newWorld(t, Options{Version: Version{Major: 4, Minor: 4}})
	if r := w.run("a", raw(t, bson.D{{Key: "create", Value: "s"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}}}})); number(r, "code") != 40415 {
		t.Errorf("a server before 5.0: %s", r)
	}
}

func TestABucketTakesAThousandMeasurements(t *testing.T) {
	for _, version := range []Version{{Major: 6}, {Major: 8}} {
		w := newWorld(t, Options{Version: version, DiffUpdates: true})
		w.must(`{"create": "s", "timeseries": {"timeField": "t"}}`)
		var docs bson.A
		for i := range 1001 {
			d := bson.D{{Key: "t", Value: bson.DateTime(1_700_000_000_000 + int64(i))}, {Key: "_id", Value: i}}
			if i%3 == 0 {
				d = append(d, bson.E{Key: "only", Value: fmt.Sprint(i)}, bson.E{Key: "doc", Value: bson.D{{Key: "a", Value: bson.A{i, nil}}}})
			}
			docs = append(docs, d)
		}
		if r := w.run("semantics", raw(t, bson.D{{Key: "insert", Value: "s"}, {Key: "documents", Value: docs}})); number(r, "n") != 1001 {
			t.Fatalf("%.300s", r)
		}
		if n := w.collection("semantics.system.buckets.s").Records.Len(); n != 2 {
			t.Errorf("%v: %d buckets", version, n)
		}
		for i, v := range bsonval.Values(bson.Raw(w.documents("s").Value)) {
			if want := raw(t, docs[i].(bson.D)); !bytes.Equal(v.Value, want) {
				t.Fatalf("%v: measurement %d is %s, want %s", version, i, v, want)
			}
		}
	}
}
