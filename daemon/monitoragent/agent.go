// Package monitoragent is the monitoring agent: it visits every process the server tells it about, once a period, and posts
// what they answer, raw. One agent of a group is active, the others stand by; the server decides. Pings go through a spool on
// disk, so the server may be away for as long as the spool has room.
//
// The agent connects out only: to the server and to the processes. It imports neither store nor blockstore.
package monitoragent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/collect"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/push"
	"github.com/heartwood-db/heartwood/daemon/spool"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Options are what an agent needs.
type Options struct {
	Config  config.Agent
	Log     *slog.Logger
	Now     func() time.Time // this machine's clock; nil means time.Now
	HTTP    *http.Client     // nil: made from the configuration's proxy and TLS settings
	Version string

	connector collect.Connector // tests only
	seeds     []string          // tests only
}

// Agent is a monitoring agent. It keeps no files open before Run, Round or Flush.
type Agent struct {
	cfg       config.Agent
	log       *slog.Logger
	tail      *agent.Tail
	now       func() time.Time
	version   string
	hostname  string
	started   time.Time
	session   string
	stateDir  string
	connector collect.Connector
	seeds     []string
	client    *push.Client
	hurry     chan struct{} // one token: the server is back, do not wait to call it

	opening sync.Mutex
	state   *state // nil until opened
	spool   *spool.Spool
	pusher  *push.Pusher

	mu        sync.Mutex
	conf      wire.Conf
	known     bool // conf is set
	flushed   bool // since conf was fetched
	confCount int64
	trouble   string // the last failure of a configuration call that was told
	offset    time.Duration
	hosts     map[string]*watched
	running   func(w *watched) // starts the loop of a host; nil while the agent does not run by the clock
}

// New checks the configuration, obtains its secrets and reads its certificates.
func New(o Options) (*Agent, error) {
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	cfg := o.Config
	if err := agent.ObtainSecrets(context.Background(), &cfg); err != nil {
		return nil, err
	}
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, opererr.New("agent configuration", err, "")
	}
	a := &Agent{
		cfg: cfg, now: o.Now, version: o.Version, started: o.Now(), session: string(model.NewID()), stateDir: StateDir(cfg.StateDir),
		connector: o.connector, seeds: o.seeds, hosts: map[string]*watched{}, tail: &agent.Tail{}, hurry: make(chan struct{}, 1),
	}
	a.log = slog.New(a.tail.Tee(o.Log.Handler()))
	a.hostname, _ = os.Hostname()
	if a.connector == nil {
		d, err := collect.NewDialer(&cfg, o.Version)
		if err != nil {
			return nil, opererr.New("agent configuration", err, "")
		}
		a.connector, a.seeds = d, d.Seeds()
	}
	if o.HTTP == nil {
		var err error
		if o.HTTP, err = agent.HTTPClient(&cfg, postLimit); err != nil {
			return nil, opererr.New("agent configuration", err, "")
		}
	}
	a.client = push.NewClient(call.NewClient(cfg.BaseURL, cfg.GroupID, cfg.APIKey, o.HTTP), o.Now)
	return a, nil
}

// serverIsBack makes the configuration call come soon: an agent that stays silent for too long loses its place.
func (a *Agent) serverIsBack() {
	select {
	case a.hurry <- struct{}{}:
	default:
	}
}

// postLimit is how long one request to the server may take.
const postLimit = 2 * time.Minute

// open takes the state folder and opens the spool.
func (a *Agent) open() error {
	a.opening.Lock()
	defer a.opening.Unlock()
	if a.state != nil {
		return nil
	}
	home, err := agent.OpenHome(a.stateDir)
	if err != nil {
		return err
	}
	st := &state{Home: home}
	sp, err := spool.Open(spool.Options{Dir: st.spoolDir(), MaxBytes: a.cfg.SpoolMaxBytes, Log: a.log})
	if err != nil {
		return errors.Join(opererr.New("open the agent's spool", err, "set stateDir to a folder the agent may write to"), st.Close())
	}
	a.state, a.spool = st, sp
	a.pusher = push.NewPusher(push.Options{
		Spool: sp, Post: a.client.Post, Info: a.postInfo, Sent: a.sendClock, Now: a.clock, Log: a.log, Back: a.serverIsBack,
	})
	return nil
}

// Close releases what Round and Flush opened. Run does it by itself.
func (a *Agent) Close() error {
	a.opening.Lock()
	defer a.opening.Unlock()
	a.applyHosts(nil)
	if a.state == nil {
		return nil
	}
	err := errors.Join(a.spool.Close(), a.state.Close())
	a.state, a.spool, a.pusher = nil, nil, nil
	return err
}

// drainLimit is how long the last posts may take when the agent stops.
const drainLimit = 5 * time.Second

// Run works until ctx ends, then posts what is waiting if the server takes it at once.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.open(); err != nil {
		return err
	}
	a.log.Info("monitoring agent started", obs.KeyVersion, a.version, obs.KeyAgent, a.state.ID, obs.KeyURL, a.cfg.BaseURL)
	if n := a.spool.Stats().Records; n > 0 {
		a.log.Info("pings from before are waiting in the spool", obs.KeyCount, n)
	}
	var loops sync.WaitGroup
	watching, stop := context.WithCancel(ctx)
	defer stop()
	a.mu.Lock()
	a.running = func(w *watched) {
		ctx, cancel := context.WithCancel(watching)
		w.stop = cancel
		w.done.Go(func() { a.watch(ctx, w) })
	}
	for _, w := range a.hosts { // from rounds before
		a.running(w)
	}
	a.mu.Unlock()
	loops.Go(func() { a.callForConf(ctx) })
	loops.Go(func() { a.pusher.Run(ctx) })
	<-ctx.Done()
	loops.Wait()
	a.mu.Lock()
	a.running = nil
	a.mu.Unlock()
	a.applyHosts(nil)

	last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), drainLimit, errors.New("the agent is stopping"))
	defer cancel()
	if err := a.pusher.Flush(last); err != nil {
		a.log.Info("pings wait in the spool for the next start", obs.KeyCount, a.spool.Stats().Records)
	}
	a.log.Info("monitoring agent stopped")
	return a.Close()
}

// Round visits all hosts once and puts the pings into the spool, stamped at and marked late: this is how a simulator's virtual
// past is collected. Before the first round, and before each that follows a Flush, it fetches the configuration, because the
// server finds new hosts in what was posted.
func (a *Agent) Round(ctx context.Context, at time.Time) error {
	if err := a.open(); err != nil {
		return err
	}
	a.mu.Lock()
	current := a.known && !a.flushed
	a.flushed = false
	a.mu.Unlock()
	if !current {
		if err := a.Refresh(ctx); err != nil {
			return err
		}
	}
	a.mu.Lock()
	period := a.period()
	hosts := make([]*watched, 0, len(a.hosts))
	for _, w := range a.hosts {
		hosts = append(hosts, w)
	}
	a.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0))
	for _, w := range hosts {
		g.Go(func() error {
			ping, ok := w.host.Do(ctx, collect.Visit{Stamp: at, Period: period, Flags: w.flags()})
			if !ok {
				return ctx.Err()
			}
			ping.Late = true
			return a.pusher.Save(ping)
		})
	}
	return g.Wait()
}

// Flush posts what is in the spool, and returns when it is empty or the server does not take it.
func (a *Agent) Flush(ctx context.Context) error {
	if err := a.open(); err != nil {
		return err
	}
	if err := a.pusher.Flush(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	a.flushed = true
	a.mu.Unlock()
	return nil
}

// Spooled is how many pings wait for the server.
func (a *Agent) Spooled() int64 {
	a.opening.Lock()
	defer a.opening.Unlock()
	if a.spool == nil {
		return 0
	}
	return a.spool.Stats().Records
}

func (a *Agent) info() wire.AgentInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	info := wire.AgentInfo{
		ID: a.state.ID, Session: a.session, Type: string(model.AgentMonitoring), Hostname: a.hostname, Version: a.version,
		OS: runtime.GOOS + "/" + runtime.GOARCH, Started: a.started.UTC(), ConfCount: a.confCount,
	}
	return info
}

// postInfo is info with what only posts carry.
func (a *Agent) postInfo() wire.AgentInfo {
	info := a.info()
	st := a.spool.Stats()
	info.Spooled, info.Dropped = st.Records, st.Dropped
	info.LogTail, info.LastError = a.tail.Fresh(a.now())
	return info
}
