package runner

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/httpx"
)

// v2 is a header of version 2 as a balancer sends it.
func v2(t testing.TB, command proxyproto.ProtocolVersionAndCommand, from string) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(addrPort(t, from)), net.TCPAddrFromAddrPort(addrPort(t, from)))
	h.Command = command
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProxyProtocol(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for _, c := range []struct {
		name, mode string
		trusted    []string
		send       string
		want       string // the address the handler sees; "" when the connection is closed without an answer; a status otherwise
		log        string
	}{
		{"off: a header is no request", config.ProxyOff, []string{"127.0.0.0/8"}, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n" + request, "400", ""},
		{"off: a request is one", config.ProxyOff, nil, request, "127.0.0.1", ""},
		{"optional: version 1 from a trusted proxy", config.ProxyOptional, []string{"127.0.0.0/8"}, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n" + request, "192.0.2.7", ""},
		{"optional: IPv6", config.ProxyOptional, []string{"127.0.0.0/8"}, "PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n" + request, "2001:db8::7", ""},
		{"optional: version 2", config.ProxyOptional, []string{"127.0.0.0/8"}, string(v2(t, proxyproto.PROXY, "192.0.2.7:4711")) + request, "192.0.2.7", ""},
		{"optional: version 2, the balancer's own check", config.ProxyOptional, []string{"127.0.0.0/8"}, string(v2(t, proxyproto.LOCAL, "192.0.2.7:4711")) + request, "127.0.0.1", ""},
		{"optional: version 1 of a client it does not know", config.ProxyOptional, []string{"127.0.0.0/8"}, "PROXY UNKNOWN\r\n" + request, "127.0.0.1", ""},
		{"optional: without a header", config.ProxyOptional, []string{"127.0.0.0/8"}, request, "127.0.0.1", ""},
		{"optional: a stranger without a header", config.ProxyOptional, []string{"10.0.0.0/8"}, request, "127.0.0.1", ""},
		{"optional: a stranger with a header", config.ProxyOptional, []string{"10.0.0.0/8"}, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n" + request, "", "not in heartwood.trustedProxies"},
		{"optional: nobody is trusted", config.ProxyOptional, nil, string(v2(t, proxyproto.PROXY, "192.0.2.7:4711")) + request, "", "not in heartwood.trustedProxies"},
		{"optional: garbage after the word", config.ProxyOptional, []string{"127.0.0.0/8"}, "PROXY TCP4 nobody nowhere 1 2\r\n" + request, "", "cannot be read"},
		{"optional: a line without end", config.ProxyOptional, []string{"127.0.0.0/8"}, "PROXY TCP4 " + strings.Repeat("1", 300), "", "cannot be read"},
		{"optional: version 2 with a wrong length", config.ProxyOptional, []string{"127.0.0.0/8"}, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x01\x00" + request, "", "cannot be read"},
		{"required: version 2", config.ProxyRequired, []string{"127.0.0.0/8"}, string(v2(t, proxyproto.PROXY, "192.0.2.7:4711")) + request, "192.0.2.7", ""},
		{"required: without a header", config.ProxyRequired, []string{"127.0.0.0/8"}, request, "", "no PROXY header came"},
		{"required: garbage", config.ProxyRequired, []string{"127.0.0.0/8"}, "\x16\x03\x01\x02\x00\x01\x00", "", "no PROXY header came"},
		{"required: a stranger, whatever he sends", config.ProxyRequired, []string{"10.0.0.0/8"}, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n" + request, "", "is not in heartwood.trustedProxies"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := &lines{}
			addr := serveProxied(t, c.mode, c.trusted, log, nil)
			conn := dial(t, addr)
			if _, err := io.WriteString(conn, c.send); err != nil {
				t.Log(err) // it may be closed already
			}
			got, err := answerOf(conn)
			if err != nil && c.want != "" || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
			if said := log.String(); (c.log == "") != (said == "") || !strings.Contains(said, c.log) {
				t.Errorf("the log says %q, want %q", said, c.log)
			}
		})
	}
}

func TestProxyProtocolUnderTLS(t *testing.T) {
	t.Parallel()
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	addr := serveProxied(t, config.ProxyRequired, []string{"127.0.0.1/32"}, &lines{}, &tls.Config{Certificates: cert.TLS.Certificates})
	conn := dial(t, addr)
	if _, err := conn.Write(v2(t, proxyproto.PROXY, "192.0.2.7:4711")); err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the certificate is not what is tested
	if _, err := io.WriteString(secure, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := answerOf(secure); err != nil || got != "192.0.2.7" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestSlowProxyHeader holds that a header that does not come is not waited for beyond its time, and that nobody else waits for it.
func TestSlowProxyHeader(t *testing.T) {
	t.Parallel()
	log := &lines{}
	addr := serveProxied(t, config.ProxyRequired, []string{"127.0.0.0/8"}, log, nil, func(p *proxyListener) { p.timeout = 300 * time.Millisecond })
	silent, half := dial(t, addr), dial(t, addr)
	if _, err := io.WriteString(half, "PROXY TCP4 192.0"); err != nil {
		t.Fatal(err)
	}
	quick := dial(t, addr)
	if _, err := io.WriteString(quick, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := answerOf(quick); err != nil || got != "192.0.2.7" {
		t.Errorf("got %q, %v", got, err)
	}
	for name, c := range map[string]net.Conn{"silent": silent, "half": half} {
		if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 && n != 2 {
		t.Errorf("the log says %q", log.String())
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	log := &lines{}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := &refusals{log: slog.New(slog.NewTextHandler(log, nil)), now: func() time.Time { return now }}
	peer := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	for range 100 {
		r.note(peer, proxyproto.ErrNoProxyProtocol)
	}
	r.note(peer, errStranger)
	now = now.Add(refusalsEvery)
	r.note(peer, proxyproto.ErrNoProxyProtocol)
	said := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(said) != 3 || !strings.Contains(said[0], "count=1 ") || !strings.Contains(said[2], "count=100 ") || !strings.Contains(said[2], "addr=192.0.2.1:1") {
		t.Errorf("the log says %s", strings.Join(said, "\n"))
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\nGET"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add(v2(f, proxyproto.PROXY, "192.0.2.7:4711"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + strings.Repeat("/socket", 31))) // of a Unix socket
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(sent)
			_ = theirs.Close()
		}()
		r := &refusals{log: slog.New(slog.DiscardHandler), now: time.Now}
		c := &proxyConn{Conn: proxyproto.NewConn(ours, proxyproto.WithPolicy(proxyproto.USE)), refused: r}
		if a := c.RemoteAddr(); a == nil {
			t.Error("no address")
		} else if tcp, ok := a.(*net.TCPAddr); ok && tcp == nil {
			t.Error("a nil address")
		}
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
		_, _ = io.Copy(io.Discard, theirs)
	})
}

// TestDrain holds that a stopping server fails its health check and serves on, and that connections end with their next answer.
func TestDrain(t *testing.T) {
	srv := start(t, map[string]string{"heartwood.drainSeconds": "2"})
	client := &http.Client{Transport: &http.Transport{}}
	ask := func(path string) (status int, closing bool) {
		t.Helper()
		res, err := client.Get(srv.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode, res.Close
	}
	if status, closing := ask("/monitor/health"); status != http.StatusOK || closing {
		t.Fatalf("status %d, closing %v", status, closing)
	}
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- srv.Stop(context.Background()) }()
	for deadline := time.Now().Add(time.Second); !srv.draining.Load() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if status, closing := ask("/monitor/health"); status != http.StatusNotFound || !closing {
		t.Errorf("health while draining: status %d, closing %v", status, closing)
		t.Errorf("health while draining: status %d, closing %v", status, closing)
	}
	if status, closing := ask("/login"); status != http.StatusOK || !closing {
		t.Errorf("a page while draining: status %d, closing %v", status, closing)
	}
	if err := <-done; err != nil || time.Since(began) < 2*time.Second {
		t.Errorf("stopped after %v: %v", time.Since(began), err)
	}
}

// addrPort parses an address.
func addrPort(t testing.TB, s string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func serveProxied(t *testing.T, mode string, trusted []string, log io.Writer, conf *tls.Config, change ...func(*proxyListener)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = proxied(l, &config.Server{ProxyProtocol: mode, TrustedProxies: trusted}, slog.New(slog.NewTextHandler(log, nil)))
	for _, f := range change {
		f(l.(*proxyListener)) //nolint:forcetypeassert // the mode is on
	}
	addr := l.Addr().String()
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: httpx.Chain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, httpx.ClientIP(r.Context()))
	}), httpx.ChainOptions{}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return addr
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// answerOf reads an answer: its body, or its status when that is not 200.
func answerOf(c net.Conn) (string, error) {
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		return fmt.Sprint(res.StatusCode), err
	}
	return string(b), err
}

// lines collects what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
