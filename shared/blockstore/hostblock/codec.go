package hostblock

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// writer appends to a message.
type writer struct{ b []byte }

func (w *writer) byte(v byte) { w.b = append(w.b, v) }
func (w *writer) int(v int64) { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) count(n int) { w.b = binary.AppendUvarint(w.b, uint64(n)) } //nolint:gosec // lengths are not negative

func (w *writer) text(s string) {
	w.count(len(s))
	w.b = append(w.b, s...)
}

func (w *writer) bytes(v []byte) {
	w.count(len(v))
	w.b = append(w.b, v...)
}

func (w *writer) object(o blockstore.Object) {
	w.text(o.Key)
	w.int(o.Size)
	w.int(o.Modified.UnixMilli())
}

func (w *writer) objects(objects []blockstore.Object) {
	w.count(len(objects))
	for _, o := range objects {
		w.object(o)
	}
}

func (w *writer) signed(s blockstore.Signed) {
	w.text(s.Method)
	w.text(s.URL)
	w.count(len(s.Header))
	for _, name := range slices.Sorted(maps.Keys(s.Header)) {
		w.text(name)
		w.text(s.Header[name])
	}
}

// reader takes a message apart. After the first fault it gives zero values; err has the fault.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = errors.New(why)
	}
	r.b = nil
}

// done reports whether the whole message was read without a fault.
func (r *reader) done() bool {
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes are left over")
	}
	return r.err == nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("the message ends early")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("a number cannot be read")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a length or a number of elements; each element takes a byte at least.
func (r *reader) count() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)-n) {
		r.fail("a length is larger than the message")
		return 0
	}
	r.b = r.b[n:]
	return int(v) //nolint:gosec // not larger than the message
}

func (r *reader) bytes() []byte {
	n := r.count()
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) object() blockstore.Object {
	return blockstore.Object{Key: r.text(), Size: r.int(), Modified: time.UnixMilli(r.int()).UTC()}
}

func (r *reader) objects() []blockstore.Object {
	n := r.count()
	if n > blockstore.MaxList {
		r.fail("a list is too long")
		return nil
	}
	out := make([]blockstore.Object, 0, n)
	for range n {
		out = append(out, r.object())
	}
	return out
}

func (r *reader) signed() blockstore.Signed {
	s := blockstore.Signed{Method: r.text(), URL: r.text(), Header: map[string]string{}}
	for range r.count() {
		name := r.text()
		s.Header[name] = r.text()
	}
	return s
}
