//go:build wasip1

// Command guest is the application, pages and Public API, as a guest of local/wasmhost.
package main

import (
	"net/http"

	"github.com/heartwood-db/heartwood/functions/app"
	"github.com/heartwood-db/heartwood/local/sandbox/inside"
)

func init() { inside.Serve(build) }

func main() {}

func build(g *inside.Guest) (http.Handler, error) {
	probe, err := inside.Health(g)
	if err != nil {
		return nil, err
	}
	return app.Assemble(&g.Server, g.Site, app.Outside{
		Log: g.Log, Health: probe, Sender: g.Sender(), Build: g.Build, Server: g.Hostname, AgentPort: g.AgentPort, Embedded: g.Embedded,
		Upgrading: g.Upgrading, Passwords: g.Passwords(),
	})
}
