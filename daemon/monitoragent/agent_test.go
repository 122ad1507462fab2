package monitoragent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/collect"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const (
	testGroup = "5f3a1c0e9d8b7a6f5e4d3c2b"
	testKey   = "0123456789abcdef"
)

// TestMain uses the coders once: their channels must not belong to a bubble of synctest, because they live on after it.
func TestMain(m *testing.M) {
	body, _ := wire.EncodePost(wire.Post{})
	_, _ = wire.DecodePost(body)
	z, _ := wire.EncodeReplies(mongotest.Doc(bson.D{}))
	_, _ = wire.DecodeReplies(z)
	os.Exit(m.Run())
}

// server is the other end: it keeps what is posted, and answers as told. It is an http.RoundTripper too, so that tests on a
// fake clock need no network.
type server struct {
	mu     sync.Mutex
	conf   wire.Conf
	away   bool                                // no connection
	refuse func(r *http.Request) *wire.Problem // nil: all is well
	status int                                 // of a refusal
	pings  []wire.Ping
	posts  []wire.Post
	confs  []string // raw queries
	reject func(p wire.Ping) string
	called time.Time // when the last configuration call came
}

func newServer(hosts ...wire.Host) *server {
	return &server{conf: wire.Conf{
		Version: wire.Version, State: string(model.AgentActive), ConfSeconds: 60, PingSeconds: 60, MaxPost: wire.MaxPost,
		DBStats: true, Diagnostics: true, Hosts: hosts,
	}}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(status int, p wire.Problem) {
		w.WriteHeader(status)
		_, _ = w.Write(wire.EncodeProblem(p))
	}
	if user, pass, _ := r.BasicAuth(); user != testGroup || pass != testKey {
		fail(http.StatusUnauthorized, wire.Problem{Code: wire.CodeBadKey, Reason: "wrong key"})
		return
	}
	if s.refuse != nil {
		if p := s.refuse(r); p != nil {
			fail(s.status, *p)
			return
		}
	}
	var answer []byte
	switch r.URL.Path {
	case wire.PathConf:
		s.confs = append(s.confs, r.URL.RawQuery)
		s.called = time.Now()
		c := s.conf
		if c.Time.IsZero() {
			c.Time = time.Now()
		}
		answer, _ = wire.EncodeConf(c)
	case wire.PathPings:
		body, _ := io.ReadAll(r.Body)
		if int64(len(body)) > s.conf.MaxPost {
			fail(http.StatusRequestEntityTooLarge, wire.Problem{Code: wire.CodeTooLarge, Reason: "too large"})
			return
		}
		post, err := wire.DecodePost(body)
		if err != nil {
			fail(http.StatusBadRequest, wire.Problem{Code: wire.CodeMalformed, Reason: err.Error()})
			return
		}
		ack := wire.Ack{Version: wire.Version, Seq: post.Seq, Time: time.Now()}
		for _, p := range post.Pings {
			if s.reject != nil {
				if why := s.reject(p); why != "" {
					ack.Rejected = append(ack.Rejected, wire.Rejected{HostID: p.HostID, At: p.At, Reason: why})
					continue
				}
			}
			ack.Accepted++
			s.pings = append(s.pings, p)
		}
		s.posts = append(s.posts, post)
		answer, _ = wire.EncodeAck(ack)
	default:
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(answer)
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	away := s.away
	s.mu.Unlock()
	if away {
		return nil, errors.New("connection refused")
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, r)
	return rec.Result(), nil
}

func (s *server) set(fn func(s *server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

func (s *server) got() []wire.Ping {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pings)
}

func (s *server) confCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.confs)
}

// logs collects what an agent logs.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func testConfig(dir string) config.Agent {
	cfg := config.DefaultAgent()
	cfg.BaseURL, cfg.GroupID, cfg.APIKey, cfg.StateDir = "http://heartwood.example.net:8081", testGroup, testKey, dir
	cfg.SelectionSeconds, cfg.DialSeconds = 10, 10 // machines that run tests are slow
	return cfg
}

func newAgent(t testing.TB, s *server, dir string, change func(*Options)) (*Agent, *logs) {
	t.Helper()
	l := &logs{}
	o := Options{
		Config: testConfig(dir), Log: slog.New(slog.NewTextHandler(l, nil)), HTTP: &http.Client{Transport: s}, Version: "1.2.3",
	}
	if change != nil {
		change(&o)
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a, l
}

// scripted is a connector whose processes answer at once, without a network, or hang.
type scripted struct {
	mu   sync.Mutex
	hung map[string]bool
	runs map[string]int // hello by address
}

func (s *scripted) HasCredentials(wire.Host) (string, bool) { return "", false }

func (s *scripted) Connect(h wire.Host, _ bool) (collect.Conn, error) {
	return &scriptedConn{s, model.Address(h.Hostname, int(h.Port))}, nil
}

type scriptedConn struct {
	s    *scripted
	addr string
}

func (c *scriptedConn) Run(ctx context.Context, _ string, cmd bson.D) (bson.Raw, error) {
	c.s.mu.Lock()
	hung := c.s.hung[c.addr]
	if c.s.runs == nil {
		c.s.runs = map[string]int{}
	}
	c.s.runs[c.addr]++
	c.s.mu.Unlock()
	if hung {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	switch cmd[0].Key {
	case "hello", "ping", "serverStatus":
		return mongotest.Doc(bson.D{
			{Key: "ok", Value: 1.0},
			{Key: "localTime", Value: time.Now()},
			{Key: "uptimeMillis", Value: time.Now().UnixMilli()},
			{Key: "version", Value: "7.0.14"},
		}), nil
	}
	return mongotest.Doc(bson.D{{Key: "ok", Value: 1.0}}), nil
}

func (c *scriptedConn) Certificate(context.Context) *wire.Certificate { return nil }

func (c *scriptedConn) Remote() (string, bool) { return "10.0.0.1", false }
func (c *scriptedConn) Close()                 {}

func hosts(n int) (list []wire.Host) {
	for i := range n {
		list = append(list, wire.Host{ID: fmt.Sprintf("%032x", i), Hostname: fmt.Sprintf("db%d.example.net", i), Port: 27017})
	}
	return list
}

// run starts an agent inside a synctest bubble and returns what stops it.
func run(t *testing.T, a *Agent) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func perHost(pings []wire.Ping) map[string][]wire.Ping {
	m := map[string][]wire.Ping{}
	for _, p := range pings {
		m[p.HostID] = append(m[p.HostID], p)
	}
	return m
}

func TestPollsEveryHostOnceAMinute(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(hosts(20)...)
		a, _ := newAgent(t, s, dir, func(o *Options) { o.connector, o.seeds = &scripted{}, []string{"db0.example.net:27017"} })
		stop := run(t, a)
		time.Sleep(10*time.Minute + 5*time.Second)
		stop()
		by := perHost(s.got())
		if len(by) != 20 {
			t.Fatalf("pings of %d hosts", len(by))
		}
		seconds := map[int]bool{}
		for id, pings := range by {
			if len(pings) < 10 || len(pings) > 12 {
				t.Errorf("host %s: %d pings in ten minutes", id, len(pings))
			}
			for i, p := range pings {
				if p.Late || len(p.Errors) > 0 {
					t.Fatalf("ping %+v", p)
				}
				if i > 1 && p.At.Sub(pings[i-1].At) != time.Minute {
					t.Errorf("host %s: %v between pings", id, p.At.Sub(pings[i-1].At))
				}
			}
			seconds[pings[len(pings)-1].At.Second()] = true
		}
		if len(seconds) < 10 {
			t.Errorf("visits are not spread over the minute: %v", seconds)
		}
		if q := s.confs[0]; !strings.Contains(q, "seed=db0.example.net%3A27017") || !strings.Contains(q, "type=MONITORING") {
			t.Errorf("configuration call %s", q)
		}
		if n := s.confCalls(); n < 9 || n > 12 {
			t.Errorf("%d configuration calls in ten minutes", n)
		}
		last := s.posts[len(s.posts)-1].Agent
		if !slices.ContainsFunc(s.posts, func(p wire.Post) bool { return len(p.Agent.LogTail) > 0 }) || last.Version != "1.2.3" || last.ID == "" {
			t.Errorf("agent info %+v", last)
		}
	})
}

func TestTenSecondsPeriod(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(hosts(3)...)
		s.conf.PingSeconds = 10
		a, _ := newAgent(t, s, dir, func(o *Options) { o.connector = &scripted{} })
		stop := run(t, a)
		time.Sleep(2 * time.Minute)
		stop()
		if n := len(s.got()); n < 36 || n > 40 {
			t.Errorf("%d pings of 3 hosts in two minutes", n)
		}
	})
}

func TestHungHostDelaysNobody(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(hosts(5)...)
		s.conf.PingSeconds = 10
		c := &scripted{hung: map[string]bool{"db2.example.net:27017": true}}
		a, _ := newAgent(t, s, dir, func(o *Options) { o.connector = c })
		stop := run(t, a)
		time.Sleep(5 * time.Minute)
		stop()
		by := perHost(s.got())
		for _, h := range s.conf.Hosts {
			pings := by[h.ID]
			if h.Hostname == "db2.example.net" {
				if len(pings) == 0 || len(pings) > 16 || pings[0].Errors[0].Code != 89 {
					t.Errorf("hung host: %d pings, %+v", len(pings), pings)
				}
				continue
			}
			if len(pings) < 29 {
				t.Errorf("%s: %d pings in five minutes beside a hung host", h.Hostname, len(pings))
			}
		}
	})
}

func TestServerAway(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(hosts(4)...)
		a, l := newAgent(t, s, dir, func(o *Options) { o.connector = &scripted{} })
		stop := run(t, a)
		time.Sleep(3 * time.Minute)
		before := len(s.got())
		s.set(func(s *server) { s.away = true })
		time.Sleep(30 * time.Minute)
		if n := a.Spooled(); n < 4*29 {
			t.Errorf("%d pings spooled in 30 minutes", n)
		}
		if n := l.count("pings stay in the spool"); n != 1 {
			t.Errorf("the same failure was logged %d times", n)
		}
		if n := l.count("configuration call failed"); n != 1 {
			t.Errorf("the same failed configuration call was logged %d times", n)
		}
		s.set(func(s *server) { s.away = false })
		for len(s.got()) == before {
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		s.set(func(s *server) {
			if d := time.Since(s.called); d > 3*time.Second {
				t.Errorf("the configuration call did not come with the server's return, the last was %v ago", d)
			}
		})
		time.Sleep(3 * time.Minute)
		stop()
		pings := s.got()[before:]
		late := 0
		for i, p := range pings {
			if p.Late {
				late++
			}
			if i > 0 && p.At.Before(pings[i-1].At) {
				t.Fatalf("ping %d of %s comes after one of %s", i, p.At, pings[i-1].At)
			}
		}
		if late < 4*27 || late > 4*30 {
			t.Errorf("%d pings are marked late", late)
		}
		if pings[len(pings)-1].Late {
			t.Error("the newest ping is marked late")
		}
		for id, list := range perHost(s.got()) {
			for i := 2; i < len(list); i++ {
				if d := list[i].At.Sub(list[i-1].At); d != time.Minute {
					t.Errorf("host %s: %v between pings", id, d)
				}
			}
		}
		if l.count("the server takes pings again") != 1 {
			t.Error("the recovery was not told once")
		}
	})
}

func TestSpoolSurvivesRestartWhileTheServerIsAway(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(hosts(2)...)
		agent := func() *Agent {
			a, _ := newAgent(t, s, dir, func(o *Options) { o.connector = &scripted{} })
			return a
		}
		stop := run(t, agent())
		time.Sleep(2 * time.Minute)
		s.set(func(s *server) { s.away = true })
		time.Sleep(5 * time.Minute)
		stop()
		stop = run(t, agent()) // goes on with the configuration it had
		time.Sleep(5 * time.Minute)
		s.set(func(s *server) { s.away = false })
		time.Sleep(2 * time.Minute)
		stop()
		for id, list := range perHost(s.got()) {
			if len(list) < 13 {
				t.Errorf("host %s: %d pings in 14 minutes", id, len(list))
			}
		}
		ids := map[string]bool{}
		for _, p := range s.posts {
			ids[p.Agent.ID] = true
		}
		if len(ids) != 1 {
			t.Errorf("the agent changed its id: %v", ids)
		}
	})
}

func TestStandbyTakesOver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.conf.State, s.conf.ConfSeconds = string(model.AgentStandby), 14
		c := &scripted{}
		a, l := newAgent(t, s, dir, func(o *Options) { o.connector = c })
		stop := run(t, a)
		time.Sleep(5 * time.Minute)
		if n := s.confCalls(); n < 19 || n > 24 {
			t.Errorf("%d configuration calls in five minutes of standing by", n)
		}
		if len(c.runs) > 0 || len(s.got()) > 0 {
			t.Error("an agent that stands by polls")
		}
		s.set(func(s *server) { s.conf.State, s.conf.Hosts = string(model.AgentActive), hosts(3) })
		time.Sleep(time.Minute)
		if n := len(perHost(s.got())); n != 3 {
			t.Errorf("a minute after taking over there are pings of %d hosts", n)
		}
		s.set(func(s *server) { s.conf.State, s.conf.Hosts = string(model.AgentStandby), nil })
		time.Sleep(30 * time.Second)
		before := len(s.got())
		time.Sleep(5 * time.Minute)
		stop()
		if n := len(s.got()); n != before {
			t.Errorf("%d pings after it was told to stand by", n-before)
		}
		if l.count("state=STANDBY") != 2 || l.count("state=ACTIVE") != 1 {
			t.Error("changes of state are not logged once each")
		}
	})
}

func TestWrongKeyIsToldOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(hosts(1)...)
		a, l := newAgent(t, s, dir, func(o *Options) { o.connector, o.Config.APIKey = &scripted{}, "wrong" })
		stop := run(t, a)
		time.Sleep(10 * time.Minute)
		stop()
		if n := l.count("BAD_KEY"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if l.count("wrong key") == 0 || len(s.got()) > 0 {
			t.Error("the reason is not in the log")
		}
	})
}

func TestRejectedPingsAreDroppedAndLogged(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(hosts(3)...)
		s.reject = func(p wire.Ping) string {
			if p.HostID == s.conf.Hosts[1].ID {
				return "too old"
			}
			return ""
		}
		a, l := newAgent(t, s, dir, func(o *Options) { o.connector = &scripted{} })
		stop := run(t, a)
		time.Sleep(90 * time.Second)
		if a.Spooled() != 0 {
			t.Errorf("%d pings wait", a.Spooled())
		}
		stop()
		if l.count("too old") == 0 || len(perHost(s.got())) != 2 {
			t.Error("rejected pings must be logged and dropped, others kept")
		}
	})
}

func TestMalformedPingCostsOnlyItself(t *testing.T) {
	s := newServer(hosts(9)...)
	a, l := newAgent(t, s, t.TempDir(), func(o *Options) { o.connector = &scripted{} })
	if err := a.Round(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	bad := s.conf.Hosts[4].ID
	s.set(func(s *server) {
		s.status = http.StatusBadRequest
		s.refuse = func(r *http.Request) *wire.Problem {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			post, err := wire.DecodePost(body)
			if err == nil && slices.ContainsFunc(post.Pings, func(p wire.Ping) bool { return p.HostID == bad }) {
				return &wire.Problem{Code: wire.CodeMalformed, Reason: "a ping is malformed"}
			}
			return nil
		}
	})
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(perHost(s.got())); n != 8 || a.Spooled() != 0 || l.count("never take a ping") != 1 {
		t.Errorf("%d hosts arrived, %d wait", n, a.Spooled())
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestClockAndVersionRefusalsKeepEverything(t *testing.T) {
	for _, code := range []string{wire.CodeClock, wire.CodeBadVersion, wire.CodeBadKey, wire.CodeUnavailable} {
		t.Run(code, func(t *testing.T) {
			s := newServer(hosts(3)...)
			a, l := newAgent(t, s, t.TempDir(), func(o *Options) { o.connector = &scripted{} })
			defer func() { _ = a.Close() }()
			if err := a.Round(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
			s.status, s.refuse = http.StatusBadRequest, func(*http.Request) *wire.Problem {
				return &wire.Problem{Code: code, Reason: "no"}
			}
			for range 3 {
				if err := a.Flush(t.Context()); err == nil {
					t.Fatal("no error")
				}
			}
			if a.Spooled() != 3 || l.count(code) != 1 {
				t.Errorf("%d wait, told %d times", a.Spooled(), l.count(code))
			}
			s.refuse = nil
			if err := a.Flush(t.Context()); err != nil || len(s.got()) != 3 {
				t.Errorf("afterwards: %d arrived, %v", len(s.got()), err)
			}
		})
	}
}

func TestSmallPosts(t *testing.T) {
	s := newServer(hosts(40)...)
	s.conf.MaxPost = 4000
	a, _ := newAgent(t, s, t.TempDir(), func(o *Options) { o.connector = &scripted{} })
	defer func() { _ = a.Close() }()
	if err := a.Round(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.got()) != 40 || len(s.posts) < 2 {
		t.Errorf("%d pings in %d posts", len(s.got()), len(s.posts))
	}
}

func TestClockIsCorrectedByTheServers(t *testing.T) {
	for _, tt := range []struct{ wrong, sent time.Duration }{
		{2 * time.Minute, 2 * time.Minute}, // the server shows it
		{40 * time.Minute, 0},              // the server would refuse it
		{-40 * time.Minute, 0},
	} {
		t.Run(tt.wrong.String(), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := newServer(hosts(1)...)
				a, l := newAgent(t, s, dir, func(o *Options) {
					o.connector, o.Now = &scripted{}, func() time.Time { return time.Now().Add(tt.wrong) }
				})
				stop := run(t, a)
				time.Sleep(5 * time.Minute)
				stop()
				for i, p := range s.got() {
					if d := time.Since(p.At); d < -time.Second || d > 6*time.Minute || p.Late {
						t.Errorf("ping %d is stamped %v ago, late %v", i, d, p.Late)
					}
					if p.SkewMS > 1000 || p.SkewMS < -1000 {
						t.Errorf("the host was blamed for %d ms", p.SkewMS)
					}
				}
				last := s.posts[len(s.posts)-1]
				if d := last.Sent.Sub(last.Pings[0].At); d < tt.sent-time.Minute || d > tt.sent+time.Minute {
					t.Errorf("the time of sending is %v off", d)
				}
				if l.count("clock differs") != 1 {
					t.Error("the difference is not told once")
				}
			})
		})
	}
}

func TestRoundsFillThePast(t *testing.T) {
	primary, secondary := mongotest.Start(t, "primary"), mongotest.Start(t, "secondary")
	s := newServer(
		wire.Host{ID: "p", Hostname: "127.0.0.1", Port: primary.Port(), DBStats: true},
		wire.Host{ID: "s", Hostname: "127.0.0.1", Port: secondary.Port()},
	)
	a, _ := newAgent(t, s, t.TempDir(), func(o *Options) { o.Config.SelectionSeconds = 3 })
	defer func() { _ = a.Close() }()
	from := time.Now().Add(-24 * time.Hour).Truncate(time.Minute).UTC()
	for m := range 45 {
		if err := a.Round(t.Context(), from.Add(time.Duration(m)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.got()) != 0 {
		t.Error("a round posts by itself")
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	by := perHost(s.got())
	if len(by["p"]) != 45 || len(by["s"]) != 45 || len(s.posts) > 2 {
		t.Fatalf("%d and %d pings in %d posts", len(by["p"]), len(by["s"]), len(s.posts))
	}
	s.set(func(s *server) { s.conf.Hosts = append(s.conf.Hosts, hosts(1)...) }) // found in what was posted
	if err := a.Round(t.Context(), from.Add(45*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n := a.Spooled(); n != 3 {
		t.Errorf("%d hosts were visited after the server found a third", n)
	}
	stats := 0
	for m, p := range by["p"] {
		if !p.At.Equal(from.Add(time.Duration(m)*time.Minute)) || !p.Late {
			t.Fatalf("ping %d: %v late %v", m, p.At, p.Late)
		}
		r, err := wire.DecodeReplies(p.Replies)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.LookupErr("dbStats"); err == nil {
			stats++
		}
	}
	if stats != 3 {
		t.Errorf("%d dbStats rounds in 45 minutes", stats)
	}
}

func TestOneAgentAFolder(t *testing.T) {
	s, dir := newServer(), t.TempDir()
	first, _ := newAgent(t, s, dir, func(o *Options) { o.connector = &scripted{} })
	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, _ := newAgent(t, s, dir, func(o *Options) { o.connector = &scripted{} })
	if err := second.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent in one folder: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := second.Flush(t.Context()); err != nil {
		t.Errorf("after the first ended: %v", err)
	}
	_ = second.Close()
}

func TestPasswordsAreNotKeptOnDisk(t *testing.T) {
	list := hosts(2)
	list[1].Username, list[1].Password = "monitor", "plain-secret"
	s, dir := newServer(list...), t.TempDir()
	a, _ := newAgent(t, s, dir, func(o *Options) { o.connector = &scripted{} })
	defer func() { _ = a.Close() }()
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, confFile))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := wire.DecodeConf(b)
	if err != nil || len(conf.Hosts) != 1 || conf.Hosts[0].Password != "" {
		t.Errorf("kept %+v, %v", conf.Hosts, err)
	}
}
