package work

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/daemon/backupd/mark"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

func TestFoldersOfHeads(t *testing.T) {
	h := &Host{Root: t.TempDir(), Log: obs.Discard()}
	const id = "65f0000000000000000000aa"
	if n, err := h.epochs(id); len(n) != 0 || err != nil {
		t.Errorf("%v %v", n, err)
	}
	ours, foreign := h.epochDir(id, 2), h.epochDir(id, 7)
	for _, dir := range []string{ours, foreign, filepath.Join(h.JobDir(id), "notes")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := mark.Write(ours, mark.Mark{Job: id, Epoch: 2}); err != nil {
		t.Fatal(err)
	}
	if n, err := h.epochs(id); err != nil || cmp.Diff([]int64{2, 7}, n) != "" {
		t.Errorf("%v %v", n, err)
	}
	if err := h.Discard(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ours); !os.IsNotExist(err) {
		t.Errorf("our folder stays: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a folder without our mark was removed: %v", err)
	}
}

func TestStoresAreCleanedInTurn(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	h := &Host{Now: func() time.Time { return now }}
	for _, c := range []struct {
		store string
		later time.Duration
		want  bool
	}{{"a", 0, true}, {"a", time.Hour, false}, {"b", 0, true}, {"a", 22 * time.Hour, false}, {"a", time.Hour, true}} {
		now = now.Add(c.later)
		if got := h.clean(c.store); got != c.want {
			t.Errorf("%s at %s: %v", c.store, now, got)
		}
	}
}

func TestWhatTheNextSnapshotIsComparedWith(t *testing.T) {
	s := &job.State{Job: backup.Job{StoreID: "a"}, Snapshots: []backup.Snapshot{
		{ID: "1", Complete: true, StoreID: "a"},
		{ID: "2", Complete: true, StoreID: "b"},
		{ID: "3", StoreID: "a"},
		{ID: "4", Complete: true, StoreID: "a", VerifyError: "x"},
		{ID: "5", Complete: true, StoreID: "a", Condemned: time.Unix(1, 0)},
		{ID: "6", Complete: true, StoreID: "a"},
	}}
	if diff := cmp.Diff([]string{"6", "1"}, newestFirst(s)); diff != "" {
		t.Error(diff)
	}
}
