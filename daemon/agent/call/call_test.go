package call_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func TestJudge(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want call.Verdict
	}{
		{"no connection", errors.New("connection refused"), call.Later},
		{"wrong key", &call.Refusal{Status: 401, Code: wire.CodeBadKey}, call.Later},
		{"version", &call.Refusal{Status: 400, Code: wire.CodeBadVersion}, call.Later},
		{"clock", &call.Refusal{Status: 400, Code: wire.CodeClock}, call.Later},
		{"database away", &call.Refusal{Status: 503, Code: wire.CodeUnavailable}, call.Later},
		{"proxy in trouble", &call.Refusal{Status: 502}, call.Later},
		{"too large", &call.Refusal{Status: 413, Code: wire.CodeTooLarge}, call.Smaller},
		{"too large for a proxy", &call.Refusal{Status: 413}, call.Smaller},
		{"malformed", &call.Refusal{Status: 400, Code: wire.CodeMalformed}, call.Never},
		{"not found: not our server", &call.Refusal{Status: 404}, call.Later},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := call.Judge(tt.err); got != tt.want {
				t.Errorf("verdict %d, want %d", got, tt.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   call.Refusal
	}{
		{"with a problem", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(503)
			_, _ = w.Write(wire.EncodeProblem(wire.Problem{Code: wire.CodeUnavailable, Reason: "the database is away"}))
		}, call.Refusal{Status: 503, Code: wire.CodeUnavailable, Reason: "the database is away", RetryAfter: 7 * time.Second}},
		{"of a proxy, in words", func(w http.ResponseWriter) {
			w.WriteHeader(502)
			_, _ = w.Write([]byte("upstream is gone\nmore"))
		}, call.Refusal{Status: 502, Reason: "upstream is gone"}},
		{"of a proxy, a page", func(w http.ResponseWriter) {
			w.WriteHeader(403)
			_, _ = w.Write([]byte("<html>no</html>"))
		}, call.Refusal{Status: 403, Reason: "Forbidden"}},
		{"asking to wait for a year", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "31536000")
			w.WriteHeader(429)
		}, call.Refusal{Status: 429, Reason: "Too Many Requests", RetryAfter: time.Minute}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if user, pass, _ := r.BasicAuth(); user != "group" || pass != "key" || r.URL.Path != wire.PathPings {
					t.Errorf("request %s %s %s", r.URL, user, pass)
				}
				tt.answer(w)
			}))
			defer srv.Close()
			_, err := call.NewClient(srv.URL+"/", "group", "key", srv.Client()).Do(t.Context(), http.MethodPost, wire.PathPings, nil, wire.ContentType, nil)
			var r *call.Refusal
			if !errors.As(err, &r) || *r != tt.want {
				t.Errorf("%+v, want %+v", r, tt.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	var b call.Backoff
	least, most := time.Duration(0), time.Duration(0)
	for i := range 12 {
		d := b.Next(0)
		limit := min(time.Second<<i, time.Minute)
		if d < limit/2 || d > limit {
			t.Errorf("pause %d is %v, want %v to %v", i, d, limit/2, limit)
		}
		least, most = min(least, d), max(most, d)
	}
	if d := b.Next(2 * time.Minute); d != 2*time.Minute {
		t.Errorf("the server asked for two minutes, got %v", d)
	}
	b.Reset()
	if d := b.Next(0); d > time.Second {
		t.Errorf("after a success %v", d)
	}
}
