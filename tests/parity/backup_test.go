package parity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/sandbox"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/backuptest"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// The world's backups: of one an agent reads everything, the other has a history, an archive to fetch and one to be pushed.
const (
	freshID   = model.ID("5f0000000000000000000c01")
	pastID    = model.ID("5f0000000000000000000c02")
	archiveID = "5f0000000000000000000f11"
	pushID    = "5f0000000000000000000f12"
	archiveAt = "restores/" + archiveID + "/rs0.tar.gz"
	lostAt    = "restores/" + archiveID + "/lost.tar.gz"
	setID     = "64b0c0c0c0c0c0c0c0c0c0c0"
)

// archive is more than a guest is given at once.
var archive = bytes.Repeat([]byte("0123456789abcde\n"), 3<<16+5)

// blobs is a side's block store "local", with the archive in it. No other is known.
func blobs(t testing.TB) func(ctx context.Context, id string) (blockstore.Store, error) {
	t.Helper()
	s := memblock.New()
	ok(t, blockstore.Put(t.Context(), s, archiveAt, archive))
	return func(_ context.Context, id string) (blockstore.Store, error) {
		if id != "local" {
			return nil, blockstore.ErrNotFound
		}
		return s, nil
	}
}

// backedUp adds the backups to the world.
func backedUp(t testing.TB, site *areas.Site) {
	t.Helper()
	ctx := t.Context()
	for id, set := range map[model.ID]string{freshID: "fresh", pastID: "rs0"} {
		ok(t, site.Inventory.UpsertCluster(ctx, groupID, id, func(c *model.Cluster) error {
			c.Type, c.Name, c.ReplicaSet, c.ReplicaSetID = model.ClusterReplicaSet, set, set, setID
			c.Members = []model.Member{{Host: replies.Name(0) + ":27017", HostID: model.NewHostID(groupID, replies.Name(0), 27017), Votes: 1}}
			return nil
		}))
		_, err := site.Backup.SaveConfig(ctx, backup.Config{
			GroupID: groupID, ClusterID: id, Schedule: snapshot.Default(), Username: "backup", NewPassword: "geheim", Mechanism: "SCRAM-SHA-256",
		}, noon.Add(-2*time.Hour))
		ok(t, err)
		_, err = site.Backup.SetStatus(ctx, id, model.BackupStarted, noon.Add(-2*time.Hour))
		ok(t, err)
	}
	ok(t, site.Backup.UpdateJobAs(ctx, freshID, 1, func(j *backup.Job) error {
		j.StoreID, j.Daemon, j.Stage = "local", "d", backup.StageSync
		return nil
	}))
	ok(t, site.Backup.MarkStarted(ctx, freshID, noon.Add(-time.Hour)))
	backuptest.History(t, site.Backup, groupID, pastID, noon.Add(-time.Hour))
	restored(t, site.Backup, archiveID, model.DeliverHTTP)
	restored(t, site.Backup, pushID, model.DeliverPush)
}

// restored adds a restore whose archives are written, one of them lost since.
func restored(t testing.TB, b *backup.Backup, id string, method model.DeliveryMethod) {
	t.Helper()
	ctx := t.Context()
	sum := sha256.Sum256(archive)
	digest := hex.EncodeToString(sum[:])
	ok(t, b.AddRestore(ctx, backup.Restore{
		ID: id, BatchID: id, GroupID: groupID, Job: pastID, Created: noon, Status: model.RestoreInProgress, Method: method, TargetGroup: groupID, TargetID: pastID,
		Delivery: backup.Delivery{Hours: 2, MaxDownloads: 1},
	}))
	r, found, err := b.ClaimRestore(ctx, "d", noon, time.Minute, nil)
	ok(t, err)
	if !found {
		t.Fatal("the restore cannot be claimed")
	}
	ok(t, b.UpdateRestoreAs(ctx, r.ID, r.Token, func(r *backup.Restore) error {
		r.StoreID, r.Objects = "local", []backup.Object{
			{Key: archiveAt, Name: "rs0.tar.gz", Bytes: int64(len(archive)), SHA256: digest}, {Key: lostAt, Name: "lost.tar.gz", Bytes: 7, SHA256: digest},
		}
		if method == model.DeliverHTTP {
			r.Status, r.Finished = model.RestoreFinished, noon
			b.OfferDownload(r, noon)
		}
		return nil
	}))
}

// link is where the archive is fetched.
func link(t testing.TB, b *backup.Backup, file string) string {
	t.Helper()
	r, err := b.Restore(t.Context(), archiveID)
	ok(t, err)
	token, err := b.DownloadToken(&r, noon)
	ok(t, err)
	return wire.PathRestorePull + archiveID + "/" + token.Reveal() + "/" + file
}

// agentCall is a request of the backup agent.
func agentCall(name, method, path string, body []byte, status int, header ...string) request {
	return request{name, sandbox.Ingestion, func(testing.TB, *side) *http.Request {
		r := httptest.NewRequest(method, path, bytes.NewReader(body))
		r.SetBasicAuth(string(groupID), agentKey)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return r
	}, status}
}

func message[T wire.BackupMessage](t testing.TB, name, path string, m T, status int) request {
	t.Helper()
	body, err := wire.Encode(m)
	ok(t, err)
	return agentCall(name, http.MethodPost, path, body, status)
}

// fetch is anybody's request of a file.
func fetch(name, method, path string, status int, header ...string) request {
	return request{name, sandbox.Ingestion, func(testing.TB, *side) *http.Request {
		r := httptest.NewRequest(method, path, http.NoBody)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return r
	}, status}
}

func position(n int) oplog.OpTime {
	return oplog.OpTime{TS: bson.Timestamp{T: uint32(noon.Unix()), I: uint32(n)}, Term: 1} //nolint:gosec // times of tests
}

func raw(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	ok(t, err)
	return b
}

// oplogSlice is the framed body of a slice that follows a head; its entries carry text.
func oplogSlice(t testing.TB, h wire.Head, from, to int, text string) (body []byte, after wire.Head) {
	t.Helper()
	b := chain.Begin(string(freshID), 1, h.Last, h.Sum)
	for i := from; i <= to; i++ {
		e, err := oplog.Decode(raw(t, bson.D{
			{Key: "ts", Value: position(i).TS},
			{Key: "t", Value: int64(1)},
			{Key: "v", Value: int64(2)},
			{Key: "op", Value: "n"},
			{Key: "ns", Value: ""},
			{Key: "o", Value: bson.D{{Key: "msg", Value: text}}},
		}))
		ok(t, err)
		ok(t, b.Add(e, e.Raw))
	}
	s, content, err := b.Finish()
	ok(t, err)
	header, err := (&wire.OplogHeader{Slice: *s, Wall: noon}).Encode()
	ok(t, err)
	return wire.Frame(header, wire.Compress(content)), wire.Head{Last: s.Last, Sum: s.Sum(), Entry: s.LastEntry}
}

var people = oplog.UUID{1, 2, 3}

// seedSlice is the framed body of a slice of a full read that holds one document.
func seedSlice(t testing.TB, seq int64, text []byte) []byte {
	t.Helper()
	docs := raw(t, bson.D{{Key: "_id", Value: seq}, {Key: "text", Value: text}})
	h := wire.SeedHeader{
		Job: string(freshID), Epoch: 1, UUID: people, Seq: seq, Count: 1, Bytes: int64(len(docs)), Digest: sha256.Sum256(docs), Resume: []byte{byte(seq)},
	}
	header, err := h.Encode()
	ok(t, err)
	return wire.Frame(header, wire.Compress(docs))
}

// noise is what cannot be compressed.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // never fails
	return b
}

// backupTable is the way of a backup agent, of a download and of a push, and the pages and calls that show them.
func backupTable(t testing.TB, site *areas.Site) []request {
	agent := wire.AgentInfo{ID: "a1", Session: "s1", Type: "BACKUP", Hostname: "agent-1", Version: "1", Started: noon.Add(-time.Hour)}
	conf := wire.PathBackupConf + "?" + wire.ConfQuery(agent, nil).Encode()
	info := wire.CollectionInfo{UUID: people, NS: "test.people", Options: raw(t, bson.D{})}
	first, head := oplogSlice(t, wire.Head{}, 1, 10, "x")
	second, head2 := oplogSlice(t, head, 11, 20, string(noise(100_000)))
	gap, _ := oplogSlice(t, wire.Head{Last: position(40), Sum: chain.Digest{1}}, 41, 50, "x")
	broken := bytes.Clone(second)
	broken[len(broken)-9] ^= 1
	seed := seedSlice(t, 0, noise(3<<20))
	url, lost := link(t, site.Backup, "rs0.tar.gz"), link(t, site.Backup, "lost.tar.gz")
	push := wire.PathBackupRestores + pushID
	g, api := "/g/"+string(groupID), "/groups/"+string(groupID)
	fresh, past := "/backup/"+string(freshID), "/backup/"+string(pastID)
	begin := wire.BeginEpoch{
		Job: string(freshID), Number: 1, AgentID: "a1", Session: "s1", Start: position(1), StartEntry: chain.Digest{7}, ReplicaSetID: setID, SetName: "fresh",
		ServerVer: "7.0.14", FCV: "7.0",
	}
	last := noise(8)
	return []request{
		// An agent.
		agentCall("configuration", http.MethodGet, conf, nil, 200),
		fetch("configuration for nobody", http.MethodGet, conf, 401),
		message(t, "a message that is no slice", wire.PathBackupOplog, wire.BackupReport{}, 413),
		agentCall("a slice of no epoch", http.MethodPost, wire.PathBackupOplog, first, 409),
		message(t, "an epoch begins", wire.PathBackupEpoch, begin, 200), message(t, "again", wire.PathBackupEpoch, begin, 200),
		message(t, "collections", wire.PathBackupCollections, wire.PutCollections{Job: string(freshID), Epoch: 1, Collections: []wire.CollectionInfo{info}}, 200),
		agentCall("a large slice of the full read", http.MethodPost, wire.PathBackupSeed, seed, 200),
		agentCall("again", http.MethodPost, wire.PathBackupSeed, seed, 200),
		agentCall("another in its place", http.MethodPost, wire.PathBackupSeed, seedSlice(t, 0, last), 409),
		agentCall("what is no slice", http.MethodPost, wire.PathBackupSeed, last, 413),
		agentCall("collections so far", http.MethodGet, wire.PathBackupCollections+"?job="+string(freshID)+"&epoch=1", nil, 200),
		agentCall("oplog", http.MethodPost, wire.PathBackupOplog, first, 200), agentCall("oplog again", http.MethodPost, wire.PathBackupOplog, first, 200),
		agentCall("damaged oplog", http.MethodPost, wire.PathBackupOplog, broken, 400),
		agentCall("more oplog", http.MethodPost, wire.PathBackupOplog, second, 200),
		agentCall("oplog with a gap", http.MethodPost, wire.PathBackupOplog, gap, 409),
		message(t, "a wish to upload", wire.PathBackupUpload, wire.UploadWish{Kind: wire.UploadSeed, Header: seedHeader(t, seed), Stored: 100}, 200),
		message(t, "done too early", wire.PathBackupScanned, wire.Scanned{Job: string(freshID), Epoch: 1, ScanEnd: head2.Last, Collections: 1}, 409),
		message(t, "a report", wire.PathBackupReport, wire.BackupReport{Agent: agent, Sent: noon, Jobs: []wire.JobReport{{Job: string(freshID), Source: "db1:27017", Docs: 3}}}, 200),
		agentCall("configuration again", http.MethodGet, conf, nil, 200),
		// A download.
		fetch("size of the archive", http.MethodHead, url, 200), fetch("beyond the archive", http.MethodGet, url, 416, "Range", "bytes=99999999-"),
		fetch("an archive that is lost", http.MethodGet, lost, 503), fetch("a wrong link", http.MethodGet, wire.PathRestorePull+archiveID+"/x/rs0.tar.gz", 404),
		fetch("the archive", http.MethodGet, url, 200), fetch("the archive again", http.MethodGet, url, 410),
		fetch("a part of it", http.MethodGet, url, 206, "Range", "bytes=5-9"), fetch("its end", http.MethodGet, url, 206, "Range", "bytes=-7"),
		fetch("the rest of the archive", http.MethodGet, url, 206, "Range", "bytes=1000003-"),
		// A push.
		agentCall("a push", http.MethodGet, push, nil, 200), agentCall("a push that is none", http.MethodGet, wire.PathBackupRestores+archiveID, nil, 409),
		agentCall("its object", http.MethodGet, push+"/objects/0", nil, 200), agentCall("the rest of it", http.MethodGet, push+"/objects/0", nil, 206, "Range", "bytes=2000001-"),
		agentCall("its lost object", http.MethodGet, push+"/objects/1", nil, 500), agentCall("an object too many", http.MethodGet, push+"/objects/2", nil, 400),
		message(t, "progress", push+"/progress", wire.PushProgress{AgentID: "a1", Session: "s1", Step: "writing", Done: 1, Total: 2}, 200),
		message(t, "its end", push+"/progress", wire.PushProgress{AgentID: "a1", Session: "s1", Step: "done", Done: 2, Total: 2, Finished: true}, 200),
		agentCall("the object of a push that has ended", http.MethodGet, push+"/objects/0", nil, 409),
		// The duty.
		pass(sandbox.Ingestion, "/passes/backup-expire"),
		// Pages and calls.
		page(g+"/backup", 200), page(g+fresh, 200), page(g+past, 200), page(g+past+"/restore", 200), page(g+"/backup-restores", 200),
		page(g+"/backup-restores/"+archiveID, 200), page(g+past+"/terminate", 200), page("/admin/backup", 200),
		form(g+past+"/restore", "do=start&method=HTTP", 422),
		call(http.MethodGet, api+"/backupConfigs", "", 200), call(http.MethodGet, api+"/clusters/"+string(pastID)+"/snapshots", "", 200),
		call(http.MethodGet, api+"/backupConfigs/"+string(pastID)+"/snapshotSchedule", "", 200), call(http.MethodGet, api+"/clusters/"+string(pastID)+"/restoreJobs", "", 200),
		call(http.MethodPost, api+"/clusters/"+string(pastID)+"/restoreJobs", `{"snapshotId":"none"}`, 409),
		call(http.MethodPatch, api+"/backupConfigs/"+string(freshID), `{"statusName":"STOPPED"}`, 200),
		agentCall("configuration of a stopped backup", http.MethodGet, conf, nil, 200), agentCall("a slice of it", http.MethodPost, wire.PathBackupOplog, gap, 409),
	}
}

func seedHeader(t testing.TB, body []byte) bson.Raw {
	t.Helper()
	header, _, err := wire.Unframe(body)
	ok(t, err)
	return header
}

func TestBackupsOfGuestsAreThoseOfTheNativeFunctions(t *testing.T) {
	c := &clock{}
	file := world(t, c, backedUp)
	guest, _ := guests(t, c, file)
	sides := []*side{native(t, c, file), guest}
	for _, r := range backupTable(t, attach(t, open(t, file), c)) {
		compare(t, c, sides, r)
	}
	for _, s := range sides { // what a person sees of a download that came to its end
		if r, err := s.site.Backup.Restore(t.Context(), archiveID); err != nil || r.Delivery.Downloads != 1 || r.Delivery.Status != model.DeliveryReady {
			t.Errorf("%s: %+v %v", s.name, r.Delivery, err)
		}
	}
	kept := func(s *side) (keys []string) {
		b, err := s.blobs(t.Context(), "local")
		ok(t, err)
		for o, err := range blockstore.All(t.Context(), b, "") {
			ok(t, err)
			keys = append(keys, o.Key)
		}
		return keys
	}
	if a, b := kept(sides[0]), kept(sides[1]); len(a) < 4 || len(a) != len(b) {
		t.Errorf("natively %v, in the sandbox %v", a, b)
	}
}

// TestTheLargestSlicePassesAGuest: an instance's memory is enough for a body of the largest slice that cannot be compressed.
func TestTheLargestSlicePassesAGuest(t *testing.T) {
	c := &clock{}
	file := world(t, c, backedUp)
	guest, _ := guests(t, c, file, func(o *sandbox.Options) { o.Functions = []string{sandbox.Ingestion} })
	begin := backupTable(t, attach(t, open(t, file), c))
	for _, r := range begin[4:7] { // the epoch and its collections
		w := httptest.NewRecorder()
		guest.handlers[r.function].ServeHTTP(w, r.make(t, guest))
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", r.name, w.Code, w.Body)
		}
	}
	body := seedSlice(t, 0, noise(wire.MaxSliceBytes-1000))
	for range 2 {
		w := httptest.NewRecorder()
		guest.handlers[sandbox.Ingestion].ServeHTTP(w, agentCall("", http.MethodPost, wire.PathBackupSeed, body, 200).make(t, guest))
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	guest.handlers[sandbox.Ingestion].ServeHTTP(w, agentCall("", http.MethodPost, wire.PathBackupSeed, noise(wire.MaxSliceBytes+wire.MaxSliceHeader+1), 413).make(t, guest))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a larger one: %d %s", w.Code, w.Body)
	}
}
