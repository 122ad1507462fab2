package light

import (
	"context"
	"runtime"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/local/mongosim/load"
)

func dial(t *testing.T, addr string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + addr + "/?directConnection=true"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Disconnect(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func ask(t *testing.T, c *mongo.Client, cmd any) bson.Raw {
	t.Helper()
	r, err := c.Database("admin").RunCommand(t.Context(), cmd).Raw()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return r
}

func TestLightHostsAnswer(t *testing.T) {
	l, err := Start(t.Context(), Options{Hosts: 3000, Load: load.New(1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	for _, i := range []int{0, 255, 2999} {
		c := dial(t, l.Address(i))
		hello := ask(t, c, bson.D{{Key: "hello", Value: 1}})
		if me := hello.Lookup("me").StringValue(); me != l.Address(i) {
			t.Errorf("host %d at %s is %s", i, l.Address(i), me)
		}
		a := ask(t, c, bson.D{{Key: "serverStatus", Value: 1}, {Key: "oplog", Value: 1}})
		if a.Lookup("opcounters", "query").AsInt64() == 0 || a.Lookup("oplog", "latestOptime").Type == 0 {
			t.Errorf("host %d: %v", i, a)
		}
		if rs := ask(t, c, bson.D{{Key: "replSetGetStatus", Value: 1}}); rs.Lookup("set").StringValue() != hello.Lookup("setName").StringValue() {
			t.Errorf("host %d: set %v", i, rs.Lookup("set"))
		}
		ask(t, c, bson.D{{Key: "getDiagnosticData", Value: 1}})
	}
}

func TestLightHostsTakeNoMemoryEach(t *testing.T) {
	l, err := New(Options{Hosts: 100000, Load: load.New(1), Port: 27017})
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := bson.Marshal(bson.D{{Key: "serverStatus", Value: 1}})
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	now := time.Now()
	for i := range 5000 {
		if r := l.Reply(i*20, now, cmd); r.Lookup("ok").AsFloat64() != 1 {
			t.Fatal(r)
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("heap grew by %d bytes over 5000 hosts", after-before)
	}
}

func BenchmarkLightReply(b *testing.B) {
	l, err := New(Options{Hosts: 10000, Load: load.New(1), Port: 27017})
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"serverStatus", "replSetGetStatus", "getDiagnosticData", "hello"} {
		cmd, err := bson.Marshal(bson.D{{Key: name, Value: 1}})
		if err != nil {
			b.Fatal(err)
		}
		now, i := time.Now(), 0
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				i++
				_ = l.Reply(i%10000, now, cmd)
			}
		})
	}
}
