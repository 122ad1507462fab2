//go:build wasip1

package guesthttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"unsafe"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/hostdoc"
)

//go:wasmimport heartwood call
func hostCall(namePtr unsafe.Pointer, nameLen uint32, inPtr unsafe.Pointer, inLen uint32) uint32

//go:wasmimport heartwood fetch
func hostFetch(ptr unsafe.Pointer)

// Call asks the host for a capability.
func Call(name string, in []byte) ([]byte, error) {
	defer runtime.Gosched() // nothing preempts here: timers and other goroutines get their turn now
	n := hostCall(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), unsafe.Pointer(unsafe.SliceData(in)), uint32(len(in)))
	if n == 0 {
		return nil, fmt.Errorf("the host gave no answer to %s", name)
	}
	out := make([]byte, n)
	hostFetch(unsafe.Pointer(unsafe.SliceData(out)))
	if out[0] != 0 {
		return nil, errors.New(string(out[1:]))
	}
	return out[1:], nil
}

// Engine is the host's document engine.
func Engine() docstore.Engine {
	return hostdoc.New(func(_ context.Context, request []byte) ([]byte, error) { return Call(CapDocstore, request) })
}

// Logger writes to the host's log.
func Logger(level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(logWriter{}, &slog.HandlerOptions{Level: level}))
}

type logWriter struct{}

func (logWriter) Write(line []byte) (int, error) {
	if _, err := Call(CapLog, line); err != nil {
		return 0, err
	}
	return len(line), nil
}

// build is set by Serve, in an init of the guest's main package.
var (
	build   func(ctx context.Context, config []byte) (http.Handler, error)
	handler http.Handler
)

// Serve says how the guest's handler is built from the configuration its host gives it. Call it in an init function: a reactor's
// main does not run.
func Serve(fn func(ctx context.Context, config []byte) (http.Handler, error)) { build = fn }

// start builds the handler; it reports 0, or 1 after having told the log why not.
//
//go:wasmexport start
func start() uint32 {
	config, err := Call(CapConfig, nil)
	if err == nil {
		handler, err = build(context.Background(), config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// handle answers the pending request; it reports 0, or 1 when there is no answer.
//
//go:wasmexport handle
func handle() uint32 {
	message, err := Call(CapRequest, nil)
	if err != nil {
		return failed(err)
	}
	r, stop, err := DecodeRequest(context.Background(), message, Call)
	if err != nil {
		return failed(err)
	}
	defer stop()
	w := NewRecorder()
	if !served(w, r) {
		return 1
	}
	answer, err := w.Encode()
	if err == nil {
		_, err = Call(CapAnswer, answer)
	}
	if err != nil {
		return failed(err)
	}
	return 0
}

// served calls the handler; it reports false when the handler gave the request up half-way (http.ErrAbortHandler). Any other panic
// ends the guest.
func served(w http.ResponseWriter, r *http.Request) (ok bool) {
	defer func() {
		if failure := recover(); failure != nil {
			if err, is := failure.(error); !is || !errors.Is(err, http.ErrAbortHandler) {
				panic(failure)
			}
		}
	}()
	handler.ServeHTTP(w, r)
	return true
}

func failed(err error) uint32 {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
