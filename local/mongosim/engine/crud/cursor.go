package crud

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/cursor"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
)

// firstBatch answers a query with its first documents and keeps a cursor for the rest.
func firstBatch(c *member.Call, cur *cursor.Cursor, batch int64, single bool) (*bsonval.Builder, error) {
	var docs []bson.Raw
	var err error
	if batch > 0 {
		if docs, err = cur.Take(batch); err != nil {
			return nil, err
		}
	}
	st := c.E.Stats()
	st.DocsReturned.Add(int64(len(docs)))
	cur.Session = c.SessionKey()
	if !single && (!cur.Done() || batch == 0 && c.State.Get(cur.NS) != nil) {
		st.CursorsTimedOut.Add(c.E.Cursors.Keep(cur))
		st.CursorsOpened.Add(1)
		st.CursorsOpen.Store(int64(c.E.Cursors.Len()))
	}
	var inner bsonval.Builder
	inner.Docs("firstBatch", docs)
	place(&inner, cur)
	inner.Int64("id", cur.ID).String("ns", cur.NS)
	return new(bsonval.Builder).Doc("cursor", inner.Raw()), nil
}

// place tells where a batch ends, to those who asked for that.
func place(b *bsonval.Builder, cur *cursor.Cursor) {
	if !cur.Tokens {
		return
	}
	var token bsonval.Builder
	if id := cur.Last(); id != 0 {
		token.Int64("$recordId", id)
	} else {
		token.Value("$recordId", bsonval.Null())
	}
	b.Doc("postBatchResumeToken", token.Raw())
}

// GetMore is the command getMore.
func GetMore(c *member.Call) (*bsonval.Builder, error) {
	st := c.E.Stats()
	st.GetMore.Add(1)
	id, ok := bsonval.Integer(c.Arg("getMore"))
	if !ok {
		return nil, refuse.Errf(refuse.CodeTypeMismatch, "BSON field 'getMore.getMore' is the wrong type '%s', expected type 'long'", bsonval.TypeName(c.Arg("getMore").Type))
	}
	if err := c.Known("collection", "batchSize", "term", "lastKnownCommittedOpTime"); err != nil {
		return nil, err
	}
	cur, r := c.E.Cursors.CheckOut(id)
	if r != nil {
		return nil, r
	}
	gone := false
	defer func() {
		c.E.Cursors.CheckIn(cur, gone)
		st.CursorsOpen.Store(int64(c.E.Cursors.Len()))
	}()
	if ns := c.DB + "." + bsonval.Str(c.Arg("collection")); ns != cur.NS {
		return nil, refuse.Errf(refuse.CodeUnauthorized, "Requested getMore on namespace '%s', but cursor belongs to a different namespace %s", ns, cur.NS)
	}
	if err := ofSession(cur, c.SessionKey()); err != nil {
		return nil, err
	}
	n, _ := bsonval.Integer(c.Arg("batchSize"))
	if err := refill(c, cur, int(min(max(n, 0), cursor.Most))); err != nil {
		gone = true
		return nil, err
	}
	docs, err := cur.Take(max(n, 0))
	if err != nil {
		gone = true
		return nil, err
	}
	st.DocsReturned.Add(int64(len(docs)))
	left := id
	if gone = cur.Done(); gone {
		left = 0
	}
	var inner bsonval.Builder
	inner.Docs("nextBatch", docs)
	place(&inner, cur)
	inner.Int64("id", left).String("ns", cur.NS)
	return new(bsonval.Builder).Doc("cursor", inner.Raw()), nil
}

// ofSession refuses to fetch from a cursor of another logical session: drivers and agents must keep find and getMore in one.
func ofSession(cur *cursor.Cursor, key string) error {
	name := func(key string) string {
		var u [16]byte
		copy(u[:], key[max(0, len(key)-16):])
		return bsonval.FormatUUID(u)
	}
	switch {
	case cur.Session == key:
		return nil
	case cur.Session == "":
		return refuse.Errf(50736, "Cannot run getMore on cursor %d, which was not created in a session, in session %s", cur.ID, name(key))
	case key == "":
		return refuse.Errf(50737, "Cannot run getMore on cursor %d, which was created in session %s, without an lsid", cur.ID, name(cur.Session))
	}
	return refuse.Errf(50738, "Cannot run getMore on cursor %d, which was created in session %s, in session %s", cur.ID, name(cur.Session), name(key))
}

// refill reads on from a cursor's position; a tailable one waits for news as long as the client asked for.
func refill(c *member.Call, cur *cursor.Cursor, want int) error {
	if cur.UUID == ([16]byte{}) || c.InTxn() {
		return nil
	}
	if want == 0 {
		want = cursor.Most
	}
	ctx, stop := context.WithTimeout(c.Ctx, deadline(c, c.E.Options().AwaitData))
	defer stop()
	for {
		changed := c.E.Changed() // before looking: what comes after it wakes
		moved, err := look(c, cur, want)
		if err != nil || len(cur.Docs) > 0 || !cur.Tail || !cur.Await {
			return err
		}
		select {
		case <-changed:
		case <-moved:
		case <-cur.Killed():
			return c.E.Cursors.Why(cur)
		case <-ctx.Done():
			return c.Ctx.Err()
		}
	}
}

// look collects what there is now for a cursor, or says why it has ended.
func look(c *member.Call, cur *cursor.Cursor, want int) (<-chan struct{}, error) {
	if c.E.Closed() {
		return nil, refuse.Errf(refuse.CodeInterruptedAtShutdown, "interrupted at shutdown")
	}
	unlock := c.RLockAs(cur.Majority)
	defer unlock()
	coll := c.State.ByUUID(cur.UUID)
	switch {
	case coll == nil:
		return nil, refuse.Errf(refuse.CodeQueryPlanKilled, "collection dropped. UUID %s", bsonval.FormatUUID(cur.UUID))
	case coll.NS != cur.NS:
		return nil, refuse.Errf(refuse.CodeQueryPlanKilled, "collection renamed from '%s' to '%s'. UUID %s", cur.NS, coll.NS, bsonval.FormatUUID(cur.UUID))
	case !cur.Tail && !cur.Scan || cur.Dead:
		return nil, nil
	case cur.Lost(coll):
		return nil, refuse.Errf(refuse.CodeCappedPositionLost, "CollectionScan died due to position in capped collection being deleted. Last seen record id: RecordId(%d)", cur.Pos)
	}
	until, moved := c.E.Visible(coll, cur.Majority)
	cur.Advance(coll, until, want+1)
	c.E.Stats().ScannedDocs.Add(cur.Looked)
	cur.Looked = 0
	return moved, nil
}

// KillCursors is the command killCursors.
func KillCursors(c *member.Call) (*bsonval.Builder, error) {
	ids := c.Arg("cursors")
	if ids.Type != bson.TypeArray {
		return nil, refuse.Errf(refuse.CodeFailedToParse, "Field 'cursors' must be of type array in: %s", bsonval.FormatDoc(c.Cmd))
	}
	var killed, unknown []bson.RawValue
	for _, v := range bsonval.Each(bson.Raw(ids.Value)) {
		id, _ := bsonval.Integer(v)
		if c.E.Cursors.Kill(id) {
			killed = append(killed, bsonval.Int64(id))
		} else {
			unknown = append(unknown, bsonval.Int64(id))
		}
	}
	c.E.Stats().CursorsOpen.Store(int64(c.E.Cursors.Len()))
	var b bsonval.Builder
	b.Value("cursorsKilled", bsonval.Array(killed)).Value("cursorsNotFound", bsonval.Array(unknown))
	return b.Value("cursorsAlive", bsonval.Array(nil)).Value("cursorsUnknown", bsonval.Array(nil)), nil
}
