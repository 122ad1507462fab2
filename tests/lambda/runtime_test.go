package lambda

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// functions are the folders below functions that have a main for Lambda.
var functions = []string{"alerts", "app", "health", "ingestion"}

var built struct {
	mu   sync.Mutex
	dir  string
	done map[string]error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// binary builds a function as make sam-package does, for this machine, once a test process. HEARTWOOD_TEST_LAMBDA names a folder
// with NAME.bootstrap built beforehand.
func binary(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("HEARTWOOD_TEST_LAMBDA"); dir != "" {
		return filepath.Join(dir, name+".bootstrap")
	}
	root := harness.Root(t)
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "heartwood-lambda-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.done = dir, map[string]error{}
	}
	path := filepath.Join(built.dir, name+".bootstrap")
	err, done := built.done[name]
	if !done {
		cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags=-s -w", "-o", path, "./functions/"+name+"/lambda")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		built.done[name] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// outcome is what an instance answered to an event.
type outcome struct {
	body   []byte
	failed bool // through the error path of the Runtime API
}

// instance is one started function with a Runtime API of its own.
type instance struct {
	t     testing.TB
	name  string
	began time.Time
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process ended
	log   string

	events chan event
	mu     sync.Mutex
	waits  map[string]chan outcome
	n      int
}

type event struct {
	id      string
	payload []byte
	within  time.Duration
}

// start starts a function as Lambda does: its environment is the settings, and where the Runtime API is.
func start(t testing.TB, name string, environ ...string) *instance {
	t.Helper()
	i := &instance{t: t, name: name, ended: make(chan struct{}), events: make(chan event), waits: map[string]chan outcome{}, log: filepath.Join(t.TempDir(), name+".log")}
	api := httptest.NewServer(i)
	i.cmd = exec.Command(binary(t, name))
	i.cmd.Dir = t.TempDir()
	i.cmd.Env = append([]string{
		"AWS_LAMBDA_RUNTIME_API=" + api.Listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME=heartwood-" + name, "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_EXECUTION_ENV=AWS_Lambda_provided.al2023", "AWS_REGION=eu-central-1", "_HANDLER=bootstrap", "LAMBDA_TASK_ROOT=/var/task", "HEARTWOOD_LOG_FORMAT=json",
	}, environ...)
	f, err := os.Create(i.log)
	if err != nil {
		t.Fatal(err)
	}
	i.cmd.Stdout, i.cmd.Stderr = f, f
	i.began = time.Now()
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = i.cmd.Wait()
		_ = f.Close()
		close(i.ended)
	}()
	t.Cleanup(func() {
		_ = i.cmd.Process.Signal(syscall.SIGCONT)
		_ = i.cmd.Process.Kill()
		<-i.ended
		api.CloseClientConnections()
		api.Close()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, i.said())
		}
	})
	return i
}

func (i *instance) said() string {
	b, _ := os.ReadFile(i.log)
	return string(b)
}

// ServeHTTP is the Runtime API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const root = "/2018-06-01/runtime/invocation/"
	path, ok := strings.CutPrefix(r.URL.Path, root)
	if !ok {
		i.t.Errorf("%s called %s %s", i.name, r.Method, r.URL.Path)
		http.NotFound(w, r)
		return
	}
	if path == "next" && r.Method == http.MethodGet {
		select {
		case e := <-i.events:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", e.id)
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(e.within).UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:123456789012:function:heartwood-"+i.name)
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(e.payload)
		case <-r.Context().Done():
		case <-i.ended:
		}
		return
	}
	id, what, _ := strings.Cut(path, "/")
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || what != "response" && what != "error" {
		i.t.Errorf("%s: %s %s: %v", i.name, r.Method, r.URL.Path, err)
	}
	i.mu.Lock()
	wait := i.waits[id]
	delete(i.waits, id)
	i.mu.Unlock()
	w.WriteHeader(http.StatusAccepted)
	if wait == nil {
		i.t.Errorf("%s answered %s twice", i.name, id)
		return
	}
	wait <- outcome{body, what == "error"}
}

const patience = 30 * time.Second

// invoke gives the instance an event and waits for its outcome.
func (i *instance) invoke(payload []byte) outcome { return i.invokeWithin(payload, patience) }

// invokeWithin gives the event a deadline, as the function's timeout does.
func (i *instance) invokeWithin(payload []byte, within time.Duration) outcome {
	i.t.Helper()
	wait := make(chan outcome, 1)
	i.mu.Lock()
	i.n++
	e := event{fmt.Sprintf("%08d-0000-4000-8000-000000000000", i.n), payload, within}
	i.waits[e.id] = wait
	i.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case i.events <- e:
	case <-i.ended:
		i.t.Fatalf("%s ended:\n%s", i.name, i.said())
	case <-late.C:
		i.t.Fatalf("%s asks for no event", i.name)
	}
	select {
	case o := <-wait:
		return o
	case <-i.ended:
		i.t.Fatalf("%s ended:\n%s", i.name, i.said())
	case <-late.C:
		i.t.Fatalf("%s does not answer:\n%s", i.name, i.said())
	}
	return outcome{}
}

// passes calls duties as their schedules do and gives the names of those that it has; it fails the test when one fails.
func (i *instance) passes(payload []byte) []string {
	i.t.Helper()
	o := i.invoke(payload)
	var got struct {
		Passes []struct{ Name, Error string }
	}
	if err := json.Unmarshal(o.body, &got); err != nil || o.failed {
		i.t.Fatalf("%s: %v: %s", payload, err, o.body)
	}
	var names []string
	for _, p := range got.Passes {
		names = append(names, p.Name)
	}
	return names
}

// read gives a recorded event.
func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b)
}

// listen counts calls of an address.
func listen(t testing.TB, calls chan<- struct{}) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case calls <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}
