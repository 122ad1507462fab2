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
