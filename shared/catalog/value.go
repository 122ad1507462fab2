package catalog

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog/raw"
)

// Value is one raw number. Integers stay integers, so that counters beyond 2^53 can be subtracted without loss.
type Value = raw.Value

// Int is an integer value.
func Int(v int64) Value { return raw.Int(v) }

// Float is a floating point value. A whole number becomes an integer: servers report the same counter as either.
func Float(v float64) Value { return raw.Float(v) }

// Cell is the value of one column in one row. Dim names the database, disk or mount point of columns that have one.
type Cell struct {
	Column string
	Dim    string
	Value  Value
}

// Row is what one ping adds to a host's series: one time, the identity of the process that answered, and the raw values.
type Row struct {
	At       time.Time // the agent's clock; with the host it identifies the row
	UptimeMS int64     // ss.uptimeMillis: the clock that intervals are measured with
	Process  string    // id made at process start (topologyVersion.processId, _isSelf); empty when the server has none
	PID      int64     // ss.pid
	Local    time.Time // ss.localTime, zero when not known
	Cells    []Cell    // ordered by column number, then dimension; a column and dimension at most once
}

// Get returns the value of a column.
func (r *Row) Get(column, dim string) (Value, bool) {
	for i := range r.Cells {
		if c := &r.Cells[i]; c.Column == column && c.Dim == dim {
			return c.Value, true
		}
	}
	return Value{}, false
}
