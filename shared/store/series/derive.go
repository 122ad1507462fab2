package series

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

// Steps of the tiers.
const (
	stepRaw  = 10 * time.Second
	stepMin  = time.Minute
	stepFive = 5 * time.Minute
	stepHour = time.Hour
	stepDay  = 24 * time.Hour
)

// derived are the measurements that roll-ups keep: all but the twins, which read their base's maximum.
func derived() []catalog.Measurement {
	all := catalog.Measurements()
	out := all[:0]
	for _, m := range all {
		if !m.Max {
			out = append(out, m)
		}
	}
	return out
}

// rollHour rolls an hour up into one bucket. before holds samples of the hour before, or is nil.
func rollHour(hour time.Time, f, before *rollup.Frame, measurements []catalog.Measurement) *pack.Block {
	block := pack.NewBlock(1)
	joined := rollup.Concat(rollup.LeadIn(before, hour), f)
	first := 0
	for first < joined.Len() && joined.Samples[first].At.Before(hour) {
		first++
	}
	block.Samples[0] = int64(joined.Len() - first)
	dims := dimensionsOf(joined)
	e := rollup.NewEvaluator(joined)
	for k := range measurements {
		m := &measurements[k]
		for _, dim := range dims[m.Scope] {
			var sum rollup.Agg
			for _, p := range e.Points(m, dim)[first:] {
				sum.Add(p)
			}
			if sum.Count > 0 {
				block.Line(pack.Line{Measurement: m.ID, Dim: dim})[0] = sum
			}
		}
	}
	return block
}

// dimensionsOf lists the dimensions of each scope in a frame; processes have the one empty dimension.
func dimensionsOf(f *rollup.Frame) [3][]string {
	dims := [3][]string{catalog.Process: {""}}
	seen := map[rollup.Key]bool{}
	for _, key := range f.Columns() {
		c, ok := catalog.ColumnByID(key.Column)
		if !ok || c.Scope == catalog.Process {
			continue
		}
		once := rollup.Key{Column: catalog.ColumnID(c.Scope), Dim: key.Dim}
		if !seen[once] {
			seen[once] = true
			dims[c.Scope] = append(dims[c.Scope], key.Dim)
		}
	}
	return dims
}

// fold merges all buckets of a block into one bucket of a coarser block.
func fold(from, into *pack.Block, bucket int) {
	into.Samples[bucket] = 0
	for _, n := range from.Samples {
		into.Samples[bucket] += n
	}
	for _, aggs := range into.Lines {
		aggs[bucket] = rollup.Agg{}
	}
	for l, aggs := range from.Lines {
		var sum rollup.Agg
		for _, a := range aggs {
			sum.Merge(a)
		}
		if sum.Count > 0 {
			into.Line(l)[bucket] = sum
		}
	}
}
