package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

func users(t *testing.T, list ...User) *Users {
	t.Helper()
	u := NewUsers()
	for _, x := range list {
		if err := u.Add(x); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func role(r, db string) []engine.Role { return []engine.Role{{Role: r, DB: db}} }

func code(err error) int32 {
	var c mongo.CommandError
	if errors.As(err, &c) {
		return c.Code
	}
	return 0
}

func TestSCRAM(t *testing.T) {
	u := users(t,
		User{Name: "app", DB: "admin", Password: "s3cret,=%", Roles: role("readWriteAnyDatabase", "admin")},
		User{Name: "mon", DB: "admin", Password: "watch", Roles: role("clusterMonitor", "admin")})
	addr, srv := start(t, Options{Users: u}, engine.Options{})
	ctx := context.Background()
	cred := func(name, pw, mech string) *options.ClientOptions {
		return options.Client().SetAuth(options.Credential{Username: name, Password: pw, AuthSource: "admin", AuthMechanism: mech})
	}
	for _, mech := range []string{"", "SCRAM-SHA-1", "SCRAM-SHA-256"} {
		c := connect(t, addr, cred("app", "s3cret,=%", mech))
		if _, err := c.Database("db").Collection("c").InsertOne(ctx, bson.D{{Key: "m", Value: mech}}); err != nil {
			t.Errorf("%q: %v", mech, err)
		}
		var status bson.Raw
		if err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "connectionStatus", Value: 1}}).Decode(&status); err != nil || !strings.Contains(status.String(), "readWriteAnyDatabase") {
			t.Errorf("%q: connectionStatus %s %v", mech, status, err)
		}
	}
	for _, bad := range []*options.ClientOptions{cred("app", "wrong", ""), cred("nobody", "x", ""), cred("app", "wrong", "SCRAM-SHA-1")} {
		err := connect(t, addr, bad).Ping(ctx, nil)
		if err == nil || !strings.Contains(err.Error(), "Authentication failed") {
			t.Errorf("wrong credentials: %v", err)
		}
	}
	if n := srv.Counters().AuthSuccesses.Load(); n < 3 {
		t.Errorf("logins counted: %d", n)
	}
}

// TestAuthorization holds what answers to whom to the recorded server.
func TestAuthorization(t *testing.T) {
	u := users(t,
		User{Name: "mon", DB: "admin", Password: "p", Roles: role("clusterMonitor", "admin")},
		User{Name: "bak", DB: "admin", Password: "p", Roles: append(role("backup", "admin"), role("clusterMonitor", "admin")...)},
		User{Name: "app", DB: "shop", Password: "p", Roles: role("readWrite", "shop")})
	addr, _ := start(t, Options{Users: u}, engine.Options{})
	clients := map[string]*mongo.Client{"": connect(t, addr)}
	for name, db := range map[string]string{"mon": "admin", "bak": "admin", "app": "shop"} {
		clients[name] = connect(t, addr, options.Client().SetAuth(options.Credential{Username: name, Password: "p", AuthSource: db}))
	}
	ctx := context.Background()
	find := func(coll string) bson.D { return bson.D{{Key: "find", Value: coll}} }
	insert := func(coll string) bson.D {
		return bson.D{{Key: "insert", Value: coll}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: 1}}}}}
	}
	one := func(name string) bson.D { return bson.D{{Key: name, Value: 1}} }
	for _, c := range []struct {
		user, db string
		cmd      bson.D
		may      bool
	}{
		{"", "admin", one("buildInfo"), true},
		{"", "admin", one("hello"), true},
		{"", "admin", one("whatsmyuri"), true},
		{"", "admin", one("ping"), true},
		{"", "admin", one("_isSelf"), true},
		{"", "admin", one("serverStatus"), false},
		{"", "admin", one("replSetGetStatus"), false},
		{"", "admin", one("getLog"), false},
		{"", "admin", one("listDatabases"), false},
		{"", "admin", one("features"), false},
		{"", "shop", find("c"), false},
		{"", "admin", one("nosuch"), false},
		{"mon", "admin", one("serverStatus"), true},
		{"mon", "admin", one("replSetGetStatus"), true},
		{"mon", "admin", one("getDiagnosticData"), true},
		{"mon", "admin", one("top"), true},
		{"mon", "admin", one("lockInfo"), true},
		{"mon", "admin", one("profile"), true},
		{"mon", "admin", one("replSetGetRBID"), false},
		{"mon", "shop", find("c"), false},
		{"mon", "shop", insert("c"), false},
		{"mon", "local", find("oplog.rs"), true},
		{"mon", "shop", one("dbStats"), true},
		{"mon", "admin", one("listDatabases"), true},
		{"bak", "shop", find("c"), true},
		{"bak", "admin", find("system.users"), true},
		{"bak", "admin", insert("mms.backup"), false},
		{"bak", "admin", one("appendOplogNote"), true},
		{"bak", "admin", bson.D{{Key: "applyOps", Value: bson.A{}}}, false},
		{"bak", "shop", bson.D{{Key: "listIndexes", Value: "c"}}, true},
		{"bak", "config", find("transactions"), true},
		{"app", "shop", insert("c"), true},
		{"app", "other", find("c"), false},
		{"app", "admin", one("serverStatus"), false},
	} {
		err := clients[c.user].Database(c.db).RunCommand(ctx, c.cmd).Err()
		if got := code(err) != engine.CodeUnauthorized; got != c.may {
			t.Errorf("%q %s.%v: may %v, want %v (%v)", c.user, c.db, c.cmd, got, c.may, err)
		}
		if c.user == "" && !c.may && !strings.HasSuffix(strings.SplitN(err.Error(), ") ", 2)[1], "command "+c.cmd[0].Key+" requires authentication") {
			t.Errorf("message: %v", err)
		}
	}
}

// pki makes a CA and certificates.
type pki struct {
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	n    int64
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{ca: ca, key: key, pool: x509.NewCertPool(), n: 1}
	p.pool.AddCert(ca)
	return p
}

func (p *pki) cert(t *testing.T, name pkix.Name) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.n++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(p.n), Subject: name, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.ca, &key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLSAndX509(t *testing.T) {
	p := newPKI(t)
	subject := pkix.Name{CommonName: "agent", Organization: []string{"Heartwood"}}
	u := users(t, User{Name: subject.String(), DB: "$external", Roles: role("root", "admin")})
	addr, _ := start(t, Options{Users: u, TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{p.cert(t, pkix.Name{CommonName: "server"})}, ClientCAs: p.pool, ClientAuth: tls.VerifyClientCertIfGiven}}, engine.Options{})
	ctx := context.Background()
	conf := func(cert ...tls.Certificate) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.pool, Certificates: cert}
	}
	x509Auth := options.Credential{AuthMechanism: "MONGODB-X509", AuthSource: "$external"}
	good := connect(t, addr, options.Client().SetTLSConfig(conf(p.cert(t, subject))).SetAuth(x509Auth))
	if _, err := good.Database("db").Collection("c").InsertOne(ctx, bson.D{}); err != nil {
		t.Error(err)
	}
	stranger := connect(t, addr, options.Client().SetTLSConfig(conf(p.cert(t, pkix.Name{CommonName: "else"}))).SetAuth(x509Auth))
	if err := stranger.Ping(ctx, nil); err == nil {
		t.Error("a certificate nobody knows may log in")
	}
	if err := connect(t, addr, options.Client().SetTLSConfig(conf())).Database("db").RunCommand(ctx, bson.D{{Key: "count", Value: "c"}}).Err(); code(err) != 13 {
		t.Errorf("TLS without login: %v", err)
	}
	if err := connect(t, addr, options.Client().SetServerSelectionTimeout(300*time.Millisecond)).Ping(ctx, nil); err == nil {
		t.Error("plain text is answered on a TLS port")
	}
}

// primary answers hello as the primary of a one-member set, so that drivers use retryable writes and transactions.
func primary(addr *atomic.Value) func(context.Context, *engine.Session, string, string, bson.Raw) (bson.Raw, bool) {
	return func(_ context.Context, _ *engine.Session, _, name string, _ bson.Raw) (bson.Raw, bool) {
		if !isHello(name) {
			return nil, false
		}
		host, _ := addr.Load().(string)
		hosts := bsonval.Array([]bson.RawValue{bsonval.String(host)})
		return new(bsonval.Builder).Bool("isWritablePrimary", true).Bool("ismaster", true).String("setName", "rs0").String("me", host).String("primary", host).
			Value("hosts", hosts).Int32("setVersion", 1).Int32("logicalSessionTimeoutMinutes", 30).Int32("minWireVersion", 0).Int32("maxWireVersion", 21).
			Int32("maxBsonObjectSize", 16<<20).Int32("maxMessageSizeBytes", 48_000_000).Int32("maxWriteBatchSize", 100_000).Double("ok", 1).Raw(), true
	}
}

// lossy runs a command and then loses the connection instead of the answer, once for each name.
type lossy struct {
	Handler
	srv  *Server
	lose map[string]*atomic.Bool
}

func (l *lossy) Handle(ctx context.Context, s *engine.Session, db string, cmd bson.Raw) bson.Raw {
	r := l.Handler.Handle(ctx, s, db, cmd)
	if b := l.lose[bsonval.FirstKey(cmd)]; b != nil && b.CompareAndSwap(true, false) {
		l.srv.CloseIf(func(x *engine.Session) bool { return x == s })
	}
	return r
}

func TestLostAnswersAreRetriedOnce(t *testing.T) {
	var addr atomic.Value
	tick := uint32(0)
	a, srv := start(t, Options{}, engine.Options{Commands: primary(&addr), NextOpTime: func() engine.OpTime {
		tick++
		return engine.OpTime{TS: bson.Timestamp{T: 1795243976, I: tick}, Term: 1}
	}})
	addr.Store(a)
	l := &lossy{Handler: srv.o.Handler, srv: srv, lose: map[string]*atomic.Bool{}}
	for _, n := range []string{"insert", "update", "findAndModify", "commitTransaction"} {
		l.lose[n] = new(atomic.Bool)
		l.lose[n].Store(true)
	}
	srv.o.Handler = l
	c := connect(t, a)
	ctx := context.Background()
	coll := c.Database("db").Collection("c")
	if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 1}, {Key: "n", Value: 0}}); err != nil {
		t.Fatal(err)
	}
	inc := bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}
	if r, err := coll.UpdateByID(ctx, 1, inc); err != nil || r.ModifiedCount != 1 {
		t.Errorf("update: %+v %v", r, err)
	}
	var old struct{ N int }
	if err := coll.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: 1}}, inc).Decode(&old); err != nil || old.N != 1 {
		t.Errorf("findAndModify: %+v %v", old, err)
	}
	sess, err := c.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer sess.EndSession(ctx)
	if _, err := sess.WithTransaction(ctx, func(ctx context.Context) (any, error) {
		if _, err := coll.UpdateByID(ctx, 1, inc); err != nil {
			return nil, err
		}
		return coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 2}})
	}); err != nil {
		t.Errorf("transaction: %v", err)
	}
	var got struct{ N int }
	if err := coll.FindOne(ctx, bson.D{{Key: "_id", Value: 1}}).Decode(&got); err != nil || got.N != 3 {
		t.Errorf("n is %d (%v), want 3", got.N, err)
	}
	for n, b := range l.lose {
		if b.Load() {
			t.Errorf("%s lost no answer", n)
		}
	}
}

// dial opens a raw connection.
func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	var d net.Dialer
	nc, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc, bufio.NewReader(nc)
}

func doc(t testing.TB, d bson.D) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// message frames an OP_MSG.
func message(id int32, flags uint32, cmd bson.Raw, sections ...byte) []byte {
	body := binary.LittleEndian.AppendUint32(nil, flags)
	body = append(append(append(body, 0), cmd...), sections...)
	n := int32(headerLen + len(body))
	if flags&flagChecksum != 0 {
		n += 4
	}
	b := append(appendHeader(nil, header{n, id, 0, opMsg}), body...)
	if flags&flagChecksum != 0 {
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

func readReply(t *testing.T, r *bufio.Reader) (header, uint32, bson.Raw) {
	t.Helper()
	h, body, err := readMessage(r)
	if err != nil {
		t.Fatal(err)
	}
	if h.opCode == opReply {
		return h, 0, bson.Raw(body[20:])
	}
	return h, binary.LittleEndian.Uint32(body), bson.Raw(body[5:])
}

// counting is a handler whose hello has a topologyVersion that waits for news.
type counting struct{ news chan int64 }

func (c counting) Handle(ctx context.Context, _ *engine.Session, _ string, cmd bson.Raw) bson.Raw {
	n := int64(1)
	if _, wait := bsonval.Lookup(cmd, "topologyVersion"); wait {
		select {
		case n = <-c.news:
		case <-ctx.Done():
		}
	}
	tv := new(bsonval.Builder).Int64("counter", n).Raw()
	return new(bsonval.Builder).Bool("isWritablePrimary", true).Doc("topologyVersion", tv).Double("ok", 1).Raw()
}

func TestExhaustHello(t *testing.T) {
	addr, srv := start(t, Options{}, engine.Options{})
	h := counting{make(chan int64, 3)}
	srv.o.Handler = h
	nc, r := dial(t, addr)
	ask := doc(t, bson.D{{Key: "hello", Value: 1}, {Key: "topologyVersion", Value: bson.D{{Key: "counter", Value: int64(1)}}}, {Key: "maxAwaitTimeMS", Value: 10000}, {Key: "$db", Value: "admin"}})
	if _, err := nc.Write(message(7, flagExhaust, ask)); err != nil {
		t.Fatal(err)
	}
	want := int32(7)
	for n := range int64(3) {
		h.news <- n + 2
		head, flags, reply := readReply(t, r)
		tv, _ := bsonval.Lookup(reply, "topologyVersion")
		counter, _ := bsonval.Lookup(bsonval.SubDoc(tv), "counter")
		if head.responseTo != want || flags&flagMoreToCome == 0 || counter.Int64() != n+2 {
			t.Errorf("reply %d: to %d (want %d), flags %x, %s", n, head.responseTo, want, flags, reply)
		}
		want = head.requestID
	}
	srv.CloseConnections()
	if _, _, err := readMessage(r); err == nil {
		t.Error("the connection is open after CloseConnections")
	}
}

func TestFrames(t *testing.T) {
	addr, srv := start(t, Options{}, engine.Options{})
	nc, r := dial(t, addr)
	send := func(b []byte) {
		t.Helper()
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	okOf := func(reply bson.Raw) bool {
		v, _ := bsonval.Lookup(reply, "ok")
		return bsonval.Truthy(v)
	}
	// The old handshake.
	q := binary.LittleEndian.AppendUint32(nil, 4)
	q = append(q, "admin.$cmd\x00"...)
	q = append(q, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
	q = append(q, doc(t, bson.D{{Key: "isMaster", Value: 1}})...)
	send(append(appendHeader(nil, header{int32(headerLen + len(q)), 1, 0, opQuery}), q...))
	if h, _, reply := readReply(t, r); h.opCode != opReply || h.responseTo != 1 || !okOf(reply) {
		t.Errorf("OP_QUERY: %+v %s", h, reply)
	}
	// A document sequence, a checksum, and no answer wanted.
	d := doc(t, bson.D{{Key: "_id", Value: 1}})
	seq := binary.LittleEndian.AppendUint32([]byte{1}, uint32(4+len("documents\x00")+2*len(d)))
	seq = append(append(append(seq, "documents\x00"...), d...), doc(t, bson.D{{Key: "_id", Value: 2}})...)
	cmd := doc(t, bson.D{{Key: "insert", Value: "c"}, {Key: "$db", Value: "db"}})
	send(message(2, flagMoreToCome|flagChecksum, cmd, seq...))
	send(message(3, flagChecksum, doc(t, bson.D{{Key: "count", Value: "c"}, {Key: "$db", Value: "db"}})))
	if h, _, reply := readReply(t, r); h.responseTo != 3 || !strings.Contains(reply.String(), `"n": {"$numberInt":"2"}`) {
		t.Errorf("after an unanswered insert: %+v %s", h, reply)
	}
	// A pause holds answers back, resuming releases them.
	srv.Pause()
	send(message(4, 0, doc(t, bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "db"}})))
	srv.Resume()
	if h, _, reply := readReply(t, r); h.responseTo != 4 || !okOf(reply) {
		t.Errorf("after a pause: %+v %s", h, reply)
	}
	if n := len(srv.Connections()); n != 1 {
		t.Errorf("%d connections", n)
	}
	// What breaks the protocol ends the connection and nothing else.
	ping := doc(t, bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "db"}})
	wrong := message(5, flagChecksum, ping)
	wrong[len(wrong)-1] ^= 1
	for name, b := range map[string][]byte{
		"checksum":         wrong,
		"length":           appendHeader(nil, header{5, 1, 0, opMsg}),
		"huge":             appendHeader(nil, header{1 << 30, 1, 0, opMsg}),
		"opcode":           append(appendHeader(nil, header{20, 1, 0, 2001}), 0, 0, 0, 0),
		"required flag":    message(5, 1<<5, ping),
		"cut document":     message(5, 0, ping[:8]),
		"compressed twice": append(appendHeader(nil, header{headerLen + 9, 1, 0, opCompressed}), 0xdc, 7, 0, 0, 0, 0, 0, 0, 0),
	} {
		nc, r := dial(t, addr)
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readMessage(r); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	send(message(6, 0, ping))
	if h, _, _ := readReply(t, r); h.responseTo != 6 {
		t.Errorf("the first connection: %+v", h)
	}
}

func FuzzDecode(f *testing.F) {
	ping := doc(f, bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "db"}})
	plain := message(1, flagChecksum, ping)
	f.Add(plain[:headerLen], plain[headerLen:])
	for _, id := range []byte{compSnappy, compZlib, compZstd} {
		var c compression
		b, err := encode(&request{compressor: id}, 1, 1, ping, false, &c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:headerLen], b[headerLen:])
	}
	f.Fuzz(func(t *testing.T, head, body []byte) {
		if len(head) < headerLen || len(body) > 1<<16 {
			return
		}
		var c compression
		defer c.close()
		q, err := decode(parseHeader(head), body, &c)
		if err == nil && bsonval.Validate(q.cmd) != nil {
			t.Fatalf("accepted %x", q.cmd)
		}
	})
}

func TestCompressionRoundTrip(t *testing.T) {
	big := doc(t, bson.D{{Key: "x", Value: strings.Repeat("heartwood ", 5000)}, {Key: "$db", Value: "db"}})
	for _, id := range []byte{0, compSnappy, compZlib, compZstd} {
		t.Run(fmt.Sprint(id), func(t *testing.T) {
			var c compression
			defer c.close()
			b, err := encode(&request{compressor: id}, 5, 4, big, false, &c)
			if err != nil {
				t.Fatal(err)
			}
			h, body, err := readMessage(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			q, err := decode(h, body, &c)
			if err != nil || !bytes.Equal(q.cmd, big) || q.compressor != id {
				t.Errorf("%v, %d bytes", err, len(b))
			}
		})
	}
}
