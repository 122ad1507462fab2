// Command lambda is ingestion on AWS Lambda: what agents send and fetch, and the duties that look after their numbers.
package main

import (
	"github.com/heartwood-db/heartwood/functions/ingestion"
	"github.com/heartwood-db/heartwood/local/instance"
	"github.com/heartwood-db/heartwood/local/stores"
)

func main() { instance.Main(build) }

func build(p *instance.Parts) (*instance.Function, error) {
	// What an instance has open ends with it: there is no moment to close it.
	blobs := stores.NewSet(p.Site.Backup.Store, stores.Options{Box: p.Site.Store.Box(), Reg: p.Reg, Log: p.Log})
	intake, err := ingestion.Assemble(p.Config, p.Site, ingestion.Outside{Log: p.Log, Reg: p.Reg, Health: p.Health, Blobs: blobs.Get, Presign: true})
	if err != nil {
		return nil, err
	}
	return &instance.Function{Handler: intake, Passes: intake.Passes}, nil
}
