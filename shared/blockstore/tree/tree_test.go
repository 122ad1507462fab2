package tree_test

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
)

var start = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

// folder is a folder with files that a test may change.
type folder struct {
	t    testing.TB
	dir  string
	root *os.Root
	rnd  *rand.Rand
}

func newFolder(t testing.TB, seed uint64) *folder {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return &folder{t: t, dir: dir, root: root, rnd: rand.New(rand.NewPCG(seed, 7))}
}

// bytes are n that do not compress well, but somewhat.
func (f *folder) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.rnd.UintN(50))
	}
	return b
}

func (f *folder) write(path string, b []byte) {
	f.t.Helper()
	full := filepath.Join(f.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(full, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) patch(path string, at int64, b []byte) {
	f.t.Helper()
	w, err := os.OpenFile(filepath.Join(f.dir, path), os.O_WRONLY, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := w.WriteAt(b, at); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) snap(s blockstore.Store, id string, prev *tree.Manifest, mend ...func(*tree.Options)) *tree.Manifest {
	f.t.Helper()
	o := tree.Options{Job: "job1", ID: id, Token: 1, Created: start, BlockSize: 256, FrameSize: 4096, PackSize: 20000, Workers: 3}
	for _, m := range mend {
		m(&o)
	}
	m, err := tree.Write(context.Background(), s, f.root, prev, o)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// contents is what a folder holds: content, mode and time of every file.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			all[rel] = "folder"
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all[rel] = info.Mode().String() + " " + info.ModTime().UTC().Format(time.RFC3339Nano) + " " + string(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func restored(t testing.TB, s blockstore.Store, m *tree.Manifest) map[string]string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	if _, err := tree.Restore(t.Context(), s, m, dir, tree.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	return contents(t, dir)
}

func TestSnapshotsGiveBackWhatWasThere(t *testing.T) {
	s := memblock.New()
	f := newFolder(t, 1)
	f.write("a/big.wt", f.bytes(700_000)) // 2,735 blocks: three map pages and one above
	f.write("a/short", []byte("x"))
	f.write("empty", nil)
	f.write("zeros", make([]byte, 300_000))
	f.write("exact", f.bytes(512))
	if err := os.Mkdir(filepath.Join(f.dir, "nothing"), 0o700); err != nil {
		t.Fatal(err)
	}
	m1 := f.snap(s, "s1", nil)
	want1 := contents(t, f.dir)

	f.patch("a/big.wt", 300_000, f.bytes(1000))
	f.write("new", f.bytes(5000))
	if err := os.Remove(filepath.Join(f.dir, "exact")); err != nil {
		t.Fatal(err)
	}
	f.patch("zeros", 1000, []byte("no longer"))
	m2 := f.snap(s, "s2", m1)
	want2 := contents(t, f.dir)
	if m2.Stats.Changed > 32 {
		t.Errorf("%d blocks changed", m2.Stats.Changed)
	}

	for id, want := range map[string]map[string]string{"s1": want1, "s2": want2} {
		m, err := tree.Load(t.Context(), s, "job1", id)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, restored(t, s, m)); d != "" {
			t.Errorf("%s: %.2000s", id, d)
		}
	}
	m, err := tree.Load(t.Context(), s, "job1", "s2")
	if err != nil {
		t.Fatal(err)
	}
	m2.Stats.Stored = m.Stats.Stored // the manifest cannot count itself
	if d := cmp.Diff(m2, m); d != "" {
		t.Errorf("loaded: %s", d)
	}
}

// TestRestorePutsGenerationsTogether restores files whose parts were stored by several snapshots, in blocks and frames of the usual
// size: long runs, which are written past the page cache, made of blocks of several frames; copies; holes; ends of any length.
func TestRestorePutsGenerationsTogether(t *testing.T) {
	s := memblock.New()
	f := newFolder(t, 3)
	usual := func(o *tree.Options) { *o = tree.Options{Job: o.Job, ID: o.ID, Token: 1, Created: start} }
	big := f.bytes(5<<20 + 1001)
	copy(big[1<<20:], make([]byte, 100<<10))
	for _, name := range []string{"a/1", "a/2", "b/3"} {
		f.write(name, big)
	}
	m := f.snap(s, "s0", nil, usual)
	for i := range 3 {
		for range 40 {
			f.patch("a/1", f.rnd.Int64N(5<<20), f.bytes(20<<10))
			f.patch("b/3", f.rnd.Int64N(5<<20), f.bytes(100))
		}
		m = f.snap(s, string(rune('a'+i)), m, usual)
	}
	want := contents(t, f.dir)
	if d := cmp.Diff(want, restored(t, s, m)); d != "" {
		t.Fatalf("%.2000s", d)
	}
	// What an interrupted restore left is completed, wrong bytes in it are replaced.
	dir := filepath.Join(t.TempDir(), "again")
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "1"), big[:4<<20+5], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Restore(t.Context(), s, m, dir, tree.RestoreOptions{Resume: true}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, contents(t, dir)); d != "" {
		t.Errorf("resumed: %.2000s", d)
	}
}
