package cluster

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/mongod"
	"github.com/heartwood-db/heartwood/tests/replies"
)

const (
	loadHosts = 30 // whole sets of three, so that nobody else is discovered
	loaders   = 3
	roundGap  = 10 * time.Second
	maxRounds = 800
)

// TestTheServersDatabase runs the server on a replica set whose primary is killed, cut off and hung while agents post: each
// acknowledged ping is there afterwards, once. Without a majority the server says that it is not well, and is again with one.
func TestTheServersDatabase(t *testing.T) {
	t.Parallel()
	db := mongod.Start(t, mongod.Options{Auth: true})
	data := t.TempDir()
	srv, base := startServer(t, data, db.URI())
	account, err := client.Provision(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := account.AddHosts(t.Context(), loadHosts)
	if err != nil {
		t.Fatal(err)
	}
	load := startLoad(t, account, hosts)
	load.more(loadHosts)
	faults := []struct {
		what    string
		do, end func(i int)
	}{
		{"it is killed", db.Kill, db.Restart},
		{"it is cut off the others", func(i int) { db.Cut(i, mongod.Peers) }, func(i int) { db.Heal(i, mongod.Peers) }},
		{"it is cut off everybody", func(i int) { db.Cut(i) }, func(i int) { db.Heal(i) }},
		{"it hangs", db.Pause, db.Unpause},
		{"it stops", db.Stop, db.Restart},
	}
	for _, f := range faults {
		p, before, refused := db.WaitPrimary(), load.acked.Load(), load.refused.Load()
		began := time.Now()
		f.do(p)
		next := db.WaitPrimary(p)
		load.more(2 * loadHosts)
		t.Logf("%s: %d leads after %d; %d pings acknowledged and %d posts sent again in %v", f.what, next, p, load.acked.Load()-before, load.refused.Load()-refused, time.Since(began).Round(100*time.Millisecond))
		f.end(p)
		db.WaitMember(p)
	}
	p := db.WaitPrimary()
	for _, i := range others(3, p) {
		db.Kill(i)
	}
	health(t, base, http.StatusInternalServerError)
	for _, i := range others(3, p) {
		db.Restart(i)
	}
	db.WaitPrimary()
	health(t, base, http.StatusOK)
	load.more(loadHosts)
	load.finish()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.Stop(ctx); err != nil {
		t.Error(err)
	}
	load.verify(data, db.URI())
	t.Logf("%d pings of %d hosts acknowledged, %d posts sent again; on %s", load.acked.Load(), loadHosts, load.refused.Load(), db.On())
}

// load is agents that post round after round as fast as they are taken; what is not acknowledged they send again.
type load struct {
	t       *testing.T
	account *client.Site
	tpl     *replies.Template
	start   time.Time // of the first round
	hosts   [loaders][]wire.Host
	rounds  [loaders]int // that were acknowledged
	acked   atomic.Int64
	refused atomic.Int64
	enough  chan struct{}
	wg      sync.WaitGroup
}

func startLoad(t *testing.T, account *client.Site, hosts []wire.Host) *load {
	t.Helper()
	tpl, err := replies.New()
	if err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, account: account, tpl: tpl, start: time.Now().UTC().Truncate(time.Minute).Add(-maxRounds * roundGap), enough: make(chan struct{})}
	for i, h := range hosts {
		l.hosts[i%loaders] = append(l.hosts[i%loaders], h)
	}
	for n := range loaders {
		l.wg.Go(func() { l.post(t.Context(), n) })
	}
	return l
}

func (l *load) post(ctx context.Context, n int) {
	conn := &http.Client{Timeout: time.Minute}
	for round := range maxRounds {
		body := l.encode(l.hosts[n], l.start.Add(time.Duration(round)*roundGap), int64(round))
		for {
			ack, err := l.account.Post(ctx, conn, body)
			if err == nil {
				if int(ack.Accepted) != len(l.hosts[n]) || len(ack.Rejected) > 0 {
					l.t.Errorf("round %d: %d accepted, %v", round, ack.Accepted, ack.Rejected)
				}
				break
			}
			l.refused.Add(1)
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
		l.acked.Add(int64(len(l.hosts[n])))
		l.rounds[n]++
		select {
		case <-l.enough:
			return
		case <-time.After(50 * time.Millisecond): // the other tests of this machine want to live
		}
	}
}

func (l *load) encode(hosts []wire.Host, at time.Time, seq int64) []byte {
	msg := wire.Post{Version: wire.Version, Agent: l.account.Agent, Sent: time.Now().UTC(), Seq: seq}
	for _, h := range hosts {
		z, err := wire.EncodeReplies(l.tpl.At(nil, replies.Number(h.Hostname), at.Sub(at.Truncate(24*time.Hour))+time.Hour, at))
		if err != nil {
			l.t.Error(err)
			return nil
		}
		msg.Pings = append(msg.Pings, wire.Ping{HostID: h.ID, At: at, Late: true, RTT: 400, Address: h.Hostname + ":" + strconv.Itoa(int(h.Port)), IP: "127.0.0.1", Replies: z})
	}
	b, err := wire.EncodePost(msg)
	if err != nil {
		l.t.Error(err)
	}
	return b
}

// more waits until so many further pings were acknowledged.
func (l *load) more(pings int64) {
	l.t.Helper()
	goal := l.acked.Load() + pings
	harness.Eventually(l.t, patience, fmt.Sprintf("acknowledgement of %d more pings", pings), func(context.Context) error {
		if have := l.acked.Load(); have < goal {
			return fmt.Errorf("%d are missing", goal-have)
		}
		return nil
	})
}

func (l *load) finish() {
	close(l.enough)
	l.wg.Wait()
}

// verify opens the database when no server uses it: every acknowledged ping is a point, and there are no more samples than
// acknowledged pings once the hours are packed.
func (l *load) verify(data, uri string) {
	l.t.Helper()
	flags := map[string]string{"heartwood.data": data, "mongo.mongoUri": uri}
	db, err := site.Open(l.t.Context(), config.Sources{Flags: flags}, obs.Discard(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	want := int64(0)
	for n, hosts := range l.hosts {
		for _, h := range hosts {
			want += int64(l.rounds[n])
			res, err := db.Series.Read(l.t.Context(), series.Query{
				Host: model.HostID(h.ID), Measurements: []string{"CONNECTIONS"}, From: l.start, To: l.start.Add(maxRounds * roundGap), Step: roundGap,
			})
			if err != nil {
				l.t.Fatal(err)
			}
			have := 0
			for _, v := range res.Lines[0].Values {
				if !math.IsNaN(v) {
					have++
				}
			}
			if have != l.rounds[n] {
				l.t.Errorf("%s: %d points of %d acknowledged pings", h.Hostname, have, l.rounds[n])
			}
		}
	}
	if acked := l.acked.Load(); acked != want {
		l.t.Errorf("%d pings acknowledged, %d counted by round", acked, want)
	}
	for more := true; more; {
		report, err := db.Series.Compact(l.t.Context(), time.Now().Add(3*time.Hour)) // all hours are over by then
		if err != nil {
			l.t.Fatal(err)
		}
		more = report.More
	}
	if have := samples(l.t, db.Store.Engine()); have != want {
		l.t.Errorf("the database holds %d samples of %d acknowledged pings", have, want)
	}
}

// samples sums up what the chunks say they hold.
func samples(t *testing.T, engine docstore.Engine) (n int64) {
	t.Helper()
	q := docstore.Query{Collection: "series.chunks"}
	for {
		page, err := engine.Scan(t.Context(), q)
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
