// Package backupagent is the backup agent: for each replica set that the server tells it to back up it reads every collection
// once and then follows the oplog, and sends both to the server. One agent of a group is active, the others stand by; the
// server decides, and the chain of oplog slices makes two that believe they are active harmless.
//
// The agent connects out only: to the server, to the members of the sets, and to the object store where the server says so.
// Its packages: source (the set that is read), tail (the oplog), seed (the full read), push (what the server is told).
package backupagent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
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
	cfg      config.Agent
	log      *slog.Logger
	tail     *agent.Tail
	now      func() time.Time
	version  string
	hostname string
	started  time.Time
	session  string
	stateDir string
	dialer   *dial.Dialer
	client   *push.Client
	hurry    chan struct{} // one token: call the server now

	home *agent.Home // while it runs

	mu        sync.Mutex
	conf      wire.BackupConf
	known     bool // conf is set
	confCount int64
	trouble   string // the last failure of a configuration call that was told
	offset    time.Duration
	jobs      map[string]*job
}

// StateDir is the folder of the backup agent for a configured one, which may be empty.
func StateDir(configured string) string { return agent.StateDir(configured, "heartwood-backup-agent") }

// postLimit is how long one request to the server may take: a slice over a slow line.
const postLimit = 10 * time.Minute

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
		tail: &agent.Tail{}, hurry: make(chan struct{}, 1), jobs: map[string]*job{},
	}
	a.log = slog.New(a.tail.Tee(o.Log.Handler()))
	a.hostname, _ = os.Hostname()
	var err error
	if a.dialer, err = dial.New(&cfg, "Heartwood Backup Agent v"+o.Version); err != nil {
		return nil, opererr.New("agent configuration", err, "")
	}
	if o.HTTP == nil {
		if o.HTTP, err = agent.HTTPClient(&cfg, postLimit); err != nil {
			return nil, opererr.New("agent configuration", err, "")
		}
	}
	a.client = push.NewClient(call.NewClient(cfg.BaseURL, cfg.GroupID, cfg.APIKey, o.HTTP), o.HTTP, o.Now)
	return a, nil
}

// Run works until ctx ends. What it has read of oplogs stays on disk for the next start.
func (a *Agent) Run(ctx context.Context) error {
	home, err := agent.OpenHome(a.stateDir)
	if err != nil {
		return err
	}
	a.home = home
	a.log.Info("backup agent started", obs.KeyVersion, a.version, obs.KeyAgent, home.ID, obs.KeyURL, a.cfg.BaseURL)
	var loops sync.WaitGroup
	loops.Go(func() { a.callForConf(ctx) })
	loops.Go(func() { a.reportOn(ctx) })
	loops.Wait()
	a.apply(ctx, nil)
	a.log.Info("backup agent stopped")
	return home.Close()
}

// Bounds and defaults of what the server configures.
const (
	minConfPause = time.Second
	maxConfPause = 10 * time.Minute
	defaultPause = time.Minute
	reportEvery  = 10 * time.Second
	reportLimit  = 30 * time.Second
)

func (a *Agent) hurryUp() {
	select {
	case a.hurry <- struct{}{}:
	default:
	}
}

// callForConf calls the server for the configuration again and again. While the server is away the last configuration holds.
func (a *Agent) callForConf(ctx context.Context) {
	var backoff call.Backoff
	for {
		err := a.refresh(ctx)
		var refused *call.Refusal
		wait := defaultPause
		a.mu.Lock()
		conf := a.conf
		a.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &refused):
			wait = backoff.Next(refused.RetryAfter)
		case err != nil:
			wait = backoff.Next(0)
		default:
			backoff.Reset()
			if conf.ConfSeconds > 0 {
				wait = min(max(time.Duration(conf.ConfSeconds)*time.Second, minConfPause), maxConfPause)
			}
			wait += rand.N(wait/10+1) - wait/20 //nolint:gosec // jitter
		}
		if err := agent.NoteHealth(a.stateDir, a.now(), wait, conf.State, err); err != nil {
			a.log.Warn("the note for health checks was not written", obs.KeyErr, err)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-a.hurry:
			t.Stop()
		case <-t.C:
		}
	}
}

// tolerated is the clock difference that is not corrected: it may be the network's.
const tolerated = 500 * time.Millisecond

// refresh makes one configuration call and acts on the answer.
func (a *Agent) refresh(ctx context.Context) error {
	a.mu.Lock()
	a.confCount++
	a.mu.Unlock()
	limited, cancel := context.WithTimeoutCause(ctx, agent.ConfLimit, errors.New("the server did not answer in time"))
	defer cancel()
	conf, offset, err := a.client.Conf(limited, a.info(), false)
	if err != nil {
		if limited.Err() != nil {
			err = context.Cause(limited)
		}
		a.mu.Lock()
		news := err.Error() != a.trouble
		a.trouble = err.Error()
		a.mu.Unlock()
		if news && ctx.Err() == nil {
			a.log.Warn("configuration call failed", obs.KeyReason, err)
		}
		return err
	}
	if offset.Abs() < tolerated {
		offset = 0
	}
	a.mu.Lock()
	before, known := a.conf.State, a.known
	if a.trouble != "" {
		a.log.Info("the server answers configuration calls again")
		a.trouble = ""
	}
	a.conf, a.known, a.offset = conf, true, offset
	a.mu.Unlock()
	if !known || before != conf.State {
		a.log.Info("the server told this agent's state", obs.KeyState, conf.State, obs.KeyCount, len(conf.Jobs))
	}
	if conf.State == string(model.AgentStandby) {
		conf.Jobs = nil
	}
	a.apply(ctx, &conf)
	return nil
}

// apply starts, stops and changes jobs until they are those of conf; nil means none.
func (a *Agent) apply(ctx context.Context, conf *wire.BackupConf) {
	var ending []*job
	a.mu.Lock()
	wanted := map[string]bool{}
	if conf != nil {
		for _, t := range conf.Jobs {
			if !model.ID(t.Job).Valid() { // it names a folder
				a.log.Error("the server told of a job with an id that is none", obs.KeyCluster, t.Job)
				continue
			}
			wanted[t.Job] = true
			j := a.jobs[t.Job]
			l := limits{maxPost: conf.MaxPost, sliceBytes: conf.SliceBytes}
			if j != nil {
				j.configure(t, l)
				continue
			}
			working, stop := context.WithCancel(ctx)
			j = &job{
				a: a, id: t.Job, dir: filepath.Join(a.stateDir, "outbox", t.Job), stop: stop, changed: make(chan struct{}, 1),
				log: a.log.With(obs.KeyCluster, t.Job, obs.KeyRS, t.SetName), answered: map[string]bool{},
			}
			j.configure(t, l)
			a.jobs[t.Job] = j
			j.done.Go(func() { j.run(working) })
		}
	}
	for id, j := range a.jobs {
		if !wanted[id] {
			ending = append(ending, j)
			delete(a.jobs, id)
		}
	}
	a.mu.Unlock()
	for _, j := range ending {
		j.end()
	}
}

// clock is the time by the server's clock.
func (a *Agent) clock() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now().Add(a.offset)
}

func (a *Agent) info() wire.AgentInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	info := wire.AgentInfo{
		Session: a.session, Type: string(model.AgentBackup), Hostname: a.hostname, Version: a.version,
		OS: runtime.GOOS + "/" + runtime.GOARCH, Started: a.started.UTC(), ConfCount: a.confCount,
	}
	if a.home != nil {
		info.ID = a.home.ID
	}
	return info
}

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
	jobs := make([]*job, 0, len(a.jobs))
	for _, j := range a.jobs {
		jobs = append(jobs, j)
	}
	conf, known := a.conf, a.known
	a.mu.Unlock()
	if !known || conf.State == string(model.AgentStandby) {
		return nil
	}
	r := wire.BackupReport{Agent: a.info(), Sent: a.clock().UTC()}
	r.Agent.LogTail, r.Agent.LastError = a.tail.Fresh(a.now())
	for _, j := range jobs {
		r.Jobs = append(r.Jobs, j.report())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reportLimit, errors.New("the server did not answer in time"))
	defer cancel()
	return a.client.Report(ctx, r)
}
