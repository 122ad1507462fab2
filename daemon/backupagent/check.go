package backupagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// CheckReport is what Check found. It is what --json prints.
type CheckReport struct {
	OK     bool        `json:"ok"`
	Server CheckServer `json:"server"`
	Sets   []CheckSet  `json:"sets"`
}

// CheckServer is about the server.
type CheckServer struct {
	agent.ServerCheck
	Jobs int `json:"jobs"` // replica sets that the server wants backed up
}

// CheckSet is about one replica set.
type CheckSet struct {
	Name        string   `json:"name"`
	Source      string   `json:"source,omitempty"` // the member that would be read
	Version     string   `json:"version,omitempty"`
	FCV         string   `json:"fcv,omitempty"`
	User        string   `json:"user,omitempty"`
	OplogHours  float64  `json:"oplogHours,omitempty"` // from its oldest entry to its newest
	OplogOldest string   `json:"oplogOldest,omitempty"`
	OK          bool     `json:"ok"`
	Missing     []string `json:"missing,omitempty"` // privileges
	Error       string   `json:"error,omitempty"`
	Warnings    []string `json:"warnings,omitempty"`
	Remedies    []string `json:"remedies,omitempty"` // what to do, with the command that does it
	// Restores says whether restores can be written into the set, with the credential that is only for that.
	Restores target.Trial `json:"restores"`
}

// shortOplog is the length of an oplog below which a backup that was away for a while may not find its place again.
const shortOplog = 24 * time.Hour

// Check tries everything once, the server and the source of each replica set, and writes what is missing and what to do about
// it. It reads no data, takes no note of anything, and may run while the agent does. It fails when something is missing.
func (a *Agent) Check(ctx context.Context, w io.Writer, asJSON bool) error {
	r := a.check(ctx)
	return agent.WriteCheck(w, r, r.text(), asJSON, r.OK)
}

func (a *Agent) check(ctx context.Context) CheckReport {
	var conf wire.BackupConf
	var r CheckReport
	r.Server.ServerCheck = a.self.Try(ctx, func(ctx context.Context, info wire.AgentInfo) (c agent.Conf, err error) {
		conf, c.Offset, err = a.client.Conf(ctx, info, true)
		c.State = conf.State
		return c, err
	})
	r.Server.Jobs = len(conf.Jobs)
	if len(conf.Jobs) == 0 { // nothing is backed up yet: what the agent's own configuration names is tried
		if task, ok := a.seeds(ctx); ok {
			conf.Jobs = append(conf.Jobs, task)
		}
	}
	r.OK = r.Server.OK
	for i := range conf.Jobs {
		s := a.checkSet(ctx, &conf.Jobs[i])
		s.Restores = a.tryRestores(ctx, s.Name, conf.Jobs[i].Hosts)
		// A backup does not need it, but who configured it wants it to work.
		s.OK = s.OK && (s.Restores.OK || !a.mayRestore())
		r.OK = r.OK && s.OK
		r.Sets = append(r.Sets, s)
	}
	for _, p := range conf.Pushes { // restores wait to be written into sets that need not be backed up
		if slices.ContainsFunc(r.Sets, func(s CheckSet) bool { return s.Name == p.SetName }) {
			continue
		}
		s := CheckSet{Name: p.SetName, Restores: a.tryRestores(ctx, p.SetName, p.Hosts)}
		s.OK = s.Restores.OK
		r.OK = r.OK && s.OK
		r.Sets = append(r.Sets, s)
	}
	return r
}

// seeds makes a task of the addresses in the agent's own configuration. Their set's name is asked for.
func (a *Agent) seeds(ctx context.Context) (task wire.BackupTask, ok bool) {
	for _, s := range a.dialer.Seeds() {
		if host, port, err := model.SplitAddress(s); err == nil {
			task.Hosts = append(task.Hosts, wire.Host{ID: s, Hostname: host, Port: int32(port)}) //nolint:gosec // a port
		}
	}
	set := source.NewSet("", task.Hosts, a.dialer)
	defer set.Close()
	for _, h := range task.Hosts {
		m, err := set.Member(h)
		if err != nil {
			continue
		}
		if hello, err := m.Hello(ctx); err == nil && hello.SetName != "" {
			task.SetName = hello.SetName
			break
		}
	}
	return task, len(task.Hosts) > 0
}

func (a *Agent) checkSet(ctx context.Context, task *wire.BackupTask) (s CheckSet) {
	s.Name = task.SetName
	if task.SetName == "" {
		s.Name = task.Hosts[0].ID
	}
	set := source.NewSet(task.SetName, task.Hosts, a.dialer)
	defer set.Close()
	failed := func(err error) CheckSet {
		s.Error = err.Error()
		hint := opererr.HintOf(err)
		if hint == "" {
			hint = source.Hint(err, "")
		}
		switch {
		case hint != "":
			s.Remedies = append(s.Remedies, hint)
		case errors.Is(err, source.ErrNoSource):
			s.Remedies = append(s.Remedies, "check that a member is primary or secondary and can be reached from here: its net.bindIp, firewalls, and TLS settings (useSslForAllConnections)")
		}
		return s
	}
	m, _, err := set.Pick(ctx, task.SyncSource, "", nil)
	if err != nil {
		return failed(err)
	}
	s.Source = m.Address
	rights, err := m.Rights(ctx)
	s.User = rights.User
	if err != nil {
		return failed(err)
	}
	if len(rights.Missing) > 0 {
		s.Missing = rights.Missing
		s.Remedies = append(s.Remedies, "on the primary run: "+source.Grant(rights.User))
		return s
	}
	if s.Version, s.FCV, err = m.Version(ctx); err != nil {
		return failed(err)
	}
	ends, err := m.Ends(ctx)
	if err != nil {
		return failed(err)
	}
	s.OK, s.OplogOldest = true, ends.OldestWall.Format(time.RFC3339)
	length := ends.NewestWall.Sub(ends.OldestWall)
	s.OplogHours = float64(length.Round(time.Minute)) / float64(time.Hour)
	if length < shortOplog {
		s.Warnings = append(s.Warnings, fmt.Sprintf("the oplog of %s reaches back %s: after a longer time without the agent the set must be read anew; "+
			`enlarge it on each member: db.adminCommand({replSetResizeOplog: 1, minRetentionHours: 24})`, m.Address, length.Round(time.Second)))
	}
	return s
}

// text is the report for people.
func (r *CheckReport) text() string {
	var b strings.Builder
	b.WriteString(r.Server.Text(fmt.Sprintf("%d replica sets to back up", r.Server.Jobs)))
	if len(r.Sets) == 0 {
		b.WriteString("     no replica set: start a backup in the web app, or set seedHosts or mongoUri to try one\n")
	}
	for _, s := range r.Sets {
		fmt.Fprintf(&b, "%s %s", agent.Mark(s.OK), s.Name)
		if s.Source != "" {
			fmt.Fprintf(&b, "  reads %s", s.Source)
		}
		if s.Version != "" {
			fmt.Fprintf(&b, " %s", s.Version)
		}
		if s.User != "" {
			fmt.Fprintf(&b, " as %s", s.User)
		}
		if s.OK && s.Source != "" {
			fmt.Fprintf(&b, ", oplog of %.1f hours", s.OplogHours)
		}
		b.WriteByte('\n')
		if s.Error != "" {
			fmt.Fprintf(&b, "       %s\n", s.Error)
		}
		switch {
		case s.Restores.OK && s.Restores.User == "":
			b.WriteString("       restores can be written into it\n")
		case s.Restores.OK:
			fmt.Fprintf(&b, "       restores can be written into it as %s\n", s.Restores.User)
		default:
			fmt.Fprintf(&b, "     ! restores cannot be written into it: %s\n", s.Restores.Reason)
		}
		for _, m := range s.Missing {
			fmt.Fprintf(&b, "       lacks %s\n", m)
		}
		for _, x := range s.Warnings {
			fmt.Fprintf(&b, "     ! %s\n", x)
		}
		for _, x := range s.Remedies {
			fmt.Fprintf(&b, "     > %s\n", x)
		}
	}
	return b.String()
}
