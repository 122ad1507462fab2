// Package groom deletes what of a backup is no longer wanted: snapshots that have expired, oplog outside of the window, sync
// slices that a snapshot has replaced, old epochs; and everything when a backup is terminated. Deletion is always in two phases:
// first it is written down that something is no longer offered, then its objects go, then the record. Every function can be cut
// off anywhere and called again.
package groom

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Records is what is needed of the store; *backup.Backup has it.
type Records interface {
	Snapshots(ctx context.Context, job model.ID) ([]backup.Snapshot, error)
	Condemn(ctx context.Context, job model.ID, id string, now time.Time) error
	DeleteSnapshot(ctx context.Context, job model.ID, id string) error
	Epochs(ctx context.Context, job model.ID) ([]backup.Epoch, error)
	EndEpoch(ctx context.Context, job model.ID, n int64, why string, now time.Time) error
	DeleteEpoch(ctx context.Context, job model.ID, n int64) error
	ExpireSlices(ctx context.Context, job model.ID, n int64, before oplog.OpTime, limit int) ([]string, error)
	DropSeeds(ctx context.Context, job model.ID, n int64, limit int) ([]string, error)
	DropCollections(ctx context.Context, job model.ID, n int64, limit int) (bool, error)
	OpenRestores(ctx context.Context) ([]backup.Restore, error)
	UpdateRestore(ctx context.Context, id string, change func(*backup.Restore) error) error
	Terminated(ctx context.Context, cluster model.ID, now time.Time) error
}

// Options of Pass and Terminate.
type Options struct {
	Records Records
	Blocks  func(ctx context.Context, id string) (blockstore.Store, error)
	Config  backup.Config
	Job     backup.Job
	Token   int64         // of the job's lease
	Taking  string        // id of the snapshot that is being written; "" for none
	Grace   time.Duration // between the condemnation of a snapshot and the deletion of its manifest, and of blocks; 0 means a day
	// Tree says that blocks are to be groomed too, not only records and objects of slices.
	Tree bool
	Now  time.Time
	Log  *slog.Logger
}

// Report is what a pass did.
type Report struct {
	Condemned []backup.Snapshot // no longer offered since now
	Deleted   int               // snapshots whose manifest and record went
	Slices    int               // oplog slices
	Seeds     int               // sync slices
	Epochs    int
	Freed     int64         // bytes of blocks
	Window    time.Duration // for which oplog of the current epoch is kept
	Extended  bool          // the window had to grow because the head lags
	Blocks    bool          // blocks were groomed
	Usage     tree.Usage    // before they were
	More      bool          // there is more to delete at once
}

const (
	defaultGrace = 24 * time.Hour
	// batch is how many records go at once, and maxBatches how many batches in one pass: it is bounded, and there is a next one.
	batch      = 500
	maxBatches = 100
)

func (o *Options) grace() time.Duration {
	if o.Grace == 0 {
		return defaultGrace
	}
	return max(0, o.Grace)
}

// Pass deletes what is due. It must run under the job's lease and not while a snapshot is committed; one may be written.
func Pass(ctx context.Context, o Options) (Report, error) {
	var r Report
	snaps, err := o.Records.Snapshots(ctx, o.Job.ID)
	if err != nil {
		return r, err
	}
	epochs, err := o.Records.Epochs(ctx, o.Job.ID)
	if err != nil {
		return r, err
	}
	if snaps, err = o.snapshots(ctx, snaps, &r); err != nil {
		return r, err
	}
	for i := range epochs {
		if err := o.epoch(ctx, &epochs[i], snaps, &r); err != nil {
			return r, fmt.Errorf("epoch %d: %w", epochs[i].Number, err)
		}
	}
	if o.Tree && o.Taking == "" {
		err = o.trees(ctx, snaps, &r)
	}
	return r, err
}

// snapshots condemns what has expired, and deletes what was condemned long enough ago. It returns what is left.
func (o *Options) snapshots(ctx context.Context, snaps []backup.Snapshot, r *Report) ([]backup.Snapshot, error) {
	rules := make([]snapshot.Snapshot, len(snaps))
	for i := range snaps {
		rules[i] = snaps[i].Rule()
	}
	active := o.Config.Status == model.BackupStarted || o.Config.Status == model.BackupProvisioning
	expired := map[string]bool{}
	for _, s := range snapshot.Expired(rules, o.Now, active, o.Taking) {
		expired[s.ID] = true
	}
	used, err := o.restoring(ctx)
	if err != nil {
		return nil, err
	}
	left := snaps[:0:0]
	for _, s := range snaps {
		switch {
		case s.Condemned.IsZero() && o.abandoned(&s):
			s.Condemned = o.Now.Add(-o.grace()) // it never was offered
			if err := o.Records.Condemn(ctx, o.Job.ID, s.ID, o.Now); err != nil {
				return nil, fmt.Errorf("condemn %s: %w", s.ID, err)
			}
		case s.Condemned.IsZero() && expired[s.ID] && !used[s.ID]:
			if err := o.Records.Condemn(ctx, o.Job.ID, s.ID, o.Now); err != nil {
				return nil, fmt.Errorf("condemn %s: %w", s.ID, err)
			}
			s.Condemned = o.Now
			r.Condemned = append(r.Condemned, s)
		}
		if s.Condemned.IsZero() || used[s.ID] || o.Now.Sub(s.Condemned) < o.grace() {
			left = append(left, s)
			continue
		}
		if err := o.forget(ctx, &s); err != nil {
			return nil, err
		}
		r.Deleted++
	}
	return left, nil
}

// abandoned reports whether a snapshot was begun by somebody who cannot finish it any more: a holder of the lease before us, or
// we ourselves before a restart.
func (o *Options) abandoned(s *backup.Snapshot) bool {
	return !s.Complete && s.ID != o.Taking && s.Token < o.Token
}

// restoring gives the snapshots that running restores read.
func (o *Options) restoring(ctx context.Context) (map[string]bool, error) {
	open, err := o.Records.OpenRestores(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for i := range open {
		if open[i].Job == o.Job.ID {
			used[open[i].SnapshotID] = true
		}
	}
	return used, nil
}

// forget deletes a condemned snapshot: the manifest, then the record. Its blocks are groomed later.
func (o *Options) forget(ctx context.Context, s *backup.Snapshot) error {
	if s.StoreID != "" {
		bs, err := o.Blocks(ctx, s.StoreID)
		if err != nil {
			return err
		}
		if err := bs.Delete(ctx, manifestKey(o.Job.ID, s.ID)); err != nil {
			return fmt.Errorf("delete the manifest of %s: %w", s.ID, err)
		}
	}
	return o.Records.DeleteSnapshot(ctx, o.Job.ID, s.ID)
}

func manifestKey(job model.ID, id string) string { return "snapshots/" + string(job) + "/" + id }

// epoch deletes what of an epoch is no longer needed.
func (o *Options) epoch(ctx context.Context, e *backup.Epoch, snaps []backup.Snapshot, r *Report) error {
	current := e.Number == o.Job.Epoch && e.Ended.IsZero()
	var have []snapshot.Snapshot
	offered := false
	for i := range snaps {
		if s := &snaps[i]; s.Epoch == e.Number {
			offered = true // a condemned one may still be read
			have = append(have, s.Rule())
		}
	}
	if !e.Seeded.IsZero() || e.Number < o.Job.Epoch {
		n, err := o.drop(ctx, e, r, func() ([]string, error) { return o.Records.DropSeeds(ctx, o.Job.ID, e.Number, batch) })
		r.Seeds += n
		if err != nil {
			return fmt.Errorf("sync slices: %w", err)
		}
	}
	switch {
	case current:
		return o.current(ctx, e, have, r)
	case offered:
		from := o.past(e, have)
		n, err := o.expire(ctx, e, from, r)
		r.Slices += n
		return err
	case e.Number == o.Job.Epoch: // it has ended and no other has begun: the head may still become a snapshot
		return nil
	}
	done, err := o.away(ctx, e, r)
	if done {
		r.Epochs++
	}
	return err
}

// current expires the oplog of the current epoch. Nothing goes before there is a snapshot to go on from.
func (o *Options) current(ctx context.Context, e *backup.Epoch, have []snapshot.Snapshot, r *Report) error {
	if !slices.ContainsFunc(have, func(s snapshot.Snapshot) bool { return s.Complete }) {
		return nil
	}
	open := o.Job.ReplayFrom.TS
	if open.IsZero() || o.Job.Applied.TS.Before(open) {
		open = o.Job.Applied.TS
	}
	applied := time.Time{}
	if !o.Job.Applied.IsZero() {
		applied = time.Unix(int64(o.Job.Applied.TS.T), 0)
	}
	from, window := snapshot.Oplog(o.Config.Schedule, have, applied, open, o.Now)
	r.Window, r.Extended = window, window > time.Duration(o.Config.Schedule.PointInTimeHour)*time.Hour
	// A head that is lost is made from the newest snapshot: what follows it stays, however old it is.
	newest := bson.Timestamp{}
	for _, s := range have {
		if s.Complete && newest.Before(s.Applied) {
			newest = s.Applied
			if !s.ReplayFrom.IsZero() && s.ReplayFrom.Before(newest) {
				newest = s.ReplayFrom
			}
		}
	}
	if newest.Before(from) {
		from = newest
	}
	n, err := o.expire(ctx, e, from, r)
	r.Slices += n
	return err
}

// past says until where the oplog of an epoch that has ended goes: the window of time counts for it as for the current one, but
// nothing bridges the way from a snapshot to the window once the window has left the epoch.
func (o *Options) past(e *backup.Epoch, have []snapshot.Snapshot) bson.Timestamp {
	from, window := snapshot.Oplog(o.Config.Schedule, have, time.Time{}, bson.Timestamp{}, o.Now)
	if time.Unix(int64(e.Head.Last.TS.T), 0).Before(o.Now.Add(-window)) {
		return bson.Timestamp{T: e.Head.Last.TS.T + 1}
	}
	return from
}

// expire deletes oplog before a position.
func (o *Options) expire(ctx context.Context, e *backup.Epoch, before bson.Timestamp, r *Report) (int, error) {
	n, err := o.drop(ctx, e, r, func() ([]string, error) {
		return o.Records.ExpireSlices(ctx, o.Job.ID, e.Number, oplog.OpTime{TS: before}, batch)
	})
	if err != nil {
		err = fmt.Errorf("oplog: %w", err)
	}
	return n, err
}

// drop calls next, which forgets records and gives the keys of their objects, and deletes those, until there are none.
func (o *Options) drop(ctx context.Context, e *backup.Epoch, r *Report, next func() ([]string, error)) (int, error) {
	n := 0
	for range maxBatches {
		keys, err := next()
		if err != nil || len(keys) == 0 {
			return n, err
		}
		bs, err := o.Blocks(ctx, e.StoreID)
		if err != nil {
			return n, err
		}
		for _, key := range keys {
			if err := bs.Delete(ctx, key); err != nil { // what is left is swept: no record names it
				return n, fmt.Errorf("delete %s: %w", key, err)
			}
			n++
		}
	}
	r.More = true
	return n, nil
}

// away deletes an epoch of which nothing is offered.
func (o *Options) away(ctx context.Context, e *backup.Epoch, r *Report) (bool, error) {
	if err := o.Records.EndEpoch(ctx, o.Job.ID, e.Number, "it is deleted", o.Now); err != nil {
		return false, err
	}
	n, err := o.expire(ctx, e, bson.Timestamp{T: 1<<32 - 1, I: 1<<32 - 1}, r)
	r.Slices += n
	if err != nil || r.More {
		return false, err
	}
	n, err = o.drop(ctx, e, r, func() ([]string, error) { return o.Records.DropSeeds(ctx, o.Job.ID, e.Number, batch) })
	r.Seeds += n
	if err != nil || r.More {
		return false, err
	}
	for range maxBatches {
		more, err := o.Records.DropCollections(ctx, o.Job.ID, e.Number, batch)
		if err != nil {
			return false, err
		}
		if !more {
			return true, o.Records.DeleteEpoch(ctx, o.Job.ID, e.Number)
		}
	}
	r.More = true
	return false, nil
}

// trees frees blocks that no snapshot needs.
func (o *Options) trees(ctx context.Context, snaps []backup.Snapshot, r *Report) error {
	for id := range stores(o.Job.StoreID, snaps, nil) {
		bs, err := o.Blocks(ctx, id)
		if err != nil {
			return err
		}
		keep := []string{}
		for _, s := range snaps {
			if s.StoreID == id && s.Complete {
				keep = append(keep, s.ID)
			}
		}
		if len(keep) == 0 {
			continue // nothing to measure by: a backup without a snapshot yet, or one that is being deleted
		}
		grace := o.Grace
		report, err := tree.Groom(ctx, bs, string(o.Job.ID), keep, tree.GroomOptions{Grace: grace, Now: o.Now, Token: o.Token})
		if err != nil {
			return fmt.Errorf("groom blocks in store %s: %w", id, err)
		}
		r.Freed += report.Freed
		r.Usage = report.Usage
		r.Blocks = true
	}
	return nil
}

// stores yields the stores that hold something of a job, each once.
func stores(of string, snaps []backup.Snapshot, epochs []backup.Epoch) iter.Seq[string] {
	ids := []string{of}
	for _, s := range snaps {
		ids = append(ids, s.StoreID)
	}
	for _, e := range epochs {
		ids = append(ids, e.StoreID)
	}
	slices.Sort(ids)
	return func(yield func(string) bool) {
		for _, id := range slices.Compact(ids) {
			if id != "" && !yield(id) {
				return
			}
		}
	}
}

// maxObjects is how many objects one call of Terminate deletes.
const maxObjects = 10_000

// Terminate deletes everything of a backup, step by step: first nothing is offered any more, then manifests, blocks and slices
// go, then the records. done says that nothing is left and the backup is INACTIVE; until then it is called again.
func Terminate(ctx context.Context, o Options) (done bool, err error) {
	snaps, err := o.Records.Snapshots(ctx, o.Job.ID)
	if err != nil {
		return false, err
	}
	for _, s := range snaps {
		if s.Condemned.IsZero() {
			if err := o.Records.Condemn(ctx, o.Job.ID, s.ID, o.Now); err != nil {
				return false, err
			}
		}
	}
	if err := o.endRestores(ctx); err != nil {
		return false, err
	}
	epochs, err := o.Records.Epochs(ctx, o.Job.ID)
	if err != nil {
		return false, err
	}
	for i := range epochs { // nothing is added from here on
		if err := o.Records.EndEpoch(ctx, o.Job.ID, epochs[i].Number, "the backup was deleted", o.Now); err != nil {
			return false, err
		}
	}
	left := maxObjects
	for id := range stores(o.Job.StoreID, snaps, epochs) {
		if err := o.objects(ctx, id, &left); err != nil {
			return false, err
		}
		if left <= 0 {
			return false, nil
		}
	}
	for i := range snaps {
		if err := o.Records.DeleteSnapshot(ctx, o.Job.ID, snaps[i].ID); err != nil {
			return false, err
		}
	}
	var r Report
	for i := range epochs {
		if _, err := o.away(ctx, &epochs[i], &r); err != nil || r.More {
			return false, err
		}
	}
	return true, o.Records.Terminated(ctx, o.Job.ID, o.Now)
}

// endRestores ends the restores that read what is being deleted, saying why.
func (o *Options) endRestores(ctx context.Context) error {
	open, err := o.Records.OpenRestores(ctx)
	if err != nil {
		return err
	}
	for i := range open {
		if open[i].Job != o.Job.ID {
			continue
		}
		err := o.Records.UpdateRestore(ctx, open[i].ID, func(r *backup.Restore) error {
			if r.Status != model.RestoreInProgress {
				return store.ErrUnchanged
			}
			r.Status, r.Error, r.Remedy, r.Finished = model.RestoreBroken, "the backup was deleted while it was being restored", "restore from another backup", o.Now
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// objects deletes the objects of a job from one store, manifests first: nothing may be found that is not whole.
func (o *Options) objects(ctx context.Context, id string, left *int) error {
	bs, err := o.Blocks(ctx, id)
	if errors.Is(err, store.ErrNotFound) { // the store was taken away: there is nothing to delete from
		o.Log.WarnContext(ctx, "the store of a backup that is deleted is not known any more", obs.KeyCluster, o.Job.ID, obs.KeyKey, id)
		return nil
	}
	if err != nil {
		return err
	}
	for _, kind := range []string{"snapshots", "pages", "blocks", "writing", "condemned", "oplog", "seed"} {
		for obj, err := range blockstore.All(ctx, bs, kind+"/"+string(o.Job.ID)+"/") {
			if err != nil {
				return fmt.Errorf("list %s: %w", kind, err)
			}
			if *left--; *left < 0 {
				return nil
			}
			if err := bs.Delete(ctx, obj.Key); err != nil {
				return fmt.Errorf("delete %s: %w", obj.Key, err)
			}
		}
	}
	return nil
}
