package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
)

const (
	collPasses   = "passes"
	passLeaseTTL = 30 * time.Second
)

// PassReport is what one run of a periodic duty did.
type PassReport struct {
	Done int64  `bson:"done"`           // units of work: documents, hours, hosts
	More bool   `bson:"more,omitempty"` // the run stopped at its bound: go on soon
	Note string `bson:"note,omitempty"` // a few words for people
}

// PassState is a periodic duty as its last run left it.
type PassState struct {
	Name      string        `bson:"name"`
	Every     time.Duration `bson:"every"`
	Next      time.Time     `bson:"next"`                // when it is due
	LastStart time.Time     `bson:"lastStart,omitempty"` // the time passed to the last run
	LastOK    time.Time     `bson:"lastOk,omitempty"`    // the time passed to the last run that ended well
	Took      time.Duration `bson:"took"`
	Late      time.Duration `bson:"late"` // how long after its due time the last run began
	Report    PassReport    `bson:"report"`
	Error     string        `bson:"error,omitempty"`
	Runs      int64         `bson:"runs"`
	Failures  int64         `bson:"failures"` // in a row
	Token     int64         `bson:"token"`    // of the lease under which the state was written

	Ran bool `bson:"-"` // this call ran it; false when it was not due or another process is at it
}

// Lateness is how far a duty is behind at a time: what /metrics shows.
func (p PassState) Lateness(now time.Time) time.Duration { return max(0, now.Sub(p.Next)) }

// RunPass runs fn if the duty is due at now and no other process is running it. The lease is kept while fn runs; fn's
// context ends if it is lost. A run that reports More is due again at once, and so is one that ended because ctx was
// cancelled; one that failed, after the usual time. The error is fn's, or the store's.
func (s *Store) RunPass(ctx context.Context, name string, every time.Duration, now time.Time, fn func(ctx context.Context, now time.Time) (PassReport, error)) (PassState, error) {
	state, err := s.passState(ctx, name)
	if err != nil {
		return state, err
	}
	if !state.due(now, every) {
		return state, nil
	}
	lease, ok, err := s.Lease(ctx, "pass/"+name, s.version+"/"+string(model.NewID()), passLeaseTTL)
	if err != nil || !ok {
		return state, err
	}
	defer lease.release(ctx)
	if state, err = s.passState(ctx, name); err != nil { // it may have run since
		return state, err
	}
	if !state.due(now, every) {
		return state, nil
	}

	kept, stop := lease.Keep(ctx)
	began := time.Now()
	report, runErr := fn(kept, now)
	took := time.Since(began)
	if runErr != nil && context.Cause(kept) != nil && ctx.Err() == nil {
		runErr = errors.Join(runErr, context.Cause(kept))
	}
	stop()
	if runErr != nil && errors.Is(ctx.Err(), context.Canceled) { // a server that stops cut it short: it stays due
		return state, runErr
	}

	state.after(now, every, took, report, runErr)
	state.Token = lease.Token
	if runErr != nil {
		s.log.WarnContext(ctx, "pass failed", obs.KeyPass, name, obs.KeyErr, runErr, obs.KeyTook, took)
		runErr = fmt.Errorf("pass %s: %w", name, runErr)
	}
	return state, errors.Join(runErr, s.savePass(context.WithoutCancel(ctx), state))
}

// clocksApart is how far the clocks of servers may be apart, and a clock may go back, before a duty runs out of its turn.
const clocksApart = time.Minute

// due reports whether the duty is to be run. A ticker is never exact: what is due within a twentieth of the period is due. A
// duty that is due later than the next time from now on was run by a clock that has gone back since: it does not wait for it.
func (p *PassState) due(now time.Time, every time.Duration) bool {
	ahead := p.Next.Sub(now)
	return ahead <= every/20 || ahead > every+clocksApart
}

// after is the state that follows a run.
func (p *PassState) after(now time.Time, every, took time.Duration, report PassReport, err error) {
	if !p.Next.IsZero() {
		p.Late = max(0, now.Sub(p.Next))
	}
	p.Every, p.LastStart, p.Took, p.Report, p.Ran = every, now, took, report, true
	p.Runs++
	p.Next = now.Add(every)
	if err != nil {
		p.Error = err.Error()
		p.Failures++
		return
	}
	p.Error, p.Failures, p.LastOK = "", 0, now
	if report.More {
		p.Next = now
	}
}

// savePass writes the state unless a holder of a later lease wrote already.
func (s *Store) savePass(ctx context.Context, state PassState) error {
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	return Upsert(ctx, s, collPasses, state.Name, func(have *PassState, exists bool) error {
		if exists && have.Token > state.Token {
			return ErrUnchanged
		}
		*have = state
		return nil
	})
}

func (s *Store) passState(ctx context.Context, name string) (PassState, error) {
	state, err := Get[PassState](ctx, s, collPasses, name)
	if errors.Is(err, ErrNotFound) {
		return PassState{Name: name}, nil
	}
	return state, err
}

// PassStates lists all duties that ever ran, by name.
func (s *Store) PassStates(ctx context.Context) ([]PassState, error) {
	return All[PassState](ctx, s, docstore.Query{Collection: collPasses})
}
