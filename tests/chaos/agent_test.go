package chaos

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestAgentKilledWhileTheServerIsAway kills an agent that has pings in its spool, starts it again while nobody answers, and
// expects every ping it ever tried to post to be delivered once the server is back.
func TestAgentKilledWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	watched := startSet(t, mongosim.Options{SetName: "watched"})
	data, base := t.TempDir(), harness.PortBase(t)
	srv := startServer(t, data, base)
	site := provision(t, base)
	hurry(t, srv.Site(), site.Group)
	front := startRelay(t, local(base+1, ""))
	config := agentFile(t, front.URL, site, watched.Addresses())
	agent := harness.Start(t, "monitoring-agent", "--config", config)
	harness.Eventually(t, 30*time.Second, "a ping of every member", func(context.Context) error {
		if _, hosts := front.answered(); hosts < watched.Len() {
			return fmt.Errorf("%d of %d hosts", hosts, watched.Len())
		}
		return nil
	})

	front.see(func() { front.down = true })
	var before map[pingKey]bool // what the agent had in its spool, as far as it told
	harness.Eventually(t, 40*time.Second, "two rounds that wait", func(context.Context) error {
		if n, _ := front.waiting(); n < 2*watched.Len() {
			return fmt.Errorf("%d pings wait", n)
		}
		return nil
	})
	agent.Kill()
	front.see(func() { before = maps.Clone(front.refused) })
	agent = harness.Start(t, "monitoring-agent", "--config", config)
	harness.Eventually(t, 30*time.Second, "pings of the second start", func(context.Context) error {
		var now int
		front.see(func() { now = len(front.refused) })
		if now == len(before) {
			return fmt.Errorf("still %d", now)
		}
		return nil
	})

	front.see(func() { front.down = false })
	harness.Eventually(t, time.Minute, "delivery of what waited", func(context.Context) error {
		if n, _ := front.waiting(); n > 0 {
			return fmt.Errorf("%d pings wait", n)
		}
		return nil
	})
	if err := agent.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
	pings, _ := front.answered()
	stored := rows(t, srv.Site())
	wantStored(t, stored, pings)
	front.see(func() {
		for k := range front.posted {
			if !stored[k] {
				t.Errorf("the agent had the ping of host %s of %s, the server never got it", k.host, time.UnixMilli(k.at).UTC())
			}
		}
		t.Logf("%d pings, %d of them posted in vain before the kill, %d after", len(front.taken), len(before), len(front.refused)-len(before))
	})
	front.wantInOrder(true)
	agents, err := srv.Site().Inventory.Agents(t.Context(), groupID(site))
	if err != nil || len(agents) != 1 || agents[0].Dropped > 0 || agents[0].Type == "" {
		t.Errorf("agents %+v: %v", agents, err)
	}
}
