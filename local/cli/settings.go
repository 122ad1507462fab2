package cli

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Distances of the ports from the first one, as with the classic 8080, 8081, 8091, 8092 and 8650, the backup daemon's 8090 and
// 8640, and the heads' 27500.
const (
	ingestionOffset   = 1
	diagnosticsOffset = 11
	alertsOffset      = 12
	killOffset        = 570
	daemonOffset      = 10
	daemonKillOffset  = 560
	headsOffset       = 19_420
	highestHeads      = 65_000
)

// serverFlags are the flags by which every command that touches the server's settings finds them.
type serverFlags struct {
	data     string
	file     string
	listen   string
	portBase int
	set      []string
	sandbox  string
	backup   bool
}

func (f *serverFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data", "", "data folder (setting heartwood.data)")
	cmd.Flags().StringVar(&f.file, "config", "", "settings file of key=value lines, as conf-mms.properties")
	cmd.Flags().StringVar(&f.listen, "listen", "", "address of the web UI and API (setting heartwood.listen)")
	cmd.Flags().IntVar(&f.portBase, "port-base", 0, "first port; the others follow (ingestion +1, diagnostics +11 and +12, kill-port +570), so that several servers fit on one machine")
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "a setting as key=value; may be repeated")
}

// registerSandbox is for the commands that run functions.
func (f *serverFlags) registerSandbox(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.sandbox, "sandbox", "", "wasm: run the functions as WebAssembly guests (setting heartwood.sandbox; make guests builds them)")
}

// registerBackup is for the command that may run a backup daemon beside the functions.
func (f *serverFlags) registerBackup(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.backup, "backup", false, "run a backup daemon in this process, too (setting heartwood.backup.daemon)")
}

// sources turns the flags, the file and the environment into configuration layers; the database layer is the caller's.
func (f *serverFlags) sources() (config.Sources, error) {
	src := config.Sources{Environ: os.Environ(), FileName: f.file, Flags: map[string]string{}}
	if f.file != "" {
		b, err := os.ReadFile(f.file)
		if err != nil {
			return src, opererr.New("read the settings file", err, "give the path of an existing file with --config")
		}
		if src.File, err = config.ParseProperties(f.file, b); err != nil {
			return src, err
		}
	}
	for _, kv := range f.set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return src, usagef("heartwood serve --set mms.centralUrl=https://heartwood.example.com", "--set %s is not key=value", kv)
		}
		src.Flags[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	if f.data != "" {
		src.Flags["heartwood.data"] = f.data
	}
	if f.listen != "" {
		src.Flags["heartwood.listen"] = f.listen
	}
	if f.sandbox != "" {
		src.Flags["heartwood.sandbox"] = f.sandbox
	}
	if f.backup {
		src.Flags["heartwood.backup.daemon"] = "true"
	}
	return src, f.shiftPorts(src.Flags)
}

// shiftPorts makes all ports follow --port-base.
func (f *serverFlags) shiftPorts(flags map[string]string) error {
	if f.portBase == 0 {
		return nil
	}
	if f.portBase < 1 || f.portBase > 65535-killOffset {
		return usagef("heartwood serve --port-base 9080", "--port-base %d leaves no room for the other ports", f.portBase)
	}
	host := "127.0.0.1"
	if f.listen != "" {
		h, _, err := net.SplitHostPort(f.listen)
		if err != nil {
			return usagef("heartwood serve --listen 127.0.0.1:8080", "--listen: %w", err)
		}
		host = h
	}
	flags["heartwood.listen"] = net.JoinHostPort(host, strconv.Itoa(f.portBase))
	flags["heartwood.ingestion.port"] = strconv.Itoa(f.portBase + ingestionOffset)
	flags["heartwood.diagnostics.port"] = strconv.Itoa(f.portBase + diagnosticsOffset)
	flags["heartwood.alerts.port"] = strconv.Itoa(f.portBase + alertsOffset)
	flags["heartwood.alerts.killPort"] = strconv.Itoa(f.portBase + killOffset)
	flags["heartwood.backup.port"] = strconv.Itoa(f.portBase + daemonOffset)
	flags["heartwood.backup.killPort"] = strconv.Itoa(f.portBase + daemonKillOffset)
	flags["heartwood.backup.headPort"] = strconv.Itoa(min(f.portBase+headsOffset, highestHeads))
	return nil
}

// load reads the settings without the database layer.
func (f *serverFlags) load() (*config.Loaded, config.Sources, error) {
	src, err := f.sources()
	if err != nil {
		return nil, src, err
	}
	l, err := config.Load(src)
	if err != nil {
		return nil, src, fmt.Errorf("settings:\n%w", err)
	}
	return l, src, nil
}
