package apply_test

import (
	"fmt"
	"iter"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

var benchUUID = oplog.UUID{1, 6: 0x40, 8: 0x80}

// workload is an oplog of n entries on small documents: half inserts, and on what is there diffs, replaces and deletes.
func workload(n, size int) []bson.Raw {
	pad := strings.Repeat("x", size)
	out := make([]bson.Raw, 0, n)
	entry := func(op string, o, o2 []byte) {
		b := bsoncore.AppendTimestampElement(nil, "ts", uint32(100+len(out)/1000), uint32(1+len(out)%1000))
		b = bsoncore.AppendInt64Element(b, "t", 1)
		b = bsoncore.AppendInt64Element(b, "v", 2)
		b = bsoncore.AppendStringElement(b, "op", op)
		b = bsoncore.AppendStringElement(b, "ns", "bench.c")
		b = bsoncore.AppendBinaryElement(b, "ui", bson.TypeBinaryUUID, benchUUID[:])
		b = bsoncore.AppendDocumentElement(b, "o", o)
		if o2 != nil {
			b = bsoncore.AppendDocumentElement(b, "o2", o2)
		}
		b = bsoncore.AppendDateTimeElement(b, "wall", 1_700_000_000_000)
		out = append(out, bson.Raw(bsoncore.BuildDocument(nil, b)))
	}
	id := func(i int) []byte {
		return bsoncore.BuildDocument(nil, bsoncore.AppendInt64Element(nil, "_id", int64(i)))
	}
	doc := func(i, n int) []byte {
		b := bsoncore.AppendInt64Element(nil, "_id", int64(i))
		b = bsoncore.AppendInt64Element(b, "n", int64(n))
		return bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(b, "pad", pad))
	}
	made := 0
	for i := 0; len(out) < n; i++ {
		switch i % 8 {
		default:
			entry("i", doc(made, 0), nil)
			made++
		case 4, 5: // a diff of n
			u := bsoncore.BuildDocument(nil, bsoncore.AppendInt64Element(nil, "n", int64(i)))
			diff := bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(nil, "u", u))
			o := bsoncore.AppendInt32Element(nil, "$v", 2)
			entry("u", bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(o, "diff", diff)), id((i*7919)%made|1))
		case 6:
			entry("u", doc((i*104729)%made|1, i), id((i*104729)%made|1))
		case 7: // even ones are deleted, once each; the others are changed
			if at := made / 2 * 2; at >= 2 {
				entry("d", id(at-2), nil)
				entry("i", doc(at-2, i), nil)
			}
		}
	}
	return out[:n]
}

// BenchmarkPlan is the way from entries as they are stored to what is written, without a head: decode, transactions, fold.
func BenchmarkPlan(b *testing.B) {
	entries := workload(200_000, 150)
	cat, err := schema.New(schema.Collection{UUID: benchUUID, NS: "bench.c"})
	if err != nil {
		b.Fatal(err)
	}
	done := 0
	for b.Loop() {
		buf := txn.New(nil)
		batch := plan.New(plan.Options{Fuzzy: true, Behind: true}) // documents of earlier batches are not given: fuzzy
		for _, raw := range entries {
			e, err := oplog.Decode(raw)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := buf.Add(e); err != nil {
				b.Fatal(err)
			}
			for op, err := range buf.Operations(e) {
				if err == nil {
					_, err = batch.Add(cat, op)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			if batch.Full() {
				if _, err := batch.Fold(); err != nil {
					b.Fatal(err)
				}
				batch = plan.New(plan.Options{Fuzzy: true, Behind: true})
			}
		}
		done += len(entries)
	}
	b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkApply applies to a head; BenchmarkPlain gives the head the same documents by plain commands of the driver.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct {
		name   string
		behind bool
	}{{"in place", false}, {"two-phase", true}} {
		b.Run(c.name, func(b *testing.B) {
			m, release := heads(b)
			h := start(b, m, release, filepath.Join(b.TempDir(), "head"))
			entries := workload(200_000, 150)
			done, runs := 0, 0
			for b.Loop() {
				b.StopTimer()
				if err := h.Client().Database("bench").Drop(b.Context()); err != nil {
					b.Fatal(err)
				}
				runs++
				dir := filepath.Join(b.TempDir(), fmt.Sprint(runs))
				cat := schema.Collection{UUID: benchUUID, NS: "bench.c"}
				op := bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: "bench.$cmd"}, {Key: "ui", Value: bson.Binary{Subtype: 4, Data: benchUUID[:]}}, {Key: "o", Value: bson.D{{Key: "create", Value: "c"}}}}
				if err := h.Client().Database("admin").RunCommand(b.Context(), bson.D{{Key: "applyOps", Value: bson.A{op}}}).Err(); err != nil {
					b.Fatal(err)
				}
				if err := apply.Begin(dir, apply.Beginning{Collections: []schema.Collection{cat}}); err != nil {
					b.Fatal(err)
				}
				a, err := apply.Open(b.Context(), apply.Options{Client: h.Client(), Dir: dir})
				if err != nil {
					b.Fatal(err)
				}
				a.Behind(c.behind)
				b.StartTimer()
				if err := a.Apply(b.Context(), each(entries), bson.Timestamp{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				done += len(entries)
				if err := a.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkPlain is the measure for BenchmarkApply: what the head takes when the same final documents are written to it
// with the driver's own calls, 1,000 a command, one connection, without folding, journal or redo log.
func BenchmarkPlain(b *testing.B) {
	m, release := heads(b)
	h := start(b, m, release, filepath.Join(b.TempDir(), "head"))
	c := h.Client().Database("bench").Collection("c")
	for _, name := range []string{"insertMany", "delete and insertMany"} {
		b.Run(name, func(b *testing.B) {
			entries := workload(200_000, 150)
			var docs []any
			var ids []bson.RawValue
			for _, e := range entries {
				if e.Lookup("op").StringValue() == "i" && len(docs) < 1<<30 {
					docs = append(docs, e.Lookup("o").Document())
					ids = append(ids, e.Lookup("o", "_id"))
				}
			}
			seen := map[int64]bool{}
			n := 0
			for i, id := range ids {
				if !seen[id.Int64()] {
					seen[id.Int64()] = true
					docs[n], ids[n] = docs[i], id
					n++
				}
			}
			docs, ids = docs[:n], ids[:n]
			done := 0
			for b.Loop() {
				if name == "insertMany" {
					b.StopTimer()
					if err := c.Drop(b.Context()); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				for at := 0; at < n; at += 1000 {
					to := min(at+1000, n)
					if name != "insertMany" {
						if _, err := c.DeleteMany(b.Context(), bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids[at:to]}}}}); err != nil {
							b.Fatal(err)
						}
					}
					if _, err := c.InsertMany(b.Context(), docs[at:to]); err != nil {
						b.Fatal(err)
					}
				}
				done += n
			}
			b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "docs/s")
		})
	}
}

// TestMemoryStaysBounded applies what would not fit: a transaction of many entries and diffs on large documents.
func TestMemoryStaysBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes some hundred megabytes")
	}
	m, release := heads(t)
	h := start(t, m, release, filepath.Join(t.TempDir(), "head"))
	w := &world{t: t, h: h, db: "large0"}
	w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"c"}`)
	create := w.entries[0]
	id := w.uuid(1)
	session := bsoncore.BuildDocument(nil, bsoncore.AppendBinaryElement(nil, "id", bson.TypeBinaryUUID, id[:]))
	stamp := func(i int) []byte {
		b := bsoncore.AppendTimestampElement(nil, "ts", uint32(2000+i), 1)
		return bsoncore.AppendInt64Element(bsoncore.AppendInt64Element(b, "t", 1), "v", 2)
	}
	pad := strings.Repeat("y", 15<<20)
	const parts, documents = 20, 12
	entries := func(yield func(bson.Raw, error) bool) {
		if !yield(create, nil) {
			return
		}
		at := 0
		// 300 MB in one transaction, each entry a document of 15 MB (more than 16 MB with a second one).
		for i := range parts {
			doc := bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(bsoncore.AppendInt64Element(nil, "_id", int64(i)), "pad", pad))
			op := bsoncore.AppendStringElement(bsoncore.AppendStringElement(nil, "op", "i"), "ns", "large0.c")
			op = bsoncore.AppendBinaryElement(op, "ui", bson.TypeBinaryUUID, id[:])
			op = bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(op, "o", doc))
			o := bsoncore.AppendArrayElement(nil, "applyOps", bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(nil, "0", op)))
			if i < parts-1 {
				o = bsoncore.AppendBooleanElement(o, "partialTxn", true)
			} else {
				o = bsoncore.AppendInt64Element(o, "count", parts)
			}
			prev := bsoncore.AppendInt64Element(bsoncore.AppendTimestampElement(nil, "ts", 0, 0), "t", -1)
			if i > 0 {
				prev = bsoncore.AppendInt64Element(bsoncore.AppendTimestampElement(nil, "ts", uint32(2000+i-1), 1), "t", 1)
			}
			b := bsoncore.AppendStringElement(bsoncore.AppendStringElement(stamp(i), "op", "c"), "ns", "admin.$cmd")
			b = bsoncore.AppendInt64Element(bsoncore.AppendDocumentElement(b, "lsid", session), "txnNumber", 1)
			b = bsoncore.AppendDocumentElement(b, "prevOpTime", bsoncore.BuildDocument(nil, prev))
			if !yield(bson.Raw(bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(b, "o", bsoncore.BuildDocument(nil, o)))), nil) {
				return
			}
			at = i
		}
		// Small diffs that need all these documents at once.
		for i := range documents * 3 {
			u := bsoncore.BuildDocument(nil, bsoncore.AppendInt64Element(nil, "n", int64(i)))
			section := "u"
			if i < documents {
				section = "i"
			}
			diff := bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(nil, section, u))
			b := bsoncore.AppendStringElement(bsoncore.AppendStringElement(stamp(at+1+i), "op", "u"), "ns", "large0.c")
			b = bsoncore.AppendBinaryElement(b, "ui", bson.TypeBinaryUUID, id[:])
			b = bsoncore.AppendDocumentElement(b, "o2", bsoncore.BuildDocument(nil, bsoncore.AppendInt64Element(nil, "_id", int64(i%documents))))
			b = bsoncore.AppendDocumentElement(b, "o", bsoncore.BuildDocument(nil, bsoncore.AppendDocumentElement(bsoncore.AppendInt32Element(nil, "$v", 2), "diff", diff)))
			if !yield(bson.Raw(bsoncore.BuildDocument(nil, b)), nil) {
				return
			}
		}
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(250 << 20)) // garbage counts for nothing
	a := w.open(apply.Options{})
	stop := peak()
	if err := a.Apply(t.Context(), iter.Seq2[bson.Raw, error](entries), bson.Timestamp{}); err != nil {
		t.Fatal(err)
	}
	most := stop()
	t.Logf("%d MB of heap at most, for 300 MB in one transaction and %d documents of 15 MB in one batch", most>>20, documents)
	if most > 400<<20 {
		t.Errorf("%d MB", most>>20)
	}
	cur, err := h.Client().Database(w.db).Collection("c").Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for cur.Next(t.Context()) {
		i := int(cur.Current.Lookup("_id").Int64())
		if v := cur.Current.Lookup("n"); i < documents && v.Int64() != int64(2*documents+i) {
			t.Errorf("document %d has n %s", i, v)
		}
		n++
	}
	if n != parts {
		t.Errorf("%d documents, want %d", n, parts)
	}
}

// peak watches the heap until it is asked for the most it saw.
func peak() func() uint64 {
	runtime.GC()
	debug.FreeOSMemory()
	end, out := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for {
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			most = max(most, s.HeapInuse)
			select {
			case <-end:
				out <- most
				return
			default:
				time.Sleep(time.Millisecond)
			}
		}
	}()
	return func() uint64 { close(end); return <-out }
}
