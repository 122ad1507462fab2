// Package backupagent is the backup agent: for each replica set that the server tells it to back up it reads every collection
// once and then follows the oplog, and sends both to the server. One agent of a group is active, the others stand by; the
// server decides, and the chain of oplog slices makes two that believe they are active harmless.
//
// The agent connects out only: to the server, to the members of the sets, and to the object store where the server says so.
// Its packages: source (the set that is read), tail (the oplog), seed (the full read), push (what the server is told), restore (what is written
// into a set).
package backupagent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/agent/dial"
	"github.com/heartwood-db/heartwood/daemon/backupagent/push"
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
}

// Agent is a backup agent.
type Agent struct {
	self   *agent.Self
	log    *slog.Logger
	dialer *dial.Dialer
	client *push.Client

	home *agent.Home // while it runs
	jobs agent.Crew[jobConf, *job]
	// restores that are written into deployments
	writers agent.Crew[wire.PushTask, *writer]

	mu      sync.Mutex
	reports bool // the server takes reports: this agent is not one that stands by
}

const stateFolder = "heartwood-backup-agent"

// StateDir is the folder of the backup agent for a configured one, which may be empty.
func StateDir(configured string) string { return agent.StateDir(configured, stateFolder) }

// postLimit is how long one request to the server may take: a slice over a slow line.
const postLimit = 10 * time.Minute

// New checks the configuration, obtains its secrets and reads its certificates.
func New(o Options) (*Agent, error) {
	self, err := agent.New(agent.Options{
		Type: model.AgentBackup, Folder: stateFolder, Config: o.Config, Log: o.Log, Now: o.Now, HTTP: o.HTTP, Limit: postLimit, Version: o.Version,
	})
	if err != nil {
		return nil, err
	}
	a := &Agent{self: self, log: self.Log, client: push.NewClient(self.Server, self.HTTP, self.Now)}
	if a.dialer, err = dial.New(&self.Config, "Heartwood Backup Agent v"+o.Version); err != nil {
		return nil, opererr.New("agent configuration", err, "")
	}
	return a, nil
}

// Run works until ctx ends. What it has read of oplogs stays on disk for the next start.
func (a *Agent) Run(ctx context.Context) error {
	home, err := agent.OpenHome(a.self.Dir)
	if err != nil {
		return err
	}
	a.home = home
	a.log.Info("backup agent started", obs.KeyVersion, a.self.Version, obs.KeyAgent, home.ID, obs.KeyURL, a.self.Config.BaseURL)
	var loops sync.WaitGroup
	loops.Go(func() { a.self.Refreshing(ctx, a.refresh) })
	loops.Go(func() { a.reportOn(ctx) })
	loops.Wait()
	a.apply(ctx, nil)
	a.log.Info("backup agent stopped")
	return home.Close()
}

// refresh makes one configuration call and acts on the answer.
func (a *Agent) refresh(ctx context.Context) (seconds int32, err error) {
	var conf wire.BackupConf
	err = a.self.Call(ctx, func(ctx context.Context) (c agent.Conf, err error) {
		conf, c.Offset, err = a.client.Conf(ctx, a.self.Info(a.home.ID), false)
		c.State, c.Named = conf.State, len(conf.Jobs)+len(conf.Pushes)
		return c, err
	})
	if err != nil {
		return 0, err
	}
	standby := conf.State == string(model.AgentStandby)
	a.mu.Lock()
	a.reports = !standby
	a.mu.Unlock()
	if standby {
		a.apply(ctx, nil)
	} else {
		a.apply(ctx, &conf)
	}
	return conf.ConfSeconds, nil
}

// apply starts, stops and changes jobs until they are those of conf; nil means none.
func (a *Agent) apply(ctx context.Context, conf *wire.BackupConf) {
	var wanted []jobConf
	if conf != nil {
		for _, t := range conf.Jobs {
			if !model.ID(t.Job).Valid() { // it names a folder
				a.log.Error("the server told of a job with an id that is none", obs.KeyCluster, t.Job)
				continue
			}
			wanted = append(wanted, jobConf{task: t, limits: limits{maxPost: conf.MaxPost, sliceBytes: conf.SliceBytes}})
		}
	}
	a.write(ctx, conf)
	a.jobs.Apply(wanted, func(c jobConf) string { return c.task.Job }, func(c jobConf) *job { return newJob(ctx, a, c) })
}

// Reports to the server.
const (
	reportEvery = 10 * time.Second
	reportLimit = 30 * time.Second
)

// reportOn tells the server how the jobs are, again and again.
func (a *Agent) reportOn(ctx context.Context) {
	trouble := ""
	for call.Pause(ctx, reportEvery) {
		err := a.report(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			trouble = ""
		case err.Error() != trouble:
			trouble = err.Error()
			a.log.Warn("the server did not take a report", obs.KeyReason, err)
		}
	}
}

func (a *Agent) report(ctx context.Context) error {
	a.mu.Lock()
	wanted := a.reports
	a.mu.Unlock()
	if !wanted {
		return nil
	}
	r := wire.BackupReport{Agent: a.self.Info(a.home.ID), Sent: a.self.Clock().UTC()}
	r.Agent.LogTail, r.Agent.LastError = a.self.Tail.Fresh(a.self.Now())
	for _, j := range a.jobs.List() {
		r.Jobs = append(r.Jobs, j.report())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reportLimit, errors.New("the server did not answer in time"))
	defer cancel()
	return a.client.Report(ctx, r)
}
