package manage

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

func TestGroupNames(t *testing.T) {
	for in, want := range map[string]string{" Shop ": "Shop", "Äpfel & Birnen": "Äpfel & Birnen"} {
		if got, err := CheckGroupName(in); err != nil || got != want {
			t.Errorf("CheckGroupName(%q) = %q, %v", in, got, err)
		}
	}
	var bad *NameError
	for _, in := range []string{"", "   ", strings.Repeat("x", 65)} {
		if _, err := CheckGroupName(in); !errors.As(err, &bad) || bad.Error() == "" {
			t.Errorf("CheckGroupName(%q): %v", in, err)
		}
	}
}

func TestPreferredHostNames(t *testing.T) {
	for in, ok := range map[string]bool{"": true, ".db.example.com": true, "/^db[0-9]+/": true, "/": false, "/(/": false, "/open": false} {
		if why := badPreferred(in); (why == "") != ok {
			t.Errorf("%q: %q", in, why)
		}
	}
}

func TestInstallCommandsNameSiteGroupAndKey(t *testing.T) {
	keys := []model.AgentKey{{Desc: "agents eu", Last4: "8b87"}}
	for want, d := range map[string]agentsPage{
		"mmsApiKey=0123abcd\n":                             {NewKey: &newKey{Text: "0123abcd"}, Keys: keys},
		"mmsApiKey=PASTE-THE-KEY-AGENTS-EU-ENDING-IN-8b87": {Keys: keys},
		"mmsApiKey=PASTE-THE-AGENT-API-KEY-HERE\n":         {},
	} {
		d.commands("https://mon.example.com", "aaaaaaaaaaaaaaaaaaaaaaaa")
		if !strings.Contains(d.Config, want) || !strings.Contains(d.Config, "mmsBaseUrl=https://mon.example.com\nmmsGroupId=aaaaaaaaaaaaaaaaaaaaaaaa\n") {
			t.Errorf("configuration lacks %q: %s", want, d.Config)
		}
	}
}

// TestKeyNamesCannotBreakOutOfTheCommands: a key's description is typed by people, and the commands are pasted into shells.
func TestKeyNamesCannotBreakOutOfTheCommands(t *testing.T) {
	d := agentsPage{Keys: []model.AgentKey{{Desc: "x\nEND\nrm -rf ~ #$(id)`id`", Last4: "8b87"}}}
	d.commands("https://mon.example.com", "g")
	if strings.Count(d.Config, "\n") != 5 || strings.ContainsAny(d.Config, "$`#") {
		t.Errorf("the configuration command is not the one meant:\n%s", d.Config)
	}
}

func TestAgentStates(t *testing.T) {
	now := time.Now()
	v := &view.Visit{Now: now, Group: &model.Group{Settings: model.DefaultGroupSettings()}}
	for _, c := range []struct {
		name, want string
		a          model.Agent
	}{
		{"active", "active", model.Agent{State: model.AgentActive}},
		{"standby", "standby", model.Agent{State: model.AgentStandby}},
		{"nothing to do", "nothing to watch", model.Agent{State: model.AgentNoProcesses}},
		{"lost pings", "active, lost pings", model.Agent{State: model.AgentActive, Dropped: 3}},
		{"silent", "silent", model.Agent{State: model.AgentStandby, LastConf: now.Add(-time.Hour)}},
	} {
		if c.a.Type = model.AgentMonitoring; c.a.LastConf.IsZero() {
			c.a.LastConf = now
		}
		if got := agentState(&c.a, v); got.Word != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.Word, c.want)
		}
	}
}

func TestKeysOfferNoGlobalRole(t *testing.T) {
	on := 0
	for _, r := range keyRoles("GROUP_OWNER") {
		if strings.HasPrefix(string(r.Role), "GLOBAL_") {
			t.Errorf("%s can be had from a group's settings", r.Role)
		}
		if r.On {
			on++
		}
	}
	if on != 1 {
		t.Errorf("%d roles are chosen, want the one", on)
	}
}

func TestRoleWord(t *testing.T) {
	if got := roleWord(model.GroupMonitoringAdmin); got != "Group Monitoring Admin" {
		t.Errorf("roleWord: %q", got)
	}
}

func TestWhatWasDoneComesFromAList(t *testing.T) {
	if got := doneText("<b>anything</b>"); got != "" {
		t.Errorf("an address puts %q on a page", got)
	}
	if doneText("saved") == "" {
		t.Error("nothing is said after saving")
	}
}

func TestAddressesThatAgentsAreTold(t *testing.T) {
	for _, c := range []struct {
		opt    Options
		host   string
		secure bool
		want   string
	}{
		{Options{}, "mon:8080", false, "http://mon:8080"},
		{Options{AgentPort: "8081"}, "mon:8080", true, "https://mon:8081"},
		{Options{AgentPort: "8081"}, "mon", false, "http://mon:8081"},
		{Options{AgentPort: "8081"}, "[::1]:8080", false, "http://[::1]:8081"},
		{Options{AgentPort: "8081"}, "[::1]", false, "http://[::1]:8081"},
		{Options{PublicURL: "https://mon.example.com/", AgentPort: "8081"}, "x", false, "https://mon.example.com"},
		{Options{PublicURL: "https://mon.example.com", AgentURL: "https://agents.example.com/", AgentPort: "8081"}, "x", false, "https://agents.example.com"},
	} {
		m := &Manage{opt: c.opt}
		v := &view.Visit{Request: httptest.NewRequest("GET", "http://"+c.host+"/", nil), Secure: c.secure}
		if got := m.agentURL(v); got != c.want {
			t.Errorf("%+v at %s: %s", c.opt, c.host, got)
		}
	}
}
