package cli

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/obs"
)

func newServeCmd() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: web UI, Public API, ingestion and diagnostics in one process",
		Long: `Run the server: web UI, Public API, ingestion and diagnostics in one process.

Without mongo.mongoUri it keeps its data in an embedded database in the data folder: one machine, nothing to install.
SIGTERM or Ctrl-C stops it in order; a second one ends it at once.

With --backup it is a backup daemon, too: it needs a folder for heads (rootDirectory) and one that holds mongod
(mongodb.release.directory). heartwood backup-daemon runs one on another machine.

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
			return runner.Run(cmd.Context(), runner.Options{Sources: src, Log: log, Started: func(s *runner.Server) { announce(cmd.ErrOrStderr(), s) }})
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
