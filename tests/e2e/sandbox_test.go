package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestTheDemoInTheSandboxShowsTheSameCharts runs the demo natively, then on the same data with its functions as WebAssembly guests:
// the charts of the past are the same to the last digit, new minutes arrive, and the pages are whole in a browser.
func TestTheDemoInTheSandboxShowsTheSameCharts(t *testing.T) {
	harness.Need(t, "chromium")
	folder, _ := harness.Guests(t)
	data := t.TempDir()
	p, login := harness.Demo(t, data, "--history", "2h")
	to := time.Now().UTC().Truncate(time.Minute).Add(-time.Minute)
	from := to.Add(-time.Hour)
	native := numbers(t, login, from, to)
	if n := values(t, native); n < 1000 {
		t.Fatalf("only %d values natively", n)
	}
	if err := p.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}

	_, login = harness.Demo(t, data, "--history", "2h", "--sandbox", "wasm", "--set", "heartwood.sandbox.guests="+folder)
	if diff := cmp.Diff(native, numbers(t, login, from, to)); diff != "" {
		t.Errorf("charts of the past (-native +sandbox):\n%.2000s", diff)
	}
	began := time.Now().UTC()
	harness.Eventually(t, 3*time.Minute, "new minutes in the charts", func(ctx context.Context) error {
		fresh := numbers(t, login, began.Truncate(time.Minute), time.Now().UTC().Add(time.Minute))
		if values(t, fresh) == 0 {
			return errors.New("nothing yet")
		}
		return ctx.Err()
	})
	b := newBrowser(t)
	signIn(t, b, login)
	host, cluster := firstIDs(t, login)
	g := login.URL + "/g/" + login.GroupID
	for _, page := range []struct {
		name, url string
		settled   []step
	}{
		{"sandbox-deployment", g + "/deployment?view=hosts", nil},
		{"sandbox-host", g + "/hosts/" + host, []step{chartsDrawn()}},
		{"sandbox-cluster", g + "/clusters/" + cluster, []step{chartsDrawn()}},
		{"sandbox-alerts", g + "/alerts", nil},
		{"sandbox-watch", login.URL + "/admin/watch", nil},
	} {
		b.visit(t, looks[0], page.name, page.url, page.settled...)
	}
}

// numbers are the answers of the Public API with all measurements of a host in a time, one a minute.
func numbers(t *testing.T, login harness.Login, from, to time.Time) string {
	t.Helper()
	client := &http.Client{Transport: digest.NewTransport(login.PublicKey, login.PrivateKey)}
	host, _ := firstIDs(t, login)
	q := url.Values{"granularity": {"PT1M"}, "start": {from.Format(time.RFC3339)}, "end": {to.Format(time.RFC3339)}}
	resp, err := client.Get(fmt.Sprintf("%s/api/public/v1.0/groups/%s/hosts/%s/measurements?%s", login.URL, login.GroupID, host, q.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("measurements: %s %v %.300s", resp.Status, err, b)
	}
	var answer map[string]any
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatal(err)
	}
	delete(answer, "links") // they name the port
	text, err := json.MarshalIndent(answer, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// values counts the points that have one.
func values(t *testing.T, text string) (n int) {
	t.Helper()
	var m struct {
		Measurements []struct{ DataPoints []struct{ Value *float64 } }
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	for _, s := range m.Measurements {
		for _, p := range s.DataPoints {
			if p.Value != nil {
				n++
			}
		}
	}
	return n
}
