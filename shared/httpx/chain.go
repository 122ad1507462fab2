// Package httpx is the HTTP plumbing every function shares: the chain around a handler (request id, client address,
// recovery, access log, metrics, security headers), JSON in and out, body limits, the error-to-status table and gzip. It
// knows nothing of what the handlers do.
package httpx

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/obs"
)

// ChainOptions say what Chain puts around a handler. The zero value is usable.
type ChainOptions struct {
	Log       *slog.Logger          // nil: no log
	Reg       prometheus.Registerer // nil: no metrics
	Component string                // "app", "ingestion": a label of the metrics
	// ClientIPHeader names the header a proxy puts the client's address into (mms.remoteIp.header, usually
	// X-Forwarded-For). Empty: the peer's address counts and no header is believed.
	ClientIPHeader string
	// TrustedProxies are believed when they send ClientIPHeader, which turns on X-Forwarded-Host, -Proto, -Server and
	// X-Proxied-Https too. Nobody else is, however the header is called.
	TrustedProxies []netip.Prefix
	// PublicURL is where everybody reaches the site (mms.centralUrl). Its scheme counts, whatever a proxy says. Empty: what the
	// proxy says, or how the request came.
	PublicURL string
	Security  *SecurityHeaders // nil: none
	// LogPath is what the log shows of a request's path, where paths carry secrets. nil: the path.
	LogPath func(path string) string
	Now     func() time.Time // nil: time.Now
}

// SecurityHeaders are what browsers are told about pages.
type SecurityHeaders struct {
	CSP        string // Content-Security-Policy; empty: DefaultCSP
	HSTSMaxAge int    // seconds of Strict-Transport-Security, sent over https only; 0: not sent
}

// DefaultCSP lets a page use its own files and nothing else, run no inline script, and be framed by nobody.
const DefaultCSP = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// HeaderRequestID carries the request's id, in both directions.
const HeaderRequestID = "X-Request-Id"

// info is what Chain finds out about a request, in one context value.
type info struct {
	id    string
	ip    netip.Addr
	proto string
}

type infoKey struct{}

func infoOf(ctx context.Context) *info {
	if i, ok := ctx.Value(infoKey{}).(*info); ok {
		return i
	}
	return &info{}
}

// ClientIP is the caller's address as far as it can be believed; invalid outside of Chain.
func ClientIP(ctx context.Context) netip.Addr { return infoOf(ctx).ip }

// RequestID is the request's id, "" outside of Chain.
func RequestID(ctx context.Context) string { return infoOf(ctx).id }

// Proto is "https" when the site's public URL says so or the request came over TLS, to us or to a trusted proxy, else "http".
func Proto(r *http.Request) string {
	if p := infoOf(r.Context()).proto; p != "" {
		return p
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// Chain wraps h. It belongs around the outermost mux of a function.
func Chain(h http.Handler, o ChainOptions) http.Handler {
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LogPath == nil {
		o.LogPath = func(path string) string { return path }
	}
	return &chain{next: h, o: o, public: publicScheme(o.PublicURL), m: newMetrics(o.Reg, o.Component)}
}

type chain struct {
	next   http.Handler
	o      ChainOptions
	public string // the scheme of PublicURL, "" when that is not set
	m      *metrics
}

func (c *chain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := c.o.Now()
	in := &info{}
	var trusted bool
	in.ip, trusted = c.clientIP(r)
	in.proto = c.proto(r, trusted)
	in.id = requestID(r, trusted)
	r = r.WithContext(context.WithValue(r.Context(), infoKey{}, in))
	if host := forwardedHost(r.Header); trusted && host != "" {
		r.Host = host // of this copy: links are made of it where there is no public URL
	}
	sw := &statusWriter{ResponseWriter: w}
	sw.Header().Set(HeaderRequestID, in.id)
	if s := c.o.Security; s != nil {
		s.set(sw.Header(), in.proto)
	}
	c.m.inFlight.Inc()
	defer func() {
		c.m.inFlight.Dec()
		failure := recover()
		aborted := false
		if failure != nil {
			if err, ok := failure.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				aborted = true
			} else {
				c.o.Log.ErrorContext(r.Context(), "a handler panicked", obs.KeyRequest, in.id, obs.KeyMethod, r.Method, obs.KeyPath, c.o.LogPath(r.URL.Path),
					obs.KeyErr, failure, obs.KeyReason, string(debug.Stack()))
				if sw.status == 0 {
					http.Error(sw, "Something went wrong on our side; request "+in.id+" is in the log.", http.StatusInternalServerError)
				} else {
					aborted = true // half an answer is out: cut the connection so that nobody takes it for a whole one
				}
			}
		}
		took := c.o.Now().Sub(start)
		c.m.observe(r, sw.code(), took)
		c.log(r, in, sw, took)
		if aborted {
			panic(http.ErrAbortHandler)
		}
	}()
	c.next.ServeHTTP(sw, r)
}

// log writes the access line: failures where everybody sees them, the rest for whoever asks.
func (c *chain) log(r *http.Request, in *info, sw *statusWriter, took time.Duration) {
	level := slog.LevelDebug
	switch code := sw.code(); {
	case code >= 500 && code != http.StatusServiceUnavailable:
		level = slog.LevelError
	case code >= 500:
		level = slog.LevelWarn
	case code >= 400:
		level = slog.LevelInfo
	}
	if !c.o.Log.Enabled(r.Context(), level) {
		return
	}
	c.o.Log.LogAttrs(r.Context(), level, "request",
		slog.String(obs.KeyMethod, r.Method), slog.String(obs.KeyPath, c.o.LogPath(r.URL.Path)), slog.Int(obs.KeyStatus, sw.code()),
		slog.Int64(obs.KeyBytes, sw.bytes), slog.Duration(obs.KeyTook, took), slog.String(obs.KeyAddr, in.ip.String()),
		slog.String(obs.KeyRequest, in.id))
}

func (s *SecurityHeaders) set(h http.Header, proto string) {
	csp := s.CSP
	if csp == "" {
		csp = DefaultCSP
	}
	h.Set("Content-Security-Policy", csp)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if s.HSTSMaxAge > 0 && proto == "https" {
		h.Set("Strict-Transport-Security", "max-age="+strconv.Itoa(s.HSTSMaxAge))
	}
}

// requestID keeps the id a trusted proxy gave, so that its log and ours can be matched.
func requestID(r *http.Request, trusted bool) string {
	if id := r.Header.Get(HeaderRequestID); trusted && id != "" && len(id) <= 64 && !strings.ContainsFunc(id, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.'
	}) {
		return id
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// clientIP walks the hops from the nearest to the farthest and takes the first that is not a trusted proxy: what is left of
// it in the header was written by strangers.
func (c *chain) clientIP(r *http.Request) (ip netip.Addr, trusted bool) {
	peer := parseHop(r.RemoteAddr)
	if c.o.ClientIPHeader == "" || !c.trusts(peer) {
		return peer, false
	}
	ip = peer
	hops := strings.Split(strings.Join(r.Header.Values(c.o.ClientIPHeader), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := parseHop(hops[i])
		if !hop.IsValid() {
			break
		}
		ip = hop
		if !c.trusts(hop) {
			break
		}
	}
	return ip, true
}

func (c *chain) trusts(ip netip.Addr) bool {
	for _, p := range c.o.TrustedProxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func parseHop(s string) netip.Addr {
	s = strings.Trim(strings.TrimSpace(s), `"`)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return a.Unmap().WithZone("")
	}
	return netip.Addr{}
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader remembers the first final status.
func (w *statusWriter) WriteHeader(code int) {
	if w.status == 0 && code >= 200 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write counts.
func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Flush passes on what server-sent events need.
func (w *statusWriter) Flush() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
