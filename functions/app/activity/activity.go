// Package activity holds the pages that tell who did what, what happened, and from where: the feed of a group and that
// of the whole site, with filters, search and downloads. It only reads; events are written where things happen, and are
// never changed.
package activity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// Inventory names what events are about.
type Inventory interface {
	FindHost(ctx context.Context, group model.ID, address string) (model.Host, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
}

// Events are read with a bound on how much is looked at.
type Events interface {
	EachEvent(ctx context.Context, q alerting.EventQuery, look int, take func(model.Event) bool) (next string, err error)
}

// Options are what the pages need from outside.
type Options struct {
	Inventory Inventory
	Events    Events
}

// Pages answers for the feeds.
type Pages struct{ opt Options }

// New checks the options.
func New(o Options) (*Pages, error) {
	if o.Inventory == nil || o.Events == nil {
		return nil, errors.New("activity options: Inventory and Events are needed")
	}
	return &Pages{opt: o}, nil
}

// Routes lists the pages.
func (p *Pages) Routes() []view.Route {
	return []view.Route{
		{Pattern: "GET /g/{group}/activity", Handler: p.page},
		{Pattern: "GET /g/{group}/activity.csv", Handler: p.export(writeCSV, "text/csv; charset=utf-8", "csv")},
		{Pattern: "GET /g/{group}/activity.json", Handler: p.export(writeJSON, "application/json", "json")},
		{Pattern: "GET /admin/activity", Handler: p.page},
		{Pattern: "GET /admin/activity.csv", Handler: p.export(writeCSV, "text/csv; charset=utf-8", "csv")},
		{Pattern: "GET /admin/activity.json", Handler: p.export(writeJSON, "application/json", "json")},
	}
}

// lookPage is how many events one page looks at: enough for hours of a big site, and read in well under a second.
const lookPage = 10_000

// maxChoices bounds the lists to choose clusters and groups from.
const maxChoices = 200

// row is one event as it is shown.
type row struct {
	model.Event
	Word    string
	Actor   string
	As      string // what kind of actor
	Agent   string // path of the agent, when one acted
	Host    string // path of the host's page
	Cluster string // name of the cluster
	Path    string // of the cluster's page
	Group   string // name of the group, on the site's feed
	Home    string // path of the group
}

type option struct {
	Value, Label string
	On           bool
}

type heading struct {
	option
	Kinds []option
}

type feed struct {
	Site     bool
	Rows     []row
	Kinds    []heading
	Clusters []option
	Groups   []option
	Form     *view.Form
	Filtered bool
	Live     bool // the newest page, which refreshes itself
	Older    string
	Newest   string
	CSV      string
	JSON     string
	All      string
	Since    time.Time // how far back was searched, when the page ended before it was full
}

// query reads the address. The form holds what was asked for and what is wrong with it.
func (p *Pages) query(ctx context.Context, v *view.Visit) (alerting.EventQuery, *view.Form, []model.Cluster, error) {
	asked := v.Request.URL.Query()
	f := view.NewForm(nil)
	for _, name := range []string{"host", "cluster", "actor", "q", "from", "to", "group"} {
		f.Set(name, strings.TrimSpace(asked.Get(name)))
	}
	q := alerting.EventQuery{
		Types: typesOf(asked["type"]), Actor: f.Value("actor"), Text: f.Value("q"), Before: asked.Get("before"), Limit: view.PageRows,
	}
	if len(asked["type"]) > 100 || len(v.Request.URL.RawQuery) > 8<<10 {
		return q, f, nil, view.BadRequest("It asks for too much at once.")
	}
	if _, ok := alerting.CursorTime(q.Before); !ok && q.Before != "" {
		return q, f, nil, view.BadRequest("Its place in the list (before) is none. Start again at the newest events.")
	}
	q.From, q.To = moment(v, f, "from"), moment(v, f, "to")
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		f.Fail("to", "The end must come after the beginning.")
	}
	if v.Group == nil {
		scopeOf(v, f, &q)
		return q, f, nil, nil
	}
	q.GroupID = v.Group.ID
	clusters, err := p.opt.Inventory.Clusters(ctx, v.Group.ID)
	if err != nil {
		return q, f, nil, fmt.Errorf("read the clusters: %w", err)
	}
	if name := f.Value("cluster"); name != "" {
		i := slices.IndexFunc(clusters, func(c model.Cluster) bool { return string(c.ID) == name || clusterName(&c) == name })
		switch {
		case i >= 0:
			q.ClusterID = clusters[i].ID
		case model.ID(name).Valid(): // of one that is gone
			q.ClusterID = model.ID(name)
		default:
			f.Fail("cluster", "There is no cluster "+view.Middle(name, 60)+" in this group.")
		}
	}
	return q, f, clusters, p.host(ctx, v, f, &q)
}

// host finds the host that is asked for. One that was removed is found, too: its id follows from its address.
func (p *Pages) host(ctx context.Context, v *view.Visit, f *view.Form, q *alerting.EventQuery) error {
	asked := f.Value("host")
	switch {
	case asked == "":
		return nil
	case model.HostID(asked).Valid():
		q.HostID = model.HostID(asked)
		return nil
	}
	name, port, err := model.SplitAddress(asked)
	if err != nil {
		f.Fail("host", "Give a host name and port, such as db1.example.com:27017.")
		return nil //nolint:nilerr // the form says it
	}
	h, err := p.opt.Inventory.FindHost(ctx, v.Group.ID, model.Address(name, port))
	switch {
	case errors.Is(err, docstore.ErrNotFound):
		q.HostID = model.NewHostID(v.Group.ID, name, port)
	case err != nil:
		return fmt.Errorf("find the host: %w", err)
	default:
		q.HostID = h.ID
	}
	return nil
}

// scopeOf is what the site's feed shows: everything, the site's own events, or those of one group.
func scopeOf(v *view.Visit, f *view.Form, q *alerting.EventQuery) {
	q.AllGroups = true
	switch asked := f.Value("group"); {
	case asked == "":
	case asked == "site":
		q.AllGroups = false
	case !model.ID(asked).Valid():
		f.Fail("group", "This is no group.")
	default: // also one that was deleted: its events are still there
		q.AllGroups, q.GroupID = false, model.ID(asked)
	}
}

// moment reads a time of the address, in the viewer's zone unless it names its own.
func moment(v *view.Visit, f *view.Form, name string) time.Time {
	s := f.Value(name)
	if s == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, v.Zone); err == nil {
			if y := t.Year(); y < 1970 || y > 2500 {
				break
			}
			f.Set(name, t.In(v.Zone).Format("2006-01-02T15:04:05"))
			return t.UTC()
		}
	}
	f.Fail(name, "Give a date and time, such as 2026-03-01T10:07.")
	return time.Time{}
}

func clusterName(c *model.Cluster) string { return cmp.Or(c.Name, c.ReplicaSet, string(c.ID)) }

func (p *Pages) page(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if v.Group == nil {
		if err := v.Need(view.ReadSite); err != nil {
			return view.Answer{}, err
		}
	}
	q, f, clusters, err := p.query(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	d := feed{Site: v.Group == nil, Form: f, Kinds: choices(v.Request.URL.Query()["type"]), Filtered: filtered(v.Request.URL.Query())}
	d.options(v, clusters, q)
	answer := view.Answer{Template: "activity.html", Title: "Activity", Nav: "activity", Data: &d}
	base := v.Request.URL.Path
	d.All, d.Newest = base, v.Link("before", "")
	d.CSV, d.JSON = download(v, ".csv"), download(v, ".json")
	if !f.OK() {
		answer.Status = 400
		return answer, nil
	}
	var events []model.Event
	next, err := p.opt.Events.EachEvent(ctx, q, lookPage, func(e model.Event) bool {
		if len(events) == view.PageRows {
			return false
		}
		events = append(events, e)
		return true
	})
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the events: %w", err)
	}
	if next != "" {
		d.Older = v.Link("before", next)
		if len(events) < view.PageRows {
			d.Since, _ = alerting.CursorTime(next)
		}
	}
	d.Live = q.Before == ""
	for i := range events {
		d.Rows = append(d.Rows, rowOf(v, events[i], clusters))
	}
	return answer, nil
}

func filtered(q url.Values) bool {
	for _, name := range []string{"host", "cluster", "actor", "q", "from", "to", "group", "type"} {
		if strings.TrimSpace(strings.Join(q[name], "")) != "" {
			return true
		}
	}
	return false
}

// download is the address of the same events as a file: all of them, not this page's.
func download(v *view.Visit, ending string) string {
	q := v.Request.URL.Query()
	q.Del("before")
	if len(q) == 0 {
		return v.Request.URL.Path + ending
	}
	return v.Request.URL.Path + ending + "?" + q.Encode()
}

func choices(on []string) (out []heading) {
	for _, g := range groups() {
		h := heading{option: option{g.Name, g.Label, slices.Contains(on, g.Name)}}
		for _, k := range kinds() {
			if k.Group == g.Name {
				h.Kinds = append(h.Kinds, option{string(k.Type), k.Word, slices.Contains(on, string(k.Type))})
			}
		}
		if len(h.Kinds) > 0 {
			out = append(out, h)
		}
	}
	return out
}

// options fills the lists to choose from. Where there are more than a list can hold, none is shown and a field takes the name.
func (d *feed) options(v *view.Visit, clusters []model.Cluster, q alerting.EventQuery) {
	if len(clusters) <= maxChoices {
		for i := range clusters {
			d.Clusters = append(d.Clusters, option{string(clusters[i].ID), clusterName(&clusters[i]), clusters[i].ID == q.ClusterID})
		}
		slices.SortFunc(d.Clusters, func(a, b option) int { return cmp.Compare(a.Label, b.Label) })
	}
	if d.Site {
		d.Groups = append(d.Groups, option{"site", "The site itself", d.Form.Value("group") == "site"})
		for i := range v.Groups[:min(len(v.Groups), maxChoices)] {
			g := &v.Groups[i]
			d.Groups = append(d.Groups, option{string(g.ID), g.Name, g.ID == q.GroupID})
		}
	}
}

func rowOf(v *view.Visit, e model.Event, clusters []model.Cluster) row {
	r := row{Event: e, Word: word(e.Type)}
	r.As, r.Actor = actorOf(&e)
	for i := range v.Groups {
		if v.Groups[i].ID == e.GroupID {
			r.Group, r.Home = v.Groups[i].Name, "/g/"+string(e.GroupID)
		}
	}
	if r.Group == "" {
		r.Group = string(e.GroupID)
	}
	if r.Home != "" && r.As == asAgent {
		r.Agent = r.Home + "/agents#a-" + e.AgentID
	}
	if r.Home != "" && e.HostID != "" && e.Type != model.EventHostDeleted {
		r.Host = r.Home + "/hosts/" + string(e.HostID)
	}
	if e.ClusterID != "" {
		i := slices.IndexFunc(clusters, func(c model.Cluster) bool { return c.ID == e.ClusterID })
		if i >= 0 {
			r.Cluster = clusterName(&clusters[i])
		} else {
			r.Cluster = "cluster"
		}
		if i >= 0 || v.Group == nil && r.Home != "" {
			r.Path = r.Home + "/clusters/" + string(e.ClusterID)
		}
	}
	return r
}

const asAgent = "agent"

// actorOf says who acted, and as what. Nobody did when Heartwood itself saw something.
func actorOf(e *model.Event) (as, name string) {
	switch {
	case e.Username != "":
		return "user", e.Username
	case e.APIKey != "":
		return "API key", e.APIKey
	case e.AgentID != "":
		return asAgent, e.AgentID
	}
	return "", ""
}

// Sentence is what the event says, in words of its own where it has them.
func (r row) Sentence() string { return cmp.Or(r.Text, r.Word+".") }

// Brief is as much of an agent's id as tells agents apart.
func (r row) Brief() string { return view.Middle(r.Actor, 13) }
