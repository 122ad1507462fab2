// Package history is the part of the backup area that holds what was read of a source: epochs, the collections and slices of a
// full read, the slices of the oplog. Its ids begin with "<job>/<epoch>".
package history

import (
	"context"
	"fmt"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// The collections.
const (
	CollEpochs      = "backupepochs"
	CollCollections = "backupcollections"
	CollSeeds       = "backupseeds"
	CollSlices      = "backupslices"
)

// History reads and writes the part. It is safe for concurrent use and keeps nothing in memory.
type History struct{ s *store.Store }

// New returns the part of an opened store.
func New(s *store.Store) *History { return &History{s: s} }

// Collections declares the part's collections.
func Collections() []docstore.Collection {
	return []docstore.Collection{{Name: CollEpochs}, {Name: CollCollections}, {Name: CollSeeds}, {Name: CollSlices}}
}

// Left names a collection that still holds something of a job, "" if none does.
func (h *History) Left(ctx context.Context, job model.ID) (string, error) {
	from, to := store.Under(entry.Under(job))
	for _, c := range Collections() {
		n, err := h.s.Engine().Count(ctx, docstore.Query{Collection: c.Name, From: from, To: to}, 1)
		if err != nil {
			return "", fmt.Errorf("count %s of backup %s: %w", c.Name, job, err)
		}
		if n > 0 {
			return c.Name, nil
		}
	}
	return "", nil
}

func collectionID(job model.ID, n int64, c *Collection) string {
	if c.View != nil {
		return entry.EpochID(job, n) + "/v/" + c.NS
	}
	return entry.EpochID(job, n) + "/c/" + c.UUID.String()
}

func attemptID(job model.ID, n int64, uuid oplog.UUID, attempt int64) string {
	return fmt.Sprintf("%s/%s/%06d", entry.EpochID(job, n), uuid, attempt)
}

func seedID(job model.ID, n int64, uuid oplog.UUID, attempt, seq int64) string {
	return fmt.Sprintf("%s/%010d", attemptID(job, n, uuid, attempt), seq)
}

// SliceID is chain.Slice.ID of a slice that begins at a position.
func SliceID(job model.ID, n int64, first oplog.OpTime) string {
	return fmt.Sprintf("%s%08x%08x", SlicesOf(job, n), first.TS.T, first.TS.I)
}

// SlicesOf is how the ids of an epoch's slices begin.
func SlicesOf(job model.ID, n int64) string { return fmt.Sprintf("%s/%08x/", job, n) }

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

func short(digest string) string { return digest[:min(len(digest), 16)] }
