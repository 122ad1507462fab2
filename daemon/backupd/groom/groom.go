// Package groom deletes snapshots that have expired, and the blocks that none of the others needs. Deletion is in two phases: first
// it is written down that a snapshot is no longer offered, then its manifest goes, then the record, and its blocks when nothing
// has needed them for a while. Oplog, sync slices, epochs and terminated backups are the duty backup-expire of ingestion.
package groom

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Records is what is needed of the store; *backup.Backup has it.
type Records interface {
	Snapshots(ctx context.Context, job model.ID) ([]backup.Snapshot, error)
	Condemn(ctx context.Context, job model.ID, id string, now time.Time) error
	DeleteSnapshot(ctx context.Context, job model.ID, id string) error
	OpenRestores(ctx context.Context) ([]backup.Restore, error)
}

// Options of Pass.
type Options struct {
	Records Records
	Blocks  func(ctx context.Context, id string) (blockstore.Store, error)
	Config  backup.Config
	Job     backup.Job
	Token   int64         // of the job's lease
	Taking  string        // id of the snapshot that is being written; "" for none
	Grace   time.Duration // between the phases of a deletion; 0 means a day, negative none
	// Tree says that blocks are to be groomed too: that reads the map of every snapshot.
	Tree bool
	// Clean says whether it is a store's turn to be freed of what killed writers left in it: that looks at all of its objects.
	// nil for never.
	Clean func(store string) bool
	Now   time.Time
}

// Report is what a pass did.
type Report struct {
	Condemned []backup.Snapshot // no longer offered since now
	Deleted   int               // whose manifest and record went
	Groomed   bool              // blocks were looked at
	Freed     int64             // bytes of blocks
	Usage     tree.Usage        // before
	Cleaned   blockstore.Cleaned
}

const defaultGrace = 24 * time.Hour

func (o *Options) grace() time.Duration {
	if o.Grace == 0 {
		return defaultGrace
	}
	return max(0, o.Grace)
}

// Pass deletes what is due. It runs under the job's lease, and not while a snapshot of the job is written if blocks are groomed.
// It can be cut off anywhere and called again.
func Pass(ctx context.Context, o Options) (Report, error) {
	var r Report
	snaps, err := o.Records.Snapshots(ctx, o.Job.ID)
	if err != nil {
		return r, err
	}
	if snaps, err = o.snapshots(ctx, snaps, &r); err != nil {
		return r, err
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

// trees frees blocks that no snapshot needs.
func (o *Options) trees(ctx context.Context, snaps []backup.Snapshot, r *Report) error {
	keep := map[string][]string{}
	for i := range snaps {
		if s := &snaps[i]; s.Complete && s.StoreID != "" {
			keep[s.StoreID] = append(keep[s.StoreID], s.ID)
		}
	}
	r.Groomed = true
	for _, id := range slices.Sorted(maps.Keys(keep)) { // a store without a snapshot has nothing to measure by
		bs, err := o.Blocks(ctx, id)
		if err != nil {
			return err
		}
		report, err := tree.Groom(ctx, bs, string(o.Job.ID), keep[id], tree.GroomOptions{Grace: o.Grace, Now: o.Now, Token: o.Token})
		if err != nil {
			return fmt.Errorf("groom blocks in store %s: %w", id, err)
		}
		r.Freed += report.Freed
		r.Usage = report.Usage
		if o.Clean == nil || !o.Clean(id) {
			continue
		}
		cleaned, err := blockstore.Clean(ctx, bs, o.Now.Add(-blockstore.LeftoverAge))
		if err != nil {
			return fmt.Errorf("remove what killed writers left in store %s: %w", id, err)
		}
		r.Cleaned.Leftovers += cleaned.Leftovers
		r.Cleaned.Bytes += cleaned.Bytes
	}
	return nil
}
