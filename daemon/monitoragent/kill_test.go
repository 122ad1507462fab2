package monitoragent

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// TestKill kills an agent that has pings in its spool, which a server that takes nothing has seen in a post, and expects the
// next start to deliver every one of them.
func TestKill(t *testing.T) {
	s := newServer()
	s.conf.PingSeconds = 10
	for i := range 3 {
		p := mongotest.Start(t, "secondary")
		s.conf.Hosts = append(s.conf.Hosts, wire.Host{ID: fmt.Sprintf("%032x", i), Hostname: "127.0.0.1", Port: p.Port()})
	}
	type key struct {
		host string
		at   int64
	}
	var (
		seen     = map[key]bool{}
		complete = make(chan struct{})
		once     sync.Once
	)
	s.status = http.StatusServiceUnavailable
	s.refuse = func(r *http.Request) *wire.Problem {
		if r.URL.Path != wire.PathPings {
			return nil
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		post, err := wire.DecodePost(body)
		if err != nil {
			t.Error(err)
		}
		for _, p := range post.Pings {
			seen[key{p.HostID, p.At.UnixMilli()}] = true
		}
		if len(seen) >= 3 {
			once.Do(func() { close(complete) })
		}
		return &wire.Problem{Code: wire.CodeUnavailable, Reason: "the database is away"}
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	dir := t.TempDir()
	child := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFootprint$") //nolint:gosec // this test
		cmd.Env = append(os.Environ(), childEnv+"="+srv.URL, childDirEnv+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	cmd := child()
	select {
	case <-complete:
	case <-time.After(time.Minute):
		t.Error("the agent posted nothing")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed

	delivered := make(chan struct{})
	s.set(func(s *server) {
		want := len(seen)
		s.refuse = nil
		s.reject = func(p wire.Ping) string {
			if delete(seen, key{p.HostID, p.At.UnixMilli()}); len(seen) == 0 && want > 0 {
				close(delivered)
				want = 0
			}
			return ""
		}
	})
	cmd = child()
	select {
	case <-delivered:
	case <-time.After(time.Minute):
		s.set(func(*server) { t.Errorf("%d pings were lost", len(seen)) })
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
