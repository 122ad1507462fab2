package balancer

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/docstore"
	hwwire "github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// clientFrom makes a client whose connections come from an address of this machine.
func clientFrom(t *testing.T, ip string) *http.Client {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 5 * time.Second}
	tr := &http.Transport{DialContext: d.DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

var csrf = regexp.MustCompile(`name="csrf" value="([^"]*)"`)

// signIn gives a client a session, as a browser gets one. Headers are sent with every request.
func signIn(ctx context.Context, c *http.Client, base string, headers ...string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	c.Jar = jar
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	do := func(method string, body io.Reader) (*http.Response, string, error) {
		req, err := http.NewRequestWithContext(ctx, method, base+"/login", body)
		if err != nil {
			return nil, "", err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i+1 < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := c.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, string(b), err
	}
	_, page, err := do(http.MethodGet, nil)
	if err != nil {
		return err
	}
	token := csrf.FindStringSubmatch(page)
	if token == nil {
		return fmt.Errorf("no form to sign in: %.200s", page)
	}
	form := url.Values{"csrf": {html.UnescapeString(token[1])}, "username": {client.User}, "password": {client.Password}}
	resp, page, err := do(http.MethodPost, strings.NewReader(form.Encode()))
	if err == nil && resp.StatusCode != http.StatusSeeOther {
		err = fmt.Errorf("sign in: %s: %.200s", resp.Status, page)
	}
	return err
}

// failure is a request that was not answered as it should be.
type failure struct {
	what string
	at   time.Time // of the request
	took time.Duration
	err  error
}

// traffic is what people, scripts and agents do all the time.
type traffic struct {
	t        *testing.T
	stop     context.CancelFunc
	wg       sync.WaitGroup
	mu       sync.Mutex
	done     map[string]int
	failures []failure
	posted   map[pingKey]bool // acknowledged
	hosts    map[string]bool  // what posted pings are about
}

// pingKey identifies a ping: the host and the time in Unix milliseconds.
type pingKey struct {
	host string
	at   int64
}

// beat is the pause between two requests of one kind.
const beat = 50 * time.Millisecond

// startTraffic begins to ask for pages in a session, to read the API, and to post pings, through the front.
func startTraffic(t *testing.T, f *front, site *client.Site) *traffic {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	tr := &traffic{t: t, stop: stop, done: map[string]int{}, posted: map[pingKey]bool{}, hosts: map[string]bool{}}
	t.Cleanup(tr.end)
	browser := clientFrom(t, "127.0.0.9")
	must(t, signIn(ctx, browser, local(f.base, "")))
	through := anotherGroup(t, site, "posted") // one agent is active in a group
	hosts, err := through.AddHosts(ctx, 2)
	must(t, err)
	for _, h := range hosts {
		tr.hosts[h.ID] = true
	}
	tpl, err := replies.New()
	must(t, err)

	tr.every(ctx, "page", func() error {
		status, body, err := get(ctx, browser, local(f.base, "/g/"+site.Group+"/deployment"))
		if err == nil && (status != http.StatusOK || !strings.Contains(body, "Sign out")) {
			err = fmt.Errorf("status %d: %.200s", status, body)
		}
		return err
	})
	tr.every(ctx, "API", func() error { return through.Call(ctx, http.MethodGet, "/groups/"+site.Group, nil, nil) })
	poster, seq := clientFrom(t, "127.0.0.9"), int64(0)
	var waiting []byte // what was not acknowledged is posted again, as an agent does
	var keys []pingKey
	tr.every(ctx, "ping", func() error {
		if waiting == nil {
			seq++
			msg := hwwire.Post{Version: hwwire.Version, Agent: through.Agent, Sent: time.Now().UTC(), Seq: seq}
			keys = keys[:0]
			for _, h := range hosts {
				at := time.Now().UTC().Truncate(time.Millisecond)
				z, err := hwwire.EncodeReplies(tpl.At(nil, replies.Number(h.Hostname), at.Sub(at.Truncate(24*time.Hour))+time.Hour, at))
				if err != nil {
					return err
				}
				msg.Pings = append(msg.Pings, hwwire.Ping{HostID: h.ID, At: at, RTT: 400, Address: h.Hostname + ":27017", IP: "127.0.0.1", Replies: z})
				keys = append(keys, pingKey{h.ID, at.UnixMilli()})
			}
			var err error
			if waiting, err = hwwire.EncodePost(msg); err != nil {
				return err
			}
		}
		ack, err := through.Post(ctx, poster, waiting)
		if err != nil {
			return err
		}
		if int(ack.Accepted) != len(keys) {
			err = fmt.Errorf("%d of %d pings accepted: %+v", ack.Accepted, len(keys), ack.Rejected)
		}
		waiting = nil
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for _, k := range keys {
			tr.posted[k] = true
		}
		return err
	})
	return tr
}

// anotherGroup makes a group on the same site.
func anotherGroup(t *testing.T, site *client.Site, name string) client.Site {
	t.Helper()
	var group struct{ ID, AgentAPIKey string }
	must(t, site.Call(t.Context(), http.MethodPost, "/groups", map[string]string{"name": name}, &group))
	other := *site
	other.Group, other.AgentKey = group.ID, group.AgentAPIKey
	return other
}

func (tr *traffic) every(ctx context.Context, what string, f func() error) {
	tr.wg.Go(func() {
		for ctx.Err() == nil {
			at := time.Now()
			err := f()
			if ctx.Err() != nil {
				return
			}
			tr.mu.Lock()
			tr.done[what]++
			if err != nil {
				tr.failures = append(tr.failures, failure{what, at, time.Since(at), err})
			}
			tr.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(beat):
			}
		}
	})
}

func (tr *traffic) end() {
	tr.stop()
	tr.wg.Wait()
}

// go on lets the traffic flow until each kind has had n more requests answered well that began after the moment.
func (tr *traffic) flow(n int, d time.Duration) {
	tr.t.Helper()
	tr.mu.Lock()
	want := map[string]int{}
	for what, done := range tr.done {
		want[what] = done + n
	}
	tr.mu.Unlock()
	deadline := time.Now().Add(d)
	for {
		tr.mu.Lock()
		var behind []string
		for what, n := range want {
			if tr.done[what] < n {
				behind = append(behind, fmt.Sprintf("%s: %d of %d", what, tr.done[what], n))
			}
		}
		tr.mu.Unlock()
		if len(want) == 3 && len(behind) == 0 {
			return
		}
		if time.Now().After(deadline) {
			tr.t.Fatalf("the traffic stands still: %v", behind)
		}
		time.Sleep(beat)
		if len(want) < 3 { // it has only begun
			tr.mu.Lock()
			for what := range tr.done {
				if want[what] == 0 {
					want[what] = n
				}
			}
			tr.mu.Unlock()
		}
	}
}

// wantWell holds that nothing failed of what was asked after a moment, and forgets what came before. It says how many failed
// until then.
func (tr *traffic) wantWell(what string, since time.Time) {
	tr.t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	kinds := map[string]int{}
	const most = 5 // a few say it all
	wrong := 0
	for _, f := range tr.failures {
		if f.at.Before(since) {
			if kinds[f.what]++; kinds[f.what] == 1 {
				tr.t.Logf("%s: the first failed %s: %s, %s before the end of the check's time, after %s: %v",
					what, f.what, f.at.UTC().Format(time.TimeOnly), since.Sub(f.at).Round(time.Millisecond), f.took.Round(time.Millisecond), f.err)
			}
			continue
		}
		if wrong++; wrong > most {
			continue
		}
		tr.t.Errorf("%s: a request (%s) failed %s after it should not, after %s: %v", what, f.what, f.at.Sub(since).Round(time.Millisecond), f.took.Round(time.Millisecond), f.err)
	}
	tr.t.Logf("%s: failed before: %v; from then on: %d; asked so far: %v", what, kinds, wrong, tr.done)
	tr.failures = nil
}

// wantStored holds that every acknowledged ping of the traffic is in the database, and each once.
func (tr *traffic) wantStored(s *site.Site) {
	tr.t.Helper()
	have, err := rows(tr.t.Context(), s)
	must(tr.t, err)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for k := range tr.posted {
		if have[k] != 1 {
			tr.t.Errorf("the ping of host %s of %s is there %d times", k.host, time.UnixMilli(k.at).UTC(), have[k])
		}
	}
	if len(tr.posted) == 0 {
		tr.t.Error("no ping was posted")
	}
}

// rows counts the rows that pings leave, until the hour is over.
func rows(ctx context.Context, s *site.Site) (map[pingKey]int, error) {
	have := map[pingKey]int{}
	q := docstore.Query{Collection: "series.rows"}
	for {
		page, err := s.Store.Engine().Scan(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, d := range page.Docs {
			part := strings.Split(d.ID, "/") // bucket/hour/host/milliseconds
			if len(part) != 4 {
				return nil, errors.New("row " + d.ID)
			}
			hour, err := time.Parse("2006010215", part[1])
			if err != nil {
				return nil, err
			}
			ms, err := strconv.Atoi(part[3])
			if err != nil {
				return nil, err
			}
			have[pingKey{part[2], hour.UnixMilli() + int64(ms)}]++
		}
		if page.Next == "" {
			return have, nil
		}
		q.Resume = page.Next
	}
}
