// Package cluster holds what Heartwood sees of replica sets, and how it lives on one, against what was done to their members:
// processes of a mongod, containers of a MongoDB image, or containers of the simulator (see tests/mongod).
package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/monitoragent"
	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/mongod"
)

// TestMain lets the tests run side by side: most of them wait for an agent's next round.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

// patience is how long a change may take to be seen: an election (ten seconds on a real set), two rounds of an agent, and a
// pass of alerts, on a machine that runs other tests.
const patience = 75 * time.Second

// world is a server in this process with an agent that watches a deployment.
type world struct {
	t    *testing.T
	db   *mongod.Deployment
	base int
	srv  *runner.Server
	site *client.Site
}

// startServer starts a server in this process; uri is its database, empty for the embedded one.
func startServer(t *testing.T, data, uri string) (*runner.Server, int) {
	t.Helper()
	base := harness.PortBase(t)
	flags := map[string]string{
		"heartwood.data": data, "heartwood.listen": "127.0.0.1:" + strconv.Itoa(base), "mongo.mongoUri": uri,
		"heartwood.ingestion.port": strconv.Itoa(base + 1), "heartwood.diagnostics.port": strconv.Itoa(base + 11),
		"heartwood.alerts.port": strconv.Itoa(base + 12), "heartwood.alerts.killPort": "0", "heartwood.alerts.every": "5s",
	}
	srv, err := runner.Start(t.Context(), runner.Options{Log: obs.Discard(), Sources: config.Sources{Flags: flags}})
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
	return srv, base
}

// watch starts a server, and an agent that is told of some seeds of a deployment.
func watch(t *testing.T, db *mongod.Deployment, seeds ...string) *world {
	t.Helper()
	w := &world{t: t, db: db}
	w.srv, w.base = startServer(t, t.TempDir(), "")
	var err error
	if w.site, err = client.Provision(t.Context(), w.base); err != nil {
		t.Fatal(err)
	}
	site := w.srv.Site()
	now := time.Now().UTC().Truncate(time.Millisecond)
	err = errors.Join(
		site.Inventory.UpdateGroup(t.Context(), w.group(), func(g *model.Group) error {
			g.Settings.PingSeconds = 10
			return nil
		}),
		site.Alerting.CreateConfig(t.Context(), model.AlertConfig{
			ID: model.NewID(), GroupID: w.group(), EventType: model.EventHostDown, Enabled: true, Created: now, Updated: now,
			Notifications: []model.Notification{{ID: model.NewID(), Channel: "GROUP", IntervalMin: 5}},
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	w.startAgent(seeds)
	return w
}

func (w *world) group() model.ID { return model.ID(w.site.Group) }

func (w *world) startAgent(seeds []string) {
	w.t.Helper()
	file := map[string]string{
		"mmsBaseUrl": "http://127.0.0.1:" + strconv.Itoa(w.base+1), "mmsGroupId": w.site.Group, "mmsApiKey": w.site.AgentKey,
		"seedHosts": strings.Join(seeds, ","), "stateDir": w.t.TempDir(), "serverSelectionTimeoutSeconds": "3", "dialTimeoutSeconds": "3",
	}
	if user, pass := w.db.Credentials(); user != "" {
		file["globalAuthUsername"], file["globalAuthPassword"] = user, pass
	}
	if ca := w.db.CAFile(); ca != "" {
		file["useSslForAllConnections"], file["sslTrustedServerCertificates"] = "true", ca
	}
	loaded, err := config.LoadAgent(config.AgentSources{File: file, FileName: "agent"})
	if err != nil {
		w.t.Fatal(err)
	}
	agent, err := monitoragent.New(monitoragent.Options{Config: loaded.Agent, Log: obs.Discard(), Version: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// status is what the server knows of a member.
func (w *world) status(ctx context.Context, i int) (model.HostStatus, error) {
	h, err := w.srv.Site().Inventory.FindHost(ctx, w.group(), w.db.Name(i))
	if err != nil {
		return model.HostStatus{}, err
	}
	return w.srv.Site().Inventory.Status(ctx, w.group(), h.ID)
}

// see waits until members are seen as wanted.
func (w *world) see(what string, members []int, want func(i int, s model.HostStatus) bool) {
	w.t.Helper()
	began := time.Now()
	harness.Eventually(w.t, patience, what, func(ctx context.Context) error {
		for _, i := range members {
			s, err := w.status(ctx, i)
			if err != nil {
				return fmt.Errorf("%s: %w", w.db.Name(i), err)
			}
			if !want(i, s) {
				return fmt.Errorf("%s: %s %s %s", w.db.Name(i), s.Reach, s.State, s.Error)
			}
		}
		return nil
	})
	w.t.Logf("%s: seen after %v", what, time.Since(began).Round(100*time.Millisecond))
}

// healthy waits until members answer, one of them as the primary that is the set's.
func (w *world) healthy(what string, members ...int) {
	w.t.Helper()
	w.see(what, members, func(i int, s model.HostStatus) bool {
		return s.Reach == model.ReachUp && s.Error == "" && (s.State == model.StatePrimary || s.State == model.StateSecondary)
	})
	primary := w.db.WaitPrimary()
	w.see(what+": who leads", members, func(i int, s model.HostStatus) bool { return (s.State == model.StatePrimary) == (i == primary) })
}

// alerts waits until the open HOST_DOWN alerts are exactly those of some members, by the Public API.
func (w *world) alerts(members ...int) {
	w.t.Helper()
	began := time.Now()
	harness.Eventually(w.t, patience, fmt.Sprintf("alerts of %v", members), func(ctx context.Context) error {
		var list struct {
			Results []struct{ EventTypeName, HostnameAndPort, Status string }
		}
		if err := w.site.Call(ctx, http.MethodGet, "/groups/"+w.site.Group+"/alerts?status=OPEN", nil, &list); err != nil {
			return err
		}
		var down []string
		for _, a := range list.Results {
			if a.EventTypeName == "HOST_DOWN" {
				down = append(down, a.HostnameAndPort)
			}
		}
		if len(down) != len(members) {
			return fmt.Errorf("open alerts: %v", down)
		}
		for _, i := range members {
			if !strings.Contains(strings.Join(down, " "), w.db.Name(i)) {
				return fmt.Errorf("open alerts: %v", down)
			}
		}
		return nil
	})
	w.t.Logf("HOST_DOWN of %v: after %v", members, time.Since(began).Round(100*time.Millisecond))
}

// events counts events of a type since a time, by host.
func (w *world) events(since time.Time, what model.EventType) map[string]int {
	w.t.Helper()
	list, _, err := w.srv.Site().Alerting.Events(w.t.Context(), alerting.EventQuery{GroupID: w.group(), Types: []model.EventType{what}, From: since})
	if err != nil {
		w.t.Fatal(err)
	}
	n := map[string]int{}
	for i := range list {
		n[list[i].HostName]++
	}
	return n
}

// api is what the Public API says of a member.
func (w *world) api(i int) map[string]any {
	w.t.Helper()
	s, err := w.status(w.t.Context(), i)
	if err != nil {
		w.t.Fatal(err)
	}
	var host map[string]any
	if err := w.site.Call(w.t.Context(), http.MethodGet, "/groups/"+w.site.Group+"/hosts/"+string(s.HostID), nil, &host); err != nil {
		w.t.Fatal(err)
	}
	return host
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// page gets a page of the group as a person who signed in.
func (w *world) page(path string) string {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	fetch := func(resp *http.Response, err error) string {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			w.t.Fatalf("%s: %s %v", resp.Request.URL, resp.Status, err)
		}
		return string(b)
	}
	m := csrfField.FindStringSubmatch(fetch(browser.Get(w.site.URL + "/login")))
	if m == nil {
		w.t.Fatal("the form has no token")
	}
	fetch(browser.PostForm(w.site.URL+"/login", url.Values{"csrf": {m[1]}, "username": {client.User}, "password": {client.Password}}))
	return fetch(browser.Get(w.site.URL + "/g/" + w.site.Group + path))
}

// health waits until the server's own health is a status.
func health(t *testing.T, base, want int) {
	t.Helper()
	harness.Eventually(t, patience, fmt.Sprintf("health %d", want), func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(base)+"/monitor/health", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			b, _ := io.ReadAll(resp.Body)
			return fmt.Errorf("%s: %s", resp.Status, b)
		}
		return nil
	})
}

func others(n int, but ...int) []int {
	var out []int
	for i := range n {
		out = append(out, i)
		for _, b := range but {
			if b == i {
				out = out[:len(out)-1]
				break
			}
		}
	}
	return out
}
