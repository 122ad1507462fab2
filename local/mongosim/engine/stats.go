package engine

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Counters count real operations; a deployment's serverStatus reports them. All fields may be read at any time.
type Counters struct {
	Insert, Query, Update, Delete, GetMore, Command               atomic.Int64 // opcounters
	DocsInserted, DocsReturned, DocsUpdated, DocsDeleted          atomic.Int64 // metrics.document
	ScannedKeys, ScannedDocs, CollectionScans                     atomic.Int64 // metrics.queryExecutor
	ScanAndOrder, WriteConflicts                                  atomic.Int64 // metrics.operation
	CursorsOpened, CursorsTimedOut                                atomic.Int64 // metrics.cursor
	CursorsOpen                                                   atomic.Int64
	TxnStarted, TxnCommitted, TxnAborted, TxnOpen                 atomic.Int64 // transactions
	RetriedCommands, RetriedStatements                            atomic.Int64
	ReadOps, ReadMicros, WriteOps, WriteMicros, CmdOps, CmdMicros atomic.Int64 // opLatencies
	ReplInsert, ReplUpdate, ReplDelete, ReplCommand               atomic.Int64 // opcountersRepl
	GetLastErrorWaits, GetLastErrorMillis, GetLastErrorTimeouts   atomic.Int64 // metrics.getLastError
	JournalBytes, JournalCommits, Assertions                      atomic.Int64

	mu       sync.Mutex
	commands map[string]CommandCount
}

// CommandCount is one line of metrics.commands.
type CommandCount struct{ Total, Failed int64 }

func (c *Counters) command(name string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.commands == nil {
		c.commands = map[string]CommandCount{}
	}
	n := c.commands[name]
	n.Total++
	if !ok {
		n.Failed++
	}
	c.commands[name] = n
}

// Commands is a copy of the counts by command.
func (c *Counters) Commands() map[string]CommandCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.commands)
}

func (c *Counters) latency(k Kind, d time.Duration) {
	us := d.Microseconds()
	switch k {
	case KindRead:
		c.ReadOps.Add(1)
		c.ReadMicros.Add(us)
	case KindWrite:
		c.WriteOps.Add(1)
		c.WriteMicros.Add(us)
	case KindOther:
		c.CmdOps.Add(1)
		c.CmdMicros.Add(us)
	}
}
