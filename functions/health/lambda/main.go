// Command lambda is the health function on AWS Lambda: whether the site lives, and the metrics of what its store knows.
package main

import (
	"strings"

	"github.com/heartwood-db/heartwood/functions/alerts"
	"github.com/heartwood-db/heartwood/functions/ingestion"
	"github.com/heartwood-db/heartwood/local/channels"
	"github.com/heartwood-db/heartwood/local/instance"
)

func main() { instance.Main(build) }

// build builds the other functions only for what they register: gauges that are read from the store when they are asked for,
// whichever instance did the work. What each instance counts for itself would be misleading zeros here, and is not shown.
func build(p *instance.Parts) (*instance.Function, error) {
	sender, err := channels.New(p.Config)
	if err != nil {
		return nil, err
	}
	if _, err := ingestion.Assemble(p.Config, p.Site, ingestion.Outside{Log: p.Log, Reg: p.Reg}); err != nil {
		return nil, err
	}
	if _, err := alerts.Assemble(p.Config, p.Site, alerts.Outside{Log: p.Log, Reg: p.Reg, Sender: sender, Instance: p.Name}); err != nil {
		return nil, err
	}
	return &instance.Function{Handler: p.Health, Shown: shown}, nil
}

func shown(family string) bool {
	switch family {
	case "heartwood_alerts_evaluation_seconds", "heartwood_alerts_evaluations_total", "heartwood_alerts_deliveries_total":
		return false
	}
	for _, prefix := range []string{"heartwood_pass_", "heartwood_alerts_", "heartwood_build_", "heartwood_docstore_", "go_", "process_"} {
		if strings.HasPrefix(family, prefix) {
			return true
		}
	}
	return false
}
