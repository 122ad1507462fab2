// Package alerts is the function that looks after alerts: it evaluates what is known, delivers what is to be told, and lets old
// alerts go. It is driven by its passes and keeps nothing that counts in memory. It must not import daemon, local, another
// function or a channel.
package alerts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/functions/alerts/deliver"
	"github.com/heartwood-db/heartwood/functions/alerts/evaluate"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/rule/release"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Inventory is what the function needs of the inventory area.
type Inventory interface {
	evaluate.Inventory
	deliver.Groups
	UpdateGroup(ctx context.Context, id model.ID, change func(*model.Group) error) error
}

// Alerting is what it needs of the alerting area.
type Alerting interface {
	evaluate.Alerting
	deliver.Outbox
	CreateConfig(ctx context.Context, c model.AlertConfig) error
	ExpireAlerts(ctx context.Context, group model.ID, before time.Time, limit int) (int, error)
	ExpireDeliveries(ctx context.Context, before time.Time, limit int) (int, error)
	ExpireSilences(ctx context.Context, before time.Time, limit int) (int, error)
	DeleteWindow(ctx context.Context, group, id model.ID) error
}

// Store is what it needs of the kernel.
type Store interface {
	store.PassRunner
	evaluate.Duties
}

// Options are what New needs.
type Options struct {
	Store     Store
	Inventory Inventory
	Alerting  Alerting
	Series    evaluate.Series
	Access    evaluate.Access
	Backups   evaluate.Backups
	Sender    deliver.Sender
	Log       *slog.Logger
	Reg       prometheus.Registerer // nil: no metrics
	Now       func() time.Time      // nil: time.Now
	Health    http.Handler          // mounted at /monitor/health and /live; nil: not offered

	Instance   string           // names this process in claims
	PublicURL  string           // of the site, for links in messages
	Admin      []string         // the operator's mailbox
	Version    string           // of this server
	ServerCert func() time.Time // end of the certificate this site serves with; nil: it serves without
	Releases   *release.Table   // nil: the embedded one
	Every      time.Duration    // between two evaluations; 0: a minute
	Retention  time.Duration    // of ended alerts and their deliveries; 0: a year
	PassToken  model.Secret     // who has it may start passes over HTTP; empty: nobody
	Duties     []store.Duty     // more duties of the function, built elsewhere

	Chain httpx.ChainOptions // what goes around the routes; Component, Log, Reg and Now are set here
}

func (o *Options) validate() error {
	if o.Store == nil || o.Inventory == nil || o.Alerting == nil || o.Series == nil || o.Access == nil || o.Backups == nil || o.Sender == nil {
		return errors.New("it needs Store, Inventory, Alerting, Series, Access, Backups and Sender")
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Instance == "" {
		o.Instance = string(model.NewID())
	}
	if o.Every <= 0 {
		o.Every = evaluate.Every
	}
	if o.Retention <= 0 {
		o.Retention = 365 * 24 * time.Hour
	}
	return nil
}

// Server is the function. It is an http.Handler.
type Server struct {
	o         Options
	handler   http.Handler
	evaluator *evaluate.Evaluator
	deliverer *deliver.Deliverer
	m         *metrics
}

// New returns the function.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("alerts options: %w", err)
	}
	s := &Server{o: o, m: newMetrics(o.Reg, o.Alerting, o.Now)}
	var err error
	s.evaluator, err = evaluate.New(evaluate.Options{
		Inventory: o.Inventory, Series: o.Series, Access: o.Access, Alerting: o.Alerting, Duties: o.Store, Backups: o.Backups, Log: o.Log,
		Admin: o.Admin, Every: o.Every, Version: o.Version, ServerCert: o.ServerCert, Releases: o.Releases,
	})
	if err != nil {
		return nil, err
	}
	s.deliverer, err = deliver.New(deliver.Options{
		Outbox: o.Alerting, Groups: o.Inventory, Sender: o.Sender, Log: o.Log, By: o.Instance, PublicURL: o.PublicURL,
		Count: s.m.delivered,
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /alerts/v1/passes/{name}", httpx.RunPass(o.PassToken, s.Passes, o.Now, func(ctx context.Context, name string, err error) {
		o.Log.WarnContext(ctx, "periodic duty failed", obs.KeyPass, name, obs.KeyErr, err)
	}))
	if o.Health != nil {
		mux.Handle("/monitor/health", o.Health)
		mux.Handle("/live", o.Health)
	}
	chain := o.Chain
	chain.Component, chain.Log, chain.Reg, chain.Now = "alerts", o.Log, o.Reg, o.Now
	s.handler = httpx.Chain(mux, chain)
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }
