package backupd_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/daemon/backupd"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/slot"
	"github.com/heartwood-db/heartwood/daemon/backupd/stored"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
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

// recorded is what a real replica set left: the oplog of a workload, a copy read under it, and its final state.
type recorded struct {
	oplog        []bson.Raw
	files        map[string][]byte
	fuzzy, final manifest
}

type manifest struct {
	StartTs, EndTs, LastTs bson.Timestamp
	Collections            []struct {
		DB, Name, Type, File, Lost string
		UUID                       bson.Binary
		Options                    bson.Raw
		Indexes                    []bson.Raw
	}
}

var theRecord = sync.OnceValue(func() *recorded {
	r, err := readRecord("../../shared/oplog/testdata/")
	if err != nil {
		panic(err)
	}
	return r
})

func readRecord(dir string) (*recorded, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	unpack := func(name string) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		return d.DecodeAll(b, nil)
	}
	b, err := unpack("replay-oplogs.bson.zst")
	if err != nil {
		return nil, err
	}
	all := documents(b)
	second := slices.IndexFunc(all[1:], func(x bson.Raw) bool { return bytes.Equal(x, all[0]) }) + 1
	r := &recorded{oplog: all[second:], files: map[string][]byte{}} // the stream of diffs, as servers since 5.0 write it
	if b, err = unpack("replay-states.tar.zst"); err != nil {
		return nil, err
	}
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if r.files[h.Name], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
	return r, errors.Join(
		bson.UnmarshalExtJSON(r.files["fuzzy/manifest.json"], true, &r.fuzzy),
		bson.UnmarshalExtJSON(r.files["final/manifest.json"], true, &r.final))
}

func documents(b []byte) (out []bson.Raw) {
	for len(b) > 4 {
		n := binary.LittleEndian.Uint32(b)
		out = append(out, bson.Raw(b[:n:n]))
		b = b[n:]
	}
	return out
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
	last := theRecord().final.LastTs
	if last.IsZero() {
		last = theRecord().fuzzy.EndTs
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
	start := theRecord().fuzzy.StartTs
	for _, raw := range theRecord().oplog {
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
	r := theRecord()
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
	for _, x := range r.fuzzy.Collections {
		if x.Type != "collection" || x.Lost != "" {
			continue
		}
		c := backup.Collection{NS: x.DB + "." + x.Name, UUID: oplog.UUID(x.UUID.Data), Done: true}
		if len(x.Options) > 5 {
			c.Options = x.Options
		}
		for _, spec := range x.Indexes {
			if spec.Lookup("name").StringValue() == "_id_" {
				c.IDIndex = spec
			} else {
				c.Indexes = append(c.Indexes, spec)
			}
		}
		docs := documents(r.files["fuzzy/"+x.File])
		if (&schema.Collection{NS: c.NS}).Views() {
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
	return w.backup.MarkScanned(ctx, w.job, w.epoch, oplog.OpTime{TS: r.fuzzy.EndTs, Term: 1}, int64(len(colls)))
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
	end := theRecord().fuzzy.EndTs
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

// differences compares a head with the recorded final state: documents and indexes, byte for byte.
func differences(ctx context.Context, client *mongo.Client) (faults []string) {
	r := theRecord()
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	want := map[string]bool{}
	docs := 0
	for _, x := range r.final.Collections {
		if x.Type != "collection" {
			continue
		}
		ns := x.DB + "." + x.Name
		want[ns] = true
		c := schema.Collection{NS: ns}
		if len(x.Options) > 5 {
			c.Options = x.Options
		}
		coll := client.Database(x.DB).Collection(x.Name)
		var names, wanted []string
		cur, err := coll.Indexes().List(ctx)
		if err == nil && !c.Views() {
			for cur.Next(ctx) {
				names = append(names, cur.Current.Lookup("name").StringValue())
			}
			for _, spec := range x.Indexes {
				wanted = append(wanted, spec.Lookup("name").StringValue())
			}
			sort.Strings(names)
			sort.Strings(wanted)
			if !slices.Equal(names, wanted) {
				fault("%s has indexes %s, want %s", ns, names, wanted)
			}
		}
		var got []bson.Raw
		if cur, err = coll.Find(ctx, bson.D{}); err == nil {
			for cur.Next(ctx) {
				got = append(got, bytes.Clone(cur.Current))
			}
			err = cur.Err()
		}
		if err != nil {
			fault("%s: %v", ns, err)
			continue
		}
		all := slices.Clone(documents(r.files["final/"+x.File]))
		docs += len(all)
		if !c.Capped() {
			for _, list := range [][]bson.Raw{got, all} {
				sort.Slice(list, func(i, j int) bool { return idKey(list[i]) < idKey(list[j]) })
			}
		}
		if len(got) != len(all) {
			fault("%s has %d documents, want %d", ns, len(got), len(all))
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i], all[i]) {
				fault("%s: document %d is\n%s\nwant\n%s", ns, i, got[i], all[i])
				break
			}
		}
	}
	for _, db := range []string{"w1", "w2"} {
		names, err := client.Database(db).ListCollectionNames(ctx, bson.D{{Key: "type", Value: "collection"}})
		if err != nil {
			fault("%v", err)
		}
		for _, n := range names {
			if !want[db+"."+n] {
				fault("%s.%s should not be there", db, n)
			}
		}
	}
	if docs < 1000 {
		fault("compared only %d documents", docs)
	}
	return faults
}

func idKey(d bson.Raw) string {
	v, _ := oplog.Lookup(d, "_id")
	return document.Key(v)
}

func (w *world) reader(e *backup.Epoch) *stored.Reader {
	return &stored.Reader{Records: w.backup, Blocks: w.blocks, Job: w.job, Epoch: e.Number, Start: e.Start}
}
