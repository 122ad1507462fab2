package mongosim

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/local/mongosim/status/process"
)

// command answers one of the member's own commands; nil passes it on to the engine.
type command func(m *Member, ctx context.Context, s *engine.Session, db string, cmd bson.Raw) any

// own lists the commands that a member answers itself rather than its engine.
func own(name string) command {
	switch name {
	case "hello":
		return (*Member).hello
	case "isMaster", "ismaster":
		return (*Member).isMaster
	case "serverStatus":
		return func(m *Member, _ context.Context, _ *engine.Session, _ string, cmd bson.Raw) any {
			return m.d.kit.ServerStatus(m.view(), cmd)
		}
	case "getDiagnosticData":
		return func(m *Member, _ context.Context, _ *engine.Session, _ string, _ bson.Raw) any {
			return m.d.kit.DiagnosticData(m.view())
		}
	case "replSetGetStatus":
		return inSet(func(m *Member, _ bson.Raw) any { return status.ReplSetGetStatus(m.view()) })
	case "replSetGetConfig":
		return inSet(func(m *Member, _ bson.Raw) any { return status.ReplSetGetConfig(m.view()) })
	case "replSetGetRBID":
		return inSet(func(m *Member, _ bson.Raw) any {
			return bson.D{{Key: "rbid", Value: m.d.set.View(m.index).RBID}, {Key: "ok", Value: 1.0}}
		})
	case "replSetStepDown":
		return inSet((*Member).stepDown)
	case "replSetStepUp":
		return inSet(func(m *Member, _ bson.Raw) any { return done(m.d.set.StepUp(m.index)) })
	case "replSetFreeze":
		return inSet(func(m *Member, cmd bson.Raw) any {
			return done(m.d.set.Freeze(m.index, seconds(cmd.Lookup("replSetFreeze"))))
		})
	case "replSetReconfig":
		return inSet(func(m *Member, cmd bson.Raw) any {
			cfg, ok := cmd.Lookup("replSetReconfig").DocumentOK()
			if !ok {
				return engine.Errf(engine.CodeBadValue, "no configuration specified")
			}
			force, _ := cmd.Lookup("force").BooleanOK()
			return done(m.d.set.Reconfig(m.index, cfg, force))
		})
	case "replSetInitiate":
		return inSet(func(m *Member, cmd bson.Raw) any {
			cfg, _ := cmd.Lookup("replSetInitiate").DocumentOK()
			return done(m.d.set.Initiate(m.index, cfg))
		})
	case "getDefaultRWConcern":
		return func(m *Member, _ context.Context, _ *engine.Session, _ string, _ bson.Raw) any {
			if m.d.set == nil {
				return engine.Errf(51300, "'getDefaultRWConcern' is not supported on standalone nodes.")
			}
			return process.DefaultRWConcern(m.view())
		}
	case "getCmdLineOpts":
		return simple(process.CmdLineOpts)
	case "hostInfo":
		return simple(process.HostInfo)
	case "buildInfo", "buildinfo":
		return simple(process.BuildInfo)
	case "connPoolStats":
		return simple(process.ConnPoolStats)
	case "top":
		return (*Member).top
	case "getLog":
		return (*Member).getLog
	case "getParameter":
		return (*Member).getParameter
	case "dbStats", "dbstats":
		return (*Member).dbStats
	case "collStats", "collstats":
		return (*Member).collStats
	case "aggregate":
		return (*Member).aggregate
	case "listDatabases":
		return (*Member).listDatabases
	case "_isSelf":
		return func(m *Member, _ context.Context, _ *engine.Session, _ string, _ bson.Raw) any {
			return bson.D{{Key: "id", Value: m.view().ProcessID}, {Key: "ok", Value: 1.0}}
		}
	case "whatsmyuri":
		return func(_ *Member, _ context.Context, s *engine.Session, _ string, _ bson.Raw) any {
			return bson.D{{Key: "you", Value: s.Remote}, {Key: "ok", Value: 1.0}}
		}
	case "ping":
		return func(*Member, context.Context, *engine.Session, string, bson.Raw) any { return okReply }
	case "profile":
		return func(_ *Member, _ context.Context, _ *engine.Session, _ string, _ bson.Raw) any {
			return bson.D{{Key: "was", Value: int32(0)}, {Key: "slowms", Value: int32(100)}, {Key: "sampleRate", Value: 1.0}, {Key: "ok", Value: 1.0}}
		}
	case "currentOp":
		return (*Member).currentOp
	default:
		return nil
	}
}

var okReply = bson.D{{Key: "ok", Value: 1.0}}

// commands is the engine's hook.
func (m *Member) commands(ctx context.Context, s *engine.Session, db, name string, cmd bson.Raw) (bson.Raw, bool) {
	if p := m.d.o.Process; p != nil && p.Commands != nil {
		if reply, ok := p.Commands(ctx, s, db, name, cmd); ok {
			return reply, true
		}
	}
	f := own(name)
	if f == nil {
		return nil, false
	}
	switch r := f(m, ctx, s, db, cmd).(type) {
	case nil:
		return nil, false
	case bson.Raw:
		return r, true
	case *engine.Error:
		return engine.ErrorReply(r), true
	default:
		raw, err := bson.Marshal(r)
		if err != nil {
			return engine.ErrorReply(engine.Errf(engine.CodeInternalError, "%v", err)), true
		}
		return raw, true
	}
}

func simple(f func(*status.View) bson.D) command {
	return func(m *Member, _ context.Context, _ *engine.Session, _ string, _ bson.Raw) any { return f(m.view()) }
}

// inSet answers a command that only members of a set know.
func inSet(f func(*Member, bson.Raw) any) command {
	return func(m *Member, _ context.Context, _ *engine.Session, _ string, cmd bson.Raw) any {
		if m.d.set == nil {
			return engine.Errf(engine.CodeNoReplicationEnabled, "not running with --replSet")
		}
		if _, first := cmd.LookupErr("replSetInitiate"); first != nil {
			if err := m.d.set.Configured(m.index); err != nil {
				return err
			}
		}
		return f(m, cmd)
	}
}

// done is the reply of a command that either worked or gives its error.
func done(err *engine.Error) any {
	if err != nil {
		return err
	}
	return okReply
}

func seconds(v bson.RawValue) time.Duration {
	n, _ := v.AsInt64OK()
	return time.Duration(n) * time.Second
}

func (m *Member) hello(ctx context.Context, _ *engine.Session, _ string, cmd bson.Raw) any {
	if !m.d.kit.Version.HasHello() {
		return engine.Errf(engine.CodeCommandNotFound, "no such command: 'hello'")
	}
	m.await(ctx, cmd)
	return status.Hello(m.view(), false, true)
}

func (m *Member) isMaster(ctx context.Context, _ *engine.Session, _ string, cmd bson.Raw) any {
	m.await(ctx, cmd)
	helloOk, _ := cmd.Lookup("helloOk").BooleanOK()
	return status.Hello(m.view(), true, helloOk)
}

// await holds an awaitable hello back until there is news.
func (m *Member) await(ctx context.Context, cmd bson.Raw) {
	ms, has := cmd.Lookup("maxAwaitTimeMS").AsInt64OK()
	tv, hasTV := cmd.Lookup("topologyVersion").DocumentOK()
	if !has || !hasTV {
		return
	}
	process, _ := tv.Lookup("processId").ObjectIDOK()
	counter, _ := tv.Lookup("counter").AsInt64OK()
	d := min(time.Duration(ms)*time.Millisecond, time.Minute)
	if m.d.set != nil {
		m.d.set.AwaitHello(ctx, m.index, process, counter, d)
		return
	}
	t := time.NewTimer(d) // nothing ever changes about a standalone
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (m *Member) stepDown(cmd bson.Raw) any {
	force, _ := cmd.Lookup("force").BooleanOK()
	freeze, catchUp := seconds(cmd.Lookup("replSetStepDown")), 10*time.Second
	if v, err := cmd.LookupErr("secondaryCatchUpPeriodSecs"); err == nil {
		catchUp = seconds(v)
	}
	if freeze <= 0 {
		return engine.Errf(engine.CodeBadValue, "stepdown period must be a positive integer")
	}
	return done(m.d.set.StepDown(m.index, freeze, catchUp, force))
}

func (m *Member) getLog(_ context.Context, _ *engine.Session, _ string, cmd bson.Raw) any {
	v := m.view()
	switch name, _ := cmd.Lookup("getLog").StringValueOK(); name {
	case "*":
		return process.LogNames()
	case "startupWarnings":
		lines := process.StartupWarnings(v)
		return process.GetLog(v, lines, int64(len(lines)))
	case "global":
		m.mu.Lock()
		lines, n := slices.Clone(m.log.Lines), m.log.Written
		m.mu.Unlock()
		return process.GetLog(v, lines, n)
	default:
		return engine.Errf(engine.CodeInternalError, "no RamLog named: %s", name)
	}
}

func (m *Member) getParameter(_ context.Context, _ *engine.Session, _ string, cmd bson.Raw) any {
	reply, found := m.d.kit.Parameters(m.view(), cmd)
	if !found {
		return engine.Errf(engine.CodeInvalidOptions, "no option found to get")
	}
	return reply
}

// collections are what the member holds in a database, all of them when db is empty.
func (m *Member) collections(db string) []status.Collection {
	eng := m.engine()
	if eng == nil {
		return nil
	}
	var out []status.Collection
	for _, n := range eng.Namespaces(db) {
		c := status.Collection{NS: n.NS, View: n.View, Capped: n.Capped, Docs: n.Docs, Bytes: n.Bytes, MaxBytes: n.MaxBytes}
		for _, x := range n.Indexes {
			c.Indexes = append(c.Indexes, status.Index{Name: x.Name, Bytes: x.Bytes})
		}
		out = append(out, c)
	}
	return out
}

// loadBytes is what the load is said to hold in a database.
func (m *Member) loadBytes(v *status.View, db string) int64 {
	if db == workDB && m.d.o.Workload {
		return v.Gauges.DataBytes
	}
	return 0
}

func scaleOf(cmd bson.Raw) int64 {
	n, _ := cmd.Lookup("scale").AsInt64OK()
	return max(n, 1)
}

// readable says that the member's state lets it answer about its data; the engine refuses otherwise.
func (m *Member) readable(v *status.View) bool {
	return v.Set == nil || v.Role == load.Primary || v.Role == load.Secondary
}

func (m *Member) dbStats(_ context.Context, _ *engine.Session, db string, cmd bson.Raw) any {
	v := m.view()
	if !m.readable(v) {
		return m.notReadable()
	}
	return status.DBStats(v, db, m.collections(db), m.loadBytes(v, db), scaleOf(cmd))
}

func (m *Member) notReadable() any {
	return &engine.Error{Code: engine.CodeNotPrimaryOrSecondary, Msg: "node is not in primary or recovering state", Extra: m.d.set.TopologyField(m.index)}
}

func (m *Member) collStats(_ context.Context, _ *engine.Session, db string, cmd bson.Raw) any {
	v := m.view()
	if !m.readable(v) {
		return m.notReadable()
	}
	name, _ := cmd.Index(0).Value().StringValueOK()
	return m.d.kit.CollStats(v, m.collection(db, name), scaleOf(cmd))
}

func (m *Member) collection(db, name string) status.Collection {
	ns := db + "." + name
	for _, c := range m.collections(db) {
		if c.NS == ns {
			return c
		}
	}
	return status.Collection{NS: ns}
}

// aggregate answers the stages that tell about the member; other pipelines are the engine's.
func (m *Member) aggregate(_ context.Context, _ *engine.Session, db string, cmd bson.Raw) any {
	stages, ok := cmd.Lookup("pipeline").ArrayOK()
	if !ok {
		return nil
	}
	vals, err := stages.Values()
	if err != nil || len(vals) != 1 {
		return nil
	}
	stage, ok := vals[0].DocumentOK()
	if !ok {
		return nil
	}
	name, _ := cmd.Index(0).Value().StringValueOK()
	first, err := stage.IndexErr(0)
	if err != nil {
		return nil
	}
	switch first.Key() {
	case "$collStats":
		spec, isDoc := first.Value().DocumentOK()
		v := m.view()
		if !isDoc || !m.readable(v) {
			return nil
		}
		storage, ok := spec.Lookup("storageStats").DocumentOK()
		if !ok {
			return nil
		}
		doc, err := m.d.kit.StorageStats(v, m.collection(db, name), scaleOf(storage))
		if err != nil {
			return engine.Errf(engine.CodeInternalError, "%v", err)
		}
		return cursor(db+"."+name, doc)
	case "$currentOp":
		return cursor(db+".$cmd.aggregate", m.operations()...)
	default:
		return nil
	}
}

func cursor(ns string, docs ...bson.D) bson.D {
	batch := bson.A{}
	for _, d := range docs {
		batch = append(batch, d)
	}
	return bson.D{
		{Key: "cursor", Value: bson.D{{Key: "firstBatch", Value: batch}, {Key: "id", Value: int64(0)}, {Key: "ns", Value: ns}}}, {Key: "ok", Value: 1.0},
	}
}

// operations describe the connections that run a command.
func (m *Member) operations() []bson.D {
	m.mu.Lock()
	srv := m.srv
	m.mu.Unlock()
	if srv == nil {
		return nil
	}
	now := m.d.clock.now()
	var out []bson.D
	for _, c := range srv.Connections() {
		d := bson.D{
			{Key: "type", Value: "op"},
			{Key: "host", Value: m.view().Host()},
			{Key: "desc", Value: "conn"},
			{Key: "connectionId", Value: c.Session.ID},
			{Key: "client", Value: c.Session.Remote},
			{Key: "appName", Value: c.Session.AppName},
			{Key: "active", Value: c.Command != ""},
			{Key: "currentOpTime", Value: now.Format("2006-01-02T15:04:05.000+00:00")},
		}
		if c.Command != "" {
			us := max(0, now.Sub(c.Since).Microseconds())
			d = append(d, bson.E{Key: "secs_running", Value: us / 1e6}, bson.E{Key: "microsecs_running", Value: us}, bson.E{Key: "op", Value: "command"},
				bson.E{Key: "ns", Value: "admin.$cmd"}, bson.E{Key: "command", Value: bson.D{{Key: c.Command, Value: int32(1)}}})
		}
		out = append(out, d)
	}
	return out
}

func (m *Member) currentOp(context.Context, *engine.Session, string, bson.Raw) any {
	ops := bson.A{}
	for _, d := range m.operations() {
		ops = append(ops, d)
	}
	return bson.D{{Key: "inprog", Value: ops}, {Key: "ok", Value: 1.0}}
}

func (m *Member) listDatabases(_ context.Context, _ *engine.Session, _ string, cmd bson.Raw) any {
	v := m.view()
	if !m.readable(v) {
		return m.notReadable()
	}
	if _, err := cmd.LookupErr("filter"); err == nil {
		return nil
	}
	nameOnly, _ := cmd.Lookup("nameOnly").BooleanOK()
	return status.ListDatabases(v, m.collections(""), func(db string) int64 { return m.loadBytes(v, db) }, nameOnly)
}

func (m *Member) top(context.Context, *engine.Session, string, bson.Raw) any {
	var names []string
	for _, c := range m.collections("") {
		if !c.View && !strings.HasPrefix(c.NS, "local.") {
			names = append(names, c.NS)
		}
	}
	return process.Top(m.view(), append(names, engine.OplogNS))
}

// trailer ends each reply of a data-bearing member with the cluster's time and its own.
func (m *Member) trailer(*engine.Session, string, string, bool) bson.Raw {
	if m.d.set == nil || m.d.o.Members[m.index].Arbiter {
		return nil
	}
	cluster, mine := m.d.set.Times(m.index)
	if cluster.T == 0 {
		return nil
	}
	raw, err := bson.Marshal(bson.D{
		{Key: "$clusterTime", Value: bson.D{
			{Key: "clusterTime", Value: cluster},
			{Key: "signature", Value: bson.D{{Key: "hash", Value: bson.Binary{Data: make([]byte, 20)}}, {Key: "keyId", Value: int64(0)}}},
		}},
		{Key: "operationTime", Value: mine},
	})
	if err != nil {
		m.d.o.Log.Warn("reply trailer", "error", err)
		return nil
	}
	return raw
}
