package pack

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/rollup"
)

// Codec packs and unpacks chunks and roll-ups. It is safe for concurrent use.
type Codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// maxPayload bounds what a document may unpack to.
const maxPayload = 64 << 20

// NewCodec makes a codec.
func NewCodec() (*Codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<18), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("pack: start the compressor: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxPayload), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("pack: start the decompressor: %w", err)
	}
	return &Codec{enc: enc, dec: dec}, nil
}

// Flags of a column.
const (
	colFloats = 1 << iota
	colGaps
	colConstant
)

const noLocal = math.MinInt64

// Room is how many samples of a frame fit into a chunk.
func Room(f *rollup.Frame) int {
	return min(MaxSamples, maxCells/max(1, len(f.Columns())))
}

// EncodeChunk packs a frame whose samples lie in the hour; there must be room for them.
func (c *Codec) EncodeChunk(hour time.Time, f *rollup.Frame) []byte {
	payload := chunkPayload(hour, f)
	return c.enc.EncodeAll(payload, make([]byte, 0, len(payload)/4))
}

func chunkPayload(hour time.Time, f *rollup.Frame) []byte {
	var w writer
	n := f.Len()
	w.byte(version)
	w.count(n)
	var processes []string
	places := map[string]int64{}
	values := make([]int64, n)
	column := func(of func(id *rollup.Identity) int64) {
		for i := range f.Samples {
			values[i] = of(&f.Samples[i])
		}
		w.ints(values)
	}
	column(func(id *rollup.Identity) int64 { return id.At.Sub(hour).Milliseconds() })
	for i := range f.Samples {
		if p := f.Samples[i].Process; places[p] == 0 {
			processes = append(processes, p)
			places[p] = int64(len(processes))
		}
	}
	w.strings(processes)
	column(func(id *rollup.Identity) int64 { return places[id.Process] - 1 })
	column(func(id *rollup.Identity) int64 { return id.PID })
	column(func(id *rollup.Identity) int64 { return id.UptimeMS })
	column(func(id *rollup.Identity) int64 {
		if id.Local.IsZero() {
			return noLocal
		}
		return id.Local.Sub(id.At).Milliseconds()
	})
	w.columns(f)
	return w.b
}

// columns writes the raw columns of a frame, ordered by number and dimension.
func (w *writer) columns(f *rollup.Frame) {
	keys := slices.DeleteFunc(f.Columns(), func(k rollup.Key) bool { return !slices.Contains(f.Column(k).Has, true) })
	slices.SortFunc(keys, compareKeys)
	dims, place := dimensions(keys, func(k rollup.Key) string { return k.Dim })
	w.strings(dims)
	w.count(len(keys))
	var last catalog.ColumnID
	for _, k := range keys {
		w.uvarint(uint64(k.Column - last))
		last = k.Column
	}
	for _, k := range keys {
		w.count(place[k.Dim])
	}
	var body writer
	n := f.Len()
	ints, floats := make([]int64, 0, n), make([]float64, 0, n)
	for _, k := range keys {
		col := f.Column(k)
		ints, floats = ints[:0], floats[:0]
		var flags byte
		for i, has := range col.Has {
			switch {
			case !has:
				flags |= colGaps
			case col.Floats != nil:
				floats = append(floats, col.Floats[i])
			default:
				ints = append(ints, col.Ints[i])
			}
		}
		if flags&colGaps != 0 {
			body.b = appendBits(body.b, col.Has)
		}
		if col.Floats != nil {
			flags |= colFloats
			if constant(floats) {
				flags |= colConstant
				floats = floats[:1]
			}
			body.floats(floats)
		} else {
			if constant(ints) {
				flags |= colConstant
				ints = ints[:1]
			}
			body.ints(ints)
		}
		w.byte(flags)
	}
	w.b = append(w.b, body.b...)
}

func compareKeys(a, b rollup.Key) int {
	return cmp.Or(cmp.Compare(a.Column, b.Column), cmp.Compare(a.Dim, b.Dim))
}

// dimensions lists the dimensions in use; a dimension's place counts from 1, 0 is none.
func dimensions[K any](keys []K, dim func(K) string) (list []string, place map[string]int) {
	place = map[string]int{"": 0}
	for _, k := range keys {
		if d := dim(k); place[d] == 0 && d != "" {
			list = append(list, d)
			place[d] = len(list)
		}
	}
	return list, place
}

func constant[T comparable](values []T) bool {
	for _, v := range values {
		if v != values[0] {
			return false
		}
	}
	return len(values) > 1
}

func appendBits(b []byte, set []bool) []byte {
	start := len(b)
	b = append(b, make([]byte, (len(set)+7)/8)...)
	for i, s := range set {
		if s {
			b[start+i/8] |= 1 << (i % 8)
		}
	}
	return b
}

// DecodeChunk unpacks the columns of a chunk that want picks; nil picks all. Columns this build does not know come back
// like any other.
func (c *Codec) DecodeChunk(hour time.Time, packed []byte, want func(rollup.Key) bool) (*rollup.Frame, error) {
	payload, err := c.dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: chunk: %w", ErrCorrupt, err)
	}
	return readChunk(hour, payload, want)
}

func readChunk(hour time.Time, payload []byte, want func(rollup.Key) bool) (*rollup.Frame, error) {
	r := reader{b: payload}
	if v := r.byte(); v != version && !r.bad {
		return nil, fmt.Errorf("%w: chunk version %d", ErrCorrupt, v)
	}
	n := r.count()
	if n > MaxSamples {
		r.fail()
		n = 0
	}
	samples := make([]rollup.Identity, n)
	values := make([]int64, n)
	r.ints(values)
	for i, ms := range values {
		if ms < 0 || ms >= time.Hour.Milliseconds() || i > 0 && ms <= values[i-1] {
			r.fail()
			break
		}
		samples[i].At = hour.Add(time.Duration(ms) * time.Millisecond)
	}
	processes := r.strings()
	r.ints(values)
	for i, p := range values {
		if p < 0 || p >= int64(len(processes)) {
			r.fail()
			break
		}
		samples[i].Process = processes[p]
	}
	r.ints(values)
	for i, v := range values {
		samples[i].PID = v
	}
	r.ints(values)
	for i, v := range values {
		samples[i].UptimeMS = v
	}
	r.ints(values)
	for i, v := range values {
		switch {
		case v == noLocal:
		case v < -maxOffset || v > maxOffset:
			r.fail()
		default:
			samples[i].Local = samples[i].At.Add(time.Duration(v) * time.Millisecond)
		}
	}
	f := rollup.NewFrame(samples)
	r.columns(f, want)
	if r.bad {
		return nil, fmt.Errorf("%w: chunk", ErrCorrupt)
	}
	return f, nil
}

func (r *reader) columns(f *rollup.Frame, want func(rollup.Key) bool) {
	dims := r.strings()
	count, n := r.count(), f.Len()
	if count*max(1, n) > maxCells {
		r.fail()
		return
	}
	keys := r.keys(count, dims)
	flags := r.bytes(count)
	if r.bad {
		return
	}
	for i, k := range keys {
		if r.column(f, rollup.Key{Column: catalog.ColumnID(k.number), Dim: k.dim}, flags[i], want); r.bad {
			return
		}
	}
}

type numbered struct {
	number uint16
	dim    string
}

// keys reads numbers and dimensions of columns or lines.
func (r *reader) keys(count int, dims []string) []numbered {
	keys := make([]numbered, count)
	var last uint64
	for i := range keys {
		if last += r.uvarint(); last > math.MaxUint16 {
			r.fail()
			return nil
		}
		keys[i].number = uint16(last)
	}
	for i := range keys {
		switch k := r.uvarint(); {
		case k > uint64(len(dims)):
			r.fail()
			return nil
		case k > 0:
			keys[i].dim = dims[k-1]
		}
	}
	return keys
}

func (r *reader) column(f *rollup.Frame, k rollup.Key, flags byte, want func(rollup.Key) bool) {
	n := f.Len()
	var bitmap []byte
	have := n
	if flags&colGaps != 0 {
		bitmap = r.bytes((n + 7) / 8)
		have = 0
		for i := range n {
			if !r.bad && bitmap[i/8]&(1<<(i%8)) != 0 {
				have++
			}
		}
	}
	stored := have
	if flags&colConstant != 0 {
		stored = min(1, have)
	}
	if r.bad || have == 0 {
		return
	}
	if want != nil && !want(k) {
		if flags&colFloats != 0 {
			r.skipFloats(stored)
		} else {
			r.skipVarints(stored)
		}
		return
	}
	col := f.Make(k)
	if flags&colFloats != 0 {
		col.Floats = make([]float64, n)
		spread(col.Floats, stored, have, bitmap, r.floats)
	} else {
		spread(col.Ints, stored, have, bitmap, r.ints)
	}
	for i := range n {
		col.Has[i] = bitmap == nil || bitmap[i/8]&(1<<(i%8)) != 0
	}
}

// spread reads the stored values to the front of into and moves each to its sample's place, from the back.
func spread[T any](into []T, stored, have int, bitmap []byte, read func([]T)) {
	read(into[:stored])
	for i := stored; i < have; i++ {
		into[i] = into[0]
	}
	if bitmap == nil {
		return
	}
	k := have
	for i := len(into) - 1; i >= 0 && k > 0; i-- {
		if bitmap[i/8]&(1<<(i%8)) != 0 {
			k--
			into[i] = into[k]
		}
	}
}
