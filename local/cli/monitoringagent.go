package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/monitoragent"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
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

func newMonitoringAgentCmd() *cobra.Command {
	var (
		file          string
		check, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "monitoring-agent --config FILE",
		Short: "Run the agent that visits MongoDB processes and posts what they answer",
		Long: "Runs a monitoring agent until it is interrupted. Several agents of one group may run: one is active, the others take\n" +
			"over when it falls silent. SIGUSR1 rotates its log file.\n\n" +
			"Settings come from the file, and over it from the environment (NAME_FILE names a file with the value):\n\n" + agentKeyTable() +
			"\nExit codes: 0 stopped or everything in order, 1 failed or something missing, 2 wrong usage.",
		Example: agentExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON && !check {
				return usagef("heartwood monitoring-agent --config "+orFile(file)+" --check --json", "--json goes with --check")
			}
			return runMonitoringAgent(cmd, file, check, asJSON)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "file of key=value lines, such as monitoring-agent.config; may be left out when the environment says it all")
	cmd.Flags().BoolVar(&check, "check", false, "try everything once, say what is missing and how to mend it, and exit")
	cmd.Flags().BoolVar(&asJSON, "json", false, "with --check: print the report as JSON")
	return cmd
}

func orFile(file string) string {
	if file == "" {
		return "FILE"
	}
	return file
}

func agentKeyTable() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, k := range config.AgentKeys() {
		def := ""
		if k.Default != "" {
			def = " [" + k.Default + "]"
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s%s\n", k.Name, k.Env, k.Help, def)
	}
	_ = w.Flush() // into memory
	return b.String()
}

func loadAgentConfig(file string) (*config.LoadedAgent, error) {
	src := config.AgentSources{FileName: file, Environ: os.Environ()}
	if file != "" {
		b, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, opererr.New("read the agent's configuration", err, "heartwood monitoring-agent --help shows an example")
		}
		if src.File, err = config.ParseProperties(file, b); err != nil {
			return nil, opererr.New("read the agent's configuration", err, "heartwood monitoring-agent --help shows an example")
		}
	}
	loaded, err := config.LoadAgent(src)
	if err != nil {
		return nil, opererr.New("agent configuration", err, "heartwood monitoring-agent --help lists all settings")
	}
	return loaded, nil
}

func runMonitoringAgent(cmd *cobra.Command, file string, check, asJSON bool) error {
	loaded, err := loadAgentConfig(file)
	if err != nil {
		return err
	}
	cfg := loaded.Agent
	if check {
		cfg.LogFile, cfg.LogLevel = "", "ERROR" // the report says it all
	}
	log, logFile, err := agent.NewLog(&cfg, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	for _, warning := range loaded.Warnings {
		log.Warn("configuration", obs.KeyReason, warning)
	}
	a, err := monitoragent.New(monitoragent.Options{
		Config: cfg, Log: log.With(obs.KeyComponent, "monitoring-agent"), Version: obs.Build().Version,
	})
	if err != nil {
		return err
	}
	if check {
		return a.Check(cmd.Context(), cmd.OutOrStdout(), asJSON)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // an agent is a guest on its machine: memory matters more than its little time
	}
	ctx, stop := context.WithCancel(cmd.Context())
	var rotating sync.WaitGroup
	rotating.Go(func() { logFile.Run(ctx, log) })
	err = a.Run(ctx)
	stop()
	rotating.Wait()
	return errors.Join(err, logFile.Close())
}
