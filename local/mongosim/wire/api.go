// Package wire speaks the wire protocol for a simulated member: it listens, frames, compresses, authenticates and
// authorizes, and hands every command to a Handler. It owns connections and nothing else; it knows no documents.
//
// Spoken: OP_MSG with document sequences, checksums, moreToCome and exhaust replies for the awaitable hello; OP_QUERY on
// $cmd for the first hello of old drivers; OP_COMPRESSED with zstd, zlib and snappy; TLS with optional client
// certificates; SCRAM-SHA-1, SCRAM-SHA-256 (also speculative) and MONGODB-X509.
package wire

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
)

// Handler answers commands. cmd holds everything of the message: document sequences are folded in as arrays. For an
// awaitable hello (topologyVersion and maxAwaitTimeMS) it blocks until there is news; the wire does the exhaust
// streaming by asking again with the topologyVersion of the last reply. To hello and isMaster replies the wire itself adds
// connectionId, compression, saslSupportedMechs and speculativeAuthenticate.
type Handler interface {
	Handle(ctx context.Context, s *engine.Session, db string, cmd bson.Raw) bson.Raw
}

// Options make a Server.
type Options struct {
	Handler Handler
	TLS     *tls.Config // nil: plain; set ClientAuth and ClientCAs for client certificates
	Users   *Users      // nil: no access control
	Log     *slog.Logger
	// Compressors offered, in order of preference; nil is snappy, zstd, zlib.
	Compressors []string
	// Delay, when set, is asked before each reply; it may block to simulate a slow network.
	Delay func(ctx context.Context, s *engine.Session, cmd string)
	// MaxConnections refuses more; zero is 65,536.
	MaxConnections int64
	// ConnectionIDs, when set, is shared by the members of one process; nil makes a private one.
	ConnectionIDs *atomic.Int64
}

// Counters of one server; all may be read at any time.
type Counters struct {
	BytesIn, BytesOut, PhysicalBytesIn, PhysicalBytesOut, Requests          atomic.Int64
	Current, TotalCreated, Active, ExhaustHello, AwaitingTopology, Rejected atomic.Int64
	AuthAttempts, AuthSuccesses                                             atomic.Int64
}

// ConnInfo describes an open connection, for currentOp and tests.
type ConnInfo struct {
	Session *engine.Session
	Command string    // the running command's name; empty when idle
	Since   time.Time // since when
}

// Serve accepts connections until ctx ends, then closes them all and returns nil; it is New and Server.Serve in one.
func Serve(ctx context.Context, ln net.Listener, h Handler, o Options) error {
	o.Handler = h
	return New(o).Serve(ctx, ln)
}
