// Heartwood monitors MongoDB deployments: one binary with the server, the agent and the command
// line. Called as mongod it is the simulator's stand-in for it.
package main

import (
	"context"
	"os"

	"github.com/heartwood-db/heartwood/local/cli"
	"github.com/heartwood-db/heartwood/local/cli/mongosim"
)

func main() {
	os.Exit(cli.Run(context.Background(), mongosim.Arguments(os.Args), os.Stdin, os.Stdout, os.Stderr))
}
