// Package schema follows the collections of a replica set through its oplog: names, options, indexes and views, by UUID.
// It turns each command into the steps that bring another server to the same state, and keeps what must be built after
// a replay (secondary indexes). A collection is its UUID; a name is where it is at the moment.
package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Collection is one collection as listCollections and listIndexes give it.
type Collection struct {
	UUID    oplog.UUID
	NS      string
	Options bson.Raw   // as create takes them, without the name and idIndex; nil for none
	IDIndex bson.Raw   // the specification of _id_, nil where the collection is clustered
	Indexes []bson.Raw // the others, in the order of their making
	Temp    bool
}

// Capped reports whether the order of insertion counts.
func (c *Collection) Capped() bool { return c.flag("capped") }

// Collation is the default collation, nil for the simple one.
func (c *Collection) Collation() bson.Raw {
	v, _ := oplog.Lookup(c.Options, "collation")
	d, ok := v.DocumentOK()
	if !ok {
		return nil
	}
	locale, _ := oplog.Lookup(d, "locale")
	if s, _ := locale.StringValueOK(); s == "simple" {
		return nil
	}
	return bson.Raw(d)
}

// Unique reports whether an index other than _id's is unique: then two documents may not be written in any order.
func (c *Collection) Unique() bool {
	return slices.ContainsFunc(c.Indexes, func(spec bson.Raw) bool {
		for _, name := range []string{"unique", "prepareUnique"} {
			if v, ok := oplog.Lookup(spec, name); ok && isTrue(v) {
				return true
			}
		}
		return false
	})
}

// Views reports whether the documents of the collection are the views of its database.
func (c *Collection) Views() bool { return IsViews(c.NS) }

// IsViews reports whether a namespace holds the views of its database.
func IsViews(ns string) bool {
	_, coll := oplog.Split(ns)
	return coll == "system.views"
}

// isBuckets reports whether a namespace holds the buckets of a time series.
func isBuckets(ns string) bool {
	_, coll := oplog.Split(ns)
	return strings.HasPrefix(coll, "system.buckets.")
}

// BuildSpecs are the specifications to hand to createIndexes: an index without a collation on a collection that has one
// was made with the simple collation, which must then be said.
func (c *Collection) BuildSpecs() []bson.Raw {
	if c.Collation() == nil {
		return slices.Clone(c.Indexes)
	}
	out := make([]bson.Raw, 0, len(c.Indexes))
	for _, spec := range c.Indexes {
		if _, ok := oplog.Lookup(spec, "collation"); !ok {
			simple := bsoncore.BuildDocument(nil, bsoncore.AppendStringElement(nil, "locale", "simple"))
			spec = set(spec, "collation", bsoncore.Value{Type: bsoncore.TypeEmbeddedDocument, Data: simple})
		}
		out = append(out, spec)
	}
	return out
}

func (c *Collection) flag(name string) bool {
	v, ok := oplog.Lookup(c.Options, name)
	return ok && isTrue(v)
}

func isTrue(v bsoncore.Value) bool {
	if b, ok := v.BooleanOK(); ok {
		return b
	}
	n, ok := v.AsInt64OK()
	return ok && n != 0
}

// Do is what a step does.
type Do int

// The steps.
const (
	// CreateCollection makes Collection, through applyOps with its UUID.
	CreateCollection Do = iota + 1
	// DropCollection drops it by UUID.
	DropCollection
	// RenameCollection moves it from From to its present name.
	RenameCollection
	// ModifyCollection sends Command, a collMod.
	ModifyCollection
	// BuildIndexes makes Indexes (or leaves them for the end of the replay: the catalogue has them).
	BuildIndexes
	// DropIndexes drops the indexes Names.
	DropIndexes
	// EmptyCollection removes every document of a capped collection.
	EmptyCollection
	// CreateView, ModifyView and DropView are about View, a document of system.views; its _id is the view's namespace.
	CreateView
	ModifyView
	DropView
)

// String names it.
func (d Do) String() string {
	names := []string{"", "create", "drop", "rename", "collMod", "build indexes", "drop indexes", "empty", "create view", "modify view", "drop view"}
	if d <= 0 || int(d) >= len(names) {
		return "nothing"
	}
	return names[d]
}

// Step is one thing to do on a server that shall have the same collections.
type Step struct {
	Do         Do
	Collection Collection // afterwards (before, for a drop)
	From       string     // of a rename
	Command    bson.Raw   // of a collMod, as the entry has it
	Indexes    []bson.Raw
	Names      []string
	View       bson.Raw
}

// Oddity is what did not fit; as in package document, normal in the fuzzy window and corruption after it.
type Oddity uint8

// The oddities.
const (
	// NoCollection: the command is about a collection that is not there.
	NoCollection Oddity = 1 << iota
	// NameTaken: another collection had the name; it was moved aside.
	NameTaken
	// NoIndex: an index to be dropped or changed was not there.
	NoIndex
	// Leftover: a database was dropped and still had collections, which stay.
	Leftover
	// OddView: a view was made twice, or changed or dropped and not there.
	OddView
)

// String names them.
func (o Oddity) String() string {
	var out []string
	for i, s := range []string{"no such collection", "name taken by another collection", "no such index", "collections left in a dropped database", "view made twice or missing"} {
		if o&(1<<i) != 0 {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

// Catalogue is the collections at a point of the oplog.
type Catalogue struct {
	byUUID map[oplog.UUID]*Collection
	byName map[string]*Collection
	views  map[string]bson.Raw
}

// New returns a catalogue of the given collections.
func New(collections ...Collection) (*Catalogue, error) {
	c := &Catalogue{byUUID: map[oplog.UUID]*Collection{}, byName: map[string]*Collection{}, views: map[string]bson.Raw{}}
	for i := range collections {
		x := collections[i]
		if x.UUID.IsZero() || c.byUUID[x.UUID] != nil || c.byName[x.NS] != nil {
			return nil, fmt.Errorf("collection %s with UUID %s: twice, or without UUID", x.NS, x.UUID)
		}
		c.put(&x)
	}
	return c, nil
}

// AddView tells of a view that was there from the beginning.
func (c *Catalogue) AddView(doc bson.Raw) error {
	id, err := viewID(doc)
	if err == nil {
		c.views[id] = doc
	}
	return err
}

// Lookup finds the collection of an operation: by UUID, by name only where the operation carries none.
func (c *Catalogue) Lookup(id oplog.UUID, ns string) (Collection, bool) {
	x := c.find(id, ns)
	if x == nil {
		return Collection{}, false
	}
	return *x, true
}

// Collections lists all, by name.
func (c *Catalogue) Collections() []Collection {
	out := make([]Collection, 0, len(c.byUUID))
	for _, x := range c.byUUID {
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b Collection) int { return strings.Compare(a.NS, b.NS) })
	return out
}

// ViewsOf lists the documents of a database's system.views by their _id.
func (c *Catalogue) ViewsOf(db string) []bson.Raw {
	var ids []string
	for id := range c.views {
		if d, _ := oplog.Split(id); d == db {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	out := make([]bson.Raw, 0, len(ids))
	for _, id := range ids {
		out = append(out, c.views[id])
	}
	return out
}

// Views lists the documents of all views by their _id.
func (c *Catalogue) Views() []bson.Raw {
	out := make([]bson.Raw, 0, len(c.views))
	for _, id := range slices.Sorted(maps.Keys(c.views)) {
		out = append(out, c.views[id])
	}
	return out
}

// Aside lists collections that were moved out of the way and not found their place: at the end of the fuzzy window there must be none.
func (c *Catalogue) Aside() []Collection {
	return slices.DeleteFunc(c.Collections(), func(x Collection) bool { return !strings.Contains(x.NS, asidePrefix) })
}

const asidePrefix = ".heartwood.aside."

// AsideName is the name of a collection that cannot have its own at the beginning of the fuzzy window, because another one that was
// read then has it. Both had the name within the window, one after another, so that an entry of each gives it a name or drops it.
func AsideName(ns string, id oplog.UUID) string {
	db, _ := oplog.Split(ns)
	return db + asidePrefix + id.String()
}

func (c *Catalogue) find(id oplog.UUID, ns string) *Collection {
	if id.IsZero() {
		return c.byName[ns]
	}
	return c.byUUID[id]
}

func (c *Catalogue) put(x *Collection) {
	c.byUUID[x.UUID] = x
	c.byName[x.NS] = x
}

func (c *Catalogue) remove(x *Collection) {
	delete(c.byUUID, x.UUID)
	if c.byName[x.NS] == x {
		delete(c.byName, x.NS)
	}
}

// moveTo gives a collection a name that is free.
func (c *Catalogue) moveTo(x *Collection, ns string) Step {
	from := x.NS
	delete(c.byName, from)
	x.NS = ns
	c.byName[ns] = x
	return Step{Do: RenameCollection, Collection: *x, From: from}
}

// clear makes a name free by moving whoever has it aside: in the fuzzy window it is a collection of later times, whose own
// entry gives it its name back.
func (c *Catalogue) clear(ns string, steps []Step) ([]Step, Oddity) {
	x := c.byName[ns]
	if x == nil {
		return steps, 0
	}
	return append(steps, c.moveTo(x, AsideName(ns, x.UUID))), NameTaken
}
