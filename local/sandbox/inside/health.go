//go:build wasip1

package inside

import (
	"net/http"

	"github.com/heartwood-db/heartwood/functions/health"
)

// Health is the health function, which every function mounts.
func Health(g *Guest) (http.Handler, error) {
	return health.New(health.Options{
		Checks: g.Checks(), Role: "server", Version: g.Build.Version, Started: g.Started, Upgrade: g.Upgrading,
	})
}
