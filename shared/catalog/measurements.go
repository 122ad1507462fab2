package catalog

import "time"

// row is a measurement as it is written down below; form, one way to compute it, with columns by name.
type row struct {
	id       uint16
	name     string
	unit     Unit
	hosts    Hosts
	series   string
	forms    []form
	scope    Scope
	aliases  []string
	twin     bool
	carry    time.Duration
	trailing bool
}

type form struct {
	kind                             Kind
	num, den                         string
	scale                            float64
	mul, div, guard                  string
	seconds, atLeastOne              bool
	clamp, positive, floor, restarts bool
	limit                            float64
	parts                            []string
}

// The usual forms.
func gauge(num string) []form          { return []form{{kind: Gauge, num: num}} }
func rate(num string) []form           { return []form{{kind: Rate, num: num}} }
func quotient(num, den string) []form  { return []form{{kind: Quotient, num: num, den: den}} }
func guarded(num, guard string) []form { return []form{{kind: Rate, num: num, guard: guard}} }
func ratio(num, den string, scale float64) []form {
	return []form{{kind: Gauge, num: num, den: den, scale: scale}}
}

const (
	gib = 1 << 30

	// carryRound is how long a dbStats value stands: agents stretch rounds up to a day when the command hurts.
	carryRound = 25 * time.Hour
	// carryOplog bridges the pings without collStats of the oplog.
	carryOplog = 6 * time.Minute
)

// measurementRows is the catalogue of metrics: names, units and rules are those of the Public API.
func measurementRows() []row {
	rows := processRows()
	rows = append(rows, replicationRows()...)
	rows = append(rows, storageRows()...)
	rows = append(rows, extraRows()...)
	rows = append(rows, hardwareRows()...)
	return append(rows, diskRows()...)
}

func processRows() []row {
	return []row{
		{id: 1, name: "ASSERT_REGULAR", unit: ScalarPerSecond, hosts: OnAll, series: "regular", forms: guarded("asserts.regular", "asserts.rollovers")},
		{id: 2, name: "ASSERT_WARNING", unit: ScalarPerSecond, hosts: OnAll, series: "warning", forms: guarded("asserts.warning", "asserts.rollovers")},
		{id: 3, name: "ASSERT_MSG", unit: ScalarPerSecond, hosts: OnAll, series: "msg", forms: guarded("asserts.msg", "asserts.rollovers")},
		{id: 4, name: "ASSERT_USER", unit: ScalarPerSecond, hosts: OnAll, series: "user", forms: guarded("asserts.user", "asserts.rollovers")},
		{id: 5, name: "BACKGROUND_FLUSH_AVG", unit: Milliseconds, hosts: OnData, series: "flush avg", forms: gauge("backgroundFlushing.averageMs")},
		{id: 6, name: "CACHE_BYTES_READ_INTO", unit: BytesPerSecond, hosts: OnData, series: "readInto", forms: rate("cache.readInto")},
		{id: 7, name: "CACHE_BYTES_WRITTEN_FROM", unit: BytesPerSecond, hosts: OnData, series: "writtenFrom", forms: rate("cache.writtenFrom")},
		{id: 8, name: "CACHE_DIRTY_BYTES", unit: Bytes, hosts: OnData, series: "dirty", forms: gauge("cache.dirty")},
		{id: 9, name: "CACHE_USED_BYTES", unit: Bytes, hosts: OnData, series: "used", forms: gauge("cache.used")},
		{id: 10, name: "CACHE_FILL_RATIO", unit: Percent, hosts: OnData, series: "cache fill ratio", forms: ratio("cache.used", "cache.max", 100)},
		{id: 11, name: "DIRTY_FILL_RATIO", unit: Percent, hosts: OnData, series: "dirty fill ratio", forms: ratio("cache.dirty", "cache.max", 100)},
		{id: 12, name: "TICKETS_AVAILABLE_READS", unit: Scalar, hosts: OnData, series: "reads", aliases: []string{"TICKETS_AVAILABLE_READ"}, forms: gauge("tickets.read.available")},
		{id: 13, name: "TICKETS_AVAILABLE_WRITE", unit: Scalar, hosts: OnData, series: "writes", aliases: []string{"TICKETS_AVAILABLE_WRITES"}, forms: gauge("tickets.write.available")},
		{id: 14, name: "CONNECTIONS", unit: Scalar, hosts: OnAll, series: "connections", forms: gauge("connections.current")},
		{id: 15, name: "CONNECTIONS_PERCENT", unit: Percent, hosts: OnAll, series: "percent", forms: ratio("connections.current", "connections.current + connections.available", 100)},
		{id: 16, name: "CURSORS_TOTAL_OPEN", unit: Scalar, hosts: OnAll, series: "totalOpen", forms: gauge("cursor.open")},
		{id: 17, name: "CURSORS_TOTAL_TIMED_OUT", unit: ScalarPerSecond, hosts: OnAll, series: "timedOut", forms: rate("cursor.timedOut")},
		{id: 18, name: "CURSORS_TOTAL_CLIENT_CURSORS_SIZE", unit: Scalar, hosts: OnAll, series: "clientCursors_size", forms: gauge("cursor.clientSize")},
		{id: 19, name: "EXTRA_INFO_PAGE_FAULTS", unit: ScalarPerSecond, hosts: OnAll, series: "page faults", forms: rate("pageFaults")},
		{id: 20, name: "GLOBAL_ACCESSES_NOT_IN_MEMORY", unit: ScalarPerSecond, hosts: OnData, series: "accessesNotInMemory", forms: rate("recordStats.accessesNotInMemory")},
		{id: 21, name: "GLOBAL_PAGE_FAULT_EXCEPTIONS_THROWN", unit: ScalarPerSecond, hosts: OnData, series: "pageFaultExceptionsThrown", forms: rate("recordStats.pageFaultExceptionsThrown")},
		{id: 22, name: "GLOBAL_LOCK_CURRENT_QUEUE_READERS", unit: Scalar, hosts: OnData | OnArbiter, series: "readers", forms: queue("read", "readers")},
		{id: 23, name: "GLOBAL_LOCK_CURRENT_QUEUE_WRITERS", unit: Scalar, hosts: OnData | OnArbiter, series: "writers", forms: queue("write", "writers")},
		{id: 24, name: "GLOBAL_LOCK_CURRENT_QUEUE_TOTAL", unit: Scalar, hosts: OnData | OnArbiter, series: "total", forms: []form{{kind: Gauge, parts: []string{"GLOBAL_LOCK_CURRENT_QUEUE_READERS", "GLOBAL_LOCK_CURRENT_QUEUE_WRITERS"}}}},
		{id: 25, name: "INDEX_COUNTERS_BTREE_ACCESSES", unit: ScalarPerSecond, hosts: OnData, series: "accesses", forms: rate("indexCounters.accesses")},
		{id: 26, name: "INDEX_COUNTERS_BTREE_HITS", unit: ScalarPerSecond, hosts: OnData, series: "hits", forms: rate("indexCounters.hits")},
		{id: 27, name: "INDEX_COUNTERS_BTREE_MISSES", unit: ScalarPerSecond, hosts: OnData, series: "misses", forms: rate("indexCounters.misses")},
		{id: 28, name: "INDEX_COUNTERS_BTREE_MISS_RATIO", unit: Scalar, hosts: OnData, series: "miss ratio", forms: quotient("indexCounters.misses", "indexCounters.accesses")},
		{id: 29, name: "JOURNALING_COMMITS_IN_WRITE_LOCK", unit: ScalarPerSecond, hosts: OnData, series: "commits in write lock", forms: ratio("dur.commitsInWriteLock", "dur.windowMs", 1000)},
		{id: 30, name: "JOURNALING_MB", unit: MBPerSecond, hosts: OnData, series: "journaledMB", forms: ratio("dur.journaledMB", "dur.windowMs", 1000)},
		{id: 31, name: "JOURNALING_WRITE_DATA_FILES_MB", unit: MBPerSecond, hosts: OnData, series: "writeToDataFilesMB", forms: ratio("dur.writeToDataFilesMB", "dur.windowMs", 1000)},
		{id: 32, name: "MEMORY_RESIDENT", unit: Megabytes, hosts: OnAll, series: "resident", forms: gauge("mem.resident")},
		{id: 33, name: "MEMORY_VIRTUAL", unit: Megabytes, hosts: OnAll, series: "virtual", forms: gauge("mem.virtual")},
		// 0 when absent, as long as the process reports memory at all.
		{id: 34, name: "MEMORY_MAPPED", unit: Megabytes, hosts: OnData, series: "mapped", forms: gauge("mem.mapped? + 0*mem.virtual")},
		{id: 35, name: "COMPUTED_MEMORY", unit: Megabytes, hosts: OnData, series: "non-mapped virtual", forms: []form{
			{kind: Gauge, num: "mem.virtual - mem.mappedWithJournal", positive: true},
			{kind: Gauge, num: "mem.virtual - mem.mapped?", positive: true},
		}},
		{id: 36, name: "NETWORK_BYTES_IN", unit: BytesPerSecond, hosts: OnAll, series: "bytesIn", forms: rate("network.in")},
		{id: 37, name: "NETWORK_BYTES_OUT", unit: BytesPerSecond, hosts: OnAll, series: "bytesOut", forms: rate("network.out")},
		{id: 38, name: "NETWORK_NUM_REQUESTS", unit: ScalarPerSecond, hosts: OnAll, series: "numRequests", forms: rate("network.requests")},
		{id: 39, name: "OPCOUNTER_CMD", unit: ScalarPerSecond, hosts: OnAll, series: "command", forms: rate("opcounters.command")},
		{id: 40, name: "OPCOUNTER_QUERY", unit: ScalarPerSecond, hosts: OnAll, series: "query", forms: rate("opcounters.query")},
		{id: 41, name: "OPCOUNTER_UPDATE", unit: ScalarPerSecond, hosts: OnAll, series: "update", forms: rate("opcounters.update")},
		{id: 42, name: "OPCOUNTER_DELETE", unit: ScalarPerSecond, hosts: OnAll, series: "delete", forms: rate("opcounters.delete")},
		{id: 43, name: "OPCOUNTER_GETMORE", unit: ScalarPerSecond, hosts: OnAll, series: "getmore", forms: rate("opcounters.getmore")},
		{id: 44, name: "OPCOUNTER_INSERT", unit: ScalarPerSecond, hosts: OnAll, series: "insert", forms: rate("opcounters.insert")},
		{id: 45, name: "OPCOUNTER_TTL_DELETED", unit: ScalarPerSecond, hosts: OnPrimary, series: "ttl deleted", forms: rate("ttl.deleted")},
		{id: 46, name: "OPCOUNTER_REPL_CMD", unit: ScalarPerSecond, hosts: OnSecondary | OnPrimary | OnConfig, series: "command", forms: rate("opcountersRepl.command")},
		{id: 47, name: "OPCOUNTER_REPL_UPDATE", unit: ScalarPerSecond, hosts: OnSecondary | OnPrimary | OnConfig, series: "update", forms: rate("opcountersRepl.update")},
		{id: 48, name: "OPCOUNTER_REPL_DELETE", unit: ScalarPerSecond, hosts: OnSecondary | OnPrimary | OnConfig, series: "delete", forms: rate("opcountersRepl.delete")},
		{id: 49, name: "OPCOUNTER_REPL_INSERT", unit: ScalarPerSecond, hosts: OnSecondary | OnPrimary | OnConfig, series: "insert", forms: rate("opcountersRepl.insert")},
		{id: 50, name: "DOCUMENT_METRICS_RETURNED", unit: ScalarPerSecond, hosts: OnData, series: "returned", forms: rate("document.returned")},
		{id: 51, name: "DOCUMENT_METRICS_INSERTED", unit: ScalarPerSecond, hosts: OnData, series: "inserted", forms: rate("document.inserted")},
		{id: 52, name: "DOCUMENT_METRICS_UPDATED", unit: ScalarPerSecond, hosts: OnData, series: "updated", forms: rate("document.updated")},
		{id: 53, name: "DOCUMENT_METRICS_DELETED", unit: ScalarPerSecond, hosts: OnData, series: "deleted", forms: rate("document.deleted")},
		{id: 54, name: "OPERATIONS_SCAN_AND_ORDER", unit: ScalarPerSecond, hosts: OnData, series: "scan and order", forms: rate("operation.scanAndOrder")},
		{id: 55, name: "QUERY_EXECUTOR_SCANNED", unit: ScalarPerSecond, hosts: OnData, series: "scanned", forms: rate("queryExecutor.scanned")},
		{id: 56, name: "QUERY_EXECUTOR_SCANNED_OBJECTS", unit: ScalarPerSecond, hosts: OnData, series: "scanned objects", forms: rate("queryExecutor.scannedObjects")},
		{id: 57, name: "QUERY_TARGETING_SCANNED_PER_RETURNED", unit: Scalar, hosts: OnData, series: "scanned / returned", forms: []form{{kind: Quotient, num: "queryExecutor.scanned", den: "document.returned", atLeastOne: true}}},
		{id: 58, name: "QUERY_TARGETING_SCANNED_OBJECTS_PER_RETURNED", unit: Scalar, hosts: OnData, series: "scanned objects / returned", forms: []form{{kind: Quotient, num: "queryExecutor.scannedObjects", den: "document.returned", atLeastOne: true}}},
		{id: 59, name: "OP_EXECUTION_TIME_READS", unit: Milliseconds, hosts: OnData | OnMongos, series: "reads", aliases: []string{"AVG_READ_EXECUTION_TIME"}, forms: latency("reads")},
		{id: 60, name: "OP_EXECUTION_TIME_WRITES", unit: Milliseconds, hosts: OnData | OnMongos, series: "writes", aliases: []string{"AVG_WRITE_EXECUTION_TIME"}, forms: latency("writes")},
		{id: 61, name: "OP_EXECUTION_TIME_COMMANDS", unit: Milliseconds, hosts: OnData | OnMongos, series: "commands", aliases: []string{"AVG_COMMAND_EXECUTION_TIME"}, forms: latency("commands")},
		{id: 62, name: "RESTARTS_IN_LAST_HOUR", unit: Scalar, hosts: OnAll, series: "restarts", trailing: true, forms: []form{{kind: Gauge, restarts: true}}},
	}
}

// queue is the number of operations that wait: 8.0 says so; before, with wiredTiger, what is queued or active beyond the
// tickets that are out; without tickets what the lock manager says.
func queue(ticket, lock string) []form {
	return []form{
		{kind: Gauge, num: "queue." + ticket + ".normal + queue." + ticket + ".low?"},
		{kind: Gauge, num: "globalLock.queue." + lock + " + globalLock.active." + lock + " - tickets." + ticket + ".out", positive: true},
		{kind: Gauge, num: "globalLock.queue." + lock},
	}
}

func latency(what string) []form {
	return []form{{kind: Quotient, num: "opLatencies." + what + ".micros", den: "opLatencies." + what + ".ops", scale: 0.001}}
}

func replicationRows() []row {
	const members = OnPrimary | OnSecondary | OnConfig
	return []row{
		{id: 100, name: "OPLOG_MASTER_TIME", unit: Seconds, hosts: members, series: "window", forms: gauge("oplog.windowSecs")},
		{id: 101, name: "OPLOG_SLAVE_LAG_MASTER_TIME", unit: Seconds, hosts: OnSecondary | OnConfig, series: "lag", forms: []form{{kind: Gauge, num: "repl.lagMs", scale: 0.001, floor: true}}},
		{id: 102, name: "OPLOG_REPLICATION_LAG_TIME", unit: Seconds, hosts: OnSecondary | OnConfig, series: "lag", aliases: []string{"OPLOG_REPLICATION_LAG"}, forms: []form{{kind: Gauge, num: "repl.lagMs", scale: 0.001}}},
		{id: 103, name: "OPLOG_MASTER_LAG_TIME_DIFF", unit: Seconds, hosts: OnSecondary | OnConfig, series: "headroom", forms: gauge("ctx.primaryWindowSecs - 0.001*repl.lagMs")},
		// The counter of bytes inserted says what is written now; without it, the average over the whole window.
		{id: 104, name: "OPLOG_RATE_GB_PER_HOUR", unit: GBPerHour, hosts: OnPrimary | OnConfig, series: "GB/hour", carry: carryOplog, forms: []form{
			{kind: Rate, num: "oplog.insertedBytes", scale: 3600.0 / gib},
			{kind: Gauge, num: "oplog.size", den: "oplog.windowSecs", scale: 3600.0 / gib},
		}},
		{id: 105, name: "OPLOG_MASTER_TIME_ESTIMATED_TTL", unit: Seconds, hosts: OnPrimary | OnConfig, series: "estimated ttl", carry: carryOplog, forms: []form{
			{kind: Quotient, seconds: true, den: "oplog.insertedBytes", mul: "oplog.maxSize"},
		}},
	}
}

// storageRows come from dbStats rounds: sums of the process, and one set a database.
func storageRows() []row {
	rows := []row{
		{id: 120, name: "DB_STORAGE_TOTAL", unit: Bytes, series: "storageSize", forms: gauge("dbTotal.storage")},
		{id: 121, name: "DB_DATA_SIZE_TOTAL", unit: Bytes, series: "dataSize", forms: gauge("dbTotal.data")},
		{id: 122, name: "DB_DATA_SIZE_TOTAL_WO_SYSTEM", unit: Bytes, series: "dataSize w/o system", forms: gauge("dbTotal.dataNoSystem")},
		{id: 123, name: "DB_INDEX_SIZE_TOTAL", unit: Bytes, series: "indexSize", forms: gauge("dbTotal.index")},
		{id: 124, name: "LOGICAL_SIZE", unit: Bytes, series: "logical size", forms: gauge("dbTotal.data + dbTotal.index")},
		{id: 125, name: "CATALOG_DATABASES", unit: Scalar, series: "databases", forms: gauge("dbTotal.databases")},
		{id: 126, name: "CATALOG_COLLECTIONS", unit: Scalar, series: "collections", forms: gauge("dbTotal.collections")},
		{id: 127, name: "CATALOG_VIEWS", unit: Scalar, series: "views", forms: gauge("dbTotal.views")},
		{id: 128, name: "CATALOG_INDEXES", unit: Scalar, series: "indexes", forms: gauge("dbTotal.indexes")},
		{id: 129, name: "DATABASE_AVERAGE_OBJECT_SIZE", unit: Bytes, scope: Database, series: "avgObjSize", forms: gauge("db.avgObjSize")},
		{id: 130, name: "DATABASE_COLLECTION_COUNT", unit: Scalar, scope: Database, series: "collections", forms: gauge("db.collections")},
		{id: 131, name: "DATABASE_VIEW_COUNT", unit: Scalar, scope: Database, series: "views", forms: gauge("db.views")},
		{id: 132, name: "DATABASE_DATA_SIZE", unit: Bytes, scope: Database, series: "dataSize", forms: gauge("db.dataSize")},
		{id: 133, name: "DATABASE_STORAGE_SIZE", unit: Bytes, scope: Database, series: "storageSize", forms: gauge("db.storageSize")},
		{id: 134, name: "DATABASE_FILE_SIZE", unit: Bytes, scope: Database, series: "fileSize", forms: gauge("db.fileSize")},
		{id: 135, name: "DATABASE_INDEX_SIZE", unit: Bytes, scope: Database, series: "indexSize", forms: gauge("db.indexSize")},
		{id: 136, name: "DATABASE_INDEX_COUNT", unit: Scalar, scope: Database, series: "indexes", forms: gauge("db.indexes")},
		{id: 137, name: "DATABASE_EXTENT_COUNT", unit: Scalar, scope: Database, series: "extents", forms: gauge("db.extents")},
		{id: 138, name: "DATABASE_OBJECT_COUNT", unit: Scalar, scope: Database, series: "objects", forms: gauge("db.objects")},
	}
	for i := range rows {
		rows[i].hosts, rows[i].carry = OnData, carryRound
	}
	return append(rows, row{
		id: 139, name: "DATABASE_WRITE_LOCK_PERCENTAGE", unit: Percent, hosts: OnData, scope: Database, series: "write lock",
		forms: []form{{kind: Rate, num: "db.lockedWrite + db.lockedGlobalWrite?", scale: 100 / 1e6}, {kind: Rate, num: "db.lockedGlobalWrite", scale: 100 / 1e6}},
	})
}

// extraRows are our own names for values worth having that the API's catalogue lacks.
func extraRows() []row {
	return []row{
		{id: 150, name: "CONNECTIONS_AVAILABLE", unit: Scalar, hosts: OnAll, series: "available", forms: gauge("connections.available")},
		{id: 151, name: "CONNECTIONS_ACTIVE", unit: Scalar, hosts: OnAll, series: "active", forms: gauge("connections.active")},
		{id: 152, name: "CONNECTIONS_CREATED", unit: ScalarPerSecond, hosts: OnAll, series: "created", forms: rate("connections.created")},
		{id: 153, name: "TICKETS_TOTAL_READS", unit: Scalar, hosts: OnData, series: "total reads", forms: gauge("tickets.read.total")},
		{id: 154, name: "TICKETS_TOTAL_WRITES", unit: Scalar, hosts: OnData, series: "total writes", forms: gauge("tickets.write.total")},
		{id: 155, name: "FLOW_CONTROL_IS_LAGGED", unit: Scalar, hosts: OnData, series: "is lagged", forms: gauge("flowControl.isLagged")},
		{id: 156, name: "TRANSACTIONS_OPEN", unit: Scalar, hosts: OnData | OnMongos, series: "open", forms: gauge("transactions.open")},
		{id: 157, name: "TRANSACTIONS_ACTIVE", unit: Scalar, hosts: OnData | OnMongos, series: "active", forms: gauge("transactions.active")},
		{id: 158, name: "TRANSACTIONS_COMMITTED", unit: ScalarPerSecond, hosts: OnData | OnMongos, series: "committed", forms: rate("transactions.committed")},
		{id: 159, name: "TRANSACTIONS_ABORTED", unit: ScalarPerSecond, hosts: OnData | OnMongos, series: "aborted", forms: rate("transactions.aborted")},
		{id: 160, name: "WRITE_CONFLICTS", unit: ScalarPerSecond, hosts: OnData, series: "write conflicts", forms: rate("operation.writeConflicts")},
		{id: 161, name: "COLLECTION_SCANS", unit: ScalarPerSecond, hosts: OnData, series: "collection scans", forms: rate("queryExecutor.collectionScans")},
		{id: 162, name: "OP_EXECUTION_TIME_TRANSACTIONS", unit: Milliseconds, hosts: OnData, series: "transactions", forms: latency("transactions")},
		{id: 163, name: "REPL_BUFFER_BYTES", unit: Bytes, hosts: OnSecondary | OnPrimary | OnConfig, series: "buffer", forms: gauge("replBuffer.bytes")},
		{id: 164, name: "CHECKPOINT_MS", unit: Milliseconds, hosts: OnData, series: "checkpoint", forms: gauge("checkpoint.ms")},
		{id: 165, name: "MEMBER_STATE", unit: Scalar, hosts: OnPrimary | OnSecondary | OnArbiter | OnConfig, series: "state", forms: gauge("repl.state")},
		{id: 166, name: "UPTIME", unit: Seconds, hosts: OnAll, series: "uptime", forms: []form{{kind: Gauge, num: "uptimeMs", scale: 0.001}}},
	}
}

// cpuStates are the shares of a machine's processor time. A guest's time is contained in user and nice; the total counts
// it once.
var cpuStates = []struct{ name, series, num string }{
	{"USER", "user", "cpu.user - cpu.guest?"},
	{"KERNEL", "kernel", "cpu.system"},
	{"NICE", "nice", "cpu.nice - cpu.guest_nice?"},
	{"IOWAIT", "iowait", "cpu.iowait"},
	{"IRQ", "irq", "cpu.irq"},
	{"SOFTIRQ", "softirq", "cpu.softirq"},
	{"GUEST", "guest", "cpu.guest + cpu.guest_nice?"},
	{"STEAL", "steal", "cpu.steal"},
}

const cpuTotal = "cpu.user + cpu.nice? + cpu.system + cpu.idle + cpu.iowait? + cpu.irq? + cpu.softirq? + cpu.steal?"

func hardwareRows() []row {
	rows := []row{
		{id: 200, name: "PROCESS_CPU_USER", unit: Percent, hosts: OnAll, series: "user", forms: []form{{kind: Rate, num: "process.userMicros", scale: 100 / 1e6}}},
		{id: 201, name: "PROCESS_CPU_KERNEL", unit: Percent, hosts: OnAll, series: "kernel", forms: []form{{kind: Rate, num: "process.systemMicros", scale: 100 / 1e6}}},
		{id: 202, name: "PROCESS_NORMALIZED_CPU_USER", unit: Percent, hosts: OnAll, series: "user", forms: []form{{kind: Rate, num: "process.userMicros", scale: 100 / 1e6, div: "cores"}}},
		{id: 203, name: "PROCESS_NORMALIZED_CPU_KERNEL", unit: Percent, hosts: OnAll, series: "kernel", forms: []form{{kind: Rate, num: "process.systemMicros", scale: 100 / 1e6, div: "cores"}}},
	}
	for i, s := range cpuStates {
		rows = append(rows, row{
			id: uint16(210 + i), name: "SYSTEM_CPU_" + s.name, unit: Percent, hosts: OnAll, series: s.series,
			forms: []form{{kind: Quotient, num: s.num, den: cpuTotal, scale: 100, mul: "cores", clamp: true}},
		})
	}
	for i, s := range cpuStates {
		rows = append(rows, row{
			id: uint16(220 + i), name: "SYSTEM_NORMALIZED_CPU_" + s.name, unit: Percent, hosts: OnAll, series: s.series,
			aliases: []string{"NORMALIZED_SYSTEM_CPU_" + s.name},
			forms:   []form{{kind: Quotient, num: s.num, den: cpuTotal, scale: 100, clamp: true}},
		})
	}
	rows = append(rows,
		row{id: 230, name: "SYSTEM_MEMORY_USED", unit: Kilobytes, hosts: OnAll, series: "used", forms: []form{{kind: Gauge, num: "memory.total - memory.free - memory.buffers - memory.cached - memory.reclaimable? + memory.shared?", positive: true}}},
		row{id: 231, name: "SYSTEM_MEMORY_FREE", unit: Kilobytes, hosts: OnAll, series: "free", forms: gauge("memory.free")},
		row{id: 232, name: "SYSTEM_MEMORY_AVAILABLE", unit: Kilobytes, hosts: OnAll, series: "available", forms: []form{{kind: Gauge, num: "memory.available"}, {kind: Gauge, num: "memory.free + memory.buffers + memory.cached"}}},
		row{id: 233, name: "SYSTEM_MEMORY_BUFFERS", unit: Kilobytes, hosts: OnAll, series: "buffers", forms: gauge("memory.buffers")},
		row{id: 234, name: "SYSTEM_MEMORY_CACHED", unit: Kilobytes, hosts: OnAll, series: "cached", forms: gauge("memory.cached")},
		row{id: 235, name: "SYSTEM_MEMORY_SHARED", unit: Kilobytes, hosts: OnAll, series: "shared", forms: gauge("memory.shared")},
		row{id: 236, name: "SWAP_USAGE_USED", unit: Kilobytes, hosts: OnAll, series: "used", forms: []form{{kind: Gauge, num: "swap.total - swap.free", positive: true}}},
		row{id: 237, name: "SWAP_USAGE_FREE", unit: Kilobytes, hosts: OnAll, series: "free", forms: gauge("swap.free")},
		row{id: 238, name: "SWAP_IO_IN", unit: ScalarPerSecond, hosts: OnAll, series: "in", forms: rate("swap.in")},
		row{id: 239, name: "SWAP_IO_OUT", unit: ScalarPerSecond, hosts: OnAll, series: "out", forms: rate("swap.out")},
		// IP octets of all interfaces: the only network count that getDiagnosticData gives of the machine.
		row{id: 240, name: "SYSTEM_NETWORK_BYTES_IN", unit: BytesPerSecond, hosts: OnAll, series: "bytesIn", aliases: []string{"SYSTEM_NETWORK_IN"}, forms: rate("machine.netIn")},
		row{id: 241, name: "SYSTEM_NETWORK_BYTES_OUT", unit: BytesPerSecond, hosts: OnAll, series: "bytesOut", aliases: []string{"SYSTEM_NETWORK_OUT"}, forms: rate("machine.netOut")},
	)
	for i := range rows {
		rows[i].twin = true
	}
	return rows
}

func diskRows() []row {
	const sector = 512
	rows := []row{
		{id: 260, name: "DISK_PARTITION_IOPS_READ", unit: ScalarPerSecond, series: "reads", forms: rate("disk.reads")},
		{id: 261, name: "DISK_PARTITION_IOPS_WRITE", unit: ScalarPerSecond, series: "writes", forms: rate("disk.writes")},
		{id: 262, name: "DISK_PARTITION_IOPS_TOTAL", unit: ScalarPerSecond, series: "total", forms: rate("disk.reads + disk.writes")},
		{id: 263, name: "DISK_PARTITION_THROUGHPUT_READ", unit: BytesPerSecond, series: "reads", forms: []form{{kind: Rate, num: "disk.readSectors", scale: sector}}},
		{id: 264, name: "DISK_PARTITION_THROUGHPUT_WRITE", unit: BytesPerSecond, series: "writes", forms: []form{{kind: Rate, num: "disk.writeSectors", scale: sector}}},
		{id: 265, name: "DISK_PARTITION_THROUGHPUT_TOTAL", unit: BytesPerSecond, series: "total", forms: []form{{kind: Rate, num: "disk.readSectors + disk.writeSectors", scale: sector}}},
		{id: 266, name: "DISK_PARTITION_LATENCY_READ", unit: Milliseconds, series: "reads", forms: quotient("disk.readMs", "disk.reads")},
		{id: 267, name: "DISK_PARTITION_LATENCY_WRITE", unit: Milliseconds, series: "writes", forms: quotient("disk.writeMs", "disk.writes")},
		{id: 268, name: "DISK_PARTITION_UTILIZATION", unit: Percent, series: "util", forms: []form{{kind: Rate, num: "disk.ioMs", scale: 0.1, limit: 100}}},
		{id: 269, name: "DISK_QUEUE_DEPTH", unit: Scalar, series: "depth", forms: []form{{kind: Rate, num: "disk.queuedMs", scale: 0.001}}},
		{id: 270, name: "DISK_PARTITION_SPACE_FREE", unit: Bytes, series: "free", carry: carryRound, forms: []form{{kind: Gauge, num: "mount.available"}, {kind: Gauge, num: "fs.total - fs.used", positive: true}}},
		{id: 271, name: "DISK_PARTITION_SPACE_USED", unit: Bytes, series: "used", carry: carryRound, forms: []form{{kind: Gauge, num: "mount.capacity - mount.free", positive: true}, {kind: Gauge, num: "fs.used"}}},
		{id: 272, name: "DISK_PARTITION_SPACE_PERCENT_FREE", unit: Percent, series: "percent free", carry: carryRound, forms: []form{
			{kind: Gauge, num: "mount.available", den: "mount.capacity - mount.free + mount.available", scale: 100},
			{kind: Gauge, num: "fs.total - fs.used", den: "fs.total", scale: 100, positive: true},
		}},
		{id: 273, name: "DISK_PARTITION_SPACE_PERCENT_USED", unit: Percent, series: "percent used", carry: carryRound, forms: []form{
			{kind: Gauge, num: "mount.capacity - mount.free", den: "mount.capacity - mount.free + mount.available", scale: 100},
			{kind: Gauge, num: "fs.used", den: "fs.total", scale: 100},
		}},
	}
	for i := range rows {
		rows[i].hosts, rows[i].scope, rows[i].twin = OnAll, Disk, true
	}
	return rows
}
