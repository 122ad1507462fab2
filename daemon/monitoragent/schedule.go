package monitoragent

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/collect"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Bounds and defaults of what the server configures.
const (
	minConfPause  = 2 * time.Second
	maxConfPause  = 10 * time.Minute
	defaultPause  = time.Minute
	defaultPeriod = time.Minute
	shownOffset   = 5 * time.Minute        // clock difference up to which posts carry this machine's time
	tolerated     = 500 * time.Millisecond // clock difference that is not corrected: it may be the network's
)

// watched is a host that the agent visits.
type watched struct {
	host *collect.Host
	conf wire.Host // without what changes no connection
	stop context.CancelFunc
	done sync.WaitGroup

	mu   sync.Mutex
	want collect.Flags
}

func (w *watched) flags() collect.Flags {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.want
}

func (w *watched) setFlags(f collect.Flags) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want = f
}

// end stops the host's loop, waits for it, and closes the connection.
func (w *watched) end() {
	if w.stop != nil {
		w.stop()
	}
	w.done.Wait()
	w.host.Close()
}

// callForConf calls the server for the configuration again and again. While the server is away the last configuration holds.
func (a *Agent) callForConf(ctx context.Context) {
	var backoff call.Backoff
	for {
		var wait time.Duration
		err := a.Refresh(ctx)
		var refused *call.Refusal
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &refused):
			wait = backoff.Next(refused.RetryAfter)
		case err != nil:
			wait = backoff.Next(0)
		default:
			backoff.Reset()
			a.mu.Lock()
			wait = time.Duration(a.conf.ConfSeconds) * time.Second
			a.mu.Unlock()
			if wait <= 0 {
				wait = defaultPause
			}
			wait = min(max(wait, minConfPause), maxConfPause)
			wait += rand.N(wait/10+1) - wait/20 //nolint:gosec // jitter
		}
		a.mu.Lock()
		state := a.conf.State
		a.mu.Unlock()
		if err := agent.NoteHealth(a.stateDir, a.now(), wait, state, err); err != nil {
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

// Refresh makes one configuration call and acts on the answer. After the first one fails, an agent that was active before its
// restart goes on with the configuration it had.
func (a *Agent) Refresh(ctx context.Context) error {
	if err := a.open(); err != nil {
		return err
	}
	a.mu.Lock()
	a.confCount++
	a.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, agent.ConfLimit, errors.New("the server did not answer in time"))
	defer cancel()
	conf, offset, err := a.client.Conf(ctx, a.info(), a.seeds, false)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		a.confFailed(err)
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
	if (offset - a.offset).Abs() > tolerated {
		a.log.Warn("this machine's clock differs from the server's: pings are stamped with the server's time", obs.KeyTook, offset)
	}
	a.conf, a.known, a.offset = conf, true, offset
	a.mu.Unlock()
	if !known || before != conf.State {
		a.log.Info("the server told this agent's state", obs.KeyState, conf.State, obs.KeyCount, len(conf.Hosts))
	}
	a.apply(&conf)
	if err := a.state.saveConf(conf); err != nil {
		a.log.Warn("the configuration was not kept for a restart", obs.KeyErr, err)
	}
	return nil
}

func (a *Agent) confFailed(err error) {
	a.mu.Lock()
	text := err.Error()
	news, known := text != a.trouble, a.known
	a.trouble = text
	a.mu.Unlock()
	if news {
		a.log.Warn("configuration call failed", obs.KeyReason, text)
	}
	if known {
		return
	}
	conf, ok := a.state.loadConf(a.now())
	if !ok {
		return
	}
	a.log.Info("going on with the configuration from before the restart", obs.KeyCount, len(conf.Hosts))
	a.mu.Lock()
	a.conf, a.known = conf, true
	a.mu.Unlock()
	a.apply(&conf)
}

// apply makes the agent do what a configuration says: an agent that stands by polls nothing.
func (a *Agent) apply(conf *wire.Conf) {
	a.pusher.Configure(a.periodOf(conf), conf.MaxPost)
	if conf.State == string(model.AgentStandby) {
		a.applyHosts(nil)
		return
	}
	a.applyHosts(conf)
}

func (a *Agent) periodOf(conf *wire.Conf) time.Duration {
	if conf.PingSeconds <= 0 {
		return defaultPeriod
	}
	return time.Duration(conf.PingSeconds) * time.Second
}

// period is for callers that hold mu.
func (a *Agent) period() time.Duration { return a.periodOf(&a.conf) }

// applyHosts starts, stops and changes hosts until they are those of conf; nil means none.
func (a *Agent) applyHosts(conf *wire.Conf) {
	var ending []*watched
	a.mu.Lock()
	wanted := map[string]bool{}
	if conf != nil {
		for _, c := range conf.Hosts {
			wanted[c.ID] = true
			flags := collect.Flags{
				Logs: conf.Logs && c.Logs && !a.cfg.NoLogs, DBStats: conf.DBStats && c.DBStats, Diagnostics: conf.Diagnostics,
			}
			c.Type, c.Logs, c.DBStats = "", false, false
			if w, ok := a.hosts[c.ID]; ok {
				if w.conf == c {
					w.setFlags(flags)
					continue
				}
				ending = append(ending, w)
			}
			w := &watched{host: collect.NewHost(c, a.connector, a.log), conf: c}
			w.setFlags(flags)
			a.hosts[c.ID] = w
			if a.running != nil {
				a.running(w)
			}
		}
	}
	for id, w := range a.hosts {
		if !wanted[id] {
			ending = append(ending, w)
			delete(a.hosts, id)
		}
	}
	a.mu.Unlock()
	for _, w := range ending {
		w.end()
	}
}

// clock is the time by the server's clock.
func (a *Agent) clock() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now().Add(a.offset)
}

// sendClock stamps posts. It is this machine's own clock, so that the server sees how far it is off, unless it is so far off
// that the server would take nothing.
func (a *Agent) sendClock() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.offset.Abs() > shownOffset {
		return a.now().Add(a.offset)
	}
	return a.now()
}

// watch visits one host each period. A visit that takes longer than the period costs the visits it overlaps: none is made up
// for.
func (a *Agent) watch(ctx context.Context, w *watched) {
	a.mu.Lock()
	period := a.period()
	a.mu.Unlock()
	// A host that is new is visited at once, but not all new hosts in the same moment.
	t := time.NewTimer(rand.N(min(period/10, 2*time.Second))) //nolint:gosec // jitter
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		a.mu.Lock()
		period = a.period()
		a.mu.Unlock()
		if ping, ok := w.host.Do(ctx, collect.Visit{Now: a.clock, Period: period, Flags: w.flags()}); ok {
			if err := a.pusher.Save(ping); err != nil {
				a.log.Error("a ping was lost", obs.KeyHost, w.host.Address(), obs.KeyErr, err)
			}
		}
		t.Reset(untilNext(a.now(), period, w.conf.ID))
	}
}

// untilNext spreads hosts evenly over the period: each has its own moment in it, the same at every start.
func untilNext(now time.Time, period time.Duration, hostID string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(hostID))
	phase := time.Duration(h.Sum64() % uint64(period))
	next := now.Truncate(period).Add(phase)
	for !next.After(now) {
		next = next.Add(period)
	}
	return next.Sub(now)
}
