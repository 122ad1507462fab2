package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestTwoServers runs two servers on one replica set behind a load balancer. Periodic duties run once, both take posts, and
// when one is killed the other does everything.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	db := startSet(t, mongosim.Options{})
	watched := startSet(t, mongosim.Options{SetName: "watched"})
	began := time.Now()
	data := []string{t.TempDir(), t.TempDir()}
	bases := []int{harness.PortBase(t), harness.PortBase(t)}
	uri := "mongo.mongoUri=" + db.URI()
	// The first makes the site; all servers of a site have the same key.
	must(t, serve(t, data[0], bases[0], "--set", uri).Stop(30*time.Second))
	key, err := os.ReadFile(filepath.Join(data[0], "gen.key"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(data[1], "gen.key"), key, 0o600))
	servers := make([]*harness.Process, len(bases))
	for i, base := range bases {
		servers[i] = harness.Start(t, "serve", "--data", data[i], "--port-base", strconv.Itoa(base), "--set", uri)
	}
	for _, base := range bases {
		harness.Eventually(t, 30*time.Second, "both servers' health", func(ctx context.Context) error {
			return wantStatus(ctx, local(base, "/monitor/health"), http.StatusOK)
		})
	}
	inside := look(t, data[0], db.URI())
	running, err := inside.Store.Running(t.Context())
	if err != nil || len(running) != len(servers) {
		t.Errorf("%d servers are registered: %v", len(running), err)
	}

	site := provision(t, bases[0])
	hurry(t, inside, site.Group)
	front := startRelay(t, local(bases[0]+1, ""), local(bases[1]+1, ""))
	agent := harness.Start(t, "monitoring-agent", "--config", agentFile(t, front.URL, site, watched.Addresses()))
	rounds := func(n int) {
		t.Helper()
		harness.Eventually(t, time.Minute, fmt.Sprintf("%d rounds of pings", n), func(context.Context) error {
			if pings, _ := front.answered(); len(pings) < n*watched.Len() {
				return fmt.Errorf("%d pings", len(pings))
			}
			return nil
		})
	}
	rounds(1)
	for _, base := range bases {
		direct := *site
		direct.Ingestion = local(base+1, "")
		if _, err := direct.Conf(t.Context(), nil); err != nil {
			t.Errorf("the server on port %d: %v", base, err)
		}
		direct.URL = local(base, "")
		if err := direct.Call(t.Context(), http.MethodGet, "/groups/"+site.Group, nil, nil); err != nil {
			t.Errorf("the server on port %d: %v", base, err)
		}
	}

	before, _ := front.answered()
	servers[0].Kill()
	killed := time.Now()
	harness.Eventually(t, 90*time.Second, "periodic duties of the one that is left", func(context.Context) error {
		hosts := passes(t, inside)["hosts"]
		if hosts.LastOK.Before(killed) {
			return fmt.Errorf("hosts: %+v", hosts)
		}
		return nil
	})
	rounds(len(before)/watched.Len() + 2)
	must(t, agent.Stop(20*time.Second))
	pings, _ := front.answered()
	wantStored(t, rows(t, inside), pings)
	wantEvenly(t, pings, period)
	wantRunOnce(t, inside, time.Since(began))
	if !servers[1].Running() {
		t.Error("the second server exited, too")
	}
	must(t, servers[1].Stop(30*time.Second))
	front.see(func() { t.Logf("%d pings, answers to posts %v", len(front.taken), front.statuses) })
}

func passes(t *testing.T, site *site.Site) map[string]store.PassState {
	t.Helper()
	states, err := site.Store.PassStates(t.Context())
	must(t, err)
	byName := map[string]store.PassState{}
	for _, s := range states {
		byName[s.Name] = s
	}
	return byName
}

// wantRunOnce holds that no duty ran more often than its period allows, however many servers tick it.
func wantRunOnce(t *testing.T, site *site.Site, elapsed time.Duration) {
	t.Helper()
	all := passes(t, site)
	for name, s := range all {
		allowed := 1 + int64(elapsed/(s.Every-s.Every/10))
		if s.Runs > allowed || s.Runs < 1 || s.Failures > 0 {
			t.Errorf("%s, due every %s, ran %d times in %s: %d failures, %s", name, s.Every, s.Runs, elapsed.Round(time.Second), s.Failures, s.Error)
		}
	}
	if len(all) < 5 {
		t.Errorf("only %d duties ever ran", len(all))
	}
}
