package rollup

import (
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

// Concat joins frames of one host into one in order of time. Samples of equal time are kept once, from the first frame
// that has them.
func Concat(frames ...*Frame) *Frame {
	frames = slices.DeleteFunc(slices.Clone(frames), func(f *Frame) bool { return f == nil || f.Len() == 0 })
	if len(frames) == 1 {
		return frames[0]
	}
	n := 0
	ordered := true
	for k, f := range frames {
		n += f.Len()
		ordered = ordered && (k == 0 || frames[k-1].Samples[frames[k-1].Len()-1].At.Before(f.Samples[0].At))
	}
	out := NewFrame(make([]Identity, 0, n))
	if !ordered {
		return interleave(frames, out)
	}
	for _, f := range frames {
		out.Samples = append(out.Samples, f.Samples...)
	}
	begin := 0
	for _, f := range frames {
		for key, col := range f.cols {
			to := out.Make(key)
			to.fit(col)
			copy(to.Has[begin:], col.Has)
			copy(to.Ints[begin:], col.Ints)
			if to.Floats != nil {
				for i := range col.Has {
					to.Floats[begin+i] = col.float(i)
				}
			}
		}
		begin += f.Len()
	}
	return out
}

// fit makes a column hold floats if the one that is to be copied into it does.
func (c *Column) fit(from *Column) {
	if from.Floats == nil || c.Floats != nil {
		return
	}
	c.Floats = make([]float64, len(c.Ints))
	for i, v := range c.Ints {
		c.Floats[i] = float64(v)
	}
}

// interleave is Concat of frames that lie among each other.
func interleave(frames []*Frame, out *Frame) *Frame {
	type source struct{ frame, sample int }
	var order []source
	for k, f := range frames {
		for i := range f.Samples {
			order = append(order, source{k, i})
		}
	}
	at := func(s source) time.Time { return frames[s.frame].Samples[s.sample].At }
	slices.SortStableFunc(order, func(a, b source) int { return at(a).Compare(at(b)) })
	order = slices.CompactFunc(order, func(a, b source) bool { return at(a).Equal(at(b)) })
	for _, s := range order {
		out.Samples = append(out.Samples, frames[s.frame].Samples[s.sample])
	}
	for k, f := range frames {
		for key, col := range f.cols {
			to := out.Make(key)
			to.fit(col)
			for n, s := range order {
				if s.frame != k || !col.Has[s.sample] {
					continue
				}
				to.Has[n], to.Ints[n] = true, col.Ints[s.sample]
				if to.Floats != nil {
					to.Floats[n] = col.float(s.sample)
				}
			}
		}
	}
	return out
}

// Pick makes a frame of some of the samples, given by place in ascending order.
func (f *Frame) Pick(places []int) *Frame {
	out := NewFrame(make([]Identity, len(places)))
	for n, i := range places {
		out.Samples[n] = f.Samples[i]
	}
	for key, col := range f.cols {
		to := NewColumn(len(places))
		if col.Floats != nil {
			to.Floats = make([]float64, len(places))
		}
		for n, i := range places {
			to.Has[n], to.Ints[n] = col.Has[i], col.Ints[i]
			if col.Floats != nil {
				to.Floats[n] = col.Floats[i]
			}
		}
		out.cols[key] = to
	}
	return out
}

// LeadIn picks the samples of an earlier frame that the first rates after it may be measured from: those of the last
// minutes, and the last with each counter that is not in every ping.
func LeadIn(f *Frame, until time.Time) *Frame {
	if f == nil || f.Len() == 0 {
		return nil
	}
	keep := make([]bool, f.Len())
	since := until.Add(-MaxGap(Period(f.Samples)))
	for i := range f.Samples {
		keep[i] = f.Samples[i].At.After(since) && f.Samples[i].At.Before(until)
	}
	for key, col := range f.cols {
		c, ok := catalog.ColumnByID(key.Column)
		if !ok || !c.Counter || c.Sparse == 0 {
			continue
		}
		for i := f.Len() - 1; i >= 0; i-- {
			if col.Has[i] && f.Samples[i].At.Before(until) {
				keep[i] = until.Sub(f.Samples[i].At) <= c.Sparse || keep[i]
				break
			}
		}
	}
	var places []int
	for i, k := range keep {
		if k {
			places = append(places, i)
		}
	}
	return f.Pick(places)
}

// Needs adds to set the columns that a measurement is computed from.
func Needs(m *catalog.Measurement, set map[catalog.ColumnID]bool) {
	for i := range m.Forms {
		form := &m.Forms[i]
		for _, part := range form.Parts {
			if p, ok := catalog.Find(part); ok {
				Needs(&p, set)
			}
		}
		for _, t := range append(slices.Clone(form.Num), form.Den...) {
			set[t.Column] = true
			c, _ := catalog.ColumnByID(t.Column)
			for _, id := range catalog.Group(c.Group) {
				set[id] = true
			}
			if c.Clock == catalog.MachineClock {
				set[columnID("machine.at")], set[columnID("machine.boot")] = true, true
			}
		}
		for _, id := range []catalog.ColumnID{form.Mul, form.Div, form.Guard} {
			if id != 0 {
				set[id] = true
			}
		}
	}
}

// LongestBase is how far before a sample the one may lie that a rate is measured from.
func LongestBase(set map[catalog.ColumnID]bool) time.Duration {
	d := MaxGap(time.Minute)
	for id := range set {
		if c, ok := catalog.ColumnByID(id); ok && c.Counter {
			d = max(d, c.Sparse)
		}
	}
	return d
}
