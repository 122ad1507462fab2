// Package exposed is the duty that finds hosts which answer anybody on the internet: once a day each host of the groups that want
// it is dialled without credentials, and what came of it is kept with the host. The dialling itself is injected.
package exposed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// How the duty runs.
const (
	Name  = "alerts-exposed"
	Every = 15 * time.Minute // each time those hosts that were checked longest ago

	again  = 24 * time.Hour
	bound  = 500 // hosts of one run
	atOnce = 8
)

// Finding is what a check of one host came to.
type Finding struct {
	Exposed bool
	Known   bool   // false: it could not be found out, and what was known stays
	Reason  string // a sentence's predicate
}

// Prober dials a host from this server.
type Prober interface {
	Probe(ctx context.Context, host string, port int) Finding
}

// Inventory is what the duty needs of the inventory area.
type Inventory interface {
	Groups(ctx context.Context) ([]model.Group, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	UpdateHost(ctx context.Context, group model.ID, id model.HostID, change func(*model.Host) error) error
}

// Options are what New needs.
type Options struct {
	Inventory Inventory
	Prober    Prober
	Log       *slog.Logger // nil: none
}

// Checker is the duty.
type Checker struct{ o Options }

// New returns the duty.
func New(o Options) (*Checker, error) {
	if o.Inventory == nil || o.Prober == nil {
		return nil, errors.New("the check of exposed hosts needs Inventory and Prober")
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	return &Checker{o}, nil
}

// Duty is the duty for whoever ticks it.
func (c *Checker) Duty() store.Duty { return store.Duty{Name: Name, Every: Every, Run: c.Pass} }

// Pass checks the hosts whose last check is a day ago, up to a bound. Running it again goes on where it ended: what was checked is
// kept with each host.
func (c *Checker) Pass(ctx context.Context, now time.Time) (store.PassReport, error) {
	var report store.PassReport
	groups, err := c.o.Inventory.Groups(ctx)
	if err != nil {
		return report, fmt.Errorf("read groups: %w", err)
	}
	var due []model.Host
	for i := range groups {
		if groups[i].Settings.SkipExposed {
			continue
		}
		hosts, err := c.o.Inventory.Hosts(ctx, groups[i].ID)
		if err != nil {
			return report, fmt.Errorf("read hosts: %w", err)
		}
		for j := range hosts {
			h := &hosts[j]
			// A time ahead of now is of a clock that was wrong.
			if h.Visible() && h.Enabled && (now.Sub(h.ExposedChecked) >= again || h.ExposedChecked.After(now)) {
				due = append(due, *h)
			}
		}
	}
	if len(due) > bound {
		due, report.More = due[:bound], true
	}
	err = c.check(ctx, due, now, &report)
	return report, err
}

func (c *Checker) check(ctx context.Context, due []model.Host, now time.Time, report *store.PassReport) error {
	var (
		mu    sync.Mutex
		errs  []error
		wait  sync.WaitGroup
		turns = make(chan struct{}, atOnce)
		open  int
	)
	for i := range due {
		if ctx.Err() != nil {
			break
		}
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			f, err := c.host(ctx, &due[i], now)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			report.Done++
			if f.Exposed {
				open++
			}
		})
	}
	wait.Wait()
	if open > 0 {
		report.Note = fmt.Sprintf("%d exposed", open)
	}
	if err := context.Cause(ctx); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Checker) host(ctx context.Context, h *model.Host, now time.Time) (Finding, error) {
	f := c.o.Prober.Probe(ctx, h.Hostname, h.Port)
	if ctx.Err() != nil { // being stopped is no finding
		return f, nil
	}
	found := false
	err := c.o.Inventory.UpdateHost(ctx, h.GroupID, h.ID, func(h *model.Host) error {
		found = f.Exposed && h.ExposedSince.IsZero()
		h.ExposedChecked, h.ExposedNote = now, f.Reason
		switch {
		case f.Exposed && h.ExposedSince.IsZero():
			h.ExposedSince = now
		case f.Known && !f.Exposed:
			h.ExposedSince = time.Time{}
		}
		return nil
	})
	if errors.Is(err, docstore.ErrNotFound) { // deleted meanwhile
		return Finding{}, nil
	}
	if err != nil {
		return f, fmt.Errorf("keep what was found of host %s: %w", h.ID, err)
	}
	if found {
		c.o.Log.WarnContext(ctx, "a host is exposed: it lists its databases to anybody", obs.KeyHost, h.Address())
	}
	return f, nil
}
