// Package mongotest is a process that answers the agent's commands with replies recorded from real servers, over the wire
// protocol on a real port. It keeps no data: it is for tests of the agent alone.
package mongotest

import (
	"crypto/tls"
	"embed"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"
)

//go:embed testdata
var recorded embed.FS

// Process is one fake mongod or mongos.
type Process struct {
	Addr string

	mu      sync.Mutex
	replies map[string]bson.Raw
	custom  map[string]func(cmd bson.Raw) bson.Raw
	calls   map[string]int
	apps    map[string]bool // application names that connected
	conns   map[net.Conn]bool
	most    int // connections at one time
	hang    map[string]chan struct{}
	user    string
	client  *scram.Server
	tls     *tls.Config
	ln      net.Listener
	down    bool
}

// Start serves the recorded replies of a kind of process: primary, secondary, arbiter, standalone or mongos. What was not
// recorded for it is taken from the primary, if a real one would answer it.
func Start(t testing.TB, kind string) *Process { return StartTLS(t, kind, nil) }

// StartTLS is Start with TLS; a client certificate that the configuration accepts is a user of its own.
func StartTLS(t testing.TB, kind string, cfg *tls.Config) *Process {
	t.Helper()
	p := &Process{
		tls:     cfg,
		replies: map[string]bson.Raw{}, custom: map[string]func(bson.Raw) bson.Raw{}, calls: map[string]int{},
		apps: map[string]bool{}, conns: map[net.Conn]bool{}, hang: map[string]chan struct{}{},
	}
	p.load(t, "primary")
	if kind != "primary" {
		p.load(t, kind)
	}
	p.Listen(t, "127.0.0.1:0")
	t.Cleanup(p.Kill)
	return p
}

func (p *Process) load(t testing.TB, kind string) {
	dir := path.Join("testdata", kind)
	entries, err := recorded.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := recorded.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(e.Name(), ".json")
		if b[0] == '[' { // documents of a collection
			b = fmt.Appendf(nil, `{"cursor":{"id":{"$numberLong":"0"},"ns":%q,"firstBatch":%s},"ok":{"$numberDouble":"1.0"}}`, name, b)
			name = "find-" + name
		}
		var doc bson.D
		if err := bson.UnmarshalExtJSON(b, true, &doc); err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		p.replies[name] = Doc(doc)
	}
}

// Doc marshals a document that cannot fail to.
func Doc(d bson.D) bson.Raw {
	b, err := bson.Marshal(d)
	if err != nil {
		panic(err)
	}
	return b
}

// Failure is a server's refusal.
func Failure(code int32, name, message string) bson.Raw {
	return Doc(bson.D{{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: message}, {Key: "code", Value: code}, {Key: "codeName", Value: name}})
}

// Listen opens the port, again after Kill.
func (p *Process) Listen(t testing.TB, addr string) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.ln, p.down, p.Addr = ln, false, ln.Addr().String()
	p.mu.Unlock()
	go p.accept(ln)
}

// Kill closes the port and every connection.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	_ = p.ln.Close()
	for c := range p.conns {
		_ = c.Close()
	}
	for name, ch := range p.hang {
		close(ch)
		delete(p.hang, name)
	}
}

// Port is the port it listens on.
func (p *Process) Port() int32 {
	return int32(p.ln.Addr().(*net.TCPAddr).Port) //nolint:gosec,forcetypeassert // a TCP port
}

// Set makes a command answer as given; name is the command, or command-argument ("getLog-global", "find-config.shards").
func (p *Process) Set(name string, reply bson.Raw) {
	p.Handle(name, func(bson.Raw) bson.Raw { return reply })
}

// Handle makes a function answer a command. A nil answer means the recorded one.
func (p *Process) Handle(name string, fn func(cmd bson.Raw) bson.Raw) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.custom[name] = fn
}

// Hang makes a command not answer until Resume.
func (p *Process) Hang(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hang[name] = make(chan struct{})
}

// Resume ends Hang.
func (p *Process) Resume(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch, ok := p.hang[name]; ok {
		close(ch)
		delete(p.hang, name)
	}
}

// RequireUser turns access control on, with one user. An empty name refuses everybody.
func (p *Process) RequireUser(t testing.TB, user, password string) {
	t.Helper()
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "0123456789abcdef", Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	server, err := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
		if user == "" || name != user {
			return scram.StoredCredentials{}, fmt.Errorf("no user %s", name)
		}
		return stored, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user, p.client = user, server
}

// Calls is how often a command was received.
func (p *Process) Calls(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[name]
}

// Apps are the application names of those who connected.
func (p *Process) Apps() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.apps))
}

// MostConns is the largest number of connections there were at one time.
func (p *Process) MostConns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

func (p *Process) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = true
		p.most = max(p.most, len(p.conns))
		p.mu.Unlock()
		go func() {
			served := c
			if p.tls != nil {
				served = tls.Server(c, p.tls)
			}
			(&conn{p: p, c: served}).serve()
			_ = c.Close()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		}()
	}
}

// conn is one connection and who signed in over it.
type conn struct {
	p    *Process
	c    net.Conn
	conv *scram.ServerConversation
	user bool
}

const (
	opReply = 1
	opQuery = 2004
	opMsg   = 2013
)

func (c *conn) serve() {
	for {
		var head [16]byte
		if _, err := io.ReadFull(c.c, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.LittleEndian.Uint32(head[:])-16)
		if _, err := io.ReadFull(c.c, body); err != nil {
			return
		}
		id := binary.LittleEndian.Uint32(head[4:])
		var out []byte
		switch binary.LittleEndian.Uint32(head[12:]) {
		case opQuery: // the driver's first words
			rest := body[4:]
			end := slices.Index(rest, 0)
			reply := c.answer(bson.Raw(rest[end+1+8:]))
			out = make([]byte, 36, 36+len(reply))
			binary.LittleEndian.PutUint32(out[12:], opReply)
			binary.LittleEndian.PutUint32(out[32:], 1)
			out = append(out, reply...)
		case opMsg:
			reply := c.answer(bson.Raw(body[5:]))
			out = make([]byte, 21, 21+len(reply))
			binary.LittleEndian.PutUint32(out[12:], opMsg)
			out = append(out, reply...)
		default:
			return
		}
		binary.LittleEndian.PutUint32(out, uint32(len(out))) //nolint:gosec // small
		binary.LittleEndian.PutUint32(out[8:], id)
		if _, err := c.c.Write(out); err != nil {
			return
		}
	}
}

// withoutAuth are the commands that answer anybody.
var withoutAuth = []string{"hello", "isMaster", "ismaster", "ping", "buildInfo", "_isSelf", "whatsmyuri", "connectionStatus", "saslStart", "saslContinue", "authenticate"}

func (c *conn) answer(cmd bson.Raw) bson.Raw {
	first := cmd.Index(0)
	name, key := first.Key(), first.Key()
	arg, _ := first.Value().StringValueOK()
	db, _ := cmd.Lookup("$db").StringValueOK()
	switch name {
	case "getLog", "collStats", "aggregate":
		key = name + "-" + arg
	case "find":
		key = name + "-" + db + "." + arg
	case "dbStats":
		key = name + "-" + db
	}
	p := c.p
	p.mu.Lock()
	p.calls[name]++
	if app, ok := cmd.Lookup("client", "application", "name").StringValueOK(); ok {
		p.apps[app] = true
	}
	wait, custom, auth := p.hang[name], p.custom[key], p.client
	if custom == nil {
		custom = p.custom[name]
	}
	p.mu.Unlock()
	if wait != nil {
		<-wait
	}
	if auth != nil && !c.user && !slices.Contains(withoutAuth, name) {
		return Failure(13, "Unauthorized", "command "+name+" requires authentication")
	}
	if custom != nil {
		if reply := custom(cmd); reply != nil {
			return reply
		}
	}
	return c.builtin(name, key, cmd)
}

func (c *conn) builtin(name, key string, cmd bson.Raw) bson.Raw {
	c.p.mu.Lock()
	reply, ok := c.p.replies[key]
	c.p.mu.Unlock()
	switch name {
	case "isMaster", "ismaster", "hello":
		return c.hello()
	case "ping", "endSessions":
		return Doc(bson.D{{Key: "ok", Value: 1.0}})
	case "saslStart", "saslContinue":
		return c.sign(name, cmd)
	case "authenticate": // X.509: the certificate was checked when TLS began
		t, ok := c.c.(*tls.Conn)
		if !ok || len(t.ConnectionState().PeerCertificates) == 0 {
			return Failure(18, "AuthenticationFailed", "No verified subject name available from client")
		}
		c.user = true
		return Doc(bson.D{{Key: "user", Value: t.ConnectionState().PeerCertificates[0].Subject.String()}, {Key: "ok", Value: 1.0}})
	case "_isSelf":
		return Doc(bson.D{{Key: "id", Value: bson.NewObjectID()}, {Key: "ok", Value: 1.0}})
	case "collStats":
		reply, ok = c.p.replies["collStats-oplog"], true
	case "dbStats":
		if !ok { // a database that was not recorded is like any other
			reply, ok = c.p.replies["dbStats-admin"], true
		}
	case "getParameter":
		return Doc(bson.D{{Key: "ttlMonitorSleepSecs", Value: 60}, {Key: "ok", Value: 1.0}})
	case "serverStatus":
		on, _ := cmd.Lookup("oplog").AsInt64OK()
		return freshStatus(reply, on == 1)
	case "find":
		if key == "find-local.oplog.rs" {
			return Doc(bson.D{{Key: "cursor", Value: bson.D{
				{Key: "firstBatch", Value: bson.A{bson.D{{Key: "ts", Value: bson.Timestamp{T: 1795232000, I: 1}}}}},
				{Key: "id", Value: int64(0)},
				{Key: "ns", Value: "local.oplog.rs"},
			}}, {Key: "ok", Value: 1.0}})
		}
	}
	if !ok {
		return Failure(59, "CommandNotFound", "no such command: '"+name+"'")
	}
	return reply
}

// hello is the recorded reply, with the wire version of a server that the driver talks to and of the mechanism asked for.
func (c *conn) hello() bson.Raw {
	var doc bson.D
	c.p.mu.Lock()
	raw := c.p.replies["hello"]
	c.p.mu.Unlock()
	if err := bson.Unmarshal(raw, &doc); err != nil {
		panic(err)
	}
	doc = slices.DeleteFunc(doc, func(e bson.E) bool { return strings.HasPrefix(e.Key, "$") || e.Key == "operationTime" })
	doc = append(doc, bson.E{Key: "saslSupportedMechs", Value: bson.A{"SCRAM-SHA-256"}})
	return Doc(doc)
}

// freshStatus moves a recorded status to now.
func freshStatus(raw bson.Raw, oplog bool) bson.Raw {
	var doc bson.D
	if err := bson.Unmarshal(raw, &doc); err != nil {
		panic(err)
	}
	for i := range doc {
		if doc[i].Key == "localTime" {
			doc[i].Value = bson.NewDateTimeFromTime(time.Now())
		}
	}
	if oplog {
		doc = append(doc, bson.E{Key: "oplog", Value: bson.D{
			{Key: "latestOptime", Value: bson.Timestamp{T: 1795232648, I: 1}}, {Key: "earliestOptime", Value: bson.Timestamp{T: 1795230000, I: 1}},
		}})
	}
	return Doc(doc)
}

func (c *conn) sign(name string, cmd bson.Raw) bson.Raw {
	c.p.mu.Lock()
	server := c.p.client
	c.p.mu.Unlock()
	refused := Failure(18, "AuthenticationFailed", "Authentication failed.")
	if server == nil {
		return refused
	}
	if name == "saslStart" {
		c.conv = server.NewConversation()
	}
	_, payload, ok := cmd.Lookup("payload").BinaryOK()
	if c.conv == nil || !ok {
		return refused
	}
	var answer string
	if !c.conv.Done() {
		var err error
		if answer, err = c.conv.Step(string(payload)); err != nil {
			return refused
		}
	}
	c.user = c.conv.Done() && c.conv.Valid()
	return Doc(bson.D{
		{Key: "conversationId", Value: int32(1)},
		{Key: "done", Value: c.user},
		{Key: "payload", Value: bson.Binary{Data: []byte(answer)}},
		{Key: "ok", Value: 1.0},
	})
}
