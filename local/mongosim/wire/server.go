package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/wire/rights"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// Server serves one member's port. Its methods are safe for concurrent use.
type Server struct {
	o      Options
	counts Counters
	ids    *atomic.Int64
	req    atomic.Int32

	mu     sync.Mutex
	conns  map[*conn]struct{}
	paused chan struct{} // closed when not paused
	wg     sync.WaitGroup
}

// New makes a server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Compressors == nil {
		o.Compressors = []string{"snappy", "zstd", "zlib"}
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 65536
	}
	s := &Server{o: o, ids: o.ConnectionIDs, conns: map[*conn]struct{}{}, paused: make(chan struct{})}
	if s.ids == nil {
		s.ids = new(atomic.Int64)
	}
	close(s.paused)
	return s
}

// Counters are the server's counters.
func (s *Server) Counters() *Counters { return &s.counts }

// Serve accepts connections until ctx ends or the listener is closed, then closes what is open and waits for it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	unhook := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer unhook()
	var err error
	for {
		var nc net.Conn
		if nc, err = ln.Accept(); err != nil {
			break
		}
		if s.counts.Current.Load() >= s.o.MaxConnections {
			s.counts.Rejected.Add(1)
			_ = nc.Close()
			continue
		}
		s.wg.Go(func() { s.serveConn(ctx, nc) })
	}
	stop()
	s.CloseConnections()
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// CloseConnections closes every open connection at once.
func (s *Server) CloseConnections() { s.CloseIf(func(*engine.Session) bool { return true }) }

// CloseIf closes the connections whose session answers true.
func (s *Server) CloseIf(match func(*engine.Session) bool) {
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range open {
		if match(c.sess) {
			c.cancel()
			_ = c.nc.Close()
		}
	}
}

// Pause lets requests wait unanswered until Resume, as a hanging process does.
func (s *Server) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.paused:
		s.paused = make(chan struct{})
	default:
	}
}

// Resume ends a Pause.
func (s *Server) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.paused:
	default:
		close(s.paused)
	}
}

func (s *Server) gate() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused
}

// Connections lists the open connections.
func (s *Server) Connections() []ConnInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ConnInfo
	for c := range s.conns {
		c.mu.Lock()
		out = append(out, ConnInfo{Session: c.sess, Command: c.running, Since: c.since})
		c.mu.Unlock()
	}
	return out
}

// readBuffer holds nearly every command; longer messages are read past it. There are thousands of connections where many hosts
// are simulated.
const readBuffer = 8 << 10

// conn is one connection.
type conn struct {
	s      *Server
	nc     net.Conn
	r      *bufio.Reader
	sess   *engine.Session
	login  login
	comp   compression
	cancel context.CancelFunc

	mu      sync.Mutex // guards running and since
	running string
	since   time.Time
}

// counted counts the bytes of the socket.
type counted struct {
	net.Conn
	s *Server
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.s.counts.PhysicalBytesIn.Add(int64(n))
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.s.counts.PhysicalBytesOut.Add(int64(n))
	return n, err
}

func (s *Server) serveConn(ctx context.Context, nc net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &conn{s: s, cancel: cancel, sess: &engine.Session{
		ID: s.ids.Add(1), Remote: nc.RemoteAddr().String(), Local: nc.LocalAddr().String(), Since: time.Now(),
	}}
	c.nc = counted{nc, s}
	c.login.users = s.o.Users
	defer c.comp.close()
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.counts.Current.Add(1)
	s.counts.TotalCreated.Add(1)
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		s.counts.Current.Add(-1)
		_ = c.nc.Close()
	}()
	if ctx.Err() != nil {
		return
	}
	if s.o.TLS != nil {
		if err := c.handshake(ctx); err != nil {
			s.o.Log.Debug("tls handshake failed", obs.KeyAddr, c.sess.Remote, obs.KeyErr, err)
			return
		}
	}
	c.r = bufio.NewReaderSize(c.nc, readBuffer)
	for {
		err := c.one(ctx)
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
			s.o.Log.Debug("connection ended", obs.KeyAddr, c.sess.Remote, obs.KeyErr, err)
		}
		return
	}
}

func (c *conn) handshake(ctx context.Context) error {
	tc := tls.Server(c.nc, c.s.o.TLS)
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	if certs := tc.ConnectionState().PeerCertificates; len(certs) > 0 {
		c.login.subject = certs[0].Subject.String()
	}
	c.nc = tc
	return nil
}

// one reads and answers one message.
func (c *conn) one(ctx context.Context) error {
	h, body, err := readMessage(c.r)
	if err != nil {
		return err
	}
	select {
	case <-c.s.gate():
	case <-ctx.Done():
		return ctx.Err()
	}
	c.s.counts.Requests.Add(1)
	c.s.counts.BytesIn.Add(int64(h.length))
	q, err := decode(h, body, &c.comp)
	if err != nil {
		return err
	}
	name := bsonval.FirstKey(q.cmd)
	c.setRunning(name)
	c.s.counts.Active.Add(1)
	defer func() {
		c.s.counts.Active.Add(-1)
		c.setRunning("")
	}()
	if q.legacy && !isHello(name) {
		return c.send(q, q.id, engine.ErrorReply(engine.Errf(352, "Unsupported OP_QUERY command: %s. The client driver may require an upgrade.", name)), false)
	}
	if isHello(name) && q.exhaust {
		return c.stream(ctx, q, name)
	}
	reply := c.answer(ctx, q, name)
	if q.moreToCome {
		return nil
	}
	if name == "hello" || isHello(name) {
		q.compressor = 0 // hello, logins and their like are never compressed
	}
	return c.send(q, q.id, reply, false)
}

func (c *conn) setRunning(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.since = name, time.Now()
}

func isHello(name string) bool { return name == "hello" || name == "isMaster" || name == "ismaster" }

// stream answers an awaitable hello again and again, each time with the topologyVersion of the answer before.
func (c *conn) stream(ctx context.Context, q *request, name string) error {
	c.s.counts.ExhaustHello.Add(1)
	defer c.s.counts.ExhaustHello.Add(-1)
	responseTo := q.id
	for {
		c.s.counts.AwaitingTopology.Add(1)
		reply := c.answer(ctx, q, name)
		c.s.counts.AwaitingTopology.Add(-1)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		tv, streaming := bsonval.Lookup(reply, "topologyVersion")
		_, asked := bsonval.Lookup(q.cmd, "topologyVersion")
		ok, _ := bsonval.Lookup(reply, "ok")
		more := streaming && asked && bsonval.Truthy(ok)
		select {
		case <-c.s.gate():
		case <-ctx.Done():
			return ctx.Err()
		}
		id := c.s.req.Add(1)
		if err := c.sendID(q, id, responseTo, reply, more); err != nil || !more {
			return err
		}
		responseTo = id
		var b bsonval.Builder
		for k, v := range bsonval.Each(q.cmd) {
			if k == "topologyVersion" {
				v = tv
			}
			b.Value(k, v)
		}
		q.cmd = b.Raw()
	}
}

func (c *conn) send(q *request, responseTo int32, reply bson.Raw, more bool) error {
	return c.sendID(q, c.s.req.Add(1), responseTo, reply, more)
}

func (c *conn) sendID(q *request, id, responseTo int32, reply bson.Raw, more bool) error {
	msg, err := encode(q, id, responseTo, reply, more, &c.comp)
	if err != nil {
		return err
	}
	c.s.counts.BytesOut.Add(int64(len(msg)))
	_, err = c.nc.Write(msg)
	return err
}

// answer runs a command: the wire's own ones here, the rest in the handler.
func (c *conn) answer(ctx context.Context, q *request, name string) bson.Raw {
	if c.s.o.Delay != nil {
		c.s.o.Delay(ctx, c.sess, name)
	}
	cmd := q.cmd
	if q.secondary {
		cmd = new(bsonval.Builder).All(cmd).Bool("$secondaryOk", true).Raw()
	}
	if q.db == "" {
		return engine.ErrorReply(engine.Errf(40571, "OP_MSG requests require a $db argument"))
	}
	if isHello(name) {
		return c.hello(ctx, q.db, cmd)
	}
	switch name {
	case "saslStart", "saslContinue", "authenticate":
		if c.s.o.Users == nil {
			return engine.ErrorReply(errAuth)
		}
		return c.auth(q.db, name, cmd)
	case "logout":
		c.sess.Users = nil
		return new(bsonval.Builder).Double("ok", 1).Raw()
	case "connectionStatus":
		return rights.ConnectionStatus(c.sess, cmd)
	}
	if c.s.o.Users != nil {
		if err := rights.Authorize(c.sess, q.db, name, cmd); err != nil {
			return engine.ErrorReply(err)
		}
	}
	if c.s.o.Users != nil && managing(name) {
		return c.manage(ctx, q.db, name, cmd)
	}
	if c.s.o.Users != nil && name == "_mergeAuthzCollections" {
		return c.merge(ctx, q.db, cmd)
	}
	if name == "usersInfo" && c.s.o.Users != nil {
		return c.s.o.Users.usersInfo(q.db, cmd)
	}
	return c.s.o.Handler.Handle(ctx, c.sess, q.db, cmd)
}

func (c *conn) auth(db, name string, cmd bson.Raw) bson.Raw {
	var reply bson.Raw
	var p *engine.Principal
	var err *engine.Error
	switch name {
	case "saslStart":
		c.s.counts.AuthAttempts.Add(1)
		reply, p, err = c.login.start(db, cmd)
	case "saslContinue":
		reply, p, err = c.login.step(cmd)
	default:
		c.s.counts.AuthAttempts.Add(1)
		reply, p, err = c.login.x509(cmd)
	}
	if err != nil {
		return engine.ErrorReply(err)
	}
	c.admit(p)
	return reply
}

func (c *conn) admit(p *engine.Principal) {
	if p != nil {
		c.s.counts.AuthSuccesses.Add(1)
		c.sess.Users = []engine.Principal{*p}
	}
}

// hello takes note of the client, asks the handler and adds what the connection knows.
func (c *conn) hello(ctx context.Context, db string, cmd bson.Raw) bson.Raw {
	if client, ok := bsonval.Lookup(cmd, "client"); ok && client.Type == bson.TypeEmbeddedDocument && c.sess.Client == nil {
		c.sess.Client = bson.Raw(client.Value)
		app, _ := bsonval.Lookup(c.sess.Client, "application")
		name, _ := bsonval.Lookup(bsonval.SubDoc(app), "name")
		c.sess.AppName = bsonval.Str(name)
	}
	reply := c.s.o.Handler.Handle(ctx, c.sess, db, cmd)
	if ok, _ := bsonval.Lookup(reply, "ok"); !bsonval.Truthy(ok) {
		return reply
	}
	var b bsonval.Builder
	var okValue bson.RawValue
	var tail []bsonval.Elem // what comes after ok stays after it
	for k, v := range bsonval.Each(reply) {
		switch {
		case k == "ok":
			okValue = v
		case k == "connectionId":
		case okValue.Type != 0:
			tail = append(tail, bsonval.Elem{Key: k, Value: v})
		default:
			b.Value(k, v)
		}
	}
	b.Int32("connectionId", int32(c.sess.ID))
	if names := c.compressors(cmd); names != nil {
		b.Value("compression", bsonval.Array(names))
	}
	if c.s.o.Users != nil {
		if who, ok := bsonval.Lookup(cmd, "saslSupportedMechs"); ok {
			b.Value("saslSupportedMechs", c.s.o.Users.mechanisms(bsonval.Str(who)))
		}
		if spec, ok := bsonval.Lookup(cmd, "speculativeAuthenticate"); ok {
			if r := c.speculate(bsonval.SubDoc(spec)); r != nil {
				b.Doc("speculativeAuthenticate", r)
			}
		}
	}
	b.Value("ok", okValue)
	for _, e := range tail {
		b.Value(e.Key, e.Value)
	}
	return b.Raw()
}

// compressors are those the client asked for that are offered here.
func (c *conn) compressors(cmd bson.Raw) []bson.RawValue {
	v, ok := bsonval.Lookup(cmd, "compression")
	if !ok {
		return nil
	}
	var out []bson.RawValue
	for _, x := range bsonval.Each(bsonval.SubDoc(v)) {
		if slices.Contains(c.s.o.Compressors, bsonval.Str(x)) && compressorID(bsonval.Str(x)) != 0 {
			out = append(out, x)
		}
	}
	return out
}

// speculate starts a login within hello; a failure is left out, and the client logs in the long way.
func (c *conn) speculate(cmd bson.Raw) bson.Raw {
	db, _ := bsonval.Lookup(cmd, "db")
	name := bsonval.FirstKey(cmd)
	var reply bson.Raw
	var p *engine.Principal
	var err *engine.Error
	switch name {
	case "saslStart":
		reply, p, err = c.login.start(bsonval.Str(db), cmd)
	case "authenticate":
		reply, p, err = c.login.x509(cmd)
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	c.admit(p)
	return reply
}
