// Package boxes holds the container image and the compose files to what they promise, on this machine's engine.
package boxes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
	"github.com/heartwood-db/heartwood/tests/mongod"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

// docker runs the engine's command and gives what it printed.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// run starts a container of the image in the way the documents say.
func run(t *testing.T, args ...string) string {
	t.Helper()
	name := "heartwood-test-box-" + string(model.NewID())
	options := []string{"run", "-d", "--name", name, "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp", "--health-interval", "1s"}
	for k, v := range mongod.Labels() {
		options = append(options, "--label", k+"="+v)
	}
	docker(t, append(options, args...)...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%v said:\n%s", args, docker(t, "logs", name))
		}
		docker(t, "rm", "-f", "-v", name)
	})
	return name
}

// becomes waits until the engine finds a container healthy, or unhealthy.
func becomes(t *testing.T, name, want string) {
	t.Helper()
	harness.Eventually(t, time.Minute, name+" "+want, func(context.Context) error {
		out, err := exec.Command("docker", "inspect", "--format", "{{.State.Health.Status}}", name).CombinedOutput()
		if have := strings.TrimSpace(string(out)); err == nil && have != want {
			err = errors.New(have)
		}
		return err
	})
}

// TestTheImage runs server, agent and simulator from one image: nobody's root, on a read-only root, healthy by the binary's
// own account.
func TestTheImage(t *testing.T) {
	image := mongod.Image(t)
	if user := docker(t, "inspect", "--format", "{{.Config.User}} {{.Config.WorkingDir}} {{json .Config.Entrypoint}}", image); user != `65532:65532 /data ["/heartwood"]` {
		t.Errorf("it runs as %s", user)
	}
	server := run(t, image)
	becomes(t, server, "healthy")
	if out := docker(t, "exec", server, "/heartwood", "healthcheck"); !strings.Contains(out, "OK") {
		t.Errorf("healthcheck says %s", out)
	}
	top := strings.Fields(docker(t, "top", server, "-o", "pid,uid"))
	if uid := top[len(top)-1]; uid != "65532" {
		t.Errorf("the process belongs to user %s", uid)
	}
	for path, want := range map[string]string{"/etc/ssl/certs/ca-certificates.crt": "BEGIN CERTIFICATE", "/etc/passwd": "65532"} {
		out, err := exec.Command("docker", "cp", server+":"+path, "-").Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v", path, err)
		}
	}

	sim := run(t, image, "mongosim", "--port", "27117")
	becomes(t, sim, "healthy")

	// An agent that its server refuses is not well; one whose server is away is.
	network := docker(t, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", server)
	agent := func(url string) string {
		return run(t, "-e", "HEARTWOOD_AGENT_MMS_BASE_URL="+url, "-e", "HEARTWOOD_AGENT_MMS_GROUP_ID="+string(model.NewID()),
			"-e", "HEARTWOOD_AGENT_MMS_API_KEY=0123456789abcdef0123456789abcdef", "-e", "HEARTWOOD_AGENT_SEED_HOSTS=127.0.0.1:1", "--health-retries", "1", "--health-start-period", "0s", image, "monitoring-agent")
	}
	refused, away := agent("http://"+network+":8081"), agent("http://127.0.0.1:9")
	becomes(t, refused, "unhealthy")
	becomes(t, away, "healthy")

	docker(t, "stop", "-t", "30", server)
	if code := docker(t, "inspect", "--format", "{{.State.ExitCode}}", server); code != "0" {
		t.Errorf("a stopped server exits with %s", code)
	}
}

// TestBothDockerfilesMakeTheSameImage compares what the file for registries and the one without end with.
func TestBothDockerfilesMakeTheSameImage(t *testing.T) {
	tail := func(name string) string {
		b, err := os.ReadFile(filepath.Join(harness.Root(t), "infra/docker", name))
		if err != nil {
			t.Fatal(err)
		}
		i := strings.Index(string(b), "\nENV ")
		if i < 0 {
			t.Fatalf("%s sets no environment", name)
		}
		return string(b[i:])
	}
	if a, b := tail("Dockerfile"), tail("Dockerfile.scratch"); a != b {
		t.Errorf("Dockerfile ends with%s\nDockerfile.scratch with%s", a, b)
	}
}

// compose is the engine's compose, as a plugin or as a program of its own.
func compose(t *testing.T) []string {
	t.Helper()
	mongod.NeedDocker(t)
	if exec.Command("docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}
	}
	return []string{harness.Need(t, "docker-compose")}
}

// TestComposeFileForRegistries checks compose.yaml, whose other images cannot be had here, as far as it goes without them.
func TestComposeFileForRegistries(t *testing.T) {
	c := compose(t)
	dir := filepath.Join(harness.Root(t), "infra/compose")
	cmd := exec.Command(c[0], append(c[1:], "-f", filepath.Join(dir, "compose.yaml"), "config")...)
	cmd.Env = append(os.Environ(), "HEARTWOOD_GEN_KEY=Zm9yIHRyeWluZywgbmV2ZXIgZm9yIHVz")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	haproxy := harness.Need(t, "haproxy")
	if out, err := exec.Command(haproxy, "-c", "-f", filepath.Join(dir, "haproxy.cfg")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestComposeUp brings the simulator's variant up: two servers on one database, and an agent whose pings either takes.
func TestComposeUp(t *testing.T) {
	c := compose(t)
	image := mongod.Image(t)
	base, other := harness.PortBase(t), harness.PortBase(t)
	env := append(os.Environ(), "HEARTWOOD_IMAGE="+image, "HEARTWOOD_MONGOD="+programOf(t, image), fmt.Sprintf("HEARTWOOD_PORT=%d", base), fmt.Sprintf("HEARTWOOD_PORT2=%d", other))
	project := "heartwood-test-" + string(model.NewID())
	call := func(args ...string) {
		t.Helper()
		cmd := exec.Command(c[0], append(c[1:], append([]string{"-f", filepath.Join(harness.Root(t), "infra/compose/compose.simulator.yaml"), "-f", labelled(t), "-p", project}, args...)...)...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { call("--profile", "agent", "--profile", "backup", "down", "-v", "-t", "5") })
	call("up", "-d")
	for _, port := range []int{base, other} {
		harness.Eventually(t, time.Minute, "a server's health", func(ctx context.Context) error { return well(ctx, port) })
	}
	site, err := client.Provision(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "HEARTWOOD_GROUP_ID="+site.Group, "HEARTWOOD_AGENT_KEY="+site.AgentKey)
	call("--profile", "agent", "up", "-d", "agent")
	site.URL = "http://127.0.0.1:" + strconv.Itoa(other) // what one server took the other shows
	harness.Eventually(t, 90*time.Second, "three members that the other server knows", func(ctx context.Context) error {
		var hosts struct{ Results []map[string]any }
		if err := site.Call(ctx, http.MethodGet, "/groups/"+site.Group+"/hosts", nil, &hosts); err != nil {
			return err
		}
		up := 0
		for _, h := range hosts.Results {
			if ping, ok := h["lastPing"].(string); ok && ping != "" && strings.HasPrefix(fmt.Sprint(h["hostname"]), "db") {
				up++
			}
		}
		if up != 3 {
			return fmt.Errorf("%d of %v", up, hosts.Results)
		}
		return nil
	})
	call("--profile", "agent", "--profile", "backup", "up", "-d", "backup-daemon", "backup-agent")
	becomes(t, docker(t, "ps", "-q", "--filter", "label=com.docker.compose.project="+project, "--filter", "label=com.docker.compose.service=backup-daemon"), "healthy")
	wantSnapshot(t, site)
}

// programOf takes the program out of the image, to stand in for mongod.
func programOf(t *testing.T, image string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mongod")
	id := docker(t, "create", image)
	docker(t, "cp", id+":/heartwood", file)
	docker(t, "rm", "-v", id)
	if err := os.Chmod(file, 0o755); err != nil { //nolint:gosec // others than its owner run it
		t.Fatal(err)
	}
	for dir := filepath.Dir(file); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) { // the container's user must reach it
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // of this test
			t.Fatal(err)
		}
	}
	return file
}

// wantSnapshot starts the backup of the replica set and waits for its first snapshot.
func wantSnapshot(t *testing.T, site *client.Site) {
	t.Helper()
	group, cluster := "/groups/"+site.Group, ""
	harness.Eventually(t, time.Minute, "the replica set", func(ctx context.Context) error {
		var page struct {
			Results []struct{ ID, TypeName string }
		}
		if err := site.Call(ctx, http.MethodGet, group+"/clusters", nil, &page); err != nil {
			return err
		}
		for _, c := range page.Results {
			if c.TypeName == "REPLICA_SET" {
				cluster = c.ID
				return nil
			}
		}
		return fmt.Errorf("%v", page.Results)
	})
	if err := site.Call(t.Context(), http.MethodPatch, group+"/backupConfigs/"+cluster, map[string]string{"statusName": "STARTED"}, nil); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 4*time.Minute, "a snapshot", func(ctx context.Context) error {
		var page struct{ Results []struct{ Complete bool } }
		if err := site.Call(ctx, http.MethodGet, group+"/clusters/"+cluster+"/snapshots", nil, &page); err != nil {
			return err
		}
		if len(page.Results) == 0 || !page.Results[0].Complete {
			return fmt.Errorf("%v", page.Results)
		}
		return nil
	})
}

// labelled writes a compose file that gives the tests' labels to everything, so that what a test process leaves is found.
func labelled(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	write := func(indent string) {
		fmt.Fprintf(&b, "%slabels:\n", indent)
		for k, v := range mongod.Labels() {
			fmt.Fprintf(&b, "%s  %s: %q\n", indent, k, v)
		}
	}
	b.WriteString("version: \"3.8\"\nservices:\n")
	for _, s := range []string{"heartwood1", "heartwood2", "db", "agent", "backup-agent", "backup-daemon"} {
		fmt.Fprintf(&b, "  %s:\n", s)
		write("    ")
	}
	b.WriteString("networks:\n  default:\n")
	write("    ")
	file := filepath.Join(t.TempDir(), "labels.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func well(ctx context.Context, port int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(port)+"/monitor/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
