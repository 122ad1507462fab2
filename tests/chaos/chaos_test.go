// Package chaos kills, cuts off and starves running programs and checks that nothing acknowledged is lost.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// TestMain lets more tests run side by side than there are processors: most of them wait for an agent's next round.
func TestMain(m *testing.M) {
	if os.Getenv(childFile) != "" { // run by a test of this package, to be killed
		if err := alertsChild(context.Background()); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

// local is a URL of a server on this machine.
func local(port int, path string) string { return "http://127.0.0.1:" + strconv.Itoa(port) + path }

// diagnostics is the distance of the diagnostics port from a server's first.
const diagnostics = 11

// serve starts a server on the data folder and waits until it is healthy.
func serve(t *testing.T, data string, base int, args ...string) *harness.Process {
	t.Helper()
	p := harness.Start(t, append([]string{"serve", "--data", data, "--port-base", strconv.Itoa(base)}, args...)...)
	harness.Eventually(t, 30*time.Second, "the server's health", func(ctx context.Context) error {
		return wantStatus(ctx, local(base, "/monitor/health"), http.StatusOK)
	})
	return p
}

func get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func wantStatus(ctx context.Context, url string, want int) error {
	status, _, err := get(ctx, url)
	if err == nil && status != want {
		err = fmt.Errorf("%s: status %d, want %d", url, status, want)
	}
	return err
}

// startSet starts a simulated replica set of three in this process.
func startSet(t *testing.T, o mongosim.Options) *mongosim.Deployment {
	t.Helper()
	o.DBPath, o.NoSync = t.TempDir(), true
	d, err := mongosim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

// look opens a server's database, to see what no page shows: beside running servers when it is a replica set, after they
// stopped when it is the embedded one (uri is empty).
func look(t *testing.T, data, uri string) *site.Site {
	t.Helper()
	flags := map[string]string{"heartwood.data": data, "mongo.mongoUri": uri}
	site, err := site.Open(t.Context(), config.Sources{Flags: flags}, obs.Discard(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Close(); err != nil {
			t.Error(err)
		}
	})
	return site
}

// startServer starts a server in this process, for tests that look into its database while it runs.
func startServer(t *testing.T, data string, base int) *runner.Server {
	t.Helper()
	srv, err := runner.Start(t.Context(), runner.Options{Log: obs.Discard(), Sources: config.Sources{Flags: map[string]string{
		"heartwood.data": data, "heartwood.listen": "127.0.0.1:" + strconv.Itoa(base),
		"heartwood.ingestion.port": strconv.Itoa(base + 1), "heartwood.diagnostics.port": strconv.Itoa(base + diagnostics),
		"heartwood.alerts.port": strconv.Itoa(base + diagnostics + 1), "heartwood.alerts.killPort": "0", "heartwood.alerts.every": "5s", "heartwood.alerts.webhook.allow": "127.0.0.0/8",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := srv.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return srv
}

func provision(t *testing.T, base int) *client.Site {
	t.Helper()
	site, err := client.Provision(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	return site
}

// hurry makes a group's agents ping every ten seconds, the shortest period there is.
func hurry(t *testing.T, site *site.Site, group string) {
	t.Helper()
	err := site.Inventory.UpdateGroup(t.Context(), model.ID(group), func(g *model.Group) error {
		g.Settings.PingSeconds = 10
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// agentFile writes the configuration of a monitoring agent that watches a deployment, and returns the file's name.
func agentFile(t *testing.T, url string, site *client.Site, seeds []string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "monitoring-agent.config")
	text := fmt.Sprintf("mmsBaseUrl=%s\nmmsGroupId=%s\nmmsApiKey=%s\nseedHosts=%s\nstateDir=%s\nserverSelectionTimeoutSeconds=3\ndialTimeoutSeconds=3\n",
		url, site.Group, site.AgentKey, strings.Join(seeds, ","), filepath.Join(dir, "state"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// template reads the recorded replies.
func template(t *testing.T) *replies.Template {
	t.Helper()
	tpl, err := replies.New()
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

// addHosts makes the server know n hosts.
func addHosts(t *testing.T, site *client.Site, n int) []wire.Host {
	t.Helper()
	hosts, err := site.AddHosts(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return hosts
}

// post encodes a post of one ping of each host.
func post(t *testing.T, site *client.Site, tpl *replies.Template, hosts []wire.Host, at time.Time, seq int64) []byte {
	t.Helper()
	msg := wire.Post{Version: wire.Version, Agent: site.Agent, Sent: time.Now().UTC(), Seq: seq}
	for _, h := range hosts {
		z, err := wire.EncodeReplies(tpl.At(nil, replies.Number(h.Hostname), at.Sub(at.Truncate(24*time.Hour))+time.Hour, at))
		if err != nil {
			t.Error(err)
			return nil
		}
		msg.Pings = append(msg.Pings, wire.Ping{
			HostID: h.ID, At: at, Late: true, RTT: 400, Address: h.Hostname + ":" + strconv.Itoa(int(h.Port)), IP: "127.0.0.1", Replies: z,
		})
	}
	b, err := wire.EncodePost(msg)
	if err != nil {
		t.Error(err)
	}
	return b
}

// pingKey identifies a ping: the host and the time in Unix milliseconds.
type pingKey struct {
	host string
	at   int64
}

// rows are the pings of which the database holds the row that every ping with replies leaves, until the hour is over.
func rows(t *testing.T, site *site.Site) map[pingKey]bool {
	t.Helper()
	have := map[pingKey]bool{}
	q := docstore.Query{Collection: "series.rows"}
	for {
		page, err := site.Store.Engine().Scan(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Docs {
			part := strings.Split(d.ID, "/") // bucket/hour/host/milliseconds
			if len(part) != 4 {
				t.Fatalf("row %q", d.ID)
			}
			hour, err := time.Parse("2006010215", part[1])
			if err != nil {
				t.Fatal(err)
			}
			ms, err := strconv.Atoi(part[3])
			if err != nil {
				t.Fatal(err)
			}
			have[pingKey{part[2], hour.UnixMilli() + int64(ms)}] = true
		}
		if page.Next == "" {
			return have
		}
		q.Resume = page.Next
	}
}

// events lists a group's events of some types, oldest first.
func events(t *testing.T, site *site.Site, q alerting.EventQuery) []model.Event {
	t.Helper()
	var all []model.Event
	for {
		page, next, err := site.Alerting.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if next == "" {
			break
		}
		q.Before = next
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all
}

func groupID(site *client.Site) model.ID { return model.ID(site.Group) }
