// Package unit knows the units of metric thresholds: which ones a measurement may have and how they convert, and by which
// classic names measurements are known.
//
// It may import shared/catalog only.
package unit

import (
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

// Raw is the unit of plain numbers; of every measurement it means the catalogue's own unit.
const Raw = "RAW"

// scales are the families of units, each with the size of its units in the smallest.
var (
	times = []scale{
		{"MILLISECONDS", 1},
		{"SECONDS", 1e3},
		{"MINUTES", 60e3},
		{"HOURS", 3600e3},
		{"DAYS", 86400e3},
	}
	sizes = []scale{
		{"BITS", 1},
		{"KILOBITS", 1 << 10},
		{"MEGABITS", 1 << 20},
		{"GIGABITS", 1 << 30},
		{"BYTES", 8},
		{"KILOBYTES", 8 << 10},
		{"MEGABYTES", 8 << 20},
		{"GIGABYTES", 8 << 30},
		{"TERABYTES", 8 << 40},
		{"PETABYTES", 8 << 50},
	}
)

type scale struct {
	name string
	size float64
}

// family is what a catalogue's unit converts within, and its own name there. Rates keep their time: megabytes a second
// become kilobytes a second.
func family(u catalog.Unit) (own string, all []scale) {
	switch u {
	case catalog.Milliseconds, catalog.Seconds:
		return string(u), times
	case catalog.Bytes, catalog.Kilobytes, catalog.Megabytes:
		return string(u), sizes
	case catalog.BytesPerSecond:
		return "BYTES", sizes
	case catalog.MBPerSecond:
		return "MEGABYTES", sizes
	case catalog.GBPerHour:
		return "GIGABYTES", sizes
	}
	return Raw, nil
}

// Names lists the units that a threshold on a measurement may have, its own first.
func Names(m catalog.Measurement) []string {
	own, all := family(m.Unit)
	names := []string{own}
	for _, s := range all {
		if s.name != own {
			names = append(names, s.name)
		}
	}
	if own != Raw {
		names = append(names, Raw)
	}
	return names
}

// Factor is what a value of a catalogue's unit is multiplied with to be in another unit that Names lists; "" is Raw.
func Factor(from catalog.Unit, to string) (float64, error) {
	own, all := family(from)
	if to == "" || to == Raw || to == own {
		return 1, nil
	}
	var a, b float64
	for _, s := range all {
		if s.name == own {
			a = s.size
		}
		if s.name == to {
			b = s.size
		}
	}
	if b == 0 {
		return 0, fmt.Errorf("a value in %s cannot be given in %s", from, to)
	}
	return a / b, nil
}

// Convert turns a value of a catalogue's unit into another unit.
func Convert(value float64, from catalog.Unit, to string) (float64, error) {
	f, err := Factor(from, to)
	if err != nil {
		return 0, err
	}
	return value * f, nil
}

// classic are names of older clients that the catalogue has no alias for. Those of one partition's role mean every
// partition here: which one holds data, indexes or the journal is not known.
var classic = map[string]string{
	"MUNIN_CPU_USER":    "SYSTEM_CPU_USER",
	"MUNIN_CPU_NICE":    "SYSTEM_CPU_NICE",
	"MUNIN_CPU_SYSTEM":  "SYSTEM_CPU_KERNEL",
	"MUNIN_CPU_IOWAIT":  "SYSTEM_CPU_IOWAIT",
	"MUNIN_CPU_IRQ":     "SYSTEM_CPU_IRQ",
	"MUNIN_CPU_SOFTIRQ": "SYSTEM_CPU_SOFTIRQ",
	"MUNIN_CPU_STEAL":   "SYSTEM_CPU_STEAL",

	"DISK_PARTITION_SPACE_USED_":    "DISK_PARTITION_SPACE_PERCENT_USED",
	"DISK_PARTITION_UTILIZATION_":   "DISK_PARTITION_UTILIZATION",
	"DISK_PARTITION_READ_IOPS_":     "DISK_PARTITION_IOPS_READ",
	"DISK_PARTITION_WRITE_IOPS_":    "DISK_PARTITION_IOPS_WRITE",
	"DISK_PARTITION_READ_LATENCY_":  "DISK_PARTITION_LATENCY_READ",
	"DISK_PARTITION_WRITE_LATENCY_": "DISK_PARTITION_LATENCY_WRITE",
}

// Find returns the measurement that a metric threshold names: by its name in the catalogue, one of its aliases, or the
// classic name.
func Find(name string) (catalog.Measurement, bool) {
	if m, ok := catalog.Find(name); ok {
		return m, true
	}
	base, isMax := strings.CutPrefix(name, "MAX_")
	if strings.HasSuffix(base, "_") {
		return catalog.Measurement{}, false // the beginning of names
	}
	for _, role := range []string{"DATA", "INDEX", "JOURNAL"} {
		if rest, ok := strings.CutSuffix(base, "_"+role); ok && classic[rest+"_"] != "" {
			base = rest + "_"
			break
		}
	}
	known, ok := classic[base]
	if !ok {
		return catalog.Measurement{}, false
	}
	if isMax {
		known = "MAX_" + known
	}
	return catalog.Find(known)
}
