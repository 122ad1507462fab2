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
func (m *Member) Tail(ctx context.Context, from bson.Timestamp, wire int64, await time.Duration) (*Cursor, error) {
	cmd := bson.D{
		{Key: "find", Value: oplogName},
		{Key: "filter", Value: bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: from}}}}},
		{Key: "tailable", Value: true},
		{Key: "awaitData", Value: true},
		majority,
	}
	if wire < 9 { // 4.4 seeks by itself
		cmd = append(cmd, bson.E{Key: "oplogReplay", Value: true})
	}
	return m.Open(ctx, Find{DB: "local", Command: cmd, Batch: 1000, Await: await})
}

// ByUUID opens a cursor on a collection, wherever it is called, as the majority has it. Nothing older than after is read: a
// member that has not got so far makes the find wait.
func (m *Member) ByUUID(ctx context.Context, db string, id oplog.UUID, after oplog.OpTime, filter bson.D) (*Cursor, error) {
	cmd := bson.D{{Key: "find", Value: bson.Binary{Subtype: 4, Data: id[:]}}}
	if filter != nil {
		cmd = append(cmd, bson.E{Key: "filter", Value: filter})
	}
	concern := bson.D{{Key: "level", Value: "majority"}}
	if !after.IsZero() {
		concern = append(concern, bson.E{Key: "afterClusterTime", Value: after.TS})
	}
	cmd = append(cmd, bson.E{Key: "readConcern", Value: concern})
	return m.Open(ctx, Find{DB: db, Command: cmd, Batch: 1000})
}
