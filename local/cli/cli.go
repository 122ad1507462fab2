// Package cli is the command line of the heartwood binary: one file a command, flags and printing only; the work is in the
// packages it calls. Data goes to standard output, everything else to standard error.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage; status and stop follow the LSB (3 not running).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/agents"
	"github.com/heartwood-db/heartwood/local/cli/alerts"
	"github.com/heartwood-db/heartwood/local/cli/backups"
	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/cli/mongosim"
	"github.com/heartwood-db/heartwood/local/cli/profile"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Exit codes of every command.
const (
	exitOK     = exit.OK
	exitFailed = exit.Failed
	exitUsage  = exit.Usage
)

// usagef is wrong usage: try is a command line that works.
func usagef(try, format string, a ...any) error { return exit.Usagef(try, format, a...) }

// Run executes one command line and returns its exit code. The first interrupt cancels the context that commands work
// under, a second one ends the program at once.
func Run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from now on a second signal has its default effect

	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var carried *exit.Error
	code := exitFailed
	if errors.As(err, &carried) {
		code, err = carried.Code, carried.Err
	}
	if err != nil {
		_, _ = fmt.Fprintf(errOut, "heartwood: %v\n", err)
		if hint := opererr.HintOf(err); hint != "" {
			_, _ = fmt.Fprintln(errOut, hint)
		}
	}
	return code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "heartwood",
		Short:         "Self-hosted monitoring for MongoDB",
		Version:       obs.Build().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(cmd.CommandPath()+" --help", "%w", err)
	})
	root.AddCommand(newServeCmd(), newDemoCmd(), agents.Monitoring(), agents.Backup(), newBackupDaemonCmd(), newStatusCmd(), newStopCmd(), newConfigCmd(), newStoreCmd(), mongosim.New(), newHealthcheckCmd(),
		profile.Command(), alerts.Command())
	root.AddCommand(backups.Commands()...)
	return root
}
