package api_test

import (
	"fmt"
	"strings"
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

// TestEchoes: what was read can be sent back, whoever reads it.
func TestEchoes(t *testing.T) {
	x := newSite(t)
	owner := x.inGroup(model.GroupOwner)
	g := "/groups/" + string(x.group.ID)
	whole := x.do(owner, "GET", g, "")
	x.ok(owner, "PATCH", g, string(whole.body), 200)
	x.refused(owner, "PATCH", g, `{"tags":["mine"]}`, 401, "USER_UNAUTHORIZED")
	if o := x.ok(x.owner, "GET", g, "", 200); get(o, "tags", 0) != "live" {
		t.Errorf("the echo of one who does not see the tags took them away: %v", o["tags"])
	}
	x.ok(x.owner, "PATCH", g, `{"name":null,"tags":null}`, 200)
	x.refused(x.owner, "PATCH", g, `[]`, 400, "INVALID_JSON")
	x.refused(x.owner, "PATCH", g, `{"name":{}}`, 400, "INVALID_JSON_ATTRIBUTE")
	x.refused(x.owner, "PATCH", g, `{"hostCounts":{"primary":9}}`, 400, "ATTRIBUTE_READ_ONLY")
	x.refused(x.owner, "PATCH", g, `{"name":"`+strings.Repeat("ü", 65)+`"}`, 400, "INVALID_GROUP_NAME")
	x.ok(x.owner, "PATCH", g, `{"name":"`+strings.Repeat("ü", 64)+`"}`, 200)

	h := x.ok(owner, "POST", g+"/hosts", `{"hostname":"db1","port":27017,"username":"mon","password":"geheim","authMechanismName":"SCRAM-SHA-256","aliases":[],"hidden":false}`, 201)
	at := g + "/hosts/" + fmt.Sprint(h["id"])
	host := x.do(owner, "GET", at, "")
	x.ok(owner, "PATCH", at, string(host.body), 200)
	check := func(user, password string) {
		t.Helper()
		creds, err := x.inv.HostCredentials(t.Context(), x.group.ID, model.HostID(fmt.Sprint(h["id"])))
		if err != nil || creds.Username != user || creds.Password.Reveal() != password {
			t.Errorf("%v %s", err, creds.Username)
		}
	}
	check("mon", "geheim")
	x.ok(owner, "PATCH", at, `{"hostname":"","port":0,"password":"neu"}`, 200)
	check("mon", "neu")
	x.refused(owner, "PATCH", at, `{"username":"other"}`, 400, "MISSING_PASSWORD")
	check("mon", "neu")
	x.refused(owner, "POST", g+"/hosts", `{"hostname":"db2","port":27017,"typeName":"STANDALONE"}`, 400, "ATTRIBUTE_READ_ONLY")
	x.refused(owner, "POST", g+"/hosts", `{"hostname":"db2","port":"27017"}`, 400, "INVALID_JSON_ATTRIBUTE")
}

// TestRenamedCluster: the parts of a sharded cluster carry its name.
func TestRenamedCluster(t *testing.T) {
	x := newSite(t)
	parent, shard := model.ID("5f0000000000000000000c00"), model.ID("5f0000000000000000000c01")
	for id, c := range map[model.ID]model.Cluster{
		parent: {Type: model.ClusterSharded, Name: "big", Created: t0},
		shard:  {Type: model.ClusterReplicaSet, Name: "big", ReplicaSet: "s0", ShardName: "shard0", ParentID: parent, Created: t0},
	} {
		if err := x.inv.UpsertCluster(t.Context(), x.group.ID, id, func(old *model.Cluster) error { *old = c; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	g := "/groups/" + string(x.group.ID) + "/clusters/"
	x.ok(x.owner, "PATCH", g+string(parent), `{"clusterName":"huge"}`, 200)
	if c := x.ok(x.owner, "GET", g+string(shard), "", 200); c["clusterName"] != "huge" || c["shardName"] != "shard0" {
		t.Errorf("%v", c)
	}
}

// TestAgentWithoutConf: a time that is not known is left out.
func TestAgentWithoutConf(t *testing.T) {
	x := newSite(t)
	g := "/groups/" + string(x.group.ID)
	for i, version := range []string{"10.0.0", "9.1.0"} {
		err := x.inv.UpsertAgent(t.Context(), x.group.ID, fmt.Sprint("a", i), func(a *model.Agent) error {
			a.Type, a.Hostname, a.Version, a.State = model.AgentMonitoring, "watch1", version, model.AgentActive
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	list := x.ok(x.owner, "GET", g+"/agents/MONITORING", "", 200)
	if get(list, "results", 0, "lastConf") != nil {
		t.Errorf("%v", list)
	}
	versions := x.ok(x.owner, "GET", g+"/agents/versions", "", 200)
	if get(versions, "entries", 0, "lastConf") != nil || get(versions, "entries", 0, "pingState") != "error" || versions["minimumAgentVersionDetected"] != "9.1.0" {
		t.Errorf("%v", versions)
	}
}

// TestGroupsByAnyName: a group may be called as a resource of groups is.
func TestGroupsByAnyName(t *testing.T) {
	x := newSite(t)
	for _, name := range []string{"users", "apiKeys", "hosts", "events", "byName", "a+b@c d"} {
		x.ok(x.owner, "POST", "/groups", `{"name":"`+name+`","orgId":"`+string(x.org.ID)+`"}`, 201)
		if g := x.ok(x.owner, "GET", "/groups/byName/"+strings.ReplaceAll(name, " ", "%20"), "", 200); g["name"] != name {
			t.Errorf("%v", g["name"])
		}
	}
}
