// Package backup is the part of ingestion that backup agents talk to: their configuration, the slices of full reads and of the
// oplog, uploads past the server.
//
// It owns nothing durable. A slice is acknowledged when its object is stored and the document that makes it count is written
// with a majority: not before. Whatever arrives may arrive again, at another server at the same time; the answer is then
// the same, and nothing is kept twice.
package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/functions/ingestion/reply"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Area is what is needed of the backup area.
type Area interface {
	Config(ctx context.Context, cluster model.ID) (backup.Config, error)
	Configs(ctx context.Context, group model.ID) ([]backup.Config, error)
	Password(c *backup.Config) (model.Secret, error)
	Job(ctx context.Context, id model.ID) (backup.Job, error)
	UpdateJob(ctx context.Context, id model.ID, change func(*backup.Job) error) error
	SetFound(ctx context.Context, job model.ID, f backup.Found, now time.Time) error
	BeginEpoch(ctx context.Context, e backup.Epoch, now time.Time) (backup.Epoch, error)
	Epoch(ctx context.Context, job model.ID, n int64) (backup.Epoch, error)
	EndEpoch(ctx context.Context, job model.ID, n int64, why string, now time.Time) error
	MarkScanned(ctx context.Context, job model.ID, n int64, scanEnd oplog.OpTime, collections int64) error
	PutCollections(ctx context.Context, job model.ID, n int64, collections []backup.Collection) error
	CollectionsPage(ctx context.Context, job model.ID, n int64, after string, limit int) ([]backup.Collection, string, error)
	AddSeed(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, s backup.SeedSlice) (bool, error)
	SeedAt(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, attempt, seq int64) (backup.SeedSlice, error)
	Stored(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, attempt int64) (int64, []byte, error)
	AddSlice(ctx context.Context, s backup.OplogSlice, wall time.Time) (chain.Head, bool, error)
	HasSlice(ctx context.Context, s *chain.Slice) (key string, ok bool, err error)
	Pushes(ctx context.Context, group model.ID, now time.Time) ([]backup.Restore, error)
}

// Inventory is what is needed of the inventory area.
type Inventory interface {
	Cluster(ctx context.Context, group, id model.ID) (model.Cluster, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
	ClaimBackup(ctx context.Context, group model.ID, agentID, session string, now time.Time, timeout time.Duration) (active bool, previous string, err error)
}

// Events is what is needed of the alerting area.
type Events interface {
	AddEvents(ctx context.Context, events ...model.Event) error
}

// Caller is what ingestion knows how to do for every agent.
type Caller interface {
	// Authenticate gives the caller's group, or a refusal.
	Authenticate(r *http.Request) (model.Group, error)
	// NoteConf keeps that an agent asked for its configuration.
	NoteConf(r *http.Request, group model.ID, info *wire.AgentInfo, state model.AgentState, hosts int, now time.Time) error
	// Host is a host as agents are told of it, with the credentials that are kept for it.
	Host(ctx context.Context, group *model.Group, h *model.Host) (wire.Host, error)
}

// Options are what New needs.
type Options struct {
	Area      Area
	Inventory Inventory
	Events    Events
	Caller    Caller
	// Blobs opens a block store by its id. nil: this server has none, and says so to whoever needs one.
	Blobs reply.Blobs
	Log   *slog.Logger
	Reg   prometheus.Registerer // nil: no metrics
	Now   func() time.Time

	MaxPost        int64 // largest body; at least 64 KiB
	Presign        bool  // agents and people are sent to the store's own URLs, where it has such: bulk bytes pass by
	SessionTimeout time.Duration
	ConfSeconds    int32 // when agents call again
	BandwidthBytes int64 // a second, of full reads; 0: no limit
	MaxLagSeconds  int32 // full reads pause while secondaries lag more; 0: never
}

func (o *Options) validate() error {
	if o.Area == nil || o.Inventory == nil || o.Events == nil || o.Caller == nil {
		return errors.New("backup intake: it needs Area, Inventory, Events and Caller")
	}
	if o.MaxPost < 64<<10 {
		return fmt.Errorf("backup intake: MaxPost is %d, under 64 KiB", o.MaxPost)
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Intake is the part of ingestion that backup agents talk to.
type Intake struct {
	o Options
	m *metrics
}

// New returns it.
func New(o Options) (*Intake, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Intake{o: o, m: newMetrics(o.Reg)}, nil
}

// Route is one route: a pattern for http.ServeMux and what answers it. An error is answered by ingestion's table.
type Route struct {
	Pattern string
	Serve   func(w http.ResponseWriter, r *http.Request) error
	// Bulk: bodies of many megabytes, either way. They have turns of their own, so that pings never wait for them.
	Bulk bool
}

// Routes lists the routes for ingestion to mount.
func (in *Intake) Routes() []Route {
	return []Route{
		{Pattern: "GET " + wire.PathBackupConf, Serve: in.conf},
		{Pattern: "POST " + wire.PathBackupReport, Serve: in.report},
		{Pattern: "POST " + wire.PathBackupEpoch, Serve: in.epoch},
		{Pattern: "POST " + wire.PathBackupCollections, Serve: in.collections},
		{Pattern: "GET " + wire.PathBackupCollections, Serve: in.collectionsPage},
		{Pattern: "POST " + wire.PathBackupSeed, Serve: in.seed, Bulk: true},
		{Pattern: "POST " + wire.PathBackupOplog, Serve: in.oplog, Bulk: true},
		{Pattern: "POST " + wire.PathBackupScanned, Serve: in.scanned},
		{Pattern: "POST " + wire.PathBackupEnd, Serve: in.end},
		{Pattern: "POST " + wire.PathBackupMissing, Serve: in.missing, Bulk: true},
		{Pattern: "POST " + wire.PathBackupUpload, Serve: in.upload},
	}
}

// job is a job of the caller's group with its configuration; others do not exist for him.
func (in *Intake) job(ctx context.Context, group model.ID, id string) (backup.Config, backup.Job, error) {
	none := reply.Refuse(wire.CodeStopped, "the group has no backup %.40q: it was deleted, or belongs to another group", id)
	if !model.ID(id).Valid() {
		return backup.Config{}, backup.Job{}, none
	}
	c, err := in.o.Area.Config(ctx, model.ID(id))
	if errors.Is(err, store.ErrNotFound) || err == nil && c.GroupID != group {
		return c, backup.Job{}, none
	}
	if err != nil {
		return c, backup.Job{}, err
	}
	j, err := in.o.Area.Job(ctx, model.ID(id))
	if errors.Is(err, store.ErrNotFound) {
		return c, j, none
	}
	return c, j, err
}

// running is job for calls that add to a backup: it must be STARTED.
func (in *Intake) running(ctx context.Context, group model.ID, id string) (backup.Config, backup.Job, error) {
	c, j, err := in.job(ctx, group, id)
	if err == nil && c.Status != model.BackupStarted {
		err = reply.Refuse(wire.CodeStopped, "the backup is %s", c.Status)
	}
	return c, j, err
}

// current is running for calls about an epoch: it must be the job's current one, and go on.
func (in *Intake) current(ctx context.Context, group model.ID, id string, n int64) (backup.Job, backup.Epoch, error) {
	_, j, err := in.running(ctx, group, id)
	if err != nil {
		return j, backup.Epoch{}, err
	}
	if n != j.Epoch {
		return j, backup.Epoch{}, reply.Refuse(wire.CodeEpoch, "epoch %d is not the current one, %d is", n, j.Epoch)
	}
	e, err := in.o.Area.Epoch(ctx, j.ID, n)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return j, e, reply.Refuse(wire.CodeEpoch, "epoch %d does not exist", n)
	case err != nil:
		return j, e, err
	case !e.Ended.IsZero():
		return j, e, reply.Refuse(wire.CodeEpoch, "epoch %d has ended: %s", n, e.EndedWhy)
	}
	return j, e, nil
}
