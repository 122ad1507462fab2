package balancer

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// behindHeader are the settings of servers behind a proxy that tells addresses by a header. This machine's other addresses are not
// trusted: tests come from them.
var behindHeader = []string{"mms.remoteIp.header=X-Forwarded-For", "heartwood.trustedProxies=127.0.0.1/32"}

// TestBehindHAProxy: HAProxy probes the servers. By the sample a server that fails is out after 2 s to the next probe, 3 s for it,
// and 1 s and 3 s for the second; the server itself keeps its health for 5 s.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel()
	harness.Need(t, "haproxy")
	w := newWorld(t, behindHeader...)
	f := startHAProxy(t, "haproxy/haproxy.cfg", w.servers)
	w.suffer(f, 12*time.Second)
}

// TestBehindHAProxyOnLayer4: connections are passed on as they are.
func TestBehindHAProxyOnLayer4(t *testing.T) {
	t.Parallel()
	harness.Need(t, "haproxy")
	w := newWorld(t, "heartwood.proxyProtocol=required", "heartwood.trustedProxies=127.0.0.1/32")
	f := startHAProxy(t, "haproxy/haproxy-tcp.cfg", w.servers)
	w.suffer(f, 12*time.Second)
}

// TestBehindNginx: nginx learns from requests that fail. The times after which it gives a silent server up are cut to a tenth.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	harness.Need(t, "nginx")
	w := newWorld(t, behindHeader...)
	f := startNginx(t, w.servers, "proxy_read_timeout 30s;", "proxy_read_timeout 3s;", "proxy_read_timeout 75s;", "proxy_read_timeout 7s;")
	w.suffer(f, 8*time.Second)
}

// world is two servers on one database, one of which reaches it by a way that can be cut.
type world struct {
	t       *testing.T
	servers []*server
	wire    *wire
	site    *client.Site
	inside  *site.Site
	watched *mongosim.Deployment
	front   *front
}

func newWorld(t *testing.T, settings ...string) *world {
	t.Helper()
	db := startSet(t, mongosim.Options{})
	w := &world{t: t, watched: startSet(t, mongosim.Options{SetName: "watched"})}
	w.wire = startWire(t, db.Addresses()[db.Primary()])
	w.servers = newServers(t, []string{"mongodb://" + w.wire.l.Addr().String() + "/?directConnection=true", db.URI()}, settings...)
	w.inside = look(t, w.servers[0].data, db.URI())
	return w
}

// suffer lets all happen to the servers that may, under traffic.
func (w *world) suffer(f *front, detect time.Duration) {
	t := w.t
	w.front = f
	w.site = provision(t, f.base)
	must(t, w.inside.Inventory.UpdateGroup(t.Context(), model.ID(w.site.Group), func(g *model.Group) error {
		g.Settings.PingSeconds = 10 // the shortest there is
		return nil
	}))
	agent := harness.Start(t, "monitoring-agent", "--config", w.agentFile(f))
	began := time.Now()
	tr := startTraffic(t, f, w.site)
	tr.flow(40, 30*time.Second)
	tr.wantWell("two servers that are well", began)
	for i, s := range w.servers {
		if s.served() < 20 {
			t.Errorf("server %d was asked %d times", i, s.served())
		}
	}

	first, second := w.servers[0], w.servers[1]
	sick := func(what string, detect time.Duration, fall, mend func()) {
		t.Helper()
		began := time.Now()
		fall()
		time.Sleep(detect) // the time itself is what is promised
		tr.flow(40, 30*time.Second)
		tr.wantWell(what, began.Add(detect))
		mend()
		for _, s := range w.servers {
			s.healthy()
		}
		back := first.served() + second.served()
		mended := time.Now()
		tr.flow(40, 30*time.Second)
		tr.wantWell(what+", mended", mended)
		if first.served()+second.served() == back {
			t.Errorf("%s: nothing is served", what)
		}
	}
	sick("killed", detect, first.Kill, first.start)
	sick("stopped in the middle (SIGSTOP)", detect,
		func() { must(t, second.Cmd.Process.Signal(syscall.SIGSTOP)) }, func() { must(t, second.Cmd.Process.Signal(syscall.SIGCONT)) })
	sick("cut off its database", detect, func() { w.wire.set(true) }, func() { w.wire.set(false) })
	w.waitServed(tr, "both servers serve again")
	tr.wantWell("both servers serve again", time.Now())

	// A rolling restart is announced to the balancer: nothing fails at all.
	for i, s := range w.servers {
		began := time.Now()
		if err := s.Stop(40 * time.Second); err != nil {
			t.Errorf("server %d: %v", i, err)
		}
		if took := time.Since(began); took < 5*time.Second {
			t.Errorf("server %d stopped after %v: it did not drain", i, took)
		}
		s.start()
		s.healthy()
		w.wantNoUpgrade()
		w.waitServed(tr, "the restarted server serves")
		tr.wantWell(fmt.Sprintf("rolling restart, server %d", i), began)
	}
	if err := agent.Stop(30 * time.Second); err != nil { // it posts what it has
		t.Error(err)
	}
	tr.end()
	tr.wantStored(w.inside)
	w.wantEvenly(tr)
}

// waitServed waits until both servers are given requests.
func (w *world) waitServed(tr *traffic, what string) {
	w.t.Helper()
	before := []int{w.servers[0].served(), w.servers[1].served()}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // on layer 4 a connection stays where it is
	harness.Eventually(w.t, 30*time.Second, what, func(ctx context.Context) error {
		for range 10 {
			if status, _, err := get(ctx, fresh, local(w.front.base, "/login")); err != nil || status != http.StatusOK {
				w.t.Errorf("%s: status %d, %v", what, status, err)
			}
		}
		for i, s := range w.servers {
			if n := s.served(); n < before[i]+10 {
				return fmt.Errorf("server %d was asked %d times since", i, n-before[i])
			}
		}
		return nil
	})
	tr.flow(10, 30*time.Second)
}

// wantNoUpgrade holds that a restart with the same version is no upgrade: no banner, writes go on.
func (w *world) wantNoUpgrade() {
	w.t.Helper()
	for i, s := range w.servers {
		_, body, err := get(w.t.Context(), clientFrom(w.t, "127.0.0.1"), local(s.base+diagnostics, "/health"))
		if err != nil || !strings.Contains(body, `"upgradeMode":false`) {
			w.t.Errorf("server %d: %v %s", i, err, body)
		}
	}
}

func (w *world) agentFile(f *front) string {
	w.t.Helper()
	dir := w.t.TempDir()
	file := filepath.Join(dir, "monitoring-agent.config")
	text := fmt.Sprintf("mmsBaseUrl=%s\nmmsGroupId=%s\nmmsApiKey=%s\nseedHosts=%s\nstateDir=%s\n",
		local(f.base+agents, ""), w.site.Group, w.site.AgentKey, w.watched.Addresses()[0], filepath.Join(dir, "state"))
	must(w.t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// wantEvenly holds that no round of the agent is missing, whatever happened to the servers.
func (w *world) wantEvenly(tr *traffic) {
	w.t.Helper()
	have, err := rows(w.t.Context(), w.inside)
	must(w.t, err)
	of := map[string][]int64{}
	for k := range have {
		if !tr.hosts[k.host] { // of the agent; the last post of the traffic may be stored and not acknowledged
			of[k.host] = append(of[k.host], k.at)
		}
	}
	if len(of) != w.watched.Len() {
		w.t.Errorf("pings of %d hosts", len(of))
	}
	for host, at := range of {
		slices.Sort(at)
		for i := 1; i < len(at); i++ {
			if gap := time.Duration(at[i]-at[i-1]) * time.Millisecond; gap > 19*time.Second {
				w.t.Errorf("host %s: nothing for %s before %s", host, gap, time.UnixMilli(at[i]).UTC().Format(time.RFC3339))
			}
		}
		w.t.Logf("host %s: %d pings, no round missing", host, len(at))
	}
}
