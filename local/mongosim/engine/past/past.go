// Package past keeps what takes back the changes that a majority of a set's members does not have yet: a read with majority concern
// sees the documents without them. It owns those steps; its caller holds the member's lock.
package past

import (
	"slices"
	"sort"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/oplog"
	"github.com/heartwood-db/heartwood/local/mongosim/engine/store"
)

// keep is how many steps are kept without asking whether they are still needed.
const keep = 64

// Log is the changes of late. The zero value is empty.
type Log struct {
	steps []step // in the order of the changes
	view  *store.State
	of    [2]oplog.OpTime // the commit point and the newest entry the view was made at
}

// step takes one change back; at is the entry that logged it, zero until there is one.
type step struct {
	at   oplog.OpTime
	undo func(*store.State)
}

// Record is a state's hook.
func (l *Log) Record(undo func(*store.State)) { l.steps = append(l.steps, step{undo: undo}) }

// Stamp says which entry logged the changes made since the last one, and forgets those that a majority has.
func (l *Log) Stamp(at oplog.OpTime, committed func() oplog.OpTime) {
	for i := len(l.steps) - 1; i >= 0 && l.steps[i].at.IsZero(); i-- {
		l.steps[i].at = at
	}
	if len(l.steps) < keep {
		return
	}
	com := committed()
	n := sort.Search(len(l.steps), func(i int) bool { return com.Before(l.steps[i].at) })
	if n >= len(l.steps)/2 { // what is kept is copied seldom
		l.steps = slices.Clone(l.steps[n:])
	}
}

// After says that there are changes newer than a commit point.
func (l *Log) After(com oplog.OpTime) bool {
	return len(l.steps) > 0 && com.Before(l.steps[len(l.steps)-1].at)
}

// View is the state as of the commit point. Nobody may change it.
func (l *Log) View(st *store.State, com, last oplog.OpTime) *store.State {
	if l.view != nil && l.of == [2]oplog.OpTime{com, last} {
		return l.view
	}
	v := st.Clone()
	for i := len(l.steps) - 1; i >= 0 && com.Before(l.steps[i].at); i-- {
		l.steps[i].undo(v)
	}
	l.view, l.of = v, [2]oplog.OpTime{com, last}
	return v
}
