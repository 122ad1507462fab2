package runner

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/alerts"
	"github.com/heartwood-db/heartwood/local/duties"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/pemfile"
)

// alertsFunction builds the alerts function.
func (s *Server) alertsFunction(c *config.Server, probe http.Handler, sender *notify.Sender, instance, version string) error {
	table, err := duties.Releases(c.AlertsReleases)
	if err != nil {
		return err
	}
	more, err := duties.New(c, s.site.Site, s.log)
	if err != nil {
		return err
	}
	function, err := alerts.Assemble(c, s.site.Site, alerts.Outside{
		Log: s.log, Reg: s.reg, Health: probe, Sender: sender, Instance: instance, PublicURL: s.url, Version: version,
		ServerCert: certificateEnd(c), Releases: table, Duties: more,
	})
	if err != nil {
		return err
	}
	s.alerts, s.duties = function, append(s.duties, function.Passes()...)
	return nil
}

// certificateEnd tells when the certificate that the server shows ends; nil when it serves without TLS.
func certificateEnd(c *config.Server) func() time.Time {
	if c.HTTPSPEMKeyFile == "" {
		return nil
	}
	cert, err := pemfile.KeyPair(c.HTTPSPEMKeyFile, c.HTTPSPEMKeyPass)
	if err != nil || len(cert.Certificate) == 0 {
		return nil // the listener says why
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil
	}
	return func() time.Time { return leaf.NotAfter }
}

// alertsPort is what the alerts function's diagnostics port serves: its own routes, and health and metrics of the process.
func alertsPort(function, probe http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/alerts/") {
			function.ServeHTTP(w, r)
			return
		}
		probe.ServeHTTP(w, r)
	})
}

// RunPasses runs every periodic duty now, as far as it is due.
func (s *Server) RunPasses(ctx context.Context) error {
	var errs []error
	for _, p := range s.duties {
		errs = append(errs, p.Run(ctx, time.Now().UTC()))
	}
	return errors.Join(errs...)
}
