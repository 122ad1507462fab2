// Package sandbox runs the functions as WebAssembly guests (package wasmhost) in the place of their native handlers: it gives each
// what it needs of the server around it, and nothing else.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tetratelabs/wazero"

	"github.com/heartwood-db/heartwood/local/sandbox/talk"
	"github.com/heartwood-db/heartwood/local/wasmhost"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// The functions, by the names of their guests.
const (
	App       = "app"
	Ingestion = "ingestion"
	Alerts    = "alerts"
	Health    = "health"
)

// Limits.
const (
	intakeLimit = 65 * time.Second // ingestion's own is 60 s
	passLimit   = 10 * time.Minute
	passesOnce  = 2        // of one function: the other instances are for requests
	overhead    = 64 << 10 // beyond what ingestion takes, so that it can refuse in its own words
)

// Options are what the guests are given.
type Options struct {
	Folder    string   // where <name>.wasm are
	CacheDir  string   // of compiled guests; empty: none
	Functions []string // which run
	Config    talk.Config
	Engine    docstore.Engine
	Sender    *notify.Sender
	Passwords auth.Passwords // nil: computed in this process
	Probe     func(ctx context.Context, host string, port int) talk.Finding
	Heartbeat func(ctx context.Context) error // nil: nobody listens
	BackupDB  func(ctx context.Context) error // nil: it is the application database
	Upgrading func() bool                     // nil: never
	Log       *slog.Logger
	Reg       prometheus.Registerer // nil: no metrics
	Now       func() time.Time      // the guests' clock; nil: time.Now
	Instances int                   // of each function at once; 0: twice the processors, at least 4
}

// Sandbox are the running guests.
type Sandbox struct {
	o     Options
	cache wazero.CompilationCache
	hosts map[string]*wasmhost.Host

	mu     sync.Mutex
	duties map[string][]talk.Duty
}

// Start compiles the guests, or loads them from the cache, and starts one instance of each.
func Start(ctx context.Context, o Options) (*Sandbox, error) {
	if o.Engine == nil || o.Sender == nil || o.Probe == nil || o.Log == nil {
		return nil, errors.New("the sandbox needs Engine, Sender, Probe and Log")
	}
	if o.Passwords == nil {
		o.Passwords = auth.Argon2{}
	}
	if o.Instances <= 0 {
		o.Instances = max(4, 2*runtime.NumCPU())
	}
	s := &Sandbox{o: o, hosts: map[string]*wasmhost.Host{}, duties: map[string][]talk.Duty{}, cache: wazero.NewCompilationCache()}
	if o.CacheDir != "" {
		var err error
		if s.cache, err = wazero.NewCompilationCacheWithDir(o.CacheDir); err != nil {
			return nil, opererr.New("use the cache of compiled guests", err, "empty the folder "+o.CacheDir+" or make it writable")
		}
	}
	for _, name := range o.Functions {
		if err := s.start(ctx, name); err != nil {
			return nil, errors.Join(err, s.Close(ctx))
		}
	}
	return s, nil
}

func (s *Sandbox) start(ctx context.Context, name string) error {
	file := filepath.Join(s.o.Folder, name+".wasm")
	wasm, err := os.ReadFile(file) //nolint:gosec // the operator names the folder
	if errors.Is(err, fs.ErrNotExist) {
		return opererr.New("start the sandbox", fmt.Errorf("there is no guest %s", file),
			"build the guests: make guests; or name the folder they are in with heartwood.sandbox.guests")
	}
	if err != nil {
		return opererr.New("start the sandbox", err, "name a folder this user may read with heartwood.sandbox.guests")
	}
	config, err := talk.Encode(s.o.Config)
	if err != nil {
		return err
	}
	o := wasmhost.Options{
		Name: name, Wasm: wasm, Config: config, Capabilities: s.capabilities(name), Log: s.o.Log, Reg: s.o.Reg, Cache: s.cache,
		Now: s.o.Now, Instances: s.o.Instances + passesOnce,
	}
	if name == Ingestion {
		o.Deadline, o.MaxBody = intakeLimit, overhead+wire.MaxPost
		if limit := s.o.Config.Server.MaxPostBytes; limit > 0 && limit < wire.MaxPost {
			o.MaxBody = overhead + limit
		}
	}
	began := time.Now()
	s.o.Log.InfoContext(ctx, "preparing a guest: the first time it is compiled", obs.KeyComponent, name, obs.KeyFile, file, obs.KeyBytes, len(wasm))
	h, err := wasmhost.New(ctx, o)
	if err != nil {
		return err
	}
	s.o.Log.InfoContext(ctx, "guest started", obs.KeyComponent, name, obs.KeyTook, time.Since(began).Round(time.Millisecond))
	s.hosts[name] = h
	return nil
}

// Handler is a function; nil when it does not run here.
func (s *Sandbox) Handler(name string) http.Handler {
	if h := s.hosts[name]; h != nil {
		return h
	}
	return nil
}

// Close ends all guests.
func (s *Sandbox) Close(ctx context.Context) error {
	var errs []error
	for name, h := range s.hosts {
		if err := h.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("end guest %s: %w", name, err))
		}
	}
	return errors.Join(append(errs, s.cache.Close(ctx))...)
}

// Passes are the periodic duties of all functions that run here.
func (s *Sandbox) Passes() []store.Pass {
	var all []store.Pass
	for _, name := range s.o.Functions {
		h := s.hosts[name]
		turns := make(chan struct{}, passesOnce)
		s.mu.Lock()
		duties := s.duties[name]
		s.mu.Unlock()
		for _, d := range duties {
			all = append(all, store.Pass{Name: d.Name, Every: d.Every, Run: func(ctx context.Context, _ time.Time) error {
				select {
				case turns <- struct{}{}:
					defer func() { <-turns }()
				case <-ctx.Done():
					return ctx.Err()
				}
				return s.pass(ctx, h, d)
			}})
		}
	}
	return all
}

// pass has a guest run a duty.
func (s *Sandbox) pass(ctx context.Context, h *wasmhost.Host, d talk.Duty) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.Path, http.NoBody)
	if err != nil {
		return fmt.Errorf("pass %s: %w", d.Name, err)
	}
	r.Header.Set("Authorization", "Bearer "+s.o.Config.PassToken)
	r.RemoteAddr = "127.0.0.1:0"
	a, err := h.Do(r, nil, passLimit)
	if err != nil {
		return fmt.Errorf("pass %s: %w", d.Name, err)
	}
	if a.Status != http.StatusNoContent {
		return fmt.Errorf("pass %s: %s", d.Name, strings.TrimSpace(string(a.Body)))
	}
	return nil
}
