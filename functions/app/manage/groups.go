package manage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

func (m *Manage) newGroup(_ context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.CreateGroup); err != nil {
		return view.Answer{}, err
	}
	return groupForm(view.NewForm(nil)), nil
}

func groupForm(f *view.Form) view.Answer {
	a := view.Answer{Template: "newgroup.html", Title: "New group", Nav: "groups", Data: f}
	if !f.OK() {
		a.Status = http.StatusUnprocessableEntity
	}
	return a
}

func (m *Manage) createGroup(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.CreateGroup); err != nil {
		return view.Answer{}, err
	}
	form := view.NewForm(v.Request, "name")
	g, err := m.NewGroup(ctx, v, form.Value("name"))
	var bad *NameError
	if errors.As(err, &bad) {
		form.Fail("name", bad.Why)
		return groupForm(form), nil
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
func (m *Manage) NewGroup(ctx context.Context, v *view.Visit, name string) (model.Group, error) {
	name, err := CheckGroupName(name)
	if err != nil {
		return model.Group{}, err
	}
	orgs, err := m.opt.Inventory.Orgs(ctx)
	if err != nil {
		return model.Group{}, fmt.Errorf("read the organizations: %w", err)
	}
	if len(orgs) == 0 {
		org := model.Org{ID: model.NewID(), Name: name, Created: v.Now}
		if err := m.opt.Inventory.CreateOrg(ctx, org); err != nil {
			return model.Group{}, fmt.Errorf("create the organization: %w", err)
		}
		m.note(ctx, v, model.Event{Type: model.EventOrgCreated, OrgID: org.ID, Text: "Organization " + name + " created"})
		orgs = []model.Org{org}
	}
	g := model.Group{ID: model.NewID(), OrgID: orgs[0].ID, Name: name, Created: v.Now, Settings: model.DefaultGroupSettings()}
	if err := m.opt.Inventory.CreateGroup(ctx, g); errors.Is(err, docstore.ErrExists) {
		return model.Group{}, &NameError{"There is a group of this name already."}
	} else if err != nil {
		return model.Group{}, fmt.Errorf("create the group: %w", err)
	}
	m.note(ctx, v, model.Event{Type: model.EventGroupCreated, GroupID: g.ID, Text: "Group " + name + " created"})
	return g, nil
}
