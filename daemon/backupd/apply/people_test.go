package apply_test

import (
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// TestUsersAndRoles is case 19: users and roles that change under the read and after it, beside databases whose names begin as those of
// the system do, and with a filter, which they are not subject to.
func TestUsersAndRoles(t *testing.T) {
	k := newCases(t)
	w := k.next(t)
	w.db = "admin"
	only, err := filter.New(filter.Include, []string{"admin2", "config2.kept", "locals"})
	if err != nil {
		t.Fatal(err)
	}
	user := func(name, more string) string {
		return `{"_id":"shop.` + name + `","userId":"U9","user":"` + name + `","db":"shop","credentials":{"SCRAM-SHA-256":{"iterationCount":15000,"salt":"c2FsdA==","storedKey":"a2V5","serverKey":"a2V5"}},"roles":[` + more + `]}`
	}
	const reads, writes = `{"role":"read","db":"shop"}`, `{"role":"readWrite","db":"shop"}`
	const role = `{"_id":"shop.clerk","role":"clerk","db":"shop","privileges":[{"resource":{"db":"shop","collection":""},"actions":["find"]}],"roles":[]}`
	// While the source was read: ann had been read before she got another role, bob after he was made, carl was dropped before.
	w.log(`"op":"u","ns":"admin.system.users","ui":"U1","o2":{"_id":"shop.ann"},"o":{"$v":2,"diff":{"sroles":{"a":true,"u1":` + writes + `}}}
		"op":"i","ns":"admin.system.users","ui":"U1","o":` + user("bob", reads) + `
		"op":"u","ns":"admin.system.users","ui":"U1","o2":{"_id":"shop.carl"},"o":{"$v":1,"$set":{"customData":{"a":1}}}
		"op":"d","ns":"admin.system.users","ui":"U1","o":{"_id":"shop.carl"}
		"op":"i","ns":"admin.system.roles","ui":"U2","o":` + role + `
		@20 "op":"n","ns":"","o":{"msg":"end"}`)
	index := `{"v":2,"unique":true,"key":{"user":1,"db":1},"name":"user_1_db_1"}`
	a := k.copied(w, apply.Options{Filter: only}, 10, []schema.Collection{k.coll(w, 1, "system.users", "", index), k.coll(w, 2, "system.roles", "", `{"v":2,"unique":true,"key":{"role":1,"db":1},"name":"role_1_db_1"}`)},
		map[string]string{"system.users": user("ann", reads) + "\n" + user("bob", reads)})
	k.run(w, a)
	w.has("system.users", user("ann", reads+","+writes)+"\n"+user("bob", reads))
	w.has("system.roles", role)
	w.indexes("system.users", "_id_, user_1_db_1 unique:true")

	// After it: a password, a role, a user who goes, within a transaction too; and data of databases that only sound like the system's.
	w.log(`"op":"u","ns":"admin.system.users","ui":"U1","o2":{"_id":"shop.ann"},"o":{"$v":2,"diff":{"scredentials":{"sSCRAM-SHA-256":{"u":{"storedKey":"bmV3"}}}}}
		"op":"u","ns":"admin.system.roles","ui":"U2","o2":{"_id":"shop.clerk"},"o":{"$v":2,"diff":{"sprivileges":{"a":true,"s0":{"sactions":{"a":true,"u1":"insert"}}}}}
		"op":"d","ns":"admin.system.users","ui":"U1","o":{"_id":"shop.bob"}
		"op":"c","ns":"admin2.$cmd","ui":"U3","o":{"create":"c"}
		"op":"i","ns":"admin2.c","ui":"U3","o":{"_id":1}
		"op":"c","ns":"admin2.$cmd","ui":"U4","o":{"create":"system.users"}
		"op":"i","ns":"admin2.system.users","ui":"U4","o":{"_id":"no user"}
		"op":"c","ns":"config2.$cmd","ui":"U5","o":{"create":"kept"}
		"op":"i","ns":"config2.kept","ui":"U5","o":{"_id":1}
		"op":"c","ns":"config2.$cmd","ui":"U6","o":{"create":"transactions"}
		"op":"i","ns":"config2.transactions","ui":"U6","o":{"_id":1}
		"op":"c","ns":"locals.$cmd","ui":"U7","o":{"create":"c"}
		"op":"c","ns":"administration.$cmd","ui":"U8","o":{"create":"c"}`)
	k.run(w, a)
	one := func(db, coll string) bson.Raw {
		doc, err := k.h.Client().Database(db).Collection(coll).FindOne(t.Context(), bson.D{}).Raw()
		if err != nil {
			t.Errorf("%s.%s: %v", db, coll, err)
		}
		return doc
	}
	if got := one("admin", "system.users"); got.Lookup("_id").StringValue() != "shop.ann" || got.Lookup("credentials", "SCRAM-SHA-256", "storedKey").StringValue() != "bmV3" {
		t.Errorf("users are %s", got)
	}
	if got := one("admin", "system.roles").Lookup("privileges", "0", "actions"); got.Array().String() != `["find","insert"]` {
		t.Errorf("the role may %s", got)
	}
	one("admin2", "c")
	one("admin2", "system.users")
	one("config2", "kept")
	names, err := k.h.Client().ListDatabaseNames(t.Context(), bson.D{})
	if err != nil || slices.Contains(names, "administration") || !slices.Contains(names, "locals") {
		t.Errorf("databases %v, %v", names, err)
	}
	if left, err := k.h.Client().Database("config2").ListCollectionNames(t.Context(), bson.D{}); err != nil || !slices.Equal(left, []string{"kept"}) {
		t.Errorf("config2 has %v, %v", left, err)
	}
}
