// Package instance runs one function of Heartwood as an instance on AWS Lambda: it takes the settings from the environment, keeps
// one client of the database for its whole life, opens the site as soon as that answers, and until then says so to every caller
// instead of ending, because an instance that ends is only started again. It knows no function: mains hand it theirs.
package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/functions/health"
	"github.com/heartwood-db/heartwood/local/away"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/httpx/lambdahttp"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
)

// Bounds.
const (
	// poolSize is how many connections an instance has to a member at most: it answers one event at a time, and reads of one event
	// run side by side.
	poolSize = 4
	// startPatience and eventPatience are how long an instance tries to open the site while it starts and while an event waits.
	startPatience = 4 * time.Second
	eventPatience = 4 * time.Second
	// tryAgain is how long after a failure events are answered without trying.
	tryAgain = 2 * time.Second
	// endSlack is what is left of an event's time when its work is cut short, so that it is answered and not killed.
	endSlack = 2 * time.Second
	// requestLimit is how long a request may take.
	requestLimit = 30 * time.Second
	// lookEvery is how often an instance looks whether servers of several versions run.
	lookEvery = 30 * time.Second
	lookLimit = 2 * time.Second
)

// Parts are what a function is built from.
type Parts struct {
	Config    *config.Server
	Site      *areas.Site
	Log       *slog.Logger
	Reg       *prometheus.Registry
	Health    http.Handler
	Name      string      // of this instance, in claims and logs
	Upgrading func() bool // servers of several versions run
}

// Function is what a main runs.
type Function struct {
	Handler http.Handler
	Passes  func() []store.Pass // nil: none
	// Shown narrows what /metrics shows; nil: all that the instance counts.
	Shown func(family string) bool
}

// Build builds a function from its parts.
type Build func(p *Parts) (*Function, error)

// Options are what New needs.
type Options struct {
	Environ []string
	Build   Build
	Out     io.Writer // the log and the measures: what Lambda keeps
}

// Main runs the function until Lambda ends the instance. It is the whole of a main.
func Main(build Build) {
	i, err := New(context.Background(), Options{Environ: os.Environ(), Build: build, Out: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "heartwood:", err)
		if hint := opererr.HintOf(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		os.Exit(1)
	}
	lambda.Start(i)
}

// Instance answers events. It implements lambda.Handler.
type Instance struct {
	o        Options
	log      *slog.Logger
	reg      *prometheus.Registry
	prepared *site.Prepared
	began    time.Time
	name     string
	away     *lambdahttp.Function // answers while the site is not open

	mu       sync.Mutex
	function *lambdahttp.Function // nil until the site is open
	site     *site.Site
	passes   func() []store.Pass
	failed   error // of the last try to open the site
	tried    time.Time
	looked   time.Time

	upgrading atomic.Bool
}

// New prepares an instance. It fails on settings that no waiting mends; a database that is away is none of them.
func New(ctx context.Context, o Options) (*Instance, error) {
	i := &Instance{o: o, reg: obs.NewRegistry(), began: time.Now(), name: string(model.NewID())}
	src := config.Sources{Environ: o.Environ}
	boot, err := config.Load(src)
	if err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	if err := check(&boot.Server); err != nil {
		return nil, err
	}
	if i.log, err = obs.NewLogger(o.Out, boot.Server.LogLevel, boot.Server.LogFormat); err != nil {
		return nil, err
	}
	for _, w := range boot.Warnings {
		i.log.WarnContext(ctx, "settings", obs.KeyReason, w)
	}
	if i.prepared, err = site.Prepare(site.Options{Sources: src, Log: i.log, Reg: i.reg, Pool: poolSize}); err != nil {
		return nil, err
	}
	if i.away, err = lambdahttp.New(lambdahttp.Options{Handler: http.HandlerFunc(away.Handler), Log: i.log}); err != nil {
		return nil, err
	}
	_ = i.open(ctx, startPatience) // what fails is tried again with the next event
	return i, nil
}

// check refuses what an instance cannot work with: its files are gone when it ends.
func check(c *config.Server) error {
	if c.Embedded() {
		return opererr.New("start on Lambda", errors.New("mongo.mongoUri is not set, and an embedded database would be lost with the instance"),
			"set HEARTWOOD_MONGO_MONGOURI to the connection string of a replica set")
	}
	if c.GenKey == "" {
		return opererr.New("start on Lambda", errors.New("heartwood.gen.key is not set, and a key file made here would be lost with the instance"),
			"set HEARTWOOD_GEN_KEY to the site's key in base64: base64 < gen.key, or openssl rand -base64 24 for a new site")
	}
	return nil
}

// open opens the site if it is not. Its error is of the last try when that was just now.
func (i *Instance) open(ctx context.Context, patience time.Duration) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.function != nil {
		return nil
	}
	if i.failed != nil && time.Since(i.tried) < tryAgain {
		return i.failed
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	i.failed = i.build(ctx)
	i.tried = time.Now()
	if i.failed != nil {
		i.log.WarnContext(ctx, "the site cannot be opened yet: calls are answered 503 until it can", obs.KeyErr, i.failed, obs.KeyHint, opererr.HintOf(i.failed))
	}
	return i.failed
}

// build opens the site and builds the function on it. It is called with i.mu held.
func (i *Instance) build(ctx context.Context) error {
	var err error
	if i.site == nil { // what failed behind it is not asked of the database again
		if i.site, err = i.prepared.Open(ctx); err != nil {
			i.site = nil
			return err
		}
	}
	shown := &gatherer{from: i.reg}
	alive := func(ctx context.Context) error {
		_, err := i.site.Store.Now(ctx)
		return err
	}
	probe, err := health.New(health.Options{
		Checks: map[string]func(context.Context) error{"mms_db": alive, "backup_db": alive},
		Role:   "lambda", Version: obs.Build().Version, Started: i.began, Gatherer: shown, Upgrade: i.upgrading.Load,
	})
	if err != nil {
		return err
	}
	f, err := i.o.Build(&Parts{
		Config: &i.site.Config.Server, Site: i.site.Site, Log: i.log, Reg: i.reg, Health: probe, Name: i.name, Upgrading: i.upgrading.Load,
	})
	if err != nil {
		return err
	}
	shown.only = f.Shown
	function, err := lambdahttp.New(lambdahttp.Options{Handler: f.Handler, Passes: f.Passes, Log: i.log})
	if err != nil {
		return err
	}
	i.function, i.passes, i.looked = function, f.Passes, time.Now()
	return nil
}

// Invoke answers one event.
func (i *Instance) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	schedule := isSchedule(payload)
	ctx, stop := inTime(ctx, schedule)
	defer stop()
	if err := i.open(ctx, eventPatience); err != nil {
		if schedule {
			return nil, err
		}
		return i.away.Invoke(ctx, payload)
	}
	i.look(ctx)
	out, err := i.function.Invoke(ctx, payload)
	if i.passes != nil && schedule {
		i.measure(ctx)
	}
	return out, err
}

// errEnds is why work is cut short when the event's time is nearly over.
var errEnds = errors.New("the time that Lambda gives an event is nearly over")

// inTime gives an event's work a context that ends before Lambda would kill the instance. A request has less: nobody waits longer
// for a page, and what waits for the database takes its context's deadline for what it may use. Duties have none; they are cancelled,
// which leaves them due.
func inTime(ctx context.Context, schedule bool) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	left := max(time.Until(deadline)-endSlack, 0)
	if !schedule {
		return context.WithTimeoutCause(ctx, min(left, requestLimit), errEnds)
	}
	bare, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	end := time.AfterFunc(left, func() { cancel(errEnds) })
	return bare, func() {
		end.Stop()
		unhook()
		cancel(context.Canceled)
	}
}

// isSchedule tells events that start passes from those that carry a request.
func isSchedule(payload []byte) bool {
	var e struct {
		RequestContext json.RawMessage `json:"requestContext"`
	}
	return json.Unmarshal(payload, &e) == nil && e.RequestContext == nil
}

// look finds out, now and then, whether servers of several versions run: the API refuses writes then.
func (i *Instance) look(ctx context.Context) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.looked) < lookEvery {
		return
	}
	i.looked = time.Now()
	ctx, stop := context.WithTimeout(ctx, lookLimit)
	defer stop()
	running, err := i.site.Store.Running(ctx)
	if err != nil {
		return // the call itself will say what is wrong
	}
	i.upgrading.Store(slices.ContainsFunc(running, func(in model.Instance) bool { return in.Version != obs.Build().Version }))
}
