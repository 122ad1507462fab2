package alertedit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/functions/app/alert/reach"
	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/alertedit/frame"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/shipped"
)

// setting is one configuration as the list shows it.
type setting struct {
	model.AlertConfig
	Sentence string
	Href     string
	State    view.State
	Matches  string // what it is about now
	Tells    []tells
	Warnings []string
	Global   bool // of the site, shown in a group's list
	Open     int
}

type tells struct{ Who, When string }

type listPage struct {
	frame.Top
	Rows        []setting
	Recommended []setting
	Globals     []setting // that cover this group
	Pager       view.Pager
	On          int
	Shared      []string // warnings that several settings share
	Fresh       bool     // the group has no setting at all
}

// facts are what settings of a group are held against.
type facts struct {
	hosts        []model.Host
	clusters     []model.Cluster
	agents       []model.Agent
	people       notify.People
	integrations []model.Notification
}

func (p *Pages) facts(ctx context.Context, g *model.Group) (*facts, error) {
	var f facts
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() (err error) { f.people, err = p.people(ctx, g); return err })
	if g != nil {
		eg.Go(func() (err error) { f.hosts, err = p.opt.Inventory.Hosts(ctx, g.ID); return err })
		eg.Go(func() (err error) { f.clusters, err = p.opt.Inventory.Clusters(ctx, g.ID); return err })
		eg.Go(func() (err error) { f.agents, err = p.opt.Inventory.Agents(ctx, g.ID); return err })
		eg.Go(func() (err error) { f.integrations, err = p.opt.Alerting.Integrations(ctx, g.ID); return err })
	}
	if err := eg.Wait(); err != nil {
		return nil, fmt.Errorf("read what settings are about: %w", err)
	}
	return &f, nil
}

// list answers: what would page whom?
func (p *Pages) list(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := frame.NeedRead(v); err != nil {
		return view.Answer{}, err
	}
	d := listPage{Top: frame.NewTop(v, "rules", nil)}
	f, err := p.facts(ctx, v.Group)
	if err != nil {
		return view.Answer{}, err
	}
	configs, err := p.opt.Alerting.Configs(ctx, frame.GroupID(v))
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the alert settings: %w", err)
	}
	order(configs)
	for i := range configs {
		if configs[i].Enabled {
			d.On++
		}
	}
	d.Fresh = len(configs) == 0
	d.Recommended = p.recommended(v, f, configs)
	configs, d.Pager = view.Paged(v, configs)
	for i := range configs {
		d.Rows = append(d.Rows, p.describe(v, f, &configs[i]))
	}
	if v.Group == nil {
		d.share()
		return frame.Page("alert-settings.html", "Global alert settings", &d, nil), nil
	}
	globals, err := p.opt.Alerting.Configs(ctx, "")
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the global alert settings: %w", err)
	}
	order(globals)
	for i := range globals {
		if t, ok := rule.TypeOf(globals[i].EventType); globals[i].Covers(v.Group) && ok && !t.Global {
			s := p.describe(v, f, &globals[i])
			s.Global, s.Href = true, ""
			if v.SeesSite() {
				s.Href = "/admin/alert-settings/" + string(s.ID)
			}
			d.Globals = append(d.Globals, s)
		}
	}
	d.share()
	return frame.Page("alert-settings.html", "Alert settings", &d, nil), nil
}

// share says once, above the list, what several settings have to be warned of.
func (d *listPage) share() {
	n := map[string]int{}
	lists := [][]setting{d.Rows, d.Globals, d.Recommended}
	for _, rows := range lists {
		for i := range rows {
			for _, w := range rows[i].Warnings {
				if n[w]++; n[w] == 2 {
					d.Shared = append(d.Shared, w)
				}
			}
		}
	}
	for _, rows := range lists {
		for i := range rows {
			rows[i].Warnings = slices.DeleteFunc(rows[i].Warnings, func(w string) bool { return n[w] > 1 })
		}
	}
}

// order puts those that are on first, then by what they are about.
func order(configs []model.AlertConfig) {
	rank := map[model.EventType]int{}
	for i, t := range rule.Types() {
		rank[t.Name] = i
	}
	slices.SortStableFunc(configs, func(a, b model.AlertConfig) int {
		switch {
		case a.Enabled != b.Enabled && a.Enabled:
			return -1
		case a.Enabled != b.Enabled:
			return 1
		}
		return rank[a.EventType] - rank[b.EventType]
	})
}

func (p *Pages) describe(v *view.Visit, f *facts, c *model.AlertConfig) setting {
	t, known := rule.TypeOf(c.EventType)
	s := setting{AlertConfig: *c, Sentence: words.Rule(c), Href: frame.Base(v) + "/" + string(c.ID), State: view.State{Level: view.Unknown, Word: "off"}}
	if c.Enabled {
		s.State = view.State{Level: view.OK, Word: "on"}
	}
	for _, n := range c.Notifications {
		s.Tells = append(s.Tells, tells{words.Who(filled(f, n)), words.When(n, t.Inform)})
	}
	s.Warnings = p.warnings(v, f, c)
	switch {
	case !known:
	case v.Group == nil:
		s.Matches = groupsOf(v, c)
	default:
		s.Matches = matches(v, f, c, t)
	}
	return s
}

// filled is a notification with what the group's integration gives it.
func filled(f *facts, n model.Notification) model.Notification {
	for _, in := range f.integrations {
		if in.Channel == n.Channel {
			return notify.Prefill(n, in)
		}
	}
	return n
}

// warnings are what keeps a setting from paging anybody, or makes it page about nothing.
func (p *Pages) warnings(v *view.Visit, f *facts, c *model.AlertConfig) []string {
	out := about(v, f, c)
	if len(c.Notifications) == 0 {
		out = append(out, "It tells nobody.")
	}
	for _, n := range c.Notifications {
		out = append(out, p.unreached(v, f, n)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// about is what is to be said of what a setting looks for.
func about(v *view.Visit, f *facts, c *model.AlertConfig) []string {
	t, known := rule.TypeOf(c.EventType)
	switch {
	case !known || !t.Raised:
		return []string{"Nothing in this version raises this event: the setting stays silent."}
	case v.Group != nil:
		return rule.Warnings(c, f.hosts)
	case !t.Global && !slices.ContainsFunc(v.Groups, func(g model.Group) bool { return c.Covers(&g) }):
		return []string{"It covers no group."}
	}
	return nil
}

// unreached says what keeps a notification from reaching those it is for. Whom a group's or an organization's notification of a
// global setting reaches differs from group to group.
func (p *Pages) unreached(v *view.Visit, f *facts, n model.Notification) []string {
	n = filled(f, n)
	out := reach.Missing(p.opt.Sender, n)
	if v.Group == nil && (n.Channel == notify.Group || n.Channel == notify.Org) {
		return out
	}
	to, absent := notify.Expand(n, f.people)
	if len(to) == 0 && len(absent) == 0 {
		absent = []string{words.Who(n) + ": nobody is behind it"}
	}
	for _, a := range absent {
		if a = words.Sentence(a); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// matches says what a setting is about at present.
func matches(v *view.Visit, f *facts, c *model.AlertConfig, t rule.Type) string {
	if t.Inform {
		return words.Where(c)
	}
	all := rule.Judge(c, f.snapshot(v)).All()
	switch n := len(all); {
	case n == 0:
		return "nothing here now"
	case n == 1:
		return words.Target(&all[0].Target)
	case t.Category == rule.Host:
		return fmt.Sprintf("%s hosts", view.Count(int64(n)))
	case t.Category == rule.ReplicaSet:
		return fmt.Sprintf("%s replica sets", view.Count(int64(n)))
	case t.Category == rule.Cluster:
		return fmt.Sprintf("%s clusters", view.Count(int64(n)))
	case t.Category == rule.Agent:
		return fmt.Sprintf("%s agents", view.Count(int64(n)))
	default:
		return view.Count(int64(n))
	}
}

func (f *facts) snapshot(v *view.Visit) *rule.Snapshot {
	s := &rule.Snapshot{Now: v.Now, Hosts: f.hosts, Clusters: f.clusters, Agents: f.agents, Users: f.people.Users}
	if v.Group != nil {
		s.Group = *v.Group
	}
	return s
}

func groupsOf(v *view.Visit, c *model.AlertConfig) string {
	if t, ok := rule.TypeOf(c.EventType); ok && t.Global {
		return "this site"
	}
	if c.ForAllGroups {
		return "all groups"
	}
	var names []string
	for i := range v.Groups {
		if c.Covers(&v.Groups[i]) {
			names = append(names, v.Groups[i].Name)
		}
	}
	if len(names) > 3 {
		return fmt.Sprintf("%d groups", len(names))
	}
	return strings.Join(names, ", ")
}

// recommended are the shipped settings that are not there yet, in the order they are shipped.
func (p *Pages) recommended(v *view.Visit, f *facts, have []model.AlertConfig) (out []setting) {
	for _, c := range shippedFor(v) {
		if !slices.ContainsFunc(have, func(h model.AlertConfig) bool { return h.ID == c.ID || same(&h, &c) }) {
			s := p.describe(v, f, &c)
			s.Href = ""
			out = append(out, s)
		}
	}
	return out
}

// shippedFor are the settings this program comes with for a group, or for the site.
func shippedFor(v *view.Visit) []model.AlertConfig {
	if v.Group == nil {
		return shipped.Global(v.Now)
	}
	return append(shipped.Defaults(v.Group.ID, v.Now), shipped.Recommended(v.Group.ID, v.Now)...)
}

// same reports whether two settings look for the same.
func same(a, b *model.AlertConfig) bool {
	if a.EventType != b.EventType || !slices.Equal(a.Matchers, b.Matchers) {
		return false
	}
	if a.Metric == nil || b.Metric == nil {
		return a.Metric == b.Metric
	}
	return a.Metric.Metric == b.Metric.Metric && a.Metric.Operator == b.Metric.Operator
}

// switchOn adds one of the recommended settings, or all of them, switched on.
func (p *Pages) switchOn(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return view.Answer{}, err
	}
	asked := v.Request.PostFormValue("id")
	found := false
	for _, c := range shippedFor(v) {
		if asked != "all" && string(c.ID) != asked {
			continue
		}
		found = true
		c.Enabled, c.Created, c.Updated = true, v.Now, v.Now
		err := p.opt.Alerting.CreateConfig(ctx, c)
		switch {
		case errors.Is(err, docstore.ErrExists) && asked == "all":
			continue
		case errors.Is(err, docstore.ErrExists):
			return view.Redirect(frame.Base(v)), nil
		case err != nil:
			return view.Answer{}, fmt.Errorf("add the alert setting: %w", err)
		}
		p.note(ctx, v, model.Event{Type: model.EventAlertConfigAdded, ConfigID: c.ID, Text: "Recommended alert setting switched on: " + words.Rule(&c)})
	}
	if !found {
		return view.Answer{}, view.NotFound("recommended setting")
	}
	return view.Redirect(frame.Base(v) + "?done=added"), nil
}

// enable switches a setting on or off.
func (p *Pages) enable(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return view.Answer{}, err
	}
	on := v.Request.PostFormValue("on") != ""
	id := model.ID(v.Request.PathValue("id"))
	var was model.AlertConfig
	err := p.opt.Alerting.UpdateConfig(ctx, frame.GroupID(v), id, func(c *model.AlertConfig) error {
		was = *c
		if c.Enabled != on {
			c.Enabled, c.Updated = on, v.Now
		}
		return nil
	})
	if err != nil {
		return view.Answer{}, view.Missing(err, "alert setting")
	}
	done := map[bool]string{true: "enabled", false: "disabled"}[on]
	if was.Enabled != on {
		e := model.Event{Type: model.EventAlertConfigDisabled, ConfigID: id, Text: "Alert setting switched off: " + words.Rule(&was)}
		if on {
			e.Type, e.Text = model.EventAlertConfigEnabled, "Alert setting switched on: "+words.Rule(&was)
		}
		p.note(ctx, v, e)
	}
	return view.Redirect(frame.Base(v) + "?done=" + done), nil
}

func (p *Pages) deleteForm(ctx context.Context, v *view.Visit) (*frame.Confirm, *model.AlertConfig, error) {
	if err := v.Need(frame.EditRight(v)); err != nil {
		return nil, nil, err
	}
	c, err := p.opt.Alerting.Config(ctx, frame.GroupID(v), model.ID(v.Request.PathValue("id")))
	if err != nil {
		return nil, nil, view.Missing(err, "alert setting")
	}
	return &frame.Confirm{
		What: "alert setting", Name: words.Condition(&c), Button: "Delete", Form: view.NewForm(nil), Back: frame.Base(v), Action: frame.Base(v) + "/" + string(c.ID) + "/delete",
		Loses: "Nobody is told of this any more: " + words.Rule(&c) + " Alerts that it has opened are cancelled; those told of them are told that, too. Closed ones stay in the list.",
	}, &c, nil
}

func (p *Pages) confirmDelete(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, _, err := p.deleteForm(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	return d.Answer(), nil
}

func (p *Pages) remove(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, c, err := p.deleteForm(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	if !d.Typed(v) {
		return d.Answer(), nil
	}
	if err := p.opt.Alerting.DeleteConfig(ctx, frame.GroupID(v), c.ID); err != nil {
		return view.Answer{}, view.Missing(err, "alert setting")
	}
	p.note(ctx, v, model.Event{Type: model.EventAlertConfigDeleted, ConfigID: c.ID, Text: "Alert setting deleted: " + words.Rule(c)})
	return view.Redirect(frame.Base(v) + "?done=deleted"), nil
}
