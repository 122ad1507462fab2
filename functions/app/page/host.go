package page

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/alert/standing"
	"github.com/heartwood-db/heartwood/functions/app/chart"
	"github.com/heartwood-db/heartwood/functions/app/page/remedy"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

type tab struct {
	Name, Label, Href string
	On                bool
}

type chartPick struct {
	Chart catalog.Chart
	On    bool
}

type hostPage struct {
	Row      hostRow
	Tab      string
	Tabs     []tab
	Window   chart.Window
	Presets  []chart.Preset
	Keep     []kept
	Picks    []chartPick
	Charts   []catalog.Chart
	SeriesAt string
	Choices  []choice
	History  past
	Remedies []remedy.Remedy
	Table    bool
	TableAt  string
	ChartsAt string
	Values   []valueRow
	Open     standing.List
	Maker    standing.Maker
}

// choice lets the reader say which database, disk or volume the charts are about.
type choice struct {
	About chart.About
	Names []string
	Shown string
}

// valueRow is a measurement in the table of last values.
type valueRow struct {
	Chart, Series        string
	Last, Low, Mean, Top string
}

func tabs(v *view.Visit, on string) []tab {
	out := []tab{{Name: catalog.TabStatus, Label: "Status"}, {Name: catalog.TabHardware, Label: "Hardware"}, {Name: catalog.TabDBStats, Label: "DB Stats"}}
	for i := range out {
		out[i].On = out[i].Name == on
		out[i].Href = v.Link("tab", out[i].Name, "charts", "", "view", "")
	}
	out[0].Href = v.Link("tab", "", "charts", "", "view", "")
	return out
}

// host answers: what does this process do?
func (p *Pages) host(ctx context.Context, v *view.Visit) (view.Answer, error) {
	h, row, err := p.loadHost(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	d := hostPage{Row: row, Tab: catalog.TabStatus, Window: chart.WindowOf(v), Table: v.Query("view") == "table"}
	if t := v.Query("tab"); t == catalog.TabHardware || t == catalog.TabDBStats {
		d.Tab = t
	}
	d.Tabs, d.Presets = tabs(v, d.Tab), d.Window.Presets(v)
	d.TableAt, d.ChartsAt = v.Link("view", "table"), v.Link("view", "")
	for _, name := range []string{"tab", "charts", "view", "db", "disk", "mount"} {
		if val := v.Query(name); val != "" {
			d.Keep = append(d.Keep, kept{name, val})
		}
	}
	d.Remedies = remedy.For(v, row.State, row.Host, row.Status)
	if d.Open, err = standing.OfHost(ctx, p.opt.Alerts, v, h.ID); err != nil {
		return view.Answer{}, err
	}
	d.Maker = standing.NewMaker(v, "host", h.Address())
	d.pick(v, h.Type)
	if err := p.dimensions(ctx, v, &d); err != nil {
		return view.Answer{}, err
	}
	if d.History, err = p.history(ctx, v, d.Window, "", []hostRow{row}); err != nil {
		return view.Answer{}, err
	}
	if d.Table {
		if err := p.values(ctx, &d); err != nil {
			return view.Answer{}, err
		}
	}
	return view.Answer{Template: "host.html", Title: h.Address(), Nav: "deployment", Data: &d}, nil
}

func (p *Pages) loadHost(ctx context.Context, v *view.Visit) (model.Host, hostRow, error) {
	id := model.HostID(v.Request.PathValue("id"))
	h, err := p.opt.Inventory.Host(ctx, v.Group.ID, id)
	if err != nil {
		return h, hostRow{}, view.Missing(err, "host")
	}
	if h.Deleted {
		return h, hostRow{}, view.NotFound("host")
	}
	row := hostRow{Host: &h}
	st, err := p.opt.Inventory.Status(ctx, v.Group.ID, id)
	if err == nil {
		row.Status = &st
	} else if !isMissing(err) {
		return h, row, fmt.Errorf("read the host's status: %w", err)
	}
	if h.ClusterID != "" {
		c, err := p.opt.Inventory.Cluster(ctx, v.Group.ID, h.ClusterID)
		if err == nil {
			row.Cluster = &c
		} else if !isMissing(err) {
			return h, row, fmt.Errorf("read the host's cluster: %w", err)
		}
	}
	row.State = view.HostState(&h, row.Status, v.Now, view.StaleAfter(v.Group.Settings.PingSeconds))
	return h, row, nil
}

// pick decides which charts are shown: those the address names, else those the reader chose before, else the usual ones.
func (d *hostPage) pick(v *view.Visit, t model.ProcessType) {
	if t == model.TypeNoData || t == "" {
		t = model.TypeReplicaPrimary // what it is will be known with its first ping; show the usual charts till then
	}
	var asked []string
	if q := v.Query("charts"); q != "" {
		asked = strings.Split(q, ",")
	} else if own, ok := v.User.Prefs.Charts[prefKey(d.Tab)]; ok && len(own) > 0 {
		asked = own
	}
	for _, c := range catalog.Charts(t) {
		if c.Tab != d.Tab {
			continue
		}
		on := c.Default
		if asked != nil {
			on = slices.Contains(asked, c.ID)
		}
		d.Picks = append(d.Picks, chartPick{c, on})
		if on {
			d.Charts = append(d.Charts, c)
		}
	}
	d.SeriesAt = v.GroupPath("/hosts/" + string(d.Row.Host.ID) + "/series")
}

func prefKey(tab string) string { return "host-" + tab }

// dimensions finds what the charts of the tab can be about, beside the process.
func (p *Pages) dimensions(ctx context.Context, v *view.Visit, d *hostPage) error {
	query := url.Values{}
	known := map[catalog.Scope][]string{}
	for _, about := range chart.Abouts() {
		i := slices.IndexFunc(d.Charts, func(c catalog.Chart) bool { return chart.AboutOf(&c) == about })
		if about == chart.AboutProcess || i < 0 {
			continue
		}
		scope := d.Charts[i].Scope
		if _, read := known[scope]; !read {
			names, err := p.opt.Series.Dimensions(ctx, d.Row.Host.ID, scope)
			if err != nil {
				return fmt.Errorf("read the names of %ss: %w", scope, err)
			}
			known[scope] = names
		}
		c := choice{About: about}
		if c.Names, c.Shown = about.Choose(known[scope], v.Query(string(about))); c.Shown != "" {
			d.Choices = append(d.Choices, c)
			query.Set(string(about), c.Shown)
		}
	}
	if len(query) > 0 {
		d.SeriesAt += "?" + query.Encode()
	}
	return nil
}

// shown is the dimension chosen for a kind of chart.
func (d *hostPage) shown(a chart.About) string {
	for _, c := range d.Choices {
		if c.About == a {
			return c.Shown
		}
	}
	return ""
}

// Chooses reports whether a parameter is one of the page's choices, which carry themselves.
func (d *hostPage) Chooses(name string) bool { return d.shown(chart.About(name)) != "" }

// values fills the table that stands in for charts: last, least, mean and largest value of each line in the range.
func (p *Pages) values(ctx context.Context, d *hostPage) error {
	for _, about := range chart.Abouts() {
		var names []string
		for i := range d.Charts {
			if chart.AboutOf(&d.Charts[i]) == about {
				names = append(names, d.Charts[i].Measurements...)
			}
		}
		if len(names) == 0 || about != chart.AboutProcess && d.shown(about) == "" {
			continue
		}
		got, err := p.opt.Series.Read(ctx, series.Query{
			Host: d.Row.Host.ID, Measurements: names, Dimension: d.shown(about), From: d.Window.From, To: d.Window.To,
		})
		if err != nil {
			return fmt.Errorf("read the series: %w", err)
		}
		lines := make(map[string]series.Line, len(got.Lines))
		for _, l := range got.Lines {
			lines[l.Name] = l
		}
		for _, c := range d.Charts {
			for _, m := range c.Measurements {
				if l, ok := lines[m]; ok && chart.AboutOf(&c) == about {
					d.Values = append(d.Values, summary(c, m, l))
				}
			}
		}
	}
	return nil
}

func summary(c catalog.Chart, name string, l series.Line) valueRow {
	low, top, sum, n := math.Inf(1), math.Inf(-1), 0.0, 0
	for _, x := range l.Values {
		if math.IsNaN(x) {
			continue
		}
		low, top, sum, n = min(low, x), max(top, x), sum+x, n+1
	}
	row := valueRow{Chart: c.Title, Series: strings.ToLower(name), Last: "–", Low: "–", Mean: "–", Top: "–"}
	unit := string(c.Unit)
	if m, ok := catalog.Find(name); ok {
		unit = string(m.Unit)
		if m.Series != "" {
			row.Series = m.Series
		}
	}
	if n > 0 {
		row.Last, row.Low = view.Measure(newest(l.Values), unit), view.Measure(low, unit)
		row.Mean, row.Top = view.Measure(sum/float64(n), unit), view.Measure(top, unit)
	}
	return row
}

// chooseCharts remembers a reader's own selection of charts of a tab; none ticked brings the usual ones back.
func (p *Pages) chooseCharts(ctx context.Context, v *view.Visit) (view.Answer, error) {
	name := v.Request.PostFormValue("tab")
	if name != catalog.TabHardware && name != catalog.TabDBStats {
		name = catalog.TabStatus
	}
	var chosen []string
	for _, id := range v.Request.PostForm["chart"] {
		if c, ok := catalog.ChartByID(id); ok && c.Tab == name && !slices.Contains(chosen, id) {
			chosen = append(chosen, id)
		}
	}
	if v.Request.PostFormValue("reset") != "" {
		chosen = nil
	}
	err := p.opt.Access.UpdateUser(ctx, v.User.ID, func(u *model.User) error {
		if u.Prefs.Charts == nil {
			u.Prefs.Charts = map[string][]string{}
		}
		if len(chosen) == 0 {
			delete(u.Prefs.Charts, prefKey(name))
		} else {
			u.Prefs.Charts[prefKey(name)] = chosen
		}
		return nil
	})
	if err != nil {
		return view.Answer{}, fmt.Errorf("remember the charts: %w", err)
	}
	return view.Redirect(v.GroupPath("/hosts/" + v.Request.PathValue("id") + "?" + v.Request.PostFormValue("back"))), nil
}
