package trial_test

import (
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
)

const groupID = model.ID("5f0000000000000000000001")

func at(minute int) time.Time { return t0.Add(time.Duration(minute) * time.Minute) }

// facts is an hour in which everything ran, and one configuration.
func facts(c model.AlertConfig, alerts ...model.Alert) *trial.Facts {
	s := group("a", "b")
	s.Now = at(120)
	s.Agents[0].LastPing = at(120)
	if c.GroupID == "" {
		c.GroupID = groupID
	}
	c.Created, c.Updated = t0.Add(-48*time.Hour), t0.Add(-48*time.Hour)
	for i := range alerts {
		alerts[i].ConfigID, alerts[i].GroupID = c.ID, groupID
	}
	return &trial.Facts{
		Query: trial.WhyQuery{GroupID: groupID, From: t0, To: at(60)}, Group: s.Group, Present: s, Configs: []model.AlertConfig{c}, Alerts: alerts,
		Deliveries: map[model.ID][]model.Delivery{}, Watch: model.AlertWatch{LastPass: at(119)}, Nearest: map[model.ID]trial.Nearest{},
		Recipients: func(n model.Notification) ([]trial.Recipient, []string) {
			if n.Channel == "GROUP" {
				return nil, []string{"there are no users of the group"}
			}
			return []trial.Recipient{{Channel: n.Channel, Address: n.Fields["emailAddress"]}}, nil
		},
	}
}

func down(notifications ...model.Notification) model.AlertConfig {
	return model.AlertConfig{ID: "5f00000000000000000000d1", EventType: model.EventHostDown, Enabled: true, Notifications: notifications}
}

// alert is one of host a that opened at minute 10.
func alert(change func(*model.Alert)) model.Alert {
	a := model.Alert{
		ID: "5f0000000000000000000a01", EventType: model.EventHostDown, Status: model.AlertOpen, Target: model.Target{Key: "host/" + strings.Repeat("a", 32), HostID: model.HostID(strings.Repeat("a", 32)), HostName: "a:27017"},
		Since: at(9), Created: at(10), Opened: at(10), Updated: at(10), LastNotified: at(10),
	}
	if change != nil {
		change(&a)
	}
	return a
}

func TestWhy(t *testing.T) {
	ann := &model.User{Username: "ann@example.com", Grants: []model.Grant{{Role: model.GroupReadOnly, GroupID: groupID}}}
	sent := func(state model.DeliveryState, address, lastError string) func(*trial.Facts) {
		return func(f *trial.Facts) {
			f.Deliveries["5f0000000000000000000a01"] = []model.Delivery{{AlertID: "5f0000000000000000000a01", Kind: "open", Channel: "EMAIL", Address: address, State: state, Created: at(10), Delivered: at(11), LastError: lastError, Attempts: 3}}
		}
	}
	group := model.Notification{ID: "5f00000000000000000000e2", Channel: "GROUP", EmailEnabled: true, Roles: []model.Role{model.GroupOwner}}
	for _, c := range []struct {
		name   string
		facts  *trial.Facts
		change func(*trial.Facts)
		want   trial.Verdict
		says   string
	}{
		{"paged", facts(down(mail(0, 60)), alert(nil)), sent(model.DeliveryDelivered, "ops@example.com", ""), trial.Paged, "a:27017: “open” was delivered by EMAIL to ops@example.com at 2026-03-01 09:11:00 UTC."},
		{"the delivery failed", facts(down(mail(0, 60)), alert(nil)), sent(model.DeliveryFailed, "ops@example.com", "550 no such mailbox"), trial.Failed, "failed for good: 550 no such mailbox."},
		{"the delivery waits", facts(down(mail(0, 60)), alert(nil)), sent(model.DeliveryPending, "ops@example.com", "connection refused"), trial.Pending, "waits to be sent since 2026-03-01 09:10:00 UTC, after 3 attempts: connection refused."},
		{"muted", facts(down(mail(0, 60)), alert(func(a *model.Alert) { a.Muted, a.LastNotified = "maintenance window “upgrade”", time.Time{} })), nil, trial.Muted, "because of maintenance window “upgrade”."},
		{"muted then, not now", facts(down(mail(0, 60)), alert(func(a *model.Alert) {
			a.History = []model.AlertStep{{At: at(10), Kind: model.StepMuted, Text: "Silence “disk swap”."}, {At: at(70), Kind: model.StepUnmuted}}
		})), nil, trial.Muted, "because of Silence “disk swap”."},
		{"acknowledged", facts(down(mail(0, 60)), alert(func(a *model.Alert) { a.AckUntil, a.AckBy = at(300), "bob" })), nil, trial.Acknowledged, "a:27017: It was acknowledged by bob."},
		{"ended before its delay", facts(down(mail(30, 60)), alert(func(a *model.Alert) { a.Status, a.Opened, a.Resolved = model.AlertCancelled, time.Time{}, at(20) })), nil, trial.BeforeDelay, "held from 2026-03-01 09:09:00 UTC to 2026-03-01 09:20:00 UTC, less than the shortest delay of 30 min."},
		{"still tracked", facts(down(mail(90, 60)), alert(func(a *model.Alert) { a.Status, a.Opened = model.AlertTracking, time.Time{} })), nil, trial.StillTracking, "for less than the shortest delay of 90 min."},
		{"nobody to tell", facts(down(), alert(nil)), nil, trial.NoNotifications, "tells nobody"},
		{"nobody has an address", facts(down(group), alert(nil)), nil, trial.NoAddress, "nobody can be reached: there are no users of the group."},
		{"nothing was due", facts(down(mail(0, 60)), alert(func(a *model.Alert) { a.Opened, a.LastNotified = at(-300), at(-200) })), nil, trial.NotDue, "it was told last at 2026-03-01 05:40:00 UTC."},
		{"a person without the role", facts(down(group), alert(nil)), func(f *trial.Facts) { f.Query.Username, f.Person = "ann@example.com", ann }, trial.LacksRole, "ann@example.com has none of the roles that are told: GROUP_OWNER."},
		{"a person without an address", facts(down(model.Notification{Channel: "USER", SMSEnabled: true, Fields: map[string]string{"username": "ann@example.com"}}), alert(nil)), func(f *trial.Facts) {
			f.Query.Username, f.Person = "ann@example.com", ann
			f.Recipients = func(model.Notification) ([]trial.Recipient, []string) { return nil, nil }
		}, trial.NoAddress, "has no address for what the notification sends: SMS."},
		{"others are told", facts(down(mail(0, 60)), alert(nil)), func(f *trial.Facts) {
			sent(model.DeliveryDelivered, "ops@example.com", "")(f)
			f.Query.Username, f.Person = "ann@example.com", ann
		}, trial.NotMeant, "it tells others than ann@example.com."},
		{"disabled", facts(down(mail(0, 60))), func(f *trial.Facts) { f.Configs[0].Enabled = false }, trial.Disabled, "It has been disabled since 2026-02-27"},
		{"made later", facts(down(mail(0, 60))), func(f *trial.Facts) { f.Configs[0].Created = at(90) }, trial.TooNew, "after the window"},
		{"does not match", facts(down(mail(0, 60))), func(f *trial.Facts) {
			f.Query.Host = "a:27017"
			f.Configs[0].Matchers = []model.Matcher{{Field: "HOSTNAME", Operator: "EQUALS", Value: "b"}}
		}, trial.NotMatched, "It does not match it; it matches 1 others."},
		{"alerts are off", facts(down(mail(0, 60))), func(f *trial.Facts) {
			f.Query.Host = "a:27017"
			f.Present.Hosts[0].AlertsEnabled = false
		}, trial.AlertsOff, "Alerts are switched off for a:27017."},
		{"did not hold", facts(down(mail(0, 60))), nil, trial.NotBad, "The condition was not seen to hold on any of the 2 it matches (host)."},
		{"nothing raises it", facts(model.AlertConfig{ID: "5f00000000000000000000d1", EventType: "BAD_CLUSTERSHOTS", Enabled: true}), nil, trial.NotRaised, "Nothing in this build raises BAD_CLUSTERSHOTS."},
		{"the evaluation did not run", facts(down(mail(0, 60))), func(f *trial.Facts) { f.Watch.LastPass = at(-30) }, trial.NotRunning, "last ran at 2026-03-01 08:30:00 UTC, before the window."},
		{"the agent was down", facts(down(mail(0, 60))), func(f *trial.Facts) {
			f.AgentEvents = []model.Event{{Type: model.EventAgentDown, At: at(-10)}, {Type: model.EventAgentUp, At: at(70)}}
		}, trial.AgentDown, "The monitoring agent was down from 2026-03-01 08:50:00 UTC to 2026-03-01 10:10:00 UTC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change != nil {
				c.change(c.facts)
			}
			got := trial.Explain(c.facts)
			for _, r := range got {
				if r.ConfigID == "" {
					continue
				}
				if r.Verdict != c.want || !strings.Contains(r.Text, c.says) {
					t.Errorf("%s: %s", r.Verdict, r.Text)
				}
				return
			}
			t.Errorf("no reason of the configuration: %+v", got)
		})
	}
}

func TestWhyThresholdWasNotCrossed(t *testing.T) {
	c := *metric("GREATER_THAN", 500, mail(0, 60))
	h := history(group("a", "b"), time.Minute, time.Hour)
	line(h, "a", func(m int) float64 { return float64(100 + m) })
	line(h, "b", func(m int) float64 {
		if m == 30 {
			return 700 // one point; the mean of three is 267
		}
		return 50
	})
	f := facts(c)
	f.Nearest[c.ID] = trial.FindNearest(&c, h)
	got := trial.Explain(f)
	const want = "CONNECTIONS was never above 500; the nearest was 266.7 at 2026-03-01 09:31:00 UTC on b:27017."
	if len(got) != 1 || got[0].Verdict != trial.NotCrossed || got[0].Text != want || got[0].Target.HostName != "b:27017" || got[0].Threshold.Number != 500 {
		t.Errorf("%+v", got)
	}
	f = facts(c)
	f.Nearest[c.ID] = trial.FindNearest(&c, history(group("a"), time.Minute, time.Hour))
	if got := trial.Explain(f); got[0].Verdict != trial.NoData {
		t.Errorf("%+v", got)
	}
}

func TestWhyInGeneral(t *testing.T) {
	f := facts(down(mail(0, 60)))
	f.Query.Host, f.Query.Username = "nosuch:27017", "nobody"
	f.Watch = model.AlertWatch{}
	f.Present.Agents[0].LastPing = at(-60)
	var verdicts []string
	for _, r := range trial.Explain(f) {
		if r.ConfigID == "" {
			verdicts = append(verdicts, string(r.Verdict))
		}
	}
	if s := strings.Join(verdicts, " "); s != "NO_ADDRESS DID_NOT_MATCH EVALUATION_NOT_RUNNING AGENT_DOWN" {
		t.Error(s)
	}
}

// TestWhyLooksAtWhatIsAsked: a host's question is answered by its own alerts, by those of its clusters and by those of the group.
func TestWhyLooksAtWhatIsAsked(t *testing.T) {
	f := facts(down(mail(0, 60)))
	f.Present.Clusters = []model.Cluster{{ID: "c1", ParentID: "c0"}, {ID: "c0"}, {ID: "c2"}}
	f.Present.Hosts[0].ClusterID = "c1"
	f.Query.Host = f.Present.Hosts[0].Address()
	for _, c := range []struct {
		target model.Target
		want   bool
	}{
		{model.Target{HostID: f.Present.Hosts[0].ID}, true},
		{model.Target{HostID: f.Present.Hosts[1].ID}, false},
		{model.Target{ClusterID: "c1"}, true},
		{model.Target{ClusterID: "c0"}, true},
		{model.Target{ClusterID: "c2"}, false},
		{model.Target{Key: "group/x"}, true},
	} {
		if f.About(&c.target) != c.want {
			t.Errorf("%+v: %v", c.target, !c.want)
		}
	}
}
