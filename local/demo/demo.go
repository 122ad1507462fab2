// Package demo runs Heartwood on something to look at: a server with its embedded database, a simulated replica set under a
// changing load, and agents for monitoring and backup between them, all in one process. Nothing about it is special to the server: the site
// is made through the Public API, and the past is filled in by the same agent over the same wire, on the simulator's clock.
package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/monitoragent"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// The demo's deployment.
const (
	members     = 3
	setName     = "rs0"
	livePeriod  = 10 // seconds between live pings, so that charts are seen to move
	pastStep    = time.Minute
	stopBudget  = 30 * time.Second
	flushRounds = 240 // rounds of the past between two posts
	loadSeed    = 7   // the load is the same every time, so that pictures of the demo can be compared

	electionEvery     = 4 * time.Minute
	pastElectionEvery = 3 * time.Hour
)

// Options say how to run the demo.
type Options struct {
	Sources  config.Sources // of the server; heartwood.data must be set
	DataDir  string
	History  time.Duration                           // how much of the past to have
	Trouble  time.Duration                           // something goes wrong on purpose that often; 0: only what the load brings
	Mongod   string                                  // program that heads of the backup run as mongod, a stand-in for one; empty: there is no backup
	Log      *slog.Logger                            // of all parts
	Progress func(what string, done, total int)      // told while the past is filled in; may be nil
	Now      func() time.Time                        // nil means time.Now
	Started  func(ctx context.Context, login *Login) // called once everything serves; may be nil
}

// Run runs the demo until ctx ends, then stops everything in order; also when it ends before everything serves.
func Run(ctx context.Context, o Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	err := run(ctx, o)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // Ctrl-C while the past was filled in
	}
	return err
}

func run(ctx context.Context, o Options) (err error) {
	if o.Mongod != "" {
		if err := backupSettings(&o); err != nil {
			return err
		}
	}
	srv, err := runner.Start(ctx, runner.Options{Sources: o.Sources, Log: o.Log.With(obs.KeyComponent, "server")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(ctx, srv.Stop)) }()

	// Ctrl-C must not come between what is made and the note of it: the next start could not get in.
	login, err := provision(context.WithoutCancel(ctx), srv, filepath.Join(o.DataDir, loginFile))
	if err != nil {
		return fmt.Errorf("set the demo up: %w", err)
	}
	if err := login.choosePorts(filepath.Join(o.DataDir, loginFile)); err != nil {
		return err
	}
	login.Backup = o.Mongod != ""
	agent, err := newAgent(o, login)
	if err != nil {
		return fmt.Errorf("make the agent: %w", err)
	}
	defer func() { err = errors.Join(err, agent.Close()) }()
	// What the agent of an interrupted start had collected is no longer missing.
	if err := agent.Flush(ctx); err != nil {
		return fmt.Errorf("post what was collected before: %w", err)
	}
	from, err := pastBegins(ctx, o, srv, model.ID(login.GroupID))
	if err != nil {
		return err
	}
	sim, err := mongosim.Start(ctx, mongosim.Options{
		SetName: setName, DBPath: filepath.Join(o.DataDir, "mongosim"), BasePort: login.MembersPort, Load: load.New(loadSeed),
		Version: standIn, Workload: true, Lagging: true, StartAt: from, ElectionEvery: electionEvery, HistoryElectionEvery: pastElectionEvery,
		Log: o.Log.With(obs.KeyComponent, "mongosim"),
	})
	if err != nil {
		return fmt.Errorf("start the simulated deployment: %w", err)
	}
	defer func() { err = errors.Join(err, stop(ctx, sim.Stop)) }()
	if !from.IsZero() {
		if err := fillPast(ctx, o, srv, sim, agent, model.ID(login.GroupID), from); err != nil {
			return fmt.Errorf("fill in the past: %w", err)
		}
		sim.GoLive()
	}

	agentDone := make(chan error, 1)
	agentCtx, stopAgent := context.WithCancel(ctx)
	go func() { agentDone <- agent.Run(agentCtx) }()
	defer func() {
		stopAgent()
		if runErr := <-agentDone; runErr != nil && !errors.Is(runErr, context.Canceled) {
			err = errors.Join(err, fmt.Errorf("agent: %w", runErr))
		}
	}()
	if login.Backup {
		backupCtx, stopBackup := context.WithCancel(ctx)
		wait, startErr := backUp(backupCtx, o, login)
		if startErr != nil {
			stopBackup()
			return startErr
		}
		defer func() {
			stopBackup()
			err = errors.Join(err, wait())
		}()
	}
	if o.Started != nil {
		o.Started(ctx, login)
	}
	if o.Trouble > 0 {
		var wg sync.WaitGroup
		makeCtx, stopTrouble := context.WithCancel(ctx)
		wg.Go(func() { trouble(makeCtx, sim, o.Trouble, o.Log.With(obs.KeyComponent, "trouble")) })
		defer wg.Wait()
		defer stopTrouble()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-srv.Failed():
		return err
	}
}

func newAgent(o Options, login *Login) (*monitoragent.Agent, error) {
	c := config.DefaultAgent()
	c.APIKey, c.GroupID, c.BaseURL = model.Secret(login.AgentAPIKey), login.GroupID, login.IngestionURL
	c.SeedHosts = login.Members
	c.StateDir = filepath.Join(o.DataDir, "agent")
	return monitoragent.New(monitoragent.Options{Config: c, Log: o.Log.With(obs.KeyComponent, "agent"), Version: obs.Build().Version})
}

// stop gives a part its own time to end, although ctx has ended already.
func stop(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBudget)
	defer cancel()
	return f(ctx)
}
