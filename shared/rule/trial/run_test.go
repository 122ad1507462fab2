package trial_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
)

var t0 = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format("15:04")
}

// group is one with hosts a, b, ... in a replica set.
func group(hosts ...string) *rule.Snapshot {
	s := &rule.Snapshot{
		Now: t0.Add(24 * time.Hour), Group: model.Group{ID: "5f0000000000000000000001", Settings: model.DefaultGroupSettings()},
		Clusters: []model.Cluster{{ID: "5f00000000000000000000c1", Name: "rs0", ReplicaSet: "rs0", Type: model.ClusterReplicaSet}}, Statuses: map[model.HostID]model.HostStatus{},
		Agents: []model.Agent{{Type: model.AgentMonitoring, LastPing: t0.Add(24 * time.Hour)}},
	}
	for _, name := range hosts {
		h := model.Host{
			ID: model.HostID(strings.Repeat(name, 32)), GroupID: s.Group.ID, Hostname: name, Port: 27017, Type: model.TypeReplicaSecondary, ReplicaSet: "rs0",
			ClusterID: "5f00000000000000000000c1", Enabled: true, AlertsEnabled: true,
		}
		s.Hosts = append(s.Hosts, h)
		s.Statuses[h.ID] = model.HostStatus{HostID: h.ID, At: s.Now, LastPing: s.Now, Reach: model.ReachUp, State: model.StateSecondary}
	}
	return s
}

func mail(delay, interval int) model.Notification {
	return model.Notification{ID: "5f00000000000000000000e1", Channel: "EMAIL", DelayMin: delay, IntervalMin: interval, Fields: map[string]string{"emailAddress": "ops@example.com"}}
}

func metric(operator string, value float64, notifications ...model.Notification) *model.AlertConfig {
	return &model.AlertConfig{
		ID: "5f00000000000000000000d1", GroupID: "5f0000000000000000000001", EventType: model.EventOutsideMetric, Enabled: true,
		Metric: &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: operator, Value: value}}, Notifications: notifications,
	}
}

func history(s *rule.Snapshot, step time.Duration, length time.Duration) *trial.History {
	return &trial.History{
		Asked: t0, From: t0, To: t0.Add(length), Step: step, Present: s, Lines: map[model.HostID][]trial.Line{}, Alive: map[model.HostID][]bool{},
		Recipients: func(n model.Notification) ([]trial.Recipient, []string) {
			return []trial.Recipient{{Channel: n.Channel, Address: n.Fields["emailAddress"]}}, nil
		},
	}
}

// line gives a host one value for each step: what at says.
func line(h *trial.History, host string, at func(minute int) float64) {
	n := int(h.To.Sub(h.From) / h.Step)
	values, alive := make([]float64, n), make([]bool, n)
	for i := range values {
		values[i], alive[i] = at(int(time.Duration(i)*h.Step/time.Minute)), true
	}
	id := model.HostID(strings.Repeat(host, 32))
	h.Lines[id], h.Alive[id] = []trial.Line{{Values: values}}, alive
}

// told writes a trial's alerts in short: "a 09:10-09:30 09:40 [open 09:30 update 09:35]".
func told(t *trial.Trial) string {
	var out []string
	for _, target := range t.Targets {
		for _, s := range target.Spans {
			var sent []string
			for _, p := range s.Notifications {
				sent = append(sent, string(p.Kind)+" "+clock(p.At))
			}
			who := target.Target.HostName
			if who == "" {
				who = target.Target.ClusterName
			}
			out = append(out, fmt.Sprintf("%s %s %s %s [%s]", who, clock(s.Since), clock(s.Opened), clock(s.Closed), strings.Join(sent, " ")))
		}
	}
	return strings.Join(out, "; ")
}

func TestMetricIsTriedMinuteByMinute(t *testing.T) {
	peak := func(from, to int) func(int) float64 {
		return func(m int) float64 {
			if m >= from && m < to {
				return 900
			}
			return 100
		}
	}
	for _, c := range []struct {
		name          string
		config        *model.AlertConfig
		at            func(int) float64
		want          string
		opened, brief int
		total         int
	}{
		{"a quiet line", metric("GREATER_THAN", 500, mail(0, 60)), peak(0, 0), "", 0, 0, 0},
		// The mean of three points is beyond 500 with the second high one, at 09:12, and no more from 09:22 on (one high of three).
		{"a peak of ten minutes", metric("GREATER_THAN", 500, mail(0, 60)), peak(10, 20), "a:27017 09:11 09:12 09:23 [open 09:12 close 09:23]", 1, 0, 2},
		{"shorter than its delay", metric("GREATER_THAN", 500, mail(30, 60)), peak(10, 20), "a:27017 09:11 - 09:23 []", 0, 1, 0},
		{"repeats grow", metric("GREATER_THAN", 500, mail(5, 5)), peak(10, 80), "a:27017 09:11 09:16 10:23 [open 09:16 update 09:21 update 09:31 update 09:46 update 10:06 close 10:23]", 1, 0, 6},
		{"one high point is no mean", metric("GREATER_THAN", 500, mail(0, 60)), peak(10, 11), "", 0, 0, 0},
		{"below", metric("LESS_THAN", 50, mail(0, 60)), func(m int) float64 {
			if m >= 60 {
				return 10
			}
			return 100
		}, "a:27017 10:01 10:02 - [open 10:02 update 11:02]", 1, 0, 2},
		{"nobody to tell: it opens all the same", metric("GREATER_THAN", 500), peak(10, 20), "a:27017 09:11 09:12 09:23 []", 1, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := history(group("a", "b"), time.Minute, 3*time.Hour)
			line(h, "a", c.at)
			line(h, "b", peak(0, 0))
			got := trial.Run(c.config, h)
			if told(&got) != c.want {
				t.Errorf("told %q\nwant %q", told(&got), c.want)
			}
			if got.Opened != c.opened || got.Brief != c.brief || got.Total != c.total || got.Count["EMAIL"] != c.total {
				t.Errorf("opened %d brief %d total %d %v", got.Opened, got.Brief, got.Total, got.Count)
			}
			if len(got.Targets) == 0 || len(got.Targets[0].Values) != 180 || *got.Targets[0].Threshold != c.config.Metric.Value {
				t.Errorf("no line to draw: %+v", got.Targets)
			}
		})
	}
}

func TestMetricOfHours(t *testing.T) {
	h := history(group("a"), time.Hour, 48*time.Hour)
	line(h, "a", func(m int) float64 {
		if m >= 600 && m < 720 {
			return 900
		}
		return 100
	})
	got := trial.Run(metric("GREATER_THAN", 500, mail(10, 30)), h)
	// Judged at the end of each hour; in between the verdict holds and repeats go out.
	const want = "a:27017 20:00 20:10 22:01 [open 20:10 update 20:40 update 21:40 close 22:01]"
	if told(&got) != want {
		t.Errorf("%q, want %q", told(&got), want)
	}
}

func TestGapsAreNotJudged(t *testing.T) {
	h := history(group("a"), time.Minute, 2*time.Hour)
	line(h, "a", func(m int) float64 {
		switch {
		case m >= 30 && m < 50:
			return math.NaN()
		case m >= 10 && m < 60:
			return 900
		}
		return 100
	})
	id := h.Present.Hosts[0].ID
	for i := 30; i < 50; i++ {
		h.Alive[id][i] = false // the host was down
	}
	got := trial.Run(metric("GREATER_THAN", 500, mail(0, 60)), h)
	if want := "a:27017 09:11 09:12 10:03 [open 09:12 close 10:03]"; told(&got) != want {
		t.Errorf("a host that is down: %q, want %q", told(&got), want)
	}
	for i := 30; i < 50; i++ {
		h.Alive[id][i] = true
	}
	h.Lines[id][0].Values = h.Lines[id][0].Values[:]
	for i := range h.Lines[id][0].Values {
		if i < 30 || i >= 50 {
			h.Lines[id][0].Values[i] = 100
		}
	}
	got = trial.Run(metric("GREATER_THAN", 500, mail(0, 60)), h)
	if len(got.Targets) != 1 || len(got.Targets[0].Spans) != 1 || !strings.Contains(got.Targets[0].Spans[0].Text, "stopped arriving") {
		t.Errorf("a measurement that stops though the host answers: %q %+v", told(&got), got.Targets)
	}
}

func TestMutedTrial(t *testing.T) {
	h := history(group("a"), time.Minute, 3*time.Hour)
	line(h, "a", func(m int) float64 {
		if m >= 10 && m < 100 {
			return 900
		}
		return 100
	})
	h.Windows = []model.MaintenanceWindow{{ID: "w", GroupID: h.Present.Group.ID, Start: t0, End: t0.Add(time.Hour), Types: []string{"HOST"}, Description: "upgrade"}}
	got := trial.Run(metric("GREATER_THAN", 500, mail(0, 60)), h)
	if want := "a:27017 09:11 09:12 10:43 [open 10:00 close 10:43]"; told(&got) != want {
		t.Errorf("%q, want %q", told(&got), want)
	}
}

func event(kind model.EventType, minute int, host string) model.Event {
	e := model.Event{ID: model.NewID(), GroupID: "5f0000000000000000000001", Type: kind, At: t0.Add(time.Duration(minute)*time.Minute + 10*time.Second), Text: string(kind) + " of " + host}
	if len(host) == 1 {
		e.HostID, e.HostName = model.HostID(strings.Repeat(host, 32)), host+":27017"
	}
	e.ClusterID = "5f00000000000000000000c1"
	return e
}

func TestStatesAreTriedOnEvents(t *testing.T) {
	config := func(kind model.EventType, notifications ...model.Notification) *model.AlertConfig {
		return &model.AlertConfig{ID: "5f00000000000000000000d1", GroupID: "5f0000000000000000000001", EventType: kind, Enabled: true, Notifications: notifications}
	}
	elections := config(model.EventTooManyElections, mail(0, 60))
	elections.Threshold = &model.Threshold{Operator: "GREATER_THAN", Value: 2}
	only := config(model.EventHostDown, mail(0, 60))
	only.Matchers = []model.Matcher{{Field: "HOSTNAME", Operator: "EQUALS", Value: "b"}}
	for _, c := range []struct {
		name   string
		config *model.AlertConfig
		events []model.Event
		want   string
	}{
		{"down and up", config(model.EventHostDown, mail(0, 60)), []model.Event{event("HOST_DOWN", 10, "a"), event("HOST_UP", 40, "a")}, "a:27017 09:10 09:11 09:41 [open 09:11 close 09:41]"},
		{"down too shortly", config(model.EventHostDown, mail(30, 60)), []model.Event{event("HOST_DOWN", 10, "a"), event("HOST_UP", 30, "a")}, "a:27017 09:10 - 09:31 []"},
		{"still down", config(model.EventHostDown, mail(0, 30)), []model.Event{event("HOST_DOWN", 100, "a")}, "a:27017 10:40 10:41 - [open 10:41 update 11:11]"},
		{"down since before", config(model.EventHostDown, mail(0, 60)), []model.Event{event("HOST_UP", 20, "b")}, "b:27017 09:00 09:01 09:21 [open 09:01 close 09:21]"},
		{"only what it matches", only, []model.Event{event("HOST_DOWN", 10, "a"), event("HOST_UP", 40, "a")}, ""},
		{"events are told once each", config(model.EventHostNowPrimary, mail(0, 60)), []model.Event{event("HOST_NOW_PRIMARY", 10, "a"), event("HOST_NOW_PRIMARY", 12, "b")}, "a:27017 09:10 09:10 09:10 [inform 09:10]; b:27017 09:12 09:12 09:12 [inform 09:12]"},
		{"three elections within an hour", elections, []model.Event{event("PRIMARY_ELECTED", 1, ""), event("PRIMARY_ELECTED", 50, ""), event("PRIMARY_ELECTED", 55, "")}, "rs0 09:56 09:56 10:02 [open 09:56 close 10:02]"},
		{"three elections in three hours", elections, []model.Event{event("PRIMARY_ELECTED", 1, ""), event("PRIMARY_ELECTED", 50, ""), event("PRIMARY_ELECTED", 90, "")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := history(group("a", "b"), 0, 150*time.Minute)
			h.Events = c.events
			got := trial.Run(c.config, h)
			if told(&got) != c.want {
				t.Errorf("told %q\nwant %q", told(&got), c.want)
			}
			if len(got.Unknown) > 0 {
				t.Errorf("unknown: %v", got.Unknown)
			}
		})
	}
}

// TestEveryTypeIsTriedOrSaysWhyNot: no configuration that can be made is tried to nothing in silence.
func TestEveryTypeIsTriedOrSaysWhyNot(t *testing.T) {
	for _, kind := range rule.Types() {
		need := trial.Needs(&model.AlertConfig{EventType: kind.Name})
		if (need.Why == "") == (!need.Points && len(need.Events) == 0) {
			t.Errorf("%s: %+v", kind.Name, need)
		}
		if kind.Inform && kind.Raised && kind.Category != rule.Site && need.Why != "" {
			t.Errorf("%s: events are kept, but: %s", kind.Name, need.Why)
		}
	}
	got := trial.Run(&model.AlertConfig{EventType: model.EventCertificateStale}, history(group("a"), 0, time.Hour))
	if len(got.Unknown) != 1 || !strings.HasPrefix(got.Unknown[0], "cannot be tried on history: ") {
		t.Errorf("%v", got.Unknown)
	}
}

// TestBounds: a trial of many hosts that alert all the time stays small, and counts everything.
func TestBounds(t *testing.T) {
	s := group()
	for i := range 130 {
		h := model.Host{ID: model.HostID(fmt.Sprintf("%032d", i)), GroupID: s.Group.ID, Hostname: fmt.Sprintf("db%03d", i), Port: 27017, Type: model.TypeStandalone, Enabled: true, AlertsEnabled: true}
		s.Hosts = append(s.Hosts, h)
	}
	h := history(s, 5*time.Minute, 5*24*time.Hour)
	n := int(h.To.Sub(h.From) / h.Step)
	for i := range s.Hosts {
		values, alive := make([]float64, n), make([]bool, n)
		for k := range values {
			values[k], alive[k] = float64(k%6)*200, true
		}
		h.Lines[s.Hosts[i].ID], h.Alive[s.Hosts[i].ID] = []trial.Line{{Values: values}}, alive
	}
	got := trial.Run(metric("GREATER_THAN", 500, mail(0, 5)), h)
	listed, spans, values := len(got.Targets), 0, 0
	for _, x := range got.Targets {
		spans += len(x.Spans)
		values += len(x.Values)
	}
	if got.Opened < 130*5*24-130 || got.Total < 2*got.Opened || listed > 100 || spans > 100*101 || values > 20*1000 || len(got.Notes) < 2 {
		t.Errorf("opened %d, told %d, listed %d targets, %d spans, %d values, notes %v", got.Opened, got.Total, listed, spans, values, got.Notes)
	}
}

func BenchmarkRun1000Hosts30Days(b *testing.B) {
	s := group()
	for i := range 1000 {
		h := model.Host{ID: model.HostID(fmt.Sprintf("%032d", i)), GroupID: s.Group.ID, Hostname: fmt.Sprintf("db%03d", i), Port: 27017, Type: model.TypeStandalone, Enabled: true, AlertsEnabled: true}
		s.Hosts = append(s.Hosts, h)
	}
	h := history(s, time.Hour, 30*24*time.Hour)
	n := int(h.To.Sub(h.From) / h.Step)
	for i := range s.Hosts {
		values, alive := make([]float64, n), make([]bool, n)
		for k := range values {
			values[k], alive[k] = float64((k+i)%48)*12, true
		}
		h.Lines[s.Hosts[i].ID], h.Alive[s.Hosts[i].ID] = []trial.Line{{Values: values}}, alive
	}
	for b.Loop() {
		if got := trial.Run(metric("GREATER_THAN", 500, mail(0, 60)), h); got.Opened == 0 {
			b.Fatal("nothing opened")
		}
	}
}
