package page

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/chart"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// happening is one line of "what changed": an event or a change row.
type happening struct {
	at    time.Time
	When  any // the time as an element
	Text  string
	Where string
}

// historyRows bounds the list of what happened.
const historyRows = 25

// electionSpan is how long after an election its effects on members are noticed, at most a ping or two.
const electionSpan = 90 * time.Second

type clusterPage struct {
	Set      clusterRows
	Hosts    []memberRow
	Shards   []clusterRows
	Parent   *model.Cluster
	Window   chart.Window
	Presets  []chart.Preset
	Keep     []kept
	Charts   []chart.Compared
	SeriesAt string
	History  []happening
	Oplog    string // the smallest window among data-bearing members
	Missing  []model.Member
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
	d := clusterPage{Window: chart.WindowOf(v), Set: clusterRows{Cluster: &c}, SeriesAt: v.GroupPath("/clusters/" + string(id) + "/series")}
	d.Presets = d.Window.Presets(v)
	sets, _ := f.sets()
	for i := range sets {
		switch {
		case sets[i].Cluster.ID == id:
			d.Set = sets[i]
		case sets[i].Cluster.ParentID == id:
			d.Shards = append(d.Shards, sets[i])
		case c.ParentID != "" && sets[i].Cluster.ID == c.ParentID:
			d.Parent = sets[i].Cluster
		}
	}
	if len(d.Set.Members) > 0 {
		d.Charts = chart.ClusterCharts()
	}
	d.members()
	if d.History, err = p.history(ctx, v, d.Window, "", d.Set.Members); err != nil {
		return view.Answer{}, err
	}
	return view.Answer{Template: "cluster.html", Title: d.Set.Name(), Nav: "deployment", Data: &d}, nil
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

// history merges events and change rows of some hosts, newest first.
func (p *Pages) history(ctx context.Context, v *view.Visit, w chart.Window, host model.HostID, members []hostRow) ([]happening, error) {
	events, _, err := p.opt.Events.Events(ctx, alerting.EventQuery{GroupID: v.Group.ID, HostID: host, From: w.From, To: w.To.Add(time.Minute), Limit: 200})
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	names := make(map[model.HostID]string, len(members))
	for i := range members {
		names[members[i].Host.ID] = members[i].Host.Address()
	}
	var out []happening
	for i := range events {
		e := &events[i]
		if _, ours := names[e.HostID]; !ours || saidByElection(e, events) {
			continue
		}
		text := e.Text
		if text == "" {
			text = chart.EventWord(e.Type)
		}
		out = append(out, happening{at: e.At, Text: text, Where: names[e.HostID]})
	}
	changes, err := p.opt.Inventory.Changes(ctx, v.Group.ID, host, w.From, w.To.Add(time.Minute), 200)
	if err != nil {
		return nil, fmt.Errorf("read the changes: %w", err)
	}
	for _, c := range changes {
		if name, ours := names[c.HostID]; ours {
			out = append(out, happening{at: c.At, Text: changeText(c), Where: name})
		}
	}
	slices.SortStableFunc(out, func(a, b happening) int { return b.at.Compare(a.at) })
	if len(out) > historyRows {
		out = out[:historyRows]
	}
	for i := range out {
		out[i].When = v.Stamp(out[i].at)
	}
	return out, nil
}

// saidByElection reports whether an event only repeats, from one member's view, what an election in the list says.
func saidByElection(e *model.Event, all []model.Event) bool {
	if e.Type != model.EventHostNowPrimary && e.Type != model.EventHostNowSecondary {
		return false
	}
	return slices.ContainsFunc(all, func(o model.Event) bool {
		return o.Type == model.EventPrimaryElected && (e.ClusterID == "" || o.ClusterID == e.ClusterID) && o.At.Sub(e.At).Abs() <= electionSpan &&
			(e.Type == model.EventHostNowSecondary || o.HostID == e.HostID)
	})
}

func changeText(c model.Change) string {
	short := func(s string) string {
		if s == "" {
			return "nothing"
		}
		return view.Middle(s, 60)
	}
	where := c.Kind
	if c.Path != "" && c.Path != c.Kind {
		where += " " + c.Path
	}
	return where + ": " + short(c.Before) + " → " + short(c.After)
}
