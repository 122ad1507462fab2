package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/daemon/monitoragent"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/model"
)

// discoveryRounds are how often the agent visits at most until the server has found every member through the seed.
const discoveryRounds = 10

// pastBegins is the first minute that is missing: after the newest ping, or the begin of the whole history on a first start.
func pastBegins(ctx context.Context, o Options, srv *runner.Server, group model.ID) (time.Time, error) {
	from := o.Now().UTC().Truncate(pastStep).Add(-o.History)
	newest, err := newestPing(ctx, srv, group)
	if newest.After(from) {
		from = newest.Truncate(pastStep).Add(pastStep)
	}
	return from, err
}

// fillPast runs the simulator and the agent from then until now, a minute a step.
func fillPast(ctx context.Context, o Options, srv *runner.Server, sim *mongosim.Deployment, agent *monitoragent.Agent, group model.ID, from time.Time) error {
	total := int(o.Now().Sub(from) / pastStep)
	if total <= 0 {
		return nil
	}
	at := from
	visit := func() error {
		if err := sim.AdvanceTo(ctx, at); err != nil {
			return err
		}
		return agent.Round(ctx, at)
	}
	// The first visits are posted at once: the server finds the other members in them.
	for range discoveryRounds {
		if err := visit(); err != nil {
			return err
		}
		if err := agent.Flush(ctx); err != nil {
			return err
		}
		if known, err := srv.Site().Inventory.Hosts(ctx, group); err != nil || len(known) >= members {
			if err != nil {
				return err
			}
			break
		}
		at = at.Add(pastStep)
	}
	for done := int(at.Sub(from)/pastStep) + 1; done <= total; done++ {
		at = from.Add(time.Duration(done) * pastStep)
		if err := visit(); err != nil {
			return err
		}
		if done%flushRounds == 0 {
			if err := agent.Flush(ctx); err != nil {
				return err
			}
		}
		o.Progress("filling in the past through agent and ingestion", done, total)
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
