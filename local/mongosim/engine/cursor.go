package engine

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// maxBatchBytes bounds one reply's documents.
const maxBatchBytes = 16<<20 - 16<<10

// cursorLifetime is how long an unused cursor lives.
const cursorLifetime = 10 * time.Minute

// cursor is what is left of a query. Plain cursors hold their documents as of the query; tailable ones a position.
type cursor struct {
	id   int64
	ns   string
	key  string // of the session that made it
	docs []bson.Raw
	now  time.Time

	shape func(bson.Raw) (bson.Raw, error) // projection, nil for none

	tail, await bool
	filter      *match.Filter
	pos         int64 // record id of the last document looked at
	uuid        [16]byte
	dead        bool

	used time.Time
	busy bool
}

// cursors is the table of open cursors.
type cursors struct {
	mu sync.Mutex
	m  map[int64]*cursor
}

func (t *cursors) init() { t.m = map[int64]*cursor{} }

func (t *cursors) killAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.m)
}

// KillCursors ends all cursors, as a rollback or a removal does.
func (e *Engine) KillCursors() { e.cur.killAll() }

// OpenCursors is the number of open cursors.
func (e *Engine) OpenCursors() int {
	e.cur.mu.Lock()
	defer e.cur.mu.Unlock()
	return len(e.cur.m)
}

func (cur *cursor) project(p *agg.Projection, f *match.Filter) {
	cur.shape = func(doc bson.Raw) (bson.Raw, error) {
		index := -1
		if p.Positional {
			_, index = f.MatchIndex(doc)
		}
		return p.Apply(doc, index, cur.now)
	}
}

// startTail puts a tailable cursor before the first document of interest.
func (cur *cursor) startTail(coll *store.Collection, f *findSpec) {
	cur.uuid = coll.UUID
	if _, _, ok := coll.Records.Last(); !ok {
		cur.dead = true // as on a server: there is no position to tail from
		return
	}
	if low := f.filter.Bounds()["ts"].Low; coll.NS == OplogNS && low != nil && low.Type == bson.TypeTimestamp {
		t, i := low.Timestamp()
		cur.pos = int64(uint64(t)<<32|uint64(i)) - 1
	}
	cur.advance(coll)
}

// advance collects what came after the cursor's position; mu is held.
func (cur *cursor) advance(coll *store.Collection) {
	size := 0
	for rid, doc := range coll.Records.Ascend(cur.pos + 1) {
		if cur.filter.Match(doc) {
			if size += len(doc); size > maxBatchBytes && len(cur.docs) > 0 {
				return
			}
			cur.docs = append(cur.docs, doc)
		}
		cur.pos = rid
		if len(cur.docs) >= 10_000 {
			return
		}
	}
}

// take gives the next documents, up to n (0 is any number) and a reply's size.
func (cur *cursor) take(n int64) ([]bson.Raw, error) {
	var out []bson.Raw
	size := 0
	for len(cur.docs) > 0 && (n == 0 || int64(len(out)) < n) {
		d := cur.docs[0]
		if cur.shape != nil {
			x, err := cur.shape(d)
			if err != nil {
				return nil, err
			}
			d = x
		}
		if size += len(d) + 16; size > maxBatchBytes && len(out) > 0 {
			break
		}
		out = append(out, d)
		cur.docs = cur.docs[1:]
	}
	return out, nil
}

// firstBatch answers a query with its first documents and keeps a cursor for the rest.
func (c *call) firstBatch(cur *cursor, batch int64, single bool) (*bsonval.Builder, error) {
	var docs []bson.Raw
	var err error
	if batch > 0 {
		if docs, err = cur.take(batch); err != nil {
			return nil, err
		}
	}
	c.e.stats.DocsReturned.Add(int64(len(docs)))
	if !single && (len(cur.docs) > 0 || (cur.tail && !cur.dead && cur.uuid != [16]byte{}) || batch == 0 && c.st.Get(cur.ns) != nil) {
		c.e.cur.keep(cur, c.e.stats)
	}
	var inner bsonval.Builder
	inner.Docs("firstBatch", docs).Int64("id", cur.id).String("ns", cur.ns)
	return new(bsonval.Builder).Doc("cursor", inner.Raw()), nil
}

func (t *cursors) keep(cur *cursor, stats *Counters) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if len(t.m) >= 100 {
		for id, x := range t.m {
			if !x.busy && now.Sub(x.used) > cursorLifetime {
				delete(t.m, id)
				stats.CursorsTimedOut.Add(1)
			}
		}
	}
	for cur.id == 0 || t.m[cur.id] != nil {
		cur.id = rand.Int64()
	}
	cur.used = now
	t.m[cur.id] = cur
	stats.CursorsOpened.Add(1)
	stats.CursorsOpen.Store(int64(len(t.m)))
}

// checkOut takes a cursor for one getMore.
func (t *cursors) checkOut(id int64) (*cursor, *Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur := t.m[id]
	if cur == nil {
		return nil, Errf(CodeCursorNotFound, "cursor id %d not found", id)
	}
	if cur.busy {
		return nil, Errf(292, "cursor id %d is already in use", id) // CursorInUse
	}
	cur.busy = true
	return cur, nil
}

func (t *cursors) checkIn(cur *cursor, done bool, stats *Counters) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur.busy, cur.used = false, time.Now()
	if done {
		delete(t.m, cur.id)
	}
	stats.CursorsOpen.Store(int64(len(t.m)))
}

func (c *call) getMore() (*bsonval.Builder, error) {
	c.e.stats.GetMore.Add(1)
	id, ok := bsonval.Integer(c.arg("getMore"))
	if !ok {
		return nil, Errf(CodeTypeMismatch, "BSON field 'getMore.getMore' is the wrong type '%s', expected type 'long'", bsonval.TypeName(c.arg("getMore").Type))
	}
	if err := c.known("collection", "batchSize", "term", "lastKnownCommittedOpTime"); err != nil {
		return nil, err
	}
	cur, r := c.e.cur.checkOut(id)
	if r != nil {
		return nil, r
	}
	gone := false
	defer func() { c.e.cur.checkIn(cur, gone, c.e.stats) }()
	if ns := c.db + "." + bsonval.Str(c.arg("collection")); ns != cur.ns {
		return nil, Errf(CodeUnauthorized, "Requested getMore on namespace '%s', but cursor belongs to a different namespace %s", ns, cur.ns)
	}
	n, _ := bsonval.Integer(c.arg("batchSize"))
	if cur.tail && len(cur.docs) == 0 {
		if err := c.awaitData(cur); err != nil {
			gone = true
			return nil, err
		}
	}
	docs, err := cur.take(max(n, 0))
	if err != nil {
		gone = true
		return nil, err
	}
	c.e.stats.DocsReturned.Add(int64(len(docs)))
	gone = len(cur.docs) == 0 && (!cur.tail || cur.dead)
	left := id
	if gone {
		left = 0
	}
	var inner bsonval.Builder
	inner.Docs("nextBatch", docs).Int64("id", left).String("ns", cur.ns)
	return new(bsonval.Builder).Doc("cursor", inner.Raw()), nil
}

// awaitData fills a tailable cursor, waiting for news as long as the client asked for.
func (c *call) awaitData(cur *cursor) error {
	ctx, stop := context.WithTimeout(c.ctx, c.deadline(c.e.o.AwaitData))
	defer stop()
	for {
		c.e.mu.RLock()
		changed, closed := c.e.changed, c.e.closed
		coll := c.e.st.ByUUID(cur.uuid)
		lost := false
		if coll != nil {
			if first, _, ok := coll.Records.First(); ok && cur.pos > 0 && first > cur.pos+1 {
				if _, still := coll.Records.Get(cur.pos); !still {
					lost = first > cur.pos
				}
			}
			cur.advance(coll)
		}
		c.e.mu.RUnlock()
		switch {
		case closed:
			return Errf(CodeInterruptedAtShutdown, "interrupted at shutdown")
		case coll == nil:
			return Errf(175, "collection dropped: %s", cur.ns) // QueryPlanKilled
		case lost:
			return Errf(136, "CollectionScan died due to position in capped collection being deleted. Last seen record id: RecordId(%d)", cur.pos)
		case len(cur.docs) > 0 || !cur.await:
			return nil
		}
		c.e.cur.mu.Lock()
		killed := c.e.cur.m[cur.id] != cur
		c.e.cur.mu.Unlock()
		if killed {
			return Errf(237, "cursor was killed") // CursorKilled
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return c.ctx.Err()
		}
	}
}

func (c *call) killCursors() (*bsonval.Builder, error) {
	ids := c.arg("cursors")
	if ids.Type != bson.TypeArray {
		return nil, Errf(CodeFailedToParse, "Field 'cursors' must be of type array in: %s", bsonval.FormatDoc(c.cmd))
	}
	var killed, unknown []bson.RawValue
	t := &c.e.cur
	t.mu.Lock()
	for _, v := range bsonval.Each(bson.Raw(ids.Value)) {
		id, _ := bsonval.Integer(v)
		if t.m[id] != nil {
			delete(t.m, id)
			killed = append(killed, bsonval.Int64(id))
		} else {
			unknown = append(unknown, bsonval.Int64(id))
		}
	}
	c.e.stats.CursorsOpen.Store(int64(len(t.m)))
	t.mu.Unlock()
	var b bsonval.Builder
	b.Value("cursorsKilled", bsonval.Array(killed)).Value("cursorsNotFound", bsonval.Array(unknown))
	return b.Value("cursorsAlive", bsonval.Array(nil)).Value("cursorsUnknown", bsonval.Array(nil)), nil
}
