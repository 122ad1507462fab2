package groom

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/storetest"

	"go.mongodb.org/mongo-driver/v2/bson"
)

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// site is a backup with a snapshot a day, each of files of its own beside one that never changes.
type site struct {
	backup *backup.Backup
	blocks *faultblock.Store
	job    backup.Job
	cfg    backup.Config
	ids    []string
}

func newSite(t *testing.T, snapshots int) *site {
	t.Helper()
	st, err := areas.Open(t.Context(), store.Options{Engine: storetest.Engine(t), Box: storetest.Box(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{backup: backup.New(st), blocks: faultblock.New(memblock.New())}
	cluster := model.NewID()
	if _, err := s.backup.SaveConfig(t.Context(), backup.Config{GroupID: model.NewID(), ClusterID: cluster, Schedule: snapshot.Default()}, now); err != nil {
		t.Fatal(err)
	}
	if s.cfg, err = s.backup.SetStatus(t.Context(), cluster, model.BackupStarted, now); err != nil {
		t.Fatal(err)
	}
	if s.job, err = s.backup.Job(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	noise := func(seed, n int) []byte { // nothing that compresses
		b := make([]byte, n)
		x := uint64(seed)*2654435761 + 1
		for i := range b {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			b[i] = byte(x)
		}
		return b
	}
	write("same.wt", noise(1, 300_000))
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	var prev *tree.Manifest
	for i := range snapshots {
		write("other.wt", noise(i+2, 300_000))
		at := now.Add(time.Duration(i-snapshots+1) * 24 * time.Hour)
		id := string(model.NewID())
		if prev, err = tree.Write(t.Context(), s.blocks, root, prev, tree.Options{Job: string(cluster), ID: id, Token: 1, Created: at}); err != nil {
			t.Fatal(err)
		}
		x := backup.Snapshot{
			ID: id, GroupID: s.cfg.GroupID, Job: cluster, Epoch: 1, At: at, Created: at, Complete: true, StoreID: "s", Expires: at.Add(48 * time.Hour),
			Applied: oplog.OpTime{TS: bson.Timestamp{T: uint32(at.Unix()), I: 1}}, Kinds: []snapshot.Kind{snapshot.Base},
		}
		if err := s.backup.AddSnapshot(t.Context(), 1, x); err != nil {
			t.Fatal(err)
		}
		s.ids = append(s.ids, id)
	}
	return s
}

func (s *site) options(at time.Time) Options {
	return Options{
		Records: s.backup, Blocks: func(context.Context, string) (blockstore.Store, error) { return s.blocks, nil }, Config: s.cfg, Job: s.job,
		Token: 2, Grace: time.Hour, Tree: true, Now: at,
	}
}

// left lists the snapshots that are offered, and checks that each of them is whole.
func (s *site) left(t *testing.T) (ids []string) {
	t.Helper()
	all, err := s.backup.Snapshots(t.Context(), s.job.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		if !x.Condemned.IsZero() || !x.Complete {
			continue
		}
		ids = append(ids, x.ID)
		m, err := tree.Load(t.Context(), s.blocks.Unwrap(), string(s.job.ID), x.ID)
		if err != nil {
			t.Fatal(err)
		}
		report, err := tree.Check(t.Context(), s.blocks.Unwrap(), m, 1, rand.New(rand.NewPCG(1, 2)))
		if err != nil || len(report.Faults) > 0 {
			t.Fatalf("snapshot %s is damaged: %+v %v", x.ID, report, err)
		}
	}
	return ids
}

func (s *site) manifests(t *testing.T) int {
	t.Helper()
	ids, err := tree.List(t.Context(), s.blocks.Unwrap(), string(s.job.ID))
	if err != nil {
		t.Fatal(err)
	}
	return len(ids)
}

func TestExpiredSnapshotsGoInTwoPhases(t *testing.T) {
	s := newSite(t, 5) // of 4, 3, 2, 1 and 0 days ago; kept for 2
	r, err := Pass(t.Context(), s.options(now))
	if err != nil || len(r.Condemned) != 3 || r.Deleted != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	if got := s.left(t); len(got) != 2 || s.manifests(t) != 5 {
		t.Errorf("%d are offered, %d are there", len(got), s.manifests(t))
	}
	if r, err = Pass(t.Context(), s.options(now.Add(2*time.Hour))); err != nil || r.Deleted != 3 {
		t.Fatalf("%+v %v", r, err)
	}
	if got := s.left(t); len(got) != 2 || s.manifests(t) != 2 {
		t.Errorf("%d are offered, %d are there", len(got), s.manifests(t))
	}
	// Their blocks go when nothing has needed them for the grace.
	for h := 4; h < 12 && r.Freed == 0; h += 2 {
		if r, err = Pass(t.Context(), s.options(now.Add(time.Duration(h)*time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	if r.Freed < 500_000 {
		t.Errorf("%d bytes were freed", r.Freed)
	}
	s.left(t)
}

func TestWhatStays(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, s *site, o *Options)
		left int
	}{
		{"the newest of a running backup, whatever its time", func(*testing.T, *site, *Options) {}, 1},
		{"nothing of a stopped one", func(_ *testing.T, _ *site, o *Options) { o.Config.Status = model.BackupStopped }, 0},
		{"what is marked", func(t *testing.T, s *site, _ *Options) {
			if err := s.backup.UpdateSnapshot(t.Context(), s.job.ID, s.ids[0], func(x *backup.Snapshot) error { x.DoNotDelete = true; return nil }); err != nil {
				t.Fatal(err)
			}
		}, 2},
		{"what a restore reads", func(t *testing.T, s *site, _ *Options) {
			r := backup.Restore{
				ID: string(model.NewID()), BatchID: string(model.NewID()), GroupID: s.cfg.GroupID, Job: s.job.ID, Created: now,
				Status: model.RestoreInProgress, Method: model.DeliverHTTP, SnapshotID: s.ids[1],
			}
			if err := s.backup.AddRestore(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, 3)
			o := s.options(now.AddDate(1, 0, 0))
			tt.do(t, s, &o)
			if _, err := Pass(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			o.Now = o.Now.Add(2 * time.Hour)
			if _, err := Pass(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if got := s.left(t); len(got) != tt.left {
				t.Errorf("%d are left, want %d", len(got), tt.left)
			}
		})
	}
}

func TestWhatADeadDaemonBeganIsForgotten(t *testing.T) {
	s := newSite(t, 1)
	begun := backup.Snapshot{ID: string(model.NewID()), GroupID: s.cfg.GroupID, Job: s.job.ID, Epoch: 1, Created: now, StoreID: "s"}
	if err := s.backup.AddSnapshot(t.Context(), 1, begun); err != nil {
		t.Fatal(err)
	}
	mine := begun
	mine.ID = string(model.NewID())
	if err := s.backup.AddSnapshot(t.Context(), 2, mine); err != nil {
		t.Fatal(err)
	}
	o := s.options(now)
	o.Taking = mine.ID
	if r, err := Pass(t.Context(), o); err != nil || r.Deleted != 1 || r.Groomed {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := s.backup.Snapshot(t.Context(), s.job.ID, mine.ID); err != nil {
		t.Errorf("the one that is being taken: %v", err)
	}
	if _, err := s.backup.Snapshot(t.Context(), s.job.ID, begun.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the one that was begun before: %v", err)
	}
}

// TestCutOffAnywhere fails the n-th call to the block store, then goes on: what is offered is whole at every moment, and what
// expired goes in the end.
func TestCutOffAnywhere(t *testing.T) {
	for n := 1; ; n += 1 + n/20 {
		s := newSite(t, 4)
		s.blocks.Fail(faultblock.Fault{Nth: n})
		failed := false
		for h := range 5 {
			if _, err := Pass(t.Context(), s.options(now.Add(time.Duration(2*h)*time.Hour))); err != nil {
				failed = true
			}
			if h == 0 {
				continue
			}
			if got := s.left(t); len(got) != 2 {
				t.Fatalf("call %d failed: %d are offered", n, len(got))
			}
		}
		if got := s.manifests(t); got != 2 {
			t.Fatalf("call %d failed: %d manifests are left", n, got)
		}
		if !failed {
			if n < 5 {
				t.Fatal(fmt.Sprint("a pass makes only ", n, " calls"))
			}
			return
		}
	}
}

// leftovers is a store that counts what it is asked to remove.
type leftovers struct {
	blockstore.Store
	before []time.Time
}

// Clean is blockstore.Cleaner's.
func (l *leftovers) Clean(_ context.Context, before time.Time) (blockstore.Cleaned, error) {
	l.before = append(l.before, before)
	return blockstore.Cleaned{Leftovers: 2, Bytes: 7}, nil
}

func TestLeftoversOfKilledWritersGo(t *testing.T) {
	s := newSite(t, 1)
	store := &leftovers{Store: s.blocks}
	o := s.options(now)
	o.Blocks = func(context.Context, string) (blockstore.Store, error) { return store, nil }
	turn := true
	o.Clean = func(id string) bool { return id == "s" && turn }
	r, err := Pass(t.Context(), o)
	if err != nil || r.Cleaned != (blockstore.Cleaned{Leftovers: 2, Bytes: 7}) {
		t.Errorf("%+v %v", r.Cleaned, err)
	}
	if len(store.before) != 1 || !store.before[0].Equal(now.Add(-blockstore.LeftoverAge)) {
		t.Errorf("cleaned before %s", store.before)
	}
	turn = false
	if r, err := Pass(t.Context(), o); err != nil || r.Cleaned.Leftovers != 0 || len(store.before) != 1 {
		t.Errorf("cleaned out of turn: %+v %v", r.Cleaned, err)
	}
}
