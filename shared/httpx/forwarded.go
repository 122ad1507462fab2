package httpx

import (
	"net/http"
	"strings"
)

// The headers by which a proxy passes on how it was asked. Any client can send them: they count only from a trusted proxy.
const (
	headerForwardedHost   = "X-Forwarded-Host"
	headerForwardedServer = "X-Forwarded-Server"
	headerForwardedProto  = "X-Forwarded-Proto"
	headerProxiedHTTPS    = "X-Proxied-Https"
)

// proto is the scheme that the visitor sees: the public URL's, else ours or what the trusted proxy tells.
func (c *chain) proto(r *http.Request, trusted bool) string {
	if r.TLS != nil || c.public == "https" || c.public == "" && trusted && forwardedHTTPS(r.Header) {
		return "https"
	}
	return "http"
}

// publicScheme is the scheme of a URL that config has judged.
func publicScheme(u string) string {
	scheme, _, ok := strings.Cut(u, "://")
	if !ok {
		return ""
	}
	return strings.ToLower(scheme)
}

func forwardedHTTPS(h http.Header) bool {
	if proto := lastOf(h, headerForwardedProto); proto != "" {
		return proto == "https"
	}
	on := lastOf(h, headerProxiedHTTPS)
	return on == "on" || on == "true"
}

// forwardedHost is the host that the visitor asked the proxy for, with its port where he named one; "" when the proxy tells none.
// X-Forwarded-Server, the proxy's own name, stands in for X-Forwarded-Host. What cannot be a host is not taken for one: it would
// end up in links.
func forwardedHost(h http.Header) string {
	host := lastOf(h, headerForwardedHost)
	if host == "" {
		host = lastOf(h, headerForwardedServer)
	}
	if len(host) > 255 || strings.ContainsFunc(host, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune(".-_:[]", c)
	}) {
		return ""
	}
	return host
}

// lastOf is the last value of a list header in small letters: the nearest proxy wrote it, those before it may be anybody's.
func lastOf(h http.Header, name string) string {
	all := h.Values(name)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	if i := strings.LastIndexByte(last, ','); i >= 0 {
		last = last[i+1:]
	}
	return strings.ToLower(strings.TrimSpace(last))
}
