package httpx

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// TestForwarded holds who may say how a request came: only trusted proxies, only where mms.remoteIp.header is set, and never more
// than the public URL.
func TestForwarded(t *testing.T) {
	const proxy, stranger, xff = "10.0.0.1:999", "192.0.2.1:999", "X-Forwarded-For"
	type sent map[string][]string
	host, proto, server, https := "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Proxied-Https"
	for _, c := range []struct {
		name, peer, header, public string
		sent                       sent
		tls                        bool
		want                       string
	}{
		{"nothing sent", proxy, xff, "", nil, false, "http://asked:80"},
		{"our own TLS", stranger, "", "", nil, true, "https://asked:80"},
		{"our own TLS counts, whatever a proxy says", proxy, xff, "", sent{proto: {"http"}}, true, "https://asked:80"},
		{"host and scheme of a trusted proxy", proxy, xff, "", sent{host: {"hw.example.com"}, proto: {"https"}}, false, "https://hw.example.com"},
		{"with a port", proxy, xff, "", sent{host: {"hw.example.com:8443"}, proto: {"HTTPS"}}, false, "https://hw.example.com:8443"},
		{"an IPv6 host", proxy, xff, "", sent{host: {"[2001:db8::1]:8443"}}, false, "http://[2001:db8::1]:8443"},
		{"a stranger's headers", stranger, xff, "", sent{host: {"evil.example"}, proto: {"https"}, server: {"evil.example"}, https: {"on"}}, false, "http://asked:80"},
		{"a stranger who names a trusted proxy", stranger, xff, "", sent{xff: {"10.0.0.1"}, host: {"evil.example"}, proto: {"https"}}, false, "http://asked:80"},
		{"the header is not configured", proxy, "", "", sent{host: {"hw.example.com"}, proto: {"https"}, https: {"on"}}, false, "http://asked:80"},
		{"what a stranger sent stands left of what the proxy added", proxy, xff, "", sent{host: {"evil.example, hw.example.com"}, proto: {"https, http"}}, false, "http://hw.example.com"},
		{"the same in lines of their own", proxy, xff, "", sent{host: {"evil.example", "hw.example.com"}, proto: {"https", "http"}}, false, "http://hw.example.com"},
		{"the proxy's name stands in for the host", proxy, xff, "", sent{server: {"front.example.com"}}, false, "http://front.example.com"},
		{"the host counts more than the proxy's name", proxy, xff, "", sent{server: {"front.example.com"}, host: {"hw.example.com"}}, false, "http://hw.example.com"},
		{"proxied HTTPS", proxy, xff, "", sent{https: {"on"}}, false, "https://asked:80"},
		{"proxied HTTPS, spelt as true", proxy, xff, "", sent{https: {"True"}}, false, "https://asked:80"},
		{"proxied HTTPS off", proxy, xff, "", sent{https: {"off"}}, false, "http://asked:80"},
		{"the scheme counts more than proxied HTTPS, which a stranger may have sent", proxy, xff, "", sent{proto: {"http"}, https: {"on"}}, false, "http://asked:80"},
		{"a host that is none: a path", proxy, xff, "", sent{host: {"hw.example.com/evil"}}, false, "http://asked:80"},
		{"a host that is none: a name and password", proxy, xff, "", sent{host: {"a@evil.example"}}, false, "http://asked:80"},
		{"a host that is none: markup", proxy, xff, "", sent{host: {`"><script>`}}, false, "http://asked:80"},
		{"an empty host", proxy, xff, "", sent{host: {""}}, false, "http://asked:80"},
		{"a scheme that is none", proxy, xff, "", sent{proto: {"javascript"}}, false, "http://asked:80"},
		{"the public URL's scheme: people come over TLS, whatever was sent", proxy, xff, "https://hw.example.com/x", sent{proto: {"http"}}, false, "https://asked:80"},
		{"the public URL's scheme for a stranger, too", stranger, xff, "HTTPS://hw.example.com", nil, false, "https://asked:80"},
		{"the public URL is no TLS", proxy, xff, "http://hw.example.com", sent{proto: {"https"}, https: {"on"}}, false, "http://asked:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Chain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, Proto(r)+"://"+r.Host) }), ChainOptions{
				ClientIPHeader: c.header, PublicURL: c.public, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				Security: &SecurityHeaders{HSTSMaxAge: 300},
			})
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Host = c.peer, "asked:80"
			if c.tls {
				r.TLS = &tls.ConnectionState{}
			}
			for name, values := range c.sent {
				r.Header[http.CanonicalHeaderKey(name)] = values
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Body.String() != c.want {
				t.Errorf("got %s, want %s", w.Body, c.want)
			}
			if r.Host != "asked:80" {
				t.Errorf("the request of the caller was changed: %s", r.Host)
			}
			if got := w.Header().Get("Strict-Transport-Security") != ""; got != (c.want[:5] == "https") {
				t.Errorf("strict transport security sent: %v", got)
			}
			if w.Header().Get("Content-Security-Policy") != DefaultCSP || w.Header().Get(HeaderRequestID) == "" {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add("6.6.6.6, 10.1.1.1", "evil, hw.example.com:80", "https,http")
	f.Add(`[2001:db8::1]:80,"10.0.0.1"`, "[::1]:80", "")
	f.Fuzz(func(t *testing.T, xff, host, proto string) {
		h := Chain(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if !ClientIP(r.Context()).IsValid() {
				t.Error("no client address")
			}
			if p := Proto(r); p != "http" && p != "https" {
				t.Errorf("scheme %q", p)
			}
			for _, c := range r.Host {
				if c <= ' ' || c == '/' || c == '@' || c == '"' || c == '<' || c > '~' {
					t.Errorf("host %q", r.Host)
				}
			}
		}), ChainOptions{ClientIPHeader: "X-Forwarded-For", TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "10.0.0.1:999"
		r.Header.Set("X-Forwarded-For", xff)
		r.Header.Set("X-Forwarded-Host", host)
		r.Header.Set("X-Forwarded-Proto", proto)
		h.ServeHTTP(httptest.NewRecorder(), r)
	})
}
