package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(-time.Hour)} // expired, of nobody
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

func check(t *testing.T, address string) Result {
	t.Helper()
	to := netip.MustParseAddrPort(address)
	return New(Options{Vantage: loopback}).Check(t.Context(), to.Addr().String(), int(to.Port()))
}

// talk serves one canned behaviour and returns its address.
func talk(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestVerdicts(t *testing.T) {
	tests := []struct {
		name  string
		start func(*testing.T) string
		want  Verdict
		says  string
	}{
		{"lists its databases to anybody", func(t *testing.T) string { return mongotest.Start(t, "primary").Addr }, Exposed, "lists its databases"},
		{"wants a password", func(t *testing.T) string {
			p := mongotest.Start(t, "primary")
			p.RequireUser(t, "u", "p")
			return p.Addr
		}, Not, "do not sign in"},
		{"lists its databases over TLS with a certificate of nobody", func(t *testing.T) string { return mongotest.StartTLS(t, "primary", serverTLS(t)).Addr }, Exposed, "over TLS"},
		{"wants a password over TLS", func(t *testing.T) string {
			p := mongotest.StartTLS(t, "primary", serverTLS(t))
			p.RequireUser(t, "u", "p")
			return p.Addr
		}, Not, "do not sign in over TLS"},
		{"wants a certificate", func(t *testing.T) string {
			c := serverTLS(t)
			c.ClientAuth = tls.RequireAnyClientCert
			return mongotest.StartTLS(t, "primary", c).Addr
		}, Not, "hangs up"},
		{"before OP_MSG", func(t *testing.T) string {
			p := mongotest.Start(t, "primary")
			old := mongotest.Doc(bson.D{{Key: "ok", Value: 1.0}, {Key: "maxWireVersion", Value: int32(3)}})
			p.Handle("isMaster", func(bson.Raw) bson.Raw { return old })
			return p.Addr
		}, Exposed, "lists its databases"},
		{"refuses without a code, as before 2.6", func(t *testing.T) string {
			p := mongotest.Start(t, "primary")
			p.Set("listDatabases", mongotest.Doc(bson.D{{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: "need to login"}}))
			return p.Addr
		}, Not, "do not sign in"},
		{"fails otherwise", func(t *testing.T) string {
			p := mongotest.Start(t, "primary")
			p.Set("listDatabases", mongotest.Failure(8000, "AtlasError", "no"))
			return p.Addr
		}, Unknown, "error 8000"},
		{"no port there", func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			return l.Addr().String()
		}, Not, "refuses connections"},
		{"another protocol", func(t *testing.T) string {
			return talk(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example.com ESMTP, speak up\r\n") })
		}, Not, "no MongoDB process"},
		{"an endless reply", func(t *testing.T) string {
			return talk(t, func(c net.Conn) {
				_, _ = c.Write(append([]byte{0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}, make([]byte, 64)...))
			})
		}, Not, "no MongoDB process"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := check(t, tt.start(t)); got.Verdict != tt.want || !strings.Contains(got.Reason, tt.says) {
				t.Errorf("%+v, want %d: %s", got, tt.want, tt.says)
			}
		})
	}
}

func TestNobodySignsIn(t *testing.T) {
	p := mongotest.Start(t, "primary")
	check(t, p.Addr)
	if p.Calls("isMaster") != 1 || p.Calls("listDatabases") != 1 || p.Calls("saslStart") != 0 {
		t.Errorf("isMaster %d, listDatabases %d, saslStart %d", p.Calls("isMaster"), p.Calls("listDatabases"), p.Calls("saslStart"))
	}
}

type names map[string][]netip.Addr

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if ips := n[host]; ips != nil {
		return ips, nil
	}
	return nil, errors.New("no such host")
}

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	p := New(Options{})
	for _, ip := range []string{
		"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1",
		"0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "2001:db8::1", "3fff::1", "ff02::1",
		"64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "::ffff:127.0.0.1", "fec0::1",
	} {
		if p.passedOver(netip.MustParseAddr(ip).Unmap()) == "" {
			t.Errorf("%s would be dialled", ip)
		}
	}
	for _, ip := range []string{"8.8.8.8", "1.1.1.1", "52.1.2.3", "2a00:1450::1", "2606:4700::1111"} {
		if why := p.passedOver(netip.MustParseAddr(ip)); why != "" {
			t.Errorf("%s is passed over: %s", ip, why)
		}
	}
}

func TestNamesAreJudgedByWhatTheyResolveTo(t *testing.T) {
	open := mongotest.Start(t, "primary")
	to := netip.MustParseAddrPort(open.Addr)
	resolver := names{"db1.example.com": {to.Addr()}, "db2.example.com": {netip.MustParseAddr("10.0.0.1"), to.Addr()}}
	tests := []struct {
		name, host string
		vantage    []netip.Prefix
		want       Verdict
		says       string
	}{
		{"a name of this machine", "db1.example.com", nil, Not, "127.0.0.1 is this machine"},
		{"of a network that counts as outside", "db1.example.com", loopback, Exposed, "lists"},
		{"one address inside, one outside", "db2.example.com", loopback, Exposed, "lists"},
		{"a name without an address", "db3.example.com", loopback, Unknown, "cannot be resolved"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := open.Calls("listDatabases")
			got := New(Options{Vantage: tt.vantage, Resolver: resolver}).Check(t.Context(), tt.host, int(to.Port()))
			if got.Verdict != tt.want || !strings.Contains(got.Reason, tt.says) {
				t.Errorf("%+v", got)
			}
			if tt.want != Exposed && open.Calls("listDatabases") != before {
				t.Error("it was asked")
			}
		})
	}
}

func TestTheLogSaysWhyItConnects(t *testing.T) {
	var b strings.Builder
	to := netip.MustParseAddrPort(mongotest.Start(t, "primary").Addr)
	New(Options{Vantage: loopback, Log: slog.New(slog.NewTextHandler(&b, nil))}).Check(t.Context(), "127.0.0.1", int(to.Port()))
	if !strings.Contains(b.String(), "exposed to the internet is checked") || !strings.Contains(b.String(), to.String()) {
		t.Errorf("log: %s", b.String())
	}
}

func TestBeingStoppedIsNoFinding(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := New(Options{Vantage: loopback}).Check(ctx, "127.0.0.1", 1); got.Verdict != Unknown {
		t.Errorf("%+v", got)
	}
}

func FuzzReply(f *testing.F) {
	doc := mongotest.Doc(bson.D{{Key: "ok", Value: 1.0}})
	f.Add(uint32(opMsg), append(make([]byte, 5), doc...))
	f.Add(uint32(opReply), append(make([]byte, 20), doc...))
	f.Fuzz(func(t *testing.T, op uint32, body []byte) {
		if got, err := document(op, body); err == nil && got.Validate() != nil {
			t.Errorf("%x was taken", []byte(got))
		}
	})
}
