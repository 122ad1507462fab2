package head_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// What the process that stands for a daemon is told.
const (
	childRoot     = "HEARTWOOD_HEAD_CHILD"
	childReleases = "HEARTWOOD_HEAD_RELEASES"
	childBefore   = "HEARTWOOD_HEAD_BEFORE"
)

// TestChild is the daemon that is killed: it starts a head and waits, before it has noted the head's process or after it.
func TestChild(t *testing.T) {
	root := os.Getenv(childRoot)
	if root == "" {
		t.Skip("a part of the tests of orphans")
	}
	before := os.Getenv(childBefore) != ""
	wait := func() {
		fmt.Println("\nstarted")
		select {}
	}
	o := head.Options{Root: root, Releases: os.Getenv(childReleases), BasePort: base(t)}
	if before {
		o.WhenStarted(wait)
	}
	m, release := manager(t, o)
	h, err := m.Start(t.Context(), head.Spec{Dir: filepath.Join(root, "job", "1"), Release: release})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Client().Database("x").Collection("y").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	wait()
}

// orphan runs a daemon until it has started a head and kills it. It gives the head's process, as mongod's lock file says.
func orphan(t *testing.T, root, releases string, before bool) (pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), childRoot+"="+root, childReleases+"="+releases)
	if before {
		cmd.Env = append(cmd.Env, childBefore+"=1")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := ""
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "started" {
		said += lines.Text() + "\n"
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if lines.Text() != "started" {
		t.Fatal(said)
	}
	lock := filepath.Join(head.DBPath(filepath.Join(root, "job", "1")), "mongod.lock")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(lock); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
				return pid
			}
		}
	}
	t.Fatal("mongod did not come up")
	return 0
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && len(b) > 0 // one that waits for its parent has none
}

func ended(t *testing.T, m *head.Manager, dir string, pid int) {
	t.Helper()
	if alive(pid) {
		t.Errorf("process %d still runs", pid)
	}
	if info, err := os.Stat(filepath.Join(head.DBPath(dir), "mongod.lock")); err != nil || info.Size() != 0 {
		t.Errorf("the orphan was not stopped cleanly: %v, %v", info, err)
	}
	if clean, err := m.Clean(dir); !clean || err != nil {
		t.Errorf("its folder is clean: %v, %v", clean, err)
	}
}

// bystander is a process that mentions a folder's data on its command line and is no head.
func bystander(t *testing.T, args ...string) int {
	t.Helper()
	sh := exec.Command("/bin/sh", append([]string{"-c", "sleep 300 & wait", "sh"}, args...)...) //nolint:gosec // a test's
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-sh.Process.Pid, syscall.SIGKILL)
		_ = sh.Wait()
	})
	return sh.Process.Pid
}

// TestDaemonKilledAfterStart kills a daemon while its head runs, also between the start of the process and the note of its
// number. The next daemon stops it cleanly, and nothing else.
func TestDaemonKilledAfterStart(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("processes are looked at through /proc here")
	}
	for _, c := range []struct {
		name   string
		before bool
	}{{"before its process was noted", true}, {"while it works", false}} {
		t.Run(c.name, func(t *testing.T) {
			releases := harness.Heads(t)
			root := t.TempDir()
			dir := filepath.Join(root, "job", "1")
			pid := orphan(t, root, releases.Dir, c.before)
			if !alive(pid) {
				t.Fatal("the head did not outlive its daemon")
			}
			noted, err := os.ReadFile(filepath.Join(dir, "head.pid"))
			if err != nil || strings.HasPrefix(string(noted), "0 ") != c.before {
				t.Errorf("noted is %q, %v", noted, err)
			}
			other := bystander(t, "--dbpath", head.DBPath(filepath.Join(root, "job", "2")))
			m, release := manager(t, head.Options{Root: root, Releases: releases.Dir})
			ended(t, m, dir, pid)
			if !alive(other) {
				t.Error("somebody else's process was ended")
			}
			if _, err := m.Start(t.Context(), head.Spec{Dir: filepath.Join(root, "job", "2"), Release: release}); !errors.Is(err, head.ErrNotStarted) || !strings.Contains(err.Error(), strconv.Itoa(other)) {
				t.Errorf("a head beside somebody else's process: %v", err)
			}
			h, err := m.Start(t.Context(), head.Spec{Dir: dir, Release: release})
			if err != nil {
				t.Fatal(err)
			}
			if n, err := h.Client().Database("x").Collection("y").CountDocuments(t.Context(), bson.D{}); err != nil || n != 1 && !c.before {
				t.Errorf("%d documents, %v", n, err)
			}
			if err := h.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("when a folder is used", func(t *testing.T) {
		releases := harness.Heads(t)
		root := t.TempDir()
		dir := filepath.Join(root, "job", "1")
		var log bytes.Buffer
		m, release := manager(t, head.Options{Root: root, Releases: releases.Dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
		pid := orphan(t, root, releases.Dir, true)
		if clean, err := m.Clean(dir); clean || err != nil {
			t.Errorf("a folder with a running orphan: clean %v, %v", clean, err)
		}
		h, err := m.Start(t.Context(), head.Spec{Dir: dir, Release: release})
		if err != nil {
			t.Fatal(err)
		}
		if alive(pid) || !strings.Contains(log.String(), "a head of an earlier daemon is stopped") {
			t.Errorf("process %d: %v\n%s", pid, alive(pid), log.String())
		}
		if err := h.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
