package rule

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
)

func TestCheckNamesEveryFault(t *testing.T) {
	note := model.Notification{ID: "n1", Channel: "EMAIL", IntervalMin: 5}
	metric := func(name, operator string, value float64, units string) *model.MetricThreshold {
		return &model.MetricThreshold{Metric: name, Threshold: model.Threshold{Operator: operator, Value: value, Units: units}}
	}
	for name, c := range map[string]struct {
		change func(*model.AlertConfig)
		want   []string // "path CODE"
	}{
		"a good one":          {func(*model.AlertConfig) {}, nil},
		"no type":             {func(c *model.AlertConfig) { c.EventType = "" }, []string{"eventTypeName MISSING_ATTRIBUTE"}},
		"an unknown type":     {func(c *model.AlertConfig) { c.EventType = "HOST_ON_FIRE" }, []string{"eventTypeName INVALID_EVENT_TYPE_FOR_ALERT"}},
		"a silent type":       {func(c *model.AlertConfig) { c.EventType = "BI_CONNECTOR_DOWN" }, nil},
		"a type of the site":  {func(c *model.AlertConfig) { c.EventType = model.EventCronJobFailed }, []string{"eventTypeName GLOBAL_ALERTS_ONLY"}},
		"the same, global":    {func(c *model.AlertConfig) { c.EventType, c.GroupID = model.EventCronJobFailed, "" }, nil},
		"accepted in a group": {func(c *model.AlertConfig) { c.EventType = model.EventAPIKeyCreated }, nil},

		"a threshold too many": {func(c *model.AlertConfig) { c.Threshold = &model.Threshold{Operator: "GREATER_THAN"} }, []string{"threshold THRESHOLD_PRESENT"}},
		"a threshold missing":  {func(c *model.AlertConfig) { c.EventType = model.EventTooFewHealthy }, []string{"threshold MISSING_THRESHOLD"}},
		"an optional one":      {func(c *model.AlertConfig) { c.EventType = model.EventTooManyElections }, nil},
		"everything wrong with a threshold": {func(c *model.AlertConfig) {
			c.EventType, c.Threshold = model.EventTooFewHealthy, &model.Threshold{Operator: "GREATER_THAN", Value: -1, Units: "DAYS"}
		}, []string{"threshold.operator INVALID_OPERATOR_FOR_EVENT_TYPE", "threshold.threshold ATTRIBUTE_NEGATIVE", "threshold.units UNITS_MISMATCH"}},
		"half a member": {func(c *model.AlertConfig) {
			c.EventType, c.Threshold = model.EventTooFewHealthy, &model.Threshold{Operator: "LESS_THAN", Value: 1.5, Units: "RAW"}
		}, []string{"threshold.threshold INVALID_ATTRIBUTE"}},

		"a metric too many": {func(c *model.AlertConfig) { c.Metric = metric("CONNECTIONS", "GREATER_THAN", 1, "RAW") }, []string{"metricThreshold METRIC_THRESHOLD_PRESENT"}},
		"a metric missing":  {func(c *model.AlertConfig) { c.EventType = model.EventOutsideMetric }, []string{"metricThreshold MISSING_METRIC_THRESHOLD"}},
		"a good metric": {func(c *model.AlertConfig) {
			c.EventType, c.Metric = model.EventOutsideMetric, metric("OPLOG_MASTER_TIME", "LESS_THAN", 24, "HOURS")
		}, nil},
		"everything wrong with a metric": {func(c *model.AlertConfig) {
			c.EventType, c.Metric = model.EventOutsideMetric, metric("CONNECTIONS", "ABOVE", math.NaN(), "DAYS")
		}, []string{"metricThreshold.metricName UNITS", "metricThreshold.operator INVALID_ENUM_VALUE", "metricThreshold.threshold INVALID_ATTRIBUTE"}},
		"no such metric": {func(c *model.AlertConfig) {
			c.EventType, c.Metric = model.EventOutsideMetric, metric("HAPPINESS", "LESS_THAN", 1, "")
		}, []string{"metricThreshold.metricName INVALID_METRIC_NAME"}},

		"matchers where none are taken": {func(c *model.AlertConfig) {
			c.EventType, c.Matchers = model.EventAgentDown, []model.Matcher{{Field: "HOSTNAME", Operator: "EQUALS", Value: "x"}}
		}, []string{"matchers[0] INVALID_ATTRIBUTE"}},
		"each kind of bad matcher": {func(c *model.AlertConfig) {
			c.Matchers = []model.Matcher{
				{Field: "HOSTNAME", Operator: "EQUALS", Value: "fine"},
				{Field: "COLOUR", Operator: "EQUALS", Value: "red"},
				{Field: "HOSTNAME", Operator: "LIKE", Value: "x"},
				{Field: "HOSTNAME", Operator: "REGEX", Value: "("},
				{Field: "TYPE_NAME", Operator: "EQUALS", Value: "BOSS"},
				{Field: "PORT", Operator: "EQUALS", Value: "high"},
				{Field: "HOSTNAME", Operator: "CONTAINS"},
			}
		}, []string{
			"matchers[1].fieldName INVALID_ATTRIBUTE", "matchers[2].operator INVALID_ENUM_VALUE", "matchers[3].value INVALID_ATTRIBUTE",
			"matchers[4].value INVALID_ENUM_VALUE", "matchers[5].value INVALID_ATTRIBUTE", "matchers[6].value INVALID_ATTRIBUTE",
		}},
		"a field of hosts on a set": {func(c *model.AlertConfig) {
			c.EventType, c.Matchers = model.EventNoPrimary, []model.Matcher{{Field: "HOSTNAME", Operator: "EQUALS", Value: "x"}}
		}, []string{"matchers[0].fieldName INVALID_ATTRIBUTE"}},

		"nobody to tell": {func(c *model.AlertConfig) { c.Notifications = nil }, []string{"notifications MISSING_NOTIFICATIONS"}},
		"bad times": {func(c *model.AlertConfig) {
			c.Notifications = []model.Notification{{ID: "1", IntervalMin: 4, DelayMin: -1}, {ID: "2", IntervalMin: 99999, DelayMin: 99999}}
		}, []string{
			"notifications[0].intervalMin NOTIFICATION_INTERVAL_OUT_OF_RANGE", "notifications[0].delayMin ATTRIBUTE_NEGATIVE",
			"notifications[1].intervalMin NOTIFICATION_INTERVAL_OUT_OF_RANGE", "notifications[1].delayMin INVALID_ATTRIBUTE",
		}},
		"an event needs no interval": {func(c *model.AlertConfig) { c.EventType, c.Notifications[0].IntervalMin = model.EventPrimaryElected, 0 }, nil},
		"two groups": {func(c *model.AlertConfig) {
			c.Notifications = []model.Notification{{ID: "1", Channel: "GROUP", IntervalMin: 5}, {ID: "2", Channel: "GROUP", IntervalMin: 5}}
		}, []string{"notifications TOO_MANY_GROUP_NOTIFICATIONS"}},
		"one id twice": {func(c *model.AlertConfig) { c.Notifications = []model.Notification{note, note} }, []string{"notifications[1].notifierId INVALID_ATTRIBUTE"}},
		"a long note":  {func(c *model.AlertConfig) { c.Note = strings.Repeat("x", MaxNote+1) }, []string{"note INVALID_ATTRIBUTE"}},
	} {
		config := of1(model.EventHostDown)
		config.Notifications = []model.Notification{note}
		c.change(config)
		var got []string
		for _, f := range Check(config, nil) {
			got = append(got, f.Path+" "+f.Code)
			if !strings.HasSuffix(f.Text, ".") || strings.Contains(f.Text, "%!") {
				t.Errorf("%s: no sentence: %s", name, f.Text)
			}
		}
		if name == "everything wrong with a metric" {
			c.want[0] = "metricThreshold.units UNITS_MISMATCH"
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestChannelsFaultsAreBelowTheirNotification(t *testing.T) {
	c := of1(model.EventHostDown)
	c.Notifications = []model.Notification{{ID: "1", Channel: "EMAIL", IntervalMin: 5}, {ID: "2", Channel: "WEBHOOK", IntervalMin: 5}}
	faults := Check(c, func(n model.Notification, global bool) []Fault {
		if n.Channel == "WEBHOOK" && !global {
			return []Fault{{Path: "webhookUrl", Code: "WEBHOOK_URL_NOT_SET", Text: "The URL is missing."}, {Code: "X"}}
		}
		return nil
	})
	if len(faults) != 2 || faults[0].Path != "notifications[1].webhookUrl" || faults[1].Path != "notifications[1]" {
		t.Errorf("%+v", faults)
	}
}

func TestWarnings(t *testing.T) {
	hosts := world().Hosts
	metric := func(name string) *model.AlertConfig {
		c := of1(model.EventOutsideMetric)
		c.Metric = &model.MetricThreshold{Metric: name, Threshold: model.Threshold{Operator: model.GreaterThan, Value: 1}}
		return c
	}
	older := slices.Clone(hosts)
	older[1].Version, older[2].Version = "3.6.23", "3.6.20"
	muted := slices.Clone(hosts)
	muted[1].AlertsEnabled = false
	mmap := slices.Clone(hosts)
	mmap[0].StorageEngine = "inMemory"
	none := of1(model.EventHostDown, model.Matcher{Field: "HOSTNAME", Operator: "EQUALS", Value: "db9"})
	nowhere := of1(model.EventHostDown)
	nowhere.GroupID = ""
	for name, c := range map[string]struct {
		config *model.AlertConfig
		hosts  []model.Host
		want   string // of the only warning, or ""
	}{
		"all is well":                 {of1(model.EventHostDown), hosts, ""},
		"no host matches":             {none, hosts, "No host matches now."},
		"there are no hosts yet":      {none, nil, ""},
		"alerts are off for one":      {of1(model.EventHostDown), muted, "Alerts are switched off for 1 of 5 hosts it matches."},
		"a silent type":               {of1("BI_CONNECTOR_DOWN"), hosts, "Nothing in this build raises BI_CONNECTOR_DOWN: this configuration stays silent."},
		"a global one for no group":   {nowhere, hosts, "It applies to no group: choose all groups, some of them, or tags."},
		"all have connections":        {metric("CONNECTIONS"), hosts, ""},
		"old hosts":                   {metric("TRANSACTIONS_OPEN"), older[:4], "2 of 4 hosts it matches run 3.6 and have no TRANSACTIONS_OPEN."},
		"hosts that are too new":      {metric("BACKGROUND_FLUSH_AVG"), hosts[:3], "All 3 hosts it matches run 8.0 and have no BACKGROUND_FLUSH_AVG."},
		"some hosts of other kinds":   {metric("OPLOG_SLAVE_LAG_MASTER_TIME"), hosts[:3], ""},
		"only hosts of other kinds":   {metric("OPLOG_SLAVE_LAG_MASTER_TIME"), hosts[:1], "The one host it matches is of type PRIMARY and has no OPLOG_SLAVE_LAG_MASTER_TIME."},
		"another storage engine":      {metric("CACHE_USED_BYTES"), mmap[:1], "The one host it matches has the storage engine inMemory and has no CACHE_USED_BYTES."},
		"a cluster's name is trusted": {of1(model.EventHostDown, model.Matcher{Field: "CLUSTER_NAME", Operator: "EQUALS", Value: "x"}), hosts, ""},
	} {
		got := Warnings(c.config, c.hosts)
		if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || got[0] != c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
