package rollup

import (
	"math"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

// Point is one value of a measurement. Num and Den are what a quotient was made of, so that coarser values can be ratios
// of sums.
type Point struct {
	OK       bool
	Value    float64
	Num, Den float64
}

// Evaluator computes the measurements of a frame.
type Evaluator struct {
	f       *Frame
	period  time.Duration
	process []int  // incarnation of the process, by sample
	machine []int  // incarnation of the machine, by sample
	dropped []bool // samples too close to the one before
	restart []bool // a restart was found between this sample and the one before
	at      *Column
}

// NewEvaluator looks through a frame's identities.
func NewEvaluator(f *Frame) *Evaluator {
	n := f.Len()
	e := &Evaluator{
		f: f, period: Period(f.Samples), process: make([]int, n), machine: make([]int, n), dropped: make([]bool, n),
		restart: make([]bool, n), at: f.Column(Key{Column: columnID("machine.at")}),
	}
	e.drop()
	boot := f.Column(Key{Column: columnID("machine.boot")})
	last, lastBoot := -1, math.NaN()
	for i := range n {
		if i > 0 {
			e.machine[i] = e.machine[i-1]
		}
		if boot != nil && boot.Has[i] {
			// The kernel computes the time of boot from its clock: it may move by a second.
			if now := boot.float(i); math.Abs(now-lastBoot) > 2 {
				e.machine[i]++
				lastBoot = now
			} else if math.IsNaN(lastBoot) {
				lastBoot = now
			}
		}
		if last >= 0 {
			restarted, start := Restarted(f.Samples[last], f.Samples[i])
			e.process[i] = e.process[last]
			if restarted {
				e.process[i]++
				e.restart[i] = f.Samples[i].At.Sub(start) <= time.Hour
			}
		}
		last = i
	}
	return e
}

func columnID(name string) catalog.ColumnID {
	c, _ := catalog.ColumnByName(name)
	return c.ID
}

// Period estimates the sampling period of samples: 10 s or 60 s.
func Period(samples []Identity) time.Duration {
	short, long := 0, 0
	for i := 1; i < len(samples); i++ {
		if samples[i].At.Sub(samples[i-1].At) < 30*time.Second {
			short++
		} else {
			long++
		}
	}
	if short > long {
		return 10 * time.Second
	}
	return time.Minute
}

// drop marks the samples that came less than half a period after the one before. Where short distances follow each other
// the period itself was short there.
func (e *Evaluator) drop() {
	s := e.f.Samples
	base := 0
	for i := 1; i < len(s); i++ {
		short := s[i].At.Sub(s[base].At) < e.period/2
		run := i+1 < len(s) && s[i+1].At.Sub(s[i].At) < e.period/2 || i > 1 && s[i-1].At.Sub(s[i-2].At) < e.period/2
		if short && (!run || e.period == 10*time.Second) {
			e.dropped[i] = true
			continue
		}
		base = i
	}
}

// term is a column of a form, found in the frame.
type term struct {
	col      *Column
	factor   float64
	optional bool
	wrap     bool
	group    []*Column
}

// bound is a form with its columns.
type bound struct {
	form     *catalog.Form
	num, den []term
	mul, div *Column
	guard    *Column
	machine  bool
	maxGap   time.Duration
	usable   bool
}

func (e *Evaluator) bind(form *catalog.Form, dim string) bound {
	b := bound{form: form, maxGap: MaxGap(e.period), usable: true}
	terms := func(list []catalog.Term) []term {
		out := make([]term, 0, len(list))
		for _, t := range list {
			c, _ := catalog.ColumnByID(t.Column)
			d := term{col: e.column(t.Column, c.Scope, dim), factor: t.Factor, optional: t.Optional, wrap: c.Wrap32}
			if d.col == nil {
				if !t.Optional {
					b.usable = false
				}
				continue
			}
			if c.Clock == catalog.MachineClock {
				b.machine = true
			}
			b.maxGap = max(b.maxGap, c.Sparse)
			if c.Group != "" && form.Kind != catalog.Gauge {
				for _, id := range catalog.Group(c.Group) {
					if g := e.column(id, c.Scope, dim); g != nil && g != d.col {
						d.group = append(d.group, g)
					}
				}
			}
			out = append(out, d)
		}
		return out
	}
	b.num, b.den = terms(form.Num), terms(form.Den)
	for _, x := range []struct {
		id  catalog.ColumnID
		col **Column
	}{{form.Mul, &b.mul}, {form.Div, &b.div}, {form.Guard, &b.guard}} {
		if x.id == 0 {
			continue
		}
		col := e.column(x.id, catalog.Process, "")
		if col == nil && x.id != form.Guard {
			b.usable = false
		}
		if x.id != form.Guard {
			col = filled(col)
		}
		*x.col = col
	}
	return b
}

// filled is a gauge that hardly ever moves (cores, the oplog's size), with its value also where a sample lacks it: the one
// before, or for the first samples the one after. Without getDiagnosticData the cores are known once an hour.
func filled(c *Column) *Column {
	if c == nil || !slices.Contains(c.Has, false) {
		return c
	}
	out := NewColumn(len(c.Has))
	last := slices.Index(c.Has, true)
	if last < 0 {
		return out
	}
	for i := range c.Has {
		if c.Has[i] {
			last = i
		}
		v, _ := c.Value(last)
		out.Set(i, v)
	}
	return out
}

// column finds a column; the uptime is every sample's own.
func (e *Evaluator) column(id catalog.ColumnID, scope catalog.Scope, dim string) *Column {
	if scope == catalog.Process {
		dim = ""
	}
	if id == columnID("uptimeMs") {
		c := NewColumn(e.f.Len())
		for i := range e.f.Samples {
			if up := e.f.Samples[i].UptimeMS; up > 0 {
				c.Has[i], c.Ints[i] = true, up
			}
		}
		return c
	}
	return e.f.Column(Key{id, dim})
}

// Points computes a measurement, one point a sample. A sample without a value has a point that is not OK. A MAX_ twin has
// the same points as its base.
func (e *Evaluator) Points(m *catalog.Measurement, dim string) []Point {
	out := make([]Point, e.f.Len())
	var forms []bound
	for i := range m.Forms {
		form := &m.Forms[i]
		switch {
		case form.Restarts:
			for k := range out {
				out[k] = Point{OK: k > 0, Value: count(e.restart[k])}
			}
			return out
		case len(form.Parts) > 0:
			e.addParts(form, dim, out)
			return out
		}
		if b := e.bind(form, dim); b.usable {
			forms = append(forms, b)
		}
	}
	for i := range out {
		if e.dropped[i] {
			continue
		}
		for k := range forms {
			if b := &forms[k]; b.applies(i) {
				out[i] = e.point(b, i)
				break
			}
		}
	}
	return out
}

func count(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (e *Evaluator) addParts(form *catalog.Form, dim string, out []Point) {
	for n, name := range form.Parts {
		part, _ := catalog.Find(name)
		for i, p := range e.Points(&part, dim) {
			out[i] = Point{OK: p.OK && (n == 0 || out[i].OK), Value: out[i].Value + p.Value}
		}
	}
}

// applies reports whether a sample has all columns of a form.
func (b *bound) applies(i int) bool {
	for _, list := range [2][]term{b.num, b.den} {
		for k := range list {
			if !list[k].optional && !list[k].col.Has[i] {
				return false
			}
		}
	}
	return (b.mul == nil || b.mul.Has[i]) && (b.div == nil || b.div.Has[i])
}

func (e *Evaluator) point(b *bound, i int) Point {
	factor := b.form.Scale
	if b.mul != nil {
		factor *= b.mul.float(i)
	}
	if b.div != nil {
		d := b.div.float(i)
		if d == 0 {
			return Point{}
		}
		factor /= d
	}
	if b.form.Kind == catalog.Gauge {
		num, den := 0.0, 1.0
		for k := range b.num {
			if t := &b.num[k]; t.col.Has[i] {
				num += t.factor * t.col.float(i)
			}
		}
		if len(b.den) > 0 {
			den = 0
			for k := range b.den {
				if t := &b.den[k]; t.col.Has[i] {
					den += t.factor * t.col.float(i)
				}
			}
			if den == 0 {
				return Point{}
			}
		}
		return b.finish(Point{OK: true, Value: num / den * factor})
	}
	j, seconds, ok := e.base(b, i)
	if !ok {
		return Point{}
	}
	num, okNum := b.sum(b.num, j, i, seconds)
	den, okDen := b.sum(b.den, j, i, seconds)
	if !okNum || !okDen || b.guard != nil && b.guard.Has[i] && b.guard.Has[j] && b.guard.growth(j, i) > 0 {
		return Point{}
	}
	if b.form.Kind == catalog.Rate {
		return b.finish(Point{OK: true, Value: num / seconds * factor})
	}
	if b.form.Seconds {
		num = seconds
	}
	if den == 0 && (!b.form.AtLeastOne || num == 0) {
		return Point{}
	}
	p := Point{OK: true, Num: num * factor, Den: den}
	p.Value = p.Num / p.Den
	if b.form.AtLeastOne {
		p.Value = p.Num / max(1, p.Den)
	}
	return b.finish(p)
}

func (b *bound) finish(p Point) Point {
	if b.form.Positive {
		p.Value = max(0, p.Value)
	}
	if b.form.Cap > 0 {
		p.Value = min(p.Value, b.form.Cap)
	}
	if b.form.Floor {
		p.Value = math.Floor(p.Value)
	}
	if math.IsNaN(p.Value) || math.IsInf(p.Value, 0) {
		return Point{}
	}
	return p
}

// base finds the earlier sample to subtract: the last one of the same incarnation that has all counters of the form, not
// too long ago; and the seconds between.
func (e *Evaluator) base(b *bound, i int) (j int, seconds float64, ok bool) {
	incarnation := e.process
	if b.machine {
		incarnation = e.machine
	}
	s := e.f.Samples
search:
	for j = i - 1; j >= 0; j-- {
		if incarnation[j] != incarnation[i] || s[i].At.Sub(s[j].At) > b.maxGap+time.Minute {
			return 0, 0, false
		}
		if e.dropped[j] {
			continue
		}
		for _, list := range [2][]term{b.num, b.den} {
			for k := range list {
				if list[k].col.Has[i] && !list[k].col.Has[j] {
					continue search
				}
			}
		}
		seconds = e.seconds(b, j, i)
		return j, seconds, seconds > 0 && seconds <= b.maxGap.Seconds()
	}
	return 0, 0, false
}

// seconds is the length of an interval by the steady clock of what is counted; agents' clocks may step.
func (e *Evaluator) seconds(b *bound, j, i int) float64 {
	s := e.f.Samples
	switch {
	case b.machine && e.at != nil && e.at.Has[i] && e.at.Has[j]:
		return e.at.growth(j, i) / 1000
	case !b.machine && s[i].UptimeMS > 0 && s[j].UptimeMS > 0:
		return float64(s[i].UptimeMS-s[j].UptimeMS) / 1000
	}
	return s[i].At.Sub(s[j].At).Seconds()
}

// sum adds up growths. Not ok: a counter, or one that is reset with it, went back.
func (b *bound) sum(terms []term, j, i int, seconds float64) (float64, bool) {
	total := 0.0
	for k := range terms {
		t := &terms[k]
		if !t.col.Has[i] || !t.col.Has[j] {
			continue
		}
		d := t.col.growth(j, i)
		if d < 0 && t.wrap {
			if wrapped := d + 1<<32; wrapped < seconds*1000*1024 {
				d = wrapped
			}
		}
		if d < 0 {
			if !b.form.Clamp {
				return 0, false
			}
			d = 0
		}
		for _, g := range t.group {
			if g.Has[i] && g.Has[j] && g.growth(j, i) < 0 {
				return 0, false
			}
		}
		total += t.factor * d
	}
	if b.form.Clamp {
		total = max(0, total)
	}
	return total, true
}
