package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/docstore/mongodoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/store/transfer"
)

// A site moves from the embedded database to a (simulated) replica set, is used there, and is backed up from there.
func TestStoreMovesToAReplicaSetAndBack(t *testing.T) {
	d, err := mongosim.Start(t.Context(), mongosim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(context.WithoutCancel(t.Context())) })
	if err := d.WaitPrimary(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir, uri := siteFolder(t), d.URI()
	key := filepath.Join(dir, "gen.key")

	wantRun(t, exitOK, "counts and digests are equal", "verify groups", "store", "copy", "--data", dir, "--to", uri)
	wantRun(t, exitOK, "0 errors, 0 warnings", "", "store", "check", uri, "--key", key)

	e, err := mongodoc.Open(mongodoc.Options{URI: uri, Database: "heartwood"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	s, err := areas.Open(t.Context(), store.Options{Engine: e, Box: storetest.Box(t), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	group, at := model.ID("0123456789abcdef01234567"), time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	host := model.Host{
		ID: model.NewHostID(group, "a", 1), GroupID: group, Hostname: "a", Port: 1, Created: at, MemberID: -1,
		Credentials: model.Credentials{Username: "u", Password: "p"},
	}
	if err := inventory.New(s).CreateHost(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	if err := s.Register(t.Context(), model.Instance{ID: "i1", Hostname: "app1"}); err != nil {
		t.Fatal(err)
	}

	backup := filepath.Join(t.TempDir(), "site.backup")
	args := []string{"store", "backup", "--mongo-uri", uri, "--key", key, backup}
	wantRun(t, exitFailed, "", "servers are running on it: app1", args...)
	if err := s.Unregister(t.Context(), "i1"); err != nil {
		t.Fatal(err)
	}
	wantRun(t, exitOK, "0 errors", "", args...)

	target := filepath.Join(t.TempDir(), "again")
	out := wantRun(t, exitOK, "", "", "store", "copy", "--from", backup, "--to", target, "--json")
	var report transfer.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	wantRun(t, exitOK, "0 errors, 0 warnings", "", "store", "check", target, "--key", key)
	found := false
	for _, c := range report.Collections {
		found = found || c.Collection == "hosts" && c.Documents == 1
	}
	if !found {
		t.Fatalf("the host is lost: %s", out)
	}
}
