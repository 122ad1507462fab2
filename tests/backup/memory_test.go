package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestMemory tells how much memory the running programs took at most: the backup agent and the backup daemon, each a process of its
// own, while HEARTWOOD_BENCH_MEMORY megabytes of documents are read, made a head and a snapshot of, changed and restored, and while the
// daemon takes a snapshot of a head whose folder holds 4 GB more: recorded files of a real server, an eighth of the copies different. It fails above
// what was asked: 300 MB for the agent, 500 MB for the daemon. A simulated server keeps all documents in memory, once a member.
func TestMemory(t *testing.T) {
	mb, err := strconv.Atoi(os.Getenv("HEARTWOOD_BENCH_MEMORY"))
	if err != nil || mb <= 0 {
		t.Skip("a benchmark: set HEARTWOOD_BENCH_MEMORY to some megabytes")
	}
	recorded := filepath.Join("..", "..", "..", "shared", "fixtures")
	if dir := os.Getenv("HEARTWOOD_TEST_FIXTURES"); dir != "" {
		recorded = dir
	}
	w := newWorld(t, worldOptions{waiting: true, oplogMB: 2 * mb, set: []string{
		"heartwood.blockstore.type=FILE_SYSTEM", "heartwood.blockstore.path=" + filepath.Join(t.TempDir(), "blocks"),
	}})
	m := &memory{w: w, r: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // documents
	m.insert(mb)
	began := time.Now()
	w.begin()
	w.tailing()
	m.print(fmt.Sprintf("%d MB read, first snapshot, %.0f s", mb, time.Since(began).Seconds()))

	began = time.Now()
	m.insert(mb / 2)
	m.update()
	at := time.Now()
	w.restorable(at)
	m.print(fmt.Sprintf("%d MB inserted, all updated, %.0f s", mb/2, time.Since(began).Seconds()))

	began = time.Now()
	w.files("--at", at.UTC().Format(time.RFC3339))
	m.print(fmt.Sprintf("restored as files, %.0f s", time.Since(began).Seconds()))

	began = time.Now()
	size := m.tree(filepath.Join(recorded, "recorded", "heads", "2"), 4<<30)
	filled := time.Now()
	before := m.snapshots()
	if err := w.heartwood(t.Context(), nil, "snapshots", "take", "rs0"); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 10*time.Minute, "the snapshot of the large folder", func(context.Context) error {
		if now := m.snapshots(); now.count <= before.count || now.size < before.size+size {
			return fmt.Errorf("%+v, at first %+v", now, before)
		}
		return nil
	})
	m.print(fmt.Sprintf("snapshot of %d MB more, %.0f s (written in %.0f s)", size>>20, time.Since(filled).Seconds(), filled.Sub(began).Seconds()))
	for name, limit := range map[*part]int64{w.agent: 300, w.daemon: 500} {
		if got := m.most(name); got > limit {
			t.Errorf("%s took %d MB, %d were asked", name.name, got, limit)
		}
	}
}

// memory is a world under measurement.
type memory struct {
	w    *world
	r    *rand.Rand
	next int
}

// insert inserts so many megabytes of documents of 4 kB, half of which compress.
func (m *memory) insert(mb int) {
	m.w.t.Helper()
	const size = 4096
	word := make([]byte, size/2)
	for left := mb << 20 / size; left > 0; {
		var docs []any
		for range min(left, 1000) {
			for i := range word {
				word[i] = byte(m.r.Uint32())
			}
			docs = append(docs, bson.D{{Key: "_id", Value: m.next}, {Key: "n", Value: 0}, {Key: "random", Value: bson.Binary{Data: append([]byte(nil), word...)}}, {Key: "text", Value: strings.Repeat("heartwood ", size/20)}})
			m.next++
		}
		if _, err := m.w.client.Database("bench").Collection("c"+strconv.Itoa(m.next/1000%8)).InsertMany(m.w.t.Context(), docs); err != nil {
			m.w.t.Fatal(err)
		}
		left -= len(docs)
	}
}

// update changes every document.
func (m *memory) update() {
	m.w.t.Helper()
	for i := range 8 {
		_, err := m.w.client.Database("bench").Collection("c"+strconv.Itoa(i)).UpdateMany(m.w.t.Context(), bson.D{}, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}})
		if err != nil {
			m.w.t.Fatal(err)
		}
	}
}

// tree puts so many bytes of files into the head's folder, which the mongod does not know, and gives how many they are.
func (m *memory) tree(from string, size int64) int64 {
	t := m.w.t
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.w.heads, "*", "*", "db"))
	if err != nil || len(found) != 1 {
		t.Fatalf("heads: %v, %v", found, err)
	}
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatalf("the recorded heads are not here, set HEARTWOOD_TEST_FIXTURES: %v", err)
	}
	var written int64
	for k := 0; written < size; k++ {
		dir := filepath.Join(found[0], "more", fmt.Sprintf("%04d", k))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			n, err := m.copy(filepath.Join(from, f.Name()), filepath.Join(dir, f.Name()), k)
			if err != nil {
				t.Fatal(err)
			}
			written += n
		}
	}
	return written
}

// copy copies a file. Each eight copies differ from the others in each 4 KiB.
func (m *memory) copy(from, to string, k int) (n int64, err error) {
	b, err := os.ReadFile(from)
	if err != nil {
		return 0, err
	}
	for at := 64; at+16 <= len(b); at += 4096 {
		copy(b[at:], fmt.Sprintf("%08x%08x", k/8, at))
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, strings.NewReader(string(b)))
	return n, errors.Join(err, f.Close())
}

type taken struct {
	count int
	size  int64 // bytes of the files of the last
}

// snapshots are those that are complete.
func (m *memory) snapshots() (k taken) {
	m.w.t.Helper()
	var list []struct {
		Parts []struct{ FileSizeBytes int64 }
	}
	if err := m.w.heartwood(m.w.t.Context(), &list, "snapshots", "list", "rs0", "--json"); err != nil {
		m.w.t.Fatal(err)
	}
	k.count = len(list)
	if n := len(list); n > 0 && len(list[n-1].Parts) > 0 {
		k.size = list[n-1].Parts[0].FileSizeBytes
	}
	return k
}

// most is the megabytes a process held at most so far.
func (m *memory) most(p *part) int64 {
	m.w.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.process.Cmd.Process.Pid))
	if err != nil {
		m.w.t.Fatalf("%s: %v", p.name, err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				m.w.t.Fatal(err)
			}
			return kb >> 10
		}
	}
	m.w.t.Fatalf("%s has no VmHWM", p.name)
	return 0
}

func (m *memory) print(after string) {
	m.w.t.Helper()
	fmt.Printf("%-60s agent %4d MB, daemon %4d MB, server %4d MB at most\n", after, m.most(m.w.agent), m.most(m.w.daemon), m.most(m.w.server))
}
