// Package units has systemd judge the units in infra/systemd, where it is installed.
package units

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// units copies the units, with a program in the place of ours that exists on every machine, and gives their paths.
func units(t *testing.T) []string {
	t.Helper()
	source := filepath.Join(harness.Root(t), "infra", "systemd")
	files, err := filepath.Glob(filepath.Join(source, "*.service"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, filepath.Join(to, filepath.Base(f)))
		if err := os.WriteFile(out[len(out)-1], bytes.ReplaceAll(b, []byte("/usr/bin/heartwood"), []byte(program)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	drop := filepath.Join(to, "heartwood.service.d")
	if err := os.Mkdir(drop, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(source, "heartwood.service.d", "backup.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(drop, "backup.conf"), bytes.ReplaceAll(b, []byte("/usr/bin/heartwood"), []byte(program)), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSystemdTakesTheUnits: no line is unknown or ignored.
func TestSystemdTakesTheUnits(t *testing.T) {
	analyze := harness.Need(t, "systemd-analyze")
	for _, unit := range units(t) {
		out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", unit).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte(filepath.Base(unit))) {
			t.Errorf("%s: %v\n%s", filepath.Base(unit), err, out)
		}
	}
}

// TestUnitsAreWalledIn: systemd's own measure of what a taken-over service could reach, from 0 to 10, stays low.
func TestUnitsAreWalledIn(t *testing.T) {
	const most = 2.5
	analyze := harness.Need(t, "systemd-analyze")
	for _, unit := range units(t) {
		out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", unit).CombinedOutput()
		if err != nil && bytes.Contains(out, []byte("offline")) {
			t.Skipf("this systemd judges no files: %s", out) // before 250
		}
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if score, err := strconv.ParseFloat(string(m[1]), 64); err != nil || score > most {
			t.Errorf("%s: %s, at most %v", filepath.Base(unit), m[1], most)
		} else {
			t.Logf("%s: %s", filepath.Base(unit), m[1])
		}
	}
}
