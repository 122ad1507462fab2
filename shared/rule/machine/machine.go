package machine

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
)

// Advance takes an alert one verdict further. a is nil when none is live, or the newest one about the target when it ended
// less than Rest ago: then the next, if any, is a new alert, without an ID. next is nil when there is nothing to keep. It is
// never a itself, but equal to it when nothing changed. An alert whose configuration was disabled or changed in a way that
// matters, or whose target is Gone, is cancelled.
func Advance(a *model.Alert, c *model.AlertConfig, v Verdict, mute string, now time.Time) (*model.Alert, []Due) {
	t, _ := kind.TypeOf(c.EventType)
	if a == nil || !a.Status.Live() {
		if v.State != Bad || !c.Enabled {
			return nil, nil
		}
		n := begin(a, c, v, now)
		due := n.tell(c, t, mute, now)
		return n.Alert, due
	}
	switch {
	case !c.Enabled:
		return Cancel(a, c, "the configuration was disabled", now)
	case Matters(&a.Rule, c):
		return Cancel(a, c, "the configuration was changed", now)
	case v.State == Gone:
		return Cancel(a, c, v.Why, now)
	}
	n := copyOf(a)
	n.ackEnds(now)
	switch v.State {
	case Bad:
		n.bad(t, v, now)
		due := n.tell(c, t, mute, now)
		return n.Alert, due
	case Good:
		return n.Alert, n.good(c, t, v, now)
	}
	return n.Alert, n.unknown(c, t, v, mute, now)
}

// Matters reports whether two forms of a configuration ask different questions: then its live alerts answer the wrong one.
func Matters(a, b *model.AlertConfig) bool {
	return a.EventType != b.EventType || !slices.Equal(a.Matchers, b.Matchers) || !same(a.Metric, b.Metric) || !same(a.Threshold, b.Threshold)
}

func same[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// alert is an alert in the making.
type alert struct{ *model.Alert }

// begin makes the alert of a condition first seen.
func begin(before *model.Alert, c *model.AlertConfig, v Verdict, now time.Time) alert {
	n := alert{&model.Alert{
		GroupID: v.GroupID, ConfigID: c.ID, EventType: c.EventType, Status: model.AlertTracking, Target: v.Target,
		Global: c.GroupID == "", Rule: plain(c), Since: sinceOf(v, now), Created: now, Updated: now,
	}}
	if n.Global {
		n.Tags = slices.Clone(v.Tags)
	}
	// Whoever was told of the one before is not told again at once: it flaps. A rule that was changed is a new question.
	if before != nil && !before.Opened.IsZero() && now.Sub(before.Resolved) < Rest && !Matters(&before.Rule, c) {
		n.HoldUntil = before.Resolved.Add(Rest)
	}
	n.read(v)
	if v.NoData {
		n.NoDataSince, n.NoDataWhy = n.Since, v.Text
	}
	n.step(now, model.StepTracked, v.Text, n.Value)
	return n
}

// sinceOf is when a condition began, as precisely as the store keeps times: else a stored alert would seem to begin anew.
func sinceOf(v Verdict, now time.Time) time.Time {
	if v.Since.IsZero() || v.Since.After(now) {
		return now.Truncate(time.Millisecond)
	}
	return v.Since.Truncate(time.Millisecond)
}

// read takes over what the verdict rests on.
func (n alert) read(v Verdict) {
	n.Text = v.Text
	if v.Value == nil {
		return
	}
	value := *v.Value
	n.Value = &value
	n.Samples = slices.Clone(v.Samples[max(0, len(v.Samples)-maxSamples):])
	if v.State == Bad && (n.Worst == nil || n.worse(value.Number)) {
		worst := value
		n.Worst = &worst
	}
}

func (n alert) worse(x float64) bool {
	operator := model.GreaterThan
	switch {
	case n.Rule.Metric != nil:
		operator = n.Rule.Metric.Operator
	case n.Rule.Threshold != nil:
		operator = n.Rule.Threshold.Operator
	}
	if operator == model.LessThan {
		return x < n.Worst.Number
	}
	return x > n.Worst.Number
}

// bad: the condition holds.
func (n alert) bad(t kind.Type, v Verdict, now time.Time) {
	if v.NoData {
		if n.NoDataSince.IsZero() {
			n.NoDataSince = sinceOf(v, now)
			n.step(now, model.StepNoData, v.Text, nil)
		}
		if n.Status == model.AlertTracking && n.NoDataSince.After(n.Since) {
			// What was watched is not known any more; that nothing arrives is what lasts.
			n.Since, n.NoDataSince, n.Paused = sinceOf(v, now), sinceOf(v, now), 0
		}
		n.NoDataWhy = v.Text
	} else {
		n.known(now)
	}
	n.GoodSince = time.Time{}
	// A state that began anew while it was only watched has its delay before it once more. Averages have no beginning.
	if since := sinceOf(v, now); n.Status == model.AlertTracking && !t.Metric && since.After(n.Since) && !v.Since.IsZero() {
		n.Since, n.Paused = since, 0
	}
	if n.Text != v.Text || v.Value != nil && !same(n.Value, v.Value) {
		n.Updated = now
	}
	n.read(v)
}

// known ends a time without news.
func (n alert) known(now time.Time) {
	if n.NoDataSince.IsZero() {
		return
	}
	if n.Status == model.AlertTracking {
		n.Paused = now.Sub(n.Since) - Held(n.Alert, now)
	}
	n.NoDataSince, n.NoDataWhy = time.Time{}, ""
	n.step(now, model.StepDataAgain, "", nil)
}

// good: the condition does not hold. An average must be good twice: it dances around its threshold.
func (n alert) good(c *model.AlertConfig, t kind.Type, v Verdict, now time.Time) []Due {
	n.known(now)
	if v.Value != nil {
		value := *v.Value
		n.Value, n.Samples = &value, slices.Clone(v.Samples[max(0, len(v.Samples)-maxSamples):])
	}
	if t.Metric && (n.GoodSince.IsZero() || !now.After(n.GoodSince)) {
		if n.GoodSince.IsZero() {
			n.GoodSince, n.Updated = now, now
		}
		return nil
	}
	if n.GoodSince.IsZero() {
		n.GoodSince = now
	}
	n.Resolved, n.Muted = now, ""
	if n.Status == model.AlertTracking {
		// Nobody was told, and nobody has to be.
		n.Status = model.AlertCancelled
		n.step(now, model.StepCancelled, "It ended before anybody had to be told.", n.Value)
		return nil
	}
	n.Status = model.AlertClosed
	n.step(now, model.StepClosed, "", n.Value)
	return n.ended(c, model.DeliverClose, now)
}

// unknown: nothing opens and nothing closes.
func (n alert) unknown(c *model.AlertConfig, t kind.Type, v Verdict, mute string, now time.Time) []Due {
	if !n.NoDataSince.IsZero() {
		if n.NoDataWhy != v.Why {
			n.NoDataWhy, n.Updated = v.Why, now
		}
		return nil
	}
	n.NoDataSince, n.NoDataWhy = now, v.Why
	n.step(now, model.StepNoData, sentence(v.Why), nil)
	// When all news of a host stop, other alerts tell. A single metric that stops is told by the alert that looks at it.
	if n.Status != model.AlertOpen || !v.NoData || mute != "" || n.Acknowledged(now) {
		return nil
	}
	var due []Due
	for i := range n.Notified {
		if to := find(c, n.Notified[i].NotifierID); to != nil {
			due = append(due, n.send(to, t, now))
		}
	}
	n.told(due, now)
	return due
}

// tell opens the alert when its time has come and sends what is due.
func (n alert) tell(c *model.AlertConfig, t kind.Type, mute string, now time.Time) []Due {
	held := Held(n.Alert, now)
	if n.Status == model.AlertTracking {
		if held < shortest(c, t) {
			return nil
		}
		n.Status, n.Opened = model.AlertOpen, now
		n.step(now, model.StepOpened, n.Text, n.Value)
	}
	n.muted(mute, now)
	if mute != "" || n.Acknowledged(now) || now.Before(n.HoldUntil) {
		return nil
	}
	var due []Due
	for i := range c.Notifications {
		to := &c.Notifications[i]
		j := n.notified(to.ID)
		if j < 0 && held >= delay(to, t) || j >= 0 && !now.Add(slack).Before(n.Notified[j].Next) {
			due = append(due, n.send(to, t, now))
		}
	}
	n.told(due, now)
	return due
}

// send decides one more message of a notification.
func (n alert) send(to *model.Notification, t kind.Type, now time.Time) Due {
	what := model.DeliverUpdate
	j := n.notified(to.ID)
	if j < 0 {
		n.Notified = append(n.Notified, model.Notified{NotifierID: to.ID, First: now})
		j, what = len(n.Notified)-1, model.DeliverOpen
		if find(&n.Rule, to.ID) == nil { // came to the configuration since: its end is told too, whatever becomes of it
			own := *to
			own.Secrets = nil
			n.Rule.Notifications = append(n.Rule.Notifications, own)
		}
	}
	d := &n.Notified[j]
	d.Count++
	d.Last = now
	d.Next = next(d, to.IntervalMin, t.Repeat, now)
	return Due{Kind: what, N: d.Count, Notification: *to}
}

func (n alert) notified(id model.ID) int {
	return slices.IndexFunc(n.Notified, func(d model.Notified) bool { return d.NotifierID == id })
}

// told notes in the history who is told.
func (n alert) told(due []Due, now time.Time) {
	if len(due) == 0 {
		return
	}
	n.LastNotified = now
	var b strings.Builder
	for i, d := range due {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(d.Kind) + " to " + d.Notification.Channel)
		if d.Kind == model.DeliverUpdate {
			b.WriteString(" (number " + strconv.Itoa(d.N) + ")")
		}
	}
	n.step(now, model.StepNotified, b.String(), n.Value)
}

// muted notes that nobody is told now, or again.
func (n alert) muted(mute string, now time.Time) {
	switch {
	case mute == n.Muted:
	case mute == "":
		n.step(now, model.StepUnmuted, sentence(n.Muted+" is over"), nil)
	case n.Muted == "":
		n.step(now, model.StepMuted, sentence(mute), nil)
	}
	n.Muted = mute
}

// ended sends the end of an alert to those who were told of it, muted or not: who was called is called off. A notification
// that the configuration no longer has is taken from the alert's own copy, which has no secrets.
func (n alert) ended(c *model.AlertConfig, what model.DeliveryKind, now time.Time) []Due {
	var due []Due
	for i := range n.Notified {
		var to *model.Notification
		if c != nil {
			to = find(c, n.Notified[i].NotifierID)
		}
		if to == nil {
			to = find(&n.Rule, n.Notified[i].NotifierID)
		}
		if to != nil {
			due = append(due, Due{Kind: what, N: 1, Notification: *to})
		}
	}
	n.told(due, now)
	return due
}

func find(c *model.AlertConfig, id model.ID) *model.Notification {
	for i := range c.Notifications {
		if c.Notifications[i].ID == id {
			return &c.Notifications[i]
		}
	}
	return nil
}

// Cancel ends an alert whose configuration or target is gone. Notifications are taken from c; where c is nil (deleted) or no
// longer has one, from the alert's own copy of the rule, which has no secrets: the caller must find those.
func Cancel(a *model.Alert, c *model.AlertConfig, why string, now time.Time) (*model.Alert, []Due) {
	n := copyOf(a)
	if !a.Status.Live() {
		return n.Alert, nil
	}
	n.Status, n.Resolved, n.Muted = model.AlertCancelled, now, ""
	n.step(now, model.StepCancelled, sentence(why), nil)
	return n.Alert, n.ended(c, model.DeliverCancel, now)
}

// step adds to the history. The middle of a long one is left out.
func (n alert) step(at time.Time, what model.StepKind, text string, value *model.Reading) {
	n.Updated = at
	if value != nil {
		v := *value
		value = &v
	}
	n.History = append(n.History, model.AlertStep{At: at, Kind: what, Text: text, Value: value})
	if len(n.History) > firstSteps+lastSteps {
		n.History = slices.Delete(n.History, firstSteps, len(n.History)-lastSteps)
	}
}

// copyOf copies what steps change.
func copyOf(a *model.Alert) alert {
	n := *a
	n.Notified = slices.Clone(a.Notified)
	n.Rule.Notifications = slices.Clone(a.Rule.Notifications)
	n.History = slices.Clone(a.History)
	return alert{&n}
}

// plain is a configuration without secrets, sharing nothing with it.
func plain(c *model.AlertConfig) model.AlertConfig {
	p := *c
	p.Matchers = slices.Clone(c.Matchers)
	p.Notifications = slices.Clone(c.Notifications)
	for i := range p.Notifications {
		p.Notifications[i].Secrets = nil
	}
	if c.Metric != nil {
		m := *c.Metric
		p.Metric = &m
	}
	if c.Threshold != nil {
		t := *c.Threshold
		p.Threshold = &t
	}
	return p
}

// sentence makes a sentence of a reason.
func sentence(why string) string {
	if why == "" {
		return ""
	}
	return strings.ToUpper(why[:1]) + why[1:] + "."
}
