package alert

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/functions/app/alert/reach"
	"github.com/heartwood-db/heartwood/functions/app/alert/words"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// The lists a reader can choose.
const (
	stateOpen     = "open"
	stateAcked    = "acknowledged"
	stateTracking = "tracking"
	stateClosed   = "closed"
	stateAll      = "all"
)

// late is how old the newest evaluation may be before the page warns.
const late = 3 * time.Minute

// Option is a choice of a list.
type Option struct {
	Value, Label string
	On           bool
}

type heading struct {
	Label   string
	Options []Option
}

type listPage struct {
	Site     bool
	State    string
	States   []Option
	Rows     []row
	Form     *view.Form
	Clusters []Option
	Kinds    []heading
	Filtered bool
	Total    int // live ones of the state, over all pages
	Pager    view.Pager
	Older    string
	Newest   string
	Live     bool
	All      string
	Here     string // this page's address, to come back to
	May      bool
	Why      string
	Ends     []Option
	Said     string
	Act      string // where acknowledging goes
	Settings string
	WhyPage  string

	// What is watched, for the empty states and the warning above the list.
	Rules    int
	Disabled int
	Hosts    int
	Sets     int
	LastPass time.Time
	Stalled  bool
	Clock    string
	Missing  []lack
	Mute     bool // none of the settings can tell anybody
}

// lack is what keeps settings from telling people by a channel on this site.
type lack struct {
	Why      string
	Settings int
}

// filter is what the reader narrowed the list to.
type filter struct {
	host    model.HostID
	cluster model.ID
	types   []model.EventType
	config  model.ID
}

func (f *filter) fits(a *model.Alert) bool {
	return (f.host == "" || a.Target.HostID == f.host) && (f.cluster == "" || a.Target.ClusterID == f.cluster) &&
		(f.config == "" || a.ConfigID == f.config) && (len(f.types) == 0 || slices.Contains(f.types, a.EventType))
}

// list answers: what is firing, who has it, and until when?
func (p *Pages) list(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := needRead(v); err != nil {
		return view.Answer{}, err
	}
	d := listPage{
		Site: v.Group == nil, State: v.Query("state"), Form: view.NewForm(nil), All: base(v) + "?state=" + stateOpen, Newest: v.Link("before", "", "page", ""),
		May: v.May(editRight(v)), Why: "You cannot do this: " + editRight(v).Reason(), Ends: Ends(), Act: base(v) + "/acknowledge", Said: doneText(v.Query("done")),
		Here: v.Link("done", ""), Settings: "/admin/alert-settings",
	}
	if v.Group != nil {
		d.Settings, d.WhyPage = v.GroupPath("/alert-settings"), v.GroupPath("/alerts/why")
	}
	if !slices.Contains([]string{stateAcked, stateTracking, stateClosed, stateAll}, d.State) {
		d.State = stateOpen
	}
	f, clusters, err := p.filter(ctx, v, &d)
	if err != nil {
		return view.Answer{}, err
	}
	var live []model.Alert
	eg, ectx := errgroup.WithContext(ctx)
	eg.Go(func() (err error) { live, err = p.live(ectx, v); return err })
	eg.Go(func() error { return p.watched(ectx, v, &d, clusters) })
	if err := eg.Wait(); err != nil {
		return view.Answer{}, err
	}
	d.count(v, live)
	answer := view.Answer{Template: "alerts.html", Title: "Alerts", Nav: "alerts", Data: &d}
	if !d.Form.OK() {
		answer.Status = 400
		return answer, nil
	}
	return answer, p.rows(ctx, v, &d, f, live)
}

func (p *Pages) filter(ctx context.Context, v *view.Visit, d *listPage) (filter, []model.Cluster, error) {
	var f filter
	for _, name := range []string{"host", "cluster", "type", "config"} {
		d.Form.Set(name, strings.TrimSpace(v.Query(name)))
		d.Filtered = d.Filtered || d.Form.Value(name) != ""
	}
	if t := d.Form.Value("type"); t != "" {
		f.types = []model.EventType{model.EventType(t)}
	}
	if id := model.ID(d.Form.Value("config")); id.Valid() {
		f.config = id
	}
	d.Kinds = kinds(f.types, d.Site)
	if v.Group == nil {
		return f, nil, nil
	}
	clusters, err := p.opt.Inventory.ClusterNames(ctx, v.Group.ID)
	if err != nil {
		return f, nil, fmt.Errorf("read the clusters: %w", err)
	}
	for i := range clusters {
		on := string(clusters[i].ID) == d.Form.Value("cluster")
		if on {
			f.cluster = clusters[i].ID
		}
		d.Clusters = append(d.Clusters, Option{string(clusters[i].ID), cmp.Or(clusters[i].Name, clusters[i].ReplicaSet), on})
	}
	slices.SortFunc(d.Clusters, func(a, b Option) int { return cmp.Compare(a.Label, b.Label) })
	if asked := d.Form.Value("cluster"); asked != "" && f.cluster == "" {
		d.Form.Fail("cluster", "There is no such cluster in this group.")
	}
	f.host, err = p.hostOf(ctx, v, d.Form)
	return f, clusters, err
}

// hostOf finds the host a form names by its address or id. One that was removed is found, too: its id follows from its address.
func (p *Pages) hostOf(ctx context.Context, v *view.Visit, form *view.Form) (model.HostID, error) {
	asked := form.Value("host")
	if asked == "" || model.HostID(asked).Valid() {
		return model.HostID(asked), nil
	}
	name, port, err := model.SplitAddress(asked)
	if err != nil {
		form.Fail("host", "Give a host name and port, such as db1.example.com:27017.")
		return "", nil //nolint:nilerr // the form says it
	}
	h, err := p.opt.Inventory.FindHost(ctx, v.Group.ID, model.Address(name, port))
	switch {
	case missing(err):
		return model.NewHostID(v.Group.ID, name, port), nil
	case err != nil:
		return "", fmt.Errorf("find the host: %w", err)
	}
	return h.ID, nil
}

// kinds offers what can raise alerts here.
func kinds(on []model.EventType, site bool) (out []heading) {
	for _, t := range rule.Types() {
		if !t.Raised || t.Global != site && t.Global {
			continue
		}
		label := words.Category(t.Category)
		if len(out) == 0 || out[len(out)-1].Label != label {
			i := slices.IndexFunc(out, func(h heading) bool { return h.Label == label })
			if i < 0 {
				out = append(out, heading{Label: label})
			} else {
				out = append(append(out[:i:i], out[i+1:]...), out[i])
			}
		}
		last := &out[len(out)-1]
		last.Options = append(last.Options, Option{string(t.Name), words.Type(t.Name), slices.Contains(on, t.Name)})
	}
	return out
}

// watched says what is looked at, so that an empty list is good news and not a question.
func (p *Pages) watched(ctx context.Context, v *view.Visit, d *listPage, clusters []model.Cluster) error {
	groups, mute := []model.ID{""}, 0
	if v.Group != nil {
		groups = append(groups, v.Group.ID)
		hosts, err := p.opt.Inventory.Hosts(ctx, v.Group.ID)
		if err != nil {
			return fmt.Errorf("read the hosts: %w", err)
		}
		for i := range hosts {
			if hosts[i].Visible() {
				d.Hosts++
			}
		}
		for i := range clusters {
			if clusters[i].Type == model.ClusterReplicaSet {
				d.Sets++
			}
		}
	}
	for _, g := range groups {
		configs, err := p.opt.Alerting.Configs(ctx, g)
		if err != nil {
			return fmt.Errorf("read the alert configurations: %w", err)
		}
		for i := range configs {
			switch {
			case v.Group != nil && !configs[i].Covers(v.Group):
			case configs[i].Enabled:
				d.Rules++
				if p.lacks(d, &configs[i]) {
					mute++
				}
			case g != "" || v.Group == nil:
				d.Disabled++
			}
		}
	}
	d.Mute = d.Rules > 0 && mute == d.Rules
	w, err := p.opt.Alerting.Watch(ctx)
	if err != nil && !missing(err) {
		return fmt.Errorf("read the state of the evaluation: %w", err)
	}
	d.LastPass, d.Clock = w.LastPass, w.ClockNote
	d.Stalled = w.LastPass.IsZero() || v.Now.Sub(w.LastPass) > late
	return nil
}

// lacks notes what the site has not set up and a setting needs. It reports whether no notification of the setting can be sent.
func (p *Pages) lacks(d *listPage, c *model.AlertConfig) bool {
	seen, mute := map[string]bool{}, true
	for _, n := range c.Notifications {
		why := reach.Missing(p.opt.Sender, n)
		if n.Channel == notify.Admin && len(p.opt.Admin) == 0 {
			why = append(why, "Nobody has set where mail for the operators goes: set mms.adminEmailAddr.")
		}
		mute = mute && len(why) > 0
		for _, w := range why {
			if seen[w] {
				continue
			}
			seen[w] = true
			if i := slices.IndexFunc(d.Missing, func(l lack) bool { return l.Why == w }); i >= 0 {
				d.Missing[i].Settings++
			} else {
				d.Missing = append(d.Missing, lack{w, 1})
			}
		}
	}
	return mute
}

// reached looks up for the rows whether people were told.
func (p *Pages) reached(ctx context.Context, v *view.Visit, rows []row) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(8)
	for i := range rows {
		r := &rows[i]
		if !reach.Decided(&r.Alert) {
			continue
		}
		eg.Go(func() error {
			sent, _, err := p.opt.Alerting.Deliveries(ctx, alerting.DeliveryQuery{AlertID: r.ID, GroupID: r.GroupID, Limit: maxSent})
			if err != nil {
				return fmt.Errorf("read the deliveries: %w", err)
			}
			r.Reach = reach.Of(&r.Alert, sent, p.opt.Sender, v.Now)
			return nil
		})
	}
	return eg.Wait()
}

func stateOf(a *model.Alert, now time.Time) string {
	switch {
	case a.Status == model.AlertTracking:
		return stateTracking
	case a.Status == model.AlertOpen && a.Acknowledged(now):
		return stateAcked
	case a.Status == model.AlertOpen:
		return stateOpen
	}
	return stateClosed
}

func (d *listPage) count(v *view.Visit, live []model.Alert) {
	n := map[string]int{}
	for i := range live {
		n[stateOf(&live[i], v.Now)]++
	}
	for _, s := range []Option{{Value: stateOpen, Label: "Open"}, {Value: stateAcked, Label: "Acknowledged"}, {Value: stateTracking, Label: "Tracking"}, {Value: stateClosed, Label: "Closed"}, {Value: stateAll, Label: "All"}} {
		if s.Value != stateClosed && s.Value != stateAll {
			s.Label += " " + view.Count(int64(n[s.Value]))
		}
		s.On, s.Value = s.Value == d.State, v.Link("state", s.Value, "page", "", "before", "", "done", "")
		d.States = append(d.States, s)
	}
}

// rows reads the chosen list. The live ones are few and read whole; the closed ones come page by page from the store.
func (p *Pages) rows(ctx context.Context, v *view.Visit, d *listPage, f filter, live []model.Alert) error {
	if d.State != stateClosed && d.State != stateAll {
		var kept []model.Alert
		for i := range live {
			if stateOf(&live[i], v.Now) == d.State && f.fits(&live[i]) {
				kept = append(kept, live[i])
			}
		}
		slices.SortFunc(kept, func(a, b model.Alert) int { return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.ID, b.ID)) })
		kept, d.Pager = view.Paged(v, kept)
		d.Live, d.Total = true, d.Pager.Total
		for i := range kept {
			d.Rows = append(d.Rows, p.rowOf(v, kept[i]))
		}
		return p.reached(ctx, v, d.Rows)
	}
	q := alerting.AlertQuery{
		GroupID: groupID(v), AllGroups: v.Group == nil, GlobalOnly: v.Group == nil, HostID: f.host, ClusterID: f.cluster, ConfigID: f.config, EventTypes: f.types,
		Before: v.Query("before"), Limit: view.PageRows,
	}
	if d.State == stateClosed {
		q.Statuses = []model.AlertStatus{model.AlertClosed, model.AlertCancelled}
	}
	alerts, next, err := p.opt.Alerting.Alerts(ctx, q)
	if err != nil {
		return fmt.Errorf("read the alerts: %w", err)
	}
	for i := range alerts {
		d.Rows = append(d.Rows, p.rowOf(v, alerts[i]))
	}
	d.Live, d.Total = q.Before == "", len(alerts)
	if next != "" {
		d.Older = v.Link("before", next)
	}
	return p.reached(ctx, v, d.Rows)
}

// Acts reports whether rows can be chosen and acknowledged.
func (d *listPage) Acts() bool {
	return len(d.Rows) > 0 && (d.State == stateOpen || d.State == stateAcked || d.State == stateTracking)
}
