package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

func TestPreflight(t *testing.T) {
	// setup makes a machine on which everything is in order.
	setup := func(t *testing.T) (dir string, set map[string]string) {
		dir = t.TempDir()
		bin := filepath.Join(dir, "releases", "mongodb-linux-x86_64-7.0.14", "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, "mongod"), []byte("#!/bin/sh\n"), 0o755); err != nil { //nolint:gosec // it must be executable
			t.Fatal(err)
		}
		return dir, map[string]string{
			"heartwood.data": filepath.Join(dir, "data"), "rootDirectory": filepath.Join(dir, "heads"), "mongodb.release.directory": filepath.Join(dir, "releases"),
		}
	}
	tests := []struct {
		name string
		do   func(t *testing.T, dir string, set map[string]string)
		want string
	}{
		{"in order", func(*testing.T, string, map[string]string) {}, ""},
		{"no release directory", func(_ *testing.T, dir string, set map[string]string) {
			set["mongodb.release.directory"] = filepath.Join(dir, "nowhere")
		}, "mongodb.release.directory: "},
		{"no mongod", func(_ *testing.T, dir string, set map[string]string) { set["mongodb.release.directory"] = dir }, "no mongod in"},
		{"the root is a file", func(t *testing.T, dir string, set map[string]string) {
			set["rootDirectory"] = filepath.Join(dir, "file")
			if err := os.WriteFile(set["rootDirectory"], nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "rootDirectory: "},
		{"the root is a database's folder", func(t *testing.T, dir string, set map[string]string) {
			if err := os.MkdirAll(filepath.Join(dir, "db", "heads"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "db", "WiredTiger.wt"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			set["rootDirectory"] = filepath.Join(dir, "db", "heads")
		}, "the database folder"},
		{"the embedded database lies in the root", func(_ *testing.T, dir string, set map[string]string) { set["rootDirectory"] = dir }, "the embedded database"},
		{"blocks in the root", func(_ *testing.T, dir string, set map[string]string) {
			set["heartwood.blockstore.path"] = filepath.Join(dir, "heads", "blocks")
		}, "lie in one another"},
		{"no key", func(_ *testing.T, dir string, set map[string]string) {
			set["mms.keyfile"] = filepath.Join(dir, "gen.key")
		}, "mms.keyfile"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, set := setup(t)
			tt.do(t, dir, set)
			l, err := config.Load(config.Sources{File: set})
			if err != nil {
				t.Fatal(err)
			}
			err = Preflight(&l.Server)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || opererr.HintOf(err) == "" {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestABackupDaemonOfItsOwnNeedsAReplicaSet(t *testing.T) {
	err := RunBackup(t.Context(), BackupOptions{Sources: config.Sources{File: map[string]string{"heartwood.data": t.TempDir()}}, Log: obs.Discard()})
	if err == nil || !strings.Contains(opererr.HintOf(err), "serve --backup") {
		t.Errorf("%v", err)
	}
}
