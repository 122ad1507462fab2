// Package trial loads what is known of the past and asks shared/rule/trial what a configuration would have done, and why
// somebody was not told. The Public API and the pages answer with the same values. Every answer is bounded in what it reads
// and in time, and says so when a bound was reached. It must not import daemon, local or any adapter.
package trial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// The bounds of a trial.
const (
	MinDays = 1
	MaxDays = 30

	day       = 24 * time.Hour
	minPoints = 2 * day          // minutes are kept as long, unless settings say otherwise
	rawPoints = 7 * day          // and 5 minutes
	maxChunks = 24_000           // hours of hosts that are read by 1 or 5 minutes
	maxHosts  = 2_000            // that are read at all
	maxParts  = 10               // disks or databases of a host
	patience  = 15 * time.Second // after which what was read so far must do
	workers   = 4
	maxEvents = 20_000
	look      = 300_000
)

// alive is a measurement that every process has at every ping.
const alive = "CONNECTIONS"

// Options are what a Trials needs from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Alerting  Alerting
	Series    Series
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now
	Admin     []string         // mailbox of the site's operators
}

// Trials answers. It keeps nothing between calls.
type Trials struct{ o Options }

// New checks the options.
func New(o Options) (*Trials, error) {
	if o.Inventory == nil || o.Access == nil || o.Alerting == nil || o.Series == nil || o.Log == nil {
		return nil, errors.New("trials need Inventory, Access, Alerting, Series and Log")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Trials{o: o}, nil
}

// present is what is known of a group now.
func (t *Trials) present(ctx context.Context, g model.Group) (*rule.Snapshot, error) {
	s := &rule.Snapshot{Now: t.o.Now().UTC(), Group: g, Statuses: map[model.HostID]model.HostStatus{}}
	var err error
	if s.Hosts, err = t.o.Inventory.Hosts(ctx, g.ID); err != nil {
		return nil, fmt.Errorf("read the hosts: %w", err)
	}
	statuses, err := t.o.Inventory.Statuses(ctx, g.ID)
	if err != nil {
		return nil, fmt.Errorf("read the hosts' statuses: %w", err)
	}
	for _, st := range statuses {
		s.Statuses[st.HostID] = st
	}
	if s.Clusters, err = t.o.Inventory.Clusters(ctx, g.ID); err != nil {
		return nil, fmt.Errorf("read the clusters: %w", err)
	}
	if s.Agents, err = t.o.Inventory.Agents(ctx, g.ID); err != nil {
		return nil, fmt.Errorf("read the agents: %w", err)
	}
	return s, nil
}

// people are the users of the group and of its organization: a trial must not tell the addresses of others.
func (t *Trials) people(ctx context.Context, g model.Group) (notify.People, error) {
	users, err := t.o.Access.Users(ctx)
	if err != nil {
		return notify.People{}, fmt.Errorf("read the users: %w", err)
	}
	users = slices.DeleteFunc(users, func(u model.User) bool {
		return !slices.ContainsFunc(u.Grants, func(gr model.Grant) bool {
			return gr.GroupID == g.ID || gr.OrgID == g.OrgID && gr.GroupID == "" && g.OrgID != ""
		})
	})
	return notify.People{Users: users, GroupID: g.ID, OrgID: g.OrgID, Admin: t.o.Admin}, nil
}

func expand(p notify.People) func(model.Notification) ([]trial.Recipient, []string) {
	return func(n model.Notification) ([]trial.Recipient, []string) {
		found, missing := notify.Expand(n, p)
		to := make([]trial.Recipient, len(found))
		for i, r := range found {
			to[i] = trial.Recipient{Channel: r.Channel, Address: r.Address}
		}
		return to, missing
	}
}

// Try says what a configuration, which must have passed rule.Check, would have done in a group over the last days.
func (t *Trials) Try(ctx context.Context, group model.Group, c model.AlertConfig, days int) (trial.Trial, error) {
	days = min(max(days, MinDays), MaxDays)
	present, err := t.present(ctx, group)
	if err != nil {
		return trial.Trial{}, err
	}
	people, err := t.people(ctx, group)
	if err != nil {
		return trial.Trial{}, err
	}
	to := present.Now.Truncate(time.Minute)
	h := &trial.History{Asked: to.Add(-time.Duration(days) * day), To: to, Present: present, Recipients: expand(people)}
	h.From = h.Asked
	if h.Windows, err = t.o.Alerting.Windows(ctx, group.ID); err != nil {
		return trial.Trial{}, fmt.Errorf("read the maintenance windows: %w", err)
	}
	if h.Silences, err = t.o.Alerting.Silences(ctx, group.ID); err != nil {
		return trial.Trial{}, fmt.Errorf("read the silences: %w", err)
	}
	need := trial.Needs(&c)
	switch {
	case need.Points:
		err = t.points(ctx, &c, h)
	case len(need.Events) > 0:
		h.Events, err = t.events(ctx, alerting.EventQuery{GroupID: group.ID, Types: need.Events, From: h.From.Add(-need.Before), To: h.To}, h)
		h.Basis = "The events that are kept of the group, judged at the minute that follows them."
	}
	if err != nil {
		return trial.Trial{}, err
	}
	return trial.Run(&c, h), nil
}

// events reads events, oldest first. Of too many the newest are taken, and the trial begins with them.
func (t *Trials) events(ctx context.Context, q alerting.EventQuery, h *trial.History) ([]model.Event, error) {
	var found []model.Event
	next, err := t.o.Alerting.EachEvent(ctx, q, look, func(e model.Event) bool {
		found = append(found, e)
		return len(found) < maxEvents
	})
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	if next != "" && h != nil {
		if at, ok := alerting.CursorTime(next); ok && at.After(h.From) {
			h.From = at.Truncate(time.Minute).Add(time.Minute)
			h.Notes = append(h.Notes, "There are too many events: the trial begins with those of "+h.From.Format("2006-01-02 15:04 UTC")+".")
		}
	}
	slices.Reverse(found)
	return found, nil
}

// points reads the configuration's measurement of all hosts that it is about.
func (t *Trials) points(ctx context.Context, c *model.AlertConfig, h *trial.History) error {
	m, ok := rule.MetricOf(c.Metric.Metric)
	if !ok {
		h.Unknown = append(h.Unknown, "there is no measurement "+c.Metric.Metric)
		return nil
	}
	var hosts []model.HostID
	for _, v := range rule.Judge(c, h.Present).All() {
		hosts = append(hosts, v.Target.HostID)
	}
	if len(hosts) > maxHosts {
		h.Notes = append(h.Notes, fmt.Sprintf("It matches %d hosts: only %d of them were tried.", len(hosts), maxHosts))
		hosts = hosts[:maxHosts]
	}
	h.Step = stepFor(h.To.Sub(h.From), len(hosts))
	h.From, h.To = h.From.Truncate(h.Step), h.To.Truncate(h.Step)
	h.Basis = basis(h.Step)
	read, err := t.readAll(ctx, &m, hosts, h)
	if err != nil {
		return err
	}
	if read < len(hosts) {
		h.Notes = append(h.Notes, fmt.Sprintf("Reading took too long: %d of %d hosts were tried.", read, len(hosts)))
	}
	t.kept(h)
	return nil
}

// stepFor is the finest distance of points that so many hosts can be tried with.
func stepFor(span time.Duration, hosts int) time.Duration {
	chunks := int(span/time.Hour+1) * hosts
	switch {
	case span <= minPoints && chunks <= maxChunks/2:
		return time.Minute
	case span <= rawPoints && chunks <= maxChunks:
		return 5 * time.Minute
	}
	return time.Hour
}

func basis(step time.Duration) string {
	switch step {
	case time.Minute:
		return "Points of 1 minute, judged as the evaluation does."
	case 5 * time.Minute:
		return "Means of 5 minutes: shorter peaks are not seen, and times are exact to 5 minutes."
	}
	return "Means of 1 hour: shorter peaks are not seen, and times are exact to the hour."
}

// kept moves the beginning to where the first point is.
func (t *Trials) kept(h *trial.History) {
	first := -1
	for _, up := range h.Alive {
		if i := slices.Index(up, true); i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	switch {
	case len(h.Lines) == 0:
	case first < 0:
		h.Notes = append(h.Notes, "Nothing was measured in this time.")
	case h.From.Add(time.Duration(first) * h.Step).After(h.Asked.Add(2 * h.Step)):
		h.Notes = append(h.Notes, "The oldest points that are kept are of "+h.From.Add(time.Duration(first)*h.Step).Format("2006-01-02 15:04 UTC")+".")
	}
}

// readAll reads hosts side by side until it takes too long, and says how many it has read.
func (t *Trials) readAll(ctx context.Context, m *catalog.Measurement, hosts []model.HostID, h *trial.History) (int, error) {
	h.Lines, h.Alive = map[model.HostID][]trial.Line{}, map[model.HostID][]bool{}
	began := time.Now()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	read, next := 0, 0
	take := func() (model.HostID, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next >= len(hosts) || time.Since(began) > patience || ctx.Err() != nil {
			return "", false
		}
		next++
		return hosts[next-1], true
	}
	for range min(workers, len(hosts)) {
		wg.Go(func() {
			for {
				host, ok := take()
				if !ok {
					return
				}
				lines, up, err := t.readHost(ctx, m, host, h)
				if err != nil {
					stop(err)
					return
				}
				mu.Lock()
				h.Lines[host], h.Alive[host] = lines, up
				read++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return read, fmt.Errorf("read the points: %w", err)
	}
	return read, nil
}

// readHost reads the measurement of one host, of each of its disks or databases where it is theirs, and when the host answered.
func (t *Trials) readHost(ctx context.Context, m *catalog.Measurement, host model.HostID, h *trial.History) (lines []trial.Line, up []bool, err error) {
	parts := []string{""}
	if m.Scope != catalog.Process {
		if parts, err = t.o.Series.Dimensions(ctx, host, m.Scope); err != nil {
			return nil, nil, err
		}
		parts = parts[:min(len(parts), maxParts)]
	}
	for i, part := range parts {
		q := series.Query{Host: host, Measurements: []string{m.Base}, Dimension: part, From: h.From, To: h.To, Step: h.Step}
		if i == 0 {
			q.Measurements = append(q.Measurements, alive)
		}
		r, err := t.o.Series.Read(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		values := r.Lines[0].Values
		if m.Max {
			values = r.Lines[0].Max
		}
		if i == 0 {
			up = make([]bool, len(values))
			for k := range up {
				up[k] = !math.IsNaN(r.Lines[1].Values[k])
			}
		}
		for k, v := range values {
			up[k] = up[k] || !math.IsNaN(v)
		}
		lines = append(lines, trial.Line{Part: part, Values: values})
	}
	if len(parts) == 0 {
		t.o.Log.Debug("no parts of a host to try", obs.KeyHostID, host)
	}
	return lines, up, nil
}

// sameAddress compares host:port as people write it.
func sameAddress(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}
