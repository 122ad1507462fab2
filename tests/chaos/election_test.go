package chaos

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// scale is how many hosts post and how often their database elects: few by default, more where HEARTWOOD_CHAOS_HOSTS and
// HEARTWOOD_CHAOS_ELECTIONS say so (500 hosts is the size that is promised).
func scale(t *testing.T) (hosts, elections int) {
	t.Helper()
	read := func(name string, value int) int {
		text := os.Getenv(name)
		if text == "" {
			return value
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s is no number", name, text)
		}
		return n
	}
	const members = 3 // of the sets that the replies are of: whole sets, so that nobody else is discovered
	hosts = (read("HEARTWOOD_CHAOS_HOSTS", 60) + members - 1) / members * members
	return hosts, read("HEARTWOOD_CHAOS_ELECTIONS", 4)
}

// elect makes a set choose another primary, each time for another reason, and heals it when the others have gone on for a while.
func elect(t *testing.T, sim *mongosim.Deployment, n int, goOn func()) {
	t.Helper()
	must(t, sim.WaitPrimary(t.Context()))
	old := sim.Primary()
	if old < 0 {
		t.Fatal("no primary")
	}
	switch m := sim.Member(old); n % 4 {
	case 0: // asked to
		must(t, sim.StepDown(t.Context()))
		goOn()
	case 1: // it dies
		must(t, sim.Kill(old))
		goOn()
		must(t, sim.Restart(old))
	case 2: // it loses the others, while clients still reach it
		m.Cut(true)
		goOn()
		m.Cut(false)
	case 3: // it hangs
		m.Pause()
		goOn()
		m.Resume()
	}
}

// TestElectionsUnderLoad makes the server's database elect again and again while agents post.
func TestElectionsUnderLoad(t *testing.T) {
	hosts, elections := scale(t)
	sim := startSet(t, mongosim.Options{})
	data, base := t.TempDir(), harness.PortBase(t)
	srv := serve(t, data, base, "--set", "mongo.mongoUri="+sim.URI())
	site := provision(t, base)
	const perPost = 25
	load := startTraffic(t, site, addHosts(t, site, hosts), (hosts+perPost-1)/perPost)
	round := func() { load.more(int64(hosts)) }
	for i := range elections {
		round()
		elect(t, sim, i, round)
	}
	round()
	load.finish()
	if !srv.Running() {
		t.Error("the server exited")
	}
	if err := srv.Stop(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	db := look(t, data, sim.URI())
	load.verify(db)
	wantEachOnce(t, events(t, db, alerting.EventQuery{GroupID: groupID(site), Types: []model.EventType{model.EventNewHost}}), hosts)
	t.Logf("%d pings of %d hosts acknowledged through %d elections, %d posts sent again", load.acked.Load(), hosts, elections, load.refused.Load())
}

// wantEachOnce holds that so many different things happened, each once.
func wantEachOnce(t *testing.T, list []model.Event, want int) {
	t.Helper()
	seen := map[string]int{}
	for i := range list {
		e := &list[i]
		seen[fmt.Sprintf("%s %s %s", e.Type, e.HostName, e.At.UTC().Format(time.RFC3339Nano))]++
	}
	for what, n := range seen {
		if n > 1 {
			t.Errorf("%s: %d events", what, n)
		}
	}
	if len(seen) != want {
		t.Errorf("%d events, want %d", len(seen), want)
	}
}
