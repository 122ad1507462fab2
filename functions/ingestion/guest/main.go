//go:build wasip1

// Command guest is the ingestion function as a guest of local/wasmhost.
package main

import (
	"net/http"

	"github.com/heartwood-db/heartwood/functions/ingestion"
	"github.com/heartwood-db/heartwood/local/sandbox/inside"
)

func init() { inside.Serve(build) }

func main() {}

func build(g *inside.Guest) (http.Handler, error) {
	probe, err := inside.Health(g)
	if err != nil {
		return nil, err
	}
	in, err := ingestion.Assemble(&g.Server, g.Site, ingestion.Outside{Log: g.Log, Health: probe, PassToken: g.Secret(), Blobs: g.Blobs()})
	if err != nil {
		return nil, err
	}
	return in, inside.Duties("/passes/", in.Passes())
}
