// Command lambda is the alerts function on AWS Lambda: evaluation and delivery, called by schedules.
package main

import (
	"github.com/heartwood-db/heartwood/functions/alerts"
	"github.com/heartwood-db/heartwood/local/channels"
	"github.com/heartwood-db/heartwood/local/duties"
	"github.com/heartwood-db/heartwood/local/instance"
	"github.com/heartwood-db/heartwood/shared/obs"
)

func main() { instance.Main(build) }

func build(p *instance.Parts) (*instance.Function, error) {
	sender, err := channels.New(p.Config)
	if err != nil {
		return nil, err
	}
	table, err := duties.Releases(p.Config.AlertsReleases)
	if err != nil {
		return nil, err
	}
	more, err := duties.New(p.Config, p.Site, p.Log)
	if err != nil {
		return nil, err
	}
	server, err := alerts.Assemble(p.Config, p.Site, alerts.Outside{
		Log: p.Log, Reg: p.Reg, Health: p.Health, Sender: sender, Instance: p.Name, Version: obs.Build().Version, Releases: table, Duties: more,
	})
	if err != nil {
		return nil, err
	}
	return &instance.Function{Handler: server, Passes: server.Passes}, nil
}
