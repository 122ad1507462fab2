// Package backups says what is wrong with a backup, a backup daemon or the agents of backups: one function a kind of alert,
// each of a fact and a time. What an alert's target is and whom it tells are package rule's.
//
// It may import shared/model and shared/rule/machine only.
package backups

import (
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/machine"
)

// How long things may take before somebody should know (backup.md 1.14, 1.20; operations.md 4.4).
const (
	agentDown      = time.Hour
	oplogBehind    = 75 * time.Minute
	daemonDown     = 15 * time.Minute
	bindPatience   = 15 * time.Minute
	tooManyRetries = 5

	lowHeadBytes   = 1 << 30
	lowHeadPercent = 10
)

// Fact is how the backup of a replica set does.
type Fact struct {
	GroupID   model.ID
	ClusterID model.ID
	Name      string // of the replica set
	Status    model.BackupStatus
	Since     time.Time // when it was started, or its last state began
	Unbound   time.Time // since when it waits for a daemon; zero: it has one
	Reading   bool      // the first full read of its epoch is not over: no snapshot can be
	Newest    time.Time // newest stored oplog; zero: none
	Resync    time.Time // since when a full read is wanted and has not begun; zero: none is
	ResyncWhy string
	LastShot  time.Time // newest complete snapshot; zero: none
	LateShot  bool
	Source    time.Duration // how long the source's oplog reaches back behind what is stored; negative: not known
	Problem   string        // why it stands still, "" where it does not
	Remedy    string
	ProblemAt time.Time
	Retries   int
	Agent     string // what its agent says keeps it from going on, "" where nothing does
}

// Running reports whether a backup should be going on.
func (f *Fact) Running() bool {
	return f.Status == model.BackupStarted || f.Status == model.BackupProvisioning
}

// Daemon is how a backup daemon does.
type Daemon struct {
	ID      string
	Machine string
	Beat    time.Time
	Stopped bool // it said goodbye
	Jobs    int
	Free    int64 // bytes on the disk of its heads
	Size    int64 // 0: not known
}

// Moment is when a fact is judged.
type Moment struct {
	Now    time.Time
	Beyond func(x float64) bool      // whether a value is on the wrong side of the threshold
	Since  func(time.Time) time.Time // from when silence counts
}

// Finding is what a function says. State is Good where there is nothing to say.
type Finding struct {
	State machine.State
	Since time.Time // zero: from now on
	Text  string    // what is wrong
	Why   string    // why it is Unknown
}

func bad(since time.Time, format string, args ...any) Finding {
	return Finding{State: machine.Bad, Since: since, Text: fmt.Sprintf(format, args...)}
}

func unknown(why string) Finding { return Finding{State: machine.Unknown, Why: why} }

func good() Finding { return Finding{State: machine.Good} }

// OplogLate finds that what is stored of the oplog is old, so the last restorable moment is.
func OplogLate(f *Fact, at *Moment) Finding {
	news := f.Newest
	if news.IsZero() || f.Since.After(news) {
		news = f.Since
	}
	since := news.Add(oplogBehind)
	ask := "Is a backup agent of the group running, and can it reach the set?"
	if f.Agent != "" {
		ask = "The backup agent reports: " + bare(f.Agent) + "."
	}
	switch {
	case at.Now.Sub(news) <= oplogBehind:
		return good()
	case f.Newest.IsZero():
		return bad(since, "No oplog of replica set %s has been stored since its backup was started at %s. %s", f.Name, when(f.Since), ask)
	}
	return bad(since, "The newest stored oplog of replica set %s is of %s: nothing after it can be restored. %s", f.Name, when(f.Newest), ask)
}

// ResyncWanted finds that the history is broken and nothing has begun a new one.
func ResyncWanted(f *Fact, _ *Moment) Finding {
	if f.Resync.IsZero() {
		return good()
	}
	return bad(f.Resync, "The backup of replica set %s needs a new full read: %s. What was stored before stays restorable.", f.Name, bare(f.ResyncWhy))
}

// WindowShort finds that the source's oplog is about to roll over past what is stored. The threshold is in hours.
func WindowShort(f *Fact, at *Moment) Finding {
	switch hours := f.Source.Hours(); {
	case f.Source < 0:
		return unknown("how far the source's oplog reaches back is not known")
	case at.Beyond(hours):
		return bad(time.Time{}, "The oplog of replica set %s reaches back only %.1f hours behind what is stored: if the backup stands still for that long it must begin anew. Make the oplog larger (replSetResizeOplog).", f.Name, hours)
	}
	return good()
}

// LateSnapshot finds that the newest snapshot is older than one and a half intervals.
func LateSnapshot(f *Fact, _ *Moment) Finding {
	if !f.LateShot || f.Reading {
		return good()
	}
	text := fmt.Sprintf("The newest snapshot of replica set %s is of %s, older than one and a half intervals of its schedule.", f.Name, when(f.LastShot))
	return bad(time.Time{}, "%s", text+because(f))
}

// StandsStill finds that it stopped with a problem that waits for a person.
func StandsStill(f *Fact, _ *Moment) Finding {
	if f.Problem == "" || f.Retries > 0 {
		return good()
	}
	return bad(f.ProblemAt, "%s", problem(f))
}

// Retries finds that it fails again and again.
func Retries(f *Fact, _ *Moment) Finding {
	if f.Problem == "" || f.Retries < tooManyRetries {
		return good()
	}
	return bad(f.ProblemAt, "%s It was tried %d times.", problem(f), f.Retries)
}

// BindError finds that no daemon takes it.
func BindError(f *Fact, at *Moment) Finding {
	if f.Unbound.IsZero() || at.Now.Sub(at.Since(f.Unbound)) <= bindPatience {
		return good()
	}
	return bad(f.Unbound, "%s", fmt.Sprintf("No backup daemon takes the backup of replica set %s since %s.", f.Name, when(f.Unbound))+because(f))
}

func problem(f *Fact) string {
	text := fmt.Sprintf("The backup of replica set %s stands still: %s.", f.Name, bare(f.Problem))
	if f.Remedy != "" {
		text += " " + bare(f.Remedy) + "."
	}
	return text
}

func because(f *Fact) string {
	if f.Problem == "" {
		return ""
	}
	return " " + bare(f.Problem) + "."
}

// AgentDown finds that backups are running and no backup agent of the group has called for an hour. last is the agent that called last.
// There is nothing to say where no backup runs: ok is false.
func AgentDown(facts []Fact, group string, last *model.Agent, at *Moment) (f Finding, ok bool) {
	var since time.Time
	for i := range facts {
		if b := &facts[i]; b.Running() && (since.IsZero() || b.Since.Before(since)) {
			since = b.Since
		}
	}
	if since.IsZero() {
		return f, false
	}
	news := last.LastConf
	if news.IsZero() {
		news = since
	}
	switch news = at.Since(news); {
	case at.Now.Sub(news) < agentDown:
		return good(), true
	case last.LastConf.IsZero():
		return bad(news, "No backup agent of %s has ever called, though backups are started. Install one: the agents page says how.", group), true
	}
	return bad(news, "No backup agent of %s has called since %s; the last one ran on %s. Is it running, and can it reach this server?", group, when(last.LastConf), last.Hostname), true
}

// DaemonDown finds that a daemon that has backups gave no sign of life.
func DaemonDown(d *Daemon, at *Moment) Finding {
	if d.Stopped || at.Now.Sub(at.Since(d.Beat)) <= daemonDown {
		return good()
	}
	return bad(d.Beat, "The backup daemon on %s has given no sign of life since %s. Backups it had: %d; another daemon takes them if there is one.", d.Machine, when(d.Beat), d.Jobs)
}

// LowBytes finds that less than a gigabyte of the heads' disk is left.
func LowBytes(d *Daemon, _ *Moment) Finding { return space(d, d.Free < lowHeadBytes) }

// LowPercent finds that less than a tenth of the heads' disk is left.
func LowPercent(d *Daemon, _ *Moment) Finding { return space(d, d.Free*100 < d.Size*lowHeadPercent) }

func space(d *Daemon, few bool) Finding {
	const gb = 1 << 30
	switch {
	case d.Size <= 0 || d.Stopped:
		return unknown("the daemon has not told how full its disk is")
	case few:
		return bad(time.Time{}, "The disk of the heads on %s has %.1f GB of %.1f GB left. Make room, or give the daemon a larger disk: a head that cannot grow stops its backup.",
			d.Machine, float64(d.Free)/gb, float64(d.Size)/gb)
	}
	return good()
}

// bare is a sentence without its end.
func bare(s string) string { return strings.TrimRight(s, ". \n") }

// when is a time in a text.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
