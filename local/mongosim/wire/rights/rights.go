// Package rights says what a session may do: the privileges of built-in roles, and which of them a command needs. It knows them
// as far as monitoring, backup, restores and ordinary use need them; roles that people made give nothing.
package rights

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// Authorize says whether a session may run a command; nil is yes. It follows the built-in roles as far as monitoring, backup
// and ordinary use need them.
func Authorize(s *engine.Session, db, name string, cmd bson.Raw) *engine.Error {
	if s.Internal || open(name) {
		return nil
	}
	if len(s.Users) == 0 {
		return engine.Errf(engine.CodeUnauthorized, "command %s requires authentication", name)
	}
	if name == "usersInfo" && itself(s, db, cmd) {
		return nil
	}
	g := granted(s)
	ok := g.permits(db, name, cmd) || slices.ContainsFunc(s.Users, func(p engine.Principal) bool {
		return slices.ContainsFunc(p.Roles, func(r engine.Role) bool { return allows(r, db, name, cmd) })
	})
	if bypass, _ := bsonval.Lookup(cmd, "bypassDocumentValidation"); ok && bsonval.Truthy(bypass) && name != "applyOps" {
		ok = g.may("bypassDocumentValidation", resource{db: db, coll: firstValue(cmd)})
	}
	if ok && (!byUUID(cmd) || mayUseUUID(s)) {
		return nil
	}
	return engine.Errf(engine.CodeUnauthorized, "not authorized on %s to execute command %s", db, bsonval.FormatDoc(withoutLong(cmd)))
}

// withoutLong leaves the documents of a write out of a message, as a server does.
func withoutLong(cmd bson.Raw) bson.Raw {
	var b bsonval.Builder
	for k, v := range bsonval.Each(cmd) {
		if k != "documents" && k != "updates" && k != "deletes" {
			b.Value(k, v)
		}
	}
	return b.Raw()
}

// open are the commands that need no login.
func open(name string) bool {
	switch name {
	case "hello", "isMaster", "ismaster", "buildInfo", "buildinfo", "ping", "whatsmyuri", "saslStart", "saslContinue", "authenticate",
		"logout", "connectionStatus", "getnonce", "endSessions", "_isSelf":
		return true
	}
	return false
}

// anyUser are the commands every logged-in user may run.
func anyUser(name string) bool {
	switch name {
	case "startSession", "refreshSessions", "killSessions", "commitTransaction", "abortTransaction", "listCommands", "killCursors", "getMore", "features":
		return true
	}
	return false
}

func monitoring(name string) bool {
	switch name {
	case "serverStatus", "replSetGetStatus", "replSetGetConfig", "getCmdLineOpts", "getParameter", "hostInfo", "getLog", "top",
		"connPoolStats", "connPoolSync", "currentOp", "lockInfo", "listDatabases", "getDefaultRWConcern", "getDiagnosticData", "listShards",
		"getShardMap", "shardingState", "balancerStatus", "dbStats", "dbstats", "collStats", "collstats", "indexStats", "profile", "inprog",
		"serverInfo", "features", "isdbgrid", "netstat", "replSetGetConfigVersion", "listCollections":
		return true
	}
	return false
}

func reading(name string) bool {
	switch name {
	case "find", "aggregate", "count", "distinct", "listIndexes", "listCollections", "collStats", "collstats", "dbStats", "dbstats",
		"dbHash", "dataSize", "explain", "killCursors":
		return true
	}
	return false
}

func writing(name string) bool {
	switch name {
	case "insert", "update", "delete", "findAndModify", "findandmodify", "create", "createIndexes", "drop", "dropIndexes", "deleteIndexes",
		"collMod", "convertToCapped", "renameCollection", "bulkWrite":
		return true
	}
	return false
}

// allows says that a role lets a client run a command. Roles that are not here allow what their privileges say, see needs.
func allows(r engine.Role, db, name string, cmd bson.Raw) bool {
	if anyUser(name) {
		return true
	}
	system := db == "local" || db == "config"
	here := r.DB == db
	switch r.Role {
	case "root", "__system":
		return true
	case "read":
		return here && reading(name)
	case "readWrite":
		return here && (reading(name) || writing(name))
	case "dbAdmin", "dbOwner":
		return here && (reading(name) || writing(name) || name == "dropDatabase")
	case "readAnyDatabase":
		return (!system && reading(name)) || name == "listDatabases"
	case "clusterMonitor":
		return monitoring(name) || clusterMonitorReads(db, name, cmd)
	case "clusterManager", "clusterAdmin":
		return monitoring(name) || strings.HasPrefix(name, "replSet") || clusterMonitorReads(db, name, cmd) || name == "appendOplogNote" ||
			(r.Role == "clusterAdmin" && (name == "shutdown" || name == "fsync" || name == "setParameter" || name == "killOp" || name == "dropDatabase"))
	case "hostManager":
		return slices.Contains([]string{"shutdown", "fsync", "fsyncUnlock", "setParameter", "killOp", "logRotate", "resync"}, name)
	case "backup":
		return reading(name) || slices.Contains([]string{"listDatabases", "appendOplogNote", "getParameter", "serverStatus", "listCollections"}, name) ||
			(writing(name) && (db == "admin" || db == "config") && slices.Contains([]string{"mms.backup", "settings"}, firstValue(cmd)) && db+"."+firstValue(cmd) != "admin.mms.backup")
	}
	return false
}

func firstValue(cmd bson.Raw) string {
	v, _ := bsonval.Lookup(cmd, bsonval.FirstKey(cmd))
	return bsonval.Str(v)
}

// clusterMonitorReads are the documents a monitoring user may see: the oplog, the replica set's and the sharding's own.
func clusterMonitorReads(db, name string, cmd bson.Raw) bool {
	if !reading(name) {
		return false
	}
	coll := firstValue(cmd)
	switch db {
	case "config":
		return true
	case "local":
		return slices.Contains([]string{"oplog.rs", "system.replset", "startup_log", "replset.election", "replset.minvalid"}, coll)
	case "admin":
		return name == "aggregate" && coll == "" // $currentOp and its like
	}
	return strings.HasPrefix(coll, "system.profile") || name == "listIndexes" || name == "collStats" || name == "dbStats" ||
		(name == "aggregate" && statsPipeline(cmd))
}

// statsPipeline says that a pipeline begins with $collStats or $indexStats, which tell of no documents.
func statsPipeline(cmd bson.Raw) bool {
	p, _ := bsonval.Lookup(cmd, "pipeline")
	for _, st := range bsonval.Each(bsonval.SubDoc(p)) {
		k := bsonval.FirstKey(bsonval.SubDoc(st))
		return k == "$collStats" || k == "$indexStats"
	}
	return false
}
