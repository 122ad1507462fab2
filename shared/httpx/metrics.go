package httpx

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one chain. No label carries a host name, a path or an id: routes are the patterns of the mux.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, component string) *metrics {
	label := prometheus.Labels{"component": component}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heartwood_http_requests_total", Help: "Requests answered, by route and status.", ConstLabels: label,
		}, []string{"method", "route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "heartwood_http_request_seconds", Help: "Time to answer a request, by route.", ConstLabels: label,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "heartwood_http_requests_in_flight", Help: "Requests being answered now.", ConstLabels: label,
		}),
	}
	m.requests = Register(reg, m.requests)
	m.seconds = Register(reg, m.seconds)
	m.inFlight = Register(reg, m.inFlight)
	return m
}

// Register registers a metric, or returns the one that is registered already under the same name and labels. A nil
// registry is fine: the metric then counts for nobody.
func Register[T prometheus.Collector](reg prometheus.Registerer, c T) T {
	if reg == nil {
		return c
	}
	if err := reg.Register(c); err != nil {
		var dup prometheus.AlreadyRegisteredError
		if errors.As(err, &dup) {
			if old, ok := dup.ExistingCollector.(T); ok {
				return old
			}
		}
		panic(err) // a metric declared twice in different ways: a programming error, found by the first test
	}
	return c
}

func (m *metrics) observe(r *http.Request, code int, took time.Duration) {
	route := r.Pattern // set by the mux behind us on this very request
	if route == "" {
		route = "other"
	}
	m.requests.WithLabelValues(methodLabel(r.Method), route, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// methodLabel keeps strangers from making up label values.
func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}
