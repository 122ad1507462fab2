package chaos

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestMemberKilled kills the primary of a watched set: its page says why it is down while the others elect and go on, and it
// comes back when it does.
func TestMemberKilled(t *testing.T) {
	t.Parallel()
	watched := startSet(t, mongosim.Options{SetName: "watched"})
	data, base := t.TempDir(), harness.PortBase(t)
	srv := startServer(t, data, base)
	site := provision(t, base)
	hurry(t, srv.Site(), site.Group)
	front := startRelay(t, local(base+1, ""))
	harness.Start(t, "monitoring-agent", "--config", agentFile(t, front.URL, site, watched.Addresses()))

	status := func(ctx context.Context, member int) (model.HostStatus, error) {
		h, err := srv.Site().Inventory.FindHost(ctx, groupID(site), watched.Member(member).Address())
		if err != nil {
			return model.HostStatus{}, err
		}
		return srv.Site().Inventory.Status(ctx, groupID(site), h.ID)
	}
	// states waits until the members are in states that are wanted of them.
	states := func(what string, want func(member int, s model.HostStatus) bool) {
		t.Helper()
		harness.Eventually(t, 40*time.Second, what, func(ctx context.Context) error {
			for i := range watched.Len() {
				s, err := status(ctx, i)
				if err != nil {
					return err
				}
				if !want(i, s) {
					return fmt.Errorf("member %d: %s %s %s", i, s.Reach, s.State, s.Error)
				}
			}
			return nil
		})
	}
	healthy := func(_ int, s model.HostStatus) bool {
		return s.Reach == model.ReachUp && (s.State == model.StatePrimary || s.State == model.StateSecondary)
	}
	states("a healthy set", healthy)

	killed := watched.Primary()
	since := time.Now().Add(-time.Second) // elections are dated to the second
	if err := watched.Kill(killed); err != nil {
		t.Fatal(err)
	}
	if err := watched.WaitPrimary(t.Context()); err != nil {
		t.Fatal(err)
	}
	elected := watched.Primary()
	states("the failure and the election", func(i int, s model.HostStatus) bool {
		switch i {
		case killed:
			return s.Reach == model.ReachDown && s.Error != ""
		case elected:
			return s.Reach == model.ReachUp && s.State == model.StatePrimary
		}
		return healthy(i, s)
	})
	down, err := status(t.Context(), killed)
	if err != nil || !strings.Contains(down.Error, "refused") || down.State != model.StateDown {
		t.Errorf("the killed member is %s because of %q: %v", down.State, down.Error, err)
	}
	if text := hostStatusOf(t, site, string(down.HostID)); !strings.Contains(text, "DOWN") {
		t.Errorf("the API says of it: %s", text)
	}
	if err := watched.Restart(killed); err != nil {
		t.Fatal(err)
	}
	states("the return", func(i int, s model.HostStatus) bool { return healthy(i, s) && s.Error == "" })

	all := events(t, srv.Site(), alerting.EventQuery{GroupID: groupID(site)})
	want := []struct {
		member int
		what   model.EventType
	}{
		{killed, model.EventHostDown}, {elected, model.EventHostNowPrimary}, {killed, model.EventHostUp},
	}
	for _, w := range want {
		n := 0
		for i := range all {
			if all[i].Type == w.what && all[i].HostName == watched.Member(w.member).Address() && all[i].At.After(since) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d events %s of member %d", n, w.what, w.member)
		}
	}
	for i := range all {
		if e := &all[i]; e.Type == model.EventHostDown && e.HostName != watched.Member(killed).Address() {
			t.Errorf("%s counted as down: %s", e.HostName, e.Text)
		}
	}
	if t.Failed() {
		for i := range all {
			t.Logf("%s %s %s: %s", all[i].At.Format(time.StampMilli), all[i].HostName, all[i].Type, all[i].Text)
		}
	}
	// The others were visited all the time.
	pings, _ := front.answered()
	for k := range pings {
		if k.host == string(down.HostID) {
			delete(pings, k)
		}
	}
	wantEvenly(t, pings, period)
}

// hostStatusOf is what the Public API says of a host.
func hostStatusOf(t *testing.T, site *client.Site, id string) string {
	t.Helper()
	var host map[string]any
	if err := site.Call(t.Context(), http.MethodGet, "/groups/"+site.Group+"/hosts/"+id, nil, &host); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(host)
}
