package monitoragent

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/collect"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Defaults and bounds of what the server configures.
const (
	defaultPeriod = time.Minute
	shownOffset   = 5 * time.Minute // clock difference up to which posts carry this machine's time
)

// hostConf is what a configuration says of a host.
type hostConf struct {
	host  wire.Host // without what changes no connection
	flags collect.Flags
}

// watched is a host that the agent visits.
type watched struct {
	host *collect.Host
	conf wire.Host // of hostConf
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

// Configure takes what else is wanted of the host. Another address or credential is another connection.
func (w *watched) Configure(c hostConf) bool {
	if c.host != w.conf {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want = c.flags
	return true
}

// End stops the host's loop, waits for it, and closes the connection.
func (w *watched) End() {
	if w.stop != nil {
		w.stop()
	}
	w.done.Wait()
	w.host.Close()
}

// Refresh makes one configuration call and acts on the answer. After the first one fails, an agent that was active before its
// restart goes on with the configuration it had.
func (a *Agent) Refresh(ctx context.Context) error {
	_, err := a.refreshed(ctx)
	return err
}

func (a *Agent) refreshed(ctx context.Context) (seconds int32, err error) {
	if err := a.open(); err != nil {
		return 0, err
	}
	var conf wire.Conf
	err = a.self.Call(ctx, func(ctx context.Context) (c agent.Conf, err error) {
		conf, c.Offset, err = a.client.Conf(ctx, a.self.Info(a.state.ID), a.seeds, false)
		c.State, c.Named = conf.State, len(conf.Hosts)
		return c, err
	})
	if err != nil {
		a.goOn()
		return 0, err
	}
	a.apply(&conf)
	if err := a.state.saveConf(conf); err != nil {
		a.log.Warn("the configuration was not kept for a restart", obs.KeyErr, err)
	}
	return conf.ConfSeconds, nil
}

// goOn takes the configuration from before the restart, unless there is a newer one.
func (a *Agent) goOn() {
	a.mu.Lock()
	known := a.known
	a.mu.Unlock()
	if known {
		return
	}
	conf, ok := a.state.loadConf(a.self.Now())
	if !ok {
		return
	}
	a.log.Info("going on with the configuration from before the restart", obs.KeyCount, len(conf.Hosts))
	a.apply(&conf)
}

// apply makes the agent do what a configuration says: an agent that stands by polls nothing.
func (a *Agent) apply(conf *wire.Conf) {
	a.mu.Lock()
	a.conf, a.known = *conf, true
	a.mu.Unlock()
	a.pusher.Configure(a.period(), conf.MaxPost)
	if conf.State == string(model.AgentStandby) {
		a.applyHosts(nil)
		return
	}
	a.applyHosts(conf)
}

// period is the time from one visit to the next.
func (a *Agent) period() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conf.PingSeconds <= 0 {
		return defaultPeriod
	}
	return time.Duration(a.conf.PingSeconds) * time.Second
}

// applyHosts starts, stops and changes hosts until they are those of conf; nil means none.
func (a *Agent) applyHosts(conf *wire.Conf) {
	var wanted []hostConf
	if conf != nil {
		for _, c := range conf.Hosts {
			h := hostConf{host: c, flags: collect.Flags{
				Logs: conf.Logs && c.Logs && !a.self.Config.NoLogs, DBStats: conf.DBStats && c.DBStats, Diagnostics: conf.Diagnostics,
			}}
			h.host.Type, h.host.Logs, h.host.DBStats = "", false, false
			wanted = append(wanted, h)
		}
	}
	a.hosts.Apply(wanted, func(c hostConf) string { return c.host.ID }, func(c hostConf) *watched {
		w := &watched{host: collect.NewHost(c.host, a.connector, a.log), conf: c.host, want: c.flags}
		a.mu.Lock()
		run := a.running
		a.mu.Unlock()
		if run != nil {
			run(w)
		}
		return w
	})
}

// sendClock stamps posts. It is this machine's own clock, so that the server sees how far it is off, unless it is so far off
// that the server would take nothing.
func (a *Agent) sendClock() time.Time {
	if a.self.Offset().Abs() > shownOffset {
		return a.self.Clock()
	}
	return a.self.Now()
}

// watch visits one host each period. A visit that takes longer than the period costs the visits it overlaps: none is made up
// for.
func (a *Agent) watch(ctx context.Context, w *watched) {
	period := a.period()
	// A host that is new is visited at once, but not all new hosts in the same moment.
	t := time.NewTimer(rand.N(min(period/10, 2*time.Second))) //nolint:gosec // jitter
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		period = a.period()
		if ping, ok := w.host.Do(ctx, collect.Visit{Now: a.self.Clock, Period: period, Flags: w.flags()}); ok {
			if err := a.pusher.Save(ping); err != nil {
				a.log.Error("a ping was lost", obs.KeyHost, w.host.Address(), obs.KeyErr, err)
			}
		}
		t.Reset(untilNext(a.self.Now(), period, w.conf.ID))
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
