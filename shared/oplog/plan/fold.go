package plan

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// Put is a document to be written.
type Put struct {
	ID        bsoncore.Value
	Doc       bson.Raw
	Exception document.Exception // what an ordinary write would do wrong with it
	hash      uint64
}

// Gone is a document to be deleted.
type Gone struct {
	ID   bsoncore.Value
	hash uint64
}

// Do is what an ordered operation does.
type Do int

// The ordered operations.
const (
	Insert  Do = iota // at the end
	Replace           // in its place
	Delete
	// Again: the document is in the copy already, and its place is at the end: everything that was inserted since the copy
	// began lies behind it in the order of its insertion.
	Again
)

// Ordered is one operation on a capped collection.
type Ordered struct {
	Do  Do
	Put // Doc is nil for a Delete
}

// Writes are the outcome of a batch in one collection. Which fields count depends on the way:
//
//   - InPlace: Inserts (a duplicate _id there means: replace, as after a crash), Replaces (the document must be there, or
//     it is missing), Upserts, Deletes; any order, any connection.
//   - TwoPhase: Deletes on every connection, a wait for all of them, then Inserts.
//   - InOrder: Ordered.
type Writes struct {
	Collection schema.Collection
	Way        Way
	Inserts    []Put
	Replaces   []Put
	Upserts    []Put
	Deletes    []Gone
	Ordered    []Ordered
	// Missing are documents that an update did not find and that nothing made afterwards; Settled those that were made or
	// deleted. Both only in the fuzzy window (see Missing).
	Missing []bsoncore.Value
	Settled []bsoncore.Value
}

// Outcome is what a batch comes to.
type Outcome struct {
	Writes []Writes
	// Odd counts what did not fit, by kind. Outside the fuzzy window it holds only what is harmless.
	Odd map[document.Oddity]int
}

// Fold works out the final state of every document. In the fuzzy window it also serves with documents that are not as
// expected; outside it that is ErrCorruption, and nothing of the batch may be written.
func (b *Batch) Fold() (*Outcome, error) {
	out := &Outcome{Odd: map[document.Oddity]int{}, Writes: make([]Writes, 0, len(b.order))}
	for _, c := range b.order {
		w := Writes{Collection: c.Collection, Way: c.way}
		f := folder{b: b, c: c, w: &w, odd: out.Odd}
		var err error
		if c.way == InOrder {
			err = f.ordered()
		} else {
			for _, t := range c.targets {
				if err = f.one(t); err != nil {
					break
				}
			}
		}
		if err != nil {
			return nil, err
		}
		out.Writes = append(out.Writes, w)
	}
	return out, nil
}

type folder struct {
	b   *Batch
	c   *collection
	w   *Writes
	odd map[document.Oddity]int
}

// apply is document.Apply with the judgement of what does not fit.
func (f *folder) apply(before bson.Raw, op *oplog.Op) (bson.Raw, document.Oddity, error) {
	after, odd, err := document.Apply(before, op)
	if err != nil {
		return nil, odd, fmt.Errorf("%s of %s in %s: %w", op.Kind, op.ID, op.NS, err)
	}
	if odd == 0 {
		return after, 0, nil
	}
	if odd&document.Absent != 0 && f.c.way == InOrder {
		return after, odd, nil // trimmed: every node trims for itself
	}
	if odd&document.Fatal != 0 && !f.b.o.Fuzzy {
		return nil, odd, fmt.Errorf("%w: %s of %s in %s: %s", ErrCorruption, op.Kind, op.ID, op.NS, odd)
	}
	for bit := document.Oddity(1); bit <= odd; bit <<= 1 {
		if odd&bit != 0 {
			f.odd[bit]++
		}
	}
	return after, odd, nil
}

// one folds the operations of a document.
func (f *folder) one(t *target) error {
	state, missing, settled := t.before, false, false
	// A replace whose document's presence nobody asked for: it goes on as if it were there, and the write tells.
	blind := t.first.Kind == oplog.Update && t.need == nothing && !t.first.Upsert
	step := func(op *oplog.Op) error {
		if blind && op == t.first {
			after, _, err := f.apply(op.O, op)
			state = after
			return err
		}
		after, odd, err := f.apply(state, op)
		if err != nil {
			return err
		}
		state = after
		switch {
		case odd&document.Absent != 0:
			missing = true
		case op.Kind != oplog.Update:
			missing, settled, blind = false, true, false
		}
		return nil
	}
	if err := step(t.first); err != nil {
		return err
	}
	for _, op := range t.more {
		if err := step(op); err != nil {
			return err
		}
	}
	if f.b.o.Fuzzy && missing {
		f.w.Missing = append(f.w.Missing, t.id)
	}
	if f.b.o.Fuzzy && settled {
		f.w.Settled = append(f.w.Settled, t.id)
	}
	return f.write(t, state, blind)
}

func (f *folder) write(t *target, state bson.Raw, blind bool) error {
	there := t.before != nil
	known := t.need != nothing
	fresh := t.first.Kind == oplog.Insert && !f.b.o.Fuzzy // a consistent copy cannot have it
	if state == nil {
		if there || !known && !fresh {
			f.w.Deletes = append(f.w.Deletes, Gone{ID: t.id, hash: t.hash})
		}
		return nil
	}
	p, err := f.put(t, state)
	switch {
	case err != nil:
		return err
	case f.c.way == TwoPhase:
		if there || !known && !fresh {
			f.w.Deletes = append(f.w.Deletes, Gone{ID: t.id, hash: t.hash})
		}
		f.w.Inserts = append(f.w.Inserts, p)
	case blind || there:
		f.w.Replaces = append(f.w.Replaces, p)
	case known || t.first.Kind == oplog.Insert:
		f.w.Inserts = append(f.w.Inserts, p)
	default:
		f.w.Upserts = append(f.w.Upserts, p)
	}
	return nil
}

func (f *folder) put(t *target, doc bson.Raw) (Put, error) {
	x, err := document.Exceptions(doc)
	return Put{ID: t.id, Doc: doc, Exception: x, hash: t.hash}, err
}

// ordered works through a capped collection.
func (f *folder) ordered() error {
	state := make(map[*target]bson.Raw, len(f.c.targets))
	for _, t := range f.c.targets {
		if t.before != nil {
			state[t] = t.before
		}
	}
	for _, s := range f.c.ordered {
		before := state[s.target]
		after, odd, err := f.apply(before, s.op)
		if err != nil {
			return err
		}
		o := Ordered{Put: Put{ID: s.target.id, hash: s.target.hash}}
		if after != nil {
			if o.Put, err = f.put(s.target, after); err != nil {
				return err
			}
		}
		switch {
		case odd&document.Absent != 0:
			continue
		case after == nil:
			o.Do = Delete
			delete(state, s.target)
		case s.op.Kind == oplog.Insert && before != nil:
			o.Do, state[s.target] = Again, after
		case s.op.Kind == oplog.Insert || before == nil:
			o.Do, state[s.target] = Insert, after
		default:
			o.Do, state[s.target] = Replace, after
		}
		f.w.Ordered = append(f.w.Ordered, o)
	}
	return nil
}

// Lanes divides writes among n connections: all of one document go to one, capped collections stay whole.
func (w *Writes) Lanes(n int) []Writes {
	out := make([]Writes, max(n, 1))
	for i := range out {
		out[i].Collection, out[i].Way = w.Collection, w.Way
	}
	if w.Way == InOrder {
		out[hash(string(w.Collection.UUID[:]))%uint64(len(out))].Ordered = w.Ordered
		return out
	}
	spread := func(of func(*Writes) *[]Put, puts []Put) {
		for _, p := range puts {
			to := of(&out[p.hash%uint64(len(out))])
			*to = append(*to, p)
		}
	}
	spread(func(w *Writes) *[]Put { return &w.Inserts }, w.Inserts)
	spread(func(w *Writes) *[]Put { return &w.Replaces }, w.Replaces)
	spread(func(w *Writes) *[]Put { return &w.Upserts }, w.Upserts)
	for _, g := range w.Deletes {
		to := &out[g.hash%uint64(len(out))].Deletes
		*to = append(*to, g)
	}
	return out
}

// Missing is the set of documents that updates of the fuzzy window did not find. At its end the set must be empty:
// otherwise each is fetched from the source.
type Missing struct {
	docs map[oplog.UUID]map[string]bsoncore.Value
}

// Note takes over what a batch left.
func (m *Missing) Note(w *Writes) {
	for _, id := range w.Settled {
		delete(m.docs[w.Collection.UUID], document.Key(id))
	}
	for _, id := range w.Missing {
		if m.docs == nil {
			m.docs = map[oplog.UUID]map[string]bsoncore.Value{}
		}
		if m.docs[w.Collection.UUID] == nil {
			m.docs[w.Collection.UUID] = map[string]bsoncore.Value{}
		}
		m.docs[w.Collection.UUID][document.Key(id)] = id
	}
}

// Drop forgets a collection.
func (m *Missing) Drop(id oplog.UUID) { delete(m.docs, id) }

// Len is how many are missing.
func (m *Missing) Len() (n int) {
	for _, d := range m.docs {
		n += len(d)
	}
	return n
}

// IDs lists them by collection.
func (m *Missing) IDs() map[oplog.UUID][]bsoncore.Value {
	out := map[oplog.UUID][]bsoncore.Value{}
	for u, d := range m.docs {
		for _, id := range d {
			out[u] = append(out[u], id)
		}
	}
	return out
}
