package stores_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heartwood-db/heartwood/local/stores"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/fileblock"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
)

func box(t *testing.T) *seal.Box {
	t.Helper()
	b, err := seal.New(bytes.Repeat([]byte("k"), seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t *testing.T, d model.BlockStore, o stores.Options) blockstore.Store {
	t.Helper()
	s, err := stores.Open(t.Context(), d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stores.Close(s); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStores(t *testing.T) {
	for name, d := range map[string]model.BlockStore{
		"a folder":                 {ID: "f", Type: model.BlockStoreFile},
		"an encrypted folder":      {ID: "e", Type: model.BlockStoreFile, Encrypt: true},
		"memory, one call at once": {ID: "m", Type: model.BlockStoreMemory, MaxConnections: 1, MaxBytesPerSecond: 10 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			blockstoretest.Run(t, func(t *testing.T) blockstore.Store {
				d := d
				d.Path = filepath.Join(t.TempDir(), "blocks")
				return open(t, d, stores.Options{Box: box(t), Reg: prometheus.NewRegistry()})
			})
		})
	}
}

func TestOptionsHaveTheirEffect(t *testing.T) {
	folder, reg := t.TempDir(), prometheus.NewRegistry()
	d := model.BlockStore{ID: "default", Type: model.BlockStoreFile, Path: folder, Encrypt: true}
	s := open(t, d, stores.Options{Box: box(t), Reg: reg})
	if err := blockstoretest.Write(t.Context(), s, "k", []byte("attack at dawn")); err != nil {
		t.Fatal(err)
	}
	raw, err := fileblock.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	below, err := blockstore.Get(t.Context(), raw, "k", 1000)
	if err != nil || bytes.Contains(below, []byte("attack")) {
		t.Errorf("not encrypted: %q, %v", below, err)
	}
	if n, err := testutil.GatherAndCount(reg, "heartwood_blockstore_operation_seconds"); err != nil || n == 0 {
		t.Errorf("not measured: %d, %v", n, err)
	}
	if _, ok := blockstore.SpacerOf(s); !ok {
		t.Error("an encrypted folder does not know its room")
	}
	if _, ok := blockstore.SignerOf(s); ok {
		t.Error("an encrypted store signs requests past its encryption")
	}
	bucket := model.BlockStore{ID: "s", Type: model.BlockStoreS3, Bucket: "b", AccessKey: "id", SecretKey: "hush"}
	if _, ok := blockstore.SignerOf(open(t, bucket, stores.Options{})); !ok {
		t.Error("a bucket signs nothing")
	}
	bucket.Encrypt = true
	if _, ok := blockstore.SignerOf(open(t, bucket, stores.Options{Box: box(t)})); ok {
		t.Error("an encrypted bucket signs requests past its encryption")
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	for hint, d := range map[string]model.BlockStore{
		"gen.key":               {Type: model.BlockStoreMemory, Encrypt: true},
		"Name its folder":       {Type: model.BlockStoreFile},
		"Use FILE_SYSTEM":       {Type: "TAPE"},
		"Name the bucket":       {Type: model.BlockStoreS3},
		"Give awsAccessKey":     {Type: model.BlockStoreS3, Bucket: "b", Auth: model.S3AuthKeys},
		"Mount the file system": {Type: model.BlockStoreFile, Path: "/does/not/exist"},
	} {
		d.ID = "s1"
		_, err := stores.Open(t.Context(), d, stores.Options{})
		if err == nil || !strings.Contains(opererr.HintOf(err), hint) || !strings.Contains(err.Error(), "s1") {
			t.Errorf("%+v: %v (hint %q)", d, err, opererr.HintOf(err))
		}
	}
}

// shelf keeps descriptions in memory.
type shelf struct {
	all   []model.BlockStore
	saved int
}

func (s *shelf) Stores(context.Context) ([]model.BlockStore, error) { return s.all, nil }
func (s *shelf) SaveStore(_ context.Context, d model.BlockStore) error {
	s.saved++
	for i := range s.all {
		if s.all[i].ID == d.ID {
			s.all[i] = d
			return nil
		}
	}
	s.all = append(s.all, d)
	return nil
}

func (s *shelf) get(_ context.Context, id string) (model.BlockStore, error) {
	for _, d := range s.all {
		if d.ID == id {
			return d, nil
		}
	}
	return model.BlockStore{}, errors.New("no such store")
}

func TestSet(t *testing.T) {
	ctx := t.Context()
	k := &shelf{all: []model.BlockStore{{ID: "a", Type: model.BlockStoreFile, Path: t.TempDir()}}}
	set := stores.NewSet(k.get, stores.Options{})
	first, err := set.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := blockstoretest.Write(ctx, first, "k", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if again, err := set.Get(ctx, "a"); err != nil || again != first {
		t.Errorf("opened twice: %v", err)
	}
	k.all[0].LoadFactor = 7
	if again, err := set.Get(ctx, "a"); err != nil || again != first {
		t.Errorf("opened again for what does not matter: %v", err)
	}
	k.all[0].Path = t.TempDir()
	moved, err := set.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := moved.Stat(ctx, "k"); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("the old folder: %v", err)
	}
	if _, err := first.Stat(ctx, "k"); err != nil {
		t.Errorf("who still has the old store: %v", err)
	}
	if _, err := set.Get(ctx, "b"); err == nil {
		t.Error("a store that nobody described")
	}
	if err := set.Close(); err != nil {
		t.Error(err)
	}
}

func TestKeepDefault(t *testing.T) {
	ctx := t.Context()
	d := model.BlockStore{ID: "default", Type: model.BlockStoreFile, Path: "/a", AssignmentEnabled: true, LoadFactor: 1}
	k := &shelf{all: []model.BlockStore{{ID: "other"}}}
	if changed, err := stores.KeepDefault(ctx, k, d); err != nil || !changed {
		t.Fatal(changed, err)
	}
	k.all[1].AssignmentEnabled, k.all[1].LoadFactor = false, 3 // the administrator
	if changed, err := stores.KeepDefault(ctx, k, d); err != nil || changed {
		t.Fatal(changed, err)
	}
	d.Path = "/b"
	if changed, err := stores.KeepDefault(ctx, k, d); err != nil || !changed {
		t.Fatal(changed, err)
	}
	want := []model.BlockStore{{ID: "other"}, {ID: "default", Type: model.BlockStoreFile, Path: "/b", LoadFactor: 3}}
	if diff := cmp.Diff(want, k.all); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
