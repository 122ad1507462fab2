package series

import (
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

var benchStart = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// BenchmarkChunkSize reports what an hour of a host costs at rest: bytes a sample over the whole catalogue, and over the
// columns that really move in the recordings.
func BenchmarkChunkSize(b *testing.B) {
	l := newLoad(b)
	codec, err := pack.NewCodec()
	if err != nil {
		b.Fatal(err)
	}
	var all, allBytes, busy, busyBytes, hours int
	for b.Loop() {
		all, allBytes, busy, busyBytes = 0, 0, 0, 0
		day := pack.NewBlock(24)
		h := l.host(1)
		for hour := range 24 {
			start := benchStart.Add(time.Duration(hour) * time.Hour)
			var rows, moving []catalog.Row
			for i := range 60 {
				row := h.next(start.Add(time.Duration(i)*time.Minute), time.Minute)
				rows = append(rows, row)
				m := row
				m.Cells = nil
				for _, c := range row.Cells {
					if l.busy[c.Column] {
						m.Cells = append(m.Cells, c)
					}
				}
				moving = append(moving, m)
				all += len(row.Cells)
				busy += len(m.Cells)
			}
			f := rollup.FrameOf(rows)
			allBytes += len(codec.EncodeChunk(start, f))
			busyBytes += len(codec.EncodeChunk(start, rollup.FrameOf(moving)))
			fold(rollHour(start, f, nil, derived()), day, hour)
		}
		hours = len(codec.EncodeBlock(day))
	}
	b.ReportMetric(float64(allBytes)/float64(all), "B/sample")
	b.ReportMetric(float64(busyBytes)/float64(busy), "B/busySample")
	b.ReportMetric(float64(all)/1440, "samples/row")
	b.ReportMetric(float64(busy)/1440, "busySamples/row")
	b.ReportMetric(float64(allBytes)/24, "B/chunk")
	b.ReportMetric(float64(hours), "B/h1day")
}
