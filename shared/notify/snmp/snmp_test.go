package snmp

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

const community = "traps-community"

// station is a management station in the test's process.
type station struct {
	conn    net.PacketConn
	mu      sync.Mutex
	packets []*gosnmp.SnmpPacket
	sizes   []int
	flushed chan struct{}
}

func listen(t *testing.T) *station {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &station{conn: c, flushed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if string(buf[:n]) == "flush" {
				s.flushed <- struct{}{}
				continue
			}
			p, err := (&gosnmp.GoSNMP{Version: gosnmp.Version2c, MaxOids: gosnmp.MaxOids}).UnmarshalTrap(bytes.Clone(buf[:n]), false)
			if err != nil {
				t.Errorf("not a trap: %v", err)
				continue
			}
			s.mu.Lock()
			s.packets, s.sizes = append(s.packets, p), append(s.sizes, n)
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return s
}

// all are the traps that were sent before it is called: a datagram sent afterwards has come through.
func (s *station) all(t *testing.T) []*gosnmp.SnmpPacket {
	t.Helper()
	c, err := net.Dial("udp", s.conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("flush")); err != nil {
		t.Fatal(err)
	}
	<-s.flushed
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.packets)
}

func text(p *gosnmp.SnmpPacket) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", p.PDUType, p.Community)
	for _, v := range p.Variables {
		if raw, ok := v.Value.([]byte); ok {
			fmt.Fprintf(&b, "%s = %s\n", v.Name, raw)
		} else {
			fmt.Fprintf(&b, "%s = %v\n", v.Name, v.Value)
		}
	}
	return b.String()
}

func local() func(string, string, syscall.RawConn) error {
	return notify.Guard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, true)
}

func target(s *station) notify.Target {
	return notify.Target{
		Channel: notify.SNMP, Address: s.conn.LocalAddr().String(), Fields: map[string]string{"snmpAddress": s.conn.LocalAddr().String()},
		Secrets: map[string]model.Secret{"snmpCommunity": community},
	}
}

func TestSuite(t *testing.T) {
	s := listen(t)
	notifytest.Run(t, notifytest.Suite{
		New:    func(*testing.T) notify.Notifier { return New(Options{Control: local()}) },
		Target: target(s),
		Server: &notifytest.Server{
			Set: func(notifytest.Outcome) {},
			Received: func() []string {
				var out []string
				for _, p := range s.all(t) {
					out = append(out, text(p))
				}
				return out
			},
		},
		HasKey: true, PerAlert: true,
	})
	for _, n := range s.sizes {
		if n > 1472 {
			t.Errorf("a datagram of %d bytes is cut in pieces on its way", n)
		}
	}
}

func TestATrapSaysEverythingInTheOrderOfTheMIB(t *testing.T) {
	s := listen(t)
	n := New(Options{Control: local(), Started: time.Now().Add(-time.Hour)})
	m := notifytest.Message(model.DeliverOpen)
	r, err := n.Notify(t.Context(), target(s), m)
	if err != nil || !strings.Contains(r.Text, "not confirmed") {
		t.Fatalf("%+v, %v", r, err)
	}
	p := s.all(t)[0]
	if p.Version != gosnmp.Version2c || p.PDUType != gosnmp.SNMPv2Trap || p.Community != community {
		t.Errorf("version %v, type %v, community %s", p.Version, p.PDUType, p.Community)
	}
	if up, ok := p.Variables[0].Value.(uint32); !ok || up < 360_000 || up > 366_000 {
		t.Errorf("up for %v hundredths of a second", p.Variables[0].Value)
	}
	want := []string{
		"." + Root + ".0.1", m.Key, string(m.Alert.ID), "OPEN", "warning", "OUTSIDE_METRIC_THRESHOLD", notify.Subject(m), m.Alert.Text, "Shop",
		"db1.example.com:27017", "812", "above 500", "2026-03-01T09:55:00Z", m.URL,
	}
	for i, w := range want {
		got := fmt.Sprint(p.Variables[i+1].Value)
		if b, ok := p.Variables[i+1].Value.([]byte); ok {
			got = string(b)
		}
		if got != w {
			t.Errorf("variable %d is %q, want %q", i+1, got, w)
		}
	}
	if len(p.Variables) != len(want)+1 {
		t.Errorf("%d variables", len(p.Variables))
	}
}

func TestEveryKindHasItsTrap(t *testing.T) {
	seen := map[int]bool{}
	for _, k := range notifytest.Kinds() {
		if traps[k] == 0 || seen[traps[k]] {
			t.Errorf("%s has trap %d", k, traps[k])
		}
		seen[traps[k]] = true
	}
}

func TestThisMachineIsNotSentTrapsUnlessItIsAllowed(t *testing.T) {
	s := listen(t)
	_, err := New(Options{}).Notify(t.Context(), target(s), notifytest.Message(model.DeliverOpen))
	if !errors.Is(err, notify.ErrPermanent) || !strings.Contains(err.Error(), "this machine") {
		t.Errorf("%v", err)
	}
	if got := s.all(t); len(got) > 0 {
		t.Error("a trap was sent")
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"traps.example.com": "traps.example.com 162", "traps.example.com:1162": "traps.example.com 1162", "10.0.0.1": "10.0.0.1 162",
		"fd00::1": "fd00::1 162", "[fd00::1]": "fd00::1 162", "[fd00::1]:99": "fd00::1 99",
	} {
		h, p, err := split(address)
		if got := fmt.Sprintf("%s %d", h, p); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", address, got, err, want)
		}
	}
	for _, bad := range []string{"", ":162", "a:b", "a:0", "a:70000"} {
		if h, p, err := split(bad); err == nil {
			t.Errorf("%q is %s %d", bad, h, p)
		}
	}
	_, err := New(Options{}).Notify(t.Context(), notify.Target{Channel: notify.SNMP, Address: "a:70000"}, notifytest.Message(model.DeliverOpen))
	if !errors.Is(err, notify.ErrPermanent) {
		t.Errorf("%v", err)
	}
}

// Modules of the IETF that ours imports from, as far as a parser needs them. Distributions do not ship the real ones.
const (
	smi = `SNMPv2-SMI DEFINITIONS ::= BEGIN
org OBJECT IDENTIFIER ::= { iso 3 }
dod OBJECT IDENTIFIER ::= { org 6 }
internet OBJECT IDENTIFIER ::= { dod 1 }
mgmt OBJECT IDENTIFIER ::= { internet 2 }
mib-2 OBJECT IDENTIFIER ::= { mgmt 1 }
private OBJECT IDENTIFIER ::= { internet 4 }
enterprises OBJECT IDENTIFIER ::= { private 1 }
snmpV2 OBJECT IDENTIFIER ::= { internet 6 }
END
`
	framework = `SNMP-FRAMEWORK-MIB DEFINITIONS ::= BEGIN
SnmpAdminString ::= TEXTUAL-CONVENTION
    DISPLAY-HINT "255t"
    STATUS current
    DESCRIPTION "text"
    SYNTAX OCTET STRING (SIZE (0..255))
END
`
	conf = "SNMPv2-CONF DEFINITIONS ::= BEGIN\nEND\n"
)

// program finds a program of Net-SNMP and the folder of modules it needs.
func program(t *testing.T, name string) (path, modules string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " of Net-SNMP is not installed")
	}
	modules = t.TempDir()
	mib, err := os.ReadFile("../../../infra/snmp/HEARTWOOD-MIB.txt")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]string{"SNMPv2-SMI": smi, "SNMP-FRAMEWORK-MIB": framework, "SNMPv2-CONF": conf, "HEARTWOOD-MIB": string(mib)} {
		if err := os.WriteFile(filepath.Join(modules, name+".txt"), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path, modules
}

func TestTheMIBNamesWhatIsSent(t *testing.T) {
	path, modules := program(t, "snmptranslate")
	names := map[string]string{}
	for i, n := range []string{"Open", "Update", "Acknowledge", "Close", "Cancel", "Inform", "Test"} {
		names[fmt.Sprintf("%s.0.%d", Root, i+1)] = "hwAlert" + n
	}
	for i, n := range []string{
		"hwKey", "hwAlertId", "hwAlertStatus", "hwAlertSeverity", "hwAlertEvent", "hwAlertSummary", "hwAlertText", "hwAlertGroup", "hwAlertTarget",
		"hwAlertValue", "hwAlertThreshold", "hwAlertSince", "hwAlertUrl",
	} {
		names[fmt.Sprintf("%s.1.%d.0", Root, i+1)] = n + ".0"
	}
	for _, v := range Variables(notifytest.Message(model.DeliverOpen), 0)[2:] {
		if names[v.Name] == "" {
			t.Errorf("%s is not in the list of this test", v.Name)
		}
	}
	oids := slices.Sorted(maps.Keys(names))
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-M", modules, "-m", "HEARTWOOD-MIB"}, oids...)...)
	cmd.Env = append(os.Environ(), "SNMP_PERSISTENT_DIR="+t.TempDir())
	var faults bytes.Buffer
	cmd.Stderr = &faults
	out, err := cmd.Output()
	if err != nil || strings.Contains(faults.String(), "HEARTWOOD-MIB") {
		t.Fatalf("%v: %s", err, &faults)
	}
	got := strings.Fields(string(out))
	for i, oid := range oids {
		if i >= len(got) || got[i] != "HEARTWOOD-MIB::"+names[oid] {
			t.Errorf("%s should be %s: %s", oid, names[oid], out)
			break
		}
	}
}

func TestNetSNMPReadsOurTraps(t *testing.T) {
	path, modules := program(t, "snmptrapd")
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := c.LocalAddr().String()
	_ = c.Close() // it is snmptrapd's now
	settings := filepath.Join(t.TempDir(), "snmptrapd.conf")
	if err := os.WriteFile(settings, []byte("authCommunity log "+community+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	logFile := filepath.Join(t.TempDir(), "log")
	cmd := exec.CommandContext(t.Context(), path, "-f", "-n", "-C", "-c", settings, "-M", modules, "-m", "HEARTWOOD-MIB", "-Lf", logFile, "-p", filepath.Join(t.TempDir(), "pid"), "udp:"+address)
	cmd.Env = append(os.Environ(), "SNMP_PERSISTENT_DIR="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	n := New(Options{Control: local()})
	to := notify.Target{Channel: notify.SNMP, Address: address, Secrets: map[string]model.Secret{"snmpCommunity": community}}
	said := ""
	for range 100 { // until it listens and has written
		_, _ = n.Notify(t.Context(), to, notifytest.Message(model.DeliverOpen))
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // another program is waited for
		if b, err := os.ReadFile(logFile); err == nil {
			if said = string(b); strings.Contains(said, "hwAlertUrl") {
				break
			}
		}
	}
	for _, want := range []string{
		"HEARTWOOD-MIB::hwAlertOpen", "HEARTWOOD-MIB::hwAlertTarget.0 = STRING: db1.example.com:27017", "HEARTWOOD-MIB::hwAlertThreshold.0 = STRING: above 500",
		"HEARTWOOD-MIB::hwKey.0 = STRING: " + notifytest.Message(model.DeliverOpen).Key,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %s", want, said)
		}
	}
}
