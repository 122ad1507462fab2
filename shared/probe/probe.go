// Package probe finds out whether a process lists its databases to anybody who connects from outside: it dials the public addresses
// of a host and asks, without credentials. It owns the one conversation in which this server talks to monitored processes itself;
// it must not import the store, a function or a daemon.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
)

const (
	limit        = 3 * time.Second // of one attempt, the dialling included
	maxAddresses = 4               // of one name
	maxAtOnce    = 16              // attempts of all callers together
)

// Verdict is what a check came to.
type Verdict int

// The verdicts.
const (
	Unknown Verdict = iota // it could not be found out
	Not                    // nobody is let in, or nobody outside can get there
	Exposed                // the databases were listed to us
)

// Result is a verdict and why.
type Result struct {
	Verdict Verdict
	Reason  string // a sentence's predicate: "refuses those who do not sign in"
}

// Resolver finds the addresses of a name; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options are what New needs.
type Options struct {
	Vantage  []netip.Prefix // heartwood.exposed.vantage: networks that are dialled though they are not public
	Log      *slog.Logger   // nil: none
	Resolver Resolver       // nil: the system's
}

// Prober checks hosts. It is safe for concurrent use.
type Prober struct {
	o     Options
	dial  net.Dialer
	turns chan struct{}
}

// New returns a Prober.
func New(o Options) *Prober {
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	return &Prober{o: o, dial: net.Dialer{Timeout: limit}, turns: make(chan struct{}, maxAtOnce)}
}

// Check looks at every public address of a host. One exposed address exposes it.
func (p *Prober) Check(ctx context.Context, host string, port int) Result {
	ips, err := p.resolve(ctx, host)
	if err != nil {
		return Result{Unknown, "its name cannot be resolved from this server"}
	}
	var public []netip.Addr
	why := "its name has no address"
	for _, ip := range ips {
		ip = ip.WithZone("").Unmap()
		if reason := p.passedOver(ip); reason != "" {
			why = ip.String() + " is " + reason + ": nobody outside can reach it"
			continue
		}
		public = append(public, ip)
	}
	if len(public) == 0 {
		return Result{Not, why}
	}
	worst := Result{Not, ""}
	for _, ip := range public[:min(len(public), maxAddresses)] {
		r := p.address(ctx, host, netip.AddrPortFrom(ip, uint16(port))) //nolint:gosec // a port
		if worst.Reason == "" || rank(r.Verdict) > rank(worst.Verdict) {
			worst = r
		}
	}
	return worst
}

// rank orders verdicts by what is worth telling: what is not known goes before what is well.
func rank(v Verdict) int { return map[Verdict]int{Not: 0, Unknown: 1, Exposed: 2}[v] }

func (p *Prober) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return p.o.Resolver.LookupNetIP(ctx, "ip", host)
}

// address tries one address, first without TLS and then, where that leads to no conversation, with it.
func (p *Prober) address(ctx context.Context, name string, to netip.AddrPort) Result {
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return Result{Unknown, "the check was stopped"}
	}
	p.o.Log.InfoContext(ctx, "connecting to a monitored host without credentials, as the group's settings allow: whether it is exposed to the internet is checked once a day",
		obs.KeyHost, net.JoinHostPort(name, strconv.Itoa(int(to.Port()))), obs.KeyAddr, to.String())
	r, spoke := p.try(ctx, to, nil)
	if spoke {
		return r
	}
	// Nothing secret is sent, and an exposed process is exposed whatever its certificate says.
	if over, spoke := p.try(ctx, to, &tls.Config{InsecureSkipVerify: true, ServerName: name, MinVersion: tls.VersionTLS10}); spoke { //nolint:gosec // see above
		return over
	}
	return r
}

// try is one attempt. It reports whether that is the last word on the address: a process that wants TLS hangs up on one without.
func (p *Prober) try(ctx context.Context, to netip.AddrPort, over *tls.Config) (Result, bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := p.dial.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return unreached(ctx, err), true
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Result{Unknown, "the connection failed at once"}, true
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	with := ""
	if over != nil {
		secure := tls.Client(conn, over)
		if err := secure.HandshakeContext(ctx); err != nil {
			if ctx.Err() == nil && !isTimeout(err) {
				return Result{Not, "does not talk to a client without a certificate it knows, or is no MongoDB process"}, false
			}
			return Result{Unknown, "did not answer in time"}, false
		}
		conn, with = secure, " over TLS"
	}
	r, err := ask(conn)
	if err != nil {
		if over != nil && !isTimeout(err) { // TLS 1.3 tells of a missing certificate only with the first answer
			return Result{Not, "hangs up on a client without credentials" + with}, true
		}
		return Result{Unknown, "accepted the connection and gave no answer" + with}, over != nil
	}
	r.Reason += with
	return r, true
}

// unreached judges a connection that did not come about. A closed port is what people are told to make of an exposed one.
func unreached(ctx context.Context, err error) Result {
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled):
		return Result{Unknown, "the check was stopped"}
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return Result{Unknown, "this server has no way to it"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Result{Not, "refuses connections from this server"}
	case isTimeout(err), errors.Is(err, syscall.EHOSTUNREACH):
		return Result{Not, "cannot be reached from this server"}
	}
	return Result{Unknown, fmt.Sprintf("the connection failed: %v", errors.Unwrap(err))}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && t.Timeout()
}

// Networks of which the internet knows nothing, beyond what netip has words for.
var unrouted = []struct {
	prefix netip.Prefix
	why    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "no address of a machine"},
	{netip.MustParsePrefix("100.64.0.0/10"), "an address behind a carrier's NAT"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a reserved address"},
	{netip.MustParsePrefix("192.0.2.0/24"), "an address of documentation"},
	{netip.MustParsePrefix("198.18.0.0/15"), "an address of laboratories"},
	{netip.MustParsePrefix("198.51.100.0/24"), "an address of documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "an address of documentation"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{netip.MustParsePrefix("2001:db8::/32"), "an address of documentation"},
	{netip.MustParsePrefix("3fff::/20"), "an address of documentation"},
}

// global is what of IPv6 is given out to machines; what in it stands for IPv4 is not dialled.
var (
	global   = netip.MustParsePrefix("2000::/3")
	embedded = []netip.Prefix{netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2002::/16")}
)

// passedOver says why an address is not dialled, or "".
func (p *Prober) passedOver(ip netip.Addr) string {
	for _, v := range p.o.Vantage {
		if v.Contains(ip) {
			return ""
		}
	}
	switch {
	case !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast():
		return "no address of a machine"
	case ip.IsLoopback():
		return "this machine"
	case ip.IsPrivate():
		return "a private address"
	case ip.IsLinkLocalUnicast():
		return "a link-local address"
	}
	for _, n := range unrouted {
		if n.prefix.Contains(ip) {
			return n.why
		}
	}
	if ip.Is6() && (!global.Contains(ip) || embedded[0].Contains(ip) || embedded[1].Contains(ip)) {
		return "not a public address"
	}
	return ""
}
