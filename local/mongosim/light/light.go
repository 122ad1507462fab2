// Package light answers for crowds of simulated hosts in one process: they only tell about themselves, hold no documents
// and elect nobody, and nothing is kept for each: every reply is computed from the host's number and the time. It is there
// for load; the deployments of package mongosim are there for everything else.
package light

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/local/mongosim/status/process"
	"github.com/heartwood-db/heartwood/local/mongosim/wire"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Options describe hosts that only answer for themselves: no documents, no elections, nothing kept for each.
type Options struct {
	Hosts   int    // how many
	SetSize int    // members a replica set; default 3
	Version string // default 7.0.14
	Load    load.Model
	Log     *slog.Logger
	Started time.Time // when the processes claim to have started; default an hour ago

	// Port is where every host listens, each on its own address: host 0 is 127.1.0.1, host 255 is 127.1.1.0 and so on. One
	// listener serves them all, which Linux allows, because it takes the whole of 127.0.0.0/8 for this machine; it must
	// listen on all addresses and drops connections that are not for one of the hosts'. 0 takes a free port.
	Port int
	// OwnPorts gives each host a port of 127.0.0.1 instead, from Port on.
	OwnPorts bool
}

// Hosts are a crowd of hosts. Every reply is computed from the host's number and the time.
type Hosts struct {
	o     Options
	kit   *status.Kit
	rates *load.Table
	stop  context.CancelFunc
	wg    sync.WaitGroup
	port  int
}

// workDB is the database that the load's data is said to be in.
const workDB = "shop"

// Start starts light hosts.
func Start(ctx context.Context, o Options) (*Hosts, error) {
	l, err := New(o)
	if err != nil {
		return nil, err
	}
	lns, err := l.listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("light hosts: %w", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	srv := wire.New(wire.Options{Handler: l, Log: l.o.Log})
	for _, ln := range lns {
		l.wg.Go(func() {
			if err := srv.Serve(run, ln); err != nil && run.Err() == nil {
				l.o.Log.Warn("light hosts stopped serving", "error", err)
			}
		})
	}
	return l, nil
}

// New makes light hosts that nobody can dial: Reply answers for them.
func New(o Options) (*Hosts, error) {
	if o.SetSize == 0 {
		o.SetSize = 3
	}
	if o.Version == "" {
		o.Version = "7.0.14"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Started.IsZero() {
		o.Started = time.Now().Add(-time.Hour)
	}
	if o.Hosts < 1 || o.Hosts > 1<<20 || o.SetSize < 1 || o.SetSize > 50 {
		return nil, fmt.Errorf("light hosts: %d hosts in sets of %d; at least 1, at most 1048576 in sets of up to 50", o.Hosts, o.SetSize)
	}
	if o.OwnPorts && (o.Port < 1 || o.Port+o.Hosts > 65536) {
		return nil, fmt.Errorf("light hosts: %d hosts do not fit on ports from %d on", o.Hosts, o.Port)
	}
	v, err := status.ParseVersion(o.Version)
	if err != nil {
		return nil, fmt.Errorf("light hosts: %w", err)
	}
	k, err := status.NewKit(v)
	if err != nil {
		return nil, fmt.Errorf("light hosts: %w", err)
	}
	return &Hosts{o: o, kit: k, rates: load.NewTable(), port: o.Port, stop: func() {}}, nil
}

func (l *Hosts) listen(ctx context.Context) ([]net.Listener, error) {
	lc := net.ListenConfig{}
	if !l.o.OwnPorts {
		ln, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(l.o.Port)))
		if err != nil {
			return nil, err
		}
		if a, ok := ln.Addr().(*net.TCPAddr); ok {
			l.port = a.Port
		}
		return []net.Listener{ownOnly{ln, l}}, nil
	}
	var lns []net.Listener
	for i := range l.o.Hosts {
		ln, err := lc.Listen(ctx, "tcp4", l.Address(i))
		if err != nil {
			for _, open := range lns {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		lns = append(lns, ln)
	}
	return lns, nil
}

// ownOnly drops connections that are not for one of the hosts.
type ownOnly struct {
	net.Listener
	l *Hosts
}

// Accept gives the next connection to one of the hosts.
func (o ownOnly) Accept() (net.Conn, error) {
	for {
		c, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if _, ok := o.l.index(c.LocalAddr().String()); ok {
			return c, nil
		}
		if err := c.Close(); err != nil {
			o.l.o.Log.Debug("drop connection", "error", err)
		}
	}
}

// Address is host i's host:port.
func (l *Hosts) Address(i int) string {
	if l.o.OwnPorts {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port+i))
	}
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], 127<<24|uint32(i+1+1<<16))
	return netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(l.port)).String()
}

// index is the host that an address belongs to.
func (l *Hosts) index(addr string) (int, bool) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, false
	}
	i := int(ap.Port()) - l.port
	if !l.o.OwnPorts {
		a := ap.Addr().Unmap()
		if !a.Is4() || ap.Port() != uint16(l.port) {
			return 0, false
		}
		ip := a.As4()
		i = int(binary.BigEndian.Uint32(ip[:])) - 127<<24 - 1<<16 - 1
	}
	return i, i >= 0 && i < l.o.Hosts
}

// Addresses are all hosts' host:port.
func (l *Hosts) Addresses() []string {
	out := make([]string, l.o.Hosts)
	for i := range out {
		out[i] = l.Address(i)
	}
	return out
}

// Stop ends the hosts and waits for their connections.
func (l *Hosts) Stop() {
	l.stop()
	l.wg.Wait()
}

// Handle answers a command of the connection's host.
func (l *Hosts) Handle(ctx context.Context, s *engine.Session, _ string, cmd bson.Raw) bson.Raw {
	i, ok := l.index(s.Local)
	if !ok {
		return engine.ErrorReply(engine.Errf(engine.CodeShutdownInProgress, "no such host"))
	}
	if ms, ok := cmd.Lookup("maxAwaitTimeMS").AsInt64OK(); ok {
		t := time.NewTimer(time.Duration(ms) * time.Millisecond) // nothing ever changes
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return l.Reply(i, time.Now(), cmd)
}

// Reply is host i's answer to a command at a time.
func (l *Hosts) Reply(i int, now time.Time, cmd bson.Raw) bson.Raw {
	first, err := cmd.IndexErr(0)
	if err != nil {
		return engine.ErrorReply(engine.Errf(engine.CodeFailedToParse, "empty command"))
	}
	v := l.view(i, now.UTC())
	scale, _ := cmd.Lookup("scale").AsInt64OK()
	scale = max(scale, 1)
	var d bson.D
	switch name := first.Key(); name {
	case "hello":
		d = status.Hello(v, false, true)
	case "isMaster", "ismaster":
		d = status.Hello(v, true, true)
	case "serverStatus":
		return l.kit.ServerStatus(v, cmd)
	case "getDiagnosticData":
		return l.kit.DiagnosticData(v)
	case "replSetGetStatus":
		d = status.ReplSetGetStatus(v)
	case "replSetGetConfig":
		d = status.ReplSetGetConfig(v)
	case "replSetGetRBID":
		d = bson.D{{Key: "rbid", Value: v.Set.RBID}, {Key: "ok", Value: 1.0}}
	case "buildInfo", "buildinfo":
		d = process.BuildInfo(v)
	case "hostInfo":
		d = process.HostInfo(v)
	case "getCmdLineOpts":
		d = process.CmdLineOpts(v)
	case "getDefaultRWConcern":
		d = process.DefaultRWConcern(v)
	case "connPoolStats":
		d = process.ConnPoolStats(v)
	case "getParameter":
		d, _ = l.kit.Parameters(v, cmd)
	case "getLog":
		d = process.GetLog(v, process.StartupWarnings(v), 2)
	case "top":
		d = process.Top(v, []string{workDB + ".orders"})
	case "listDatabases":
		d = status.ListDatabases(v, []status.Collection{{NS: "admin.system.version", Docs: 1, Bytes: 60}, {NS: "local.oplog.rs"}, {NS: workDB + ".orders"}},
			func(db string) int64 { return l.bytes(v, db) }, false)
	case "dbStats", "dbstats":
		db, _ := cmd.Lookup("$db").StringValueOK()
		d = status.DBStats(v, db, []status.Collection{{NS: db + ".orders", Indexes: []status.Index{{Name: "_id_", Bytes: 4096}}}}, l.bytes(v, db), scale)
	case "collStats", "collstats":
		coll, _ := first.Value().StringValueOK()
		db, _ := cmd.Lookup("$db").StringValueOK()
		return l.kit.CollStats(v, status.Collection{NS: db + "." + coll}, scale)
	case "_isSelf":
		d = bson.D{{Key: "id", Value: v.ProcessID}, {Key: "ok", Value: 1.0}}
	case "ping", "endSessions":
		d = bson.D{{Key: "ok", Value: 1.0}}
	default:
		return engine.ErrorReply(engine.Errf(engine.CodeCommandNotFound, "no such command: '%s'", name))
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		return engine.ErrorReply(engine.Errf(engine.CodeInternalError, "%v", err))
	}
	return raw
}

func (l *Hosts) bytes(v *status.View, db string) int64 {
	if db == workDB {
		return v.Gauges.DataBytes
	}
	return 0
}

// view computes what host i is at a time: a member of its set, whose primary never changes.
func (l *Hosts) view(i int, now time.Time) *status.View {
	k := i / l.o.SetSize
	from := k * l.o.SetSize
	n := min(l.o.SetSize, l.o.Hosts-from)
	set := &status.Set{
		Name: "light" + strconv.Itoa(k), ConfigVersion: 1, ConfigTerm: 1, Term: 1, Self: i - from, Primary: k % n, RBID: 1, ElectionMS: 10000,
	}
	binary.BigEndian.PutUint32(set.ID[:], uint32(l.o.Started.Unix()))
	binary.BigEndian.PutUint32(set.ID[8:], uint32(k))
	m := l.o.Load.Member(k)
	for j := range n {
		sm := status.Member{
			ID: int32(j), Host: l.Address(from + j), Priority: 1, Votes: 1, State: model.StateSecondary, Up: true, Since: l.o.Started,
			SyncSource: set.Primary, LastHeartbeat: now.Truncate(2 * time.Second),
		}
		sm.AppliedWall = now.Truncate(time.Second)
		if j == set.Primary {
			sm.State, sm.SyncSource = model.StatePrimary, -1
			sm.Elected = bson.Timestamp{T: uint32(l.o.Started.Unix()), I: 1}
		} else {
			sm.AppliedWall = sm.AppliedWall.Add(-m.Lag(j, n, now).Truncate(time.Second))
		}
		sm.Applied = status.OpTime{TS: bson.Timestamp{T: uint32(sm.AppliedWall.Unix()), I: 1}, Term: 1}
		set.Members = append(set.Members, sm)
		if set.CommittedWall.IsZero() || sm.AppliedWall.Before(set.CommittedWall) {
			set.Committed, set.CommittedWall = sm.Applied, sm.AppliedWall
		}
	}
	set.Election = &status.Election{Reason: "electionTimeout", At: l.o.Started, Term: 1, Winner: set.Primary, Prior: -1, Committed: status.NoOpTime(), LastSeen: status.NoOpTime()}
	me := &set.Members[set.Self]
	v := &status.View{
		Now: now, Started: l.o.Started, Version: l.kit.Version, Hostname: "light" + strconv.Itoa(i) + ".example.net", Port: l.port, PID: int64(4000 + i),
		Topology: 3, Role: load.Secondary, Set: set, Booted: l.o.Started.Add(-24 * time.Hour),
	}
	if l.o.OwnPorts {
		v.Port += i
	}
	if me.State == model.StatePrimary {
		v.Role = load.Primary
	}
	binary.BigEndian.PutUint32(v.ProcessID[:], uint32(l.o.Started.Unix()))
	binary.BigEndian.PutUint32(v.ProcessID[4:], 0x6c696768)
	binary.BigEndian.PutUint32(v.ProcessID[8:], uint32(i))
	own := m.Member(i)
	l.rates.Add(&v.Counts, own, v.Role, v.Started, now)
	l.rates.Add(&v.Machine, own, v.Role, v.Booted, now)
	if own.Scale > 0 {
		v.Activity = v.Role.Share() * own.Integral(v.Started, now)
		v.Gauges = own.At(v.Role, now, v.Started, v.Counts[load.OplogBytes])
	}
	window := min(now.Sub(v.Started), 24*time.Hour)
	v.Oplog = &status.Oplog{
		First: bson.Timestamp{T: uint32(now.Add(-window).Unix()), I: 1}, Last: me.Applied.TS, MaxSize: 20 << 30,
		Count: int64(v.Counts[load.OplogEntries]), Size: min(20<<30, int64(v.Counts[load.OplogBytes])),
	}
	return v
}
