// Package runner runs all functions of Heartwood in one process on one machine: it opens the store, gives each function its
// listener, ticks the periodic duties, and stops everything in order.
package runner

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/functions/app"
	"github.com/heartwood-db/heartwood/functions/health"
	"github.com/heartwood-db/heartwood/functions/ingestion"
	"github.com/heartwood-db/heartwood/local/away"
	"github.com/heartwood-db/heartwood/local/channels"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Budgets of the ordered stop.
const (
	stopBudget      = time.Minute
	passesBudget    = 20 * time.Second
	databaseBudget  = 10 * time.Second
	heartbeatPeriod = 30 * time.Second
	passTick        = 5 * time.Second
)

// Options say what to run.
type Options struct {
	Sources config.Sources
	Log     *slog.Logger
	Started func(*Server)     // called once everything serves; may be nil
	Status  func(text string) // told in a line what the start waits for; may be nil
}

// Server is a running server.
type Server struct {
	ctx      context.Context // ends when the server stops: requests and duties work under it
	cancel   context.CancelFunc
	log      *slog.Logger
	reg      *prometheus.Registry
	site     *site.Site
	pages    http.Handler
	intake   http.Handler
	alerts   http.Handler                // nil: they are evaluated elsewhere
	duties   []store.Pass                // of all functions
	backupDB func(context.Context) error // nil: it is the application database
	stack    stack
	failed   chan error
	asked    chan struct{} // closed when somebody stops the server through its kill-port

	url, ingestionURL string
	upgrading         atomic.Bool // servers of several versions run on the database: writes through the API wait
	draining          atomic.Bool // the server is about to stop: its health check fails, and it still serves
	drainFor          time.Duration
	stopFor           time.Duration // more than others, to stop in order: for heads
	status            func(string)  // told what the start waits for; may be nil
}

// Run serves until ctx ends, then stops in order. It returns nil after an orderly stop.
func Run(ctx context.Context, o Options) error {
	s, err := Start(ctx, o)
	if err != nil {
		if errors.Is(err, context.Canceled) { // stopped while it waited for its database
			return nil
		}
		return err
	}
	if o.Started != nil {
		o.Started(s)
	}
	select {
	case <-ctx.Done():
	case <-s.asked:
	case err = <-s.failed:
		s.drainFor = 0 // what failed cannot be served meanwhile
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drainFor+stopBudget+s.stopFor)
	defer cancel()
	return errors.Join(err, s.Stop(stopCtx))
}

// Start starts a server; when it returns every listener answers. It waits for a replica set that cannot be reached. What was started when a later part fails is stopped again.
func Start(ctx context.Context, o Options) (*Server, error) {
	began := time.Now()
	s := &Server{log: o.Log, reg: obs.NewRegistry(), failed: make(chan error, 8), asked: make(chan struct{}), stack: stack{log: o.Log}, status: o.Status}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.start(ctx, o, began); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBudget)
		defer cancel()
		return nil, errors.Join(err, s.Stop(stopCtx))
	}
	s.log.Info("heartwood started", obs.KeyTook, time.Since(began).Round(time.Millisecond), obs.KeyVersion, obs.Build().Version, obs.KeyURL, s.url)
	return s, nil
}

// start is the whole wiring, in order: each part registers how it is stopped at once.
func (s *Server) start(ctx context.Context, o Options, began time.Time) error {
	boot, err := config.Load(o.Sources)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	if boot.Server.BackupDaemon {
		if err := Preflight(&boot.Server); err != nil {
			return err
		}
	}
	release, err := claimData(boot.Server.DataDir)
	if err != nil {
		return err
	}
	s.stack.push("pid file", time.Second, func(context.Context) error { return release() })

	// The ports are taken before the database is opened: a second server must not touch anything.
	ports, err := listenAll(ctx, &boot.Server)
	if err != nil {
		return err
	}
	s.stack.push("ports", time.Second, func(context.Context) error { return ports.closeUnused() })

	stop := sync.OnceFunc(func() { close(s.asked) })
	closeKill, err := listenKill(ctx, boot.Server.AlertsKillPort, boot.Server.DataDir, s.log, stop)
	if err != nil {
		return err
	}
	s.stack.push("kill-port", time.Second, closeKill)

	if err := s.openSite(ctx, o.Sources, ports.whileAway(&boot.Server, o.Log)); err != nil {
		return err
	}
	s.stack.push("database", databaseBudget, func(context.Context) error { return s.site.Close() })
	c := &s.site.Config.Server
	s.addresses(c, ports)

	instance := model.NewID()
	if err := s.register(ctx, instance, roleServer, s.url, began); err != nil {
		return err
	}
	probe, err := s.health(c, roleServer, began)
	if err != nil {
		return err
	}
	blobs, err := s.blockStores(ctx, c)
	if err != nil {
		return err
	}
	if c.Sandbox == config.SandboxWasm {
		probe, err = s.sandboxed(ctx, c, probe, ports, string(instance), began, blobs)
	} else {
		err = s.native(c, probe, ports, string(instance), blobs)
	}
	if err != nil {
		return err
	}
	if c.BackupDaemon {
		if _, err := s.backupDaemon(ctx, c, blobs); err != nil {
			return err
		}
	}
	return s.open(c, probe, ports)
}

// listeners are the server's open ports; each is handed to one HTTP server.
type listeners struct{ app, ingestion, diagnostics, alerts net.Listener }

func listenAll(ctx context.Context, c *config.Server) (*listeners, error) {
	l := &listeners{}
	type port struct {
		what    string
		address string
		to      *net.Listener
	}
	all := []port{
		{"pages and API", c.Listen, &l.app},
		{"agents", besidePort(c.Listen, c.IngestionPort), &l.ingestion},
		{"diagnostics", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.DiagnosticsPort)), &l.diagnostics},
	}
	if c.AlertsEnabled {
		all = append(all, port{"alerts diagnostics", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.AlertsPort)), &l.alerts})
	}
	for _, p := range all {
		ln, err := listen(ctx, p.what, p.address)
		if err != nil {
			return nil, errors.Join(err, l.closeUnused())
		}
		*p.to = ln
	}
	return l, nil
}

// whileAway are the ports that answer while the database is away.
func (l *listeners) whileAway(c *config.Server, log *slog.Logger) []away.Port {
	public := func(agents bool) func(net.Listener) (net.Listener, error) {
		return func(held net.Listener) (net.Listener, error) {
			conf, err := serverTLS(c, agents)
			held = proxied(held, c, log)
			if err == nil && conf != nil {
				held = tls.NewListener(held, conf)
			}
			return held, err
		}
	}
	plain := func(held net.Listener) (net.Listener, error) { return held, nil }
	return []away.Port{{Listener: l.app, Wrap: public(false)}, {Listener: l.ingestion, Wrap: public(true)}, {Listener: l.diagnostics, Wrap: plain}}
}

// agentPort is the port that is for agents only.
func (l *listeners) agentPort() string { return portOf(l.ingestion.Addr().String()) }

// closeUnused closes what no HTTP server has closed yet.
func (l *listeners) closeUnused() error {
	var errs []error
	for _, ln := range []net.Listener{l.app, l.ingestion, l.diagnostics, l.alerts} {
		if ln == nil {
			continue
		}
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// addresses works out the URLs at which people and agents on this machine reach the server.
func (s *Server) addresses(c *config.Server, l *listeners) {
	scheme := "http"
	if c.HTTPSPEMKeyFile != "" {
		scheme = "https"
	}
	local := func(ln net.Listener) string {
		host, port, _ := net.SplitHostPort(ln.Addr().String())
		if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
			host = "127.0.0.1"
		}
		return scheme + "://" + net.JoinHostPort(host, port)
	}
	s.url, s.ingestionURL = local(l.app), local(l.ingestion)
}

// The roles of instances.
const (
	roleServer = "server"
	roleDaemon = "backup-daemon"
)

// register makes the instance known and keeps its heartbeat.
func (s *Server) register(ctx context.Context, id model.ID, role, address string, began time.Time) error {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	err = s.site.Store.Register(ctx, model.Instance{
		ID: string(id), Hostname: hostname, Role: role, Version: obs.Build().Version, Started: began.UTC(), Address: address,
	})
	if err != nil {
		return fmt.Errorf("register this server: %w", err)
	}
	stop := s.every(heartbeatPeriod, func(ctx context.Context) {
		if err := s.beat(ctx, id); err != nil && ctx.Err() == nil {
			s.log.Warn("heartbeat failed", obs.KeyErr, err)
		}
	})
	s.stack.push("heartbeat", databaseBudget, func(ctx context.Context) error {
		stop()
		return s.site.Store.Unregister(ctx, string(id))
	})
	return nil
}

// beat says that this server lives, and looks whether all that do are of one version.
func (s *Server) beat(ctx context.Context, id model.ID) error {
	if err := s.site.Store.Heartbeat(ctx, string(id)); err != nil {
		return err
	}
	running, err := s.site.Store.Running(ctx)
	if err != nil {
		return err
	}
	mixed := slices.ContainsFunc(running, func(in model.Instance) bool { return in.Version != obs.Build().Version })
	if s.upgrading.Swap(mixed) != mixed {
		s.log.Info("upgrade mode", obs.KeyState, mixed, obs.KeyCount, len(running))
	}
	return nil
}

// health builds the health function. The backup database is the application database unless a setting names another one.
func (s *Server) health(c *config.Server, role string, began time.Time) (http.Handler, error) {
	appDB := func(ctx context.Context) error {
		_, err := s.site.Store.Now(ctx)
		return err
	}
	backupDB := appDB
	if uri := c.BackupMongoURI; uri != "" && uri != c.MongoURI {
		e, err := site.OpenMongo(s.ctx, c, uri, s.log)
		if err != nil {
			return nil, fmt.Errorf("mongo.backupdb.mongoUri: %w", err)
		}
		s.stack.push("backup database", databaseBudget, func(context.Context) error { return e.Close() })
		backupDB = func(ctx context.Context) error {
			_, err := e.Now(ctx)
			return err
		}
		s.backupDB = backupDB
	}
	return health.New(health.Options{
		Checks: map[string]func(context.Context) error{"mms_db": appDB, "backup_db": backupDB},
		Role:   role, Version: obs.Build().Version, Started: began, Gatherer: s.reg, Upgrade: s.upgrading.Load, Draining: s.draining.Load,
	})
}

// native builds the functions into this process.
func (s *Server) native(c *config.Server, probe http.Handler, l *listeners, instance string, blobs blockStores) error {
	build := obs.Build()
	intake, err := ingestion.Assemble(c, s.site.Site, ingestion.Outside{Log: s.log, Reg: s.reg, Health: probe, Blobs: blobs})
	if err != nil {
		return err
	}
	s.intake, s.duties = intake, intake.Passes()
	sender, err := channels.New(c)
	if err != nil {
		return err
	}
	if c.AlertsEnabled {
		if err := s.alertsFunction(c, probe, sender, instance, build.Version); err != nil {
			return err
		}
	}
	hostname, _ := os.Hostname()
	s.pages, err = app.Assemble(c, s.site.Site, app.Outside{
		Log: s.log, Reg: s.reg, Health: probe, Sender: sender, Build: build, Server: hostname, AgentPort: l.agentPort(), Embedded: embeddedFile(c),
		Upgrading: s.upgrading.Load,
	})
	return err
}

// open gives each function its port.
func (s *Server) open(c *config.Server, probe http.Handler, l *listeners) error {
	agents := s.intake // so that one mmsBaseUrl works for everything
	if c.HTTPSClientCert == config.CertAgentsOnly {
		agents = elsewhere(l.agentPort()) // nobody shows a certificate here
	}
	// No mux: it would redirect paths of the Public API that it finds unclean, and a redirect breaks their signature.
	main := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/agents/") {
			agents.ServeHTTP(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/backup/restore/") { // archives: links begin with mms.centralUrl unless a setting says otherwise
			s.intake.ServeHTTP(w, r)
			return
		}
		s.pages.ServeHTTP(w, r)
	})

	tlsApp, err := serverTLS(c, false)
	if err != nil {
		return err
	}
	tlsAgents, err := serverTLS(c, true)
	if err != nil {
		return err
	}
	s.tick() // before the ports, so that the ports are drained first when the server stops
	s.serve("diagnostics", l.diagnostics, probe, nil)
	if s.alerts != nil {
		s.serve("alerts diagnostics", l.alerts, alertsPort(s.alerts, probe), nil)
	}
	s.serve("pages and API", proxied(l.app, c, s.log), main, tlsApp)
	s.serve("agents", proxied(l.ingestion, c, s.log), s.intake, tlsAgents)
	s.drainFor = c.Drain()
	return nil
}

// embeddedFile is where the embedded database is; empty when there is none.
func embeddedFile(c *config.Server) string {
	if !c.Embedded() {
		return ""
	}
	file := filepath.Join(c.DataDir, config.DatabaseFile)
	if abs, err := filepath.Abs(file); err == nil {
		return abs
	}
	return file
}

// elsewhere turns agents away to the port where they are asked for their certificates.
func elsewhere(port string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "agents must show a client certificate here: set mmsBaseUrl to the server's agent port, "+port, http.StatusForbidden)
	})
}

// tick runs the periodic duties until the server stops. Each has its own goroutine, so that a long one delays no other; the
// store sees to it that a duty runs when it is due, in one process at a time.
func (s *Server) tick() {
	stops := make([]func(), 0, 16)
	for _, p := range s.duties {
		stops = append(stops, s.every(min(p.Every, passTick), func(ctx context.Context) {
			if err := p.Run(ctx, time.Now().UTC()); err != nil && ctx.Err() == nil {
				s.log.Warn("periodic duty failed", obs.KeyPass, p.Name, obs.KeyErr, err)
			}
		}))
	}
	s.stack.push("periodic duties", passesBudget, func(context.Context) error {
		s.cancel() // they are resumable: what is cut short goes on at the next start
		for _, stop := range stops {
			stop()
		}
		return nil
	})
}

// every calls f at once and then every period, until the returned function is called, which waits for a call in progress.
func (s *Server) every(period time.Duration, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(period)
		defer t.Stop()
		for {
			f(ctx)
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// fail reports that a part has failed after the start.
func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// Stop drains the server where it is behind load balancers, and stops everything in reverse order.
func (s *Server) Stop(ctx context.Context) error {
	defer s.cancel()
	s.drain(ctx)
	return s.stack.unwind(ctx)
}

// Failed delivers the error of a part that failed while the server ran.
func (s *Server) Failed() <-chan error { return s.failed }

// Site is the opened store.
func (s *Server) Site() *site.Site { return s.site }

// URL is where people on this machine reach the server.
func (s *Server) URL() string { return s.url }

// IngestionURL is where agents on this machine reach it.
func (s *Server) IngestionURL() string { return s.ingestionURL }
