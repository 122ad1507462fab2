package work

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Metrics of a daemon. Jobs are not labels: how each does is in the store, for pages, alerts and the server's own metrics.
type Metrics struct {
	Jobs prometheus.Gauge // that the daemon has

	free, size, behind                prometheus.Gauge
	entries, applied, resyncs, warned prometheus.Counter
	steps                             *prometheus.HistogramVec
	problems                          *prometheus.CounterVec
	snapshots                         *prometheus.CounterVec
	snapshotSeconds                   prometheus.Histogram
	snapshotBytes, addedBytes, freed  prometheus.Counter
	verified                          *prometheus.CounterVec
	heads                             prometheus.Gauge
}

// NewMetrics registers them; reg may be nil.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	const ns, sub = "heartwood", "backupd"
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, []string{label})
	}
	m := &Metrics{
		Jobs:    gauge("jobs", "Backups that this daemon has."),
		heads:   gauge("heads_running", "Heads that run now."),
		free:    gauge("head_disk_free_bytes", "Free bytes on the disk of the heads."),
		size:    gauge("head_disk_size_bytes", "Size of the disk of the heads."),
		behind:  gauge("behind_seconds", "How far the head that was worked on last is behind the stored oplog."),
		entries: counter("oplog_entries_total", "Oplog entries applied to heads."),
		applied: counter("oplog_bytes_total", "Bytes of oplog entries applied to heads."),
		resyncs: counter("resyncs_total", "New full reads that the daemon asked for."),
		warned:  counter("missing_documents_total", "Documents that full reads lacked and that were asked for."),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "step_seconds", Help: "How long the steps of jobs take.", Buckets: []float64{0.1, 1, 10, 60, 600, 3600, 10800},
		}, []string{"step"}),
		problems:        counters("problems_total", "Steps that failed, by the code of the problem.", "code"),
		snapshots:       counters("snapshots_total", "Snapshots taken, by outcome.", "outcome"),
		snapshotSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "snapshot_seconds", Help: "How long snapshots take.", Buckets: []float64{1, 10, 60, 600, 1800, 3600, 10800, 36000}}),
		snapshotBytes:   counter("snapshot_bytes_total", "Bytes of files in snapshots."),
		addedBytes:      counter("snapshot_added_bytes_total", "Bytes that snapshots added to the block store."),
		freed:           counter("groomed_bytes_total", "Bytes of blocks that were freed."),
		verified:        counters("snapshot_checks_total", "Snapshots that were read again, by outcome.", "outcome"),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.Jobs, m.heads, m.free, m.size, m.behind, m.entries, m.applied, m.resyncs, m.warned, m.steps, m.problems, m.snapshots,
		m.snapshotSeconds, m.snapshotBytes, m.addedBytes, m.freed, m.verified,
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// Space tells how full the disk of the heads is.
func (m *Metrics) Space(d backup.Daemon) {
	m.free.Set(float64(d.Free))
	m.size.Set(float64(d.Size))
}

func (m *Metrics) step(kind job.Kind, took time.Duration) {
	if kind != job.Wait {
		m.steps.WithLabelValues(string(kind)).Observe(took.Seconds())
	}
}
