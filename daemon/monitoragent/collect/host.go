// Package collect visits processes: it runs the commands of the collection matrix over one connection a process and hands
// back what they answered, raw. It keeps, per process, what is needed to ask no more often and no more than makes sense.
package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/discover"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// How long a refusal is remembered.
const (
	denyFor = 10 * time.Minute // a command the user may not run
	authFor = 5 * time.Minute  // credentials that were refused

	signInPause = 30 * time.Second // after a sign-in that something else kept from ending
)

// Host is one process to visit. Only one visit runs at a time.
type Host struct {
	conf      wire.Host
	address   string
	connector Connector
	log       *slog.Logger
	commands  []command

	visiting sync.Mutex
	conn     Conn
	fresh    bool // nothing was sent over conn yet
	signedIn bool // conn signs in
	closed   bool

	authAgain   time.Time    // do not sign in before
	authFailure wire.Failure // why
	facts       discover.Facts
	uptime      int64     // milliseconds, of the last serverStatus
	pid         int64     // of the last serverStatus
	visited     time.Time // last
	helloIs     string
	due         map[string]time.Time
	stretched   map[string]time.Duration // longer periods of commands that were too slow
	denied      map[string]denial
	unsupported map[string]bool

	noOplog          bool // serverStatus fails with its oplog section
	sampleHasOplog   bool // the last serverStatus had it
	statsByAggregate bool
	logLines         int64

	beside     chan []outcome // holds what slow commands answered, nil when none are under way
	stopBeside context.CancelFunc
	besideDone sync.WaitGroup
	databases  []string // queue of dbStats; belongs to the slow commands
}

type denial struct {
	until   time.Time
	failure wire.Failure
}

// outcome is a command's answer.
type outcome struct {
	command *command
	reply   bson.Raw
	err     error
	took    time.Duration
}

// Visit says how to visit.
type Visit struct {
	Now    func() time.Time // the agent's clock, corrected by the server's
	Stamp  time.Time        // set: the ping's time, and slow commands are waited for (back-filling on a virtual clock)
	Period time.Duration    // until the next visit
	Flags  Flags
}

// NewHost prepares visits of one host.
func NewHost(conf wire.Host, connector Connector, log *slog.Logger) *Host {
	address := model.Address(conf.Hostname, int(conf.Port))
	h := &Host{
		conf: conf, address: address, connector: connector, log: log.With(obs.KeyHost, address), commands: matrix(), helloIs: "hello",
		denied: map[string]denial{}, stretched: map[string]time.Duration{},
	}
	h.forgetProcess()
	return h
}

// Address is the host:port that is dialled.
func (h *Host) Address() string { return h.address }

// Conf is what the server said about the host.
func (h *Host) Conf() wire.Host { return h.conf }

// forgetProcess makes everything due again: it is another process, or the same one after a restart.
func (h *Host) forgetProcess() {
	h.due, h.unsupported, h.noOplog, h.statsByAggregate, h.logLines = map[string]time.Time{}, map[string]bool{}, false, false, 0
	clear(h.denied)
	clear(h.stretched)
}

// Close ends the connection. A visit under way is cut off.
func (h *Host) Close() {
	h.visiting.Lock()
	defer h.visiting.Unlock()
	h.closed = true
	h.disconnect()
}

func (h *Host) disconnect() {
	if h.stopBeside != nil {
		h.stopBeside()
	}
	if h.conn != nil {
		h.conn.Close()
		h.conn = nil
	}
	h.besideDone.Wait()
	h.beside, h.stopBeside = nil, nil // what they answered over the closed connection is not used
}

// session is one conversation over one connection: what commands and the shapes of their replies work with.
type session struct {
	host *Host
	conn Conn
}

// run sends a command and checks the reply at every depth: what looks into it later, here and on the server, relies on that.
func (s *session) run(ctx context.Context, limit time.Duration, db string, cmd bson.D) (bson.Raw, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	reply, err := s.conn.Run(ctx, db, cmd)
	if err != nil {
		return nil, err
	}
	if err := wire.Validate(reply); err != nil {
		return nil, fmt.Errorf("the reply is damaged: %w", err)
	}
	return reply, nil
}

// Do visits the host. It reports false when there is nothing to post: another visit was still running, or ctx ended.
func (h *Host) Do(ctx context.Context, v Visit) (wire.Ping, bool) {
	if !h.visiting.TryLock() {
		return wire.Ping{}, false // never queue
	}
	defer h.visiting.Unlock()
	if h.closed {
		return wire.Ping{}, false
	}
	now := func() time.Time {
		if !v.Stamp.IsZero() {
			return v.Stamp
		}
		return v.Now()
	}
	h.followClock(now())
	p := wire.Ping{HostID: h.conf.ID, Address: h.address}
	r := &replies{}
	if h.hello(ctx, now, &p, r) {
		h.sample(ctx, now, v, &p, r)
	}
	if ctx.Err() != nil {
		return wire.Ping{}, false // being stopped is no finding about the host
	}
	if p.At.IsZero() {
		p.At = now()
	}
	p.At = p.At.UTC().Truncate(time.Millisecond)
	if h.conn != nil {
		p.IP, p.Local = h.conn.Remote()
		p.Cert = h.conn.Certificate(ctx)
	}
	var err error
	if p.Replies, err = r.encode(); err != nil {
		h.log.Error("replies cannot be sent", obs.KeyErr, err)
		p.Errors = append(p.Errors, wire.Failure{Command: "replies", Message: trim(err.Error())})
	}
	return p, true
}

// followClock moves what is planned along when the clock was set back: else all that is asked seldom would wait for the clock
// to come to where it was.
func (h *Host) followClock(now time.Time) {
	if back := h.visited.Sub(now); back > 0 {
		for name, due := range h.due {
			h.due[name] = due.Add(-back)
		}
		for name, d := range h.denied {
			h.denied[name] = denial{until: d.until.Add(-back), failure: d.failure}
		}
		h.authAgain = h.authAgain.Add(-back)
	}
	h.visited = now
}

// connect makes the connection that this visit uses: signed in where the agent has credentials, unless those were refused
// lately. An arbiter holds no users: the driver knows, and does not try there.
func (h *Host) connect(now time.Time) error {
	_, auth := h.connector.HasCredentials(h.conf)
	auth = auth && !now.Before(h.authAgain)
	if h.conn != nil && h.signedIn == auth {
		return nil
	}
	h.disconnect()
	conn, err := h.connector.Connect(h.conf, auth)
	if err != nil {
		return err
	}
	h.conn, h.signedIn, h.fresh = conn, auth, true
	clear(h.denied) // as whom it was denied has changed
	if auth {
		h.authFailure = wire.Failure{}
	}
	return nil
}

// hello finds out whether the process answers, and what it is.
func (h *Host) hello(ctx context.Context, now func() time.Time, p *wire.Ping, r *replies) bool {
	for attempt := 0; ; attempt++ {
		if err := h.connect(now()); err != nil {
			if _, auth := h.connector.HasCredentials(h.conf); auth && !now().Before(h.authAgain) {
				// Credentials of a kind that this build cannot use. Without them the host still shows what it is.
				h.authAgain = now().Add(authFor)
				h.authFailure = wire.Failure{
					Command: "authenticate", Code: codeMechanismMissing, CodeName: "MechanismUnavailable", Message: trim(err.Error()),
				}
				continue
			}
			p.Errors = append(p.Errors, wire.Failure{Command: "connect", Message: trim(err.Error())})
			return false
		}
		reply, rtt, err := h.askHello(ctx)
		if err == nil {
			p.RTT = rtt.Microseconds()
			h.meet(reply)
			r.add("hello", reply)
			break
		}
		f, kind := Classify(h.helloIs, err)
		switch {
		case ctx.Err() != nil:
			return false
		case kind == BadAuth && h.signedIn:
			h.log.Warn("credentials refused", obs.KeyCode, f.Code, obs.KeyErr, f.Message)
			h.authAgain, h.authFailure = now().Add(authFor), f
			continue // without them: the host still shows what it is
		case h.signedIn && (kind == Transient && f.Command == "authenticate" || kind == TimedOut && h.fresh):
			// Whether the process hangs or only the sign-in, hello alone will tell.
			f.Command = "authenticate"
			h.log.Warn("the sign-in did not end", obs.KeyCode, f.Code, obs.KeyErr, f.Message)
			h.authAgain, h.authFailure = now().Add(signInPause), f
			continue
		case kind == Unsupported && h.helloIs == "hello":
			h.helloIs = "isMaster" // before 4.4.2
			continue
		case kind == Unreachable && f.Command != "connect" && attempt < 2:
			continue // the connection was stale: a fresh one tells whether the process is
		}
		p.Errors = append(p.Errors, f)
		return false
	}
	if h.authFailure.Command != "" {
		p.Errors = append(p.Errors, h.authFailure)
	}
	return true
}

func (h *Host) askHello(ctx context.Context) (bson.Raw, time.Duration, error) {
	s := &session{h, h.conn}
	if h.fresh { // so that the round trip measured is not the making of a connection
		if _, err := s.run(ctx, perSample+perSample, "admin", bson.D{{Key: "ping", Value: 1}}); err != nil {
			return nil, 0, err
		}
		h.fresh = false
	}
	sent := time.Now()
	reply, err := s.run(ctx, perSample, "admin", bson.D{{Key: h.helloIs, Value: 1}})
	return reply, time.Since(sent), err
}

// meet compares the process that answered with the one known.
func (h *Host) meet(hello bson.Raw) {
	f := discover.FromHello(hello)
	old := h.facts
	if f.ProcessID != old.ProcessID {
		h.forgetProcess()
	} else {
		f.Version, f.Shard, f.ConfigServer = old.Version, old.Shard, old.ConfigServer || f.ConfigServer
	}
	if f.SetVersion != old.SetVersion || f.Role != old.Role {
		delete(h.due, "replSetGetConfig")
	}
	h.facts = f
}

// sample runs what is due of the matrix.
func (h *Host) sample(ctx context.Context, now func() time.Time, v Visit, p *wire.Ping, r *replies) {
	s := &session{h, h.conn}
	at := now()
	h.collectBeside(at, p, r)
	var slow []*command
	for i := range h.commands {
		c := &h.commands[i]
		if !h.isDue(c, at, v, p) {
			continue
		}
		if c.slow {
			slow = append(slow, c)
			continue
		}
		sent := time.Now()
		o := s.ask(ctx, c)
		if c.name == "serverStatus" {
			at = now()
			p.At = at
			if o.err == nil {
				h.fromServerStatus(o, at, sent, v, p)
			}
		}
		if !h.settle(o, at, p, r) {
			return
		}
	}
	switch {
	case len(slow) == 0 || h.beside != nil:
	case !v.Stamp.IsZero():
		for _, o := range s.askSlow(ctx, slow) {
			h.settle(o, at, p, r)
		}
	default:
		beside := make(chan []outcome, 1)
		ctx, h.stopBeside = context.WithCancel(ctx)
		h.beside = beside
		h.besideDone.Go(func() { beside <- s.askSlow(ctx, slow) })
	}
}

// collectBeside adds what slow commands have answered since the last visit.
func (h *Host) collectBeside(at time.Time, p *wire.Ping, r *replies) {
	select {
	case all := <-h.beside:
		h.stopBeside()
		h.beside, h.stopBeside = nil, nil
		for _, o := range all {
			h.settle(o, at, p, r)
		}
	default:
	}
}

// isDue decides whether to run a command now. A refusal that is remembered is told again with each ping, because it is still
// why there is no data.
func (h *Host) isDue(c *command, at time.Time, v Visit, p *wire.Ping) bool {
	if !c.applies(h, v.Flags) || h.unsupported[c.name] {
		return false
	}
	if d, ok := h.denied[c.name]; ok {
		if at.Before(d.until) {
			h.report(p, d.failure)
			return false
		}
		delete(h.denied, c.name)
	}
	due, ok := h.due[c.name]
	return !ok || !at.Before(due.Add(-v.Period/2)) // visits are not exact: half a period early is in time
}

// report adds a failure to the ping. What an arbiter refuses is as it should be, and after refused credentials everything else
// is only their consequence.
func (h *Host) report(p *wire.Ping, f wire.Failure) {
	if f.Code == codeUnauthorized && (h.facts.Role == discover.Arbiter || h.authFailure.Command != "") {
		return
	}
	p.Errors = append(p.Errors, f)
}

// ask runs one command, again if its row says so.
func (s *session) ask(ctx context.Context, c *command) outcome {
	started := time.Now()
	reply, err := s.run(ctx, c.timeout(), c.db, c.cmd(s.host))
	for range 2 {
		if err == nil {
			break
		}
		f, _ := Classify(c.label(), err)
		if f.Code != codeKeyNotFound && (c.retry == nil || !c.retry(s.host, f.Code)) {
			break
		}
		reply, err = s.run(ctx, c.timeout(), c.db, c.cmd(s.host))
	}
	if err == nil && c.shape != nil {
		reply, err = c.shape(ctx, s, reply)
	}
	return outcome{command: c, reply: reply, err: err, took: time.Since(started)}
}

// dbStatsCommand is the row of what follows listDatabases; its replies are many, so it is not asked like the others.
var dbStatsCommand = &command{name: "dbStats", slow: true, every: twentyMin, right: "dbStats on every database"}

// askSlow runs slow commands one after the other.
func (s *session) askSlow(ctx context.Context, commands []*command) []outcome {
	all := make([]outcome, 0, len(commands)+1)
	for _, c := range commands {
		o := s.ask(ctx, c)
		all = append(all, o)
		if o.err != nil {
			if _, kind := Classify(c.label(), o.err); kind == Unreachable {
				break
			}
			continue
		}
		if c.name == "listDatabases" {
			started := time.Now()
			reply, err := dbStats(ctx, s)
			all = append(all, outcome{command: dbStatsCommand, reply: reply, err: err, took: time.Since(started)})
		}
	}
	return all
}

// settle takes an outcome: the reply into the ping, the failure into what is remembered. It reports whether the process can
// be asked further.
func (h *Host) settle(o outcome, at time.Time, p *wire.Ping, r *replies) bool {
	c := o.command
	if len(o.reply) > 0 { // dbStats may have both replies and a failure
		h.facts.Learn(c.name, o.reply)
		if c.slow {
			r.slow = append(r.slow, namedReply{c.name, o.reply})
		} else {
			r.add(c.name, o.reply)
		}
	}
	if c.every > 0 {
		h.due[c.name] = at.Add(max(c.every, h.stretched[c.name]))
	}
	if c.name == dbStatsCommand.name {
		h.due["listDatabases"] = at.Add(roundPause(o.took))
	}
	if o.err == nil {
		return true
	}
	f, kind := Classify(c.label(), o.err)
	switch kind {
	case Absent:
		return true
	case Unsupported:
		h.log.Debug("the process does not know a command", obs.KeyCommand, c.label())
		h.unsupported[c.name] = true
		return true
	case Unauthorized:
		h.denied[c.name] = denial{until: at.Add(denyFor), failure: f}
	case BadAuth:
		h.authAgain, h.authFailure = at.Add(authFor), f
	case Slow, TimedOut:
		h.stretched[c.name] = min(max(2*h.stretched[c.name], 2*c.every, minutely), hourly)
		if c.name != "serverStatus" && c.name != "replSetGetStatus" {
			h.due[c.name] = at.Add(h.stretched[c.name])
		}
	case Unreachable, Transient, Failed:
	}
	h.report(p, f)
	return kind != Unreachable && kind != TimedOut || c.slow
}

// fromServerStatus notes the clock difference, a restart that hello could not tell, and whether the oplog's bounds are known.
func (h *Host) fromServerStatus(o outcome, at, sent time.Time, v Visit, p *wire.Ping) {
	if ms, ok := o.reply.Lookup("localTime").DateTimeOK(); ok {
		middle := at
		if v.Stamp.IsZero() {
			middle = at.Add(-time.Since(sent) / 2)
		}
		p.SkewMS = ms - middle.UnixMilli()
	}
	_, err := o.reply.LookupErr("oplog", "earliestOptime")
	h.sampleHasOplog = err == nil
	uptime, pid := discover.Int(o.reply, "uptimeMillis"), discover.Int(o.reply, "pid")
	version, _ := o.reply.Lookup("version").StringValueOK()
	if uptime < h.uptime || h.pid != 0 && pid != h.pid || h.facts.Version != "" && version != h.facts.Version {
		h.forgetProcess()
	}
	h.uptime, h.pid = uptime, pid
}

// replies collects what a ping carries.
type replies struct {
	list []namedReply
	slow []namedReply // of commands asked seldom
}

type namedReply struct {
	name string
	doc  bson.Raw
}

func (r *replies) add(name string, doc bson.Raw) { r.list = append(r.list, namedReply{name, doc}) }

var errRepliesTooLarge = errors.New("the replies are too large for a ping: those asked seldom were left out")

// buffers hold documents while they are put together and compressed; a document is hardly over 200 kB.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 256<<10); return &b }}

// encode puts the replies into one document and compresses it, without looking into them. Should they be over the limit, only
// the first ones stay, which are those of every sample.
func (r *replies) encode() ([]byte, error) {
	if len(r.list)+len(r.slow) == 0 {
		return nil, nil // nothing answered
	}
	buf := buffers.Get().(*[]byte) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	defer buffers.Put(buf)
	at, doc := bsoncore.AppendDocumentStart((*buf)[:0])
	var cut error
	for _, reply := range append(r.list, r.slow...) {
		if len(doc)+len(reply.doc)+len(reply.name)+16 > wire.MaxReplies {
			cut = errRepliesTooLarge
			continue
		}
		doc = bsoncore.AppendDocumentElement(doc, reply.name, bsoncore.Document(reply.doc))
	}
	doc, err := bsoncore.AppendDocumentEnd(doc, at)
	if err != nil {
		return nil, err
	}
	if cap(doc) <= 1<<20 {
		*buf = doc[:0]
	}
	z, err := wire.EncodeReplies(bson.Raw(doc))
	return z, errors.Join(err, cut)
}
