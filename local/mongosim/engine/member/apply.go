package member

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/catalog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

// ApplyEntry carries out one entry without logging it; mu is held. Replays must be harmless: what is already so stays so.
func (e *Engine) ApplyEntry(x oplog.Entry) error {
	switch x.Op {
	case "n":
		return nil
	case "c":
		e.stats.ReplCommand.Add(1)
		ops, txn := e.sess.Follow(x, nil, nil)
		if !txn {
			return e.applyCommand(x)
		}
		for _, op := range ops {
			if err := e.ApplyEntry(op); err != nil {
				return err
			}
		}
		return nil
	}
	coll := e.st.ByUUID(x.UI)
	if coll == nil {
		coll = e.st.Get(x.NS)
	}
	if coll == nil || coll.Records == nil {
		return fmt.Errorf("no collection %s", x.NS)
	}
	key := x.O
	if x.Op == "u" {
		key = x.O2
	}
	id, _ := bsonval.Lookup(key, "_id")
	rid, old, had := coll.FindID(id)
	var after bson.Raw
	switch x.Op {
	case "i":
		e.stats.ReplInsert.Add(1)
		after = x.O
		if had {
			if err := e.st.Put(e.Batch(), coll, rid, x.O); err != nil {
				return fmt.Errorf("insert over existing: %w", err)
			}
		} else if _, err := e.st.Insert(e.Batch(), coll, x.O); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		e.Trim(coll)
		e.ViewChanged(nil, coll, x.O, false)
	case "u":
		e.stats.ReplUpdate.Add(1)
		if !had {
			if coll.Capped {
				return nil
			}
			return fmt.Errorf("update of an absent document")
		}
		after = update.ApplyEntry(old, x.O)
		if err := e.st.Put(e.Batch(), coll, rid, after); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		e.ViewChanged(nil, coll, after, false)
	case "d":
		e.stats.ReplDelete.Add(1)
		if had {
			e.st.Remove(e.Batch(), coll, rid)
			e.ViewChanged(nil, coll, old, true)
		}
	default:
		return fmt.Errorf("unknown operation %q", x.Op)
	}
	e.sess.Follow(x, old, after)
	return nil
}

func (e *Engine) applyCommand(x oplog.Entry) error {
	ops, is := bsonval.Lookup(x.O, "applyOps")
	if !is {
		return catalog.Apply(e.st, e.Batch(), x)
	}
	for _, v := range bsonval.SubDocs(ops) {
		if err := e.ApplyEntry(oplog.Parse(v)); err != nil {
			return err
		}
	}
	return nil
}

// AddIndexes builds indexes that are not there yet; mu is held.
func (e *Engine) AddIndexes(coll *store.Collection, specs []bson.Raw) error {
	return catalog.AddIndexes(e.st, e.Batch(), coll, specs)
}

// Modify carries out collMod's fields; for a TTL index it gives the old and the new seconds. mu is held.
func (e *Engine) Modify(coll *store.Collection, o bson.Raw) (*[2]int64, error) {
	return catalog.Modify(e.st, e.Batch(), coll, o)
}

// ViewChanged keeps views in step with the documents of system.views, outside transactions; mu is held.
func (e *Engine) ViewChanged(c *Call, coll *store.Collection, doc bson.Raw, removed bool) {
	if c == nil || c.tx == nil {
		catalog.View(e.st, e.Batch(), coll, doc, removed)
	}
}

// CreateCollection makes a collection with an _id index and logs it; mu is held.
func (e *Engine) CreateCollection(ns string, options bson.Raw, uuid [16]byte, c *Call) error {
	if err := spec.CheckName(ns); err != nil {
		return err
	}
	coll, collation, err := catalog.New(e.st, ns, options, uuid)
	if err != nil {
		return err
	}
	e.st.Create(e.Batch(), coll)
	var o bsonval.Builder
	o.String("create", store.NameOf(ns)).All(coll.Options)
	if spec.ClusteredIndex(coll.Options) == nil {
		o.Doc("idIndex", spec.IDIndex(collation))
	}
	e.Log(oplog.Entry{Op: "c", NS: store.DBOf(ns) + ".$cmd", UI: uuid, O: o.Raw()})
	if c != nil {
		c.Wrote = true
		if c.tx != nil { // the transaction's copy gets it too
			twin, _, err := catalog.New(e.st, ns, options, uuid)
			if err != nil {
				return err
			}
			c.tx.State.Create(nil, twin)
		}
	}
	return nil
}

// NewUUID makes a random UUID.
func NewUUID() [16]byte { return catalog.NewUUID() }
