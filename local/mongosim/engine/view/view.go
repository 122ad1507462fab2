// Package view is what makes, changes and drops views, which are documents of system.views, and time series, which are a view over a
// collection of buckets. It owns no state; a member.Call gives it the member to work on.
package view

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/agg"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/crud"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// Check refuses a pipeline that no view can have. That of a time series begins with the stage that unpacks buckets.
func Check(stages []bson.Raw) error {
	if len(stages) > 0 && bsonval.FirstKey(stages[0]) == unpack {
		stages = stages[1:]
	}
	_, err := agg.Parse(stages)
	return err
}

// maxDepth is how many views may lie on one another.
const maxDepth = 20

// chain refuses a view that would show itself through others, or that lies too deep.
func chain(st *store.State, ns, on string) error {
	db := store.DBOf(ns)
	for range maxDepth {
		if on == store.NameOf(ns) {
			return refuse.Errf(refuse.CodeGraphContainsCycle, "View cycle detected: %s", ns)
		}
		next := st.Get(db + "." + on)
		if next == nil || !next.View {
			return nil
		}
		on = bsonval.StringField(next.Options, "viewOn")
	}
	return refuse.Errf(refuse.CodeViewDepthLimitExceeded, "View depth limit exceeded; maximum depth is %d", maxDepth)
}

// unpack is the stage that makes measurements of buckets.
const unpack = "$_internalUnpackBucket"

// Create notes a view in system.views, which makes it; the lock is held.
func Create(c *member.Call, ns string, options bson.Raw) error {
	if err := chain(c.State, ns, bsonval.StringField(options, "viewOn")); err != nil {
		return err
	}
	views, err := c.Writable(store.DBOf(ns)+".system.views", true)
	if err != nil {
		return err
	}
	doc := new(bsonval.Builder).String("_id", ns).All(options)
	if _, ok := bsonval.Lookup(options, "pipeline"); !ok {
		doc.Value("pipeline", bsonval.Array(nil))
	}
	return crud.InsertDoc(c, views, doc.Raw(), 0)
}

// Modify changes a view's document in system.views as the fields of a collMod say, which changes the view; the lock is held.
func Modify(c *member.Call, view *store.Collection, cmd bson.Raw) error {
	es := bsonval.Elems(view.Options)
	for k, v := range bsonval.Each(cmd) {
		if k != "viewOn" && k != "pipeline" {
			if k == "collMod" || member.Generic(k) || strings.HasPrefix(k, "$") {
				continue
			}
			return refuse.Errf(refuse.CodeInvalidOptions, "option not supported on a view: %s", k)
		}
		if k == "pipeline" {
			if err := Check(bsonval.SubDocs(v)); err != nil {
				return err
			}
		}
		for i := range es {
			if es[i].Key == k {
				es[i].Value = v
			}
		}
	}
	if err := chain(c.State, view.NS, bsonval.StringField(bsonval.FromElems(es), "viewOn")); err != nil {
		return err
	}
	e := c.E
	views := e.Main().Get(store.DBOf(view.NS) + ".system.views")
	if views == nil {
		return refuse.Errf(refuse.CodeNamespaceNotFound, "ns does not exist")
	}
	id := bsonval.String(view.NS)
	rid, _, had := views.FindID(id)
	if !had {
		return refuse.Errf(refuse.CodeNamespaceNotFound, "ns does not exist")
	}
	doc := new(bsonval.Builder).Value("_id", id).All(bsonval.FromElems(es)).Raw()
	if err := e.Main().Put(e.Batch(), views, rid, doc); err != nil {
		return err
	}
	c.Wrote = true
	e.Log(oplog.Entry{Op: "u", NS: views.NS, UI: views.UUID, O: doc, O2: new(bsonval.Builder).Value("_id", id).Raw()})
	e.ViewChanged(nil, views, doc, false)
	return nil
}

// Drop takes a view's document out of system.views, which drops the view; the lock is held.
func Drop(c *member.Call, ns string) error {
	views := c.E.Main().Get(store.DBOf(ns) + ".system.views")
	if views == nil {
		return nil
	}
	st := new(bsonval.Builder).Doc("q", new(bsonval.Builder).String("_id", ns).Raw()).Int32("limit", 1).Raw()
	_, _, err := crud.DeleteOne(c, views.NS, st, nil, 0)
	return err
}
