// Package source is the replica set that a backup reads: which member is read, over connections of the agent's own, and what
// a member tells of itself, its set and its oplog. Nothing here changes a source, but for the note that Note writes.
package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
)

// Error codes of servers that decide what a reader does.
const (
	codeUnauthorized       = 13
	codeAuthFailed         = 18
	codeNamespaceNotFound  = 26
	codeCommandNotFound    = 59
	codeUnknownField       = 40415
	codeFailedToParse      = 9
	codeTypeMismatch       = 14
	codeBadValue           = 2
	codeInvalidNamespace   = 73
	codeCappedPositionLost = 136
	codeCursorNotFound     = 43
	codeQueryPlanKilled    = 175
	codeKeyNotFound        = 211
	codeMajorityOff        = 148
	codeCursorKilled       = 237
	codeInterrupted        = 11601
)

// Is reports whether an error is a server's with one of the codes.
func Is(err error, codes ...int32) bool {
	var c mongo.CommandError
	if !errors.As(err, &c) {
		return false
	}
	for _, code := range codes {
		if c.Code == code {
			return true
		}
	}
	return false
}

// Gone reports whether an error says that a collection is no more.
func Gone(err error) bool { return Is(err, codeNamespaceNotFound) }

// Overrun reports whether a reader of a capped collection was overtaken by its writers.
func Overrun(err error) bool { return Is(err, codeCappedPositionLost) }

// Interrupted reports whether a cursor died although its collection may be there and the member works: the collection was
// renamed or dropped, or somebody or the server itself ended the cursor.
func Interrupted(err error) bool {
	return Is(err, codeQueryPlanKilled, codeCursorNotFound, codeCursorKilled, codeInterrupted)
}

// Refusal reports whether a server answered and said no, whatever for.
func Refusal(err error) bool {
	var c mongo.CommandError
	return errors.As(err, &c) && !c.HasErrorLabel("NetworkError")
}

// Forgotten reports whether the record that a Scan was to go on behind is no more.
func Forgotten(err error) bool { return Is(err, codeKeyNotFound) }

// Denied reports whether a server refused the user, or what the user wanted.
func Denied(err error) bool { return Is(err, codeUnauthorized, codeAuthFailed) }

// Unknown reports whether a server did not understand a command's form.
func Unknown(err error) bool {
	return Is(err, codeUnknownField, codeFailedToParse, codeTypeMismatch, codeBadValue, codeInvalidNamespace)
}

// commandLimit is how long a command may take that is expected to answer at once.
const commandLimit = 30 * time.Second

// Member is the connection to one member. It is safe for concurrent use.
type Member struct {
	Address string // host:port that is dialled

	client *mongo.Client
	close  sync.Once
	wire   atomic.Int64 // Hello.Wire as it was told last; 0: not yet
}

// untimed hides the deadline of a context, not its end: the driver would turn the deadline into a maxTimeMS of its own.
type untimed struct{ context.Context }

// Deadline reports none.
func (untimed) Deadline() (time.Time, bool) { return time.Time{}, false }

// Run sends one command that is expected to answer at once.
func (m *Member) Run(ctx context.Context, db string, cmd bson.D) (bson.Raw, error) {
	return m.run(ctx, commandLimit, db, cmd)
}

func (m *Member) run(ctx context.Context, limit time.Duration, db string, cmd bson.D) (bson.Raw, error) {
	limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s did not answer %s in time", m.Address, cmd[0].Key))
	defer cancel()
	raw, err := m.client.Database(db).RunCommand(untimed{limited}, cmd, options.RunCmd().SetReadPreference(readpref.SecondaryPreferred())).Raw()
	switch {
	case err == nil:
		return raw, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case limited.Err() != nil:
		return nil, context.Cause(limited)
	}
	return nil, fmt.Errorf("%s on %s: %w", cmd[0].Key, m.Address, err) // the driver gives the refusal's document too, which is no reply
}

// Close cuts off what is under way.
func (m *Member) Close() {
	m.close.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what is still running is cut off, not waited for
		_ = m.client.Disconnect(ctx)
	})
}

// Hello is what a member says of itself.
type Hello struct {
	SetName   string
	Me        string
	Primary   bool
	Secondary bool
	Hidden    bool
	Wire      int64        // highest version of the wire protocol: 8 is 4.2, 9 is 4.4
	Last      oplog.OpTime // its newest entry
	LastWall  time.Time
	Majority  oplog.OpTime // its newest entry that it knows to be majority-committed
	MajWall   time.Time
}

// Hello asks.
func (m *Member) Hello(ctx context.Context) (Hello, error) {
	raw, err := m.Run(ctx, "admin", bson.D{{Key: "hello", Value: 1}})
	if Is(err, codeCommandNotFound) { // before 4.4.2
		raw, err = m.Run(ctx, "admin", bson.D{{Key: "isMaster", Value: 1}})
	}
	if err != nil {
		return Hello{}, err
	}
	h := Hello{
		SetName: text(raw, "setName"), Me: text(raw, "me"), Primary: truth(raw, "isWritablePrimary") || truth(raw, "ismaster"),
		Secondary: truth(raw, "secondary"), Hidden: truth(raw, "hidden"), Wire: whole(raw, "maxWireVersion"),
		Last: opTime(raw, "lastWrite", "opTime"), Majority: opTime(raw, "lastWrite", "majorityOpTime"),
		LastWall: wall(raw, "lastWrite", "lastWriteDate"), MajWall: wall(raw, "lastWrite", "majorityWriteDate"),
	}
	m.wire.Store(h.Wire)
	return h, nil
}

// seeking adds to a find on the oplog from a position on what makes a server before 4.4 seek to it, not walk.
func (m *Member) seeking(cmd bson.D) bson.D {
	if w := m.wire.Load(); w > 0 && w < TokenWire {
		cmd = append(cmd, bson.E{Key: "oplogReplay", Value: true})
	}
	return cmd
}

// Version is the server's release and its feature compatibility version, as far as it tells.
func (m *Member) Version(ctx context.Context) (version, fcv string, err error) {
	info, err := m.Run(ctx, "admin", bson.D{{Key: "buildInfo", Value: 1}})
	if err != nil {
		return "", "", err
	}
	version = text(info, "version")
	param, err := m.Run(ctx, "admin", bson.D{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}})
	if err != nil {
		if ctx.Err() != nil {
			return "", "", err
		}
		return version, "", nil // a right that monitoring has and backup alone may lack
	}
	if fcv = text(param, "featureCompatibilityVersion", "version"); fcv == "" {
		fcv = text(param, "featureCompatibilityVersion")
	}
	return version, fcv, nil
}

// RollbackID grows with every rollback of the member. The command replSetGetRBID is for servers alone; serverStatus, which
// monitoring may ask, tells the same.
func (m *Member) RollbackID(ctx context.Context) (int64, error) {
	cmd := bson.D{{Key: "serverStatus", Value: 1}, {Key: "repl", Value: 1}}
	for _, costly := range []string{"metrics", "locks", "wiredTiger", "tcmalloc", "opLatencies", "opcounters", "queryAnalyzers"} {
		cmd = append(cmd, bson.E{Key: costly, Value: 0})
	}
	raw, err := m.Run(ctx, "admin", cmd)
	if err != nil {
		return 0, err
	}
	id, ok := number(raw, "repl", "rbid")
	if !ok {
		return 0, fmt.Errorf("%s does not tell its rollback id: it is no member that works", m.Address)
	}
	return id, nil
}

// Ends are the oldest entry of the member's oplog and the newest one that is majority-committed, with their wall clocks.
type Ends struct {
	Oldest, Newest         oplog.OpTime
	OldestWall, NewestWall time.Time
}

// oplogName is the collection of the oplog in the database local.
const oplogName = "oplog.rs"

// Ends reads both ends.
func (m *Member) Ends(ctx context.Context) (Ends, error) {
	var e Ends
	newest, err := m.edge(ctx, -1)
	if err != nil {
		return e, err
	}
	oldest, err := m.edge(ctx, 1) // last: what it shows to be gone was gone by now
	if err != nil {
		return e, err
	}
	e.Oldest, e.Newest, e.OldestWall, e.NewestWall = position(oldest), position(newest), wall(oldest, "wall"), wall(newest, "wall")
	return e, nil
}

// ErrNoOplog is in the chain of errors about a member whose oplog is empty or not there.
var ErrNoOplog = errors.New("the member has no oplog")

// edge is the first or last entry of the majority-committed oplog. A snapshot of the majority has no holes, so that a reverse
// scan of it may be trusted.
func (m *Member) edge(ctx context.Context, direction int) (bson.Raw, error) {
	docs, err := m.find(ctx, bson.D{
		{Key: "find", Value: oplogName},
		{Key: "sort", Value: bson.D{{Key: "$natural", Value: direction}}},
		{Key: "limit", Value: 1},
		{Key: "singleBatch", Value: true},
		majority,
	})
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("%s: %w", m.Address, ErrNoOplog)
	}
	return docs[0], nil
}

// At is the entry at a position, nil when the majority-committed oplog has none there.
func (m *Member) At(ctx context.Context, ts bson.Timestamp) (bson.Raw, error) {
	docs, err := m.find(ctx, m.seeking(bson.D{
		{Key: "find", Value: oplogName},
		{Key: "filter", Value: bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: ts}}}}},
		{Key: "limit", Value: 1},
		{Key: "singleBatch", Value: true},
		majority,
	}))
	if err != nil || len(docs) == 0 || position(docs[0]).TS != ts {
		return nil, err
	}
	return docs[0], nil
}

var majority = bson.E{Key: "readConcern", Value: bson.D{{Key: "level", Value: "majority"}}}

// find runs a find on local whose answer is one batch.
func (m *Member) find(ctx context.Context, cmd bson.D) ([]bson.Raw, error) {
	raw, err := m.run(ctx, 5*time.Minute, "local", cmd) // before 4.4 it may have to walk
	if err != nil {
		return nil, err
	}
	var docs []bson.Raw
	b, err := firstBatch(raw)
	if err != nil {
		return nil, err
	}
	err = b.Each(func(doc bson.Raw) error {
		docs = append(docs, doc)
		return nil
	})
	return docs, err
}

// Saved makes what a tailer knows of an entry.
func Saved(raw bson.Raw, setID bson.ObjectID) chain.Saved {
	return chain.Saved{At: position(raw), Entry: chain.EntryDigest(raw), ReplicaSetID: setID}
}

// Note writes a no-op into the oplog of a primary: a sign of life where a source has been silent for long.
func (m *Member) Note(ctx context.Context) error {
	_, err := m.Run(ctx, "admin", bson.D{{Key: "appendOplogNote", Value: 1}, {Key: "data", Value: bson.D{{Key: "heartwood", Value: "backup heartbeat"}}}})
	return err
}

func position(entry bson.Raw) oplog.OpTime {
	at := oplog.OpTime{Term: -1}
	v, _ := oplog.Lookup(entry, "ts")
	at.TS.T, at.TS.I, _ = v.TimestampOK()
	if t, ok := number(entry, "t"); ok {
		at.Term = t
	}
	return at
}

func lookup(doc bson.Raw, path ...string) bsoncore.Value {
	v, _ := bsoncore.Document(doc).LookupErr(path...)
	return v
}

func text(doc bson.Raw, path ...string) string {
	s, _ := lookup(doc, path...).StringValueOK()
	return s
}

func number(doc bson.Raw, path ...string) (int64, bool) {
	v := lookup(doc, path...)
	if f, ok := v.DoubleOK(); ok {
		return int64(f), true
	}
	return v.AsInt64OK()
}

func whole(doc bson.Raw, path ...string) int64 {
	n, _ := number(doc, path...)
	return n
}

func truth(doc bson.Raw, path ...string) bool {
	v := lookup(doc, path...)
	if b, ok := v.BooleanOK(); ok {
		return b
	}
	n, ok := v.AsInt64OK()
	return ok && n != 0
}

func wall(doc bson.Raw, path ...string) time.Time {
	t, ok := lookup(doc, path...).TimeOK()
	if !ok {
		return time.Time{}
	}
	return t.UTC()
}

func opTime(doc bson.Raw, path ...string) oplog.OpTime {
	d, ok := lookup(doc, path...).DocumentOK()
	if !ok {
		return oplog.OpTime{}
	}
	return position(bson.Raw(d))
}
