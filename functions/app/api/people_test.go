package api_test

import (
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
)

// user adds a user to the store.
func (x *site) user(name string, grants ...model.Grant) model.User {
	x.t.Helper()
	u := model.User{ID: model.NewID(), Username: name, FirstName: "F", LastName: "L", Grants: grants, Created: t0}
	if err := x.acc.CreateUser(x.t.Context(), u); err != nil {
		x.t.Fatal(err)
	}
	return u
}

// refused calls and expects an error of the API.
func (x *site) refused(k key, method, path, body string, status int, code string) {
	x.t.Helper()
	if a := x.do(k, method, path, body); a.status != status || a.json["errorCode"] != code {
		x.t.Errorf("%s %s %s: %d %s, want %d %s", method, path, body, a.status, a.body, status, code)
	}
}

// TestWhoSeesUsers: administrators of the site, and those of a group or an organization that the user belongs to.
func TestWhoSeesUsers(t *testing.T) {
	x := newSite(t)
	member := x.user("a+b@example.com", model.Grant{Role: model.GroupReadOnly, GroupID: x.group.ID})
	colleague := x.user("colleague", model.Grant{Role: model.OrgMember, OrgID: x.org.ID})
	stranger := x.user("stranger", model.Grant{Role: model.GroupReadOnly, GroupID: x.other.ID})
	orgOwner := x.key(x.org.ID, model.Grant{Role: model.OrgOwner, OrgID: x.org.ID})
	for _, k := range []key{x.owner, orgOwner, x.inGroup(model.GroupUserAdmin)} {
		x.ok(k, "GET", "/users/"+string(member.ID), "", 200)
		x.ok(k, "GET", "/users/byName/a+b@example.com", "", 200)
		x.ok(k, "GET", "/users/byName/a%2Bb%40example.com/", "", 200)
	}
	x.ok(orgOwner, "GET", "/users/"+string(colleague.ID), "", 200)
	x.refused(orgOwner, "GET", "/users/"+string(stranger.ID), "", 401, "NOT_USER_ADMIN")
	x.refused(x.inGroup(model.GroupReadOnly), "GET", "/users/"+string(member.ID), "", 401, "NOT_USER_ADMIN")
	if list := x.ok(x.inGroup(model.GroupReadOnly), "GET", "/groups/"+string(x.group.ID)+"/users", "", 200); list["totalCount"] != float64(1) || get(list, "results", 0, "username") != "a+b@example.com" {
		t.Errorf("%v", list)
	}
	if list := x.ok(orgOwner, "GET", "/orgs/"+string(x.org.ID)+"/users", "", 200); list["totalCount"] != float64(2) {
		t.Errorf("%v", list)
	}
}
