package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify/guard"
)

const (
	callTimeout   = 15 * time.Second
	maxAnswer     = 64 << 10
	maxHeaders    = 64 << 10
	maxRedirects  = 3
	maxRetryAfter = 6 * time.Hour
)

// ClientOptions say how a Client reaches out. The zero value is the strict one: private networks are refused too.
type ClientOptions struct {
	Allow        []netip.Prefix // heartwood.alerts.webhook.allow
	AllowPrivate bool
	Unguarded    bool           // for fixed addresses of services, which nobody but the operator sets
	Timeout      time.Duration  // of a whole call; 0: 15 s
	Proxy        *url.URL       // of the site; nil: none
	Roots        *x509.CertPool // nil: the system's
}

// Guard makes a net.Dialer.Control that refuses addresses nobody may make this machine call (package guard).
func Guard(allow []netip.Prefix, allowPrivate bool) func(network, address string, c syscall.RawConn) error {
	return guard.Control(allow, allowPrivate)
}

// Client makes an HTTP client for calls to addresses that people have entered: guarded, bounded in time and size, without
// cookies, and following redirects only on the same host.
func Client(o ClientOptions) *http.Client {
	if o.Timeout <= 0 {
		o.Timeout = callTimeout
	}
	plain := &net.Dialer{Timeout: o.Timeout, KeepAlive: 30 * time.Second}
	dial := *plain
	if !o.Unguarded {
		dial.Control = Guard(o.Allow, o.AllowPrivate)
	}
	t := &http.Transport{
		DialContext:            dial.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
		TLSHandshakeTimeout:    o.Timeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           32,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: maxHeaders,
	}
	var rt http.RoundTripper = t
	if o.Proxy != nil {
		// The proxy is the operator's and may be anywhere, and it is the proxy that dials: what may be dialled is judged here.
		t.Proxy, t.DialContext = http.ProxyURL(o.Proxy), plain.DialContext
		if !o.Unguarded {
			rt = &proxied{next: t, check: func(ip netip.Addr) error { return guard.Check(ip, o.Allow, o.AllowPrivate) }}
		}
	}
	return &http.Client{Transport: rt, Timeout: o.Timeout, CheckRedirect: sameHost}
}

// proxied judges a request's host before a proxy resolves it.
type proxied struct {
	next  http.RoundTripper
	check func(netip.Addr) error
}

// RoundTrip refuses hosts at addresses that the guard would refuse.
func (p *proxied) RoundTrip(r *http.Request) (*http.Response, error) {
	host := strings.TrimSuffix(strings.ToLower(r.URL.Hostname()), ".")
	ips := []netip.Addr{}
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		ips = append(ips, netip.IPv6Loopback())
	} else if found, err := net.DefaultResolver.LookupNetIP(r.Context(), "ip", host); err == nil {
		ips = found // where only the proxy can resolve, it decides
	}
	for _, ip := range ips {
		if err := p.check(ip); err != nil {
			if r.Body != nil {
				_ = r.Body.Close()
			}
			return nil, err
		}
	}
	return p.next.RoundTrip(r)
}

// sameHost follows a redirect that repeats the call on the same host. Any other ends the call with the redirect as its answer:
// whoever may answer for one address has no say in which others this machine calls.
func sameHost(next *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || next.Method != first.Method || next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// Request is one call to a service.
type Request struct {
	Service string // as messages name it: "Slack"
	Method  string // "" is POST
	URL     string
	Header  http.Header // Content-Type is JSON where it is not set
	Body    []byte
	Secrets []model.Secret
}

// Answer is what came back: at most 64 KiB of it.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do makes a call. An answer other than 2xx is an error by Judge, and so is a call that did not get through. Errors are free
// of the request's secrets.
func Do(ctx context.Context, c *http.Client, r Request) (Answer, error) {
	a, err := do(ctx, c, r)
	if err == nil {
		err = Judge(r.Service, a.Status, a.Header, string(a.Body), time.Now())
	}
	if err != nil {
		return a, clean(ctx, err, r.Secrets)
	}
	return a, nil
}

func do(ctx context.Context, c *http.Client, r Request) (Answer, error) {
	if r.Method == "" {
		r.Method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return Answer{}, Refused("the address of %s is not a URL", r.Service) // the error would repeat it
	}
	for k, v := range r.Header {
		req.Header[k] = v
	}
	if req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "heartwood-alerts")
	resp, err := c.Do(req)
	if err != nil {
		return Answer{}, unreachable(r.Service, req.URL.Hostname(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil && resp.StatusCode/100 == 2 {
		// The status says that the message was taken; the rest would only have told more.
		body = nil
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// unreachable says why a call did not get through. url.Error repeats the whole URL: only its cause is told.
func unreachable(service, host string, err error) error {
	if refused, ok := errors.AsType[*guard.Error](err); ok {
		return Refused("%s is not called: %s is at %v", service, host, refused)
	}
	cause := err
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		cause = wrapped.Err
	}
	f := &Failure{}
	switch {
	case errors.Is(err, context.Canceled):
		f.cause, f.Text = context.Canceled, service+" was not waited for: sending was stopped"
	case isTimeout(err):
		f.cause, f.Text = context.DeadlineExceeded, fmt.Sprintf("%s at %s did not answer in time", service, host)
	default:
		f.Text = fmt.Sprintf("%s at %s cannot be reached: %v", service, host, cause)
	}
	return f
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && t.Timeout()
}

// Judge says what an answer of a service means: nil for 2xx; to be tried again for 408, 425, 429 (not before what Retry-After
// says) and 5xx; permanent for everything else. says is what the service wrote.
func Judge(service string, status int, header http.Header, says string, now time.Time) error {
	if status/100 == 2 {
		return nil
	}
	text := strings.TrimSpace(fmt.Sprintf("%s answered %d %s", service, status, http.StatusText(status)))
	switch {
	case status/100 == 3:
		return Refused("%s: it sends callers to another address, which are not followed: enter that address", text)
	case line(says, 0) != "":
		text += ": " + line(says, 0)
	}
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return Later(retryAfter(header, now), "%s", text)
	}
	return Refused("%s", text)
}

// retryAfter reads seconds or a date, up to a few hours: longer ones would outlast the alert.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseFloat(v, 64); err == nil {
		if !(n > 0) {
			return 0
		}
		return time.Duration(min(n, maxRetryAfter.Seconds()) * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, min(at.Sub(now), maxRetryAfter))
	}
	return 0
}
