package words

import (
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

func metric(name, op string, v float64, units string) *model.MetricThreshold {
	return &model.MetricThreshold{Metric: name, Threshold: model.Threshold{Operator: op, Value: v, Units: units}}
}

func TestRulesInWords(t *testing.T) {
	after := func(min int) []model.Notification {
		return []model.Notification{{Channel: notify.Group, DelayMin: 90}, {Channel: notify.Email, DelayMin: min}}
	}
	for want, c := range map[string]model.AlertConfig{
		"Host is down, for 5 min or longer.":          {EventType: model.EventHostDown, Notifications: after(5)},
		"Host is down.":                               {EventType: model.EventHostDown},
		"Host restarted: told once, when it happens.": {EventType: model.EventHostRestarted, Notifications: after(5)},
		"Connections above 500, where host name starts with db and port is 27017.": {
			EventType: model.EventOutsideMetric, Metric: metric("CONNECTIONS", model.GreaterThan, 500, "RAW"),
			Matchers: []model.Matcher{{Field: "HOSTNAME", Operator: "STARTS_WITH", Value: "db"}, {Field: "PORT", Operator: "EQUALS", Value: "27017"}},
		},
		"Connections Used (percent) above 80 %.":           {EventType: model.EventOutsideMetric, Metric: metric("CONNECTIONS_PERCENT", model.GreaterThan, 80, "RAW")},
		"Replication lag above 240 s, for 2 h or longer.":  {EventType: model.EventOutsideMetric, Metric: metric("OPLOG_SLAVE_LAG_MASTER_TIME", model.GreaterThan, 240, "SECONDS"), Notifications: after(120)[1:]},
		"Network (bytesIn) below 1.50 MiB/s.":              {EventType: model.EventOutsideMetric, Metric: metric("NETWORK_BYTES_IN", model.LessThan, 1.5, "MEGABYTES")},
		"Replica set has no primary, for 1 min or longer.": {EventType: model.EventNoPrimary, Notifications: after(0)},
		"Too many elections: above 3.":                     {EventType: model.EventTooManyElections, Threshold: &model.Threshold{Operator: model.GreaterThan, Value: 3}},
		"Never heard of.":                                  {EventType: "NEVER_HEARD_OF"},
	} {
		if got := Rule(&c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestEveryMeasurementHasAName(t *testing.T) {
	for _, m := range catalog.Measurements() {
		if n := Metric(m.Name); n == "" || n == m.Name || strings.Contains(n, "_") {
			t.Errorf("%s is called %q", m.Name, n)
		}
	}
	if got := Metric("nothing like it"); got != "nothing like it" {
		t.Errorf("an unknown measurement is called %q", got)
	}
}

func TestEveryTypeAndCategoryHasAName(t *testing.T) {
	for _, k := range rule.Types() {
		if n := Type(k.Name); n == "" || strings.Contains(n, "_") {
			t.Errorf("%s is called %q", k.Name, n)
		}
		if n := Category(k.Category); n == string(k.Category) {
			t.Errorf("category %s has no name", k.Category)
		}
	}
	for _, o := range rule.Operators() {
		if strings.Contains(Operator(o), "_") {
			t.Errorf("operator %s has no words", o)
		}
	}
	for _, f := range rule.MatcherFields() {
		if strings.Contains(Field(f), "_") {
			t.Errorf("field %s has no words", f)
		}
	}
}

func TestWhoAndWhen(t *testing.T) {
	for want, n := range map[string]model.Notification{
		"Slack: #ops, at once, again after 30 min":           {Channel: notify.Slack, IntervalMin: 30, Fields: map[string]string{"channelName": "ops"}},
		"Email: ops@example.com, after 1 d, again after 2 h": {Channel: notify.Email, DelayMin: 1440, IntervalMin: 120, Fields: map[string]string{"emailAddress": "ops@example.com"}},
		"Webhook, at once": {Channel: notify.Webhook},
		"PIGEON, at once":  {Channel: "PIGEON"},
	} {
		if got := Who(n) + ", " + When(n, false); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := When(model.Notification{IntervalMin: 60}, true); got != "at once" {
		t.Errorf("what is told once is told again: %q", got)
	}
	secret := model.Notification{Channel: notify.Webhook, Secrets: map[string]model.Secret{"webhookUrl": "https://u:p@hooks.example.com/T0/SECRET"}}
	if got := Who(secret); strings.Contains(got, "SECRET") || strings.Contains(got, "u:p") {
		t.Errorf("a secret shows: %q", got)
	}
}

func TestStatesAndTargets(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	for want, a := range map[string]model.Alert{
		"open":         {Status: model.AlertOpen},
		"acknowledged": {Status: model.AlertOpen, AckUntil: now.Add(time.Minute)},
		"tracking":     {Status: model.AlertTracking, AckUntil: now.Add(time.Minute)},
		"closed":       {Status: model.AlertClosed},
		"cancelled":    {Status: model.AlertCancelled},
		"information":  {Status: model.AlertClosed, Inform: true},
		"odd":          {Status: "ODD"},
	} {
		if got := State(&a, now).Word; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, x := range map[string]model.Target{
		"db1:27017":        {HostName: "db1:27017", ReplicaSet: "rs0"},
		"shop / s1":        {ClusterName: "shop", ShardName: "s1"},
		"shop":             {ClusterName: "shop"},
		"rs0":              {ReplicaSet: "rs0"},
		"monitoring agent": {Key: "agent/MONITORING/g"},
		"agent abc":        {Key: "agent/abc"},
		"the group":        {Key: "group/g"},
		"evaluate":         {Key: "site/evaluate"},
		"":                 {Key: "event/1"},
	} {
		if got := Target(&x); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRolesAndMinutes(t *testing.T) {
	if got := Role(model.GroupMonitoringAdmin); got != "Group Monitoring Admin" {
		t.Errorf("%q", got)
	}
	for n, want := range map[int]string{0: "0 min", 5: "5 min", 60: "1 h", 90: "90 min", 2880: "2 d"} {
		if got := Minutes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestSentences(t *testing.T) {
	for in, want := range map[string]string{
		"": "", " mail is off ": "Mail is off.", "Done.": "Done.", "über Nacht": "Über Nacht.", "ann@example.com has no address": "ann@example.com has no address.",
		"db1:27017: down": "db1:27017: down.", "[::1]:27017 is down": "[::1]:27017 is down.", "there: nobody": "There: nobody.", "雪": "雪.", "127.0.0.1 is this machine": "127.0.0.1 is this machine.",
	} {
		if got := Sentence(in); got != want {
			t.Errorf("%q reads %q, want %q", in, got, want)
		}
	}
}

func TestCancelledAlertsSayWhetherTheyHadOpened(t *testing.T) {
	now := time.Now()
	brief := State(&model.Alert{Status: model.AlertCancelled}, now)
	opened := State(&model.Alert{Status: model.AlertCancelled, Opened: now}, now)
	if brief.Why == opened.Why || !strings.Contains(brief.Why, "before anybody") {
		t.Errorf("%q and %q", brief.Why, opened.Why)
	}
}
