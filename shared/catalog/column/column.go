// Package column lists the raw columns: which values are picked out of replies, where each is found by server version, and
// how it behaves. It is the part of the catalogue that stored series depend on.
package column

import "time"

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

// ID is a column's number in stored series. Numbers are never reused.
type ID uint16

// Clock says which incarnation a counter belongs to and which clock measures its intervals.
type Clock int

// The clocks.
const (
	ProcessStart Clock = iota // counts since process start; interval by ss.uptimeMillis
	Machine                   // counts since the machine's boot; interval by systemMetrics.start
)

// Column is one raw value and where it is found.
type Column struct {
	ID      ID
	Name    string
	Scope   Scope
	Counter bool  // only grows within an incarnation; else a gauge
	Clock   Clock // of a counter
	// Paths are tried newest first; "*" takes the name of a sub-document as the dimension. None: computed, see catalog.Extract.
	Paths []string
	// Group names counters that the server resets together: when one went back, none of them has a rate.
	Group string
	// Wrap32 marks a counter that is 32 bits wide on old kernels.
	Wrap32 bool
	// Sparse columns are not in every ping; their intervals may be this long.
	Sparse time.Duration
}
