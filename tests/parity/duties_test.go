package parity

import (
	"context"
	"testing"

	"github.com/heartwood-db/heartwood/functions/alerts"
	"github.com/heartwood-db/heartwood/functions/alerts/exposed"
	"github.com/heartwood-db/heartwood/functions/alerts/heartbeat"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
)

// prober is the native side's probe; the guests' host has the same.
type prober struct{}

// Probe implements exposed.Prober.
func (prober) Probe(ctx context.Context, host string, port int) exposed.Finding {
	f := probed(ctx, host, port)
	return exposed.Finding{Exposed: f.Exposed, Known: f.Known, Reason: f.Reason}
}

// duties are the native side's duties that reach out.
func duties(t testing.TB, site *areas.Site) []store.Duty {
	t.Helper()
	checker, err := exposed.New(exposed.Options{Inventory: site.Inventory, Prober: prober{}, Log: obs.Discard()})
	ok(t, err)
	beater, err := heartbeat.New(heartbeat.Options{
		Watch: site.Alerting, Duties: site.Store, Deliver: alerts.PassDeliver, Log: obs.Discard(), Call: func(context.Context) error { return errBeat },
	})
	ok(t, err)
	return []store.Duty{checker.Duty(), beater.Duty()}
}
