package httpx

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/shared/config"
)

// Configured is what the settings say of the chain that every function has around its routes.
func Configured(c *config.Server, log *slog.Logger, reg prometheus.Registerer) ChainOptions {
	return ChainOptions{
		Log: log, Reg: reg, ClientIPHeader: c.RemoteIPHeader, TrustedProxies: config.Prefixes(c.TrustedProxies), PublicURL: c.CentralURL,
	}
}
