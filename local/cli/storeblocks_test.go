package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/cli/blocks"
	"github.com/heartwood-db/heartwood/local/stores"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

// blocksFolder gives a site's folder a block store that holds a snapshot of a job that the site does not know.
func blocksFolder(t *testing.T) (data, folder string) {
	t.Helper()
	data = siteFolder(t)
	folder = filepath.Join(t.TempDir(), "blocks")
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(data, config.DatabaseFile)})
	if err != nil {
		t.Fatal(err)
	}
	st, err := areas.Open(t.Context(), store.Options{Engine: e, Box: storetest.Box(t), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	d := model.BlockStore{ID: "default", Type: model.BlockStoreFile, Path: folder, AssignmentEnabled: true, LoadFactor: 1}
	if err := backup.New(st).SaveStore(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := stores.Open(t.Context(), d, stores.Options{})
	if err != nil {
		t.Fatal(err)
	}
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "collection.wt"), []byte(strings.Repeat("data", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if _, err := tree.Write(t.Context(), s, root, nil, tree.Options{Job: "lost", ID: "s1", Token: 1, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := stores.Close(s); err != nil {
		t.Fatal(err)
	}
	return data, folder
}

func TestStoreStats(t *testing.T) {
	data, folder := blocksFolder(t)
	out := wantRun(t, 0, "block store default (FILE_SYSTEM)", "", "store", "stats", "--data", data)
	if !strings.Contains(out, "does not know: lost") {
		t.Errorf("a job that nobody knows is not told: %s", out)
	}
	var stats blocks.Stats
	if err := json.Unmarshal([]byte(wantRun(t, 0, "{", "", "store", "stats", "--data", data, "--json")), &stats); err != nil {
		t.Fatal(err)
	}
	if len(stats.Stores) != 1 || stats.Stores[0].Total == nil || len(stats.Stores[0].Unknown) != 1 {
		t.Errorf("%+v", stats)
	}
	wantRun(t, 0, "1 block stores: 0 snapshots", "", "store", "check", "--blocks", "--data", data)
	wantRun(t, 0, "nothing to groom", "", "store", "groom", "--dry-run", "--data", data)
	wantRun(t, 2, "", "no block store other", "store", "stats", "--data", data, "--store", "other")
	wantRun(t, 2, "", "--sample 2 is not within", "store", "check", "--blocks", "--sample", "2", "--data", data)
	if err := os.RemoveAll(filepath.Dir(folder)); err != nil {
		t.Fatal(err)
	}
	wantRun(t, 1, "cannot be read", "", "store", "stats", "--data", data)
	wantRun(t, 1, "mkdir -p", "", "store", "check", "--blocks", "--data", data)
	wantRun(t, 0, "", "no block store is described yet", "store", "stats", "--data", siteFolder(t))
}
