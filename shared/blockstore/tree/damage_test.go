package tree_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
)

// spoil replaces an object; nil removes it.
func spoil(t *testing.T, s blockstore.Store, key string, b []byte) {
	t.Helper()
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if b != nil {
		if err := blockstore.Put(t.Context(), s, key, b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamageIsFoundAndNamed changes bytes all over every object, cuts it short and removes it: Check says which object, Restore
// never gives back something else than was written.
func TestDamageIsFoundAndNamed(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 20)
	f.write("a", f.bytes(20_000))
	f.write("b", f.bytes(700))
	m1 := f.snap(mem, "s1", nil)
	f.patch("a", 5_000, f.bytes(2_000))
	f.snap(mem, "s2", m1)
	want := contents(t, f.dir)
	rnd := rand.New(rand.NewPCG(1, 1))
	kinds := map[string]int{}
	for o, err := range blockstore.All(t.Context(), mem, "") {
		if err != nil {
			t.Fatal(err)
		}
		if o.Key == tree.ManifestKey("job1", "s1") {
			continue
		}
		whole, err := blockstore.Get(t.Context(), mem, o.Key, o.Size)
		if err != nil {
			t.Fatal(err)
		}
		tries := [][]byte{nil, {}, whole[:len(whole)-1], whole[:len(whole)/2]}
		for at := 0; at < len(whole); at += 1 + len(whole)/40 {
			b := slices.Clone(whole)
			b[at] ^= 1 << rnd.UintN(8)
			tries = append(tries, b)
		}
		for i, b := range tries {
			s := copyOf(t, mem)
			spoil(t, s, o.Key, b)
			where := fmt.Sprintf("%s, try %d", o.Key, i)
			m, err := tree.Load(t.Context(), s, "job1", "s2")
			if strings.HasPrefix(o.Key, "snapshots/") {
				var d *tree.Damage
				named := errors.As(err, &d) && d.Key == o.Key && d.Snapshot == "s2" || errors.Is(err, tree.ErrVersion)
				if b == nil && !errors.Is(err, blockstore.ErrNotFound) || b != nil && !named {
					t.Errorf("%s: loaded: %v", where, err)
				}
				kinds["manifest"]++
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			r, err := tree.Check(t.Context(), s, m, 1, rnd)
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			dir := filepath.Join(t.TempDir(), "r")
			_, rerr := tree.Restore(t.Context(), s, m, dir, tree.RestoreOptions{})
			if len(r.Faults) == 0 { // what was changed belongs to s1 alone
				if rerr != nil {
					t.Errorf("%s: check found nothing, restore said %v", where, rerr)
				} else if d := cmp.Diff(want, contents(t, dir)); d != "" {
					t.Errorf("%s: restored something else", where)
				}
				kinds["unharmed"]++
				continue
			}
			kinds["found"]++
			for _, d := range r.Faults {
				if d.Key != o.Key || d.Snapshot != "s2" || d.Path != "a" && d.Path != "b" || d.Missing != (b == nil) {
					t.Errorf("%s: named %+v", where, d)
				}
			}
			var d *tree.Damage
			if !errors.As(rerr, &d) || d.Key != o.Key || d.Path == "" || !errors.Is(rerr, blockstore.ErrDamaged) {
				t.Errorf("%s: restore said %v", where, rerr)
			}
			structure, err := tree.Check(t.Context(), s, m, 0, rnd)
			if err != nil || structure.Bytes != 0 {
				t.Errorf("%s: %+v, %v", where, structure, err)
			}
			if (b == nil || len(b) < len(whole)) && len(structure.Faults) == 0 {
				t.Errorf("%s: the structure alone does not show it", where)
			}
		}
	}
	if kinds["manifest"] == 0 || kinds["found"] < 50 || kinds["unharmed"] == 0 {
		t.Errorf("tried %v", kinds)
	}
}

func TestTheNextSnapshotHealsWhatDamagedMapsHide(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 21)
	f.write("a", f.bytes(20_000))
	m1 := f.snap(mem, "s1", nil)
	for o := range blockstore.All(t.Context(), mem, "pages/") {
		spoil(t, mem, o.Key, []byte("no page"))
	}
	m2 := f.snap(mem, "s2", m1)
	if m2.Stats.Damaged != 1 {
		t.Errorf("%+v", m2.Stats)
	}
	wantRestored(t, mem, "s2", contents(t, f.dir))
}

func TestASampleIsAShareOfTheFrames(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 22)
	f.write("a", f.bytes(1_000_000))
	m := f.snap(mem, "s1", nil)
	r, err := tree.Check(t.Context(), mem, m, 0.25, rand.New(rand.NewPCG(5, 6)))
	if err != nil || len(r.Faults) > 0 || r.Bytes < 150_000 || r.Bytes > 350_000 || r.Blocks != m.Stats.Blocks {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestUnchangedFilesAreTrustedByTimeSizeAndInode(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 23)
	f.write("a", f.bytes(20_000))
	f.write("b", f.bytes(20_000))
	f.write("c", f.bytes(20_000))
	m1 := f.snap(mem, "s1", nil)
	f.patch("b", 7, []byte("x"))
	// Another file under the same name, with size and time of the first.
	info, err := os.Stat(filepath.Join(f.dir, "c"))
	if err != nil {
		t.Fatal(err)
	}
	f.write("c2", f.bytes(20_000))
	if err := errors.Join(os.Rename(filepath.Join(f.dir, "c2"), filepath.Join(f.dir, "c")), os.Chtimes(filepath.Join(f.dir, "c"), info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	m2 := f.snap(mem, "s2", m1, func(o *tree.Options) { o.Trust = true })
	if m2.Stats.Read != 40_000 {
		t.Errorf("%d bytes were read", m2.Stats.Read)
	}
	wantRestored(t, mem, "s2", contents(t, f.dir))
}

func TestAFileThatChangesWhileItIsReadFailsTheSnapshot(t *testing.T) {
	for name, change := range map[string]func(f *folder){
		"shorter": func(f *folder) { _ = os.Truncate(filepath.Join(f.dir, "a"), 100) },
		"other":   func(f *folder) { f.patch("a", 3_000_000, []byte("x")) },
		"longer":  func(f *folder) { f.patch("a", 4_000_000, []byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t, 24)
			f.write("a", f.bytes(4_000_000))
			old := time.Now().Add(-time.Hour)
			if err := os.Chtimes(filepath.Join(f.dir, "a"), old, old); err != nil {
				t.Fatal(err)
			}
			mem := memblock.New()
			done := false
			_, err := tree.Write(t.Context(), mem, f.root, nil, tree.Options{Job: "job1", ID: "s1", Created: start, Workers: 1, Progress: func(tree.Progress) {
				if !done {
					done = true
					change(f)
				}
			}})
			if !errors.Is(err, tree.ErrChanged) {
				t.Fatalf("got %v", err)
			}
			for o := range blockstore.All(t.Context(), mem, "") {
				t.Errorf("%s was left", o.Key)
			}
		})
	}
}

func TestARestoreResumes(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 25)
	f.write("a", f.bytes(100_000))
	f.write("sub/b", f.bytes(50_000))
	f.write("zeros", make([]byte, 10_000))
	m := f.snap(mem, "s1", nil)
	want := contents(t, f.dir)
	dir := filepath.Join(t.TempDir(), "r")
	if _, err := tree.Restore(t.Context(), mem, m, dir, tree.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Restore(t.Context(), mem, m, dir, tree.RestoreOptions{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("files that were there: %v", err)
	}
	w := &folder{t: t, dir: dir, rnd: f.rnd}
	w.patch("a", 40_000, []byte("damage"))
	w.patch("zeros", 4_000, []byte("damage"))
	if err := os.Truncate(filepath.Join(dir, "sub/b"), 49_000); err != nil {
		t.Fatal(err)
	}
	st, err := tree.Restore(t.Context(), mem, m, dir, tree.RestoreOptions{Resume: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, contents(t, dir)); d != "" || st.Changed > 8 {
		t.Errorf("%d blocks written: %.1000s", st.Changed, d)
	}
}

func TestReadersAndChosenFiles(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 26)
	f.write("a", f.bytes(100_000))
	f.write("skip/me", f.bytes(1000))
	f.write("b", make([]byte, 3000))
	m := f.snap(mem, "s1", nil, func(o *tree.Options) { o.Skip = func(p string) bool { return p == "skip" } })
	dir := filepath.Join(t.TempDir(), "r")
	if _, err := tree.Restore(t.Context(), mem, m, dir, tree.RestoreOptions{Only: func(p string) bool { return p == "b" }}); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, dir); len(got) != 1 {
		t.Errorf("restored %d", len(got))
	}
	want, err := os.ReadFile(filepath.Join(f.dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := tree.Open(t.Context(), mem, m, "a")
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		off := int64(f.rnd.UintN(100_100))
		b := make([]byte, f.rnd.UintN(3000))
		n, err := r.ReadAt(b, off)
		exp := want[min(off, 100_000):min(off+int64(len(b)), 100_000)]
		if string(b[:n]) != string(exp) || (n < len(b)) != (err != nil) {
			t.Fatalf("%d at %d: %d, %v", len(b), off, n, err)
		}
	}
	if _, err := tree.Open(t.Context(), mem, m, "skip/me"); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
