package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/daemon/monitoragent"
)

func agentFile(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "agent.config")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestMonitoringAgentCommand(t *testing.T) {
	good := []string{"mmsApiKey=k", "mmsGroupId=5f3a1c0e9d8b7a6f5e4d3c2b", "mmsBaseUrl=http://127.0.0.1:1"}
	tests := []struct {
		name     string
		args     []string
		code     int
		out, err []string
	}{
		{
			"help shows an example and every setting",
			[]string{"--help"},
			0,
			[]string{"mmsGroupId=5f3a", "seedHosts", "HEARTWOOD_AGENT_STATE_DIR", "Exit codes"},
			nil,
		},
		{"nothing configured: all faults at once", nil, 1, nil, []string{"mmsApiKey: required", "mmsBaseUrl: required", "mmsGroupId"}},
		{"no such file", []string{"--config", "/nowhere/agent.config"}, 1, nil, []string{"no such file"}},
		{"unknown setting", []string{"--config", agentFile(t, append(good, "mmsApiKye=x")...)}, 1, nil, []string{"did you mean mmsApiKey?"}},
		{"json without check", []string{"--json"}, 2, nil, []string{"try: heartwood monitoring-agent"}},
		{"unexpected word", []string{"start"}, 1, nil, []string{"start"}},
		{
			"check of a server that is not there",
			[]string{"--config", agentFile(t, append(good, "enableMunin=true")...), "--check"},
			1,
			[]string{"FAIL server http://127.0.0.1:1", "no hosts: add one"},
			[]string{"something is missing"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			code := Run(t.Context(), append([]string{"monitoring-agent"}, tt.args...), nil, &out, &errOut)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, w := range tt.out {
				if !strings.Contains(out.String(), w) {
					t.Errorf("standard output lacks %q:\n%s", w, out.String())
				}
			}
			for _, w := range tt.err {
				if !strings.Contains(errOut.String(), w) {
					t.Errorf("standard error lacks %q:\n%s", w, errOut.String())
				}
			}
		})
	}
	t.Run("check as JSON", func(t *testing.T) {
		var out, errOut bytes.Buffer
		code := Run(t.Context(), []string{"monitoring-agent", "--config", agentFile(t, good...), "--check", "--json"}, nil, &out, &errOut)
		var r monitoragent.CheckReport
		if err := json.Unmarshal(out.Bytes(), &r); err != nil || code != 1 || r.OK || r.Server.Error == "" {
			t.Errorf("exit %d, %v:\n%s", code, err, out.String())
		}
	})
}
