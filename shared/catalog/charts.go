package catalog

// mongosDefault are the charts a mongos page starts with.
var mongosDefault = map[string]bool{
	"opcounters": true, "connections": true, "network": true, "memory": true, "page-faults": true, "cursors": true, "asserts": true,
}

// chartRows are the charts in the order of the page.
func chartRows() []Chart {
	rows := []Chart{
		{
			ID: "opcounters", Title: "Opcounters", Default: true, Description: "Operations a second by type, as the process received them from clients.",
			Measurements: []string{"OPCOUNTER_CMD", "OPCOUNTER_QUERY", "OPCOUNTER_UPDATE", "OPCOUNTER_DELETE", "OPCOUNTER_GETMORE", "OPCOUNTER_INSERT", "OPCOUNTER_TTL_DELETED"},
		},
		{
			ID: "opcounters-repl", Title: "Opcounters - Repl", Default: true, Description: "Replicated operations a second that this member applied.",
			Measurements: []string{"OPCOUNTER_REPL_CMD", "OPCOUNTER_REPL_UPDATE", "OPCOUNTER_REPL_DELETE", "OPCOUNTER_REPL_INSERT"},
		},
		{
			ID: "replication-lag", Title: "Replication Lag", Default: true, Description: "How far the secondary is behind the primary's last operation.",
			Measurements: []string{"OPLOG_REPLICATION_LAG_TIME"},
		},
		{
			ID: "oplog-rate", Title: "Oplog GB/Hour", Default: true, Description: "Gigabytes of oplog the primary generates an hour.",
			Measurements: []string{"OPLOG_RATE_GB_PER_HOUR"},
		},
		{
			ID: "replication-headroom", Title: "Replication Headroom", Default: true, Description: "Time between the secondary's position and the oldest entry of the primary's oplog. At 0 it must be resynced.",
			Measurements: []string{"OPLOG_MASTER_LAG_TIME_DIFF"},
		},
		{
			ID: "oplog-window", Title: "Replication Oplog Window", Default: true, Description: "Time between the newest and the oldest entry of this member's oplog.",
			Measurements: []string{"OPLOG_MASTER_TIME"},
		},
		{
			ID: "memory", Title: "Memory", Default: true, Description: "Memory of the process.",
			Measurements: []string{"MEMORY_RESIDENT", "MEMORY_VIRTUAL", "MEMORY_MAPPED"},
		},
		{
			ID: "non-mapped-memory", Title: "Non-Mapped Virtual Memory", Default: true, Description: "Virtual memory that is not mapped data files: connections, caches, code.",
			Measurements: []string{"COMPUTED_MEMORY"},
		},
		{
			ID: "page-faults", Title: "Page Faults", Default: true, Description: "Page faults a second of the process.",
			Measurements: []string{"EXTRA_INFO_PAGE_FAULTS"},
		},
		{ID: "connections", Title: "Connections", Default: true, Description: "Open connections.", Measurements: []string{"CONNECTIONS"}},
		{
			ID: "cursors", Title: "Cursors", Default: true, Unit: Scalar, Description: "Cursors kept open for clients, and timed out a second.",
			Measurements: []string{"CURSORS_TOTAL_OPEN", "CURSORS_TOTAL_TIMED_OUT"},
		},
		{
			ID: "network", Title: "Network", Default: true, Unit: BytesPerSecond, Description: "Bytes a second on the wire, after compression, and requests a second.",
			Measurements: []string{"NETWORK_BYTES_IN", "NETWORK_BYTES_OUT", "NETWORK_NUM_REQUESTS"},
		},
		{
			ID: "queues", Title: "Queues", Default: true, Description: "Operations waiting for a lock or a ticket.",
			Measurements: []string{"GLOBAL_LOCK_CURRENT_QUEUE_TOTAL", "GLOBAL_LOCK_CURRENT_QUEUE_READERS", "GLOBAL_LOCK_CURRENT_QUEUE_WRITERS"},
		},
		{
			ID: "tickets", Title: "Tickets Available", Default: true, Description: "Concurrent operations the storage engine would still admit.",
			Measurements: []string{"TICKETS_AVAILABLE_READS", "TICKETS_AVAILABLE_WRITE"},
		},
		{
			ID: "cache-activity", Title: "Cache Activity", Default: true, Description: "Bytes a second read into and written from the storage engine's cache.",
			Measurements: []string{"CACHE_BYTES_READ_INTO", "CACHE_BYTES_WRITTEN_FROM"},
		},
		{
			ID: "cache-usage", Title: "Cache Usage", Default: true, Description: "Bytes in the storage engine's cache, and how many of them are dirty.",
			Measurements: []string{"CACHE_USED_BYTES", "CACHE_DIRTY_BYTES"},
		},
		{
			ID: "cache-ratio", Title: "Cache Ratio", Default: true, Description: "Cache use as a share of its configured size.",
			Measurements: []string{"CACHE_FILL_RATIO", "DIRTY_FILL_RATIO"},
		},
		{
			ID: "asserts", Title: "Asserts", Default: true, Description: "Asserts a second by kind. User asserts are errors returned to clients.",
			Measurements: []string{"ASSERT_REGULAR", "ASSERT_WARNING", "ASSERT_MSG", "ASSERT_USER"},
		},
		{
			ID: "document-metrics", Title: "Document Metrics", Default: true, Description: "Documents a second returned, inserted, updated and deleted.",
			Measurements: []string{"DOCUMENT_METRICS_RETURNED", "DOCUMENT_METRICS_INSERTED", "DOCUMENT_METRICS_UPDATED", "DOCUMENT_METRICS_DELETED"},
		},
		{
			ID: "query-executor", Title: "Query Executor", Default: true, Description: "Index keys and documents a second that queries looked at.",
			Measurements: []string{"QUERY_EXECUTOR_SCANNED", "QUERY_EXECUTOR_SCANNED_OBJECTS"},
		},
		{
			ID: "query-targeting", Title: "Query Targeting", Default: true, Description: "Index keys and documents looked at for each document returned. 1 is ideal.",
			Measurements: []string{"QUERY_TARGETING_SCANNED_PER_RETURNED", "QUERY_TARGETING_SCANNED_OBJECTS_PER_RETURNED"},
		},
		{
			ID: "scan-and-order", Title: "Scan and Order", Default: true, Description: "Queries a second that sorted in memory.",
			Measurements: []string{"OPERATIONS_SCAN_AND_ORDER"},
		},
		{
			ID: "operation-times", Title: "Operation Execution Times", Default: true, Description: "Mean time of an operation.",
			Measurements: []string{"OP_EXECUTION_TIME_READS", "OP_EXECUTION_TIME_WRITES", "OP_EXECUTION_TIME_COMMANDS"},
		},
		{
			ID: "db-storage", Title: "DB Storage", Default: true, Description: "Sums over all databases.",
			Measurements: []string{"DB_STORAGE_TOTAL", "DB_DATA_SIZE_TOTAL", "DB_DATA_SIZE_TOTAL_WO_SYSTEM", "DB_INDEX_SIZE_TOTAL"},
		},
		{
			ID: "catalog", Title: "Catalog", Default: true, Description: "Databases, collections, views and indexes, without those of the system.",
			Measurements: []string{"CATALOG_DATABASES", "CATALOG_COLLECTIONS", "CATALOG_VIEWS", "CATALOG_INDEXES"},
		},
		{
			ID: "connections-detail", Title: "Connection Activity", Unit: Scalar, Description: "Connections that are working, and created a second.",
			Measurements: []string{"CONNECTIONS_ACTIVE", "CONNECTIONS_CREATED"},
		},
		{ID: "connections-percent", Title: "Connections Used", Description: "Open connections as a share of those allowed.", Measurements: []string{"CONNECTIONS_PERCENT"}},
		{
			ID: "transactions", Title: "Transactions", Unit: Scalar, Description: "Open and active transactions; committed and aborted a second.",
			Measurements: []string{"TRANSACTIONS_OPEN", "TRANSACTIONS_ACTIVE", "TRANSACTIONS_COMMITTED", "TRANSACTIONS_ABORTED"},
		},
		{ID: "write-conflicts", Title: "Write Conflicts", Description: "Writes a second that had to be tried again.", Measurements: []string{"WRITE_CONFLICTS"}},
		{ID: "collection-scans", Title: "Collection Scans", Description: "Queries a second that read a whole collection.", Measurements: []string{"COLLECTION_SCANS"}},
		{ID: "replication-buffer", Title: "Replication Buffer", Description: "Bytes fetched from the sync source and not yet applied.", Measurements: []string{"REPL_BUFFER_BYTES"}},
		{ID: "flow-control", Title: "Flow Control", Description: "1 while writes are held back because the majority lags.", Measurements: []string{"FLOW_CONTROL_IS_LAGGED"}},
		{ID: "checkpoint", Title: "Checkpoint Time", Description: "Duration of the last checkpoint.", Measurements: []string{"CHECKPOINT_MS"}},
		{ID: "uptime", Title: "Uptime", Description: "Time since the process started.", Measurements: []string{"UPTIME"}},
		{ID: "background-flush", Title: "Background Flush Avg", Description: "Mean time of a flush (MMAPv1).", Measurements: []string{"BACKGROUND_FLUSH_AVG"}},
	}
	rows = append(rows, hardwareCharts()...)
	return append(rows, databaseCharts()...)
}

func hardwareCharts() []Chart {
	shares := func(prefix string) []string {
		var names []string
		for _, s := range cpuStates {
			names = append(names, prefix+s.name)
		}
		return names
	}
	base := []Chart{
		{
			ID: "normalized-process-cpu", Title: "Normalized Process CPU", Percent: true, Stacked: true, Default: true, Description: "Processor time of the process as a share of the whole machine.",
			Measurements: []string{"PROCESS_NORMALIZED_CPU_USER", "PROCESS_NORMALIZED_CPU_KERNEL"},
		},
		{
			ID: "process-cpu", Title: "Process CPU", Stacked: true, Description: "Processor time of the process; 100 is one core.",
			Measurements: []string{"PROCESS_CPU_USER", "PROCESS_CPU_KERNEL"},
		},
		{
			ID: "normalized-system-cpu", Title: "Normalized System CPU", Percent: true, Stacked: true, Default: true, Description: "Processor time of the machine by use.",
			Measurements: shares("SYSTEM_NORMALIZED_CPU_"),
		},
		{ID: "system-cpu", Title: "System CPU", Stacked: true, Description: "Processor time of the machine by use; 100 is one core.", Measurements: shares("SYSTEM_CPU_")},
		{
			ID: "system-memory", Title: "System Memory", Default: true, Description: "Memory of the machine.",
			Measurements: []string{"SYSTEM_MEMORY_USED", "SYSTEM_MEMORY_AVAILABLE", "SYSTEM_MEMORY_FREE", "SYSTEM_MEMORY_BUFFERS", "SYSTEM_MEMORY_CACHED", "SYSTEM_MEMORY_SHARED"},
		},
		{ID: "swap-usage", Title: "Swap Usage", Default: true, Description: "Swap space of the machine.", Measurements: []string{"SWAP_USAGE_USED", "SWAP_USAGE_FREE"}},
		{ID: "swap-io", Title: "Swap IO", Description: "Pages a second swapped in and out.", Measurements: []string{"SWAP_IO_IN", "SWAP_IO_OUT"}},
		{ID: "system-network", Title: "System Network", Description: "Bytes a second of the machine's IP traffic.", Measurements: []string{"SYSTEM_NETWORK_BYTES_IN", "SYSTEM_NETWORK_BYTES_OUT"}},
		{
			ID: "disk-iops", Title: "Disk IOPS", Scope: Disk, Default: true, Description: "Disk operations completed a second.",
			Measurements: []string{"DISK_PARTITION_IOPS_READ", "DISK_PARTITION_IOPS_WRITE", "DISK_PARTITION_IOPS_TOTAL"},
		},
		{
			ID: "disk-throughput", Title: "Disk Throughput", Scope: Disk, Description: "Bytes a second read and written.",
			Measurements: []string{"DISK_PARTITION_THROUGHPUT_READ", "DISK_PARTITION_THROUGHPUT_WRITE"},
		},
		{
			ID: "disk-latency", Title: "Disk Latency", Scope: Disk, Default: true, Description: "Mean time of a disk operation.",
			Measurements: []string{"DISK_PARTITION_LATENCY_READ", "DISK_PARTITION_LATENCY_WRITE"},
		},
		{ID: "disk-queue-depth", Title: "Disk Queue Depth", Scope: Disk, Description: "Mean number of disk operations under way.", Measurements: []string{"DISK_QUEUE_DEPTH"}},
		{ID: "disk-util", Title: "Util %", Scope: Disk, Percent: true, Default: true, Description: "Share of time the disk was busy.", Measurements: []string{"DISK_PARTITION_UTILIZATION"}},
		{ID: "disk-space-used", Title: "Disk Space Used", Scope: Disk, Description: "Bytes used on the volume.", Measurements: []string{"DISK_PARTITION_SPACE_USED"}},
		{ID: "disk-space-free", Title: "Disk Space Free", Scope: Disk, Description: "Bytes free on the volume for ordinary users.", Measurements: []string{"DISK_PARTITION_SPACE_FREE"}},
		{ID: "disk-space-percent-free", Title: "Disk Space Percent Free", Scope: Disk, Percent: true, Default: true, Description: "Share of the volume that is free.", Measurements: []string{"DISK_PARTITION_SPACE_PERCENT_FREE"}},
	}
	out := append([]Chart(nil), base...)
	for _, c := range base {
		c.ID, c.Title, c.Default, c.Stacked = "max-"+c.ID, "Max "+c.Title, false, false
		c.Description = "Largest sample of each interval. " + c.Description
		names := c.Measurements
		c.Measurements = nil
		for _, name := range names {
			c.Measurements = append(c.Measurements, "MAX_"+name)
		}
		out = append(out, c)
	}
	for i := range out {
		out[i].Tab = TabHardware
	}
	return out
}

func databaseCharts() []Chart {
	row := func(id, title, description, measurement string, isDefault bool) Chart {
		return Chart{ID: id, Title: title, Description: description, Default: isDefault, Measurements: []string{measurement}}
	}
	rows := []Chart{
		row("db-data-size", "Data Size", "Uncompressed size of the documents.", "DATABASE_DATA_SIZE", true),
		row("db-storage-size", "Storage Size", "Space of the collections on disk.", "DATABASE_STORAGE_SIZE", true),
		row("db-index-size", "Index Size", "Space of the indexes on disk.", "DATABASE_INDEX_SIZE", true),
		row("db-file-size", "File Size", "Size of the data files (MMAPv1).", "DATABASE_FILE_SIZE", false),
		row("db-objects", "Objects", "Number of documents.", "DATABASE_OBJECT_COUNT", true),
		row("db-avg-object-size", "Avg Object Size", "Mean size of a document.", "DATABASE_AVERAGE_OBJECT_SIZE", true),
		row("db-collections", "Collections", "Number of collections.", "DATABASE_COLLECTION_COUNT", true),
		row("db-views", "Views", "Number of views.", "DATABASE_VIEW_COUNT", false),
		row("db-indexes", "Indexes", "Number of indexes.", "DATABASE_INDEX_COUNT", true),
		row("db-extents", "Num Extents", "Number of extents (before 4.4).", "DATABASE_EXTENT_COUNT", false),
		row("db-write-lock", "Effective Lock %", "Share of time the database's write lock was held (before 3.0).", "DATABASE_WRITE_LOCK_PERCENTAGE", false),
	}
	for i := range rows {
		rows[i].Tab, rows[i].Scope = TabDBStats, Database
	}
	return rows
}
