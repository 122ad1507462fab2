package demo

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// folder makes a data folder that is free of other demos' ports: the members' ones are chosen in it, the server's in the flags.
func folder(t *testing.T) (dir string, flags map[string]string) {
	t.Helper()
	dir = t.TempDir()
	for range 100 {
		base := 20_000 + 20*rand.IntN(500) //nolint:gosec // a port
		if !portsFree(base, 15) {
			continue
		}
		if err := (&Login{MembersPort: base}).save(filepath.Join(dir, loginFile)); err != nil {
			t.Fatal(err)
		}
		return dir, map[string]string{
			"heartwood.data": dir, "heartwood.listen": net.JoinHostPort("127.0.0.1", strconv.Itoa(base+5)),
			"heartwood.ingestion.port": strconv.Itoa(base + 6), "heartwood.diagnostics.port": strconv.Itoa(base + 7), "heartwood.alerts.port": strconv.Itoa(base + 8), "heartwood.alerts.killPort": "0",
		}
	}
	t.Fatal("no free range of ports")
	return "", nil
}

// start runs the demo until it is up, hands over the login and stops it.
func start(t *testing.T, dir string, flags map[string]string, history time.Duration, now func() time.Time, up func(l *Login)) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	started := false
	err := Run(ctx, Options{
		Sources: config.Sources{Flags: flags}, DataDir: dir, History: history, Log: obs.Discard(), Now: now,
		Started: func(_ context.Context, l *Login) {
			started = true
			up(l)
			stop()
		},
	})
	if err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	if !started {
		t.Fatal("the demo never started")
	}
}

// ask reads from the Public API.
func ask(t *testing.T, l *Login, path string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.URL+"/api/public/v1.0"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: digest.NewTransport(l.PublicKey, l.PrivateKey)}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", path, resp.Status, err, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}

type host struct {
	ID       string
	Hostname string
	Port     int
}

func hosts(t *testing.T, l *Login) []host {
	t.Helper()
	var page struct{ Results []host }
	ask(t, l, "/groups/"+l.GroupID+"/hosts", &page)
	return page.Results
}

// minutes are the minutes of which a host has its connections in the API.
func minutes(t *testing.T, l *Login, h host, from, to time.Time) []time.Time {
	t.Helper()
	var answer struct {
		Measurements []struct {
			Name       string
			DataPoints []struct {
				Timestamp time.Time
				Value     *float64
			}
		}
	}
	q := url.Values{"granularity": {"PT1M"}, "m": {"CONNECTIONS"}, "start": {from.Format(time.RFC3339)}, "end": {to.Format(time.RFC3339)}}
	ask(t, l, "/groups/"+l.GroupID+"/hosts/"+h.ID+"/measurements?"+q.Encode(), &answer)
	var at []time.Time
	for _, m := range answer.Measurements {
		for _, p := range m.DataPoints {
			if p.Value != nil {
				at = append(at, p.Timestamp.UTC())
			}
		}
	}
	return at
}

// shifted is a clock that is behind.
func shifted(by time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(-by) }
}

// wantMinutes checks that no minute of a range is missing. The last one may be on its way: it is asked for again until it is there.
func wantMinutes(t *testing.T, l *Login, from, to time.Time) {
	t.Helper()
	all := hosts(t, l)
	if len(all) != members || len(l.Members) != members {
		t.Fatalf("hosts %v, members %v", all, l.Members)
	}
	for _, h := range all {
		have := minutes(t, l, h, from, to.Add(time.Minute))
		for until := time.Now().Add(90 * time.Second); !slices.Contains(have, to) && time.Now().Before(until); have = minutes(t, l, h, from, to.Add(time.Minute)) {
			select {
			case <-t.Context().Done():
			case <-time.After(time.Second):
			}
		}
		for at := from; !at.After(to); at = at.Add(time.Minute) {
			if !slices.Contains(have, at) {
				t.Errorf("%s:%d has nothing at %s, but at %v", h.Hostname, h.Port, at, have)
				break
			}
		}
	}
}

// TestTheDemo starts twice on one folder: the login stays, the past is there, and what went by between the starts is filled in.
func TestTheDemo(t *testing.T) {
	dir, flags := folder(t)
	now := time.Now().UTC().Truncate(time.Minute)
	var first Login
	start(t, dir, flags, 30*time.Minute, shifted(10*time.Minute), func(l *Login) {
		first = *l
		wantMinutes(t, l, now.Add(-39*time.Minute), now.Add(-11*time.Minute))
	})
	if t.Failed() {
		return
	}
	start(t, dir, flags, 30*time.Minute, nil, func(l *Login) {
		if l.User != first.User || l.Password != first.Password || l.PrivateKey != first.PrivateKey || l.GroupID != first.GroupID || !slices.Equal(l.Members, first.Members) {
			t.Errorf("the second start has another login: %+v, before %+v", l, first)
		}
		wantMinutes(t, l, now.Add(-39*time.Minute), now.Add(-time.Minute))
	})
}

// wantAlerts checks that what the load brings is looked for.
func wantAlerts(t *testing.T, l *Login) {
	t.Helper()
	var page struct {
		Results []struct {
			EventTypeName   string
			Enabled         bool
			MetricThreshold struct{ MetricName string }
		}
	}
	ask(t, l, "/groups/"+l.GroupID+"/alertConfigs", &page)
	got := map[string]bool{}
	for _, c := range page.Results {
		got[c.EventTypeName+c.MetricThreshold.MetricName] = c.Enabled
	}
	for _, want := range []string{
		"PRIMARY_ELECTED", "TOO_MANY_ELECTIONS", "NO_PRIMARY", "OUTSIDE_METRIC_THRESHOLDOPLOG_SLAVE_LAG_MASTER_TIME",
		"OUTSIDE_METRIC_THRESHOLDOPLOG_MASTER_TIME", "OUTSIDE_METRIC_THRESHOLDCONNECTIONS_PERCENT",
	} {
		if !got[want] {
			t.Errorf("no alert for %s is enabled: %v", want, got)
		}
	}
}

// TestNoPast: with a history of nothing the demo is live at once.
func TestNoPast(t *testing.T) {
	dir, flags := folder(t)
	for range 2 {
		start(t, dir, flags, 0, nil, func(l *Login) {
			if len(l.Members) != members || l.PrivateKey == "" {
				t.Errorf("%+v", l)
			}
			wantAlerts(t, l)
		})
	}
}

// TestAnInterruptedStartGoesOn: Ctrl-C while the past is filled in ends the demo in order, and the next start goes on from there.
func TestAnInterruptedStartGoesOn(t *testing.T) {
	dir, flags := folder(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	began := time.Now().UTC().Truncate(time.Minute)
	seen := 0
	err := Run(ctx, Options{
		Sources: config.Sources{Flags: flags}, DataDir: dir, History: 40 * time.Minute, Log: obs.Discard(),
		Progress: func(_ string, done, _ int) {
			if seen = done; done == 20 {
				stop()
			}
		},
		Started: func(context.Context, *Login) { t.Error("it started all the same") },
	})
	if err != nil || seen < 20 || seen > 25 {
		t.Fatalf("interrupted after %d minutes: %v", seen, err)
	}
	if _, err := os.Stat(filepath.Join(dir, loginFile)); errors.Is(err, os.ErrNotExist) {
		t.Fatal("the login was not kept")
	}
	most := 0
	ctx, stop = context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	err = Run(ctx, Options{
		Sources: config.Sources{Flags: flags}, DataDir: dir, History: 40 * time.Minute, Log: obs.Discard(),
		Progress: func(_ string, _, total int) { most = max(most, total) },
		Started: func(_ context.Context, l *Login) {
			wantMinutes(t, l, began.Add(-39*time.Minute), began.Add(-time.Minute))
			stop()
		},
	})
	if err != nil {
		t.Errorf("the second start: %v", err)
	}
	if most == 0 || most > 25 {
		t.Errorf("the second start filled in %d minutes, not only those that were missing", most)
	}
}
