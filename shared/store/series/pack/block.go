package pack

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/heartwood-db/heartwood/shared/rollup"
)

// Line names a line of a roll-up: a measurement and, where it has one, its database, disk or mount point.
type Line struct {
	Measurement uint16
	Dim         string
}

// Block is a run of buckets of one step: how many samples each had, and for each line what it kept of them.
type Block struct {
	Samples []int64
	Lines   map[Line][]rollup.Agg // as long as Samples; a zero Agg where there was nothing
}

// NewBlock makes an empty block of n buckets.
func NewBlock(n int) *Block {
	return &Block{Samples: make([]int64, n), Lines: map[Line][]rollup.Agg{}}
}

// Line returns a line's buckets, new ones if the block did not have it.
func (b *Block) Line(l Line) []rollup.Agg {
	aggs := b.Lines[l]
	if aggs == nil {
		aggs = make([]rollup.Agg, len(b.Samples))
		b.Lines[l] = aggs
	}
	return aggs
}

// Flags of a line.
const (
	lineFloats = 1 << iota
	lineQuotient
	lineConstant
	lineFull
	lineFloatParts
)

// EncodeBlock packs a block. Values that are not whole numbers are rounded to single precision.
func (c *Codec) EncodeBlock(b *Block) []byte { return c.enc.EncodeAll(blockPayload(b), nil) }

func blockPayload(b *Block) []byte {
	var w writer
	w.byte(version)
	w.count(len(b.Samples))
	w.ints(b.Samples)
	keys := make([]Line, 0, len(b.Lines))
	for k, aggs := range b.Lines {
		if slices.ContainsFunc(aggs, func(a rollup.Agg) bool { return a.Count > 0 }) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Measurement, b.Measurement), cmp.Compare(a.Dim, b.Dim))
	})
	dims, place := dimensions(keys, func(k Line) string { return k.Dim })
	w.strings(dims)
	w.count(len(keys))
	var last uint16
	for _, k := range keys {
		w.uvarint(uint64(k.Measurement - last))
		last = k.Measurement
	}
	for _, k := range keys {
		w.count(place[k.Dim])
	}
	var body writer
	for _, k := range keys {
		w.byte(body.line(b.Samples, b.Lines[k]))
	}
	return append(w.b, body.b...)
}

// line writes one line and returns its flags.
func (w *writer) line(samples []int64, aggs []rollup.Agg) byte {
	var flags byte
	counts := make([]int64, len(aggs))
	var kept []rollup.Agg
	whole, quotient, parts, same := true, false, true, true
	for i, a := range aggs {
		counts[i] = a.Count
		if a.Count == 0 {
			continue
		}
		whole = whole && isWhole(a.Min) && isWhole(a.Max) && isWhole(a.Last) && isWhole(a.Sum)
		parts = parts && isWhole(a.Num) && isWhole(a.Den)
		quotient = quotient || a.Num != 0 || a.Den != 0
		kept = append(kept, a)
		first := kept[0].Min
		same = same && a.Min == first && a.Max == first && a.Last == first && a.Sum == first*float64(a.Count)
	}
	if slices.Equal(counts, samples) {
		flags |= lineFull
	} else {
		w.ints(counts)
	}
	switch {
	case same && whole:
		flags |= lineConstant
		w.ints([]int64{int64(kept[0].Min)})
	case same:
		flags |= lineConstant | lineFloats
		w.floats([]float64{single(kept[0].Min)})
	case whole:
		w.wholeLine(kept)
	default:
		flags |= lineFloats
		w.floatLine(kept)
	}
	if quotient {
		flags |= lineQuotient
		nums, dens := make([]float64, len(kept)), make([]float64, len(kept))
		for i, a := range kept {
			nums[i], dens[i] = a.Num, a.Den
		}
		if parts {
			w.ints(toInts(nums))
			w.ints(toInts(dens))
		} else {
			flags |= lineFloatParts
			w.floats(toSingles(nums))
			w.floats(toSingles(dens))
		}
	}
	return flags
}

func (w *writer) wholeLine(kept []rollup.Agg) {
	mins := make([]int64, len(kept))
	for i, a := range kept {
		mins[i] = int64(a.Min)
	}
	w.ints(mins)
	for i, a := range kept {
		w.varint(int64(a.Max) - mins[i])
		w.varint(int64(a.Last) - mins[i])
		w.varint(int64(a.Sum) - a.Count*mins[i])
	}
}

func (w *writer) floatLine(kept []rollup.Agg) {
	mins := make([]float64, len(kept))
	for i, a := range kept {
		mins[i] = single(a.Min)
	}
	w.floats(mins)
	for i, a := range kept {
		base := math.Float64bits(mins[i])
		w.xor(math.Float64bits(single(a.Max)) ^ base)
		w.xor(math.Float64bits(single(a.Last)) ^ base)
		w.xor(math.Float64bits(single(a.Sum/float64(a.Count))) ^ base)
	}
}

// isWhole reports whether a number is an integer that a double holds exactly.
func isWhole(v float64) bool { return v == math.Trunc(v) && math.Abs(v) < 1<<53 }

// single rounds to single precision where that is in range.
func single(v float64) float64 {
	if s := float64(float32(v)); !math.IsInf(s, 0) {
		return s
	}
	return v
}

func toInts(v []float64) []int64 {
	out := make([]int64, len(v))
	for i := range v {
		out[i] = int64(v[i])
	}
	return out
}

func toSingles(v []float64) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = single(v[i])
	}
	return out
}

// DecodeBlock unpacks the lines of a block that want picks; nil picks all.
func (c *Codec) DecodeBlock(packed []byte, want func(Line) bool) (*Block, error) {
	payload, err := c.dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: roll-up: %w", ErrCorrupt, err)
	}
	return readBlock(payload, want)
}

func readBlock(payload []byte, want func(Line) bool) (*Block, error) {
	r := reader{b: payload}
	if v := r.byte(); v != version && !r.bad {
		return nil, fmt.Errorf("%w: roll-up version %d", ErrCorrupt, v)
	}
	n := r.count()
	if n > MaxSamples {
		r.fail()
		n = 0
	}
	b := NewBlock(n)
	r.ints(b.Samples)
	dims := r.strings()
	count := r.count()
	if count*max(1, n) > maxCells {
		r.fail()
		count = 0
	}
	keys := r.keys(count, dims)
	flags := r.bytes(count)
	for i := 0; i < len(keys) && !r.bad; i++ {
		l := Line{Measurement: keys[i].number, Dim: keys[i].dim}
		wanted := want == nil || want(l)
		if aggs := r.line(b.Samples, flags[i], wanted); wanted && !r.bad {
			b.Lines[l] = aggs
		}
	}
	if r.bad {
		return nil, fmt.Errorf("%w: roll-up", ErrCorrupt)
	}
	return b, nil
}

// line reads one line, or passes over it.
func (r *reader) line(samples []int64, flags byte, wanted bool) []rollup.Agg {
	counts := samples
	if flags&lineFull == 0 {
		counts = make([]int64, len(samples))
		r.ints(counts)
	}
	have := 0
	for _, n := range counts {
		if n < 0 {
			r.fail()
			return nil
		}
		if n > 0 {
			have++
		}
	}
	if have == 0 {
		r.fail()
		return nil
	}
	if !wanted {
		r.skipLine(flags, have)
		return nil
	}
	aggs := make([]rollup.Agg, len(samples))
	at := make([]int, 0, have)
	for i, n := range counts {
		if aggs[i].Count = n; n > 0 {
			at = append(at, i)
		}
	}
	mins := make([]float64, len(at))
	r.values(mins[:stored(flags, len(at))], flags&lineFloats != 0)
	for k, i := range at {
		a := &aggs[i]
		if flags&lineConstant != 0 {
			v := mins[0]
			a.Min, a.Max, a.Last, a.Sum = v, v, v, v*float64(a.Count)
			continue
		}
		a.Min = mins[k]
		if flags&lineFloats == 0 {
			least := int64(a.Min)
			a.Max, a.Last, a.Sum = float64(least+r.varint()), float64(least+r.varint()), float64(a.Count*least+r.varint())
			continue
		}
		base := math.Float64bits(a.Min)
		a.Max, a.Last = math.Float64frombits(base^r.xor()), math.Float64frombits(base^r.xor())
		a.Sum = math.Float64frombits(base^r.xor()) * float64(a.Count)
	}
	if flags&lineQuotient != 0 {
		r.values(mins, flags&lineFloatParts != 0)
		for k, i := range at {
			aggs[i].Num = mins[k]
		}
		r.values(mins, flags&lineFloatParts != 0)
		for k, i := range at {
			aggs[i].Den = mins[k]
		}
	}
	return aggs
}

func (r *reader) skipLine(flags byte, have int) {
	skip := func(n int, floats bool) {
		if floats {
			r.skipFloats(n)
		} else {
			r.skipVarints(n)
		}
	}
	n := 4 * have
	if flags&lineConstant != 0 {
		n = 1
	}
	skip(n, flags&lineFloats != 0)
	if flags&lineQuotient != 0 {
		skip(2*have, flags&lineFloatParts != 0)
	}
}

// Lines lists what lines a packed block has, without their values.
func (c *Codec) Lines(packed []byte) ([]Line, error) {
	b, err := c.DecodeBlock(packed, nil)
	if err != nil {
		return nil, err
	}
	lines := make([]Line, 0, len(b.Lines))
	for l := range b.Lines {
		lines = append(lines, l)
	}
	return lines, nil
}

func stored(flags byte, n int) int {
	if flags&lineConstant != 0 {
		return 1
	}
	return n
}

// values reads numbers of either kind.
func (r *reader) values(into []float64, floats bool) {
	if floats {
		r.floats(into)
		return
	}
	ints := make([]int64, len(into))
	r.ints(ints)
	for i, v := range ints {
		into[i] = float64(v)
	}
}
