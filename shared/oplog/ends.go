package oplog

import (
	"strings"
)

// Ends says why the range of restorable points ends at an operation although it can be applied, or "": the next snapshot begins a new range.
func (o *Op) Ends() string {
	switch {
	case o.Resharding:
		return "a collection is being resharded"
	case o.NS == "admin.system.version" && (o.Kind == Insert || o.Kind == Update || o.Kind == Delete):
		if id, ok := o.ID.StringValueOK(); ok && id == "featureCompatibilityVersion" {
			return "the feature compatibility version changed"
		}
	case o.Kind == Command && o.Command.Name == Create:
		if _, coll := Split(o.Command.Target); strings.HasPrefix(coll, "system.resharding.") {
			return "a collection is being resharded"
		}
	}
	return ""
}

// Note is the message of a no-op ("periodic noop", "new primary", what appendOplogNote wrote), "" if it has none.
func (e *Entry) Note() string {
	if e.Kind != Noop || e.O == nil {
		return ""
	}
	v, _ := Lookup(e.O, "msg")
	s, _ := v.StringValueOK()
	return s
}

// Transaction reports whether an entry belongs to a transaction: its operations count from the commit on.
func (e *Entry) Transaction() bool {
	if e.Kind != Command {
		return false
	}
	switch e.Command.Name {
	case CommitTransaction, AbortTransaction:
		return true
	case ApplyOps:
		return (e.Session != nil && !e.MultiOp) || e.Command.Partial || e.Command.Prepare || (!e.Prev.IsZero() && e.Session == nil)
	}
	return false
}
