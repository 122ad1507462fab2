// Package balancer holds that servers can stand behind HAProxy and nginx as the samples in infra set them up: no request fails
// longer than a health check takes, whatever happens to one of the servers, and the clients' addresses are seen.
package balancer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

// agents and diagnostics are the distances of these ports from a server's first.
const (
	agents      = 1
	diagnostics = 11
)

func local(port int, path string) string { return "http://127.0.0.1:" + strconv.Itoa(port) + path }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startSet starts a simulated replica set of three in this process.
func startSet(t *testing.T, o mongosim.Options) *mongosim.Deployment {
	t.Helper()
	o.DBPath, o.NoSync = t.TempDir(), true
	d, err := mongosim.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Logf("the database is the simulator: a replica set of %d", d.Len())
	return d
}

// server is one of several on a database.
type server struct {
	t    *testing.T
	data string
	base int
	args []string
	*harness.Process
}

// newServers prepares servers of one site, started in turn: each has the first one's key. With uris they reach the database by
// different ways.
func newServers(t *testing.T, uris []string, settings ...string) []*server {
	t.Helper()
	all := make([]*server, len(uris))
	for i, uri := range uris {
		s := &server{t: t, data: t.TempDir(), base: harness.PortBase(t)}
		for _, set := range append([]string{"mongo.mongoUri=" + uri}, settings...) {
			s.args = append(s.args, "--set", set)
		}
		if i > 0 {
			key, err := os.ReadFile(filepath.Join(all[0].data, "gen.key"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(s.data, "gen.key"), key, 0o600))
		}
		s.start()
		s.healthy()
		all[i] = s
	}
	return all
}

func (s *server) start() {
	s.t.Helper()
	s.Process = harness.Start(s.t, append([]string{"serve", "--data", s.data, "--port-base", strconv.Itoa(s.base)}, s.args...)...)
}

// healthy waits until the server says it is well, on the port that is for this machine.
func (s *server) healthy() {
	s.t.Helper()
	harness.Eventually(s.t, 60*time.Second, "the server's health", func(ctx context.Context) error {
		status, body, err := get(ctx, http.DefaultClient, local(s.base+diagnostics, "/monitor/health"))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err
	})
}

// served is how many requests of a function the server has answered, health checks left out.
func (s *server) served() int {
	s.t.Helper()
	_, metrics, err := get(s.t.Context(), http.DefaultClient, local(s.base+diagnostics, "/metrics"))
	must(s.t, err)
	n := 0
	for line := range strings.Lines(metrics) {
		if !strings.HasPrefix(line, "heartwood_http_requests_total{") || strings.Contains(line, "/monitor/health") {
			continue
		}
		fields := strings.Fields(line)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		must(s.t, err)
		n += int(v)
	}
	return n
}

func get(ctx context.Context, c *http.Client, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// look opens the servers' database, to see what no page shows.
func look(t *testing.T, data, uri string) *site.Site {
	t.Helper()
	s, err := site.Open(t.Context(), config.Sources{Flags: map[string]string{"heartwood.data": data, "mongo.mongoUri": uri}}, obs.Discard(), nil)
	must(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func provision(t *testing.T, base int) *client.Site {
	t.Helper()
	s, err := client.Provision(t.Context(), base)
	must(t, err)
	return s
}

// wire is a way to the database that can be cut: its connections die, and new ones do at once.
type wire struct {
	l     net.Listener
	to    string
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func startWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{l: l, to: to, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		w.set(true)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
	return w
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	w.mu.Lock()
	cut := w.cut
	w.mu.Unlock()
	if cut {
		return
	}
	up, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer up.Close()
	w.mu.Lock()
	w.conns[c] = true
	w.mu.Unlock()
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
	w.mu.Lock()
	delete(w.conns, c)
	w.mu.Unlock()
}

// set cuts the way or mends it.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for c := range w.conns {
		if cut {
			_ = c.Close()
		}
	}
}

// front is a running load balancer made from a sample.
type front struct {
	name          string
	base          int // of pages; agents are the next
	log           string
	access        string // where it logs requests
	secure, agent int    // the ports with TLS
}

// substitute replaces texts of a sample; each must be in it, or the sample is no longer the one that was meant.
func substitute(t *testing.T, sample string, pairs ...string) string {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(sample, pairs[i]) {
			t.Fatalf("the sample has no %q", pairs[i])
		}
		sample = strings.ReplaceAll(sample, pairs[i], pairs[i+1])
	}
	return sample
}

func sample(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(harness.Root(t), "infra", file))
	must(t, err)
	return string(b)
}

// servers are the replacements for the addresses of the two servers in a sample.
func servers(all []*server) []string {
	return []string{
		"10.0.0.11:8080", addr(all[0].base), "10.0.0.12:8080", addr(all[len(all)-1].base),
		"10.0.0.11:8081", addr(all[0].base + agents), "10.0.0.12:8081", addr(all[len(all)-1].base + agents),
	}
}

func addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// startHAProxy runs HAProxy with a sample in which the ports and what else is given are replaced.
func startHAProxy(t *testing.T, file string, all []*server, pairs ...string) *front {
	t.Helper()
	program := harness.Need(t, "haproxy")
	f := &front{name: "haproxy", base: harness.PortBase(t)}
	text := substitute(t, sample(t, file), append(append(pairs, "bind :8080", "bind "+addr(f.base), "bind :8081", "bind "+addr(f.base+agents)), servers(all)...)...)
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	must(t, os.WriteFile(conf, []byte(text), 0o600))
	if out, err := exec.CommandContext(t.Context(), program, "-c", "-f", conf).CombinedOutput(); err != nil || strings.Contains(string(out), "WARNING") {
		t.Fatalf("haproxy -c: %v\n%s", err, out)
	}
	f.run(t, exec.Command(program, "-db", "-f", conf))
	return f
}

// startNginx runs nginx likewise. Its files are put into a folder of the test.
func startNginx(t *testing.T, all []*server, pairs ...string) *front {
	t.Helper()
	program := harness.Need(t, "nginx")
	dir := t.TempDir()
	f := &front{name: "nginx", base: harness.PortBase(t), access: filepath.Join(dir, "access.log")}
	temp := "http {\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += "\t" + kind + "_temp_path " + filepath.Join(dir, kind) + ";\n"
	}
	text := substitute(t, sample(t, "nginx/nginx.conf"), append(append(pairs,
		"listen 8080;", "listen "+addr(f.base)+";", "listen 8081;", "listen "+addr(f.base+agents)+";", "http {\n", temp, "/var/log/nginx/", dir+"/",
	), servers(all)...)...)
	conf := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(conf, []byte(text), 0o600))
	more := "daemon off; pid " + filepath.Join(dir, "pid") + ";"
	if os.Getuid() == 0 {
		more += " user root;" // its workers must reach the test's folder
	}
	args := []string{"-p", dir, "-c", conf, "-e", "stderr", "-g", more}
	if out, err := exec.CommandContext(t.Context(), program, append([]string{"-t"}, args...)...).CombinedOutput(); err != nil || strings.Contains(string(out), "[warn]") {
		t.Fatalf("nginx -t: %v\n%s", err, out)
	}
	f.run(t, exec.Command(program, args...))
	return f
}

// run starts the program and waits until it listens. Its log is printed when the test fails.
func (f *front) run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	f.log = filepath.Join(t.TempDir(), "front.log")
	if f.access == "" {
		f.access = f.log
	}
	log, err := os.Create(f.log)
	must(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			b, _ := os.ReadFile(f.log)
			t.Logf("%s said:\n%s", f.name, b[max(0, len(b)-8<<10):])
		}
	})
	harness.Eventually(t, 20*time.Second, f.name+" in front", func(ctx context.Context) error {
		status, _, err := get(ctx, http.DefaultClient, local(f.base+agents, "/monitor/health"))
		if err == nil && status >= http.StatusInternalServerError { // a port with TLS answers 400
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}
