// Package health says how the server is: whether the process lives, whether it can serve, how each dependency is, and its
// metrics. Every function mounts it on its own port as /monitor/health. It keeps the last answers for a few seconds, so that
// no probe, however eager, is a load, and no slow dependency blocks a probe.
package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
)

// Bounds of a check.
const (
	checkLimit = 2 * time.Second
	cacheFor   = 5 * time.Second
)

// Options are what New needs.
type Options struct {
	// Checks are the dependencies by the name they have in /health: mms_db, backup_db. Each returns nil when well.
	Checks map[string]func(context.Context) error
	// Ready names the checks without which this process cannot serve: mms_db when nil.
	Ready    []string
	Role     string // "server", "daemon"
	Version  string
	Started  time.Time
	Upgrade  func() bool         // whether servers of several versions run; nil: no
	Draining func() bool         // whether the server is about to stop, so that nothing more should be sent to it; nil: no
	Gatherer prometheus.Gatherer // what /metrics shows; nil: not offered
	Now      func() time.Time    // nil: time.Now
}

// New returns the function: GET /live, /health, /monitor/health and /metrics.
func New(o Options) (http.Handler, error) {
	if len(o.Checks) == 0 {
		return nil, errors.New("health options: it needs Checks")
	}
	if o.Ready == nil {
		o.Ready = []string{"mms_db"}
	}
	for _, name := range o.Ready {
		if o.Checks[name] == nil {
			return nil, fmt.Errorf("health options: there is no check %q", name)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Upgrade == nil {
		o.Upgrade = func() bool { return false }
	}
	if o.Draining == nil {
		o.Draining = func() bool { return false }
	}
	h := &health{o: o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", h.live)
	mux.HandleFunc("GET /health", h.health)
	mux.HandleFunc("GET /monitor/health", h.ready)
	if o.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	}
	return mux, nil
}

type health struct {
	o Options

	mu      sync.Mutex
	results map[string]result
	at      time.Time
	running chan struct{} // closed when the round under way ends; nil when none is
}

type result struct {
	err  error
	took time.Duration
}

// live: the process answers. It looks at nothing else, because a restart mends no database.
func (h *health) live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "OK"})
}

// ready: the process can serve. Load balancers and scripts read the status only. While draining it is 404, not a failure: HAProxy
// then sends nothing more and lets the server finish what it has (http-check disable-on-404); others take it for a failure.
func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if h.o.Draining() {
		httpx.WriteJSON(w, http.StatusNotFound, map[string]string{"status": "STOPPING"})
		return
	}
	results := h.check(r.Context())
	for _, name := range h.o.Ready {
		if err := results[name].err; err != nil {
			httpx.WriteJSON(w, http.StatusInternalServerError, map[string]string{"status": "DOWN", name: reason(err)})
			return
		}
	}
	httpx.WriteJSON(w, http.StatusOK, map[string]string{"status": "OK"})
}

func (h *health) health(w http.ResponseWriter, r *http.Request) {
	results := h.check(r.Context())
	status := http.StatusOK
	body := map[string]any{
		"version": h.o.Version, "uptimeSec": int64(h.o.Now().Sub(h.o.Started).Seconds()), "role": h.o.Role, "upgradeMode": h.o.Upgrade(),
	}
	detail := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		res := results[name]
		body[name] = "OK"
		d := map[string]any{"millis": res.took.Milliseconds()}
		if res.err != nil {
			status = http.StatusServiceUnavailable
			body[name], d["error"] = reason(res.err), res.err.Error()
		}
		detail[name] = d
	}
	if r.URL.Query().Get("verbose") == "1" && local(r) {
		body["detail"] = detail // may name hosts and addresses: for the machine's own operators
	}
	w.Header().Set("Cache-Control", "no-store")
	httpx.WriteJSON(w, status, body)
}

func local(r *http.Request) bool {
	ip := httpx.ClientIP(r.Context())
	if !ip.IsValid() {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			return false
		}
		if ip, err = netip.ParseAddr(host); err != nil {
			return false
		}
	}
	return ip.Unmap().IsLoopback()
}

// check returns results no older than cacheFor, or as old as there are while a round takes longer than checkLimit.
func (h *health) check(ctx context.Context) map[string]result {
	h.mu.Lock()
	if h.results != nil && h.o.Now().Sub(h.at) < cacheFor {
		defer h.mu.Unlock()
		return h.results
	}
	if h.running == nil {
		h.running = make(chan struct{})
		// A round outlives the request that asked for it: others wait for it, too.
		go h.round(context.WithoutCancel(ctx), h.running)
	}
	running := h.running
	h.mu.Unlock()
	select {
	case <-running:
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.results
}

// round asks all dependencies at once. A check that does not heed its time limit is left behind.
func (h *health) round(ctx context.Context, done chan struct{}) {
	ctx, stop := context.WithTimeoutCause(ctx, checkLimit, errSlow)
	defer stop()
	type named struct {
		name string
		result
	}
	answers := make(chan named, len(h.o.Checks))
	began := h.o.Now()
	for name, check := range h.o.Checks {
		go func() {
			err := check(ctx)
			answers <- named{name, result{err, h.o.Now().Sub(began)}}
		}()
	}
	results := make(map[string]result, len(h.o.Checks))
	for len(results) < len(h.o.Checks) {
		select {
		case a := <-answers:
			results[a.name] = a.result
			continue
		case <-ctx.Done():
		}
		for name := range h.o.Checks {
			if _, answered := results[name]; !answered {
				results[name] = result{errSlow, checkLimit}
			}
		}
	}
	h.mu.Lock()
	h.results, h.at, h.running = results, h.o.Now(), nil
	h.mu.Unlock()
	close(done)
}

var errSlow = fmt.Errorf("no answer within %s", checkLimit)

// reason is an error in a few words that give away no address.
func reason(err error) string {
	switch {
	case errors.Is(err, errSlow), errors.Is(err, context.DeadlineExceeded):
		return errSlow.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, docstore.ErrFull):
		return "disk full"
	case errors.Is(err, docstore.ErrUnavailable):
		return "cannot be reached"
	}
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	if len(text) > 80 {
		text = strings.ToValidUTF8(text[:80], "")
	}
	return text
}
