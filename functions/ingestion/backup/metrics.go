package backup

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/httpx"
)

type metrics struct {
	slices   *prometheus.CounterVec
	docBytes *prometheus.CounterVec
	objBytes prometheus.Counter
	seconds  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return httpx.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return httpx.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	return &metrics{
		slices:   vec("heartwood_ingestion_slices_total", "Slices of backups received, by kind (seed, oplog) and what became of them: stored, repeated, or the code they were refused with.", "kind", "result"),
		docBytes: vec("heartwood_ingestion_slice_bytes_total", "Bytes of documents in slices that were kept, uncompressed, by kind.", "kind"),
		objBytes: counter("heartwood_ingestion_slice_object_bytes_total", "Bytes of slices as they were stored."),
		seconds: httpx.Register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "heartwood_ingestion_slice_store_seconds", Help: "Time to store the object of a slice.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30},
		})),
	}
}

func (m *metrics) stored(bytes int, took time.Duration) {
	m.objBytes.Add(float64(bytes))
	m.seconds.Observe(took.Seconds())
}
