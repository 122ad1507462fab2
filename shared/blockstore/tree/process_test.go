package tree_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/fileblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
)

const childEnv = "HEARTWOOD_TREE_CHILD" // store|folder|job|id|prev

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := child(strings.Split(args, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child writes one snapshot in a process of its own. It says when it has begun to store.
func child(a []string) error {
	ctx := context.Background()
	s, err := fileblock.Open(a[0])
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(a[1])
	if err != nil {
		return err
	}
	var prev *tree.Manifest
	if a[4] != "" {
		if prev, err = tree.Load(ctx, s, a[2], a[4]); err != nil {
			return err
		}
	}
	said := false
	_, err = tree.Write(ctx, s, root, prev, tree.Options{Job: a[2], ID: a[3], Token: 1, Created: start, PackSize: 100_000, Progress: func(p tree.Progress) {
		if p.Stored > 0 && !said {
			said = true
			fmt.Println("storing")
		}
	}})
	return err
}

func start1(t *testing.T, store, dir, job, id, prev string) (*exec.Cmd, *os.File) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{store, dir, job, id, prev}, "|"))
	cmd.Stderr = os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() { _ = r.Close() })
	return cmd, r
}

// TestKilledProcessesAndSharedStores has processes write snapshots of several jobs into one store, and kills some of them
// in the middle.
func TestKilledProcessesAndSharedStores(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	s, err := fileblock.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const jobs = 3
	folders := make([]*folder, jobs)
	for j := range folders {
		f := newFolder(t, uint64(30+j))
		for i := range 6 {
			f.write(fmt.Sprintf("f%d", i), f.bytes(400_000))
		}
		folders[j] = f
	}
	killed := 0
	prev := ""
	for round := range 3 {
		id := fmt.Sprintf("s%d", round)
		victims := make([]*exec.Cmd, jobs)
		pipes := make([]*os.File, jobs)
		for j, f := range folders {
			victims[j], pipes[j] = start1(t, store, f.dir, fmt.Sprintf("job%d", j), id, prev)
		}
		for j := range folders {
			if (j+round)%jobs != 0 { // the others go on while this one dies
				continue
			}
			if n, _ := pipes[j].Read(make([]byte, 16)); n > 0 {
				_ = victims[j].Process.Kill()
			}
		}
		for j, f := range folders {
			job := fmt.Sprintf("job%d", j)
			err := victims[j].Wait()
			_, lerr := tree.Load(t.Context(), s, job, id)
			if (err == nil) != (lerr == nil) && err == nil {
				t.Fatalf("%s %s: %v, but %v", job, id, err, lerr)
			}
			if lerr != nil {
				if !errors.Is(lerr, blockstore.ErrNotFound) {
					t.Fatal(lerr)
				}
				killed++
				cmd, _ := start1(t, store, f.dir, job, id, prev)
				if err := cmd.Wait(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for j, f := range folders {
			job := fmt.Sprintf("job%d", j)
			m, err := tree.Load(t.Context(), s, job, id)
			if err != nil {
				t.Fatal(err)
			}
			want := contents(t, f.dir)
			if got := restored(t, s, m); len(got) != len(want) || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s %s: restored something else", job, id)
			}
			f.patch("f1", int64(round)*1000, f.bytes(200_000))
			f.patch("f4", 0, f.bytes(100_000))
		}
		prev = id
	}
	if killed == 0 {
		t.Error("no process was killed in time")
	}
	for j := range folders {
		job := fmt.Sprintf("job%d", j)
		now := time.Now()
		for range 3 {
			if _, err := tree.Groom(t.Context(), s, job, []string{"s1", "s2"}, tree.GroomOptions{Now: now, Token: 2, MinLive: 1}); err != nil {
				t.Fatal(err)
			}
			now = now.Add(25 * time.Hour)
		}
		u, err := tree.Measure(t.Context(), s, job, nil)
		if err != nil || u.Dead != 0 || u.Snapshots != 2 {
			t.Errorf("%+v, %v", u, err)
		}
	}
}
