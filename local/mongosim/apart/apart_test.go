package apart

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/model"
)

// bench is a core and its members in this process, whose heartbeats pass a relay that the test can stop.
type bench struct {
	t       *testing.T
	d       *mongosim.Deployment
	link    string
	members []*running
}

type running struct {
	address string
	stop    context.CancelFunc
	done    chan error
	wire    net.PacketConn // the relay of its heartbeats
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func start(t *testing.T, n int) *bench {
	t.Helper()
	b := &bench{t: t}
	var o mongosim.Options
	for range n {
		r := &running{address: "127.0.0.1:" + strconv.Itoa(freePort(t))}
		b.members = append(b.members, r)
		o.Members = append(o.Members, mongosim.MemberOptions{Names: []string{r.address}})
	}
	o.Apart, o.BasePort, o.Hostname = true, 20000+freePort(t)%10000, "127.0.0.1"
	ctx, cancel := context.WithCancel(context.Background())
	d, err := mongosim.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	b.d = d
	port := freePort(t)
	b.link = "127.0.0.1:" + strconv.Itoa(port)
	core := &Core{D: d, Log: slog.New(slog.DiscardHandler), BasePort: o.BasePort}
	served := make(chan error, 1)
	go func() { served <- core.Serve(ctx, port) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for i := range b.members {
		b.run(i)
	}
	return b
}

func (b *bench) run(i int) {
	b.t.Helper()
	r := b.members[i]
	wire, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	core, err := net.ResolveUDPAddr("udp4", b.link)
	if err != nil {
		b.t.Fatal(err)
	}
	r.wire = wire
	go func() {
		buf := make([]byte, 16)
		for {
			n, _, err := wire.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = wire.WriteTo(buf[:n], core)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	r.stop, r.done = cancel, make(chan error, 1)
	m := &Member{Number: i, Core: b.link, Peers: wire.LocalAddr().String(), Listen: r.address, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) }}
	go func() { r.done <- m.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		_ = wire.Close()
	})
	select {
	case <-ready:
	case err := <-r.done:
		b.t.Fatal(err)
	}
}

func (b *bench) client(i int) *mongo.Client {
	b.t.Helper()
	c, err := mongo.Connect(options.Client().SetHosts([]string{b.members[i].address}).SetDirect(true).SetServerSelectionTimeout(5 * time.Second))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
	return c
}

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s did not happen", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestAMembersProcessIsTheMember(t *testing.T) {
	b := start(t, 3)
	members := bson.A{}
	for i, r := range b.members {
		members = append(members, bson.D{{Key: "_id", Value: i}, {Key: "host", Value: r.address}})
	}
	cmd := bson.D{{Key: "replSetInitiate", Value: bson.D{{Key: "_id", Value: "rs0"}, {Key: "version", Value: 1}, {Key: "members", Value: members}}}}
	if err := b.client(0).Database("admin").RunCommand(t.Context(), cmd).Err(); err != nil {
		t.Fatal(err)
	}
	b.eventually("an election", func() bool { return b.d.Primary() >= 0 })
	all, err := mongo.Connect(options.Client().SetHosts([]string{b.members[0].address}).SetReplicaSet("rs0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = all.Disconnect(context.Background()) })
	if _, err := all.Database("x").Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}

	// Silent: the others lose it, its clients do not.
	old := b.d.Primary()
	lone := b.client(old)
	if err := lone.Ping(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	_ = b.members[old].wire.Close()
	b.eventually("another primary", func() bool { return b.d.Primary() >= 0 && b.d.Primary() != old })
	b.eventually("the insight that nobody follows", func() bool { return b.d.Member(old).State() == model.StateSecondary })
	var hello struct {
		Primary   string
		Secondary bool
	}
	if err := lone.Database("admin").RunCommand(t.Context(), bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil || hello.Primary != "" || !hello.Secondary {
		t.Errorf("the lone member says %+v: %v", hello, err)
	}

	// Ended cleanly, and back.
	b.members[old].stop()
	if err := <-b.members[old].done; err != nil {
		t.Error(err)
	}
	b.eventually("the shutdown", func() bool { return b.d.Member(old).State() == model.StateDown })
	b.run(old)
	b.eventually("its return", func() bool { return b.d.Member(old).State() == model.StateSecondary })
	if _, err := all.Database("x").Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 2}}); err != nil {
		t.Fatal(err)
	}
	b.eventually("catching up", func() bool {
		n, err := b.client(old).Database("x").Collection("c").CountDocuments(t.Context(), bson.D{})
		return err == nil && n == 2
	})
}

func TestAMemberThatLosesItsCoreEnds(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &Member{Core: ln.Addr().String(), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	done := make(chan error, 1)
	go func() { done <- m.Run(t.Context()) }()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("{\"port\":1}\n"))
	time.Sleep(50 * time.Millisecond)
	_ = conn.Close()
	_ = ln.Close()
	if err := <-done; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}
