package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// slowHook is a receiver of webhooks that takes its time: a server that is killed meanwhile does not learn what became of
// its message.
type slowHook struct {
	*httptest.Server
	began chan struct{} // a message begins to arrive
	mu    sync.Mutex
	told  []toldOf
}

// toldOf is a message that was taken: to whom, under which key, about which hosts.
type toldOf struct {
	path, key string
	hosts     []string
}

const hookTakes = 700 * time.Millisecond

func startSlowHook(t *testing.T) *slowHook {
	t.Helper()
	h := &slowHook{began: make(chan struct{}, 1)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case h.began <- struct{}{}:
		default:
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return // the server died while it sent
		}
		var body struct {
			Host   string `json:"hostnameAndPort"`
			Alerts []struct {
				Host string `json:"hostnameAndPort"`
			} `json:"alerts"`
		}
		if err := json.Unmarshal(b, &body); err != nil {
			t.Errorf("a body does not read: %v", err)
		}
		one := toldOf{path: r.URL.Path, key: r.Header.Get("Idempotency-Key"), hosts: []string{body.Host}}
		if len(body.Alerts) > 0 {
			one.hosts = nil
			for _, a := range body.Alerts {
				one.hosts = append(one.hosts, a.Host)
			}
		}
		slices.Sort(one.hosts)
		h.mu.Lock()
		h.told = append(h.told, one) // taken, whether or not the answer finds anybody
		h.mu.Unlock()
		time.Sleep(hookTakes)
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *slowHook) all() []toldOf {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.told)
}

// killSeed is where the moments of the kills come from: HEARTWOOD_CHAOS_SEED repeats a run.
func killSeed(t *testing.T) uint64 {
	seed, err := strconv.ParseUint(os.Getenv("HEARTWOOD_CHAOS_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64() //nolint:gosec // any will do
	}
	t.Logf("HEARTWOOD_CHAOS_SEED=%d", seed)
	return seed
}

// TestServersKilledBetweenDecisionAndDelivery kills a server twelve times, at moments that a seed chooses: while a message
// is under way to a slow receiver, or at any other moment after something happened that is to be told. Whoever starts next
// goes on. Nothing is lost, and a key always stands for the same message.
func TestServersKilledBetweenDecisionAndDelivery(t *testing.T) {
	t.Parallel()
	const kills = 12
	paths := []string{"/a", "/b", "/c"}
	random := rand.New(rand.NewPCG(killSeed(t), 1)) //nolint:gosec // to be repeated
	hook := startSlowHook(t)
	data, base := t.TempDir(), harness.PortBase(t)
	settings := []string{"--set", "heartwood.alerts.every=5s", "--set", "heartwood.alerts.webhook.allow=127.0.0.0/8"}
	srv := serve(t, data, base, settings...)
	site := provision(t, base)
	for _, path := range paths {
		err := site.Call(t.Context(), http.MethodPost, "/groups/"+site.Group+"/alertConfigs", map[string]any{
			"eventTypeName": "NEW_HOST", "enabled": true, "notifications": []any{map[string]any{
				"typeName": "WEBHOOK", "delayMin": 0, "intervalMin": 5, "webhookUrl": hook.URL + path,
			}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	var hosts []string
	underWay := 0
	for n := range kills {
		name := fmt.Sprintf("db%02d.chaos.example:27017", n)
		if _, err := site.Conf(t.Context(), []string{name}); err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, name)
		wait := time.Duration(random.Int64N(int64(8 * time.Second)))
		if n%2 == 0 {
			select { // what came before the last kill
			case <-hook.began:
			default:
			}
			select {
			case <-hook.began:
				underWay++
			case <-time.After(90 * time.Second):
				t.Fatalf("kill %d: nothing was sent\n%s", n, srv.Log())
			}
			wait = time.Duration(random.Int64N(int64(hookTakes * 3 / 2)))
		}
		time.Sleep(wait)
		srv.Kill()
		srv = serve(t, data, base, settings...)
	}
	missing := func() (out []string) {
		told := map[string]bool{}
		for _, m := range hook.all() {
			for _, h := range m.hosts {
				told[m.path+" "+h] = true
			}
		}
		for _, p := range paths {
			for _, h := range hosts {
				if !told[p+" "+h] {
					out = append(out, p+" "+h)
				}
			}
		}
		return out
	}
	harness.Eventually(t, 3*time.Minute, "every message", func(context.Context) error {
		if left := missing(); len(left) > 0 {
			return fmt.Errorf("%d are missing: %.5v", len(left), left)
		}
		return nil
	})
	// What was sent with unknown success comes once more, under its key; after that nothing does.
	harness.Eventually(t, 2*time.Minute, "an empty outbox", func(ctx context.Context) error {
		_, body, err := get(ctx, local(base+diagnostics+1, "/metrics"))
		if err == nil && !strings.Contains(body, "heartwood_alerts_deliveries_waiting 0") {
			err = fmt.Errorf("deliveries wait:\n%s", grep(body, "deliveries"))
		}
		return err
	})
	messages, alone, repeats := map[string]string{}, map[string]string{}, 0
	for _, m := range hook.all() {
		about := m.path + " " + strings.Join(m.hosts, ",")
		if m.key == "" {
			t.Errorf("%s came without a key", about)
		}
		if had, again := messages[m.key]; again {
			if repeats++; had != about {
				t.Errorf("key %s stands for %s and for %s", m.key, had, about)
			}
		}
		messages[m.key] = about
		if len(m.hosts) == 1 {
			if key, again := alone[about]; again && key != m.key {
				t.Errorf("%s came under %s and under %s", about, key, m.key)
			}
			alone[about] = m.key
		}
	}
	t.Logf("%d kills, %d while a message was under way; %d messages under %d keys, %d came again", kills, underWay, len(hook.all()), len(messages), repeats)
}

// grep keeps the lines of s that hold a word.
func grep(s, word string) string {
	var out []string
	for line := range strings.Lines(s) {
		if strings.Contains(line, word) && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
