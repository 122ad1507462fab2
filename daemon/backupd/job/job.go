// Package job decides what a daemon does next with a backup. Its functions take what is stored of the backup, what the daemon
// has on its disk and a time, and return the decision: nothing here reads, writes or waits, so that every situation is a row of
// a table in a test.
package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Phase is how far the head on a daemon's disk is.
type Phase string

// The phases, in order.
const (
	None    Phase = ""        // there is nothing, or nothing that can be used
	Seeding Phase = "seeding" // it is being filled with sync slices
	Window  Phase = "window"  // it holds the full read; it is consistent once the oplog through the end of the read is applied
	Ready   Phase = "ready"   // it is a state the source was in: snapshots of it count
)

// Head is what a daemon has of a job on its disk.
type Head struct {
	Epoch int64 // whose head it is; 0: there is no folder
	Phase Phase
	// Dirty: its files are not to be trusted, because mongod was killed or an operation failed half way. It is made anew.
	Dirty      bool
	Applied    oplog.OpTime
	ReplayFrom oplog.OpTime
	Missing    int // documents that the full read lacks so far; asked for when the window is through
	// WindowEnd is until where the window goes: the end of the full read, or the time of the answer about missing documents.
	WindowEnd bson.Timestamp
}

// State is everything a decision is made of.
type State struct {
	Config    backup.Config
	Job       backup.Job
	Epoch     *backup.Epoch // the current one; nil before the first
	Snapshots []backup.Snapshot
	Head      Head
	Daemon    backup.Daemon
	// Taking is the id of the snapshot that is being written meanwhile; "" for none.
	Taking string
	Now    time.Time
}

// Kind is what a step does.
type Kind string

// The steps.
const (
	Wait      Kind = "wait"      // there is nothing to do; Reason says what is waited for
	Seed      Kind = "seed"      // fill the head with sync slices
	Restore   Kind = "restore"   // make the head from Snapshot; the oplog since then is replayed after
	Apply     Kind = "apply"     // apply stored oplog, at most until Until
	Ask       Kind = "ask"       // ask the agent for the documents that the full read lacks
	Fill      Kind = "fill"      // write its answer
	Finish    Kind = "finish"    // the window is through: build the indexes
	Snapshot  Kind = "snapshot"  // take a snapshot
	Discard   Kind = "discard"   // delete the head on disk: it is of another epoch
	Resync    Kind = "resync"    // a new full read is needed
	Retire    Kind = "retire"    // stopped by people: stop the head and keep it
	Terminate Kind = "terminate" // let go of it: it is being deleted
	Broken    Kind = "broken"    // it cannot go on: Problem says why and what to do
)

// Step is what is to be done next.
type Step struct {
	Kind Kind
	// Stage is what the job shows while this is done.
	Stage backup.Stage
	// Reason says, for people, why there is nothing to do, or why this is done.
	Reason   string
	Snapshot backup.Snapshot // Restore: which
	Until    bson.Timestamp  // Apply: last position, inclusive; zero for all there is
	Take     Take            // Snapshot: which
	Problem  *backup.Problem // Broken, Resync
}

// Take says which snapshot is to be taken.
type Take struct {
	Kinds   []snapshot.Kind
	Expires time.Time
	Wish    string    // id of the wish it fulfils, "" for a scheduled one
	Next    time.Time // when the next scheduled one is due
}

// Next says what to do next. It is called again after every step, and when something changed.
func Next(s State) Step {
	switch s.Config.Status {
	case model.BackupTerminating:
		return Step{Kind: Terminate, Stage: s.Job.Stage, Reason: "everything of this backup is being deleted"}
	case model.BackupStarted, model.BackupProvisioning:
	default:
		return Step{Kind: Retire, Stage: s.Job.Stage, Reason: "stopped by people; snapshots stay until they expire"}
	}
	if p := s.Job.Problem; p != nil && !p.Snapshots && !overcome(s) {
		if p.Next.IsZero() || s.Now.Before(p.Next) {
			return Step{Kind: Wait, Stage: backup.StageBroken, Reason: p.Text}
		}
	}
	if s.Epoch == nil || s.Epoch.Number == 0 {
		return Step{Kind: Wait, Stage: backup.StageSync, Reason: waitsForAgent(s)}
	}
	if s.Head.Epoch != 0 && s.Head.Epoch != s.Epoch.Number {
		return Step{Kind: Discard, Stage: backup.StageSync, Reason: fmt.Sprintf("the head belongs to epoch %d, epoch %d has begun", s.Head.Epoch, s.Epoch.Number)}
	}
	if s.Head.Dirty || s.Head.Phase == None {
		return again(s)
	}
	switch s.Head.Phase {
	case Seeding:
		return fill(s)
	case Window:
		return window(s)
	}
	return follow(s)
}

// overcome reports whether a problem is of the past: it asked for a new full read, and one has begun since; or people have
// changed something since, be it that they started the backup again.
func overcome(s State) bool {
	p := s.Job.Problem
	if p.Resync {
		return s.Epoch != nil && s.Epoch.Began.After(p.Since)
	}
	return s.Config.Changed.After(p.Since)
}

// Overcome reports whether the job's problem is of the past and is to be cleared.
func Overcome(s State) bool { return s.Job.Problem != nil && overcome(s) }

func waitsForAgent(s State) string {
	switch t := s.Job.Tail; {
	case t.At.IsZero():
		return "no backup agent has reported yet: run heartwood backup-agent beside the replica set"
	case t.Error != "":
		return "the backup agent cannot begin: " + t.Error
	}
	return "the backup agent is about to begin the full read"
}

// again makes a head where there is none to go on with: from a snapshot and the oplog since, or from the full read.
func again(s State) Step {
	if snap, ok := Base(s.Snapshots, s.Epoch); ok {
		return Step{Kind: Restore, Stage: backup.StageBuild, Snapshot: snap, Reason: "the head is made from the last snapshot, " + snap.At.UTC().Format(time.RFC3339)}
	}
	if s.Epoch.Seeded.IsZero() {
		return fill(s)
	}
	if s.Job.Resync != nil {
		return Step{Kind: Wait, Stage: backup.StageSync, Reason: "a new full read was asked for: " + s.Job.Resync.Why}
	}
	return resync(s, CodeLost, "the head is lost, and no snapshot of this history is left to make it from")
}

// Base is the snapshot that a head can be made from: the newest complete one of the epoch from which the stored oplog goes on.
// One that failed its last check is passed over.
func Base(have []backup.Snapshot, e *backup.Epoch) (backup.Snapshot, bool) {
	best := -1
	for i := range have {
		snap := &have[i]
		switch {
		case !snap.Complete || snap.Epoch != e.Number || !snap.Condemned.IsZero() || snap.VerifyError != "":
		case !reached(snap, e):
		case best < 0 || have[best].Applied.TS.Before(snap.Applied.TS):
			best = i
		}
	}
	if best < 0 {
		return backup.Snapshot{}, false
	}
	return have[best], true
}

// reached reports whether the oplog that goes on from a snapshot is still kept: also that of the transactions open in it.
func reached(snap *backup.Snapshot, e *backup.Epoch) bool {
	if open := snap.ReplayFrom.TS; !open.IsZero() && open.Before(snap.Applied.TS) {
		return e.Kept.TS.Before(open)
	}
	return !snap.Applied.TS.Before(e.Kept.TS)
}

func fill(s State) Step {
	if s.Epoch.ScanEnd.TS.IsZero() {
		return Step{Kind: Wait, Stage: backup.StageSync, Reason: reads(s.Job.Tail)}
	}
	if ended(s) {
		return Step{Kind: Wait, Stage: backup.StageSync, Reason: "the full read was given up (" + s.Epoch.EndedWhy + "); a new one follows"}
	}
	if s.Epoch.Head.Last.TS.Before(s.Epoch.ScanEnd.TS) {
		return Step{Kind: Wait, Stage: backup.StageSync, Reason: "the oplog through the end of the full read has not arrived yet"}
	}
	if p := room(s); p != nil {
		return Step{Kind: Broken, Stage: backup.StageBuild, Reason: p.Text, Problem: p}
	}
	return Step{Kind: Seed, Stage: backup.StageBuild, Reason: "the head is filled with what the agent read"}
}

// ended reports whether the epoch ended before its history became restorable: there is no use in building a head of it.
func ended(s State) bool {
	return !s.Epoch.Ended.IsZero() && s.Epoch.Head.Last.TS.Before(s.Epoch.ScanEnd.TS)
}

func reads(t backup.Tail) string {
	var b strings.Builder
	b.WriteString("the backup agent reads the collections")
	if t.Collections > 0 {
		fmt.Fprintf(&b, ": %d of %d done", t.CollectionsDone, t.Collections)
	}
	if t.Bytes > 0 {
		fmt.Fprintf(&b, ", %d%% of the data", min(100, t.BytesDone*100/t.Bytes))
	}
	if t.Error != "" {
		b.WriteString("; its last error: " + t.Error)
	}
	return b.String()
}

// room is checked again before a head is filled: when the job was bound the size of the source may not have been known.
func room(s State) *backup.Problem {
	need := Need(s.Job.Tail.DataBytes)
	if s.Head.Phase == Seeding { // a part of it is on the disk already
		need = max(0, need-s.Job.HeadBytes)
	}
	if s.Daemon.Free == 0 && s.Daemon.Size == 0 || s.Daemon.Free >= need { // what is not known hinders nothing
		return nil
	}
	return &backup.Problem{
		Code: CodeSpace,
		Text: fmt.Sprintf("the head needs about %s on %s, %s is free", size(need), s.Daemon.HeadRoot, size(s.Daemon.Free)),
		Remedy: "make room on " + s.Daemon.Machine + " or enlarge the disk; or start a daemon on a machine with more room and move the backup there. " +
			"It goes on by itself.",
	}
}

func window(s State) Step {
	end := s.Head.WindowEnd
	if end.IsZero() {
		end = s.Epoch.ScanEnd.TS
	}
	if s.Head.Applied.TS.Before(end) {
		if !s.Epoch.Head.Last.TS.After(s.Head.Applied.TS) {
			if !s.Epoch.Ended.IsZero() {
				return Step{Kind: Wait, Stage: backup.StageCatchUp, Reason: "the oplog of the full read ended too early (" + s.Epoch.EndedWhy + "); a new one follows"}
			}
			return Step{Kind: Wait, Stage: backup.StageCatchUp, Reason: "the oplog through the end of the full read has not arrived yet"}
		}
		return Step{Kind: Apply, Stage: backup.StageCatchUp, Until: end, Reason: "the oplog written during the full read is applied"}
	}
	switch {
	case s.Head.Missing == 0:
		return Step{Kind: Finish, Stage: backup.StageCatchUp, Reason: "the head is consistent: its indexes are built"}
	case answered(s):
		return Step{Kind: Fill, Stage: backup.StageCatchUp, Reason: "documents that the full read lacks have arrived"}
	case len(s.Job.Missing) == 0 || s.Job.Found != nil: // not asked yet, or the answer was about something else
		return Step{Kind: Ask, Stage: backup.StageCatchUp, Reason: fmt.Sprintf("%d documents are missing from the full read", s.Head.Missing)}
	}
	return Step{Kind: Wait, Stage: backup.StageCatchUp, Reason: fmt.Sprintf("the backup agent fetches %d documents that the full read lacks", s.Head.Missing)}
}

// answered reports whether the agent has answered what was asked for.
func answered(s State) bool { return s.Job.Found != nil && s.Job.Found.Epoch == s.Epoch.Number }

func follow(s State) Step {
	step := Step{Stage: backup.StageTailing}
	applied := Time(s.Head.Applied.TS)
	fails := ""
	if take, why, ok := due(s, applied); ok && s.Taking == "" {
		// What stands against snapshots, a store that is full, say, is no reason for the head to fall behind.
		p := s.Job.Problem
		if p == nil || !p.Snapshots || overcome(s) || !s.Now.Before(p.Next) {
			step.Kind, step.Take, step.Reason = Snapshot, take, why
			return step
		}
		fails = "; a snapshot is due and fails: " + p.Text
	}
	if s.Epoch.Head.Last.TS.After(s.Head.Applied.TS) {
		step.Kind, step.Reason = Apply, "the head follows the oplog"+fails
		return step
	}
	step.Kind, step.Reason = Wait, "the head holds everything that has arrived"+fails
	if !s.Epoch.Ended.IsZero() {
		step.Reason = "this history has ended (" + s.Epoch.EndedWhy + "); a new full read follows"
	}
	return step
}

// due says which snapshot is to be taken now, if any: the first of an epoch as soon as there is a head, what the schedule says,
// one after a break of the restorable range, and what people asked for.
func due(s State, applied time.Time) (Take, string, bool) {
	complete := Complete(s.Snapshots)
	first := true
	for _, snap := range complete {
		first = first && snap.Epoch != s.Epoch.Number
	}
	planned := s.Job.Next
	if first {
		planned = time.Time{}
	}
	scheduled, next := snapshot.Due(s.Config.Schedule, planned, applied)
	if scheduled {
		kinds, expires := snapshot.Promote(s.Config.Schedule, complete, applied)
		why := "scheduled for " + planned.UTC().Format(time.RFC3339)
		if first {
			why = "the first of this history"
		}
		return Take{Kinds: kinds, Expires: expires, Next: next}, why, true
	}
	if damaged(s) {
		kinds, expires := snapshot.Promote(s.Config.Schedule, complete, applied)
		return Take{Kinds: kinds, Expires: expires, Next: next}, "the last one is damaged", true
	}
	if b, ok := broken(s, complete); ok {
		kinds, expires := snapshot.Promote(s.Config.Schedule, complete, applied)
		return Take{Kinds: kinds, Expires: expires, Next: next}, "what is restorable begins anew: " + b.Why, true
	}
	for _, w := range s.Job.Wishes {
		if done(s.Snapshots, w.ID) {
			continue
		}
		return Take{Kinds: []snapshot.Kind{snapshot.Manual}, Expires: w.Expires, Wish: w.ID, Next: next}, "asked for by " + w.By, true
	}
	return Take{}, "", false
}

// damaged reports whether the newest complete snapshot of the epoch failed its last check.
func damaged(s State) bool {
	last := -1
	for i := range s.Snapshots {
		snap := &s.Snapshots[i]
		if snap.Complete && snap.Condemned.IsZero() && snap.Epoch == s.Epoch.Number && (last < 0 || s.Snapshots[last].Applied.Before(snap.Applied)) {
			last = i
		}
	}
	return last >= 0 && s.Snapshots[last].VerifyError != "" && s.Snapshots[last].Applied.Before(s.Head.Applied)
}

// broken finds a break of the restorable range that the head has passed and no snapshot has: until there is one, nothing after
// the break can be restored. One right at the break may be of the time before: it does not count.
func broken(s State, complete []snapshot.Snapshot) (backup.Break, bool) {
	for _, b := range s.Epoch.Breaks {
		passed := func(snap snapshot.Snapshot) bool { return snap.Epoch == s.Epoch.Number && snap.Applied.After(b.At) }
		if s.Head.Applied.TS.After(b.At) && !slices.ContainsFunc(complete, passed) {
			return b, true
		}
	}
	return backup.Break{}, false
}

func done(have []backup.Snapshot, id string) bool {
	for _, snap := range have {
		if snap.ID == id && snap.Complete {
			return true
		}
	}
	return false
}

// Complete gives what decisions of schedule and retention need of the complete snapshots that are still offered.
func Complete(have []backup.Snapshot) []snapshot.Snapshot {
	out := make([]snapshot.Snapshot, 0, len(have))
	for _, snap := range have {
		if snap.Complete && snap.Condemned.IsZero() {
			out = append(out, snap.Rule())
		}
	}
	return out
}

// Time is the time of a position.
func Time(ts bson.Timestamp) time.Time {
	if ts.IsZero() {
		return time.Time{}
	}
	return time.Unix(int64(ts.T), 0).UTC()
}

func resync(s State, code, text string) Step {
	p := &backup.Problem{Code: code, Text: text, Resync: true, Since: s.Now, Remedy: resyncRemedy}
	return Step{Kind: Resync, Stage: backup.StageBroken, Reason: text, Problem: p}
}

func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	div, exp := int64(unit), 0
	for m := n / unit; m >= unit; m /= unit {
		div *= unit
		exp++
	}
	return fmt.Sprintf("%.1f %cB", float64(n)/float64(div), "KMGTPE"[exp])
}
