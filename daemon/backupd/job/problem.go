package job

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/seed"
	"github.com/heartwood-db/heartwood/daemon/backupd/stored"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Codes of problems. They are stable: alerts and the API name them.
const (
	CodeSpace       = "HEAD_SPACE"       // no room for the head
	CodeRelease     = "NO_RELEASE"       // no mongod of the version
	CodeStore       = "STORE"            // the blockstore cannot be used
	CodeHead        = "HEAD"             // the head does not start or answer
	CodeDirty       = "HEAD_KILLED"      // the head did not stop cleanly
	CodeCorrupt     = "CORRUPT"          // the oplog contradicts the head
	CodeUnknown     = "UNKNOWN_ENTRY"    // an entry this version of Heartwood does not know
	CodeBarrier     = "BARRIER"          // an entry that no replay can carry out
	CodeLost        = "HISTORY_LOST"     // neither head nor snapshot to go on from
	CodeDamaged     = "DAMAGED_SLICE"    // a stored slice is not what was sent
	CodeMissing     = "MISSING_SLICE"    // a stored slice is gone
	CodeUnavailable = "STORE_AWAY"       // a storage does not answer
	CodeInternal    = "UNEXPECTED_ERROR" // anything else
	CodeBind        = "BIND"             // no daemon takes the job
)

const resyncRemedy = "A new full read was asked for and begins by itself; what was restorable before stays so until it expires. " +
	"Nothing needs to be done while the backup agent runs."

// rebuilds is how often a head is made again from the last snapshot before the history itself is given up.
const rebuilds = 2

// unknownAgain is when an entry that this version does not know is tried again: an update of Heartwood restarts the daemon anyway.
const unknownAgain = time.Hour

// Judgement is what follows from an error.
type Judgement struct {
	Problem backup.Problem
	// Dirty: the head is not to be trusted any more; it is made again.
	Dirty bool
	// Break: the history ends here, at what is applied.
	Break bool
}

// Judge says what follows from the error of a step: what people see, when it is tried again, and what is done about the head and
// the history. before is the job's problem so far, which counts the failures; nil where there was none.
func Judge(err error, before *backup.Problem, now time.Time) Judgement {
	j := Judgement{Problem: backup.Problem{Text: err.Error(), Since: now, Remedy: opererr.HintOf(err)}}
	p := &j.Problem
	p.Code, p.Remedy = classify(err, p.Remedy)
	if before != nil && before.Code == p.Code {
		p.Since, p.Retries = before.Since, before.Retries
	}
	p.Retries++
	p.Next = now.Add(Back(p.Retries - 1))
	giveUp := func() { p.Resync, p.Next, p.Remedy = true, time.Time{}, resyncRemedy }
	switch p.Code {
	case CodeBarrier:
		j.Break = true
		giveUp()
	case CodeCorrupt:
		j.Dirty = true // perhaps it is only the copy on this disk that is wrong
		if p.Retries > rebuilds {
			giveUp()
		}
	case CodeDamaged, CodeMissing:
		if p.Retries > rebuilds {
			j.Break = true
			giveUp()
		}
	case CodeDirty:
		j.Dirty = true
		if p.Retries == 1 {
			p.Next = now // the remedy is at hand: the last snapshot
		}
	case CodeHead:
		j.Dirty = p.Retries > rebuilds
	case CodeUnknown:
		p.Next = now.Add(unknownAgain)
	}
	return j
}

// JudgeSnapshot says what follows from the error of storing a snapshot: the head and the history are as good as before, so that
// nothing is made again and nothing else waits. before is as for Judge.
func JudgeSnapshot(err error, before *backup.Problem, now time.Time) backup.Problem {
	p := backup.Problem{Text: err.Error(), Since: now, Snapshots: true}
	p.Code, p.Remedy = classify(err, opererr.HintOf(err))
	switch p.Code {
	case CodeDamaged, CodeMissing:
		p.Remedy = "The next one is tried by itself. Check the disks of the store; heartwood store check says what is damaged."
	case CodeHead, CodeInternal:
		p.Remedy = "The daemon tries again by itself; its log has the details."
	}
	if before != nil && before.Snapshots && before.Code == p.Code {
		p.Since, p.Retries = before.Since, before.Retries
	}
	p.Retries++
	p.Next = now.Add(Back(p.Retries - 1))
	return p
}

const readAgain = "It is read again; if that does not help, a new full read follows by itself. Check the disks of the store."

// classify names the kind of an error and, unless it brings one, the remedy.
func classify(err error, hint string) (code, remedy string) {
	rows := []struct {
		is     error
		code   string
		remedy string
	}{
		{oplog.ErrNewSnapshot, CodeBarrier, resyncRemedy},
		{oplog.ErrUnknown, CodeUnknown, "Update Heartwood: a newer version may know this entry. The last snapshot and everything before this entry stay restorable. Without an update, ask for a new full read (resync)."},
		{apply.ErrCorruption, CodeCorrupt, "The head is made again from the last snapshot by itself; if that does not help, a new full read follows."},
		{oplog.ErrCorrupt, CodeDamaged, readAgain},
		{chain.ErrDamaged, CodeDamaged, readAgain},
		{seed.ErrDamaged, CodeDamaged, readAgain},
		{blockstore.ErrDamaged, CodeDamaged, readAgain},
		{stored.ErrLost, CodeMissing, "Has somebody deleted files of the store? It is looked for again; if that does not help, a new full read follows by itself."},
		{chain.ErrGap, CodeMissing, readAgain},
		{chain.ErrSplice, CodeMissing, readAgain},
		{chain.ErrEpoch, CodeMissing, readAgain},
		{blockstore.ErrUnavailable, CodeUnavailable, "Make the store reachable again; the backup goes on by itself."},
		{blockstore.ErrDenied, CodeStore, "Give the daemon's credentials access to the store; the backup goes on by itself."},
		{blockstore.ErrKey, CodeStore, "The daemon must use the same gen.key (mms.keyfile) as all servers of this site."},
		{blockstore.ErrNoSpace, CodeStore, "Make room in the store, or keep fewer snapshots; the backup goes on by itself."},
		{head.ErrNoRelease, CodeRelease, "Put the mongod of that series into the release directory (mongodb.release.directory); the backup goes on by itself."},
		{head.ErrNoSpace, CodeSpace, "Make room on the disk of the heads; the backup goes on by itself."},
		{syscall.ENOSPC, CodeSpace, "Make room on the disk of the heads; the backup goes on by itself."},
		{head.ErrDirty, CodeDirty, "The head is made again from the last snapshot by itself."},
		{head.ErrNotStarted, CodeHead, "See the head's mongod.log; the daemon tries again by itself."},
		{context.DeadlineExceeded, CodeHead, "Is the machine of the daemon overloaded? The daemon tries again by itself."},
	}
	for _, r := range rows {
		if errors.Is(err, r.is) {
			if hint == "" {
				hint = r.remedy
			}
			return r.code, hint
		}
	}
	if hint == "" {
		hint = "The daemon tries again by itself; its log has the details."
	}
	return CodeInternal, hint
}
