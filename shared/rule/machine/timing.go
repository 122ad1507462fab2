package machine

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
)

const (
	// Rest is how long after an alert's end the next one about the same target holds its first notification back.
	Rest = 5 * time.Minute

	// longest is the longest distance between two notifications.
	longest = 24 * time.Hour

	// slack lets a pass that begins a moment early still send what is due: otherwise every repeat would come a pass late.
	slack = 5 * time.Second

	maxSamples   = 20
	firstSteps   = 50 // kept of a long history
	lastSteps    = 150
	defaultRetry = 60 // minutes between repeats of a notification that says nothing
)

// NextNotification is when the next notification is due after count of them, the first of which went out at first: the
// distance grows by one interval each time, up to a day, unless it is fixed.
func NextNotification(first time.Time, count, intervalMin int, fixed time.Duration) time.Time {
	if fixed > 0 {
		return first.Add(time.Duration(count) * fixed)
	}
	interval := minutes(intervalMin)
	if interval <= 0 {
		interval = minutes(defaultRetry)
	}
	if interval >= longest {
		return first.Add(time.Duration(count) * longest)
	}
	// Gaps 1 to growing are below the longest, the others are the longest.
	growing := min(count, int(longest/interval))
	sum := interval * time.Duration(growing*(growing+1)/2)
	return first.Add(sum + time.Duration(count-growing)*longest)
}

// next is when a notification is due after it was sent at now. What was missed is not made up: then the distance counts from now.
func next(n *model.Notified, interval int, fixed time.Duration, now time.Time) time.Time {
	at := NextNotification(n.First, n.Count, interval, fixed)
	if at.After(now.Add(slack)) {
		return at
	}
	before := NextNotification(n.First, n.Count-1, interval, fixed)
	return now.Add(at.Sub(before))
}

// Held is how long an alert's condition has held at now, without the times when nothing was known of it.
func Held(a *model.Alert, now time.Time) time.Duration {
	held := now.Sub(a.Since) - a.Paused
	if a.Status == model.AlertTracking && !a.NoDataSince.IsZero() && a.NoDataSince.After(a.Since) && now.After(a.NoDataSince) {
		held -= now.Sub(a.NoDataSince)
	}
	return max(held, 0)
}

// delay is how long the condition holds before a notification is sent first.
func delay(n *model.Notification, t kind.Type) time.Duration {
	return minutes(max(n.DelayMin, t.MinDelay))
}

// shortest is how long the condition holds before the alert is open.
func shortest(c *model.AlertConfig, t kind.Type) time.Duration {
	if len(c.Notifications) == 0 {
		return minutes(t.MinDelay)
	}
	d := delay(&c.Notifications[0], t)
	for i := range c.Notifications {
		d = min(d, delay(&c.Notifications[i], t))
	}
	return d
}

func minutes(n int) time.Duration { return time.Duration(n) * time.Minute }
