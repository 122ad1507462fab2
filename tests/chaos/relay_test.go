package chaos

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/wire"
)

// relay stands between agents and servers, as a load balancer does, and sees what is posted and what is acknowledged.
type relay struct {
	*httptest.Server
	t        *testing.T
	servers  []string // ingestion URLs
	mu       sync.Mutex
	next     int
	down     bool
	posted   map[pingKey]bool // every ping that was ever in a post
	refused  map[pingKey]bool // those that were in a post that was not acknowledged
	taken    []wire.Ping      // of acknowledged posts, in that order
	statuses map[int]int      // answers to posts
	problem  wire.Problem     // the last refusal of a server's own
}

func startRelay(t *testing.T, servers ...string) *relay {
	t.Helper()
	r := &relay{t: t, servers: servers, posted: map[pingKey]bool{}, refused: map[pingKey]bool{}, statuses: map[int]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP passes a call on to the next server. When that is gone the agent must come again, and meets another one.
func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the agent was killed in the middle
	}
	var pings []wire.Ping
	if req.URL.Path == wire.PathPings {
		post, err := wire.DecodePost(body)
		if err != nil {
			r.t.Errorf("an agent's post: %v", err)
		}
		pings = post.Pings
	}
	r.mu.Lock()
	for _, p := range pings {
		r.posted[keyOf(p)] = true
	}
	down, server := r.down, r.servers[r.next%len(r.servers)]
	r.next++
	r.mu.Unlock()
	status, answer := http.StatusBadGateway, []byte("no server")
	if !down {
		if s, b, err := pass(req, server, body); err == nil {
			status, answer = s, b
		}
	}
	if len(pings) > 0 {
		r.note(pings, status, answer)
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func pass(req *http.Request, server string, body []byte) (status int, answer []byte, err error) {
	out, err := http.NewRequestWithContext(req.Context(), req.Method, server+req.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	out.Header = req.Header.Clone()
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func (r *relay) note(pings []wire.Ping, status int, answer []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statuses[status]++
	if status == http.StatusOK {
		if ack, err := wire.DecodeAck(answer); err != nil || int(ack.Accepted) != len(pings) {
			r.t.Errorf("%d of %d pings accepted: %v %v", ack.Accepted, len(pings), ack.Rejected, err)
		}
		r.taken = append(r.taken, pings...)
		return
	}
	if p, err := wire.DecodeProblem(answer); err == nil {
		r.problem = p
	}
	for _, p := range pings {
		r.refused[keyOf(p)] = true
	}
}

func keyOf(p wire.Ping) pingKey { return pingKey{p.HostID, p.At.UnixMilli()} }

// see runs f while nothing changes.
func (r *relay) see(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// waiting is how many different pings are refused and not yet taken, and the time of the oldest.
func (r *relay) waiting() (n int, oldest time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := maps.Clone(r.refused)
	for _, p := range r.taken {
		delete(left, keyOf(p))
	}
	for k := range left {
		if at := time.UnixMilli(k.at); oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	return len(left), oldest
}

// answered is the set of pings with replies among those that were acknowledged, and how many hosts they are of.
func (r *relay) answered() (pings map[pingKey]bool, hosts int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pings = map[pingKey]bool{}
	of := map[string]bool{}
	for _, p := range r.taken {
		if len(p.Replies) > 0 && len(p.Errors) == 0 {
			pings[keyOf(p)] = true
			of[p.HostID] = true
		}
	}
	return pings, len(of)
}

// wantInOrder holds that each host's pings were taken in order, each once, unless an acknowledgement may have been lost
// (lost): the agent or a server was killed.
func (r *relay) wantInOrder(lost bool) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	last := map[string]time.Time{}
	for _, p := range r.taken {
		if at, ok := last[p.HostID]; ok && (p.At.Before(at) || p.At.Equal(at) && !lost) {
			r.t.Errorf("host %s: the ping of %s came after the one of %s", p.HostID, p.At, at)
		}
		last[p.HostID] = p.At
	}
}

// wantEvenly holds that no round of a host is missing.
func wantEvenly(t *testing.T, pings map[pingKey]bool, period time.Duration) {
	t.Helper()
	of := map[string][]int64{}
	for k := range pings {
		of[k.host] = append(of[k.host], k.at)
	}
	for host, at := range of {
		slices.Sort(at)
		for i := 1; i < len(at); i++ {
			if gap := time.Duration(at[i]-at[i-1]) * time.Millisecond; gap > period*19/10 {
				t.Errorf("host %s: nothing for %s before %s", host, gap, time.UnixMilli(at[i]).UTC().Format(time.RFC3339))
			}
		}
	}
}

// wantStored holds that exactly the given pings are in the database.
func wantStored(t *testing.T, have, want map[pingKey]bool) {
	t.Helper()
	for k := range want {
		if !have[k] {
			t.Errorf("the ping of host %s of %s is gone", k.host, time.UnixMilli(k.at).UTC())
		}
	}
	for k := range have {
		if !want[k] {
			t.Errorf("nobody acknowledged the ping of host %s of %s", k.host, time.UnixMilli(k.at).UTC())
		}
	}
	if t.Failed() {
		return
	}
	if len(have) != len(want) {
		t.Error(fmt.Sprint(len(have), " rows of ", len(want), " pings"))
	}
}
