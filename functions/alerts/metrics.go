package alerts

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

type metrics struct {
	seconds    prometheus.Histogram
	passes     *prometheus.CounterVec
	deliveries *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, from watched, now func() time.Time) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "heartwood_alerts_evaluation_seconds", Help: "Time that an evaluation of all alerts took.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60},
		}),
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heartwood_alerts_evaluations_total", Help: "Evaluations of all alerts, by result: ok, or failed for some group.",
		}, []string{"result"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heartwood_alerts_deliveries_total", Help: "Notifications after an attempt to deliver them, by channel and outcome: delivered, retry, failed.",
		}, []string{"channel", "outcome"}),
	}
	m.seconds, m.passes, m.deliveries = httpx.Register(reg, m.seconds), httpx.Register(reg, m.passes), httpx.Register(reg, m.deliveries)
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("heartwood_alerts_"+name, help, nil, nil)
	}
	httpx.Register(reg, &watchMetrics{
		from: from, now: now,
		last:    gauge("last_evaluation_timestamp_seconds", "The time that the newest evaluation judged."),
		late:    gauge("evaluation_late_seconds", "How far the evaluation is behind its schedule of one a minute."),
		skipped: gauge("evaluations_skipped_total", "Evaluations that did not take place at their time."),
		open:    gauge("open", "Alerts that were open after the newest evaluation."),
		hosts:   gauge("hosts", "Hosts that the newest evaluation looked at."),
		configs: gauge("configurations", "Configurations that the newest evaluation judged."),
		waiting: gauge("deliveries_waiting", "Notifications that wait to be delivered; counted up to 10,000."),
		failing: gauge("deliveries_failing", "Those of them that failed at least once."),
		oldest:  gauge("deliveries_oldest_seconds", "Age of the oldest of them."),
	})
	return m
}

func (m *metrics) evaluated(took time.Duration, err error) {
	m.seconds.Observe(took.Seconds())
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.passes.WithLabelValues(result).Inc()
}

func (m *metrics) delivered(channel, outcome string) {
	m.deliveries.WithLabelValues(channel, outcome).Inc()
}

type watched interface {
	Watch(ctx context.Context) (model.AlertWatch, error)
	DeliveryStats(ctx context.Context, now time.Time) (alerting.DeliveryStats, error)
}

// watchMetrics reads what the evaluation says of itself when it is scraped: whichever process evaluates, every process shows it.
type watchMetrics struct {
	from                                                                watched
	now                                                                 func() time.Time
	last, late, skipped, open, hosts, configs, waiting, failing, oldest *prometheus.Desc
}

// Describe is for prometheus.
func (w *watchMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{w.last, w.late, w.skipped, w.open, w.hosts, w.configs, w.waiting, w.failing, w.oldest} {
		ch <- d
	}
}

// Collect is for prometheus. While the database is away there is nothing to show.
func (w *watchMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	now := w.now()
	if watch, err := w.from.Watch(ctx); err == nil && !watch.LastPass.IsZero() {
		gauge(w.last, float64(watch.LastPass.UnixMilli())/1000)
		gauge(w.late, max(0, now.Sub(watch.LastPass)-time.Minute).Seconds())
		ch <- prometheus.MustNewConstMetric(w.skipped, prometheus.CounterValue, float64(watch.Skipped))
		gauge(w.open, float64(watch.Open))
		gauge(w.hosts, float64(watch.Hosts))
		gauge(w.configs, float64(watch.Configs))
	}
	if stats, err := w.from.DeliveryStats(ctx, now); err == nil {
		gauge(w.waiting, float64(stats.Pending))
		gauge(w.failing, float64(stats.Failing))
		oldest := 0.0
		if !stats.OldestPending.IsZero() {
			oldest = max(0, now.Sub(stats.OldestPending).Seconds())
		}
		gauge(w.oldest, oldest)
	}
}
