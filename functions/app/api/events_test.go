package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

func (x *site) happen(events ...model.Event) []model.Event {
	x.t.Helper()
	for i := range events {
		events[i].ID = alerting.EventID(events[i].At, fmt.Sprint(i), events[i].Text)
	}
	if err := x.events.AddEvents(x.t.Context(), events...); err != nil {
		x.t.Fatal(err)
	}
	return events
}

func textsOf(list map[string]any) (out []string) {
	for _, r := range list["results"].([]any) {
		out = append(out, r.(map[string]any)["raw"].(map[string]any)["text"].(string))
	}
	return out
}

func TestEventEntities(t *testing.T) {
	x := newSite(t)
	cluster := model.DeriveID("c")
	if err := x.inv.UpsertCluster(t.Context(), x.group.ID, cluster, func(c *model.Cluster) error {
		c.Name, c.ReplicaSet, c.ShardName = "Main", "rs0", "shard0"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	host := model.NewHostID(x.group.ID, "db1", 27017)
	es := x.happen(
		model.Event{GroupID: x.group.ID, Type: model.EventPrimaryElected, At: t0, HostID: host, HostName: "db1:27017", ClusterID: cluster, Text: "elected"},
		model.Event{GroupID: x.group.ID, Type: model.EventGroupUpdated, At: t0.Add(time.Second), UserID: "5f00000000000000000000ee", Username: "ann", IP: "192.0.2.1", Global: true},
		model.Event{
			GroupID: x.group.ID, Type: model.EventAccessListChanged, At: t0.Add(2 * time.Second), APIKey: "abcdefgh", APIKeyID: "5f00000000000000000000ef", TargetKey: "zyxwvuts",
			AccessEntry: "10.0.0.0/8",
		},
	)
	base := "/groups/" + string(x.group.ID) + "/events"
	k := x.inGroup(model.GroupReadOnly)
	for i, want := range []map[string]any{
		{
			"eventTypeName": "PRIMARY_ELECTED", "created": "2026-03-01T10:07:00Z", "isGlobalAdmin": false, "groupId": string(x.group.ID), "orgId": string(x.org.ID), "hostId": string(host),
			"hostname": "db1", "port": 27017.0, "clusterId": string(cluster), "clusterName": "Main", "replicaSetName": "rs0", "shardName": "shard0", "raw": nil, "username": nil,
		},
		{"userId": "5f00000000000000000000ee", "username": "ann", "remoteAddress": "192.0.2.1", "isGlobalAdmin": true, "publicKey": nil, "hostname": nil},
		{"apiKeyId": "5f00000000000000000000ef", "publicKey": "abcdefgh", "targetPublicKey": "zyxwvuts", "accessListEntry": "10.0.0.0/8", "whitelistEntry": "10.0.0.0/8", "username": nil},
	} {
		got := x.ok(k, http.MethodGet, base+"/"+string(es[i].ID), "", 200)
		for key, v := range want {
			if got[key] != v {
				t.Errorf("event %d: %s is %v, want %v", i, key, got[key], v)
			}
		}
		self := got["links"].([]any)[0].(map[string]any)["href"]
		if self != "https://om.example.com/api/public/v1.0"+base+"/"+string(es[i].ID) {
			t.Error(self)
		}
	}
	if got := x.ok(k, http.MethodGet, base+"/"+string(es[0].ID)+"?includeRaw=true", "", 200); got["raw"].(map[string]any)["text"] != "elected" {
		t.Errorf("%v", got)
	}
}

func TestEventsAreListedAndPaged(t *testing.T) {
	x := newSite(t)
	var events []model.Event
	for i := range 25 {
		e := model.Event{GroupID: x.group.ID, Type: model.EventHostUp, At: t0.Add(time.Duration(i) * time.Minute), Text: fmt.Sprint(i)}
		if i%5 == 0 {
			e.Type = model.EventHostDown
		}
		events = append(events, e)
	}
	x.happen(events...)
	base := "/groups/" + string(x.group.ID) + "/events"
	for query, want := range map[string]string{
		"?itemsPerPage=3":                                            "24 23 22 of 25",
		"?itemsPerPage=10&pageNum=3":                                 "4 3 2 1 0 of 25",
		"?itemsPerPage=10&pageNum=9":                                 " of 25",
		"?eventType=HOST_DOWN":                                       "20 15 10 5 0 of 5",
		"?eventType=HOST_DOWN&itemsPerPage=2&pageNum=2":              "10 5 of 5",
		"?eventType=HOST_DOWN&eventType=HOST_UP&itemsPerPage=1":      "24 of 25",
		"?eventType=NONE_SUCH":                                       " of 0",
		"?minDate=2026-03-01T10:29:00Z":                              "24 23 22 of 3",
		"?maxDate=2026-03-01T10:08:00Z":                              "1 0 of 2",
		"?minDate=2026-03-01T10:08:00Z&maxDate=2026-03-01T10:08:00Z": "1 of 1",
		"?maxDate=" + url.QueryEscape("2026-03-01T11:08:00+01:00"):   "1 0 of 2",
		"?itemsPerPage=2&includeCount=false":                         "24 23 of <nil>",
	} {
		got := x.ok(x.owner, http.MethodGet, base+query+"&includeRaw=true", "", 200)
		if s := strings.Join(textsOf(got), " ") + " of " + fmt.Sprint(got["totalCount"]); s != want {
			t.Errorf("%s: %q, want %q", query, s, want)
		}
	}
	for query, code := range map[string]string{
		"?minDate=2026-03-02T00:00:00Z&maxDate=2026-03-01T00:00:00Z": "START_DATE_AFTER_END_DATE", "?minDate=soon": "INVALID_QUERY_PARAMETER",
		"?maxDate=9999-01-01": "INVALID_QUERY_PARAMETER", "?includeRaw=maybe": "INVALID_QUERY_PARAMETER", "?pageNum=0": "INVALID_QUERY_PARAMETER", "?itemsPerPage=x": "INVALID_QUERY_PARAMETER",
	} {
		if a := x.do(x.owner, http.MethodGet, base+query, ""); a.status != 400 || a.json["errorCode"] != code {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		for _, path := range []string{base, base + "/" + string(events[0].ID), "/globalEvents", "/orgs/" + string(x.org.ID) + "/events"} {
			if a := x.do(x.owner, method, path, ""); a.status != 405 {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
}

func TestWhoMayReadEvents(t *testing.T) {
	x := newSite(t)
	es := x.happen(
		model.Event{GroupID: x.group.ID, Type: model.EventHostUp, At: t0.Add(1 * time.Minute), Text: "group"},
		model.Event{GroupID: x.other.ID, Type: model.EventHostUp, At: t0.Add(2 * time.Minute), Text: "other"},
		model.Event{Type: model.EventOrgRenamed, OrgID: x.org.ID, At: t0.Add(3 * time.Minute), Text: "org"},
		model.Event{Type: model.EventLogin, Username: "ann", At: t0.Add(4 * time.Minute), Text: "site"},
	)
	group, other, org := "/groups/"+string(x.group.ID)+"/events", "/groups/"+string(x.other.ID)+"/events", "/orgs/"+string(x.org.ID)+"/events"
	reader, owner := x.inGroup(model.GroupReadOnly), x.key(x.org.ID, model.Grant{Role: model.OrgOwner, OrgID: x.org.ID})
	member, global := x.key(x.org.ID, model.Grant{Role: model.OrgMember, OrgID: x.org.ID}), x.key("", model.Grant{Role: model.GlobalReadOnly})
	for _, c := range []struct {
		who    string
		k      key
		path   string
		status int
		want   string
	}{
		{"reader", reader, group, 200, "group"},
		{"reader", reader, other, 401, ""},
		{"reader", reader, org, 200, "org group"},
		{"reader", reader, "/globalEvents", 401, ""},
		{"member", member, group, 401, ""},
		{"member", member, org, 200, "org"},
		{"owner", owner, org, 200, "org group"},
		{"owner", owner, "/globalEvents", 401, ""},
		{"global", global, group, 200, "group"},
		{"global", global, other, 200, "other"},
		{"global", global, org, 200, "org group"},
		{"global", global, "/globalEvents", 200, "site org other group"},
	} {
		a := x.do(c.k, http.MethodGet, c.path+"?includeRaw=true", "")
		if a.status != c.status {
			t.Errorf("%s %s: %d %s", c.who, c.path, a.status, a.body)
			continue
		}
		if c.status == 200 {
			if got := strings.Join(textsOf(a.json), " "); got != c.want {
				t.Errorf("%s %s: %s, want %s", c.who, c.path, got, c.want)
			}
		}
		for _, e := range es { // one event is shown to those who see it in the list
			status := http.StatusNotFound
			switch {
			case c.status != 200:
				status = c.status
			case strings.Contains(" "+c.want+" ", " "+e.Text+" "):
				status = 200
			}
			if a := x.do(c.k, http.MethodGet, c.path+"/"+string(e.ID), ""); a.status != status {
				t.Errorf("%s %s/%s: %d, want %d: %s", c.who, c.path, e.Text, a.status, status, a.body)
			}
		}
	}
	for path, code := range map[string]string{group: "EVENT_NOT_FOUND", org: "ORG_EVENT_NOT_FOUND", "/globalEvents": "GLOBAL_EVENT_NOT_FOUND"} {
		for _, id := range []string{"x", "5f00000000000000000000ff"} {
			if a := x.do(x.owner, http.MethodGet, path+"/"+id, ""); a.status != 404 || a.json["errorCode"] != code {
				t.Errorf("%s/%s: %d %s", path, id, a.status, a.body)
			}
		}
	}
}

// What is done through the API is in the feed, with the key and its address.
func TestActionsOfKeysLeaveEvents(t *testing.T) {
	x := newSite(t)
	org := "/orgs/" + string(x.org.ID)
	made := x.ok(x.owner, http.MethodPost, org+"/apiKeys", `{"desc":"d","roles":["ORG_MEMBER"]}`, 200)
	k := org + "/apiKeys/" + made["id"].(string)
	x.ok(x.owner, http.MethodPatch, k, `{"desc":"e"}`, 200)
	x.ok(x.owner, http.MethodPost, k+"/accessList", `[{"cidrBlock":"10.0.0.0/8"}]`, 200)
	x.do(x.owner, http.MethodDelete, k+"/accessList/10.0.0.0%2F8", "")
	x.do(x.owner, http.MethodDelete, k, "")
	x.ok(x.owner, http.MethodPost, "/admin/accessList", `{"cidrBlock":"127.0.0.0/8","description":"here"}`, 200)
	x.ok(x.owner, http.MethodPatch, org, `{"name":"Acme 2"}`, 200)
	x.do(x.owner, http.MethodPost, "/orgs", `{"name":"New"}`)
	x.do(x.owner, http.MethodPatch, "/groups/"+string(x.group.ID), `{"name":"renamed"}`)
	got := x.ok(x.owner, http.MethodGet, "/globalEvents?itemsPerPage=500", "", 200)
	count := map[string]int{}
	for _, r := range got["results"].([]any) {
		e := r.(map[string]any)
		count[e["eventTypeName"].(string)]++
		if e["publicKey"] != x.owner.public || e["apiKeyId"] != string(x.owner.id) || e["remoteAddress"] == nil || e["isGlobalAdmin"] != true {
			t.Errorf("%v", e)
		}
	}
	for name, n := range map[string]int{
		"ORG_API_KEY_ADDED": 1, "ORG_API_KEY_CHANGED": 1, "API_KEY_ACCESS_LIST_CHANGED": 2, "ORG_API_KEY_DELETED": 1, "GLOBAL_ACCESS_LIST_CHANGED": 1, "ORG_RENAMED": 1,
		"ORG_CREATED": 1, "GROUP_UPDATED": 1,
	} {
		if count[name] != n {
			t.Errorf("%s: %d events, want %d", name, count[name], n)
		}
	}
}
