package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/omap"
)

// State is all collections of one member. Every change goes through its methods, which also write it into a Batch: the
// same changes, replayed, give the same state.
type State struct {
	byNS   map[string]*Collection
	byUUID map[[16]byte]*Collection
	// Filter compiles a partialFilterExpression.
	Filter func(bson.Raw) (func(bson.Raw) bool, error)
	// OnChange, when set, is told of each change outside the local database, just before or after it, by what takes it back on a copy.
	// Copies have none.
	OnChange func(undo func(*State))
}

// NewState makes an empty state.
func NewState(filter func(bson.Raw) (func(bson.Raw) bool, error)) *State {
	return &State{byNS: map[string]*Collection{}, byUUID: map[[16]byte]*Collection{}, Filter: filter}
}

// Clone copies the state; documents and untouched parts of maps stay shared.
func (s *State) Clone() *State {
	t := NewState(s.Filter)
	for _, c := range s.byNS {
		t.add(c.clone())
	}
	return t
}

// Get finds a collection by name, nil when there is none.
func (s *State) Get(ns string) *Collection { return s.byNS[ns] }

// ByUUID finds a collection by its UUID.
func (s *State) ByUUID(u [16]byte) *Collection { return s.byUUID[u] }

// Collections lists the collections of a database by name; an empty db lists all.
func (s *State) Collections(db string) []*Collection {
	var out []*Collection
	for ns, c := range s.byNS {
		if db == "" || strings.HasPrefix(ns, db+".") {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Collection) int { return strings.Compare(a.NS, b.NS) })
	return out
}

func (s *State) add(c *Collection) {
	s.byNS[c.NS] = c
	s.byUUID[c.UUID] = c
}

// Batch collects the bytes of changes for the journal.
type Batch struct{ b []byte }

// The changes of a batch.
const (
	opPut  = 'p' // uuid, rid, document
	opDel  = 'd' // uuid, rid
	opMeta = 'm' // uuid, document: create the collection or change its name, options and indexes
	opDrop = 'x' // uuid
)

// Empty says whether nothing was written.
func (b *Batch) Empty() bool { return len(b.b) == 0 }

// Len is the size of what was written.
func (b *Batch) Len() int { return len(b.b) }

// Take gives the bytes and empties the batch.
func (b *Batch) Take() []byte {
	out := b.b
	b.b = nil
	return out
}

func (b *Batch) add(op byte, u [16]byte, rid int64, doc bson.Raw) {
	if b == nil {
		return
	}
	b.b = append(b.b, op)
	b.b = append(b.b, u[:]...)
	if op == opPut || op == opDel {
		b.b = binary.BigEndian.AppendUint64(b.b, uint64(rid))
	}
	if op == opPut || op == opMeta {
		b.b = append(b.b, doc...)
	}
}

// Insert stores a copy of a new document, so that it does not keep the message it came in, and gives its record id.
func (s *State) Insert(b *Batch, c *Collection, doc bson.Raw) (int64, error) {
	rid := max(c.NextRID, 1)
	if c.NS == OplogNS {
		if v, ok := bsonval.Lookup(doc, "ts"); ok && v.Type == bson.TypeTimestamp {
			rid = int64(binary.LittleEndian.Uint64(v.Value))
		}
	}
	return rid, s.Put(b, c, rid, slices.Clone(doc))
}

// Put stores a document under a record id, inserting or replacing.
func (s *State) Put(b *Batch, c *Collection, rid int64, doc bson.Raw) error {
	old, _ := s.watched(c, rid)
	if err := c.put(rid, doc); err != nil {
		return err
	}
	s.undoRecord(c, rid, old)
	if b != nil {
		c.touch(rid)
		b.add(opPut, c.UUID, rid, doc)
	}
	return nil
}

// Remove deletes a record.
func (s *State) Remove(b *Batch, c *Collection, rid int64) {
	if old, ok := s.watched(c, rid); ok {
		s.undoRecord(c, rid, old)
	}
	c.remove(rid)
	if b != nil {
		c.touch(rid)
		b.add(opDel, c.UUID, rid, nil)
	}
}

// Create adds a collection; its metadata must be complete. Options of a capped collection or view are read from c.Options.
func (s *State) Create(b *Batch, c *Collection) {
	c.readOptions()
	if !c.View {
		c.Records = omap.New[int64, bson.Raw]()
		for _, x := range c.Indexes {
			x.Entries = omap.New[string, int64]()
		}
	}
	s.add(c)
	s.undo(c, func(t *State, x *Collection) { t.Drop(nil, x) })
	s.saveMeta(b, c)
}

func (c *Collection) readOptions() {
	_, c.View = bsonval.Lookup(c.Options, "viewOn")
	v, _ := bsonval.Lookup(c.Options, "capped")
	c.Capped = bsonval.Truthy(v)
	v, _ = bsonval.Lookup(c.Options, "size")
	c.Size, _ = bsonval.Integer(v)
	v, _ = bsonval.Lookup(c.Options, "max")
	c.Max, _ = bsonval.Integer(v)
}

// Drop removes a collection.
func (s *State) Drop(b *Batch, c *Collection) {
	if s.OnChange != nil && DBOf(c.NS) != "local" {
		s.OnChange(func(t *State) { t.add(c.clone()) }) // nothing changes it any more
	}
	delete(s.byNS, c.NS)
	delete(s.byUUID, c.UUID)
	b.add(opDrop, c.UUID, 0, nil)
}

// Rename gives a collection another name; nothing may have that name.
func (s *State) Rename(b *Batch, c *Collection, to string) {
	from := c.NS
	s.undo(c, func(t *State, x *Collection) { t.Rename(nil, x, from) })
	delete(s.byNS, c.NS)
	c.NS = to
	s.byNS[to] = c
	s.saveMeta(b, c)
}

// SetOptions replaces a collection's options.
func (s *State) SetOptions(b *Batch, c *Collection, options bson.Raw) {
	was := c.Options
	s.undo(c, func(t *State, x *Collection) { t.SetOptions(nil, x, was) })
	c.Options = options
	c.readOptions()
	s.saveMeta(b, c)
}

// AddIndex builds an index.
func (s *State) AddIndex(b *Batch, c *Collection, x *Index) error {
	if err := c.build(x); err != nil {
		return err
	}
	s.undoIndexes(c)
	c.Indexes = append(slices.Clip(c.Indexes), x)
	s.saveMeta(b, c)
	return nil
}

// DropIndex removes an index.
func (s *State) DropIndex(b *Batch, c *Collection, x *Index) {
	s.undoIndexes(c)
	c.Indexes = slices.DeleteFunc(slices.Clone(c.Indexes), func(y *Index) bool { return x == y })
	s.saveMeta(b, c)
}

// SetIndexSpec changes what does not change an index's entries: expireAfterSeconds, hidden, unique, prepareUnique.
func (s *State) SetIndexSpec(b *Batch, c *Collection, x *Index, spec bson.Raw) {
	s.undoIndexes(c)
	x.Spec = spec
	v, _ := bsonval.Lookup(spec, "prepareUnique")
	x.Prepared = bsonval.Truthy(v)
	v, _ = bsonval.Lookup(spec, "unique")
	x.Unique = bsonval.Truthy(v) || x.Primary
	s.saveMeta(b, c)
}

// saveMeta writes a collection's name, options and indexes.
func (s *State) saveMeta(b *Batch, c *Collection) {
	if b == nil {
		return
	}
	b.add(opMeta, c.UUID, 0, c.meta().Raw())
}

// meta is a collection's name, options and indexes.
func (c *Collection) meta() *bsonval.Builder {
	specs := make([]bson.Raw, len(c.Indexes))
	for i, x := range c.Indexes {
		specs[i] = x.Spec
	}
	return new(bsonval.Builder).String("ns", c.NS).Doc("options", c.Options).Docs("indexes", specs)
}

// NewIndex makes an index from its specification, without entries.
func (s *State) NewIndex(spec bson.Raw) (*Index, error) {
	x := &Index{Spec: spec, Accesses: new(atomic.Int64)}
	clustered := false
	for k, v := range bsonval.Each(spec) {
		switch k {
		case "name":
			x.Name = bsonval.Str(v)
		case "unique":
			x.Unique = bsonval.Truthy(v)
		case "prepareUnique":
			x.Prepared = bsonval.Truthy(v)
		case "clustered":
			clustered = bsonval.Truthy(v)
		case "sparse":
			x.Sparse = bsonval.Truthy(v)
		case "key":
			for path, dir := range bsonval.Each(bsonval.SubDoc(v)) {
				f, ok := bsonval.Float(dir)
				if !ok || strings.Contains(path, "$**") {
					x.Special = true
				}
				x.Fields = append(x.Fields, IndexField{Path: path, Desc: f < 0})
			}
		case "collation":
			if n, ok := bsonval.Lookup(bsonval.SubDoc(v), "strength"); ok {
				k, _ := bsonval.Integer(n)
				x.Coll = &bsonval.Collation{Strength: int(k)}
			}
		case "partialFilterExpression":
			f, err := s.Filter(bsonval.SubDoc(v))
			if err != nil {
				return nil, err
			}
			x.Partial = f
		}
	}
	if x.Name == "_id_" || clustered {
		x.Unique, x.Primary = true, true
	}
	return x, nil
}

// Replay applies the bytes of a batch.
func (s *State) Replay(b []byte) error {
	for len(b) > 0 {
		if len(b) < 17 {
			return fmt.Errorf("%w: short change", errBadJournal)
		}
		op, u := b[0], [16]byte(b[1:17])
		b = b[17:]
		var rid int64
		if op == opPut || op == opDel {
			if len(b) < 8 {
				return fmt.Errorf("%w: short record id", errBadJournal)
			}
			rid, b = int64(binary.BigEndian.Uint64(b)), b[8:]
		}
		var doc bson.Raw
		if op == opPut || op == opMeta {
			if len(b) < 5 {
				return fmt.Errorf("%w: short document", errBadJournal)
			}
			n := int(int32(binary.LittleEndian.Uint32(b)))
			if n < 5 || n > len(b) {
				return fmt.Errorf("%w: document length", errBadJournal)
			}
			doc, b = bson.Raw(b[:n:n]), b[n:]
			if err := bsonval.Validate(doc); err != nil {
				return fmt.Errorf("%w: %w", errBadJournal, err)
			}
		}
		c := s.byUUID[u]
		if c == nil && op != opMeta {
			return fmt.Errorf("%w: unknown collection %x", errBadJournal, u)
		}
		switch op {
		case opPut:
			if c.Records == nil {
				return fmt.Errorf("%w: document in a view", errBadJournal)
			}
			if err := c.put(rid, doc); err != nil {
				return fmt.Errorf("%w: %w", errBadJournal, err)
			}
			c.touch(rid)
		case opDel:
			if c.Records != nil {
				c.remove(rid)
				c.touch(rid)
			}
		case opDrop:
			s.Drop(nil, c)
		case opMeta:
			if err := s.replayMeta(u, c, doc); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: change %q", errBadJournal, op)
		}
	}
	return nil
}

func (s *State) replayMeta(u [16]byte, c *Collection, doc bson.Raw) error {
	v, _ := bsonval.Lookup(doc, "ns")
	ns := bsonval.Str(v)
	v, _ = bsonval.Lookup(doc, "options")
	options := bsonval.SubDoc(v)
	v, _ = bsonval.Lookup(doc, "indexes")
	var specs []bson.Raw
	for _, x := range bsonval.Each(bsonval.SubDoc(v)) {
		specs = append(specs, bsonval.SubDoc(x))
	}
	if c == nil {
		c = &Collection{NS: ns, UUID: u, Options: options}
		s.Create(nil, c)
	} else if c.NS != ns {
		s.Rename(nil, c, ns)
	}
	c.Options = options
	c.readOptions()
	var keep []*Index
	for _, spec := range specs {
		name, _ := bsonval.Lookup(spec, "name")
		if x := c.Index(bsonval.Str(name)); x != nil && string(x.Spec) == string(spec) {
			keep = append(keep, x)
			continue
		}
		x, err := s.NewIndex(spec)
		if err != nil {
			return fmt.Errorf("%w: %w", errBadJournal, err)
		}
		if c.Records == nil {
			continue
		}
		if err := c.build(x); err != nil {
			return fmt.Errorf("%w: %w", errBadJournal, err)
		}
		keep = append(keep, x)
	}
	c.Indexes = keep
	return nil
}

// takeTouched gives the records changed since it was last called, by collection.
func (s *State) takeTouched() map[[16]byte][]int64 {
	out := map[[16]byte][]int64{}
	for u, c := range s.byUUID {
		if len(c.touched) > 0 {
			out[u] = c.touched
			c.touched = nil
		}
	}
	return out
}
