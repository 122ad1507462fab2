package catalog

import (
	"fmt"
	"sync"

	"github.com/heartwood-db/heartwood/shared/catalog/column"
)

// Column is one raw value and where it is found.
type Column = column.Column

// ColumnID is a column's number in stored series.
type ColumnID = column.ID

// Scope says what a column or measurement is about.
type Scope = column.Scope

// Clock says which incarnation a counter belongs to.
type Clock = column.Clock

// The scopes and clocks of columns.
const (
	Process      = column.Process
	Database     = column.Database
	Disk         = column.Disk
	ProcessClock = column.ProcessStart
	MachineClock = column.Machine
)

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
		columns: column.All(), byID: map[ColumnID]*Column{}, byName: map[string]*Column{},
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
