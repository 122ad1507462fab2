package evaluate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// facts reads what is known of the unit.
func (u *unit) facts(ctx context.Context) error {
	s := &rule.Snapshot{
		Now: u.now, Resumed: u.watch.Resumed, Group: u.group, Elections: u.elected, ServerVersion: u.o.Version, Release: u.o.Releases,
		Users: u.users,
	}
	u.snap = s
	if u.group.ID == "" {
		s.Backups, s.Daemons = u.backedUp, u.daemons
		return u.siteFacts(ctx)
	}
	s.Backups = u.backupsOf(u.group.ID)
	in := u.o.Inventory
	var err error
	if s.Hosts, err = in.Hosts(ctx, u.group.ID); err != nil {
		return fmt.Errorf("read hosts: %w", err)
	}
	statuses, err := in.Statuses(ctx, u.group.ID)
	if err != nil {
		return fmt.Errorf("read the hosts' states: %w", err)
	}
	s.Statuses = make(map[model.HostID]model.HostStatus, len(statuses))
	for i := range statuses {
		s.Statuses[statuses[i].HostID] = statuses[i]
	}
	if s.Clusters, err = in.Clusters(ctx, u.group.ID); err != nil {
		return fmt.Errorf("read clusters: %w", err)
	}
	if s.Agents, err = in.Agents(ctx, u.group.ID); err != nil {
		return fmt.Errorf("read agents: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hosts += len(s.Hosts)
	return nil
}

func (u *unit) siteFacts(ctx context.Context) error {
	s := u.snap
	states, err := u.o.Duties.PassStates(ctx)
	if err != nil {
		return fmt.Errorf("read the periodic duties: %w", err)
	}
	for _, d := range states {
		f := rule.PassFact{Name: d.Name, Error: d.Error, Failures: int(d.Failures), LateBy: d.Lateness(u.now)}
		// All are late after a stop; what counts is how long this one has been since.
		if since := u.now.Sub(u.watch.Resumed); f.LateBy > since {
			f.LateBy = since
		}
		if f.Failures > 0 && !d.LastOK.IsZero() {
			f.Since = d.LastOK.Add(d.Every)
		} else if f.LateBy > 0 {
			f.Since = u.now.Add(-f.LateBy)
		}
		s.Passes = append(s.Passes, f)
	}
	st, err := u.o.Alerting.DeliveryStats(ctx, u.now)
	if err != nil {
		return fmt.Errorf("read how deliveries do: %w", err)
	}
	s.Deliveries = rule.DeliveryFact{
		Pending: st.Pending, Failing: st.Failing, FailedLastHour: st.FailedLastHour, OldestPending: st.OldestPending,
	}
	if u.o.ServerCert != nil {
		s.ServerCert = u.o.ServerCert()
	}
	return nil
}

// clockNoise is how far a sample may be ahead of the clock it is judged by.
const clockNoise = time.Minute

// span is the time of which samples are read: three pings back, three minutes at least, on the clocks of the group's agents.
func (u *unit) span() (from, to time.Time) {
	back := max(3*time.Duration(u.group.Settings.PingSeconds)*time.Second, 3*time.Minute)
	from, to = u.now.Add(-back), u.now.Add(clockNoise)
	for i := range u.snap.Agents {
		switch skew := time.Duration(u.snap.Agents[i].SkewMS) * time.Millisecond; {
		case skew > 0:
			to = later(to, u.now.Add(min(skew, maxSkew)+clockNoise))
		case u.now.Add(-back + max(skew, -maxSkew)).Before(from):
			from = u.now.Add(-back + max(skew, -maxSkew))
		}
	}
	return from, to
}

const (
	maxSkew = 30 * time.Minute // of an agent's clock; what is off by more is not looked for

	// lastPointBack is how far back a measurement that stopped is looked for.
	lastPointBack = time.Hour
)

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// samples are what was measured, by host and measurement; of disks and databases by "measurement/part".
type samples map[model.HostID]map[string][]model.Sample

// last is when a measurement, or any part of it, arrived last.
func (s samples) last(host model.HostID, metric string) (at time.Time) {
	of := s[host]
	if points := of[metric]; len(points) > 0 {
		return points[len(points)-1].At
	}
	if ofProcess(metric) {
		return at
	}
	for name, points := range of {
		if len(points) > 0 && strings.HasPrefix(name, metric+"/") {
			at = later(at, points[len(points)-1].At)
		}
	}
	return at
}

// parts lists the disks or databases of which a measurement arrived.
func (s samples) parts(host model.HostID, metric string) (parts []string) {
	for name := range s[host] {
		if part, ok := strings.CutPrefix(name, metric+"/"); ok {
			parts = append(parts, part)
		}
	}
	slices.Sort(parts)
	return parts
}

func ofProcess(metric string) bool {
	m, ok := catalog.Find(metric)
	return !ok || m.Scope == catalog.Process
}

// measure reads the measurements that configurations are about. Which those are, and of which hosts, is what the rules ask
// for: they judge once with nothing measured, and what they asked is read at once. In the same way it is found out which
// measurements have stopped and when.
func (u *unit) measure(ctx context.Context, configs []*model.AlertConfig) error {
	asked := newWants(u.snap.Hosts)
	u.snap.Points = func(host model.HostID, metric string) []model.Sample {
		asked.add(host, metric)
		return nil
	}
	u.snap.LastPoint, u.snap.Parts = nil, nil
	for _, c := range configs {
		rule.Judge(c, u.snap)
	}
	from, to := u.span()
	have, err := u.recent(ctx, asked, from, to)
	if err != nil {
		return fmt.Errorf("read measurements: %w", err)
	}
	stopped := newWants(u.snap.Hosts)
	for host, metrics := range asked.all() {
		for _, metric := range metrics {
			s := series{host, metric}
			if !have.last(host, metric).IsZero() {
				u.last.arrived(s)
			} else if _, known := u.last.get(s); !known {
				stopped.add(host, metric)
			}
		}
	}
	before, err := u.recent(ctx, stopped, u.now.Add(-lastPointBack), to)
	if err != nil {
		return fmt.Errorf("read when measurements stopped: %w", err)
	}
	for host, metrics := range stopped.all() {
		for _, metric := range metrics {
			u.last.set(series{host, metric}, before.last(host, metric))
		}
	}
	u.snap.Points = func(host model.HostID, metric string) []model.Sample { return have[host][metric] }
	u.snap.Parts = have.parts
	u.snap.LastPoint = func(host model.HostID, metric string) time.Time {
		if at := have.last(host, metric); !at.IsZero() {
			return at
		}
		at, _ := u.last.get(series{host, metric})
		return at
	}
	return nil
}

// recent reads what is wanted.
func (u *unit) recent(ctx context.Context, w *wants, from, to time.Time) (samples, error) {
	have := samples{}
	err := w.each(func(hosts []model.HostID, metrics []string) error {
		part, err := u.o.Series.Recent(ctx, hosts, metrics, from, to)
		if err != nil {
			return err
		}
		maps.Copy(have, part)
		return nil
	})
	return have, err
}
