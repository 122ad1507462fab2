package rights

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
	buckets      bool // the collections of time series' buckets, in all databases
	db, coll     string
}

// covers says that the resource takes in a collection, or a database when coll is empty. Names that begin with system., and the
// databases local and config, are taken in only where they are named.
func (r resource) covers(db, coll string) bool {
	switch {
	case r.any:
		return true
	case r.cluster:
		return false
	case r.buckets:
		return strings.HasPrefix(coll, "system.buckets.")
	case r.coll != "":
		return r.coll == coll && (r.db == "" || r.db == db)
	case r.db != "":
		return r.db == db && !strings.HasPrefix(coll, "system.")
	}
	return db != "local" && db != "config" && !strings.HasPrefix(coll, "system.")
}

func (r resource) doc() bson.Raw {
	var b bsonval.Builder
	switch {
	case r.cluster:
		b.Bool("cluster", true)
	case r.any:
		b.Bool("anyResource", true)
	case r.buckets:
		b.String("db", "").String("system_buckets", "")
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
	people := []string{"changeCustomData", "changePassword", "createRole", "createUser", "dropRole", "dropUser", "grantRole", "revokeRole", "setAuthenticationRestriction", "viewRole", "viewUser"}
	buckets := resource{buckets: true}
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
			{anything, slices.Concat(reads, writes, people, []string{"bypassDocumentValidation", "collMod", "dropDatabase", "validate"})},
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
		both := slices.Concat(reads, writes)
		return []privilege{{cluster, []string{"listDatabases"}}, {everywhere, both}, {resource{coll: "system.js"}, both}, {buckets, both}}
	case "dbAdminAnyDatabase":
		care := []string{
			"bypassDocumentValidation", "collMod", "collStats", "compact", "convertToCapped", "createCollection", "createIndex", "dbStats", "dropCollection", "dropDatabase", "dropIndex",
			"enableProfiler", "listCollections", "listIndexes", "planCacheIndexFilter", "planCacheRead", "planCacheWrite", "reIndex", "renameCollectionSameDB", "storageDetails", "validate",
		}
		return []privilege{{cluster, []string{"applyOps", "listDatabases"}}, {everywhere, care}, {resource{coll: "system.profile"}, reads}, {buckets, care}}
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
			{buckets, []string{"find"}},
			{resource{db: "admin", coll: "system.users"}, []string{"find"}},
			{resource{db: "admin", coll: "system.roles"}, []string{"find"}},
			{resource{db: "admin", coll: "system.version"}, []string{"find"}},
			{resource{db: "config", coll: "settings"}, []string{"find", "insert", "update"}},
		}
	case "restore":
		brings := []string{"bypassDocumentValidation", "collMod", "convertToCapped", "createCollection", "createIndex", "dropCollection", "insert"}
		return []privilege{
			{cluster, []string{"applyOps", "bypassWriteBlockingMode", "forceUUID", "getParameter", "setUserWriteBlockMode", "useUUID"}},
			{anything, []string{"listCollections"}},
			{everywhere, slices.Concat(brings, people)},
			{resource{db: "config"}, brings},
			{resource{db: "local"}, brings},
			{buckets, brings},
			{resource{coll: "system.js"}, brings},
			{resource{db: "admin", coll: "tempusers"}, []string{"find"}},
			{resource{db: "admin", coll: "temproles"}, []string{"find"}},
			{resource{db: "admin", coll: "system.version"}, append(slices.Clone(brings), "find")},
			{resource{coll: "system.users"}, append(slices.Clone(brings), "find", "update", "remove")},
			{resource{db: "admin", coll: "system.roles"}, []string{"createIndex"}},
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
func mayUseUUID(s *engine.Session) bool { return granted(s).may("useUUID", resource{cluster: true}) }

// grants are all privileges of a client.
type grants []privilege

func granted(s *engine.Session) grants {
	var out grants
	for _, p := range s.Users {
		for _, r := range p.Roles {
			out = append(out, privilegesOf(r)...)
		}
	}
	return out
}

// may says that an action is allowed on the cluster, on every ordinary collection (the zero resource), on a database or a collection.
func (g grants) may(action string, on resource) bool {
	return slices.ContainsFunc(g, func(p privilege) bool {
		if !slices.Contains(p.actions, action) {
			return false
		}
		if on.cluster || on == (resource{}) {
			return p.on == on || p.on.any && !on.cluster
		}
		return p.on.covers(on.db, on.coll)
	})
}

// need is one action that a command needs.
type need struct {
	action string
	on     resource
}

// needs are the actions that a command on data or on users needs; none for commands that are not looked at by action.
func needs(db, name string, cmd bson.Raw) []need {
	on := resource{db: db, coll: firstValue(cmd)}
	one := func(action string) []need { return []need{{action, on}} }
	switch name {
	case "find", "count", "distinct", "aggregate":
		return one("find")
	case "listIndexes", "collStats", "insert", "update", "convertToCapped", "collMod", "validate", "compact":
		return one(name)
	case "delete":
		return one("remove")
	case "create":
		return one("createCollection")
	case "createIndexes":
		return one("createIndex")
	case "drop":
		return one("dropCollection")
	case "dropIndexes", "deleteIndexes":
		return one("dropIndex")
	case "findAndModify", "findandmodify":
		return []need{{"find", on}, {"update", on}}
	case "dbStats", "dbstats":
		return []need{{"dbStats", resource{db: db}}}
	case "listCollections", "dropDatabase", "createUser", "createRole", "dropUser", "dropRole":
		return []need{{name, resource{db: db}}}
	case "listDatabases", "applyOps", "getParameter":
		return []need{{name, resource{cluster: true}}}
	case "renameCollection":
		return renaming(cmd)
	case "_mergeAuthzCollections":
		return merging(cmd)
	}
	return nil
}

// renaming is what renameCollection needs within a database; a way between databases is a copy and a drop.
func renaming(cmd bson.Raw) []need {
	to := bsonval.StringField(cmd, "to")
	from, source, _ := strings.Cut(firstValue(cmd), ".")
	db, target, _ := strings.Cut(to, ".")
	out := []need{{"renameCollectionSameDB", resource{db: from}}}
	if from != db || strings.HasPrefix(source, "system.") || strings.HasPrefix(target, "system.") {
		out = []need{
			{"find", resource{db: from, coll: source}},
			{"dropCollection", resource{db: from, coll: source}},
			{"insert", resource{db: db, coll: target}},
			{"createIndex", resource{db: db, coll: target}},
		}
	}
	if drop, _ := bsonval.Lookup(cmd, "dropTarget"); bsonval.Truthy(drop) {
		out = append(out, need{"dropCollection", resource{db: db, coll: target}})
	}
	return out
}

// merging is what _mergeAuthzCollections needs: everything about users everywhere, and to read where they come from.
func merging(cmd bson.Raw) []need {
	actions := []string{"createUser", "createRole", "grantRole", "revokeRole"}
	if drop, _ := bsonval.Lookup(cmd, "drop"); bsonval.Truthy(drop) {
		actions = append(actions, "dropUser", "dropRole")
	}
	var out []need
	for _, a := range actions {
		out = append(out, need{a, resource{}})
	}
	for _, f := range []string{"tempUsersCollection", "tempRolesCollection"} {
		if ns := bsonval.StringField(cmd, f); ns != "" {
			db, coll, _ := strings.Cut(ns, ".")
			out = append(out, need{"find", resource{db: db, coll: coll}})
		}
	}
	return out
}

// permits says that a client's privileges, those of all its roles together, let it run a command.
func (g grants) permits(db, name string, cmd bson.Raw) bool {
	all := needs(db, name, cmd)
	return len(all) > 0 && !slices.ContainsFunc(all, func(n need) bool { return !g.may(n.action, n.on) })
}

// Roles gives roles as documents, and their privileges.
func Roles(rs []engine.Role) (names, privileges []bson.Raw) {
	for _, r := range rs {
		names = append(names, new(bsonval.Builder).String("role", r.Role).String("db", r.DB).Raw())
		for _, p := range privilegesOf(r) {
			privileges = append(privileges, p.doc())
		}
	}
	return names, privileges
}

// ConnectionStatus tells a client who it is and, when asked, what it may do.
func ConnectionStatus(s *engine.Session, cmd bson.Raw) bson.Raw {
	var users, names, privileges []bson.Raw
	for _, p := range s.Users {
		users = append(users, new(bsonval.Builder).String("user", p.Name).String("db", p.DB).Raw())
		rs, ps := Roles(p.Roles)
		names, privileges = append(names, rs...), append(privileges, ps...)
	}
	info := new(bsonval.Builder).Docs("authenticatedUsers", users).Docs("authenticatedUserRoles", names)
	if show, _ := bsonval.Lookup(cmd, "showPrivileges"); bsonval.Truthy(show) {
		info.Docs("authenticatedUserPrivileges", privileges)
	}
	return new(bsonval.Builder).Doc("authInfo", info.Raw()).Double("ok", 1).Raw()
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
