package wire

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
	"github.com/heartwood-db/heartwood/local/mongosim/wire/rights"
)

// Documents are the users as admin.system.users holds them.
func (u *Users) Documents() []bson.Raw {
	u.mu.RLock()
	defer u.mu.RUnlock()
	var out []bson.Raw
	for _, a := range u.m {
		out = append(out, a.doc())
	}
	slices.SortFunc(out, func(a, b bson.Raw) int {
		return strings.Compare(bsonval.StringField(a, "_id"), bsonval.StringField(b, "_id"))
	})
	return out
}

// Commands write the users' documents, as if they had been created on the first primary of a set. They are for admin.
func (u *Users) Commands() []bson.Raw {
	version := new(bsonval.Builder).String("_id", "authSchema").Int32("currentVersion", 5).Raw()
	key := new(bsonval.Builder).Int32("user", 1).Int32("db", 1).Raw()
	index := new(bsonval.Builder).Doc("key", key).String("name", "user_1_db_1").Bool("unique", true).Raw()
	return []bson.Raw{
		new(bsonval.Builder).String("insert", "system.version").Docs("documents", []bson.Raw{version}).Raw(),
		new(bsonval.Builder).String("createIndexes", "system.users").Docs("indexes", []bson.Raw{index}).Raw(),
		new(bsonval.Builder).String("insert", "system.users").Docs("documents", u.Documents()).Raw(),
	}
}

func (a account) doc() bson.Raw {
	stored := func(c scram.StoredCredentials) bson.Raw {
		enc := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
		return new(bsonval.Builder).Int32("iterationCount", int32(c.Iters)).String("salt", enc([]byte(c.Salt))).
			String("storedKey", enc(c.StoredKey)).String("serverKey", enc(c.ServerKey)).Raw()
	}
	held := new(bsonval.Builder)
	if a.user.DB == "$external" {
		held.Bool("external", true)
	} else {
		held.Doc("SCRAM-SHA-1", stored(a.sha1)).Doc("SCRAM-SHA-256", stored(a.sha2))
	}
	names, _ := rights.Roles(a.user.Roles)
	return new(bsonval.Builder).String("_id", a.user.DB+"."+a.user.Name).Value("userId", bsonval.UUID(a.id)).String("user", a.user.Name).String("db", a.user.DB).
		Doc("credentials", held.Raw()).Docs("roles", names).Raw()
}

// manage answers createUser, updateUser, dropUser and grantRolesToUser: the user's document is written as any other, so that it is in
// the oplog, and when that worked the user may log in, or may not any more.
func (c *conn) manage(ctx context.Context, db, name string, cmd bson.Raw) bson.Raw {
	users := c.s.o.Users
	who := bsonval.StringField(cmd, name)
	a, known := users.find(db, who)
	switch {
	case name == "createUser" && known:
		return engine.ErrorReply(engine.Errf(51003, "User \"%s@%s\" already exists", who, db))
	case name != "createUser" && !known:
		return engine.ErrorReply(engine.Errf(engine.CodeUserNotFound, "User '%s@%s' not found", who, db))
	}
	next := a.user
	next.Name, next.DB = who, db
	given, has := bsonval.Lookup(cmd, "roles")
	var list []engine.Role
	for _, v := range bsonval.Each(bsonval.SubDoc(given)) {
		r := engine.Role{Role: bsonval.Str(v), DB: db}
		if doc := bsonval.SubDoc(v); v.Type == bson.TypeEmbeddedDocument {
			r = engine.Role{Role: bsonval.StringField(doc, "role"), DB: bsonval.StringField(doc, "db")}
		}
		list = append(list, r)
	}
	if name == "grantRolesToUser" {
		next.Roles = append(slices.Clone(next.Roles), list...)
	} else if has {
		next.Roles = list
	}
	if pwd, ok := bsonval.Lookup(cmd, "pwd"); ok {
		next.Password = bsonval.Str(pwd)
	}
	fresh, err := newAccount(next)
	if err != nil {
		return engine.ErrorReply(engine.Errf(engine.CodeBadValue, "%v", err))
	}
	fresh.id = a.id
	if !known {
		fresh.id = newID()
	}
	key := new(bsonval.Builder).String("_id", db+"."+who).Raw()
	var write *bsonval.Builder
	switch name {
	case "createUser":
		write = new(bsonval.Builder).String("insert", "system.users").Docs("documents", []bson.Raw{fresh.doc()})
	case "dropUser":
		write = new(bsonval.Builder).String("delete", "system.users").Docs("deletes", []bson.Raw{new(bsonval.Builder).Doc("q", key).Int32("limit", 1).Raw()})
	default:
		set := new(bsonval.Builder).Doc("$set", fresh.doc()).Raw()
		write = new(bsonval.Builder).String("update", "system.users").Docs("updates", []bson.Raw{new(bsonval.Builder).Doc("q", key).Doc("u", set).Raw()})
	}
	if wc, ok := bsonval.Lookup(cmd, "writeConcern"); ok {
		write.Value("writeConcern", wc)
	}
	reply := c.s.o.Handler.Handle(ctx, &engine.Session{ID: c.sess.ID, Remote: c.sess.Remote}, "admin", write.Raw())
	ok, _ := bsonval.Lookup(reply, "ok")
	if _, failed := bsonval.Lookup(reply, "writeErrors"); failed || !bsonval.Truthy(ok) {
		return reply
	}
	if name == "dropUser" {
		users.Remove(db, who)
	} else {
		users.put(fresh)
	}
	return new(bsonval.Builder).Double("ok", 1).Raw()
}

// managing says that a command changes users.
func managing(name string) bool {
	return slices.Contains([]string{"createUser", "updateUser", "dropUser", "grantRolesToUser"}, name)
}

// merge runs _mergeAuthzCollections; from then on whoever admin.system.users holds may log in, and who went out of it may not.
func (c *conn) merge(ctx context.Context, db string, cmd bson.Raw) bson.Raw {
	before := c.documents(ctx)
	reply := c.s.o.Handler.Handle(ctx, c.sess, db, cmd)
	after := c.documents(ctx)
	for id, doc := range before {
		if _, stays := after[id]; !stays {
			c.s.o.Users.Remove(bsonval.StringField(doc, "db"), bsonval.StringField(doc, "user"))
		}
	}
	for id, doc := range after {
		if !bytes.Equal(before[id], doc) {
			c.s.o.Users.put(accountOf(doc))
		}
	}
	return reply
}

// documents are those of admin.system.users, by _id.
func (c *conn) documents(ctx context.Context) map[string]bson.Raw {
	find := new(bsonval.Builder).String("find", "system.users").Int32("batchSize", 100_000).Bool("singleBatch", true).Raw()
	reply := c.s.o.Handler.Handle(ctx, &engine.Session{ID: c.sess.ID, Internal: true}, "admin", find)
	cursor, _ := bsonval.Lookup(reply, "cursor")
	batch, _ := bsonval.Lookup(bsonval.SubDoc(cursor), "firstBatch")
	out := map[string]bson.Raw{}
	for _, doc := range bsonval.SubDocs(batch) {
		out[bsonval.StringField(doc, "_id")] = doc
	}
	return out
}

// accountOf reads a user's document. Credentials of a mechanism that it lacks let nobody in.
func accountOf(doc bson.Raw) account {
	a := account{user: User{Name: bsonval.StringField(doc, "user"), DB: bsonval.StringField(doc, "db")}}
	if id, ok := bsonval.Lookup(doc, "userId"); ok {
		a.id, _ = bsonval.UUIDOf(id)
	}
	roles, _ := bsonval.Lookup(doc, "roles")
	for _, r := range bsonval.SubDocs(roles) {
		a.user.Roles = append(a.user.Roles, engine.Role{Role: bsonval.StringField(r, "role"), DB: bsonval.StringField(r, "db")})
	}
	all, _ := bsonval.Lookup(doc, "credentials")
	a.sha1, a.sha2 = credentials(bsonval.SubDoc(all), "SCRAM-SHA-1"), credentials(bsonval.SubDoc(all), "SCRAM-SHA-256")
	return a
}

// credentials reads those of a mechanism.
func credentials(all bson.Raw, mechanism string) scram.StoredCredentials {
	v, _ := bsonval.Lookup(all, mechanism)
	doc := bsonval.SubDoc(v)
	dec := func(field string) []byte {
		b, _ := base64.StdEncoding.DecodeString(bsonval.StringField(doc, field))
		return b
	}
	n, _ := bsonval.Lookup(doc, "iterationCount")
	iterations, _ := bsonval.Integer(n)
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(dec("salt")), Iters: int(iterations)}, StoredKey: dec("storedKey"), ServerKey: dec("serverKey"),
	}
}

// usersInfo is the command usersInfo.
func (u *Users) usersInfo(db string, cmd bson.Raw) bson.Raw {
	want, _ := bsonval.Lookup(cmd, "usersInfo")
	show, _ := bsonval.Lookup(cmd, "showPrivileges")
	all := []bson.RawValue{want}
	if want.Type == bson.TypeArray {
		all = bsonval.Values(bson.Raw(want.Value))
	}
	asked := func(x User) bool {
		return slices.ContainsFunc(all, func(v bson.RawValue) bool {
			doc := bsonval.SubDoc(v)
			switch {
			case v.Type == bson.TypeString:
				return x.DB == db && x.Name == bsonval.Str(v)
			case doc != nil && bsonval.FirstKey(doc) == "forAllDBs":
				return true
			case doc != nil:
				return x.Name == bsonval.StringField(doc, "user") && x.DB == bsonval.StringField(doc, "db")
			}
			return x.DB == db
		})
	}
	u.mu.RLock()
	var found []User
	for _, a := range u.m {
		if asked(a.user) {
			found = append(found, a.user)
		}
	}
	u.mu.RUnlock()
	slices.SortFunc(found, func(a, b User) int { return strings.Compare(a.DB+"."+a.Name, b.DB+"."+b.Name) })
	var docs []bson.Raw
	for _, x := range found {
		names, privileges := rights.Roles(x.Roles)
		b := new(bsonval.Builder).String("_id", x.DB+"."+x.Name).String("user", x.Name).String("db", x.DB).Docs("roles", names)
		if bsonval.Truthy(show) {
			b.Docs("inheritedRoles", names).Docs("inheritedPrivileges", privileges)
		}
		docs = append(docs, b.Raw())
	}
	return new(bsonval.Builder).Docs("users", docs).Double("ok", 1).Raw()
}
