package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
	"github.com/heartwood-db/heartwood/shared/rule/match"
	"github.com/heartwood-db/heartwood/shared/rule/release"
	"github.com/heartwood-db/heartwood/shared/rule/unit"
)

// era is from which to before which version servers have a measurement, and with which storage engine alone. Zero values: no
// limit. The versions are those of the catalogue's sources (metrics.md 2.1 to 2.6).
type era struct {
	from, before [3]int
	engine       string
}

var (
	mmap = era{before: [3]int{4, 2}, engine: "mmapv1"}

	// eras are of measurements by name, or by the beginning of their names, which then ends with an underscore.
	eras = map[string]era{
		"BACKGROUND_FLUSH_AVG": mmap, "JOURNALING_": mmap, "MEMORY_MAPPED": mmap,
		"INDEX_COUNTERS_":                     {before: [3]int{3, 0}, engine: "mmapv1"},
		"GLOBAL_ACCESSES_NOT_IN_MEMORY":       {before: [3]int{3, 0}, engine: "mmapv1"},
		"GLOBAL_PAGE_FAULT_EXCEPTIONS_THROWN": mmap,
		"DATABASE_WRITE_LOCK_PERCENTAGE":      {from: [3]int{2, 2}, before: [3]int{3, 0}},
		"DATABASE_EXTENT_COUNT":               {before: [3]int{4, 4}},
		"DATABASE_FILE_SIZE":                  mmap,
		"CACHE_":                              {from: [3]int{3, 0}, engine: "wiredTiger"},
		"DIRTY_FILL_RATIO":                    {from: [3]int{3, 0}, engine: "wiredTiger"},
		"TICKETS_":                            {from: [3]int{3, 0}, engine: "wiredTiger"},
		"CHECKPOINT_MS":                       {from: [3]int{3, 0}, engine: "wiredTiger"},
		"OP_EXECUTION_TIME_":                  {from: [3]int{3, 4}},
		"TRANSACTIONS_":                       {from: [3]int{4, 0}},
		"FLOW_CONTROL_":                       {from: [3]int{4, 2}},
	}
)

func eraOf(name string) (era, bool) {
	if e, ok := eras[name]; ok {
		return e, true
	}
	for at := strings.LastIndexByte(name, '_'); at > 0; at = strings.LastIndexByte(name[:at], '_') {
		if e, ok := eras[name[:at+1]]; ok {
			return e, true
		}
	}
	return era{}, false
}

// lacks says why a host has not the measurement, or "".
func (e *era) lacks(h *model.Host) string {
	have, ok := release.Numbers(h.Version)
	switch {
	case ok && (release.Less(have, e.from) || e.before != [3]int{} && !release.Less(have, e.before)):
		parts := strings.SplitN(h.Version, ".", 3)
		return "run " + parts[0] + "." + parts[1]
	case e.engine != "" && h.StorageEngine != "" && !strings.EqualFold(h.StorageEngine, e.engine):
		return "have the storage engine " + h.StorageEngine
	}
	return ""
}

// Warnings says what is odd about a valid configuration, in sentences: that no host matches, that hosts lack the metric.
// hosts are those of the group.
func Warnings(c *model.AlertConfig, hosts []model.Host) []string {
	var out []string
	t, ok := kind.TypeOf(c.EventType)
	if ok && !t.Raised {
		out = append(out, fmt.Sprintf("Nothing in this build raises %s: this configuration stays silent.", t.Name))
	}
	if c.GroupID == "" && !t.Global && !c.ForAllGroups && len(c.GroupIDs) == 0 && len(c.Tags) == 0 {
		out = append(out, "It applies to no group: choose all groups, some of them, or tags.")
	}
	if !ok || t.Category != kind.Host || t.Inform {
		return out
	}
	set, err := match.Compile(c.Matchers)
	if err != nil {
		return out
	}
	var matched []*model.Host
	byCluster := false
	for _, m := range c.Matchers {
		byCluster = byCluster || m.Field == kind.ClusterName // names of clusters are not known here
	}
	for i := range hosts {
		h := &hosts[i]
		if h.Visible() && h.Enabled && (byCluster || set.Holds(&match.Subject{Host: h, Address: h.Address(), ReplicaSet: h.ReplicaSet, ShardName: h.ShardName})) {
			matched = append(matched, h)
		}
	}
	switch {
	case len(matched) == 0 && len(hosts) > 0:
		return append(out, "No host matches now.")
	case len(matched) == 0:
		return out
	}
	off := 0
	for _, h := range matched {
		if !h.AlertsEnabled {
			off++
		}
	}
	if off > 0 {
		out = append(out, fmt.Sprintf("Alerts are switched off for %s it matches.", of(off, len(matched))))
	}
	return append(out, lacking(c, matched)...)
}

// lacking tells of hosts that do not have the configuration's measurement.
func lacking(c *model.AlertConfig, hosts []*model.Host) []string {
	if c.Metric == nil {
		return nil
	}
	m, ok := unit.Find(c.Metric.Metric)
	if !ok {
		return nil
	}
	e, limited := eraOf(m.Base)
	var order []string
	count := map[string]int{}
	note := func(why string) {
		if count[why] == 0 {
			order = append(order, why)
		}
		count[why]++
	}
	// That primaries have no lag is the measurement's nature, and who is primary changes: only where no host has it does it matter.
	anywhere := slices.ContainsFunc(hosts, func(h *model.Host) bool { return m.AppliesTo(h.Type) })
	for _, h := range hosts {
		if !m.AppliesTo(h.Type) {
			if anywhere {
				continue
			}
			note("are of type " + match.TypeNameOf(h.Type))
		} else if limited {
			if why := e.lacks(h); why != "" {
				note(why)
			}
		}
	}
	out := make([]string, 0, len(order))
	for _, why := range order {
		text := fmt.Sprintf("%s it matches %s and have no %s.", upper(of(count[why], len(hosts))), why, c.Metric.Metric)
		if len(hosts) == 1 {
			text = strings.NewReplacer(" run ", " runs ", " have ", " has ", " are ", " is ").Replace(text)
		}
		out = append(out, text)
	}
	return out
}

func of(n, all int) string {
	switch {
	case all == 1:
		return "the one host"
	case n == all:
		return fmt.Sprintf("all %d hosts", all)
	}
	return fmt.Sprintf("%d of %d hosts", n, all)
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
