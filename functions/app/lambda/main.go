// Command lambda is the application on AWS Lambda: pages and Public API.
package main

import (
	"github.com/heartwood-db/heartwood/functions/app"
	"github.com/heartwood-db/heartwood/local/channels"
	"github.com/heartwood-db/heartwood/local/instance"
	"github.com/heartwood-db/heartwood/shared/obs"
)

func main() { instance.Main(build) }

func build(p *instance.Parts) (*instance.Function, error) {
	sender, err := channels.New(p.Config)
	if err != nil {
		return nil, err
	}
	pages, err := app.Assemble(p.Config, p.Site, app.Outside{
		Log: p.Log, Reg: p.Reg, Health: p.Health, Sender: sender, Build: obs.Build(), Server: "AWS Lambda", Upgrading: p.Upgrading,
	})
	if err != nil {
		return nil, err
	}
	return &instance.Function{Handler: pages}, nil
}
