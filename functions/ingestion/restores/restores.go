// Package restores serves what was restored: to people by their one-time link, to the agents that write it into a deployment.
package restores

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/functions/ingestion/reply"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Area is what is needed of the backup area.
type Area interface {
	Restore(ctx context.Context, id string) (backup.Restore, error)
	UpdateRestore(ctx context.Context, id string, change func(*backup.Restore) error) error
	Download(ctx context.Context, id, token, file string, resume bool, now time.Time) (backup.Restore, int, error)
	CountDownload(ctx context.Context, id string, object int, resume bool, now time.Time) error
	EndDownload(ctx context.Context, id string, now time.Time) error
}

// Events is what is needed of the alerting area.
type Events interface {
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Options are what New needs; all but Blobs and Reg.
type Options struct {
	Area    Area
	Events  Events
	Caller  reply.Groups
	Blobs   reply.Blobs // nil: this server has no block store, and says so
	Log     *slog.Logger
	Reg     prometheus.Registerer // nil: no metrics
	Now     func() time.Time
	MaxPost int64 // largest body of an agent
	Presign bool  // who fetches is sent to the store's own URLs, where it has such
}

// Server serves restores.
type Server struct {
	o Options
	m metrics
}

type metrics struct {
	downloads *prometheus.CounterVec
	sentBytes prometheus.Counter
}

// New returns it.
func New(o Options) *Server {
	return &Server{o: o, m: metrics{
		downloads: httpx.Register(o.Reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heartwood_ingestion_downloads_total", Help: "Downloads of restores, by what became of them: begun, resumed, ended, refused.",
		}, []string{"result"})),
		sentBytes: httpx.Register(o.Reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "heartwood_ingestion_download_bytes_total", Help: "Bytes of restores that were sent.",
		})),
	}}
}

// Route is one route: a pattern for http.ServeMux and what answers it. An error is answered by ingestion's table.
type Route struct {
	Pattern string
	Serve   func(w http.ResponseWriter, r *http.Request) error
	// Stream: the answer may take hours; nothing but the client's leaving ends it.
	Stream bool
}

// Routes lists the routes for ingestion to mount.
func (s *Server) Routes() []Route {
	return []Route{
		{Pattern: "GET " + wire.PathBackupRestores + "{id}", Serve: s.push},
		{Pattern: "GET " + wire.PathBackupRestores + "{id}/objects/{n}", Serve: s.pushObject, Stream: true},
		{Pattern: "POST " + wire.PathBackupRestores + "{id}/progress", Serve: s.pushProgress},
		{Pattern: "GET " + wire.PathRestorePull + "{id}/{token}/{file}", Serve: s.pull, Stream: true}, // HEAD too
	}
}
