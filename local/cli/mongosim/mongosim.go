// Package mongosim is the command that runs a simulated deployment: flags and printing.
package mongosim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/mongosim/light"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
)

// mongosimFlags are the flags of the mongosim command.
type mongosimFlags struct {
	members, arbiters, hidden int
	delayed                   time.Duration
	standalone, tls, lagging  bool
	quiet, json, verbose      bool
	port, light               int
	hostname, set, dbpath     string
	version, user, password   string
	electionEvery             time.Duration
	scale                     float64
}

const mongosimTry = "heartwood mongosim --members 3 --port 27117"

// New is the command.
func New() *cobra.Command {
	var f mongosimFlags
	cmd := &cobra.Command{
		Use:   "mongosim",
		Short: "Run a simulated MongoDB deployment to try things on",
		Long: `Run a simulated MongoDB deployment on this machine: a test double for demonstrations, tests and load.
It is not MongoDB and keeps nobody's data safe. Members listen on real ports; drivers discover them, write to them and
follow their elections. They appear to be under a load that follows the time of day, and answer serverStatus,
replSetGetStatus, getDiagnosticData and the like in the shape of real servers of the chosen version.

The connection string goes to standard output; interrupt (Ctrl-C) stops it cleanly.

Exit codes: 0 stopped on request, 1 failed, 2 wrong usage.`,
		Example: `  heartwood mongosim
  heartwood mongosim --members 3 --arbiters 1 --port 27117 --election-every 5m --lagging
  heartwood mongosim --user admin --password secret --tls --json
  heartwood mongosim --light 3000 --port 27017`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.AddCommand(newMongosimCoreCmd(), newMongosimMemberCmd(), newMongodCmd())
	fl := cmd.Flags()
	fl.IntVar(&f.members, "members", 3, "members that may become primary")
	fl.IntVar(&f.arbiters, "arbiters", 0, "further members that only vote")
	fl.IntVar(&f.hidden, "hidden", 0, "further members that are hidden")
	fl.DurationVar(&f.delayed, "delayed", 0, "add a member that applies this much later")
	fl.BoolVar(&f.standalone, "standalone", false, "one process without a replica set")
	fl.IntVar(&f.port, "port", 27117, "port of the first member, the others follow; 0 takes free ports")
	fl.StringVar(&f.hostname, "hostname", "127.0.0.1", "name or address that members listen on and are called by")
	fl.StringVar(&f.set, "set", "rs0", "name of the replica set")
	fl.StringVar(&f.dbpath, "dbpath", "", "folder for the members' data; without it they are kept in memory")
	fl.StringVar(&f.version, "server-version", "7.0.14", "server version that the members claim, from 4.2 on")
	fl.StringVar(&f.user, "user", "", "turn access control on, with this user (role root, database admin)")
	fl.StringVar(&f.password, "password", "", "password of --user")
	fl.BoolVar(&f.tls, "tls", false, "serve TLS with certificates made for this run")
	fl.DurationVar(&f.electionEvery, "election-every", 0, "step the primary down about this often")
	fl.BoolVar(&f.lagging, "lagging", false, "let secondaries fall behind now and then")
	fl.Float64Var(&f.scale, "load", 1, "how busy the members appear; 0 shows only what really happens")
	fl.BoolVar(&f.quiet, "no-workload", false, "do not write documents into the database shop all the time")
	fl.IntVar(&f.light, "light", 0, "instead run this many light hosts (127.1.0.1, 127.1.0.2, ... on one port) that only answer monitoring commands")
	fl.BoolVar(&f.json, "json", false, "print one JSON object with uri, members and files")
	fl.BoolVar(&f.verbose, "verbose", false, "log elections and member states to standard error")
	return cmd
}

// mongosimOutput is what --json prints.
type mongosimOutput struct {
	URI        string   `json:"uri,omitempty"`
	SetName    string   `json:"setName,omitempty"`
	Members    []string `json:"members"`
	CAFile     string   `json:"caFile,omitempty"`
	ClientFile string   `json:"clientFile,omitempty"`
}

func (f *mongosimFlags) run(ctx context.Context, out, errOut io.Writer) error {
	switch {
	case f.members < 1 && !f.standalone:
		return exit.Usagef(mongosimTry, "a replica set needs a member that may become primary")
	case (f.user == "") != (f.password == ""):
		return exit.Usagef("heartwood mongosim --user admin --password secret", "--user and --password go together")
	case f.standalone && (f.arbiters > 0 || f.hidden > 0 || f.delayed > 0 || f.electionEvery > 0):
		return exit.Usagef("heartwood mongosim --standalone", "a standalone has no other members and no elections")
	case f.light < 0 || f.port < 0 || f.scale < 0:
		return exit.Usagef(mongosimTry, "--light, --port and --load cannot be negative")
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level}))
	model := load.New(1)
	model.Scale = f.scale
	if f.light > 0 {
		return f.runLight(ctx, out, errOut, model, log)
	}
	o := mongosim.Options{
		SetName: f.set, Standalone: f.standalone, BasePort: f.port, Hostname: f.hostname, DBPath: f.dbpath, Username: f.user, Password: f.password,
		Version: f.version, Load: model, Workload: !f.quiet, Log: log, ElectionEvery: f.electionEvery, Lagging: f.lagging, Members: f.memberOptions(),
	}
	result := mongosimOutput{SetName: f.set}
	if f.tls {
		dir, err := os.MkdirTemp("", "mongosim-tls-")
		if err != nil {
			return fmt.Errorf("mongosim: %w", err)
		}
		defer func() {
			if err := os.RemoveAll(dir); err != nil {
				log.Warn("remove certificates", "error", err)
			}
		}()
		certs, err := mongosim.NewCertificates(dir, f.hostname, "localhost", "127.0.0.1")
		if err != nil {
			return fmt.Errorf("mongosim: %w", err)
		}
		o.TLS, o.CAFile = certs.Server, certs.CAFile
		result.CAFile, result.ClientFile = certs.CAFile, certs.ClientFile
	}
	d, err := mongosim.Start(ctx, o)
	if err != nil {
		return err
	}
	result.URI, result.Members = d.URI(), d.Addresses()
	if err := f.print(out, errOut, result, "simulated deployment of "+fmt.Sprint(d.Len())+" members runs; interrupt stops it"); err != nil {
		return err
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return d.Stop(stop)
}

func (f *mongosimFlags) runLight(ctx context.Context, out, errOut io.Writer, model load.Model, log *slog.Logger) error {
	l, err := light.Start(ctx, light.Options{Hosts: f.light, Port: f.port, Version: f.version, Load: model, Log: log})
	if err != nil {
		return err
	}
	defer l.Stop()
	if err := f.print(out, errOut, mongosimOutput{Members: l.Addresses()}, fmt.Sprintf("%d light hosts answer; interrupt stops them", f.light)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (f *mongosimFlags) memberOptions() []mongosim.MemberOptions {
	if f.standalone {
		return nil
	}
	out := make([]mongosim.MemberOptions, f.members)
	for range f.hidden {
		out = append(out, mongosim.MemberOptions{Hidden: true})
	}
	if f.delayed > 0 {
		out = append(out, mongosim.MemberOptions{Hidden: true, Delay: f.delayed})
	}
	for range f.arbiters {
		out = append(out, mongosim.MemberOptions{Arbiter: true})
	}
	return out
}

func (f *mongosimFlags) print(out, errOut io.Writer, r mongosimOutput, note string) error {
	if f.json {
		return json.NewEncoder(out).Encode(r)
	}
	if _, err := fmt.Fprintln(errOut, note); err != nil {
		return err
	}
	if r.URI != "" {
		_, err := fmt.Fprintln(out, r.URI)
		return err
	}
	_, err := fmt.Fprintf(out, "%s ... %s\n", r.Members[0], r.Members[len(r.Members)-1])
	return err
}
