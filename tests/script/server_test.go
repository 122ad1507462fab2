package script

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mongodb-forks/digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/heartwood-db/heartwood/local/runner"
	sites "github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/tests/client"
)

// server starts a whole server in the test's process, on ports of its own, with a group that has a host, an open alert of a
// configuration and a past. It stops with the script. The environment tells the script about it: URL, PUBLIC, HEARTWOOD_PRIVATE_KEY,
// GROUP, CONFIG, ALERT, HOST, HOOK (a catcher of webhooks, whose messages are in $WORK/hook.txt). Alerts are not evaluated: nothing
// changes while a script looks at it.
func server(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: server")
	}
	base, err := strconv.Atoi(ts.Getenv("PORTS"))
	ts.Check(err)
	dir := ts.Getenv("WORK")
	ctx := context.Background()
	srv, err := runner.Start(ctx, runner.Options{
		Sources: config.Sources{Flags: map[string]string{
			"heartwood.data": filepath.Join(dir, "data"), "heartwood.listen": "127.0.0.1:" + strconv.Itoa(base),
			"heartwood.ingestion.port": strconv.Itoa(base + 1), "heartwood.diagnostics.port": strconv.Itoa(base + 11),
			"heartwood.alerts.port": strconv.Itoa(base + 12), "heartwood.alerts.killPort": strconv.Itoa(base + 570),
			"heartwood.alerts.enabled": "false", "heartwood.alerts.webhook.allow": "127.0.0.0/8",
		}},
		Log: obs.Discard(),
	})
	ts.Check(err)
	ts.Defer(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := srv.Stop(ctx); err != nil {
			ts.Logf("stop the server: %v", err)
		}
	})
	if r, ok := ts.Value(siteKey).(*running); ok {
		r.site = srv.Site()
	}
	site, err := client.Provision(ctx, base)
	ts.Check(err)
	hosts, err := site.AddHosts(ctx, 1)
	ts.Check(err)
	keys, ok := site.API.Transport.(*digest.Transport)
	if !ok {
		ts.Fatalf("the client signs in otherwise than by digest")
	}
	hook := catcher(ts, filepath.Join(dir, "hook.txt"))
	config, alert := seed(ctx, ts, srv.Site(), model.ID(site.Group), model.HostID(hosts[0].ID))
	for name, value := range map[string]string{
		"URL": site.URL, "PUBLIC": keys.Username, "HEARTWOOD_PRIVATE_KEY": keys.Password, "GROUP": site.Group, "HOOK": hook,
		"CONFIG": string(config), "ALERT": string(alert), "HOST": model.Address(hosts[0].Hostname, int(hosts[0].Port)), "NOBODY": string(model.NewID()),
		"HEARTWOOD_PROFILE_FILE": filepath.Join(dir, "profiles.yaml"), "TODAY": time.Now().UTC().Format(time.DateOnly),
		"TOMORROW": time.Now().UTC().AddDate(0, 0, 1).Format(time.DateOnly),
	} {
		ts.Setenv(name, value)
	}
}

// catcher writes what is posted to it into a file, and answers 500 below /broken.
func catcher(ts *testscript.TestScript, file string) string {
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, _ = fmt.Fprintf(f, "%s %s\n%s\n", r.URL.Path, r.Header.Get("X-MMS-Event"), body)
			_ = f.Close()
		}
		if strings.HasPrefix(r.URL.Path, "/broken") {
			http.Error(w, "out of order", http.StatusBadRequest)
		}
	}))
	ts.Defer(srv.Close)
	return srv.URL
}

// seed gives the group a configuration, an open alert of it, and a past in which its host was down twice.
func seed(ctx context.Context, ts *testscript.TestScript, site *sites.Site, group model.ID, host model.HostID) (config, alert model.ID) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	h, err := site.Inventory.Hosts(ctx, group)
	ts.Check(err)
	name := h[0].Address()
	c := model.AlertConfig{
		ID: model.NewID(), GroupID: group, EventType: model.EventHostDown, Enabled: true, Created: now.Add(-48 * time.Hour), Updated: now.Add(-48 * time.Hour),
		Notifications: []model.Notification{{ID: model.NewID(), Channel: notify.Email, IntervalMin: 5, DelayMin: 2, Fields: map[string]string{"emailAddress": "ops@example.com"}}},
		Note:          "Look at the rack.",
	}
	ts.Check(site.Alerting.CreateConfig(ctx, c))
	a := model.Alert{
		ID: model.NewID(), GroupID: group, ConfigID: c.ID, EventType: c.EventType, Status: model.AlertOpen, Rule: c,
		Target: model.Target{Key: "host/" + string(host), HostID: host, HostName: name},
		Since:  now.Add(-20 * time.Minute), Created: now.Add(-20 * time.Minute), Opened: now.Add(-18 * time.Minute), Updated: now,
		Text:    name + " is down.",
		History: []model.AlertStep{{At: now.Add(-18 * time.Minute), Kind: model.StepOpened, Text: "held for 2 minutes"}},
	}
	live, err := site.Alerting.StartAlert(ctx, a)
	ts.Check(err)
	for _, ago := range []time.Duration{50 * time.Hour, 30 * time.Hour} {
		ts.Check(site.Alerting.AddEvents(ctx,
			model.Event{At: now.Add(-ago), Type: model.EventHostDown, GroupID: group, HostID: host, HostName: name},
			model.Event{At: now.Add(-ago + time.Hour), Type: model.EventHostUp, GroupID: group, HostID: host, HostName: name},
		))
	}
	return c.ID, live.Alert.ID
}

// pick sets a variable to what the first group of a pattern matches in a file.
func pick(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: pick VARIABLE FILE PATTERN")
	}
	m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) < 2 {
		ts.Fatalf("%s does not match %s", args[1], args[2])
	}
	ts.Setenv(args[0], m[1])
}

// waitFor waits until a file is there.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wait-for FILE")
	}
	const patience = 30 * time.Second
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("%s is not there after %v", args[0], patience)
}
