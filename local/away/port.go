package away

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
)

const (
	stopLimit = 5 * time.Second
	callLimit = 10 * time.Second // of reading a request, and of answering it
	maxHeader = 64 << 10
)

// Port is a port that answers while the database is away. Wrap puts TLS and the like on its listener.
type Port struct {
	Listener net.Listener // not closed
	Wrap     func(net.Listener) (net.Listener, error)
}

// Answer answers on ports until the returned function is called; the listeners are then as they were.
func Answer(ports []Port, log *slog.Logger) (stop func()) {
	var stops []func()
	for _, p := range ports {
		held := &heldListener{Listener: p.Listener}
		l, err := p.Wrap(held)
		if err != nil {
			log.Warn("a port does not answer while the database is away", obs.KeyAddr, p.Listener.Addr().String(), obs.KeyErr, err)
			continue
		}
		srv := &http.Server{
			Handler: http.HandlerFunc(Handler), ReadHeaderTimeout: callLimit, ReadTimeout: callLimit, WriteTimeout: callLimit,
			MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		srv.SetKeepAlivesEnabled(false) // who comes again meets the server itself
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.Serve(l)
		}()
		stops = append(stops, func() {
			ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
			defer cancel()
			if srv.Shutdown(ctx) != nil {
				_ = srv.Close()
			}
			<-done
			held.release()
		})
	}
	return func() {
		for _, f := range stops {
			f()
		}
	}
}

// heldListener is a listener that can be closed without closing the one below it.
type heldListener struct {
	net.Listener
	once sync.Once
}

type deadliner interface{ SetDeadline(t time.Time) error }

// Accept ends with net.ErrClosed once the listener is closed.
func (h *heldListener) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil, net.ErrClosed
	}
	return c, err
}

// Close wakes Accept.
func (h *heldListener) Close() error {
	var err error
	h.once.Do(func() {
		if d, ok := h.Listener.(deadliner); ok {
			err = d.SetDeadline(time.Unix(1, 0))
		}
	})
	return err
}

// release makes the listener below take connections again.
func (h *heldListener) release() {
	if d, ok := h.Listener.(deadliner); ok {
		_ = d.SetDeadline(time.Time{}) // only a listener that was closed refuses
	}
}
