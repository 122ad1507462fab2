package demo

import (
	"context"
	"log/slog"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// neverCatchesUp is a lag that only ends when it is taken away.
const neverCatchesUp = 24 * time.Hour

// mishap is something that goes wrong, at a share of a round of trouble.
type mishap struct {
	at   float64
	what string
	do   func(ctx context.Context, sim *mongosim.Deployment, t *troubled) error
}

// troubled are the members that something happens to in a round.
type troubled struct{ slow, dead int }

// mishaps is a round of trouble: the primary steps down, then one secondary falls behind while the other is killed and comes
// back (three missed pings make a host down), and the rest of the round is quiet, so that alerts about it close.
var mishaps = []mishap{
	{1. / 32, "the primary steps down", func(ctx context.Context, sim *mongosim.Deployment, _ *troubled) error { return sim.StepDown(ctx) }},
	{2. / 32, "a secondary falls behind", func(ctx context.Context, sim *mongosim.Deployment, t *troubled) error {
		if err := sim.WaitPrimary(ctx); err != nil {
			return err
		}
		p := sim.Primary()
		t.slow, t.dead = (p+1)%members, (p+2)%members
		sim.Lag(t.slow, neverCatchesUp)
		return nil
	}},
	{4. / 32, "the other secondary is killed", func(_ context.Context, sim *mongosim.Deployment, t *troubled) error { return sim.Kill(t.dead) }},
	{11. / 32, "the one behind catches up", func(_ context.Context, sim *mongosim.Deployment, t *troubled) error {
		sim.Lag(t.slow, 0)
		return nil
	}},
	{13. / 32, "the one that was killed comes back", func(_ context.Context, sim *mongosim.Deployment, t *troubled) error { return sim.Restart(t.dead) }},
}

// trouble makes rounds of trouble, one each period, until ctx ends.
func trouble(ctx context.Context, sim *mongosim.Deployment, every time.Duration, log *slog.Logger) {
	for began := time.Now(); ; began = began.Add(every) {
		var t troubled
		for _, m := range mishaps {
			if !sleep(ctx, time.Until(began.Add(time.Duration(m.at*float64(every))))) {
				return
			}
			log.InfoContext(ctx, "trouble on purpose", obs.KeyReason, m.what)
			if err := m.do(ctx, sim, &t); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "trouble on purpose did not come about", obs.KeyReason, m.what, obs.KeyErr, err)
			}
		}
		if !sleep(ctx, time.Until(began.Add(every))) {
			return
		}
	}
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
