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

// Most is how many documents a cursor collects at once.
const Most = 10_000

// lifetime is how long an unused cursor lives.
const lifetime = 10 * time.Minute

// Cursor is one query's rest. Most hold a position in their collection and read on from there, as a server does: what was
// written meanwhile shows. Sorted ones, views' and pipelines' hold their documents as of the query.
type Cursor struct {
	ID   int64 // 0 until kept
	NS   string
	Docs []bson.Raw
	rids []int64 // of Docs, of one with Tokens
	last int64   // record id of the last document that was taken
	// Shape changes documents on their way out; nil leaves them.
	Shape func(bson.Raw) (bson.Raw, error)

	Session  string // the logical session that may fetch from it; empty: opened outside one
	Majority bool   // reads only what a majority of the members has
	UUID     [16]byte
	Filter   *match.Filter // of one with a position

	Tail, Await bool
	Scan        bool  // reads on until the collection's end
	Dead        bool  // a tailable one without a position, or a scan that reached the end
	Pos         int64 // record id of the last document looked at
	Looked      int64 // documents looked at since the count was last taken
	Tokens      bool  // tells with each batch where it ends
	stands      bool  // Pos is a document's, not the place before the first

	used   time.Time
	busy   bool
	why    *refuse.Error
	killed chan struct{} // closed when it is no longer in the table
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

// Start puts a cursor before the first document of interest and collects up to want documents from there, none beyond the
// record id until. The collection's lock is held.
func (cur *Cursor) Start(coll *store.Collection, until int64, want int) {
	if cur.Tail && coll.Records.Len() == 0 {
		cur.Dead = true // as on a server: there is no position to tail from
		return
	}
	if low := cur.Filter.Bounds()["ts"].Low; coll.NS == store.OplogNS && low != nil && low.Type == bson.TypeTimestamp {
		t, i := low.Timestamp()
		for rid := range coll.Records.Descend(int64(uint64(t)<<32|uint64(i)) - 1) { // the entry before it is where the scan stands
			cur.Pos, cur.stands = rid, true
			break
		}
	}
	cur.Advance(coll, until, want)
}

// Lost says that the position has been overwritten: documents may have been missed. The collection's lock is held.
func (cur *Cursor) Lost(coll *store.Collection) bool {
	if !coll.Capped || !cur.stands {
		return false
	}
	_, there := coll.Records.Get(cur.Pos)
	return !there
}

// Advance collects what comes after the position, until it has want documents or enough for a reply, none beyond the record
// id until. The collection's lock is held.
func (cur *Cursor) Advance(coll *store.Collection, until int64, want int) {
	size := 0
	for _, d := range cur.Docs {
		size += len(d)
	}
	for rid, doc := range coll.Records.Ascend(cur.Pos + 1) {
		if rid > until || len(cur.Docs) >= want {
			return
		}
		cur.Looked++
		if cur.Filter.Match(doc) {
			if size += len(doc); size > maxBatchBytes && len(cur.Docs) > 0 {
				return
			}
			cur.Docs = append(cur.Docs, doc)
			if cur.Tokens {
				cur.rids = append(cur.rids, rid)
			}
		}
		cur.Pos, cur.stands = rid, true
	}
	cur.Dead = cur.Scan
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
		if cur.Tokens {
			cur.last, cur.rids = cur.rids[0], cur.rids[1:]
		}
	}
	return out, nil
}

// Last is the record id of the last document that was taken, 0 when none was; of one with Tokens.
func (cur *Cursor) Last() int64 { return cur.last }

// Done says that nothing is left to fetch, now or later.
func (cur *Cursor) Done() bool { return len(cur.Docs) == 0 && (!cur.Tail && !cur.Scan || cur.Dead) }

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
				t.end(id, x, nil)
				expired++
			}
		}
	}
	for cur.ID == 0 || t.m[cur.ID] != nil {
		cur.ID = rand.Int64()
	}
	cur.used, cur.killed = now, make(chan struct{})
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
	if done && t.m[cur.ID] == cur {
		delete(t.m, cur.ID)
	}
}

// Killed is closed when a kept cursor was killed.
func (cur *Cursor) Killed() <-chan struct{} { return cur.killed }

// Why is the refusal of a fetch that was waiting when its cursor was killed.
func (t *Table) Why(cur *Cursor) *refuse.Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cur.why == nil {
		return refuse.Errf(refuse.CodeCursorKilled, "cursor was killed")
	}
	return cur.why
}

// end takes a cursor out of the table. The table is locked.
func (t *Table) end(id int64, cur *Cursor, why *refuse.Error) {
	delete(t.m, id)
	cur.why = why
	close(cur.killed)
}

// Kill ends a cursor and says whether there was one.
func (t *Table) Kill(id int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur, ok := t.m[id]
	if ok {
		t.end(id, cur, nil)
	}
	return ok
}

// KillSession ends the cursors of a logical session.
func (t *Table) KillSession(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, cur := range t.m {
		if key != "" && cur.Session == key {
			t.end(id, cur, nil)
		}
	}
}

// KillAll ends all cursors; fetches that are waiting are refused with why.
func (t *Table) KillAll(why *refuse.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, cur := range t.m {
		t.end(id, cur, why)
	}
}
