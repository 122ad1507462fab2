package crud

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bucket"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

// openBuckets is how many of a series' newest buckets are looked at for room.
const openBuckets = 16

// insertSeries puts a measurement into the newest bucket that takes it, or into a new one: the oplog shows buckets only. mu is held.
func insertSeries(c *member.Call, view *store.Collection, doc bson.Raw, stmt int) error {
	coll := c.State.Get(store.DBOf(view.NS) + "." + bsonval.StringField(view.Options, "viewOn"))
	if coll == nil {
		return refuse.Errf(refuse.CodeNamespaceNotFound, "Time-series buckets collection of %s is missing", view.NS)
	}
	series, _ := bsonval.Lookup(coll.Options, "timeseries")
	s := bucket.Within(bsonval.SubDoc(series))
	s.Compressed = c.E.Options().Version.AtLeast(8, 0)
	n := 0
	for rid, old := range coll.Records.Descend(1<<63 - 1) {
		if n++; n > openBuckets {
			break
		}
		next, fits := s.Add(old, doc)
		if !fits {
			continue
		}
		if err := c.State.Put(c.Batch(), coll, rid, next); err != nil {
			return err
		}
		id, _ := bsonval.Lookup(old, "_id")
		c.Record(oplog.Entry{Op: "u", NS: coll.NS, UI: coll.UUID, O: update.DiffDeep(old, next), O2: new(bsonval.Builder).Value("_id", id).Raw()}, stmt, member.StmtResult{N: 1})
		c.E.Stats().DocsInserted.Add(1)
		return nil
	}
	first, err := s.Open(doc)
	if err != nil {
		return err
	}
	if _, err := c.State.Insert(c.Batch(), coll, first); err != nil {
		return err
	}
	c.E.Stats().DocsInserted.Add(1)
	c.Record(oplog.Entry{Op: "i", NS: coll.NS, UI: coll.UUID, O: first}, stmt, member.StmtResult{N: 1})
	return nil
}
