package wasmhost

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/httpx"
)

type metrics struct {
	requests, startTime      prometheus.Observer
	started, retired, failed prometheus.Counter
	sent                     prometheus.Counter
	memory                   prometheus.Gauge
	calls                    *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, guest string) *metrics {
	label := []string{"guest"}
	seconds := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return httpx.Register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, append(label, labels...)))
	}
	count := func(name, help string) prometheus.Counter {
		return httpx.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, label)).WithLabelValues(guest)
	}
	calls := seconds("heartwood_guest_call_seconds", "Time a host call of a guest takes.", "capability")
	curried, _ := calls.CurryWith(prometheus.Labels{"guest": guest}) // the label exists
	return &metrics{
		requests:  seconds("heartwood_guest_request_seconds", "Time from a request's arrival at a guest to its answer.").WithLabelValues(guest),
		startTime: seconds("heartwood_guest_start_seconds", "Time to start an instance of a guest.").WithLabelValues(guest),
		started:   count("heartwood_guest_instances_started_total", "Instances of a guest that were started."),
		retired:   count("heartwood_guest_instances_retired_total", "Instances that ended because they had grown."),
		failed:    count("heartwood_guest_requests_failed_total", "Requests that an instance did not answer: it looped, trapped or broke the protocol."),
		sent:      count("heartwood_guest_sent_bytes_total", "Bytes of objects that were sent as a guest said."),
		memory: httpx.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "heartwood_guest_memory_bytes", Help: "Memory of the instance of a guest that answered last.",
		}, label)).WithLabelValues(guest),
		calls: curried.(*prometheus.HistogramVec),
	}
}
