package job

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/stored"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

var now = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// at is a position so many seconds before now.
func at(before time.Duration) oplog.OpTime {
	return oplog.OpTime{TS: bson.Timestamp{T: uint32(now.Add(-before).Unix()), I: 1}, Term: 1}
}

// healthy is a job that follows the oplog, all of it applied, with a snapshot of an hour ago.
func healthy() State {
	s := State{
		Config: backup.Config{Status: model.BackupStarted, Schedule: snapshot.Default()},
		Job:    backup.Job{ID: "j", Epoch: 2, Next: now.Add(10 * time.Hour), Tail: backup.Tail{At: now.Add(-time.Minute), Oldest: now.Add(-48 * time.Hour), Newest: now}},
		Epoch:  &backup.Epoch{Number: 2, Began: now.Add(-24 * time.Hour), Start: at(24 * time.Hour), ScanEnd: at(23 * time.Hour), Seeded: now.Add(-20 * time.Hour)},
		Snapshots: []backup.Snapshot{
			{ID: "old", Epoch: 1, Complete: true, At: now.Add(-48 * time.Hour), Applied: at(48 * time.Hour)},
			{ID: "last", Epoch: 2, Complete: true, At: now.Add(-time.Hour), Applied: at(time.Hour)},
		},
		Head:   Head{Epoch: 2, Phase: Ready, Applied: at(time.Second)},
		Daemon: backup.Daemon{Machine: "d1", HeadRoot: "/heads/", Free: 100 << 30, Size: 200 << 30},
		Now:    now,
	}
	s.Epoch.Head.Last = at(time.Second)
	return s
}

// fresh is a job whose full read is over and whose head does not exist yet.
func fresh() State {
	s := healthy()
	s.Epoch.Seeded, s.Head, s.Snapshots, s.Job.Next = time.Time{}, Head{}, nil, time.Time{}
	return s
}

func TestNext(t *testing.T) {
	tests := []struct {
		name   string
		from   func() State
		do     func(s *State)
		want   Kind
		stage  backup.Stage
		reason string
	}{
		{"nothing to do", healthy, nil, Wait, backup.StageTailing, "holds everything"},
		{"new oplog", healthy, func(s *State) { s.Epoch.Head.Last = at(0) }, Apply, backup.StageTailing, "follows"},
		{"stopped", healthy, func(s *State) { s.Config.Status = model.BackupStopped }, Retire, "", "stopped"},
		{"inactive", healthy, func(s *State) { s.Config.Status = model.BackupInactive }, Retire, "", ""},
		{"terminating goes before everything", healthy, func(s *State) {
			s.Config.Status, s.Job.Problem = model.BackupTerminating, &backup.Problem{Text: "x"}
		}, Terminate, "", "deleted"},

		{"no epoch, no agent", healthy, func(s *State) { s.Epoch, s.Job.Tail = nil, backup.Tail{} }, Wait, backup.StageSync, "heartwood backup-agent"},
		{"no epoch, the agent cannot", healthy, func(s *State) { s.Epoch, s.Job.Tail.Error = nil, "no rights" }, Wait, backup.StageSync, "no rights"},
		{"no epoch, the agent begins", healthy, func(s *State) { s.Epoch = nil }, Wait, backup.StageSync, "about to begin"},
		{"the full read goes on", fresh, func(s *State) {
			s.Epoch.ScanEnd = oplog.OpTime{}
			s.Job.Tail.Collections, s.Job.Tail.CollectionsDone, s.Job.Tail.Bytes, s.Job.Tail.BytesDone = 4, 3, 200, 50
		}, Wait, backup.StageSync, "3 of 4 done, 25% of the data"},
		{"the full read is over", fresh, nil, Seed, backup.StageBuild, "filled"},
		{"seeding was interrupted", fresh, func(s *State) { s.Head = Head{Epoch: 2, Phase: Seeding} }, Seed, backup.StageBuild, ""},
		{"the full read's oplog is not there yet", fresh, func(s *State) { s.Epoch.Head.Last = at(23*time.Hour + time.Minute) }, Wait, backup.StageSync, "not arrived"},
		{"no room for the head", fresh, func(s *State) { s.Job.Tail.DataBytes = 100 << 30 }, Broken, backup.StageBuild, "121.0 GB"},
		{"room is not known", fresh, func(s *State) { s.Job.Tail.DataBytes, s.Daemon.Free, s.Daemon.Size = 100<<30, 0, 0 }, Seed, backup.StageBuild, ""},
		{"a part of the room is taken by the head itself", fresh, func(s *State) {
			s.Head = Head{Epoch: 2, Phase: Seeding}
			s.Job.Tail.DataBytes, s.Job.HeadBytes = 100<<30, 60<<30
		}, Seed, backup.StageBuild, ""},
		{"the full read was given up", fresh, func(s *State) {
			s.Epoch.Ended, s.Epoch.EndedWhy, s.Epoch.Head.Last = now, "the oplog rolled over", at(23*time.Hour+time.Minute)
		}, Wait, backup.StageSync, "rolled over"},

		{"in the window", fresh, func(s *State) { s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23*time.Hour + time.Minute)} }, Apply, backup.StageCatchUp, "during the full read"},
		{"the window's oplog is not there yet", fresh, func(s *State) {
			s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23*time.Hour + time.Minute)}
			s.Epoch.Head.Last = s.Head.Applied
		}, Wait, backup.StageCatchUp, "not arrived"},
		{"the window's oplog will never be there", fresh, func(s *State) {
			s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23*time.Hour + time.Minute)}
			s.Epoch.Head.Last, s.Epoch.Ended = s.Head.Applied, now
		}, Wait, backup.StageCatchUp, "ended too early"},
		{"the window is through", fresh, func(s *State) { s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23 * time.Hour)} }, Finish, backup.StageCatchUp, "indexes"},
		{"documents are missing", fresh, func(s *State) { s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23 * time.Hour), Missing: 3} }, Ask, backup.StageCatchUp, "3 documents"},
		{"they were asked for", fresh, func(s *State) {
			s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23 * time.Hour), Missing: 3}
			s.Job.Missing = []backup.MissingDocs{{NS: "a.b"}}
		}, Wait, backup.StageCatchUp, "fetches 3"},
		{"they were answered", fresh, func(s *State) {
			s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23 * time.Hour), Missing: 3}
			s.Job.Found = &backup.Found{Epoch: 2, Key: "k"}
		}, Fill, backup.StageCatchUp, ""},
		{"an answer of another epoch", fresh, func(s *State) {
			s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23 * time.Hour), Missing: 3}
			s.Job.Found = &backup.Found{Epoch: 1, Key: "k"}
		}, Ask, backup.StageCatchUp, ""},
		{"the window goes on to the time of the answer", fresh, func(s *State) {
			s.Head = Head{Epoch: 2, Phase: Window, Applied: at(23 * time.Hour), WindowEnd: at(22 * time.Hour).TS}
		}, Apply, backup.StageCatchUp, ""},

		{"the first snapshot", healthy, func(s *State) { s.Snapshots = s.Snapshots[:1] }, Snapshot, backup.StageTailing, "the first of this history"},
		{"the first snapshot does not wait for the schedule", healthy, func(s *State) { s.Snapshots, s.Job.Next = nil, now.Add(24*time.Hour) }, Snapshot, backup.StageTailing, "first"},
		{"a condemned snapshot is none", healthy, func(s *State) { s.Snapshots[1].Condemned = now }, Snapshot, backup.StageTailing, "first"},
		{"a snapshot is due by the oplog's time", healthy, func(s *State) { s.Job.Next = now.Add(-time.Minute) }, Snapshot, backup.StageTailing, "scheduled"},
		{"not by the clock's", healthy, func(s *State) {
			s.Job.Next, s.Head.Applied = now.Add(-time.Minute), at(time.Hour)
		}, Apply, backup.StageTailing, ""},
		{"one at a time", healthy, func(s *State) { s.Job.Next, s.Taking = now.Add(-time.Minute), "x" }, Wait, backup.StageTailing, ""},
		{"a break that the head has passed", healthy, func(s *State) {
			s.Epoch.Breaks = []backup.Break{{At: at(30 * time.Minute).TS, Why: "the feature compatibility version changed"}}
		}, Snapshot, backup.StageTailing, "compatibility version changed"},
		{"a break that the head has not reached", healthy, func(s *State) {
			s.Epoch.Breaks, s.Head.Applied = []backup.Break{{At: at(30 * time.Minute).TS}}, at(31*time.Minute)
		}, Apply, backup.StageTailing, ""},
		{"a break that a snapshot has passed", healthy, func(s *State) { s.Epoch.Breaks = []backup.Break{{At: at(time.Hour + time.Second).TS}} }, Wait, backup.StageTailing, ""},
		{"a snapshot right at a break is of the time before", healthy, func(s *State) {
			s.Epoch.Breaks, s.Epoch.Head.Last = []backup.Break{{At: at(time.Hour).TS, Why: "w1 was excluded"}}, at(time.Second)
		}, Snapshot, backup.StageTailing, "w1 was excluded"},
		{"a head right at a break waits for what follows", healthy, func(s *State) {
			s.Epoch.Breaks = []backup.Break{{At: at(time.Second).TS}}
		}, Wait, backup.StageTailing, "holds everything"},
		{"snapshots fail: the head follows all the same", healthy, func(s *State) {
			s.Job.Next, s.Epoch.Head.Last = now.Add(-time.Minute), at(0)
			s.Job.Problem = &backup.Problem{Text: "the store is full", Snapshots: true, Next: now.Add(time.Minute)}
		}, Apply, backup.StageTailing, "the store is full"},
		{"snapshots fail: it says so while there is nothing to do", healthy, func(s *State) {
			s.Job.Next = now.Add(-time.Minute)
			s.Job.Problem = &backup.Problem{Text: "the store is full", Snapshots: true, Next: now.Add(time.Minute)}
		}, Wait, backup.StageTailing, "the store is full"},
		{"snapshots fail: it is tried again", healthy, func(s *State) {
			s.Job.Next = now.Add(-time.Minute)
			s.Job.Problem = &backup.Problem{Snapshots: true, Next: now.Add(-time.Second)}
		}, Snapshot, backup.StageTailing, "scheduled"},
		{"the last snapshot is damaged", healthy, func(s *State) { s.Snapshots[1].VerifyError = "x" }, Snapshot, backup.StageTailing, "damaged"},
		{"a wish", healthy, func(s *State) { s.Job.Wishes = []backup.Wish{{ID: "w", By: "ann"}} }, Snapshot, backup.StageTailing, "ann"},
		{"a wish that was fulfilled", healthy, func(s *State) { s.Job.Wishes = []backup.Wish{{ID: "last", By: "ann"}} }, Wait, backup.StageTailing, ""},

		{"a new epoch", healthy, func(s *State) { s.Head.Epoch = 1 }, Discard, backup.StageSync, "epoch 2 has begun"},
		{"the head is gone", healthy, func(s *State) { s.Head = Head{} }, Restore, backup.StageBuild, "last snapshot"},
		{"the head is dirty", healthy, func(s *State) { s.Head.Dirty = true }, Restore, backup.StageBuild, ""},
		{"dirty while it was seeded", fresh, func(s *State) { s.Head = Head{Epoch: 2, Phase: Seeding, Dirty: true} }, Seed, backup.StageBuild, ""},
		{"dirty in the window", fresh, func(s *State) { s.Head = Head{Epoch: 2, Phase: Window, Dirty: true} }, Seed, backup.StageBuild, ""},
		{"nothing to make it from", healthy, func(s *State) { s.Head, s.Snapshots = Head{}, s.Snapshots[:1] }, Resync, backup.StageBroken, "no snapshot of this history"},
		{"nothing to make it from, and that is known", healthy, func(s *State) {
			s.Head, s.Snapshots, s.Job.Resync = Head{}, nil, &backup.Resync{Why: "lost"}
		}, Wait, backup.StageSync, "lost"},

		{"a problem that waits for a person", healthy, func(s *State) { s.Job.Problem = &backup.Problem{Text: "no", Since: now} }, Wait, backup.StageBroken, "no"},
		{"a problem that waits for its next try", healthy, func(s *State) { s.Job.Problem = &backup.Problem{Text: "no", Next: now.Add(time.Second)} }, Wait, backup.StageBroken, "no"},
		{"a problem that is tried again", healthy, func(s *State) { s.Job.Problem = &backup.Problem{Text: "no", Next: now} }, Wait, backup.StageTailing, "holds"},
		{"a problem since which people changed something", healthy, func(s *State) {
			s.Job.Problem, s.Config.Changed = &backup.Problem{Text: "no", Since: now.Add(-time.Hour)}, now
		}, Wait, backup.StageTailing, "holds"},
		{"a new full read is waited for", healthy, func(s *State) { s.Job.Problem = &backup.Problem{Text: "no", Resync: true, Since: now} }, Wait, backup.StageBroken, "no"},
		{"a new full read has begun", healthy, func(s *State) {
			s.Job.Problem, s.Epoch.Began = &backup.Problem{Text: "no", Resync: true, Since: now.Add(-time.Hour)}, now
		}, Wait, backup.StageTailing, "holds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.from()
			if tt.do != nil {
				tt.do(&s)
			}
			got := Next(s)
			if got.Kind != tt.want || !strings.Contains(got.Reason, tt.reason) || tt.stage != "" && got.Stage != tt.stage {
				t.Errorf("%s %s (%s), want %s %s (%s)", got.Kind, got.Stage, got.Reason, tt.want, tt.stage, tt.reason)
			}
			if got.Kind == Broken || got.Kind == Resync {
				if got.Problem == nil || got.Problem.Code == "" || got.Problem.Text == "" || got.Problem.Remedy == "" {
					t.Errorf("a problem that says too little: %+v", got.Problem)
				}
			}
		})
	}
}

func TestTake(t *testing.T) {
	s := healthy()
	s.Snapshots = nil
	s.Head.Applied = at(0)
	got := Next(s)
	want := Take{Kinds: []snapshot.Kind{snapshot.Base, snapshot.Weekly, snapshot.Monthly}, Expires: now.AddDate(0, 1, 0), Next: s.Config.Schedule.Next(now)}
	if diff := cmp.Diff(want, got.Take); diff != "" {
		t.Error(diff)
	}
	s = healthy()
	s.Job.Wishes = []backup.Wish{{ID: "w", Expires: now.AddDate(1, 0, 0)}}
	if diff := cmp.Diff(Take{Kinds: []snapshot.Kind{snapshot.Manual}, Expires: now.AddDate(1, 0, 0), Wish: "w", Next: s.Job.Next}, Next(s).Take); diff != "" {
		t.Errorf("a wish does not move the schedule: %s", diff)
	}
}

func TestBase(t *testing.T) {
	snaps := func() []backup.Snapshot {
		return []backup.Snapshot{
			{ID: "a", Epoch: 2, Complete: true, Applied: at(5 * time.Hour), ReplayFrom: at(5 * time.Hour)},
			{ID: "b", Epoch: 2, Complete: true, Applied: at(3 * time.Hour), ReplayFrom: at(4 * time.Hour)}, // a transaction was open
			{ID: "c", Epoch: 2, Complete: false, Applied: at(time.Hour)},
			{ID: "d", Epoch: 3, Complete: true, Applied: at(time.Hour)},
		}
	}
	tests := []struct {
		name string
		do   func(s []backup.Snapshot, e *backup.Epoch)
		want string
	}{
		{"the newest complete one of the epoch", func([]backup.Snapshot, *backup.Epoch) {}, "b"},
		{"not a damaged one", func(s []backup.Snapshot, _ *backup.Epoch) { s[1].VerifyError = "x" }, "a"},
		{"not a condemned one", func(s []backup.Snapshot, _ *backup.Epoch) { s[1].Condemned = now }, "a"},
		{"oplog expired exactly up to it", func(s []backup.Snapshot, e *backup.Epoch) { s[1].Complete, e.Kept = false, at(5*time.Hour) }, "a"},
		{"oplog expired behind it", func(s []backup.Snapshot, e *backup.Epoch) { s[1].Complete, e.Kept = false, at(5*time.Hour-time.Second) }, ""},
		{"its open transaction's oplog expired", func(s []backup.Snapshot, e *backup.Epoch) { s[0].Complete, e.Kept = false, at(4*time.Hour) }, ""},
		{"its open transaction's oplog is there", func(s []backup.Snapshot, e *backup.Epoch) { s[0].Complete, e.Kept = false, at(4*time.Hour+time.Second) }, "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			have, e := snaps(), &backup.Epoch{Number: 2}
			tt.do(have, e)
			if got, _ := Base(have, e); got.ID != tt.want {
				t.Errorf("%q, want %q", got.ID, tt.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	type out struct {
		Code          string
		Dirty, Break  bool
		Resync, Again bool
	}
	tests := []struct {
		name   string
		err    error
		failed int // how often before
		want   out
	}{
		{"a barrier", fmt.Errorf("apply: %w", oplog.ErrNewSnapshot), 0, out{CodeBarrier, false, true, true, false}},
		{"unknown", oplog.ErrUnknown, 0, out{CodeUnknown, false, false, false, true}},
		{"corruption: the head is made again", apply.ErrCorruption, 0, out{CodeCorrupt, true, false, false, true}},
		{"corruption again and again", apply.ErrCorruption, 2, out{CodeCorrupt, true, false, true, false}},
		{"damaged slice: read again", chain.ErrDamaged, 0, out{CodeDamaged, false, false, false, true}},
		{"damaged slice for good", chain.ErrDamaged, 2, out{CodeDamaged, false, true, true, false}},
		{"lost slice for good", stored.ErrLost, 2, out{CodeMissing, false, true, true, false}},
		{"store away", blockstore.ErrUnavailable, 9, out{CodeUnavailable, false, false, false, true}},
		{"store refuses", blockstore.ErrDenied, 9, out{CodeStore, false, false, false, true}},
		{"wrong key", blockstore.ErrKey, 9, out{CodeStore, false, false, false, true}},
		{"store full", blockstore.ErrNoSpace, 9, out{CodeStore, false, false, false, true}},
		{"disk full", fmt.Errorf("write: %w", syscall.ENOSPC), 9, out{CodeSpace, false, false, false, true}},
		{"no release", head.ErrNoRelease, 9, out{CodeRelease, false, false, false, true}},
		{"killed head", head.ErrDirty, 0, out{CodeDirty, true, false, false, true}},
		{"does not start", head.ErrNotStarted, 0, out{CodeHead, false, false, false, true}},
		{"does not start at all", head.ErrNotStarted, 2, out{CodeHead, true, false, false, true}},
		{"anything", errors.New("boom"), 9, out{CodeInternal, false, false, false, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before *backup.Problem
			for range tt.failed {
				j := Judge(tt.err, before, now.Add(-time.Hour))
				before = &j.Problem
			}
			j := Judge(tt.err, before, now)
			got := out{j.Problem.Code, j.Dirty, j.Break, j.Problem.Resync, !j.Problem.Next.IsZero()}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if j.Problem.Remedy == "" || j.Problem.Text == "" || j.Problem.Retries != tt.failed+1 {
				t.Errorf("%+v", j.Problem)
			}
			if tt.failed > 0 && !j.Problem.Since.Equal(now.Add(-time.Hour)) {
				t.Errorf("since %s, not since it began", j.Problem.Since)
			}
		})
	}
	if j := Judge(opererr.New("x", head.ErrNoRelease, "install 7.0.14"), nil, now); j.Problem.Remedy != "install 7.0.14" {
		t.Errorf("the error's own hint is lost: %q", j.Problem.Remedy)
	}
}

// TestJudgeSnapshot: whatever fails about a snapshot, the head and the history are as good as before.
func TestJudgeSnapshot(t *testing.T) {
	for _, err := range []error{blockstore.ErrDamaged, blockstore.ErrNoSpace, blockstore.ErrUnavailable, blockstore.ErrDenied, syscall.ENOSPC, stored.ErrLost, errors.New("boom")} {
		var before *backup.Problem
		for n := range 5 {
			p := JudgeSnapshot(fmt.Errorf("store it: %w", err), before, now.Add(time.Duration(n)*time.Hour))
			if !p.Snapshots || p.Resync || p.Remedy == "" || p.Retries != n+1 || !p.Since.Equal(now) || !p.Next.After(now.Add(time.Duration(n)*time.Hour)) {
				t.Errorf("%v, failure %d: %+v", err, n+1, p)
			}
			before = &p
		}
	}
	p := JudgeSnapshot(blockstore.ErrNoSpace, &backup.Problem{Code: CodeStore, Retries: 7, Since: now.Add(-time.Hour)}, now)
	if p.Retries != 1 || !p.Since.Equal(now) {
		t.Errorf("it goes on counting the failures of something else: %+v", p)
	}
}

func TestBind(t *testing.T) {
	good := func() Candidate {
		me := backup.Daemon{ID: "me", Machine: "d1", Assignment: true, BackupJobs: true, Garbage: true, Free: 100 << 30, Size: 200 << 30}
		return Candidate{
			Config: backup.Config{Status: model.BackupProvisioning}, Job: backup.Job{Tail: backup.Tail{DataBytes: 10 << 30}}, Me: me,
			Stores: []model.BlockStore{{ID: "s", AssignmentEnabled: true}}, TakeOver: 15 * time.Minute, Now: now,
		}
	}
	tests := []struct {
		name     string
		do       func(c *Candidate)
		ok, none bool
		reason   string
	}{
		{"a new job", func(*Candidate) {}, true, false, ""},
		{"inactive", func(c *Candidate) { c.Config.Status = model.BackupInactive }, false, true, ""},
		{"mine, though I take no new ones", func(c *Candidate) { c.Job.Daemon, c.Me.Assignment, c.Me.Free = "me", false, 0 }, true, false, ""},
		{"of one who lives", func(c *Candidate) {
			c.Job.Daemon, c.Owner = "other", &backup.Daemon{Beat: now.Add(-14 * time.Minute)}
		}, false, true, ""},
		{"of one who is silent", func(c *Candidate) {
			c.Job.Daemon, c.Owner = "other", &backup.Daemon{Beat: now.Add(-15 * time.Minute)}
		}, true, false, ""},
		{"of one who is forgotten", func(c *Candidate) { c.Job.Daemon = "other" }, true, false, ""},
		{"no room", func(c *Candidate) { c.Me.Free = 12 << 30 }, false, false, "12.0 GB free for heads, 13.0 GB are needed"},
		{"the room is spoken for", func(c *Candidate) { c.Reserved = 90 << 30 }, false, false, "10.0 GB free"},
		{"no release", func(c *Candidate) { c.Release = errors.New("no mongod 7.0") }, false, false, "no mongod 7.0"},
		{"no store", func(c *Candidate) { c.Stores = nil }, false, false, "no store takes new backups"},
		{"switched off", func(c *Candidate) { c.Me.Assignment = false }, false, false, "takes no new backups"},
		{"runs none", func(c *Candidate) { c.Me.BackupJobs = false }, false, false, "does not run backups"},
		{"a stopped one needs no room", func(c *Candidate) { c.Config.Status, c.Me.Free, c.Stores = model.BackupStopped, 0, nil }, true, false, ""},
		{"a stopped one and no garbage", func(c *Candidate) { c.Config.Status, c.Me.Garbage = model.BackupStopped, false }, false, false, "expired"},
		{"one that is being deleted", func(c *Candidate) { c.Config.Status, c.Job.Daemon = model.BackupTerminating, "me" }, false, true, ""},
		{"mine, and I run none any more", func(c *Candidate) { c.Job.Daemon, c.Me.BackupJobs = "me", false }, false, false, "does not run"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good()
			tt.do(&c)
			ok, none, reasons := Bind(c)
			if ok != tt.ok || none != tt.none || !strings.Contains(strings.Join(reasons, "; "), tt.reason) || (tt.reason == "") != (len(reasons) == 0) {
				t.Errorf("ok %v none %v reasons %q", ok, none, reasons)
			}
		})
	}
}

func TestChooseStore(t *testing.T) {
	stores := []model.BlockStore{
		{ID: "a", AssignmentEnabled: true, LoadFactor: 1},
		{ID: "b", AssignmentEnabled: true, LoadFactor: 3},
		{ID: "c", Encrypt: true},
	}
	tests := []struct {
		name string
		cfg  backup.Config
		job  backup.Job
		jobs map[string]int
		want string
		why  string
	}{
		{"by id where all are empty", backup.Config{}, backup.Job{}, nil, "a", ""},
		{"by load", backup.Config{}, backup.Job{}, map[string]int{"a": 1, "b": 2}, "b", ""},
		{"what the job has stays", backup.Config{StoreID: "a"}, backup.Job{StoreID: "c"}, nil, "c", ""},
		{"what people named", backup.Config{StoreID: "c"}, backup.Job{}, nil, "c", ""},
		{"what is gone", backup.Config{}, backup.Job{StoreID: "z"}, nil, "", `"z" of this backup does not exist`},
		{"encrypted", backup.Config{Encrypted: true}, backup.Job{}, nil, "", "that encrypts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, why := ChooseStore(tt.cfg, tt.job, stores, tt.jobs)
			if got != tt.want || !strings.Contains(why, tt.why) || (tt.why == "") != (why == "") {
				t.Errorf("%q %q", got, why)
			}
		})
	}
}

func TestOverrun(t *testing.T) {
	s := healthy()
	if left, ok := Overrun(s.Job.Tail, s.Epoch, now); !ok || left != 48*time.Hour-time.Second-time.Minute {
		t.Errorf("%s %v", left, ok)
	}
	s.Epoch.Head.Last = at(47 * time.Hour)
	if left, _ := Overrun(s.Job.Tail, s.Epoch, now); left != time.Hour-time.Minute {
		t.Errorf("%s", left)
	}
	if _, ok := Overrun(backup.Tail{}, s.Epoch, now); ok {
		t.Error("known without a report")
	}
	s = healthy()
	s.Epoch.Head.Last, s.Head.Applied, s.Daemon.Full, s.Snapshots[1].At = at(46*time.Hour), at(48*time.Hour), now.Add(48*time.Hour), now.Add(-37*time.Hour)
	codes := map[string]bool{}
	for _, w := range Warnings(s, 3*time.Hour) {
		codes[w.Code] = w.Text != "" && w.Remedy != ""
	}
	if diff := cmp.Diff(map[string]bool{WarnWindow: true, WarnLate: true, WarnBehind: true, WarnDiskFull: true}, codes); diff != "" {
		t.Error(diff)
	}
	if w := Warnings(healthy(), 3*time.Hour); len(w) != 0 {
		t.Errorf("a healthy one: %+v", w)
	}
}

func TestFull(t *testing.T) {
	line := func(hours int, perHour int64) []Sample {
		var out []Sample
		for i := range hours + 1 {
			out = append(out, Sample{At: now.Add(time.Duration(i-hours) * time.Hour), Used: 100<<30 + int64(i)*perHour})
		}
		return out
	}
	tests := []struct {
		name    string
		samples []Sample
		want    time.Duration // from now; 0: none
	}{
		{"none", nil, 0},
		{"too short", line(5, 1<<30), 0},
		{"flat", line(10, 0), 0},
		{"emptying", line(10, -1<<30), 0},
		{"a gigabyte an hour", line(10, 1<<30), 90 * time.Hour},
		{"farther than half a year", line(10, 1<<20), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Full(tt.samples, 200<<30, now)
			if tt.want == 0 != got.IsZero() || tt.want != 0 && got.Sub(now).Round(time.Minute) != tt.want {
				t.Errorf("%s", got.Sub(now))
			}
		})
	}
}

func TestBack(t *testing.T) {
	last := time.Duration(0)
	for i := range 10 {
		d := Back(i)
		if d < last || d <= 0 || d > 5*time.Minute {
			t.Errorf("try %d after %s", i, d)
		}
		last = d
	}
}
