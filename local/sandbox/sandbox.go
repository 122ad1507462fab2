// Package sandbox runs the functions as WebAssembly guests (package wasmhost) in the place of their native handlers: it gives each
// what it needs of the server around it, and nothing else.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
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
	bulkLimit   = 5 * time.Minute  // of a slice: to arrive, and to be stored
	noteLimit   = 10 * time.Second // for what is noted after a download
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
	Heartbeat func(ctx context.Context) error                                     // nil: nobody listens
	BackupDB  func(ctx context.Context) error                                     // nil: it is the application database
	Blobs     func(ctx context.Context, storeID string) (blockstore.Store, error) // opens block stores; nil: ingestion takes no backups
	Delivered func(ctx context.Context, restore string) error                     // keeps that a restore's archive is with who fetched it; may be nil
	Upgrading func() bool                                                         // nil: never
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
	conf := s.o.Config
	conf.Blocks = name == Ingestion && s.o.Blobs != nil
	config, err := talk.Encode(conf)
	if err != nil {
		return err
	}
	o := wasmhost.Options{
		Name: name, Wasm: wasm, Config: config, Capabilities: s.capabilities(name), Log: s.o.Log, Reg: s.o.Reg, Cache: s.cache,
		Now: s.o.Now, Instances: s.o.Instances + passesOnce,
	}
	if name == Ingestion {
		s.intake(&o)
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

// intake bounds what ingestion takes as its native form does, and has the host send archives.
func (s *Sandbox) intake(o *wasmhost.Options) {
	o.Deadline, o.MaxBody = intakeLimit, overhead+wire.MaxPost
	bulk := wasmhost.Bounds{Body: overhead + wire.MaxSliceBytes + wire.MaxSliceHeader, Deadline: bulkLimit, Read: bulkLimit}
	if limit := s.o.Config.Server.MaxPostBytes; limit > 0 && limit < wire.MaxPost {
		o.MaxBody, bulk.Body = overhead+limit, overhead+limit
	}
	o.Bounds = func(r *http.Request) wasmhost.Bounds {
		switch r.URL.Path {
		case wire.PathBackupSeed, wire.PathBackupOplog, wire.PathBackupMissing:
			return bulk
		}
		return wasmhost.Bounds{}
	}
	if s.o.Blobs == nil {
		return
	}
	o.Objects = func(ctx context.Context, part httpx.Object) (io.ReadCloser, error) {
		bs, err := s.o.Blobs(ctx, part.Store)
		if err != nil {
			return nil, err
		}
		return bs.Open(ctx, part.Key, part.From, part.Length)
	}
	if s.o.Delivered == nil {
		return
	}
	o.Delivered = func(ctx context.Context, restore string) {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), noteLimit)
		defer stop()
		if err := s.o.Delivered(ctx, restore); err != nil {
			s.o.Log.WarnContext(ctx, "the end of a download was not kept", obs.KeyErr, err)
		}
	}
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
