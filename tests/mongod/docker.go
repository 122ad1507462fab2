package mongod

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// Labels of what tests make with the engine.
const (
	label     = "org.heartwood.test"
	labelPid  = "org.heartwood.test.pid"
	labelNS   = "org.heartwood.test.pidns" // where that process number means something
	labelRole = "org.heartwood.test.role"
	imageName = "heartwood-test"
)

// Labels are what everything that tests make with the engine carries, so that the next run finds what one left.
func Labels() map[string]string { return labels() }

func labels() map[string]string {
	return map[string]string{label: "1", labelPid: strconv.Itoa(os.Getpid()), labelNS: pidNamespace()}
}

func pidNamespace() string {
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "none"
	}
	return ns
}

var docker struct {
	once sync.Once
	err  error
}

// NeedDocker skips the test where no container engine answers, or fails it where HEARTWOOD_TEST_REQUIRE names docker.
func NeedDocker(t testing.TB) {
	t.Helper()
	needDocker(t)
}

func needDocker(t testing.TB) {
	t.Helper()
	docker.once.Do(func() {
		// The library would dial the gateway of what it takes for its own container, and start a container of a registry.
		for k, v := range map[string]string{"TESTCONTAINERS_RYUK_DISABLED": "true", "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1"} {
			if os.Getenv(k) == "" {
				if docker.err = os.Setenv(k, v); docker.err != nil {
					return
				}
			}
		}
		docker.err = checkDocker()
	})
	if docker.err == nil {
		return
	}
	const hint = "sh tests/setup.sh installs and starts it for root (Debian: apt-get install docker.io)"
	if slices.Contains(strings.Split(os.Getenv("HEARTWOOD_TEST_REQUIRE"), ","), "docker") {
		t.Fatalf("a container engine is required (HEARTWOOD_TEST_REQUIRE): %v; %s", docker.err, hint)
	}
	t.Skipf("needs a container engine: %v; %s", docker.err, hint)
}

func checkDocker() error {
	if _, err := exec.LookPath("docker"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", "info", "--format", "{{.ServerVersion}}").CombinedOutput(); err != nil {
		return fmt.Errorf("docker info: %s", strings.TrimSpace(string(out)))
	}
	c, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if host := c.DaemonHost(); !strings.HasPrefix(host, "unix://") {
		return fmt.Errorf("the engine at %s is on another machine: tests reach containers by their addresses", host)
	}
	return sweep(ctx, c)
}

// sweep removes what test processes left that ended before they could clean up.
func sweep(ctx context.Context, c *testcontainers.DockerClient) error {
	f := make(client.Filters).Add("label", label+"=1")
	list, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: f})
	if err != nil {
		return err
	}
	for _, ctr := range list.Items {
		if orphan(ctr.Labels, time.Unix(ctr.Created, 0)) {
			_, _ = c.ContainerRemove(ctx, ctr.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}) // somebody else may do it just now
		}
	}
	nets, err := c.NetworkList(ctx, client.NetworkListOptions{Filters: f})
	if err != nil {
		return err
	}
	for _, n := range nets.Items {
		if orphan(n.Labels, n.Created) {
			_, _ = c.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
		}
	}
	images, err := c.ImageList(ctx, client.ImageListOptions{Filters: f})
	if err != nil {
		return err
	}
	for _, i := range images.Items { // of other states of the tree: whoever needs one builds it again
		if time.Since(time.Unix(i.Created, 0)) > 6*time.Hour {
			_, _ = c.ImageRemove(ctx, i.ID, client.ImageRemoveOptions{Force: false})
		}
	}
	return nil
}

// orphan says that the test process that made something is gone.
func orphan(l map[string]string, created time.Time) bool {
	if l[labelNS] != pidNamespace() {
		return time.Since(created) > time.Hour
	}
	_, err := os.Stat(filepath.Join("/proc", l[labelPid]))
	return err != nil
}

var image struct {
	once sync.Once
	tag  string
	err  error
}

// Image builds the container image of this tree's binary, once for each state of the binary, and returns its name.
func Image(t testing.TB) string {
	t.Helper()
	needDocker(t)
	binary, root := harness.Binary(t), harness.Root(t)
	image.once.Do(func() { image.tag, image.err = buildImage(binary, root) })
	if image.err != nil {
		t.Fatal(image.err)
	}
	return image.tag
}

func buildImage(binary, root string) (string, error) {
	h := sha256.New()
	for _, name := range []string{binary, filepath.Join(root, "infra/docker/Dockerfile.scratch"), filepath.Join(root, "infra/docker/build.sh")} {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, f)
		_ = f.Close()
		if err != nil {
			return "", err
		}
	}
	tag := imageName + ":" + hex.EncodeToString(h.Sum(nil)[:8])
	if exec.Command("docker", "image", "inspect", tag).Run() == nil {
		return tag, nil
	}
	cmd := exec.Command("sh", filepath.Join(root, "infra/docker/build.sh"), tag, binary, "--label", label+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the image: %w\n%s", err, out)
	}
	return tag, nil
}
