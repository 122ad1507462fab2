package monitoragent

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/collect"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// CheckReport is what Check found. It is what --json prints.
type CheckReport struct {
	OK     bool        `json:"ok"`
	Server CheckServer `json:"server"`
	Hosts  []CheckHost `json:"hosts"`
}

// CheckServer is about the server.
type CheckServer struct {
	agent.ServerCheck
	Hosts int `json:"hosts"` // that the server wants polled
}

// CheckHost is about one process.
type CheckHost struct {
	Address  string         `json:"address"`
	IP       string         `json:"ip,omitempty"`
	Type     string         `json:"type"`
	Version  string         `json:"version,omitempty"`
	User     string         `json:"user,omitempty"`
	Aliases  []string       `json:"aliases,omitempty"` // other names it calls itself by
	OK       bool           `json:"ok"`
	Commands []CheckCommand `json:"commands"`
	Remedies []string       `json:"remedies,omitempty"` // what to do, with the command that does it
}

// CheckCommand is one command's outcome.
type CheckCommand struct {
	Command string `json:"command"`
	OK      bool   `json:"ok"`
	Note    string `json:"note,omitempty"`
	Code    int32  `json:"code,omitempty"`
	Error   string `json:"error,omitempty"`
	Right   string `json:"right,omitempty"` // privilege that is missing
	TookMS  int64  `json:"tookMs"`
}

// Check tries everything once, the server and each command on each host, and writes what is missing and what to do about it.
// It takes no note of anything, and may run while the agent does. It fails when something is missing.
func (a *Agent) Check(ctx context.Context, w io.Writer, asJSON bool) error {
	report := a.check(ctx)
	return agent.WriteCheck(w, report, report.text(), asJSON, report.OK)
}

// checkSide is how many hosts are tried at once.
const checkSide = 8

func (a *Agent) check(ctx context.Context) CheckReport {
	var r CheckReport
	hosts := a.checkServer(ctx, &r.Server)
	known := map[string]bool{}
	for _, h := range hosts {
		known[model.Address(h.Hostname, int(h.Port))] = true
	}
	for _, s := range a.seeds { // the server may not know them yet
		if host, port, err := model.SplitAddress(s); err == nil && !known[model.Address(host, port)] {
			known[model.Address(host, port)] = true
			hosts = append(hosts, wire.Host{ID: s, Hostname: host, Port: int32(port)}) //nolint:gosec // a port
		}
	}
	r.Hosts = make([]CheckHost, len(hosts))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(checkSide)
	for i, conf := range hosts {
		g.Go(func() error {
			h := collect.NewHost(conf, a.connector, a.log)
			defer h.Close()
			r.Hosts[i] = checkHost(h.Try(gctx))
			return nil
		})
	}
	_ = g.Wait() // no trial fails: its report says so
	slices.SortFunc(r.Hosts, func(x, y CheckHost) int { return strings.Compare(x.Address, y.Address) })
	r.OK = r.Server.OK && !slices.ContainsFunc(r.Hosts, func(h CheckHost) bool { return !h.OK })
	return r
}

func (a *Agent) checkServer(ctx context.Context, s *CheckServer) []wire.Host {
	var conf wire.Conf
	s.ServerCheck = a.self.Try(ctx, func(ctx context.Context, info wire.AgentInfo) (c agent.Conf, err error) {
		conf, c.Offset, err = a.client.Conf(ctx, info, nil, true)
		c.State = conf.State
		return c, err
	})
	s.Hosts = len(conf.Hosts)
	return conf.Hosts
}

func checkHost(t collect.Trials) CheckHost {
	h := CheckHost{Address: t.Address, IP: t.IP, Type: t.Type, Version: t.Facts.Version, Aliases: t.Aliases, OK: true}
	if t.SignedIn {
		h.User = t.User
	}
	var denied, badAuth, unreachable bool
	for _, trial := range t.List {
		c := CheckCommand{Command: trial.Command, OK: trial.OK, Note: trial.Skipped, TookMS: trial.Took.Milliseconds()}
		if !trial.OK {
			h.OK = false
			c.Code, c.Error = trial.Code, trial.Message
			switch trial.Kind {
			case collect.Unauthorized:
				denied = true
				c.Right = trial.Right
			case collect.BadAuth:
				badAuth = true
			case collect.Unreachable, collect.TimedOut:
				unreachable = unreachable || trial.Command == "connect"
			}
		}
		h.Commands = append(h.Commands, c)
	}
	h.Remedies = hostRemedies(t, denied, badAuth, unreachable)
	return h
}

// hostRemedies are what to do, in the words of the mongo shell where there are such.
func hostRemedies(t collect.Trials, denied, badAuth, unreachable bool) []string {
	user := t.User
	if user == "" {
		user = "heartwood"
	}
	create := fmt.Sprintf(`db.getSiblingDB("admin").createUser({user: %q, pwd: passwordPrompt(), roles: [{role: "clusterMonitor", db: "admin"}]})`, user)
	grant := fmt.Sprintf(`db.getSiblingDB("admin").grantRolesToUser(%q, [{role: "clusterMonitor", db: "admin"}])`, user)
	where := "on the primary"
	switch {
	case t.Facts.Role == discover.Mongos:
		where = "through the mongos, and the same on the primary of every shard"
	case t.Facts.Role == discover.Standalone:
		where = "on the server"
	case t.Facts.Shard:
		where = "on the primary of every shard, and through a mongos"
	}
	var out []string
	switch {
	case unreachable:
		out = append(out, fmt.Sprintf("nothing answers at %s: check that the process runs, its net.bindIp, firewalls, and TLS settings (useSslForAllConnections)", t.Address))
	case badAuth:
		out = append(out,
			fmt.Sprintf("user %q was refused: correct globalAuthUsername and globalAuthPassword (or mongoUri), or make the user %s:", user, where),
			create,
			fmt.Sprintf(`or set its password: db.getSiblingDB("admin").changeUserPassword(%q, passwordPrompt())`, user))
	case denied && !t.SignedIn && t.User == "":
		out = append(out, "the process wants a user, and the agent has none: make one "+where+", then set globalAuthUsername and globalAuthPassword:", create)
	case denied:
		out = append(out, fmt.Sprintf("user %q lacks rights: grant them %s:", user, where), grant)
	}
	return out
}

// text is the report for people.
func (r *CheckReport) text() string {
	var b strings.Builder
	mark := agent.Mark
	b.WriteString(r.Server.Text(fmt.Sprintf("%d hosts to poll", r.Server.Hosts)))
	if len(r.Hosts) == 0 {
		b.WriteString("     no hosts: add one in the web app, or set seedHosts or mongoUri\n")
	}
	for _, h := range r.Hosts {
		fmt.Fprintf(&b, "%s %s  %s", mark(h.OK), h.Address, h.Type)
		if h.Version != "" {
			fmt.Fprintf(&b, " %s", h.Version)
		}
		if h.User != "" {
			fmt.Fprintf(&b, " as %s", h.User)
		}
		if len(h.Aliases) > 0 {
			fmt.Fprintf(&b, ", calls itself %s", strings.Join(h.Aliases, ", "))
		}
		b.WriteByte('\n')
		for _, c := range h.Commands {
			fmt.Fprintf(&b, "     %s %-26s %5d ms", mark(c.OK), c.Command, c.TookMS)
			switch {
			case c.Note != "":
				fmt.Fprintf(&b, "  %s", c.Note)
			case !c.OK && c.Code != 0:
				fmt.Fprintf(&b, "  %d: %s", c.Code, c.Error)
			case !c.OK:
				fmt.Fprintf(&b, "  %s", c.Error)
			}
			if c.Right != "" {
				fmt.Fprintf(&b, "  (missing: %s)", c.Right)
			}
			b.WriteByte('\n')
		}
		for _, remedy := range h.Remedies {
			fmt.Fprintf(&b, "     > %s\n", remedy)
		}
	}
	return b.String()
}
