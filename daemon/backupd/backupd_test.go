package backupd_test

import (
	"path/filepath"
	"testing"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/snap"
	"github.com/heartwood-db/heartwood/daemon/backupd/statetest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// started makes a head from a snapshot and starts it.
func (w *world) started(s backup.Snapshot) *head.Head {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "restored")
	meta, err := snap.Restore(w.t.Context(), snap.RestoreOptions{Blocks: w.blocks, Job: w.job, ID: s.ID, Dir: dir})
	if err != nil {
		w.t.Fatal(err)
	}
	if meta.Applied != s.Applied || meta.Epoch != s.Epoch || meta.SetName != "rs0" {
		w.t.Errorf("the snapshot remembers %+v", meta)
	}
	heads := w.heads(w.t.TempDir())
	pick, err := heads.Pick(w.t.Context(), meta.Mongod, "")
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := heads.Start(w.t.Context(), head.Spec{Dir: dir, Release: pick})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// restored makes a head from a snapshot, replays what is stored since, and compares it with the recorded final state.
func (w *world) restored(s backup.Snapshot) {
	w.t.Helper()
	h := w.started(s)
	if s.Applied.Before(w.entries[len(w.entries)-1].At) {
		a, err := apply.Open(w.t.Context(), apply.Options{Client: h.Client(), Dir: h.Dir})
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := w.backup.Epoch(w.t.Context(), w.job, s.Epoch)
		if err != nil {
			w.t.Fatal(err)
		}
		r := w.reader(&e)
		if err := a.Apply(w.t.Context(), r.Oplog(a.Applied(), a.ReplayFrom()).Entries(w.t.Context(), func() bool { return false }), oplog.OpTime{}.TS); err != nil {
			w.t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			w.t.Error(err)
		}
	}
	for _, fault := range statetest.Differences(w.t.Context(), h.Client(), statetest.Recorded(w.t)) {
		w.t.Error(fault)
	}
	if err := h.Stop(w.t.Context()); err != nil {
		w.t.Error(err)
	}
}

func TestAJobFromTheFullReadToItsSnapshots(t *testing.T) {
	w := newWorld(t, nil, nil)
	d := w.daemon("d1", t.TempDir(), nil)
	j := w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon == d.ID() })
	if j.StoreID != storeID || j.Stage != backup.StageSync {
		t.Errorf("%+v", j)
	}
	w.await("it is started", func(*backup.Job) bool {
		c, err := w.backup.Config(t.Context(), w.job)
		return err == nil && c.Status == model.BackupStarted
	})
	if err := w.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.tail(t.Context(), w.window()/2, 100); err != nil {
		t.Fatal(err)
	}
	// The window's oplog comes in parts; the head is made when it is there.
	if err := w.tail(t.Context(), -1, 500); err != nil {
		t.Fatal(err)
	}
	w.applied()
	first := w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	if first.Next.IsZero() || first.HeadBytes == 0 || first.Problem != nil {
		t.Errorf("%+v", first)
	}
	s := w.snapshots()
	if len(s) != 1 || s[0].FileBytes == 0 || s[0].AddedBytes == 0 || s[0].Files == 0 || s[0].DataBytes == 0 || s[0].Expires.IsZero() {
		t.Fatalf("%+v", s)
	}
	if e, err := w.backup.Epoch(t.Context(), w.job, 1); err != nil || e.Seeded.IsZero() {
		t.Errorf("the sync slices may not go: %+v %v", e, err)
	}
	second := w.wish()
	if second.Applied != w.head.Last || len(second.Kinds) != 1 || second.AddedBytes == 0 || second.AddedBytes > second.FileBytes {
		t.Errorf("%+v", second)
	}
	d.stop()
	w.restored(s[0])
	w.restored(second)
	if after, err := w.backup.Daemons(t.Context()); err != nil || len(after) != 1 || !after[0].Stopped {
		t.Errorf("%+v %v", after, err)
	}
}
