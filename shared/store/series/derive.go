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
	dims := joined.Dimensions()
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
