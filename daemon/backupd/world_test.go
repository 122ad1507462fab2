package backupd_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/slot"
	"github.com/heartwood-db/heartwood/daemon/backupd/statetest"
	"github.com/heartwood-db/heartwood/daemon/backupd/stored"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/harness"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

func concat(docs []bson.Raw) []byte {
	var out []byte
	for _, d := range docs {
		out = append(out, d...)
	}
	return out
}

// world is a site with one backup, a block store, and the part of an agent and of ingestion that matter to a daemon.
type world struct {
	t       testing.TB
	store   *store.Store
	backup  *backup.Backup
	blocks  blockstore.Store
	job     model.ID
	rel     harness.Releases
	head    chain.Head
	entries []*oplog.Entry // of the oplog from the start of the epoch on
	sent    int            // of them
	log     *slog.Logger
	epoch   int64
	clock   time.Duration // from the time of the machine to that of the recording

	mu     sync.Mutex
	events []model.Event
}

const storeID = "blocks"

func newWorld(t testing.TB, engine docstore.Engine, blocks blockstore.Store) *world {
	t.Helper()
	if blocks == nil {
		blocks = memblock.New()
	}
	if engine == nil {
		engine = storetest.Engine(t)
	}
	st, err := areas.Open(t.Context(), store.Options{Engine: engine, Box: storetest.Box(t)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: st, backup: backup.New(st), blocks: blocks, job: model.NewID(), rel: harness.Heads(t), epoch: 1}
	last := statetest.Recorded(w.t).Final.LastTs
	if last.IsZero() {
		last = statetest.Recorded(w.t).Fuzzy.EndTs
	}
	w.clock = time.Until(time.Unix(int64(last.T), 0).Add(time.Minute))
	w.log = slog.New(slog.NewTextHandler(&testLog{t: t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(w.backup.SaveStore(t.Context(), model.BlockStore{ID: storeID, Type: model.BlockStoreMemory, AssignmentEnabled: true}))
	_, err = w.backup.SaveConfig(t.Context(), backup.Config{GroupID: model.NewID(), ClusterID: w.job, Schedule: snapshot.Default()}, w.now())
	ok(err)
	_, err = w.backup.SetStatus(t.Context(), w.job, model.BackupStarted, w.now())
	ok(err)
	start := statetest.Recorded(w.t).Fuzzy.StartTs
	for _, raw := range statetest.Recorded(t).Oplogs["v2"] {
		e, err := oplog.Decode(raw)
		ok(err)
		if !e.At.TS.Before(start) {
			w.entries = append(w.entries, e)
		}
	}
	return w
}

// now is a time shortly after the recording.
func (w *world) now() time.Time { return time.Now().Add(w.clock) }

// testLog writes to the test's log as long as the test runs.
type testLog struct {
	mu sync.Mutex
	t  testing.TB
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if testing.Verbose() && l.t.Context().Err() == nil {
		l.t.Log(strings.TrimRight(string(b), "\n"))
	}
	return len(b), nil
}

// begin begins an epoch, with the full read as the recording has it.
func (w *world) begin(ctx context.Context) error {
	r := statetest.Recorded(w.t)
	start := w.entries[0]
	err := w.backup.UpdateJob(ctx, w.job, func(j *backup.Job) error {
		j.Tail = backup.Tail{At: w.now(), Version: w.rel.Versions[0], DataBytes: 1 << 20, Oldest: w.now().Add(-48 * time.Hour), Newest: w.now()}
		return nil
	})
	if err != nil {
		return err
	}
	w.head, w.sent = chain.Head{Job: string(w.job), Epoch: w.epoch}, 0
	_, err = w.backup.BeginEpoch(ctx, backup.Epoch{
		Job: w.job, Number: w.epoch, ReplicaSetID: "65f0000000000000000000aa", SetName: "rs0", Version: w.rel.Versions[0], StoreID: storeID, AgentID: "agent",
		Start: start.At, StartEntry: chain.EntryDigest(start.Raw),
	}, w.now())
	if err != nil {
		return err
	}
	var colls []backup.Collection
	for i := range r.Fuzzy.Collections {
		x := &r.Fuzzy.Collections[i]
		made, ok := x.Schema()
		if !ok {
			continue
		}
		c := backup.Collection{NS: made.NS, UUID: made.UUID, Options: made.Options, IDIndex: made.IDIndex, Indexes: made.Indexes, Done: true}
		docs := statetest.Documents(r.Files["fuzzy/"+x.File])
		if made.Views() {
			for _, v := range docs {
				colls = append(colls, backup.Collection{NS: c.NS + "/" + fmt.Sprint(len(colls)), View: v})
			}
		}
		for part := range slices.Chunk(docs, 150) {
			if err := w.seed(ctx, &c, part); err != nil {
				return err
			}
		}
		colls = append(colls, c)
	}
	if err := w.backup.PutCollections(ctx, w.job, w.epoch, colls); err != nil {
		return err
	}
	return w.backup.MarkScanned(ctx, w.job, w.epoch, oplog.OpTime{TS: r.Fuzzy.EndTs, Term: 1}, int64(len(colls)))
}

func (w *world) seed(ctx context.Context, c *backup.Collection, docs []bson.Raw) error {
	all := concat(docs)
	digest := chain.EntryDigest(all)
	s := backup.SeedSlice{
		Seq: c.Slices, Key: backup.SeedKey(w.job, w.epoch, c.UUID, 0, c.Slices, digest.String()), Docs: int64(len(docs)), Bytes: int64(len(all)),
		Digest: digest, At: w.now(),
	}
	if err := blockstore.Put(ctx, w.blocks, s.Key, wire.Compress(all)); err != nil {
		return err
	}
	c.Slices, c.Docs, c.Bytes = c.Slices+1, c.Docs+s.Docs, c.Bytes+s.Bytes
	_, err := w.backup.AddSeed(ctx, w.job, w.epoch, c.UUID, s)
	return err
}

// tail sends n more entries of the oplog, in slices of at most each entries; all that are left for n < 0.
func (w *world) tail(ctx context.Context, n, each int) error {
	left := w.entries[w.sent:]
	if n >= 0 {
		left = left[:min(n, len(left))]
	}
	for part := range slices.Chunk(left, each) {
		b := chain.Begin(string(w.job), w.epoch, w.head.Last, w.head.Sum)
		for _, e := range part {
			if err := b.Add(e, e.Raw); err != nil {
				return err
			}
		}
		s, content, err := b.Finish()
		if err != nil {
			return err
		}
		packed := wire.Compress(content)
		key := backup.OplogKey(w.job, w.epoch, s.First, s.Sum().String())
		if err := blockstore.Put(ctx, w.blocks, key, packed); err != nil {
			return err
		}
		w.head, _, err = w.backup.AddSlice(ctx, backup.OplogSlice{Slice: *s, Key: key, Stored: int64(len(packed)), At: w.now()}, w.now())
		if err != nil {
			return err
		}
		w.sent += len(part)
	}
	return nil
}

// window is how many entries there are through the end of the full read, and a few more.
func (w *world) window() int {
	end := statetest.Recorded(w.t).Fuzzy.EndTs
	return slices.IndexFunc(w.entries, func(e *oplog.Entry) bool { return e.At.TS.After(end) }) + 50
}

func (w *world) keep(_ context.Context, events ...model.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, events...)
	return nil
}

// kinds lists the events so far.
func (w *world) kinds() []model.EventType {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []model.EventType
	for _, e := range w.events {
		out = append(out, e.Type)
	}
	return out
}

// freePorts finds a free range.
func freePorts(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return min(l.Addr().(*net.TCPAddr).Port, 65000)
}

// options of a daemon that is in a hurry.
func (w *world) options(machine, root string, heads *head.Manager) backupd.Options {
	return backupd.Options{
		Store: w.store, Backup: w.backup, Heads: heads, Slots: slot.New(2), Events: w.keep,
		Blockstores: func(_ context.Context, id string) (blockstore.Store, error) {
			if id != storeID {
				return nil, store.ErrNotFound
			}
			return w.blocks, nil
		},
		Root: root + "/", Machine: machine, Version: "test", BasePort: 1, Count: 2, TakeOver: 2 * time.Second, LeaseTTL: time.Second,
		Poll: 50 * time.Millisecond, Chores: time.Hour, Now: w.now, Log: w.log.With("daemon", machine),
	}
}

func (w *world) heads(root string) *head.Manager {
	w.t.Helper()
	m, err := head.New(w.t.Context(), head.Options{Root: root, Releases: w.rel.Dir, BasePort: freePorts(w.t), Count: 4, Log: w.log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = m.Close() })
	return m
}

// daemon is one that runs.
type daemon struct {
	*backupd.Daemon
	heads *head.Manager
	stop  func() // cleanly
}

func (w *world) daemon(machine, root string, change func(o *backupd.Options)) *daemon {
	w.t.Helper()
	heads := w.heads(root)
	o := w.options(machine, root, heads)
	if change != nil {
		change(&o)
	}
	d, err := backupd.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-done
	})
	w.t.Cleanup(stop)
	return &daemon{Daemon: d, heads: heads, stop: stop}
}

// await waits until the job is as wanted.
func (w *world) await(what string, ok func(j *backup.Job) bool) backup.Job {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		j, err := w.backup.Job(w.t.Context(), w.job)
		if err == nil && ok(&j) {
			return j
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain until %s: stage %s, %s, applied %s, problem %+v (%v)", what, j.Stage, j.Reason, j.Applied, j.Problem, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// applied waits until the head holds everything that was sent.
func (w *world) applied() backup.Job {
	w.t.Helper()
	return w.await("everything is applied", func(j *backup.Job) bool { return j.Stage == backup.StageTailing && j.Applied.TS == w.head.Last.TS })
}

// snapshots gives the complete ones, oldest first.
func (w *world) snapshots() (out []backup.Snapshot) {
	w.t.Helper()
	all, err := w.backup.Snapshots(w.t.Context(), w.job)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range all {
		if s.Complete && s.Condemned.IsZero() {
			out = append(out, s)
		}
	}
	return out
}

// wish asks for a snapshot and waits for it.
func (w *world) wish() backup.Snapshot {
	w.t.Helper()
	id := string(model.NewID())
	err := w.backup.UpdateJob(w.t.Context(), w.job, func(j *backup.Job) error {
		j.Wishes = append(j.Wishes, backup.Wish{ID: id, At: w.now(), By: "ann", Expires: w.now().Add(time.Hour)})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.await("the snapshot is taken", func(j *backup.Job) bool { return j.Last == id })
	s, err := w.backup.Snapshot(w.t.Context(), w.job, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) reader(e *backup.Epoch) *stored.Reader {
	return &stored.Reader{Records: w.backup, Blocks: w.blocks, Job: w.job, Epoch: e.Number, Start: e.Start}
}
