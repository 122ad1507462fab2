package agents

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/daemon/backupagent"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
)

const backupAgentExample = `  # backup-agent.config (mode 0600: it holds the key)
  mmsBaseUrl=http://heartwood.example.com:8081
  mmsGroupId=5f3a1c0e9d8b7a6f5e4d3c2b
  mmsApiKey=0123456789abcdef0123456789abcdef
  globalAuthUsername=heartwood-backup
  globalAuthPasswordExec=cat /run/secrets/mongo
  sslTrustedServerCertificates=/etc/ssl/mongo-ca.pem

  # its user, on the primary of each replica set:
  #   db.getSiblingDB("admin").createUser({user: "heartwood-backup", pwd: passwordPrompt(),
  #     roles: [{role: "backup", db: "admin"}, {role: "clusterMonitor", db: "admin"}]})

  heartwood backup-agent --config /etc/heartwood/backup-agent.config

  # what is missing?
  heartwood backup-agent --config /etc/heartwood/backup-agent.config --check`

// backupAgentMemory is what a backup agent may take of its machine, whatever it reads.
const backupAgentMemory = 256 << 20

// Backup is the command backup-agent.
func Backup() *cobra.Command {
	k := &agentKind{
		name:  "backup-agent",
		short: "Run the agent that reads replica sets for their continuous backup",
		long: "Runs a backup agent until it is interrupted: it reads the replica sets that the server tells it to back up, once as a\n" +
			"whole and then their oplogs, and sends both to the server. What it backs up is said in the web app, not here; here is how\n" +
			"the databases and the server are reached. Several agents of one group may run: one is active, the others take over when\n" +
			"it falls silent. What was read of an oplog waits in stateDir, up to spoolMaxBytes, while the server is away. SIGUSR1\n" +
			"rotates its log file.",
		example: backupAgentExample,
		memory:  backupAgentMemory,
		start: func(cfg config.Agent, log *slog.Logger) (agentProgram, error) {
			return backupagent.New(backupagent.Options{Config: cfg, Log: log, Version: obs.Build().Version})
		},
	}
	return k.command()
}
