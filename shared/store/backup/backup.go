// Package backup is the store's area of backups: what is asked for, how far each job is, which parts of a full read and of the
// oplog are stored, snapshots, restores and the daemons. Bulk bytes are objects in a blockstore; here is what makes them count.
//
// An object is stored first, then the document that names it: what no document names does not count, and is swept. Positions
// (the head of an epoch, a restore's downloads, a config's status) change by comparing revisions, so that any number of
// processes may write at once. Daemons write as the holder of a job's lease: a token lower than one seen is refused.
//
// It knows no blockstore, no agent and no mongod.
package backup

import (
	"slices"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
	"github.com/heartwood-db/heartwood/shared/store/backup/resources"
	"github.com/heartwood-db/heartwood/shared/store/backup/restores"
)

const (
	collConfigs   = "backupconfigs"
	collJobs      = "backupjobs"
	collSnapshots = "backupsnapshots"
	collContents  = "backupcontents"
	collSweeps    = "backupsweeps"
)

// Types of the parts, under one name for callers.
type (
	// Epoch is history's.
	Epoch = history.Epoch
	// Break is history's.
	Break = history.Break
	// Collection is history's.
	Collection = history.Collection
	// SeedSlice is history's.
	SeedSlice = history.SeedSlice
	// OplogSlice is history's.
	OplogSlice = history.OplogSlice
	// Restore is restores'.
	Restore = restores.Restore
	// Delivery is restores'.
	Delivery = restores.Delivery
	// Object is restores'.
	Object = restores.Object
	// RestoreQuery is restores' Query.
	RestoreQuery = restores.Query
	// Daemon is resources'.
	Daemon = resources.Daemon
)

// See package entry.
var (
	ErrState     = entry.ErrState
	ErrFenced    = entry.ErrFenced
	ErrEnded     = entry.ErrEnded
	ErrSeed      = entry.ErrSeed
	ErrExpired   = entry.ErrExpired
	ErrDamaged   = entry.ErrDamaged
	ErrWidened   = entry.ErrWidened
	ErrLink      = entry.ErrLink
	ErrLinkEnded = entry.ErrLinkEnded
)

// Keys of objects; see package history.
var (
	OplogKey = history.OplogKey
	SeedKey  = history.SeedKey
	FoundKey = history.FoundKey
)

// Backup is the area with all its parts. It is safe for concurrent use and keeps no state of its own.
type Backup struct {
	*history.History
	*restores.Register
	*resources.Resources
	s *store.Store
}

// New returns the area of an opened store.
func New(s *store.Store) *Backup {
	return &Backup{History: history.New(s), Register: restores.New(s), Resources: resources.New(s), s: s}
}

// LeaseName is the kernel lease of a job: who holds it is the job's daemon, and its token the job's.
func LeaseName(job model.ID) string { return "backup/" + string(job) }

// Collections declares the area's collections for store.Options.
func Collections() []docstore.Collection {
	byGroup := []docstore.Index{{Name: "group", Fields: []docstore.Field{{Name: "groupId", Kind: docstore.String}}}}
	return slices.Concat(history.Collections(), restores.Collections(), resources.Collections(), []docstore.Collection{
		{Name: collConfigs, Indexes: byGroup}, {Name: collJobs, Indexes: byGroup}, {Name: collSnapshots}, {Name: collContents}, {Name: collSweeps},
	})
}

func snapshotID(job model.ID, id string) string { return entry.Under(job) + id }

// Prefixes are how the keys of all objects of a job begin, restores aside.
func Prefixes(job model.ID) []string {
	var out []string
	for _, kind := range []string{"oplog", "seed", "snapshots", "pages", "blocks"} {
		out = append(out, kind+"/"+string(job)+"/")
	}
	return out
}
