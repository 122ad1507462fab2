package rollup

import (
	"github.com/heartwood-db/heartwood/shared/catalog"
)

// Key names a column of a frame: a raw column and, where it has one, the database, disk or mount point.
type Key struct {
	Column catalog.ColumnID
	Dim    string
}

// Column holds the values of one column, one a sample. When Floats is not nil some value has a fraction and all of them
// are in Floats; else they are in Ints.
type Column struct {
	Has    []bool
	Ints   []int64
	Floats []float64
}

// NewColumn makes a column for n samples, all absent.
func NewColumn(n int) *Column { return &Column{Has: make([]bool, n), Ints: make([]int64, n)} }

// Set gives a sample its value.
func (c *Column) Set(i int, v catalog.Value) {
	c.Has[i] = true
	if v.IsFloat() && c.Floats == nil {
		c.Floats = make([]float64, len(c.Ints))
		for k, n := range c.Ints {
			c.Floats[k] = float64(n)
		}
	}
	if c.Floats != nil {
		c.Floats[i] = v.Float64()
	}
	c.Ints[i] = v.Int64()
}

// Value is a sample's value.
func (c *Column) Value(i int) (catalog.Value, bool) {
	if !c.Has[i] {
		return catalog.Value{}, false
	}
	if c.Floats != nil {
		return catalog.Float(c.Floats[i]), true
	}
	return catalog.Int(c.Ints[i]), true
}

func (c *Column) float(i int) float64 {
	if c.Floats != nil {
		return c.Floats[i]
	}
	return float64(c.Ints[i])
}

// growth is the difference of two values, taken in integers where both are: doubles lose units beyond 2^53.
func (c *Column) growth(from, to int) float64 {
	if c.Floats != nil {
		return c.Floats[to] - c.Floats[from]
	}
	return float64(c.Ints[to] - c.Ints[from])
}

// Frame is a stretch of a host's rows by column: samples in order of time, each with its identity.
type Frame struct {
	Samples []Identity
	cols    map[Key]*Column
}

// NewFrame makes a frame of samples without values. The samples must be in ascending order of At, each time once.
func NewFrame(samples []Identity) *Frame {
	return &Frame{Samples: samples, cols: map[Key]*Column{}}
}

// FrameOf makes a frame of rows, which must be in ascending order of At, each time once.
func FrameOf(rows []catalog.Row) *Frame {
	samples := make([]Identity, len(rows))
	for i := range rows {
		samples[i] = IdentityOf(&rows[i])
	}
	f := NewFrame(samples)
	for i := range rows {
		f.AddRow(i, &rows[i])
	}
	return f
}

// AddRow fills in the values of one sample. Columns this build does not know are left out.
func (f *Frame) AddRow(i int, r *catalog.Row) {
	for k := range r.Cells {
		c := &r.Cells[k]
		if col, ok := catalog.ColumnByName(c.Column); ok {
			f.Make(Key{col.ID, c.Dim}).Set(i, c.Value)
		}
	}
}

// Len is the number of samples.
func (f *Frame) Len() int { return len(f.Samples) }

// Make returns a column, an empty one if the frame did not have it.
func (f *Frame) Make(k Key) *Column {
	c := f.cols[k]
	if c == nil {
		c = NewColumn(len(f.Samples))
		f.cols[k] = c
	}
	return c
}

// Column returns a column, or nil when the frame does not have it.
func (f *Frame) Column(k Key) *Column { return f.cols[k] }

// Columns lists the keys of the columns, in no order.
func (f *Frame) Columns() []Key {
	keys := make([]Key, 0, len(f.cols))
	for k := range f.cols {
		keys = append(keys, k)
	}
	return keys
}

// Dimensions lists the databases and disks of a frame by scope; processes have the one empty dimension.
func (f *Frame) Dimensions() [3][]string {
	dims := [3][]string{catalog.Process: {""}}
	seen := map[Key]bool{}
	for key := range f.cols {
		c, ok := catalog.ColumnByID(key.Column)
		if !ok || c.Scope == catalog.Process {
			continue
		}
		once := Key{Column: catalog.ColumnID(c.Scope), Dim: key.Dim}
		if !seen[once] {
			seen[once] = true
			dims[c.Scope] = append(dims[c.Scope], key.Dim)
		}
	}
	return dims
}
