package lambda

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/replies"
)

const (
	genKey   = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
	user     = "ann@example.com"
	password = "Correct-horse-47"
)

// replicaSet starts the simulator. What it is, the log says: it is no real deployment.
func replicaSet(t testing.TB) *mongosim.Deployment {
	t.Helper()
	set, err := mongosim.Start(t.Context(), mongosim.Options{DBPath: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer stop()
		if err := set.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Logf("store on a simulated replica set of %d members", set.Len())
	return set
}

func settings(set *mongosim.Deployment, more ...string) []string {
	return append([]string{
		"HEARTWOOD_MONGO_MONGOURI=" + set.URI(), "HEARTWOOD_GEN_KEY=" + genKey, "HEARTWOOD_MMS_CENTRALURL=" + site.String(),
		"HEARTWOOD_INGESTION_MAXPOSTBYTES=716800",
	}, more...)
}

// account is a first user with an API key, and a group with an agent key.
type account struct {
	PublicKey, PrivateKey string
	Group, AgentKey       string
}

// provision makes them through the Public API behind a front.
func provision(t testing.TB, f *front) *account {
	t.Helper()
	a := &account{}
	var first struct {
		ProgrammaticAPIKey struct{ PublicKey, PrivateKey string }
	}
	call(t, &http.Client{Transport: f}, http.MethodPost, "/unauth/users", map[string]string{"username": user, "password": password, "firstName": "Ann", "lastName": "Lee"}, &first)
	a.PublicKey, a.PrivateKey = first.ProgrammaticAPIKey.PublicKey, first.ProgrammaticAPIKey.PrivateKey
	var group struct{ ID, AgentAPIKey string }
	call(t, a.client(f), http.MethodPost, "/groups", map[string]string{"name": "Shop & Söhne"}, &group)
	a.Group, a.AgentKey = group.ID, group.AgentAPIKey
	return a
}

// client signs with digest.
func (a *account) client(f *front) *http.Client {
	d := digest.NewTransport(a.PublicKey, a.PrivateKey)
	d.Transport = f
	return &http.Client{Transport: d}
}

func call(t testing.TB, c *http.Client, method, path string, in, out any) {
	t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, site.String()+"/api/public/v1.0"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %d %v: %.500s", method, path, resp.StatusCode, err, b)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
}

// TestAppBehindEveryFront: signed calls of the Public API, a sign-in with its cookies, compressed pages.
func TestAppBehindEveryFront(t *testing.T) {
	set := replicaSet(t)
	app := start(t, "app", settings(set)...)
	a := provision(t, &front{t: t, kind: "alb", to: app})
	for _, kind := range []string{"alb", "alb-single", "gateway", "url"} {
		t.Run(kind, func(t *testing.T) {
			f := &front{t: t, kind: kind, to: app}
			// A signature covers the address as it was written: more than one parameter, escaped characters, a name in the path.
			var groups struct {
				TotalCount int
				Results    []struct{ ID, Name string }
			}
			call(t, a.client(f), http.MethodGet, "/groups?pageNum=1&itemsPerPage=5&pretty=true", nil, &groups)
			if groups.TotalCount != 1 || groups.Results[0].ID != a.Group {
				t.Errorf("groups: %+v", groups)
			}
			var one struct{ ID string }
			if call(t, a.client(f), http.MethodGet, "/groups/byName/"+url.PathEscape("Shop & Söhne")+"?envelope=false&pretty=false", nil, &one); one.ID != a.Group {
				t.Errorf("by name: %+v", one)
			}
			wrong := &account{PublicKey: a.PublicKey, PrivateKey: "00000000-0000-0000-0000-000000000000"}
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, site.String()+"/api/public/v1.0/groups", nil)
			if resp, err := wrong.client(f).Do(r); err != nil || resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("a wrong key: %v, %v", resp, err)
			}
			signIn(t, f, "/g/"+a.Group+"/agents")
		})
	}
	if strings.Contains(app.said(), genKey) || strings.Contains(app.said(), a.PrivateKey) {
		t.Error("a secret is in the log")
	}
}

var csrf = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// signIn signs in as a browser does, which keeps cookies and takes gzip, and opens a page.
func signIn(t *testing.T, f *front, page string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Transport: f, Jar: jar}
	read := func(resp *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.Header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: status %d, not compressed", resp.Request.URL, resp.StatusCode)
		}
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d, %v: %.300s", resp.Request.URL, resp.StatusCode, err, b)
		}
		return string(b)
	}
	do := func(method, path, kind string, body io.Reader) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, site.String()+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "gzip")
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		return read(browser.Do(r)) //nolint:bodyclose // read closes it
	}
	token := csrf.FindStringSubmatch(do(http.MethodGet, "/login", "", nil))
	if token == nil {
		t.Fatal("the sign-in form has no token")
	}
	form := url.Values{"csrf": {token[1]}, "username": {user}, "password": {password}, "next": {page}}
	if got := do(http.MethodPost, "/login", "application/x-www-form-urlencoded", strings.NewReader(form.Encode())); !strings.Contains(got, "mmsGroupId") && !strings.Contains(got, "Agents") {
		t.Errorf("after the sign-in: %.300s", got)
	}
	cookies := jar.Cookies(&site)
	if len(cookies) == 0 {
		t.Error("no session")
	}
}

// TestAgentsThroughTheLoadBalancer: what agents send is binary both ways, and what they are told fits the balancer.
func TestAgentsThroughTheLoadBalancer(t *testing.T) {
	set := replicaSet(t)
	app, intake := start(t, "app", settings(set)...), start(t, "ingestion", settings(set)...)
	pages, agents := &front{t: t, kind: "alb", to: app}, &front{t: t, kind: "alb", to: intake}
	a := provision(t, pages)
	agent := newAgent(t, a)
	conf := agent.conf(agents, replies.Name(0)+":27017")
	if len(conf.Hosts) != 1 || conf.MaxPost != 716800 {
		t.Fatalf("%d hosts, posts of %d bytes at most", len(conf.Hosts), conf.MaxPost)
	}
	now := time.Now()
	ack, status := agent.post(agents, conf.Hosts, now.Add(-time.Minute), now)
	if status != http.StatusOK || ack.Accepted != 2 {
		t.Fatalf("status %d, %+v", status, ack)
	}
	var m struct {
		Measurements []struct {
			DataPoints []struct{ Value *float64 }
		}
	}
	end := now.UTC().Truncate(time.Minute).Add(time.Minute)
	call(t, a.client(pages), http.MethodGet, fmt.Sprintf("/groups/%s/hosts/%s/measurements?granularity=PT1M&start=%s&end=%s&m=CONNECTIONS",
		a.Group, conf.Hosts[0].ID, end.Add(-5*time.Minute).Format(time.RFC3339), end.Format(time.RFC3339)), nil, &m)
	points := 0
	for _, p := range m.Measurements[0].DataPoints {
		if p.Value != nil {
			points++
		}
	}
	if points < 1 {
		t.Errorf("nothing of the pings is there: %+v", m)
	}
	big := make([]byte, 800<<10)
	if status, body := agent.send(agents, big); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a post of %d kB: %d %.200s", len(big)>>10, status, body)
	} else if p, err := wire.DecodeProblem(body); err != nil || p.Code != wire.CodeTooLarge {
		t.Errorf("a post of %d kB: %+v, %v", len(big)>>10, p, err)
	}
}

// agent speaks the wire.
type agent struct {
	t    testing.TB
	a    *account
	info wire.AgentInfo
	tmpl *replies.Template
	seq  int64
}

func newAgent(t testing.TB, a *account) *agent {
	t.Helper()
	tmpl, err := replies.New()
	if err != nil {
		t.Fatal(err)
	}
	return &agent{t: t, a: a, tmpl: tmpl, info: wire.AgentInfo{
		ID: "a1", Session: "s1", Type: string(model.AgentMonitoring), Hostname: "agents", Version: "0", OS: "linux", Started: time.Now().UTC().Truncate(time.Second),
	}}
}

func (g *agent) conf(f *front, seeds ...string) wire.Conf {
	g.t.Helper()
	status, b := g.do(f, http.MethodGet, wire.PathConf+"?"+wire.ConfQuery(g.info, seeds).Encode(), nil)
	conf, err := wire.DecodeConf(b)
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("configuration: %d, %v", status, err)
	}
	return conf
}

func (g *agent) post(f *front, hosts []wire.Host, at ...time.Time) (wire.Ack, int) {
	g.t.Helper()
	g.seq++
	msg := wire.Post{Version: wire.Version, Agent: g.info, Sent: time.Now().UTC(), Seq: g.seq}
	for _, when := range at {
		for n, h := range hosts {
			z, err := wire.EncodeReplies(g.tmpl.At(nil, n, time.Hour, when))
			if err != nil {
				g.t.Fatal(err)
			}
			msg.Pings = append(msg.Pings, wire.Ping{
				HostID: h.ID, At: when.UTC().Truncate(time.Millisecond), RTT: 400, Address: fmt.Sprintf("%s:%d", h.Hostname, h.Port), IP: "127.0.0.1", Replies: z,
			})
		}
	}
	body, err := wire.EncodePost(msg)
	if err != nil {
		g.t.Fatal(err)
	}
	status, b := g.send(f, body)
	ack, err := wire.DecodeAck(b)
	if status == http.StatusOK && err != nil {
		g.t.Fatal(err)
	}
	return ack, status
}

func (g *agent) send(f *front, body []byte) (int, []byte) {
	g.t.Helper()
	return g.do(f, http.MethodPost, wire.PathPings, body)
}

func (g *agent) do(f *front, method, path string, body []byte) (int, []byte) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, site.String()+path, bytes.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.SetBasicAuth(g.a.Group, g.a.AgentKey)
	if len(body) > 0 {
		r.Header.Set("Content-Type", wire.ContentType)
	}
	resp, err := f.RoundTrip(r)
	if err != nil {
		g.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// TestAnAnswerThatIsTooLargeIsNever502: two days of all measurements do not fit the balancer; it says what to ask for instead. A
// function URL takes them at five minutes, and more than that is refused there, too.
func TestAnAnswerThatIsTooLargeIsNever502(t *testing.T) {
	set := replicaSet(t)
	app, intake := start(t, "app", settings(set)...), start(t, "ingestion", settings(set)...)
	balancer, direct := &front{t: t, kind: "alb", to: app}, &front{t: t, kind: "url", to: app}
	a := provision(t, balancer)
	agent := newAgent(t, a)
	agents := &front{t: t, kind: "alb", to: intake}
	hosts := agent.conf(agents, replies.Name(0)+":27017").Hosts
	now := time.Now().UTC()
	for h := range 47 {
		if ack, status := agent.post(agents, hosts[:1], now.Add(-time.Duration(h)*time.Hour)); status != http.StatusOK || ack.Accepted != 1 {
			t.Fatalf("%d, %+v", status, ack)
		}
	}
	ask := func(f *front, query string) (int, string) {
		t.Helper()
		address := fmt.Sprintf("%s/api/public/v1.0/groups/%s/hosts/%s/measurements?start=%s&end=%s&%s", site.String(), a.Group, hosts[0].ID,
			now.Add(-47*time.Hour).Format(time.RFC3339), now.Format(time.RFC3339), query)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := a.client(f).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	const many, most = "granularity=PT5M", "granularity=PT1M"
	status, body := ask(balancer, many)
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(body, `"errorCode":"RESPONSE_TOO_LARGE"`) || !strings.Contains(body, "Ask for less") {
		t.Errorf("behind the balancer: %d, %d bytes: %.200s", status, len(body), body)
	}
	if status, body = ask(balancer, most+"&m=CONNECTIONS&m=OPCOUNTER_CMD&m=MEMORY_RESIDENT"); status != http.StatusOK {
		t.Errorf("one measurement behind the balancer: %d, %.200s", status, body)
	}
	if status, body = ask(direct, many); status != http.StatusOK || len(body) < albAnswer {
		t.Errorf("behind a function URL: %d, %d bytes", status, len(body))
	}
	if status, body = ask(direct, most); status != http.StatusRequestEntityTooLarge || direct.largest > gatewayAnswer {
		t.Errorf("all measurements behind a function URL: %d, %d bytes", status, len(body))
	}
}

// TestSchedules: each function runs its duties when it is called, says what failed, and writes how late they are.
func TestSchedules(t *testing.T) {
	set := replicaSet(t)
	for _, name := range []string{"ingestion", "alerts"} {
		i := start(t, name, settings(set)...)
		all := i.passes(read(t, "scheduled.json"))
		if len(all) < 5 {
			t.Errorf("%s: duties %v", name, all)
		}
		one := all[len(all)/2]
		if got := i.passes([]byte(`{"passes":["` + one + `"]}`)); !slices.Equal(got, []string{one}) {
			t.Errorf("%s ran %v, want %s", name, got, one)
		}
		o := i.invoke([]byte(`{"passes":["` + one + `","nonsense"]}`))
		if fault := failure(t, o); !strings.Contains(fault, `there is no pass "nonsense"`) {
			t.Errorf("%s: %s", name, fault)
		}
		o = i.invoke([]byte(`{"Records":[]}`))
		if fault := failure(t, o); !strings.Contains(fault, "no known kind") {
			t.Errorf("%s: %s", name, fault)
		}
		o = i.invoke([]byte(`nonsense`))
		if fault := failure(t, o); !strings.Contains(fault, "no JSON") {
			t.Errorf("%s: %s", name, fault)
		}
		if late := lateness(t, i); len(late) < 2 || late[0] < 0 || late[0] > 60 {
			t.Errorf("%s: late by %v", name, late)
		}
	}
}

// failure is the message that the Runtime API was told.
func failure(t testing.TB, o outcome) string {
	t.Helper()
	var e struct{ ErrorMessage, ErrorType string }
	if err := json.Unmarshal(o.body, &e); err != nil || !o.failed || e.ErrorType == "" {
		t.Errorf("no error was reported: %v %s", err, o.body)
	}
	return e.ErrorMessage
}

// lateness reads the lines that CloudWatch takes for a metric.
func lateness(t testing.TB, i *instance) []float64 {
	t.Helper()
	var all []float64
	for line := range strings.Lines(i.said()) {
		if !strings.Contains(line, `"_aws"`) {
			continue
		}
		var m struct {
			AWS struct {
				Timestamp         int64
				CloudWatchMetrics []struct {
					Namespace  string
					Dimensions [][]string
					Metrics    []struct{ Name, Unit string }
				}
			} `json:"_aws"`
			FunctionName    string
			PassLateSeconds *float64
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		d := m.AWS.CloudWatchMetrics
		if len(d) != 1 || d[0].Namespace != "Heartwood" || fmt.Sprint(d[0].Dimensions, d[0].Metrics) != "[[FunctionName]] [{PassLateSeconds Seconds}]" ||
			m.FunctionName != "heartwood-"+i.name || m.PassLateSeconds == nil || time.Since(time.UnixMilli(m.AWS.Timestamp)).Abs() > time.Hour {
			t.Fatalf("not in the embedded metric format: %s", line)
		}
		all = append(all, *m.PassLateSeconds)
	}
	return all
}

// TestADatabaseThatIsAwayAtTheStart: the instance lives, says so, and serves once the database is there.
func TestADatabaseThatIsAwayAtTheStart(t *testing.T) {
	set := replicaSet(t)
	each := func(what func(int) error) {
		t.Helper()
		for n := range set.Len() {
			if err := what(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	each(set.Kill)
	for _, name := range functions {
		i := start(t, name, settings(set)...)
		f := &front{t: t, kind: "alb", to: i}
		for path, want := range map[string]int{"/monitor/health": 503, "/live": 200, "/": 503, "/api/public/v1.0/groups": 503, wire.PathConf: 503} {
			began := time.Now()
			resp, body := get(t, f, path)
			if took := time.Since(began); resp.StatusCode != want || took > 14*time.Second {
				t.Errorf("%s %s: %d after %v: %.200s", name, path, resp.StatusCode, took, body)
			}
			if strings.Contains(body, "127.0.0.1") {
				t.Errorf("%s %s names hosts: %s", name, path, body)
			}
		}
		if fault := failure(t, i.invoke([]byte(`{"passes":["hosts"]}`))); !strings.Contains(fault, "reach mongo.mongoUri") {
			t.Errorf("%s: a schedule was told %q", name, fault)
		}
		each(set.Restart)
		if err := set.WaitPrimary(t.Context()); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(patience)
		for {
			resp, body := get(t, f, "/monitor/health")
			if resp.StatusCode == http.StatusOK {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not recover: %d %s", name, resp.StatusCode, body)
			}
			time.Sleep(100 * time.Millisecond)
		}
		each(set.Kill)
	}
}

// TestAnInstanceThatWasFrozen answers its next request after the thaw, also when all its connections were cut meanwhile.
func TestAnInstanceThatWasFrozen(t *testing.T) {
	set := replicaSet(t)
	app, intake := start(t, "app", settings(set)...), start(t, "ingestion", settings(set)...)
	pages, agents := &front{t: t, kind: "alb", to: app}, &front{t: t, kind: "alb", to: intake}
	a := provision(t, pages)
	agent := newAgent(t, a)
	hosts := agent.conf(agents, replies.Name(0)+":27017").Hosts
	work := func(when string) {
		t.Helper()
		call(t, a.client(pages), http.MethodGet, "/groups/"+a.Group, nil, nil)
		if ack, status := agent.post(agents, hosts, time.Now()); status != http.StatusOK || ack.Accepted != 1 {
			t.Errorf("%s: a ping: %d %+v", when, status, ack)
		}
		for _, f := range []*front{pages, agents} {
			if resp, body := get(t, f, "/monitor/health"); resp.StatusCode != http.StatusOK {
				t.Errorf("%s: health: %d %s", when, resp.StatusCode, body)
			}
		}
	}
	frozen := func(meanwhile func()) {
		t.Helper()
		for _, i := range []*instance{app, intake} {
			i.freeze()
		}
		meanwhile()
		for _, i := range []*instance{app, intake} {
			if err := i.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
	}
	work("before")
	frozen(func() { time.Sleep(7 * time.Second) }) // longer than a heartbeat of the driver may be unanswered
	work("after a pause")
	frozen(func() {
		for n := range set.Len() {
			if err := errors.Join(set.Kill(n), set.Restart(n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.WaitPrimary(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	work("after every connection was cut")
}

// freeze stops the process as Lambda does between two events, and waits until it stands.
func (i *instance) freeze() {
	i.t.Helper()
	if err := i.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		i.t.Fatal(err)
	}
	for range 500 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", i.cmd.Process.Pid))
		if err != nil {
			i.t.Fatal(err)
		}
		if _, rest, ok := strings.Cut(string(b), ") "); ok && strings.HasPrefix(rest, "T") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	i.t.Fatal("the process does not stop")
}

// TestWorkEndsBeforeLambdaEndsIt: an event whose time is nearly over is answered, not killed.
func TestWorkEndsBeforeLambdaEndsIt(t *testing.T) {
	set := replicaSet(t)
	app := start(t, "app", settings(set)...)
	f := &front{t: t, kind: "alb", to: app}
	a := provision(t, f)
	for n := range set.Len() {
		if err := set.Kill(n); err != nil {
			t.Fatal(err)
		}
	}
	const within = 5 * time.Second
	r := page(t, "/login")
	began := time.Now()
	o := app.invokeWithin(f.balancer(r, r.Header, nil), within)
	var got struct{ StatusCode int }
	if err := json.Unmarshal(o.body, &got); err != nil || o.failed || got.StatusCode < 500 || time.Since(began) > within {
		t.Errorf("%v: %d after %v, %v (group %s)", o.failed, got.StatusCode, time.Since(began), err, a.Group)
	}
}

// TestSettingsThatNoWaitingMends end the start with a reason and without the secrets.
func TestSettingsThatNoWaitingMends(t *testing.T) {
	for name, c := range map[string]struct {
		environ []string
		want    []string
	}{
		"no replica set": {[]string{"HEARTWOOD_GEN_KEY=" + genKey}, []string{"mongo.mongoUri is not set", "embedded database would be lost", "hint: set HEARTWOOD_MONGO_MONGOURI"}},
		"no key":         {[]string{"HEARTWOOD_MONGO_MONGOURI=mongodb://u:s3cret@a,b,c/"}, []string{"heartwood.gen.key is not set", "hint: set HEARTWOOD_GEN_KEY"}},
		"a bad key":      {[]string{"HEARTWOOD_MONGO_MONGOURI=mongodb://a,b,c/", "HEARTWOOD_GEN_KEY=czNjcmV0"}, []string{"heartwood.gen.key: it holds 6 bytes, not 24"}},
		"a bad address":  {[]string{"HEARTWOOD_MONGO_MONGOURI=http://s3cret", "HEARTWOOD_GEN_KEY=" + genKey}, []string{"mongo.mongoUri: a connection string begins with"}},
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t, "health", c.environ...)
			select {
			case <-i.ended:
			case <-time.After(patience):
				t.Fatal("it runs")
			}
			if code := i.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code %d", code)
			}
			said := i.said()
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q:\n%s", want, said)
				}
			}
			for _, secret := range []string{genKey, "czNjcmV0", "s3cret"} {
				if strings.Contains(said, secret) {
					t.Errorf("it shows a secret:\n%s", said)
				}
			}
		})
	}
}

// TestAnotherSitesKey: the instance answers 503 and says in its log what is wrong; nothing is written.
func TestAnotherSitesKey(t *testing.T) {
	set := replicaSet(t)
	provision(t, &front{t: t, kind: "alb", to: start(t, "app", settings(set)...)})
	other := start(t, "app", "HEARTWOOD_MONGO_MONGOURI="+set.URI(), "HEARTWOOD_GEN_KEY=OTg3NjU0MzIxMGFiY2RlZjAxMjM0NTY3")
	if resp, body := get(t, &front{t: t, kind: "alb", to: other}, "/monitor/health"); resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "fingerprint") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if !strings.Contains(other.said(), "encrypted with another gen.key") {
		t.Errorf("it says\n%s", other.said())
	}
}

// TestMetricsOfTheSite: the health function shows what the store knows, and no zeros of what other instances count.
func TestMetricsOfTheSite(t *testing.T) {
	set := replicaSet(t)
	for _, name := range []string{"ingestion", "alerts"} {
		start(t, name, settings(set)...).passes(read(t, "scheduled.json"))
	}
	f := &front{t: t, kind: "alb", to: start(t, "health", settings(set)...)}
	_, body := get(t, f, "/metrics")
	for _, want := range []string{`heartwood_pass_late_seconds{pass="compact"}`, `heartwood_pass_late_seconds{pass="alerts-deliver"}`, "heartwood_alerts_evaluation_late_seconds ", "heartwood_alerts_deliveries_waiting 0"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	for _, not := range []string{"heartwood_ingestion_", "heartwood_alerts_evaluations_total", "heartwood_alerts_evaluation_seconds_bucket"} {
		if strings.Contains(body, not) {
			t.Errorf("/metrics shows %s", not)
		}
	}
	if resp, body := get(t, f, "/health"); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"mms_db":"OK"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
