package alerts

import (
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api/alertconf"
	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

const (
	maxDeliveries = 10_000
	maxWindow     = 31 * 24 * time.Hour // of a question why
)

// ofAlert lists an alert's deliveries, newest first.
func (c *call) ofAlert(a *model.Alert) ([]model.Delivery, error) {
	all, _, err := c.Alerting.Deliveries(c.R.Context(), alerting.DeliveryQuery{AlertID: a.ID, GroupID: a.GroupID, Limit: maxDeliveries})
	return all, err
}

// deliveries lists what was sent, and is to be sent, of an alert.
func (c *call) deliveries() (any, error) {
	a, err := c.stored()
	if err != nil {
		return nil, err
	}
	all, err := c.ofAlert(&a)
	if err != nil {
		return nil, err
	}
	return rest.Page(c.Call, all, func(d model.Delivery) rest.Object { return DeliveryEntity(&d) })
}

// DeliveryEntity renders a delivery, which shows no secrets.
func DeliveryEntity(d *model.Delivery) rest.Object {
	o := rest.Object{
		"id": d.ID, "alertId": d.AlertID, "kind": d.Kind, "notifierId": d.Notification.ID, "notificationTypeName": d.Notification.Channel,
		"typeName": d.Channel, "status": d.State, "created": rest.ISOTime(d.Created), "attempts": d.Attempts,
	}
	rest.Put(o, "groupId", d.GroupID)
	rest.Put(o, "alertConfigId", d.ConfigID)
	rest.Put(o, "destination", d.Address)
	rest.Put(o, "lastError", d.LastError)
	rest.Put(o, "result", d.Result)
	rest.Put(o, "digest", d.Digest)
	rest.PutTime(o, "delivered", d.Delivered)
	if d.State == model.DeliveryPending {
		rest.PutTime(o, "nextAttempt", d.NextAt)
	}
	return o
}

// why explains one alert: the rule as it was, the samples of the newest decision, what happened to it and what was sent.
func (c *call) why() (any, error) {
	a, err := c.stored()
	if err != nil {
		return nil, err
	}
	all, err := c.ofAlert(&a)
	if err != nil {
		return nil, err
	}
	slices.Reverse(all) // as the history: oldest first
	history := make([]rest.Object, len(a.History))
	for i, s := range a.History {
		h := rest.Object{"at": rest.ISOTime(s.At), "kind": s.Kind}
		rest.Put(h, "text", s.Text)
		if s.Value != nil {
			h["value"] = rest.Reading(s.Value)
		}
		history[i] = h
	}
	samples := make([]rest.Object, len(a.Samples))
	for i, s := range a.Samples {
		samples[i] = rest.Object{"timestamp": rest.ISOTime(s.At), "value": nil}
		if !math.IsNaN(s.Value) && !math.IsInf(s.Value, 0) {
			samples[i]["value"] = s.Value
		}
	}
	notified := make([]rest.Object, len(a.Notified))
	for i, n := range a.Notified {
		notified[i] = rest.Object{"notifierId": n.NotifierID, "count": n.Count, "first": rest.ISOTime(n.First), "last": rest.ISOTime(n.Last)}
		if a.Status.Live() {
			rest.PutTime(notified[i], "next", n.Next)
		}
	}
	sent := make([]rest.Object, len(all))
	for i := range all {
		sent[i] = DeliveryEntity(&all[i])
	}
	o := rest.Object{
		"alert": c.entity(&a, false), "rule": alertconf.Entity(&a.Rule), "history": history, "samples": samples, "notified": notified, "deliveries": sent,
		"links": c.Self(c.href(string(a.ID), "why")),
	}
	rest.PutTime(o, "opened", a.Opened)
	if a.Worst != nil {
		o["worst"] = rest.Reading(a.Worst)
	}
	return o, nil
}

// whyNot explains for every configuration of the group why it told somebody in a window of time, or did not.
func (c *call) whyNot() (any, error) {
	q := c.R.URL.Query()
	now := c.Now().UTC()
	from, err := date(q, "from")
	if err != nil {
		return nil, err
	}
	to, err := date(q, "to")
	if err != nil {
		return nil, err
	}
	if to.IsZero() {
		to = now
	}
	if from.IsZero() {
		from = to.Add(-24 * time.Hour)
	}
	switch {
	case !from.Before(to):
		return nil, rest.Fail(http.StatusBadRequest, "START_DATE_AFTER_END_DATE", "The start date must be before the end date.")
	case to.Sub(from) > maxWindow:
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: the window is longer than 31 days.", "from")
	}
	query := trial.WhyQuery{
		GroupID: c.Group.ID, From: from, To: to, Host: q.Get("host"), ClusterID: model.ID(q.Get("clusterId")), ConfigID: model.ID(q.Get("alertConfigId")),
		Username: q.Get("username"),
	}
	reasons, err := c.Why.Why(c.R.Context(), query)
	if err != nil {
		return nil, err
	}
	return rest.Page(c.Call, reasons, ReasonEntity)
}

// ReasonEntity renders a reason.
func ReasonEntity(r trial.Reason) rest.Object {
	o := alertconf.TargetEntity(&r.Target)
	o["verdict"], o["text"], o["isGlobal"] = r.Verdict, r.Text, r.Global
	rest.Put(o, "alertConfigId", r.ConfigID)
	rest.Put(o, "eventTypeName", r.EventType)
	rest.Put(o, "label", r.Label)
	rest.Put(o, "alertId", r.AlertID)
	rest.PutTime(o, "at", r.At)
	if r.Nearest != nil {
		o["nearest"] = rest.Reading(r.Nearest)
	}
	if r.Threshold != nil {
		o["threshold"] = rest.Reading(r.Threshold)
	}
	o["details"] = append([]string{}, r.Details...)
	return o
}
