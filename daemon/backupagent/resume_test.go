package backupagent

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/backupagent/intaketest"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const bigDocs = 9000

// slow is a world whose collections are read in many small slices, and a gate that lets so many of them through.
func slow(t *testing.T, o mongosim.Options, change func(task *wire.BackupTask)) (*world, *gate) {
	t.Helper()
	w := newWorld(t, o, change)
	g := &gate{}
	w.server.SliceBytes, w.server.Judge = 1<<20, g.judge
	return w, g
}

// gate lets slices of the large collections through to a server, as many as it is told.
type gate struct {
	mu    sync.Mutex
	left  int
	clash func(h *wire.SeedHeader) bool
}

func (g *gate) judge(ns string, h *wire.SeedHeader) intaketest.Fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case ns == "shop.orders" || !strings.HasPrefix(ns, "shop."):
		return intaketest.None
	case g.clash != nil && g.clash(h):
		return intaketest.Clash
	case g.left == 0:
		return intaketest.Away
	}
	g.left--
	return intaketest.None
}

func (g *gate) open(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = n
}

// closed says that nothing more gets through.
func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left == 0
}

// of is what is stored of a collection.
func (w *world) of(ns string) (info wire.CollectionInfo, slices, docs int64) {
	w.server.Lock(func(_ int64, e *intaketest.Epoch) {
		for k, c := range e.Collections {
			if c.NS == ns {
				info, slices = *c, int64(len(e.Seeds[k]))
				for _, s := range e.Seeds[k] {
					docs += s.Count
				}
			}
		}
	})
	return info, slices, docs
}

// TestAReadGoesOn stops the agent amid a collection again and again: each start goes on behind the last slice that is stored.
func TestAReadGoesOn(t *testing.T) {
	for _, version := range []string{"4.2.24", "4.4.29", "8.0.4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w, g := slow(t, mongosim.Options{Version: version}, nil)
			w.fill("shop.big", bigDocs)
			stop := w.load("shop.orders")
			defer stop()
			r := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // a test
			dir := t.TempDir()
			g.open(1 + r.IntN(3))
			for range 3 {
				a := w.agent(dir)
				w.until("slices are stored", g.closed)
				a.stop()
				info, slices, _ := w.of("shop.big")
				if info.Done || slices == 0 {
					t.Fatalf("%d slices of %+v: there is nothing to go on with", slices, info)
				}
				g.open(1 + r.IntN(2))
			}
			g.open(1 << 20)
			w.agent(dir)
			w.scanned()
			stop()
			w.caughtUp()
			w.compare(nil)
			info, slices, docs := w.of("shop.big")
			if info.Attempt != 0 || !info.Done || info.Slices != slices || slices < 8 {
				t.Errorf("%+v, %d slices: the attempt was given up", info, slices)
			}
			// Four ends amid the work may each have cost what lay between a token and the end of its slice.
			if docs < bigDocs || docs > bigDocs+bigDocs/4 || info.Docs != docs {
				t.Errorf("%d documents are stored and %d told, of %d", docs, info.Docs, bigDocs)
			}
		})
	}
}

// TestAReadGoesOnWithoutTheRecordItStoodAt deletes the documents around the place where a read stopped.
func TestAReadGoesOnWithoutTheRecordItStoodAt(t *testing.T) {
	for name, from := range map[string]int{"some of them": 1500, "all that were read": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, g := slow(t, mongosim.Options{}, nil)
			w.fill("shop.big", bigDocs)
			dir := t.TempDir()
			g.open(4)
			a := w.agent(dir)
			w.until("slices are stored", g.closed)
			a.stop()
			_, _, docs := w.of("shop.big")
			if docs < 2500 {
				t.Fatalf("only %d documents are stored", docs)
			}
			gone := bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: from}, {Key: "$lt", Value: docs + 10}}}}
			if _, err := w.client.Database("shop").Collection("big").DeleteMany(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			w.newest()
			g.open(1 << 20)
			w.agent(dir)
			w.scanned()
			w.caughtUp()
			w.compare(nil)
			if info, _, _ := w.of("shop.big"); info.Attempt == 0 == (from == 0) {
				t.Errorf("%+v after %s were deleted", info, name)
			}
		})
	}
}

// TestAnotherMemberReadsFromTheBeginning kills the member that is read: its order of records is nobody else's.
func TestAnotherMemberReadsFromTheBeginning(t *testing.T) {
	w, g := slow(t, mongosim.Options{}, nil)
	w.fill("shop.big", bigDocs)
	g.open(3)
	a := w.agent(t.TempDir())
	w.until("slices are stored", g.closed)
	var source string
	for _, j := range a.a.jobs.List() {
		j.mu.Lock()
		source = j.reader.Progress().Source
		j.mu.Unlock()
	}
	a.stop()
	for i, addr := range w.d.Addresses() {
		if addr == source {
			if err := w.d.Kill(i); err != nil {
				t.Fatal(err)
			}
		}
	}
	g.open(1 << 20)
	w.agent(t.TempDir())
	w.scanned()
	w.compare(nil)
	if info, _, docs := w.of("shop.big"); info.Attempt == 0 || docs != bigDocs {
		t.Errorf("%+v with %d documents", info, docs)
	}
}

// TestCollectionsThatChangeWhileTheyAreRead renames one, drops one and overruns a capped one, amid their reading.
func TestCollectionsThatChangeWhileTheyAreRead(t *testing.T) {
	w, g := slow(t, mongosim.Options{}, nil)
	ctx := t.Context()
	capped := options.CreateCollection().SetCapped(true).SetSizeInBytes(64 << 20)
	if err := w.client.Database("shop").CreateCollection(ctx, "ring", capped); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"shop.renamed", "shop.dropped", "shop.ring"} {
		w.fill(ns, 4000)
	}
	g.open(6)
	dir := t.TempDir()
	a := w.agent(dir)
	w.until("slices are stored", g.closed)
	a.stop()
	before := map[string]int64{}
	for _, ns := range []string{"shop.renamed", "shop.dropped", "shop.ring"} {
		_, before[ns], _ = w.of(ns)
	}
	admin := w.client.Database("admin")
	if err := admin.RunCommand(ctx, bson.D{{Key: "renameCollection", Value: "shop.renamed"}, {Key: "to", Value: "shop.called"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Database("shop").Collection("dropped").Drop(ctx); err != nil {
		t.Fatal(err)
	}
	w.newest()
	g.open(1 << 20)
	w.agent(dir)
	w.scanned()
	w.caughtUp()
	w.compare(nil)
	if info, slices, docs := w.of("shop.renamed"); before["shop.renamed"] > 0 && info.Attempt != 0 || !info.Done || slices < 4 || docs < 4000 {
		t.Errorf("renamed: %+v, %d slices, %d documents", info, slices, docs)
	}
	if info, _, _ := w.of("shop.dropped"); !strings.Contains(info.Lost, "dropped") {
		t.Errorf("dropped: %+v", info)
	}
	if info, _, docs := w.of("shop.ring"); info.Attempt == 0 || docs != 4000 {
		t.Errorf("capped: %+v, %d documents", info, docs)
	}
}

// TestSlicesOfAnotherReadAreNotMixed lets the server refuse a slice because it has another one.
func TestSlicesOfAnotherReadAreNotMixed(t *testing.T) {
	w, g := slow(t, mongosim.Options{}, nil)
	w.fill("shop.big", bigDocs)
	g.open(2)
	dir := t.TempDir()
	a := w.agent(dir)
	w.until("slices are stored", g.closed)
	a.stop()
	refused := false
	g.clash = func(h *wire.SeedHeader) bool {
		clash := h.Seq == 4 && h.Attempt == 0
		refused = refused || clash
		return clash
	}
	g.open(1 << 20)
	w.agent(dir)
	w.scanned()
	w.caughtUp()
	w.compare(nil)
	if info, _, docs := w.of("shop.big"); !refused || info.Attempt != 1 || docs != bigDocs {
		t.Errorf("%+v with %d documents, refused %v", info, docs, refused)
	}
}
