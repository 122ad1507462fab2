// Package mongosim runs a simulated MongoDB deployment in this process: members on real ports that official drivers
// discover, write to and follow through elections, under a load that is a function of time. It is a test double for the
// demo, for tests and for load; it is not MongoDB and keeps nobody's data safe.
//
// The parts: engine keeps a member's documents, wire listens, load says how busy the members are, status puts that into
// replies of a real server's shape, repl elects and replicates. This package joins them into members and deployments.
package mongosim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/repl"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/local/mongosim/wire"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Options describe a deployment. The zero value is a silent replica set of three members in memory on free ports.
type Options struct {
	Members    []MemberOptions // default: three of priority 1
	SetName    string          // default "rs0"
	Standalone bool            // one member, no replica set; SetName is not used, of Members only the first one's Names
	BasePort   int             // of the first member, the others follow; 0 takes free ports
	Hostname   string          // members are called hostname:port and listen on what it resolves to; default 127.0.0.1
	DBPath     string          // a folder for each member is made in it; empty keeps everything in memory
	NoSync     bool            // do not wait for the disk
	Username   string          // with access control when not empty: a user with role root in admin
	Password   string
	Users      []wire.User // further users; any turns access control on
	TLS        *tls.Config // nil: plain
	CAFile     string      // named in URI when TLS is on
	Version    string      // that the members claim; default 7.0.14
	Load       load.Model  // zero: only what really happens shows
	Workload   bool        // write some documents into the database "shop" all the time
	Log        *slog.Logger

	// StartAt makes time virtual from this moment on: it stands still until AdvanceTo, and runs after GoLive. Zero: the
	// wall clock from the beginning.
	StartAt time.Time
	// ElectionTimeout is how long a primary may be away before another is elected; default 1 s.
	ElectionTimeout time.Duration
	// ElectionEvery makes the primary step down about that often; zero never. HistoryElectionEvery is the same for virtual time.
	ElectionEvery, HistoryElectionEvery time.Duration
	// Lagging lets secondaries fall behind now and then.
	Lagging bool
	// Apart starts no member: each starts with Restart, as processes on machines of their own do, and without a configuration,
	// so that replSetInitiate makes them a set. BasePort must be set.
	Apart bool
	// OplogBytes is each member's oplog's size; default 64 MiB. A small one is overrun soon.
	OplogBytes int64
	// NoopEvery is how long a primary is idle before it writes a no-op; default 10 s.
	NoopEvery time.Duration
	// TxnEntryBytes is how much of a transaction goes into one oplog entry; default 16 MiB. A small one makes chains of small
	// transactions.
	TxnEntryBytes int
	// RollbackTime is how long a member that rolls back shows it; default 300 ms.
	RollbackTime time.Duration
	// Process makes the only member of a standalone this very process; see there. Nil: members are simulated processes.
	Process *Process
}

// Process is what a standalone needs to stand in for a program of its own: it shows this process's number and this machine's
// name, keeps its data in DBPath itself and listens only when they are open. BasePort must be set.
type Process struct {
	Hostname string // of the machine, shown in replies; where it listens is Options.Hostname
	PID      int64
	// Commands is asked before the member's own commands; it says false to pass.
	Commands func(ctx context.Context, s *engine.Session, db, name string, cmd bson.Raw) (bson.Raw, bool)
	// Engine may change the engine's options before it opens.
	Engine func(*engine.Options)
	// Open is called once the data are open, before anybody is listened to. Its error ends the start.
	Open func(m *Member) error
}

// MemberOptions describe a member of a set.
type MemberOptions struct {
	Arbiter  bool
	Hidden   bool
	Delay    time.Duration
	Priority *float64 // default 1; 0 for arbiters, hidden and delayed members
	NoVote   bool
	Tags     map[string]string
	Names    []string // host:port that the set and its clients call it by, the first by default; empty: where it listens
}

// Deployment is a running simulated deployment. All methods are safe for concurrent use.
type Deployment struct {
	o       Options
	clock   *clock
	kit     *status.Kit
	rates   *load.Table
	set     *repl.Set // nil: standalone
	users   *wire.Users
	connIDs atomic.Int64
	members []*Member
	stop    context.CancelFunc
	wg      sync.WaitGroup

	time sync.Mutex // held while virtual time moves
}

// Start starts a deployment and, while time is live, waits until it has a primary.
func Start(ctx context.Context, o Options) (*Deployment, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("simulated deployment: %w", err)
	}
	version, err := status.ParseVersion(o.Version)
	if err != nil {
		return nil, fmt.Errorf("simulated deployment: %w", err)
	}
	d := &Deployment{o: o, clock: newClock(o.StartAt), rates: load.NewTable()}
	if d.kit, err = status.NewKit(version); err != nil {
		return nil, fmt.Errorf("simulated deployment: %w", err)
	}
	if d.users, err = o.users(); err != nil {
		return nil, fmt.Errorf("simulated deployment: %w", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	if err := d.startMembers(run); err != nil {
		stop()
		return nil, errors.Join(err, d.Stop(ctx))
	}
	if d.set != nil {
		d.wg.Go(func() { d.set.Run(run, d.clock.live) })
	}
	d.wg.Go(func() { d.live(run) })
	if now := d.clock.now(); !d.clock.live() {
		d.happen(ctx, now, now, 0) // elects: the first moment of virtual time has a primary already
	}
	if d.set != nil && d.clock.live() && !o.Apart {
		if err := d.WaitPrimary(ctx); err != nil {
			return nil, errors.Join(err, d.Stop(context.WithoutCancel(ctx)))
		}
	}
	if err := d.writeUsers(ctx); err != nil {
		return nil, errors.Join(err, d.Stop(context.WithoutCancel(ctx)))
	}
	return d, nil
}

// writeUsers makes the documents of the accounts, as if they had been created on the first primary.
func (d *Deployment) writeUsers(ctx context.Context) error {
	p := d.Primary()
	if d.users == nil || p < 0 || d.o.Apart || d.o.Process != nil {
		return nil
	}
	for _, cmd := range d.users.Commands() {
		reply, err := d.members[p].Run(ctx, "admin", cmd)
		if err != nil {
			return fmt.Errorf("write users: %w", err)
		}
		if reply.Lookup("ok").AsFloat64() != 1 {
			return fmt.Errorf("write users: %v", reply)
		}
		if _, err := reply.LookupErr("writeErrors"); err == nil { // they are there from before
			return nil
		}
	}
	return nil
}

// complete fills in defaults and refuses what does not go together.
func (o *Options) complete() error {
	if o.SetName == "" {
		o.SetName = "rs0"
	}
	if o.Standalone {
		one := MemberOptions{}
		if len(o.Members) > 0 {
			one.Names = o.Members[0].Names
		}
		o.Members = []MemberOptions{one}
	} else if len(o.Members) == 0 {
		o.Members = make([]MemberOptions, 3)
	}
	if o.Hostname == "" {
		o.Hostname = "127.0.0.1"
	}
	if o.Version == "" {
		o.Version = "7.0.14"
	}
	if o.RollbackTime == 0 {
		o.RollbackTime = 300 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.BasePort < 0 || o.BasePort+len(o.Members) > 65536 {
		return fmt.Errorf("ports %d to %d are not ports", o.BasePort, o.BasePort+len(o.Members)-1)
	}
	if o.Process != nil && (!o.Standalone || o.BasePort == 0 || o.DBPath == "") {
		return errors.New("a process of its own is a standalone with a port and a dbpath")
	}
	if o.Apart && o.BasePort == 0 {
		return errors.New("members that start apart need a base port")
	}
	electable := 0
	for i, m := range o.Members {
		if p := m.priority(); p > 0 && (m.Arbiter || m.Hidden || m.Delay > 0) {
			return fmt.Errorf("member %d: an arbiter, hidden or delayed member must have priority 0", i)
		} else if p > 0 {
			electable++
		}
	}
	if electable == 0 {
		return errors.New("no member can become primary")
	}
	return nil
}

// users are the accounts of data-bearing members; nil without access control.
func (o *Options) users() (*wire.Users, error) {
	all := o.Users
	if o.Username != "" {
		all = append([]wire.User{{Name: o.Username, DB: "admin", Password: o.Password, Roles: []engine.Role{{Role: "root", DB: "admin"}}}}, all...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	users := wire.NewUsers()
	for _, u := range all {
		if err := users.Add(u); err != nil {
			return nil, fmt.Errorf("user %s: %w", u.Name, err)
		}
	}
	return users, nil
}

func (m MemberOptions) priority() float64 {
	switch {
	case m.Priority != nil:
		return *m.Priority
	case m.Arbiter || m.Hidden || m.Delay > 0:
		return 0
	default:
		return 1
	}
}

// startMembers opens the listeners first: the set's configuration needs their ports.
func (d *Deployment) startMembers(run context.Context) error {
	var lns []net.Listener
	fail := func(err error) error {
		for _, ln := range lns {
			if ln != nil {
				err = errors.Join(err, ln.Close())
			}
		}
		return err
	}
	var cfg []repl.MemberConfig
	for i, mo := range d.o.Members {
		port := 0
		if d.o.BasePort > 0 {
			port = d.o.BasePort + i
		}
		ln, err := (&net.ListenConfig{}).Listen(run, "tcp", net.JoinHostPort(d.o.Hostname, strconv.Itoa(port)))
		if err != nil {
			return fail(fmt.Errorf("simulated member %d: %w", i, err))
		}
		lns = append(lns, ln)
		addr, ok := ln.Addr().(*net.TCPAddr)
		if !ok {
			return fail(fmt.Errorf("simulated member %d listens on %v", i, ln.Addr()))
		}
		c := repl.MemberConfig{ID: int32(i), Host: d.o.address(i, addr.Port), Names: mo.Names, Arbiter: mo.Arbiter, Hidden: mo.Hidden, Priority: mo.priority(), Votes: 1, Delay: mo.Delay}
		if mo.NoVote {
			c.Votes = 0
		}
		for k, v := range mo.Tags {
			c.Tags = append(c.Tags, bson.E{Key: k, Value: v})
		}
		cfg = append(cfg, c)
		d.members = append(d.members, newMember(d, i, addr.Port))
	}
	if !d.o.Standalone {
		d.set = d.newSet(cfg)
	}
	for i, m := range d.members {
		if d.o.Apart || d.o.Process != nil {
			m.run = run
			if err := lns[i].Close(); err != nil {
				return fail(err)
			}
			lns[i] = nil
		}
		if d.o.Apart {
			continue
		}
		if err := m.start(run, lns[i]); err != nil {
			return fail(err)
		}
	}
	return nil
}

func (d *Deployment) newSet(cfg []repl.MemberConfig) *repl.Set {
	ro := repl.Options{
		Name: d.o.SetName, Members: cfg, Clock: d.clock.now, Log: d.o.Log, ElectionTimeout: d.o.ElectionTimeout,
		OnState:          func(i int, at time.Time, st model.MemberState) { d.members[i].stateIs(at, st) },
		ImplicitMajority: d.kit.Version.AtLeast(5, 0), Empty: d.o.Apart,
		OplogSize: d.o.OplogBytes, NoopEvery: d.o.NoopEvery, RollbackTime: d.o.RollbackTime,
	}
	if d.o.Lagging {
		ro.Lag = func(i int, t time.Time) time.Duration { return d.o.Load.Lag(i, len(cfg), t) }
	}
	return repl.New(ro)
}

// address is what member i, which listens on a port, is called.
func (o *Options) address(i, port int) string {
	if names := o.Members[i].Names; len(names) > 0 {
		return names[0]
	}
	return net.JoinHostPort(o.Hostname, strconv.Itoa(port))
}

// Addresses are the members' host:port, in order.
func (d *Deployment) Addresses() []string {
	out := make([]string, 0, len(d.members))
	for _, m := range d.members {
		out = append(out, m.Address())
	}
	return out
}

// URI is a connection string for drivers.
func (d *Deployment) URI() string {
	var hosts []string
	for i, m := range d.members {
		if mo := d.o.Members[i]; !mo.Arbiter && !mo.Hidden {
			hosts = append(hosts, m.Address())
		}
	}
	u := url.URL{Scheme: "mongodb", Host: strings.Join(hosts, ","), Path: "/"}
	if d.o.Username != "" {
		u.User = url.UserPassword(d.o.Username, d.o.Password)
	}
	q := url.Values{}
	if d.set != nil {
		q.Set("replicaSet", d.o.SetName)
	} else {
		q.Set("directConnection", "true")
	}
	if d.o.TLS != nil {
		q.Set("tls", "true")
		if d.o.CAFile != "" {
			q.Set("tlsCAFile", d.o.CAFile)
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Len is the number of members.
func (d *Deployment) Len() int { return len(d.members) }

// Member gives member i.
func (d *Deployment) Member(i int) *Member { return d.members[i] }

// Primary is the index of the primary; -1 while there is none.
func (d *Deployment) Primary() int {
	if d.set == nil {
		return 0
	}
	return d.set.Primary()
}

// WaitPrimary waits until there is a primary.
func (d *Deployment) WaitPrimary(ctx context.Context) error {
	for d.Primary() < 0 {
		news := d.set.Changes()
		if d.Primary() >= 0 {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("wait for a simulated primary: %w", context.Cause(ctx))
		}
	}
	return nil
}

// StepDown makes the primary step down as replSetStepDown does; the others then elect.
func (d *Deployment) StepDown(context.Context) error {
	if d.set == nil {
		return errors.New("step down: not a replica set")
	}
	p := d.set.Primary()
	if p < 0 {
		return errors.New("step down: there is no primary")
	}
	if err := d.set.StepDown(p, 5*time.Second, 10*time.Second, false); err != nil {
		return fmt.Errorf("step down: %w", err)
	}
	return nil
}

// Kill ends member i as kill -9 does: connections are cut, its port is closed, what its journal had not got is lost.
func (d *Deployment) Kill(i int) error { return d.members[i].end(false) }

// Shutdown ends member i cleanly.
func (d *Deployment) Shutdown(i int) error { return d.members[i].end(true) }

// Restart starts member i again, on its port and from its dbpath.
func (d *Deployment) Restart(i int) error { return d.members[i].restart() }

// Lag makes member i apply d late; 0 ends it.
func (d *Deployment) Lag(i int, by time.Duration) {
	if d.set != nil {
		d.set.SetLag(i, by)
	}
}

// Stop stops everything in order and waits for it: listeners, connections, replication, data.
func (d *Deployment) Stop(ctx context.Context) error {
	d.stop()
	done := make(chan error, 1)
	go func() {
		d.wg.Wait()
		var errs []error
		for _, m := range d.members {
			errs = append(errs, m.end(true))
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop simulated deployment: %w", context.Cause(ctx))
	}
}

func (d *Deployment) dbPath(i int) string {
	if d.o.DBPath == "" {
		return ""
	}
	if d.o.Process != nil {
		return d.o.DBPath
	}
	return filepath.Join(d.o.DBPath, "member"+strconv.Itoa(i))
}
