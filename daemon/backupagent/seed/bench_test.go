package seed_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/backupagent/seed"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/wire"
)

type plain struct{}

// Options are those of a direct connection.
func (plain) Options(host wire.Host, _ bool) *options.ClientOptions {
	return options.Client().SetHosts([]string{model.Address(host.Hostname, int(host.Port))}).SetDirect(true)
}

// memory is what this process holds.
func memory() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

// BenchmarkSeed reads collections from a server that always has the next batch ready, over the wire protocol, and makes
// slices of them that nobody waits for: what is left is what the agent itself costs. Documents are of about 1 kB, of words.
func BenchmarkSeed(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as the command runs
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(256 << 20))
	const collections, perReply, replies = 6, 4000, 24
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a benchmark
	var docs bson.A
	size := int64(0)
	for i := range perReply {
		text := ""
		for len(text) < 900 {
			text += fmt.Sprintf("word%d ", r.IntN(3000))
		}
		d := mongotest.Doc(bson.D{{Key: "_id", Value: i}, {Key: "n", Value: r.Int64()}, {Key: "text", Value: text}})
		size += int64(len(d))
		docs = append(docs, d)
	}
	answer := func(name string, id int64, docs bson.A) bson.Raw {
		return mongotest.Doc(bson.D{{Key: "cursor", Value: bson.D{{Key: name, Value: docs}, {Key: "id", Value: id}, {Key: "ns", Value: "shop.c"}}}, {Key: "ok", Value: 1.0}})
	}
	p := mongotest.Start(b, "primary")
	pos := bson.D{{Key: "ts", Value: bson.Timestamp{T: 1000, I: 1}}, {Key: "t", Value: int64(1)}}
	hello := mongotest.Doc(bson.D{
		{Key: "setName", Value: "rs0"},
		{Key: "secondary", Value: false},
		{Key: "isWritablePrimary", Value: true},
		{Key: "hosts", Value: bson.A{p.Addr}},
		{Key: "me", Value: p.Addr},
		{Key: "lastWrite", Value: bson.D{{Key: "opTime", Value: pos}, {Key: "majorityOpTime", Value: pos}}},
		{Key: "maxWireVersion", Value: 21},
		{Key: "minWireVersion", Value: 0},
		{Key: "maxBsonObjectSize", Value: 16 << 20},
		{Key: "maxMessageSizeBytes", Value: 48000000},
		{Key: "maxWriteBatchSize", Value: 100000},
		{Key: "logicalSessionTimeoutMinutes", Value: 30},
		{Key: "ok", Value: 1.0},
	})
	for _, name := range []string{"hello", "isMaster", "ismaster"} {
		p.Set(name, hello)
	}
	member := bson.D{{Key: "host", Value: p.Addr}, {Key: "name", Value: p.Addr}, {Key: "state", Value: 1}}
	okay := bson.E{Key: "ok", Value: 1.0}
	p.Set("replSetGetConfig", mongotest.Doc(bson.D{{Key: "config", Value: bson.D{{Key: "members", Value: bson.A{member}}}}, okay}))
	p.Set("replSetGetStatus", mongotest.Doc(bson.D{{Key: "members", Value: bson.A{member}}, okay}))
	p.Set("serverStatus", mongotest.Doc(bson.D{{Key: "repl", Value: bson.D{{Key: "rbid", Value: 1}}}, okay}))
	p.Set("killCursors", mongotest.Doc(bson.D{okay}))
	p.Set("endSessions", mongotest.Doc(bson.D{okay}))
	p.Set("listDatabases", mongotest.Doc(bson.D{{Key: "databases", Value: bson.A{bson.D{{Key: "name", Value: "shop"}}}}, okay}))
	p.Set("listIndexes", answer("firstBatch", 0, bson.A{}))
	p.Set("collStats-", mongotest.Doc(bson.D{{Key: "count", Value: perReply * replies}, {Key: "size", Value: size * replies}, okay}))
	var list bson.A
	for i := range collections {
		list = append(list, bson.D{{Key: "name", Value: fmt.Sprintf("c%d", i)}, {Key: "type", Value: "collection"}, {Key: "info", Value: bson.D{{Key: "uuid", Value: bson.Binary{Subtype: 4, Data: append(make([]byte, 15), byte(i+1))}}}}})
	}
	p.Set("listCollections", answer("firstBatch", 0, list))
	first, next, end := answer("firstBatch", 1, docs), answer("nextBatch", 1, docs), answer("nextBatch", 0, docs)
	var mu sync.Mutex
	left := map[string]int{} // by session
	session := func(cmd bson.Raw) string { return cmd.Lookup("lsid").String() }
	p.Handle("find-shop.", func(cmd bson.Raw) bson.Raw {
		mu.Lock()
		defer mu.Unlock()
		left[session(cmd)] = replies - 1
		return first
	})
	p.Handle("getMore", func(cmd bson.Raw) bson.Raw {
		mu.Lock()
		defer mu.Unlock()
		k := session(cmd)
		if left[k]--; left[k] == 0 {
			return end
		}
		return next
	})
	entry := mongotest.Doc(append(bson.D{{Key: "v", Value: int64(2)}, {Key: "op", Value: "n"}, {Key: "ns", Value: ""}, {Key: "o", Value: bson.D{}}}, pos...))
	p.Set("find-local.oplog.rs", answer("firstBatch", 0, bson.A{entry}))
	host, port, err := model.SplitAddress(p.Addr)
	if err != nil {
		b.Fatal(err)
	}
	total := size * replies * collections
	b.SetBytes(total)
	var peak, stored atomic.Uint64
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		go func() {
			for ctx.Err() == nil {
				peak.Store(max(peak.Load(), memory()))
				time.Sleep(5 * time.Millisecond)
			}
		}()
		set := source.NewSet("rs0", []wire.Host{{Hostname: host, Port: int32(port)}}, plain{}) //nolint:gosec // a port
		var read atomic.Int64
		reader := seed.New(seed.Options{
			Job: "j", Epoch: 1, Set: set, Start: oplog.OpTime{TS: bson.Timestamp{T: 1000, I: 1}, Term: 1},
			Known: func(context.Context) ([]wire.CollectionInfo, error) { return nil, nil },
			Put:   func(context.Context, []wire.CollectionInfo) error { return nil },
			Send: func(_ context.Context, h wire.SeedHeader, content []byte) error {
				read.Add(h.Bytes)
				stored.Add(uint64(len(content)))
				return nil
			},
		})
		if _, err := reader.Run(ctx); err != nil {
			b.Fatal(err)
		}
		if read.Load() != total {
			b.Fatalf("%d bytes were read, want %d", read.Load(), total)
		}
		set.Close()
		cancel()
	}
	b.ReportMetric(float64(peak.Load())/(1<<20), "peak-MiB")
	b.ReportMetric(float64(stored.Load())/float64(b.N)/float64(total), "stored-ratio")
}
