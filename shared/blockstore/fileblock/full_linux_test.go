package fileblock_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// TestDiskFull fills a real file system: the writer is told so and what to do, nothing half is visible or left, what was there stays,
// and writing goes on when there is room.
func TestDiskFull(t *testing.T) {
	folder := t.TempDir()
	if err := unix.Mount("heartwood-test", folder, "tmpfs", 0, "size=8m,mode=700"); err != nil {
		t.Skipf("needs a small file system, which only root may mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := open(t, folder)
	ctx := t.Context()
	stored := 0
	var err error
	for err == nil {
		if err = blockstoretest.Write(ctx, s, fmt.Sprintf("k/%d", stored), blockstoretest.Random(1, 1<<20)); err == nil {
			stored++
		}
	}
	if !errors.Is(err, blockstore.ErrNoSpace) || !strings.Contains(opererr.HintOf(err), "groom") {
		t.Fatalf("after %d MiB of 8: %v (hint %q)", stored, err, opererr.HintOf(err))
	}
	if stored < 6 || len(files(t, folder)) != stored {
		t.Errorf("%d objects stored, %d files", stored, len(files(t, folder)))
	}
	for i := range stored {
		if o, err := s.Stat(ctx, fmt.Sprintf("k/%d", i)); err != nil || o.Size != 1<<20 {
			t.Errorf("object %d: %+v, %v", i, o, err)
		}
	}
	if sp, err := s.Space(ctx); err != nil || sp.Total != 8<<20 || sp.Free >= 1<<20 {
		t.Errorf("space: %+v, %v", sp, err)
	}
	if err := s.Delete(ctx, "k/0"); err != nil {
		t.Fatal(err)
	}
	if err := blockstoretest.Write(ctx, s, "k/new", blockstoretest.Random(1, 1<<20)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
