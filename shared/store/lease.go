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

const collLeases = "leases"

// ErrLeaseLost is the cause of a context from Keep when somebody else holds, or may hold, the lease.
var ErrLeaseLost = errors.New("store: the lease was lost")

// Lease is the right of one holder to do something for a while, judged on the engine's clock. The token grows with
// every acquisition: whoever keeps the highest token seen can refuse a holder that was overtaken without noticing.
type Lease struct {
	Name    string
	Holder  string
	Token   int64
	Expires time.Time // on the engine's clock

	s    *Store
	ttl  time.Duration
	mark model.ID // tells this acquisition from any other, also of the same holder
}

type leaseDoc struct {
	Holder  string    `bson:"holder"`
	Mark    model.ID  `bson:"mark"`
	Token   int64     `bson:"token"`
	Expires time.Time `bson:"expires"`
}

var errHeld = errors.New("store: the lease is held")

// Lease acquires a lease for ttl, if nobody holds it: not even the same holder, so that two calls in one process exclude
// each other too. That it is held is no error.
func (s *Store) Lease(ctx context.Context, name, holder string, ttl time.Duration) (Lease, bool, error) {
	return s.lease(ctx, name, holder, ttl, false)
}

// LeaseAgain acquires a lease also where the same holder has it, for a process that knows that the one before it, which held the
// lease under the same name, has ended. Its token is refused from then on.
func (s *Store) LeaseAgain(ctx context.Context, name, holder string, ttl time.Duration) (Lease, bool, error) {
	return s.lease(ctx, name, holder, ttl, true)
}

func (s *Store) lease(ctx context.Context, name, holder string, ttl time.Duration, again bool) (Lease, bool, error) {
	l := Lease{Name: name, Holder: holder, s: s, ttl: ttl, mark: model.NewID()}
	err := Upsert(ctx, s, collLeases, name, func(d *leaseDoc, _ bool) error {
		now, err := s.Now(ctx)
		if err != nil {
			return err
		}
		if d.Mark == l.mark { // an attempt with unknown outcome had succeeded
			l.Token, l.Expires = d.Token, d.Expires
			return ErrUnchanged
		}
		if now.Before(d.Expires) && !(again && d.Holder == holder) {
			return errHeld
		}
		l.Token, l.Expires = d.Token+1, now.Add(ttl)
		*d = leaseDoc{Holder: holder, Mark: l.mark, Token: l.Token, Expires: l.Expires}
		return nil
	})
	if errors.Is(err, errHeld) {
		return Lease{}, false, nil
	}
	if err != nil {
		return Lease{}, false, fmt.Errorf("acquire lease %s: %w", name, err)
	}
	return l, true, nil
}

// waitLease acquires a lease, however long it takes.
func (s *Store) waitLease(ctx context.Context, name string, ttl, poll time.Duration) (Lease, error) {
	for {
		l, ok, err := s.Lease(ctx, name, s.version, ttl)
		if ok || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return Lease{}, context.Cause(ctx)
		case <-time.After(poll):
		}
	}
}

// Renew extends the lease by its ttl from now, or answers ErrLeaseLost. A lease that ran out but that nobody took is
// still the holder's.
func (l *Lease) Renew(ctx context.Context) error {
	err := Update(ctx, l.s, collLeases, l.Name, func(d *leaseDoc) error {
		if d.Mark != l.mark {
			return ErrLeaseLost
		}
		now, err := l.s.Now(ctx)
		if err != nil {
			return err
		}
		d.Expires = now.Add(l.ttl)
		l.Expires = d.Expires
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		err = ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("renew lease %s: %w", l.Name, err)
	}
	return nil
}

// Release gives the lease back. The document stays: its token must go on growing.
func (l *Lease) Release(ctx context.Context) error {
	err := Update(ctx, l.s, collLeases, l.Name, func(d *leaseDoc) error {
		if d.Mark != l.mark {
			return ErrUnchanged
		}
		d.Mark, d.Expires = "", time.Time{}
		return nil
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("release lease %s: %w", l.Name, err)
	}
	return nil
}

// release is Release at the end of work that may have been cancelled.
func (l *Lease) release(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	if err := l.Release(ctx); err != nil {
		l.s.log.WarnContext(ctx, "lease not released; it runs out by itself", obs.KeyKey, l.Name, obs.KeyErr, err)
	}
}

// Keep renews the lease in the background until stop is called. The context it returns ends with ErrLeaseLost as its
// cause when the lease is lost, or could not be renewed before it ran out.
func (l *Lease) Keep(ctx context.Context) (context.Context, func()) {
	kept, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(l.ttl / 3)
		defer ticker.Stop()
		renewed := time.Now()
		for {
			select {
			case <-kept.Done():
				return
			case <-ticker.C:
			}
			began := time.Now()
			switch err := l.Renew(kept); {
			case err == nil:
				renewed = began
			case kept.Err() != nil:
				return
			case errors.Is(err, ErrLeaseLost), errors.Is(err, docstore.ErrNotFound), time.Since(renewed) >= l.ttl:
				cancel(fmt.Errorf("%w: %w", ErrLeaseLost, err))
				return
			}
		}
	}()
	return kept, func() {
		cancel(context.Canceled)
		<-done
	}
}
