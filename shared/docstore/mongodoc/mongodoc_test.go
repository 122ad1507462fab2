package mongodoc

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

func fakeEngine(t *testing.T, script func(command string, cmd bson.Raw) bson.D) (*Engine, *fake) {
	t.Helper()
	return fakeEngineWith(t, 0, "", script)
}

// fakeEngineWith is for a server that takes few documents a command, and for more options of the connection string.
func fakeEngineWith(t *testing.T, batch int, more string, script func(command string, cmd bson.Raw) bson.D) (*Engine, *fake) {
	t.Helper()
	f := newFake(t, func(command string, cmd bson.Raw) bson.D {
		if command == "listIndexes" {
			return bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: codeNamespaceNotFound}, {Key: "errmsg", Value: "ns does not exist"}}
		}
		return script(command, cmd)
	})
	f.batch = batch
	e, err := Open(Options{URI: f.uri() + more, Database: "test", SelectionTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if err := e.Ensure(t.Context(), []docstore.Collection{{Name: "a"}, {Name: "b"}}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.log = nil
	f.mu.Unlock()
	return e, f
}

func body(t *testing.T) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(bson.D{{Key: "n", Value: int64(1)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func failure(code int, labels ...string) bson.D {
	d := bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: code}, {Key: "codeName", Value: "Name"}, {Key: "errmsg", Value: "scripted"}}
	if len(labels) > 0 {
		d = append(d, bson.E{Key: "errorLabels", Value: labels})
	}
	return d
}

func found(docs ...any) bson.D {
	return bson.D{{Key: "ok", Value: 1}, {Key: "cursor", Value: bson.D{
		{Key: "id", Value: int64(0)}, {Key: "ns", Value: "test.a"}, {Key: "firstBatch", Value: append(bson.A{}, docs...)},
	}}}
}

func writeErrors(codes map[int]int) bson.D {
	var list bson.A
	for i, code := range codes {
		list = append(list, bson.D{{Key: "index", Value: i}, {Key: "code", Value: code}, {Key: "errmsg", Value: "E11000 index: _id_ dup key"}})
	}
	return bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}, {Key: "writeErrors", Value: list}}
}

// TestOutcomes: what the caller is told for everything a server or a network can do to one write.
func TestOutcomes(t *testing.T) {
	wtimeout := bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 1}, {Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: 64}, {Key: "codeName", Value: "WriteConcernTimeout"}, {Key: "errmsg", Value: "waiting for replication timed out"},
	}}}
	always := func(d bson.D) func(int, bson.Raw) bson.D { return func(int, bson.Raw) bson.D { return d } }
	first := func(d bson.D) func(int, bson.Raw) bson.D {
		return func(n int, _ bson.Raw) bson.D {
			if n == 1 {
				return d
			}
			return nil
		}
	}
	for _, c := range []struct {
		name   string
		op     docstore.OpKind
		answer func(n int, cmd bson.Raw) bson.D // of the n-th write command; nil is success
		find   bson.D                           // answer to a read of revisions
		batch  error
		own    error
	}{
		{name: "success", op: docstore.Insert, answer: always(nil)},
		{name: "the answer is lost, the retry works", op: docstore.Insert, answer: first(drop)},
		{name: "every answer is lost", op: docstore.Insert, answer: always(drop), batch: docstore.ErrOutcomeUnknown},
		{name: "every answer is lost, put", op: docstore.Put, answer: always(drop), batch: docstore.ErrOutcomeUnknown},
		{name: "every answer is lost, replace", op: docstore.Replace, answer: always(drop), batch: docstore.ErrOutcomeUnknown},
		{name: "every answer is lost, delete", op: docstore.Delete, answer: always(drop), batch: docstore.ErrOutcomeUnknown},
		{name: "no majority in time", op: docstore.Insert, answer: always(wtimeout), batch: docstore.ErrOutcomeUnknown},
		{name: "no majority in time, replace", op: docstore.Replace, answer: always(wtimeout), batch: docstore.ErrOutcomeUnknown},
		{name: "the primary steps down, the retry works", op: docstore.Put, answer: first(failure(189, "RetryableWriteError"))},
		{name: "the primary steps down again and again", op: docstore.Put, answer: always(failure(189, "RetryableWriteError")), batch: docstore.ErrOutcomeUnknown},
		{name: "not authorised", op: docstore.Insert, answer: always(failure(13)), batch: docstore.ErrUnavailable},
		{name: "the disk is full", op: docstore.Insert, answer: always(failure(codeOutOfDiskSpace)), batch: docstore.ErrFull},
		{name: "the disk is full for one", op: docstore.Insert, answer: always(writeErrors(map[int]int{0: codeOutOfDiskSpace})), batch: docstore.ErrFull},
		{name: "an error nobody knows", op: docstore.Insert, answer: always(failure(99999)), batch: docstore.ErrOutcomeUnknown},
		{
			name: "taken id", op: docstore.Insert, answer: always(writeErrors(map[int]int{0: codeDuplicateKey})),
			find: found(bson.D{{Key: "_id", Value: "x"}, {Key: "_rev", Value: int64(5)}}), own: docstore.ErrExists,
		},
		{name: "too large for the server", op: docstore.Put, answer: always(writeErrors(map[int]int{0: codeTooLargeToReplace})), own: docstore.ErrTooLarge},
		{name: "two puts at once", op: docstore.Put, answer: first(writeErrors(map[int]int{0: codeDuplicateKey}))},
		{name: "puts that always collide", op: docstore.Put, answer: always(writeErrors(map[int]int{0: codeDuplicateKey})), batch: docstore.ErrOutcomeUnknown},
		{
			name: "replace of another revision", op: docstore.Replace, answer: always(bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}, {Key: "nModified", Value: 0}}),
			find: found(bson.D{{Key: "_id", Value: "x"}, {Key: "_rev", Value: int64(5)}}), own: docstore.ErrConflict,
		},
		{
			name: "replace of nothing", op: docstore.Replace, answer: always(bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}, {Key: "nModified", Value: 0}}),
			find: found(), own: docstore.ErrNotFound,
		},
		{name: "delete that is sent twice and finds nothing", op: docstore.Delete, answer: func(n int, _ bson.Raw) bson.D {
			if n == 1 {
				return drop
			}
			return bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}}
		}, find: found(), batch: docstore.ErrOutcomeUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := 0
			e, _ := fakeEngine(t, func(command string, cmd bson.Raw) bson.D {
				if command == "find" {
					return c.find
				}
				n++
				return c.answer(n, cmd)
			})
			op := docstore.Op{Kind: c.op, Collection: "a", ID: "x", Rev: 3}
			if c.op != docstore.Delete {
				op.Body = body(t)
			}
			// A write that works in the end has all the time it needs; one that never does is tried until the deadline.
			within := time.Minute
			if c.batch != nil {
				within = time.Second
			}
			ctx, stop := context.WithTimeout(t.Context(), within)
			defer stop()
			res, err := e.Write(ctx, []docstore.Op{op}, true)
			if !errors.Is(err, c.batch) || (err == nil) != (c.batch == nil) {
				t.Fatalf("batch error %v, want %v", err, c.batch)
			}
			want := c.own
			if c.batch != nil {
				want = c.batch
			}
			if !errors.Is(res[0].Err, want) || (res[0].Err == nil) != (want == nil) {
				t.Errorf("result %v, want %v", res[0].Err, want)
			}
			if res[0].Err == nil && c.op != docstore.Delete && res[0].Rev == 0 {
				t.Error("no revision")
			}
		})
	}
}

// TestOwnInsertIsRecognised: the server does not remember what it did before the answer was lost, and says the id is taken;
// the revision shows that it is taken by this very insert.
func TestOwnInsertIsRecognised(t *testing.T) {
	var rev int64
	n := 0
	e, f := fakeEngine(t, func(command string, _ bson.Raw) bson.D {
		switch {
		case command == "find":
			return found(bson.D{{Key: "_id", Value: "x"}, {Key: "_rev", Value: rev}})
		case n == 0:
			n++
			return drop
		}
		return writeErrors(map[int]int{0: codeDuplicateKey})
	})
	// The documents of an insert travel in a section of their own, which the fake does not read: the engine's items do.
	results := make([]docstore.Result, 1)
	items := e.prepare([]docstore.Op{{Kind: docstore.Insert, Collection: "a", ID: "x", Body: body(t)}}, true, results)
	f.mu.Lock()
	rev = items[0].rev
	f.mu.Unlock()
	failed, err := e.bulk(t.Context(), items, true, results)
	if err != nil || failed || results[0].Err != nil || results[0].Rev != rev {
		t.Errorf("failed %t, %v, %v", failed, err, results)
	}
	if diff := cmp.Diff([]string{"insert", "insert", "find"}, f.commands()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestRuns(t *testing.T) {
	op := func(kind docstore.OpKind, collection string) docstore.Op {
		o := docstore.Op{Kind: kind, Collection: collection, ID: "x"}
		if kind == docstore.Replace {
			o.Rev = 1
		}
		if kind != docstore.Delete {
			o.Body = body(t)
		}
		return o
	}
	ops := []docstore.Op{
		op(docstore.Insert, "a"), op(docstore.Put, "a"), op(docstore.Put, "b"), op(docstore.Delete, "a"),
		op(docstore.Replace, "a"), op(docstore.Replace, "b"), op(docstore.Insert, "a"),
	}
	e, _ := fakeEngine(t, func(string, bson.Raw) bson.D { return nil })
	for _, c := range []struct {
		ordered bool
		want    [][]int
	}{
		{true, [][]int{{0, 1}, {2}, {3}, {4}, {5}, {6}}},
		{false, [][]int{{0, 1, 3, 6}, {2}, {4, 5}}},
	} {
		var got [][]int
		for _, r := range runs(e.prepare(ops, c.ordered, make([]docstore.Result, len(ops))), c.ordered) {
			var at []int
			for _, it := range r {
				at = append(at, it.at)
			}
			got = append(got, at)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("ordered %t (-want +got):\n%s", c.ordered, diff)
		}
	}
}

// TestPartOfABatch: the first collection is written, then the server is gone: "nothing was written" would be a lie.
func TestPartOfABatch(t *testing.T) {
	e, _ := fakeEngine(t, func(command string, _ bson.Raw) bson.D {
		if command == "update" {
			return failure(13)
		}
		return nil
	})
	for _, ordered := range []bool{true, false} {
		res, err := e.Write(t.Context(), []docstore.Op{
			{Kind: docstore.Insert, Collection: "a", ID: "x", Body: body(t)},
			{Kind: docstore.Put, Collection: "b", ID: "x", Body: body(t)},
		}, ordered)
		if !errors.Is(err, docstore.ErrOutcomeUnknown) || res[0].Err != nil || res[0].Rev == 0 || !errors.Is(res[1].Err, docstore.ErrOutcomeUnknown) {
			t.Errorf("ordered %t: %v, %v", ordered, res, err)
		}
	}
	res, err := e.Write(t.Context(), []docstore.Op{
		{Kind: docstore.Put, Collection: "a", ID: "x", Body: body(t)},
		{Kind: docstore.Put, Collection: "b", ID: "x", Body: body(t)},
	}, false)
	if !errors.Is(err, docstore.ErrUnavailable) || errors.Is(err, docstore.ErrOutcomeUnknown) {
		t.Errorf("nothing of the batch: %v, %v", res, err)
	}
}

// TestOneOfManyRefused: a server that is full, or no longer primary, for one operation has written the others.
func TestOneOfManyRefused(t *testing.T) {
	for _, code := range []int{codeOutOfDiskSpace, codeNotWritablePrimary} {
		e, _ := fakeEngine(t, func(command string, _ bson.Raw) bson.D {
			if command == "insert" {
				return writeErrors(map[int]int{1: code})
			}
			return nil
		})
		var ops []docstore.Op
		for _, id := range []string{"x", "y", "z"} {
			ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: "a", ID: id, Body: body(t)})
		}
		res, err := e.Write(t.Context(), ops, false)
		if !errors.Is(err, docstore.ErrOutcomeUnknown) || res[0].Err != nil || res[1].Err == nil || res[2].Err != nil || res[0].Rev == 0 || res[2].Rev == 0 {
			t.Errorf("code %d, unordered: %v, %v", code, res, err)
		}
		if res, err = e.Write(t.Context(), ops, true); !errors.Is(err, docstore.ErrOutcomeUnknown) || res[0].Err != nil || res[1].Err == nil || res[2].Err == nil {
			t.Errorf("code %d, ordered: %v, %v", code, res, err)
		}
	}
}

// TestNoPrimaryInTheMiddle: a command refused for want of a primary has done nothing only when it had one thing to do.
func TestNoPrimaryInTheMiddle(t *testing.T) {
	e, _ := fakeEngineWith(t, 0, "&retryWrites=false", func(command string, _ bson.Raw) bson.D {
		if command == "insert" {
			return failure(codeNotWritablePrimary)
		}
		return nil
	})
	op := docstore.Op{Kind: docstore.Insert, Collection: "a", ID: "x", Body: body(t)}
	other := op
	other.ID = "y"
	if _, err := e.Write(t.Context(), []docstore.Op{op}, true); !errors.Is(err, docstore.ErrUnavailable) || errors.Is(err, docstore.ErrOutcomeUnknown) {
		t.Errorf("one operation: %v", err)
	}
	if _, err := e.Write(t.Context(), []docstore.Op{op, other}, true); !errors.Is(err, docstore.ErrOutcomeUnknown) {
		t.Errorf("two operations: %v", err)
	}
}

// TestMajorityMissedInTheMiddle: the driver sends a large batch in several commands and forgets that one of them was not
// acknowledged by a majority when a later one has errors of its own.
func TestMajorityMissedInTheMiddle(t *testing.T) {
	n := 0
	e, _ := fakeEngineWith(t, 1, "", func(command string, _ bson.Raw) bson.D {
		switch command {
		case "find":
			return found(bson.D{{Key: "_id", Value: "y"}, {Key: "_rev", Value: int64(5)}})
		case "insert":
			if n++; n == 1 {
				return bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 1}, {Key: "writeConcernError", Value: bson.D{
					{Key: "code", Value: 64}, {Key: "errmsg", Value: "waiting for replication timed out"},
				}}}
			}
			return writeErrors(map[int]int{0: codeDuplicateKey})
		}
		return nil
	})
	var ops []docstore.Op
	for _, id := range []string{"x", "y"} {
		ops = append(ops, docstore.Op{Kind: docstore.Insert, Collection: "a", ID: id, Body: body(t)})
	}
	res, err := e.Write(t.Context(), ops, false)
	if !errors.Is(err, docstore.ErrOutcomeUnknown) || n != 2 {
		t.Errorf("%d commands: %v, %v", n, res, err)
	}
}

// TestRaced: only the server's own words say which index a duplicate is in, not the values it quotes.
func TestRaced(t *testing.T) {
	it := item{coll: &docstore.Collection{Indexes: []docstore.Index{{Name: "old_id_", Unique: true}}}}
	for text, want := range map[string]bool{
		`E11000 duplicate key error collection: db.c index: _id_ dup key: { _id: "x" }`:                                 true,
		`E11000 duplicate key error collection: db.c index: _id_ collation: { locale: "en" } dup key: { _id: "0x1" }`:   true,
		`E11000 duplicate key error collection: db.c index: old_id_ dup key: { name: "x" }`:                             false,
		`E11000 duplicate key error collection: db.c index: name dup key: { name: " index: _id_ dup key: { _id: 1 }" }`: false,
		`E11000 duplicate key error collection: db.c`:                                                                   false,
	} {
		if got := raced(it, opError(codeDuplicateKey, text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	e, err := Open(Options{URI: "mongodb://127.0.0.1:1/?replicaSet=rs0", Database: "test", SelectionTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	if err := e.Ensure(t.Context(), []docstore.Collection{{Name: "a"}}); !errors.Is(err, docstore.ErrUnavailable) {
		t.Errorf("Ensure: %v", err)
	}
	s, err := e.schema.Load().With([]docstore.Collection{{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	e.schema.Store(s)
	if _, err := e.Get(t.Context(), "a", "x"); !errors.Is(err, docstore.ErrUnavailable) {
		t.Errorf("Get: %v", err)
	}
	_, err = e.Write(t.Context(), []docstore.Op{{Kind: docstore.Put, Collection: "a", ID: "x", Body: body(t)}}, true)
	if !errors.Is(err, docstore.ErrUnavailable) || errors.Is(err, docstore.ErrOutcomeUnknown) {
		t.Errorf("Write: %v", err)
	}
}

func TestDeadlineInTheMiddle(t *testing.T) {
	hold := make(chan struct{})
	e, f := fakeEngine(t, func(string, bson.Raw) bson.D {
		<-hold
		return nil
	})
	// The fake answers when the test is over.
	t.Cleanup(func() { f.stop() })
	defer close(hold)
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	_, err := e.Write(ctx, []docstore.Op{{Kind: docstore.Put, Collection: "a", ID: "x", Body: body(t)}}, true)
	if !errors.Is(err, docstore.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write whose caller went: %v", err)
	}
}

func TestNow(t *testing.T) {
	e, _ := fakeEngine(t, func(command string, _ bson.Raw) bson.D {
		if command == "hello" {
			return failure(codeCommandNotFound)
		}
		return nil
	})
	now, err := e.Now(t.Context())
	if err != nil || !now.Equal(time.UnixMilli(1_763_700_000_123)) || now.Location() != time.UTC {
		t.Errorf("%v, %v", now, err)
	}
}

func TestFlatAndSplit(t *testing.T) {
	for _, v := range []any{bson.D{}, bson.D{{Key: "a", Value: 1}, {Key: "b", Value: bson.D{{Key: "_id", Value: 2}}}}} {
		raw, err := bson.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := flat("ü", 1<<62, raw)
		if err := d.Validate(); err != nil {
			t.Fatal(err)
		}
		doc, err := split(d, true)
		if err != nil || doc.ID != "ü" || doc.Rev != 1<<62 || !slices.Equal(doc.Body, raw) {
			t.Errorf("%v, %v", doc, err)
		}
	}
	foreign, err := bson.Marshal(bson.D{{Key: "_id", Value: 7}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := split(foreign, true); !errors.Is(err, errForeign) {
		t.Errorf("a document of somebody else: %v", err)
	}
}

// FuzzSplit feeds what a server may answer to the taking apart of documents.
func FuzzSplit(f *testing.F) {
	empty, err := bson.Marshal(bson.D{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(flat("id", 7, empty)))
	f.Add([]byte(empty))
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := split(b, true)
		if err != nil {
			return
		}
		if again, err := split(flat(doc.ID, doc.Rev, doc.Body), true); err != nil || again.ID != doc.ID || !slices.Equal(again.Body, doc.Body) {
			t.Fatalf("%v became %v, %v", doc, again, err)
		}
	})
}

// TestAPoolIsBoundedUnlessTheURISaysSo: many instances share a deployment, each with few connections.
func TestAPoolIsBoundedUnlessTheURISaysSo(t *testing.T) {
	for _, c := range []struct {
		name, uri  string
		pool, want uint64
	}{
		{"the driver's own bound", "mongodb://127.0.0.1:1/", 0, 100},
		{"a bound", "mongodb://127.0.0.1:1/", 4, 4},
		{"the URI's", "mongodb://127.0.0.1:1/?maxPoolSize=7", 4, 7},
	} {
		var got *options.ClientOptions
		e, err := Open(Options{URI: c.uri, Database: "x", PoolSize: c.pool, Configure: func(o *options.ClientOptions) { got = o }})
		if err != nil {
			t.Fatal(err)
		}
		_ = e.Close()
		if have := got.MaxPoolSize; have == nil || *have != c.want {
			t.Errorf("%s: %v", c.name, have)
		}
	}
}
