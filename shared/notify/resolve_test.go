package notify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// names makes the process resolve names by a server of the test's, until the test ends.
func names(t *testing.T, ask func(name string) []netip.Addr) {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(answer(buf[:n], ask), from)
		}
	}()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", l.LocalAddr().String())
	}}
	t.Cleanup(func() { net.DefaultResolver = before; l.Close() })
}

// answer answers one DNS query of one question.
func answer(query []byte, ask func(name string) []netip.Addr) []byte {
	const header = 12
	end := header
	var labels []string
	for query[end] != 0 {
		n := int(query[end])
		labels = append(labels, string(query[end+1:end+1+n]))
		end += n + 1
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	out := append([]byte{}, query[:end+5]...)
	copy(out[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	count := 0
	for _, ip := range ask(strings.Join(labels, ".")) {
		if ip.Is4() != (kind == 1) || !ip.Is4() && kind != 28 {
			continue
		}
		count++
		out = append(out, 0xc0, header, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(ip.BitLen()/8))
		out = append(out, ip.AsSlice()...)
	}
	out[7] = byte(count)
	return out
}

func TestNamesAreJudgedByWhatTheyResolveTo(t *testing.T) {
	var calls atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer srv.Close()
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	var now atomic.Pointer[[]netip.Addr]
	names(t, func(name string) []netip.Addr {
		if name != "hooks.example.com" {
			return nil
		}
		return *now.Load()
	})
	url := fmt.Sprintf("http://hooks.example.com:%d/hook", port)
	for _, to := range [][]string{
		{"127.0.0.1"},
		{"169.254.169.254"},
		{"fd00:ec2::254"},
		{"::1"},
		{"0.0.0.0"},
		{"::"},
		{"::ffff:127.0.0.1"},
		{"fe80::1"},
		{"64:ff9b::7f00:1"},
		{"224.0.0.1"},
		{"127.0.0.1", "127.0.0.2", "::1"},
	} {
		ips := make([]netip.Addr, len(to))
		for i := range to {
			ips[i] = netip.MustParseAddr(to[i])
		}
		now.Store(&ips)
		_, err := call(t, Client(ClientOptions{AllowPrivate: true, Timeout: 3 * time.Second}), url)
		if !errors.Is(err, ErrPermanent) || !strings.Contains(err.Error(), "heartwood.alerts.webhook.allow") {
			t.Errorf("%v: %v", to, err)
		}
	}
	if calls.Load() != 0 {
		t.Fatalf("%d calls came through", calls.Load())
	}

	// A name that meant one address when it was looked at and another when it is dialled: what is dialled counts.
	now.Store(&[]netip.Addr{netip.MustParseAddr("127.0.0.1")})
	c := Client(ClientOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	if _, err := call(t, c, url); err != nil || calls.Load() != 1 {
		t.Fatalf("allowed: %v, %d calls", err, calls.Load())
	}
	c.CloseIdleConnections()
	now.Store(&[]netip.Addr{netip.MustParseAddr("127.0.0.2")})
	if _, err := call(t, c, url); !errors.Is(err, ErrPermanent) {
		t.Errorf("after the name has moved: %v", err)
	}
}
