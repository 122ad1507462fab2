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
	"errors"
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/store"
)

const (
	collConfigs     = "backupconfigs"
	collJobs        = "backupjobs"
	collEpochs      = "backupepochs"
	collCollections = "backupcollections"
	collSeeds       = "backupseeds"
	collSlices      = "backupslices"
	collSnapshots   = "backupsnapshots"
	collContents    = "backupcontents"
	collRestores    = "backuprestores"
	collDaemons     = "backupdaemons"
	collStores      = "blockstores"
	collSweeps      = "backupsweeps"
)

// What the area answers besides the store's own errors and the chain's (chain.ErrGap, ErrOverlap, ErrSplice, ErrEpoch);
// compare with errors.Is.
var (
	// ErrState: the backup, epoch or restore is not in a state in which this can be done. A StateError says more.
	ErrState = errors.New("backup: not possible in the present state")
	// ErrFenced: a daemon with a higher token has taken over. The caller stops working on it.
	ErrFenced = errors.New("backup: somebody else has taken over")
	// ErrEnded: nothing is added to an epoch that has ended.
	ErrEnded = errors.New("backup: the epoch has ended")
	// ErrSeed: the slices of a full read are not what they should be. The collection is read again, as another attempt.
	ErrSeed = errors.New("backup: the stored slices are not those of this read")
	// ErrExpired: the oplog that was asked for is no longer kept.
	ErrExpired = errors.New("backup: this oplog is no longer kept")
	// ErrDamaged: documents of the area contradict each other.
	ErrDamaged = errors.New("backup: stored documents contradict each other")
	// ErrWidened: the filter lets in what was never read. It is saved with Config.Resync, and everything is read anew.
	ErrWidened = errors.New("backup: the namespace filter is wider than before, a full resync is needed")
	// ErrLink: there is no such download, or the token is another one.
	ErrLink = errors.New("backup: no such download")
	// ErrLinkEnded: the link expired or was used up; Delivery.Status says which.
	ErrLinkEnded = errors.New("backup: the download link has ended")
)

// Backup is the area. It is safe for concurrent use and keeps no state of its own.
type Backup struct{ s *store.Store }

// New returns the area of an opened store.
func New(st *store.Store) *Backup { return &Backup{s: st} }

// LeaseName is the kernel lease of a job: who holds it is the job's daemon, and its token the job's.
func LeaseName(job model.ID) string { return "backup/" + string(job) }

// Collections declares the area's collections for store.Options.
func Collections() []docstore.Collection {
	text := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.String} }
	at := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.Time} }
	flag := func(name string) docstore.Field { return docstore.Field{Name: name, Kind: docstore.Bool} }
	index := func(name string, fields ...docstore.Field) docstore.Index {
		return docstore.Index{Name: name, Fields: fields}
	}
	return []docstore.Collection{
		{Name: collConfigs, Indexes: []docstore.Index{index("group", text("groupId"))}},
		{Name: collJobs, Indexes: []docstore.Index{index("group", text("groupId"))}},
		{Name: collEpochs},
		{Name: collCollections},
		{Name: collSeeds},
		{Name: collSlices},
		{Name: collSnapshots},
		{Name: collContents},
		{Name: collRestores, Indexes: []docstore.Index{
			index("time", at("created")), index("group", text("groupId"), at("created")), index("job", text("job"), at("created")),
			index("open", flag("open"), at("created")), index("kept", flag("kept"), at("created")),
		}},
		{Name: collDaemons},
		{Name: collStores},
		{Name: collSweeps},
	}
}

// The ids of documents. Everything of a job begins with "<job>/".

func under(job model.ID) string { return string(job) + "/" }

func epochID(job model.ID, n int64) string { return fmt.Sprintf("%s/%08d", job, n) }

func collectionID(job model.ID, n int64, c *Collection) string {
	if c.View != nil {
		return epochID(job, n) + "/v/" + c.NS
	}
	return epochID(job, n) + "/c/" + c.UUID.String()
}

func attemptID(job model.ID, n int64, uuid oplog.UUID, attempt int64) string {
	return fmt.Sprintf("%s/%s/%06d", epochID(job, n), uuid, attempt)
}

func seedID(job model.ID, n int64, uuid oplog.UUID, attempt, seq int64) string {
	return fmt.Sprintf("%s/%010d", attemptID(job, n, uuid, attempt), seq)
}

// sliceID is chain.Slice.ID of a slice that begins at a position.
func sliceID(job model.ID, n int64, first oplog.OpTime) string {
	return fmt.Sprintf("%s%08x%08x", slicesOf(job, n), first.TS.T, first.TS.I)
}

func slicesOf(job model.ID, n int64) string { return fmt.Sprintf("%s/%08x/", job, n) }

func snapshotID(job model.ID, id string) string { return string(job) + "/" + id }

// checkID refuses what could not be part of a longer id.
func checkID(what string, id model.ID) error {
	if !id.Valid() {
		return fmt.Errorf("%s %q: %w: not an id of 24 hexadecimal digits", what, id, docstore.ErrInvalid)
	}
	return nil
}

// OplogKey names the object of an oplog slice. The digest in it keeps two slices that begin at one position apart.
func OplogKey(job model.ID, epoch int64, first oplog.OpTime, sum string) string {
	return fmt.Sprintf("oplog/%s/%08d/%08x%08x-%s", job, epoch, first.TS.T, first.TS.I, short(sum))
}

// SeedKey names the object of a slice of a full read.
func SeedKey(job model.ID, epoch int64, uuid oplog.UUID, attempt, seq int64, digest string) string {
	return fmt.Sprintf("seed/%s/%08d/%s/%06d-%010d-%s", job, epoch, uuid, attempt, seq, short(digest))
}

// FoundKey names the object of an answer to Job.Missing.
func FoundKey(job model.ID, epoch int64, digest string) string {
	return fmt.Sprintf("seed/%s/%08d/missing/%s", job, epoch, digest)
}

// Prefixes are how the keys of all objects of a job begin, restores aside.
func Prefixes(job model.ID) []string {
	var out []string
	for _, kind := range []string{"oplog", "seed", "snapshots", "pages", "blocks"} {
		out = append(out, kind+"/"+string(job)+"/")
	}
	return out
}

func short(digest string) string { return digest[:min(len(digest), 16)] }

// JobOfKey is the job an object belongs to by its key, "" for none.
func JobOfKey(key string) model.ID {
	parts := strings.SplitN(key, "/", 3)
	if len(parts) < 3 || !model.ID(parts[1]).Valid() {
		return ""
	}
	return model.ID(parts[1])
}
