// Package backup is the store's area of backups: what is asked for, how far each job is, which parts of a full read and of the
// oplog are stored, snapshots, restores and the daemons. Bulk bytes are objects in a blockstore; here is what makes them count.
package backup

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
)

// What the area answers besides the store's own errors and the chain's (chain.ErrGap, ErrOverlap, ErrSplice, ErrEpoch); compare with errors.Is.
var (
	ErrState  = errors.New("backup: not possible in the backup's present state")
	ErrFenced = errors.New("backup: another daemon has taken the job over")
	ErrEnded  = errors.New("backup: the epoch has ended")
	ErrSeed   = errors.New("backup: another slice is stored at this place")
	ErrLink   = errors.New("backup: no such download")
)

// Backup is the area. It is safe for concurrent use and keeps no state of its own.
type Backup struct{ s *store.Store }

// New returns the area of an opened store.
func New(st *store.Store) *Backup { return &Backup{s: st} }

var errNotYet = errors.New("not yet")

// Change is the status machine: config and job as they are after a person wants another status (STARTED, STOPPED or TERMINATING). job is nil when there is none yet.
func Change(c *Config, job *Job, want model.BackupStatus, now time.Time) error { return errNotYet }

// SetStatus carries out Change. by is the user's name.
func (b *Backup) SetStatus(ctx context.Context, cluster model.ID, want model.BackupStatus, now time.Time) (Config, error) {
	return Config{}, errNotYet
}

// SaveConfig checks and keeps the settings of a configuration; it never changes Status. A filter that was widened asks for a resync.
func (b *Backup) SaveConfig(ctx context.Context, c Config, now time.Time) (Config, error) {
	return c, errNotYet
}

// Config returns the configuration of a cluster, or store.ErrNotFound.
func (b *Backup) Config(ctx context.Context, cluster model.ID) (Config, error) {
	return Config{}, errNotYet
}

// Configs lists the configurations of a group, by cluster id.
func (b *Backup) Configs(ctx context.Context, group model.ID) ([]Config, error) {
	return nil, errNotYet
}

// RunningConfigs lists the configurations of all groups that are not INACTIVE.
func (b *Backup) RunningConfigs(ctx context.Context) ([]Config, error) { return nil, errNotYet }

// Job returns a job, or store.ErrNotFound.
func (b *Backup) Job(ctx context.Context, id model.ID) (Job, error) { return Job{}, errNotYet }

// Jobs lists all jobs, by id.
func (b *Backup) Jobs(ctx context.Context) ([]Job, error) { return nil, errNotYet }

// UpdateJob changes a job: the fields of agents and people. change may run several times.
func (b *Backup) UpdateJob(ctx context.Context, id model.ID, change func(*Job) error) error {
	return errNotYet
}

// UpdateJobAs changes a job as the holder of its lease: ErrFenced when a higher token was seen. The first write under a token takes the job over.
func (b *Backup) UpdateJobAs(ctx context.Context, id model.ID, token int64, change func(*Job) error) error {
	return errNotYet
}

// MarkStarted turns PROVISIONING into STARTED when a daemon has bound the job.
func (b *Backup) MarkStarted(ctx context.Context, cluster model.ID, now time.Time) error {
	return errNotYet
}

// BeginEpoch begins the epoch e.Number of a job; the one before ends. The same number and start again is the same epoch.
func (b *Backup) BeginEpoch(ctx context.Context, e Epoch, now time.Time) (Epoch, error) {
	return e, errNotYet
}

// Epoch returns an epoch, or store.ErrNotFound.
func (b *Backup) Epoch(ctx context.Context, job model.ID, n int64) (Epoch, error) {
	return Epoch{}, errNotYet
}

// Epochs lists the epochs of a job, oldest first.
func (b *Backup) Epochs(ctx context.Context, job model.ID) ([]Epoch, error) { return nil, errNotYet }

// EndEpoch ends an epoch: nothing is added to it any more.
func (b *Backup) EndEpoch(ctx context.Context, job model.ID, n int64, why string, now time.Time) error {
	return errNotYet
}

// MarkScanned notes the end of the full read.
func (b *Backup) MarkScanned(ctx context.Context, job model.ID, n int64, scanEnd oplog.OpTime, collections int64) error {
	return errNotYet
}

// MarkSeeded notes that a head has passed ScanEnd and has a snapshot: sync slices may go.
func (b *Backup) MarkSeeded(ctx context.Context, job model.ID, n int64, now time.Time) error {
	return errNotYet
}

// AddBreak notes a point behind which nothing is replayed. The same point again changes nothing.
func (b *Backup) AddBreak(ctx context.Context, job model.ID, n int64, br Break) error {
	return errNotYet
}

// PutCollections keeps collections of a full read.
func (b *Backup) PutCollections(ctx context.Context, job model.ID, n int64, collections []Collection) error {
	return errNotYet
}

// CollectionsOf yields the collections of a full read, views last.
func (b *Backup) CollectionsOf(ctx context.Context, job model.ID, n int64) iter.Seq2[Collection, error] {
	return nil
}

// CollectionsPage is a page of CollectionsOf; after is "" or what the page before gave, next is "" at the end.
func (b *Backup) CollectionsPage(ctx context.Context, job model.ID, n int64, after string, limit int) (page []Collection, next string, err error) {
	return nil, "", errNotYet
}

// AddSeed keeps a slice of a full read whose object is stored. stored is false when it was there before.
func (b *Backup) AddSeed(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, s SeedSlice) (stored bool, err error) {
	return false, errNotYet
}

// Seeds yields the slices of one attempt at a collection (Collection.Attempt), in order.
func (b *Backup) Seeds(ctx context.Context, job model.ID, n int64, uuid oplog.UUID, attempt int64) iter.Seq2[SeedSlice, error] {
	return nil
}

// DropSeeds deletes up to limit slices of a full read and gives their objects' keys, which are to be deleted afterwards.
func (b *Backup) DropSeeds(ctx context.Context, job model.ID, n int64, limit int) (keys []string, err error) {
	return nil, errNotYet
}

// AddSlice keeps an oplog slice whose object is stored, if it follows what is stored. See chain.Head.Follow for the errors.
func (b *Backup) AddSlice(ctx context.Context, s OplogSlice, wall time.Time) (head chain.Head, repeated bool, err error) {
	return chain.Head{}, false, errNotYet
}

// Slices returns up to limit slices whose last position lies after a position, in order. Only what the head covers is given.
func (b *Backup) Slices(ctx context.Context, job model.ID, n int64, after oplog.OpTime, limit int) ([]OplogSlice, error) {
	return nil, errNotYet
}

// ExpireSlices deletes up to limit slices that lie wholly before a position, oldest first, and gives their objects' keys.
func (b *Backup) ExpireSlices(ctx context.Context, job model.ID, n int64, before oplog.OpTime, limit int) (keys []string, err error) {
	return nil, errNotYet
}

// AddSnapshot keeps a snapshot as the holder of the job's lease (ErrFenced). The same id again is replaced.
func (b *Backup) AddSnapshot(ctx context.Context, token int64, s Snapshot) error { return errNotYet }

// Snapshot returns one snapshot of a job, or store.ErrNotFound.
func (b *Backup) Snapshot(ctx context.Context, job model.ID, id string) (Snapshot, error) {
	return Snapshot{}, errNotYet
}

// Snapshots lists the snapshots of a job, oldest first by creation, condemned ones and incomplete ones too.
func (b *Backup) Snapshots(ctx context.Context, job model.ID) ([]Snapshot, error) {
	return nil, errNotYet
}

// UpdateSnapshot changes a snapshot. change may run several times.
func (b *Backup) UpdateSnapshot(ctx context.Context, job model.ID, id string, change func(*Snapshot) error) error {
	return errNotYet
}

// Condemn begins the deletion of a snapshot: it is offered no more.
func (b *Backup) Condemn(ctx context.Context, job model.ID, id string, now time.Time) error {
	return errNotYet
}

// DeleteSnapshot forgets a condemned snapshot whose objects are gone.
func (b *Backup) DeleteSnapshot(ctx context.Context, job model.ID, id string) error { return errNotYet }

// Ranges says what of a job can be restored, and what lies between. It is what pages, previews and restores use.
func (b *Backup) Ranges(ctx context.Context, job model.ID) ([]snapshot.Range, []snapshot.Hole, error) {
	return nil, nil, errNotYet
}

// AddRestore keeps a new restore job.
func (b *Backup) AddRestore(ctx context.Context, r Restore) error { return errNotYet }

// Restore returns one, or store.ErrNotFound.
func (b *Backup) Restore(ctx context.Context, id string) (Restore, error) {
	return Restore{}, errNotYet
}

// RestoreQuery selects restore jobs: of a group or, with Job, of one backup; all when both are empty.
type RestoreQuery struct {
	Group model.ID
	Job   model.ID
	After string // id of the last one of the page before
	Limit int    // 0: 100
}

// Restores lists restore jobs, newest first. next is "" at the end.
func (b *Backup) Restores(ctx context.Context, q RestoreQuery) (page []Restore, next string, err error) {
	return nil, "", errNotYet
}

// ClaimRestore gives a daemon one restore that nobody works on, or whose daemon was silent for longer than timeout. accept says
// whether the daemon can do it. false: there is none. The restore's Token is what UpdateRestoreAs wants.
func (b *Backup) ClaimRestore(ctx context.Context, daemon string, now time.Time, timeout time.Duration, accept func(*Restore) bool) (Restore, bool, error) {
	return Restore{}, false, errNotYet
}

// UpdateRestore changes a restore: the fields of people. change may run several times.
func (b *Backup) UpdateRestore(ctx context.Context, id string, change func(*Restore) error) error {
	return errNotYet
}

// UpdateRestoreAs changes a restore as the one who claimed it: ErrFenced when somebody else did since, ErrState when it was cancelled.
func (b *Backup) UpdateRestoreAs(ctx context.Context, id string, token int64, change func(*Restore) error) error {
	return errNotYet
}

// OfferDownload gives a finished restore a fresh link: the token is returned once and kept sealed for ShowToken.
func (b *Backup) OfferDownload(ctx context.Context, id string, now time.Time) (token model.Secret, err error) {
	return "", errNotYet
}

// DownloadToken is the token of a restore's link, for those who may restore; ErrLink when there is none or it has ended.
func (b *Backup) DownloadToken(ctx context.Context, id string) (model.Secret, error) {
	return "", errNotYet
}

// Beat keeps what a daemon tells of itself; what administrators set stays. It returns the daemon as it is kept.
func (b *Backup) Beat(ctx context.Context, d Daemon) (Daemon, error) { return d, errNotYet }

// Daemons lists all daemons, by id.
func (b *Backup) Daemons(ctx context.Context) ([]Daemon, error) { return nil, errNotYet }

// UpdateDaemon changes what administrators set of a daemon.
func (b *Backup) UpdateDaemon(ctx context.Context, id string, change func(*Daemon) error) error {
	return errNotYet
}

// SaveStore keeps a block store; its secrets are sealed.
func (b *Backup) SaveStore(ctx context.Context, s model.BlockStore) error { return errNotYet }

// Stores lists the block stores, by id, with their secrets.
func (b *Backup) Stores(ctx context.Context) ([]model.BlockStore, error) { return nil, errNotYet }

// Store returns a block store with its secrets, or store.ErrNotFound.
func (b *Backup) Store(ctx context.Context, id string) (model.BlockStore, error) {
	return model.BlockStore{}, errNotYet
}

// DeleteStore forgets a block store that nothing uses: ErrState otherwise.
func (b *Backup) DeleteStore(ctx context.Context, id string) error { return errNotYet }

// LeaseName is the kernel lease of a job: who holds it is the job's daemon, and its token the job's.
func LeaseName(job model.ID) string { return "backup/" + string(job) }

// Collections declares the area's collections.
func Collections() []docstore.Collection { return nil }

// Checks checks the area's collections.
func Checks() store.Checks { return nil }
