package tree_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
)

func load(t testing.TB, s blockstore.Store, id string) *tree.Manifest {
	t.Helper()
	m, err := tree.Load(t.Context(), s, "job1", id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantRestored(t testing.TB, s blockstore.Store, id string, want map[string]string) {
	t.Helper()
	if d := cmp.Diff(want, restored(t, s, load(t, s, id))); d != "" {
		t.Fatalf("%s: %.2000s", id, d)
	}
}

// copyOf is a store with the same objects.
func copyOf(t testing.TB, s blockstore.Store) *memblock.Store {
	t.Helper()
	c := memblock.New()
	for o, err := range blockstore.All(t.Context(), s, "") {
		if err != nil {
			t.Fatal(err)
		}
		b, err := blockstore.Get(t.Context(), s, o.Key, o.Size)
		if err == nil {
			err = blockstore.Put(t.Context(), c, o.Key, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func groom(t testing.TB, s blockstore.Store, keep []string, now time.Time, mend ...func(*tree.GroomOptions)) *tree.GroomReport {
	t.Helper()
	o := tree.GroomOptions{Now: now, Token: 2, MinLive: 1}
	for _, m := range mend {
		m(&o)
	}
	r, err := tree.Groom(t.Context(), s, "job1", keep, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantClean grooms until only what lives is left.
func wantClean(t testing.TB, s blockstore.Store, keep ...string) {
	t.Helper()
	now := time.Now() // the announcements' age is by the storage's clock
	for range 3 {
		groom(t, s, keep, now)
		now = now.Add(25 * time.Hour)
	}
	u, err := tree.Measure(t.Context(), s, "job1", keep)
	if err != nil {
		t.Fatal(err)
	}
	if u.Dead != 0 || u.Snapshots != int64(len(keep)) {
		t.Fatalf("not clean: %+v", u)
	}
}

// TestAWriteThatFailsAtAnyCallLeavesNothingVisible fails each call of a Write in turn, before it did anything and after it did.
func TestAWriteThatFailsAtAnyCallLeavesNothingVisible(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer lost %v", after), func(t *testing.T) {
			base := memblock.New()
			f := newFolder(t, 2)
			f.write("a", f.bytes(60_000))
			f.write("b", f.bytes(3_000))
			f.write("c", f.bytes(9_000))
			m1 := f.snap(base, "s1", nil)
			want1 := contents(t, f.dir)
			f.patch("a", 20_000, f.bytes(25_000))
			f.write("d", f.bytes(100))
			want2 := contents(t, f.dir)
			failed := 0
			for n := 1; ; n++ {
				mem := copyOf(t, base)
				s := faultblock.New(mem)
				s.Fail(faultblock.Fault{Nth: n, After: after})
				_, err := tree.Write(t.Context(), s, f.root, m1, tree.Options{Job: "job1", ID: "s2", Token: 1, Created: start, FrameSize: 4096, PackSize: 20_000, Workers: 1})
				_, lerr := tree.Load(t.Context(), mem, "job1", "s2")
				switch {
				case err == nil && lerr != nil:
					t.Fatalf("call %d: success was said, but %v", n, lerr)
				case err != nil && lerr == nil && !after:
					t.Fatalf("call %d: failed (%v), but is visible", n, err)
				case err != nil && !errors.Is(err, blockstore.ErrUnavailable):
					t.Fatalf("call %d: %v", n, err)
				}
				wantRestored(t, mem, "s1", want1)
				if lerr != nil {
					f.snap(mem, "s2", m1)
				}
				wantRestored(t, mem, "s2", want2)
				wantClean(t, mem, "s1", "s2")
				wantRestored(t, mem, "s1", want1)
				wantRestored(t, mem, "s2", want2)
				if err != nil {
					failed++
				}
				if s.Calls(faultblock.Any) < n {
					break
				}
			}
			if failed < 10 {
				t.Errorf("only %d calls failed", failed)
			}
		})
	}
}

func TestAFullStoreIsNotFilledFurther(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 3)
	f.write("a", f.bytes(90_000))
	s := faultblock.New(mem)
	s.Room(45_000)
	_, err := tree.Write(t.Context(), s, f.root, nil, tree.Options{Job: "job1", ID: "s1", Token: 1, Created: start, FrameSize: 4096, BlockSize: 256, PackSize: 10_000})
	if !errors.Is(err, blockstore.ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	for o, err := range blockstore.All(t.Context(), mem, "") {
		t.Errorf("%v %v was left", o, err)
	}
}

// TestAGroomThatFailsAtAnyCallLosesNothing fails each call of a Groom in turn, then runs it again.
func TestAGroomThatFailsAtAnyCallLosesNothing(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer lost %v", after), func(t *testing.T) {
			base := memblock.New()
			f := newFolder(t, 4)
			f.write("a", f.bytes(60_000))
			f.write("b", f.bytes(30_000))
			m1 := f.snap(base, "s1", nil)
			f.patch("a", 0, f.bytes(40_000))
			m2 := f.snap(base, "s2", m1)
			want2 := contents(t, f.dir)
			f.patch("a", 5_000, f.bytes(10_000))
			f.snap(base, "s3", m2)
			want3 := contents(t, f.dir)
			for n := 1; ; n++ {
				mem := copyOf(t, base)
				s := faultblock.New(mem)
				s.Fail(faultblock.Fault{Nth: n, After: after})
				_, err := tree.Groom(t.Context(), s, "job1", []string{"s2", "s3"}, tree.GroomOptions{Now: start, Grace: -1, Token: 2, MinLive: 1})
				if err != nil && !errors.Is(err, blockstore.ErrUnavailable) {
					t.Fatalf("call %d: %v", n, err)
				}
				wantRestored(t, mem, "s2", want2)
				wantRestored(t, mem, "s3", want3)
				wantClean(t, mem, "s2", "s3")
				wantRestored(t, mem, "s2", want2)
				wantRestored(t, mem, "s3", want3)
				if s.Calls(faultblock.Any) < n {
					break
				}
			}
		})
	}
}

// TestWhateverHappensKeptSnapshotsStay is a random history of changes, snapshots, crashes and grooms against a model.
func TestWhateverHappensKeptSnapshotsStay(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 11))
			f := newFolder(t, seed)
			mem := memblock.New()
			model := map[string]map[string]string{}
			token := int64(1)
			now := time.Now()
			var last *tree.Manifest
			f.write("f0", f.bytes(10_000))
			for step := range 60 {
				switch rnd.UintN(6) {
				case 0, 1:
					name := fmt.Sprintf("f%d", rnd.UintN(4))
					f.write(name, f.bytes(int(rnd.UintN(40_000))))
				case 2:
					name := "f0"
					f.patch(name, int64(rnd.UintN(9_000)), f.bytes(int(rnd.UintN(3_000))))
				case 3, 4:
					id := fmt.Sprintf("s%03d", step)
					s := faultblock.New(mem)
					if rnd.UintN(3) == 0 {
						s.Fail(faultblock.Fault{Nth: 1 + int(rnd.UintN(30)), After: rnd.UintN(2) == 0})
						token++ // a daemon that dies is followed by one with a larger token
					}
					o := tree.Options{Job: "job1", ID: id, Token: token, Created: start, BlockSize: 256, FrameSize: 2048, PackSize: 9000, Workers: 2, Trust: rnd.UintN(2) == 0}
					_, err := tree.Write(t.Context(), s, f.root, last, o)
					if err != nil && !errors.Is(err, blockstore.ErrUnavailable) {
						t.Fatal(err)
					}
					if m, err := tree.Load(t.Context(), mem, "job1", id); err == nil {
						model[id], last = contents(t, f.dir), m
					}
				case 5:
					for _, id := range slices.Sorted(maps.Keys(model)) {
						if rnd.UintN(3) == 0 && id != last.ID {
							delete(model, id)
						}
					}
					if last == nil {
						continue
					}
					now = now.Add(time.Duration(rnd.UintN(30)) * time.Hour)
					s := faultblock.New(mem)
					if rnd.UintN(3) == 0 {
						s.Fail(faultblock.Fault{Nth: 1 + int(rnd.UintN(60)), After: rnd.UintN(2) == 0})
					}
					o := tree.GroomOptions{Now: now, Token: token, MinLive: rnd.Float64() + 0.01, Grace: 24 * time.Hour}
					o.MinLive = min(o.MinLive, 1)
					if _, err := tree.Groom(t.Context(), s, "job1", slices.Collect(maps.Keys(model)), o); err != nil && !errors.Is(err, blockstore.ErrUnavailable) {
						t.Fatal(err)
					}
				}
			}
			if last == nil {
				t.Skip("no snapshot")
			}
			for id, want := range model {
				wantRestored(t, mem, id, want)
				r, err := tree.Check(t.Context(), mem, load(t, mem, id), 1, rnd)
				if err != nil || len(r.Faults) > 0 {
					t.Fatalf("check %s: %+v, %v", id, r, err)
				}
			}
			keep := slices.Collect(maps.Keys(model))
			for range 3 {
				now = now.Add(25 * time.Hour)
				groom(t, mem, keep, now, func(o *tree.GroomOptions) { o.Token = token + 1 })
			}
			u, err := tree.Measure(t.Context(), mem, "job1", keep)
			if err != nil || u.Dead != 0 {
				t.Fatalf("%+v, %v", u, err)
			}
			for id, want := range model {
				wantRestored(t, mem, id, want)
			}
		})
	}
}

func TestATakenOverWriterMakesNothingVisible(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 5)
	f.write("a", f.bytes(50_000))
	m1 := f.snap(mem, "s1", nil)
	f.write("a", f.bytes(50_000))
	done := false
	_, err := tree.Write(t.Context(), mem, f.root, m1, tree.Options{Job: "job1", ID: "s2", Token: 1, Created: start, Progress: func(tree.Progress) {
		if !done {
			done = true
			groom(t, mem, []string{"s1"}, time.Now()) // by the daemon with token 2
		}
	}})
	if !errors.Is(err, tree.ErrFenced) {
		t.Fatalf("got %v", err)
	}
	if _, err := tree.Load(t.Context(), mem, "job1", "s2"); !errors.Is(err, blockstore.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
}

func TestAGroomLeavesARunningWriteAlone(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 6)
	f.write("a", f.bytes(50_000))
	f.write("b", f.bytes(50_000))
	m1 := f.snap(mem, "s1", nil)
	f.snap(mem, "s2", m1)
	f.patch("b", 100, f.bytes(10_000))
	runs := 0
	m3, err := tree.Write(t.Context(), mem, f.root, m1, tree.Options{Job: "job1", ID: "s3", Token: 2, Created: start, FrameSize: 1024, PackSize: 2000, Progress: func(tree.Progress) {
		runs++
		// s1, on which s3 builds, is not even to be kept.
		groom(t, mem, []string{"s2"}, time.Now(), func(o *tree.GroomOptions) { o.Grace = -1 })
	}})
	if err != nil || runs == 0 {
		t.Fatalf("%v after %d grooms", err, runs)
	}
	wantRestored(t, mem, m3.ID, contents(t, f.dir))
}

func TestNothingIsDeletedWhenAKeptSnapshotCannotBeRead(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 7)
	f.write("a", f.bytes(5_000))
	m1 := f.snap(mem, "s1", nil)
	f.write("a", f.bytes(5_000))
	f.snap(mem, "s2", m1)
	for _, keep := range [][]string{nil, {"s1", "s3"}} {
		if _, err := tree.Groom(t.Context(), mem, "job1", keep, tree.GroomOptions{Now: start, Grace: -1}); err == nil {
			t.Fatalf("keep %v was accepted", keep)
		}
	}
	wantRestored(t, mem, "s2", contents(t, f.dir))
	r, err := tree.Groom(t.Context(), mem, "job1", nil, tree.GroomOptions{Now: start, Grace: -1, Terminate: true})
	if err != nil || len(r.Deleted) == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if ids, err := tree.List(context.Background(), mem, "job1"); err != nil || len(ids) > 0 {
		t.Fatalf("%v %v", ids, err)
	}
}

func TestADryRunSaysWhatARunDoes(t *testing.T) {
	mem := memblock.New()
	f := newFolder(t, 8)
	f.write("a", f.bytes(200_000))
	m1 := f.snap(mem, "s1", nil)
	f.patch("a", 0, f.bytes(150_000))
	f.snap(mem, "s2", m1)
	before := copyOf(t, mem)
	now := time.Now()
	dry := groom(t, mem, []string{"s2"}, now, func(o *tree.GroomOptions) { o.DryRun = true })
	for o := range blockstore.All(t.Context(), mem, "") {
		if _, err := before.Stat(t.Context(), o.Key); err != nil {
			t.Errorf("the dry run made %s", o.Key)
		}
	}
	wet := groom(t, mem, []string{"s2"}, now)
	if d := cmp.Diff(dry.Rewritten, wet.Rewritten); d != "" || len(dry.Rewritten) == 0 {
		t.Errorf("rewritten: %s", d)
	}
	dry = groom(t, mem, []string{"s2"}, now.Add(48*time.Hour), func(o *tree.GroomOptions) { o.DryRun = true })
	wet = groom(t, mem, []string{"s2"}, now.Add(48*time.Hour))
	slices.Sort(dry.Deleted)
	slices.Sort(wet.Deleted)
	if d := cmp.Diff(dry.Deleted, wet.Deleted); d != "" || len(dry.Deleted) == 0 || dry.Freed != wet.Freed {
		t.Errorf("deleted: %s", d)
	}
}
