package notifytest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/notify"
)

// HTTP starts a server for a channel that calls one. accept answers a message that is taken; nil is 200 without a body. A
// received message is its request line, headers and body, headers in order.
func HTTP(t *testing.T, accept http.HandlerFunc) (*Server, string) {
	t.Helper()
	var (
		mu   sync.Mutex
		now  = Accept
		seen []string
		stop = make(chan struct{})
	)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
		if err != nil {
			return
		}
		whole := dump(r, body)
		mu.Lock()
		o := now
		seen = append(seen, whole)
		mu.Unlock()
		switch o {
		case Accept:
			if accept != nil {
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				accept(w, r)
			}
		case Busy:
			w.Header().Set("Retry-After", strconv.Itoa(int(RetryIn/time.Second)))
			http.Error(w, "slow down", http.StatusTooManyRequests)
		case Broken:
			http.Error(w, "try later: "+whole, http.StatusServiceUnavailable)
		case Refuse:
			http.Error(w, "refused: "+whole, http.StatusBadRequest)
		case Hang:
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		case Gone:
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(func() { close(stop); srv.Close() })
	return &Server{
		Set: func(o Outcome) { mu.Lock(); defer mu.Unlock(); now = o },
		Received: func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(seen)
		},
		Outcomes: []Outcome{Busy, Broken, Refuse, Hang, Gone}, TellsTime: true,
	}, srv.URL
}

// Client calls servers on this machine and gives up on one that hangs.
func Client() *http.Client {
	return notify.Client(notify.ClientOptions{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}, Timeout: 500 * time.Millisecond,
	})
}

func dump(r *http.Request, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.Method, r.URL.RequestURI())
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range r.Header[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	fmt.Fprintf(&b, "\n%s", body)
	return b.String()
}

var escapes = regexp.MustCompile(`(\\u[0-9a-fA-F]{4})+`)

// jsonText undoes the escapes of a JSON text's letters.
func jsonText(s string) string {
	return escapes.ReplaceAllStringFunc(s, func(e string) string {
		var out string
		if err := json.Unmarshal([]byte(`"`+e+`"`), &out); err != nil {
			return e
		}
		return out
	})
}
