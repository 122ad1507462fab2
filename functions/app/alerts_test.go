package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/shipped"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// stubTrial answers what a test gave it, and remembers what it was asked.
type stubTrial struct {
	trial   trial.Trial
	reasons []trial.Reason
	err     error
	asked   []model.AlertConfig
	days    int
	query   trial.WhyQuery
}

func (s *stubTrial) Try(_ context.Context, _ model.Group, c model.AlertConfig, days int) (trial.Trial, error) {
	s.asked, s.days = append(s.asked, c), days
	return s.trial, s.err
}

func (s *stubTrial) Why(_ context.Context, q trial.WhyQuery) ([]trial.Reason, error) {
	s.query = q
	return s.reasons, s.err
}

// stubSender takes every message, and has every channel but SMS.
type stubSender struct {
	err  error
	to   []notify.Target
	sent []notify.Message
}

func (s *stubSender) Missing(channel string) string {
	if channel == notify.SMS {
		return "SMS is not configured: set twilio.account.sid"
	}
	return ""
}

func (s *stubSender) Send(_ context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	s.to, s.sent = append(s.to, to), append(s.sent, m)
	return notify.Result{Text: "accepted"}, s.err
}

const slackToken = "xoxb-1234567890-secrettoken"

// config adds an alert setting to a group: connections above 500, told by mail and Slack.
func (s *site) config(g model.Group, change ...func(*model.AlertConfig)) model.AlertConfig {
	s.t.Helper()
	c := model.AlertConfig{
		ID: model.NewID(), GroupID: g.ID, EventType: model.EventOutsideMetric, Enabled: true, Created: s.now.Add(-48 * time.Hour), Updated: s.now.Add(-48 * time.Hour),
		Metric: &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 30, Units: "RAW"}},
		Notifications: []model.Notification{
			{ID: model.NewID(), Channel: notify.Group, IntervalMin: 60, EmailEnabled: true},
			{ID: model.NewID(), Channel: notify.Slack, DelayMin: 15, IntervalMin: 30, Fields: map[string]string{"channelName": "#ops"}, Secrets: map[string]model.Secret{"apiToken": slackToken}},
		},
		Note: "Look for a leak in the application.",
	}
	for _, f := range change {
		f(&c)
	}
	s.ok(s.ev.CreateConfig(s.t.Context(), c))
	return c
}

// raise starts an alert of a setting about a host.
func (s *site) raise(c model.AlertConfig, host model.HostID, change ...func(*model.Alert)) model.Alert {
	s.t.Helper()
	own := c
	own.Notifications = nil
	for _, n := range c.Notifications {
		n.Secrets = nil
		own.Notifications = append(own.Notifications, n)
	}
	a := model.Alert{
		ID: model.NewID(), GroupID: c.GroupID, ConfigID: c.ID, EventType: c.EventType, Status: model.AlertOpen, Rule: own,
		Target: model.Target{Key: "host/" + string(host), HostID: host, HostName: "db1.rs0.example.com:27017", ReplicaSet: "rs0", ClusterID: model.DeriveID("cluster", string(c.GroupID), "rs0")},
		Since:  s.now.Add(-20 * time.Minute), Created: s.now.Add(-20 * time.Minute), Opened: s.now.Add(-20 * time.Minute), Updated: s.now,
		Text: "CONNECTIONS of db1.rs0.example.com:27017 is 40, above 30.", Value: &model.Reading{Number: 40, Units: "RAW"}, Worst: &model.Reading{Number: 52, Units: "RAW"},
		Samples: []model.Sample{{At: s.now.Add(-2 * time.Minute), Value: 20}, {At: s.now.Add(-time.Minute), Value: 40}},
		History: []model.AlertStep{{At: s.now.Add(-20 * time.Minute), Kind: model.StepOpened, Text: "held at once", Value: &model.Reading{Number: 40, Units: "RAW"}}},
	}
	if len(c.Notifications) > 0 {
		a.LastNotified = a.Opened
		for _, n := range c.Notifications {
			a.Notified = append(a.Notified, model.Notified{NotifierID: n.ID, Count: 1, First: a.Opened, Last: a.Opened, Next: s.now.Add(40 * time.Minute)})
		}
	}
	for _, f := range change {
		f(&a)
	}
	live, err := s.ev.StartAlert(s.t.Context(), a)
	s.ok(err)
	return live.Alert
}

// deliver puts deliveries into the outbox and takes them as far as they say.
func (s *site) deliver(ds ...model.Delivery) {
	s.t.Helper()
	for _, d := range ds {
		added := d
		added.State, added.Attempts, added.Delivered, added.Result, added.LastError = model.DeliveryPending, 0, time.Time{}, "", ""
		s.ok(s.ev.AddDeliveries(s.t.Context(), added))
		claimed, ok, err := s.ev.ClaimDelivery(s.t.Context(), d.ID, "test", d.NextAt, d.NextAt.Add(time.Minute))
		s.ok(err)
		if !ok {
			s.t.Fatalf("%s cannot be claimed", d.ID)
		}
		claimed.State, claimed.Attempts, claimed.Delivered, claimed.Result, claimed.LastError, claimed.NextAt = d.State, d.Attempts, d.Delivered, d.Result, d.LastError, d.NextAt
		s.ok(s.ev.FinishDelivery(s.t.Context(), claimed))
	}
}

// end closes an alert that was raised.
func (s *site) end(a model.Alert, as model.AlertStatus) {
	s.t.Helper()
	s.ok(s.ev.UpdateAlert(s.t.Context(), a.GroupID, a.ID, func(x *model.Alert) error {
		x.Status, x.Resolved = as, s.now.Add(-time.Minute)
		return nil
	}))
}

// judged says that the evaluation ran just now.
func (s *site) judged() {
	s.t.Helper()
	s.ok(s.ev.SaveWatch(s.t.Context(), model.AlertWatch{LastPass: s.now.Add(-20 * time.Second)}))
}

func TestAlertsWithoutAny(t *testing.T) {
	s, g, b := owner(t)
	b.get(at(g, "/alerts")).want(200, "Nothing is watched", "Switch on what matters", "Alerts are not judged now", "No evaluation has run yet")
	s.judged()
	s.fleet(g, "rs0", "up", "up", "up")
	c := s.config(g)
	b.get(at(g, "/alerts?state=open")).want(200, "No alert is open", "1 setting watches 3 hosts and 1 replica set", "last judged").wantNot("not judged now", `class="badge`)
	b.get(at(g, "/alerts?state=acknowledged")).want(200, "Nobody has taken on an open alert")
	b.get(at(g, "/alerts?state=tracking")).want(200, "Nothing is about to open")
	b.get(at(g, "/alerts?state=closed")).want(200, "No alert has closed yet", "1 setting is switched on")
	b.get(at(g, "/alerts?state=all")).want(200, "No alert has been raised yet")
	b.get(at(g, "/alerts?host=db9.example.com:27017")).want(200, "No alert matches")
	b.get(at(g, "/alerts?host=a:b:c")).want(400, "Give a host name and port")
	b.get(at(g, "/alerts?cluster=nothing")).want(400, "There is no such cluster")
	b.get(at(g, "/alerts/"+string(c.ID))).want(404, "There is no such alert")
	b.get("/admin/alerts").want(200, "Nothing is watched")
	s.ok(s.ev.SaveWatch(t.Context(), model.AlertWatch{LastPass: s.now.Add(-10 * time.Minute), ClockNote: "It went back by 5 min."}))
	b.get(at(g, "/alerts")).want(200, "The last evaluation ran", "10 min ago", "It went back by 5 min.")
}

func TestAlertsOfEveryState(t *testing.T) {
	s, g, b := owner(t)
	s.judged()
	ids := s.fleet(g, "rs0", "up", "up", "up")
	open := s.raise(s.config(g), ids[0])
	acked := s.raise(s.config(g), ids[0], func(a *model.Alert) {
		a.AckUntil, a.AckBy, a.AckComment = s.now.Add(time.Hour), "bob@example.com", "on <b>it</b>"
	})
	muted := s.raise(s.config(g), ids[0], func(a *model.Alert) { a.Muted = "maintenance window “nightly”" })
	s.raise(s.config(g), ids[0], func(a *model.Alert) {
		a.Status, a.Opened, a.Notified = model.AlertTracking, time.Time{}, nil
	})
	s.raise(s.config(g), ids[0], func(a *model.Alert) {
		a.NoDataSince, a.NoDataWhy = s.now.Add(-5*time.Minute), "the monitoring agent is down"
	})
	closed := s.raise(s.config(g), ids[0])
	s.end(closed, model.AlertClosed)
	b.get(at(g, "/alerts")).want(200, "Open 3", "Acknowledged 1", "Tracking 1", "Connections above 30", "db1.rs0.example.com:27017", "in 40 min", "maintenance window “nightly”", "the monitoring agent is down",
		`class="badge" title="4 open, 1 of them acknowledged"`, string(open.ID), string(muted.ID)).wantNot(string(acked.ID), string(closed.ID))
	b.get(at(g, "/alerts?state=acknowledged")).want(200, "bob@example.com, until", "on &lt;b&gt;it&lt;/b&gt;").wantNot(string(open.ID))
	b.get(at(g, "/alerts?state=tracking")).want(200, "tracking").wantNot(string(open.ID))
	b.get(at(g, "/alerts?state=closed")).want(200, string(closed.ID), "closed").wantNot(string(open.ID))
	b.get(at(g, "/alerts?state=all")).want(200, string(closed.ID), string(open.ID))
	b.get(at(g, "/alerts?type=HOST_DOWN")).want(200, "No alert matches")
	b.get(at(g, "/alerts?host=db1.rs0.example.com:27017&cluster="+clusterID(g, "rs0"))).want(200, string(open.ID))
	b.get(at(g, "/alerts?host=db2.rs0.example.com:27017")).want(200, "No alert matches")
	for _, page := range []string{"/deployment", "/hosts/" + string(ids[0]), "/clusters/" + clusterID(g, "rs0")} {
		b.get(at(g, page)).want(200, "4 open alerts", "Connections above 30", at(g, "/alerts/"+string(open.ID)), "bob@example.com is on it")
	}
	b.get(at(g, "/hosts/"+string(ids[1]))).want(200).wantNot("open alert")
	// Another group does not see them.
	other := s.group("Bank")
	b.get(at(other, "/alerts/"+string(open.ID))).want(404)
	b.get(at(other, "/alerts")).want(200).wantNot("Connections above 30")
}

// TestAlertsThatReachedNobodySaySo: that somebody was to be told is not yet that they were.
func TestAlertsThatReachedNobodySaySo(t *testing.T) {
	s, g, b := owner(t)
	s.judged()
	ids := s.fleet(g, "rs0", "up", "up", "up")
	c := s.config(g)
	a := s.raise(c, ids[0], func(a *model.Alert) {
		a.History = append(a.History,
			model.AlertStep{At: a.Opened, Kind: model.StepNotified, Text: "open to GROUP, update to SLACK (number 2)"},
			model.AlertStep{At: a.Opened, Kind: model.StepNotified, Text: "Not told: ann@example.com has no email address"})
	})
	page := at(g, "/alerts/"+string(a.ID))
	b.get(at(g, "/alerts")).want(200, "nobody told", "ann@example.com has no email address.", "tried next").wantNot("cannot be sent", "not all told")
	b.get(page).want(200, "Nobody has been told of this.", "ann@example.com has no email address.", "Change whom the setting tells", "Not told", "To be told", "Everybody in the group: opened, Slack: still open (number 2)",
		"No message was made", "Tried next").wantNot("told 1 time", "Not told: ")
	s.deliver(model.Delivery{ID: string(a.ID) + "/open-1/y", AlertID: a.ID, GroupID: g.ID, ConfigID: c.ID, Kind: model.DeliverOpen, Notification: c.Notifications[1], Channel: notify.Slack, State: model.DeliveryDelivered, Created: a.Opened, NextAt: a.Opened, Attempts: 1, Delivered: a.Opened})
	b.get(at(g, "/alerts")).want(200, "not all told", "told next").wantNot("nobody told")
	b.get(page).want(200, "Not everybody was told of this.", "Told next", "told 1 time").wantNot("Nobody has been told")
	s.end(a, model.AlertClosed)
	b.get(at(g, "/alerts?state=closed")).want(200, "not all told")

	// What the site has not set up is said above the list, before anything happens.
	s.config(g, func(c *model.AlertConfig) {
		c.Notifications[0].EmailEnabled, c.Notifications[0].SMSEnabled = false, true
	})
	b.get(at(g, "/alerts")).want(200, "Some notifications cannot be sent.", "SMS is not configured: set twilio.account.sid.", "1 of 2 settings", "/admin/watch").wantNot("Nobody is told of any alert")
	other := s.group("Bank")
	s.config(other, func(c *model.AlertConfig) {
		c.Notifications = []model.Notification{{ID: "x", Channel: notify.Group, SMSEnabled: true}}
	})
	b.get(at(other, "/alerts")).want(200, "Nobody is told of any alert.", "1 of 1 setting.")
	s.user("rita@example.com", model.Grant{Role: model.GroupReadOnly, GroupID: other.ID})
	s.signIn("rita@example.com").get(at(other, "/alerts")).want(200, "Nobody is told of any alert.", "An operator of this site can set it.").wantNot("/admin/watch")
}

func TestManyAlertsArePaged(t *testing.T) {
	s, g, b := owner(t)
	for i := range 205 {
		c := s.config(g)
		a := s.raise(c, "", func(a *model.Alert) {
			a.Target = model.Target{Key: fmt.Sprint("cluster/", i), ClusterName: fmt.Sprintf("set%03d", i)}
			a.Since = s.now.Add(-time.Duration(i) * time.Minute)
		})
		_ = a
	}
	b.get(at(g, "/alerts")).want(200, "1–200 of 205", "set000").wantNot("set204")
	b.get(at(g, "/alerts?page=2")).want(200, "201–205 of 205", "set204")
}

func TestTheWhyOfAnAlert(t *testing.T) {
	s, g, b := owner(t)
	s.judged()
	ids := s.fleet(g, "rs0", "up", "up", "up")
	c := s.config(g)
	a := s.raise(c, ids[0])
	s.deliver(
		model.Delivery{ID: string(a.ID) + "/open-1/x/1", AlertID: a.ID, GroupID: g.ID, ConfigID: c.ID, Kind: model.DeliverOpen, Notification: c.Notifications[0], Channel: notify.Email, Address: "ann@example.com", State: model.DeliveryDelivered, Created: a.Opened, NextAt: a.Opened, Attempts: 1, Delivered: a.Opened, Result: "250 queued"},
		model.Delivery{ID: string(a.ID) + "/open-1/y", AlertID: a.ID, GroupID: g.ID, ConfigID: c.ID, Kind: model.DeliverOpen, Notification: c.Notifications[1], Channel: notify.Slack, State: model.DeliveryPending, Created: a.Opened, NextAt: s.now.Add(time.Minute), Attempts: 3, LastError: "the other side answers 503"},
		model.Delivery{ID: string(a.ID) + "/update-2/y", AlertID: a.ID, GroupID: g.ID, ConfigID: c.ID, Kind: model.DeliverUpdate, Notification: c.Notifications[1], Channel: notify.Slack, State: model.DeliveryFailed, Created: a.Opened, NextAt: s.now, Attempts: 1, LastError: "channel_not_found"})
	page := at(g, "/alerts/"+string(a.ID))
	b.get(page).want(200, "CONNECTIONS of db1.rs0.example.com:27017 is 40, above 30.", "Connections above 30.", "What to do:", "Look for a leak", "Held since", "Threshold", ">30<", ">52<",
		`data-chart="m:CONNECTIONS"`, "/hosts/"+string(ids[0])+"/series?alert="+string(a.ID), "beyond", "within", "Opened", "held at once",
		"Not everybody was told of this.", "Change whom the setting tells", "2 messages did not arrive", "ann@example.com", "250 queued", "trying again", "The other side answers 503.", "Channel_not_found.", "#ops", "told 1 time", "until tomorrow 9:00", "Everything on db1.rs0.example.com:27017", at(g, "/alert-settings/"+string(c.ID))).
		wantNot(slackToken)
	got := b.get(at(g, "/hosts/"+string(ids[0])+"/series?charts=m:CONNECTIONS&range=1h&alert="+string(a.ID))).want(200)
	var series struct {
		Marks  []struct{ Kind, Text string }
		Charts []struct {
			ID     string
			Limits []struct {
				V    float64
				Text string
			}
		}
	}
	s.ok(json.Unmarshal([]byte(got.page), &series))
	if len(series.Charts) != 1 || len(series.Charts[0].Limits) != 1 || series.Charts[0].Limits[0].V != 30 {
		t.Errorf("limits %+v", series.Charts)
	}
	if len(series.Marks) != 1 || series.Marks[0].Kind != "alert" || series.Marks[0].Text != "alert opened" {
		t.Errorf("marks %+v", series.Marks)
	}
	// The rule is gone: the alert still says what it was.
	s.ok(s.ev.DeleteConfig(t.Context(), g.ID, c.ID))
	b.get(page).want(200, "gone: this is how it was", "Connections above 30.")
	s.end(a, model.AlertClosed)
	b.get(page).want(200, "closed").wantNot("Acknowledge</button>", "Silence</button>")
	// Pages of what is neither a host nor open, and of what tells of an event.
	inform := s.config(g, func(c *model.AlertConfig) { c.EventType, c.Metric = model.EventPrimaryElected, nil })
	e := model.Event{ID: model.NewID(), GroupID: g.ID, Type: model.EventPrimaryElected, At: s.now, ClusterID: model.DeriveID("cluster", string(g.ID), "rs0")}
	told, _ := rule.Inform(&inform, &e, model.Target{Key: "event/" + string(e.ID), ClusterName: "rs0"}, "db2 was elected primary of rs0.", "")
	if told == nil {
		t.Fatal("nothing is told of an election")
	}
	_, err := s.ev.AddInform(t.Context(), *told)
	s.ok(err)
	b.get(at(g, "/alerts/"+string(told.ID))).want(200, "db2 was elected primary of rs0.", "information", "told once")
}

func TestChartsShowThresholds(t *testing.T) {
	s, g, b := owner(t)
	ids := s.fleet(g, "rs0", "up", "up", "up")
	s.measure(ids[0], 30)
	s.config(g)
	s.config(g, func(c *model.AlertConfig) { c.Enabled = false; c.Metric.Value = 77 })
	s.config(g, func(c *model.AlertConfig) {
		c.Metric.Value = 88
		c.Matchers = []model.Matcher{{Field: "HOSTNAME", Operator: "EQUALS", Value: "other.example.com"}}
	})
	s.config(g, func(c *model.AlertConfig) {
		c.Metric = &model.MetricThreshold{Metric: "OPLOG_MASTER_TIME", Threshold: model.Threshold{Operator: model.LessThan, Value: 24, Units: "HOURS"}}
	})
	s.config(model.Group{}, func(c *model.AlertConfig) { c.ForAllGroups = true; c.Metric.Value = 99 })
	b.get(at(g, "/hosts/"+string(ids[0])+"/series?charts=connections,oplog-window&range=1h")).want(200, `"limits":[{"v":30,`, `{"v":99,`, "alert: Connections above 30").wantNot(`"v":77`, `"v":88`)
	b.get(at(g, "/clusters/"+clusterID(g, "rs0")+"/series?charts=window,operations&range=1h")).want(200, `"limits":[{"v":86400,`)
	b.get(at(g, "/hosts/"+string(ids[0]))).want(200, `data-alert="`+at(g, "/alert-settings/new?host=db1.rs0.example.com%3A27017"), `data-metric="CONNECTIONS"`)
}

func TestAcknowledging(t *testing.T) {
	s, g, b := owner(t)
	ids := s.fleet(g, "rs0", "up", "up", "up")
	a := s.raise(s.config(g), ids[0])
	page := at(g, "/alerts/"+string(a.ID))
	b.get(page)
	b.post(page+"/acknowledge", "do", "acknowledge", "until", "custom", "untilAt", "2001-01-01T00:00").want(422, "The end must be in the future.")
	b.post(page+"/acknowledge", "do", "acknowledge", "until", "never").want(422, "Choose until when.")
	b.post(page+"/acknowledge", "do", "acknowledge", "until", "4h", "comment", strings.Repeat("x", 4001)).want(422, "at most 4000 characters")
	b.post(page+"/acknowledge", "do", "acknowledge", "until", "4h", "comment", "restarting the pool").want(200, "Acknowledged. Nobody is told", "ann@example.com has taken it on", "restarting the pool", "End it now")
	now, err := s.ev.Alert(t.Context(), g.ID, a.ID)
	s.ok(err)
	if !now.AckUntil.Equal(s.now.Add(4*time.Hour)) || now.AckBy != "ann@example.com" {
		t.Errorf("acknowledged until %s by %q", now.AckUntil, now.AckBy)
	}
	ds, _, err := s.ev.Deliveries(t.Context(), alerting.DeliveryQuery{AlertID: a.ID, GroupID: g.ID})
	s.ok(err)
	if len(ds) != 1 || ds[0].Kind != model.DeliverAcknowledge {
		t.Errorf("deliveries %+v, want one that tells whoever was told", ds)
	}
	b.get(at(g, "/activity")).want(200, "Alert acknowledged", "127.0.0.1")
	b.get(page)
	b.post(page+"/acknowledge", "do", "unacknowledge").want(200, "The acknowledgement has ended")
	b.get(at(g, "/activity")).want(200, "Acknowledgement ended")

	// A comment is as long as its characters, not its bytes.
	b.get(page)
	b.post(page+"/acknowledge", "do", "acknowledge", "until", "1h", "comment", strings.Repeat("ü", 4000)).want(200, "Acknowledged.")
	b.post(page+"/acknowledge", "do", "unacknowledge").want(200)

	// Several at once, from the list.
	other := s.raise(s.config(g), ids[0])
	b.get(at(g, "/alerts"))
	b.post(at(g, "/alerts/acknowledge"), "id", string(a.ID), "do", "acknowledge", "until", "custom", "untilAt", "2001-01-01T00:00").want(422, "Nothing was changed", "The end must be in the future.").wantNot("This address")
	b.get(at(g, "/alerts"))
	b.post(at(g, "/alerts/acknowledge"), "do", "acknowledge", "until", "forever", "id", string(a.ID), "id", string(other.ID), "id", string(model.NewID()), "back", at(g, "/alerts?state=open")).
		want(200, "Acknowledged. Nobody", "No alert is open")
	b.get(at(g, "/alerts?state=acknowledged")).want(200, "for ever")
	b.post(at(g, "/alerts/acknowledge"), "do", "unacknowledge", "id", string(other.ID), "back", "https://evil.example/").want(200, "The acknowledgement has ended")
	b.post(at(g, "/alerts/acknowledge"), "do", "acknowledge", "until", "1h").want(200, "Nothing was chosen")
	b.get(at(g, "/alerts"))
	b.post(at(g, "/alerts/acknowledge"), "do", "acknowledge", "until", "x").want(422)
}

func TestSilencing(t *testing.T) {
	s, g, b := owner(t)
	ids := s.fleet(g, "rs0", "up", "up", "up")
	c := s.config(g)
	a := s.raise(c, ids[0])
	page := at(g, "/alerts/"+string(a.ID))
	b.get(page)
	b.post(page+"/silence", "what", "nothing", "until", "1h").want(422, "Choose what to silence.")
	b.post(page+"/silence", "what", "rule-here", "until", "1h", "comment", "known").want(200, "Silenced. Alerts still open")
	b.get(at(g, "/alert-silences")).want(200, "Connections above 30, where host and port is db1.rs0.example.com:27017", "known", "silent", "End it now")
	list, err := s.ev.Silences(t.Context(), g.ID)
	s.ok(err)
	if len(list) != 1 || list[0].ConfigID != c.ID || !list[0].End.Equal(s.now.Add(time.Hour)) {
		t.Fatalf("silences %+v", list)
	}
	b.post(at(g, "/alert-silences/"+string(list[0].ID)+"/end")).want(200, "The silence has ended", "over")
	b.post(at(g, "/alert-silences"), "until", "1h").want(422, "Say what to silence")
	b.post(at(g, "/alert-silences"), "until", "1h", "config", string(model.NewID()), "type", "NO_SUCH").want(422, "There is no such alert setting", "There is no such kind")
	b.post(at(g, "/alert-silences"), "until", "4h", "field", "REPLICA_SET_NAME", "value", "rs0", "type", "NO_PRIMARY").want(200, "where replica set is rs0")
	b.get(at(g, "/activity?type=alerts")).want(200, "Silenced", "Silence ended")
}

func TestWhyNobodyWasTold(t *testing.T) {
	s, g, b := owner(t)
	c := s.config(g)
	b.get(at(g, "/alerts/why")).want(200, "Choose when you expected to be told", "last 12 hours")
	b.get(at(g, "/alerts/why?from=2026-01-01T10:00&to=2026-01-01T11:00")).want(200, "No setting covers this")
	s.trial.reasons = []trial.Reason{
		{ConfigID: c.ID, EventType: c.EventType, Label: "Measurement is above or below", Verdict: trial.NotCrossed, Text: "It was 22 at most.", Target: model.Target{HostName: "db1:27017"}},
		{ConfigID: model.NewID(), EventType: model.EventHostDown, Verdict: trial.AgentDown, Text: "No agent was at work.", Details: []string{"from 10:00 to 10:20"}, At: s.now},
		{Verdict: trial.NotRunning, Text: "The server was down."},
	}
	b.get(at(g, "/alerts/why?from=2026-01-01T10:00&to=2026-01-01T11:00&host=db1:27017&who=ann@example.com")).want(200, "nobody was told", "not crossed", "It was 22 at most.", "agent down", "not evaluated", "Host is down", "from 10:00 to 10:20", "Connections above 30").wantNot("Measurement is above or below")
	if q := s.trial.query; q.GroupID != g.ID || q.Host != "db1:27017" || q.Username != "ann@example.com" || q.To.Sub(q.From) != time.Hour {
		t.Errorf("asked %+v", q)
	}
	if strings.Index(b.page, "not evaluated") > strings.Index(b.page, "not crossed") {
		t.Error("what went wrong is not first")
	}
	for _, query := range []string{"from=x", "from=2026-01-02T10:00&to=2026-01-01T10:00", "from=2026-01-01T10:00&to=2026-06-01T10:00", "host=a:b:c"} {
		b.get(at(g, "/alerts/why?"+query)).want(400)
	}
	s.trial.err = errors.New("broken")
	b.get(at(g, "/alerts/why?from=2026-01-01T10:00&to=2026-01-01T11:00")).want(500, "Something went wrong")
}

func TestAlertSettings(t *testing.T) {
	s, g, b := owner(t)
	s.fleet(g, "rs0", "up", "up", "up")
	s.user("rita@example.com", model.Grant{Role: model.GroupOwner, GroupID: g.ID})
	b.get(at(g, "/alert-settings")).want(200, "Nothing is looked for", "Recommended", "Switch all of them on")
	want := append(shipped.Defaults(g.ID, s.now), shipped.Recommended(g.ID, s.now)...)
	if len(want) < 5 {
		t.Fatalf("only %d settings are shipped", len(want))
	}
	b.post(at(g, "/alert-settings/recommended"), "id", string(want[0].ID)).want(200, "The alert setting was added")
	b.post(at(g, "/alert-settings/recommended"), "id", string(model.NewID())).want(404)
	b.get(at(g, "/alert-settings"))
	b.post(at(g, "/alert-settings/recommended"), "id", "all").want(200).wantNot(`id="recommended"`)
	list, err := s.ev.Configs(t.Context(), g.ID)
	s.ok(err)
	if len(list) != len(want) {
		t.Errorf("%d settings, want %d", len(list), len(want))
	}
	for _, c := range list {
		if !c.Enabled {
			t.Errorf("%s is off", c.EventType)
		}
	}
	c := s.config(g, func(c *model.AlertConfig) {
		c.Matchers = []model.Matcher{{Field: "HOSTNAME", Operator: "STARTS_WITH", Value: "gone"}}
		c.Notifications[0].SMSEnabled = true
	})
	global := s.config(model.Group{}, func(c *model.AlertConfig) { c.ForAllGroups = true; c.Metric.Value = 4711 })
	b.get(at(g, "/alert-settings")).want(200, "Connections above 30, where host name starts with gone.", "nothing here now", "Slack: #ops", "after 15 min, again after 30 min", "3 hosts",
		"Global settings that cover this group", "Connections above 4711", "/admin/alert-settings/"+string(global.ID)).wantNot(slackToken)
	b.post(at(g, "/alert-settings/"+string(c.ID)+"/enable")).want(200, "Switched off.")
	b.post(at(g, "/alert-settings/"+string(c.ID)+"/enable"), "on", "1").want(200, "Switched on.")
	now, err := s.ev.Config(t.Context(), g.ID, c.ID)
	s.ok(err)
	if !now.Enabled || !now.Updated.Equal(s.now) || now.Notifications[1].Secrets["apiToken"] != slackToken {
		t.Errorf("after switching off and on: %+v", now)
	}
	b.get(at(g, "/alert-settings/"+string(c.ID)+"/delete")).want(200, "Type Connections above 30 to confirm")
	b.post(at(g, "/alert-settings/"+string(c.ID)+"/delete"), "name", "x").want(422, "Type exactly")
	b.post(at(g, "/alert-settings/"+string(c.ID)+"/delete"), "name", "Connections above 30").want(200, "Deleted.")
	b.get(at(g, "/activity?type=alerts")).want(200, "Recommended alert setting switched on", "Alert setting switched off", "Alert setting switched on", "Alert setting deleted", "ann@example.com", "127.0.0.1")
}

func TestAlertEditor(t *testing.T) {
	s, g, b := owner(t)
	s.fleet(g, "rs0", "up", "up", "up")
	form := at(g, "/alert-settings/new")
	b.get(form).want(200, "New alert setting", "Host is down", "Everybody in the group", "Try it on history", "Measurement is above or below")
	b.get(form+"?metric=OPLOG_MASTER_TIME&host=db1.rs0.example.com:27017").want(200, `value="OPLOG_MASTER_TIME" selected`, "db1.rs0.example.com:27017", `value="HOURS"`, "OPCOUNTER_INSERT", "In the chart")
	b.get(form+"?type=TOO_FEW_HEALTHY_MEMBERS&set=rs0").want(200, "fewer than", `value="rs0"`)
	metric := func(more ...string) []string {
		return append([]string{"type", "OUTSIDE_METRIC_THRESHOLD", "metric", "CONNECTIONS", "operator", "GREATER_THAN", "threshold", "30", "units", "RAW", "enabled", "on"}, more...)
	}
	slack := []string{"n", "0", "n0-channel", "SLACK", "n0-delay", "5", "n0-interval", "30", "n0-channelName", "#ops", "n0-apiToken", slackToken}

	// Every fault is named, and what was typed stays.
	b.post(form, "do", "save", "type", "OUTSIDE_METRIC_THRESHOLD", "metric", "CONNECTIONS", "threshold", "many", "m", "0", "m0-field", "PORT", "m0-operator", "EQUALS", "m0-value", "x",
		"n", "0", "n0-channel", "SLACK", "n0-delay", "-1", "n0-interval", "1", "n", "7", "n7-channel", "GROUP", "n7-interval", "60").
		want(422, "Give a number", `value="many"`, "A port is a number", "Bot token is missing", "Channel is missing", "The delay is negative", "The interval is from 5", "Choose mail, SMS or both")
	b.post(form, append(metric("do", "save"), "n0-channel", "SLACK")...).want(422, "Nobody would be told")

	// Rows come and go, and nothing is called wrong meanwhile.
	b.post(form, append(metric("do", "matcher"), slack...)...).want(200, `name="m0-value"`).wantNot("needs a change")
	b.post(form, append(metric("do", "note"), slack...)...).want(200, `id="note-1"`)
	b.post(form, append(metric("do", "dropnote-0"), slack...)...).want(200).wantNot(`id="note-0"`)
	b.post(form, append(metric("do", "redraw"), "n", "0", "n0-channel", "WEBHOOK")...).want(200, `name="n0-webhookUrl"`)
	b.post(form, append(metric("do", "redraw"), slack...)...).want(200).wantNot(slackToken)

	// A test of a notification that is not saved.
	b.post(form, append(metric("do", "test-0"), slack...)...).want(200, ">sent<", "accepted").wantNot(slackToken)
	if len(s.sent.sent) != 1 || s.sent.sent[0].Kind != model.DeliverTest || s.sent.to[0].Secrets["apiToken"] != slackToken {
		t.Fatalf("sent %+v", s.sent.to)
	}
	s.sent.err = errors.New("channel_not_found")
	b.post(form, append(metric("do", "test-0"), slack...)...).want(200, "not sent", "Channel_not_found.")
	b.post(form, metric("do", "test-0", "n", "0", "n0-channel", "SLACK", "n0-interval", "60")...).want(422, "Bot token is missing")
	b.post(form, metric("do", "test-0", "n", "0", "n0-channel", "GROUP", "n0-email", "on", "n0-interval", "60")...).want(200, "not sent")

	// Saved, with its secret; changed, keeping it.
	b.post(form, append(metric("do", "save", "note", "look"), slack...)...).want(200, "The alert setting was added", "Connections above 30, for 5 min or longer.")
	list, err := s.ev.Configs(t.Context(), g.ID)
	s.ok(err)
	if len(list) != 1 || list[0].Notifications[0].Secrets["apiToken"] != slackToken || list[0].Note != "look" || !list[0].Enabled {
		t.Fatalf("saved %+v", list)
	}
	c := list[0]
	page := at(g, "/alert-settings/"+string(c.ID))
	mask := notify.Mask(slackToken)
	b.get(page).want(200, `value="`+mask+`"`, `value="30"`).wantNot(slackToken)
	b.post(page, metric("do", "save", "threshold", "1", "n", "0", "n0-id", string(c.Notifications[0].ID), "n0-channel", "SLACK", "n0-delay", "0", "n0-interval", "30", "n0-channelName", "#db", "n0-apiToken", mask)...).want(200, "Saved.", "#db")
	now, err := s.ev.Config(t.Context(), g.ID, c.ID)
	s.ok(err)
	if n := now.Notifications[0]; n.Secrets["apiToken"] != slackToken || n.ID != c.Notifications[0].ID || n.Fields["channelName"] != "#db" || now.Enabled != true {
		t.Errorf("after the change: %+v", now)
	}
	b.get(at(g, "/activity?type=alerts")).want(200, "Alert setting added", "Alert setting changed")
	b.get(at(g, "/alert-settings/"+string(model.NewID()))).want(404, "There is no such alert setting")
}

func TestTryingASettingOnHistory(t *testing.T) {
	s, g, b := owner(t)
	form := at(g, "/alert-settings/new")
	fields := []string{"type", "OUTSIDE_METRIC_THRESHOLD", "metric", "CONNECTIONS", "operator", "GREATER_THAN", "threshold", "30", "units", "RAW", "n", "0", "n0-channel", "GROUP", "n0-email", "on", "n0-interval", "60"}
	b.get(form)
	from := s.now.Add(-7 * 24 * time.Hour)
	limit := 30.0
	s.trial.trial = trial.Trial{
		From: from, To: s.now, Opened: 1, Brief: 2, Quiet: 4, Total: 3, Count: map[string]int{"EMAIL": 3}, Basis: "Points of 5 minutes.", Unknown: []string{"cannot be tried on history: <x>"},
		Targets: []trial.TargetTrial{{
			Target: model.Target{HostID: "h", HostName: "db1:27017"}, Units: "RAW", Threshold: &limit, Times: []time.Time{from, from.Add(time.Hour)}, Values: []float64{10, 50},
			Spans: []trial.Span{{
				Since: from, Opened: from.Add(time.Hour), Closed: from.Add(3 * time.Hour), Worst: &model.Reading{Number: 52, Units: "RAW"},
				Notifications: []trial.Planned{{At: from, Channel: "EMAIL", Recipient: "ann@example.com"}, {At: from, Channel: "EMAIL", Recipient: "ann@example.com"}, {At: from, Channel: "EMAIL", Recipient: "bob@example.com"}},
			}},
		}},
	}
	b.post(form, append(fields, "do", "try-7")...).want(200, "It would have opened 1 time and told 3 times", "2 more times it held too briefly", "Nothing happened on 4 more", "Email ann@example.com: 2", "Email bob@example.com: 1",
		`<svg class="sketch"`, "sk-open", "sk-limit", ">52<", "3 notifications", "Points of 5 minutes.", "&lt;x&gt;")
	if s.trial.days != 7 || len(s.trial.asked) != 1 || s.trial.asked[0].Metric.Value != 30 || !s.trial.asked[0].Enabled {
		t.Errorf("asked %d days, %+v", s.trial.days, s.trial.asked)
	}
	list, err := s.ev.Configs(t.Context(), g.ID)
	s.ok(err)
	if len(list) != 0 {
		t.Error("trying saved the setting")
	}
	s.trial.trial = trial.Trial{From: from, To: s.now, Quiet: 3}
	b.post(form, append(fields, "do", "try-30")...).want(200, "It would not have opened", "Nothing happened on 3 more").wantNot("<svg class=\"sketch")
	b.post(form, append(fields, "do", "try-365")...).want(400)
	b.get(form)
	b.post(form, "type", "OUTSIDE_METRIC_THRESHOLD", "metric", "CONNECTIONS", "threshold", "", "do", "try-1").want(422, "Give a number")
	s.trial.err = errors.New("broken")
	b.post(form, append(fields, "do", "try-1")...).want(500, "Something went wrong")
}

func TestGlobalAlertSettings(t *testing.T) {
	s, g, b := owner(t)
	s.group("Bank")
	b.get("/admin/alert-settings").want(200, "Global alert settings", "Nothing is looked for")
	form := "/admin/alert-settings/new"
	b.get(form).want(200, "In which groups", "All groups, also those to come", "Shop", "Bank", "Operators of this site")
	fields := []string{"type", "HOST_DOWN", "n", "0", "n0-channel", "ADMIN", "n0-interval", "60", "enabled", "on"}
	b.post(form, append(fields, "do", "save")...).want(422, "Choose groups, or all of them.")
	b.post(form, append(fields, "do", "try-1", "group", string(g.ID), "tryGroup", string(g.ID))...).want(200, "It would not have opened", "in Shop")
	b.post(form, append(fields, "do", "save", "group", string(g.ID), "tags", "prod, eu")...).want(200, "The alert setting was added", "Host is down", "Shop")
	list, err := s.ev.Configs(t.Context(), "")
	s.ok(err)
	if len(list) != 1 || list[0].GroupID != "" || len(list[0].GroupIDs) != 1 || len(list[0].Tags) != 2 || list[0].ForAllGroups {
		t.Fatalf("saved %+v", list)
	}
	b.get("/admin/alert-settings/"+string(list[0].ID)).want(200, `value="prod, eu"`)
	b.get(form+"?type=CRON_JOB_FAILED").want(200, "cannot be tried on history").wantNot("In which groups")
	b.get("/admin/activity").want(200, "Alert setting added")
	b.get(at(g, "/alert-settings")).want(200, "Global settings that cover this group")
	// An alert of the site.
	a := s.raise(list[0], "", func(a *model.Alert) {
		a.Global, a.Target, a.Text = true, model.Target{Key: "site/deliveries"}, "Notifications cannot be delivered."
	})
	b.get("/admin/alerts").want(200, "/admin/alerts/"+string(a.ID), "site")
	b.get("/admin/alerts/"+string(a.ID)).want(200, "Notifications cannot be delivered.", "/admin/alert-settings/"+string(list[0].ID))
	b.post("/admin/alerts/"+string(a.ID)+"/acknowledge", "do", "acknowledge", "until", "1h").want(200, "has taken it on")
	b.get("/admin/alert-settings/" + string(list[0].ID) + "/delete").want(200)
	b.post("/admin/alert-settings/"+string(list[0].ID)+"/delete", "name", "Host is down").want(200, "Deleted.")
}

func TestMaintenanceWindows(t *testing.T) {
	s, g, b := owner(t)
	page := at(g, "/alert-windows")
	b.get(page).want(200, "No maintenance is planned", "New window")
	start := s.now.Add(-time.Hour).UTC().Format("2006-01-02T15:04")
	end := s.now.Add(time.Hour).UTC().Format("2006-01-02T15:04")
	b.post(page, "start", "x", "end", "", "zone", "Nowhere").want(422, "Give a date and time", "IANA name", "Choose at least one kind")
	b.post(page, "start", end, "end", start, "zone", "UTC", "kind", "HOST").want(422, "The end must come after the beginning.")
	b.post(page, "start", start, "end", end, "zone", "UTC", "kind", "HOST", "repeat", "on").want(422, "Choose the days")
	b.post(page, "start", start, "end", end, "zone", "UTC", "kind", "HOST", "kind", "AGENT", "description", "Upgrade <7>").want(200, "The maintenance window was saved", "on now", "Upgrade &lt;7&gt;", "hosts, agents", "once")
	list, err := s.ev.Windows(t.Context(), g.ID)
	s.ok(err)
	if len(list) != 1 || list[0].By != "ann@example.com" || len(list[0].Types) != 2 {
		t.Fatalf("windows %+v", list)
	}
	one := page + "/" + string(list[0].ID)
	b.get(one).want(200, "Change the window", `value="`+start+`"`)
	b.post(one, "start", start, "end", end, "zone", "Europe/Berlin", "kind", "HOST", "repeat", "on", "day", "0", "day", "6", "until", "2100-01-01", "description", "Weekend").want(200, "every Sat, Sun, Europe/Berlin", "Weekend")
	b.get(one).want(200, "Europe/Berlin", `value="2100-01-01"`)
	b.post(one, "start", "x", "end", end, "zone", "UTC").want(422, "Change the window")
	b.get(one+"/delete").want(200, "Type Weekend to confirm")
	b.post(one+"/delete", "name", "x").want(422)
	b.post(one+"/delete", "name", "Weekend").want(200, "The maintenance window was deleted.")
	b.get(one).want(404, "There is no such maintenance window")
	b.get(at(g, "/activity?type=alerts")).want(200, "Maintenance planned", "Maintenance changed", "Maintenance window deleted")
}

func TestIntegrations(t *testing.T) {
	s, g, b := owner(t)
	page := at(g, "/alert-integrations")
	b.get(page).want(200, "Slack", "PagerDuty", "not set up")
	b.post(page+"/SLACK", "SLACK-apiToken", "", "SLACK-channelName", "").want(422, "Nothing is filled in.")
	b.post(page+"/WEBHOOK", "WEBHOOK-webhookUrl", "nonsense").want(422, "is not a URL")
	b.post(page+"/SLACK", "SLACK-apiToken", slackToken, "SLACK-channelName", "#ops").want(200, "Saved.", "set up", notify.Mask(slackToken)).wantNot(slackToken)
	b.post(page+"/SLACK", "SLACK-apiToken", notify.Mask(slackToken), "SLACK-channelName", "#db").want(200, "#db")
	have, err := s.ev.Integration(t.Context(), g.ID, "SLACK")
	s.ok(err)
	if have.Secrets["apiToken"] != slackToken || have.Fields["channelName"] != "#db" {
		t.Errorf("kept %+v", have)
	}
	// A setting that leaves the fields empty uses them.
	b.get(at(g, "/alert-settings/new"))
	b.post(at(g, "/alert-settings/new"), "do", "save", "type", "HOST_DOWN", "n", "0", "n0-channel", "SLACK", "n0-interval", "60", "enabled", "on").want(200, "The alert setting was added", "Slack: #db")
	b.get(page+"/SLACK/delete").want(200, "Type Slack to confirm")
	b.post(page+"/SLACK/delete", "name", "no").want(422)
	b.post(page+"/SLACK/delete", "name", "Slack").want(200, "Deleted.")
	for _, path := range []string{"/SLACK/delete", "/NOTHING/delete", "/EMAIL/delete"} {
		b.get(page+path).want(404, "There is no such integration")
	}
	b.get(at(g, "/activity?type=alerts")).want(200, "Integration with Slack saved", "Integration with Slack deleted")
}

func TestAlertsForThoseWithoutTheRight(t *testing.T) {
	s := newSite(t)
	g := s.group("Shop")
	s.user("root@example.com", model.Grant{Role: model.GlobalOwner})
	s.user("ron@example.com", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	s.user("mona@example.com", model.Grant{Role: model.GroupMonitoringAdmin, GroupID: g.ID})
	ids := s.fleet(g, "rs0", "up", "up", "up")
	c := s.config(g)
	a := s.raise(c, ids[0])
	b := s.signIn("ron@example.com")
	const why = "only Group Owners and Monitoring Admins change alert settings and acknowledge alerts."
	for _, path := range []string{"/alerts", "/alerts/" + string(a.ID), "/alert-settings", "/alert-settings/new", "/alert-settings/" + string(c.ID), "/alert-windows", "/alert-silences", "/alert-integrations"} {
		b.get(at(g, path)).want(200, why, "disabled").wantNot(slackToken)
	}
	b.get(at(g, "/hosts/"+string(ids[0]))).want(200, `data-alert=""`, "data-alert-why=\"You cannot do this")
	for _, path := range []string{
		"/alerts/acknowledge", "/alerts/" + string(a.ID) + "/acknowledge", "/alerts/" + string(a.ID) + "/silence", "/alert-settings/new", "/alert-settings/" + string(c.ID), "/alert-settings/recommended",
		"/alert-settings/" + string(c.ID) + "/enable", "/alert-settings/" + string(c.ID) + "/delete", "/alert-windows", "/alert-silences", "/alert-silences/x/end", "/alert-integrations/SLACK",
		"/alert-integrations/SLACK/delete",
	} {
		b.get("/account")
		b.post(at(g, path), "do", "save", "until", "1h", "id", string(a.ID)).want(403, "You cannot do this")
	}
	for _, path := range []string{"/admin/alerts", "/admin/alert-settings", "/admin/alert-settings/new", "/admin/alerts/" + string(a.ID)} {
		b.get(path).want(403)
	}
	now, err := s.ev.Alert(t.Context(), g.ID, a.ID)
	s.ok(err)
	if now.Acknowledged(s.now) {
		t.Error("a reader acknowledged an alert")
	}
	s.signIn("mona@example.com").get(at(g, "/alert-settings")).want(200, "Switch off").wantNot(why)
}

func TestLivePartsOfAlertPages(t *testing.T) {
	s, g, b := owner(t)
	ids := s.fleet(g, "rs0", "up", "up", "up")
	a := s.raise(s.config(g), ids[0])
	for _, path := range []string{"/alerts", "/alerts/" + string(a.ID)} {
		b.do("GET", at(g, path), "", "HX-Request", "true").want(200, `id="live"`).wantNot("<html", "<nav aria-label=\"Main\"")
	}
}

func TestAlertPagesWhenTheDatabaseFails(t *testing.T) {
	s, g, b := owner(t)
	ids := s.fleet(g, "rs0", "up", "up", "up")
	c := s.config(g)
	a := s.raise(c, ids[0])
	for _, path := range []string{"/alerts", "/alerts?state=closed", "/alerts/" + string(a.ID), "/alert-settings", "/alert-settings/" + string(c.ID), "/alert-windows", "/alert-silences", "/alert-integrations"} {
		b.get(at(g, path)).want(200)
		s.engine.Off(docstore.ErrUnavailable)
		b.get(at(g, path))
		s.engine.On()
		if b.code < 500 || !strings.Contains(b.page, "request") && !strings.Contains(b.page, "Request") {
			t.Errorf("%s with a failing database: %d %s", path, b.code, brief(b.page))
		}
	}
}
