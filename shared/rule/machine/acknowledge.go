package machine

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Acknowledge takes an alert on until a time; a zero or past one ends the acknowledgement. The fields of a finished alert
// change, and nothing else. Notifications come from c as in Cancel.
func Acknowledge(a *model.Alert, c *model.AlertConfig, until time.Time, by, comment string, now time.Time) (*model.Alert, []Due) {
	n := copyOf(a)
	was := a.Acknowledged(now)
	if !until.After(now) {
		n.AckUntil, n.AckBy, n.AckComment = time.Time{}, "", ""
		if was && a.Status.Live() {
			n.step(now, model.StepUnacknowledged, by+" gave it back.", nil)
		}
		return n.Alert, nil
	}
	n.AckUntil, n.AckBy, n.AckComment = until, by, comment
	if !a.Status.Live() {
		return n.Alert, nil
	}
	text := by + " took it on until " + until.UTC().Format("2006-01-02 15:04 UTC") + "."
	if comment != "" {
		text += " " + comment
	}
	n.step(now, model.StepAcknowledged, text, nil)
	if was {
		return n.Alert, nil // those told know that somebody is at it
	}
	due := n.ended(c, model.DeliverAcknowledge, now)
	for i := range due {
		// An alert may be taken on again and again, and its history forgets: the time tells the messages apart.
		due[i].N = int(now.Unix())
	}
	return n.Alert, due
}

// ackEnds notes once that an acknowledgement has run out.
func (n alert) ackEnds(now time.Time) {
	if n.AckUntil.IsZero() || n.AckUntil.After(now) {
		return
	}
	n.AckUntil, n.AckBy, n.AckComment = time.Time{}, "", ""
	n.step(now, model.StepUnacknowledged, "The time it was taken on for is over.", nil)
}

// Inform is the alert that tells of an event. Its ID is derived from configuration and event, so that an event that is seen
// twice is told once.
func Inform(c *model.AlertConfig, e *model.Event, target model.Target, text, mute string) (*model.Alert, []Due) {
	n := alert{&model.Alert{
		ID: model.DeriveID("inform", string(c.ID), string(e.ID)), GroupID: e.GroupID, ConfigID: c.ID, EventType: c.EventType,
		Status: model.AlertClosed, Inform: true, Target: target, Global: c.GroupID == "", Rule: plain(c),
		Since: e.At, Created: e.At, Opened: e.At, Resolved: e.At, Text: text, Muted: mute, Value: e.Value,
	}}
	n.step(e.At, model.StepOpened, text, nil)
	if mute != "" {
		n.step(e.At, model.StepMuted, sentence(mute), nil)
		return n.Alert, nil
	}
	due := make([]Due, 0, len(c.Notifications))
	for i := range c.Notifications {
		to := c.Notifications[i]
		n.Notified = append(n.Notified, model.Notified{NotifierID: to.ID, Count: 1, First: e.At, Last: e.At})
		due = append(due, Due{Kind: model.DeliverInform, N: 1, Notification: to})
	}
	n.told(due, e.At)
	return n.Alert, due
}
