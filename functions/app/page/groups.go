package page

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
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
	Form   *view.Form
	Create bool
	Why    string // why no group can be created by this person
}

// groups answers: which of my deployments needs me? With a single group there is no question, and the page leads there.
func (p *Pages) groups(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if len(v.Groups) == 1 && v.Query("all") == "" {
		return view.Redirect("/g/" + string(v.Groups[0].ID) + "/deployment"), nil
	}
	return p.groupsPage(ctx, v, view.NewForm(nil))
}

func (p *Pages) groupsPage(ctx context.Context, v *view.Visit, form *view.Form) (view.Answer, error) {
	out := groupsPage{Form: form, Create: v.May(view.CreateGroup), Why: view.CreateGroup.Reason()}
	for i := range v.Groups {
		row, err := p.groupRow(ctx, v, v.Groups[i])
		if err != nil {
			return view.Answer{}, fmt.Errorf("read group %s: %w", v.Groups[i].ID, err)
		}
		out.Rows = append(out.Rows, row)
	}
	slices.SortStableFunc(out.Rows, func(a, b groupRow) int { return int(b.State.Level) - int(a.State.Level) })
	a := view.Answer{Template: "groups.html", Title: "Groups", Nav: "groups", Data: out}
	if !form.OK() {
		a.Status = 422
	}
	return a, nil
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

func (p *Pages) createGroup(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.CreateGroup); err != nil {
		return view.Answer{}, err
	}
	form := view.NewForm(v.Request, "name")
	g, err := p.NewGroup(ctx, v, form.Value("name"))
	var bad *NameError
	if errors.As(err, &bad) {
		form.Fail("name", bad.Why)
		return p.groupsPage(ctx, v, form)
	}
	if err != nil {
		return view.Answer{}, err
	}
	return view.Redirect("/g/" + string(g.ID) + "/agents"), nil
}

// NameError says what is wrong with the name of a group.
type NameError struct{ Why string }

// Error is the sentence for people.
func (e *NameError) Error() string { return e.Why }

// CheckGroupName returns the name to keep, or a *NameError.
func CheckGroupName(name string) (string, error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "":
		return "", &NameError{"Give the group a name."}
	case len(name) > 64:
		return "", &NameError{"A group's name has at most 64 characters."}
	}
	return name, nil
}

// NewGroup creates a group, in an organization of the same name when the site has none.
func (p *Pages) NewGroup(ctx context.Context, v *view.Visit, name string) (model.Group, error) {
	name, err := CheckGroupName(name)
	if err != nil {
		return model.Group{}, err
	}
	orgs, err := p.opt.Inventory.Orgs(ctx)
	if err != nil {
		return model.Group{}, fmt.Errorf("read the organizations: %w", err)
	}
	if len(orgs) == 0 {
		org := model.Org{ID: model.NewID(), Name: name, Created: v.Now}
		if err := p.opt.Inventory.CreateOrg(ctx, org); err != nil {
			return model.Group{}, fmt.Errorf("create the organization: %w", err)
		}
		orgs = []model.Org{org}
	}
	g := model.Group{ID: model.NewID(), OrgID: orgs[0].ID, Name: name, Created: v.Now, Settings: model.DefaultGroupSettings()}
	if err := p.opt.Inventory.CreateGroup(ctx, g); errors.Is(err, docstore.ErrExists) {
		return model.Group{}, &NameError{"There is a group of this name already."}
	} else if err != nil {
		return model.Group{}, fmt.Errorf("create the group: %w", err)
	}
	p.note(ctx, v, model.Event{Type: model.EventGroupCreated, GroupID: g.ID, Text: "Group " + name + " created"})
	return g, nil
}
