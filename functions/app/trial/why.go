package trial

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

const (
	maxAlerts     = 5_000 // looked at for one question
	maxDeliveries = 20_000
	maxPointHosts = 200      // whose points are read for the value nearest to a threshold
	alertAge      = 90 * day // alerts that began before the window may still be open in it
)

// Why says for every configuration that covers the query's group why it told somebody in the window, or did not.
func (t *Trials) Why(ctx context.Context, q trial.WhyQuery) ([]trial.Reason, error) {
	group, err := t.o.Inventory.Group(ctx, q.GroupID)
	if err != nil {
		return nil, fmt.Errorf("read the group: %w", err)
	}
	f := &trial.Facts{Query: q, Group: group}
	if f.Present, err = t.present(ctx, group); err != nil {
		return nil, err
	}
	people, err := t.people(ctx, group)
	if err != nil {
		return nil, err
	}
	f.Recipients = expand(people)
	for i := range people.Users {
		if q.Username != "" && sameAddress(people.Users[i].Username, q.Username) {
			f.Person = &people.Users[i]
		}
	}
	for _, load := range []func(context.Context, *trial.Facts) error{t.loadConfigs, t.loadAlerts, t.loadWatch, t.loadAgent, t.loadNearest} {
		if err := load(ctx, f); err != nil {
			return nil, err
		}
	}
	return trial.Explain(f), nil
}

func (t *Trials) loadConfigs(ctx context.Context, f *trial.Facts) error {
	own, err := t.o.Alerting.Configs(ctx, f.Group.ID)
	if err != nil {
		return fmt.Errorf("read the configurations: %w", err)
	}
	site, err := t.o.Alerting.Configs(ctx, "")
	if err != nil {
		return fmt.Errorf("read the global configurations: %w", err)
	}
	for _, c := range slices.Concat(own, site) {
		if c.Covers(&f.Group) && (f.Query.ConfigID == "" || f.Query.ConfigID == c.ID) {
			f.Configs = append(f.Configs, c)
		}
	}
	return nil
}

// loadAlerts reads the alerts that were there in the window, and what was sent in it.
func (t *Trials) loadAlerts(ctx context.Context, f *trial.Facts) error {
	q := alerting.AlertQuery{GroupID: f.Group.ID, From: f.Query.From.Add(-alertAge), To: f.Query.To, ConfigID: f.Query.ConfigID, Limit: 1000}
	for looked := 0; ; {
		alerts, next, err := t.o.Alerting.Alerts(ctx, q)
		if err != nil {
			return fmt.Errorf("read the alerts: %w", err)
		}
		for i := range alerts {
			if a := &alerts[i]; a.Status.Live() || !a.Resolved.Before(f.Query.From) {
				f.Alerts = append(f.Alerts, *a)
			}
		}
		if next == "" {
			break
		}
		looked += len(alerts)
		if q.Before = next; looked >= maxAlerts {
			f.Notes = append(f.Notes, fmt.Sprintf("There are more than %d alerts: only the newest were looked at. Ask for a shorter window.", maxAlerts))
			break
		}
	}
	f.Deliveries = map[model.ID][]model.Delivery{}
	dq := alerting.DeliveryQuery{GroupID: f.Group.ID, From: f.Query.From, To: f.Query.To, Limit: 1000}
	for n := 0; ; {
		ds, next, err := t.o.Alerting.Deliveries(ctx, dq)
		if err != nil {
			return fmt.Errorf("read the deliveries: %w", err)
		}
		for _, d := range ds {
			f.Deliveries[d.AlertID] = append(f.Deliveries[d.AlertID], d)
		}
		n += len(ds)
		if dq.Before = next; next == "" || n >= maxDeliveries {
			return nil
		}
	}
}

func (t *Trials) loadWatch(ctx context.Context, f *trial.Facts) (err error) {
	if f.Watch, err = t.o.Alerting.Watch(ctx); err != nil {
		return fmt.Errorf("read the state of the evaluation: %w", err)
	}
	return nil
}

// loadAgent reads when the agent was said to be down.
func (t *Trials) loadAgent(ctx context.Context, f *trial.Facts) error {
	events, err := t.events(ctx, alerting.EventQuery{
		GroupID: f.Group.ID, Types: []model.EventType{model.EventAgentDown, model.EventAgentUp}, From: f.Query.From.Add(-7 * day), To: f.Query.To,
	}, nil)
	f.AgentEvents = events
	return err
}

// loadNearest finds, for each metric configuration without an alert, the value that came nearest to its threshold.
func (t *Trials) loadNearest(ctx context.Context, f *trial.Facts) error {
	f.Nearest = map[model.ID]trial.Nearest{}
	alerted := map[model.ID]bool{}
	for i := range f.Alerts {
		alerted[f.Alerts[i].ConfigID] = true
	}
	for i := range f.Configs {
		c := &f.Configs[i]
		if c.Metric == nil || !c.Enabled || alerted[c.ID] {
			continue
		}
		m, ok := rule.MetricOf(c.Metric.Metric)
		if !ok {
			continue
		}
		var hosts []model.HostID
		for _, v := range rule.Judge(c, f.Present).All() {
			if f.About(&v.Target) {
				hosts = append(hosts, v.Target.HostID)
			}
		}
		if len(hosts) > maxPointHosts {
			f.Notes = append(f.Notes, fmt.Sprintf("%s of %d hosts: the nearest value was looked for on %d of them. Name a host.", strings.ToUpper(m.Name), len(hosts), maxPointHosts))
			hosts = hosts[:maxPointHosts]
		}
		if len(hosts) == 0 {
			continue
		}
		step := stepFor(f.Present.Now.Sub(f.Query.From), len(hosts))
		h := &trial.History{Step: step, From: f.Query.From.Truncate(step), To: f.Query.To.Add(step - 1).Truncate(step)}
		if _, err := t.readAll(ctx, &m, hosts, h); err != nil {
			return err
		}
		f.Nearest[c.ID] = trial.FindNearest(c, h)
	}
	return nil
}
