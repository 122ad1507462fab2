package mongosim

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/mongosim/apart"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Ports of a core: members report to the first, their clients are carried to those from the second on.
const (
	CorePort       = 27200 // where a core listens for its members
	coreMemberPort = 27201
)

const coreTry = "heartwood mongosim core --member db1.example:27017 --member db2.example:27017 --member db3.example:27017"

// coreFlags are the flags of the mongosim core command.
type coreFlags struct {
	member, arbiter         []string
	set, version            string
	user, password          string
	certificate, authority  string
	scale                   float64
	standalone, quiet, loud bool
}

func newMongosimCoreCmd() *cobra.Command {
	var f coreFlags
	cmd := &cobra.Command{
		Use:   "core",
		Short: "Hold the data of simulated members that stand in containers of their own",
		Long: `Hold the data of simulated members that stand in containers of their own and elect for them. Each member is a process
"heartwood mongosim member"; what happens to it happens to the member. The members wait for replSetInitiate. Clients are
served by the members, not here.

Exit codes: 0 stopped on request, 1 failed, 2 wrong usage.`,
		Example: "  " + coreTry,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.member, "member", nil, "host:port of a member; further names of it after commas; repeat for each")
	fl.StringArrayVar(&f.arbiter, "arbiter", nil, "the same for members that only vote; they come after the others")
	fl.BoolVar(&f.standalone, "standalone", false, "one member without a replica set")
	fl.StringVar(&f.set, "set", "rs0", "name of the replica set")
	fl.StringVar(&f.version, "server-version", "7.0.14", "server version that the members claim, from 4.2 on")
	fl.StringVar(&f.user, "user", "", "turn access control on, with this user (role root, database admin)")
	fl.StringVar(&f.password, "password", "", "password of --user")
	fl.StringVar(&f.certificate, "tls-file", "", "serve TLS with this certificate and key (PEM)")
	fl.StringVar(&f.authority, "tls-ca-file", "", "authority of clients' certificates (PEM)")
	fl.Float64Var(&f.scale, "load", 1, "how busy the members appear; 0 shows only what really happens")
	fl.BoolVar(&f.quiet, "no-workload", false, "do not write documents into the database shop all the time")
	fl.BoolVar(&f.loud, "verbose", false, "log elections and member states to standard error")
	return cmd
}

func (f *coreFlags) run(cmd *cobra.Command) error {
	if len(f.member) == 0 || f.standalone && len(f.member)+len(f.arbiter) > 1 {
		return exit.Usagef(coreTry, "a set needs members, a standalone is one")
	}
	if (f.user == "") != (f.password == "") {
		return exit.Usagef(coreTry+" --user admin --password secret", "--user and --password go together")
	}
	level := slog.LevelInfo
	if f.loud {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	model := load.New(1)
	model.Scale = f.scale
	o := mongosim.Options{
		SetName: f.set, Standalone: f.standalone, Apart: true, BasePort: coreMemberPort, Hostname: "0.0.0.0", Username: f.user, Password: f.password,
		Version: f.version, Load: model, Workload: !f.quiet, Log: log,
	}
	for _, names := range f.member {
		o.Members = append(o.Members, mongosim.MemberOptions{Names: strings.Split(names, ",")})
	}
	for _, names := range f.arbiter {
		o.Members = append(o.Members, mongosim.MemberOptions{Names: strings.Split(names, ","), Arbiter: true})
	}
	if f.certificate != "" {
		certs, err := mongosim.LoadCertificates(f.certificate, f.authority)
		if err != nil {
			return opererr.New("read the members' certificate", err, "give PEM files with --tls-file and --tls-ca-file")
		}
		o.TLS = certs
	}
	d, err := mongosim.Start(cmd.Context(), o)
	if err != nil {
		return err
	}
	core := &apart.Core{D: d, Log: log, BasePort: coreMemberPort}
	err = core.Serve(cmd.Context(), CorePort)
	stop, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 10*time.Second)
	defer cancel()
	if stopped := d.Stop(stop); err == nil {
		err = stopped
	}
	return err
}

func newMongosimMemberCmd() *cobra.Command {
	var (
		m    apart.Member
		loud bool
	)
	cmd := &cobra.Command{
		Use:   "member",
		Short: "Stand at the place of one simulated member on the network",
		Long: `Stand at the place of one simulated member on the network: take its clients and carry them to the core, which holds its
data. When this process ends cleanly the member shuts down, when it is killed the member is killed, when it hangs or is cut
off the network of the set the other members lose it.

Exit codes: 0 stopped on request, 1 failed or the core is gone, 2 wrong usage.`,
		Example: "  heartwood mongosim member --core core.example --number 0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if m.Core == "" || m.Number < 0 {
				return exit.Usagef("heartwood mongosim member --core core.example --number 0", "--core is needed, --number counts from 0")
			}
			level := slog.LevelInfo
			if loud {
				level = slog.LevelDebug
			}
			m.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			m.Core = withPort(m.Core)
			if m.Peers != "" {
				m.Peers = withPort(m.Peers)
			}
			m.Ready = func() { m.Log.Info("member takes clients", "address", m.Listen) }
			return m.Run(cmd.Context())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&m.Core, "core", "", "name of the core on the network that carries the clients")
	fl.StringVar(&m.Peers, "peers", "", "name of the core on the network of the set, where the heartbeats go; default: as --core")
	fl.IntVar(&m.Number, "number", 0, "which member of the core this is, from 0")
	fl.StringVar(&m.Listen, "listen", "0.0.0.0:27017", "address for clients")
	fl.BoolVar(&loud, "verbose", false, "log more")
	return cmd
}

// withPort adds the core's port to a name without one.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(CorePort))
}
