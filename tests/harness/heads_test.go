package harness_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/tests/harness"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

// head is a mongod, or its stand-in, as a process.
type head struct {
	*mongo.Client
	cmd *exec.Cmd
	out bytes.Buffer
}

func start(t *testing.T, mongod, dbpath string, port int) *head {
	t.Helper()
	h := &head{}
	h.cmd = exec.Command(mongod, "--dbpath", dbpath, "--port", strconv.Itoa(port), "--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.25",
		"--setParameter", "ttlMonitorEnabled=false", "--setParameter", "diagnosticDataCollectionEnabled=false",
		"--setParameter", "disableLogicalSessionCacheRefresh=true", "--logpath", dbpath+".log", "--logappend", "--storageEngine", "wiredTiger")
	h.cmd.Stdout, h.cmd.Stderr = &h.out, &h.out
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait()
	})
	c, err := mongo.Connect(options.Client().ApplyURI(fmt.Sprintf("mongodb://127.0.0.1:%d/?directConnection=true&serverSelectionTimeoutMS=30000", port)))
	if err != nil {
		t.Fatal(err)
	}
	h.Client = c
	if err := c.Ping(context.Background(), nil); err != nil {
		log, _ := os.ReadFile(dbpath + ".log")
		t.Fatalf("%v\n%s%s", err, h.out.String(), log)
	}
	return h
}

// end sends a signal and gives the exit code; -1 is the end by a signal.
func (h *head) end(t *testing.T, s os.Signal) int {
	t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := h.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background()) // nobody is there to say goodbye to
	cancel()
	_ = h.Disconnect(gone)
	return h.cmd.ProcessState.ExitCode()
}

// TestHeads lives through what a daemon does to its heads: a clean stop, a kill, a second start on the same folder.
func TestHeads(t *testing.T) {
	releases := harness.Heads(t)
	mongod := releases.Mongod(releases.Versions[0])
	port, dbpath := harness.PortBase(t), filepath.Join(t.TempDir(), "db")
	if err := os.Mkdir(dbpath, 0o755); err != nil {
		t.Fatal(err)
	}
	insert := func(h *head, from int) {
		t.Helper()
		var docs []any
		for i := range 1000 {
			docs = append(docs, bson.D{{Key: "_id", Value: from + i}})
		}
		cmd := bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: docs}, {Key: "writeConcern", Value: bson.D{{Key: "w", Value: 1}, {Key: "j", Value: true}}}}
		if err := h.Database("db").RunCommand(context.Background(), cmd).Err(); err != nil {
			t.Fatal(err)
		}
	}
	count := func(h *head, want int64) {
		t.Helper()
		if n, err := h.Database("db").Collection("c").CountDocuments(context.Background(), bson.D{}); err != nil || n != want {
			t.Fatalf("%d documents, want %d: %v", n, want, err)
		}
	}
	h := start(t, mongod, dbpath, port)
	var build struct{ Version string }
	if err := h.Database("admin").RunCommand(context.Background(), bson.D{{Key: "buildInfo", Value: 1}}).Decode(&build); err != nil || build.Version != releases.Versions[0] {
		t.Errorf("it says it is %s, not %s: %v", build.Version, releases.Versions[0], err)
	}
	insert(h, 0)
	second := exec.Command(mongod, "--dbpath", dbpath, "--port", strconv.Itoa(port+1))
	if out, err := second.Output(); second.ProcessState.ExitCode() != 100 {
		t.Errorf("a second start on the folder: %v\n%s", err, out)
	}
	if code := h.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	lock := filepath.Join(dbpath, "mongod.lock")
	if fi, err := os.Stat(lock); err == nil && fi.Size() > 0 {
		t.Error("the lock file is not empty after a clean stop")
	}

	h = start(t, mongod, dbpath, port)
	count(h, 1000)
	insert(h, 1000)
	h.end(t, syscall.SIGKILL)
	if fi, err := os.Stat(lock); err != nil || fi.Size() == 0 {
		t.Errorf("the lock file after a kill: %v %v", fi, err)
	}
	h = start(t, mongod, dbpath, port)
	count(h, 2000)
	if code := h.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}
