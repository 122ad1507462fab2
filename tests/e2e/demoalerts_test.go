package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestAlertsOfTheDemo lets the demo run into trouble: an election, a secondary that falls behind, a member that is killed and
// comes back. Alerts that were set through the Public API tell a mail server and a webhook of each, and of the end of what
// has one, and the pages show it.
func TestAlertsOfTheDemo(t *testing.T) {
	harness.Need(t, "chromium")
	box, hooks := startMailbox(t), startHooks(t)
	_, login := harness.Demo(t, t.TempDir(), append(box.settings(),
		"--history", "0s", "--trouble", "160s", "--set", "heartwood.alerts.every=5s", "--set", "heartwood.alerts.webhook.allow=127.0.0.0/8")...)
	api := &client.Site{URL: login.URL, Group: login.GroupID, API: &http.Client{Transport: digest.NewTransport(login.PublicKey, login.PrivateKey)}}
	type object = map[string]any
	hook := object{"typeName": "WEBHOOK", "delayMin": 0, "intervalMin": 5, "webhookUrl": hooks.URL, "webhookSecret": hooks.Secret}
	both := []object{hook, {"typeName": "EMAIL", "delayMin": 0, "intervalMin": 5, "emailAddress": "oncall@example.com"}}
	for _, c := range []object{
		{"eventTypeName": "PRIMARY_ELECTED", "typeName": "REPLICA_SET"},
		{"eventTypeName": "NO_PRIMARY", "typeName": "REPLICA_SET"},
		{"eventTypeName": "HOST_DOWN", "typeName": "HOST"},
		// The mean of at least three minutes: one that stands still for 45 seconds is not far behind in it.
		{"eventTypeName": "OUTSIDE_METRIC_THRESHOLD", "typeName": "HOST_METRIC", "metricThreshold": object{
			"metricName": "OPLOG_SLAVE_LAG_MASTER_TIME", "operator": "GREATER_THAN", "threshold": 14, "units": "SECONDS", "mode": "AVERAGE",
		}},
	} {
		c["enabled"], c["notifications"] = true, both
		if err := api.Call(t.Context(), http.MethodPost, "/groups/"+login.GroupID+"/alertConfigs", c, nil); err != nil {
			t.Fatal(err)
		}
	}
	b := newBrowser(t)
	signIn(t, b, login)
	g := login.URL + "/g/" + login.GroupID

	// kinds are the messages about an event type, by alert, in order.
	kinds := func(event string) map[string][]string {
		calls, _ := hooks.taken()
		out := map[string][]string{}
		for _, c := range calls {
			if c.Alert.EventTypeName == event {
				out[c.Alert.ID] = append(out[c.Alert.ID], strings.TrimPrefix(c.Kind, "alert."))
			}
		}
		return out
	}
	heard := func(limit time.Duration, event string, want ...string) (alert string) {
		t.Helper()
		harness.Eventually(t, limit, strings.Join(want, " and ")+" of "+event, func(context.Context) error {
			all := kinds(event)
			for id, got := range all {
				if slices.Equal(got, want) {
					alert = id
					return nil
				}
			}
			return fmt.Errorf("heard %v", all)
		})
		return alert
	}
	heard(60*time.Second, "PRIMARY_ELECTED", "inform")
	lag := heard(90*time.Second, "OUTSIDE_METRIC_THRESHOLD", "open")
	inSight := chromedp.Evaluate[chromedp.Void](`document.querySelector(".charts")?.scrollIntoView()`)
	b.visit(t, looks[0], "demo-alerts-open", g+"/alerts?state=open")
	b.visit(t, looks[0], "demo-alert-open", g+"/alerts/"+lag, inSight, chartsDrawn())
	down := heard(90*time.Second, "HOST_DOWN", "open", "close")
	if again := heard(4*time.Minute, "OUTSIDE_METRIC_THRESHOLD", "open", "close"); again != lag {
		t.Errorf("alert %s was opened, %s closed", lag, again)
	}
	for _, l := range looks {
		b.visit(t, l, "demo-alerts-closed", g+"/alerts?state=closed")
		b.visit(t, l, "demo-alert-lag", g+"/alerts/"+lag, inSight, chartsDrawn())
	}
	b.visit(t, looks[0], "demo-alert-down", g+"/alerts/"+down)
	if text := ask(t, b, "the alert", chromedp.Text(chromedp.CSS("main"))); !strings.Contains(text, "Closed") && !strings.Contains(text, "closed") {
		t.Errorf("the page does not say that it is closed: %.500s", text)
	}
	if got := kinds("NO_PRIMARY"); len(got) != 0 {
		t.Errorf("an election of seconds paged: %v", got)
	}

	// The mails tell the same.
	mailed := func(alert string) (all []letter) {
		letters, _ := box.taken()
		for _, l := range letters {
			if strings.Contains(l.Text, "/alerts/"+alert) && strings.Contains(l.HTML, "/alerts/"+alert) {
				all = append(all, l)
			}
		}
		return all
	}
	for name, alert := range map[string]string{"lag": lag, "a host that is down": down} {
		harness.Eventually(t, 30*time.Second, "two mails about "+name, func(context.Context) error {
			if n := len(mailed(alert)); n != 2 {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
	}
	for _, l := range mailed(lag) {
		if _, err := png.Decode(bytes.NewReader(l.Picture)); err != nil || l.To != "oncall@example.com" || !strings.Contains(l.HTML, "cid:") {
			t.Errorf("mail %q to %s: picture %v", l.Subject, l.To, err)
		}
		t.Logf("mail: %s", l.Subject)
	}
	calls, wrong := hooks.taken()
	_, mailFaults := box.taken()
	for _, f := range append(wrong, mailFaults...) {
		t.Error(f)
	}
	keys := map[string]bool{}
	for _, c := range calls {
		if c.Key == "" || keys[c.Key] {
			t.Errorf("%s of %s came twice under %q, or without a key", c.Kind, c.Alert.EventTypeName, c.Key)
		}
		keys[c.Key] = true
	}
}
