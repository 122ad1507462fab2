package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/backupagent"
	"github.com/heartwood-db/heartwood/daemon/monitoragent"
	"github.com/heartwood-db/heartwood/local/cli/agents"
	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/cli/mongosim"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

const (
	healthLimit = 5 * time.Second
	healthTry   = "heartwood healthcheck"
)

func newHealthcheckCmd() *cobra.Command {
	limit := healthLimit
	cmd := &cobra.Command{
		Use:   "healthcheck [command line]",
		Short: "Say whether the server or agent of this container is well",
		Long: `Say whether the server or agent of this container is well: this is what the image's HEALTHCHECK runs. Without arguments it
looks at what process 1 runs, and reads the same settings:

  serve             asks /monitor/health
  monitoring-agent  reads in the state folder when the agent last called the server. An agent whose server is away is well (it
                    keeps pings in its spool); one that the server refuses, or that no longer calls, is not
  backup-agent      the same
  backup-daemon     asks /health
  mongosim          connects to its port

Exit codes: 0 well, 1 not well (the reason is on standard output), 2 wrong usage.`,
		Example: `  heartwood healthcheck
  heartwood healthcheck serve --config /etc/heartwood/conf-mms.properties`,
		DisableFlagParsing: true, // the flags are the command's that runs
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range args[:min(1, len(args))] {
				if a == "-h" || a == "--help" {
					return cmd.Help()
				}
			}
			if len(args) == 0 {
				b, err := os.ReadFile("/proc/1/cmdline")
				if err != nil {
					return usagef(healthTry+" serve", "what runs cannot be seen here: %w", err)
				}
				args = commandOf(b)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			said, err := checkHealth(ctx, args)
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
				return err
			}
			if carried := (*exit.Error)(nil); errors.As(err, &carried) {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), err); err != nil { // the engine keeps standard output
				return err
			}
			return &exit.Error{Code: exitFailed}
		},
	}
	return cmd
}

// commandOf is what comes after the program's name in a /proc/.../cmdline.
func commandOf(cmdline []byte) []string {
	parts := strings.Split(string(bytes.TrimRight(cmdline, "\x00")), "\x00")
	return parts[1:]
}

// checkHealth looks at the process that was started with the arguments, and says how it is.
func checkHealth(ctx context.Context, args []string) (string, error) {
	if len(args) == 0 {
		return "", usagef(healthTry+" serve", "nothing runs that could be asked")
	}
	switch args[0] {
	case "serve":
		return serverHealth(ctx, args[1:])
	case "monitoring-agent":
		return agentHealth(args, monitoragent.StateDir)
	case "backup-agent":
		return agentHealth(args, backupagent.StateDir)
	case "backup-daemon":
		return daemonHealth(ctx, args[1:])
	case "mongosim":
		return simHealth(ctx, args[1:])
	default:
		return "", usagef(healthTry+" serve", "%s is nothing that runs for long", args[0])
	}
}

// parseAs reads flags as a command does.
func parseAs(cmd *cobra.Command, args []string) error {
	cmd.FParseErrWhitelist.UnknownFlags = true
	if err := cmd.ParseFlags(args); err != nil {
		return usagef(healthTry, "%w", err)
	}
	return nil
}

func serverHealth(ctx context.Context, args []string) (string, error) {
	var f serverFlags
	cmd := &cobra.Command{Use: "serve"}
	f.register(cmd)
	if err := parseAs(cmd, args); err != nil {
		return "", err
	}
	loaded, _, err := f.load()
	if err != nil {
		return "", err
	}
	c := &loaded.Server
	address, scheme := reachable(c.Listen), "http"
	switch {
	case c.HTTPSPEMKeyFile != "" && c.HTTPSClientCert == config.CertRequired: // nobody here has a certificate
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(c.DiagnosticsPort))
	case c.HTTPSPEMKeyFile != "":
		scheme = "https"
	}
	return askHealth(ctx, scheme+"://"+address+"/monitor/health")
}

func daemonHealth(ctx context.Context, args []string) (string, error) {
	var f serverFlags
	cmd := &cobra.Command{Use: "backup-daemon"}
	f.register(cmd)
	if err := parseAs(cmd, args); err != nil {
		return "", err
	}
	loaded, _, err := f.load()
	if err != nil {
		return "", err
	}
	return askHealth(ctx, "http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(loaded.Server.BackupPort))+"/health")
}

func askHealth(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the server of this container, by its address
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return "", fmt.Errorf("%s: %w", url, err)
	}
	said := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %d: %s", url, resp.StatusCode, said)
	}
	return said, nil
}

// reachable is an address to connect to for one to listen on.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func agentHealth(args []string, stateDir func(configured string) string) (string, error) {
	var file string
	name, args := args[0], args[1:]
	cmd := &cobra.Command{Use: name}
	cmd.Flags().StringVar(&file, "config", "", "")
	if err := parseAs(cmd, args); err != nil {
		return "", err
	}
	loaded, err := agents.LoadConfig(name, file)
	if err != nil {
		return "", err
	}
	return agent.Health(stateDir(loaded.Agent.StateDir), time.Now())
}

func simHealth(ctx context.Context, args []string) (string, error) {
	address := "127.0.0.1:27117"
	cmd := &cobra.Command{Use: "mongosim"}
	listen := cmd.Flags().String("listen", "", "")
	port := cmd.Flags().Int("port", 0, "")
	host := cmd.Flags().String("hostname", "127.0.0.1", "")
	if err := parseAs(cmd, args); err != nil {
		return "", err
	}
	switch {
	case len(args) > 0 && args[0] == "core":
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(mongosim.CorePort))
	case len(args) > 0 && args[0] == "member" && *listen == "":
		address = "127.0.0.1:27017"
	case *listen != "":
		address = reachable(*listen)
	case *port > 0:
		address = reachable(net.JoinHostPort(*host, strconv.Itoa(*port)))
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", opererr.New("connect to the simulator", err, "")
	}
	return "takes connections on " + address, conn.Close()
}
