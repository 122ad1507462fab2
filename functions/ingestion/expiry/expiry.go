// Package expiry is the duty that forgets what backups no longer need, deletes backups that are terminated, and objects that nothing
// names.
package expiry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/ingestion/reply"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Area is what is needed of the backup area.
type Area interface {
	RunningConfigs(ctx context.Context) ([]backup.Config, error)
	Job(ctx context.Context, id model.ID) (backup.Job, error)
	UpdateJob(ctx context.Context, id model.ID, change func(*backup.Job) error) error
	UpdateJobAs(ctx context.Context, id model.ID, token int64, change func(*backup.Job) error) error
	Terminated(ctx context.Context, cluster model.ID, now time.Time) error
	Epochs(ctx context.Context, job model.ID) ([]backup.Epoch, error)
	EndEpoch(ctx context.Context, job model.ID, n int64, why string, now time.Time) error
	DeleteEpoch(ctx context.Context, job model.ID, n int64) error
	DropCollections(ctx context.Context, job model.ID, n int64, limit int) (more bool, err error)
	DropSeeds(ctx context.Context, job model.ID, n int64, limit int) ([]string, error)
	ExpireSlices(ctx context.Context, job model.ID, n int64, before oplog.OpTime, limit int) ([]string, error)
	Snapshots(ctx context.Context, job model.ID) ([]backup.Snapshot, error)
	Condemn(ctx context.Context, job model.ID, id string, now time.Time) error
	DeleteSnapshot(ctx context.Context, job model.ID, id string) error
	OpenRestores(ctx context.Context) ([]backup.Restore, error)
	Restores(ctx context.Context, q backup.RestoreQuery) ([]backup.Restore, string, error)
	KillRestore(ctx context.Context, id, why string, now time.Time) error
	UpdateRestore(ctx context.Context, id string, change func(*backup.Restore) error) error
	CleanableRestores(ctx context.Context, now time.Time, limit int) ([]backup.Restore, error)
	SetCleaned(ctx context.Context, id string, now time.Time) error
	Sweep(ctx context.Context, storeID string) (backup.Sweep, error)
	SaveSweep(ctx context.Context, s backup.Sweep) error
	Known(ctx context.Context, keys []string) (map[string]bool, error)
	Stores(ctx context.Context) ([]model.BlockStore, error)
}

// Events is what is needed of the alerting area.
type Events interface {
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Leases is what is needed of the kernel.
type Leases interface {
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, bool, error)
}

// Options are what New needs; all but Blobs and Reg.
type Options struct {
	Area   Area
	Events Events
	Leases Leases
	Blobs  reply.Blobs // nil: the duty has nothing to do here
	Log    *slog.Logger
	Reg    prometheus.Registerer // nil: no metrics
}

// Duty is the duty backup-expire.
type Duty struct {
	o       Options
	expired *prometheus.CounterVec
}

// New returns it.
func New(o Options) *Duty {
	return &Duty{o: o, expired: httpx.Register(o.Reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "heartwood_ingestion_backup_expired_total", Help: "Objects of backups that were deleted, by kind: oplog, seed, restore, swept, terminated.",
	}, []string{"kind"}))}
}

// Bounds of one run of the duty, and of its parts.
const (
	expireBound   = 2_000 // objects
	expirePage    = 200
	restoreBound  = 20
	longestOplog  = 14 * 24 * time.Hour // that a head which lags is waited for
	sweepEvery    = 24 * time.Hour
	sweepAge      = 24 * time.Hour   // younger objects may still be named by a document
	terminateHold = time.Minute      // of the lease while a backup is deleted
	releaseLimit  = 10 * time.Second // for giving it back
)

// everything is behind every position.
var everything = oplog.OpTime{TS: bson.Timestamp{T: math.MaxUint32, I: math.MaxUint32}}

// run counts what a run of the duty may still do.
type run struct {
	left int
	done int64
}

func (r *run) more() bool { return r.left <= 0 }

// Run is the duty backup-expire: old oplog, sync slices that a head has taken in, epochs of which nothing is left, backups
// that are being deleted, pushes that nobody takes, objects of restores that are over, and objects that no document names. What a document names is
// forgotten before its object goes, so that an interruption leaves nothing but what the sweep finds.
func (d *Duty) Run(ctx context.Context, now time.Time) (store.PassReport, error) {
	if d.o.Blobs == nil {
		return store.PassReport{Note: "this server has no block store"}, nil
	}
	r := &run{left: expireBound}
	configs, err := d.o.Area.RunningConfigs(ctx)
	if err != nil {
		return store.PassReport{}, err
	}
	open, err := d.o.Area.OpenRestores(ctx)
	if err != nil {
		return store.PassReport{}, err
	}
	var failed []error // one store that is away does not keep the others waiting
	for i := range configs {
		if r.more() || ctx.Err() != nil {
			break
		}
		c := &configs[i]
		if c.Status == model.BackupTerminating {
			err = d.terminate(ctx, c, r, now)
		} else {
			err = d.expireJob(ctx, c, open, r, now)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("backup of cluster %s: %w", c.ClusterID, err))
		}
	}
	if err := d.expirePushes(ctx, open, r, now); err != nil {
		failed = append(failed, err)
	}
	if err := d.cleanRestores(ctx, r, now); err != nil {
		failed = append(failed, err)
	}
	if err := d.sweep(ctx, r, now); err != nil {
		failed = append(failed, err)
	}
	report := store.PassReport{Done: r.done, More: r.more() && len(failed) == 0}
	return report, errors.Join(append(failed, ctx.Err())...)
}

// remove deletes objects.
func (d *Duty) remove(ctx context.Context, bs blockstore.Store, kind string, keys []string, r *run) error {
	for _, key := range keys {
		if err := bs.Delete(ctx, key); err != nil {
			return fmt.Errorf("delete object %s: %w", key, err)
		}
		r.left--
		r.done++
		d.expired.WithLabelValues(kind).Inc()
	}
	return nil
}

// expireJob forgets what a backup no longer needs.
func (d *Duty) expireJob(ctx context.Context, c *backup.Config, open []backup.Restore, r *run, now time.Time) error {
	j, err := d.o.Area.Job(ctx, c.ClusterID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	epochs, err := d.o.Area.Epochs(ctx, j.ID)
	if err != nil {
		return err
	}
	snapshots, err := d.o.Area.Snapshots(ctx, j.ID)
	if err != nil {
		return err
	}
	for i := range epochs {
		if r.more() {
			return nil
		}
		if err := d.expireEpoch(ctx, c, &j, &epochs[i], snapshots, open, r, now); err != nil {
			return fmt.Errorf("epoch %d: %w", epochs[i].Number, err)
		}
	}
	return nil
}

func (d *Duty) expireEpoch(
	ctx context.Context, c *backup.Config, j *backup.Job, e *backup.Epoch, snapshots []backup.Snapshot, open []backup.Restore, r *run, now time.Time,
) error {
	past := e.Number < j.Epoch && !e.Ended.IsZero()
	before, window := keepFrom(c, j, e, snapshots, open, now)
	if !past && window > 0 && int(window.Hours()) != j.OplogHours {
		if err := d.noteWindow(ctx, c, j, window, now); err != nil {
			return err
		}
	}
	bs, err := d.o.Blobs.Open(ctx, e.StoreID)
	if err != nil {
		return err
	}
	if !before.IsZero() {
		err := d.drain(ctx, bs, "oplog", r, func() ([]string, error) { return d.o.Area.ExpireSlices(ctx, j.ID, e.Number, before, expirePage) })
		if err != nil {
			return err
		}
	}
	if past || !e.Seeded.IsZero() {
		if err := d.drain(ctx, bs, "seed", r, func() ([]string, error) { return d.o.Area.DropSeeds(ctx, j.ID, e.Number, expirePage) }); err != nil {
			return err
		}
	}
	if r.more() || !past || slices.ContainsFunc(snapshots, func(s backup.Snapshot) bool { return s.Epoch == e.Number }) {
		return nil
	}
	return d.forgetEpoch(ctx, j.ID, e.Number, r)
}

// forgetEpoch deletes an epoch of which no oplog, seed or snapshot is left.
func (d *Duty) forgetEpoch(ctx context.Context, job model.ID, n int64, r *run) error {
	for more := true; more; {
		var err error
		if more, err = d.o.Area.DropCollections(ctx, job, n, expirePage); err != nil {
			return err
		}
		if r.left -= expirePage / 10; r.more() && more {
			return nil
		}
	}
	err := d.o.Area.DeleteEpoch(ctx, job, n)
	if errors.Is(err, backup.ErrState) {
		return nil // it still has its last slice
	}
	return err
}

// drain forgets documents page by page and deletes the objects they named.
func (d *Duty) drain(ctx context.Context, bs blockstore.Store, kind string, r *run, page func() ([]string, error)) error {
	for !r.more() {
		keys, err := page()
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := d.remove(ctx, bs, kind, keys, r); err != nil {
			return err
		}
	}
	return nil
}

// keepFrom is the position from which an epoch's oplog must be kept, zero for all of it, and the time for which it is. window is
// 0 where it is not a matter of time.
func keepFrom(c *backup.Config, j *backup.Job, e *backup.Epoch, snapshots []backup.Snapshot, open []backup.Restore, now time.Time) (oplog.OpTime, time.Duration) {
	current := e.Number >= j.Epoch
	if current && e.Seeded.IsZero() {
		return oplog.OpTime{}, 0 // no head holds it yet
	}
	var have []snapshot.Snapshot
	for i := range snapshots {
		if s := snapshots[i].Rule(); s.Epoch == e.Number && snapshots[i].Condemned.IsZero() {
			have = append(have, s)
		}
	}
	var applied time.Time
	var from bson.Timestamp
	if current {
		if c.Status == model.BackupStarted && !j.Applied.IsZero() {
			applied = time.Unix(int64(j.Applied.TS.T), 0)
		}
		// What the head needs to go on is kept, but not for ever.
		if from = j.ReplayFrom.TS; from.IsZero() || from.After(j.Applied.TS) {
			from = j.Applied.TS
		}
		if now.Sub(time.Unix(int64(from.T), 0)) > longestOplog {
			from = bson.Timestamp{}
		}
	}
	at, window := snapshot.Oplog(c.Schedule, have, applied, from, now)
	if !current && int64(e.Head.Last.TS.T) < now.Add(-window).Unix() {
		at = everything.TS // the history ended before the window: its snapshots stand by themselves
	}
	// A restore in progress keeps what it was planned with.
	for i := range open {
		if open[i].Job != j.ID || !open[i].PointInTime {
			continue
		}
		for k := range have {
			if (open[i].SnapshotID == "" || open[i].SnapshotID == have[k].ID) && have[k].ReplayFrom.Before(at) {
				at = have[k].ReplayFrom
			}
		}
	}
	return oplog.OpTime{TS: at}, window
}

// noteWindow keeps for how long oplog is kept, and tells people when it had to grow because the head lags.
func (d *Duty) noteWindow(ctx context.Context, c *backup.Config, j *backup.Job, window time.Duration, now time.Time) error {
	hours := int(window.Hours())
	grew := false
	err := d.o.Area.UpdateJob(ctx, j.ID, func(j *backup.Job) error {
		grew = hours > max(j.OplogHours, c.Schedule.PointInTimeHour)
		j.OplogHours = hours
		return nil
	})
	if err != nil || !grew {
		return err
	}
	return d.o.Events.AddEvents(ctx, model.Event{
		GroupID: c.GroupID, Type: model.EventOplogKept, At: now, ClusterID: j.ID,
		Text: fmt.Sprintf("The backup's head lags: oplog is kept for %d hours instead of %d, so that it can catch up.", hours, c.Schedule.PointInTimeHour),
	})
}

// terminate deletes a backup. It waits until the job's daemon has let go, and keeps it out from then on.
func (d *Duty) terminate(ctx context.Context, c *backup.Config, r *run, now time.Time) error {
	lease, ok, err := d.o.Leases.Lease(ctx, backup.LeaseName(c.ClusterID), "backup-expire/"+string(model.NewID()), terminateHold)
	if err != nil || !ok {
		return err // not ok: its daemon is stopping the head
	}
	kept, stop := lease.Keep(ctx)
	defer func() {
		stop()
		released, done := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
		defer done()
		if err := lease.Release(released); err != nil {
			d.o.Log.WarnContext(ctx, "lease not released; it runs out by itself", obs.KeyErr, err)
		}
	}()
	return d.deleteJob(kept, c, lease.Token, r, now)
}

func (d *Duty) deleteJob(ctx context.Context, c *backup.Config, token int64, r *run, now time.Time) error {
	job := c.ClusterID
	stores := map[string]bool{c.StoreID: true}
	j, err := d.o.Area.Job(ctx, job)
	switch {
	case err == nil:
		stores[j.StoreID] = true
		err = d.o.Area.UpdateJobAs(ctx, job, token, func(j *backup.Job) error {
			j.Daemon, j.Activity = "", nil
			return nil
		})
		if err != nil {
			return err
		}
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	epochs, err := d.o.Area.Epochs(ctx, job)
	if err != nil {
		return err
	}
	for i := range epochs {
		stores[epochs[i].StoreID] = true
		if err := d.o.Area.EndEpoch(ctx, job, epochs[i].Number, "the backup was deleted", now); err != nil {
			return err
		}
	}
	snapshots, err := d.o.Area.Snapshots(ctx, job)
	if err != nil {
		return err
	}
	for i := range snapshots {
		stores[snapshots[i].StoreID] = true
		if err := d.o.Area.Condemn(ctx, job, snapshots[i].ID, now); err != nil {
			return err
		}
	}
	if err := d.killRestores(ctx, job, now); err != nil {
		return err
	}
	delete(stores, "")
	for id := range stores {
		gone, err := d.removeAll(ctx, id, backup.Prefixes(job), r)
		if err != nil || !gone {
			return err
		}
	}
	return d.forgetJob(ctx, job, epochs, snapshots, now)
}

// removeAll deletes every object under prefixes, and says whether none is left.
func (d *Duty) removeAll(ctx context.Context, storeID string, prefixes []string, r *run) (gone bool, err error) {
	bs, err := d.o.Blobs.Open(ctx, storeID)
	if err != nil {
		return false, err
	}
	for _, prefix := range prefixes {
		for {
			page, err := bs.List(ctx, prefix, "", expirePage)
			if err != nil {
				return false, fmt.Errorf("list %s: %w", prefix, err)
			}
			if len(page) == 0 {
				break
			}
			if r.more() {
				return false, nil
			}
			keys := make([]string, len(page))
			for i := range page {
				keys[i] = page[i].Key
			}
			if err := d.remove(ctx, bs, "terminated", keys, r); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// forgetJob deletes the documents of a backup whose objects are gone.
func (d *Duty) forgetJob(ctx context.Context, job model.ID, epochs []backup.Epoch, snapshots []backup.Snapshot, now time.Time) error {
	for i := range snapshots {
		if err := d.o.Area.DeleteSnapshot(ctx, job, snapshots[i].ID); err != nil {
			return err
		}
	}
	for i := range epochs {
		n := epochs[i].Number
		for _, page := range []func() ([]string, error){
			func() ([]string, error) { return d.o.Area.DropSeeds(ctx, job, n, pageOfDeleted) },
			func() ([]string, error) { return d.o.Area.ExpireSlices(ctx, job, n, everything, pageOfDeleted) },
		} {
			for {
				keys, err := page()
				if err != nil {
					return err
				}
				if len(keys) == 0 {
					break
				}
			}
		}
		for more := true; more; {
			var err error
			if more, err = d.o.Area.DropCollections(ctx, job, n, pageOfDeleted); err != nil {
				return err
			}
		}
		if err := d.o.Area.DeleteEpoch(ctx, job, n); err != nil {
			return err
		}
	}
	return d.o.Area.Terminated(ctx, job, now)
}

// pageOfDeleted is how many documents go at once.
const pageOfDeleted = 1_000

// killRestores ends the restores of a backup and their links.
func (d *Duty) killRestores(ctx context.Context, job model.ID, now time.Time) error {
	q := backup.RestoreQuery{Job: job}
	for {
		page, next, err := d.o.Area.Restores(ctx, q)
		if err != nil {
			return err
		}
		for i := range page {
			if !page[i].Cleaned.IsZero() {
				continue
			}
			if err := d.o.Area.KillRestore(ctx, page[i].ID, "the backup was deleted", now); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		q.After = next
	}
}

// cleanRestores deletes the objects of restores that are over.
func (d *Duty) cleanRestores(ctx context.Context, r *run, now time.Time) error {
	if r.more() {
		return nil
	}
	over, err := d.o.Area.CleanableRestores(ctx, now, restoreBound)
	if err != nil {
		return err
	}
	var failed []error
	for i := range over {
		res := &over[i]
		if err := d.cleanRestore(ctx, res, r, now); err != nil {
			failed = append(failed, fmt.Errorf("objects of restore %s: %w", res.ID, err))
		}
	}
	if len(over) == restoreBound && failed == nil {
		r.left = 0 // there may be more
	}
	return errors.Join(failed...)
}

func (d *Duty) cleanRestore(ctx context.Context, res *backup.Restore, r *run, now time.Time) error {
	if res.StoreID != "" {
		gone, err := d.removeAll(ctx, res.StoreID, []string{"restores/" + res.ID + "/"}, r)
		if err != nil || !gone {
			return err
		}
	}
	return d.o.Area.SetCleaned(ctx, res.ID, now)
}

// sweep looks for objects that no document names: what was stored when the document failed, or was left when its deletion
// was interrupted. A round over a store takes as many runs as it needs, and begins once a day.
func (d *Duty) sweep(ctx context.Context, r *run, now time.Time) error {
	if r.more() {
		return nil
	}
	stores, err := d.o.Area.Stores(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for i := range stores {
		if err := d.sweepStore(ctx, stores[i].ID, r, now); err != nil {
			failed = append(failed, fmt.Errorf("sweep block store %s: %w", stores[i].ID, err))
		}
	}
	return errors.Join(failed...)
}

func (d *Duty) sweepStore(ctx context.Context, id string, r *run, now time.Time) error {
	s, err := d.o.Area.Sweep(ctx, id)
	if err != nil {
		return err
	}
	if !s.Done.IsZero() && now.Sub(s.Began) < sweepEvery {
		return nil
	}
	bs, err := d.o.Blobs.Open(ctx, id)
	if err != nil {
		return err
	}
	if !s.Done.IsZero() || s.Began.IsZero() {
		s.Key, s.Began, s.Done = "", now, time.Time{}
	}
	for s.Done.IsZero() && !r.more() {
		page, err := bs.List(ctx, "", s.Key, blockstore.MaxList)
		if err != nil {
			return fmt.Errorf("list objects after %q: %w", s.Key, err)
		}
		if len(page) == 0 {
			s.Done = now
			break
		}
		var old []string
		for _, o := range page {
			if now.Sub(o.Modified) > sweepAge {
				old = append(old, o.Key)
			}
		}
		known, err := d.o.Area.Known(ctx, old)
		if err != nil {
			return err
		}
		orphans := slices.DeleteFunc(old, func(key string) bool { return known[key] })
		if len(orphans) > 0 {
			d.o.Log.InfoContext(ctx, "objects that nothing refers to are deleted", obs.KeyCount, len(orphans), obs.KeyFrom, orphans[0])
		}
		if err := d.remove(ctx, bs, "swept", orphans, r); err != nil {
			return err
		}
		s.Swept += int64(len(orphans))
		s.Key = page[len(page)-1].Key
		r.left -= len(page) / 10 // looking costs too
	}
	return d.o.Area.SaveSweep(ctx, s)
}
