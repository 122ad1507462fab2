package admin

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/crud"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/member"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// MergeAuthzCollections is the command _mergeAuthzCollections, with which mongorestore puts users and roles in their place. Whoever
// is there already stays as he is, unless drop says that the temporary collection replaces all of the database, or of all databases.
func MergeAuthzCollections(c *member.Call) (*bsonval.Builder, error) {
	if err := c.Known("tempUsersCollection", "tempRolesCollection", "db", "drop"); err != nil {
		return nil, err
	}
	if c.Arg("db").Type == 0 {
		return nil, refuse.Errf(40414, "BSON field '_mergeAuthzCollections.db' is missing but a required field")
	}
	m := merge{c: c, db: bsonval.Str(c.Arg("db")), drop: bsonval.Truthy(c.Arg("drop"))}
	users, roles := bsonval.Str(c.Arg("tempUsersCollection")), bsonval.Str(c.Arg("tempRolesCollection"))
	if users == "" && roles == "" {
		return nil, refuse.Errf(refuse.CodeBadValue, "Must provide at least one of \"tempUsersCollection\" and \"tempRolescollection\"")
	}
	if err := c.Lock(); err != nil {
		return nil, err
	}
	defer c.Unlock()
	for _, x := range []struct{ from, to, name string }{{users, "admin.system.users", "user"}, {roles, "admin.system.roles", "role"}} {
		if x.from == "" {
			continue
		}
		if err := m.run(x.from, x.to, x.name); err != nil {
			return nil, err
		}
	}
	return &bsonval.Builder{}, nil
}

// merge is one such command; the lock is held.
type merge struct {
	c    *member.Call
	db   string // whose users are meant; empty for all
	drop bool
}

// wanted are a collection's documents of the database, by the name and database they are about.
func (m *merge) wanted(ns, name string) (keys []string, docs map[string]bson.Raw) {
	docs = map[string]bson.Raw{}
	coll := m.c.State.Get(ns)
	if coll == nil || coll.View {
		return nil, docs
	}
	for _, doc := range coll.Records.Ascend(0) {
		if db := bsonval.StringField(doc, "db"); m.db == "" || db == m.db {
			key := db + "." + bsonval.StringField(doc, name)
			keys, docs[key] = append(keys, key), doc
		}
	}
	return keys, docs
}

func (m *merge) run(from, to, name string) error {
	var gone []string
	old := map[string]bson.Raw{}
	if m.drop {
		gone, old = m.wanted(to, name)
	}
	keys, fresh := m.wanted(from, name)
	coll, err := m.c.Writable(to, len(keys) > 0)
	if err != nil || coll == nil {
		return err
	}
	for _, key := range keys {
		doc := fresh[key]
		was, replaces := old[key]
		if !replaces {
			_ = crud.InsertDoc(m.c, coll, doc, 0) // one that is there already stays; a server goes on after a warning
			continue
		}
		if err := m.replace(coll, was, doc); err != nil {
			return err
		}
	}
	for _, key := range gone {
		if _, stays := fresh[key]; stays {
			continue
		}
		id, _ := bsonval.Lookup(old[key], "_id")
		st := new(bsonval.Builder).Doc("q", new(bsonval.Builder).Value("_id", id).Raw()).Int32("limit", 1).Raw()
		if _, _, err := crud.DeleteOne(m.c, to, st, nil, 0); err != nil {
			return err
		}
	}
	return nil
}

// replace puts a document in another's place, under the _id of the one that goes.
func (m *merge) replace(coll *store.Collection, was, doc bson.Raw) error {
	id, _ := bsonval.Lookup(was, "_id")
	rid, _, _ := coll.FindID(id)
	if err := m.c.State.Put(m.c.Batch(), coll, rid, doc); err != nil {
		return err
	}
	m.c.Record(oplog.Entry{Op: "u", NS: coll.NS, UI: coll.UUID, O: doc, O2: new(bsonval.Builder).Value("_id", id).Raw()}, 0, member.StmtResult{N: 1})
	return nil
}
