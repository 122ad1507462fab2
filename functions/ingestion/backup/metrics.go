package backup

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/httpx"
)

type metrics struct {
	slices    *prometheus.CounterVec
	docBytes  *prometheus.CounterVec
	objBytes  prometheus.Counter
	seconds   prometheus.Histogram
	downloads *prometheus.CounterVec
	sentBytes prometheus.Counter
	expired   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return httpx.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return httpx.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	return &metrics{
		slices:    vec("heartwood_ingestion_slices_total", "Slices of backups received, by kind (seed, oplog) and what became of them: stored, repeated, or the code they were refused with.", "kind", "result"),
		docBytes:  vec("heartwood_ingestion_slice_bytes_total", "Bytes of documents in slices that were kept, uncompressed, by kind.", "kind"),
		objBytes:  counter("heartwood_ingestion_slice_object_bytes_total", "Bytes of slices as they were stored."),
		downloads: vec("heartwood_ingestion_downloads_total", "Downloads of restores, by what became of them: begun, resumed, ended, refused.", "result"),
		sentBytes: counter("heartwood_ingestion_download_bytes_total", "Bytes of restores that were sent."),
		expired:   vec("heartwood_ingestion_backup_expired_total", "Objects of backups that were deleted, by kind: oplog, seed, restore, swept, terminated.", "kind"),
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
