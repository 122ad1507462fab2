package fileblock_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/fileblock"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

func open(t testing.TB, folder string) *fileblock.Store {
	t.Helper()
	s, err := fileblock.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(t *testing.T) blockstore.Store { return open(t, t.TempDir()) })
}

// files are the paths of all files below a folder.
func files(t *testing.T, folder string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(folder, path)
			found = append(found, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestNothingIsLeftBehind(t *testing.T) {
	folder := t.TempDir()
	s := open(t, folder)
	if err := blockstoretest.Write(t.Context(), s, "a/b/c", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := blockstoretest.Write(t.Context(), s, "a/b/c", []byte("y")); !errors.Is(err, blockstore.ErrExists) {
		t.Fatal(err)
	}
	w, err := s.Create(t.Context(), "a/b/d")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if diff := cmp.Diff([]string{"a/b/c"}, files(t, folder)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := s.Delete(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("after the last object of a folder: %v, %v", left, err)
	}
}

func TestCleanTakesOnlyOldLeftovers(t *testing.T) {
	folder := t.TempDir()
	s := open(t, folder)
	ctx := t.Context()
	asleep, err := s.Create(ctx, "jobs/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asleep.Write(make([]byte, 1<<20+5)); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, f := range files(t, folder) {
		if err := os.Chtimes(filepath.Join(folder, f), now.Add(-25*time.Hour), now.Add(-25*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := s.Create(ctx, "jobs/2")
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Clean(ctx, now.Add(-blockstore.LeftoverAge))
	if diff := cmp.Diff(blockstore.Cleaned{Leftovers: 1, Bytes: 1 << 20}, got); diff != "" || err != nil {
		t.Errorf("cleaned (-want +got):\n%s%v", diff, err)
	}
	if err := asleep.Commit(ctx); err == nil {
		t.Error("a writer whose file was cleaned away says that it committed")
	}
	if err := alive.Commit(ctx); err != nil {
		t.Errorf("a writer that was alive: %v", err)
	}
	if diff := cmp.Diff([]string{"jobs/2"}, files(t, folder)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestWhatIsNoObjectIsPassedOver(t *testing.T) {
	folder := t.TempDir()
	s := open(t, folder)
	if err := blockstoretest.Write(t.Context(), s, "a/1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lost+found", ".snapshot", "a/Thumbs.db"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("foreign"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "a", "link")); err != nil {
		t.Fatal(err)
	}
	got, err := s.List(t.Context(), "", "", 0)
	if err != nil || len(got) != 1 || got[0].Key != "a/1" {
		t.Errorf("list: %v, %v", got, err)
	}
	if _, err := s.Open(t.Context(), "a/link", 0, -1); err == nil {
		t.Error("a link out of the store was followed")
	}
	if _, err := s.Stat(t.Context(), "a/link"); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("stat of a link: %v", err)
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ folder, hint string }{
		"not mounted": {filepath.Join(t.TempDir(), "absent", "blocks"), "mkdir -p"},
		"a file":      {file, "Name a folder"},
	} {
		_, err := fileblock.Open(c.folder)
		if !errors.Is(err, blockstore.ErrUnavailable) || !strings.Contains(opererr.HintOf(err), c.hint) {
			t.Errorf("%s: %v (hint %q)", name, err, opererr.HintOf(err))
		}
	}
}

func TestAnObjectIsNoFolder(t *testing.T) {
	s := open(t, t.TempDir())
	ctx := t.Context()
	if err := blockstoretest.Write(ctx, s, "a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := blockstoretest.Write(ctx, s, "a/b/c", []byte("x")); !errors.Is(err, blockstore.ErrInvalid) {
		t.Errorf("below an object: %v", err)
	}
	if err := blockstoretest.Write(ctx, s, "a", []byte("x")); err == nil {
		t.Error("an object took a folder's name")
	}
}

func TestSpace(t *testing.T) {
	got, err := open(t, t.TempDir()).Space(t.Context())
	if err != nil || got.Free <= 0 || got.Total < got.Free {
		t.Errorf("%+v, %v", got, err)
	}
}
