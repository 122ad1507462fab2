package api_test

import (
	"fmt"
	"sync"
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

// TestGlobalAccessListTogether: of changes made at once none is lost.
func TestGlobalAccessListTogether(t *testing.T) {
	x := newSite(t)
	first := x.ok(x.owner, "POST", "/admin/accessList", `{"cidrBlock":"127.0.0.0/8","description":"here"}`, 200)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			x.do(x.owner, "POST", "/admin/accessList", fmt.Sprintf(`{"cidrBlock":"10.%d.0.0/16","description":"net"}`, i))
		})
	}
	all.Wait()
	if list := x.ok(x.owner, "GET", "/admin/accessList", "", 200); list["totalCount"] != float64(9) {
		t.Errorf("%v entries", list["totalCount"])
	}
	x.mu.Lock()
	x.now = x.now.Add(90e9)
	x.mu.Unlock()
	at := "/admin/whitelist/" + fmt.Sprint(first["id"])
	changed := x.ok(x.owner, "PATCH", at, `{"description":"there"}`, 200)
	if changed["description"] != "there" || changed["created"] != "2026-03-01T10:07:00Z" || changed["updated"] != "2026-03-01T10:08:30Z" {
		t.Errorf("%v", changed)
	}
	whole := x.do(x.owner, "GET", at, "")
	x.ok(x.owner, "PATCH", at, string(whole.body), 200)
	x.refused(x.owner, "PATCH", at, `{"type":"OTHER"}`, 400, "ATTRIBUTE_READ_ONLY")
	x.refused(x.owner, "POST", "/admin/accessList", `{"cidrBlock":"","description":"x"}`, 400, "MISSING_ATTRIBUTE")
	x.refused(x.owner, "DELETE", at, "", 400, "CANNOT_REMOVE_CALLER_FROM_ACCESS_LIST")
}

// TestKeyAccessEntries: uses are noted with their address; forms of addresses.
func TestKeyAccessEntries(t *testing.T) {
	x := newSite(t)
	k := x.key(x.org.ID, model.Grant{Role: model.OrgMember, OrgID: x.org.ID})
	base := "/orgs/" + string(x.org.ID) + "/apiKeys/" + string(k.id) + "/accessList"
	x.ok(k, "POST", base, `[{"ipAddress":"127.0.0.1","cidrBlock":""}]`, 200)
	used := x.ok(k, "GET", base+"/127.0.0.1", "", 200)
	if used["count"] != float64(1) || used["lastUsed"] != "2026-03-01T10:07:00Z" || used["lastUsedAddress"] != "127.0.0.1" {
		t.Errorf("%v", used)
	}
	x.refused(k, "POST", base, `[{}]`, 400, "MISSING_ONE_OF_ATTRIBUTES")
	x.refused(k, "POST", base, `[{"ipAddress":"somewhere"}]`, 400, "INVALID_ATTRIBUTE")
	x.refused(k, "POST", base, `{"ipAddress":"10.0.0.1"}`, 400, "INVALID_JSON")
	x.refused(k, "POST", base, `[{"ipAddress":7}]`, 400, "INVALID_JSON_ATTRIBUTE")
	x.refused(k, "POST", base, `[{"ipAddress":"10.0.0.1","comment":"x"}]`, 400, "INVALID_ATTRIBUTE")
	x.ok(k, "POST", base, `[{"cidrBlock":"::ffff:10.1.0.0/112"},{"ipAddress":"2001:DB8::1"}]`, 200)
	if list := x.ok(k, "GET", base, "", 200); get(list, "results", 1, "cidrBlock") != "10.1.0.0/16" || get(list, "results", 2, "ipAddress") != "2001:db8::1" {
		t.Errorf("%v", list)
	}
	x.ok(k, "GET", base+"/2001:db8::1", "", 200)
	x.refused(x.inGroup(model.GroupOwner), "GET", base, "", 400, "API_KEY_ACCESS_LIST_ACCESS_DENIED")
}

// TestUserWrites: people are made, changed and removed by who administers what they get.
func TestUserWrites(t *testing.T) {
	x := newSite(t)
	site := x.user("root@example.com", model.Grant{Role: model.GlobalOwner})
	gid, oid, other := string(x.group.ID), string(x.org.ID), string(x.other.ID)
	admin := x.inGroup(model.GroupUserAdmin)
	users := x.key("", model.Grant{Role: model.GlobalUserAdmin})
	const person = `{"username":"Bob+1@example.com","password":"Passw0rd!","firstName":"Bob","lastName":"Lee","mobileNumber":"123","roles":[%s]}`
	reads := `{"roleName":"GROUP_READ_ONLY","groupId":"` + gid + `"}`
	for _, c := range []struct {
		k      key
		roles  string
		status int
		code   string
	}{
		{x.inGroup(model.GroupReadOnly), reads, 401, "NOT_USER_ADMIN"},
		{admin, `{"roleName":"GROUP_READ_ONLY","groupId":"` + other + `"}`, 401, "NOT_GROUP_USER_ADMIN"},
		{admin, `{"roleName":"ORG_OWNER","orgId":"` + oid + `"}`, 401, "NOT_ORG_ADMIN"},
		{admin, `{"roleName":"GLOBAL_READ_ONLY"}`, 403, "CANNOT_ADD_GLOBAL_ROLE"},
		{users, `{"roleName":"GLOBAL_OWNER"}`, 403, "CANNOT_ADD_GLOBAL_ROLE"},
		{users, `{"roleName":"MAGICIAN"}`, 400, "INVALID_ENUM_VALUE"},
		{users, `{"roleName":"GROUP_OWNER"}`, 400, "ROLE_NEEDS_GROUP_ID"},
		{users, `{"roleName":"ORG_OWNER"}`, 400, "ROLE_NEEDS_ORG_ID"},
		{users, `{"roleName":"GLOBAL_OWNER","groupId":"` + gid + `"}`, 400, "ROLE_NEEDS_NO_GROUP_ID"},
		{users, `{"roleName":"GROUP_OWNER","groupId":"` + gid + `","orgId":"` + oid + `"}`, 400, "ROLE_NEEDS_NO_ORG_ID"},
		{users, `{"roleName":"GROUP_OWNER","groupId":"5f00000000000000000000ff"}`, 404, "GROUP_NOT_FOUND"},
		{users, `{"roleName":"ORG_OWNER","orgId":"5f00000000000000000000ff"}`, 404, "ORG_NOT_FOUND"},
		{users, ``, 400, "MISSING_ATTRIBUTE"},
		{users, `{"roleName":"GROUP_OWNER","groupid":"` + gid + `","colour":"red"}`, 400, "INVALID_ATTRIBUTE"},
	} {
		x.refused(c.k, "POST", "/users", fmt.Sprintf(person, c.roles), c.status, c.code)
	}
	bob := x.ok(admin, "POST", "/users", fmt.Sprintf(person, reads), 201)
	if bob["username"] != "bob+1@example.com" || bob["emailAddress"] != "bob+1@example.com" || bob["mobileNumber"] != "123" || bob["password"] != nil || get(bob, "roles", 0, "groupId") != gid {
		t.Errorf("%v", bob)
	}
	x.refused(admin, "POST", "/users", fmt.Sprintf(person, reads), 409, "USER_ALREADY_EXISTS")
	at := "/users/" + fmt.Sprint(bob["id"])
	stored, err := x.acc.UserByName(t.Context(), "bob+1@example.com")
	if ok, _ := auth.CheckPassword(stored.PasswordHash, "Passw0rd!"); err != nil || !ok {
		t.Errorf("%v: the password does not fit", err)
	}
	// What was read goes back, and the roles of elsewhere are not the group's to change.
	x.ok(users, "PATCH", at, `{"roles":[`+reads+`,{"roleName":"GROUP_OWNER","groupId":"`+other+`"},{"roleName":"ORG_MEMBER","orgId":"`+oid+`"}]}`, 200)
	whole := x.do(admin, "GET", at, "")
	x.ok(admin, "PATCH", at, string(whole.body), 200)
	bob = x.ok(admin, "PATCH", at, `{"username":"","roles":[{"roleName":"GROUP_MONITORING_ADMIN","groupId":"`+gid+`"}]}`, 200)
	if roles, _ := bob["roles"].([]any); len(roles) != 3 || get(roles, 0, "groupId") != other || get(roles, 2, "roleName") != "GROUP_MONITORING_ADMIN" {
		t.Errorf("%v", bob["roles"])
	}
	x.refused(admin, "PATCH", at, `{"firstName":"Rob"}`, 400, "ATTRIBUTE_READ_ONLY")
	x.refused(users, "PATCH", at, `{"username":"rob"}`, 400, "ATTRIBUTE_READ_ONLY")
	x.refused(users, "PATCH", at, `{"password":"Passw0rd!2"}`, 400, "ATTRIBUTE_READ_ONLY")
	x.refused(users, "PATCH", at, `{"emailAddress":"nowhere"}`, 400, "INVALID_EMAIL_ADDRESS")
	if bob = x.ok(users, "PATCH", at, `{"firstName":"Rob","emailAddress":"rob@example.com","password":""}`, 200); bob["firstName"] != "Rob" || bob["emailAddress"] != "rob@example.com" {
		t.Errorf("%v", bob)
	}
	// Owners of the site are its owners' business, and one stays.
	top := "/users/" + string(site.ID)
	if root := x.ok(users, "PATCH", top, `{"roles":[]}`, 200); get(root, "roles", 0, "roleName") != "GLOBAL_OWNER" {
		t.Errorf("%v", root)
	}
	x.refused(x.owner, "PATCH", top, `{"roles":[]}`, 403, "CANNOT_DEMOTE_LAST_OWNER")
	x.refused(x.owner, "DELETE", top, "", 403, "CANNOT_DELETE_LAST_OWNER")
	x.refused(admin, "PATCH", top, `{}`, 401, "NOT_USER_ADMIN")
	// Into a group and out of it.
	in := "/groups/" + gid + "/users"
	x.refused(admin, "POST", in, `[{"id":"`+string(site.ID)+`","roles":[{"roleName":"ORG_OWNER"}]}]`, 400, "INVALID_ROLE_FOR_GROUP")
	x.refused(admin, "POST", in, `[{"id":"5f00000000000000000000ff","roles":[{"roleName":"GROUP_OWNER"}]}]`, 404, "USER_NOT_FOUND")
	x.refused(admin, "POST", in, `[{"id":"`+string(site.ID)+`"}]`, 400, "MISSING_ATTRIBUTE")
	if list := x.ok(admin, "POST", in, `[{"id":"`+string(site.ID)+`","roles":[{"roleName":"GROUP_READ_ONLY"}]}]`, 200); list["totalCount"] != float64(2) {
		t.Errorf("%v", list)
	}
	x.ok(admin, "DELETE", in+"/"+string(site.ID), "", 204)
	x.refused(admin, "DELETE", in+"/"+string(site.ID), "", 404, "USER_NOT_IN_GROUP")
	x.refused(users, "DELETE", at, "", 401, "USER_UNAUTHORIZED")
	x.ok(x.owner, "DELETE", at, "", 204)
	x.refused(x.owner, "GET", at, "", 404, "USER_NOT_FOUND")
}
