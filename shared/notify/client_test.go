package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func call(t *testing.T, c *http.Client, url string) (Answer, error) {
	t.Helper()
	return Do(t.Context(), c, Request{Service: "the webhook", URL: url, Body: []byte(`{"a":1}`), Secrets: []model.Secret{model.Secret(url)}})
}

func TestNamesThatComeToThisMachineAreRefused(t *testing.T) {
	var calls atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer srv.Close()
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "[fd00:ec2::254]", "0x7f000001", "2130706433"} {
		_, err := call(t, Client(ClientOptions{AllowPrivate: true, Timeout: 2 * time.Second}), fmt.Sprintf("http://%s:%d/secret-path", host, port))
		if err == nil || strings.Contains(err.Error(), "secret-path") {
			t.Errorf("%s: %v", host, err)
		}
		if host != "0x7f000001" && host != "2130706433" && !errors.Is(err, ErrPermanent) { // those are names that do not resolve
			t.Errorf("%s: %v, want a permanent failure", host, err)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Fatalf("%d calls came through", n)
	}
	if _, err := call(t, Client(ClientOptions{Allow: loopback}), srv.URL); err != nil || calls.Load() != 1 {
		t.Errorf("allowed: %v, %d calls", err, calls.Load())
	}
}

func TestRedirects(t *testing.T) {
	var inner atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inner.Add(1) }))
	defer other.Close()
	var got atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/here", http.StatusTemporaryRedirect)
		case "/found":
			http.Redirect(w, r, "/here", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusTemporaryRedirect)
		case "/other":
			http.Redirect(w, r, other.URL+"/x", http.StatusPermanentRedirect)
		case "/cloud":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusTemporaryRedirect)
		case "/here":
			body, _ := io.ReadAll(r.Body)
			got.Store(r.Method + " " + string(body))
		}
	}))
	defer srv.Close()
	c := Client(ClientOptions{Allow: loopback})
	if _, err := call(t, c, srv.URL+"/same"); err != nil || got.Load() != `POST {"a":1}` {
		t.Errorf("on the same host: %v, %v", err, got.Load())
	}
	for _, path := range []string{"/found", "/loop", "/other", "/cloud"} {
		_, err := call(t, c, srv.URL+path)
		if !errors.Is(err, ErrPermanent) || !strings.Contains(err.Error(), "another address") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if inner.Load() != 0 {
		t.Error("a redirect led to another host")
	}
}

func TestAProxyIsNoWayAroundTheGuard(t *testing.T) {
	var asked atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked.Store(r.URL.String()) }))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := Client(ClientOptions{Proxy: at})
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "169.254.169.254", "metadata.localhost"} {
		if _, err := call(t, c, "http://"+host+"/"); !errors.Is(err, ErrPermanent) || asked.Load() != nil {
			t.Fatalf("%s: %v, the proxy was asked for %v", host, err, asked.Load())
		}
	}
	if _, err := call(t, c, "http://93.184.216.34/hook"); err != nil || asked.Load() != "http://93.184.216.34/hook" {
		t.Errorf("%v, the proxy was asked for %v", err, asked.Load())
	}
}

func TestAnswersAreBounded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 100 {
			_, _ = w.Write(make([]byte, 64<<10))
		}
	}))
	defer srv.Close()
	a, err := call(t, Client(ClientOptions{Allow: loopback}), srv.URL)
	if err != nil || len(a.Body) != maxAnswer {
		t.Errorf("%d bytes, %v", len(a.Body), err)
	}
}

func TestFailuresNameTheHostAndNothingElseOfTheURL(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, err = call(t, Client(ClientOptions{Allow: loopback}), "http://user:passw0rd@"+address+"/hooks/abcdefgh?token=ijklmnop")
	if err == nil || errors.Is(err, ErrPermanent) || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"passw0rd", "abcdefgh", "ijklmnop"} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), part) {
			t.Errorf("%q is in %v", part, err)
		}
	}
	if _, err := call(t, Client(ClientOptions{}), "http://a b/secret"); !errors.Is(err, ErrPermanent) || strings.Contains(err.Error(), "secret") {
		t.Errorf("not a URL: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Do(ctx, Client(ClientOptions{Allow: loopback}), Request{Service: "x", URL: "http://" + address}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestJudge(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status    int
		after     string
		fails     bool
		permanent bool
		wait      time.Duration
	}{
		{200, "", false, false, 0},
		{202, "", false, false, 0},
		{299, "", false, false, 0},
		{302, "", true, true, 0},
		{400, "", true, true, 0},
		{401, "", true, true, 0},
		{403, "", true, true, 0},
		{404, "", true, true, 0},
		{410, "", true, true, 0},
		{422, "", true, true, 0},
		{408, "", true, false, 0},
		{425, "", true, false, 0},
		{429, "", true, false, 0},
		{429, "30", true, false, 30 * time.Second},
		{429, "0.25", true, false, 250 * time.Millisecond},
		{429, "-5", true, false, 0},
		{429, "NaN", true, false, 0},
		{429, "soon", true, false, 0},
		{429, "1e99", true, false, maxRetryAfter},
		{503, "Sun, 01 Mar 2026 10:02:00 GMT", true, false, 2 * time.Minute},
		{503, "Sun, 01 Mar 2026 09:02:00 GMT", true, false, 0},
		{503, "Sun, 01 Mar 2036 10:02:00 GMT", true, false, maxRetryAfter},
		{500, "", true, false, 0},
		{599, "", true, false, 0},
		{100, "", true, true, 0},
	} {
		err := Judge("Slack", c.status, http.Header{"Retry-After": {c.after}}, "they\nsay", now)
		if (err != nil) != c.fails || errors.Is(err, ErrPermanent) != c.permanent || RetryAfter(err) != c.wait {
			t.Errorf("%d %q: %v, after %v", c.status, c.after, err, RetryAfter(err))
		}
		if err != nil && !strings.Contains(err.Error(), fmt.Sprint(c.status)) {
			t.Errorf("%d: %v", c.status, err)
		}
	}
}
