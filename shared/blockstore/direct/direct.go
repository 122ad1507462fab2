// Package direct writes the bulk of large files past the page cache, where the system lets it: the bytes go from our memory to the disk,
// at once. Copying gigabytes into the cache first costs several times the processor time, puts what others use out of it, and leaves the
// waiting to the sync at the end. What is short or not aligned, and everything on file systems that refuse, is written as usual. Either way it
// is durable only after a Sync of the file.
package direct

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Align is what offsets, lengths and addresses of direct writes are multiples of: the page of the file systems that ask for most.
const Align = 4096

// Least is the length from which a direct write pays; shorter ones are better gathered in the page cache.
const Least = 128 << 10

// Buffer makes n bytes at an aligned address.
func Buffer(n int) []byte {
	b := make([]byte, n+Align)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (Align - 1)
	return b[skip : skip+n : skip+n]
}

// File is a file that is open for writing, and is opened a second time when there is something to write directly. Writes to parts of
// it that have no page in common may run at the same time.
type File struct {
	plain *os.File
	root  *os.Root
	name  string

	once   sync.Once
	direct *os.File    // nil before that, and where it is refused
	refuse atomic.Bool // since a write
}

var _ io.WriterAt = (*File)(nil)

// New adds the direct way to a file that is open for writing; name leads to it in root, which outlives the File.
func New(plain *os.File, root *os.Root, name string) *File {
	return &File{plain: plain, root: root, name: name}
}

// WriteAt is io.WriterAt's. What is long and aligned in all respects is written directly.
func (f *File) WriteAt(b []byte, off int64) (int, error) {
	if flag == 0 || len(b) < Least || !aligned(b, off) || f.refuse.Load() {
		return f.plain.WriteAt(b, off)
	}
	f.once.Do(func() {
		if d, err := f.root.OpenFile(f.name, os.O_WRONLY|flag, 0); err == nil {
			f.direct = d
		} else {
			f.refuse.Store(true) // whatever it is, the plain way tells
		}
	})
	if f.direct == nil {
		return f.plain.WriteAt(b, off)
	}
	n, err := f.direct.WriteAt(b, off)
	if err == nil || !refused(err) {
		return n, err
	}
	f.refuse.Store(true)
	m, err := f.plain.WriteAt(b[n:], off+int64(n))
	return n + m, err
}

// Close closes the file. It does not sync it. No write may be under way.
func (f *File) Close() error {
	err := f.plain.Close()
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
	}
	return err
}

func aligned(b []byte, off int64) bool {
	return (uint64(off)|uint64(len(b))|uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))))&(Align-1) == 0
}
