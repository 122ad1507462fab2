// Package snmp sends SNMP v2c traps. Their names and contents are in infra/snmp/HEARTWOOD-MIB.txt, which management stations
// load. A trap is one datagram that nobody confirms: that it was sent is all that can be known of it.
package snmp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// Root is the MIB's place: an arc of our own below Net-SNMP's netSnmpPlaypen, which is free for such use. It changes to an arc
// of our own once the project has an enterprise number.
const Root = "1.3.6.1.4.1.8072.9999.9999.18519"

const (
	sysUpTime   = "1.3.6.1.2.1.1.3.0"
	snmpTrapOID = "1.3.6.1.6.3.1.1.4.1.0"

	defaultPort      = 162
	defaultCommunity = "public"
	sendTimeout      = 5 * time.Second
)

// traps numbers the kinds of traps below Root.0.
var traps = map[model.DeliveryKind]int{
	model.DeliverOpen: 1, model.DeliverUpdate: 2, model.DeliverAcknowledge: 3, model.DeliverClose: 4, model.DeliverCancel: 5, model.DeliverInform: 6, model.DeliverTest: 7,
}

// Options are what a Notifier needs.
type Options struct {
	// Control judges the addresses that traps go to; nil: notify.Guard with private networks let through, because that is where
	// management stations are.
	Control func(network, address string, c syscall.RawConn) error
	Started time.Time // of this program: traps carry for how long it has run
}

// Notifier sends traps.
type Notifier struct{ o Options }

var _ notify.Notifier = (*Notifier)(nil)

// New makes a Notifier.
func New(o Options) *Notifier {
	if o.Control == nil {
		o.Control = notify.Guard(nil, true)
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	return &Notifier{o}
}

// Notify sends a trap for each alert of a message.
func (n *Notifier) Notify(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	if err := ctx.Err(); err != nil {
		return notify.Result{}, fmt.Errorf("the trap was not sent: %w", err)
	}
	address := to.Fields["snmpAddress"]
	if to.Address != "" {
		address = to.Address
	}
	host, port, err := split(address)
	if err != nil {
		return notify.Result{}, notify.Refused("%q is not an address such as traps.example.com:162", address)
	}
	var barred error
	g := &gosnmp.GoSNMP{
		Target: host, Port: port, Transport: "udp", Version: gosnmp.Version2c, Community: to.Secrets["snmpCommunity"].Reveal(),
		Context: ctx, Timeout: sendTimeout, MaxOids: gosnmp.MaxOids,
		Control: func(network, address string, c syscall.RawConn) error {
			barred = n.o.Control(network, address, c)
			return barred
		},
	}
	if g.Community == "" {
		g.Community = defaultCommunity
	}
	if err := g.Connect(); err != nil {
		if barred != nil {
			return notify.Result{}, notify.Refused("no trap is sent: %s is at %v", host, barred)
		}
		return notify.Result{}, failed(ctx, host, err)
	}
	defer g.Conn.Close()
	all := m.All()
	for i := range all {
		if _, err := g.SendTrap(gosnmp.SnmpTrap{Variables: Variables(all[i], time.Since(n.o.Started))}); err != nil {
			return notify.Result{}, failed(ctx, host, err)
		}
	}
	if len(all) > 1 {
		return notify.Result{Text: fmt.Sprintf("%d traps sent to %s: they are not confirmed", len(all), g.Conn.RemoteAddr())}, nil
	}
	return notify.Result{Text: fmt.Sprintf("trap sent to %s: traps are not confirmed", g.Conn.RemoteAddr())}, nil
}

func failed(ctx context.Context, host string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("the trap to %s was not sent: %w", host, ctx.Err())
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return notify.Later(0, "no trap was sent: the name %s cannot be resolved: %s", host, dns.Err)
	}
	return notify.Later(0, "no trap was sent to %s: %v", host, err)
}

// split takes an address apart. Without a port it is 162.
func split(address string) (host string, port uint16, err error) {
	if ip, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil {
		return ip.String(), defaultPort, nil
	}
	if !strings.Contains(address, ":") {
		address = net.JoinHostPort(address, fmt.Sprint(defaultPort))
	}
	h, p, err := model.SplitAddress(address)
	if err != nil || h == "" || p < 1 || p > 65535 {
		return "", 0, fmt.Errorf("%q is not host:port", address)
	}
	return strings.Trim(h, "[]"), uint16(p), nil
}

// Variables are what a trap about a message's alert carries, in the order of the MIB. Together they fit one datagram that no
// network cuts in pieces.
func Variables(m notify.Message, up time.Duration) []gosnmp.SnmpPDU {
	a := m.Alert
	if a == nil {
		a = &model.Alert{}
	}
	threshold := ""
	for _, f := range notify.Facts(m) {
		if f.Name == "Threshold" {
			threshold = f.Value
		}
	}
	value := ""
	if a.Value != nil {
		value = notify.Reading(*a.Value)
	}
	since := ""
	if !a.Since.IsZero() {
		since = a.Since.UTC().Format(time.RFC3339)
	}
	url := m.URL
	if len(url) > 200 {
		url = "" // half of it leads nowhere
	}
	vars := []gosnmp.SnmpPDU{
		{Name: sysUpTime, Type: gosnmp.TimeTicks, Value: uint32(up.Milliseconds() / 10)}, //nolint:gosec // it wraps around after 497 days, as RFC 3418 says
		{Name: snmpTrapOID, Type: gosnmp.ObjectIdentifier, Value: fmt.Sprintf("%s.0.%d", Root, traps[m.Kind])},
	}
	for i, text := range []string{
		notify.Cut(m.Key, 128),
		string(a.ID),
		string(a.Status),
		string(notify.SeverityOf(m)),
		notify.Cut(string(a.EventType), 64),
		notify.Cut(notify.Subject(m), 160),
		notify.Cut(notify.Sentence(m), 200),
		notify.Cut(m.Group.Name, 64),
		notify.Cut(notify.Where(a), 128),
		notify.Cut(value, 40),
		notify.Cut(threshold, 60),
		since,
		url,
	} {
		vars = append(vars, gosnmp.SnmpPDU{Name: fmt.Sprintf("%s.1.%d.0", Root, i+1), Type: gosnmp.OctetString, Value: text})
	}
	return vars
}
