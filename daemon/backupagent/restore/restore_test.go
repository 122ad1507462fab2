package restore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// shop is a push of every kind of entry, and what a target holds after it.
func shop(t testing.TB) ([]content, map[string]held) {
	t.Helper()
	orders, log := numbered(t, 25, "order"), numbered(t, 12, "line")
	for i, j := 0, len(log)-1; i < j; i, j = i+1, j-1 { // an order that is not that of _id
		log[i], log[j] = log[j], log[i]
	}
	odd := doc(t, bson.D{{Key: "_id", Value: "odd"}, {Key: "at", Value: bson.Timestamp{}}})
	orders = append(orders, odd)
	index := func(field string, more ...bson.E) bson.Raw {
		return doc(t, append(bson.D{{Key: "v", Value: int32(2)}, {Key: "key", Value: bson.D{{Key: field, Value: int32(1)}}}, {Key: "name", Value: field + "_1"}}, more...))
	}
	all := []content{
		{Entry: dump.Entry{NS: "shop.orders", Type: dump.Collection, Indexes: []bson.Raw{index("n"), index("x", bson.E{Key: "sparse", Value: true})}}, docs: orders},
		{Entry: dump.Entry{NS: "shop.log", Type: dump.Collection, Options: doc(t, bson.D{{Key: "capped", Value: true}, {Key: "size", Value: int64(1 << 20)}})}, docs: log},
		{Entry: dump.Entry{NS: "shop.empty", Type: dump.Collection}},
		{Entry: dump.Entry{NS: "other.things", Type: dump.Collection}, docs: numbered(t, 3, "thing")},
		{Entry: dump.Entry{NS: "shop.system.js", Type: dump.Collection}, docs: []bson.Raw{doc(t, bson.D{{Key: "_id", Value: "f"}, {Key: "value", Value: bson.JavaScript("function() {}")}})}},
		{Entry: dump.Entry{NS: "shop.first", Type: dump.View, Options: doc(t, bson.D{{Key: "viewOn", Value: "orders"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: int32(0)}}}}}}})}},
	}
	want := map[string]held{
		"shop.orders":    {dump.Collection, texts(t, orders, true), []string{"_id_", "n_1", "x_1"}},
		"shop.log":       {dump.Collection, texts(t, log, false), []string{"_id_"}},
		"shop.empty":     {dump.Collection, nil, []string{"_id_"}},
		"other.things":   {dump.Collection, texts(t, all[3].docs, true), []string{"_id_"}},
		"shop.system.js": {dump.Collection, texts(t, all[4].docs, true), []string{"_id_"}},
		"shop.first":     {dump.View, texts(t, orders[:1], true), nil},
	}
	return all, want
}

func one() mongosim.Options { return mongosim.Options{Members: make([]mongosim.MemberOptions, 1)} }

func TestRestore(t *testing.T) {
	w := newWorld(t, mongosim.Options{})
	all, want := shop(t)
	h := serve(t, all, 7, wire.Push{})
	w.run(w.options(h, nil, t.TempDir()))
	if ended, cleaned, last := h.state(); ended != "FINISHED" || !cleaned || last.Error != "" {
		t.Fatalf("%s %v: %+v", ended, cleaned, last)
	}
	w.wants(want)
}

// TestDrop puts collections in the place of others, of any kind, and leaves the rest alone.
func TestDrop(t *testing.T) {
	w := newWorld(t, one())
	ctx := t.Context()
	before := func() {
		db := w.client.Database("shop")
		if _, err := db.Collection("orders").InsertMany(ctx, []any{bson.D{{Key: "_id", Value: "old"}}}); err != nil {
			t.Fatal(err)
		}
		if err := db.CreateView(ctx, "log", "orders", bson.A{}); err != nil {
			t.Fatal(err)
		}
		if err := db.CreateCollection(ctx, "first"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Collection("system.js").InsertOne(ctx, bson.D{{Key: "_id", Value: "old"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Collection("stays").InsertOne(ctx, bson.D{{Key: "_id", Value: int32(1)}}); err != nil {
			t.Fatal(err)
		}
	}
	before()
	stays := w.holds()["shop.stays"]

	all, _ := shop(t)
	untouched := w.holds()
	h := serve(t, all, 7, wire.Push{})
	w.run(w.options(h, nil, t.TempDir()))
	if ended, cleaned, last := h.state(); ended != "BROKEN" || !cleaned || !strings.Contains(last.Error, "4 collections are there already: shop.first, shop.log, shop.orders, shop.system.js") || last.Remedy == "" {
		t.Fatalf("%s %v: %+v", ended, cleaned, last)
	}
	w.wants(untouched)

	all, want := shop(t)
	h = serve(t, all, 7, wire.Push{Drop: true})
	w.run(w.options(h, nil, t.TempDir()))
	if ended, _, last := h.state(); ended != "FINISHED" {
		t.Fatalf("%s: %+v", ended, last)
	}
	want["shop.stays"] = stays
	w.wants(want)
}

// TestEveryCallFails lets the n-th call of the target fail, before it happens and after, and ends the agent at it: it goes on,
// or another goes on in its place, and the outcome is always the same.
func TestEveryCallFails(t *testing.T) {
	w := newWorld(t, one())
	const (
		before = iota
		after
		killed
		ways
	)
	for n := 1; ; n++ {
		if testing.Short() && n%7 != 1 {
			continue
		}
		calls := 0
		for way := range ways {
			t.Run(fmt.Sprintf("call %d, way %d", n, way), func(t *testing.T) {
				w.t = t
				w.clear()
				all, want := shop(t)
				for i := range 2 { // in the way
					if _, err := w.client.Database("shop").Collection("orders").InsertOne(t.Context(), bson.D{{Key: "_id", Value: fmt.Sprint("old", i)}}); err != nil {
						t.Fatal(err)
					}
				}
				h := serve(t, all, 7, wire.Push{Drop: true})
				f := &faults{n: n, after: way != before}
				dir := t.TempDir()
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				if way == killed {
					f.hit = stop
				}
				Run(ctx, w.options(h, f, dir))
				if way == killed {
					if n%2 == 0 {
						dir = t.TempDir() // another machine
					}
					w.run(w.options(h, nil, dir))
				}
				if ended, cleaned, last := h.state(); ended != "FINISHED" || !cleaned || last.Error != "" {
					t.Fatalf("%s %v: %+v", ended, cleaned, last)
				}
				w.wants(want)
				calls = max(calls, f.calls)
			})
		}
		if n >= calls || t.Failed() {
			t.Logf("%d calls", n)
			if n < 30 && !t.Failed() {
				t.Errorf("only %d calls were made", n)
			}
			return
		}
	}
}
