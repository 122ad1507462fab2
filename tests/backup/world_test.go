package backup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mongodb-forks/digest"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/mongod"
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
			if err := process.Stop(2 * time.Minute); err != nil {
				p.t.Errorf("%s ended with %v", p.name, err)
			}
		}
	})
}

// kill kills it as kill -9 does. One that ended before by itself fails the test.
func (p *part) kill() {
	p.t.Helper()
	if !p.process.Running() {
		p.t.Fatalf("%s ended by itself:\n%s", p.name, p.process.Log())
	}
	p.process.Kill()
}

// worldOptions say what a world is made of.
type worldOptions struct {
	embedded bool     // the site is kept in SQLite, and server and backup daemon are one process
	set      []string // further settings of server and daemon
	start    []string // further arguments of backup start
	waiting  bool     // the backup is not started yet
	oplogMB  int      // of the source
	open     bool     // the source has no access control
}

// world is a replica set that is backed up and a site of whole programs, each a process of its own.
type world struct {
	*site
	o        worldOptions
	source   *mongod.Deployment
	client   *mongo.Client // of the source; its writes wait for the majority
	releases harness.Releases
	gate     *gate
	base     int
	heads    string // folder of the heads
	blocks   string // folder of the block store, where it is one

	server, daemon, agent, monitoring *part // server and daemon are the same with SQLite
}

// newWorld starts everything. What it runs on is printed.
func newWorld(t *testing.T, o worldOptions) *world {
	t.Helper()
	w := &world{o: o, source: source(t, o), base: harness.PortBase(t), heads: filepath.Join(t.TempDir(), "heads")}
	w.releases = harness.Heads(t, w.source.Version())
	if w.releases.Versions[0] != w.source.Version() && series(w.releases.Versions[0]) != series(w.source.Version()) {
		t.Fatalf("heads are %s, the source is %s: HEARTWOOD_TEST_MONGOD and HEARTWOOD_TEST_MONGO_IMAGE are to be of one series", w.releases.Versions[0], w.source.Version())
	}
	w.client = connect(t, w.source)
	data := t.TempDir()
	settings := []string{"mongodb.release.directory=" + w.releases.Dir, "rootDirectory=" + w.heads}
	if o.embedded {
		w.blocks = filepath.Join(data, "blocks")
	} else {
		store := mongod.Start(t, mongod.Options{Local: true, Auth: true})
		settings = append(settings, "mongo.mongoUri="+store.URI())
	}
	for _, s := range o.set {
		if path, ok := strings.CutPrefix(s, "heartwood.blockstore.path="); ok {
			w.blocks = path
		}
		settings = append(settings, s)
	}
	common := []string{"--data", data, "--port-base", strconv.Itoa(w.base)}
	for _, s := range settings {
		common = append(common, "--set", s)
	}
	w.server = &part{t: t, name: "the server", args: append([]string{"serve"}, common...)}
	if o.embedded {
		w.server.name = "the server with its backup daemon"
		w.server.args = append(w.server.args, "--backup")
	}
	w.server.start()
	w.site = &site{t: t}
	w.healthy()
	provisioned, err := client.Provision(t.Context(), w.base)
	if err != nil {
		t.Fatal(err)
	}
	keys, ok := provisioned.API.Transport.(*digest.Transport)
	if !ok {
		t.Fatalf("the API is signed by a %T", provisioned.API.Transport)
	}
	w.env = append(os.Environ(), "HEARTWOOD_URL="+provisioned.URL, "HEARTWOOD_PUBLIC_KEY="+keys.Username, "HEARTWOOD_PRIVATE_KEY="+keys.Password, "HEARTWOOD_GROUP="+provisioned.Group)
	w.daemon = w.server
	if !o.embedded {
		w.daemon = &part{t: t, name: "the backup daemon", args: append([]string{"backup-daemon"}, common...)}
		w.daemon.start()
	}
	w.gate = openGate(t, provisioned.Ingestion)
	w.agent = &part{t: t, name: "the backup agent", args: []string{"backup-agent", "--config", w.agentConfig(provisioned, w.gate.url, "backup-agent", nil)}}
	w.monitoring = &part{t: t, name: "the monitoring agent", args: []string{"monitoring-agent", "--config", w.agentConfig(provisioned, provisioned.Ingestion, "monitoring-agent", w.source.Seeds())}}
	w.agent.start()
	w.monitoring.start()
	if !o.waiting {
		w.begin()
	}
	return w
}

// series is what a version's heads are picked by.
func series(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// begin starts the backup as soon as the set is known.
func (w *world) begin() {
	w.t.Helper()
	harness.Eventually(w.t, 4*time.Minute, "the start of the backup", func(ctx context.Context) error {
		return w.heartwood(ctx, nil, append([]string{"backup", "start", "rs0"}, w.o.start...)...)
	})
}

// What the agents sign in with on a real server: the privileges that the documentation says they need, and no more.
const (
	agentUser     = "heartwood-agent"
	agentPassword = "agent-s3cret" //nolint:gosec // of a server that lives for one test
)

// source starts the replica set that is backed up.
func source(t *testing.T, o worldOptions) *mongod.Deployment {
	t.Helper()
	d := mongod.Start(t, mongod.Options{Local: true, Auth: !o.open, OplogMB: o.oplogMB})
	t.Logf("the source, version %s, runs on %s", d.Version(), d.On())
	if o.open {
		return d
	}
	cmd := bson.D{{Key: "createUser", Value: agentUser}, {Key: "pwd", Value: agentPassword}, {Key: "roles", Value: bson.A{"backup", "clusterMonitor"}}}
	if err := d.Client().Database("admin").RunCommand(t.Context(), cmd).Err(); err != nil {
		t.Fatal(err)
	}
	return d
}

// connect gives a client whose writes wait for the majority.
func connect(t *testing.T, d *mongod.Deployment) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(d.URI()).SetWriteConcern(writeconcern.Majority()).SetTimeout(2 * time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Disconnect(ctx)
	})
	return c
}

// agentConfig writes an agent's configuration file.
func (w *world) agentConfig(at *client.Site, url, name string, seeds []string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	file := filepath.Join(dir, name+".config")
	text := fmt.Sprintf("mmsBaseUrl=%s\nmmsGroupId=%s\nmmsApiKey=%s\nstateDir=%s\n", url, at.Group, at.AgentKey, filepath.Join(dir, "state"))
	if !w.o.open {
		text += "globalAuthUsername=" + agentUser + "\nglobalAuthPassword=" + agentPassword + "\n"
	}
	if len(seeds) > 0 {
		text += "seedHosts=" + strings.Join(seeds, ",") + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// healthy waits until the server serves.
func (w *world) healthy() {
	w.server.t.Helper()
	harness.Eventually(w.server.t, 2*time.Minute, "the server's health", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(w.base)+"/monitor/health", nil)
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

// stepDown makes the source elect, and says whether it does. It is no error that nobody can take over just now.
func (w *world) stepDown(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := bson.D{{Key: "replSetStepDown", Value: 15}, {Key: "secondaryCatchUpPeriodSecs", Value: 10}}
	err := w.client.Database("admin").RunCommand(ctx, cmd).Err()
	var refused mongo.CommandError
	if errors.As(err, &refused) || mongo.IsNetworkError(err) || mongo.IsTimeout(err) {
		return false, nil
	}
	return err == nil, err
}

// gate stands between the backup agent and the server, and may let an answer be lost.
type gate struct {
	url string

	mu    sync.Mutex
	path  string        // whose next good answer is lost
	then  func()        // what happens at that moment, before the agent notices
	fired chan struct{} // closed once it has happened
	slow  time.Duration // every call takes so much longer
}

var errLost = errors.New("the answer is lost")

// openGate carries calls to a server for as long as the test runs.
func openGate(t *testing.T, to string) *gate {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host // signatures hold it
		},
		ModifyResponse: func(res *http.Response) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			if res.StatusCode != http.StatusOK || g.path == "" || res.Request.URL.Path != g.path {
				return nil
			}
			g.then()
			g.path = ""
			close(g.fired)
			return errLost
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // as a connection that breaks
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		slow := g.slow
		g.mu.Unlock()
		select {
		case <-time.After(slow):
		case <-r.Context().Done():
		}
		proxy.ServeHTTP(rw, r)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	g.url = "http://" + l.Addr().String()
	return g
}

// lose lets the next good answer to a path be lost: the server has done what was asked, the agent never hears of it. At that
// moment then happens.
func (g *gate) lose(path string, then func()) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.path, g.then, g.fired = path, then, make(chan struct{})
	return g.fired
}

// delay makes every call take longer.
func (g *gate) delay(by time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slow = by
}

// lost kills processes at the moment at which the server has answered a call and the agent has not heard of it, and starts them
// again.
func (w *world) lost(path string, killed ...*part) {
	w.t.Helper()
	var all sync.Once
	fired := w.gate.lose(path, func() {
		all.Do(func() {
			for _, p := range killed {
				p.process.Kill()
			}
		})
	})
	select {
	case <-fired:
	case <-time.After(3 * time.Minute):
		w.t.Fatalf("no answer to %s in three minutes", path)
	case <-w.t.Context().Done():
		w.t.FailNow()
	}
	for _, p := range killed {
		p.start()
	}
	if slices.Contains(killed, w.server) {
		w.healthy()
	}
}
