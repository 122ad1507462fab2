// Package agents is the commands that run the agents: what they share, and what each says of itself.
package agents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/cli/service"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// agentProgram is an agent, as a command runs it.
type agentProgram interface {
	Run(ctx context.Context) error
	Check(ctx context.Context, w io.Writer, asJSON bool) error
}

// agentKind is what tells the commands of the agents apart.
type agentKind struct {
	name    string // of the command and the component
	short   string
	long    string // before the settings
	example string
	memory  int64 // soft limit of the process, in bytes; 0 for none
	start   func(cfg config.Agent, log *slog.Logger) (agentProgram, error)
}

func (k *agentKind) command() *cobra.Command {
	var (
		file          string
		check, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   k.name + " --config FILE",
		Short: k.short,
		Long: k.long + "\n\n" +
			"Settings come from the file, and over it from the environment (NAME_FILE names a file with the value):\n\n" + agentKeyTable() +
			"\nExit codes: 0 stopped or everything in order, 1 failed or something missing, 2 wrong usage.",
		Example: k.example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON && !check {
				return exit.Usagef("heartwood "+k.name+" --config "+orFile(file)+" --check --json", "--json goes with --check")
			}
			return k.run(cmd, file, check, asJSON)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "file of key=value lines, such as "+k.name+".config; may be left out when the environment says it all")
	cmd.Flags().BoolVar(&check, "check", false, "try everything once, say what is missing and how to mend it, and exit")
	cmd.Flags().BoolVar(&asJSON, "json", false, "with --check: print the report as JSON")
	return cmd
}

func (k *agentKind) run(cmd *cobra.Command, file string, check, asJSON bool) error {
	loaded, err := LoadConfig(k.name, file)
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
	a, err := k.start(cfg, log.With(obs.KeyComponent, k.name))
	if err != nil {
		return err
	}
	if check {
		return a.Check(cmd.Context(), cmd.OutOrStdout(), asJSON)
	}
	// An agent is a guest on its machine: memory matters more than its little time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMEMLIMIT") == "" && k.memory > 0 {
		debug.SetMemoryLimit(k.memory)
	}
	ctx, stop := context.WithCancel(cmd.Context())
	var rotating sync.WaitGroup
	rotating.Go(func() { logFile.Run(ctx, log) })
	defer service.StoppingWith(ctx)()
	service.Ready() // an agent whose server is away is ready, too: it keeps what it collects
	err = a.Run(ctx)
	stop()
	rotating.Wait()
	return errors.Join(err, logFile.Close())
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

// LoadConfig reads the settings of an agent, from a file (which may be "") and the environment.
func LoadConfig(name, file string) (*config.LoadedAgent, error) {
	src := config.AgentSources{FileName: file, Environ: os.Environ()}
	if file != "" {
		b, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, opererr.New("read the agent's configuration", err, "heartwood "+name+" --help shows an example")
		}
		if src.File, err = config.ParseProperties(file, b); err != nil {
			return nil, opererr.New("read the agent's configuration", err, "heartwood "+name+" --help shows an example")
		}
	}
	loaded, err := config.LoadAgent(src)
	if err != nil {
		return nil, opererr.New("agent configuration", err, "heartwood "+name+" --help lists all settings")
	}
	return loaded, nil
}
