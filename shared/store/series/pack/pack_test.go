package pack

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/rollup"
)

var hour = time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)

func codec(tb testing.TB) *Codec {
	tb.Helper()
	c, err := NewCodec()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestNumbersComeBackExactly(t *testing.T) {
	ints := [][]int64{
		nil, {0}, {math.MaxInt64, math.MinInt64, 0, math.MinInt64}, {1, 2, 3, 4}, {1 << 60, 1<<60 + 1, 5}, {-1, -1, -1},
	}
	for _, want := range ints {
		var w writer
		w.ints(want)
		r := reader{b: w.b}
		got := make([]int64, len(want))
		if r.ints(got); r.bad || len(r.b) != 0 || !slices.Equal(got, want) {
			t.Errorf("%v came back as %v (%d bytes left)", want, got, len(r.b))
		}
		r = reader{b: w.b}
		if r.skipVarints(len(want)); r.bad || len(r.b) != 0 {
			t.Errorf("skipping %v: %d bytes left", want, len(r.b))
		}
	}
	floats := [][]float64{
		{0}, {1.5, 1.5, 1.25}, {math.MaxFloat64, -math.SmallestNonzeroFloat64, 0, math.Inf(1)}, {10567.069458128079, 10567.07},
	}
	for _, want := range floats {
		var w writer
		w.floats(want)
		r := reader{b: w.b}
		got := make([]float64, len(want))
		if r.floats(got); r.bad || len(r.b) != 0 || !slices.Equal(got, want) {
			t.Errorf("%v came back as %v", want, got)
		}
		r = reader{b: w.b}
		if r.skipFloats(len(want)); r.bad || len(r.b) != 0 {
			t.Errorf("skipping %v: %d bytes left", want, len(r.b))
		}
	}
}

// randomRow makes a row with some columns of every scope.
func randomRow(rnd *rand.Rand, at time.Time) catalog.Row {
	row := catalog.Row{At: at, UptimeMS: rnd.Int64N(1 << 40), PID: rnd.Int64N(1 << 22)}
	if rnd.IntN(3) > 0 {
		row.Local = at.Add(time.Duration(rnd.IntN(4000)-2000) * time.Millisecond)
	}
	row.Process = []string{"", "6b0113779eae5d133c6d9d3c", "some other id", "6B0113779EAE5D133C6D9D3C"}[rnd.IntN(4)]
	for _, c := range catalog.Columns() {
		if rnd.IntN(3) == 0 {
			continue
		}
		dims := []string{""}
		if c.Scope != catalog.Process {
			dims = []string{"/data", "sda", "ü"}[:rnd.IntN(4)]
		}
		for _, d := range dims {
			v := catalog.Int(rnd.Int64N(1 << 62))
			switch rnd.IntN(4) {
			case 0:
				v = catalog.Float(rnd.Float64())
			case 1:
				v = catalog.Int(7)
			}
			row.Cells = append(row.Cells, catalog.Cell{Column: c.Name, Dim: d, Value: v})
		}
	}
	return row
}

func TestRowRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		want := randomRow(rnd, hour)
		b, err := AppendRow(nil, &want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRow(b, hour)
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Cells) == 0 {
			want.Cells = got.Cells
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("row changed:\n%+v\n%+v", want, got)
		}
		for cut := range len(b) {
			if _, err := DecodeRow(b[:cut], hour); err == nil {
				t.Fatalf("a row cut at %d of %d was taken", cut, len(b))
			}
		}
	}
	if _, err := DecodeRow([]byte{99}, hour); !errors.Is(err, ErrCorrupt) {
		t.Errorf("unknown version: %v", err)
	}
	bad := catalog.Row{Cells: []catalog.Cell{{Column: "opcounters.insert"}, {Column: "asserts.user"}}}
	if _, err := AppendRow(nil, &bad); err == nil {
		t.Error("cells out of order were taken")
	}
}

// frames are equal when samples, keys and all values are.
func equalFrames(a, b *rollup.Frame) error {
	if !slices.EqualFunc(a.Samples, b.Samples, func(x, y rollup.Identity) bool {
		return x.At.Equal(y.At) && x.Local.Equal(y.Local) && x.UptimeMS == y.UptimeMS && x.PID == y.PID && x.Process == y.Process
	}) {
		return errors.New("samples differ")
	}
	for _, k := range append(a.Columns(), b.Columns()...) {
		for i := range a.Samples {
			var va, vb catalog.Value
			var okA, okB bool
			if c := a.Column(k); c != nil {
				va, okA = c.Value(i)
			}
			if c := b.Column(k); c != nil {
				vb, okB = c.Value(i)
			}
			if okA != okB || va.Float64() != vb.Float64() || !va.IsFloat() && va.Int64() != vb.Int64() && a.Column(k).Floats == nil {
				return fmt.Errorf("%v, sample %d: %v %v, %v %v", k, i, va, okA, vb, okB)
			}
		}
	}
	return nil
}

func TestChunkRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 1))
	c := codec(t)
	for range 40 {
		var rows []catalog.Row
		at := hour
		for at.Before(hour.Add(time.Hour)) && len(rows) < 1+rnd.IntN(70) {
			rows = append(rows, randomRow(rnd, at))
			at = at.Add(time.Duration(1+rnd.IntN(60_000)) * time.Millisecond)
		}
		want := rollup.FrameOf(rows)
		packed := c.EncodeChunk(hour, want)
		got, err := c.DecodeChunk(hour, packed, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := equalFrames(want, got); err != nil {
			t.Fatal(err)
		}
		if again := c.EncodeChunk(hour, got); !slices.Equal(again, packed) {
			t.Fatal("packing again gives other bytes")
		}
		// Picked columns are as in the whole; the others are left out.
		pick := func(k rollup.Key) bool { return k.Column%3 == 0 }
		some, err := c.DecodeChunk(hour, packed, pick)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range got.Columns() {
			switch {
			case !pick(k):
				if some.Column(k) != nil {
					t.Fatalf("%v was not asked for", k)
				}
			case !reflect.DeepEqual(some.Column(k), got.Column(k)):
				t.Fatalf("%v differs when picked", k)
			}
		}
	}
}

func TestEmptyChunk(t *testing.T) {
	c := codec(t)
	f, err := c.DecodeChunk(hour, c.EncodeChunk(hour, rollup.NewFrame(nil)), nil)
	if err != nil || f.Len() != 0 {
		t.Errorf("%v, %v", f, err)
	}
}

func randomBlock(rnd *rand.Rand, buckets int) *Block {
	b := NewBlock(buckets)
	for i := range b.Samples {
		b.Samples[i] = int64(rnd.IntN(3) * 5)
	}
	for n := range 40 {
		l := Line{Measurement: uint16(1 + 3*n), Dim: []string{"", "", "sda", "/data"}[rnd.IntN(4)]}
		aggs := b.Line(l)
		style := rnd.IntN(5)
		for i := range aggs {
			if rnd.IntN(5) == 0 {
				continue
			}
			for range 1 + rnd.IntN(4) {
				p := rollup.Point{OK: true}
				switch style {
				case 0:
					p.Value = float64(rnd.Int64N(1 << 40))
				case 1:
					p.Value = 3
				case 2:
					p.Value = 0.5
				default:
					p.Value = rnd.ExpFloat64() * 1e6
				}
				if style == 4 {
					p.Num, p.Den = rnd.Float64()*1000, float64(rnd.IntN(100))
				}
				aggs[i].Add(p)
			}
		}
	}
	return b
}

func TestBlockRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	c := codec(t)
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 2e-7*max(math.Abs(a), math.Abs(b)) })
	for range 100 {
		want := randomBlock(rnd, 1+rnd.IntN(40))
		packed := c.EncodeBlock(want)
		got, err := c.DecodeBlock(packed, nil)
		if err != nil {
			t.Fatal(err)
		}
		for l, aggs := range want.Lines {
			if !slices.ContainsFunc(aggs, func(a rollup.Agg) bool { return a.Count > 0 }) {
				delete(want.Lines, l)
			}
		}
		if d := cmp.Diff(want, got, near); d != "" {
			t.Fatal(d)
		}
		pick := func(l Line) bool { return l.Measurement%2 == 0 }
		some, err := c.DecodeBlock(packed, pick)
		if err != nil {
			t.Fatal(err)
		}
		for l, aggs := range got.Lines {
			if _, ok := some.Lines[l]; ok != pick(l) || ok && !reflect.DeepEqual(some.Lines[l], aggs) {
				t.Fatalf("%v differs when picked", l)
			}
		}
		lines, err := c.Lines(packed)
		if err != nil || len(lines) != len(got.Lines) {
			t.Fatalf("%d lines, %v", len(lines), err)
		}
		// What was read and is written again must not drift.
		again, err := c.DecodeBlock(c.EncodeBlock(got), nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(got, again, near); d != "" {
			t.Fatal(d)
		}
	}
}

func TestCorruptBytes(t *testing.T) {
	c := codec(t)
	if _, err := c.DecodeChunk(hour, []byte("no zstd"), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("chunk: %v", err)
	}
	if _, err := c.DecodeBlock([]byte("no zstd"), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("block: %v", err)
	}
	for _, payload := range [][]byte{nil, {2}, {1}, {1, 255, 255, 255, 255, 15}} {
		packed := c.enc.EncodeAll(payload, nil)
		if _, err := c.DecodeChunk(hour, packed, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("chunk of %v: %v", payload, err)
		}
		if _, err := c.DecodeBlock(packed, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("block of %v: %v", payload, err)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	rnd := rand.New(rand.NewPCG(4, 1))
	for range 5 {
		row := randomRow(rnd, hour)
		b, err := AppendRow(nil, &row)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		row, err := DecodeRow(b, hour)
		if err != nil {
			return
		}
		if len(row.Cells) > len(b) {
			t.Fatalf("%d cells of %d bytes", len(row.Cells), len(b))
		}
	})
}

// FuzzReadChunk feeds payloads as they are after decompression.
func FuzzReadChunk(f *testing.F) {
	rnd := rand.New(rand.NewPCG(5, 1))
	for n := range 4 {
		var rows []catalog.Row
		for i := range n {
			rows = append(rows, randomRow(rnd, hour.Add(time.Duration(i)*time.Minute)))
		}
		f.Add(chunkPayload(hour, rollup.FrameOf(rows)))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		frame, err := readChunk(hour, payload, nil)
		if err != nil {
			return
		}
		again, err := readChunk(hour, chunkPayload(hour, frame), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := equalFrames(frame, again); err != nil && !hasNaN(frame) {
			t.Fatal(err)
		}
	})
}

func hasNaN(f *rollup.Frame) bool {
	for _, k := range f.Columns() {
		if slices.ContainsFunc(f.Column(k).Floats, math.IsNaN) {
			return true
		}
	}
	return false
}

func FuzzReadBlock(f *testing.F) {
	rnd := rand.New(rand.NewPCG(6, 1))
	for _, n := range []int{0, 1, 24} {
		f.Add(blockPayload(randomBlock(rnd, n)))
	}
	f.Fuzz(func(_ *testing.T, payload []byte) {
		b, err := readBlock(payload, nil)
		if err == nil {
			_ = blockPayload(b)
		}
		_, _ = readBlock(payload, func(Line) bool { return false })
	})
}
