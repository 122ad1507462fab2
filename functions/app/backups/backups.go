// Package backups is what people do with backups, whether on a page or through the Public API: start and stop them, set filter
// and schedule, take and keep snapshots, plan restores and ask for them. Both doors call it, so that they allow and refuse the
// same and leave the same events. It does no bulk work: daemons and agents find what is asked for in the store.
package backups

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/rule/shipped"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// What can be wrong with a request, besides the area's own errors; compare with errors.Is.
var (
	ErrNotBackedUp = errors.New("this kind of cluster is not backed up by this build")
	ErrNoBackup    = errors.New("this replica set has no backup")
	ErrWishes      = errors.New("a snapshot that was asked for has not been taken yet")
	ErrLink        = errors.New("the link would outlive the snapshot")
)

// Store is what it reads and changes of backups.
type Store interface {
	Config(ctx context.Context, cluster model.ID) (backup.Config, error)
	Configs(ctx context.Context, group model.ID) ([]backup.Config, error)
	SaveConfig(ctx context.Context, c backup.Config, now time.Time) (backup.Config, error)
	SetStatus(ctx context.Context, cluster model.ID, want model.BackupStatus, now time.Time) (backup.Config, error)
	Job(ctx context.Context, id model.ID) (backup.Job, error)
	UpdateJob(ctx context.Context, id model.ID, change func(*backup.Job) error) error
	Epoch(ctx context.Context, job model.ID, n int64) (backup.Epoch, error)
	Epochs(ctx context.Context, job model.ID) ([]backup.Epoch, error)
	Slices(ctx context.Context, job model.ID, n int64, after oplog.OpTime, limit int) ([]backup.OplogSlice, error)
	Snapshot(ctx context.Context, job model.ID, id string) (backup.Snapshot, error)
	Snapshots(ctx context.Context, job model.ID) ([]backup.Snapshot, error)
	UpdateSnapshot(ctx context.Context, job model.ID, id string, change func(*backup.Snapshot) error) error
	Condemn(ctx context.Context, job model.ID, id string, now time.Time) error
	Contents(ctx context.Context, job model.ID, id string) ([]restoreplan.Namespace, error)
	Ranges(ctx context.Context, job model.ID) ([]snapshot.Range, []snapshot.Hole, error)
	AddRestore(ctx context.Context, r backup.Restore) error
	Restore(ctx context.Context, id string) (backup.Restore, error)
	Restores(ctx context.Context, q backup.RestoreQuery) ([]backup.Restore, string, error)
	OpenRestores(ctx context.Context) ([]backup.Restore, error)
	KillRestore(ctx context.Context, id, why string, now time.Time) error
	DownloadToken(r *backup.Restore, now time.Time) (model.Secret, error)
	Daemons(ctx context.Context) ([]backup.Daemon, error)
}

// Inventory is where clusters are, and what monitoring knows of those that are restored into.
type Inventory interface {
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	Statuses(ctx context.Context, group model.ID) ([]model.HostStatus, error)
	Agents(ctx context.Context, group model.ID) ([]model.Agent, error)
}

// Series is where the databases and disks of processes are.
type Series interface {
	Dimensions(ctx context.Context, host model.HostID, scope catalog.Scope) ([]string, error)
	Read(ctx context.Context, q series.Query) (series.Result, error)
}

// Alerts get the configurations that come with a group's first backup.
type Alerts interface {
	CreateConfig(ctx context.Context, c model.AlertConfig) error
}

// Options are what New needs.
type Options struct {
	Store     Store
	Inventory Inventory
	Alerts    Alerts
	Series    Series // nil: plans of pushes do not know the databases and disks of their targets
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now
	Defaults  snapshot.Policy  // of a new backup; zero: snapshot.Default
}

// Service carries out. Who may do what is for its callers to check.
type Service struct{ o Options }

// New returns the service.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Inventory == nil || o.Alerts == nil {
		return nil, errors.New("backups options: it needs Store, Inventory and Alerts")
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Defaults == (snapshot.Policy{}) {
		o.Defaults = snapshot.Default()
	}
	return &Service{o}, nil
}

// Act is what an action leaves: the event for the activity feed, which the caller completes with who and from where.
type Act = model.Event

// Backup is one replica set with everything known of its backup.
type Backup struct {
	Cluster model.Cluster
	Config  backup.Config // INACTIVE where it was never started
	Job     *backup.Job   // nil: there is none
	Epoch   *backup.Epoch // the current one; nil: none has begun
	Last    *backup.Snapshot
}

// Newest is the newest stored moment of the oplog, zero where there is none.
func (b *Backup) Newest() time.Time {
	switch {
	case b.Epoch == nil || b.Epoch.Head.Last.IsZero():
		return time.Time{}
	case !b.Epoch.HeadWall.IsZero():
		return b.Epoch.HeadWall
	}
	return time.Unix(int64(b.Epoch.Head.Last.TS.T), 0).UTC()
}

// Lag is how far the newest stored oplog is behind; negative where nothing is stored.
func (b *Backup) Lag(now time.Time) time.Duration {
	if at := b.Newest(); !at.IsZero() {
		return max(0, now.Sub(at))
	}
	return -1
}

// Backable reports whether a cluster is one that has backups of its own: a replica set that is no part of a sharded cluster.
func Backable(c *model.Cluster) bool { return c.Type == model.ClusterReplicaSet && c.ParentID == "" }

// List gives every replica set of a group with its backup, also those that were never started, by name.
func (s *Service) List(ctx context.Context, group model.ID) ([]Backup, error) {
	clusters, err := s.o.Inventory.Clusters(ctx, group)
	if err != nil {
		return nil, err
	}
	configs, err := s.o.Store.Configs(ctx, group)
	if err != nil {
		return nil, err
	}
	have := make(map[model.ID]backup.Config, len(configs))
	for _, c := range configs {
		have[c.ClusterID] = c
	}
	all := make([]Backup, 0, len(clusters))
	for _, cl := range clusters {
		c, ok := have[cl.ID]
		delete(have, cl.ID)
		if !ok {
			if !Backable(&cl) {
				continue
			}
			c = s.fresh(&cl)
		}
		b, err := s.complete(ctx, cl, c)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	// What is backed up stays in the list when monitoring has forgotten it.
	for _, c := range have {
		b, err := s.complete(ctx, model.Cluster{ID: c.ClusterID, GroupID: group, Type: model.ClusterReplicaSet, Name: string(c.ClusterID)}, c)
		if err != nil {
			return nil, err
		}
		if b.Epoch != nil {
			b.Cluster.Name, b.Cluster.ReplicaSet = b.Epoch.SetName, b.Epoch.SetName
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Backup) int {
		return strings.Compare(a.Cluster.Name+"/"+string(a.Cluster.ID), b.Cluster.Name+"/"+string(b.Cluster.ID))
	})
	return all, nil
}

func (s *Service) fresh(cl *model.Cluster) backup.Config {
	return backup.Config{GroupID: cl.GroupID, ClusterID: cl.ID, Status: model.BackupInactive, SyncSource: "SECONDARY", Schedule: s.o.Defaults}
}

func (s *Service) complete(ctx context.Context, cl model.Cluster, c backup.Config) (Backup, error) {
	b := Backup{Cluster: cl, Config: c}
	job, err := s.o.Store.Job(ctx, cl.ID)
	if missing(err) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	b.Job = &job
	if job.Epoch > 0 {
		switch e, err := s.o.Store.Epoch(ctx, job.ID, job.Epoch); {
		case err == nil:
			b.Epoch = &e
		case !missing(err):
			return b, err
		}
	}
	if job.Last != "" {
		switch l, err := s.o.Store.Snapshot(ctx, job.ID, job.Last); {
		case err == nil:
			b.Last = &l
		case !missing(err):
			return b, err
		}
	}
	return b, nil
}

// One is the backup of a cluster of a group; store.ErrNotFound when the group has no such cluster, ErrNotBackedUp when it is of
// a kind that has no backup of its own.
func (s *Service) One(ctx context.Context, group, cluster model.ID) (Backup, error) {
	clusters, err := s.o.Inventory.Clusters(ctx, group)
	if err != nil {
		return Backup{}, err
	}
	c, err := s.o.Store.Config(ctx, cluster)
	known := err == nil && c.GroupID == group
	if err != nil && !missing(err) {
		return Backup{}, err
	}
	i := slices.IndexFunc(clusters, func(cl model.Cluster) bool { return cl.ID == cluster })
	switch {
	case i < 0 && !known:
		return Backup{}, fmt.Errorf("cluster %s: %w", cluster, docstore.ErrNotFound)
	case i < 0:
		return s.complete(ctx, model.Cluster{ID: cluster, GroupID: group, Type: model.ClusterReplicaSet, Name: string(cluster)}, c)
	case !known && !Backable(&clusters[i]):
		return Backup{Cluster: clusters[i]}, ErrNotBackedUp
	case !known:
		c = s.fresh(&clusters[i])
	}
	return s.complete(ctx, clusters[i], c)
}

// Save keeps the settings of a backup, and the status that is wanted if it is not "". It answers what is kept now and what
// was done.
func (s *Service) Save(ctx context.Context, b Backup, next backup.Config, want model.BackupStatus) (backup.Config, []Act, error) {
	now, old := s.o.Now(), b.Config
	next.GroupID, next.ClusterID, next.Status = old.GroupID, old.ClusterID, old.Status
	if want == model.BackupStarted && !Backable(&b.Cluster) {
		return old, nil, ErrNotBackedUp
	}
	if want != "" { // before anything is kept
		probe := next
		if err := backup.Change(&probe, want, now); err != nil {
			return old, nil, err
		}
	}
	var acts []Act
	act := func(kind model.EventType, text string) {
		acts = append(acts, Act{Type: kind, GroupID: old.GroupID, ClusterID: old.ClusterID, Text: text})
	}
	name := b.Cluster.Name
	kept, err := s.o.Store.SaveConfig(ctx, next, now)
	if err != nil {
		return old, nil, err
	}
	if old.Filter != next.Filter || !slices.Equal(old.Namespaces, next.Namespaces) {
		act(model.EventBackupFilter, fmt.Sprintf("The namespaces that the backup of %s holds were changed.", name))
	}
	if old.Username != next.Username || old.Mechanism != next.Mechanism || next.NewPassword != "" {
		act(model.EventBackupCredential, fmt.Sprintf("The credentials of the backup of %s were changed.", name))
	}
	if old.Schedule != next.Schedule {
		act(model.EventBackupSchedule, fmt.Sprintf("The snapshot schedule of %s was changed.", name))
	}
	if want == "" {
		return kept, acts, nil
	}
	if kept, err = s.o.Store.SetStatus(ctx, old.ClusterID, want, now); err != nil {
		return kept, acts, err
	}
	verb := map[model.BackupStatus]string{model.BackupStarted: "started", model.BackupStopped: "stopped", model.BackupTerminating: "terminated: its snapshots are being deleted"}[want]
	act(model.EventBackupState, fmt.Sprintf("The backup of %s was %s.", name, verb))
	if want == model.BackupStarted {
		s.seedAlerts(ctx, old.GroupID, old.ClusterID, now)
	}
	return kept, acts, nil
}

// seedAlerts gives a group what its first backup brings. A failure does not undo the start of a backup.
func (s *Service) seedAlerts(ctx context.Context, group, cluster model.ID, now time.Time) {
	configs, err := s.o.Store.Configs(ctx, group)
	if err == nil && slices.ContainsFunc(configs, func(c backup.Config) bool { return c.ClusterID != cluster }) {
		return
	}
	for _, c := range shipped.Backup(group, now) {
		if err == nil {
			err = s.o.Alerts.CreateConfig(ctx, c)
		}
		if errors.Is(err, docstore.ErrExists) {
			err = nil
		}
	}
	if err != nil {
		s.o.Log.ErrorContext(ctx, "alerts of the first backup not made", obs.KeyGroup, group, obs.KeyErr, err)
	}
}

// Resync asks for a new full read. What was stored before stays restorable.
func (s *Service) Resync(ctx context.Context, b Backup, by string) ([]Act, error) {
	if b.Job == nil || b.Config.Status != model.BackupStarted && b.Config.Status != model.BackupProvisioning {
		return nil, fmt.Errorf("%w: start the backup, it then reads everything", ErrNoBackup)
	}
	now := s.o.Now()
	err := s.o.Store.UpdateJob(ctx, b.Job.ID, func(j *backup.Job) error {
		j.Resync = &backup.Resync{Why: "asked for by " + by, At: now, By: by}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []Act{{Type: model.EventSyncRequired, GroupID: b.Config.GroupID, ClusterID: b.Config.ClusterID, Text: fmt.Sprintf("A new full read of %s was asked for.", b.Cluster.Name)}}, nil
}

func missing(err error) bool { return errors.Is(err, docstore.ErrNotFound) }
