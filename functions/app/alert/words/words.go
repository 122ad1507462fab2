// Package words says rules and alerts in sentences: what a configuration looks for, where, whom it tells and when, and how an
// alert stands. The pages of alerts, of their settings and of what is monitored share it. It only turns values into text.
package words

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// Type is an event type as people read it.
func Type(t model.EventType) string {
	if known, ok := rule.TypeOf(t); ok && known.Label != "" {
		return known.Label
	}
	s := strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(string(t), "_AUDIT"), "_", " "))
	if s == "" {
		return "Alert"
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// Category is a kind of thing that alerts are about, in the plural.
func Category(c rule.Category) string {
	switch c {
	case rule.Host:
		return "Hosts"
	case rule.ReplicaSet:
		return "Replica sets"
	case rule.Cluster:
		return "Sharded clusters"
	case rule.Agent:
		return "Agents"
	case rule.Backup:
		return "Backup"
	case rule.Group:
		return "Group and people"
	case rule.Site:
		return "This site"
	}
	return string(c)
}

// Metric is a measurement's name in running text: its chart's title and its name in there.
func Metric(name string) string {
	m, ok := rule.MetricOf(name)
	if !ok {
		return name
	}
	prefix := ""
	if m.Max {
		prefix = "largest "
	}
	c, ok := catalog.ChartByID(m.Chart)
	switch {
	case m.Name == "OPLOG_SLAVE_LAG_MASTER_TIME":
		return prefix + "Replication lag"
	case !ok:
		s := strings.ToLower(strings.ReplaceAll(cmp.Or(m.Base, m.Name), "_", " "))
		if prefix == "" {
			s = strings.ToUpper(s[:1]) + s[1:]
		}
		return prefix + s
	case m.Series == "" || strings.EqualFold(m.Series, c.Title):
		return prefix + c.Title
	}
	return prefix + c.Title + " (" + m.Series + ")"
}

// Number is a value with its unit as the Public API spells it. Plain values of a metric have the unit of the catalogue.
func Number(v float64, units, metric string) string {
	n := view.Measure(v, string(catalog.Scalar))
	if units == "" || units == "RAW" {
		if m, ok := rule.MetricOf(metric); ok && metric != "" {
			switch m.Unit {
			case catalog.Percent:
				return n + " %"
			case catalog.ScalarPerSecond:
				return n + "/s"
			case catalog.GBPerHour:
				return n + " GB/h"
			case catalog.Scalar, catalog.Milliseconds, catalog.Seconds, catalog.Bytes, catalog.Kilobytes, catalog.Megabytes, catalog.BytesPerSecond, catalog.MBPerSecond:
			}
		}
		return n
	}
	tail := ""
	if m, ok := rule.MetricOf(metric); ok && (m.Unit == catalog.BytesPerSecond || m.Unit == catalog.MBPerSecond) {
		tail = "/s"
	}
	return n + " " + UnitShort(units) + tail
}

// UnitShort is a unit of the Public API in a few letters.
func UnitShort(units string) string {
	short := map[string]string{
		"BITS": "bit", "KILOBITS": "kbit", "MEGABITS": "Mbit", "GIGABITS": "Gbit", "BYTES": "B", "KILOBYTES": "KiB", "MEGABYTES": "MiB",
		"GIGABYTES": "GiB", "TERABYTES": "TiB", "PETABYTES": "PiB", "MILLISECONDS": "ms", "SECONDS": "s", "MINUTES": "min", "HOURS": "h", "DAYS": "d",
	}
	if s, ok := short[units]; ok {
		return s
	}
	if units == "RAW" || units == "" {
		return "plain number"
	}
	return strings.ToLower(units)
}

// Reading is a measured value; "" for none.
func Reading(r *model.Reading, metric string) string {
	if r == nil {
		return ""
	}
	return Number(r.Number, r.Units, metric)
}

func comparison(op string) string {
	if op == model.LessThan {
		return "below"
	}
	return "above"
}

// Condition is what a configuration looks for.
func Condition(c *model.AlertConfig) string {
	switch {
	case c.Metric != nil:
		return Metric(c.Metric.Metric) + " " + comparison(c.Metric.Operator) + " " + Number(c.Metric.Value, c.Metric.Units, c.Metric.Metric)
	case c.Threshold != nil:
		return Type(c.EventType) + ": " + comparison(c.Threshold.Operator) + " " + Number(c.Threshold.Value, c.Threshold.Units, "")
	}
	return Type(c.EventType)
}

// Field is a matcher's field in running text.
func Field(name string) string {
	switch name {
	case "HOSTNAME":
		return "host name"
	case "PORT":
		return "port"
	case "HOSTNAME_AND_PORT":
		return "host and port"
	case "REPLICA_SET_NAME":
		return "replica set"
	case "TYPE_NAME":
		return "type"
	case "CLUSTER_NAME":
		return "cluster"
	case "SHARD_NAME":
		return "shard"
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", " "))
}

// Operator is how a matcher compares.
func Operator(name string) string {
	switch name {
	case "EQUALS":
		return "is"
	case "NOT_EQUALS":
		return "is not"
	case "CONTAINS":
		return "contains"
	case "NOT_CONTAINS":
		return "does not contain"
	case "STARTS_WITH":
		return "starts with"
	case "ENDS_WITH":
		return "ends with"
	case "REGEX":
		return "fits the expression"
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", " "))
}

// Where narrows a configuration in words; "" when it is about everything of its kind.
func Where(c *model.AlertConfig) string {
	parts := make([]string, len(c.Matchers))
	for i, m := range c.Matchers {
		parts[i] = Field(m.Field) + " " + Operator(m.Operator) + " " + m.Value
	}
	return strings.Join(parts, " and ")
}

// Minutes is a span of whole minutes.
func Minutes(n int) string {
	switch {
	case n != 0 && n%1440 == 0:
		return strconv.Itoa(n/1440) + " d"
	case n != 0 && n%60 == 0:
		return strconv.Itoa(n/60) + " h"
	}
	return strconv.Itoa(n) + " min"
}

// When says when a notification goes out.
func When(n model.Notification, inform bool) string {
	out := "at once"
	if n.DelayMin > 0 {
		out = "after " + Minutes(n.DelayMin)
	}
	if !inform && n.IntervalMin > 0 {
		out += ", again after " + Minutes(n.IntervalMin)
	}
	return out
}

// Who says whom a notification tells, without anything secret.
func Who(n model.Notification) string {
	label := n.Channel
	if ch, ok := notify.ChannelOf(n.Channel); ok {
		label = ch.Label
	}
	to := notify.Destination(n)
	switch {
	case to == "" || strings.EqualFold(to, label):
		return label
	}
	return label + ": " + to
}

// Delay is the smallest delay of a configuration's notifications, in minutes.
func Delay(c *model.AlertConfig) int {
	if len(c.Notifications) == 0 {
		return 0
	}
	least := slices.MinFunc(c.Notifications, func(a, b model.Notification) int { return cmp.Compare(a.DelayMin, b.DelayMin) }).DelayMin
	if t, ok := rule.TypeOf(c.EventType); ok {
		least = max(least, t.MinDelay)
	}
	return least
}

// Rule is a whole configuration in a sentence.
func Rule(c *model.AlertConfig) string {
	var b strings.Builder
	b.WriteString(Condition(c))
	if w := Where(c); w != "" {
		b.WriteString(", where " + w)
	}
	if t, ok := rule.TypeOf(c.EventType); ok && t.Inform {
		b.WriteString(": told once, when it happens.")
		return b.String()
	}
	if d := Delay(c); d > 0 {
		b.WriteString(", for " + Minutes(d) + " or longer")
	}
	b.WriteString(".")
	return b.String()
}

// State is how an alert stands.
func State(a *model.Alert, now time.Time) view.State {
	switch {
	case a.Inform:
		return view.State{Level: view.Info, Word: "information", Why: "It tells of an event. Nothing stays open."}
	case a.Status == model.AlertOpen && a.Acknowledged(now):
		return view.State{Level: view.Warning, Word: "acknowledged", Why: "Somebody has taken it on. The condition still holds."}
	case a.Status == model.AlertOpen:
		return view.State{Level: view.Critical, Word: "open", Why: "The condition holds."}
	case a.Status == model.AlertTracking:
		return view.State{Level: view.Warning, Word: "tracking", Why: "The condition holds, but not yet for long enough to tell anybody."}
	case a.Status == model.AlertClosed:
		return view.State{Level: view.OK, Word: "closed", Why: "The condition holds no longer."}
	case a.Status == model.AlertCancelled && a.Opened.IsZero():
		return view.State{Level: view.Unknown, Word: "cancelled", Why: "It ended before anybody was to be told."}
	case a.Status == model.AlertCancelled:
		return view.State{Level: view.Unknown, Word: "cancelled", Why: "Its rule or its target is gone or has changed."}
	}
	return view.State{Level: view.Unknown, Word: strings.ToLower(string(a.Status))}
}

// Target is what an alert is about.
func Target(t *model.Target) string {
	switch {
	case t.HostName != "":
		return t.HostName
	case t.ClusterName != "" && t.ShardName != "" && t.ShardName != t.ClusterName:
		return t.ClusterName + " / " + t.ShardName
	case t.ClusterName != "":
		return t.ClusterName
	case t.ReplicaSet != "":
		return t.ReplicaSet
	}
	switch kind, rest, _ := strings.Cut(t.Key, "/"); kind {
	case "agent":
		if a, _, _ := strings.Cut(rest, "/"); strings.EqualFold(a, string(model.AgentMonitoring)) || strings.EqualFold(a, string(model.AgentBackup)) {
			return strings.ToLower(a) + " agent"
		}
		return "agent " + view.Middle(rest, 13)
	case "group":
		return "the group"
	case "site":
		return rest
	}
	return ""
}

// Forever reports whether an end is so far away that people call it for ever.
func Forever(t, now time.Time) bool { return t.Sub(now) > 20*365*24*time.Hour }

// Channel is a channel's name for people.
func Channel(name string) string {
	if ch, ok := notify.ChannelOf(name); ok {
		return ch.Label
	}
	return name
}

// Role is a role in words.
func Role(r model.Role) string {
	parts := strings.Split(strings.ToLower(string(r)), "_")
	for i := range parts {
		if parts[i] != "" {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
	}
	return strings.Join(parts, " ")
}

// Sentence makes one of a text: a capital first, unless it begins with a name or an address, and a full stop last.
func Sentence(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	if word, _, _ := strings.Cut(s, " "); !strings.ContainsAny(strings.TrimRight(word, ".:,"), "@.:/[0123456789") {
		first, n := utf8.DecodeRuneInString(s)
		s = string(unicode.ToUpper(first)) + s[n:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
