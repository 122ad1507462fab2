// Package check says what is wrong with a configuration and what is odd about it, before anybody relies on it.
//
// It may import shared/model and the packages kind, match, unit and release beside it.
package check

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
	"github.com/heartwood-db/heartwood/shared/rule/match"
	"github.com/heartwood-db/heartwood/shared/rule/unit"
)

// Limits of configurations.
const (
	MinInterval      = 5        // minutes between two notifications
	MaxInterval      = 7 * 1440 // minutes; distances are never longer than a day anyway
	MaxDelay         = 7 * 1440
	MaxNotifications = 50
	MaxNote          = 4000 // bytes
)

// Fault is something wrong with a configuration.
type Fault struct {
	Path string // "notifications[0].webhookUrl", spelled as in the Public API
	Code string // of the Public API
	Text string // a sentence
}

// inGroups are types of the whole site that clients may put into a group's configuration nevertheless, where they stay silent.
var inGroups = []model.EventType{model.EventGroupCreated, model.EventOrgRenamed, model.EventAPIKeyCreated, model.EventAPIKeyDeleted}

// checker collects faults.
type checker struct{ faults []Fault }

func (k *checker) add(path, code, format string, args ...any) {
	k.faults = append(k.faults, Fault{path, code, fmt.Sprintf(format, args...)})
}

// Check lists everything that is wrong with a configuration. channels checks one notification's own fields (notify.Check),
// with paths below the notification; nil leaves them unchecked.
func Check(c *model.AlertConfig, channels func(n model.Notification, global bool) []Fault) []Fault {
	k := &checker{}
	t, ok := kind.TypeOf(c.EventType)
	switch {
	case c.EventType == "":
		k.add("eventTypeName", "MISSING_ATTRIBUTE", "The event type is missing.")
	case !ok:
		k.add("eventTypeName", "INVALID_EVENT_TYPE_FOR_ALERT", "There is no event type %s for alerts.", strconv.Quote(string(c.EventType)))
	case t.Global && c.GroupID != "" && !slices.Contains(inGroups, t.Name):
		k.add("eventTypeName", "GLOBAL_ALERTS_ONLY", "%s is about the whole site: only a global configuration can look for it.", t.Name)
	}
	if ok {
		k.threshold(c, t)
		k.metric(c, t)
		k.matchers(c, t)
	}
	k.notifications(c, t, channels)
	if len(c.Note) > MaxNote {
		k.add("note", "INVALID_ATTRIBUTE", "The note is longer than %d bytes.", MaxNote)
	}
	return k.faults
}

func (k *checker) threshold(c *model.AlertConfig, t kind.Type) {
	th := c.Threshold
	switch {
	case th == nil && t.Threshold != "" && !t.Optional:
		k.add("threshold", "MISSING_THRESHOLD", "%s needs a threshold.", t.Name)
	case th == nil:
	case t.Threshold == "":
		k.add("threshold", "THRESHOLD_PRESENT", "%s takes no threshold.", t.Name)
	default:
		if th.Operator != t.Threshold {
			k.add("threshold.operator", "INVALID_OPERATOR_FOR_EVENT_TYPE", "The operator of %s is %s, not %s.", t.Name, t.Threshold, strconv.Quote(th.Operator))
		}
		switch {
		case math.IsNaN(th.Value) || math.IsInf(th.Value, 0) || th.Value != math.Trunc(th.Value):
			k.add("threshold.threshold", "INVALID_ATTRIBUTE", "The threshold of %s counts: it must be a whole number.", t.Name)
		case th.Value < 0:
			k.add("threshold.threshold", "ATTRIBUTE_NEGATIVE", "The threshold is negative.")
		}
		if th.Units != "" && th.Units != unit.Raw {
			k.add("threshold.units", "UNITS_MISMATCH", "A count has the unit RAW, not %s.", strconv.Quote(th.Units))
		}
	}
}

func (k *checker) metric(c *model.AlertConfig, t kind.Type) {
	m := c.Metric
	switch {
	case m == nil && t.Metric:
		k.add("metricThreshold", "MISSING_METRIC_THRESHOLD", "%s needs a metric threshold.", t.Name)
	case m == nil:
	case !t.Metric:
		k.add("metricThreshold", "METRIC_THRESHOLD_PRESENT", "%s takes no metric threshold.", t.Name)
	default:
		found, ok := unit.Find(m.Metric)
		switch {
		case m.Metric == "":
			k.add("metricThreshold.metricName", "MISSING_ATTRIBUTE", "The measurement is missing.")
		case !ok:
			k.add("metricThreshold.metricName", "INVALID_METRIC_NAME", "There is no measurement %s.", strconv.Quote(m.Metric))
		default:
			if names := unit.Names(found); m.Units != "" && !slices.Contains(names, m.Units) {
				k.add("metricThreshold.units", "UNITS_MISMATCH", "%s is in %s, not in %s.", m.Metric, strings.Join(names, ", "), strconv.Quote(m.Units))
			}
		}
		if m.Operator != model.GreaterThan && m.Operator != model.LessThan {
			k.add("metricThreshold.operator", "INVALID_ENUM_VALUE", "The operator is GREATER_THAN or LESS_THAN, not %s.", strconv.Quote(m.Operator))
		}
		if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
			k.add("metricThreshold.threshold", "INVALID_ATTRIBUTE", "The threshold is no number.")
		}
	}
}

func (k *checker) matchers(c *model.AlertConfig, t kind.Type) {
	if len(c.Matchers) > match.MaxMatchers {
		k.add("matchers", "INVALID_ATTRIBUTE", "There are more than %d matchers.", match.MaxMatchers)
	}
	for i, m := range c.Matchers {
		path := fmt.Sprintf("matchers[%d]", i)
		switch {
		case len(t.MatcherFields) == 0:
			k.add(path, "INVALID_ATTRIBUTE", "%s takes no matchers.", t.Name)
			continue
		case !slices.Contains(t.MatcherFields, m.Field):
			k.add(path+".fieldName", "INVALID_ATTRIBUTE", "Matchers of %s take %s, not %s.", t.Name, strings.Join(t.MatcherFields, ", "), strconv.Quote(m.Field))
			continue
		case !slices.Contains(match.Operators(), m.Operator):
			k.add(path+".operator", "INVALID_ENUM_VALUE", "The operator is one of %s, not %s.", strings.Join(match.Operators(), ", "), strconv.Quote(m.Operator))
			continue
		}
		if err := match.Check(m); err != nil {
			k.add(path+".value", "INVALID_ATTRIBUTE", "%s%s.", strings.ToUpper(err.Error()[:1]), err.Error()[1:])
			continue
		}
		exact := m.Operator == match.Equals || m.Operator == match.NotEquals
		if m.Field == kind.TypeName && exact && !slices.Contains(match.TypeNames(), m.Value) {
			k.add(path+".value", "INVALID_ENUM_VALUE", "A type is one of %s, not %s.", strings.Join(match.TypeNames(), ", "), strconv.Quote(m.Value))
		}
		if n, err := strconv.Atoi(m.Value); m.Field == kind.Port && exact && (err != nil || n < 1 || n > 65535) {
			k.add(path+".value", "INVALID_ATTRIBUTE", "A port is a number from 1 to 65535, not %s.", strconv.Quote(m.Value))
		}
	}
}

func (k *checker) notifications(c *model.AlertConfig, t kind.Type, channels func(model.Notification, bool) []Fault) {
	switch n := len(c.Notifications); {
	case n == 0:
		k.add("notifications", "MISSING_NOTIFICATIONS", "Nobody would be told: a notification is missing.")
	case n > MaxNotifications:
		k.add("notifications", "INVALID_ATTRIBUTE", "There are more than %d notifications.", MaxNotifications)
	}
	seen, ids := map[string]int{}, map[model.ID]bool{}
	for i := range c.Notifications {
		n := &c.Notifications[i]
		path := fmt.Sprintf("notifications[%d]", i)
		// What happens once is told once: its interval means nothing.
		if n.IntervalMin > MaxInterval || n.IntervalMin < MinInterval && (!t.Inform || n.IntervalMin < 0) {
			k.add(path+".intervalMin", "NOTIFICATION_INTERVAL_OUT_OF_RANGE", "The interval is from %d to %d minutes, not %d.", MinInterval, MaxInterval, n.IntervalMin)
		}
		switch {
		case n.DelayMin < 0:
			k.add(path+".delayMin", "ATTRIBUTE_NEGATIVE", "The delay is negative.")
		case n.DelayMin > MaxDelay:
			k.add(path+".delayMin", "INVALID_ATTRIBUTE", "The delay is longer than %d minutes.", MaxDelay)
		}
		if n.ID != "" && ids[n.ID] {
			k.add(path+".notifierId", "INVALID_ATTRIBUTE", "Two notifications have the same id.")
		}
		ids[n.ID] = true
		seen[n.Channel]++
		if channels == nil {
			continue
		}
		for _, f := range channels(*n, c.GroupID == "") {
			if f.Path != "" {
				f.Path = "." + f.Path
			}
			f.Path = path + f.Path
			k.faults = append(k.faults, f)
		}
	}
	for _, channel := range []string{"GROUP", "ORG"} {
		if seen[channel] > 1 {
			k.add("notifications", "TOO_MANY_"+channel+"_NOTIFICATIONS", "There is more than one notification to %s.", channel)
		}
	}
}
