// Package process makes the replies about a process and its machine rather than about its work: build, host, command line, logs,
// pools, locks by namespace.
package process

import (
	"path"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/local/mongosim/status/logline"
)

// BuildInfo answers the command.
func BuildInfo(v *status.View) bson.D {
	ver := v.Version
	return ok(bson.D{
		{Key: "version", Value: ver.String()},
		{Key: "gitVersion", Value: "simulated"},
		{Key: "modules", Value: bson.A{}},
		{Key: "allocator", Value: "system"},
		{Key: "javascriptEngine", Value: "none"},
		{Key: "sysInfo", Value: "deprecated"},
		{Key: "versionArray", Value: bson.A{int32(ver.Major), int32(ver.Minor), int32(ver.Patch), int32(0)}},
		{Key: "openssl", Value: bson.D{{Key: "running", Value: "disabled"}, {Key: "compiled", Value: "disabled"}}},
		{Key: "buildEnvironment", Value: bson.D{
			{Key: "distmod", Value: "mongosim"},
			{Key: "distarch", Value: "x86_64"},
			{Key: "cc", Value: ""},
			{Key: "ccflags", Value: ""},
			{Key: "cxx", Value: ""},
			{Key: "cxxflags", Value: ""},
			{Key: "linkflags", Value: ""},
			{Key: "target_arch", Value: "x86_64"},
			{Key: "target_os", Value: "linux"},
			{Key: "cppdefines", Value: ""},
		}},
		{Key: "bits", Value: int32(64)},
		{Key: "debug", Value: false},
		{Key: "maxBsonObjectSize", Value: int32(16777216)},
		{Key: "storageEngines", Value: bson.A{"devnull", "ephemeralForTest", "wiredTiger"}},
	})
}

// HostInfo answers the command.
func HostInfo(v *status.View) bson.D {
	const memMB = int64(load.MemTotalKB >> 10)
	system := bson.D{
		{Key: "currentTime", Value: date(v.Now)},
		{Key: "hostname", Value: v.Host()},
		{Key: "cpuAddrSize", Value: int32(64)},
		{Key: "memSizeMB", Value: memMB},
		{Key: "memLimitMB", Value: memMB},
		{Key: "numCores", Value: int32(load.Cores)},
	}
	if v.Version.AtLeast(6, 0) {
		system = append(system, bson.E{Key: "numPhysicalCores", Value: int32(load.Cores / 2)}, bson.E{Key: "numCpuSockets", Value: int32(1)})
	}
	system = append(system, bson.E{Key: "cpuArch", Value: "x86_64"}, bson.E{Key: "numaEnabled", Value: false})
	if v.Version.AtLeast(6, 0) {
		system = append(system, bson.E{Key: "numNumaNodes", Value: int32(1)})
	}
	return ok(bson.D{
		{Key: "system", Value: system},
		{Key: "os", Value: bson.D{
			{Key: "type", Value: "Linux"}, {Key: "name", Value: `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"`}, {Key: "version", Value: "Kernel 6.1.0-sim"},
		}},
		{Key: "extra", Value: bson.D{
			{Key: "versionString", Value: "Linux version 6.1.0-sim (simulated)"},
			{Key: "libcVersion", Value: "2.36"},
			{Key: "kernelVersion", Value: "6.1.0-sim"},
			{Key: "cpuFrequencyMHz", Value: "2600.000"},
			{Key: "cpuFeatures", Value: "fpu sse4_2 avx2"},
			{Key: "pageSize", Value: int64(4096)},
			{Key: "numPages", Value: int32(load.MemTotalKB / 4)},
			{Key: "maxOpenFiles", Value: int32(64000)},
			{Key: "mountInfo", Value: bson.A{mountInfo(41, status.DataMount, 1), mountInfo(42, status.LogMount, 2)}},
		}},
	})
}

func mountInfo(id int32, point string, part int32) bson.D {
	return bson.D{
		{Key: "mountId", Value: id},
		{Key: "parentId", Value: int32(1)},
		{Key: "major", Value: int32(259)},
		{Key: "minor", Value: part},
		{Key: "root", Value: "/"},
		{Key: "mountPoint", Value: point},
		{Key: "options", Value: "rw,noatime"},
		{Key: "fields", Value: ""},
		{Key: "type", Value: "xfs"},
		{Key: "source", Value: "/dev/" + status.Device + "p" + strconv.Itoa(int(part))},
		{Key: "superOpt", Value: "rw"},
	}
}

// CmdLineOpts answers getCmdLineOpts.
func CmdLineOpts(v *status.View) bson.D {
	port := strconv.Itoa(v.Port)
	log := path.Join(status.LogMount, "mongod-"+port+".log")
	dbPath := v.DBPath
	if dbPath == "" {
		dbPath = path.Join(status.DataMount, port)
	}
	argv := bson.A{"/usr/bin/mongod", "--port", port, "--dbpath", dbPath, "--bind_ip_all", "--logpath", log, "--logappend"}
	parsed := bson.D{{Key: "net", Value: bson.D{{Key: "bindIpAll", Value: true}, {Key: "port", Value: int32(v.Port)}}}}
	if v.TLS {
		argv = append(argv, "--tlsMode", "requireTLS")
		parsed[0].Value = bson.D{{Key: "bindIpAll", Value: true}, {Key: "port", Value: int32(v.Port)}, {Key: "tls", Value: bson.D{{Key: "mode", Value: "requireTLS"}}}}
	}
	if v.Set != nil {
		argv = append(argv, "--replSet", v.Set.Name)
		repl := bson.D{{Key: "replSet", Value: v.Set.Name}}
		if v.Oplog != nil {
			mb := v.Oplog.MaxSize >> 20
			argv = append(argv, "--oplogSize", strconv.FormatInt(mb, 10))
			repl = append(bson.D{{Key: "oplogSizeMB", Value: int32(mb)}}, repl...)
		}
		parsed = append(parsed, bson.E{Key: "replication", Value: repl})
	}
	if v.Auth {
		argv = append(argv, "--auth")
		parsed = append(parsed, bson.E{Key: "security", Value: bson.D{{Key: "authorization", Value: "enabled"}}})
	}
	parsed = append(parsed,
		bson.E{Key: "storage", Value: bson.D{{Key: "dbPath", Value: dbPath}}},
		bson.E{Key: "systemLog", Value: bson.D{{Key: "destination", Value: "file"}, {Key: "logAppend", Value: true}, {Key: "path", Value: log}}})
	return ok(bson.D{{Key: "argv", Value: argv}, {Key: "parsed", Value: parsed}})
}

// GetLog answers getLog for lines, of which written were ever written; names answers getLog: "*".
func GetLog(v *status.View, lines []logline.Line, written int64) bson.D {
	out := make(bson.A, 0, len(lines))
	for _, l := range lines {
		out = append(out, l.Format(v.Version.AtLeast(4, 4)))
	}
	return ok(bson.D{{Key: "totalLinesWritten", Value: int32(written)}, {Key: "log", Value: out}})
}

// LogNames answers getLog: "*".
func LogNames() bson.D {
	return ok(bson.D{{Key: "names", Value: bson.A{"global", "startupWarnings"}}})
}

// StartupWarnings are the lines a process logged when it started.
func StartupWarnings(v *status.View) []logline.Line {
	at := v.Started.Add(165 * time.Millisecond)
	tags := []string{"startupWarnings"}
	var out []logline.Line
	if !v.Auth {
		out = append(out, logline.Line{
			At: at, Severity: "W", Component: "CONTROL", ID: 22120, Context: "initandlisten", Tags: tags,
			Msg: "Access control is not enabled for the database. Read and write access to data and configuration is unrestricted",
		})
	}
	return append(out, logline.Line{
		At: at, Severity: "W", Component: "CONTROL", ID: 22184, Context: "initandlisten", Tags: tags,
		Msg: "Soft rlimits for open file descriptors too low", Attr: map[string]any{"currentValue": 20000, "recommendedMinimum": 64000},
	})
}

// ConnPoolStats answers the command: a member keeps a connection to each other member.
func ConnPoolStats(v *status.View) bson.D {
	hosts := bson.D{}
	if v.Set != nil {
		for i := range v.Set.Members {
			if i != v.Set.Self {
				hosts = append(hosts, bson.E{Key: v.Set.Members[i].Host, Value: bson.D{
					{Key: "inUse", Value: int32(0)}, {Key: "available", Value: int32(1)}, {Key: "created", Value: int32(1)}, {Key: "refreshing", Value: int32(0)},
				}})
			}
		}
	}
	n := int32(len(hosts))
	pools := bson.D{}
	if n > 0 {
		pool := bson.D{{Key: "poolInUse", Value: int32(0)}, {Key: "poolAvailable", Value: n}, {Key: "poolCreated", Value: n}, {Key: "poolRefreshing", Value: int32(0)}}
		pools = bson.D{{Key: "NetworkInterfaceTL-ReplNetwork", Value: append(pool, hosts...)}}
	}
	return ok(bson.D{
		{Key: "numClientConnections", Value: int32(0)},
		{Key: "numAScopedConnections", Value: int32(0)},
		{Key: "totalInUse", Value: int32(0)},
		{Key: "totalAvailable", Value: n},
		{Key: "totalCreated", Value: n},
		{Key: "totalRefreshing", Value: int32(0)},
		{Key: "pools", Value: pools},
		{Key: "hosts", Value: hosts},
		{Key: "replicaSets", Value: bson.D{}},
	})
}

// Top answers the command: the load's operations shared among namespaces.
func Top(v *status.View, namespaces []string) bson.D {
	totals := bson.D{{Key: "note", Value: "all times in microseconds"}}
	op := func(n, micros float64) bson.D {
		return bson.D{{Key: "time", Value: int64(n * micros)}, {Key: "count", Value: int64(n)}}
	}
	share, c := 0.6, &v.Counts
	for _, ns := range namespaces {
		q, g, i, u, r := c[load.Query]*share, c[load.GetMore]*share, c[load.Insert]*share, c[load.Update]*share, c[load.Delete]*share
		totals = append(totals, bson.E{Key: ns, Value: bson.D{
			{Key: "total", Value: op(q+g+i+u+r, 500)},
			{Key: "readLock", Value: op(q+g, 420)},
			{Key: "writeLock", Value: op(i+u+r, 680)},
			{Key: "queries", Value: op(q, 430)},
			{Key: "getmore", Value: op(g, 380)},
			{Key: "insert", Value: op(i, 600)},
			{Key: "update", Value: op(u, 760)},
			{Key: "remove", Value: op(r, 720)},
			{Key: "commands", Value: op(0, 0)},
		}})
		share *= 0.5
	}
	return ok(bson.D{{Key: "totals", Value: totals}})
}

// DefaultRWConcern answers getDefaultRWConcern.
func DefaultRWConcern(v *status.View) bson.D {
	d := bson.D{}
	if v.Version.AtLeast(5, 0) {
		d = append(d,
			bson.E{Key: "defaultReadConcern", Value: bson.D{{Key: "level", Value: "local"}}},
			bson.E{Key: "defaultWriteConcern", Value: bson.D{{Key: "w", Value: "majority"}, {Key: "wtimeout", Value: int32(0)}}},
			bson.E{Key: "defaultWriteConcernSource", Value: "implicit"}, bson.E{Key: "defaultReadConcernSource", Value: "implicit"})
	}
	return ok(append(d, bson.E{Key: "localUpdateWallClockTime", Value: date(v.Now.Truncate(30 * time.Second))}))
}

func date(t time.Time) bson.DateTime { return bson.NewDateTimeFromTime(t) }

func ok(d bson.D) bson.D { return append(d, bson.E{Key: "ok", Value: 1.0}) }
