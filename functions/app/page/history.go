package page

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heartwood-db/heartwood/functions/app/chart"
	"github.com/heartwood-db/heartwood/functions/app/view"
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

// past is a page of what happened, newest first.
type past struct {
	Rows  []happening
	Pager view.Pager
}

const (
	historyRows   = 20               // lines shown at once
	historyEvents = 500              // events, and change rows, read of a host in a range: who wants more narrows the range
	electionSpan  = 90 * time.Second // how long after an election its effects on members are noticed, at most a ping or two
)

// history merges events and change rows of some hosts, and the events of their cluster when it is asked for.
func (p *Pages) history(ctx context.Context, v *view.Visit, w chart.Window, cluster model.ID, members []hostRow) (past, error) {
	events, changes, err := p.happened(ctx, v.Group.ID, w, cluster, members)
	if err != nil {
		return past{}, err
	}
	names := make(map[model.HostID]string, len(members))
	for i := range members {
		names[members[i].Host.ID] = members[i].Host.Address()
	}
	var rows []happening
	for i := range events {
		e := &events[i]
		if saidByElection(e, events) {
			continue
		}
		row := happening{at: e.At, Text: e.Text, Where: names[e.HostID]}
		if row.Text == "" {
			row.Text = chart.EventWord(e.Type)
		}
		if row.Where == "" {
			row.Where = e.HostName
		}
		rows = append(rows, row)
	}
	for _, c := range changes {
		rows = append(rows, happening{at: c.At, Text: changeText(c), Where: names[c.HostID]})
	}
	slices.SortStableFunc(rows, func(a, b happening) int { return b.at.Compare(a.at) })
	var out past
	out.Rows, out.Pager = view.PagedBy(v, "past", historyRows, rows)
	out.Pager.Prev, out.Pager.Next = toHistory(out.Pager.Prev), toHistory(out.Pager.Next)
	for i := range out.Rows {
		out.Rows[i].When = v.Stamp(out.Rows[i].at)
	}
	return out, nil
}

// toHistory makes a link arrive where the reader was.
func toHistory(link string) string {
	if link == "" {
		return ""
	}
	return link + "#history"
}

// happened reads host by host, so that a busy group does not crowd out what happened here. An event of a host that is the
// cluster's too comes once.
func (p *Pages) happened(ctx context.Context, group model.ID, w chart.Window, cluster model.ID, members []hostRow) (events []model.Event, changes []model.Change, err error) {
	until := w.To.Add(time.Minute)
	queries := make([]alerting.EventQuery, 0, len(members)+1)
	for i := range members {
		queries = append(queries, alerting.EventQuery{HostID: members[i].Host.ID})
	}
	if cluster != "" {
		queries = append(queries, alerting.EventQuery{ClusterID: cluster})
	}
	found, changed := make([][]model.Event, len(queries)), make([][]model.Change, len(members))
	eg, ectx := errgroup.WithContext(ctx)
	eg.SetLimit(4)
	for i, q := range queries {
		q.GroupID, q.From, q.To, q.Limit = group, w.From, until, historyEvents
		eg.Go(func() (err error) {
			if found[i], _, err = p.opt.Events.Events(ectx, q); err != nil {
				return fmt.Errorf("read the events: %w", err)
			}
			return nil
		})
	}
	for i := range members {
		eg.Go(func() (err error) {
			if changed[i], err = p.opt.Inventory.Changes(ectx, group, members[i].Host.ID, w.From, until, historyEvents); err != nil {
				return fmt.Errorf("read the changes: %w", err)
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, nil, err
	}
	seen := map[model.ID]bool{}
	for _, e := range slices.Concat(found...) {
		if !seen[e.ID] {
			seen[e.ID] = true
			events = append(events, e)
		}
	}
	return events, slices.Concat(changed...), nil
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
