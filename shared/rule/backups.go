package rule

import (
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

// How long things may take before somebody should know (backup.md 1.14, 1.20; operations.md 4.4).
const (
	backupAgentDown = time.Hour
	oplogBehind     = 75 * time.Minute
	daemonDown      = 15 * time.Minute
	bindPatience    = 15 * time.Minute
	tooManyRetries  = 5

	lowHeadBytes   = 1 << 30
	lowHeadPercent = 10
)

// BackupFact is how the backup of a replica set does. Of the site's snapshot they are those of all groups.
type BackupFact struct {
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
}

// DaemonFact is how a backup daemon does.
type DaemonFact struct {
	ID      string
	Machine string
	Beat    time.Time
	Stopped bool // it said goodbye
	Jobs    int
	Free    int64 // bytes on the disk of its heads
	Size    int64 // 0: not known
}

// running lists the backups that should be going on.
func (j *judge) running(each func(b *BackupFact)) {
	for i := range j.s.Backups {
		b := &j.s.Backups[i]
		if b.Status == model.BackupStarted || b.Status == model.BackupProvisioning {
			each(b)
		}
	}
}

// ofBackup judges each running backup by itself.
func ofBackup(f func(j *judge, v *Verdict, b *BackupFact)) func(j *judge, yield func(*Verdict)) {
	return func(j *judge, yield func(*Verdict)) {
		j.running(func(b *BackupFact) {
			v := j.verdict("backup/"+string(b.ClusterID), Good, "")
			v.Target.ClusterID, v.Target.ReplicaSet = b.ClusterID, b.Name
			if c := j.s.cluster(b.ClusterID); c != nil {
				v.Target.ClusterName, v.Target.ShardName = c.Name, c.ShardName
				if !j.set.Holds(&match.Subject{ReplicaSet: c.ReplicaSet, ShardName: c.ShardName, ClusterName: c.Name}) {
					return
				}
			}
			f(j, v, b)
			yield(v)
		})
	}
}

// oplogLate: what is stored of the oplog is old, so the last restorable moment is.
func (j *judge) oplogLate(v *Verdict, b *BackupFact) {
	news := b.Newest
	if news.IsZero() || b.Since.After(news) {
		news = b.Since
	}
	if behind := j.s.Now.Sub(news); behind > oplogBehind {
		v.State, v.Since = Bad, news.Add(oplogBehind)
		v.Text = fmt.Sprintf("The newest stored oplog of replica set %s is of %s: nothing after it can be restored. Is a backup agent of the group running, and can it reach the set?", b.Name, when(b.Newest))
		if b.Newest.IsZero() {
			v.Text = fmt.Sprintf("No oplog of replica set %s has been stored since its backup was started at %s. Is a backup agent of the group running, and can it reach the set?", b.Name, when(b.Since))
		}
	}
}

// resyncWanted: the history is broken and nothing has begun a new one.
func (j *judge) resyncWanted(v *Verdict, b *BackupFact) {
	if !b.Resync.IsZero() {
		v.State, v.Since = Bad, b.Resync
		v.Text = fmt.Sprintf("The backup of replica set %s needs a new full read: %s. What was stored before stays restorable.", b.Name, strings.TrimRight(b.ResyncWhy, ". \n"))
	}
}

// windowShort: the source's oplog is about to roll over past what is stored.
func (j *judge) windowShort(v *Verdict, b *BackupFact) {
	switch hours := b.Source.Hours(); {
	case b.Source < 0:
		v.State, v.Why = Unknown, "how far the source's oplog reaches back is not known"
	case j.beyond(hours):
		v.State = Bad
		v.Text = fmt.Sprintf("The oplog of replica set %s reaches back only %.1f hours behind what is stored: if the backup stands still for that long it must begin anew. Make the oplog larger (replSetResizeOplog).", b.Name, hours)
	}
}

// lateSnapshot: the newest snapshot is older than one and a half intervals.
func (j *judge) lateSnapshot(v *Verdict, b *BackupFact) {
	if b.LateShot && !b.Reading {
		v.State = Bad
		v.Text = fmt.Sprintf("The newest snapshot of replica set %s is of %s, older than one and a half intervals of its schedule.", b.Name, when(b.LastShot))
		if b.Problem != "" {
			v.Text += " " + strings.TrimRight(b.Problem, ". \n") + "."
		}
	}
}

// standsStill: it stopped with a problem that waits for a person.
func (j *judge) standsStill(v *Verdict, b *BackupFact) {
	if b.Problem != "" && b.Retries == 0 {
		v.State, v.Since = Bad, b.ProblemAt
		v.Text = j.problem(b)
	}
}

// retries: it fails again and again.
func (j *judge) retries(v *Verdict, b *BackupFact) {
	if b.Problem != "" && b.Retries >= tooManyRetries {
		v.State, v.Since = Bad, b.ProblemAt
		v.Text = fmt.Sprintf("%s It was tried %d times.", j.problem(b), b.Retries)
	}
}

func (j *judge) problem(b *BackupFact) string {
	text := fmt.Sprintf("The backup of replica set %s stands still: %s.", b.Name, strings.TrimRight(b.Problem, ". \n"))
	if b.Remedy != "" {
		text += " " + strings.TrimRight(b.Remedy, ". \n") + "."
	}
	return text
}

// bindError: no daemon takes it.
func (j *judge) bindError(v *Verdict, b *BackupFact) {
	if !b.Unbound.IsZero() && j.s.Now.Sub(j.s.since(b.Unbound)) > bindPatience {
		v.State, v.Since = Bad, b.Unbound
		v.Text = fmt.Sprintf("No backup daemon takes the backup of replica set %s since %s.", b.Name, when(b.Unbound))
		if b.Problem != "" {
			v.Text += " " + strings.TrimRight(b.Problem, ". \n") + "."
		}
	}
}

// backupAgentDown: backups are running and no backup agent of the group has called for an hour.
func (j *judge) backupAgentDown(yield func(*Verdict)) {
	s := j.s
	var since time.Time
	j.running(func(b *BackupFact) {
		if since.IsZero() || b.Since.Before(since) {
			since = b.Since
		}
	})
	if since.IsZero() {
		return
	}
	var last model.Agent
	for i := range s.Agents {
		if a := s.Agents[i]; a.Type == model.AgentBackup && a.LastConf.After(last.LastConf) {
			last = a
		}
	}
	news := last.LastConf
	if news.IsZero() {
		news = since
	}
	key := "agent/" + string(model.AgentBackup) + "/" + string(s.Group.ID)
	if s.Now.Sub(s.since(news)) < backupAgentDown {
		yield(j.verdict(key, Good, ""))
		return
	}
	text := "No backup agent of " + s.Group.Name + " has ever called, though backups are started. Install one: the agents page says how."
	if !last.LastConf.IsZero() {
		text = fmt.Sprintf("No backup agent of %s has called since %s; the last one ran on %s. Is it running, and can it reach this server?", s.Group.Name, when(last.LastConf), last.Hostname)
	}
	v := j.verdict(key, Bad, text)
	v.Since, v.Target.AgentID = s.since(news), last.ID
	yield(v)
}

// daemons: a daemon that has backups gave no sign of life.
func (j *judge) daemons(yield func(*Verdict)) {
	for i := range j.s.Daemons {
		d := &j.s.Daemons[i]
		v := j.verdict("site/daemon/"+d.ID, Good, "")
		if silent := j.s.Now.Sub(j.s.since(d.Beat)); !d.Stopped && silent > daemonDown {
			v.State, v.Since = Bad, d.Beat
			v.Text = fmt.Sprintf("The backup daemon on %s has given no sign of life since %s. It had %s; another daemon takes them if there is one.", d.Machine, when(d.Beat), plural(d.Jobs, "backup"))
		}
		yield(v)
	}
}

// headSpace judges the disk of a daemon's heads; few says when there is too little.
func headSpace(few func(d *DaemonFact) bool) func(j *judge, yield func(*Verdict)) {
	return func(j *judge, yield func(*Verdict)) {
		for i := range j.s.Daemons {
			d := &j.s.Daemons[i]
			v := j.verdict("site/daemon/"+d.ID, Good, "")
			switch {
			case d.Size <= 0 || d.Stopped:
				v.State, v.Why = Unknown, "the daemon has not told how full its disk is"
			case few(d):
				v.State = Bad
				v.Text = fmt.Sprintf("The disk of the heads on %s has %.1f GB of %.1f GB left. Make room, or give the daemon a larger disk: a head that cannot grow stops its backup.",
					d.Machine, float64(d.Free)/(1<<30), float64(d.Size)/(1<<30))
			}
			yield(v)
		}
	}
}
