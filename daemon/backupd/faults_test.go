package backupd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupd"
	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/daemon/backupd/statetest"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

type bsonValue = bsoncore.Value

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// again makes what waits for its next try be tried at once.
func (w *world) again() {
	w.must(w.backup.UpdateJob(w.t.Context(), w.job, func(j *backup.Job) error {
		if j.Problem == nil || j.Problem.Next.IsZero() {
			return store.ErrUnchanged
		}
		j.Problem.Next = w.now().Add(-time.Second)
		return nil
	}))
}

func problem(code string) func(j *backup.Job) bool {
	return func(j *backup.Job) bool { return j.Problem != nil && j.Problem.Code == code && j.Problem.Remedy != "" }
}

func TestTheStoreIsAwayFullAndSlow(t *testing.T) {
	bs := faultblock.New(memblock.New())
	w := newWorld(t, nil, bs)
	d := w.daemon("d1", t.TempDir(), nil)
	w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon != "" })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), w.window(), 300))

	bs.Off(nil)
	j := w.await("the store is missed", problem(job.CodeUnavailable))
	if j.Stage != backup.StageBroken || j.Problem.Next.IsZero() {
		t.Errorf("%+v", j.Problem)
	}
	bs.On()
	bs.Room(1000)
	w.again()
	w.await("the store is full", problem(job.CodeStore))
	if n := len(w.snapshots()); n != 0 {
		t.Errorf("%d snapshots in a full store", n)
	}
	if all, err := w.backup.Snapshots(t.Context(), w.job); err != nil || len(all) != 0 {
		t.Errorf("a snapshot that failed has left its record: %+v %v", all, err)
	}
	bs.On()
	w.again()
	w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" && j.Problem == nil })
	bs.Fail(faultblock.Fault{Delay: 20 * time.Millisecond})
	w.must(w.tail(t.Context(), -1, 1000))
	w.applied()
	s := w.wish()
	bs.On()
	d.stop()
	w.restored(s)
}

func TestAHeadThatIsKilledIsMadeFromTheLastSnapshot(t *testing.T) {
	w := newWorld(t, nil, nil)
	d := w.daemon("d1", t.TempDir(), nil)
	w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon != "" })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), w.window(), 300))
	first := w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	w.must(w.tail(t.Context(), 500, 100))
	w.applied()

	// The process dies under the daemon.
	w.must(d.Head(w.job).Kill())
	w.must(w.tail(t.Context(), -1, 1000))
	w.applied()
	if j := w.await("it goes on", func(j *backup.Job) bool { return j.Problem == nil }); j.Last != first.Last {
		t.Errorf("another snapshot than %s: %s", first.Last, j.Last)
	}
	// The whole disk is lost.
	d.stop()
	w.must(os.RemoveAll(d.JobDir(w.job)))
	d = w.daemon("d1", strings.TrimSuffix(d.Root(), "/"), nil)
	w.await("the daemon has it again", func(j *backup.Job) bool { return j.Token > first.Token })
	s := w.wish()
	d.stop()
	w.restored(s)
}

// TestAnotherDaemonTakesOver: the first daemon loses the store's database, not its life. What it writes late is refused.
func TestAnotherDaemonTakesOver(t *testing.T) {
	engine := storetest.Engine(t)
	w := newWorld(t, engine, nil)
	flaky := faultdoc.New(engine)
	theirs, err := areas.Attach(store.Options{Engine: flaky, Box: storetest.Box(t)})
	w.must(err)
	late := backup.New(theirs)
	d1 := w.daemon("d1", t.TempDir(), func(o *backupd.Options) { o.Store, o.Backup = theirs, late })
	w.await("the first has it", func(j *backup.Job) bool { return j.Daemon == d1.ID() })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), w.window(), 300))
	before := w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	d2 := w.daemon("d2", t.TempDir(), nil)
	w.must(w.tail(t.Context(), 300, 100))
	if j := w.applied(); j.Daemon != d1.ID() {
		t.Fatalf("%s took it from one that lives", j.Daemon)
	}

	flaky.Off(nil)
	j := w.await("the second has it", func(j *backup.Job) bool { return j.Daemon == d2.ID() })
	if j.Token <= before.Token {
		t.Errorf("token %d after %d", j.Token, before.Token)
	}
	flaky.On()
	for what, err := range map[string]error{
		"job":      late.UpdateJobAs(t.Context(), w.job, before.Token, func(j *backup.Job) error { j.Applied = oplog.OpTime{}; return nil }),
		"snapshot": late.AddSnapshot(t.Context(), before.Token, backup.Snapshot{ID: string(model.NewID()), Job: w.job, Complete: true}),
	} {
		if !errors.Is(err, backup.ErrFenced) {
			t.Errorf("a late write to the %s: %v", what, err)
		}
	}
	w.must(w.tail(t.Context(), -1, 1000))
	if j := w.applied(); j.Daemon != d2.ID() {
		t.Errorf("it went back to %s", j.Daemon)
	}
	s := w.wish()
	moved := false
	for _, e := range w.kinds() {
		moved = moved || e == model.EventBackupMoved
	}
	if !moved {
		t.Error("nobody was told")
	}
	// The first one's head is of no use to anybody any more.
	deadline := time.Now().Add(20 * time.Second)
	for {
		w.must(d1.Sweep(t.Context()))
		if _, err := os.Stat(d1.JobDir(w.job)); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the head of the daemon that lost its job stays")
		}
		time.Sleep(50 * time.Millisecond)
	}
	d1.stop()
	d2.stop()
	w.restored(s)
}

// TestANewHistory: a slice is lost for good. The daemon asks for a new full read; what was restorable stays so.
func TestANewHistory(t *testing.T) {
	w := newWorld(t, nil, nil)
	d := w.daemon("d1", t.TempDir(), nil)
	w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon != "" })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), w.window(), 300))
	w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	w.applied()
	old := w.snapshots()[0]
	d.stop()
	w.must(w.tail(t.Context(), -1, 1000))
	later, err := w.backup.Slices(t.Context(), w.job, 1, old.Applied, 2)
	w.must(err)
	w.must(w.blocks.Delete(t.Context(), later[1].Key))

	d = w.daemon("d1", strings.TrimSuffix(d.Root(), "/"), nil)
	j := w.await("a new full read is asked for", func(j *backup.Job) bool {
		if j.Problem != nil && j.Problem.Code != job.CodeMissing {
			t.Fatalf("%+v", j.Problem)
		}
		w.again()
		return j.Resync != nil
	})
	if !j.Problem.Resync || j.Stage != backup.StageBroken {
		t.Errorf("%+v", j)
	}
	if e, err := w.backup.Epoch(t.Context(), w.job, 1); err != nil || len(e.Breaks) != 1 {
		t.Errorf("the old history does not end where it ends: %+v %v", e.Breaks, err)
	}
	w.epoch = 2
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), -1, 1000))
	w.await("the first snapshot of the new history", func(j *backup.Job) bool { return j.Last != old.ID && j.Problem == nil })
	all := w.snapshots()
	if len(all) != 2 || all[0].ID != old.ID || all[1].Epoch != 2 {
		t.Fatalf("%+v", all)
	}
	ranges, holes, err := w.backup.Ranges(t.Context(), w.job)
	if err != nil || len(ranges) != 2 || ranges[0].Epoch != 1 || ranges[1].Epoch != 2 {
		t.Errorf("%+v %+v %v", ranges, holes, err)
	}
	w.applied()
	last := w.wish()
	if names, err := os.ReadDir(d.JobDir(w.job)); err != nil || len(names) != 1 || names[0].Name() != "2" {
		t.Errorf("heads of old epochs stay: %v %v", names, err)
	}
	d.stop()
	w.restored(last)
}

// TestMissingDocuments: a document that the oplog changes is not in the full read. The agent is asked for it.
func TestMissingDocuments(t *testing.T) {
	w := newWorld(t, nil, nil)
	r := statetest.Recorded(w.t)
	ns, uuid, id, final := w.changed()
	drop := func(file string) []byte {
		var kept []bson.Raw
		for _, d := range statetest.Documents(r.Files["fuzzy/"+file]) {
			if v, _ := oplog.Lookup(d, "_id"); !bytes.Equal(v.Data, id.Data) {
				kept = append(kept, d)
			}
		}
		return concat(kept)
	}
	for _, x := range r.Fuzzy.Collections {
		if x.Type == "collection" && oplog.UUID(x.UUID.Data) == uuid {
			whole := r.Files["fuzzy/"+x.File]
			r.Files["fuzzy/"+x.File] = drop(x.File)
			t.Cleanup(func() { r.Files["fuzzy/"+x.File] = whole })
		}
	}
	d := w.daemon("d1", t.TempDir(), nil)
	w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon != "" })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), -1, 1000))
	j := w.await("documents are asked for", func(j *backup.Job) bool { return len(j.Missing) > 0 })
	if len(j.Missing) != 1 || len(j.Missing[0].IDs) != 1 || j.Missing[0].NS != ns || !bytes.Equal(j.Missing[0].IDs[0].Lookup("_id").Value, id.Data) {
		t.Fatalf("%s %s: %+v", ns, id, j.Missing)
	}
	last := w.entries[len(w.entries)-1].At
	answer, err := wire.Encode(wire.FoundDocs{Job: string(w.job), Epoch: 1, OperationTime: last, Found: []wire.FoundOf{{UUID: uuid, Docs: []bson.Raw{final}}}})
	w.must(err)
	key := backup.FoundKey(w.job, 1, "0123456789abcdef")
	w.must(blockstore.Put(t.Context(), w.blocks, key, answer))
	w.must(w.backup.SetFound(t.Context(), w.job, backup.Found{Key: key, Epoch: 1, OperationTime: last}, w.now()))
	w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" && j.Found == nil })
	w.applied()
	s := w.wish()
	d.stop()
	w.restored(s)
}

// changed finds a document that is in the full read, is changed by a diff in the window, and is there in the end.
func (w *world) changed() (ns string, uuid oplog.UUID, id bsonValue, final bson.Raw) {
	w.t.Helper()
	r := statetest.Recorded(w.t)
	find := func(m *statetest.Manifest, state string, uuid oplog.UUID, id bsonValue) bson.Raw {
		for _, x := range m.Collections {
			if x.Type != "collection" || x.Lost != "" || oplog.UUID(x.UUID.Data) != uuid {
				continue
			}
			for _, d := range statetest.Documents(r.Files[state+"/"+x.File]) {
				if v, _ := oplog.Lookup(d, "_id"); bytes.Equal(v.Data, id.Data) {
					return d
				}
			}
		}
		return nil
	}
	deleted := map[string]bool{}
	for _, e := range w.entries {
		if e.Kind == oplog.Delete || e.Kind == oplog.Insert || e.Kind == oplog.Command {
			deleted[e.UI.String()+string(e.ID.Data)] = true
		}
	}
	capped := map[oplog.UUID]bool{}
	for _, x := range r.Fuzzy.Collections {
		if v, ok := oplog.Lookup(x.Options, "capped"); ok && v.Boolean() && x.Type == "collection" {
			capped[oplog.UUID(x.UUID.Data)] = true
		}
	}
	for _, e := range w.entries[1:] {
		if e.At.TS.After(r.Fuzzy.EndTs) {
			break
		}
		if _, diff := oplog.Lookup(e.O, "diff"); e.Kind != oplog.Update || !diff || capped[e.UI] || deleted[e.UI.String()+string(e.ID.Data)] {
			continue
		}
		if doc := find(&r.Final, "final", e.UI, e.ID); doc != nil && find(&r.Fuzzy, "fuzzy", e.UI, e.ID) != nil {
			return w.nameOf(e.UI), e.UI, e.ID, doc
		}
	}
	w.t.Fatal("the recording has no such document")
	return
}

func (w *world) nameOf(uuid oplog.UUID) string {
	for _, x := range statetest.Recorded(w.t).Fuzzy.Collections {
		if x.Type == "collection" && oplog.UUID(x.UUID.Data) == uuid {
			return x.DB + "." + x.Name
		}
	}
	return ""
}

func TestStoppedStartedAndDeleted(t *testing.T) {
	w := newWorld(t, nil, nil)
	d := w.daemon("d1", t.TempDir(), nil)
	w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon != "" })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), w.window(), 300))
	w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	w.applied()
	status := func(want model.BackupStatus) {
		t.Helper()
		_, err := w.backup.SetStatus(t.Context(), w.job, want, w.now())
		w.must(err)
	}
	status(model.BackupStopped)
	w.await("it has stopped", func(j *backup.Job) bool { return strings.Contains(j.Reason, "stopped") && d.heads.Running() == 0 })
	status(model.BackupStarted)
	w.must(w.tail(t.Context(), 200, 100))
	w.applied()
	status(model.BackupStopped)
	status(model.BackupTerminating)
	deadline := time.Now().Add(20 * time.Second)
	for {
		lease, ok, err := w.store.Lease(t.Context(), backup.LeaseName(w.job), "backup-expire", time.Minute)
		w.must(err)
		if ok {
			w.must(lease.Release(context.Background()))
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the daemon does not let go of a backup that is being deleted")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := os.Stat(d.JobDir(w.job)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its head is still there: %v", err)
	}
}

// TestASnapshotThatFailsStopsNothingElse: the store takes no snapshot, for a reason of its own. The head follows the oplog all the same.
func TestASnapshotThatFailsStopsNothingElse(t *testing.T) {
	bs := faultblock.New(memblock.New())
	w := newWorld(t, nil, bs)
	d := w.daemon("d1", t.TempDir(), nil)
	w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon != "" })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), w.window(), 300))
	first := w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	bs.Fail(faultblock.Fault{Call: faultblock.Commit, Prefix: "snapshots/", Err: blockstore.ErrDenied})
	id := string(model.NewID())
	w.must(w.backup.UpdateJob(t.Context(), w.job, func(j *backup.Job) error {
		j.Wishes = []backup.Wish{{ID: id, At: w.now(), By: "ann", Expires: w.now().Add(time.Hour)}}
		return nil
	}))
	j := w.await("the snapshot fails", problem(job.CodeStore))
	if !j.Problem.Snapshots || j.Problem.Resync || j.Problem.Next.IsZero() {
		t.Errorf("%+v", j.Problem)
	}
	w.must(w.tail(t.Context(), -1, 500))
	if j = w.applied(); j.Problem == nil || j.Last != first.Last || len(j.Wishes) != 1 {
		t.Errorf("it went on: %+v", j)
	}
	if all, err := w.backup.Snapshots(t.Context(), w.job); err != nil || len(all) != 1 {
		t.Errorf("a snapshot that failed has left its record: %+v %v", all, err)
	}
	bs.On()
	w.again()
	w.await("the snapshot is taken", func(j *backup.Job) bool { return j.Last == id && j.Problem == nil })
	s, err := w.backup.Snapshot(t.Context(), w.job, id)
	w.must(err)
	d.stop()
	w.restored(s)
}

// TestAnExcludedCollectionLeavesTheHead: the list is narrowed while the backup runs. What was excluded is not in the next snapshot, nor
// in a restore from it, whatever the oplog still holds; an earlier snapshot is as it was.
func TestAnExcludedCollectionLeavesTheHead(t *testing.T) {
	w := newWorld(t, nil, nil)
	d := w.daemon("d1", t.TempDir(), nil)
	w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon != "" })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), w.window(), 300))
	w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	w.applied()
	before := w.snapshots()[0]
	if n := w.holds(before, "w1."); n == 0 {
		t.Fatal("the first snapshot holds nothing of w1")
	}
	cfg, err := w.backup.Config(t.Context(), w.job)
	w.must(err)
	cfg.Filter, cfg.Namespaces = filter.Exclude, []string{"w1"}
	_, err = w.backup.SaveConfig(t.Context(), cfg, w.now())
	w.must(err)
	w.must(w.tail(t.Context(), 500, 100)) // with entries about what is excluded
	w.applied()
	w.await("a snapshot after the change", func(j *backup.Job) bool { return j.Last != before.ID })
	w.must(w.tail(t.Context(), -1, 500))
	j := w.applied()
	if j.Problem != nil || j.Resync != nil {
		t.Errorf("%+v", j)
	}
	last := w.wish()
	all := w.snapshots()
	if len(all) != 3 || all[1].Filter != filter.Exclude || before.Filter != filter.None {
		t.Fatalf("%+v", all)
	}
	for _, s := range all {
		if n, excluded := w.holds(s, "w1."), s.ID != before.ID; (n == 0) != excluded {
			t.Errorf("the snapshot of %s holds %d collections of w1", s.At, n)
		}
		if w.holds(s, "w2.") == 0 {
			t.Errorf("the snapshot of %s holds nothing of w2", s.At)
		}
	}
	e, err := w.backup.Epoch(t.Context(), w.job, 1)
	w.must(err)
	if len(e.Breaks) != 1 || !strings.Contains(e.Breaks[0].Why, "excluded") || !all[1].Applied.TS.After(e.Breaks[0].At) {
		t.Errorf("breaks %+v, the snapshot after it %s", e.Breaks, all[1].Applied)
	}
	d.stop()
	h := w.started(last)
	for db, want := range map[string]bool{"w1": false, "w2": true} {
		names, err := h.Client().Database(db).ListCollectionNames(t.Context(), bson.D{})
		if err != nil || (len(names) > 0) != want {
			t.Errorf("%s on the head of the last snapshot: %s %v", db, names, err)
		}
	}
	w.must(h.Stop(t.Context()))
}

// holds counts the namespaces of a snapshot that begin so, as people are told.
func (w *world) holds(s backup.Snapshot, prefix string) (n int) {
	w.t.Helper()
	all, err := w.backup.Contents(w.t.Context(), w.job, s.ID)
	w.must(err)
	for _, ns := range all {
		if strings.HasPrefix(ns.NS, prefix) {
			n++
		}
	}
	return n
}
