package manage

import (
	"context"
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

type agentRow struct {
	Agent model.Agent
	State view.State
}

type agentsPage struct {
	Rows    []agentRow
	Keys    []model.AgentKey
	NewKey  *newKey // just made: the only time its text is shown
	Config  string
	Run     string
	Check   string
	Grant   string
	Backup  backupInstall
	Hosts   int
	Pinged  int
	Install bool // open the instructions
}

// backupInstall are the commands of a backup agent.
type backupInstall struct {
	Config, Grant, Check, Run string
	Open                      bool // there are agents, but none of this kind
}

// newKey is a key at the one moment its text can be shown.
type newKey struct{ Desc, Text, Public string }

// agents answers: which agents run where, and how do I install one?
func (m *Manage) agents(ctx context.Context, v *view.Visit) (view.Answer, error) {
	return m.agentsPage(ctx, v, nil)
}

// FirstKey makes a group's first agent key and shows it with the commands that use it: the end of registration.
func (m *Manage) FirstKey(ctx context.Context, v *view.Visit) (view.Answer, error) {
	key, err := m.makeAgentKey(ctx, v, "first key")
	if err != nil {
		return view.Answer{}, err
	}
	return m.agentsPage(ctx, v, key)
}

func (m *Manage) agentsPage(ctx context.Context, v *view.Visit, made *newKey) (view.Answer, error) {
	list, err := m.opt.Inventory.Agents(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the agents: %w", err)
	}
	d := agentsPage{NewKey: made, Install: len(list) == 0 || made != nil}
	d.Backup.Open = len(list) > 0
	for i := range list {
		d.Backup.Open = d.Backup.Open && list[i].Type != model.AgentBackup
		d.Rows = append(d.Rows, agentRow{list[i], agentState(&list[i], v)})
	}
	if d.Keys, err = m.opt.Access.AgentKeys(ctx, v.Group.ID); err != nil {
		return view.Answer{}, fmt.Errorf("read the agent keys: %w", err)
	}
	statuses, err := m.opt.Inventory.Statuses(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the statuses: %w", err)
	}
	for i := range statuses {
		if !statuses[i].LastPing.IsZero() {
			d.Pinged++
		}
	}
	d.Hosts = len(statuses)
	d.commands(m.agentURL(v), v.Group.ID)
	return view.Answer{Template: "agents.html", Title: "Agents", Nav: "agents", Data: &d}, nil
}

// commands fills the instructions with this site's own values. A key's text is known only when it was just made;
// otherwise its name stands in its place.
func (d *agentsPage) commands(base string, group model.ID) {
	key := "PASTE-THE-AGENT-API-KEY-HERE"
	switch {
	case d.NewKey != nil:
		key = d.NewKey.Text
	case len(d.Keys) > 0:
		key = "PASTE-THE-KEY-" + plainWord(d.Keys[0].Desc) + "-ENDING-IN-" + d.Keys[0].Last4
	}
	config := func(agent string) string {
		return "cat > " + agent + ".config <<'END'\nmmsBaseUrl=" + base + "\nmmsGroupId=" + string(group) + "\nmmsApiKey=" + key + "\nEND\nchmod 600 " + agent + ".config"
	}
	d.Backup = backupInstall{
		Open: d.Backup.Open, Config: config("backup-agent"),
		Check: "heartwood backup-agent --config backup-agent.config --check",
		Run:   "heartwood backup-agent --config backup-agent.config",
		Grant: `db.getSiblingDB("admin").createUser({user: "heartwood-backup", pwd: passwordPrompt(), roles: [{role: "backup", db: "admin"}, {role: "clusterMonitor", db: "admin"}]})`,
	}
	d.Config = config("monitoring-agent")
	d.Check = "heartwood monitoring-agent --config monitoring-agent.config --check"
	d.Run = "heartwood monitoring-agent --config monitoring-agent.config"
	d.Grant = `db.getSiblingDB("admin").createUser({user: "heartwood", pwd: passwordPrompt(), roles: ["clusterMonitor"]})`
}

// plainWord keeps of a description what is harmless in a command: people typed it, and others paste it into a shell.
func plainWord(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, strings.TrimSpace(s))
	return s[:min(len(s), 40)]
}

func agentState(a *model.Agent, v *view.Visit) view.State {
	one := view.AgentState([]model.Agent{{Type: a.Type, State: model.AgentActive, LastConf: a.LastConf, LastPing: a.LastPing}}, v.Now, view.StaleAfter(v.Group.Settings.PingSeconds))
	switch {
	case one.Level == view.Critical:
		return view.State{Level: view.Unknown, Word: "silent", Why: one.Why}
	case a.State == model.AgentStandby:
		return view.State{Level: view.Info, Word: "standby", Why: "It takes over when the active agent falls silent."}
	case a.State == model.AgentNoProcesses:
		return view.State{Level: view.Warning, Word: "nothing to watch", Why: "No host has been added yet."}
	case a.Dropped > 0:
		return view.State{Level: view.Warning, Word: "active, lost pings", Why: "Its spool was full and dropped pings."}
	}
	return view.State{Level: view.OK, Word: "active"}
}
