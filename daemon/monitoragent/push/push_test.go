package push_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/push"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func TestJudge(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want push.Verdict
	}{
		{"no connection", errors.New("connection refused"), push.Later},
		{"wrong key", &push.Refusal{Status: 401, Code: wire.CodeBadKey}, push.Later},
		{"version", &push.Refusal{Status: 400, Code: wire.CodeBadVersion}, push.Later},
		{"clock", &push.Refusal{Status: 400, Code: wire.CodeClock}, push.Later},
		{"database away", &push.Refusal{Status: 503, Code: wire.CodeUnavailable}, push.Later},
		{"proxy in trouble", &push.Refusal{Status: 502}, push.Later},
		{"too large", &push.Refusal{Status: 413, Code: wire.CodeTooLarge}, push.Smaller},
		{"too large for a proxy", &push.Refusal{Status: 413}, push.Smaller},
		{"malformed", &push.Refusal{Status: 400, Code: wire.CodeMalformed}, push.Never},
		{"not found: not our server", &push.Refusal{Status: 404}, push.Later},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := push.Judge(tt.err); got != tt.want {
				t.Errorf("verdict %d, want %d", got, tt.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   push.Refusal
	}{
		{"with a problem", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(503)
			_, _ = w.Write(wire.EncodeProblem(wire.Problem{Code: wire.CodeUnavailable, Reason: "the database is away"}))
		}, push.Refusal{Status: 503, Code: wire.CodeUnavailable, Reason: "the database is away", RetryAfter: 7 * time.Second}},
		{"of a proxy, in words", func(w http.ResponseWriter) {
			w.WriteHeader(502)
			_, _ = w.Write([]byte("upstream is gone\nmore"))
		}, push.Refusal{Status: 502, Reason: "upstream is gone"}},
		{"of a proxy, a page", func(w http.ResponseWriter) {
			w.WriteHeader(403)
			_, _ = w.Write([]byte("<html>no</html>"))
		}, push.Refusal{Status: 403, Reason: "Forbidden"}},
		{"asking to wait for a year", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "31536000")
			w.WriteHeader(429)
		}, push.Refusal{Status: 429, Reason: "Too Many Requests", RetryAfter: time.Minute}},
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
			_, err := push.NewClient(srv.URL+"/", "group", "key", srv.Client(), time.Now).Post(t.Context(), nil)
			var r *push.Refusal
			if !errors.As(err, &r) || *r != tt.want {
				t.Errorf("%+v, want %+v", r, tt.want)
			}
		})
	}
}

func TestConfMeasuresTheClock(t *testing.T) {
	serverAhead := 3 * time.Hour
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, seeds, err := wire.ParseConfQuery(r.URL.Query())
		if err != nil || info.ID != "id" || len(seeds) != 2 {
			t.Errorf("query %s: %v", r.URL.RawQuery, err)
		}
		b, _ := wire.EncodeConf(wire.Conf{Version: wire.Version, Time: time.Now().Add(serverAhead)})
		_, _ = w.Write(b)
	}))
	defer srv.Close()
	c := push.NewClient(srv.URL, "group", "key", srv.Client(), time.Now)
	_, offset, err := c.Conf(t.Context(), wire.AgentInfo{ID: "id", Session: "s", Started: time.Now()}, []string{"a:1", "b:2"}, false)
	if err != nil || (offset-serverAhead).Abs() > time.Minute {
		t.Errorf("offset %v, %v", offset, err)
	}
}

func TestAnswersThatAreNoMessages(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer srv.Close()
	c := push.NewClient(srv.URL, "group", "key", srv.Client(), time.Now)
	if _, _, err := c.Conf(t.Context(), wire.AgentInfo{}, nil, false); err == nil {
		t.Error("a configuration that is none was taken")
	}
	if _, err := c.Post(t.Context(), nil); err == nil {
		t.Error("an acknowledgement that is none was taken")
	}
}

func TestBackoff(t *testing.T) {
	var b push.Backoff
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
