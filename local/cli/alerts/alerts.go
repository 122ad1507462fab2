// Package alerts is `heartwood alerts`: what is open and why, acknowledgements, silences, maintenance windows, tests and, in code
// below it, settings as files. It works through the Public API alone.
package alerts

import (
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/alerts/code"
	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
)

// Command is `heartwood alerts`.
func Command() *cobra.Command {
	a := app{&ask.App{Getenv: os.Getenv, Now: time.Now}}
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "Look at alerts, act on them, and keep their settings as code",
		Long: `Look at alerts, act on them, and keep their settings as code, through the Public API of a running server.

Which server, key and group: see heartwood profile --help. Times are UTC; a time may be 2026-12-24T18:00:00Z,
"2026-12-24 18:00", or how long ago: 90m, 24h, 7d.` + ask.Codes,
		Example: "  heartwood alerts list\n  heartwood alerts ack 65f0c0ffee0000000000a1e7 --for 2h --comment \"disk is on its way\"\n  heartwood alerts export -o alerts.yaml && heartwood alerts apply alerts.yaml --dry-run",
		Args:    ask.None("heartwood alerts list"),
		RunE: func(*cobra.Command, []string) error {
			return exit.Usagef("heartwood alerts list", "what to do with alerts is missing")
		},
	}
	a.Flags.Register(cmd)
	cmd.AddCommand(a.list(), a.show(), a.ack(), a.unack(), a.why(), a.test(), a.configs(), a.enable(true), a.enable(false),
		a.silence(), a.silences(), a.windows())
	cmd.AddCommand(code.Commands(a.App)...)
	return cmd
}

// app has the commands.
type app struct{ *ask.App }

func sorted(o ask.Object) []string { return slices.Sorted(maps.Keys(o)) }
