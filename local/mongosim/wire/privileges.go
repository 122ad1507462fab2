package wire

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// resource is what a privilege is about. Empty names stand for all.
type resource struct {
	cluster, any bool
	db, coll     string
}

func (r resource) doc() bson.Raw {
	var b bsonval.Builder
	switch {
	case r.cluster:
		b.Bool("cluster", true)
	case r.any:
		b.Bool("anyResource", true)
	default:
		b.String("db", r.db).String("collection", r.coll)
	}
	return b.Raw()
}

// privilege is actions allowed on a resource.
type privilege struct {
	on      resource
	actions []string
}

func (p privilege) doc() bson.Raw {
	vs := make([]bson.RawValue, len(p.actions))
	for i, a := range p.actions {
		vs[i] = bsonval.String(a)
	}
	return new(bsonval.Builder).Doc("resource", p.on.doc()).Value("actions", bsonval.Array(vs)).Raw()
}

// privilegesOf are a built-in role's privileges, as far as this package allows commands by them. A client that must know what it
// may do asks for them: connectionStatus and usersInfo with showPrivileges.
func privilegesOf(r engine.Role) []privilege {
	cluster, anything, everywhere := resource{cluster: true}, resource{any: true}, resource{}
	reads := []string{"collStats", "dbHash", "dbStats", "find", "killCursors", "listCollections", "listIndexes", "planCacheRead"}
	writes := []string{"convertToCapped", "createCollection", "createIndex", "dropCollection", "dropIndex", "insert", "remove", "renameCollectionSameDB", "update"}
	monitor := []string{
		"connPoolStats", "getCmdLineOpts", "getDefaultRWConcern", "getLog", "getParameter", "getShardMap", "hostInfo", "inprog", "listDatabases", "listSessions", "listShards",
		"netstat", "replSetGetConfig", "replSetGetStatus", "serverStatus", "shardingState", "top", "useUUID",
	}
	watch := []privilege{
		{cluster, monitor},
		{everywhere, []string{"collStats", "dbStats", "getDatabaseVersion", "getShardVersion", "indexStats"}},
		{resource{db: "config"}, append([]string{"find", "indexStats"}, reads[:3]...)},
		{resource{db: "local"}, []string{"collStats", "dbHash", "dbStats", "find", "indexStats"}},
		{resource{coll: "system.profile"}, []string{"find", "indexStats", "collStats"}},
	}
	switch r.Role {
	case "root", "__system":
		return []privilege{
			{cluster, append(slices.Clone(monitor), "addShard", "appendOplogNote", "applyOps", "forceUUID", "fsync", "killop", "replSetConfigure", "replSetStateChange", "resync", "shutdown", "unlock")},
			{anything, slices.Concat(reads, writes, []string{"bypassDocumentValidation", "collMod", "dropDatabase", "createUser", "createRole", "viewUser", "viewRole"})},
		}
	case "read":
		return []privilege{{resource{db: r.DB}, reads}}
	case "readWrite":
		return []privilege{{resource{db: r.DB}, slices.Concat(reads, writes)}}
	case "dbAdmin", "dbOwner":
		return []privilege{{resource{db: r.DB}, slices.Concat(reads, writes, []string{"collMod", "dropDatabase"})}}
	case "readAnyDatabase":
		return []privilege{{cluster, []string{"listDatabases"}}, {everywhere, reads}}
	case "readWriteAnyDatabase":
		return []privilege{{cluster, []string{"listDatabases"}}, {everywhere, slices.Concat(reads, writes)}}
	case "clusterMonitor":
		return watch
	case "clusterManager", "clusterAdmin":
		return append(watch, privilege{cluster, []string{"appendOplogNote", "applicationMessage", "replSetConfigure", "replSetStateChange", "resync"}})
	case "backup":
		return []privilege{
			{cluster, []string{"appendOplogNote", "getParameter", "listDatabases", "serverStatus"}},
			{anything, []string{"collStats", "listCollections", "listIndexes"}},
			{everywhere, []string{"find"}},
			{resource{db: "config"}, []string{"find"}},
			{resource{db: "local"}, []string{"find"}},
			{resource{coll: "system.js"}, []string{"find"}},
			{resource{coll: "system.profile"}, []string{"find"}},
			{resource{coll: "system.views"}, []string{"find"}},
			{resource{db: "admin", coll: "system.users"}, []string{"find"}},
			{resource{db: "admin", coll: "system.roles"}, []string{"find"}},
			{resource{db: "admin", coll: "system.version"}, []string{"find"}},
			{resource{db: "config", coll: "settings"}, []string{"find", "insert", "update"}},
		}
	case "restore":
		return []privilege{
			{cluster, []string{"forceUUID", "getParameter", "useUUID"}},
			{anything, []string{"listCollections"}},
			{everywhere, slices.Concat(writes, []string{"bypassDocumentValidation", "collMod"})},
			{resource{db: "admin", coll: "system.users"}, []string{"find", "insert", "remove", "update"}},
			{resource{db: "admin", coll: "system.roles"}, []string{"find", "insert", "remove", "update"}},
		}
	}
	return nil
}

// byUUID says that a command names its collection by UUID, which needs an action of its own.
func byUUID(cmd bson.Raw) bool {
	v, _ := bsonval.Lookup(cmd, bsonval.FirstKey(cmd))
	_, is := bsonval.UUIDOf(v)
	return is
}

// mayUseUUID says that one of the roles lets a client name collections by UUID.
func mayUseUUID(s *engine.Session) bool {
	for _, p := range s.Users {
		for _, r := range p.Roles {
			for _, x := range privilegesOf(r) {
				if x.on.cluster && slices.Contains(x.actions, "useUUID") {
					return true
				}
			}
		}
	}
	return false
}

// roles gives roles as documents, and their privileges.
func roles(rs []engine.Role) (names, privileges []bson.Raw) {
	for _, r := range rs {
		names = append(names, new(bsonval.Builder).String("role", r.Role).String("db", r.DB).Raw())
		for _, p := range privilegesOf(r) {
			privileges = append(privileges, p.doc())
		}
	}
	return names, privileges
}

// connectionStatus tells a client who it is and, when asked, what it may do.
func connectionStatus(s *engine.Session, cmd bson.Raw) bson.Raw {
	var users, names, privileges []bson.Raw
	for _, p := range s.Users {
		users = append(users, new(bsonval.Builder).String("user", p.Name).String("db", p.DB).Raw())
		rs, ps := roles(p.Roles)
		names, privileges = append(names, rs...), append(privileges, ps...)
	}
	info := new(bsonval.Builder).Docs("authenticatedUsers", users).Docs("authenticatedUserRoles", names)
	if show, _ := bsonval.Lookup(cmd, "showPrivileges"); bsonval.Truthy(show) {
		info.Docs("authenticatedUserPrivileges", privileges)
	}
	return new(bsonval.Builder).Doc("authInfo", info.Raw()).Double("ok", 1).Raw()
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
		names, privileges := roles(x.Roles)
		b := new(bsonval.Builder).String("_id", x.DB+"."+x.Name).String("user", x.Name).String("db", x.DB).Docs("roles", names)
		if bsonval.Truthy(show) {
			b.Docs("inheritedRoles", names).Docs("inheritedPrivileges", privileges)
		}
		docs = append(docs, b.Raw())
	}
	return new(bsonval.Builder).Docs("users", docs).Double("ok", 1).Raw()
}

// itself says that a client asks usersInfo for nobody but itself, which anybody may.
func itself(s *engine.Session, db string, cmd bson.Raw) bool {
	v, _ := bsonval.Lookup(cmd, "usersInfo")
	name, of := bsonval.Str(v), db
	if doc := bsonval.SubDoc(v); v.Type == bson.TypeEmbeddedDocument {
		name, of = bsonval.StringField(doc, "user"), bsonval.StringField(doc, "db")
	}
	return slices.ContainsFunc(s.Users, func(p engine.Principal) bool { return name != "" && p.Name == name && p.DB == of })
}
