package alerts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/shipped"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Names of the duties.
const (
	PassEvaluate = "alerts-evaluate"
	PassDeliver  = "alerts-deliver"
	PassDefaults = "alerts-defaults"
	PassExpire   = "alerts-expire"
)

// Passes lists the duties for whoever ticks them.
func (s *Server) Passes() []store.Pass {
	return store.Passes(s.o.Store, append([]store.Duty{
		{Name: PassDefaults, Every: 15 * time.Second, Run: s.defaultsPass},
		{Name: PassEvaluate, Every: s.o.Every, Run: s.evaluatePass},
		{Name: PassDeliver, Every: 5 * time.Second, Run: s.deliverer.Pass},
		{Name: PassExpire, Every: 10 * time.Minute, Run: s.expirePass},
	}, s.o.Duties...)...)
}

func (s *Server) evaluatePass(ctx context.Context, now time.Time) (store.PassReport, error) {
	began := time.Now()
	report, err := s.evaluator.Pass(ctx, now)
	took := time.Since(began)
	s.m.evaluated(took, err)
	if took > s.o.Every {
		s.o.Log.WarnContext(ctx, "the evaluation of alerts took longer than its period: passes are skipped", obs.KeyTook, took)
	}
	return report, err
}

// defaultsPass gives groups that never had any their first configurations, and the site its own. A mark on the group says that
// it had them: what people delete stays deleted.
func (s *Server) defaultsPass(ctx context.Context, now time.Time) (store.PassReport, error) {
	var report store.PassReport
	groups, err := s.o.Inventory.Groups(ctx)
	if err != nil {
		return report, fmt.Errorf("read groups: %w", err)
	}
	for i := range groups {
		g := &groups[i]
		if !g.AlertsSeeded.IsZero() {
			continue
		}
		if err := s.create(ctx, shipped.Defaults(g.ID, now)); err != nil {
			return report, fmt.Errorf("group %s: %w", g.ID, err)
		}
		err := s.o.Inventory.UpdateGroup(ctx, g.ID, func(g *model.Group) error {
			g.AlertsSeeded = now
			return nil
		})
		if err != nil && !errors.Is(err, docstore.ErrNotFound) {
			return report, fmt.Errorf("mark group %s: %w", g.ID, err)
		}
		report.Done++
	}
	n, err := s.siteDefaults(ctx, now)
	report.Done += n
	return report, err
}

func (s *Server) siteDefaults(ctx context.Context, now time.Time) (int64, error) {
	w, err := s.o.Alerting.Watch(ctx)
	if err != nil || !w.Seeded.IsZero() {
		return 0, err
	}
	if err := s.create(ctx, shipped.Global(now)); err != nil {
		return 0, err
	}
	return 1, s.o.Alerting.UpdateWatch(ctx, func(w *model.AlertWatch) error {
		w.Seeded = now
		return nil
	})
}

// create adds configurations; those that are there already stay as they are.
func (s *Server) create(ctx context.Context, configs []model.AlertConfig) error {
	for _, c := range configs {
		if err := s.o.Alerting.CreateConfig(ctx, c); err != nil && !errors.Is(err, docstore.ErrExists) {
			return fmt.Errorf("create the configuration of %s: %w", c.EventType, err)
		}
	}
	return nil
}

// expireBound is how many documents one run of the pass deletes.
const expireBound = 5_000

// expirePass deletes what is old: ended alerts, finished deliveries, silences and maintenance windows that are over.
func (s *Server) expirePass(ctx context.Context, now time.Time) (store.PassReport, error) {
	var report store.PassReport
	before := now.Add(-s.o.Retention)
	left := func() int { return expireBound - int(report.Done) }
	groups, err := s.o.Inventory.Groups(ctx)
	if err != nil {
		return report, fmt.Errorf("read groups: %w", err)
	}
	for _, g := range append(groups, model.Group{}) { // the last one is the site
		n, err := s.o.Alerting.ExpireAlerts(ctx, g.ID, before, left())
		report.Done += int64(n)
		if err != nil {
			return report, fmt.Errorf("group %s: %w", g.ID, err)
		}
		if left() <= 0 {
			report.More = true
			return report, nil
		}
	}
	for _, expire := range []func(context.Context, time.Time, int) (int, error){s.o.Alerting.ExpireDeliveries, s.o.Alerting.ExpireSilences} {
		n, err := expire(ctx, before, max(left(), 0))
		report.Done += int64(n)
		if err != nil {
			return report, err
		}
	}
	if err := s.expireWindows(ctx, before, now); err != nil {
		return report, err
	}
	report.More = left() <= 0
	return report, nil
}

func (s *Server) expireWindows(ctx context.Context, before, now time.Time) error {
	windows, err := s.o.Alerting.AllWindows(ctx)
	if err != nil {
		return fmt.Errorf("read maintenance windows: %w", err)
	}
	for i := range windows {
		w := &windows[i]
		if _, _, comes := rule.Occurrence(w, now); comes || !w.End.Before(before) || w.Repeat != nil && !w.Repeat.Until.Before(before) {
			continue
		}
		if err := s.o.Alerting.DeleteWindow(ctx, w.GroupID, w.ID); err != nil {
			return fmt.Errorf("delete a maintenance window: %w", err)
		}
	}
	return nil
}
