//go:build unix

package tail_test

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/backupagent/push"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/daemon/backupagent/tail"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// stream gives n entries as a server logged them, with positions that go on: the inserts, updates and deletes of a recording,
// again and again.
func stream(t testing.TB, n int) (out []bson.Raw) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "oplog", "testdata", "replay-oplogs.bson.zst"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if b, err = d.DecodeAll(b, nil); err != nil {
		t.Fatal(err)
	}
	var small []bson.Raw
	for len(b) > 4 {
		size := binary.LittleEndian.Uint32(b)
		raw := bson.Raw(b[:size:size])
		b = b[size:]
		if e, err := oplog.Decode(raw); err == nil && size < 1024 && !filter.Internal(e.NS) && (e.Kind == oplog.Insert || e.Kind == oplog.Update || e.Kind == oplog.Delete) {
			small = append(small, raw)
		}
	}
	if len(small) < 1000 {
		t.Fatalf("only %d small entries are recorded", len(small))
	}
	for i := range n {
		raw := append(bson.Raw(nil), small[i%len(small)]...)
		ts := bsoncore.Document(raw).Lookup("ts").Data // shares its memory
		binary.LittleEndian.PutUint32(ts, uint32(i%1000+1))
		binary.LittleEndian.PutUint32(ts[4:], uint32(1_700_000_000+i/1000))
		out = append(out, raw)
	}
	return out
}

func reply(t testing.TB, more bool, first string, docs []bson.Raw) bson.Raw {
	t.Helper()
	id := int64(0)
	if more {
		id = 77
	}
	a := bson.A{}
	for _, d := range docs {
		a = append(a, d)
	}
	b, err := bson.Marshal(bson.D{{Key: "cursor", Value: bson.D{{Key: first, Value: a}, {Key: "id", Value: id}, {Key: "ns", Value: "local.oplog.rs"}}}, {Key: "ok", Value: 1.0}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type plain struct{}

// Options are those of a direct connection.
func (plain) Options(host wire.Host, _ bool) *options.ClientOptions {
	return options.Client().SetHosts([]string{model.Address(host.Hostname, int(host.Port))}).SetDirect(true)
}

// cpu is the processor time that this process took: what is left of it on a machine that others use, too.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkTail reads a recorded stream from a server over the wire protocol, proves its beginning, decodes and chains every
// entry, compresses the slices and writes them to the outbox on disk. One operation is one entry.
func BenchmarkTail(b *testing.B) {
	const perBatch = 5000
	entries := stream(b, 400_000)
	var replies []bson.Raw
	for i := 0; i+perBatch <= len(entries); i += perBatch {
		name := "nextBatch"
		if i == 0 {
			name = "firstBatch"
		}
		replies = append(replies, reply(b, true, name, entries[i:i+perBatch]))
	}
	p := mongotest.Start(b, "secondary")
	var hello bson.D
	if err := bson.Unmarshal(mongotest.Doc(bson.D{
		{Key: "setName", Value: "rs0"},
		{Key: "secondary", Value: true},
		{Key: "isWritablePrimary", Value: false},
		{Key: "hosts", Value: bson.A{p.Addr}},
		{Key: "me", Value: p.Addr},
		{Key: "maxWireVersion", Value: 21},
		{Key: "minWireVersion", Value: 0},
		{Key: "maxBsonObjectSize", Value: 16 << 20},
		{Key: "maxMessageSizeBytes", Value: 48000000},
		{Key: "maxWriteBatchSize", Value: 100000},
		{Key: "logicalSessionTimeoutMinutes", Value: 30},
		{Key: "ok", Value: 1.0},
	}), &hello); err != nil {
		b.Fatal(err)
	}
	id := bson.NewObjectID()
	p.Set("hello", mongotest.Doc(hello))
	p.Set("isMaster", mongotest.Doc(hello))
	p.Set("ismaster", mongotest.Doc(hello))
	member := bson.D{{Key: "host", Value: p.Addr}, {Key: "name", Value: p.Addr}, {Key: "state", Value: 2}}
	p.Set("replSetGetConfig", mongotest.Doc(bson.D{{Key: "config", Value: bson.D{{Key: "members", Value: bson.A{member}}, {Key: "settings", Value: bson.D{{Key: "replicaSetId", Value: id}}}}}, {Key: "ok", Value: 1.0}}))
	p.Set("replSetGetStatus", mongotest.Doc(bson.D{{Key: "members", Value: bson.A{member}}, {Key: "ok", Value: 1.0}}))
	p.Set("killCursors", mongotest.Doc(bson.D{{Key: "ok", Value: 1.0}}))
	p.Set("endSessions", mongotest.Doc(bson.D{{Key: "ok", Value: 1.0}}))
	next := 1
	p.Handle("find-local.oplog.rs", func(cmd bson.Raw) bson.Raw {
		if _, err := cmd.LookupErr("tailable"); err == nil {
			next = 1
			return replies[0]
		}
		return reply(b, false, "firstBatch", entries[:1])
	})
	p.Handle("getMore", func(bson.Raw) bson.Raw {
		if next < len(replies) {
			next++
			return replies[next-1]
		}
		time.Sleep(time.Millisecond)
		return reply(b, true, "nextBatch", nil)
	})
	host, port, err := model.SplitAddress(p.Addr)
	if err != nil {
		b.Fatal(err)
	}
	total := int64(len(replies) * perBatch)
	last := entries[total-1]
	var sent, bytes int64
	spent := cpu(b)
	b.ResetTimer()
	for done := int64(0); done < int64(b.N); done += total {
		set := source.NewSet("rs0", []wire.Host{{Hostname: host, Port: int32(port)}}, plain{}) //nolint:gosec // a port
		ctx, cancel := context.WithCancel(b.Context())
		out, err := push.Open(push.Options{
			Dir: b.TempDir(), MaxBytes: 1 << 30, Job: "j", Epoch: 1,
			Send: func(_ context.Context, h wire.OplogHeader, content []byte) (wire.Head, error) {
				sent += h.Slice.Count
				bytes += int64(len(content))
				if h.Slice.Last == source.Saved(last, id).At {
					cancel()
				}
				return wire.Head{Last: h.Slice.Last, Sum: h.Slice.Sum(), Entry: h.Slice.LastEntry}, nil
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		tl := tail.New(tail.Options{Job: "j", Epoch: 1, Set: set, Place: tail.Place{Saved: source.Saved(entries[0], id)}, SliceEvery: 500 * time.Millisecond, Sink: out})
		pushed := make(chan error, 1)
		go func() { pushed <- out.Run(ctx) }()
		_ = tl.Run(ctx) // until all was sent
		<-pushed
		set.Close()
		if err := out.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	spent = cpu(b) - spent
	if sent == 0 || sent%total != 0 {
		b.Fatalf("%d entries were sent, want a multiple of %d", sent, total)
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(sent)/spent.Seconds(), "entries/cpu-s")
	b.ReportMetric(float64(bytes)/float64(sent), "stored-B/entry")
}
