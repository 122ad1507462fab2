package backupd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/snap"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// reflink gives a folder on a file system whose files can share blocks: XFS in an image file, which needs root, mkfs.xfs and a loop
// device. Without them the test is skipped.
func reflink(t *testing.T) string {
	t.Helper()
	if snap.Shares(t.Context(), t.TempDir()) {
		return t.TempDir()
	}
	if os.Geteuid() != 0 {
		t.Skip("no file system that shares blocks, and none can be mounted without root")
	}
	mkfs, err := exec.LookPath("mkfs.xfs")
	if err != nil {
		t.Skip("no file system that shares blocks: ", err)
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "xfs.img"), filepath.Join(dir, "xfs")
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(8<<30), f.Close(), os.Mkdir(at, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) error {
		ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer stop()
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput() //nolint:gosec // a test's
		if err != nil {
			t.Logf("%s: %v\n%s", name, err, out)
		}
		return err
	}
	if run(mkfs, "-q", "-m", "reflink=1", image) != nil || run("mount", "-o", "loop", image, at) != nil {
		t.Skip("a file system that shares blocks cannot be mounted here")
	}
	t.Cleanup(func() {
		if run("umount", at) != nil { // something of the test still runs there
			_ = run("umount", "-l", at)
		}
	})
	if !snap.Shares(t.Context(), at) {
		t.Fatal("XFS with reflink=1 and its files do not share blocks")
	}
	return at
}

// TestClone: a clone shares the blocks of its source and has a life of its own.
func TestClone(t *testing.T) {
	root := reflink(t)
	src, dst := filepath.Join(root, "src"), filepath.Join(root, "dst")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	write := func(path string, b []byte) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(src, "collection-0.wt"), content)
	write(filepath.Join(src, "_mdb_catalog.wt"), []byte("short"))
	write(filepath.Join(src, "journal", "WiredTigerLog.1"), []byte("left out"))
	before, _, err := head.Space(root)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := head.Clone(t.Context(), src, dst)
	if err != nil || !shared {
		t.Fatalf("shared %v, %v", shared, err)
	}
	after, _, err := head.Space(root)
	if err != nil || before-after >= int64(len(content)) {
		t.Errorf("the clone takes %d bytes of its own, %v", before-after, err)
	}
	write(filepath.Join(src, "collection-0.wt"), []byte("the head has gone on"))
	got, err := os.ReadFile(filepath.Join(dst, "collection-0.wt"))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the clone changed with its source: %d bytes, %v", len(got), err)
	}
	if _, err := os.Stat(filepath.Join(dst, "journal")); !os.IsNotExist(err) {
		t.Errorf("the journal was cloned: %v", err)
	}
}

// gate holds up what is written about snapshots until it is opened.
type gate struct {
	blockstore.Store
	mu   sync.Mutex
	shut chan struct{} // nil: it is open
}

// Create is blockstore.Store's.
func (g *gate) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil && strings.HasPrefix(key, "snapshots/") {
		select {
		case <-shut:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return g.Store.Create(ctx, key)
}

func (g *gate) close() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut = shut
	return func() { close(shut) }
}

// TestTheHeadGoesOnBesideItsSnapshot: where files can share blocks, the head runs again while the clone of its files is stored. The
// snapshot is the state it was cloned in.
func TestTheHeadGoesOnBesideItsSnapshot(t *testing.T) {
	root := reflink(t)
	blocks := &gate{Store: memblock.New()}
	w := newWorld(t, nil, blocks)
	d := w.daemon("d1", filepath.Join(root, "heads"), nil)
	w.await("a daemon has it", func(j *backup.Job) bool { return j.Daemon != "" })
	w.must(w.begin(t.Context()))
	w.must(w.tail(t.Context(), w.window(), 300))
	first := w.await("the first snapshot", func(j *backup.Job) bool { return j.Last != "" })
	at := w.applied().Applied

	open := blocks.close()
	id := string(model.NewID())
	w.must(w.backup.UpdateJob(t.Context(), w.job, func(j *backup.Job) error {
		j.Wishes = []backup.Wish{{ID: id, At: w.now(), By: "ann", Expires: w.now().Add(time.Hour)}}
		return nil
	}))
	w.await("the snapshot is being stored", func(*backup.Job) bool {
		s, err := w.backup.Snapshot(t.Context(), w.job, id)
		return err == nil && !s.Complete
	})
	w.must(w.tail(t.Context(), -1, 500))
	j := w.applied() // while the store holds the snapshot up
	if s, err := w.backup.Snapshot(t.Context(), w.job, id); err != nil || s.Complete || j.Last != first.Last || !at.Before(j.Applied) {
		t.Errorf("the snapshot did not wait: %+v %v", s, err)
	}
	open()
	w.await("the snapshot is complete", func(j *backup.Job) bool { return j.Last == id })
	s, err := w.backup.Snapshot(t.Context(), w.job, id)
	w.must(err)
	if s.Applied != at {
		t.Errorf("the snapshot holds everything up to %s, it was taken at %s", s.Applied, at)
	}
	last := w.wish()
	d.stop()
	if _, err := os.Stat(filepath.Join(d.JobDir(w.job), "1", "clone")); !os.IsNotExist(err) {
		t.Errorf("the clone stays: %v", err)
	}
	w.restored(s)
	w.restored(last)
}
