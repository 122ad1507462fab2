package backupd_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/statetest"
	"github.com/heartwood-db/heartwood/shared/blockstore/fileblock"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

// What the child process of TestKilledAtEveryStep is told.
const (
	childDir      = "HEARTWOOD_BACKUPD_CHILD"
	childJob      = "HEARTWOOD_BACKUPD_JOB"
	childReleases = "HEARTWOOD_BACKUPD_RELEASES"
)

func openEngine(t testing.TB, dir string) docstore.Engine {
	t.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(dir, "heartwood.db")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestChild is the daemon that is killed. It ends by itself when everything is applied and a snapshot of it is complete.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("a part of TestKilledAtEveryStep")
	}
	engine := openEngine(t, dir)
	blocks, err := fileblock.Open(filepath.Join(dir, "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := areas.Open(t.Context(), store.Options{Engine: engine, Box: storetest.Box(t)})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w := &world{t: t, store: st, backup: backup.New(st), blocks: blocks, job: model.ID(os.Getenv(childJob)), log: log}
	w.clock = time.Until(time.Unix(int64(statetest.Recorded(w.t).Fuzzy.EndTs.T), 0).Add(time.Minute))
	root := filepath.Join(dir, "heads")
	heads, err := head.New(t.Context(), head.Options{Root: root, Releases: os.Getenv(childReleases), BasePort: freePorts(t), Count: 4, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	d, err := backupd.New(w.options("d1", root, heads))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	last, err := w.backup.Epoch(t.Context(), w.job, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.await("everything is in a snapshot", func(j *backup.Job) bool {
		if j.Last == "" || j.Applied.TS != last.Head.Last.TS {
			return false
		}
		s, err := w.backup.Snapshot(t.Context(), w.job, j.Last)
		if err == nil && s.Applied != j.Applied && len(j.Wishes) == 0 {
			w.must(w.backup.UpdateJob(t.Context(), w.job, func(j *backup.Job) error {
				j.Wishes = []backup.Wish{{ID: string(model.NewID()), At: w.now(), By: "ann", Expires: w.now().Add(time.Hour)}}
				return nil
			}))
		}
		return err == nil && s.Applied == j.Applied
	})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKilledAtEveryStep kills a daemon again and again, each time at another line of its log, then lets it finish: its snapshot is the
// recorded state all the same.
func TestKilledAtEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	dir := t.TempDir()
	blocks, err := fileblock.Open(filepath.Join(dir, "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	engine := openEngine(t, dir)
	w := newWorld(t, engine, blocks)
	w.must(w.backup.UpdateJob(t.Context(), w.job, func(j *backup.Job) error { j.StoreID = storeID; return nil }))
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), -1, 200))
	end := w.head.Last
	w.must(engine.Close())

	// What the daemon says when it begins or ends a step, and how much later it is killed.
	kills := []struct {
		line  string
		after time.Duration
	}{
		{"backup taken", 0},
		{"is filled with", 5 * time.Millisecond},
		{"head started", 0},
		{"head started", 60 * time.Millisecond},
		{"head filled", 0},
		{"during the full read is applied", 100 * time.Millisecond},
		{"during the full read is applied", 500 * time.Millisecond},
		{"indexes are built", 0},
		{"indexes are built", 10 * time.Millisecond},
		{"the first of this history", 0},
		{"the first of this history", 80 * time.Millisecond},
		{"snapshot taken", 0},
		{"the head follows", 100 * time.Millisecond},
		{"the head follows", 700 * time.Millisecond},
		{"asked for by", 60 * time.Millisecond},
		{"", 0}, // let it live
	}
	for _, k := range kills {
		if w.child(dir, k.line, k.after) {
			t.Logf("it came to its end before %q", k.line)
			break
		}
	}
	engine = openEngine(t, dir)
	t.Cleanup(func() { _ = engine.Close() })
	st, err := areas.Open(t.Context(), store.Options{Engine: engine, Box: storetest.Box(t)})
	w.must(err)
	w.store, w.backup = st, backup.New(st)
	j, err := w.backup.Job(t.Context(), w.job)
	w.must(err)
	s, err := w.backup.Snapshot(t.Context(), w.job, j.Last)
	w.must(err)
	if !s.Complete || s.Applied.TS != end.TS || j.Resync != nil {
		t.Fatalf("%+v\n%+v", s, j)
	}
	for _, x := range w.snapshots() { // every one of them is good
		if x.Applied.TS == end.TS || x.ID == w.snapshots()[0].ID {
			w.restored(x)
		}
	}
}

// child runs a daemon and kills it some time after it said a line; it reports whether the daemon came to its end before.
func (w *world) child(dir, line string, after time.Duration) (ended bool) {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v", "-test.timeout=5m") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), childDir+"="+dir, childJob+"="+string(w.job), childReleases+"="+w.rel.Dir)
	out, err := cmd.StdoutPipe()
	w.must(err)
	cmd.Stderr = cmd.Stdout
	w.must(cmd.Start())
	var said strings.Builder
	lines := bufio.NewScanner(io.TeeReader(out, &said))
	for lines.Scan() {
		if line != "" && strings.Contains(lines.Text(), line) {
			time.Sleep(after)
			break
		}
	}
	if line != "" {
		_ = cmd.Process.Signal(syscall.SIGKILL)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil {
		return true
	}
	if line == "" {
		w.t.Fatalf("the daemon that was let live failed:\n%s", said.String())
	}
	return false
}
