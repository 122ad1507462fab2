package direct_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"github.com/heartwood-db/heartwood/shared/blockstore/direct"
)

func TestBufferIsAligned(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 1 << 20} {
		b := direct.Buffer(n)
		if len(b) != n || cap(b) != n || uintptr(unsafe.Pointer(unsafe.SliceData(b)))%direct.Align != 0 {
			t.Errorf("%d bytes: %d of %d at %p", n, len(b), cap(b), b)
		}
	}
}

// TestMixedWrites writes a file in pieces that are aligned in all, some or no respects, several at a time, and reads it back.
func TestMixedWrites(t *testing.T) {
	const part = 1 << 20
	want := direct.Buffer(8*part + 777)
	fill := rand.NewChaCha8([32]byte{1})
	_, _ = fill.Read(want)
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	plain, err := root.OpenFile("f", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := direct.New(plain, root, "f")
	var group sync.WaitGroup
	write := func(from, to int) {
		if n, err := f.WriteAt(want[from:to], int64(from)); err != nil || n != to-from {
			t.Errorf("%d to %d: %d, %v", from, to, n, err)
		}
	}
	for start := 0; start < len(want); start += part {
		group.Go(func() {
			at, end := start, min(start+part, len(want))
			switch at / part % 4 {
			case 0: // directly
				write(at, end)
			case 1: // too short to be
				for ; at < end; at += 16 << 10 {
					write(at, min(at+16<<10, end))
				}
			case 2: // memory that is not aligned
				odd := direct.Buffer(part + 8)[8:]
				copy(odd, want[at:end])
				if _, err := f.WriteAt(odd[:end-at], int64(at)); err != nil {
					t.Error(err)
				}
			case 3: // offset and length that are not
				write(at, at+100)
				write(at+100, end)
			}
		})
	}
	group.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back: %d bytes, equal %v, %v", len(got), bytes.Equal(got, want), err)
	}
}

// TestWhereItIsRefused cannot open the file a second time: it is written the plain way.
func TestWhereItIsRefused(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	plain, err := root.OpenFile("f", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Remove("f"); err != nil {
		t.Fatal(err)
	}
	f := direct.New(plain, root, "f")
	defer f.Close()
	want := direct.Buffer(1 << 20)
	want[5] = 5
	got := make([]byte, len(want))
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back: equal %v, %v", bytes.Equal(got, want), err)
	}
}
