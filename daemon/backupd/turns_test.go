package backupd_test

import (
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd"
	"github.com/heartwood-db/heartwood/daemon/backupd/slot"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// another is a further backup of the same site.
func (w *world) another() *world {
	w.t.Helper()
	o := &world{t: w.t, store: w.store, backup: w.backup, blocks: w.blocks, job: model.NewID(), rel: w.rel, entries: w.entries, log: w.log, epoch: 1, clock: w.clock}
	_, err := w.backup.SaveConfig(w.t.Context(), backup.Config{GroupID: model.NewID(), ClusterID: o.job, Schedule: snapshot.Default()}, w.now())
	o.must(err)
	_, err = w.backup.SetStatus(w.t.Context(), o.job, model.BackupStarted, w.now())
	o.must(err)
	return o
}

func TestHeadsTakeTurns(t *testing.T) {
	w := newWorld(t, nil, nil)
	all := []*world{w, w.another(), w.another()}
	for _, o := range all {
		o.must(o.begin(t.Context()))
		o.must(o.tail(t.Context(), o.window(), 500))
	}
	d := w.daemon("d1", t.TempDir(), func(o *backupd.Options) { o.Slots, o.Turn = slot.New(1), 200*time.Millisecond })
	for _, o := range all {
		o.await("its first snapshot", func(j *backup.Job) bool {
			if n := d.heads.Running(); n > 1 {
				t.Fatalf("%d heads run at once", n)
			}
			return j.Last != ""
		})
	}
	for _, o := range all {
		o.must(o.tail(t.Context(), 300, 100))
	}
	for _, o := range all {
		o.applied()
	}
}
