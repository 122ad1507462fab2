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
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/daemon/agent"
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
	self      *agent.Self
	log       *slog.Logger
	connector collect.Connector
	seeds     []string
	client    *push.Client

	opening sync.Mutex
	state   *state // nil until opened
	spool   *spool.Spool
	pusher  *push.Pusher

	hosts agent.Crew[hostConf, *watched]

	mu      sync.Mutex
	conf    wire.Conf
	known   bool             // conf is set
	flushed bool             // since conf was fetched
	running func(w *watched) // starts the loop of a host; nil while the agent does not run by the clock
}

// New checks the configuration, obtains its secrets and reads its certificates.
func New(o Options) (*Agent, error) {
	self, err := agent.New(agent.Options{
		Type: model.AgentMonitoring, Folder: stateFolder, Config: o.Config, Log: o.Log, Now: o.Now, HTTP: o.HTTP, Limit: postLimit, Version: o.Version,
	})
	if err != nil {
		return nil, err
	}
	a := &Agent{self: self, log: self.Log, connector: o.connector, seeds: o.seeds, client: push.NewClient(self.Server, self.Now)}
	if a.connector == nil {
		d, err := collect.NewDialer(&self.Config, o.Version)
		if err != nil {
			return nil, opererr.New("agent configuration", err, "")
		}
		a.connector, a.seeds = d, d.Seeds()
	}
	return a, nil
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
	home, err := agent.OpenHome(a.self.Dir)
	if err != nil {
		return err
	}
	st := &state{Home: home}
	sp, err := spool.Open(spool.Options{Dir: st.spoolDir(), MaxBytes: a.self.Config.SpoolMaxBytes, Log: a.log})
	if err != nil {
		return errors.Join(opererr.New("open the agent's spool", err, "set stateDir to a folder the agent may write to"), st.Close())
	}
	a.state, a.spool = st, sp
	a.pusher = push.NewPusher(push.Options{
		Spool: sp, Post: a.client.Post, Info: a.postInfo, Sent: a.sendClock, Now: a.self.Clock, Log: a.log,
		Back: a.self.Hurry, // an agent that stays silent for too long loses its place
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
	a.log.Info("monitoring agent started", obs.KeyVersion, a.self.Version, obs.KeyAgent, a.state.ID, obs.KeyURL, a.self.Config.BaseURL)
	if n := a.spool.Stats().Records; n > 0 {
		a.log.Info("pings from before are waiting in the spool", obs.KeyCount, n)
	}
	var loops sync.WaitGroup
	watching, stop := context.WithCancel(ctx)
	defer stop()
	run := func(w *watched) {
		ctx, cancel := context.WithCancel(watching)
		w.stop = cancel
		w.done.Go(func() { a.watch(ctx, w) })
	}
	a.runBy(run)
	for _, w := range a.hosts.List() { // from rounds before
		run(w)
	}
	loops.Go(func() { a.self.Refreshing(ctx, a.refreshed) })
	loops.Go(func() { a.pusher.Run(ctx) })
	<-ctx.Done()
	loops.Wait()
	a.runBy(nil)
	a.applyHosts(nil)

	last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), drainLimit, errors.New("the agent is stopping"))
	defer cancel()
	if err := a.pusher.Flush(last); err != nil {
		a.log.Info("pings wait in the spool for the next start", obs.KeyCount, a.spool.Stats().Records)
	}
	a.log.Info("monitoring agent stopped")
	return a.Close()
}

// runBy says how a host's loop is started.
func (a *Agent) runBy(run func(w *watched)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = run
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
	period, hosts := a.period(), a.hosts.List()
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

// postInfo is what posts tell of the agent.
func (a *Agent) postInfo() wire.AgentInfo {
	info := a.self.Info(a.state.ID)
	st := a.spool.Stats()
	info.Spooled, info.Dropped = st.Records, st.Dropped
	info.LogTail, info.LastError = a.self.Tail.Fresh(a.self.Now())
	return info
}
