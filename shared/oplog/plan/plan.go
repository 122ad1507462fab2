// Package plan turns a run of operations between two barriers into writes: all operations of one document are folded
// into its final state, and the outcome is divided so that several connections may write it at once. It plans and never
// writes: the applier fetches what Fetches names, gives it with Found, and carries out what Fold returns.
package plan

import (
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// ErrCorruption is in the chain of errors about operations that do not fit the documents they are about, outside the fuzzy window:
// the copy is not what it should be. Stop, and keep the last good snapshot.
var ErrCorruption = errors.New("the copy differs from its source")

// Way is how the outcome of a collection is written.
type Way int

// The ways.
const (
	// InPlace: inserts, replaces and deletes in any order, on any connection.
	InPlace Way = iota
	// TwoPhase: delete every touched document on all connections, wait for all, insert the final states. Right under unique
	// indexes and collations, and faster where many documents change.
	TwoPhase
	// InOrder: one operation after another on one connection, for capped collections.
	InOrder
)

// String names it.
func (w Way) String() string { return [...]string{"in place", "two-phase", "in order"}[w] }

// WayOf decides for a collection; behind says that the head is so far behind that speed counts more than changed bytes.
func WayOf(c *schema.Collection, behind bool) Way {
	switch {
	case c.Capped():
		return InOrder
	case behind || c.Unique() || c.Collation() != nil:
		return TwoPhase
	}
	return InPlace
}

// Next is what becomes of an operation.
type Next int

// The outcomes of Add.
const (
	// Taken: the operation is part of the batch.
	Taken Next = iota
	// Barrier: write the batch first, then carry out what schema.Catalogue.Apply says, then go on with a new batch.
	Barrier
	// View: as Barrier, with ApplyView.
	View
	// Skipped: it changes nothing, or concerns a collection that is gone, which is normal in the fuzzy window.
	Skipped
)

// Options of a batch.
type Options struct {
	MaxOps   int  // full from here on; 0 means 20,000
	MaxBytes int  // of operations' documents, likewise; 0 means 32 MB
	Fuzzy    bool // within the window of a copy that was read under load: what does not fit is counted, not refused
	Behind   bool // see WayOf
}

// Batch gathers operations. It is for one goroutine and one use.
type Batch struct {
	o     Options
	colls map[oplog.UUID]*collection
	order []*collection // in order of their first operation
	docs  map[string]*target
	ops   int
	bytes int
	buf   []byte
}

type collection struct {
	schema.Collection
	way     Way
	targets []*target
	ordered []step // of InOrder
}

// target is a document of the batch.
type target struct {
	key    string // without the collection
	hash   uint64
	id     bsoncore.Value
	first  *oplog.Op
	more   []*oplog.Op
	need   need
	before bson.Raw // what Found gave
}

type step struct {
	target *target
	op     *oplog.Op
}

type need byte

const (
	nothing  need = iota
	presence      // whether it is there
	whole         // what it is
)

// New returns an empty batch.
func New(o Options) *Batch {
	if o.MaxOps == 0 {
		o.MaxOps = 20_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 32 << 20
	}
	return &Batch{o: o, colls: map[oplog.UUID]*collection{}, docs: map[string]*target{}}
}

// Full reports whether the batch should be written before more is added; adding more is no error, so that the operations
// of a small transaction may stay together.
func (b *Batch) Full() bool { return b.ops >= b.o.MaxOps || b.bytes >= b.o.MaxBytes }

// Empty reports whether there is nothing to write.
func (b *Batch) Empty() bool { return b.ops == 0 }

// Ops is how many operations the batch took.
func (b *Batch) Ops() int { return b.ops }

// Add takes an operation, or says why it cannot be part of a batch. The catalogue must not change while the batch grows.
func (b *Batch) Add(cat *schema.Catalogue, op *oplog.Op) (Next, error) {
	switch op.Kind {
	case oplog.Command:
		if op.Command.Name == oplog.Ignored {
			return Skipped, nil
		}
		return Barrier, nil
	case oplog.Noop, oplog.Internal:
		return Skipped, nil
	}
	if schema.IsViews(op.NS) {
		return View, nil
	}
	c, err := b.collection(cat, op)
	if c == nil || err != nil {
		return Skipped, err
	}
	b.ops++
	b.bytes += len(op.O)
	t := b.target(c, op)
	if t.first == nil {
		t.first = op
		if t.need, err = b.needOf(c, op); err != nil {
			return Skipped, err
		}
	} else if c.way != InOrder {
		t.more = append(t.more, op)
	}
	if c.way == InOrder {
		c.ordered = append(c.ordered, step{t, op})
	}
	return Taken, nil
}

func (b *Batch) collection(cat *schema.Catalogue, op *oplog.Op) (*collection, error) {
	if c := b.colls[op.UI]; c != nil && !op.UI.IsZero() {
		return c, nil
	}
	found, ok := cat.Lookup(op.UI, op.NS)
	if !ok {
		if !b.o.Fuzzy {
			return nil, fmt.Errorf("%w: %s on %s (%s), which is not there", ErrCorruption, op.Kind, op.NS, op.UI)
		}
		return nil, nil
	}
	c := b.colls[found.UUID]
	if c == nil {
		c = &collection{Collection: found, way: WayOf(&found, b.o.Behind)}
		b.colls[found.UUID] = c
		b.order = append(b.order, c)
	}
	return c, nil
}

func (b *Batch) target(c *collection, op *oplog.Op) *target {
	b.buf = append(b.buf[:0], c.UUID[:]...)
	b.buf = document.AppendKey(b.buf, op.ID)
	t := b.docs[string(b.buf)]
	if t == nil {
		key := string(b.buf)
		t = &target{key: key[len(c.UUID):], hash: hash(key), id: op.ID}
		b.docs[key] = t
		c.targets = append(c.targets, t)
	}
	return t
}

// needOf says what the first operation of a document must know of it.
func (b *Batch) needOf(c *collection, op *oplog.Op) (need, error) {
	switch op.Kind {
	case oplog.Insert:
		if c.way == InOrder && b.o.Fuzzy {
			return presence, nil
		}
		return nothing, nil
	case oplog.Delete:
		return nothing, nil
	}
	change, err := document.FormOf(op.O)
	switch {
	case err != nil:
		return nothing, err
	case change.NeedsBefore():
		return whole, nil
	case op.Upsert || c.way == InPlace:
		return nothing, nil // the replace itself tells whether there was a document
	}
	return presence, nil
}

// hash is FNV-1a: the same document goes to the same lane in every run.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// Fetch is what Fold must be given first: documents of one collection by _id.
type Fetch struct {
	UUID oplog.UUID
	NS   string
	// IDs in the order of the batch. Those of Presence are only asked whether they are there: project _id.
	IDs      []bsoncore.Value
	Presence []bsoncore.Value
}

// Fetches lists what the batch must know of the documents before it, a collection at a time.
func (b *Batch) Fetches() []Fetch {
	var out []Fetch
	for _, c := range b.order {
		f := Fetch{UUID: c.UUID, NS: c.NS}
		for _, t := range c.targets {
			switch t.need {
			case whole:
				f.IDs = append(f.IDs, t.id)
			case presence:
				f.Presence = append(f.Presence, t.id)
			}
		}
		if f.IDs != nil || f.Presence != nil {
			out = append(out, f)
		}
	}
	return out
}

// Found gives a document that Fetches named; doc may be only its _id where only that was asked for. Documents that are not given are taken to be absent.
func (b *Batch) Found(id oplog.UUID, doc bson.Raw) error {
	v, ok := oplog.Lookup(doc, "_id")
	if !ok {
		return fmt.Errorf("found a document of %d bytes without _id", len(doc))
	}
	b.buf = document.AppendKey(append(b.buf[:0], id[:]...), v)
	if t := b.docs[string(b.buf)]; t != nil {
		t.before = doc
	}
	return nil
}
