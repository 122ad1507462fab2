package backup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestCases lets every case of the reference happen to one source at once, while it is read and followed, with everything killed
// at the moments that found most bugs elsewhere. What the source held at some positions of its oplog, as a dump of it then says,
// is what restores to them hold: namespaces, options, indexes, users, and each document byte for byte.
func TestCases(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	t.Parallel()
	seed, r := chance(t)
	o := worldOptions{waiting: true, oplogMB: 1024, set: []string{
		"heartwood.blockstore.type=FILE_SYSTEM", "heartwood.blockstore.path=" + filepath.Join(t.TempDir(), "blocks"),
		"heartwood.backup.readMBPerSecond=4", // so that a lot happens meanwhile
	}}
	for _, ns := range excluded() {
		o.start = append(o.start, "--exclude", ns)
	}
	w := newWorld(t, o)
	s := &scene{t: t, source: w.source, client: w.client, did: map[string]int{}, noted: map[string]bool{}}
	all := workloads(s)
	for _, c := range all {
		if c.before == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		if err := c.before(ctx, s); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		cancel()
	}

	// The full read, and all that may die in it.
	w.begin()
	w.lost(wire.PathBackupEpoch, w.server)
	end := s.start(all, seed)
	w.lost(wire.PathBackupSeed, w.agent)
	w.lost(wire.PathBackupSeed, w.server)
	if _, err := w.stepDown(t.Context()); err != nil {
		t.Error(err)
	}
	w.lost(wire.PathBackupOplog, w.agent, w.server)
	w.daemon.kill()
	w.daemon.start()
	w.lost(wire.PathBackupScanned, w.agent)
	w.tailing()
	s.happened(all, 2)
	calm := s.still(kept)

	// What may die while the source is followed.
	for range 2 {
		w.lost(wire.PathBackupOplog, w.server)
		w.lost(wire.PathBackupOplog, w.agent)
	}
	w.inBatch()
	w.daemon.kill()
	w.daemon.start()
	if _, err := w.stepDown(t.Context()); err != nil {
		t.Error(err)
	}
	w.source.PauseAll()
	pause(t, 12*time.Second) // longer than calls to a member may take
	w.source.UnpauseAll()
	w.gate.delay(300 * time.Millisecond)
	s.happened(all, 7)
	w.gate.delay(0)
	rough := s.still(kept)
	s.happened(all, 1)
	w.restorable(rough.wall.Add(2 * time.Second))
	end()

	// Into the past of what the head has applied by now, through a daemon that dies over it once.
	t.Run("calm", func(t *testing.T) { w.same(t, calm, func() { w.daemon.kill(); w.daemon.start() }) })
	t.Run("rough", func(t *testing.T) { w.same(t, rough, nil) })
	t.Run("bson", func(t *testing.T) { w.sameBSON(t, rough, r) })
	t.Run("refused", func(t *testing.T) { w.refuses(t, calm) })
}

// inBatch waits until the daemon has begun to write a batch into a head.
func (w *world) inBatch() {
	w.t.Helper()
	size := func() (n int64) {
		logs, err := filepath.Glob(filepath.Join(w.heads, "*", "*", "redo"))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, l := range logs {
			if info, err := os.Stat(l); err == nil {
				n += info.Size()
			}
		}
		return n
	}
	was := size()
	for over := time.Now().Add(4 * time.Minute); time.Now().Before(over); pause(w.t, time.Millisecond) {
		if n := size(); n > was {
			return
		} else if n < was {
			was = n
		}
	}
	w.t.Fatal("no batch in four minutes")
}

// same restores a moment as data files and compares what a mongod finds in them with what the source held. In the middle of
// the restore something may happen.
func (w *world) same(t *testing.T, m *moment, meanwhile func()) {
	t.Helper()
	s := &site{t: t, env: w.env}
	var top string
	if meanwhile == nil {
		top = s.files("--oplog", m.position())
	} else {
		top = s.filesThrough(meanwhile, "--oplog", m.position())
	}
	c := serve(t, w.releases.Mongod(w.releases.Versions[0]), top)
	got, err := takeDump(t.Context(), c, kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences(m.dump, got) {
		t.Error(d)
	}
}

// filesThrough does what files does, with something that happens as soon as the restore is being carried out.
func (s *site) filesThrough(meanwhile func(), moment ...string) string {
	s.t.Helper()
	type job struct {
		ID         string
		StatusName string
		ErrorText  string
		Progress   struct{ Step string }
	}
	var j job
	if err := s.heartwood(s.t.Context(), &j, append(append([]string{"restore", "start", "rs0"}, moment...), "--json")...); err != nil {
		s.t.Fatal(err)
	}
	until := func(what string, ok func() bool) {
		harness.Eventually(s.t, 6*time.Minute, what, func(ctx context.Context) error {
			if err := s.heartwood(ctx, &j, "restore", "show", "rs0", j.ID, "--json"); err != nil {
				return err
			}
			if !ok() && j.StatusName != "FINISHED" {
				return fmt.Errorf("%+v", j)
			}
			return nil
		})
	}
	until("the beginning of a restore", func() bool { return j.Progress.Step != "" })
	meanwhile()
	until("the end of a restore", func() bool { return false })
	dir := s.t.TempDir()
	if err := s.heartwood(s.t.Context(), nil, "restore", "download", "rs0", j.ID, "--output", dir); err != nil {
		s.t.Fatal(err)
	}
	return s.unpacked(dir)
}

// sameBSON restores some databases as BSON files.
func (w *world) sameBSON(t *testing.T, m *moment, r *rand.Rand) {
	t.Helper()
	s := &site{t: t, env: w.env}
	databases := []string{"case01", "case03", "case14", "case15", "case16", "case20", "case21", "case23", "admin2"}
	r.Shuffle(len(databases), func(i, j int) { databases[i], databases[j] = databases[j], databases[i] })
	databases = databases[:5]
	args := []string{"--oplog", m.position(), "--format", "bson"}
	for _, db := range databases {
		args = append(args, "--namespace", db)
	}
	got, err := bsonFiles(s.files(args...))
	if err != nil {
		t.Fatal(err)
	}
	want := dump{}
	for ns, x := range m.dump {
		db, coll, _ := strings.Cut(ns, ".")
		if slices.Contains(databases, db) && x.kind == "collection" && !strings.HasPrefix(coll, "system.") {
			plain := &content{kind: x.kind, docs: slices.Clone(x.docs)}
			slices.SortFunc(plain.docs, func(a, b document) int { return strings.Compare(a.id, b.id) })
			want[ns] = plain
		}
	}
	if len(want) == 0 {
		t.Fatalf("%v hold nothing", databases)
	}
	for _, d := range differences(want, got) {
		t.Error(d)
	}
}

// refuses asks for what no backup can give (case 5), before anything is touched.
func (w *world) refuses(t *testing.T, m *moment) {
	t.Helper()
	for name, args := range map[string][]string{
		"a moment to come":              {"--at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
		"a position to come":            {"--oplog", fmt.Sprintf("%d:1", time.Now().Add(time.Hour).Unix())},
		"a moment before the backup":    {"--at", m.wall.Add(-240 * time.Hour).UTC().Format(time.RFC3339)},
		"an excluded namespace":         {"--oplog", m.position(), "--format", "bson", "--namespace", "case20.hidden"},
		"a snapshot that never existed": {"--snapshot", strings.Repeat("a", 24)},
	} {
		err := w.heartwood(t.Context(), nil, append([]string{"restore", "start", "rs0"}, args...)...)
		if err == nil {
			t.Errorf("%s is not refused", name)
		}
		t.Logf("%s: %v", name, err)
	}
}
