package api_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
)

// TestSameGroupTwice: of the same call several times at once one succeeds and the others leave nothing behind.
func TestSameGroupTwice(t *testing.T) {
	x := newSite(t)
	orgs := x.ok(x.owner, "GET", "/orgs", "", 200)["totalCount"]
	var all sync.WaitGroup
	status := make([]int, 6)
	for i := range status {
		all.Go(func() {
			a := x.do(x.owner, "POST", "/groups", `{"name":"same"}`)
			if status[i] = a.status; a.status == 409 && a.json["errorCode"] != "GROUP_ALREADY_EXISTS" {
				t.Errorf("%s", a.body)
			}
		})
	}
	all.Wait()
	count := map[int]int{}
	for _, s := range status {
		count[s]++
	}
	if count[201] != 1 || count[409] != len(status)-1 {
		t.Errorf("%v", status)
	}
	if now := x.ok(x.owner, "GET", "/orgs", "", 200)["totalCount"]; now != orgs.(float64)+1 {
		t.Errorf("%v organizations, before %v", now, orgs)
	}
}

// TestGroupCreatorGoesOn: who makes a group owns it, and so can go on with it.
func TestGroupCreatorGoesOn(t *testing.T) {
	x := newSite(t)
	creator := x.key(x.org.ID, model.Grant{Role: model.OrgGroupCreator, OrgID: x.org.ID})
	owner := x.user("ann@example.com")
	g := x.ok(creator, "POST", "/groups?projectOwnerId="+string(owner.ID), `{"name":"mine","orgId":"`+string(x.org.ID)+`"}`, 201)
	at := "/groups/" + fmt.Sprint(g["id"])
	x.ok(creator, "GET", at, "", 200)
	x.ok(creator, "POST", at+"/agentapikeys", `{"desc":"mine"}`, 200)
	if list := x.ok(creator, "GET", at+"/users", "", 200); get(list, "results", 0, "username") != "ann@example.com" || get(list, "results", 0, "roles", 0, "roleName") != "GROUP_OWNER" {
		t.Errorf("%v", list)
	}
	x.refused(creator, "POST", "/groups?projectOwnerId=5f00000000000000000000ff", `{"name":"other"}`, 404, "USER_NOT_FOUND")
	x.refused(creator, "GET", "/groups/byName/other", "", 404, "GROUP_NAME_NOT_FOUND")
	x.refused(x.inGroup(model.GroupOwner), "POST", "/groups", `{"name":"other"}`, 401, "API_KEY_CANNOT_CREATE_GROUP")
}
