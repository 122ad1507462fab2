package intaketest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/oplog/txn"
)

// Data are the documents of each collection, by name and by _id.
type Data map[string]map[string]bson.Raw

// Replay gives what the epoch's slices amount to: its collections as they were read, and over them its oplog from the start.
// It is deliberately plain: one document at a time, in order.
func (e *Epoch) Replay() (Data, error) {
	var known []schema.Collection
	heaps := map[oplog.UUID]map[string]bson.Raw{}
	for k, c := range e.Collections {
		if c.View != nil || c.Lost != "" {
			continue
		}
		known = append(known, schema.Collection{UUID: c.UUID, NS: c.NS, Options: c.Options, IDIndex: c.IDIndex, Indexes: c.Indexes})
		heap := map[string]bson.Raw{}
		heaps[c.UUID] = heap
		seeds := slices.Clone(e.Seeds[k])
		slices.SortFunc(seeds, func(a, b Seed) int { return int(a.Seq - b.Seq) })
		for i, s := range seeds {
			if s.Seq != int64(i) {
				return nil, fmt.Errorf("%s: slice %d is missing", c.NS, i)
			}
			for rest := s.Docs; len(rest) > 0; {
				n := binary.LittleEndian.Uint32(rest)
				doc := bson.Raw(rest[:n:n])
				rest = rest[n:]
				id, _ := oplog.Lookup(doc, "_id")
				heap[document.Key(id)] = doc
			}
		}
	}
	cat, err := schema.New(known...)
	if err != nil {
		return nil, err
	}
	buffer := txn.New(nil)
	for _, raw := range e.Entries {
		entry, err := oplog.Decode(raw)
		if err != nil {
			return nil, err
		}
		verdict, err := buffer.Add(entry)
		if err != nil {
			return nil, err
		}
		if verdict != txn.Apply && verdict != txn.Commit {
			continue
		}
		fuzzy := e.Scanned == nil || !e.Scanned.ScanEnd.Before(entry.At)
		for op, err := range buffer.Operations(entry) {
			if err == nil {
				err = apply(cat, heaps, op, fuzzy)
			}
			if err != nil {
				return nil, fmt.Errorf("entry %s: %w", entry.At, err)
			}
		}
		if err := buffer.Done(entry); err != nil {
			return nil, err
		}
	}
	out := Data{}
	for _, c := range cat.Collections() {
		out[c.NS] = heaps[c.UUID]
	}
	return out, nil
}

func apply(cat *schema.Catalogue, heaps map[oplog.UUID]map[string]bson.Raw, op *oplog.Op, fuzzy bool) error {
	switch op.Kind {
	case oplog.Noop, oplog.Internal:
		return nil
	case oplog.Command:
		steps, odd, err := cat.Apply(op)
		if err != nil {
			return err
		}
		if odd != 0 && !fuzzy {
			return fmt.Errorf("after the window: %s: %s", op.O, odd)
		}
		for _, s := range steps {
			switch s.Do {
			case schema.CreateCollection, schema.EmptyCollection:
				heaps[s.Collection.UUID] = map[string]bson.Raw{}
			case schema.DropCollection:
				delete(heaps, s.Collection.UUID)
			}
		}
		return nil
	}
	c, ok := cat.Lookup(op.UI, op.NS)
	if !ok {
		if fuzzy {
			return nil
		}
		return fmt.Errorf("after the window: %s of a collection that is not there: %s", op.Kind, op.NS)
	}
	heap := heaps[c.UUID]
	id := document.Key(op.ID)
	after, odd, err := document.Apply(heap[id], op)
	if err != nil {
		return err
	}
	if odd != 0 && !fuzzy && !c.Capped() {
		return fmt.Errorf("after the window: %s in %s: %s", op.Kind, c.NS, odd)
	}
	if after == nil {
		delete(heap, id)
	} else {
		heap[id] = after
	}
	return nil
}
