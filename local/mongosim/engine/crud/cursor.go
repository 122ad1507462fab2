package crud

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/cursor"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
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
	tailing := cur.Tail && !cur.Dead && cur.UUID != [16]byte{}
	if !single && (len(cur.Docs) > 0 || tailing || batch == 0 && c.State.Get(cur.NS) != nil) {
		st.CursorsTimedOut.Add(c.E.Cursors.Keep(cur))
		st.CursorsOpened.Add(1)
		st.CursorsOpen.Store(int64(c.E.Cursors.Len()))
	}
	var inner bsonval.Builder
	inner.Docs("firstBatch", docs).Int64("id", cur.ID).String("ns", cur.NS)
	return new(bsonval.Builder).Doc("cursor", inner.Raw()), nil
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
	n, _ := bsonval.Integer(c.Arg("batchSize"))
	if cur.Tail && len(cur.Docs) == 0 {
		if err := awaitData(c, cur); err != nil {
			gone = true
			return nil, err
		}
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
	inner.Docs("nextBatch", docs).Int64("id", left).String("ns", cur.NS)
	return new(bsonval.Builder).Doc("cursor", inner.Raw()), nil
}

// awaitData fills a tailable cursor, waiting for news as long as the client asked for.
func awaitData(c *member.Call, cur *cursor.Cursor) error {
	ctx, stop := context.WithTimeout(c.Ctx, deadline(c, c.E.Options().AwaitData))
	defer stop()
	for {
		there, lost := false, false
		changed, closed := c.E.View(func(st *store.State) {
			if coll := st.ByUUID(cur.UUID); coll != nil {
				there, lost = true, cur.Lost(coll)
				cur.Advance(coll)
			}
		})
		switch {
		case closed:
			return refuse.Errf(refuse.CodeInterruptedAtShutdown, "interrupted at shutdown")
		case !there:
			return refuse.Errf(175, "collection dropped: %s", cur.NS) // QueryPlanKilled
		case lost:
			return refuse.Errf(136, "CollectionScan died due to position in capped collection being deleted. Last seen record id: RecordId(%d)", cur.Pos)
		case len(cur.Docs) > 0 || !cur.Await:
			return nil
		case !c.E.Cursors.Open(cur):
			return refuse.Errf(237, "cursor was killed") // CursorKilled
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return c.Ctx.Err()
		}
	}
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
