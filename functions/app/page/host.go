package page

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/chart"
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
	Scope    string // name of the selector: "db" or "disk", "" without one
	Chosen   string
	Names    []string
	History  []happening
	Table    bool
	TableAt  string
	ChartsAt string
	Values   []valueRow
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
	for _, name := range []string{"tab", "charts", "view", "db", "disk"} {
		if val := v.Query(name); val != "" {
			d.Keep = append(d.Keep, kept{name, val})
		}
	}
	d.pick(v, h.Type)
	if err := p.dimensions(ctx, v, &d); err != nil {
		return view.Answer{}, err
	}
	if d.History, err = p.history(ctx, v, d.Window, h.ID, []hostRow{row}); err != nil {
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

// dimensions finds the databases or disks the charts of the tab can be about.
func (p *Pages) dimensions(ctx context.Context, v *view.Visit, d *hostPage) error {
	scope := catalog.Process
	switch d.Tab {
	case catalog.TabHardware:
		d.Scope, scope = "disk", catalog.Disk
	case catalog.TabDBStats:
		d.Scope, scope = "db", catalog.Database
	default:
		return nil
	}
	names, err := p.opt.Series.Dimensions(ctx, d.Row.Host.ID, scope)
	if err != nil {
		return fmt.Errorf("read the names of %ss: %w", scope, err)
	}
	d.Names, d.Chosen = names, v.Query(d.Scope)
	if d.Chosen == "" && len(names) > 0 {
		d.Chosen = names[0]
	}
	if d.Chosen != "" {
		d.SeriesAt += "?" + d.Scope + "=" + url.QueryEscape(d.Chosen)
	}
	return nil
}

// values fills the table that stands in for charts: last, least, mean and largest value of each line in the range.
func (p *Pages) values(ctx context.Context, d *hostPage) error {
	for _, scope := range []catalog.Scope{catalog.Process, catalog.Database, catalog.Disk} {
		var names []string
		for _, c := range d.Charts {
			if c.Scope == scope {
				names = append(names, c.Measurements...)
			}
		}
		if len(names) == 0 || scope != catalog.Process && d.Chosen == "" {
			continue
		}
		q := series.Query{Host: d.Row.Host.ID, Measurements: names, From: d.Window.From, To: d.Window.To}
		if scope != catalog.Process {
			q.Dimension = d.Chosen
		}
		got, err := p.opt.Series.Read(ctx, q)
		if err != nil {
			return fmt.Errorf("read the series: %w", err)
		}
		lines := make(map[string]series.Line, len(got.Lines))
		for _, l := range got.Lines {
			lines[l.Name] = l
		}
		for _, c := range d.Charts {
			for _, m := range c.Measurements {
				if l, ok := lines[m]; ok && c.Scope == scope {
					d.Values = append(d.Values, summary(c, m, l))
				}
			}
		}
	}
	return nil
}

func summary(c catalog.Chart, name string, l series.Line) valueRow {
	low, top, sum, n, last := math.Inf(1), math.Inf(-1), 0.0, 0, math.NaN()
	for _, x := range l.Values {
		if math.IsNaN(x) {
			continue
		}
		low, top, sum, n, last = min(low, x), max(top, x), sum+x, n+1, x
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
		row.Last, row.Low = view.Measure(last, unit), view.Measure(low, unit)
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
