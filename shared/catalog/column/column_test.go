package column

import (
	"strings"
	"testing"
)

func TestNumbersAndPaths(t *testing.T) {
	var last ID
	names := map[string]bool{}
	for _, c := range All() {
		if c.ID <= last || names[c.Name] {
			t.Errorf("%s: number %d does not follow %d, or the name is taken", c.Name, c.ID, last)
		}
		last, names[c.Name] = c.ID, true
		seen := map[string]bool{}
		for _, p := range c.Paths {
			if seen[p] || strings.HasPrefix(p, "ss.") {
				t.Errorf("%s: path %q is double or abbreviated", c.Name, p)
			}
			seen[p] = true
		}
		if c.Wrap32 && (!c.Counter || c.Clock != Machine) {
			t.Errorf("%s: only counters of the kernel wrap", c.Name)
		}
	}
}

// TestNumbersStay holds some numbers that are in stored series already.
func TestNumbersStay(t *testing.T) {
	byName := map[string]ID{}
	for _, c := range All() {
		byName[c.Name] = c.ID
	}
	for name, id := range map[string]ID{
		"asserts.regular": 1, "cache.readInto": 10, "connections.current": 25, "opcounters.insert": 59, "repl.lagMs": 91,
		"ctx.primaryWindowSecs": 96, "cpu.user": 115, "uptimeMs": 140, "db.dataSize": 203, "disk.reads": 220, "mount.free": 232, "fs.used": 234,
	} {
		if byName[name] != id {
			t.Errorf("%s has the number %d, must be %d", name, byName[name], id)
		}
	}
}

func TestScopes(t *testing.T) {
	for s, want := range map[Scope]string{Process: "process", Database: "database", Disk: "disk"} {
		if s.String() != want {
			t.Errorf("%d is %q", int(s), s)
		}
	}
}
