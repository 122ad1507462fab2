package apply_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/seed"
)

// watched connects to a head and calls at after n commands.
func watched(t testing.TB, port int, n int64, at func()) *mongo.Client {
	t.Helper()
	var left atomic.Int64
	left.Store(n)
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:" + strconv.Itoa(port) + "/?directConnection=true").
		SetRetryWrites(false).SetRetryReads(false).SetServerSelectionTimeout(2 * time.Second).
		SetMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
			if e.CommandName != "endSessions" && left.Add(-1) == 0 {
				at()
			}
		}}))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

var errCut = errors.New("cut off")

// all goes from where a folder is to the end: seeding, the window, its end, and what follows.
func all(ctx context.Context, client *mongo.Client, dir string, fuzzy bool, version string, r *recorded, batch int) error {
	if _, err := os.Stat(filepath.Join(dir, "state.bson")); err != nil {
		begin := apply.Beginning{}
		if fuzzy {
			var o seed.Options
			o, begin = fuzzySeed(r)
			o.Client, o.Dir = client, dir
			if err := seed.Run(ctx, o); err != nil {
				return err
			}
		}
		if err := apply.Begin(dir, begin); err != nil {
			return err
		}
	}
	a, err := apply.Open(ctx, apply.Options{Client: client, Dir: dir, MaxOps: batch, RedoBytes: 200_000, SpillBytes: 1 << 10})
	if err != nil {
		return err
	}
	err = through(ctx, a, r.Oplogs[version])
	if err != nil {
		return err // what it holds is left as a killed process leaves it
	}
	return a.Close()
}

// TestCutOffAnywhere ends the applying process (its context, and with it all it had in memory) after some commands, again
// and again, or kills the head. What is on disk must be enough to come to the same end.
func TestCutOffAnywhere(t *testing.T) {
	r := theRecord(t)
	for _, c := range []struct {
		name     string
		fuzzy    bool
		version  string
		killHead bool
		cuts     int
	}{
		{"the process, from nothing", false, "v2", false, 150},
		{"the process, over a fuzzy copy", true, "v1", false, 150},
		{"the head, from nothing", false, "v1", true, 25},
		{"the head, over a fuzzy copy", true, "v2", true, 25},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, release := heads(t)
			dir := filepath.Join(t.TempDir(), "job")
			number := rand.Uint64()
			t.Logf("seed %d", number)
			random := rand.New(rand.NewPCG(number, 1))
			h := start(t, m, release, dir)
			cuts, done := 0, false
			for !done {
				ctx, cut := context.WithCancelCause(t.Context())
				after := int64(1 + random.IntN(60))
				if cuts >= c.cuts {
					after = -1
				} else if testing.Short() && cuts >= c.cuts/5 {
					after = -1
				}
				client := watched(t, h.Port, after, func() {
					if c.killHead {
						_ = h.Kill()
					} else {
						cut(errCut)
					}
				})
				err := all(ctx, client, dir, c.fuzzy, c.version, r, 400)
				cut(nil)
				_ = client.Disconnect(context.Background())
				if err == nil {
					done = true
				} else if after < 0 {
					t.Fatalf("after %d cuts: %v", cuts, err)
				}
				cuts++
				select {
				case <-h.Done():
					h = start(t, m, release, dir)
				default:
				}
			}
			t.Logf("cut off %d times", cuts-1)
			compareFinal(t, h.Client(), r)
		})
	}
}

// TestKilledProcess kills a process that seeds and applies with SIGKILL, at any time, until one comes through.
func TestKilledProcess(t *testing.T) {
	r := theRecord(t)
	if port := os.Getenv("APPLY_TEST_PORT"); port != "" { // this is the process
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		client := watched(t, n, -1, nil)
		defer client.Disconnect(context.Background()) //nolint:errcheck // ends
		if err := all(t.Context(), client, os.Getenv("APPLY_TEST_DIR"), true, "v2", r, 300); err != nil {
			t.Fatal(err)
		}
		return
	}
	m, release := heads(t)
	dir := filepath.Join(t.TempDir(), "job")
	h := start(t, m, release, dir)
	kills := 12
	if testing.Short() {
		kills = 3
	}
	for n := 0; ; n++ {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$", "-test.count=1")
		cmd.Env = append(os.Environ(), fmt.Sprintf("APPLY_TEST_PORT=%d", h.Port), "APPLY_TEST_DIR="+dir)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var kill *time.Timer
		if n < kills {
			kill = time.AfterFunc(time.Duration(200+rand.IntN(900))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		}
		err := cmd.Wait()
		if kill != nil {
			kill.Stop()
		}
		if err == nil {
			t.Logf("killed %d times", n)
			break
		}
		if n >= kills {
			t.Fatalf("%v\n%s", err, out.Bytes())
		}
	}
	compareFinal(t, h.Client(), r)
}

// TestOrphanOfAKilledDaemon leaves a head running as a killed daemon does: the next one stops it cleanly and goes on.
func TestOrphanOfAKilledDaemon(t *testing.T) {
	m, release := heads(t)
	root := t.TempDir()
	dir := filepath.Join(root, "job")
	h := start(t, m, release, dir)
	if _, err := h.Client().Database("x").Collection("y").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	next, err := head.New(t.Context(), head.Options{Root: root, Releases: filepath.Dir(filepath.Dir(filepath.Dir(release.Path))), BasePort: h.Port + 20, Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.Done():
	case <-time.After(time.Minute):
		t.Fatal("the orphan still runs")
	}
	again := start(t, next, release, dir)
	if n, err := again.Client().Database("x").Collection("y").CountDocuments(t.Context(), bson.D{}); err != nil || n != 1 {
		t.Errorf("%d documents, %v", n, err)
	}
	if err := again.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if clean, err := next.Clean(dir); !clean || err != nil {
		t.Errorf("clean %v, %v", clean, err)
	}
}
