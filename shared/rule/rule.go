// Package rule decides what is wrong. A configuration and a Snapshot of what is known go in, verdicts come out (Judge); an
// alert and a verdict go in, the alert's next form and the notifications that are due come out (Advance). It is pure: no
// clock, no store, no network; the same values always give the same answer, so that a rule can be tried on history.
//
// This package judges; its own packages hold the table of event types (kind), units of thresholds (unit), matchers (match),
// faults and warnings (check), the life of alerts (machine), windows and silences (mute), and MongoDB's releases (release). Callers need only this one. It
// may import shared/model, shared/catalog, shared/rollup and those.
package rule

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/check"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
	"github.com/heartwood-db/heartwood/shared/rule/machine"
	"github.com/heartwood-db/heartwood/shared/rule/match"
	"github.com/heartwood-db/heartwood/shared/rule/mute"
	"github.com/heartwood-db/heartwood/shared/rule/unit"
)

// The types of the packages below, under the names callers use.
type (
	// Category is the kind of thing an alert is about: the first five are the kinds of maintenance windows.
	Category = kind.Category
	// Type is what a configuration can look for.
	Type = kind.Type
	// Verdict is what a configuration says of one target.
	Verdict = machine.Verdict
	// State is what a verdict comes to.
	State = machine.State
	// Due is a notification to be sent.
	Due = machine.Due
	// Fault is something wrong with a configuration.
	Fault = check.Fault
	// Mute says why nobody is to be told of a target's alerts now, or "".
	Mute = mute.Mute
)

// Limits of configurations.
const (
	MinInterval      = check.MinInterval
	MaxInterval      = check.MaxInterval
	MaxDelay         = check.MaxDelay
	MaxNotifications = check.MaxNotifications
	MaxNote          = check.MaxNote
)

// The categories.
const (
	Host       = kind.Host
	ReplicaSet = kind.ReplicaSet
	Cluster    = kind.Cluster
	Agent      = kind.Agent
	Backup     = kind.Backup
	Group      = kind.Group
	Site       = kind.Site
)

// The states of verdicts. Gone is only ever an answer of Judgement.Of: the target is none of the configuration's (any more).
const (
	Good    = machine.Good
	Bad     = machine.Bad
	Unknown = machine.Unknown
	Gone    = machine.Gone
)

// Rest is how long after an alert's end the next one about the same target holds its first notification back.
const Rest = machine.Rest

// Types lists every event type that a configuration may name, in the order they are offered.
func Types() []Type { return kind.Types() }

// TypeOf returns a type by name.
func TypeOf(name model.EventType) (Type, bool) { return kind.TypeOf(name) }

// MatcherFields lists the fields of matchers.
func MatcherFields() []string { return kind.Fields() }

// Operators lists the operators of matchers.
func Operators() []string { return match.Operators() }

// MaxText is how many characters the description of a maintenance window or the comment of a silence may have.
const MaxText = check.MaxText

// CheckWindow lists everything that is wrong with a maintenance window.
func CheckWindow(w *model.MaintenanceWindow) []Fault { return check.Window(w) }

// WindowKinds lists the kinds of alerts that maintenance windows may be about.
func WindowKinds() []string { return check.WindowKinds() }

// Weekdays lists the names of days, Sunday first, as model.Recurrence counts them.
func Weekdays() []string { return check.Weekdays() }

// Check lists everything that is wrong with a configuration. channels checks one notification's own fields (notify.Check),
// with paths below the notification; nil leaves them unchecked.
func Check(c *model.AlertConfig, channels func(n model.Notification, global bool) []Fault) []Fault {
	return check.Check(c, channels)
}

// Warnings says what is odd about a valid configuration, in sentences: that no host matches, that hosts lack the metric.
// hosts are those of the group.
func Warnings(c *model.AlertConfig, hosts []model.Host) []string { return check.Warnings(c, hosts) }

// Units lists the units a threshold on the metric may have, its own first.
func Units(m catalog.Measurement) []string { return unit.Names(m) }

// Convert turns a value of the catalogue's unit into another unit that Units lists.
func Convert(value float64, from catalog.Unit, to string) (float64, error) {
	return unit.Convert(value, from, to)
}

// MetricOf returns the measurement that a metric threshold names: by its name in the catalogue, one of its aliases, or the
// classic metricName.
func MetricOf(name string) (catalog.Measurement, bool) { return unit.Find(name) }

// Muted makes a Mute of a group's maintenance windows and silences. hosts are those that silences' matchers may name.
func Muted(windows []model.MaintenanceWindow, silences []model.Silence, hosts []model.Host) Mute {
	return mute.Muted(windows, silences, hosts)
}

// Occurrence is the occurrence of a maintenance window that is on at now, else the next one; ok is false when none will be.
func Occurrence(w *model.MaintenanceWindow, now time.Time) (start, end time.Time, ok bool) {
	return mute.Occurrence(w, now)
}

// Advance takes an alert one verdict further. a is nil when none is live, or the newest one about the target when it ended
// less than Rest ago: then next, if any, is a new alert, without an ID. next is nil when there is nothing to keep; it is never
// a itself, and equal to a when nothing changed. An alert whose configuration was disabled or changed in a way that matters,
// or whose target is Gone, is cancelled.
//
// Called again with the same values it decides the same, so a crash between the outbox and the alert repeats deliveries'
// identities.
func Advance(a *model.Alert, c *model.AlertConfig, v Verdict, mute string, now time.Time) (next *model.Alert, due []Due) {
	return machine.Advance(a, c, v, mute, now)
}

// Cancel ends an alert whose configuration or target is gone. Notifications are taken from c; where c is nil (deleted) or no
// longer has one, from the alert's own copy of the rule, which has no secrets: the caller must find those.
func Cancel(a *model.Alert, c *model.AlertConfig, why string, now time.Time) (*model.Alert, []Due) {
	return machine.Cancel(a, c, why, now)
}

// Acknowledge takes an alert on until a time; a zero or past one ends the acknowledgement. The fields of a finished alert
// change, and nothing else. Notifications come from c as in Cancel: c may be nil.
func Acknowledge(a *model.Alert, c *model.AlertConfig, until time.Time, by, comment string, now time.Time) (*model.Alert, []Due) {
	return machine.Acknowledge(a, c, until, by, comment, now)
}

// Inform is the alert that tells of an event. Its ID is derived from configuration and event.
func Inform(c *model.AlertConfig, e *model.Event, target model.Target, text, mute string) (*model.Alert, []Due) {
	return machine.Inform(c, e, target, text, mute)
}
