package monitoragent

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const (
	childEnv    = "HEARTWOOD_TEST_AGENT_CHILD"
	childDirEnv = "HEARTWOOD_TEST_AGENT_DIR"
	benchEnv    = "HEARTWOOD_BENCH_AGENT"  // hosts:minutes, e.g. 100:3
	binaryEnv   = "HEARTWOOD_BENCH_BINARY" // the heartwood binary to measure instead of this one
)

// TestFootprint measures what one agent costs: it polls hosts that answer with recorded replies, in a process of its own. It
// runs only when asked, because it takes minutes.
func TestFootprint(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		runChild(t)
		return
	}
	spec := os.Getenv(benchEnv)
	if spec == "" {
		t.Skip("set " + benchEnv + "=100:3 to poll 100 hosts for 3 minutes")
	}
	first, second, _ := strings.Cut(spec, ":")
	n, err1 := strconv.Atoi(first)
	minutes, err2 := strconv.Atoi(second)
	if err1 != nil || err2 != nil {
		t.Fatalf("%s=%q: want hosts:minutes", benchEnv, spec)
	}
	s := newServer()
	for i := range n {
		kind := "secondary"
		if i%3 == 0 {
			kind = "primary"
		}
		p := mongotest.Start(t, kind)
		s.conf.Hosts = append(s.conf.Hosts, wire.Host{ID: fmt.Sprintf("%032x", i), Hostname: "127.0.0.1", Port: p.Port(), DBStats: true})
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFootprint$") //nolint:gosec // this test
	cmd.Env = append(os.Environ(), childEnv+"="+srv.URL, childDirEnv+"="+t.TempDir())
	if binary := os.Getenv(binaryEnv); binary != "" {
		cmd = exec.Command(binary, "monitoring-agent") //nolint:gosec // the developer names it
		cmd.Env = append(os.Environ(), "MMS_API_KEY="+testKey, "MMS_GROUP_ID="+testGroup, "MMS_BASE_URL="+srv.URL,
			"HEARTWOOD_AGENT_STATE_DIR="+t.TempDir())
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM) }()
	time.Sleep(time.Minute) // connecting and asking everything once is not the steady state
	at, cpu := time.Now(), cpuTime(t, cmd.Process.Pid)
	for range minutes {
		time.Sleep(time.Minute)
		now, used := time.Now(), cpuTime(t, cmd.Process.Pid)
		fmt.Printf("%d hosts: %.2f %% of a core, %s, %d pings so far\n", n, 100*float64(used-cpu)/float64(now.Sub(at)),
			memory(t, cmd.Process.Pid), len(s.got()))
		at, cpu = now, used
	}
}

func runChild(t *testing.T) {
	cfg := testConfig(os.Getenv(childDirEnv))
	cfg.BaseURL = os.Getenv(childEnv)
	log, _, err := agent.NewLog(&config.Agent{LogLevel: "INFO", LogFormat: "text"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{Config: cfg, Log: log, Version: obs.Build().Version})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
}

// cpuTime is user and system time of a process, from /proc.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skip(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func memory(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "Threads") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, ", ")
}
