package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/service"
	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
)

func newServeCmd() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: web UI, Public API, ingestion and diagnostics in one process",
		Long: `Run the server: web UI, Public API, ingestion and diagnostics in one process.

Without mongo.mongoUri it keeps its data in an embedded database in the data folder: one machine, nothing to install.
SIGTERM or Ctrl-C stops it in order; a second one ends it at once. A replica set that cannot be reached is waited for, for as long
as it takes: the log says so, /monitor/health answers 503, agents keep what they have.

With --backup it is a backup daemon, too: it needs a folder for heads (rootDirectory) and one that holds mongod
(mongodb.release.directory). heartwood backup-daemon runs one on another machine. The process then keeps its memory near 600 MB, heads
apart; GOMEMLIMIT sets another limit.

Exit codes: 0 stopped in order, 1 failed (the reason is on standard error), 2 wrong usage.`,
		Example: `  heartwood serve --data /var/lib/heartwood --listen 0.0.0.0:8080
  heartwood serve --config /etc/heartwood/conf-mms.properties
  heartwood serve --backup --set mongodb.release.directory=/opt/mongodb --set rootDirectory=/var/lib/mongodb/backup/
  heartwood serve --data second --port-base 9080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, src, err := f.load()
			if err != nil {
				return err
			}
			log, err := obs.NewLogger(cmd.ErrOrStderr(), loaded.Server.LogLevel, loaded.Server.LogFormat)
			if err != nil {
				return err
			}
			warn(log, loaded.Warnings)
			limitMemory(serverMemory(&loaded.Server))
			defer service.StoppingWith(cmd.Context())()
			return runner.Run(cmd.Context(), runner.Options{Sources: src, Log: log, Status: service.Status, Started: func(s *runner.Server) {
				announce(cmd.ErrOrStderr(), s)
				service.Ready()
			}})
		},
	}
	f.register(cmd)
	f.registerSandbox(cmd)
	f.registerBackup(cmd)
	return cmd
}

func warn(log *slog.Logger, warnings []string) {
	for _, w := range warnings {
		log.Warn("settings", obs.KeyReason, w)
	}
}

func announce(w io.Writer, s *runner.Server) {
	_, _ = fmt.Fprintf(w, "\nheartwood serves on %s (agents: %s)\n", s.URL(), s.IngestionURL())
}

// What the parts of a process work on without strain: from there on it collects its garbage more eagerly. A server of ten thousand
// hosts took 153 MB; a daemon's slices and frames are of a few megabytes each.
const (
	daemonShare = 400 << 20
	serverShare = 200 << 20
)

// serverMemory is the soft limit of a server's process in bytes, 0 for none: only with a daemon in it, whose replays allocate much. The
// memory of guests counts as the process's, and how many run is not known before.
func serverMemory(c *config.Server) int64 {
	if !c.BackupDaemon || c.Sandbox == config.SandboxWasm {
		return 0
	}
	return serverShare + daemonShare
}

// limitMemory sets a soft limit, unless GOMEMLIMIT says something else.
func limitMemory(limit int64) {
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}
