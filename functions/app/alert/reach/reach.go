// Package reach says whether an alert has reached anybody. That somebody is to be told is decided with the alert; whether a message
// arrives shows in its deliveries, and those for whom there is no address have none.
package reach

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// fresh is for how long a message may wait for its first attempt before that is worth a word.
const fresh = time.Minute

// NotTold begins the entry of an alert's history that says who could not be told, and why.
const NotTold = "Not told: "

// Reach is what came of telling people of an alert.
type Reach struct {
	Decided   bool // somebody was to be told
	Delivered int
	Sending   int // about to be sent
	Missed    int // failed for good, or are tried again
	Last      time.Time
	Why       []string // what kept the rest from it, in sentences
}

// Nobody reports whether people were to be told, and none was, and none is about to be.
func (r Reach) Nobody() bool { return r.Decided && r.Delivered == 0 && r.Sending == 0 }

// Some reports whether somebody was told, but not all.
func (r Reach) Some() bool { return r.Delivered > 0 && len(r.Why) > 0 }

// Decided reports whether anybody was to be told of an alert so far: only then there is something to look up.
func Decided(a *model.Alert) bool { return !a.LastNotified.IsZero() || len(a.Notified) > 0 }

// Of puts together what the alert and its deliveries say. Messages that it was acknowledged, closed or cancelled do not count: they
// go to those who know of it.
func Of(a *model.Alert, ds []model.Delivery, site Site, now time.Time) Reach {
	r := Reach{Decided: Decided(a)}
	add := func(why string) {
		if why = words.Sentence(why); why != "" && !slices.Contains(r.Why, why) {
			r.Why = append(r.Why, why)
		}
	}
	newest := slices.SortedStableFunc(slices.Values(ds), func(x, y model.Delivery) int { return y.Created.Compare(x.Created) })
	last := map[string]bool{} // recipients whose newest message was looked at
	for i := range newest {
		d := &newest[i]
		if d.Kind != model.DeliverOpen && d.Kind != model.DeliverUpdate && d.Kind != model.DeliverInform {
			continue
		}
		r.Decided = true
		key := string(d.Notification.ID) + " " + d.Channel + " " + d.Address
		first := !last[key]
		last[key] = true
		switch {
		case d.State == model.DeliveryDelivered:
			r.Delivered++
			if d.Delivered.After(r.Last) {
				r.Last = d.Delivered
			}
		case d.State == model.DeliveryPending && d.Attempts == 0 && now.Sub(d.Created) < fresh:
			r.Sending++
		default:
			if r.Missed++; !first {
				continue // the newest message to them says how it is now
			}
			if d.State == model.DeliveryPending && d.LastError == "" { // behind others to the same destination
				add(cmp.Or(site.Missing(d.Channel), "a message waits to be sent"))
			}
			add(d.LastError)
		}
	}
	for _, s := range slices.Backward(a.History) {
		if why, ok := strings.CutPrefix(s.Text, NotTold); ok && s.Kind == model.StepNotified {
			r.Decided = true
			add(why)
			break
		}
	}
	if r.Nobody() && len(r.Why) == 0 && r.Missed == 0 {
		add("nobody is behind its notifications")
	}
	return r
}

// Site says what keeps a channel from working on this site, or "".
type Site interface{ Missing(channel string) string }

// Missing says what keeps a notification from being sent on this site at all: what to set before its channels work.
func Missing(site Site, n model.Notification) (out []string) {
	for _, channel := range notify.Ways(n) {
		if why := words.Sentence(site.Missing(channel)); why != "" && !slices.Contains(out, why) {
			out = append(out, why)
		}
	}
	return out
}
