package backup

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// disk is a file system in memory whose size is set while it is used: so it is full without anything that fills it.
type disk struct {
	t         *testing.T
	dir       string
	megabytes int
}

// newDisk mounts one, or skips the test where that is not allowed.
func newDisk(t *testing.T, megabytes int) *disk {
	t.Helper()
	d := &disk{t: t, dir: t.TempDir(), megabytes: megabytes}
	if err := unix.Mount("heartwood-test", d.dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", megabytes)); err != nil {
		t.Skipf("needs a small file system, which only root may mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

// fill leaves no room beyond what is used.
func (d *disk) fill() {
	d.t.Helper()
	var err error
	for range 100 { // others write meanwhile
		var s unix.Statfs_t
		if err = unix.Statfs(d.dir, &s); err != nil {
			d.t.Fatal(err)
		}
		used := int64(s.Blocks-s.Bfree) * s.Bsize //nolint:gosec // a small disk
		if err = d.resize(fmt.Sprint(used)); err == nil {
			return
		}
	}
	d.t.Fatal("fill a disk:", err)
}

// empty gives room again.
func (d *disk) empty() {
	d.t.Helper()
	if err := d.resize(fmt.Sprintf("%dm", d.megabytes)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) resize(size string) error {
	return unix.Mount("heartwood-test", d.dir, "tmpfs", unix.MS_REMOUNT, "mode=700,size="+size)
}

// TestDisksFull fills the disk of the block store, and then that of the heads, while the source is written to: the backup shows it
// and goes on by itself once there is room. No second is missing then.
func TestDisksFull(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	t.Parallel()
	blocks, heads := newDisk(t, 512), newDisk(t, 3000) // a daemon takes nothing with less than 1 GB for heads
	seed, r := chance(t)
	w := newWorld(t, worldOptions{embedded: true, set: []string{"heartwood.blockstore.path=" + filepath.Join(blocks.dir, "blocks"), "rootDirectory=" + filepath.Join(heads.dir, "heads")}})
	m := &model{}
	end := m.begin(t, w.client, seed)
	w.tailing()
	first := time.Now()
	m.more(t, 20)
	for _, full := range []struct {
		what string
		d    *disk
		told func(b *shown) bool
	}{
		// The daemon has nothing to store meanwhile: what shows is that the oplog stored last gets old.
		{"the block store", blocks, func(b *shown) bool { return time.Since(b.State.NewestOplog) > 20*time.Second }},
		{"the heads", heads, func(b *shown) bool { return b.State.Problem.Text != "" && b.State.Problem.Remedy != "" }},
	} {
		full.d.fill()
		harness.Eventually(t, 6*time.Minute, "that the backup shows that the disk of "+full.what+" is full", func(ctx context.Context) error {
			full.d.fill() // what somebody gave back
			var b shown
			if err := w.heartwood(ctx, &b, "backup", "show", "rs0", "--json"); err != nil {
				return err
			}
			if !full.told(&b) {
				return fmt.Errorf("%+v", b)
			}
			p := b.State.Problem
			t.Logf("the disk of %s is full: newest oplog of %s; %s: %s; %s", full.what, b.State.NewestOplog, p.Code, p.Text, p.Remedy)
			return nil
		})
		m.more(t, 20)
		full.d.empty()
		w.restorable(time.Now())
		w.tailing()
	}
	last := time.Now()
	w.restorable(last)
	end()
	w.verify(m, w.releases, r, first, last, 3)
}
