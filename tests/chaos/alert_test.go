package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// call is one message that a catcher took.
type call struct {
	Key   string // Idempotency-Key
	Kind  string // X-MMS-Event
	Alert string // its id
	Event string // its event type
	Body  string
}

// catcher is a receiver of webhooks.
type catcher struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

func startCatcher(t *testing.T) *catcher {
	t.Helper()
	c := &catcher{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got := call{Key: r.Header.Get("Idempotency-Key"), Kind: r.Header.Get("X-MMS-Event"), Body: string(b)}
		var body struct {
			ID        string `json:"id"`
			EventType string `json:"eventTypeName"`
		}
		if err := json.Unmarshal(b, &body); err == nil {
			got.Alert, got.Event = body.ID, body.EventType
		}
		c.mu.Lock()
		c.calls = append(c.calls, got)
		c.mu.Unlock()
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *catcher) all() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]call(nil), c.calls...)
}

// webhookTo is a notification to a catcher.
func webhookTo(url string, delay int) model.Notification {
	return model.Notification{
		ID: model.NewID(), Channel: notify.Webhook, DelayMin: delay, IntervalMin: 5,
		Secrets: map[string]model.Secret{"webhookUrl": model.Secret(url), "webhookSecret": "hush"},
	}
}

// TestKilledMemberIsToldAndTakenBack kills a member of a watched set: a webhook hears of it, and hears that it is over when the
// member is back.
func TestKilledMemberIsToldAndTakenBack(t *testing.T) {
	t.Parallel()
	watched := startSet(t, mongosim.Options{SetName: "watched"})
	hook := startCatcher(t)
	data, base := t.TempDir(), harness.PortBase(t)
	srv := startServer(t, data, base)
	site := provision(t, base)
	hurry(t, srv.Site(), site.Group)
	now := time.Now().UTC().Truncate(time.Millisecond)
	err := srv.Site().Alerting.CreateConfig(t.Context(), model.AlertConfig{
		ID: model.NewID(), GroupID: groupID(site), EventType: model.EventHostDown, Enabled: true, Created: now, Updated: now,
		Notifications: []model.Notification{webhookTo(hook.URL, 0)},
	})
	if err != nil {
		t.Fatal(err)
	}
	harness.Start(t, "monitoring-agent", "--config", agentFile(t, local(base+1, ""), site, watched.Addresses()))
	harness.Eventually(t, 60*time.Second, "three hosts that answer", func(ctx context.Context) error {
		all, err := srv.Site().Inventory.Statuses(ctx, groupID(site))
		if err != nil {
			return err
		}
		up := 0
		for _, s := range all {
			if s.Reach == model.ReachUp {
				up++
			}
		}
		if up != 3 {
			return fmt.Errorf("%d are up", up)
		}
		return nil
	})
	victim := (watched.Primary() + 1) % 3
	if err := watched.Kill(victim); err != nil {
		t.Fatal(err)
	}
	heard := func(n int, kind string) call {
		t.Helper()
		var last call
		harness.Eventually(t, 150*time.Second, kind, func(context.Context) error {
			calls := hook.all()
			if len(calls) < n {
				return fmt.Errorf("%d calls", len(calls))
			}
			last = calls[n-1]
			return nil
		})
		if last.Kind != kind || last.Event != "HOST_DOWN" || last.Key == "" {
			t.Fatalf("call %d is %+v, want %s", n, last, kind)
		}
		return last
	}
	open := heard(1, "alert.open")
	if err := watched.Restart(victim); err != nil {
		t.Fatal(err)
	}
	closed := heard(2, "alert.close")
	if open.Alert == "" || open.Alert != closed.Alert || open.Key == closed.Key {
		t.Errorf("opened %+v, closed %+v", open, closed)
	}
}
