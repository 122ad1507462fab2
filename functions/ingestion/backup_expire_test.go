package ingestion

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// oplogTime is the time of every position of these tests.
var oplogTime = time.Unix(1_795_000_000, 0).UTC()

// filled has an epoch with slices of three full reads' worth and oplog up to position 30, of which a head holds everything.
func (v *vault) filled() {
	v.t.Helper()
	v.bind()
	if code := v.begin(1); code != "" {
		v.t.Fatal(code)
	}
	var h wire.Head
	for i := range 3 {
		body, _ := oplogSlice(v.t, h, 1, 1+10*i, 10+10*i)
		got, code := v.post(wire.PathBackupOplog, body)
		ack, err := wire.Decode[wire.OplogAck](got)
		if code != "" || err != nil {
			v.t.Fatal(code, err)
		}
		h = ack.Head
		if _, code := v.post(wire.PathBackupSeed, seedSlice(v.t, 1, 0, int64(i), "x")); code != "" {
			v.t.Fatal(code)
		}
	}
}

// snapshotted is what a daemon does when the head has taken everything in.
func (v *vault) snapshotted() {
	v.t.Helper()
	ctx := v.t.Context()
	for _, key := range []string{"snapshots/" + string(rs0) + "/s1", "pages/" + string(rs0) + "/p1", "blocks/" + string(rs0) + "/b1"} {
		if err := blockstore.Put(ctx, v.blobs, key, []byte("x")); err != nil {
			v.t.Fatal(err)
		}
	}
	err := v.area.AddSnapshot(ctx, 1, backup.Snapshot{
		ID: "5f0000000000000000000e01", GroupID: v.group.ID, Job: rs0, Epoch: 1, At: oplogTime, Kinds: []snapshot.Kind{snapshot.Base}, Complete: true,
		Created: oplogTime, Applied: position(30), ReplayFrom: position(30), StoreID: "main",
	})
	if err != nil {
		v.t.Fatal(err)
	}
	if err := v.area.MarkSeeded(ctx, rs0, 1, oplogTime); err != nil {
		v.t.Fatal(err)
	}
	err = v.area.UpdateJobAs(ctx, rs0, 1, func(j *backup.Job) error { j.Applied, j.ReplayFrom = position(30), position(30); return nil })
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) expire(now time.Time) (store.PassReport, error) {
	return v.server.expiry.Run(v.t.Context(), now)
}

func (v *vault) count(prefixes ...string) string {
	v.t.Helper()
	var out []string
	for _, p := range prefixes {
		out = append(out, fmt.Sprintf("%s %d", p, len(v.objects(p+"/"))))
	}
	return strings.Join(out, ", ")
}

func TestWhatIsNoLongerNeededGoes(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	v.filled()
	late := oplogTime.Add(30 * 24 * time.Hour)
	step := func(now time.Time, want string) {
		t.Helper()
		if _, err := v.expire(now); err != nil {
			t.Fatal(err)
		}
		if got := v.count("oplog", "seed"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	step(late, "oplog 3, seed 3") // no head has it: however old it is
	v.snapshotted()
	step(oplogTime, "oplog 3, seed 0")
	// A head that lags is waited for, and people hear of it.
	err := v.area.UpdateJobAs(t.Context(), rs0, 1, func(j *backup.Job) error { j.Applied, j.ReplayFrom = position(15), position(15); return nil })
	if err != nil {
		t.Fatal(err)
	}
	step(oplogTime.Add(30*time.Hour), "oplog 3, seed 0")
	if j, err := v.area.Job(t.Context(), rs0); err != nil || j.OplogHours <= 24 {
		t.Errorf("oplog is kept for %d hours, %v", j.OplogHours, err)
	}
	step(late, "oplog 1, seed 0") // but not for ever; the last slice stays: the chain goes on from it

	if err := v.area.EndEpoch(t.Context(), rs0, 1, "gap", late); err != nil {
		t.Fatal(err)
	}
	if code := v.begin(2); code != "" {
		t.Fatal(code)
	}
	step(late, "oplog 0, seed 0")
	if epochs, err := v.area.Epochs(t.Context(), rs0); err != nil || len(epochs) != 2 {
		t.Errorf("%d epochs, %v: the first still has a snapshot", len(epochs), err)
	}
	if err := v.area.Condemn(t.Context(), rs0, "5f0000000000000000000e01", late); err != nil {
		t.Fatal(err)
	}
	if err := v.area.DeleteSnapshot(t.Context(), rs0, "5f0000000000000000000e01"); err != nil {
		t.Fatal(err)
	}
	step(late, "oplog 0, seed 0")
	if epochs, err := v.area.Epochs(t.Context(), rs0); err != nil || len(epochs) != 1 {
		t.Errorf("%d epochs, %v", len(epochs), err)
	}
}

// TestABackupIsDeleted: nothing happens while its daemon holds it; then everything goes, and a new one may begin. With every call
// failing once the next run goes on where it broke.
func TestABackupIsDeleted(t *testing.T) {
	check := func(t *testing.T, v *vault) {
		t.Helper()
		c, err := v.area.Config(t.Context(), rs0)
		_, jobErr := v.area.Job(t.Context(), rs0)
		if err != nil || c.Status != model.BackupInactive || !errors.Is(jobErr, store.ErrNotFound) {
			t.Errorf("%s %v %v", c.Status, err, jobErr)
		}
		if got := v.count("oplog", "seed", "blocks", "pages", "snapshots"); got != "oplog 0, seed 0, blocks 0, pages 0, snapshots 0" {
			t.Error(got)
		}
	}
	var first *vault
	fresh := storetest.Prepared(t, func(e docstore.Engine) {
		first = newVault(t, e, memblock.New())
		first.filled()
		first.snapshotted()
		for _, want := range []model.BackupStatus{model.BackupStopped, model.BackupTerminating} {
			if _, err := first.area.SetStatus(t.Context(), rs0, want, t0); err != nil {
				t.Fatal(err)
			}
		}
	})
	make := func(t *testing.T, blobs blockstore.Store) *vault {
		t.Helper()
		for _, key := range first.objects("") {
			content, err := blockstore.Get(t.Context(), first.blobs, key, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := blockstore.Put(t.Context(), blobs, key, content); err != nil {
				t.Fatal(err)
			}
		}
		return first.on(t, fresh(t), blobs)
	}
	t.Run("whole", func(t *testing.T) {
		v := make(t, memblock.New())
		url, _ := v.restored(model.DeliverHTTP, 1)
		lease, ok, err := v.s.Lease(t.Context(), backup.LeaseName(rs0), "daemon", time.Hour)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, err := v.expire(t0); err != nil || len(v.objects("oplog/")) != 3 {
			t.Errorf("while the daemon holds it: %v, %s", err, v.count("oplog"))
		}
		if c := v.conf(); len(c.Jobs) != 1 || !c.Jobs[0].Stop {
			t.Errorf("the agent is told %+v", c.Jobs)
		}
		if _, code := v.post(wire.PathBackupSeed, seedSlice(t, 1, 0, 9, "x")); code != wire.CodeStopped {
			t.Errorf("a slice: %q", code)
		}
		if _, err := v.area.SetStatus(t.Context(), rs0, model.BackupStarted, t0); !errors.Is(err, backup.ErrState) {
			t.Errorf("started again: %v", err)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := v.expire(t0); err != nil {
				t.Fatal(err)
			}
		}
		check(t, v)
		if err := v.area.UpdateJobAs(t.Context(), rs0, 1, func(*backup.Job) error { return nil }); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the daemon writes once more: %v", err)
		}
		if status, _, _ := v.fetch(http.MethodGet, url); status != http.StatusGone {
			t.Errorf("its restore: %d", status)
		}
		if n := len(v.objects("restores/")); n != 0 {
			t.Errorf("%d objects of restores are left", n)
		}
		if _, err := v.area.SetStatus(t.Context(), rs0, model.BackupStarted, t0); err != nil {
			t.Fatal(err)
		}
		if err := v.area.UpdateJobAs(t.Context(), rs0, 9, func(j *backup.Job) error { j.StoreID = "main"; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := v.area.MarkStarted(t.Context(), rs0, t0); err != nil {
			t.Fatal(err)
		}
		if task := v.conf().Jobs[0]; task.WantEpoch != 2 || task.Epoch != 0 {
			t.Errorf("numbers are used again: %+v", task)
		}
		if code := v.begin(2); code != "" {
			t.Errorf("the first epoch of the new backup: %q", code)
		}
	})
	for n := 1; n <= 12; n++ {
		t.Run(fmt.Sprintf("delete %d fails", n), func(t *testing.T) {
			blobs := faultblock.New(memblock.New())
			v := make(t, blobs)
			blobs.Fail(faultblock.Fault{Call: faultblock.Delete, Nth: n, After: n%2 == 0})
			_, _ = v.expire(t0)
			if _, err := v.expire(t0); err != nil {
				t.Fatal(err)
			}
			check(t, v)
		})
	}
	writes := 0
	for n := 1; n == 1 || n <= writes; n++ {
		for _, fault := range storetest.Faults() {
			t.Run(fmt.Sprintf("fault %d at write %d", fault, n), func(t *testing.T) {
				v := make(t, memblock.New())
				e := storetest.Break(v.s.Engine(), fault, n)
				broken := v.on(t, v.s.Engine(), v.blobs, func(o *Options) {
					s, err := store.Attach(store.Options{Engine: e, Box: storetest.Box(t), Version: "test"})
					if err != nil {
						t.Fatal(err)
					}
					o.Backup, o.Store = backup.New(s), s
				})
				_, _ = broken.expire(t0)
				writes = max(writes, e.Calls())
				v.forgetLease()
				if _, err := v.expire(t0); err != nil {
					t.Fatal(err)
				}
				check(t, v)
			})
		}
	}
	if writes < 10 {
		t.Errorf("only %d writes were broken", writes)
	}
}

// forgetLease lets a lease that a broken run could not give back run out.
func (v *vault) forgetLease() {
	v.t.Helper()
	err := v.s.Write(v.t.Context(), docstore.Op{Kind: docstore.Delete, Collection: "leases", ID: backup.LeaseName(rs0)})
	if err != nil {
		v.t.Fatal(err)
	}
	// Its token must go on growing all the same.
	for range 5 {
		l, ok, err := v.s.Lease(v.t.Context(), backup.LeaseName(rs0), "t", time.Minute)
		if !ok || err != nil {
			v.t.Fatal(ok, err)
		}
		if err := l.Release(v.t.Context()); err != nil {
			v.t.Fatal(err)
		}
	}
}

// TestObjectsThatNothingNamesAreSwept: also those of a store that other sites use are left alone.
func TestObjectsThatNothingNamesAreSwept(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	v.filled()
	v.snapshotted()
	v.restored(model.DeliverHTTP, 1)
	ctx := t.Context()
	if err := v.area.SaveStore(ctx, model.BlockStore{ID: "main", Type: model.BlockStoreMemory}); err != nil {
		t.Fatal(err)
	}
	named := v.objects("")
	strange := model.ID("5f00000000000000000000ff")
	foreign := []string{
		history.OplogKey(strange, 1, position(1), strings.Repeat("a", 64)), "blocks/" + string(strange) + "/b", "restores/" + string(strange) + "/x.tar", "other/thing",
	}
	orphans := []string{
		history.OplogKey(rs0, 1, position(31), strings.Repeat("a", 64)), history.OplogKey(rs0, 1, position(1), strings.Repeat("a", 64)), history.OplogKey(rs0, 7, position(1), strings.Repeat("b", 64)),
		history.SeedKey(rs0, 1, people, 0, 1, strings.Repeat("c", 64)), history.SeedKey(rs0, 1, oplog.UUID{9}, 0, 0, strings.Repeat("c", 64)), history.FoundKey(rs0, 1, "abc"),
	}
	for _, key := range append(append([]string{}, foreign...), orphans...) {
		if err := blockstore.Put(ctx, v.blobs, key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	all := len(named) + len(foreign) + len(orphans)
	now := time.Now()
	if _, err := v.expire(now); err != nil || len(v.objects("")) < all-4 { // seeds go, they were taken in, and the link expired
		t.Errorf("young objects went: %d of %d, %v", len(v.objects("")), all, err)
	}
	if err := v.area.SaveSweep(ctx, backup.Sweep{StoreID: "main"}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.expire(now.Add(25 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, key := range v.objects("") {
		have[key] = true
	}
	for _, key := range foreign {
		if !have[key] {
			t.Errorf("%s is not ours, and went", key)
		}
	}
	for _, key := range orphans {
		if have[key] {
			t.Errorf("%s is still there", key)
		}
	}
	for _, key := range named { // sync slices were taken in, and the link expired
		if !have[key] && !strings.HasPrefix(key, "seed/") && !strings.HasPrefix(key, "restores/") {
			t.Errorf("%s is named, and went", key)
		}
	}
	if s, err := v.area.Sweep(ctx, "main"); err != nil || s.Done.IsZero() || s.Swept != int64(len(orphans)) {
		t.Errorf("%+v %v", s, err)
	}
}

// TestTwoServersGetOneSliceAtOnce: both say that it is stored; it is, once.
func TestTwoServersGetOneSliceAtOnce(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	v.bind()
	if code := v.begin(1); code != "" {
		t.Fatal(code)
	}
	w := v.on(t, v.s.Engine(), v.blobs)
	var h wire.Head
	for i := range 20 {
		body, s := oplogSlice(t, h, 1, 1+10*i, 10+10*i)
		seed := seedSlice(t, 1, 0, int64(i), "x")
		var wg sync.WaitGroup
		for _, server := range []*vault{v, w, v, w} {
			wg.Go(func() {
				r := server.request(http.MethodPost, wire.PathBackupOplog, body)
				if status, answer, _ := server.call(r); status != 200 {
					p, _ := wire.DecodeProblem(answer)
					t.Errorf("slice %d: %d %+v", i, status, p)
				}
				r = server.request(http.MethodPost, wire.PathBackupSeed, seed)
				if status, answer, _ := server.call(r); status != 200 {
					p, _ := wire.DecodeProblem(answer)
					t.Errorf("seed %d: %d %+v", i, status, p)
				}
			})
		}
		wg.Wait()
		h = wire.Head{Last: s.Last, Sum: s.Sum(), Entry: s.LastEntry}
	}
	slices, err := v.area.Slices(t.Context(), rs0, 1, oplog.OpTime{}, 100)
	if err != nil || len(slices) != 20 || v.count("oplog", "seed") != "oplog 20, seed 20" {
		t.Errorf("%d slices, %s, %v", len(slices), v.count("oplog", "seed"), err)
	}
}

func TestWhatTheIntakeRefuses(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	v.bind()
	if code := v.begin(1); code != "" {
		t.Fatal(code)
	}
	good, s := oplogSlice(t, wire.Head{}, 1, 1, 5)
	header, content, err := wire.Unframe(good)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := oplogSlice(t, wire.Head{}, 1, 1, 6)
	_, wrong, err := wire.Unframe(other)
	if err != nil {
		t.Fatal(err)
	}
	bad := *s
	bad.Bytes = 1 << 40
	large, err := (&wire.OplogHeader{Slice: bad}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		body       []byte
		want       string
	}{
		{"nothing", wire.PathBackupOplog, nil, wire.CodeMalformed},
		{"no frame", wire.PathBackupOplog, []byte("hello, world"), wire.CodeTooLarge},
		{"no header", wire.PathBackupOplog, wire.Frame(bytesOf(t, bson.D{}), content), wire.CodeDamaged},
		{"the content of another slice", wire.PathBackupOplog, wire.Frame(header, wrong), wire.CodeDamaged},
		{"no zstd", wire.PathBackupOplog, wire.Frame(header, []byte("x")), wire.CodeDamaged},
		{"more than is taken", wire.PathBackupOplog, wire.Frame(large, content), wire.CodeTooLarge},
		{"a seed's path", wire.PathBackupSeed, good, wire.CodeMalformed},
		{"no message", wire.PathBackupEpoch, []byte("x"), wire.CodeMalformed},
	} {
		if _, code := v.post(c.path, c.body); code != c.want {
			t.Errorf("%s: %q, want %q", c.name, code, c.want)
		}
	}
	if n := len(v.objects("")); n != 0 {
		t.Errorf("%d objects were stored", n)
	}
	v.agent = wire.AgentInfo{ID: "a2", Session: "s2", Type: "BACKUP", Hostname: "agent-2", Started: t0}
	v.conf()
	first := v.agent
	v.agent = wire.AgentInfo{ID: "a3", Session: "s3", Type: "BACKUP", Hostname: "agent-3", Started: t0}
	if c := v.conf(); c.State != "STANDBY" || len(c.Jobs) != 0 {
		t.Errorf("a second agent: %+v", c)
	}
	v.setNow(t0.Add(5 * time.Minute))
	if c := v.conf(); c.State != "ACTIVE" || len(c.Jobs) != 1 {
		t.Errorf("after the first was silent: %+v", c)
	}
	v.agent = first
	if c := v.conf(); c.State != "STANDBY" {
		t.Errorf("the first comes back: %+v", c)
	}

	none := v.on(t, v.s.Engine(), v.blobs, func(o *Options) { o.Blobs = nil })
	if _, code := none.post(wire.PathBackupOplog, good); code != wire.CodeNotOffered {
		t.Errorf("a server without a block store: %q", code)
	}
	full := faultblock.New(memblock.New())
	full.Off(blockstore.ErrNoSpace)
	if _, code := v.on(t, v.s.Engine(), full).post(wire.PathBackupOplog, good); code != wire.CodeStorage {
		t.Errorf("a full block store: %q", code)
	}
	if code := send(v, wire.PathBackupReport, wire.BackupReport{Agent: first, Sent: t0, Jobs: []wire.JobReport{
		{Job: string(rs0), Source: "db2:27017", Newest: t0, Error: "no", ErrorCode: "AUTH"}, {Job: "5f00000000000000000000ff"}, {Job: "nonsense"},
	}}); code != "" {
		t.Errorf("report: %q", code)
	}
	if j, err := v.area.Job(t.Context(), rs0); err != nil || j.Tail.Source != "db2:27017" || j.Tail.ErrorAt.IsZero() || j.Tail.AgentID != "a2" {
		t.Errorf("%+v %v", j.Tail, err)
	}
	// Another group's agent sees nothing of it.
	x := newSite(t, storetest.Engine(t))
	stranger := &vault{site: x, agent: first}
	if _, code := stranger.post(wire.PathBackupOplog, good); code != wire.CodeStopped {
		t.Errorf("another site's agent: %q", code)
	}
}

func TestMissingDocumentsComeBackAsAnObject(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	v.bind()
	if code := v.begin(1); code != "" {
		t.Fatal(code)
	}
	found := wire.FoundDocs{Job: string(rs0), Epoch: 1, OperationTime: position(9), Found: []wire.FoundOf{{UUID: people, Docs: []bson.Raw{bytesOf(t, bson.D{{Key: "_id", Value: 1}})}}}}
	if code := send(v, wire.PathBackupMissing, found); code != wire.CodeConflict {
		t.Errorf("when nobody asked: %q", code)
	}
	err := v.area.UpdateJob(t.Context(), rs0, func(j *backup.Job) error {
		j.Missing = []backup.MissingDocs{{UUID: people, NS: "test.people", IDs: []bson.Raw{bytesOf(t, bson.D{{Key: "_id", Value: 1}})}}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if task := v.conf().Jobs[0]; len(task.Missing) != 1 || len(task.Missing[0].IDs) != 1 {
		t.Errorf("%+v", task.Missing)
	}
	for range 2 {
		if code := send(v, wire.PathBackupMissing, found); code != "" {
			t.Errorf("%q", code)
		}
	}
	j, err := v.area.Job(t.Context(), rs0)
	if err != nil || j.Found == nil || len(j.Missing) != 0 {
		t.Fatalf("%+v %v", j, err)
	}
	body, err := blockstore.Get(t.Context(), v.blobs, j.Found.Key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := wire.Decode[wire.FoundDocs](body); err != nil || len(m.Found) != 1 || len(m.Found[0].Docs) != 1 {
		t.Errorf("%+v %v", m, err)
	}
}
