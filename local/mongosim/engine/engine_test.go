package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

func raw(t testing.TB, d bson.D) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func field(r bson.Raw, path ...string) bson.RawValue {
	v, _ := bsonval.Lookup(r, path[0])
	for _, p := range path[1:] {
		v, _ = bsonval.Lookup(bsonval.SubDoc(v), p)
	}
	return v
}

func number(r bson.Raw, path ...string) int64 {
	n, _ := bsonval.Integer(field(r, path...))
	return n
}

func lsid(n byte) bson.D {
	return bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: bytes.Repeat([]byte{n}, 16)}}}
}

func TestRetriedWritesAreDoneOnce(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, Options{DBPath: dir, NoSync: true})
	w.must(`{"insert": "c", "documents": [{"_id": {"$numberInt": "1"}, "n": {"$numberInt": "0"}}]}`)
	inc := bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}
	stmt := func(q, u any, upsert bool) bson.D {
		return bson.D{{Key: "q", Value: q}, {Key: "u", Value: u}, {Key: "upsert", Value: upsert}}
	}
	update := raw(t, bson.D{
		{Key: "update", Value: "c"},
		{Key: "lsid", Value: lsid(1)},
		{Key: "txnNumber", Value: int64(1)},
		{Key: "updates", Value: bson.A{stmt(bson.D{{Key: "_id", Value: 1}}, inc, false), stmt(bson.D{{Key: "_id", Value: 2}}, inc, true)}},
	})
	modify := raw(t, bson.D{
		{Key: "findAndModify", Value: "c"},
		{Key: "query", Value: bson.D{{Key: "_id", Value: 1}}},
		{Key: "update", Value: inc},
		{Key: "lsid", Value: lsid(2)},
		{Key: "txnNumber", Value: int64(1)},
	})
	first, firstM := w.run("semantics", update), w.run("semantics", modify)
	again := func(w *world) {
		t.Helper()
		if r := w.run("semantics", update); number(r, "n") != 2 || number(r, "upserted", "0", "_id") != 2 {
			t.Errorf("retried: %s, first: %s", r, first)
		}
		if got := w.documents("c"); !bsonval.Equal(got, parse(t, []byte(`[{"_id": {"$numberInt": "1"}, "n": {"$numberInt": "2"}}, {"_id": {"$numberInt": "2"}, "n": {"$numberInt": "1"}}]`))) {
			t.Errorf("documents: %s", got)
		}
	}
	again(w)
	if r := w.run("semantics", modify); !bytes.Equal(r, firstM) {
		t.Errorf("retried findAndModify: %s, first %s", r, firstM)
	}
	old := raw(t, bson.D{
		{Key: "delete", Value: "c"},
		{Key: "deletes", Value: bson.A{bson.D{{Key: "q", Value: bson.D{}}, {Key: "limit", Value: 0}}}},
		{Key: "lsid", Value: lsid(1)},
		{Key: "txnNumber", Value: int64(0)},
	})
	if r := w.run("semantics", old); number(r, "code") != CodeTransactionTooOld {
		t.Errorf("an older number: %s", r)
	}

	// A member that has replayed the entries knows them too, and so does this one after a restart.
	entries, ok := w.e.OplogAfter(OpTime{}, 1000)
	if !ok {
		t.Fatal("oplog")
	}
	other := newWorld(t, Options{})
	if err := other.e.Apply(context.Background(), entries); err != nil {
		t.Fatal(err)
	}
	again(other)
	if r := other.run("semantics", modify); number(r, "value", "n") != 1 {
		t.Errorf("findAndModify retried elsewhere: %s", r)
	}
	if err := w.e.Close(false); err != nil {
		t.Fatal(err)
	}
	again(newWorld(t, Options{DBPath: dir, NoSync: true}))
}

// txnCmd adds the fields of a transaction.
func txnCmd(d bson.D, n byte, start bool) bson.D {
	d = append(d, bson.E{Key: "lsid", Value: lsid(n)}, bson.E{Key: "txnNumber", Value: int64(1)}, bson.E{Key: "autocommit", Value: false})
	if start {
		d = append(d, bson.E{Key: "startTransaction", Value: true})
	}
	return d
}

func TestAWriteWaitsForATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.must(`{"insert": "c", "documents": [{"_id": {"$numberInt": "1"}, "n": {"$numberInt": "0"}}]}`)
		update := func(by int) bson.D {
			return bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{
				{Key: "q", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "u", Value: bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: by}}}}},
			}}}}
		}
		if r := w.run("semantics", raw(t, txnCmd(update(10), 1, true))); number(r, "n") != 1 {
			t.Fatal(r)
		}
		if got := number(bson.Raw(w.documents("c").Value), "0", "n"); got != 0 {
			t.Errorf("seen outside before the commit: %d", got)
		}
		// Another transaction meets a conflict at once, a plain write waits.
		if r := w.run("semantics", raw(t, txnCmd(update(100), 2, true))); number(r, "code") != CodeWriteConflict {
			t.Errorf("second transaction: %s", r)
		}
		done := make(chan bson.Raw)
		go func() { done <- w.run("semantics", raw(t, update(1))) }()
		synctest.Wait()
		select {
		case r := <-done:
			t.Fatalf("did not wait: %s", r)
		default:
		}
		commit := raw(t, txnCmd(bson.D{{Key: "commitTransaction", Value: 1}}, 1, false))
		for range 2 { // the second is a retry
			if r := w.run("admin", commit); number(r, "ok") != 1 {
				t.Errorf("commit: %s", r)
			}
		}
		if r := <-done; number(r, "nModified") != 1 {
			t.Errorf("waited: %s", r)
		}
		if got := number(bson.Raw(w.documents("c").Value), "0", "n"); got != 11 {
			t.Errorf("n is %d, want 11", got)
		}
		// A transaction whose client is gone is ended when its time is over.
		if r := w.run("semantics", raw(t, txnCmd(update(1000), 3, true))); number(r, "n") != 1 {
			t.Fatal(r)
		}
		before := time.Now()
		if r := w.run("semantics", raw(t, update(1))); number(r, "nModified") != 1 || time.Since(before) != time.Minute {
			t.Errorf("after %v: %s", time.Since(before), r)
		}
	})
}

func TestTailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.must(`{"insert": "c", "documents": [{"_id": {"$numberInt": "1"}}]}`)
		find := raw(t, bson.D{
			{Key: "find", Value: "oplog.rs"},
			{Key: "filter", Value: bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: bson.Timestamp{T: 1}}}}}},
			{Key: "tailable", Value: true},
			{Key: "awaitData", Value: true},
		})
		r := w.run("local", find)
		id := field(r, "cursor", "id")
		if n := len(bsonval.Values(bsonval.SubDoc(field(r, "cursor", "firstBatch")))); n != 2 || id.Int64() == 0 {
			t.Fatalf("first batch: %s", r)
		}
		more := raw(t, bson.D{{Key: "getMore", Value: id.Int64()}, {Key: "collection", Value: "oplog.rs"}, {Key: "maxTimeMS", Value: 5000}})
		before := time.Now()
		if r := w.run("local", more); number(r, "cursor", "id") != id.Int64() || time.Since(before) != 5*time.Second {
			t.Errorf("nothing new after %v: %s", time.Since(before), r)
		}
		got := make(chan bson.Raw)
		go func() { got <- w.run("local", more) }()
		synctest.Wait()
		w.must(`{"insert": "c", "documents": [{"_id": {"$numberInt": "2"}}]}`)
		if r := <-got; number(r, "cursor", "nextBatch", "0", "o", "_id") != 2 {
			t.Errorf("news: %s", r)
		}
		go func() { got <- w.run("local", more) }()
		synctest.Wait()
		_ = w.e.Close(false)
		if r := <-got; number(r, "code") != CodeInterruptedAtShutdown {
			t.Errorf("at shutdown: %s", r)
		}
	})
}

func TestTailingBehindACappedCollection(t *testing.T) {
	w := newWorld(t, Options{})
	w.must(`{"create": "cap", "capped": true, "size": {"$numberInt": "100000"}, "max": {"$numberInt": "3"}}`)
	w.must(`{"insert": "cap", "documents": [{"_id": {"$numberInt": "1"}}]}`)
	r := w.must(`{"find": "cap", "tailable": true}`)
	id := field(r, "cursor", "id").Int64()
	for i := range 5 {
		w.must(fmt.Sprintf(`{"insert": "cap", "documents": [{"_id": {"$numberInt": "1%d"}}]}`, i))
	}
	r = w.run("semantics", raw(t, bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: "cap"}}))
	if number(r, "code") != 136 {
		t.Errorf("a cursor left behind: %s", r)
	}
}

func TestGateIsAskedUnderTheLock(t *testing.T) {
	primary := true
	calls := 0
	w := newWorld(t, Options{Gate: func(_ *Session, r *Request) *Error {
		if r.Kind == KindWrite {
			if calls++; !primary {
				return Errf(CodeNotWritablePrimary, "not primary")
			}
		}
		return nil
	}})
	cmd := raw(t, bson.D{
		{Key: "insert", Value: "c"},
		{Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 1}}}},
		{Key: "lsid", Value: lsid(1)},
		{Key: "txnNumber", Value: int64(1)},
	})
	if r := w.run("db", cmd); number(r, "n") != 1 || calls != 2 {
		t.Errorf("%d calls: %s", calls, r)
	}
	w.e.Exclusive(func() { primary = false })
	r := w.run("db", cmd)
	if number(r, "code") != CodeNotWritablePrimary || bsonval.Str(field(r, "errorLabels", "0")) != "RetryableWriteError" {
		t.Errorf("after stepping down: %s", r)
	}
	if r := w.run("db", raw(t, bson.D{{Key: "count", Value: "c"}})); number(r, "n") != 1 {
		t.Errorf("read: %s", r)
	}
}

// TestCrash cuts the journal at every length its last frames can have and looks for what was acknowledged.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, Options{DBPath: dir, NoSync: true})
	var sizes []int64
	path := filepath.Join(dir, "journal", "journal-00000000")
	for i := range 4 {
		w.must(fmt.Sprintf(`{"insert": "c", "documents": [{"_id": {"$numberInt": "%d"}}]}`, i))
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, fi.Size())
	}
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := sizes[1]; cut <= sizes[3]; cut += 7 {
		d := t.TempDir()
		if err := os.Mkdir(filepath.Join(d, "journal"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "journal", "journal-00000000"), full[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again := newWorld(t, Options{DBPath: d, NoSync: true})
		want := 2
		if cut >= sizes[2] {
			want = 3
		}
		if cut >= sizes[3] {
			want = 4
		}
		if n := len(bsonval.Values(bsonval.SubDoc(again.documents("c")))); n != want {
			t.Fatalf("cut at %d: %d documents, want %d", cut, n, want)
		}
		again.must(`{"insert": "c", "documents": [{"_id": "after"}]}`)
		if err := again.e.Close(true); err != nil {
			t.Fatal(err)
		}
		third := newWorld(t, Options{DBPath: d, NoSync: true})
		if n := len(bsonval.Values(bsonval.SubDoc(third.documents("c")))); n != want+1 {
			t.Fatalf("cut at %d, clean stop: %d documents, want %d", cut, n, want+1)
		}
	}
}

func TestCopyFrom(t *testing.T) {
	src := newWorld(t, Options{})
	src.must(`{"insert": "c", "documents": [{"_id": {"$numberInt": "1"}, "a": {"$numberInt": "5"}}]}`)
	src.must(`{"createIndexes": "c", "indexes": [{"key": {"a": {"$numberInt": "1"}}, "name": "a_1", "unique": true}]}`)
	dir := t.TempDir()
	dst := newWorld(t, Options{DBPath: dir, NoSync: true})
	dst.must(`{"insert": "stale", "documents": [{"_id": {"$numberInt": "1"}}]}`)
	if err := dst.e.CopyFrom(src.e); err != nil {
		t.Fatal(err)
	}
	if err := dst.e.Close(false); err != nil {
		t.Fatal(err)
	}
	dst = newWorld(t, Options{DBPath: dir, NoSync: true})
	if dst.e.LastOpTime() != src.e.LastOpTime() {
		t.Errorf("position %v, want %v", dst.e.LastOpTime(), src.e.LastOpTime())
	}
	r := dst.run("semantics", raw(t, bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 2}, {Key: "a", Value: 5.0}}}}}))
	if number(r, "writeErrors", "0", "code") != CodeDuplicateKey {
		t.Errorf("unique index after a copy: %s", r)
	}
	if dst.collection("semantics.stale") != nil {
		t.Error("what was there before stayed")
	}
}

func TestManyAtOnce(t *testing.T) {
	w := newWorld(t, Options{DBPath: t.TempDir(), NoSync: true})
	w.must(`{"createIndexes": "c", "indexes": [{"key": {"k": {"$numberInt": "1"}}, "name": "k_1", "unique": true}]}`)
	const workers, each = 8, 50
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for g := range workers {
		wg.Go(func() {
			for i := range each {
				// All workers try for the same keys: one of them gets each.
				doc := bson.D{{Key: "_id", Value: fmt.Sprintf("%d/%d", g, i)}, {Key: "k", Value: i}}
				r := w.run("semantics", raw(t, bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{doc}}}))
				mu.Lock()
				won += int(number(r, "n"))
				mu.Unlock()
				_ = w.run("semantics", raw(t, bson.D{{Key: "find", Value: "c"}, {Key: "filter", Value: bson.D{{Key: "k", Value: bson.D{{Key: "$gte", Value: i}}}}}, {Key: "sort", Value: bson.D{{Key: "k", Value: 1}}}, {Key: "limit", Value: 3}}))
			}
		})
	}
	wg.Wait()
	if won != each {
		t.Errorf("%d inserts won, want %d", won, each)
	}
}

// TestPlans compares what indexes give with what a plain scan gives.
func TestPlans(t *testing.T) {
	w := newWorld(t, Options{})
	plain := newWorld(t, Options{})
	for i := range 300 {
		doc := fmt.Sprintf(`{"insert": "c", "documents": [{"_id": {"$numberInt": "%d"}, "a": {"$numberInt": "%d"}, "b": {"$numberInt": "%d"}, "s": "%c"}]}`,
			i, i%7, i*31%50, 'a'+rune(i%26))
		w.must(doc)
		plain.must(doc)
	}
	for i, key := range []string{`"a": {"$numberInt": "1"}, "b": {"$numberInt": "-1"}`, `"b": {"$numberInt": "1"}`, `"s": {"$numberInt": "-1"}, "a": {"$numberInt": "1"}, "_id": {"$numberInt": "1"}`} {
		w.must(fmt.Sprintf(`{"createIndexes": "c", "indexes": [{"key": {%s}, "name": "i%d"}]}`, key, i))
	}
	filters := []bson.D{
		{},
		{{Key: "a", Value: 3}},
		{{Key: "a", Value: 3}, {Key: "b", Value: bson.D{{Key: "$gt", Value: 10}, {Key: "$lte", Value: 40}}}},
		{{Key: "b", Value: bson.D{{Key: "$in", Value: bson.A{1, 5, 49}}}}},
		{{Key: "s", Value: bson.D{{Key: "$lt", Value: "d"}}}},
		{{Key: "s", Value: "c"}, {Key: "a", Value: bson.D{{Key: "$gte", Value: 2}}}},
		{{Key: "_id", Value: bson.D{{Key: "$gte", Value: 290}}}},
		{{Key: "_id", Value: bson.D{{Key: "$in", Value: bson.A{5, 4, 900}}}}},
		{{Key: "b", Value: bson.D{{Key: "$lt", Value: "x"}}}},
		{{Key: "$or", Value: bson.A{bson.D{{Key: "a", Value: 1}}, bson.D{{Key: "b", Value: 2}}}}},
		{{Key: "a", Value: nil}},
	}
	sorts := []bson.D{
		{{Key: "_id", Value: 1}},
		{{Key: "_id", Value: -1}},
		{{Key: "a", Value: 1}, {Key: "b", Value: -1}, {Key: "_id", Value: 1}},
		{{Key: "b", Value: -1}, {Key: "_id", Value: 1}},
		{{Key: "s", Value: 1}, {Key: "a", Value: -1}, {Key: "_id", Value: -1}},
		{{Key: "s", Value: -1}, {Key: "a", Value: 1}, {Key: "_id", Value: 1}},
	}
	for _, f := range filters {
		for _, s := range sorts {
			for _, limit := range []int{0, 1, 7} {
				cmd := raw(t, bson.D{{Key: "find", Value: "c"}, {Key: "filter", Value: f}, {Key: "sort", Value: s}, {Key: "skip", Value: 2}, {Key: "limit", Value: limit}, {Key: "batchSize", Value: 1000}})
				if a, b := w.run("semantics", cmd), plain.run("semantics", cmd); !bytes.Equal(a, b) {
					t.Fatalf("filter %v sort %v limit %d:\n with indexes %.300s\n without     %.300s", f, s, limit, a, b)
				}
			}
		}
	}
	if w.e.Stats().ScanAndOrder.Load() >= plain.e.Stats().ScanAndOrder.Load() {
		t.Error("indexes gave no order")
	}
}

// TestApplyOps compares with what a server answered to an applier.
func TestApplyOps(t *testing.T) {
	b, err := os.ReadFile("testdata/replies.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded map[string]json.RawMessage
	if err := json.Unmarshal(b, &recorded); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Options{})
	if r := w.run("shop", raw(t, bson.D{{Key: "create", Value: "ao"}})); number(r, "ok") != 1 {
		t.Fatal(r)
	}
	ns := bson.E{Key: "ns", Value: "shop.ao"}
	op := func(kind string, o bson.D, o2 bson.D) bson.D {
		d := bson.D{{Key: "op", Value: kind}, ns, {Key: "o", Value: o}}
		if o2 != nil {
			d = append(d, bson.E{Key: "o2", Value: o2})
		}
		return d
	}
	id := func(n int) bson.D { return bson.D{{Key: "_id", Value: n}} }
	set := bson.D{{Key: "$set", Value: bson.D{{Key: "a", Value: 1}}}}
	for _, c := range []struct {
		name string
		ops  bson.A
		more bson.D
	}{
		{name: "applyOpsInsertTwice", ops: bson.A{op("i", id(1), nil), op("i", id(1), nil)}},
		{name: "applyOpsUpdateMissing", ops: bson.A{op("u", set, id(777))}},
		{name: "applyOpsUpdateMissingNoUpsert", ops: bson.A{op("u", set, id(778))}, more: bson.D{{Key: "alwaysUpsert", Value: false}}},
		{name: "applyOpsDiffV2", ops: bson.A{op("u", bson.D{{Key: "$v", Value: 2}, {Key: "diff", Value: bson.D{}}}, id(1))}},
		{name: "applyOpsDeleteMissing", ops: bson.A{op("d", id(99), nil)}},
		{name: "applyOpsCreate", ops: bson.A{bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: "shop.$cmd"}, {Key: "o", Value: bson.D{{Key: "create", Value: "made"}}}}}},
		{name: "applyOpsUnknownNs", ops: bson.A{bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: "nodb.nocoll"}, {Key: "o", Value: id(5)}}}},
		{name: "badCommand", more: bson.D{{Key: "noSuchCommand", Value: 1}}},
	} {
		cmd := append(bson.D{{Key: "applyOps", Value: c.ops}}, c.more...)
		if c.ops == nil {
			cmd = c.more
		}
		r := w.run("admin", raw(t, cmd))
		if d := w.differs("reply", parse(t, recorded[c.name]), bsonval.Doc(r), true); d != "" {
			t.Errorf("%s: %s\n %s", c.name, d, r)
		}
	}
}
