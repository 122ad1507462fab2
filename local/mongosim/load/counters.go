package load

import "time"

// Role is what a process does; it decides which rates apply.
type Role uint8

// The roles of simulated processes.
const (
	Idle Role = iota // up but serving nobody: starting, recovering
	Primary
	Secondary
	Arbiter
	Standalone
	numRoles
)

// Counter is one number that only grows while a process lives.
type Counter uint8

// The counters. Those of the machine (CPU, disk, network) grow through restarts of the process.
const (
	Insert Counter = iota
	Query
	Update
	Delete
	GetMore
	Command
	ReplInsert
	ReplUpdate
	ReplDelete
	ReplCommand
	BytesIn
	BytesOut
	Requests
	DocsReturned
	DocsInserted
	DocsUpdated
	DocsDeleted
	KeysScanned
	ObjectsScanned
	ScanAndOrder
	CollectionScans
	WriteConflicts
	TTLDeleted
	AssertsRegular
	AssertsWarning
	AssertsUser
	ConnectionsCreated
	CursorsOpened
	CursorsTimedOut
	ReadOps
	ReadMicros
	WriteOps
	WriteMicros
	CommandOps
	CommandMicros
	TxnOps
	TxnMicros
	TxnsStarted
	TxnsAborted
	CacheReadBytes
	CacheWrittenBytes
	PageFaults
	OplogBytes
	OplogEntries
	ReplApplyOps
	ReplApplyBatches
	ReplNetworkBytes
	UserMicros
	SystemMicros
	CPUUserMS
	CPUNiceMS
	CPUSystemMS
	CPUIOWaitMS
	CPUSoftIRQMS
	CPUStealMS
	DiskReads
	DiskReadSectors
	DiskReadMS
	DiskWrites
	DiskWriteSectors
	DiskWriteMS
	DiskIOMS
	DiskQueuedMS
	NetInOctets
	NetOutOctets
	MajorFaults
	MinorFaults
	ContextSwitches
	NumCounters
)

// rates are per second of mean activity.
type rates [NumCounters]float64

// Counts is the value of every counter.
type Counts [NumCounters]float64

// machine are the rates of the machine under a data-bearing member: about a third of eight cores, a disk at a fifth.
var machine = rates{
	CPUUserMS: 950, CPUNiceMS: 4, CPUSystemMS: 230, CPUIOWaitMS: 60, CPUSoftIRQMS: 25, CPUStealMS: 3,
	DiskReads: 55, DiskReadSectors: 1900, DiskReadMS: 42, DiskWrites: 130, DiskWriteSectors: 5200, DiskWriteMS: 165,
	DiskIOMS: 110, DiskQueuedMS: 190, NetInOctets: 900e3, NetOutOctets: 2.6e6, MajorFaults: 0.4, MinorFaults: 900,
	ContextSwitches: 9000,
}

// role returns the rates of a role. A secondary's replicated operations are its primary's, so that an election shows as
// one family of lines falling where the other rises.
func role(r Role) rates {
	switch r {
	case Primary, Standalone:
		v := machine
		for c, x := range map[Counter]float64{
			Insert: 120, Query: 380, Update: 95, Delete: 14, GetMore: 55, Command: 310,
			BytesIn: 310e3, BytesOut: 1.9e6, Requests: 980,
			DocsReturned: 2600, DocsInserted: 120, DocsUpdated: 101, DocsDeleted: 22,
			KeysScanned: 3900, ObjectsScanned: 4700, ScanAndOrder: 3.1, CollectionScans: 0.7, WriteConflicts: 0.25, TTLDeleted: 4,
			AssertsRegular: 0.002, AssertsWarning: 0.001, AssertsUser: 0.6, ConnectionsCreated: 0.35,
			CursorsOpened: 21, CursorsTimedOut: 0.004,
			ReadOps: 430, ReadMicros: 430 * 480, WriteOps: 229, WriteMicros: 229 * 690, CommandOps: 300, CommandMicros: 300 * 210,
			TxnOps: 6, TxnMicros: 6 * 2600, TxnsStarted: 2, TxnsAborted: 0.03,
			CacheReadBytes: 850e3, CacheWrittenBytes: 1.7e6, PageFaults: 0.3,
			OplogBytes: 92e3, OplogEntries: 240, UserMicros: 810e3, SystemMicros: 140e3,
		} {
			v[c] = x
		}
		if r == Standalone {
			v[GetMore], v[OplogBytes], v[OplogEntries] = 8, 0, 0
		}
		return v
	case Secondary:
		v := machine
		for c, x := range map[Counter]float64{
			Query: 70, GetMore: 6, Command: 150,
			ReplInsert: 120, ReplUpdate: 95, ReplDelete: 14, ReplCommand: 0.02,
			BytesIn: 45e3, BytesOut: 420e3, Requests: 240,
			DocsReturned: 510, KeysScanned: 700, ObjectsScanned: 790, ScanAndOrder: 0.6, CollectionScans: 0.1,
			AssertsUser: 0.1, ConnectionsCreated: 0.12, CursorsOpened: 4, CursorsTimedOut: 0.001,
			ReadOps: 78, ReadMicros: 78 * 420, CommandOps: 148, CommandMicros: 148 * 160,
			CacheReadBytes: 500e3, CacheWrittenBytes: 1.5e6, PageFaults: 0.2,
			OplogBytes: 92e3, OplogEntries: 240, ReplApplyOps: 240, ReplApplyBatches: 38, ReplNetworkBytes: 92e3,
			UserMicros: 330e3, SystemMicros: 75e3,
			CPUUserMS: 430, CPUSystemMS: 130, DiskReads: 30, DiskReadSectors: 1000, DiskReadMS: 24,
			NetInOctets: 600e3, NetOutOctets: 700e3,
		} {
			v[c] = x
		}
		return v
	case Arbiter:
		return rates{
			Command: 4, BytesIn: 1500, BytesOut: 9000, Requests: 4, CommandOps: 4, CommandMicros: 4 * 90, ConnectionsCreated: 0.01,
			UserMicros: 9000, SystemMicros: 4000, CPUUserMS: 30, CPUSystemMS: 14, CPUIOWaitMS: 1, DiskWrites: 2, DiskWriteSectors: 40,
			DiskWriteMS: 2, DiskIOMS: 2, DiskQueuedMS: 3, NetInOctets: 6000, NetOutOctets: 12000, MinorFaults: 20, ContextSwitches: 600,
		}
	default:
		return rates{Command: 1, Requests: 1, BytesIn: 300, BytesOut: 1200, UserMicros: 6000, SystemMicros: 3000, CPUUserMS: 20, CPUSystemMS: 10}
	}
}

// Share is how much of the load's generic counters a role sees.
func (r Role) Share() float64 {
	switch r {
	case Primary, Standalone:
		return 1
	case Secondary:
		return 0.7
	default:
		return 0.03
	}
}

// Table holds the rates of all roles, so that they are built once for a deployment and not for a reply.
type Table [numRoles]rates

// NewTable builds the rates.
func NewTable() *Table {
	var t Table
	for r := range t {
		t[r] = role(Role(r))
	}
	return &t
}

// slows says that a counter sums up waiting: under a burst each operation takes longer, so that it grows faster than the
// operations do.
func slows(c Counter) bool {
	switch c {
	case ReadMicros, WriteMicros, CommandMicros, DiskReadMS, DiskWriteMS, DiskQueuedMS:
		return true
	default:
		return false
	}
}

// Add adds to c what a process under m counts in role r from one moment to another. Adding adjoining spans gives the same
// as adding their union: that is what lets a caller sum closed spans once and the open one on each reply.
func (t *Table) Add(c *Counts, m Model, r Role, from, to time.Time) {
	a, b := seconds(from), seconds(to)
	if b <= a || m.Scale == 0 {
		return
	}
	common := m.integral(b, 0) - m.integral(a, 0)
	burst := m.bursts(b) - m.bursts(a)
	for i := range c {
		rate := t[r][i] * m.Scale
		if rate == 0 {
			continue
		}
		own := m.integral(b, uint64(i)+1) - m.integral(a, uint64(i)+1)
		c[i] += rate * (0.6*common + 0.4*own)
		if slows(Counter(i)) {
			c[i] += rate * burst
		}
	}
}
