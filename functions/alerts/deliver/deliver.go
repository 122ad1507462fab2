// Package deliver sends what waits in the outbox: each delivery at least once, under the same idempotency key however often
// it is tried. It keeps in memory only which destinations fail and when a channel may be used again; losing that costs one
// attempt a destination.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Outbox is what deliveries need of the alerting area.
type Outbox interface {
	DueDeliveries(ctx context.Context, now time.Time, limit int) ([]model.Delivery, error)
	ClaimDelivery(ctx context.Context, id, by string, now, until time.Time) (model.Delivery, bool, error)
	FinishDelivery(ctx context.Context, d model.Delivery) error
	Deliveries(ctx context.Context, q alerting.DeliveryQuery) ([]model.Delivery, string, error)
	Alert(ctx context.Context, group, id model.ID) (model.Alert, error)
}

// Groups finds the group that a message is about.
type Groups interface {
	Group(ctx context.Context, id model.ID) (model.Group, error)
}

// Sender sends a message; *notify.Sender is one.
type Sender interface {
	Send(ctx context.Context, to notify.Target, m notify.Message) (notify.Result, error)
}

// Outcomes of an attempt, for Options.Count.
const (
	Delivered = "delivered"
	Retry     = "retry"
	Failed    = "failed"
)

// Options are what New needs.
type Options struct {
	Outbox Outbox
	Groups Groups
	Sender Sender
	Log    *slog.Logger
	By     string // names this process in claims

	PublicURL string                             // of the site; "": messages have no links
	Count     func(channel, outcome string)      // of each delivery after an attempt; nil: nobody counts
	Gap       func(channel string) time.Duration // least time between two messages of a channel; nil: the table here
}

// Bounds of a pass.
const (
	page        = 500              // deliveries read at once
	workers     = 16               // destinations that are sent to at once
	slowWorkers = 8                // of them, destinations whose last attempt failed
	passBudget  = 20 * time.Second // after which a pass takes nothing new
	recheck     = time.Second      // while messages are under way, what became due meanwhile is looked for
	sendLimit   = 40 * time.Second // one message; channels bound themselves more tightly
	claimFor    = sendLimit + 5*time.Second
	finishLimit = 10 * time.Second

	digestFrom = 5   // deliveries that wait for one destination at once go as one message
	digestMost = 100 // in one message

	firstBackOff = 10 * time.Second
	lastBackOff  = 30 * time.Minute
	giveUpAfter  = 24 * time.Hour
	maxRetry     = 6 * time.Hour // whatever the other side asks for
	busyFor      = 5 * time.Second

	maxDestinations = 10_000 // remembered; beyond it all are forgotten
)

// Deliverer delivers. It is safe for concurrent use.
type Deliverer struct {
	o Options

	mu     sync.Mutex
	failed map[string]failing   // by destination
	free   map[string]time.Time // when a channel may be used again
}

// failing is a destination whose last attempt failed.
type failing struct {
	times int       // in a row
	until time.Time // nothing is sent before
}

// New returns a Deliverer.
func New(o Options) (*Deliverer, error) {
	if o.Outbox == nil || o.Groups == nil || o.Sender == nil || o.By == "" {
		return nil, errors.New("deliver options: it needs Outbox, Groups, Sender and By")
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Count == nil {
		o.Count = func(string, string) {}
	}
	if o.Gap == nil {
		o.Gap = channelGap
	}
	return &Deliverer{o: o, failed: map[string]failing{}, free: map[string]time.Time{}}, nil
}

// channelGap keeps this site below what services take from one sender.
func channelGap(channel string) time.Duration {
	switch channel {
	case notify.SMS, notify.Slack:
		return time.Second
	case notify.PagerDuty, notify.VictorOps, notify.Teams:
		return 300 * time.Millisecond
	case notify.OpsGenie:
		return 200 * time.Millisecond
	case notify.SNMP:
		return 10 * time.Millisecond
	}
	return 50 * time.Millisecond
}

// Pass sends what is due at now, and what becomes due while it does. It returns when nothing is left, or when its time is over
// and what it has begun is done. The error tells of the store; deliveries that fail are no error of the pass.
func (d *Deliverer) Pass(ctx context.Context, now time.Time) (store.PassReport, error) {
	r := &run{d: d, began: time.Now(), start: now, busy: map[string]map[string]bool{}, ended: make(chan ended, workers)}
	err := r.loop(ctx)
	for r.running > 0 {
		err = errors.Join(err, r.end(<-r.ended))
	}
	report := store.PassReport{Done: r.sent, More: r.more && ctx.Err() == nil}
	return report, err
}

// run is one pass.
type run struct {
	d     *Deliverer
	began time.Time // on the machine's clock, start being the time the pass was given
	start time.Time

	busy    map[string]map[string]bool // destinations that are being sent to, and the deliveries their workers have
	running int
	slow    int // of the running ones, destinations that failed before
	ended   chan ended
	sent    int64
	more    bool
}

// ended is what a worker leaves.
type ended struct {
	destination string
	slow        bool
	sent        int64
	err         error
}

func (r *run) now() time.Time { return r.start.Add(time.Since(r.began)) }

func (r *run) end(e ended) error {
	r.running--
	if e.slow {
		r.slow--
	}
	delete(r.busy, e.destination)
	r.sent += e.sent
	return e.err
}

// loop hands out work until there is none, or the time is over.
func (r *run) loop(ctx context.Context) error {
	for {
		if r.now().Sub(r.start) >= passBudget {
			r.more = true
			return nil
		}
		taken, err := r.fetch(ctx)
		if err != nil {
			return err
		}
		if taken && r.running < workers {
			continue // the page may have been full: look for more
		}
		if r.running == 0 {
			return nil
		}
		timer := time.NewTimer(recheck)
		select {
		case e := <-r.ended:
			if err := r.end(e); err != nil {
				timer.Stop()
				return err
			}
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// fetch reads a page of what is due and starts a worker for each destination that is free. What waits for a destination that
// is not is put off, so that it does not fill the pages. It reports whether anything was taken off the list.
func (r *run) fetch(ctx context.Context) (taken bool, err error) {
	now := r.now()
	due, err := r.d.o.Outbox.DueDeliveries(ctx, now, page)
	if err != nil {
		return false, fmt.Errorf("read what is due: %w", err)
	}
	for _, b := range batches(whole(due, page)) {
		until, slow := r.d.state(b.destination, now)
		working, busy := r.busy[b.destination]
		if busy {
			b.deliveries = slices.DeleteFunc(b.deliveries, func(d model.Delivery) bool { return working[d.ID] })
		}
		if len(b.deliveries) == 0 {
			continue
		}
		if busy || slow && r.slow >= slowWorkers {
			until = now.Add(busyFor)
		}
		if until.After(now) {
			if err := r.d.putOff(ctx, b.deliveries, now, until); err != nil {
				return taken, err
			}
			taken = true
			continue
		}
		if r.running >= workers {
			return taken, nil // they stay on the list
		}
		r.busy[b.destination] = make(map[string]bool, len(b.deliveries))
		for i := range b.deliveries {
			r.busy[b.destination][b.deliveries[i].ID] = true
		}
		r.running++
		if slow {
			r.slow++
		}
		taken = true
		go func() {
			sent, err := r.d.send(ctx, b, r.now)
			r.ended <- ended{b.destination, slow, sent, err}
		}()
	}
	return taken, nil
}

// state says until when a destination is to be left alone, and whether its last attempt failed.
func (d *Deliverer) state(destination string, now time.Time) (until time.Time, slow bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, slow := d.failed[destination]
	if f.until.Sub(now) > maxRetry { // the clock went back
		f.until = now
		d.failed[destination] = f
	}
	return f.until, slow
}

// failedAt notes a failed attempt and says when the next one is: ten seconds later, then twice as long each time up to half
// an hour, a little more or less so that what failed together does not come back together.
func (d *Deliverer) failedAt(destination string, attempts int, asked time.Duration, now time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.failed) >= maxDestinations {
		d.failed = map[string]failing{}
	}
	f := d.failed[destination]
	f.times = max(f.times, attempts) + 1
	f.until = now.Add(max(backOff(f.times), min(asked, maxRetry)))
	d.failed[destination] = f
	return f.until
}

func backOff(times int) time.Duration {
	wait := lastBackOff
	if times < 12 { // beyond that the shift is past the end anyway
		wait = min(firstBackOff<<(times-1), lastBackOff)
	}
	return time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // no secret
}

func (d *Deliverer) works(destination string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.failed, destination)
}

// turn reserves a channel's next place and says how long to wait for it.
func (d *Deliverer) turn(channel string, now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.free[channel]
	if at.Before(now) || at.Sub(now) > time.Minute { // the latter: the clock went back
		at = now
	}
	d.free[channel] = at.Add(d.o.Gap(channel))
	return at.Sub(now)
}

// putOff takes deliveries off the list until a time.
func (d *Deliverer) putOff(ctx context.Context, ds []model.Delivery, now, until time.Time) error {
	for i := range ds {
		one, ok, err := d.o.Outbox.ClaimDelivery(ctx, ds[i].ID, d.o.By, now, until)
		if ok {
			one.Attempts-- // it was none
			err = d.o.Outbox.FinishDelivery(ctx, one)
		}
		if err != nil && !errors.Is(err, docstore.ErrConflict) {
			return fmt.Errorf("put off a delivery: %w", err)
		}
	}
	return nil
}
