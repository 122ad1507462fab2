package backupagent

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/backupagent/intaketest"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func TestFaultsOfTheServerLoseAndDoubleNothing(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, nil)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	choices := []intaketest.Fault{intaketest.Away, intaketest.Mute, intaketest.Cut, intaketest.Twice}
	decide := make(chan intaketest.Fault)
	done := make(chan struct{})
	go func() {
		for {
			f := intaketest.None
			if r.IntN(4) == 0 {
				f = choices[r.IntN(len(choices))]
			}
			select {
			case decide <- f:
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() { close(done) })
	w.server.Fault = func(string, int) intaketest.Fault {
		select {
		case f := <-decide:
			return f
		case <-done:
			return intaketest.None
		}
	}
	w.fill("shop.big", 9000)
	stop := w.load("shop.orders", "shop.items")
	defer stop()
	w.agent(t.TempDir())
	w.scanned()
	stop()
	w.caughtUp()
	w.compare(nil)
}

const (
	childURL = "HEARTWOOD_TEST_BACKUP_URL"
	childDir = "HEARTWOOD_TEST_BACKUP_DIR"
)

// TestChild is the agent of TestKill, in a process of its own.
func TestChild(t *testing.T) {
	if os.Getenv(childURL) == "" {
		t.Skip("started by TestKill")
	}
	cfg := config.DefaultAgent()
	cfg.BaseURL, cfg.GroupID, cfg.APIKey = os.Getenv(childURL), intaketest.Group, intaketest.Key
	cfg.StateDir = os.Getenv(childDir)
	a, err := New(Options{Config: cfg, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Run(t.Context()) // until it is killed
}

// TestKill kills the agent again and again, with answers that it never hears, while the source is written to.
func TestKill(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, func(task *wire.BackupTask) { task.BandwidthBytes = 8 << 20 })
	w.server.Lease = 100 * time.Millisecond
	w.server.Fault = func(path string, n int) intaketest.Fault {
		if n%7 == 3 && path != wire.PathBackupConf {
			return intaketest.Mute
		}
		return intaketest.None
	}
	w.fill("shop.big", 6000)
	stop := w.load("shop.orders", "shop.items")
	defer stop()
	dir := t.TempDir()
	child := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$") //nolint:gosec // this test
		cmd.Env = append(os.Environ(), childURL+"="+w.server.URL, childDir+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	r := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a test
	for range 8 {
		cmd := child()
		time.Sleep(time.Duration(300+r.IntN(1200)) * time.Millisecond) // the moment of a kill is what is tried here
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	cmd := child()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	w.scanned()
	stop()
	w.caughtUp()
	w.compare(nil)
	w.server.Lock(func(n int64, e *intaketest.Epoch) {
		if n != 1 {
			t.Errorf("epoch %d: a kill is no reason for another", n)
		}
	})
}

func TestElectionsDoNotInterruptTheHistory(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, func(task *wire.BackupTask) { task.BandwidthBytes = 4 << 20 })
	w.fill("shop.big", 9000)
	stop := w.load("shop.orders", "shop.items")
	defer stop()
	w.agent(t.TempDir())
	w.until("the oplog arrives", func() bool { return !w.server.Position().IsZero() })
	for i := range 4 {
		if err := w.d.WaitPrimary(t.Context()); err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0, 2:
			_ = w.d.StepDown(t.Context()) // a set that is busy may refuse: the next turn tries again
		default: // the member that is read dies
			var source string
			if reports := w.server.Reports(); len(reports) > 0 && len(reports[len(reports)-1].Jobs) > 0 {
				source = reports[len(reports)-1].Jobs[0].Source
			}
			k := i % 3
			for n, addr := range w.d.Addresses() {
				if addr == source {
					k = n
				}
			}
			if err := w.d.Kill(k); err != nil {
				t.Fatal(err)
			}
			at := w.server.Position()
			w.until("the history goes on without a member", func() bool { return at.Before(w.server.Position()) })
			if err := w.d.Restart(k); err != nil {
				t.Fatal(err)
			}
		}
		at := w.server.Position()
		w.until("the history goes on", func() bool { return at.Before(w.server.Position()) })
	}
	w.scanned()
	stop()
	w.caughtUp()
	w.compare(nil)
	w.server.Lock(func(n int64, e *intaketest.Epoch) {
		if n != 1 {
			t.Errorf("epoch %d: an election is no reason for another (%s)", n, e.Begin.Why)
		}
	})
}

// ends checks that epoch 1 ended with a verdict, and that epoch 2 is whole.
func (w *world) ends(verdict, why string) {
	w.t.Helper()
	w.until("a new epoch is whole", func() (ok bool) {
		w.server.Lock(func(n int64, e *intaketest.Epoch) {
			ok = n == 2 && e.Scanned != nil && !e.Head.Last.Before(e.Scanned.ScanEnd)
		})
		return ok
	})
	w.server.Of(1, func(e *intaketest.Epoch) {
		if e.Ended == nil || e.Ended.Verdict != verdict || !strings.Contains(e.Ended.Why, why) {
			w.t.Errorf("epoch 1 ended as %+v, want %s with %q", e.Ended, verdict, why)
		}
	})
}

func TestAHistoryThatWasRolledBackEnds(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, nil)
	w.fill("shop.orders", 100)
	a := w.agent(t.TempDir())
	w.scanned()
	a.stop()
	w.server.Lock(func(_ int64, e *intaketest.Epoch) { e.Head.Entry[0] ^= 1 }) // what was stored is another entry than the source has
	w.agent(t.TempDir())
	w.ends(string(chain.Rollback), "another one than was stored")
	w.caughtUp()
	w.compare(nil)
}

func TestAnotherSetDoesNotContinueAHistory(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, nil)
	w.fill("shop.orders", 100)
	a := w.agent(t.TempDir())
	w.scanned()
	a.stop()
	other := newWorld(t, mongosim.Options{}, nil)
	other.fill("shop.orders", 50)
	w.server.Change(func(task *wire.BackupTask) { task.Hosts = hosts(t, other.d) })
	w.agent(t.TempDir())
	w.ends(string(chain.OtherSet), "the history comes from")
	w.client = other.client
	w.caughtUp()
	w.compare(nil)
}

func TestAnOplogThatOverranItsReaderEndsTheHistory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes more than an oplog holds")
	}
	w := newWorld(t, mongosim.Options{}, nil)
	w.fill("shop.orders", 100)
	a := w.agent(t.TempDir())
	w.scanned()
	a.stop()
	for i := range 75 { // the simulator's oplog is of 64 MiB
		var docs []any
		for k := range 10 {
			docs = append(docs, bson.D{{Key: "_id", Value: i*10 + k}, {Key: "text", Value: strings.Repeat("x", 100_000)}})
		}
		if _, err := w.client.Database("shop").Collection("flood").InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
	w.newest()
	w.agent(t.TempDir())
	w.ends(string(chain.Gap), "the oldest entry is")
	w.caughtUp()
	w.compare(nil)
}

func TestARenameIntoViewEndsTheHistory(t *testing.T) {
	list := []string{"shop.hidden"}
	f, err := filter.New(filter.Exclude, list)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, mongosim.Options{}, func(task *wire.BackupTask) {
		task.Filter = wire.Filter{Kind: string(filter.Exclude), Namespaces: list}
	})
	w.fill("shop.hidden", 50)
	w.fill("shop.orders", 50)
	stop := w.load("shop.hidden", "shop.orders")
	defer stop()
	w.agent(t.TempDir())
	w.scanned()
	w.server.Lock(func(_ int64, e *intaketest.Epoch) {
		for _, raw := range e.Entries {
			if raw.Lookup("ns").StringValue() == "shop.hidden" {
				t.Fatalf("an entry of a namespace that is excluded: %s", raw)
			}
		}
	})
	stop()
	if err := w.client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "renameCollection", Value: "shop.hidden"}, {Key: "to", Value: "shop.shown"}}).Err(); err != nil {
		t.Fatal(err)
	}
	w.ends("filter", "shop.shown was renamed")
	w.caughtUp()
	w.compare(f)
}

func TestRenamesAndDropsDuringTheRead(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, func(task *wire.BackupTask) { task.BandwidthBytes = 3 << 20 })
	for i := range 6 {
		w.fill(fmt.Sprintf("shop.c%d", i), 2000)
	}
	stop := w.load("shop.c0", "shop.c1", "shop.c3")
	defer stop()
	w.agent(t.TempDir())
	w.until("the read has begun", func() (ok bool) {
		w.server.Lock(func(_ int64, e *intaketest.Epoch) { ok = len(e.Seeds) > 0 })
		return ok
	})
	admin, shop := w.client.Database("admin"), w.client.Database("shop")
	for _, cmd := range []bson.D{
		{{Key: "renameCollection", Value: "shop.c0"}, {Key: "to", Value: "shop.moved"}},
		{{Key: "renameCollection", Value: "shop.c1"}, {Key: "to", Value: "shop.c2"}, {Key: "dropTarget", Value: true}},
	} {
		if err := admin.RunCommand(t.Context(), cmd).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := shop.Collection("c3").Drop(t.Context()); err != nil { // and made again, by the load
		t.Fatal(err)
	}
	if err := shop.Collection("c4").Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.fill("shop.c4", 10)
	if err := shop.CreateView(t.Context(), "cheap", "c5", bson.A{}); err != nil {
		t.Fatal(err)
	}
	w.scanned()
	stop()
	w.caughtUp()
	w.compare(nil)
}

func TestACappedCollectionThatWrapsDuringTheRead(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, func(task *wire.BackupTask) { task.BandwidthBytes = 1 << 20 })
	if err := w.client.Database("shop").CreateCollection(t.Context(), "log", options.CreateCollection().SetCapped(true).SetSizeInBytes(2<<20)); err != nil {
		t.Fatal(err)
	}
	w.fill("shop.log", 1500)
	w.agent(t.TempDir())
	log := w.client.Database("shop").Collection("log")
	for i := range 3000 {
		if _, err := log.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1_000_000 + i}, {Key: "text", Value: strings.Repeat("y", 1000)}}); err != nil {
			t.Fatal(err)
		}
	}
	w.scanned()
	w.caughtUp()
	want := w.source(nil)["shop.log"]
	var got intaketest.Data
	var err error
	w.server.Lock(func(_ int64, e *intaketest.Epoch) { got, err = e.Replay() })
	if err != nil {
		t.Fatal(err)
	}
	for id, doc := range want { // the oracle does not trim: it may hold more
		if string(got["shop.log"][id]) != string(doc) {
			t.Fatalf("want %s, got %s", doc, got["shop.log"][id])
		}
	}
	if len(want) == 0 {
		t.Error("the source holds nothing")
	}
}

func TestAStandbyTakesOver(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, nil)
	w.server.Lease = 2 * time.Second
	w.fill("shop.orders", 200)
	stop := w.load("shop.orders")
	defer stop()
	first := w.agent(t.TempDir())
	w.until("one is active", func() bool { return w.server.Active() == first.a.self.Session })
	second := w.agent(t.TempDir())
	w.scanned()
	first.stop()
	w.until("the other is active", func() bool { return w.server.Active() == second.a.self.Session })
	at := w.server.Position()
	w.until("the history goes on", func() bool { return at.Before(w.server.Position()) })
	stop()
	w.caughtUp()
	w.compare(nil)
	w.server.Lock(func(n int64, _ *intaketest.Epoch) {
		if n != 1 {
			t.Errorf("epoch %d: another agent is no reason for another", n)
		}
	})
}

func TestATransactionThatIsOpenWhenTheBackupBegins(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, nil)
	w.fill("shop.orders", 10)
	session, err := w.client.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.EndSession(t.Context())
	if err := session.StartTransaction(); err != nil {
		t.Fatal(err)
	}
	in := mongoSession(t, session)
	if _, err := w.client.Database("shop").Collection("orders").InsertOne(in, bson.D{{Key: "_id", Value: "prepared"}}); err != nil {
		t.Fatal(err)
	}
	raw, err := w.client.Database("admin").RunCommand(in, bson.D{{Key: "prepareTransaction", Value: 1}}).Raw()
	if err != nil {
		t.Fatal(err)
	}
	var at bson.Timestamp
	at.T, at.I = raw.Lookup("prepareTimestamp").Timestamp()
	w.fill("shop.items", 50) // the oplog goes on
	w.newest()
	w.agent(t.TempDir())
	w.until("an epoch begins", func() (ok bool) {
		w.server.Lock(func(n int64, _ *intaketest.Epoch) { ok = n == 1 })
		return ok
	})
	w.server.Lock(func(_ int64, e *intaketest.Epoch) {
		if at.Before(e.Begin.Start.TS) {
			t.Errorf("the epoch begins at %s, behind the transaction's beginning at %v", e.Begin.Start, at)
		}
	})
	w.scanned()
	if err := w.client.Database("admin").RunCommand(in, bson.D{{Key: "commitTransaction", Value: 1}, {Key: "commitTimestamp", Value: at}}).Err(); err != nil {
		t.Fatal(err)
	}
	w.caughtUp()
	w.compare(nil)
}

func TestDocumentsThatAreMissedAreFetched(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, nil)
	w.fill("shop.orders", 10)
	w.agent(t.TempDir())
	w.scanned()
	id := func(v any) bson.Raw {
		b, err := bson.Marshal(bson.D{{Key: "_id", Value: v}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var ask wire.MissingDocs
	w.server.Lock(func(_ int64, e *intaketest.Epoch) {
		for _, c := range e.Collections {
			if c.NS == "shop.orders" {
				ask = wire.MissingDocs{UUID: c.UUID, NS: c.NS, IDs: []bson.Raw{id(3), id("nowhere"), id(7.0)}}
			}
		}
	})
	gone := wire.MissingDocs{UUID: [16]byte{1}, NS: "shop.gone", IDs: []bson.Raw{id(1)}}
	w.server.Change(func(task *wire.BackupTask) { task.Missing = []wire.MissingDocs{ask, gone} })
	w.until("the answer comes", func() (ok bool) {
		w.server.Lock(func(_ int64, e *intaketest.Epoch) { ok = len(e.Found) > 0 })
		return ok
	})
	w.server.Lock(func(_ int64, e *intaketest.Epoch) {
		f := e.Found[0]
		if len(f.Found) != 2 || len(f.Found[0].Docs) != 2 || len(f.Absent) != 2 || len(f.Absent[0].IDs) != 1 || len(f.Absent[1].IDs) != 1 {
			t.Errorf("answered %+v", f)
		}
		if f.OperationTime.Before(e.Begin.Start) {
			t.Errorf("at %s", f.OperationTime)
		}
	})
}

func TestAReadHoldsBackWhileTheSetLags(t *testing.T) {
	w := newWorld(t, mongosim.Options{}, func(task *wire.BackupTask) { task.MaxLagSeconds = 3 })
	w.fill("shop.big", 100)
	stop := w.load("shop.orders")
	defer stop()
	slow := (w.d.Primary() + 1) % 3
	w.d.Lag(slow, 30*time.Second)
	set := source.NewSet("rs0", hosts(t, w.d), plain{})
	defer set.Close()
	w.until("a member lags", func() bool {
		top, err := set.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lag, _ := top.Lag()
		return lag > 4*time.Second
	})
	a := w.agent(t.TempDir())
	throttled := func() string {
		for _, j := range a.a.jobs.List() {
			return j.report().Throttled
		}
		return ""
	}
	w.until("it says that it holds back", func() bool { return strings.Contains(throttled(), "behind its primary") })
	w.server.Lock(func(_ int64, e *intaketest.Epoch) {
		if len(e.Seeds) > 0 {
			t.Error("it reads although a member lags")
		}
	})
	w.d.Lag(slow, 0)
	w.scanned()
	if s := throttled(); s != "" {
		t.Errorf("it still holds back: %s", s)
	}
}

// plain connects without credentials.
type plain struct{}

// Options are those of a direct connection.
func (plain) Options(host wire.Host, _ bool) *options.ClientOptions {
	return options.Client().SetHosts([]string{model.Address(host.Hostname, int(host.Port))}).SetDirect(true)
}
