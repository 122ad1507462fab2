// Package watch is the page on which alerting says how it does itself: whether it judges, whether it delivers, what it can deliver by,
// and how the site's other duties run. It reads; it changes nothing.
package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Alerting is what the page needs of the alerting area.
type Alerting interface {
	Watch(ctx context.Context) (model.AlertWatch, error)
	DeliveryStats(ctx context.Context, now time.Time) (alerting.DeliveryStats, error)
	Deliveries(ctx context.Context, q alerting.DeliveryQuery) ([]model.Delivery, string, error)
}

// Site tells how the periodic duties do.
type Site interface {
	PassStates(ctx context.Context) ([]store.PassState, error)
}

// Sender says what keeps a channel from working; *notify.Sender is one.
type Sender interface {
	Missing(channel string) string
}

// Options are what the page needs from outside.
type Options struct {
	Alerting Alerting
	Site     Site
	Sender   Sender
}

// Pages answers for the page.
type Pages struct{ o Options }

// New checks the options.
func New(o Options) (*Pages, error) {
	if o.Alerting == nil || o.Site == nil || o.Sender == nil {
		return nil, errors.New("watch options: Alerting, Site and Sender are needed")
	}
	return &Pages{o}, nil
}

// Routes lists the page.
func (p *Pages) Routes() []view.Route {
	return []view.Route{{Pattern: "GET /admin/watch", Handler: p.page}}
}

// Bounds of what counts as well, and of what the page reads.
const (
	lastPass = 3 * time.Minute  // an evaluation is due every minute
	waiting  = 15 * time.Minute // a delivery that waits for longer is worth a word
	lastBeat = 5 * time.Minute

	pageSize = 1_000
	maxPages = 5

	heartbeatDuty = "alerts-heartbeat"
)

type channelRow struct {
	Label   string
	State   view.State
	Failed  int       // given up in the last day
	Failing int       // failed in the last day, to be tried again
	Last    time.Time // of the newest of them: when it was decided
	Error   string    // its
}

type dutyRow struct {
	store.PassState
	State view.State
	Late  time.Duration
}

type watchPage struct {
	Watch     model.AlertWatch
	Judging   view.State
	Late      time.Duration
	Stats     alerting.DeliveryStats
	Delivers  view.State
	Beat      view.State
	Beats     bool // a heartbeat is set up
	Channels  []channelRow
	Partial   bool // there are more deliveries of the last day than were looked at
	Duties    []dutyRow
	Evaluated bool
}

func (p *Pages) page(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.ReadSite); err != nil {
		return view.Answer{}, err
	}
	d := watchPage{}
	var err error
	if d.Watch, err = p.o.Alerting.Watch(ctx); err != nil {
		return view.Answer{}, fmt.Errorf("read the watch: %w", err)
	}
	if d.Stats, err = p.o.Alerting.DeliveryStats(ctx, v.Now); err != nil {
		return view.Answer{}, fmt.Errorf("count deliveries: %w", err)
	}
	passes, err := p.o.Site.PassStates(ctx)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the periodic duties: %w", err)
	}
	for i := range passes {
		ps := &passes[i]
		d.Duties = append(d.Duties, dutyRow{PassState: *ps, Late: ps.Lateness(v.Now), State: dutyState(ps, v.Now)})
		// A duty that is no longer set up is left behind in the store.
		d.Beats = d.Beats || ps.Name == heartbeatDuty && ps.Lateness(v.Now) < time.Hour
	}
	if err := p.channels(ctx, v.Now, &d); err != nil {
		return view.Answer{}, err
	}
	d.Evaluated = !d.Watch.LastPass.IsZero()
	d.Late = max(0, v.Now.Sub(d.Watch.LastPass)-time.Minute)
	d.Judging, d.Delivers, d.Beat = judging(&d.Watch, v.Now), delivers(d.Stats, v.Now), beat(&d, v.Now)
	return view.Answer{Template: "watch.html", Title: "How alerting works", Nav: "admin", Data: &d}, nil
}

func dutyState(ps *store.PassState, now time.Time) view.State {
	late := ps.Lateness(now)
	switch {
	case ps.Failures > 0:
		return view.State{Level: view.Critical, Word: "failing", Why: ps.Error}
	case late > max(ps.Every, time.Minute):
		return view.State{Level: view.Warning, Word: "late", Why: "It should have run " + view.Duration(late) + " ago."}
	}
	return view.State{Level: view.OK, Word: "on time"}
}

func judging(w *model.AlertWatch, now time.Time) view.State {
	switch {
	case w.LastPass.IsZero():
		return view.State{Level: view.Unknown, Word: "not yet", Why: "No evaluation has run yet."}
	case now.Sub(w.LastPass) > lastPass:
		return view.State{Level: view.Critical, Word: "stopped", Why: "Nothing is judged, and nobody is told."}
	case w.ClockNote != "":
		return view.State{Level: view.Warning, Word: "clock", Why: w.ClockNote}
	}
	return view.State{Level: view.OK, Word: "on time"}
}

func delivers(s alerting.DeliveryStats, now time.Time) view.State {
	switch {
	case s.Pending > s.Failing && now.Sub(s.OldestPending) > waiting:
		return view.State{Level: view.Critical, Word: "stuck", Why: "Messages wait that were not tried yet."}
	case s.Failing > 0 || s.FailedLastHour > 0:
		return view.State{Level: view.Warning, Word: "failing", Why: "Some messages are not taken."}
	}
	return view.State{Level: view.OK, Word: "working"}
}

func beat(d *watchPage, now time.Time) view.State {
	switch {
	case !d.Beats:
		return view.State{Level: view.Unknown, Word: "not set up"}
	case d.Watch.BeatError != "":
		return view.State{Level: view.Warning, Word: "failing", Why: d.Watch.BeatError}
	case d.Watch.Heartbeat.IsZero():
		return view.State{Level: view.Unknown, Word: "not yet"}
	case now.Sub(d.Watch.Heartbeat) > lastBeat:
		return view.State{Level: view.Warning, Word: "late"}
	}
	return view.State{Level: view.OK, Word: "sent"}
}

// channels says for each way of telling people whether it is set up and what failed of it in the last day.
func (p *Pages) channels(ctx context.Context, now time.Time, d *watchPage) error {
	rows := map[string]*channelRow{}
	for _, state := range []model.DeliveryState{model.DeliveryFailed, model.DeliveryPending} {
		cursor := ""
		for page := 0; ; page++ {
			if page == maxPages {
				d.Partial = true
				break
			}
			found, next, err := p.o.Alerting.Deliveries(ctx, alerting.DeliveryQuery{
				AllGroups: true, State: state, From: now.Add(-24 * time.Hour), Before: cursor, Limit: pageSize,
			})
			if err != nil {
				return fmt.Errorf("read deliveries: %w", err)
			}
			for i := range found {
				count(rows, &found[i])
			}
			if cursor = next; next == "" {
				break
			}
		}
	}
	for _, c := range notify.Channels() {
		if c.People { // they become mail and SMS
			continue
		}
		row := rows[c.Name]
		if row == nil {
			row = &channelRow{}
		}
		delete(rows, c.Name)
		row.Label = c.Label
		row.State = channelState(row, p.o.Sender.Missing(c.Name))
		d.Channels = append(d.Channels, *row)
	}
	var others []string
	for name := range rows { // of another version
		others = append(others, name)
	}
	slices.Sort(others)
	for _, name := range others {
		row := rows[name]
		row.Label, row.State = name, channelState(row, "")
		d.Channels = append(d.Channels, *row)
	}
	return nil
}

func count(rows map[string]*channelRow, d *model.Delivery) {
	if d.State == model.DeliveryPending && d.LastError == "" {
		return
	}
	row := rows[d.Channel]
	if row == nil {
		row = &channelRow{}
		rows[d.Channel] = row
	}
	if d.State == model.DeliveryFailed {
		row.Failed++
	} else {
		row.Failing++
	}
	if d.Created.After(row.Last) {
		row.Last, row.Error = d.Created, d.LastError
	}
}

func channelState(row *channelRow, missing string) view.State {
	switch {
	case missing != "":
		return view.State{Level: view.Unknown, Word: "not set up", Why: strings.ToUpper(missing[:1]) + missing[1:]}
	case row.Failed+row.Failing > 0:
		return view.State{Level: view.Warning, Word: "failing", Why: row.Error}
	}
	return view.State{Level: view.OK, Word: "ready"}
}
