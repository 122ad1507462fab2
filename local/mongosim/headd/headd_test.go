package headd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/local/mongosim/headd"
)

// head is a stand-in that runs in this process.
type head struct {
	*mongo.Client
	port int
	dir  string
	log  logged
	stop context.CancelFunc
	done chan int
}

// logged keeps a head's log and says when it listens.
type logged struct {
	mu    sync.Mutex
	b     bytes.Buffer
	ready chan struct{}
}

// Write takes a line.
func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(b, []byte("Waiting for connections")) {
		close(l.ready)
	}
	return l.b.Write(b)
}

// String is what was logged.
func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// freePort gives a port nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// start runs a head over dir and connects to it.
func start(t testing.TB, dir, version string, flags ...string) *head {
	t.Helper()
	h := &head{port: freePort(t), dir: dir, done: make(chan int, 1), log: logged{ready: make(chan struct{})}}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	args := append([]string{"mongod", "--dbpath", dir, "--port", strconv.Itoa(h.port), "--bind_ip", "127.0.0.1", "--storageEngine", "wiredTiger"}, flags...)
	go func() { h.done <- headd.Run(ctx, args, version, &h.log, &h.log) }()
	select {
	case <-h.log.ready:
	case got := <-h.done:
		stop()
		t.Fatalf("exit code %d\n%s", got, h.log.String())
	}
	c, err := mongo.Connect(options.Client().ApplyURI(fmt.Sprintf("mongodb://127.0.0.1:%d/?directConnection=true&serverSelectionTimeoutMS=10000", h.port)))
	if err != nil {
		t.Fatal(err)
	}
	h.Client = c
	if err := c.Ping(context.Background(), nil); err != nil {
		stop()
		t.Fatalf("%v\n%s", err, h.log.String())
	}
	t.Cleanup(func() { h.end(t) })
	return h
}

// end stops the head cleanly; a second call does nothing.
func (h *head) end(t testing.TB) {
	t.Helper()
	if h.stop == nil {
		return
	}
	h.stop()
	h.stop = nil
	code := <-h.done
	gone, cancel := context.WithCancel(context.Background()) // nobody is there to say goodbye to
	cancel()
	_ = h.Disconnect(gone)
	if code != headd.ExitClean {
		t.Fatalf("exit code %d\n%s", code, h.log.String())
	}
}

// run runs a command on a database and gives its reply; a refusal is the error.
func (h *head) run(db string, cmd any) (bson.Raw, error) {
	return h.Database(db).RunCommand(context.Background(), cmd).Raw()
}

// must runs a command that has to work.
func (h *head) must(t testing.TB, db string, cmd any) bson.Raw {
	t.Helper()
	r, err := h.run(db, cmd)
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return r
}

// code is the code of a refusal, 0 for none.
func code(err error) int {
	var c mongo.ServerError
	if errors.As(err, &c) {
		return c.ErrorCodes()[0]
	}
	return 0
}

// all reads a collection in natural order.
func (h *head) all(t testing.TB, db, coll string) []bson.D {
	t.Helper()
	cur, err := h.Database(db).Collection(coll).Find(context.Background(), bson.D{}, options.Find().SetSort(bson.D{{Key: "$natural", Value: 1}}))
	if err != nil {
		t.Fatal(err)
	}
	out := []bson.D{}
	if err := cur.All(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func uuid(n byte) bson.Binary { return bson.Binary{Subtype: 4, Data: bytes.Repeat([]byte{n}, 16)} }

// uuids are the collections of a database with their UUIDs.
func (h *head) uuids(t testing.TB, db string) map[string]bson.Binary {
	t.Helper()
	specs, err := h.Database(db).ListCollectionSpecifications(context.Background(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bson.Binary{}
	for _, s := range specs {
		if s.UUID != nil {
			out[s.Name] = *s.UUID
		}
	}
	return out
}

func applyOps(ops ...bson.D) bson.D { return bson.D{{Key: "applyOps", Value: ops}} }

func create(name string, ui byte, more ...bson.E) bson.D {
	return bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: "db.$cmd"}, {Key: "ui", Value: uuid(ui)}, {Key: "o", Value: append(bson.D{{Key: "create", Value: name}}, more...)}}
}

func TestCreateKeepsTheUUID(t *testing.T) {
	h := start(t, t.TempDir(), "7.0.14")
	h.must(t, "admin", applyOps(create("a", 1)))
	h.must(t, "admin", applyOps(create("a", 1))) // again: nothing
	h.must(t, "db", bson.D{{Key: "insert", Value: "a"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 1}}}}})
	h.must(t, "admin", applyOps(create("b", 1))) // the same collection under another name
	h.must(t, "admin", applyOps(create("a", 2)))
	if diff := cmp.Diff(map[string]bson.Binary{"a": uuid(2), "b": uuid(1)}, h.uuids(t, "db")); diff != "" {
		t.Error(diff)
	}
	h.must(t, "admin", applyOps(create("a", 3))) // the one of that name goes out of the way
	got := h.uuids(t, "db")
	if len(got) != 3 || !cmp.Equal(got["a"], uuid(3)) || !cmp.Equal(got["b"], uuid(1)) {
		t.Errorf("collections %v", got)
	}
	if docs := h.all(t, "db", "b"); len(docs) != 1 {
		t.Errorf("documents %v", docs)
	}
}

func TestApplyOps(t *testing.T) {
	op := func(kind, ns string, o bson.D, more ...bson.E) bson.D {
		return append(bson.D{{Key: "op", Value: kind}, {Key: "ns", Value: ns}, {Key: "o", Value: o}}, more...)
	}
	id := func(n int) bson.E { return bson.E{Key: "o2", Value: bson.D{{Key: "_id", Value: n}}} }
	doc := func(n int, more ...bson.E) bson.D { return append(bson.D{{Key: "_id", Value: n}}, more...) }
	strict := bson.E{Key: "alwaysUpsert", Value: false}
	for _, c := range []struct {
		name    string
		cmd     bson.D
		version string
		code    int
		want    []bson.D // db.c afterwards; nil: not looked at
	}{
		{"insert, over one that is there", applyOps(op("i", "db.c", doc(1, bson.E{Key: "a", Value: int32(2)}))), "7.0.14", 0, []bson.D{{{Key: "_id", Value: int32(1)}, {Key: "a", Value: int32(2)}}}},
		{"names that begin with a dollar", applyOps(op("i", "db.c", doc(2, bson.E{Key: "$x", Value: int32(2)}))), "4.4.0", 0, []bson.D{{{Key: "_id", Value: int32(1)}}, {{Key: "_id", Value: int32(2)}, {Key: "$x", Value: int32(2)}}}},
		{"delete of an absent document", applyOps(op("d", "db.c", doc(9))), "7.0.14", 0, []bson.D{{{Key: "_id", Value: int32(1)}}}},
		{"delete in a missing collection", applyOps(op("d", "db.none", doc(9))), "7.0.14", 0, nil},
		{"insert into a missing collection", applyOps(op("i", "db.none", doc(9))), "7.0.14", 26, nil},
		{"update of an absent document", append(applyOps(op("u", "db.c", bson.D{{Key: "$v", Value: 2}, {Key: "diff", Value: bson.D{{Key: "i", Value: bson.D{{Key: "a", Value: int32(1)}}}}}}, id(9)), op("i", "db.c", doc(3))), strict), "7.0.14", 8, []bson.D{{{Key: "_id", Value: int32(1)}}, {{Key: "_id", Value: int32(3)}}}},
		{"the same before 6.0: all or nothing", append(applyOps(op("i", "db.c", doc(3)), op("u", "db.c", bson.D{{Key: "$set", Value: bson.D{{Key: "a", Value: int32(1)}}}}, id(9))), strict), "4.4.0", 218, []bson.D{{{Key: "_id", Value: int32(1)}}}},
		{"a diff before 5.0", applyOps(op("u", "db.c", bson.D{{Key: "$v", Value: 2}, {Key: "diff", Value: bson.D{}}}, id(1))), "4.4.0", 40682, nil},
		{"a diff", applyOps(op("u", "db.c", bson.D{{Key: "$v", Value: 2}, {Key: "diff", Value: bson.D{{Key: "i", Value: bson.D{{Key: "a", Value: int32(1)}}}}}}, id(1))), "5.0.0", 0, []bson.D{{{Key: "_id", Value: int32(1)}, {Key: "a", Value: int32(1)}}}},
		{"a name and the UUID of another collection", applyOps(op("i", "db.c", doc(5), bson.E{Key: "ui", Value: uuid(8)})), "7.0.14", 3318200, nil},
		{"prepare", append(applyOps(op("i", "db.c", doc(5))), bson.E{Key: "prepare", Value: true}), "7.0.14", 2, nil},
		{"partialTxn", append(applyOps(op("i", "db.c", doc(5))), bson.E{Key: "partialTxn", Value: true}), "7.0.14", 31056, nil},
		{"count", append(applyOps(op("i", "db.c", doc(5))), bson.E{Key: "count", Value: 1}), "7.0.14", 31240, nil},
		{"createIndexes", applyOps(op("c", "db.$cmd", bson.D{{Key: "createIndexes", Value: "c"}, {Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "a", Value: 1}}}, {Key: "name", Value: "a_1"}})), "7.0.14", 115, nil},
		{"dropDatabase beside others", applyOps(op("c", "db.$cmd", bson.D{{Key: "dropDatabase", Value: 1}}), op("i", "db.c", doc(5))), "7.0.14", 6275900, nil},
		{"dropDatabase", applyOps(op("c", "db.$cmd", bson.D{{Key: "dropDatabase", Value: 1}})), "7.0.14", 0, []bson.D{}},
		{"a view", applyOps(op("i", "db.v", doc(5))), "7.0.14", 166, nil},
		{"nested", applyOps(op("c", "admin.$cmd", applyOps(op("i", "db.c", doc(6))))), "7.0.14", 0, []bson.D{{{Key: "_id", Value: int32(1)}}, {{Key: "_id", Value: int32(6)}}}},
		{"a delete from a capped collection", applyOps(op("d", "db.capped", doc(1))), "4.4.0", 20, nil},
		{"the same from 5.0", applyOps(op("d", "db.capped", doc(1))), "5.0.0", 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, t.TempDir(), c.version)
			h.must(t, "admin", applyOps(create("other", 8)))
			h.must(t, "db", bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{doc(1)}}})
			h.must(t, "db", bson.D{{Key: "create", Value: "v"}, {Key: "viewOn", Value: "c"}})
			h.must(t, "db", bson.D{{Key: "create", Value: "capped"}, {Key: "capped", Value: true}, {Key: "size", Value: 4096}})
			h.must(t, "db", bson.D{{Key: "insert", Value: "capped"}, {Key: "documents", Value: bson.A{doc(1)}}})
			if _, err := h.run("admin", c.cmd); code(err) != c.code {
				t.Errorf("code %d, want %d: %v", code(err), c.code, err)
			}
			if c.want != nil {
				if diff := cmp.Diff(c.want, h.all(t, "db", "c")); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestEmptyTimestamps(t *testing.T) {
	empty := bson.D{{Key: "_id", Value: 1}, {Key: "t", Value: bson.Timestamp{}}}
	kept := func(t *testing.T, h *head) bool {
		t.Helper()
		v, ok := h.all(t, "db", "c")[0][1].Value.(bson.Timestamp)
		return ok && v.IsZero()
	}
	insert := bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{empty}}}
	bypass := bson.E{Key: "bypassEmptyTsReplacement", Value: true}
	t.Run("filled in", func(t *testing.T) {
		h := start(t, t.TempDir(), "7.0.14")
		h.must(t, "db", insert)
		if kept(t, h) {
			t.Error("an insert's is still empty")
		}
		h.must(t, "db", bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{}}, {Key: "u", Value: bson.D{{Key: "$set", Value: bson.D{{Key: "t", Value: bson.Timestamp{}}}}}}}}}})
		if !kept(t, h) {
			t.Error("$set's is not empty")
		}
		h.must(t, "admin", applyOps(bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: "db.c"}, {Key: "o", Value: empty}}))
		if kept(t, h) {
			t.Error("that of applyOps is still empty")
		}
		if _, err := h.run("db", append(insert[:2:2], bypass)); code(err) != 40415 {
			t.Errorf("bypassEmptyTsReplacement on 7.0: %v", err)
		}
	})
	t.Run("kept by an upsert's $set", func(t *testing.T) {
		h := start(t, t.TempDir(), "7.0.14")
		h.must(t, "db", bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "u", Value: bson.D{{Key: "$set", Value: bson.D{{Key: "t", Value: bson.Timestamp{}}}}}}, {Key: "upsert", Value: true}}}}})
		if !kept(t, h) {
			t.Error("it is not empty")
		}
	})
	t.Run("kept when asked to, from 8.0", func(t *testing.T) {
		h := start(t, t.TempDir(), "8.0.4")
		h.must(t, "db", append(insert[:2:2], bypass))
		if !kept(t, h) {
			t.Error("it is not empty")
		}
	})
}

// TestBulk writes as the applier does: unordered, with errors that name their statement.
func TestBulk(t *testing.T) {
	h := start(t, t.TempDir(), "7.0.14")
	h.must(t, "db", bson.D{{Key: "create", Value: "c"}})
	h.must(t, "db", bson.D{{Key: "createIndexes", Value: "c"}, {Key: "indexes", Value: bson.A{
		bson.D{{Key: "key", Value: bson.D{{Key: "u", Value: 1}}}, {Key: "name", Value: "u_1"}, {Key: "unique", Value: true}},
		bson.D{{Key: "key", Value: bson.D{{Key: "b", Value: -1}}}, {Key: "name", Value: "b_-1"}, {Key: "sparse", Value: true}},
	}}})
	must := func(db string, cmd any) bson.Raw { // statements that fail are in the reply
		t.Helper()
		r, err := h.run(db, cmd)
		if r == nil || r.Lookup("ok").Type == 0 || r.Lookup("ok").Double() != 1 {
			t.Fatalf("%v: %v", cmd, err)
		}
		return r
	}
	r := must("db", bson.D{{Key: "insert", Value: "c"}, {Key: "ordered", Value: false}, {Key: "documents", Value: bson.A{
		bson.D{{Key: "_id", Value: 1}, {Key: "u", Value: 1}},
		bson.D{{Key: "_id", Value: 2}, {Key: "u", Value: 1}},
		bson.D{{Key: "_id", Value: 1.0}, {Key: "u", Value: 3}},
		bson.D{{Key: "_id", Value: 4}, {Key: "u", Value: 4}},
	}}})
	failed := func(r bson.Raw) (out []int) {
		vs, err := r.Lookup("writeErrors").Array().Values()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vs {
			out = append(out, int(v.Document().Lookup("index").Int32()), int(v.Document().Lookup("code").Int32()))
		}
		return out
	}
	if diff := cmp.Diff([]int{1, 11000, 2, 11000}, failed(r)); diff != "" || r.Lookup("n").Int32() != 2 {
		t.Errorf("insert: %s\n%s", r, diff)
	}
	r = must("db", bson.D{{Key: "update", Value: "c"}, {Key: "ordered", Value: false}, {Key: "updates", Value: bson.A{
		bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: 4}}}, {Key: "u", Value: bson.D{{Key: "u", Value: 1}}}},
		bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: 5}}}, {Key: "u", Value: bson.D{{Key: "u", Value: 5}}}, {Key: "upsert", Value: true}},
	}}})
	if diff := cmp.Diff([]int{0, 11000}, failed(r)); diff != "" || r.Lookup("n").Int32() != 1 {
		t.Errorf("update: %s\n%s", r, diff)
	}
	r = h.must(t, "db", bson.D{{Key: "delete", Value: "c"}, {Key: "ordered", Value: false}, {Key: "deletes", Value: bson.A{
		bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: bson.A{1.0, 4, 77, nil, "x", 8, 9, 10, 11, 12}}}}}}, {Key: "limit", Value: 0}},
	}}})
	if r.Lookup("n").Int32() != 2 {
		t.Errorf("delete: %s", r)
	}
	if diff := cmp.Diff([]bson.D{{{Key: "_id", Value: int32(5)}, {Key: "u", Value: int32(5)}}}, h.all(t, "db", "c")); diff != "" {
		t.Error(diff)
	}
	r = h.must(t, "db", bson.D{{Key: "validate", Value: "c"}, {Key: "full", Value: true}})
	if !r.Lookup("valid").Boolean() || r.Lookup("nrecords").AsInt64() != 1 || r.Lookup("keysPerIndex", "u_1").AsInt64() != 1 {
		t.Errorf("validate: %s", r)
	}
}

func TestSpecialCollections(t *testing.T) {
	h := start(t, t.TempDir(), "7.0.14")
	list := func(name string) bson.Raw {
		r := h.must(t, "db", bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: name}}}})
		vs, err := r.Lookup("cursor", "firstBatch").Array().Values()
		if err != nil || len(vs) != 1 {
			t.Fatalf("listCollections %s: %s", name, r)
		}
		return vs[0].Document()
	}
	t.Run("clustered", func(t *testing.T) {
		h.must(t, "admin", applyOps(create("clustered", 1, bson.E{Key: "clusteredIndex", Value: bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "name", Value: "own"}, {Key: "unique", Value: true}}})))
		h.must(t, "db", bson.D{{Key: "insert", Value: "clustered"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 1}}}}})
		if _, err := h.run("db", bson.D{{Key: "insert", Value: "clustered"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 1}}}}}); code(err) != 11000 {
			t.Errorf("the same _id twice: %v", err)
		}
		if c := list("clustered"); c.Lookup("idIndex").Type != 0 || c.Lookup("options", "clusteredIndex", "name").StringValue() != "own" {
			t.Errorf("%s", c)
		}
		r := h.must(t, "db", bson.D{{Key: "listIndexes", Value: "clustered"}})
		if !r.Lookup("cursor", "firstBatch", "0", "clustered").Boolean() {
			t.Errorf("listIndexes: %s", r)
		}
	})
	t.Run("views by create, collMod and drop", func(t *testing.T) {
		match := func(n int) bson.A { return bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "a", Value: n}}}}} }
		h.must(t, "db", bson.D{{Key: "insert", Value: "base"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 1}, {Key: "a", Value: 1}}, bson.D{{Key: "_id", Value: 2}, {Key: "a", Value: 2}}}}})
		h.must(t, "db", bson.D{{Key: "create", Value: "view"}, {Key: "viewOn", Value: "base"}, {Key: "pipeline", Value: match(1)}})
		h.must(t, "db", bson.D{{Key: "collMod", Value: "view"}, {Key: "viewOn", Value: "base"}, {Key: "pipeline", Value: match(2)}})
		n, err := h.Database("db").Collection("view").CountDocuments(context.Background(), bson.D{{Key: "_id", Value: 2}})
		if err != nil || n != 1 {
			t.Errorf("%d documents in the view: %v", n, err)
		}
		if docs := h.all(t, "db", "system.views"); len(docs) != 1 || fmt.Sprint(docs[0][2].Value) != fmt.Sprint(bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "a", Value: int32(2)}}}}}) {
			t.Errorf("system.views: %v", docs)
		}
		if _, err := h.run("db", bson.D{{Key: "insert", Value: "system.views"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: "db.w"}, {Key: "viewOn", Value: "base"}}}}}); code(err) != 73 {
			t.Errorf("a client's write to system.views: %v", err)
		}
		h.must(t, "db", bson.D{{Key: "drop", Value: "view"}})
		if docs := h.all(t, "db", "system.views"); len(docs) != 0 {
			t.Errorf("system.views: %v", docs)
		}
	})
	t.Run("time series", func(t *testing.T) {
		h.must(t, "db", bson.D{{Key: "create", Value: "series"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}, {Key: "metaField", Value: "m"}}}})
		if c := list("series"); c.Lookup("type").StringValue() != "timeseries" || c.Lookup("options", "timeseries", "granularity").StringValue() != "seconds" {
			t.Errorf("%s", c)
		}
		h.must(t, "admin", applyOps(create("system.buckets.other", 7, bson.E{Key: "clusteredIndex", Value: true}, bson.E{Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}}})))
		if c := list("system.buckets.other"); !cmp.Equal(h.uuids(t, "db")["system.buckets.other"], uuid(7)) || c.Lookup("type").StringValue() != "collection" {
			t.Errorf("%s", c)
		}
	})
	t.Run("indexes are changed", func(t *testing.T) {
		h.must(t, "db", bson.D{{Key: "insert", Value: "ix"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 1}, {Key: "a", Value: 1}}, bson.D{{Key: "_id", Value: 2}, {Key: "a", Value: 1}}}}})
		h.must(t, "db", bson.D{{Key: "createIndexes", Value: "ix"}, {Key: "indexes", Value: bson.A{bson.D{{Key: "key", Value: bson.D{{Key: "a", Value: 1}}}, {Key: "name", Value: "a_1"}}}}})
		mod := func(e ...bson.E) error {
			_, err := h.run("db", bson.D{{Key: "collMod", Value: "ix"}, {Key: "index", Value: append(bson.D{{Key: "name", Value: "a_1"}}, e...)}})
			return err
		}
		if err := mod(bson.E{Key: "unique", Value: true}); code(err) != 72 {
			t.Errorf("unique without prepareUnique: %v", err)
		}
		if err := mod(bson.E{Key: "prepareUnique", Value: true}); err != nil {
			t.Error(err)
		}
		if _, err := h.run("db", bson.D{{Key: "insert", Value: "ix"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 3}, {Key: "a", Value: 1}}}}}); code(err) != 11000 {
			t.Errorf("a third of the same: %v", err)
		}
		if err := mod(bson.E{Key: "unique", Value: true}); code(err) != 359 {
			t.Errorf("unique over duplicates: %v", err)
		}
		h.must(t, "db", bson.D{{Key: "delete", Value: "ix"}, {Key: "deletes", Value: bson.A{bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: 2}}}, {Key: "limit", Value: 1}}}}})
		if err := errors.Join(mod(bson.E{Key: "unique", Value: true}), mod(bson.E{Key: "hidden", Value: true})); err != nil {
			t.Error(err)
		}
		r := h.must(t, "db", bson.D{{Key: "listIndexes", Value: "ix"}})
		x := r.Lookup("cursor", "firstBatch", "1").Document()
		if !x.Lookup("unique").Boolean() || !x.Lookup("hidden").Boolean() || x.Lookup("prepareUnique").Type != 0 {
			t.Errorf("%s", x)
		}
	})
}

// TestLargestDocument inserts a document of exactly 16 MB and one a byte larger.
func TestLargestDocument(t *testing.T) {
	h := start(t, t.TempDir(), "7.0.14")
	of := func(size int) bson.Raw {
		head, err := bson.Marshal(bson.D{{Key: "_id", Value: 1}, {Key: "b", Value: bson.Binary{}}})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := bson.Marshal(bson.D{{Key: "_id", Value: 1}, {Key: "b", Value: bson.Binary{Data: make([]byte, size-len(head))}}})
		if err != nil || len(doc) != size {
			t.Fatal(len(doc), err)
		}
		return doc
	}
	if _, err := h.Database("db").Collection("c").InsertOne(context.Background(), of(16<<20)); err != nil {
		t.Error(err)
	}
	if r, err := h.run("db", bson.D{{Key: "applyOps", Value: bson.A{}}, {Key: "pad", Value: of(1 << 20)}}); err == nil {
		t.Errorf("applyOps outside admin: %s", r)
	}
	h.must(t, "admin", applyOps(bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: "db.c"}, {Key: "o", Value: of(16<<20 - 200)}}))
}

// TestStops starts and stops a head and looks at what it leaves.
func TestStops(t *testing.T) {
	fill := func(t *testing.T, h *head, from, to int) {
		t.Helper()
		var docs []any
		for i := from; i < to; i++ {
			docs = append(docs, bson.D{{Key: "_id", Value: i}, {Key: "text", Value: "some words"}})
		}
		if _, err := h.Database("db").Collection("c").InsertMany(context.Background(), docs); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("clean", func(t *testing.T) {
		dir := t.TempDir()
		h := start(t, dir, "7.0.14", "--directoryperdb")
		fill(t, h, 0, 5000)
		h.must(t, "admin", applyOps(create("own", 5)))
		h.end(t)
		if fi, err := os.Stat(filepath.Join(dir, "mongod.lock")); err != nil || fi.Size() != 0 {
			t.Errorf("lock file after a clean stop: %v %v", fi, err)
		}
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"journal", "mongod.lock"} {
			if err := os.RemoveAll(filepath.Join(copied, name)); err != nil {
				t.Fatal(err)
			}
		}
		again := start(t, copied, "7.0.14", "--directoryperdb")
		if n := len(again.all(t, "db", "c")); n != 5000 || !cmp.Equal(again.uuids(t, "db")["own"], uuid(5)) {
			t.Errorf("%d documents, %v", n, again.uuids(t, "db"))
		}
	})
	t.Run("by the command", func(t *testing.T) {
		h := start(t, t.TempDir(), "7.0.14")
		fill(t, h, 0, 10)
		_, err := h.run("admin", bson.D{{Key: "shutdown", Value: 1}})
		if err != nil && !mongo.IsNetworkError(err) {
			t.Errorf("shutdown: %v", err)
		}
		if got := <-h.done; got != headd.ExitClean {
			t.Errorf("exit code %d", got)
		}
		h.done <- headd.ExitClean
	})
}

// TestRefusedStarts looks at the exit codes of starts that cannot be.
func TestRefusedStarts(t *testing.T) {
	running := start(t, t.TempDir(), "7.0.14")
	newer := t.TempDir()
	start(t, newer, "7.0.14").end(t)
	perDB := t.TempDir()
	start(t, perDB, "7.0.14", "--directoryperdb").end(t)
	real := t.TempDir()
	if err := os.WriteFile(filepath.Join(real, "WiredTiger"), []byte("WiredTiger"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	start(t, damaged, "7.0.14").end(t)
	if err := os.Truncate(filepath.Join(damaged, "_mdb_catalog.sim"), 20); err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(freePort(t))
	for _, c := range []struct {
		name, version string
		args          []string
		code          int
		says          string
	}{
		{"unknown flag", "7.0.14", []string{"--bogus"}, 2, "unrecognised option '--bogus'"},
		{"a flag of older versions", "6.1.0", []string{"--nojournal"}, 2, "unrecognised option '--nojournal'"},
		{"no value", "7.0.14", []string{"--port"}, 2, "the required argument for option '--port' is missing"},
		{"a value that is none", "7.0.14", []string{"--port", "x"}, 2, "the argument ('x') for option '--port' is invalid"},
		{"a second dbpath", "7.0.14", []string{"--dbpath", newer, "--dbpath", newer}, 2, "cannot be specified more than once"},
		{"unknown parameter", "7.0.14", []string{"--dbpath", newer, "--port", port, "--setParameter", "bogus=1"}, 2, "Unknown --setParameter 'bogus'"},
		{"missing dbpath", "7.0.14", []string{"--dbpath", "/nonexistent/x", "--port", port}, 100, "NonExistentPath"},
		{"dbpath in use", "7.0.14", []string{"--dbpath", running.dir, "--port", port}, 100, "DBPathInUse"},
		{"port in use", "7.0.14", []string{"--dbpath", newer, "--port", strconv.Itoa(running.port)}, 48, "Error setting up listener"},
		{"data of a newer version", "5.0.9", []string{"--dbpath", newer, "--port", port}, 62, "Wrong mongod version"},
		{"another layout", "7.0.14", []string{"--dbpath", perDB, "--port", port}, 100, "directoryPerDB"},
		{"a real server's files", "7.0.14", []string{"--dbpath", real, "--port", port}, 100, "a real server's"},
		{"damaged", "7.0.14", []string{"--dbpath", damaged, "--port", port}, 14, "journal is damaged"},
		{"a replica set", "7.0.14", []string{"--dbpath", newer, "--replSet", "rs0"}, 2, "heartwood mongosim"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			if got := headd.Run(context.Background(), append([]string{"mongod"}, c.args...), c.version, &out, &out); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("says\n%s\nwithout %q", out.String(), c.says)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for program, want := range map[string]string{
		"/opt/mongodb-linux-x86_64-7.0.14/bin/mongod":                "7.0.14",
		"/opt/releases/mongodb-linux-x86_64-ubuntu2204-8.0.4/mongod": "8.0.4",
		"/opt/8.0.4-rc0/mongod":                                      "8.0.4",
		"/usr/bin/mongod":                                            "",
		"mongod":                                                     "",
	} {
		if got := headd.VersionOf(program); got != want {
			t.Errorf("%s: %q, want %q", program, got, want)
		}
	}
	var out bytes.Buffer
	if got := headd.Run(context.Background(), []string{"mongod", "--version"}, "7.0.14", &out, &out); got != 0 || !strings.HasPrefix(out.String(), "db version v7.0.14\nBuild Info: {\n") {
		t.Errorf("%d %s", got, out.String())
	}
}

func TestFeatureCompatibilityVersion(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir, "7.0.14", "--setParameter", "ttlMonitorEnabled=false")
	get := func(h *head) string {
		return h.must(t, "admin", bson.D{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}}).Lookup("featureCompatibilityVersion", "version").StringValue()
	}
	if r := h.must(t, "admin", bson.D{{Key: "getParameter", Value: 1}, {Key: "ttlMonitorEnabled", Value: 1}}); r.Lookup("ttlMonitorEnabled").Boolean() {
		t.Errorf("%s", r)
	}
	set := func(to string, more ...bson.E) error {
		_, err := h.run("admin", append(bson.D{{Key: "setFeatureCompatibilityVersion", Value: to}}, more...))
		return err
	}
	if got := get(h); got != "7.0" {
		t.Errorf("new data are of %s", got)
	}
	if err := set("6.0"); code(err) != 7369100 {
		t.Errorf("without confirm: %v", err)
	}
	if err := set("5.0", bson.E{Key: "confirm", Value: true}); code(err) != 2 {
		t.Errorf("5.0: %v", err)
	}
	if err := set("6.0", bson.E{Key: "confirm", Value: true}); err != nil || get(h) != "6.0" {
		t.Errorf("6.0: %v %s", err, get(h))
	}
	h.end(t)
	if got := get(start(t, dir, "6.0.5")); got != "6.0" {
		t.Errorf("on 6.0.5 the data are of %s", got)
	}
}

// FuzzParse reads any command line.
func FuzzParse(f *testing.F) {
	f.Add("--dbpath\x00/tmp\x00--port=1\x00-vv", "7.0.14")
	f.Add("--setParameter\x00a=b\x00--serverVersion=4.2.1\x00--nojournal", "")
	f.Fuzz(func(t *testing.T, line, version string) {
		args := append([]string{"mongod"}, strings.Split(line, "\x00")...)
		if o, err := headd.Parse(args, version); err == nil && (o.Show == headd.Serve && o.Port == 0 || o.DBPath == "" && !strings.Contains(line, "dbpath")) {
			t.Errorf("%q: %+v", line, o)
		}
	})
}

func TestRenameAcrossDatabases(t *testing.T) {
	h := start(t, t.TempDir(), "7.0.14")
	h.must(t, "db", bson.D{{Key: "insert", Value: "a"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 2}}, bson.D{{Key: "_id", Value: 1}}}}})
	h.must(t, "db", bson.D{{Key: "createIndexes", Value: "a"}, {Key: "indexes", Value: bson.A{bson.D{{Key: "key", Value: bson.D{{Key: "x", Value: 1}}}, {Key: "name", Value: "x_1"}}}}})
	h.must(t, "other", bson.D{{Key: "create", Value: "b"}})
	cmd := bson.D{{Key: "renameCollection", Value: "db.a"}, {Key: "to", Value: "other.b"}}
	if _, err := h.run("admin", cmd); code(err) != 48 {
		t.Errorf("over a collection: %v", err)
	}
	h.must(t, "admin", append(cmd, bson.E{Key: "dropTarget", Value: true}))
	if diff := cmp.Diff([]bson.D{{{Key: "_id", Value: int32(2)}}, {{Key: "_id", Value: int32(1)}}}, h.all(t, "other", "b")); diff != "" {
		t.Error(diff)
	}
	if n := len(h.uuids(t, "db")) + len(h.uuids(t, "other")); n != 1 {
		t.Errorf("%d collections are left", n)
	}
	r := h.must(t, "other", bson.D{{Key: "listIndexes", Value: "b"}})
	if r.Lookup("cursor", "firstBatch", "1", "name").StringValue() != "x_1" {
		t.Errorf("%s", r)
	}
}

func TestNoTransactions(t *testing.T) {
	h := start(t, t.TempDir(), "7.0.14")
	s, err := h.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.EndSession(context.Background())
	_, err = s.WithTransaction(context.Background(), func(ctx context.Context) (any, error) {
		return h.Database("db").Collection("c").InsertOne(ctx, bson.D{{Key: "_id", Value: 1}})
	})
	if code(err) != 20 {
		t.Errorf("a transaction on a standalone: %v", err)
	}
}

func BenchmarkInsertMany(b *testing.B) {
	h := start(b, b.TempDir(), "7.0.14")
	c := h.Database("bench").Collection("a")
	docs := make([]any, 1000)
	n := 0
	start := time.Now()
	for b.Loop() {
		for i := range docs {
			docs[i] = bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "n", Value: n}, {Key: "text", Value: "some words that make the document a little longer"}}
			n++
		}
		if _, err := c.InsertMany(context.Background(), docs, options.InsertMany().SetOrdered(false)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds(), "docs/s")
}

func BenchmarkReplaceMany(b *testing.B) {
	h := start(b, b.TempDir(), "7.0.14")
	c := h.Database("bench").Collection("a")
	const size = 100_000
	n := 0
	models := make([]mongo.WriteModel, 1000)
	start := time.Now()
	for b.Loop() {
		for i := range models {
			id := n * 7919 % size
			models[i] = mongo.NewReplaceOneModel().SetFilter(bson.D{{Key: "_id", Value: id}}).SetUpsert(true).
				SetReplacement(bson.D{{Key: "n", Value: n}, {Key: "text", Value: "some words that make the document a little longer"}})
			n++
		}
		if _, err := c.BulkWrite(context.Background(), models, options.BulkWrite().SetOrdered(false)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds(), "docs/s")
}

func BenchmarkDeleteThenInsert(b *testing.B) {
	h := start(b, b.TempDir(), "7.0.14")
	c := h.Database("bench").Collection("a")
	const size = 100_000
	n := 0
	ids, docs := make(bson.A, 1000), make([]any, 1000)
	start := time.Now()
	for b.Loop() {
		for i := range ids {
			ids[i] = n * 7919 % size
			docs[i] = bson.D{{Key: "_id", Value: ids[i]}, {Key: "n", Value: n}, {Key: "text", Value: "some words that make the document a little longer"}}
			n++
		}
		if _, err := c.DeleteMany(context.Background(), bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}); err != nil {
			b.Fatal(err)
		}
		if _, err := c.InsertMany(context.Background(), docs, options.InsertMany().SetOrdered(false)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds(), "docs/s")
}
