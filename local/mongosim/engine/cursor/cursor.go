// Package cursor is what is left of queries: documents found and not yet fetched, or the place a tailable query has reached,
// and the table of them. It knows no commands.
package cursor

import (
	"math/rand/v2"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/match"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// maxBatchBytes bounds one reply's documents.
const maxBatchBytes = 16<<20 - 16<<10

// maxTail bounds how many documents a tailable cursor collects at once.
const maxTail = 10_000

// lifetime is how long an unused cursor lives.
const lifetime = 10 * time.Minute

// Cursor is one query's rest. Plain ones hold their documents as of the query; tailable ones a position.
type Cursor struct {
	ID   int64 // 0 until kept
	NS   string
	Docs []bson.Raw
	// Shape changes documents on their way out; nil leaves them.
	Shape func(bson.Raw) (bson.Raw, error)

	Tail, Await bool
	Filter      *match.Filter // of a tailable one
	UUID        [16]byte      // of a tailable one's collection
	Dead        bool          // a tailable one without a position
	Pos         int64         // record id of the last document looked at

	used time.Time
	busy bool
}

// Project lets documents out as the projection says.
func (cur *Cursor) Project(p *agg.Projection, f *match.Filter, now time.Time) {
	cur.Shape = func(doc bson.Raw) (bson.Raw, error) {
		index := -1
		if p.Positional {
			_, index = f.MatchIndex(doc)
		}
		return p.Apply(doc, index, now)
	}
}

// Start puts a tailable cursor before the first document of interest and collects from there. The collection's lock is held.
func (cur *Cursor) Start(coll *store.Collection) {
	cur.UUID = coll.UUID
	if coll.Records.Len() == 0 {
		cur.Dead = true // as on a server: there is no position to tail from
		return
	}
	if low := cur.Filter.Bounds()["ts"].Low; coll.NS == store.OplogNS && low != nil && low.Type == bson.TypeTimestamp {
		t, i := low.Timestamp()
		cur.Pos = int64(uint64(t)<<32|uint64(i)) - 1
	}
	cur.Advance(coll)
}

// Lost says that the position has been overwritten: documents may have been missed. The collection's lock is held.
func (cur *Cursor) Lost(coll *store.Collection) bool {
	first, _, ok := coll.Records.First()
	return ok && cur.Pos > 0 && first > cur.Pos
}

// Advance collects what came after the position. The collection's lock is held.
func (cur *Cursor) Advance(coll *store.Collection) {
	size := 0
	for rid, doc := range coll.Records.Ascend(cur.Pos + 1) {
		if cur.Filter.Match(doc) {
			if size += len(doc); size > maxBatchBytes && len(cur.Docs) > 0 {
				return
			}
			cur.Docs = append(cur.Docs, doc)
		}
		cur.Pos = rid
		if len(cur.Docs) >= maxTail {
			return
		}
	}
}

// Take gives the next documents: up to n (0 is any number) and a reply's size.
func (cur *Cursor) Take(n int64) ([]bson.Raw, error) {
	var out []bson.Raw
	size := 0
	for len(cur.Docs) > 0 && (n == 0 || int64(len(out)) < n) {
		d := cur.Docs[0]
		if cur.Shape != nil {
			x, err := cur.Shape(d)
			if err != nil {
				return nil, err
			}
			d = x
		}
		if size += len(d) + 16; size > maxBatchBytes && len(out) > 0 {
			break
		}
		out = append(out, d)
		cur.Docs = cur.Docs[1:]
	}
	return out, nil
}

// Done says that nothing is left to fetch, now or later.
func (cur *Cursor) Done() bool { return len(cur.Docs) == 0 && (!cur.Tail || cur.Dead) }

// Table is the open cursors of a member. It is safe for concurrent use.
type Table struct {
	mu sync.Mutex
	m  map[int64]*Cursor
}

// NewTable makes an empty table.
func NewTable() *Table { return &Table{m: map[int64]*Cursor{}} }

// Len is the number of open cursors.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// Keep gives a cursor its id; it says how many cursors were dropped for having been unused too long.
func (t *Table) Keep(cur *Cursor) (expired int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if len(t.m) >= 100 {
		for id, x := range t.m {
			if !x.busy && now.Sub(x.used) > lifetime {
				delete(t.m, id)
				expired++
			}
		}
	}
	for cur.ID == 0 || t.m[cur.ID] != nil {
		cur.ID = rand.Int64()
	}
	cur.used = now
	t.m[cur.ID] = cur
	return expired
}

// CheckOut takes a cursor for one fetch; CheckIn must follow.
func (t *Table) CheckOut(id int64) (*Cursor, *refuse.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur := t.m[id]
	if cur == nil {
		return nil, refuse.Errf(refuse.CodeCursorNotFound, "cursor id %d not found", id)
	}
	if cur.busy {
		return nil, refuse.Errf(292, "cursor id %d is already in use", id) // CursorInUse
	}
	cur.busy = true
	return cur, nil
}

// CheckIn gives a cursor back, or ends it.
func (t *Table) CheckIn(cur *Cursor, done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur.busy, cur.used = false, time.Now()
	if done {
		delete(t.m, cur.ID)
	}
}

// Open says whether a cursor is still in the table.
func (t *Table) Open(cur *Cursor) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[cur.ID] == cur
}

// Kill ends a cursor and says whether there was one.
func (t *Table) Kill(id int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.m[id]
	delete(t.m, id)
	return ok
}

// KillAll ends all cursors.
func (t *Table) KillAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.m)
}
