// Package target is the replica set that a restore is written into: its primary, wherever it is just then, what it answers and
// what the agent may do there. An election, a shutdown or a broken connection is no error: a command is sent until it is
// answered, and may so happen more than once.
package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Error codes of servers that decide what a writer does.
const (
	CodeBadValue         = 2
	CodeUnauthorized     = 13
	CodeAuthFailed       = 18
	CodeNamespaceGone    = 26
	CodeNamespaceExists  = 48
	CodeDollarPrefixed   = 52
	CodeCommandNotFound  = 59
	CodeDuplicateKey     = 11000
	CodeUnknownField     = 40415
	CodeIDLUnknownField  = 9
	CodeViewNotSupported = 166
)

// passing are the codes of failures that pass by themselves: elections, shutdowns, a Majority that is away for a moment.
var passing = []int{
	6, 7, 24, 46, 50, 64, 89, 91, 112, 133, 189, 202, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436,
}

// codesOf are the error codes of a server's answer; none for another error. Duplicate keys are told apart by writes.
func codesOf(err error) (codes []int) {
	var c mongo.CommandError
	if errors.As(err, &c) {
		codes = append(codes, int(c.Code))
	}
	var w mongo.WriteException
	if errors.As(err, &w) {
		for _, e := range w.WriteErrors {
			codes = append(codes, e.Code)
		}
		if w.WriteConcernError != nil {
			codes = append(codes, w.WriteConcernError.Code)
		}
	}
	return codes
}

// Is reports whether an error is a server's with one of the codes.
func Is(err error, codes ...int) bool {
	return slices.ContainsFunc(codesOf(err), func(c int) bool { return slices.Contains(codes, c) })
}

// Denied reports whether a server refused the user, or what the user wanted.
func Denied(err error) bool {
	return Is(err, CodeUnauthorized, CodeAuthFailed) || err != nil && strings.Contains(err.Error(), "auth error")
}

// Passes reports whether a failure passes by itself. What is no answer of a server is one of the way to it.
func Passes(err error) bool {
	codes := codesOf(err)
	if len(codes) == 0 {
		return !Denied(err)
	}
	return slices.ContainsFunc(codes, func(c int) bool { return slices.Contains(passing, c) })
}

// Server is one process of a deployment that answers commands.
type Server interface {
	// Run sends one command, a document of any form that the driver takes. A refusal is the driver's error.
	Run(ctx context.Context, db string, cmd any) (bson.Raw, error)
	// Close cuts off what is under way.
	Close()
}

// Dialer knows how to connect to a process.
type Dialer interface {
	Options(host wire.Host, auth bool) *options.ClientOptions
}

type member struct {
	address string
	client  *mongo.Client
}

// Connect returns a function that connects to processes as d says.
func Connect(d Dialer) func(host wire.Host) (Server, error) {
	return func(host wire.Host) (Server, error) {
		address := model.Address(host.Hostname, int(host.Port))
		client, err := mongo.Connect(d.Options(host, true).
			SetRetryReads(false).SetRetryWrites(false).SetMaxPoolSize(16).SetMaxConnIdleTime(5 * time.Minute).SetHeartbeatInterval(10 * time.Second))
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", address, err)
		}
		return &member{address, client}, nil
	}
}

// untimed hides the deadline of a context, not its end: the driver would turn the deadline into a maxTimeMS of its own.
type untimed struct{ context.Context }

// Deadline reports none.
func (untimed) Deadline() (time.Time, bool) { return time.Time{}, false }

// Run implements Server.
func (m *member) Run(ctx context.Context, db string, cmd any) (bson.Raw, error) {
	raw, err := m.client.Database(db).RunCommand(untimed{ctx}, cmd).Raw()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.address, err)
	}
	return raw, nil
}

// Close implements Server.
func (m *member) Close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what is still running is cut off, not waited for
	_ = m.client.Disconnect(ctx)
}

// Target is the replica set that is written to. It is safe for concurrent use.
type Target struct {
	Set     string      // its name
	Hosts   []wire.Host // through which it is reached
	Connect func(host wire.Host) (Server, error)
	Pause   func(ctx context.Context, d time.Duration) bool // says false when ctx ended first
	// Waits is told why nothing goes on, and "" when it does again.
	Waits func(why string)

	mu      sync.Mutex
	servers map[string]Server // by address
	primary Server            // nil: to be looked for
	closed  bool
}

// Close closes every connection.
func (t *Target) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, s := range t.servers {
		s.Close()
	}
}

// Server gives the connection to a member.
func (t *Target) Server(host wire.Host) (Server, error) {
	address := model.Address(host.Hostname, int(host.Port))
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.servers[address]; s != nil {
		return s, nil
	}
	if t.closed {
		return nil, errors.New("the restore has ended")
	}
	s, err := t.Connect(host)
	if err != nil {
		return nil, err
	}
	if t.servers == nil {
		t.servers = map[string]Server{}
	}
	t.servers[address] = s
	return s, nil
}

// errNoPrimary is in the chain of errors about a set whose primary is not found.
var errNoPrimary = errors.New("no primary is found")

// HelloLimit is how long a member may take to say who it is.
const HelloLimit = 15 * time.Second

// hello asks a process who it is.
func hello(ctx context.Context, s Server) (bson.Raw, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, HelloLimit, errors.New("it did not answer in time"))
	defer cancel()
	raw, err := s.Run(ctx, "admin", bson.D{{Key: "hello", Value: 1}})
	if Is(err, CodeCommandNotFound) { // before 4.4.2
		raw, err = s.Run(ctx, "admin", bson.D{{Key: "isMaster", Value: 1}})
	}
	return raw, err
}

// find looks for the primary: at the hosts that the server knows, then where they say it is.
func (t *Target) find(ctx context.Context) (Server, error) {
	t.mu.Lock()
	known := t.primary
	t.mu.Unlock()
	if known != nil {
		return known, nil
	}
	hosts := slices.Clone(t.Hosts)
	asked := map[string]bool{}
	var faults []error
	for i := 0; i < len(hosts) && i < maxHosts; i++ {
		address := model.Address(hosts[i].Hostname, int(hosts[i].Port))
		if asked[address] {
			continue
		}
		asked[address] = true
		s, err := t.Server(hosts[i])
		var raw bson.Raw
		if err == nil {
			raw, err = hello(ctx, s)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if name := Text(raw, "setName"); name != t.Set {
			faults = append(faults, fmt.Errorf("%s is of the set %q, not %q", address, name, t.Set))
			continue
		}
		if truth(raw, "isWritablePrimary") || truth(raw, "ismaster") {
			t.mu.Lock()
			t.primary = s
			t.mu.Unlock()
			return s, nil
		}
		if name, port, err := model.SplitAddress(Text(raw, "primary")); err == nil {
			h := hosts[i]
			h.Hostname, h.Port = name, int32(port) //nolint:gosec // a port
			hosts = append(hosts, h)
		}
	}
	return nil, fmt.Errorf("%w of %s: %w", errNoPrimary, t.Set, errors.Join(faults...))
}

const maxHosts = 100

func (t *Target) lost(s Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.primary == s {
		t.primary = nil
	}
}

// Time limits of commands: those that answer at once, and those that work.
const (
	Quick = time.Minute
	Slow  = 24 * time.Hour
)

// Do sends a command to the primary until it is answered: an election, a shutdown or a broken connection is no error, and a
// command may so have happened more than once. It ends with ctx, or with a refusal that does not pass.
func (t *Target) Do(ctx context.Context, limit time.Duration, db string, cmd any) (bson.Raw, error) {
	var backoff call.Backoff
	waited := false
	for {
		raw, err := t.try(ctx, limit, db, cmd)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil || !Passes(err) {
			if waited {
				t.Waits("")
			}
			return raw, err
		}
		waited = true
		t.Waits(err.Error())
		if !t.Pause(ctx, backoff.Next(0)) {
			return nil, context.Cause(ctx)
		}
	}
}

func (t *Target) try(ctx context.Context, limit time.Duration, db string, cmd any) (bson.Raw, error) {
	s, err := t.find(ctx)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, errors.New("the primary did not answer in time"))
	defer cancel()
	raw, err := s.Run(limited, db, cmd)
	if err != nil {
		if limited.Err() != nil {
			err = context.Cause(limited)
		}
		if Passes(err) {
			t.lost(s)
		}
		return nil, err
	}
	return raw, nil
}

// Majority is the concern of every write: what is not on a Majority of the members does not count, and a set whose secondaries
// lag slows the restore down.
var Majority = bson.E{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}, {Key: "wtimeout", Value: 60_000}}}

// Write sends a command that changes something.
func (t *Target) Write(ctx context.Context, limit time.Duration, db string, cmd bson.D) (bson.Raw, error) {
	return t.Do(ctx, limit, db, append(cmd[:len(cmd):len(cmd)], Majority))
}

// Query gives the documents of a command that answers with a cursor, all batches of it. A cursor that dies in an election is
// begun again.
func (t *Target) Query(ctx context.Context, db string, cmd bson.D) ([]bson.Raw, error) {
	for {
		out, again, err := t.once(ctx, db, cmd)
		if err != nil || !again {
			return out, err
		}
	}
}

// codesOfCursors are the codes of a cursor that is no more.
var codesOfCursors = []int{43, 175, 237}

// maxListed bounds what is read of a list.
const maxListed = 1_000_000

func (t *Target) once(ctx context.Context, db string, cmd bson.D) (out []bson.Raw, again bool, err error) {
	raw, err := t.Do(ctx, Quick, db, cmd)
	batch := "firstBatch"
	for {
		if err != nil {
			return nil, false, err
		}
		docs, derr := documents(raw, "cursor", batch)
		if derr != nil {
			return nil, false, derr
		}
		if out = append(out, docs...); len(out) > maxListed {
			return nil, false, fmt.Errorf("%s has over %d entries", cmd[0].Key, maxListed)
		}
		id := Whole(raw, "cursor", "id")
		if id == 0 {
			return out, false, nil
		}
		_, coll, _ := strings.Cut(Text(raw, "cursor", "ns"), ".")
		raw, err = t.try(ctx, Quick, db, bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: coll}})
		if err != nil && ctx.Err() == nil && (Passes(err) || Is(err, codesOfCursors...)) {
			return nil, true, nil
		}
		batch = "nextBatch"
	}
}

// Lookup is a value in a server's answer, none where the answer has no such path.
func Lookup(doc bson.Raw, path ...string) bsoncore.Value {
	v, _ := bsoncore.Document(doc).LookupErr(path...)
	return v
}

// Text is a string in a server's answer, "" for none.
func Text(doc bson.Raw, path ...string) string {
	s, _ := Lookup(doc, path...).StringValueOK()
	return s
}

// Whole is a number in a server's answer, 0 for none; servers write whole numbers in any type.
func Whole(doc bson.Raw, path ...string) int64 {
	v := Lookup(doc, path...)
	if f, ok := v.DoubleOK(); ok {
		return int64(f)
	}
	n, _ := v.AsInt64OK()
	return n
}

func truth(doc bson.Raw, path ...string) bool {
	v := Lookup(doc, path...)
	if b, ok := v.BooleanOK(); ok {
		return b
	}
	n, ok := v.AsInt64OK()
	return ok && n != 0
}

func documents(doc bson.Raw, path ...string) ([]bson.Raw, error) {
	a, ok := Lookup(doc, path...).ArrayOK()
	if !ok {
		return nil, fmt.Errorf("the server's answer holds no %s", strings.Join(path, "."))
	}
	values, err := a.Values()
	if err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	out := make([]bson.Raw, 0, len(values))
	for _, v := range values {
		if d, ok := v.DocumentOK(); ok {
			out = append(out, bson.Raw(d))
		}
	}
	return out, nil
}

// Waiting is something that a person must do before the restore goes on.
type Waiting struct{ What string }

// Error says what.
func (e *Waiting) Error() string { return e.What }
