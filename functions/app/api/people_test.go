package api_test

import (
	"fmt"
	"testing"

	"github.com/heartwood-db/heartwood/shared/auth"
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

// TestOrganizationGoesWhole: what was granted about an organization ends with it.
func TestOrganizationGoesWhole(t *testing.T) {
	x := newSite(t)
	id := fmt.Sprint(x.ok(x.owner, "POST", "/orgs", `{"name":"Cog"}`, 200)["id"])
	k := x.key(model.ID(id), model.Grant{Role: model.OrgOwner, OrgID: model.ID(id)})
	u := x.user("u", model.Grant{Role: model.OrgMember, OrgID: model.ID(id)}, model.Grant{Role: model.GroupOwner, GroupID: x.group.ID})
	for _, body := range []string{`{"name":"  "}`, `{"name":""}`, `{}`, `null`} {
		if o := x.ok(k, "PATCH", "/orgs/"+id, body, 200); o["name"] != "Cog" {
			t.Errorf("%s made it %v", body, o["name"])
		}
	}
	x.refused(k, "PATCH", "/orgs/"+id, `{"isDeleted":true}`, 400, "ATTRIBUTE_READ_ONLY")
	whole := x.do(k, "GET", "/orgs/"+id, "")
	x.ok(k, "PATCH", "/orgs/"+id, string(whole.body), 200)
	x.ok(x.owner, "DELETE", "/orgs/"+id, "", 204)
	if a := x.do(k, "GET", "/", ""); a.status != 401 {
		t.Errorf("a key of an organization that is gone got %d", a.status)
	}
	if got, err := x.acc.User(t.Context(), u.ID); err != nil || len(got.Grants) != 1 || got.Grants[0].GroupID != x.group.ID {
		t.Errorf("%v %v", err, got.Grants)
	}
}

// TestKeyOfGroup: a key made for a group is a member of its organization, so that it can find the way to the group.
func TestKeyOfGroup(t *testing.T) {
	x := newSite(t)
	g := "/groups/" + string(x.group.ID) + "/apiKeys"
	made := x.ok(x.owner, "POST", g, `{"desc":"reads","roles":["GROUP_READ_ONLY"]}`, 200)
	k := key{public: fmt.Sprint(made["publicKey"]), private: fmt.Sprint(made["privateKey"])}
	x.ok(k, "GET", "/orgs/"+string(x.org.ID), "", 200)
	x.ok(k, "GET", "/groups/"+string(x.group.ID), "", 200)
	if list := x.ok(k, "GET", "/orgs", "", 200); list["totalCount"] != float64(1) {
		t.Errorf("%v", list)
	}
	// Every documented role can be given; those of what this server does not do include reading, as every role.
	for _, r := range []string{"GROUP_AUTOMATION_ADMIN", "GROUP_DATA_ACCESS_ADMIN", "GROUP_DATA_ACCESS_READ_WRITE", "GROUP_DATA_ACCESS_READ_ONLY"} {
		made := x.ok(x.owner, "POST", g, `{"desc":"`+r+`","roles":["`+r+`"]}`, 200)
		k := key{public: fmt.Sprint(made["publicKey"]), private: fmt.Sprint(made["privateKey"])}
		x.ok(k, "GET", "/groups/"+string(x.group.ID)+"/hosts", "", 200)
		x.refused(k, "POST", "/groups/"+string(x.group.ID)+"/hosts", "{}", 401, "USER_UNAUTHORIZED")
	}
	made = x.ok(x.owner, "POST", "/admin/apiKeys", `{"desc":"a","roles":["GLOBAL_AUTOMATION_ADMIN"]}`, 200)
	k = key{public: fmt.Sprint(made["publicKey"]), private: fmt.Sprint(made["privateKey"])}
	x.ok(k, "GET", "/groups/"+string(x.group.ID), "", 200)
	if auth.KeyPrincipal(&model.APIKey{Grants: []model.Grant{{Role: "NOBODY", GroupID: x.group.ID}}}).InGroup(x.group.ID, x.org.ID) {
		t.Error("a role that does not exist admits")
	}
}
