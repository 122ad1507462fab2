package mongosim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
)

// errCode is the code of a server's refusal; 0 when there is none.
func errCode(err error) int {
	var ce mongo.CommandError
	if errors.As(err, &ce) {
		return int(ce.Code)
	}
	var we mongo.WriteException
	if errors.As(err, &we) && we.WriteConcernError != nil {
		return we.WriteConcernError.Code
	}
	return 0
}

// newest is the newest entry a member shows, at a read concern.
func newest(t *testing.T, c *mongo.Client, rc *readconcern.ReadConcern) oplog.OpTime {
	t.Helper()
	coll := c.Database("local").Collection("oplog.rs", options.Collection().SetReadConcern(rc))
	doc, err := coll.FindOne(t.Context(), bson.D{}, options.FindOne().SetSort(bson.D{{Key: "$natural", Value: -1}})).Raw()
	if err != nil {
		t.Fatal(err)
	}
	e, err := oplog.Decode(doc)
	if err != nil {
		t.Fatal(err)
	}
	return e.At
}

// tail opens a tailable cursor on a member's oplog, as an agent does.
func tail(t *testing.T, c *mongo.Client, from oplog.OpTime) *mongo.Cursor {
	t.Helper()
	coll := c.Database("local").Collection("oplog.rs", options.Collection().SetReadConcern(readconcern.Majority()))
	cur, err := coll.Find(t.Context(), bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: from.TS}}}},
		options.Find().SetCursorType(options.TailableAwait).SetMaxAwaitTime(500*time.Millisecond).SetBatchSize(100))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cur.Close(context.Background()) })
	return cur
}

// read takes entries off a tail until one is of the namespace, and gives its o.
func read(t *testing.T, cur *mongo.Cursor, ns string) bson.Raw {
	t.Helper()
	for cur.Next(t.Context()) {
		if got := cur.Current.Lookup("ns").StringValue(); got == ns {
			return cur.Current.Lookup("o").Document()
		}
	}
	t.Fatalf("no entry of %s: %v", ns, cur.Err())
	return nil
}

func TestATailOfASecondaryShowsWhatAMajorityHas(t *testing.T) {
	d := start(t, Options{})
	p := d.Primary()
	s := (p + 1) % 3
	main, sec := dial(t, d.URI()), direct(t, d.Member(s).Address())
	coll := main.Database("shop").Collection("a")
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	until(t, d, "the secondary is level", func() bool {
		at := d.Member(p).engine().LastOpTime()
		return !d.Member(s).engine().LastOpTime().Before(at) && !d.set.Committed().Before(at)
	})
	from := newest(t, sec, readconcern.Majority())
	cur := tail(t, sec, from)
	if got := read(t, cur, "shop.a"); got.Lookup("_id").AsInt64() != 1 {
		t.Fatalf("first entry %v", got)
	}

	// The primary alone has the next: nobody else shows it, and with majority concern nor does the primary.
	d.Member(p).Cut(true)
	old := direct(t, d.Member(p).Address())
	w1 := options.Collection().SetWriteConcern(writeconcern.W1())
	if _, err := old.Database("shop").Collection("a", w1).InsertOne(t.Context(), bson.D{{Key: "_id", Value: 2}}); err != nil {
		t.Fatal(err)
	}
	if n, err := old.Database("shop").Collection("a").CountDocuments(t.Context(), bson.D{}); err != nil || n != 2 {
		t.Errorf("a local read finds %d documents: %v", n, err)
	}
	maj := options.Collection().SetReadConcern(readconcern.Majority())
	if n, err := old.Database("shop").Collection("a", maj).CountDocuments(t.Context(), bson.D{}); err != nil || n != 1 {
		t.Errorf("a majority read finds %d documents, of which one may be lost: %v", n, err)
	}
	if local, m := newest(t, old, readconcern.Local()), newest(t, old, readconcern.Majority()); m.Compare(local) >= 0 {
		t.Errorf("the oplog shows %v with majority concern, %v without", m, local)
	}
	hello := ask(t, old, bson.D{{Key: "hello", Value: 1}})
	var last struct {
		LastWrite struct {
			OpTime, MajorityOpTime struct{ TS bson.Timestamp }
		}
	}
	if err := bson.Unmarshal(hello, &last); err != nil {
		t.Fatal(err)
	}
	if !last.LastWrite.MajorityOpTime.TS.Before(last.LastWrite.OpTime.TS) {
		t.Errorf("hello: %v", hello.Lookup("lastWrite"))
	}

	// It goes, and comes back without it. The others' tail never showed it and goes on with the next primary's.
	until(t, d, "another primary", func() bool { return d.Primary() >= 0 && d.Primary() != p })
	if _, err := dial(t, d.URI()).Database("shop").Collection("a").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 3}}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, cur, "shop.a"); got.Lookup("_id").AsInt64() != 3 {
		t.Errorf("the tail shows %v", got)
	}
}

func TestAwaitedEntriesWakeTheReader(t *testing.T) {
	d := start(t, Options{})
	p := d.Primary()
	sec := direct(t, d.Member((p+1)%3).Address())
	main := dial(t, d.URI())
	from := newest(t, sec, readconcern.Local())
	coll := sec.Database("local").Collection("oplog.rs", options.Collection().SetReadConcern(readconcern.Majority()))
	cur, err := coll.Find(t.Context(), bson.D{{Key: "ts", Value: bson.D{{Key: "$gt", Value: from.TS}}}, {Key: "ns", Value: "shop.b"}},
		options.Find().SetCursorType(options.TailableAwait).SetMaxAwaitTime(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cur.Close(context.Background()) }()
	got := make(chan time.Time, 1)
	go func() {
		if cur.Next(t.Context()) {
			got <- time.Now()
		}
		close(got)
	}()
	begin := time.Now()
	if _, err := main.Database("shop").Collection("b").InsertOne(t.Context(), bson.D{}); err != nil {
		t.Fatal(err)
	}
	select {
	case at, ok := <-got:
		if !ok {
			t.Fatal(cur.Err())
		}
		t.Logf("shown after %v", at.Sub(begin))
	case <-time.After(20 * time.Second):
		t.Fatal("a reader that awaits data is not woken")
	}
}

func TestARollbackIsWhatAReaderMeets(t *testing.T) {
	d := start(t, Options{RollbackTime: 500 * time.Millisecond})
	p := d.Primary()
	main := dial(t, d.URI())
	if _, err := main.Database("shop").Collection("a").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	old := direct(t, d.Member(p).Address())
	rbid := func() int64 { return ask(t, old, bson.D{{Key: "replSetGetRBID", Value: 1}}).Lookup("rbid").AsInt64() }
	was := rbid()
	d.Member(p).Cut(true)
	w1 := options.Collection().SetWriteConcern(writeconcern.W1())
	if _, err := old.Database("shop").Collection("a", w1).InsertOne(t.Context(), bson.D{{Key: "_id", Value: "lost"}}); err != nil {
		t.Fatal(err)
	}
	lost := newest(t, old, readconcern.Local())
	local := old.Database("local").Collection("oplog.rs", options.Collection().SetReadConcern(readconcern.Local()))
	cur, err := local.Find(t.Context(), bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: lost.TS}}}}, options.Find().SetCursorType(options.TailableAwait).SetMaxAwaitTime(time.Minute))
	if err != nil || !cur.Next(t.Context()) {
		t.Fatalf("a w: 1 tail: %v, %v", err, cur.Err())
	}
	until(t, d, "another primary", func() bool { return d.Primary() >= 0 && d.Primary() != p })
	if _, err := dial(t, d.URI()).Database("shop").Collection("a").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 3}}); err != nil {
		t.Fatal(err)
	}
	var states []model.MemberState
	d.Member(p).Cut(false)
	until(t, d, "the old primary has rolled back", func() bool {
		if st := d.Member(p).State(); len(states) == 0 || states[len(states)-1] != st {
			states = append(states, st)
		}
		return slices.Contains(states, model.StateRollback) && states[len(states)-1] == model.StateSecondary
	})
	if want := []model.MemberState{model.StateSecondary, model.StateRollback, model.StateSecondary}; !slices.Equal(states, want) && !slices.Equal(states, want[1:]) {
		t.Errorf("states %v, want %v", states, want)
	}
	if got := rbid(); got != was+1 {
		t.Errorf("rollback id %d after %d", got, was)
	}
	if cur.Next(t.Context()) || errCode(cur.Err()) == 0 {
		t.Errorf("the tail of a member that rolled back goes on: %v, %v", cur.Current, cur.Err())
	}
	n, err := local.CountDocuments(t.Context(), bson.D{{Key: "ts", Value: lost.TS}})
	if err != nil || n != 0 {
		t.Errorf("the oplog still holds what was rolled back: %d, %v", n, err)
	}
}

func TestAReaderIsOverrun(t *testing.T) {
	d := start(t, Options{Members: []MemberOptions{{}}, OplogBytes: 64 << 10})
	c := dial(t, d.URI())
	coll := c.Database("shop").Collection("a")
	if _, err := coll.InsertOne(t.Context(), bson.D{}); err != nil {
		t.Fatal(err)
	}
	cur := tail(t, c, newest(t, c, readconcern.Majority()))
	cur.SetBatchSize(1)
	if !cur.Next(t.Context()) {
		t.Fatal(cur.Err())
	}
	for range 200 {
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "pad", Value: make([]byte, 1000)}}); err != nil {
			t.Fatal(err)
		}
	}
	for cur.Next(t.Context()) {
	}
	if errCode(cur.Err()) != 136 {
		t.Errorf("a reader that is overrun sees %v", cur.Err())
	}
	first := newest(t, c, readconcern.Local())
	doc, err := c.Database("local").Collection("oplog.rs").FindOne(t.Context(), bson.D{}).Raw()
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := doc.Lookup("ts").Timestamp(); s > first.TS.T {
		t.Errorf("first entry %v", doc)
	}
	d.Member(0).ResizeOplog(8 << 10)
	if n, err := c.Database("local").Collection("oplog.rs").CountDocuments(t.Context(), bson.D{}); err != nil || n > 10 {
		t.Errorf("after a resize: %d entries, %v", n, err)
	}
	err = c.Database("admin").RunCommand(t.Context(), bson.D{{Key: "replSetResizeOplog", Value: 1}, {Key: "size", Value: 10.0}}).Err()
	if errCode(err) != 2 {
		t.Errorf("a resize below the least size: %v", err)
	}
}

// uuidOf is a collection's UUID as listCollections gives it.
func uuidOf(t *testing.T, c *mongo.Client, db, name string) bson.Binary {
	t.Helper()
	specs, err := c.Database(db).ListCollectionSpecifications(t.Context(), bson.D{{Key: "name", Value: name}})
	if err != nil || len(specs) != 1 || specs[0].UUID == nil {
		t.Fatalf("%s.%s: %v, %v", db, name, specs, err)
	}
	return *specs[0].UUID
}

// findUUID is a find by UUID in a session, as an agent sends it.
func findUUID(ctx context.Context, c *mongo.Client, db string, u bson.Binary, batch int32) (bson.Raw, error) {
	return c.Database(db).RunCommand(ctx, bson.D{
		{Key: "find", Value: u}, {Key: "batchSize", Value: batch}, {Key: "readConcern", Value: bson.D{{Key: "level", Value: "majority"}}},
	}).Raw()
}

func TestCollectionsAreReadByUUID(t *testing.T) {
	d := start(t, Options{})
	c := dial(t, d.URI())
	db := c.Database("shop")
	var docs []any
	for i := range 300 {
		docs = append(docs, bson.D{{Key: "_id", Value: i}})
	}
	for _, name := range []string{"a", "b", "g"} {
		if _, err := db.Collection(name).InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.EndSession(context.Background())
	ctx := mongo.NewSessionContext(t.Context(), s)
	more := func(ctx context.Context, r bson.Raw) (bson.Raw, error) {
		cur := r.Lookup("cursor").Document()
		ns := cur.Lookup("ns").StringValue()
		return db.RunCommand(ctx, bson.D{{Key: "getMore", Value: cur.Lookup("id").Int64()}, {Key: "collection", Value: ns[len("shop."):]}, {Key: "batchSize", Value: int32(100)}}).Raw()
	}
	a := uuidOf(t, c, "shop", "a")
	r, err := findUUID(ctx, c, "shop", a, 100)
	if err != nil || r.Lookup("cursor", "ns").StringValue() != "shop.a" {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := more(t.Context(), r); errCode(err) != 50738 {
		t.Errorf("a getMore outside the session: %v", err)
	}
	// What is written while it reads shows: a scan is no snapshot.
	if _, err := db.Collection("a").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "late"}}); err != nil {
		t.Fatal(err)
	}
	n, late := 100, false
	for r.Lookup("cursor", "id").Int64() != 0 {
		if r, err = more(ctx, r); err != nil {
			t.Fatal(err)
		}
		vals, _ := r.Lookup("cursor", "nextBatch").Array().Values()
		n += len(vals)
		for _, v := range vals {
			late = late || v.Document().Lookup("_id").Type == bson.TypeString
		}
	}
	if n != 301 || !late {
		t.Errorf("%d documents, the one written meanwhile is among them: %v", n, late)
	}

	rename := func(from, to string) error {
		return c.Database("admin").RunCommand(t.Context(), bson.D{{Key: "renameCollection", Value: "shop." + from}, {Key: "to", Value: "shop." + to}}).Err()
	}
	if r, err = findUUID(ctx, c, "shop", a, 100); err != nil {
		t.Fatal(err)
	}
	if err := rename("a", "aa"); err != nil {
		t.Fatal(err)
	}
	if _, err := more(ctx, r); errCode(err) != 175 {
		t.Errorf("a getMore after a rename: %v", err)
	}
	if r, err = findUUID(ctx, c, "shop", a, 10); err != nil || r.Lookup("cursor", "ns").StringValue() != "shop.aa" {
		t.Errorf("the new name: %v, %v", r, err)
	}
	b := uuidOf(t, c, "shop", "b")
	if r, err = findUUID(ctx, c, "shop", b, 100); err != nil {
		t.Fatal(err)
	}
	if err := db.Collection("b").Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := more(ctx, r); errCode(err) != 175 {
		t.Errorf("a getMore after a drop: %v", err)
	}
	if _, err := findUUID(ctx, c, "shop", b, 100); errCode(err) != 26 {
		t.Errorf("a find of a dropped collection: %v", err)
	}
	if err := c.Database("shop").RunCommand(t.Context(), bson.D{{Key: "listIndexes", Value: uuidOf(t, c, "shop", "g")}}).Err(); err != nil {
		t.Errorf("listIndexes by UUID: %v", err)
	}
	if r, err = findUUID(ctx, c, "shop", uuidOf(t, c, "shop", "g"), 10); err != nil {
		t.Fatal(err)
	}
	kill := bson.D{{Key: "killCursors", Value: "g"}, {Key: "cursors", Value: bson.A{r.Lookup("cursor", "id").Int64()}}}
	if err := db.RunCommand(ctx, kill).Err(); err != nil {
		t.Error(err)
	}
	if _, err := more(ctx, r); errCode(err) != 43 {
		t.Errorf("a getMore of a killed cursor: %v", err)
	}
}

// transactions are the rows of config.transactions that have a state.
func transactions(t *testing.T, c *mongo.Client) []bson.M {
	t.Helper()
	cur, err := c.Database("config").Collection("transactions").Find(t.Context(), bson.D{{Key: "state", Value: bson.D{{Key: "$exists", Value: true}}}})
	if err != nil {
		t.Fatal(err)
	}
	var out []bson.M
	if err := cur.All(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTransactionsInTheOplog(t *testing.T) {
	d := start(t, Options{TxnEntryBytes: 4 << 10})
	p := d.Primary()
	c := dial(t, d.URI())
	sec := direct(t, d.Member((p+1)%3).Address())
	coll := c.Database("shop").Collection("a")
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 0}}); err != nil {
		t.Fatal(err)
	}
	entries := func() []*oplog.Entry {
		t.Helper()
		until(t, d, "all have all", func() bool {
			last := d.Member(p).engine().LastOpTime()
			return !slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool { return d.Member(i).engine().LastOpTime().Before(last) })
		})
		cur, err := sec.Database("local").Collection("oplog.rs").Find(t.Context(), bson.D{{Key: "ns", Value: "admin.$cmd"}, {Key: "lsid", Value: bson.D{{Key: "$exists", Value: true}}}})
		if err != nil {
			t.Fatal(err)
		}
		var out []*oplog.Entry
		for cur.Next(t.Context()) {
			e, err := oplog.Decode(slices.Clone(cur.Current))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e)
		}
		return out
	}
	run := func(n, pad int) {
		t.Helper()
		s, err := c.StartSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.EndSession(context.Background())
		_, err = s.WithTransaction(t.Context(), func(ctx context.Context) (any, error) {
			for i := range n {
				if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: fmt.Sprint(n, "-", i)}, {Key: "pad", Value: make([]byte, pad)}}); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	run(3, 10)
	if es := entries(); len(es) != 1 || has(es[0].O, "partialTxn") || has(es[0].O, "count") {
		t.Fatalf("a small transaction is one entry: %v", es)
	}
	run(20, 1000)
	es := entries()[1:]
	if len(es) < 5 {
		t.Fatalf("a large transaction has %d entries", len(es))
	}
	for i, e := range es {
		last := i == len(es)-1
		if has(e.O, "partialTxn") == last || has(e.O, "count") != last {
			t.Errorf("entry %d: %v", i, e.O)
		}
		if i > 0 && e.Prev.Compare(es[i-1].At) != 0 {
			t.Errorf("entry %d follows %v, not %v", i, e.Prev, es[i-1].At)
		}
	}
	if n := es[len(es)-1].O.Lookup("count").AsInt64(); n != 20 {
		t.Errorf("count %d", n)
	}
	if n, err := sec.Database("shop").Collection("a").CountDocuments(t.Context(), bson.D{}); err != nil || n != 24 {
		t.Errorf("the secondary has %d documents: %v", n, err)
	}

	// Prepared: the row names where it begins until it is over, on every member.
	raw := direct(t, d.Member(p).Address())
	id := bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}}}
	send := func(db string, cmd bson.D) (bson.Raw, error) {
		cmd = append(cmd, bson.D{{Key: "lsid", Value: id}, {Key: "txnNumber", Value: int64(1)}, {Key: "autocommit", Value: false}}...)
		b, err := bson.Marshal(cmd)
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Member(p).Run(t.Context(), db, b)
		if err == nil && r.Lookup("ok").AsFloat64() != 1 {
			err = fmt.Errorf("%v", r)
		}
		return r, err
	}
	for i := range 10 {
		cmd := bson.D{{Key: "insert", Value: "a"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: fmt.Sprint("p", i)}, {Key: "pad", Value: make([]byte, 1000)}}}}}
		if i == 0 {
			cmd = append(cmd, bson.E{Key: "startTransaction", Value: true})
		}
		if _, err := send("shop", cmd); err != nil {
			t.Fatal(err)
		}
	}
	if rows := transactions(t, raw); slices.ContainsFunc(rows, func(m bson.M) bool { return m["startOpTime"] != nil }) {
		t.Errorf("rows before: %v", rows)
	}
	before := len(entries())
	r, err := send("admin", bson.D{{Key: "prepareTransaction", Value: 1}})
	if err != nil {
		t.Fatal(err)
	}
	parts := entries()[before:]
	if len(parts) < 2 || !has(parts[len(parts)-1].O, "prepare") {
		t.Fatalf("prepared: %v", parts)
	}
	for _, m := range []*mongo.Client{raw, sec} {
		rows := slices.DeleteFunc(transactions(t, m), func(m bson.M) bool { return m["startOpTime"] == nil })
		if len(rows) != 1 || rows[0]["state"] != "prepared" {
			t.Fatalf("rows: %v", rows)
		}
		at, _ := bson.Marshal(rows[0]["startOpTime"])
		if s, i, _ := bson.Raw(at).Lookup("ts").TimestampOK(); s != parts[0].At.TS.T || i != parts[0].At.TS.I {
			t.Errorf("startOpTime %v, want %v", bson.Raw(at), parts[0].At)
		}
	}
	ts, i := r.Lookup("prepareTimestamp").Timestamp()
	// Its documents stay locked through an election, and the next primary commits it.
	if err := d.StepDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.WaitPrimary(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = d.Primary()
	if _, err := send("admin", bson.D{{Key: "commitTransaction", Value: 1}, {Key: "commitTimestamp", Value: bson.Timestamp{T: ts, I: i + 1}}}); err != nil {
		t.Fatal(err)
	}
	es = entries()
	if e := es[len(es)-1]; e.O.Lookup("commitTransaction").Type == 0 || e.O.Lookup("commitTimestamp").Type != bson.TypeTimestamp || e.Prev.Compare(parts[len(parts)-1].At) != 0 {
		t.Errorf("the commit: %v", e)
	}
	for i := range 3 {
		m := direct(t, d.Member(i).Address())
		until(t, d, "all have it", func() bool {
			n, err := m.Database("shop").Collection("a").CountDocuments(t.Context(), bson.D{})
			return err == nil && n == 34
		})
		if rows := transactions(t, m); slices.ContainsFunc(rows, func(m bson.M) bool { return m["startOpTime"] != nil }) {
			t.Errorf("rows after: %v", rows)
		}
	}
}

func has(doc bson.Raw, key string) bool {
	_, err := doc.LookupErr(key)
	return err == nil
}

func TestTheFeatureCompatibilityVersionIsADocument(t *testing.T) {
	d := start(t, Options{Members: []MemberOptions{{}}, Version: "5.0.31"})
	c := dial(t, d.URI())
	shown := func() string {
		t.Helper()
		r := ask(t, c, bson.D{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}})
		return r.Lookup("featureCompatibilityVersion", "version").StringValue()
	}
	if v := shown(); v != "5.0" {
		t.Errorf("version %s", v)
	}
	err := c.Database("admin").RunCommand(t.Context(), bson.D{{Key: "setFeatureCompatibilityVersion", Value: "3.6"}}).Err()
	if errCode(err) != 4926900 {
		t.Errorf("a version too old: %v", err)
	}
	ask(t, c, bson.D{{Key: "setFeatureCompatibilityVersion", Value: "4.4"}})
	if v := shown(); v != "4.4" {
		t.Errorf("version %s", v)
	}
	es := entriesOf(t, c, "admin.system.version")
	if len(es) != 2 || !has(es[0].O, "targetVersion") || has(es[1].O, "targetVersion") || es[1].O.Lookup("version").StringValue() != "4.4" {
		t.Errorf("entries: %v", es)
	}
	// Below 5.0 updates are written in the older form.
	coll := c.Database("shop").Collection("a")
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}, {Key: "pad", Value: make([]byte, 100)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := coll.UpdateByID(t.Context(), 1, bson.D{{Key: "$set", Value: bson.D{{Key: "x", Value: 1}}}}); err != nil {
		t.Fatal(err)
	}
	all := entriesOf(t, c, "shop.a")
	if v := all[len(all)-1].O.Lookup("$v").AsInt64(); v != 1 {
		t.Errorf("update: %v", all[len(all)-1].Raw)
	}
}
