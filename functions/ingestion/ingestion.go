// Package ingestion accepts what agents send and tells them what to do. It owns nothing durable: every accepted ping is in
// the store before the answer goes out, and whatever it keeps in memory only saves work. It must not import daemon, local or
// any adapter.
package ingestion

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/functions/ingestion/derive"
	"github.com/heartwood-db/heartwood/functions/ingestion/expiry"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Inventory is what ingestion needs of the inventory area.
type Inventory interface {
	derive.Inventory
	Group(ctx context.Context, id model.ID) (model.Group, error)
	Groups(ctx context.Context) ([]model.Group, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
	UpsertAgent(ctx context.Context, group model.ID, id string, change func(*model.Agent) error) error
	ClaimActive(ctx context.Context, group model.ID, agentID, session string, now time.Time, timeout time.Duration) (active bool, previous string, err error)
	ClaimBackup(ctx context.Context, group model.ID, agentID, session string, now time.Time, timeout time.Duration) (active bool, previous string, err error)
	FlushGroups(ctx context.Context, now time.Time) (store.PassReport, error)
}

// Access is what ingestion needs of the access area.
type Access interface {
	CheckAgentKey(ctx context.Context, group model.ID, key string) (model.AgentKey, bool, error)
	ExpireSessions(ctx context.Context, now time.Time, limit int) (int, error)
}

// Events is what ingestion needs of the alerting area.
type Events interface {
	derive.Events
	AddEvents(ctx context.Context, events ...model.Event) error
	Groups(ctx context.Context, last model.ID, limit int) ([]model.ID, error)
	ForgetGroup(ctx context.Context, group model.ID, limit int) (more bool, err error)
}

// Series is what ingestion needs of the series area.
type Series interface {
	derive.Series
	Compact(ctx context.Context, now time.Time) (store.PassReport, error)
	Rollup(ctx context.Context, now time.Time) (store.PassReport, error)
	Expire(ctx context.Context, now time.Time) (store.PassReport, error)
	Hosts(ctx context.Context, last model.HostID, limit int) ([]model.HostID, error)
	DeleteHost(ctx context.Context, host model.HostID, limit int) (more bool, err error)
}

// Store is what ingestion needs of the kernel.
type Store interface {
	derive.Writer
	RunPass(ctx context.Context, name string, every time.Duration, now time.Time, fn func(ctx context.Context, now time.Time) (store.PassReport, error)) (store.PassState, error)
	PassStates(ctx context.Context) ([]store.PassState, error)
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, bool, error)
}

// Options are what New needs.
type Options struct {
	Inventory Inventory
	Access    Access
	Events    Events
	Series    Series
	Facts     derive.Facts
	Store     Store
	Backup    Backup
	// Blobs opens a block store by its id. nil: this server keeps no backups, and tells agents so.
	Blobs func(ctx context.Context, storeID string) (blockstore.Store, error)
	// Presign sends agents and people to a block store's own URLs, where it has such: for servers that bulk bytes must not pass.
	Presign bool
	Log     *slog.Logger
	Reg     prometheus.Registerer // nil: no metrics
	Now     func() time.Time      // nil: time.Now
	Health  http.Handler          // mounted at /monitor/health; nil: not offered

	MaxPost            int64         // largest body; 0: wire.MaxPost
	MaxConcurrent      int           // posts worked on at once; 0: 64
	MaxBulk            int           // slices of backups worked on at once; 0: 8
	MaxAge             time.Duration // older pings are refused (the retention of 1 min points); 0: 48 h
	SessionTimeout     time.Duration // silence after which a standby agent takes over; 0: 90 s
	StandbyFactor      int           // how often agents ask for their configuration: 55 s divided by it; 0: 4
	ReadBytesPerSecond int64         // full reads of backups take no more than this from a source; 0: no limit
	ReadMaxLag         time.Duration // full reads pause while the source's secondaries lag more; 0: never
	PassToken          model.Secret  // who has it may start passes over HTTP; empty: nobody

	Chain httpx.ChainOptions // what goes around the routes; Component, Log, Reg and Now are set here
}

func (o *Options) validate() error {
	if o.Inventory == nil || o.Access == nil || o.Events == nil || o.Series == nil || o.Facts == nil || o.Store == nil || o.Backup == nil {
		return errors.New("it needs Inventory, Access, Events, Series, Facts, Backup and Store")
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxPost <= 0 || o.MaxPost > wire.MaxPost {
		o.MaxPost = wire.MaxPost
	}
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = 64
	}
	if o.MaxBulk <= 0 {
		o.MaxBulk = 8
	}
	if o.SessionTimeout < 90*time.Second {
		o.SessionTimeout = 90 * time.Second
	}
	if o.StandbyFactor < 1 || o.StandbyFactor > 4 {
		o.StandbyFactor = 4
	}
	return nil
}

// Server is the function. It is an http.Handler.
type Server struct {
	o       Options
	handler http.Handler
	derive  *derive.Deriver
	expiry  *expiry.Duty
	posts   turns
	m       *metrics
	refused refusals
	tallies tallies
}

// New returns the function.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("ingestion options: %w", err)
	}
	s := &Server{o: o, posts: make(turns, o.MaxConcurrent), m: newMetrics(o.Reg, o.Store, o.Now)}
	s.derive = derive.New(derive.Options{
		Inventory: o.Inventory, Series: o.Series, Events: o.Events, Facts: o.Facts, Store: o.Store, Log: o.Log, MaxAge: o.MaxAge,
	})
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathPings, s.admitted(s.posts, workLimit, s.acceptPings))
	mux.HandleFunc("GET "+wire.PathConf, s.admitted(s.posts, workLimit, s.conf))
	if err := s.mountBackup(mux); err != nil {
		return nil, err
	}
	mux.HandleFunc("POST /passes/{name}", httpx.RunPass(o.PassToken, s.Passes, o.Now, func(ctx context.Context, name string, err error) {
		o.Log.WarnContext(ctx, "periodic duty failed", obs.KeyPass, name, obs.KeyErr, err)
	}))
	if o.Health != nil {
		mux.Handle("/monitor/health", o.Health)
	}
	chain := o.Chain
	chain.Component, chain.Log, chain.Reg, chain.Now, chain.LogPath = "ingestion", o.Log, o.Reg, o.Now, logPath
	s.handler = httpx.Chain(mux, chain)
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// How long a request may wait for its turn and for the store. Agents wait longer than both together.
const (
	turnPatience = 250 * time.Millisecond
	workLimit    = 60 * time.Second
)

// turns bound how many requests of a kind are worked on at once.
type turns chan struct{}

// admitted bounds how many posts are in memory at once: what comes on top is answered at once and comes again.
func (s *Server) admitted(turn turns, limit time.Duration, h func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
		default:
			patience := time.NewTimer(turnPatience)
			defer patience.Stop()
			select {
			case turn <- struct{}{}:
			case <-patience.C:
				s.answerError(w, r, &problem{http.StatusServiceUnavailable, wire.CodeUnavailable, "the server is busy: come again"})
				return
			case <-r.Context().Done():
				return
			}
		}
		defer func() { <-turn }()
		ctx, stop := context.WithTimeoutCause(r.Context(), limit, errSlow)
		defer stop()
		if err := h(w, r.WithContext(ctx)); err != nil {
			s.answerError(w, r, err)
		}
	}
}

var errSlow = errors.New("the store did not answer in time")

// problem is a refusal with its status and the code that agents understand.
type problem struct {
	status int
	code   string
	reason string
}

func (p *problem) Error() string { return p.reason }

// asProblem maps every error to a refusal. What is not the sender's fault is UNAVAILABLE: the agent keeps its pings and comes again.
func asProblem(err error) *problem {
	var p *problem
	var bad *wire.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &bad):
		return &problem{statusOf(bad.Code), bad.Code, bad.Reason}
	}
	switch httpx.Status(err) {
	case http.StatusRequestEntityTooLarge:
		return &problem{http.StatusRequestEntityTooLarge, wire.CodeTooLarge, "the post is larger than this server takes"}
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout, httpx.StatusClientGone:
		return &problem{http.StatusServiceUnavailable, wire.CodeUnavailable, "the server's database cannot be reached: come again"}
	case http.StatusInsufficientStorage:
		return &problem{http.StatusServiceUnavailable, wire.CodeUnavailable, "the server's disk is full: come again"}
	}
	return &problem{http.StatusInternalServerError, wire.CodeUnavailable, "something went wrong on the server: come again"}
}

// statusOf is the status of a refusal whose code is known.
func statusOf(code string) int {
	switch code {
	case wire.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case wire.CodeGap, wire.CodeOverlap, wire.CodeSplice, wire.CodeEpoch, wire.CodeConflict, wire.CodeStopped:
		return http.StatusConflict
	case wire.CodeStorage:
		return http.StatusServiceUnavailable
	case wire.CodeNotOffered:
		return http.StatusNotImplemented
	}
	return http.StatusBadRequest
}

// retryAfter is what agents are told to wait, in seconds.
const retryAfter = "5"

func (s *Server) answerError(w http.ResponseWriter, r *http.Request, err error) {
	p := asProblem(err)
	s.m.refused.WithLabelValues(p.code).Inc()
	if p.status >= http.StatusInternalServerError {
		w.Header().Set("Retry-After", retryAfter)
		var own *problem
		if !errors.As(err, &own) { // ours to explain, not the sender's
			s.o.Log.ErrorContext(r.Context(), "an agent's call failed", obs.KeyPath, r.URL.Path, obs.KeyErr, err, obs.KeyRequest, httpx.RequestID(r.Context()))
		}
	}
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Heartwood agents"`)
	}
	httpx.Drain(r)
	answer(w, p.status, wire.EncodeProblem(wire.Problem{Reason: p.reason, Code: p.code}))
}

func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", wire.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// authenticate checks group id and agent key. Whatever is wrong, the answer is one and the same.
func (s *Server) authenticate(r *http.Request) (model.ID, error) {
	user, key, ok := r.BasicAuth()
	group := model.ID(user)
	denied := &problem{http.StatusUnauthorized, wire.CodeBadKey, "the group id or the agent API key is wrong: see mmsGroupId and mmsApiKey"}
	if !ok || !group.Valid() || !plausibleKey(key) {
		s.refuse(r, group)
		return "", denied
	}
	_, good, err := s.o.Access.CheckAgentKey(r.Context(), group, key)
	if err != nil {
		return "", fmt.Errorf("check an agent key: %w", err)
	}
	if !good {
		s.refuse(r, group)
		return "", denied
	}
	return group, nil
}

func plausibleKey(key string) bool {
	_, err := hex.DecodeString(key)
	return err == nil && len(key) >= 32 && len(key) <= 56
}

// refuse leaves an event of a wrong key, at most one a group and quarter of an hour: an agent with an old key calls for
// ever. Calls for groups that do not exist are the site's, all together.
func (s *Server) refuse(r *http.Request, group model.ID) {
	ctx, now := r.Context(), s.o.Now()
	if group.Valid() {
		if _, err := s.o.Inventory.Group(ctx, group); err != nil {
			group = ""
		}
	} else {
		group = ""
	}
	if !s.refused.first(group, now) {
		return
	}
	ip := httpx.ClientIP(ctx).String()
	s.o.Log.WarnContext(ctx, "agent API key refused", obs.KeyGroup, group, obs.KeyAddr, ip)
	e := model.Event{
		GroupID: group, Type: model.EventAgentKeyRefused, At: now, IP: ip, Text: "A call with a wrong agent API key came from " + ip + ".",
	}
	if err := s.o.Events.AddEvents(ctx, e); err != nil {
		s.o.Log.WarnContext(ctx, "the event of a refused key was not kept", obs.KeyErr, err)
	}
}
