// Package outbox turns notifications that are due into deliveries: one for each recipient, with an id that follows from the
// decision, so that a decision which is taken again after a crash adds nothing. Whoever lets an alert notify somebody
// (evaluation, acknowledging) makes its deliveries here, adds them to the store, and only then changes the alert.
package outbox

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
)

// Source is where recipients and what notifications leave out are found.
type Source struct {
	People       notify.People
	Integrations []model.Notification // of the group
	// Former are the notifications that were removed from the alert's configuration, or left of it when it was deleted:
	// those that an alert copied have lost their secrets.
	Former []model.Notification
}

// NeedsFormer reports whether a notification has lost secrets, so that those removed from its configuration
// must be read.
func NeedsFormer(due []rule.Due) bool {
	return slices.ContainsFunc(due, func(d rule.Due) bool { return lacksSecrets(d.Notification) })
}

func lacksSecrets(n model.Notification) bool {
	ch, ok := notify.ChannelOf(n.Channel)
	return ok && slices.ContainsFunc(ch.Fields, func(f notify.Field) bool { return f.Secret && f.Required && n.Secrets[f.Name] == "" })
}

// Deliveries makes the deliveries of what is due of an alert, and says in sentences who of those meant cannot be reached. An
// address is told once even if several notifications name it.
func Deliveries(a *model.Alert, due []rule.Due, src Source, now time.Time) (ds []model.Delivery, missing []string) {
	type address struct {
		kind             model.DeliveryKind
		channel, address string
	}
	told := map[address]bool{}
	for _, d := range due {
		n := src.complete(d.Notification)
		to, unreachable := notify.Expand(n, src.People)
		missing = append(missing, unreachable...)
		for _, r := range to {
			if key := (address{d.Kind, r.Channel, r.Address}); person(r.Channel) {
				if told[key] {
					continue
				}
				told[key] = true
			}
			ds = append(ds, model.Delivery{
				ID: id(a.ID, d, n, r), AlertID: a.ID, GroupID: a.GroupID, ConfigID: a.ConfigID, Kind: d.Kind,
				Notification: n, Channel: r.Channel, Address: r.Address, State: model.DeliveryPending, Created: now, NextAt: now,
			})
		}
	}
	return ds, missing
}

// person reports whether an address of the channel says by itself who is told.
func person(channel string) bool { return channel == notify.Email || channel == notify.SMS }

func (s *Source) complete(n model.Notification) model.Notification {
	for _, in := range s.Integrations {
		if in.Channel == n.Channel {
			n = notify.Prefill(n, in)
		}
	}
	if !lacksSecrets(n) {
		return n
	}
	for _, f := range s.Former {
		if f.ID == n.ID && f.Channel == n.Channel {
			n.Secrets = f.Secrets
		}
	}
	return n
}

// id is the identity of a delivery: the alert, what is told of it, by which notification, and to whom if it is to several.
func id(alert model.ID, d rule.Due, n model.Notification, r notify.Recipient) string {
	id := string(alert) + "/" + string(d.Kind) + "-" + strconv.Itoa(d.N) + "/" + string(n.ID)
	if ch, ok := notify.ChannelOf(n.Channel); ok && (ch.People || ch.Name == notify.Admin) || r.Channel != n.Channel {
		sum := sha256.Sum256([]byte(r.Channel + " " + r.Address))
		id += "/" + hex.EncodeToString(sum[:8])
	}
	return id
}
