package chaos

import (
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestServerKilledUnderLoadLosesNoAcknowledgedPing kills a server with its embedded database again and again while agents
// post to it.
func TestServerKilledUnderLoadLosesNoAcknowledgedPing(t *testing.T) {
	data, base := t.TempDir(), harness.PortBase(t)
	srv := serve(t, data, base)
	site := provision(t, base)
	load := startTraffic(t, site, addHosts(t, site, 40), 4)
	const kills = 3
	for range kills {
		load.more(200)
		srv.Kill()
		srv = serve(t, data, base)
	}
	load.more(200)
	load.finish()
	if load.refused.Load() == 0 {
		t.Error("no post failed: the kills hit nothing")
	}
	if err := srv.Stop(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	load.verify(look(t, data, ""))
	t.Logf("%d pings acknowledged, %d posts sent again", load.acked.Load(), load.refused.Load())
}
