package ingestion

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/areas"
)

// Outside is what the function needs beyond the settings and the store.
type Outside struct {
	Log       *slog.Logger
	Reg       prometheus.Registerer // nil: no metrics
	Health    http.Handler          // nil: not offered
	PassToken model.Secret          // empty: nobody starts passes over HTTP
	Now       func() time.Time      // nil: time.Now
}

// Assemble builds the function on a site, as its settings say.
func Assemble(c *config.Server, site *areas.Site, out Outside) (*Server, error) {
	return New(Options{
		Inventory: site.Inventory, Access: site.Access, Events: site.Alerting, Series: site.Series, Facts: site.Facts, Store: site.Store,
		Log: out.Log, Reg: out.Reg, Health: out.Health, PassToken: out.PassToken, Now: out.Now, Chain: httpx.Configured(c, out.Log, out.Reg),
		MaxPost: c.MaxPostBytes, MaxConcurrent: c.MaxConcurrentIntake, MaxAge: c.RetainMinutes,
		SessionTimeout: time.Duration(c.AgentSessionMillis) * time.Millisecond, StandbyFactor: c.StandbyFactor,
	})
}
