package runner

import (
	"context"
	"errors"
	"math/rand/v2"
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
	tryLimit     = 30 * time.Second // of one try to open the site
	firstPause   = time.Second
	longestPause = 15 * time.Second
	sayEvery     = time.Minute
	silentFor    = 2 * time.Second // a database that answers within it is not away
)

var errTryLimit = errors.New("it did not answer in time")

// openSite opens the site. While its database cannot be reached the given ports say so to whoever asks, and it is tried again until it
// can, or until ctx ends or somebody stops the server. What waiting does not mend is an error at once.
func (s *Server) openSite(ctx context.Context, src config.Sources, meanwhile []away.Port) error {
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
			stop := away.Answer(meanwhile, s.log)
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
