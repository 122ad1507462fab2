package wire

import (
	"crypto/md5" //nolint:gosec // SCRAM-SHA-1 of MongoDB is defined over it
	"crypto/rand"
	"encoding/hex"
	"strings"
	"sync"

	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// User may log in. Users of certificates have DB "$external", no password, and the certificate's subject as name, written
// as RFC 2253 does.
type User struct {
	Name, DB, Password string
	Roles              []engine.Role
}

// Users is who may log in. It is safe for concurrent use.
type Users struct {
	mu sync.RWMutex
	m  map[string]account
}

type account struct {
	user       User
	id         [16]byte
	sha1, sha2 scram.StoredCredentials
}

// NewUsers makes an empty table.
func NewUsers() *Users { return &Users{m: map[string]account{}} }

// Iterations of the salted hashes: a real server's are higher, but every test connection pays for them.
const (
	iterationsSHA1   = 10000
	iterationsSHA256 = 15000
)

// Add adds or replaces a user.
func (u *Users) Add(x User) error {
	a, err := newAccount(x)
	if err != nil {
		return err
	}
	a.id = newID()
	u.put(a)
	return nil
}

func (u *Users) put(a account) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.m[a.user.DB+"."+a.user.Name] = a
}

func newID() (id [16]byte) {
	copy(id[:], salt(16))
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func newAccount(x User) (account, error) {
	a := account{user: x}
	if x.DB == "$external" {
		return a, nil
	}
	sum := md5.Sum([]byte(x.Name + ":mongo:" + x.Password)) //nolint:gosec // see the import
	c1, err := scram.SHA1.NewClientUnprepped(x.Name, hex.EncodeToString(sum[:]), "")
	if err != nil {
		return a, err
	}
	if a.sha1, err = c1.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt(16), Iters: iterationsSHA1}); err != nil {
		return a, err
	}
	c2, err := scram.SHA256.NewClient(x.Name, x.Password, "")
	if err != nil {
		return a, err
	}
	a.sha2, err = c2.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt(28), Iters: iterationsSHA256})
	return a, err
}

// Remove takes a user away; open connections keep what they have.
func (u *Users) Remove(db, name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.m, db+"."+name)
}

func salt(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return string(b)
}

func (u *Users) find(db, name string) (account, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	a, ok := u.m[db+"."+name]
	return a, ok
}

// login is one connection's authentication under way.
type login struct {
	users   *Users
	subject string // of the client's certificate
	conv    *scram.ServerConversation
	db      string
	id      int32
	steps   int
	skip    bool // skipEmptyExchange
	proved  bool
}

var errAuth = &engine.Error{Code: engine.CodeAuthenticationFailed, Msg: "Authentication failed."}

// start answers saslStart, or the speculative one within hello.
func (l *login) start(db string, cmd bson.Raw) (bson.Raw, *engine.Principal, *engine.Error) {
	mech, _ := bsonval.Lookup(cmd, "mechanism")
	gen := scram.SHA256
	switch bsonval.Str(mech) {
	case "SCRAM-SHA-256":
	case "SCRAM-SHA-1":
		gen = scram.SHA1
	default:
		return nil, nil, engine.Errf(334, "Received authentication for mechanism %s which is not enabled", bsonval.Str(mech)) // MechanismUnavailable
	}
	srv, err := gen.NewServer(func(name string) (scram.StoredCredentials, error) {
		a, ok := l.users.find(db, name)
		if !ok || db == "$external" {
			return scram.StoredCredentials{}, errAuth
		}
		if bsonval.Str(mech) == "SCRAM-SHA-1" {
			return a.sha1, nil
		}
		return a.sha2, nil
	})
	if err != nil {
		return nil, nil, errAuth
	}
	o, _ := bsonval.Lookup(cmd, "options")
	skip, _ := bsonval.Lookup(bsonval.SubDoc(o), "skipEmptyExchange")
	l.conv, l.db, l.steps, l.proved, l.skip = srv.NewConversation(), db, 0, false, bsonval.Truthy(skip)
	l.id++
	return l.step(cmd)
}

// step answers one message of the conversation.
func (l *login) step(cmd bson.Raw) (bson.Raw, *engine.Principal, *engine.Error) {
	if l.conv == nil {
		return nil, nil, engine.Errf(17, "No SASL session state found") // ProtocolError
	}
	payload, _ := bsonval.Lookup(cmd, "payload")
	_, in, _ := payload.BinaryOK()
	l.steps++
	if l.proved { // the empty exchange at the end
		p := l.principal()
		l.conv = nil
		return l.reply("", true), p, nil
	}
	out, err := l.conv.Step(string(in))
	if err != nil {
		l.conv = nil
		return nil, nil, errAuth
	}
	if !l.conv.Done() {
		return l.reply(out, false), nil, nil
	}
	if !l.conv.Valid() {
		l.conv = nil
		return nil, nil, errAuth
	}
	l.proved = true
	if !l.skip {
		return l.reply(out, false), nil, nil
	}
	p := l.principal()
	l.conv = nil
	return l.reply(out, true), p, nil
}

func (l *login) principal() *engine.Principal {
	a, ok := l.users.find(l.db, l.conv.Username())
	if !ok {
		return nil
	}
	return &engine.Principal{Name: a.user.Name, DB: a.user.DB, Roles: a.user.Roles}
}

func (l *login) reply(payload string, done bool) bson.Raw {
	var b bsonval.Builder
	b.Int32("conversationId", l.id).Bool("done", done).Value("payload", bsonval.Binary(0, []byte(payload)))
	return b.Double("ok", 1).Raw()
}

// x509 answers authenticate with MONGODB-X509.
func (l *login) x509(cmd bson.Raw) (bson.Raw, *engine.Principal, *engine.Error) {
	mech, _ := bsonval.Lookup(cmd, "mechanism")
	if bsonval.Str(mech) != "MONGODB-X509" {
		return nil, nil, engine.Errf(334, "Received authentication for mechanism %s which is not enabled", bsonval.Str(mech))
	}
	want, _ := bsonval.Lookup(cmd, "user")
	a, ok := l.users.find("$external", l.subject)
	if l.subject == "" || !ok || (want.Type != 0 && bsonval.Str(want) != l.subject) {
		return nil, nil, errAuth
	}
	var b bsonval.Builder
	b.String("dbname", "$external").String("user", l.subject).Double("ok", 1)
	return b.Raw(), &engine.Principal{Name: a.user.Name, DB: "$external", Roles: a.user.Roles}, nil
}

// mechanisms lists what a user, given as db.name, may log in with.
func (u *Users) mechanisms(dbName string) bson.RawValue {
	db, name, _ := strings.Cut(dbName, ".")
	var out []bson.RawValue
	if _, ok := u.find(db, name); ok && db != "$external" {
		out = []bson.RawValue{bsonval.String("SCRAM-SHA-1"), bsonval.String("SCRAM-SHA-256")}
	}
	return bsonval.Array(out)
}
