package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestPagesOfAlertsInARealBrowser sets an alert by hand as a person would, waits until it opens, and looks at every page
// about it.
func TestPagesOfAlertsInARealBrowser(t *testing.T) {
	harness.Need(t, "chromium")
	_, login := harness.Demo(t, t.TempDir())
	b := newBrowser(t)
	signIn(t, b, login)
	host, _ := firstIDs(t, login)
	g := login.URL + "/g/" + login.GroupID
	everywhere := func(name, url string, settled ...step) {
		for _, l := range looks {
			b.visit(t, l, name, url, settled...)
		}
	}
	everywhere("alert-settings", g+"/alert-settings")
	everywhere("alert-new", g+"/alert-settings/new")
	everywhere("alert-new-metric", g+"/alert-settings/new?metric=CONNECTIONS")
	everywhere("alerts-empty", g+"/alerts?state=acknowledged")

	// The form redraws itself for another event, takes another notification, and is tried before it is saved.
	if err := looks[0].apply(b.ctx); err != nil {
		t.Fatal(err)
	}
	choose := func(field, value string) step {
		return chromedp.Evaluate[chromedp.Void](`(() => { const f = document.querySelector("[name='` + field + `']"); f.value = "` + value + `"; f.dispatchEvent(new Event("change", {bubbles: true})); })()`)
	}
	press := func(css string) step { // by script: the form redraws its parts, and what is pressed must not go away in between
		return chromedp.Evaluate[chromedp.Void](`document.querySelector(` + "`" + css + "`" + `).click()`)
	}
	appears := func(css string) step {
		return chromedp.Poll[chromedp.Void](`!!document.querySelector(`+"`"+css+"`"+`)`, chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(30*time.Second))
	}
	b.take()
	b.do(t, "another event", chromedp.Navigate(g+"/alert-settings/new"), chromedp.WaitReady(chromedp.CSS("h1")),
		choose("type", "OUTSIDE_METRIC_THRESHOLD"), appears("#f-metric"), choose("metric", "OPCOUNTER_CMD"), appears("#f-metric option[value=OPCOUNTER_CMD][selected]"),
		choose("metric", "CONNECTIONS"), appears("#f-metric option[value=CONNECTIONS][selected]"),
		chromedp.SetValue(chromedp.CSS("#f-threshold"), "1"),
		press(`button[value="note"]`), appears("#note-1"), choose("n1-channel", "SLACK"), appears("#f-n1-apiToken"),
		chromedp.SetValue(chromedp.CSS("#f-n1-apiToken"), "xoxb-1234567890-abcdefghij"), chromedp.SetValue(chromedp.CSS("#f-n1-channelName"), "#ops"),
		press(`button[value="matcher"]`), appears("#f-m0-value"), press(`button[value="dropmatcher-0"]`), appears(`#what:not(:has(#f-m0-value))`),
		press(`button[value="try-1"]`), appears("#trial .tried"))
	if token := ask(t, b, "the token", chromedp.Value(chromedp.CSS("#f-n1-apiToken"))); !strings.HasPrefix(token, "xoxb-") {
		t.Errorf("trying lost the typed secret: %q", token)
	}
	keepPicture(t, "alert-tried-wide-light", ask(t, b, "tried", chromedp.FullScreenshot(100)))
	b.do(t, "drop the second notification", press(`button[value="dropnote-1"]`), appears("#notes:not(:has(#note-1))"))
	for _, p := range b.take() {
		t.Errorf("editing: %s", p)
	}
	b.do(t, "save", chromedp.Click(chromedp.CSS(`.savebar button`)), chromedp.WaitReady(chromedp.CSS(".banner.ok")))
	everywhere("alert-settings-one", g+"/alert-settings")

	// It opens by itself.
	harness.Eventually(t, 4*time.Minute, "an open alert", opened(b, g))
	at := ask(t, b, "the alert", chromedp.Evaluate[string](`document.querySelector(".alerts tbody th a").href`))
	everywhere("alerts-open", g+"/alerts?state=open")
	inSight := chromedp.Evaluate[chromedp.Void](`document.querySelector(".charts")?.scrollIntoView()`) // charts further down wait for the reader
	everywhere("alert", at, inSight, chartsDrawn())
	everywhere("host-with-alert", g+"/hosts/"+host, inSight, chartsDrawn())
	everywhere("deployment-with-alert", g+"/deployment")
	b.do(t, "acknowledge", chromedp.Navigate(at), chromedp.WaitReady(chromedp.CSS("h1")), chromedp.SetValue(chromedp.CSS("#f-comment"), "on it"), chromedp.Click(chromedp.CSS(`form[action$="/acknowledge"] .btn.main`)), chromedp.WaitReady(chromedp.CSS(".banner.ok")))
	everywhere("alert-acknowledged", at, inSight, chartsDrawn())
	everywhere("alerts-acknowledged", g+"/alerts?state=acknowledged")
	everywhere("alerts-why", g+"/alerts/why")
	everywhere("alerts-why-answer", g+"/alerts/why?who="+login.User)
	b.do(t, "plan maintenance", chromedp.Navigate(g+"/alert-windows"), chromedp.WaitReady(chromedp.CSS("h1")), chromedp.SetValue(chromedp.CSS("#f-description"), "Upgrade of the second data centre"),
		press("[name=repeat]"), press("[name=day]"), press("[name=day][value='3']"), chromedp.SetValue(chromedp.CSS("#f-until"), "2099-12-31"), chromedp.Click(chromedp.CSS(`form[action$="/alert-windows"] .btn.main`)), chromedp.WaitReady(chromedp.CSS(".banner.ok")))
	everywhere("alert-windows", g+"/alert-windows")
	everywhere("alert-silences", g+"/alert-silences")
	everywhere("alert-integrations", g+"/alert-integrations")
	everywhere("admin-alerts", login.URL+"/admin/alerts")
	everywhere("admin-alert-settings", login.URL+"/admin/alert-settings")
	everywhere("admin-alert-new", login.URL+"/admin/alert-settings/new")
}

// opened looks whether an alert is open.
func opened(b *browser, group string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := chromedp.Run(b.ctx, chromedp.Steps(chromedp.Navigate(group+"/alerts?state=open"), chromedp.WaitReady(chromedp.CSS("h1"))))
		if err != nil {
			return err
		}
		found, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](`!!document.querySelector(".alerts tbody th a")`))
		if err != nil {
			return err
		}
		if !found {
			return errors.New("none is open")
		}
		return ctx.Err()
	}
}
