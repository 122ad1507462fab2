package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
)

const job = "5f0000000000000000000c01"

func rawOf(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opTime(n uint32) oplog.OpTime {
	return oplog.OpTime{TS: bson.Timestamp{T: 1_795_000_000, I: n}, Term: 3}
}

// sampleSlice is a slice of one entry, and its header.
func sampleSlice(t testing.TB) (h OplogHeader, content []byte) {
	t.Helper()
	b := chain.Begin(job, 2, oplog.OpTime{}, chain.Digest{})
	e, err := oplog.Decode(rawOf(t, bson.D{
		{Key: "ts", Value: opTime(1).TS},
		{Key: "t", Value: int64(3)},
		{Key: "v", Value: int64(2)},
		{Key: "op", Value: "n"},
		{Key: "ns", Value: ""},
		{Key: "o", Value: bson.D{{Key: "msg", Value: "periodic noop"}}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(e, e.Raw); err != nil {
		t.Fatal(err)
	}
	s, docs, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return OplogHeader{Slice: *s, Wall: at}, docs
}

func sampleSeed(t testing.TB) (h SeedHeader, docs []byte) {
	t.Helper()
	for i := range 3 {
		docs = append(docs, rawOf(t, bson.D{{Key: "_id", Value: int32(i)}, {Key: "name", Value: strings.Repeat("x", 50)}})...)
	}
	return SeedHeader{Job: job, Epoch: 2, UUID: oplog.UUID{1}, Attempt: 1, Seq: 7, Count: 3, Bytes: int64(len(docs)), Digest: sha256.Sum256(docs), Resume: []byte("here")}, docs
}

func sampleBackupConf(t testing.TB) BackupConf {
	return BackupConf{
		Version: 1, Time: at, State: "ACTIVE", ConfSeconds: 13, MaxPost: MaxPost, SliceBytes: 10 << 20,
		Jobs: []BackupTask{{
			Job: job, SetName: "rs0", ReplicaSetID: "64b0", Hosts: []Host{{ID: "a", Hostname: "db1", Port: 27017, Type: "REPLICA_PRIMARY", Username: "u", Password: "p"}},
			SyncSource: "SECONDARY", Filter: Filter{Kind: "exclude", Namespaces: []string{"logs"}}, Epoch: 2, WantEpoch: 3, Why: "the oplog rolled over", EpochSetID: "64b0",
			Start: opTime(1), StartEntry: chain.Digest{1}, Scanned: true, Ended: true, Head: Head{Last: opTime(9), Sum: chain.Digest{2}, Entry: chain.Digest{3}},
			Missing: []MissingDocs{{UUID: oplog.UUID{1}, NS: "a.b", IDs: []bson.Raw{rawOf(t, bson.D{{Key: "_id", Value: int32(1)}})}}}, Direct: true, OplogSliceSeconds: 10,
			BandwidthBytes: 1 << 20, MaxLagSeconds: 30, HeartbeatNotes: true,
		}},
		Pushes: []PushTask{{Restore: job, Cluster: job, SetName: "rs0", Hosts: []Host{}}},
	}
}

func samplePut(t testing.TB) PutCollections {
	return PutCollections{Version: 1, Job: job, Epoch: 2, Collections: []CollectionInfo{
		{
			UUID: oplog.UUID{1}, NS: "shop.orders", Options: rawOf(t, bson.D{{Key: "validator", Value: bson.D{{Key: "$expr", Value: true}}}}), IDIndex: rawOf(t, bson.D{}),
			Indexes: []bson.Raw{rawOf(t, bson.D{{Key: "name", Value: "a_1"}})}, Attempt: 1, Done: true, Slices: 3, Docs: 9, Bytes: 100,
		},
		{NS: "shop.open", View: rawOf(t, bson.D{{Key: "viewOn", Value: "orders"}})},
	}}
}

// same checks that a message comes back as it was, and that its golden form is read as it was meant.
func same[T BackupMessage](t *testing.T, name string, want T) {
	t.Helper()
	b, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode[T](b)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%s: %v\n%s", name, err, d)
	}
	file := filepath.Join("testdata", "v1", name+".zst")
	if *update {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	got, err = Decode[T](b)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("golden %s: %v\n%s", name, err, d)
	}
}

// TestGoldenOfBackup reads messages that were written when they were made. They are never regenerated once released.
func TestGoldenOfBackup(t *testing.T) {
	same(t, "backupconf", sampleBackupConf(t))
	same(t, "backupreport", BackupReport{Version: 1, Agent: samplePost(t).Agent, Sent: at, Jobs: []JobReport{{
		Job: job, Source: "db2:27017", Version: "7.0.5", FCV: "7.0", Oldest: at, Newest: at, DataBytes: 1, Collections: 2, CollectionsDone: 3, Docs: 4, DocsDone: 5, Bytes: 6, BytesDone: 7,
		Spooled: 8, Throttled: "lag", Error: "no", ErrorCode: "AUTH",
	}}})
	same(t, "backupack", BackupAck{Version: 1, Time: at, Repeated: true})
	same(t, "beginepoch", BeginEpoch{
		Version: 1, Job: job, Number: 3, AgentID: "a", Session: "s", Why: "gap", Start: opTime(1), StartEntry: chain.Digest{1}, ReplicaSetID: "64b0", SetName: "rs0", ServerVer: "7.0.5", FCV: "7.0",
	})
	same(t, "putcollections", samplePut(t))
	same(t, "collectionspage", CollectionsPage{Version: 1, Collections: samplePut(t).Collections, After: "c/x"})
	same(t, "oplogack", OplogAck{Version: 1, Repeated: true, Head: Head{Last: opTime(9), Sum: chain.Digest{2}, Entry: chain.Digest{3}}})
	same(t, "scanned", Scanned{Version: 1, Job: job, Epoch: 2, ScanEnd: opTime(5), Collections: 7})
	same(t, "endepoch", EndEpoch{Version: 1, Job: job, Epoch: 2, Verdict: "gap", Why: "rolled over", At: at})
	same(t, "founddocs", FoundDocs{
		Version: 1, Job: job, Epoch: 2, OperationTime: opTime(5), Found: []FoundOf{{UUID: oplog.UUID{1}, Docs: []bson.Raw{rawOf(t, bson.D{{Key: "_id", Value: int32(1)}})}}},
		Absent: []MissingDocs{{UUID: oplog.UUID{1}, NS: "a.b", IDs: []bson.Raw{rawOf(t, bson.D{{Key: "_id", Value: int32(2)}})}}},
	})
	h, _ := sampleSlice(t)
	header, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "uploadwish", UploadWish{Version: 1, Kind: UploadOplog, Header: header, Stored: 12})
	same(t, "upload", Upload{Version: 1, There: true, Method: "PUT", URL: "https://x", Header: map[string]string{"a": "b"}})
	same(t, "push", Push{Version: 1, Restore: job, Drop: true, Rename: map[string]string{"a": "b"}, Objects: []PushObject{{Name: "a", Bytes: 1, SHA256: "ff"}}, Cancel: true})
	same(t, "pushprogress", PushProgress{Version: 1, AgentID: "a", Session: "s", Step: "x", Done: 1, Total: 2, Finished: true, Error: "e", Remedy: "r"})
}

func TestFramesOfBackup(t *testing.T) {
	h, docs := sampleSlice(t)
	header, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	raw, content, err := Unframe(Frame(header, Compress(docs)))
	if err != nil || !bytes.Equal(raw, header) {
		t.Fatal(err)
	}
	back, err := DecodeOplogHeader(raw)
	if d := cmp.Diff(h, back); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	got, err := Decompress(content, h.Slice.Bytes)
	if err != nil || !bytes.Equal(got, docs) || h.Slice.Open(got, func(bson.Raw) error { return nil }) != nil {
		t.Errorf("the entries: %v", err)
	}
	seed, docs := sampleSeed(t)
	if header, err = seed.Encode(); err != nil {
		t.Fatal(err)
	}
	again, err := DecodeSeedHeader(header)
	if d := cmp.Diff(seed, again); err != nil || d != "" || again.Open(docs) != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestRefusedSlices(t *testing.T) {
	seed, docs := sampleSeed(t)
	h, _ := sampleSlice(t)
	seedWith := func(change func(*SeedHeader)) func() error {
		return func() error {
			h := seed
			change(&h)
			b, err := h.Encode()
			if err != nil {
				t.Fatal(err)
			}
			_, err = DecodeSeedHeader(b)
			return err
		}
	}
	frame := func(b []byte) func() error {
		return func() error { _, _, err := Unframe(b); return err }
	}
	long := make([]byte, 8)
	binary.LittleEndian.PutUint32(long, math.MaxUint32)
	beyond := make([]byte, 8)
	binary.LittleEndian.PutUint32(beyond, 100)
	for _, c := range []struct {
		name string
		do   func() error
		code string
	}{
		{"no frame", frame(nil), CodeMalformed},
		{"a header of 4 GiB", frame(long), CodeTooLarge},
		{"a header behind the end", frame(beyond), CodeMalformed},
		{"a header that is no document", frame([]byte{4, 0, 0, 0, 1, 2, 3, 4}), CodeMalformed},
		{"no job", seedWith(func(h *SeedHeader) { h.Job = "" }), CodeMalformed},
		{"no collection", seedWith(func(h *SeedHeader) { h.UUID = oplog.UUID{} }), CodeMalformed},
		{"a negative place", seedWith(func(h *SeedHeader) { h.Seq = -1 }), CodeMalformed},
		{"no documents", seedWith(func(h *SeedHeader) { h.Count = 0 }), CodeMalformed},
		{"more documents than bytes", seedWith(func(h *SeedHeader) { h.Count = math.MaxInt64 / 4 }), CodeMalformed},
		{"too many bytes", seedWith(func(h *SeedHeader) { h.Bytes = MaxSliceBytes + 1 }), CodeTooLarge},
		{"a long note", seedWith(func(h *SeedHeader) { h.Resume = make([]byte, MaxResumeToken+1) }), CodeTooLarge},
		{"uploaded, of no size", seedWith(func(h *SeedHeader) { h.Uploaded = true }), CodeMalformed},
		{"another digest", func() error { h := seed; h.Digest[0]++; return h.Open(docs) }, CodeDamaged},
		{"another count", func() error { h := seed; h.Count++; return h.Open(docs) }, CodeDamaged},
		{"no documents inside", func() error {
			h, junk := seed, bytes.Repeat([]byte{7}, 100)
			h.Bytes, h.Digest = 100, sha256.Sum256(junk)
			return h.Open(junk)
		}, CodeDamaged},
		{"no slice", func() error { _, err := DecodeOplogHeader(rawOf(t, bson.D{})); return err }, CodeDamaged},
		{"a slice that contradicts itself", func() error {
			h := h
			h.Slice.Last = oplog.OpTime{}
			b, err := h.Encode()
			if err != nil {
				t.Fatal(err)
			}
			_, err = DecodeOplogHeader(b)
			return err
		}, CodeDamaged},
		{"a bomb", func() error { _, err := Decompress(Compress(make([]byte, MaxSliceBytes+1)), 1<<20); return err }, CodeDamaged},
		{"more than is taken", func() error { _, err := Decompress(Compress(docs), MaxSliceBytes+1); return err }, CodeTooLarge},
		{"fewer bytes than said", func() error { _, err := Decompress(Compress(docs), seed.Bytes+1); return err }, CodeDamaged},
		{"an epoch without a start", func() error { return refused(t, BeginEpoch{Job: job, Number: 1, AgentID: "a"}) }, CodeMalformed},
		{"a collection that is a view too", func() error {
			m := samplePut(t)
			m.Collections[0].View = m.Collections[1].View
			return refused(t, m)
		}, CodeMalformed},
		{"too many collections", func() error {
			return refused(t, PutCollections{Job: job, Epoch: 1, Collections: make([]CollectionInfo, MaxCollections+1)})
		}, CodeMalformed},
		{"an end without a reason", func() error { return refused(t, EndEpoch{Job: job, Epoch: 1, At: time.Now()}) }, CodeMalformed},
		{"an upload of nothing known", func() error { return refused(t, UploadWish{Kind: "x"}) }, CodeMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e *Error
			if err := c.do(); !errors.As(err, &e) || e.Code != c.code || e.Reason == "" {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
}

func refused[T BackupMessage](t *testing.T, m T) error {
	t.Helper()
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Decode[T](b)
	return err
}

// FuzzSlice: whatever arrives as a framed body, it is refused with a code, or is what its header says.
func FuzzSlice(f *testing.F) {
	h, entries := sampleSlice(f)
	header, err := h.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(Frame(header, Compress(entries)))
	seed, docs := sampleSeed(f)
	if header, err = seed.Encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(Frame(header, Compress(docs)))
	f.Fuzz(func(t *testing.T, body []byte) {
		coded := func(err error) bool {
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Fatalf("error %v has no code", err)
			}
			return err == nil
		}
		header, content, err := Unframe(body)
		if !coded(err) {
			return
		}
		if h, err := DecodeSeedHeader(header); coded(err) {
			if docs, err := Decompress(content, h.Bytes); coded(err) && coded(h.Open(docs)) && int64(len(docs)) != h.Bytes {
				t.Fatal("a slice of another size was taken")
			}
		}
		if h, err := DecodeOplogHeader(header); coded(err) {
			if docs, err := Decompress(content, h.Slice.Bytes); coded(err) {
				n := int64(0)
				if h.Slice.Open(docs, func(bson.Raw) error { n++; return nil }) == nil && n != h.Slice.Count {
					t.Fatal("a slice of another count was taken")
				}
			}
		}
	})
}

// FuzzBackupMessages puts the mutations inside the compression, or nearly all would be refused at the door.
func FuzzBackupMessages(f *testing.F) {
	for _, v := range []any{sampleBackupConf(f), samplePut(f), BeginEpoch{Version: 1}, BackupReport{Version: 1}, FoundDocs{Version: 1}} {
		f.Add([]byte(rawOf(f, v)))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		b := encoder().EncodeAll(doc, nil)
		for _, err := range []error{
			decoded[BackupConf](b), decoded[BackupReport](b), decoded[BeginEpoch](b), decoded[PutCollections](b), decoded[Scanned](b), decoded[EndEpoch](b),
			decoded[FoundDocs](b), decoded[UploadWish](b), decoded[PushProgress](b), decoded[Push](b), decoded[CollectionsPage](b), decoded[OplogAck](b), decoded[Upload](b), decoded[BackupAck](b),
		} {
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Fatalf("error %v has no code", err)
			}
		}
	})
}

func decoded[T BackupMessage](b []byte) error {
	_, err := Decode[T](b)
	return err
}

func BenchmarkSlice(b *testing.B) {
	doc := rawOf(b, bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "name", Value: "somebody"}, {Key: "n", Value: int64(7)}, {Key: "text", Value: strings.Repeat("lorem ipsum ", 40)}})
	docs := bytes.Repeat(doc, 10<<20/len(doc))
	h := SeedHeader{Count: int64(10 << 20 / len(doc)), Bytes: int64(len(docs)), Digest: sha256.Sum256(docs)}
	z := Compress(docs)
	b.SetBytes(int64(len(docs)))
	for b.Loop() {
		got, err := Decompress(z, h.Bytes)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Open(got); err != nil {
			b.Fatal(err)
		}
	}
}
