package e2e

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/tests/harness"
)

func signIn(t *testing.T, b *browser, login harness.Login) {
	t.Helper()
	b.do(t, "sign in", chromedp.Navigate(login.URL+"/login"),
		chromedp.SetValue(chromedp.CSS(`input[name=username]`), login.User),
		chromedp.SetValue(chromedp.CSS(`input[name=password]`), login.Password),
		chromedp.Click(chromedp.CSS(`form[action="/login"] button`)),
		chromedp.WaitReady(chromedp.CSS(`nav`)))
}

// firstIDs asks the Public API for a host and a cluster to look at.
func firstIDs(t *testing.T, login harness.Login) (host, cluster string) {
	t.Helper()
	client := &http.Client{Transport: digest.NewTransport(login.PublicKey, login.PrivateKey)}
	first := func(kind string) string {
		resp, err := client.Get(login.URL + "/api/public/v1.0/groups/" + login.GroupID + "/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got struct{ Results []struct{ ID string } }
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || len(got.Results) == 0 {
			t.Fatalf("no %s: %v", kind, err)
		}
		return got.Results[0].ID
	}
	return first("hosts"), first("clusters")
}

func TestEveryPageOfTheDemoInARealBrowser(t *testing.T) {
	harness.Need(t, "chromium")
	_, login := harness.Demo(t, t.TempDir())
	b := newBrowser(t)
	for _, l := range looks {
		b.visit(t, l, "login", login.URL+"/login")
	}
	signIn(t, b, login)
	host, cluster := firstIDs(t, login)
	g := login.URL + "/g/" + login.GroupID
	pages := []struct {
		name, url string
		settled   []step
	}{
		{"deployment", g + "/deployment", nil},
		{"deployment-hosts", g + "/deployment?view=hosts", nil},
		{"cluster", g + "/clusters/" + cluster, []step{chartsDrawn()}},
		{"cluster-table", g + "/clusters/" + cluster + "?view=table", nil},
		{"host", g + "/hosts/" + host, []step{chartsDrawn()}},
		{"host-hardware", g + "/hosts/" + host + "?tab=hardware", []step{chartsDrawn()}},
		{"host-dbstats", g + "/hosts/" + host + "?tab=dbstats", nil},
		{"last-ping", g + "/hosts/" + host + "/last-ping", nil},
		{"last-ping-search", g + "/hosts/" + host + "/last-ping?q=opcounters", nil},
		{"activity", g + "/activity", nil},
		{"activity-found", g + "/activity?type=clusters&q=primary", nil},
		{"activity-nothing", g + "/activity?q=nothing-like-this", nil},
		{"agents", g + "/agents", nil},
		{"settings", g + "/settings", nil},
		{"settings-hosts", g + "/settings/hosts", nil},
		{"settings-agent-keys", g + "/settings/agent-keys", nil},
		{"settings-api-keys", g + "/settings/api-keys", nil},
		{"new-group", login.URL + "/groups/new", nil},
		{"account", login.URL + "/account", nil},
		{"admin", login.URL + "/admin", nil},
		{"admin-watch", login.URL + "/admin/watch", nil},
		{"admin-activity", login.URL + "/admin/activity", nil},
		{"not-found", g + "/hosts/0123456789abcdef0123456789abcdef", nil},
	}
	for _, p := range pages {
		for _, l := range looks {
			if p.name == "not-found" {
				continue // its 404 is a console error by nature; seen below
			}
			b.visit(t, l, p.name, p.url, p.settled...)
		}
	}
	b.do(t, "not found", chromedp.Navigate(pages[len(pages)-1].url))
	if text := ask(t, b, "not found", chromedp.Text(chromedp.CSS("main"))); !strings.Contains(strings.ToLower(text), "no such host") {
		t.Errorf("the page of a missing host says %q", text)
	}
}

func TestANewUserRegistersSignsInAndSeesWhatToDo(t *testing.T) {
	b := newBrowser(t)
	base := harness.PortBase(t)
	harness.Start(t, "serve", "--data", t.TempDir(), "--port-base", strconv.Itoa(base))
	waitHealthy(t, base)
	url := "http://127.0.0.1:" + strconv.Itoa(base)
	for _, l := range looks {
		b.visit(t, l, "register", url+"/")
	}
	b.do(t, "register", chromedp.Navigate(url+"/"))
	if at := ask(t, b, "register", chromedp.Location()); !strings.HasSuffix(at, "/register") {
		t.Fatalf("a server without users shows %s", at)
	}
	values, err := json.Marshal(map[string]string{
		"username": "ann@example.com", "password": "Correct-horse-47", "repeat": "Correct-horse-47", "password2": "Correct-horse-47",
		"first": "Ann", "last": "Lee", "firstName": "Ann", "lastName": "Lee", "group": "Production", "org": "Example",
	})
	if err != nil {
		t.Fatal(err)
	}
	b.do(t, "fill in", chromedp.Evaluate[chromedp.Void](`Object.entries(`+string(values)+`).forEach(([name, value]) => {
		const f = document.querySelector("form[action='/register'] input[name=" + name + "]");
		if (f) f.value = value;
	})`))
	b.do(t, "submit", chromedp.Click(chromedp.CSS(`form[action="/register"] button`)), chromedp.WaitReady(chromedp.CSS(`nav`)))
	text := ask(t, b, "first page", chromedp.TextContent(chromedp.CSS("main")))
	for _, want := range []string{"mmsGroupId", "mmsApiKey", "heartwood monitoring-agent"} {
		if !strings.Contains(text, want) {
			t.Errorf("after registration the page does not tell how to install an agent: no %s in %.600q", want, text)
		}
	}
	keepPicture(t, "after-registration", ask(t, b, "first page", chromedp.FullScreenshot(100)))
	b.visit(t, looks[0], "empty-deployment", url+"/")
}
