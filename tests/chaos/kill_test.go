// Package chaos kills, cuts off and starves running programs and checks that nothing acknowledged is lost.
package chaos

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// serve starts a server on the data folder and waits until it is healthy.
func serve(t *testing.T, data string, base int, args ...string) *harness.Process {
	t.Helper()
	p := harness.Start(t, append([]string{"serve", "--data", data, "--port-base", strconv.Itoa(base)}, args...)...)
	harness.Eventually(t, 30*time.Second, "the server's health", func(ctx context.Context) error {
		return getOK(ctx, "http://127.0.0.1:"+strconv.Itoa(base)+"/monitor/health")
	})
	return p
}

func getOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// ackedPings remembers which minutes of which host the server acknowledged.
type ackedPings struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (a *ackedPings) add(host string, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at[host] = append(a.at[host], at)
}

func TestServerKilledUnderLoadLosesNoAcknowledgedPing(t *testing.T) {
	ctx := t.Context()
	data, base := t.TempDir(), harness.PortBase(t)
	srv := serve(t, data, base)
	site, err := client.Provision(ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := site.AddHosts(ctx, 40)
	if err != nil {
		t.Fatal(err)
	}
	tpl, err := replies.New()
	if err != nil {
		t.Fatal(err)
	}
	acked := &ackedPings{at: map[string][]time.Time{}}
	start := time.Now().UTC().Truncate(time.Minute).Add(-100 * time.Minute)

	// Four agents post minute after minute of ten hosts each, as fast as they can, until the server dies under them.
	const rounds = 90
	var wg sync.WaitGroup
	for n := range 4 {
		mine := hosts[n*10 : n*10+10]
		wg.Go(func() {
			conn := &http.Client{Timeout: 10 * time.Second}
			for minute := range rounds {
				at := start.Add(time.Duration(minute) * time.Minute)
				if _, err := site.Post(ctx, conn, post(t, site, tpl, mine, at, int64(minute))); err != nil {
					return
				}
				for _, h := range mine {
					acked.add(h.ID, at)
				}
			}
		})
	}
	harness.Eventually(t, time.Minute, "a hundred acknowledged pings", func(context.Context) error {
		acked.mu.Lock()
		defer acked.mu.Unlock()
		if n := len(acked.at[hosts[0].ID]); n < 10 {
			return fmt.Errorf("%d of 10 minutes", n)
		}
		return nil
	})
	srv.Kill()
	wg.Wait()

	serve(t, data, base)
	total := 0
	for id, times := range acked.at {
		total += len(times)
		have := points(t, site, id, start, start.Add(rounds*time.Minute))
		for _, at := range times {
			if !have[at.Unix()] {
				t.Errorf("host %s: the acknowledged ping of %s is gone", id, at)
			}
		}
	}
	t.Logf("%d pings were acknowledged before the kill", total)
}

func post(t *testing.T, site *client.Site, tpl *replies.Template, hosts []wire.Host, at time.Time, seq int64) []byte {
	t.Helper()
	msg := wire.Post{Version: wire.Version, Agent: site.Agent, Sent: time.Now().UTC(), Seq: seq}
	for _, h := range hosts {
		z, err := wire.EncodeReplies(tpl.At(nil, replies.Number(h.Hostname), at.Sub(at.Truncate(24*time.Hour))+time.Hour, at))
		if err != nil {
			t.Error(err)
			return nil
		}
		msg.Pings = append(msg.Pings, wire.Ping{
			HostID: h.ID, At: at, Late: true, RTT: 400, Address: h.Hostname + ":" + strconv.Itoa(int(h.Port)), IP: "127.0.0.1", Replies: z,
		})
	}
	b, err := wire.EncodePost(msg)
	if err != nil {
		t.Error(err)
	}
	return b
}

// points are the minutes, in Unix seconds, for which a host has a value.
func points(t *testing.T, site *client.Site, host string, from, to time.Time) map[int64]bool {
	t.Helper()
	var m struct {
		Measurements []struct {
			DataPoints []struct {
				Timestamp time.Time
				Value     *float64
			}
		}
	}
	path := fmt.Sprintf("/groups/%s/hosts/%s/measurements?granularity=PT1M&start=%s&end=%s&m=CONNECTIONS",
		site.Group, host, from.Format(time.RFC3339), to.Format(time.RFC3339))
	if err := site.Call(t.Context(), http.MethodGet, path, nil, &m); err != nil {
		t.Fatal(err)
	}
	have := map[int64]bool{}
	for _, s := range m.Measurements {
		for _, p := range s.DataPoints {
			if p.Value != nil {
				have[p.Timestamp.Unix()] = true
			}
		}
	}
	return have
}
