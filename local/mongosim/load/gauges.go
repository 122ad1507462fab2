package load

import (
	"math"
	"time"
)

// The simulated machine and process: sizes that gauges are shares of.
const (
	Cores          = 8
	MemTotalKB     = 32 << 20
	CacheMaxBytes  = 12 << 30
	MaxConnections = 51200
	Tickets        = 128
	DiskBytes      = 500 << 30
	LogBytes       = 50 << 30
	baseDataBytes  = 140 << 30
)

// Gauges are the numbers of a moment.
type Gauges struct {
	Connections       int64
	ConnectionsActive int64
	Cursors           int64
	CursorsPinned     int64
	QueuedReaders     int64
	QueuedWriters     int64
	ActiveReaders     int64
	ActiveWriters     int64
	TicketsReadOut    int64
	TicketsWriteOut   int64
	CacheUsed         int64
	CacheDirty        int64
	ResidentMB        int64
	VirtualMB         int64
	MemFreeKB         int64
	CachedKB          int64
	BuffersKB         int64
	DirtyKB           int64
	DiskInProgress    int64
	DiskFree          int64
	LogFree           int64
	ProcsRunning      int64
	CheckpointMS      int64
	TxnsOpen          int64
	DataBytes         int64 // what all user databases hold
}

// At gives the gauges at t of a process started at start that wrote oplogBytes since (its counter), consistent with the
// counters: what is in use follows the same activity that makes them grow.
func (m Model) At(r Role, t, start time.Time, oplogBytes float64) Gauges {
	act, slow := m.Activity(t)*m.Scale, m.Smooth(t)*m.Scale
	warm := 1 - math.Exp(-t.Sub(start).Seconds()/900) // a cache fills in some quarters of an hour
	x := seconds(t)
	jit := func(n uint64, every float64) float64 { return m.hash(n, uint64(x/every)) }
	g := Gauges{
		Connections: 6, ConnectionsActive: 2, ResidentMB: 95, VirtualMB: 1500,
		MemFreeKB: MemTotalKB * 8 / 10, CachedKB: MemTotalKB / 20, BuffersKB: 180 << 10, DirtyKB: 900 + int64(4000*jit(20, 10)),
		DiskFree: DiskBytes - 6<<30, LogFree: LogBytes - 4<<30, ProcsRunning: 1, CheckpointMS: 8,
	}
	if r == Arbiter || r == Idle {
		g.Connections += int64(4 * jit(21, 60))
		return g
	}
	g.DataBytes = baseDataBytes + int64(oplogBytes*0.35)
	g.Connections = 14 + int64(70*slow+18*act+6*jit(1, 30))
	g.ConnectionsActive = 3 + int64(6*act+3*jit(2, 7))
	g.Cursors = 4 + int64(9*slow+6*jit(3, 15))
	g.CursorsPinned = 1 + int64(2*jit(4, 9))
	g.ActiveReaders = int64(2.2*act*jit(5, 3) + 0.4)
	g.ActiveWriters = int64(1.6*act*jit(6, 3) + 0.2)
	if act > 2.2 { // bursts queue
		g.QueuedReaders = int64((act - 2.2) * 9 * jit(7, 5))
		g.QueuedWriters = int64((act - 2.2) * 6 * jit(8, 5))
	}
	g.TicketsReadOut = min(Tickets, int64(3.4*act*jit(9, 3)+0.6))
	g.TicketsWriteOut = min(Tickets, int64(2.1*act*jit(10, 3)+0.3))
	g.CacheUsed = int64(CacheMaxBytes * (0.12 + warm*(0.60+0.05*(slow-1)+0.02*jit(11, 60))))
	g.CacheDirty = int64(CacheMaxBytes * (0.008 + 0.013*act + 0.01*checkpointPhase(x)))
	g.ResidentMB = g.CacheUsed>>20*108/100 + 420
	g.VirtualMB = g.ResidentMB + 2300
	g.CachedKB = MemTotalKB*30/100 + int64(300e3*slow)
	g.MemFreeKB = max(MemTotalKB/50, MemTotalKB-g.ResidentMB<<10-g.CachedKB-g.BuffersKB-2500<<10)
	g.DiskInProgress = int64(1.4 * act * jit(12, 2))
	g.DiskFree = max(DiskBytes/50, DiskBytes-12<<30-g.DataBytes*6/10)
	g.LogFree = LogBytes - 6<<30 - int64(math.Mod(x, day)/day*(4<<30)) // rotated and compressed every night
	g.ProcsRunning = 1 + int64(3*act*jit(13, 2))
	g.CheckpointMS = 240 + int64(420*slow*(0.7+0.6*jit(14, 60)))
	g.TxnsOpen = int64(2 * act * jit(15, 4))
	if r == Secondary {
		g.Connections = g.Connections*6/10 + 4
		g.ConnectionsActive = g.ConnectionsActive/2 + 1
		g.Cursors = g.Cursors/3 + 1
		g.QueuedReaders, g.QueuedWriters, g.TxnsOpen = g.QueuedReaders/4, 0, 0
		g.TicketsWriteOut = g.TicketsWriteOut/2 + 1
	}
	return g
}

// checkpointPhase is the share of the minute since the last checkpoint: dirty data gathers until the next.
func checkpointPhase(x float64) float64 { return math.Mod(x, 60) / 60 }
