package collect_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/collect"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

var everything = collect.Flags{Logs: true, DBStats: true, Diagnostics: true}

// start makes a host to visit. Changes to the configuration come before the connection.
func start(t *testing.T, p *mongotest.Process, change func(*config.Agent)) *collect.Host {
	t.Helper()
	cfg := config.DefaultAgent()
	cfg.SelectionSeconds, cfg.DialSeconds = 3, 3
	if change != nil {
		change(&cfg)
	}
	d, err := collect.NewDialer(&cfg, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	h := collect.NewHost(wire.Host{ID: "h1", Hostname: "127.0.0.1", Port: p.Port()}, d, obs.Discard())
	t.Cleanup(h.Close)
	return h
}

// visit makes one visit at a virtual time, with slow commands waited for.
func visit(t *testing.T, h *collect.Host, at time.Time) (wire.Ping, bson.Raw) {
	t.Helper()
	p, ok := h.Do(t.Context(), collect.Visit{Stamp: at, Period: time.Minute, Flags: everything})
	if !ok {
		t.Fatal("nothing to post")
	}
	if p.Replies == nil {
		return p, nil
	}
	r, err := wire.DecodeReplies(p.Replies)
	if err != nil {
		t.Fatal(err)
	}
	return p, r
}

func names(t *testing.T, r bson.Raw) []string {
	t.Helper()
	elements, err := r.Elements()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range elements {
		out = append(out, e.Key())
	}
	slices.Sort(out)
	return out
}

var day = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func TestMatrix(t *testing.T) {
	tests := []struct {
		kind          string
		first, second []string
	}{
		{
			"primary",
			[]string{
				"buildInfo", "connPoolStats", "dbStats", "getCmdLineOpts", "getParameter", "hello", "hostInfo", "isSelf", "listDatabases",
				"log", "oplogStats", "replSetGetConfig", "replSetGetStatus", "serverStatus", "startupWarnings", "systemMetrics",
			},
			[]string{"connPoolStats", "hello", "log", "oplogStats", "replSetGetStatus", "serverStatus", "systemMetrics"},
		},
		{
			"secondary",
			[]string{
				"buildInfo", "connPoolStats", "dbStats", "getCmdLineOpts", "getParameter", "hello", "hostInfo", "isSelf", "listDatabases",
				"log", "oplogStats", "replSetGetConfig", "replSetGetStatus", "serverStatus", "startupWarnings", "systemMetrics",
			},
			[]string{"connPoolStats", "hello", "log", "oplogStats", "replSetGetStatus", "serverStatus", "systemMetrics"},
		},
		{
			"standalone",
			[]string{
				"buildInfo", "connPoolStats", "dbStats", "getCmdLineOpts", "getParameter", "hello", "hostInfo", "isSelf", "listDatabases",
				"log", "serverStatus", "startupWarnings", "systemMetrics",
			},
			[]string{"connPoolStats", "hello", "log", "serverStatus", "systemMetrics"},
		},
		{
			"arbiter",
			[]string{
				"buildInfo", "getCmdLineOpts", "getParameter", "hello", "hostInfo", "isSelf", "replSetGetConfig", "replSetGetStatus",
				"serverStatus", "startupWarnings", "systemMetrics",
			},
			[]string{"hello", "replSetGetStatus", "serverStatus", "systemMetrics"},
		},
		{
			"mongos",
			[]string{
				"buildInfo", "configMongos", "configSettings", "configShards", "configVersion", "connPoolStats", "dbStats",
				"getCmdLineOpts", "getParameter", "hello", "hostInfo", "isSelf", "listDatabases", "log", "serverStatus", "startupWarnings",
				"systemMetrics",
			},
			[]string{"connPoolStats", "hello", "log", "serverStatus", "systemMetrics"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			proc := mongotest.Start(t, tt.kind)
			h := start(t, proc, nil)
			p, r := visit(t, h, day)
			if len(p.Errors) > 0 {
				t.Errorf("failures: %+v", p.Errors)
			}
			if got := names(t, r); !slices.Equal(got, tt.first) {
				t.Errorf("first visit\n got %v\nwant %v", got, tt.first)
			}
			if !p.At.Equal(day) || p.IP != "127.0.0.1" || !p.Local || p.RTT <= 0 || p.Address != h.Address() {
				t.Errorf("ping %+v", p)
			}
			if _, r = visit(t, h, day.Add(time.Minute)); !slices.Equal(names(t, r), tt.second) {
				t.Errorf("second visit\n got %v\nwant %v", names(t, r), tt.second)
			}
			if n := proc.MostConns(); n > 3 {
				t.Errorf("%d connections", n)
			}
			if apps := proc.Apps(); !slices.Equal(apps, []string{"Heartwood Monitoring Agent v1.2.3"}) {
				t.Errorf("application names %v", apps)
			}
		})
	}
}

func TestPeriods(t *testing.T) {
	proc := mongotest.Start(t, "mongos")
	h := start(t, proc, nil)
	count := map[string]int{}
	for m := range 121 {
		_, r := visit(t, h, day.Add(time.Duration(m)*time.Minute))
		for _, n := range names(t, r) {
			count[n]++
		}
	}
	want := map[string]int{
		"hello": 121, "serverStatus": 121, "buildInfo": 3, "hostInfo": 3, "getParameter": 1, "startupWarnings": 1,
		"listDatabases": 7, "dbStats": 7, "configShards": 25, "connPoolStats": 121,
	}
	for name, n := range want {
		if count[name] != n {
			t.Errorf("%s came %d times in two hours, want %d", name, count[name], n)
		}
	}
}

func TestClockThatIsSetBack(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	proc.Set("connPoolStats", mongotest.Failure(13, "Unauthorized", "not authorized"))
	h := start(t, proc, nil)
	visit(t, h, day)
	back := day.Add(-24 * time.Hour)
	visit(t, h, back)
	if n := proc.Calls("listDatabases"); n != 1 {
		t.Errorf("listDatabases was asked %d times at once", n)
	}
	visit(t, h, back.Add(21*time.Minute))
	for _, name := range []string{"listDatabases", "replSetGetConfig", "connPoolStats"} {
		if n := proc.Calls(name); n != 2 {
			t.Errorf("%s was asked %d times in 21 minutes", name, n)
		}
	}
}

func TestUnauthorised(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	proc.RequireUser(t, "monitor", "secret")
	h := start(t, proc, nil)
	for m := range 3 {
		p, r := visit(t, h, day.Add(time.Duration(m)*time.Minute))
		if !slices.ContainsFunc(p.Errors, func(f wire.Failure) bool { return f.Command == "serverStatus" && f.Code == 13 }) {
			t.Errorf("visit %d does not say why: %+v", m, p.Errors)
		}
		if _, err := r.LookupErr("hello"); err != nil {
			t.Errorf("visit %d has no hello", m)
		}
	}
	if n := proc.Calls("serverStatus"); n != 1 {
		t.Errorf("serverStatus was asked %d times within ten minutes of its refusal", n)
	}
	visit(t, h, day.Add(11*time.Minute))
	if n := proc.Calls("serverStatus"); n != 2 {
		t.Errorf("serverStatus was asked %d times after ten minutes", n)
	}
}

func TestSignsIn(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	proc.RequireUser(t, "monitor", "se:cr@et")
	for name, change := range map[string]func(*config.Agent){
		"by settings":          func(c *config.Agent) { c.AuthUsername, c.AuthPassword = "monitor", "se:cr@et" },
		"by connection string": func(c *config.Agent) { c.MongoURI = "mongodb://monitor:se%3Acr%40et@db1.example.net/?replicaSet=rs0" },
	} {
		t.Run(name, func(t *testing.T) {
			p, r := visit(t, start(t, proc, change), day)
			if len(p.Errors) > 0 {
				t.Errorf("failures: %+v", p.Errors)
			}
			if _, err := r.LookupErr("replSetGetStatus"); err != nil {
				t.Error("no replSetGetStatus")
			}
		})
	}
	t.Run("with what the server keeps", func(t *testing.T) {
		cfg := config.DefaultAgent()
		d, err := collect.NewDialer(&cfg, "1")
		if err != nil {
			t.Fatal(err)
		}
		h := collect.NewHost(wire.Host{
			ID: "h1", Hostname: "127.0.0.1", Port: proc.Port(), Username: "monitor", Password: "se:cr@et", Mechanism: "MONGODB_CR",
		}, d, obs.Discard())
		defer h.Close()
		if p, _ := visit(t, h, day); len(p.Errors) > 0 {
			t.Errorf("failures: %+v", p.Errors)
		}
	})
}

func TestRefusedCredentialsBackOff(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	proc.RequireUser(t, "monitor", "secret")
	h := start(t, proc, func(c *config.Agent) { c.AuthUsername, c.AuthPassword = "monitor", "wrong" })
	for m := range 4 {
		p, r := visit(t, h, day.Add(time.Duration(m)*time.Minute))
		if len(p.Errors) != 1 || p.Errors[0].Command != "authenticate" || p.Errors[0].Code != 18 {
			t.Errorf("visit %d: %+v", m, p.Errors)
		}
		if _, err := r.LookupErr("hello"); err != nil {
			t.Errorf("visit %d has no hello", m)
		}
	}
	before := proc.Calls("saslStart")
	if before != 1 {
		t.Errorf("%d attempts to sign in within five minutes", before)
	}
	proc.RequireUser(t, "monitor", "wrong") // the password was set to what the agent has
	p, r := visit(t, h, day.Add(6*time.Minute))
	if _, err := r.LookupErr("serverStatus"); err != nil || len(p.Errors) > 0 {
		t.Errorf("after the password was mended: %+v", p.Errors)
	}
}

func TestSignInThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	t.Run("refused for another reason than the credentials", func(t *testing.T) {
		for _, code := range []int32{91, 211, 11602, 13436} {
			proc := mongotest.Start(t, "primary")
			proc.RequireUser(t, "monitor", "secret")
			proc.Set("saslStart", mongotest.Failure(code, "Transient", "in transition"))
			h := start(t, proc, func(c *config.Agent) { c.AuthUsername, c.AuthPassword = "monitor", "secret" })
			p, r := visit(t, h, day)
			if len(p.Errors) != 1 || p.Errors[0].Command != "authenticate" || p.Errors[0].Code != code || r == nil {
				t.Errorf("code %d: failures %+v", code, p.Errors)
			}
			proc.Set("saslStart", nil)
			if p, r = visit(t, h, day.Add(time.Minute)); len(p.Errors) > 0 || !slices.Contains(names(t, r), "serverStatus") {
				t.Errorf("code %d, a minute later: failures %+v", code, p.Errors)
			}
		}
	})
	t.Run("cut off", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.RequireUser(t, "monitor", "secret")
		addr := proc.Addr
		proc.Handle("saslStart", func(bson.Raw) bson.Raw { go proc.Kill(); select {} })
		h := start(t, proc, func(c *config.Agent) { c.AuthUsername, c.AuthPassword = "monitor", "secret" })
		if p, _ := visit(t, h, day); len(p.Errors) != 1 || p.Errors[0].Code != 6 {
			t.Errorf("failures %+v", p.Errors)
		}
		proc.Set("saslStart", nil)
		proc.Listen(t, addr)
		if p, r := visit(t, h, day.Add(time.Minute)); len(p.Errors) > 0 || !slices.Contains(names(t, r), "serverStatus") {
			t.Errorf("after it came back: %+v", p.Errors)
		}
	})
	t.Run("unanswered, as when the server waits for its directory", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.RequireUser(t, "monitor", "secret")
		proc.Hang("saslStart")
		h := start(t, proc, func(c *config.Agent) {
			c.AuthUsername, c.AuthPassword, c.DialSeconds, c.SelectionSeconds = "monitor", "secret", 1, 1
		})
		p, r := visit(t, h, day)
		if len(p.Errors) != 1 || p.Errors[0].Command != "authenticate" || p.Errors[0].Code != 89 || r == nil {
			t.Errorf("failures %+v", p.Errors)
		}
		proc.Resume("saslStart")
		if p, r = visit(t, h, day.Add(time.Minute)); len(p.Errors) > 0 || !slices.Contains(names(t, r), "serverStatus") {
			t.Errorf("after it answers again: %+v", p.Errors)
		}
	})
}

func TestMechanismThatCannotBeUsed(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	cfg := config.DefaultAgent()
	d, err := collect.NewDialer(&cfg, "1")
	if err != nil {
		t.Fatal(err)
	}
	h := collect.NewHost(wire.Host{ID: "h1", Hostname: "127.0.0.1", Port: proc.Port(), Username: "monitor", Mechanism: "NO_SUCH"}, d, obs.Discard())
	defer h.Close()
	p, r := visit(t, h, day)
	if len(p.Errors) != 1 || p.Errors[0].Command != "authenticate" {
		t.Errorf("failures %+v", p.Errors)
	}
	if _, err := r.LookupErr("hello"); err != nil {
		t.Error("the host does not show what it is")
	}
}

func TestArbiterIsNotSignedInTo(t *testing.T) {
	proc := mongotest.Start(t, "arbiter")
	proc.RequireUser(t, "", "")
	h := start(t, proc, func(c *config.Agent) { c.AuthUsername, c.AuthPassword = "monitor", "secret" })
	p, r := visit(t, h, day)
	if len(p.Errors) > 0 {
		t.Errorf("an arbiter that refuses is as it should be: %+v", p.Errors)
	}
	if got := names(t, r); !slices.Equal(got, []string{"buildInfo", "hello", "isSelf"}) {
		t.Errorf("replies %v", got)
	}
	if n := proc.Calls("saslStart"); n != 0 {
		t.Errorf("%d attempts to sign in", n)
	}
}

func TestUnreachable(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	h := start(t, proc, nil)
	visit(t, h, day)
	proc.Kill()
	p, r := visit(t, h, day.Add(time.Minute))
	if len(p.Errors) != 1 || p.Errors[0].Command != "connect" || p.Errors[0].Code != 6 || p.Errors[0].Message == "" {
		t.Errorf("failures %+v", p.Errors)
	}
	if r != nil || !p.At.Equal(day.Add(time.Minute)) {
		t.Errorf("replies %v at %v", r, p.At)
	}
	proc.Listen(t, proc.Addr)
	if p, _ = visit(t, h, day.Add(2*time.Minute)); len(p.Errors) > 0 {
		t.Errorf("after it came back: %+v", p.Errors)
	}
}

// TestWhyUnreachable: what people read is the reason, in the same words each time.
func TestWhyUnreachable(t *testing.T) {
	t.Parallel()
	listen := func(serve func(net.Conn)) int32 {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				serve(c)
			}
		}()
		return int32(ln.Addr().(*net.TCPAddr).Port) //nolint:gosec,forcetypeassert // a TCP port
	}
	closed := listen(func(c net.Conn) { _ = c.Close() })
	silent := listen(func(net.Conn) {})
	cfg := config.DefaultAgent()
	cfg.SelectionSeconds, cfg.DialSeconds = 1, 5
	d, err := collect.NewDialer(&cfg, "1")
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[int32]string{
		closed: "the connection was closed before an answer came: the process may require TLS, or take no more connections",
		silent: "no answer within the time limit",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			h := collect.NewHost(wire.Host{ID: "h1", Hostname: "127.0.0.1", Port: port}, d, obs.Discard())
			defer h.Close()
			for m := range 2 {
				p, _ := visit(t, h, day.Add(time.Duration(m)*time.Minute))
				if len(p.Errors) != 1 || p.Errors[0].Command != "connect" || p.Errors[0].Code != 6 || p.Errors[0].Message != want {
					t.Errorf("failures %+v, want %q", p.Errors, want)
				}
			}
		})
	}
}

func TestStaleConnectionIsNoOutage(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	h := start(t, proc, func(c *config.Agent) { c.SelectionSeconds = 30 })
	visit(t, h, day)
	addr := proc.Addr
	proc.Kill()
	proc.Listen(t, addr)
	if p, _ := visit(t, h, day.Add(time.Minute)); len(p.Errors) > 0 {
		t.Errorf("failures after a restart between two visits: %+v", p.Errors)
	}
}

func TestFailures(t *testing.T) {
	t.Run("serverStatus is asked again without oplog", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.Handle("serverStatus", func(cmd bson.Raw) bson.Raw {
			if on, _ := cmd.Lookup("oplog").AsInt64OK(); on == 1 {
				return mongotest.Failure(17347, "Location17347", "Problem reading earliest entry from oplog")
			}
			return nil
		})
		h := start(t, proc, nil)
		p, r := visit(t, h, day)
		if len(p.Errors) > 0 {
			t.Errorf("failures %+v", p.Errors)
		}
		if ts, _, ok := r.Lookup("oplogBounds", "first", "ts").TimestampOK(); !ok || ts != 1795232000 {
			t.Errorf("oplog bounds %v", r.Lookup("oplogBounds"))
		}
		visit(t, h, day.Add(time.Minute))
		if n := proc.Calls("serverStatus"); n != 3 {
			t.Errorf("%d calls in two visits", n)
		}
	})
	t.Run("an unknown command is not asked again", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.Set("getDiagnosticData", mongotest.Failure(59, "CommandNotFound", "no such command"))
		h := start(t, proc, nil)
		for m := range 3 {
			if p, _ := visit(t, h, day.Add(time.Duration(m)*time.Minute)); len(p.Errors) > 0 {
				t.Errorf("failures %+v", p.Errors)
			}
		}
		if n := proc.Calls("getDiagnosticData"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("collStats gives way to the aggregation stage", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.Set("collStats", mongotest.Failure(59, "CommandNotFound", "no such command"))
		proc.Set("aggregate", mongotest.Doc(bson.D{{Key: "cursor", Value: bson.D{
			{Key: "firstBatch", Value: bson.A{bson.D{{Key: "storageStats", Value: bson.D{{Key: "maxSize", Value: int64(77)}}}}}},
			{Key: "id", Value: int64(0)},
			{Key: "ns", Value: "local.oplog.rs"},
		}}, {Key: "ok", Value: 1.0}}))
		p, r := visit(t, start(t, proc, nil), day)
		if n, _ := r.Lookup("oplogStats", "maxSize").AsInt64OK(); n != 77 || len(p.Errors) > 0 {
			t.Errorf("oplogStats %v, failures %+v", r.Lookup("oplogStats"), p.Errors)
		}
	})
	t.Run("hello is isMaster on old servers", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.Set("hello", mongotest.Failure(59, "CommandNotFound", "no such command: 'hello'"))
		if p, r := visit(t, start(t, proc, nil), day); len(p.Errors) > 0 || r.Lookup("hello").Type != bson.TypeEmbeddedDocument {
			t.Errorf("failures %+v", p.Errors)
		}
	})
	t.Run("changing state keeps what else there is", func(t *testing.T) {
		for _, code := range []int32{189, 211, 11600, 11602, 13436} {
			proc := mongotest.Start(t, "secondary")
			proc.Set("replSetGetStatus", mongotest.Failure(code, "Transient", "in transition"))
			p, r := visit(t, start(t, proc, nil), day)
			got := names(t, r)
			if len(p.Errors) != 1 || p.Errors[0].Code != code || !slices.Contains(got, "serverStatus") || !slices.Contains(got, "hostInfo") {
				t.Errorf("code %d: failures %+v, replies %v", code, p.Errors, got)
			}
		}
	})
	t.Run("diagnostic data by role", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.Set("getDiagnosticData", mongotest.Doc(bson.D{{Key: "data", Value: bson.D{
			{Key: "common", Value: bson.D{{Key: "systemMetrics", Value: bson.D{{Key: "cpu", Value: bson.D{{Key: "user_ms", Value: 5}}}}}}}, {Key: "shard", Value: bson.D{}},
		}}, {Key: "ok", Value: 1.0}}))
		if _, r := visit(t, start(t, proc, nil), day); r.Lookup("systemMetrics", "cpu", "user_ms").Type != bson.TypeInt32 {
			t.Errorf("systemMetrics %v", r.Lookup("systemMetrics"))
		}
	})
	t.Run("a slow command is asked less often", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.Set("getDiagnosticData", mongotest.Failure(50, "MaxTimeMSExpired", "operation exceeded time limit"))
		h := start(t, proc, nil)
		for m := range 30 {
			visit(t, h, day.Add(time.Duration(m)*time.Minute))
		}
		if n := proc.Calls("getDiagnosticData"); n < 4 || n > 6 {
			t.Errorf("asked %d times in half an hour, want about 5: after 1, 2, 4, 8, 16 minutes", n)
		}
		if n := proc.Calls("serverStatus"); n != 30 {
			t.Errorf("serverStatus was asked %d times", n)
		}
	})
	t.Run("a damaged reply is a failure", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.Set("replSetGetStatus", bson.Raw("\x21\x00\x00\x00\x01ok\x00\x00\x00\x00\x00\x00\x00\xf0\x3f\x03set\x00\x7f\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		p, r := visit(t, start(t, proc, nil), day)
		if len(p.Errors) != 1 || p.Errors[0].Command != "replSetGetStatus" || !slices.Contains(names(t, r), "serverStatus") {
			t.Errorf("failures %+v", p.Errors)
		}
	})
	t.Run("a removed member says why", func(t *testing.T) {
		proc := mongotest.Start(t, "secondary")
		proc.Set("replSetGetStatus", mongotest.Failure(93, "InvalidReplicaSetConfig", "Our replica set config is invalid or we are not a member of it"))
		p, _ := visit(t, start(t, proc, nil), day)
		if len(p.Errors) != 1 || p.Errors[0].Code != 93 {
			t.Errorf("failures %+v", p.Errors)
		}
	})
	t.Run("one database that fails costs only itself", func(t *testing.T) {
		proc := mongotest.Start(t, "primary")
		proc.Set("dbStats-local", mongotest.Failure(8, "UnknownError", "no"))
		p, r := visit(t, start(t, proc, nil), day)
		list, err := r.Lookup("dbStats", "list").Array().Values()
		if err != nil || len(list) == 0 || len(p.Errors) != 1 || p.Errors[0].Command != "dbStats" {
			t.Errorf("%d databases, failures %+v", len(list), p.Errors)
		}
	})
}

func TestRestartAsksEverythingAgain(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	h := start(t, proc, nil)
	visit(t, h, day)
	processID := bson.NewObjectID()
	proc.Set("hello", mongotest.Doc(bson.D{
		{Key: "isWritablePrimary", Value: true},
		{Key: "setName", Value: "rs0"},
		{Key: "maxWireVersion", Value: 10},
		{Key: "topologyVersion", Value: bson.D{{Key: "processId", Value: processID}, {Key: "counter", Value: int64(1)}}},
		{Key: "ok", Value: 1.0},
	}))
	_, r := visit(t, h, day.Add(time.Minute))
	if !slices.Contains(names(t, r), "hostInfo") || !slices.Contains(names(t, r), "startupWarnings") {
		t.Errorf("after a restart: %v", names(t, r))
	}
}

func TestLogHasOnlyNewLines(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	h := start(t, proc, nil)
	say := func(total int, lines ...any) {
		proc.Set("getLog-global", mongotest.Doc(bson.D{{Key: "totalLinesWritten", Value: total}, {Key: "log", Value: bson.A(lines)}, {Key: "ok", Value: 1.0}}))
	}
	lines := func(r bson.Raw) int {
		v, err := r.Lookup("log", "log").Array().Values()
		if err != nil {
			t.Fatal(err)
		}
		return len(v)
	}
	say(3, "a", "b", "c")
	if _, r := visit(t, h, day); lines(r) != 3 {
		t.Errorf("%d lines at first", lines(r))
	}
	say(5, "a", "b", "c", "d", "e")
	if _, r := visit(t, h, day.Add(time.Minute)); lines(r) != 2 {
		t.Errorf("%d lines, want the 2 new ones", lines(r))
	}
	if _, r := visit(t, h, day.Add(2*time.Minute)); lines(r) != 0 {
		t.Errorf("%d lines when nothing was written", lines(r))
	}
	say(2, "x", "y")
	if _, r := visit(t, h, day.Add(3*time.Minute)); lines(r) != 2 {
		t.Errorf("%d lines after the count went back", lines(r))
	}
}

// TestSlowCommandsRunBeside shows that a dbStats round that hangs delays no sample, and that visits never queue.
func TestSlowCommandsRunBeside(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	proc.Hang("listDatabases")
	h := start(t, proc, nil)
	v := collect.Visit{Now: time.Now, Period: time.Minute, Flags: everything}
	for range 3 {
		p, ok := h.Do(t.Context(), v)
		if !ok || len(p.Errors) > 0 {
			t.Fatalf("visit beside a hanging command: %v %+v", ok, p.Errors)
		}
	}
	if n := proc.Calls("listDatabases"); n > 1 {
		t.Errorf("listDatabases was asked %d times while it hung", n)
	}
	proc.Resume("listDatabases")
	for {
		p, ok := h.Do(t.Context(), v)
		if !ok {
			t.Fatal("no ping")
		}
		r, err := wire.DecodeReplies(p.Replies)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.LookupErr("dbStats"); err == nil {
			break
		}
	}
	if n := proc.MostConns(); n > 3 {
		t.Errorf("%d connections", n)
	}
}

func TestNeverQueues(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	h := start(t, proc, nil)
	visit(t, h, day)
	proc.Hang("replSetGetStatus")
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan bool)
	go func() {
		_, ok := h.Do(ctx, collect.Visit{Now: time.Now, Period: time.Minute})
		first <- ok
	}()
	for proc.Calls("replSetGetStatus") < 2 {
		time.Sleep(time.Millisecond) // until the visit hangs
	}
	if _, ok := h.Do(t.Context(), collect.Visit{Now: time.Now, Period: time.Minute}); ok {
		t.Error("a second visit ran beside the first")
	}
	cancel()
	if <-first {
		t.Error("a visit that was cut off reported about the host")
	}
}

func TestTry(t *testing.T) {
	proc := mongotest.Start(t, "primary")
	trials := start(t, proc, nil).Try(t.Context())
	if !trials.Reachable() || trials.Type != string(model.TypeReplicaPrimary) || trials.Facts.Version != "4.5.1" {
		t.Errorf("trials %+v", trials)
	}
	for _, trial := range trials.List {
		if !trial.OK {
			t.Errorf("%s: %s", trial.Command, trial.Message)
		}
	}
	if len(trials.List) < 15 {
		t.Errorf("only %d commands tried", len(trials.List))
	}
}
