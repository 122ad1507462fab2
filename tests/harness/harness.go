// Package harness starts what the tests of whole programs need: the heartwood binary built from this tree, servers and demos on
// free ports, a headless browser. What it starts it stops, and it keeps logs when a test fails.
package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/demo"
)

// hints say how to get a tool that a test needs.
var hints = map[string]string{
	"docker-compose": "apt-get install docker-compose",
	"chromium":       "apt-get install chromium",
	"haproxy":        "apt-get install haproxy",
	"nginx":          "apt-get install nginx-light",
	"versitygw":      "make tools",
}

// Need skips the test when a program is not installed, naming the command that installs it. Where HEARTWOOD_TEST_REQUIRE (a
// comma separated list) names the program, its absence is a failure instead.
func Need(t testing.TB, tool string) string {
	t.Helper()
	// Debian keeps servers where few users look; make tools puts ours into .bin.
	for _, name := range []string{tool, filepath.Join("/usr/sbin", tool), filepath.Join(Root(t), ".bin", tool)} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if slices.Contains(strings.Split(os.Getenv("HEARTWOOD_TEST_REQUIRE"), ","), tool) {
		t.Fatalf("%s is required (HEARTWOOD_TEST_REQUIRE) but not installed: %s", tool, hints[tool])
	}
	t.Skipf("needs %s: %s", tool, hints[tool])
	return ""
}

// Root is the repository's root folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the working folder")
	return ""
}

var built struct {
	once sync.Once
	path string
	err  error
}

// Binary builds the heartwood binary, once a test process, and returns its path. HEARTWOOD_TEST_BINARY names one to test instead.
func Binary(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("HEARTWOOD_TEST_BINARY"); given != "" {
		return given
	}
	root := Root(t)
	built.once.Do(func() {
		dir, err := os.MkdirTemp("", "heartwood-test-")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "heartwood")
		cmd := exec.Command("go", "build", "-o", built.path, "./local/heartwood")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build heartwood: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// Clean removes the binary that Binary built. A TestMain calls it after its tests.
func Clean() {
	if built.path != "" {
		_ = os.RemoveAll(filepath.Dir(built.path))
	}
}

// PortBase finds a base so that the ports of one server (base, +1, +10, +11, +12, +570) are free. They lie below those that the
// system gives to outgoing connections: a server that a test starts again must find its ports free again.
func PortBase(t testing.TB) int {
	t.Helper()
	const lowest, highest = 12_000, 32_000
	for range 50 {
		base := lowest + rand.N(highest-lowest) //nolint:gosec // any will do
		if allFree(base, 0, 1, 10, 11, 12, 570) {
			return base
		}
	}
	t.Fatal("no free range of ports")
	return 0
}

func allFree(base int, offsets ...int) bool {
	for _, o := range offsets {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+o)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// Process is a heartwood command that runs in the background.
type Process struct {
	Cmd  *exec.Cmd
	Out  *bufio.Reader // its standard output
	done chan struct{}
	err  error
	log  string
}

// Start runs heartwood with the arguments. Its standard error goes to a file that is printed when the test fails.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.Command(Binary(t), args...), done: make(chan struct{})}
	p.log = filepath.Join(t.TempDir(), "stderr.log")
	f, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	p.Cmd.Stderr = f
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Out = bufio.NewReaderSize(out, 1<<20)
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.Cmd.Wait()
		_ = f.Close()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			b, _ := os.ReadFile(p.log)
			t.Logf("heartwood %s said:\n%s", strings.Join(args, " "), tail(b, 16<<10))
		}
	})
	return p
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

// Stop sends SIGTERM and waits for the end, at most d.
func (p *Process) Stop(d time.Duration) error {
	_ = p.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(d):
		return errors.New("it did not stop in time")
	}
}

// Kill ends the process at once, as kill -9 does, and waits for it.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.done
}

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Run runs heartwood to its end, at most a minute, and gives its exit code and what it wrote to standard error.
func Run(t testing.TB, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var said strings.Builder
	cmd := exec.CommandContext(ctx, Binary(t), args...)
	cmd.Stdout, cmd.Stderr = io.Discard, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("heartwood %s: %v\n%s", strings.Join(args, " "), errors.Join(err, ctx.Err()), said.String())
	}
	return cmd.ProcessState.ExitCode(), said.String()
}

// Log is what the process wrote to standard error so far.
func (p *Process) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// Login is what `heartwood demo --json` prints once everything serves.
type Login = demo.Login

// Demo starts `heartwood demo` on the data folder and waits until it serves. It backs nothing up unless --backup is among args.
func Demo(t testing.TB, data string, args ...string) (*Process, Login) {
	t.Helper()
	p := Start(t, append([]string{"demo", "--json", "--backup=false", "--data", data, "--port-base", strconv.Itoa(PortBase(t))}, args...)...)
	var login Login
	line := make(chan error, 1)
	go func() {
		s, err := p.Out.ReadString('\n')
		if err == nil {
			err = json.Unmarshal([]byte(s), &login)
		}
		line <- err
	}()
	select {
	case err := <-line:
		if err != nil {
			t.Fatalf("the demo's first line: %v\n%s", err, p.Log())
		}
	case <-time.After(3 * time.Minute):
		t.Fatalf("the demo did not start\n%s", p.Log())
	}
	return p, login
}

// Eventually polls until ok holds, at most d.
func Eventually(t testing.TB, d time.Duration, what string, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not happen within %v: %v", what, d, err)
		case <-tick.C:
		}
	}
}
