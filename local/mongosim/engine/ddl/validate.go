package ddl

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// Validate is the command validate: it reads every document and looks each of its keys up in every index.
func Validate(c *member.Call) (*bsonval.Builder, error) {
	unlock := c.RLock()
	defer unlock()
	ns, err := c.CollName()
	if err != nil {
		return nil, err
	}
	coll := c.State.Get(ns)
	switch {
	case coll == nil:
		return nil, refuse.Errf(refuse.CodeNamespaceNotFound, "Collection '%s' does not exist to validate.", ns)
	case coll.View:
		return nil, refuse.Errf(166, "Cannot validate a view")
	}
	r := store.Check(coll)
	texts := func(ss []string) bson.RawValue {
		vs := make([]bson.RawValue, len(ss))
		for i, s := range ss {
			vs[i] = bsonval.String(s)
		}
		return bsonval.Array(vs)
	}
	var keys, details bsonval.Builder
	for _, x := range coll.Indexes {
		n := 0
		if x.Entries != nil {
			n = x.Entries.Len()
		}
		keys.Value(x.Name, bsonval.Int(int64(n)))
		details.Doc(x.Name, new(bsonval.Builder).Bool("valid", len(r.Index[x.Name]) == 0).Raw())
	}
	v := c.E.Options().Version
	b := new(bsonval.Builder).String("ns", ns)
	if v.AtLeast(6, 2) {
		b.Value("uuid", bsonval.UUID(coll.UUID))
	}
	b.Int64("nInvalidDocuments", r.Invalid)
	if v.AtLeast(5, 3) {
		b.Int64("nNonCompliantDocuments", 0)
	}
	b.Int64("nrecords", int64(coll.Records.Len())).Int32("nIndexes", int32(len(coll.Indexes)))
	b.Doc("keysPerIndex", keys.Raw()).Doc("indexDetails", details.Raw()).Bool("valid", r.Valid()).Bool("repaired", false)
	b.Value("warnings", texts(nil)).Value("errors", texts(r.Errors())).Value("extraIndexEntries", bsonval.Array(nil)).Value("missingIndexEntries", bsonval.Array(nil))
	return b.Value("corruptRecords", bsonval.Array(nil)), nil
}
