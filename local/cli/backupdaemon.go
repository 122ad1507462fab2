package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/service"
	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/obs"
)

func newBackupDaemonCmd() *cobra.Command {
	var f serverFlags
	var check bool
	cmd := &cobra.Command{
		Use:   "backup-daemon",
		Short: "Run a backup daemon: heads, snapshots and restores of the replica sets that are backed up",
		Long: `Run a backup daemon. It takes backups from the site's database, by lease: when it falls silent for heartwood.backup.takeOver
(15 minutes) another daemon takes them over and makes their heads from the last snapshots.

A head is a mongod on 127.0.0.1 (from port 27500 on) that holds a copy of a replica set. The daemon needs

  rootDirectory              a folder for heads: as much room as all data that is backed up, and a fifth
  mongodb.release.directory  a folder that holds mongod of each version that is backed up: one folder a release, as
                             MongoDB's archives unpack
  mongo.mongoUri             the site's database, a replica set. With the embedded database the daemon runs in the
                             server: heartwood serve --backup
  mms.keyfile                the gen.key of the site's servers

It uses the same settings file as the server; conf-daemon.properties of MMS On Prem loads as it is. /health and /metrics are
on 127.0.0.1:8090. SIGTERM, Ctrl-C or the kill-port (8640) stop it in order: batches are finished, heads are stopped cleanly.
heartwood status and heartwood stop find it by the folder of the heads. A database that cannot be reached is waited for; /health then
answers 503. The process keeps its memory near 400 MB, heads apart; GOMEMLIMIT sets another limit.

Exit codes: 0 stopped in order (or, with --check, everything is there), 1 failed (the reason is on standard error), 2 wrong usage.`,
		Example: `  heartwood backup-daemon --config /etc/heartwood/conf-mms.properties
  heartwood backup-daemon --config /etc/heartwood/conf-mms.properties --set rootDirectory=/heads/ --set mongodb.release.directory=/opt/mongodb
  heartwood backup-daemon --config /etc/heartwood/conf-mms.properties --check
  heartwood status --data /heads
  heartwood stop --data /heads`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, src, err := f.load()
			if err != nil {
				return err
			}
			if check {
				if err := runner.Preflight(&loaded.Server); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "heads in %s, mongods in %s: in order\n", loaded.Server.Heads(), loaded.Server.Releases())
				return err
			}
			log, err := obs.NewLogger(cmd.ErrOrStderr(), loaded.Server.LogLevel, loaded.Server.LogFormat)
			if err != nil {
				return err
			}
			warn(log, loaded.Warnings)
			limitMemory(daemonShare)
			defer service.StoppingWith(cmd.Context())()
			return runner.RunBackup(cmd.Context(), runner.BackupOptions{Sources: src, Log: log, Status: service.Status, Started: func(d *runner.BackupDaemon) {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "\nheartwood backup daemon %s runs\n", d.ID())
				service.Ready()
			}})
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&check, "check", false, "look whether everything is there that the daemon needs on this machine, and exit")
	return cmd
}
