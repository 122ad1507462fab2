package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/daemon/monitoragent"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// pastMargin is how much sooner than the server's limit the past begins: filling it in takes time.
const pastMargin = 15 * time.Minute

// pastBegins is the first minute that is missing: after the newest ping, or the begin of the whole history on a first start. Zero when
// nothing is missing.
func pastBegins(ctx context.Context, o Options, srv *runner.Server, group model.ID) (time.Time, error) {
	history := o.History
	if kept := srv.Site().Config.Server.RetainMinutes; kept > 0 && history > kept-pastMargin {
		history = kept - pastMargin // older pings are refused
		o.Log.WarnContext(ctx, "the past is shorter than asked for: the server takes pings only so far back", obs.KeyFrom, history)
	}
	now := o.Now().UTC()
	from := now.Truncate(pastStep).Add(-max(0, history))
	newest, err := newestPing(ctx, srv, group)
	if newest.After(from) {
		from = newest.Truncate(pastStep).Add(pastStep)
	}
	if now.Sub(from) < pastStep {
		from = time.Time{}
	}
	return from, err
}

// fillPast runs the simulator and the agent from then until now, a minute a step. It may be interrupted anywhere: what the agent
// collected is in its spool, and a start that follows posts it and goes on behind it.
func fillPast(ctx context.Context, o Options, srv *runner.Server, sim *mongosim.Deployment, agent *monitoragent.Agent, group model.ID, from time.Time) error {
	discovered := false
	for done := 1; ; done++ {
		at := from.Add(time.Duration(done-1) * pastStep)
		now := o.Now()
		if at.After(now) {
			break
		}
		if err := sim.AdvanceTo(ctx, at); err != nil {
			return err
		}
		if err := agent.Round(ctx, at); err != nil {
			return err
		}
		// The first visits are posted at once: the server finds the other members in them.
		if !discovered || done%flushRounds == 0 {
			if err := agent.Flush(ctx); err != nil {
				return err
			}
			known, err := srv.Site().Inventory.Hosts(ctx, group)
			if err != nil {
				return err
			}
			discovered = len(known) >= members
		}
		o.Progress("filling in the past through agent and ingestion", done, done+int(now.Sub(at)/pastStep))
	}
	if err := agent.Flush(ctx); err != nil {
		return err
	}
	return srv.RunPasses(ctx)
}

func newestPing(ctx context.Context, srv *runner.Server, group model.ID) (time.Time, error) {
	statuses, err := srv.Site().Inventory.Statuses(ctx, group)
	if err != nil {
		return time.Time{}, fmt.Errorf("read host statuses: %w", err)
	}
	var newest time.Time
	for _, s := range statuses {
		if s.LastPing.After(newest) {
			newest = s.LastPing
		}
	}
	return newest, nil
}
