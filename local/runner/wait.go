package runner

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/local/away"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// How a database that is away is waited for: for ever, because a restart of this program would mend nothing.
const (
	tryLimit      = 30 * time.Second // of one try to open the site
	firstPause    = time.Second
	longestPause  = 15 * time.Second
	sayEvery      = time.Minute
	silentFor     = 2 * time.Second // a database that answers within it is not away
	awayStopLimit = 5 * time.Second
)

var errTryLimit = errors.New("it did not answer in time")

// openSite opens the site. While its database cannot be reached the given ports say so to whoever asks, and it is tried again until it
// can, or until ctx ends or somebody stops the server. What waiting does not mend is an error at once.
func (s *Server) openSite(ctx context.Context, src config.Sources, meanwhile []awayPort) error {
	p, err := site.Prepare(site.Options{Sources: src, Log: s.log, Reg: s.reg})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	opened := make(chan struct{})
	defer close(opened)
	wg.Go(func() {
		select {
		case <-s.asked:
			cancel()
		case <-opened:
		}
	})
	wg.Go(func() {
		grace := time.NewTimer(silentFor)
		defer grace.Stop()
		select {
		case <-grace.C:
			stop := s.sayAway(meanwhile)
			<-opened
			stop()
		case <-opened:
		}
	})
	if err := s.await(ctx, p); err != nil {
		return errors.Join(err, p.Close())
	}
	return nil
}

// await tries to open the site until it is open.
func (s *Server) await(ctx context.Context, p *site.Prepared) error {
	began, said := time.Now(), time.Time{}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		try, cancel := context.WithTimeoutCause(ctx, tryLimit, errTryLimit)
		opened, err := p.Open(try)
		cancel()
		if err == nil {
			s.site = opened
			if !said.IsZero() {
				s.log.Info("the database can be reached", obs.KeyTook, time.Since(began).Round(time.Second))
			}
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !isAway(err) {
			return err
		}
		if time.Since(said) >= sayEvery {
			said = time.Now()
			s.log.Warn("waiting for the database: it cannot be reached, and is tried again until it can. Agents keep meanwhile what they have",
				obs.KeyErr, err, obs.KeyTook, time.Since(began).Round(time.Second))
			s.tell("waiting for the database: " + err.Error())
		}
		t := time.NewTimer(pause/2 + rand.N(pause/2)) //nolint:gosec // spreads the tries of several servers
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// tell says what the server is at to who started it.
func (s *Server) tell(status string) {
	if s.status != nil {
		s.status(status)
	}
}

// isAway reports whether an error is of a database that may be back by itself. Credentials that are refused are not: who starts the
// program should see that at once.
func isAway(err error) bool {
	if !errors.Is(err, docstore.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	text := err.Error()
	return !strings.Contains(text, "auth error") && !strings.Contains(text, "(code 18)") && !strings.Contains(text, "(code 13)")
}

// awayPort is a port that answers while the database is away.
type awayPort struct {
	listener net.Listener // not closed
	wrap     func(net.Listener) (net.Listener, error)
}

// sayAway answers on ports until the returned function is called; the listeners are then as they were.
func (s *Server) sayAway(ports []awayPort) (stop func()) {
	var stops []func()
	for _, p := range ports {
		held := &heldListener{Listener: p.listener}
		l, err := p.wrap(held)
		if err != nil {
			s.log.Warn("a port does not answer while the database is away", obs.KeyAddr, p.listener.Addr().String(), obs.KeyErr, err)
			continue
		}
		srv := &http.Server{
			Handler: http.HandlerFunc(away.Handler), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: headerTimeout,
			MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		srv.SetKeepAlivesEnabled(false) // who comes again meets the server itself
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.Serve(l)
		}()
		stops = append(stops, func() {
			ctx, cancel := context.WithTimeout(context.Background(), awayStopLimit)
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
