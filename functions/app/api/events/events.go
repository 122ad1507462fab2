// Package events is the Public API's resource of events: what happened in a group, in an organization, on the site. It
// only reads: events are never changed.
package events

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Inventory names what events are about.
type Inventory interface {
	Groups(ctx context.Context) ([]model.Group, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
}

// Events are read with a bound on how much is looked at.
type Events interface {
	EachEvent(ctx context.Context, q alerting.EventQuery, look int, take func(model.Event) bool) (next string, err error)
	Event(ctx context.Context, id model.ID) (model.Event, error)
}

// Options are what the resource needs from outside.
type Options struct {
	Inventory Inventory
	Events    Events
	Look      int // events looked at for one answer; 0: 300,000
}

// look is what one answer may cost: about two seconds of one core.
const look = 300_000

// call is one request, with where the path has its events from.
type call struct {
	*rest.Call
	Options
	base     []string // path of the list
	missing  string   // code of an event that is not there
	query    alerting.EventQuery
	clusters map[model.ID]map[model.ID]model.Cluster // by group; read when asked for
}

// Routes are the routes of the resource.
func Routes(o Options) []rest.Route {
	if o.Look <= 0 {
		o.Look = look
	}
	var out []rest.Route
	for _, at := range []struct {
		path  string
		scope func(*rest.Call, auth.Permission) error
		perm  auth.Permission
		open  func(*call) error
	}{
		{"/groups/{}/events", rest.InGroup, auth.View, (*call).ofGroup},
		{"/orgs/{}/events", rest.InOrg, auth.ViewOrg, (*call).ofOrg},
		{"/globalEvents", rest.OnSite, auth.AdminView, (*call).ofSite},
	} {
		do := func(answer func(*call) (any, error)) func(*rest.Call) (any, error) {
			return func(c *rest.Call) (any, error) {
				ec := &call{Call: c, Options: o, clusters: map[model.ID]map[model.ID]model.Cluster{}}
				if err := at.open(ec); err != nil {
					return nil, err
				}
				return answer(ec)
			}
		}
		out = append(out,
			rest.Route{Method: http.MethodGet, Path: at.path, Scope: at.scope, Perm: at.perm, Do: do((*call).list)},
			rest.Route{Method: http.MethodGet, Path: at.path + "/{}", Scope: at.scope, Perm: at.perm, Do: do((*call).one)},
		)
	}
	return out
}

func (c *call) ofGroup() error {
	c.base, c.missing = []string{"groups", string(c.Group.ID), "events"}, "EVENT_NOT_FOUND"
	c.query.GroupID = c.Group.ID
	return nil
}

// ofOrg takes the organization's own events and those of its groups that the caller may see: a role in the organization
// alone opens none of them.
func (c *call) ofOrg() error {
	c.base, c.missing = []string{"orgs", string(c.Org.ID), "events"}, "ORG_EVENT_NOT_FOUND"
	all, err := c.Inventory.Groups(c.R.Context())
	if err != nil {
		return err
	}
	c.query.AllGroups, c.query.OrgID = true, c.Org.ID
	for _, g := range all {
		if g.OrgID == c.Org.ID && c.Who.Can(auth.View, g.ID, g.OrgID) {
			c.query.Groups = append(c.query.Groups, g.ID)
		}
	}
	return nil
}

func (c *call) ofSite() error {
	c.base, c.missing = []string{"globalEvents"}, "GLOBAL_EVENT_NOT_FOUND"
	c.query.AllGroups = true
	return nil
}

// one answers with an event, if it is one that the list could hold.
func (c *call) one() (any, error) {
	id := model.ID(c.Args[len(c.Args)-1])
	missing := rest.Fail(http.StatusNotFound, c.missing, "No event with ID %s exists.", id)
	if !id.Valid() {
		return nil, missing
	}
	e, err := c.Events.Event(c.R.Context(), id)
	if rest.IsNotFound(err) || err == nil && !c.query.Holds(e) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	raw, err := c.raw()
	if err != nil {
		return nil, err
	}
	if err := c.readClusters(e); err != nil {
		return nil, err
	}
	return c.entity(e, raw), nil
}

func (c *call) raw() (bool, error) {
	switch s := c.R.URL.Query().Get("includeRaw"); s {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, badQuery("includeRaw", "true or false is needed")
}

func badQuery(name, why string) error {
	return rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter %s was specified: %s.", name, why)
}

// dates reads the span, whose two ends both belong to it; they are told apart to the second.
func (c *call) dates(q url.Values) (err error) {
	read := func(name string) (time.Time, error) {
		s := q.Get(name)
		if s == "" {
			return time.Time{}, nil
		}
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"} {
			if t, err := time.Parse(layout, s); err == nil && t.Year() >= 1970 && t.Year() < 2500 {
				return t.UTC(), nil
			}
		}
		return time.Time{}, badQuery(name, "an ISO 8601 date is needed")
	}
	if c.query.From, err = read("minDate"); err != nil {
		return err
	}
	last, err := read("maxDate")
	if err != nil || last.IsZero() {
		return err
	}
	if c.query.From.After(last) {
		return rest.Fail(http.StatusBadRequest, "START_DATE_AFTER_END_DATE", "The start date must not be after the end date.")
	}
	c.query.To = last.Truncate(time.Second).Add(time.Second)
	return nil
}

// list holds only the events of the page that is asked for, and counts the others.
func (c *call) list() (any, error) {
	q := c.R.URL.Query()
	raw, err := c.raw()
	if err != nil {
		return nil, err
	}
	if err := c.dates(q); err != nil {
		return nil, err
	}
	for _, name := range q["eventType"] {
		c.query.Types = append(c.query.Types, model.EventType(name))
	}
	from, to := wanted(q)
	var found []*model.Event // nil outside the page
	next, err := c.Events.EachEvent(c.R.Context(), c.query, c.Look, func(e model.Event) bool {
		if n := len(found); n >= from && n < to {
			found = append(found, &e)
			return true
		}
		found = append(found, nil)
		return true
	})
	if err != nil {
		return nil, err
	}
	if next != "" && len(found) < to {
		// Never a short page that looks like the end: clients would take it for all there is.
		at, _ := alerting.CursorTime(next)
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "Too many events lie before this page. All since %s were looked at; ask for older ones with %s.",
			rest.ISOTime(at), "maxDate")
	}
	if next != "" {
		found = append(found, nil) // there is a next page, if only to say how to go on
	}
	for _, e := range found[min(from, len(found)):min(to, len(found))] {
		if err := c.readClusters(*e); err != nil {
			return nil, err
		}
	}
	return rest.Page(c.Call, found, func(e *model.Event) rest.Object { return c.entity(*e, raw) })
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

func (c *call) readClusters(e model.Event) error {
	if e.ClusterID == "" || c.clusters[e.GroupID] != nil {
		return nil
	}
	all, err := c.Inventory.Clusters(c.R.Context(), e.GroupID)
	if err != nil && !rest.IsNotFound(err) { // the events of a group outlive it
		return err
	}
	byID := make(map[model.ID]model.Cluster, len(all))
	for _, k := range all {
		byID[k.ID] = k
	}
	c.clusters[e.GroupID] = byID
	return nil
}

func (c *call) entity(e model.Event, raw bool) rest.Object {
	o := rest.Object{
		"id": e.ID, "eventTypeName": e.Type, "created": rest.ISOTime(e.At), "isGlobalAdmin": e.Global,
		"links": c.Self(c.Href(append(c.base[:len(c.base):len(c.base)], string(e.ID))...)),
	}
	rest.Put(o, "groupId", e.GroupID)
	rest.Put(o, "orgId", cmp.Or(e.OrgID, c.query.OrgID, c.Group.OrgID))
	switch {
	case e.APIKey != "":
		rest.Put(o, "apiKeyId", e.APIKeyID)
		o["publicKey"] = e.APIKey
	case e.Username != "":
		rest.Put(o, "userId", e.UserID)
		o["username"] = e.Username
	}
	rest.Put(o, "remoteAddress", e.IP)
	rest.Put(o, "targetUsername", e.TargetUser)
	rest.Put(o, "targetPublicKey", e.TargetKey)
	rest.Put(o, "accessListEntry", e.AccessEntry)
	rest.Put(o, "whitelistEntry", e.AccessEntry) // as older clients call it
	rest.Put(o, "hostId", e.HostID)
	if name, port, err := model.SplitAddress(e.HostName); err == nil && e.HostName != "" {
		o["hostname"], o["port"] = name, port
	}
	if e.ClusterID != "" {
		o["clusterId"] = e.ClusterID
		k := c.clusters[e.GroupID][e.ClusterID]
		rest.Put(o, "clusterName", k.Name)
		rest.Put(o, "replicaSetName", k.ReplicaSet)
		rest.Put(o, "shardName", k.ShardName)
	}
	rest.Put(o, "alertId", e.AlertID)
	rest.Put(o, "alertConfigId", e.ConfigID)
	rest.Put(o, "maintenanceWindowId", e.WindowID)
	rest.Put(o, "metricName", e.Metric)
	if e.Value != nil {
		o["currentValue"] = rest.Reading(e.Value)
	}
	if raw {
		r := rest.Object{"_t": e.Type, "cre": e.At.UnixMilli()}
		rest.Put(r, "text", e.Text)
		rest.Put(r, "agentId", e.AgentID)
		o["raw"] = r
	}
	return o
}
