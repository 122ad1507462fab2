// Package alerts is the Public API's resource of alerts, of groups and of global configurations: listing, acknowledging and,
// beyond the documented API, their deliveries and why somebody was told or not.
package alerts

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api/alertconf"
	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/trial"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Alerting is what the resource reads and changes of alerts. An empty group means the site.
type Alerting interface {
	Alert(ctx context.Context, group, id model.ID) (model.Alert, error)
	AnyAlert(ctx context.Context, id model.ID) (model.Alert, error)
	Alerts(ctx context.Context, q alerting.AlertQuery) (alerts []model.Alert, next string, err error)
	UpdateAlert(ctx context.Context, group, id model.ID, change func(*model.Alert) error) error
	Config(ctx context.Context, group, id model.ID) (model.AlertConfig, error)
	Integrations(ctx context.Context, group model.ID) ([]model.Notification, error)
	FormerNotifications(ctx context.Context, group, id model.ID) ([]model.Notification, error)
	AddDeliveries(ctx context.Context, ds ...model.Delivery) error
	Deliveries(ctx context.Context, q alerting.DeliveryQuery) (deliveries []model.Delivery, next string, err error)
}

// Inventory finds the groups of alerts.
type Inventory interface {
	Group(ctx context.Context, id model.ID) (model.Group, error)
}

// Access knows who is told.
type Access interface {
	Users(ctx context.Context) ([]model.User, error)
}

// Why answers why somebody was told or not.
type Why interface {
	Why(ctx context.Context, q trial.WhyQuery) ([]trial.Reason, error)
}

// Options are what the resource needs from outside.
type Options struct {
	Alerting  Alerting
	Inventory Inventory
	Access    Access
	Why       Why
	Admin     []string // mailbox of the site's operators
	Look      int      // alerts looked at for one answer; 0: 20,000
}

const (
	look  = 20_000 // what one answer may cost
	batch = 1_000
)

// call is one request. Global says that it is about alerts of global configurations.
type call struct {
	*rest.Call
	Options
	global bool
}

// Routes are the routes of the resource.
func Routes(o Options) []rest.Route {
	if o.Look <= 0 {
		o.Look = look
	}
	var out []rest.Route
	add := func(method, path string, scope func(*rest.Call, auth.Permission) error, perm auth.Permission, global bool, do func(*call) (any, error)) {
		out = append(out, rest.Route{Method: method, Path: path, Scope: scope, Perm: perm, Do: func(c *rest.Call) (any, error) {
			return do(&call{Call: c, Options: o, global: global})
		}})
	}
	group := func(method, path string, perm auth.Permission, do func(*call) (any, error)) {
		add(method, "/groups/{}"+path, rest.InGroup, perm, false, do)
	}
	site := func(method, path string, perm auth.Permission, do func(*call) (any, error)) {
		add(method, path, rest.OnSite, perm, true, do)
	}
	group(http.MethodGet, "/alerts", auth.View, (*call).list)
	group(http.MethodGet, "/alerts/why", auth.View, (*call).whyNot)
	group(http.MethodGet, "/alerts/{}", auth.View, (*call).one)
	group(http.MethodPatch, "/alerts/{}", auth.EditAlerts, (*call).acknowledge)
	group(http.MethodGet, "/alerts/{}/deliveries", auth.View, (*call).deliveries)
	group(http.MethodGet, "/alerts/{}/why", auth.View, (*call).why)
	group(http.MethodGet, "/alertConfigs/{}/alerts", auth.View, (*call).openOf)
	site(http.MethodGet, "/globalAlerts", auth.AdminView, (*call).list)
	site(http.MethodGet, "/globalAlerts/{}", auth.AdminView, (*call).one)
	site(http.MethodPatch, "/globalAlerts/{}", auth.AdminMonitoring, (*call).acknowledge)
	site(http.MethodGet, "/globalAlerts/{}/deliveries", auth.AdminView, (*call).deliveries)
	site(http.MethodGet, "/globalAlerts/{}/why", auth.AdminView, (*call).why)
	site(http.MethodGet, "/globalAlertConfigs/{}/alerts", auth.AdminView, (*call).openOf)
	return out
}

// args are the path's variables after the group's id.
func (c *call) args() []string {
	if c.global {
		return c.Args
	}
	return c.Args[1:]
}

func (c *call) href(segments ...string) string {
	if c.global {
		return c.Href(append([]string{"globalAlerts"}, segments...)...)
	}
	return c.Href(append([]string{"groups", string(c.Group.ID), "alerts"}, segments...)...)
}

// stored is the alert that the path names.
func (c *call) stored() (model.Alert, error) {
	id := model.ID(c.args()[0])
	if !id.Valid() {
		return model.Alert{}, rest.Fail(http.StatusNotFound, "INVALID_ALERT_ID", "An invalid alert ID %s was specified.", id)
	}
	missing := rest.Fail(http.StatusNotFound, "ALERT_NOT_FOUND", "No alert with ID %s exists.", id)
	var a model.Alert
	var err error
	if c.global { // of the site, or of any group
		a, err = c.Alerting.AnyAlert(c.R.Context(), id)
	} else {
		a, err = c.Alerting.Alert(c.R.Context(), c.Group.ID, id)
	}
	if rest.IsNotFound(err) || err == nil && c.global && !a.Global {
		return model.Alert{}, missing
	}
	return a, err
}

func (c *call) one() (any, error) {
	a, err := c.stored()
	if err != nil {
		return nil, err
	}
	return c.entity(&a, true), nil
}

// list also takes filters of ours: alertConfigId, hostId, clusterId, eventType and, for groups, the dates of globalAlerts.
func (c *call) list() (any, error) {
	q := c.R.URL.Query()
	query := alerting.AlertQuery{
		GroupID: c.Group.ID, AllGroups: c.global, GlobalOnly: c.global,
		ConfigID: model.ID(q.Get("alertConfigId")), HostID: model.HostID(q.Get("hostId")), ClusterID: model.ID(q.Get("clusterId")),
	}
	for _, s := range q["status"] {
		if s == "" {
			continue
		}
		status := model.AlertStatus(s)
		if !slices.Contains([]model.AlertStatus{model.AlertTracking, model.AlertOpen, model.AlertClosed, model.AlertCancelled}, status) {
			return nil, rest.Fail(http.StatusBadRequest, "INVALID_ALERT_STATUS", "An invalid alert status %s was specified.", s)
		}
		query.Statuses = append(query.Statuses, status)
	}
	for _, e := range q["eventType"] {
		if e != "" {
			query.EventTypes = append(query.EventTypes, model.EventType(e))
		}
	}
	var err error
	if query.From, err = date(q, "createdOnOrAfter"); err != nil {
		return nil, err
	}
	last, err := date(q, "createdOnOrBefore")
	if err != nil {
		return nil, err
	}
	if !last.IsZero() {
		if last.Before(query.From) {
			return nil, rest.Fail(http.StatusBadRequest, "START_DATE_AFTER_END_DATE", "The start date must not be after the end date.")
		}
		query.To = last.Truncate(time.Second).Add(time.Second)
	}
	return c.page(query)
}

// date reads a date of the query; absent is zero.
func date(q url.Values, name string) (time.Time, error) {
	s := q.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	t, ok := rest.ParseDate(s)
	if !ok || t.Year() < 1970 || t.Year() >= 2500 {
		return t, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: an ISO 8601 date is needed.", name)
	}
	return t, nil
}

// openOf lists the open alerts of a configuration.
func (c *call) openOf() (any, error) {
	id := model.ID(c.args()[0])
	if !id.Valid() {
		return nil, rest.Fail(http.StatusNotFound, "INVALID_ALERT_CONFIG_ID", "An invalid alert configuration ID %s was specified.", id)
	}
	_, err := c.Alerting.Config(c.R.Context(), c.Group.ID, id)
	if rest.IsNotFound(err) {
		code := "ALERT_CONFIG_NOT_FOUND"
		if c.global {
			code = "GLOBAL_ALERT_CONFIG_NOT_FOUND"
		}
		return nil, rest.Fail(http.StatusNotFound, code, "No alert configuration with ID %s exists.", id)
	}
	if err != nil {
		return nil, err
	}
	return c.page(alerting.AlertQuery{
		GroupID: c.Group.ID, AllGroups: c.global, GlobalOnly: c.global, ConfigID: id, Statuses: []model.AlertStatus{model.AlertOpen},
	})
}

// page answers with the page that the address asks for: of the others it only keeps the count.
func (c *call) page(q alerting.AlertQuery) (any, error) {
	from, to := wanted(c.R.URL.Query())
	var found []*model.Alert
	q.Limit = batch
	for {
		alerts, next, err := c.Alerting.Alerts(c.R.Context(), q)
		if err != nil {
			return nil, err
		}
		for i := range alerts {
			if n := len(found); n >= from && n < to {
				found = append(found, &alerts[i])
			} else {
				found = append(found, nil)
			}
		}
		if next == "" {
			break
		}
		if q.Before = next; len(found) >= c.Look {
			if len(found) < to {
				// Never a short page that looks like the end.
				return nil, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "Too many alerts lie before this page: ask for older ones with %s.", "createdOnOrBefore")
			}
			found = append(found, nil) // there is a next page, if only to say how to go on
			break
		}
	}
	return rest.Page(c.Call, found, func(a *model.Alert) rest.Object { return c.entity(a, false) })
}

// wanted is the page that the address asks for; rest.Page, which makes the answer, refuses what is none.
func wanted(q url.Values) (from, to int) {
	num, err := strconv.Atoi(cmp.Or(q.Get("pageNum"), "1"))
	if err != nil || num < 1 {
		return 0, 0
	}
	items, err := strconv.Atoi(cmp.Or(q.Get("itemsPerPage"), strconv.Itoa(rest.DefaultItems)))
	if err != nil || items < 1 {
		return 0, 0
	}
	items = min(items, rest.MaxItems)
	num = min(num, 1<<30/items) // no overflow
	return (num - 1) * items, num * items
}

func (c *call) entity(a *model.Alert, relations bool) rest.Object {
	o := Entity(a, c.Now())
	id := string(a.ID)
	o["links"] = c.Self(c.href(id))
	if relations {
		o["links"] = c.Self(c.href(id), rest.Rel("deliveries", c.href(id, "deliveries")), rest.Rel("why", c.href(id, "why")))
	}
	return o
}

// Entity renders an alert. Text, since, muted and what is said of missing news are ours.
func Entity(a *model.Alert, now time.Time) rest.Object {
	o := alertconf.TargetEntity(&a.Target)
	o["id"], o["alertConfigId"], o["eventTypeName"], o["status"] = a.ID, a.ConfigID, a.EventType, a.Status
	o["typeName"] = alertconf.TypeName(a.EventType)
	o["created"], o["updated"] = rest.ISOTime(a.Created), rest.ISOTime(a.Updated)
	rest.Put(o, "groupId", a.GroupID)
	rest.PutTime(o, "resolved", a.Resolved)
	rest.PutTime(o, "lastNotified", a.LastNotified)
	if !a.AckUntil.IsZero() && (a.Acknowledged(now) || !a.Status.Live()) {
		o["acknowledgedUntil"] = rest.ISOTime(a.AckUntil)
		rest.Put(o, "acknowledgementComment", a.AckComment)
		rest.Put(o, "acknowledgingUsername", a.AckBy)
	}
	if a.Rule.Metric != nil {
		o["metricName"] = a.Rule.Metric.Metric
		if a.Value != nil {
			o["currentValue"] = rest.Reading(a.Value)
		}
	}
	if a.Global {
		o["tags"] = append([]string{}, a.Tags...)
	}
	rest.Put(o, "text", a.Text)
	rest.PutTime(o, "since", a.Since)
	rest.Put(o, "muted", a.Muted)
	rest.PutTime(o, "noDataSince", a.NoDataSince)
	rest.Put(o, "noDataReason", a.NoDataWhy)
	rest.Put(o, "note", a.Rule.Note)
	return o
}
