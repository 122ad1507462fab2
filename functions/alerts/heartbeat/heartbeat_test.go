package heartbeat

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/store"
)

var t0 = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

type site struct {
	watch  model.AlertWatch
	passes []store.PassState
}

func (s *site) Watch(context.Context) (model.AlertWatch, error) { return s.watch, nil }

func (s *site) UpdateWatch(_ context.Context, change func(*model.AlertWatch) error) error {
	return change(&s.watch)
}

func (s *site) PassStates(context.Context) ([]store.PassState, error) { return s.passes, nil }

func TestPass(t *testing.T) {
	well := store.PassState{Name: "deliver", Next: t0.Add(5 * time.Second)}
	tests := []struct {
		name   string
		last   time.Time
		pass   store.PassState
		status int
		calls  int
		note   string // in BeatError; "": sent
	}{
		{"healthy", t0.Add(-30 * time.Second), well, 200, 1, ""},
		{"never evaluated", time.Time{}, well, 200, 0, "not been evaluated yet"},
		{"evaluated too long ago", t0.Add(-4 * time.Minute), well, 200, 0, "not evaluated"},
		{"the clock went back", t0.Add(time.Hour), well, 200, 0, "clock"},
		{"deliveries fail", t0, store.PassState{Name: "deliver", Next: t0, Failures: 2}, 200, 0, "not delivered"},
		{"deliveries are late", t0, store.PassState{Name: "deliver", Next: t0.Add(-3 * time.Minute)}, 200, 0, "not delivered"},
		{"another duty fails", t0, store.PassState{Name: "compact", Next: t0, Failures: 2}, 200, 1, ""},
		{"the other system refuses", t0, well, 500, 1, "500"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls++
				if r.Method != http.MethodGet || r.URL.Path != "/ping/0a1b2c3d-token" {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte("about " + r.URL.Path + "?" + r.URL.RawQuery)) // services repeat what they were asked
			}))
			defer srv.Close()
			s := &site{watch: model.AlertWatch{LastPass: tt.last, BeatError: "of before", Open: 7}, passes: []store.PassState{tt.pass}}
			b, err := New(Options{
				URL: model.Secret(srv.URL + "/ping/0a1b2c3d-token?key=hush"), Watch: s, Duties: s, Deliver: "deliver",
				Client: notify.Client(notify.ClientOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
			})
			if err != nil {
				t.Fatal(err)
			}
			r, err := b.Pass(t.Context(), t0)
			if err != nil {
				t.Fatal(err)
			}
			if calls != tt.calls || !strings.Contains(s.watch.BeatError, tt.note) || (tt.note == "") != (s.watch.BeatError == "") {
				t.Errorf("%d calls, %q", calls, s.watch.BeatError)
			}
			if sent := s.watch.Heartbeat.Equal(t0); sent != (tt.note == "") || sent != (r.Done == 1) || s.watch.Open != 7 {
				t.Errorf("sent at %s, report %+v, watch %+v", s.watch.Heartbeat, r, s.watch)
			}
			for _, secret := range []string{"0a1b2c3d", "hush"} {
				if strings.Contains(s.watch.BeatError+r.Note, secret) {
					t.Errorf("the note tells %s: %q", secret, s.watch.BeatError)
				}
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	s := &site{watch: model.AlertWatch{LastPass: t0}}
	b, err := New(Options{
		URL: model.Secret(srv.URL + "/0a1b2c3d-token"), Watch: s, Duties: s,
		Client: notify.Client(notify.ClientOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Pass(t.Context(), t0); err != nil {
		t.Fatal(err)
	}
	if s.watch.BeatError == "" || strings.Contains(s.watch.BeatError, "0a1b2c3d") || !s.watch.Heartbeat.IsZero() {
		t.Errorf("%q, sent %s", s.watch.BeatError, s.watch.Heartbeat)
	}
}

func TestOptionsNeverShowTheURL(t *testing.T) {
	if _, err := New(Options{URL: "hush hush"}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("error %v", err)
	}
}
