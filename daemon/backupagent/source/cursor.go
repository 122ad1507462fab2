package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Cursor reads what a find gives, batch by batch. It runs in a session of its own, which find by UUID demands. It is for one
// goroutine.
type Cursor struct {
	m       *Member
	session *mongo.Session
	db      string
	coll    string // as the answer calls it: a find by UUID learns the name
	id      int64
	first   *Batch
	await   time.Duration
	limit   time.Duration
}

// Batch is the documents of one answer. They share its memory.
type Batch struct {
	array bsoncore.Array
	Bytes int            // of the whole answer
	Time  bson.Timestamp // operationTime of the answer, zero if it has none
	Token bson.Raw       // of a Scan with Tokens: the place behind the last document; nil if there is none
}

// Each calls a function for every document, in order.
func (b *Batch) Each(each func(doc bson.Raw) error) error {
	return oplog.Elements(b.array, func(_ []byte, v bsoncore.Value) error {
		d, ok := v.DocumentOK()
		if !ok {
			return fmt.Errorf("a batch holds a %s", v.Type)
		}
		return each(bson.Raw(d))
	})
}

// Empty reports whether there is no document.
func (b *Batch) Empty() bool { return len(b.array) <= 5 }

// Find is what a cursor reads.
type Find struct {
	DB      string
	Command bson.D        // a find with everything but batchSize
	Batch   int32         // documents of the first answer; 0 leaves it to the server
	Await   time.Duration // of a tailable cursor: how long one answer may wait for news
}

// readLimit is how long one batch may take.
const readLimit = 5 * time.Minute

// Open sends the find.
func (m *Member) Open(ctx context.Context, f Find) (*Cursor, error) {
	session, err := m.client.StartSession(options.Session().SetCausalConsistency(false))
	if err != nil {
		return nil, fmt.Errorf("start a session on %s: %w", m.Address, err)
	}
	c := &Cursor{m: m, session: session, db: f.DB, await: f.Await, limit: readLimit + f.Await}
	cmd := f.Command
	if f.Batch > 0 {
		cmd = append(cmd[:len(cmd):len(cmd)], bson.E{Key: "batchSize", Value: f.Batch})
	}
	raw, err := m.run(mongo.NewSessionContext(ctx, session), c.limit, f.DB, cmd)
	if err != nil {
		session.EndSession(context.WithoutCancel(ctx))
		return nil, err
	}
	b, err := firstBatch(raw)
	if err != nil {
		session.EndSession(context.WithoutCancel(ctx))
		return nil, err
	}
	c.first, c.id = &b, whole(raw, "cursor", "id")
	_, c.coll = oplog.Split(text(raw, "cursor", "ns"))
	return c, nil
}

func firstBatch(raw bson.Raw) (Batch, error) { return batchOf(raw, "firstBatch") }

func batchOf(raw bson.Raw, name string) (Batch, error) {
	array, ok := lookup(raw, "cursor", name).ArrayOK()
	if !ok {
		return Batch{}, errors.New("the server's answer holds no " + name)
	}
	b := Batch{array: array, Bytes: len(raw)}
	b.Time.T, b.Time.I, _ = lookup(raw, "operationTime").TimestampOK()
	if t, ok := lookup(raw, "cursor", "postBatchResumeToken").DocumentOK(); ok {
		if id, err := t.LookupErr("$recordId"); err == nil && id.Type != bsoncore.TypeNull { // null is before the first record: no place to go on from
			b.Token = bson.Raw(t)
		}
	}
	return b, nil
}

// ErrEnd is what Next returns when there is no more, for a tailable cursor: when it is dead.
var ErrEnd = errors.New("the cursor has ended")

// Next gives the next batch; size is how many documents it may have, 0 leaves that to the server. A batch of a tailable cursor
// may be empty.
func (c *Cursor) Next(ctx context.Context, size int32) (Batch, error) {
	if c.first != nil {
		b := *c.first
		c.first = nil
		return b, nil
	}
	if c.id == 0 {
		return Batch{}, ErrEnd
	}
	cmd := bson.D{{Key: "getMore", Value: c.id}, {Key: "collection", Value: c.coll}}
	if size > 0 {
		cmd = append(cmd, bson.E{Key: "batchSize", Value: size})
	}
	if c.await > 0 {
		cmd = append(cmd, bson.E{Key: "maxTimeMS", Value: c.await.Milliseconds()})
	}
	raw, err := c.m.run(mongo.NewSessionContext(ctx, c.session), c.limit, c.db, cmd)
	if err != nil {
		c.id = 0
		return Batch{}, err
	}
	c.id = whole(raw, "cursor", "id")
	return batchOf(raw, "nextBatch")
}

// Close gives the cursor up.
func (c *Cursor) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if c.id != 0 {
		// Best effort: a server forgets cursors that nobody reads.
		_, _ = c.m.run(mongo.NewSessionContext(ctx, c.session), 2*time.Second, c.db, bson.D{{Key: "killCursors", Value: c.coll}, {Key: "cursors", Value: bson.A{c.id}}})
		c.id = 0
	}
	c.session.EndSession(ctx)
}

// Tail opens a tailable cursor on the majority-committed oplog, from a position on.
func (m *Member) Tail(ctx context.Context, from bson.Timestamp, await time.Duration) (*Cursor, error) {
	cmd := m.seeking(bson.D{
		{Key: "find", Value: oplogName},
		{Key: "filter", Value: bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: from}}}}},
		{Key: "tailable", Value: true},
		{Key: "awaitData", Value: true},
		majority,
	})
	return m.Open(ctx, Find{DB: "local", Command: cmd, Batch: 1000, Await: await})
}

// ByUUID opens a cursor on the documents of a collection that a filter takes, wherever it is called, as the majority has it.
// Nothing older than after is read: a member that has not got so far makes the find wait.
func (m *Member) ByUUID(ctx context.Context, db string, id oplog.UUID, after oplog.OpTime, filter bson.D) (*Cursor, error) {
	return m.byUUID(ctx, db, id, after, fewDocuments, bson.E{Key: "filter", Value: filter})
}

// fewDocuments is how many the first answer may have where nothing is known of their size: 16 MiB are the most in any case.
const fewDocuments = 100

func (m *Member) byUUID(ctx context.Context, db string, id oplog.UUID, after oplog.OpTime, first int32, more ...bson.E) (*Cursor, error) {
	cmd := append(bson.D{{Key: "find", Value: bson.Binary{Subtype: 4, Data: id[:]}}}, more...)
	concern := bson.D{{Key: "level", Value: "majority"}}
	if !after.IsZero() {
		concern = append(concern, bson.E{Key: "afterClusterTime", Value: after.TS})
	}
	cmd = append(cmd, bson.E{Key: "readConcern", Value: concern})
	return m.Open(ctx, Find{DB: db, Command: cmd, Batch: first})
}

// Scan is how a whole collection is read. Every order will do: whatever was there all the time is read once, and the rest is
// in the oplog.
type Scan struct {
	DB    string
	UUID  oplog.UUID
	After oplog.OpTime // nothing older is read
	First int32        // documents of the first answer; 0: few
	// Tokens wants records in the member's own order, the fastest, and with each batch the place behind it (4.4 and later); From is
	// such a place to begin behind, nil for the beginning. It means something on this member alone: see Identity.
	Tokens bool
	From   bson.Raw
	// ByID wants the documents in the order of _id, from FromID on, which is included; no type stands for the beginning. That means
	// the same on every member. It takes an index on _id.
	ByID   bool
	FromID bson.RawValue
}

// Scan opens a cursor on a collection.
func (m *Member) Scan(ctx context.Context, s Scan) (*Cursor, error) {
	var more []bson.E
	switch {
	case s.ByID:
		more = append(more, bson.E{Key: "hint", Value: bson.D{{Key: "_id", Value: 1}}})
		if s.FromID.Type != 0 {
			// An index has one order over all types and under the collection's collation; a filter would compare within one type.
			more = append(more, bson.E{Key: "min", Value: bson.D{{Key: "_id", Value: s.FromID}}})
		}
	case s.Tokens:
		more = append(more, bson.E{Key: "hint", Value: bson.D{{Key: "$natural", Value: 1}}}, bson.E{Key: "$_requestResumeToken", Value: true})
		if s.From != nil {
			more = append(more, bson.E{Key: "$_resumeAfter", Value: s.From})
		}
	}
	first := s.First
	if first <= 0 {
		first = fewDocuments
	}
	return m.byUUID(ctx, s.DB, s.UUID, s.After, first, more...)
}

// TokenWire is the version of the wire protocol from which on servers know the tokens of a Scan: that of 4.4.
const TokenWire = 9

// Identity stands for the member as the holder of one copy of the data: the numbers of records, and so the tokens of a Scan, are
// good for as long as it stays the same. It changes when the member is filled anew or rolled back; then records have other
// numbers. Servers judge each other in this way when they go on with an initial sync.
func (m *Member) Identity(ctx context.Context) (string, error) {
	h, err := m.Hello(ctx)
	if err != nil {
		return "", err
	}
	rollbacks, err := m.RollbackID(ctx)
	if err != nil {
		return "", err
	}
	// Each copy has made its own collection for the oplog. (initialSyncId would say the same; it is for servers alone.)
	raw, err := m.Run(ctx, "local", bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: oplogName}}}})
	if err != nil {
		return "", err
	}
	b, err := firstBatch(raw)
	if err != nil {
		return "", err
	}
	var uuid []byte
	err = b.Each(func(doc bson.Raw) error {
		_, uuid, _ = lookup(doc, "info", "uuid").BinaryOK()
		return nil
	})
	if err == nil && len(uuid) == 0 {
		err = fmt.Errorf("%s does not tell the UUID of its oplog", m.Address)
	}
	return fmt.Sprintf("%s %x %d", h.Me, uuid, rollbacks), err
}
