package backup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mongodb-forks/digest"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// part is a process that is killed and started again.
type part struct {
	t       *testing.T
	name    string
	args    []string
	process *harness.Process
}

// start starts it. At the end of the test it is stopped in order, so that no head outlives it.
func (p *part) start() {
	process := harness.Start(p.t, p.args...)
	p.process = process
	p.t.Cleanup(func() { // before harness's own, which kills
		if process.Running() {
			if err := process.Stop(time.Minute); err != nil {
				p.t.Errorf("%s ended with %v", p.name, err)
			}
		}
	})
}

// soakTime is how long the soak kills: two minutes, or HEARTWOOD_SOAK.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("HEARTWOOD_SOAK")
	if text == "" {
		return 2 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("HEARTWOOD_SOAK=%s: a duration is wanted, as 30m (%v)", text, err)
	}
	return d
}

// agentConfig writes an agent's configuration file.
func agentConfig(t *testing.T, site *client.Site, name string, seeds []string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, name+".config")
	text := fmt.Sprintf("mmsBaseUrl=%s\nmmsGroupId=%s\nmmsApiKey=%s\nstateDir=%s\n", site.Ingestion, site.Group, site.AgentKey, filepath.Join(dir, "state"))
	if len(seeds) > 0 {
		text += "seedHosts=" + strings.Join(seeds, ",") + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSoak kills the server with its backup daemon and the backup agent at random with kill -9, while the replica set is written
// to and elects new primaries, and then restores random seconds of all that time: each equals the model.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	seed, r := chance(t)
	releases := harness.Heads(t)
	d, err := mongosim.Start(t.Context(), mongosim.Options{ElectionEvery: 45 * time.Second, Lagging: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(context.Background()) })
	data, base := t.TempDir(), harness.PortBase(t)
	server := &part{t: t, name: "the server", args: []string{
		"serve", "--backup", "--data", data, "--port-base", strconv.Itoa(base), "--set", "mongodb.release.directory=" + releases.Dir,
	}}
	server.start()
	healthy := func() {
		harness.Eventually(t, time.Minute, "the server's health", func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(base)+"/monitor/health", nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK {
					err = fmt.Errorf("status %d", res.StatusCode)
				}
			}
			return err
		})
	}
	healthy()
	provisioned, err := client.Provision(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	agents := []*part{
		{t: t, name: "the backup agent", args: []string{"backup-agent", "--config", agentConfig(t, provisioned, "backup-agent", nil)}},
		{t: t, name: "the monitoring agent", args: []string{"monitoring-agent", "--config", agentConfig(t, provisioned, "monitoring-agent", d.Addresses())}},
	}
	for _, a := range agents {
		a.start()
	}
	keys, ok := provisioned.API.Transport.(*digest.Transport)
	if !ok {
		t.Fatalf("the API is signed by a %T", provisioned.API.Transport)
	}
	s := &site{t: t, env: append(os.Environ(), "HEARTWOOD_URL="+provisioned.URL, "HEARTWOOD_PUBLIC_KEY="+keys.Username, "HEARTWOOD_PRIVATE_KEY="+keys.Password, "HEARTWOOD_GROUP="+provisioned.Group)}
	harness.Eventually(t, 3*time.Minute, "the start of the backup", func(ctx context.Context) error {
		return s.heartwood(ctx, nil, "backup", "start", "rs0")
	})
	mc, err := mongo.Connect(options.Client().ApplyURI(d.URI()).SetWriteConcern(writeconcern.Majority()).SetTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mc.Disconnect(context.Background()) })
	m := &model{}
	end := m.begin(t, mc, seed)
	s.tailing()
	first := time.Now()
	kill(t, r, []*part{server, agents[0]}, healthy)
	healthy()
	last := time.Now()
	s.restorable(last)
	end()
	restores := 4
	if soakTime(t) > 10*time.Minute {
		restores = 10
	}
	s.verify(m, releases, r, first, last, restores)
}

// kill kills parts for as long as the soak lasts, and starts each again after a moment.
func kill(t *testing.T, r *rand.Rand, parts []*part, after func()) {
	t.Helper()
	killed := map[string]int{}
	for over := time.Now().Add(soakTime(t)); time.Now().Before(over); {
		pause(t, 5*time.Second+time.Duration(r.Int64N(int64(30*time.Second))))
		p := parts[r.IntN(len(parts))]
		if !p.process.Running() {
			t.Fatalf("%s ended by itself:\n%s", p.name, p.process.Log())
		}
		p.process.Kill()
		killed[p.name]++
		pause(t, time.Duration(r.Int64N(int64(3*time.Second))))
		p.start()
		after()
	}
	var said []string
	for name, n := range killed {
		said = append(said, fmt.Sprintf("%s %d times", name, n))
	}
	t.Logf("killed: %s", strings.Join(said, ", "))
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.FailNow()
	case <-time.After(d):
	}
}
