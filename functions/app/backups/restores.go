package backups

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Limits of download links.
const (
	DefaultLinkHours = 48
	MaxLinkHours     = 7 * 24
	MaxDownloads     = 1000
)

// maxSlices bounds what a plan adds up: at a slice every ten seconds it is more than eleven days.
const maxSlices = 100_000

// Order is a restore that somebody asks for.
type Order struct {
	restoreplan.Request
	TargetGroup model.ID // of a push
	Target      model.ID // its cluster
	LinkHours   int      // 0: DefaultLinkHours
	Downloads   int      // 0: 1
}

// Ranges says what of a backup can be restored, and why not what lies between.
func (s *Service) Ranges(ctx context.Context, cluster model.ID) ([]snapshot.Range, []snapshot.Hole, error) {
	return s.o.Store.Ranges(ctx, cluster)
}

// Plan says what a restore will do. The same value is kept with the restore and carried out.
func (s *Service) Plan(ctx context.Context, b Backup, o Order) (restoreplan.Plan, error) {
	if b.Job == nil && b.Config.Status == model.BackupInactive {
		return restoreplan.Plan{}, ErrNoBackup
	}
	src := restoreplan.Source{SetName: b.Cluster.Name}
	all, err := s.Snapshots(ctx, b.Config.ClusterID, true, false)
	if err != nil {
		return restoreplan.Plan{}, err
	}
	for i := range all {
		x := &all[i]
		src.Snapshots = append(src.Snapshots, restoreplan.Base{Snapshot: x.Rule(), Version: x.Version, FCV: x.FCV, FileBytes: x.FileBytes})
	}
	if src.Ranges, src.Holes, err = s.o.Store.Ranges(ctx, b.Config.ClusterID); err != nil {
		return restoreplan.Plan{}, err
	}
	var into *restoreplan.Target
	if o.Push {
		if into, err = s.target(ctx, &b, &o); err != nil {
			return restoreplan.Plan{}, err
		}
	}
	base, target, err := restoreplan.Moment(o.Request, src)
	if err != nil {
		return restoreplan.Plan{}, restoreplan.Impossible(err, into)
	}
	if base.Collections, err = s.o.Store.Contents(ctx, b.Config.ClusterID, base.ID); err != nil && !missing(err) {
		return restoreplan.Plan{}, err
	}
	x := all[slices.IndexFunc(all, func(x backup.Snapshot) bool { return x.ID == base.ID })]
	if base.Filter, err = filter.New(x.Filter, x.Namespaces); err != nil {
		return restoreplan.Plan{}, err
	}
	stretch, err := s.stretch(ctx, b.Config.ClusterID, &base, target)
	if err != nil {
		return restoreplan.Plan{}, err
	}
	return restoreplan.Make(o.Request, base, target, stretch, restoreplan.DefaultRates, into)
}

// stretch adds up the stored oplog between a base and a position.
func (s *Service) stretch(ctx context.Context, job model.ID, base *restoreplan.Base, target bson.Timestamp) (sum restoreplan.Stretch, err error) {
	if !base.Applied.Before(target) {
		return sum, nil
	}
	after := oplog.OpTime{TS: base.Applied}
	if !base.ReplayFrom.IsZero() && base.ReplayFrom.Before(base.Applied) {
		after.TS = before(base.ReplayFrom)
	}
	for sum.Slices < maxSlices {
		page, err := s.o.Store.Slices(ctx, job, base.Epoch, after, 1000)
		if err != nil || len(page) == 0 {
			return sum, err
		}
		for i := range page {
			x := &page[i].Slice
			if x.First.TS.After(target) {
				return sum, nil
			}
			sum.Slices++
			sum.Entries += x.Count
			sum.Bytes += x.Bytes
			after = x.Last
		}
	}
	return sum, nil
}

// before is the position just before another.
func before(t bson.Timestamp) bson.Timestamp {
	if t.I > 0 {
		return bson.Timestamp{T: t.T, I: t.I - 1}
	}
	return bson.Timestamp{T: t.T - 1, I: math.MaxUint32}
}

// Start asks for a restore: it is planned, kept with its plan, and taken by a daemon.
func (s *Service) Start(ctx context.Context, b Backup, o Order, by string) (backup.Restore, []Act, error) {
	plan, err := s.Plan(ctx, b, o)
	if err != nil {
		return backup.Restore{}, nil, err
	}
	now := s.o.Now().UTC()
	hours, downloads := o.LinkHours, o.Downloads
	if hours == 0 {
		hours = DefaultLinkHours
	}
	if downloads == 0 {
		downloads = 1
	}
	switch {
	case hours < 1 || hours > MaxLinkHours:
		return backup.Restore{}, nil, fmt.Errorf("%w: a link lives 1 to %d hours", restoreplan.ErrImpossible, MaxLinkHours)
	case downloads < 1 || downloads > MaxDownloads:
		return backup.Restore{}, nil, fmt.Errorf("%w: 1 to %d downloads", restoreplan.ErrImpossible, MaxDownloads)
	}
	kept, err := bson.Marshal(plan)
	if err != nil {
		return backup.Restore{}, nil, err
	}
	r := backup.Restore{
		ID: string(model.NewID()), BatchID: string(model.NewID()), GroupID: b.Config.GroupID, Job: b.Config.ClusterID, Created: now, By: by,
		Status: model.RestoreInProgress, Method: model.DeliverHTTP, Format: string(plan.Format), Compress: o.Compress,
		SnapshotID: plan.Snapshot, PointInTime: plan.Replay, Epoch: plan.Epoch, Namespaces: o.Namespaces, Rename: o.Rename,
		Plan: kept, Step: "waits for a backup daemon", Delivery: backup.Delivery{Hours: hours, MaxDownloads: downloads},
	}
	if plan.Replay {
		r.Target = plan.Target
	}
	if o.Push {
		r.Method, r.TargetGroup, r.TargetID, r.Drop, r.Users = model.DeliverPush, o.TargetGroup, o.Target, o.Drop, o.Users
	}
	if err := s.o.Store.AddRestore(ctx, r); err != nil {
		return r, nil, err
	}
	what := "the snapshot of " + stamp(plan.SnapshotAt)
	if plan.Replay {
		what = stamp(time.Unix(int64(plan.Target.T), 0))
	}
	if !o.Push {
		text := fmt.Sprintf("A restore of %s to %s was asked for.", b.Cluster.Name, what)
		return r, []Act{{Type: model.EventRestoreRequested, GroupID: b.Config.GroupID, ClusterID: b.Config.ClusterID, Text: text}}, nil
	}
	text := fmt.Sprintf("A restore of %s to %s into the running deployment %s was asked for.", b.Cluster.Name, what, plan.Into.Name)
	return r, both(&r, model.EventRestoreRequested, text), nil
}

// both is an event for the feed of the backup's group, and for that of the target's where it is another.
func both(r *backup.Restore, kind model.EventType, text string) []Act {
	acts := []Act{{Type: kind, GroupID: r.GroupID, ClusterID: r.Job, Text: text}}
	if r.Method == model.DeliverPush && r.TargetGroup != r.GroupID {
		acts = append(acts, Act{Type: kind, GroupID: r.TargetGroup, ClusterID: r.TargetID, Text: text})
	}
	return acts
}

// Restore is one restore of a group's backup.
func (s *Service) Restore(ctx context.Context, group model.ID, id string) (backup.Restore, error) {
	r, err := s.o.Store.Restore(ctx, id)
	if err == nil && r.GroupID != group {
		return backup.Restore{}, fmt.Errorf("restore %s: %w", id, docstore.ErrNotFound)
	}
	return r, err
}

// Restores lists restores, newest first.
func (s *Service) Restores(ctx context.Context, q backup.RestoreQuery) ([]backup.Restore, string, error) {
	return s.o.Store.Restores(ctx, q)
}

// Cancel stops a restore that is not finished, and keeps with it what that leaves. One that has ended stays as it is: its link
// ends all the same.
func (s *Service) Cancel(ctx context.Context, r backup.Restore, by string) ([]Act, error) {
	if err := s.o.Store.KillRestore(ctx, r.ID, "cancelled by "+by+"; "+Leaves(&r), s.o.Now().UTC()); err != nil {
		return nil, err
	}
	now, err := s.o.Store.Restore(ctx, r.ID)
	if err != nil || r.Status != model.RestoreInProgress || now.Status != model.RestoreKilled {
		return nil, err
	}
	return both(&r, model.EventRestoreCancelled, "A restore was cancelled: "+Leaves(&r)+"."), nil
}

// Leaves says what cancelling a restore leaves behind, as a part of a sentence.
func Leaves(r *backup.Restore) string {
	into := "the target"
	if plan, ok := PlanOf(r); ok && plan.Into != nil {
		into = plan.Into.Name
	}
	switch {
	case r.Method != model.DeliverPush:
		return "nothing is left of it"
	case len(r.Objects) == 0 || r.Delivery.Status == model.DeliveryReady:
		return "nothing was written into " + into
	case r.Do == restoreplan.DoSwap:
		return "its backup agent stops between two collections of " + into + " and says which are in place: those stay"
	}
	return "its backup agent removes what it has written into " + into + " so far, and nothing else there has changed"
}

// Link is the path of a restore's archive below the ingestion address, with its token; backup.ErrLink when there is none (any more).
func (s *Service) Link(r backup.Restore) (string, error) {
	if len(r.Objects) == 0 || r.Method != model.DeliverHTTP || r.Status != model.RestoreFinished {
		return "", backup.ErrLink
	}
	token, err := s.o.Store.DownloadToken(&r, s.o.Now())
	if err != nil {
		return "", err
	}
	return "/backup/restore/v2/pull/" + r.ID + "/" + token.Reveal() + "/" + r.Objects[0].Name, nil
}

// PlanOf is the plan that a restore was made with.
func PlanOf(r *backup.Restore) (p restoreplan.Plan, ok bool) {
	ok = len(r.Plan) > 0 && bson.Unmarshal(r.Plan, &p) == nil
	return p, ok
}
