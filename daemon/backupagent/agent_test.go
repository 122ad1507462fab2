package backupagent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/heartwood-db/heartwood/daemon/backupagent/intaketest"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// world is a replica set, a server and agents between them.
type world struct {
	t      *testing.T
	d      *mongosim.Deployment
	server *intaketest.Server
	client *mongo.Client
}

func newWorld(t *testing.T, o mongosim.Options, change func(task *wire.BackupTask)) *world {
	t.Helper()
	d, err := mongosim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(context.Background()) })
	client, err := mongo.Connect(options.Client().ApplyURI(d.URI()).SetWriteConcern(writeconcern.Majority()).SetTimeout(30 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	task := wire.BackupTask{Job: intaketest.Job, SetName: "rs0", SyncSource: "SECONDARY", Direct: true, OplogSliceSeconds: 1, Hosts: hosts(t, d)}
	if change != nil {
		change(&task)
	}
	return &world{t: t, d: d, server: intaketest.Start(t, task), client: client}
}

func hosts(t *testing.T, d *mongosim.Deployment) (out []wire.Host) {
	t.Helper()
	for _, addr := range d.Addresses() {
		host, port, err := model.SplitAddress(addr)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, wire.Host{ID: addr, Hostname: host, Port: int32(port)}) //nolint:gosec // a port
	}
	return out
}

// running is an agent that runs.
type running struct {
	a    *Agent
	stop func() // as kill does: nothing is finished first
}

func (w *world) agent(dir string, change ...func(*config.Agent)) *running {
	w.t.Helper()
	cfg := config.DefaultAgent()
	cfg.BaseURL, cfg.GroupID, cfg.APIKey = w.server.URL, intaketest.Group, intaketest.Key
	cfg.StateDir, cfg.SelectionSeconds, cfg.DialSeconds = dir, 2, 2
	for _, c := range change {
		c(&cfg)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("HEARTWOOD_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	a, err := New(Options{Config: cfg, Version: "1.2.3", Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := a.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	r := &running{a: a, stop: sync.OnceFunc(func() { cancel(); done.Wait() })}
	w.t.Cleanup(r.stop)
	return r
}

// patience is how long a condition may take to come true.
const patience = 60 * time.Second

// until waits for a condition.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			var state string
			w.server.Lock(func(n int64, e *intaketest.Epoch) {
				state = fmt.Sprintf("epoch %d, head %s, %d slices, scanned %v, ended %v", n, e.Head.Last, len(e.Slices), e.Scanned, e.Ended)
			})
			reports := w.server.Reports()
			if n := len(reports); n > 0 {
				state += fmt.Sprintf(", last report %+v", reports[n-1].Jobs)
			}
			w.t.Fatalf("%s: not in %s; %s; %s", what, patience, state, w.server.History())
		case <-tick.C:
		}
	}
}

func (w *world) scanned() {
	w.t.Helper()
	w.until("the full read is complete", func() (done bool) {
		w.server.Lock(func(_ int64, e *intaketest.Epoch) {
			done = e.Scanned != nil && e.Ended == nil && !e.Head.Last.Before(e.Scanned.ScanEnd)
		})
		return done
	})
}

// newest is the newest majority-committed position.
func (w *world) newest() oplog.OpTime {
	w.t.Helper()
	var at oplog.OpTime
	w.until("the majority has everything", func() bool {
		raw, err := w.client.Database("admin").RunCommand(w.t.Context(), bson.D{{Key: "hello", Value: 1}}).Raw()
		if err != nil {
			return false
		}
		last, majority := raw.Lookup("lastWrite", "opTime", "ts"), raw.Lookup("lastWrite", "majorityOpTime", "ts")
		at.TS.T, at.TS.I = last.Timestamp()
		return bytes.Equal(last.Value, majority.Value)
	})
	return at
}

// caughtUp waits until the server has all there is.
func (w *world) caughtUp() {
	w.t.Helper()
	at := w.newest()
	w.until("the oplog arrives up to "+at.String(), func() bool { return !w.server.Position().TS.Before(at.TS) })
}

// source is what the source holds of the namespaces that the test's filter wants.
func (w *world) source(f *filter.Filter) intaketest.Data {
	w.t.Helper()
	ctx := w.t.Context()
	out := intaketest.Data{}
	dbs, err := w.client.ListDatabaseNames(ctx, bson.D{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, db := range dbs {
		if db == "local" || db == "config" || db == "admin" {
			continue
		}
		specs, err := w.client.Database(db).ListCollectionSpecifications(ctx, bson.D{})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, s := range specs {
			ns := db + "." + s.Name
			if s.Type != "collection" || !f.Wants(ns) || s.Name == "system.views" || s.Name == "system.profile" {
				continue
			}
			c, err := w.client.Database(db).Collection(s.Name, options.Collection().SetReadConcern(readconcern.Majority())).Find(ctx, bson.D{})
			if err != nil {
				w.t.Fatal(err)
			}
			docs := map[string]bson.Raw{}
			for c.Next(ctx) {
				doc := slices.Clone(c.Current)
				id, _ := oplog.Lookup(doc, "_id")
				docs[document.Key(id)] = doc
			}
			if err := c.Err(); err != nil {
				w.t.Fatal(err)
			}
			out[ns] = docs
		}
	}
	return out
}

// compare fails when the replay of what is stored is not what the source holds.
func (w *world) compare(f *filter.Filter) {
	w.t.Helper()
	want := w.source(f)
	var got intaketest.Data
	var err error
	w.server.Lock(func(_ int64, e *intaketest.Epoch) { got, err = e.Replay() })
	if err != nil {
		w.t.Fatal(err)
	}
	for ns := range got {
		db, coll := oplog.Split(ns)
		if db == "admin" || db == "config" || coll == "system.views" {
			delete(got, ns)
		}
	}
	if a, b := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(a, b) {
		w.t.Fatalf("collections\nwant %v\n got %v", a, b)
	}
	total := 0
	for ns, docs := range want {
		total += len(docs)
		if len(docs) != len(got[ns]) {
			w.t.Errorf("%s: want %d documents, got %d", ns, len(docs), len(got[ns]))
		}
		for id, doc := range docs {
			if !bytes.Equal(doc, got[ns][id]) {
				w.t.Errorf("%s: want %s, got %s", ns, doc, got[ns][id])
				break
			}
		}
	}
	if total == 0 {
		w.t.Error("the source holds nothing: this test proves nothing")
	}
}

// load writes until it is stopped: inserts, updates of all forms, deletes. Errors are expected while members come and go.
func (w *world) load(namespaces ...string) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var done sync.WaitGroup
	for k, ns := range namespaces {
		db, coll := oplog.Split(ns)
		done.Go(func() {
			r := rand.New(rand.NewPCG(uint64(k), 7)) //nolint:gosec // a workload
			c := w.client.Database(db).Collection(coll)
			for ctx.Err() == nil {
				id := r.IntN(500)
				var err error
				switch r.IntN(8) {
				case 0, 1, 2:
					_, err = c.InsertOne(ctx, bson.D{{Key: "_id", Value: id}, {Key: "n", Value: 0}, {Key: "text", Value: strings.Repeat("x", r.IntN(200))}})
				case 3, 4:
					_, err = c.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}, {Key: "$set", Value: bson.D{{Key: "a.b", Value: r.IntN(9)}}}})
				case 5:
					_, err = c.ReplaceOne(ctx, bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "n", Value: -1}}, options.Replace().SetUpsert(true))
				case 6:
					_, err = c.DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
				case 7:
					_, err = c.UpdateMany(ctx, bson.D{{Key: "n", Value: r.IntN(5)}}, bson.D{{Key: "$set", Value: bson.D{{Key: "seen", Value: true}}}})
				}
				_ = err // duplicate keys, and whatever an election does to a write
				time.Sleep(time.Millisecond)
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); done.Wait() })
}

// fill inserts documents of about 1 kB.
func (w *world) fill(ns string, n int) {
	w.t.Helper()
	db, coll := oplog.Split(ns)
	for i := 0; i < n; i += 500 {
		var docs []any
		for k := i; k < min(i+500, n); k++ {
			docs = append(docs, bson.D{{Key: "_id", Value: k}, {Key: "n", Value: k}, {Key: "text", Value: strings.Repeat(string(rune('a'+k%26)), 1000)}})
		}
		if _, err := w.client.Database(db).Collection(coll).InsertMany(w.t.Context(), docs); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestABackupIsWhatTheSourceHolds(t *testing.T) {
	for name, direct := range map[string]bool{"through the server": true, "past the server": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mongosim.Options{}, func(task *wire.BackupTask) { task.Direct = direct })
			w.fill("shop.big", 9000)
			stop := w.load("shop.orders", "shop.items", "other.things")
			defer stop()
			w.agent(t.TempDir())
			w.scanned()
			w.until("the oplog comes in slices", func() (ok bool) {
				w.server.Lock(func(_ int64, e *intaketest.Epoch) { ok = len(e.Slices) > 1 })
				return ok
			})
			stop()
			w.caughtUp()
			w.compare(nil)
			w.server.Lock(func(n int64, e *intaketest.Epoch) {
				if n != 1 || len(e.Slices) < 2 {
					t.Errorf("epoch %d, %d slices", n, len(e.Slices))
				}
				if e.Begin.ServerVer == "" || e.Begin.SetName != "rs0" {
					t.Errorf("begun as %+v", e.Begin)
				}
			})
		})
	}
}

func mongoSession(t *testing.T, s *mongo.Session) context.Context {
	t.Helper()
	return mongo.NewSessionContext(t.Context(), s)
}
