package monitoragent

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		setup  func(t *testing.T, s *server, o *Options) *mongotest.Process
		ok     bool
		want   []string // in the text
		absent []string
	}{
		{"everything in order", func(t *testing.T, _ *server, _ *Options) *mongotest.Process {
			return mongotest.Start(t, "primary")
		}, true, []string{"ok   server http://", "REPLICA_PRIMARY 4.5.1", "ok   dbStats", "ok   getDiagnosticData"}, []string{"FAIL"}},
		{"no user on a process that wants one", func(t *testing.T, _ *server, _ *Options) *mongotest.Process {
			p := mongotest.Start(t, "primary")
			p.RequireUser(t, "monitor", "secret")
			return p
		}, false, []string{"FAIL serverStatus", "13:", "missing: serverStatus on the cluster", `createUser({user: "heartwood"`, `role: "clusterMonitor"`, "on the primary"}, nil},
		{"wrong password", func(t *testing.T, _ *server, o *Options) *mongotest.Process {
			p := mongotest.Start(t, "primary")
			p.RequireUser(t, "monitor", "secret")
			o.Config.AuthUsername, o.Config.AuthPassword = "monitor", "wr0ng"
			return p
		}, false, []string{"FAIL authenticate", "18:", `user "monitor" was refused`, "changeUserPassword"}, []string{"wr0ng", "grantRolesToUser", "FAIL serverStatus"}},
		{"user without rights", func(t *testing.T, _ *server, o *Options) *mongotest.Process {
			p := mongotest.Start(t, "primary")
			p.RequireUser(t, "monitor", "secret")
			p.Set("getLog", mongotest.Failure(13, "Unauthorized", "not authorized on admin to execute command { getLog: 1 }"))
			o.Config.AuthUsername, o.Config.AuthPassword = "monitor", "secret"
			return p
		}, false, []string{"ok   serverStatus", "FAIL getLog startupWarnings", "missing: getLog on the cluster", `grantRolesToUser("monitor", [{role: "clusterMonitor", db: "admin"}])`}, []string{"createUser"}},
		{"arbiter with access control", func(t *testing.T, _ *server, o *Options) *mongotest.Process {
			p := mongotest.Start(t, "arbiter")
			p.RequireUser(t, "", "")
			o.Config.AuthUsername, o.Config.AuthPassword = "monitor", "secret"
			return p
		}, true, []string{"REPLICA_ARBITER", "an arbiter holds no users"}, []string{"FAIL"}},
		{"nothing listens", func(t *testing.T, _ *server, o *Options) *mongotest.Process {
			o.Config.SelectionSeconds = 1
			p := mongotest.Start(t, "primary")
			p.Kill()
			return p
		}, false, []string{"FAIL connect", "nothing answers at 127.0.0.1:", "net.bindIp"}, nil},
		{"wrong key", func(t *testing.T, _ *server, o *Options) *mongotest.Process {
			o.Config.APIKey = "wrong"
			return mongotest.Start(t, "standalone")
		}, false, []string{"FAIL server", "BAD_KEY", "Settings > Agents", "STANDALONE"}, nil},
		{"server away", func(t *testing.T, s *server, _ *Options) *mongotest.Process {
			s.away = true
			return mongotest.Start(t, "mongos")
		}, false, []string{"FAIL server", "connection refused", "mmsBaseUrl", "SHARD_MONGOS", "ok   find config.shards"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer()
			var p *mongotest.Process
			a, _ := newAgent(t, s, t.TempDir(), func(o *Options) {
				p = tt.setup(t, s, o)
				o.Config.SeedHosts = []string{p.Addr}
			})
			var out bytes.Buffer
			err := a.Check(t.Context(), &out, false)
			if (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is missing", w)
				}
			}
			for _, w := range tt.absent {
				if strings.Contains(out.String(), w) {
					t.Errorf("%q should not be there", w)
				}
			}
			if t.Failed() {
				t.Log("\n" + out.String())
			}
			if len(s.confs) > 0 && !strings.Contains(s.confs[0], "check=1") {
				t.Error("the server was not told that this is only a check")
			}
			out.Reset()
			_ = a.Check(t.Context(), &out, true)
			var r CheckReport
			if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.OK != tt.ok || len(r.Hosts) != 1 {
				t.Errorf("JSON: %v, ok %v, %d hosts", err, r.OK, len(r.Hosts))
			}
		})
	}
}

func TestCheckCoversTheServersHosts(t *testing.T) {
	p := mongotest.Start(t, "secondary")
	s := newServer(wire.Host{ID: "h", Hostname: "127.0.0.1", Port: p.Port()})
	a, _ := newAgent(t, s, t.TempDir(), func(o *Options) { o.Config.SeedHosts = []string{p.Addr} }) // the same one
	var out bytes.Buffer
	if err := a.Check(t.Context(), &out, false); err != nil {
		t.Error(err)
	}
	if strings.Count(out.String(), p.Addr) != 1 || !strings.Contains(out.String(), "1 hosts to poll") {
		t.Errorf("\n%s", out.String())
	}
}
