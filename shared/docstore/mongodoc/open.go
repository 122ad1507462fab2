// Package mongodoc is the document engine on a MongoDB replica set, by ordinary commands of servers 4.2 to 8: find, insert,
// update, delete, createIndexes, listIndexes and hello.
//
// Reads come from the primary with majority read concern, writes are acknowledged by a majority. A document is stored flat:
// _id, _rev, then the body's fields. Revisions are random numbers of 63 bits, made here before the write is sent, so that
// after a lost answer or a retry the engine can tell its own write by its revision.
package mongodoc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/obs"
)

var _ docstore.Engine = (*Engine)(nil)

// Options say where the database is. URI and Database are needed.
type Options struct {
	URI      string      // mongodb://a,b,c/?replicaSet=rs0; credentials and TLS as in any connection string
	Database string      // where the collections are
	AppName  string      // shown in the server's log; "heartwood" when empty
	TLS      *tls.Config // instead of the URI's files; nil leaves the URI's
	Log      *slog.Logger

	// SelectionTimeout is how long a call waits for a primary before ErrUnavailable, unless the URI says so
	// (serverSelectionTimeoutMS); 10 s when 0, enough for an election.
	SelectionTimeout time.Duration
	// Timeout bounds a call whose context has no deadline; 30 s when 0. Within its deadline a call is tried again for as long
	// as trying again is safe (reads, and writes that the server knows by their number), which rides out an election.
	Timeout time.Duration
	// PoolSize bounds the connections to each server, unless the URI says so (maxPoolSize); 0: the driver's own bound. With a
	// bound, connections that were not used for a minute are closed.
	PoolSize uint64
	// Configure may change the driver's options last, for tests.
	Configure func(*options.ClientOptions)
}

// Engine is a connected database. See docstore.Engine for its methods.
type Engine struct {
	client  *mongo.Client
	db      *mongo.Database
	log     *slog.Logger
	timeout time.Duration
	closed  atomic.Bool
	dialer  *dialer

	ensure sync.Mutex // one Ensure at a time changes schema
	schema atomic.Pointer[docstore.Schema]
}

// silence is how long a server may leave a connection or a heartbeat unanswered, and how often heartbeats are, unless the URI
// says so. What waits for a server that hangs is cut off and tried elsewhere after three times as long: the driver's own
// values make that 70 s, longer than our callers wait.
const silence = 5 * time.Second

// idleAtMost is how long a connection of a bounded pool stays open unused.
const idleAtMost = time.Minute

// closeWithin bounds Close.
const closeWithin = 5 * time.Second

var errTooSlow = errors.New("the database took longer than mongodoc's timeout")

// Open prepares the engine; it does not wait for a server, so that a program can start while its database is away.
func Open(o Options) (*Engine, error) {
	if o.URI == "" || o.Database == "" {
		return nil, errors.New("mongodoc: Options.URI and Options.Database are needed")
	}
	if o.AppName == "" {
		o.AppName = "heartwood"
	}
	if o.SelectionTimeout == 0 {
		o.SelectionTimeout = 10 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	opts := options.Client().SetConnectTimeout(silence).SetHeartbeatInterval(silence).SetServerSelectionTimeout(o.SelectionTimeout)
	if o.PoolSize > 0 {
		opts.SetMaxPoolSize(o.PoolSize).SetMaxConnIdleTime(idleAtMost)
	}
	opts.ApplyURI(o.URI).SetAppName(o.AppName).
		SetReadPreference(readpref.Primary()).
		SetReadConcern(readconcern.Majority()).
		SetWriteConcern(writeconcern.Majority()).
		SetMonitor(sentMonitor())
	if o.TLS != nil {
		opts.SetTLSConfig(o.TLS)
	}
	if o.Configure != nil {
		o.Configure(opts)
	}
	d := newDialer(opts.Dialer)
	client, err := mongo.Connect(opts.SetDialer(d))
	if err != nil {
		return nil, fmt.Errorf("mongodoc: %w", err)
	}
	e := &Engine{client: client, db: client.Database(o.Database), log: o.Log, timeout: o.Timeout, dialer: d}
	s, err := (*docstore.Schema)(nil).With(nil)
	if err != nil {
		return nil, err
	}
	e.schema.Store(s)
	return e, nil
}

// Close disconnects.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), closeWithin)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- e.client.Disconnect(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(closeWithin / 10):
		// What still has a connection now is a heartbeat.
		e.dialer.hangUp()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("disconnect: %w", ctx.Err())
	}
}

// enter checks that the engine may be used and bounds the call.
func (e *Engine) enter(ctx context.Context) (context.Context, context.CancelFunc, error) {
	return e.enterFor(ctx, e.timeout)
}

func (e *Engine) enterFor(ctx context.Context, within time.Duration) (context.Context, context.CancelFunc, error) {
	if e.closed.Load() {
		return nil, nil, fmt.Errorf("%w: the engine is closed", docstore.ErrUnavailable)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}, nil
	}
	ctx, stop := context.WithTimeoutCause(ctx, within, errTooSlow)
	return ctx, stop, nil
}

// Now is the clock of the primary.
func (e *Engine) Now(ctx context.Context) (time.Time, error) {
	h, err := e.hello(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return h.LocalTime.UTC(), nil
}

type hello struct {
	LocalTime time.Time `bson:"localTime"`
	SetName   string    `bson:"setName"`
	Hosts     []string  `bson:"hosts"`
	Msg       string    `bson:"msg"`
}

func (e *Engine) hello(ctx context.Context) (hello, error) {
	ctx, stop, err := e.enter(ctx)
	if err != nil {
		return hello{}, err
	}
	defer stop()
	var h hello
	err = e.db.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&h)
	var ce mongo.CommandError
	if errors.As(err, &ce) && ce.Code == codeCommandNotFound {
		// Before 4.4.2 the command has its old name only.
		err = e.db.RunCommand(ctx, bson.D{{Key: "isMaster", Value: 1}}).Decode(&h)
	}
	if err != nil {
		return hello{}, e.readError(ctx, err)
	}
	return h, nil
}

// Deployment says what answers behind the URI.
type Deployment struct {
	SetName string   // empty for a standalone server or a mongos
	Hosts   []string // the set's members that hold data
	Mongos  bool
}

// Deployment asks the primary. Its error is for people: it says of each address what is wrong with it.
func (e *Engine) Deployment(ctx context.Context) (Deployment, error) {
	h, err := e.hello(ctx)
	if err != nil {
		return Deployment{}, explain(err)
	}
	return Deployment{SetName: h.SetName, Hosts: h.Hosts, Mongos: h.Msg == "isdbgrid"}, nil
}
