package seed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
)

// home is the member whose order of records collections are read in. Elsewhere they would have to be read again from the
// beginning, so a member that does not answer is waited for as long as that would take, within reason.
type home struct {
	address string
	stake   map[oplog.UUID]int64 // bytes that were read of collections that only this member can go on with
	lost    time.Time            // since when it has not given a batch; zero while it does
}

// Patience with a member that is away: a second for every rereadRate bytes at stake.
const (
	rereadRate  = 50 << 20
	mostPatient = 10 * time.Minute
)

// patience is how long a member is waited for with so much at stake.
func patience(stake int64) time.Duration {
	return min(time.Duration(stake/rereadRate)*time.Second, mostPatient)
}

// settle makes the member home that can go on with the most.
func (r *Reader) settle(work []item) {
	sums := map[string]int64{}
	best := ""
	for _, it := range work {
		if a := it.at.address; a != "" {
			if sums[a] += it.at.bytes; best == "" || sums[a] > sums[best] {
				best = a
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if best == "" {
		return
	}
	r.home.address = best
	for _, it := range work {
		if it.at.address == best {
			r.home.stake[it.c.UUID] = it.at.bytes
		}
	}
	if r.member != nil && r.member.Address != best {
		r.member = nil // it was only for the listing
	}
}

// atStake notes how far a collection has got in the order of a member; zero: nothing is lost with the member.
func (r *Reader) atStake(address string, id oplog.UUID, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.home.stake, id)
	if address == r.home.address && bytes > 0 {
		r.home.stake[id] = bytes
	}
}

// alive notes that a member gave something.
func (r *Reader) alive(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if address == r.home.address {
		r.home.lost = time.Time{}
	}
}

// wait is how long home must still be waited for. The lock is held.
func (r *Reader) wait() time.Duration {
	stake := int64(0)
	for _, n := range r.home.stake {
		stake += n
	}
	if r.home.address == "" || stake == 0 {
		return 0
	}
	if r.home.lost.IsZero() {
		r.home.lost = time.Now()
	}
	return patience(stake) - time.Since(r.home.lost)
}

// insist calls f with a member until it succeeds, ctx ends or the server refuses.
func (r *Reader) insist(ctx context.Context, f func(m *source.Member) error) error {
	var backoff call.Backoff
	for {
		m, err := r.pick(ctx)
		if err == nil {
			if err = f(m); err == nil {
				r.note(func(p *Progress) { p.Err = nil })
				return nil
			}
		}
		var refused *Refused
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &refused):
			return err
		}
		r.trouble(m, err)
		if !call.Pause(ctx, backoff.Next(0)) {
			return context.Cause(ctx)
		}
	}
}

// trouble notes that something failed on a member, so that the next to read is another one if there is.
func (r *Reader) trouble(m *source.Member, err error) {
	r.mu.Lock()
	news := r.progress.Err == nil || r.progress.Err.Error() != err.Error()
	r.progress.Err = err
	address := ""
	if m != nil {
		address = m.Address
		var c *callerError
		if !errors.As(err, &c) {
			r.failed[m.Address] = true
			if m.Address == r.home.address && r.home.lost.IsZero() {
				r.home.lost = time.Now()
			}
			if r.member == m {
				r.member = nil
			}
		}
	}
	r.mu.Unlock()
	if news {
		r.o.Log.Warn("the full read is interrupted", obs.KeyHost, address, obs.KeyReason, err)
	}
}

// callerError marks what is not the member's fault.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }
func (e *callerError) Unwrap() error { return e.err }

// pick gives the member that is read. It is one that has got as far as the epoch's start, and stays the same while it would cost
// much to leave it.
func (r *Reader) pick(ctx context.Context) (*source.Member, error) {
	r.mu.Lock()
	m := r.member
	if m != nil {
		r.mu.Unlock()
		return m, nil
	}
	failed, want, current := maps.Clone(r.failed), r.o.Want, r.progress.Source
	patient := r.wait()
	address := r.home.address
	if patient > 0 {
		want, current = address, address
		delete(failed, address)
	}
	r.mu.Unlock()
	m, _, err := r.o.Set.Pick(ctx, want, current, failed)
	if err != nil {
		return nil, err
	}
	if patient > 0 && m.Address != address {
		return nil, &callerError{fmt.Errorf("%s, which collections are read from, is away: after %s they are read again from their beginning, elsewhere", address, patient.Round(time.Second))}
	}
	h, err := m.Hello(ctx)
	if err != nil {
		return m, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if failed[m.Address] { // all of them
		clear(r.failed)
	}
	if h.Majority.Before(r.o.Start) {
		return m, fmt.Errorf("%s is at %s and has not got to the start of the backup, %s", m.Address, h.Majority, r.o.Start)
	}
	if r.progress.Source != m.Address {
		r.o.Log.Info("collections are read from", obs.KeyHost, m.Address)
	}
	r.member, r.wire, r.progress.Source = m, h.Wire, m.Address
	if r.home.address != m.Address {
		r.home.address = m.Address
		r.home.lost = time.Time{}
		clear(r.home.stake)
	}
	return m, nil
}
