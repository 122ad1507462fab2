package page

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/alert/standing"
	"github.com/heartwood-db/heartwood/functions/app/chart"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

type clusterPage struct {
	Set      clusterRows
	Hosts    []memberRow
	Shards   []clusterRows
	Parent   *model.Cluster
	Backup   string // its page; "" where it has no backup of its own
	Window   chart.Window
	Presets  []chart.Preset
	Keep     []kept
	Charts   []chart.Compared
	SeriesAt string
	History  past
	Oplog    string // the smallest window among data-bearing members
	Missing  []model.Member
	Table    bool
	TableAt  string
	ChartsAt string
	Values   []comparedRow
	Open     standing.List
	Maker    standing.Maker
}

// comparedRow is a chart in the table that stands in for the charts: the last value of each member, in their order.
type comparedRow struct {
	Title string
	Last  []string
}

// memberRow is a member with what its configuration says.
type memberRow struct {
	hostRow
	Member *model.Member
	Colour int
}

// kept is a query parameter that a form of the page carries along.
type kept struct{ Name, Value string }

// cluster answers: how do the members compare, and what changed?
func (p *Pages) cluster(ctx context.Context, v *view.Visit) (view.Answer, error) {
	id := model.ID(v.Request.PathValue("id"))
	c, err := p.opt.Inventory.Cluster(ctx, v.Group.ID, id)
	if errors.Is(err, docstore.ErrNotFound) {
		return view.Answer{}, view.NotFound("cluster")
	}
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the cluster: %w", err)
	}
	f, err := p.loadFleet(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	d := clusterPage{Window: chart.WindowOf(v), Set: clusterRows{Cluster: &c}, SeriesAt: v.GroupPath("/clusters/" + string(id) + "/series"), Table: v.Query("view") == "table"}
	d.TableAt, d.ChartsAt = v.Link("view", "table"), v.Link("view", "")
	for _, name := range []string{"charts", "view"} {
		if val := v.Query(name); val != "" {
			d.Keep = append(d.Keep, kept{name, val})
		}
	}
	d.Presets = d.Window.Presets(v)
	if c.Type == model.ClusterReplicaSet && c.ParentID == "" {
		d.Backup = v.GroupPath("/backup/" + string(id))
	}
	sets, _ := f.sets()
	for i := range sets {
		switch {
		case sets[i].Cluster.ID == id:
			d.Set = sets[i]
			d.Set.Cluster = &c
		case sets[i].Cluster.ParentID == id:
			d.Shards = append(d.Shards, sets[i])
		case c.ParentID != "" && sets[i].Cluster.ID == c.ParentID:
			d.Parent = sets[i].Cluster
		}
	}
	if len(d.Set.Members) > 0 {
		d.Charts = chosenCharts(v.Query("charts"))
	}
	d.members()
	d.Maker = standing.NewMaker(v, "set", c.ReplicaSet)
	d.Open, err = standing.OfCluster(ctx, p.opt.Alerts, v, id)
	if err != nil {
		return view.Answer{}, err
	}
	if d.History, err = p.history(ctx, v, d.Window, id, d.Set.Members); err != nil {
		return view.Answer{}, err
	}
	if d.Table {
		if err := p.compare(ctx, &d); err != nil {
			return view.Answer{}, err
		}
	}
	return view.Answer{Template: "cluster.html", Title: d.Set.Name(), Nav: "deployment", Data: &d}, nil
}

// chosenCharts are those an address names, as the link to a single chart does; all when it names none that exists.
func chosenCharts(asked string) []chart.Compared {
	all := chart.ClusterCharts()
	names := strings.Split(asked, ",")
	some := slices.DeleteFunc(slices.Clone(all), func(c chart.Compared) bool { return !slices.Contains(names, c.ID) })
	if len(some) == 0 {
		return all
	}
	return some
}

// compare fills the table of last values.
func (p *Pages) compare(ctx context.Context, d *clusterPage) error {
	hosts := make([]model.Host, len(d.Set.Members))
	for i := range d.Set.Members {
		hosts[i] = *d.Set.Members[i].Host
	}
	drawn, err := chart.Compare(ctx, p.opt.Series, hosts, d.Charts, d.Window)
	if err != nil {
		return err
	}
	for i, c := range d.Charts {
		row := comparedRow{Title: c.Title}
		for _, l := range drawn[i].Lines {
			row.Last = append(row.Last, view.Measure(newest(l.Values), string(c.Unit)))
		}
		d.Values = append(d.Values, row)
	}
	return nil
}

// newest is the value of now: the last of the newest points that is no gap, as the legends of charts have it. An older one
// is not the present, and the answer NaN.
func newest(values []float64) float64 {
	const points = 4
	for _, x := range slices.Backward(values[max(0, len(values)-points):]) {
		if !math.IsNaN(x) {
			return x
		}
	}
	return math.NaN()
}

// members pairs hosts with the configuration; a member nobody has discovered stays in the list, as missing.
func (d *clusterPage) members() {
	var window int64 = -1
	known := map[model.HostID]bool{}
	for i, r := range d.Set.Members {
		row := memberRow{hostRow: r, Colour: i % 8}
		for k := range d.Set.Cluster.Members {
			m := &d.Set.Cluster.Members[k]
			if m.HostID == r.Host.ID || strings.EqualFold(m.Host, r.Host.Address()) || slices.Contains(r.Host.Aliases, strings.ToLower(m.Host)) {
				row.Member = m
				known[r.Host.ID] = true
			}
		}
		if r.Status != nil && r.Status.WindowSecs != nil && (window < 0 || *r.Status.WindowSecs < window) {
			window = *r.Status.WindowSecs
		}
		d.Hosts = append(d.Hosts, row)
	}
	for _, m := range d.Set.Cluster.Members {
		if !slices.ContainsFunc(d.Hosts, func(r memberRow) bool { return r.Member != nil && r.Member.Host == m.Host }) {
			d.Missing = append(d.Missing, m)
		}
	}
	if window >= 0 {
		d.Oplog = view.Duration(time.Duration(window) * time.Second)
	}
}
