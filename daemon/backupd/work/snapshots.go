package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/daemon/backupd/groom"
	"github.com/heartwood-db/heartwood/daemon/backupd/head"
	"github.com/heartwood-db/heartwood/daemon/backupd/job"
	"github.com/heartwood-db/heartwood/daemon/backupd/mark"
	"github.com/heartwood-db/heartwood/daemon/backupd/snap"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// cloneDir holds the clone of a head's files while it is stored.
const cloneDir = "clone"

// snapshot takes a snapshot: the head is stopped, its files are stored. Where the file system can share blocks, a clone of them
// is stored while the head goes on.
func (w *Worker) snapshot(ctx context.Context, s *job.State, take job.Take) error {
	if err := w.startHead(ctx, s); err != nil { // the applier knows the state, the head its sizes
		return err
	}
	x, opts, err := w.plan(ctx, s, take)
	if err != nil {
		return err
	}
	if err := w.h.Backup.AddSnapshot(ctx, w.token, x); err != nil {
		return fmt.Errorf("begin the snapshot: %w", err)
	}
	held, _ := w.head.applier.Catalogue()
	if err := w.h.Backup.SetContents(ctx, w.id, x.ID, snap.Contents(ctx, w.head.head.Client(), held)); err != nil {
		return errors.Join(fmt.Errorf("note what the snapshot holds: %w", err), w.dropRecord(ctx, x.ID))
	}
	w.stopHead(ctx)
	if w.mark.Dirty {
		return errors.Join(fmt.Errorf("stop the head for a snapshot: %w", head.ErrDirty), w.dropRecord(ctx, x.ID))
	}
	began := time.Now()
	if !w.h.Shares {
		m, err := snap.Write(ctx, opts)
		return w.taken(ctx, s, x, take, m, time.Since(began), err)
	}
	clone := filepath.Join(w.dir(), cloneDir)
	err = os.RemoveAll(clone)
	if err == nil {
		_, err = head.Clone(ctx, opts.DBPath, clone)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%w: clone the head's files: %w", errStoring, err), os.RemoveAll(clone), w.dropRecord(ctx, x.ID))
	}
	opts.DBPath, opts.Trust = clone, false
	var m *tree.Manifest
	now := *s
	w.beside(ctx, x.ID,
		func(ctx context.Context) { m, err = snap.Write(ctx, opts) },
		func(ctx context.Context) error {
			return errors.Join(w.taken(ctx, &now, x, take, m, time.Since(began), err), os.RemoveAll(clone))
		})
	return nil
}

// plan says what the snapshot is and what is stored.
func (w *Worker) plan(ctx context.Context, s *job.State, take job.Take) (x backup.Snapshot, o snap.Options, err error) {
	bs, err := w.h.Blockstores(ctx, s.Job.StoreID)
	if err != nil {
		return x, o, fmt.Errorf("%w: open store %q: %w", errStoring, s.Job.StoreID, err)
	}
	a, h := w.head.applier, w.head.head
	state, err := a.State()
	if err != nil {
		return x, o, fmt.Errorf("state of the applier: %w", err)
	}
	id := take.Wish
	if id == "" {
		id = string(model.NewID())
	}
	applied := a.Applied()
	x = backup.Snapshot{
		ID: id, GroupID: s.Job.GroupID, Job: w.id, Epoch: s.Epoch.Number, At: job.Time(applied.TS), Kinds: take.Kinds, Expires: take.Expires,
		Created: s.Now, Applied: applied, ReplayFrom: a.ReplayFrom(), StoreID: s.Job.StoreID, SetName: s.Epoch.SetName, Version: h.Version,
		FCV: cmp.Or(a.FCV(), s.Epoch.FCV), Filter: w.mark.Filter.Kind, Namespaces: w.mark.Filter.Namespaces, Encrypted: s.Config.Encrypted, DataBytes: dataBytes(ctx, h.Client()),
	}
	meta := snap.Meta{
		Job: w.id, Epoch: x.Epoch, SetName: x.SetName, ReplicaSetID: s.Epoch.ReplicaSetID, Mongod: x.Version, FCV: x.FCV,
		Applied: x.Applied, ReplayFrom: x.ReplayFrom, Filter: x.Filter, Namespaces: x.Namespaces,
	}
	if err := meta.SetState(state); err != nil {
		return x, o, err
	}
	ids := newestFirst(s)
	prev, err := snap.Last(ctx, bs, w.id, ids, w.log)
	if err != nil {
		return x, o, fmt.Errorf("%w: %w", errStoring, err)
	}
	return x, snap.Options{
		Blocks: bs, DBPath: head.DBPath(w.dir()), Prev: prev, ID: id, Token: w.token, Created: s.Now, Meta: meta,
		Trust:    prev != nil && prev.ID == w.mark.Snapshot,
		Progress: func(done, total int64) { w.tell(ctx, "snapshot", x.Created, done, total, "bytes") },
	}, nil
}

// taken ends a snapshot: it counts from the moment its record says that it is complete.
func (w *Worker) taken(ctx context.Context, s *job.State, x backup.Snapshot, take job.Take, m *tree.Manifest, took time.Duration, err error) error {
	if err != nil {
		w.h.Metrics.snapshots.WithLabelValues("failed").Inc()
		return errors.Join(fmt.Errorf("%w: %w", errStoring, err), w.dropRecord(ctx, x.ID))
	}
	x.Complete, x.Finished, x.Took = true, w.h.now(), took.Milliseconds()
	x.Files, x.FileBytes, x.AddedBytes = m.Stats.Files, m.Stats.Bytes, m.Stats.Stored
	if err := w.h.Backup.AddSnapshot(ctx, w.token, x); err != nil {
		return fmt.Errorf("complete the snapshot: %w", err)
	}
	if !w.h.Shares {
		w.mark.Snapshot = x.ID
		if err := mark.Write(w.dir(), w.mark); err != nil {
			return err
		}
	}
	if err := w.h.Backup.MarkSeeded(ctx, w.id, x.Epoch, w.h.now()); err != nil {
		return err
	}
	w.h.Metrics.snapshots.WithLabelValues("complete").Inc()
	w.h.Metrics.snapshotSeconds.Observe(took.Seconds())
	w.h.Metrics.snapshotBytes.Add(float64(x.FileBytes))
	w.h.Metrics.addedBytes.Add(float64(x.AddedBytes))
	w.log.InfoContext(ctx, "snapshot taken", obs.KeyKey, x.ID, obs.KeyBytes, x.FileBytes, obs.KeyTook, took.Round(time.Millisecond))
	w.chores = time.Time{} // a new one may let others expire
	err = w.h.Backup.UpdateJobAs(ctx, w.id, w.token, func(j *backup.Job) error {
		if j.Problem != nil && j.Problem.Snapshots {
			j.Problem = nil
		}
		j.Last, j.Next, j.HeadBytes, j.Activity = x.ID, take.Next, x.FileBytes, nil
		j.Wishes = slices.DeleteFunc(j.Wishes, func(wish backup.Wish) bool { return wish.ID == x.ID })
		return nil
	})
	if err != nil {
		return err
	}
	w.h.Event(ctx, model.Event{
		Type: model.EventSnapshotTaken, GroupID: s.Job.GroupID, ClusterID: w.id,
		Text: fmt.Sprintf("A snapshot of %s was taken; it is kept until %s.", x.At.Format(time.RFC3339), x.Expires.UTC().Format(time.DateOnly)),
	})
	return nil
}

// dropRecord forgets a snapshot that came to nothing. What it left in the store is groomed.
func (w *Worker) dropRecord(ctx context.Context, id string) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), byeLimit)
	defer stop()
	return errors.Join(w.h.Backup.Condemn(ctx, w.id, id, w.h.now()), w.h.Backup.DeleteSnapshot(ctx, w.id, id))
}

// sizesLimit bounds asking a head for the sizes of its databases; what is not known then stays 0.
const sizesLimit = 20 * time.Second

// dataBytes adds up the documents' bytes of a head.
func dataBytes(ctx context.Context, c *mongo.Client) int64 {
	ctx, stop := context.WithTimeout(ctx, sizesLimit)
	defer stop()
	names, err := c.ListDatabaseNames(ctx, bson.D{})
	if err != nil {
		return 0
	}
	var sum float64
	for _, name := range names {
		if name == "local" {
			continue
		}
		var st struct {
			DataSize float64 `bson:"dataSize"`
		}
		if err := c.Database(name).RunCommand(ctx, bson.D{{Key: "dbStats", Value: 1}}).Decode(&st); err != nil {
			return 0
		}
		sum += st.DataSize
	}
	return int64(sum)
}

// How often blocks are groomed and a snapshot is read again.
const (
	groomEvery  = 24 * time.Hour
	verifyEvery = 7 * 24 * time.Hour
)

// chore looks now and then at what has expired, beside the steps. It never goes beside a snapshot of the same job.
func (w *Worker) chore(ctx context.Context, s *job.State) {
	if w.aside != nil || s.Now.Sub(w.chores) < w.h.Chores || !w.h.Self().Garbage {
		return
	}
	w.chores = s.Now
	o := groom.Options{
		Records: w.h.Backup, Blocks: w.h.Blockstores, Config: s.Config, Job: s.Job, Token: w.token, Grace: w.h.Grace, Now: s.Now,
		Tree: s.Now.Sub(w.groomed) >= groomEvery, Clean: w.h.clean,
	}
	now := *s
	var err error
	var r groom.Report
	w.beside(ctx, "",
		func(ctx context.Context) {
			if r, err = groom.Pass(ctx, o); err == nil {
				err = w.verify(ctx, &now)
			}
		},
		func(ctx context.Context) error {
			w.tidied(ctx, &now, r, err)
			return nil // it comes again; the backup itself is not concerned
		})
}

// tidied tells what a look at what has expired came to.
func (w *Worker) tidied(ctx context.Context, s *job.State, r groom.Report, err error) {
	if err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, "what has expired could not all be deleted; it is tried again", obs.KeyErr, err)
	}
	if r.Groomed && err == nil {
		w.groomed = s.Now
		w.h.Metrics.freed.Add(float64(r.Freed))
	}
	if r.Cleaned.Leftovers > 0 {
		w.log.InfoContext(ctx, "what killed writers left in the store was removed", obs.KeyCount, r.Cleaned.Leftovers, obs.KeyBytes, r.Cleaned.Bytes)
	}
	if n := len(r.Condemned) + r.Deleted; n > 0 || r.Freed > 0 {
		w.log.InfoContext(ctx, "expired snapshots were deleted", obs.KeyCount, n, obs.KeyBytes, r.Freed)
	}
	for _, warning := range job.Warnings(*s, w.h.MinWindow) {
		w.log.WarnContext(ctx, "this will become a fault", obs.KeyCode, warning.Code, obs.KeyReason, warning.Text, obs.KeyHint, warning.Remedy)
	}
}

// verify reads a snapshot again that was not for a week, the one that waits longest.
func (w *Worker) verify(ctx context.Context, s *job.State) error {
	var pick *backup.Snapshot
	for i := range s.Snapshots {
		x := &s.Snapshots[i]
		seen := x.Verified
		if seen.IsZero() {
			seen = x.Created
		}
		if !x.Complete || !x.Condemned.IsZero() || x.VerifyError != "" || s.Now.Sub(seen) < verifyEvery {
			continue
		}
		if pick == nil || x.Verified.Before(pick.Verified) {
			pick = x
		}
	}
	if pick == nil {
		return nil
	}
	bs, err := w.h.Blockstores(ctx, pick.StoreID)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(uint64(s.Now.UnixNano()), uint64(w.token))) //nolint:gosec // which blocks are read is no secret
	fault, read, err := snap.Check(ctx, bs, w.id, pick.ID, rnd)
	if err != nil {
		return fmt.Errorf("read snapshot %s again: %w", pick.ID, err)
	}
	outcome := "whole"
	if fault != "" {
		outcome = "damaged"
		w.log.ErrorContext(ctx, "a snapshot is damaged; another one is taken", obs.KeyKey, pick.ID, obs.KeyReason, fault)
		w.h.Event(ctx, model.Event{Type: model.EventBackupUnexpected, GroupID: s.Job.GroupID, ClusterID: w.id, Text: fmt.Sprintf("The snapshot of %s is damaged: %s. Another one is taken.", pick.At.Format(time.RFC3339), fault)})
	}
	w.h.Metrics.verified.WithLabelValues(outcome).Inc()
	w.log.InfoContext(ctx, "snapshot read again", obs.KeyKey, pick.ID, obs.KeyState, outcome, obs.KeyBytes, read)
	return w.h.Backup.UpdateSnapshot(ctx, w.id, pick.ID, func(x *backup.Snapshot) error {
		if !x.Condemned.IsZero() {
			return store.ErrUnchanged
		}
		x.Verified, x.VerifyError = w.h.now(), fault
		return nil
	})
}
