package chart

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// Rules is what charts need to know of alerts: the thresholds that are drawn as dashed lines.
type Rules interface {
	Configs(ctx context.Context, group model.ID) ([]model.AlertConfig, error)
	Alert(ctx context.Context, group, id model.ID) (model.Alert, error)
}

// Limit is a threshold, in the unit of the line it is for.
type Limit struct {
	Value float64
	Text  string
}

// single is the prefix of charts of one measurement, which need not be in any chart of the catalogue.
const single = "m:"

// Single is the name of the chart of one measurement.
func Single(measurement string) string { return single + measurement }

// SingleChart is the chart of one measurement by its name.
func SingleChart(id string) (catalog.Chart, bool) {
	name, ok := strings.CutPrefix(id, single)
	if !ok {
		return catalog.Chart{}, false
	}
	m, ok := rule.MetricOf(name)
	if !ok {
		return catalog.Chart{}, false
	}
	c := catalog.Chart{ID: id, Title: words.Metric(m.Name), Unit: m.Unit, Scope: m.Scope, Measurements: []string{m.Name}}
	if in, ok := catalog.ChartByID(m.Chart); ok {
		c.Tab = in.Tab
	}
	return c, true
}

// rules are the metric thresholds that hold for at least one of the hosts: those of the alert the address names, else of every
// enabled configuration.
func (c *Charts) rules(ctx context.Context, v *view.Visit, hosts []model.Host) (list []model.AlertConfig, about *model.Alert, err error) {
	if c.opt.Rules == nil {
		return nil, nil, nil
	}
	if id := model.ID(v.Query("alert")); id.Valid() {
		a, err := c.opt.Rules.Alert(ctx, v.Group.ID, id)
		switch {
		case errors.Is(err, docstore.ErrNotFound):
			return nil, nil, nil
		case err != nil:
			return nil, nil, fmt.Errorf("read the alert: %w", err)
		}
		return []model.AlertConfig{a.Rule}, &a, nil
	}
	for _, group := range []model.ID{v.Group.ID, ""} {
		configs, err := c.opt.Rules.Configs(ctx, group)
		if err != nil {
			return nil, nil, fmt.Errorf("read the alert configurations: %w", err)
		}
		for i := range configs {
			if conf := &configs[i]; conf.Enabled && conf.Metric != nil && conf.Covers(v.Group) && concerns(conf, v.Group, hosts, v.Now) {
				list = append(list, *conf)
			}
		}
	}
	return list, nil, nil
}

// concerns reports whether a configuration is about one of the hosts.
func concerns(c *model.AlertConfig, g *model.Group, hosts []model.Host, now time.Time) bool {
	return len(rule.Judge(c, &rule.Snapshot{Now: now, Group: *g, Hosts: hosts}).All()) > 0
}

// limits are the thresholds to draw in a chart of some measurements. Lines that are stacked on each other have none: a
// threshold would be compared with their sum.
func limits(rules []model.AlertConfig, measurements []string, stacked bool) (out []Limit) {
	if stacked {
		return nil
	}
	for i := range rules {
		m, ok := metricOf(&rules[i])
		if !ok || !slices.Contains(measurements, m.Name) {
			continue
		}
		value, ok := threshold(&rules[i], m)
		if !ok {
			continue
		}
		l := Limit{value, "alert: " + words.Condition(&rules[i])}
		if !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

func metricOf(c *model.AlertConfig) (catalog.Measurement, bool) {
	if c.Metric == nil {
		return catalog.Measurement{}, false
	}
	return rule.MetricOf(c.Metric.Metric)
}

// threshold is a configuration's threshold in the unit of the catalogue.
func threshold(c *model.AlertConfig, m catalog.Measurement) (float64, bool) {
	one, err := rule.Convert(1, m.Unit, c.Metric.Units)
	if err != nil || one == 0 {
		return 0, false
	}
	return c.Metric.Value / one, true
}

// lifeMarks are when an alert began, opened and ended.
func lifeMarks(a *model.Alert) (out []model.Mark) {
	add := func(at time.Time, t model.EventType, text string) {
		if !at.IsZero() {
			out = append(out, model.Mark{At: at, Type: t, Text: text})
		}
	}
	closed := a.EventType
	if t, ok := rule.TypeOf(a.EventType); ok && t.ClosedBy != "" {
		closed = t.ClosedBy
	}
	if a.Since.Before(a.Opened) {
		add(a.Since, "", "the condition began to hold")
	}
	add(a.Opened, a.EventType, "alert opened")
	add(a.Resolved, closed, "alert "+strings.ToLower(string(a.Status)))
	return out
}
