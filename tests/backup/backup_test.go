// Package backup tests continuous backup through whole programs: a replica set that is written to, agents, server and daemon,
// and mongods that are started on what was restored. The oracle is a model of what was written when.
package backup

import (
	"archive/tar"
	"compress/gzip"
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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/heartwood-db/heartwood/tests/harness"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

// state is what a database holds: collection, then _id, then value.
type state map[string]map[int32]int64

// change is one write that the set has acknowledged by its majority.
type change struct {
	began  uint32 // second in which it was asked for
	second uint32 // of its position in the oplog, at the latest
	coll   string
	id     int32
	value  int64
	gone   bool // deleted
}

// model is a workload that remembers every change it made.
type model struct {
	mu   sync.Mutex
	made []change
	err  error
}

// at is the state at the end of a second.
func (m *model) at(second uint32) state {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := state{}
	for _, c := range m.made {
		switch {
		case c.second > second:
		case c.gone:
			delete(s[c.coll], c.id)
		default:
			if s[c.coll] == nil {
				s[c.coll] = map[int32]int64{}
			}
			s[c.coll][c.id] = c.value
		}
	}
	return s
}

// sure reports whether it is known of every change on which side of the end of a second it lies. It is not where that second ended
// while the set was asked for one, which takes long in an election.
func (m *model) sure(second uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.made {
		if c.began <= second && second < c.second {
			return false
		}
	}
	return true
}

const database = "model"

// run writes until the context ends. Each write is in a session of its own, whose operation time is the write's position, or a
// later one where it was retried. Only one write is under way at a time, so that the order of the model is that of the oplog.
func (m *model) run(ctx context.Context, client *mongo.Client, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a workload
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changes := make([]change, 1)
		if n > 100 && r.IntN(6) == 0 { // the collections exist then: 4.2 makes none in a transaction
			changes = make([]change, 2+r.IntN(4))
		}
		for i := range changes {
			changes[i] = change{coll: fmt.Sprintf("c%d", r.IntN(4)), id: r.Int32N(200), value: n<<8 + int64(i), gone: r.IntN(5) == 0}
		}
		if err := m.write(context.WithoutCancel(ctx), client, changes); err != nil {
			m.mu.Lock()
			m.err = err
			m.mu.Unlock()
			return
		}
	}
}

// write makes changes, several as one transaction, and notes those that changed something.
func (m *model) write(ctx context.Context, client *mongo.Client, changes []change) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := client.StartSession()
	if err != nil {
		return err
	}
	defer s.EndSession(ctx)
	began := uint32(time.Now().Unix()) //nolint:gosec // this century
	var did []change
	all := func(ctx context.Context) (any, error) {
		did = nil // a transaction may be run again
		for _, c := range changes {
			changed, err := c.apply(ctx, client.Database(database))
			if err != nil {
				return nil, err
			}
			if changed {
				did = append(did, c)
			}
		}
		return nil, nil
	}
	if len(changes) > 1 {
		_, err = s.WithTransaction(ctx, all)
	} else {
		_, err = all(mongo.NewSessionContext(ctx, s))
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range did {
		c.began, c.second = began, s.OperationTime().T
		m.made = append(m.made, c)
	}
	return nil
}

func (c *change) apply(ctx context.Context, db *mongo.Database) (changed bool, err error) {
	coll, id := db.Collection(c.coll), bson.D{{Key: "_id", Value: c.id}}
	if c.gone {
		res, err := coll.DeleteOne(ctx, id)
		return err == nil && res.DeletedCount > 0, err
	}
	res, err := coll.UpdateOne(ctx, id, bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: c.value}}}}, options.UpdateOne().SetUpsert(true))
	return err == nil && res.ModifiedCount+res.UpsertedCount > 0, err
}

// len is how many changes were made so far.
func (m *model) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.made)
}

// site is a running site as its command line sees it.
type site struct {
	t   *testing.T
	env []string
}

// heartwood runs a command and decodes what it prints, when that is wanted.
func (s *site) heartwood(ctx context.Context, into any, args ...string) error {
	cmd := exec.CommandContext(ctx, harness.Binary(s.t), args...)
	cmd.Env = s.env
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("heartwood %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal([]byte(out.String()), into)
}

// shown is what `heartwood backup show --json` prints, as far as it matters here.
type shown struct {
	State struct {
		Stage       string
		NewestOplog time.Time
		Problem     struct{ Code, Text, Remedy string }
	}
	Restorable struct {
		Ranges []struct {
			Start, End struct{ Date time.Time }
		}
	}
}

// restorable waits until a moment can be restored.
func (s *site) restorable(at time.Time) {
	s.t.Helper()
	harness.Eventually(s.t, 6*time.Minute, "that "+at.String()+" can be restored", func(ctx context.Context) error {
		var b shown
		if err := s.heartwood(ctx, &b, "backup", "show", "rs0", "--json"); err != nil {
			return err
		}
		for _, r := range b.Restorable.Ranges {
			if !at.Before(r.Start.Date) && at.Before(r.End.Date) {
				return nil
			}
		}
		return fmt.Errorf("%+v", b)
	})
}

// restored restores a second as data files and reads what a mongod that is started on them holds of the model.
func (s *site) restored(at time.Time, releases harness.Releases) state {
	s.t.Helper()
	return read(s.t, serve(s.t, releases.Mongod(releases.Versions[0]), s.files("--at", at.UTC().Format(time.RFC3339))), database)
}

// files restores a moment, fetches the archive and unpacks it. It gives the archive's one folder.
func (s *site) files(moment ...string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	ctx, cancel := context.WithTimeout(s.t.Context(), 6*time.Minute)
	defer cancel()
	if err := s.heartwood(ctx, nil, append(append([]string{"restore", "start", "rs0"}, moment...), "--output", dir)...); err != nil {
		s.t.Fatal(err)
	}
	return s.unpacked(dir)
}

// unpacked unpacks the one archive in a folder beside it, and gives the archive's one folder.
func (s *site) unpacked(dir string) string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.tar.gz"))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("fetched %s %v", found, err)
	}
	top, err := unpack(found[0], dir)
	if err == nil {
		err = os.Remove(found[0])
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return top
}

// unpack unpacks an archive and gives its one folder.
func unpack(file, dir string) (top string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", err
	}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(dir, top), nil
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsLocal(h.Name) {
			return "", fmt.Errorf("the archive holds %q", h.Name)
		}
		top, _, _ = strings.Cut(h.Name, "/")
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o700); err != nil {
				return "", err
			}
			continue
		}
		b, err := io.ReadAll(tr)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600))
		}
		if err != nil {
			return "", err
		}
	}
}

// serve starts a mongod on data files, as restoreInfo.txt tells, for as long as the test runs.
func serve(t *testing.T, mongod, dbpath string) *mongo.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	cmd := exec.Command(mongod, "--dbpath", dbpath, "--port", strconv.Itoa(port), "--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.25")
	log := filepath.Join(t.TempDir(), "mongod.log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
		if b, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the mongod on %s said:\n%s", dbpath, b[max(0, len(b)-4<<10):])
		}
	})
	client, err := mongo.Connect(options.Client().ApplyURI(fmt.Sprintf("mongodb://127.0.0.1:%d/?directConnection=true", port)).SetTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client
}

// read reads the model's collections from a database.
func read(t *testing.T, client *mongo.Client, in string) state {
	t.Helper()
	got := state{}
	db := client.Database(in)
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var docs []struct {
			ID int32 `bson:"_id"`
			N  int64
		}
		cur, err := db.Collection(name).Find(t.Context(), bson.D{})
		if err == nil {
			err = cur.All(t.Context(), &docs)
		}
		if err != nil {
			t.Fatal(err)
		}
		got[name] = map[int32]int64{}
		for _, d := range docs {
			got[name][d.ID] = d.N
		}
	}
	return got
}

// tailing waits until there is a snapshot, and everything since can be restored.
func (s *site) tailing() {
	s.t.Helper()
	harness.Eventually(s.t, 8*time.Minute, "the first snapshot", func(ctx context.Context) error {
		var b shown
		if err := s.heartwood(ctx, &b, "backup", "show", "rs0", "--json"); err != nil {
			return err
		}
		if b.State.Stage != "TAILING" || len(b.Restorable.Ranges) == 0 {
			return fmt.Errorf("%+v", b)
		}
		return nil
	})
}

// more waits until the model is that much longer.
func (m *model) more(t *testing.T, n int) {
	t.Helper()
	n += m.len()
	harness.Eventually(t, 2*time.Minute, fmt.Sprintf("the %dth write", n), func(context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.made) < n && m.err == nil {
			return fmt.Errorf("%d so far", len(m.made))
		}
		return m.err
	})
}

// verify restores random seconds of a stretch of time and compares each with the model.
func (s *site) verify(m *model, releases harness.Releases, r *rand.Rand, from, to time.Time, n int) {
	s.t.Helper()
	for range n {
		at := from
		for range 1000 {
			at = from.Add(time.Second + time.Duration(r.Int64N(int64(to.Sub(from))))).Truncate(time.Second)
			if m.sure(uint32(at.Unix())) { //nolint:gosec // this century
				break
			}
		}
		want := m.at(uint32(at.Unix())) //nolint:gosec // this century
		got := s.restored(at, releases)
		for _, side := range []state{want, got} { // a collection that is empty then may be there or not
			for name, docs := range side {
				if len(docs) == 0 {
					delete(side, name)
				}
			}
		}
		if len(want) == 0 {
			s.t.Errorf("nothing was written by %s", at)
		}
		if d := cmp.Diff(want, got); d != "" {
			s.t.Errorf("the second %s (%d) is not what was written by then (-want +got):\n%s", at.UTC(), at.Unix(), d)
		}
	}
}

// begin begins to write; what it gives ends that and fails the test when a write failed.
func (m *model) begin(t *testing.T, client *mongo.Client, seed uint64) (end func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() { m.run(ctx, client, seed) })
	end = sync.OnceFunc(func() {
		stop()
		writer.Wait()
		if m.err != nil {
			t.Error(m.err)
		}
	})
	t.Cleanup(end)
	return end
}

// chance gives a seed that is printed, so that a run can be repeated as far as time allows.
func chance(t *testing.T) (uint64, *rand.Rand) {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // positive
	if text := os.Getenv("HEARTWOOD_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal("HEARTWOOD_TEST_SEED:", err)
		}
	}
	t.Logf("HEARTWOOD_TEST_SEED=%d", seed)
	return seed, rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a choice
}
