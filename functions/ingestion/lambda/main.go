// Command lambda is ingestion on AWS Lambda: what agents send and fetch, and the duties that look after their numbers.
package main

import (
	"github.com/heartwood-db/heartwood/functions/ingestion"
	"github.com/heartwood-db/heartwood/local/instance"
)

func main() { instance.Main(build) }

func build(p *instance.Parts) (*instance.Function, error) {
	intake, err := ingestion.Assemble(p.Config, p.Site, ingestion.Outside{Log: p.Log, Reg: p.Reg, Health: p.Health})
	if err != nil {
		return nil, err
	}
	return &instance.Function{Handler: intake, Passes: intake.Passes}, nil
}
