package alerts

import (
	"context"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/functions/app/api/alertconf"
	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/outbox"
	"github.com/heartwood-db/heartwood/shared/rule"
)

const (
	maxComment = 4000
)

// acknowledge takes an alert on until a time. A time that is absent or past ends that. Who is to be told is in the outbox before
// the alert changes: a crash between repeats the decision under the same ids.
func (c *call) acknowledge() (any, error) {
	a, err := c.stored()
	if err != nil {
		return nil, err
	}
	var in struct {
		rest.Ignored
		Until   string `json:"acknowledgedUntil"`
		Comment string `json:"acknowledgementComment"`
	}
	err = c.DecodeOver(&in, c.entity(&a, false), "acknowledgingUsername", "metricName", "currentValue", "resolved", "lastNotified", "hostId", "hostnameAndPort",
		"replicaSetName", "clusterId", "clusterName", "sourceTypeName", "tags", "enabled", "matchers", "metricThreshold", "notifications", "groupId")
	if err != nil {
		return nil, err
	}
	if utf8.RuneCountInString(in.Comment) > maxComment {
		return nil, rest.Fail(http.StatusBadRequest, "ACKNOWLEDGEMENT_COMMENT_TOO_LONG", "The acknowledgement comment has more than %d characters.", maxComment)
	}
	var until time.Time
	if in.Until != "" {
		var ok bool
		if until, ok = rest.ParseDate(in.Until); !ok || until.Year() > 9000 {
			return nil, rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute %s specified: an ISO 8601 date is needed.", "acknowledgedUntil")
		}
	}
	now := c.Now().UTC().Truncate(time.Millisecond)
	owner := a.GroupID
	if a.Global {
		owner = ""
	}
	rules := &model.AlertConfig{}
	if *rules, err = c.Alerting.Config(c.R.Context(), owner, a.ConfigID); rest.IsNotFound(err) {
		rules = nil
	} else if err != nil {
		return nil, err
	}
	was := a.Acknowledged(now)
	var queued bool
	err = c.Alerting.UpdateAlert(c.R.Context(), a.GroupID, a.ID, func(have *model.Alert) error {
		was = have.Acknowledged(now)
		next, due := rule.Acknowledge(have, rules, until, c.Who.Name(), in.Comment, now)
		if next == nil {
			a = *have
			return nil
		}
		if !queued {
			if err := c.queue(c.R.Context(), have, due, now); err != nil {
				return err
			}
			queued = true
		}
		*have = *next
		a = *have
		return nil
	})
	if err != nil {
		return nil, err
	}
	e := model.Event{
		GroupID: a.GroupID, AlertID: a.ID, ConfigID: a.ConfigID, HostID: a.Target.HostID, HostName: a.Target.HostName, ClusterID: a.Target.ClusterID,
	}
	switch {
	case until.After(now):
		e.Type, e.Text = model.EventAlertAcknowledged, fmt.Sprintf("Alert “%s” was acknowledged until %s.", alertconf.Label(&a.Rule), rest.ISOTime(until))
		c.Event(e)
	case was:
		e.Type, e.Text = model.EventAlertUnacknowledged, fmt.Sprintf("The acknowledgement of alert “%s” was ended.", alertconf.Label(&a.Rule))
		c.Event(e)
	}
	return c.entity(&a, true), nil
}

// queue puts what is due into the outbox.
func (c *call) queue(ctx context.Context, a *model.Alert, due []rule.Due, now time.Time) error {
	if len(due) == 0 {
		return nil
	}
	src := outbox.Source{People: notify.People{GroupID: a.GroupID, Admin: c.Admin}}
	var err error
	if a.GroupID != "" {
		g, err := c.Inventory.Group(ctx, a.GroupID)
		if err != nil && !rest.IsNotFound(err) {
			return err
		}
		src.People.OrgID = g.OrgID
		if src.Integrations, err = c.Alerting.Integrations(ctx, a.GroupID); err != nil {
			return err
		}
	}
	if src.People.Users, err = c.Access.Users(ctx); err != nil {
		return err
	}
	if outbox.NeedsFormer(due) {
		owner := a.GroupID
		if a.Global {
			owner = ""
		}
		if src.Former, err = c.Alerting.FormerNotifications(ctx, owner, a.ConfigID); err != nil {
			return err
		}
	}
	ds, _ := outbox.Deliveries(a, due, src, now)
	if len(ds) == 0 {
		return nil
	}
	return c.Alerting.AddDeliveries(ctx, ds...)
}
