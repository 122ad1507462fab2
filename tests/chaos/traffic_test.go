package chaos

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// traffic is agents that post round after round of pings as fast as they are taken. What is not acknowledged is sent again
// until it is, as agents do.
type traffic struct {
	t      *testing.T
	site   *client.Site
	tpl    *replies.Template
	start  time.Time // of the first round; they are ten seconds apart
	hosts  [][]wire.Host
	rounds []int // that were acknowledged, by agent

	acked, refused atomic.Int64 // pings, posts
	mu             sync.Mutex
	reasons        map[string]int // of refusals
	enough         chan struct{}
	wg             sync.WaitGroup
}

const (
	roundGap  = 10 * time.Second
	maxRounds = 1000
)

// startTraffic lets some agents share the hosts and post.
func startTraffic(t *testing.T, site *client.Site, hosts []wire.Host, agents int) *traffic {
	t.Helper()
	tr := &traffic{
		t: t, site: site, tpl: template(t), start: time.Now().UTC().Truncate(time.Minute).Add(-maxRounds * roundGap),
		hosts: make([][]wire.Host, agents), rounds: make([]int, agents), enough: make(chan struct{}),
		reasons: map[string]int{},
	}
	for i, h := range hosts {
		tr.hosts[i%agents] = append(tr.hosts[i%agents], h)
	}
	for n := range agents {
		tr.wg.Go(func() { tr.agent(t.Context(), n) })
	}
	return tr
}

func (tr *traffic) agent(ctx context.Context, n int) {
	conn := &http.Client{Timeout: time.Minute}
	for round := range maxRounds {
		body := post(tr.t, tr.site, tr.tpl, tr.hosts[n], tr.start.Add(time.Duration(round)*roundGap), int64(round))
		for {
			ack, err := tr.site.Post(ctx, conn, body)
			if err == nil {
				if int(ack.Accepted) != len(tr.hosts[n]) || len(ack.Rejected) > 0 {
					tr.t.Errorf("round %d: %d of %d accepted, %v", round, ack.Accepted, len(tr.hosts[n]), ack.Rejected)
				}
				break
			}
			tr.refused.Add(1)
			tr.mu.Lock()
			tr.reasons[err.Error()]++
			tr.mu.Unlock()
			if pause(ctx, 100*time.Millisecond) != nil {
				return
			}
		}
		tr.acked.Add(int64(len(tr.hosts[n])))
		tr.rounds[n]++
		select {
		case <-tr.enough:
			return
		default:
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// more waits until so many further pings were acknowledged.
func (tr *traffic) more(pings int64) {
	tr.t.Helper()
	goal := tr.acked.Load() + pings
	harness.Eventually(tr.t, time.Minute, fmt.Sprintf("acknowledgement of %d more pings", pings), func(context.Context) error {
		if have := tr.acked.Load(); have < goal {
			return fmt.Errorf("%d are missing", goal-have)
		}
		return nil
	})
}

// finish lets each agent complete its round.
func (tr *traffic) finish() {
	close(tr.enough)
	tr.wg.Wait()
}

// verify opens the database once no server uses it, and holds what is there against what was acknowledged: each ping is
// there once, before its hours are packed and after.
func (tr *traffic) verify(site *site.Site) {
	tr.t.Helper()
	tr.points(site)
	for more := true; more; {
		report, err := site.Series.Compact(tr.t.Context(), time.Now().Add(3*time.Hour)) // all hours are over by then
		if err != nil {
			tr.t.Fatal(err)
		}
		more = report.More
	}
	if left := rows(tr.t, site); len(left) > 0 {
		tr.t.Errorf("%d rows were not packed", len(left))
	}
	tr.points(site)
	var want int64
	for n, r := range tr.rounds {
		want += int64(r * len(tr.hosts[n]))
	}
	if acked := tr.acked.Load(); acked != want {
		tr.t.Errorf("%d pings acknowledged, %d counted by round", acked, want)
	}
	if got := samples(tr.t, site); got != want {
		tr.t.Errorf("the database holds %d samples of %d acknowledged pings", got, want)
	}
}

// points counts each host's points.
func (tr *traffic) points(site *site.Site) {
	tr.t.Helper()
	for n, hosts := range tr.hosts {
		for _, h := range hosts {
			res, err := site.Series.Read(tr.t.Context(), series.Query{
				Host: model.HostID(h.ID), Measurements: []string{"CONNECTIONS"}, From: tr.start, To: tr.start.Add(maxRounds * roundGap), Step: roundGap,
			})
			if err != nil {
				tr.t.Fatal(err)
			}
			have := 0
			for i, v := range res.Lines[0].Values {
				if math.IsNaN(v) {
					continue
				}
				have++
				if round := int(res.Times[i].Sub(tr.start) / roundGap); round >= tr.rounds[n] {
					tr.t.Errorf("%s: a point of round %d, %d were acknowledged", h.Hostname, round, tr.rounds[n])
				}
			}
			if have != tr.rounds[n] {
				tr.t.Errorf("%s: %d points of %d acknowledged pings", h.Hostname, have, tr.rounds[n])
			}
		}
	}
}

// samples sums up what the chunks say they hold.
func samples(t *testing.T, site *site.Site) (n int64) {
	t.Helper()
	q := docstore.Query{Collection: "series.chunks"}
	for {
		page, err := site.Store.Engine().Scan(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Docs {
			var chunk struct {
				Samples int64 `bson:"n"`
			}
			if err := bson.Unmarshal(d.Body, &chunk); err != nil {
				t.Fatal(err)
			}
			n += chunk.Samples
		}
		if page.Next == "" {
			return n
		}
		q.Resume = page.Next
	}
}
