// Package pack is the stored form of series: rows, chunks of an hour and roll-ups, as FORMAT.md beside this file specifies
// them. It is pure: values in, bytes out, and back.
package pack

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// ErrCorrupt is wrapped by every error about bytes that are not what the format says.
var ErrCorrupt = errors.New("pack: stored series cannot be read")

// Bounds that no honest document reaches; they keep corrupt bytes from asking for memory.
const (
	MaxSamples = 4_000 // in one hour of one host
	maxEntries = 100_000
	maxCells   = 1 << 23 // samples or buckets times columns or lines
	maxOffset  = 1 << 43 // milliseconds: what a Duration holds
)

type writer struct{ b []byte }

func (w *writer) byte(v byte)      { w.b = append(w.b, v) }
func (w *writer) uvarint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) count(n int)      { w.uvarint(uint64(n)) } //nolint:gosec // lengths are not negative
func (w *writer) varint(v int64)   { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) string(s string) {
	w.count(len(s))
	w.b = append(w.b, s...)
}

func (w *writer) strings(list []string) {
	w.count(len(list))
	for _, s := range list {
		w.string(s)
	}
}

// ints writes second differences. They wrap around at 64 bits, both ways alike.
func (w *writer) ints(values []int64) {
	var last, step int64
	for i, v := range values {
		d := v - last
		if i == 0 {
			w.varint(v)
		} else {
			w.varint(d - step)
			step = d
		}
		last = v
	}
}

func (w *writer) floats(values []float64) {
	var last uint64
	for _, v := range values {
		now := math.Float64bits(v)
		w.xor(now ^ last)
		last = now
	}
}

// xor writes the bytes of a difference that are not zeros at either end.
func (w *writer) xor(x uint64) {
	if x == 0 {
		w.byte(0)
		return
	}
	lead, trail := bits.LeadingZeros64(x)/8, bits.TrailingZeros64(x)/8
	n := 8 - lead - trail
	w.byte(byte(0x80 | lead<<3 | (n - 1)))
	x >>= 8 * trail
	for k := n - 1; k >= 0; k-- {
		w.byte(byte(x >> (8 * k)))
	}
}

// reader takes a payload apart. The first fault sticks; after it everything reads as zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.bad, r.b = true, nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	if len(r.b) > 0 && r.b[0] < 0x80 { // nearly all of them
		u := r.b[0]
		r.b = r.b[1:]
		return int64(u>>1) ^ -int64(u&1)
	}
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things, each of which takes at least one byte of what follows.
func (r *reader) count() int {
	v := r.uvarint()
	if v > maxEntries || v > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(v) //nolint:gosec // checked
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string { return string(r.bytes(r.count())) }

func (r *reader) strings() []string {
	list := make([]string, r.count())
	for i := range list {
		list[i] = r.string()
	}
	return list
}

func (r *reader) ints(into []int64) {
	var last, step int64
	for i := range into {
		v := r.varint()
		if i == 0 {
			last = v
		} else {
			step += v
			last += step
		}
		into[i] = last
	}
}

func (r *reader) floats(into []float64) {
	var last uint64
	for i := range into {
		last ^= r.xor()
		into[i] = math.Float64frombits(last)
	}
}

func (r *reader) xor() uint64 {
	head := r.byte()
	if head == 0 {
		return 0
	}
	lead, n := int(head>>3&7), int(head&7)+1
	if head&0x80 == 0 || head&0x40 != 0 || lead+n > 8 {
		r.fail()
		return 0
	}
	var x uint64
	for _, b := range r.bytes(n) {
		x = x<<8 | uint64(b)
	}
	return x << (8 * (8 - lead - n))
}

// skipVarints passes over n varints without decoding them.
func (r *reader) skipVarints(n int) {
	for i := 0; n > 0; i++ {
		if i >= len(r.b) {
			r.fail()
			return
		}
		if r.b[i] < 0x80 {
			if n--; n == 0 {
				r.b = r.b[i+1:]
				return
			}
		}
	}
}

func (r *reader) skipFloats(n int) {
	for range n {
		if head := r.byte(); head != 0 {
			r.bytes(int(head&7) + 1)
		}
		if r.bad {
			return
		}
	}
}
