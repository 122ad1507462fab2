package unit

import (
	"math"
	"slices"
	"testing"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

func TestConvert(t *testing.T) {
	for _, c := range []struct {
		value float64
		from  catalog.Unit
		to    string
		want  float64
	}{
		{300, catalog.Seconds, "MINUTES", 5},
		{1500, catalog.Milliseconds, "SECONDS", 1.5},
		{86400, catalog.Seconds, "DAYS", 1},
		{2, catalog.Seconds, "MILLISECONDS", 2000},
		{1 << 30, catalog.Bytes, "GIGABYTES", 1},
		{1, catalog.Megabytes, "BYTES", 1 << 20},
		{2, catalog.Kilobytes, "MEGABYTES", 2. / 1024},
		{1, catalog.BytesPerSecond, "BITS", 8},
		{1, catalog.MBPerSecond, "KILOBYTES", 1024},
		{1, catalog.GBPerHour, "MEGABYTES", 1024},
		{7, catalog.Percent, "RAW", 7},
		{7, catalog.Seconds, "", 7},
		{7, catalog.Seconds, "RAW", 7},
	} {
		if got, err := Convert(c.value, c.from, c.to); err != nil || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v %s is %v %s (%v), want %v", c.value, c.from, got, c.to, err, c.want)
		}
	}
	for _, c := range [][2]string{{"SECONDS", "BYTES"}, {"SCALAR", "SECONDS"}, {"PERCENT", "BYTES"}, {"BYTES", "FURLONGS"}} {
		if _, err := Convert(1, catalog.Unit(c[0]), c[1]); err == nil {
			t.Errorf("%s becomes %s", c[0], c[1])
		}
	}
}

func TestEveryMeasurementHasUnitsThatConvert(t *testing.T) {
	for _, m := range catalog.Measurements() {
		names := Names(m)
		if !slices.Contains(names, Raw) {
			t.Errorf("%s has no plain unit", m.Name)
		}
		for i, name := range names {
			f, err := Factor(m.Unit, name)
			if err != nil || f <= 0 || i == 0 && f != 1 {
				t.Errorf("%s in %s: factor %v, %v", m.Name, name, f, err)
			}
		}
		if found, ok := Find(m.Name); !ok || found.Name != m.Name {
			t.Errorf("%s is not found", m.Name)
		}
	}
}

func TestClassicNames(t *testing.T) {
	for name, want := range map[string]string{
		"MUNIN_CPU_IOWAIT":                 "SYSTEM_CPU_IOWAIT",
		"DISK_PARTITION_SPACE_USED_DATA":   "DISK_PARTITION_SPACE_PERCENT_USED",
		"DISK_PARTITION_READ_IOPS_JOURNAL": "DISK_PARTITION_IOPS_READ",
		"TICKETS_AVAILABLE_WRITES":         "TICKETS_AVAILABLE_WRITE",
		"OPLOG_SLAVE_LAG_MASTER_TIME":      "OPLOG_SLAVE_LAG_MASTER_TIME",
	} {
		if m, ok := Find(name); !ok || m.Name != want {
			t.Errorf("%s is %s", name, m.Name)
		}
	}
	for name, target := range classic {
		if _, ok := catalog.Find(target); !ok {
			t.Errorf("%s means %s, which is not in the catalogue", name, target)
		}
	}
	for _, name := range []string{"", "NONE", "MAX_", "DISK_PARTITION_SPACE_USED_", "DISK_PARTITION_SPACE_USED_X"} {
		if m, ok := Find(name); ok {
			t.Errorf("%q is %s", name, m.Name)
		}
	}
}
