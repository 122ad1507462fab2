// Package restore carries out restores: it makes a head of a snapshot in a folder of its own, replays the stored oplog to the
// exact position, and writes what comes of it into the block store, from where ingestion serves it. It does what the plan says
// that was shown to whoever asked, and nothing else.
//
// A restore belongs to who claimed it, by a token. One that is killed is claimed again after a silence and goes on from the last
// step that was finished; archives are made of equal bytes each time. Nothing is offered before it is stored and its digest is
// known. What is pushed into a running deployment becomes parts (package dump) that the backup agent beside it fetches: the
// restore is given up then, and it is the agent that says how it ends.
package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/slot"
	"github.com/heartwood-db/heartwood/daemon/backupd/snap"
	"github.com/heartwood-db/heartwood/daemon/backupd/stored"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Options are what New needs.
type Options struct {
	Backup *backup.Backup
	// Blockstores opens a block store by its id; the caller keeps them open.
	Blockstores func(ctx context.Context, id string) (blockstore.Store, error)
	Heads       *head.Manager
	Slots       *slot.Slots // of heads that run at once, shared with the jobs
	// Events keeps events for people; nil drops them.
	Events func(ctx context.Context, events ...model.Event) error
	Root   string // of the heads; restores work below Root/restores
	// AtOnce is how many restores run at a time; 0 means 2.
	AtOnce int
	Poll   time.Duration    // how often it looks for restores; 0 means 3 seconds
	Silent time.Duration    // how long a restore's daemon may be silent before another takes it; 0 means 2 minutes
	Now    func() time.Time // nil means time.Now
	Log    *slog.Logger
}

// Runner carries out restores.
type Runner struct {
	o      Options
	log    *slog.Logger
	folder string

	mu   sync.Mutex
	mine map[string]bool // being carried out here
}

// New checks the options.
func New(o Options) (*Runner, error) {
	if o.Backup == nil || o.Blockstores == nil || o.Heads == nil || o.Slots == nil || o.Root == "" {
		return nil, errors.New("restore options: Backup, Blockstores, Heads, Slots and Root are needed")
	}
	if o.AtOnce <= 0 {
		o.AtOnce = 2
	}
	if o.Poll <= 0 {
		o.Poll = 3 * time.Second
	}
	if o.Silent <= 0 {
		o.Silent = 2 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	return &Runner{o: o, log: o.Log, folder: filepath.Join(o.Root, "restores"), mine: map[string]bool{}}, nil
}

// Run claims restores for a daemon and carries them out until the context ends. What is cut short then is taken up again by
// this daemon or another.
func (r *Runner) Run(ctx context.Context, daemon string) error {
	if err := os.MkdirAll(r.folder, 0o700); err != nil {
		return fmt.Errorf("folder of restores: %w", err)
	}
	if err := r.tidy(ctx, daemon); err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "what earlier restores left was not removed", obs.KeyErr, err)
	}
	var running sync.WaitGroup
	places := make(chan struct{}, r.o.AtOnce)
	t := time.NewTicker(r.o.Poll)
	defer t.Stop()
	defer running.Wait()
	for {
		select {
		case places <- struct{}{}:
			job, ok, err := r.claim(ctx, daemon)
			if err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "could not look for restores", obs.KeyErr, err)
			}
			if ok {
				running.Go(func() {
					defer func() { <-places }()
					r.carry(ctx, job)
				})
				continue
			}
			<-places
		default:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// claim takes one restore. Those that were this daemon's before it was stopped are taken up at once.
func (r *Runner) claim(ctx context.Context, daemon string) (backup.Restore, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.o.Now().UTC()
	free := func(x *backup.Restore) bool { return !r.mine[x.ID] && r.able(x) }
	job, ok, err := r.o.Backup.ClaimRestore(ctx, daemon, now, r.o.Silent, free)
	if err == nil && !ok { // a second look without patience, at what is our own
		job, ok, err = r.o.Backup.ClaimRestore(ctx, daemon, now, 0, func(x *backup.Restore) bool { return free(x) && x.Daemon == daemon })
	}
	if ok {
		r.mine[job.ID] = true
	}
	return job, ok, err
}

// able reports whether this build can carry a restore out.
func (r *Runner) able(x *backup.Restore) bool {
	switch x.Method {
	case model.DeliverHTTP:
		return true
	case model.DeliverPush:
		return len(x.Objects) == 0 // else it is the agent's
	}
	return false
}

// tidy removes the folders of restores that are over, or that another daemon has taken up.
func (r *Runner) tidy(ctx context.Context, daemon string) error {
	entries, err := os.ReadDir(r.folder)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		x, err := r.o.Backup.Restore(ctx, e.Name())
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil && x.Status == model.RestoreInProgress && (x.Daemon == daemon || x.Daemon == "") {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(r.folder, e.Name())))
	}
	return errors.Join(errs...)
}

// work is one restore that is being carried out.
type work struct {
	*Runner
	job    backup.Restore
	plan   restoreplan.Plan
	shot   backup.Snapshot
	epoch  backup.Epoch
	blocks blockstore.Store // of the snapshot
	dir    string
	log    *slog.Logger

	// Of a push: the parts that were stored, the bytes of documents in them, and how often that was tried.
	objects []backup.Object
	written int64
	tries   int

	mu   sync.Mutex
	do   string // the step of the plan
	wait bool   // it has not begun
	step string // what is done, for people
	done int64
	all  int64
}

// refusal is a failure that no further attempt mends.
type refusal struct {
	err    error
	remedy string
}

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

func refuse(remedy, format string, args ...any) error {
	return &refusal{fmt.Errorf(format, args...), remedy}
}

// beatEvery is how often a restore says that it lives and how far it is.
const beatEvery = 5 * time.Second

// carry carries a restore out and says how it ended.
func (r *Runner) carry(ctx context.Context, job backup.Restore) {
	w := &work{Runner: r, job: job, dir: filepath.Join(r.folder, job.ID), log: r.log.With(obs.KeyKey, job.ID), step: "begins"}
	defer func() {
		r.mu.Lock()
		delete(r.mine, job.ID)
		r.mu.Unlock()
	}()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var beats sync.WaitGroup
	beating, quiet := context.WithCancel(ctx)
	beats.Go(func() { w.beat(beating, end) })
	began := r.o.Now()
	err := w.run(ctx)
	quiet()
	beats.Wait()

	cause := context.Cause(ctx)
	over := errors.Is(cause, backup.ErrState) || errors.Is(cause, backup.ErrFenced)
	switch {
	case err == nil:
		w.log.InfoContext(ctx, "restore done", obs.KeyTook, r.o.Now().Sub(began))
	case over: // cancelled by a person, or somebody else's now
		w.log.InfoContext(ctx, "restore ended early", obs.KeyReason, cause)
	case ctx.Err() != nil: // the daemon stops: the folder stays for the next attempt
		return
	default:
		w.failed(context.WithoutCancel(ctx), err)
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.log.WarnContext(ctx, "the folder of a restore was not removed", obs.KeyErr, err)
	}
}

// beat tells how far the restore is until the context ends; it ends the restore when it was cancelled or lost.
func (w *work) beat(ctx context.Context, end context.CancelCauseFunc) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		switch err := w.say(ctx); {
		case errors.Is(err, backup.ErrState) || errors.Is(err, backup.ErrFenced):
			end(err)
			return
		case err != nil && ctx.Err() == nil:
			w.log.WarnContext(ctx, "could not tell how far the restore is", obs.KeyErr, err)
		}
	}
}

func (w *work) say(ctx context.Context) error {
	w.mu.Lock()
	do, wait, step, done, all := w.do, w.wait, w.step, w.done, w.all
	w.mu.Unlock()
	return w.o.Backup.UpdateRestoreAs(ctx, w.job.ID, w.job.Token, func(x *backup.Restore) error {
		if x.Daemon == "" {
			return store.ErrUnchanged // given up: it is the agent's
		}
		x.Do, x.Waits, x.Step, x.Done, x.Total, x.Beat = do, wait, step, done, all, w.o.Now().UTC()
		return nil
	})
}

// begin names what is done now: the step of the plan, and that in words.
func (w *work) begin(ctx context.Context, do, step string, all int64) error {
	w.at(do, false)
	w.progress(step, 0, all)
	return w.say(ctx)
}

func (w *work) at(do string, wait bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.do, w.wait = do, wait
}

func (w *work) progress(step string, done, all int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.step, w.done, w.all = step, done, all
}

// attempts is how often a restore is tried whose failure may pass.
const attempts = 3

// failed says why a restore did not come to its end.
func (w *work) failed(ctx context.Context, err error) {
	remedy := "Start the restore again. If it fails the same way, look at the log of the backup daemon."
	var r *refusal
	switch {
	case errors.As(err, &r):
		remedy = r.remedy
	case errors.Is(err, head.ErrNoSpace), errors.Is(err, blockstore.ErrNoSpace):
		remedy = "Make room on the disk, then start the restore again."
	case errors.Is(err, head.ErrNoRelease):
		remedy = "Put that mongod into the release directory of a backup daemon, then start the restore again."
	case errors.Is(err, blockstore.ErrDamaged):
		remedy = "Restore from another snapshot. heartwood store check says what is damaged."
	}
	w.log.ErrorContext(ctx, "restore failed", obs.KeyErr, err)
	now := w.o.Now().UTC()
	update := w.o.Backup.UpdateRestoreAs(ctx, w.job.ID, w.job.Token, func(x *backup.Restore) error {
		x.Status, x.Finished, x.Error, x.Remedy = model.RestoreBroken, now, err.Error(), remedy
		return nil
	})
	if update != nil {
		w.log.ErrorContext(ctx, "the end of a restore was not kept", obs.KeyErr, update)
		return
	}
	w.event(ctx, model.EventRestoreFailed, "The restore of "+w.name()+" failed: "+err.Error()+".")
}

func (w *work) name() string {
	if w.shot.SetName != "" {
		return w.shot.SetName
	}
	return "cluster " + string(w.job.Job)
}

func (w *work) event(ctx context.Context, kind model.EventType, text string) {
	if w.o.Events == nil {
		return
	}
	e := model.Event{ID: model.DeriveID("restore", w.job.ID, string(kind)), Type: kind, At: w.o.Now().UTC(), GroupID: w.job.GroupID, ClusterID: w.job.Job, Text: text}
	if err := w.o.Events(ctx, e); err != nil {
		w.log.WarnContext(ctx, "event not kept", obs.KeyErr, err)
	}
}

// run goes through the steps of the plan.
func (w *work) run(ctx context.Context) error {
	if err := w.prepare(ctx); err != nil {
		return err
	}
	var err error
	for n := range attempts {
		if err = w.once(ctx); err == nil || ctx.Err() != nil || !errors.Is(err, blockstore.ErrUnavailable) {
			return err
		}
		w.log.WarnContext(ctx, "restore is tried again", obs.KeyCount, n+1, obs.KeyErr, err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(n+1) * 10 * time.Second):
		}
	}
	return err
}

// prepare reads what the plan is about, and refuses what has become impossible since.
func (w *work) prepare(ctx context.Context) error {
	const again = "Plan the restore anew."
	if err := bson.Unmarshal(w.job.Plan, &w.plan); err != nil || w.plan.Snapshot == "" {
		return refuse(again, "the plan of the restore cannot be read: %w", err)
	}
	var err error
	if w.shot, err = w.o.Backup.Snapshot(ctx, w.job.Job, w.plan.Snapshot); errors.Is(err, store.ErrNotFound) {
		return refuse(again, "snapshot %s, which the restore begins with, is gone", w.plan.Snapshot)
	} else if err != nil {
		return err
	}
	if !w.shot.Condemned.IsZero() || !w.shot.Complete {
		return refuse(again, "snapshot %s, which the restore begins with, was deleted", w.plan.Snapshot)
	}
	if w.plan.Replay {
		if w.epoch, err = w.o.Backup.Epoch(ctx, w.job.Job, w.plan.Epoch); err != nil {
			return fmt.Errorf("the history of the backup: %w", err)
		}
		if w.epoch.Head.Last.TS.Before(w.plan.Target) && w.epoch.Head.Last.TS.T <= w.plan.Target.T {
			return refuse(again, "the oplog up to the position of the restore is not stored")
		}
	}
	if w.blocks, err = w.o.Blockstores(ctx, w.shot.StoreID); err != nil {
		return fmt.Errorf("open the block store %q: %w", w.shot.StoreID, err)
	}
	return nil
}

// once carries the plan out.
func (w *work) once(ctx context.Context) error {
	if w.plan.Format == restoreplan.Files && !w.plan.Replay {
		return w.archiveSnapshot(ctx)
	}
	if err := w.fetch(ctx); err != nil {
		return err
	}
	if w.plan.Replay || w.plan.Format == restoreplan.BSON {
		if err := w.onHead(ctx); err != nil {
			return err
		}
	}
	if w.plan.Push {
		return w.offer(ctx)
	}
	if w.plan.Format == restoreplan.BSON {
		return w.archiveFolder(ctx, filepath.Join(w.dir, dumpFolder), nil)
	}
	return w.archiveFolder(ctx, head.DBPath(w.dir), func(path string) bool { return !head.Leave(path) })
}

// The marks of finished steps, so that an attempt that follows goes on after them.
const (
	fetched    = "fetched"
	replayed   = "replayed" // and exported, where that is wanted; the head is stopped
	dumpFolder = "dump"
)

func (w *work) has(mark string) bool {
	_, err := os.Stat(filepath.Join(w.dir, mark))
	return err == nil
}

func (w *work) mark(name string) error {
	return os.WriteFile(filepath.Join(w.dir, name), []byte(w.job.ID+"\n"), 0o600)
}

// fetch makes the folder of a head from the snapshot.
func (w *work) fetch(ctx context.Context) error {
	if w.has(fetched) {
		return nil
	}
	const step = "fetches the snapshot"
	if err := w.begin(ctx, restoreplan.DoFetch, step, w.shot.FileBytes); err != nil {
		return err
	}
	if err := os.RemoveAll(w.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(w.folder, 0o700); err != nil {
		return err
	}
	if err := head.Need(w.folder, w.plan.Scratch); err != nil {
		return err
	}
	_, err := snap.Restore(ctx, snap.RestoreOptions{
		Blocks: w.blocks, Job: w.job.Job, ID: w.shot.ID, Dir: w.dir, Progress: func(done, all int64) { w.progress(step, done, all) },
	})
	if errors.Is(err, blockstore.ErrNotFound) {
		return refuse("Restore from another snapshot.", "objects of snapshot %s are gone: %w", w.shot.ID, err)
	}
	if err != nil {
		return err
	}
	return w.mark(fetched)
}

// onHead starts the head, replays, exports if that is wanted, and stops it cleanly.
func (w *work) onHead(ctx context.Context) (err error) {
	if w.has(replayed) {
		return nil
	}
	next := w.delivers()
	if w.plan.Replay {
		next = restoreplan.DoReplay
	}
	w.at(next, true)
	w.progress("waits for a head", 0, 0)
	if err := w.say(ctx); err != nil {
		return err
	}
	release, err := w.o.Slots.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	pick, err := w.o.Heads.Pick(ctx, w.shot.Version, w.shot.FCV)
	if err != nil {
		return err
	}
	h, err := w.o.Heads.Start(ctx, head.Spec{Dir: w.dir, Release: pick, FCV: w.shot.FCV})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Kill()) // its folder is thrown away, or recovers at the next attempt
		}
	}()
	held, err := filter.New(w.shot.Filter, w.shot.Namespaces) // what was excluded is not in the snapshot, and may still be in the oplog
	if err != nil {
		return err
	}
	a, err := apply.Open(ctx, apply.Options{Client: h.Client(), Dir: w.dir, Filter: held, Log: w.log})
	if err != nil {
		return err
	}
	if w.plan.Replay {
		err = w.replay(ctx, a)
	}
	switch {
	case err != nil:
	case w.plan.Push:
		err = w.push(ctx, h.Client(), a)
	case w.plan.Format == restoreplan.BSON:
		err = w.export(ctx, h.Client(), a)
	}
	if err = errors.Join(err, a.Close()); err != nil {
		return err
	}
	if err := h.Stop(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if w.plan.Push {
		return nil // its parts are named by no document yet: an attempt that follows makes them anew
	}
	return w.mark(replayed)
}

// delivers is the last step of the plan that is the daemon's.
func (w *work) delivers() string {
	switch {
	case w.plan.Push:
		return restoreplan.DoParts
	case w.plan.Format == restoreplan.BSON:
		return restoreplan.DoExport
	}
	return restoreplan.DoArchive
}

// replay applies the stored oplog through the target, and not an entry more.
func (w *work) replay(ctx context.Context, a *apply.Applier) error {
	const step = "replays the oplog"
	if err := w.begin(ctx, restoreplan.DoReplay, step, w.plan.Oplog.Bytes); err != nil {
		return err
	}
	id := w.epoch.StoreID
	if id == "" {
		id = w.shot.StoreID
	}
	blocks, err := w.o.Blockstores(ctx, id)
	if err != nil {
		return fmt.Errorf("open the block store %q: %w", id, err)
	}
	reader := &stored.Reader{Records: w.o.Backup, Blocks: blocks, Job: w.job.Job, Epoch: w.epoch.Number, Start: w.epoch.Start}
	feed := reader.Oplog(a.Applied(), a.ReplayFrom())
	a.Behind(true)
	for {
		covered := feed.Covered()
		enough := func() bool {
			w.progress(step, a.Stats().Bytes, w.plan.Oplog.Bytes)
			return !feed.Covered().TS.Before(w.plan.Target)
		}
		err := a.Apply(ctx, feed.Entries(ctx, enough), w.plan.Target)
		switch {
		case errors.Is(err, apply.ErrNewSnapshot), errors.Is(err, apply.ErrCorruption), errors.Is(err, apply.ErrUnknown):
			return refuse("Restore to an earlier moment, or from a later snapshot.", "the replay ended before its target: %w", err)
		case errors.Is(err, stored.ErrLost):
			return refuse("Restore to an earlier moment.", "a part of the stored oplog is gone: %w", err)
		case err != nil:
			return err
		}
		through := feed.Covered()
		switch {
		case !through.TS.Before(w.plan.Target):
			return nil
		case through == covered: // nothing more is stored
			if through.TS.T > w.plan.Target.T || !w.epoch.Head.Last.TS.Before(w.plan.Target) {
				return nil
			}
			return refuse("Plan the restore anew.", "the stored oplog ends at %s, before the target", through)
		}
	}
}

// only is the filter of the plan's selection; nil wants everything.
func (w *work) only() (*filter.Filter, error) {
	if len(w.plan.Selected) == 0 {
		return nil, nil //nolint:nilnil // the nil filter wants everything
	}
	return filter.New(filter.Include, w.plan.Selected)
}
