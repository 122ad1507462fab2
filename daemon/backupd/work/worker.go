package work

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/daemon/backupd/mark"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Worker has one job, for as long as it has the lease. Its fields belong to the goroutine of Run, but for what has a lock.
type Worker struct {
	h     *Host
	id    model.ID
	lease store.Lease
	token int64
	log   *slog.Logger

	epoch int64 // whose folder dir is; 0: there is none
	mark  mark.Mark
	head  *running // nil: it does not run
	aside *aside   // what goes on beside the steps: a snapshot being stored, or a look at what has expired; nil for nothing

	chores  time.Time // when what has expired was looked at last
	groomed time.Time // when blocks were groomed last
	shown   shown     // what people were told last

	progress progress
}

// shown is what the job's document says, so that it is written only when it changes.
type shown struct {
	stage  backup.Stage
	reason string
}

// aside is work that goes on in a goroutine of its own.
type aside struct {
	snapshot string // id of the snapshot that is being stored; "" for chores
	done     chan struct{}
	cancel   context.CancelFunc
	finish   func(ctx context.Context) error // called by the worker when done is closed
}

// New gives a job a worker. The lease is the job's, just acquired.
func New(h *Host, id model.ID, lease store.Lease) *Worker {
	return &Worker{h: h, id: id, lease: lease, token: lease.Token, log: h.Log.With(obs.KeyCluster, id)}
}

// Take makes the job this daemon's: from here on those who had it before are refused.
func (w *Worker) Take(ctx context.Context, storeID string) error {
	var before string
	var group model.ID
	err := w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		before, group = j.Daemon, j.GroupID
		if j.Daemon != w.h.ID {
			j.Daemon, j.Bound = w.h.ID, w.h.now()
		}
		if j.StoreID == "" {
			j.StoreID = storeID
		}
		if p := j.Problem; p != nil && !p.Resync { // a new try, and a new count
			j.Problem = nil
		}
		j.Activity = nil
		if j.Stage == backup.StageBinding || j.Stage == "" {
			j.Stage, j.StageSince = backup.StageSync, w.h.now()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take backup %s: %w", w.id, err)
	}
	if before != "" && before != w.h.ID {
		w.h.Event(ctx, model.Event{Type: model.EventBackupMoved, GroupID: group, ClusterID: w.id, Text: fmt.Sprintf("The backup moved from %s to %s: the first gave no sign of life.", before, w.h.ID)})
	}
	return w.h.Backup.MarkStarted(ctx, w.id, w.h.now())
}

// stopLimit is how long a worker may take to end when the daemon stops: a batch is finished, the head is stopped cleanly.
const stopLimit = time.Hour

// Run works on the job until the context ends, the lease is lost or the job is gone, and gives the lease back.
func (w *Worker) Run(ctx context.Context) {
	kept, stop := w.lease.Keep(ctx)
	w.log.InfoContext(ctx, "backup taken", obs.KeyInstance, w.h.ID)
	err := w.loop(kept)
	w.settle(ctx)
	stop()
	switch {
	case errors.Is(err, backup.ErrFenced), errors.Is(context.Cause(kept), store.ErrLeaseLost):
		w.log.WarnContext(ctx, "the backup is another daemon's now, or the store was away for too long", obs.KeyErr, errors.Join(err, context.Cause(kept)))
	case err != nil && ctx.Err() == nil:
		w.log.ErrorContext(ctx, "work on a backup ended", obs.KeyErr, err)
	}
	if err := Release(ctx, &w.lease); err != nil {
		w.log.WarnContext(ctx, "lease not released; it runs out by itself", obs.KeyErr, err)
	}
}

// settle ends what goes on, cleanly, whatever has happened to the context.
func (w *Worker) settle(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer stop()
	if a := w.aside; a != nil {
		a.cancel()
		<-a.done
		w.aside = nil
		if err := a.finish(ctx); err != nil {
			w.log.InfoContext(ctx, "work was cut short; it is done again", obs.KeyErr, err)
		}
	}
	w.stopHead(ctx)
	w.progress.wait()
}

// errGone ends the work on a job that does not exist any more.
var errGone = errors.New("the backup is gone")

// loop takes step after step.
func (w *Worker) loop(ctx context.Context) error {
	if err := w.find(ctx); err != nil {
		return err
	}
	for {
		s, err := w.state(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errGone):
			return nil
		case errors.Is(err, backup.ErrFenced):
			return err
		case err != nil:
			w.log.WarnContext(ctx, "cannot read how the backup is", obs.KeyErr, err)
			w.rest(ctx, w.h.Poll)
			continue
		}
		step := job.Next(s)
		began := time.Now()
		again, err := w.do(ctx, &s, step)
		w.h.Metrics.step(step.Kind, time.Since(began))
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, backup.ErrFenced):
			return err
		case errors.Is(err, errGone):
			return nil
		case err != nil:
			if err := w.failed(ctx, &s, step, err); err != nil {
				if errors.Is(err, backup.ErrFenced) {
					return err
				}
				w.log.WarnContext(ctx, "cannot note what is wrong with the backup", obs.KeyErr, err)
			}
			again = false
		case s.Job.Problem != nil && step.Kind != job.Wait && (!s.Job.Problem.Snapshots || step.Kind == job.Snapshot && w.aside == nil):
			if err := w.mended(ctx); err != nil {
				return err
			}
		}
		if !again {
			w.rest(ctx, w.h.Poll)
		}
	}
}

// rest waits for news: for a while, or until what goes on aside is done. A head that others wait for is stopped meanwhile.
func (w *Worker) rest(ctx context.Context, d time.Duration) {
	if w.head != nil && w.head.tired(true) {
		w.stopHead(ctx)
	}
	var done <-chan struct{}
	if w.aside != nil {
		done = w.aside.done
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-done:
	}
}

// find looks what of the job is on this disk.
func (w *Worker) find(ctx context.Context) error {
	epochs, err := w.h.epochs(w.id)
	if err != nil {
		return fmt.Errorf("look for the head: %w", err)
	}
	if len(epochs) == 0 {
		return nil
	}
	last := epochs[0]
	for _, n := range epochs {
		last = max(last, n)
	}
	for _, n := range epochs {
		if n != last {
			if err := os.RemoveAll(w.h.epochDir(w.id, n)); err != nil {
				return err
			}
		}
	}
	w.epoch = last
	m, ok, err := mark.Read(w.dir())
	if err != nil {
		return fmt.Errorf("read the mark of the head: %w", err)
	}
	w.mark = m
	if !ok || m.Job != w.id || m.Epoch != last {
		w.mark = mark.Mark{Job: w.id, Epoch: last, Dirty: true}
	}
	clean, err := w.h.Heads.Clean(w.dir())
	if err != nil || !clean {
		w.log.WarnContext(ctx, "the head was not stopped cleanly: it is made again", obs.KeyPath, w.dir(), obs.KeyErr, err)
		w.mark.Dirty = true
	}
	return nil
}

func (w *Worker) dir() string { return w.h.epochDir(w.id, w.epoch) }

// state reads everything the next decision is made of.
func (w *Worker) state(ctx context.Context) (job.State, error) {
	s := job.State{Now: w.h.now(), Daemon: w.h.Self()}
	var err error
	if s.Config, err = w.h.Backup.Config(ctx, w.id); err != nil {
		return s, gone(err)
	}
	if s.Job, err = w.h.Backup.Job(ctx, w.id); err != nil {
		return s, gone(err)
	}
	if s.Job.Token > w.token {
		return s, fmt.Errorf("backup %s: %w", w.id, backup.ErrFenced)
	}
	if s.Job.Epoch > 0 && s.Job.Epoch >= s.Job.First {
		e, err := w.h.Backup.Epoch(ctx, w.id, s.Job.Epoch)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return s, err
		}
		if err == nil {
			s.Epoch = &e
		}
	}
	if s.Snapshots, err = w.h.Backup.Snapshots(ctx, w.id); err != nil {
		return s, err
	}
	s.Head = w.seen()
	if w.aside != nil {
		if s.Taking = w.aside.snapshot; s.Taking == "" {
			s.Taking = "-" // no snapshot beside chores
		}
	}
	return s, nil
}

func gone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return errGone
	}
	return err
}

// seen is the head as decisions see it.
func (w *Worker) seen() job.Head {
	h := job.Head{Epoch: w.epoch, Phase: w.mark.Phase, Dirty: w.mark.Dirty, Applied: w.mark.Applied, ReplayFrom: w.mark.ReplayFrom}
	if w.mark.From != "" {
		h.Phase = job.None // half restored
	}
	if w.head != nil && w.head.applier != nil {
		a := w.head.applier
		h.Applied, h.ReplayFrom = a.Applied(), a.ReplayFrom()
		if end, open, _ := a.Window(); open {
			h.WindowEnd = end.TS
			for _, ids := range a.Missing() {
				h.Missing += len(ids)
			}
		}
	}
	return h
}

// do carries out a step. again says that there may be more to do at once.
func (w *Worker) do(ctx context.Context, s *job.State, step job.Step) (again bool, err error) {
	if w.aside != nil {
		if done, err := w.collect(ctx); done || err != nil {
			return err == nil, err
		}
	}
	if err := w.show(ctx, s, step); err != nil {
		return false, err
	}
	if step.Kind != job.Terminate {
		w.chore(ctx, s)
	}
	if w.h.Self().ID != "" && !w.h.Self().BackupJobs && s.Config.Status != model.BackupTerminating {
		return false, w.handOver(ctx)
	}
	switch step.Kind {
	case job.Wait:
		if step.Stage == backup.StageCatchUp && w.head == nil && w.mark.Phase == job.Window {
			return true, w.startHead(ctx, s) // what is missing is known only to a head that runs
		}
		return false, nil
	case job.Seed:
		return true, w.seed(ctx, s)
	case job.Restore:
		return true, w.restore(ctx, s, step.Snapshot)
	case job.Apply:
		return w.apply(ctx, s, step.Until)
	case job.Ask:
		return false, w.ask(ctx, s)
	case job.Fill:
		return true, w.fill(ctx, s)
	case job.Finish:
		return true, w.finish(ctx, s)
	case job.Snapshot:
		return true, w.snapshot(ctx, s, step.Take)
	case job.Discard:
		return true, w.discard(ctx)
	case job.Resync, job.Broken:
		return false, w.problem(ctx, s, *step.Problem)
	case job.Retire:
		w.stopHead(ctx)
		return false, nil
	case job.Terminate:
		return false, w.terminate(ctx)
	}
	return false, fmt.Errorf("a step %q that this daemon does not know", step.Kind)
}

// collect ends what went on aside, if it has come to its end.
func (w *Worker) collect(ctx context.Context) (bool, error) {
	select {
	case <-w.aside.done:
	default:
		return false, nil
	}
	a := w.aside
	w.aside = nil
	a.cancel()
	return true, a.finish(ctx)
}

// beside starts work that goes on while steps are taken.
func (w *Worker) beside(ctx context.Context, snapshot string, work func(ctx context.Context), finish func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	a := &aside{snapshot: snapshot, done: make(chan struct{}), cancel: cancel, finish: finish}
	w.aside = a
	go func() {
		defer close(a.done)
		work(ctx)
	}()
}

// show tells people what is done or waited for, when it changed.
func (w *Worker) show(ctx context.Context, s *job.State, step job.Step) error {
	now := shown{step.Stage, step.Reason}
	if now == w.shown && s.Job.Stage == step.Stage {
		return nil
	}
	err := w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		if step.Stage != "" && j.Stage != step.Stage {
			j.Stage, j.StageSince = step.Stage, s.Now
		}
		j.Reason = step.Reason
		return nil
	})
	if err == nil {
		w.log.DebugContext(ctx, "backup", obs.KeyState, string(step.Stage), obs.KeyReason, step.Reason)
		w.shown = now
	}
	return err
}

// failed notes why a step failed, and what follows for the head and the history.
func (w *Worker) failed(ctx context.Context, s *job.State, step job.Step, err error) error {
	if w.head != nil && w.head.died() {
		err = fmt.Errorf("%w: %w", errDied, err)
	}
	if errors.Is(err, errStoring) && !errors.Is(err, headDirty) {
		p := job.JudgeSnapshot(err, s.Job.Problem, s.Now)
		w.h.Metrics.problems.WithLabelValues(p.Code).Inc()
		w.log.ErrorContext(ctx, "a snapshot failed; the head goes on", obs.KeyCode, p.Code, obs.KeyErr, err, obs.KeyHint, p.Remedy)
		return w.problem(ctx, s, p)
	}
	j := job.Judge(err, s.Job.Problem, s.Now)
	w.h.Metrics.problems.WithLabelValues(j.Problem.Code).Inc()
	w.log.ErrorContext(ctx, "a step of a backup failed", obs.KeyState, string(step.Kind), obs.KeyCode, j.Problem.Code, obs.KeyErr, err, obs.KeyHint, j.Problem.Remedy)
	applied := w.seen().Applied
	w.killHead(ctx, j.Dirty)
	if j.Dirty && w.epoch != 0 && step.Kind != job.Restore {
		w.mark.Dirty = true
		if err := mark.Write(w.dir(), w.mark); err != nil {
			w.log.WarnContext(ctx, "the mark of the head was not written", obs.KeyErr, err)
		}
	}
	if step.Kind == job.Restore && errors.Is(err, blockstore.ErrDamaged) {
		// An older one may be whole: it is chosen next.
		text := err.Error()
		if err := w.h.Backup.UpdateSnapshot(ctx, w.id, step.Snapshot.ID, func(x *backup.Snapshot) error {
			x.Verified, x.VerifyError = s.Now, text
			return nil
		}); err != nil {
			return err
		}
		j.Problem.Resync, j.Problem.Next = false, s.Now
	}
	if j.Break && s.Epoch != nil && !applied.IsZero() {
		if err := w.h.Backup.AddBreak(ctx, w.id, s.Epoch.Number, backup.Break{At: applied.TS, Why: j.Problem.Text}); err != nil {
			return err
		}
	}
	return w.problem(ctx, s, j.Problem)
}

// errStoring is in the chain of errors about storing a snapshot: the head is as good as before.
var errStoring = errors.New("the snapshot was not stored")

// errDied is in the chain of errors that follow from the end of the head's process.
var errDied = fmt.Errorf("the head's mongod has ended by itself: %w", headDirty)

// problem keeps a problem, and asks for a new full read where that is the remedy.
func (w *Worker) problem(ctx context.Context, s *job.State, p backup.Problem) error {
	if p.Since.IsZero() {
		p.Since = s.Now
	}
	if p.Retries == 0 { // not one of Judge, which counts
		if p.Retries = 1; s.Job.Problem != nil && s.Job.Problem.Code == p.Code {
			p.Since, p.Retries = s.Job.Problem.Since, s.Job.Problem.Retries+1
		}
		if !p.Resync {
			p.Next = s.Now.Add(job.Back(p.Retries - 1))
		}
	}
	asked := false
	err := w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		asked = false
		j.Problem, j.Activity, j.Reason = &p, nil, p.Text
		if p.Snapshots {
			return nil
		}
		if j.Stage != backup.StageBroken {
			j.Stage, j.StageSince = backup.StageBroken, s.Now
		}
		if p.Resync && j.Resync == nil && s.Epoch != nil && j.Epoch == s.Epoch.Number {
			j.Resync, asked = &backup.Resync{Why: p.Text, At: s.Now}, true
		}
		return nil
	})
	w.shown = shown{}
	if err == nil && asked {
		w.h.Metrics.resyncs.Inc()
		w.h.Event(ctx, model.Event{Type: model.EventSyncRequired, GroupID: s.Job.GroupID, ClusterID: w.id, Text: "A new full read is needed: " + p.Text + ". What was stored before stays restorable until it expires."})
	}
	return err
}

// mended forgets a problem that is over.
func (w *Worker) mended(ctx context.Context) error {
	w.log.InfoContext(ctx, "the backup goes on")
	return w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		j.Problem = nil
		return nil
	})
}

// handOver gives the job to whoever takes it: administrators switched the backups of this daemon off.
func (w *Worker) handOver(ctx context.Context) error {
	if w.aside != nil {
		return nil // first what goes on
	}
	w.stopHead(ctx)
	err := w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		j.Daemon, j.Reason, j.Activity = "", "this daemon runs no backups any more; another one takes it", nil
		return nil
	})
	return errors.Join(err, errGone)
}

// progress writes the job's activity now and then, from whichever goroutine.
type progress struct {
	mu    sync.Mutex
	last  time.Time
	wg    sync.WaitGroup
	going bool
}

const progressEvery = 3 * time.Second

func (p *progress) wait() { p.wg.Wait() }

// tell keeps how far long work is, for people, at most every few seconds. It never waits for the store.
func (w *Worker) tell(ctx context.Context, what string, since time.Time, done, total int64, unit string) {
	p := &w.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.going || time.Since(p.last) < progressEvery {
		return
	}
	p.last, p.going = time.Now(), true
	p.wg.Go(func() {
		err := w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
			j.Activity = &backup.Activity{What: what, Since: since, Done: done, Total: total, Unit: unit}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			w.log.DebugContext(ctx, "progress not kept", obs.KeyErr, err)
		}
		p.mu.Lock()
		p.going = false
		p.mu.Unlock()
	})
}
