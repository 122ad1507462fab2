package mongosim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/local/mongosim/status/logline"
	"github.com/heartwood-db/heartwood/local/mongosim/wire"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Member is one simulated process. All methods are safe for concurrent use.
type Member struct {
	d     *Deployment
	index int
	port  int
	model load.Model

	life sync.Mutex // one start or end at a time

	mu        sync.Mutex
	eng       *engine.Engine // nil while it is down
	disk      *engine.Engine // the last engine of a member kept in memory: what a disk would have kept
	srv       *wire.Server
	stop      context.CancelFunc
	served    chan struct{}
	run       context.Context //nolint:containedctx // the deployment's, for restarts
	starts    int64
	started   time.Time
	processID bson.ObjectID // of a standalone; members of a set have theirs in the set
	booted    time.Time
	slow      time.Duration
	log       logline.Ring

	// What the load amounts to: spans in one role are closed when the role changes, the open one is added on reading.
	role     load.Role
	roleAt   time.Time
	counts   load.Counts
	machine  load.Counts
	activity float64
}

func newMember(d *Deployment, i, port int) *Member {
	now := d.clock.now()
	return &Member{d: d, index: i, port: port, model: d.o.Load.Member(i), booted: now.Add(-26*time.Hour - time.Duration(i)*time.Minute), roleAt: now, role: load.Idle}
}

// Address is the member's host:port.
func (m *Member) Address() string { return m.d.o.address(m.index, m.port) }

// State is the member's state in its set; a standalone is PRIMARY while it runs.
func (m *Member) State() model.MemberState {
	if m.d.set != nil {
		return m.d.set.Info(m.index).State
	}
	if m.engine() == nil {
		return model.StateDown
	}
	return model.StatePrimary
}

// Pause makes the process hang: connections stay, nothing is answered, the other members lose it.
func (m *Member) Pause() { m.hang(true) }

// Resume ends Pause.
func (m *Member) Resume() { m.hang(false) }

func (m *Member) hang(on bool) {
	m.mu.Lock()
	srv := m.srv
	m.mu.Unlock()
	if srv == nil {
		return
	}
	if on {
		srv.Pause()
	}
	if m.d.set != nil {
		m.d.set.Pause(m.index, on)
	}
	if !on {
		srv.Resume()
	}
}

// ResizeOplog makes the member's oplog larger or smaller than replSetResizeOplog would let it: what no longer fits is gone at
// once, and with it the position of those who read too slowly.
func (m *Member) ResizeOplog(bytes int64) {
	if eng := m.engine(); eng != nil {
		engine.ResizeOplog(eng, bytes)
	}
}

// Cut takes the member off the network of its set, or puts it back; clients reach it all the time. A primary that is cut
// off goes on taking writes until it notices: that is how a rollback comes about.
func (m *Member) Cut(off bool) {
	if m.d.set != nil {
		m.d.set.Cut(m.index, off)
	}
}

// Slow delays each reply.
func (m *Member) Slow(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slow = by
}

// Connections is how many clients are connected.
func (m *Member) Connections() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.srv == nil {
		return 0
	}
	return m.srv.Counters().Current.Load()
}

func (m *Member) engine() *engine.Engine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.eng
}

// Run answers a command as the member itself would run it: nobody is asked for permission.
func (m *Member) Run(ctx context.Context, db string, cmd bson.Raw) (bson.Raw, error) {
	eng := m.engine()
	if eng == nil {
		return nil, fmt.Errorf("simulated member %s is down", m.Address())
	}
	return eng.Run(ctx, &engine.Session{Internal: true}, db, cmd), nil
}

// start opens the member's data and serves on ln; on the member's port when it is nil, from when the data are open.
func (m *Member) start(run context.Context, ln net.Listener) error {
	m.life.Lock()
	defer m.life.Unlock()
	d := m.d
	var eo engine.Options
	if d.set != nil {
		eo = d.set.Hooks(m.index)
	}
	arbiter := d.o.Members[m.index].Arbiter
	if d.set == nil || arbiter {
		eo.NextOpTime, eo.OnWrite, eo.WaitWrite, eo.Committed = nil, nil, nil, nil
	}
	eo.Clock = d.clock.now
	eo.NoSync = d.o.NoSync
	eo.Log = d.o.Log
	eo.Version = engine.Version{Major: d.kit.Version.Major, Minor: d.kit.Version.Minor}
	eo.DiffUpdates = d.kit.Version.AtLeast(5, 0)
	eo.HostPort = m.Address()
	eo.TxnEntryBytes = d.o.TxnEntryBytes
	eo.Commands = m.commands
	eo.Trailer = m.trailer
	if !arbiter {
		eo.DBPath = d.dbPath(m.index)
	}
	if p := d.o.Process; p != nil && p.Engine != nil {
		p.Engine(&eo)
	}
	fail := func(err error) error {
		err = fmt.Errorf("simulated member %s: %w", m.Address(), err)
		if ln != nil {
			err = errors.Join(err, ln.Close())
		}
		return err
	}
	eng, err := engine.Open(eo)
	if err != nil {
		return fail(err)
	}
	m.mu.Lock()
	disk := m.disk
	m.disk = nil
	m.mu.Unlock()
	if disk != nil {
		if err := eng.CopyFrom(disk); err != nil {
			return fail(err)
		}
	}
	users := d.users
	if users != nil && arbiter { // an arbiter holds no users: nobody can sign in there
		users = wire.NewUsers()
	}
	srv := wire.New(wire.Options{
		Handler: handler{eng}, TLS: d.o.TLS, Users: users, Log: d.o.Log, ConnectionIDs: &d.connIDs, Delay: m.delay,
	})
	ctx, stop := context.WithCancel(run)
	served := make(chan struct{})
	m.mu.Lock()
	now := d.clock.now()
	m.eng, m.srv, m.stop, m.served, m.run = eng, srv, stop, served, run
	m.starts++
	m.started, m.processID = now, bson.NewObjectID()
	m.span(now, load.Idle)
	m.counts, m.activity = load.Counts{}, 0
	m.log = logline.Ring{}
	m.log.Add(logline.Line{
		At: now, Severity: "I", Component: "CONTROL", ID: 4615611, Context: "initandlisten", Msg: "MongoDB starting",
		Attr: map[string]any{"pid": m.pid(), "port": m.port, "host": m.hostname(), "simulated": true},
	})
	if d.set == nil {
		m.span(now, load.Standalone)
	}
	m.mu.Unlock()
	if p := d.o.Process; p != nil && p.Open != nil {
		if err := p.Open(m); err != nil {
			stop()
			close(served)
			return fail(err)
		}
	}
	if ln == nil {
		if ln, err = m.relisten(run); err != nil {
			stop()
			close(served)
			return fail(err)
		}
	}
	if d.set != nil {
		if arbiter {
			d.set.Up(m.index, nil)
		} else {
			d.set.Up(m.index, eng)
		}
	}
	go func() {
		defer close(served)
		if err := srv.Serve(ctx, ln); err != nil && ctx.Err() == nil {
			d.o.Log.Warn("simulated member stopped serving", "member", m.Address(), "error", err)
		}
	}()
	return nil
}

// end stops the member's process. A clean end leaves its files in order.
func (m *Member) end(clean bool) error {
	m.life.Lock()
	defer m.life.Unlock()
	m.mu.Lock()
	eng, srv, stop, served := m.eng, m.srv, m.stop, m.served
	m.eng, m.srv = nil, nil
	if m.d.o.DBPath == "" {
		m.disk = eng
	}
	m.mu.Unlock()
	if eng == nil {
		return nil
	}
	if m.d.set != nil {
		m.d.set.Down(m.index)
	} else {
		m.stateIs(m.d.clock.now(), model.StateDown)
	}
	if !clean { // a killed process writes nothing more: no command may finish
		srv.CloseConnections()
	}
	stop()
	err := eng.Close(clean)
	srv.CloseConnections()
	<-served
	if err != nil {
		return fmt.Errorf("simulated member %s: %w", m.Address(), err)
	}
	return nil
}

// restart starts the process again.
func (m *Member) restart() error {
	m.mu.Lock()
	up, run := m.eng != nil, m.run
	m.mu.Unlock()
	if up {
		return fmt.Errorf("simulated member %s runs", m.Address())
	}
	ln, err := m.relisten(run)
	if err != nil {
		return fmt.Errorf("simulated member %s: %w", m.Address(), err)
	}
	return m.start(run, ln)
}

// relisten takes the member's port again. A client that dials the set just then may hold it for a moment, as the port of
// its own end.
func (m *Member) relisten(ctx context.Context) (net.Listener, error) {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for tries := 0; ; tries++ {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(m.d.o.Hostname, strconv.Itoa(m.port)))
		if err == nil || tries == 100 {
			return ln, err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// handler passes commands of connections to the engine, which asks the member first.
type handler struct{ eng *engine.Engine }

// Handle answers one command.
func (h handler) Handle(ctx context.Context, s *engine.Session, db string, cmd bson.Raw) bson.Raw {
	return h.eng.Run(ctx, s, db, cmd)
}

func (m *Member) delay(ctx context.Context, _ *engine.Session, _ string) {
	m.mu.Lock()
	by := m.slow
	m.mu.Unlock()
	if by <= 0 {
		return
	}
	t := time.NewTimer(by)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// stateIs is told of each change of the member's state: what it counts from now on is another role's.
func (m *Member) stateIs(at time.Time, st model.MemberState) {
	role := load.Idle
	switch st {
	case model.StatePrimary:
		role = load.Primary
	case model.StateSecondary:
		role = load.Secondary
	case model.StateArbiter:
		role = load.Arbiter
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.span(at, role)
	if st != model.StateDown {
		m.log.Add(logline.Line{
			At: at, Severity: "I", Component: "REPL", ID: 21358, Context: "ReplCoord-0", Msg: "Replica set state transition",
			Attr: map[string]any{"newState": st.String()},
		})
	}
}

// span closes the open span of the load and opens one in a role. m.mu is held.
func (m *Member) span(at time.Time, role load.Role) {
	m.d.rates.Add(&m.counts, m.model, m.role, m.roleAt, at)
	m.d.rates.Add(&m.machine, m.model, m.role, m.roleAt, at)
	if m.model.Scale > 0 {
		m.activity += m.role.Share() * m.model.Integral(m.roleAt, at)
	}
	m.role, m.roleAt = role, at
}

// shownPort is the port that the member says it listens on.
func (m *Member) shownPort() int {
	if _, port, err := net.SplitHostPort(m.Address()); err == nil {
		if n, err := strconv.Atoi(port); err == nil {
			return n
		}
	}
	return m.port
}

func (m *Member) pid() int64 {
	if m.d.o.Process != nil {
		return m.d.o.Process.PID
	}
	return int64(4000 + 100*m.index + int(m.starts))
}

func (m *Member) hostname() string {
	if m.d.o.Process != nil {
		return m.d.o.Process.Hostname
	}
	if len(m.d.o.Members[m.index].Names) > 0 {
		if host, _, err := net.SplitHostPort(m.Address()); err == nil {
			return host
		}
	}
	return fmt.Sprintf("db%d.%s.example.net", m.index+1, m.d.o.SetName)
}

// view is everything the member can tell about itself now.
func (m *Member) view() *status.View {
	var set *status.Set
	now := m.d.clock.now()
	v := &status.View{
		Now: now, Version: m.d.kit.Version, Hostname: m.hostname(), Port: m.shownPort(), DBPath: m.d.dbPath(m.index),
		Auth: m.d.users != nil, TLS: m.d.o.TLS != nil,
	}
	if m.d.set != nil {
		set = m.d.set.View(m.index)
		info := m.d.set.Info(m.index)
		v.Set, v.ProcessID, v.Topology = set, info.ProcessID, info.Topology
	}
	m.mu.Lock()
	eng, srv := m.eng, m.srv
	v.Started, v.Booted, v.PID, v.Role = m.started, m.booted, m.pid(), m.role
	if v.Set == nil {
		v.ProcessID = m.processID
	}
	v.Counts, v.Machine, v.Activity = m.counts, m.machine, m.activity
	role, at := m.role, m.roleAt
	m.mu.Unlock()

	m.d.rates.Add(&v.Counts, m.model, role, at, now)
	m.d.rates.Add(&v.Machine, m.model, role, at, now)
	if m.model.Scale > 0 {
		v.Activity += role.Share() * m.model.Integral(at, now)
		v.Gauges = m.model.At(role, now, v.Started, v.Counts[load.OplogBytes])
	} else {
		v.Gauges.DiskFree = load.DiskBytes - 6<<30 // nothing but what is really there fills it
	}
	if eng != nil {
		v.FCV = eng.FCV()
		addReal(v, eng.Stats(), srv)
		if set != nil && !m.d.o.Members[m.index].Arbiter {
			v.Oplog = m.oplog(eng)
		}
	}
	return v
}

// oplog describes the member's oplog. The load's entries are not stored, only accounted for: its rate over the time the
// stored entries span.
func (m *Member) oplog(eng *engine.Engine) *status.Oplog {
	first, last := eng.OplogBounds()
	o := &status.Oplog{First: first.TS, Last: last.TS, MaxSize: 64 << 20}
	for _, n := range eng.Namespaces("local") {
		if n.NS == engine.OplogNS {
			o.Count, o.Size = n.Docs, n.Bytes
		}
	}
	if m.model.Scale > 0 {
		o.MaxSize = 20 << 30
	}
	if m.model.Scale > 0 && last.TS.T > first.TS.T {
		var c load.Counts
		m.d.rates.Add(&c, m.model, load.Primary, time.Unix(int64(first.TS.T), 0), time.Unix(int64(last.TS.T), 0))
		o.Size = min(o.MaxSize, o.Size+int64(c[load.OplogBytes]))
		o.Count += int64(c[load.OplogEntries])
	}
	return o
}

// addReal adds what really happened to what the load stands for.
func addReal(v *status.View, s *engine.Counters, srv *wire.Server) {
	add := func(c load.Counter, n int64) { v.Counts[c] += float64(n) }
	add(load.Insert, s.Insert.Load())
	add(load.Query, s.Query.Load())
	add(load.Update, s.Update.Load())
	add(load.Delete, s.Delete.Load())
	add(load.GetMore, s.GetMore.Load())
	add(load.Command, s.Command.Load())
	add(load.DocsInserted, s.DocsInserted.Load())
	add(load.DocsReturned, s.DocsReturned.Load())
	add(load.DocsUpdated, s.DocsUpdated.Load())
	add(load.DocsDeleted, s.DocsDeleted.Load())
	add(load.KeysScanned, s.ScannedKeys.Load())
	add(load.ObjectsScanned, s.ScannedDocs.Load())
	add(load.CollectionScans, s.CollectionScans.Load())
	add(load.ScanAndOrder, s.ScanAndOrder.Load())
	add(load.WriteConflicts, s.WriteConflicts.Load())
	add(load.CursorsOpened, s.CursorsOpened.Load())
	add(load.CursorsTimedOut, s.CursorsTimedOut.Load())
	add(load.TxnsStarted, s.TxnStarted.Load())
	add(load.TxnsAborted, s.TxnAborted.Load())
	add(load.ReadOps, s.ReadOps.Load())
	add(load.ReadMicros, s.ReadMicros.Load())
	add(load.WriteOps, s.WriteOps.Load())
	add(load.WriteMicros, s.WriteMicros.Load())
	add(load.CommandOps, s.CmdOps.Load())
	add(load.CommandMicros, s.CmdMicros.Load())
	add(load.ReplInsert, s.ReplInsert.Load())
	add(load.ReplUpdate, s.ReplUpdate.Load())
	add(load.ReplDelete, s.ReplDelete.Load())
	add(load.ReplCommand, s.ReplCommand.Load())
	add(load.AssertsUser, s.Assertions.Load())
	v.Gauges.Cursors += s.CursorsOpen.Load()
	v.Gauges.TxnsOpen += s.TxnOpen.Load()
	if srv == nil {
		return
	}
	w := srv.Counters()
	add(load.BytesIn, w.BytesIn.Load())
	add(load.BytesOut, w.BytesOut.Load())
	add(load.Requests, w.Requests.Load())
	add(load.ConnectionsCreated, w.TotalCreated.Load())
	v.Gauges.Connections += w.Current.Load()
	v.Gauges.ConnectionsActive += w.Active.Load()
}
