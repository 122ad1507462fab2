package watch

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/web"
)

var now = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

type site struct {
	watch      model.AlertWatch
	stats      alerting.DeliveryStats
	deliveries []model.Delivery
	passes     []store.PassState
	missing    map[string]string
}

func (s *site) Watch(context.Context) (model.AlertWatch, error) { return s.watch, nil }

func (s *site) DeliveryStats(context.Context, time.Time) (alerting.DeliveryStats, error) {
	return s.stats, nil
}

func (s *site) Deliveries(_ context.Context, q alerting.DeliveryQuery) ([]model.Delivery, string, error) {
	var found []model.Delivery
	for _, d := range s.deliveries {
		if d.State == q.State && !d.Created.Before(q.From) {
			found = append(found, d)
		}
	}
	return found, "", nil
}

func (s *site) PassStates(context.Context) ([]store.PassState, error) { return s.passes, nil }

func (s *site) Missing(channel string) string { return s.missing[channel] }

// show renders the page as somebody sees it who may, or may not, read the site.
func (s *site) show(t *testing.T, may bool) (int, string) {
	t.Helper()
	p, err := New(Options{Alerting: s, Site: s, Sender: s})
	if err != nil {
		t.Fatal(err)
	}
	assets, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	render, err := view.New(view.Options{Templates: web.Templates(), Assets: assets, Log: obs.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	v := &view.Visit{
		Request: httptest.NewRequest("GET", "/admin/watch", nil), Now: now, Zone: time.UTC, User: &model.User{Username: "ann"},
		Allowed: func(view.Right, model.ID, model.ID) bool { return may }, Grantors: func() []string { return nil },
	}
	answer, err := p.page(t.Context(), v)
	w := httptest.NewRecorder()
	render.Render(w, v, answer, err)
	return w.Code, w.Body.String()
}

func TestWhatThePageSays(t *testing.T) {
	healthy := func() *site {
		return &site{
			watch:  model.AlertWatch{LastPass: now.Add(-20 * time.Second), Resumed: now.Add(-time.Hour), Took: 40 * time.Millisecond, Configs: 1234, Hosts: 5678, Heartbeat: now.Add(-time.Minute)},
			passes: []store.PassState{{Name: "alerts-heartbeat", Every: time.Minute, Next: now, LastStart: now, LastOK: now}},
		}
	}
	tests := []struct {
		name   string
		change func(*site)
		says   []string
		not    []string
	}{
		{"all is well", func(*site) {}, []string{"on time", "1,234", "5,678", "working", "ready"}, []string{"stopped", "stuck", "failing", "not set up", "Nobody watches"}},
		{"never evaluated", func(s *site) { s.watch = model.AlertWatch{} }, []string{"No evaluation has run yet", "heartwood.alerts.enabled"}, []string{"stopped"}},
		{"evaluation stopped", func(s *site) { s.watch.LastPass = now.Add(-time.Hour) }, []string{"stopped", "59 min"}, nil},
		{"the clock jumped", func(s *site) { s.watch.ClockNote = "The clock went back by 5m0s." }, []string{"The clock went back by 5m0s."}, nil},
		{"messages that nobody tries", func(s *site) {
			s.stats = alerting.DeliveryStats{Pending: 3, Failing: 1, OldestPending: now.Add(-time.Hour)}
		}, []string{"stuck"}, nil},
		{"mail fails, SMS is not set up", func(s *site) {
			s.missing = map[string]string{notify.SMS: "SMS is not configured: set twilio.account.sid"}
			s.deliveries = []model.Delivery{
				{Channel: notify.Email, State: model.DeliveryFailed, Created: now.Add(-2 * time.Hour), LastError: "550 of old"},
				{Channel: notify.Email, State: model.DeliveryPending, Created: now.Add(-time.Hour), LastError: "451 try <later>"},
				{Channel: notify.Email, State: model.DeliveryPending, Created: now},
				{Channel: notify.Webhook, State: model.DeliveryFailed, Created: now.Add(-25 * time.Hour), LastError: "of the day before"},
			}
		}, []string{"set twilio.account.sid", "451 try &lt;later&gt;"}, []string{"550 of old", "of the day before", "<later>"}},
		{"no heartbeat", func(s *site) { s.passes = nil }, []string{"Nobody watches this watcher", "No duty has run yet"}, nil},
		{"the heartbeat fails", func(s *site) { s.watch.BeatError = "it cannot be reached" }, []string{"it cannot be reached"}, nil},
		{"a duty fails", func(s *site) {
			s.passes = append(s.passes, store.PassState{Name: "compact", Every: time.Minute, Next: now, Failures: 2, Error: "disk full"})
		}, []string{"compact", "disk full"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := healthy()
			tt.change(s)
			code, page := s.show(t, true)
			if code != 200 {
				t.Fatalf("status %d\n%s", code, page)
			}
			_, page, _ = strings.Cut(page, "<main")
			for _, want := range tt.says {
				if !strings.Contains(page, want) {
					t.Errorf("%q is missing", want)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(page, not) {
					t.Errorf("%q is there", not)
				}
			}
			if t.Failed() {
				t.Log(page)
			}
		})
	}
}

func TestOnlyWhoReadsTheSiteSeesIt(t *testing.T) {
	if code, page := (&site{}).show(t, false); code != 403 || strings.Contains(page, "How alerting works") {
		t.Errorf("status %d\n%s", code, page)
	}
}
