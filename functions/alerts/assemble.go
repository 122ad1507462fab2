package alerts

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/functions/alerts/deliver"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/release"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
)

// Outside is what the function needs beyond the settings and the store.
type Outside struct {
	Log        *slog.Logger
	Reg        prometheus.Registerer // nil: no metrics
	Health     http.Handler          // nil: not offered
	Sender     deliver.Sender
	Instance   string // names this process
	PublicURL  string // of the site, for links; empty: mms.centralUrl
	Version    string
	ServerCert func() time.Time // nil: the site serves without TLS, or another part looks after it
	Releases   *release.Table   // nil: the embedded one
	Duties     []store.Duty     // more duties of the function
	PassToken  model.Secret     // empty: nobody starts passes over HTTP
	Now        func() time.Time // nil: time.Now
}

// Assemble builds the function on a site, as its settings say.
func Assemble(c *config.Server, site *areas.Site, out Outside) (*Server, error) {
	url := c.CentralURL
	if url == "" {
		url = out.PublicURL
	}
	return New(Options{
		Store: site.Store, Inventory: site.Inventory, Alerting: site.Alerting, Series: site.Series, Access: site.Access, Backups: site.Backup, Sender: out.Sender,
		Log: out.Log, Reg: out.Reg, Health: out.Health, Instance: out.Instance, PublicURL: url, Admin: c.AdminEmail, Version: out.Version,
		ServerCert: out.ServerCert, Releases: out.Releases, Every: c.AlertsEvery, Retention: c.RetainAlerts, Duties: out.Duties, PassToken: out.PassToken, Now: out.Now,
		Chain: httpx.Configured(c, out.Log, out.Reg),
	})
}
