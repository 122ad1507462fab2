package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// catcher is a Sender that keeps what it is given.
type catcher struct {
	mu   sync.Mutex
	sent []notify.Target
	fail error
}

func (s *catcher) Send(_ context.Context, to notify.Target, _ notify.Message) (notify.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, to)
	return notify.Result{Text: "taken"}, s.fail
}

func (s *catcher) Missing(channel string) string {
	if channel == notify.SMS {
		return "SMS is not configured"
	}
	return ""
}

func (x *site) base() string { return "/groups/" + string(x.group.ID) }

// eventTypes are the types of events of the group, oldest first.
func (x *site) eventTypes() string {
	x.t.Helper()
	events, _, err := x.events.Events(x.t.Context(), alerting.EventQuery{AllGroups: true})
	if err != nil {
		x.t.Fatal(err)
	}
	var out []string
	for _, e := range slices.Backward(events) {
		out = append(out, string(e.Type))
	}
	slices.Sort(out) // those of one moment have no order
	return strings.Join(out, " ")
}

// example is the documentation's configuration, and one of each kind of field that is not in it.
const example = `{"eventTypeName":"OUTSIDE_METRIC_THRESHOLD","enabled":true,"typeName":"HOST_METRIC",
 "matchers":[{"fieldName":"HOSTNAME_AND_PORT","operator":"EQUALS","value":"db1.example.com:27017"}],
 "metricThreshold":{"metricName":"CONNECTIONS","mode":"AVERAGE","operator":"GREATER_THAN","threshold":500.0,"units":"RAW"},
 "notifications":[{"typeName":"GROUP","intervalMin":5,"delayMin":0,"emailEnabled":true,"smsEnabled":false,"roles":["GROUP_OWNER"]},
                  {"typeName":"WEBHOOK","intervalMin":15,"delayMin":0,"webhookUrl":"https://hook.example.com/x/abcdefgh"},
                  {"typeName":"SLACK","intervalMin":15,"delayMin":5,"apiToken":"xoxb-123456789","channelName":"#ops","emailEnabled":false},
                  {"typeName":"OPS_GENIE","intervalMin":15,"delayMin":0,"opsGenieApiKey":"0123456789abcdef","opsGenieRegion":"EU"},
                  {"typeName":"EMAIL","intervalMin":60,"delayMin":0,"emailAddress":"ops@example.com"}]}`

func TestAlertConfigsComeBackAsTheyWereSent(t *testing.T) {
	x := newSite(t)
	k := x.inGroup(model.GroupMonitoringAdmin)
	made := x.ok(k, http.MethodPost, x.base()+"/alertConfigs", example, 200)
	id := made["id"].(string)
	got := x.ok(k, http.MethodGet, x.base()+"/alertConfigs/"+id, "", 200)
	for path, want := range map[string]any{
		"eventTypeName": "OUTSIDE_METRIC_THRESHOLD", "enabled": true, "typeName": "HOST_METRIC", "groupId": string(x.group.ID), "created": "2026-03-01T10:07:00Z", "updated": "2026-03-01T10:07:00Z",
	} {
		if got[path] != want {
			t.Errorf("%s is %v", path, got[path])
		}
	}
	for i, want := range []string{
		`{"delayMin":0,"emailEnabled":true,"intervalMin":5,"roles":["GROUP_OWNER"],"smsEnabled":false,"typeName":"GROUP"}`,
		`{"delayMin":0,"intervalMin":15,"typeName":"WEBHOOK","webhookUrl":"************efgh"}`,
		`{"apiToken":"************6789","channelName":"#ops","delayMin":5,"intervalMin":15,"typeName":"SLACK"}`,
		`{"delayMin":0,"intervalMin":15,"opsGenieApiKey":"************cdef","opsGenieRegion":"EU","typeName":"OPS_GENIE"}`,
		`{"delayMin":0,"emailAddress":"ops@example.com","intervalMin":60,"typeName":"EMAIL"}`,
	} {
		n := get(got, "notifications", i).(map[string]any)
		if n["id"] != n["notifierId"] || n["id"] == "" {
			t.Errorf("notification %d has the ids %v and %v", i, n["id"], n["notifierId"])
		}
		delete(n, "id")
		delete(n, "notifierId")
		if b, _ := json.Marshal(n); string(b) != want {
			t.Errorf("notification %d\n got %s\nwant %s", i, b, want)
		}
	}
	for _, part := range []struct{ name, want string }{
		{"matchers", `[{"fieldName":"HOSTNAME_AND_PORT","operator":"EQUALS","value":"db1.example.com:27017"}]`},
		{"metricThreshold", `{"metricName":"CONNECTIONS","mode":"AVERAGE","operator":"GREATER_THAN","threshold":500,"units":"RAW"}`},
	} {
		if b, _ := json.Marshal(got[part.name]); string(b) != part.want {
			t.Errorf("%s: %s", part.name, b)
		}
	}
	if s := x.eventTypes(); s != "ALERT_CONFIG_ADDED_AUDIT" {
		t.Error(s)
	}

	// GET, then PUT of the very answer: nothing changes, and nothing is lost.
	x.mu.Lock()
	x.now = t0.Add(time.Hour)
	x.mu.Unlock()
	before, err := x.events.Config(t.Context(), x.group.ID, model.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	whole := x.do(k, http.MethodGet, x.base()+"/alertConfigs/"+id, "")
	again := x.ok(k, http.MethodPut, x.base()+"/alertConfigs/"+id, string(whole.body), 200)
	after, err := x.events.Config(t.Context(), x.group.ID, model.ID(id))
	if err != nil {
		t.Fatal(err)
	}
	if again["updated"] != "2026-03-01T10:07:00Z" || !reflect.DeepEqual(before, after) {
		t.Errorf("sent back unchanged:\n%+v\n%+v", before, after)
	}
	if s := after.Notifications[1].Secrets["webhookUrl"].Reveal(); s != "https://hook.example.com/x/abcdefgh" {
		t.Errorf("the webhook's address became %q", s)
	}

	// A client that does not know a channel's fields drops them: they stay, while the matchers it leaves out are gone.
	n := func(i int) string { return string(after.Notifications[i].ID) }
	body := `{"eventTypeName":"OUTSIDE_METRIC_THRESHOLD","metricThreshold":{"metricName":"CONNECTIONS","mode":"AVERAGE","operator":"GREATER_THAN","threshold":0,"units":"RAW"},
		"notifications":[{"notifierId":"` + n(1) + `","typeName":"WEBHOOK","intervalMin":20,"delayMin":0},{"id":"` + n(3) + `","typeName":"OPS_GENIE","intervalMin":15,"delayMin":0,"opsGenieApiKey":"ffffffffffffffff"}]}`
	x.ok(k, http.MethodPut, x.base()+"/alertConfigs/"+id, body, 200)
	if after, err = x.events.Config(t.Context(), x.group.ID, model.ID(id)); err != nil {
		t.Fatal(err)
	}
	if len(after.Matchers) != 0 || after.Enabled || len(after.Notifications) != 2 || after.Metric.Value != 0 || !after.Updated.Equal(t0.Add(time.Hour)) ||
		after.Notifications[0].Secrets["webhookUrl"].Reveal() != "https://hook.example.com/x/abcdefgh" || after.Notifications[0].IntervalMin != 20 ||
		after.Notifications[1].Secrets["opsGenieApiKey"].Reveal() != "ffffffffffffffff" || after.Notifications[1].Fields["opsGenieRegion"] != "EU" || string(after.Notifications[0].ID) != n(0) {
		t.Errorf("%+v", after)
	}
	if got := x.ok(k, http.MethodPatch, x.base()+"/alertConfigs/"+id, `{"enabled":true}`, 200); got["enabled"] != true {
		t.Errorf("%v", got)
	}
	x.ok(k, http.MethodPatch, x.base()+"/alertConfigs/"+id, `{"enabled":true}`, 200)
	if a := x.do(k, http.MethodPatch, x.base()+"/alertConfigs/"+id, `{"enabled":true,"eventTypeName":"HOST_DOWN"}`); a.status != 400 || a.json["errorCode"] != "ATTRIBUTE_READ_ONLY" {
		t.Errorf("PATCH of more: %d %s", a.status, a.body)
	}
	if a := x.do(k, http.MethodDelete, x.base()+"/alertConfigs/"+id, ""); a.status != 204 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := x.do(k, http.MethodGet, x.base()+"/alertConfigs/"+id, ""); a.status != 404 || a.json["errorCode"] != "ALERT_CONFIG_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}
	const want = "ALERT_CONFIG_ADDED_AUDIT ALERT_CONFIG_CHANGED_AUDIT ALERT_CONFIG_DELETED_AUDIT ALERT_CONFIG_DISABLED_AUDIT ALERT_CONFIG_ENABLED_AUDIT"
	if s := x.eventTypes(); s != want {
		t.Error(s)
	}
}

// TestEveryEventTypeIsAccepted: those of the documentation and ours; those nobody raises stay silent.
func TestEveryEventTypeIsAccepted(t *testing.T) {
	x := newSite(t)
	for _, kind := range rule.Types() {
		extra := ""
		switch {
		case kind.Metric:
			extra = `,"metricThreshold":{"metricName":"CONNECTIONS","mode":"AVERAGE","operator":"LESS_THAN","threshold":1,"units":"RAW"}`
		case kind.Threshold != "":
			extra = `,"threshold":{"operator":"` + kind.Threshold + `","threshold":1}`
		}
		send := `{"eventTypeName":"` + string(kind.Name) + `"` + extra + `,"notifications":[{"typeName":"EMAIL","emailAddress":"ops@example.com","intervalMin":60,"delayMin":5}]`
		path := x.base() + "/alertConfigs"
		if kind.Global {
			path = "/globalAlertConfigs"
			send += `,"forAllGroups":true`
		}
		if a := x.do(x.owner, http.MethodPost, path, send+"}"); a.status != 200 || a.json["eventTypeName"] != string(kind.Name) {
			t.Errorf("%s: %d %s", kind.Name, a.status, a.body)
		}
	}
}

func TestEveryFaultIsNamed(t *testing.T) {
	x := newSite(t)
	x.host("db1:27017", nil)
	path := x.base() + "/alertConfigs"
	for _, c := range []struct{ name, body, code, faults string }{
		{"an unknown event type", `{"eventTypeName":"SOMETHING","notifications":[{"typeName":"EMAIL","emailAddress":"a@example.com","intervalMin":60}]}`, "INVALID_EVENT_TYPE_FOR_ALERT", "eventTypeName"},
		{"TOTAL", `{"eventTypeName":"OUTSIDE_METRIC_THRESHOLD","metricThreshold":{"metricName":"CONNECTIONS","mode":"TOTAL","operator":"LESS_THAN","threshold":1,"units":"RAW"},"notifications":[{"typeName":"EMAIL","emailAddress":"a@example.com","intervalMin":60}]}`, "TOTAL_MODE_DEPRECATED", "metricThreshold.mode"},
		{"no threshold", `{"eventTypeName":"OUTSIDE_METRIC_THRESHOLD","notifications":[{"typeName":"EMAIL","emailAddress":"a@example.com","intervalMin":60}]}`, "MISSING_METRIC_THRESHOLD", "metricThreshold"},
		{"an interval too short", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"EMAIL","emailAddress":"a@example.com","intervalMin":1}]}`, "NOTIFICATION_INTERVAL_OUT_OF_RANGE", "notifications[0].intervalMin"},
		{"a webhook without an address", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"WEBHOOK","intervalMin":60}]}`, "WEBHOOK_URL_NOT_SET", "notifications[0].webhookUrl"},
		{"ADMIN in a group", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"ADMIN","intervalMin":60}]}`, "NOTIFICATION_TYPE_IS_GLOBAL_ONLY", "notifications[0].typeName"},
		{"a user that does not exist", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"USER","username":"nobody","emailEnabled":true,"intervalMin":60}]}`, "BAD_USERNAME_REF", "notifications[0].username"},
		{"a field nobody has", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"EMAIL","emailAddress":"a@example.com","intervalMin":60,"colour":"red"}]}`, "INVALID_ATTRIBUTE", "notifications[0].colour"},
		{"a wrong type", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"EMAIL","emailAddress":7,"intervalMin":60}]}`, "INVALID_JSON_ATTRIBUTE", "notifications[0].emailAddress notifications[0].emailAddress"},
		{"half a minute", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"EMAIL","emailAddress":"a@example.com","intervalMin":7.5}]}`, "INVALID_JSON_ATTRIBUTE", "notifications[0].intervalMin"},
		{"a masked secret of nobody", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"PAGER_DUTY","serviceKey":"************1234","intervalMin":60}]}`, "INVALID_ATTRIBUTE", "notifications[0].serviceKey"},
		{
			"several at once", `{"eventTypeName":"HOST_DOWN","matchers":[{"fieldName":"SHOE_SIZE","operator":"EQUALS","value":"1"}],"threshold":{"operator":"LESS_THAN","threshold":1},"notifications":[{"typeName":"SLACK","intervalMin":60,"delayMin":-1}]}`, "THRESHOLD_PRESENT",
			"threshold matchers[0].fieldName notifications[0].delayMin notifications[0].apiToken notifications[0].channelName",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := x.do(x.owner, http.MethodPost, path, c.body)
			var paths []string
			faults, _ := a.json["faults"].([]any)
			for _, f := range faults {
				m := f.(map[string]any)
				paths = append(paths, m["attribute"].(string))
				if !strings.Contains(a.json["detail"].(string), m["detail"].(string)) {
					t.Errorf("the detail does not name %v", m)
				}
			}
			if a.status != 400 || a.json["errorCode"] != c.code || strings.Join(paths, " ") != c.faults {
				t.Errorf("%d %v: %s\n%s", a.status, a.json["errorCode"], strings.Join(paths, " "), a.body)
			}
		})
	}
	// The name of a field is the one in the documentation, whatever the program calls it.
	a := x.do(x.owner, http.MethodPost, path, `{"eventTypeName":"OUTSIDE_METRIC_THRESHOLD","metricThreshold":{"metricName":"CONNECTIONS","threshold":"many"}}`)
	if a.status != 400 || a.json["detail"] != "Received JSON for the metricThreshold.threshold attribute has the wrong type." {
		t.Errorf("%d %s", a.status, a.body)
	}
	if all := x.ok(x.owner, http.MethodGet, path, "", 200); all["totalCount"] != 0.0 {
		t.Errorf("something was kept: %v", all)
	}
}

func TestAlertRoles(t *testing.T) {
	x := newSite(t)
	reader, monitor, backup := x.inGroup(model.GroupReadOnly), x.inGroup(model.GroupMonitoringAdmin), x.inGroup(model.GroupBackupAdmin)
	config := `{"eventTypeName":"HOST_DOWN","enabled":true,"notifications":[{"typeName":"EMAIL","emailAddress":"ops@example.com","intervalMin":60,"delayMin":0}]}`
	for _, c := range []struct{ method, path, body string }{
		{"POST", x.base() + "/alertConfigs", config},
		{"POST", x.base() + "/alertConfigs/try", config},
		{"POST", x.base() + "/maintenanceWindows", `{"startDate":"2026-03-02","endDate":"2026-03-03","alertTypeNames":["HOST"]}`},
		{"POST", x.base() + "/silences", `{"endDate":"2026-03-02","eventTypeName":"HOST_DOWN"}`},
	} {
		for name, k := range map[string]key{"reader": reader, "backup": backup} {
			if a := x.do(k, c.method, c.path, c.body); a.status != 401 || a.json["errorCode"] != "USER_UNAUTHORIZED" {
				t.Errorf("%s %s %s: %d %s", name, c.method, c.path, a.status, a.body)
			}
		}
		x.ok(monitor, c.method, c.path, c.body, 200)
	}
	for _, path := range []string{"/alertConfigs", "/alerts", "/maintenanceWindows", "/silences", "/alerts/why"} {
		x.ok(reader, "GET", x.base()+path, "", 200)
	}
	if a := x.do(monitor, "PUT", x.base()+"/integrations/PAGER_DUTY", `{"serviceKey":"x"}`); a.status != 401 {
		t.Errorf("integrations are the owner's: %d", a.status)
	}
	readsAll, admin := x.key("", model.Grant{Role: model.GlobalReadOnly}), x.key("", model.Grant{Role: model.GlobalMonitoringAdmin})
	global := strings.TrimSuffix(config, "}") + `,"forAllGroups":true}`
	if a := x.do(readsAll, "POST", "/globalAlertConfigs", global); a.status != 401 {
		t.Errorf("%d %s", a.status, a.body)
	}
	x.ok(admin, "POST", "/globalAlertConfigs", global, 200)
	x.ok(readsAll, "GET", "/globalAlertConfigs", "", 200)
	x.ok(readsAll, "GET", "/globalAlerts", "", 200)
	if a := x.do(monitor, "GET", "/globalAlerts", ""); a.status != 401 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// alert keeps an open alert of a host.
func (x *site) alert(config model.AlertConfig, minute int, change func(*model.Alert)) model.Alert {
	x.t.Helper()
	at := t0.Add(time.Duration(minute) * time.Minute)
	name := fmt.Sprintf("db%d:27017", minute)
	a := model.Alert{
		ID: model.NewID(), GroupID: x.group.ID, ConfigID: config.ID, EventType: config.EventType, Status: model.AlertOpen, Global: config.GroupID == "", Rule: config,
		Target: model.Target{Key: "host/" + name, HostID: model.NewHostID(x.group.ID, "db", minute+1), HostName: name, ReplicaSet: "rs0", ClusterID: "5f00000000000000000000c1", ClusterName: "Main"},
		Since:  at, Created: at, Opened: at, Updated: at, Text: name + " is down.", LastNotified: at,
		Notified: []model.Notified{{NotifierID: config.Notifications[0].ID, Count: 1, First: at, Last: at, Next: at.Add(time.Hour)}},
		History:  []model.AlertStep{{At: at, Kind: model.StepOpened, Text: name + " is down."}},
		Samples:  []model.Sample{{At: at, Value: 7}},
	}
	if config.Metric != nil {
		a.Value = &model.Reading{Number: 812, Units: "RAW"}
	}
	live, err := x.events.StartAlert(x.t.Context(), a)
	if err != nil {
		x.t.Fatal(err)
	}
	if change != nil {
		next := live.Alert
		change(&next)
		if err := x.events.SaveAlert(x.t.Context(), next, live.Rev); err != nil {
			x.t.Fatal(err)
		}
		return next
	}
	return live.Alert
}

func (x *site) config(group model.ID, change func(*model.AlertConfig)) model.AlertConfig {
	x.t.Helper()
	c := model.AlertConfig{
		ID: model.NewID(), GroupID: group, EventType: model.EventHostDown, Enabled: true, Created: t0, Updated: t0,
		Notifications: []model.Notification{{ID: model.NewID(), Channel: notify.Email, IntervalMin: 60, Fields: map[string]string{"emailAddress": "ops@example.com"}}},
	}
	c.ForAllGroups = group == ""
	if change != nil {
		change(&c)
	}
	if err := x.events.CreateConfig(x.t.Context(), c); err != nil {
		x.t.Fatal(err)
	}
	return c
}

func TestAlerts(t *testing.T) {
	x := newSite(t)
	k := x.inGroup(model.GroupMonitoringAdmin)
	down := x.config(x.group.ID, nil)
	metric := x.config(x.group.ID, func(c *model.AlertConfig) {
		c.EventType = model.EventOutsideMetric
		c.Metric = &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 500}}
	})
	global := x.config("", nil)
	open := x.alert(down, 0, nil)
	over := x.alert(metric, 1, nil)
	x.alert(down, 2, func(a *model.Alert) { a.Status, a.Resolved = model.AlertClosed, t0.Add(5*time.Minute) })
	x.alert(down, 3, func(a *model.Alert) { a.Status = model.AlertTracking })
	wide := x.alert(global, 4, func(a *model.Alert) { a.Tags = []string{"live"} })

	for query, want := range map[string]float64{
		"": 5, "?status=OPEN": 3, "?status=CLOSED": 1, "?status=TRACKING": 1, "?status=CANCELLED": 0, "?status=": 5, "?eventType=OUTSIDE_METRIC_THRESHOLD": 1,
		"?alertConfigId=" + string(down.ID): 3, "?itemsPerPage=2": 5, "?createdOnOrAfter=2026-03-01T10:10:00Z": 2,
	} {
		if got := x.ok(k, "GET", x.base()+"/alerts"+query, "", 200); got["totalCount"] != want {
			t.Errorf("%s: %v, want %v", query, got["totalCount"], want)
		}
	}
	if a := x.do(k, "GET", x.base()+"/alerts?status=LOST", ""); a.status != 400 || a.json["errorCode"] != "INVALID_ALERT_STATUS" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := x.ok(k, "GET", x.base()+"/alertConfigs/"+string(down.ID)+"/alerts", "", 200); got["totalCount"] != 1.0 || get(got, "results", 0, "id") != string(open.ID) {
		t.Errorf("open alerts of a configuration: %v", got)
	}
	got := x.ok(k, "GET", x.base()+"/alerts/"+string(over.ID), "", 200)
	for key, want := range map[string]any{
		"id": string(over.ID), "alertConfigId": string(metric.ID), "eventTypeName": "OUTSIDE_METRIC_THRESHOLD", "typeName": "HOST_METRIC", "status": "OPEN", "groupId": string(x.group.ID),
		"created": "2026-03-01T10:08:00Z", "updated": "2026-03-01T10:08:00Z", "lastNotified": "2026-03-01T10:08:00Z", "hostnameAndPort": "db1:27017", "replicaSetName": "rs0",
		"metricName": "CONNECTIONS", "resolved": nil, "acknowledgedUntil": nil, "tags": nil,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if b, _ := json.Marshal(got["currentValue"]); string(b) != `{"number":812,"units":"RAW"}` {
		t.Errorf("%s", b)
	}
	if got := x.ok(x.owner, "GET", "/globalAlerts", "", 200); got["totalCount"] != 1.0 || get(got, "results", 0, "tags", 0) != "live" {
		t.Errorf("%v", got)
	}
	x.ok(x.owner, "GET", "/globalAlerts/"+string(wide.ID), "", 200)
	if a := x.do(x.owner, "GET", "/globalAlerts/"+string(open.ID), ""); a.status != 404 || a.json["errorCode"] != "ALERT_NOT_FOUND" {
		t.Errorf("an alert of the group: %d %s", a.status, a.body)
	}
	if a := x.do(k, "GET", x.base()+"/alerts/5f00000000000000000000ff", ""); a.status != 404 || a.json["errorCode"] != "ALERT_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}

	// Acknowledged: those who were told are told that, once, whatever is repeated.
	path := x.base() + "/alerts/" + string(open.ID)
	got = x.ok(k, "PATCH", path, `{"acknowledgedUntil":"2126-03-01T00:00:00Z","acknowledgementComment":"known"}`, 200)
	if got["acknowledgedUntil"] != "2126-03-01T00:00:00Z" || got["acknowledgementComment"] != "known" || got["acknowledgingUsername"] != k.public {
		t.Errorf("%v", got)
	}
	x.ok(k, "PATCH", path, `{"acknowledgedUntil":"2126-03-01T00:00:00Z"}`, 200)
	sent := x.ok(k, "GET", path+"/deliveries", "", 200)
	if sent["totalCount"] != 1.0 || get(sent, "results", 0, "kind") != "acknowledge" || get(sent, "results", 0, "destination") != "ops@example.com" || get(sent, "results", 0, "status") != "PENDING" {
		t.Errorf("%v", sent)
	}
	why := x.ok(k, "GET", path+"/why", "", 200)
	if get(why, "rule", "eventTypeName") != "HOST_DOWN" || get(why, "history", 0, "kind") != "opened" || get(why, "samples", 0, "value") != 7.0 || get(why, "deliveries", 0, "kind") != "acknowledge" ||
		get(why, "history", 1, "kind") != "acknowledged" {
		t.Errorf("%v", why)
	}
	got = x.ok(k, "PATCH", path, `{}`, 200)
	if got["acknowledgedUntil"] != nil || got["acknowledgingUsername"] != nil {
		t.Errorf("still acknowledged: %v", got)
	}
	if a := x.do(k, "PATCH", path, `{"acknowledgedUntil":"2126-03-01","acknowledgementComment":"`+strings.Repeat("x", 4001)+`"}`); a.json["errorCode"] != "ACKNOWLEDGEMENT_COMMENT_TOO_LONG" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := x.do(k, "PATCH", path, `{"status":"CLOSED"}`); a.json["errorCode"] != "ATTRIBUTE_READ_ONLY" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if s := x.eventTypes(); s != "ALERT_ACKNOWLEDGED_AUDIT ALERT_ACKNOWLEDGED_AUDIT ALERT_UNACKNOWLEDGED_AUDIT" {
		t.Error(s)
	}
	event := x.ok(k, "GET", x.base()+"/events?eventType=ALERT_UNACKNOWLEDGED_AUDIT", "", 200)
	if get(event, "results", 0, "alertId") != string(open.ID) || get(event, "results", 0, "alertConfigId") != string(down.ID) {
		t.Errorf("%v", event)
	}
	reasons := x.ok(k, "GET", x.base()+"/alerts/why?from=2026-03-01T10:00:00Z&to=2026-03-01T10:20:00Z", "", 200)
	if reasons["totalCount"].(float64) < 3 {
		t.Errorf("%v", reasons)
	}
	if a := x.do(k, "GET", x.base()+"/alerts/why?from=2026-03-02&to=2026-03-01", ""); a.json["errorCode"] != "START_DATE_AFTER_END_DATE" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestGlobalConfigs(t *testing.T) {
	x := newSite(t)
	const notifications = `"notifications":[{"typeName":"ADMIN","intervalMin":60,"delayMin":0}]`
	if a := x.do(x.owner, "POST", "/globalAlertConfigs", `{"eventTypeName":"HOST_DOWN",`+notifications+`}`); a.status != 400 || a.json["errorCode"] != "MISSING_ATTRIBUTE" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := x.do(x.owner, "POST", "/globalAlertConfigs", `{"eventTypeName":"HOST_DOWN","forAllGroups":false,"groupIds":["5f00000000000000000000ff"],`+notifications+`}`); a.json["errorCode"] != "GROUP_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}
	made := x.ok(x.owner, "POST", "/globalAlertConfigs", `{"eventTypeName":"HOST_DOWN","forAllGroups":false,"groupIds":["`+string(x.group.ID)+`"],"tags":[],`+notifications+`}`, 200)
	path := "/globalAlertConfigs/" + made["id"].(string)
	if made["forAllGroups"] != false || get(made, "groupIds", 0) != string(x.group.ID) || made["groupId"] != nil || made["enabled"] != false {
		t.Errorf("%v", made)
	}
	if got := x.ok(x.owner, "PUT", path, `{"enabled":true}`, 200); got["enabled"] != true || get(got, "groupIds", 0) != string(x.group.ID) {
		t.Errorf("PUT of enabled alone: %v", got)
	}
	if got := x.ok(x.owner, "PATCH", path, `{"enabled":false}`, 200); got["enabled"] != false {
		t.Errorf("%v", got)
	}
	if a := x.do(x.owner, "DELETE", path, ""); a.status != 204 {
		t.Errorf("%d", a.status)
	}
	if a := x.do(x.owner, "GET", path, ""); a.json["errorCode"] != "GLOBAL_ALERT_CONFIG_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestMaintenanceWindowsAndSilences(t *testing.T) {
	x := newSite(t)
	k := x.inGroup(model.GroupMonitoringAdmin)
	path := x.base() + "/maintenanceWindows"
	for body, code := range map[string]string{
		`{"endDate":"2026-03-02","alertTypeNames":["HOST"]}`:                                                                                         "MISSING_MAINTENANCE_WINDOW_START_DATE",
		`{"startDate":"2026-03-02","alertTypeNames":["HOST"]}`:                                                                                       "MISSING_MAINTENANCE_WINDOW_END_DATE",
		`{"startDate":"2026-03-02","endDate":"2026-03-03"}`:                                                                                          "MISSING_MAINTENANCE_WINDOW_ALERT_TYPE_NAME",
		`{"startDate":"2026-03-03","endDate":"2026-03-02","alertTypeNames":["HOST"]}`:                                                                "MAINTENANCE_WINDOW_START_DATE_AFTER_END_DATE",
		`{"startDate":"2026-03-02","endDate":"2026-03-03","alertTypeNames":["WEATHER"]}`:                                                             "INVALID_ENUM_VALUE",
		`{"startDate":"2026-03-02","endDate":"2026-03-03","alertTypeNames":["HOST"],"recurrence":{"weekdays":["FRIDAY"],"timeZone":"Mars/Olympus"}}`: "INVALID_ATTRIBUTE",
		`{"startDate":"2026-03-02","endDate":"2026-03-03","alertTypeNames":["HOST"],"colour":"red"}`:                                                 "INVALID_ATTRIBUTE",
	} {
		if a := x.do(k, "POST", path, body); a.status != 400 || a.json["errorCode"] != code {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	made := x.ok(k, "POST", path, `{"startDate":"2026-03-02T22:00:00Z","endDate":"2026-03-03T02:00:00Z","alertTypeNames":["HOST","AGENT"],"description":"upgrade","recurrence":{"weekdays":["MONDAY","thursday"],"timeZone":"Europe/Berlin"}}`, 200)
	if b, _ := json.Marshal(made["recurrence"]); string(b) != `{"timeZone":"Europe/Berlin","weekdays":["MONDAY","THURSDAY"]}` || made["description"] != "upgrade" || made["startDate"] != "2026-03-02T22:00:00Z" || made["nextStartDate"] == nil {
		t.Errorf("%v", made)
	}
	one := path + "/" + made["id"].(string)
	whole := x.do(k, "GET", one, "")
	if got := x.ok(k, "PATCH", one, strings.Replace(string(whole.body), `"upgrade"`, `"move"`, 1), 200); got["description"] != "move" || get(got, "recurrence", "weekdays", 1) != "THURSDAY" {
		t.Errorf("%v", got)
	}
	if got := x.ok(k, "GET", path, "", 200); got["totalCount"] != 1.0 {
		t.Errorf("%v", got)
	}
	x.do(k, "DELETE", one, "")
	if a := x.do(k, "GET", one, ""); a.json["errorCode"] != "MAINTENANCE_WINDOW_NOT_FOUND" {
		t.Errorf("%d %s", a.status, a.body)
	}

	path = x.base() + "/silences"
	for body, code := range map[string]string{
		`{"endDate":"2026-03-02"}`:                                                                      "MISSING_ONE_OF_THREE_ATTRIBUTES",
		`{"eventTypeName":"HOST_DOWN"}`:                                                                 "MISSING_ATTRIBUTE",
		`{"eventTypeName":"HOST_DOWN","endDate":"2026-02-01"}`:                                          "INVALID_ATTRIBUTE",
		`{"eventTypeName":"SOMETHING","endDate":"2026-03-02"}`:                                          "INVALID_EVENT_TYPE_FOR_ALERT",
		`{"alertConfigId":"5f00000000000000000000ff","endDate":"2026-03-02"}`:                           "ALERT_CONFIG_NOT_FOUND",
		`{"endDate":"2026-03-02","matchers":[{"fieldName":"HOSTNAME","operator":"REGEX","value":"("}]}`: "INVALID_ATTRIBUTE",
	} {
		if a := x.do(k, "POST", path, body); a.status != 400 || a.json["errorCode"] != code {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	made = x.ok(k, "POST", path, `{"endDate":"2026-03-02","matchers":[{"fieldName":"HOSTNAME","operator":"EQUALS","value":"db1"}],"comment":"disk swap"}`, 200)
	if made["active"] != true || made["createdBy"] != k.public || made["startDate"] != "2026-03-01T10:07:00Z" {
		t.Errorf("%v", made)
	}
	one = path + "/" + made["id"].(string)
	if a := x.do(k, "DELETE", one, ""); a.status != 204 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := x.ok(k, "GET", one, "", 200); got["active"] != false || got["endDate"] != "2026-03-01T10:07:00Z" {
		t.Errorf("%v", got)
	}
	const want = "MAINTENANCE_WINDOW_ADDED_AUDIT MAINTENANCE_WINDOW_CHANGED_AUDIT MAINTENANCE_WINDOW_DELETED_AUDIT SILENCE_ADDED_AUDIT SILENCE_ENDED_AUDIT"
	if s := x.eventTypes(); s != want {
		t.Error(s)
	}
}

func TestIntegrations(t *testing.T) {
	x := newSite(t)
	path := x.base() + "/integrations"
	if a := x.do(x.owner, "GET", path+"/WEBHOOK", ""); a.status != 404 || a.json["errorCode"] != "INTEGRATION_NOT_CONFIGURED" {
		t.Errorf("%d %s", a.status, a.body)
	}
	all := x.ok(x.owner, "POST", path+"/WEBHOOK", `{"type":"WEBHOOK","url":"https://hook.example.com/x/abcdefgh","secret":"0123456789"}`, 200)
	if all["totalCount"] != 1.0 || get(all, "results", 0, "url") != "************efgh" || get(all, "results", 0, "secret") != "************6789" {
		t.Errorf("%v", all)
	}
	// Sent back masked it stays; a notification without an address takes it.
	x.ok(x.owner, "PUT", path+"/WEBHOOK", `{"type":"WEBHOOK","url":"************efgh","secret":"new-secret-1"}`, 200)
	made := x.ok(x.owner, "POST", x.base()+"/alertConfigs", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"WEBHOOK","intervalMin":60}]}`, 200)
	c, err := x.events.Config(t.Context(), x.group.ID, model.ID(made["id"].(string)))
	if err != nil || c.Notifications[0].Secrets["webhookUrl"].Reveal() != "https://hook.example.com/x/abcdefgh" || c.Notifications[0].Secrets["webhookSecret"].Reveal() != "new-secret-1" {
		t.Errorf("%v %v", c, err)
	}
	all = x.ok(x.owner, "POST", path+"/SLACK", `{"type":"SLACK","apiToken":"xoxb-123456789","teamName":"Acme","channelName":"#ops"}`, 200)
	if all["totalCount"] != 2.0 {
		t.Errorf("%v", all)
	}
	if got := x.ok(x.owner, "GET", path+"/SLACK", "", 200); got["teamName"] != "Acme" || got["channelName"] != "#ops" || got["apiToken"] != "************6789" {
		t.Errorf("%v", got)
	}
	for body, code := range map[string]string{
		`{"type":"SLACK"}`: "ATTRIBUTE_READ_ONLY", `{"url":"not a url"}`: "INVALID_ATTRIBUTE", `{"colour":"red","url":"https://a.example.com/x"}`: "INVALID_ATTRIBUTE", `{"url":7}`: "INVALID_JSON_ATTRIBUTE",
	} {
		if a := x.do(x.owner, "PUT", path+"/WEBHOOK", body); a.status != 400 || a.json["errorCode"] != code {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := x.do(x.owner, "PUT", path+"/DATADOG", `{"apiKey":"x"}`); a.status != 404 {
		t.Errorf("one that is not built: %d %s", a.status, a.body)
	}
	x.do(x.owner, "DELETE", path+"/SLACK", "")
	if all := x.ok(x.owner, "GET", path, "", 200); all["totalCount"] != 1.0 {
		t.Errorf("%v", all)
	}
}

func TestTestMessages(t *testing.T) {
	sender := &catcher{}
	x := newSite(t, func(o *api.Options) { o.Sender = sender })
	c := x.config(x.group.ID, nil)
	path := x.base() + "/alertConfigs/" + string(c.ID) + "/" + string(c.Notifications[0].ID) + "/test"
	got := x.ok(x.owner, "POST", path, "", 200)
	if got["success"] != true || get(got, "details", "notificationType") != "EMAIL" || get(got, "details", "destination") != "ops@example.com" || get(got, "details", "timestamp") != "2026-03-01T10:07:00Z" || len(sender.sent) != 1 {
		t.Errorf("%v %v", got, sender.sent)
	}
	sender.fail = errors.New("connection refused")
	if got := x.ok(x.owner, "POST", path, "", 200); got["success"] != false || !strings.Contains(got["message"].(string), "connection refused") {
		t.Errorf("%v", got)
	}
	if a := x.do(x.owner, "POST", x.base()+"/alertConfigs/"+string(c.ID)+"/5f00000000000000000000ff/test", ""); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if s := x.eventTypes(); s != "ALERT_CONFIG_TESTED_AUDIT ALERT_CONFIG_TESTED_AUDIT" {
		t.Error(s)
	}
}

func TestTry(t *testing.T) {
	x := newSite(t)
	h := x.host("db1:27017", func(h *model.Host) { h.Type = model.TypeReplicaSecondary })
	down, up := t0.Add(-26*time.Hour), t0.Add(-25*time.Hour)
	x.happen(
		model.Event{GroupID: x.group.ID, Type: model.EventHostDown, At: down, HostID: h.ID, HostName: "db1:27017", Text: "db1:27017 is down."},
		model.Event{GroupID: x.group.ID, Type: model.EventHostUp, At: up, HostID: h.ID, HostName: "db1:27017", Text: "db1:27017 is up."},
	)
	body := `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"EMAIL","emailAddress":"ops@example.com","intervalMin":60,"delayMin":10},{"typeName":"SLACK","apiToken":"************6789","channelName":"#ops","intervalMin":60,"delayMin":0}]}`
	got := x.ok(x.owner, "POST", x.base()+"/alertConfigs/try?days=3", body, 200)
	if got["alertsOpened"] != 1.0 || get(got, "notificationsByChannel", "EMAIL") != 2.0 || get(got, "notificationsByChannel", "SLACK") != 2.0 || got["notificationCount"] != 4.0 ||
		get(got, "targets", 0, "hostnameAndPort") != "db1:27017" || get(got, "targets", 0, "alerts", 0, "opened") != "2026-02-28T08:08:00Z" || get(got, "targets", 0, "alerts", 0, "notifications", 0, "recipient") != "#ops" {
		t.Errorf("%v", got)
	}
	if got := x.ok(x.owner, "POST", x.base()+"/alertConfigs/try?days=1", body, 200); got["alertsOpened"] != 0.0 {
		t.Errorf("a day: %v", got)
	}
	if a := x.do(x.owner, "POST", x.base()+"/alertConfigs/try?days=31", body); a.status != 400 {
		t.Errorf("%d", a.status)
	}
	if a := x.do(x.owner, "POST", x.base()+"/alertConfigs/try", `{"eventTypeName":"HOST_DOWN","notifications":[{"typeName":"EMAIL"}]}`); a.status != 400 {
		t.Errorf("a bad configuration: %d %s", a.status, a.body)
	}
	if all := x.ok(x.owner, "GET", x.base()+"/alertConfigs", "", 200); all["totalCount"] != 0.0 {
		t.Error("trying kept the configuration")
	}
}
