package ingestion

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/faultdoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/facts"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const rs0 = model.ID("5f0000000000000000000c01")

// vault is a site with one replica set whose backup is started and bound.
type vault struct {
	*site
	area  *backup.Backup
	blobs blockstore.Store
	agent wire.AgentInfo
}

func newVault(t testing.TB, e docstore.Engine, blobs blockstore.Store, change ...func(*Options)) *vault {
	t.Helper()
	v := &vault{blobs: blobs, agent: wire.AgentInfo{ID: "a1", Session: "s1", Type: "BACKUP", Hostname: "agent-1", Version: "1", Started: t0}}
	v.site = newSite(t, e, append([]func(*Options){func(o *Options) {
		o.Blobs = func(context.Context, string) (blockstore.Store, error) { return blobs, nil }
	}}, change...)...)
	v.area = backup.New(v.s)
	ctx := t.Context()
	h := v.host("db1.example.net:27017")
	err := v.inv.UpsertCluster(ctx, v.group.ID, rs0, func(c *model.Cluster) error {
		c.Type, c.Name, c.ReplicaSet, c.ReplicaSetID = model.ClusterReplicaSet, "rs0", "rs0", "64b0c0c0c0c0c0c0c0c0c0c0"
		c.Members = []model.Member{{Host: "db1.example.net:27017", HostID: h.ID, Votes: 1}, {Host: "db2.example.net:27017", Votes: 1}, {Host: "arb.example.net:27017", Arbiter: true}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c := backup.Config{GroupID: v.group.ID, ClusterID: rs0, Schedule: snapshot.Default(), Username: "backup", NewPassword: "geheim", Mechanism: "SCRAM-SHA-256"}
	if _, err := v.area.SaveConfig(ctx, c, t0); err != nil {
		t.Fatal(err)
	}
	if _, err := v.area.SetStatus(ctx, rs0, model.BackupStarted, t0); err != nil {
		t.Fatal(err)
	}
	return v
}

// on is another server of the same site, on an engine that has its documents.
func (v *vault) on(t testing.TB, e docstore.Engine, blobs blockstore.Store, change ...func(*Options)) *vault {
	t.Helper()
	s := storetest.OpenOn(t, e, collections()...)
	w := &vault{area: backup.New(s), blobs: blobs, agent: v.agent}
	w.site = &site{
		t: t, s: s, inv: inventory.New(s), acc: access.New(s), events: alerting.New(s), facts: facts.New(s), reg: prometheus.NewRegistry(), now: t0,
		group: v.group, key: v.key,
	}
	w.serve(append([]func(*Options){func(o *Options) {
		o.Blobs = func(context.Context, string) (blockstore.Store, error) { return blobs, nil }
	}}, change...)...)
	return w
}

// bind is what a daemon does.
func (v *vault) bind() {
	v.t.Helper()
	ctx := v.t.Context()
	if err := v.area.UpdateJobAs(ctx, rs0, 1, func(j *backup.Job) error { j.StoreID, j.Daemon, j.Stage = "main", "d", backup.StageSync; return nil }); err != nil {
		v.t.Fatal(err)
	}
	if err := v.area.MarkStarted(ctx, rs0, t0); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) conf() wire.BackupConf {
	v.t.Helper()
	status, body, _ := v.call(v.request(http.MethodGet, wire.PathBackupConf+"?"+wire.ConfQuery(v.agent, nil).Encode(), nil))
	c, err := wire.Decode[wire.BackupConf](body)
	if status != http.StatusOK || err != nil {
		v.t.Fatalf("configuration: %d %v", status, err)
	}
	return c
}

// post sends a body and gives the answer, or the code of the refusal.
func (v *vault) post(path string, body []byte) (answer []byte, code string) {
	v.t.Helper()
	status, answer, _ := v.call(v.request(http.MethodPost, path, body))
	if status == http.StatusOK {
		return answer, ""
	}
	p, err := wire.DecodeProblem(answer)
	if err != nil {
		v.t.Fatalf("%s: %d %q", path, status, answer)
	}
	return nil, p.Code
}

func send[T wire.BackupMessage](v *vault, path string, m T) string {
	v.t.Helper()
	body, err := wire.Encode(m)
	if err != nil {
		v.t.Fatal(err)
	}
	_, code := v.post(path, body)
	return code
}

func bytesOf(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func position(n int) oplog.OpTime {
	return oplog.OpTime{TS: bson.Timestamp{T: 1_795_000_000, I: uint32(n)}, Term: 1}
}

func (v *vault) begin(n int64) string {
	return send(v, wire.PathBackupEpoch, wire.BeginEpoch{
		Job: string(rs0), Number: n, AgentID: v.agent.ID, Session: v.agent.Session, Start: position(1), StartEntry: chain.Digest{7}, ReplicaSetID: "64b0c0c0c0c0c0c0c0c0c0c0",
		SetName: "rs0", ServerVer: "7.0.5", FCV: "7.0",
	})
}

// oplogSlice is the framed body of a slice that follows a head.
func oplogSlice(t testing.TB, h wire.Head, epoch int64, from, to int) (body []byte, s *chain.Slice) {
	t.Helper()
	b := chain.Begin(string(rs0), epoch, h.Last, h.Sum)
	for i := from; i <= to; i++ {
		e, err := oplog.Decode(bytesOf(t, bson.D{
			{Key: "ts", Value: position(i).TS},
			{Key: "t", Value: int64(1)},
			{Key: "v", Value: int64(2)},
			{Key: "op", Value: "n"},
			{Key: "ns", Value: ""},
			{Key: "o", Value: bson.D{{Key: "msg", Value: "x"}}},
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(e, e.Raw); err != nil {
			t.Fatal(err)
		}
	}
	s, content, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	header, err := (&wire.OplogHeader{Slice: *s, Wall: t0}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return wire.Frame(header, wire.Compress(content)), s
}

var people = oplog.UUID{1, 2, 3}

func seedSlice(t testing.TB, epoch, attempt, seq int64, text string) []byte {
	t.Helper()
	var docs []byte
	for i := range 3 {
		docs = append(docs, bytesOf(t, bson.D{{Key: "_id", Value: seq*3 + int64(i)}, {Key: "text", Value: text}})...)
	}
	h := wire.SeedHeader{Job: string(rs0), Epoch: epoch, UUID: people, Attempt: attempt, Seq: seq, Count: 3, Bytes: int64(len(docs)), Digest: sha256.Sum256(docs), Resume: []byte{byte(seq)}}
	header, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return wire.Frame(header, wire.Compress(docs))
}

func (v *vault) objects(prefix string) []string {
	v.t.Helper()
	var keys []string
	for o, err := range blockstore.All(v.t.Context(), v.blobs, prefix) {
		if err != nil {
			v.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// TestAFullReadAndItsOplog goes the whole way of an agent: configuration, epoch, collections, slices of both kinds, the end.
func TestAFullReadAndItsOplog(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	if c := v.conf(); c.State != "NO_PROCESSES" || len(c.Jobs) != 0 {
		t.Errorf("before a daemon has it: %+v", c)
	}
	if code := v.begin(1); code != wire.CodeStopped {
		t.Errorf("an epoch before that: %q", code)
	}
	v.bind()
	c := v.conf()
	if len(c.Jobs) != 1 || c.State != "ACTIVE" {
		t.Fatalf("%+v", c)
	}
	task := c.Jobs[0]
	if task.WantEpoch != 1 || task.Why == "" || task.SetName != "rs0" || task.SyncSource != backup.SyncSecondary || !task.Direct || len(task.Hosts) != 2 ||
		task.Hosts[0].ID == "" || task.Hosts[1].Hostname != "db2.example.net" || task.Hosts[1].Port != 27017 {
		t.Errorf("%+v", task)
	}
	if h := task.Hosts[0]; h.Username != "backup" || h.Password != "geheim" || h.Mechanism != "SCRAM-SHA-256" {
		t.Errorf("credentials: %+v", h)
	}
	if code := v.begin(1); code != "" {
		t.Fatalf("epoch: %q", code)
	}
	if code := v.begin(1); code != "" {
		t.Errorf("the same epoch again: %q", code)
	}

	info := wire.CollectionInfo{UUID: people, NS: "test.people", Options: bytesOf(t, bson.D{}), Indexes: []bson.Raw{bytesOf(t, bson.D{{Key: "name", Value: "a_1"}})}}
	view := wire.CollectionInfo{NS: "test.view", View: bytesOf(t, bson.D{{Key: "viewOn", Value: "people"}})}
	put := func(list ...wire.CollectionInfo) string {
		return send(v, wire.PathBackupCollections, wire.PutCollections{Job: string(rs0), Epoch: 1, Collections: list})
	}
	if code := put(info, view); code != "" {
		t.Fatalf("collections: %q", code)
	}
	for seq := range int64(3) {
		for range 2 {
			if _, code := v.post(wire.PathBackupSeed, seedSlice(t, 1, 0, seq, "first")); code != "" {
				t.Fatalf("seed %d: %q", seq, code)
			}
		}
	}
	if _, code := v.post(wire.PathBackupSeed, seedSlice(t, 1, 0, 1, "other")); code != wire.CodeConflict {
		t.Errorf("another content in its place: %q", code)
	}
	if _, code := v.post(wire.PathBackupSeed, seedSlice(t, 1, 0, 4, "behind a hole")); code != "" {
		t.Errorf("a slice that overtook another: %q", code)
	}
	status, body, _ := v.call(v.request(http.MethodGet, wire.PathBackupCollections+"?job="+string(rs0)+"&epoch=1", nil))
	page, err := wire.Decode[wire.CollectionsPage](body)
	if status != 200 || err != nil || len(page.Collections) != 2 || page.Collections[0].Stored != 3 || !bytes.Equal(page.Collections[0].Resume, []byte{2}) ||
		page.Collections[1].View == nil || len(page.Collections[0].Indexes) != 1 {
		t.Errorf("%d %v %+v", status, err, page)
	}
	info.Done, info.Slices = true, 5
	if code := put(info); code != wire.CodeConflict {
		t.Errorf("done with a slice missing: %q", code)
	}
	if code := send(v, wire.PathBackupScanned, wire.Scanned{Job: string(rs0), Epoch: 1, ScanEnd: position(20), Collections: 2}); code != wire.CodeConflict {
		t.Errorf("the end before the end: %q", code)
	}
	if _, code := v.post(wire.PathBackupSeed, seedSlice(t, 1, 0, 3, "late")); code != "" {
		t.Errorf("the slice that was overtaken: %q", code)
	}
	if code := put(info); code != "" {
		t.Errorf("done: %q", code)
	}
	for range 2 {
		if code := send(v, wire.PathBackupScanned, wire.Scanned{Job: string(rs0), Epoch: 1, ScanEnd: position(20), Collections: 2}); code != "" {
			t.Errorf("the end: %q", code)
		}
	}
	if _, code := v.post(wire.PathBackupSeed, seedSlice(t, 1, 0, 5, "more")); code != wire.CodeConflict {
		t.Errorf("a slice behind the end: %q", code)
	}

	var h wire.Head
	for i := range 3 {
		body, s := oplogSlice(t, h, 1, 1+10*i, 10+10*i)
		for n := range 2 {
			got, code := v.post(wire.PathBackupOplog, body)
			ack, err := wire.Decode[wire.OplogAck](got)
			if code != "" || err != nil || ack.Repeated != (n == 1) || ack.Head.Sum != s.Sum() || ack.Head.Entry != s.LastEntry {
				t.Fatalf("slice %d: %q %v %+v", i, code, err, ack)
			}
			h = ack.Head
		}
	}
	gap, _ := oplogSlice(t, wire.Head{Last: position(40), Sum: chain.Digest{1}}, 1, 41, 50)
	overlap, _ := oplogSlice(t, wire.Head{Last: position(20), Sum: chain.Digest{1}}, 1, 21, 25)
	splice, _ := oplogSlice(t, wire.Head{Last: position(30), Sum: chain.Digest{1}}, 1, 31, 35)
	epoch, _ := oplogSlice(t, h, 2, 31, 35)
	for want, body := range map[string][]byte{wire.CodeGap: gap, wire.CodeOverlap: overlap, wire.CodeSplice: splice, wire.CodeEpoch: epoch} {
		if _, code := v.post(wire.PathBackupOplog, body); code != want {
			t.Errorf("got %q, want %q", code, want)
		}
	}
	slices, err := v.area.Slices(t.Context(), rs0, 1, oplog.OpTime{}, 10)
	if err != nil || len(slices) != 3 || len(v.objects("oplog/")) != 3 || len(v.objects("seed/")) != 5 {
		t.Fatalf("%d slices, objects %v %v, %v", len(slices), v.objects("oplog/"), v.objects("seed/"), err)
	}
	for _, s := range slices {
		z, err := blockstore.Get(t.Context(), v.blobs, s.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := wire.Decompress(z, s.Slice.Bytes)
		if err != nil || s.Slice.Open(docs, func(bson.Raw) error { return nil }) != nil || s.Stored != int64(len(z)) {
			t.Errorf("object %s: %v", s.Key, err)
		}
	}
	task = v.conf().Jobs[0]
	if task.Head != h || !task.Scanned || task.WantEpoch != 0 || task.Epoch != 1 || task.Start != position(1) || task.StartEntry != (chain.Digest{7}) {
		t.Errorf("%+v", task)
	}

	if code := send(v, wire.PathBackupEnd, wire.EndEpoch{Job: string(rs0), Epoch: 1, Verdict: string(chain.Gap), Why: "the oplog rolled over", At: t0}); code != "" {
		t.Errorf("end: %q", code)
	}
	next, _ := oplogSlice(t, h, 1, 31, 35)
	if _, code := v.post(wire.PathBackupOplog, next); code != wire.CodeEpoch {
		t.Errorf("a slice after the end: %q", code)
	}
	if task = v.conf().Jobs[0]; task.WantEpoch != 2 || task.Why != "the oplog rolled over" || !task.Ended {
		t.Errorf("%+v", task)
	}
	if code := v.begin(2); code != "" {
		t.Errorf("the next epoch: %q", code)
	}
	if again, _ := oplogSlice(t, wire.Head{}, 2, 1, 3); true {
		if _, code := v.post(wire.PathBackupOplog, again); code != "" {
			t.Errorf("its first slice: %q", code)
		}
	}
}

// TestNothingIsAcknowledgedThatIsNotStored: with any call to the block store or the database failing, before or after it did its
// work, an agent that repeats what was not acknowledged gets a whole chain, and every object that is named is there.
func TestNothingIsAcknowledgedThatIsNotStored(t *testing.T) {
	var first *vault
	fresh := storetest.Prepared(t, func(e docstore.Engine) {
		first = newVault(t, e, memblock.New())
		first.bind()
		if code := first.begin(1); code != "" {
			t.Fatal(code)
		}
	})
	work := func(v *vault) (refused int) {
		try := func(path string, body []byte) []byte {
			for range 5 {
				answer, code := v.post(path, body)
				if code == "" {
					return answer
				}
				if code != wire.CodeUnavailable && code != wire.CodeStorage {
					v.t.Fatalf("%s was refused: %s", path, code)
				}
				refused++
			}
			v.t.Fatalf("%s was refused again and again", path)
			return nil
		}
		var h wire.Head
		for i := range 3 {
			body, _ := oplogSlice(v.t, h, 1, 1+10*i, 10+10*i)
			ack, err := wire.Decode[wire.OplogAck](try(wire.PathBackupOplog, body))
			if err != nil {
				v.t.Fatal(err)
			}
			h = ack.Head
			try(wire.PathBackupSeed, seedSlice(v.t, 1, 0, int64(i), "x"))
		}
		slices, err := v.area.Slices(v.t.Context(), rs0, 1, oplog.OpTime{}, 10)
		if err != nil || len(slices) != 3 || slices[2].Slice.Sum() != h.Sum {
			v.t.Errorf("%d slices, %v", len(slices), err)
		}
		keys := []string{}
		for _, s := range slices {
			keys = append(keys, s.Key)
		}
		for s, err := range v.area.Seeds(v.t.Context(), rs0, 1, people, 0) {
			if err != nil {
				v.t.Fatal(err)
			}
			keys = append(keys, s.Key)
		}
		if len(keys) != 6 {
			v.t.Errorf("%d objects are named", len(keys))
		}
		for _, key := range keys {
			if _, err := v.blobs.Stat(v.t.Context(), key); err != nil {
				v.t.Errorf("%s is named and not there: %v", key, err)
			}
		}
		return refused
	}
	reopen := func(t *testing.T, e docstore.Engine, blobs blockstore.Store) *vault { return first.on(t, e, blobs) }
	for _, after := range []bool{false, true} {
		for _, call := range []faultblock.Call{faultblock.Create, faultblock.Write, faultblock.Commit} {
			for n := 1; n <= 6; n++ {
				t.Run(fmt.Sprintf("%s %d, after %v", call, n, after), func(t *testing.T) {
					blobs := faultblock.New(memblock.New())
					blobs.Fail(faultblock.Fault{Call: call, Nth: n, After: after})
					if refused := work(reopen(t, fresh(t), blobs)); refused == 0 {
						t.Error("nothing failed")
					}
				})
			}
		}
		for n := 1; n <= 9; n++ {
			t.Run(fmt.Sprintf("database write %d, after %v", n, after), func(t *testing.T) {
				e := faultdoc.New(fresh(t))
				v := reopen(t, e, memblock.New())
				e.Fail(faultdoc.Fault{Call: faultdoc.Write, Nth: n, After: after})
				work(v)
			})
		}
		for n := 1; n <= 30; n += 3 {
			t.Run(fmt.Sprintf("database read %d", n), func(t *testing.T) {
				e := faultdoc.New(fresh(t))
				v := reopen(t, e, memblock.New())
				e.Fail(faultdoc.Fault{Call: faultdoc.Get, Nth: n, Err: docstore.ErrUnavailable})
				if refused := work(v); refused == 0 {
					t.Error("nothing failed")
				}
			})
		}
	}
}
