package people

import (
	"errors"
	"net/http"
	"slices"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
)

func userWriteRoutes(h handler) []rest.Route {
	return []rest.Route{
		{Method: http.MethodPost, Path: "/users", Scope: someAdmin, Status: http.StatusCreated, Do: h((*call).createUser)},
		{Method: http.MethodPatch, Path: "/users/{}", Scope: someAdmin, Do: h((*call).patchUser)},
		{Method: http.MethodDelete, Path: "/users/{}", Scope: rest.OnSite, Perm: auth.AdminServer, Do: h((*call).deleteUser)},
		{Method: http.MethodPost, Path: "/groups/{}/users", Scope: rest.InGroup, Perm: auth.ManageUsers, Do: h((*call).addGroupUsers)},
		{Method: http.MethodDelete, Path: "/groups/{}/users/{}", Scope: rest.InGroup, Perm: auth.ManageUsers, Do: h((*call).removeGroupUser)},
	}
}

// someAdmin admits who administers people anywhere; which, the roles in the body and the user's own then tell.
func someAdmin(c *rest.Call, _ auth.Permission) error {
	if c.Who.Can(auth.AdminUsers, "", "") || slices.ContainsFunc(c.Who.Grants, func(g model.Grant) bool {
		return g.GroupID != "" && c.Who.Can(auth.ManageUsers, g.GroupID, "") || g.OrgID != "" && c.Who.Can(auth.ManageOrg, "", g.OrgID)
	}) {
		return nil
	}
	return rest.Fail(http.StatusUnauthorized, "NOT_USER_ADMIN", "The current user may not administer users.")
}

// roleBody is one role as it goes out, and comes in for users.
type roleBody struct {
	RoleName string `json:"roleName"`
	GroupID  string `json:"groupId"`
	OrgID    string `json:"orgId"`
}

// grant reads a role: of a group, an organization or the whole site, and only with what it is about.
func (b roleBody) grant() (model.Grant, error) {
	level := roleLevel[model.Role(b.RoleName)]
	wrong := ""
	switch {
	case level == "":
		return model.Grant{}, rest.Fail(http.StatusBadRequest, "INVALID_ENUM_VALUE", "An invalid enumeration value %s was specified.", b.RoleName)
	case level == "group" && b.GroupID == "":
		wrong = "ROLE_NEEDS_GROUP_ID"
	case level != "group" && b.GroupID != "":
		wrong = "ROLE_NEEDS_NO_GROUP_ID"
	case level == "org" && b.OrgID == "":
		wrong = "ROLE_NEEDS_ORG_ID"
	case level != "org" && b.OrgID != "":
		wrong = "ROLE_NEEDS_NO_ORG_ID"
	}
	if wrong != "" {
		return model.Grant{}, rest.Fail(http.StatusBadRequest, wrong, "Role %s needs the ID of what it is about, and no other.", b.RoleName)
	}
	return model.Grant{Role: model.Role(b.RoleName), GroupID: model.ID(b.GroupID), OrgID: model.ID(b.OrgID)}, nil
}

// granted reads the roles of a body. Those that are not among have must be of the caller to give.
func (c *call) granted(bodies []roleBody, have []model.Grant, owners map[model.ID]model.ID) ([]model.Grant, error) {
	orgs, err := c.Inventory.Orgs(c.R.Context())
	if err != nil {
		return nil, err
	}
	out := []model.Grant{}
	for _, b := range bodies {
		g, err := b.grant()
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, g) {
			continue
		}
		out = append(out, g)
		if slices.Contains(have, g) || c.administers(g, owners) {
			_, known := owners[g.GroupID]
			if g.GroupID != "" && !known {
				return nil, rest.Fail(http.StatusNotFound, "GROUP_NOT_FOUND", "No group with ID %s exists.", g.GroupID)
			}
			if g.OrgID != "" && !slices.ContainsFunc(orgs, func(o model.Org) bool { return o.ID == g.OrgID }) {
				return nil, rest.Fail(http.StatusNotFound, "ORG_NOT_FOUND", "No organization with ID %s exists.", g.OrgID)
			}
			continue
		}
		switch {
		case g.GroupID != "":
			return nil, rest.Fail(http.StatusUnauthorized, "NOT_GROUP_USER_ADMIN", "The current user is not a user administrator of group %s.", g.GroupID)
		case g.OrgID != "":
			return nil, rest.Fail(http.StatusUnauthorized, "NOT_ORG_ADMIN", "The current user is not an owner of organization %s.", g.OrgID)
		}
		return nil, rest.Fail(http.StatusForbidden, "CANNOT_ADD_GLOBAL_ROLE", "The current user may not grant %s.", g.Role)
	}
	return out, nil
}

func (c *call) createUser() (any, error) {
	var in newUser
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	err := rest.Require("username", in.Username, "password", in.Password, "firstName", in.FirstName, "lastName", in.LastName, "roles", len(in.Roles))
	if err != nil {
		return nil, err
	}
	u := c.newUser(in)
	owners, err := c.owners()
	if err != nil {
		return nil, err
	}
	if u.Grants, err = c.granted(in.Roles, nil, owners); err != nil {
		return nil, err
	}
	if err := checkUser(u, in.Password); err != nil {
		return nil, err
	}
	taken := rest.Fail(http.StatusConflict, "USER_ALREADY_EXISTS", "A user with username %s already exists.", u.Username)
	ctx := c.R.Context()
	if _, err := c.Access.UserByName(ctx, u.Username); err == nil { // before the costly hash
		return nil, taken
	} else if !rest.IsNotFound(err) {
		return nil, err
	}
	if u.PasswordHash, err = c.Passwords.Hash(in.Password); err != nil {
		return nil, err
	}
	if err := c.Access.CreateUser(ctx, u); errors.Is(err, store.ErrExists) {
		return nil, taken
	} else if err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventUserCreated, TargetUser: u.Username, Text: "User " + u.Username + " was created through the API."})
	return c.user(u), nil
}

// newUser is the user of a body, without roles and password.
func (c *call) newUser(in newUser) model.User {
	return model.User{
		ID: model.NewID(), Username: access.Username(in.Username), Email: in.EmailAddress, FirstName: in.FirstName, LastName: in.LastName,
		Mobile: in.MobileNumber, Country: in.Country, Created: c.Now().UTC(),
	}
}

// patchUser changes roles and, for administrators of the whole site, how a person is called and reached. Roles that the caller does
// not administer stay, whatever the body says.
func (c *call) patchUser() (any, error) {
	u, owners, err := c.administered(c.Args[0])
	if err != nil {
		return nil, err
	}
	var in struct {
		rest.Ignored
		EmailAddress string      `json:"emailAddress"`
		FirstName    string      `json:"firstName"`
		LastName     string      `json:"lastName"`
		MobileNumber string      `json:"mobileNumber"`
		Country      string      `json:"country"`
		Roles        *[]roleBody `json:"roles"`
	}
	entity := c.user(u)
	if err := c.DecodeOver(&in, entity, "password", "emailAddress"); err != nil {
		return nil, err
	}
	texts := []struct {
		name, sent string
		to         func(*model.User) *string
	}{
		{"emailAddress", in.EmailAddress, func(u *model.User) *string { return &u.Email }},
		{"firstName", in.FirstName, func(u *model.User) *string { return &u.FirstName }},
		{"lastName", in.LastName, func(u *model.User) *string { return &u.LastName }},
		{"mobileNumber", in.MobileNumber, func(u *model.User) *string { return &u.Mobile }},
		{"country", in.Country, func(u *model.User) *string { return &u.Country }},
	}
	changed := u
	for _, t := range texts {
		if shown, _ := entity[t.name].(string); t.sent == "" || t.sent == shown {
			continue
		}
		if !c.Who.Can(auth.AdminUsers, "", "") {
			return nil, rest.Fail(http.StatusBadRequest, "ATTRIBUTE_READ_ONLY", "Cannot modify read-only attribute %s.", t.name)
		}
		*t.to(&changed) = t.sent
	}
	if err := checkEmail(changed.Email); err != nil {
		return nil, err
	}
	var grants []model.Grant
	if in.Roles != nil {
		if grants, err = c.granted(*in.Roles, u.Grants, owners); err != nil {
			return nil, err
		}
		if err := c.mustKeepOwner(u, grants, owners, "CANNOT_DEMOTE_LAST_OWNER"); err != nil {
			return nil, err
		}
	}
	err = c.Access.UpdateUser(c.R.Context(), u.ID, func(stored *model.User) error {
		stored.Email, stored.FirstName, stored.LastName = changed.Email, changed.FirstName, changed.LastName
		stored.Mobile, stored.Country = changed.Mobile, changed.Country
		if in.Roles != nil {
			stored.Grants = c.regranted(stored.Grants, grants, owners)
		}
		u = *stored
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventUserChanged, TargetUser: u.Username, Text: "User " + u.Username + " was changed."})
	return c.user(u), nil
}

// regranted are the roles of a user after a change: those the caller administers as they were sent, all others as they were.
func (c *call) regranted(have, sent []model.Grant, owners map[model.ID]model.ID) []model.Grant {
	out := slices.DeleteFunc(slices.Clone(have), func(g model.Grant) bool { return c.administers(g, owners) && !slices.Contains(sent, g) })
	for _, g := range sent {
		if c.administers(g, owners) && !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out
}

// mustKeepOwner refuses what would leave the site without an owner who can sign in. sent are the roles the user is to have.
func (c *call) mustKeepOwner(u model.User, sent []model.Grant, owners map[model.ID]model.ID, code string) error {
	site := model.Grant{Role: model.GlobalOwner}
	if !slices.Contains(u.Grants, site) || slices.Contains(c.regranted(u.Grants, sent, owners), site) {
		return nil
	}
	all, err := c.Access.Users(c.R.Context())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(other model.User) bool { return other.ID != u.ID && slices.Contains(other.Grants, site) }) {
		return nil
	}
	return rest.Fail(http.StatusForbidden, code, "User %s is the last owner.", u.Username)
}

// administered reads a user whom the caller administers, in whole or in part.
func (c *call) administered(id string) (model.User, map[model.ID]model.ID, error) {
	u, err := c.userNamed(id)
	if err != nil {
		return u, nil, err
	}
	owners, err := c.owners()
	if err != nil {
		return u, nil, err
	}
	if !c.sees(u, owners) {
		return u, nil, rest.Fail(http.StatusUnauthorized, "NOT_USER_ADMIN", "The current user may not change user %s.", u.Username)
	}
	return u, owners, nil
}

func (c *call) deleteUser() (any, error) {
	u, err := c.userNamed(c.Args[0])
	if err != nil {
		return nil, err
	}
	if err := c.mustKeepOwner(u, nil, nil, "CANNOT_DELETE_LAST_OWNER"); err != nil {
		return nil, err
	}
	if err := c.Access.DeleteUser(c.R.Context(), u.ID); err != nil && !rest.IsNotFound(err) {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventUserDeleted, TargetUser: u.Username, Text: "User " + u.Username + " was deleted."})
	return nil, nil
}

// addGroupUsers gives users that exist roles in the group. All are looked at before the first is changed.
func (c *call) addGroupUsers() (any, error) {
	var in []struct {
		rest.Ignored
		ID    string     `json:"id"`
		Roles []roleBody `json:"roles"`
	}
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	users := make([]model.User, len(in))
	grants := make([][]model.Grant, len(in))
	for i, b := range in {
		if err := rest.Require("id", b.ID, "roles", len(b.Roles)); err != nil {
			return nil, err
		}
		var err error
		if users[i], err = c.userNamed(b.ID); err != nil {
			return nil, err
		}
		for _, r := range b.Roles {
			if roleLevel[model.Role(r.RoleName)] != "group" || r.GroupID != "" && r.GroupID != string(c.Group.ID) || r.OrgID != "" {
				return nil, rest.Fail(http.StatusBadRequest, "INVALID_ROLE_FOR_GROUP", "Role %s is not one of group %s.", r.RoleName, c.Group.ID)
			}
			grants[i] = append(grants[i], model.Grant{Role: model.Role(r.RoleName), GroupID: c.Group.ID})
		}
	}
	for i, u := range users {
		err := c.Access.UpdateUser(c.R.Context(), u.ID, func(stored *model.User) error {
			for _, g := range grants[i] {
				if !slices.Contains(stored.Grants, g) {
					stored.Grants = append(stored.Grants, g)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		c.Event(model.Event{Type: model.EventUserJoined, GroupID: c.Group.ID, TargetUser: u.Username, Text: "User " + u.Username + " joined group " + c.Group.Name + "."})
	}
	return c.groupUsers()
}

func (c *call) removeGroupUser() (any, error) {
	u, err := c.userNamed(c.Args[1])
	if err != nil {
		return nil, err
	}
	here := func(g model.Grant) bool { return g.GroupID == c.Group.ID }
	if !slices.ContainsFunc(u.Grants, here) {
		return nil, rest.Fail(http.StatusNotFound, "USER_NOT_IN_GROUP", "User %s is not in group %s.", u.ID, c.Group.ID)
	}
	err = c.Access.UpdateUser(c.R.Context(), u.ID, func(stored *model.User) error {
		stored.Grants = slices.DeleteFunc(stored.Grants, here)
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventUserRemoved, GroupID: c.Group.ID, TargetUser: u.Username, Text: "User " + u.Username + " was removed from group " + c.Group.Name + "."})
	return nil, nil
}
