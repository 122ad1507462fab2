package oplog_test

import (
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/plan"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

// BenchmarkPlan decodes entries, folds them and plans their writes, on one goroutine, with nothing written: what the core
// costs. The recorded workload has 22,870 entries with a transaction or a command every 16; the small ones are inserts and
// updates of documents of about 200 bytes, as many again.
func BenchmarkPlan(b *testing.B) {
	streams := recorded()
	streams["small CRUD"] = smallEntries(b, 20_000)
	for _, name := range []string{"$v 1", "$v 2", "small CRUD"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n += planAll(b, streams[name])
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// planAll goes through a stream as an applier does, over a map of documents, whose upkeep is part of the time.
func planAll(b *testing.B, entries []bson.Raw) int {
	cat, err := schema.New()
	if err != nil {
		b.Fatal(err)
	}
	buf := txn.New(nil)
	o := plan.Options{MaxOps: 5000}
	batch := plan.New(o)
	docs := map[oplog.UUID]map[string]bson.Raw{}
	fold := func() {
		for _, f := range batch.Fetches() {
			for _, id := range append(f.IDs, f.Presence...) {
				if d := docs[f.UUID][document.Key(id)]; d != nil {
					if err := batch.Found(f.UUID, d); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		out, err := batch.Fold()
		if err != nil {
			b.Fatal(err)
		}
		for i := range out.Writes {
			w := &out.Writes[i]
			w.Lanes(4)
			if docs[w.Collection.UUID] == nil {
				docs[w.Collection.UUID] = map[string]bson.Raw{}
			}
			for _, g := range w.Deletes {
				delete(docs[w.Collection.UUID], document.Key(g.ID))
			}
			for _, puts := range [][]plan.Put{w.Inserts, w.Replaces, w.Upserts} {
				for _, p := range puts {
					docs[w.Collection.UUID][document.Key(p.ID)] = p.Doc
				}
			}
		}
		batch = plan.New(o)
	}
	for _, raw := range entries {
		e, err := oplog.Decode(raw)
		if err != nil {
			b.Fatal(err)
		}
		if v, err := buf.Add(e); err != nil || v != txn.Apply && v != txn.Commit {
			continue
		}
		for op, err := range buf.Operations(e) {
			if err != nil {
				b.Fatal(err)
			}
			next, err := batch.Add(cat, op)
			if err != nil {
				b.Fatal(err)
			}
			if next == plan.Barrier {
				fold()
				if _, _, err := cat.Apply(op); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := buf.Done(e); err != nil {
			b.Fatal(err)
		}
		if batch.Full() {
			fold()
		}
	}
	fold()
	return len(entries)
}

func smallEntries(b *testing.B, n int) []bson.Raw {
	out := []bson.Raw{entry(b, `{"op":"c","ns":"a.$cmd","ui":UUID,"o":{"create":"c","idIndex":{"v":2,"key":{"_id":1},"name":"_id_"}}}`)}
	head := func(i int) string {
		return fmt.Sprintf(`{"ts":{"$timestamp":{"t":11,"i":%d}},"t":{"$numberLong":"1"},"v":{"$numberLong":"2"},"wall":{"$date":{"$numberLong":"11000"}},"ns":"a.c","ui":UUID,`, i+1)
	}
	for i := range n {
		id := fmt.Sprintf(`{"$oid":"%024x"}`, i/2)
		if i%2 == 0 {
			out = append(out, entry(b, head(i)+`"op":"i","o":{"_id":`+id+`,"name":"customer number one","balance":12.5,"tags":["a","b","c"],"address":{"street":"Long Street 5","city":"Springfield","zip":"01234"},"at":{"$date":{"$numberLong":"11000"}},"n":1}}`))
			continue
		}
		out = append(out, entry(b, head(i)+`"op":"u","o2":{"_id":`+id+`},"o":{"$v":2,"diff":{"u":{"n":2},"saddress":{"u":{"zip":"99999"}},"i":{"seen":true}}}}`))
	}
	return out
}
