package catalog

import (
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
)

func TestColumnsAreConsistent(t *testing.T) {
	var last ColumnID
	for _, c := range Columns() {
		if c.ID <= last {
			t.Errorf("column %s: number %d does not follow %d", c.Name, c.ID, last)
		}
		last = c.ID
		stars := 0
		for _, p := range c.Paths {
			stars += strings.Count(p, "*")
			if strings.Count(p, "*") != boolInt(c.Scope != Process) {
				t.Errorf("column %s: path %q must have a * exactly where there is a dimension", c.Name, p)
			}
		}
		if c.Clock == MachineClock && !c.Counter {
			t.Errorf("column %s is a gauge: it needs no clock", c.Name)
		}
		if got, ok := ColumnByName(c.Name); !ok || got.ID != c.ID {
			t.Errorf("ColumnByName(%q) = %v, %v", c.Name, got.ID, ok)
		}
		if got, ok := ColumnByID(c.ID); !ok || got.Name != c.Name {
			t.Errorf("ColumnByID(%d) = %v, %v", c.ID, got.Name, ok)
		}
	}
	if len(Group("asserts")) != 4 || len(Group("opcounters")) != 6 || len(Group("opcountersRepl")) != 4 {
		t.Error("the groups that are reset together must have 4, 6 and 4 counters")
	}
	if _, ok := ColumnByName("no such"); ok {
		t.Error("found a column that does not exist")
	}
	if _, ok := ColumnByID(9999); ok {
		t.Error("found a number that does not exist")
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestMeasurementsAreConsistent(t *testing.T) {
	used := map[ColumnID]bool{
		// Columns that no measurement shows: identities and clocks of their neighbours.
		must("machine.boot"): true, must("machine.at"): true,
	}
	for _, m := range Measurements() {
		if m.Name != strings.ToUpper(m.Name) || m.Unit == "" || m.Hosts == 0 || m.Series == "" {
			t.Errorf("%s: name, unit, hosts and series must be given", m.Name)
		}
		if m.Max != strings.HasPrefix(m.Name, "MAX_") || m.Max && m.Name != "MAX_"+m.Base {
			t.Errorf("%s: Max = %v, Base = %s", m.Name, m.Max, m.Base)
		}
		if len(m.Forms) == 0 {
			t.Errorf("%s has no form", m.Name)
		}
		for _, f := range m.Forms {
			for _, part := range f.Parts {
				if p, ok := Find(part); !ok || p.Scope != m.Scope {
					t.Errorf("%s: part %s", m.Name, part)
				}
			}
			if len(f.Parts) > 0 || f.Restarts {
				continue
			}
			checkForm(t, m, f, used)
		}
		for _, name := range append([]string{m.Name}, m.Aliases...) {
			if got, ok := Find(name); !ok || got.Name != m.Name {
				t.Errorf("Find(%q) = %q, %v", name, got.Name, ok)
			}
		}
	}
	for _, c := range Columns() {
		if !used[c.ID] {
			t.Errorf("column %s is collected but no measurement uses it", c.Name)
		}
	}
}

func must(name string) ColumnID {
	c, ok := ColumnByName(name)
	if !ok {
		panic(name)
	}
	return c.ID
}

// checkForm holds a form to its columns: rates and quotients are of counters of one clock, gauges of gauges.
func checkForm(t *testing.T, m Measurement, f Form, used map[ColumnID]bool) {
	t.Helper()
	if len(f.Num) == 0 && !f.Seconds {
		t.Errorf("%s: nothing to count", m.Name)
	}
	if f.Kind == Quotient != (len(f.Den) > 0 && f.Kind != Gauge) {
		t.Errorf("%s: a quotient needs a denominator, a rate must not have one", m.Name)
	}
	wantCounter := f.Kind != Gauge
	clock := Clock(-1)
	required := false
	for _, term := range append(append([]Term(nil), f.Num...), f.Den...) {
		c, ok := ColumnByID(term.Column)
		if !ok {
			t.Fatalf("%s: column %d", m.Name, term.Column)
		}
		used[c.ID] = true
		if c.Counter != wantCounter {
			t.Errorf("%s: %s is a counter: %v, wanted %v", m.Name, c.Name, c.Counter, wantCounter)
		}
		if c.Scope != m.Scope {
			t.Errorf("%s: %s is of another scope", m.Name, c.Name)
		}
		if wantCounter && clock != -1 && clock != c.Clock {
			t.Errorf("%s mixes clocks", m.Name)
		}
		clock = c.Clock
		required = required || !term.Optional
	}
	if !required {
		t.Errorf("%s: at least one column must be required", m.Name)
	}
	for _, id := range []ColumnID{f.Mul, f.Div} {
		if c, ok := ColumnByID(id); id != 0 && (!ok || c.Counter || c.Scope != Process) {
			t.Errorf("%s: factor %v", m.Name, c.Name)
		}
		used[id] = true
	}
	if c, ok := ColumnByID(f.Guard); f.Guard != 0 && (!ok || !c.Counter) {
		t.Errorf("%s: guard %v", m.Name, c.Name)
	}
	used[f.Guard] = true
}

// TestDocumentedNames lists names that clients and the reference use; none may get lost.
func TestDocumentedNames(t *testing.T) {
	names := `ASSERT_REGULAR ASSERT_WARNING ASSERT_MSG ASSERT_USER BACKGROUND_FLUSH_AVG CACHE_BYTES_READ_INTO
		CACHE_BYTES_WRITTEN_FROM CACHE_DIRTY_BYTES CACHE_USED_BYTES CACHE_FILL_RATIO DIRTY_FILL_RATIO
		TICKETS_AVAILABLE_READS TICKETS_AVAILABLE_WRITE TICKETS_AVAILABLE_WRITES CONNECTIONS CONNECTIONS_PERCENT
		CURSORS_TOTAL_OPEN CURSORS_TOTAL_TIMED_OUT CURSORS_TOTAL_CLIENT_CURSORS_SIZE EXTRA_INFO_PAGE_FAULTS
		GLOBAL_ACCESSES_NOT_IN_MEMORY GLOBAL_PAGE_FAULT_EXCEPTIONS_THROWN GLOBAL_LOCK_CURRENT_QUEUE_READERS
		GLOBAL_LOCK_CURRENT_QUEUE_WRITERS GLOBAL_LOCK_CURRENT_QUEUE_TOTAL INDEX_COUNTERS_BTREE_ACCESSES
		INDEX_COUNTERS_BTREE_HITS INDEX_COUNTERS_BTREE_MISSES INDEX_COUNTERS_BTREE_MISS_RATIO
		JOURNALING_COMMITS_IN_WRITE_LOCK JOURNALING_MB JOURNALING_WRITE_DATA_FILES_MB MEMORY_RESIDENT MEMORY_VIRTUAL
		MEMORY_MAPPED COMPUTED_MEMORY NETWORK_BYTES_IN NETWORK_BYTES_OUT NETWORK_NUM_REQUESTS OPCOUNTER_CMD OPCOUNTER_QUERY
		OPCOUNTER_UPDATE OPCOUNTER_DELETE OPCOUNTER_GETMORE OPCOUNTER_INSERT OPCOUNTER_TTL_DELETED OPCOUNTER_REPL_CMD
		OPCOUNTER_REPL_UPDATE OPCOUNTER_REPL_DELETE OPCOUNTER_REPL_INSERT DOCUMENT_METRICS_RETURNED
		DOCUMENT_METRICS_INSERTED DOCUMENT_METRICS_UPDATED DOCUMENT_METRICS_DELETED OPERATIONS_SCAN_AND_ORDER
		QUERY_EXECUTOR_SCANNED QUERY_EXECUTOR_SCANNED_OBJECTS QUERY_TARGETING_SCANNED_PER_RETURNED
		QUERY_TARGETING_SCANNED_OBJECTS_PER_RETURNED OP_EXECUTION_TIME_READS OP_EXECUTION_TIME_WRITES
		OP_EXECUTION_TIME_COMMANDS RESTARTS_IN_LAST_HOUR AVG_READ_EXECUTION_TIME AVG_WRITE_EXECUTION_TIME
		AVG_COMMAND_EXECUTION_TIME NORMALIZED_SYSTEM_CPU_USER NORMALIZED_SYSTEM_CPU_STEAL CONNECTIONS_AVAILABLE
		CONNECTIONS_ACTIVE CONNECTIONS_CREATED TICKETS_TOTAL_READS TICKETS_TOTAL_WRITES FLOW_CONTROL_IS_LAGGED
		WRITE_CONFLICTS COLLECTION_SCANS REPL_BUFFER_BYTES CHECKPOINT_MS UPTIME OPLOG_MASTER_TIME
		OPLOG_SLAVE_LAG_MASTER_TIME OPLOG_REPLICATION_LAG_TIME OPLOG_REPLICATION_LAG OPLOG_MASTER_LAG_TIME_DIFF
		OPLOG_RATE_GB_PER_HOUR OPLOG_MASTER_TIME_ESTIMATED_TTL DB_STORAGE_TOTAL DB_DATA_SIZE_TOTAL
		DB_DATA_SIZE_TOTAL_WO_SYSTEM DB_INDEX_SIZE_TOTAL LOGICAL_SIZE DATABASE_AVERAGE_OBJECT_SIZE
		DATABASE_COLLECTION_COUNT DATABASE_VIEW_COUNT DATABASE_DATA_SIZE DATABASE_STORAGE_SIZE DATABASE_FILE_SIZE
		DATABASE_INDEX_SIZE DATABASE_INDEX_COUNT DATABASE_EXTENT_COUNT DATABASE_OBJECT_COUNT
		DATABASE_WRITE_LOCK_PERCENTAGE PROCESS_CPU_USER PROCESS_CPU_KERNEL PROCESS_NORMALIZED_CPU_USER
		PROCESS_NORMALIZED_CPU_KERNEL SYSTEM_CPU_USER SYSTEM_CPU_KERNEL SYSTEM_CPU_NICE SYSTEM_CPU_IOWAIT SYSTEM_CPU_IRQ
		SYSTEM_CPU_SOFTIRQ SYSTEM_CPU_GUEST SYSTEM_CPU_STEAL SYSTEM_NORMALIZED_CPU_USER SYSTEM_NORMALIZED_CPU_IOWAIT
		SYSTEM_MEMORY_USED SYSTEM_MEMORY_FREE SYSTEM_MEMORY_AVAILABLE SWAP_USAGE_USED SWAP_USAGE_FREE SWAP_IO_IN SWAP_IO_OUT
		SYSTEM_NETWORK_BYTES_IN SYSTEM_NETWORK_OUT MAX_SYSTEM_NETWORK_IN MAX_SYSTEM_NORMALIZED_CPU_USER
		DISK_PARTITION_IOPS_READ DISK_PARTITION_IOPS_WRITE DISK_PARTITION_IOPS_TOTAL DISK_PARTITION_THROUGHPUT_READ
		DISK_PARTITION_THROUGHPUT_WRITE DISK_PARTITION_THROUGHPUT_TOTAL DISK_PARTITION_LATENCY_READ
		DISK_PARTITION_LATENCY_WRITE DISK_PARTITION_UTILIZATION DISK_QUEUE_DEPTH DISK_PARTITION_SPACE_FREE
		DISK_PARTITION_SPACE_USED DISK_PARTITION_SPACE_PERCENT_FREE DISK_PARTITION_SPACE_PERCENT_USED
		MAX_DISK_PARTITION_IOPS_READ MAX_DISK_PARTITION_SPACE_PERCENT_USED`
	for _, name := range strings.Fields(names) {
		if _, ok := Find(name); !ok {
			t.Errorf("%s is not in the catalogue", name)
		}
	}
	if m, ok := Find("MAX DISK_PARTITION_IOPS_READ"); !ok || !m.Max {
		t.Error("the documented spelling with a blank must be found")
	}
	for _, name := range []string{"", "MAX_CONNECTIONS", "opcounter_cmd"} {
		if _, ok := Find(name); ok {
			t.Errorf("found %q", name)
		}
	}
}

func TestChartsAreConsistent(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range catalogue().charts {
		if seen[c.ID] || c.ID != strings.ToLower(c.ID) || c.Title == "" || c.Description == "" || c.Unit == "" || len(c.Measurements) == 0 {
			t.Errorf("chart %q: id must be new and lower case; title, description, unit and measurements given", c.ID)
		}
		seen[c.ID] = true
		series := map[string]bool{}
		for _, name := range c.Measurements {
			m, ok := Find(name)
			if !ok || m.Scope != c.Scope {
				t.Errorf("chart %s: %s is missing or of another scope", c.ID, name)
			}
			if series[m.Series] {
				t.Errorf("chart %s has two lines called %s", c.ID, m.Series)
			}
			series[m.Series] = true
			if strings.HasPrefix(c.ID, "max-") != m.Max {
				t.Errorf("chart %s shows %s", c.ID, name)
			}
		}
		if got, ok := ChartByID(c.ID); !ok || got.Title != c.Title {
			t.Errorf("ChartByID(%q)", c.ID)
		}
	}
	if _, ok := ChartByID("nothing"); ok {
		t.Error("found a chart that does not exist")
	}
}

func TestChartsOfAProcessType(t *testing.T) {
	has := func(list []Chart, id string) *Chart {
		for i := range list {
			if list[i].ID == id {
				return &list[i]
			}
		}
		return nil
	}
	primary := Charts(model.TypeReplicaPrimary)
	for _, id := range []string{"opcounters", "replication-lag", "oplog-rate", "disk-iops", "db-data-size", "max-disk-iops"} {
		if has(primary, id) == nil {
			t.Errorf("a primary has no chart %s", id)
		}
	}
	if primary[0].ID != "opcounters" {
		t.Errorf("the page starts with %s", primary[0].ID)
	}
	mongos := Charts(model.TypeShardMongos)
	for _, id := range []string{"replication-lag", "cache-usage", "db-data-size", "queues"} {
		if has(mongos, id) != nil {
			t.Errorf("a mongos has the chart %s", id)
		}
	}
	if c := has(mongos, "uptime"); c == nil || c.Default {
		t.Error("uptime must be offered but not drawn at first")
	}
	if c := has(mongos, "opcounters"); c == nil || !c.Default || len(c.Measurements) != 6 {
		t.Errorf("opcounters of a mongos: %+v", c)
	}
	if has(Charts(model.TypeStandalone), "replication-lag") != nil {
		t.Error("a standalone has no replication lag")
	}
	lag, _ := Find("OPLOG_REPLICATION_LAG_TIME")
	if lag.AppliesTo(model.TypeReplicaPrimary) || !lag.AppliesTo(model.TypeShardSecondary) || !lag.AppliesTo(model.TypeNoData) {
		t.Error("lag is a secondary's")
	}
	if len(Charts(model.TypeNoData)) == 0 || len(Charts(model.TypeReplicaArbiter)) == 0 || len(Charts(model.TypeShardConfig)) == 0 {
		t.Error("every type has charts")
	}
}
