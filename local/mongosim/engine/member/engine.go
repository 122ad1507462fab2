// Package member is one simulated member's data and what surrounds every command: collections and the journal under one
// lock, sessions, retryable writes and transactions, the oplog and its replay. The commands themselves are in crud and ddl;
// it does not know them, but is given a table of them.
package member

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/cursor"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/past"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/session"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/stats"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// WriteConcern is what a command asked for. W is empty when it asked for nothing.
type WriteConcern struct {
	W        string // "majority", a number as text, or a tag set's name
	Journal  bool
	WTimeout time.Duration
}

// Options make an Engine. The zero value is a standalone member kept in memory.
type Options struct {
	// DBPath is the folder of the journal and the snapshot; empty keeps everything in memory only.
	DBPath string
	// NoSync leaves out fsync: what was acknowledged then survives the death of the process, not of the machine.
	NoSync bool
	// DirectoryPerDB makes a folder of the dbpath for each database.
	DirectoryPerDB bool
	// Log may be nil.
	Log *slog.Logger
	// Clock is the member's wall clock; nil is time.Now.
	Clock func() time.Time
	// Commands is asked first: a member's own commands, or other answers to known ones. It says false to pass.
	Commands func(ctx context.Context, s *Session, db, name string, cmd bson.Raw) (bson.Raw, bool)
	// Gate refuses a command by the member's state (NotWritablePrimary, NotPrimaryOrSecondary...). It is called before the
	// command runs and, for writes, once more with the write lock held, so that a step-down made within Exclusive cannot
	// race with a write. Internal sessions are not asked about.
	Gate func(s *Session, req *Request) *refuse.Error
	// NextOpTime gives the position of the next oplog entry; called with the write lock held. Nil: no oplog is kept
	// (a standalone).
	NextOpTime func() oplog.OpTime
	// OnWrite is told of each new oplog entry, in order, with the write lock held; it must not call the engine.
	OnWrite func(oplog.Entry)
	// Committed is the newest entry that a majority of the members has, as far as this one knows, and is not newer than its own;
	// moved is closed when that changes. It may be called with the lock held. Nil: reads with majority concern see everything.
	Committed func() (at oplog.OpTime, moved <-chan struct{})
	// TxnEntryBytes is how much of a transaction goes into one entry; zero is 16 MiB, as a server's.
	TxnEntryBytes int
	// WaitWrite waits, after a write, for other members. An error becomes the reply's writeConcernError.
	WaitWrite func(ctx context.Context, s *Session, wc WriteConcern, at oplog.OpTime) *refuse.Error
	// Trailer gives the fields that end each reply ($clusterTime, operationTime), as a document.
	Trailer func(s *Session, db, name string, ok bool) bson.Raw
	// Version is the server version to behave like where versions differ; zero is that of the recordings, 4.5.
	Version Version
	// DiffUpdates writes update entries as $v: 2 diffs (servers from 5.0), else as $v: 1.
	DiffUpdates bool
	// HostPort, when set, writes index builds over documents as startIndexBuild and commitIndexBuild entries, as 4.4 and
	// later do, with this member's name in them.
	HostPort string
	// Stats counts what really happened; nil makes a private one.
	Stats *stats.Counters
	// Lookup finds the commands; the engine package fills it in.
	Lookup func(name string) (Command, bool)
	// AwaitData is how long a getMore waits by default on a tailable cursor; zero is one second.
	AwaitData time.Duration
}

// Version is a server version without the patch level.
type Version struct{ Major, Minor int }

// AtLeast says that the version is major.minor or later.
func (v Version) AtLeast(major, minor int) bool {
	if v == (Version{}) {
		v = Version{4, 5}
	}
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// StmtResult is what a retried statement answers again.
type StmtResult = session.Result

// Session is one client connection's state, made by the listener. One goroutine uses it at a time.
type Session struct {
	ID       int64     // connection id, as in hello's connectionId
	Remote   string    // the client's address
	Local    string    // the address it dialled
	Since    time.Time // when it connected
	AppName  string
	Client   bson.Raw // client metadata of the first hello
	Users    []Principal
	Internal bool // a member's own access: no gate, no authorization
}

// Principal is an authenticated user.
type Principal struct {
	Name, DB string
	Roles    []Role
}

// Role is a role granted on a database.
type Role struct{ Role, DB string }

// Request is a command as the Gate sees it.
type Request struct {
	Name, DB string
	Cmd      bson.Raw
	Kind     Kind
	// SecondaryOK says that the client accepts a secondary's answer ($readPreference or the wire flag).
	SecondaryOK bool
	// Local says that the command addresses the local database only, which every member may read and write.
	Local bool
	// Oplog says that it is the oplog that is addressed: it cannot be read during a rollback or an initial sync.
	Oplog bool
}

// Kind says what a command does to the data.
type Kind int

// The kinds of commands.
const (
	KindOther Kind = iota // neither reads nor writes user data
	KindRead
	KindWrite
)

// Engine is one member's data. All methods are safe for concurrent use.
type Engine struct {
	o     Options
	stats *stats.Counters

	mu    sync.RWMutex // guards st, txns and everything reachable from them
	st    *store.State
	batch store.Batch // changes made under mu and not yet handed to the journal
	jn    *store.Journal

	last    oplog.OpTime
	changed chan struct{} // closed and replaced whenever something was written: wakes tailable cursors
	closed  bool

	// Cursors are the member's open cursors.
	Cursors *cursor.Table

	sess *session.Table          // guarded by mu
	lock map[string]*session.Txn // documents that open transactions wrote; guarded by mu
	past past.Log                // guarded by mu
}

// Run answers one command. The reply is always a document; a refusal is {ok: 0, errmsg, code, codeName}.
func (e *Engine) Run(ctx context.Context, s *Session, db string, cmd bson.Raw) bson.Raw {
	return e.run(ctx, s, db, cmd)
}

// Exclusive runs f while nothing else reads or writes; a deployment changes a member's state in it.
func (e *Engine) Exclusive(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// LastOpTime is the position of the newest oplog entry this member holds.
func (e *Engine) LastOpTime() oplog.OpTime {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.last
}

// Stats are the engine's counters.
func (e *Engine) Stats() *stats.Counters { return e.stats }

// Changed is closed at the next write; a deployment's replication waits on it.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.changed
}

// wake tells all waiters that something was written; mu is held.
func (e *Engine) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// Now is the member's wall clock.
func (e *Engine) Now() time.Time { return e.o.Clock() }

// Options are what the engine was opened with. They must not be changed.
func (e *Engine) Options() *Options { return &e.o }

// Main is the member's own state. The lock must be held.
func (e *Engine) Main() *store.State { return e.st }

// View runs f with the member's state while nothing is written. It gives the channel that the next write closes and says
// whether the engine is closed.
func (e *Engine) View(f func(*store.State)) (changed <-chan struct{}, closed bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	f(e.st)
	return e.changed, e.closed
}

// KillCursors ends all cursors, as a rollback or a removal does.
func (e *Engine) KillCursors() {
	e.Cursors.KillAll(refuse.Errf(refuse.CodeInterruptedStateChange, "operation was interrupted"))
}

// OpenCursors is the number of open cursors.
func (e *Engine) OpenCursors() int { return e.Cursors.Len() }
