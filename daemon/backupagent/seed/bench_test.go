//go:build unix

package seed_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

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

// origin is a server that always has the next answer ready, over the wire protocol.
type origin struct {
	addr                 string
	collections, replies int
	docs                 []byte // of one answer
	count                int
}

func newOrigin(t testing.TB, collections, replies int, list []bson.Raw) *origin {
	t.Helper()
	o := &origin{collections: collections, replies: replies, count: len(list)}
	var docs bson.A
	for _, d := range list {
		o.docs = append(o.docs, d...)
		docs = append(docs, d)
	}
	size := int64(len(o.docs))
	answer := func(name string, id int64, docs bson.A) bson.Raw {
		return mongotest.Doc(bson.D{{Key: "cursor", Value: bson.D{{Key: name, Value: docs}, {Key: "id", Value: id}, {Key: "ns", Value: "shop.c"}}}, {Key: "ok", Value: 1.0}})
	}
	p := mongotest.Start(t, "primary")
	o.addr = p.Addr
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
	p.Set("collStats-", mongotest.Doc(bson.D{{Key: "count", Value: len(list) * replies}, {Key: "size", Value: size * int64(replies)}, okay}))
	var colls bson.A
	for i := range collections {
		colls = append(colls, bson.D{{Key: "name", Value: fmt.Sprintf("c%d", i)}, {Key: "type", Value: "collection"}, {Key: "info", Value: bson.D{{Key: "uuid", Value: bson.Binary{Subtype: 4, Data: uuid(i)}}}}})
	}
	p.Set("listCollections", answer("firstBatch", 0, colls))
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
	return o
}

func uuid(i int) []byte { return append(make([]byte, 15), byte(i+1)) }

// total is how many bytes of documents it has.
func (o *origin) total() int64 { return int64(len(o.docs) * o.replies * o.collections) }

func (o *origin) set(t testing.TB) *source.Set {
	t.Helper()
	host, port, err := model.SplitAddress(o.addr)
	if err != nil {
		t.Fatal(err)
	}
	return source.NewSet("rs0", []wire.Host{{Hostname: host, Port: int32(port)}}, plain{}) //nolint:gosec // a port
}

// read reads everything as the agent does; the highest use of memory is what it gives.
func (o *origin) read(t testing.TB, send func(h wire.SeedHeader, content []byte) error) (peak uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			peak = max(peak, memory())
			time.Sleep(5 * time.Millisecond)
		}
	})
	set := o.set(t)
	defer set.Close()
	var read atomic.Int64
	reader := seed.New(seed.Options{
		Job: "j", Epoch: 1, Set: set, Start: oplog.OpTime{TS: bson.Timestamp{T: 1000, I: 1}, Term: 1},
		Known: func(context.Context) ([]wire.CollectionInfo, error) { return nil, nil },
		Put:   func(context.Context, []wire.CollectionInfo) error { return nil },
		Send: func(_ context.Context, h wire.SeedHeader, content []byte) error {
			read.Add(h.Bytes)
			return send(h, content)
		},
	})
	_, err := reader.Run(ctx)
	cancel()
	watching.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if read.Load() != o.total() {
		t.Fatalf("%d bytes were read, want %d", read.Load(), o.total())
	}
	return peak
}

// discard reads the same cursors and does nothing with what they give.
func (o *origin) discard(t testing.TB) {
	t.Helper()
	set := o.set(t)
	defer set.Close()
	m, _, err := set.Pick(t.Context(), source.Primary, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.SetLimit(4)
	for i := range o.collections {
		g.Go(func() error {
			c, err := m.Scan(t.Context(), source.Scan{DB: "shop", UUID: oplog.UUID(uuid(i)), Tokens: true})
			if err != nil {
				return err
			}
			defer c.Close(t.Context())
			for {
				b, err := c.Next(t.Context(), int32(o.count)) //nolint:gosec // small
				if errors.Is(err, source.ErrEnd) {
					return nil
				}
				if err == nil {
					err = b.Each(func(bson.Raw) error { return nil })
				}
				if err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// files is a disk that is written to as a block store on files is: each object is synced.
type files struct {
	dir string
	n   atomic.Int64
}

func (f *files) write(content []byte) error {
	w, err := os.Create(filepath.Join(f.dir, fmt.Sprint(f.n.Add(1)%64))) //nolint:gosec // a test's
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return errors.Join(err, w.Sync(), w.Close())
}

// asCommand sets what the command sets for the process (local/cli).
func asCommand() (undo func()) {
	gc, limit := debug.SetGCPercent(50), debug.SetMemoryLimit(256<<20)
	return func() { debug.SetGCPercent(gc); debug.SetMemoryLimit(limit) }
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

// BenchmarkSeed measures a full read and, alone, each of what it consists of: reading the same cursors, packing (digest and
// compression) on all processors, and a disk. of-slowest is the whole as a share of the slowest part: what is missing from 1 is
// our own, and what the parts take from each other on one machine. Documents are of about 1 kB, of words.
func BenchmarkSeed(b *testing.B) {
	defer asCommand()()
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a benchmark
	var docs []bson.Raw
	for i := range 4000 {
		var text strings.Builder
		for text.Len() < 900 {
			fmt.Fprintf(&text, "word%d ", r.IntN(3000))
		}
		docs = append(docs, mongotest.Doc(bson.D{{Key: "_id", Value: i}, {Key: "n", Value: r.Int64()}, {Key: "text", Value: text.String()}}))
	}
	o := newOrigin(b, 6, 24, docs)
	speed := map[string]float64{} // documents' bytes a second
	part := func(name string, run func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(o.total())
			spent := cpu(b)
			for b.Loop() {
				run(b)
			}
			b.ReportMetric(float64(o.total())*float64(b.N)/1e6/(cpu(b)-spent).Seconds(), "MB/cpu-s")
			speed[name] = float64(o.total()) * float64(b.N) / b.Elapsed().Seconds()
		})
	}
	part("source", func(b *testing.B) { o.discard(b) })
	slice := append(append([]byte(nil), o.docs...), o.docs...)
	packed := wire.Compress(slice)
	slices := int(o.total()) / len(slice)
	part("pack", func(*testing.B) {
		var g errgroup.Group
		g.SetLimit(runtime.GOMAXPROCS(0))
		for range slices {
			g.Go(func() error { _ = sha256.Sum256(slice); wire.Compress(slice); return nil })
		}
		_ = g.Wait()
	})
	part("disk", func(b *testing.B) {
		f := files{dir: b.TempDir()}
		var g errgroup.Group
		g.SetLimit(4)
		for range slices {
			g.Go(func() error { return f.write(packed) })
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("whole", func(b *testing.B) {
		b.SetBytes(o.total())
		f := files{dir: b.TempDir()}
		var peak uint64
		var stored atomic.Int64
		spent := cpu(b)
		for b.Loop() {
			peak = max(peak, o.read(b, func(_ wire.SeedHeader, content []byte) error {
				stored.Add(int64(len(content)))
				return f.write(content)
			}))
		}
		whole, slowest, which := float64(o.total())*float64(b.N)/b.Elapsed().Seconds(), 0.0, ""
		for name, v := range speed {
			if slowest == 0 || v < slowest {
				slowest, which = v, name
			}
		}
		b.ReportMetric(float64(o.total())*float64(b.N)/1e6/(cpu(b)-spent).Seconds(), "MB/cpu-s")
		b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		b.ReportMetric(float64(stored.Load())/float64(b.N)/float64(o.total()), "stored-ratio")
		if slowest > 0 {
			b.ReportMetric(whole/slowest, "of-slowest")
			b.Logf("the slowest part alone is %s, %.0f MB/s", which, slowest/1e6)
		}
	})
}

// TestMemoryIsBounded reads documents of nearly 16 MiB, from more collections than are in work at a time, with a server that
// takes its time: the process stays within what is promised (docs: 300 MB), garbage and the test's own server included.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("moves half a gigabyte")
	}
	defer asCommand()()
	large := mongotest.Doc(bson.D{{Key: "_id", Value: 1}, {Key: "text", Value: strings.Repeat("all work and no play ", 15<<20/21)}})
	o := newOrigin(t, 8, 5, []bson.Raw{large})
	debug.FreeOSMemory()
	before := memory() // the origin's answers among it
	slow := make(chan struct{}, 1)
	peak := o.read(t, func(wire.SeedHeader, []byte) error {
		slow <- struct{}{} // one after another
		runtime.Gosched()
		<-slow
		return nil
	})
	if grown := (int64(peak) - int64(before)) >> 20; grown > 300 { //nolint:gosec // sizes
		t.Errorf("reading took %d MiB", grown)
	} else {
		t.Logf("reading took %d MiB beside %d", grown, before>>20)
	}
}
