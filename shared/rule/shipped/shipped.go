// Package shipped holds the configurations that come with Heartwood: those a new group gets, the recommended set, and those
// of the site (operations.md 4.6). Their ids are derived, so that creating them twice is harmless.
//
// It may import shared/model only; a test holds the configurations against package rule.
package shipped

import (
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// rule is a configuration as it is written down below.
type rule struct {
	name      string // tells configurations of one type apart
	event     model.EventType
	enabled   bool
	delay     int // minutes
	metric    *model.MetricThreshold
	threshold *model.Threshold
	note      string
}

// Defaults are the configurations of a new group: enabled.
func Defaults(group model.ID, now time.Time) []model.AlertConfig {
	return build(group, model.OriginDefault, now, []rule{
		{event: model.EventAgentDown, enabled: true, note: "Nothing is known of the group's hosts until an agent is up again: see to it first."},
		{event: model.EventHostDown, enabled: true, delay: 5},
		{event: model.EventCertificateStale, enabled: true},
		{event: model.EventUserJoined, enabled: true},
	})
}

// Recommended is the set a group can take over beside the defaults, one by one: all of it is disabled.
func Recommended(group model.ID, now time.Time) []model.AlertConfig {
	return build(group, model.OriginRecommended, now, []rule{
		{event: model.EventNoPrimary, delay: 5},
		{event: model.EventMultiplePrimaries, delay: 2},
		{event: model.EventMongosMissing, delay: 5},
		{event: model.EventHostRecovering, delay: 10},
		{event: model.EventTooManyUnhealthy, delay: 10, threshold: &model.Threshold{Operator: model.GreaterThan}},
		{event: model.EventTooManyElections, threshold: &model.Threshold{Operator: model.GreaterThan, Value: 3}},
		{event: model.EventHostRollback, note: "Writes were lost from the set; the member keeps them in its rollback folder."},
		{name: "lag", event: model.EventOutsideMetric, delay: 5, metric: above("OPLOG_SLAVE_LAG_MASTER_TIME", 240, "SECONDS")},
		{
			name: "window", event: model.EventOutsideMetric, delay: 60, metric: below("OPLOG_MASTER_TIME", 24, "HOURS"),
			note: "A member that is away for longer than the oplog reaches back must be synced from scratch. Make the oplog larger.",
		},
		{name: "disk", event: model.EventOutsideMetric, delay: 10, metric: above("DISK_PARTITION_SPACE_PERCENT_USED", 90, "RAW")},
		{name: "connections", event: model.EventOutsideMetric, delay: 5, metric: above("CONNECTIONS_PERCENT", 80, "RAW")},
		{event: model.EventClockSkew, delay: 30},
		{event: model.EventSecurityNotMet},
		{event: model.EventHostExposed},
		{event: model.EventVersionBehind},
		{event: model.EventAgentVersionBehind},
		{event: model.EventHostRestarted},
		{event: model.EventPrimaryElected},
		{name: "read tickets", event: model.EventOutsideMetric, delay: 5, metric: below("TICKETS_AVAILABLE_READS", 10, "RAW")},
		{name: "write tickets", event: model.EventOutsideMetric, delay: 5, metric: below("TICKETS_AVAILABLE_WRITE", 10, "RAW")},
		{name: "queues", event: model.EventOutsideMetric, delay: 5, metric: above("GLOBAL_LOCK_CURRENT_QUEUE_TOTAL", 100, "RAW")},
		{name: "page faults", event: model.EventOutsideMetric, delay: 10, metric: above("EXTRA_INFO_PAGE_FAULTS", 50, "RAW")},
		{name: "scanned objects", event: model.EventOutsideMetric, delay: 10, metric: above("QUERY_TARGETING_SCANNED_OBJECTS_PER_RETURNED", 1000, "RAW")},
	})
}

// Backup are the configurations that a group gets when its first backup is started: enabled.
func Backup(group model.ID, now time.Time) []model.AlertConfig {
	return build(group, model.OriginDefault, now, []rule{
		{event: model.EventOplogBehind, enabled: true},
		{event: model.EventResyncRequired, enabled: true, delay: 5},
		{event: model.EventBackupWindowShort, enabled: true, delay: 10},
		{event: model.EventBackupAgentDown, enabled: true},
	})
}

// Global are the configurations of the site: what its operators want to know, told to the admin mailbox.
func Global(now time.Time) []model.AlertConfig {
	return build("", model.OriginDefault, now, []rule{
		{event: model.EventCronJobFailed, enabled: true},
		{event: model.EventDeliveriesFailing, enabled: true},
		{event: model.EventServerCertStale, enabled: true},
		{event: model.EventDaemonDown, enabled: true},
		{event: model.EventBackupUnexpected, enabled: true},
		{event: model.EventBackupRetries, enabled: true},
		{event: model.EventBindError, enabled: true},
		{event: model.EventLateSnapshot, enabled: true},
		{event: model.EventLowHeadSpacePercent, enabled: true},
	})
}

func above(metric string, value float64, units string) *model.MetricThreshold {
	return &model.MetricThreshold{Metric: metric, Threshold: model.Threshold{Operator: model.GreaterThan, Value: value, Units: units}}
}

func below(metric string, value float64, units string) *model.MetricThreshold {
	return &model.MetricThreshold{Metric: metric, Threshold: model.Threshold{Operator: model.LessThan, Value: value, Units: units}}
}

func build(group model.ID, origin string, now time.Time, rules []rule) []model.AlertConfig {
	all := make([]model.AlertConfig, 0, len(rules))
	for _, r := range rules {
		id := model.DeriveID("alertConfig", string(group), origin, string(r.event), r.name)
		c := model.AlertConfig{
			ID: id, GroupID: group, EventType: r.event, Enabled: r.enabled, Metric: r.metric, Threshold: r.threshold,
			Created: now, Updated: now, Origin: origin, Note: r.note,
		}
		n := model.Notification{ID: model.DeriveID("notifier", string(id)), Channel: "GROUP", DelayMin: r.delay, IntervalMin: 60, EmailEnabled: true}
		if group == "" {
			n.Channel, n.EmailEnabled = "ADMIN", false
		}
		c.Notifications = []model.Notification{n}
		all = append(all, c)
	}
	seen := map[model.ID]bool{}
	for i := range all {
		if seen[all[i].ID] {
			panic(fmt.Sprintf("shipped: two configurations of %s have one name", all[i].EventType))
		}
		seen[all[i].ID] = true
	}
	return all
}
