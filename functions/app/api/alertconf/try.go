package alertconf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
)

// The bounds of days to try.
const (
	defaultDays = 7
	maxDays     = 30
	maxTested   = 20      // messages of one test
	maxBody     = 1 << 20 // as rest's
)

// onlyEnabled looks whether the body has enabled and nothing else. The body can be read again.
func (c *call) onlyEnabled() (only, enabled bool, err error) {
	b, err := httpx.ReadBody(c.W, c.R, maxBody)
	if err != nil {
		return false, false, err
	}
	c.R.Body = io.NopCloser(bytes.NewReader(b))
	var have map[string]json.RawMessage
	if json.Unmarshal(b, &have) != nil || len(have) != 1 {
		return false, false, nil // whoever reads it next says what is wrong
	}
	for key, v := range have {
		if strings.EqualFold(key, "enabled") && json.Unmarshal(v, &enabled) == nil {
			return true, enabled, nil
		}
	}
	return false, false, nil
}

// try answers what the configuration in the body would have done. Where the body has the id of a stored one, secrets sent back
// masked are fine; others are not needed: nothing is sent.
func (c *call) try() (any, error) {
	days := defaultDays
	if s := c.R.URL.Query().Get("days"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxDays {
			return nil, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: a whole number from 1 to 30 is needed.", "days")
		}
		days = n
	}
	in, err := c.read()
	if err != nil {
		return nil, err
	}
	cfg := &in.config
	cfg.GroupID = c.Group.ID
	var have []model.Notification
	if cfg.ID.Valid() {
		old, err := c.Alerting.Config(c.R.Context(), c.Group.ID, cfg.ID)
		if err != nil && !rest.IsNotFound(err) {
			return nil, err
		}
		have = old.Notifications
	} else {
		cfg.ID = model.NewID()
	}
	in.merge(have)
	if err := c.prefill(in); err != nil {
		return nil, err
	}
	for i := range cfg.Notifications {
		placeholders(&cfg.Notifications[i])
	}
	if err := c.check(in); err != nil {
		return nil, err
	}
	cfg.Enabled = true
	t, err := c.Trial.Try(c.R.Context(), c.Group, *cfg, days)
	if err != nil {
		return nil, err
	}
	o := TrialEntity(&t)
	hosts, err := c.Inventory.Hosts(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	o["warnings"] = append([]string{}, rule.Warnings(cfg, hosts)...)
	o["links"] = c.Self(c.href("try"))
	return o, nil
}

// placeholders stand for secrets that a trial does not need: those that are missing or masked.
func placeholders(n *model.Notification) {
	ch, ok := notify.ChannelOf(n.Channel)
	if !ok {
		return
	}
	for _, f := range ch.Fields {
		s := n.Secrets[f.Name].Reveal()
		if !f.Secret || s == "" && !f.Required || s != "" && !strings.HasPrefix(s, "****") {
			continue
		}
		if n.Secrets == nil {
			n.Secrets = map[string]model.Secret{}
		}
		n.Secrets[f.Name] = "https://unknown.invalid/"
	}
}

// test sends a message to where a notification goes.
func (c *call) test() (any, error) {
	cfg, err := c.stored()
	if err != nil {
		return nil, err
	}
	id := c.args()[1]
	i := slices.IndexFunc(cfg.Notifications, func(n model.Notification) bool { return string(n.ID) == id })
	if i < 0 {
		return nil, rest.Fail(http.StatusNotFound, "NOTIFICATION_NOT_FOUND", "The alert configuration has no notification with ID %s.", id)
	}
	n := cfg.Notifications[i]
	now := c.now()
	details := rest.Object{"notificationType": n.Channel, "destination": notify.Destination(n), "timestamp": rest.ISOTime(now)}
	answer := func(ok bool, text string) (any, error) {
		return rest.Object{"success": ok, "message": text, "details": details}, nil
	}
	if c.Sender == nil {
		return answer(false, "This server sends no messages.")
	}
	users, err := c.Access.Users(c.R.Context())
	if err != nil {
		return nil, err
	}
	to, missing := notify.Expand(n, notify.People{Users: users, GroupID: c.Group.ID, OrgID: c.Group.OrgID, Admin: c.Admin})
	var sent, failed []string
	for _, r := range to[:min(len(to), maxTested)] {
		m := notify.TestMessage(c.Group, c.site(), c.PublicURL, now)
		m.Key = "test/" + string(model.NewID())
		m.TestLabel = Label(&cfg)
		if _, err := c.Sender.Send(c.R.Context(), notify.TargetOf(n, r), m); err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", r.Address, err))
			continue
		}
		sent = append(sent, r.Address)
	}
	if len(to) > maxTested {
		missing = append(missing, fmt.Sprintf("%d more recipients were not tested", len(to)-maxTested))
	}
	details["recipients"], details["failures"] = append([]string{}, sent...), append(append([]string{}, failed...), missing...) // ours
	c.Event(model.Event{
		Type: model.EventAlertConfigTested, GroupID: cfg.GroupID, ConfigID: cfg.ID,
		Text: fmt.Sprintf("A test message of alert configuration “%s” was sent to %s: %d sent, %d failed.", Label(&cfg), notify.Destination(n), len(sent), len(failed)),
	})
	switch {
	case len(failed) > 0:
		return answer(false, "Not sent: "+strings.Join(failed, "; ")+".")
	case len(sent) == 0:
		return answer(false, "Nobody can be reached: "+strings.Join(missing, "; ")+".")
	}
	return answer(true, "Sent to "+strings.Join(sent, ", ")+".")
}

func (c *call) site() string {
	return strings.TrimPrefix(strings.TrimPrefix(c.PublicURL, "https://"), "http://")
}

// TrialEntity renders a trial.
func TrialEntity(t *trial.Trial) rest.Object {
	o := rest.Object{
		"start": rest.ISOTime(t.From), "end": rest.ISOTime(t.To), "asked": rest.ISOTime(t.Asked), "stepSeconds": int(t.Step / time.Second),
		"basis": t.Basis, "alertsOpened": t.Opened, "alertsEndedEarly": t.Brief, "notificationCount": t.Total,
		"notificationsByChannel": counts(t.Count), "quietTargets": t.Quiet,
		"unknown": append([]string{}, t.Unknown...), "notes": append([]string{}, t.Notes...),
	}
	targets := make([]rest.Object, len(t.Targets))
	for i := range t.Targets {
		targets[i] = targetEntity(&t.Targets[i])
	}
	o["targets"] = targets
	return o
}

func counts(m map[string]int) map[string]int {
	if m == nil {
		return map[string]int{}
	}
	return m
}

func targetEntity(t *trial.TargetTrial) rest.Object {
	o := TargetEntity(&t.Target)
	spans := make([]rest.Object, len(t.Spans))
	for i := range t.Spans {
		s := &t.Spans[i]
		e := rest.Object{"since": rest.ISOTime(s.Since), "text": s.Text, "moreNotifications": s.More}
		rest.PutTime(e, "opened", s.Opened)
		rest.PutTime(e, "closed", s.Closed)
		rest.Put(e, "muted", s.Muted)
		if s.Worst != nil {
			e["worst"] = rest.Reading(s.Worst)
		}
		planned := make([]rest.Object, len(s.Notifications))
		for j, p := range s.Notifications {
			planned[j] = rest.Object{"at": rest.ISOTime(p.At), "kind": p.Kind, "notifierId": p.NotifierID, "typeName": p.Channel, "recipient": p.Recipient}
		}
		e["notifications"] = planned
		spans[i] = e
	}
	o["alerts"] = spans
	if len(t.Times) > 0 {
		points := make([]rest.Object, 0, len(t.Times))
		for i, at := range t.Times {
			p := rest.Object{"timestamp": rest.ISOTime(at), "value": nil}
			if i < len(t.Values) && !math.IsNaN(t.Values[i]) && !math.IsInf(t.Values[i], 0) {
				p["value"] = t.Values[i]
			}
			points = append(points, p)
		}
		o["dataPoints"], o["units"] = points, t.Units
	}
	if t.Threshold != nil {
		o["threshold"] = *t.Threshold
	}
	return o
}

// TargetEntity renders what an alert is about.
func TargetEntity(t *model.Target) rest.Object {
	o := rest.Object{}
	rest.Put(o, "hostId", t.HostID)
	rest.Put(o, "hostnameAndPort", t.HostName)
	rest.Put(o, "replicaSetName", t.ReplicaSet)
	rest.Put(o, "shardName", t.ShardName)
	rest.Put(o, "clusterId", t.ClusterID)
	rest.Put(o, "clusterName", t.ClusterName)
	return o
}
