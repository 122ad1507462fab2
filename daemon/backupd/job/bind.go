package job

import (
	"fmt"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// slack is what is kept free beside a head: growth, the clone of a snapshot, redo and spilled transactions.
const slack = 1 << 30

// Need is the room a head takes for a source with so many bytes of data: as much again as a fifth, and a gigabyte. 0 (not known)
// needs the gigabyte.
func Need(data int64) int64 { return data + data/5 + slack }

// Candidate is a job that a daemon could take, and the daemon.
type Candidate struct {
	Config backup.Config
	Job    backup.Job
	Me     backup.Daemon
	Owner  *backup.Daemon // Job.Daemon's document; nil where there is none
	// Reserved are bytes of the disk that other jobs of this daemon are about to fill.
	Reserved  int64
	Stores    []model.BlockStore
	StoreJobs map[string]int // how many jobs each has
	// Release is the error of finding a mongod for the source's version; nil where there is one or the version is not known yet.
	Release error
	// TakeOver is for how long a daemon must be silent before others take its jobs.
	TakeOver time.Duration
	Now      time.Time
}

// Bind says whether a daemon should try for the lease of a job. none says that it is not for this daemon at all (another one
// has it and lives); otherwise reasons say, for people, what stands against it. Who then gets the lease has the job.
func Bind(c Candidate) (ok, none bool, reasons []string) {
	switch c.Config.Status {
	case model.BackupStarted, model.BackupProvisioning, model.BackupStopped:
	default: // one that is being deleted has no daemon
		return false, true, nil
	}
	if c.Job.Daemon == c.Me.ID && c.Me.BackupJobs { // its head is here: it goes on, whatever the switch for new jobs says
		return true, false, nil
	}
	if c.Job.Daemon != "" && c.Owner != nil && c.Now.Sub(c.Owner.Beat) < c.TakeOver {
		return false, true, nil
	}
	if c.Config.Status == model.BackupStopped {
		if !c.Me.Garbage {
			reasons = append(reasons, c.Me.Machine+" is not to delete what has expired (a switch of administrators)")
		}
		return len(reasons) == 0, false, reasons
	}
	if !c.Me.Assignment {
		reasons = append(reasons, c.Me.Machine+" takes no new backups (a switch of administrators)")
	}
	if !c.Me.BackupJobs {
		reasons = append(reasons, c.Me.Machine+" does not run backups (a switch of administrators)")
	}
	if free := c.Me.Free - c.Reserved; c.Me.Size > 0 && free < Need(c.Job.Tail.DataBytes) {
		reasons = append(reasons, fmt.Sprintf("%s has %s free for heads, %s are needed", c.Me.Machine, size(max(0, free)), size(Need(c.Job.Tail.DataBytes))))
	}
	if c.Release != nil {
		reasons = append(reasons, c.Me.Machine+": "+c.Release.Error())
	}
	if _, why := ChooseStore(c.Config, c.Job, c.Stores, c.StoreJobs); why != "" {
		reasons = append(reasons, why)
	}
	return len(reasons) == 0, false, reasons
}

// ChooseStore picks the store of a job: the one it has, the one people named, or of those that take new backups (and encrypt,
// where that was asked for) the one with the fewest jobs for its load factor. jobs counts them by store. why says what is wrong
// where there is none.
func ChooseStore(cfg backup.Config, j backup.Job, stores []model.BlockStore, jobs map[string]int) (id, why string) {
	for _, want := range []string{j.StoreID, cfg.StoreID} {
		if want == "" {
			continue
		}
		if !slices.ContainsFunc(stores, func(s model.BlockStore) bool { return s.ID == want }) {
			return "", fmt.Sprintf("the store %q of this backup does not exist any more: an administrator must add it again", want)
		}
		return want, ""
	}
	var best *model.BlockStore
	load := func(s *model.BlockStore) float64 { return float64(jobs[s.ID]) / float64(max(1, s.LoadFactor)) }
	for i := range stores {
		s := &stores[i]
		if !s.AssignmentEnabled || cfg.Encrypted && !s.Encrypt {
			continue
		}
		if best == nil || load(s) < load(best) || load(s) == load(best) && s.ID < best.ID {
			best = s
		}
	}
	switch {
	case best != nil:
		return best.ID, ""
	case cfg.Encrypted:
		return "", "no store that encrypts takes new backups: an administrator must add one, or switch assignment on for one"
	}
	return "", "no store takes new backups: an administrator must add one, or switch assignment on for one"
}

// backOff between tries, by how many have failed.
var backOff = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute}

// Back is when to try again after so many failures: for ever, but at most every five minutes.
func Back(failures int) time.Duration {
	return backOff[min(max(failures, 0), len(backOff)-1)]
}
