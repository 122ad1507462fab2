package runner

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/heartwood-db/heartwood/functions/alerts/heartbeat"
	"github.com/heartwood-db/heartwood/local/channels"
	"github.com/heartwood-db/heartwood/local/duties"
	"github.com/heartwood-db/heartwood/local/sandbox"
	"github.com/heartwood-db/heartwood/local/sandbox/talk"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/probe"
)

// guestCache is the folder of compiled guests in the data folder.
const guestCache = "guests.cache"

// sandboxed runs the functions as guests. It returns the health answers: the guest's, but for the metrics, which are this process's.
func (s *Server) sandboxed(ctx context.Context, c *config.Server, native http.Handler, l *listeners, instance string, began time.Time, blobs blockStores) (http.Handler, error) {
	sender, err := channels.New(c)
	if err != nil {
		return nil, err
	}
	folder, err := guestFolder(c)
	if err != nil {
		return nil, err
	}
	conf, err := s.guestConfig(c, l, instance, began)
	if err != nil {
		return nil, err
	}
	conf.Channels = sender.Channels()
	prober := probe.New(probe.Options{Log: s.log, Vantage: config.Prefixes(c.ExposedVantage)})
	o := sandbox.Options{
		Folder: folder, CacheDir: filepath.Join(c.DataDir, guestCache), Functions: []string{sandbox.Health, sandbox.Ingestion, sandbox.App},
		Config: *conf, Engine: s.site.Store.Engine(), Sender: sender, Upgrading: s.upgrading.Load, BackupDB: s.backupDB, Log: s.log, Reg: s.reg,
		Blobs: blobs, Delivered: func(ctx context.Context, restore string) error {
			return s.site.Backup.EndDownload(ctx, restore, time.Now().UTC())
		},
		Probe: func(ctx context.Context, host string, port int) talk.Finding {
			r := prober.Check(ctx, host, port)
			return talk.Finding{Exposed: r.Verdict == probe.Exposed, Known: r.Verdict != probe.Unknown, Reason: r.Reason}
		},
	}
	if c.AlertsEnabled {
		o.Functions = append(o.Functions, sandbox.Alerts)
	}
	if conf.Heartbeat {
		o.Heartbeat = heartbeat.Caller(c.AlertsHeartbeat, notify.Client(notify.ClientOptions{Unguarded: true})) // only who runs the server sets its address
	}
	guests, err := sandbox.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s.stack.push("guests", databaseBudget, guests.Close)
	s.pages, s.intake, s.duties = guests.Handler(sandbox.App), guests.Handler(sandbox.Ingestion), guests.Passes()
	if c.AlertsEnabled {
		s.alerts = guests.Handler(sandbox.Alerts)
	}
	health := guests.Handler(sandbox.Health)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			native.ServeHTTP(w, r)
			return
		}
		health.ServeHTTP(w, r)
	}), nil
}

// guestConfig is what the guests are built from.
func (s *Server) guestConfig(c *config.Server, l *listeners, instance string, began time.Time) (*talk.Config, error) {
	key, err := c.GivenKey()
	if err == nil && key == nil {
		key, err = config.ReadKey(c.KeyPath())
	}
	if err != nil {
		return nil, err
	}
	table, err := duties.ReleaseFile(c.AlertsReleases)
	if err != nil {
		return nil, err
	}
	hostname, _ := os.Hostname()
	conf := &talk.Config{
		Server: talk.ForGuests(c), Key: key, Build: obs.Build(), Hostname: hostname, Instance: instance, URL: s.url, AgentPort: l.agentPort(),
		Embedded: embeddedFile(c), PassToken: rand.Text(), Releases: table, Heartbeat: c.AlertsHeartbeat != "", BackupDB: s.backupDB != nil,
		Started: began,
	}
	if end := certificateEnd(c); end != nil {
		conf.CertEnd = end()
	}
	return conf, nil
}

// guestFolder is where the guests are: where the settings say, else beside the program.
func guestFolder(c *config.Server) (string, error) {
	if c.SandboxGuests != "" {
		return c.SandboxGuests, nil
	}
	program, err := os.Executable()
	if err != nil {
		return "", opererr.New("find the guests", err, "name their folder with heartwood.sandbox.guests")
	}
	return filepath.Join(filepath.Dir(program), "guests"), nil
}
