// Package backup is the Public API's resources of backups: configurations, schedules, snapshots, checkpoints, restore jobs, and
// the administration of daemons and block stores (public-api.md 2.18 to 2.22 and 2.26). Ours beyond the documented API: a plan
// of a restore before it is made (POST restoreJobs/plan), cancelling one, resync, and a backup's state beside its configuration.
package backup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Service carries out what people want of backups.
type Service interface {
	List(ctx context.Context, group model.ID) ([]backups.Backup, error)
	One(ctx context.Context, group, cluster model.ID) (backups.Backup, error)
	Save(ctx context.Context, b backups.Backup, next backup.Config, want model.BackupStatus) (backup.Config, []backups.Act, error)
	Resync(ctx context.Context, b backups.Backup, by string) ([]backups.Act, error)
	Snapshots(ctx context.Context, cluster model.ID, complete, incomplete bool) ([]backup.Snapshot, error)
	Take(ctx context.Context, b backups.Backup, days int, by string) (backup.Wish, []backups.Act, error)
	Keep(ctx context.Context, b backups.Backup, id string, forever bool, until time.Time) (backup.Snapshot, []backups.Act, error)
	Delete(ctx context.Context, b backups.Backup, id string) ([]backups.Act, error)
	Ranges(ctx context.Context, cluster model.ID) ([]snapshot.Range, []snapshot.Hole, error)
	Plan(ctx context.Context, b backups.Backup, o backups.Order) (restoreplan.Plan, error)
	Start(ctx context.Context, b backups.Backup, o backups.Order, by string) (backup.Restore, []backups.Act, error)
	Restore(ctx context.Context, group model.ID, id string) (backup.Restore, error)
	Restores(ctx context.Context, q backup.RestoreQuery) ([]backup.Restore, string, error)
	Cancel(ctx context.Context, r backup.Restore, by string) ([]backups.Act, error)
	Link(r backup.Restore) (string, error)
}

// Admin is what administrators see and change.
type Admin interface {
	Daemons(ctx context.Context) ([]backup.Daemon, error)
	UpdateDaemon(ctx context.Context, id string, change func(*backup.Daemon) error) error
	Stores(ctx context.Context) ([]model.BlockStore, error)
	SaveStore(ctx context.Context, s model.BlockStore) error
	DeleteStore(ctx context.Context, id string) error
}

// Inventory is where a backup's members and a push's target are found.
type Inventory interface {
	Groups(ctx context.Context) ([]model.Group, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	Hosts(ctx context.Context, group model.ID) ([]model.Host, error)
}

// Options are what these resources need from outside.
type Options struct {
	Service   Service
	Admin     Admin
	Inventory Inventory
	PullURL   string // where archives are fetched: the address of ingestion; empty: this server's
}

// call is one request with what its handler may use.
type call struct {
	*rest.Call
	Options
}

// Routes are the routes of these resources.
func Routes(o Options) []rest.Route {
	var out []rest.Route
	add := func(method, path string, perm auth.Permission, do func(*call) (any, error)) {
		out = append(out, rest.Route{Method: method, Path: "/groups/{}" + path, Scope: rest.InGroup, Perm: perm, Do: func(c *rest.Call) (any, error) {
			v, err := do(&call{Call: c, Options: o})
			return v, refusal(err)
		}})
	}
	site := func(method, path string, do func(*call) (any, error)) {
		out = append(out, rest.Route{Method: method, Path: "/admin/backup" + path, Scope: rest.OnSite, Perm: auth.AdminBackup, Do: func(c *rest.Call) (any, error) {
			v, err := do(&call{Call: c, Options: o})
			return v, refusal(err)
		}})
	}
	const get, post, patch, put, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete
	add(get, "/backupConfigs", auth.View, (*call).configs)
	add(get, "/backupConfigs/{}", auth.View, (*call).config)
	add(patch, "/backupConfigs/{}", auth.OperateBackup, (*call).patchConfig)
	add(get, "/backupConfigs/{}/availableMembers", auth.View, (*call).members)
	add(get, "/backupConfigs/{}/snapshotSchedule", auth.View, (*call).schedule)
	add(patch, "/backupConfigs/{}/snapshotSchedule", auth.OperateBackup, (*call).patchSchedule)
	add(get, "/backupConfigs/{}/state", auth.View, (*call).state)
	add(post, "/backupConfigs/{}/resync", auth.OperateBackup, (*call).resync)
	add(get, "/clusters/{}/snapshots", auth.View, (*call).snapshots)
	add(post, "/clusters/{}/snapshots/onDemandSnapshot", auth.OperateBackup, (*call).takeSnapshot)
	add(get, "/clusters/{}/snapshots/{}", auth.View, (*call).snapshot)
	add(patch, "/clusters/{}/snapshots/{}", auth.OperateBackup, (*call).patchSnapshot)
	add(del, "/clusters/{}/snapshots/{}", auth.DeleteSnapshots, (*call).deleteSnapshot)
	add(get, "/clusters/{}/checkpoints", auth.View, (*call).checkpoints)
	add(get, "/clusters/{}/checkpoints/{}", auth.View, (*call).checkpoint)
	add(get, "/clusters/{}/restoreJobs", auth.View, (*call).restores)
	add(post, "/clusters/{}/restoreJobs", auth.OperateBackup, (*call).createRestore)
	add(post, "/clusters/{}/restoreJobs/restorableTimeRanges", auth.View, (*call).ranges)
	add(post, "/clusters/{}/restoreJobs/plan", auth.View, (*call).plan)
	add(get, "/clusters/{}/restoreJobs/{}", auth.View, (*call).restore)
	add(del, "/clusters/{}/restoreJobs/{}", auth.OperateBackup, (*call).cancelRestore)
	site(get, "/daemon/configs", (*call).daemons)
	site(get, "/daemon/configs/{}", (*call).daemon)
	site(put, "/daemon/configs/{}", (*call).putDaemon)
	site(get, "/daemon/configs/{}/{slashes}", (*call).daemon)
	site(put, "/daemon/configs/{}/{slashes}", (*call).putDaemon)
	for _, f := range families() {
		site(get, f.path, func(c *call) (any, error) { return c.stores(f) })
		site(post, f.path, func(c *call) (any, error) { return c.createStore(f) })
		site(get, f.path+"/{}", func(c *call) (any, error) { return c.store(f) })
		site(put, f.path+"/{}", func(c *call) (any, error) { return c.putStore(f) })
		site(del, f.path+"/{}", func(c *call) (any, error) { return c.deleteStore(f) })
	}
	return out
}

// cannotRestore is the code of a target that cannot be restored into, or not by this key.
const cannotRestore = "CANNOT_RESTORE_TO_TARGET"

// refusal gives the service's refusals the codes that clients know.
func refusal(err error) error {
	text := func() string { return sentence(err.Error()) }
	switch {
	case err == nil:
		return nil
	case errors.Is(err, backups.ErrNotBackedUp):
		return rest.Fail(http.StatusConflict, "CANNOT_MODIFY_SHARD_BACKUP_CONFIG", "Only replica sets that are no part of a sharded cluster are backed up by this build.")
	case errors.Is(err, backups.ErrWishes):
		return rest.Fail(http.StatusBadRequest, "UNFINISHED_ON_DEMAND_SNAPSHOT", "A snapshot that was asked for has not been taken yet.")
	case errors.Is(err, backup.ErrWidened):
		return rest.Fail(http.StatusConflict, "MISSING_SYNC_SOURCE", "The list lets in what was never read, so everything must be read anew: say from where with the syncSource attribute.")
	case errors.Is(err, restoreplan.ErrTarget):
		return rest.Fail(http.StatusForbidden, cannotRestore, "%s", text())
	case errors.Is(err, restoreplan.ErrImpossible):
		return rest.Fail(http.StatusConflict, "RESTORE_INITIATION_FAILED", "%s", "Invalid restore point: "+text())
	case errors.Is(err, backups.ErrNoBackup), errors.Is(err, backup.ErrState):
		return rest.Fail(http.StatusConflict, "CANNOT_GET_BACKUP_CONFIG_INVALID_STATE", "%s", text())
	}
	return err
}

// sentence begins with a capital letter and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return fmt.Sprintf("%c", s[0]-upperShift(s[0])) + s[1:] + "."
}

func upperShift(b byte) byte {
	if b >= 'a' && b <= 'z' {
		return 'a' - 'A'
	}
	return 0
}

// one is the backup of the cluster that is the path's second variable.
func (c *call) one() (backups.Backup, error) {
	id := model.ID(c.Args[1])
	if !id.Valid() {
		return backups.Backup{}, rest.Fail(http.StatusNotFound, "INVALID_CLUSTER_ID", "An invalid cluster ID %s was specified.", id)
	}
	b, err := c.Service.One(c.R.Context(), c.Group.ID, id)
	if rest.IsNotFound(err) {
		return b, rest.Fail(http.StatusNotFound, "CLUSTER_NOT_FOUND", "No cluster with ID %s exists in group %s.", id, c.Group.ID)
	}
	return b, err
}

// done records what was done.
func (c *call) done(acts []backups.Act) {
	for _, a := range acts {
		c.Event(a)
	}
}

func isState(err error) bool { return errors.Is(err, backup.ErrState) }
