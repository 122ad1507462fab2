// Heartwood monitors MongoDB deployments: one binary with the server, the agent and the command
// line.
package main

import (
	"context"
	"os"

	"github.com/heartwood-db/heartwood/local/cli"
)

func main() { os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
