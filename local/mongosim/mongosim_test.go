package mongosim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/wire"
	"github.com/heartwood-db/heartwood/shared/model"
)

func start(t *testing.T, o Options) *Deployment {
	t.Helper()
	if o.ElectionTimeout == 0 {
		o.ElectionTimeout = 300 * time.Millisecond
	}
	d, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
		defer stop()
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

func dial(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetHeartbeatInterval(time.Second).SetServerSelectionTimeout(15 * time.Second))
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

func direct(t *testing.T, addr string) *mongo.Client {
	return dial(t, "mongodb://"+addr+"/?directConnection=true")
}

func ask(t *testing.T, c *mongo.Client, cmd any) bson.Raw {
	t.Helper()
	r, err := c.Database("admin").RunCommand(t.Context(), cmd).Raw()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return r
}

// until waits for a condition that replication brings about, woken by the set's own news.
func until(t *testing.T, d *Deployment, what string, cond func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	for {
		news := d.set.Changes()
		if cond() {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestTheDriverDiscoversAndWrites(t *testing.T) {
	d := start(t, Options{Members: []MemberOptions{{}, {}, {Hidden: true}, {Arbiter: true}}})
	c := dial(t, d.URI())
	coll := c.Database("app").Collection("things", options.Collection().SetWriteConcern(writeconcern.Majority()).SetReadConcern(readconcern.Majority()))
	for i := range 50 {
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}, {Key: "n", Value: i % 7}}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := coll.CountDocuments(t.Context(), bson.D{{Key: "n", Value: 3}}); err != nil || n != 7 {
		t.Errorf("%d documents, %v", n, err)
	}
	sec := c.Database("app").Collection("things", options.Collection().SetReadPreference(readpref.Secondary()))
	if err := sec.FindOne(t.Context(), bson.D{}).Err(); err != nil {
		t.Errorf("read from a secondary: %v", err)
	}
	until(t, d, "the hidden member has everything", func() bool {
		for _, n := range d.Member(2).engine().Namespaces("app") {
			if n.NS == "app.things" && n.Docs == 50 {
				return true
			}
		}
		return false
	})
	var se mongo.ServerError
	if _, err := direct(t, d.Addresses()[3]).Database("app").Collection("things").CountDocuments(t.Context(), bson.D{}); !errors.As(err, &se) || !se.HasErrorCode(13436) {
		t.Errorf("an arbiter reads: %v", err)
	}
	if err := c.Database("admin").RunCommand(t.Context(), bson.D{{Key: "noSuchCommand", Value: 1}}).Err(); !errors.As(err, &se) || !se.HasErrorCode(59) {
		t.Errorf("unknown command: %v", err)
	}
	hello := ask(t, direct(t, d.Addresses()[3]), bson.D{{Key: "hello", Value: 1}})
	if !hello.Lookup("arbiterOnly").Boolean() {
		t.Errorf("arbiter's hello: %v", hello)
	}
}

// TestNoAcknowledgedWriteIsLost writes with the driver's defaults (retryable, majority) through a step-down, a kill and a
// restart, and then looks for every write that was acknowledged, and for its being there once.
func TestNoAcknowledgedWriteIsLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		onDisk bool
	}{{"in memory", false}, {"on disk", true}} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{NoSync: true}
			if c.onDisk {
				o.DBPath = t.TempDir()
			}
			d := start(t, o)
			loseNothing(t, d)
		})
	}
}

func loseNothing(t *testing.T, d *Deployment) {
	client := dial(t, d.URI())
	coll := client.Database("app").Collection("log", options.Collection().SetWriteConcern(writeconcern.Majority()))
	counter := client.Database("app").Collection("counter", options.Collection().SetWriteConcern(writeconcern.Majority()))
	if _, err := counter.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "n"}, {Key: "v", Value: 0}}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked, failed, incs, incErr := map[string]bool{}, 0, 0, 0
	for worker := range 3 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d", worker, n)
				wctx, done := context.WithTimeout(t.Context(), 20*time.Second)
				_, err := coll.InsertOne(wctx, bson.D{{Key: "_id", Value: id}})
				_, ierr := counter.UpdateOne(wctx, bson.D{{Key: "_id", Value: "n"}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "v", Value: 1}}}})
				done()
				mu.Lock()
				if err == nil {
					acked[id] = true
				} else {
					failed++
					t.Logf("insert %s: %v", id, err)
				}
				if ierr == nil {
					incs++
				} else {
					incErr++
				}
				mu.Unlock()
			}
		})
	}
	progress := func(more int) {
		t.Helper()
		mu.Lock()
		goal := len(acked) + more
		mu.Unlock()
		until(t, d, "writes go on", func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) >= goal })
	}
	progress(50)
	if err := d.StepDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	progress(50)
	p := d.Primary()
	until(t, d, "a primary", func() bool { p = d.Primary(); return p >= 0 })
	if err := d.Kill(p); err != nil {
		t.Fatal(err)
	}
	progress(50)
	if err := d.Restart(p); err != nil {
		t.Fatal(err)
	}
	progress(50)
	stop()
	wg.Wait()
	t.Logf("%d acknowledged, %d failed, %d increments, %d failed", len(acked), failed, incs, incErr)
	if failed > 6 {
		t.Errorf("%d writes failed although drivers retry them", failed)
	}
	cur, err := coll.Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	var docs []struct {
		ID string `bson:"_id"`
	}
	if err := cur.All(t.Context(), &docs); err != nil {
		t.Fatal(err)
	}
	there := map[string]int{}
	for _, x := range docs {
		there[x.ID]++
	}
	for id := range acked {
		if there[id] != 1 {
			t.Errorf("acknowledged write %s is there %d times", id, there[id])
		}
	}
	var n struct{ V int }
	if err := counter.FindOne(t.Context(), bson.D{}).Decode(&n); err != nil {
		t.Fatal(err)
	}
	if n.V < incs || n.V > incs+incErr {
		t.Errorf("counter is %d after %d acknowledged increments and %d of unknown outcome", n.V, incs, incErr)
	}
	until(t, d, "all members agree", func() bool {
		for i := range d.Len() {
			if d.set.Info(i).Applied != d.set.Info(0).Applied {
				return false
			}
		}
		return true
	})
	want := contents(t, d, 0)
	for i := range d.Len() {
		if got := contents(t, d, i); got != want {
			t.Errorf("member %d differs from member 0: %s, %s", i, got, want)
		}
	}
}

// contents sums up what a member holds.
func contents(t *testing.T, d *Deployment, i int) string {
	t.Helper()
	s := ""
	for _, n := range d.Member(i).engine().Namespaces("app") {
		s += fmt.Sprintf("%s %d documents %d bytes; ", n.NS, n.Docs, n.Bytes)
	}
	return s
}

func TestRestartOfEverythingFindsTheData(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		d, err := Start(t.Context(), Options{DBPath: dir, ElectionTimeout: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		c, err := mongo.Connect(options.Client().ApplyURI(d.URI()))
		if err != nil {
			t.Fatal(err)
		}
		coll := c.Database("app").Collection("rounds")
		n, err := coll.CountDocuments(t.Context(), bson.D{})
		if err != nil || n != int64(round) {
			t.Errorf("round %d finds %d documents, %v", round, n, err)
		}
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: round}}); err != nil {
			t.Error(err)
		}
		if err := c.Disconnect(t.Context()); err != nil {
			t.Error(err)
		}
		if err := d.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHistoryIsAFunctionOfTime(t *testing.T) {
	begin := time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)
	d := start(t, Options{StartAt: begin, Load: load.New(4), HistoryElectionEvery: 25 * time.Minute, Lagging: true, Workload: true})
	var clients []*mongo.Client
	for _, a := range d.Addresses() {
		clients = append(clients, direct(t, a))
	}
	leads, lagged, prev, changes := -1, 0, make([]int64, 3), 0
	for minute := 1; minute <= 180; minute++ {
		at := begin.Add(time.Duration(minute) * time.Minute)
		if err := d.AdvanceTo(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		for i, c := range clients {
			ss := ask(t, c, bson.D{{Key: "serverStatus", Value: 1}, {Key: "oplog", Value: 1}})
			if got := ss.Lookup("localTime").Time(); !got.Equal(at) {
				t.Fatalf("member %d answers as of %v, want %v", i, got, at)
			}
			if up := ss.Lookup("uptimeMillis").AsInt64(); up != int64(minute)*60000 {
				t.Fatalf("minute %d: up %d ms", minute, up)
			}
			ops := ss.Lookup("network", "numRequests").AsInt64()
			if ops <= prev[i] {
				t.Fatalf("minute %d: requests of member %d from %d to %d", minute, i, prev[i], ops)
			}
			prev[i] = ops
			rs := ask(t, c, bson.D{{Key: "replSetGetStatus", Value: 1}})
			members, err := rs.Lookup("members").Array().Values()
			if err != nil {
				t.Fatal(err)
			}
			var primary, self time.Time
			for j, m := range members {
				doc := m.Document()
				if doc.Lookup("state").AsInt64() == 1 {
					primary = doc.Lookup("lastAppliedWallTime").Time()
					if j != leads {
						leads = j
						changes++
					}
				}
				if v, err := doc.LookupErr("self"); err == nil && v.Boolean() {
					self = doc.Lookup("lastAppliedWallTime").Time()
				}
			}
			if primary.Sub(self) > 12*time.Second {
				lagged++
			}
		}
	}
	if changes < 4 || changes > 12 {
		t.Errorf("%d primaries in three hours", changes)
	}
	if lagged == 0 {
		t.Error("no secondary ever lagged")
	}
	first, last := d.Member(0).engine().OplogBounds()
	if window := last.TS.T - first.TS.T; window < 175*60 {
		t.Errorf("oplog window of %d s after three hours", window)
	}
	d.GoLive()
	hello := ask(t, clients[0], bson.D{{Key: "hello", Value: 1}})
	if time.Since(hello.Lookup("localTime").Time()) > time.Minute {
		t.Errorf("live, but answers as of %v", hello.Lookup("localTime").Time())
	}
}

func TestRepliesOfARunningMember(t *testing.T) {
	d := start(t, Options{Load: load.New(2), Workload: true, Version: "6.0.19"})
	c := dial(t, d.URI())
	if _, err := c.Database("app").Collection("x").InsertOne(t.Context(), bson.D{{Key: "a", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []bson.D{
		{{Key: "serverStatus", Value: 1}},
		{{Key: "replSetGetStatus", Value: 1}},
		{{Key: "replSetGetConfig", Value: 1}},
		{{Key: "getDiagnosticData", Value: 1}},
		{{Key: "getCmdLineOpts", Value: 1}},
		{{Key: "hostInfo", Value: 1}},
		{{Key: "buildInfo", Value: 1}},
		{{Key: "getLog", Value: "global"}},
		{{Key: "getLog", Value: "startupWarnings"}},
		{{Key: "getLog", Value: "*"}},
		{{Key: "getParameter", Value: "*"}},
		{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}},
		{{Key: "top", Value: 1}},
		{{Key: "dbStats", Value: 1}},
		{{Key: "collStats", Value: "system.version"}},
		{{Key: "connPoolStats", Value: 1}},
		{{Key: "listDatabases", Value: 1}},
		{{Key: "_isSelf", Value: 1}},
		{{Key: "whatsmyuri", Value: 1}},
		{{Key: "ping", Value: 1}},
		{{Key: "connectionStatus", Value: 1}},
		{{Key: "getDefaultRWConcern", Value: 1}},
		{{Key: "replSetGetRBID", Value: 1}},
		{{Key: "profile", Value: -1}},
		{{Key: "currentOp", Value: 1}},
		{{Key: "aggregate", Value: 1}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$currentOp", Value: bson.D{}}}}}, {Key: "cursor", Value: bson.D{}}},
	} {
		t.Run(cmd[0].Key, func(t *testing.T) {
			r := ask(t, c, cmd)
			if err := r.Validate(); err != nil {
				t.Error(err)
			}
			if cmd[0].Key == "connectionStatus" { // the listener's own
				return
			}
			if r.Lookup("$clusterTime", "clusterTime").Type != bson.TypeTimestamp || r.Lookup("operationTime").Type != bson.TypeTimestamp {
				t.Error("no cluster time")
			}
		})
	}
	stats, err := c.Database("local").Collection("oplog.rs").Aggregate(t.Context(), bson.A{bson.D{{Key: "$collStats", Value: bson.D{{Key: "storageStats", Value: bson.D{}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var docs []bson.Raw
	if err := stats.All(t.Context(), &docs); err != nil || len(docs) != 1 || docs[0].Lookup("storageStats", "maxSize").Type == 0 {
		t.Errorf("$collStats: %v %v", docs, err)
	}
	var last bson.Raw
	if last, err = c.Database("local").Collection("oplog.rs").FindOne(t.Context(), bson.D{}, options.FindOne().SetSort(bson.D{{Key: "$natural", Value: -1}})).Raw(); err != nil {
		t.Fatal(err)
	}
	if last.Lookup("ts").Type != bson.TypeTimestamp || last.Lookup("wall").Type != bson.TypeDateTime {
		t.Errorf("last oplog entry %v", last)
	}
	before := ask(t, c, bson.D{{Key: "serverStatus", Value: 1}}).Lookup("metrics", "document", "inserted").AsInt64()
	for range 500 {
		if _, err := c.Database("app").Collection("x").InsertOne(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
	}
	if after := ask(t, c, bson.D{{Key: "serverStatus", Value: 1}}).Lookup("metrics", "document", "inserted").AsInt64(); after < before+500 {
		t.Errorf("500 real inserts moved the counter from %d to %d", before, after)
	}
}

func TestAccessControlAndTLS(t *testing.T) {
	dir := t.TempDir()
	certs, err := NewCertificates(dir, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, Options{Username: "admin", Password: "sécret/:@", TLS: certs.Server, CAFile: certs.CAFile})
	c := dial(t, d.URI())
	if _, err := c.Database("app").Collection("x").InsertOne(t.Context(), bson.D{{Key: "a", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	anonymous := dial(t, "mongodb://"+d.Addresses()[0]+"/?directConnection=true&tls=true&tlsCAFile="+certs.CAFile)
	var se mongo.ServerError
	if err := anonymous.Database("admin").RunCommand(t.Context(), bson.D{{Key: "serverStatus", Value: 1}}).Err(); !errors.As(err, &se) || !se.HasErrorCode(13) {
		t.Errorf("serverStatus without credentials: %v", err)
	}
	if r := ask(t, anonymous, bson.D{{Key: "hello", Value: 1}}); r.Lookup("setName").StringValue() != "rs0" {
		t.Errorf("hello without credentials: %v", r)
	}
	if r := ask(t, anonymous, bson.D{{Key: "_isSelf", Value: 1}}); r.Lookup("id").Type != bson.TypeObjectID {
		t.Errorf("_isSelf without credentials: %v", r)
	}
	wrong := dial(t, "mongodb://admin:wrong@"+d.Addresses()[0]+"/?directConnection=true&tls=true&tlsCAFile="+certs.CAFile)
	if err := wrong.Ping(t.Context(), nil); err == nil {
		t.Error("a wrong password signs in")
	}
}

func TestRolesAreKeptApart(t *testing.T) {
	d := start(t, Options{
		Members: []MemberOptions{{}, {}, {Arbiter: true}}, Username: "admin", Password: "secret",
		Users: []wire.User{{Name: "watch", DB: "admin", Password: "ful", Roles: []engine.Role{{Role: "clusterMonitor", DB: "admin"}}}},
	})
	watch := dial(t, "mongodb://watch:ful@"+d.Addresses()[0]+"/?directConnection=true")
	for _, name := range []string{"serverStatus", "replSetGetStatus", "getDiagnosticData", "getCmdLineOpts", "top", "connPoolStats", "hostInfo"} {
		ask(t, watch, bson.D{{Key: name, Value: 1}})
	}
	var se mongo.ServerError
	if _, err := watch.Database("app").Collection("x").InsertOne(t.Context(), bson.D{}); !errors.As(err, &se) || !se.HasErrorCode(13) {
		t.Errorf("a monitoring user writes: %v", err)
	}
	arbiter := dial(t, "mongodb://watch:ful@"+d.Addresses()[2]+"/?directConnection=true")
	if err := arbiter.Database("admin").RunCommand(t.Context(), bson.D{{Key: "serverStatus", Value: 1}}).Err(); err == nil {
		t.Error("somebody signed in to an arbiter")
	}
}

func TestEveryVersionServesTheDriver(t *testing.T) {
	for _, v := range []string{"4.2.9", "4.2.24", "4.4.29", "5.0.31", "6.0.19", "7.0.14", "8.0.4"} {
		t.Run(v, func(t *testing.T) {
			d := start(t, Options{Members: []MemberOptions{{}}, Version: v, Load: load.New(1)})
			c := dial(t, d.URI())
			if _, err := c.Database("app").Collection("x").InsertOne(t.Context(), bson.D{{Key: "a", Value: 1}}); err != nil {
				t.Fatal(err)
			}
			if got := ask(t, c, bson.D{{Key: "buildInfo", Value: 1}}).Lookup("version").StringValue(); got != v {
				t.Errorf("claims to be %s", got)
			}
			for _, name := range []string{"serverStatus", "replSetGetStatus", "getDiagnosticData", "isMaster"} {
				ask(t, c, bson.D{{Key: name, Value: 1}})
			}
			err := c.Database("admin").RunCommand(t.Context(), bson.D{{Key: "hello", Value: 1}}).Err()
			var se mongo.ServerError
			if v == "4.2.9" {
				if !errors.As(err, &se) || !se.HasErrorCode(int(engine.CodeCommandNotFound)) {
					t.Errorf("hello, which came with 4.2.10: %v", err)
				}
			} else if err != nil {
				t.Errorf("hello: %v", err)
			}
		})
	}
}

func TestPauseAndSlow(t *testing.T) {
	d := start(t, Options{})
	p := d.Primary()
	d.Member(p).Pause()
	until(t, d, "another primary", func() bool { q := d.Primary(); return q >= 0 && q != p })
	d.Member(p).Resume()
	if st := d.Member(p).State(); st != model.StateSecondary {
		t.Errorf("after its pause the old primary is %v", st)
	}
	c := dial(t, d.URI())
	if err := c.Ping(t.Context(), readpref.Primary()); err != nil {
		t.Error(err)
	}
}

func TestAStandalone(t *testing.T) {
	d := start(t, Options{Standalone: true, Load: load.New(1)})
	c := dial(t, d.URI())
	if _, err := c.Database("app").Collection("x").InsertOne(t.Context(), bson.D{{Key: "a", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	var se mongo.ServerError
	if err := c.Database("admin").RunCommand(t.Context(), bson.D{{Key: "replSetGetStatus", Value: 1}}).Err(); !errors.As(err, &se) || !se.HasErrorCode(76) {
		t.Errorf("replSetGetStatus: %v", err)
	}
	if r := ask(t, c, bson.D{{Key: "serverStatus", Value: 1}}); r.Lookup("repl").Type != 0 {
		t.Error("a standalone has a repl section")
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	one := 1.0
	for name, o := range map[string]Options{
		"version":             {Version: "seven"},
		"electable arbiter":   {Members: []MemberOptions{{}, {Arbiter: true, Priority: &one}}},
		"nobody electable":    {Members: []MemberOptions{{Hidden: true}}},
		"port out of range":   {BasePort: 65535},
		"address not of here": {Hostname: "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Start(t.Context(), o)
			if err == nil {
				t.Error("accepted")
				if err := d.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
