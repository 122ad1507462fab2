package series

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

// Query asks for measurements of one host over a range.
type Query struct {
	Host         model.HostID
	Measurements []string // names of the catalogue, MAX_ names and other spellings
	Dimension    string   // the database or disk that measurements of those scopes are about
	From, To     time.Time
	// Step is one of 10 s, 1 min, 5 min, 1 h and 24 h; 0 takes the finest tier that covers the range.
	Step time.Duration
}

// Result is a query's answer: times aligned to the step, the first at or before From, and for each measurement asked for a
// line of as many values.
type Result struct {
	From, To time.Time
	Step     time.Duration
	Times    []time.Time // starts of the buckets
	Lines    []Line
}

// Line is one measurement. NaN is a gap.
type Line struct {
	Name   string // as it was asked for
	Unit   catalog.Unit
	Values []float64
	Max    []float64 // the largest sample in each bucket
}

// maxPoints bounds an answer.
const maxPoints = 50_000

// AutoStep is the tier that Step 0 stands for: the finest that covers the range and is still kept at its beginning. Ranges
// of up to three hours are shown at 10 s where hosts are sampled that often.
func (s *Series) AutoStep(from, to time.Time) time.Duration {
	const slack = 10 * time.Minute // a page that asks for the last 48 h comes a moment later
	raw := s.keep.raw()
	length, age := to.Sub(from)-slack, s.now().Sub(from)-slack
	kept := func(keep time.Duration) bool { return keep == 0 || age <= keep }
	switch {
	case length <= 3*time.Hour && kept(raw):
		return stepRaw
	case length <= 48*time.Hour && kept(raw):
		return stepMin
	case length <= 7*stepDay && kept(raw):
		return stepFive
	case length <= 63*stepDay && kept(s.keep.Hour):
		return stepHour
	}
	return stepDay
}

// Read answers a query from rows, chunks and roll-ups together: what was written a moment ago is there.
func (s *Series) Read(ctx context.Context, q Query) (Result, error) {
	step := q.Step
	if step == 0 {
		step = s.AutoStep(q.From, q.To)
	}
	if !slices.Contains([]time.Duration{stepRaw, stepMin, stepFive, stepHour, stepDay}, step) || !q.From.Before(q.To) || q.To.Sub(q.From)/step > maxPoints {
		return Result{}, fmt.Errorf("%w: %s to %s by %s", ErrRange, q.From.UTC().Format(time.RFC3339), q.To.UTC().Format(time.RFC3339), step)
	}
	r := reading{s: s, host: q.Host, dim: q.Dimension, step: step, columns: map[catalog.ColumnID]bool{}, lines: map[pack.Line]bool{}}
	for _, name := range q.Measurements {
		m, ok := catalog.Find(name)
		if !ok {
			return Result{}, fmt.Errorf("%w: %s", ErrMeasurement, name)
		}
		r.add(m)
	}
	if r.databases {
		m, _ := catalog.Find(roundMark)
		r.rounds = r.line(&m)
		r.add(m)
	}
	r.from, r.to = rollup.Bucket(q.From, step), q.To.UTC()
	r.begin = r.from
	if r.trailing && step < stepHour {
		r.begin = r.from.Add(-stepHour)
	}
	var err error
	if step <= stepFive {
		err = r.raw(ctx, q.Step == 0 && step == stepRaw)
	} else {
		err = r.tier(ctx)
	}
	if err != nil {
		return Result{}, err
	}
	return r.result(q.Measurements), nil
}

// roundMark is the measurement that every complete dbStats round gives.
const roundMark = "CATALOG_DATABASES"

// reading is one Read under way.
type reading struct {
	s        *Series
	host     model.HostID
	dim      string
	step     time.Duration
	from, to time.Time
	begin    time.Time // start of the buckets: before from where a trailing hour is asked for
	measures []catalog.Measurement
	columns  map[catalog.ColumnID]bool
	lines    map[pack.Line]bool
	trailing bool
	carrying bool
	// databases: values of databases are asked for. rounds is then the line that has a value wherever all databases were
	// measured: one that was not found there was dropped, and its step line ends.
	databases bool
	rounds    pack.Line
	block     *pack.Block
	// carried are the last values before the range, by line, with their times.
	carried map[pack.Line]carriedValue
}

type carriedValue struct {
	at    time.Time
	value float64
}

func (r *reading) add(m catalog.Measurement) {
	r.measures = append(r.measures, m)
	rollup.Needs(&m, r.columns)
	r.lines[r.line(&m)] = true
	r.trailing = r.trailing || m.TrailingHour
	r.carrying = r.carrying || m.Carry > 0
	r.databases = r.databases || m.Carry > 0 && m.Scope == catalog.Database
}

func (r *reading) line(m *catalog.Measurement) pack.Line {
	l := pack.Line{Measurement: m.ID}
	if m.Scope != catalog.Process {
		l.Dim = r.dim
	}
	return l
}

func (r *reading) want(k rollup.Key) bool {
	return (k.Dim == "" || k.Dim == r.dim) && r.columns[k.Column]
}

func (r *reading) wantLine(l pack.Line) bool { return r.lines[l] }

// buckets is the number of buckets from a time up to the end.
func (r *reading) buckets(from time.Time) int {
	return int((r.to.Sub(from) + r.step - 1) / r.step)
}

// raw answers from rows and chunks. With choose, 10 s buckets become minutes where the host is sampled once a minute.
func (r *reading) raw(ctx context.Context, choose bool) error {
	lead := rollup.LongestBase(r.columns) + time.Minute
	if r.carrying {
		lead = max(lead, stepHour+10*time.Minute)
	}
	rows, err := r.s.rows(ctx, r.host, r.begin.Add(-lead), r.to)
	if err != nil {
		return err
	}
	f, err := r.frame(ctx, rows, r.begin.Add(-lead), r.to)
	if err != nil {
		return err
	}
	if choose && rollup.Period(f.Samples) > stepRaw {
		r.step = stepMin
		r.from, r.begin = rollup.Bucket(r.from, r.step), rollup.Bucket(r.begin, r.step)
	}
	r.block = pack.NewBlock(r.buckets(r.begin))
	r.carried = map[pack.Line]carriedValue{}
	r.accumulate(f, r.begin, r.block, r.step, true)
	return r.lookBack(ctx)
}

// accumulate puts the points of a frame into the buckets of a block that starts at begin. What lies before is kept as
// carried values if asked for.
func (r *reading) accumulate(f *rollup.Frame, begin time.Time, block *pack.Block, step time.Duration, carry bool) {
	place := make([]int, f.Len())
	shift := rollup.Steady(f.Samples, step)
	for i := range f.Samples {
		place[i] = -1
		if at := f.Samples[i].At.Add(shift); !at.Before(begin) {
			if k := int(at.Sub(begin) / step); k < len(block.Samples) {
				place[i] = k
				block.Samples[k]++
			}
		}
	}
	e := rollup.NewEvaluator(f)
	done := map[pack.Line]bool{}
	for k := range r.measures {
		m := &r.measures[k]
		l := r.line(m)
		if done[l] {
			continue // a measurement and its twin read the same line
		}
		done[l] = true
		aggs := block.Line(l)
		for i, p := range e.Points(m, l.Dim) {
			switch {
			case place[i] >= 0:
				aggs[place[i]].Add(p)
			case carry && p.OK && m.Carry > 0 && f.Samples[i].At.Before(begin):
				r.carried[l] = carriedValue{f.Samples[i].At, p.Value}
			}
		}
	}
}

// frame joins rows with the chunks of a range. The rows must have been read first: compaction writes chunks before it
// drops rows, so that what is missed in one is found in the other.
func (r *reading) frame(ctx context.Context, rows []catalog.Row, from, to time.Time) (*rollup.Frame, error) {
	frames := []*rollup.Frame{}
	err := r.s.scan(ctx, docstore.Query{
		Collection: collChunks, From: chunkID(r.host, hourOf(from)), To: chunkID(r.host, hourOf(to.Add(stepHour-1))),
	}, func(d *docstore.Doc) error {
		c, err := decodeDoc(d)
		if err != nil {
			return err
		}
		f, err := r.s.codec.DecodeChunk(c.At.UTC(), c.Packed, r.want)
		if err != nil {
			// One spoilt hour is a gap; it must not take the rest of the range with it.
			r.s.log.Error("a stored chunk cannot be read", obs.KeyHostID, r.host, obs.KeyFrom, c.At, obs.KeyErr, err)
			return nil
		}
		frames = append(frames, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(rows) > 0 {
		frames = append(frames, r.rowFrame(rows))
	}
	if len(frames) == 0 {
		return rollup.NewFrame(nil), nil
	}
	return rollup.Concat(frames...), nil
}

// rowFrame makes a frame of the wanted cells of rows.
func (r *reading) rowFrame(rows []catalog.Row) *rollup.Frame {
	for i := range rows {
		cells := rows[i].Cells[:0]
		for _, c := range rows[i].Cells {
			if col, ok := catalog.ColumnByName(c.Column); ok && r.want(rollup.Key{Column: col.ID, Dim: c.Dim}) {
				cells = append(cells, c)
			}
		}
		rows[i].Cells = cells
	}
	return rollup.FrameOf(rows)
}

// scan calls fn for every document of a query.
func (s *Series) scan(ctx context.Context, q docstore.Query, fn func(*docstore.Doc) error) error {
	for {
		page, err := s.engine.Scan(ctx, q)
		if err != nil {
			return fmt.Errorf("series: read %s: %w", q.Collection, err)
		}
		for i := range page.Docs {
			if err := fn(&page.Docs[i]); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Resume = page.Next
	}
}

// rows reads a host's rows that are not compacted yet, from a time (cut to its hour) up to another. Row ids are in order of
// hours first: each step finds the next hour in which anybody of the bucket has rows, so that compacted hours cost one
// look together.
func (s *Series) rows(ctx context.Context, host model.HostID, from, to time.Time) ([]catalog.Row, error) {
	var out []catalog.Row
	hour := hourOf(from)
	end := bucketOf(host) + "0"
	for hour.Before(to) {
		prefix := hourRange(host, hour)
		page, err := s.engine.Scan(ctx, docstore.Query{Collection: collRows, From: prefix, To: end, Limit: 1, IDsOnly: true})
		if err != nil {
			return nil, fmt.Errorf("series: read rows: %w", err)
		}
		if len(page.Docs) == 0 {
			return out, nil
		}
		p, err := parseRowID(page.Docs[0].ID)
		if err != nil {
			return nil, err
		}
		if p.hour.After(hour) {
			hour = p.hour
			if prefix = hourRange(host, hour); !hour.Before(to) {
				break
			}
		} else if p.host != host {
			hour = hour.Add(stepHour)
			continue
		}
		err = s.scan(ctx, docstore.Query{Collection: collRows, From: prefix, To: after(prefix)}, func(d *docstore.Doc) error {
			p, err := parseRowID(d.ID)
			if err != nil || !p.at.Before(to) {
				return err
			}
			row, err := decodeRow(d.Body, p.at)
			if err != nil {
				s.log.Error("a stored row cannot be read", obs.KeyHostID, host, obs.KeyFrom, p.at, obs.KeyErr, err)
				return nil
			}
			out = append(out, row)
			return nil
		})
		if err != nil {
			return nil, err
		}
		hour = hour.Add(stepHour)
	}
	return out, nil
}

// tier answers from roll-ups, and for hours that have rows from those.
func (r *reading) tier(ctx context.Context) error {
	r.block = pack.NewBlock(r.buckets(r.begin))
	r.carried = map[pack.Line]carriedValue{}
	rows, err := r.s.rows(ctx, r.host, r.begin.Add(-rollup.LongestBase(r.columns)), r.end())
	if err != nil {
		return err
	}
	if r.step == stepDay {
		err = r.days(ctx, rows)
	} else {
		err = r.hours(ctx, rows)
	}
	if err != nil {
		return err
	}
	return r.lookBack(ctx)
}

// hours takes hours from the days, and those that have rows from these.
func (r *reading) hours(ctx context.Context, rows []catalog.Row) error {
	if err := r.stored(ctx, collH1, dayID(r.host, dayOf(r.begin)), dayID(r.host, dayOf(r.end().Add(stepDay-1)))); err != nil {
		return err
	}
	return r.fresh(ctx, rows, func(hour time.Time, b *pack.Block) {
		if k := r.bucket(hour); k >= 0 {
			fold(b, r.block, k)
		}
	})
}

// end is where the last bucket ends.
func (r *reading) end() time.Time {
	return r.begin.Add(time.Duration(r.buckets(r.begin)) * r.step)
}

// bucket is the place of a bucket's start in the answer, -1 outside.
func (r *reading) bucket(at time.Time) int {
	if at.Before(r.begin) {
		return -1
	}
	if k := int(at.Sub(r.begin) / r.step); k < len(r.block.Samples) {
		return k
	}
	return -1
}

// take copies one bucket of a block into the answer.
func (r *reading) take(from *pack.Block, i, k int) {
	r.block.Samples[k] = from.Samples[i]
	for l := range r.lines {
		agg := rollup.Agg{}
		if aggs := from.Lines[l]; aggs != nil {
			agg = aggs[i]
		}
		r.block.Line(l)[k] = agg
	}
}

// stored takes roll-ups of the answer's own step.
func (r *reading) stored(ctx context.Context, collection, from, to string) error {
	return r.s.scan(ctx, docstore.Query{Collection: collection, From: from, To: to}, func(d *docstore.Doc) error {
		doc, b, err := r.decode(d)
		if err != nil {
			return err
		}
		for i := range b.Samples {
			if k := r.bucket(doc.At.UTC().Add(time.Duration(i) * r.step)); k >= 0 && b.Samples[i] > 0 {
				r.take(b, i, k)
			}
		}
		return nil
	})
}

func (r *reading) decode(d *docstore.Doc) (packedDoc, *pack.Block, error) {
	doc, err := decodeDoc(d)
	if err != nil {
		return doc, nil, err
	}
	b, err := r.s.codec.DecodeBlock(doc.Packed, r.wantLine)
	if err != nil {
		return doc, nil, fmt.Errorf("series: roll-up %s: %w", d.ID, err)
	}
	return doc, b, nil
}

// days takes the days of the months, and those that are not there yet, or changed since, from their hours.
func (r *reading) days(ctx context.Context, rows []catalog.Row) error {
	err := r.stored(ctx, collD1, monthID(r.host, monthOf(r.begin)), monthID(r.host, monthOf(r.end()).AddDate(0, 1, 0)))
	if err != nil {
		return err
	}
	// The hours of the days that are to be computed: days without a line, days marked, days with rows.
	hours := map[time.Time]*pack.Block{}
	touched := map[time.Time]bool{}
	for _, h := range r.freshHours(rows) {
		touched[dayOf(h)] = true
	}
	first := dayOf(r.begin)
	if r.s.keep.Hour > 0 {
		first = latest(first, dayOf(r.s.now().Add(-r.s.keep.Hour-stepDay)))
	}
	err = r.s.scan(ctx, docstore.Query{Collection: collH1, From: dayID(r.host, first), To: dayID(r.host, r.end())}, func(d *docstore.Doc) error {
		doc, err := decodeDoc(d)
		if err != nil {
			return err
		}
		day := doc.At.UTC()
		k := r.bucket(day)
		if k < 0 || !doc.Dirty && r.block.Samples[k] > 0 && !touched[day] {
			return nil
		}
		if _, hours[day], err = r.decode(d); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = r.fresh(ctx, rows, func(hour time.Time, b *pack.Block) {
		day := dayOf(hour)
		if hours[day] == nil {
			hours[day] = pack.NewBlock(int(stepDay / stepHour))
		}
		fold(b, hours[day], int(hour.Sub(day)/stepHour))
	})
	for day, b := range hours {
		if k := r.bucket(day); k >= 0 {
			fold(b, r.block, k)
		}
	}
	return err
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// freshHours lists the hours that must be computed because of rows: those they lie in and those that follow, whose first
// rates are measured from them.
func (r *reading) freshHours(rows []catalog.Row) []time.Time {
	var hours []time.Time
	add := func(h time.Time) {
		if h.Before(r.end()) && (len(hours) == 0 || hours[len(hours)-1].Before(h)) {
			hours = append(hours, h)
		}
	}
	for i := range rows {
		h := hourOf(rows[i].At)
		if n := len(hours); n > 0 && hours[n-1].Before(h) || n == 0 {
			add(h)
		}
		if i+1 == len(rows) || hourOf(rows[i+1].At).After(h) {
			add(h.Add(stepHour))
		}
	}
	return hours
}

// fresh rolls up the hours that have rows, together with what their chunks hold.
func (r *reading) fresh(ctx context.Context, rows []catalog.Row, use func(hour time.Time, b *pack.Block)) error {
	for _, hour := range r.freshHours(rows) {
		var own []catalog.Row
		for i := range rows {
			if hourOf(rows[i].At).Equal(hour) {
				own = append(own, rows[i])
			}
		}
		lead := rollup.LongestBase(r.columns) + time.Minute
		// Rows of the hour before are in own frames already read: they may be the base of this hour's first rates.
		for i := range rows {
			if rows[i].At.Before(hour) && hour.Sub(rows[i].At) <= lead {
				own = append(own, rows[i])
			}
		}
		slices.SortFunc(own, func(a, b catalog.Row) int { return a.At.Compare(b.At) })
		f, err := r.frame(ctx, own, hour.Add(-lead), hour.Add(stepHour))
		if err != nil {
			return err
		}
		b := pack.NewBlock(1)
		if r.accumulate(f, hour, b, stepHour, false); b.Samples[0] > 0 {
			use(hour, b)
		}
	}
	return nil
}

// lookBack finds values that stand for the beginning of the range: dbStats is read every 20 minutes, or once a day where it
// hurts.
func (r *reading) lookBack(ctx context.Context) error {
	if !r.carrying || r.step == stepDay {
		return nil
	}
	from := r.begin.Add(-stepDay)
	return r.s.scan(ctx, docstore.Query{Collection: collH1, From: dayID(r.host, from), To: dayID(r.host, dayOf(r.begin).Add(stepDay))}, func(d *docstore.Doc) error {
		doc, b, err := r.decode(d)
		if err != nil {
			return err
		}
		for l, aggs := range b.Lines {
			for i, a := range aggs {
				at := doc.At.UTC().Add(time.Duration(i) * stepHour)
				if a.Count > 0 && at.Before(hourOf(r.begin)) && at.After(r.carried[l].at) {
					r.carried[l] = carriedValue{at, a.Last}
				}
			}
		}
		return nil
	})
}

// result turns the buckets into lines.
func (r *reading) result(names []string) Result {
	skip := int(r.from.Sub(r.begin) / r.step)
	n := len(r.block.Samples) - skip
	res := Result{From: r.from, To: r.end(), Step: r.step, Times: make([]time.Time, n), Lines: make([]Line, len(names))}
	for i := range res.Times {
		res.Times[i] = r.from.Add(time.Duration(i) * r.step)
	}
	for k, name := range names {
		m := &r.measures[k]
		l := Line{Name: name, Unit: m.Unit, Values: make([]float64, n), Max: make([]float64, n)}
		aggs := r.block.Line(r.line(m))
		carry := r.carried[r.line(m)]
		if m.Scope == catalog.Database && carry.at.Before(r.carried[r.rounds].at) {
			carry = carriedValue{} // a later round did not find it
		}
		for i := range skip { // the hour before, read because another measurement adds it up
			switch {
			case aggs[i].Count > 0:
				carry = carriedValue{r.begin.Add(time.Duration(i) * r.step), aggs[i].Last}
			case m.Scope == catalog.Database && r.block.Line(r.rounds)[i].Count > 0:
				carry = carriedValue{}
			}
		}
		for i := range n {
			a := aggs[skip+i]
			if m.TrailingHour && r.step < stepHour {
				for back := 1; back < int(stepHour/r.step) && skip+i-back >= 0; back++ {
					a.Merge(aggs[skip+i-back])
				}
			}
			l.Values[i], l.Max[i] = a.Value(m), math.NaN()
			if a.Count > 0 {
				l.Max[i] = a.Max
			}
			if m.Carry == 0 || r.step == stepDay {
				continue
			}
			switch {
			case a.Count > 0:
				carry = carriedValue{res.Times[i], a.Last}
			case m.Scope == catalog.Database && r.block.Line(r.rounds)[skip+i].Count > 0:
				carry = carriedValue{}
			case r.block.Samples[skip+i] > 0 && !carry.at.IsZero() && res.Times[i].Sub(carry.at) <= m.Carry:
				l.Values[i], l.Max[i] = carry.value, carry.value
			}
		}
		res.Lines[k] = l
	}
	return res
}

// Dimensions lists the databases, or the disks and mount points, of which a host has values of the last two days.
func (s *Series) Dimensions(ctx context.Context, host model.HostID, scope catalog.Scope) ([]string, error) {
	if scope == catalog.Process {
		return nil, nil
	}
	now := s.now()
	found := map[string]bool{}
	rows, err := s.rows(ctx, host, now.Add(-s.keep.Minute), now.Add(maxAhead))
	if err != nil {
		return nil, err
	}
	for i := range rows {
		for _, c := range rows[i].Cells {
			if col, ok := catalog.ColumnByName(c.Column); ok && c.Dim != "" && col.Scope == scope {
				found[c.Dim] = true
			}
		}
	}
	err = s.scan(ctx, docstore.Query{Collection: collH1, From: dayID(host, now.Add(-stepDay)), To: dayID(host, now.Add(stepDay))}, func(d *docstore.Doc) error {
		doc, err := decodeDoc(d)
		if err != nil {
			return err
		}
		lines, err := s.codec.Lines(doc.Packed)
		for _, l := range lines {
			if m, ok := catalog.ByNumber(l.Measurement); ok && m.Scope == scope && l.Dim != "" {
				found[l.Dim] = true
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(found)), nil
}
