// Package recent computes the newest values of a host's measurements from its stored rows: the part of series.Recent that needs
// no database.
package recent

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

// Question is what is asked of every host. Nothing in it changes once it is made.
type Question struct {
	From  time.Time // samples at or after
	Begin time.Time // before From: the samples that rates are measured from
	// Measures are looked for in the rows from Begin on, Slow are never to be had from those alone.
	Measures, Slow []Asked
	Columns        []bool // that Measures are computed from
	perDim         bool   // some of Measures are of databases or disks
}

// Asked is a measurement under the name it was asked for.
type Asked struct {
	catalog.Measurement
	Name string
}

// Name is the name of a line: the measurement's, and the database's or disk's where it is of one.
func Name(measurement, dimension string) string {
	if dimension == "" {
		return measurement
	}
	return measurement + "/" + dimension
}

// Ask makes a question of measurements from a time on. An unknown name is returned.
func Ask(names []string, from time.Time) (q *Question, unknown string) {
	q = &Question{From: from}
	columns := map[catalog.ColumnID]bool{}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		m, ok := catalog.Find(name)
		switch {
		case !ok:
			return nil, name
		case m.TrailingHour || m.Carry > 0 && m.Scope == catalog.Database:
			q.Slow = append(q.Slow, Asked{m, name})
		default:
			rollup.Needs(&m, columns)
			q.Measures = append(q.Measures, Asked{m, name})
			q.perDim = q.perDim || m.Scope != catalog.Process
		}
	}
	q.Begin = from.Add(-rollup.LongestBase(columns) - time.Minute)
	q.Columns = Wanted(columns)
	return q, ""
}

// Wanted is a set of columns as a slice by their ids.
func Wanted(columns map[catalog.ColumnID]bool) []bool {
	top := catalog.ColumnID(0)
	for id := range columns {
		top = max(top, id)
	}
	wanted := make([]bool, int(top)+1)
	for id := range columns {
		wanted[id] = true
	}
	return wanted
}

// Lines computes the measurements of a frame and puts them into lines. It returns those that need a look further back.
func (q *Question) Lines(f *rollup.Frame, lines map[string][]model.Sample) (further []Asked) {
	first := len(f.Samples)
	for first > 0 && !f.Samples[first-1].At.Before(q.From) {
		first--
	}
	if first == len(f.Samples) {
		return nil
	}
	dims := [3][]string{catalog.Process: {""}}
	if q.perDim {
		dims = f.Dimensions()
	}
	e := rollup.NewEvaluator(f)
	for k := range q.Measures {
		m := &q.Measures[k]
		found := false
		for _, dim := range dims[m.Scope] {
			if samples := m.samples(f, e.Points(&m.Measurement, dim), first); len(samples) > 0 {
				lines[Name(m.Name, dim)], found = samples, true
			}
		}
		if !found && (m.Carry > rollup.MaxGap(time.Minute) || lacksSlow(f, m)) {
			further = append(further, *m)
		}
	}
	return further
}

// samples are the points from the first-th on, with values that stand where there is no point.
func (m *Asked) samples(f *rollup.Frame, points []rollup.Point, first int) []model.Sample {
	samples := make([]model.Sample, 0, len(points)-first)
	var stands model.Sample
	for i, p := range points {
		var a rollup.Agg
		at := f.Samples[i].At
		switch a.Add(p); {
		case a.Count > 0:
			stands = model.Sample{At: at, Value: a.Value(&m.Measurement)}
		case m.Carry == 0 || stands.At.IsZero() || rollup.Bucket(at, 10*time.Second).Sub(rollup.Bucket(stands.At, 10*time.Second)) > m.Carry: // as Read, which knows buckets only
			continue
		}
		if i >= first {
			samples = append(samples, model.Sample{At: at, Value: stands.Value})
		}
	}
	return samples
}

// lacksSlow reports whether a measurement is missing only because a gauge that hardly ever moves (cores) is, which some hosts
// tell once an hour.
func lacksSlow(f *rollup.Frame, m *Asked) bool {
	for i := range m.Forms {
		form := &m.Forms[i]
		lacks := false
		for _, id := range []catalog.ColumnID{form.Mul, form.Div} {
			lacks = lacks || id != 0 && f.Column(rollup.Key{Column: id}) == nil
		}
		for _, t := range form.Num {
			if lacks && f.Column(rollup.Key{Column: t.Column}) != nil {
				return true
			}
		}
	}
	return false
}

// Rows makes a frame of stored rows, given in the order of their times. It hands over those that cannot be read and leaves them
// out.
func Rows(docs []docstore.Doc, wanted []bool, spoilt func(id string, err error)) *rollup.Frame {
	f := rollup.NewFrame(make([]rollup.Identity, len(docs)))
	good := make([]int, 0, len(docs))
	for i := range docs {
		id, err := scanRow(&docs[i], wanted, func(column catalog.ColumnID, dim string, v catalog.Value) {
			f.Make(rollup.Key{Column: column, Dim: dim}).Set(i, v)
		})
		if err != nil {
			spoilt(docs[i].ID, err)
			continue
		}
		f.Samples[i] = id
		good = append(good, i)
	}
	if len(good) < len(docs) {
		return f.Pick(good)
	}
	return f
}

// scanRow takes a row's time from its id without parsing the hour anew by its layout: there are very many rows.
func scanRow(d *docstore.Doc, wanted []bool, use func(catalog.ColumnID, string, catalog.Value)) (rollup.Identity, error) {
	at, ok := rowTime(d.ID)
	if !ok {
		return rollup.Identity{}, fmt.Errorf("series: %q is no id of a row", d.ID)
	}
	v, err := bson.Raw(d.Body).LookupErr("p")
	if err != nil {
		return rollup.Identity{}, fmt.Errorf("series: row: %w", err)
	}
	_, packed, ok := v.BinaryOK()
	if !ok {
		return rollup.Identity{}, errors.New("series: row: its values are not binary")
	}
	return pack.ScanRow(packed, at, wanted, use)
}

// rowTime is the time in a row's id: "b/2006010215/<host>/0000000".
func rowTime(id string) (time.Time, bool) {
	const start, end = 2, 12
	if len(id) < end+9 || id[start-1] != '/' || id[end] != '/' || id[len(id)-8] != '/' {
		return time.Time{}, false
	}
	year, err1 := strconv.Atoi(id[start : start+4])
	month, err2 := strconv.Atoi(id[start+4 : start+6])
	day, err3 := strconv.Atoi(id[start+6 : start+8])
	hour, err4 := strconv.Atoi(id[start+8 : end])
	ms, err5 := strconv.Atoi(id[len(id)-7:])
	if errors.Join(err1, err2, err3, err4, err5) != nil {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, 0, 0, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond), true
}
