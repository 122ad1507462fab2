package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/config"
)

// unitLines are the lines key=value of a unit file, in order.
func unitLines(t *testing.T, file string) [][2]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines [][2]string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Errorf("%s: %q is no setting", file, line)
		}
		lines = append(lines, [2]string{key, value})
	}
	return lines
}

// TestUnitsStartWhatThereIs: the command line of every unit and of the drop-in is one that this program takes.
func TestUnitsStartWhatThereIs(t *testing.T) {
	folder := filepath.Join("..", "..", "infra", "systemd")
	units, err := filepath.Glob(filepath.Join(folder, "*.service"))
	if err != nil || len(units) != 4 {
		t.Fatalf("%v %v", units, err)
	}
	started := map[string]bool{}
	for _, file := range append(units, filepath.Join(folder, "heartwood.service.d", "backup.conf")) {
		commands := 0
		for _, line := range unitLines(t, file) {
			if line[0] != "ExecStart" || line[1] == "" {
				continue
			}
			commands++
			words := strings.Fields(line[1])
			if words[0] != "/usr/bin/heartwood" {
				t.Errorf("%s starts %s", file, words[0])
			}
			cmd, flags, err := newRoot().Find(words[1:])
			if err != nil || cmd.Name() != words[1] {
				t.Errorf("%s: %s: %v", file, line[1], err)
				continue
			}
			if err := cmd.ParseFlags(flags); err != nil {
				t.Errorf("%s: %s: %v", file, line[1], err)
			}
			if left := cmd.Flags().Args(); len(left) > 0 || cmd.Args != nil && cmd.Args(cmd, left) != nil {
				t.Errorf("%s: %s: arguments %v", file, line[1], left)
			}
			started[words[1]] = true
		}
		if commands != 1 {
			t.Errorf("%s has %d command lines", file, commands)
		}
	}
	for _, name := range []string{"serve", "backup-daemon", "monitoring-agent", "backup-agent"} {
		if !started[name] {
			t.Errorf("no unit starts %s", name)
		}
	}
}

// TestUnitsKeepTheirPromises: what docs/operating.md says of every unit.
func TestUnitsKeepTheirPromises(t *testing.T) {
	wanted := map[string]string{
		"Type": "notify", "TimeoutStartSec": "infinity", "Restart": "on-failure", "StartLimitIntervalSec": "0", "KillMode": "mixed", "LimitNOFILE": "64000",
		"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "CapabilityBoundingSet": "", "UMask": "0077",
		"StateDirectoryMode": "0700", "WantedBy": "multi-user.target", "RestartPreventExitStatus": "2",
	}
	special := map[string]map[string]string{
		"heartwood.service":                  {"User": "heartwood", "StateDirectory": "heartwood", "TimeoutStopSec": "120"},
		"heartwood-backup-daemon.service":    {"User": "heartwood", "StateDirectory": "heartwood-backup", "TimeoutStopSec": "3720", "OOMPolicy": "continue"},
		"heartwood-monitoring-agent.service": {"User": "heartwood-agent", "TimeoutStopSec": "60", "MemoryDenyWriteExecute": "yes"},
		"heartwood-backup-agent.service":     {"User": "heartwood-agent", "TimeoutStopSec": "60", "MemoryDenyWriteExecute": "yes"},
	}
	for name, more := range special {
		have := map[string]string{}
		for _, line := range unitLines(t, filepath.Join("..", "..", "infra", "systemd", name)) {
			have[line[0]] = line[1]
		}
		for _, want := range []map[string]string{wanted, more} {
			for key, value := range want {
				if got, ok := have[key]; !ok || got != value {
					t.Errorf("%s: %s=%s, want %s", name, key, got, value)
				}
			}
		}
	}
}

// TestVariablesOfUnitsAreSettings: each variable that the units and their samples set is one that the programs read.
func TestVariablesOfUnitsAreSettings(t *testing.T) {
	known := map[string]bool{"GOMEMLIMIT": true}
	for _, s := range (&config.Loaded{}).Redacted() {
		known[s.Env] = true
	}
	for _, k := range config.AgentKeys() {
		known[k.Env] = true
		known[strings.TrimPrefix(k.Env, "HEARTWOOD_AGENT_")] = true
	}
	found := 0
	err := filepath.WalkDir(filepath.Join("..", "..", "infra", "systemd"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path) //nolint:gosec // of this tree
		for _, m := range regexp.MustCompile(`(?m)^(?:Environment=|#)((?:HEARTWOOD|GLOBAL|GO)[A-Z_]+)=`).FindAllSubmatch(b, -1) {
			found++
			if name := string(bytes.TrimSuffix(m[1], []byte("_FILE"))); !known[name] {
				t.Errorf("%s: %s is no setting", path, name)
			}
		}
		return err
	})
	if err != nil || found < 6 {
		t.Errorf("%d variables, %v", found, err)
	}
}
