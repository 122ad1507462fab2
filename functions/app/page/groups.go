package page

import (
	"context"
	"fmt"
	"slices"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

// groupRow is one line of the list of groups.
type groupRow struct {
	Group     model.Group
	State     view.State
	Agent     view.State
	Hosts     int
	Attention int
}

type groupsPage struct {
	Rows   []groupRow
	Create bool
	Why    string // why no group can be created by this person
}

// groups answers: which of my deployments needs me? With a single group there is no question, and the page leads there.
func (p *Pages) groups(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if len(v.Groups) == 1 && v.Query("all") == "" {
		return view.Redirect("/g/" + string(v.Groups[0].ID) + "/deployment"), nil
	}
	out := groupsPage{Create: v.May(view.CreateGroup), Why: view.CreateGroup.Reason()}
	for i := range v.Groups {
		row, err := p.groupRow(ctx, v, v.Groups[i])
		if err != nil {
			return view.Answer{}, fmt.Errorf("read group %s: %w", v.Groups[i].ID, err)
		}
		out.Rows = append(out.Rows, row)
	}
	slices.SortStableFunc(out.Rows, func(a, b groupRow) int { return int(b.State.Level) - int(a.State.Level) })
	return view.Answer{Template: "groups.html", Title: "Groups", Nav: "groups", Data: out}, nil
}

func (p *Pages) groupRow(ctx context.Context, v *view.Visit, g model.Group) (groupRow, error) {
	row := groupRow{Group: g}
	hosts, err := p.opt.Inventory.Hosts(ctx, g.ID)
	if err != nil {
		return row, err
	}
	list, err := p.opt.Inventory.Statuses(ctx, g.ID)
	if err != nil {
		return row, err
	}
	agents, err := p.opt.Inventory.Agents(ctx, g.ID)
	if err != nil {
		return row, err
	}
	stale := view.StaleAfter(g.Settings.PingSeconds)
	row.Agent = view.AgentState(agents, v.Now, stale)
	statuses := statusesByHost(list)
	for _, h := range visible(hosts) {
		row.Hosts++
		s := view.HostState(&h, statuses[h.ID], v.Now, stale)
		if s.Attention() {
			row.Attention++
		}
		if s.Level > row.State.Level {
			row.State = s
		}
	}
	switch {
	case row.Hosts == 0:
		row.State = view.State{Level: view.Unknown, Word: "no hosts", Why: "No host has been added or discovered yet."}
	case row.Attention == 0:
		row.State = view.State{Level: view.OK, Word: "healthy"}
	default:
		row.State.Why = fmt.Sprintf("%d of %d hosts need attention.", row.Attention, row.Hosts)
	}
	return row, nil
}
