//go:build wasip1

// Command guest is the alerts function as a guest of local/wasmhost.
package main

import (
	"context"
	"net/http"

	"github.com/heartwood-db/heartwood/functions/alerts"
	"github.com/heartwood-db/heartwood/functions/alerts/exposed"
	"github.com/heartwood-db/heartwood/functions/alerts/heartbeat"
	"github.com/heartwood-db/heartwood/local/sandbox/inside"
	"github.com/heartwood-db/heartwood/local/sandbox/talk"
	"github.com/heartwood-db/heartwood/shared/store"
)

func init() { inside.Serve(build) }

func main() {}

func build(g *inside.Guest) (http.Handler, error) {
	probe, err := inside.Health(g)
	if err != nil {
		return nil, err
	}
	table, err := g.Table()
	if err != nil {
		return nil, err
	}
	duties, err := duties(g)
	if err != nil {
		return nil, err
	}
	al, err := alerts.Assemble(&g.Server, g.Site, alerts.Outside{
		Log: g.Log, Health: probe, Sender: g.Sender(), Instance: g.Instance, PublicURL: g.URL, Version: g.Build.Version,
		ServerCert: g.CertificateEnd(), Releases: table, Duties: duties, PassToken: g.Secret(),
	})
	if err != nil {
		return nil, err
	}
	return al, inside.Duties("/alerts/v1/passes/", al.Passes())
}

// duties are those that reach out: the host dials and calls.
func duties(g *inside.Guest) ([]store.Duty, error) {
	checker, err := exposed.New(exposed.Options{Inventory: g.Site.Inventory, Prober: prober{}, Log: g.Log})
	if err != nil {
		return nil, err
	}
	list := []store.Duty{checker.Duty()}
	if !g.Heartbeat {
		return list, nil
	}
	beater, err := heartbeat.New(heartbeat.Options{
		Watch: g.Site.Alerting, Duties: g.Site.Store, Deliver: alerts.PassDeliver, Log: g.Log, Call: call,
	})
	if err != nil {
		return nil, err
	}
	return append(list, beater.Duty()), nil
}

// prober has the host dial.
type prober struct{}

// Probe implements exposed.Prober.
func (prober) Probe(_ context.Context, host string, port int) exposed.Finding {
	f, err := inside.Ask[talk.Finding](talk.CapProbe, talk.Door{Host: host, Port: port})
	if err != nil {
		return exposed.Finding{Reason: err.Error()}
	}
	return exposed.Finding{Exposed: f.Exposed, Known: f.Known, Reason: f.Reason}
}

// call has the host call the one address that is configured, which the guest does not know.
func call(context.Context) error {
	sent, err := inside.Ask[talk.Sent](talk.CapHeartbeat, talk.Sent{})
	if err == nil {
		_, err = sent.Result()
	}
	return err
}
