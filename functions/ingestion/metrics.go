package ingestion

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/store"
)

type metrics struct {
	pings   *prometheus.CounterVec
	refused *prometheus.CounterVec
	bytes   prometheus.Counter
	seconds prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, passes passLister, now func() time.Time) *metrics {
	m := &metrics{
		pings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heartwood_ingestion_pings_total", Help: "Pings received, by what became of them: accepted, or the reason they were rejected for.",
		}, []string{"result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heartwood_ingestion_refused_total", Help: "Calls of agents that were refused as a whole, by code.",
		}, []string{"code"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "heartwood_ingestion_post_bytes_total", Help: "Bytes of posts, as they were sent.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "heartwood_ingestion_post_seconds", Help: "Time from a post's first byte to its answer.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}),
	}
	m.pings, m.refused = httpx.Register(reg, m.pings), httpx.Register(reg, m.refused)
	m.bytes, m.seconds = httpx.Register(reg, m.bytes), httpx.Register(reg, m.seconds)
	httpx.Register(reg, &passMetrics{
		passes: passes, now: now,
		last:   prometheus.NewDesc("heartwood_pass_last_success_timestamp_seconds", "When a periodic duty last ended well.", []string{"pass"}, nil),
		late:   prometheus.NewDesc("heartwood_pass_late_seconds", "How far a periodic duty is behind its schedule.", []string{"pass"}, nil),
		took:   prometheus.NewDesc("heartwood_pass_last_duration_seconds", "How long its last run took.", []string{"pass"}, nil),
		failed: prometheus.NewDesc("heartwood_pass_failures", "Runs in a row that failed.", []string{"pass"}, nil),
	})
	return m
}

func (m *metrics) received(bytes, accepted int, reasons map[string]int, took time.Duration) {
	m.pings.WithLabelValues("accepted").Add(float64(accepted))
	for reason, n := range reasons {
		m.pings.WithLabelValues(reason).Add(float64(n))
	}
	m.bytes.Add(float64(bytes))
	m.seconds.Observe(took.Seconds())
}

type passLister interface {
	PassStates(ctx context.Context) ([]store.PassState, error)
}

// passMetrics reads the states of the duties when it is scraped: whichever process ran them, every process shows them.
type passMetrics struct {
	passes                   passLister
	now                      func() time.Time
	last, late, took, failed *prometheus.Desc
}

// Describe is for prometheus.
func (p *passMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- p.last
	ch <- p.late
	ch <- p.took
	ch <- p.failed
}

// Collect is for prometheus. While the database is away there is nothing to show.
func (p *passMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	states, err := p.passes.PassStates(ctx)
	if err != nil {
		return
	}
	now := p.now()
	for _, s := range states {
		if !s.LastOK.IsZero() {
			ch <- prometheus.MustNewConstMetric(p.last, prometheus.GaugeValue, float64(s.LastOK.UnixMilli())/1000, s.Name)
		}
		ch <- prometheus.MustNewConstMetric(p.late, prometheus.GaugeValue, s.Lateness(now).Seconds(), s.Name)
		ch <- prometheus.MustNewConstMetric(p.took, prometheus.GaugeValue, s.Took.Seconds(), s.Name)
		ch <- prometheus.MustNewConstMetric(p.failed, prometheus.GaugeValue, float64(s.Failures), s.Name)
	}
}
