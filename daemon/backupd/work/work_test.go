package work

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

func TestMarkOfAHead(t *testing.T) {
	dir := t.TempDir()
	if _, ok, err := readMark(dir); ok || err != nil {
		t.Errorf("a folder without a mark: %v %v", ok, err)
	}
	at := oplog.OpTime{TS: bson.Timestamp{T: 1700000000, I: 3}, Term: 2}
	want := mark{Job: "j", Epoch: 4, Phase: job.Ready, Applied: at, ReplayFrom: at, Snapshot: "s", Filter: &held{Kind: filter.Exclude, Namespaces: []string{"a", "b.c"}}}
	if err := writeMark(dir, want); err != nil {
		t.Fatal(err)
	}
	got, ok, err := readMark(dir)
	if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
		t.Errorf("%v %v %s", ok, err, diff)
	}
	path := filepath.Join(dir, markFile)
	for _, c := range []struct {
		name    string
		content []byte
		fails   bool
	}{
		{"torn", []byte(`{"job":"j","epoch":4,"pha`), false},
		{"empty", nil, false},
		{"too large to be one", make([]byte, maxMark+1), true},
	} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, ok, err := readMark(dir)
		if (err != nil) != c.fails || !c.fails && (!ok || !got.Dirty) {
			t.Errorf("%s: %+v %v %v", c.name, got, ok, err)
		}
	}
}

func TestAHeadNeverHoldsMoreThanWasRead(t *testing.T) {
	without := func(ns ...string) *held { return &held{Kind: filter.Exclude, Namespaces: ns} }
	only := func(ns ...string) *held { return &held{Kind: filter.Include, Namespaces: ns} }
	for _, c := range []struct {
		name             string
		have, want, then *held
	}{
		{"a mark of an older version", nil, without("a"), without("a")},
		{"the same", without("a"), without("a"), without("a")},
		{"more is excluded", without("a"), without("a", "b"), without("a", "b")},
		{"less is excluded: from the next full read on", without("a", "b"), without("a"), without("a", "b")},
		{"nothing was excluded", &held{}, without("a"), without("a")},
		{"nothing is excluded any more", without("a"), &held{}, without("a")},
		{"less is included", only("a", "b"), only("b"), only("b")},
		{"other things are included", only("a"), only("b"), only("a")},
	} {
		to, is, err := narrowed(c.have, c.want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.then, to); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		named, err := filter.New(to.Kind, to.Namespaces)
		if err != nil {
			t.Fatal(err)
		}
		for _, ns := range []string{"a.x", "b.x", "c.x"} {
			if is.Wants(ns) != named.Wants(ns) {
				t.Errorf("%s: the filter of another list: %s", c.name, ns)
			}
		}
		if !to.same(c.then) || c.have == nil && to.same(nil) {
			t.Errorf("%s: same", c.name)
		}
	}
	if _, _, err := narrowed(nil, &held{Kind: filter.Include}); err == nil {
		t.Error("a list that holds nothing is taken")
	}
}

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
	if err := writeMark(ours, mark{Job: id, Epoch: 2}); err != nil {
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
