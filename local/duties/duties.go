// Package duties makes the duties of the alerts function that reach out of the process, and reads what else of it lies outside of
// settings and store, for every main that evaluates alerts.
package duties

import (
	"context"
	"log/slog"
	"os"

	"github.com/heartwood-db/heartwood/functions/alerts"
	"github.com/heartwood-db/heartwood/functions/alerts/exposed"
	"github.com/heartwood-db/heartwood/functions/alerts/heartbeat"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/probe"
	"github.com/heartwood-db/heartwood/shared/rule/release"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
)

// New makes the check of exposed hosts, and the heartbeat where somebody listens for it.
func New(c *config.Server, site *areas.Site, log *slog.Logger) ([]store.Duty, error) {
	dialler := prober{probe.New(probe.Options{Log: log, Vantage: config.Prefixes(c.ExposedVantage)})}
	checker, err := exposed.New(exposed.Options{Inventory: site.Inventory, Prober: dialler, Log: log})
	if err != nil {
		return nil, err
	}
	made := []store.Duty{checker.Duty()}
	if c.AlertsHeartbeat == "" {
		return made, nil
	}
	beater, err := heartbeat.New(heartbeat.Options{
		URL: c.AlertsHeartbeat, Watch: site.Alerting, Duties: site.Store, Deliver: alerts.PassDeliver, Log: log,
		Client: notify.Client(notify.ClientOptions{Unguarded: true}), // only who runs the server sets its address
	})
	if err != nil {
		return nil, err
	}
	return append(made, beater.Duty()), nil
}

// Releases reads the table of MongoDB releases that replaces the embedded one; nil when no file is named.
func Releases(file string) (*release.Table, error) {
	b, err := ReleaseFile(file)
	if err != nil || b == nil {
		return nil, err
	}
	return release.Load(b)
}

// ReleaseFile reads the file of a table and sees that it is one; nil when no file is named.
func ReleaseFile(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	const hint = "name a file in the format of releases.json of this version, or leave heartwood.alerts.releases empty for the table in the program"
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, opererr.New("read heartwood.alerts.releases", err, hint)
	}
	if _, err := release.Load(b); err != nil {
		return nil, opererr.New("read heartwood.alerts.releases", err, hint)
	}
	return b, nil
}

// prober is the probe as the check of exposed hosts sees it.
type prober struct{ *probe.Prober }

// Probe dials a host.
func (p prober) Probe(ctx context.Context, host string, port int) exposed.Finding {
	r := p.Check(ctx, host, port)
	return exposed.Finding{Exposed: r.Verdict == probe.Exposed, Known: r.Verdict != probe.Unknown, Reason: r.Reason}
}
