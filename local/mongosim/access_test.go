package mongosim

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/wire"
)

// TestWhatABackupUserMayDo is held to recorded/auth/backup-role.json.
func TestWhatABackupUserMayDo(t *testing.T) {
	admin := func(names ...string) (out []engine.Role) {
		for _, n := range names {
			out = append(out, engine.Role{Role: n, DB: "admin"})
		}
		return out
	}
	d := start(t, Options{
		Members: []MemberOptions{{}, {}, {}}, Username: "root", Password: "secret",
		Users: []wire.User{
			{Name: "agent", DB: "admin", Password: "a", Roles: admin("backup", "clusterMonitor")},
			{Name: "half", DB: "admin", Password: "a", Roles: admin("backup")},
		},
	})
	root := dial(t, d.URI())
	if _, err := root.Database("shop").Collection("a").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	u := uuidOf(t, root, "shop", "a")
	p := d.Member(d.Primary()).Address()
	agent, half := dial(t, "mongodb://agent:a@"+p+"/?directConnection=true"), dial(t, "mongodb://half:a@"+p+"/?directConnection=true")
	for _, x := range []struct {
		name, db string
		cmd      bson.D
		agent    int // the code of the refusal, 0 allowed
		half     int
	}{
		{"findByUUID", "shop", bson.D{{Key: "find", Value: u}}, 0, 13},
		{"findUsers", "admin", bson.D{{Key: "find", Value: "system.users"}}, 0, 0},
		{"findVersion", "admin", bson.D{{Key: "find", Value: "system.version"}}, 0, 0},
		{"findConfigTransactions", "config", bson.D{{Key: "find", Value: "transactions"}}, 0, 0},
		{"findOplog", "local", bson.D{{Key: "find", Value: "oplog.rs"}, {Key: "limit", Value: 1}}, 0, 0},
		{"listIndexes", "shop", bson.D{{Key: "listIndexes", Value: "a"}}, 0, 0},
		{"listCollections", "shop", bson.D{{Key: "listCollections", Value: 1}}, 0, 0},
		{"appendOplogNote", "admin", bson.D{{Key: "appendOplogNote", Value: 1}, {Key: "data", Value: bson.D{{Key: "token", Value: "x"}}}}, 0, 0},
		{"insertAdminMmsBackup", "admin", bson.D{{Key: "insert", Value: "mms.backup"}, {Key: "documents", Value: bson.A{bson.D{}}}}, 13, 13},
		{"insert", "shop", bson.D{{Key: "insert", Value: "a"}, {Key: "documents", Value: bson.A{bson.D{}}}}, 13, 13},
		{"applyOps", "admin", bson.D{{Key: "applyOps", Value: bson.A{}}}, 13, 13},
		{"replSetGetConfig", "admin", bson.D{{Key: "replSetGetConfig", Value: 1}}, 0, 13},
		{"usersInfo of itself", "admin", bson.D{{Key: "usersInfo", Value: bson.D{{Key: "user", Value: "agent"}, {Key: "db", Value: "admin"}}}, {Key: "showPrivileges", Value: true}}, 0, 13},
	} {
		for _, who := range []struct {
			name string
			c    *mongo.Client
			want int
		}{{"agent", agent, x.agent}, {"half", half, x.half}} {
			if got := errCode(who.c.Database(x.db).RunCommand(t.Context(), x.cmd).Err()); got != who.want {
				t.Errorf("%s as %s: code %d, want %d", x.name, who.name, got, who.want)
			}
		}
	}

	var status struct {
		AuthInfo struct {
			AuthenticatedUserPrivileges []struct {
				Resource struct {
					Cluster        bool
					DB, Collection string
				}
				Actions []string
			}
		}
	}
	if err := bson.Unmarshal(ask(t, agent, bson.D{{Key: "connectionStatus", Value: 1}, {Key: "showPrivileges", Value: true}}), &status); err != nil {
		t.Fatal(err)
	}
	cluster := map[string]bool{}
	for _, p := range status.AuthInfo.AuthenticatedUserPrivileges {
		for _, a := range p.Actions {
			cluster[a] = cluster[a] || p.Resource.Cluster
		}
	}
	if !cluster["appendOplogNote"] || !cluster["useUUID"] || cluster["applyOps"] {
		t.Errorf("privileges: %v", status)
	}

	// A user made while it runs is in the oplog and may sign in; one that is dropped may not.
	if err := root.Database("admin").RunCommand(t.Context(), bson.D{{Key: "createUser", Value: "late"}, {Key: "pwd", Value: "x"}, {Key: "roles", Value: bson.A{"read"}}}).Err(); err != nil {
		t.Fatal(err)
	}
	late := dial(t, "mongodb://late:x@"+p+"/?directConnection=true")
	if err := late.Ping(context.Background(), nil); err != nil {
		t.Error(err)
	}
	n, err := root.Database("local").Collection("oplog.rs").CountDocuments(t.Context(), bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: "admin.system.users"}})
	if err != nil || n != 4 {
		t.Errorf("%d users in the oplog: %v", n, err)
	}
	if err := root.Database("admin").RunCommand(t.Context(), bson.D{{Key: "dropUser", Value: "late"}}).Err(); err != nil {
		t.Error(err)
	}
}

// TestARestoreUserPutsUsersInTheirPlace is what a restore into a running deployment does with built-in roles only: it looks at what it
// may do, writes past validators, renames into place and merges users as mongorestore does.
func TestARestoreUserPutsUsersInTheirPlace(t *testing.T) {
	roles := func(names ...string) (out []engine.Role) {
		for _, n := range names {
			out = append(out, engine.Role{Role: n, DB: "admin"})
		}
		return out
	}
	d := start(t, Options{
		Members: []MemberOptions{{}}, Username: "root", Password: "secret",
		Users: []wire.User{
			{Name: "back", DB: "admin", Password: "b", Roles: roles("restore", "readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor")},
			{Name: "bare", DB: "admin", Password: "b", Roles: roles("restore")},
			{Name: "writer", DB: "admin", Password: "b", Roles: roles("readWriteAnyDatabase")},
			{Name: "gone", DB: "shop", Password: "b", Roles: roles("readWriteAnyDatabase")},
		},
	})
	p := d.Member(d.Primary()).Address()
	as := func(name, password, db string) *mongo.Client {
		return dial(t, "mongodb://"+name+":"+password+"@"+p+"/?directConnection=true&authSource="+db)
	}
	root, back, bare, writer := as("root", "secret", "admin"), as("back", "b", "admin"), as("bare", "b", "admin"), as("writer", "b", "admin")
	run := func(c *mongo.Client, db string, cmd bson.D) int {
		return errCode(c.Database(db).RunCommand(t.Context(), cmd).Err())
	}
	insert := func(coll string, bypass bool, docs ...any) bson.D {
		return bson.D{{Key: "insert", Value: coll}, {Key: "documents", Value: bson.A(docs)}, {Key: "bypassDocumentValidation", Value: bypass}}
	}
	rename := func(from, to string, drop bool) bson.D {
		return bson.D{{Key: "renameCollection", Value: from}, {Key: "to", Value: to}, {Key: "dropTarget", Value: drop}}
	}
	strict := bson.D{{Key: "create", Value: "strict"}, {Key: "validator", Value: bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: 5}}}}}}
	for _, x := range []struct {
		name string
		c    *mongo.Client
		db   string
		cmd  bson.D
		want int
	}{
		{"create", back, "shop", strict, 0},
		{"a document that the validator refuses", back, "shop", insert("strict", false, bson.D{{Key: "n", Value: 1}}), 0}, // in writeErrors
		{"past the validator", back, "shop", insert("strict", true, bson.D{{Key: "_id", Value: 1}, {Key: "n", Value: 1}}), 0},
		{"past the validator, without the right to", writer, "shop", insert("strict", true, bson.D{{Key: "n", Value: 1}}), 13},
		{"staging", back, "shop", insert("hwrestore_1", true, bson.D{{Key: "_id", Value: 7}}), 0},
		{"rename over a target that must stay", back, "admin", rename("shop.hwrestore_1", "shop.strict", false), 48},
		{"rename of nothing", back, "admin", rename("shop.nothing", "shop.strict", true), 26},
		{"rename onto itself", back, "admin", rename("shop.strict", "shop.strict", true), 20},
		{"restore alone may not rename", bare, "admin", rename("shop.hwrestore_1", "shop.strict", true), 13},
		{"restore alone may not read", bare, "shop", bson.D{{Key: "find", Value: "strict"}}, 13},
		{"restore alone may not update", bare, "shop", bson.D{{Key: "update", Value: "strict"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{}}, {Key: "u", Value: bson.D{}}}}}}, 13},
		{"rename", back, "admin", rename("shop.hwrestore_1", "shop.strict", true), 0},
		{"index", back, "shop", bson.D{{Key: "createIndexes", Value: "strict"}, {Key: "indexes", Value: bson.A{bson.D{{Key: "key", Value: bson.D{{Key: "n", Value: 1}}}, {Key: "name", Value: "n_1"}}}}}, 0},
		{"collMod", back, "shop", bson.D{{Key: "collMod", Value: "strict"}, {Key: "validationLevel", Value: "off"}}, 0},
		{"oplog of others", writer, "local", bson.D{{Key: "find", Value: "oplog.rs"}}, 13},
	} {
		if got := run(x.c, x.db, x.cmd); got != x.want {
			t.Errorf("%s: code %d, want %d", x.name, got, x.want)
		}
	}
	if n, err := root.Database("shop").Collection("strict").CountDocuments(t.Context(), bson.D{{Key: "_id", Value: 7}}); n != 1 || err != nil {
		t.Errorf("renamed into place: %d documents, %v", n, err)
	}
	var stats struct{ FsTotalSize, FsUsedSize float64 }
	if err := back.Database("shop").RunCommand(t.Context(), bson.D{{Key: "dbStats", Value: 1}}).Decode(&stats); err != nil || stats.FsTotalSize <= stats.FsUsedSize {
		t.Errorf("%+v %v", stats, err)
	}

	// The users of the backup: one that is there, with another password, one that is not; and a role.
	var users []bson.D
	cur, err := root.Database("admin").Collection("system.users").Find(t.Context(), bson.D{})
	if err == nil {
		err = cur.All(t.Context(), &users)
	}
	if err != nil {
		t.Fatal(err)
	}
	var from []any
	for _, u := range users {
		switch u[0].Value {
		case "admin.writer":
			from = append(from, u)
		case "shop.gone":
			fresh := bson.D{{Key: "_id", Value: "shop.fresh"}}
			for _, e := range u[1:] {
				if e.Key == "user" {
					e.Value = "fresh"
				}
				fresh = append(fresh, e)
			}
			from = append(from, fresh)
		}
	}
	role := bson.D{{Key: "_id", Value: "shop.clerk"}, {Key: "role", Value: "clerk"}, {Key: "db", Value: "shop"}, {Key: "privileges", Value: bson.A{}}, {Key: "roles", Value: bson.A{}}}
	for coll, docs := range map[string][]any{"tempusers": from, "temproles": {role}} {
		if code := run(back, "admin", insert(coll, true, docs...)); code != 0 {
			t.Fatal(code)
		}
	}
	merge := func(db string, drop bool) bson.D {
		return bson.D{
			{Key: "_mergeAuthzCollections", Value: 1},
			{Key: "tempUsersCollection", Value: "admin.tempusers"},
			{Key: "tempRolesCollection", Value: "admin.temproles"},
			{Key: "drop", Value: drop},
			{Key: "db", Value: db},
			{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}},
		}
	}
	if code := run(writer, "admin", merge("", false)); code != 13 {
		t.Errorf("merge without the right to: %d", code)
	}
	before := oplogCount(t, root, "admin.system.users")
	if code := run(back, "admin", merge("", false)); code != 0 {
		t.Fatal(code)
	}
	if err := as("fresh", "b", "shop").Ping(t.Context(), nil); err != nil {
		t.Errorf("a user that was merged: %v", err)
	}
	if err := as("gone", "b", "shop").Ping(t.Context(), nil); err != nil {
		t.Errorf("a user that the backup has not: %v", err)
	}
	if n := oplogCount(t, root, "admin.system.users") - before; n != 1 {
		t.Errorf("%d entries of users", n)
	}
	if n, err := root.Database("admin").Collection("system.roles").CountDocuments(t.Context(), bson.D{}); n != 1 || err != nil {
		t.Errorf("%d roles, %v", n, err)
	}
	if code := run(back, "admin", merge("shop", true)); code != 0 {
		t.Fatal(code)
	}
	if err := as("gone", "b", "shop").Ping(t.Context(), nil); err == nil {
		t.Error("a user that was dropped may still log in")
	}
	if err := as("writer", "b", "admin").Ping(t.Context(), nil); err != nil {
		t.Errorf("a user of another database: %v", err)
	}
}

// oplogCount is how many entries are about a namespace.
func oplogCount(t *testing.T, c *mongo.Client, ns string) int64 {
	t.Helper()
	n, err := c.Database("local").Collection("oplog.rs").CountDocuments(t.Context(), bson.D{{Key: "ns", Value: ns}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
