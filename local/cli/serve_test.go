package cli

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/heartwood-db/heartwood/shared/config"
)

// TestOneProcessHasOneLimitOfMemory: a server alone has none, one with a daemon has room for both, and GOMEMLIMIT decides.
func TestOneProcessHasOneLimitOfMemory(t *testing.T) {
	with := config.Server{BackupDaemon: true}
	for name, c := range map[string]struct {
		server config.Server
		want   int64
	}{
		"alone": {config.Server{}, 0}, "with a daemon": {with, 600 << 20}, "guests, too": {config.Server{BackupDaemon: true, Sandbox: config.SandboxWasm}, 0},
	} {
		if got := serverMemory(&c.server); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "3GiB")
	if limitMemory(serverMemory(&with)); debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Error("GOMEMLIMIT was overruled")
	}
	t.Setenv("GOMEMLIMIT", "")
	if limitMemory(0); debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Error("no limit became one")
	}
	if limitMemory(serverMemory(&with)); debug.SetMemoryLimit(-1) != 600<<20 {
		t.Errorf("the limit is %d", debug.SetMemoryLimit(-1))
	}
}
