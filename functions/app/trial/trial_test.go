package trial_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	apptrial "github.com/heartwood-db/heartwood/functions/app/trial"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// world is a store with one group.
type world struct {
	t      testing.TB
	trials *apptrial.Trials
	inv    *inventory.Inventory
	acc    *access.Access
	al     *alerting.Alerting
	series *series.Series
	engine docstore.Engine
	group  model.Group
	clock  time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	e := storetest.Engine(t)
	declared := areas.Collections()
	names := map[string]bool{}
	for _, c := range declared {
		names[c.Name] = true
	}
	for _, c := range series.Collections() {
		if !names[c.Name] {
			declared = append(declared, c)
		}
	}
	s := storetest.OpenOn(t, e, declared...)
	w := &world{
		t: t, inv: inventory.New(s), acc: access.New(s), al: alerting.New(s), engine: e, clock: now,
		group: model.Group{ID: "5f0000000000000000000001", OrgID: "5f00000000000000000000aa", Name: "prod", Created: now, Settings: model.DefaultGroupSettings()},
	}
	var err error
	if w.series, err = series.New(series.Options{Engine: e, Now: func() time.Time { return w.clock }}); err != nil {
		t.Fatal(err)
	}
	if err := w.inv.CreateGroup(t.Context(), w.group); err != nil {
		t.Fatal(err)
	}
	w.trials, err = apptrial.New(apptrial.Options{
		Inventory: w.inv, Access: w.acc, Alerting: w.al, Series: w.series, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.clock },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) host(name string) model.Host {
	w.t.Helper()
	h := model.Host{ID: model.NewHostID(w.group.ID, name, 27017), GroupID: w.group.ID, Hostname: name, Port: 27017, Created: now, Type: model.TypeStandalone, MemberID: -1, Enabled: true, AlertsEnabled: true}
	if err := w.inv.CreateHost(w.t.Context(), h); err != nil {
		w.t.Fatal(err)
	}
	return h
}

// measure keeps a host's connections at a distance of step.
func (w *world) measure(h model.Host, from, to time.Time, step time.Duration, at func(time.Time) int64) {
	w.t.Helper()
	var ops []docstore.Op
	flush := func() {
		if len(ops) == 0 {
			return
		}
		results, err := w.engine.Write(w.t.Context(), ops, false)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				w.t.Fatal(r.Err)
			}
		}
		ops = ops[:0]
	}
	for t := from; t.Before(to); t = t.Add(step) {
		op, err := w.series.RowOp(h.ID, catalog.Row{At: t, Cells: []catalog.Cell{{Column: "connections.current", Value: catalog.Int(at(t))}}})
		if err != nil {
			w.t.Fatal(err)
		}
		if ops = append(ops, op); len(ops) == 500 {
			flush()
		}
	}
	flush()
}

func connections(operator string, value float64) model.AlertConfig {
	return model.AlertConfig{
		ID: "5f00000000000000000000d1", GroupID: "5f0000000000000000000001", EventType: model.EventOutsideMetric, Enabled: true, Created: now.Add(-90 * 24 * time.Hour), Updated: now.Add(-90 * 24 * time.Hour),
		Metric:        &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: operator, Value: value}},
		Notifications: []model.Notification{{ID: "5f00000000000000000000e1", Channel: "GROUP", EmailEnabled: true, IntervalMin: 60}},
	}
}

func TestTryOnPoints(t *testing.T) {
	w := newWorld(t)
	db1, db2 := w.host("db1"), w.host("db2")
	user := model.User{ID: model.NewID(), Username: "ann", Email: "ann@example.com", Created: now, Grants: []model.Grant{{Role: model.GroupOwner, GroupID: w.group.ID}}}
	stranger := model.User{ID: model.NewID(), Username: "bob", Email: "bob@example.com", Created: now}
	for _, u := range []model.User{user, stranger} {
		if err := w.acc.CreateUser(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	busy := func(at time.Time) int64 {
		if at.Hour() == 6 {
			return 900
		}
		return 100
	}
	w.measure(db1, now.Add(-30*time.Hour), now, time.Minute, busy)
	w.measure(db2, now.Add(-30*time.Hour), now, time.Minute, func(time.Time) int64 { return 10 })
	got, err := w.trials.Try(t.Context(), w.group, connections("GREATER_THAN", 500), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.Step != time.Minute || got.Opened != 1 || got.Total != 2 || len(got.Targets) != 2 || got.Targets[0].Target.HostName != "db1:27017" {
		t.Fatalf("%+v", got)
	}
	s := got.Targets[0].Spans[0]
	const want = "06:01 06:02 07:03: ann@example.com"
	if is := fmt.Sprintf("%s %s %s: %s", s.Since.Format("15:04"), s.Opened.Format("15:04"), s.Closed.Format("15:04"), s.Notifications[0].Recipient); is != want {
		t.Errorf("%s, want %s", is, want)
	}
	// Longer, and so coarser; it says how far back anything is known.
	if got, err = w.trials.Try(t.Context(), w.group, connections("GREATER_THAN", 500), 5); err != nil || got.Step != 5*time.Minute || got.Opened != 2 || !strings.Contains(strings.Join(got.Notes, " "), "The oldest points that are kept are of 2026-03-09 06:00 UTC.") {
		t.Errorf("%+v %v", got, err)
	}
	if got, err = w.trials.Try(t.Context(), w.group, connections("GREATER_THAN", 500), 30); err != nil || got.Step != time.Hour || got.Opened != 2 {
		t.Errorf("%+v %v", got, err)
	}
	c := connections("GREATER_THAN", 500)
	c.Notifications = []model.Notification{{ID: "n", Channel: "USER", EmailEnabled: true, IntervalMin: 60, Fields: map[string]string{"username": "bob"}}}
	if got, err = w.trials.Try(t.Context(), w.group, c, 1); err != nil || got.Total != 0 || !strings.Contains(strings.Join(got.Notes, " "), "There is no user bob.") {
		t.Errorf("a trial told the address of somebody who is not in the group: %+v %v", got, err)
	}
	quick, stop := context.WithCancel(t.Context())
	stop()
	if _, err := w.trials.Try(quick, w.group, connections("GREATER_THAN", 500), 1); err == nil {
		t.Error("a trial whose caller went away went on")
	}
}

func TestWhyOfPoints(t *testing.T) {
	w := newWorld(t)
	db1 := w.host("db1")
	w.measure(db1, now.Add(-3*time.Hour), now, time.Minute, func(at time.Time) int64 { return int64(100 + at.Minute()) })
	if err := w.al.CreateConfig(t.Context(), connections("GREATER_THAN", 500)); err != nil {
		t.Fatal(err)
	}
	if err := w.al.SaveWatch(t.Context(), model.AlertWatch{LastPass: now}); err != nil {
		t.Fatal(err)
	}
	reasons, err := w.trials.Why(t.Context(), trial.WhyQuery{GroupID: w.group.ID, From: now.Add(-2 * time.Hour), To: now.Add(-time.Hour), Host: "DB1:27017"})
	if err != nil || len(reasons) != 1 || reasons[0].Verdict != trial.NotCrossed || reasons[0].Nearest == nil || reasons[0].Nearest.Number != 158 {
		t.Fatalf("%+v %v", reasons, err)
	}
	if reasons, err = w.trials.Why(t.Context(), trial.WhyQuery{GroupID: w.group.ID, From: now.Add(-2 * time.Hour), To: now, Host: "nosuch"}); err != nil || len(reasons) != 2 || reasons[0].Verdict != trial.NotMatched {
		t.Errorf("%+v %v", reasons, err)
	}
}

// BenchmarkTry30Days reports how long a trial over 30 days of many hosts takes: their hours are compacted, as they are on a site
// that has run for so long.
func BenchmarkTry30Days(b *testing.B) {
	const hosts, days = 100, 30
	w := newWorld(b)
	from := now.Add(-days * 24 * time.Hour)
	all := make([]model.Host, hosts)
	for i := range all {
		all[i] = w.host(fmt.Sprintf("db%03d", i))
	}
	for d := range days {
		start := from.Add(time.Duration(d) * 24 * time.Hour)
		w.clock = start.Add(24 * time.Hour)
		for i, h := range all {
			w.measure(h, start, w.clock, time.Hour, func(at time.Time) int64 { return int64(at.Hour()*30 + i) })
		}
		w.clock = w.clock.Add(10 * time.Minute)
		for more := true; more; {
			report, err := w.series.Compact(b.Context(), w.clock)
			if err != nil {
				b.Fatal(err)
			}
			more = report.More
		}
	}
	w.clock = now
	for b.Loop() {
		got, err := w.trials.Try(b.Context(), w.group, connections("GREATER_THAN", 500), days)
		if err != nil || got.Opened == 0 || got.Step != time.Hour {
			b.Fatal(got.Opened, got.Step, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/hosts, "ms/host")
}
