package deliver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/picture"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

var errSlow = errors.New("the channel did not end in time")

// send sends a batch to its destination, message by message. At the first that fails the rest is put off.
func (d *Deliverer) send(ctx context.Context, b batch, now func() time.Time) (sent int64, err error) {
	messages := parts(b.deliveries)
	for i, ds := range messages {
		if ctx.Err() != nil {
			return sent, nil // a server that stops: the rest stays on the list
		}
		wait := d.turn(ds[0].Channel, now())
		if wait > busyFor { // many share the channel: not this pass
			return sent, d.putOffAll(ctx, messages[i:], now(), now().Add(wait))
		}
		if !pause(ctx, wait) {
			return sent, nil
		}
		n, until, err := d.message(ctx, b.destination, ds, now)
		sent += n
		if err != nil {
			return sent, err
		}
		if until.After(now()) {
			return sent, d.putOffAll(ctx, messages[i+1:], now(), until)
		}
	}
	return sent, nil
}

func (d *Deliverer) putOffAll(ctx context.Context, messages [][]model.Delivery, now, until time.Time) error {
	for _, ds := range messages {
		if err := d.putOff(ctx, ds, now, until); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// message sends one message for one or several deliveries. until is when the destination may be tried again, zero when it
// works.
func (d *Deliverer) message(ctx context.Context, destination string, ds []model.Delivery, now func() time.Time) (sent int64, until time.Time, err error) {
	claimed, err := d.claim(ctx, ds, now)
	if err != nil || len(claimed) == 0 {
		return 0, time.Time{}, err
	}
	left, m, err := d.compose(ctx, claimed)
	if err != nil || len(left) == 0 {
		return 0, time.Time{}, err
	}
	to := notify.TargetOf(left[0].Notification, notify.Recipient{Channel: left[0].Channel, Address: left[0].Address})
	bounded, stop := context.WithTimeoutCause(ctx, sendLimit, errSlow)
	result, sendErr := d.o.Sender.Send(bounded, to, m)
	stop()
	if sendErr != nil && ctx.Err() != nil {
		return 0, time.Time{}, nil // cut short by the server's stop: the claim ends by itself, and it is tried again
	}
	at := now()
	if sendErr == nil {
		d.works(destination)
		for i := range left {
			left[i].State, left[i].Delivered, left[i].LastError, left[i].Result = model.DeliveryDelivered, at, "", result.Text
		}
		return int64(len(left)), time.Time{}, d.finish(ctx, left, Delivered)
	}
	attempts := 0
	for i := range left {
		attempts = max(attempts, left[i].Attempts-1) // without this one
	}
	until = d.failedAt(destination, attempts, notify.RetryAfter(sendErr), at)
	d.o.Log.WarnContext(ctx, "notification not delivered", obs.KeyComponent, left[0].Channel, obs.KeyCount, len(left), obs.KeyErr, sendErr)
	var failed, again []model.Delivery
	for _, one := range left {
		one.LastError = sendErr.Error()
		if errors.Is(sendErr, notify.ErrPermanent) || at.Sub(one.Created) >= giveUpAfter {
			one.State = model.DeliveryFailed
			failed = append(failed, one)
			continue
		}
		one.NextAt = until
		again = append(again, one)
	}
	return 0, until, errors.Join(d.finish(ctx, failed, Failed), d.finish(ctx, again, Retry))
}

// claim claims deliveries that go as one message. Those that somebody else has are left out.
func (d *Deliverer) claim(ctx context.Context, ds []model.Delivery, now func() time.Time) ([]model.Delivery, error) {
	at := now()
	until := at.Add(claimFor)
	claimed := make([]model.Delivery, 0, len(ds))
	for i := range ds {
		one, ok, err := d.o.Outbox.ClaimDelivery(ctx, ds[i].ID, d.o.By, at, until)
		switch {
		case err != nil:
			return nil, fmt.Errorf("claim a delivery: %w", err)
		case ok:
			claimed = append(claimed, one)
		}
	}
	return claimed, nil
}

// keepKey keeps the key of a message of several deliveries with each of them before it is sent: a second attempt must be known
// as the same message.
func (d *Deliverer) keepKey(ctx context.Context, ds []model.Delivery) (string, error) {
	key := digestKey(ds)
	for i := range ds {
		if ds[i].Digest == key {
			continue
		}
		ds[i].Digest = key
		if err := d.o.Outbox.FinishDelivery(ctx, ds[i]); err != nil {
			return "", fmt.Errorf("keep the key of a digest: %w", err)
		}
	}
	return key, nil
}

// compose makes the message of claimed deliveries. Those that need not be sent any more are finished and left out.
func (d *Deliverer) compose(ctx context.Context, claimed []model.Delivery) (left []model.Delivery, m notify.Message, err error) {
	var all []notify.Message
	for _, one := range claimed {
		a, err := d.o.Outbox.Alert(ctx, one.GroupID, one.AlertID)
		if errors.Is(err, docstore.ErrNotFound) {
			one.State, one.LastError = model.DeliveryFailed, "The alert is gone."
			if err := d.finish(ctx, []model.Delivery{one}, Failed); err != nil {
				return nil, m, err
			}
			continue
		}
		if err != nil {
			return nil, m, fmt.Errorf("read the alert of a delivery: %w", err)
		}
		late, err := d.overtaken(ctx, &one, &a)
		if err != nil {
			return nil, m, err
		}
		if late {
			one.State, one.Delivered, one.Result = model.DeliveryDelivered, time.Now().UTC(), "left out: the alert's end was told before"
			if err := d.finish(ctx, []model.Delivery{one}, Delivered); err != nil {
				return nil, m, err
			}
			continue
		}
		msg := d.toMessage(&one, &a)
		if a.GroupID != "" {
			if msg.Group, err = d.o.Groups.Group(ctx, a.GroupID); err != nil && !errors.Is(err, docstore.ErrNotFound) {
				return nil, m, fmt.Errorf("read the group of a delivery: %w", err)
			}
		}
		left, all = append(left, one), append(all, msg)
	}
	if len(left) == 0 {
		return nil, m, nil
	}
	m = all[0]
	if len(left) == 1 {
		if left[0].Channel == notify.Email {
			m.Picture = picture.OfAlert(m.Alert)
		}
		return left, m, nil
	}
	m.Others = all[1:]
	m.Key, err = d.keepKey(ctx, left)
	return left, m, err
}

// overtaken reports whether the end of a delivery's alert was told the same way already: telling now that it is open would
// only open it again there.
func (d *Deliverer) overtaken(ctx context.Context, one *model.Delivery, a *model.Alert) (bool, error) {
	if a.Status.Live() || one.Attempts < 2 || one.Kind != model.DeliverOpen && one.Kind != model.DeliverUpdate {
		return false, nil
	}
	q := alerting.DeliveryQuery{AlertID: a.ID, GroupID: a.GroupID}
	for {
		ds, next, err := d.o.Outbox.Deliveries(ctx, q)
		if err != nil {
			return false, fmt.Errorf("read an alert's deliveries: %w", err)
		}
		for i := range ds {
			if o := &ds[i]; notify.Over(o.Kind) && o.State == model.DeliveryDelivered && o.Notification.ID == one.Notification.ID && o.Address == one.Address {
				return true, nil
			}
		}
		if next == "" {
			return false, nil
		}
		q.Before = next
	}
}

// AlertURL is the page of an alert on a site.
func AlertURL(site string, a *model.Alert) string {
	scope := "/admin"
	if a.GroupID != "" {
		scope = "/g/" + string(a.GroupID)
	}
	return strings.TrimRight(site, "/") + scope + "/alerts/" + string(a.ID)
}

// toMessage is what one delivery says.
func (d *Deliverer) toMessage(one *model.Delivery, a *model.Alert) notify.Message {
	m := notify.Message{Key: one.ID, Kind: one.Kind, Alert: a, Site: d.o.PublicURL, At: one.Created}
	if d.o.PublicURL != "" {
		m.URL = AlertURL(d.o.PublicURL, a)
		if a.Status.Live() {
			m.AckURL = m.URL + "#acknowledge"
		}
	}
	for _, n := range a.Notified {
		if n.NotifierID == one.Notification.ID && a.Status.Live() {
			m.NextAt = n.Next
		}
	}
	return m
}

// finish records what became of deliveries, also when the server is about to stop: what was sent must be known as sent.
func (d *Deliverer) finish(ctx context.Context, ds []model.Delivery, outcome string) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), finishLimit)
	defer stop()
	var errs []error
	for i := range ds {
		if err := d.o.Outbox.FinishDelivery(ctx, ds[i]); err != nil {
			errs = append(errs, fmt.Errorf("record a delivery: %w", err))
			continue
		}
		d.o.Count(ds[i].Channel, outcome)
	}
	return errors.Join(errs...)
}
