package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// How long stop waits before it cuts a server short.
const (
	stopBudget = 60 * time.Second
	stopPoll   = 100 * time.Millisecond
)

func newStatusCmd() *cobra.Command {
	var f serverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether a server runs on a data folder",
		Long: `Say whether a server runs on a data folder.

Exit codes (LSB): 0 it runs, 1 it died and left its pid file, 3 it is not running.`,
		Example: "  heartwood status --data /var/lib/heartwood",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, _, err := f.load()
			if err != nil {
				return err
			}
			state, pid, err := runner.Status(l.Server.DataDir)
			if err != nil {
				return err
			}
			word := map[runner.State]string{runner.Running: "running", runner.Dead: "dead", runner.NotRunning: "not running"}[state]
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"state": word, "pid": pid, "data": absolute(l.Server.DataDir)})
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "heartwood on %s: %s%s\n", l.Server.DataDir, word, pidNote(state, pid))
			}
			if err != nil || state == runner.Running {
				return err
			}
			return &exit.Error{Code: int(state)}
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func pidNote(state runner.State, pid int) string {
	switch state {
	case runner.Running:
		return fmt.Sprintf(" (process %d)", pid)
	case runner.Dead:
		return fmt.Sprintf(" (process %d is gone; the next start recovers)", pid)
	case runner.NotRunning:
	}
	return ""
}

func newStopCmd() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the server that runs on a data folder, in order",
		Long: `Stop the server that runs on a data folder: behind a load balancer it fails its health check
for heartwood.drainSeconds first; it finishes the requests in progress, then ends.

Exit codes: 0 stopped, or was not running; 1 it did not end within 60 s and heartwood.drainSeconds.`,
		Example: "  heartwood stop --data /var/lib/heartwood",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, _, err := f.load()
			if err != nil {
				return err
			}
			return stopServer(cmd, l.Server.DataDir, l.Server.Drain()+stopBudget)
		},
	}
	f.register(cmd)
	return cmd
}

func stopServer(cmd *cobra.Command, dir string, budget time.Duration) error {
	state, pid, err := runner.Status(dir)
	if err != nil {
		return err
	}
	if state != runner.Running {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "heartwood on %s is not running\n", dir)
		return err
	}
	if err := runner.Signal(pid, syscall.SIGTERM); err != nil {
		return opererr.New(fmt.Sprintf("stop process %d", pid), err, "run the command as the user the server runs as, or as root")
	}
	deadline := time.Now().Add(budget)
	for time.Now().Before(deadline) {
		if state, now, err := runner.Status(dir); err != nil || state != runner.Running || now != pid {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-time.After(stopPoll):
		}
	}
	return opererr.New("stop the server", fmt.Errorf("process %d still runs after %v", pid, budget), fmt.Sprintf("see its log; as a last resort: kill -9 %d (nothing acknowledged is lost)", pid))
}

func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// openable reports why a folder cannot be opened here: a running server owns the embedded database.
func openable(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil //nolint:nilerr // it will be made
	}
	state, pid, err := runner.Status(dir)
	if err == nil && state == runner.Running {
		err = opererr.New("open "+dir, fmt.Errorf("the server with process %d uses it", pid), "run: heartwood stop --data "+dir)
	}
	return err
}
