// Package filter says which namespaces a backup holds, and cuts the rest out of oplog entries: also inside transactions
// and commands, and where a rename crosses the border. It is asked twice, by the agent and by the applier.
package filter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

// Kind says how the list is meant.
type Kind string

// The kinds.
const (
	None    Kind = ""        // everything
	Exclude Kind = "exclude" // everything but what is listed
	Include Kind = "include" // only what is listed
)

// rule is one line of the list.
type rule struct {
	db     string
	coll   string // "" for the whole database
	prefix bool   // coll is how the name begins
}

func (r rule) matches(db, coll string) bool {
	switch {
	case r.db != db:
		return false
	case r.prefix:
		return strings.HasPrefix(coll, r.coll)
	}
	return r.coll == "" || r.coll == coll
}

// covers reports whether r matches everything that s does.
func (r rule) covers(s rule) bool {
	if s.coll == "" || s.prefix {
		return r.db == s.db && (r.coll == "" && !r.prefix || r.prefix && strings.HasPrefix(s.coll, r.coll))
	}
	return r.matches(s.db, s.coll)
}

// overlaps reports whether a namespace matches both.
func (r rule) overlaps(s rule) bool {
	return r.covers(s) || s.covers(r)
}

// Filter is a list of namespaces. The zero Filter and a nil one want everything that can be wanted.
type Filter struct {
	kind  Kind
	rules []rule
}

// New reads a list: "db" is a whole database, "db.coll" a collection, "db.name*" every collection whose name begins so.
// All faults are in the error.
func New(kind Kind, namespaces []string) (*Filter, error) {
	if kind != None && kind != Exclude && kind != Include {
		return nil, fmt.Errorf("filter of kind %q: want exclude or include", kind)
	}
	if kind == None && len(namespaces) > 0 {
		return nil, fmt.Errorf("namespaces are listed and the filter does not say whether to include or to exclude them")
	}
	if kind == Include && len(namespaces) == 0 {
		return nil, fmt.Errorf("an include list without namespaces would hold nothing")
	}
	f := &Filter{kind: kind}
	var faults []string
	for _, ns := range namespaces {
		db, coll := oplog.Split(ns)
		r := rule{db: db, coll: coll}
		if name, ok := strings.CutSuffix(coll, "*"); ok {
			r.coll, r.prefix = name, true
		}
		switch {
		case db == "" || strings.ContainsAny(db, "/\\ \"$*\x00") || strings.HasSuffix(ns, ".") || strings.ContainsAny(r.coll, "*\x00"):
			faults = append(faults, fmt.Sprintf("%q is no namespace", ns))
		case db == "admin" || db == "local" || db == "config" || strings.HasPrefix(r.coll, "system."):
			faults = append(faults, fmt.Sprintf("%q cannot be listed: admin, config, local and system collections follow their own rules", ns))
		}
		f.rules = append(f.rules, r)
	}
	if faults != nil {
		return nil, fmt.Errorf("namespace filter: %s", strings.Join(faults, "; "))
	}
	return f, nil
}

// Wants reports whether a collection, or a view, is held.
func (f *Filter) Wants(ns string) bool {
	if Internal(ns) {
		return false
	}
	db, coll := oplog.Split(ns)
	if f == nil || f.kind == None || db == "admin" || db == "config" {
		return true
	}
	if inner, ok := strings.CutPrefix(coll, "system.buckets."); ok {
		coll = inner // of a time-series collection
	}
	if strings.HasPrefix(coll, "system.") || temporary(coll) || coll == "" {
		return f.WantsDatabase(db)
	}
	match := slices.ContainsFunc(f.rules, func(r rule) bool { return r.matches(db, coll) })
	return match == (f.kind == Include)
}

// WantsDatabase reports whether anything of a database may be held.
func (f *Filter) WantsDatabase(db string) bool {
	if db == "local" || strings.HasPrefix(db, "__mdb_internal") {
		return false
	}
	if f == nil || f.kind == None || db == "admin" || db == "config" {
		return true
	}
	for _, r := range f.rules {
		if r.db == db && (f.kind == Include || r.coll == "" && !r.prefix || r.prefix && r.coll == "") {
			return f.kind == Include
		}
	}
	return f.kind == Exclude
}

// temporary collections become ordinary ones by a rename ($out, convertToCapped, a rename across databases): they follow
// their database, or each such rename would need a new read.
func temporary(coll string) bool {
	if strings.HasPrefix(coll, "tmp.agg_out.") || strings.HasPrefix(coll, "system.resharding.") {
		return true
	}
	if !strings.HasPrefix(coll, "tmp") {
		return false
	}
	_, rest, _ := strings.Cut(coll, ".")
	return strings.HasPrefix(rest, "convertToCapped.") || rest == "renameCollection" || rest == "create" || strings.HasPrefix(rest, "renameCollection.")
}

// internal are collections of config that a server derives or that concern only one process.
var internal = []string{
	"system.sessions", "transactions", "image_collection", "system.preimages", "system.indexBuilds", "rangeDeletions", "migrationCoordinators",
	"reshardingOperations", "system.sharding_ddl_coordinators", "vectorClock", "changelog", "actionlog", "lockpings", "locks", "mongos", "analyzeShardKeySplitPoints",
}

// Internal reports whether a namespace is never held, whatever the list says: it is derived, or not replicated.
func Internal(ns string) bool {
	db, coll := oplog.Split(ns)
	switch {
	case db == "local" || strings.HasPrefix(db, "__mdb_internal"):
		return true
	case db == "admin":
		return coll == "mms.backup" || strings.HasPrefix(coll, "pbm")
	case db != "config":
		return false
	}
	return slices.Contains(internal, coll) || strings.HasPrefix(coll, "cache.") || strings.HasPrefix(coll, "localReshardingOperations.") || strings.HasPrefix(coll, "sampledQueries")
}

// Wider reports whether f may want something that old did not: then the collections concerned were never read, and the job
// must be read anew. It errs on the side of true.
func (f *Filter) Wider(old *Filter) bool {
	if old == nil || old.kind == None {
		return false
	}
	if f == nil || f.kind == None {
		return true
	}
	covered := func(r rule, by []rule) bool {
		return slices.ContainsFunc(by, func(b rule) bool { return b.covers(r) })
	}
	switch {
	case f.kind == Exclude && old.kind == Exclude:
		return slices.ContainsFunc(old.rules, func(r rule) bool { return !covered(r, f.rules) })
	case f.kind == Include && old.kind == Include:
		return slices.ContainsFunc(f.rules, func(r rule) bool { return !covered(r, old.rules) })
	case f.kind == Include:
		return slices.ContainsFunc(f.rules, func(r rule) bool { return slices.ContainsFunc(old.rules, r.overlaps) })
	}
	return true
}
