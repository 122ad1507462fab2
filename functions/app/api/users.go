package api

import (
	"cmp"
	"errors"
	"net/http"
	"net/mail"
	"net/netip"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
)

func (s *server) userRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/unauth/users", open: true, status: http.StatusCreated, do: (*call).createFirstUser},
		{method: http.MethodGet, path: "/groups/{}/users", scope: inGroup, perm: auth.View, do: (*call).groupUsers},
		{method: http.MethodGet, path: "/orgs/{}/users", scope: inOrg, perm: auth.ViewOrg, do: (*call).orgUsers},
		{method: http.MethodGet, path: "/users/byName/{}", do: func(c *call) (any, error) { return c.userByName(c.args[0]) }},
		{method: http.MethodGet, path: "/users/{}", do: func(c *call) (any, error) { return c.userByID(c.args[0]) }},
	}
}

// newUser is the body that makes a user.
type newUser struct {
	ignored
	ID           string   `json:"id"`
	Username     string   `json:"username"`
	Password     string   `json:"password"`
	EmailAddress string   `json:"emailAddress"`
	FirstName    string   `json:"firstName"`
	LastName     string   `json:"lastName"`
	MobileNumber string   `json:"mobileNumber"`
	Country      string   `json:"country"`
	TeamIDs      []string `json:"teamIds"`
	Roles        []struct {
		RoleName string `json:"roleName"`
		GroupID  string `json:"groupId"`
		OrgID    string `json:"orgId"`
	} `json:"roles"`
}

// createFirstUser makes the first user of a new site, its global owner, with a global API key: the way scripts set a server up.
// It needs no credentials and works only while no user exists.
func (c *call) createFirstUser() (any, error) {
	var in newUser
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	err := require("username", in.Username, "password", in.Password, "firstName", in.FirstName, "lastName", in.LastName)
	if err != nil {
		return nil, err
	}
	entries, err := c.firstAccessList()
	if err != nil {
		return nil, err
	}
	u := model.User{
		ID: model.NewID(), Username: access.Username(in.Username), Email: in.EmailAddress, FirstName: in.FirstName, LastName: in.LastName, Created: c.Now().UTC(),
	}
	if err := checkUser(u, in.Password); err != nil {
		return nil, err
	}
	ctx := c.r.Context()
	n, err := c.Access.CountUsers(ctx)
	if err != nil {
		return nil, err
	}
	if n > 0 { // before the costly hash
		return nil, errUsersExist
	}
	if u.PasswordHash, err = auth.HashPassword(in.Password); err != nil {
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
		if err := c.Access.SetGlobalAccessList(ctx, entries); err != nil {
			return nil, err
		}
	}
	c.event(model.Event{Type: model.EventUserCreated, UserID: u.ID, Username: u.Username, Text: "The first user registered through the API."})
	u.Grants = []model.Grant{{Role: model.GlobalOwner}}
	return object{"programmaticApiKey": c.apiKey(key, private), "apiKey": private, "user": c.user(u)}, nil
}

var errUsersExist = fail(http.StatusForbidden, "CANNOT_CREATE_FIRST_USER_USERS_ALREADY_EXIST", "Cannot create the first user: users already exist.")

// firstAccessList reads the addresses that the first user wants the global access list to hold.
func (c *call) firstAccessList() ([]model.AccessEntry, error) {
	q := c.r.URL.Query()
	var entries []model.AccessEntry
	for _, s := range slices.Concat(q["whitelist"], q["accessList"]) {
		p, ok := parseNetwork(s)
		if !ok {
			return nil, fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "%s is not an IP address or CIDR block.", s)
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
	return p.Masked(), err == nil
}

func checkUser(u model.User, password string) error {
	if strings.ContainsAny(u.Username, " \t\r\n/") || len(u.Username) > 254 {
		return fail(http.StatusBadRequest, "INVALID_USERNAME", "The specified username is not valid: %s.", u.Username)
	}
	if u.Email != "" {
		if _, err := mail.ParseAddress(u.Email); err != nil {
			return fail(http.StatusBadRequest, "INVALID_EMAIL_ADDRESS", "The specified email address is not valid: %s.", u.Email)
		}
	}
	if err := auth.CheckPolicy(password, u.Username); err != nil {
		return &apiError{status: http.StatusBadRequest, code: "WEAK_PASSWORD", detail: "The specified password is not strong enough: " + err.Error() + "."}
	}
	return nil
}

// user renders a user; the password and its hash never leave the store.
func (c *call) user(u model.User) object {
	o := object{
		"id": u.ID, "username": u.Username, "emailAddress": cmp.Or(u.Email, u.Username), "firstName": u.FirstName, "lastName": u.LastName,
		"roles": roles(u.Grants), "teamIds": []string{}, "links": c.self(c.href("users", string(u.ID))),
	}
	return o
}

// roles renders grants as the API's role objects.
func roles(grants []model.Grant) []object {
	out := make([]object, 0, len(grants))
	for _, g := range grants {
		o := object{"roleName": g.Role}
		put(o, "groupId", g.GroupID)
		put(o, "orgId", g.OrgID)
		out = append(out, o)
	}
	return out
}

func (c *call) groupUsers() (any, error) {
	return c.usersWhere(func(g model.Grant) bool { return g.GroupID == c.group.ID })
}

func (c *call) orgUsers() (any, error) {
	groups, err := c.Inventory.Groups(c.r.Context())
	if err != nil {
		return nil, err
	}
	mine := map[model.ID]bool{}
	for _, g := range groups {
		mine[g.ID] = g.OrgID == c.org.ID
	}
	return c.usersWhere(func(g model.Grant) bool { return g.OrgID == c.org.ID || mine[g.GroupID] })
}

func (c *call) usersWhere(has func(model.Grant) bool) (any, error) {
	all, err := c.Access.Users(c.r.Context())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(u model.User) bool { return !slices.ContainsFunc(u.Grants, has) })
	return page(c, all, c.user)
}

func (c *call) userByID(id string) (any, error) {
	if !model.ID(id).Valid() {
		return nil, fail(http.StatusNotFound, "INVALID_USER_ID", "An invalid user ID %s was specified.", id)
	}
	u, err := c.Access.User(c.r.Context(), model.ID(id))
	if isNotFound(err) {
		return nil, fail(http.StatusNotFound, "USER_NOT_FOUND", "No user with ID %s exists.", id)
	}
	return c.visibleUser(u, err)
}

func (c *call) userByName(name string) (any, error) {
	u, err := c.Access.UserByName(c.r.Context(), access.Username(name))
	if isNotFound(err) {
		return nil, fail(http.StatusNotFound, "USERNAME_NOT_FOUND", "No user with username %s exists.", name)
	}
	return c.visibleUser(u, err)
}

// visibleUser lets administrators of users, of the whole site or of a group that the user belongs to, see a user.
func (c *call) visibleUser(u model.User, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	ok := c.who.Can(auth.AdminUsers, "", "") || slices.ContainsFunc(u.Grants, func(g model.Grant) bool {
		return g.GroupID != "" && c.who.Can(auth.ManageUsers, g.GroupID, g.OrgID)
	})
	if !ok {
		return nil, fail(http.StatusUnauthorized, "NOT_USER_ADMIN", "The current user may not read user %s.", u.Username)
	}
	return c.user(u), nil
}

// actorIP is the caller's address for the records.
func (c *call) actorIP() string { return ipText(httpx.ClientIP(c.r.Context())) }
