package alerts_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/alerts/deliver"
	"github.com/heartwood-db/heartwood/functions/alerts/evaluate"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var t0 = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

func minute(m int) time.Time { return t0.Add(time.Duration(m) * time.Minute) }

func clock() time.Time { return t0 }

// pass evaluates once, as a process that has just started does.
func (x *site) pass(now time.Time) model.AlertWatch {
	x.t.Helper()
	e, err := evaluate.New(x.evaluateOptions())
	x.ok(err)
	_, err = e.Pass(x.t.Context(), now)
	x.ok(err)
	w, err := x.alerting.Watch(x.t.Context())
	x.ok(err)
	return w
}

// deliverer makes one that waits for nothing between messages.
func (x *site) deliverer(p *phone) *deliver.Deliverer {
	x.t.Helper()
	d, err := deliver.New(deliver.Options{
		Outbox: x.alerting, Groups: x.inventory, Sender: p, By: "test", PublicURL: "https://heartwood.example.com",
		Gap: func(string) time.Duration { return 0 },
	})
	x.ok(err)
	return d
}

func (x *site) send(p *phone, now time.Time) {
	x.t.Helper()
	_, err := x.deliverer(p).Pass(x.t.Context(), now)
	x.ok(err)
}

func (x *site) live() []alerting.Live {
	x.t.Helper()
	live, err := x.alerting.AllLive(x.t.Context())
	x.ok(err)
	return live
}

func (x *site) deliveries() []model.Delivery {
	x.t.Helper()
	ds, next, err := x.alerting.Deliveries(x.t.Context(), alerting.DeliveryQuery{AllGroups: true, Limit: 10_000})
	x.ok(err)
	if next != "" {
		x.t.Fatal("more deliveries than a test should have")
	}
	return ds
}

// kinds lists what was decided, "open-1 open-2 close-1", in order of time.
func (x *site) kinds() string {
	x.t.Helper()
	ds := x.deliveries()
	slices.SortFunc(ds, func(a, b model.Delivery) int { return a.Created.Compare(b.Created) })
	var out []string
	for _, d := range ds {
		out = append(out, strings.Split(d.ID, "/")[1])
	}
	return strings.Join(out, " ")
}

// alive keeps the agent and a host's news fresh.
func (x *site) alive(h model.Host, now time.Time, reach model.Reach, since time.Time) {
	x.t.Helper()
	s := x.up(h, now.Add(-10*time.Second))
	if s.Reach, s.ReachSince = reach, since; reach == model.ReachDown {
		s.LastPing = since
	}
	x.status(s)
	x.agent(h.GroupID, now.Add(-10*time.Second))
}

// downSite is a site with one host that is down since a quarter of an hour, two webhooks about it, and one about new hosts.
func downSite(x *site) (model.Group, model.Host) {
	g := x.group("g")
	h := x.newHost(g.ID, "db1.example.com")
	x.putHost(h, x.up(h, t0))
	x.alive(h, t0, model.ReachDown, minute(-15))
	x.config(g.ID, model.EventHostDown, func(c *model.AlertConfig) {
		c.Notifications = append(c.Notifications, hook("https://hooks.example.com/b"))
	})
	x.config(g.ID, model.EventNewHost, func(c *model.AlertConfig) {
		c.Notifications = []model.Notification{hook("https://hooks.example.com/new")}
	})
	x.ok(x.alerting.AddEvents(x.t.Context(), model.Event{
		ID: alerting.EventID(minute(-1), "new"), GroupID: g.ID, Type: model.EventNewHost, At: minute(-1), HostID: h.ID, HostName: h.Address(),
	}))
	return g, h
}

// heard says what each destination took, as "kind" of each message by its key, once.
func (p *phone) heard() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]string{}
	for where, all := range p.taken {
		keys := map[string]bool{}
		for _, m := range all {
			if !keys[m.Key] {
				keys[m.Key] = true
				out[where] = append(out[where], string(m.Kind))
			}
		}
	}
	return out
}

func wantHeard(t *testing.T, p *phone, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for where, kinds := range p.heard() {
		got[strings.TrimPrefix(where, "https://hooks.example.com/")] = strings.Join(kinds, " ")
	}
	if !maps.Equal(got, want) {
		t.Fatalf("heard %v, want %v", got, want)
	}
}

// TestEvaluationBrokenAnywhereLosesAndDoublesNothing fails each write of an evaluation that opens an alert and tells of an
// event, and of one that closes the alert, and lets another process go on.
func TestEvaluationBrokenAnywhereLosesAndDoublesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		before func(x *site)
		want   map[string]string
		events []model.EventType
	}{
		"opening": {func(*site) {}, map[string]string{"a": "open", "b": "open", "new": "inform"}, []model.EventType{model.EventNewHost}},
		"closing": {func(x *site) {
			x.pass(minute(-1))
			g, err := x.inventory.GroupByName(x.t.Context(), "g")
			x.ok(err)
			hosts, err := x.inventory.Hosts(x.t.Context(), g.ID)
			x.ok(err)
			x.alive(hosts[0], t0, model.ReachUp, minute(-1))
		}, map[string]string{"a": "open close", "b": "open close", "new": "inform"}, []model.EventType{model.EventNewHost}},
	} {
		t.Run(name, func(t *testing.T) {
			fresh := storetest.Prepared(t, func(e docstore.Engine) {
				x := openSiteOn(t, e, clock)
				downSite(x)
				c.before(x)
			})
			run := func(t *testing.T, e docstore.Engine) error {
				ev, err := evaluate.New(openSiteOn(t, e, clock).evaluateOptions())
				if err != nil {
					return err
				}
				_, err = ev.Pass(t.Context(), t0)
				return err
			}
			storetest.EachStep(t, fresh, run, func(t *testing.T, e docstore.Engine, _ error) {
				x := openSiteOn(t, e, clock)
				x.pass(minute(1))
				x.pass(minute(2))
				p := &phone{}
				x.send(p, minute(2))
				wantHeard(t, p, c.want)
				alerts, _, err := x.alerting.Alerts(t.Context(), alerting.AlertQuery{AllGroups: true})
				x.ok(err)
				if len(alerts) != 2 {
					t.Errorf("%d alerts, want one of the host and one of the event", len(alerts))
				}
			})
		})
	}
}

// TestDeliveryBrokenAnywhereLosesNothing fails each write of a delivery pass: of single messages, and of a digest.
func TestDeliveryBrokenAnywhereLosesNothing(t *testing.T) {
	for name, hosts := range map[string]int{"single messages": 2, "a digest": 7} {
		t.Run(name, func(t *testing.T) {
			fresh := storetest.Prepared(t, func(e docstore.Engine) {
				x := openSiteOn(t, e, clock)
				g := x.group("g")
				for i := range hosts {
					h := x.newHost(g.ID, fmt.Sprintf("db%d.example.com", i))
					x.putHost(h, x.up(h, t0))
					x.alive(h, t0, model.ReachDown, minute(-15))
				}
				x.config(g.ID, model.EventHostDown, nil)
				x.pass(t0)
			})
			var p *phone
			run := func(t *testing.T, e docstore.Engine) error {
				p = &phone{}
				x := openSiteOn(t, e, clock)
				_, err := x.deliverer(p).Pass(t.Context(), t0)
				return err
			}
			storetest.EachStep(t, fresh, run, func(t *testing.T, e docstore.Engine, _ error) {
				x := openSiteOn(t, e, clock)
				for m := 1; m < 5; m++ {
					x.send(p, minute(m))
				}
				told, bodies := map[model.ID]bool{}, map[string]string{}
				for _, m := range p.taken["https://hooks.example.com/a"] {
					var ids []string
					for _, one := range m.All() {
						told[one.Alert.ID] = true
						ids = append(ids, string(one.Alert.ID))
					}
					slices.Sort(ids)
					body := strings.Join(ids, " ")
					if had, again := bodies[m.Key]; again && had != body {
						t.Errorf("key %s stands for two messages", m.Key)
					}
					bodies[m.Key] = body
				}
				if len(told) != hosts {
					t.Errorf("%d of %d alerts were told", len(told), hosts)
				}
				for _, d := range x.deliveries() {
					if d.State != model.DeliveryDelivered || d.LastError != "" {
						t.Errorf("%s is %s: %s", d.ID, d.State, d.LastError)
					}
				}
			})
		})
	}
}

// TestThreeEvaluatorsOneKilled lets three processes evaluate the same at once, without the lease that usually keeps them
// apart, while one of them dies at some write.
func TestThreeEvaluatorsOneKilled(t *testing.T) {
	fresh := storetest.Prepared(t, func(e docstore.Engine) { downSite(openSiteOn(t, e, clock)) })
	for at := 1; at <= 12; at++ {
		t.Run(fmt.Sprintf("at write %d", at), func(t *testing.T) {
			threeEvaluators(t, fresh(t), at)
		})
	}
}

// threeEvaluators is the body of that test, for any engine.
func threeEvaluators(t *testing.T, e docstore.Engine, at int) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 3 {
		engine := e
		if i == 1 {
			engine = storetest.Break(e, storetest.Lose, at)
		}
		x := openSiteOn(t, engine, clock)
		ev, err := evaluate.New(x.evaluateOptions())
		x.ok(err)
		wg.Go(func() {
			_, err := ev.Pass(t.Context(), t0)
			if err != nil && i != 1 && !errors.Is(err, docstore.ErrConflict) {
				t.Errorf("evaluator %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	x := openSiteOn(t, e, clock)
	x.pass(minute(1))
	if live := x.live(); len(live) != 1 {
		t.Errorf("%d live alerts, want one", len(live))
	}
	p := &phone{}
	x.send(p, minute(1))
	wantHeard(t, p, map[string]string{"a": "open", "b": "open", "new": "inform"})
}

func TestClockAndInterruptions(t *testing.T) {
	type step struct {
		at time.Time
		up bool
	}
	at := func(m int) step { return step{at: minute(m)} }
	for name, c := range map[string]struct {
		steps []step
		want  string // deliveries
		check func(t *testing.T, w model.AlertWatch)
	}{
		"repeats come at growing distances": {
			steps: []step{at(0), at(4), at(5), at(14), at(15), at(29), at(30)}, want: "open-1 update-2 update-3 update-4",
		},
		"a stopped evaluator makes up for nothing and forgets nothing": {
			steps: []step{at(0), at(5), at(300), at(301), at(302)}, want: "open-1 update-2 update-3",
			check: func(t *testing.T, w model.AlertWatch) {
				if w.Skipped == 0 || !w.Resumed.Equal(minute(300)) {
					t.Errorf("%+v", w)
				}
			},
		},
		"a clock that goes back a little stops the evaluation for so long, and it says so": {
			steps: []step{at(0), at(5), at(1), at(2)}, want: "open-1 update-2",
			check: func(t *testing.T, w model.AlertWatch) {
				if !strings.Contains(w.ClockNote, "went back") || !w.LastPass.Equal(minute(5)) {
					t.Errorf("%+v", w)
				}
			},
		},
		"a clock that goes back far begins anew, and repeats go on": {
			steps: []step{at(0), at(120), at(1), at(6), at(7), at(40)}, want: "open-1 update-2 update-3",
			check: func(t *testing.T, w model.AlertWatch) {
				if !w.LastPass.Equal(minute(40)) {
					t.Errorf("%+v", w)
				}
			},
		},
		"an end while the evaluator was stopped is told": {
			steps: []step{at(0), {at: minute(200), up: true}}, want: "close-1 open-1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := openSite(t, clock)
			g := x.group("g")
			h := x.newHost(g.ID, "db1.example.com")
			x.putHost(h, x.up(h, t0))
			x.config(g.ID, model.EventHostDown, nil)
			var w model.AlertWatch
			for _, s := range c.steps {
				reach, since := model.ReachDown, minute(-15)
				if s.up {
					reach, since = model.ReachUp, s.at.Add(-time.Minute)
				}
				x.alive(h, s.at, reach, since)
				w = x.pass(s.at)
			}
			got := strings.Fields(x.kinds())
			slices.Sort(got)
			want := strings.Fields(c.want)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("decided %v, want %v", got, want)
			}
			if c.check != nil {
				c.check(t, w)
			}
		})
	}
}

// TestAFasterPaceSkipsAccordingly: what counts as a pass that did not take place follows from the period, delays do not.
func TestAFasterPaceSkipsAccordingly(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration
		gap   time.Duration
		want  int64
	}{
		"each minute, a minute later":      {0, time.Minute, 0},
		"each minute, two minutes later":   {0, 2 * time.Minute, 1},
		"each 5 s, a minute later":         {5 * time.Second, time.Minute, 11},
		"each 5 s, a little late":          {5 * time.Second, 7 * time.Second, 0},
		"each 10 s, after an interruption": {10 * time.Second, 4 * time.Minute, 23},
	} {
		x := openSite(t, clock)
		o := x.evaluateOptions()
		o.Every = c.every
		e, err := evaluate.New(o)
		x.ok(err)
		for _, at := range []time.Time{t0, t0.Add(c.gap)} {
			_, err = e.Pass(t.Context(), at)
			x.ok(err)
		}
		w, err := x.alerting.Watch(t.Context())
		x.ok(err)
		if w.Skipped != c.want || w.Resumed.After(t0) != (c.gap > 3*time.Minute) {
			t.Errorf("%s: skipped %d, resumed at %v", name, w.Skipped, w.Resumed)
		}
	}
}

// row is a row of one gauge.
func (x *site) row(h model.Host, at time.Time, connections float64) {
	x.t.Helper()
	row := catalog.Row{At: at, UptimeMS: at.Sub(t0).Milliseconds() + 3_600_000, Process: "p", PID: 1, Local: at}
	row.Cells = []catalog.Cell{{Column: "connections.current", Value: catalog.Int(int64(connections))}}
	op, err := x.series.RowOp(h.ID, row)
	x.ok(err)
	x.ok(x.store.Write(x.t.Context(), op))
}

func TestMetrics(t *testing.T) {
	site := func(t *testing.T) (*site, model.Host) {
		x := openSite(t, func() time.Time { return minute(60) })
		g := x.group("g")
		h := x.newHost(g.ID, "db1.example.com")
		x.putHost(h, x.up(h, t0))
		x.config(g.ID, model.EventOutsideMetric, func(c *model.AlertConfig) {
			c.Metric = &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 100, Units: "RAW"}}
		})
		return x, h
	}
	t.Run("rows that were filled in late never page", func(t *testing.T) {
		x, h := site(t)
		for m := range 20 {
			x.row(h, minute(m-40), 5_000)
		}
		x.row(h, minute(-1), 10)
		x.alive(h, t0, model.ReachUp, minute(-60))
		x.pass(t0)
		if live := x.live(); len(live) != 0 {
			t.Errorf("%+v", live)
		}
	})
	t.Run("a mean beyond the threshold opens, and closes when it was good twice", func(t *testing.T) {
		x, h := site(t)
		value := 500.0
		for m := range 12 {
			if m >= 6 {
				value = 10
			}
			x.row(h, minute(m).Add(-20*time.Second), value)
			x.alive(h, minute(m), model.ReachUp, minute(-60))
			x.pass(minute(m))
		}
		if got := x.kinds(); got != "open-1 update-2 close-1" {
			t.Errorf("decided %q", got)
		}
		events, _, err := x.alerting.Events(t.Context(), alerting.EventQuery{AllGroups: true})
		x.ok(err)
		if len(events) != 2 || events[0].Type != model.EventInsideMetric || events[1].Type != model.EventOutsideMetric || events[1].Metric != "CONNECTIONS" {
			t.Errorf("events %+v", events)
		}
	})
	t.Run("a measurement that stops while its host answers is told", func(t *testing.T) {
		x, h := site(t)
		x.row(h, minute(-1), 10)
		for m := range 16 {
			x.alive(h, minute(m), model.ReachUp, minute(-60))
			x.pass(minute(m))
		}
		live := x.live()
		if len(live) != 1 || live[0].Status != model.AlertOpen || !strings.Contains(live[0].Text, "stopped arriving") {
			t.Errorf("%+v", live)
		}
	})
}

// broken is an inventory that cannot tell of one group.
type broken struct {
	evaluate.Inventory
	group model.ID
}

func (b broken) Hosts(ctx context.Context, group model.ID) ([]model.Host, error) {
	if group == b.group {
		return nil, errors.New("its documents do not decode")
	}
	return b.Inventory.Hosts(ctx, group)
}

func TestOneGroupsFailureDoesNotStopTheOthers(t *testing.T) {
	x := openSite(t, clock)
	_, _ = downSite(x)
	bad := x.group("bad")
	x.config(bad.ID, model.EventHostDown, nil)
	o := x.evaluateOptions()
	o.Inventory = broken{x.inventory, bad.ID}
	e, err := evaluate.New(o)
	x.ok(err)
	if _, err = e.Pass(t.Context(), t0); err == nil || !strings.Contains(err.Error(), string(bad.ID)) {
		t.Errorf("the pass said %v", err)
	}
	if got := len(x.live()); got != 1 {
		t.Errorf("%d live alerts, want the other group's", got)
	}
}

// TestTheEndIsToldByWhatIsGone deletes a configuration, or takes a notification from it, while its alert is open, and lets
// another process find that out, with every write of both failing once.
func TestTheEndIsToldByWhatIsGone(t *testing.T) {
	const a, b = "https://hooks.example.com/a", "https://hooks.example.com/b"
	for name, c := range map[string]struct {
		change func(x *site, c model.AlertConfig) error
		up     bool // the host is well again
		want   map[string]string
	}{
		"deleted": {
			func(x *site, c model.AlertConfig) error {
				return x.alerting.DeleteConfig(x.t.Context(), c.GroupID, c.ID)
			}, false,
			map[string]string{"a": "open cancel", "b": "open cancel"},
		},
		"deleted and made again": {func(x *site, c model.AlertConfig) error {
			if err := x.alerting.DeleteConfig(x.t.Context(), c.GroupID, c.ID); err != nil {
				return err
			}
			c.EventType, c.Threshold, c.Notifications = model.EventTooManyElections, &model.Threshold{Operator: model.GreaterThan, Value: 3}, nil
			return x.alerting.CreateConfig(x.t.Context(), c)
		}, false, map[string]string{"a": "open cancel", "b": "open cancel"}},
		"one of two removed": {func(x *site, c model.AlertConfig) error {
			return x.alerting.UpdateConfig(x.t.Context(), c.GroupID, c.ID, func(c *model.AlertConfig) error {
				c.Notifications = c.Notifications[1:]
				return nil
			})
		}, true, map[string]string{"a": "open close", "b": "open close"}},
		"added later, then removed": {func(x *site, c model.AlertConfig) error {
			err := x.alerting.UpdateConfig(x.t.Context(), c.GroupID, c.ID, func(c *model.AlertConfig) error {
				if len(c.Notifications) == 2 {
					n := hook("https://hooks.example.com/new")
					n.ID = "later"
					c.Notifications = append(c.Notifications, n)
				}
				return nil
			})
			if err != nil {
				return err
			}
			e, err := evaluate.New(x.evaluateOptions())
			if err != nil {
				return err
			}
			if _, err := e.Pass(x.t.Context(), t0.Add(-30*time.Second)); err != nil {
				return err
			}
			return x.alerting.UpdateConfig(x.t.Context(), c.GroupID, c.ID, func(c *model.AlertConfig) error {
				c.Notifications = c.Notifications[:2]
				return nil
			})
		}, true, map[string]string{"a": "open close", "b": "open close", "new": "open close"}},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg model.AlertConfig
			var h model.Host
			fresh := storetest.Prepared(t, func(e docstore.Engine) {
				x := openSiteOn(t, e, clock)
				g := x.group("g")
				h = x.newHost(g.ID, "db1.example.com")
				x.putHost(h, x.up(h, t0))
				x.alive(h, t0, model.ReachDown, minute(-15))
				cfg = x.config(g.ID, model.EventHostDown, func(c *model.AlertConfig) { c.Notifications = append(c.Notifications, hook(b)) })
				x.pass(minute(-1))
			})
			run := func(t *testing.T, e docstore.Engine) error {
				x := openSiteOn(t, e, clock)
				if err := c.change(x, cfg); err != nil {
					return err
				}
				if c.up {
					s := x.up(h, t0)
					s.ReachSince = minute(-1)
					op, err := x.inventory.StatusOp(s)
					if err = errors.Join(err, x.store.Write(t.Context(), op)); err != nil {
						return err
					}
				}
				ev, err := evaluate.New(x.evaluateOptions())
				if err != nil {
					return err
				}
				_, err = ev.Pass(t.Context(), t0)
				return err
			}
			storetest.EachStep(t, fresh, run, func(t *testing.T, e docstore.Engine, failed error) {
				x := openSiteOn(t, e, clock)
				if failed != nil { // whoever was refused tries again
					if err := c.change(x, cfg); err != nil && !errors.Is(err, docstore.ErrExists) {
						t.Fatal(err)
					}
				}
				if c.up {
					x.alive(h, t0, model.ReachUp, minute(-1))
				}
				x.pass(minute(1))
				x.pass(minute(2))
				p := &phone{}
				x.send(p, minute(2))
				wantHeard(t, p, c.want)
				if live := x.live(); len(live) != 0 {
					t.Errorf("%+v", live)
				}
			})
		})
	}
}

func TestWhoWasToldIsToldOfTheEnd(t *testing.T) {
	for name, change := range map[string]func(x *site, c model.AlertConfig){
		"the configuration is deleted": func(x *site, c model.AlertConfig) { x.ok(x.alerting.DeleteConfig(x.t.Context(), c.GroupID, c.ID)) },
		"it is disabled": func(x *site, c model.AlertConfig) {
			x.ok(x.alerting.UpdateConfig(x.t.Context(), c.GroupID, c.ID, func(c *model.AlertConfig) error {
				c.Enabled = false
				return nil
			}))
		},
		"the host is deleted": func(x *site, c model.AlertConfig) {
			x.ok(x.inventory.UpdateHost(x.t.Context(), c.GroupID, model.NewHostID(c.GroupID, "db1.example.com", 27017), func(h *model.Host) error {
				h.Deleted = true
				return nil
			}))
		},
		"the group is deleted": func(x *site, c model.AlertConfig) { x.ok(x.inventory.DeleteGroup(x.t.Context(), c.GroupID)) },
	} {
		t.Run(name, func(t *testing.T) {
			x := openSite(t, clock)
			g := x.group("g")
			h := x.newHost(g.ID, "db1.example.com")
			x.putHost(h, x.up(h, t0))
			x.alive(h, t0, model.ReachDown, minute(-15))
			c := x.config(g.ID, model.EventHostDown, nil)
			e, err := evaluate.New(x.evaluateOptions())
			x.ok(err)
			_, err = e.Pass(t.Context(), t0)
			x.ok(err)
			change(x, c)
			_, err = e.Pass(t.Context(), minute(1))
			x.ok(err)
			p := &phone{}
			x.send(p, minute(1))
			wantHeard(t, p, map[string]string{"a": "open cancel"})
			if live := x.live(); len(live) != 0 {
				t.Errorf("%+v", live)
			}
		})
	}
}

// inUse is the memory that this process uses now.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestAChannelThatFailsForHours lets one destination fail for more than a day while another works.
func TestAChannelThatFailsForHours(t *testing.T) {
	x := openSite(t, clock)
	g := x.group("g")
	a := model.Alert{
		GroupID: g.ID, ConfigID: "c", EventType: model.EventHostDown, Status: model.AlertOpen, Created: t0, Updated: t0, Target: model.Target{Key: "host/h"},
	}
	live, err := x.alerting.StartAlert(t.Context(), a)
	x.ok(err)
	dead, good := hook("https://hooks.example.com/dead"), hook("https://hooks.example.com/good")
	add := func(n model.Notification, i int, now time.Time) {
		x.ok(x.alerting.AddDeliveries(t.Context(), model.Delivery{
			ID: fmt.Sprintf("%s/update-%d/%s", live.ID, i, n.ID), AlertID: live.ID, GroupID: g.ID, Kind: model.DeliverUpdate, Notification: n,
			Channel: n.Channel, State: model.DeliveryPending, Created: now, NextAt: now,
		}))
	}
	p := &phone{fail: func(to notify.Target) error {
		if strings.HasSuffix(to.Secrets["webhookUrl"].Reveal(), "dead") {
			return notify.Later(0, "no answer")
		}
		return nil
	}}
	d := x.deliverer(p)
	for i := range 40 {
		add(dead, i, t0)
	}
	sent := 0
	var early uint64 // memory in use once it has failed for two hours
	for m := 0; m <= 26*60; m++ {
		now := minute(m)
		if m == 120 {
			early = inUse()
		}
		if m%60 == 0 {
			add(good, m, now)
			sent++
		}
		_, err := d.Pass(t.Context(), now)
		x.ok(err)
		if got := len(p.taken[good.Secrets["webhookUrl"].Reveal()]); got != sent {
			t.Fatalf("after %d minutes %d of %d were delivered to the destination that works", m, got, sent)
		}
	}
	if late := inUse(); late > early+4<<20 {
		t.Errorf("a day of failures takes %d kB more memory", (late-early)>>10)
	}
	// 10 s doubled up to 30 min over 24 hours.
	if tries := p.tries[dead.Secrets["webhookUrl"].Reveal()]; tries < 40 || tries > 75 {
		t.Errorf("the dead one was tried %d times", tries)
	}
	for _, one := range x.deliveries() {
		want := model.DeliveryDelivered
		if one.Notification.ID == dead.ID {
			want = model.DeliveryFailed
		}
		if one.State != want || want == model.DeliveryFailed && one.LastError != "no answer" {
			t.Fatalf("%s is %s %q", one.ID, one.State, one.LastError)
		}
	}
}

func TestPermanentRefusalIsNotTriedAgain(t *testing.T) {
	x := openSite(t, clock)
	downSite(x)
	x.pass(t0)
	p := &phone{fail: func(notify.Target) error { return notify.Refused("the address is gone") }}
	d := x.deliverer(p)
	for m := range 30 {
		_, err := d.Pass(t.Context(), minute(m))
		x.ok(err)
	}
	for where, tries := range p.tries {
		if tries != 1 {
			t.Errorf("%s was tried %d times", where, tries)
		}
	}
	for _, one := range x.deliveries() {
		if one.State != model.DeliveryFailed || one.Attempts != 1 {
			t.Errorf("%s is %s after %d attempts", one.ID, one.State, one.Attempts)
		}
	}
}
