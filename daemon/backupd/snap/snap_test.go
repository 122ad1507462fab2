package snap

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
)

func TestMetaOfASnapshot(t *testing.T) {
	state, err := bson.Marshal(bson.D{{Key: "v", Value: 1}, {Key: "packed", Value: strings.Repeat("collection ", 1000)}})
	if err != nil {
		t.Fatal(err)
	}
	at := oplog.OpTime{TS: bson.Timestamp{T: 1700000000, I: 3}, Term: 2}
	want := Meta{Version: metaVersion, Job: "j", Epoch: 3, SetName: "rs0", Mongod: "7.0.14", FCV: "7.0", Applied: at, ReplayFrom: at, Filter: filter.Exclude, Namespaces: []string{"a"}}
	if err := want.SetState(state); err != nil {
		t.Fatal(err)
	}
	if len(want.State) > len(state)/4 {
		t.Errorf("%d bytes of state take %d", len(state), len(want.State))
	}
	raw, err := bson.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadMeta(&tree.Manifest{ID: "s", Meta: raw})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Error(diff)
	}
	if back, err := got.AppliersState(); err != nil || !cmp.Equal([]byte(back), []byte(state)) {
		t.Errorf("%s %v", back, err)
	}
	got.State = got.State[:len(got.State)/2]
	if _, err := got.AppliersState(); !errors.Is(err, blockstore.ErrDamaged) {
		t.Errorf("half a state: %v", err)
	}
	if _, err := ReadMeta(&tree.Manifest{Meta: raw[:20]}); !errors.Is(err, blockstore.ErrDamaged) {
		t.Errorf("half a meta: %v", err)
	}
	want.Version = metaVersion + 1
	if raw, err = bson.Marshal(want); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadMeta(&tree.Manifest{Meta: raw}); !errors.Is(err, tree.ErrVersion) {
		t.Errorf("a later form: %v", err)
	}
}

// TestNothingOfAHeadIsForgotten: what a clone leaves out and what a snapshot skips are the same.
func TestNothingOfAHeadIsForgotten(t *testing.T) {
	for path, left := range map[string]bool{
		"WiredTiger": false, "WiredTiger.turtle": false, "_mdb_catalog.wt": false, "storage.bson": false, "sizeStorer.wt": false,
		"collection-7-123.wt": false, "index-8-123.wt": false, "db/collection-0.wt": false, "journal.wt": false,
		"journal": true, "journal/WiredTigerLog.0000000001": true, "diagnostic.data": true, "mongod.lock": true, "_tmp": true, "_tmp/extsort.1": true,
	} {
		if head.Leave(path) != left {
			t.Errorf("a clone leaves out %s: %v", path, !left)
		}
		if first, _, _ := strings.Cut(path, "/"); Skip(first) != left { // what is below a skipped folder is not looked at
			t.Errorf("a snapshot skips %s: %v", path, !left)
		}
	}
}

func TestSnapshotAndBack(t *testing.T) {
	blocks := memblock.New()
	db := t.TempDir()
	for name, content := range map[string]string{"collection-0.wt": strings.Repeat("x", 100_000), "mongod.lock": "1\n", "journal/log": "j"} {
		path := filepath.Join(db, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	meta := Meta{Job: "65f0000000000000000000aa", Epoch: 1}
	if err := meta.SetState(bson.Raw("\x05\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	const id = "65f0000000000000000000bb"
	m, err := Write(t.Context(), Options{Blocks: blocks, DBPath: db, ID: id, Token: 1, Created: time.Unix(1700000000, 0), Meta: meta})
	if err != nil {
		t.Fatal(err)
	}
	if m.Stats.Files != 1 || m.Stats.Bytes != 100_000 {
		t.Errorf("%+v", m.Stats)
	}
	if last, err := Last(t.Context(), blocks, meta.Job, []string{"65f0000000000000000000cc", id}, obs.Discard()); err != nil || last == nil || last.ID != id {
		t.Errorf("the last whole one: %+v %v", last, err)
	}
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // which blocks are read is no secret
	if fault, read, err := Check(t.Context(), blocks, meta.Job, id, rnd); fault != "" || read == 0 || err != nil {
		t.Errorf("%q after %d bytes, %v", fault, read, err)
	}
	if fault, _, err := Check(t.Context(), blocks, meta.Job, "65f0000000000000000000cc", rnd); fault != "its manifest is gone" || err != nil {
		t.Errorf("%q %v", fault, err)
	}
	objects, err := blocks.List(t.Context(), "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if !strings.HasPrefix(o.Key, "snapshots/") {
			if err := blocks.Delete(t.Context(), o.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if fault, _, err := Check(t.Context(), blocks, meta.Job, id, rnd); fault == "" || err != nil {
		t.Errorf("its blocks are gone, and the check says %q %v", fault, err)
	}
}
