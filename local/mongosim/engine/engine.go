// Package engine keeps one simulated member's documents and answers the commands that read and write them, to the letter
// of a real server where recordings tell what that is. It is a test double: it is not MongoDB and must never be sold as it.
//
// This package is the door: it puts the table of commands (crud, ddl) and the member's data (member) together and names
// what a deployment needs. It knows nothing of networks, elections or other members; whoever builds a deployment plugs
// those in through Options: Commands answers the member's own commands (hello, replSetGetStatus, serverStatus), Gate refuses
// by member state, NextOpTime and OnWrite make an oplog, WaitWrite waits for other members, and Engine.Apply replays their
// entries.
package engine

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/admin"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/crud"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/ddl"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/stats"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// What a deployment builds on; see the packages they are from.
type (
	// Engine is one member's data.
	Engine = member.Engine
	// Options make an Engine.
	Options = member.Options
	// Version is a server version.
	Version = member.Version
	// Session is one client connection's state.
	Session = member.Session
	// Principal is an authenticated user.
	Principal = member.Principal
	// Role is a role granted on a database.
	Role = member.Role
	// Request is a command as Options.Gate sees it.
	Request = member.Request
	// Kind says what a command does to the data.
	Kind = member.Kind
	// WriteConcern is what a write asked for.
	WriteConcern = member.WriteConcern
	// Counters count real operations.
	Counters = stats.Counters
	// CommandCount is one line of metrics.commands.
	CommandCount = stats.CommandCount
	// NamespaceSize is what a collection takes.
	NamespaceSize = store.NamespaceSize
	// IndexSize is what an index takes.
	IndexSize = store.IndexSize
	// Error is a refusal as a client sees it.
	Error = refuse.Error
	// OplogEntry is one entry of the oplog.
	OplogEntry = oplog.Entry
	// OpTime is a position in the oplog.
	OpTime = oplog.OpTime
)

// The kinds of commands.
const (
	KindOther = member.KindOther
	KindRead  = member.KindRead
	KindWrite = member.KindWrite
)

// OplogNS is the collection of the oplog.
const OplogNS = oplog.NS

// Open makes an engine and reads back what its dbpath holds.
func Open(o Options) (*Engine, error) {
	o.Lookup = lookup
	return member.Open(o)
}

// Errf makes a refusal.
func Errf(code int32, format string, args ...any) *Error { return refuse.Errf(code, format, args...) }

// CodeName is the server's name of a code.
func CodeName(code int32) string { return refuse.CodeName(code) }

// ErrorReply is the reply of a refused command.
func ErrorReply(err *Error) bson.Raw { return refuse.Reply(err) }

// RetryableCode says that a write refused with this code may be sent again.
func RetryableCode(code int32) bool { return refuse.Retryable(code) }

// ParseOplogEntry reads an oplog entry from its document.
func ParseOplogEntry(doc bson.Raw) OplogEntry { return oplog.Parse(doc) }

// ParseWriteConcern reads a command's writeConcern.
func ParseWriteConcern(cmd bson.Raw) WriteConcern { return member.ParseWriteConcern(cmd) }

// Initiate is what the first primary of a set does before it opens its first term.
func Initiate(e *Engine, msg bson.Raw) error { return admin.Initiate(e, msg) }

// Settle is what the first primary of a set does once it leads.
func Settle(e *Engine) error { return admin.Settle(e) }

// ResizeOplog changes the oplog's size in bytes and drops what no longer fits.
func ResizeOplog(e *Engine, bytes int64) { admin.Resize(e, bytes) }

// lookup finds a command. The table is code so that no state is shared.
func lookup(name string) (member.Command, bool) {
	switch name {
	case "insert":
		return member.Command{Run: crud.Insert, Kind: member.KindWrite}, true
	case "update":
		return member.Command{Run: crud.Update, Kind: member.KindWrite}, true
	case "delete":
		return member.Command{Run: crud.Delete, Kind: member.KindWrite}, true
	case "findAndModify", "findandmodify":
		return member.Command{Run: crud.FindAndModify, Kind: member.KindWrite}, true
	case "find":
		return member.Command{Run: crud.Find, Kind: member.KindRead}, true
	case "getMore":
		return member.Command{Run: crud.GetMore, Kind: member.KindRead}, true
	case "killCursors":
		return member.Command{Run: crud.KillCursors}, true
	case "count":
		return member.Command{Run: crud.Count, Kind: member.KindRead}, true
	case "distinct":
		return member.Command{Run: crud.Distinct, Kind: member.KindRead}, true
	case "aggregate":
		return member.Command{Run: crud.Aggregate, Kind: member.KindRead}, true
	case "create":
		return member.Command{Run: ddl.Create, Kind: member.KindWrite}, true
	case "drop":
		return member.Command{Run: ddl.Drop, Kind: member.KindWrite}, true
	case "dropDatabase":
		return member.Command{Run: ddl.DropDatabase, Kind: member.KindWrite}, true
	case "createIndexes":
		return member.Command{Run: ddl.CreateIndexes, Kind: member.KindWrite}, true
	case "dropIndexes", "deleteIndexes":
		return member.Command{Run: ddl.DropIndexes, Kind: member.KindWrite}, true
	case "listIndexes":
		return member.Command{Run: ddl.ListIndexes, Kind: member.KindRead}, true
	case "listCollections":
		return member.Command{Run: ddl.ListCollections, Kind: member.KindRead}, true
	case "listDatabases":
		return member.Command{Run: ddl.ListDatabases, Kind: member.KindRead, Admin: true}, true
	case "collMod":
		return member.Command{Run: ddl.CollMod, Kind: member.KindWrite}, true
	case "convertToCapped":
		return member.Command{Run: ddl.ConvertToCapped, Kind: member.KindWrite}, true
	case "renameCollection":
		return member.Command{Run: ddl.RenameCollection, Kind: member.KindWrite, Admin: true}, true
	case "applyOps":
		return member.Command{Run: ddl.ApplyOps, Kind: member.KindWrite, Admin: true}, true
	case "validate":
		return member.Command{Run: ddl.Validate, Kind: member.KindRead}, true
	case "dbStats", "dbstats":
		return member.Command{Run: ddl.DbStats, Kind: member.KindRead}, true
	case "collStats", "collstats":
		return member.Command{Run: ddl.CollStats, Kind: member.KindRead}, true
	case "startSession", "endSessions", "refreshSessions", "killSessions", "killAllSessions", "killAllSessionsByPattern":
		return member.Command{Run: member.SessionCommand}, true
	case "commitTransaction":
		return member.Command{Run: member.CommitTransaction, Kind: member.KindWrite, Admin: true}, true
	case "appendOplogNote":
		return member.Command{Run: admin.AppendOplogNote, Kind: member.KindWrite, Admin: true}, true
	case "replSetResizeOplog":
		return member.Command{Run: admin.ResizeOplog, Admin: true}, true
	case "setFeatureCompatibilityVersion":
		return member.Command{Run: admin.SetFCV, Kind: member.KindWrite, Admin: true}, true
	case "_mergeAuthzCollections":
		return member.Command{Run: admin.MergeAuthzCollections, Kind: member.KindWrite, Admin: true}, true
	case "prepareTransaction":
		return member.Command{Run: member.PrepareTransaction, Kind: member.KindWrite, Admin: true}, true
	case "abortTransaction":
		return member.Command{Run: member.AbortTransaction, Kind: member.KindWrite, Admin: true}, true
	case "ping", "logout", "logRotate":
		return member.Command{Run: func(*member.Call) (*bsonval.Builder, error) { return &bsonval.Builder{}, nil }}, true
	case "hello", "isMaster", "ismaster":
		return member.Command{Run: ddl.Hello}, true
	case "buildInfo", "buildinfo":
		return member.Command{Run: ddl.BuildInfo}, true
	case "whatsmyuri":
		return member.Command{Run: func(c *member.Call) (*bsonval.Builder, error) {
			return new(bsonval.Builder).String("you", c.Session.Remote), nil
		}}, true
	case "fsync":
		return member.Command{Run: crud.Fsync}, true
	}
	return member.Command{}, false
}
