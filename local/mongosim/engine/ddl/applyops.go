package ddl

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/spec"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/update"
)

// ApplyOps is the command applyOps.
func ApplyOps(c *member.Call) (*bsonval.Builder, error) {
	ops := c.Arg("applyOps")
	if ops.Type != bson.TypeArray {
		return nil, refuse.Errf(refuse.CodeTypeMismatch, "BSON field 'applyOps.applyOps' is the wrong type '%s', expected type 'array'", bsonval.TypeName(ops.Type))
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	n := int32(0)
	var results []bson.RawValue
	for _, v := range bsonval.Each(bson.Raw(ops.Value)) {
		doc := bsonval.SubDoc(v)
		x := oplog.Parse(doc)
		if err := applyOne(c, x, doc, bsonval.Truthy(c.Arg("allowAtomic")), bsonval.Truthy(c.Arg("alwaysUpsert")) || c.Arg("alwaysUpsert").Type == 0); err != nil {
			return nil, err
		}
		n++
		results = append(results, bsonval.Bool(true))
	}
	return new(bsonval.Builder).Int32("applied", n).Value("results", bsonval.Array(results)), nil
}

func applyOne(c *member.Call, x oplog.Entry, raw bson.Raw, _, alwaysUpsert bool) error {
	e := c.E
	if x.Op == "n" {
		return nil
	}
	if x.Op != "c" {
		coll := e.Main().ByUUID(x.UI)
		if coll == nil {
			coll = e.Main().Get(x.NS)
		}
		if coll == nil {
			if x.Op == "d" {
				return nil
			}
			return refuse.Errf(refuse.CodeNamespaceNotFound, "cannot apply insert or update operation on a non-existent namespace %s: %s", x.NS, bsonval.FormatDoc(raw))
		}
		x.UI, x.NS = coll.UUID, coll.NS
		if x.Op == "u" {
			if v, ok := bsonval.Lookup(x.O, "$v"); ok {
				if k, _ := bsonval.Integer(v); k == 2 && !e.Options().DiffUpdates {
					return refuse.Errf(40682, "Unrecognized value for '$v' (UpdateSemantics) field: 2")
				}
			}
			id, _ := bsonval.Lookup(x.O2, "_id")
			if _, _, had := coll.FindID(id); !had {
				if up, ok := bsonval.Lookup(raw, "b"); !alwaysUpsert && !(ok && bsonval.Truthy(up)) {
					return refuse.Errf(refuse.CodeUpdateOperationFailed, "Failed to apply update: { op: \"u\", ns: %q, o: %s, o2: %s, ts: Timestamp(0, 0), wall: new Date(0) }", x.NS, bsonval.FormatDoc(x.O), bsonval.FormatDoc(x.O2))
				}
				x = oplog.Entry{Op: "i", NS: x.NS, UI: x.UI, O: update.ApplyEntry(new(bsonval.Builder).Value("_id", id).Raw(), fullUpdate(x.O))}
			}
		}
	} else if x.UI == ([16]byte{}) && bsonval.FirstKey(x.O) == "create" {
		x.UI = member.NewUUID()
		if _, ok := bsonval.Lookup(x.O, "idIndex"); !ok {
			x.O = new(bsonval.Builder).All(x.O).Doc("idIndex", spec.IDIndex(nil)).Raw()
		}
	}
	if err := e.ApplyEntry(x); err != nil {
		return refuse.Errf(refuse.CodeUpdateOperationFailed, "%s", err.Error())
	}
	c.Wrote = true
	e.Log(x)
	return nil
}

// fullUpdate marks operators without $v as the modifiers they are.
func fullUpdate(o bson.Raw) bson.Raw {
	if strings.HasPrefix(bsonval.FirstKey(o), "$") && bsonval.FirstKey(o) != "$v" {
		return new(bsonval.Builder).Int32("$v", 1).All(o).Raw()
	}
	return o
}
