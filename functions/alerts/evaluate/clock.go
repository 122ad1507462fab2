package evaluate

import (
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Bounds of what the clock may do between two passes.
const (
	// Every is how often the evaluation runs, unless it is told otherwise.
	Every = time.Minute

	interrupted = 3 * time.Minute  // without a pass for longer, silence counts from the next one
	backAtMost  = 10 * time.Minute // a clock that went back further is believed
	eventsAgain = 10 * time.Minute // events may come late: they are looked at again
	eventsBack  = 24 * time.Hour   // whatever happened before that, nobody is told of it any more
)

// resume makes of what the last pass left what a pass at now begins with. It returns how far the clock went back when it is
// believed to have, and whether to judge at all.
func resume(w *model.AlertWatch, now time.Time, every time.Duration) (back time.Duration, judge bool) {
	w.ClockNote = ""
	gap := now.Sub(w.LastPass)
	switch {
	case w.LastPass.IsZero():
		w.Resumed, w.EventsTo = now, now
	case gap < -backAtMost:
		back = -gap
		w.ClockNote = fmt.Sprintf("The clock went back by %s: evaluation began anew at %s.", back.Round(time.Second), stamp(now))
		w.Resumed, w.EventsTo = now, now
	case gap < 0:
		w.ClockNote = fmt.Sprintf("The clock went back by %s: nothing is evaluated until it is past %s again.", (-gap).Round(time.Second), stamp(w.LastPass))
		return 0, false
	case gap > interrupted:
		w.ClockNote = fmt.Sprintf("There was no pass for %s before %s: the evaluation was stopped, or the clock was put forward.", gap.Round(time.Second), stamp(now))
		w.Resumed = now
	}
	if missed := int64((gap - every/2) / every); missed > 0 && !w.LastPass.IsZero() {
		w.Skipped += missed
		w.LastSkip = now.Add(-every)
	}
	if oldest := now.Add(-eventsBack); w.EventsTo.Before(oldest) {
		w.EventsTo = oldest
	}
	w.LastPass = now
	return back, true
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// turnBack takes the times of an alert that a wrong clock put into the future back to now, so that nothing waits for them.
func turnBack(a *model.Alert, back time.Duration, now time.Time) {
	for _, t := range []*time.Time{
		&a.Since, &a.Created, &a.Opened, &a.Updated, &a.GoodSince, &a.NoDataSince, &a.LastNotified,
	} {
		if t.After(now) {
			*t = now
		}
	}
	if a.HoldUntil.After(now) {
		a.HoldUntil = now
	}
	for i := range a.Notified {
		n := &a.Notified[i]
		if n.First.After(now) {
			n.First = now
		}
		if n.Last.After(now) {
			n.Last = now
			if n.Next = n.Next.Add(-back); n.Next.Before(now) {
				n.Next = now
			}
		}
	}
}
