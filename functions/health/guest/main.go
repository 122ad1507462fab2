//go:build wasip1

// Command guest is the health function as a guest of local/wasmhost.
package main

import (
	"net/http"

	"github.com/heartwood-db/heartwood/local/sandbox/inside"
)

func init() { inside.Serve(build) }

func main() {}

func build(g *inside.Guest) (http.Handler, error) { return inside.Health(g) }
