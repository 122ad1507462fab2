// Package guard says which addresses this machine must not be made to call by those who enter URLs: its own, those of its
// link, and where clouds serve their machines' credentials. It judges the address that is dialled, after names were
// resolved; it must not import anything of ours.
package guard

import (
	"fmt"
	"net/netip"
	"syscall"
)

// Control makes a net.Dialer.Control that looks at the address a name has come to. allowPrivate lets private networks through
// (but never clouds' credentials); what allow holds is let through whatever it is.
func Control(allow []netip.Prefix, allowPrivate bool) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%q is not an address: %w", address, err)
		}
		return Check(to.Addr(), allow, allowPrivate)
	}
}

// Check refuses with an Error the addresses that Control refuses.
func Check(ip netip.Addr, allow []netip.Prefix, allowPrivate bool) error {
	if why := barred(ip, allow, allowPrivate); why != "" {
		return &Error{ip, why}
	}
	return nil
}

// Error says why an address is refused.
type Error struct {
	IP  netip.Addr
	Why string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s, %s (heartwood.alerts.webhook.allow lists what may be called nevertheless)", e.IP, e.Why)
}

// Networks that netip has no word for. The first match counts.
var networks = []struct {
	prefix  netip.Prefix
	why     string
	private bool
}{
	{netip.MustParsePrefix("fd00:ec2::/32"), metadata, false},      // Amazon
	{netip.MustParsePrefix("fd20:ce::/32"), metadata, false},       // Google
	{netip.MustParsePrefix("100.100.100.200/32"), metadata, false}, // Alibaba
	{netip.MustParsePrefix("192.0.0.192/32"), metadata, false},     // Oracle
	{netip.MustParsePrefix("168.63.129.16/32"), metadata, false},   // Azure
	{netip.MustParsePrefix("0.0.0.0/8"), "this machine", false},
	{netip.MustParsePrefix("240.0.0.0/4"), "not an address of one machine", false},
	{netip.MustParsePrefix("192.0.0.0/24"), "not an address of the internet", false},
	{netip.MustParsePrefix("fec0::/10"), "a link-local address", false},
	{netip.MustParsePrefix("100.64.0.0/10"), private, true},
}

const (
	metadata = "where a cloud serves its machines' credentials"
	private  = "a private network"
)

// Prefixes of IPv6 addresses that stand for IPv4 ones, and where in them those are.
var embedding = []struct {
	prefix netip.Prefix
	at     int
	invert byte
}{
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, 0}, // translated
	{netip.MustParsePrefix("64:ff9b::/96"), 12, 0},    // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, 0},  // NAT64 of a site's own
	{netip.MustParsePrefix("2002::/16"), 2, 0},        // 6to4
	{netip.MustParsePrefix("2001::/32"), 12, 0xff},    // Teredo
	{netip.MustParsePrefix("::/96"), 12, 0},           // IPv4-compatible
}

// barred says why an address must not be called, or "".
func barred(ip netip.Addr, allow []netip.Prefix, allowPrivate bool) string {
	ip = ip.WithZone("").Unmap()
	for _, p := range allow {
		if p.Contains(ip) {
			return ""
		}
	}
	if why := itself(ip, allowPrivate); why != "" || !ip.Is6() {
		return why
	}
	bytes := ip.As16()
	for _, e := range embedding {
		if e.prefix.Contains(ip) {
			v4 := [4]byte(bytes[e.at : e.at+4])
			for i := range v4 {
				v4[i] ^= e.invert
			}
			return itself(netip.AddrFrom4(v4), allowPrivate)
		}
	}
	return ""
}

// itself is barred for an address as it stands, whatever it may embed.
func itself(ip netip.Addr, allowPrivate bool) string {
	for _, n := range networks {
		if n.prefix.Contains(ip) && !(n.private && allowPrivate) {
			return n.why
		}
	}
	switch {
	case !ip.IsValid() || ip.IsUnspecified() || ip.IsLoopback():
		return "this machine"
	case ip.IsLinkLocalUnicast():
		return "a link-local address"
	case ip.IsMulticast():
		return "not an address of one machine"
	case ip.IsPrivate() && !allowPrivate:
		return private
	}
	return ""
}
