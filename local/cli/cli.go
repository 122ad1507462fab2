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

	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Exit codes of every command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// exitError carries an exit code with an error that may be nil when everything was printed already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usagef is wrong usage: try is a command line that works.
func usagef(try, format string, a ...any) error {
	return &exitError{code: exitUsage, err: opererr.New("usage", fmt.Errorf(format, a...), "try: "+try)}
}

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
	var exit *exitError
	code := exitFailed
	if errors.As(err, &exit) {
		code, err = exit.code, exit.err
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
	root.AddCommand(newServeCmd(), newDemoCmd(), newMonitoringAgentCmd(), newStatusCmd(), newStopCmd(), newConfigCmd(), newStoreCmd(), newMongosimCmd())
	return root
}
