package ingestion

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/blockstore"
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
	// Blobs opens a block store by its id. nil: backup is not offered here, and agents are told so.
	Blobs func(ctx context.Context, storeID string) (blockstore.Store, error)
	// Presign lets bulk bytes of backups pass by this process, where a block store can sign URLs.
	Presign bool
}

// Assemble builds the function on a site, as its settings say.
func Assemble(c *config.Server, site *areas.Site, out Outside) (*Server, error) {
	return New(Options{
		Inventory: site.Inventory, Access: site.Access, Events: site.Alerting, Series: site.Series, Facts: site.Facts, Store: site.Store,
		Backup: site.Backup, Blobs: out.Blobs, Presign: out.Presign,
		ReadBytesPerSecond: int64(c.ReadMBPerSecond) << 20, ReadMaxLag: c.ReadMaxLag,
		Log: out.Log, Reg: out.Reg, Health: out.Health, PassToken: out.PassToken, Now: out.Now, Chain: httpx.Configured(c, out.Log, out.Reg),
		MaxPost: c.MaxPostBytes, MaxConcurrent: c.MaxConcurrentIntake, MaxAge: c.RetainMinutes,
		SessionTimeout: time.Duration(c.AgentSessionMillis) * time.Millisecond, StandbyFactor: c.StandbyFactor,
	})
}
