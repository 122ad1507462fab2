// Package stats counts what a simulated member really did, for its serverStatus.
package stats

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

// Ran counts one command.
func (c *Counters) Ran(name string, ok bool) {
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

// Latency adds one operation's time to the reads, the writes or the rest.
func (c *Counters) Latency(read, write bool, d time.Duration) {
	ops, micros := &c.CmdOps, &c.CmdMicros
	switch {
	case read:
		ops, micros = &c.ReadOps, &c.ReadMicros
	case write:
		ops, micros = &c.WriteOps, &c.WriteMicros
	}
	ops.Add(1)
	micros.Add(d.Microseconds())
}
