package runner

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// Bounds of the PROXY protocol. The header is the first that a balancer sends.
const (
	proxyHeaderTimeout = 5 * time.Second
	refusalsEvery      = time.Minute // how often a kind of refusal is logged
)

// proxyListener takes the client's address from the header with which load balancers begin a connection (PROXY protocol, versions
// 1 and 2). Only trusted networks may send one. The header is read where the connection is first used, never in Accept: one
// that is slow to come holds up nobody else.
type proxyListener struct {
	net.Listener
	required bool
	trusted  []netip.Prefix
	timeout  time.Duration
	refused  *refusals
}

// proxied puts the PROXY protocol before a listener, as the settings say.
func proxied(l net.Listener, c *config.Server, log *slog.Logger) net.Listener {
	if c.ProxyProtocol != config.ProxyOptional && c.ProxyProtocol != config.ProxyRequired {
		return l
	}
	return &proxyListener{
		Listener: l, required: c.ProxyProtocol == config.ProxyRequired, trusted: config.Prefixes(c.TrustedProxies), timeout: proxyHeaderTimeout,
		refused: &refusals{log: log, now: time.Now},
	}
}

// Accept returns the next connection that may be served.
func (p *proxyListener) Accept() (net.Conn, error) {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		policy := proxyproto.REJECT
		switch trusted := p.trusts(c.RemoteAddr()); {
		case trusted && p.required:
			policy = proxyproto.REQUIRE
		case trusted:
			policy = proxyproto.USE
		case p.required:
			p.refused.note(c.RemoteAddr(), errStranger)
			_ = c.Close()
			continue
		}
		return &proxyConn{
			Conn:    proxyproto.NewConn(c, proxyproto.WithPolicy(policy), proxyproto.SetReadHeaderTimeout(p.timeout)),
			refused: p.refused,
		}, nil
	}
}

func (p *proxyListener) trusts(peer net.Addr) bool {
	at, err := netip.ParseAddrPort(peer.String())
	if err != nil {
		return false
	}
	for _, network := range p.trusted {
		if network.Contains(at.Addr().Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// proxyConn is a connection that may begin with a PROXY header.
type proxyConn struct {
	*proxyproto.Conn
	refused *refusals
	header  sync.Once
}

// Read reads what follows the header.
func (c *proxyConn) Read(b []byte) (int, error) {
	c.judge()
	return c.Conn.Read(b)
}

// RemoteAddr is the client's address. What a header of another family says, such as the path of a socket, is no address to
// anybody here.
func (c *proxyConn) RemoteAddr() net.Addr {
	c.judge()
	addr := c.Conn.RemoteAddr()
	if _, ok := addr.(*net.TCPAddr); !ok {
		return c.Raw().RemoteAddr()
	}
	return addr
}

// judge reads the header and logs why it is refused. A connection that broke is nobody's fault.
func (c *proxyConn) judge() {
	c.header.Do(func() {
		_, err := c.Conn.Read(nil)
		var broken *net.OpError
		if err != nil && !errors.As(err, &broken) {
			c.refused.note(c.Raw().RemoteAddr(), err)
		}
	})
}

var errStranger = errors.New("it does not come from a load balancer")

// refusals logs why connections are refused: the first of each kind at once, then how many there were in a minute.
type refusals struct {
	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	seen map[string]*refusal
}

type refusal struct {
	logged time.Time
	since  int
}

func (r *refusals) note(peer net.Addr, err error) {
	reason, hint := refusedBecause(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]*refusal{}
	}
	one := r.seen[reason]
	if one == nil {
		one = &refusal{}
		r.seen[reason] = one
	}
	one.since++
	if now := r.now(); now.Sub(one.logged) >= refusalsEvery {
		r.log.Warn("connection refused", obs.KeyAddr, peer.String(), obs.KeyReason, reason, obs.KeyCount, one.since, obs.KeyHint, hint)
		one.logged, one.since = now, 0
	}
}

// refusedBecause explains a refusal to the operator. There are few different texts, however inventive the peers.
func refusedBecause(err error) (reason, hint string) {
	switch {
	case errors.Is(err, errStranger):
		return "heartwood.proxyProtocol is required and the address is not in heartwood.trustedProxies",
			"add the load balancer's network there; agents and people connect to the load balancer"
	case errors.Is(err, proxyproto.ErrSuperfluousProxyHeader):
		return "a PROXY header from an address that is not in heartwood.trustedProxies", "add it there if it is a load balancer"
	case errors.Is(err, proxyproto.ErrNoProxyProtocol):
		return "heartwood.proxyProtocol is required and no PROXY header came", "let the load balancer send one (HAProxy: send-proxy-v2), or set heartwood.proxyProtocol to optional"
	}
	return "the PROXY header cannot be read", "it must be of version 1 or 2: " + err.Error()
}
