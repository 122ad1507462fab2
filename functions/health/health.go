// Package health answers whether a server is up: /live (the process), /health (each dependency, for the localhost diagnostics
// port), /monitor/health (for load balancers, on every function's own port) and /metrics. It asks dependencies through functions
// it is given and keeps only a few seconds' answer of each, so that no caller can make it press a sick database.
package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/heartwood-db/heartwood/shared/httpx"
)

// Bounds of one dependency's check.
const (
	checkTimeout = 2 * time.Second
	checkCache   = 5 * time.Second
	maxReason    = 200 // bytes of a reason in an answer
)

// Names of the two dependencies that existing monitors look for in /health.
const (
	AppDatabase    = "mms_db"
	BackupDatabase = "backup_db"
)

var errSlow = errors.New("no answer within 2 s")

// Check asks one dependency; nil is healthy.
type Check func(ctx context.Context) error

// Options are what the answers are made of.
type Options struct {
	Checks      map[string]Check // by the key in /health
	Role        string           // "server"
	Version     string
	Started     time.Time
	UpgradeMode func(ctx context.Context) bool // may be nil
	Gatherer    prometheus.Gatherer            // of /metrics; nil leaves it out
	Now         func() time.Time               // nil means time.Now
}

// Server holds the handlers. Mount Diagnostics on the localhost port and Monitor on every other.
type Server struct {
	o     Options
	state map[string]*dependency
}

// New checks the options and returns the handlers.
func New(o Options) (*Server, error) {
	if len(o.Checks) == 0 || o.Role == "" || o.Started.IsZero() {
		return nil, errors.New("health options: Checks, Role and Started are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, state: map[string]*dependency{}}
	for name, check := range o.Checks {
		s.state[name] = &dependency{check: check}
	}
	return s, nil
}

// Diagnostics serves /live, /health, /monitor/health and /metrics.
func (s *Server) Diagnostics() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", s.live)
	mux.HandleFunc("GET /health", s.health)
	mux.Handle("GET /monitor/health", s.Monitor())
	if s.o.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	}
	return mux
}

// Live answers 200 for as long as the process can answer at all: a database that is away must not have it restarted.
func (s *Server) Live() http.Handler { return http.HandlerFunc(s.live) }

// Monitor answers a load balancer: 200 when this server can do its work, 500 when a dependency is away.
func (s *Server) Monitor() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		for _, a := range s.ask(r.Context()) {
			if a.err != nil {
				status = http.StatusInternalServerError
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		httpx.WriteJSON(w, status, map[string]any{"ok": status == http.StatusOK})
	})
}

func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	httpx.WriteJSON(w, http.StatusOK, map[string]any{"ok": true, "uptimeSec": int64(s.o.Now().Sub(s.o.Started).Seconds())})
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	verbose := r.URL.Query().Get("verbose") == "1" && fromLoopback(r)
	body := map[string]any{
		"version": s.o.Version, "role": s.o.Role, "uptimeSec": int64(s.o.Now().Sub(s.o.Started).Seconds()),
		"upgradeMode": s.o.UpgradeMode != nil && s.o.UpgradeMode(r.Context()),
	}
	details := map[string]any{}
	for name, a := range s.ask(r.Context()) {
		body[name] = "OK"
		if a.err != nil {
			status = http.StatusServiceUnavailable
			body[name] = reason(a.err)
		}
		details[name] = map[string]any{"checked": a.at.UTC().Format(time.RFC3339), "tookMs": a.took.Milliseconds(), "error": fmt.Sprint(a.err)}
	}
	if verbose {
		body["checks"] = details
	}
	w.Header().Set("Cache-Control", "no-store")
	httpx.WriteJSON(w, status, body)
}

func reason(err error) string {
	s := err.Error()
	if len(s) > maxReason {
		s = s[:maxReason] + "…"
	}
	return s
}

func fromLoopback(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// ask asks all dependencies at once.
func (s *Server) ask(ctx context.Context) map[string]answer {
	answers := make(map[string]answer, len(s.state))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, d := range s.state {
		wg.Go(func() {
			a := d.ask(ctx, s.o.Now)
			mu.Lock()
			defer mu.Unlock()
			answers[name] = a
		})
	}
	wg.Wait()
	return answers
}

// dependency is one check and its newest answer. At most one check runs at a time; who comes meanwhile gets its result.
type dependency struct {
	check   Check
	mu      sync.Mutex
	last    answer
	running chan struct{} // closed when the check in progress has answered; nil when none is
}

type answer struct {
	err  error
	at   time.Time
	took time.Duration
}

func (d *dependency) ask(ctx context.Context, now func() time.Time) answer {
	d.mu.Lock()
	if !d.last.at.IsZero() && now().Sub(d.last.at) < checkCache {
		defer d.mu.Unlock()
		return d.last
	}
	if d.running == nil {
		d.running = make(chan struct{})
		// The check outlives a caller that hangs up: the next one wants its answer.
		go d.run(context.WithoutCancel(ctx), now, d.running)
	}
	running := d.running
	d.mu.Unlock()

	limit, cancel := context.WithTimeoutCause(ctx, checkTimeout, errSlow)
	defer cancel()
	select {
	case <-running:
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.last
	case <-limit.Done():
		return answer{err: context.Cause(limit), at: now(), took: checkTimeout}
	}
}

func (d *dependency) run(ctx context.Context, now func() time.Time, done chan struct{}) {
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errSlow)
	defer cancel()
	began := now()
	err := d.check(ctx)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = answer{err: err, at: now(), took: now().Sub(began)}
	d.running = nil
	close(done)
}
