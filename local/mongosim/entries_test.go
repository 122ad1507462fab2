package mongosim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
)

// entriesOf are the oplog entries of a collection, decoded as the product does, with the inner ones of an applyOps in their place.
func entriesOf(t *testing.T, c *mongo.Client, ns string) (out []*oplog.Entry) {
	t.Helper()
	cur, err := c.Database("local").Collection("oplog.rs").Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next(t.Context()) {
		e, err := oplog.Decode(slices.Clone(cur.Current))
		if err != nil {
			t.Fatalf("%v: %v", cur.Current, err)
		}
		if e.NS == ns || e.NS == "admin.$cmd" && strings.Contains(e.O.String(), ns) {
			out = append(out, e)
		}
	}
	if err := cur.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEntriesFollowTheVersion(t *testing.T) {
	for _, v := range []struct {
		version string
		diff    bool   // $v: 2
		image   string // a findAndModify's
		vector  bool   // several inserts in one entry
	}{{"4.2.24", false, "preImageOpTime", false}, {"4.4.29", false, "preImageOpTime", false}, {"5.0.31", true, "preImageOpTime", false}, {"6.0.19", true, "needsRetryImage", false}, {"8.0.4", true, "needsRetryImage", true}} {
		t.Run(v.version, func(t *testing.T) {
			d := start(t, Options{Members: []MemberOptions{{}}, Version: v.version})
			c := dial(t, d.URI())
			coll := c.Database("shop").Collection("a")
			if _, err := coll.InsertMany(t.Context(), []any{bson.D{{Key: "_id", Value: 1}, {Key: "pad", Value: strings.Repeat("x", 100)}}, bson.D{{Key: "_id", Value: 2}}, bson.D{{Key: "_id", Value: 3}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := coll.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "$set", Value: bson.D{{Key: "a", Value: 1}}}}); err != nil {
				t.Fatal(err)
			}
			if err := coll.FindOneAndUpdate(t.Context(), bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "a", Value: 1}}}}).Err(); err != nil {
				t.Fatal(err)
			}
			es := entriesOf(t, c, "shop.a")
			inserts, u, fam := es[:len(es)-2], es[len(es)-2], es[len(es)-1]
			if v.image == "preImageOpTime" { // the image is an entry of its own
				inserts, u = es[:len(es)-3], es[len(es)-3]
				if n := es[len(es)-2]; n.Raw.Lookup("op").StringValue() != "n" || n.O.Lookup("a").AsInt64() != 1 {
					t.Errorf("image: %v", n.Raw)
				}
			}
			if !has(fam.Raw, v.image) {
				t.Errorf("findAndModify: %v", fam.Raw)
			}
			if got := u.O.Lookup("$v").AsInt64() == 2; got != v.diff {
				t.Errorf("update: %v", u.Raw)
			}
			if v.vector != (len(inserts) == 1) {
				t.Fatalf("%d entries of inserts", len(inserts))
			}
			var at oplog.OpTime
			for i, e := range inserts {
				if e.Session == nil || e.Prev.Compare(at) != 0 {
					t.Errorf("insert %d: %v", i, e.Raw)
				}
				at = e.At
				if v.vector && (!e.MultiOp || e.O.Lookup("applyOps", "2", "stmtId").AsInt64() != 2) {
					t.Errorf("vectored insert: %v", e.Raw)
				}
			}
		})
	}
}

func TestRetriedVectoredInsertsAreOne(t *testing.T) {
	d := start(t, Options{Version: "8.0.4"})
	p := d.Primary()
	c := dial(t, d.URI())
	if err := c.Database("shop").CreateCollection(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	cmd, err := bson.Marshal(bson.D{
		{Key: "insert", Value: "a"},
		{Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "_id", Value: 2}}}},
		{Key: "lsid", Value: bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}}}},
		{Key: "txnNumber", Value: int64(1)},
		{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for try := range 2 {
		r, err := d.Member(p).Run(t.Context(), "shop", cmd)
		if err != nil || r.Lookup("n").AsInt64() != 2 || has(r, "writeErrors") {
			t.Fatalf("try %d: %v, %v", try, r, err)
		}
		if try == 0 { // the next primary knows of it from the oplog
			until(t, d, "level", func() bool { return !d.set.Committed().Before(d.Member(p).engine().LastOpTime()) })
			if err := d.StepDown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := d.WaitPrimary(t.Context()); err != nil {
				t.Fatal(err)
			}
			p = d.Primary()
		}
	}
}

// TestTheOplogTellsTheDocuments writes at random and replays the oplog with the product's own code: what comes out is what the
// server holds, byte for byte, whichever form its updates have.
func TestTheOplogTellsTheDocuments(t *testing.T) {
	for _, version := range []string{"4.4.29", "5.0.31", "8.0.4"} {
		t.Run(version, func(t *testing.T) {
			d := start(t, Options{Version: version, TxnEntryBytes: 2 << 10, NoSync: true})
			c := dial(t, d.URI())
			coll := c.Database("shop").Collection("a", options.Collection().SetWriteConcern(writeconcern.W1()))
			rnd := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // a test's workload
			write := randomWrites(coll, rnd)
			for i := range 400 {
				if err := write(t.Context()); err != nil {
					t.Fatalf("write %d: %v", i, err)
				}
			}
			docs := map[string]bson.Raw{}
			apply := func(o *oplog.Op) {
				k := document.Key(o.ID)
				after, odd, err := document.Apply(docs[k], o)
				if err != nil || odd&document.Fatal != 0 {
					t.Fatalf("%s: %v (%v)", o.O, err, odd)
				}
				docs[k] = after
				if after == nil {
					delete(docs, k)
				}
			}
			for _, e := range entriesOf(t, c, "shop.a") {
				switch {
				case e.Command == nil && e.Kind != oplog.Noop:
					apply(&e.Op)
				case e.Command != nil:
					for i := range e.Command.Ops {
						apply(&e.Command.Ops[i])
					}
				}
			}
			cur, err := coll.Find(t.Context(), bson.D{})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for cur.Next(t.Context()) {
				n++
				id := cur.Current.Lookup("_id")
				if got := docs[document.Key(coreValue(id))]; string(got) != string(cur.Current) {
					t.Errorf("replay gives %v\nserver %v", got, cur.Current)
				}
			}
			if n != len(docs) || n < 20 {
				t.Errorf("%d documents, replay has %d", n, len(docs))
			}
		})
	}
}

func coreValue(v bson.RawValue) bsoncore.Value {
	return bsoncore.Value{Type: bsoncore.Type(v.Type), Data: v.Value}
}

// randomWrites gives a function that makes one write of any kind.
func randomWrites(coll *mongo.Collection, rnd *rand.Rand) func(context.Context) error {
	doc := func() bson.D {
		d := bson.D{{Key: "k", Value: rnd.IntN(10)}, {Key: "sub", Value: bson.D{{Key: "x", Value: rnd.IntN(5)}, {Key: "s", Value: strings.Repeat("y", rnd.IntN(60))}}}}
		var arr bson.A
		for range rnd.IntN(6) {
			arr = append(arr, bson.D{{Key: "v", Value: rnd.IntN(9)}, {Key: "pad", Value: strings.Repeat("z", rnd.IntN(40))}})
		}
		return append(d, bson.E{Key: "arr", Value: arr}, bson.E{Key: "d", Value: 1}, bson.E{Key: "u", Value: bson.D{{Key: "i", Value: 2}}})
	}
	next := 0
	fresh := func() bson.D {
		next++
		return append(bson.D{{Key: "_id", Value: next}}, doc()...)
	}
	some := func() bson.D { return bson.D{{Key: "_id", Value: 1 + rnd.IntN(next+1)}} }
	set := func(op string, v bson.D) bson.D { return bson.D{{Key: op, Value: v}} }
	change := func() bson.D {
		switch rnd.IntN(7) {
		case 0:
			return set("$set", bson.D{{Key: "sub.x", Value: rnd.IntN(100)}, {Key: "new.deep", Value: 1}})
		case 1:
			return set("$unset", bson.D{{Key: "sub.s", Value: ""}})
		case 2:
			return set("$push", bson.D{{Key: "arr", Value: bson.D{{Key: "v", Value: 100}}}})
		case 3:
			return set("$pull", bson.D{{Key: "arr", Value: bson.D{{Key: "v", Value: bson.D{{Key: "$lt", Value: 5}}}}}})
		case 4:
			return set("$inc", bson.D{{Key: "k", Value: 1}, {Key: "u.i", Value: 1}})
		case 5:
			return set("$rename", bson.D{{Key: "d", Value: "dd"}})
		}
		return set("$set", bson.D{{Key: "arr.7.v", Value: 7}})
	}
	return func(ctx context.Context) error {
		var err error
		switch rnd.IntN(9) {
		case 0, 1:
			_, err = coll.InsertOne(ctx, fresh())
		case 2:
			_, err = coll.InsertMany(ctx, []any{fresh(), fresh(), fresh()})
		case 3:
			_, err = coll.DeleteOne(ctx, some())
		case 4:
			_, err = coll.ReplaceOne(ctx, some(), doc())
		case 5:
			_, err = coll.UpdateMany(ctx, bson.D{{Key: "k", Value: rnd.IntN(10)}}, change())
		case 6:
			err = coll.FindOneAndUpdate(ctx, some(), change()).Err()
			if err == mongo.ErrNoDocuments { //nolint:errorlint // the driver's own
				err = nil
			}
		case 7: // several at once
			s, serr := coll.Database().Client().StartSession()
			if serr != nil {
				return serr
			}
			defer s.EndSession(ctx)
			_, err = s.WithTransaction(ctx, func(ctx context.Context) (any, error) {
				for range 5 {
					if _, err := coll.InsertOne(ctx, fresh()); err != nil {
						return nil, err
					}
					if _, err := coll.UpdateOne(ctx, some(), change()); err != nil {
						return nil, err
					}
				}
				return nil, nil
			})
		default:
			_, err = coll.UpdateOne(ctx, some(), change())
		}
		var we mongo.WriteException
		if errors.As(err, &we) && len(we.WriteErrors) > 0 || slices.Contains([]int{2, 28}, errCode(err)) { // an operator that does not fit the document
			return nil
		}
		return err
	}
}

func TestATimeSeriesIsBuckets(t *testing.T) {
	d := start(t, Options{})
	c := dial(t, d.URI())
	db := c.Database("shop")
	o := options.CreateCollection().SetTimeSeriesOptions(options.TimeSeries().SetTimeField("at").SetMetaField("host"))
	if err := db.CreateCollection(t.Context(), "m", o); err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for i := range 30 {
		doc := bson.D{{Key: "at", Value: begin.Add(time.Duration(i) * 10 * time.Minute)}, {Key: "host", Value: "h"}, {Key: "v", Value: i}}
		if _, err := db.Collection("m").InsertOne(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := db.Collection("m").CountDocuments(t.Context(), bson.D{{Key: "v", Value: bson.D{{Key: "$gte", Value: 10}}}}); err != nil || n != 20 {
		t.Errorf("%d measurements: %v", n, err)
	}
	ops, docs := map[oplog.Kind]int{}, map[string]bson.Raw{}
	for _, e := range entriesOf(t, c, "shop.system.buckets.m") {
		ops[e.Kind]++
		after, odd, err := document.Apply(docs[document.Key(e.ID)], &e.Op)
		if err != nil || odd&document.Fatal != 0 {
			t.Fatalf("%v: %v, %v", e.Raw, odd, err)
		}
		docs[document.Key(e.ID)] = after
	}
	if ops[oplog.Insert] != 5 || ops[oplog.Update] != 25 {
		t.Errorf("entries: %v", ops)
	}
	cur, err := db.Collection("system.buckets.m").Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for cur.Next(t.Context()) {
		n++
		if got := docs[document.Key(coreValue(cur.Current.Lookup("_id")))]; string(got) != string(cur.Current) {
			t.Errorf("replay gives %v\nserver %v", got, cur.Current)
		}
	}
	if n != 5 {
		t.Errorf("%d buckets", n)
	}
}
