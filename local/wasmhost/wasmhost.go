// Package wasmhost runs functions compiled to WebAssembly: it compiles a guest once, keeps a pool of instances, hands each request
// to one of them and offers it the capabilities it was given (package guesthttp says how they talk). A guest has no files, no
// sockets and no environment. One that loops past its deadline, passes its memory cap, panics or breaks the protocol is thrown
// away, its request answered 500 or 504, and the next request gets another instance.
//
// Bytes in bulk do not fill guests: a large body is kept by the host and taken in pieces, and an answer that is an object of a block
// store is sent by the host after the guest said which, while the instance is with the next request already.
package wasmhost

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sync/semaphore"

	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/httpx/guesthttp"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// Limits that Options may change.
const (
	pageBytes       = 64 << 10 // of WebAssembly memory
	defaultMemory   = 256 << 20
	defaultRetire   = 128 << 20
	defaultDeadline = 30 * time.Second
	startDeadline   = 20 * time.Second
	maxMessage      = 64 << 20 // of one capability's call or answer
	maxName         = 64
	spareTime       = time.Minute // an instance that nobody needed for so long ends, but the last one
	defaultBodies   = 256 << 20
	bodyPatience    = 250 * time.Millisecond // for room for a body
	smallBody       = 64 << 10               // waits for no room
)

// Capability does something for a guest. The bytes of in are valid during the call only.
type Capability func(ctx context.Context, in []byte) ([]byte, error)

// Options describe one guest.
type Options struct {
	Name         string // "app": in logs and metrics
	Wasm         []byte
	Config       []byte // what the guest's start gets
	Capabilities map[string]Capability
	Log          *slog.Logger
	Reg          prometheus.Registerer // nil: no metrics
	Cache        wazero.CompilationCache

	MaxBody   int64                                  // of a request; 0: 16 MiB
	Bodies    int64                                  // of all requests together, in memory at once; more is answered 503; 0: 256 MiB
	Bounds    func(r *http.Request) Bounds           // other bounds for some requests; nil: for none
	Objects   ObjectOpener                           // what a guest's answer may be; nil: bytes only
	Delivered func(ctx context.Context, note string) // is told when an object with a note is whole with its client; may be nil
	Memory    uint64                                 // cap of an instance's memory in bytes; 0: 256 MiB
	Retire    uint64                                 // an instance that has grown beyond is not used again; 0: 128 MiB
	Deadline  time.Duration                          // of a request; 0: 30 s
	Now       func() time.Time                       // the guest's wall clock; nil: time.Now
	Instances int                                    // at most at once; 0: 4
}

// ObjectOpener reads a part of an object of a block store.
type ObjectOpener func(ctx context.Context, o httpx.Object) (io.ReadCloser, error)

// Bounds are a request's, where they are not the guest's. Zero values change nothing.
type Bounds struct {
	Body     int64         // largest
	Deadline time.Duration // of the guest
	Read     time.Duration // in which the body must be here
}

// Host runs one guest. It is an http.Handler.
type Host struct {
	o        Options
	bodies   *semaphore.Weighted
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	turns    chan struct{} // one for each instance that may exist
	m        *metrics

	mu   sync.Mutex
	idle []*instance
}

// Why a request found no answer.
var (
	errDeadline = errors.New("the guest did not finish in time")
	errProtocol = errors.New("the guest broke the protocol")
)

// New compiles a guest and starts one instance of it, so that a guest that cannot start is known at once.
func New(ctx context.Context, o Options) (*Host, error) {
	if o.Name == "" || len(o.Wasm) == 0 || o.Log == nil {
		return nil, errors.New("wasmhost: a guest needs Name, Wasm and Log")
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 16 << 20
	}
	if o.Bodies <= 0 {
		o.Bodies = defaultBodies
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Retire == 0 {
		o.Retire = min(defaultRetire, o.Memory)
	}
	if o.Deadline <= 0 {
		o.Deadline = defaultDeadline
	}
	if o.Instances <= 0 {
		o.Instances = 4
	}
	config := wazero.NewRuntimeConfig().WithMemoryLimitPages(uint32(o.Memory / pageBytes)) //nolint:gosec // at most 65,536
	if o.Cache != nil {
		config = config.WithCompilationCache(o.Cache)
	}
	h := &Host{o: o, bodies: semaphore.NewWeighted(o.Bodies), runtime: wazero.NewRuntimeWithConfig(ctx, config), turns: make(chan struct{}, o.Instances), m: newMetrics(o.Reg, o.Name)}
	if err := h.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("guest %s: %w", o.Name, err), h.runtime.Close(ctx))
	}
	return h, nil
}

func (h *Host) prepare(ctx context.Context) error {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, h.runtime); err != nil {
		return err
	}
	_, err := h.runtime.NewHostModuleBuilder("heartwood").
		NewFunctionBuilder().WithFunc(call).Export("call").
		NewFunctionBuilder().WithFunc(fetch).Export("fetch").
		Instantiate(ctx)
	if err != nil {
		return err
	}
	wasm, err := stoppable(h.o.Wasm)
	if err != nil {
		return err
	}
	if h.compiled, err = h.runtime.CompileModule(ctx, wasm); err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	first, err := h.start(ctx)
	if err != nil {
		return err
	}
	h.put(first)
	return nil
}

// Close ends all instances. Requests in progress are cut short.
func (h *Host) Close(ctx context.Context) error { return h.runtime.Close(ctx) }

// instance is one running guest.
type instance struct {
	module  api.Module
	handle  api.Function
	stop    api.MutableGlobal // set: it ends at its next loop
	host    *Host
	request []byte // pending, for the guest to take
	body    []byte // of the request, for the guest to take in pieces
	answer  []byte // that the guest gave
	result  []byte // of the last capability, for the guest to fetch
	used    time.Time
}

type instanceKey struct{}

func (h *Host) start(ctx context.Context) (*instance, error) {
	began := time.Now()
	in := &instance{host: h}
	ctx, stop := context.WithTimeoutCause(context.WithValue(ctx, instanceKey{}, in), startDeadline, errDeadline)
	defer stop()
	stderr := &tail{}
	clock := func() (sec int64, nsec int32) {
		now := h.now()
		return now.Unix(), int32(now.Nanosecond()) //nolint:gosec // below a thousand million
	}
	first := h.now()
	passed := func() int64 { return int64(h.now().Sub(first) + time.Since(began)) } // moves on while a test's clock stands
	if h.o.Now == nil {
		passed = func() int64 { return int64(time.Since(began)) }
	}
	module, err := h.runtime.InstantiateModule(ctx, h.compiled, wazero.NewModuleConfig().
		WithName("").WithStartFunctions().WithStderr(stderr).WithStdout(io.Discard).
		WithRandSource(rand.Reader).WithWalltime(clock, sys.ClockResolution(time.Microsecond.Nanoseconds())).WithNanotime(passed, sys.ClockResolution(time.Microsecond.Nanoseconds())).WithNanosleep(nap))
	if err != nil {
		return nil, fmt.Errorf("start: %w%s", causeOf(ctx, err), stderr.said())
	}
	in.module, in.handle = module, module.ExportedFunction("handle")
	initialize, begin := module.ExportedFunction("_initialize"), module.ExportedFunction("start")
	stopper, _ := module.ExportedGlobal(stopExport).(api.MutableGlobal)
	if begin == nil || in.handle == nil || initialize == nil || stopper == nil {
		return nil, errors.Join(errors.New("it does not export start and handle"), module.Close(ctx))
	}
	in.stop = stopper
	defer in.endWith(ctx)()
	var code []uint64
	if _, err = initialize.Call(ctx); err == nil {
		code, err = begin.Call(ctx)
	}
	if err == nil && (len(code) != 1 || code[0] != 0) {
		err = errors.New("it refused to start")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start: %w%s", causeOf(ctx, err), stderr.said()), module.Close(context.WithoutCancel(ctx)))
	}
	h.m.started.Inc()
	h.m.startTime.Observe(time.Since(began).Seconds())
	return in, nil
}

func (h *Host) now() time.Time {
	if h.o.Now != nil {
		return h.o.Now()
	}
	return time.Now()
}

// endWith has the guest end with a context, until the returned function is called.
func (in *instance) endWith(ctx context.Context) (leave func() bool) {
	return context.AfterFunc(ctx, func() { in.stop.Set(1) })
}

// nap sleeps for a guest, never long: sleep cannot be cut short, and a guest whose deadline has passed must end. A guest that
// wakes early sees from the clock that it is not time yet.
func nap(ns int64) { time.Sleep(min(time.Duration(ns), 20*time.Millisecond)) }

// get takes an idle instance or starts one; there are at most Instances at once, and callers wait for their turn.
func (h *Host) get(ctx context.Context) (*instance, error) {
	select {
	case h.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("no instance was free: %w", errDeadline)
	}
	h.mu.Lock()
	if n := len(h.idle); n > 0 {
		in := h.idle[n-1]
		h.idle = h.idle[:n-1]
		h.mu.Unlock()
		return in, nil
	}
	h.mu.Unlock()
	in, err := h.start(ctx)
	if err != nil {
		<-h.turns
	}
	return in, err
}

// put keeps an instance for the next request, unless it has grown too large.
func (h *Host) put(in *instance) {
	in.request, in.body, in.answer, in.result = nil, nil, nil, nil
	size := uint64(in.module.Memory().Size())
	h.m.memory.Set(float64(size))
	if size > h.o.Retire {
		h.m.retired.Inc()
		h.drop(in)
		return
	}
	in.used = time.Now()
	var spare *instance
	h.mu.Lock()
	h.idle = append(h.idle, in)
	if oldest := h.idle[0]; len(h.idle) > 1 && in.used.Sub(oldest.used) > spareTime { // the newest are taken first
		spare = oldest
		h.idle = append(h.idle[:0], h.idle[1:]...)
	}
	h.mu.Unlock()
	if spare != nil {
		h.drop(spare)
	}
}

func (h *Host) drop(in *instance) {
	if err := in.module.Close(context.Background()); err != nil {
		h.o.Log.Warn("an instance did not end", obs.KeyComponent, h.o.Name, obs.KeyErr, err)
	}
}

// ServeHTTP hands a request to an instance.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bounds := h.bounds(r)
	a, ok := h.answer(w, r, bounds)
	if !ok {
		return
	}
	if a.Object != nil {
		h.sendObject(w, r, &a)
		return
	}
	head(w, &a)
	_, _ = w.Write(a.Body) // a client that has gone away is no fault of ours
}

// bounds are those of a request.
func (h *Host) bounds(r *http.Request) Bounds {
	var b Bounds
	if h.o.Bounds != nil {
		b = h.o.Bounds(r)
	}
	if b.Body <= 0 {
		b.Body = h.o.MaxBody
	}
	if b.Deadline <= 0 {
		b.Deadline = h.o.Deadline
	}
	return b
}

// answer has an instance answer a request; when it is not ok the client has been told.
func (h *Host) answer(w http.ResponseWriter, r *http.Request, bounds Bounds) (a guesthttp.Answer, ok bool) {
	if r.ContentLength > bounds.Body {
		w.Header().Set("Connection", "close")
		tooLarge(w, bounds.Body)
		return a, false
	}
	weight := r.ContentLength
	if weight < 0 {
		weight = bounds.Body
	}
	if weight = min(weight, h.o.Bodies); weight > smallBody {
		ctx, stop := context.WithTimeout(r.Context(), bodyPatience)
		err := h.bodies.Acquire(ctx, weight)
		stop()
		if err != nil {
			w.Header().Set("Retry-After", "5")
			http.Error(w, "The server is busy: come again.", http.StatusServiceUnavailable)
			return a, false
		}
		defer h.bodies.Release(weight)
	}
	if bounds.Read > 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bounds.Read)) // not every transport has one
	}
	body, err := readBody(w, r, bounds.Body)
	if err != nil {
		if over, is := errors.AsType[*http.MaxBytesError](err); is {
			tooLarge(w, over.Limit)
		} else {
			http.Error(w, "the request could not be read", http.StatusBadRequest)
		}
		return a, false
	}
	began := time.Now()
	// A client that goes away does not end the guest: that would cost the next one the start of another instance.
	a, err = h.Do(r.WithContext(context.WithoutCancel(r.Context())), body, bounds.Deadline)
	h.m.requests.Observe(time.Since(began).Seconds())
	if err != nil {
		h.refuse(w, r, err)
		return a, false
	}
	return a, true
}

func tooLarge(w http.ResponseWriter, limit int64) {
	http.Error(w, fmt.Sprintf("a request may have %d bytes here", limit), http.StatusRequestEntityTooLarge)
}

// readBody reads a whole body into as much memory as it announces.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	return b.Bytes(), err
}

func head(w http.ResponseWriter, a *guesthttp.Answer) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Status)
}

// Do asks an instance for the answer to a request, which may take as long as limit. The end of the request's context ends the guest.
func (h *Host) Do(r *http.Request, body []byte, limit time.Duration) (guesthttp.Answer, error) {
	ctx, stop := context.WithTimeoutCause(r.Context(), limit, errDeadline)
	defer stop()
	in, err := h.get(ctx)
	if err != nil {
		return guesthttp.Answer{}, err
	}
	defer func() { <-h.turns }()
	if in.request, err = guesthttp.EncodeRequest(r, body, limit.Milliseconds()); err != nil {
		h.put(in)
		return guesthttp.Answer{}, err
	}
	in.body = body
	leave := in.endWith(ctx)
	code, err := in.handle.Call(context.WithValue(ctx, instanceKey{}, in))
	ended := !leave()
	if err == nil && (len(code) != 1 || code[0] != 0 || in.answer == nil) {
		err = fmt.Errorf("%w: no answer", errProtocol)
	}
	var a guesthttp.Answer
	if err == nil {
		a, err = guesthttp.DecodeAnswer(in.answer)
	}
	if err != nil {
		h.m.failed.Inc()
		h.drop(in)
		return a, causeOf(ctx, err)
	}
	if ended { // it was told to end when it had just answered
		h.drop(in)
	} else {
		h.put(in)
	}
	return a, nil
}

// refuse answers for a guest that could not.
func (h *Host) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is listening any more
	}
	h.o.Log.ErrorContext(r.Context(), "a guest failed", obs.KeyComponent, h.o.Name, obs.KeyMethod, r.Method, obs.KeyPath, r.URL.Path, obs.KeyErr, err)
	if errors.Is(err, errDeadline) {
		http.Error(w, "The answer was not ready in time.", http.StatusGatewayTimeout)
		return
	}
	http.Error(w, "Something went wrong on our side; the log has the cause.", http.StatusInternalServerError)
}

// causeOf names a deadline that ended a guest; wazero reports a trap.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return errors.Join(cause, err)
	}
	return err
}

// tail keeps the last of what a guest says on its standard error: the trace of a panic.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 4 << 10

// Write keeps the newest bytes.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if over := len(t.b) - tailBytes; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(b), nil
}

func (t *tail) said() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.b) == 0 {
		return ""
	}
	return "; it said: " + string(t.b)
}
