package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/store/transfer"
)

// siteFolder makes a data folder with a small site, its key and its server stopped.
func siteFolder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(dir, config.DatabaseFile)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := areas.Open(t.Context(), store.Options{Engine: e, Box: storetest.Box(t), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	err = inventory.New(s).CreateGroup(t.Context(), model.Group{ID: "0123456789abcdef01234567", Name: "Group"})
	if err == nil {
		err = access.New(s).CreateAPIKey(t.Context(), model.APIKey{ID: "k1", PublicKey: "abcdefgh", HA1: "ha1"})
	}
	if err == nil {
		err = e.Close()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "gen.key"), []byte(storetest.GenKey), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// heartwood runs one command line.
func heartwood(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func wantRun(t *testing.T, code int, stdout, stderr string, args ...string) (out string) {
	t.Helper()
	got, out, errOut := heartwood(t, args...)
	if got != code || !strings.Contains(out, stdout) || !strings.Contains(errOut, stderr) {
		t.Fatalf("heartwood %s\nexit %d, want %d\nstdout (want %q): %s\nstderr (want %q): %s", strings.Join(args, " "), got, code, stdout, out, stderr, errOut)
	}
	return out
}

func TestStoreBackupCopyCheck(t *testing.T) {
	dir := siteFolder(t)
	backup := filepath.Join(t.TempDir(), "site.backup")
	target := filepath.Join(t.TempDir(), "new")
	key := filepath.Join(dir, "gen.key")

	wantRun(t, exitOK, "0 errors, 0 warnings", "check apikeys", "store", "check", "--data", dir)
	wantRun(t, exitOK, "keep "+key, "check groups", "store", "backup", "--data", dir, backup)
	wantRun(t, exitFailed, "", "does not exist yet", "store", "backup", "--data", dir, backup)
	wantRun(t, exitOK, "0 errors", "", "store", "check", backup, "--key", key)

	out := wantRun(t, exitOK, "", "", "store", "copy", "--from", backup, "--to", target, "--dry-run", "--json")
	var plan transfer.Plan
	if err := json.Unmarshal([]byte(out), &plan); err != nil || plan.Total == 0 {
		t.Fatalf("plan %s: %v", out, err)
	}
	if _, err := os.Stat(target); err == nil {
		t.Fatal("a dry run made the target")
	}
	wantRun(t, exitOK, "would copy", "", "store", "copy", "--from", backup, "--to", target, "--dry-run")
	wantRun(t, exitOK, "counts and digests are equal", "verify groups", "store", "copy", "--from", backup, "--to", target)
	wantRun(t, exitFailed, "", "--again", "store", "copy", "--from", backup, "--to", target)
	wantRun(t, exitOK, "(0 written)", "", "store", "copy", "--from", backup, "--to", target, "--again")
	out = wantRun(t, exitOK, "", "", "store", "check", target, "--key", key, "--json")
	var report transfer.CheckReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Documents != plan.Total+1 || report.Errors != 0 {
		t.Fatalf("report %s: %v", out, err)
	}
}

func TestStoreBesideARunningServer(t *testing.T) {
	dir := siteFolder(t)
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(dir, config.DatabaseFile)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	backup := filepath.Join(t.TempDir(), "site.backup")
	wantRun(t, exitOK, "wrote "+backup, "the server is running", "store", "backup", "--data", dir, backup)
	wantRun(t, exitOK, "0 errors", "the server is running", "store", "check", "--data", dir)
	wantRun(t, exitFailed, "", "the server is running", "store", "copy", "--data", dir, "--to", filepath.Join(t.TempDir(), "new"))
}

func TestStoreCheckFindsDamage(t *testing.T) {
	dir := siteFolder(t)
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(dir, config.DatabaseFile)})
	if err != nil {
		t.Fatal(err)
	}
	op, err := store.PutOp("orgs", "o2", model.Org{ID: "o1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Ensure(t.Context(), areas.Collections()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write(t.Context(), []docstore.Op{op}, true); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	wantRun(t, exitFailed, "error: orgs o2: its id should be", "", "store", "check", "--data", dir)

	other := filepath.Join(t.TempDir(), "gen.key")
	if err := os.WriteFile(other, []byte("another key of 24 bytes."), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRun(t, exitFailed, "its secret does not open", "", "store", "check", "--data", dir, "--key", other)
}

func TestStoreUsage(t *testing.T) {
	empty := t.TempDir()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "try: heartwood store check", []string{"store"}},
		{exitUsage, "--to is missing", []string{"store", "copy"}},
		{exitUsage, "name the one file", []string{"store", "backup"}},
		{exitUsage, "no location", []string{"store", "copy", "--data", empty, "--to", "http://a"}},
		{exitUsage, "the source and the target", []string{"store", "copy", "--data", empty, "--to", empty}},
		{exitFailed, "no such file", []string{"store", "check", "--data", empty}},
		{exitFailed, "no such file", []string{"store", "backup", "--data", empty, filepath.Join(empty, "b")}},
		{exitFailed, "no such file", []string{"store", "copy", "--from", filepath.Join(empty, "b.db"), "--to", filepath.Join(empty, "c")}},
		{exitUsage, "unknown flag", []string{"store", "check", "--nonsense"}},
	} {
		wantRun(t, c.code, "", c.want, c.args...)
	}
	if entries, _ := os.ReadDir(empty); len(entries) != 0 {
		t.Errorf("a failed command left %v", entries)
	}
}
