package agents

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/daemon/monitoragent"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
)

const agentExample = `  # monitoring-agent.config (mode 0600: it holds the key)
  mmsBaseUrl=http://heartwood.example.com:8081
  mmsGroupId=5f3a1c0e9d8b7a6f5e4d3c2b
  mmsApiKey=0123456789abcdef0123456789abcdef
  # what to monitor: any process of each deployment; the rest is found from it
  mongoUri=mongodb://heartwood@db1.example.com:27017,db2.example.com:27017/?tls=true
  globalAuthUsername=heartwood
  sslTrustedServerCertificates=/etc/ssl/mongo-ca.pem

  # the password from a file, as containers pass it
  GLOBAL_AUTH_PASSWORD_FILE=/run/secrets/mongo heartwood monitoring-agent --config monitoring-agent.config

  # what is missing?
  heartwood monitoring-agent --config monitoring-agent.config --check`

// Monitoring is the command monitoring-agent.
func Monitoring() *cobra.Command {
	k := &agentKind{
		name:  "monitoring-agent",
		short: "Run the agent that visits MongoDB processes and posts what they answer",
		long: "Runs a monitoring agent until it is interrupted. Several agents of one group may run: one is active, the others take\n" +
			"over when it falls silent. SIGUSR1 rotates its log file.",
		example: agentExample,
		start: func(cfg config.Agent, log *slog.Logger) (agentProgram, error) {
			return monitoragent.New(monitoragent.Options{Config: cfg, Log: log, Version: obs.Build().Version})
		},
	}
	return k.command()
}
