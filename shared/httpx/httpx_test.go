package httpx

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

func TestClientIP(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name    string
		peer    string
		header  string // of ChainOptions
		proxies []netip.Prefix
		xff     []string
		want    string
	}{
		{"no header configured: the header is not believed", "192.0.2.1:999", "", nil, []string{"1.1.1.1"}, "192.0.2.1"},
		{"an untrusted peer is not believed", "192.0.2.1:999", "X-Forwarded-For", proxies, []string{"1.1.1.1"}, "192.0.2.1"},
		{"a trusted peer is", "10.0.0.1:999", "X-Forwarded-For", proxies, []string{"1.1.1.1"}, "1.1.1.1"},
		{"the right-most stranger counts, not what he claims", "10.0.0.1:999", "X-Forwarded-For", proxies, []string{"6.6.6.6, 1.1.1.1, 10.2.2.2"}, "1.1.1.1"},
		{"several header lines are one list", "10.0.0.1:999", "X-Forwarded-For", proxies, []string{"6.6.6.6", "1.1.1.1", "10.2.2.2"}, "1.1.1.1"},
		{"only proxies in the list: the farthest", "10.0.0.1:999", "X-Forwarded-For", proxies, []string{"10.9.9.9, 10.2.2.2"}, "10.9.9.9"},
		{"rubbish ends the walk", "10.0.0.1:999", "X-Forwarded-For", proxies, []string{"1.1.1.1, what?, 10.2.2.2"}, "10.2.2.2"},
		{"no list of proxies: nobody is believed", "192.0.2.1:999", "X-Forwarded-For", nil, []string{"6.6.6.6, 1.1.1.1"}, "192.0.2.1"},
		{"a header of another name", "10.0.0.1:999", "X-Real-IP", proxies, []string{"1.1.1.1"}, "10.0.0.1"},
		{"a stranger who claims to be a proxy", "10.0.0.1:999", "X-Forwarded-For", proxies, []string{"127.0.0.1, 10.3.3.3, 203.0.113.9"}, "203.0.113.9"},
		{"a proxy without the header", "10.0.0.1:999", "X-Forwarded-For", proxies, nil, "10.0.0.1"},
		{"an empty hop ends the walk", "10.0.0.1:999", "X-Forwarded-For", proxies, []string{"1.1.1.1,, 10.2.2.2"}, "10.2.2.2"},
		{"a mapped proxy is one", "[::ffff:10.0.0.1]:999", "X-Forwarded-For", proxies, []string{"1.1.1.1"}, "1.1.1.1"},
		{"ports and brackets", "[fd00::1]:999", "X-Forwarded-For", proxies, []string{"[2001:db8::5]:4711"}, "2001:db8::5"},
		{"mapped addresses are plain ones", "[::ffff:192.0.2.1]:999", "", nil, nil, "192.0.2.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got netip.Addr
			h := Chain(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = ClientIP(r.Context()) }),
				ChainOptions{ClientIPHeader: c.header, TrustedProxies: c.proxies})
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.peer
			for _, v := range c.xff {
				r.Header.Add("X-Forwarded-For", v)
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got.String() != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestPanicIsAnsweredAndCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /boom/{id}", func(http.ResponseWriter, *http.Request) { panic("boom") })
	srv := httptest.NewServer(Chain(mux, ChainOptions{Reg: reg, Component: "test"}))
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/boom/7")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("status %d", resp.StatusCode)
	}
	want := `
# HELP heartwood_http_requests_total Requests answered, by route and status.
# TYPE heartwood_http_requests_total counter
heartwood_http_requests_total{code="500",component="test",method="GET",route="GET /boom/{id}"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "heartwood_http_requests_total"); err != nil {
		t.Error(err)
	}
	Chain(mux, ChainOptions{Reg: reg, Component: "test"}) // a second chain of the same component shares the metrics
}

func TestGzip(t *testing.T) {
	big := strings.Repeat("heartwood ", 500)
	for _, c := range []struct {
		name, contentType, body, accept string
		zipped                          bool
	}{
		{"big text", "text/html; charset=utf-8", big, "br, gzip", true},
		{"big JSON", "application/json", big, "gzip;q=0.5", true},
		{"small text", "text/html", "hi", "gzip", false},
		{"an archive", "application/gzip", big, "gzip", false},
		{"a client that does not take it", "text/html", big, "gzip;q=0", false},
		{"a client that says nothing", "text/html", big, "", false},
		{"no body", "text/html", "", "gzip", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Gzip(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				w.WriteHeader(http.StatusAccepted)
				for i := 0; i < len(c.body); i += 700 {
					_, _ = io.WriteString(w, c.body[i:min(i+700, len(c.body))])
				}
			}))
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Accept-Encoding", c.accept)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			body := io.Reader(w.Body)
			if got := w.Header().Get("Content-Encoding") == "gzip"; got != c.zipped {
				t.Fatalf("zipped %v", got)
			} else if got {
				var err error
				if body, err = gzip.NewReader(w.Body); err != nil {
					t.Fatal(err)
				}
			}
			b, err := io.ReadAll(body)
			if err != nil || string(b) != c.body || w.Code != http.StatusAccepted {
				t.Errorf("%v, status %d, %d bytes", err, w.Code, len(b))
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for err, want := range map[error]int{
		docstore.ErrUnavailable: 503, docstore.ErrOutcomeUnknown: 503, docstore.ErrNotFound: 404, docstore.ErrExists: 409,
		docstore.ErrConflict: 409, docstore.ErrFull: 507, context.DeadlineExceeded: 504, context.Canceled: 499, errors.New("x"): 500, nil: 200,
		&http.MaxBytesError{}: 413,
	} {
		wrapped := err
		if err != nil {
			wrapped = fmt.Errorf("save: %w", err)
		}
		if got := Status(wrapped); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

func TestReadBody(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 100)))
		if chunked {
			r.ContentLength = -1
		}
		if _, err := ReadBody(httptest.NewRecorder(), r, 99); Status(err) != http.StatusRequestEntityTooLarge {
			t.Errorf("chunked %v: %v", chunked, err)
		}
	}
}
