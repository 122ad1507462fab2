package people

import (
	"errors"
	"net/http"
	"net/mail"
	"net/netip"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
)

func userRoutes(h handler) []rest.Route {
	return []rest.Route{
		{Method: http.MethodPost, Path: "/unauth/users", Open: true, Status: http.StatusCreated, Do: h((*call).createFirstUser)},
		{Method: http.MethodGet, Path: "/groups/{}/users", Scope: rest.InGroup, Perm: auth.View, Do: h((*call).groupUsers)},
		{Method: http.MethodGet, Path: "/orgs/{}/users", Scope: rest.InOrg, Perm: auth.ViewOrg, Do: h((*call).orgUsers)},
		{Method: http.MethodGet, Path: "/users/byName/{}", Do: h(func(c *call) (any, error) { return c.userByName(c.Args[0]) })},
		{Method: http.MethodGet, Path: "/users/{}", Do: h(func(c *call) (any, error) { return c.userByID(c.Args[0]) })},
	}
}

// newUser is the body that makes a user.
type newUser struct {
	rest.Ignored
	ID           string     `json:"id"`
	Username     string     `json:"username"`
	Password     string     `json:"password"`
	EmailAddress string     `json:"emailAddress"`
	FirstName    string     `json:"firstName"`
	LastName     string     `json:"lastName"`
	MobileNumber string     `json:"mobileNumber"`
	Country      string     `json:"country"`
	TeamIDs      []string   `json:"teamIds"`
	Roles        []roleBody `json:"roles"`
}

// createFirstUser makes the first user of a new site, its global owner, with a global API key: the way scripts set a server up.
// It needs no credentials and works only while no user exists.
func (c *call) createFirstUser() (any, error) {
	var in newUser
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	err := rest.Require("username", in.Username, "password", in.Password, "firstName", in.FirstName, "lastName", in.LastName)
	if err != nil {
		return nil, err
	}
	entries, err := c.firstAccessList()
	if err != nil {
		return nil, err
	}
	u := c.newUser(in)
	if err := checkUser(u, in.Password); err != nil {
		return nil, err
	}
	ctx := c.R.Context()
	n, err := c.Access.CountUsers(ctx)
	if err != nil {
		return nil, err
	}
	if n > 0 { // before the costly hash
		return nil, errUsersExist
	}
	if u.PasswordHash, err = c.Passwords.Hash(in.Password); err != nil {
		return nil, err
	}
	err = c.Access.CreateFirstUser(ctx, u, model.Grant{Role: model.GlobalOwner})
	if errors.Is(err, store.ErrExists) {
		return nil, errUsersExist
	}
	if err != nil {
		return nil, err
	}
	key, private, err := c.makeKey(ctx, "", "Automatically generated Global API key", []model.Grant{{Role: model.GlobalOwner}})
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		err := c.Access.UpdateGlobalAccessList(ctx, func([]model.AccessEntry) ([]model.AccessEntry, error) { return entries, nil })
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			c.globalChanged(e.CIDR, "was added to")
		}
	}
	c.Event(model.Event{Type: model.EventUserCreated, TargetUser: u.Username, UserID: u.ID, Username: u.Username, Text: "User " + u.Username + " registered through the API, the first one."})
	u.Grants = []model.Grant{{Role: model.GlobalOwner}}
	return rest.Object{"programmaticApiKey": c.apiKey(key, private), "apiKey": private, "user": c.user(u)}, nil
}

var errUsersExist = rest.Fail(http.StatusForbidden, "CANNOT_CREATE_FIRST_USER_USERS_ALREADY_EXIST", "Cannot create the first user: users already exist.")

// firstAccessList reads the addresses that the first user wants the global access list to hold.
func (c *call) firstAccessList() ([]model.AccessEntry, error) {
	q := c.R.URL.Query()
	var entries []model.AccessEntry
	for _, s := range slices.Concat(q["whitelist"], q["accessList"]) {
		p, ok := parseNetwork(s)
		if !ok {
			return nil, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "%s is not an IP address or CIDR block.", s)
		}
		entries = append(entries, model.AccessEntry{CIDR: p.String(), Created: c.Now().UTC()})
	}
	return entries, nil
}

// parseNetwork reads an address or a CIDR block.
func parseNetwork(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if a := p.Addr(); err == nil && a.Is4In6() && p.Bits() >= 96 { // callers' addresses are compared in their short form
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), err == nil
}

func checkUser(u model.User, password string) error {
	if strings.ContainsAny(u.Username, " \t\r\n/") || len(u.Username) > 254 {
		return rest.Fail(http.StatusBadRequest, "INVALID_USERNAME", "The specified username is not valid: %s.", u.Username)
	}
	if err := checkEmail(u.Email); err != nil {
		return err
	}
	if err := auth.CheckPolicy(password, u.Username); err != nil {
		return &rest.Error{Status: http.StatusBadRequest, Code: "WEAK_PASSWORD", Detail: "The specified password is not strong enough: " + err.Error() + "."}
	}
	return nil
}

func checkEmail(address string) error {
	if address == "" {
		return nil
	}
	if _, err := mail.ParseAddress(address); err != nil {
		return rest.Fail(http.StatusBadRequest, "INVALID_EMAIL_ADDRESS", "The specified email address is not valid: %s.", address)
	}
	return nil
}

// user renders a user; the password and its hash never leave the store.
func (c *call) user(u model.User) rest.Object {
	o := rest.Object{
		"id": u.ID, "username": u.Username, "firstName": u.FirstName, "lastName": u.LastName,
		"roles": roles(u.Grants), "teamIds": []string{}, "links": c.Self(c.Href("users", string(u.ID))),
		"mobileNumber": u.Mobile, "country": u.Country,
	}
	email := u.Email
	if email == "" && strings.Contains(u.Username, "@") {
		email = u.Username
	}
	rest.Put(o, "emailAddress", email)
	return o
}

// roles renders grants as the API's role objects.
func roles(grants []model.Grant) []rest.Object {
	out := make([]rest.Object, 0, len(grants))
	for _, g := range grants {
		o := rest.Object{"roleName": g.Role}
		rest.Put(o, "groupId", g.GroupID)
		rest.Put(o, "orgId", g.OrgID)
		out = append(out, o)
	}
	return out
}

func (c *call) groupUsers() (any, error) {
	return c.usersWhere(func(g model.Grant) bool { return g.GroupID == c.Group.ID })
}

func (c *call) orgUsers() (any, error) {
	owners, err := c.owners()
	if err != nil {
		return nil, err
	}
	return c.usersWhere(func(g model.Grant) bool { return g.OrgID == c.Org.ID || owners[g.GroupID] == c.Org.ID })
}

func (c *call) usersWhere(has func(model.Grant) bool) (any, error) {
	all, err := c.Access.Users(c.R.Context())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(u model.User) bool { return !slices.ContainsFunc(u.Grants, has) })
	return rest.Page(c.Call, all, c.user)
}

func (c *call) userByID(id string) (any, error) {
	u, err := c.userNamed(id)
	return c.visibleUser(u, err)
}

// userNamed reads the user with the id of a path or a body.
func (c *call) userNamed(id string) (model.User, error) {
	if !model.ID(id).Valid() {
		return model.User{}, rest.Fail(http.StatusNotFound, "INVALID_USER_ID", "An invalid user ID %s was specified.", id)
	}
	u, err := c.Access.User(c.R.Context(), model.ID(id))
	if rest.IsNotFound(err) {
		return u, rest.Fail(http.StatusNotFound, "USER_NOT_FOUND", "No user with ID %s exists.", id)
	}
	return u, err
}

func (c *call) userByName(name string) (any, error) {
	u, err := c.Access.UserByName(c.R.Context(), access.Username(name))
	if rest.IsNotFound(err) {
		return nil, rest.Fail(http.StatusNotFound, "USERNAME_NOT_FOUND", "No user with username %s exists.", name)
	}
	return c.visibleUser(u, err)
}

// visibleUser lets administrators of users see a user: those of the whole site, and those of a group or an organization that the
// user belongs to.
func (c *call) visibleUser(u model.User, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	owners, err := c.owners()
	if err != nil {
		return nil, err
	}
	if !c.sees(u, owners) {
		return nil, rest.Fail(http.StatusUnauthorized, "NOT_USER_ADMIN", "The current user may not read user %s.", u.Username)
	}
	return c.user(u), nil
}

// sees says whether the caller administers a user, in whole or in part.
func (c *call) sees(u model.User, owners map[model.ID]model.ID) bool {
	return c.Who.Can(auth.AdminUsers, "", "") || slices.ContainsFunc(u.Grants, func(g model.Grant) bool { return c.administers(g, owners) })
}

// owners is the organization of each group.
func (c *call) owners() (map[model.ID]model.ID, error) {
	groups, err := c.Inventory.Groups(c.R.Context())
	if err != nil {
		return nil, err
	}
	owners := make(map[model.ID]model.ID, len(groups))
	for _, g := range groups {
		owners[g.ID] = g.OrgID
	}
	return owners, nil
}

// administers says whether the caller manages the people of what a grant is about.
func (c *call) administers(g model.Grant, owners map[model.ID]model.ID) bool {
	switch {
	case g.GroupID != "":
		return c.Who.Can(auth.ManageUsers, g.GroupID, owners[g.GroupID])
	case g.OrgID != "":
		return c.Who.Can(auth.ManageOrg, "", g.OrgID) || c.Who.Can(auth.AdminUsers, "", "")
	case g.Role == model.GlobalOwner:
		return c.Who.Can(auth.AdminServer, "", "")
	}
	return c.Who.Can(auth.AdminUsers, "", "")
}
