package catalog

import (
	"fmt"
	"sync"
	"time"
)

// Scope says what a column or measurement is about.
type Scope int

// The scopes.
const (
	Process Scope = iota
	Database
	Disk
)

// String is the scope's name.
func (s Scope) String() string {
	switch s {
	case Database:
		return "database"
	case Disk:
		return "disk"
	default:
		return "process"
	}
}

// ColumnID is a column's number in stored series. Numbers are never reused.
type ColumnID uint16

// Clock says which incarnation a counter belongs to and which clock measures its intervals.
type Clock int

// The clocks.
const (
	ProcessClock Clock = iota // counts since process start; interval by ss.uptimeMillis
	MachineClock              // counts since the machine's boot; interval by systemMetrics.start
)

// Column is one raw value and where it is found.
type Column struct {
	ID      ColumnID
	Name    string
	Scope   Scope
	Counter bool  // only grows within an incarnation; else a gauge
	Clock   Clock // of a counter
	// Paths are tried newest first; "*" takes the name of a sub-document as the dimension. None: computed, see Extract.
	Paths []string
	// Group names counters that the server resets together: when one went back, none of them has a rate.
	Group string
	// Wrap32 marks a counter that is 32 bits wide on old kernels.
	Wrap32 bool
	// Sparse columns are not in every ping; their intervals may be this long.
	Sparse time.Duration
}

// tables are the catalogue with every reference resolved.
type tables struct {
	columns      []Column
	byID         map[ColumnID]*Column
	byName       map[string]*Column
	groups       map[string][]ColumnID
	measurements []Measurement
	byMeasure    map[string]*Measurement
	byNumber     map[uint16]*Measurement
	charts       []Chart
	paths        *node
	dbPaths      *node
	slots        map[ColumnID]int // place of a process-scope column in an extraction
}

// catalogue resolves the tables once. They never change, so sharing them is no state.
var catalogue = sync.OnceValue(func() *tables {
	t := &tables{
		columns: columnRows(), byID: map[ColumnID]*Column{}, byName: map[string]*Column{},
		groups: map[string][]ColumnID{}, slots: map[ColumnID]int{},
	}
	for i := range t.columns {
		c := &t.columns[i]
		if t.byID[c.ID] != nil || t.byName[c.Name] != nil {
			panic(fmt.Sprintf("catalog: column %d %s is declared twice", c.ID, c.Name))
		}
		t.byID[c.ID], t.byName[c.Name], t.slots[c.ID] = c, c, i
		if c.Group != "" {
			t.groups[c.Group] = append(t.groups[c.Group], c.ID)
		}
	}
	t.resolveMeasurements()
	t.resolveCharts()
	t.buildPaths()
	return t
})

// Columns lists all columns by number. The slice is the caller's; what its rows point at is not.
func Columns() []Column { return append([]Column(nil), catalogue().columns...) }

// ColumnByName finds a column by its name.
func ColumnByName(name string) (Column, bool) {
	if c := catalogue().byName[name]; c != nil {
		return *c, true
	}
	return Column{}, false
}

// ColumnByID finds a column by its number. Numbers written by a newer build are not found.
func ColumnByID(id ColumnID) (Column, bool) {
	if c := catalogue().byID[id]; c != nil {
		return *c, true
	}
	return Column{}, false
}

// Group lists the columns that are reset together.
func Group(name string) []ColumnID { return catalogue().groups[name] }
