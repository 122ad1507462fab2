package app

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/functions/app/api"
	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/functions/app/trial"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/areas"
)

const nonceKeyBytes = 32

// Outside is what the application needs beyond the settings and the store.
type Outside struct {
	Log       *slog.Logger
	Reg       prometheus.Registerer // nil: no metrics
	Health    http.Handler          // nil: not offered
	Sender    *notify.Sender
	Build     obs.BuildInfo
	Server    string           // this server's name, for the footer
	AgentPort string           // of the listener that is for agents only; empty: they use the same
	Embedded  string           // the embedded database's file; empty when the store is a replica set
	Upgrading func() bool      // servers of several versions run: the API refuses writes; nil: never
	Passwords auth.Passwords   // nil: hashed and checked in this process
	Now       func() time.Time // nil: time.Now
}

// Assemble builds the application, pages and Public API, on a site, as its settings say.
func Assemble(c *config.Server, site *areas.Site, out Outside) (http.Handler, error) {
	upgrading := func(context.Context) bool { return out.Upgrading != nil && out.Upgrading() }
	trials, err := trial.New(trial.Options{
		Inventory: site.Inventory, Access: site.Access, Alerting: site.Alerting, Series: site.Series, Log: out.Log, Admin: c.AdminEmail, Now: out.Now,
	})
	if err != nil {
		return nil, err
	}
	backedUp, err := backups.New(backups.Options{Store: site.Backup, Inventory: site.Inventory, Alerts: site.Alerting, Series: site.Series, Log: out.Log, Now: out.Now, Defaults: c.Schedule()})
	if err != nil {
		return nil, err
	}
	public, err := api.New(api.Options{
		Backups: backedUp, Stores: site.Backup, PullURL: cmp.Or(c.BackupCentralURL, c.CentralURL),
		Inventory: site.Inventory, Access: site.Access, Series: site.Series, Events: site.Alerting,
		Alerting: site.Alerting, Trial: trials, Sender: out.Sender, Admin: c.AdminEmail, Passwords: out.Passwords,
		Rest: rest.Options{
			Events: site.Alerting, Log: out.Log, NonceKey: site.Store.Box().Derive("api nonces", nonceKeyBytes), PublicURL: c.CentralURL,
			Version: out.Build.Version, Revision: out.Build.Revision, Upgrading: upgrading, Now: out.Now,
		},
	})
	if err != nil {
		return nil, err
	}
	return New(Options{
		Inventory: site.Inventory, Access: site.Access, Events: site.Alerting, Series: site.Series, Site: site.Store, API: public, Health: out.Health,
		Alerting: site.Alerting, Trial: trials, Backups: backedUp, Daemons: site.Backup, PullURL: cmp.Or(c.BackupCentralURL, c.CentralURL), Sender: out.Sender, AdminMail: c.AdminEmail, Passwords: out.Passwords,
		Log: out.Log, PublicURL: c.CentralURL, AgentURL: agentURL(c, out.AgentPort), AgentPort: out.AgentPort, HSTSMaxAge: c.HSTSMaxAgeSeconds,
		Version: out.Build.Version, Server: out.Server, Embedded: out.Embedded,
		SessionHours: c.SessionMaxHours, LoginAttempts: c.LoginAttempts, LoginLock: time.Duration(c.LoginLockMinutes) * time.Minute,
		Now: out.Now, Chain: httpx.Configured(c, out.Log, out.Reg),
	})
}

// agentURL is the address agents are told: mms.agentCentralUrl, else mms.centralUrl, but with the port that is for agents only
// where they must show a certificate and people need not. Empty when neither is set.
func agentURL(c *config.Server, port string) string {
	if c.AgentCentralURL != "" || c.CentralURL == "" || c.HTTPSClientCert != config.CertAgentsOnly {
		return cmp.Or(c.AgentCentralURL, c.CentralURL)
	}
	u, err := url.Parse(c.CentralURL)
	if err != nil { // config has judged it
		return c.CentralURL
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	return u.String()
}
