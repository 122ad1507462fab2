package chaos

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// period is the shortest between pings.
const period = 10 * time.Second

// TestDatabaseAway stops all members of the server's database while an agent posts.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	db := startSet(t, mongosim.Options{})
	watched := startSet(t, mongosim.Options{SetName: "watched"})
	data, base := t.TempDir(), harness.PortBase(t)
	srv := serve(t, data, base, "--set", "mongo.mongoUri="+db.URI())
	site := provision(t, base)
	inside := look(t, data, db.URI())
	hurry(t, inside, site.Group)
	front := startRelay(t, local(base+1, ""))
	agent := harness.Start(t, "monitoring-agent", "--config", agentFile(t, front.URL, site, watched.Addresses()[:1]))
	harness.Eventually(t, 30*time.Second, "a ping of every member", func(context.Context) error {
		if _, hosts := front.answered(); hosts < watched.Len() {
			return fmt.Errorf("%d of %d hosts", hosts, watched.Len())
		}
		return nil
	})

	for i := range db.Len() {
		if err := db.Shutdown(i); err != nil {
			t.Fatal(err)
		}
	}
	// Long enough for pings to be late: they are when two periods old.
	harness.Eventually(t, time.Minute, "pings that wait", func(ctx context.Context) error {
		n, oldest := front.waiting()
		if n == 0 || time.Since(oldest) < 2*period+time.Second {
			return fmt.Errorf("%d wait since %v", n, oldest)
		}
		return wantStatus(ctx, local(base, "/monitor/health"), http.StatusInternalServerError)
	})
	front.see(func() {
		if front.statuses[http.StatusServiceUnavailable] == 0 || front.problem.Code != wire.CodeUnavailable {
			t.Errorf("posts were answered %v, the last refusal %+v", front.statuses, front.problem)
		}
	})
	for _, port := range []int{base + 1, base + diagnostics} {
		if err := wantStatus(t.Context(), local(port, "/monitor/health"), http.StatusInternalServerError); err != nil {
			t.Error(err)
		}
	}
	if err := wantStatus(t.Context(), local(base+diagnostics, "/live"), http.StatusOK); err != nil {
		t.Error(err)
	}
	if status, body, err := get(t.Context(), local(base+diagnostics, "/health")); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("/health: %d %s %v", status, body, err)
	}

	for i := range db.Len() {
		if err := db.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, time.Minute, "delivery of what waited", func(ctx context.Context) error {
		if n, _ := front.waiting(); n > 0 {
			return fmt.Errorf("%d pings wait", n)
		}
		return wantStatus(ctx, local(base, "/monitor/health"), http.StatusOK)
	})
	if err := agent.Stop(20 * time.Second); err != nil { // it posts what it has
		t.Error(err)
	}
	front.wantInOrder(false)
	pings, _ := front.answered()
	wantEvenly(t, pings, period)
	wantStored(t, rows(t, inside), pings)
	front.see(func() {
		late := 0
		for _, p := range front.taken {
			if p.Late {
				late++
			}
			if len(p.Errors) > 0 {
				t.Errorf("ping of %s: %v", p.Address, p.Errors)
			}
		}
		if late == 0 {
			t.Error("no ping was marked late")
		}
		t.Logf("%d pings, %d of them late, answers %v", len(front.taken), late, front.statuses)
	})
	wantEachOnce(t, events(t, inside, alerting.EventQuery{GroupID: groupID(site), Types: []model.EventType{model.EventNewHost}}), watched.Len())
	down := events(t, inside, alerting.EventQuery{GroupID: groupID(site), Types: []model.EventType{model.EventHostDown}})
	if len(down) > 0 {
		t.Errorf("hosts counted as down while it was the server that heard nothing: %+v", down)
	}
	if !srv.Running() {
		t.Error("the server exited")
	}
	if err := srv.Stop(30 * time.Second); err != nil {
		t.Error(err)
	}
}
