package evaluate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

const (
	eventsPage = 1_000
	eventsMost = 50_000 // looked at in one pass
)

// news reads the events that some configuration tells of, by group, and counts elections where some configuration does.
func (p *pass) news(ctx context.Context, configs []model.AlertConfig) (events map[model.ID][]model.Event, elected map[model.ID]int, err error) {
	var types []model.EventType
	counts := false
	for i := range configs {
		t, ok := rule.TypeOf(configs[i].EventType)
		if !ok || !configs[i].Enabled {
			continue
		}
		counts = counts || t.Name == model.EventTooManyElections
		if t.Inform && !slices.Contains(types, t.Name) {
			types = append(types, t.Name)
		}
	}
	events = map[model.ID][]model.Event{}
	if len(types) > 0 {
		all, err := p.read(ctx, types, p.watch.EventsTo.Add(-eventsAgain))
		if err != nil {
			return nil, nil, err
		}
		slices.Reverse(all)
		for _, e := range all {
			events[e.GroupID] = append(events[e.GroupID], e)
		}
	}
	if counts {
		all, err := p.read(ctx, []model.EventType{model.EventPrimaryElected}, p.now.Add(-time.Hour))
		if err != nil {
			return nil, nil, err
		}
		elected = map[model.ID]int{}
		for i := range all {
			elected[all[i].ClusterID]++
		}
	}
	return events, elected, nil
}

// read returns the events of some types since a time, newest first.
func (p *pass) read(ctx context.Context, types []model.EventType, since time.Time) ([]model.Event, error) {
	q := alerting.EventQuery{AllGroups: true, Types: types, From: since, Limit: eventsPage}
	var all []model.Event
	for {
		page, next, err := p.o.Alerting.Events(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		all = append(all, page...)
		if next == "" || len(all) >= eventsMost {
			return all, nil
		}
		q.Before = next
	}
}

// inform tells of the events that a configuration is about. Each is told of once, however often it is read.
func (u *unit) inform(ctx context.Context, c *model.AlertConfig, t rule.Type) error {
	for i := range u.events {
		e := &u.events[i]
		if e.Type != t.Name || e.At.Before(c.Updated) {
			continue
		}
		target, text, ok := rule.JudgeEvent(c, e, u.snap)
		if !ok || !u.told.first(c.ID, e.ID) {
			continue
		}
		if err := u.tell(ctx, c, t, e, target, text); err != nil {
			u.told.forget(c.ID, e.ID)
			return err
		}
	}
	return nil
}

func (u *unit) tell(ctx context.Context, c *model.AlertConfig, t rule.Type, e *model.Event, target model.Target, text string) error {
	a, due := rule.Inform(c, e, target, text, u.mute(c, t, target, u.now))
	if a == nil {
		return nil
	}
	a.GroupID, a.Tags = u.group.ID, u.group.Tags
	_, err := u.o.Alerting.Alert(ctx, a.GroupID, a.ID)
	if err == nil {
		return nil
	}
	if !errors.Is(err, docstore.ErrNotFound) {
		return fmt.Errorf("look for the alert of an event: %w", err)
	}
	if err := u.notify(ctx, a, due); err != nil {
		return err
	}
	if _, err := u.o.Alerting.AddInform(ctx, *a); err != nil {
		return fmt.Errorf("keep the alert of an event: %w", err)
	}
	u.note("", a.Status)
	return nil
}

// elsewhere are the event types that ingestion writes when it sees them; the evaluation writes the others.
var elsewhere = []model.EventType{model.EventHostDown, model.EventHostUp, model.EventHostRecovering, model.EventHostRecovered}

// feed adds the event of an alert that opens or closes to the activity feed. It is called before the alert changes, maybe
// again after a crash: the event is then there.
func (u *unit) feed(ctx context.Context, before model.AlertStatus, a *model.Alert, t rule.Type) error {
	e := model.Event{
		GroupID: a.GroupID, HostID: a.Target.HostID, HostName: a.Target.HostName, ClusterID: a.Target.ClusterID, AgentID: a.Target.AgentID,
		AlertID: a.ID, ConfigID: a.ConfigID, Value: a.Value, Text: a.Text, Global: a.Global,
	}
	switch {
	case before == model.AlertTracking && a.Status == model.AlertOpen:
		e.Type, e.At = t.Name, a.Opened
	case before == model.AlertOpen && a.Status == model.AlertClosed:
		e.Type, e.At = t.ClosedBy, a.Resolved
	default:
		return nil
	}
	if e.Type == "" || slices.Contains(elsewhere, e.Type) {
		return nil
	}
	if a.Rule.Metric != nil {
		e.Metric = a.Rule.Metric.Metric
	}
	q := alerting.EventQuery{GroupID: a.GroupID, HostID: e.HostID, ClusterID: e.ClusterID, Types: []model.EventType{e.Type}, From: a.Created}
	if q.HostID != "" {
		q.ClusterID = ""
	}
	have, _, err := u.o.Alerting.Events(ctx, q)
	if err != nil {
		return fmt.Errorf("look for an alert's event: %w", err)
	}
	if slices.ContainsFunc(have, func(h model.Event) bool { return h.AlertID == a.ID }) {
		return nil
	}
	e.ID = alerting.EventID(e.At, string(a.ID), string(e.Type))
	if err := u.o.Alerting.AddEvents(ctx, e); err != nil {
		return fmt.Errorf("add an alert's event: %w", err)
	}
	return nil
}
